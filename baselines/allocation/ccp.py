"""Power allocation with shared pilots: the convex–concave procedure in amplitudes, feasible at every iterate, with a certified bound.

Contamination makes the fixed-set problem non-convex in the powers. In amplitudes y = √p every SINR is a second-order cone and only the
sensing constraint is reverse convex. Linearised as P_m ≥ 2 y₀·y − ‖y₀‖², it leaves a second-order cone program whose points are all
feasible; relinearised at its solution, the power never increases (Yuille & Rangarajan, 2003; Lipp & Boyd, 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import clarabel
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from baselines import interruption
from baselines.allocation import fast
from baselines.allocation.certificate import contamination, dual_bound, meets, raised, refuse_prior
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env import physics
from cfisac_env.types import Problem

MAX_ITERATIONS = 60
MIN_DECREASE = 1e-6
"""Relative decrease of the power below which the procedure has converged."""

SEEK_ITERATIONS = 5
"""Maximum number of elastic programs at one price."""

THRESHOLD_MARGIN = 1e-8
"""Relative margin of a program to the thresholds, between the solver's accuracy and the feasibility tolerance."""

ELASTIC_PRICES = (1e1, 1e3, 1e5)
"""Prices of constraint violations in the search for a feasible point, in units of P₀."""


def solve(problem: Problem, active: NDArray[np.bool_], *, cutoff_w: ArrayLike | None = None) -> Allocation:
    """Minimise the transmit power of the APs in `active` locally when users share pilots.

    With x = √(p/P_max), n_m ≥ ‖x_m‖, V_k = Σ_m v_mk and x₀ the previous iterate:

        minimise Σ_m n_m²   subject to   x ≥ 0,   n_m ≤ 1,
            Σ_m √(v_mk/V_k) x_mk ≥ √(γ/V_k) ‖( √G_kj Σ_m √v_mj x_mj ς_mk/ς_mj  ∀ j ≠ k,   √ς_mk n_m  ∀ m,   σ/√P_max )‖   for every k,
            ‖(J_a − J_b, 2J_c, 2/ν)‖ ≤ J_a + J_b − 2/ν   with   J = P_max Σ_m (2 x₀_m·x_m − ‖x₀_m‖²) Q_m   for every target

    The first x₀ is the optimum without contamination. If its program is infeasible, elastic programs with increasing prices search for a
    feasible point.

    A `LOCAL` point satisfies every constraint within 1e-7. Its power is locally optimal, and its certified `bound` (`dual_bound`) limits
    the distance to the global optimum. `INFEASIBLE` is proven by the multipliers, as without contamination. `UNKNOWN` means that neither
    a feasible point nor a proof was found.

    Args:
        problem: one drop, with or without `pilot_overlap`.
        active: (…, M) bool, the sets.
        cutoff_w: W, broadcast over the sets: return `CUT_OFF` where the bound without contamination exceeds it.

    Raises:
        ValueError: a batch of drops, an overlap that isn't (K, K) in [0, 1], or arguments that `fast.solve` refuses.
        TypeError: `active` is not boolean.
    """
    _validate(problem)
    orthogonal = fast.solve(replace(problem, pilot_overlap=None), active, cutoff_w=cutoff_w)
    lead = np.shape(active)[:-1]
    limits = np.broadcast_to(np.asarray(np.inf if cutoff_w is None else cutoff_w, dtype=np.float64), lead)
    answers = []
    for index in np.ndindex(lead):
        interruption.check()
        answers.append(_solve_one(problem, orthogonal[index], float(limits[index])))
    return Allocation.stacked(problem, np.asarray(active), answers)


def _validate(problem: Problem) -> None:
    refuse_prior(problem, "power allocation with shared pilots")
    if problem.batch_shape:
        raise ValueError(
            f"the convex–concave procedure takes one drop, got leading axes {problem.batch_shape}; index the problem"
        )
    overlap = problem.pilot_overlap
    if overlap is not None:
        overlap = np.asarray(overlap, dtype=np.float64)
        if overlap.shape != (problem.K, problem.K) or not ((overlap >= 0.0) & (overlap <= 1.0)).all():
            raise ValueError(
                f"pilot_overlap must be |θ_kᴴθ_j|² in [0, 1] of shape ({problem.K}, {problem.K}), got shape {overlap.shape}"
            )


