"""Exact power allocation for fixed sets of APs, in well under a millisecond for small ones.

`solve` checks its input, spreads the sets over threads and returns powers, multipliers and certified bounds in SI units; the
algorithm is in `interior_point`.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines import interruption
from baselines.allocation import interior_point
from baselines.allocation.certificate import ORTHOGONAL_ONLY, pilots_shared
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env.types import Problem

STATUS = np.array([Status.OPTIMAL, Status.INFEASIBLE, Status.CUT_OFF, Status.INACCURATE], dtype=np.str_)
"""Names of the codes that the kernel returns."""

WORTH_A_THREAD = 3e7
"""Floating-point operations, about ten milliseconds, below which another thread costs more than it saves."""


def solve(
    problem: Problem,
    active: NDArray[np.bool_],
    *,
    cutoff_w: ArrayLike | None = None,
    threads: int | None = None,
) -> Allocation:
    """Least transmit power that meets every SINR, CRLB and cap constraint with the APs in `active`.

        minimise Σ_mk p_mk   subject to   γ_k ≥ γ_thr,   CRLB_s ≤ ν,   Σ_k p_mk ≤ P_max a_m,   p ≥ 0

    With orthogonal pilots this is a second-order cone program, so the answer is the global optimum. An `OPTIMAL` point satisfies every
    constraint within 1e-7 and its bound is within 1e-6, both relative; `certificate.dual_bound` recomputes the bound from the
    multipliers. `INFEASIBLE` is proven: the multipliers' bound exceeds what all the caps together allow. An empty set is infeasible.

    Args:
        problem: one drop, or a batch of drops whose leading axes are the first axes of `active`. Orthogonal pilots only.
        active: (…, M) bool, the sets. Sets beyond the problem's own axes share their drop.
        cutoff_w: W, broadcast over the sets: stop with `CUT_OFF` as soon as the bound on the transmit power exceeds it.
        threads: how many to spread the sets over; by default as many as there are processors and work for. Answers do not depend on it.

    Returns:
        The allocation, with the leading axes of `active`.

    Raises:
        ValueError: pilots are reused, or an array has the wrong shape or values outside its range.
        TypeError: `active` is not boolean.
    """
    interruption.check()
    gain, estimate, fisher = _validated(problem)
    M, K, S = problem.M, problem.K, problem.S
    active = np.asarray(active)
    if active.dtype != np.bool_:
        raise TypeError(
            f"active has dtype {active.dtype}, expected bool: pass a mask such as `power.sum(-1) > 0`, not indices"
        )
    batch = problem.batch_shape
    if active.ndim == 0 or active.shape[-1] != M or active.shape[: len(batch)] != batch or active.ndim <= len(batch):
        expected = ", ".join([*map(str, batch), "…", str(M)])
        raise ValueError(
            f"active has shape {active.shape}, expected ({expected}): the last axis counts the problem's APs"
            + (f" and the first are the problem's batch axes {batch}" if batch else "")
        )
    leading = active.shape[:-1]
    sets = math.prod(leading)
    flat = _plain(active.reshape(sets, M))
    drops = gain.shape[0]
    drop = np.repeat(np.arange(drops), sets // drops if drops else 0)

    try:
        cutoff = np.broadcast_to(np.asarray(np.inf if cutoff_w is None else cutoff_w, dtype=np.float64), leading)
    except ValueError as error:
        raise ValueError(
            f"cutoff_w has shape {np.asarray(cutoff_w).shape}, expected a number or something that broadcasts to the sets' axes {leading}"
        ) from error
    if np.isnan(cutoff).any():
        raise ValueError("cutoff_w holds NaN; pass None or infinity where there is no limit")
    limits = _plain(cutoff.reshape(sets))
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1, or None to choose by the amount of work")

    status, iterations = np.zeros(sets, np.int64), np.zeros(sets, np.int64)
    bound, power = np.zeros(sets), np.zeros((sets, M, K))
    sinr, cap, sensing = np.zeros((sets, K)), np.zeros((sets, M)), np.zeros((sets, S, 3))

    def run(start: int, stop: int) -> None:
        interior_point.solve_range(
            start, stop, drop, flat, gain, estimate, fisher, float(problem.noise_w), float(problem.sinr_threshold),
            float(problem.crlb_threshold_m2), float(problem.max_ap_power_w), limits, status, bound, iterations, power, sinr, cap,
            sensing,
        )  # fmt: skip

    workers = _workers(flat, K, threads)
    if workers == 1:
        run(0, sets)
    else:
        run(0, 0)  # compiles, if that is to be done, where Ctrl+C ends it
        # Several chunks for each worker: sets differ in size and in how soon they end.
        edges = np.linspace(0, sets, min(sets, 8 * workers) + 1).astype(int)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, edges[:-1].tolist(), edges[1:].tolist()))

    solved = (status == interior_point.OPTIMAL) | (status == interior_point.INACCURATE)
    total = power.sum((-2, -1))
    return Allocation(
        active=active,
        power=power.reshape(*leading, M, K),
        transmit_power=np.where(solved & (total > 0.0), total, np.inf).reshape(leading),
        bound=bound.reshape(leading),
        status=STATUS[status].reshape(leading),
        multipliers=Multipliers(
            sinr=sinr.reshape(*leading, K), cap=cap.reshape(*leading, M), sensing=sensing.reshape(*leading, S, 3)
        ),
        iterations=iterations.reshape(leading),
    )


def _workers(active: NDArray[np.bool_], K: int, threads: int | None) -> int:
    """How many threads the work is worth, at most one for each set."""
    sets = max(len(active), 1)
    if threads is not None:
        return min(threads, sets)
    size = active.sum(-1, dtype=np.float64)
    work = 15.0 * float(np.sum(2.6 * size**3 + 4.0 * size**2 * K + 400.0 * size * K))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, sets, int(work / WORTH_A_THREAD)))


def _validated(problem: Problem) -> tuple[Float, Float, Float]:
    """The problem's arrays with one leading axis, checked."""
    if pilots_shared(problem):
        raise ValueError(f"users of this problem share pilots, and the fast allocator {ORTHOGONAL_ONLY}")
    gain, estimate, fisher = (_array(name, getattr(problem, name)) for name in ("gain", "estimate_gain", "fisher"))
    if gain.ndim < 2 or 0 in gain.shape[-2:]:
        raise ValueError(f"gain has shape {gain.shape}, expected (…, M, K) with at least one AP and one user")
    if estimate.shape != gain.shape:
        raise ValueError(f"estimate_gain has shape {estimate.shape}, expected that of gain, {gain.shape}")
    if fisher.ndim != gain.ndim + 1 or fisher.shape[:-2] != gain.shape[:-1] or fisher.shape[-1] != 3:
        raise ValueError(
            f"fisher has shape {fisher.shape}, expected (…, M, S, 3) with the leading axes and M of gain, {gain.shape}"
        )
    for name, array in (("gain", gain), ("estimate_gain", estimate)):
        if not (np.isfinite(array).all() and (array > 0.0).all()):
            raise ValueError(
                f"{name} must be positive and finite everywhere (linear, not dB); it ranges {_range(array)}"
            )
    if not (np.isfinite(fisher).all() and (fisher[..., :2] >= 0.0).all()):
        raise ValueError(f"fisher must be finite, with q_a and q_b not negative; it ranges {_range(fisher)}")
    for name in ("noise_w", "sinr_threshold", "crlb_threshold_m2", "max_ap_power_w"):
        value = getattr(problem, name)
        if not (np.isfinite(value) and value > 0.0):
            raise ValueError(f"{name} is {value}, expected a positive number (linear, SI units)")
    drops = math.prod(gain.shape[:-2])
    return (
        _plain(gain.reshape(drops, *gain.shape[-2:])),
        _plain(estimate.reshape(drops, *gain.shape[-2:])),
        _plain(fisher.reshape(drops, *fisher.shape[-3:])),
    )


def _array(name: str, value: ArrayLike) -> Float:
    try:
        return np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name} is not one array of numbers ({error}): drops of different sizes can't share a batch, solve each size by itself"
        ) from error


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy if it is read-only or strided: each layout would cost a compilation of its own."""
    return np.require(array, requirements=["C", "W"])


def _range(array: Float) -> str:
    """Extremes of an array for a message, with NaN said aloud."""
    if np.isnan(array).any():
        return f"over {np.isnan(array).sum()} NaN of {array.size} entries"
    return f"from {array.min():.3g} to {array.max():.3g}"
