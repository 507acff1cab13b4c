"""Power allocation for fixed sets of APs by multiplicative updates in closed form: near-optimal in microseconds, without a certificate.

The optimum of the fixed-set problem (docs/model.md) has the form p_mk = c_k v_mk/w_m². Given the power P_m of every AP and a price λ_k of
every SINR and ζ_s of every CRLB, user k gets the share c_k v_mk/Σ_j c_j v_mj of AP m's power, with c_k = (λ_k s_k)² and
s_k = Σ_m √(p_mk v_mk); the marginal signal value of that power is w_m = √(Σ_k c_k v_mk/P_m); and stationarity requires, for every AP
below its cap,

    w_m + Σ_s ζ_s ⟨J_s⁻², Q_ms⟩ = 1 + γ Σ_k λ_k ς_mk.

Every step multiplies P_m by the square root of the ratio of both sides, λ_k by that of γ (I_k + σ²)/s_k² and ζ_s by that of CRLB_s/ν.
The result is balanced, scaled until the requirements hold, and verified; `interior_point` is the exact alternative.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation.certificate import ORTHOGONAL_ONLY, pilots_shared
from baselines.allocation.result import Float
from baselines.allocation.triangular import copy
from cfisac_env.jit import compiled
from cfisac_env.types import Problem

CHECKPOINTS = np.array([16, 32, 56, 84, 120])
"""Step counts after which the powers are balanced and verified; the cheapest feasible ones are returned."""

CONVERGED = 0.01
"""Relative improvement between checkpoints below which the iteration ends."""

TARGET_MARGIN = 1e-4
"""Relative margin to the requirements that the steps aim for."""

ACCEPTED_MARGIN = 4e-5
"""Relative margin that the returned powers must have, so that the float32 action still meets the requirements."""

FINISHING_STEPS = 8
"""Final steps that balance the shares; the second half also scales all powers."""

INITIAL_LEVEL, LEAST_LEVEL = 0.3, 1e-12
"""Initial and least AP power, relative to the cap."""

LEAST_SLOPE = 0.02
"""Least −d log CRLB/d log P that the scaling of all powers assumes; below, prior information prevails."""

MAX_CRLB, MAX_RATIO = 1e8, 55.0
"""Value at which CRLB/ν saturates, and largest ratio of a single update."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Start:
    """Starting points of the iteration for n sets."""

    level: Float  # (n, M) AP powers over P_max
    user: Float  # (n, K) λ_k Σ_m v_mk over the active APs
    target: Float  # (n, S) ζ_s/Σ_m P_m


_DEFAULT = Start(*[np.empty((0, 0))] * 3)


