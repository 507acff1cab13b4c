"""The graph policy of MaskablePPO: equivariant, and of no fixed size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.hetgnn.network import NetworkConfig
from agents.rl import building, loading, training
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from cfisac_env import SystemConfig, observations, sample

torch.set_num_threads(1)

CONFIG = SystemConfig(7, 3, T=2, crlb_threshold_m2=20.0)
NETWORK = NetworkConfig(layers=1, edge_widths=(8,), node_widths=(8,), head_width=8)
BRIEF: dict[str, Any] = {
    "steps": 32, "envs": 4, "batch_size": 8, "validate_every": 32, "checkpoint_every": 32, "rollout": 8, "epochs": 1,
}  # fmt: skip
RUN = Run("maskable-ppo", CONFIG, hyper_parameters("maskable-ppo", **BRIEF), 1, NETWORK)


def test_logits_follow_the_numbering_of_aps_and_depend_on_the_powers_of_the_set() -> None:
    torch.manual_seed(0)
    policy: Any = building.empty_policy(RUN)
    rng = np.random.default_rng(3)
    observation = observations.encode(sample(CONFIG, rng, 2))
    on = rng.random((2, 7)) < 0.7
    observation["ap"][..., 2] = on
    observation["power"] = (rng.random((2, 7, 3)) * on[..., None] / 3).astype(np.float32)
    aps, users = rng.permutation(7), rng.permutation(3)
    other = observation | {key: observation[key][:, aps] for key in ("ap", "radar", "sensing")}
    other |= {key: observation[key][:, aps][:, :, users] for key in ("comm", "power")}
    other["ue"] = observation["ue"][:, users]

    def probabilities(seen: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = policy.get_distribution(policy.obs_to_tensor(seen)[0]).distribution.probs
        return result

    first = probabilities(observation)
    torch.testing.assert_close(probabilities(other), first[:, [*aps, 7]], atol=1e-5, rtol=1e-4)
    weaker = {**observation, "power": observation["power"] * 0.1}
    assert not torch.allclose(probabilities(weaker), first, atol=1e-4)


def test_an_agent_that_was_trained_at_one_size_plays_another(tmp_path: Path) -> None:
    training.train(RUN, tmp_path)
    learned = loading.load("maskable-ppo", M=5, K=2, weights=tmp_path / training.BEST)
    observation, _ = gym.make("CfIsac-v0", M=5, K=2, T=3, crlb_threshold_m2=20.0).reset(seed=0)
    assert learned.predict(observation)[0].shape == (5, 3)
    with pytest.raises(ValueError, match="built for M=5, but the observation has M=7"):
        learned.predict(gym.make("CfIsac-v0", M=7, K=3).reset(seed=0)[0])


def test_the_network_is_written_with_the_run_and_read_again(tmp_path: Path) -> None:
    assert Run.from_dict(RUN.as_dict()) == RUN
    with pytest.raises(ValueError, match="ppo has fixed MLPs; leave network out"):
        Run("ppo", CONFIG, hyper_parameters("ppo"), network=NETWORK)
