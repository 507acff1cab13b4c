"""The environments as their users meet them: through Gymnasium, in other processes, from files, step by step."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from cfisac_env import PRESETS, CfIsacEnv, Decision, Scenario, SystemConfig, actions, sample

IDS = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("cfisac_env.")]
EVERY = [(name, preset) for name in IDS for preset in PRESETS]
SMALL: dict[str, Any] = {"M": 6, "K": 3}

VARIANTS: dict[str, dict[str, Any]] = {
    "one decision": {},
    "an episode": {"episode_steps": 4},
    "decisions on one drop": {"decisions_per_drop": 3},
    "decisions on each instant": {"episode_steps": 2, "decisions_per_drop": 2},
    "reused pilots, two targets": {"K": 5, "S": 2, "pilot_length": 2, "episode_steps": 3, "rcs_model": "exponential"},
}


def make(**fields: Any) -> CfIsacEnv:
    env = gym.make(IDS[0], **(SMALL | fields)).unwrapped
    assert isinstance(env, CfIsacEnv)
    return env


def flat(value: Any) -> list[Any]:
    """Numbers and arrays of a nested result as plain lists, so that results can be compared bit for bit and sent by pipe."""
    if isinstance(value, Mapping):
        return [item for key in sorted(value) for item in (key, *flat(value[key]))]
    if isinstance(value, tuple | list):
        return [item for part in value for item in flat(part)]
    return [np.asarray(value).tolist()]


def play(env: gym.Env[Any, Any], steps: int, seed: int | None = 5, begin: bool = True) -> list[Any]:
    """What the environment says in so many steps, with actions of their own seed."""
    rng = np.random.default_rng(99)
    said = flat(env.reset(seed=seed)) if begin else []
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape or ()).astype(np.float32)
        result = env.step(action)
        said += flat(result)
        if result[2] or result[3]:
            said += flat(env.reset())
    return said


def random_action(env: CfIsacEnv, seed: int = 0) -> NDArray[np.float32]:
    shape = env.config.M, env.config.K + 1
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_the_suite_registers_its_environment() -> None:
    assert {"CfIsac-v0", "CfIsacMobile-v0"} <= set(IDS)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_gymnasium_finds_nothing_to_say_about_any_environment(
    name: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    env = gym.make(name, **SMALL, preset=preset)
    drawable = importlib.util.find_spec("cfisac_env.rendering") is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=not drawable)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_gymnasium_finds_nothing_to_say_about_any_variant(variant: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(IDS[0], **(SMALL | VARIANTS[variant])).unwrapped, skip_render_check=True)


# What Stable-Baselines3 says of every array that isn't a vector: advice for images, which its own extractors flatten.
ADVICE_FOR_IMAGES = (
    "(?s).*(observation .* is an image|space .* is an image|minimal resolution for an image"
    "|unconventional shape|Treating image space as)"
)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_stable_baselines_finds_nothing_wrong_with_any_environment(name: str, preset: str) -> None:
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=ADVICE_FOR_IMAGES)
        check_env_sb3(gym.make(name, **SMALL, preset=preset), skip_render_check=True)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_seed_decides_everything_two_environments_say(name: str, preset: str) -> None:
    one, other = (gym.make(name, **SMALL, preset=preset) for _ in range(2))
    assert play(one, 50) == play(other, 50)
    assert play(one, 50) == play(other, 50)  # and again after a reset with the seed, whatever happened before
    assert play(one, 3, seed=6) != play(other, 3, seed=7)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_seed_decides_everything_in_every_variant(variant: str) -> None:
    one, other = make(**VARIANTS[variant]), make(**VARIANTS[variant])
    assert play(one, 50) == play(other, 50)
    play(other, 7, seed=None)  # leaves an episode and a block of drops half used
    assert play(one, 20) == play(other, 20)


def test_another_process_says_the_same_from_the_same_seed() -> None:
    variants = list(VARIANTS.values())
    command = [sys.executable, __file__, json.dumps(variants)]
    elsewhere = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(elsewhere.stdout) == [play(make(**fields), 20) for fields in variants]


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copied", "pickled"]
)
def test_a_copy_made_in_the_middle_goes_on_as_the_original(variant: str, twin: Any) -> None:
    env = gym.make(IDS[0], **(SMALL | VARIANTS[variant]))
    steps = VARIANTS[variant].get("episode_steps", 1) * VARIANTS[variant].get("decisions_per_drop", 1)
    play(env, 2 * steps)
    for _ in range(steps - 1):
        env.step(env.action_space.sample())
    second = twin(env)
    expected = play(env, 70, begin=False)
    assert play(second, 70, begin=False) == expected


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_every_observation_and_every_reward_lie_where_they_should(name: str, preset: str) -> None:
    env = gym.make(name, **SMALL, preset=preset, episode_steps=5)
    assert isinstance(env.unwrapped, CfIsacEnv)
    config = env.unwrapped.config
    worst = -2 * 6 * (config.max_ap_power_w + config.circuit_power_w)
    observation, info = env.reset(seed=1)
    assert info == {}
    rng = np.random.default_rng(2)
    for i in range(100):
        assert env.observation_space.contains(observation)
        action = rng.choice([-1.0, 0.0, 1.0], (6, 4)) if i % 2 else rng.uniform(-1, 1, (6, 4))
        observation, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        assert worst <= float(reward) <= 0.0
        if terminated or truncated:
            observation, _ = env.reset()


@pytest.mark.parametrize(
    ("fields", "lost"), [({}, 2 * 6 * 0.3), ({"sinr_penalty": 3.0, "crlb_penalty": 5.0}, 3 * 3.0 + 2 * 5.0)]
)
def test_everything_off_costs_every_penalty_in_full_and_no_power(fields: dict[str, Any], lost: float) -> None:
    env = make(**fields, S=2)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.full((6, 4), -1.0, np.float32))
    assert reward == pytest.approx(-lost)
    assert info["total_power_w"] == 0.0
    assert info["active_aps"] == 0
    assert not info["feasible"]
    np.testing.assert_array_equal(info["sinr_db"], -300.0)
    np.testing.assert_array_equal(info["crlb_m2"], np.inf)


def scored_by_loops(drop: Scenario, action: NDArray[np.float32]) -> dict[str, Any]:
    """The reward of an action, link by link in plain Python."""
    config = drop.config
    M, K, S, T = config.M, config.K, config.S, config.T
    power = [[0.0] * K for _ in range(M)]
    on = [float(action[m, 0]) >= 0 for m in range(M)]
    for m in range(M):
        asked = [config.max_ap_power_w * ((float(action[m, k + 1]) + 1) / 2) ** 2 for k in range(K)]
        scale = min(1.0, config.max_ap_power_w / sum(asked))
        power[m] = [scale * a if on[m] else 0.0 for a in asked]
    noise_w = 10 ** ((config.noise_density_dbm_hz - 30 + config.noise_figure_db) / 10) * config.bandwidth_hz
    pilot = [k % config.pilot_length for k in range(K)] if config.pilot_length < K else list(range(K))
    energy = config.pilot_length * config.pilot_power_w
    gain = drop.gain.tolist()
    v = [
        [
            energy * gain[m][k] ** 2 / (energy * sum(gain[m][j] for j in range(K) if pilot[j] == pilot[k]) + noise_w)
            for k in range(K)
        ]
        for m in range(M)
    ]
    sinr = []
    for k in range(K):
        signal = sum(math.sqrt(power[m][k] * v[m][k]) for m in range(M)) ** 2
        heard = noise_w + sum(gain[m][k] * sum(power[m]) for m in range(M))
        for j in range(K):
            if j != k and pilot[j] == pilot[k]:
                heard += sum(math.sqrt(power[m][j] * v[m][j]) * gain[m][k] / gain[m][j] for m in range(M)) ** 2
        sinr.append(signal / heard)
    zeta = 8 * math.pi**2 * config.bandwidth_hz**2 * config.integration_symbols / (noise_w * 299_792_458.0**2)
    crlb = []
    for s in range(S):
        J = np.zeros((2, 2))
        for m in range(M):
            for t in range(T):
                ap, sr = drop.ap_xy[m] - drop.target_xy[s], drop.sr_xy[t] - drop.target_xy[s]
                way = ap / np.linalg.norm(ap) + sr / np.linalg.norm(sr)
                J += sum(power[m]) * zeta * drop.rcs_gain[m, s, t] * np.outer(way, way)
        crlb.append(float(np.trace(np.linalg.inv(J))) if np.linalg.matrix_rank(J) == 2 else math.inf)
    threshold = 10 ** (config.sinr_threshold_db / 10)
    total = sum(map(sum, power)) + config.circuit_power_w * sum(on)
    missed = sum(max(0.0, 1 - g / threshold) for g in sinr)
    lost = sum(max(0.0, 1 - config.crlb_threshold_m2 / c) for c in crlb)
    feasible = missed == 0 and lost == 0
    most = M * (config.max_ap_power_w + config.circuit_power_w)
    return {
        "power": -total,
        "infeasible": 0.0 if feasible else total - most,
        "sinr": 0.0 if feasible else -most * missed / (K + S),
        "crlb": 0.0 if feasible else -most * lost / (K + S),
        "feasible": feasible,
        "sinr_db": [10 * math.log10(max(g, 1e-30)) for g in sinr],
        "crlb_m2": crlb,
        "active": sum(on),
    }


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_reward_is_the_sum_of_its_terms_and_what_plain_loops_compute(variant: str, preset: str) -> None:
    env = make(**VARIANTS[variant], preset=preset)
    seen = set()
    for seed in range(8):
        env.reset(seed=seed)
        drop = env.scenario
        action = random_action(env, seed)
        if seed % 2:
            action[:, 0] = 1.0
        expected = scored_by_loops(drop, action)
        _, reward, _, _, info = env.step(action)
        assert set(info["reward_terms"]) == {"power", "infeasible", "sinr", "crlb"}
        assert reward == pytest.approx(sum(info["reward_terms"].values()), rel=1e-14)
        for name, value in info["reward_terms"].items():
            assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(info["sinr_db"], expected["sinr_db"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(info["crlb_m2"], expected["crlb_m2"], rtol=1e-7)
        assert info["active_aps"] == expected["active"]
        assert info["circuit_power_w"] == pytest.approx(0.2 * expected["active"])
        assert info["total_power_w"] == pytest.approx(-expected["power"], rel=1e-9)
        assert info["transmit_power_w"] + info["circuit_power_w"] == pytest.approx(info["total_power_w"])
        assert info["feasible"] == expected["feasible"]
        seen.add(expected["feasible"])
    assert False in seen


def test_a_decision_scores_the_same_with_and_without_stepping() -> None:
    env = make(S=2)
    for seed in range(5):
        env.reset(seed=seed)
        action = random_action(env, seed)
        outcome = env.evaluate(actions.decode(action, env.config.max_ap_power_w))
        _, _, _, _, info = env.step(action)
        assert info["total_power_w"] == outcome.total_power
        assert info["transmit_power_w"] == outcome.transmit_power
        assert info["feasible"] == outcome.feasible
        np.testing.assert_allclose(info["sinr_db"], 10 * np.log10(outcome.sinr), rtol=1e-12)
        np.testing.assert_array_equal(info["crlb_m2"], outcome.crlb)


def test_evaluating_leaves_the_episode_as_it_was() -> None:
    env, untouched = make(episode_steps=4), make(episode_steps=4)
    env.reset(seed=3)
    untouched.reset(seed=3)
    for _ in range(3):
        env.evaluate(Decision(np.ones(6, bool), np.full((6, 3), 0.01)))
    assert play(env, 10, begin=False) == play(untouched, 10, begin=False)


def test_one_decision_ends_the_episode() -> None:
    env = make()
    env.reset(seed=0)
    _, _, terminated, truncated, _ = env.step(random_action(env))
    assert (terminated, truncated) == (True, False)


def test_the_next_instant_keeps_the_network_and_moves_the_users() -> None:
    env = make(episode_steps=5)
    before, _ = env.reset(seed=1)
    networks = []
    for episode in range(3):
        networks.append(before["ap"][:, :2])
        for step in range(5):
            action = random_action(env, step)
            after, _, terminated, truncated, _ = env.step(action)
            assert not terminated
            assert truncated == (step == 4)
            np.testing.assert_array_equal(after["ap"][:, 2], action[:, 0] >= 0)
            for key in ("sr", "target"):
                np.testing.assert_array_equal(after[key], before[key])
            np.testing.assert_array_equal(after["ap"][:, :2], before["ap"][:, :2])
            if step < 4:
                assert not np.isclose(after["ue"], before["ue"]).any()
                assert not np.isclose(after["comm"], before["comm"]).any()
            np.testing.assert_allclose(env.scenario.ue_xy / 250, after["ue"], rtol=1e-6)
            before = after
        before, _ = env.reset()
        np.testing.assert_array_equal(before["ap"][:, 2], 0)
        assert not np.isclose(before["ap"][:, :2], networks[episode]).any()


@pytest.mark.parametrize(("steps", "decisions"), [(1, 3), (2, 3)])
def test_a_drop_stays_for_its_decisions(steps: int, decisions: int) -> None:
    env = make(episode_steps=steps, decisions_per_drop=decisions)
    before, _ = env.reset(seed=1)
    for step in range(1, steps * decisions + 1):
        drop, action = env.scenario, random_action(env, step)
        after, _, terminated, truncated, _ = env.step(action)
        last = step == steps * decisions
        assert (terminated, truncated) == (last and steps == 1, last and steps > 1)
        np.testing.assert_array_equal(after["ap"][:, 2], action[:, 0] >= 0)
        stays = last or step % decisions > 0
        assert np.array_equal(env.scenario.gain, drop.gain) == stays
        for key, value in before.items():
            shown = (..., slice(2)) if key == "ap" else ...
            if stays or key not in ("comm", "ue"):
                np.testing.assert_array_equal(after[key][shown], value[shown])
            else:
                assert not np.isclose(after[key], value).any()
        before = after
    with pytest.raises(RuntimeError, match="episode is over"):
        env.step(action)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("decisions", [1, 2])
def test_drops_follow_each_other_as_one_generator_draws_them_one_by_one(steps: int, decisions: int) -> None:
    env = make(
        episode_steps=steps,
        decisions_per_drop=decisions,
        rcs_model="exponential",
        pilot_length=2,
        pilot_assignment="random",
    )
    rng, _ = seeding.np_random(12)
    for episode in range(9):
        env.reset(seed=12 if episode == 0 else None)
        network = drop = sample(env.config, rng)
        for step in range(steps * decisions):
            for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain", "rcs_gain", "fisher", "pilot"):
                np.testing.assert_array_equal(getattr(env.scenario, name), getattr(drop, name))
            env.step(random_action(env))
            if (step + 1) % decisions == 0 and step + 1 < steps * decisions:
                drop = sample(env.config, rng, network=network)


def test_each_step_is_scored_on_the_drop_that_was_observed() -> None:
    env = make(episode_steps=6)
    env.reset(seed=2)
    for step in range(6):
        drop, action = env.scenario, random_action(env, step)
        outcome = drop.evaluate(actions.decode(action, 0.1))
        _, _, _, _, info = env.step(action)
        np.testing.assert_allclose(info["crlb_m2"], outcome.crlb, rtol=1e-12)
        np.testing.assert_allclose(info["sinr_db"], 10 * np.log10(outcome.sinr), rtol=1e-12)


def test_an_environment_says_when_it_has_to_be_reset() -> None:
    env = make()
    for use in (lambda: env.step(random_action(env)), lambda: env.scenario, lambda: env.evaluate(Decision(None, None))):
        with pytest.raises(RuntimeError, match="reset"):
            use()
    env.reset(seed=0)
    env.step(random_action(env))
    with pytest.raises(RuntimeError, match=r"episode is over.*reset"):
        env.step(random_action(env))


@pytest.mark.parametrize("name", ["episode_steps", "decisions_per_drop"])
@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_a_number_of_steps_or_decisions_that_is_none_is_refused(name: str, count: Any) -> None:
    fields: dict[str, Any] = {name: count}
    with pytest.raises(ValueError, match=f"{name} must be a whole number of 1 or more, got"):
        CfIsacEnv(**fields)


def test_wrong_arguments_get_the_configurations_errors() -> None:
    with pytest.raises(TypeError, match="did you mean 'max_ap_power_w'"):
        CfIsacEnv(max_power_w=1.0)
    with pytest.raises(ValueError, match="valid presets"):
        CfIsacEnv(preset="rural")
    with pytest.raises(ValueError, match="render_mode"):
        CfIsacEnv(render_mode="ansi")


def arrays(value: Any, seen: set[int] | None = None) -> Iterator[NDArray[Any]]:
    """Every array reachable from an object, with the arrays they are views of."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type):
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield value
        yield from arrays(value.base, seen)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from arrays(item, seen)
    elif isinstance(value, tuple | list | set):
        for item in value:
            yield from arrays(item, seen)
    elif hasattr(value, "__dict__"):
        yield from arrays(vars(value), seen)


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_nothing_returned_shares_memory_with_the_environment(variant: str, render_mode: str | None) -> None:
    env = make(**VARIANTS[variant], render_mode=render_mode)
    decision = Decision(np.ones(6, bool), np.full((6, env.config.K), 0.01))
    env.reset(seed=4)
    for episode in range(4):
        returned: list[Any] = [env.reset(seed=4 if episode == 2 else None), env.evaluate(decision)]
        action = random_action(env, episode)
        returned += [env.step(action), action]
        inside = list(arrays(env))
        assert len(inside) > 10
        given = [array for part in returned for array in arrays(part)]
        assert len(given) > 10
        for mine in given:
            assert not any(np.shares_memory(mine, theirs) for theirs in inside)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_writing_into_what_was_returned_changes_nothing(variant: str) -> None:
    env, untouched = make(**VARIANTS[variant]), make(**VARIANTS[variant])
    rng = np.random.default_rng(8)
    for i in range(12):
        results = [e.reset(seed=9) if i == 0 else e.reset() for e in (env, untouched)]
        assert flat(results[0]) == flat(results[1])
        over = False
        while not over:
            for array in arrays(results[0]):
                array[...] = 0
            action = rng.uniform(-1, 1, (6, env.config.K + 1)).astype(np.float32)
            steps = [e.step(action.copy()) for e in (env, untouched)]
            assert flat(steps[0]) == flat(steps[1])
            over = bool(steps[0][2] or steps[0][3])
            results = [list(step) for step in steps]  # type: ignore[misc]


