"""Exact power allocation for fixed sets of APs, in well under a millisecond for small ones.

`solve` checks its input, spreads the sets over threads and returns powers, multipliers and certified bounds in SI units; the
algorithm is in `interior_point`.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines import interruption
from baselines.allocation import columns, interior_point
from baselines.allocation.certificate import ORTHOGONAL_ONLY, pilots_shared
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env.memory import refuse_beyond_memory
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
    multipliers. `INFEASIBLE` is proven: the multipliers' bound exceeds what all the caps together allow. An empty set is infeasible. Large
    sets go to `columns` first, whose time and memory are linear in M·K.

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
        MemoryError: the answer, or what a set needs that `columns` can't solve, is larger than this machine's memory.
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
    # Power, sets twice, caps' multipliers and the rest.
    needed = 8 * sets * (M * K + 2 * M + K + 3 * S + 4)
    refuse_beyond_memory(needed, f"powers and multipliers of {sets:,} sets of {M:,} APs and {K:,} users")
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

    answers = _Answers.empty(sets, M, K, S)
    limit = columns.fewest(K, S)
    left = np.ones(sets, dtype=bool)
    for i in np.flatnonzero(flat.sum(-1) >= limit):
        one = (
            problem
            if not batch
            else replace(problem, gain=gain[drop[i]], estimate_gain=estimate[drop[i]], fisher=fisher[drop[i]])
        )
        found = columns.solve_one(one, flat[i], float(limits[i]), _all_on)
        if found is not None:
            answers.put(int(i), found)
            left[i] = False
    if left.all():
        _direct(problem, gain, estimate, fisher, drop, flat, limits, answers, threads)
    elif left.any():
        rest = _Answers.empty(int(left.sum()), M, K, S)
        _direct(problem, gain, estimate, fisher, drop[left], _plain(flat[left]), _plain(limits[left]), rest, threads)
        for name, part in vars(rest).items():
            getattr(answers, name)[left] = part
    return answers.shaped(active)


@dataclass(eq=False)
class _Answers:
    """What the kernel writes, (n, …) arrays in the units of the problem."""

    status: NDArray[np.int64]
    bound: Float
    iterations: NDArray[np.int64]
    power: Float
    sinr: Float
    cap: Float
    sensing: Float

    @classmethod
    def empty(cls, sets: int, M: int, K: int, S: int) -> _Answers:
        return cls(
            np.zeros(sets, np.int64), np.zeros(sets), np.zeros(sets, np.int64), np.zeros((sets, M, K)), np.zeros((sets, K)),
            np.zeros((sets, M)), np.zeros((sets, S, 3)),
        )  # fmt: skip

    def put(self, i: int, one: Allocation) -> None:
        """Write the answer for one set at its place."""
        duals = one.multipliers
        self.status[i] = np.flatnonzero(str(one.status) == STATUS)[0]
        self.bound[i], self.iterations[i], self.power[i] = one.bound, one.iterations, one.power
        self.sinr[i], self.cap[i], self.sensing[i] = duals.sinr, duals.cap, duals.sensing

    def shaped(self, active: NDArray[np.bool_]) -> Allocation:
        """As an allocation with the leading axes of the sets."""
        leading = active.shape[:-1]
        solved = (self.status == interior_point.OPTIMAL) | (self.status == interior_point.INACCURATE)
        total = self.power.sum((-2, -1))
        sinr, cap, sensing = (part.reshape(*leading, *part.shape[1:]) for part in (self.sinr, self.cap, self.sensing))
        return Allocation(
            active=active,
            power=self.power.reshape(*leading, *self.power.shape[1:]),
            transmit_power=np.where(solved & (total > 0.0), total, np.inf).reshape(leading),
            bound=self.bound.reshape(leading),
            status=STATUS[self.status].reshape(leading),
            multipliers=Multipliers(sinr=sinr, cap=cap, sensing=sensing),
            iterations=self.iterations.reshape(leading),
        )


def _all_on(problem: Problem) -> Allocation:
    """A small problem with all APs on, by the kernel."""
    gain, estimate, fisher = _validated(problem)
    active, answers = np.ones((1, problem.M), dtype=bool), _Answers.empty(1, problem.M, problem.K, problem.S)
    _direct(problem, gain, estimate, fisher, np.zeros(1, np.int64), active, np.full(1, np.inf), answers, 1)
    return answers.shaped(active)[0]


def _direct(
    problem: Problem, gain: Float, estimate: Float, fisher: Float, drop: NDArray[np.int64], active: NDArray[np.bool_], limits: Float,
    answers: _Answers, threads: int | None,
) -> None:  # fmt: skip
    """Solve sets (n, M) by the kernel, in threads."""
    sets, K = len(active), problem.K
    size = int(active.sum(-1).max(initial=0))
    workers = _workers(active, K, threads)
    refuse_beyond_memory(
        8 * workers * (3 * size * size + 24 * size * K), f"the matrices of a set of {size:,} APs and {K:,} users"
    )

    def run(start: int, stop: int) -> None:
        interior_point.solve_range(
            start, stop, drop, active, gain, estimate, fisher, float(problem.noise_w), float(problem.sinr_threshold),
            float(problem.crlb_threshold_m2), float(problem.max_ap_power_w), limits, answers.status, answers.bound, answers.iterations,
            answers.power, answers.sinr, answers.cap, answers.sensing,
        )  # fmt: skip

    if workers == 1:
        run(0, sets)
        return
    run(0, 0)  # compiles, if that is to be done, where Ctrl+C ends it
    # Several chunks for each worker: sets differ in size and in how soon they end.
    edges = np.linspace(0, sets, min(sets, 8 * workers) + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, edges[:-1].tolist(), edges[1:].tolist()))


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
