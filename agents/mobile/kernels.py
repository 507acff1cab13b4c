"""Compiled decision of `mobile-value`: local search over sets of APs for the least energy now plus a learned value of the future.

An AP is a row of D = 3S + 2K numbers that add up over a set, as in `baselines.foresight.kernels`. Forecasts have the futures along their
last axis, (H, M, D, F), so that all futures of an instant are evaluated by the same vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.result import Float
from baselines.foresight.kernels import need
from cfisac_env.jit import compiled

UNSERVED_J = 1e6
"""Cost of leaving the current instant unserved, J."""

CANDIDATES = 4
"""Numbers of the best removals and of the best additions that are combined to exchanges."""

SPREAD = 8
"""Size of a set up to which the powers of single APs are compared with P_max; larger sets hardly fail by them."""

SINGLE = 12
"""Size of a set up to which additions and exchanges are tried; larger ones are first reduced."""


@compiled()
def _failures(
    sums: Any, rows: Any, members: Any, serving: Any, leaver: int, joiner: int, minus: Any, plus: Any, count: int, S: int, K: int,
    requirement: Any, shape: Any, spread: Any, work: Any, share_of: Any,
) -> None:  # fmt: skip
    """Compute in all futures of one instant how far a set fails, and how far it fails deeply, from 0 to 1.

    The load is that of `baselines.foresight.kernels.need`, and small sets fail where one AP has to radiate too much, too: with matched
    shares p_mk ∝ v_mk and interference at full power, its power is Σ_k γ(σ² + P_max G_k) v_mk/V_k², V_k = Σ_m v_mk, G_k = Σ_m ς_mk.

    Args:
        sums: (D, F) of the set before the move.
        rows: (M, D, F).
        members: (M,) APs of the set before the move, of which `serving` (M,) are awake.
        leaver: AP to remove and `joiner` AP to add, with the factors `minus` and `plus`, 0 or 1.
        count: awake APs after the move.
        shape: (4,) load at which failing begins, inverse width of its ramp; the same for deep failures.
        spread: (3,) power of an AP relative to P_max at which three APs begin to fail, its increase per further AP, inverse width.
        work: (6, F); the first two rows are the result.
        share_of: (K, F).
    """
    leaving, joining = rows[max(leaver, 0)], rows[max(joiner, 0)]
    F = sums.shape[1]
    one, tiny = np.float32(1.0), np.float32(1e-30)
    gamma, noise, nu, cap = requirement[0], requirement[1], requirement[2], requirement[3]
    if count <= 0:
        for f in range(F):
            work[0, f] = work[1, f] = one
        return
    for f in range(F):
        work[2, f] = np.float32(0.0)
        work[3, f] = np.float32(0.0)
        work[4, f] = np.float32(0.0)
    for s in range(S):
        for f in range(F):
            qa = sums[3 * s, f] - minus * leaving[3 * s, f] + plus * joining[3 * s, f]
            qb = sums[3 * s + 1, f] - minus * leaving[3 * s + 1, f] + plus * joining[3 * s + 1, f]
            qc = sums[3 * s + 2, f] - minus * leaving[3 * s + 2, f] + plus * joining[3 * s + 2, f]
            determinant = qa * qb - qc * qc
            determinant = determinant if determinant > np.float32(1e-5) * qa * qb else np.float32(1e-5) * qa * qb
            sensing = (qa + qb) / ((determinant if determinant > tiny else tiny) * nu)
            work[2, f] = sensing if sensing > work[2, f] else work[2, f]
    for k in range(K):
        v, g = 3 * S + k, 3 * S + K + k
        for f in range(F):
            total = sums[v, f] - minus * leaving[v, f] + plus * joining[v, f]
            inverse = one / (total if total > tiny else tiny)
            interference = sums[g, f] - minus * leaving[g, f] + plus * joining[g, f]
            work[3, f] += inverse
            work[4, f] += inverse * interference
            share_of[k, f] = gamma * (noise + cap * interference) * inverse * inverse
    for f in range(F):
        work[5, f] = np.float32(0.0)
    if count <= SPREAD:
        for m in range(len(members)):
            if not ((members[m] and serving[m] and (m != leaver)) or (m == joiner and plus > np.float32(0.0))):
                continue
            for f in range(F):
                work[1, f] = np.float32(0.0)
            for k in range(K):
                for f in range(F):
                    work[1, f] += share_of[k, f] * rows[m, 3 * S + k, f]
            for f in range(F):
                work[5, f] = work[1, f] if work[1, f] > work[5, f] else work[5, f]
    begin = spread[0] + spread[1] * np.float32(max(count - 3, 0))
    caps = np.float32(count) * cap
    for f in range(F):
        share = work[4, f] * (gamma / np.float32(count))
        within = share if share < np.float32(0.98) else np.float32(0.98)
        usable = np.float32(0.75) - np.float32(1.75) * (within - np.float32(0.7))
        usable = caps * (usable if usable < np.float32(0.75) else np.float32(0.75))
        load = gamma * noise * work[3, f] / ((one - within) * usable)
        load = load if share < np.float32(0.98) else np.float32(10.0) * share + load
        load = load if load > work[2, f] else work[2, f]
        fails = (load - shape[0]) * shape[1]
        uneven = (work[5, f] / cap - begin) * spread[2]
        fails = fails if fails > uneven else uneven
        fails = fails if fails > np.float32(0.0) else np.float32(0.0)
        work[0, f] = fails if fails < one else one
        deep = (load - shape[2]) * shape[3]
        deep = deep if deep > np.float32(0.0) else np.float32(0.0)
        work[1, f] = deep if deep < one else one


@compiled()
def _future(world: Any, sums: Any, counts: Any, leaver: int, joiner: int, scratch: Any, bound: float) -> float:
    """Compute the value of a set after a move: the expected cost of its failures in the futures, J; any number above `bound` beyond it.

    Args:
        world: rows (H, M, D, F), times (H,), members (M,) of the set before the move, the APs (H, M) that are awake by then, the steps (M,)
            until they are, S, K, requirement, shape (H, 4) and spread of `_failures`, and weights (4, H): costs in J of the first failure
            of a future, a further one, the first deep one, and of each failing instant.
        sums: (H, D, F) of the set before the move, and `counts` (H,) of its awake members.
        leaver: AP to remove, or −1; `joiner` to add, or −1.
        scratch: work and share_of of `_failures`, and (3, F).
    """
    rows, times, members, awake, ready, S, K, requirement, shape, spread, weights = world
    work, share_of, running = scratch
    F = sums.shape[2]
    running[:] = np.float32(0.0)
    cost = 0.0
    scale = 1.0 / F
    for h in range(len(counts)):
        minus = np.float32(1.0 if leaver >= 0 and ready[leaver] <= times[h] else 0.0)
        plus = np.float32(1.0 if joiner >= 0 and ready[joiner] <= times[h] else 0.0)
        count = counts[h] - np.int64(minus) + np.int64(plus)
        _failures(
            sums[h], rows[h], members, awake[h], leaver, joiner, minus, plus, count, S, K, requirement, shape[h], spread, work, share_of
        )  # fmt: skip
        first, again, deepest, each = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for f in range(F):
            fails, deep = work[0, f], work[1, f]
            worst, before, lowest = running[0, f], running[1, f], running[2, f]
            new = fails - worst
            first += new if new > np.float32(0.0) else np.float32(0.0)
            back = (fails if fails < worst else worst) - before
            again += back if back > np.float32(0.0) else np.float32(0.0)
            deeper = deep - lowest
            deepest += deeper if deeper > np.float32(0.0) else np.float32(0.0)
            each += fails
            running[0, f] = fails if fails > worst else worst
            running[1, f] = fails
            running[2, f] = deep if deep > lowest else lowest
        cost += scale * (weights[0, h] * first + weights[1, h] * again + weights[2, h] * deepest + weights[3, h] * each)
        if cost > bound:
            break
    return cost


@compiled()
def _present(instant: Any, total: Float, count: int, leaver: int, joiner: int, trial: Float) -> float:
    """Compute the transmit energy of this instant after a move, J; above `UNSERVED_J` where it is unserved.

    Args:
        instant: rows (M, D), members (M,) of the set before the move, steps (M,) until they are awake, the load up to which this instant
            counts as served, S, K, requirement, and spread of `_failures`.
        total: (D,) of the set before the move, with `count` awake members.
    """
    now, members, ready, limit, S, K, requirement, spread = instant
    n = count
    for d in range(len(trial)):
        trial[d] = total[d]
    if leaver >= 0 and ready[leaver] == 0:
        n -= 1
        for d in range(len(trial)):
            trial[d] -= now[leaver, d]
    if joiner >= 0 and ready[joiner] == 0:
        n += 1
        for d in range(len(trial)):
            trial[d] += now[joiner, d]
    load, transmit = need(trial, n, S, K, requirement)
    if load <= limit and n <= SPREAD:
        most = 0.0
        for m in range(len(members)):
            if ready[m] == 0 and m != leaver and (members[m] or m == joiner):
                power = 0.0
                for k in range(K):
                    inverse = 1.0 / trial[3 * S + k]
                    noise = requirement[1] + requirement[3] * trial[3 * S + K + k]
                    power += requirement[0] * noise * inverse * inverse * now[m, 3 * S + k]
                most = max(most, power / requirement[3])
        load = max(load, most / (spread[0] + spread[1] * max(n - 3, 0) + 0.5 / spread[2]))
    return float(transmit * requirement[4] + (UNSERVED_J * (1.0 + load) if load > limit else 0.0))


@compiled()
def _gather(
    rows: Any, now: Float, times: Any, H: int, members: Any, ready: Any, sums: Any, counts: Any, total: Float
) -> int:
    """Sum the rows of the members that are awake, at this instant and in the futures; return their present number."""
    total[:] = 0.0
    count = 0
    for m in range(len(members)):
        if members[m] and ready[m] == 0:
            count += 1
            for d in range(len(total)):
                total[d] += now[m, d]
    for h in range(H):
        sums[h] = np.float32(0.0)
        counts[h] = 0
        for m in range(len(members)):
            if members[m] and ready[m] <= times[h]:
                counts[h] += 1
                for d in range(sums.shape[1]):
                    for f in range(sums.shape[2]):
                        sums[h, d, f] += rows[h, m, d, f]
    return count


@compiled(
    "(float32[:, :, :, ::1], float64[:, ::1], int64[::1], int64, boolean[::1], int64[::1], int64, int64, float64[::1], float64[::1], "
    "float64, float64, float32[::1], float64[:, ::1], float32[:, ::1], boolean[::1])"
)
def decide(
    rows: Any, now: Float, times: Any, H: int, on: Any, ready: Any, S: int, K: int, requirement: Float, prices: Float, limit: float,
    users: float, spread: Any, weights: Float, shape: Any, members: Any,
) -> float:  # fmt: skip
    """Search by removals, additions and exchanges from the APs that are on; fill in the set (M,) and return its cost in J.

    Args:
        rows: (at least H, M, D, F) forecasts, `times` steps from now.
        now: (M, D) at this instant.
        times: (at least H,).
        H: number of instants to look ahead.
        on: (M,) APs that are on.
        ready: (M,) steps until each AP is awake, if it is on from now on.
        S: targets.
        K: users.
        requirement: (5,) γ, σ², ν, P_max, and the step in s.
        prices: (4,) J: of an AP that stays on, of one that is switched on, the least improvement, and the cost of the future up to which
            no additions are tried.
        limit: load up to which this instant counts as served.
        users: factor of the users' load in the futures.
        spread: see `_failures`.
        weights: (4, at least H), see `_future`.
        shape: (at least H, 4), see `_failures`.
        members: (M,) output.
    """
    M, D = now.shape
    F = rows.shape[3]
    sums, counts = np.empty((H, D, F), np.float32), np.empty(H, np.int64)
    total, trial = np.empty(D), np.empty(D)
    work, running = np.empty((6, F), np.float32), np.empty((3, F), np.float32)
    share_of, awake = np.empty((K, F), np.float32), np.empty((H, M), np.bool_)
    for h in range(H):
        for m in range(M):
            awake[h, m] = ready[m] <= times[h]
    demand = requirement.astype(np.float32)
    demand[1] *= np.float32(users)
    size, fixed = 0, 0.0
    for m in range(M):
        members[m] = on[m]
        size += on[m]
        fixed += prices[0] * on[m]
    out_cost, in_cost = np.empty(M), np.empty(M)
    cost = np.inf
    world = (rows, times, members, awake, ready, S, K, demand, shape, spread, weights)
    instant = (now, members, ready, limit, S, K, requirement, spread)
    scratch = (work, share_of, running)
    for step in range(3 * M):
        count = _gather(rows, now, times, H, members, ready, sums, counts, total)
        if step == 0:
            cost = fixed + _present(instant, total, count, -1, -1, trial)
            cost += _future(world, sums, counts, -1, -1, scratch, np.inf)
        best, leaver, joiner = cost - prices[2], -1, -1
        small = size <= SINGLE
        for m in range(M):
            out_cost[m] = in_cost[m] = np.inf
            if members[m] and size > 1:
                base = fixed - (prices[0] if on[m] else prices[1]) + _present(instant, total, count, m, -1, trial)
                if base < best or small:
                    base += _future(world, sums, counts, m, -1, scratch, np.inf if small else best - base)
                out_cost[m] = base
                if base < best:
                    best, leaver, joiner = base, m, -1
        if cost - fixed > prices[3] and (small or cost > UNSERVED_J):
            for m in range(M):
                if members[m]:
                    continue
                more = prices[0] if on[m] else prices[1]
                base = fixed + more + _present(instant, total, count, -1, m, trial)
                if base > cost + more:
                    continue
                base += _future(world, sums, counts, -1, m, scratch, cost + more - base)
                in_cost[m] = base
                if base < best:
                    best, leaver, joiner = base, -1, m
            if small and leaver < 0 and size > 1:
                leavers, joiners = np.argsort(out_cost)[:CANDIDATES], np.argsort(in_cost)[:CANDIDATES]
                for i in leavers:
                    for j in joiners:
                        if not (members[i] and np.isfinite(in_cost[j])):
                            continue
                        base = fixed + (prices[0] if on[j] else prices[1]) - (prices[0] if on[i] else prices[1])
                        base += _present(instant, total, count, i, j, trial)
                        if base < best:
                            base += _future(world, sums, counts, i, j, scratch, best - base)
                        if base < best:
                            best, leaver, joiner = base, i, j
        if leaver < 0 and joiner < 0:
            break
        if leaver >= 0:
            members[leaver] = False
            size -= 1
            fixed -= prices[0] if on[leaver] else prices[1]
        if joiner >= 0:
            members[joiner] = True
            size += 1
            fixed += prices[0] if on[joiner] else prices[1]
        cost = best
    return cost
