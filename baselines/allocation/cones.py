"""Compiled pieces of the interior point: triangular algebra, and Nesterov–Todd scaling of its two kinds of cone.

Numba's cache looks only at the file of the function that it stores, so clear `__pycache__` after a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from baselines.allocation.result import Float

PIVOT = 1e-13  # smallest pivot of a factorisation, relative to its diagonal

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile without the interpreter lock; sums may be reordered, but NaN and infinity keep their meaning."""
    options = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    return cast(F, numba.njit(**options)(function))


@compiled
def add_gram(T: Float, X: Float) -> None:
    """T += XᵀX in the lower triangle: rows of X eight at a time, so that T is read once for eight products."""
    rows, m = X.shape
    whole = rows - rows % 8
    for k in range(0, whole, 8):
        for i in range(m):
            a0, a1, a2, a3 = X[k, i], X[k + 1, i], X[k + 2, i], X[k + 3, i]
            a4, a5, a6, a7 = X[k + 4, i], X[k + 5, i], X[k + 6, i], X[k + 7, i]
            for j in range(i + 1):
                T[i, j] += (
                    a0 * X[k, j]
                    + a1 * X[k + 1, j]
                    + a2 * X[k + 2, j]
                    + a3 * X[k + 3, j]
                    + a4 * X[k + 4, j]
                    + a5 * X[k + 5, j]
                    + a6 * X[k + 6, j]
                    + a7 * X[k + 7, j]
                )
    for k in range(whole, rows):
        for i in range(m):
            a0 = X[k, i]
            for j in range(i + 1):
                T[i, j] += a0 * X[k, j]


@compiled
def cholesky(T: Float) -> None:
    """Lower Cholesky factor in place; a pivot lost to rounding is lifted to `PIVOT` of its diagonal."""
    m = T.shape[0]
    for i in range(m):
        diagonal = T[i, i]
        for j in range(i):
            total = 0.0
            for c in range(j):
                total += T[i, c] * T[j, c]
            T[i, j] = (T[i, j] - total) / T[j, j]
        total = 0.0
        for c in range(i):
            total += T[i, c] * T[i, c]
        T[i, i] = np.sqrt(max(diagonal - total, PIVOT * diagonal))


@compiled
def forward(L: Float, x: Float) -> None:
    """Replace x by L⁻¹ x."""
    for i in range(x.shape[0]):
        total = 0.0
        for j in range(i):
            total += L[i, j] * x[j]
        x[i] = (x[i] - total) / L[i, i]


@compiled
def backward(L: Float, x: Float) -> None:
    """Replace x by L⁻ᵀ x."""
    for i in range(x.shape[0] - 1, -1, -1):
        x[i] /= L[i, i]
        for j in range(i):
            x[j] -= L[i, j] * x[i]


@compiled
def soc_scaling(u: Float, y: Float, bar: Float) -> float:
    """Nesterov–Todd point of the second-order cone pair (u, y): unit `bar` and η with W = η·Q(bar), W y = W⁻¹ u."""
    nu = np.sqrt(u[1] * u[1] + u[2] * u[2] + u[3] * u[3])
    ny = np.sqrt(y[1] * y[1] + y[2] * y[2] + y[3] * y[3])
    du = np.sqrt(max((u[0] - nu) * (u[0] + nu), 1e-300))
    dy = np.sqrt(max((y[0] - ny) * (y[0] + ny), 1e-300))
    inner = (u[0] * y[0] + u[1] * y[1] + u[2] * y[2] + u[3] * y[3]) / (du * dy)
    half = 0.5 / np.sqrt(0.5 * (1.0 + max(inner, 1.0)))
    bar[0] = half * (u[0] / du + y[0] / dy)
    for a in range(1, 4):
        bar[a] = half * (u[a] / du - y[a] / dy)
    return float(np.sqrt(du / dy))


@compiled
def soc_apply(bar: Float, eta: float, sign: float, x: Float, out: Float) -> None:
    """Out = W x for sign +1 and W⁻¹ x for sign −1."""
    inner = sign * (bar[1] * x[1] + bar[2] * x[2] + bar[3] * x[3])
    scale = eta if sign > 0.0 else 1.0 / eta
    factor = sign * (x[0] + inner / (1.0 + bar[0]))
    out[0] = scale * (bar[0] * x[0] + inner)
    for a in range(1, 4):
        out[a] = scale * (x[a] + factor * bar[a])


