"""What an allocator answers: powers, multipliers, a dual bound that anyone can check, and a status that rests on both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfisac_env.types import Problem

Float = NDArray[np.float64]


class Status(StrEnum):
    """How a solve ended. Only `OPTIMAL` and `INFEASIBLE` are certified."""

    OPTIMAL = "optimal"  # constraints hold to 1e-7 and the dual bound is within 1e-6 of the power
    INFEASIBLE = "infeasible"  # the multipliers prove that no power within the caps serves this set
    CUT_OFF = "cut-off"  # the dual bound passed the limit that the caller gave
    LOCAL = "local"  # feasible; reused pilots make the problem non-convex, so only locally optimal
    UNKNOWN = "unknown"  # reused pilots: neither a feasible point nor a proof that there is none
    INACCURATE = "inaccurate"  # the solver's point missed a constraint or its bound: do not use it


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Dual variables of the fixed-set problem in SI units (W is the unit of the objective).

    A watt at AP m costs w_m = 1 + μ_m + γ Σ_k λ_k ς_mk − Σ_s ⟨Z_s, Q_ms⟩ ≥ 0, user k asks λ_k Σ_m v_mk/w_m ≤ 1, and the bound is
    γ σ² Σ_k λ_k − P_max Σ_m μ_m + Σ_s (tr Z_s^½)²/ν.
    """

    sinr: Float  # (…, K) λ, in 1 per unit of gain
    cap: Float  # (…, M) μ, zero where the AP is off
    sensing: Float  # (…, S, 3) Z as (Z_aa, Z_bb, Z_ab), positive semidefinite, in W² m²: ⟨Z, Q⟩ = Z_aa q_a + Z_bb q_b + 2 Z_ab q_c

    def prices(self, problem: Problem) -> Float:
        """w_m, (…, M): what a watt at each AP costs."""
        return np.asarray(
            1.0 + self.cap + problem.sinr_threshold * self.sinr @ problem.gain.T - self.sensing_credits(problem)
        )

    def sensing_credits(self, problem: Problem) -> Float:
        """Σ_s ⟨Z_s, Q_ms⟩, (…, M): what the targets pay for a watt at each AP."""
        weights = self.sensing * np.array([1.0, 1.0, 2.0])
        return np.asarray(np.einsum("...sj,msj->...m", weights, problem.fisher), dtype=np.float64)

    def sensing_value(self, problem: Problem) -> Float:
        """Σ_s (tr Z_s^½)²/ν in W, (…,), the root rounded down: a nearly singular Z leaves it only half the digits."""
        za, zb, zc = (self.sensing[..., i] for i in range(3))
        root = np.sqrt(np.maximum((1.0 - 4e-15) * za * zb - zc * zc, 0.0))
        return np.asarray(np.sum(za + zb + 2.0 * root, axis=-1) / problem.crlb_threshold_m2)

    def value(self, problem: Problem) -> Float:
        """The dual objective in W, (…,): a lower bound on the transmit power where the multipliers are dual feasible."""
        users = problem.sinr_threshold * problem.noise_w * self.sinr.sum(-1)
        return np.asarray(users - problem.max_ap_power_w * self.cap.sum(-1) + self.sensing_value(problem))


@dataclass(frozen=True, eq=False)
class Allocation:
    """Answer for one set of APs or, with leading axes, for a batch of them."""

    active: NDArray[np.bool_]  # (…, M)
    power: Float  # (…, M, K) W; zero where infeasible or cut off
    transmit_power: Float  # (…,) W; infinite where infeasible or cut off
    bound: Float  # (…,) W, certified lower bound on the transmit power of this set; infinite where infeasible
    status: NDArray[np.str_]  # (…,) of Status
    multipliers: Multipliers
    iterations: NDArray[np.int64]  # (…,)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """(…,) Whether the powers meet every requirement."""
        return np.asarray((self.status == Status.OPTIMAL) | (self.status == Status.LOCAL))

    def __getitem__(self, index: Any) -> Allocation:
        """The answers at `index` of the leading axes."""
        duals = self.multipliers
        return Allocation(
            active=self.active[index],
            power=self.power[index],
            transmit_power=np.asarray(self.transmit_power[index]),
            bound=np.asarray(self.bound[index]),
            status=np.asarray(self.status[index]),
            multipliers=Multipliers(duals.sinr[index], duals.cap[index], duals.sensing[index]),
            iterations=np.asarray(self.iterations[index]),
        )
