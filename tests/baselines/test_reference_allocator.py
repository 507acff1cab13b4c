"""The cvxpy reference and the paper's problem (9), against independent formulations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, NonlinearConstraint, minimize

from baselines.allocation import Allocation, Allocator, Status, dual_bound, fast, reference
from baselines.allocation.paper import solve_paper
from cfisac_env import PRESETS, Problem, SystemConfig, sample


def _problem(seed: int, M: int, K: int, **fields: Any) -> Problem:
    return sample(SystemConfig(M, K, **fields), np.random.default_rng(seed)).problem


def _sinr(problem: Problem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """SINR from its definition, in loops."""
    result = np.empty(problem.K)
    for k in range(problem.K):
        signal = sum(np.sqrt(power[m, k] * problem.estimate_gain[m, k]) for m in range(problem.M)) ** 2
        noise = problem.noise_w + sum(problem.gain[m, k] * power[m].sum() for m in range(problem.M))
        result[k] = signal / noise
    return result


def _crlb(problem: Problem, power: NDArray[np.float64], s: int = 0) -> float:
    matrix = np.zeros((2, 2))
    for m in range(problem.M):
        a, b, c = problem.fisher[m, s]
        matrix += power[m].sum() * np.array([[a, c], [c, b]])
    return float(np.trace(np.linalg.inv(matrix)))


def _square(amplitude: NDArray[np.float64]) -> float:
    return float((amplitude**2).sum())


def _check(problem: Problem, answer: Allocation) -> None:
    assert (_sinr(problem, answer.power) >= problem.sinr_threshold * (1 - 1e-7)).all()
    for s in range(problem.S):
        assert _crlb(problem, answer.power, s) <= problem.crlb_threshold_m2 * (1 + 1e-7)
    assert (answer.power.sum(1) <= problem.max_ap_power_w * (1 + 1e-7)).all()
    assert (answer.power[~answer.active] == 0).all()
    bound = float(dual_bound(problem, answer.active, answer.multipliers))
    assert bound <= answer.transmit_power * (1 + 1e-7)
    assert bound >= answer.transmit_power * (1 - 1e-6)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_reference_and_the_compiled_allocator_agree(preset: str) -> None:
    rng = np.random.default_rng(1)
    inaccurate, optimal, infeasible = 0, 0, 0
    for seed in range(25):
        M, K = int(rng.integers(2, 21)), int(rng.integers(1, 8))
        problem = _problem(seed, M, K, preset=preset, S=1 + seed % 2)
        active = rng.random(M) < 0.7
        active[rng.integers(M)] = True
        slow, quick = reference.solve(problem, active), fast.solve(problem, active)
        assert quick.status in (Status.OPTIMAL, Status.INFEASIBLE)
        if slow.status == Status.INACCURATE:
            inaccurate += 1
            continue
        assert slow.status == quick.status
        if slow.status == Status.OPTIMAL:
            optimal += 1
            _check(problem, slow)
            assert slow.transmit_power == pytest.approx(quick.transmit_power, rel=2e-6)
        else:
            infeasible += 1
            proof = dual_bound(problem, active, slow.multipliers)
            assert proof > active.sum() * problem.max_ap_power_w
    assert inaccurate <= 3, "the reference owns up to a miss; it must stay rare"
    assert optimal >= 5
    assert infeasible >= 1


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # at 1e-12; the comparison asks 1e-4
def test_the_optimum_is_the_amplitude_programs_where_sensing_is_slack() -> None:
    # In amplitudes y = √p the SINR is a second-order cone; without a target the problem is min ‖y‖².
    for seed in range(4):
        problem = _problem(seed, 6, 3)
        problem = replace(problem, fisher=problem.fisher[:, :0])
        scale = 1e-3 * problem.max_ap_power_w
        v, g = problem.estimate_gain / problem.noise_w * scale, problem.gain / problem.noise_w * scale
        y = cp.Variable((6, 3), nonneg=True)
        size = np.sqrt(v.sum(0))
        constraints = [
            cp.sum(cp.multiply(np.sqrt(v[:, k]), y[:, k])) / size[k]
            >= np.sqrt(problem.sinr_threshold)
            * cp.norm(
                cp.hstack([cp.vec(cp.multiply(np.sqrt(g[:, [k]]) / size[k], y), order="C"), np.array([1 / size[k]])]), 2
            )
            for k in range(3)
        ]
        cp.Problem(cp.Minimize(cp.sum_squares(y)), constraints).solve(
            solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-10, tol_feas=1e-11
        )
        answer = reference.solve(problem, np.ones(6, dtype=bool))
        assert answer.status == Status.OPTIMAL
        assert (y.value**2).sum() * scale == pytest.approx(float(answer.transmit_power), rel=1e-4)


def test_slsqp_finds_nothing_cheaper_on_tiny_cases() -> None:
    compared = 0
    for seed in range(12):
        problem = _problem(seed, 3, 2, T=3)
        answer = Allocator("clarabel")(problem, np.ones(3, dtype=bool))
        if answer.status != Status.OPTIMAL:
            continue
        compared += 1
        cap = problem.max_ap_power_w

        def power(amplitude: NDArray[np.float64], cap: float = cap) -> NDArray[np.float64]:
            return cap * amplitude.reshape(3, 2) ** 2

        def slack(amplitude: NDArray[np.float64], problem: Problem = problem, cap: float = cap) -> NDArray[np.float64]:
            p = power(amplitude) + 1e-15
            return np.concatenate(
                [
                    np.log(_sinr(problem, p) / problem.sinr_threshold),
                    [np.log(problem.crlb_threshold_m2 / _crlb(problem, p))],
                    1 - p.sum(1) / cap,
                ]
            )

        rng = np.random.default_rng(seed)
        best = np.inf
        starts = [np.sqrt(answer.power / cap) * 1.05, *(rng.uniform(0, 0.7, (3, 2)) for _ in range(6))]
        for start in starts:
            found = minimize(
                _square,
                start.ravel(),
                method="SLSQP",
                bounds=Bounds(1e-7, 1.0),
                constraints=NonlinearConstraint(slack, 0.0, np.inf),
                tol=1e-12,
            )
            if found.success and slack(found.x).min() > -1e-7:
                best = min(best, float(power(found.x).sum()))
        assert best >= answer.transmit_power * (1 - 1e-5)
        assert best <= answer.transmit_power * (1 + 1e-3)
    assert compared >= 3


def test_one_ap_and_one_user_have_the_closed_form() -> None:
    # p v = γ (ς p + σ²), and the CRLB falls as 1/p: the larger of the two powers.
    for seed in range(6):
        problem = _problem(seed, 1, 1, T=4, crlb_threshold_m2=300.0)
        answer = reference.solve(problem, np.ones(1, dtype=bool))
        v, g, gamma = problem.estimate_gain[0, 0], problem.gain[0, 0], problem.sinr_threshold
        talk = gamma * problem.noise_w / (v - gamma * g)
        sense = _crlb(problem, np.ones((1, 1))) / problem.crlb_threshold_m2
        needed = max(talk, sense)
        if needed > problem.max_ap_power_w:
            assert answer.status == Status.INFEASIBLE
        else:
            assert answer.transmit_power == pytest.approx(needed, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_scs_agrees_with_clarabel_or_says_that_it_is_inaccurate(seed: int) -> None:
    problem = _problem(seed, 5, 2, T=4)
    active = np.ones(5, dtype=bool)
    clarabel, scs = (reference.solve(problem, active, solver=s) for s in ("CLARABEL", "SCS"))
    assert clarabel.status in (Status.OPTIMAL, Status.INFEASIBLE)
    assert scs.status in (clarabel.status, Status.INACCURATE)
    if scs.status == Status.OPTIMAL:
        _check(problem, scs)
        assert scs.transmit_power == pytest.approx(clarabel.transmit_power, rel=2e-6)


def test_a_batch_of_sets_is_solved_like_its_sets() -> None:
    problem = _problem(2, 6, 2)
    sets = np.random.default_rng(0).random((2, 3, 6)) < 0.6
    batch = reference.solve(problem, sets)
    assert batch.power.shape == (2, 3, 6, 2)
    for i in range(2):
        for j in range(3):
            single = reference.solve(problem, sets[i, j])
            assert batch.status[i, j] == single.status
            np.testing.assert_allclose(batch.power[i, j], single.power, rtol=1e-6)


def test_the_empty_set_is_infeasible() -> None:
    answer = reference.solve(_problem(0, 3, 2), np.zeros(3, dtype=bool))
    assert answer.status == Status.INFEASIBLE
    assert answer.bound == np.inf


def test_the_papers_problem_misses_the_sinr_and_costs_more() -> None:
    # Errata E9 and E10: (9d) restricts what (8d) asks; (10) undercounts the interference of what is radiated.
    missed_db, cost = [], []
    for seed in range(12):
        problem = _problem(seed, 20, 10)
        active = np.ones(20, dtype=bool)
        exact, paper = reference.solve(problem, active), solve_paper(problem, active)
        if exact.status == Status.OPTIMAL and paper.feasible:
            missed_db.append(10 * np.log10(problem.sinr_threshold / _sinr(problem, paper.power).min()))
            cost.append(paper.power.sum() / exact.transmit_power)
            assert _crlb(problem, paper.power) <= problem.crlb_threshold_m2 * (1 + 1e-4), (
                "a restriction, never a relaxation"
            )
    assert len(cost) >= 6
    assert np.median(missed_db) > 0.5
    assert np.median(cost) > 1.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": "GUROBI"}, r"unknown solver 'GUROBI'; valid solvers: CLARABEL, SCS"),
        ({"active": np.ones(4, dtype=bool)}, r"active must be bool of shape \(…, 3\), got bool of shape \(4,\)"),
        ({"active": np.ones(3)}, r"active must be bool.*got float64"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, Any] = {"active": np.ones(3, dtype=bool), "solver": "CLARABEL"} | changes
    with pytest.raises(ValueError, match=message):
        reference.solve(_problem(0, 3, 2), **arguments)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_gains_that_are_not_positive_are_refused(bad: float) -> None:
    problem = _problem(0, 3, 2)
    gain = problem.gain.copy()
    gain[1, 1] = bad
    with pytest.raises(ValueError, match=r"gain must be finite and positive"):
        reference.solve(replace(problem, gain=gain), np.ones(3, dtype=bool))


def test_reused_pilots_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 users share pilots.*needs orthogonal pilots"):
        reference.solve(_problem(0, 5, 4, pilot_length=2), np.ones(5, dtype=bool))


def test_answers_do_not_depend_on_what_was_solved_before() -> None:
    def answer(seed: int) -> list[NDArray[np.float64]]:
        problem = sample(SystemConfig(M=8, K=3), np.random.default_rng(seed)).problem
        on = np.ones(8, dtype=bool)
        return [reference.solve(problem, on).power, solve_paper(problem, on).power]

    first = answer(0)
    answer(1)
    for before, after in zip(first, answer(0), strict=True):
        np.testing.assert_array_equal(before, after)