@pytest.fixture
def drops() -> Scenario:
    return sample(SystemConfig(6, 3, preset="urban", T=3), np.random.default_rng(10), 4)


@pytest.mark.parametrize("kind", ["scenario", "path", "string"])
def test_drops_are_played_in_order_and_from_the_beginning_again(kind: str, drops: Scenario, tmp_path: Path) -> None:
    source: Any = drops
    if kind != "scenario":
        source = drops.save(tmp_path / "drops.npz")
        source = str(source) if kind == "string" else source
    env = CfIsacEnv(drops=source)
    assert env.config == drops.config
    for i in (0, 1, 2, 3, 0, 1):
        observation, _ = env.reset()
        assert env.observation_space.contains(observation)
        np.testing.assert_array_equal(env.scenario.gain, drops.gain[i])
        np.testing.assert_allclose(observation["ue"] * 250, drops.ue_xy[i], rtol=1e-6)
        action = random_action(env, i)
        _, _, _, _, info = env.step(action)
        assert info["total_power_w"] == pytest.approx(-scored_by_loops(drops[i], action)["power"], rel=1e-9)
    env.reset(seed=5)
    np.testing.assert_array_equal(env.scenario.gain, drops.gain[0])
    env.reset(options={"drop": 2})
    np.testing.assert_array_equal(env.scenario.gain, drops.gain[2])
    env.reset()
    np.testing.assert_array_equal(env.scenario.gain, drops.gain[3])


