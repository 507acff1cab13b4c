"""The paper's own fixed-set problem (9), for comparison: what its relaxation returns, taken as it comes."""

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
    """What problem (9) returns. `feasible` is about (9), whose points need not meet the real requirements."""

    power: Float  # (M, K) W
    feasible: bool
    solver_status: str


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
    """Solve (9) for one set, in radiated watts, mended as little as makes it run.

        minimise Σ_mk P_mk   s.t.  P_mk ≥ y_mk²,  Σ_k P_mk ≤ P_max,
                                   Σ_m y_mk √v_mk ≥ √γ √(Σ_m ς_mk Σ_k' y_mk'² + σ²),     (10)
                                   b − ν (A + Aᵀ)/2 P ≤ 0 elementwise over active APs    (9d)

    As in the paper, (10) counts interference at y², not at P, and (9d) asks of every AP what (8d) asks of their sum. Against the
    print: the objective is ΣP (with Σy² the sensing power would be free), A is made symmetric (as printed (9d) is often infeasible),
    both run over active APs, and v and ς have the right indices. What P exceeds Σy² at an AP is split evenly over the users, where an
    interior point leaves it.

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
        return PaperAllocation(nothing, False, "empty set")
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
    except cp.error.SolverError as error:
        return PaperAllocation(nothing, False, str(error))
    if model.program.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) or model.y.value is None:
        return PaperAllocation(nothing, False, model.program.status)
    heard = model.y.value**2
    rest = np.maximum(model.total.value - heard.sum(1), 0.0)
    power = nothing.copy()
    power[active] = cap * (heard + rest[:, None] / problem.K)
    return PaperAllocation(power, True, model.program.status)


@lru_cache(maxsize=256)
def _program(n: int, K: int, S: int) -> _Program:
    """Built once for each size, then solved again with other parameters."""
    root_share, root_interference = cp.Parameter((n, K), nonneg=True), cp.Parameter((n, K), nonneg=True)
    root_noise = cp.Parameter(K, nonneg=True)
    sensing = [cp.Parameter((n, n)) for _ in range(S)]
    y = cp.Variable((n, K), nonneg=True)
    loud, total = cp.Variable(n), cp.Variable(n)  # √Σ_k y², and Σ_k P
    heard = cp.vstack([cp.multiply(root_interference[:, k], loud) for k in range(K)])
    felt = cp.hstack([heard, cp.reshape(root_noise, (K, 1), order="C")])
    constraints = [
        cp.SOC(loud, y, axis=1),
        cp.square(loud) <= total,
        total <= 1,
        cp.SOC(cp.sum(cp.multiply(root_share, y), axis=0), felt, axis=1),
        *(matrix @ total >= 1 for matrix in sensing),
    ]
    program = cp.Problem(cp.Minimize(cp.sum(total)), constraints)
    return _Program(program, root_share, root_interference, root_noise, sensing, y, total)