@compiled
def soc_inverse_step(x: Float, dx: Float) -> float:
    """Reciprocal of the step at which x + a·dx leaves the second-order cone; not positive if it never does."""
    nx = np.sqrt(x[1] * x[1] + x[2] * x[2] + x[3] * x[3])
    c = (x[0] - nx) * (x[0] + nx)
    b = 2.0 * (x[0] * dx[0] - x[1] * dx[1] - x[2] * dx[2] - x[3] * dx[3])
    a = dx[0] * dx[0] - dx[1] * dx[1] - dx[2] * dx[2] - dx[3] * dx[3]
    return float((-b + np.sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * c))


@compiled
def soc_corrector(u: Float, y: Float, du: Float, dy: Float, target: float, bar: Float, eta: float, out: Float) -> None:
    """Right-hand side of Δy + W⁻²Δu = out for Mehrotra's corrector."""
    work = np.empty((4, 4))
    scaled, first, second, x = work[0], work[1], work[2], work[3]
    soc_apply(bar, eta, 1.0, y, scaled)
    soc_apply(bar, eta, -1.0, du, first)
    soc_apply(bar, eta, 1.0, dy, second)
    x[0] = target - (first[0] * second[0] + first[1] * second[1] + first[2] * second[2] + first[3] * second[3])
    for a in range(1, 4):
        x[a] = -(first[0] * second[a] + second[0] * first[a])
    norm = np.sqrt(scaled[1] * scaled[1] + scaled[2] * scaled[2] + scaled[3] * scaled[3])
    det = (scaled[0] - norm) * (scaled[0] + norm)
    x[0] = (scaled[0] * x[0] - scaled[1] * x[1] - scaled[2] * x[2] - scaled[3] * x[3]) / det
    for a in range(1, 4):
        x[a] = (x[a] - scaled[a] * x[0]) / scaled[0]
    soc_apply(bar, eta, -1.0, x, out)
    for a in range(4):
        out[a] -= y[a]


@compiled
def cone_scaling(
    root: Float, p: Float, t: Float, r: Float, w: Float, beta: Float, phi: Float, point: Float, coef: Float
) -> None:
    """Nesterov–Todd data of the cones (p, t, r) and (w, β, ρ = −√V φ).

    `point` gets (g₁, g₂, g₃, κ, ds·dy), `coef` gets (c, κ', A, H): Δp = A E + 2cκ'R + c²Δt, Δr = κ'(2cE + R) + cΔt and
    Δβ = g_b + c(cE + R) − HΔt, with E = g_a − Δw and R = g_r − Δρ.
    """
    m, K = p.shape
    for i in range(m):
        wi = w[i]
        for k in range(K):
            rho = -root[i, k] * phi[k]
            ds = np.sqrt(2.0 * max(p[i, k] * t[k] - r[i, k] * r[i, k], 1e-17 * p[i, k] * t[k]))
            dy = np.sqrt(max(2.0 * wi * beta[i, k] - 0.5 * rho * rho, 1e-17 * wi * beta[i, k]))
            one, two = 1.0 / ds, 1.0 / dy
            inner = (p[i, k] * wi + t[k] * beta[i, k] + r[i, k] * rho) * one * two
            g = 0.5 / np.sqrt(0.5 + 0.5 * max(inner, 1.0))
            g1 = g * (t[k] * one + wi * two)
            g2 = g * (p[i, k] * one + beta[i, k] * two)
            g3 = g * (rho * two - 2.0 * r[i, k] * one)
            kappa = dy * one
            c = -0.5 * g3 / g1
            h = 0.5 / (g1 * g1)
            kp = 0.5 / kappa
            point[0, i, k] = g1
            point[1, i, k] = g2
            point[2, i, k] = g3
            point[3, i, k] = kappa
            point[4, i, k] = ds * dy
            coef[0, i, k] = c
            coef[1, i, k] = kp
            coef[2, i, k] = 4.0 * c * c * kp + h / kappa
            coef[3, i, k] = h * kappa