def _solve_one(problem: Problem, orthogonal: Allocation, limit_w: float) -> Allocation:
    """Solve one set from its allocation without contamination."""
    if orthogonal.status != Status.OPTIMAL:
        return orthogonal  # contamination only tightens the problem: proofs and bounds hold
    run = _Procedure(problem, orthogonal.active, float(orthogonal.power.sum(1).max()))
    run.learn(orthogonal.multipliers)
    if run.bound_w <= min(limit_w, run.allowed_w):
        run.descend(orthogonal.power)
        if run.best is None:
            for start in _starting_points(problem, orthogonal):
                if run.seek(start) and run.best is not None:
                    run.descend(run.best)
                if run.best is not None or run.bound_w > run.allowed_w:
                    break
    if run.best is not None:
        status = Status.LOCAL
    elif run.bound_w > run.allowed_w:
        status = Status.INFEASIBLE
    else:
        status = Status.CUT_OFF if run.bound_w > limit_w else Status.UNKNOWN
    return Allocation.single(
        problem, orthogonal.active, status,
        power=run.best, bound=np.inf if status == Status.INFEASIBLE else run.bound_w, multipliers=run.multipliers,
        iterations=run.iterations,
    )  # fmt: skip


def _starting_points(problem: Problem, orthogonal: Allocation) -> Iterator[Float]:
    """Yield starting points: the optimum without contamination, then all APs at their caps, then the mean of both."""
    yield orthogonal.power
    share = orthogonal.power + 1e-3 * orthogonal.power.sum() / orthogonal.power.size * orthogonal.active[:, None]
    capped = share * (problem.max_ap_power_w / np.where(orthogonal.active, share.sum(1), 1.0))[:, None]
    yield capped
    yield (orthogonal.power + capped) / 2


class _Procedure:
    """Convex–concave procedure on one set: the best feasible powers, and the multipliers with the best bound so far."""

    def __init__(self, problem: Problem, active: NDArray[np.bool_], unit_w: float) -> None:
        self.problem, self.active = problem, active
        self.allowed_w = float(active.sum()) * problem.max_ap_power_w
        self.cone = _Cone(problem, active, unit_w)
        self.best: Float | None = None
        self.bound_w = -np.inf
        self.multipliers = Multipliers.zero(problem)
        self.iterations = 0

    def learn(self, found: Multipliers) -> None:
        """Update the best bound from multipliers, or from their convex combination with the best so far.

        The dual function is concave. Multipliers of a program may lie just outside of its domain: at the optimum the price of an AP that
        radiates for the targets is nearly zero, so that a slight excess of its sensing credit makes it negative.
        """
        for share in (1.0, 0.999, 0.99, 0.9, 0.5):
            mixed = found if share == 1.0 else _mixed(found, self.multipliers, share)
            mixed = raised(self.problem, self.active, mixed, 2.0 * self.allowed_w)
            bound = float(dual_bound(self.problem, self.active, mixed))
            if bound > self.bound_w:
                self.bound_w, self.multipliers = bound, mixed
                return

    def descend(self, power: Float) -> None:
        """Relinearise the program at its solution until the power converges, and learn from the last multipliers."""
        if meets(self.problem, power):
            self.best = power
        last = None
        while self.iterations < MAX_ITERATIONS:
            step = self._step(power, None)
            if step is None or not meets(self.problem, step[0]):
                break
            before = np.inf if self.best is None else self.best.sum()
            last = step[1]
            if step[0].sum() < before:
                self.best = power = step[0]
            if step[0].sum() >= before * (1.0 - MIN_DECREASE):
                break
        if last is not None:
            self.learn(last)

    def seek(self, power: Float) -> bool:
        """Solve elastic programs until a solution is feasible; return False when infeasibility is proven or none is found."""
        for price in ELASTIC_PRICES:
            for _ in range(SEEK_ITERATIONS):
                step = self._step(power, price)
                if step is None:
                    break
                if meets(self.problem, step[0]):
                    self.best = step[0]
                    return True
                self.learn(step[1])
                if self.bound_w > self.allowed_w:
                    return False
                moved = np.abs(np.sqrt(step[0]) - np.sqrt(power)).max()
                power = step[0]
                if moved < 1e-3 * np.sqrt(self.problem.max_ap_power_w):
                    break
        return False

    def _step(self, power: Float, price: float | None) -> tuple[Float, Multipliers] | None:
        """Return powers and multipliers of the program linearised at `power`; None if the solver fails."""
        self.iterations += 1
        solved = self.cone.solve(power, price)
        return None if solved is None else (_restored(self.problem, solved[0]), solved[1])


