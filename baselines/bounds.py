"""Lower bounds that hold for every set of APs of a kind, so that a search may skip the sets behind them."""

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

LARGEST_FLOOR = 200
"""APs up to which the floor takes more than P_all and n_min: beyond, each of its bounds would take seconds."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proven about every decision on a drop, before any search."""

    problem: Problem
    all_on: Allocation  # all APs on; proves `infeasible`

    @property
    def infeasible(self) -> bool:
        """No decision serves the drop."""
        return bool(self.all_on.status == Status.INFEASIBLE)

    @property
    def least_transmit_w(self) -> float:
        """P_all: no feasible decision transmits less, as an AP more never raises the optimum."""
        return max(0.0, float(self.all_on.bound))

    @cached_property
    def fewest(self) -> int:
        """n_min: no feasible decision has fewer APs on."""
        return fewest_active(self.problem, self.least_transmit_w)

    @property
    def floor_w(self) -> float:
        """P_all + n_min P_cir, a lower bound on the total power that takes no time; infinite when no decision is feasible."""
        return np.inf if self.infeasible else self.least_transmit_w + self.fewest * self.problem.circuit_power_w

    @cached_property
    def lower_bound_w(self) -> float:
        """The best lower bound on the total power, see `certified_floor_w`; infinite when no decision is feasible."""
        return np.inf if self.infeasible else certified_floor_w(self.problem, self.all_on)


def certify(problem: Problem, all_on: Allocation | None = None) -> Certificate:
    """Prove what can be proven about every decision on one drop.

    Args:
        problem: one drop.
        all_on: the answer with all APs on, if it is there already; by default that without contamination by shared pilots, which only
            makes the drop easier.
    """
    if all_on is None:
        all_on = fast.solve(replace(problem, pilot_overlap=None), np.ones(problem.M, dtype=bool))
    return Certificate(problem, all_on)


def relative_gap(total_w: Float, lower_bound_w: Float) -> Float:
    """How far total powers are above lower bounds, relative to these."""
    return np.asarray(total_w / lower_bound_w - 1.0)


def fewest_active(problem: Problem, least_transmit_w: float = 0.0) -> int:
    """Least number of active APs with which a decision can be feasible.

    See `physics.fewest_active`.

    Args:
        problem: one drop; contamination by shared pilots only asks for more.
        least_transmit_w: W, a lower bound on the transmit power of every set.

    Returns:
        The number, M at most.
    """
    return int(physics.fewest_active(problem, least_transmit_w))


def certified_floor_w(problem: Problem, all_on: Allocation) -> float:
    """Lower bound on the total power of every decision that serves the drop, W: the best of the bounds on each number of APs.

    n APs need n P_cir, the transmit power P_all that all APs on need, and what the share cuts and the share relaxation prove
    (`docs/bounds.md`). Numbers are taken from n_min on until n P_cir + P_all reaches the least that was found.

    Args:
        problem: one drop; its users' pilots are taken as orthogonal, which only makes it easier.
        all_on: `OPTIMAL` with all APs on.
    """
    problem = replace(problem, pilot_overlap=None)
    transmit, least = max(0.0, float(all_on.bound)), np.inf
    size = fewest_active(problem, transmit)
    shares = ShareRelaxation(problem) if problem.M <= LARGEST_FLOOR and all_on.status == Status.OPTIMAL else None
    while size <= problem.M and (floor := size * problem.circuit_power_w + transmit) < least:
        if shares is None or size == problem.M:
            return min(floor, least)
        bound = max(transmit, shares.cold(all_on, size)[1], share_cut_w(problem, size))
        least = min(least, size * problem.circuit_power_w + bound)
        size += 1
    return least


