"""Lower bounds on the transmit power of all sets of n APs from the shares of power and signal: derivations in `docs/bounds.md`.

`share_cut_w` needs only the allocator; `ShareRelaxation` is tighter where the SINRs dominate, and bounds the nodes of a search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import fast
from baselines.allocation.certificate import refuse_prior
from baselines.allocation.result import Allocation, Float, Status
from baselines.share_kernels import least, prices, tighten
from cfisac_env.types import Problem

EVALUATIONS = 120
"""Maximum evaluations of the Lagrangian for a bound."""

SOFTNESS = 0.003
"""Softness of the selection of APs, relative to the bounded power."""

COLD_STAGES = ((1.0, 20), (0.1, 30), (0.01, 30), (SOFTNESS, 60))
"""Continuation in softness, with evaluations, from a distant starting point."""


@dataclass(eq=False)
class Point:
    """Multipliers of the share relaxation, with the solutions of the APs' problems; all powers in units of P_max."""

    theta: Float  # (3K + 3S,) α, η, ν of every user, then Z_aa, Z_bb, Z_ab of every target
    power: Float  # (M,) initial P
    xi: Float  # (M,) initial ξ
    price: Float  # (M,) c, infinite where off
    weight: Float  # (M,) a
    unit: float  # power scale for tolerances


class ShareRelaxation:
    """Lower bounds on the transmit power of all sets of n APs with some APs fixed on or off.

    Args:
        problem: one drop with orthogonal pilots.
    """

    def __init__(self, problem: Problem) -> None:
        refuse_prior(problem, "the share relaxation")
        self.problem = problem
        self.cap_w = float(problem.max_ap_power_w)
        gain = np.asarray(problem.gain, dtype=np.float64)
        fisher = np.asarray(problem.fisher, dtype=np.float64) * np.array([1.0, 1.0, 2.0])
        self.inverse_s = np.ascontiguousarray(problem.noise_w / (gain * self.cap_w))
        self.rho = np.ascontiguousarray(np.asarray(problem.estimate_gain, dtype=np.float64) / gain)
        self.Q = np.ascontiguousarray(
            (fisher * self.cap_w * problem.crlb_threshold_m2).reshape(problem.M, 3 * problem.S)
        )
        self.gamma = float(problem.sinr_threshold)

    def start(self, allocation: Allocation) -> Point:
        """Derive multipliers from an exact allocation: α = 2√γ λt, ν = γλt/(1 − h), η = ν(1 − 2h) for h = σ²/t.

        Args:
            allocation: of one feasible, near-optimal set.
        """
        problem, cap = self.problem, self.cap_w
        radiated = allocation.power.sum(-1)
        t = problem.gain.T @ radiated + problem.noise_w
        h = problem.noise_w / t
        worth = allocation.multipliers.sinr * t / cap
        # Keep all prices positive.
        worth = np.maximum(worth, 1e-4 * worth.mean() + 1e-12)
        nu = self.gamma * worth / np.maximum(1.0 - h, 1e-6)
        eta = nu * np.maximum(1.0 - 2.0 * h, 1e-3)
        Z = allocation.multipliers.sensing / (cap * problem.crlb_threshold_m2)
        size = np.maximum(1e-3 * (Z[:, 0] + Z[:, 1]), 1e-6 * float(allocation.bound) / cap)
        Z = Z + size[:, None] * np.array([1.0, 1.0, 0.0])
        theta = np.concatenate([2.0 * math.sqrt(self.gamma) * worth, eta, nu, Z.ravel()])
        power = np.clip(radiated / cap, 1e-2, 1.0)
        price, weight = np.zeros((2, problem.M))
        return Point(theta, power, np.full(problem.M, 1e-2), price, weight, float(allocation.bound) / cap)

    def bound_w(self, theta: Float, size: int, state: NDArray[np.int8] | None = None) -> float:
        """Evaluate the bound of given multipliers, W; infinite when no set of that size fits the state.

        Args:
            theta: (3K + 3S,), positive, every Z positive definite.
            state: (M,) 1 for APs fixed on, −1 off, 0 free; all free by default.
        """
        M = self.problem.M
        state = np.zeros(M, np.int8) if state is None else state
        c, curves = np.empty(M), np.empty((M, 4))
        constant = prices(
            theta, self.inverse_s, self.rho, self.Q, state, self.gamma, np.full(M, 1e-2), np.full(M, 1e-2), c, curves
        )
        return (constant + least(c, state, size, False, np.empty(M, np.int64))) * self.cap_w

    def tighten(
        self,
        point: Point,
        size: int,
        state: NDArray[np.int8] | None = None,
        *,
        cost_w: Float | None = None,
        target_w: float = np.inf,
        evaluations: int = EVALUATIONS,
        softness: float = SOFTNESS,
    ) -> float:
        """Maximise the bound on the transmit power of sets, W, and store the multipliers in `point`.

        Args:
            point: starting point, updated.
            state: see `bound_w`.
            cost_w: (M,) of each AP; if given, the bound is on transmit power plus cost of the sets of at least `size` APs.
            target_w: stop once the bound exceeds it, or, without costs, exceeds the sum of the caps.
            evaluations: maximum number of evaluations of the Lagrangian.
            softness: of the selection of APs, relative to the target.

        Returns:
            Infinite if all of the sets are proven infeasible.
        """
        M = self.problem.M
        most = np.inf if cost_w is not None else size * (1.0 + 1e-6)
        cost = np.zeros(M) if cost_w is None else cost_w / self.cap_w
        target = min(target_w / self.cap_w, most)
        unit = min(target, point.unit)
        value, _ = tighten(
            point.theta, self.inverse_s, self.rho, self.Q, np.zeros(M, np.int8) if state is None else state, size, cost_w is not None, cost,
            self.gamma, point.power, point.xi, softness * unit, unit, target, evaluations, point.price, point.weight,
        )  # fmt: skip
        return np.inf if value > most else value * self.cap_w

    def cold(self, all_on: Allocation, size: int, target_w: float = np.inf) -> tuple[Point, float]:
        """Compute multipliers and bound (W) for all sets of a size from the all-on allocation, by continuation in softness.

        Args:
            target_w: see `tighten`.
        """
        point, best = self.start(all_on), -np.inf
        for softness, evaluations in COLD_STAGES:
            best = max(best, self.tighten(point, size, target_w=target_w, evaluations=evaluations, softness=softness))
            if best > target_w:
                break
        return point, best