def _mixed(first: Multipliers, second: Multipliers, share: float) -> Multipliers:
    rest = 1.0 - share
    return Multipliers(
        sinr=share * first.sinr + rest * second.sinr,
        cap=share * first.cap + rest * second.cap,
        sensing=share * first.sensing + rest * second.sensing,
    )


def _restored(problem: Problem, power: Float) -> Float:
    """Scale the powers (M, K) of users that miss their SINR by rounding until it holds, then all powers until every CRLB holds.

    With every user's powers scaled by q_k, user k requires q_k ≥ γ (Σ_j F_kj q_j + σ²)/a_k: the least q ≥ 1 is a fixed point.
    """
    gain, estimate = problem.gain, problem.estimate_gain
    amplitude = np.sqrt(power * estimate)
    signal = amplitude.sum(0) ** 2
    if not (signal > 0.0).all():
        return power
    interference = gain.T @ power + (gain.T @ (amplitude / gain)) ** 2 * contamination(problem)
    scale = np.ones(problem.K)
    for _ in range(200):
        before = scale
        scale = np.maximum(scale, problem.sinr_threshold * (interference @ scale + problem.noise_w) / signal)
        if np.allclose(scale, before, rtol=1e-14, atol=0.0) or scale.max() > 2.0:
            break
    power = power * scale
    crlb = physics.crlb(power.sum(1), problem.fisher)
    excess = float(crlb.max(initial=0.0)) / problem.crlb_threshold_m2
    return power * excess if 1.0 < excess < 1.0 + 1e-3 else power


