"""Exact power allocation for fixed sets of APs by the compiled interior point.

`solve` validates its input, distributes the sets over threads and returns powers, multipliers and certified bounds in SI units; the
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
from baselines.allocation.certificate import ORTHOGONAL_ONLY, check_prior, pilots_shared
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env.memory import refuse_beyond_memory
from cfisac_env.types import Problem

STATUS = np.array([Status.OPTIMAL, Status.INFEASIBLE, Status.CUT_OFF, Status.INACCURATE], dtype=np.str_)
"""Status of each code that the kernel returns."""

WORK_PER_THREAD = 3e7
"""Floating-point operations (about ten milliseconds) that justify another thread."""


def solve(
    problem: Problem,
    active: NDArray[np.bool_],
    *,
    cutoff_w: ArrayLike | None = None,
    threads: int | None = None,
) -> Allocation:
    """Minimise the transmit power under every SINR, CRLB and cap constraint for the APs in `active`.

        minimise Σ_mk p_mk   subject to   γ_k ≥ γ_thr,   CRLB_s ≤ ν,   Σ_k p_mk ≤ P_max a_m,   p ≥ 0

    With orthogonal pilots this is a second-order cone program, so the answer is the global optimum. An `OPTIMAL` point satisfies every
    constraint within 1e-7 and its bound is within 1e-6, both relative; `certificate.dual_bound` recomputes the bound from the
    multipliers. `INFEASIBLE` is proven: the multipliers' bound exceeds the sum of the caps. An empty set is infeasible. Large sets are
    first solved by `columns`, whose time and memory are linear in M·K.

    Args:
        problem: one drop, or a batch of drops whose leading axes are the first axes of `active`. Orthogonal pilots only.
        active: (…, M) bool, the sets. Sets beyond the problem's own axes share their drop.
        cutoff_w: W, broadcast over the sets: stop with `CUT_OFF` once the bound on the transmit power exceeds it.
        threads: number of threads; by default chosen by processors and work. Results do not depend on it.

    Returns:
        The allocation, with the leading axes of `active`.

    Raises:
        ValueError: pilots are shared, or an array has the wrong shape or values outside its range.
        TypeError: `active` is not boolean.
        MemoryError: the result, or the matrices of a set that `columns` can't solve, exceed this machine's memory.
    """
    interruption.check()
    gain, estimate, fisher, prior = _validated(problem)
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
    flat = _contiguous(active.reshape(sets, M))
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
    limits = _contiguous(cutoff.reshape(sets))
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1, or None to choose by the amount of work")

    answers = _Results.empty(sets, M, K, S)
    limit = columns.least_size(K, S)
    left = np.ones(sets, dtype=bool)
    for i in np.flatnonzero(flat.sum(-1) >= limit):
        one = (
            problem
            if not batch
            else replace(
                problem,
                gain=gain[drop[i]],
                estimate_gain=estimate[drop[i]],
                fisher=fisher[drop[i]],
                prior=None if problem.prior is None else prior[drop[i]],
            )
        )
        found = columns.solve_one(one, flat[i], float(limits[i]), _all_on)
        if found is not None:
            answers.put(int(i), found)
            left[i] = False
    if left.all():
        _direct(problem, gain, estimate, fisher, prior, drop, flat, limits, answers, threads)
    elif left.any():
        rest = _Results.empty(int(left.sum()), M, K, S)
        _direct(
            problem,
            gain,
            estimate,
            fisher,
            prior,
            drop[left],
            _contiguous(flat[left]),
            _contiguous(limits[left]),
            rest,
            threads,
        )
        for name, part in vars(rest).items():
            getattr(answers, name)[left] = part
    return answers.shaped(active)


@dataclass(eq=False)
class _Results:
    """Output arrays (n, …) of the kernel, in the units of the problem."""

    status: NDArray[np.int64]
    bound: Float
    iterations: NDArray[np.int64]
    power: Float
    sinr: Float
    cap: Float
    sensing: Float

    @classmethod
    def empty(cls, sets: int, M: int, K: int, S: int) -> _Results:
        return cls(
            np.zeros(sets, np.int64), np.zeros(sets), np.zeros(sets, np.int64), np.zeros((sets, M, K)), np.zeros((sets, K)),
            np.zeros((sets, M)), np.zeros((sets, S, 3)),
        )  # fmt: skip

    def put(self, i: int, one: Allocation) -> None:
        """Write the allocation of set i."""
        duals = one.multipliers
        self.status[i] = np.flatnonzero(str(one.status) == STATUS)[0]
        self.bound[i], self.iterations[i], self.power[i] = one.bound, one.iterations, one.power
        self.sinr[i], self.cap[i], self.sensing[i] = duals.sinr, duals.cap, duals.sensing

    def shaped(self, active: NDArray[np.bool_]) -> Allocation:
        """Convert to an allocation with the leading axes of the sets."""
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
    """Solve a small problem with all APs on by the kernel."""
    gain, estimate, fisher, prior = _validated(problem)
    active, answers = np.ones((1, problem.M), dtype=bool), _Results.empty(1, problem.M, problem.K, problem.S)
    _direct(problem, gain, estimate, fisher, prior, np.zeros(1, np.int64), active, np.full(1, np.inf), answers, 1)
    return answers.shaped(active)[0]


def _direct(
    problem: Problem, gain: Float, estimate: Float, fisher: Float, prior: Float, drop: NDArray[np.int64], active: NDArray[np.bool_],
    limits: Float, answers: _Results, threads: int | None,
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
            answers.power, answers.sinr, answers.cap, answers.sensing, prior,
        )  # fmt: skip

    if workers == 1:
        run(0, sets)
        return
    run(0, 0)  # compiles in this thread, where Ctrl+C ends it
    # Several chunks per worker balance sets of different cost.
    edges = np.linspace(0, sets, min(sets, 8 * workers) + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, edges[:-1].tolist(), edges[1:].tolist()))


def _workers(active: NDArray[np.bool_], K: int, threads: int | None) -> int:
    """Choose the number of threads by the amount of work, at most one per set."""
    sets = max(len(active), 1)
    if threads is not None:
        return min(threads, sets)
    size = active.sum(-1, dtype=np.float64)
    work = 15.0 * float(np.sum(2.6 * size**3 + 4.0 * size**2 * K + 400.0 * size * K))
    return max(1, min(processors(), sets, int(work / WORK_PER_THREAD)))


def processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _validated(problem: Problem) -> tuple[Float, Float, Float, Float]:
    """Validate the problem's arrays and give them one leading axis."""
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
    shape = (*fisher.shape[:-3], *fisher.shape[-2:])
    prior = np.zeros(shape) if problem.prior is None else _array("prior", problem.prior)
    if prior.shape != shape:
        raise ValueError(f"prior has shape {prior.shape}, expected (…, S, 3) for the targets of fisher, {shape}")
    if problem.prior is not None:
        check_prior(prior)
    drops = math.prod(gain.shape[:-2])
    return (
        _contiguous(gain.reshape(drops, *gain.shape[-2:])),
        _contiguous(estimate.reshape(drops, *gain.shape[-2:])),
        _contiguous(fisher.reshape(drops, *fisher.shape[-3:])),
        _contiguous(prior.reshape(drops, *prior.shape[-2:])),
    )


def _array(name: str, value: ArrayLike) -> Float:
    try:
        return np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name} is not one array of numbers ({error}): drops of different sizes can't share a batch, solve each size by itself"
        ) from error


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, or a contiguous writable copy, as the kernel is compiled for this layout alone."""
    return np.require(array, requirements=["C", "W"])


def _range(array: Float) -> str:
    """Describe the range of an array for a message."""
    if np.isnan(array).any():
        return f"over {np.isnan(array).sum()} NaN of {array.size} entries"
    return f"from {array.min():.3g} to {array.max():.3g}"
