"""Bounds on episodes: against every schedule of tiny networks, on every preset, for chosen and for random prices."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from baselines import clairvoyant
from baselines.allocation import Status, fast
from baselines.bounds import certify
from baselines.episode_bounds import Activation, EpisodeBound
from baselines.priced_search import PricedSearch
from cfisac_env import PRESETS, CfIsacMobileEnv
from cfisac_env.mobile import Switching
from cfisac_env.types import Problem

Float = NDArray[np.float64]
SLACK = 1 + 1e-6


def episode(seed: int, **fields: Any) -> tuple[Problem, Switching]:
    """An episode, every instant of which can be served."""
    if fields["preset"] == "precise-sensing":
        fields["crlb_threshold_m2"] = 2.0  # few APs don't reach the preset's
    env = gym.make("CfIsacMobile-v0", target_speed_m_s=40.0, user_speed_m_s=15.0, **fields).unwrapped
    assert isinstance(env, CfIsacMobileEnv)
    for offset in itertools.count():
        env.reset(seed=1_000_000 + seed + 100 * offset)
        problem = env.trajectory.problem
        if all(not certify(problem[t]).infeasible for t in range(env.episode_steps)):
            break
    return problem, env.beginning()


def transmit(problem: Problem) -> tuple[NDArray[np.bool_], Float]:
    """Every set, and its transmit power at every instant, infinite where it doesn't serve."""
    sets = np.array(list(itertools.product([False, True], repeat=problem.M)))
    answers = [fast.solve(problem[t], sets, threads=1) for t in range(problem.batch_shape[0])]
    return sets, np.array([np.where(one.status == Status.OPTIMAL, one.transmit_power, np.inf) for one in answers])


def least_path_j(price_j: Float, energy_j: float, upkeep_j: float, wake: int, awake: bool) -> float:
    """Energy less prices of the best of all on/off sequences of one AP, each simulated by its definition."""
    least = np.inf
    for path in itertools.product([False, True], repeat=len(price_j)):
        total, wait, before = 0.0, 0 if awake else wake, awake
        for on, price in zip(path, price_j, strict=True):
            if on:
                total += upkeep_j + (0.0 if before else energy_j) - (price if wait == 0 else 0.0)
            wait, before = (max(wait - 1, 0) if on else wake), on
        least = min(least, total)
    return least


@pytest.mark.parametrize("wake", [0, 1, 3])
def test_the_activation_of_an_ap_costs_what_the_best_of_all_its_sequences_costs(wake: int) -> None:
    rng = np.random.default_rng(wake)
    for energy_j in (0.0, 0.5, 4.0):
        price_j = rng.exponential(0.6, (8, 6)) * (rng.random((8, 6)) < 0.6)
        awake = rng.random(6) < 0.5
        start = Switching(1.0, energy_j, wake, 8, awake, np.where(awake, 0, wake))
        expected = sum(least_path_j(price_j[:, m], energy_j, 0.2, wake, bool(awake[m])) for m in range(6))
        assert Activation.of(start, 6, 0.2).least_j(price_j) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
def test_priced_searches_never_exceed_the_cheapest_of_all_sets_and_reach_it(preset: str) -> None:
    problem, _ = episode(3, M=7, K=2, preset=preset, T=4, episode_steps=2)
    sets, power = transmit(problem)
    rng = np.random.default_rng(0)
    for t, trial in itertools.product(range(2), range(6)):
        search = PricedSearch(certify(problem[t]))
        price_w = rng.exponential(0.2, 7) * (rng.random(7) < 0.8)
        least = float(np.min(power[t] + sets @ price_w))
        for nodes in (0, 3, 10_000):
            found = search.bound(price_w, least * (1.0 + 0.4 * trial), 1e-3, nodes)
            assert found.lower_bound_w <= least * SLACK
            for one in found.sets:
                assert float(np.min(power[t][(sets == one).all(1)] + one @ price_w)) < least * (1.0 + 0.4 * trial)
        assert found.lower_bound_w >= least * (1.0 - 2e-3)


@pytest.mark.parametrize(("energy_j", "wake"), [(0.0, 0), (0.3, 0), (2.0, 0), (0.2, 2)])
@pytest.mark.parametrize("preset", PRESETS)
def test_no_prices_give_a_bound_above_the_best_of_all_schedules(preset: str, energy_j: float, wake: int) -> None:
    problem, start = episode(
        5, M=4, K=2, preset=preset, T=4, episode_steps=4, switching_energy_j=energy_j, wake_up_steps=wake
    )
    best = clairvoyant.plan(problem, start, exact=True)
    sets, power = transmit(problem)
    bound = EpisodeBound([certify(problem[t]) for t in range(4)], start)
    rng = np.random.default_rng(1)
    for scale in (0.02, 0.2, 1.0):
        price_j = rng.exponential(scale, (4, 4))
        known_j = np.min(power + price_j @ sets.T, axis=1)
        for nodes in (0, 1000):
            bound.at(price_j, known_j, 1e-4, nodes)
            assert bound.lower_bound_j <= best.energy_j * SLACK
    for _ in range(4):
        bound.improve(sets, power, best.energy_j)
    assert best.energy_j * 0.9 <= bound.lower_bound_j <= best.energy_j * SLACK


def test_energies_scale_with_the_time_between_instants() -> None:
    problem, start = episode(5, M=4, K=2, preset="urban", T=4, episode_steps=3, switching_energy_j=0.4)
    sets, power = transmit(problem)
    certificates = [certify(problem[t]) for t in range(3)]
    long = replace(start, step_s=10.0, energy_j=4.0)
    one, ten = EpisodeBound(certificates, start), EpisodeBound(certificates, long)
    one.improve(sets, power, 2.0)
    ten.improve(sets, 10.0 * power, 20.0)
    assert ten.lower_bound_j == pytest.approx(10.0 * one.lower_bound_j, rel=0.02)


def test_the_bound_that_knows_switching_exceeds_that_of_the_instants() -> None:
    problem, start = episode(1, M=12, K=4, preset="urban", T=4, episode_steps=6, switching_energy_j=1.0)
    fisher = np.array(problem.fisher)
    fisher[2] *= 1e-4
    problem = replace(problem, fisher=fisher)  # an instant that no set serves
    quick, better = (clairvoyant.plan(problem, start, bound_s=seconds) for seconds in (0.0, 1.0))
    assert quick.lower_bound_j < better.lower_bound_j <= better.energy_j * SLACK
    assert better.energy_j / better.lower_bound_j < 1.1
    assert better.energy_j <= quick.energy_j * SLACK
    np.testing.assert_array_equal(np.flatnonzero(better.infeasible), [2])
