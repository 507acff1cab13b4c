"""What frameworks, curricula and scripts rely on, walked over every id of the suite, alone and in vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

import cfisac_env
from cfisac_env import Decision, SystemConfig, sample
from cfisac_env.config import FIELDS, RANGES, REQUIREMENT_FIELDS
from cfisac_env.env import CfIsacEnv

SMALL: dict[str, Any] = {"M": 6, "K": 3, "T": 4, "crlb_threshold_m2": 5.0}
IDS = sorted(name for name in gym.registry if name.startswith("CfIsac"))
OPTIONS: dict[str, dict[str, Any]] = {
    "CfIsac-v0": {"episode_steps": 4, "K": 5, "pilot_length": 3},
    "CfIsacMobile-v0": {"episode_steps": 4, "switching_energy_j": 1.0, "wake_up_steps": 1},
    "CfIsacTracking-v0": {"episode_steps": 4, "switching_energy_j": 1.0},
    "CfIsacActivation-v0": {"episode_steps": 3},
    "CfIsacSequential-v0": {"max_moves": 4},
    "CfIsacPriority-v0": {"episode_steps": 3},
    "CfIsacImprovement-v0": {"moves": 4},
}
"""Options with which episodes of an id have several steps, and entries that others lack."""

NATIVE = [name for name in IDS if gym.spec(name).vector_entry_point is not None]
VECTORS = [(name, mode) for name in IDS for mode in ("sync", *(("vector_entry_point",) if name in NATIVE else ()))]

INFO = {
    "total_power_w", "transmit_power_w", "circuit_power_w", "active_aps", "sinr_db", "crlb_m2", "feasible", "is_success", "cost", "costs",
    "reward_terms",
}  # fmt: skip


def single(name: str, **fields: Any) -> gym.Env[Any, Any]:
    return gym.make(name, **(SMALL | OPTIONS.get(name, {}) | fields))


def plain(name: str, **fields: Any) -> CfIsacEnv:
    env = single(name, **fields).unwrapped
    assert isinstance(env, CfIsacEnv)
    return env


def vector(name: str, mode: str, n: int = 3, autoreset: str = "SameStep", **fields: Any) -> Any:
    fields = SMALL | OPTIONS.get(name, {}) | fields
    if mode == "vector_entry_point":
        fields["autoreset_mode"] = autoreset
        return gym.make_vec(name, num_envs=n, vectorization_mode=mode, **fields)
    return gym.make_vec(
        name, num_envs=n, vectorization_mode=mode, vector_kwargs={"autoreset_mode": autoreset}, **fields
    )


def moves(space: gym.Space[Any], count: int, seed: int = 0) -> list[Any]:
    space.seed(seed)
    return [space.sample() for _ in range(count)]


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, tuple | list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(np.array_equal(np.asarray(ours), np.asarray(theirs)))


def test_importing_the_package_registers_every_id_and_nothing_heavy() -> None:
    code = (
        "import sys, json, gymnasium as gym; env = gym.make('cfisac_env:CfIsac-v0', M=3, K=2)\n"
        "heavy = {'torch', 'scipy', 'cvxpy', 'matplotlib', 'stable_baselines3', 'agents', 'baselines'} & set(sys.modules)\n"
        "print(json.dumps([[name for name in gym.registry if name.startswith('CfIsac')], sorted(heavy)]))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    ids, heavy = json.loads(said)
    assert heavy == []
    assert sorted(ids) == IDS
    assert set(OPTIONS) <= set(ids)
    assert all(name in (cfisac_env.__doc__ or "") for name in ids)


@pytest.mark.parametrize("name", IDS)
def test_an_unknown_keyword_is_refused_in_pythons_words_with_the_nearest_valid_one(name: str) -> None:
    for unknown, hint in (
        ("frameskip", ""),  # TorchRL tries it, and reads the message
        ("preset_", " (did you mean 'preset'?)"),
        ("sinr_penality", " (did you mean 'sinr_penalty'?)"),
        ("rendr_mode", " (did you mean 'render_mode'?)"),
        ("autoreset_mode", ": vector environments have it"),
    ):
        with pytest.raises(TypeError) as caught:
            single(name, **{unknown: 1})
        assert f"__init__() got an unexpected keyword argument '{unknown}'{hint}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        ("CfIsacMobile-v0", "decisions_per_drop"),
        ("CfIsacTracking-v0", "decisions_per_drop"),
        ("CfIsacSequential-v0", "episode_steps"),
        ("CfIsacSequential-v0", "decisions_per_drop"),
        ("CfIsacImprovement-v0", "episode_steps"),
    ],
)
def test_a_keyword_of_another_id_is_refused_with_the_reason(name: str, keyword: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{keyword}': "):
        single(name, **{keyword: 2})


@pytest.mark.parametrize("name", NATIVE)
def test_an_unknown_keyword_of_a_vector_is_refused_with_the_nearest_valid_one(name: str) -> None:
    for unknown, meant in (("thread", "threads"), ("sinr_penality", "sinr_penalty"), ("autoreset", "autoreset_mode")):
        fields: Any = {unknown: 1}
        with pytest.raises(TypeError, match=rf"unexpected keyword argument '{unknown}' \(did you mean '{meant}'\?\)"):
            gym.make_vec(name, num_envs=2, **fields)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"autoreset_mode": "next"}, "NextStep, SameStep, Disabled"),
        ({"threads": 2, "backend": "torch"}, "torch has threads of its own"),
        ({"max_episode_steps": 0}, "max_episode_steps must be a whole number of 1 or more, got 0"),
        ({"max_episode_steps": 2.5}, "max_episode_steps must be a whole number"),
    ]
    for given, message in bad:
        with pytest.raises(ValueError, match=message):
            gym.make_vec(name, num_envs=2, **given)


UNKNOWN_OPTIONS: list[tuple[Any, type[Exception], str]] = [
    ({"dorp": 2}, ValueError, "reset has no option 'dorp'"),
    ({"seed": 2}, ValueError, "reset has no option 'seed'"),
    ({3: 2}, ValueError, "reset has no option 3"),
    ({"drop": 2}, ValueError, "picks one of given drops, but this environment draws its own"),
    ([("drop", 2)], TypeError, "options must be a dict or None"),
]


@pytest.mark.parametrize("name", IDS)
def test_options_that_do_not_apply_are_refused(name: str) -> None:
    env = plain(name)
    for options, error, message in UNKNOWN_OPTIONS:
        with pytest.raises(error, match=message):
            env.reset(options=options)
    for options in (None, {}):
        assert env.observation_space.contains(env.reset(seed=3, options=options)[0])


@pytest.mark.parametrize(("name", "mode"), VECTORS)
def test_options_that_do_not_apply_are_refused_by_vectors(name: str, mode: str) -> None:
    envs = vector(name, mode)
    for options, error, message in UNKNOWN_OPTIONS[:4]:
        with pytest.raises(error, match=message):
            envs.reset(options=options)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="reset has no option 'dorp'"):
        envs.reset(options={"reset_mask": np.array([True, False, True]), "dorp": 2})
    envs.reset(seed=0)
    envs.reset(options={"reset_mask": np.array([True, False, True])})


@pytest.mark.parametrize("name", IDS)
def test_options_of_given_drops_are_checked(name: str) -> None:
    if name == "CfIsacMobile-v0":
        drops = cfisac_env.CfIsacMobileEnv(**SMALL, episode_steps=4)
        drops.reset(seed=0)
        given = drops.trajectory
    else:
        given = sample(SystemConfig(6, 3), np.random.default_rng(0), 1)
    env = gym.make(name, drops=given).unwrapped
    env.reset(options={"drop": 0})
    env.reset(options={"drop": np.int64(0)})
    env.reset(options={"drop": None})
    for drop in (1, -1, True, 0.0, "0", [0]):
        with pytest.raises(ValueError, match="must be a whole number from 0 to 0, got"):
            env.reset(options={"drop": drop})
    with pytest.raises(ValueError, match=r"no option 'dorp' .did you mean 'drop'"):
        env.reset(options={"dorp": 0})


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("field", REQUIREMENT_FIELDS)
def test_a_requirement_or_penalty_that_is_set_is_the_one_that_is_played(name: str, field: str) -> None:
    value: Any = {"sinr_threshold_db": 3.0, "crlb_threshold_m2": 0.2, "reward": "log"}.get(field, 0.7)
    expected = plain(name, **{field: value})
    ways: dict[str, Any] = {
        "attribute": lambda env: setattr(env.unwrapped, field, value),
        "set_wrapper_attr": lambda env: env.set_wrapper_attr(field, value),
        "configure": lambda env: env.unwrapped.configure(**{field: value}),
        "env_method": lambda env: env.get_wrapper_attr("configure")(**{field: value}),
    }
    for way, change in ways.items():
        for used in (False, True):
            env = single(name)
            if used:
                env.reset(seed=1)
                env.step(moves(env.action_space, 1)[0])
            change(env)
            assert env.get_wrapper_attr(field) == value, way
            results = [e.reset(seed=3) for e in (env, expected)]
            assert same(*results), (way, used)
            for action in moves(env.action_space, 3):
                result = env.step(action)
                assert same(result, expected.step(action)), (way, used)
                if result[2] or result[3]:
                    break
            expected.reset(seed=1)


@pytest.mark.parametrize("name", IDS)
def test_a_requirement_that_changes_in_the_middle_holds_from_the_next_decision_on(name: str) -> None:
    env, other = plain(name, sinr_penalty=0.0), plain(name, sinr_penalty=0.0)
    for one in (env, other):
        one.reset(seed=5)
    env.configure(sinr_penalty=100.0, sinr_threshold_db=20.0)
    action = moves(env.action_space, 1, seed=2)[0]
    observation, _, _, _, info = env.step(action)
    observed, _, _, _, told = other.step(action)
    assert info["reward_terms"]["sinr"] < 0.0 == told["reward_terms"]["sinr"]
    if name == "CfIsacImprovement-v0":  # which describes APs in relation to the requirements
        return
    np.testing.assert_allclose(observation["requirement"][0], 100.0, rtol=1e-6)
    # Other sets serve then, or other powers.
    same_drop = (..., slice(2)) if name in ("CfIsacSequential-v0", "CfIsacPriority-v0") else ...
    np.testing.assert_array_equal(observation["ap"][same_drop], observed["ap"][same_drop])


@pytest.mark.parametrize("name", IDS)
def test_attributes_that_nothing_follows_from_are_refused(name: str) -> None:
    env = single(name)
    inner = env.unwrapped
    before = {field: getattr(inner, field) for field in FIELDS}
    assert before == env.get_wrapper_attr("config").as_dict() | {"reward": "penalty"}
    fixed = [*sorted(set(FIELDS) - set(REQUIREMENT_FIELDS)), "episode_steps", "decisions_per_drop"]
    fixed += [key for key in OPTIONS.get(name, {}) if key not in FIELDS]
    for field in fixed:
        for change in (setattr, lambda e, key, v: e.set_wrapper_attr(key, v)):
            with pytest.raises(AttributeError, match=f"{field} of .* is fixed when it is made"):
                change(inner, field, 1)
    with pytest.raises(AttributeError):
        inner.config = SystemConfig()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"has no attribute 'sinr_penality' .did you mean 'sinr_penalty'"):
        env.set_wrapper_attr("sinr_penality", 3.0)
    assert {field: getattr(inner, field) for field in FIELDS} == before


@pytest.mark.parametrize("name", IDS)
def test_requirements_out_of_range_and_fields_that_cannot_change_are_refused(name: str) -> None:
    env = plain(name)
    with pytest.raises(ValueError, match="reward must be one of penalty, log, power, linear, got 'best'"):
        env.configure(reward="best")
    for field in set(REQUIREMENT_FIELDS) & set(RANGES):
        with pytest.raises(ValueError, match=f"{field} must be a number in"):
            env.configure(**{field: RANGES[field][1] * 10.0})
        with pytest.raises(TypeError, match=f"{field} must be a number in"):
            setattr(env, field, "3")
    with pytest.raises(TypeError, match="unexpected keyword argument 'M'"):
        env.configure(M=3)
    with pytest.raises(TypeError, match="did you mean 'sinr_penalty'"):
        env.configure(sinr_penality=3)


@pytest.mark.parametrize(("name", "mode"), VECTORS)
def test_vectors_are_asked_and_changed_as_gymnasiums_are(name: str, mode: str) -> None:
    envs = vector(name, mode)
    assert envs.autoreset_mode is envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    envs.reset(seed=3)
    assert envs.get_attr("np_random_seed") == (3, 4, 5)
    assert envs.get_attr("sinr_penalty") == (5000.0,) * 3
    assert envs.get_attr("M") == envs.call("M") == (6,) * 3
    for space in ("observation_space", "action_space"):
        assert envs.get_attr(space) == (getattr(envs, f"single_{space}"),) * 3
    observation, _ = envs.reset(seed=3)
    for i, drop in enumerate(envs.get_attr("scenario")):
        if "ue" in observation:
            np.testing.assert_allclose(drop.ue_xy / 250, observation["ue"][i], rtol=1e-6)
    decision = Decision(np.ones(6, bool), np.full((6, envs.get_attr("K")[0]), 0.01))
    outcomes = envs.call("evaluate", decision)
    for drop, outcome in zip(envs.get_attr("scenario"), outcomes, strict=True):
        np.testing.assert_allclose(outcome.sinr, drop.evaluate(decision).sinr)
    assert envs.call("configure", sinr_penalty=7.0) == (None,) * 3
    assert envs.get_attr("sinr_penalty") == (7.0,) * 3
    envs.set_attr("crlb_penalty", 8.0)
    envs.set_attr("sinr_threshold_db", [9.0, 9.0, 9.0])
    assert [config.sinr_threshold_db for config in envs.get_attr("config")] == [9.0] * 3
    observation, *_ = envs.reset(seed=3)
    if "requirement" in observation:
        np.testing.assert_allclose(observation["requirement"][:, 0], 10**0.9, rtol=1e-6)
    with pytest.raises(AttributeError, match=r"nothing"):
        envs.get_attr("nothing")
    for field in ("M", "episode_steps", "sinr_penality", "mark"):
        with pytest.raises(AttributeError, match=field):
            envs.set_attr(field, 3)
    with pytest.raises(ValueError, match="3"):
        envs.set_attr("crlb_penalty", [8.0, 8.0])
    envs.close()


@pytest.mark.parametrize("name", NATIVE)
def test_a_batch_shares_one_configuration(name: str) -> None:
    envs = vector(name, "vector_entry_point")
    with pytest.raises(ValueError, match=r"share one configuration.*sync"):
        envs.set_attr("sinr_penalty", [1.0, 2.0, 3.0])
    for method in ("reset", "step", "close"):
        with pytest.raises(AttributeError, match=f"{method} of .* is a method of the whole batch"):
            envs.call(method)
    with pytest.raises(AttributeError):
        envs.autoreset_mode = AutoresetMode.DISABLED


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_change_in_the_middle_does_to_vectors_what_it_does_to_single_environments(name: str, backend: str) -> None:
    ours, theirs = vector(name, "vector_entry_point", backend=backend), vector(name, "sync")
    for envs in (ours, theirs):
        envs.reset(seed=1)
    changes: list[dict[str, Any]] = [
        {"sinr_penalty": 3.0},
        {"sinr_threshold_db": 4.0, "max_ap_power_w": 0.3},
        {"circuit_power_w": 0.0},
    ]
    for i, action in enumerate(moves(theirs.action_space, 9)):
        if i % 3 == 1:
            for envs in (ours, theirs):
                envs.call("configure", **changes[i // 3])
        observation, rewards, *over, infos = ours.step(torch.tensor(action) if backend == "torch" else action)
        observed, expected, *expected_over, said = theirs.step(action)
        np.testing.assert_allclose(np.asarray(rewards), expected, rtol=1e-9)
        assert np.array_equal(np.asarray(over), np.asarray(expected_over))
        for key in observed:
            np.testing.assert_allclose(np.asarray(observation[key]), observed[key], rtol=1e-6, atol=1e-7)
        if "final_info" in said:
            costs, expected_costs = (np.asarray(one["final_info"]["costs"]) for one in (infos, said))
            np.testing.assert_allclose(costs, expected_costs, rtol=1e-9, atol=1e-12)


def finished(name: str, **fields: Any) -> list[tuple[Any, ...]]:
    """An episode: what every step returns."""
    env = single(name, **fields)
    results: list[tuple[Any, ...]] = [env.reset(seed=4)]
    for action in moves(env.action_space, 1000):
        results.append(env.step(action))
        if results[-1][2] or results[-1][3]:
            return results
    raise AssertionError("the episode does not end")


@pytest.mark.parametrize("name", IDS)
def test_infos_have_the_same_keys_on_every_id_and_numpy_values(name: str) -> None:
    more = {
        "switched_on", "waking_aps", "switching_energy_j", "energy_j", "episode_energy_j", "position_error_m", "belief_variance_m2",
    }  # fmt: skip
    config = plain(name).config
    for result in finished(name)[1:]:
        info = result[-1]
        assert set(info) - more == INFO
        for key, value in {**info, **info["reward_terms"]}.items():
            if key != "reward_terms":
                assert isinstance(value, np.generic | np.ndarray), key
                assert value.dtype != object
        assert (info["feasible"].dtype, info["is_success"].dtype, info["active_aps"].dtype) == (bool, bool, np.int64)
        assert info["costs"].shape == (config.K + config.S,)
        assert info["costs"].dtype == np.float64
        missed = np.maximum(0.0, 1.0 - 10 ** (info["sinr_db"] / 10) / config.sinr_threshold)
        lost = np.maximum(0.0, 1.0 - config.crlb_threshold_m2 / info["crlb_m2"])
        np.testing.assert_allclose(info["costs"], [*missed, *lost], atol=1e-12)
        assert info["cost"] == pytest.approx(info["costs"].sum())
        most_w = config.M * (
            config.max_ap_power_w + config.circuit_power_w + OPTIONS[name].get("switching_energy_j", 0.0)
        )
        charged_w = 0.0 if info["feasible"] else most_w / len(info["costs"])
        assert info["reward_terms"]["sinr"] == pytest.approx(-charged_w * missed.sum())
        assert isinstance(result[1], float)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("threshold_m2", [0.001, 1e6])
def test_success_is_that_every_instant_of_the_episode_was_served(name: str, threshold_m2: float) -> None:
    served = []
    for result in finished(name, crlb_threshold_m2=threshold_m2, sinr_threshold_db=-60.0)[1:]:
        served.append(bool(result[-1]["feasible"]))
        expected = served[-1] if name == "CfIsacSequential-v0" else all(served)
        assert result[-1]["is_success"] == expected
    if threshold_m2 == 0.001:
        assert not served[-1]


def test_an_instant_is_served_by_the_last_of_its_decisions() -> None:
    env = gym.make(
        "CfIsac-v0",
        M=6,
        K=2,
        T=4,
        S=1,
        crlb_threshold_m2=1e6,
        sinr_threshold_db=-60.0,
        episode_steps=2,
        decisions_per_drop=2,
    )
    env.reset(seed=0)
    on, off = np.full((6, 3), 0.5, np.float32), np.full((6, 3), -1.0, np.float32)
    said = [env.step(action)[-1]["is_success"] for action in (off, on, off, on)]
    assert said == [False, True, False, True]
    env.reset(seed=0)
    said = [env.step(action)[-1]["is_success"] for action in (on, off, on, on)]
    assert said == [True, False, False, False]


@pytest.mark.parametrize("name", IDS)
def test_keys_of_observations_are_in_the_order_of_the_space(name: str) -> None:
    env: Any = single(name)
    for result in finished(name):
        assert list(result[0]) == list(env.observation_space)
        assert env.observation_space.contains(result[0])


@pytest.mark.parametrize(("name", "mode"), VECTORS)
@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep"])
def test_keys_of_observations_of_vectors_are_in_the_order_of_the_space(name: str, mode: str, autoreset: str) -> None:
    envs = vector(name, mode, autoreset=autoreset)
    observation, _ = envs.reset(seed=0)
    final = []
    for action in moves(envs.action_space, 6):
        assert list(observation) == list(envs.observation_space) == list(envs.single_observation_space)
        observation, *_, infos = envs.step(action)
        final += [one for one in infos.get("final_obs", ()) if one is not None]
    assert all(list(one) == list(envs.single_observation_space) for one in final)
    assert bool(final) == (autoreset == "SameStep")


@pytest.mark.parametrize("name", IDS)
def test_a_specification_comes_back_from_json_and_plays_the_same(name: str) -> None:
    env = single(name, preset="urban", noise_figure_db=np.float64(7.0))
    assert env.spec is not None
    text = env.spec.to_json()
    again = gym.make(EnvSpec.from_json(text))
    assert again.spec is not None
    assert again.spec.to_json() == text
    steps = moves(env.action_space, 12)
    results: list[list[Any]] = []
    for one in (env, again):
        results.append([one.reset(seed=2)])
        for action in steps:
            results[-1].append(one.step(action))
            if results[-1][-1][2] or results[-1][-1][3]:
                results[-1].append(one.reset())
    assert same(*results)


def test_the_specification_tells_the_horizon_of_sequences_alone() -> None:
    for fields, horizon in (
        ({"id": "CfIsac-v0"}, None),
        ({"id": "CfIsac-v0", "decisions_per_drop": 3}, None),  # it terminates
        ({"id": "CfIsac-v0", "episode_steps": 5, "decisions_per_drop": 2}, 10),
        ({"id": "CfIsac-v0", "episode_steps": 5, "max_episode_steps": 3}, 3),
        ({"id": "CfIsac-v0", "max_episode_steps": 3}, 3),
        ({"id": "CfIsacMobile-v0"}, 50),
        ({"id": "CfIsacMobile-v0", "episode_steps": 7}, 7),
        ({"id": "CfIsacActivation-v0", "episode_steps": 4}, 4),
        ({"id": "CfIsacSequential-v0", "M": 9}, 18),
        ({"id": "CfIsacSequential-v0", "max_moves": 3}, 3),
    ):
        made: dict[str, Any] = {"M": 4, "K": 2} | fields
        assert gym.make(**made).spec.max_episode_steps == horizon, fields  # type: ignore[union-attr]
        name = made.pop("id")
        if name in NATIVE:
            envs = gym.make_vec(name, num_envs=2, **made)
            assert envs.spec is not None
            assert envs.spec.max_episode_steps == horizon, fields


@pytest.mark.parametrize(("name", "mode"), VECTORS)
def test_vectors_are_built_again_from_their_specification(name: str, mode: str) -> None:
    envs = vector(name, mode, episode_steps=3) if name in NATIVE else vector(name, mode)
    assert envs.spec is not None
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert (again.num_envs, type(again), again.metadata) == (3, type(envs), envs.metadata)
    assert same(envs.reset(seed=1)[0], again.reset(seed=1)[0])
    for action in moves(envs.action_space, 7):
        assert same(envs.step(action)[:4], again.step(action)[:4])
    of_one = single(name).spec
    assert of_one is not None
    made: VectorEnv[Any, Any, Any] = gym.make_vec(of_one, num_envs=2)
    assert all(len(entry) == 2 for entry in made.reset(seed=0)[0].values())


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, -1])
@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, fields) for name in NATIVE for fields in ({}, {"episode_steps": 1})),
        ("CfIsac-v0", {"decisions_per_drop": 3}),
    ],
    ids=str,
)
def test_a_limit_of_steps_cuts_vectors_off_as_it_cuts_single_environments(
    name: str, fields: dict[str, int], autoreset: str, limit: int
) -> None:
    arguments: Any = {"autoreset": autoreset, "max_episode_steps": limit, **fields}
    ours, theirs = vector(name, "vector_entry_point", **arguments), vector(name, "sync", **arguments)
    assert same(ours.reset(seed=2)[0], theirs.reset(seed=2)[0])
    for i, action in enumerate(moves(ours.action_space, 11)):
        result, expected = ours.step(action), theirs.step(action)
        assert same(result[0], expected[0])
        assert same(result[2:4], expected[2:4])
        if i == 5:
            options = [{"reset_mask": np.array([True, False, True])} for _ in range(2)]
            assert same(ours.reset(options=options[0])[0], theirs.reset(options=options[1])[0])


HOSTILE_ACTIONS: dict[str, tuple[Any, str]] = {
    "NaN": (lambda a: np.where(a == a.max(), np.nan, a), r"NaN \((rows|APs) \["),
    "complex": (lambda a: a + 0j, "real numbers, got an array of complex"),
    "text": (lambda a: a.astype(str), "real numbers, got an array of <U"),
    "objects": (lambda a: a.astype(object), "real numbers, got an array of object"),
    "nothing": (lambda a: None, "real numbers, got an array of object"),
    "one row less": (lambda a: a[1:], "must have shape"),
    "one axis more": (lambda a: a[None], "must have shape"),
}
BOX = [name for name in IDS if isinstance(gym.make(name, M=3, K=2).action_space, gym.spaces.Box)]


@pytest.mark.parametrize("name", BOX)
@pytest.mark.parametrize("mistake", list(HOSTILE_ACTIONS))
def test_an_action_that_is_none_is_refused_and_changes_nothing(name: str, mistake: str) -> None:
    change, message = HOSTILE_ACTIONS[mistake]
    env, other = plain(name), plain(name)
    for one in (env, other):
        one.reset(seed=0)
    action: NDArray[np.float32] = moves(env.action_space, 1)[0]
    with pytest.raises(ValueError, match=message):
        env.step(change(action))
    assert same(env.step(action), other.step(action))


@pytest.mark.parametrize("name", BOX)
@pytest.mark.parametrize("scale", [np.inf, 1e300, np.float32(3e38), 7.0], ids=str)
def test_numbers_beyond_the_box_and_infinities_count_as_its_edge(name: str, scale: Any) -> None:
    env, other = plain(name), plain(name)
    for one in (env, other):
        one.reset(seed=0)
    for action in moves(env.action_space, 2):
        beyond = np.where(action < 0, -scale, scale)
        assert same(env.step(beyond), other.step(np.sign(action).clip(-1, 1) + (action == 0).astype(np.float32)))
    if name in NATIVE:
        envs, others = vector(name, "vector_entry_point"), vector(name, "vector_entry_point")
        for both in (envs, others):
            both.reset(seed=0)
        action = moves(envs.action_space, 1)[0]
        assert same(envs.step(np.where(action < 0, -scale, scale)), others.step(np.where(action < 0, -1.0, 1.0)))


@pytest.mark.parametrize("name", ["CfIsac-v0", "CfIsacMobile-v0"])
def test_a_flat_action_is_refused_with_a_hint(name: str) -> None:
    env = plain(name, K=3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(6, 4\).*got \(24,\); a flat action needs action.reshape\(6, 4\)"):
        env.step(np.zeros(24, np.float32))
    envs = vector(name, "vector_entry_point", K=3)
    envs.reset(seed=0)
    for shape in ((3, 24), (24,)):
        with pytest.raises(ValueError, match=r"shape \(3, 6, 4\).*a flat action needs action.reshape\(3, 6, 4\)"):
            envs.step(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="real numbers"):
        envs.step(np.zeros((3, 6, 4), complex))
    tensors = vector(name, "vector_entry_point", K=3, backend="torch")
    tensors.reset(seed=0)
    with pytest.raises(ValueError, match="real numbers"):
        tensors.step(torch.zeros((3, 6, 4), dtype=torch.complex64))


@pytest.mark.parametrize("name", [name for name in IDS if hasattr(gym.make(name, M=3, K=2).unwrapped, "action_masks")])
def test_masks_before_the_first_reset_say_what_is_missing(name: str) -> None:
    env: Any = plain(name)
    with pytest.raises(RuntimeError, match="has to be reset"):
        env.action_masks()
    env.reset(seed=0)
    assert env.action_masks().dtype == bool


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize(
    ("active", "power"),
    [
        (np.ones(6), np.zeros((6, 3))),
        (np.ones(5, bool), np.zeros((6, 3))),
        (np.ones(6, bool), np.zeros((6, 4))),
        (np.ones(6, bool), np.full((6, 3), -0.1)),
        (np.ones(6, bool), np.full((6, 3), np.nan)),
        (np.ones(6, bool), np.full((6, 3), np.inf)),
        (np.ones(6, bool), np.zeros((6, 3), complex)),
        (None, None),
    ],
)
def test_a_decision_that_is_none_is_not_scored(name: str, active: Any, power: Any) -> None:
    env = plain(name, K=3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="decision"):
        env.evaluate(Decision(active, power))
    with pytest.raises(TypeError, match=r"must be a cfisac_env\.Decision, got ndarray"):
        env.evaluate(np.zeros((6, 4)))  # type: ignore[arg-type]


def test_torch_vectors_declare_the_dtype_of_their_rewards() -> None:
    for name in NATIVE:
        envs = vector(name, "vector_entry_point", backend="torch")
        envs.reset(seed=0)
        rewards = envs.step(torch.zeros(envs.action_space.shape))[1]
        assert envs.reward_space.contains(rewards.numpy())