def test_given_drops_follow_each_other_within_an_episode(drops: Scenario) -> None:
    env = CfIsacEnv(drops=drops, episode_steps=3)
    env.reset()
    for i in (0, 1, 2):
        np.testing.assert_array_equal(env.scenario.gain, drops.gain[i])
        _, _, _, truncated, _ = env.step(random_action(env))
    assert truncated
    env.reset()
    np.testing.assert_array_equal(env.scenario.gain, drops.gain[3])


def test_one_drop_can_be_played_over_and_over(drops: Scenario) -> None:
    env = CfIsacEnv(drops=drops[2])
    for _ in range(3):
        env.reset()
        np.testing.assert_array_equal(env.scenario.gain, drops.gain[2])


def test_drops_from_a_file_survive_the_specification_and_pickling(drops: Scenario, tmp_path: Path) -> None:
    env = gym.make(IDS[0], drops=str(drops.save(tmp_path / "drops.npz")))
    assert env.spec is not None
    assert play(gym.make(EnvSpec.from_json(env.spec.to_json())), 6) == play(env, 6)
    assert play(pickle.loads(pickle.dumps(env)), 6) == play(env, 6)


@pytest.mark.parametrize(("name", "value"), [("M", 7), ("K", 4), ("T", 2), ("bandwidth_hz", 1e7), ("preset", "paper")])
def test_a_configuration_that_does_not_fit_the_drops_is_refused(name: str, value: Any, drops: Scenario) -> None:
    with pytest.raises(ValueError, match=f"{name}={value!r} doesn't fit the drops.*{name}="):
        CfIsacEnv(drops=drops, **{name: value})