@compiled
def cone_corrector(
    root: Float, w: Float, beta: Float, phi: Float, point: Float, move: Float, dt: Float, dw: Float, dphi: Float,
    target: float, g: Float,
) -> None:  # fmt: skip
    """Mehrotra's right-hand side g = (g_a, g_b, g_r) of every cone, in coordinates balanced by δ = √(g₂/g₁).

    `move` holds the predictor's (Δp, Δr, Δβ).
    """
    m, K = beta.shape
    half = np.sqrt(0.5)
    for i in range(m):
        wi, dwi = w[i], dw[i]
        for k in range(K):
            g1, g2 = point[0, i, k], point[1, i, k]
            delta = np.sqrt(g2 / g1)
            inverse = 1.0 / delta
            w0 = np.sqrt(2.0 * g1 * g2)
            w2 = -half * point[2, i, k]
            up = 1.0 / np.sqrt(point[3, i, k])
            down = 1.0 / up
            rho = -root[i, k] * phi[k]
            x0 = half * (wi * delta + beta[i, k] * inverse)
            x1 = half * (wi * delta - beta[i, k] * inverse)
            x2 = half * rho
            l0, l1, l2 = up * (w0 * x0 + w2 * x2), up * x1, up * (w2 * x0 + w0 * x2)
            x0 = half * (move[0, i, k] * inverse + dt[k] * delta)
            x1 = half * (move[0, i, k] * inverse - dt[k] * delta)
            x2 = 2.0 * half * move[1, i, k]
            a0, a1, a2 = down * (w0 * x0 - w2 * x2), down * x1, down * (w0 * x2 - w2 * x0)
            x0 = half * (dwi * delta + move[2, i, k] * inverse)
            x1 = half * (dwi * delta - move[2, i, k] * inverse)
            x2 = -half * root[i, k] * dphi[k]
            b0, b1, b2 = up * (w0 * x0 + w2 * x2), up * x1, up * (w2 * x0 + w0 * x2)
            c0 = target - (a0 * b0 + a1 * b1 + a2 * b2)
            c1 = -(a0 * b1 + b0 * a1)
            c2 = -(a0 * b2 + b0 * a2)
            x0 = (l0 * c0 - l1 * c1 - l2 * c2) / point[4, i, k]
            x1 = (c1 - l1 * x0) / l0
            x2 = (c2 - l2 * x0) / l0
            y0, y1, y2 = down * (w0 * x0 - w2 * x2), down * x1, down * (w0 * x2 - w2 * x0)
            g[0, i, k] = half * (y0 + y1) * inverse - wi
            g[1, i, k] = half * (y0 - y1) * delta - beta[i, k]
            g[2, i, k] = 2.0 * half * y2 - rho


@compiled
def cone_inverse_steps(
    root: Float, p: Float, t: Float, r: Float, w: Float, beta: Float, phi: Float, move: Float, dt: Float, dw: Float,
    dphi: Float,
) -> tuple[float, float]:  # fmt: skip
    """Reciprocals of the primal and the dual step at which the first cone is left.

    b² ≥ 4ac for any direction from inside a Lorentz cone, so the root is always real.
    """
    m, K = p.shape
    primal = dual = 0.0
    for i in range(m):
        wi, dwi = w[i], dw[i]
        for k in range(K):
            dp, dr, db = move[0, i, k], move[1, i, k], move[2, i, k]
            c = max(p[i, k] * t[k] - r[i, k] * r[i, k], 1e-17 * p[i, k] * t[k])
            b = p[i, k] * dt[k] + t[k] * dp - 2.0 * r[i, k] * dr
            a = dp * dt[k] - dr * dr
            primal = max(primal, (-b + np.sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * c))
            rho, drho = 0.5 * root[i, k] * phi[k], 0.5 * root[i, k] * dphi[k]
            c = max(wi * beta[i, k] - rho * rho, 1e-17 * wi * beta[i, k])
            b = wi * db + beta[i, k] * dwi - 2.0 * rho * drho
            a = dwi * db - drho * drho
            dual = max(dual, (-b + np.sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * c))
    return primal, dual


