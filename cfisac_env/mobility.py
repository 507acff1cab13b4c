"""Strategies of motion and shadowing for the episodes of `CfIsacMobile-v0`.

A strategy is called once per episode for all of its instants, and is stateless: all randomness comes from the given generator. Positions
lie in the disc of the configuration, centred at (0, 0). Built-in strategies also process many episodes together (`tracks`, `fields`), each
with its own generator, with identical results.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Generators = Sequence[np.random.Generator]

MAX_SPEED_M_S = 1000.0
"""Maximum speed of the built-in motions."""

MAX_RADII = 1e5
"""Maximum path length of `RandomWaypoint` in an episode, in radii of the disc, which limits the number of waypoints."""

_PAIRS = 2**16
"""Number of correlation entries factorised together, limited to fit the caches."""


@dataclass(frozen=True, eq=False)
class Track:
    """Positions, velocities and turn rates at the instants of an episode."""

    xy: Floats  # (…, steps, N, 2) m
    velocity: Floats  # (…, steps, N, 2) m/s
    turn_rate: Floats  # (…, steps, N) rad/s, counterclockwise

    @classmethod
    def through(cls, xy: Floats, step_s: float) -> Track:
        """Build the track through given positions (…, steps, N, 2).

        Velocities are backward differences, and a forward difference at the first instant. Turn rates are changes of direction per time
        since the previous instant, and 0 at the first instant.
        """
        change = np.diff(xy, axis=-3) / step_s
        velocity = np.concatenate([change[..., :1, :, :], change], axis=-3) if change.size else np.zeros_like(xy)
        before, after = velocity[..., :-1, :, :], velocity[..., 1:, :, :]
        cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
        turn_rate = np.zeros(xy.shape[:-1])
        turn_rate[..., 1:, :] = np.arctan2(cross, (before * after).sum(-1)) / step_s
        return cls(xy, velocity, turn_rate)


class Motion(Protocol):
    """Motion of the users or targets in an episode; velocities and turn rates are derived from the positions (`Track.through`)."""

    def trajectory(
        self, rng: np.random.Generator, start_xy: Floats, radius_m: float, steps: int, step_s: float
    ) -> Floats:
        """Return the positions at the instants 0, step_s, 2 step_s and so on.

        Args:
            rng: source of randomness.
            start_xy: (N, 2) m, positions of the drop; a strategy may start elsewhere.
            radius_m: of the disc.
            steps: number of instants.
            step_s: time between instants, s.

        Returns:
            (steps, N, 2) m.
        """


class Shadowing(Protocol):
    """Shadowing of every link along the users' paths."""

    def series(self, rng: np.random.Generator, ap_xy: Floats, ue_xy: Floats, std_db: float) -> Floats:
        """Return the shadowing in dB.

        Args:
            rng: source of randomness.
            ap_xy: (M, 2) m.
            ue_xy: (steps, K, 2) m.
            std_db: standard deviation.

        Returns:
            (steps, M, K) dB.
        """


class _Batched(ABC):
    """Motion that processes many episodes together."""

    @abstractmethod
    def tracks(self, rngs: Generators, start_xy: Floats, radius_m: float, steps: int, step_s: float) -> Track:
        """Return the tracks from (n, N, 2) m, each episode with its own generator."""

    def trajectory(
        self, rng: np.random.Generator, start_xy: Floats, radius_m: float, steps: int, step_s: float
    ) -> Floats:
        """Return the positions, (steps, N, 2) m."""
        return np.asarray(self.tracks([rng], start_xy[None], radius_m, steps, step_s).xy[0])


