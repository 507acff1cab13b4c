"""`CfIsacMobile-v0`: what moves, what stays, what switching costs, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import baselines
from cfisac_env import CfIsacMobileEnv, Decision, Scenario, actions, observations
from cfisac_env.mobile import switching
from cfisac_env.mobility import CorrelatedShadowing, RandomWaypoint

Floats = NDArray[np.float64]
SMALL: dict[str, Any] = {"M": 6, "K": 3}


def make(**fields: Any) -> CfIsacMobileEnv:
    env = gym.make("CfIsacMobile-v0", **(SMALL | fields)).unwrapped
    assert isinstance(env, CfIsacMobileEnv)
    return env


def random_actions(env: CfIsacMobileEnv, steps: int, seed: int = 0) -> NDArray[np.float32]:
    shape = (steps, env.config.M, env.config.K + 1)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


class Orbit:
    """Everybody circles the centre at 100 m, 0.1 rad an instant."""

    def trajectory(self, rng: Any, start_xy: Floats, radius_m: float, steps: int, step_s: float) -> Floats:
        """Go round."""
        angle = 0.1 * np.arange(steps)[:, None] + np.arange(len(start_xy))
        return 100.0 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


class NoShadowing:
    """0 dB everywhere."""

    def series(self, rng: Any, ap_xy: Floats, ue_xy: Floats, std_db: float) -> Floats:
        """Say 0."""
        return np.zeros((len(ue_xy), len(ap_xy), ue_xy.shape[1]))


def test_an_episode_is_fifty_seconds_of_walking_users_and_a_driving_target() -> None:
    env = make(M=10, K=6)
    env.reset(seed=0)
    ue, target = [env.scenario.ue_xy], [env.scenario.target_xy]
    np.testing.assert_array_equal(target[0], [[0.0, 0.0]])
    for step, action in enumerate(random_actions(env, 50)):
        _, _, terminated, truncated, _ = env.step(action)
        assert not terminated
        assert truncated == (step == 49)
        if not truncated:
            ue.append(env.scenario.ue_xy)
            target.append(env.scenario.target_xy)
    walked = np.linalg.norm(np.diff(ue, axis=0), axis=-1)
    driven = np.linalg.norm(np.diff(target, axis=0), axis=-1)
    assert walked.max() <= 1.5 + 1e-9
    assert np.median(walked) == pytest.approx(1.5)
    assert ((driven > 14.97) & (driven <= 15 + 1e-9)).all()
    assert max(np.linalg.norm(ue, axis=-1).max(), np.linalg.norm(target, axis=-1).max()) <= 250 * (1 + 1e-9)


@pytest.mark.parametrize(
    "fields",
    [{}, {"S": 2, "rcs_model": "exponential"}, {"K": 5, "pilot_length": 2, "pilot_assignment": "random"}],
    ids=str,
)
def test_at_no_speed_every_step_shows_the_same_scenario(fields: dict[str, Any]) -> None:
    env = make(user_speed_m_s=0.0, target_speed_m_s=0.0, **fields)
    first, _ = env.reset(seed=1)
    constant = set(first) - {"ap", "wait", "sequence"}
    assert {"comm", "sensing", "radar", "ue", "target"} <= constant
    for action in random_actions(env, 50):
        observation, *_ = env.step(action)
        for key in constant:
            np.testing.assert_array_equal(observation[key], first[key])
        np.testing.assert_array_equal(observation["ap"][:, :2], first["ap"][:, :2])


def test_the_further_users_and_targets_move_the_more_the_scenario_changes() -> None:
    changes = []
    for scale in (0.01, 0.1, 1.0):
        env = make(user_speed_m_s=scale * 1.5, target_speed_m_s=scale * 15)
        moved = []
        for seed in range(5):
            env.reset(seed=seed)
            log_gain, log_fisher = np.log(env.trajectory.gain), np.log(env.trajectory.fisher[..., :2].sum(-1))
            moved.append([np.abs(np.diff(x, axis=0)).mean() for x in (log_gain, log_fisher)])
        changes.append(np.mean(moved, axis=0))
    assert (changes[0] > 0).all()
    assert (changes[1] > 2 * changes[0]).all()
    assert (changes[2] > 2 * changes[1]).all()


def test_gains_are_path_loss_at_the_distance_with_the_shadowing_of_the_strategy() -> None:
    env = make(shadowing=NoShadowing(), user_motion=Orbit(), S=2, target_motion=Orbit())
    env.reset(seed=2)
    trajectory = env.trajectory
    for step in (0, 7, 49):
        for k in range(3):
            at = 100.0 * np.array([math.cos(0.1 * step + k), math.sin(0.1 * step + k)])
            np.testing.assert_allclose(trajectory.ue_xy[step, k], at)
            for m in range(6):
                distance_km = max(10.0, math.dist(trajectory.ap_xy[step, m], at)) / 1000
                expected_db = -120.9 - 37.6 * math.log10(distance_km)
                assert 10 * math.log10(trajectory.gain[step, m, k]) == pytest.approx(expected_db)
    np.testing.assert_allclose(trajectory.target_xy, trajectory.ue_xy[:, :2])
    assert len(np.unique(trajectory.ap_xy, axis=0)) == len(np.unique(trajectory.sr_xy, axis=0)) == 1


def test_the_shadowing_of_an_episode_has_the_correlation_of_the_walk() -> None:
    env = make(M=100, K=10, user_speed_m_s=3.0, episode_steps=20)
    products: dict[int, list[float]] = {1: [], 4: [], 12: []}
    for seed in range(6):
        env.reset(seed=seed)
        one = env.trajectory
        distance = np.maximum(np.linalg.norm(one.ap_xy[:, :, None] - one.ue_xy[:, None], axis=-1), 10.0)
        shadowing = 10 * np.log10(one.gain) + 120.9 + 37.6 * np.log10(distance / 1000)
        for lag, values in products.items():
            apart = np.linalg.norm(one.ue_xy[lag:] - one.ue_xy[:-lag], axis=-1)[:, None]
            values.append(float(np.mean(shadowing[lag:] * shadowing[:-lag] / 49.0 - np.exp(-apart / 13.0))))
    for values in products.values():
        assert np.mean(values) == pytest.approx(0.0, abs=0.05)


def test_pilots_and_radar_cross_sections_stay_through_an_episode() -> None:
    env = make(K=5, pilot_length=2, pilot_assignment="random", rcs_model="exponential")
    env.reset(seed=3)
    one = env.trajectory
    assert one.pilot is not None
    assert (one.pilot == one.pilot[0]).all()
    two_way = np.maximum(np.linalg.norm(one.ap_xy[:, :, None] - one.target_xy[:, None], axis=-1), 10)[..., None]
    back = np.maximum(np.linalg.norm(one.sr_xy[:, :, None] - one.target_xy[:, None], axis=-1), 10).swapaxes(1, 2)
    rcs = one.rcs_gain * two_way**2 * back[:, None] ** 2
    np.testing.assert_allclose(rcs, np.broadcast_to(rcs[0], rcs.shape), rtol=1e-9)
    assert np.ptp(rcs[0]) > 0


def by_hand(env: CfIsacMobileEnv, chosen: NDArray[np.float32], wake: int, energy_j: float, step_s: float) -> list[Any]:
    """Energy, switched-on APs and serving APs step by step, in plain Python from the rules."""
    M, K = env.config.M, env.config.K
    on_since: list[int | None] = [-1_000_000] * M  # the step in which an AP was switched on
    rows = []
    for step, action in enumerate(chosen):
        switched, serving = 0, []
        for m in range(M):
            if action[m, 0] < 0:
                on_since[m] = None
                continue
            if on_since[m] is None:
                on_since[m] = step
                switched += 1
            since = on_since[m]
            assert since is not None
            if step - since >= wake or since < 0:
                serving.append(m)
        radiated = np.zeros((M, K))
        for m in serving:
            share = ((action[m, 1:].astype(float) + 1) / 2) ** 2
            radiated[m] = 0.1 * share / max(1.0, share.sum())
        on = sum(since is not None for since in on_since)
        rows.append((radiated.sum() * step_s + 0.2 * on * step_s + energy_j * switched, switched, radiated))
    return rows


@pytest.mark.parametrize(("wake", "energy_j", "step_s"), [(0, 0.0, 1.0), (0, 3.0, 1.0), (1, 2.0, 0.5), (3, 0.0, 1.0)])
def test_energy_and_who_serves_follow_the_rules_of_switching(wake: int, energy_j: float, step_s: float) -> None:
    env = make(wake_up_steps=wake, switching_energy_j=energy_j, step_s=step_s)
    env.reset(seed=4)
    chosen = random_actions(env, 50, seed=wake)
    chosen[:, :, 0] = np.repeat(chosen[::5, :, 0], 5, axis=0)  # hold activations long enough for some to wake up
    chosen[2, :, 0] *= -1
    total, served_later = 0.0, False
    for action, (expected_j, switched, radiated) in zip(
        chosen, by_hand(env, chosen, wake, energy_j, step_s), strict=True
    ):
        drop = env.scenario
        _, reward, _, _, info = env.step(action)
        total += expected_j
        assert info["energy_j"] == pytest.approx(expected_j)
        assert info["episode_energy_j"] == pytest.approx(total)
        assert info["switched_on"] == switched
        assert info["switching_energy_j"] == pytest.approx(energy_j * switched)
        assert info["reward_terms"]["switching"] == pytest.approx(-energy_j * switched / step_s)
        assert reward == pytest.approx(sum(info["reward_terms"].values()))
        active = action[:, 0] >= 0
        outcome = drop.evaluate(Decision(active, radiated))
        np.testing.assert_allclose(info["crlb_m2"], outcome.crlb, rtol=1e-9)
        assert info["waking_aps"] == int((active & (radiated.sum(-1) == 0)).sum())
        served_later |= info["waking_aps"] > 0
    assert served_later == (wake > 0)


def test_the_observation_says_who_was_on_who_wakes_up_and_how_long_it_goes_on() -> None:
    env = make(wake_up_steps=2, switching_energy_j=1.5, step_s=2.0, episode_steps=6)
    observation, _ = env.reset(seed=5)
    np.testing.assert_array_equal(observation["ap"][:, 2], 1.0)
    np.testing.assert_array_equal(observation["wait"], 0.0)
    np.testing.assert_array_equal(observation["sequence"], [2.0, 1.5, 2.0, 6.0])
    action = np.zeros((6, 4), np.float32)
    seen = []
    for activation in (-1.0, 1.0, 1.0, 1.0, -1.0, 1.0):
        action[0, 0] = activation
        observation, *_ = env.step(action)
        seen.append((observation["ap"][0, 2], observation["wait"][0], observation["sequence"][3]))
        np.testing.assert_array_equal(observation["wait"][1:], 0.0)
    assert seen == [(0, 2, 5), (1, 1, 4), (1, 0, 3), (1, 0, 2), (0, 2, 1), (1, 1, 0)]
    assert env.observation_space.contains(observation)
    state = switching(observation)
    assert (state.step_s, state.energy_j, state.wake_up_steps, state.steps_left) == (2.0, 1.5, 2, 0)
    np.testing.assert_array_equal(state.awake(6), [False, True, True, True, True, True])


def test_switching_everything_off_at_first_and_never_on_again_costs_no_switching() -> None:
    env = make(switching_energy_j=100.0, wake_up_steps=5)
    env.reset(seed=6)
    off = np.full((6, 4), -1.0, np.float32)
    assert env.step(off)[4]["energy_j"] == 0.0
    off[2, 0] = 1.0
    assert env.step(off)[4]["energy_j"] == pytest.approx(100.0 + 0.2)


@pytest.mark.parametrize("S", [1, 2])
def test_every_oracle_plays_on_its_observation(S: int) -> None:
    env = make(M=10, S=S, T=4, episode_steps=4, crlb_threshold_m2=4.0)
    for name in (
        "strongest-ap",
        "nearest-ap",
        "full-ap",
        "decoupled",
        "modified-bb",
        "local-search",
        "branch-and-bound",
    ):
        policy = baselines.make(name)
        observation, _ = env.reset(seed=8)
        for _ in range(4):
            answer = policy.decide(observations.decode(observation))
            action, _ = policy.predict(observation)
            observation, *_, info = env.step(action)
            assert info["feasible"] == answer.feasible
            assert answer.feasible


def test_a_seed_a_copy_and_a_pickle_play_the_same_episode() -> None:
    env = make(S=2, wake_up_steps=1)
    env.reset(seed=9)
    chosen = random_actions(env, 30)
    for action in chosen[:10]:
        env.step(action)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env)), make(S=2, wake_up_steps=1)]
    twins[2].reset(seed=9)
    for action in chosen[:10]:
        twins[2].step(action)
    for action in chosen[10:]:
        expected = env.step(action)
        for twin in twins:
            said = twin.step(action)
            assert said[1] == expected[1]
            for key in expected[0]:
                np.testing.assert_array_equal(said[0][key], expected[0][key])
    before = env.trajectory.gain
    env.reset()
    assert not np.isclose(before, env.trajectory.gain, atol=0.0).any()


def test_its_specification_survives_json_and_vectors_of_it_run() -> None:
    env = gym.make("CfIsacMobile-v0", **SMALL, switching_energy_j=2.0, user_speed_m_s=3)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json())).unwrapped
    assert isinstance(again, CfIsacMobileEnv)
    assert again.switching_energy_j == 2.0
    assert again.dynamics.users == RandomWaypoint(3)
    vector = gym.make_vec("CfIsacMobile-v0", num_envs=2, vectorization_mode="sync", **SMALL)
    observation, _ = vector.reset(seed=0)
    assert observation["wait"].shape == (2, 6)
    vector.close()


def test_velocities_and_turn_rates_say_where_users_and_targets_go_next() -> None:
    env = make(S=2, target_speed_m_s=20.0, step_s=0.5)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        assert env.observation_space.contains(observation)
        seen = [observation]
        for action in random_actions(env, 49):
            seen.append(env.step(action)[0])
        one = {key: np.array([o[key] for o in seen], dtype=np.float64) for key in seen[0]}
        for name, speed_m_s in (("ue", 1.5), ("target", 20.0)):
            moved = np.diff(one[name], axis=0) / 0.5 * 250.0
            velocity = one[f"{name}_velocity"] * 250.0
            np.testing.assert_allclose(np.linalg.norm(velocity, axis=-1), speed_m_s, rtol=1e-5)
            error = np.linalg.norm(moved - velocity[:-1], axis=-1)
            assert np.quantile(error, 0.9) < 0.06 * speed_m_s
        # The arc that ends at an instant began with the heading of the one before, and turned at the rate that is seen at its end.
        heading = np.arctan2(one["target_velocity"][..., 1], one["target_velocity"][..., 0])
        turned = (np.diff(heading, axis=0) + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(turned, one["target_turn_rate"][1:] * 0.5, atol=1e-5)
        assert (one["ue_turn_rate"] == 0.0).all()


def test_without_velocities_the_observation_is_the_old_one() -> None:
    new, old = make(), make(velocities=False)
    seen, before = new.reset(seed=3)[0], old.reset(seed=3)[0]
    extra = {"ue_velocity", "ue_turn_rate", "target_velocity", "target_turn_rate"}
    assert set(seen) - set(before) == extra == set(new.reset(seed=0)[0]) - set(old.reset(seed=0)[0])
    for key in before:
        np.testing.assert_array_equal(seen[key], before[key])
    assert old.observation_space.contains(before)


@pytest.mark.parametrize("velocities", ["no", 1, None])
def test_velocities_are_there_or_not(velocities: Any) -> None:
    with pytest.raises(ValueError, match="velocities must be True or False, got"):
        make(velocities=velocities)


def test_vectors_say_what_their_environments_have_in_common() -> None:
    envs: Any = gym.make_vec(
        "CfIsacMobile-v0", 2, "vector_entry_point", **SMALL, step_s=0.5, switching_energy_j=3.0, wake_up_steps=1
    )
    single = make(step_s=0.5, switching_energy_j=3.0, wake_up_steps=1)
    for name in ("step_s", "switching_energy_j", "wake_up_steps", "velocities", "dynamics", "episode_steps"):
        assert envs.get_attr(name) == (getattr(single, name),) * 2


def recorded(**fields: Any) -> list[Scenario]:
    env = make(episode_steps=6, **fields)
    trajectories = []
    for seed in range(3):
        env.reset(seed=seed)
        trajectories.append(env.trajectory)
    return trajectories


def stacked(trajectories: list[Scenario]) -> Scenario:
    return Scenario.from_gains(
        trajectories[0].config,
        **{
            name: np.stack([getattr(one, name) for one in trajectories])
            for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain", "rcs_gain")
        },
    )


def test_trajectories_of_your_own_are_saved_loaded_and_played_in_order(tmp_path: Path) -> None:
    trajectories = recorded(S=2)
    path = stacked(trajectories).save(tmp_path / "walks.npz")
    env = gym.make("CfIsacMobile-v0", drops=path, step_s=2.0, switching_energy_j=1.0).unwrapped
    assert isinstance(env, CfIsacMobileEnv)
    assert (env.episode_steps, env.config.S) == (6, 2)
    for options, expected in (({}, 0), ({}, 1), ({"drop": 0}, 0), ({}, 1), ({}, 2), ({}, 0)):
        observation, _ = env.reset(options=options)
        np.testing.assert_allclose(env.trajectory.gain, trajectories[expected].gain, rtol=1e-12)
        for t, action in enumerate(random_actions(env, 6)):
            step_m = np.diff(trajectories[expected].target_xy, axis=0)[max(t - 1, 0)]
            np.testing.assert_allclose(observation["target_velocity"] * 250.0, step_m / 2.0, rtol=1e-4, atol=1e-4)
            assert env.observation_space.contains(observation)
            observation, _, _, truncated, info = env.step(action)
            assert truncated == (t == 5)
        assert info["episode_energy_j"] > 0.0
    env.reset(seed=5)
    np.testing.assert_allclose(env.trajectory.gain, trajectories[0].gain, rtol=1e-12)
    one = make(drops=trajectories[1], M=6, K=3, S=2, episode_steps=4)
    one.reset()
    assert one.trajectory.batch_shape == (4,)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=str)
def test_vectors_play_trajectories_of_your_own_as_single_environments_do(mode: AutoresetMode) -> None:
    options: dict[str, Any] = {"drops": stacked(recorded()), "wake_up_steps": 1}
    ours = gym.make_vec("CfIsacMobile-v0", 3, "vector_entry_point", autoreset_mode=mode, **options)
    theirs = gym.make_vec("CfIsacMobile-v0", 3, "sync", vector_kwargs={"autoreset_mode": mode}, **options)
    for seen, expected in zip(ours.reset(seed=0)[0].items(), theirs.reset(seed=0)[0].items(), strict=True):
        assert seen[0] == expected[0]
        np.testing.assert_array_equal(seen[1], expected[1])
    rng = np.random.default_rng(0)
    for _ in range(15):
        action = rng.uniform(-1, 1, (3, 6, 4)).astype(np.float32)
        (one, reward, *over, _), (other, expected_reward, *expected_over, _) = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(reward, expected_reward, rtol=1e-9)
        np.testing.assert_array_equal(over, expected_over)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def moved_aps(scenario: Scenario) -> Scenario:
    ap_xy = np.array(scenario.ap_xy)
    ap_xy[3:] += 1.0
    return dataclasses.replace(scenario, ap_xy=ap_xy)


@pytest.mark.parametrize(
    ("change", "fields", "message"),
    [
        (lambda one: one[0], {}, r"leading axes \(instants,\) or \(episodes, instants\), got a single drop"),
        (lambda one: one[None, None], {}, r"leading axes .* got \(1, 1, 6\)"),
        (lambda one: one[:0], {}, "drops must hold one drop at least"),
        (moved_aps, {}, "the APs of a trajectory must stay where they are"),
        (lambda one: one, {"episode_steps": 7}, "episode_steps=7, but the trajectories have 6 instants"),
        (lambda one: one, {"episode_steps": 0}, "episode_steps must be a whole number of 1 or more, got 0"),
        (lambda one: one, {"user_speed_m_s": 1.0}, "user_speed_m_s doesn't go with drops"),
        (lambda one: one, {"shadowing": NoShadowing()}, "shadowing doesn't go with drops"),
        (lambda one: one, {"M": 7}, "M=7 doesn't fit the drops, which were made with M=6"),
    ],
)
def test_trajectories_that_are_none_are_refused(change: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make("CfIsacMobile-v0", drops=change(recorded()[0]), **fields)


def test_an_episode_can_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    env = gym.make("CfIsacMobile-v0", **SMALL, S=2, render_mode="rgb_array", wake_up_steps=1)
    env.reset(seed=10)
    frames = [env.render()]
    for action in random_actions(make(), 4):
        env.step(action)
        frames.append(env.render())
    pictures = [np.asarray(frame) for frame in frames]
    assert {picture.shape for picture in pictures} == {pictures[0].shape}
    assert all((a != b).any() for a, b in itertools.pairwise(pictures))


class Answers:
    """A strategy that says whatever it was built with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def trajectory(self, *_: Any) -> Any:
        """Say it."""
        return self.answer

    def series(self, *_: Any) -> Any:
        """Say it."""
        return self.answer


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user_motion": Answers(np.zeros((50, 4, 2)))}, r"for the users must return shape \(50, 3, 2\) in m, got"),
        (
            {"target_motion": Answers(np.full((50, 1, 2), np.nan))},
            "for the targets returned 100 values that aren't finite",
        ),
        (
            {"shadowing": Answers(np.zeros((50, 3, 6)))},
            r"series must return shape \(50, 6, 3\) in dB, got \(50, 3, 6\)",
        ),
    ],
)
def test_a_strategy_that_says_something_else_is_named_at_reset(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**fields).reset(seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step_s": -1.0}, r"step_s must be a number in \(0, 1e\+06\], got -1.0"),
        ({"step_s": 0}, "step_s must be .*got 0"),
        ({"user_speed_m_s": -1.5}, r"user_speed_m_s must be a number in \[0, 1000\], got -1.5"),
        ({"target_speed_m_s": math.nan}, "target_speed_m_s must be .*got nan"),
        ({"decorrelation_m": -13}, "decorrelation_m must be .*got -13"),
        ({"switching_energy_j": -1}, "switching_energy_j must be .*got -1"),
        ({"switching_energy_j": "2"}, "switching_energy_j must be .*got '2'"),
        ({"wake_up_steps": -1}, r"wake_up_steps must be a whole number in \[0, 1000\], got -1"),
        ({"wake_up_steps": 1.5}, "wake_up_steps must be a whole number .*got 1.5"),
        ({"episode_steps": 0}, "episode_steps must be a whole number of 1 or more, got 0"),
        ({"episode_steps": 5000}, "episode_steps must be 1000 or less.*got 5000"),
        ({"S": 0}, r"S must be a whole number in \[1, 1000\], got 0"),
        ({"pilot_length": 0}, "pilot_length must be a whole number .*got 0"),
        ({"user_speed_m_s": 1.0, "user_motion": RandomWaypoint()}, "leave it out when user_motion is given"),
        ({"decorrelation_m": 1.0, "shadowing": CorrelatedShadowing()}, "leave it out when shadowing is given"),
    ],
)
def test_bad_arguments_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_several_decisions_at_one_time_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'decisions_per_drop': time goes on"):
        make(decisions_per_drop=2)


