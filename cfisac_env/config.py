"""Configuration of the system model, validated and immutable, and named presets."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

SPEED_OF_LIGHT = 299_792_458.0

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "high-rate": {"sinr_threshold_db": 0.0},
    "precise-sensing": {"crlb_threshold_m2": 0.065, "T": 10},
    "urban": {
        "path_loss_intercept_db": -140.6,
        "path_loss_per_decade_db": 36.7,
        "shadowing_std_db": 4.0,
        "max_ap_power_w": 0.2,
        "sinr_threshold_db": -4.0,
    },
}
"""Changes of each preset relative to Table I of the paper (`urban`: −30.5 − 36.7 log10(d/m), from the cell-free literature)."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "rcs_model": ("constant", "exponential"),
    "pilot_assignment": ("in-turn", "random", "greedy", "master-ap"),
    "reward": ("penalty", "log", "power", "linear"),
}

RANGES: Mapping[str, tuple[float, float]] = {
    "M": (1, 100_000),
    "K": (1, 10_000),
    "T": (1, 1_000),
    "S": (1, 1_000),
    "bandwidth_hz": (1.0, 1e12),
    "effective_bandwidth_hz": (1.0, 1e12),
    "carrier_hz": (1e3, 1e13),
    "noise_density_dbm_hz": (-250.0, 0.0),
    "noise_figure_db": (0.0, 60.0),
    "area_diameter_m": (1.0, 1e6),
    "min_distance_m": (1e-3, 1e4),
    "path_loss_intercept_db": (-300.0, 0.0),
    "path_loss_per_decade_db": (0.0, 100.0),
    "shadowing_std_db": (0.0, 20.0),
    "pilot_power_w": (1e-12, 1e3),
    "pilot_length": (1, 100_000),
    "sinr_threshold_db": (-60.0, 60.0),
    "crlb_threshold_m2": (1e-12, 1e6),
    "max_ap_power_w": (1e-12, 1e4),
    "circuit_power_w": (0.0, 1e4),
    "rcs_m2": (1e-12, 1e6),
    "integration_symbols": (1, 10**9),
    "sinr_penalty": (0.0, 1e9),
    "crlb_penalty": (0.0, 1e9),
}
"""Valid range of every numeric field, within which no gain, estimate or Fisher information over- or underflows."""

FAR = 1e3
"""Largest coordinate of a node, in radii of the disc."""

REQUIREMENT_FIELDS = (
    "sinr_threshold_db", "crlb_threshold_m2", "max_ap_power_w", "circuit_power_w", "reward", "sinr_penalty", "crlb_penalty",
)  # fmt: skip
"""Fields independent of gains and estimates, which may be changed for stored drops and between episodes."""

WEIGHTS = ("sinr_penalty", "crlb_penalty")
"""Weights of the reward `linear`."""


class _PresetName(str):
    """Preset name that is callable as `SystemConfig.preset(name)` to build the configuration."""

    __slots__ = ()

    def __call__(self, name: str, **fields: Any) -> SystemConfig:
        return SystemConfig(preset=name, **fields)


