"""Reference allocator: the fixed-set problem as one second-order cone program in cvxpy, with every solution verified."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation.certificate import ORTHOGONAL_ONLY, dual_bound, meets, pilots_shared, raised
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env import physics
from cfisac_env.types import Problem

SOLVERS: dict[str, dict[str, Any]] = {
    "CLARABEL": {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "max_iter": 200},
    "SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 200_000},
}
OPTIMALITY = 1e-6
_ELASTIC_PRICES = (1e2, 1e4, 1e6)


def solve(problem: Problem, active: NDArray[np.bool_], *, solver: str = "CLARABEL") -> Allocation:
    """Minimise the transmit power with which the APs in `active` meet every requirement.

    With x = p/P_max, V_mk = v_mk/Σ_i v_ik, S_mk = γ ς_mk/Σ_i v_ik, b_k = γσ²/(P_max Σ_i v_ik):

        minimise Σ x   s.t.  r_mk² ≤ x_mk t_k,  Σ_m √V_mk r_mk ≥ t_k,  t_k ≥ b_k + Σ_m S_mk X_m,  X_m = Σ_k x_mk ≤ 1,
                             ‖(J_a − J_b, 2J_c, 2/ν)‖ ≤ J_a + J_b − 2/ν  for every target

    The powers are then polished in closed form until every SINR holds exactly, because a solver's tolerance is relative to the largest
    row and leaves weak users short; the bound is recomputed from the multipliers. Infeasibility is proven by the multipliers of a
    problem with elastic constraints.

    Args:
        problem: one drop with orthogonal pilots; without targets (S = 0), communication only.
        active: (…, M), the sets.
        solver: `CLARABEL` or `SCS`.

    Raises:
        ValueError: shared pilots, an unknown solver, gains that aren't positive, or `active` of another shape.
    """
    validate(problem, active, solver)
    sets = active.reshape(-1, problem.M)
    return Allocation.stacked(problem, active, [_solve_one(problem, one, solver) for one in sets])


def validate(problem: Problem, active: NDArray[np.bool_], solver: str) -> None:
    """Refuse arguments that the cvxpy programs cannot take; see `solve`."""
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; valid solvers: {', '.join(SOLVERS)}")
    if problem.batch_shape:
        raise ValueError(
            f"the reference allocator takes one drop, got leading axes {problem.batch_shape}; index the problem"
        )
    if pilots_shared(problem):
        raise ValueError(f"{problem.K} users share pilots, and this solver {ORTHOGONAL_ONLY}")
    if active.dtype != np.bool_ or active.shape[-1:] != (problem.M,):
        raise ValueError(f"active must be bool of shape (…, {problem.M}), got {active.dtype} of shape {active.shape}")
    for name in ("gain", "estimate_gain"):
        array = getattr(problem, name)
        if not (np.isfinite(array).all() and (array > 0).all()):
            raise ValueError(
                f"{name} must be finite and positive everywhere; give links without a path a floor such as 1e-20"
            )


@dataclass(frozen=True, eq=False)
class _Program:
    """Parametrised cvxpy program for n active APs, K users and S targets."""

    program: cp.Problem
    root_share: cp.Parameter
    interference: cp.Parameter
    noise: cp.Parameter
    information: list[cp.Parameter]
    prior: cp.Parameter
    elastic_price: cp.Parameter | None
    x: cp.Variable
    sinr: cp.Constraint
    cap: cp.Constraint
    sensing: list[cp.Constraint]


@lru_cache(maxsize=256)
def _program(n: int, K: int, S: int, elastic: bool) -> _Program:
    """Build the parametrised program of a size, once."""
    root_share = cp.Parameter((n, K), nonneg=True)
    interference = cp.Parameter((n, K), nonneg=True)
    noise = cp.Parameter(K, nonneg=True)
    information = [cp.Parameter((3, n)) for _ in range(S)]
    prior = cp.Parameter((max(S, 1), 3))
    x, r, t = cp.Variable((n, K), nonneg=True), cp.Variable((n, K)), cp.Variable(K, nonneg=True)
    total = cp.sum(x, axis=1)
    price = cp.Parameter(nonneg=True) if elastic else None
    slack = cp.Variable(K + 1 + S, nonneg=True) if elastic else np.zeros(K + 1 + S)
    spread = np.ones((n, 1)) @ cp.reshape(t, (1, K), order="C")
    flat_x, flat_t, flat_r = (cp.vec(e, order="C") for e in (x, spread, r))
    sinr = t >= noise + interference.T @ total
    cap = total <= 1 + slack[K]
    sensing = []
    for s in range(S):
        plus, minus, cross = (information[s][i] @ total + prior[s, i] for i in range(3))
        sensing.append(cp.SOC(plus - 1 + slack[K + 1 + s], cp.hstack([minus, cross, 1])))
    constraints = [
        cp.SOC(flat_x + flat_t, cp.vstack([flat_x - flat_t, 2 * flat_r]), axis=0),
        cp.sum(cp.multiply(root_share, r), axis=0) + slack[:K] >= t,
        sinr,
        cap,
        *sensing,
    ]
    objective = cp.sum(x) if price is None else cp.sum(x) + price * cp.sum(slack)
    program = cp.Problem(cp.Minimize(objective), constraints)
    return _Program(program, root_share, interference, noise, information, prior, price, x, sinr, cap, sensing)


def run_solver(program: cp.Problem, solver: str) -> None:
    """Solve a cvxpy program; interruptions are raised after the solver returns.

    Warm starts are off: with them, the answer would depend in its last digits on what the process has solved before.

    Raises:
        cvxpy.error.SolverError: the solver failed.
        KeyboardInterrupt: an interruption, which SCS would otherwise report as a failure.
    """
    interruption.check()
    with interruption.held(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        program.solve(solver=solver, warm_start=False, **SOLVERS[solver])


def _solve_one(problem: Problem, active: NDArray[np.bool_], solver: str) -> Allocation:
    if not active.any():
        return Allocation.single(problem, active, Status.INFEASIBLE, bound=np.inf)
    found = _run(problem, active, solver, None)
    if found is not None:
        solved, multipliers, iterations = found
        bound = float(dual_bound(problem, active, multipliers))
        for power in _polished(problem, active, solved, multipliers):
            transmit = float(power.sum())
            if meets(problem, power) and transmit - bound <= OPTIMALITY * transmit:
                return Allocation.single(
                    problem,
                    active,
                    Status.OPTIMAL,
                    power=power,
                    bound=bound,
                    multipliers=multipliers,
                    iterations=iterations,
                )
    best = None
    for price in _ELASTIC_PRICES:
        elastic = _run(problem, active, solver, price)
        if elastic is None:
            continue
        best = elastic[1]
        if dual_bound(problem, active, best) > active.sum() * problem.max_ap_power_w:
            return Allocation.single(
                problem, active, Status.INFEASIBLE, bound=np.inf, multipliers=best, iterations=elastic[2]
            )
    if found is not None:
        return Allocation.single(
            problem, active, Status.INACCURATE, bound=bound, multipliers=multipliers, iterations=iterations
        )
    return Allocation.single(problem, active, Status.INACCURATE, multipliers=best)


def _run(
    problem: Problem, active: NDArray[np.bool_], solver: str, elastic_price: float | None
) -> tuple[Float, Multipliers, int] | None:
    """Return powers (n, K), multipliers and iterations of one cvxpy solve; None if the solver fails."""
    gain, estimate = problem.gain[active], problem.estimate_gain[active]
    fisher, cap = problem.fisher[active], problem.max_ap_power_w
    strength = estimate.sum(0)
    model = _program(len(gain), problem.K, problem.S, elastic_price is not None)
    model.root_share.value = np.sqrt(estimate / strength)
    model.interference.value = problem.sinr_threshold * gain / strength
    model.noise.value = problem.sinr_threshold * problem.noise_w / (cap * strength)
    unit = cap * problem.crlb_threshold_m2 / 2
    for s, parameter in enumerate(model.information):
        a, b, c = unit * fisher[:, s].T
        parameter.value = np.stack([a + b, a - b, 2 * c])
    model.prior.value = np.zeros(model.prior.shape)
    if problem.prior is not None:
        a, b, c = problem.crlb_threshold_m2 / 2 * np.asarray(problem.prior, dtype=np.float64).T
        model.prior.value[: problem.S] = np.stack([a + b, a - b, 2 * c], axis=-1)
    if model.elastic_price is not None:
        model.elastic_price.value = elastic_price
    try:
        run_solver(model.program, solver)
    except cp.error.SolverError:
        return None
    if model.x.value is None or model.sinr.dual_value is None:
        return None
    multipliers = Multipliers(
        sinr=np.maximum(model.sinr.dual_value, 0.0) / strength,
        cap=np.zeros(problem.M),
        sensing=np.zeros((problem.S, 3)),
    )
    multipliers.cap[active] = np.maximum(model.cap.dual_value, 0.0)
    for s, constraint in enumerate(model.sensing):
        y0, (y1, y2, _) = float(np.ravel(constraint.dual_value[0])[0]), np.ravel(constraint.dual_value[1])
        multipliers.sensing[s] = unit * np.array([y0 + y1, y0 - y1, y2])
    multipliers = raised(problem, active, multipliers, 2.0 * len(gain) * cap)
    steps = model.program.solver_stats.num_iters
    return cap * np.maximum(model.x.value, 0.0), multipliers, int(steps or 0)


def _polished(problem: Problem, active: NDArray[np.bool_], power: Float, multipliers: Multipliers) -> Iterator[Float]:
    """Yield candidate powers (M, K) that refine a solver's (n, K) at small values, where the square root amplifies its errors.

    At the optimum p_mk = κ_k v_mk/w_m². APs with a price w_m near zero (they radiate for the target) or at their cap keep the solver's
    powers; the others follow from their price, with κ_k chosen so that user k's SINR holds exactly.
    """
    gain, estimate, gamma = problem.gain[active], problem.estimate_gain[active], problem.sinr_threshold
    w = multipliers.prices(problem)[active]
    capped = power.sum(1) > 0.999 * problem.max_ap_power_w
    for cut in (1e-5, 1e-3, 1e-7, 1e-1):
        priced = (w > cut) & ~capped
        shape = np.where(priced[:, None], estimate / np.maximum(w, cut)[:, None] ** 2, 0.0)
        reach = np.sqrt(shape * estimate).sum(0)
        fixed = np.where(priced[:, None], 0.0, power)
        given = np.sqrt(fixed * estimate).sum(0)
        result = power
        for _ in range(100):
            needed = np.sqrt(gamma * (gain.T @ result.sum(1) + problem.noise_w)) * (1 + 1e-12)
            root = np.where(reach > 0, np.maximum(needed - given, 0.0) / np.where(reach > 0, reach, 1.0), 0.0)
            before, result = result, fixed + root**2 * shape
            if np.allclose(before, result, rtol=1e-13, atol=0):
                break
        full = np.zeros((problem.M, problem.K))
        full[active] = result
        # Scaling all powers up removes residual CRLB violations and only raises the SINRs.
        crlb = physics.crlb(full.sum(1), problem.fisher, problem.prior)
        yield full * max(1.0, float(crlb.max(initial=0.0)) / problem.crlb_threshold_m2)
