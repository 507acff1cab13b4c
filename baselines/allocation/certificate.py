"""Certified bounds from multipliers, recomputed from the problem alone, independently of any solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baselines.allocation.result import Float, Multipliers
from cfisac_env import physics
from cfisac_env.types import Decision, Problem

FEASIBILITY = 1e-7
"""Relative tolerance on the constraints of a solution from an allocator."""

ORTHOGONAL_ONLY = (
    "needs orthogonal pilots (at most pilot_length users, or a pilot of their own for all): with shared ones the problem is not convex. "
    "Use baselines.allocation.ccp, or a policy that does: nearest-ap, strongest-ap, full-ap, decoupled, modified-bb, local-search, "
    "branch-and-bound"
)


def refuse_prior(problem: Problem, method: str) -> None:
    """Refuse a problem with prior information.

    Raises:
        ValueError: the problem has a prior.
    """
    if problem.prior is not None:
        raise ValueError(
            f"{method} doesn't support prior information about targets (Problem.prior); with one, use orthogonal pilots and a policy that "
            "supports it: nearest-ap, strongest-ap, most-informative, full-ap, modified-bb, local-search, myopic, hysteresis, keep-credit"
        )


def check_prior(prior: Float) -> None:
    """Refuse prior information (…, 3) that is not finite and positive semidefinite, up to rounding.

    Raises:
        ValueError: an invalid matrix.
    """
    a, b, c = prior[..., 0], prior[..., 1], prior[..., 2]
    if not (
        np.isfinite(prior).all() and (a >= 0.0).all() and (b >= 0.0).all() and (c * c <= (1.0 + 1e-9) * a * b).all()
    ):
        raise ValueError(
            "prior must hold J_a, J_b, J_c of finite, positive semidefinite matrices [[J_a, J_c], [J_c, J_b]] in 1/m²; "
            "an information matrix is the inverse of a covariance"
        )


def pilots_shared(problem: Problem) -> bool:
    """Return whether any two users share a pilot, even in part, which contaminates their channel estimates."""
    return problem.pilot_overlap is not None and bool((contamination(problem) > 0.0).any())


def contamination(problem: Problem) -> Float:
    """Compute the pilot overlap |θ_kᴴθ_j|² of different users, (…, K, K), with a zero diagonal."""
    own = np.eye(problem.K)
    return (own if problem.pilot_overlap is None else np.asarray(problem.pilot_overlap, dtype=np.float64)) * (1.0 - own)


def meets(problem: Problem, power: Float) -> bool:
    """Return whether powers (M, K) in W meet every SINR, CRLB and cap within `FEASIBILITY`, according to the physics."""
    return bool(physics.evaluate(problem, Decision(power.sum(-1) > 0.0, power), FEASIBILITY).feasible)


def dual_bound(problem: Problem, active: NDArray[np.bool_], multipliers: Multipliers) -> Float:
    """Compute a lower bound on the transmit power of a set, valid for any multipliers.

    By weak duality in the amplitudes √p: with w_m = 1 + μ_m + γ Σ_k λ_k ς_mk − Σ_s ⟨Z_s, Q_ms⟩ ≥ 0 and, for every user k,

        λ_k s_kᵀ A_k⁻¹ s_k ≤ 1,    A_k = diag(w) + γ Σ_{j≠k} λ_j G_jk c_jk c_jkᵀ,    s_mk = √v_mk,    c_mjk = √v_mk ς_mj/ς_mk,

        D = γ σ² Σ_k λ_k − P_max Σ_m μ_m + Σ_s [(tr Z_s^½)²/ν − ⟨Z_s, J0_s⟩]  ≤  Σ_mk p_mk   for every feasible p.

    With orthogonal pilots A_k is diag(w): λ_k ≤ 1/Σ_m (v_mk/w_m). Infeasible multipliers are repaired first: Z is projected onto the
    positive semidefinite cone, μ raised until w ≥ 0, and λ lowered (which lowers w, so that μ is raised again). Rounding errors thus
    weaken the bound slightly but never invalidate it. A bound above n·P_max for n active APs proves infeasibility.

    Args:
        problem: one drop.
        active: (…, M), the sets.
        multipliers: with the same leading axes.

    Returns:
        (…,) W.
    """
    lam = np.maximum(multipliers.sinr, 0.0)
    za, zb, zc = (multipliers.sensing[..., i] for i in range(3))
    za, zb = np.maximum(za, 0.0), np.maximum(zb, 0.0)
    most = np.sqrt(za * zb)
    sensing = np.stack([za, zb, np.clip(zc, -most, most)], axis=-1)
    cap = np.where(active, np.maximum(multipliers.cap, 0.0), 0.0)
    leaks, root = _Leaks.of(problem), np.sqrt(problem.estimate_gain)
    # Lowering λ lowers w, which raising μ compensates.
    for _ in range(50):
        repaired = Multipliers(sinr=lam, cap=cap, sensing=sensing)
        w = repaired.prices(problem)
        demand = lam * np.sum(root * _response(problem, active, leaks, w, lam), axis=-2)
        broken = active & (w <= 0.0)
        if not broken.any() and (demand <= 1.0 + 1e-13).all():
            break
        cap = np.where(broken, cap - w + 1e-14 * (1.0 + np.abs(repaired.sensing_credits(problem))), cap)
        lam = lam / np.maximum(demand, 1.0)
    else:
        # Fall back to λ = 0 and μ = max(0, credit − 1), with which every price is non-negative.
        cap = np.where(active, np.maximum(repaired.sensing_credits(problem) - 1.0, 0.0), 0.0)
        return np.maximum(Multipliers(sinr=0.0 * lam, cap=cap, sensing=sensing).value(problem), 0.0)
    return repaired.value(problem)


def raised(problem: Problem, active: NDArray[np.bool_], multipliers: Multipliers, limit_w: float) -> Multipliers:
    """Maximise λ for given μ and Z, for one set (M,).

    F_k(λ) = 1/(s_kᵀ A_k⁻¹ s_k) is a standard interference function: from a dual feasible λ ≤ F(λ), λ ← F(λ) increases to its fixed point or
    diverges; it is stopped once γσ²Σλ exceeds `limit_w`. A Newton step is taken where it ends entirely below F, which is dual feasible
    again, or entirely above, which proves that a fixed point exists. Scaling all multipliers by 1 − ε finally turns the prices w into
    (1 − ε) w + ε, which absorbs rounding errors.
    """
    gamma, root = problem.sinr_threshold, np.sqrt(problem.estimate_gain)
    leaks, keep = _Leaks.of(problem), 1.0

    def shrunk(lam: Float) -> Multipliers:
        return Multipliers(sinr=lam, cap=keep * multipliers.cap, sensing=keep * multipliers.sensing)

    def interference(lam: Float) -> tuple[Float, Float] | None:
        w = shrunk(lam).prices(problem)
        if (w[active] <= 0.0).any():
            return None
        x = _response(problem, active, leaks, w, lam)
        return x, 1.0 / np.sum(root * x, axis=0)

    lam = multipliers.sinr
    found = interference(lam)
    newtons = others = 0
    while newtons < 30 and others < 60:
        if found is None or gamma * problem.noise_w * lam.sum() > limit_w:
            break
        x, target = found
        if (np.abs(target - lam) <= 1e-12 * target).all():
            break
        slope = (x**2).T @ problem.gain
        if leaks is not None:
            leakage = np.einsum("mk,kmi,mk->ki", root, leaks.ratio, x) ** 2 * leaks.overlap
            np.add.at(slope, (np.arange(problem.K)[:, None], leaks.sharer), leakage)
        matrix = np.eye(problem.K) - gamma * target[:, None] * slope * target
        newton = lam + target * _solved(matrix, 1.0 - lam / target)
        after = interference(newton) if (newton > 0.0).all() else None
        if after is not None and ((after[1] <= newton).all() or (after[1] >= newton).all()):
            newtons += 1
            lam, found = newton, after
        else:
            others += 1
            lam, found = target, interference(target)
    largest = lam
    for shrink in (0.0, 1e-11, 1e-9, 1e-7):
        keep, lam = 1.0 - shrink, (1.0 - shrink) * largest
        found = interference(lam)
        if found is not None and (lam <= found[1]).all():
            break
    return shrunk(lam)


def _solved(matrix: Float, right: Float) -> Float:
    """Solve a linear system; NaN if it is singular."""
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)


def _response(problem: Problem, active: NDArray[np.bool_], leaks: _Leaks | None, w: Float, lam: Float) -> Float:
    """Compute A_k⁻¹ s_k, (…, M, K), proportional to the cheapest amplitudes for user k; zero where an AP is off or w_m ≤ 0."""
    share = np.where(active & (w > 0.0), 1.0 / np.where(w > 0.0, w, 1.0), 0.0)
    plain = share[..., None] * np.sqrt(problem.estimate_gain)
    if leaks is None:
        return np.asarray(plain)
    # Sherman–Morrison–Woodbury, every c_jk scaled by √(γ λ_j G_jk).
    size = np.sqrt(problem.sinr_threshold * lam[..., leaks.sharer] * leaks.overlap)  # (…, K, g)
    along = np.einsum("...m,kmi->...ki", share, leaks.first) * size
    inner = np.einsum("...m,kmij->...kij", share, leaks.second) * size[..., :, None] * size[..., None, :]
    solved = np.linalg.solve(np.eye(size.shape[-1]) + inner, along[..., None])[..., 0]
    return np.asarray(plain * (1.0 - np.einsum("kmi,...ki->...mk", leaks.ratio, size * solved)))


@dataclass(frozen=True, eq=False)
class _Leaks:
    """Pilot contamination of every user k by up to g others j: ς_mj/ς_mk, and the products that are summed over APs."""

    sharer: NDArray[np.int64]  # (K, g) users j, arbitrary where there are fewer
    overlap: Float  # (K, g) G_jk, zero where there are fewer
    ratio: Float  # (K, M, g) ς_mj/ς_mk
    first: Float  # (K, M, g) c_mjk s_mk
    second: Float  # (K, M, g, g) c_mik c_mjk

    @classmethod
    def of(cls, problem: Problem) -> _Leaks | None:
        if not pilots_shared(problem):
            return None
        overlap = contamination(problem)
        g = int((overlap > 0.0).sum(0).max())
        sharer = np.argsort(-overlap, axis=0, kind="stable")[:g].T
        ratio = np.swapaxes(problem.gain[:, sharer] / problem.gain[:, :, None], 0, 1)
        first = problem.estimate_gain.T[:, :, None] * ratio
        leak = np.take_along_axis(overlap.T, sharer, axis=1)
        return cls(sharer, leak, ratio, first, first[..., None] * ratio[:, :, None])
