"""Compiled loops of `actions.decode` and `physics`: equal to the array code up to rounding, and bit-identical for drops."""

from __future__ import annotations

import numpy as np

from cfisac_env.jit import compiled
from cfisac_env.physics import SINGULAR
from cfisac_env.types import Array


def _read_only(ndim: int, dtype: str = "float64", layout: str = "C") -> str:
    """Return the numba type of a read-only array argument, as a `Scenario` has them."""
    return f"Array({dtype}, {ndim}, {layout!r}, True)"


_TABLE, _BLOCK, _CUBE = (f"float64[{':, ' * n}::1]" for n in (1, 2, 3))
_POSITIONS = _read_only(3, layout="A")
_ROUNDING = SINGULAR * float(np.finfo(np.float64).eps)


@compiled()
def trace_inverse(a: float, b: float, c: float, rounding: float) -> float:
    """Compute `physics.trace_inverse` of one Fisher matrix; `rounding` is `SINGULAR` machine epsilons of its precision."""
    determinant = a * b - c * c
    return (a + b) / determinant if determinant > rounding * a * b else np.inf


@compiled(f"({_read_only(3, 'float32')}, float64, boolean[:, ::1], {_BLOCK})")
def decode(action: Array, max_ap_power_w: float, active: Array, power: Array) -> None:
    """Compute `actions.decode` of (B, M, K + 1) float32 into `active` (B, M) and `power` (B, M, K)."""
    B, M, K = power.shape
    for b in range(B):
        for m in range(M):
            on = action[b, m, 0] >= 0
            active[b, m] = on
            if on:
                total = 0.0
                for k in range(K):
                    amplitude = (min(max(np.float64(action[b, m, k + 1]), -1.0), 1.0) + 1.0) * 0.5
                    power[b, m, k] = amplitude * amplitude
                    total += amplitude * amplitude
                scale = max_ap_power_w / max(total, 1.0)
                for k in range(K):
                    power[b, m, k] *= scale
            else:
                power[b, m] = 0.0


@compiled(
    f"({_read_only(3)}, {_read_only(2, 'boolean')}, {_read_only(3)}, {_read_only(3)}, {_read_only(3)}, {_read_only(4)}, {_read_only(3)},"
    f" {'float64, ' * 6} {_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}, boolean[::1])"
)
def evaluate(
    power: Array, active: Array, gain: Array, estimate_gain: Array, overlap: Array, fisher: Array, prior: Array, noise_w: float,
    sinr_threshold: float, crlb_threshold_m2: float, max_ap_power_w: float, circuit_power_w: float, tolerance: float,
    sinr: Array, crlb: Array, sinr_violation: Array, crlb_violation: Array, sums: Array, feasible: Array,
) -> None:  # fmt: skip
    """Compute `physics.evaluate` of B drops, each with its own decision.

    `overlap` is (B, K, K), or (0, K, K) with orthogonal pilots; `prior` is (B, S, 3), or (0, S, 3) without prior information. `sums` (4, B)
    receives transmit, circuit and total power and the cap violation; the other results have the names and shapes of `Outcome`.
    """
    B, M, K = power.shape
    S = fisher.shape[2]
    reused = overlap.shape[0] > 0
    signal, received, information = np.empty(K), np.empty(K), np.empty(3 * S)
    size = K if reused else 0
    partners, partner = np.zeros(size, np.int64), np.zeros((size, size), np.int64)
    leaked, ratio = np.empty((size, size)), np.empty(size)
    for b in range(B):
        signal[:] = 0.0
        received[:] = noise_w
        information[:] = 0.0
        if prior.shape[0] > 0:
            information[:] = prior[b].ravel()
        if reused:
            leaked[:] = 0.0
            for k in range(K):
                partners[k] = 0
                for j in range(K):
                    if j != k and overlap[b, k, j] != 0.0:
                        partner[k, partners[k]] = j
                        partners[k] += 1
        transmit, on, excess = 0.0, 0, 0.0
        for m in range(M):
            radiated = 0.0
            for k in range(K):
                radiated += power[b, m, k]
            transmit += radiated
            if active[b, m]:
                on += 1
                excess = max(excess, radiated / max_ap_power_w - 1.0)
            elif radiated > 0.0:
                excess = np.inf
            if radiated == 0.0:
                continue
            for k in range(K):
                signal[k] += np.sqrt(power[b, m, k] * estimate_gain[b, m, k])
                received[k] += radiated * gain[b, m, k]
            for s in range(S):
                for i in range(3):
                    information[3 * s + i] += radiated * fisher[b, m, s, i]
            if reused:
                for k in range(K):
                    ratio[k] = np.sqrt(power[b, m, k] * estimate_gain[b, m, k]) / gain[b, m, k]
                for k in range(K):
                    for i in range(partners[k]):
                        leaked[k, i] += gain[b, m, k] * ratio[partner[k, i]]
        fulfilled = True
        for k in range(K):
            interference = received[k]
            if reused:
                for i in range(partners[k]):
                    interference += overlap[b, k, partner[k, i]] * leaked[k, i] ** 2
            sinr[b, k] = signal[k] * signal[k] / interference
            sinr_violation[b, k] = max(1.0 - sinr[b, k] / sinr_threshold, 0.0)
            fulfilled &= sinr[b, k] >= sinr_threshold * (1.0 - tolerance)
        for s in range(S):
            crlb[b, s] = trace_inverse(information[3 * s], information[3 * s + 1], information[3 * s + 2], _ROUNDING)
            crlb_violation[b, s] = max(1.0 - crlb_threshold_m2 / crlb[b, s], 0.0)
            fulfilled &= crlb[b, s] <= crlb_threshold_m2 * (1.0 + tolerance)
        circuit = circuit_power_w * on
        sums[0, b], sums[1, b], sums[2, b], sums[3, b] = transmit, circuit, transmit + circuit, excess
        feasible[b] = fulfilled and excess <= tolerance


