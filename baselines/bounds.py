"""Lower bounds on the power of whole families of AP sets, for certificates and for pruning searches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from baselines import enumeration
from baselines.allocation import fast
from baselines.allocation.certificate import pilots_shared
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from baselines.shares import ShareRelaxation, share_cut_w
from cfisac_env import physics
from cfisac_env.types import Problem

SUFFICIENT = 1e12
"""Sensing quality of every AP in directions in which prior information suffices."""

LARGEST_FLOOR = 200
"""Number of APs up to which the floor includes the share bounds; beyond, each of them takes seconds."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """Certified statements about every decision on one drop, without a search."""

    problem: Problem
    all_on: Allocation  # with all APs on

    @property
    def infeasible(self) -> bool:
        """Certified infeasibility of the drop."""
        return bool(self.all_on.status == Status.INFEASIBLE)

    @property
    def least_transmit_w(self) -> float:
        """P_all, lower bound on the transmit power of feasible decisions, as adding an AP never increases the optimum, W."""
        return max(0.0, float(self.all_on.bound))

    @cached_property
    def fewest(self) -> int:
        """n_min, lower bound on the number of active APs of feasible decisions."""
        return fewest_active(self.problem, self.least_transmit_w)

    @property
    def floor_w(self) -> float:
        """P_all + n_min P_cir, lower bound on the total power without further solves, W; infinite on infeasible drops."""
        return np.inf if self.infeasible else self.least_transmit_w + self.fewest * self.problem.circuit_power_w

    @cached_property
    def lower_bound_w(self) -> float:
        """Best lower bound on the total power, see `certified_floor_w`, W; infinite on infeasible drops."""
        return np.inf if self.infeasible else certified_floor_w(self.problem, self.all_on)


def certify(problem: Problem, all_on: Allocation | None = None) -> Certificate:
    """Certify bounds for every decision on one drop.

    Args:
        problem: one drop.
        all_on: allocation with all APs on, if already available; by default computed without pilot contamination, a relaxation.
    """
    if all_on is None:
        all_on = fast.solve(replace(problem, pilot_overlap=None), np.ones(problem.M, dtype=bool))
    return Certificate(problem, all_on)


def relative_gap(total_w: Float, lower_bound_w: Float) -> Float:
    """Compute the gap of total powers relative to their lower bounds."""
    return np.asarray(total_w / lower_bound_w - 1.0)


def fewest_active(problem: Problem, least_transmit_w: float = 0.0) -> int:
    """Compute `physics.fewest_active` of one drop as a whole number."""
    return int(physics.fewest_active(problem, least_transmit_w))


def certified_floor_w(problem: Problem, all_on: Allocation) -> float:
    """Compute a lower bound on the total power of feasible decisions, W, as the minimum over bounds for each number n of APs.

    The bound for n is n P_cir plus the largest of P_all, the share cuts and the share relaxation (`docs/bounds.md`). n increases from
    n_min until n P_cir + P_all reaches the least bound found.

    Args:
        problem: one drop; pilot contamination is neglected, a relaxation.
        all_on: `OPTIMAL` with all APs on.
    """
    problem = replace(problem, pilot_overlap=None)
    transmit, least = max(0.0, float(all_on.bound)), np.inf
    size = fewest_active(problem, transmit)
    relaxed = problem.M <= LARGEST_FLOOR and all_on.status == Status.OPTIMAL and problem.prior is None
    shares = ShareRelaxation(problem) if relaxed else None
    while size <= problem.M and (floor := size * problem.circuit_power_w + transmit) < least:
        if shares is None or size == problem.M:
            return min(floor, least)
        bound = max(transmit, shares.cold(all_on, size)[1], share_cut_w(problem, size))
        least = min(least, size * problem.circuit_power_w + bound)
        size += 1
    return least


def removal_bounds(problem: Problem, current: Allocation, rounds: int = 12) -> Float:
    """Compute lower bounds on the transmit power after removing each active AP, from the multipliers of the current set, (n,) W.

    μ and Z are kept, without the removed AP's cap price. λ_k ← 1/Σ_m (v_mk/w_m) over the remaining APs increases λ from its current value
    and stays dual feasible. With shared pilots λ may be infeasible without contamination; then there is no bound (−∞).

    Args:
        problem: one drop.
        current: allocation of one set.
    """
    duals, on = current.multipliers, np.flatnonzero(current.active)
    if pilots_shared(problem):
        return np.full(len(on), -np.inf)
    constant = duals.sensing_value(problem) - problem.max_ap_power_w * (duals.cap.sum() - duals.cap[on])
    lam = np.repeat(duals.sinr[None] * (1.0 - 1e-9), len(on), axis=0)
    w = replace(duals, sinr=lam).prices(problem)[:, on]
    if not (w > 0.0).all():
        return np.full(len(on), -np.inf)
    for _ in range(rounds):
        share = 1.0 / w
        np.fill_diagonal(share, 0.0)
        demand = share @ problem.estimate_gain[on]
        # Rounded down, to stay dual feasible.
        lam = np.maximum(lam, (1.0 - 1e-9) / np.where(demand > 0.0, demand, np.inf))
        w = replace(duals, sinr=lam).prices(problem)[:, on]
    return np.asarray(constant + problem.sinr_threshold * problem.noise_w * lam.sum(-1))


def sensing_qualities(problem: Problem) -> Float:
    """Compute the contribution of each AP at P_max to the sensing requirement, for a set of directions Z.

    For every Z ⪰ 0, tr J⁻¹ ≤ ν implies ⟨Z, J⟩ ≥ (tr Z^½)²/ν. With Z = R(θ) diag(1, r) R(θ)ᵀ, feasibility requires
    Σ_m (P_m/P_max) q_m ≥ 1 for q_m = P_max ⟨Z, Q_m⟩/((1 + √r)²/ν − ⟨Z, J0⟩), or with any q_m where the prior information J0 suffices.

    Returns:
        (D, M), the directions of all targets concatenated.
    """
    ratio = np.array([0.0, 0.01, 0.05, 0.15, 0.35, 0.7])[:, None]
    angle = np.arange(20) * np.pi / 20
    c, s = np.cos(angle), np.sin(angle)
    fan = np.stack([c * c + ratio * s * s, s * s + ratio * c * c, 2.0 * (1.0 - ratio) * c * s], axis=-1).reshape(-1, 3)
    trace = np.repeat((1.0 + np.sqrt(ratio[:, 0])) ** 2, len(angle))
    fan, trace = np.concatenate([fan, [[1.0, 1.0, 0.0]]]), np.append(trace, 4.0)
    scale = problem.max_ap_power_w * problem.crlb_threshold_m2 / trace
    quality = np.einsum("dj,msj,d->sdm", fan, np.asarray(problem.fisher, dtype=np.float64), scale)
    if problem.prior is not None:
        known = (
            problem.crlb_threshold_m2 * np.asarray(problem.prior, dtype=np.float64) @ (fan / trace[:, None]).T
        )  # (S, D)
        left = 1.0 - known[..., None]
        quality = np.where(left > 1e-9, quality / np.maximum(left, 1e-9), SUFFICIENT)
    return np.ascontiguousarray(quality.reshape(-1, problem.M))


class SensingKnapsack:
    """Knapsack bound on the transmit power required for sensing alone, see `sensing_qualities`.

    Args:
        problem: one drop.
    """

    def __init__(self, problem: Problem) -> None:
        self._cap = problem.max_ap_power_w
        self._quality = sensing_qualities(problem)
        self._ranking = np.argsort(-self._quality, axis=1, kind="stable")
        self._recent = np.arange(len(self._quality))
        collected = np.cumsum(np.take_along_axis(self._quality, self._ranking, 1), axis=1)
        full = (collected < 1.0).sum(1)  # APs at their caps in the greedy filling
        missing = np.take_along_axis(np.pad(1.0 - collected, ((0, 0), (1, 0)), constant_values=1.0), full[:, None], 1)
        at = np.minimum(full, problem.M - 1)[:, None]
        last = np.take_along_axis(self._quality, np.take_along_axis(self._ranking, at, 1), 1)
        filling = np.where(full < problem.M, full + missing[:, 0] / np.maximum(last[:, 0], 1e-300), np.inf)
        self.least_w = float(filling.max()) * (1.0 - 1e-9) * self._cap
        """Lower bound on the transmit power of every set, W; infinite if no set meets a CRLB."""

    def rules_out(self, sets: NDArray[np.bool_], limit_w: Float) -> NDArray[np.bool_]:
        """Return which sets (n, M) provably need more transmit power than limits (n,) W; with infinite limits, more than their caps."""
        out = np.empty(len(sets), dtype=bool)
        enumeration.knapsack_infeasible(
            np.ascontiguousarray(sets), limit_w / self._cap, self._quality, self._ranking, self._recent, out
        )
        return out


class DualPool:
    """Pool of multipliers of solved sets, from which a search derives bounds for other sets.

    Args:
        problem: one drop.
        order: (M,) APs in the order of the search.
        size: capacity; the least recently successful entries are evicted first.
    """

    def __init__(self, problem: Problem, order: NDArray[np.int64], size: int = 12) -> None:
        self._problem, self._order, self._size = problem, order, size
        self._entries: list[tuple[Float, Float, float, float]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, duals: Multipliers) -> None:
        """Insert the multipliers of one set at the front."""
        problem = self._problem
        value, total = float(duals.sensing_value(problem)), float(duals.value(problem))
        net = value - problem.max_ap_power_w * float(duals.cap.sum())
        share = min(max(net / total, 0.0), 1.0) if total > 0.0 else 1.0
        entry = (duals.sensing_credits(problem)[self._order], duals.cap[self._order], value, share)
        if all(np.isfinite(part).all() for part in entry):
            self._entries = [entry, *self._entries[: self._size - 1]]

    def arrays(self) -> tuple[Float, Float, Float, Float]:
        """Return sensing credits (d, M), cap prices (d, M), sensing values (d,) in W, and sensing shares of the bound (d,)."""
        credits, caps, values, shares = zip(*self._entries, strict=True)
        return np.array(credits), np.array(caps), np.array(values), np.array(shares)

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Reorder the entries by recent success."""
        self._entries = [self._entries[i] for i in order]


