"""Compiled work on one node of the search: raise its bound, fix APs by reduced costs, and price what is left when that is little.

A node stands for the sets of n APs that hold the APs that are on and none that is off. Nothing here touches anything shared, so that nodes
may be worked on by several threads, and what comes out depends on the node and its arguments alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.interior_point import INACCURATE, OPTIMAL, solve_sets
from baselines.allocation.result import Float
from baselines.enumeration import screened
from baselines.share_kernels import ascend, least_sum
from cfisac_env.jit import compiled

PRUNED, PRICED, SPLIT = range(3)

ROUNDS = 3
"""How often a node's bound is raised again after APs were fixed."""

MARGIN = 1e-9
"""Relative distance that fixing and screening keep from a limit, far above their rounding."""


@compiled()
def _fix(state: Any, c: Float, n: int, constant: float, target: float, order: Any) -> int:
    """Switch on or off for good what the prices c decide; returns how many APs that are.

    With the n' = n − |on| smallest of the free APs chosen, an AP outside costs c_m − c_(n') more when it must be on, and one inside
    c_(n'+1) − c_m more when it must be off.
    """
    count, free = n, 0
    for m in range(c.shape[0]):
        if state[m] > 0:
            count -= 1
        elif state[m] == 0:
            free += 1
    if count < 0 or free < count:
        return 0
    value = constant + least_sum(c, state, n, order)  # leaves the free APs in order of c
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
    """The free AP about which the relaxation is least decided, by min(a, 1 − a) √P; any free one when it is about none."""
    best, chosen = -1.0, -1
    for m in range(a.shape[0]):
        if state[m] == 0:
            score = min(a[m], 1.0 - a[m]) * np.sqrt(P[m])
            if score > best:
                best, chosen = score, m
    return chosen


@compiled()
def _completions(c: Float, order: Any, free: int, count: int, room: float, most: int, picks: Any) -> int:
    """Every choice of `count` of the free APs in `order` (by rising c) whose c sum to at most `room`, into `picks` (most, count).

    Returns their number, or `most` + 1 when there are more.
    """
    if count == 0:
        return 1 if room >= 0.0 else 0
    position, sums = np.zeros(count, np.int64), np.zeros(count + 1)
    depth, found = 0, 0
    while depth >= 0:
        i = position[depth]
        left = count - depth
        # The cheapest completion from here on; later ones only cost more.
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
def _remember(
    sinr: Float, mu: Float, Z: Float, fisher: Float, noise: float, gamma: float, nu: float, cap: float, place: int,
    reward: Float, caps: Float, value: Float, share: Float,
) -> bool:  # fmt: skip
    """Put multipliers into row `place` of a pool, as `bounds.DualPool` has it; False when they aren't finite."""
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


@compiled()
def _price(
    picks: Any, rows: int, count: int, state: Any, n: int, V: Float, S: Float, b: Float, gain: Float, estimate: Float, fisher: Float,
    noise: float, gamma: float, nu: float, cap: float, limit: float, reward: Float, caps: Float, value: Float, share: Float,
    filled: int, best: Any,
) -> tuple[float, float, int]:  # fmt: skip
    """Screen and solve complete sets: row i of `picks` (rows, count) on top of the APs that are on; the best goes into `best` (M,).

    The first `filled` rows of the pool (reward (d, M), caps (d, M), value (d,), share (d,), see `enumeration`) hold multipliers; those of
    every set that is solved join them in place of the ones that were of use longest ago.

    Returns:
        Least power in W of a set within `limit` (W), least certified bound of those that were solved to the end (both infinite without
        one), and how many were solved.
    """
    M, K = V.shape
    size = value.shape[0]
    order = np.arange(size)
    members = np.empty(n, np.int64)
    copies, rhs, w, lam, J = np.empty((2, n, K)), np.empty(n), np.empty(n), np.empty((2, K)), np.empty((n, n + 1))
    drop, active, cutoff = np.zeros(1, np.int64), np.zeros((1, M), np.bool_), np.empty(1)
    status, iterations, bound, power = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1), np.zeros((1, M, K))
    sinr, mu, Z = np.zeros((1, K)), np.zeros((1, M)), np.zeros((1, fisher.shape[2], 3))
    on = 0
    for m in range(M):
        if state[m] > 0:
            members[on] = m
            on += 1
    cutoff[0] = limit
    least_w, proven, solved = np.inf, np.inf, 0
    for i in range(rows):
        for j in range(count):
            members[on + j] = picks[i, j]
        if screened(
            members,
            n,
            V,
            S,
            b,
            cap,
            limit * (1.0 + MARGIN),
            reward,
            caps,
            value,
            share,
            order[:filled],
            copies,
            rhs,
            w,
            lam,
            J,
        ):
            continue
        active[:] = False
        for j in range(n):
            active[0, members[j]] = True
        power[:] = 0.0
        sinr[:] = 0.0
        mu[:] = 0.0
        Z[:] = 0.0
        solve_sets(0, 1, drop, active, gain, estimate, fisher, noise, gamma, nu, cap, cutoff, status, bound, iterations, power,
                    sinr, mu, Z)  # fmt: skip
        solved += 1
        if status[0] == OPTIMAL or status[0] == INACCURATE:
            proven = min(proven, bound[0])
            total = power.sum()
            if status[0] == OPTIMAL and total < least_w:
                least_w = total
                best[:] = active[0]
        place = order[filled - 1] if filled == size else filled
        if _remember(sinr[0], mu[0], Z[0], fisher[0], noise, gamma, nu, cap, place, reward, caps, value, share):
            filled = min(filled + 1, size)
            for o in range(filled - 1, 0, -1):
                order[o] = order[o - 1]
            order[0] = place
    return least_w, proven, solved


