"""Policies over time: against exhaustive schedules on tiny networks, and against their specifications."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import baselines
from baselines import clairvoyant
from baselines.allocation import Status, fast
from baselines.policy import with_margin
from baselines.sequential import HysteresisPolicy, descend
from cfisac_env import CfIsacMobileEnv, SystemConfig, sample
from cfisac_env.mobile import Switching
from cfisac_env.types import Problem

Bools = NDArray[np.bool_]
COSTS = [(0.0, 0), (0.05, 0), (0.4, 0), (0.0, 1), (0.15, 1), (0.1, 2)]


def make(**fields: Any) -> CfIsacMobileEnv:
    env = gym.make("CfIsacMobile-v0", **fields).unwrapped
    assert isinstance(env, CfIsacMobileEnv)
    return env


def tiny(energy_j: float, wake: int, steps: int, seed: int) -> CfIsacMobileEnv:
    """Three APs around fast targets, so that the best set changes from instant to instant."""
    env = make(
        M=3, K=2, T=4, episode_steps=steps, crlb_threshold_m2=8.0, target_speed_m_s=60.0, user_speed_m_s=20.0,
        switching_energy_j=energy_j, wake_up_steps=wake, step_s=2.0,
    )  # fmt: skip
    env.reset(seed=seed)
    return env


def least_by_brute_force(env: CfIsacMobileEnv) -> float:
    """Energy of the best of all (2^M)^steps schedules that serve every instant, each simulated by its definition."""
    problem, M = env.trajectory.problem, env.config.M
    sets = [np.array(bits, dtype=bool) for bits in itertools.product([False, True], repeat=M)]
    price = {}
    for t, active in itertools.product(range(env.episode_steps), sets):
        answer = fast.solve(problem[t], active)
        price[t, tuple(active)] = float(answer.transmit_power) if answer.status == Status.OPTIMAL else np.inf
    least = np.inf
    for schedule in itertools.product(sets, repeat=env.episode_steps):
        total, on_for = 0.0, [10_000] * M
        for t, active in enumerate(schedule):
            serving = []
            for m in range(M):
                if active[m] and on_for[m] == 0:
                    total += env.switching_energy_j
                on_for[m] = on_for[m] + 1 if active[m] else 0
                serving.append(bool(active[m]) and on_for[m] > env.wake_up_steps)
            total += env.step_s * (env.config.circuit_power_w * int(active.sum()) + price[t, tuple(serving)])
            if total >= least:
                break
        least = min(least, total)
    return least


def play(env: CfIsacMobileEnv, policy: Any, seed: int) -> tuple[float, list[bool], Bools]:
    """Energy, which instants were served, and the activations of an episode, according to the environment."""
    observation, _ = env.reset(seed=seed)
    feasible, active = [], []
    for _ in range(env.episode_steps):
        action, _ = policy.predict(observation)
        observation, *_, info = env.step(action)
        feasible.append(bool(info["feasible"]))
        active.append(np.asarray(action)[:, 0] >= 0)
    return float(info["episode_energy_j"]), feasible, np.array(active)


@pytest.mark.parametrize(("energy_j", "wake"), COSTS)
def test_the_clairvoyant_plan_is_the_best_of_all_schedules_and_its_bound_meets_it(energy_j: float, wake: int) -> None:
    changing = 0
    for seed in range(6):
        env = tiny(energy_j, wake, 4, seed)
        made = clairvoyant.plan(env.trajectory.problem, env.beginning())
        if made.infeasible.any():
            continue
        assert made.exact
        assert made.feasible.all()
        least = least_by_brute_force(env)
        assert made.energy_j == pytest.approx(least, rel=1e-4)
        assert least * (1 - 1e-5) <= made.lower_bound_j <= least * (1 + 1e-9)
        changing += len(np.unique(made.active, axis=0)) > 1
    assert changing >= 2


@pytest.mark.parametrize(("energy_j", "wake"), [(0.0, 0), (0.4, 0), (0.3, 1)])
def test_without_all_sets_the_plan_is_close_to_the_best_and_the_bound_below_it(energy_j: float, wake: int) -> None:
    gaps = []
    for seed in range(4):
        env = make(
            M=6, K=3, T=4, episode_steps=12, target_speed_m_s=30.0, crlb_threshold_m2=4.0, switching_energy_j=energy_j,
            wake_up_steps=wake,
        )  # fmt: skip
        env.reset(seed=seed)
        best, found = (
            clairvoyant.plan(env.trajectory.problem, env.beginning(), exact=exact) for exact in (True, False)
        )
        np.testing.assert_array_equal(best.infeasible, found.infeasible)
        assert found.energy_j >= best.lower_bound_j * (1 - 1e-9)
        assert found.lower_bound_j <= best.energy_j * (1 + 1e-9)
        gaps.append(found.energy_j / best.energy_j - 1)
    assert max(gaps) < 0.01


def test_the_bound_of_exact_search_is_at_least_the_quick_one_and_below_the_plan() -> None:
    env = make(M=12, K=4, T=4, episode_steps=4, preset="urban", switching_energy_j=1.0)
    env.reset(seed=1)
    quick, exact = (clairvoyant.plan(env.trajectory.problem, env.beginning(), bound_s=s) for s in (0.0, 5.0))
    assert quick.lower_bound_j <= exact.lower_bound_j * (1 + 1e-9)
    assert exact.lower_bound_j <= exact.energy_j * (1 + 1e-9)


@pytest.mark.parametrize(("energy_j", "wake", "S"), [(0.0, 0, 1), (2.0, 0, 2), (1.0, 1, 1)])
def test_no_policy_that_serves_every_instant_is_below_the_bound_or_far_below_the_plan(
    energy_j: float, wake: int, S: int
) -> None:
    env = make(
        M=9, K=3, T=4, S=S, episode_steps=8, crlb_threshold_m2=3.0, switching_energy_j=energy_j, wake_up_steps=wake
    )
    for seed in range(2):
        policy = baselines.make("clairvoyant", env=env)
        energy_played, feasible, _ = play(env, policy, seed)
        made = policy.plan
        assert energy_played == pytest.approx(made.energy_j, rel=1e-5)
        assert feasible == made.feasible.tolist()
        if made.infeasible.any():
            continue
        assert all(feasible)
        assert energy_played >= made.lower_bound_j * (1 - 1e-6)
        for name in ("myopic", "hysteresis", "full-ap", "strongest-ap"):
            other, served, _ = play(env, baselines.make(name), seed)
            if all(served):
                assert other >= made.lower_bound_j * (1 - 1e-6)
                assert other >= energy_played * (1 - 1e-3)


def test_where_switching_is_free_myopic_is_local_search_and_hysteresis_too() -> None:
    env = make(M=10, K=3, episode_steps=6, crlb_threshold_m2=3.0)
    plays = [play(env, baselines.make(name), 2) for name in ("local-search", "myopic", "hysteresis")]
    for energy_j, served, active in plays[1:]:
        assert energy_j == pytest.approx(plays[0][0], rel=1e-9)
        assert served == plays[0][1]
        np.testing.assert_array_equal(active, plays[0][2])


def test_hysteresis_switches_less_at_higher_cost_and_saves_energy() -> None:
    switches, energies = [], []
    for energy_j in (0.0, 0.5, 5.0):
        env = make(M=9, K=3, T=4, episode_steps=14, preset="urban", switching_energy_j=energy_j)
        played = [play(env, baselines.make("hysteresis"), seed) for seed in range(2)]
        switches.append(sum(int((~a[:-1] & a[1:]).sum()) for _, _, a in played))
        energies.append(sum(e for e, _, _ in played))
    assert switches[0] >= switches[1] >= switches[2] < switches[0]
    myopic = sum(play(env, baselines.make("myopic"), seed)[0] for seed in range(2))
    assert energies[2] < 0.9 * myopic


def cheapest_by_enumeration(problem: Problem, upkeep_w: NDArray[np.float64]) -> float:
    sets = np.array([bits for bits in itertools.product([False, True], repeat=problem.M) if any(bits)])
    answers = fast.solve(problem, sets)
    totals = np.where(answers.status == Status.OPTIMAL, answers.transmit_power, np.inf) + sets @ upkeep_w
    return float(totals.min())


def test_descent_with_different_upkeeps_mostly_finds_the_cheapest_set_of_all() -> None:
    hits = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        problem = sample(SystemConfig(M=8, K=3, preset="urban"), rng).problem
        upkeep_w = 0.2 + rng.random(8) * (rng.random(8) < 0.5)
        found = descend(problem, [np.ones(8, dtype=bool), rng.random(8) < 0.6], upkeep_w)
        answer = fast.solve(with_margin(problem), found)
        total = float(answer.transmit_power) + float(upkeep_w[found].sum())
        least = cheapest_by_enumeration(with_margin(problem), upkeep_w)
        assert total >= least * (1 - 1e-6)
        hits += total <= least * (1 + 1e-4)
    assert hits >= 13


def test_switching_is_make_before_break() -> None:
    """With a wake-up time, the target set is switched on while the serving APs stay on."""
    problem = sample(SystemConfig(M=8, K=3, preset="urban"), np.random.default_rng(7)).problem
    policy = baselines.make("myopic")
    wanted = policy.decide(problem).decision.active
    previous = ~wanted
    state = Switching(wake_up_steps=2, steps_left=9, previous_active=previous, wait=np.where(previous, 0, 2))
    answer = policy.decide_next(problem, state)
    assert answer.feasible
    assert answer.decision.active.all()
    assert (answer.decision.power[wanted] == 0).all()
    later = state.after(answer.decision.active).after(answer.decision.active)
    assert later.awake(8).all()
    np.testing.assert_array_equal(policy.decide_next(problem, later).decision.active, wanted)


def test_hysteresis_keeps_what_is_on_when_the_episode_ends_before_a_switch_pays() -> None:
    problem = sample(SystemConfig(M=10, K=4, preset="urban"), np.random.default_rng(4)).problem
    best = baselines.make("local-search").decide(problem).decision.active
    previous = np.ones(10, dtype=bool)
    previous[np.flatnonzero(best)[0]] = False
    serves = fast.solve(with_margin(problem), previous).status == Status.OPTIMAL
    assert serves
    policy = HysteresisPolicy(payback_s=1000.0)
    switched = []
    for steps_left in (1, 1000):
        state = Switching(energy_j=3.0, steps_left=steps_left, previous_active=previous, wait=np.zeros(10, np.int64))
        active = policy.decide_next(problem, state).decision.active
        switched.append(bool((active & ~previous).any()))
    assert switched == [False, True]


def test_a_batch_is_decided_row_by_row() -> None:
    env = make(M=8, K=3, episode_steps=3, crlb_threshold_m2=4.0, switching_energy_j=1.0)
    observations = []
    observation, _ = env.reset(seed=5)
    for _ in range(3):
        observations.append(observation)
        observation, *_ = env.step(baselines.make("strongest-ap").predict(observation)[0])
    stacked = {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    for name in ("myopic", "hysteresis"):
        policy = baselines.make(name, M=8, K=3)
        batch, _ = policy.predict(stacked)
        for row, one in zip(batch, observations, strict=True):
            np.testing.assert_array_equal(row, policy.predict(one)[0])
        with pytest.raises(ValueError, match=f"{name} was built for M=9"):
            baselines.make(name, M=9).predict(stacked)


@pytest.mark.parametrize("name", ["myopic", "hysteresis"])
def test_policies_over_time_decide_single_drops_and_shared_pilots(name: str) -> None:
    env = gym.make("CfIsac-v0", M=5, K=3, pilot_length=2, preset="urban", pilot_assignment="greedy", T=4)
    observation, _ = env.reset(seed=6)
    expected = baselines.make("local-search").predict(observation)[0]
    np.testing.assert_array_equal(baselines.make(name).predict(observation)[0], expected)
    mobile = make(M=6, K=3, pilot_length=2, episode_steps=1, preset="urban", switching_energy_j=1.0, T=4)
    _, served, _ = play(mobile, baselines.make(name), 7)
    assert all(served)


def test_a_clairvoyant_plan_with_shared_pilots_serves_and_stays_above_its_bound() -> None:
    env = make(M=5, K=3, pilot_length=2, episode_steps=3, preset="urban", switching_energy_j=1.0, T=4)
    env.reset(seed=8)
    made = clairvoyant.plan(env.trajectory.problem, env.beginning())
    assert made.feasible.all()
    assert made.lower_bound_j <= made.energy_j


@pytest.mark.parametrize("name", ["hysteresis", "keep-credit"])
def test_rules_with_an_engine_decide_like_those_that_search_alike(name: str) -> None:
    options = {"starts": ("sensing",), "kicks": 0}
    own = baselines.make(name, payback_s=4.0, **options)
    given = baselines.make(name, payback_s=4.0, engine=baselines.make("local-search", **options))
    env = make(M=8, K=2, T=4, preset="urban", switching_energy_j=0.5, wake_up_steps=1, episode_steps=6)
    expected, served, active = play(env, own, 1_000_003)
    energy_j, now_served, now_active = play(env, given, 1_000_003)
    assert energy_j == expected
    assert served == now_served
    np.testing.assert_array_equal(active, now_active)


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"the engine of hysteresis is a policy.*got 'hetgnn-exact'"):
        baselines.make("hysteresis", engine="hetgnn-exact")
    with pytest.raises(TypeError, match="looks into the future"):
        baselines.make("clairvoyant", env=gym.make("CfIsac-v0", M=4, K=2))
    with pytest.raises(ValueError, match=r"payback_s must be a number in \(0, 1e\+09\], got -1"):
        baselines.make("hysteresis", payback_s=-1)
    with pytest.raises(ValueError, match="one leading axis"):
        clairvoyant.plan(sample(SystemConfig(M=4, K=2), np.random.default_rng(0)).problem, Switching())
    with pytest.raises(ValueError, match="don't flatten"):
        baselines.make("myopic").predict(np.zeros(3))
    with pytest.raises(ValueError, match=r"unknown policy 'miopic' \(did you mean 'myopic'\?\)"):
        baselines.make("miopic")


def test_clairvoyant_plays_given_episodes_like_those_of_its_environment() -> None:
    env = gym.make("CfIsacMobile-v0", M=5, K=2, episode_steps=4, switching_energy_j=2.0)
    shown, looking = clairvoyant.ClairvoyantPolicy(M=5, K=2), baselines.make("clairvoyant", env=env)
    observation, _ = env.reset(seed=1)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    with pytest.raises(ValueError, match=r"does not know the episode.*foresee"):
        shown.predict(observation)
    plan = shown.foresee(core.trajectory.problem, core.beginning())
    for step in range(4):
        action, _ = shown.predict(observation)
        np.testing.assert_array_equal(action, looking.predict(observation)[0])
        np.testing.assert_array_equal(action[:, 0] >= 0.0, plan.active[step])
        observation, *_ = env.step(action)
    longer, _ = gym.make("CfIsacMobile-v0", M=5, K=2, episode_steps=9).reset(seed=1)
    with pytest.raises(ValueError, match=r"9 instants before the end.*the plan is for 4"):
        shown.predict(longer)
