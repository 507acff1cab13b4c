"""Forecast of the features of every AP, from one observation of `CfIsacMobile-v0` and laws of motion and shadowing.

Simpler than `baselines.foresight.futures`, and much faster: users walk straight on, in all futures alike, and only the paths of the targets
and the shadowing differ. Futures are along the last axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.mobile import simulation
from baselines.allocation.result import Float
from baselines.foresight.futures import Laws, in_motion
from cfisac_env.mobile import Switching
from cfisac_env.types import Problem

FUTURES = 32
"""Number of futures F."""

STEPS = np.array([1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 33, 41], dtype=np.int64)
"""Evaluated steps from now."""

_PERIOD = 64  # steps, of the random numbers

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Features of APs, rows of `kernels`, now and in F futures."""

    now: Float  # (M, D)
    rows: Float32  # (H, M, D, F) at the first H of `STEPS`
    requirement: Float  # (5,) γ, σ², ν, P_max, and the step in s
    S: int
    K: int


@lru_cache(maxsize=2)
def _turns(S: int) -> Float32:
    """Draw the normal numbers of turns, common to all steps of all episodes, (n, S, F)."""
    return np.random.default_rng(0).standard_normal((_PERIOD, S, FUTURES), dtype=np.float32)


@lru_cache(maxsize=8)
def _shadowing(M: int, walked_m: tuple[float, ...], std: float, decorrelation_m: float) -> Float32:
    """Draw the factors of the gains by which shadowing differs from its conditional mean, (H, M, K, F).

    Args:
        walked_m: (K,) path of each user in a step.
        std: of the log gains.
    """
    K = len(walked_m)
    rng = np.random.default_rng(1)
    steps = np.diff(STEPS, prepend=0)
    path = np.array(walked_m)[:, None]
    deviation, result = np.zeros((M, K, FUTURES)), np.empty((len(STEPS), M, K, FUTURES), np.float32)
    for h, step in enumerate(steps):
        rho = np.exp(-path * step / decorrelation_m) if decorrelation_m > 0.0 else (path == 0.0).astype(np.float64)
        deviation = rho * deviation + np.sqrt(1.0 - rho * rho) * rng.standard_normal((M, K, FUTURES))
        result[h] = np.exp(std * deviation)
    return result


def draw(observation: Mapping[str, NDArray[Any]], problem: Problem, state: Switching, laws: Laws) -> Forecast:
    """Forecast.

    Args:
        observation: one, with velocities unless it is the last of an episode.
        problem: decoded from it.
        state: decoded from it.
        laws: of motion and shadowing.

    Raises:
        ValueError: the observation has no velocities.
    """
    M, K, S = problem.M, problem.K, problem.S
    H = int(np.searchsorted(STEPS, state.steps_left))
    requirement = np.array(
        [problem.sinr_threshold, problem.noise_w, problem.crlb_threshold_m2, problem.max_ap_power_w, state.step_s]
    )
    now, rows = np.empty((M, 3 * S + 2 * K)), np.empty((H, M, 3 * S + 2 * K, FUTURES), np.float32)
    gain, estimate, fisher = (np.asarray(x) for x in (problem.gain, problem.estimate_gain, problem.fisher))
    now[:, : 3 * S] = (problem.max_ap_power_w * fisher).reshape(M, 3 * S)
    now[:, 3 * S : 3 * S + K] = estimate
    now[:, 3 * S + K :] = gain
    if H > 0:
        ap, ue, sr, target, radar, walk, drive, turn_rate = in_motion(observation, "mobile-value").values()
        radius_m = laws.area_diameter_m / 2
        overlap = np.empty((0, 0)) if problem.pilot_overlap is None else np.ascontiguousarray(problem.pilot_overlap)
        law = np.array([
            radius_m, laws.min_distance_m, laws.decorrelation_m, np.exp(-state.step_s / laws.turn_memory_s), laws.lateral_m_s2,
            state.step_s, laws.speed_scale,
        ])  # fmt: skip
        walked = laws.speed_scale * radius_m * state.step_s * np.sqrt((walk * walk).sum(-1))
        residual = np.empty((M, K))
        line = np.array(simulation.fit(ap, ue, np.ascontiguousarray(gain), law, residual))
        factors = _shadowing(
            M, tuple(np.round(walked, 2).tolist()), round(float(line[2]), 1), laws.decorrelation_m
        )  # fmt: skip
        simulation.simulate(
            ap, ue, sr, target, radar, walk, drive, turn_rate, np.ascontiguousarray(gain), np.ascontiguousarray(estimate),
            np.ascontiguousarray(fisher), overlap, law, line, residual, factors, _turns(S), STEPS, state.steps_left,
            float(problem.max_ap_power_w), rows,
        )  # fmt: skip
    return Forecast(now, rows, requirement, S, K)
