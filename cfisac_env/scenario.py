"""Drops: where everything stands and what the channels are, sampled from a configuration, built from gains, or read from a file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cfisac_env import compiled, physics, pilots
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.types import Array, Decision, Outcome, Problem

FILE_FORMAT = "cfisac-drops-1"


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

    def __post_init__(self) -> None:
        for name in ARRAYS:
            array = getattr(self, name)
            if type(array) is np.ndarray:
                array.setflags(write=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickled and copied arrays are read-only too."""
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
        """A scenario from measured, ray-traced or simulated gains; what follows from them is derived.

        Args:
            config: M, K, T and S must be those of the arrays.
            ap_xy: (…, M, 2) m.
            ue_xy: (…, K, 2) m.
            sr_xy: (…, T, 2) m.
            target_xy: (…, S, 2) m.
            gain: (…, M, K) large-scale fading, linear, positive.
            rcs_gain: (…, M, S, T) two-way gains; by default the radar equation on the positions.
            pilot: (…, K) index of each user's pilot. By default every user has its own or, with K > τ_p, what `config.pilot_assignment`
                says (`random` draws from seed 0).

        Raises:
            ValueError: a shape that doesn't fit the configuration, or a value that isn't finite (gains: positive).
        """
        lead = np.shape(gain)[:-2]
        points = {"ap_xy": (ap_xy, config.M), "ue_xy": (ue_xy, config.K), "sr_xy": (sr_xy, config.T)}
        points["target_xy"] = (target_xy, config.S)
        xy = {name: _array(name, value, (*lead, count, 2)) for name, (value, count) in points.items()}
        gain = _array("gain", gain, (*lead, config.M, config.K), positive=True)
        if rcs_gain is None:
            rcs_gain = physics.radar_gain(
                xy["ap_xy"], xy["sr_xy"], xy["target_xy"], config.wavelength_m, config.rcs_m2, config.min_distance_m
            )
        rcs_gain = _array("rcs_gain", rcs_gain, (*lead, config.M, config.S, config.T), positive=True)
        if pilot is not None:
            pilot = np.array(pilot)
            whole = np.issubdtype(pilot.dtype, np.integer)
            if pilot.shape != (*lead, config.K) or not whole or pilot.min() < 0 or pilot.max() >= config.pilot_length:
                raise ValueError(
                    f"pilot must be whole numbers of shape {(*lead, config.K)} from 0 to pilot_length - 1 = "
                    f"{config.pilot_length - 1}, got shape {pilot.shape} and dtype {pilot.dtype}"
                )
        if pilot is None:
            pilot = pilots.assign(config, gain, np.random.default_rng(0))
        return cls._derive(config, gain=gain, rcs_gain=rcs_gain, pilot=pilot, **xy)

    @classmethod
    def _derive(
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
        """The drops where a back end keeps its arrays."""
        return Scenario(
            self.config, **{name: None if (a := getattr(self, name)) is None else backend.array(a) for name in ARRAYS}
        )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes; empty for a single drop."""
        return tuple(self.gain.shape[:-2])

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a single drop has no length; Scenario.batch() makes it a batch of one")
        return self.batch_shape[0]

    def __getitem__(self, index: Any) -> Scenario:
        """The drops at `index` of the leading axes."""
        if not self.batch_shape:
            raise IndexError("a single drop cannot be indexed; Scenario.batch() makes it a batch of one")
        return Scenario(
            self.config, **{name: None if (a := getattr(self, name)) is None else a[index] for name in ARRAYS}
        )

    def batch(self) -> Scenario:
        """This drop as a batch of one; a batch stays as it is."""
        if self.batch_shape:
            return self
        return Scenario(
            self.config, **{name: None if (a := getattr(self, name)) is None else a[None] for name in ARRAYS}
        )

    @cached_property
    def problem(self) -> Problem:
        """The numbers that an optimiser needs."""
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
        )

    def evaluate(self, decision: Decision) -> Outcome:
        """Score a decision on this drop (see `physics.evaluate`)."""
        return physics.evaluate(self.problem, decision)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drops and their configuration to an npz file; an existing file is replaced only when all is written."""
        path = Path(path)
        arrays: dict[str, Any] = {name: np.asarray(a) for name in ARRAYS if (a := getattr(self, name)) is not None}
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, format=FILE_FORMAT, config=json.dumps(self.config.as_dict()), **arrays)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scenario:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, isn't a drops file, or its arrays don't fit its configuration.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no drops file at {path}; Scenario.save(path) writes one")
        with path.open("rb") as stream:
            try:
                file = np.load(stream, allow_pickle=False)
                content = {name: file[name] for name in file.files}
            except Exception as error:  # NumPy, zipfile and zlib each have their own for damaged bytes
                raise ValueError(
                    f"{path} cannot be read as a drops file: it is truncated or of another kind ({error}); "
                    "write it again with Scenario.save"
                ) from None
        if str(content.get("format")) != FILE_FORMAT:
            found = ", ".join(content) or "nothing"
            raise ValueError(
                f"{path} is not a drops file of format {FILE_FORMAT!r} (it holds {found}); "
                "build a Scenario with Scenario.from_gains and write it with Scenario.save"
            )
        try:
            config = SystemConfig(**json.loads(str(content["config"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no configuration that this version can read: {error}") from None
        missing = [name for name in ARRAYS if name not in content and name != "pilot"]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}; write it again with Scenario.save")
        lead = content["gain"].shape[:-2]
        shapes = _shapes(config, lead)
        arrays = {
            name: _array(f"{name} in {path}", content[name], shapes[name], positive=name in _POSITIVE)
            for name in ARRAYS
            if name != "pilot"
        }
        pilot = content.get("pilot")
        if pilot is not None and pilot.shape != shapes["pilot"]:
            raise ValueError(f"pilot in {path} must have shape {shapes['pilot']}, got {pilot.shape}")
        return cls(config, pilot=pilot, **arrays)


ARRAYS = tuple(field.name for field in fields(Scenario) if field.name != "config")
_POSITIVE = ("gain", "estimate_gain", "rcs_gain")


def _shapes(config: SystemConfig, lead: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    M, K, T, S = config.M, config.K, config.T, config.S
    tails: dict[str, tuple[int, ...]] = {
        "ap_xy": (M, 2), "ue_xy": (K, 2), "sr_xy": (T, 2), "target_xy": (S, 2), "gain": (M, K),
        "estimate_gain": (M, K), "rcs_gain": (M, S, T), "fisher": (M, S, 3), "pilot": (K,),
    }  # fmt: skip
    return {name: (*lead, *tail) for name, tail in tails.items()}


def _array(name: str, value: Array, shape: tuple[int, ...], positive: bool = False) -> Array:
    """A float64 copy of `value`, checked."""
    array = np.array(value, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape} for this configuration, got {array.shape}")
    if not np.isfinite(array).all() or (positive and not (array > 0).all()):
        worst = int((~np.isfinite(array)).sum() + ((array <= 0).sum() if positive else 0))
        raise ValueError(
            f"{name} must be finite{' and positive' if positive else ''}; {worst} of its {array.size} values are not"
            + ("; give links without a path a floor such as 1e-20" if positive else "")
        )
    return array


def joined(scenarios: Sequence[Scenario]) -> Scenario:
    """The drops of several batches of one configuration, one after the other."""
    first = scenarios[0]
    xp = physics.namespace(first.gain)
    arrays = {name: [getattr(one, name) for one in scenarios] for name in ARRAYS}
    return Scenario(first.config, **{name: None if a[0] is None else xp.concat(a) for name, a in arrays.items()})


def overlap(pilot: Array | None) -> Array | None:
    """G_kk' in {0, 1}, (…, K, K), of pilots (…, K); None stays None (orthogonal)."""
    if pilot is None:
        return None
    xp = physics.namespace(pilot)
    return xp.astype(pilot[..., :, None] == pilot[..., None, :], xp.float64)


_DRAWING = threading.Lock()
"""Threads draw in turns: every generator takes and drops Python's lock, for which two of them at it would wait all the time."""


class Draws:
    """The random numbers behind some drops, before any physics.

    Uniform numbers place users, APs, receivers and further targets; normal ones are shadowing; where the model has them, exponential ones
    are radar cross-sections of mean one, and pilots are drawn. With `moving_only` there are no APs, receivers and targets among them:
    new instants of a network.
    """

    def __init__(self, config: SystemConfig, lead: tuple[int, ...] = (), *, moving_only: bool = False) -> None:
        M, K, T, S = config.M, config.K, config.T, config.S
        self.uniform = np.empty((*lead, K if moving_only else M + K + T + S - 1, 2))
        self.normal = np.empty((*lead, M, K))
        self.exponential = None if config.rcs_model == "constant" else np.empty((*lead, M, S, T))
        drawn = config.pilots_reused and config.pilot_assignment == "random"
        self.pilot = np.empty((*lead, K), np.int64) if drawn else None
        self._pilot_length = config.pilot_length

    def to(self, backend: Backend) -> Self:
        """The numbers where a back end keeps its arrays; not to be filled any more."""
        if backend.name == "numpy":
            return self
        moved = copy(self)
        for name in ("uniform", "normal", "exponential", "pilot"):
            if (numbers := getattr(self, name)) is not None:
                setattr(moved, name, backend.array(numbers))
        return moved

    def fill(self, rng: np.random.Generator, index: Any = ...) -> None:
        """Draw the numbers of the drops at `index`, which has to select contiguous memory."""
        rng.random(out=self.uniform[index])
        rng.standard_normal(out=self.normal[index])
        if self.exponential is not None:
            rng.standard_exponential(out=self.exponential[index])
        self._fill_pilots(rng, index)

    def fill_each(self, generators: Sequence[np.random.Generator]) -> None:
        """Draw the numbers of every drop along the one leading axis, each from its own generator."""
        if compiled.fill(generators, self.uniform, self.normal, self.exponential):
            if self.pilot is not None:
                for i, rng in enumerate(generators):
                    self._fill_pilots(rng, i)
            return
        with _DRAWING:
            for i, rng in enumerate(generators):
                self.fill(rng, i)

    def _fill_pilots(self, rng: np.random.Generator, index: Any) -> None:
        if self.pilot is not None:
            self.pilot[index] = rng.integers(0, self._pilot_length, self.pilot[index].shape)


def sample(
    config: SystemConfig, rng: np.random.Generator, n: int | None = None, *, network: Scenario | None = None
) -> Scenario:
    """Draw drops: everything uniform in the disc, the first target at its centre, shadowing independent on every link.

    Args:
        config: of the drops.
        rng: the only source of randomness.
        n: number of drops; None draws one without a leading axis.
        network: keep the APs, receivers and targets of this single drop and draw a new instant: users, shadowing, radar cross-sections.

    Returns:
        A `Scenario` with leading axes () or (n,).
    """
    if n is not None and n < 1:
        raise ValueError(f"the number of drops must be 1 or more, got {n}")
    if network is not None and network.batch_shape:
        raise ValueError(f"network must be a single drop, got a batch of shape {network.batch_shape}; index it first")
    draws = Draws(config, () if n is None else (n,), moving_only=network is not None)
    draws.fill(rng)
    return build(config, draws, network)


def build(config: SystemConfig, draws: Draws, network: Scenario | None = None) -> Scenario:
    """The drops that random numbers stand for.

    Args:
        config: of the drops.
        draws: leading axes ….
        network: what the APs, receivers and targets are taken from, when `draws` are of moving things only; its leading axes
            broadcast against ….
    """
    M, K, T = config.M, config.K, config.T
    xp = physics.namespace(draws.uniform)
    radius = (config.area_diameter_m / 2) * xp.sqrt(draws.uniform[..., 0])
    angle = (2 * np.pi) * draws.uniform[..., 1]
    xy = xp.empty_like(draws.uniform)
    xy[..., 0], xy[..., 1] = radius * xp.cos(angle), radius * xp.sin(angle)
    lead, ue_xy = tuple(xy.shape[:-2]), xy[..., :K, :]
    if network is None:
        ap_xy, sr_xy, others = xy[..., K : K + M, :], xy[..., K + M : K + M + T, :], xy[..., K + M + T :, :]
        target_xy = xp.concat([xp.zeros_like(xy[..., :1, :]), xp.flip(others, axis=-2)], axis=-2)
    else:
        ap_xy, sr_xy, target_xy = (_spread(a, lead, 2) for a in (network.ap_xy, network.sr_xy, network.target_xy))
    distance = physics.link_distance(ap_xy, ue_xy, config.min_distance_m)
    shadowing_db = draws.normal * config.shadowing_std_db
    gain = physics.path_gain(distance, config.path_loss_intercept_db, config.path_loss_per_decade_db, shadowing_db)
    if network is not None and draws.exponential is None:
        rcs_gain, fisher = _spread(network.rcs_gain, lead, 3), _spread(network.fisher, lead, 3)
    else:
        rcs = config.rcs_m2 if draws.exponential is None else draws.exponential * config.rcs_m2
        rcs_gain = physics.radar_gain(ap_xy, sr_xy, target_xy, config.wavelength_m, rcs, config.min_distance_m)
        fisher = None
    pilot = draws.pilot
    if pilot is None and config.pilots_reused:
        # Not the assignment that draws, as `draws` would have its numbers.
        known = gain if xp is np else gain.cpu().numpy()
        pilot = xp.asarray(pilots.assign(config, known, np.random.default_rng(0)), device=gain.device)
    return Scenario._derive(
        config, ap_xy=ap_xy, ue_xy=ue_xy, sr_xy=sr_xy, target_xy=target_xy, gain=gain, rcs_gain=rcs_gain, fisher=fisher,
        pilot=pilot,
    )  # fmt: skip


def _spread(array: Array, lead: tuple[int, ...], axes: int) -> Array:
    """A copy of `array` with the leading axes `lead` before its last `axes`."""
    xp = physics.namespace(array)
    return xp.asarray(xp.broadcast_to(array, (*lead, *array.shape[-axes:])), copy=True)
