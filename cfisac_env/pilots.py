"""Which pilot each user sends when there are more users than pilots."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cfisac_env import physics
from cfisac_env.config import SystemConfig

Floats = NDArray[np.float64]
Pilots = NDArray[np.int64]


def in_turn(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """User k has pilot k mod τ_p."""
    return np.arange(config.K) % config.pilot_length


def at_random(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """Every user draws one of the τ_p pilots, whatever the others draw."""
    return rng.integers(0, config.pilot_length, config.K)


def greedy(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots:
    """From pilots in turn, the user with the least SINR takes another pilot, as long as that raises the least SINR of all.

    The SINRs are those of every AP radiating P_max in equal parts for every user. Of the pilots, the one that raises the least SINR
    most is taken (after Ngo et al. 2017, section IV-A).
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
    """Each user's strongest AP, its master, gives it the pilot on which it hears the least of the users before.

    The first τ_p users have their own (Björnson and Sanguinetti 2020, "Scalable cell-free massive MIMO systems", Algorithm 1).
    """
    pilot = np.zeros(config.K, dtype=np.int64)
    for k in range(config.K):
        if k < config.pilot_length:
            pilot[k] = k
            continue
        heard = np.bincount(pilot[:k], weights=gain[np.argmax(gain[:, k]), :k], minlength=config.pilot_length)
        pilot[k] = np.argmin(heard)
    return pilot


ASSIGNMENTS: Mapping[str, Callable[[SystemConfig, Floats, np.random.Generator], Pilots]] = {
    "in-turn": in_turn,
    "random": at_random,
    "greedy": greedy,
    "master-ap": by_master_ap,
}
"""By the names that `SystemConfig.pilot_assignment` takes; each maps a configuration, gains (M, K) and a generator to (K,) pilots."""


def assign(config: SystemConfig, gain: Floats, rng: np.random.Generator) -> Pilots | None:
    """Pilots (…, K) of drops with gains (…, M, K), as the configuration says; None when every user has its own."""
    if not config.pilots_reused:
        return None
    one = ASSIGNMENTS[config.pilot_assignment]
    drops = gain.reshape(-1, config.M, config.K)
    return np.array([one(config, drop, rng) for drop in drops]).reshape(*gain.shape[:-2], config.K)


def _sinr(config: SystemConfig, gain: Floats, power: Floats, pilot: Pilots) -> Floats:
    """SINRs (n, K) under assignments (n, K)."""
    shared = (pilot[:, :, None] == pilot[:, None, :]).astype(np.float64)
    estimate = physics.estimate_gain(gain, config.pilot_energy_w, config.noise_w, shared)
    return np.asarray(physics.sinr(power, gain, estimate, config.noise_w, shared))
