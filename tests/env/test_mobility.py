"""Motions and shadowing against what their definitions say, in closed form and by statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cfisac_env import SystemConfig
from cfisac_env.mobility import (
    CorrelatedShadowing,
    RandomWaypoint,
    SmoothTurns,
    uniform_in_disc,
)
from cfisac_env.strategies import moved, shadowed

Floats = NDArray[np.float64]
CONFIG = SystemConfig(M=3, K=2)


def lengths(xy: Floats) -> Floats:
    """Distances between consecutive instants, (steps - 1, N)."""
    return np.asarray(np.linalg.norm(np.diff(xy, axis=0), axis=-1))


def spread(radius_m: float, count: int, seed: int = 0) -> Floats:
    return uniform_in_disc(np.random.default_rng(seed), count, radius_m)


def straight_ways(steps: int, K: int, step_m: float) -> Floats:
    """Users walking east on lanes a kilometre apart."""
    xy = np.zeros((steps, K, 2))
    xy[:, :, 0] = step_m * np.arange(steps)[:, None]
    xy[:, :, 1] = 1000.0 * np.arange(K)
    return xy


def test_points_are_uniform_in_the_disc() -> None:
    xy = spread(3.0, 40_000)
    # Uniform: the square of the radius is uniform, and so is the angle.
    share = (np.linalg.norm(xy, axis=1) / 3.0) ** 2
    angle = np.arctan2(xy[:, 1], xy[:, 0]) / (2 * np.pi) % 1.0
    for uniform in (share, angle):
        counts = np.histogram(uniform, bins=20, range=(0, 1))[0]
        assert np.abs(counts - 2000).max() < 5 * math.sqrt(2000)


def test_shadowing_along_a_straight_way_is_correlated_as_exp_of_distance() -> None:
    links, steps, step_m, std_db = 4000, 41, 1.5, 7.0
    series = CorrelatedShadowing(13.0).series(
        np.random.default_rng(1), np.zeros((links, 2)), straight_ways(steps, 2, step_m), std_db
    )
    assert series.shape == (steps, links, 2)
    for k in range(2):
        covariance = series[:, :, k] @ series[:, :, k].T / (links * std_db**2)
        lag_m = step_m * np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
        # An entry's standard error is √((1 + ρ²)/4000) ≤ 0.022; the largest of 861 stays within 4.5 of them.
        np.testing.assert_allclose(covariance, np.exp(-lag_m / 13.0), atol=0.1)
        by_lag = np.array([np.diagonal(covariance, n).mean() for n in range(steps)])
        np.testing.assert_allclose(by_lag, np.exp(-step_m * np.arange(steps) / 13.0), atol=0.04)
        assert series[:, :, k].mean() == pytest.approx(0.0, abs=0.5)


def test_shadowing_is_independent_from_user_to_user_and_from_ap_to_ap() -> None:
    series = CorrelatedShadowing().series(
        np.random.default_rng(2), np.zeros((3000, 2)), straight_ways(2, 2, 1.0), std_db=1.0
    )
    users = np.corrcoef(series[0, :, 0], series[0, :, 1])[0, 1]
    aps = np.corrcoef(series[0, :-1, 0], series[0, 1:, 0])[0, 1]
    assert abs(users) < 0.08  # 4.4 standard errors
    assert abs(aps) < 0.08


def test_the_correlation_follows_the_distance_and_not_the_way_between() -> None:
    """On a way out and back, instants 0 and 8 are at the same point, 1 and 7 too, and 0 and 4 are 20 m apart."""
    x = 5.0 * np.array([0, 1, 2, 3, 4, 3, 2, 1, 0.0])
    way = np.stack([x, np.zeros(9)], axis=-1)[:, None]
    series = CorrelatedShadowing(13.0).series(np.random.default_rng(3), np.zeros((20_000, 2)), way, 1.0)[:, :, 0]
    np.testing.assert_array_equal(series[:4], series[:4:-1])
    assert np.mean(series[0] * series[4]) == pytest.approx(math.exp(-20 / 13), abs=0.035)
    assert np.mean(series[2] * series[5]) == pytest.approx(math.exp(-5 / 13), abs=0.035)


def test_who_stands_still_keeps_the_shadowing_to_the_last_bit() -> None:
    still = np.broadcast_to(np.array([[3.0, 4.0], [5.0, 6.0]]), (30, 2, 2))
    series = CorrelatedShadowing().series(np.random.default_rng(4), np.zeros((5, 2)), still, 7.0)
    np.testing.assert_array_equal(series, np.broadcast_to(series[0], series.shape))
    assert not np.isclose(series[0, :, 0], series[0, :, 1]).any()


def test_without_a_decorrelation_distance_every_point_has_its_own_shadowing() -> None:
    way = straight_ways(3, 1, 1.0)
    way[2] = way[0]
    series = CorrelatedShadowing(0.0).series(np.random.default_rng(5), np.zeros((5000, 2)), way, 1.0)[:, :, 0]
    np.testing.assert_array_equal(series[0], series[2])
    assert abs(np.mean(series[0] * series[1])) < 0.07


def test_a_walker_goes_at_its_speed_and_turns_at_waypoints_only() -> None:
    radius_m, steps = 50.0, 4000
    xy = RandomWaypoint(1.5).trajectory(np.random.default_rng(6), spread(radius_m, 10), radius_m, steps, 1.0)
    step = lengths(xy)
    assert (step <= 1.5 * (1 + 1e-9)).all()
    turned = step < 1.5 * (1 - 1e-9)
    # A leg between two uniform points of a disc is 128 R/(45 π) long on average, and one step in each leg is cut.
    expected = 1.5 * (steps - 1) / (128 * radius_m / (45 * math.pi))
    assert turned.sum(0).mean() == pytest.approx(expected, rel=0.06)
    assert np.linalg.norm(xy, axis=-1).max() <= radius_m * (1 + 1e-12)


def test_a_walker_covers_the_same_way_in_finer_steps() -> None:
    walk = RandomWaypoint(2.0)
    coarse = walk.trajectory(np.random.default_rng(7), spread(80, 4), 80.0, 20, 1.0)
    fine = walk.trajectory(np.random.default_rng(7), spread(80, 4), 80.0, 20 * 4 - 3, 0.25)
    np.testing.assert_allclose(fine[::4, 0], coarse[:, 0], atol=1e-9)


@pytest.mark.parametrize(("radius_m", "speed"), [(250.0, 15.0), (40.0, 15.0), (250.0, 60.0), (1e4, 1.0)])
def test_a_vehicle_keeps_its_speed_and_stays_inside_wherever_it_starts(radius_m: float, speed: float) -> None:
    angle = np.linspace(0, 6, 20)
    rim = radius_m * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    start = np.concatenate([rim, spread(radius_m, 20), np.zeros((1, 2))])
    xy = SmoothTurns(speed).trajectory(np.random.default_rng(8), start, radius_m, 1500, 1.0)
    np.testing.assert_array_equal(xy[0], start)
    assert np.linalg.norm(xy, axis=-1).max() <= radius_m * (1 + 1e-8)
    limit = max(3.0 / speed, 2 * speed / radius_m)
    # What is driven is an arc; the chord of the tightest is v sin(ω/2)/(ω/2).
    assert (lengths(xy) <= speed * (1 + 1e-9)).all()
    assert (lengths(xy) >= speed * abs(math.sin(min(limit, np.pi) / 2) / (limit / 2)) * (1 - 1e-9)).all()
    assert np.ptp(xy[..., 0]) > 0.5 * min(2 * radius_m, 300)


def test_a_vehicle_turns_no_faster_than_its_lateral_acceleration_allows_and_gradually() -> None:
    xy = SmoothTurns(15.0, lateral_m_s2=3.0, memory_s=5.0).trajectory(
        np.random.default_rng(9), np.zeros((40, 2)), 1e6, 2000, 1.0
    )
    direction = np.diff(xy, axis=0)
    heading = np.unwrap(np.arctan2(direction[..., 1], direction[..., 0]), axis=0)
    turn = np.diff(heading, axis=0)
    assert np.abs(turn).max() <= 3.0 / 15.0 + 1e-9
    # A chord turns by the mean of two turn rates, so their correlation at lag n is ρ^(n-1) (1 + ρ)/2; the limit at 2σ shortens it a little.
    rho = math.exp(-1 / 5)
    for lag in (1, 3, 6):
        measured = np.mean(turn[lag:] * turn[:-lag]) / np.mean(turn**2)
        assert measured == pytest.approx(rho ** (lag - 1) * (1 + rho) / 2, abs=0.06)
    # σ_ω is half of the limit of 0.2 rad/s, a little less for the values clipped there.
    assert np.sqrt(np.mean(turn**2)) == pytest.approx(0.1 * math.sqrt((1 + rho) / 2), rel=0.1)


@pytest.mark.parametrize("motion", [RandomWaypoint(0.0), SmoothTurns(0.0)], ids=str)
def test_at_no_speed_nothing_moves(motion: RandomWaypoint | SmoothTurns) -> None:
    start = spread(100.0, 5)
    xy = motion.trajectory(np.random.default_rng(0), start, 100.0, 30, 1.0)
    np.testing.assert_array_equal(xy, np.broadcast_to(start, (30, 5, 2)))


@pytest.mark.parametrize("strategy", [RandomWaypoint(), SmoothTurns()], ids=str)
def test_the_generator_decides_the_way(strategy: RandomWaypoint | SmoothTurns) -> None:
    one, same, other = (strategy.trajectory(np.random.default_rng(s), spread(50, 3), 50.0, 9, 1.0) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.isclose(one[-1], other[-1]).any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomWaypoint(-1.5), r"speed_m_s must be a number in \[0, 1000\], got -1.5"),
        (lambda: RandomWaypoint(math.nan), "speed_m_s must be .*got nan"),
        (lambda: RandomWaypoint("fast"), "speed_m_s must be .*got 'fast'"),  # type: ignore[arg-type]
        (lambda: SmoothTurns(-1.0), "speed_m_s must be .*got -1.0"),
        (lambda: SmoothTurns(memory_s=0.0), r"memory_s must be a number in \(0, 1e\+06\], got 0.0"),
        (lambda: SmoothTurns(lateral_m_s2=-3.0), "lateral_m_s2 must be .*got -3.0"),
        (lambda: CorrelatedShadowing(-13.0), "decorrelation_m must be .*got -13.0"),
        (lambda: CorrelatedShadowing(math.inf), "decorrelation_m must be .*got inf"),
    ],
)
def test_numbers_out_of_range_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


class Says:
    """A strategy that answers with whatever it was built with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def trajectory(self, *_: Any) -> Any:
        """Answer."""
        return self.answer

    def series(self, *_: Any) -> Any:
        """Answer."""
        return self.answer