def nearest(name: str, valid: list[str]) -> str:
    """Return a hint ` (did you mean …?)` for an invalid name, empty without a close match."""
    close = difflib.get_close_matches(name.lower(), {v.lower(): v for v in valid}, n=1, cutoff=0.6)
    matches = [v for v in valid if close and v.lower() == close[0]]
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def check_keywords(callee: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Refuse unknown keywords of a callable, in Python's wording, which frameworks detect, with the nearest valid name."""
    names = list(valid)
    for name in given:
        if name not in names:
            raise TypeError(
                f"{callee} got an unexpected keyword argument {name!r}{nearest(name, names)}; valid ones: {', '.join(names)}"
            )


@dataclass(frozen=True)
class SystemConfig:
    """Parameters of a cell-free ISAC network and its requirements.

    `SystemConfig(M=50, K=10, preset="urban", noise_figure_db=7)`: preset values, overridden by the given ones. Without another source,
    defaults are those of Table I of the paper (Tung et al., "Joint Access Point Activation and Power Allocation for Cell-Free Massive MIMO
    Aided ISAC Systems").

    Attributes:
        M: number of access points (APs), 1 or more.
        K: number of users, 1 or more.
        T: number of sensing receivers, 1 or more. Open in the paper; 2 as in its authors' related work.
        S: number of targets, 1 or more. The first is at the centre, the others are uniform in the disc.
        preset: preset that gives the other fields their defaults: `paper`, `high-rate`, `precise-sensing`, `urban`.
        bandwidth_hz: bandwidth B in Hz.
        effective_bandwidth_hz: effective bandwidth of the delay estimate in Hz; by default B, as in the paper. A flat spectrum has B/√12.
        carrier_hz: carrier frequency in Hz.
        noise_density_dbm_hz: thermal noise density in dBm/Hz.
        noise_figure_db: noise figure of users, APs and receivers in dB. Open in the paper; 9 dB as in Ngo et al. 2017.
        area_diameter_m: diameter of the disc in m.
        min_distance_m: least distance of any link in m; shorter ones count as this. Open in the paper; 10 m as d0 in Ngo et al. 2017.
        path_loss_intercept_db: mean gain at 1 km in dB.
        path_loss_per_decade_db: path loss for a tenfold distance in dB.
        shadowing_std_db: standard deviation of the log-normal shadowing in dB; uncorrelated between links.
        pilot_power_w: pilot power ρ_p in W.
        pilot_length: pilot length τ_p in symbols; more users than that share pilots.
        pilot_assignment: assignment of shared pilots: `in-turn` (user k has pilot k mod τ_p), `random`, `greedy` or `master-ap`, see
            `cfisac_env.pilots`.
        sinr_threshold_db: SINR requirement γ_thr of every user in dB.
        crlb_threshold_m2: CRLB requirement ν of every target in m².
        max_ap_power_w: largest power that an AP radiates in W. Open in the paper; its (8b) with ρ_DL = 100 mW says 0.1 W.
        circuit_power_w: circuit power of an active AP in W.
        rcs_m2: radar cross-section in m². Open in the paper; 1 m² is a pedestrian or a drone, 10 m² a car.
        rcs_model: model of the radar cross-section: `constant` (Swerling 0) or `exponential` (Swerling I: drawn for every AP, target and
            receiver).
        integration_symbols: integration length L of a receiver in symbols. Open in the paper, where L = 1 makes most drops infeasible.
        reward: `penalty` (any feasible decision outscores any infeasible one), `log` (the same relative to the drop's floor), `power` (no
            penalty) or `linear` (the weights below); see `cfisac_env.reward.terms`. A weight that is given brings `linear` with it.
        sinr_penalty: weight of a user's relative SINR violation in the reward `linear` in W.
        crlb_penalty: weight of a target's relative CRLB violation in the reward `linear` in W.

    Raises:
        ValueError: a value outside its range, or an unknown preset; the message names the field, the value and the range. Or a weight of
            `linear` beside another reward, or `log` without circuit power.
        TypeError: an unknown field (the nearest valid name is suggested), or a value of the wrong type.

    Valid ranges are in `RANGES`.
    """

    M: int = 30
    K: int = 6
    _: KW_ONLY
    T: int = 2
    S: int = 1
    preset: str = _PresetName("paper")
    bandwidth_hz: float = 20e6
    effective_bandwidth_hz: float | None = None
    carrier_hz: float = 1.9e9
    noise_density_dbm_hz: float = -174.0
    noise_figure_db: float = 9.0
    area_diameter_m: float = 500.0
    min_distance_m: float = 10.0
    path_loss_intercept_db: float = -120.9
    path_loss_per_decade_db: float = 37.6
    shadowing_std_db: float = 7.0
    pilot_power_w: float = 0.1
    pilot_length: int = 20
    pilot_assignment: str = "in-turn"
    sinr_threshold_db: float = -5.6
    crlb_threshold_m2: float = 1.0
    max_ap_power_w: float = 0.1
    circuit_power_w: float = 0.2
    rcs_m2: float = 1.0
    rcs_model: str = "constant"
    integration_symbols: int = 100
    reward: str = "penalty"
    sinr_penalty: float = 5000.0
    crlb_penalty: float = 5000.0

    if not TYPE_CHECKING:  # type checkers see the fields as keywords

        def __init__(self, M: int | None = None, K: int | None = None, *, preset: str = "paper", **fields: Any) -> None:
            if not isinstance(preset, str):
                raise TypeError(f"preset must be a name, got {preset!r}; valid presets: {', '.join(PRESETS)}")
            if preset not in PRESETS:
                raise ValueError(
                    f"unknown preset {str(preset)!r}{nearest(preset, list(PRESETS))}; valid presets: {', '.join(PRESETS)}"
                )
            check_keywords("SystemConfig.__init__()", fields, FIELDS)
            given = {name: value for name, value in (("M", M), ("K", K)) if value is not None} | fields
            specs = {field.name: field for field in dataclasses.fields(self)}
            values = {name: spec.default for name, spec in specs.items()} | dict(PRESETS[preset]) | given
            for name, value in values.items():
                checked = str(preset) if name == "preset" else _checked(name, value, specs[name].type)
                object.__setattr__(self, name, checked)
            weights = [name for name in WEIGHTS if getattr(self, name) != specs[name].default]
            if weights and "reward" not in fields:
                object.__setattr__(self, "reward", "linear")
            if weights and self.reward != "linear":
                raise ValueError(
                    f"{weights[0]}={getattr(self, weights[0])!r} is a weight of reward='linear' and means nothing to "
                    f"reward={self.reward!r}; leave one of them out"
                )
            if self.reward == "log" and self.circuit_power_w == 0.0:
                raise ValueError(
                    "reward='log' is relative to n_min P_cir, so circuit_power_w must be above 0, got 0; take reward='penalty'"
                )

    @cached_property
    def noise_w(self) -> float:
        """σ² = kTB · noise figure, in W."""
        return float(10 ** ((self.noise_density_dbm_hz - 30 + self.noise_figure_db) / 10) * self.bandwidth_hz)

    @cached_property
    def pilot_energy_w(self) -> float:
        """E = τ_p ρ_p, in W (energy per symbol time)."""
        return self.pilot_length * self.pilot_power_w

    @cached_property
    def sinr_threshold(self) -> float:
        """γ_thr, linear."""
        return float(10 ** (self.sinr_threshold_db / 10))

    @cached_property
    def wavelength_m(self) -> float:
        """λ = c/f_c, in m."""
        return SPEED_OF_LIGHT / self.carrier_hz

    @cached_property
    def fisher_scale(self) -> float:
        """ζ = 8π² B² L / (σ² c²), in 1/(W m²); paper (5) with the integration length that it leaves out."""
        bandwidth = self.bandwidth_hz if self.effective_bandwidth_hz is None else self.effective_bandwidth_hz
        return 8 * math.pi**2 * bandwidth**2 * self.integration_symbols / (self.noise_w * SPEED_OF_LIGHT**2)

    @cached_property
    def pilots_reused(self) -> bool:
        """Sharing of pilots by users, K > τ_p."""
        return self.pilot_length < self.K

    def as_dict(self) -> dict[str, Any]:
        """Convert to a JSON-serialisable dict of fields, the inverse of `SystemConfig(**fields)`.

        The default `reward` is omitted, for equality with configurations in older files.
        """
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if (name, value) != ("reward", "penalty")}

    def changed(self, **fields: Any) -> SystemConfig:
        """Replace some fields; a weight selects the reward `linear`, and another reward resets the weights."""
        given = dict(fields)
        if any(name in fields for name in WEIGHTS):
            given.setdefault("reward", "linear")
        elif fields.get("reward", "linear") != "linear":
            given |= dict.fromkeys(WEIGHTS, SystemConfig.sinr_penalty)
        return dataclasses.replace(self, **given)


FIELDS = tuple(field.name for field in dataclasses.fields(SystemConfig))
"""Names of the configuration fields."""


def _checked(name: str, value: Any, annotation: Any) -> Any:
    """Validate a value and convert it to the field's type."""
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}, got {value!r}")
        return value
    if value is None and name == "effective_bandwidth_hz":
        return None
    low, high = RANGES[name]
    whole = annotation == "int"
    expected = f"{'a whole number' if whole else 'a number'} in [{low:g}, {high:g}]"
    try:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or (whole and int(value) != value):
            raise TypeError
        number = int(value) if whole else float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be {expected}, got {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number
