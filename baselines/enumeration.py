"""Compiled enumeration of the sets of n APs that two families of lower bounds cannot rule out.

Sets are visited depth first in lexicographic order of the APs' positions. A set or branch is pruned only with a proof that its transmit
power exceeds a limit c:

- **Sensing knapsack.** For every Z ⪰ 0 the CRLB requires Σ_m P_m ⟨Z, Q_m⟩ ≥ (tr Z^½)²/ν. With a total power of c, at most P_max per AP,
  the left side is at most its greedy filling: the ⌊c/P_max⌋ best APs at P_max and the remainder of c at the next one. Applied to a
  partial set and the best APs that may still be added, it prunes whole branches.
- **Dual screen.** Multipliers Z, μ of a set solved before, scaled, and prices w found for the set at hand by Newton's method on

      w_m = 1 + μ_m + γ Σ_k λ_k ς_mk − ⟨Z, Q_m⟩,    λ_k = 1/Σ_m (v_mk/w_m).

  The right-hand side is concave and increasing in w, so the iterates fall towards the largest solution. Any w > 0 gives a valid bound
  once μ covers the residuals: γσ² Σλ + (tr Z^½)²/ν − P_max Σ_m (μ_m + [w_m − rhs_m]₊)  ≤  T.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.result import Float
from baselines.allocation.triangular import copy
from cfisac_env.jit import compiled

NEWTON_STEPS = 12
WARM_STEPS = 4


@compiled()
def _newton(
    n: int, V: Float, S: Float, b: Float, cap: float, limit: float, rhs: Float, constant: float, w: Float, lam: Float,
    squared: Float, J: Float,
) -> bool:  # fmt: skip
    """Return whether prices for n APs prove that their transmit power exceeds `limit`.

    Args:
        n: number of APs.
        V: (n, K) v_mk/Σ_j v_jk, the sum over all M.
        S: (n, K) γ ς_mk/Σ_j v_jk.
        b: (K,) γσ²/Σ_j v_jk, W.
        cap: P_max, W.
        limit: W.
        rhs: (n,) 1 + μ_m − ⟨Z, Q_m⟩.
        constant: (tr Z^½)²/ν − P_max Σ μ, W.
        w: (n,) receives the prices.
        lam: (K,) scratch.
        squared: (K,) scratch.
        J: (n, n + 1) scratch.
    """
    K = V.shape[1]
    # Power iterations of the homogeneous map give the starting direction.
    for a in range(n):
        w[a] = 1.0
    for step in range(WARM_STEPS + NEWTON_STEPS):
        lam[:] = 0.0
        for a in range(n):
            inverse = 1.0 / w[a]
            for k in range(K):
                lam[k] += V[a, k] * inverse
        for k in range(K):
            lam[k] = 1.0 / lam[k]
        if step < WARM_STEPS:
            for a in range(n):
                price = 0.0
                for k in range(K):
                    price += S[a, k] * lam[k]
                w[a] = price
            continue
        value = constant
        for k in range(K):
            value += b[k] * lam[k]
        for a in range(n):
            price = rhs[a]
            for k in range(K):
                price += S[a, k] * lam[k]
            J[a, n] = w[a] - price
            value -= cap * max(w[a] - price, 0.0)
        if value > limit:
            return True
        for c in range(n):
            inverse = 1.0 / w[c]
            for k in range(K):
                squared[k] = V[c, k] * (lam[k] * inverse) ** 2
            for a in range(n):
                total = 0.0
                for k in range(K):
                    total += S[a, k] * squared[k]
                J[a, c] = -total
            J[c, c] += 1.0
        for a in range(n):
            pivot = J[a, a]
            if not pivot > 1e-12:
                return False
            for o in range(a + 1, n):
                factor = J[o, a] / pivot
                for c in range(a + 1, n + 1):
                    J[o, c] -= factor * J[a, c]
        for a in range(n - 1, -1, -1):
            total = J[a, n]
            for c in range(a + 1, n):
                total -= J[a, c] * J[c, n]
            J[a, n] = total / J[a, a]
        for a in range(n):
            w[a] -= J[a, n]
            if not w[a] > 0.0:
                return False
    return False


@compiled()
def screened(
    members: Any, n: int, V: Float, S: Float, b: Float, cap: float, limit: float, reward: Float, mu: Float, value: Float,
    share: Float, order: Any, rows: Float, rhs: Float, w: Float, lam: Float, J: Float,
) -> bool:  # fmt: skip
    """Return whether any multipliers in the pool rule out the first n `members`; those that do come first in `order` afterwards."""
    for a in range(n):
        for k in range(V.shape[1]):
            rows[0, a, k] = V[members[a], k]
            rows[1, a, k] = S[members[a], k]
    for place in range(order.shape[0]):
        d = order[place]
        worth = value[d]
        for a in range(n):
            worth -= cap * mu[d, members[a]]
        if worth <= 0.0 and share[d] > 0.0:
            continue
        scale = share[d] * limit / worth if share[d] > 0.0 else 0.0
        for a in range(n):
            rhs[a] = 1.0 + scale * (mu[d, members[a]] - reward[d, members[a]])
        if _newton(n, rows[0], rows[1], b, cap, limit, rhs, scale * worth, w, lam[0], lam[1], J):
            for o in range(place, 0, -1):
                order[o] = order[o - 1]
            order[0] = d
            return True
    return False


@compiled(
    "(boolean[:, ::1], float64[::1], float64[:, ::1], float64[:, ::1], float64[::1], float64,"
    " float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], boolean[::1])"
)
def screened_sets(
    sets: Any, limits: Float, V: Float, S: Float, b: Float, cap: float, reward: Float, mu: Float, value: Float, share: Float,
    out: Any,
) -> None:  # fmt: skip
    """Mark in `out` (n,) the sets (n, M) that the dual screen rules out at limits (n,) W; other arguments as in `enumerate_sets`."""
    M, K = V.shape
    members, order = np.empty(M, np.int64), np.arange(value.shape[0])
    rhs, w, lam, J, rows = np.empty(M), np.empty(M), np.empty((2, K)), np.empty((M, M + 1)), np.empty((2, M, K))
    for i in range(sets.shape[0]):
        n: Any = np.int64(0)  # not a literal, for which `screened` would be compiled once more
        for m in range(M):
            if sets[i, m]:
                members[n] = m
                n += 1
        out[i] = screened(members, n, V, S, b, cap, limits[i], reward, mu, value, share, order, rows, rhs, w, lam, J)


@compiled()
def _ruled_out_by_knapsack(
    inside: Any, last: int, room: int, quality: Float, ranking: Any, budget: float, recent: Any
) -> bool:
    """Return whether the sensing knapsack rules out every completion of a partial set.

    Args:
        inside: (M,) bool, the partial set.
        last: APs after this position may still be added.
        room: number of APs that may be added.
        quality: (D, M) P_max ⟨Z, Q_m⟩ ν/(tr Z^½)², by direction.
        ranking: (D, M) positions by decreasing quality.
        budget: c/P_max.
        recent: (D,) directions, the most recently successful first; updated.
    """
    D, M = quality.shape
    for place in range(D):
        d = recent[place]
        left, total, joined = budget, 0.0, 0
        for i in range(M):
            m = ranking[d, i]
            if not inside[m]:
                if m <= last or joined == room:
                    continue
                joined += 1
            total += min(left, 1.0) * quality[d, m]
            left -= 1.0
            if left <= 0.0 or total >= 1.0:
                break
        if total < 1.0 - 1e-9:
            for o in range(place, 0, -1):
                recent[o] = recent[o - 1]
            recent[0] = d
            return True
    return False


@compiled("(boolean[:, ::1], float64[::1], float64[:, ::1], int64[:, ::1], int64[::1], boolean[::1])")
def knapsack_infeasible(sets: Any, budgets: Float, quality: Float, ranking: Any, recent: Any, out: Any) -> None:
    """Mark in `out` (n,) the sets (n, M) that the sensing knapsack rules out at budgets (n,), see `_ruled_out_by_knapsack`."""
    for i in range(sets.shape[0]):
        out[i] = _ruled_out_by_knapsack(sets[i], sets.shape[1], 0, quality, ranking, budgets[i], recent)


@compiled(
    "(int64[::1], int64, int64, float64[:, ::1], float64[:, ::1], float64[::1], float64, float64, float64[:, ::1], int64[:, ::1],"
    " int64[::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], int64[::1], int64[:, ::1], int64)"
)
def enumerate_sets(
    position: Any, depth: int, n: int, V: Float, S: Float, b: Float, cap: float, limit: float, quality: Float, ranking: Any,
    recent: Any, reward: Float, mu: Float, value: Float, share: Float, order: Any, found: Any, steps: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Continue the enumeration until `found` is full, `steps` nodes are visited or no set is left.

    `V`, `S`, `b` and `cap` are as in `_newton`, for all M APs; `quality`, `ranking` and `recent` as in `_ruled_out_by_knapsack`.

    Args:
        position: (n,) partial set to continue from; on return, where the enumeration stopped.
        depth: number of valid entries of `position`; the last one is tried next.
        n: size of the sets.
        limit: W, sets above it are ruled out.
        reward: (d, M) sensing credits ⟨Z, Q_m⟩ of the multipliers in the pool.
        mu: (d, M) their cap prices.
        value: (d,) their (tr Z^½)²/ν, W.
        share: (d,) part of the limit that the sensing term covers; the users' term covers the rest.
        order: (d,) order in which the pool is tried; updated.
        found: (rows, n) receives the remaining sets.
        steps: maximum number of nodes to visit.

    Returns:
        Sets found, depth (zero when nothing is left), nodes visited.
    """
    M, K = V.shape
    inside = np.zeros(M, np.bool_)
    rhs, w, lam, J, copies = np.empty(n), np.empty(n), np.empty((2, K)), np.empty((n, n + 1)), np.empty((2, n, K))
    for a in range(depth - 1):
        inside[position[a]] = True
    rows = nodes = 0
    budget = limit / cap
    while depth > 0:
        m = position[depth - 1]
        if m > M - (n - depth) - 1:
            # Backtrack: too few positions are left.
            depth -= 1
            if depth > 0:
                inside[position[depth - 1]] = False
                position[depth - 1] += 1
            continue
        if nodes >= steps or rows == found.shape[0]:
            break
        nodes += 1
        # Rules out all sets with this or a later AP at this depth.
        if _ruled_out_by_knapsack(inside, m - 1, n - depth + 1, quality, ranking, budget, recent):
            position[depth - 1] = M
            continue
        inside[m] = True
        if depth == n:
            if not _ruled_out_by_knapsack(inside, M, 0, quality, ranking, budget, recent) and not screened(
                position, n, V, S, b, cap, limit, reward, mu, value, share, order, copies, rhs, w, lam, J
            ):
                copy(position, found[rows])
                rows += 1
            inside[m] = False
            position[depth - 1] += 1
        elif _ruled_out_by_knapsack(inside, m, n - depth, quality, ranking, budget, recent):
            inside[m] = False
            position[depth - 1] += 1
        else:
            depth += 1
            position[depth - 1] = m + 1
    return rows, depth, nodes
