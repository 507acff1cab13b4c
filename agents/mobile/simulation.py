"""Compiled loops of `forecast`."""

from __future__ import annotations

from typing import Any

import numpy as np

from baselines.allocation.result import Float
from cfisac_env.jit import compiled


@compiled("(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[:, ::1])")
def fit(ap: Float, ue: Float, gain: Float, law: Float, residual: Float) -> tuple[float, float, float]:
    """Fit the mean log gain as a line over the log distance; fill in the residuals (M, K).

    Returns:
        Intercept and slope, over the logarithm of the distance in m, and the standard deviation of the residuals.
    """
    M, K = gain.shape
    x_sum = y_sum = xx = xy = 0.0
    for m in range(M):
        for k in range(K):
            x = log_distance(ap[m, 0] - ue[k, 0], ap[m, 1] - ue[k, 1], law)
            y = np.log(gain[m, k])
            x_sum += x
            y_sum += y
            xx += x * x
            xy += x * y
            residual[m, k] = y
    n = M * K
    square = xx - x_sum * x_sum / n
    slope = (xy - x_sum * y_sum / n) / square if square > 1e-9 else -3.7
    slope = min(max(slope, -6.0), -1.5)  # from beyond free space to heavily obstructed
    intercept = (y_sum - slope * x_sum) / n
    variance = 0.0
    for m in range(M):
        for k in range(K):
            x = log_distance(ap[m, 0] - ue[k, 0], ap[m, 1] - ue[k, 1], law)
            residual[m, k] -= intercept + slope * x
            variance += residual[m, k] ** 2 / n
    return intercept, slope, np.sqrt(variance)


@compiled()
def log_distance(x: float, y: float, law: Float) -> float:
    """Compute the logarithm of a distance in m from an offset in radii."""
    square = law[0] * law[0] * (x * x + y * y)
    return float(0.5 * np.log(max(square, law[1] * law[1])))


@compiled()
def _drive(
    x: float,
    y: float,
    velocity: Float,
    rate: float,
    law: Float,
    turns: Any,
    s: int,
    left: int,
    times: Any,
    H: int,
    place: Any,
) -> None:
    """Fill in the positions of a target in every future, (H, 2, F) m, by the law of `SmoothTurns`."""
    F, period = place.shape[2], turns.shape[0]
    radius, memory, lateral, step_s = law[0], law[3], law[4], law[5]
    speed = np.hypot(velocity[0], velocity[1]) * radius * law[6]
    limit = max(lateral / speed, 2.0 * speed / radius) * step_s if speed > 1e-9 else 0.0
    stride = speed * step_s
    tightest = stride / limit if limit > 0.0 else 0.0
    within = ((radius - tightest) * (1.0 + 1e-6)) ** 2
    innovation = np.sqrt(1.0 - memory * memory) * 0.5 * limit
    for f in range(F):
        px, py, turn = x * radius, y * radius, rate * step_s
        norm = max(np.hypot(velocity[0], velocity[1]), 1e-12)
        ux, uy = velocity[0] / norm, velocity[1] / norm
        h = 0
        for step in range(1, times[H - 1] + 1):
            if stride > 0.0:
                turn = memory * turn + innovation * turns[(left - step) % period, s, f]
                turn = min(max(turn, -limit), limit)
                for attempt in range(2):
                    half = 0.5 * turn
                    cosine, sine = np.cos(half), np.sin(half)
                    chord = stride * (sine / half if abs(half) > 1e-9 else 1.0)
                    mx, my = ux * cosine - uy * sine, uy * cosine + ux * sine
                    qx, qy = px + chord * mx, py + chord * my
                    vx, vy = mx * cosine - my * sine, my * cosine + mx * sine
                    if attempt == 1:
                        break
                    left_out = (qx - tightest * vy) ** 2 + (qy + tightest * vx) ** 2
                    right_out = (qx + tightest * vy) ** 2 + (qy - tightest * vx) ** 2
                    if min(left_out, right_out) <= within:
                        break
                    left_out = (px - tightest * uy) ** 2 + (py + tightest * ux) ** 2
                    right_out = (px + tightest * uy) ** 2 + (py - tightest * ux) ** 2
                    turn = limit if left_out <= right_out else -limit
                px, py, ux, uy = qx, qy, vx, vy
            if times[h] == step:
                place[h, 0, f], place[h, 1, f] = px, py
                h += 1


