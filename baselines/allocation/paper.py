"""The paper's relaxed fixed-set problem (9), for comparison; its powers are returned without correction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from baselines.allocation.reference import run_solver, validate
from baselines.allocation.result import Float
from cfisac_env.types import Problem


@dataclass(frozen=True, eq=False)
class PaperAllocation:
    """Solution of problem (9). `feasible` refers to (9), whose points need not meet the requirements of (8)."""

    power: Float  # (M, K) W
    feasible: bool


@dataclass(frozen=True, eq=False)
class _Program:
    program: cp.Problem
    root_share: cp.Parameter
    root_interference: cp.Parameter
    root_noise: cp.Parameter
    sensing: list[cp.Parameter]
    y: cp.Variable
    total: cp.Variable


def solve_paper(problem: Problem, active: NDArray[np.bool_], *, solver: str = "CLARABEL") -> PaperAllocation:
    """Solve (9) for one set, in radiated watts, with the minimal corrections that make it solvable.

        minimise Σ_mk P_mk   s.t.  P_mk ≥ y_mk²,  Σ_k P_mk ≤ P_max,
                                   Σ_m y_mk √v_mk ≥ √γ √(Σ_m ς_mk Σ_k' y_mk'² + σ²),     (10)
                                   b − ν (A + Aᵀ)/2 P ≤ 0 elementwise over active APs    (9d)

    As in the paper, (10) counts interference at y² instead of P, and (9d) imposes on every AP what (8d) imposes on their sum. Unlike
    the paper, the objective is ΣP (with Σy² the sensing power would be free), A is symmetrised (as printed (9d) is often infeasible),
    both are restricted to active APs, and the indices of v and ς are corrected. The excess of P over Σy² at an AP is split evenly over
    the users.

    Args:
        problem: one drop with orthogonal pilots.
        active: (M,) bool.
        solver: `CLARABEL` or `SCS`.

    Raises:
        ValueError: as `reference.solve`.
    """
    validate(problem, active, solver)
    nothing = np.zeros((problem.M, problem.K))
    if not active.any():
        return PaperAllocation(nothing, False)
    gain, estimate, fisher = problem.gain[active], problem.estimate_gain[active], problem.fisher[active]
    cap = problem.max_ap_power_w
    strength = estimate.sum(0)
    model = _program(len(gain), problem.K, problem.S)
    model.root_share.value = np.sqrt(estimate / strength)
    model.root_interference.value = np.sqrt(problem.sinr_threshold * gain / strength)
    model.root_noise.value = np.sqrt(problem.sinr_threshold * problem.noise_w / (cap * strength))
    for s, parameter in enumerate(model.sensing):
        a, b, c = fisher[:, s].T
        matrix = np.outer(a, b) - np.outer(c, c)
        parameter.value = problem.crlb_threshold_m2 * cap * (matrix + matrix.T) / 2 / (a + b)[:, None]
    try:
        run_solver(model.program, solver)
    except cp.error.SolverError:
        return PaperAllocation(nothing, False)
    if model.program.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) or model.y.value is None:
        return PaperAllocation(nothing, False)
    communication = model.y.value**2
    rest = np.maximum(model.total.value - communication.sum(1), 0.0)
    power = nothing.copy()
    power[active] = cap * (communication + rest[:, None] / problem.K)
    return PaperAllocation(power, True)


@lru_cache(maxsize=256)
def _program(n: int, K: int, S: int) -> _Program:
    """Build the parametrised program of a size, once."""
    root_share, root_interference = cp.Parameter((n, K), nonneg=True), cp.Parameter((n, K), nonneg=True)
    root_noise = cp.Parameter(K, nonneg=True)
    sensing = [cp.Parameter((n, n)) for _ in range(S)]
    y = cp.Variable((n, K), nonneg=True)
    amplitude, total = cp.Variable(n), cp.Variable(n)  # √Σ_k y², and Σ_k P
    interference = cp.vstack([cp.multiply(root_interference[:, k], amplitude) for k in range(K)])
    denominator = cp.hstack([interference, cp.reshape(root_noise, (K, 1), order="C")])
    constraints = [
        cp.SOC(amplitude, y, axis=1),
        cp.square(amplitude) <= total,
        total <= 1,
        cp.SOC(cp.sum(cp.multiply(root_share, y), axis=0), denominator, axis=1),
        *(matrix @ total >= 1 for matrix in sensing),
    ]
    program = cp.Problem(cp.Minimize(cp.sum(total)), constraints)
    return _Program(program, root_share, root_interference, root_noise, sensing, y, total)
