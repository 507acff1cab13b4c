"""Simulation of possible futures from one observation and assumed laws of motion and shadowing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation.result import Float
from baselines.foresight import kernels
from cfisac_env.mobile import Switching
from cfisac_env.mobility import checked_number
from cfisac_env.types import Problem

EXACT_INSTANTS = 3
"""Number of first instants whose gains are kept for exact allocations."""

_PERIOD = 64  # steps, of the random numbers
_WAYPOINTS = 16
KEYS = ("ap", "ue", "sr", "target", "radar", "ue_velocity", "target_velocity", "target_turn_rate")


@dataclass(frozen=True)
class Laws:
    """Assumed laws of motion and shadowing; the defaults are those of `CfIsacMobile-v0`.

    Speeds, headings and turn rates are observed, and the path loss is fitted to the current links. `speed_scale` scales the observed
    speeds, for studies of model mismatch.

    Raises:
        ValueError: a number out of range.
    """

    area_diameter_m: float = 500.0
    min_distance_m: float = 10.0
    decorrelation_m: float = 13.0
    turn_memory_s: float = 5.0
    lateral_m_s2: float = 3.0
    speed_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            checked_number(name, value, 1e6, positive=name not in ("decorrelation_m", "speed_scale"))


@dataclass(frozen=True, eq=False)
class Futures:
    """F simulated futures of an instant, evaluated at `times` steps from now."""

    times: NDArray[np.int64]  # (H,) steps from now
    weights: Float  # (H,) number of steps that each represents
    rows: Float  # (F, H, M, 3S + 2K) of `kernels`
    servable: NDArray[np.bool_]  # (F, H) whether all APs together serve the instant; others do not count as missed
    places: Float  # (F, H, S, 2) target positions, m
    first: Problem  # leading axes (F, at most EXACT_INSTANTS), the first evaluated instants
    requirement: Float  # (4,) of `kernels`

    def apart(self, distance_m: float) -> NDArray[np.int64]:
        """Compute the steps from which two futures are distinguishable, by a distance between positions of a target, (F, F)."""
        offset = self.places[:, None] - self.places[None]
        distinct = ((offset**2).sum(-1) > distance_m**2).any(-1)  # (F, F, H)
        first = np.where(distinct.any(-1), distinct.argmax(-1), len(self.times) - 1)
        return np.ascontiguousarray(self.times[first])


def grid(horizon: int) -> tuple[NDArray[np.int64], Float]:
    """Build the evaluated steps up to `horizon`, with increasing spacing, and the number of steps that each represents."""
    times, step = [], 1
    last = 0
    while last < horizon:
        step = 1 if last < 8 else 2 if last < 24 else 3
        last = min(last + step, horizon)
        times.append(last)
    at = np.array(times, dtype=np.int64)
    return at, np.diff(at, prepend=0).astype(np.float64)


def in_motion(observation: Mapping[str, NDArray[Any]], caller: str) -> dict[str, Float]:
    """Return the entries `KEYS` of an observation, in that order.

    Args:
        observation: one, of `CfIsacMobile-v0` with velocities.
        caller: what needs them, for messages.

    Raises:
        ValueError: the observation has no velocities.
    """
    missing = [key for key in KEYS if key not in observation]
    if missing:
        raise ValueError(
            f"the observation lacks {', '.join(missing)}; {caller} needs the observation of CfIsacMobile-v0 with velocities=True"
        )
    return {key: np.ascontiguousarray(observation[key], dtype=np.float64) for key in KEYS}


@lru_cache(maxsize=4)
def _random(count: int, K: int, S: int, M: int, seed: int) -> tuple[Float, Float, Float]:
    """Draw uniform numbers for waypoints, and normal ones for turns and shadowing, common to all steps of all episodes."""
    rng = np.random.default_rng(seed)
    return (
        rng.random((count, K, _WAYPOINTS, 3)),
        rng.standard_normal((count, S, _PERIOD)),
        rng.standard_normal((count, _PERIOD, M, K)),
    )


def draw(
    observation: Mapping[str, NDArray[Any]],
    problem: Problem,
    state: Switching,
    laws: Laws,
    *,
    count: int,
    horizon: int,
    seed: int = 0,
) -> Futures:
    """Simulate futures.

    Args:
        observation: one, of `CfIsacMobile-v0` with velocities.
        problem: decoded from it.
        state: decoded from it.
        laws: of motion and shadowing.
        count: number of futures F.
        horizon: steps to look ahead, 1 or more.
        seed: of the random numbers; an instant has the same ones in every decision.

    Raises:
        ValueError: the observation has no velocities.
    """
    entries = in_motion(observation, "looking ahead")
    M, K, S = problem.M, problem.K, problem.S
    radius_m, step_s = laws.area_diameter_m / 2, state.step_s
    ap, ue, sr, target = (np.ascontiguousarray(entries[key][:, :2] * radius_m) for key in ("ap", "ue", "sr", "target"))
    gain = np.asarray(problem.gain)
    distance = np.maximum(np.linalg.norm(ap[:, None] - ue, axis=-1), laws.min_distance_m)
    intercept, slope, residual = _fit_path_loss(np.log(distance), np.log(gain))
    law_parameters = np.array([
        radius_m, laws.min_distance_m, intercept, slope, residual.std(), laws.decorrelation_m,
        np.exp(-step_s / laws.turn_memory_s), laws.lateral_m_s2 * step_s**2,
    ])  # fmt: skip
    overlap = np.empty((0, 0)) if problem.pilot_overlap is None else np.ascontiguousarray(problem.pilot_overlap)
    to_ap = np.maximum(np.linalg.norm(ap[:, None] - target, axis=-1), laws.min_distance_m)  # (M, S)
    to_sr = np.maximum(np.linalg.norm(sr[:, None] - target, axis=-1), laws.min_distance_m)  # (T, S)
    received = 10.0 ** entries["radar"]
    radar = received * (to_ap[:, :, None] * to_sr.T[None]) ** 2
    times, weights = grid(horizon)
    rows = np.empty((count, len(times), M, 3 * S + 2 * K))
    first = min(EXACT_INSTANTS, len(times))
    places = np.empty((count, len(times), S, 2))
    gains, estimates = np.empty((2, count, first, M, K))
    fisher = np.empty((count, first, M, S, 3))
    cap = float(problem.max_ap_power_w)
    scale = radius_m * step_s * laws.speed_scale
    kernels.simulate(
        ap, sr, ue, np.ascontiguousarray(entries["ue_velocity"] * scale), target,
        np.ascontiguousarray(entries["target_velocity"] * scale), entries["target_turn_rate"] * step_s, law_parameters, residual,
        _pilot_energy(problem), overlap, radar, fisher_scale(ap, sr, target, received, np.asarray(problem.fisher)), cap, times,
        state.steps_left, *_random(count, K, S, M, seed), rows, gains, estimates, fisher, places,
    )  # fmt: skip
    requirement = np.array([problem.sinr_threshold, problem.noise_w, problem.crlb_threshold_m2, cap])
    servable = np.empty((count, len(times)), np.bool_)
    kernels.serves(rows, np.ones(M, np.bool_), S, K, requirement, servable)
    overlaps = None if problem.pilot_overlap is None else np.broadcast_to(overlap, (count, first, K, K))
    return Futures(
        times=times,
        weights=weights,
        rows=rows,
        servable=servable,
        places=places,
        first=Problem(
            gain=gains, estimate_gain=estimates, noise_w=problem.noise_w, fisher=fisher, sinr_threshold=problem.sinr_threshold,
            crlb_threshold_m2=problem.crlb_threshold_m2, max_ap_power_w=cap, circuit_power_w=problem.circuit_power_w,
            pilot_overlap=overlaps,
        ),
        requirement=requirement,
    )  # fmt: skip


def _fit_path_loss(log_distance: Float, log_gain: Float) -> tuple[float, float, Float]:
    """Fit intercept and slope of the mean log gain over the log distance; return them and the residuals."""
    spread = log_distance - log_distance.mean()
    square = float((spread**2).sum())
    slope = float((spread * log_gain).sum()) / square if square > 1e-9 else -3.7
    slope = min(max(slope, -6.0), -1.5)  # from beyond free space to heavily obstructed
    intercept = float(log_gain.mean() - slope * log_distance.mean())
    return intercept, slope, np.ascontiguousarray(log_gain - intercept - slope * log_distance)


def _pilot_energy(problem: Problem) -> float:
    """Estimate E in units of 1/σ² from v = E ς²/(E Σ_k' G_kk' ς_k' + 1), at the link with the least cancellation."""
    gain, estimate = np.asarray(problem.gain), np.asarray(problem.estimate_gain)
    received = gain if problem.pilot_overlap is None else gain @ np.asarray(problem.pilot_overlap)
    rest = gain * gain / estimate - received  # 1/E
    relative = rest / received
    best = np.unravel_index(np.argmax(relative), relative.shape)
    return float(1.0 / max(rest[best], 1e-30))


def fisher_scale(ap: Float, sr: Float, target: Float, received: Float, fisher: Float) -> float:
    """Estimate ζ from the current Fisher information and radar gains."""

    def units(node: Float) -> Float:
        offset = node[:, None] - target
        far = np.linalg.norm(offset, axis=-1, keepdims=True)
        return np.asarray(np.where(far > 0.0, offset / np.maximum(far, 1e-12), 0.0))

    along = units(ap)[:, :, None] + units(sr).swapaxes(0, 1)[None]  # (M, S, T, 2)
    trace = (received * (along**2).sum(-1)).sum(-1)
    there = trace > 1e-6 * trace.max()
    return float(np.median((fisher[..., 0] + fisher[..., 1])[there] / trace[there]))