def test_what_is_no_strategy_is_refused() -> None:
    with pytest.raises(TypeError, match=r"motion of the users must be an object with a method trajectory\(\)"):
        make(user_motion=1.5)  # a number is a speed, and has its own argument
    nothing: Any
    described: Any
    for nothing in (0, "", [], False):  # not the default instead
        with pytest.raises(TypeError, match="motion of the targets must be an object"):
            make(target_motion=nothing)
        with pytest.raises(TypeError, match="shadowing must be an object"):
            make(shadowing=nothing)
    for described in ({}, {"speed_m_s": 3.0}, {"strategy": "nowhere:Walk"}, {"strategy": "math:Walk"}, {"strategy": 3}):
        with pytest.raises(ValueError, match=r"user_motion=.* describes no strategy"):
            make(user_motion=described)
    described = {"strategy": "cfisac_env.mobility:RandomWaypoint", "speed_m_s": 3.0}
    assert make(user_motion=described).dynamics.users == RandomWaypoint(3.0)
    with pytest.raises(RuntimeError, match="has to be reset"):
        _ = make().trajectory


def test_actions_of_waking_aps_count_for_nothing() -> None:
    env, other = make(wake_up_steps=3), make(wake_up_steps=3)
    chosen = random_actions(env, 2)
    chosen[0, 0, 0], chosen[1, 0, 0] = -1.0, 1.0
    changed = chosen.copy()
    changed[1, 0, 1:] = 1.0
    results = []
    for one, said in ((env, chosen), (other, changed)):
        one.reset(seed=11)
        one.step(said[0])
        results.append(one.step(said[1])[1:])
    assert results[0][0] == results[1][0]
    assert actions.decode(changed[1], 0.1).power[0].sum() == pytest.approx(0.1)
