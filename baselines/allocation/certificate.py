"""Certified bounds from multipliers, recomputed from the problem alone, so that no solver has to be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.allocation.result import Float, Multipliers
from cfisac_env.types import Problem


def dual_bound(problem: Problem, active: NDArray[np.bool_], multipliers: Multipliers) -> Float:
    """Lower bound on the transmit power that the APs in `active` need, valid for any multipliers.

    Weak duality: with w_m = 1 + μ_m + γ Σ_k λ_k ς_mk − Σ_s ⟨Z_s, Q_ms⟩ ≥ 0 and λ_k ≤ 1/Σ_m (v_mk/w_m),

        D = γ σ² Σ_k λ_k − P_max Σ_m μ_m + Σ_s (tr Z_s^½)²/ν  ≤  Σ_mk p_mk   for every feasible p.

    Multipliers that break a condition are repaired first: Z is projected on the positive semidefinite cone, μ raised until w ≥ 0,
    and λ lowered (which lowers w in turn, so μ pays for it), so rounding costs a little of the bound and never its validity.
    A bound above n·P_max for n active APs proves that the set is infeasible.

    Args:
        problem: one drop with orthogonal pilots.
        active: (…, M), the sets.
        multipliers: with the same leading axes.

    Returns:
        (…,) W.
    """
    gamma, noise = problem.sinr_threshold, problem.noise_w
    gain, estimate = problem.gain, problem.estimate_gain
    lam = np.maximum(multipliers.sinr, 0.0)
    za, zb, zc = (multipliers.sensing[..., i] for i in range(3))
    za, zb = np.maximum(za, 0.0), np.maximum(zb, 0.0)
    root = np.sqrt(za * zb)
    zc = np.clip(zc, -root, root)
    sensing_value = np.sum(za + zb + 2.0 * np.sqrt(np.maximum(za * zb - zc * zc, 0.0)), axis=-1)
    q = problem.fisher
    z = np.stack([za, zb, 2.0 * zc], axis=-1)
    reward = np.einsum("...sj,msj->...m", z, q)
    cap = np.where(active, np.maximum(multipliers.cap, 0.0), 0.0)
    # λ only ever shrinks in the repair; w falls with it, and the floor below makes μ absorb that.
    for _ in range(50):
        w = 1.0 + cap + gamma * np.einsum("...k,mk->...m", lam, gain) - reward
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(active & (w > 0.0), 1.0 / np.maximum(w, 1e-300), 0.0)
        demand = lam * np.einsum("...m,mk->...k", share, estimate)
        broken = active & (w <= 0.0)
        if not broken.any() and (demand <= 1.0 + 1e-13).all():
            break
        cap = np.where(broken, cap - w + 1e-14 * (1.0 + np.abs(reward)), cap)
        lam = lam / np.maximum(demand, 1.0)
    else:
        # Cannot be repaired in 50 rounds: fall back to the multipliers that are always valid.
        return np.maximum(_caps_only(problem, active, sensing_value, reward), 0.0)
    bound = (
        gamma * noise * lam.sum(-1) - problem.max_ap_power_w * cap.sum(-1) + sensing_value / problem.crlb_threshold_m2
    )
    return np.asarray(bound, dtype=np.float64)


def _caps_only(problem: Problem, active: NDArray[np.bool_], sensing_value: Float, reward: Float) -> Float:
    """Bound with λ = 0: μ = max(0, reward − 1) makes every price non-negative."""
    cap = np.where(active, np.maximum(reward - 1.0, 0.0), 0.0)
    return np.asarray(
        sensing_value / problem.crlb_threshold_m2 - problem.max_ap_power_w * cap.sum(-1), dtype=np.float64
    )
