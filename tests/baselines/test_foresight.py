"""`predictive` and `keep-credit`: simulated futures, their cost model, and the performance of the policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import baselines
from baselines.allocation import Allocator, Status
from baselines.foresight import kernels
from baselines.foresight.futures import Futures, Laws, draw, grid
from cfisac_env import CfIsacMobileEnv, SystemConfig, observations, sample
from cfisac_env.mobile import switching

Observation = dict[str, NDArray[np.float32]]


def make(**fields: Any) -> CfIsacMobileEnv:
    env = gym.make("CfIsacMobile-v0", **({"M": 10, "K": 3, "T": 4} | fields)).unwrapped
    assert isinstance(env, CfIsacMobileEnv)
    return env


def ahead(observation: Observation, count: int = 8, horizon: int = 10, **laws: float) -> Futures:
    problem, state = observations.decode(observation), switching(observation)
    return draw(observation, problem, state, Laws(**laws), count=count, horizon=horizon)


def play(env: CfIsacMobileEnv, policy: Any, seed: int) -> tuple[float, float, float]:
    """Energy, share of instants served, and energy spent on switching."""
    observation, _ = env.reset(seed=seed)
    served, switching_j = [], 0.0
    for _ in range(env.episode_steps):
        observation, *_, info = env.step(policy.predict(observation)[0])
        served.append(info["feasible"])
        switching_j += info["switching_energy_j"]
    return float(info["episode_energy_j"]), float(np.mean(served)), switching_j


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"preset": "urban", "S": 3},
        {"preset": "precise-sensing", "rcs_model": "exponential", "S": 2},
        {"K": 5, "pilot_length": 2, "pilot_assignment": "random"},
        {"M": 2, "K": 1, "T": 1},
    ],
    ids=str,
)
def test_where_nothing_moves_every_future_is_the_present(fields: dict[str, Any]) -> None:
    env = make(user_speed_m_s=0.0, target_speed_m_s=0.0, **fields)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        seen = ahead(observation)
        now, K, S = env.scenario, env.config.K, env.config.S
        gain = now.gain / env.config.noise_w
        estimate = now.estimate_gain / env.config.noise_w
        far = np.linalg.norm(now.ap_xy[:, None] - now.target_xy, axis=-1) > 1.0  # else float32 has no direction
        for future in seen.rows.reshape(-1, *seen.rows.shape[2:]):
            np.testing.assert_allclose(future[:, 3 * S + K :], gain, rtol=1e-3)
            np.testing.assert_allclose(future[:, 3 * S : 3 * S + K], estimate, rtol=2e-3)
            fisher = future[:, : 3 * S].reshape(-1, S, 3) / env.config.max_ap_power_w
            trace = now.fisher[..., 0] + now.fisher[..., 1]
            error = np.abs(fisher - now.fisher).max(-1) / trace
            assert error[far].max() < 2e-3


def test_futures_predict_the_next_instants() -> None:
    env = make(M=20, K=4, preset="urban")
    errors: dict[int, list[float]] = {1: [], 4: []}
    for seed in range(4):
        env.reset(seed=seed)
        action = np.zeros((20, 5), np.float32)
        for _ in range(5):
            observation, *_ = env.step(action)
        seen = ahead(observation, count=24)
        for step, apart in errors.items():
            i = int(np.flatnonzero(seen.times == step)[0])
            there = env.trajectory.target_xy[5 + step, 0]
            apart.append(float(np.linalg.norm(seen.places[:, i, 0].mean(0) - there)))
            assert np.linalg.norm(seen.places, axis=-1).max() < 251.0
        log_gain = np.log(seen.rows[:, 0, :, 3 + 4 :])
        truth = np.log(env.trajectory.gain[6] / env.config.noise_w)
        assert np.abs(log_gain.mean(0) - truth).mean() < 0.5  # of shadowing of 4 dB, 0.92 nepers
    assert np.mean(errors[1]) < 1.5
    assert np.mean(errors[4]) < 12.0


def test_an_instant_has_the_same_random_numbers_in_every_decision() -> None:
    """Common random numbers make decisions at consecutive steps comparable."""
    env = make(target_speed_m_s=0.0, user_speed_m_s=1.0)
    first, _ = env.reset(seed=1)
    second, *_ = env.step(np.zeros((10, 4), np.float32))
    early, late = ahead(first), ahead(second)
    changes = [np.diff(np.log(one.rows[..., 3 + 3 :]), axis=1) for one in (early, late)]
    assert np.corrcoef(changes[0][:, 4].ravel(), changes[1][:, 3].ravel())[0, 1] > 0.95


def test_the_grid_gets_coarser_and_covers_every_step_once() -> None:
    for horizon in (1, 3, 8, 9, 24, 40, 49, 999):
        times, weights = grid(horizon)
        assert times[0] == 1
        assert times[-1] == horizon
        assert weights.sum() == horizon
        assert (np.diff(weights[:-1]) >= 0).all()


@pytest.mark.parametrize("preset", ["paper", "high-rate", "precise-sensing", "urban"])
def test_the_closed_form_mostly_predicts_feasibility(preset: str) -> None:
    rng, right, total = np.random.default_rng(5), 0, 0
    for M, K in ((10, 3), (30, 6)):
        config = SystemConfig(M, K, preset=preset, T=10 if preset == "precise-sensing" else 4)
        for problem in (sample(config, rng).problem for _ in range(4)):
            order = np.argsort(-problem.gain.sum(1) * rng.lognormal(0, 0.5, M))
            sets = np.array(
                [np.isin(np.arange(M), rng.permutation(order[: M // 2])[:n]) for n in range(2, 9) for _ in range(3)]
            )
            rows = np.concatenate(
                [problem.fisher.reshape(M, 3) * config.max_ap_power_w, problem.estimate_gain, problem.gain], axis=1
            )[None, None]
            requirement = np.array(
                [config.sinr_threshold, config.noise_w, config.crlb_threshold_m2, config.max_ap_power_w]
            )
            exact = Allocator()(problem, sets).status == Status.OPTIMAL
            for one, serves in zip(sets, exact, strict=True):
                claimed = np.empty((1, 1), np.bool_)
                kernels.serves(np.ascontiguousarray(rows), one, 1, K, requirement, claimed)
                right, total = right + int(claimed[0, 0] == serves), total + 1
    assert right / total > 0.93


@pytest.mark.parametrize("energy_j", [1.0, 8.0])
def test_predictive_needs_less_energy_than_hysteresis_and_serves_every_instant(energy_j: float) -> None:
    env = make(M=14, K=4, preset="urban", switching_energy_j=energy_j, episode_steps=20)
    ours, theirs = (
        np.array([play(env, baselines.make(name), seed) for seed in range(3)]) for name in ("predictive", "hysteresis")
    )
    assert ours[:, 0].sum() < 0.95 * theirs[:, 0].sum()
    assert ours[:, 1].mean() >= theirs[:, 1].mean()


def test_predictive_anticipates_wake_up_times() -> None:
    env = make(M=20, K=4, preset="urban", switching_energy_j=1.0, wake_up_steps=2, episode_steps=20)
    seeds = []
    for seed in range(20):
        env.reset(seed=seed)
        if (Allocator()(env.trajectory.problem, np.ones((20, 20), dtype=bool)).status == Status.OPTIMAL).all():
            seeds.append(seed)
    ours, theirs = (
        np.mean([play(env, baselines.make(name), seed)[1] for seed in seeds[:3]])
        for name in ("predictive", "hysteresis")
    )
    assert ours > 0.95
    assert ours > theirs + 0.05


@pytest.mark.parametrize(
    "fields",
    [
        {"preset": "high-rate"},
        {"preset": "precise-sensing", "T": 10},
        {"preset": "urban", "S": 2, "crlb_threshold_m2": 4.0},
        {"M": 6, "K": 3, "pilot_length": 2, "preset": "urban", "episode_steps": 3},
        {"M": 50, "K": 10, "preset": "urban", "wake_up_steps": 5, "episode_steps": 6},
        {"circuit_power_w": 0.0},
        {"switching_energy_j": 0.0},
        {"episode_steps": 1},
        {"M": 1, "K": 1},
    ],
    ids=str,
)
def test_predictive_runs_on_every_kind_of_network(fields: dict[str, Any]) -> None:
    env = make(**({"switching_energy_j": 2.0, "episode_steps": 8} | fields))
    policy = baselines.make("predictive", futures=8)
    observation, _ = env.reset(seed=3)
    for _ in range(env.episode_steps):
        servable = Allocator()(env.scenario.problem, np.ones(env.config.M, dtype=bool)).status != Status.INFEASIBLE
        awake = env.switching.awake(env.config.M)
        observation, *_, info = env.step(policy.predict(observation)[0])
        assert info["feasible"] or not servable or not awake.all()


def test_a_batch_is_decided_row_by_row_and_a_decision_depends_on_nothing_else() -> None:
    env = make(M=8, preset="urban", switching_energy_j=1.0, episode_steps=4)
    policy = baselines.make("predictive", M=8, K=3)
    seen, actions = [env.reset(seed=4)[0]], []
    for _ in range(3):
        actions.append(policy.predict(seen[-1])[0])
        seen.append(env.step(actions[-1])[0])
    stacked = {key: np.stack([one[key] for one in seen[:3]]) for key in seen[0]}
    np.testing.assert_array_equal(baselines.make("predictive").predict(stacked)[0], actions)


def test_single_drops_are_decided_by_local_search() -> None:
    env = gym.make("CfIsac-v0", M=8, K=3, preset="urban", T=4)
    observation, _ = env.reset(seed=6)
    expected = baselines.make("local-search").predict(observation)[0]
    for name in ("predictive", "keep-credit"):
        np.testing.assert_array_equal(baselines.make(name).predict(observation)[0], expected)


def test_missing_velocities_are_named() -> None:
    env = make(velocities=False)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=r"lacks ue_velocity, .*CfIsacMobile-v0 with velocities=True"):
        baselines.make("predictive").predict(observation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"futures": 0}, r"futures must be a whole number in \[1, 1000\], got 0"),
        ({"horizon": 2000}, r"horizon must be a whole number in \[1, 1000\], got 2000"),
        ({"hold": 1.5}, "hold must be a whole number"),
        ({"miss_j": -1.0}, "miss_j must be a number"),
        ({"decorrelation_m": -13.0}, "decorrelation_m must be a number"),
        ({"turn_memory_s": 0.0}, "turn_memory_s must be a number"),
        ({"speed_scale": -1.0}, "speed_scale must be a number"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        baselines.make("predictive", **options)


def test_keep_credit_switches_off_less_than_hysteresis_and_equals_it_without_credit() -> None:
    env = make(preset="urban", switching_energy_j=3.0, episode_steps=15)
    plain, never, soon = (
        play(env, baselines.make(name, **options), 2)
        for name, options in (("hysteresis", {}), ("keep-credit", {"keep_s": 1e9}), ("keep-credit", {"keep_s": 20.0}))
    )
    assert never == pytest.approx(plain, rel=1e-6)
    assert soon[2] <= plain[2]
    with pytest.raises(ValueError, match="keep_s must be a number"):
        baselines.make("keep-credit", keep_s=0)


def test_wrong_laws_change_decisions_and_not_service() -> None:
    env = make(M=14, K=4, preset="urban", switching_energy_j=4.0, episode_steps=15)
    right, wrong = (
        play(env, baselines.make("predictive", **laws), 1)
        for laws in ({}, {"decorrelation_m": 50.0, "speed_scale": 0.5})
    )
    assert right[1] == wrong[1] == 1.0
    assert replace(Laws(), decorrelation_m=50.0) != Laws()
