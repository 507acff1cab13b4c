"""Lower bounds that hold for every set of APs of a kind, so that a search may skip the sets behind them."""

from __future__ import annotations

import math

import numpy as np

from cfisac_env.types import Problem


def fewest_active(problem: Problem, least_transmit_w: float = 0.0) -> int:
    """Least number of active APs with which a decision can be feasible.

    With fractions x_mk = p_mk/P_m, I_k = Σ_m ς_mk P_m and ρ_k = max_m v_mk/ς_mk, Cauchy–Schwarz gives

        γ (I_k + σ²)  ≤  (Σ_m √(x_mk v_mk P_m))²  ≤  ρ_k I_k Σ_m x_mk,

    and summed over the users, n ≥ Σ_k (γ/ρ_k) (1 + σ²/I_k), where I_k ≤ P_max Σ_m ς_mk. The caps ask for n ≥ T/P_max as well.

    Args:
        problem: one drop with orthogonal pilots.
        least_transmit_w: W, a lower bound on the transmit power of every set.

    Returns:
        The number, M at most.
    """
    gain = np.asarray(problem.gain, dtype=np.float64)
    ratio = np.max(np.asarray(problem.estimate_gain, dtype=np.float64) / gain, axis=0)
    most = problem.max_ap_power_w * gain.sum(0)
    users = float(np.sum(problem.sinr_threshold / ratio * (1.0 + problem.noise_w / most)))
    # A hair below what rounding could add, so that the bound is never one too many.
    needed = max(users, least_transmit_w / problem.max_ap_power_w) * (1.0 - 1e-12)
    return min(problem.M, max(1, math.ceil(needed))) if math.isfinite(needed) else problem.M
