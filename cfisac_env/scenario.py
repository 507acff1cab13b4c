"""Drops (network realisations): positions, gains and pilots."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cfisac_env import drop_files, physics, pilots
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.types import Array, Decision, Outcome, Problem


@dataclass(frozen=True, eq=False)
class Scenario:
    """One drop, or a batch of drops along leading axes `…`. NumPy arrays in it are read-only."""

    config: SystemConfig
    ap_xy: Array  # (…, M, 2) m
    ue_xy: Array  # (…, K, 2) m
    sr_xy: Array  # (…, T, 2) m
    target_xy: Array  # (…, S, 2) m
    gain: Array  # (…, M, K) ς, linear
    estimate_gain: Array  # (…, M, K) v
    rcs_gain: Array  # (…, M, S, T) |χ|²
    fisher: Array  # (…, M, S, 3) 1/(W m²)
    pilot: Array | None = None  # (…, K) index of each user's pilot; None when every user has its own
    prior: Array | None = (
        None  # (…, S, 3) prior information J_a, J_b, J_c about each target's position, 1/m²; None is none
    )

    def __post_init__(self) -> None:
        for name in ARRAYS:
            array = getattr(self, name)
            if type(array) is np.ndarray:
                array.setflags(write=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore read-only arrays."""
        self.__dict__.update(state)
        self.__post_init__()

    @classmethod
    def from_gains(
        cls,
        config: SystemConfig,
        *,
        ap_xy: Array,
        ue_xy: Array,
        sr_xy: Array,
        target_xy: Array,
        gain: Array,
        rcs_gain: Array | None = None,
        pilot: Array | None = None,
    ) -> Self:
        """Build a scenario from measured, ray-traced or simulated gains, and derive the other arrays.

        Args:
            config: M, K, T and S must be those of the arrays.
            ap_xy: (…, M, 2) m.
            ue_xy: (…, K, 2) m.
            sr_xy: (…, T, 2) m.
            target_xy: (…, S, 2) m.
            gain: (…, M, K) large-scale fading, linear, positive.
            rcs_gain: (…, M, S, T) two-way gains; by default the radar equation on the positions.
            pilot: (…, K) index of each user's pilot; by default orthogonal or, with K > τ_p, according to `config.pilot_assignment`
                (`random` uses seed 0).

        Raises:
            ValueError: a wrong shape, no drops, non-finite or non-positive values, or a likely mistake: complex numbers, decibels, map
                coordinates, flags, text.
        """
        given = {"ap_xy": ap_xy, "ue_xy": ue_xy, "sr_xy": sr_xy, "target_xy": target_xy, "gain": gain}
        arrays = drop_files.checked(config, given | {"rcs_gain": rcs_gain, "pilot": pilot})
        if arrays["rcs_gain"] is None:
            arrays["rcs_gain"] = physics.radar_gain(
                arrays["ap_xy"], arrays["sr_xy"], arrays["target_xy"],
                config.wavelength_m, config.rcs_m2, config.min_distance_m,
            )  # fmt: skip
        if arrays["pilot"] is None:
            arrays["pilot"] = pilots.assign(config, arrays["gain"], np.random.default_rng(0))
        return cls.derive(config, **arrays)

    @classmethod
    def derive(
        cls,
        config: SystemConfig,
        *,
        ap_xy: Array,
        ue_xy: Array,
        sr_xy: Array,
        target_xy: Array,
        gain: Array,
        rcs_gain: Array,
        pilot: Array | None,
        fisher: Array | None = None,
    ) -> Self:
        """Build a scenario with derived channel estimates and Fisher information, without validation."""
        if fisher is None:
            fisher = physics.fisher_information(ap_xy, sr_xy, target_xy, rcs_gain, config.fisher_scale)
        return cls(
            config=config,
            ap_xy=ap_xy,
            ue_xy=ue_xy,
            sr_xy=sr_xy,
            target_xy=target_xy,
            gain=gain,
            estimate_gain=physics.estimate_gain(gain, config.pilot_energy_w, config.noise_w, overlap(pilot)),
            rcs_gain=rcs_gain,
            fisher=fisher,
            pilot=pilot,
        )

    def to(self, backend: Backend) -> Scenario:
        """Move the drops to a back end."""
        return self._converted(backend.array)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes; empty for a single drop."""
        return tuple(self.gain.shape[:-2])

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a single drop has no length; Scenario.batch() makes it a batch of one")
        return self.batch_shape[0]

    def __getitem__(self, index: Any) -> Scenario:
        """Select the drops at `index` of the leading axes."""
        if not self.batch_shape:
            raise IndexError("a single drop cannot be indexed; Scenario.batch() makes it a batch of one")
        return self._converted(lambda array: array[index])

    def batch(self) -> Scenario:
        """Return a single drop as a batch of one; a batch is unchanged."""
        return self if self.batch_shape else self._converted(lambda array: array[None])

    def _converted(self, convert: Callable[[Array], Array]) -> Scenario:
        """Convert every array."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        return Scenario(self.config, **{name: None if a is None else convert(a) for name, a in arrays.items()})

    @cached_property
    def problem(self) -> Problem:
        """Optimisation problem of the drops."""
        config = self.config
        return Problem(
            gain=self.gain,
            estimate_gain=self.estimate_gain,
            noise_w=config.noise_w,
            fisher=self.fisher,
            sinr_threshold=config.sinr_threshold,
            crlb_threshold_m2=config.crlb_threshold_m2,
            max_ap_power_w=config.max_ap_power_w,
            circuit_power_w=config.circuit_power_w,
            pilot_overlap=overlap(self.pilot),
            ap_xy=self.ap_xy,
            ue_xy=self.ue_xy,
            target_xy=self.target_xy,
            prior=self.prior,
        )

    def evaluate(self, decision: Decision) -> Outcome:
        """Score a decision on this drop (see `physics.evaluate`)."""
        return physics.evaluate(self.problem, decision)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drops and their configuration to an npz file atomically.

        Raises:
            ValueError: `load` would refuse the drops.
        """
        if self.prior is not None:
            raise ValueError(
                "drops with a prior belong to a belief and aren't saved; save replace(scenario, prior=None)"
            )
        arrays = {name: np.asarray(a) for name in ARRAYS if (a := getattr(self, name)) is not None}
        self._verify(self.config, arrays, " to be saved")
        return drop_files.write(Path(path), self.config, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file written by `save`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a truncated or invalid file, arrays that don't fit the configuration, or channel estimates and Fisher information
                that don't follow from gains and positions.
        """
        config, arrays = drop_files.read(Path(path))
        cls._verify(config, arrays, f" in {path}")
        return cls(config, **arrays)

    @classmethod
    def _verify(cls, config: SystemConfig, arrays: Mapping[str, Array], where: str) -> None:
        """Validate given arrays, and the derived ones against them."""
        given = drop_files.checked(config, {name: arrays.get(name) for name in _GIVEN}, where)
        if given["pilot"] is None and config.pilots_reused:
            raise ValueError(f"pilot is missing{where}: K = {config.K} users share {config.pilot_length} pilots")
        derived = cls.derive(config, **given)
        drop_files.check_derived("estimate_gain", arrays["estimate_gain"], derived.estimate_gain, where)
        drop_files.check_derived("fisher", arrays["fisher"], derived.fisher, where)


ARRAYS = tuple(field.name for field in fields(Scenario) if field.name != "config")
_GIVEN = tuple(name for name in ARRAYS if name not in ("estimate_gain", "fisher", "prior"))


def joined(scenarios: Sequence[Scenario]) -> Scenario:
    """Concatenate batches of drops of one configuration."""
    first = scenarios[0]
    xp = physics.namespace(first.gain)
    arrays = {name: [getattr(one, name) for one in scenarios] for name in ARRAYS}
    return Scenario(first.config, **{name: None if a[0] is None else xp.concat(a) for name, a in arrays.items()})


def overlap(pilot: Array | None) -> Array | None:
    """Compute the pilot overlap G_kk' in {0, 1}, (…, K, K), of pilots (…, K); None for orthogonal pilots."""
    if pilot is None:
        return None
    xp = physics.namespace(pilot)
    return xp.astype(pilot[..., :, None] == pilot[..., None, :], xp.float64)
