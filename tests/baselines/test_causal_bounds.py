"""Bound on causal policies: against the best causal policy of a tree of futures, and its penalties against their mean."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from baselines.causal_bounds import HindsightValue, States, causal_bound_j, hindsight, paid_j, penalties
from baselines.clairvoyant import all_sets
from baselines.foresight.kernels import need
from baselines.sequential import ALLOCATOR
from cfisac_env import CfIsacMobileEnv, SystemConfig
from cfisac_env.jit import Kernel
from cfisac_env.mobile import Switching
from cfisac_env.mobility import SmoothTurns, Track

Float = NDArray[np.float64]
STEPS, SWITCH_J = 4, 1.5
FIELDS: dict[str, Any] = {"M": 4, "K": 2, "T": 4, "preset": "urban", "crlb_threshold_m2": 6.0}


@dataclass(frozen=True)
class Forks(SmoothTurns):
    """A target that turns left or right at every step, with equal probability."""

    def advance(
        self, xy: Float, heading: Float, rate: Float, normal: Float, radius_m: float, step_s: float
    ) -> tuple[Float, Float, Float]:
        """Turn by the sign of the normal number."""
        turned = heading + np.where(normal > 0.0, 0.9, -0.9)
        return xy + 60.0 * np.stack([np.cos(turned), np.sin(turned)], axis=-1), turned, rate


@dataclass(frozen=True)
class Given:
    """A given path."""

    xy: tuple[tuple[float, float], ...]

    def trajectory(self, rng: Any, start_xy: Float, radius_m: float, steps: int, step_s: float) -> Float:
        """Return the path."""
        return np.array(self.xy)[:, None]


class Tree:
    """All futures of a target in one network with standing users."""

    def __init__(self, seed: int) -> None:
        self.signs = list(itertools.product((-1.0, 1.0), repeat=STEPS - 1))
        self.tracks = [self._track(signs) for signs in self.signs]
        self.sets = all_sets(FIELDS["M"])
        self.episodes = []
        for track in self.tracks:
            path = Given(tuple(map(tuple, track.xy[:, 0].tolist())))
            env = gym.make(
                "CfIsacMobile-v0", target_motion=path, user_speed_m_s=0.0, episode_steps=STEPS, switching_energy_j=SWITCH_J, **FIELDS
            ).unwrapped  # fmt: skip
            assert isinstance(env, CfIsacMobileEnv)
            env.reset(seed=seed)
            self.episodes.append(env.trajectory)
            self.start, self.config = env.beginning(), env.config
        self.node = {
            (t, *np.round(track.xy[t, 0], 3)): (t, signs[:t])
            for track, signs in zip(self.tracks, self.signs, strict=True)
            for t in range(STEPS)
        }
        self.least = cache(self._least)

    @staticmethod
    def _track(signs: tuple[float, ...]) -> Track:
        xy, heading = np.zeros((1, 2)), np.zeros(1)
        places, headings = [xy], [heading]
        for sign in signs:
            xy, heading, _ = Forks().advance(xy, heading, np.zeros(1), np.array([sign]), 1.0, 1.0)
            places.append(xy)
            headings.append(heading)
        at = np.array(headings)
        return Track(np.array(places), np.stack([np.cos(at), np.sin(at)], axis=-1), np.zeros((STEPS, 1)))

    def _least(self, t: int, signs: tuple[float, ...]) -> Float:
        """Mean energy of the best causal policy from a node on, for every set that was on before, (2^M,)."""
        i = next(i for i, path in enumerate(self.signs) if path[:t] == signs)
        answers = ALLOCATOR(self.episodes[i].problem[t], self.sets)
        own = np.where(answers.feasible, answers.transmit_power, np.inf) + self.config.circuit_power_w * self.sets.sum(
            1
        )
        if not np.isfinite(own).any():
            own = self.config.circuit_power_w * self.sets.sum(1)
        if t < STEPS - 1:
            own = own + np.mean([self.least(t + 1, (*signs, sign)) for sign in (-1.0, 1.0)], axis=0)
        switched = (self.sets[None] & ~self.sets[:, None]).sum(-1)  # (before, now)
        return np.asarray((own + SWITCH_J * switched).min(1))

    def bound_j(self, value: Any, share: float = 1.0) -> float:
        """Mean of the bound over all futures, with a share of the penalties."""
        rng, bounds_j = np.random.default_rng(0), []
        for episode, track in zip(self.episodes, self.tracks, strict=True):
            penalty_j = share * penalties(value, episode, track, rng, samples=2)
            bounds_j.append(causal_bound_j(episode.problem, self.start, penalty_j))
        return float(np.mean(bounds_j))

    def hindsight(self) -> HindsightValue:
        """The value in hindsight, for this target."""
        return HindsightValue(self.config, Forks(), self.start, futures=8)


@dataclass(frozen=True)
class Exact:
    """The value of the best causal policy."""

    tree: Tree

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.tree.config)
        object.__setattr__(self, "start", self.tree.start)
        object.__setattr__(self, "motion", Forks())

    def __call__(self, scenario: Any, states: States, left: int) -> Float:
        """Look the nodes up."""
        t = STEPS - left
        return np.array([self.tree.least(*self.tree.node[t, *np.round(xy, 3)]) for xy in states.xy])


@pytest.mark.parametrize("seed", [1_000_001, 1_000_004])
def test_the_bound_never_exceeds_the_best_causal_policy_and_reaches_it_with_its_value(seed: int) -> None:
    tree = Tree(seed)
    best = float(tree.least(0, ())[-1])  # every AP is on before the first instant
    clairvoyant_j = tree.bound_j(tree.hindsight(), 0.0)
    assert clairvoyant_j < best * (1.0 - 1e-3)
    assert tree.bound_j(Exact(tree)) == pytest.approx(best, rel=1e-6)
    for share in (-1.0, 0.5, 2.0):
        assert tree.bound_j(Exact(tree), share) <= best * (1.0 + 1e-9)
    assert clairvoyant_j < tree.bound_j(tree.hindsight()) <= best * (1.0 + 1e-9)


def test_values_in_hindsight_are_those_of_the_best_of_all_schedules() -> None:
    rng = np.random.default_rng(2)
    M, K, H, F = 3, 1, 3, 2
    rows = np.zeros((F, H, M, 3))
    rows[..., :2] = rng.uniform(0.2, 2.0, (F, H, M, 2))
    users = rng.uniform(0.5, 2.0, (M, 2 * K))
    weights, requirement, costs = np.array([1.0, 2.0, 1.0]), np.array([0.2, 0.05, 2.0, 0.2]), np.array([0.2, 0.3, 1.0])
    sets, result = all_sets(M), np.empty(2**M)
    hindsight(rows, users, weights, K, requirement, costs, result)
    own, kernel = np.empty((F, H, 2**M)), cast(Kernel, need).function
    for f, h, o in np.ndindex(own.shape):
        features = np.concatenate([rows[f, h][sets[o]].sum(0), users[sets[o]].sum(0)])
        load, power = kernel(features, int(sets[o].sum()), 1, K, requirement)
        own[f, h, o] = weights[h] * (0.2 * sets[o].sum() + (power if load <= 1.0 else np.inf))
    switched = 0.3 * (sets[None] & ~sets[:, None]).sum(-1)
    schedules = np.array(list(itertools.product(range(2**M), repeat=H + 1)))  # the first set was on before
    moves = switched[schedules[:, :-1], schedules[:, 1:]].sum(1)
    total = np.array([sum(own[f, h, schedules[:, h + 1]] for h in range(H)) + moves for f in range(F)])
    expected = np.array([total[:, schedules[:, 0] == before].min(1).mean() for before in range(2**M)])
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_penalties_have_zero_mean_given_everything_until_then() -> None:
    tree = Tree(1_000_001)
    rng = np.random.default_rng(0)
    penalty_j = np.array([
        penalties(tree.hindsight(), episode, track, rng, samples=2)
        for episode, track in zip(tree.episodes, tree.tracks, strict=True)
    ]).reshape((2,) * (STEPS - 1) + (STEPS, 2 ** FIELDS["M"]))  # fmt: skip
    for t in range(STEPS - 1):
        moves = penalty_j[..., t, :].mean(tuple(range(t + 1, STEPS - 1)))  # over what follows the move at t
        assert np.abs(moves).max() > 1e-3
        np.testing.assert_allclose(moves.mean(t), 0.0, atol=1e-12)


def test_schedules_pay_for_the_sets_that_are_on() -> None:
    penalty_j = np.arange(16.0).reshape(2, 8)
    assert paid_j(penalty_j, np.array([[False, True, False], [True, False, True]])) == 2.0 + 8.0 + 5.0


def test_bad_input_is_refused() -> None:
    start = Switching(energy_j=2.0)
    for config, message in (
        (SystemConfig(M=11, K=2), "M up to 10, got 11"),
        (SystemConfig(M=5, K=2, S=2), "S up to 1, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            HindsightValue(config, SmoothTurns(), start)
    with pytest.raises(ValueError, match="wake_up_steps up to 0, got 2"):
        HindsightValue(SystemConfig(M=5, K=2), SmoothTurns(), Switching(wake_up_steps=2))
    with pytest.raises(ValueError, match="futures must be 1 or more, got 0"):
        HindsightValue(SystemConfig(M=5, K=2), SmoothTurns(), start, futures=0)
