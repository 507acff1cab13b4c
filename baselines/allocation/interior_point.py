"""Compiled kernel of `fast`: a primal–dual interior-point method for the fixed-set problem that eliminates all M·K cones.

Memory is a few (m, K) and (m, m) arrays for m active APs, and results do not depend on the number of threads. Powers are in units of P₀,
about the power needed. The primal–dual pair is, for every target s,

    primal  min Σ P_i;  P_i = Σ_k p_ik;  t = b + SᵀP;  p_ik t_k ≥ r_ik²;  Σ_i √V_ik r_ik = t_k;
            z = P_max/P₀ − P ≥ 0;  u_s = B_s P + u⁰_s ∈ Q⁴
    dual    max bᵀλ − (P_max/P₀) Σμ − Σ_s u⁰_sᵀy_s;  w = 1 + μ + Sλ − Σ_s B_sᵀy_s;  λ_k = φ_k − Σ_i β_ik;
            w_i β_ik ≥ V_ik φ_k²/4;  μ ≥ 0;  y_s ∈ Q⁴

with V_ik = v_ik/Σ_j v_jk, S_ik = γ ς_ik/Σ_j v_jk, b_k = γσ²/(P₀ Σ_j v_jk),
B_s = (P₀ν/2)·[q_a + q_b, q_a − q_b, 2q_c, 0] and u⁰ = (c_0 − 1, c_1, c_2, 1), where c = (ν/2)·(J_a + J_b, J_a − J_b, 2J_c) is the prior
information J0 about the target. Every iterate satisfies the dual equations, so every dual value is a lower bound.
Directions use the Nesterov–Todd scaling (Nesterov & Todd, 1998) with Mehrotra's predictor and corrector; each iteration factors two
positive definite m × m systems.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.cones import (
    cone_corrector,
    cone_inverse_steps,
    cone_scaling,
    direction,
    largest,
    more_inverse_steps,
    soc_corrector,
    soc_scaling,
)
from baselines.allocation.result import Float
from baselines.allocation.scaled import certify, equalise, sensing_need, violation, without_caps
from baselines.allocation.triangular import PANEL, add_gram, cholesky, copy, invert, subtract_product
from cfisac_env.jit import compiled

OPTIMAL, INFEASIBLE, CUT_OFF, INACCURATE = range(4)

MAX_ITERATIONS = 80
STEP = 0.95  # fraction of the step to the boundary; longer steps cost iterations
GAP = 4e-7  # relative gap between power and bound at which a point counts as optimal
VIOLATION = 4e-8  # relative violation of a constraint at which a point counts as feasible
ACCEPTABLE_GAP, ACCEPTABLE_VIOLATION = 9e-7, 9e-8  # accepted when rounding stops progress

STARTING_POINTS = ((3.0, 100.0), (3.0, 1.0), (0.3, 1.0), (30.0, 10.0), (3.0, 1e9))
"""Starting points, tried in turn until one converges: P₀ relative to a lower bound on the transmit power, and the price above which an
AP starts with less power than the others. The first one suffices for all but one in many thousand sets."""


@compiled()
def solve_scaled(
    V: Float, S: Float, B: Float, b: Float, prior: Float, cap: float, cutoff: float, price: Float, dear: float, p: Float,
    lam_out: Float, mu_out: Float, y_out: Float,
) -> tuple[int, float, int]:  # fmt: skip
    """Solve one scaled problem.

    Args:
        V: (m, K), columns that sum to one.
        S: (m, K), interference.
        B: (targets, 3, m), sensing rows; the fourth is zero.
        b: (K,), noise.
        prior: (targets, 3), c.
        cap: P_max in units of P₀, like all powers.
        cutoff: stop once the bound exceeds this power.
        price: (m,), prices without caps and sensing.
        dear: APs with a higher price start with less power.
        p: (m, K), receives the powers.
        lam_out: (K,), receives λ.
        mu_out: (m,), receives μ.
        y_out: (targets, 4), receives y.

    Returns:
        Status, bound, iterations.
    """
    m, K = V.shape
    targets = B.shape[0]
    cones = m * K
    y = np.zeros((targets, 4))
    P, t, lam, w, mu, z, d = np.empty(m), np.empty(K), np.empty(K), np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    phi = np.zeros(K)
    # One entry per cone; t, w and ρ = −√V φ are expanded in every iteration.
    root, flat_p, r, beta = np.empty(cones), p.reshape(cones), np.empty(cones), np.empty(cones)
    wide_t, wide_w, rho = np.empty(cones), np.empty(cones), np.empty(cones)
    point, coef, g, move = np.empty((5, cones)), np.empty((4, cones)), np.empty((3, cones)), np.empty((6, cones))
    work, N, V_flat = np.empty((3, cones)), np.empty((m, K)), V.reshape(cones)
    rows, L, T, panel = np.empty((m + K, m)), np.zeros((m, m)), np.zeros((m, m)), np.empty((PANEL + 1, m))
    thin, G = np.empty((K, m)), np.empty((m, K))
    s, chi, C, r1, r2, r3 = np.empty(K), np.empty(K), np.empty(K), np.empty(K), np.empty(m), np.empty((targets, 4))
    u, bar, eta, hessian, r_y = (
        np.zeros((targets, 4)), np.empty((targets, 4)), np.empty(targets), np.empty((targets, 4, 4)), np.empty((targets, 4))
    )  # fmt: skip
    dP, dphi, dw, dz, dmu = np.empty(m), np.empty(K), np.empty(m), np.empty(m), np.empty(m)
    du, dy, q_mu, trial = np.empty((targets, 4)), np.empty((targets, 4)), np.empty(m), np.empty((m, K))
    degree = m * K + m + targets

    # A well-centred starting point: every AP radiates, and sensing has a small weight.
    for j in range(cones):
        root[j] = np.sqrt(V_flat[j])
    for i in range(m):
        P[i] = 0.3 * min(1.0, dear / price[i])
    for i in range(m):
        z[i] = cap - P[i]
        mu[i] = 0.7 / z[i]
        w[i] = 1.0 + mu[i]
    for e in range(targets):
        best = largest(B[e, 0])
        y[e, 0] = 0.5 / (best * targets) if best > 0.0 else 1.0
        for i in range(m):
            w[i] -= B[e, 0, i] * y[e, 0]
        for a in range(3):
            for i in range(m):
                u[e, a] += B[e, a, i] * P[i]
            u[e, a] += prior[e, a]
        u[e, 0] -= 1.0
        u[e, 3] = 1.0
        u[e, 0] = max(u[e, 0], 1.2 * np.sqrt(u[e, 1] * u[e, 1] + u[e, 2] * u[e, 2] + 1.0) + 0.1)
    for k in range(K):
        t[k] = b[k]
        demand = 0.0
        for i in range(m):
            p[i, k] = P[i] / K
            t[k] += P[i] * S[i, k]
            demand += V[i, k] / w[i]
        phi[k] = 1.0 / demand
    for k in range(K):
        amplitude = 0.0
        for i in range(m):
            j = i * K + k
            r[j] = 0.7 * np.sqrt(p[i, k] * t[k])
            amplitude += root[j] * r[j]
            beta[j] = 0.8 * phi[k] * phi[k] * V[i, k] / w[i]
        if amplitude > t[k]:
            for i in range(m):
                r[i * K + k] *= t[k] / amplitude
    for i in range(m):
        for k in range(K):
            w[i] += 0.2 * S[i, k] * phi[k]

    stalled = 0
    iteration = 0
    while True:
        # P, t and λ follow exactly from p, φ and β.
        for k in range(K):
            t[k] = b[k]
            lam[k] = phi[k]
            r1[k] = 0.0
        for i in range(m):
            start = i * K
            total = 0.0
            for k in range(K):
                total += flat_p[start + k]
                lam[k] -= beta[start + k]
                r1[k] -= root[start + k] * r[start + k]
            P[i] = total
            for k in range(K):
                t[k] += S[i, k] * total
        for i in range(m):
            start = i * K
            for k in range(K):
                wide_t[start + k] = t[k]
                wide_w[start + k] = w[i]
                rho[start + k] = -root[start + k] * phi[k]
        power = value = gap = worst = 0.0
        for i in range(m):
            power += P[i]
            value -= cap * mu[i]
            r2[i] = cap - P[i] - z[i]
            gap += z[i] * mu[i]
        for j in range(cones):
            gap += flat_p[j] * wide_w[j] + wide_t[j] * beta[j] + r[j] * rho[j]
        for k in range(K):
            r1[k] += t[k]
            value += b[k] * lam[k]
            worst = max(worst, abs(r1[k]) / t[k])
        for e in range(targets):
            for a in range(3):
                total = 0.0
                for i in range(m):
                    total += B[e, a, i] * P[i]
                r3[e, a] = total + prior[e, a] - u[e, a]
                value -= prior[e, a] * y[e, a]
            r3[e, 0] -= 1.0
            r3[e, 3] = 1.0 - u[e, 3]
            value += y[e, 0] - y[e, 3]
            gap += u[e, 0] * y[e, 0] + u[e, 1] * y[e, 1] + u[e, 2] * y[e, 2] + u[e, 3] * y[e, 3]

        if value > m * cap * (1.0 + 1e-6):
            bound = certify(V, S, B, b, prior, cap, lam, mu, y, w, lam_out, mu_out, y_out)
            if bound > m * cap * (1.0 + 1e-7):
                return INFEASIBLE, bound, iteration
        if value > cutoff:
            bound = certify(V, S, B, b, prior, cap, lam, mu, y, w, lam_out, mu_out, y_out)
            if bound > cutoff:
                return CUT_OFF, bound, iteration
        last = iteration == MAX_ITERATIONS or stalled == 3 or not np.isfinite(gap) or gap < 1e-14 * abs(value)
        if last or (worst <= 1e-6 and abs(power - value) <= GAP * abs(value)):
            for i in range(m):
                copy(p[i], trial[i])
            missed = violation(V, S, B, b, prior, cap, trial)
            if missed > VIOLATION and equalise(V, S, b, trial):
                missed = violation(V, S, B, b, prior, cap, trial)
                power = trial.sum()
            if last or (missed <= VIOLATION and abs(power - value) <= GAP * abs(value)):
                bound = certify(V, S, B, b, prior, cap, lam, mu, y, w, lam_out, mu_out, y_out)
                good = missed <= ACCEPTABLE_VIOLATION and abs(power - bound) <= ACCEPTABLE_GAP * power
                if good or last:
                    for i in range(m):
                        copy(trial[i], p[i])
                    return (OPTIMAL if good else INACCURATE), bound, iteration
        iteration += 1

        # Scaling and the two factors.
        cone_scaling(rho, flat_p, wide_t, r, wide_w, beta, point, coef)
        s[:] = 0.0
        chi[:] = 1.0
        C[:] = 0.0
        L[:] = 0.0
        T[:] = 0.0
        for j in range(cones):
            c, kp = coef[0, j], coef[1, j]
            work[0, j] = 2.0 * c * kp * root[j]
            work[1, j] = kp * V_flat[j]
            work[2, j] = c * root[j]
        for i in range(m):
            start = i * K
            total = 0.0
            for k in range(K):
                N[i, k] = work[0, start + k]
                s[k] += work[1, start + k]
                chi[k] -= work[2, start + k]
                C[k] += coef[3, start + k]
                total += coef[2, start + k]
            # M = diag e − N diag(1/s) Nᵀ, formed with opposite sign.
            L[i, i] = -total
            d[i] = mu[i] / z[i]
            T[i, i] = d[i]
        for k in range(K):
            C[k] = np.sqrt(C[k] + chi[k] * chi[k] / s[k])
            scale = 1.0 / np.sqrt(s[k])
            for i in range(m):
                thin[k, i] = N[i, k] * scale
                rows[m + k, i] = S[i, k] * C[k]
            scale = chi[k] / s[k]
            for i in range(m):
                c = coef[0, i * K + k]
                G[i, k] = c * c + N[i, k] * scale
        add_gram(L, thin)
        for i in range(m):
            for j in range(i + 1):
                L[i, j] = -L[i, j]
        cholesky(L, panel)
        # X = L⁻¹ (I − G Sᵀ)
        invert(L, rows, G)
        for k in range(K):
            for i in range(m):
                thin[k, i] = S[i, k]
        subtract_product(rows, G, thin)
        add_gram(T, rows)
        for e in range(targets):
            eta[e] = soc_scaling(u[e], y[e], bar[e])
            inverse = 1.0 / (eta[e] * eta[e])
            for a in range(4):
                for o in range(4):
                    sign = 1.0 if (a == 0) == (o == 0) else -1.0
                    hessian[e, a, o] = 2.0 * inverse * sign * bar[e, a] * bar[e, o]
                hessian[e, a, a] += inverse if a > 0 else -inverse
            for i in range(m):
                v0 = hessian[e, 0, 0] * B[e, 0, i] + hessian[e, 0, 1] * B[e, 1, i] + hessian[e, 0, 2] * B[e, 2, i]
                v1 = hessian[e, 1, 0] * B[e, 0, i] + hessian[e, 1, 1] * B[e, 1, i] + hessian[e, 1, 2] * B[e, 2, i]
                v2 = hessian[e, 2, 0] * B[e, 0, i] + hessian[e, 2, 1] * B[e, 1, i] + hessian[e, 2, 2] * B[e, 2, i]
                for j in range(i + 1):
                    T[i, j] += v0 * B[e, 0, j] + v1 * B[e, 1, j] + v2 * B[e, 2, j]
        cholesky(T, panel)

        # Predictor.
        for j in range(cones):
            g[0, j] = -wide_w[j]
            g[1, j] = -beta[j]
            g[2, j] = -rho[j]
        for i in range(m):
            q_mu[i] = -mu[i] - d[i] * r2[i]
        for e in range(targets):
            for a in range(4):
                r_y[e, a] = -y[e, a]
        direction(root, S, B, coef, g, q_mu, r_y, r1, r2, r3, s, chi, N, d, hessian, L, rows, T, work,
                  move, dP, dphi, dw, dz, dmu, du, dy)  # fmt: skip
        primal, dual = cone_inverse_steps(rho, flat_p, wide_t, r, wide_w, beta, move, work)
        primal, dual = more_inverse_steps(primal, dual, z, mu, u, y, dz, dmu, du, dy)
        primal, dual = 1.0 / max(primal, 1.0), 1.0 / max(dual, 1.0)
        after = 0.0
        for i in range(m):
            after += (z[i] + primal * dz[i]) * (mu[i] + dual * dmu[i])
        for j in range(cones):
            after += (flat_p[j] + primal * move[0, j]) * (wide_w[j] + dual * move[4, j])
            after += (wide_t[j] + primal * move[3, j]) * (beta[j] + dual * move[2, j])
            after += (r[j] + primal * move[1, j]) * (rho[j] + dual * move[5, j])
        for e in range(targets):
            for a in range(4):
                after += (u[e, a] + primal * du[e, a]) * (y[e, a] + dual * dy[e, a])
        centring = min(max((max(after, 0.0) / gap) ** 2.5, 1e-5), 1.0)
        target = centring * gap / degree

        # Corrector.
        cone_corrector(rho, wide_w, beta, point, move, target, g)
        for i in range(m):
            q_mu[i] = (target - dz[i] * dmu[i]) / z[i] - mu[i] - d[i] * r2[i]
        for e in range(targets):
            soc_corrector(u[e], y[e], du[e], dy[e], target, bar[e], eta[e], r_y[e])
        direction(root, S, B, coef, g, q_mu, r_y, r1, r2, r3, s, chi, N, d, hessian, L, rows, T, work,
                  move, dP, dphi, dw, dz, dmu, du, dy)  # fmt: skip
        primal, dual = cone_inverse_steps(rho, flat_p, wide_t, r, wide_w, beta, move, work)
        primal, dual = more_inverse_steps(primal, dual, z, mu, u, y, dz, dmu, du, dy)
        primal, dual = STEP / max(primal, STEP), STEP / max(dual, STEP)
        if not (np.isfinite(primal) and np.isfinite(dual) and max(primal, dual) > 1e-4):
            stalled += 1
        if not np.isfinite(dP.sum() + dw.sum()):
            stalled = 3
            continue
        for j in range(cones):
            flat_p[j] += primal * move[0, j]
            r[j] += primal * move[1, j]
            beta[j] += dual * move[2, j]
        for i in range(m):
            z[i] += primal * dz[i]
            mu[i] += dual * dmu[i]
            w[i] += dual * dw[i]
        for k in range(K):
            phi[k] += dual * dphi[k]
        for e in range(targets):
            for a in range(4):
                u[e, a] += primal * du[e, a]
                y[e, a] += dual * dy[e, a]


@compiled(
    "(int64, int64, int64[::1], boolean[:, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, :, :, ::1], float64, float64,"
    " float64, float64, float64[::1], int64[::1], float64[::1], int64[::1], float64[:, :, ::1], float64[:, ::1], float64[:, ::1],"
    " float64[:, :, ::1], float64[:, :, ::1])"
)
def solve_range(
    start: int, stop: int, drop: Any, active: Any, gain: Float, estimate: Float, fisher: Float, noise: float, gamma: float,
    nu: float, cap: float, cutoff: Float, status: Any, bound: Float, iterations: Any, power: Float, sinr: Float,
    cap_price: Float, sensing: Float, prior: Float,
) -> None:  # fmt: skip
    """Solve sets `start` to `stop` in SI units and write the results at their indices.

    `drop` (n,) is the row of `gain`, `estimate` (drops, M, K) and `fisher` (drops, M, targets, 3) that set i in `active` (n, M)
    belongs to; `prior` is (drops, targets, 3). Outputs have the same leading axis n and must be zero on entry.
    """
    M, K = gain.shape[1], gain.shape[2]
    targets = fisher.shape[2]
    for index in range(start, stop):
        o = drop[index]
        members = np.empty(M, np.int64)
        m = 0
        for i in range(M):
            if active[index, i]:
                members[m] = i
                m += 1
        if m == 0:
            # Without APs any λ is dual feasible; this one proves infeasibility with a bound of 1 W.
            status[index], bound[index] = INFEASIBLE, np.inf
            for k in range(K):
                sinr[index, k] = 1.0 / (gamma * noise * K)
            continue
        V, S, B, b, c = (
            np.empty((m, K)),
            np.empty((m, K)),
            np.empty((targets, 3, m)),
            np.empty(K),
            np.empty((targets, 3)),
        )
        p, lam, mu, y = np.empty((m, K)), np.zeros(K), np.zeros(m), np.zeros((targets, 4))
        for k in range(K):
            total = 0.0
            for i in range(m):
                total += estimate[o, members[i], k]
            for i in range(m):
                V[i, k] = estimate[o, members[i], k] / total
                S[i, k] = gamma * gain[o, members[i], k] / total
            b[k] = gamma * noise / (cap * total)
        for e in range(targets):
            for i in range(m):
                qa, qb, qc = fisher[o, members[i], e, 0], fisher[o, members[i], e, 1], fisher[o, members[i], e, 2]
                B[e, 0, i] = 0.5 * cap * nu * (qa + qb)
                B[e, 1, i] = 0.5 * cap * nu * (qa - qb)
                B[e, 2, i] = cap * nu * qc
            c[e, 0] = 0.5 * nu * (prior[o, e, 0] + prior[o, e, 1])
            c[e, 1] = 0.5 * nu * (prior[o, e, 0] - prior[o, e, 1])
            c[e, 2] = nu * prior[o, e, 2]
        price = np.empty(m)
        need = without_caps(V, S, b, m * (1.0 + 1e-6), lam, price)
        unit, count = 1.0, 0
        if need > m * (1.0 + 1e-6):
            code, value = INFEASIBLE, need
        elif need * cap > cutoff[index]:
            code, value = CUT_OFF, need
        else:
            # Scale to the power needed, which may be a millionth of the caps.
            for e in range(targets):
                need = max(need, sensing_need(B[e], c[e]))
            for scale, dear in STARTING_POINTS:
                step = min(1.0, scale * need) / unit
                unit *= step
                for k in range(K):
                    b[k] /= step
                for e in range(targets):
                    for a in range(3):
                        for i in range(m):
                            B[e, a, i] *= step
                code, value, steps = solve_scaled(
                    V, S, B, b, c, 1.0 / unit, cutoff[index] / (cap * unit), price, dear, p, lam, mu, y
                )
                count += steps
                if code != INACCURATE:
                    break
        if code == INACCURATE and not value > 0.0:
            # Fall back to zero multipliers, which are always dual feasible.
            value = 0.0
            lam[:] = 0.0
            mu[:] = 0.0
            y[:] = 0.0
        if code == INACCURATE and not np.isfinite(p.sum()):
            p[:] = 0.0
        unit *= cap
        status[index], iterations[index] = code, count
        bound[index] = np.inf if code == INFEASIBLE else value * unit
        for i in range(m):
            cap_price[index, members[i]] = mu[i]
            if code in (OPTIMAL, INACCURATE):
                for k in range(K):
                    power[index, members[i], k] = p[i, k] * unit
        for k in range(K):
            sinr[index, k] = lam[k] * b[k] * unit / (gamma * noise)
        half = 0.5 * unit * nu
        for e in range(targets):
            sensing[index, e, 0] = half * (y[e, 0] + y[e, 1])
            sensing[index, e, 1] = half * (y[e, 0] - y[e, 1])
            sensing[index, e, 2] = half * y[e, 2]
