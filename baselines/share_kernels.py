"""Compiled Lagrangian of the share relaxation: lower bounds on the transmit power of all sets of n APs, see `docs/bounds.md`.

With the share x_mk = p_mk/P_m of an AP's power and the share y_mk = s_mk P_m/t_k of user k's received power (t_k = Σ_m s_mk P_m + 1, gains
s over noise, ρ = v/ς, powers in units of P_max), every decision with the set a satisfies

    Σ_m √(ρ_mk x_mk y_mk) ≥ √γ,   Σ_k x_mk ≤ a_m,   0 ≤ y_mk ≤ a_m,   Σ_m y_mk + h_k ≤ 1,   h_k − h_k² ≥ Σ_m y_mk²/(s_mk P_m),  h_k = 1/t_k,

the caps and the CRLBs. Multipliers α (SINR), η (sum of shares), ν (noise share) and Z (CRLB) separate the APs:

    L = √γ Σα − Ση − Σ_k ((ν_k − η_k)₊)²/(4ν_k) + Σ_s (tr Z_s^½)² + min_{Σa = n} Σ_m a_m c_m,
    c_m = min_{0 ≤ P ≤ 1} max_{ξ > 0} P (1 − ⟨Z, Q_m⟩) − ξ + Σ_k φ_k,    φ_k = min_{0 ≤ y ≤ 1} −d_k y + y²/(2q_k),
    d_k = α_k² ρ_mk/(4ξ) − η_k,    q_k = s_mk P/(2ν_k).

Any multipliers give a bound. `tighten` maximises it by Levenberg–Marquardt steps on a smooth form, in which an entropy term of a softens
the selection of the n smallest c_m; the returned value is that of the true Lagrangian.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.result import Float
from baselines.allocation.triangular import PANEL, add_gram, backward, cholesky, copy, forward
from cfisac_env.jit import compiled

SADDLE_STEPS, JOINT_STEPS = 80, 14
LEAST_MULTIPLIER = 1e-9
"""Least multiplier, relative to the bounded power."""

ROUNDING_ALLOWANCE = 1e-12
"""Rounding allowance subtracted from a bound, relative to its terms."""


@compiled()
def _saddle(beta: Float, eta: Float, width: Float, base: float, P: float, xi: float, out: Float) -> None:
    """Solve the saddle-point problem of one AP from initial P and ξ.

    The two equations, A = Σ y e/ξ = 1 with e = α²ρ/(4ξ) and G = Σ y²/(2qP) = 1 − ⟨Z, Q⟩, are nearly linear in logarithms, where Newton's
    method is applied. If the kinks of y make it cycle, P is bracketed, with ξ solved for each P.

    Args:
        beta: (K,) α² ρ/4.
        eta: (K,) η.
        width: (K,) 2ν/s, so that q = P/width.
        base: 1 − ⟨Z, Q⟩.
        P: initial value.
        xi: initial value.
        out: (7,) receives P, ξ, the certified c, Γ_PP, Γ_Pξ and Γ_ξξ, and whether P is at its cap.
    """
    K = beta.shape[0]
    # At this ξ and above, every y is zero.
    ceiling = 0.0
    for k in range(K):
        ceiling = max(ceiling, beta[k] / eta[k])
    if not xi < ceiling:
        xi = 0.5 * ceiling
    P_low, P_high, xi_low, xi_high = 0.0, 1.0, 0.0, ceiling
    for step in range(SADDLE_STEPS):
        A, G, PP, Px, xx = 0.0, 0.0, 0.0, 0.0, 0.0
        value = P * base - xi
        inverse, one = 1.0 / xi, 1.0 / P
        for k in range(K):
            e = beta[k] * inverse
            d = e - eta[k]
            q = P / width[k]
            f = e * inverse
            whole = d * q
            y = min(max(whole, 0.0), 1.0)
            middle = 1.0 if 0.0 < whole < 1.0 else 0.0
            full = 1.0 if whole >= 1.0 else 0.0
            half = 0.5 * y * y / q
            value += half - d * y
            A += y * f
            G += half
            PP += full / q
            Px += middle * y * f
            xx -= 2.0 * y * f * inverse + middle * q * f * f
        G *= one
        PP *= one * one
        Px *= one
        capped = P >= 1.0 and base <= G
        users = abs(A - 1.0) <= 1e-9
        if users and (capped or abs(G - base) <= 1e-9 * abs(base)):
            break
        if not A > 0.0:
            xi *= 0.5
            continue
        bend = xi * xx / A
        if step < JOINT_STEPS:
            miss = np.log(A)
            if capped or base <= 0.0:
                move = np.log(1.0 / P)
            else:
                # ln G = ln base with ln ξ eliminated.
                along = -P * PP / G + (xi * Px / G) * (P * Px / A) / bend
                move = -(np.log(G / base) + (xi * Px / G) * miss / bend) / along
                move = min(max(move, -2.0), 2.0) if abs(move) < np.inf else -0.5
                move = min(move, np.log(1.0 / P))
            turn = -(miss + (P * Px / A) * move) / bend
            P = min(P * np.exp(move), 1.0)
            new = xi * np.exp(min(max(turn, -2.0), 2.0))
            xi = new if new < ceiling else 0.5 * (xi + ceiling)
        elif not users:
            if A > 1.0:
                xi_low = xi
            else:
                xi_high = xi
            new = xi * np.exp(min(max(-np.log(A) / bend, -2.0), 2.0))
            if not xi_low < new < xi_high:
                new = np.sqrt(xi_low * xi_high) if xi_low > 0.0 else 0.2 * min(xi, xi_high)
            xi = new
        else:
            if base < G:
                P_low = P
            else:
                P_high = P
            along = -P * PP / G + (xi * Px / G) * (P * Px / A) / bend
            new = P * np.exp(min(max(-np.log(G / base) / along, -2.0), 2.0)) if base > 0.0 else P_high
            if not (P_low < new < P_high or new == 1.0):
                new = np.sqrt(P_low * P_high) if P_low > 0.0 else 0.2 * P_high
            P = min(new, 1.0)
            xi_low, xi_high = 0.0, ceiling
    # Γ is convex in P for this ξ: its tangent bounds it on all of [0, 1].
    slope = base - G
    out[0] = P
    out[1] = xi
    out[2] = value - max(slope * P, -slope * (1.0 - P))
    out[3] = PP
    out[4] = Px
    out[5] = min(xx, -1e-300)
    out[6] = 1.0 if capped else 0.0


@compiled()
def _constant(theta: Float, K: int, gamma: float) -> tuple[float, float]:
    """Compute the part of L that is independent of the APs, and the magnitude of its terms."""
    value = size = 0.0
    for k in range(K):
        alpha, eta, nu = theta[k], theta[K + k], theta[2 * K + k]
        rest = max(nu - eta, 0.0)
        value += np.sqrt(gamma) * alpha - eta - rest * rest / (4.0 * nu)
        size += np.sqrt(gamma) * alpha + eta + nu
    for j in range(3 * K, theta.shape[0], 3):
        za, zb, zc = theta[j], theta[j + 1], theta[j + 2]
        # Rounded down, see `Multipliers.sensing_value`.
        root = np.sqrt(max((1.0 - 4e-15) * za * zb - zc * zc, 0.0))
        value += za + zb + 2.0 * root
        size += za + zb
    return value, size


@compiled(
    "(float64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], int8[::1], float64,"
    " float64[::1], float64[::1], float64[::1], float64[:, ::1])"
)
def prices(
    theta: Float, inverse_s: Float, rho: Float, Q: Float, state: Any, gamma: float, P: Float, xi: Float, c: Float, curves: Float
) -> float:  # fmt: skip
    """Fill `c` (M,) with c_m, infinite for APs that are off; return the constant part of L, less a rounding allowance."""
    M, K = rho.shape
    beta, eta, width, out = np.empty(K), theta[K : 2 * K], np.empty(K), np.empty(7)
    constant, size = _constant(theta, K, gamma)
    for m in range(M):
        if state[m] < 0:
            c[m] = np.inf
            continue
        for k in range(K):
            beta[k] = 0.25 * theta[k] * theta[k] * rho[m, k]
            width[k] = 2.0 * theta[2 * K + k] * inverse_s[m, k]
        base = 1.0
        for j in range(Q.shape[1]):
            base -= theta[3 * K + j] * Q[m, j]
        _saddle(beta, eta, width, base, P[m], xi[m], out)
        if not (out[0] > 0.0 and out[1] > 0.0 and np.isfinite(out[2])):
            # Retry from a default starting point.
            _saddle(beta, eta, width, base, 1e-3, np.sqrt(beta.sum()) * 0.1 + 1e-12, out)
        P[m], xi[m], c[m] = out[0], out[1], out[2]
        for j in range(4):
            curves[m, j] = out[3 + j]
        size += abs(c[m]) / M
    return constant - ROUNDING_ALLOWANCE * size


@compiled("(float64[::1], int8[::1], int64, boolean, int64[::1])")
def least(c: Float, state: Any, n: int, larger: bool, order: Any) -> float:
    """Sum c over the APs that are on and the n − |on| smallest of the free ones; infinite when no set of n APs fits the state.

    With `larger`, sets may have more than n APs: further negative c are included.
    """
    total, count = 0.0, n
    free = 0
    for m in range(c.shape[0]):
        if state[m] > 0:
            total += c[m]
            count -= 1
        elif state[m] == 0:
            place = free
            while place > 0 and c[order[place - 1]] > c[m]:
                order[place] = order[place - 1]
                place -= 1
            order[place] = m
            free += 1
    if larger:
        count = max(count, 0)
    if count < 0 or free < count:
        return np.inf
    for i in range(free):
        if i < count or (larger and c[order[i]] < 0.0):
            total += c[order[i]]
    return total


@compiled()
def _soften(c: Float, state: Any, count: int, larger: bool, epsilon: float, a: Float) -> tuple[float, bool]:
    """Fill `a` with weights a_m = 1/(1 + e^((c_m − τ)/ε)) of the free APs that sum to `count`, or with `larger` to `count` or more.

    Returns:
        Σ a c − ε H(a), and whether τ is determined by the sum; otherwise it is zero.
    """
    M = c.shape[0]
    low, high, free = np.inf, -np.inf, 0
    for m in range(M):
        a[m] = 1.0 if state[m] > 0 else 0.0
        if state[m] == 0:
            low, high, free = min(low, c[m]), max(high, c[m]), free + 1
    value = 0.0
    if (count <= 0 and not larger) or count >= free:
        for m in range(M):
            if state[m] == 0 and count > 0:
                a[m] = 1.0
                value += c[m]
        return value, True
    reach = epsilon * (np.log(float(M)) + 1.0)
    low, high = low - reach, high + reach
    tau, tied = 0.0 if larger else 0.5 * (low + high), True
    for step in range(80):
        total = slope = 0.0
        for m in range(M):
            if state[m] == 0:
                a[m] = 1.0 / (1.0 + np.exp(min((c[m] - tau) / epsilon, 700.0)))
                total += a[m]
                slope += a[m] * (1.0 - a[m])
        if abs(total - count) <= 1e-12 * count:
            break
        if larger and step == 0 and total > count:
            tied = False
            break
        if total > count:
            high = tau
        else:
            low = tau
        newton = tau + (count - total) * epsilon / max(slope, 1e-300)
        tau = newton if low < newton < high else 0.5 * (low + high)
    for m in range(M):
        if state[m] == 0 and a[m] > 0.0:
            value += a[m] * c[m] + epsilon * a[m] * np.log(a[m])
            if a[m] < 1.0:
                value += epsilon * (1.0 - a[m]) * np.log(1.0 - a[m])
    return value, tied


@compiled()
def _system(
    theta: Float, scale: Float, inverse_s: Float, rho: Float, Q: Float, state: Any, gamma: float, P: Float, xi: Float, a: Float,
    tied: bool, curves: Float, epsilon: float, gradient: Float, H: Float, plus: Float, minus: Float,
) -> None:  # fmt: skip
    """Compute gradient and negative Hessian of the smooth form in variables scaled by `scale`.

    With P and ξ eliminated, −∇²c = −Γ_θθ + u_ξu_ξᵀ/Γ_ξξ + uuᵀ/f″ for u = u_P − u_ξ Γ_Pξ/Γ_ξξ and f″ = Γ_PP − Γ_Pξ²/Γ_ξξ; Γ_θθ has a 3 × 3
    block per user. The weights a add (Σ ω ggᵀ − ḡḡᵀ/Σω)/ε with ω = a (1 − a), g = ∇c_m and ḡ = Σ ω g, the latter if their sum is `tied`.
    """
    M, K = rho.shape
    N = theta.shape[0]
    H[:] = 0.0
    gradient[:] = 0.0
    plus[:] = 0.0
    minus[:] = 0.0
    up, down = 0, 0
    g, u_xi, mean = np.zeros(N), np.zeros(N), np.zeros(N)
    weight = 0.0
    for k in range(K):
        alpha, eta, nu = theta[k], theta[K + k], theta[2 * K + k]
        share = max(nu - eta, 0.0) / (2.0 * nu)
        gradient[k] += alpha * np.sqrt(gamma)
        gradient[K + k] += eta * (share - 1.0)
        gradient[2 * K + k] += nu * (share * share - share)
        if share > 0.0:
            H[K + k, K + k] += 0.5 * eta * eta / nu
            H[2 * K + k, K + k] -= 0.5 * eta * (1.0 - 2.0 * share)
            H[2 * K + k, 2 * K + k] += 0.5 * nu * (1.0 - 2.0 * share) ** 2
    for j in range(3 * K, N, 3):
        za, zb, zc = theta[j], theta[j + 1], theta[j + 2]
        root = np.sqrt(max(za * zb - zc * zc, 1e-300))
        unit = scale[j]
        slope = (zb, za, -2.0 * zc)
        for i in range(3):
            gradient[j + i] += unit * ((1.0 if i < 2 else 0.0) + slope[i] / root)
            for o in range(i + 1):
                H[j + i, j + o] += unit * unit * 0.5 * slope[i] * slope[o] / root**3
        H[j + 1, j] -= unit * unit / root
        H[j + 2, j + 2] += 2.0 * unit * unit / root
    for m in range(M):
        share = a[m]
        if share < 1e-10:
            continue
        power, x = P[m], xi[m]
        inverse = 1.0 / x
        PP, Px, xx, capped = curves[m, 0], curves[m, 1], curves[m, 2], curves[m, 3]
        ratio = Px / xx
        bend = PP - Px * ratio
        root = np.sqrt(share)
        over = root / np.sqrt(bend) if capped == 0.0 and bend > 0.0 else 0.0
        under = root / np.sqrt(-xx)
        for k in range(K):
            alpha, eta, nu = theta[k], theta[K + k], theta[2 * K + k]
            e = 0.25 * alpha * alpha * rho[m, k] * inverse
            q = power / (2.0 * nu * inverse_s[m, k])
            whole = (e - eta) * q
            y = min(max(whole, 0.0), 1.0)
            middle = 1.0 if 0.0 < whole < 1.0 else 0.0
            full = 1.0 if whole >= 1.0 else 0.0
            f = e * inverse
            half = 0.5 * y * y / q
            g[k], g[K + k], g[2 * K + k] = -2.0 * y * e, y * eta, half
            first = 2.0 * f * (y + middle * q * e)
            second = -middle * q * f * eta
            third = -middle * y * f
            u_xi[k], u_xi[K + k], u_xi[2 * K + k] = first, second, third
            minus[down, k], minus[down, K + k], minus[down, 2 * K + k] = under * first, under * second, under * third
            plus[up, k] = over * (-2.0 * middle * y * e / power - first * ratio)
            plus[up, K + k] = over * (middle * y * eta / power - second * ratio)
            plus[up, 2 * K + k] = over * ((middle - full) * half / power - third * ratio)
            H[k, k] += share * (2.0 * y * e + 4.0 * middle * q * e * e)
            H[K + k, k] -= share * 2.0 * middle * q * e * eta
            H[2 * K + k, k] -= share * 2.0 * middle * y * e
            H[K + k, K + k] += share * middle * q * eta * eta
            H[2 * K + k, K + k] += share * middle * y * eta
            H[2 * K + k, 2 * K + k] += share * 2.0 * middle * half
        for j in range(3 * K, N):
            g[j] = -power * Q[m, j - 3 * K] * scale[j]
            plus[up, j] = -over * Q[m, j - 3 * K] * scale[j]
        for j in range(N):
            gradient[j] += share * g[j]
        up += 1
        down += 1
        spread = share * (1.0 - share) / epsilon if state[m] == 0 else 0.0
        if spread > 1e-12 / epsilon:
            weight += spread
            root = np.sqrt(spread)
            for j in range(N):
                plus[up, j] = root * g[j]
                mean[j] += spread * g[j]
            up += 1
    if tied and weight > 0.0:
        for j in range(N):
            minus[down, j] = mean[j] / np.sqrt(weight)
        down += 1
    # H += plusᵀplus − minusᵀminus, by two sign changes.
    for i in range(N):
        for j in range(i + 1):
            H[i, j] = -H[i, j]
    add_gram(H, minus[:down])
    for i in range(N):
        for j in range(i + 1):
            H[i, j] = -H[i, j]
    add_gram(H, plus[:up])


@compiled()
def _step_length(theta: Float, move: Float, scale: Float, K: int) -> float:
    """Compute the step length along `move` (scaled), at most 1, that keeps a fifth of every positive variable and Z positive definite."""
    length = 1.0
    N = theta.shape[0]
    for j in range(3 * K):
        length = min(length, -0.8 / move[j]) if move[j] < 0.0 else min(length, 4.0 / max(move[j], 1e-300))
    for j in range(3 * K, N, 3):
        unit = scale[j]
        for _ in range(60):
            za, zb, zc = (theta[j] + length * unit * move[j], theta[j + 1] + length * unit * move[j + 1],
                          theta[j + 2] + length * unit * move[j + 2])  # fmt: skip
            now = theta[j] * theta[j + 1] - theta[j + 2] * theta[j + 2]
            if (
                za > 0.2 * theta[j]
                and zb > 0.2 * theta[j + 1]
                and za * zb - zc * zc > 0.04 * now
                and za + zb < 5.0 * (theta[j] + theta[j + 1])
            ):
                break
            length *= 0.7
    return length


@compiled()
def _keep_positive(theta: Float, before: Float, K: int, floor: float) -> None:
    """Clip vanishing multipliers at `floor`, and keep the previous Z where it vanishes, so that squares do not underflow."""
    for j in range(3 * K):
        theta[j] = max(theta[j], floor)
    for j in range(3 * K, theta.shape[0], 3):
        if theta[j] + theta[j + 1] < floor:
            for i in range(3):
                theta[j + i] = before[j + i]


@compiled(
    "(float64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], int8[::1], int64, boolean, float64[::1], float64,"
    " float64[::1], float64[::1], float64, float64, float64, int64, float64[::1], float64[::1])"
)
def tighten(
    theta: Float, inverse_s: Float, rho: Float, Q: Float, state: Any, n: int, larger: bool, cost: Float, gamma: float, P: Float, xi: Float,
    softness: float, unit: float, target: float, evaluations: int, c: Float, a: Float,
) -> tuple[float, int]:  # fmt: skip
    """Maximise the bound on the transmit power plus cost of all sets of n APs with the APs that are on and none that is off.

    Args:
        theta: (3K + 3S,) α, η, ν and Z as (Z_aa, Z_bb, Z_ab); receives the best multipliers.
        inverse_s: (M, K) 1/s, s in units of 1/P_max.
        rho: (M, K) v/ς.
        Q: (M, 3S) ν P_max (q_a, q_b, 2q_c).
        state: (M,) 1 on, 0 free, −1 off.
        n: size of the sets.
        larger: whether sets may have more than n APs.
        cost: (M,) of each AP in units of P_max, which adds to its c.
        gamma: SINR threshold.
        P: (M,) initial AP powers, updated.
        xi: (M,) initial ξ, updated.
        softness: ε.
        unit: scale of the bound, for tolerances.
        target: stop once the bound exceeds it.
        evaluations: maximum number of evaluations of L.
        c: (M,) receives c_m at the best multipliers, infinite where off.
        a: (M,) receives the weights there.

    Returns:
        The bound in units of P_max, and the number of evaluations.
    """
    M, K = rho.shape
    N = theta.shape[0]
    curves, order = np.empty((M, 4)), np.empty(M, np.int64)
    trial, scale, move, gradient = theta.copy(), np.empty(N), np.empty(N), np.empty(N)
    H, plus, minus, panel = np.empty((N, N)), np.empty((2 * M, N)), np.empty((M + 1, N)), np.empty((PANEL + 1, N))
    factor = np.empty((N, N))
    now, count = np.empty(M), n
    for m in range(M):
        if state[m] > 0:
            count -= 1
    constant = prices(theta, inverse_s, rho, Q, state, gamma, P, xi, now, curves)
    for m in range(M):
        now[m] += cost[m]
    best = constant + least(now, state, n, larger, order)
    copy(now, c)
    smooth, tied = _soften(now, state, count, larger, softness, a)
    smooth += constant
    for m in range(M):
        if state[m] > 0:
            smooth += now[m]
    if not np.isfinite(best):
        return (np.inf if best == np.inf else -np.inf), 1
    spent, damping, current = 1, 1e-3 * unit, theta.copy()
    weights = a.copy()
    while spent < evaluations and best <= target:
        for j in range(3 * K):
            scale[j] = current[j]
        for j in range(3 * K, N, 3):
            scale[j] = scale[j + 1] = scale[j + 2] = 0.5 * (current[j] + current[j + 1])
        _system(
            current, scale, inverse_s, rho, Q, state, gamma, P, xi, weights, tied, curves, softness, gradient, H, plus, minus
        )  # fmt: skip
        accepted = False
        while spent < evaluations:
            for j in range(N):
                copy(H[j], factor[j])
                factor[j, j] += damping
                move[j] = gradient[j]
            cholesky(factor, panel)
            forward(factor, move)
            backward(factor, move)
            length = _step_length(current, move, scale, K)
            gain = 0.0
            for j in range(N):
                trial[j] = current[j] + length * scale[j] * move[j]
                gain += length * move[j] * gradient[j]
            _keep_positive(trial, current, K, LEAST_MULTIPLIER * unit)
            if not gain > 1e-9 * unit:
                # Converged, unless rounding at a kink made the system indefinite.
                if gain >= 0.0 or damping > 1e9 * unit:
                    return best, spent
                damping = max(8.0 * damping, 1e-6 * unit)
                continue
            constant = prices(trial, inverse_s, rho, Q, state, gamma, P, xi, now, curves)
            spent += 1
            for m in range(M):
                now[m] += cost[m]
            value = constant + least(now, state, n, larger, order)
            after, tied = _soften(now, state, count, larger, softness, weights)
            after += constant
            for m in range(M):
                if state[m] > 0:
                    after += now[m]
            if value > best:
                best = value
                copy(trial, theta)
                copy(now, c)
                copy(weights, a)
                if best > target:
                    return best, spent
            if after > smooth:
                better = (after - smooth) / gain
                damping *= 0.2 if better > 0.5 else (1.0 if better > 0.1 else 4.0)
                smooth = after
                copy(trial, current)
                accepted = True
                break
            damping = max(8.0 * damping, 1e-12 * unit)
            if damping > 1e9 * unit:
                return best, spent
        if not accepted:
            break
    return best, spent
