"""Compiled parts of the interior point: Nesterov–Todd scaling of its two kinds of cone, and search directions.

The cones of the users are flat arrays of m·K entries in AP-major order, with t, w and ρ expanded, so that loops vectorise.
"""

from __future__ import annotations

import numpy as np

from baselines.allocation.result import Float
from baselines.allocation.triangular import backward, forward
from cfisac_env.jit import compiled


@compiled()
def soc_scaling(u: Float, y: Float, bar: Float) -> float:
    """Fill `bar` with the unit Nesterov–Todd point of the second-order cone pair (u, y); return η of W = η·Q(bar), W y = W⁻¹ u."""
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


@compiled()
def soc_apply(bar: Float, eta: float, sign: float, x: Float, out: Float) -> None:
    """Fill `out` with W x for sign +1, or W⁻¹ x for sign −1."""
    inner = sign * (bar[1] * x[1] + bar[2] * x[2] + bar[3] * x[3])
    scale = eta if sign > 0.0 else 1.0 / eta
    factor = sign * (x[0] + inner / (1.0 + bar[0]))
    out[0] = scale * (bar[0] * x[0] + inner)
    for a in range(1, 4):
        out[a] = scale * (x[a] + factor * bar[a])


@compiled()
def soc_inverse_step(x: Float, dx: Float) -> float:
    """Compute the reciprocal of the step length at which x + a·dx leaves the second-order cone; not positive if it never does."""
    nx = np.sqrt(x[1] * x[1] + x[2] * x[2] + x[3] * x[3])
    c = (x[0] - nx) * (x[0] + nx)
    b = 2.0 * (x[0] * dx[0] - x[1] * dx[1] - x[2] * dx[2] - x[3] * dx[3])
    a = dx[0] * dx[0] - dx[1] * dx[1] - dx[2] * dx[2] - dx[3] * dx[3]
    return float((-b + np.sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * c))


@compiled()
def soc_corrector(u: Float, y: Float, du: Float, dy: Float, target: float, bar: Float, eta: float, out: Float) -> None:
    """Fill `out` with the right-hand side of Δy + W⁻²Δu = out for Mehrotra's corrector."""
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


@compiled()
def cone_scaling(rho: Float, p: Float, t: Float, r: Float, w: Float, beta: Float, point: Float, coef: Float) -> None:
    """Compute the Nesterov–Todd scaling of the cones (p, t, r) and (w, β, ρ = −√V φ), all (m·K,).

    `point` receives (g₁, g₂, g₃, κ, ds·dy), `coef` receives (c, κ', A, H): Δp = A E + 2cκ'R + c²Δt, Δr = κ'(2cE + R) + cΔt and
    Δβ = g_b + c(cE + R) − HΔt, with E = g_a − Δw and R = g_r − Δρ.
    """
    for j in range(p.shape[0]):
        pt, wb = p[j] * t[j], w[j] * beta[j]
        ds = np.sqrt(2.0 * max(pt - r[j] * r[j], 1e-17 * pt))
        dy = np.sqrt(max(2.0 * wb - 0.5 * rho[j] * rho[j], 1e-17 * wb))
        one, two = 1.0 / ds, 1.0 / dy
        inner = (p[j] * w[j] + t[j] * beta[j] + r[j] * rho[j]) * one * two
        g = 0.5 / np.sqrt(0.5 + 0.5 * max(inner, 1.0))
        g1 = g * (t[j] * one + w[j] * two)
        g2 = g * (p[j] * one + beta[j] * two)
        g3 = g * (rho[j] * two - 2.0 * r[j] * one)
        kappa = dy * one
        half = 0.5 / g1
        c = -g3 * half
        h = 2.0 * half * half
        kp = 0.5 * ds * two
        point[0, j] = g1
        point[1, j] = g2
        point[2, j] = g3
        point[3, j] = kappa
        point[4, j] = ds * dy
        coef[0, j] = c
        coef[1, j] = kp
        coef[2, j] = 2.0 * kp * (2.0 * c * c + h)
        coef[3, j] = h * kappa


@compiled()
def cone_corrector(rho: Float, w: Float, beta: Float, point: Float, move: Float, target: float, g: Float) -> None:
    """Compute Mehrotra's right-hand side g = (g_a, g_b, g_r) of every cone, in coordinates balanced by δ = √(g₂/g₁).

    `move` holds the predictor's (Δp, Δr, Δβ, Δt, Δw, Δρ).
    """
    half = np.sqrt(0.5)
    for j in range(w.shape[0]):
        g1, g2 = point[0, j], point[1, j]
        delta = np.sqrt(g2 / g1)
        inverse = 1.0 / delta
        w0 = np.sqrt(2.0 * g1 * g2)
        w2 = -half * point[2, j]
        down = np.sqrt(point[3, j])
        up = 1.0 / down
        a, b = w[j] * delta, beta[j] * inverse
        x0, x1, x2 = half * (a + b), half * (a - b), half * rho[j]
        l0, l1, l2 = up * (w0 * x0 + w2 * x2), up * x1, up * (w2 * x0 + w0 * x2)
        a, b = move[0, j] * inverse, move[3, j] * delta
        x0, x1, x2 = half * (a + b), half * (a - b), 2.0 * half * move[1, j]
        a0, a1, a2 = down * (w0 * x0 - w2 * x2), down * x1, down * (w0 * x2 - w2 * x0)
        a, b = move[4, j] * delta, move[2, j] * inverse
        x0, x1, x2 = half * (a + b), half * (a - b), half * move[5, j]
        b0, b1, b2 = up * (w0 * x0 + w2 * x2), up * x1, up * (w2 * x0 + w0 * x2)
        c0 = target - (a0 * b0 + a1 * b1 + a2 * b2)
        c1 = -(a0 * b1 + b0 * a1)
        c2 = -(a0 * b2 + b0 * a2)
        x0 = (l0 * c0 - l1 * c1 - l2 * c2) / point[4, j]
        x1 = (c1 - l1 * x0) / l0
        x2 = (c2 - l2 * x0) / l0
        y0, y1, y2 = down * (w0 * x0 - w2 * x2), down * x1, down * (w0 * x2 - w2 * x0)
        g[0, j] = half * (y0 + y1) * inverse - w[j]
        g[1, j] = half * (y0 - y1) * delta - beta[j]
        g[2, j] = 2.0 * half * y2 - rho[j]


