"""Pilot assignments do what their rules say, by hand and by exhaustion."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cfisac_env import CfIsacEnv, Scenario, SystemConfig, physics, pilots, sample

RULES = tuple(pilots.ASSIGNMENTS)


def config(rule: str = "in-turn", **fields: Any) -> SystemConfig:
    given: dict[str, Any] = {"M": 8, "K": 7, "pilot_length": 3, "pilot_assignment": rule} | fields
    return SystemConfig(**given)


def least_sinr(drop: Scenario, pilot: Any) -> float:
    """Of all users when every AP radiates P_max in equal parts, from the pilots' overlap written out."""
    c = drop.config
    shared = np.array([[float(a == b) for b in pilot] for a in pilot])
    v = physics.estimate_gain(drop.gain, c.pilot_energy_w, c.noise_w, shared)
    power = np.full((c.M, c.K), c.max_ap_power_w / c.K)
    return float(physics.sinr(power, drop.gain, v, c.noise_w, shared).min())


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_valid_pilots_by_seed_in_batches_and_in_the_environment(rule: str) -> None:
    c = config(rule)
    batch, again = (sample(c, np.random.default_rng(3), 5) for _ in range(2))
    assert batch.pilot is not None
    assert batch.pilot.shape == (5, 7)
    assert set(np.unique(batch.pilot)) <= {0, 1, 2}
    np.testing.assert_array_equal(batch.pilot, again.pilot)
    env = gym.make("CfIsac-v0", **c.as_dict())
    observation, _ = env.reset(seed=3)
    assert isinstance(env.unwrapped, CfIsacEnv)
    pilot = env.unwrapped.scenario.pilot
    assert pilot is not None
    np.testing.assert_array_equal(observation["pilots"], pilot[:, None] == pilot[None, :])


@pytest.mark.parametrize("rule", RULES)
def test_with_enough_pilots_every_user_has_its_own(rule: str) -> None:
    assert sample(config(rule, K=3), np.random.default_rng(0)).pilot is None


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_changes_nothing_else_about_a_drop(rule: str) -> None:
    plain, ruled = sample(config(), np.random.default_rng(4), 3), sample(config(rule), np.random.default_rng(4), 3)
    for name in ("ap_xy", "ue_xy", "gain", "rcs_gain", "fisher"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(ruled, name))


def test_random_pilots_are_uniform_and_independent() -> None:
    c = config("random", K=4)
    drawn = sample(c, np.random.default_rng(5), 9000).pilot
    assert drawn is not None
    counts = np.unique(drawn @ np.array([27, 9, 3, 1]), return_counts=True)[1]
    assert len(counts) == 81
    assert np.abs(counts - 9000 / 81).max() < 5 * np.sqrt(9000 / 81)


def test_greedy_ends_where_no_pilot_of_the_worst_user_helps_and_beats_pilots_in_turn() -> None:
    gained = 0
    for seed in range(12):
        drop = sample(config("greedy"), np.random.default_rng(seed))
        assert drop.pilot is not None
        chosen = least_sinr(drop, drop.pilot)
        in_turn = least_sinr(drop, np.arange(7) % 3)
        assert chosen >= in_turn
        gained += chosen > 1.2 * in_turn
        sinr = [least_sinr(drop, drop.pilot)]
        for k, pilot in itertools.product(range(7), range(3)):
            other = drop.pilot.copy()
            other[k] = pilot
            v = physics.estimate_gain(drop.gain, 0.3, drop.config.noise_w, (drop.pilot[:, None] == drop.pilot) * 1.0)
            power = np.full((8, 7), 0.1 / 7)
            now = physics.sinr(power, drop.gain, v, drop.config.noise_w, (drop.pilot[:, None] == drop.pilot) * 1.0)
            if k == int(np.argmin(now)):
                sinr.append(least_sinr(drop, other))
        assert max(sinr) == sinr[0]
    assert gained >= 4


def test_the_master_ap_gives_the_pilot_on_which_it_hears_least() -> None:
    c = config("master-ap", M=3, K=5, pilot_length=2)
    gain = 1e-9 * np.array(
        [
            [9.0, 1.0, 1.0, 8.0, 1.0],
            [1.0, 9.0, 7.0, 1.0, 2.0],
            [1.0, 1.0, 1.0, 1.0, 9.0],
        ]
    )
    # User 2's master is AP 1, which hears user 0 (pilot 0) at 1 and user 1 (pilot 1) at 9: pilot 0. User 3's master is AP 0, which
    # hears 9 + 1 on pilot 0 and 1 on pilot 1: pilot 1. User 4's is AP 2, which hears 1 + 1 on either: the first, pilot 0.
    np.testing.assert_array_equal(pilots.assign(c, gain, np.random.default_rng(0)), [0, 1, 0, 1, 0])


@pytest.mark.parametrize("rule", ["greedy", "master-ap"])
def test_rules_that_look_at_the_gains_contaminate_less_than_chance(rule: str) -> None:
    chance, ruled = (
        np.mean([np.log(least_sinr(drops[i], drops[i].pilot)) for i in range(150)])
        for name in ("random", rule)
        if (drops := sample(config(name), np.random.default_rng(6), 150))
    )
    assert ruled > chance + 0.3


def test_gains_that_users_bring_get_pilots_by_the_rule_too() -> None:
    drop = sample(config("master-ap"), np.random.default_rng(7))
    brought = Scenario.from_gains(
        drop.config,
        ap_xy=drop.ap_xy,
        ue_xy=drop.ue_xy,
        sr_xy=drop.sr_xy,
        target_xy=drop.target_xy,
        gain=drop.gain,
    )
    np.testing.assert_array_equal(brought.pilot, drop.pilot)


def test_an_unknown_rule_and_no_pilots_are_refused() -> None:
    with pytest.raises(
        ValueError, match="pilot_assignment must be one of in-turn, random, greedy, master-ap, got 'luck'"
    ):
        config("luck")
    with pytest.raises(ValueError, match=r"pilot_length must be a whole number in \[1, 100000\], got 0"):
        config(pilot_length=0)
