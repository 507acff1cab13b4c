"""`tracking` on `CfIsacTracking-v0`, against the physics at the positions that it considers."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import baselines
from baselines.tracking import at_several_positions
from cfisac_env import observations, physics
from cfisac_env.tracking import CfIsacTrackingEnv

SMALL: dict[str, Any] = {"M": 12, "K": 3, "T": 3, "preset": "paper", "step_s": 0.5, "episode_steps": 12}
SEARCH: dict[str, Any] = {"kicks": 0, "starts": ("greedy",)}


def served(seeds: range, true_position: bool = False, **options: Any) -> float:
    env, met = CfIsacTrackingEnv(**SMALL), []
    if true_position:
        options["env"] = env
    policy = baselines.make("tracking", **SEARCH, **options)
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            observation, _, _, over, information = env.step(policy.predict(observation)[0])
            met.append(bool(information["feasible"]))
    return float(np.mean(met))


def test_considered_positions_have_the_information_of_the_physics_there() -> None:
    start = np.diag([4.0, 9.0, 25.0, 25.0, 0.01])
    start[0, 1] = start[1, 0] = 2.0
    env = CfIsacTrackingEnv(**SMALL, S=2, initial_covariance=start, min_distance_m=0.01)
    observation, _ = env.reset(seed=3)
    problem = observations.decode(observation)
    several = at_several_positions(problem, observation, 1.5)
    belief, drop, config = env.belief, env.scenario, env.config
    believed = env.believed_scenario
    assert several.S == 10
    assert several.prior is not None
    found = []
    for s in range(2):
        variance, axes = np.linalg.eigh(belief.covariance[s, :2, :2])
        for sign in (1.0, -1.0):
            for axis in range(2):
                xy = belief.mean[s, :2] + sign * 1.5 * np.sqrt(variance[axis]) * axes[:, axis]
                there = physics.radar_gain(drop.ap_xy, drop.sr_xy, xy[None], config.wavelength_m, config.rcs_m2, 0.01)
                gain = np.minimum(there, believed.rcs_gain[:, [s]])
                expected = physics.fisher_information(drop.ap_xy, drop.sr_xy, xy[None], gain, config.fisher_scale)[:, 0]
                errors = [
                    np.abs(several.fisher[:, 2 + 2 * i + s] - expected).max() / np.abs(expected).max() for i in range(4)
                ]
                found.append(int(np.argmin(errors)))
                assert min(errors) < 2e-3
        np.testing.assert_allclose(several.prior[s::2], np.repeat(problem.prior[s : s + 1], 5, axis=0))  # type: ignore[index]
    assert sorted(found) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_without_margin_and_spread_it_is_the_myopic_policy() -> None:
    env = CfIsacTrackingEnv(**SMALL)
    observation, _ = env.reset(seed=0)
    ours, theirs = (baselines.make(name, **SEARCH).predict(observation)[0] for name in ("tracking", "myopic"))
    np.testing.assert_array_equal(ours, theirs)
    batch = {key: np.stack([value, value]) for key, value in observation.items()}
    wide = baselines.make("tracking", spread=2.0, margin=0.1, **SEARCH)
    np.testing.assert_array_equal(wide.predict(batch)[0][1], wide.predict(observation)[0])


def test_allowing_for_the_beliefs_error_serves_what_the_mean_misses() -> None:
    seeds = range(900_000, 900_004)
    at_mean, spread, truth = served(seeds), served(seeds, spread=2.0), served(seeds, true_position=True)
    assert at_mean < 0.85
    assert spread > at_mean + 0.1
    assert truth >= spread - 0.05
    assert truth > 0.95


@pytest.mark.parametrize(
    ("options", "message"), [({"margin": 1.0}, "below 1"), ({"margin": -0.1}, "margin"), ({"spread": np.nan}, "spread")]
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        baselines.make("tracking", **options)
    with pytest.raises(ValueError, match="CfIsacTracking-v0"):
        baselines.make("tracking", env=gym.make("CfIsac-v0", M=3, K=2))