@compiled()
def cone_inverse_steps(
    rho: Float, p: Float, t: Float, r: Float, w: Float, beta: Float, move: Float, work: Float
) -> tuple[float, float]:
    """Compute the reciprocals of the primal and dual step lengths to the boundary of the cones; `work` (≥ 2, m·K) is scratch.

    b² ≥ 4ac for any direction from the interior of a Lorentz cone, so the root is real.
    """
    for j in range(p.shape[0]):
        dp, dr, db, dt, dw, drho = move[0, j], move[1, j], move[2, j], move[3, j], move[4, j], move[5, j]
        pt, wb = p[j] * t[j], w[j] * beta[j]
        c = max(pt - r[j] * r[j], 1e-17 * pt)
        b = p[j] * dt + t[j] * dp - 2.0 * r[j] * dr
        a = dp * dt - dr * dr
        work[0, j] = (-b + np.sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * c)
        c = max(wb - 0.25 * rho[j] * rho[j], 1e-17 * wb)
        b = w[j] * db + beta[j] * dw - 0.5 * rho[j] * drho
        a = dw * db - 0.25 * drho * drho
        work[1, j] = (-b + np.sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * c)
    return largest(work[0]), largest(work[1])


@compiled()
def largest(x: Float) -> float:
    """Return the largest entry, or zero if all are negative."""
    whole = x.shape[0] - x.shape[0] % 8
    best = np.zeros(8)
    for j in range(0, whole, 8):
        for a in range(8):
            best[a] = max(best[a], x[j + a])
    for j in range(whole, x.shape[0]):
        best[0] = max(best[0], x[j])
    most = best[0]
    for a in range(1, 8):
        most = max(most, best[a])
    return float(most)


@compiled()
def direction(
    root: Float, S: Float, B: Float, coef: Float, g: Float, q_mu: Float, r_y: Float, r1: Float, r2: Float, r3: Float,
    s: Float, chi: Float, N: Float, d: Float, hessian: Float, L: Float, X: Float, T: Float, work: Float,
    move: Float, dP: Float, dphi: Float, dw: Float, dz: Float, dmu: Float, du: Float, dy: Float,
) -> None:  # fmt: skip
    """Compute the Newton direction for the right-hand sides g, q_μ and r_y from the factors L and T.

    `root`, `coef`, `g` and `move` are flat over the cones; `S` and `N` are (m, K); `work` is scratch like `g`.
    """
    m, K = S.shape
    targets = B.shape[0]
    for j in range(m * K):
        c, kp = coef[0, j], coef[1, j]
        inner = c * g[0, j] + g[2, j]
        work[0, j] = root[j] * kp * (c * g[0, j] + inner)
        work[1, j] = g[1, j] + c * inner
        work[2, j] = coef[2, j] * g[0, j] + 2.0 * c * kp * g[2, j]
    slope = np.zeros(K)  # λ̂
    hat = r1.copy()  # φ̂
    q = np.empty(m)
    for i in range(m):
        start = i * K
        total = 0.0
        for k in range(K):
            hat[k] -= work[0, start + k]
            slope[k] -= work[1, start + k]
            total += work[2, start + k]
        q[i] = total
    for k in range(K):
        hat[k] /= s[k]
        slope[k] += chi[k] * hat[k]
    omega = np.empty(m)
    for i in range(m):
        total, price = 0.0, 0.0
        for k in range(K):
            total += N[i, k] * hat[k]
            price += S[i, k] * slope[k]
        q[i] += total
        omega[i] = q_mu[i] + price
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
        factor = q[j]
        for i in range(m):
            dP[i] += X[j, i] * factor
    forward(T, dP)
    backward(T, dP)
    for j in range(m):
        total = 0.0
        for i in range(m):
            total += X[j, i] * dP[i]
        dw[j] = q[j] - total
    backward(L, dw)
    dt = np.zeros(K)
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
        start = i * K
        for k in range(K):
            move[3, start + k] = dt[k]
            move[4, start + k] = dw[i]
            move[5, start + k] = -root[start + k] * dphi[k]
    for j in range(m * K):
        c, kp = coef[0, j], coef[1, j]
        E, R = g[0, j] - move[4, j], g[2, j] - move[5, j]
        inner = c * E + R
        move[0, j] = coef[2, j] * E + c * (2.0 * kp * R + c * move[3, j])
        move[1, j] = kp * (c * E + inner) + c * move[3, j]
        move[2, j] = g[1, j] + c * inner - coef[3, j] * move[3, j]


@compiled()
def more_inverse_steps(
    primal: float, dual: float, z: Float, mu: Float, u: Float, y: Float, dz: Float, dmu: Float, du: Float, dy: Float
) -> tuple[float, float]:
    """Raise the reciprocal step lengths by those of the caps and the sensing cones."""
    for i in range(z.shape[0]):
        primal = max(primal, -dz[i] / z[i])
        dual = max(dual, -dmu[i] / mu[i])
    for e in range(u.shape[0]):
        primal = max(primal, soc_inverse_step(u[e], du[e]))
        dual = max(dual, soc_inverse_step(y[e], dy[e]))
    return primal, dual
