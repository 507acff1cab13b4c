"""Compiled checks and certificates of the interior point's scaled problem, whose symbols `interior_point` defines."""

from __future__ import annotations

import numpy as np

from baselines.allocation.cones import largest
from baselines.allocation.result import Float
from cfisac_env.jit import compiled


@compiled()
def violation(V: Float, S: Float, B: Float, b: Float, prior: Float, cap: float, p: Float) -> float:
    """Compute the largest relative violation of an SINR, CRLB or cap constraint by the powers p (m, K)."""
    m, K = V.shape
    worst = 0.0
    P = np.zeros(m)
    amplitude, t = np.zeros(K), b.copy()
    for i in range(m):
        for k in range(K):
            P[i] += p[i, k]
            amplitude[k] += np.sqrt(V[i, k] * p[i, k])
        for k in range(K):
            t[k] += S[i, k] * P[i]
        worst = max(worst, P[i] / cap - 1.0)
    for k in range(K):
        worst = max(worst, 1.0 - amplitude[k] * amplitude[k] / t[k])
    for e in range(B.shape[0]):
        total, difference, cross = prior[e, 0], prior[e, 1], prior[e, 2]
        for i in range(m):
            total += B[e, 0, i] * P[i]
            difference += B[e, 1, i] * P[i]
            cross += B[e, 2, i] * P[i]
        # With J = [[a, c], [c, b]] in units of 1/ν: total = (a + b)/2, difference = (a − b)/2 and cross = c.
        determinant = total * total - difference * difference - cross * cross
        worst = max(worst, 1.0 - determinant / (2.0 * total)) if total > 0.0 else np.inf
    return worst


@compiled()
def equalise(V: Float, S: Float, b: Float, p: Float) -> bool:
    """Scale each user's powers so that every SINR holds with equality, by a K × K linear system; return whether that is possible."""
    m, K = V.shape
    system = np.zeros((K, K + 1))
    for k in range(K):
        amplitude = 0.0
        for i in range(m):
            amplitude += np.sqrt(V[i, k] * p[i, k])
        system[k, k] = amplitude * amplitude
        system[k, K] = b[k]
    for i in range(m):
        for k in range(K):
            for o in range(K):
                system[k, o] -= S[i, k] * p[i, o]
    # An M-matrix, whose elimination needs no pivoting.
    for k in range(K):
        if not system[k, k] > 0.0:
            return False
        for o in range(k + 1, K):
            factor = system[o, k] / system[k, k]
            for a in range(k, K + 1):
                system[o, a] -= factor * system[k, a]
    for k in range(K - 1, -1, -1):
        total = system[k, K]
        for o in range(k + 1, K):
            total -= system[k, o] * system[o, K]
        system[k, K] = total / system[k, k]
        if not system[k, K] > 0.0:
            return False
    for i in range(m):
        for k in range(K):
            p[i, k] *= system[k, K]
    return True


@compiled()
def certify(
    V: Float, S: Float, B: Float, b: Float, prior: Float, cap: float, lam: Float, mu: Float, y: Float, w: Float,
    lam_out: Float, mu_out: Float, y_out: Float,
) -> float:  # fmt: skip
    """Fill in multipliers that remain dual feasible under rounding, and return their bound.

    Scaling all multipliers by 1 − ε turns the prices w into (1 − ε) w + ε, which absorbs rounding errors at the cost of a fraction ε of
    the bound.
    """
    m, K = V.shape
    demand = np.zeros(K)
    for i in range(m):
        if not w[i] > 0.0:
            return -np.inf
        for k in range(K):
            demand[k] += V[i, k] / w[i]
    for k in range(K):
        lam_out[k] = min(max(lam[k], 0.0), 1.0 / demand[k])
    slack = 1e-12
    for i in range(m):
        price = size = 1.0 + mu[i]
        for k in range(K):
            price += S[i, k] * lam_out[k]
            size += S[i, k] * lam_out[k]
        for e in range(B.shape[0]):
            for a in range(3):
                price -= B[e, a, i] * y[e, a]
            size += B[e, 0, i] * y[e, 0]
        slack = max(slack, w[i] - price + 1e-14 * size)
    if not slack < 1.0:
        return -np.inf
    value = 0.0
    for k in range(K):
        value += b[k] * lam_out[k]
    for i in range(m):
        value -= cap * mu[i]
    for e in range(B.shape[0]):
        # Rounded down, see `Multipliers.sensing_value`.
        inside = (1.0 - 4e-15) * y[e, 0] * y[e, 0] - y[e, 1] * y[e, 1] - y[e, 2] * y[e, 2]
        value += y[e, 0] + np.sqrt(max(inside, 0.0))
        for a in range(3):
            value -= prior[e, a] * y[e, a]
    # A proof of infeasibility is unbounded; twice the caps suffices.
    keep = min(1.0 - slack, 2.0 * m * cap / max(value, 1e-300))
    for k in range(K):
        lam_out[k] *= keep
    for i in range(m):
        mu_out[i] = mu[i] * keep
    for e in range(B.shape[0]):
        for a in range(4):
            y_out[e, a] = y[e, a] * keep
    return value * keep if np.isfinite(value) else -np.inf


@compiled()
def sensing_need(B: Float, prior: Float) -> float:
    """Compute a lower bound on the power for a CRLB: both by the trace of J and by its least informed direction in the prior."""
    best = largest(B[0])
    short = 2.0 - prior[0]
    need = (short / best if best > 0.0 else np.inf) if short > 0.0 else 0.0
    size = np.sqrt(prior[1] * prior[1] + prior[2] * prior[2])
    short = 1.0 + size - prior[0]
    if size > 0.0 and short > 0.0:
        best = 0.0
        for i in range(B.shape[1]):
            best = max(best, B[0, i] - (B[1, i] * prior[1] + B[2, i] * prior[2]) / size)
        need = max(need, short / best if best > 0.0 else np.inf)
    return need


@compiled()
def without_caps(V: Float, S: Float, b: Float, limit: float, lam: Float, w: Float) -> float:
    """Approximate the prices λ and w = 1 + Sλ of the problem without caps and sensing; return their bound bᵀλ.

    λ ← 1/Σ_i V_ik/w_i is a standard interference function (Yates, 1995): from λ = 0 it increases to the optimum and stays dual feasible.
    Iterates until the bound stalls or exceeds `limit`; without an optimum it diverges.
    """
    m, K = V.shape
    lam[:] = 0.0
    w[:] = 1.0
    bound = 0.0
    for _ in range(200):
        before, bound = bound, 0.0
        for k in range(K):
            demand = 0.0
            for i in range(m):
                demand += V[i, k] / w[i]
            # Rounded down, to stay dual feasible.
            lam[k] = (1.0 - 1e-9) / demand
            bound += b[k] * lam[k]
        for i in range(m):
            w[i] = 1.0
            for k in range(K):
                w[i] += S[i, k] * lam[k]
        if bound > limit or bound < 1.01 * before:
            break
    return bound