def test_what_is_asked_of_given_drops_can_change(drops: Scenario) -> None:
    env = CfIsacEnv(drops=drops, M=6, sinr_threshold_db=0.0, circuit_power_w=0.5)
    observation, _ = env.reset()
    np.testing.assert_allclose(observation["requirement"], [1.0, 1.0, 0.2, 0.5], rtol=1e-6)
    _, _, _, _, info = env.step(np.ones((6, 4), np.float32))
    assert info["circuit_power_w"] == pytest.approx(3.0)
    assert drops.config.circuit_power_w == 0.2


def test_drops_of_another_kind_are_refused(drops: Scenario, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Scenario"):
        CfIsacEnv(drops=3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="none"):
        CfIsacEnv(drops=tmp_path / "none.npz")
    stacked = sample(SystemConfig(6, 3), np.random.default_rng(0), 4)
    parts = {
        name: getattr(stacked, name).reshape(2, 2, *getattr(stacked, name).shape[1:])
        for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain")
    }
    with pytest.raises(ValueError, match="one leading axis"):
        CfIsacEnv(drops=Scenario.from_gains(stacked.config, **parts))


if __name__ == "__main__":  # the other process
    sys.stdout.write(json.dumps([play(make(**fields), 20) for fields in json.loads(sys.argv[1])]))
