"""Random drops: positions, shadowing, radar cross-sections and pilots of a configuration."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from cfisac_env import compiled, physics, pilots
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.memory import refuse_beyond_memory
from cfisac_env.scenario import Scenario, joined
from cfisac_env.types import Array

_DRAWING = threading.Lock()
"""Serialises threads, which would otherwise contend for the interpreter lock."""

if hasattr(os, "register_at_fork"):
    # Another thread may hold the lock during a fork, and does not exist in the child.
    os.register_at_fork(after_in_child=_DRAWING._at_fork_reinit)  # type: ignore[attr-defined]


class RandomInputs:
    """Random inputs of drops, before any physics.

    Uniform numbers for the positions of users, APs, receivers and further targets; normal ones for shadowing; where the model requires
    them, exponential ones for radar cross-sections of mean one, and random pilots. With `moving_only`, APs, receivers and targets are
    omitted, for new instants of a network.
    """

    def __init__(self, config: SystemConfig, lead: tuple[int, ...] = (), *, moving_only: bool = False) -> None:
        M, K, T, S = config.M, config.K, config.T, config.S
        drops = math.prod(lead)
        # Shadowing, distance, gain and its estimate for every link, and sensing arrays.
        needed = 8 * drops * (4 * M * K + M * S * (T + 3))
        refuse_beyond_memory(needed, f"gains of {drops:,} drops of {M:,} APs and {K:,} users")
        self.uniform = np.empty((*lead, K if moving_only else M + K + T + S - 1, 2))
        self.normal = np.empty((*lead, M, K))
        self.exponential = None if config.rcs_model == "constant" else np.empty((*lead, M, S, T))
        drawn = config.pilots_reused and config.pilot_assignment == "random"
        self.pilot = np.empty((*lead, K), np.int64) if drawn else None
        self._pilot_length = config.pilot_length

    def to(self, backend: Backend) -> Self:
        """Move the numbers to a back end; they cannot be refilled afterwards."""
        if backend.name == "numpy":
            return self
        moved = copy(self)
        for name in ("uniform", "normal", "exponential", "pilot"):
            if (numbers := getattr(self, name)) is not None:
                setattr(moved, name, backend.array(numbers))
        return moved

    def fill(self, rng: np.random.Generator, index: Any = ...) -> None:
        """Draw the numbers of the drops at `index`, which must select contiguous memory."""
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
    """Draw drops: positions uniform in the disc, the first target at its centre, independent shadowing on every link.

    Args:
        n: number of drops; None draws one without a leading axis.
        network: single drop whose APs, receivers and targets are kept for a new instant of users, shadowing and radar cross-sections.

    Returns:
        A `Scenario` with leading axes () or (n,).
    """
    if n is not None and n < 1:
        raise ValueError(f"the number of drops must be 1 or more, got {n}")
    if network is not None and network.batch_shape:
        raise ValueError(f"network must be a single drop, got a batch of shape {network.batch_shape}; index it first")
    inputs = RandomInputs(config, () if n is None else (n,), moving_only=network is not None)
    inputs.fill(rng)
    return build(config, inputs, network)


def draw(config: SystemConfig, seeds: Iterable[int]) -> Scenario:
    """Draw the drops, (n,), that an environment of this configuration draws when reset with each of the seeds."""
    return joined([sample(config, np.random.default_rng(int(seed)), 1) for seed in seeds])


def build(config: SystemConfig, inputs: RandomInputs, network: Scenario | None = None) -> Scenario:
    """Compute drops from their random inputs.

    Args:
        network: single drop or batch with the APs, receivers and targets, for `inputs` with `moving_only`; its leading axes broadcast
            against ….
    """
    M, K, T = config.M, config.K, config.T
    xp = physics.namespace(inputs.uniform)
    radius = (config.area_diameter_m / 2) * xp.sqrt(inputs.uniform[..., 0])
    angle = (2 * np.pi) * inputs.uniform[..., 1]
    xy = xp.empty_like(inputs.uniform)
    xy[..., 0], xy[..., 1] = radius * xp.cos(angle), radius * xp.sin(angle)
    lead, ue_xy = tuple(xy.shape[:-2]), xy[..., :K, :]
    if network is None:
        ap_xy, sr_xy, others = xy[..., K : K + M, :], xy[..., K + M : K + M + T, :], xy[..., K + M + T :, :]
        target_xy = xp.concat([xp.zeros_like(xy[..., :1, :]), xp.flip(others, axis=-2)], axis=-2)
    else:
        ap_xy, sr_xy, target_xy = (_broadcast(a, lead, 2) for a in (network.ap_xy, network.sr_xy, network.target_xy))
    distance = physics.link_distance(ap_xy, ue_xy, config.min_distance_m)
    shadowing_db = inputs.normal * config.shadowing_std_db
    gain = physics.path_gain(distance, config.path_loss_intercept_db, config.path_loss_per_decade_db, shadowing_db)
    if network is not None and inputs.exponential is None:
        rcs_gain, fisher = _broadcast(network.rcs_gain, lead, 3), _broadcast(network.fisher, lead, 3)
    else:
        rcs = config.rcs_m2 if inputs.exponential is None else inputs.exponential * config.rcs_m2
        rcs_gain = physics.radar_gain(ap_xy, sr_xy, target_xy, config.wavelength_m, rcs, config.min_distance_m)
        fisher = None
    pilot = inputs.pilot
    if pilot is None and config.pilots_reused:
        # Deterministic assignments only; random ones are part of the inputs.
        known = gain if xp is np else gain.cpu().numpy()
        pilot = xp.asarray(pilots.assign(config, known, np.random.default_rng(0)), device=gain.device)
    return Scenario.derive(
        config, ap_xy=ap_xy, ue_xy=ue_xy, sr_xy=sr_xy, target_xy=target_xy, gain=gain, rcs_gain=rcs_gain, fisher=fisher,
        pilot=pilot,
    )  # fmt: skip


def _broadcast(array: Array, lead: tuple[int, ...], axes: int) -> Array:
    """Broadcast `array` to the leading axes `lead` before its last `axes`, as a copy."""
    xp = physics.namespace(array)
    return xp.asarray(xp.broadcast_to(array, (*lead, *array.shape[-axes:])), copy=True)