@dataclass(frozen=True)
class RandomWaypoint(_Batched):
    """Random waypoint motion at constant speed, with waypoints uniform in the disc and without pauses."""

    speed_m_s: float = 1.5

    def __post_init__(self) -> None:
        checked_number("speed_m_s", self.speed_m_s, MAX_SPEED_M_S)

    def tracks(self, rngs: Generators, start_xy: Floats, radius_m: float, steps: int, step_s: float) -> Track:
        """Return the tracks; velocities point to the waypoints, turn rates are 0."""
        n, count = start_xy.shape[:2]
        way_m = self.speed_m_s * step_s * np.arange(steps)
        if way_m[-1] > MAX_RADII * radius_m:
            raise ValueError(
                f"RandomWaypoint would walk {way_m[-1]:g} m in an episode ({self.speed_m_s:g} m/s, {steps} instants {step_s:g} s apart), "
                f"more than {MAX_RADII:g} radii of the disc ({radius_m:g} m); give less speed or time, or a larger area_diameter_m"
            )
        drawn = [
            [self._waypoints(rng, xy, radius_m, way_m[-1]) for xy in starts.tolist()]
            for rng, starts in zip(rngs, start_xy, strict=True)
        ]
        most = max(polar.shape[1] for row in drawn for polar in row)
        corners = np.zeros((n, count, most + 1, 2))  # beyond the last waypoint of a way, which it doesn't reach
        for i, row in enumerate(drawn):
            for j, polar in enumerate(row):
                corners[i, j, 1 : polar.shape[1] + 1] = polar.T
        corners = np.stack([corners[..., 0] * np.cos(corners[..., 1]), corners[..., 0] * np.sin(corners[..., 1])], -1)
        corners[:, :, 0] = start_xy
        leg = np.diff(corners, axis=2)
        length_m = np.sqrt(leg[..., 0] ** 2 + leg[..., 1] ** 2)
        end_m = np.cumsum(length_m, axis=2)
        turn_rate = np.zeros((n, steps, count))
        if most == 0:
            xy = np.repeat(start_xy[:, None], steps, axis=1)
            return Track(xy, np.zeros_like(xy), turn_rate)
        index = (end_m[..., None] <= way_m).sum(2)  # (n, N, steps), of the leg
        leg_end = np.take_along_axis(end_m, index, 2)
        direction = np.take_along_axis(leg / np.maximum(length_m, 1e-300)[..., None], index[..., None], 2)
        xy = np.take_along_axis(corners[:, :, 1:], index[..., None], 2) - (leg_end - way_m)[..., None] * direction
        return Track(
            np.ascontiguousarray(xy.swapaxes(1, 2)),
            np.ascontiguousarray(self.speed_m_s * direction.swapaxes(1, 2)),
            turn_rate,
        )

    @staticmethod
    def _waypoints(rng: np.random.Generator, start_xy: list[float], radius_m: float, way_m: float) -> Floats:
        """Draw radius in m and angle of waypoints, (2, n), in blocks of 16, sufficient for a path of the given length."""
        drawn, left_m, (x, y) = [np.empty((2, 0))], way_m, start_xy
        enough_m = -1e-6 * way_m  # with an allowance for rounding
        while left_m > enough_m:
            drawn.append(rng.random((2, 16)))
            drawn[-1][0] = radius_m * np.sqrt(drawn[-1][0])
            drawn[-1][1] *= 2.0 * np.pi
            for radius, angle in drawn[-1].T.tolist():
                there = radius * math.cos(angle), radius * math.sin(angle)
                left_m -= math.dist((x, y), there)
                x, y = there
                if left_m <= enough_m:
                    break
        return np.concatenate(drawn, axis=1)


