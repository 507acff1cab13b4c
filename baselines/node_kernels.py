"""Compiled node processing of `share_search`: fixing APs by reduced costs, listing and screening the remaining sets.

A node represents the sets of n APs that contain every AP fixed on and none fixed off.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.result import Float
from baselines.enumeration import screened
from baselines.share_kernels import least
from cfisac_env.jit import compiled

ROUNDING_MARGIN = 1e-9
"""Relative tolerance on limits in fixing and screening, far above rounding errors."""


@compiled()
def _fix(state: Any, c: Float, n: int, constant: float, target: float, order: Any) -> int:
    """Fix APs on or off by their reduced costs c; return how many.

    With the n' = n − |on| cheapest free APs selected, forcing on an unselected AP costs c_m − c_(n') more, and forcing off a selected one
    c_(n'+1) − c_m more.
    """
    count, free = n, 0
    for m in range(c.shape[0]):
        if state[m] > 0:
            count -= 1
        elif state[m] == 0:
            free += 1
    if count < 0 or free < count:
        return 0
    value = constant + least(c, state, n, False, order)  # leaves the free APs in order of c
    room = target - value
    fixed = 0
    for i in range(free):
        m = order[i]
        if i < count:
            if free == count or c[order[count]] - c[m] > room:
                state[m] = 1
                fixed += 1
        elif count == 0 or c[m] - c[order[count - 1]] > room:
            state[m] = -1
            fixed += 1
    return fixed


@compiled()
def _branch(state: Any, a: Float, P: Float) -> int:
    """Select the most fractional free AP by min(a, 1 − a) √P; −1 when no AP is free."""
    best, chosen = -1.0, -1
    for m in range(a.shape[0]):
        if state[m] == 0:
            score = min(a[m], 1.0 - a[m]) * np.sqrt(P[m])
            if score > best:
                best, chosen = score, m
    return chosen


@compiled()
def _completions(c: Float, order: Any, free: int, count: int, room: float, most: int, picks: Any) -> int:
    """List in `picks` (most, count) every choice of `count` free APs in `order` (by increasing c) with Σ c at most `room`.

    Returns:
        Their number, or `most` + 1 when there are more.
    """
    if count == 0:
        return 1 if room >= 0.0 else 0
    position, sums = np.zeros(count, np.int64), np.zeros(count + 1)
    depth, found = 0, 0
    while depth >= 0:
        i = position[depth]
        left = count - depth
        # The cheapest completion; later ones cost more.
        total = sums[depth]
        fits = i + left <= free
        if fits:
            for j in range(left):
                total += c[order[i + j]]
        if not fits or total > room:
            depth -= 1
            if depth >= 0:
                position[depth] += 1
            continue
        if left == 1:
            if found == most:
                return most + 1
            for j in range(count):
                picks[found, j] = order[position[j]]
            found += 1
            position[depth] += 1
            continue
        sums[depth + 1] = sums[depth] + c[order[i]]
        position[depth + 1] = i + 1
        depth += 1
    return found


@compiled()
def _store_multipliers(
    sinr: Float, mu: Float, Z: Float, fisher: Float, noise: float, gamma: float, nu: float, cap: float, place: int,
    reward: Float, caps: Float, value: Float, share: Float,
) -> bool:  # fmt: skip
    """Store multipliers in row `place` of a pool in the layout of `bounds.DualPool`; return whether they are finite."""
    worth = net = 0.0
    for s in range(Z.shape[0]):
        root = np.sqrt(max((1.0 - 4e-15) * Z[s, 0] * Z[s, 1] - Z[s, 2] * Z[s, 2], 0.0))
        worth += (Z[s, 0] + Z[s, 1] + 2.0 * root) / nu
    net = worth
    for m in range(mu.shape[0]):
        caps[place, m] = mu[m]
        net -= cap * mu[m]
        total = 0.0
        for s in range(Z.shape[0]):
            total += Z[s, 0] * fisher[m, s, 0] + Z[s, 1] * fisher[m, s, 1] + 2.0 * Z[s, 2] * fisher[m, s, 2]
        reward[place, m] = total
    total = net
    for k in range(sinr.shape[0]):
        total += gamma * noise * sinr[k]
    value[place] = worth
    share[place] = min(max(net / total, 0.0), 1.0) if total > 0.0 else 1.0
    return bool(np.isfinite(worth) and np.isfinite(total) and np.isfinite(reward[place].sum()))


@compiled("(int8[::1], float64[::1], float64[::1], float64[::1], int64, float64, float64, int64[:, ::1], int64[::1])")
def reduce_node(
    state: Any, c: Float, a: Float, P: Float, n: int, bound: float, target: float, picks: Any, out: Any
) -> None:
    """Fix APs of a node by their reduced costs, and list its sets if they fit into `picks`.

    Args:
        state: (M,) 1 on, 0 free, −1 off; updated.
        c: (M,) reduced costs at the bound.
        a: (M,) weights.
        P: (M,) powers.
        n: size of the sets.
        bound: lower bound on the transmit power of all sets, in units of P_max.
        target: sets with a bound above are pruned.
        picks: (most, n) receives the APs that each set adds to the fixed ones.
        out: (4,) receives the number of sets (most + 1 if there are more), the number of APs that each adds, the number of APs fixed, and
            the AP to branch on.
    """
    M = c.shape[0]
    order = np.empty(M, np.int64)
    limit = target + ROUNDING_MARGIN * abs(target)
    constant = bound - least(c, state, n, False, order)
    out[2] = _fix(state, c, n, constant, limit, order)
    out[3] = _branch(state, a, P)
    count, free = n, 0
    room = limit - constant
    for m in range(M):
        if state[m] > 0:
            count -= 1
            room -= c[m]
        elif state[m] == 0:
            free += 1
    out[1] = count
    if count < 0 or free < count:
        out[0] = 0
    else:
        least(c, state, n, False, order)
        out[0] = _completions(c, order, free, count, room, picks.shape[0], picks)


@compiled(
    "(int64[:, ::1], int64, int64, int64, int8[::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[:, :, ::1], float64, float64,"
    " float64, float64, float64, float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], int64[::1], int64[::1], boolean,"
    " float64[::1], float64[::1], float64[:, ::1], boolean[::1])"
)
def next_candidate(
    picks: Any, start: int, rows: int, count: int, state: Any, V: Float, S: Float, b: Float, fisher: Float, noise: float,
    gamma: float, nu: float, cap: float, limit: float, reward: Float, caps: Float, value: Float, share: Float, order: Any, filled: Any,
    learn: bool, sinr: Float, mu: Float, Z: Float, active: Any,
) -> int:  # fmt: skip
    """Find the first set from row `start` of `picks` that the pool of multipliers does not rule out at `limit` W.

    The first `filled[0]` rows of the pool (reward (d, M), caps (d, M), value (d,), share (d,), see `enumeration`) hold multipliers, `order`
    (d,) lists the most recently useful first. With `learn`, the multipliers λ (K,), μ (M,) and Z (S, 3) of the last solve are added,
    replacing the least recently useful ones of a full pool. The set is written into `active` (M,).

    Returns:
        Its row, or `rows` when every set is ruled out.
    """
    M, K = V.shape
    size = value.shape[0]
    if learn:
        place = order[size - 1] if filled[0] == size else filled[0]
        if _store_multipliers(sinr, mu, Z, fisher, noise, gamma, nu, cap, place, reward, caps, value, share):
            filled[0] = min(filled[0] + 1, size)
            at = filled[0] - 1
            for o in range(at, 0, -1):
                order[o] = order[o - 1]
            order[0] = place
    n = count
    for m in range(M):
        if state[m] > 0:
            n += 1
    members = np.empty(n, np.int64)
    on = 0
    for m in range(M):
        if state[m] > 0:
            members[on] = m
            on += 1
    copies, rhs, w, lam, J = np.empty((2, n, K)), np.empty(n), np.empty(n), np.empty((2, K)), np.empty((n, n + 1))
    for i in range(start, rows):
        for j in range(count):
            members[on + j] = picks[i, j]
        if not screened(
            members, n, V, S, b, cap, limit * (1.0 + ROUNDING_MARGIN), reward, caps, value, share, order[: filled[0]], copies, rhs, w,
            lam, J,
        ):  # fmt: skip
            active[:] = False
            for j in range(n):
                active[members[j]] = True
            return i
    return rows
