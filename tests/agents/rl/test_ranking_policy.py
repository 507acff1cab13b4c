"""The policy class for stock PPO on `CfIsacPriority-v0`: equivariant, of no fixed size, and a proper distribution."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import cfisac_env  # noqa: F401
from agents.rl.ranking_features import LEAST_POWER
from agents.rl.ranking_policy import RankingPolicy

torch.set_num_threads(1)


def environment(M: int = 8, K: int = 3, **options: Any) -> gym.Env[Any, Any]:
    return gym.make("CfIsacPriority-v0", M=M, K=K, preset="urban", relaxed=True, reward="log", **options)


def model_of(env: Any, **options: Any) -> PPO:
    """A model whose scores aren't those of the start."""
    model = PPO(RankingPolicy, env, seed=0, device="cpu", **options)
    torch.manual_seed(1)
    for parameter in model.policy.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def test_before_training_aps_are_ranked_by_their_powers_with_every_ap_on() -> None:
    env = environment()
    policy = PPO(RankingPolicy, env, device="cpu").policy
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        power = (observation["power"].astype(float) ** 2).sum(-1)
        ranked = np.argsort(-policy.predict(observation, deterministic=True)[0])
        first = int((power > 2 * LEAST_POWER).sum())
        assert first > 0
        np.testing.assert_allclose(power[ranked[:first]], np.sort(power)[::-1][:first], rtol=1e-5)


def test_priorities_follow_the_numbering_of_aps_and_not_that_of_users() -> None:
    env = environment()
    policy = model_of(env).policy
    observation, _ = env.reset(seed=3)
    rng = np.random.default_rng(0)
    aps, users = rng.permutation(8), rng.permutation(3)
    other = observation | {key: observation[key][aps] for key in ("ap", "radar", "sensing")}
    other |= {key: observation[key][aps][:, users] for key in ("comm", "power")}
    other["ue"] = observation["ue"][users]
    first, second = (policy.predict(one, deterministic=True)[0] for one in (observation, other))
    np.testing.assert_array_equal(second, first[aps])


def test_the_probabilities_of_all_rankings_sum_to_one_and_draws_have_them() -> None:
    env = environment(4, 1)
    policy = model_of(env).policy
    observation, _ = env.reset(seed=0)
    every = list(permutations(range(4)))
    actions = torch.tensor([[1.0 - 2.0 * ranking.index(m) / 3.0 for m in range(4)] for ranking in every])
    drops = {key: torch.as_tensor(value)[None].expand(2000, *value.shape) for key, value in observation.items()}
    with torch.no_grad():
        seen = policy.get_distribution({key: value[:24] for key, value in drops.items()})
        drawn = int(seen.drawn[0])  # type: ignore[attr-defined]
        probability = {
            ranking[:drawn]: float(p) for ranking, p in zip(every, seen.log_prob(actions).exp(), strict=True)
        }
        assert sum(probability.values()) == pytest.approx(1.0, abs=1e-5)
        assert drawn >= 3
        sampled = torch.argsort(policy.get_distribution(drops).sample(), dim=1, descending=True)[:, :drawn].tolist()
    for ranking, p in probability.items():
        share = sum(tuple(one) == ranking for one in sampled) / 2000
        assert abs(share - p) < 4.0 * np.sqrt(p * (1.0 - p) / 2000) + 1e-3


def test_a_model_comes_back_from_its_file_and_predicts_at_other_sizes(tmp_path: Path) -> None:
    env = environment()
    model = model_of(env, n_steps=8, batch_size=8, n_epochs=1, policy_kwargs={"width": 8}).learn(8)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    larger = environment(13, 5)
    observations = [larger.reset(seed=seed)[0] for seed in range(2)]
    batch = {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    together, _ = loaded.predict(batch, deterministic=True)
    for observation, row in zip(observations, together, strict=True):
        np.testing.assert_array_equal(row, model.predict(observation, deterministic=True)[0])
        np.testing.assert_allclose(np.sort(row), np.linspace(-1.0, 1.0, 13), atol=1e-6)


def test_foreign_environments_and_observations_are_refused() -> None:
    for other in (gym.make("CfIsacPriority-v0", M=8, K=3), gym.make("CfIsac-v0", M=8, K=3)):
        with pytest.raises(TypeError, match="needs CfIsacPriority-v0 with relaxed=True"):
            PPO(RankingPolicy, other, device="cpu")
    policy = PPO(RankingPolicy, environment(), device="cpu").policy
    with pytest.raises(ValueError, match="lacks power: make CfIsacPriority-v0 with relaxed=True"):
        policy.predict(gym.make("CfIsac-v0", M=8, K=3).reset(seed=0)[0])
    with pytest.raises(TypeError, match="reads the Dict observation"):
        policy.predict(np.zeros(3))


def test_a_ranking_whose_probability_is_raised_becomes_the_decision() -> None:
    env = environment()
    policy = model_of(env).policy
    observation, _ = env.reset(seed=1)
    wanted = np.argsort(policy.predict(observation, deterministic=True)[0])  # the opposite of the present decision
    action = torch.empty(1, 8)
    action[0, torch.from_numpy(wanted)] = torch.linspace(1.0, -1.0, 8)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    seen, _ = policy.obs_to_tensor(observation)
    for _ in range(80):
        optimizer.zero_grad()
        torch.autograd.backward(-policy.evaluate_actions(seen, action)[1].sum())
        optimizer.step()
    drawn = int(policy.get_distribution(seen).drawn[0])  # type: ignore[attr-defined]
    ranked = np.argsort(-policy.predict(observation, deterministic=True)[0])
    np.testing.assert_array_equal(ranked[:drawn], wanted[:drawn])