@dataclass(frozen=True)
class SmoothTurns(_Batched):
    """Motion at constant speed along arcs of gradually changing curvature within the disc.

    The turn rate ω is an Ornstein–Uhlenbeck process, ω ← ρω + √(1 − ρ²) σ_ω N(0, 1) with ρ = exp(−step_s/`memory_s`) and σ_ω half of the
    limit `lateral_m_s2`/v (at least 2v/R, so that the disc is wide enough). An arc is accepted only if a tightest circle from its end, to
    either side, lies within the disc; otherwise the vehicle follows the tightest circle, on which it remains within the disc.
    """

    speed_m_s: float = 15.0
    lateral_m_s2: float = 3.0  # acceleration in the tightest turn
    memory_s: float = 5.0

    def __post_init__(self) -> None:
        checked_number("speed_m_s", self.speed_m_s, MAX_SPEED_M_S)
        checked_number("lateral_m_s2", self.lateral_m_s2, 1e3, positive=True)
        checked_number("memory_s", self.memory_s, 1e6, positive=True)

    def tracks(self, rngs: Generators, start_xy: Floats, radius_m: float, steps: int, step_s: float) -> Track:
        """Return the tracks; turn rates are those of the preceding arcs."""
        n, count = start_xy.shape[:2]
        if self.speed_m_s == 0.0:
            standing = np.repeat(start_xy[:, None], steps, axis=1)
            return Track(standing, np.zeros_like(standing), np.zeros((n, steps, count)))
        limit = self.limit(radius_m)
        tightest_m = self.speed_m_s / limit
        uniform, drawn = np.empty((n, count)), np.empty((n, steps, count))
        for i, rng in enumerate(rngs):
            rng.random(out=uniform[i])
            rng.standard_normal(out=drawn[i])
        xy, heading = start_xy.reshape(-1, 2), 2.0 * np.pi * uniform.reshape(-1)
        normal = drawn.swapaxes(0, 1).reshape(steps, -1)
        lost = ~self._sides(xy, heading, tightest_m, radius_m).any(0)
        # Tangential where a start near the rim allows no other heading.
        heading[lost] = np.arctan2(xy[lost, 1], xy[lost, 0]) + np.pi / 2
        rate = 0.5 * limit * normal[0]
        places = np.empty((steps, n * count, 2))
        headings, rates = np.empty((2, steps, n * count))
        places[0], headings[0], rates[0] = xy, heading, rate
        for step in range(1, steps):
            xy, heading, rate = self.advance(xy, heading, rate, normal[step], radius_m, step_s)
            places[step], headings[step], rates[step] = xy, heading, rate
        velocity = self.speed_m_s * np.stack([np.cos(headings), np.sin(headings)], axis=-1)

        def by_episode(values: Floats) -> Floats:
            return np.ascontiguousarray(values.reshape(steps, n, count, *values.shape[2:]).swapaxes(0, 1))

        return Track(by_episode(places), by_episode(velocity), by_episode(rates))

    def advance(
        self, xy: Floats, heading: Floats, rate: Floats, normal: Floats, radius_m: float, step_s: float
    ) -> tuple[Floats, Floats, Floats]:
        """Move N vehicles by a step; return positions, headings and turn rates.

        Args:
            xy: (N, 2) m.
            heading: (N,) rad.
            rate: (N,) rad/s, of the preceding arc.
            normal: (N,) standard normal, the innovation of the turn rate.
            radius_m: of the disc.
            step_s: s.
        """
        limit = self.limit(radius_m)
        tightest_m, memory = self.speed_m_s / limit, math.exp(-step_s / self.memory_s)
        innovation = math.sqrt(1.0 - memory * memory) * 0.5 * limit * normal
        rate = np.clip(memory * rate + innovation, -limit, limit)
        there, turned = self._arc(xy, heading, rate, step_s)
        safe = self._sides(there, turned, tightest_m, radius_m).any(0)
        if not safe.all():
            here = self._sides(xy, heading, tightest_m, radius_m)
            rate = np.where(safe, rate, np.where(here[0], limit, -limit))
            there, turned = self._arc(xy, heading, rate, step_s)
        return there, turned, rate

    def limit(self, radius_m: float) -> float:
        """Return the largest turn rate in a disc of that radius, rad/s."""
        return max(self.lateral_m_s2 / self.speed_m_s, 2.0 * self.speed_m_s / radius_m)

    def _arc(self, xy: Floats, heading: Floats, rate: Floats, step_s: float) -> tuple[Floats, Floats]:
        """Compute position and heading at the end of an arc: its chord is v Δt sin(ωΔt/2)/(ωΔt/2) in the direction of θ + ωΔt/2."""
        turn = rate * step_s
        chord = self.speed_m_s * step_s * np.sinc(turn / (2.0 * np.pi))
        middle = heading + turn / 2.0
        return xy + (chord * np.array([np.cos(middle), np.sin(middle)])).T, heading + turn

    @staticmethod
    def _sides(xy: Floats, heading: Floats, tightest_m: float, radius_m: float) -> NDArray[np.bool_]:
        """Return whether the tightest circles to the left and right lie within the disc, (2, N)."""
        across = tightest_m * np.array([-np.sin(heading), np.cos(heading)])
        x, y = xy[:, 0] + np.array([[1.0], [-1.0]]) * across[0], xy[:, 1] + np.array([[1.0], [-1.0]]) * across[1]
        # With an allowance for rounding of circles along the rim.
        return np.asarray(np.sqrt(x * x + y * y) <= (radius_m - tightest_m) * (1.0 + 1e-9))