HOLED = np.zeros((4, 2, 2))
HOLED[2, 1, 0] = np.nan


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((4, 3, 2)), r"Says.trajectory for the users must return shape \(4, 2, 2\) in m, got \(4, 3, 2\)"),
        (np.zeros((5, 2, 2)), r"must return shape \(4, 2, 2\) in m, got \(5, 2, 2\)"),
        (HOLED, r"Says.trajectory for the users returned 1 values that aren't finite, the first at index \(2, 1, 0\)"),
        (None, "must return"),
        ("far away", r"must return numbers of shape \(4, 2, 2\) in m, got 'far away'"),
    ],
)
def test_a_motion_that_says_something_else_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moved(Says(answer), "users", [np.random.default_rng(0)], np.zeros((1, 2, 2)), CONFIG, 4, 1.0)


def test_shadowing_that_says_something_else_is_refused() -> None:
    way = np.zeros((4, 2, 2))
    arguments: Any = ([np.random.default_rng(0)], np.zeros((1, 3, 2)), way[None], CONFIG)
    with pytest.raises(ValueError, match=r"Says.series must return shape \(4, 3, 2\) in dB, got \(4, 2, 3\)"):
        shadowed(Says(np.zeros((4, 2, 3))), *arguments)
    with pytest.raises(ValueError, match=r"Says\.series returned 24 values that aren't finite"):
        shadowed(Says(np.full((4, 3, 2), -np.inf)), *arguments)


@pytest.mark.parametrize("strategy", [None, 1.5, "walk", RandomWaypoint, object()], ids=range(5))
def test_what_is_no_strategy_is_refused_with_an_example(strategy: Any) -> None:
    with pytest.raises(TypeError, match=r"motion of the users must be an object with a method trajectory\(\) such as"):
        moved(strategy, "users", [np.random.default_rng(0)], np.zeros((1, 2, 2)), CONFIG, 4, 1.0)


def test_a_strategy_cannot_change_what_it_is_given() -> None:
    class Vandal:
        def trajectory(self, rng: Any, start_xy: Floats, radius_m: float, steps: int, step_s: float) -> Floats:
            start_xy[...] = 7.0
            return np.repeat(start_xy[None], steps, axis=0)

    start = np.zeros((2, 2))
    assert (moved(Vandal(), "users", [np.random.default_rng(0)], start[None], CONFIG, 4, 1.0).xy == 7.0).all()
    assert (start == 0.0).all()