@compiled
def direction(
    root: Float, S: Float, B: Float, coef: Float, g: Float, q_mu: Float, r_y: Float, r1: Float, r2: Float, r3: Float,
    s: Float, chi: Float, N: Float, d: Float, hessian: Float, L: Float, X: Float, T: Float,
    move: Float, dP: Float, dt: Float, dw: Float, dphi: Float, dz: Float, dmu: Float, du: Float, dy: Float,
) -> None:  # fmt: skip
    """Newton direction for the right-hand sides g, q_μ and r_y, from the factors L and T."""
    m, K = root.shape
    targets = B.shape[0]
    slope = np.zeros(K)  # λ̂
    hat = r1.copy()  # φ̂
    q = np.zeros(m)
    for i in range(m):
        for k in range(K):
            c, kp = coef[0, i, k], coef[1, i, k]
            hat[k] -= root[i, k] * kp * (2.0 * c * g[0, i, k] + g[2, i, k])
            slope[k] -= g[1, i, k] + c * (c * g[0, i, k] + g[2, i, k])
            q[i] += coef[2, i, k] * g[0, i, k] + 2.0 * c * kp * g[2, i, k]
    for k in range(K):
        hat[k] /= s[k]
        slope[k] += chi[k] * hat[k]
    omega = np.empty(m)
    for i in range(m):
        total, price = 0.0, q_mu[i]
        for k in range(K):
            total += N[i, k] * hat[k]
            price += S[i, k] * slope[k]
        q[i] += total
        omega[i] = price
    y_r = np.empty((targets, 4))
    for e in range(targets):
        for a in range(4):
            y_r[e, a] = r_y[e, a]
            for o in range(4):
                y_r[e, a] -= hessian[e, a, o] * r3[e, o]
        for a in range(3):
            for i in range(m):
                omega[i] -= B[e, a, i] * y_r[e, a]
    forward(L, q)
    for i in range(m):
        dP[i] = -omega[i]
    for j in range(m):
        for i in range(m):
            dP[i] += X[j, i] * q[j]
    forward(T, dP)
    backward(T, dP)
    for j in range(m):
        total = 0.0
        for i in range(m):
            total += X[j, i] * dP[i]
        dw[j] = q[j] - total
    backward(L, dw)
    dt[:] = 0.0
    dphi[:] = 0.0
    for i in range(m):
        for k in range(K):
            dt[k] += S[i, k] * dP[i]
            dphi[k] += N[i, k] * dw[i]
        dz[i] = r2[i] - dP[i]
        dmu[i] = d[i] * dP[i] + q_mu[i]
    for k in range(K):
        dphi[k] = hat[k] + (chi[k] * dt[k] + dphi[k]) / s[k]
    for e in range(targets):
        for a in range(4):
            du[e, a] = r3[e, a]
        for a in range(3):
            total = 0.0
            for i in range(m):
                total += B[e, a, i] * dP[i]
            du[e, a] += total
        for a in range(4):
            dy[e, a] = r_y[e, a]
            for o in range(4):
                dy[e, a] -= hessian[e, a, o] * du[e, o]
    for i in range(m):
        for k in range(K):
            c, kp = coef[0, i, k], coef[1, i, k]
            E, R = g[0, i, k] - dw[i], g[2, i, k] + root[i, k] * dphi[k]
            move[0, i, k] = coef[2, i, k] * E + 2.0 * c * kp * R + c * c * dt[k]
            move[1, i, k] = kp * (2.0 * c * E + R) + c * dt[k]
            move[2, i, k] = g[1, i, k] + c * (c * E + R) - coef[3, i, k] * dt[k]


@compiled
def subtract_product(rows: Float, G: Float, thin: Float) -> None:
    """The first m rows minus G·thin, four columns of G at a time."""
    m, K = G.shape
    whole = K - K % 4
    for i in range(m):
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = G[i, k], G[i, k + 1], G[i, k + 2], G[i, k + 3]
            for j in range(m):
                rows[i, j] -= a0 * thin[k, j] + a1 * thin[k + 1, j] + a2 * thin[k + 2, j] + a3 * thin[k + 3, j]
        for k in range(whole, K):
            a0 = G[i, k]
            for j in range(m):
                rows[i, j] -= a0 * thin[k, j]


@compiled
def more_inverse_steps(
    primal: float, dual: float, z: Float, mu: Float, u: Float, y: Float, dz: Float, dmu: Float, du: Float, dy: Float
) -> tuple[float, float]:
    """The reciprocal steps, raised by the caps and the sensing cones."""
    for i in range(z.shape[0]):
        primal = max(primal, -dz[i] / z[i])
        dual = max(dual, -dmu[i] / mu[i])
    for e in range(u.shape[0]):
        primal = max(primal, soc_inverse_step(u[e], du[e]))
        dual = max(dual, soc_inverse_step(y[e], dy[e]))
    return primal, dual
