"""Belief about moving targets: an extended Kalman filter with a nearly constant turn, updated by bistatic delays.

A delay, times the speed of light, measures the path length R_m + R_t from AP m over the target to receiver t with the variance
1/(ζ P_m |χ_mt|²), so that the information of all delays is J(P) of `physics.fisher_matrix` at the target's position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cfisac_env.mobility import checked_number

Floats = NDArray[np.float64]

STATE = 5
"""Length of a target's state: x, y in m, their velocities in m/s, and the turn rate in rad/s, counterclockwise."""

ITERATIONS = 2
"""Linearisations of the path lengths per update (iterated extended Kalman filter): at the prediction, then at its update."""


@dataclass(frozen=True, eq=False)
class Belief:
    """Normal distribution of the state of each target."""

    mean: Floats  # (S, 5)
    covariance: Floats  # (S, 5, 5)

    @property
    def information(self) -> Floats:
        """Information about the positions alone, the inverse of their covariances, (S, 3) J_a, J_b, J_c in 1/m²."""
        block = self.covariance[:, :2, :2]
        a, b, c = block[:, 0, 0], block[:, 1, 1], block[:, 0, 1]
        return np.stack([b, a, -c], axis=-1) / (a * b - c * c)[:, None]

    @property
    def variance_m2(self) -> Floats:
        """Trace of the covariance of each position, (S,) m²."""
        return np.asarray(self.covariance[:, 0, 0] + self.covariance[:, 1, 1])

    def updated(self, length_m: Floats, weight: Floats, ap_xy: Floats, sr_xy: Floats) -> Self:
        """Update by path lengths.

        With information I and gradient g of the path lengths at the position, and its prior covariance P_pp, the posterior covariance is
        P − P_·p I (1 + P_pp I)⁻¹ P_p·, and the mean moves by its position columns times g.

        Args:
            length_m: (M, S, T) measured R_m + R_t in m.
            weight: (M, S, T) their inverse variances in 1/m², zero where nothing is measured.
            ap_xy: (M, 2) m.
            sr_xy: (T, 2) m.
        """
        P, mean = self.covariance, self.mean
        columns, identity = P[:, :, :2], np.eye(2)
        for _ in range(ITERATIONS):
            length, slope = path_length(mean[:, :2], ap_xy, sr_xy)
            weighted = weight[..., None] * slope
            information = np.einsum("msti,mstj->sij", weighted, slope)
            back = (self.mean - mean)[:, :2]
            residual = length_m - length - np.einsum("msti,si->mst", slope, back)
            gain = columns @ np.linalg.inv(identity + information @ P[:, :2, :2])
            mean = self.mean + np.einsum("sij,sj->si", gain, np.einsum("msti,mst->si", weighted, residual))
        posterior = P - gain @ information @ P[:, :2]
        return type(self)(mean, (posterior + posterior.swapaxes(1, 2)) / 2.0)


def path_length(xy: Floats, ap_xy: Floats, sr_xy: Floats) -> tuple[Floats, Floats]:
    """Compute the path lengths R_m + R_t over points (S, 2) m, (M, S, T) m, and their gradients by the position, (M, S, T, 2)."""
    (ap, to_ap), (sr, to_sr) = (_distance(xy - nodes[:, None]) for nodes in (ap_xy, sr_xy))
    return ap[:, :, None] + sr.T, to_ap[:, :, None] + to_sr.swapaxes(0, 1)


def _distance(offset: Floats) -> tuple[Floats, Floats]:
    """Compute lengths and directions of offsets (…, 2), with direction zero at zero."""
    length = np.hypot(offset[..., 0], offset[..., 1])
    return length, offset / np.maximum(length, 1e-12)[..., None]


def measured(
    rng: np.random.Generator, xy: Floats, ap_xy: Floats, sr_xy: Floats, ap_power: Floats, rcs_gain: Floats, scale: float
) -> tuple[Floats, Floats]:
    """Draw path lengths (M, S, T) in m of targets at (S, 2) m, and return them with their inverse variances ζ P_m |χ_mst|² in 1/m².

    The random numbers do not depend on the powers; where an AP doesn't radiate, the length is exact and its weight zero.
    """
    weight = scale * ap_power[:, None, None] * rcs_gain
    noise = rng.standard_normal(weight.shape)
    return path_length(xy, ap_xy, sr_xy)[0] + noise / np.sqrt(np.where(weight > 0.0, weight, np.inf)), weight