@dataclass(frozen=True, eq=False)
class ScaledDrops:
    """B drops of one size, scaled so that caps, noise and CRLB threshold are 1."""

    gain: Float  # (B, M, K) ς P_max/σ²
    estimate: Float  # (B, M, K) v P_max/σ²
    fisher: Float  # (B, M, S, 3) q P_max ν
    prior: Float  # (B, S, 3) J0 ν, zero without prior information
    sinr_threshold: Float  # (B,) linear
    max_ap_power_w: Float  # (B,)
    circuit_power: Float  # (B,) P_cir/P_max

    @classmethod
    def of(cls, *problems: Problem) -> ScaledDrops:
        """Scale and concatenate problems, each a single drop or a batch along one axis; requirements may differ between them.

        Raises:
            ValueError: users share pilots.
        """
        parts = [cls._scaled(problem) for problem in problems]
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    @classmethod
    def _scaled(cls, problem: Problem) -> ScaledDrops:
        if pilots_shared(problem):
            raise ValueError(f"users of this problem share pilots, and closed-form powers {ORTHOGONAL_ONLY}")
        M, K, S, cap = problem.M, problem.K, problem.S, float(problem.max_ap_power_w)
        watt = cap / float(problem.noise_w)
        prior = np.zeros((S, 3)) if problem.prior is None else np.asarray(problem.prior, dtype=np.float64)
        gain = np.multiply(problem.gain, watt, dtype=np.float64, order="C").reshape(-1, M, K)
        ones = np.ones(len(gain))
        return cls(
            gain=gain,
            estimate=np.multiply(problem.estimate_gain, watt, dtype=np.float64, order="C").reshape(-1, M, K),
            fisher=np.multiply(problem.fisher, cap * problem.crlb_threshold_m2, dtype=np.float64, order="C").reshape(
                -1, M, S, 3
            ),
            prior=np.broadcast_to(problem.crlb_threshold_m2 * prior.reshape(-1, S, 3), (len(gain), S, 3)).copy(),
            sinr_threshold=problem.sinr_threshold * ones,
            max_ap_power_w=cap * ones,
            circuit_power=problem.circuit_power_w / cap * ones,
        )

    def __getitem__(self, rows: Any) -> ScaledDrops:
        """Select drops by row."""
        return ScaledDrops(**{f.name: np.ascontiguousarray(getattr(self, f.name)[rows]) for f in fields(self)})

    def transmit_power(self, sets: Bools, drop: NDArray[np.int64] | None = None) -> Float:
        """Compute the transmit power of sets in units of P_max, (n,); infinite where a requirement is missed.

        Args:
            sets: (n, M) active APs.
            drop: (n,) index of the drop of each set; None for the first.
        """
        return self._solve(sets, drop, np.empty((0, 0, 0)), _DEFAULT)

    def power(
        self, sets: Bools, drop: NDArray[np.int64] | None = None, start: Start | None = None
    ) -> tuple[Float, Float]:
        """Compute powers (n, M, K) in watts, zero where a requirement is missed, and `transmit_power`.

        Args:
            sets: (n, M) active APs.
            drop: (n,) index of the drop of each set; None for the first.
            start: starting points; by default equal ones.
        """
        out = np.zeros((*sets.shape, self.gain.shape[-1]))
        transmit = self._solve(sets, drop, out, start or _DEFAULT)
        out *= self.max_ap_power_w[0] if drop is None else self.max_ap_power_w[drop, None, None]
        return out, transmit

    def _solve(self, sets: Bools, drop: NDArray[np.int64] | None, out: Float, start: Start) -> Float:
        transmit = np.empty(len(sets))
        drop = np.zeros(len(sets), np.int64) if drop is None else np.ascontiguousarray(drop)
        _solve_all(
            np.ascontiguousarray(sets), drop, self.gain, self.estimate, self.fisher, self.prior, self.sinr_threshold,
            CHECKPOINTS, start.level, start.user, start.target, transmit, out,
        )  # fmt: skip
        return transmit


@compiled(
    "(boolean[:, ::1], int64[::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, :, :, ::1], float64[:, :, ::1], float64[::1], "
    "int64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[:, :, ::1])"
)
def _solve_all(
    sets: Bools, drop: NDArray[np.int64], gain: Float, estimate: Float, fisher: Float, prior: Float, threshold: Float,
    checkpoints: NDArray[np.int64], first_level: Float, first_user: Float, first_target: Float, transmit: Float, out: Float,
) -> None:  # fmt: skip
    """Fill `transmit` (n,) and, unless it is empty, `out` (n, M, K) with powers in units of P_max."""
    M, K, S = gain.shape[1], gain.shape[2], fisher.shape[2]
    on = np.empty(M, np.int64)
    g, v, q = np.empty((M, K)), np.empty((M, K)), np.empty((M, 3 * S))
    level, total, share = np.empty(M), np.empty(M), np.empty((M, K))
    user, target = np.empty((5, K)), np.empty((7, S))
    for i in range(len(sets)):
        n, b = 0, drop[i]
        gamma = threshold[b]
        for m in range(M):
            if sets[i, m]:
                on[n] = m
                for k in range(K):
                    g[n, k], v[n, k] = gain[b, m, k], estimate[b, m, k]
                for s in range(S):
                    for j in range(3):
                        q[n, 3 * s + j] = fisher[b, m, s, j]
                n += 1
        transmit[i] = np.inf
        if n == 0 or not _passes_screen(g[:n], v[:n], q[:n], prior[b], gamma, target):
            continue
        level[:n], user[3], target[1] = INITIAL_LEVEL, 1.0, 1.0
        if len(first_level) > 0:
            for a in range(n):
                level[a] = first_level[i, on[a]]
            user[3], target[1] = first_user[i], first_target[i]
        served = _solve_one(
            g[:n], v[:n], q[:n], prior[b], gamma, checkpoints, level[:n], total[:n], share[:n], user, target
        )
        if served:
            transmit[i] = level[:n].sum()
            if len(out) > 0:
                for a in range(n):
                    for k in range(K):
                        out[i, on[a], k] = share[a, k] * level[a]


