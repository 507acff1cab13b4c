"""The kinds of reward: their order over decisions, attacked on every preset and with switching, their scale, their numbers."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import baselines
from baselines.bounds import fewest_active
from cfisac_env import PRESETS, CfIsacMobileEnv, Decision, Outcome, SystemConfig, actions, reward, sample
from cfisac_env.env import CfIsacEnv
from experiments.presets import adversaries

BOUNDED = ("penalty", "log")
FIRST = 1_000_000


def step(env: CfIsacEnv, decision: Decision) -> tuple[float, dict[str, Any]]:
    """Reward and information of a decision, taken by a copy of the environment."""
    problem = env.scenario.problem
    _, earned, _, _, info = copy.deepcopy(env).step(
        actions.encode(decision, problem.max_ap_power_w, problem.estimate_gain)
    )
    return earned, info


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("switching_energy_j", [0.0, 50.0])
def test_the_worst_feasible_decision_outscores_every_infeasible_one(
    switching_energy_j: float, preset: str, kind: str
) -> None:
    fields: dict[str, Any] = {"M": 12, "K": 4, "preset": preset, "reward": kind, "episode_steps": 2}
    if switching_energy_j:
        env: Any = CfIsacMobileEnv(switching_energy_j=switching_energy_j, step_s=0.5, **fields)
    else:
        env = CfIsacEnv(**fields)
    oracle, attacked = baselines.make("local-search"), 0
    nothing = Decision(np.zeros(12, dtype=bool), np.zeros((12, 4)))
    for seed in range(FIRST, FIRST + 12):
        env.reset(seed=seed)
        env.step(actions.encode(nothing, env.config.max_ap_power_w))  # so that every AP has to be switched on
        answer = oracle.decide(env.scenario.problem)
        if not answer.feasible:
            continue
        loud = answer.decision.power + 1e-9
        loud = loud * (env.config.max_ap_power_w / loud.sum(-1, keepdims=True))
        most = [Decision(np.ones(12, dtype=bool), loud), Decision(np.ones(12, dtype=bool), answer.decision.power)]
        feasible: list[float] = []
        infeasible: list[float] = []
        for attack in [
            answer.decision,
            *most,
            *adversaries(env.scenario, answer.decision, np.random.default_rng(seed)),
        ]:
            earned, info = step(env, attack)
            (feasible if info["feasible"] else infeasible).append(earned)
        assert min(feasible) > max(infeasible)
        attacked += 1
    assert attacked >= 3


POWERS = st.floats(0.0, 1.0)
VIOLATIONS = st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5)


@given(
    good=POWERS, bad=POWERS, switched=st.tuples(POWERS, POWERS), violations=VIOLATIONS, kind=st.sampled_from(BOUNDED)
)
@settings(max_examples=300, deadline=None)
def test_no_power_and_no_violation_turns_the_order_around(
    good: float, bad: float, switched: tuple[float, float], violations: list[float], kind: str
) -> None:
    config = SystemConfig(6, 4, reward=kind)
    problem = sample(config, np.random.default_rng(FIRST)).problem
    most, most_switching = 6 * 0.3, 10.0
    violations[0] = max(violations[0], 1.0001e-4)
    none = np.zeros(5)

    def earned(power: float, feasible: bool, missed: Any, switching: float) -> float:
        outcome = Outcome(
            sinr=np.ones(4), crlb=np.ones(1), transmit_power=np.float64(0), circuit_power=np.float64(0),
            total_power=np.float64(power * most), sinr_violation=np.array(missed[:4]), crlb_violation=np.array(missed[4:]),
            cap_violation=np.float64(0), feasible=np.bool_(feasible),
        )  # fmt: skip
        arguments = problem, None, np.float64(switching * most_switching), most_switching
        return float(sum(reward.terms(outcome, config, *arguments).values()))

    better, worse = earned(good, True, none, switched[0]), earned(bad, False, violations, switched[1])
    assert better > worse
    if kind == "penalty":
        assert better == pytest.approx(-good * most - switched[0] * most_switching)
        assert worse == pytest.approx(-(most + most_switching) * (1 + np.mean(violations)))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_logarithm_is_relative_to_the_floor_of_the_drop(preset: str) -> None:
    env = CfIsacEnv(M=12, K=4, preset=preset, reward="log")
    oracle, seen = baselines.make("most-informative"), set()
    for seed in range(FIRST, FIRST + 20):
        env.reset(seed=seed)
        problem = env.scenario.problem
        floor_w = fewest_active(problem) * 0.2
        earned, info = step(env, oracle.decide(problem).decision)
        seen.add(bool(info["feasible"]))
        power = np.log(max(info["total_power_w"] / floor_w, 1.0))
        most = np.log(12 * (env.config.max_ap_power_w + 0.2) / floor_w)
        expected = -power if info["feasible"] else -most * (1 + info["cost"] / 5)
        assert earned == pytest.approx(expected)
        assert info["reward_terms"]["power"] == pytest.approx(-power)
    assert True in seen


def test_without_penalty_the_reward_is_the_power_and_the_switching() -> None:
    env: Any = CfIsacMobileEnv(M=6, K=3, reward="power", switching_energy_j=4.0, step_s=2.0)
    env.reset(seed=FIRST)
    env.action_space.seed(0)
    for _ in range(5):
        _, earned, _, _, info = env.step(env.action_space.sample())
        assert set(info["reward_terms"]) == {"power", "switching"}
        assert earned == pytest.approx(-info["total_power_w"] - 2.0 * info["switched_on"])
        assert earned * 2.0 == pytest.approx(-info["energy_j"])
        assert info["cost"] == pytest.approx(info["costs"].sum())


@pytest.mark.parametrize("kind", ["penalty", "log", "power", "linear"])
@pytest.mark.parametrize("name", ["CfIsac-v0", "CfIsacMobile-v0"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_vectors_pay_the_same_reward(name: str, backend: str, kind: str) -> None:
    more = {"switching_energy_j": 3.0} if name == "CfIsacMobile-v0" else {}
    fields: dict[str, Any] = {"M": 8, "K": 2, "reward": kind, "episode_steps": 3, **more}
    envs = gym.make_vec(name, num_envs=4, backend=backend, **fields)
    singles = [gym.make(name, **fields) for _ in range(4)]
    envs.reset(seed=FIRST)
    for i, env in enumerate(singles):
        env.reset(seed=FIRST + i)
    envs.action_space.seed(3)
    for _ in range(3):
        action: Any = envs.action_space.sample()
        action[0] = 1.0
        _, rewards, _, _, infos = envs.step(action)
        for i, env in enumerate(singles):
            _, earned, _, _, info = env.step(action[i])
            assert float(rewards[i]) == pytest.approx(float(earned), rel=1e-12)
            for term, value in info["reward_terms"].items():
                assert float(infos["reward_terms"][term][i]) == pytest.approx(float(value), rel=1e-9, abs=1e-12)


def test_a_weight_brings_the_linear_reward_with_it_and_another_reward_takes_the_weights_away() -> None:
    assert SystemConfig().reward == "penalty"
    assert SystemConfig(sinr_penalty=3.0).reward == "linear"
    config = SystemConfig().changed(crlb_penalty=3.0)
    assert (config.reward, config.sinr_penalty, config.crlb_penalty) == ("linear", 5000.0, 3.0)
    assert config.changed(reward="power") == SystemConfig(reward="power")
    assert SystemConfig(**config.as_dict()) == config
    for kind in ("penalty", "log", "power"):
        with pytest.raises(ValueError, match=f"crlb_penalty=3.0 is a weight of reward='linear'.*reward='{kind}'"):
            dataclasses.replace(config, reward=kind)


def test_configurations_in_files_older_than_the_field_are_those_of_today() -> None:
    stored: dict[str, Any] = {"M": 30, "K": 6, "sinr_penalty": 5000.0, "crlb_penalty": 5000.0}
    assert SystemConfig(**stored) == SystemConfig(30, 6)
    assert "reward" not in SystemConfig(30, 6).as_dict()
    assert SystemConfig(reward="log").as_dict()["reward"] == "log"


def test_a_logarithm_without_circuit_power_is_refused() -> None:
    with pytest.raises(ValueError, match="circuit_power_w must be above 0"):
        SystemConfig(reward="log", circuit_power_w=0.0)
    env = CfIsacEnv(M=4, K=2, circuit_power_w=0.0)
    with pytest.raises(ValueError, match="circuit_power_w must be above 0"):
        env.configure(reward="log")
