"""Compiled loops of `predictive`: simulated futures of an instant, and the energy of a set of APs in each of them.

An AP at an instant of a future is a row of D = 3S + 2K features that add up over a set: its Fisher information about every target at P_max,
and v and ς of every user. `requirement` is (γ, σ², ν, P_max); `costs` is (P_cir Δt, E, λ, Δt): energy of an active AP per step, of a
switch-on and of an unserved step in J, and the step in s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.result import Float
from cfisac_env.jit import compiled

LOOKBACK = 10
"""Instants before a failure over which candidate APs are compared."""


@compiled()
def need(total: Float, count: int, S: int, K: int, requirement: Float) -> tuple[float, float]:
    """Estimate the load of a set, relative to its capacity, and its transmit power.

    The sensing load is CRLB/ν at full power. The users' load is the power required if all APs radiate equally,
    T = Σ_k γσ²/V_k/(1 − b), b = Σ_k γG_k/(nV_k), V_k = Σ_m v_mk, G_k = Σ_m ς_mk, relative to the usable part of nP_max: 3/4, as users are
    spread unevenly, and less as b approaches 1, where no power suffices.

    Args:
        total: (D,) sums over the set.
        count: its size n.
        S: targets.
        K: users.
        requirement: (4,).

    Returns:
        The larger load, at most 1e3 (the set serves up to 1), and the transmit power in W.
    """
    if count == 0:
        return 1e3, 0.0
    gamma, noise, nu, cap = requirement[0], requirement[1], requirement[2], requirement[3]
    sensing = 0.0
    for s in range(S):
        qa, qb, qc = total[3 * s], total[3 * s + 1], total[3 * s + 2]
        determinant = qa * qb - qc * qc
        if determinant <= 1e-12 * qa * qb:
            return 1e3, count * cap
        sensing = max(sensing, (qa + qb) / (determinant * nu))
    first, share = 0.0, 0.0
    for k in range(K):
        gain = 1.0 / total[3 * S + k]
        first += gain
        share += total[3 * S + K + k] * gain
    share *= gamma / count
    if share >= 1.0:
        return min(1e3, max(sensing, 10.0 * share)), count * cap
    power = gamma * noise * first / (1.0 - share)
    usable = count * cap * min(0.75, 0.75 - 1.75 * (share - 0.7))
    transmit = min(max(1.3 * power, 0.55 * count * cap * sensing), count * cap)
    return min(1e3, max(sensing, power / usable)), transmit


@compiled()
def _sum_rows(rows: Float, members: Any, total: Float) -> int:
    """Sum the rows (M, D) of the members into `total`; return their number."""
    total[:] = 0.0
    count = 0
    for m in range(len(members)):
        if members[m]:
            count += 1
            for d in range(len(total)):
                total[d] += rows[m, d]
    return count


@compiled()
def _add_row(rows: Float, m: int, sign: float, total: Float, out: Float) -> None:
    """Fill `out` with `total` plus `sign` times row m."""
    for d in range(len(total)):
        out[d] = total[d] + sign * rows[m, d]


@compiled()
def _prune(rows: Float, i: int, members: Any, S: int, K: int, requirement: Float, sums: Float, trial: Float) -> None:
    """Remove members while the rest serves instant i, in order of their effect at it and at the instants before."""
    M = len(members)
    first = max(0, i - LOOKBACK)
    count = 0
    for t in range(first, i + 1):
        count = _sum_rows(rows[t], members, sums[t - first])
    while count > 1:
        best, best_score = -1, -np.inf
        for m in range(M):
            if not members[m]:
                continue
            _add_row(rows[i], m, -1.0, sums[i - first], trial)
            load, _ = need(trial, count - 1, S, K, requirement)
            if load > 1.0:
                continue
            score = -0.1 * load
            if count <= 12:
                for t in range(first, i):
                    _add_row(rows[t], m, -1.0, sums[t - first], trial)
                    earlier, _ = need(trial, count - 1, S, K, requirement)
                    if earlier <= 1.0:
                        score += 1.0
            if score > best_score:
                best, best_score = m, score
        if best < 0:
            return
        members[best] = False
        count -= 1
        for t in range(first, i + 1):
            _add_row(rows[t], best, -1.0, sums[t - first], sums[t - first])


@compiled()
def _best_repair(
    rows: Float, i: int, members: Any, count: int, candidates: Any, price: Float, S: int, K: int, requirement: Float,
    sums: Float, trial: Float,
) -> int:  # fmt: skip
    """Select the candidate whose addition serves instant i and the most instants before it, relative to its price; −1 without any.

    Where no single one serves instant i, the one with the least load is selected.
    """
    first = max(0, i - LOOKBACK)
    gathered = False
    best, best_score, nearest, nearest_load = -1, -np.inf, -1, np.inf
    _sum_rows(rows[i], members, sums[LOOKBACK])
    for m in range(len(members)):
        if members[m] or not candidates[m]:
            continue
        _add_row(rows[i], m, 1.0, sums[LOOKBACK], trial)
        load, _ = need(trial, count + 1, S, K, requirement)
        if load > 1.0:
            if load < nearest_load:
                nearest, nearest_load = m, load
            continue
        if not gathered:
            gathered = True
            for t in range(first, i):
                _sum_rows(rows[t], members, sums[t - first])
        score = 1.0 - 0.1 * load
        for t in range(first, i):
            _add_row(rows[t], m, 1.0, sums[t - first], trial)
            earlier, _ = need(trial, count + 1, S, K, requirement)
            if earlier <= 1.0:
                score += 1.0
        score /= price[m]
        if score > best_score:
            best, best_score = m, score
    return best if best >= 0 else nearest


@compiled()
def future_cost(
    rows: Float, servable: Any, times: Any, weights: Float, chosen: Any, ready: Any, hold: int, wake: int, S: int, K: int,
    requirement: Float, costs: Float, newcomers: Float, until: Any,
) -> float:  # fmt: skip
    """Compute the energy of one future in J when the APs in `chosen` are on from now, without their own circuit energy.

    They stay on for `hold` steps; after that the future is taken as known. Backwards from its end, the smallest subset that serves grows
    where an instant requires more (so that forwards APs are switched off one by one). Where all of them fail, other APs are switched on at
    the cost of E and their wake-up, and kept on between two uses where that is cheaper. Instants that no AP can reach awake in time are
    unserved.

    Args:
        rows: (H, M, D) at the evaluated instants.
        servable: (H,) whether all APs together serve the instant.
        times: (H,) steps from now, increasing.
        weights: (H,) number of steps that each instant represents.
        chosen: (M,) bool.
        ready: (M,) steps until each AP is awake.
        hold: steps.
        wake: wake-up time in steps.
        S: targets.
        K: users.
        requirement: (4,).
        costs: (4,).
        newcomers: (M,) incremented for each AP that has to be switched on now to be awake in time.
        until: (M,) receives the last step at which each of the chosen APs is needed, at least `hold`.
    """
    H, M, D = rows.shape
    circuit, switch, miss, step_s = costs[0], costs[1], costs[2], costs[3]
    fresh = switch + wake * circuit
    members, serving, others = np.zeros(M, np.bool_), np.zeros(M, np.bool_), np.zeros(M, np.bool_)
    next_use = np.full(M, -1, np.int64)
    price = np.ones(M)
    sums, trial, total = np.empty((LOOKBACK + 1, D)), np.empty(D), np.empty(D)
    for m in range(M):
        until[m] = min(hold, times[H - 1]) if chosen[m] else 0
    result, began = 0.0, False
    for i in range(H - 1, -1, -1):
        t, weight = times[i], weights[i]
        if t < hold:
            for m in range(M):
                serving[m] = chosen[m] and ready[m] <= t
        else:
            if not began:
                # The last instant that all of them serve starts from a minimal subset.
                for m in range(M):
                    members[m] = chosen[m] and ready[m] <= t
                count = _sum_rows(rows[i], members, total)
                load, _ = need(total, count, S, K, requirement)
                if load <= 1.0 and servable[i]:
                    began = True
                    _prune(rows, i, members, S, K, requirement, sums, trial)
                    for m in range(M):
                        if members[m]:
                            until[m] = max(until[m], t)
            for m in range(M):
                serving[m] = members[m]
        added = 0
        count = _sum_rows(rows[i], serving, total)
        load, transmit = need(total, count, S, K, requirement)
        if not servable[i]:
            result += weight * step_s * min(count, 3) * requirement[3]
            continue
        if load > 1.0 and t >= hold:
            for m in range(M):
                others[m] = chosen[m] and ready[m] <= t
                price[m] = 1.0
            while load > 1.0:
                m = _best_repair(rows, i, serving, count, others, price, S, K, requirement, sums, trial)
                if m < 0:
                    break
                members[m] = serving[m] = True
                until[m] = max(until[m], t)
                count += 1
                _add_row(rows[i], m, 1.0, total, total)
                load, transmit = need(total, count, S, K, requirement)
        if load > 1.0 and (t > wake or t == wake > 0):
            for m in range(M):
                others[m] = not chosen[m]
                if next_use[m] >= 0:
                    price[m] = min((next_use[m] - t - 1) * circuit, fresh) + circuit
                else:
                    price[m] = fresh + circuit
            while load > 1.0 and added < 4:
                # APs in use just afterwards are cheapest.
                m, lowest = -1, np.inf
                for j in range(M):
                    if next_use[j] >= 0 and not serving[j] and price[j] < lowest:
                        _add_row(rows[i], j, 1.0, total, trial)
                        with_it, _ = need(trial, count + 1, S, K, requirement)
                        if with_it <= 1.0:
                            m, lowest = j, price[j]
                if m < 0:
                    m = _best_repair(rows, i, serving, count, others, price, S, K, requirement, sums, trial)
                if m < 0:
                    break
                serving[m] = True
                count += 1
                added += 1
                if t == wake:
                    newcomers[m] += 1.0
                else:
                    result += price[m] - circuit + weight * circuit
                    next_use[m] = t
                _add_row(rows[i], m, 1.0, total, total)
                load, transmit = need(total, count, S, K, requirement)
        if t > wake:
            if load > 1.0:  # the search for additions ended early
                result += fresh
        elif load > 1.0 or added > 0:
            result += miss * weight
        result += weight * transmit * step_s
    return result


@compiled(
    "(float64[:, :, :, ::1], boolean[:, ::1], int64[::1], float64[::1], int64[:, ::1], boolean[:, ::1], int64[::1], int64, int64, int64, "
    "int64, float64[::1], float64[::1], float64[:, ::1], float64[::1], int64[:, ::1])"
)
def set_costs(
    rows: Float, servable: Any, times: Any, weights: Float, apart: Any, sets: Any, ready: Any, hold: int, wake: int, S: int, K: int,
    requirement: Float, costs: Float, result: Float, newcomers: Float, until: Any,
) -> None:  # fmt: skip
    """Fill `result` (n, F) with the energy of n sets (n, M) in F futures (F, H, M, D): `future_cost` and their circuit energy.

    An AP of a set stays on as long as it is needed in its future or in one that is still indistinguishable: `apart` (F, F) holds the steps
    from which two futures differ. `until` (F, M) holds the last set's result of `future_cost` afterwards.
    """
    F, M = rows.shape[0], rows.shape[2]
    for i in range(sets.shape[0]):
        for f in range(F):
            result[i, f] = future_cost(
                rows[f], servable[f], times, weights, sets[i], ready, hold, wake, S, K, requirement, costs, newcomers, until[f]
            )  # fmt: skip
        for m in range(M):
            if not sets[i, m]:
                continue
            for f in range(F):
                last = 0
                for g in range(F):
                    last = max(last, min(until[g, m], apart[f, g]))
                result[i, f] += costs[0] * max(last, until[f, m])


@compiled("(float64[:, :, :, ::1], boolean[::1], int64, int64, float64[::1], boolean[:, ::1])")
def serves(rows: Float, members: Any, S: int, K: int, requirement: Float, result: Any) -> None:
    """Fill `result` (F, n) with whether a set serves each of the first n instants of each future according to `need`."""
    total = np.empty(rows.shape[3])
    for f in range(result.shape[0]):
        for i in range(result.shape[1]):
            count = _sum_rows(rows[f, i], members, total)
            load, _ = need(total, count, S, K, requirement)
            result[f, i] = load <= 1.0


@compiled("(float64[:, :, :, ::1], int64, boolean[::1], int64, int64, float64[::1], float64[::1])")
def loads_with(rows: Float, i: int, members: Any, S: int, K: int, requirement: Float, result: Float) -> None:
    """Fill `result` (M,) with the mean load over the futures at instant i when each AP is added to a set; infinite for its members."""
    F, M, D = rows.shape[0], rows.shape[2], rows.shape[3]
    total, trial = np.empty(D), np.empty(D)
    result[:] = 0.0
    for f in range(F):
        count = _sum_rows(rows[f, i], members, total)
        for m in range(M):
            if members[m]:
                result[m] = np.inf
                continue
            _add_row(rows[f, i], m, 1.0, total, trial)
            load, _ = need(trial, count + 1, S, K, requirement)
            result[m] += load / F


@compiled(
    "(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], "
    "float64[:, ::1], float64, float64[:, ::1], float64[:, :, ::1], float64, float64, int64[::1], int64, float64[:, :, :, ::1], "
    "float64[:, :, ::1], float64[:, :, :, ::1], float64[:, :, :, ::1], float64[:, :, :, ::1], float64[:, :, :, ::1], "
    "float64[:, :, :, :, ::1], float64[:, :, :, ::1])"
)
def simulate(
    ap: Float, sr: Float, ue: Float, ue_velocity: Float, target: Float, velocity: Float, turn_rate: Float, law: Float,
    residual: Float, pilot_energy: float, overlap: Float, radar: Float, scale: float, cap: float, times: Any, left: int,
    uniform: Float, normal_turn: Float, normal_shadow: Float, rows: Float, gain: Float, estimate: Float, fisher: Float,
    places: Float,
) -> None:  # fmt: skip
    """Simulate futures of users, shadowing and targets, and fill in the features of the APs.

    Args:
        ap: (M, 2) m, like the other positions.
        sr: (T, 2).
        ue: (K, 2).
        ue_velocity: (K, 2) m per step.
        target: (S, 2).
        velocity: (S, 2) m per step.
        turn_rate: (S,) rad per step.
        law: radius and least distance in m, intercept and slope of the mean log gain over log distance, standard deviation of the
            residual, decorrelation distance in m, autocorrelation of the turn rate over a step, largest lateral acceleration in m/step².
        residual: (M, K) current log gains minus their mean.
        pilot_energy: E in units of 1/σ².
        overlap: (K, K), or (0, 0) with orthogonal pilots.
        radar: (M, S, T) two-way gains times the squared distances, in m⁴.
        scale: ζ.
        cap: P_max.
        times: (H,) steps from now.
        left: steps to the end of the episode, which index the random numbers.
        uniform: (F, K, n, 3) for waypoints.
        normal_turn: (F, S, n).
        normal_shadow: (F, n, M, K).
        rows: (F, H, M, 3S + 2K), output.
        gain: (F, 3, M, K) at the first instants, output, like the next two.
        estimate: (F, 3, M, K).
        fisher: (F, 3, M, S, 3).
        places: (F, H, S, 2) target positions, output.
    """
    F, H, M, _ = rows.shape
    K, S, T = ue.shape[0], target.shape[0], sr.shape[0]
    radius, shortest, intercept, slope, std, decorrelation, memory, lateral = law
    span = normal_turn.shape[2]
    last = times[H - 1]
    way = np.empty((H, K, 2))
    walked = np.empty(H)
    for f in range(F):
        place = places[f]
        for s in range(S):
            x, y = target[s, 0], target[s, 1]
            speed = np.hypot(velocity[s, 0], velocity[s, 1])
            heading, rate = np.arctan2(velocity[s, 1], velocity[s, 0]), turn_rate[s]
            i = 0
            limit = max(lateral / speed, 2.0 * speed / radius) if speed > 1e-9 else 0.0
            tightest = speed / limit if limit > 0.0 else 0.0
            for step in range(1, last + 1):
                if speed > 1e-9:
                    noise = normal_turn[f, s, (left - step) % span]
                    rate = memory * rate + np.sqrt(1.0 - memory * memory) * 0.5 * limit * noise
                    rate = min(max(rate, -limit), limit)
                    for attempt in range(2):
                        half = 0.5 * rate
                        chord = speed * (np.sin(half) / half if abs(half) > 1e-9 else 1.0)
                        there_x, there_y = x + chord * np.cos(heading + half), y + chord * np.sin(heading + half)
                        turned = heading + rate
                        if attempt == 1:
                            break
                        across_x, across_y = -tightest * np.sin(turned), tightest * np.cos(turned)
                        left_out = np.hypot(there_x + across_x, there_y + across_y)
                        right_out = np.hypot(there_x - across_x, there_y - across_y)
                        if min(left_out, right_out) <= (radius - tightest) * (1.0 + 1e-6):
                            break
                        across_x, across_y = -tightest * np.sin(heading), tightest * np.cos(heading)
                        left_out, right_out = np.hypot(x + across_x, y + across_y), np.hypot(x - across_x, y - across_y)
                        rate = limit if left_out <= right_out else -limit
                    x, y, heading = there_x, there_y, turned
                if times[i] == step:
                    place[i, s, 0], place[i, s, 1] = x, y
                    i += 1
        for k in range(K):
            x, y = ue[k, 0], ue[k, 1]
            speed = np.hypot(ue_velocity[k, 0], ue_velocity[k, 1])
            to_x, to_y, point = x, y, 0
            if speed > 1e-9:
                # Waypoint distance of uniform density over the area ahead.
                ux, uy = ue_velocity[k, 0] / speed, ue_velocity[k, 1] / speed
                along = x * ux + y * uy
                rim = -along + np.sqrt(max(0.0, along * along + radius * radius - x * x - y * y))
                ahead = rim * np.sqrt(uniform[f, k, 0, 2])
                to_x, to_y = x + ahead * ux, y + ahead * uy
            before = 0
            for i in range(H):
                left_m = speed * (times[i] - before)
                before = times[i]
                while speed > 1e-9 and left_m > 0.0:
                    away = np.hypot(to_x - x, to_y - y)
                    if away > left_m:
                        x, y = x + (to_x - x) * left_m / away, y + (to_y - y) * left_m / away
                        break
                    x, y, left_m = to_x, to_y, left_m - away
                    out = radius * np.sqrt(uniform[f, k, point % uniform.shape[2], 0])
                    angle = 2.0 * np.pi * uniform[f, k, point % uniform.shape[2], 1]
                    to_x, to_y = out * np.cos(angle), out * np.sin(angle)
                    point += 1
                    if away == 0.0 and point > 1000:
                        break
                way[i, k, 0], way[i, k, 1] = x, y
            for i in range(H):
                step_m = speed * (times[i] - (times[i - 1] if i > 0 else 0))
                walked[i] = 1.0
                if step_m > 0.0:
                    walked[i] = np.exp(-step_m / decorrelation) if decorrelation > 0.0 else 0.0
            for m in range(M):
                shadow = residual[m, k]
                for i in range(H):
                    rho = walked[i]
                    if rho < 1.0:
                        shadow = (
                            rho * shadow
                            + np.sqrt(1.0 - rho * rho) * std * normal_shadow[f, (left - times[i]) % span, m, k]
                        )
                    dx, dy = ap[m, 0] - way[i, k, 0], ap[m, 1] - way[i, k, 1]
                    square = max(dx * dx + dy * dy, shortest * shortest)
                    rows[f, i, m, 3 * S + K + k] = np.exp(intercept + 0.5 * slope * np.log(square) + shadow)
        for i in range(H):
            for m in range(M):
                for k in range(K):
                    own = rows[f, i, m, 3 * S + K + k]
                    received = own
                    if overlap.shape[0] > 0:
                        received = 0.0
                        for j in range(K):
                            received += overlap[k, j] * rows[f, i, m, 3 * S + K + j]
                    rows[f, i, m, 3 * S + k] = own * own / (received + 1.0 / pilot_energy)
                for s in range(S):
                    x, y = place[i, s, 0], place[i, s, 1]
                    ax, ay = ap[m, 0] - x, ap[m, 1] - y
                    a_far = np.hypot(ax, ay)
                    a_unit_x, a_unit_y = (ax / a_far, ay / a_far) if a_far > 0.0 else (0.0, 0.0)
                    a_far = max(a_far, shortest)
                    qa = qb = qc = 0.0
                    for r in range(T):
                        bx, by = sr[r, 0] - x, sr[r, 1] - y
                        b_far = np.hypot(bx, by)
                        ux = a_unit_x + (bx / b_far if b_far > 0.0 else 0.0)
                        uy = a_unit_y + (by / b_far if b_far > 0.0 else 0.0)
                        b_far = max(b_far, shortest)
                        information = scale * radar[m, s, r] / (a_far * a_far * b_far * b_far)
                        qa += information * ux * ux
                        qb += information * uy * uy
                        qc += information * ux * uy
                    if i < fisher.shape[1]:
                        fisher[f, i, m, s, 0], fisher[f, i, m, s, 1], fisher[f, i, m, s, 2] = qa, qb, qc
                    rows[f, i, m, 3 * s], rows[f, i, m, 3 * s + 1], rows[f, i, m, 3 * s + 2] = (
                        cap * qa,
                        cap * qb,
                        cap * qc,
                    )
                if i < gain.shape[1]:
                    for k in range(K):
                        gain[f, i, m, k] = rows[f, i, m, 3 * S + K + k]
                        estimate[f, i, m, k] = rows[f, i, m, 3 * S + k]