@compiled()
def _passes_screen(g: Float, v: Float, q: Float, prior: Float, gamma: float, target: Float) -> bool:
    """Return whether full power meets the CRLBs and the number of APs allows the SINRs (`bounds.fewest_active`)."""
    n, K = g.shape
    level = np.ones(n)
    _fill_crlb(level, q, prior, target)
    for s in range(target.shape[1]):
        if target[0, s] > 1.0:
            return False
    needed = 0.0
    for k in range(K):
        best, most = 0.0, 0.0
        for a in range(n):
            best = max(best, v[a, k] / g[a, k])
            most += g[a, k]
        needed += gamma / best * (1.0 + 1.0 / most)
    return bool(needed * (1.0 - 1e-12) <= n)


@compiled()
def _fill_crlb(level: Float, q: Float, prior: Float, target: Float) -> None:
    """Fill CRLB_s/ν, J_s⁻² (entries 2 to 4, the last doubled) and −d log CRLB_s/d log P (entry 6) for AP powers."""
    for s in range(target.shape[1]):
        a, b, c = prior[s, 0], prior[s, 1], prior[s, 2]
        for m in range(level.shape[0]):
            a += level[m] * q[m, 3 * s]
            b += level[m] * q[m, 3 * s + 1]
            c += level[m] * q[m, 3 * s + 2]
        trace = max(a + b, 1.0 / MAX_CRLB)
        a, b, c = a / trace, b / trace, c / trace
        crlb = min(1.0 / (trace * max(a * b - c * c, 1e-9 * a * b + 1.0 / MAX_CRLB)), MAX_CRLB)
        x, y, z = b * crlb, a * crlb, -c * crlb
        target[0, s] = crlb
        target[2, s], target[3, s], target[4, s] = x * x + z * z, y * y + z * z, 2.0 * z * (x + y)
        known = target[2, s] * prior[s, 0] + target[3, s] * prior[s, 1] + target[4, s] * prior[s, 2]
        target[6, s] = min(max(1.0 - known / crlb, LEAST_SLOPE), 1.0)


@compiled()
def _solve_one(
    g: Float, v: Float, q: Float, prior: Float, gamma: float, checkpoints: NDArray[np.int64], level: Float, total: Float, share: Float,
    user: Float, target: Float,
) -> bool:  # fmt: skip
    """Fill AP powers `level` (n,) and shares (n, K) for one set; return whether they meet the requirements.

    Before, `level`, `user[3]` and `target[1]` hold starting points as in `Start`. Rows of `user`: s_k, I_k, c_k, λ_k and γ (I_k + 1)/s_k².
    Rows of `target`: CRLB_s/ν, ζ_s, the three entries of J_s⁻², the price applied in the current step, and −d log CRLB_s/d log P.
    """
    n, K = v.shape
    S = target.shape[1]
    running, finished, weight, signal = level.copy(), np.empty(n), np.empty(K), np.empty(K)
    for k in range(K):
        reach, received = 0.0, 0.0
        for m in range(n):
            reach += v[m, k]
            received += v[m, k] * level[m]
        user[0, k], user[4, k] = np.sqrt(received), 1.0
        user[3, k] /= reach
    for s in range(S):
        target[1, s] *= level.sum()
    done, best = 0, np.inf
    for stop in checkpoints:
        for _ in range(done, stop):
            _step(g, v, q, prior, gamma, running, total, user, target)
        done = stop
        copy(running, finished)
        copy(user[0], signal)
        for k in range(K):
            weight[k] = (user[3, k] * user[0, k]) ** 2
        if _finish(g, v, q, prior, gamma, finished, total, weight, user, target):
            here, before = finished.sum(), best
            if here < best:
                best = here
                copy(finished, level)
                for m in range(n):
                    for k in range(K):
                        share[m, k] = weight[k] * v[m, k] / total[m]
            if here > (1.0 - CONVERGED) * before:
                break
        copy(signal, user[0])
    return bool(best < np.inf)


