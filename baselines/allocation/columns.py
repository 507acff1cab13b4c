"""Exact powers for hundreds to a hundred thousand APs: a working set of APs, and one composite AP a user for all the others.

At prices w_m user k spreads its power over the APs outside the working set, R, as d_mk = v_mk/w_m². So all of R is to user k one AP with
the estimate gain (Σ_R v/w)²/Σ_R d, the gains Σ_R ς_mj d_mk/Σ_R d to users j, and the d-weighted mean of R's Fisher information. The problem
on the working set and these K composites is small, every answer to it is powers p_mk = q_k d_mk/Σ_R d of the whole network, and its
multipliers give prices of all M APs, and with them a bound. The loss is of second order in w: one or two rounds close it. Time and memory
are linear in M·K.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env.types import Problem

ROUNDS = 12
"""Composites are built so often, at most."""

GAP = 9e-7
"""Relative distance of power and bound at which an answer is optimal, as everywhere."""

NEAREST, INFORMATIVE, DIRECTIONS, EACH = 3, 24, 8, 4
"""Working set at the start: best APs of each user, by trace of the Fisher information, and so many in each of so many directions."""


def fewest(users: int, targets: int) -> int:
    """How many APs a set has at least that is solved faster by columns than directly."""
    return 60 + 6 * users + 80 * targets


def solve_one(
    problem: Problem, active: NDArray[np.bool_], cutoff_w: float, direct: Callable[[Problem], Allocation]
) -> Allocation | None:
    """Least transmit power of one set of APs; None when neither an optimum nor a proof of infeasibility was reached.

    Args:
        problem: one drop with orthogonal pilots.
        active: (M,) the set.
        cutoff_w: W, stop with `CUT_OFF` as soon as the bound is above.
        direct: solves a small problem with all APs on.
    """
    on = np.flatnonzero(active)
    gain, estimate = (
        np.ascontiguousarray(np.asarray(a, dtype=np.float64)[on]) for a in (problem.gain, problem.estimate_gain)
    )
    fisher = np.ascontiguousarray(np.asarray(problem.fisher, dtype=np.float64)[on])
    network = _Network(replace(problem, gain=gain, estimate_gain=estimate, fisher=fisher, pilot_overlap=None))
    w, inside = network.first_prices(), network.first_set()
    kept, best_bound = network.hopeless()
    steps = 0
    if best_bound > len(on) * problem.max_ap_power_w * (1.0 + 1e-6):
        return _whole(problem, on, np.zeros((0, 0)), kept, np.inf, Status.INFEASIBLE, steps)
    for _ in range(ROUNDS):
        interruption.check()
        if 2 * inside.sum() > len(on):
            return None
        small, spread, total = network.composed(w, inside)
        answer = direct(small)
        steps += int(answer.iterations)
        if answer.status not in (Status.OPTIMAL, Status.INFEASIBLE):
            return None
        duals, bound, w = network.bound(network.extended(answer, inside))
        if bound > best_bound:
            kept, best_bound = duals, bound
        status = None
        power = np.zeros((len(on), problem.K))
        if best_bound > len(on) * problem.max_ap_power_w * (1.0 + 1e-6):
            status, best_bound = Status.INFEASIBLE, np.inf
        elif best_bound > cutoff_w:
            status = Status.CUT_OFF
        elif answer.status == Status.OPTIMAL:
            power = network.spread(answer.power, inside, spread, total)
            radiated = power.sum(1)
            transmit = float(radiated.sum())
            if transmit - best_bound <= GAP * transmit and radiated.max() <= problem.max_ap_power_w * (1.0 + 4e-8):
                status = Status.OPTIMAL
            else:
                inside |= radiated > 1e-3 * transmit
        if status is not None:
            return _whole(problem, on, power, kept, best_bound, status, steps)
        inside |= network.crowded(w, duals)
        w = np.maximum(w, 1e-3)
    return None


class _Network:
    """The APs of the set, and what is computed over all of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.gamma = float(problem.sinr_threshold)

    def first_prices(self) -> Float:
        """What a watt costs where users alone decide, roughly: λ ← 1/Σ v/w, w ← 1 + γ Σ λ ς."""
        problem = self.problem
        w = np.ones(problem.M)
        for _ in range(6):
            w = 1.0 + self.gamma * (problem.gain @ (1.0 / (problem.estimate_gain.T @ (1.0 / w))))
        return np.asarray(w)

    def first_set(self) -> NDArray[np.bool_]:
        """(M,) The APs that matter to a user or a target by themselves."""
        problem = self.problem
        inside = np.zeros(problem.M, dtype=bool)

        def take(scores: Float, count: int) -> None:
            count = min(count, problem.M)
            inside[np.argpartition(-scores, count - 1, axis=0)[:count].ravel()] = True

        take(problem.estimate_gain, NEAREST)
        qa, qb, qc = (problem.fisher[..., i] for i in range(3))
        take(qa + qb, INFORMATIVE)
        for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
            c, s = math.cos(angle), math.sin(angle)
            take(c * c * qa + s * s * qb + 2.0 * c * s * qc, EACH)
        return inside

    def composed(self, w: Float, inside: NDArray[np.bool_]) -> tuple[Problem, Float, Float]:
        """The small problem: working set first, then a composite for each user; with d (|R|, K) and its sums (K,)."""
        problem, K = self.problem, self.problem.K
        gain, estimate, fisher = problem.gain[~inside], problem.estimate_gain[~inside], problem.fisher[~inside]
        inverse = 1.0 / w[~inside]
        d = estimate * (inverse * inverse)[:, None]
        total = d.sum(0)
        heard = (d.T @ gain) / total[:, None]
        own = (estimate.T @ inverse) ** 2 / total
        small = np.tile(1e-14 * estimate.sum(0), (K, 1))
        np.fill_diagonal(small, own)
        seen = (d.T @ fisher.reshape(len(d), -1)).reshape(K, *fisher.shape[1:]) / total[:, None, None]
        return (
            replace(
                problem,
                gain=np.concatenate([problem.gain[inside], heard]),
                estimate_gain=np.concatenate([problem.estimate_gain[inside], small]),
                fisher=np.concatenate([problem.fisher[inside], seen]),
            ),
            d,
            total,
        )

    def spread(self, power: Float, inside: NDArray[np.bool_], d: Float, total: Float) -> Float:
        """Powers of the small problem as powers (M, K) of the network."""
        whole = np.empty((self.problem.M, self.problem.K))
        count = int(inside.sum())
        whole[inside] = power[:count]
        composite = power[count:]
        # What a composite radiates for its own user; for the others it is next to nothing, and goes the same way.
        shared = d @ ((composite - np.diag(np.diag(composite))) / total[:, None])
        whole[~inside] = d * (np.diag(composite) / total) + shared
        return whole

    def hopeless(self) -> tuple[Multipliers, float]:
        """Multipliers that prove it, with their bound, where all APs at P_max miss a CRLB; else zeros, and the bound zero.

        With J = P_max Σ_m Q_m, Z ∝ J⁻² and μ = ⟨Z, Q⟩ − 1 the bound is M P_max + c (tr J⁻¹/ν − 1) tr J⁻¹ for any large c.
        """
        problem = self.problem
        zero = Multipliers(np.zeros(problem.K), np.zeros(problem.M), np.zeros((problem.S, 3)))
        if problem.S == 0:
            return zero, 0.0
        qa, qb, qc = (problem.max_ap_power_w * problem.fisher[..., i].sum(0) for i in range(3))
        determinant = qa * qb - qc * qc
        crlb = np.where(determinant > 0.0, (qa + qb) / np.where(determinant > 0.0, determinant, 1.0), np.inf)
        worst = int(np.argmax(crlb))
        if not problem.crlb_threshold_m2 * (1.0 + 1e-6) < crlb[worst] < np.inf:
            return zero, 0.0
        a, b, c = qa[worst], qb[worst], qc[worst]
        square = np.array([b * b + c * c, a * a + c * c, -c * (a + b)]) / determinant[worst] ** 2
        excess = (crlb[worst] / problem.crlb_threshold_m2 - 1.0) * crlb[worst]
        reward = problem.fisher[:, worst] @ (square * np.array([1.0, 1.0, 2.0]))
        # Every AP is worth more than its watt, and the excess more than all caps.
        scale = max(2.0 / float(reward[reward > 0.0].min()), problem.M * problem.max_ap_power_w / excess)
        Z = zero.sensing.copy()
        Z[worst] = scale * square
        return self.bound(Multipliers(zero.sinr, np.maximum(scale * reward - 1.0, 0.0), Z))[:2]

    def extended(self, answer: Allocation, inside: NDArray[np.bool_]) -> Multipliers:
        """Multipliers of the small problem for the network; those of a proof of infeasibility as large as the network needs."""
        problem, duals = self.problem, answer.multipliers
        cap = np.zeros(problem.M)
        cap[inside] = duals.cap[: int(inside.sum())]
        scale = 1.0 if answer.status == Status.OPTIMAL else 4.0 * problem.M / len(duals.cap)
        return Multipliers(scale * duals.sinr, scale * cap, scale * duals.sensing)

    def bound(self, duals: Multipliers) -> tuple[Multipliers, float, Float]:
        """Multipliers near the given ones that are dual feasible, their bound, and the prices before they were made so."""
        problem = self.problem
        Z, lam, cap = duals.sensing, duals.sinr, duals.cap
        reward = duals.sensing_credits(problem)
        w = first = duals.prices(problem)
        for _ in range(60):
            short = w <= 0.0
            if short.any():
                cap = np.where(short, cap - w + 1e-12 * (1.0 + np.abs(reward)), cap)
                w = np.where(short, 1e-12 * (1.0 + np.abs(reward)), w)
            demand = lam * (problem.estimate_gain.T @ (1.0 / w))
            if (demand <= 1.0).all() and not short.any():
                break
            # A hair below, so that rounding leaves it feasible.
            lam = lam / np.maximum(1.0, demand * (1.0 + 1e-12))
            w = Multipliers(lam, cap, Z).prices(problem)
        else:
            return Multipliers(lam * 0.0, cap * 0.0, Z * 0.0), 0.0, first
        feasible = Multipliers(lam, cap, Z)
        return feasible, float(feasible.value(problem)) * (1.0 - 1e-12), first

    def crowded(self, w: Float, duals: Multipliers) -> NDArray[np.bool_]:
        """(M,) APs too cheap, or too good at sensing, to be one of many."""
        return np.asarray((w < 0.2) | (duals.sensing_credits(self.problem) > 0.6))


def _whole(
    problem: Problem, on: NDArray[np.int64], power: Float, duals: Multipliers, bound: float, status: Status, steps: int
) -> Allocation:
    """The answer for the set, with zeros where APs are off."""
    active, cap = np.zeros(problem.M, dtype=bool), np.zeros(problem.M)
    active[on], cap[on] = True, duals.cap
    everything = np.zeros((problem.M, problem.K))
    if status == Status.OPTIMAL:
        everything[on] = power
    return Allocation(
        active=active,
        power=everything,
        transmit_power=np.asarray(power.sum() if status == Status.OPTIMAL else np.inf),
        bound=np.asarray(bound),
        status=np.asarray(status),
        multipliers=Multipliers(duals.sinr, cap, duals.sensing),
        iterations=np.asarray(steps),
    )
