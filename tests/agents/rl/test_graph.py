"""The graph policies: equivariant, of no size, and right about what an action comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.hetgnn import weights
from agents.hetgnn.graph import build
from agents.hetgnn.network import HetGnn, NetworkConfig
from agents.rl import agent, graph, models, training
from agents.rl.models import Run
from agents.rl.parameters import hyper_parameters
from cfisac_env import SystemConfig, actions, observations, physics, sample

torch.set_num_threads(1)

CONFIG = SystemConfig(7, 3, T=2, crlb_threshold_m2=20.0)
DIRECT = ("ddpg-paper", "td3", "sac", "ppo")
BRIEF: dict[str, Any] = {"steps": 32, "envs": 4, "batch_size": 8, "validate_every": 32, "checkpoint_every": 32}


def run_of(algorithm: str) -> Run:
    family = (
        {"rollout": 8, "epochs": 1} if "ppo" in algorithm else {"warm_up": 16, "gradient_steps": 1, "buffer_size": 64}
    )
    return Run(algorithm, CONFIG, hyper_parameters(algorithm, CONFIG, "graph", **BRIEF, **family), 1, "graph")


def renumbered(observation: dict[str, Any], aps: Any, users: Any) -> dict[str, Any]:
    """The same drops with their APs and users in another order."""
    result = dict(observation)
    for key in ("ap", "comm", "radar", "sensing", "power"):
        if key in result:
            result[key] = result[key][:, aps]
    result["comm"] = result["comm"][:, :, users]
    result["ue"] = result["ue"][:, users]
    if "power" in result:
        result["power"] = result["power"][:, :, users]
    return result


@pytest.mark.parametrize("algorithm", DIRECT)
def test_actions_follow_the_numbering_of_aps_and_users(algorithm: str) -> None:
    torch.manual_seed(0)
    policy: Any = models.empty_policy(run_of(algorithm))
    observation = observations.encode(sample(CONFIG, np.random.default_rng(0), 3))
    aps, users = np.random.default_rng(1).permutation(7), np.random.default_rng(2).permutation(3)
    first, _ = policy.predict(observation, deterministic=True)
    second, _ = policy.predict(renumbered(observation, aps, users), deterministic=True)
    expected = first[:, aps][:, :, [0, *(1 + users)]]
    np.testing.assert_allclose(second, expected, atol=2e-4)
    assert np.ptp(first[..., 0]) > 0
    assert (first[..., 0] > 0).all()  # from scratch: every AP on


def test_moves_follow_the_numbering_of_aps_and_see_the_set() -> None:
    torch.manual_seed(0)
    policy: Any = models.empty_policy(run_of("maskable-ppo"))
    rng = np.random.default_rng(3)
    observation = observations.encode(sample(CONFIG, rng, 2))
    on = rng.random((2, 7)) < 0.7
    observation["ap"][..., 2] = on
    observation["power"] = (rng.random((2, 7, 3)) * on[..., None] / 3).astype(np.float32)
    aps, users = rng.permutation(7), rng.permutation(3)

    def probabilities(seen: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = policy.get_distribution(policy.obs_to_tensor(seen)[0]).distribution.probs
        return result

    first, second = probabilities(observation), probabilities(renumbered(observation, aps, users))
    torch.testing.assert_close(second, first[:, [*aps, 7]], atol=1e-5, rtol=1e-4)
    alone = {**observation, "power": observation["power"] * 0.1}
    assert not torch.allclose(probabilities(alone), first, atol=1e-4)


def test_what_an_action_comes_to_is_what_the_physics_says() -> None:
    scenario = sample(CONFIG, np.random.default_rng(5), 4)
    action = np.random.default_rng(6).uniform(-1, 1, (4, 7, 4)).astype(np.float32)
    outcome = scenario.evaluate(actions.decode(action, CONFIG.max_ap_power_w))
    drops = build(observations.encode(scenario)).drops
    leaf = torch.tensor(action, requires_grad=True)
    on, load, user, target = graph.consequences(drops, leaf)
    decision = actions.decode(action, CONFIG.max_ap_power_w)
    np.testing.assert_array_equal(on.detach().numpy() > 0.5, decision.active)
    np.testing.assert_allclose(load.detach(), decision.power.sum(-1) / CONFIG.max_ap_power_w, atol=1e-5)
    margin = 10 ** user.detach().numpy() - 1e-3
    np.testing.assert_allclose(margin, outcome.sinr / CONFIG.sinr_threshold, rtol=5e-3, atol=1e-5)
    bound = physics.crlb(decision.power.sum(-1), scenario.fisher)
    np.testing.assert_allclose(10 ** target.detach().numpy() - 1e-3, 20.0 / bound, rtol=5e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(user.sum() + target.sum(), leaf)
    assert torch.isfinite(gradient).all()
    assert (gradient[..., 0] != 0).any()


def test_an_ap_that_is_off_hears_what_switching_it_on_would_come_to() -> None:
    drops = build(observations.encode(sample(CONFIG, np.random.default_rng(5), 4))).drops
    action = torch.full((4, 7, 4), -0.2)
    action[..., 0] = 0.4

    def amplitude(switch: torch.Tensor) -> torch.Tensor:
        third = torch.cat([switch.expand(4, 1, 1), action[:, 2:3, 1:]], -1)
        _, load, user, _ = graph.consequences(drops, torch.cat([action[:, :2], third, action[:, 3:]], 1))
        received = (10**user - 1e-3) * drops.sinr_threshold[:, None]
        return torch.sqrt(received * (torch.einsum("bm,bmk->bk", load, torch.exp(drops.log_gain)) + 1.0)).sum()

    switch = torch.tensor(-0.4, requires_grad=True)
    (slope,) = torch.autograd.grad(amplitude(switch), switch)
    soft = torch.sigmoid(torch.tensor(-1.6))
    difference = amplitude(torch.tensor(0.4)) - amplitude(torch.tensor(-0.4))
    expected = 4.0 * soft * (1 - soft) * difference  # a sigmoid's slope times the whole difference
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("algorithm", [*DIRECT, "maskable-ppo"])
def test_what_was_trained_at_one_size_plays_at_another(algorithm: str, tmp_path: Path) -> None:
    training.train(run_of(algorithm), tmp_path)
    learned = agent.load(algorithm, M=5, K=2, weights=tmp_path / training.BEST)
    observation, _ = gym.make("CfIsac-v0", M=5, K=2, T=3, crlb_threshold_m2=20.0).reset(seed=0)
    if algorithm == "maskable-ppo":
        assert learned.predict(observation)[0].shape == (5, 3)
        with pytest.raises(ValueError, match="built for M=5, but the observation has M=7"):
            learned.predict(gym.make("CfIsac-v0", M=7, K=3).reset(seed=0)[0])
    else:
        observation, _ = gym.make("CfIsac-v0", M=5, K=2, crlb_threshold_m2=20.0).reset(seed=0)
        action, _ = learned.predict(observation)
        assert action.shape == (5, 3)
        assert (np.abs(action) <= 1).all()


def test_a_policy_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'graph'"):
        Run("ddpg-paper", CONFIG, hyper_parameters("ddpg-paper", CONFIG), 0, "grph")
    assert Run("maskable-ppo", CONFIG, hyper_parameters("maskable-ppo", CONFIG)).policy == "graph"


@pytest.mark.parametrize("algorithm", ["ddpg-paper", "maskable-ppo"])
def test_a_graph_policy_starts_from_the_weights_of_a_hetgnn(algorithm: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = HetGnn(NetworkConfig(layers=1, edge_widths=(8,), node_widths=(8,), head_width=8, steps=3))
    path = weights.save(network, tmp_path / "hetgnn.safetensors", {})
    run = models.starting_from(run_of(algorithm), str(path))
    assert Run.from_dict(run.as_dict()) == run
    model = models.build(run, models.training_environments(run))
    found = [module for module in model.policy.modules() if isinstance(module, HetGnn)]
    assert found
    for module in found:
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in module.state_dict().items())
    if algorithm == "ddpg-paper":  # the untouched policy proposes what the network proposes
        observation = observations.encode(sample(CONFIG, np.random.default_rng(0), 3))
        with torch.no_grad():
            logits = network.propose(network.embed(build(observation)), torch.zeros(3, 7, dtype=torch.bool))
        action, _ = model.predict(observation, deterministic=True)
        np.testing.assert_allclose(action[..., 0], torch.tanh(logits), atol=1e-5)
    training.train(run, tmp_path / "run")
    path.unlink()
    loaded = agent.load(algorithm, weights=tmp_path / "run" / training.BEST)
    assert isinstance(loaded, agent.Agent)
    assert loaded.run == run


def test_only_a_graph_policy_starts_from_the_weights_of_a_hetgnn(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        models.starting_from(run_of("ddpg-paper"), str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match="only a graph policy can start"):
        Run("ddpg-paper", CONFIG, hyper_parameters("ddpg-paper", CONFIG), start_from="shipped")
