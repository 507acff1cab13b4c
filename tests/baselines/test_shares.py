"""Share bounds: validity by brute force, and tightness against an independent solver of the relaxation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from baselines import local_search
from baselines.allocation import fast
from baselines.allocation.result import Allocation, Status
from baselines.bounds import certified_floor_w, fewest_active
from baselines.shares import ShareRelaxation, share_cut_w
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem

SLACK = 1 + 2e-7
"""Powers of the allocator may miss a requirement by 1e-7, so that a bound that is met with equality may be above them by as much."""


def drop(seed: int, **options: Any) -> Problem:
    problem: Problem = sample(SystemConfig(**options), np.random.default_rng(1_000_000 + seed), 1)[0].problem
    return problem


@cache
def small(preset: str, seed: int) -> tuple[Problem, NDArray[np.bool_], Allocation]:
    """The first feasible drop from `seed` on, with every set and its exact allocation."""
    for offset in itertools.count():
        problem = drop(seed + 100 * offset, M=7 + seed % 2, K=2 + seed % 3, preset=preset, S=1 + seed % 2)
        sets = np.array(list(itertools.product([False, True], repeat=problem.M))[1:])
        answers = fast.solve(problem, sets, threads=1)
        if np.isfinite(answers.transmit_power[-1]):
            return problem, sets, answers
    raise AssertionError


def least_by_size(sets: NDArray[np.bool_], power: NDArray[np.float64], state: NDArray[np.int8]) -> NDArray[np.float64]:
    """Least transmit power of the sets of every size from 1 to M that fit the state; infinite without one."""
    fits = ~sets[:, state < 0].any(1) & sets[:, state > 0].all(1)
    size = sets.sum(1)
    return np.array([np.min(power[fits & (size == n)], initial=np.inf) for n in range(1, sets.shape[1] + 1)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("preset", PRESETS)
def test_no_share_bound_is_above_the_least_power_of_any_set_at_the_root_and_with_aps_fixed(
    preset: str, seed: int
) -> None:
    problem, sets, answers = small(preset, seed)
    M, K = problem.M, problem.K
    relaxation, rng = ShareRelaxation(problem), np.random.default_rng(seed)
    best = answers[int(np.argmin(answers.transmit_power + problem.circuit_power_w * sets.sum(1)))]
    for trial in range(8):
        state = rng.choice([-1, 0, 0, 0, 1], M).astype(np.int8) if trial else np.zeros(M, np.int8)
        for n, least in enumerate(least_by_size(sets, answers.transmit_power, state), start=1):
            point = relaxation.start(best if trial % 2 else answers[-1])
            target = least * (1 + 1e-6) if trial % 3 == 0 else np.inf
            assert relaxation.tighten(point, n, state, target_w=target, evaluations=60) <= least * SLACK
            assert relaxation.bound_w(point.theta, n, state) <= least * SLACK
            theta = point.theta * np.exp(
                rng.normal(size=len(point.theta)) * np.repeat([1.0, 0.0], [3 * K, 3 * problem.S])
            )
            assert relaxation.bound_w(theta, n, state) <= least * SLACK
            if trial < 3:
                assert share_cut_w(problem, n, state >= 0) <= least * SLACK


@settings(max_examples=60, deadline=None)
@given(
    preset=st.sampled_from(list(PRESETS)),
    seed=st.integers(0, 3),
    logs=st.lists(st.floats(-12, 4), min_size=12, max_size=12),
    sensing=st.floats(-9, 3),
    correlation=st.floats(-0.99, 0.99),
    fixed=st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=8, max_size=8),
)
def test_any_multipliers_give_a_bound(
    preset: str, seed: int, logs: list[float], sensing: float, correlation: float, fixed: list[int]
) -> None:
    problem, sets, answers = small(preset, seed)
    z = 10.0**sensing
    theta = np.concatenate(
        [np.resize(10.0 ** np.array(logs), 3 * problem.K), np.tile([z, 2 * z, correlation * z], problem.S)]
    )
    state = np.array(fixed[: problem.M], np.int8)
    relaxation = ShareRelaxation(problem)
    for n, least in enumerate(least_by_size(sets, answers.transmit_power, state), start=1):
        bound = relaxation.bound_w(theta, n, state)
        assert not np.isnan(bound)
        assert bound <= least * SLACK


def relaxed(problem: Problem, size: int) -> float:
    """The relaxation by cvxpy and Clarabel, straight from its constraints; W."""
    M, K, S = problem.M, problem.K, problem.S
    s = problem.gain / problem.noise_w * problem.max_ap_power_w
    rho = problem.estimate_gain / problem.gain
    Q = problem.fisher * problem.max_ap_power_w * problem.crlb_threshold_m2
    P, a, h = cp.Variable(M), cp.Variable(M), cp.Variable(K)
    x, y, r, tau = (cp.Variable((M, K)) for _ in range(4))
    constraints = [a >= 0, a <= 1, cp.sum(a) == size, a >= P, x >= 0, y >= 0, cp.sum(x, axis=1) <= a]
    for k in range(K):
        constraints += [y[:, k] <= a, cp.sum(y[:, k]) + h[k] <= 1, h[k] - cp.square(h[k]) >= cp.sum(tau[:, k])]
        constraints += [np.sqrt(rho[:, k]) @ r[:, k] >= np.sqrt(problem.sinr_threshold)]
        for m in range(M):
            constraints += [cp.quad_over_lin(r[m, k], x[m, k]) <= y[m, k]]
            constraints += [cp.quad_over_lin(y[m, k], float(s[m, k]) * P[m]) <= tau[m, k]]
    for t in range(S):
        total, difference, cross = (Q[:, t, 0] + Q[:, t, 1]) @ P, (Q[:, t, 0] - Q[:, t, 1]) @ P, 2 * Q[:, t, 2] @ P
        constraints += [cp.norm(cp.hstack([difference, cross, 2.0])) <= total - 2.0]
    program = cp.Problem(cp.Minimize(cp.sum(P)), constraints)
    program.solve(solver=cp.CLARABEL)
    assert program.status == cp.OPTIMAL
    return float(program.value) * problem.max_ap_power_w


@pytest.mark.parametrize("preset", ["urban", "high-rate", "precise-sensing"])
def test_the_lagrangian_reaches_the_optimum_of_the_relaxation_that_clarabel_finds(preset: str) -> None:
    problem, _, answers = small(preset, 3)
    relaxation = ShareRelaxation(problem)
    for size in (problem.M - 1, problem.M):
        if not np.isfinite(relaxation.cold(answers[-1], size)[1]):
            continue
        reference = relaxed(problem, size)
        point = relaxation.start(answers[-1])
        found = max(
            relaxation.tighten(point, size, softness=softness, evaluations=200)
            for softness in (1.0, 0.1, 0.01, 1e-3, 1e-4)
        )
        assert found <= reference * (1 + 1e-5)
        assert found >= reference * (1 - 5e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_floor_is_below_every_decision_and_never_below_all_on_power_with_the_fewest_aps(preset: str) -> None:
    for seed in range(4):
        problem, sets, answers = small(preset, seed)
        least = float(np.min(answers.transmit_power + problem.circuit_power_w * sets.sum(1)))
        transmit = float(answers.bound[-1])
        plain = transmit + fewest_active(problem, transmit) * problem.circuit_power_w
        assert plain * (1 - 1e-12) <= certified_floor_w(problem, answers[-1]) <= least * SLACK
        shared = replace(problem, pilot_overlap=np.ones((problem.K, problem.K)))
        assert certified_floor_w(shared, answers[-1]) == certified_floor_w(problem, answers[-1])


def test_the_floor_closes_most_of_the_gap_of_the_cardinality_bound_where_interference_dominates() -> None:
    for seed in range(3):
        problem = drop(seed, M=50, K=10, preset="urban")
        all_on = fast.solve(problem, np.ones(50, dtype=bool))
        found = local_search.search(problem, threads=1)
        transmit = float(all_on.bound)
        plain = transmit + fewest_active(problem, transmit) * problem.circuit_power_w
        floor = certified_floor_w(problem, all_on)
        assert floor <= found.total_power_w
        assert found.total_power_w - floor < 0.5 * (found.total_power_w - plain)


def test_bounds_prove_that_too_few_aps_cannot_serve() -> None:
    problem = drop(0, M=12, K=6, preset="high-rate")
    assert share_cut_w(problem, 6) == np.inf
    assert share_cut_w(problem, 12, np.zeros(12, dtype=bool)) == np.inf
    all_on = fast.solve(problem, np.ones(12, dtype=bool))
    relaxation = ShareRelaxation(problem)
    state = np.zeros(12, np.int8)
    state[:3] = 1
    assert relaxation.bound_w(relaxation.start(all_on).theta, 2, state) == np.inf  # three APs are on already
    state[3:] = -1
    assert relaxation.bound_w(relaxation.start(all_on).theta, 4, state) == np.inf  # no fourth is left
    assert all_on.status in (Status.OPTIMAL, Status.INFEASIBLE)
