"""`mobile-value`: forecasts, search, training, and its decisions in the environment."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import agents
from agents.mobile import kernels, storage, training
from agents.mobile.config import MobileTraining
from agents.mobile.episodes import Costs, play, prepare
from agents.mobile.evolution import Evolution
from agents.mobile.forecast import FUTURES, STEPS, draw
from agents.mobile.policy import MobileValuePolicy
from agents.mobile.value import Value
from baselines.foresight.futures import Laws
from cfisac_env import SystemConfig, observations, seeds
from cfisac_env.mobile import switching

CONFIG = SystemConfig(preset="urban", M=12, K=3, T=4)
SMALL = MobileTraining(
    generations=3, population=4, episodes=3, batch=2, validation_episodes=2, validate_every=2, seed=7
)


def mobile(**options: Any) -> Any:
    return gym.make("CfIsacMobile-v0", **{"preset": "urban", "M": 12, "K": 3, "T": 4, **options})


def forecast(env: Any, seed: int) -> Any:
    observation, _ = env.reset(seed=seed)
    return draw(observation, observations.decode(observation), switching(observation), Laws())


def truth(env: Any, t: int) -> Any:
    """Return the features of every AP at an instant, in units of the noise, (M, 3S + 2K)."""
    problem = env.unwrapped.trajectory.problem[t]
    sensing = problem.max_ap_power_w * problem.fisher.reshape(problem.M, -1)
    return np.concatenate([sensing, problem.estimate_gain / problem.noise_w, problem.gain / problem.noise_w], axis=1)


@pytest.mark.parametrize("options", [{}, {"S": 2, "K": 4, "pilot_length": 2}])
def test_a_network_at_rest_is_forecast_to_stay_as_it_is(options: dict[str, Any]) -> None:
    env = mobile(user_speed_m_s=0.0, target_speed_m_s=0.0, **options)
    found = forecast(env, 3)
    expected = np.broadcast_to(truth(env, 0)[None, :, :, None], found.rows.shape)
    scale = np.abs(expected).max(axis=(0, 1, 3), keepdims=True)
    np.testing.assert_allclose(found.rows / found.requirement[1], expected, rtol=2e-3, atol=1e-5 * float(scale.min()))


def test_forecast_targets_surround_their_later_place() -> None:
    env = mobile()
    errors = []
    for seed in range(8):
        trace = forecast(env, seed).rows[:, :, :2].sum(2)  # (H, M, F)
        for h in (0, 3):
            later = truth(env, int(STEPS[h]))[:, :2].sum(1)
            errors.append((h, np.abs(np.log(trace[h].mean(-1) / later)).mean()))
    one, four = (np.mean([error for h, error in errors if h == wanted]) for wanted in (0, 3))
    still = np.mean([
        np.abs(np.log(truth(env, 4)[:, :2].sum(1) / truth(env, 0)[:, :2].sum(1))).mean()
        for _ in (env.reset(seed=seed) for seed in range(8))
    ])  # fmt: skip
    assert one < 0.05
    assert four < 0.4 * still


def load(rows: Any, count: Any, S: int, requirement: Any) -> Any:
    """Compute the load of sums (D, F), independently of the kernels."""
    gamma, noise, nu, cap = requirement[:4]
    result = np.zeros(rows.shape[1])
    for s in range(S):
        for f in range(rows.shape[1]):
            a, b, c = rows[3 * s : 3 * s + 3, f]
            result[f] = max(result[f], np.trace(np.linalg.inv([[a, c], [c, b]])) / nu)
    K = (len(rows) - 3 * S) // 2
    v, g = rows[3 * S : 3 * S + K], rows[3 * S + K :]
    share = gamma * (g / v).sum(0) / count
    power = gamma * noise * (1 / v).sum(0) / (1 - share)
    return np.maximum(result, power / (count * cap * np.minimum(0.75, 0.75 - 1.75 * (share - 0.7))))


def test_search_returns_a_set_that_no_single_move_improves_at_its_true_cost() -> None:
    env = mobile(M=6, K=2, sinr_threshold_db=-10.0, switching_energy_j=8.0)
    found = forecast(env, 5)
    state = switching(env.reset(seed=5)[0])
    value = Value()
    tables = value.tables(state, 0.2)
    M, H = 6, tables.horizon

    def begin(count: int) -> float:
        return float(tables.spread[0] + tables.spread[1] * max(count - 3, 0))

    def highest(rows: Any) -> float:  # power of an AP, relative to P_max
        gamma, noise, _, cap = found.requirement[:4]
        v, interference = rows[:, 3:5], noise + cap * rows[:, 5:7].sum(0)
        return float((gamma * interference * v / v.sum(0) ** 2).sum(1).max() / cap)

    def cost(members: Any) -> float:
        fixed, total = tables.prices[0] * members.sum(), 0.0
        for f in range(FUTURES):
            fails, deep = np.empty((2, H))
            for h in range(H):
                own = load(
                    found.rows[h][members].sum(0, dtype=np.float64)[:, f : f + 1], members.sum(), 1, found.requirement
                )[0]
                shape = tables.shape[h]
                fails[h], deep[h] = np.clip((own - shape[[0, 2]]) * shape[[1, 3]], 0.0, 1.0)
                uneven = highest(found.rows[h][members][:, :, f].astype(np.float64)) - begin(members.sum())
                fails[h] = max(fails[h], np.clip(uneven * tables.spread[2], 0.0, 1.0))
            worst = np.maximum.accumulate(np.concatenate([[0.0], fails]))
            before = np.concatenate([[0.0], fails[:-1]])
            deepest = np.maximum.accumulate(np.concatenate([[0.0], deep]))
            new, back = np.maximum(fails - worst[:-1], 0.0), np.maximum(np.minimum(fails, worst[:-1]) - before, 0.0)
            total += (tables.weights[:, :H] * [new, back, np.diff(deepest), fails]).sum() / FUTURES
        return float(fixed + total)

    on, active = np.ones(M, np.bool_), np.empty(M, np.bool_)
    requirement = found.requirement.copy()
    requirement[4] = 1e-12  # no transmit energy
    returned = kernels.decide(
        found.rows, found.now, STEPS, H, on, np.zeros(M, np.int64), 1, 2, requirement, tables.prices, 1.0, 1.0, tables.spread,
        tables.weights, tables.shape, active,
    )  # fmt: skip
    sets = [np.array(bits, dtype=bool) for bits in product([False, True], repeat=M) if sum(bits) > 1]
    served = [
        one
        for one in sets
        if load(found.now[one].sum(0)[:, None], one.sum(), 1, found.requirement)[0] <= 1.0
        and highest(found.now[one]) <= begin(one.sum()) + 0.5 / tables.spread[2]
    ]
    costs = {one.tobytes(): cost(one) for one in served}
    np.testing.assert_allclose(returned, costs[active.tobytes()], rtol=2e-3)
    near = [costs[one.tobytes()] for one in served if (one != active).sum() <= 1]
    assert returned <= min(near) * 1.002
    assert active.sum() < M


@pytest.mark.parametrize("task", [Costs(8.0, 0), Costs(2.0, 2)])
def test_training_plays_episodes_as_the_environment_does(task: Costs) -> None:
    episode = prepare(CONFIG, 500_000, 1, Laws())[0]
    own = play(episode, Value(), task)
    env = mobile(switching_energy_j=task.energy_j, wake_up_steps=task.wake_up_steps)
    for seed in range(500_000, 500_100):  # the first servable one
        observation, _ = env.reset(seed=seed)
        if np.allclose(switching(observation).steps_left, 50) and np.allclose(
            observations.decode(observation).gain, episode[0].problem.gain
        ):
            break
    policy, infos, over = MobileValuePolicy(), [], False
    while not over:
        action, _ = policy.predict(observation)
        observation, _, _, over, info = env.step(action)
        infos.append(info)
    assert sum(not info["feasible"] for info in infos) == own.unserved
    assert sum(info["switched_on"] for info in infos) == own.switched_on
    assert infos[-1]["episode_energy_j"] == pytest.approx(own.energy_j, rel=1e-3)


def test_evolution_finds_the_minimum_of_a_rotated_ellipsoid() -> None:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    scales = 10.0 ** np.linspace(0, 4, 6)
    search = Evolution.start(np.ones(6), 0.5, np.ones(6))
    for _ in range(250):
        candidates = search.sample(rng, 10)
        search.update(candidates, ((candidates @ rotation) ** 2 * scales).sum(1))
    assert np.abs(search.mean).max() < 1e-4


def test_a_stopped_run_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = training.train(SMALL, CONFIG, tmp_path / "whole")

    def stop(generation: int, text: str) -> None:
        if generation == 1 and not text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(SMALL, CONFIG, tmp_path / "parts", step=stop)
    parts = training.train(SMALL, CONFIG, tmp_path / "parts")
    assert parts.best == whole.best
    assert [row["cost"] for row in parts.curve] == [row["cost"] for row in whole.curve]
    loaded = agents.load("mobile-value", weights=tmp_path / "parts" / "best.json")
    assert loaded.value == Value.of(np.array(whole.best))
    with pytest.raises(ValueError, match="another training"):
        training.train(replace(SMALL, seed=8), CONFIG, tmp_path / "parts")
    with pytest.raises(FileExistsError, match="holds a run"):
        training.train(SMALL, CONFIG, tmp_path / "parts", resume=False)


def test_the_shipped_agent_serves_with_few_switch_ons_at_every_size() -> None:
    assert seeds.VALIDATION < seeds.TEST
    for M, K in ((30, 6), (20, 4)):
        env = mobile(M=M, K=K, switching_energy_j=8.0, episode_steps=12)
        policy = agents.load("mobile-value", config=env.unwrapped.config)
        observation, _ = env.reset(seed=seeds.VALIDATION + 1)
        infos, over = [], False
        while not over:
            action, _ = policy.predict(observation)
            observation, _, _, over, info = env.step(action)
            infos.append(info)
        assert all(info["feasible"] for info in infos)
        assert sum(info["switched_on"] for info in infos) <= 4
        assert np.mean([info["active_aps"] for info in infos[1:]]) < M / 2


def test_a_batch_is_decided_like_its_rows() -> None:
    policy = agents.load("mobile-value")
    each = [mobile(switching_energy_j=2.0, wake_up_steps=1).reset(seed=seed)[0] for seed in (1, 2)]
    batch = {key: np.stack([one[key] for one in each]) for key in each[0]}
    np.testing.assert_array_equal(policy.predict(batch)[0], np.stack([policy.predict(one)[0] for one in each]))


def test_bad_input_is_refused(tmp_path: Path) -> None:
    observation, _ = mobile(velocities=False).reset(seed=0)
    with pytest.raises(ValueError, match="velocities=True"):
        agents.load("mobile-value").predict(observation)
    with pytest.raises(FileNotFoundError, match="train mobile-value"):
        agents.load("mobile-value", weights=tmp_path / "none.json")
    content = json.loads(storage.SHIPPED.read_text())
    damages: list[dict[str, Any]] = [{"value": {**content["value"], "scale": None}}, {"value": {}}, {"agent": "other"}]
    for damage in damages:
        path = tmp_path / "damaged.json"
        path.write_text(json.dumps(content | damage))
        with pytest.raises(ValueError, match=r"damaged\.json"):
            agents.load("mobile-value", weights=path)
    for options in ({"population": 5}, {"batch": 9, "episodes": 8}, {"seed": 1000}, {"generations": 0}, {"step": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            MobileTraining(**options)
    with pytest.raises(ValueError, match="orthogonal pilots"):
        training.train(SMALL, SystemConfig(M=12, K=3, pilot_length=2), tmp_path / "shared")
    with pytest.raises(ValueError, match="CPU"):
        agents.load("mobile-value", device="cuda")
