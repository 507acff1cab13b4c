"""System model as pure functions of the array API, batched over leading axes, for NumPy and torch.

All quantities are linear and SI; functions are differentiable on torch tensors. Equation numbers are those of the paper, with corrections
(see the documentation page "Paper errata").
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat
import numpy as np

from cfisac_env import compiled
from cfisac_env.types import Array, Decision, Outcome, Problem

FEASIBILITY_TOLERANCE = 1e-4
"""Relative tolerance on constraints throughout the suite."""

SINGULAR = 45.0
"""Multiple of the machine epsilon, relative to J_a J_b, up to which a Fisher matrix's determinant counts as zero: 1e-14 in float64.
Rounding leaves a rank-one matrix a determinant of a few epsilons, of either sign."""


def namespace(array: Array) -> Any:
    """Return the array API namespace of `array`, with a fast path for NumPy."""
    return np if type(array) is np.ndarray else array_api_compat.array_namespace(array)


def clip(array: Array, low: float, high: float | None = None) -> Array:
    """Clip `array` to [low, high], on NumPy without the overhead of `numpy.clip`."""
    if type(array) is not np.ndarray:
        return array_api_compat.array_namespace(array).clip(array, low, high)
    raised = np.maximum(array, low)
    return raised if high is None else np.minimum(raised, high)


def link_distance(ap_xy: Array, ue_xy: Array, min_distance_m: float) -> Array:
    """Compute the distances from APs (…, M, 2) to users (…, K, 2) in m, (…, M, K), at least the minimum."""
    if (distance := compiled.link_distance(ap_xy, ue_xy, min_distance_m)) is not None:
        return distance
    offset = ap_xy[..., :, None, :] - ue_xy[..., None, :, :]
    square = offset[..., 0] * offset[..., 0] + offset[..., 1] * offset[..., 1]
    return namespace(ap_xy).sqrt(clip(square, min_distance_m**2))


def path_gain(distance_m: Array, intercept_db: float, per_decade_db: float, shadowing_db: Array | float = 0.0) -> Array:
    """Compute the large-scale fading ς = 10^((intercept − slope·log10(d/km) + shadowing)/10), (…,), linear.

    Evaluated with natural exponential and logarithm, which is five times faster.

    Args:
        distance_m: (…) positive.
        intercept_db: mean gain at 1 km.
        per_decade_db: loss per decade of distance.
        shadowing_db: (…) or a number.
    """
    xp = namespace(distance_m)
    nepers = math.log(10.0) / 10  # in a decibel
    mean = nepers * (intercept_db + 3.0 * per_decade_db) - (per_decade_db / 10) * xp.log(distance_m)
    return xp.exp(mean + nepers * shadowing_db)


def estimate_gain(gain: Array, pilot_energy_w: float, noise_w: float, pilot_overlap: Array | None = None) -> Array:
    """Compute the mean square of the MMSE channel estimate, paper (1):  v_mk = E ς_mk² / (E Σ_k' ς_mk' G_kk' + σ²).

    Args:
        gain: (…, M, K) ς, linear.
        pilot_energy_w: E = τ_p ρ_p.
        noise_w: σ².
        pilot_overlap: (…, K, K) G_kk' = |θ_kᴴθ_k'|²; None when pilots are orthogonal.

    Returns:
        (…, M, K)
    """
    received = gain if pilot_overlap is None else namespace(gain).matmul(gain, pilot_overlap)
    return gain * gain / (received + noise_w / pilot_energy_w)


def radar_gain(
    ap_xy: Array, sr_xy: Array, target_xy: Array, wavelength_m: float, rcs_m2: Array | float, min_distance_m: float
) -> Array:
    """Compute the two-way gain by the bistatic radar equation:  |χ_mst|² = λ² σ_rcs / ((4π)³ R_ms² R_ts²).

    Args:
        ap_xy: (…, M, 2) m.
        sr_xy: (…, T, 2) m.
        target_xy: (…, S, 2) m.
        wavelength_m: λ.
        rcs_m2: σ_rcs, a number or (…, M, S, T).
        min_distance_m: lower limit of distances.

    Returns:
        (…, M, S, T)
    """
    scale = wavelength_m**2 / (4 * np.pi) ** 3 * rcs_m2
    if (gain := compiled.radar_gain(ap_xy, sr_xy, target_xy, scale, min_distance_m)) is not None:
        return gain
    xp = namespace(ap_xy)
    floor = min_distance_m**2
    to_ap = ap_xy[..., :, None, :] - target_xy[..., None, :, :]
    to_sr = sr_xy[..., :, None, :] - target_xy[..., None, :, :]
    ap_square = clip(to_ap[..., 0] ** 2 + to_ap[..., 1] ** 2, floor)  # (…, M, S)
    sr_square = clip(to_sr[..., 0] ** 2 + to_sr[..., 1] ** 2, floor)  # (…, T, S)
    return scale / (ap_square[..., :, :, None] * xp.matrix_transpose(sr_square)[..., None, :, :])


def fisher_information(ap_xy: Array, sr_xy: Array, target_xy: Array, rcs_gain: Array, fisher_scale: float) -> Array:
    """Compute the Fisher information about each target's position per watt of each AP, paper (5).

    q_a = ζ Σ_t |χ_mst|² (α_m + α_t)²,  q_b = ζ Σ_t |χ_mst|² (β_m + β_t)²,  q_c = ζ Σ_t |χ_mst|² (α_m + α_t)(β_m + β_t)
    with the unit vector (α, β) from the target to the node, zero for a node at the target.

    Args:
        ap_xy: (…, M, 2) m.
        sr_xy: (…, T, 2) m.
        target_xy: (…, S, 2) m.
        rcs_gain: (…, M, S, T) |χ|².
        fisher_scale: ζ in 1/(W m²).

    Returns:
        (…, M, S, 3)
    """
    if (fisher := compiled.fisher_information(ap_xy, sr_xy, target_xy, rcs_gain, fisher_scale)) is not None:
        return fisher
    xp = namespace(rcs_gain)
    ap, sr = _directions(ap_xy, target_xy), _directions(sr_xy, target_xy)  # (…, M, S, 2), (…, T, S, 2)
    sr = xp.moveaxis(sr, -3, -2)  # (…, S, T, 2)
    along_x = ap[..., 0][..., None] + sr[..., 0][..., None, :, :]  # (…, M, S, T)
    along_y = ap[..., 1][..., None] + sr[..., 1][..., None, :, :]
    weight = fisher_scale * rcs_gain
    weighted_x = weight * along_x
    return xp.stack(
        [
            xp.sum(weighted_x * along_x, axis=-1),
            xp.sum(weight * along_y * along_y, axis=-1),
            xp.sum(weighted_x * along_y, axis=-1),
        ],
        axis=-1,
    )


def _directions(node_xy: Array, target_xy: Array) -> Array:
    """Compute the unit vectors from each target to each node: (…, N, 2) and (…, S, 2) to (…, N, S, 2)."""
    xp = namespace(node_xy)
    offset = node_xy[..., :, None, :] - target_xy[..., None, :, :]
    distance = xp.sqrt(offset[..., 0] ** 2 + offset[..., 1] ** 2)
    return offset / xp.where(distance > 0, distance, 1.0)[..., None]


def sinr(power: Array, gain: Array, estimate_gain: Array, noise_w: float, pilot_overlap: Array | None = None) -> Array:
    """Compute the SINR of every user under conjugate beamforming, paper (3) corrected (Ngo et al. 2017, eq. 27).

    γ_k = (Σ_m √(p_mk v_mk))² / (Σ_{k'≠k} G_kk' (Σ_m √(p_mk' v_mk') ς_mk/ς_mk')² + Σ_m ς_mk P_m + σ²),  P_m = Σ_k p_mk

    Gradients are finite at zero power, where the infinite slope of the square root is replaced by zero, so that an inactive AP contributes
    its interference term only.

    Args:
        power: (…, M, K) radiated W.
        gain: (…, M, K) ς.
        estimate_gain: (…, M, K) v.
        noise_w: σ².
        pilot_overlap: (…, K, K) G; None when pilots are orthogonal.

    Returns:
        (…, K) linear
    """
    xp = namespace(power)
    amplitude = root(power * estimate_gain)
    signal = xp.sum(amplitude, axis=-2)
    received = xp.matmul(xp.sum(power, axis=-1)[..., None, :], gain)[..., 0, :]
    interference = received + noise_w
    if pilot_overlap is not None:
        leaked = xp.matmul(xp.matrix_transpose(gain), amplitude / gain) ** 2 * pilot_overlap  # (…, k, k')
        own = xp.eye(leaked.shape[-1], dtype=leaked.dtype, device=array_api_compat.device(leaked))
        interference = interference + xp.sum(leaked * (1.0 - own), axis=-1)
    return signal * signal / interference


def root(x: Array) -> Array:
    """Compute √x of nonnegative x, with slope zero instead of infinity at zero."""
    if type(x) is np.ndarray:
        return np.sqrt(x)
    xp = array_api_compat.array_namespace(x)
    positive = x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0.0)


def fisher_matrix(ap_power: Array, fisher: Array, prior: Array | None = None) -> Array:
    """Compute the Fisher information about each target's position, paper (5):  J_s = J0_s + Σ_m P_m Q_ms.

    Args:
        ap_power: (…, M) P_m in W.
        fisher: (…, M, S, 3) q_a, q_b, q_c in 1/(W m²).
        prior: (…, S, 3) J0 in 1/m²; None is none.

    Returns:
        (…, S, 3) J_a, J_b, J_c of J_s = [[J_a, J_c], [J_c, J_b]] in 1/m².
    """
    xp = namespace(ap_power)
    flat = xp.reshape(fisher, (*fisher.shape[:-2], 3 * fisher.shape[-2]))
    total = (ap_power[..., None, :] @ flat)[..., 0, :]
    information = xp.reshape(total, (*total.shape[:-1], *fisher.shape[-2:]))
    return information if prior is None else information + prior


def crlb(ap_power: Array, fisher: Array, prior: Array | None = None) -> Array:
    """Compute the Cramér–Rao bound on each target's position, paper (6):  tr(J_s⁻¹) with J_s = J0_s + Σ_m P_m Q_ms.

    Bound and gradient grow without limit as the power vanishes; losses take `precision` instead.

    Args:
        ap_power: (…, M) P_m in W.
        fisher: (…, M, S, 3) q_a, q_b, q_c in 1/(W m²).
        prior: (…, S, 3) J0 in 1/m², with which the bound is that on the posterior error; None is none.

    Returns:
        (…, S) m²; infinite where the Fisher matrix is singular.
    """
    return trace_inverse(fisher_matrix(ap_power, fisher, prior))


def trace_inverse(information: Array) -> Array:
    """Compute tr(J⁻¹) = tr J/det J in m² of Fisher matrices (…, 3), see `fisher_matrix`; infinite where they are singular to rounding."""
    xp = namespace(information)
    a, b, c = information[..., 0], information[..., 1], information[..., 2]
    determinant = a * b - c * c
    regular = determinant > SINGULAR * xp.finfo(information.dtype).eps * a * b
    return xp.where(regular, (a + b) / xp.where(regular, determinant, 1.0), xp.inf)


def precision(information: Array) -> Array:
    """Compute 1/tr(J⁻¹) in 1/m² of Fisher matrices (…, 3), see `fisher_matrix`; zero where they are singular to rounding.

    The matrix is divided by its trace first, so that gradients are finite and bounded for every power, also in float32.
    """
    limits = namespace(information).finfo(information.dtype)
    trace = information[..., 0] + information[..., 1]
    divisor = trace + (trace <= limits.smallest_normal)
    a, b, c = information[..., 0] / divisor, information[..., 1] / divisor, information[..., 2] / divisor
    determinant = a * b - c * c
    return trace * determinant * (determinant > SINGULAR * limits.eps * a * b)


def _positive_part(x: Array) -> Array:
    return x * (x > 0)


def fewest_active(problem: Problem, least_transmit_w: float = 0.0) -> Array:
    """Compute a lower bound n_min on the number of active APs of feasible decisions, (…,).

    With fractions x_mk = p_mk/P_m, I_k = Σ_m ς_mk P_m and ρ_k = max_m v_mk/ς_mk, Cauchy–Schwarz gives

        γ (I_k + σ²)  ≤  (Σ_m √(x_mk v_mk P_m))²  ≤  ρ_k I_k Σ_m x_mk,

    and summed over the users, n ≥ Σ_k (γ/ρ_k) (1 + σ²/I_k), where I_k ≤ P_max Σ_m ς_mk. The caps require n ≥ T/P_max.

    Args:
        problem: one drop, or a batch along leading axes …; pilot contamination is neglected, a relaxation.
        least_transmit_w: W, lower bound on the transmit power of every set.

    Returns:
        A float, at most M.
    """
    gain = problem.gain
    xp = namespace(gain)
    ratio = xp.max(problem.estimate_gain / gain, axis=-2)
    most = problem.max_ap_power_w * xp.sum(gain, axis=-2)
    users = xp.sum(problem.sinr_threshold / ratio * (1.0 + problem.noise_w / most), axis=-1)
    # Rounded down, so that rounding errors never add an AP.
    needed = clip(users, least_transmit_w / problem.max_ap_power_w) * (1.0 - 1e-12)
    return clip(xp.ceil(xp.where(xp.isfinite(needed), needed, float(problem.M))), 1.0, float(problem.M))


def evaluate(problem: Problem, decision: Decision, tolerance: float = FEASIBILITY_TOLERANCE) -> Outcome:
    """Evaluate a decision: SINR, CRLB, power and all violations of problem (8) of the paper.

    Args:
        problem: leading axes that broadcast against the decision's.
        decision: `active` (…, M), `power` (…, M, K).
        tolerance: relative tolerance on the constraints.
    """
    return compiled.evaluate(problem, decision, tolerance) or _evaluate(problem, decision, tolerance)


def _evaluate(problem: Problem, decision: Decision, tolerance: float) -> Outcome:
    xp = namespace(decision.power)
    ap_power = xp.sum(decision.power, axis=-1)
    gamma = sinr(decision.power, problem.gain, problem.estimate_gain, problem.noise_w, problem.pilot_overlap)
    information = fisher_matrix(ap_power, problem.fisher, problem.prior)
    bound = trace_inverse(information)
    transmit = xp.sum(ap_power, axis=-1)
    on = xp.astype(decision.active, ap_power.dtype)
    circuit = problem.circuit_power_w * xp.sum(on, axis=-1)
    sinr_violation = _positive_part(1.0 - gamma / problem.sinr_threshold)
    crlb_violation = _positive_part(1.0 - problem.crlb_threshold_m2 * precision(information))
    excess = xp.where(decision.active, ap_power / problem.max_ap_power_w - 1.0, xp.where(ap_power > 0, xp.inf, 0.0))
    cap_violation = _positive_part(xp.max(excess, axis=-1))
    feasible = (
        xp.all(gamma >= problem.sinr_threshold * (1 - tolerance), axis=-1)
        & xp.all(bound <= problem.crlb_threshold_m2 * (1 + tolerance), axis=-1)
        & (cap_violation <= tolerance)
    )
    return Outcome(
        sinr=gamma,
        crlb=bound,
        transmit_power=transmit,
        circuit_power=circuit,
        total_power=transmit + circuit,
        sinr_violation=sinr_violation,
        crlb_violation=crlb_violation,
        cap_violation=cap_violation,
        feasible=feasible,
    )
