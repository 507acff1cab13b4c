"""The unrolled allocation of `agents.hetgnn.unrolled` for one set of APs, compiled.

The same steps on powers, signals and prices themselves instead of their logarithms, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agents.hetgnn.unrolled import BALANCING, CLIP, DAMPING, LARGEST_CRLB, MARGIN, RATE, SCALING
from cfisac_env.jit import compiled
from cfisac_env.kernels import trace_inverse
from cfisac_env.physics import SINGULAR

_HIGH, _LOW = math.exp(CLIP), math.exp(-CLIP)
_ROUNDING = SINGULAR * float(np.finfo(np.float64).eps)

HOPELESS = 1.3
"""Ratio of a checkpoint's power to the limit from which the set isn't taken to the next checkpoint."""

assert RATE == DAMPING == 0.5  # roots below


@compiled()
def _clipped(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


@compiled()
def _located(fisher: Any, level: Any, information: Any, crlb: Any) -> None:
    """Fill the Fisher matrices (S, 3) and the CRLBs (S,), in units of ν, of AP powers (n,)."""
    for s in range(len(crlb)):
        for j in range(3):
            information[s, j] = 0.0
            for i in range(len(level)):
                information[s, j] += level[i] * fisher[i, s, j]
        found = trace_inverse(information[s, 0], information[s, 1], information[s, 2], _ROUNDING)
        crlb[s] = min(found, LARGEST_CRLB)


@compiled()
def _signals(gain: Any, estimate: Any, level: Any, amplitude: Any, signal: Any, interference: Any) -> None:
    """Fill signals s_k (K,) and interference over noise (K,) for AP powers (n,) that are shared in proportion to c_k v_mk, c_k the squares of
    amplitudes (K,)."""
    signal[:], interference[:] = 0.0, 0.0
    for i in range(len(level)):
        total = 0.0
        for k in range(len(amplitude)):
            total += amplitude[k] * amplitude[k] * estimate[i, k]
        root = math.sqrt(level[i] / total)
        for k in range(len(amplitude)):
            signal[k] += amplitude[k] * estimate[i, k] * root
            interference[k] += level[i] * gain[i, k]


@compiled()
def allocate(
    rows: Any, links: Any, gamma: float, level: Any, users: Any, targets: Any, checkpoints: Any, limit: float, least: float,
    power: Any, sinr_price: Any, cap_price: Any, sensing_price: Any,
) -> bool:  # fmt: skip
    """Fill powers and prices of the cheapest checkpoint that serves, and return whether there is one.

    Args:
        rows: (n,) APs that are on.
        links: (M, K) ς P_max/σ² and v P_max/σ², (M, S, 3) q P_max ν.
        gamma: SINR threshold.
        level: (n,) start of P_m/P_max; changed.
        users: (K,) start of λ_k Σ_{m on} v_mk.
        targets: (S,) start of ζ_s/Σ_m P_m.
        checkpoints: numbers of steps, ascending.
        limit: transmit power over P_max that is of interest.
        least: γ_k/γ_thr and ν/CRLB_s from which powers serve.
        power: (M, K) powers over P_max, zero before.
        sinr_price: (K,) λ_k, zero before.
        cap_price: (M,) μ_m, zero before.
        sensing_price: (S, 3) Z_s = ζ_s J_s⁻², zero before.
    """
    gain, estimate, fisher = links[0][rows], links[1][rows], links[2][rows]
    n, K, S = len(rows), len(users), len(targets)
    price, signal, interference, amplitude = np.empty(K), np.empty(K), np.empty(K), np.empty(K)
    need, miss, crlb, information, square = np.ones(K), np.ones(S), np.empty(S), np.empty((S, 3)), np.zeros((S, 3))
    sensing, paid, worth, cost = targets * level.sum(), np.empty(K), np.zeros(n), np.zeros(n)
    for k in range(K):
        total, received = 0.0, 0.0
        for i in range(n):
            total += estimate[i, k]
            received += estimate[i, k] * level[i]
        price[k], signal[k] = users[k] / total, math.sqrt(received)
    cheapest, done, own, final = np.inf, 0, np.empty((n, K)), np.empty(n)
    for stop in checkpoints:
        for _ in range(done, stop):
            for k in range(K):
                paid[k] = price[k] * math.sqrt(need[k])
                amplitude[k] = paid[k] * signal[k]
            for i in range(n):
                total = 0.0
                for k in range(K):
                    total += amplitude[k] * amplitude[k] * estimate[i, k]
                worth[i] = math.sqrt(total / level[i])
            _signals(gain, estimate, level, amplitude, signal, interference)
            _located(fisher, level, information, crlb)
            for s in range(S):
                miss[s] = _clipped(crlb[s] * (1.0 + MARGIN), _LOW, _HIGH)
                scale = crlb[s] / max(information[s, 0] + information[s, 1], 1.0 / LARGEST_CRLB)
                y, x, z = information[s, 0] * scale, information[s, 1] * scale, information[s, 2] * scale
                square[s, 0], square[s, 1], square[s, 2] = x * x + z * z, y * y + z * z, -z * (x + y)
            for i in range(n):
                cost[i] = 1.0
                for k in range(K):
                    cost[i] += gamma * gain[i, k] * paid[k]
                for s in range(S):
                    q = fisher[i, s]
                    value = square[s, 0] * q[0] + square[s, 1] * q[1] + 2.0 * square[s, 2] * q[2]
                    worth[i] += max(value, 0.0) * sensing[s] * math.sqrt(miss[s])
                level[i] = min(level[i] * _clipped(math.sqrt(worth[i] / cost[i]), math.exp(-1.0), math.e), 1.0)
            for k in range(K):
                need[k] = _clipped(
                    gamma * (1.0 + MARGIN) * (1.0 + interference[k]) / (signal[k] * signal[k]), _LOW, _HIGH
                )
                price[k] *= math.sqrt(need[k])
            for s in range(S):
                sensing[s] *= math.sqrt(miss[s])
        done = stop
        final[:] = level
        serves = _balanced(gain, estimate, fisher, gamma, final, price * signal, least, own)
        total = own.sum()
        if serves and total < cheapest:
            cheapest = total
            for i in range(n):
                power[rows[i]] = own[i]
                cap_price[rows[i]] = max(worth[i] - cost[i], 0.0)
            sinr_price[:] = price
            for s in range(S):
                sensing_price[s] = sensing[s] * square[s]
        if total > HOPELESS * limit:
            break
    return bool(cheapest < np.inf)


@compiled()
def _balanced(
    gain: Any, estimate: Any, fisher: Any, gamma: float, level: Any, amplitude: Any, least: float, own: Any
) -> bool:
    """Fill powers (n, K) from AP powers (n,) and amplitudes (K,), balanced and scaled, and return whether they serve."""
    n, K = own.shape
    S = fisher.shape[1]
    signal, interference, crlb, information = np.empty(K), np.empty(K), np.empty(S), np.empty((S, 3))
    aim = gamma * (1.0 + MARGIN)
    for step in range(BALANCING + SCALING):
        _signals(gain, estimate, level, amplitude, signal, interference)
        if step >= BALANCING:
            _located(fisher, level, information, crlb)
            factor, reachable = 0.0, True
            for k in range(K):
                room = signal[k] * signal[k] - aim * interference[k]
                reachable = reachable and room > 0.0
                factor = max(factor, aim / max(room, aim * _LOW * _LOW))
            factor = factor if reachable else 0.0
            for s in range(S):
                factor = max(factor, crlb[s] * (1.0 + MARGIN))
            factor = _clipped(factor, _LOW, _HIGH)
            for i in range(n):
                level[i] = min(level[i] * factor, 1.0)
        for k in range(K):
            amplitude[k] *= math.sqrt(1.0 + interference[k]) / signal[k]
    for i in range(n):
        total = 0.0
        for k in range(K):
            own[i, k] = amplitude[k] * amplitude[k] * estimate[i, k]
            total += own[i, k]
        own[i] *= level[i] / total
    serves = True
    for k in range(K):
        received, interference[k] = 0.0, 1.0
        for i in range(n):
            received += math.sqrt(own[i, k] * estimate[i, k])
            interference[k] += level[i] * gain[i, k]
        serves = serves and received * received >= least * gamma * interference[k]
    _located(fisher, level, information, crlb)
    for s in range(S):
        serves = serves and crlb[s] * least <= 1.0
    return bool(serves)