def removal_bounds(problem: Problem, current: Allocation, rounds: int = 12) -> Float:
    """Lower bounds on the transmit power without each AP that is on, from the multipliers of the set with all of them, (n,) W.

    μ and Z stay; what the AP's cap cost is saved. Fewer APs answer to λ, so that λ_k ← 1/Σ_m (v_mk/w_m) raises it from where it was,
    dual feasible all the way. With shared pilots λ may be above what is feasible without contamination: then there is no bound.

    Args:
        problem: one drop.
        current: for one set.
        rounds: of that fixed point.
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
        # A hair below, so that rounding leaves it dual feasible.
        lam = np.maximum(lam, (1.0 - 1e-9) / np.where(demand > 0.0, demand, np.inf))
        w = replace(duals, sinr=lam).prices(problem)[:, on]
    return np.asarray(constant + problem.sinr_threshold * problem.noise_w * lam.sum(-1))


def sensing_qualities(problem: Problem) -> Float:
    """How far one AP at P_max meets the sensing requirement, in each of a fan of directions.

    For every Z ⪰ 0, tr J⁻¹ ≤ ν implies ⟨Z, J⟩ ≥ (tr Z^½)²/ν. With Z = R(θ) diag(1, r) R(θ)ᵀ, a set can only be feasible when
    Σ_m (P_m/P_max) q_m ≥ 1 for q_m = P_max ν ⟨Z, Q_m⟩/(1 + √r)².

    Returns:
        (D, M), the directions of every target one after the other.
    """
    ratio = np.array([0.0, 0.01, 0.05, 0.15, 0.35, 0.7])[:, None]
    angle = np.arange(20) * np.pi / 20
    c, s = np.cos(angle), np.sin(angle)
    fan = np.stack([c * c + ratio * s * s, s * s + ratio * c * c, 2.0 * (1.0 - ratio) * c * s], axis=-1).reshape(-1, 3)
    trace = np.repeat((1.0 + np.sqrt(ratio[:, 0])) ** 2, len(angle))
    fan, trace = np.concatenate([fan, [[1.0, 1.0, 0.0]]]), np.append(trace, 4.0)
    scale = problem.max_ap_power_w * problem.crlb_threshold_m2 / trace
    quality = np.einsum("dj,msj,d->sdm", fan, np.asarray(problem.fisher, dtype=np.float64), scale)
    return np.ascontiguousarray(quality.reshape(-1, problem.M))


class SensingKnapsack:
    """What locating the targets costs at least, whatever the users need: see `sensing_qualities`.

    Args:
        problem: one drop.
    """

    def __init__(self, problem: Problem) -> None:
        self._cap = problem.max_ap_power_w
        self._quality = sensing_qualities(problem)
        self._ranking = np.argsort(-self._quality, axis=1, kind="stable")
        self._recent = np.arange(len(self._quality))
        collected = np.cumsum(np.take_along_axis(self._quality, self._ranking, 1), axis=1)
        full = (collected < 1.0).sum(1)  # APs at their caps before the one that completes the filling
        missing = np.take_along_axis(np.pad(1.0 - collected, ((0, 0), (1, 0)), constant_values=1.0), full[:, None], 1)
        at = np.minimum(full, problem.M - 1)[:, None]
        last = np.take_along_axis(self._quality, np.take_along_axis(self._ranking, at, 1), 1)
        filling = np.where(full < problem.M, full + missing[:, 0] / np.maximum(last[:, 0], 1e-300), np.inf)
        self.least_w = float(filling.max()) * (1.0 - 1e-9) * self._cap
        """W, a lower bound on the transmit power of every set; infinite when none can locate a target."""

    def rules_out(self, sets: NDArray[np.bool_], limit_w: Float) -> NDArray[np.bool_]:
        """Whether sets (n, M) are proven to need more transmit power than limits (n,) W; infinite ones leave the caps."""
        out = np.empty(len(sets), dtype=bool)
        enumeration.knapsack_infeasible(
            np.ascontiguousarray(sets), limit_w / self._cap, self._quality, self._ranking, self._recent, out
        )
        return out


class DualPool:
    """Multipliers of sets solved before, from which a search builds bounds for others.

    Args:
        problem: one drop.
        order: (M,) the APs in the order of the search.
        size: how many to keep; the ones that ruled out a set longest ago go first.
    """

    def __init__(self, problem: Problem, order: NDArray[np.int64], size: int = 12) -> None:
        self._problem, self._order, self._size = problem, order, size
        self._entries: list[tuple[Float, Float, float, float]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, duals: Multipliers) -> None:
        """Put the multipliers of one set in front."""
        problem = self._problem
        value, total = float(duals.sensing_value(problem)), float(duals.value(problem))
        net = value - problem.max_ap_power_w * float(duals.cap.sum())
        share = min(max(net / total, 0.0), 1.0) if total > 0.0 else 1.0
        entry = (duals.sensing_credits(problem)[self._order], duals.cap[self._order], value, share)
        if all(np.isfinite(part).all() for part in entry):
            self._entries = [entry, *self._entries[: self._size - 1]]

    def arrays(self) -> tuple[Float, Float, Float, Float]:
        """Rewards (d, M), cap prices (d, M), sensing values (d,) in W, and shares of sensing in the bound (d,)."""
        rewards, caps, values, shares = zip(*self._entries, strict=True)
        return np.array(rewards), np.array(caps), np.array(values), np.array(shares)

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Take over the order in which the entries proved useful."""
        self._entries = [self._entries[i] for i in order]


class DualScreen:
    """Bounds on the power of sets from the multipliers of others, without a solve: see `enumeration`.

    Args:
        problem: one drop.
        size: multipliers to keep.
    """

    def __init__(self, problem: Problem, size: int = 3) -> None:
        scale = problem.estimate_gain.sum(0)
        self._cap = problem.max_ap_power_w
        self._pool = DualPool(problem, np.arange(problem.M), size)
        self._numbers = (
            np.ascontiguousarray(problem.estimate_gain / scale, dtype=np.float64),
            np.ascontiguousarray(problem.sinr_threshold * problem.gain / scale, dtype=np.float64),
            np.asarray(problem.sinr_threshold * problem.noise_w / scale, dtype=np.float64),
        )

    def add(self, duals: Multipliers) -> None:
        """Learn from the multipliers of a set that was solved."""
        self._pool.add(duals)

    def rules_out(self, sets: NDArray[np.bool_], limit_w: Float) -> NDArray[np.bool_]:
        """Whether sets (n, M) are proven to need more transmit power than limits (n,) W."""
        out = np.zeros(len(sets), dtype=bool)
        if len(self._pool) == 0:
            return out
        enumeration.screened_sets(
            np.ascontiguousarray(sets), limit_w * (1.0 + 1e-9), *self._numbers, self._cap, *self._pool.arrays(), out
        )
        return out