@compiled(f"({_POSITIONS}, {_POSITIONS}, float64, {_BLOCK})", exact=True)
def link_distance(ap_xy: Array, ue_xy: Array, min_distance_m: float, distance: Array) -> None:
    """Compute `physics.link_distance` of B drops into `distance` (B, M, K)."""
    B, M, K = distance.shape
    floor = min_distance_m * min_distance_m
    x, y = np.empty(K), np.empty(K)
    for b in range(B):
        for k in range(K):
            x[k], y[k] = ue_xy[b, k, 0], ue_xy[b, k, 1]
        for m in range(M):
            ap_x, ap_y = ap_xy[b, m, 0], ap_xy[b, m, 1]
            for k in range(K):
                dx, dy = ap_x - x[k], ap_y - y[k]
                distance[b, m, k] = np.sqrt(max(dx * dx + dy * dy, floor))


@compiled(f"({_POSITIONS}, {_POSITIONS}, {_POSITIONS}, float64, float64, {_CUBE})", exact=True)
def radar_gain(
    ap_xy: Array, sr_xy: Array, target_xy: Array, scale: float, min_distance_m: float, rcs_gain: Array
) -> None:
    """Compute `physics.radar_gain` of B drops into `rcs_gain` (B, M, S, T), with a constant cross-section in `scale`."""
    B, M, S, T = rcs_gain.shape
    floor = min_distance_m * min_distance_m
    sr_square = np.empty(T)
    for b in range(B):
        for s in range(S):
            x, y = target_xy[b, s, 0], target_xy[b, s, 1]
            for t in range(T):
                dx, dy = sr_xy[b, t, 0] - x, sr_xy[b, t, 1] - y
                sr_square[t] = max(dx * dx + dy * dy, floor)
            for m in range(M):
                dx, dy = ap_xy[b, m, 0] - x, ap_xy[b, m, 1] - y
                ap_square = max(dx * dx + dy * dy, floor)
                for t in range(T):
                    rcs_gain[b, m, s, t] = scale / (ap_square * sr_square[t])


@compiled(f"({_POSITIONS}, {_POSITIONS}, {_POSITIONS}, {_read_only(4)}, float64, {_CUBE})", exact=True)
def fisher_information(
    ap_xy: Array, sr_xy: Array, target_xy: Array, rcs_gain: Array, fisher_scale: float, fisher: Array
) -> None:
    """Compute `physics.fisher_information` of B drops into `fisher` (B, M, S, 3)."""
    B, M, S, T = rcs_gain.shape
    sr_way = np.empty((T, 2))
    for b in range(B):
        for s in range(S):
            x, y = target_xy[b, s, 0], target_xy[b, s, 1]
            for t in range(T):
                dx, dy = sr_xy[b, t, 0] - x, sr_xy[b, t, 1] - y
                distance = np.sqrt(dx * dx + dy * dy)
                if distance == 0.0:
                    distance = 1.0
                sr_way[t, 0], sr_way[t, 1] = dx / distance, dy / distance
            for m in range(M):
                dx, dy = ap_xy[b, m, 0] - x, ap_xy[b, m, 1] - y
                distance = np.sqrt(dx * dx + dy * dy)
                if distance == 0.0:
                    distance = 1.0
                way_x, way_y = dx / distance, dy / distance
                first, second, mixed = 0.0, 0.0, 0.0
                for t in range(T):
                    along_x, along_y = way_x + sr_way[t, 0], way_y + sr_way[t, 1]
                    weight = fisher_scale * rcs_gain[b, m, s, t]
                    weighted_x = weight * along_x
                    first += weighted_x * along_x
                    second += weight * along_y * along_y
                    mixed += weighted_x * along_y
                fisher[b, m, s, 0], fisher[b, m, s, 1], fisher[b, m, s, 2] = first, second, mixed


@compiled(f"({_read_only(3)}, {_read_only(3)}, float64, float64, float32[:, :, :, ::1])", exact=True)
def pairs(first: Array, second: Array, shift: float, limit: float, out: Array) -> None:
    """Interleave two arrays (B, M, K), minus `shift` and clipped to ±`limit`, in `out` (B, M, K, 2)."""
    B, M, K = first.shape
    for b in range(B):
        for m in range(M):
            for k in range(K):
                out[b, m, k, 0] = min(max(first[b, m, k] - shift, -limit), limit)
                out[b, m, k, 1] = min(max(second[b, m, k] - shift, -limit), limit)
