"""Wrappers on every id, alone and in vectors: order, flat arrays, the six-tuple of constrained RL."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorEnv

import baselines
from cfisac_env import Scenario, SystemConfig, sample, wrappers
from cfisac_env.wrappers import vector as vector_wrappers

FIRST = 1_000_000
SMALL: dict[str, Any] = {"M": 6, "K": 3, "T": 4, "crlb_threshold_m2": 5.0}
IDS: dict[str, dict[str, Any]] = {
    "CfIsac-v0": {"decisions_per_drop": 2, "K": 5, "pilot_length": 3},
    "CfIsacMobile-v0": {"episode_steps": 3, "switching_energy_j": 1.0, "wake_up_steps": 1},
    "CfIsacActivation-v0": {"decisions_per_drop": 2, "action_type": "multi-binary"},
    "CfIsacPriority-v0": {"decisions_per_drop": 2},
    "CfIsacSequential-v0": {"max_moves": 3},
}
BOXES = [name for name in IDS if name in ("CfIsac-v0", "CfIsacMobile-v0")]
NUMBERED = {"M": ("ap_xy", "gain", "estimate_gain", "rcs_gain", "fisher"), "K": ("ue_xy",)}


def single(name: str, **fields: Any) -> gym.Env[Any, Any]:
    return gym.make(name, **(SMALL | IDS[name] | fields))


def many(name: str, autoreset: str = "SameStep", n: int = 3, **fields: Any) -> VectorEnv[Any, Any, Any]:
    fields = SMALL | IDS[name] | fields
    if gym.spec(name).vector_entry_point is not None:
        return gym.make_vec(name, num_envs=n, autoreset_mode=autoreset, **fields)
    return gym.make_vec(
        name, num_envs=n, vectorization_mode="sync", vector_kwargs={"autoreset_mode": autoreset}, **fields
    )


def renumbered(drops: Scenario, aps: Any, users: Any) -> Scenario:
    """The same networks, counted in another order."""
    arrays = {name: getattr(drops, name)[:, aps] for name in NUMBERED["M"]}
    arrays |= {name: arrays[name][:, :, users] for name in ("gain", "estimate_gain")}
    return replace(drops, ue_xy=drops.ue_xy[:, users], **arrays)


@pytest.mark.parametrize("name", [name for name in IDS if name != "CfIsacMobile-v0"])
def test_in_order_no_numbering_of_aps_and_users_is_seen(name: str) -> None:
    config = SystemConfig(**SMALL)
    drops = sample(config, np.random.default_rng(FIRST), 4)
    rng = np.random.default_rng(1)
    options = {key: value for key, value in IDS[name].items() if key not in ("K", "pilot_length")}
    first, second = (
        wrappers.CanonicalOrder(gym.make(name, drops=one, **options))
        for one in (drops, renumbered(drops, rng.permutation(6), rng.permutation(3)))
    )
    for _ in range(4):
        seen, other = (env.reset()[0] for env in (first, second))
        over = False
        while not over:
            for key in seen:
                np.testing.assert_allclose(seen[key], other[key], rtol=1e-5, atol=1e-6, err_msg=key)
            if name == "CfIsacSequential-v0":
                np.testing.assert_array_equal(first.action_masks(), second.action_masks())
            action = first.action_space.sample()
            (seen, reward, *ends, _), (other, expected, *_) = (env.step(action) for env in (first, second))
            assert float(reward) == pytest.approx(float(expected), rel=1e-5)
            over = any(ends)


def test_the_first_ap_knows_most_and_the_first_user_hears_it_best() -> None:
    env = wrappers.CanonicalOrder(gym.make("CfIsac-v0", M=8, K=4, decisions_per_drop=2))
    core: Any = env.unwrapped
    observation, _ = env.reset(seed=FIRST)
    drop = core.scenario
    assert env.order.aps[0] == np.argmax(drop.fisher[:, 0, :2].sum(-1))
    strongest = np.argmax(drop.gain, axis=0)
    places = [list(env.order.aps).index(strongest[user]) for user in env.order.users]
    assert places == sorted(places)
    np.testing.assert_allclose(observation["ue"][0] * 250.0, drop.ue_xy[env.order.users[0]], rtol=1e-5)
    action = np.full((8, 5), -1.0, np.float32)
    action[0, 0], action[0, 1] = 1.0, 1.0
    observation, _, _, _, info = env.step(action)
    np.testing.assert_array_equal(observation["ap"][:, 2], [1.0] + [0.0] * 7)
    assert np.flatnonzero(info["sinr_db"] > -300.0).tolist() == [env.order.users[0]]


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.parametrize("name", IDS)
def test_wrapped_environments_pass_the_check_and_survive_pickling(name: str) -> None:
    chosen: list[Any] = [wrappers.CanonicalOrder, wrappers.FlatObservation]
    chosen += [wrappers.FlatAction] if name in BOXES else []
    env = single(name)
    for wrapper in chosen:
        env = wrapper(env)
        check_env(copy.deepcopy(env), skip_render_check=True)
    env.reset(seed=FIRST)
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(2):
        action = env.action_space.sample()
        for ours, theirs in zip(env.step(action)[:4], twin.step(action)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("autoreset", ["SameStep", "NextStep"])
@pytest.mark.parametrize("name", IDS)
def test_wrapped_vectors_give_what_wrapped_single_environments_give(name: str, autoreset: str) -> None:
    flat: Any = vector_wrappers.FlatObservation(vector_wrappers.CanonicalOrder(many(name, autoreset)))
    costly: Any = vector_wrappers.SafetyGymnasium(flat)
    alone: list[Any] = [
        wrappers.SafetyGymnasium(wrappers.FlatObservation(wrappers.CanonicalOrder(single(name)))) for _ in range(3)
    ]
    assert flat.single_observation_space == alone[0].observation_space
    assert flat.single_action_space == alone[0].action_space
    observation, _ = costly.reset(seed=FIRST)
    expected = np.stack([env.reset(seed=FIRST + i)[0] for i, env in enumerate(alone)])
    np.testing.assert_array_equal(observation, expected)
    over = np.zeros(3, dtype=bool)
    costly.action_space.seed(2)
    for _ in range(8):
        actions = costly.action_space.sample()
        observation, rewards, costs, terminations, truncations, infos = costly.step(actions)
        assert costly.observation_space.contains(observation)
        for i, env in enumerate(alone):
            if over[i] and autoreset == "NextStep":
                seen, reward, cost, over[i] = env.reset()[0], 0.0, 0.0, False
            else:
                seen, reward, cost, terminated, truncated, info = env.step(actions[i])
                assert cost == info["cost"]
                over[i] = terminated or truncated
                if over[i] and autoreset == "SameStep":
                    np.testing.assert_array_equal(infos["final_obs"][i], seen)
                    seen = env.reset()[0]
            np.testing.assert_array_equal(observation[i], seen)
            assert (rewards[i], costs[i]) == pytest.approx((reward, cost), rel=1e-12)
            if autoreset == "NextStep":
                assert bool(terminations[i] or truncations[i]) == over[i]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_flat_actions_are_the_rows_of_the_matrix(backend: str) -> None:
    fields: dict[str, Any] = {"backend": backend, "autoreset_mode": "SameStep"}
    plain, flat = (
        many("CfIsac-v0"),
        vector_wrappers.FlatAction(gym.make_vec("CfIsac-v0", num_envs=3, **(SMALL | IDS["CfIsac-v0"] | fields))),
    )
    costly = vector_wrappers.SafetyGymnasium(vector_wrappers.FlatObservation(flat))
    alone = wrappers.FlatAction(single("CfIsac-v0"))
    for envs in (plain, costly):
        envs.reset(seed=FIRST)
    alone.reset(seed=FIRST + 1)
    assert flat.single_action_space == alone.action_space == gym.spaces.Box(-1.0, 1.0, (36,), np.float32)
    actions = plain.action_space.sample()
    expected = plain.step(actions)[1]
    rows = actions.reshape(3, 36)
    rewards = costly.step(np.asarray(rows) if backend == "numpy" else torch.as_tensor(rows))[1]
    np.testing.assert_allclose(np.asarray(rewards), expected, rtol=1e-12)
    assert float(alone.step(rows[1])[1]) == pytest.approx(expected[1])
    with pytest.raises(ValueError, match=r"the flat action must have shape \(36,\), got \(35,\)"):
        alone.step(rows[1, :35])


def test_policies_of_constrained_rl_get_power_and_violation_apart() -> None:
    env = wrappers.SafetyGymnasium(gym.make("CfIsac-v0", M=12, K=3, reward="power"))
    oracle, served = baselines.make("most-informative"), 0
    for seed in range(FIRST, FIRST + 10):
        observation, _ = env.reset(seed=seed)
        action, _ = oracle.predict(observation)
        _, reward, cost, terminated, _, info = env.step(action)
        assert terminated
        assert reward == -info["total_power_w"]
        assert info["feasible"] == (cost < 1e-4)
        served += info["feasible"]
    assert served >= 5


@pytest.mark.parametrize("autoreset", ["SameStep", "NextStep"])
@pytest.mark.parametrize("name", IDS)
def test_vector_rewards_are_power_and_cost_of_every_decision_and_of_no_reset(name: str, autoreset: str) -> None:
    envs: Any = vector_wrappers.MOGymnasium(many(name, autoreset))
    alone: list[Any] = [wrappers.MOGymnasium(single(name)) for _ in range(3)]
    envs.reset(seed=FIRST)
    for i, env in enumerate(alone):
        env.reset(seed=FIRST + i)
    over = np.zeros(3, dtype=bool)
    envs.action_space.seed(2)
    for _ in range(8):
        actions = envs.action_space.sample()
        rewards = envs.step(actions)[1]
        assert envs.reward_space.contains(rewards)
        for i, env in enumerate(alone):
            expected = np.zeros(2)
            if over[i] and autoreset == "NextStep":
                env.reset()
                over[i] = False
            else:
                _, reward, terminated, truncated, info = env.step(actions[i])
                assert env.unwrapped.reward_space.contains(reward)
                joules = info.get("energy_j", info["total_power_w"])  # steps of one second
                expected, over[i] = np.array([-joules, -info["cost"]]), terminated or truncated
                np.testing.assert_allclose(reward, expected, rtol=1e-6)
                if over[i] and autoreset == "SameStep":
                    env.reset()
            np.testing.assert_allclose(rewards[i], expected, rtol=1e-6)


def test_what_has_no_order_or_cannot_be_flattened_is_refused() -> None:
    env = single("CfIsac-v0")
    with pytest.raises(TypeError, match="sensing, comm isn't in the observation space"):
        wrappers.CanonicalOrder(wrappers.FlatObservation(env))
    with pytest.raises(TypeError, match=r"actions of shape \(6, 6\) or \(6,\), or Discrete\(7\), got Box"):
        wrappers.CanonicalOrder(wrappers.FlatAction(env))
    with pytest.raises(TypeError, match="flattens a Box of actions, got Discrete"):
        wrappers.FlatAction(single("CfIsacSequential-v0"))
    with pytest.raises(TypeError, match="sensing, comm isn't in the observation space"):
        wrappers.CanonicalOrder(gym.make("CfIsacImprovement-v0", **SMALL))
    with pytest.raises(TypeError, match="leave backend='torch' out"):
        vector_wrappers.CanonicalOrder(gym.make_vec("CfIsac-v0", num_envs=2, backend="torch", **SMALL))
    for wrapped in (wrappers.CanonicalOrder(env), vector_wrappers.CanonicalOrder(many("CfIsac-v0"))):
        with pytest.raises(RuntimeError, match=r"ha(s|ve) to be reset"):
            wrapped.step(wrapped.action_space.sample())


def test_masks_of_a_wrapped_environment_are_for_the_places() -> None:
    env = wrappers.CanonicalOrder(single("CfIsacSequential-v0", start="strongest", max_moves=50))
    core: Any = env.unwrapped
    env.reset(seed=FIRST)
    for _ in range(20):
        mask = env.action_masks()
        np.testing.assert_array_equal(mask[:-1], core.action_masks()[env.order.aps])
        assert mask[-1] == core.action_masks()[-1]
        allowed = np.flatnonzero(mask[:-1])
        before = core._decision.active.copy()
        env.step(allowed[0])
        changed = np.flatnonzero(before != core._decision.active)
        assert changed.tolist() == [env.order.aps[allowed[0]]]