@compiled(
    "(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1], float64[:, ::1], "
    "float64[::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1], float64[::1], float64[::1], "
    "float64[:, ::1], float32[:, :, :, ::1], float32[:, :, ::1], int64[::1], int64, float64, float32[:, :, :, ::1])"
)
def simulate(
    ap: Float, ue: Float, sr: Float, target: Float, radar: Float, walk: Float, drive: Float, turn_rate: Float, gain: Float,
    estimate: Float, fisher: Float, overlap: Float, law: Float, line: Float, residual: Float, factors: Any, turns: Any, times: Any,
    left: int, cap: float, rows: Any,
) -> None:  # fmt: skip
    """Fill in the rows (H, M, D, F) of the futures.

    Args:
        ap: (M, 2 or more) positions in radii, like those of users, receivers and targets.
        ue: (K, …).
        sr: (T, …).
        target: (S, …).
        radar: (M, S, T) decimal logarithm of the two-way gains.
        walk: (K, 2) velocities in radii per second.
        drive: (S, 2).
        turn_rate: (S,) rad/s.
        gain: (M, K).
        estimate: (M, K).
        fisher: (M, S, 3).
        overlap: (K, K) of the pilots, or (0, 0) with orthogonal ones.
        law: (7,) radius and least distance in m, decorrelation distance in m, autocorrelation of the turn rate over a step, lateral
            acceleration in m/s², step in s, factor of the speeds.
        line: (2,) intercept and slope of the mean log gain.
        residual: (M, K).
        factors: (H, M, K, F) of the gains, by shadowing.
        turns: (n, S, F) normal numbers.
        times: (H,) steps from now.
        left: steps to the end of the episode, which index the random numbers.
        cap: P_max.
        rows: output.
    """
    H, M, _, F = rows.shape
    K, S, T = len(ue), len(target), len(sr)
    radius, shortest, step_s = law[0], law[1], law[5]
    # Pilot energy E from v = Eς²/(E Σ_k' G_kk' ς_k' + 1), at the link with the least cancellation.
    rest, clearest = 0.0, -1.0
    for m in range(M):
        for k in range(K):
            received = gain[m, k]
            if overlap.shape[0] > 0:
                received = 0.0
                for j in range(K):
                    received += overlap[k, j] * gain[m, j]
            lost = gain[m, k] * gain[m, k] / estimate[m, k] - received
            if lost / received > clearest:
                clearest, rest = lost / received, max(lost, 1e-30)
    tiny = np.float32(1e-6)
    place, to_sr = np.empty((H, 2, F), np.float32), np.empty((T, 3, F), np.float32)
    for s in range(S):
        _drive(target[s, 0], target[s, 1], drive[s], turn_rate[s], law, turns, s, left, times, H, place)
        strength = np.empty((M, T))
        found, trace = 0.0, 0.0
        for m in range(M):
            ax, ay = radius * (ap[m, 0] - target[s, 0]), radius * (ap[m, 1] - target[s, 1])
            a_far = max(np.hypot(ax, ay), 1e-9)
            for r in range(T):
                bx, by = radius * (sr[r, 0] - target[s, 0]), radius * (sr[r, 1] - target[s, 1])
                b_far = max(np.hypot(bx, by), 1e-9)
                received = 10.0 ** radar[m, s, r]
                ux, uy = ax / a_far + bx / b_far, ay / a_far + by / b_far
                trace += received * (ux * ux + uy * uy)
                strength[m, r] = received * (max(a_far, shortest) * max(b_far, shortest)) ** 2
            found += fisher[m, s, 0] + fisher[m, s, 1]
        scale = cap * found / max(trace, 1e-300)
        for h in range(H):
            for r in range(T):
                for f in range(F):
                    bx = np.float32(radius * sr[r, 0]) - place[h, 0, f]
                    by = np.float32(radius * sr[r, 1]) - place[h, 1, f]
                    far = np.sqrt(bx * bx + by * by) + tiny
                    to_sr[r, 0, f], to_sr[r, 1, f] = bx / far, by / far
                    far = far if far > np.float32(shortest) else np.float32(shortest)
                    to_sr[r, 2, f] = np.float32(1.0) / (far * far)
            for m in range(M):
                own = rows[h, m]
                for f in range(F):
                    own[3 * s, f] = own[3 * s + 1, f] = own[3 * s + 2, f] = np.float32(0.0)
                x, y = np.float32(radius * ap[m, 0]), np.float32(radius * ap[m, 1])
                for r in range(T):
                    factor = np.float32(scale * strength[m, r])
                    for f in range(F):
                        ax, ay = x - place[h, 0, f], y - place[h, 1, f]
                        far = np.sqrt(ax * ax + ay * ay) + tiny
                        ux, uy = ax / far + to_sr[r, 0, f], ay / far + to_sr[r, 1, f]
                        far = far if far > np.float32(shortest) else np.float32(shortest)
                        information = factor * to_sr[r, 2, f] / (far * far)
                        own[3 * s, f] += information * ux * ux
                        own[3 * s + 1, f] += information * uy * uy
                        own[3 * s + 2, f] += information * ux * uy
    loss = np.float32(rest)
    for k in range(K):
        speed = np.hypot(walk[k, 0], walk[k, 1]) * law[6]
        for h in range(H):
            # Straight on, as far as the rim.
            seconds = times[h] * step_s
            x, y = ue[k, 0] + walk[k, 0] * law[6] * seconds, ue[k, 1] + walk[k, 1] * law[6] * seconds
            out = np.hypot(x, y)
            if out > 1.0:
                x, y = x / out, y / out
            walked = speed * radius * seconds
            memory = 1.0
            if walked > 0.0:
                memory = np.exp(-walked / law[2]) if law[2] > 0.0 else 0.0
            for m in range(M):
                mean = line[0] + line[1] * log_distance(ap[m, 0] - x, ap[m, 1] - y, law) + memory * residual[m, k]
                expected = np.float32(np.exp(mean))
                own = rows[h, m]
                for f in range(F):
                    own[3 * S + K + k, f] = expected * factors[h, m, k, f]
    for h in range(H):
        for m in range(M):
            own = rows[h, m]
            for k in range(K):
                if overlap.shape[0] == 0:
                    for f in range(F):
                        gained = own[3 * S + K + k, f]
                        own[3 * S + k, f] = gained * gained / (gained + loss)
                    continue
                for f in range(F):
                    received = np.float32(0.0)
                    for j in range(K):
                        received += np.float32(overlap[k, j]) * own[3 * S + K + j, f]
                    own[3 * S + k, f] = own[3 * S + K + k, f] ** 2 / (received + loss)