@dataclass(frozen=True)
class CorrelatedShadowing:
    """Gaussian shadowing in dB with correlation exp(−d/d_corr) between two points of a user's path at distance d (Gudmundson 1991).

    Independent across APs and users, and constant in time at each point of a path.

    Raises:
        ValueError: a distance out of range; zero gives independent values at distinct points.
    """

    decorrelation_m: float = 13.0

    def __post_init__(self) -> None:
        checked_number("decorrelation_m", self.decorrelation_m, 1e6)

    def series(self, rng: np.random.Generator, ap_xy: Floats, ue_xy: Floats, std_db: float) -> Floats:
        """Return the shadowing, (steps, M, K) dB."""
        return np.asarray(self.fields([rng], ap_xy[None], ue_xy[None], std_db)[0])

    def fields(self, rngs: Generators, ap_xy: Floats, ue_xy: Floats, std_db: float) -> Floats:
        """Return the shadowing of episodes with users at (n, steps, K, 2) m, each with its own generator, (n, steps, M, K) dB."""
        (n, steps, K), M = ue_xy.shape[:3], ap_xy.shape[1]
        values = np.empty((n * K, steps, M))
        for i, rng in enumerate(rngs):
            rng.standard_normal(out=values[i * K : (i + 1) * K])
        ways = ue_xy.swapaxes(1, 2).reshape(n * K, steps, 2)
        some = max(1, _PAIRS // steps**2)
        for first in range(0, n * K, some):
            rows = slice(first, first + some)
            values[rows] = self._along(ways[rows], values[rows])
        return std_db * np.ascontiguousarray(values.reshape(n, K, steps, M).transpose(0, 2, 3, 1))

    def _along(self, ways: Floats, independent: Floats) -> Floats:
        """Correlate independent values (n, steps, M) along paths (n, steps, 2), with equal values at revisited points."""
        apart = np.square(ways[:, :, None, 0] - ways[:, None, :, 0])
        apart += np.square(ways[:, :, None, 1] - ways[:, None, :, 1])
        steps = np.arange(apart.shape[1])
        apart[:, steps, steps] = np.inf
        again = apart.min((1, 2)) < 4e-12  # m²; paths with revisited points
        apart[:, steps, steps] = 0.0
        correlation = np.sqrt(apart, out=apart)
        if self.decorrelation_m > 0.0:
            correlation /= -self.decorrelation_m
            np.exp(correlation, out=correlation)
        once: Any = ~again if again.any() else slice(None)
        result = independent.copy()
        if self.decorrelation_m > 0.0:
            result[once] = np.linalg.cholesky(correlation[once]) @ independent[once]
        for i in np.flatnonzero(again):
            first, where = _distinct(ways[i])
            values = independent[i, : len(first)]
            if self.decorrelation_m > 0.0:
                values = np.linalg.cholesky(correlation[i][np.ix_(first, first)]) @ values
            result[i] = values[where]
        return result


def uniform_in_disc(rng: np.random.Generator, count: int, radius_m: float) -> Floats:
    """Draw points uniformly in the disc around (0, 0), (count, 2) m."""
    radius, angle = radius_m * np.sqrt(rng.random(count)), 2.0 * np.pi * rng.random(count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _distinct(xy: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the instants of the first visit to each distinct point of a path, and the index of the point at every instant.

    Points closer than a micrometre count as one, as their covariance could not be factorised.
    """
    _, first, inverse = np.unique(np.round(xy, 6), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse.reshape(-1)]


def checked_number(name: str, value: Any, high: float, positive: bool = False) -> float:
    """Validate a number in [0, high], or in (0, high] if `positive`."""
    wanted = f"a number in {'(' if positive else '['}0, {high:g}]"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    if not 0.0 <= value <= high or (positive and value == 0.0):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return float(value)
