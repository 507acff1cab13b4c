"""Pilot assignment for more users than pilots."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cfisac_env import physics
from cfisac_env.config import SystemConfig

Floats = NDArray[np.float64]
Pilots = NDArray[np.int64]


def in_turn(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """Assign pilot k mod τ_p to user k."""
    return np.arange(config.K) % config.pilot_length


def at_random(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """Assign each user one of the τ_p pilots independently at random."""
    return rng.integers(0, config.pilot_length, config.K)


def greedy(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """Improve the assignment of `in_turn` greedily: change the pilot of the user with the least SINR while the least SINR increases.

    SINRs are those of every AP at P_max, split equally over the users. The pilot with the highest resulting least SINR is chosen (after
    Ngo et al. 2017, section IV-A).
    """
    power = np.full((config.M, config.K), config.max_ap_power_w / config.K)
    pilot = in_turn(config, gain, rng)
    sinr = _sinr(config, gain, power, pilot[None])[0]
    while True:
        candidates = np.repeat(pilot[None], config.pilot_length, axis=0)
        candidates[:, np.argmin(sinr)] = np.arange(config.pilot_length)
        sinrs = _sinr(config, gain, power, candidates)
        best = int(np.argmax(sinrs.min(-1)))
        if sinrs[best].min() <= sinr.min():
            return pilot
        pilot, sinr = candidates[best], sinrs[best]


def by_master_ap(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """Assign each user the pilot with the least interference from previous users at its strongest AP (master AP).

    The first τ_p users get distinct pilots (Björnson and Sanguinetti 2020, "Scalable cell-free massive MIMO systems", Algorithm 1).
    """
    pilot = np.zeros(config.K, dtype=np.int64)
    for k in range(config.K):
        if k < config.pilot_length:
            pilot[k] = k
            continue
        interference = np.bincount(pilot[:k], weights=gain[np.argmax(gain[:, k]), :k], minlength=config.pilot_length)
        pilot[k] = np.argmin(interference)
    return pilot


ASSIGNMENTS: Mapping[str, Callable[[SystemConfig, Floats, np.random.Generator], Pilots]] = {
    "in-turn": in_turn,
    "random": at_random,
    "greedy": greedy,
    "master-ap": by_master_ap,
}
"""Assignments by `SystemConfig.pilot_assignment`; each maps a configuration, gains (M, K) and a generator to pilots (K,)."""


def assign(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots | None:
    """Assign pilots (…, K) to drops with gains (…, M, K) according to the configuration; None with orthogonal pilots."""
    if not config.pilots_reused:
        return None
    one = ASSIGNMENTS[config.pilot_assignment]
    drops = gain.reshape(-1, config.M, config.K)
    return np.array([one(config, drop, rng) for drop in drops]).reshape(*gain.shape[:-2], config.K)


def _sinr(config: SystemConfig, gain: Floats, power: Floats, pilot: Pilots) -> Floats:
    """Compute the SINRs (n, K) of assignments (n, K)."""
    shared = (pilot[:, :, None] == pilot[:, None, :]).astype(np.float64)
    estimate = physics.estimate_gain(gain, config.pilot_energy_w, config.noise_w, shared)
    return np.asarray(physics.sinr(power, gain, estimate, config.noise_w, shared))
