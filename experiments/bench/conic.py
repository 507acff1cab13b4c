"""The fixed-set problem as a cone program for Clarabel, without a modelling layer, as a reference for the compiled allocator.

Powers are in caps and each user's rows are divided by Σ_i v_ik, as in the compiled allocator: other scalings end with wrong answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cfisac_env import physics
from cfisac_env.types import Problem


@dataclass(frozen=True, eq=False)
class ConicAnswer:
    """Clarabel's answer to a set."""

    status: str  # Clarabel's own
    transmit_power_w: float
    violation: float  # largest relative violation of a requirement or cap; NaN without powers
    iterations: int
    seconds: float  # processor time of set-up and solution, without that of the matrices


def solve(problem: Problem, active: NDArray[np.bool_], *, sparse_rows: bool = True) -> ConicAnswer:
    """Solve the problem of a set on one thread, at Clarabel's default tolerances.

    With x = p/P_max, V_ik = v_ik/Σ_j v_jk, S_ik = γ ς_ik/Σ_j v_jk and b_k = γσ²/(P_max Σ_j v_jk):

        minimise Σ X   s.t.  X_i = Σ_k x_ik ≤ 1,  t = b + SᵀX,  Σ_i √V_ik r_ik ≥ t_k,  (x_ik + t_k, x_ik − t_k, 2r_ik) ∈ Q³,
                             (J_a + J_b − 2/ν, J_a − J_b, 2J_c, 2/ν) ∈ Q⁴  for every target

    Args:
        problem: one drop with orthogonal pilots.
        active: (M,), not empty.
        sparse_rows: keep t as variables, so that a cone has four entries; otherwise t is substituted, and each of the 2·M·K rows has
            one entry for every AP.
    """
    matrix, offset, cones, linear = program(problem, active)
    if not sparse_rows:
        matrix, offset, cones, linear = _substituted(matrix, offset, cones, linear, int(active.sum()), problem.K)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    quadratic = sparse.csc_matrix((len(linear), len(linear)))
    begin = time.thread_time()
    solution = clarabel.DefaultSolver(quadratic, linear, matrix, offset, cones, settings).solve()
    seconds = time.thread_time() - begin
    n = int(active.sum())
    x = np.array(solution.x)
    power = np.zeros((problem.M, problem.K))
    power[active] = problem.max_ap_power_w * np.maximum(x[: n * problem.K].reshape(n, problem.K), 0.0)
    solved = str(solution.status) in ("Solved", "AlmostSolved")
    return ConicAnswer(
        status=str(solution.status),
        transmit_power_w=float(power.sum()) if solved else np.inf,
        violation=violation(problem, power) if solved else np.nan,
        iterations=int(solution.iterations),
        seconds=seconds,
    )


def violation(problem: Problem, power: NDArray[np.float64]) -> float:
    """Return the largest relative violation by powers (M, K): 1 − γ/γ_thr, 1 − ν/CRLB or P/P_max − 1."""
    sinr = physics.sinr(power, problem.gain, problem.estimate_gain, problem.noise_w, problem.pilot_overlap)
    crlb = physics.crlb(power.sum(-1), problem.fisher)
    return max(
        float(1.0 - (sinr / problem.sinr_threshold).min()),
        float((1.0 - problem.crlb_threshold_m2 / crlb).max(initial=-np.inf)),
        float(power.sum(-1).max() / problem.max_ap_power_w - 1.0),
    )


def program(
    problem: Problem, active: NDArray[np.bool_]
) -> tuple[Any, NDArray[np.float64], list[Any], NDArray[np.float64]]:
    """Return matrix A, offset b, cones and costs of  min cᵀx  s.t.  b − Ax in the cones, over x = (x_ik, r_ik, X_i, t_k)."""
    gain, estimate, fisher = problem.gain[active], problem.estimate_gain[active], problem.fisher[active]
    n, K = gain.shape
    cap, gamma = problem.max_ap_power_w, problem.sinr_threshold
    scale = estimate.sum(0)
    x = np.arange(n * K).reshape(n, K)
    r, X, t = n * K + x, 2 * n * K + np.arange(n), 2 * n * K + n + np.arange(K)
    width = 2 * n * K + n + K
    row: list[NDArray[Any]] = []
    column: list[NDArray[Any]] = []
    value: list[NDArray[Any]] = []
    offset: list[NDArray[Any]] = []
    height = 0

    def add(rows: NDArray[Any], columns: NDArray[Any], values: Any) -> None:
        row.append(height + np.ravel(rows))
        column.append(np.ravel(columns))
        value.append(np.broadcast_to(values, rows.shape).ravel())

    # X_i − Σ_k x_ik = 0 and t_k − Σ_i S_ik X_i = b_k.
    each = np.arange(n)
    add(each, X, 1.0)
    add(np.repeat(each, K), x, -1.0)
    user = np.arange(K)
    add(n + user, t, 1.0)
    add(np.tile(n + user, n), np.repeat(X, K), (-gamma * gain / scale).ravel())
    offset += [np.zeros(n), gamma * problem.noise_w / (cap * scale)]
    height += n + K
    # 1 − X_i ≥ 0 and Σ_i √V_ik r_ik − t_k ≥ 0.
    add(each, X, 1.0)
    add(np.tile(n + user, n), r, -np.sqrt(estimate / scale).ravel())
    add(n + user, t, 1.0)
    offset += [np.ones(n), np.zeros(K)]
    height += n + K
    # The users' cones.
    first = 3 * np.arange(n * K)
    spread = np.tile(t, n)
    for place, sign in ((0, -1.0), (1, 1.0)):
        add(first + place, x, -1.0)
        add(first + place, spread, sign)
    add(first + 2, r, -2.0)
    offset.append(np.zeros(3 * n * K))
    height += 3 * n * K
    # The targets' cones.
    for s in range(problem.S):
        qa, qb, qc = (0.5 * cap * problem.crlb_threshold_m2 * fisher[:, s]).T
        for place, weight in enumerate((qa + qb, qa - qb, 2.0 * qc)):
            add(np.full(n, place), X, -weight)
        offset.append(np.array([-1.0, 0.0, 0.0, 1.0]))
        height += 4
    matrix = sparse.csc_matrix((np.concatenate(value), (np.concatenate(row), np.concatenate(column))), (height, width))
    cones = [
        clarabel.ZeroConeT(n + K),
        clarabel.NonnegativeConeT(n + K),
        *[clarabel.SecondOrderConeT(3)] * (n * K),
        *[clarabel.SecondOrderConeT(4)] * problem.S,
    ]
    linear = np.zeros(width)
    linear[X] = 1.0
    return matrix, np.concatenate(offset), cones, linear


def _substituted(
    matrix: Any, offset: NDArray[np.float64], cones: list[Any], linear: NDArray[np.float64], n: int, K: int
) -> Any:
    """Substitute t = b − D·rest, rows n to n + K of the program, wherever t occurs."""
    rest = len(linear) - K
    kept = np.r_[0:n, n + K : matrix.shape[0]]
    times = matrix[:, rest:]
    shorter = sparse.csc_matrix((matrix[:, :rest] - times @ matrix[n : n + K, :rest])[kept])
    return shorter, (offset - times @ offset[n : n + K])[kept], [clarabel.ZeroConeT(n), *cones[1:]], linear[:rest]
