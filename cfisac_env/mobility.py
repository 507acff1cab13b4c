"""How users and targets move, and how shadowing follows them: strategies for the episodes of `CfIsacMobile-v0`.

A strategy is asked once an episode, for all of its instants, and keeps no state: whatever is random comes from the generator it is given.
Everything moves in the disc of the configuration, centred at (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cfisac_env.config import SystemConfig

Floats = NDArray[np.float64]

MAX_SPEED_M_S = 1000.0
"""Fastest that the built-in motions go."""


class Motion(Protocol):
    """Moves the users, or the targets, through an episode."""

    def trajectory(
        self, rng: np.random.Generator, start_xy: Floats, radius_m: float, steps: int, step_s: float
    ) -> Floats:
        """Positions at the instants 0, step_s, 2 step_s and so on.

        Args:
            rng: the only source of randomness.
            start_xy: (N, 2) m, where the drop has them; a strategy may begin elsewhere.
            radius_m: of the disc.
            steps: number of instants.
            step_s: time from one to the next, s.

        Returns:
            (steps, N, 2) m.
        """


class Shadowing(Protocol):
    """Gives every link its shadowing along the users' ways."""

    def series(self, rng: np.random.Generator, ap_xy: Floats, ue_xy: Floats, std_db: float) -> Floats:
        """Shadowing in dB.

        Args:
            rng: the only source of randomness.
            ap_xy: (M, 2) m.
            ue_xy: (steps, K, 2) m.
            std_db: standard deviation.

        Returns:
            (steps, M, K) dB.
        """


@dataclass(frozen=True)
class RandomWaypoint:
    """Walks straight to a point drawn uniformly in the disc, then to the next, at constant speed (random waypoint, no pauses).

    Raises:
        ValueError: a speed out of range.
    """

    speed_m_s: float = 1.5

    def __post_init__(self) -> None:
        checked_number("speed_m_s", self.speed_m_s, MAX_SPEED_M_S)

    def trajectory(
        self, rng: np.random.Generator, start_xy: Floats, radius_m: float, steps: int, step_s: float
    ) -> Floats:
        """Positions, (steps, N, 2) m."""
        way_m = self.speed_m_s * step_s * np.arange(steps)
        result = np.empty((steps, len(start_xy), 2))
        for i, start in enumerate(start_xy):
            corners, length_m = start[None], np.zeros(1)
            while length_m[-1] < way_m[-1]:
                corners = np.concatenate([corners, uniform_in_disc(rng, 16, radius_m)])
                length_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
            for axis in range(2):
                result[:, i, axis] = np.interp(way_m, length_m, corners[:, axis])
        return result


@dataclass(frozen=True)
class SmoothTurns:
    """Drives at constant speed along arcs whose curvature changes gradually, and never leaves the disc.

    The turn rate ω is an Ornstein–Uhlenbeck process, ω ← ρω + √(1 − ρ²) σ_ω N(0, 1) with ρ = exp(−step_s/`memory_s`) and σ_ω half of the
    limit `lateral_m_s2`/v (less than 2v/R is never the limit, so that every disc can be driven in). Before each arc it is checked that
    the vehicle could go on from its end in the tightest circle, to one side at least, without leaving the disc; if not, it takes that
    circle instead, on which it stays inside for ever.

    Raises:
        ValueError: a number out of range.
    """

    speed_m_s: float = 15.0
    lateral_m_s2: float = 3.0  # acceleration in the tightest turn
    memory_s: float = 5.0

    def __post_init__(self) -> None:
        checked_number("speed_m_s", self.speed_m_s, MAX_SPEED_M_S)
        checked_number("lateral_m_s2", self.lateral_m_s2, 1e3, positive=True)
        checked_number("memory_s", self.memory_s, 1e6, positive=True)

    def trajectory(
        self, rng: np.random.Generator, start_xy: Floats, radius_m: float, steps: int, step_s: float
    ) -> Floats:
        """Positions, (steps, N, 2) m."""
        count = len(start_xy)
        if self.speed_m_s == 0.0:
            return np.repeat(start_xy[None], steps, axis=0)
        limit = max(self.lateral_m_s2 / self.speed_m_s, 2.0 * self.speed_m_s / radius_m)
        tightest_m = self.speed_m_s / limit
        memory = math.exp(-step_s / self.memory_s)
        xy = start_xy.copy()
        heading = 2.0 * np.pi * rng.random(count)
        lost = ~self._sides(xy, heading, tightest_m, radius_m).any(0)
        # Along the rim, where a start near it leaves no other way.
        heading[lost] = np.arctan2(xy[lost, 1], xy[lost, 0]) + np.pi / 2
        rate = 0.5 * limit * rng.standard_normal(count)
        result = np.empty((steps, count, 2))
        result[0] = xy
        for step in range(1, steps):
            innovation = math.sqrt(1.0 - memory * memory) * 0.5 * limit * rng.standard_normal(count)
            rate = np.clip(memory * rate + innovation, -limit, limit)
            here = self._sides(xy, heading, tightest_m, radius_m)
            there, turned = self._arc(xy, heading, rate, step_s)
            safe = self._sides(there, turned, tightest_m, radius_m).any(0)
            rate = np.where(safe, rate, np.where(here[0], limit, -limit))
            xy, heading = self._arc(xy, heading, rate, step_s)
            result[step] = xy
        return result

    def _arc(self, xy: Floats, heading: Floats, rate: Floats, step_s: float) -> tuple[Floats, Floats]:
        """Where an arc of turn rate ω ends: its chord is v Δt sin(ωΔt/2)/(ωΔt/2) in the direction of θ + ωΔt/2."""
        turn = rate * step_s
        chord = self.speed_m_s * step_s * np.sinc(turn / (2.0 * np.pi))
        middle = heading + turn / 2.0
        return xy + (chord * np.array([np.cos(middle), np.sin(middle)])).T, heading + turn

    @staticmethod
    def _sides(xy: Floats, heading: Floats, tightest_m: float, radius_m: float) -> NDArray[np.bool_]:
        """Whether the tightest circle to the left, and to the right, lies within the disc: (2, N)."""
        left = tightest_m * np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        centres = np.stack([xy + left, xy - left])
        # The allowance keeps rounding from declaring a circle along the rim to be outside.
        return np.asarray(np.linalg.norm(centres, axis=-1) <= (radius_m - tightest_m) * (1.0 + 1e-9))