class _Cone:
    """Second-order cone program of one set for Clarabel, without the sensing rows, which depend on the linearisation point.

    Variables: x (n, K) in √P₀, AP amplitudes n_m (n,) and, in elastic programs, a slack for each user and target. User k's rows are
    divided by √V_k.
    """

    def __init__(self, problem: Problem, active: NDArray[np.bool_], unit_w: float) -> None:
        self.problem, self.active, self.unit_w = problem, active, unit_w
        gain, estimate = problem.gain[active], problem.estimate_gain[active]
        n, K = gain.shape
        self.strength = strength = estimate.sum(0)
        gamma = problem.sinr_threshold * (1.0 + THRESHOLD_MARGIN)
        x, ap_amplitude = np.arange(n * K).reshape(n, K), n * K + np.arange(n)
        self.width = n * K + n
        most = np.sqrt(problem.max_ap_power_w / unit_w * (1.0 - THRESHOLD_MARGIN))
        nonnegative = sparse.diags_array(np.where(np.arange(self.width) < n * K, -1.0, 1.0))
        blocks, offsets = [nonnegative], [np.where(np.arange(self.width) < n * K, 0.0, most)]
        # (n_m, x_m) for every AP.
        per_ap = np.concatenate([ap_amplitude[:, None], x], axis=1).ravel()
        blocks.append(_rows(len(per_ap), self.width, np.arange(len(per_ap)), per_ap, np.ones(len(per_ap))))
        offsets.append(np.zeros(len(per_ap)))
        self.cones: list[Any] = [clarabel.NonnegativeConeT(self.width), *([clarabel.SecondOrderConeT(K + 1)] * n)]
        # (signal, contamination, interference, noise) for every user.
        root, interference = np.sqrt(estimate / strength), np.sqrt(gamma * gain / strength)
        overlap = contamination(problem)
        self.heads = []
        height = self.width + len(per_ap)
        for k in range(K):
            others = np.flatnonzero(overlap[k] > 0.0)
            g = len(others)
            weight = np.sqrt(gamma * overlap[k, others] * estimate[:, others] / strength[k])
            weight *= gain[:, [k]] / gain[:, others]
            row = np.concatenate([np.zeros(n, np.int64), np.tile(np.arange(g) + 1, n), g + 1 + np.arange(n)])
            column = np.concatenate([x[:, k], x[:, others].ravel(), ap_amplitude])
            blocks.append(
                _rows(
                    g + n + 2, self.width, row, column, np.concatenate([root[:, k], weight.ravel(), interference[:, k]])
                )
            )
            noise = np.zeros(g + n + 2)
            noise[-1] = np.sqrt(gamma * problem.noise_w / (unit_w * strength[k]))
            offsets.append(noise)
            self.cones.append(clarabel.SecondOrderConeT(g + n + 2))
            self.heads.append(height)
            height += g + n + 2
        self.cones += [clarabel.SecondOrderConeT(4)] * problem.S
        self.height, self.matrix, self.offset = height, sparse.vstack(blocks), np.concatenate(offsets)
        self.reach = 0.5 * unit_w * problem.crlb_threshold_m2 * (1.0 - THRESHOLD_MARGIN)
        qa, qb, qc = np.moveaxis(problem.fisher[active], -1, 0)
        self.information = self.reach * np.stack([qa + qb, qa - qb, 2.0 * qc])  # (3, n, S)

    def solve(self, power: Float, price: float | None) -> tuple[Float, Multipliers] | None:
        """Solve the program linearised at `power`; return powers (M, K) and multipliers, or None if Clarabel fails.

        Args:
            power: (M, K) W.
            price: of a slack, in units of P₀; None for a program without slacks.
        """
        problem, active, K, S = self.problem, self.active, self.problem.K, self.problem.S
        n = int(active.sum())
        before = np.sqrt(power[active] / self.unit_w)
        matrix, offset, width = self.matrix, self.offset, self.width
        for s in range(S):
            slope = np.zeros((4, width))
            slope[:3, : n * K] = (2.0 * self.information[:, :, s, None] * before).reshape(3, n * K)
            constant = np.append(-self.information[:, :, s] @ (before**2).sum(1), 1.0)
            constant[0] -= 1.0
            matrix, offset = sparse.vstack([matrix, sparse.coo_array(-slope)]), np.append(offset, constant)
        cones, linear = list(self.cones), np.zeros(width)
        if price is not None:
            heads = np.array([*self.heads, *(self.height + 4 * np.arange(S))])
            slacks = sparse.coo_array((-np.ones(K + S), (heads, np.arange(K + S))), (matrix.shape[0], K + S))
            matrix = sparse.block_array([[matrix, slacks], [None, -sparse.eye_array(K + S)]])
            offset, linear = np.append(offset, np.zeros(K + S)), np.append(linear, np.full(K + S, price))
            cones.append(clarabel.NonnegativeConeT(K + S))
        quadratic = np.zeros(len(linear))
        quadratic[n * K : width] = 2.0
        objective, rows = sparse.csc_matrix(sparse.diags_array(quadratic)), sparse.csc_matrix(matrix)
        solution = clarabel.DefaultSolver(objective, linear, rows, offset, cones, _settings()).solve()
        if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
            return None
        x, z = np.array(solution.x), np.array(solution.z)
        found = np.zeros((problem.M, K))
        found[active] = self.unit_w * np.maximum(x[: n * K].reshape(n, K), 0.0) ** 2
        signal = np.sum(np.sqrt(problem.estimate_gain[active] / self.strength) * x[: n * K].reshape(n, K), axis=0)
        cap = np.zeros(problem.M)
        cap[active] = np.maximum(z[n * K : width], 0.0) / (2.0 * np.maximum(x[n * K : width], 1e-12))
        y = z[self.height : self.height + 4 * S].reshape(S, 4)
        return found, Multipliers(
            sinr=np.maximum(z[self.heads], 0.0) / (2.0 * np.maximum(signal, 1e-12) * self.strength),
            cap=cap,
            sensing=self.reach * np.stack([y[:, 0] + y[:, 1], y[:, 0] - y[:, 1], y[:, 2]], axis=-1),
        )


def _rows(height: int, width: int, row: NDArray[Any], column: NDArray[Any], value: Float) -> Any:
    """Build rows of a cone offset − A x, hence the negative sign."""
    return sparse.coo_array((-value, (row, column)), (height, width))


def _settings() -> Any:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.max_iter = 100
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    return settings
