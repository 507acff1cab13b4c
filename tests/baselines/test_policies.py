"""Oracles behind `predict`: feasibility, batching, and errors on invalid input."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import baselines
import cfisac_env
from baselines.allocation import Status, dual_bound
from cfisac_env import PRESETS, SystemConfig, actions, observations, sample

EXACT = ("nearest-ap", "strongest-ap", "most-informative", "most-informative-search", "full-ap", "modified-bb")
NAMES = tuple(baselines.POLICIES)
assert cfisac_env.__version__


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("name", EXACT)
def test_an_exact_oracle_meets_every_requirement_on_every_feasible_drop(name: str, preset: str) -> None:
    policy = baselines.make(name)
    scenarios = sample(SystemConfig(M=14, K=4, preset=preset), np.random.default_rng(11), 25)
    batch, _ = policy.predict(observations.encode(scenarios))
    full = baselines.make("full-ap")
    served = 0
    for i in range(25):
        answer = full.decide(scenarios[i].problem)
        outcome = scenarios[i].evaluate(actions.decode(batch[i], scenarios.config.max_ap_power_w))
        assert outcome.feasible == answer.feasible, (i, outcome)
        served += answer.feasible
        if not answer.feasible:
            proof = answer.certificate
            assert proof is not None
            assert proof.status == Status.INFEASIBLE
            bound = dual_bound(scenarios[i].problem, proof.active, proof.multipliers)
            assert bound > 14 * scenarios.config.max_ap_power_w
    assert served > 0


@pytest.mark.parametrize("name", NAMES)
def test_stable_baselines3_evaluates_every_policy(name: str) -> None:
    env = Monitor(gym.make("CfIsac-v0", M=6, K=2))
    rewards, lengths = evaluate_policy(
        baselines.make(name, M=6, K=2),
        env,
        n_eval_episodes=3,
        return_episode_rewards=True,
    )
    assert lengths == [1, 1, 1]
    assert np.isfinite(rewards).all()
    assert np.max(rewards) <= 0


def test_elimination_never_costs_more_than_all_aps_and_stops_where_no_removal_pays() -> None:
    scenarios = sample(SystemConfig(M=8, K=3, preset="urban"), np.random.default_rng(5), 6)
    for i in range(6):
        problem = scenarios[i].problem
        answer = baselines.make("modified-bb").decide(problem)
        full = baselines.make("full-ap").decide(problem)
        total = scenarios[i].evaluate(answer.decision).total_power
        assert total <= scenarios[i].evaluate(full.decision).total_power
        on = np.flatnonzero(answer.decision.active)
        solve = baselines.allocation.Allocator("fast")
        for m in on:
            smaller = answer.decision.active.copy()
            smaller[m] = False
            if smaller.any():
                power = solve(problem, smaller).transmit_power + problem.circuit_power_w * smaller.sum()
                assert power > total * (1 - 1e-4)


def test_random_is_reproducible_by_seed() -> None:
    observation = observations.encode(sample(SystemConfig(M=5, K=2), np.random.default_rng(0)))
    first, second = (baselines.make("random", seed=s).predict(observation)[0] for s in (4, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, baselines.make("random", seed=5).predict(observation)[0])


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'modified-b'.*did you mean 'modified-bb'.*full-ap"):
        baselines.make("modified-b")


def test_an_unknown_back_end_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown allocator 'gurobi'.*fast, clarabel, scs"):
        baselines.make("full-ap", backend="gurobi")


def test_reused_pilots_are_refused_where_the_solver_needs_orthogonal_ones() -> None:
    observation = observations.encode(sample(SystemConfig(M=5, K=4, pilot_length=2), np.random.default_rng(0)))
    with pytest.raises(ValueError, match=r"pilot"):
        baselines.make("modified-bb-paper").predict(observation)


@pytest.mark.parametrize("name", ["random", "max-power"])
def test_policies_without_a_solver_take_reused_pilots(name: str) -> None:
    env = gym.make("CfIsac-v0", M=5, K=4, pilot_length=2)
    observation, _ = env.reset(seed=0)
    action, _ = baselines.make(name).predict(observation)
    assert env.step(action)[4]["sinr_db"].shape == (4,)


def test_a_drop_that_cannot_be_served_is_reported_with_its_certificate() -> None:
    scenario = sample(SystemConfig(M=3, K=2, crlb_threshold_m2=1e-5), np.random.default_rng(0))
    answer = baselines.make("modified-bb").decide(scenario.problem)
    assert not answer.feasible
    assert answer.certificate is not None
    assert dual_bound(scenario.problem, answer.certificate.active, answer.certificate.multipliers) > 3 * 0.1