@dataclass(frozen=True)
class NearlyConstantTurn:
    """Motion model of the filter: a velocity that turns at a rate ω, an Ornstein–Uhlenbeck process, with white acceleration.

    As in `SmoothTurns`, ω ← ρω + √(1 − ρ²) σ_ω N(0, 1) with ρ = exp(−step_s/`memory_s`), then the arc of rate ω during step_s. With ω
    and σ_ω zero this is the linear model of a nearly constant velocity.

    Raises:
        ValueError: a number out of range.
    """

    acceleration_m_s2: float = 0.5  # standard deviation per axis, constant during a step
    turn_rate_rad_s: float = 0.1  # σ_ω
    memory_s: float = 5.0

    def __post_init__(self) -> None:
        checked_number("acceleration_m_s2", self.acceleration_m_s2, 1e4)
        checked_number("turn_rate_rad_s", self.turn_rate_rad_s, 1e2)
        checked_number("memory_s", self.memory_s, 1e6, positive=True)

    def predict(self, belief: Belief, step_s: float) -> Belief:
        """Predict a belief by one step, linearised at its mean."""
        memory = math.exp(-step_s / self.memory_s)
        x, y, u, v, rate = belief.mean.T
        rate = memory * rate
        along, across, along_slope, across_slope = _arc(rate, step_s)
        cos, sin = np.cos(rate * step_s), np.sin(rate * step_s)
        u_after, v_after = cos * u - sin * v, sin * u + cos * v
        mean = np.stack([x + along * u - across * v, y + across * u + along * v, u_after, v_after, rate], axis=-1)
        F = np.zeros((len(mean), STATE, STATE))
        F[:, [0, 1], [0, 1]] = 1.0
        for rows, (cosine, sine) in ((0, (along, across)), (2, (cos, sin))):
            F[:, rows, 2] = F[:, rows + 1, 3] = cosine
            F[:, rows, 3], F[:, rows + 1, 2] = -sine, sine
        by_rate = np.stack(
            [
                along_slope * u - across_slope * v, across_slope * u + along_slope * v, -step_s * v_after, step_s * u_after,
                np.ones_like(rate),
            ],
            axis=-1,
        )  # fmt: skip
        F[:, :, 4] = memory * by_rate
        push = self.acceleration_m_s2 * step_s * np.array([[step_s / 2, 0], [0, step_s / 2], [1, 0], [0, 1], [0, 0]])
        turn = math.sqrt(1.0 - memory * memory) * self.turn_rate_rad_s * by_rate
        noise = push @ push.T + turn[:, :, None] * turn[:, None]
        predicted = F @ belief.covariance @ F.swapaxes(1, 2) + noise
        return Belief(mean, (predicted + predicted.swapaxes(1, 2)) / 2.0)


def _arc(rate: Floats, step_s: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Compute sin(ωΔt)/ω and (1 − cos(ωΔt))/ω, and their derivatives by ω, by series where ωΔt is small."""
    turn = rate * step_s
    small = np.abs(turn) < 1e-4
    divisor = np.where(small, 1.0, rate)
    along = np.where(small, step_s * (1.0 - turn * turn / 6.0), np.sin(turn) / divisor)
    across = np.where(small, step_s * turn / 2.0, (1.0 - np.cos(turn)) / divisor)
    along_slope = np.where(small, -(step_s**2) * turn / 3.0, (step_s * np.cos(turn) - along) / divisor)
    across_slope = np.where(small, step_s**2 / 2.0, (step_s * np.sin(turn) - across) / divisor)
    return along, across, along_slope, across_slope


def checked_covariance(value: Any) -> Floats:
    """Validate a covariance of a target's state, (5, 5).

    Raises:
        ValueError: another shape, values that aren't finite, or a matrix that isn't symmetric positive definite.
    """
    expected = f"a symmetric positive definite ({STATE}, {STATE}) matrix of x, y, their velocities and the turn rate"
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"initial_covariance must be {expected}, got {value!r}") from None
    if array.shape != (STATE, STATE) or not np.isfinite(array).all():
        raise ValueError(
            f"initial_covariance must be {expected}, got an array of shape {array.shape}: {array.tolist()}"
        )
    if not np.allclose(array, array.T, rtol=1e-9, atol=0.0):
        raise ValueError(f"initial_covariance must be {expected}, but it isn't symmetric: {array.tolist()}")
    least = float(np.linalg.eigvalsh(array).min())
    if least <= 0.0:
        raise ValueError(
            f"initial_covariance must be {expected}, but its least eigenvalue is {least:.3g}; variances must be positive"
        )
    return array