def scaled_gains(problem: Problem, order: NDArray[np.int64] | None = None) -> tuple[Float, Float, Float]:
    """Scale the gains of one drop for the compiled dual screens, with APs in the given order.

    Returns:
        v_mk/Σ_j v_jk and γ ς_mk/Σ_j v_jk, both (M, K), and γσ²/Σ_j v_jk (K,) in W.
    """
    scale = problem.estimate_gain.sum(0)
    rows = slice(None) if order is None else order
    return (
        np.ascontiguousarray((problem.estimate_gain / scale)[rows], dtype=np.float64),
        np.ascontiguousarray((problem.sinr_threshold * problem.gain / scale)[rows], dtype=np.float64),
        np.asarray(problem.sinr_threshold * problem.noise_w / scale, dtype=np.float64),
    )


class DualScreen:
    """Dual bounds on the power of sets from the multipliers of other sets, without a solve: see `enumeration`.

    Args:
        problem: one drop.
    """

    def __init__(self, problem: Problem, size: int = 3) -> None:
        self._cap = problem.max_ap_power_w
        self._pool = DualPool(problem, np.arange(problem.M), size)
        self._gains = scaled_gains(problem)

    def add(self, duals: Multipliers) -> None:
        """Add the multipliers of a solved set."""
        self._pool.add(duals)

    def rules_out(self, sets: NDArray[np.bool_], limit_w: Float) -> NDArray[np.bool_]:
        """Return which sets (n, M) provably need more transmit power than limits (n,) W."""
        out = np.zeros(len(sets), dtype=bool)
        if len(self._pool) == 0:
            return out
        enumeration.screened_sets(
            np.ascontiguousarray(sets), limit_w * (1.0 + 1e-9), *self._gains, self._cap, *self._pool.arrays(), out
        )
        return out
