"""Exact powers for hundreds to a hundred thousand APs: a working set, and one composite AP per user for all other APs.

At prices w_m the cheapest powers of user k at the APs R outside the working set are proportional to d_mk = v_mk/w_m². For user k, R thus
acts as one AP with estimate gain (Σ_R v/w)²/Σ_R d, gains Σ_R ς_mj d_mk/Σ_R d to users j, and the d-weighted mean of R's Fisher information.
The restricted problem on the working set and these K composites is small; its solution extends to powers p_mk = q_k d_mk/Σ_R d of the whole
network, and its multipliers give prices of all M APs and a bound. The error is of second order in w, so one or two rounds suffice. Time and
memory are linear in M·K.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env import physics
from cfisac_env.types import Problem

ROUNDS = 12
"""Maximum number of rounds."""

GAP = 9e-7
"""Relative gap between power and bound at which a solution is optimal, as in `interior_point`."""

NEAREST, INFORMATIVE, DIRECTIONS, PER_DIRECTION = 3, 24, 8, 4
"""Initial working set: number of APs per user, by trace of the Fisher information, and per direction, for so many directions."""


def least_size(users: int, targets: int) -> int:
    """Return the size from which sets are solved faster by columns than directly."""
    return 60 + 6 * users + 80 * targets


def solve_one(
    problem: Problem, active: NDArray[np.bool_], cutoff_w: float, direct: Callable[[Problem], Allocation]
) -> Allocation | None:
    """Minimise the transmit power of one set; return None if neither an optimum nor a proof of infeasibility was reached.

    Args:
        problem: one drop with orthogonal pilots.
        active: (M,) the set.
        cutoff_w: W; stop with `CUT_OFF` once the bound exceeds it.
        direct: solver of a small problem with all APs on.
    """
    on = np.flatnonzero(active)
    gain, estimate = (
        np.ascontiguousarray(np.asarray(a, dtype=np.float64)[on]) for a in (problem.gain, problem.estimate_gain)
    )
    fisher = np.ascontiguousarray(np.asarray(problem.fisher, dtype=np.float64)[on])
    network = _Network(replace(problem, gain=gain, estimate_gain=estimate, fisher=fisher, pilot_overlap=None))
    w, working = network.first_prices(), network.first_set()
    kept, best_bound = network.sensing_proof()
    steps = 0
    if best_bound > len(on) * problem.max_ap_power_w * (1.0 + 1e-6):
        return _whole(problem, on, np.zeros((0, 0)), kept, np.inf, Status.INFEASIBLE, steps)
    for _ in range(ROUNDS):
        interruption.check()
        if 2 * working.sum() > len(on):
            return None
        small, spread, total = network.restricted(w, working)
        answer = direct(small)
        steps += int(answer.iterations)
        if answer.status not in (Status.OPTIMAL, Status.INFEASIBLE):
            return None
        duals, bound, w = network.bound(network.lifted(answer, working))
        if bound > best_bound:
            kept, best_bound = duals, bound
        status = None
        power = np.zeros((len(on), problem.K))
        if best_bound > len(on) * problem.max_ap_power_w * (1.0 + 1e-6):
            status, best_bound = Status.INFEASIBLE, np.inf
        elif best_bound > cutoff_w:
            status = Status.CUT_OFF
        elif answer.status == Status.OPTIMAL:
            power = network.spread(answer.power, working, spread, total)
            radiated = power.sum(1)
            transmit = float(radiated.sum())
            if transmit - best_bound <= GAP * transmit and radiated.max() <= problem.max_ap_power_w * (1.0 + 4e-8):
                status = Status.OPTIMAL
            else:
                working |= radiated > 1e-3 * transmit
        if status is not None:
            return _whole(problem, on, power, kept, best_bound, status, steps)
        working |= network.promoted(w, duals)
        w = np.maximum(w, 1e-3)
    return None


class _Network:
    """APs of the set, with the computations over all of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.gamma = float(problem.sinr_threshold)

    def first_prices(self) -> Float:
        """Approximate the prices w without caps and sensing: λ ← 1/Σ v/w, w ← 1 + γ Σ λ ς."""
        problem = self.problem
        w = np.ones(problem.M)
        for _ in range(6):
            w = 1.0 + self.gamma * (problem.gain @ (1.0 / (problem.estimate_gain.T @ (1.0 / w))))
        return np.asarray(w)

    def first_set(self) -> NDArray[np.bool_]:
        """Select the initial working set, (M,)."""
        problem = self.problem
        working = np.zeros(problem.M, dtype=bool)

        def take(scores: Float, count: int) -> None:
            count = min(count, problem.M)
            working[np.argpartition(-scores, count - 1, axis=0)[:count].ravel()] = True

        take(problem.estimate_gain, NEAREST)
        qa, qb, qc = (problem.fisher[..., i] for i in range(3))
        take(qa + qb, INFORMATIVE)
        for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
            c, s = math.cos(angle), math.sin(angle)
            take(c * c * qa + s * s * qb + 2.0 * c * s * qc, PER_DIRECTION)
        return working

    def restricted(self, w: Float, working: NDArray[np.bool_]) -> tuple[Problem, Float, Float]:
        """Build the restricted problem, working set first, then one composite per user; with d (|R|, K) and its sums (K,)."""
        problem, K = self.problem, self.problem.K
        gain, estimate, fisher = problem.gain[~working], problem.estimate_gain[~working], problem.fisher[~working]
        inverse = 1.0 / w[~working]
        d = estimate * (inverse * inverse)[:, None]
        total = d.sum(0)
        cross = (d.T @ gain) / total[:, None]
        own = (estimate.T @ inverse) ** 2 / total
        small = np.tile(1e-14 * estimate.sum(0), (K, 1))
        np.fill_diagonal(small, own)
        information = (d.T @ fisher.reshape(len(d), -1)).reshape(K, *fisher.shape[1:]) / total[:, None, None]
        return (
            replace(
                problem,
                gain=np.concatenate([problem.gain[working], cross]),
                estimate_gain=np.concatenate([problem.estimate_gain[working], small]),
                fisher=np.concatenate([problem.fisher[working], information]),
            ),
            d,
            total,
        )

    def spread(self, power: Float, working: NDArray[np.bool_], d: Float, total: Float) -> Float:
        """Extend powers of the restricted problem to powers (M, K) of the network."""
        whole = np.empty((self.problem.M, self.problem.K))
        count = int(working.sum())
        whole[working] = power[:count]
        composite = power[count:]
        # Composites radiate almost exclusively for their own users.
        shared = d @ ((composite - np.diag(np.diag(composite))) / total[:, None])
        whole[~working] = d * (np.diag(composite) / total) + shared
        return whole

    def sensing_proof(self) -> tuple[Multipliers, float]:
        """Return multipliers that prove infeasibility where all APs at P_max miss a CRLB, with their bound; otherwise zeros.

        With J = P_max Σ_m Q_m, Z ∝ J⁻² and μ = ⟨Z, Q⟩ − 1 the bound is M P_max + c (tr J⁻¹/ν − 1) tr J⁻¹ for any large c.
        """
        problem = self.problem
        zero = Multipliers.zero(problem)
        if problem.S == 0:
            return zero, 0.0
        information = physics.fisher_matrix(np.full(problem.M, problem.max_ap_power_w), problem.fisher, problem.prior)
        crlb = physics.trace_inverse(information)
        worst = int(np.argmax(crlb))
        if not problem.crlb_threshold_m2 * (1.0 + 1e-6) < crlb[worst] < np.inf:
            return zero, 0.0
        a, b, c = information[worst]
        square = np.array([b * b + c * c, a * a + c * c, -c * (a + b)]) / (a * b - c * c) ** 2
        excess = (crlb[worst] / problem.crlb_threshold_m2 - 1.0) * crlb[worst]
        credit = problem.fisher[:, worst] @ (square * np.array([1.0, 1.0, 2.0]))
        # Large enough that every credit exceeds 1 and the excess outweighs all caps.
        scale = max(2.0 / float(credit[credit > 0.0].min()), problem.M * problem.max_ap_power_w / excess)
        Z = zero.sensing.copy()
        Z[worst] = scale * square
        return self.bound(Multipliers(zero.sinr, np.maximum(scale * credit - 1.0, 0.0), Z))[:2]

    def lifted(self, answer: Allocation, working: NDArray[np.bool_]) -> Multipliers:
        """Extend multipliers of the restricted problem to the network; those of a proof of infeasibility are scaled up."""
        problem, duals = self.problem, answer.multipliers
        cap = np.zeros(problem.M)
        cap[working] = duals.cap[: int(working.sum())]
        scale = 1.0 if answer.status == Status.OPTIMAL else 4.0 * problem.M / len(duals.cap)
        return Multipliers(scale * duals.sinr, scale * cap, scale * duals.sensing)

    def bound(self, duals: Multipliers) -> tuple[Multipliers, float, Float]:
        """Repair multipliers to dual feasibility; return them, their bound, and the prices before the repair."""
        problem = self.problem
        Z, lam, cap = duals.sensing, duals.sinr, duals.cap
        credit = duals.sensing_credits(problem)
        w = first = duals.prices(problem)
        for _ in range(60):
            short = w <= 0.0
            if short.any():
                cap = np.where(short, cap - w + 1e-12 * (1.0 + np.abs(credit)), cap)
                w = np.where(short, 1e-12 * (1.0 + np.abs(credit)), w)
            demand = lam * (problem.estimate_gain.T @ (1.0 / w))
            if (demand <= 1.0).all() and not short.any():
                break
            # Rounded down, to stay dual feasible.
            lam = lam / np.maximum(1.0, demand * (1.0 + 1e-12))
            w = Multipliers(lam, cap, Z).prices(problem)
        else:
            return Multipliers.zero(problem), 0.0, first
        feasible = Multipliers(lam, cap, Z)
        return feasible, float(feasible.value(problem)) * (1.0 - 1e-12), first

    def promoted(self, w: Float, duals: Multipliers) -> NDArray[np.bool_]:
        """Select APs to add to the working set, by low price or high sensing credit, (M,)."""
        return np.asarray((w < 0.2) | (duals.sensing_credits(self.problem) > 0.6))


def _whole(
    problem: Problem, on: NDArray[np.int64], power: Float, duals: Multipliers, bound: float, status: Status, steps: int
) -> Allocation:
    """Build the allocation of the set from arrays over its APs."""
    active, cap = np.zeros(problem.M, dtype=bool), np.zeros(problem.M)
    active[on], cap[on] = True, duals.cap
    full = None
    if status == Status.OPTIMAL:
        full = np.zeros((problem.M, problem.K))
        full[on] = power
    multipliers = Multipliers(duals.sinr, cap, duals.sensing)
    return Allocation.single(
        problem, active, status, power=full, bound=bound, multipliers=multipliers, iterations=steps
    )