def share_cut_w(problem: Problem, size: int, allowed: NDArray[np.bool_] | None = None, rounds: int = 12) -> float:
    """Compute a lower bound on the transmit power of all sets of at most n APs, W, by cuts in the form of additional targets.

    Σ_mk x_mk ≤ n and Cauchy–Schwarz give  Σ_k γ (1/ρ_k + σ²/V_k) ≤ n  with V_k = Σ_m v_mk P_m and ρ_k = max_m v_mk/ς_mk. Its tangent at
    θ > 0 is linear in P, Σ_m c_m P_m ≥ 1, which equals the constraint of a target with q_a = q_b = 2c_m/ν and q_c = 0.

    Args:
        problem: one drop with orthogonal pilots.
        size: n.
        allowed: (M,) APs that the sets may contain; all by default.
        rounds: maximum number of cuts.

    Returns:
        Infinite if all such sets are proven infeasible.
    """
    refuse_prior(problem, "the share cut")
    allowed = np.ones(problem.M, dtype=bool) if allowed is None else allowed
    if not allowed.any():
        return np.inf
    estimate, gamma = np.asarray(problem.estimate_gain, dtype=np.float64), problem.sinr_threshold
    ratio = np.max(estimate[allowed] / problem.gain[allowed], axis=0)
    # Rounded up, so that cuts remain valid.
    room = size * (1.0 + 1e-12) - float(np.sum(gamma / ratio))
    if room <= 0.0:
        return np.inf
    answer = fast.solve(problem, allowed)
    fisher, best = np.asarray(problem.fisher, dtype=np.float64), float(answer.bound)
    for _ in range(rounds):
        if answer.status != Status.OPTIMAL or best > size * problem.max_ap_power_w * (1.0 + 1e-6):
            break
        share = problem.noise_w / (estimate.T @ answer.power.sum(-1))  # σ²/V_k
        if gamma * float(share.sum()) <= room * (1.0 + 1e-6):
            break
        share *= room / (gamma * float(share.sum()))
        slope = gamma / problem.noise_w * (estimate @ share**2) / room
        one = 2.0 * slope / problem.crlb_threshold_m2
        fisher = np.concatenate([fisher, np.stack([one, one, np.zeros_like(one)], axis=-1)[:, None]], axis=1)
        answer = fast.solve(replace(problem, fisher=fisher), allowed)
        best = max(best, float(answer.bound))
    return np.inf if best > size * problem.max_ap_power_w * (1.0 + 1e-6) else best
