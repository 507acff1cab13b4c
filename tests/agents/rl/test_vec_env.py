"""Adapter to Stable-Baselines3: equal to its own vector environments, and trained on."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
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
    return DummyVecEnv([lambda: Monitor(gym.make("CfIsac-v0", **(SMALL | fields))) for _ in range(N)])


def assert_same(ours: Any, expected: Any) -> None:
    """Keys, kinds and numbers are the same."""
    if isinstance(expected, dict):
        assert set(ours) == set(expected)
        for key in expected:
            if key != "t":  # of an episode: seconds
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
def test_steps_and_resets_equal_those_of_sb3s_dummy_vec_env(make: Any, steps: int) -> None:
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
def test_termination_is_told_from_truncation(steps: int) -> None:
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
        assert info["episode"]["l"] == steps


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


@pytest.mark.parametrize("make", [native, sync])
def test_options_can_differ_from_environment_to_environment(make: Any) -> None:
    drops = cfisac_env.sample(cfisac_env.SystemConfig(M=5, K=3), np.random.default_rng(0), 3)
    ours, expected = make(drops=drops), theirs(drops=drops)
    lists: list[Any] = [[{"drop": i % 3} for i in range(N)], [{}, {"drop": 2}, {}, {"drop": 2}], {"drop": 1}, None]
    for seed in (None, 7):
        for options in lists:
            for envs in (ours, expected):
                envs.seed(seed)
                envs.set_options(options)
            if seed is not None or options is lists[0]:
                assert_same(ours.reset(), expected.reset())
    for options, message in (([{}], "a list of 4"), ([{"dorp": 1}, {}, {}, {}], "did you mean 'drop'")):
        ours.set_options(options)
        with pytest.raises(ValueError, match=message):
            ours.reset()


@pytest.mark.parametrize("make", [native, sync])
@pytest.mark.parametrize("recording", [False, True], ids=["", "recorded below"])
def test_sb3_receives_episode_returns(make: Any, recording: bool) -> None:
    envs = make(episode_steps=3)
    if recording:
        envs = SB3VecEnv(RecordEpisodeStatistics(envs.env))
    model = PPO("MultiInputPolicy", envs, n_steps=9, batch_size=12, n_epochs=1, policy_kwargs={"net_arch": [8]})
    model.learn(36)
    episodes = list(model.ep_info_buffer or [])
    assert len(episodes) == 3 * N
    assert {int(episode["l"]) for episode in episodes} == {3}
    assert all(-1e5 < episode["r"] < 0.0 <= episode["t"] for episode in episodes)
    assert len(model.ep_success_buffer or []) == 3 * N


def test_attributes_and_methods_of_environments_can_be_reached() -> None:
    for envs in (native(), sync()):
        assert [config.K for config in envs.get_attr("config", [0, 2])] == [3, 3]
        envs.seed(4)
        envs.reset()
        assert envs.get_attr("np_random_seed") == [4, 5, 6, 7]
        assert [drop.batch_shape for drop in envs.get_attr("scenario")] == [()] * N
        assert envs.get_attr("observation_space") == [envs.observation_space] * N
        assert envs.env_is_wrapped(Monitor) == [False] * N
        with pytest.raises(AttributeError):
            envs.get_attr("nothing")
        envs.set_attr("sinr_penalty", 70.0)
        assert envs.env_method("configure", crlb_penalty=0.0) == [None] * N
        assert envs.get_attr("sinr_penalty") == [70.0] * N
        _, _, _, infos = envs.step(np.full((N, 5, 4), -1.0, np.float32))
        assert [info["reward_terms"]["sinr"] for info in infos] == [-210.0] * N
        for name in ("mark", "M", "episode_steps", "sinr_penalti"):
            with pytest.raises(AttributeError):
                envs.set_attr(name, 3)
    single = sync()
    single.reset()
    single.set_attr("sinr_penalty", 3.0, indices=1)
    assert single.get_attr("sinr_penalty", [0, 1]) == [5.0, 3.0]
    assert len(single.env_method("reset", seed=1, indices=[0, 3])) == 2
    for use in (lambda: native().set_attr("sinr_penalty", 3.0, 1), lambda: native().env_method("configure", indices=2)):
        with pytest.raises(ValueError, match=r"vectorization_mode=\"sync\""):
            use()
    with pytest.raises(AttributeError, match=r"vectorization_mode=\"sync\""):
        native().env_method("reset")


def test_environments_that_sb3_cannot_use_are_refused() -> None:
    with pytest.raises(ValueError, match=r"NEXT_STEP.*SameStep"):
        SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=2, **SMALL))
    with pytest.raises(TypeError, match=r"VectorEnv.*got"):
        SB3VecEnv(gym.make("CfIsac-v0", **SMALL))  # type: ignore[arg-type]
    tensors = gym.make_vec("CfIsac-v0", num_envs=2, autoreset_mode="SameStep", backend="torch", **SMALL)
    for envs in (tensors, RecordEpisodeStatistics(tensors)):
        with pytest.raises(TypeError, match=r"NumPy arrays.*torch tensors"):
            SB3VecEnv(envs)
