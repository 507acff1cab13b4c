"""Stable-Baselines3 trains on Gymnasium's vector environments, and sees in them what it sees in its own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import DDPG, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import cfisac_env
from agents.rl.vec_env import SB3VecEnv

SMALL: dict[str, Any] = {"M": 5, "K": 3, "sinr_penalty": 5.0, "crlb_penalty": 5.0}
N = 4


def native(**fields: Any) -> SB3VecEnv:
    return SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=N, autoreset_mode="SameStep", **(SMALL | fields)))


def sync(**fields: Any) -> SB3VecEnv:
    vector_kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP}
    fields = SMALL | fields
    return SB3VecEnv(
        gym.make_vec("CfIsac-v0", num_envs=N, vectorization_mode="sync", vector_kwargs=vector_kwargs, **fields)
    )


def theirs(**fields: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("CfIsac-v0", **(SMALL | fields)) for _ in range(N)])


def assert_same(ours: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert set(ours) == set(expected)
        for key in expected:
            assert_same(ours[key], expected[key])
    elif isinstance(expected, list | tuple):
        for one, other in zip(ours, expected, strict=True):
            assert_same(one, other)
    else:
        assert type(ours) is type(expected)
        assert getattr(ours, "dtype", None) == getattr(expected, "dtype", None)
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [native, sync])
@pytest.mark.parametrize("steps", [1, 3])
def test_it_says_what_the_vector_environment_of_sb3_says(make: Any, steps: int) -> None:
    ours, expected = make(episode_steps=steps), theirs(episode_steps=steps)
    assert ours.observation_space == expected.observation_space
    assert ours.action_space == expected.action_space
    for envs in (ours, expected):
        envs.seed(7)
    assert_same(ours.reset(), expected.reset())
    rng = np.random.default_rng(0)
    for _ in range(7):
        action = rng.uniform(-1, 1, (N, 5, 4)).astype(np.float32)
        assert_same(ours.step(action), expected.step(action))
        assert_same(ours.reset_infos, expected.reset_infos)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_end_of_an_episode_is_told_from_its_cutting_off(steps: int) -> None:
    envs = native(episode_steps=steps)
    envs.reset()
    action = np.zeros((N, 5, 4), np.float32)
    for _ in range(steps):
        observation, _, dones, infos = envs.step(action)
    assert dones.all()
    assert isinstance(observation, dict)
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is (steps > 1)
        np.testing.assert_array_equal(info["terminal_observation"]["ap"][:, 2], 1.0)
        np.testing.assert_array_equal(observation["ap"][i][:, 2], 0.0)
        assert isinstance(info["total_power_w"], float)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [(DDPG, {"learning_starts": 16, "batch_size": 16}), (PPO, {"n_steps": 8, "batch_size": 16, "n_epochs": 1})],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_sb3_trains_on_it_and_the_seed_decides_what_it_learns(algorithm: Any, options: Any, steps: int) -> None:
    def learned() -> list[np.ndarray[Any, Any]]:
        envs = VecMonitor(native(episode_steps=steps))
        model = algorithm("MultiInputPolicy", envs, seed=3, policy_kwargs={"net_arch": [8]}, **options)
        before = [p.detach().numpy().copy() for p in model.policy.parameters()]
        model.learn(64)
        assert model.num_timesteps == 64
        assert len(model.ep_info_buffer) > 0
        assert {episode["l"] for episode in model.ep_info_buffer} == {steps}
        after = [p.detach().numpy() for p in model.policy.parameters()]
        assert any((one != other).any() for one, other in zip(before, after, strict=True))
        return after

    for one, other in zip(learned(), learned(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sb3_evaluates_and_normalises_on_it() -> None:
    envs = VecNormalize(native(), norm_obs=False)
    model = PPO("MultiInputPolicy", envs, n_steps=8, batch_size=16, policy_kwargs={"net_arch": [8]})
    rewards, lengths = evaluate_policy(
        model, VecMonitor(native()), n_eval_episodes=8, return_episode_rewards=True, warn=False
    )
    assert isinstance(rewards, list)
    assert len(rewards) == 8
    assert max(rewards) < 0.0
    assert lengths == [1] * 8


def test_options_of_a_reset_reach_the_environments() -> None:
    drops = cfisac_env.sample(cfisac_env.SystemConfig(M=5, K=3), np.random.default_rng(0), 3)
    envs = SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=N, autoreset_mode="SameStep", drops=drops))
    envs.set_options({"drop": 2})
    observation = envs.reset()
    assert isinstance(observation, dict)
    np.testing.assert_allclose(observation["ue"][1] * 250, drops.ue_xy[2], rtol=1e-6)
    observation = envs.reset()  # options are used once; the next drop is the first again
    assert isinstance(observation, dict)
    np.testing.assert_allclose(observation["ue"][1] * 250, drops.ue_xy[0], rtol=1e-6)
    envs.set_options([{"drop": i % 3} for i in range(N)])
    with pytest.raises(ValueError, match="same reset options"):
        envs.reset()


def test_attributes_and_methods_of_environments_can_be_reached() -> None:
    for envs in (native(), sync()):
        assert [config.K for config in envs.get_attr("config", [0, 2])] == [3, 3]
        envs.seed(4)
        envs.reset()
        assert envs.get_attr("np_random_seed") == [4, 5, 6, 7]
        assert [drop.batch_shape for drop in envs.get_attr("scenario")] == [()] * N
        assert envs.env_is_wrapped(Monitor) == [False] * N
        with pytest.raises(AttributeError):
            envs.get_attr("nothing")
    single = sync()
    single.set_attr("mark", 3, indices=1)
    assert single.get_attr("mark", 1) == [3]
    single.reset()
    assert len(single.env_method("reset", seed=1, indices=[0, 3])) == 2
    for use in (lambda: native().set_attr("mark", 3), lambda: native().env_method("reset")):
        with pytest.raises(AttributeError, match=r"vectorization_mode=\"sync\""):
            use()


def test_environments_that_sb3_cannot_use_are_refused() -> None:
    with pytest.raises(ValueError, match=r"NEXT_STEP.*SameStep"):
        SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=2, **SMALL))
    with pytest.raises(TypeError, match=r"VectorEnv.*got"):
        SB3VecEnv(gym.make("CfIsac-v0", **SMALL))  # type: ignore[arg-type]
