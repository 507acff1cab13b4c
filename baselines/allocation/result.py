"""Result of an allocator: powers, multipliers, a dual bound that can be recomputed, and a status based on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfisac_env.types import Problem

Float = NDArray[np.float64]


class Status(StrEnum):
    """Outcome of a solve. Only `OPTIMAL` and `INFEASIBLE` are certified."""

    OPTIMAL = "optimal"  # constraints hold to 1e-7 and the dual bound is within 1e-6 of the power
    INFEASIBLE = "infeasible"  # the multipliers prove that no powers within the caps are feasible
    CUT_OFF = "cut-off"  # the dual bound exceeded the caller's cutoff
    LOCAL = "local"  # feasible, but only locally optimal: shared pilots make the problem non-convex
    UNKNOWN = "unknown"  # shared pilots: neither a feasible point nor a proof of infeasibility was found
    INACCURATE = "inaccurate"  # the solver missed a constraint or its bound: do not use


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Dual variables of the fixed-set problem in SI units (W is the unit of the objective).

    They are dual feasible when w_m = 1 + μ_m + γ Σ_k λ_k ς_mk − Σ_s ⟨Z_s, Q_ms⟩ ≥ 0 for every AP and λ_k Σ_m v_mk/w_m ≤ 1 for every
    user, and the bound is γ σ² Σ_k λ_k − P_max Σ_m μ_m + Σ_s [(tr Z_s^½)²/ν − ⟨Z_s, J0_s⟩] with the prior information J0.
    """

    sinr: Float  # (…, K) λ, per unit of gain
    cap: Float  # (…, M) μ, zero where the AP is off
    sensing: Float  # (…, S, 3) Z as (Z_aa, Z_bb, Z_ab), positive semidefinite, in W² m²: ⟨Z, Q⟩ = Z_aa q_a + Z_bb q_b + 2 Z_ab q_c

    @classmethod
    def zero(cls, problem: Problem) -> Multipliers:
        """Build the zero multipliers of one drop, which are dual feasible for every set."""
        return cls(np.zeros(problem.K), np.zeros(problem.M), np.zeros((problem.S, 3)))

    def prices(self, problem: Problem) -> Float:
        """Compute the price w_m of radiated power at each AP, (…, M)."""
        return np.asarray(
            1.0 + self.cap + problem.sinr_threshold * self.sinr @ problem.gain.T - self.sensing_credits(problem)
        )

    def sensing_credits(self, problem: Problem) -> Float:
        """Compute the sensing credit Σ_s ⟨Z_s, Q_ms⟩ of radiated power at each AP, (…, M)."""
        weights = self.sensing * np.array([1.0, 1.0, 2.0])
        return np.asarray(np.einsum("...sj,msj->...m", weights, problem.fisher), dtype=np.float64)

    def sensing_value(self, problem: Problem) -> Float:
        """Compute Σ_s [(tr Z_s^½)²/ν − ⟨Z_s, J0_s⟩] in W, (…,), rounded down: for a nearly singular Z the root loses half of its digits."""
        za, zb, zc = (self.sensing[..., i] for i in range(3))
        root = np.sqrt(np.maximum((1.0 - 4e-15) * za * zb - zc * zc, 0.0))
        value = np.asarray(np.sum(za + zb + 2.0 * root, axis=-1) / problem.crlb_threshold_m2)
        if problem.prior is None:
            return value
        return np.asarray(value - np.sum(self.sensing * np.array([1.0, 1.0, 2.0]) * problem.prior, axis=(-2, -1)))

    def value(self, problem: Problem) -> Float:
        """Compute the dual objective in W, (…,): a lower bound on the transmit power where the multipliers are dual feasible."""
        users = problem.sinr_threshold * problem.noise_w * self.sinr.sum(-1)
        return np.asarray(users - problem.max_ap_power_w * self.cap.sum(-1) + self.sensing_value(problem))


@dataclass(frozen=True, eq=False)
class Allocation:
    """Powers for one set of APs or, with leading axes, for a batch of sets."""

    active: NDArray[np.bool_]  # (…, M)
    power: Float  # (…, M, K) W; zero where infeasible or cut off
    transmit_power: Float  # (…,) W; infinite where infeasible or cut off
    bound: Float  # (…,) W, certified lower bound on the transmit power; infinite where infeasible
    status: NDArray[np.str_]  # (…,) of Status
    multipliers: Multipliers
    iterations: NDArray[np.int64]  # (…,)

    @classmethod
    def single(
        cls,
        problem: Problem,
        active: NDArray[np.bool_],
        status: Status,
        *,
        power: Float | None = None,
        bound: float = 0.0,
        multipliers: Multipliers | None = None,
        iterations: int = 0,
    ) -> Allocation:
        """Build the allocation of one set (M,); without powers (M, K) its transmit power is infinite."""
        return cls(
            active=active,
            power=np.zeros((problem.M, problem.K)) if power is None else power,
            transmit_power=np.asarray(np.inf if power is None else power.sum()),
            bound=np.asarray(bound),
            status=np.asarray(str(status)),
            multipliers=Multipliers.zero(problem) if multipliers is None else multipliers,
            iterations=np.asarray(iterations),
        )

    @classmethod
    def stacked(cls, problem: Problem, active: NDArray[np.bool_], allocations: Sequence[Allocation]) -> Allocation:
        """Combine the allocations of single sets in the order of `active` (…, M)."""
        lead, M, K, S = active.shape[:-1], problem.M, problem.K, problem.S

        def gathered(values: list[Any], *shape: int, dtype: Any = np.float64) -> NDArray[Any]:
            return np.array(values, dtype=dtype).reshape((*lead, *shape))

        return cls(
            active=active.copy(),
            power=gathered([a.power for a in allocations], M, K),
            transmit_power=gathered([a.transmit_power for a in allocations]),
            bound=gathered([a.bound for a in allocations]),
            status=gathered([str(a.status) for a in allocations], dtype="U10"),
            multipliers=Multipliers(
                sinr=gathered([a.multipliers.sinr for a in allocations], K),
                cap=gathered([a.multipliers.cap for a in allocations], M),
                sensing=gathered([a.multipliers.sensing for a in allocations], S, 3),
            ),
            iterations=gathered([a.iterations for a in allocations], dtype=np.int64),
        )

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Feasibility of the powers, (…,)."""
        return np.asarray((self.status == Status.OPTIMAL) | (self.status == Status.LOCAL))

    def total_power(self, circuit_power_w: float) -> Float:
        """Compute transmit plus circuit power, (…,) W; infinite where no powers were found."""
        total = self.transmit_power + circuit_power_w * self.active.sum(-1)
        return np.asarray(np.where(self.feasible, total, np.inf))

    def __getitem__(self, index: Any) -> Allocation:
        """Select the sets at `index` of the leading axes."""
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
