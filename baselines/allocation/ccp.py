"""Power allocation with reused pilots: the convex–concave procedure in amplitudes, feasible at every iterate, and a bound beside it.

Contamination makes the fixed-set problem non-convex in the powers. In amplitudes y = √p every SINR is a second-order cone and only the
sensing constraint is reverse convex; with P_m ≥ 2 y₀·y − ‖y₀‖² in it, what is left is a second-order cone program whose points are all
feasible. Solved again from its own answer, its power never rises (Yuille & Rangarajan, 2003; Lipp & Boyd, 2016).
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
from baselines.allocation.certificate import dual_bound, meets, raised
from baselines.allocation.result import Allocation, Float, Multipliers, Status
from cfisac_env import physics
from cfisac_env.types import Problem

MAX_ITERATIONS = 60
PROGRESS = 1e-6
"""Relative fall of the power below which the procedure has converged."""

SEEK_ITERATIONS = 5
"""Elastic programs at one price, at most."""

MARGIN = 1e-8
"""Relative distance that a program keeps from the thresholds; less than what counts as met, more than its solver's rounding."""

ELASTIC_PRICES = (1e1, 1e3, 1e5)
"""What a violated constraint costs while a first feasible point is sought, in caps."""


def solve(problem: Problem, active: NDArray[np.bool_], *, cutoff_w: ArrayLike | None = None) -> Allocation:
    """Little transmit power with which the APs in `active` meet every requirement although users share pilots.

    With x = √(p/P_max), n_m ≥ ‖x_m‖, V_k = Σ_m v_mk and x₀ the iterate before:

        minimise Σ_m n_m²   subject to   x ≥ 0,   n_m ≤ 1,
            Σ_m √(v_mk/V_k) x_mk ≥ √(γ/V_k) ‖( √G_kj Σ_m √v_mj x_mj ς_mk/ς_mj  ∀ j ≠ k,   √ς_mk n_m  ∀ m,   σ/√P_max )‖   for every k,
            ‖(J_a − J_b, 2J_c, 2/ν)‖ ≤ J_a + J_b − 2/ν   with   J = P_max Σ_m (2 x₀_m·x_m − ‖x₀_m‖²) Q_m   for every target

    The first x₀ is the optimum without contamination. While none of its programs has a point, elastic ones with rising prices seek one.

    A `LOCAL` point satisfies every constraint within 1e-7. Its power is the least in reach from where the procedure started, not
    certified to be the least there is; its `bound` is certified (`dual_bound`), and tells how far off it can be. `INFEASIBLE` is proven
    by the multipliers, as without contamination. `UNKNOWN` means that neither a point nor a proof was found.

    Args:
        problem: one drop, with or without `pilot_overlap`.
        active: (…, M) bool, the sets.
        cutoff_w: W, broadcast over the sets: answer `CUT_OFF` where the bound without contamination is above it.

    Raises:
        ValueError: a batch of drops, an overlap that isn't (K, K) in [0, 1], or what `fast.solve` refuses.
        TypeError: `active` is not boolean.
    """
    _validate(problem)
    orthogonal = fast.solve(replace(problem, pilot_overlap=None), active, cutoff_w=cutoff_w)
    lead = np.shape(active)[:-1]
    limits = np.broadcast_to(np.asarray(np.inf if cutoff_w is None else cutoff_w, dtype=np.float64), lead)
    answers = np.empty(lead, dtype=object)
    for index in np.ndindex(lead):
        interruption.check()
        answers[index] = _solve_one(problem, orthogonal[index], float(limits[index]))
    flat = answers.ravel()

    def gathered(values: list[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return np.array(values).reshape((*lead, *shape))

    M, K, S = problem.M, problem.K, problem.S
    return Allocation(
        active=np.asarray(active),
        power=gathered([a.power for a in flat], (M, K)),
        transmit_power=gathered([a.transmit_power for a in flat], ()),
        bound=gathered([a.bound for a in flat], ()),
        status=gathered([a.status for a in flat], ()).astype(fast.STATUS.dtype),
        multipliers=Multipliers(
            sinr=gathered([a.multipliers.sinr for a in flat], (K,)),
            cap=gathered([a.multipliers.cap for a in flat], (M,)),
            sensing=gathered([a.multipliers.sensing for a in flat], (S, 3)),
        ),
        iterations=gathered([a.iterations for a in flat], ()),
    )


def _validate(problem: Problem) -> None:
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
    """One set, from its answer without contamination."""
    if orthogonal.status != Status.OPTIMAL:
        return orthogonal  # contamination only adds to what users ask for: proofs and bounds hold
    run = _Procedure(problem, orthogonal.active, float(orthogonal.power.sum(1).max()))
    run.learn(orthogonal.multipliers)
    if run.bound_w <= min(limit_w, run.allowed_w):
        run.descend(orthogonal.power)
        if run.best is None:
            for start in _starts(problem, orthogonal):
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
    return Allocation(
        active=orthogonal.active,
        power=np.zeros_like(orthogonal.power) if run.best is None else run.best,
        transmit_power=np.asarray(np.inf if run.best is None else run.best.sum()),
        bound=np.asarray(np.inf if status == Status.INFEASIBLE else run.bound_w),
        status=np.asarray(str(status)),
        multipliers=run.multipliers,
        iterations=np.asarray(run.iterations),
    )


def _starts(problem: Problem, orthogonal: Allocation) -> Iterator[Float]:
    """Where to seek a first point: the answer without contamination, then louder for the targets."""
    yield orthogonal.power
    share = orthogonal.power + 1e-3 * orthogonal.power.sum() / orthogonal.power.size * orthogonal.active[:, None]
    loud = share * (problem.max_ap_power_w / np.where(orthogonal.active, share.sum(1), 1.0))[:, None]
    yield loud
    yield (orthogonal.power + loud) / 2


class _Procedure:
    """The procedure on one set: the best feasible powers, and the multipliers with the best bound so far."""

    def __init__(self, problem: Problem, active: NDArray[np.bool_], unit_w: float) -> None:
        self.problem, self.active = problem, active
        self.allowed_w = float(active.sum()) * problem.max_ap_power_w
        self.cone = _Cone(problem, active, unit_w)
        self.best: Float | None = None
        self.bound_w = -np.inf
        self.multipliers = Multipliers(np.zeros(problem.K), np.zeros(problem.M), np.zeros((problem.S, 3)))
        self.iterations = 0

    def learn(self, found: Multipliers) -> None:
        """Keep multipliers if their bound is the best, or that of a mixture with the best so far.

        The dual function is concave. Multipliers of a program may lie just outside of where it is finite: at the optimum the price of
        an AP that radiates for the targets is next to nothing, so that the slightest excess of the reward turns it negative.
        """
        for share in (1.0, 0.999, 0.99, 0.9, 0.5):
            mixed = found if share == 1.0 else _mixed(found, self.multipliers, share)
            mixed = raised(self.problem, self.active, mixed, 2.0 * self.allowed_w)
            bound = float(dual_bound(self.problem, self.active, mixed))
            if bound > self.bound_w:
                self.bound_w, self.multipliers = bound, mixed
                return

    def descend(self, power: Float) -> None:
        """Solve the program at its own answer until the power stops falling; the last multipliers are those to learn from."""
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
            if step[0].sum() >= before * (1.0 - PROGRESS):
                break
        if last is not None:
            self.learn(last)

    def seek(self, power: Float) -> bool:
        """Elastic programs from a start until one of their answers is feasible, or their multipliers prove that none is."""
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
        """Powers and multipliers of the program linearised at `power`; None when it has no point."""
        self.iterations += 1
        solved = self.cone.solve(power, price)
        return None if solved is None else (_repaired(self.problem, solved[0]), solved[1])


def _mixed(first: Multipliers, second: Multipliers, share: float) -> Multipliers:
    rest = 1.0 - share
    return Multipliers(
        sinr=share * first.sinr + rest * second.sinr,
        cap=share * first.cap + rest * second.cap,
        sensing=share * first.sensing + rest * second.sensing,
    )


def _repaired(problem: Problem, power: Float) -> Float:
    """Powers (M, K) of users that miss their SINR by a rounding raised until it holds, and all powers until every CRLB does.

    With every user's powers scaled by q_k, user k asks q_k ≥ γ (Σ_j F_kj q_j + σ²)/a_k: the least q ≥ 1 is a fixed point.
    """
    gain, estimate = problem.gain, problem.estimate_gain
    amplitude = np.sqrt(power * estimate)
    signal = amplitude.sum(0) ** 2
    if not (signal > 0.0).all():
        return power
    felt = gain.T @ power
    if problem.pilot_overlap is not None:
        felt = felt + (gain.T @ (amplitude / gain)) ** 2 * problem.pilot_overlap * (1.0 - np.eye(problem.K))
    scale = np.ones(problem.K)
    for _ in range(200):
        before = scale
        scale = np.maximum(scale, problem.sinr_threshold * (felt @ scale + problem.noise_w) / signal)
        if np.allclose(scale, before, rtol=1e-14, atol=0.0) or scale.max() > 2.0:
            break
    power = power * scale
    crlb = physics.crlb(power.sum(1), problem.fisher)
    excess = float(crlb.max(initial=0.0)) / problem.crlb_threshold_m2
    return power * excess if 1.0 < excess < 1.0 + 1e-3 else power


class _Cone:
    """The second-order cone program of one set for Clarabel, all but the sensing rows, which follow from where it is linearised.

    Variables: x (n, K) in √P₀, loudness (n,) and, where it is elastic, a slack for each user and target. User k's rows are divided
    by √V_k.
    """

    def __init__(self, problem: Problem, active: NDArray[np.bool_], unit_w: float) -> None:
        self.problem, self.active, self.unit_w = problem, active, unit_w
        gain, estimate = problem.gain[active], problem.estimate_gain[active]
        n, K = gain.shape
        self.strength = strength = estimate.sum(0)
        gamma = problem.sinr_threshold * (1.0 + MARGIN)
        x, loud = np.arange(n * K).reshape(n, K), n * K + np.arange(n)
        self.width = n * K + n
        most = np.sqrt(problem.max_ap_power_w / unit_w * (1.0 - MARGIN))
        nonnegative = sparse.diags_array(np.where(np.arange(self.width) < n * K, -1.0, 1.0))
        blocks, offsets = [nonnegative], [np.where(np.arange(self.width) < n * K, 0.0, most)]
        # (n_m, x_m) for every AP.
        per_ap = np.concatenate([loud[:, None], x], axis=1).ravel()
        blocks.append(_rows(len(per_ap), self.width, np.arange(len(per_ap)), per_ap, np.ones(len(per_ap))))
        offsets.append(np.zeros(len(per_ap)))
        self.cones: list[Any] = [clarabel.NonnegativeConeT(self.width), *([clarabel.SecondOrderConeT(K + 1)] * n)]
        # (signal, contamination, interference, noise) for every user.
        root, heard = np.sqrt(estimate / strength), np.sqrt(gamma * gain / strength)
        overlap = np.zeros((K, K)) if problem.pilot_overlap is None else problem.pilot_overlap * (1.0 - np.eye(K))
        self.heads = []
        height = self.width + len(per_ap)
        for k in range(K):
            others = np.flatnonzero(overlap[k] > 0.0)
            g = len(others)
            weight = np.sqrt(gamma * overlap[k, others] * estimate[:, others] / strength[k])
            weight *= gain[:, [k]] / gain[:, others]
            row = np.concatenate([np.zeros(n, np.int64), np.tile(np.arange(g) + 1, n), g + 1 + np.arange(n)])
            column = np.concatenate([x[:, k], x[:, others].ravel(), loud])
            blocks.append(
                _rows(g + n + 2, self.width, row, column, np.concatenate([root[:, k], weight.ravel(), heard[:, k]]))
            )
            noise = np.zeros(g + n + 2)
            noise[-1] = np.sqrt(gamma * problem.noise_w / (unit_w * strength[k]))
            offsets.append(noise)
            self.cones.append(clarabel.SecondOrderConeT(g + n + 2))
            self.heads.append(height)
            height += g + n + 2
        self.cones += [clarabel.SecondOrderConeT(4)] * problem.S
        self.height, self.matrix, self.offset = height, sparse.vstack(blocks), np.concatenate(offsets)
        self.reach = 0.5 * unit_w * problem.crlb_threshold_m2 * (1.0 - MARGIN)
        qa, qb, qc = np.moveaxis(problem.fisher[active], -1, 0)
        self.information = self.reach * np.stack([qa + qb, qa - qb, 2.0 * qc])  # (3, n, S)

    def solve(self, power: Float, price: float | None) -> tuple[Float, Multipliers] | None:
        """Powers (M, K) and multipliers of the program linearised at `power`; None when Clarabel finds no point.

        Args:
            power: (M, K) W.
            price: of a slack, in P₀; None for a program without slacks.
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
        solution = clarabel.DefaultSolver(
            sparse.csc_matrix(sparse.diags_array(quadratic)),
            linear,
            sparse.csc_matrix(matrix),
            offset,
            cones,
            _settings(),
        ).solve()
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
    """Rows of a cone: the constraint is offset − A x in the cone, so what enters it has the sign turned."""
    return sparse.coo_array((-value, (row, column)), (height, width))


def _settings() -> Any:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.max_iter = 100
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    return settings