@compiled(
    "(int8[::1], float64[::1], float64[::1], float64[::1], int64, float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], "
    "float64[:, ::1], float64[::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, :, :, ::1], float64, float64, float64, "
    "float64, float64, float64, float64, int64, int64, float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], int64, "
    "float64[::1], float64[::1], boolean[::1], int64[::1])"
)
def work_on(
    state: Any, theta: Float, P: Float, xi: Float, n: int, inverse_s: Float, rho: Float, Q: Float, V: Float, S: Float, b: Float,
    gain: Float, estimate: Float, fisher: Float, noise: float, gamma: float, nu: float, cap: float, limit: float, softness: float,
    unit: float, evaluations: int, most: int, reward: Float, caps: Float, value: Float, share: Float, filled: int, c: Float, a: Float,
    best: Any, counts: Any,
) -> tuple[int, float, int, float, float]:  # fmt: skip
    """Do all there is to do about one node at a limit (W) on the transmit power.

    `state` (M,) is 1 for APs that are on, 0 for free ones, −1 for those that are off; what can be fixed is. The arguments from `theta` to
    `Q` and from `softness` to `evaluations` are those of `share_kernels.ascend`, whose prices and weights go into c and a (M,). A node of
    no more than `most` sets is priced, with the arguments of `_price`. Evaluations, sets that the bound left and sets solved are added
    to `counts` (3,).

    Returns:
        `PRUNED`, `PRICED` or `SPLIT`; the bound in W; the AP to split on; the least power in W of a priced set; and the least certified
        bound in W of those that were solved to the end.
    """
    M = rho.shape[0]
    order = np.empty(M, np.int64)
    target = limit / cap
    bound = -np.inf
    for _ in range(ROUNDS):
        bound, spent = ascend(
            theta, inverse_s, rho, Q, state, n, gamma, P, xi, softness, unit, target, evaluations, c, a
        )
        counts[0] += spent
        if bound > target:
            return PRUNED, bound * cap, -1, np.inf, np.inf
        if not np.isfinite(bound):
            break
        constant = bound - least_sum(c, state, n, order)
        fixed = _fix(state, c, n, constant, target + MARGIN * abs(target), order)
        count, free = n, 0
        for m in range(M):
            if state[m] > 0:
                count -= 1
            elif state[m] == 0:
                free += 1
        if free <= count or count == 0:
            # One set is left at most.
            if free < count or count < 0:
                return PRUNED, np.inf, -1, np.inf, np.inf
            picks = np.empty((1, max(count, 1)), np.int64)
            place = 0
            for m in range(M):
                if state[m] == 0 and count > 0:
                    picks[0, place] = m
                    place += 1
            rows = 1
        else:
            room = target + MARGIN * abs(target) - constant
            for m in range(M):
                if state[m] > 0:
                    room -= c[m]
            least_sum(c, state, n, order)
            picks = np.empty((most, count), np.int64)
            rows = _completions(c, order, free, count, room, most, picks)
        if rows <= most:
            counts[1] += rows
            least_w, proven, solved = _price(
                picks, rows, count, state, n, V, S, b, gain, estimate, fisher, noise, gamma, nu, cap, limit, reward, caps, value,
                share, filled, best,
            )  # fmt: skip
            counts[2] += solved
            return PRICED, bound * cap, -1, least_w, proven
        if fixed < 2:
            break
    return SPLIT, bound * cap, _branch(state, a, P), np.inf, np.inf