@dataclass(frozen=True)
class CorrelatedShadowing:
    """Gaussian in dB, with the correlation exp(−d/d_corr) between any two points of a user's way that are d apart (Gudmundson 1991).

    Independent from AP to AP and from user to user. Where a user returns to, it finds the shadowing that it left.

    Raises:
        ValueError: a distance out of range; zero is allowed and means independent values wherever the user has moved.
    """

    decorrelation_m: float = 13.0

    def __post_init__(self) -> None:
        checked_number("decorrelation_m", self.decorrelation_m, 1e6)

    def series(self, rng: np.random.Generator, ap_xy: Floats, ue_xy: Floats, std_db: float) -> Floats:
        """Shadowing, (steps, M, K) dB."""
        steps, K = ue_xy.shape[:2]
        result = np.empty((steps, len(ap_xy), K))
        for k in range(K):
            independent = rng.standard_normal((steps, len(ap_xy)))
            points, where = _distinct(ue_xy[:, k])
            apart = np.linalg.norm(points[:, None] - points, axis=-1)
            if self.decorrelation_m > 0.0:
                factor = np.linalg.cholesky(np.exp(-apart / self.decorrelation_m))
                result[:, :, k] = (factor @ independent[: len(points)])[where]
            else:
                result[:, :, k] = independent[where]
        return std_db * result


def uniform_in_disc(rng: np.random.Generator, count: int, radius_m: float) -> Floats:
    """(count, 2) m, uniform in the disc around (0, 0)."""
    radius, angle = radius_m * np.sqrt(rng.random(count)), 2.0 * np.pi * rng.random(count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def moved(
    motion: Motion,
    who: str,
    rng: np.random.Generator,
    start_xy: Floats,
    config: SystemConfig,
    steps: int,
    step_s: float,
) -> Floats:
    """What a motion says, checked.

    Args:
        motion: the strategy.
        who: `users` or `targets`, for messages.
        rng: passed on.
        start_xy: (N, 2) m.
        config: gives the disc.
        steps: number of instants.
        step_s: s.

    Raises:
        TypeError: the strategy has no `trajectory`.
        ValueError: it returns another shape than (steps, N, 2), or a value that isn't finite.
    """
    call = _method(motion, "trajectory", f"the motion of the {who}", "RandomWaypoint or SmoothTurns")
    said = call(rng, start_xy.copy(), config.area_diameter_m / 2, steps, step_s)
    return _checked(said, f"{type(motion).__name__}.trajectory for the {who}", (steps, len(start_xy), 2), "m")


def shadowed(
    shadowing: Shadowing, rng: np.random.Generator, ap_xy: Floats, ue_xy: Floats, config: SystemConfig
) -> Floats:
    """What a shadowing strategy says, checked: (steps, M, K) dB.

    Raises:
        TypeError: the strategy has no `series`.
        ValueError: it returns another shape, or a value that isn't finite.
    """
    call = _method(shadowing, "series", "shadowing", "CorrelatedShadowing")
    said = call(rng, ap_xy.copy(), ue_xy.copy(), config.shadowing_std_db)
    return _checked(said, f"{type(shadowing).__name__}.series", (len(ue_xy), config.M, config.K), "dB")


def _method(strategy: Any, name: str, what: str, example: str) -> Any:
    call = getattr(strategy, name, None)
    if not callable(call) or isinstance(strategy, type):
        raise TypeError(
            f"{what} must be an object with a method {name}() such as {example}(), got {strategy!r}; "
            "see cfisac_env.mobility"
        )
    return call


def _checked(said: Any, name: str, shape: tuple[int, ...], unit: str) -> Floats:
    try:
        array = np.array(said, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must return numbers of shape {shape} in {unit}, got {said!r}") from None
    if array.shape != shape:
        raise ValueError(f"{name} must return shape {shape} in {unit}, got {array.shape}")
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} returned {int((~np.isfinite(array)).sum())} values that aren't finite, the first at index {first}"
        )
    return array


def _distinct(xy: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The distinct points of a way in the order of their first visit, and for every instant the index of its point.

    Points closer than a micrometre are the same one, as a covariance of both could not be factorised.
    """
    _, first, inverse = np.unique(np.round(xy, 6), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return xy[first[order]], np.argsort(order)[inverse.reshape(-1)]


def checked_number(name: str, value: Any, high: float, positive: bool = False) -> float:
    """`value` as a number in [0, high], or in (0, high]; else a ValueError that names both."""
    wanted = f"a number in {'(' if positive else '['}0, {high:g}]"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    if not 0.0 <= value <= high or (positive and value == 0.0):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return float(value)