@compiled()
def _step(
    g: Float, v: Float, q: Float, prior: Float, gamma: float, level: Float, total: Float, user: Float, target: Float
) -> None:
    """Update AP powers and prices once; a violated constraint's update is applied twice within the step to damp oscillation."""
    n, K = v.shape
    S = target.shape[1]
    for k in range(K):
        paid = user[3, k] * np.sqrt(user[4, k])
        user[2, k] = (paid * user[0, k]) ** 2
        user[4, k] = paid
    _fill_sinr(g, v, level, total, user[2], user)
    _fill_crlb(level, q, prior, target)
    for s in range(S):
        miss = np.sqrt(min(max(target[0, s] * (1.0 + TARGET_MARGIN), 1.0 / MAX_RATIO), MAX_RATIO))
        target[5, s] = target[1, s] * miss
        target[1, s] *= miss
    for m in range(n):
        worth, cost = np.sqrt(total[m] / level[m]), 0.0
        for s in range(S):
            value = target[2, s] * q[m, 3 * s] + target[3, s] * q[m, 3 * s + 1] + target[4, s] * q[m, 3 * s + 2]
            worth += target[5, s] * max(value, 0.0)
        for k in range(K):
            cost += g[m, k] * user[4, k]
        ratio = np.sqrt(worth / (1.0 + gamma * cost))
        level[m] = max(min(level[m] * min(max(ratio, 1.0 / np.e), np.e), 1.0), LEAST_LEVEL)
    for k in range(K):
        need = gamma * (1.0 + TARGET_MARGIN) * (1.0 + user[1, k]) / user[0, k] ** 2
        user[4, k] = min(max(need, 1.0 / MAX_RATIO), MAX_RATIO)
        user[3, k] *= np.sqrt(user[4, k])


@compiled()
def _fill_sinr(g: Float, v: Float, level: Float, total: Float, weight: Float, user: Float) -> None:
    """Fill `total` Σ_k c_k v_mk (n,), signals s_k and interference I_k for AP powers and weights c_k."""
    n, K = v.shape
    for k in range(K):
        user[0, k], user[1, k] = 0.0, 0.0
    for m in range(n):
        here = 0.0
        for k in range(K):
            here += weight[k] * v[m, k]
        total[m] = here
        root = np.sqrt(level[m] / here)
        for k in range(K):
            user[0, k] += v[m, k] * root
            user[1, k] += g[m, k] * level[m]
    for k in range(K):
        user[0, k] *= np.sqrt(weight[k])


@compiled()
def _finish(
    g: Float, v: Float, q: Float, prior: Float, gamma: float, level: Float, total: Float, weight: Float, user: Float, target: Float
) -> bool:  # fmt: skip
    """Balance the shares, scale the powers, and verify the requirements."""
    n, K = v.shape
    for step in range(FINISHING_STEPS + 1):
        _fill_sinr(g, v, level, total, weight, user)
        if step == FINISHING_STEPS:
            break
        scaling = step >= FINISHING_STEPS // 2
        factor, possible = 0.0, True
        for k in range(K):
            need, square = gamma * (1.0 + TARGET_MARGIN), user[0, k] ** 2
            weight[k] *= (1.0 + user[1, k]) / square
            room = square - need * user[1, k]
            possible = possible and room > 0.0
            if room > 0.0:
                factor = max(factor, need / room)
        if scaling:
            if not possible:
                factor = 0.0
            _fill_crlb(level, q, prior, target)
            for s in range(target.shape[1]):
                factor = max(factor, (target[0, s] * (1.0 + TARGET_MARGIN)) ** (1.0 / target[6, s]))
            factor = min(max(factor, 1.0 / MAX_RATIO), MAX_RATIO)
            for m in range(n):
                level[m] = min(level[m] * factor, 1.0)
    for k in range(K):
        if not user[0, k] ** 2 >= gamma * (1.0 + ACCEPTED_MARGIN) * (1.0 + user[1, k]):
            return False
    _fill_crlb(level, q, prior, target)
    return bool(target[0].max() <= 1.0 - ACCEPTED_MARGIN)
