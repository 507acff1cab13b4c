"""Several targets, from sampling to rendering, and golden values for a single one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

import baselines
from baselines import branch_and_bound
from baselines.allocation import Allocator, Status, dual_bound, fast
from cfisac_env import CfIsacEnv, SystemConfig, observations, physics, sample
from cfisac_env.rendering import draw_map

COUNTS = (2, 4)


def config(S: int, **fields: Any) -> SystemConfig:
    return SystemConfig(**{"M": 8, "K": 3, "T": 4, "S": S, "crlb_threshold_m2": 4.0, **fields})


def test_single_target_drops_keep_their_golden_values() -> None:
    """Golden values of the first version, which had a single target."""
    drop = sample(SystemConfig(M=3, K=2), np.random.default_rng(0))
    np.testing.assert_array_equal(drop.target_xy, [[0.0, 0.0]])
    golden: dict[str, Any] = {
        "ap_xy": [[192.4198347, -117.49041307], [-25.01546882, -193.10350153], [169.20054789, -73.12821999]],
        "gain": [
            [4.02776668e-12, 1.34487856e-10],
            [1.15362669e-11, 1.66032713e-10],
            [9.81934361e-11, 6.64947624e-09],
        ],
        "fisher": [
            [[1.78206745, 0.09315643, -0.39725127]],
            [[0.52128015, 0.55235867, -0.53412985]],
            [[2.85577555, 0.07138167, -0.42877456]],
        ],
    }
    for name, values in golden.items():
        np.testing.assert_allclose(getattr(drop, name), values, rtol=1e-7, atol=5e-9 if name != "gain" else 0)
    env = gym.make("CfIsac-v0", M=3, K=2, reward="linear")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3))
    assert reward == pytest.approx(-4996.883307283548, rel=1e-12)
    np.testing.assert_allclose(info["sinr_db"], [-3.9138734041485144, -2.4733199939846005], rtol=1e-12)
    np.testing.assert_allclose(info["crlb_m2"], [1463.4034766788814], rtol=1e-12)


@pytest.mark.parametrize("S", COUNTS)
def test_the_first_target_is_at_the_centre_and_the_others_uniform_in_the_disc(S: int) -> None:
    xy = sample(config(S), np.random.default_rng(1), 4000).target_xy
    assert xy.shape == (4000, S, 2)
    np.testing.assert_array_equal(xy[:, 0], 0.0)
    share = (np.linalg.norm(xy[:, 1:], axis=-1) / 250.0) ** 2
    counts = np.histogram(share, bins=10, range=(0, 1))[0]
    assert counts.sum() == 4000 * (S - 1)
    assert np.abs(counts - 400 * (S - 1)).max() < 5 * np.sqrt(400 * (S - 1))


@pytest.mark.parametrize("S", COUNTS)
def test_every_target_has_the_physics_of_a_drop_with_it_alone(S: int) -> None:
    drop = sample(config(S), np.random.default_rng(2))
    power = np.random.default_rng(3).uniform(0, 0.03, (8, 3))
    together = physics.crlb(power.sum(-1), drop.fisher)
    for s in range(S):
        alone = physics.radar_gain(
            drop.ap_xy, drop.sr_xy, drop.target_xy[s : s + 1], drop.config.wavelength_m, drop.config.rcs_m2, 10.0
        )
        fisher = physics.fisher_information(
            drop.ap_xy, drop.sr_xy, drop.target_xy[s : s + 1], alone, drop.config.fisher_scale
        )
        assert together[s] == pytest.approx(float(physics.crlb(power.sum(-1), fisher)[0]), rel=1e-12)


@pytest.mark.parametrize("S", COUNTS)
def test_the_observation_carries_every_target(S: int) -> None:
    env = gym.make("CfIsac-v0", **config(S).as_dict())
    assert isinstance(env.unwrapped, CfIsacEnv)
    observation, _ = env.reset(seed=4)
    assert observation["sensing"].shape == (8, S, 3)
    assert observation["radar"].shape == (8, S, 4)
    assert observation["target"].shape == (S, 2)
    problem, drop = observations.decode(observation), env.unwrapped.scenario
    np.testing.assert_allclose(problem.fisher[..., :2], drop.fisher[..., :2], rtol=1e-5)
    scale = np.sqrt(drop.fisher[..., 0] * drop.fisher[..., 1])
    np.testing.assert_allclose(problem.fisher[..., 2] / scale, drop.fisher[..., 2] / scale, atol=1e-5)
    _, _, _, _, info = env.step(env.action_space.sample())
    assert info["crlb_m2"].shape == (S,)


@pytest.mark.parametrize("S", COUNTS)
def test_both_back_ends_agree_and_removing_a_target_never_costs_more(S: int) -> None:
    compared = 0
    for seed in range(8):
        problem = sample(config(S, M=10), np.random.default_rng(seed)).problem
        all_on = np.ones(10, dtype=bool)
        ours, theirs = (Allocator(name)(problem, all_on) for name in ("fast", "clarabel"))
        assert ours.status == theirs.status
        if ours.status != Status.OPTIMAL:
            continue
        compared += 1
        assert float(ours.transmit_power) == pytest.approx(float(theirs.transmit_power), rel=1e-5)
        assert float(dual_bound(problem, all_on, ours.multipliers)) >= float(ours.transmit_power) * (1 - 2e-6)
        assert (physics.crlb(ours.power.sum(-1), problem.fisher) <= 4.0 * (1 + 1e-6)).all()
        for s in range(S):
            fewer = fast.solve(replace(problem, fisher=np.delete(problem.fisher, s, axis=1)), all_on)
            assert float(fewer.transmit_power) <= float(ours.transmit_power) * (1 + 1e-6)
    assert compared >= 3


@pytest.mark.parametrize("S", COUNTS)
def test_oracles_serve_feasible_drops_and_the_exact_one_is_optimal(S: int) -> None:
    solved_drops = 0
    for seed in range(10):
        scenario = sample(config(S, M=7), np.random.default_rng(50 + seed))
        problem = scenario.problem
        sets = np.array([bits for bits in itertools.product([False, True], repeat=7) if any(bits)])
        answers = fast.solve(problem, sets)
        totals = np.where(answers.status == Status.OPTIMAL, answers.transmit_power, np.inf) + 0.2 * sets.sum(1)
        found = branch_and_bound.solve(problem, time_limit_s=None)
        if not np.isfinite(totals).any():
            assert found.status == "infeasible"
            continue
        solved_drops += 1
        assert found.total_power_w == pytest.approx(totals.min(), rel=1e-5)
        assert found.lower_bound_w <= totals.min() * (1 + 1e-6)
        for name in ("strongest-ap", "nearest-ap", "full-ap", "modified-bb", "local-search"):
            decided = baselines.make(name).decide(problem)
            outcome = scenario.evaluate(decided.decision)
            assert outcome.feasible
            assert float(outcome.total_power) >= totals.min() * (1 - 1e-4)
    assert solved_drops >= 4


@pytest.mark.parametrize("S", COUNTS)
def test_the_map_draws_an_ellipse_for_every_target(S: int) -> None:
    scenario = sample(config(S, M=12, crlb_threshold_m2=20.0), np.random.default_rng(7))
    decision = baselines.make("full-ap").decide(scenario.problem).decision
    ax = Figure().add_subplot()
    draw_map(ax, scenario, decision, scenario.evaluate(decision))
    ellipses = [patch for patch in ax.patches if isinstance(patch, Ellipse) and patch.get_linewidth() > 1.5]
    np.testing.assert_allclose(
        sorted(np.array(ellipse.center).tolist() for ellipse in ellipses), sorted(scenario.target_xy.tolist())
    )
    assert f"{S} targets" in ax.get_title()
    env = gym.make("CfIsacMobile-v0", M=6, K=2, S=S, render_mode="rgb_array", episode_steps=2)
    env.reset(seed=8)
    first = np.asarray(env.render())
    env.step(env.action_space.sample())
    env.step(env.action_space.sample())
    assert (np.asarray(env.render()) != first).any()
