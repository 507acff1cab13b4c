"""The order of APs and users, and critics that are told what actions come to."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.rl import agent, informed, models
from agents.rl.models import Run
from agents.rl.order import Order, Sorted
from agents.rl.parameters import hyper_parameters
from agents.rl.vec_env import SB3VecEnv
from cfisac_env import SystemConfig, actions, observations, reward, sample

torch.set_num_threads(1)

CONFIG = SystemConfig(7, 3, crlb_threshold_m2=20.0)
SHARED = SystemConfig(7, 3, pilot_length=2, crlb_threshold_m2=20.0)
BRIEF: dict[str, Any] = {"steps": 32, "envs": 4, "batch_size": 8, "buffer_size": 64, "warm_up": 16, "actor_from": 16}


def environments(config: SystemConfig = CONFIG) -> SB3VecEnv:
    venv = SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=4, autoreset_mode="SameStep", **config.as_dict()))
    venv.seed(3)
    return venv


def run_of(algorithm: str, config: SystemConfig = CONFIG) -> Run:
    return Run(algorithm, config, hyper_parameters(algorithm, config, "sorted-mlp", **BRIEF), policy="sorted-mlp")


def test_the_first_aps_tell_most_about_the_target_and_users_follow_them() -> None:
    scenario = sample(CONFIG, np.random.default_rng(0), 5)
    observation = observations.encode(scenario)
    order = Order.of(observation)
    for i in range(5):
        information = scenario.fisher[i, :, 0, 0] + scenario.fisher[i, :, 0, 1]
        assert order.aps[i].tolist() == sorted(range(7), key=lambda m: -information[m])
        place = {m: p for p, m in enumerate(order.aps[i])}
        best = scenario.gain[i].argmax(0)
        expected = sorted(range(3), key=lambda k: (place[best[k]], -scenario.gain[i, best[k], k]))
        assert order.users[i].tolist() == expected
    arranged = order.arrange(observation)
    assert (np.diff(arranged["sensing"][..., :2].max((-2, -1))) < 0.4).all()
    for key in ("ap", "ue", "comm"):
        assert not np.array_equal(arranged[key], observation[key])
    assert arranged["target"] is observation["target"]


@pytest.mark.parametrize("config", [CONFIG, SHARED])
def test_an_arranged_drop_earns_what_the_drop_earns(config: SystemConfig) -> None:
    plain, venv = environments(config), Sorted(environments(config))
    first: Any = plain.reset()
    arranged: Any = venv.reset()
    generator = np.random.default_rng(1)
    for _ in range(3):
        order = Order.of(first)
        action = generator.uniform(-1, 1, (4, 7, 4)).astype(np.float32)
        for key, value in order.arrange(first).items():
            np.testing.assert_array_equal(arranged[key], value)
        by_hand = np.empty_like(action)
        for i in range(4):
            for place, m in enumerate(order.aps[i]):
                by_hand[i, m, 0] = action[i, place, 0]
                for column, k in enumerate(order.users[i]):
                    by_hand[i, m, 1 + k] = action[i, place, 1 + column]
        first, rewards, _, infos = plain.step(by_hand)
        arranged, sorted_rewards, _, sorted_infos = venv.step(action)
        np.testing.assert_array_equal(rewards, sorted_rewards)
        last = {key: value[None] for key, value in infos[2]["terminal_observation"].items()}
        for key, value in Order.of(last).arrange(last).items():
            np.testing.assert_array_equal(sorted_infos[2]["terminal_observation"][key], value[0])


@pytest.mark.parametrize("algorithm", ["ddpg-paper", "sac"])
def test_actions_follow_the_numbering_of_aps_and_users(algorithm: str) -> None:
    run = run_of(algorithm)
    model = models.build(run, models.training_environments(run))
    learned = agent.agent_of(model.policy, run)
    with torch.no_grad():  # so that what is put out differs from place to place
        for parameter in model.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    observation = observations.encode(sample(CONFIG, np.random.default_rng(0), 3))
    aps, users = np.random.default_rng(1).permutation(7), np.random.default_rng(2).permutation(3)
    other = {
        key: value[:, aps] if key in ("ap", "comm", "sensing", "radar") else value for key, value in observation.items()
    }
    other["comm"], other["ue"] = other["comm"][:, :, users], other["ue"][:, users]
    first, second = learned.predict(observation)[0], learned.predict(other)[0]
    np.testing.assert_allclose(second, first[:, aps][:, :, [0, *(1 + users)]], atol=1e-6)
    assert np.ptp(first[..., 1:]) > 0.1
    single = {key: value[1] for key, value in observation.items()}
    np.testing.assert_allclose(learned.predict(single)[0], first[1], atol=1e-6)


def test_the_first_aps_are_on_at_first_and_the_hidden_layers_are_the_papers() -> None:
    run = run_of("ddpg-paper")
    venv = models.training_environments(run)
    model: Any = models.build(run, venv)
    action, _ = model.predict(venv.reset(), deterministic=True)
    assert (action[:, : round(run.parameters.first_on * 7), 0] > 0).all()
    assert (action[:, round(run.parameters.first_on * 7) :, 0] < 0).all()
    assert [layer.out_features for layer in model.actor.mu if isinstance(layer, torch.nn.Linear)] == [128, 64, 28]
    for network in model.critic.q_networks:
        assert [layer.out_features for layer in network if isinstance(layer, torch.nn.Linear)] == [64, 128, 1]


@pytest.mark.parametrize("algorithm", ["ddpg-paper", "td3", "sac"])
def test_critics_are_told_by_how_much_an_action_serves(algorithm: str) -> None:
    run = run_of(algorithm)
    model: Any = models.build(run, models.training_environments(run))
    critic = model.critic
    assert isinstance(critic, informed.InformedCritic)
    scenario = sample(CONFIG, np.random.default_rng(4), 6)
    observation = {key: torch.as_tensor(value) for key, value in observations.encode(scenario).items()}
    action = np.random.default_rng(5).uniform(-1, 1, (6, 7, 4)).astype(np.float32)
    told = critic.told(observation, torch.as_tensor(action).flatten(1)).numpy()
    decision = actions.decode(action, CONFIG.max_ap_power_w)
    outcome = scenario.evaluate(decision)
    np.testing.assert_allclose(10 ** told[:, :3] - 1e-3, outcome.sinr / CONFIG.sinr_threshold, rtol=5e-3, atol=1e-5)
    np.testing.assert_allclose(10 ** told[:, 3:4] - 1e-3, 20.0 / outcome.crlb, rtol=5e-3, atol=1e-4)
    np.testing.assert_allclose(told[:, 4:8], np.minimum(told[:, :4], 0.0))
    np.testing.assert_allclose(10 * told[:, 8], decision.active.sum(-1))
    np.testing.assert_allclose(10 * told[:, 9], decision.power.sum((-2, -1)) / CONFIG.max_ap_power_w, rtol=1e-5)
    values = critic(observation, torch.as_tensor(action).flatten(1))
    torch.testing.assert_close(critic.q1_forward(observation, torch.as_tensor(action).flatten(1)), values[0])


def test_where_users_share_pilots_critics_are_the_plain_ones_and_training_works(tmp_path: Any) -> None:
    from agents.rl import training

    run = run_of("ddpg-paper", SHARED)
    model: Any = models.build(run, models.training_environments(run))
    assert not isinstance(model.critic, informed.InformedCritic)
    assert training.train(run, tmp_path).curve[-1]["steps"] == 32


@pytest.mark.parametrize(("policy", "least", "most"), [("mlp", -np.inf, 0.1), ("sorted-mlp", 0.7, 1.0)])
def test_told_critics_explain_what_actions_earn_on_drops_that_they_have_not_seen(
    policy: str, least: float, most: float
) -> None:
    config = SystemConfig(30, 6, sinr_penalty=20.0, crlb_penalty=20.0)
    run = Run("ddpg-paper", config, hyper_parameters("ddpg-paper", config, policy), 0, policy)
    model: Any = models.build(run, models.training_environments(run))
    generator = np.random.default_rng(1)

    def drawn(n: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        scenario = sample(config, generator, n)
        seen = observations.encode(scenario)
        order = Order.of(seen)
        if policy == "sorted-mlp":
            seen = order.arrange(seen)
        observation = {key: torch.as_tensor(value) for key, value in seen.items()}
        with torch.no_grad():
            noise = 0.2 * torch.as_tensor(generator.standard_normal((n, 30 * 7)), dtype=torch.float32)
            action = (model.actor(observation) + noise).clamp(-1.0, 1.0)
        placed = action.numpy().reshape(n, 30, 7)
        outcome = scenario.evaluate(actions.decode(order.restore(placed) if policy == "sorted-mlp" else placed, 0.1))
        earned = np.sum(list(reward.terms(outcome, config, scenario.problem).values()), axis=0)
        return observation, action, torch.as_tensor(0.05 * earned, dtype=torch.float32)

    observation, action, earned = drawn(20_000)
    for _ in range(400):
        rows = torch.as_tensor(generator.integers(0, 20_000, 256))
        values = model.critic({key: value[rows] for key, value in observation.items()}, action[rows])
        loss = sum(((value[:, 0] - earned[rows]) ** 2).mean() for value in values)
        model.critic.optimizer.zero_grad()
        loss.backward()
        model.critic.optimizer.step()
    observation, action, earned = drawn(2_000)
    with torch.no_grad():
        missed = (model.critic(observation, action)[0][:, 0] - earned).square().mean()
    assert least < 1.0 - float(missed / earned.var()) < most
