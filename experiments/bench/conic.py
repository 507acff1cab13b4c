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
    aps, users, links = sparse.identity(n), sparse.identity(K), sparse.identity(n * K)
    by_user = sparse.kron(np.ones((n, 1)), users)  # entries of t for every link
    amplitudes = sparse.hstack([sparse.diags(row) for row in np.sqrt(estimate / scale)])  # Σ_i √V_ik r_ik

    def column(*entries: float) -> Any:
        return sparse.csc_matrix(np.array(entries)[:, None])

    # The cones of the targets act on X alone.
    qa, qb, qc = 0.5 * cap * problem.crlb_threshold_m2 * np.moveaxis(fisher, -1, 0)  # (n, S) each
    sensing = np.stack([qa + qb, qa - qb, 2.0 * qc, np.zeros_like(qa)]).transpose(2, 0, 1).reshape(-1, n)
    rows: list[list[Any]] = [
        [-sparse.kron(aps, np.ones((1, K))), None, aps, None],  # X_i − Σ_k x_ik = 0
        [None, None, sparse.csc_matrix(-gamma * (gain / scale).T), users],  # t_k − Σ_i S_ik X_i = b_k
        [None, None, aps, None],  # 1 − X_i ≥ 0
        [None, -amplitudes, None, users],  # Σ_i √V_ik r_ik − t_k ≥ 0
        [
            sparse.kron(links, column(-1, -1, 0)),
            sparse.kron(links, column(0, 0, -2)),
            None,
            sparse.kron(by_user, column(-1, 1, 0)),
        ],  # cones of the users
        [None, None, sparse.csc_matrix(-sensing), None],
    ]
    matrix = sparse.csc_matrix(sparse.bmat(rows if problem.S else rows[:-1]))
    matrix.eliminate_zeros()  # of Kronecker products
    offset = np.concatenate(
        [np.zeros(n), gamma * problem.noise_w / (cap * scale), np.ones(n), np.zeros(K + 3 * n * K)]
        + [np.array([-1.0, 0.0, 0.0, 1.0])] * problem.S
    )
    cones = [
        clarabel.ZeroConeT(n + K),
        clarabel.NonnegativeConeT(n + K),
        *[clarabel.SecondOrderConeT(3)] * (n * K),
        *[clarabel.SecondOrderConeT(4)] * problem.S,
    ]
    linear = np.concatenate([np.zeros(2 * n * K), np.ones(n), np.zeros(K)])
    return matrix, offset, cones, linear


def _substituted(
    matrix: Any, offset: NDArray[np.float64], cones: list[Any], linear: NDArray[np.float64], n: int, K: int
) -> Any:
    """Substitute t = b − D·rest, rows n to n + K of the program, wherever t occurs."""
    rest = len(linear) - K
    kept = np.r_[0:n, n + K : matrix.shape[0]]
    times = matrix[:, rest:]
    shorter = sparse.csc_matrix((matrix[:, :rest] - times @ matrix[n : n + K, :rest])[kept])
    return shorter, (offset - times @ offset[n : n + K])[kept], [clarabel.ZeroConeT(n), *cones[1:]], linear[:rest]
