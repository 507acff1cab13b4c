"""Environments with structured actions: the contracts of every id, and their own dynamics and rewards."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

import agents.rl
import baselines
from agents.rl.environments import CfIsacActivationEnv, CfIsacSequentialEnv
from baselines.allocation import reference
from cfisac_env import PRESETS, Decision, SystemConfig, actions, sample
from cfisac_env.env import CfIsacEnv

SMALL: dict[str, Any] = {"M": 6, "K": 3}
TINY: dict[str, Any] = {"M": 5, "K": 2, "crlb_threshold_m2": 100.0}  # feasible with every AP on

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "activation": ("CfIsacActivation-v0", {"episode_steps": 3}),
    "multi-binary": ("CfIsacActivation-v0", {"action_type": "multi-binary"}),
    "sequential": ("CfIsacSequential-v0", {}),
    "sequential from the strongest": ("CfIsacSequential-v0", {"start": "strongest", "max_moves": 4}),
    "priority": ("CfIsacPriority-v0", {"episode_steps": 3, "completions": 2}),
    "priority, relaxed": ("CfIsacPriority-v0", {"episode_steps": 4, "decisions_per_drop": 2, "relaxed": True}),
    "priority, reused pilots": ("CfIsacPriority-v0", {"K": 4, "pilot_length": 3, "relaxed": True}),
    "improvement": ("CfIsacImprovement-v0", {"moves": 3, "removals": 2, "additions": 4}),
    "improvement, reused pilots": ("CfIsacImprovement-v0", {"K": 4, "pilot_length": 3}),
    "sequential, reused pilots": ("CfIsacSequential-v0", {"M": 5, "K": 4, "pilot_length": 3}),
}
EVERY = [
    (variant, preset) for variant in VARIANTS for preset in PRESETS if "pilots" not in variant or preset == "paper"
]


def make(variant: str, **fields: Any) -> gym.Env[Any, Any]:
    name, options = VARIANTS[variant]
    return gym.make(name, **(SMALL | options | fields))


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [item for key in sorted(value) for item in (key, *flat(value[key]))]
    if isinstance(value, tuple | list):
        return [item for part in value for item in flat(part)]
    return [np.asarray(value).tolist()]


def play(env: gym.Env[Any, Any], steps: int, seed: int | None = 5) -> list[Any]:
    env.action_space.seed(3)
    said = flat(env.reset(seed=seed)) if seed is not None else []
    for _ in range(steps):
        result = env.step(env.action_space.sample())
        said += flat(result)
        if result[2] or result[3]:
            said += flat(env.reset())
    return said


def sequential(**options: Any) -> CfIsacSequentialEnv:
    return CfIsacSequentialEnv(**(SMALL | options))


def test_every_id_of_the_package_is_tested_here() -> None:
    ours = {name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("agents.rl")}
    assert ours == {name for name, _ in VARIANTS.values()}
    assert agents.rl.__doc__ is not None
    assert all(name in agents.rl.__doc__ for name in ours)


@pytest.mark.parametrize(("variant", "preset"), EVERY)
def test_the_environment_checkers_pass_without_warnings(variant: str, preset: str) -> None:
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(variant, preset=preset).unwrapped, skip_render_check=True)
        # What Stable-Baselines3 says of every array that isn't a vector is advice for images.
        warnings.filterwarnings("ignore", message="(?s).*(is an image|for an image|as image|unconventional shape)")
        warnings.filterwarnings("ignore", message="(?s).*Treating image space as")
        check_env_sb3(make(variant, preset=preset), skip_render_check=True)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_episodes_are_determined_by_the_seed(variant: str) -> None:
    one, other = make(variant), make(variant)
    assert play(one, 30) == play(other, 30)
    assert play(one, 30) == play(other, 30)
    assert play(one, 5, seed=6) != play(other, 5, seed=7)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_nothing_returned_shares_memory_with_the_environment(variant: str) -> None:
    env, untouched = make(variant), make(variant)
    env.action_space.seed(0)
    for told in (env.reset(seed=2), env.step(env.action_space.sample())):
        for part in told:
            for value in part.values() if isinstance(part, dict) else ():
                if isinstance(value, np.ndarray):
                    value.fill(0.5)
    untouched.action_space.seed(0)
    untouched.reset(seed=2)
    untouched.step(untouched.action_space.sample())
    env.reset()
    untouched.reset()
    assert flat(env.step(env.action_space.sample())) == flat(untouched.step(untouched.action_space.sample()))


@pytest.mark.parametrize("action_type", ["box", "multi-binary"])
def test_a_set_earns_what_its_reference_powers_earn_in_the_plain_environment(action_type: str) -> None:
    ours = CfIsacActivationEnv(**SMALL, action_type=action_type)
    plain = CfIsacEnv(**SMALL)
    rng = np.random.default_rng(0)
    served = 0
    for seed in range(12):
        ours.reset(seed=seed)
        plain.reset(seed=seed)
        active = rng.random(6) < 0.8
        answer = reference.solve(plain.scenario.problem, active)
        action = active.astype(np.int8) if action_type == "multi-binary" else np.where(active, 0.3, -0.3)
        _, reward, terminated, _, info = ours.step(action)
        assert terminated
        assert info["active_aps"] == active.sum()
        assert info["feasible"] == (answer.status == "optimal")
        if info["feasible"]:
            served += 1
            total = float(answer.transmit_power) + 0.2 * active.sum()
            assert info["total_power_w"] == pytest.approx(total, rel=1e-4)
            assert reward == pytest.approx(-total, rel=1e-4, abs=2e-3)
        else:  # P_max in equal parts, scored by the plain environment
            amplitude = np.full((6, 4), 2 * np.sqrt(1 / 3) - 1, np.float32)
            amplitude[:, 0] = np.where(active, 1, -1)
            assert reward == pytest.approx(plain.step(amplitude)[1], rel=1e-4)
            assert reward < -1
    assert 2 < served < 12


def test_no_set_that_misses_a_requirement_earns_more_than_the_best_that_misses_none() -> None:
    env = CfIsacActivationEnv(**TINY, action_type="multi-binary")
    for seed in range(1, 4):
        scores = {}
        for active in itertools.product((0, 1), repeat=5):
            env.reset(seed=seed)
            _, reward, _, _, info = env.step(np.array(active, dtype=np.int8))
            scores[active] = reward, info["feasible"]
        assert max(scores.values())[1]


def test_moves_earn_the_difference_of_the_plain_environments_rewards() -> None:
    env, plain = sequential(), CfIsacEnv(**SMALL)
    rng = np.random.default_rng(1)
    for seed in range(10):
        _, info = env.reset(seed=seed)
        plain.reset(seed=seed)
        start, gained = sum(info["reward_terms"].values()), 0.0
        for move in [*rng.integers(0, 6, 5), 6]:
            observation, reward, terminated, truncated, info = env.step(move)
            gained += reward
        assert terminated
        assert not truncated
        active = observation["ap"][:, 2] == 1.0
        assert info["active_aps"] == active.sum()
        power = observation["power"].astype(np.float64) ** 2 * 0.1
        _, score, _, _, scored = plain.step(
            actions.encode(Decision(active, power), 0.1, plain.scenario.problem.estimate_gain)
        )
        assert scored["feasible"] == info["feasible"]
        assert scored["total_power_w"] == pytest.approx(info["total_power_w"], rel=1e-5)
        assert start + gained == pytest.approx(score, rel=1e-4, abs=2e-2)


def test_the_best_of_all_sets_can_be_reached_and_earns_the_most() -> None:
    env = CfIsacSequentialEnv(**TINY)
    for seed in range(1, 4):
        _, first = env.reset(seed=seed)
        problem = env.scenario.problem
        sets = np.array([s for s in itertools.product((False, True), repeat=5) if any(s)])
        answers = reference.solve(problem, sets)
        totals = np.where(answers.status == "optimal", answers.transmit_power + 0.2 * sets.sum(-1), np.inf)
        best = sets[int(totals.argmin())]
        gained = 0.0
        for move in [*np.flatnonzero(~best), 5]:
            assert env.action_masks()[move]
            _, reward, terminated, _, info = env.step(move)
            gained += reward
        assert terminated
        assert info["feasible"]
        assert info["total_power_w"] == pytest.approx(totals.min(), rel=1e-4)
        assert gained == pytest.approx(first["total_power_w"] - totals.min(), rel=1e-3, abs=1e-3)


def test_masked_actions_stop_only_at_sets_that_serve_the_drop() -> None:
    env = sequential(start="strongest")
    rng = np.random.default_rng(0)
    stopped = 0
    for seed in range(40):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            allowed = env.action_masks()
            assert allowed.shape == (7,)
            assert allowed[6] == info["feasible"]
            before = info
            _, reward, terminated, truncated, info = env.step(rng.choice(np.flatnonzero(allowed)))
            assert info["active_aps"] >= 1
            over = terminated or truncated
            if terminated:
                stopped += 1
                assert reward == 0.0
                assert flat(info) == flat(before)
                assert info["feasible"]
    assert stopped > 5


def test_an_episode_is_truncated_after_max_moves() -> None:
    env = sequential(max_moves=3)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)


def test_the_strongest_start_is_the_set_of_that_policy() -> None:
    env, plain = sequential(start="strongest"), CfIsacEnv(**SMALL)
    observation, _ = env.reset(seed=4)
    drop, _ = plain.reset(seed=4)
    action, _ = baselines.make("strongest-ap").predict(drop)
    assert (observation["ap"][:, 2] == (action[:, 0] > 0)).all()


def test_random_sets_of_the_plain_problem_are_priced_as_the_allocator_prices_them() -> None:
    scenario = sample(SystemConfig(**SMALL), np.random.default_rng(8), 6)
    for i in range(6):
        active: NDArray[np.bool_] = np.arange(6) != i
        decision = agents.rl.environments.priced(
            baselines.allocation.Allocator("clarabel"), scenario[i].problem, active
        )
        assert not decision.power[i].any()
        assert (decision.power.sum(-1) <= 0.1 + 1e-12).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CfIsacActivationEnv(**SMALL, action_type="multibinary"), "did you mean 'multi-binary'"),
        (lambda: CfIsacActivationEnv(**SMALL, backend="fasst"), "did you mean 'fast'"),
        (lambda: sequential(start="strong"), "did you mean 'strongest'"),
        (lambda: sequential(start=1), "start must be"),
        (lambda: sequential(max_moves=0), "1 or more"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_fields_that_an_environment_lacks_are_refused() -> None:
    for name in ("episode_steps", "decisions_per_drop"):
        with pytest.raises(TypeError, match=name):
            sequential(**{name: 3})


@pytest.mark.parametrize("action", [7, -1, 1.5, "0", None, np.zeros(7), True])
def test_moves_out_of_range_are_refused(action: Any) -> None:
    env = sequential()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="whole number from 0 to 6"):
        env.step(action)


@pytest.mark.parametrize(
    ("action_type", "action", "message"),
    [
        ("box", np.zeros((6, 4)), "must have shape .6,."),
        ("box", np.array([0, 0, np.nan, 0, 0, 0]), "NaN .APs .2"),
        ("multi-binary", np.full(6, 0.5), "0 and 1 alone"),
    ],
)
def test_activations_of_another_shape_or_type_are_refused(action_type: str, action: Any, message: str) -> None:
    env = CfIsacActivationEnv(**SMALL, action_type=action_type)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_no_environment_moves_before_it_is_reset() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        sequential().step(0)
    with pytest.raises(RuntimeError, match="reset"):
        CfIsacActivationEnv(**SMALL).step(np.ones(6))


def test_the_relaxation_is_that_of_the_sequential_environment_with_every_ap_on() -> None:
    fields: dict[str, Any] = {"M": 8, "K": 2, "crlb_threshold_m2": 20.0}
    env = gym.make("CfIsacPriority-v0", relaxed=True, episode_steps=2, **fields)
    for seed in range(6):
        first, _ = env.reset(seed=seed)
        exact, information = gym.make("CfIsacSequential-v0", **fields).reset(seed=seed)
        total = (first["power"].astype(float) ** 2).sum()
        assert information["feasible"]
        assert (exact["power"].astype(float) ** 2).sum() == pytest.approx(
            total, rel=0.02
        )  # closed forms are near-optimal
        second = env.step(np.zeros(8, np.float32))[0]
        assert not np.array_equal(first["power"], second["power"])
    with pytest.raises(ValueError, match="relaxed must be True or False, got 1"):
        gym.make("CfIsacPriority-v0", relaxed=1)


def test_the_relaxation_follows_the_requirements() -> None:
    env = gym.make(
        "CfIsacPriority-v0", M=8, K=2, crlb_threshold_m2=20.0, relaxed=True, episode_steps=3, decisions_per_drop=3
    )
    before = env.reset(seed=0)[0]["power"]
    np.testing.assert_array_equal(env.step(np.zeros(8, np.float32))[0]["power"], before)
    env.set_wrapper_attr("crlb_threshold_m2", 5.0)
    assert not np.array_equal(env.step(np.zeros(8, np.float32))[0]["power"], before)
