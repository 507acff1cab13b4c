"""Prior information about targets in physics, allocators, bounds and policies, against independent solvers and definitions."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import baselines
from baselines.allocation import Allocator, dual_bound, fast
from baselines.allocation.closed_form import ScaledDrops
from baselines.allocation.result import Float, Status
from baselines.bounds import DualScreen, SensingKnapsack
from cfisac_env import Decision, Scenario, SystemConfig, observations, physics, sample
from cfisac_env.types import Problem


def scenario_with_prior(seed: int, strength: float = 1.0, **fields: Any) -> Scenario:
    """A drop with a random prior whose larger eigenvalue is about `strength`/ν."""
    given: dict[str, Any] = {"M": 8, "K": 3, "S": 2, "T": 4, "preset": "urban"}
    rng = np.random.default_rng(seed)
    drop = sample(SystemConfig(**(given | fields)), rng)
    S = drop.config.S
    factor = rng.normal(size=(S, 2, 2)) * np.sqrt(strength / drop.config.crlb_threshold_m2)
    J = factor @ factor.swapaxes(-1, -2)
    return replace(drop, prior=np.stack([J[:, 0, 0], J[:, 1, 1], J[:, 0, 1]], axis=-1))


def with_prior(seed: int, strength: float = 1.0, **fields: Any) -> Problem:
    return scenario_with_prior(seed, strength, **fields).problem


def definition(problem: Problem, power: Float) -> Float:
    """tr(J⁻¹) of every target by matrix inversion."""
    assert problem.prior is not None
    crlb = []
    for s in range(problem.S):
        a, b, c = power.sum(-1) @ problem.fisher[:, s] + problem.prior[s]
        crlb.append(np.trace(np.linalg.inv(np.array([[a, c], [c, b]]))))
    return np.array(crlb)


def semidefinite_optimum_w(problem: Problem) -> float:
    """Least transmit power with all APs on by semidefinite programming, with tr(J⁻¹) ≤ ν as such."""
    assert problem.prior is not None
    cap, gamma, nu = problem.max_ap_power_w, problem.sinr_threshold, problem.crlb_threshold_m2
    scale = cap * problem.estimate_gain.sum(0)
    x, r = cp.Variable((problem.M, problem.K), nonneg=True), cp.Variable((problem.M, problem.K))
    total = cp.sum(x, axis=1)
    constraints = [total <= 1]
    for k in range(problem.K):
        t = gamma * (cap * problem.gain[:, k] @ total + problem.noise_w) / scale[k]
        constraints.append(np.sqrt(cap * problem.estimate_gain[:, k] / scale[k]) @ r[:, k] >= t)
        constraints += [cp.SOC(x[m, k] + t, cp.hstack([x[m, k] - t, 2 * r[m, k]])) for m in range(problem.M)]
    for s in range(problem.S):
        a, b, c = (nu * (cap * problem.fisher[:, s, i] @ total + problem.prior[s, i]) for i in range(3))
        constraints.append(cp.tr_inv(cp.bmat([[a, c], [c, b]])) <= 1)
    program = cp.Problem(cp.Minimize(cp.sum(x)), constraints)
    program.solve(solver=cp.CLARABEL)
    return float(program.value) * cap


@pytest.mark.parametrize("strength", [0.01, 0.5, 2.0])
def test_allocators_agree_with_semidefinite_programming(strength: float) -> None:
    for seed in range(3):
        problem, every = with_prior(seed, strength), np.ones(8, dtype=bool)
        answer, reference = fast.solve(problem, every), Allocator("clarabel")(problem, every)
        assert answer.status == reference.status == Status.OPTIMAL
        np.testing.assert_allclose(answer.transmit_power, reference.transmit_power, rtol=2e-6)
        np.testing.assert_allclose(answer.transmit_power, semidefinite_optimum_w(problem), rtol=1e-4)
        np.testing.assert_allclose(dual_bound(problem, every, answer.multipliers), answer.transmit_power, rtol=1e-6)
        assert (definition(problem, answer.power) <= problem.crlb_threshold_m2 * (1 + 1e-7)).all()


def test_multipliers_are_the_derivative_of_the_power_by_the_prior() -> None:
    problem, every = with_prior(4, 0.3), np.ones(8, dtype=bool)
    assert problem.prior is not None
    Z = fast.solve(problem, every).multipliers.sensing
    for s, i in itertools.product(range(problem.S), range(3)):
        step = np.zeros_like(problem.prior)
        step[s, i] = 1e-3 / problem.crlb_threshold_m2
        high, low = (
            float(fast.solve(replace(problem, prior=problem.prior + sign * step), every).transmit_power)
            for sign in (1, -1)
        )
        slope = -Z[s, i] * (2.0 if i == 2 else 1.0)
        np.testing.assert_allclose((high - low) / (2 * step[s, i]), slope, rtol=5e-3, atol=1e-5 * np.abs(Z).max())


def test_a_zero_prior_changes_no_bit() -> None:
    drop, sets = sample(SystemConfig(M=10, K=3), np.random.default_rng(0)).problem, np.ones((1, 10), dtype=bool)
    zero = replace(drop, prior=np.zeros((1, 3)))
    ours, plain = fast.solve(zero, sets), fast.solve(drop, sets)
    assert (ours.power == plain.power).all()
    assert ours.bound == plain.bound
    assert (ScaledDrops.of(zero).power(sets)[0] == ScaledDrops.of(drop).power(sets)[0]).all()


def test_a_prior_that_meets_the_requirement_leaves_the_users_alone() -> None:
    problem, every = with_prior(1), np.ones(8, dtype=bool)
    known = replace(problem, prior=np.tile([3.0, 3.0, 0.0], (2, 1)) / problem.crlb_threshold_m2)
    alone = replace(problem, fisher=problem.fisher[:, :0], prior=None)
    np.testing.assert_allclose(
        fast.solve(known, every).transmit_power, fast.solve(alone, every).transmit_power, rtol=2e-6
    )


def test_large_sets_are_solved_with_a_prior() -> None:
    problem, every = with_prior(2, 0.3, M=260), np.ones(260, dtype=bool)
    answer = fast.solve(problem, every)
    assert answer.status == Status.OPTIMAL
    np.testing.assert_allclose(dual_bound(problem, every, answer.multipliers), answer.transmit_power, rtol=1e-6)
    assert (definition(problem, answer.power) <= problem.crlb_threshold_m2 * (1 + 1e-7)).all()


def test_evaluation_is_that_of_the_definition_compiled_or_not() -> None:
    problem, rng = with_prior(3), np.random.default_rng(0)
    power = rng.random((8, 3)) * 0.01
    decision = Decision(np.ones(8, dtype=bool), power)
    for outcome in (physics.evaluate(problem, decision), physics._evaluate(problem, decision, 1e-4)):
        np.testing.assert_allclose(outcome.crlb, definition(problem, power), rtol=1e-9)


def test_closed_form_powers_serve_near_the_optimum() -> None:
    excess = []
    for seed in range(12):
        problem, every = with_prior(seed, 0.2, S=1), np.ones((1, 8), dtype=bool)
        power, _ = ScaledDrops.of(problem).power(every)
        if (optimum := fast.solve(problem, every[0])).feasible and power.any():
            assert physics.evaluate(problem, Decision(every[0], power[0])).feasible
            excess.append(power.sum() / float(optimum.transmit_power) - 1.0)
    assert len(excess) >= 8
    assert np.median(excess) < 0.02


def test_local_search_finds_the_best_of_all_sets() -> None:
    for seed in range(3):
        problem = with_prior(seed, 0.5, M=6, K=2, S=1)
        sets = np.array(list(itertools.product([False, True], repeat=6)))
        totals = Allocator("fast")(problem, sets).total_power(problem.circuit_power_w)
        decision = baselines.make("local-search").decide(problem).decision
        outcome = physics.evaluate(problem, decision)
        assert outcome.feasible
        np.testing.assert_allclose(outcome.total_power, totals.min(), rtol=1e-4)


def test_screens_never_exclude_a_set_that_serves_within_the_limit() -> None:
    problem, rng = with_prior(5, 0.5, M=12), np.random.default_rng(0)
    sets = rng.random((150, 12)) < rng.uniform(0.2, 1.0, (150, 1))
    answers = fast.solve(problem, sets)
    served = answers.feasible
    limit = np.where(served, answers.transmit_power * (1 + 1e-6), 12 * problem.max_ap_power_w)
    knapsack, screen = SensingKnapsack(problem), DualScreen(problem)
    for i in np.flatnonzero(served)[:3]:
        screen.add(answers[i].multipliers)
    assert served.sum() > 50
    assert knapsack.least_w <= answers.transmit_power[served].min()
    assert not knapsack.rules_out(sets, limit)[served].any()
    assert not screen.rules_out(sets, limit)[served].any()
    assert screen.rules_out(sets, 0.5 * limit)[served].mean() > 0.5


def test_observations_carry_the_prior() -> None:
    drop = scenario_with_prior(0)
    decoded = observations.decode(observations.encode(drop))
    given, again = drop.prior, drop.batch()[0].problem.batch()[0].prior
    assert given is not None
    assert decoded.prior is not None
    assert again is not None
    np.testing.assert_allclose(decoded.prior, given, rtol=1e-5)
    np.testing.assert_array_equal(again, given)


def test_policies_without_support_refuse() -> None:
    drop = scenario_with_prior(0)
    observation = observations.encode(drop)
    for name, kind in (baselines.POLICIES | baselines.SEQUENTIAL).items():
        if name == "clairvoyant":
            continue
        policy = baselines.make(name)
        if kind.takes_prior:
            policy.predict(observation)
            continue
        with pytest.raises(ValueError, match="prior information"):
            policy.predict(observation)
    for name in ("decoupled", "modified-bb-paper", "branch-and-bound"):
        with pytest.raises(ValueError, match="prior information"):
            baselines.make(name).decide(drop.problem)
    shared = replace(drop.problem, pilot_overlap=np.ones((3, 3)))
    with pytest.raises(ValueError, match="shared pilots"):
        Allocator()(shared, np.ones(8, dtype=bool))
    with pytest.raises(ValueError, match="aren't saved"):
        drop.save("drops.npz")


@pytest.mark.parametrize(
    "prior", [[[1.0, 1.0, 2.0], [1, 1, 0]], [[-1.0, 1, 0], [1, 1, 0]], [[np.nan, 1, 0], [1, 1, 0]]]
)
def test_a_prior_that_is_no_information_matrix_is_refused(prior: Any) -> None:
    problem = replace(with_prior(0), prior=np.array(prior))
    with pytest.raises(ValueError, match="positive semidefinite"):
        fast.solve(problem, np.ones(8, dtype=bool))
    with pytest.raises(ValueError, match="prior has shape"):
        fast.solve(replace(problem, prior=np.zeros((1, 3))), np.ones(8, dtype=bool))
