"""Convex–concave procedure for shared pilots: feasibility, monotonicity and bound, against independent formulas and solvers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, NonlinearConstraint, minimize

import baselines
from baselines import branch_and_bound
from baselines.allocation import Allocator, Multipliers, Status, ccp, dual_bound, fast
from baselines.local_search import LocalSearch
from cfisac_env import PRESETS, Problem, SystemConfig, sample


def drop(seed: int, M: int, K: int, pilots: int, **fields: Any) -> Problem:
    config = SystemConfig(M=M, K=K, pilot_length=pilots, **fields)
    return sample(config, np.random.default_rng(1_000_000 + seed)).problem


def sinr(problem: Problem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """SINR from its definition, contamination included, in loops."""
    result = np.empty(problem.K)
    overlap = np.eye(problem.K) if problem.pilot_overlap is None else problem.pilot_overlap
    aps = range(problem.M)
    for k in range(problem.K):
        signal = sum(np.sqrt(power[m, k] * problem.estimate_gain[m, k]) for m in aps) ** 2
        interference = problem.noise_w + sum(problem.gain[m, k] * power[m].sum() for m in aps)
        for j in range(problem.K):
            if j != k:
                leak = sum(
                    np.sqrt(power[m, j] * problem.estimate_gain[m, j]) * problem.gain[m, k] / problem.gain[m, j]
                    for m in aps
                )
                interference += overlap[k, j] * leak**2
        result[k] = signal / interference
    return result


def crlb(problem: Problem, power: NDArray[np.float64]) -> float:
    a, b, c = power.sum(1) @ problem.fisher[:, 0]
    return float(np.trace(np.linalg.inv(np.array([[a, c], [c, b]]))))


def violation(problem: Problem, power: NDArray[np.float64]) -> float:
    return max(
        1.0 - float(sinr(problem, power).min()) / problem.sinr_threshold,
        1.0 - problem.crlb_threshold_m2 / crlb(problem, power),
        float(power.sum(1).max()) / problem.max_ap_power_w - 1.0,
    )


CASES = [
    (preset, M, K, pilots) for preset in PRESETS for M, K, pilots in ((8, 4, 2), (14, 6, 3), (20, 5, 4), (12, 4, 1))
]


@pytest.mark.parametrize(("preset", "M", "K", "pilots"), CASES)
def test_local_solutions_meet_every_requirement_and_proofs_are_valid(preset: str, M: int, K: int, pilots: int) -> None:
    rng = np.random.default_rng(0)
    for seed in range(2):
        problem = drop(seed, M, K, pilots, preset=preset)
        sets = rng.random((3, M)) < np.array([[1.1], [0.7], [0.4]])
        answer = ccp.solve(problem, sets)
        caps = sets.sum(-1) * problem.max_ap_power_w
        bound = dual_bound(problem, sets, answer.multipliers)
        for i in range(3):
            assert answer.status[i] in (Status.LOCAL, Status.INFEASIBLE, Status.UNKNOWN)
            if answer.status[i] == Status.LOCAL:
                assert violation(problem, answer.power[i]) <= 1e-7
                assert (answer.power[i][~sets[i]] == 0.0).all()
                assert answer.power[i].sum() == pytest.approx(answer.transmit_power[i], rel=1e-12)
                assert answer.bound[i] == pytest.approx(bound[i], rel=1e-9)
                assert bound[i] <= answer.transmit_power[i] * (1 + 1e-6)
            elif answer.status[i] == Status.INFEASIBLE:
                assert bound[i] > caps[i]
                assert np.isinf(answer.transmit_power[i])


def test_most_answers_are_proven_to_be_nearly_optimal() -> None:
    gaps, unknown = [], 0
    for seed in range(12):
        problem = drop(seed, 14, 6, 3, preset=sorted(PRESETS)[seed % 4])
        answer = ccp.solve(problem, np.ones(14, dtype=bool))
        unknown += answer.status == Status.UNKNOWN
        if answer.status == Status.LOCAL:
            gaps.append(1.0 - float(answer.bound / answer.transmit_power))
    assert unknown <= 1
    assert len(gaps) >= 6
    assert np.median(gaps) < 1e-3


def test_every_iterate_is_feasible_and_power_never_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.float64]] = []
    original = ccp._restored

    def recording(problem: Problem, power: NDArray[np.float64]) -> NDArray[np.float64]:
        seen.append(original(problem, power))
        return seen[-1]

    monkeypatch.setattr(ccp, "_restored", recording)
    steps = 0
    for seed in range(6):
        seen.clear()
        problem = drop(seed, 12, 6, 3, preset=("precise-sensing", "high-rate")[seed % 2])
        answer = ccp.solve(problem, np.ones(12, dtype=bool))
        if answer.status != Status.LOCAL or len(seen) != answer.iterations:
            continue
        feasible = [violation(problem, power) <= 1e-7 for power in seen]
        first = feasible.index(True)
        assert all(feasible[first:])
        totals = np.array([power.sum() for power in seen[first:]])
        assert (np.diff(totals) <= 1e-6 * totals[0]).all()
        assert answer.transmit_power == pytest.approx(totals.min(), rel=1e-12)
        steps += len(totals)
    assert steps >= 10


@pytest.mark.parametrize("preset", list(PRESETS))
def test_without_contamination_the_answer_is_the_optimum_and_the_bound_proves_it(preset: str) -> None:
    for seed in range(3):
        problem = drop(seed, 12, 4, 4, preset=preset)
        active = np.ones(12, dtype=bool)
        exact, answer = fast.solve(problem, active), ccp.solve(problem, active)
        if exact.status == Status.INFEASIBLE:
            assert answer.status == Status.INFEASIBLE
        else:
            assert answer.transmit_power == pytest.approx(float(exact.transmit_power), rel=3e-6)
            assert answer.bound == pytest.approx(float(exact.transmit_power), rel=3e-6)


def test_slsqp_finds_nothing_cheaper_nearby_and_nothing_below_the_bound() -> None:
    compared = 0
    for seed in range(10):
        problem = drop(seed, 3, 2, 1, T=3, crlb_threshold_m2=3.0)
        answer = ccp.solve(problem, np.ones(3, dtype=bool))
        if answer.status != Status.LOCAL:
            continue
        compared += 1
        cap = problem.max_ap_power_w

        def power(amplitude: NDArray[np.float64], cap: float = cap) -> NDArray[np.float64]:
            return cap * amplitude.reshape(3, 2) ** 2

        def square(amplitude: NDArray[np.float64]) -> float:
            return float((amplitude**2).sum())

        def slack(amplitude: NDArray[np.float64], problem: Problem = problem, cap: float = cap) -> NDArray[np.float64]:
            p = power(amplitude) + 1e-15
            return np.concatenate(
                [
                    np.log(sinr(problem, p) / problem.sinr_threshold),
                    [np.log(problem.crlb_threshold_m2 / crlb(problem, p))],
                    1 - p.sum(1) / cap,
                ]
            )

        rng = np.random.default_rng(seed)
        here = np.sqrt(answer.power / cap)
        starts = [(here * 1.03, True), *((rng.uniform(0, 0.7, (3, 2)), False) for _ in range(6))]
        for start, near in starts:
            found = minimize(
                square,
                start.ravel(),
                method="SLSQP",
                bounds=Bounds(1e-7, 1.0),
                constraints=NonlinearConstraint(slack, 0.0, np.inf),
                tol=1e-12,
            )
            if found.success and slack(found.x).min() > -1e-7:
                total = float(power(found.x).sum())
                assert total >= answer.bound * (1 - 1e-5)
                if near:
                    assert total >= answer.transmit_power * (1 - 1e-4)
    assert compared >= 4


def test_one_ap_and_two_users_with_one_pilot_match_the_linear_system() -> None:
    # With one AP every SINR is linear in the powers: p_k v_k = γ (p_j v_j ς_k²/ς_j² + ς_k (p_1 + p_2) + σ²).
    for seed in range(6):
        problem = replace(drop(seed, 1, 2, 1), fisher=np.zeros((1, 0, 3)), max_ap_power_w=1e6, sinr_threshold=0.2)
        v, g, gamma = problem.estimate_gain[0], problem.gain[0], problem.sinr_threshold
        system = np.diag(v) - gamma * g[:, None]
        system[0, 1] -= gamma * v[1] * (g[0] / g[1]) ** 2
        system[1, 0] -= gamma * v[0] * (g[1] / g[0]) ** 2
        answer = ccp.solve(problem, np.ones(1, dtype=bool))
        expected = np.linalg.solve(system, np.full(2, gamma * problem.noise_w))
        if (expected > 0).all():
            np.testing.assert_allclose(answer.power[0], expected, rtol=1e-5)
            assert answer.bound == pytest.approx(expected.sum(), rel=1e-5)
        else:
            assert answer.status == Status.INFEASIBLE


def test_two_users_with_one_pilot_and_one_ap_cannot_both_exceed_zero_db() -> None:
    # Their SINRs are below p_1/p_2 and p_2/p_1.
    problem = replace(drop(0, 1, 2, 1), fisher=np.zeros((1, 0, 3)), sinr_threshold=1.01, max_ap_power_w=1e9)
    answer = ccp.solve(problem, np.ones(1, dtype=bool))
    assert answer.status == Status.INFEASIBLE
    assert dual_bound(problem, answer.active, answer.multipliers) > problem.max_ap_power_w


def test_no_multipliers_give_a_bound_above_a_feasible_point() -> None:
    rng = np.random.default_rng(2)
    for seed in range(4):
        problem = drop(seed, 8, 4, 2)
        active = np.ones(8, dtype=bool)
        answer = ccp.solve(problem, active)
        if answer.status != Status.LOCAL:
            continue
        duals = answer.multipliers
        for _ in range(40):
            scale = 10 ** rng.uniform(-1, 1, 3)
            wild = Multipliers(
                sinr=duals.sinr * scale[0] * rng.uniform(0.2, 3, 4),
                cap=duals.cap * scale[1] + rng.exponential(0.1, 8) * (rng.random(8) < 0.3),
                sensing=duals.sensing * scale[2] * rng.uniform(0.5, 2, (1, 3)),
            )
            assert dual_bound(problem, active, wild) <= answer.transmit_power * (1 + 1e-7)


def test_a_set_whose_bound_passes_the_limit_is_cut_off() -> None:
    problem, active = drop(3, 12, 4, 2), np.ones((2, 12), dtype=bool)
    free = ccp.solve(problem, active[0])
    assert free.status == Status.LOCAL
    answer = ccp.solve(problem, active, cutoff_w=np.array([0.9, 1.1]) * free.transmit_power)
    assert answer.status.tolist() == [Status.CUT_OFF, Status.LOCAL]
    assert answer.bound[0] > 0.9 * free.transmit_power
    assert answer.transmit_power[0] == np.inf
    np.testing.assert_array_equal(answer.power[1], free.power)


def test_every_back_end_uses_the_convex_concave_procedure_for_shared_pilots() -> None:
    problem, active = drop(3, 8, 4, 2), np.ones(8, dtype=bool)
    expected = ccp.solve(problem, active)
    for backend in ("fast", "clarabel"):
        answer = Allocator(backend)(problem, active)
        assert answer.status == expected.status == Status.LOCAL
        np.testing.assert_array_equal(answer.power, expected.power)


def test_distinct_pilots_are_orthogonal_in_every_representation() -> None:
    problem, active = drop(3, 8, 3, 3), np.ones(8, dtype=bool)
    named = replace(problem, pilot_overlap=np.eye(3))
    np.testing.assert_array_equal(fast.solve(named, active).power, fast.solve(problem, active).power)
    assert Allocator("fast")(named, active).status == Status.OPTIMAL


@pytest.mark.parametrize(
    "name", ["nearest-ap", "strongest-ap", "full-ap", "modified-bb", "local-search", "branch-and-bound"]
)
def test_policies_serve_drops_with_shared_pilots(name: str) -> None:
    policy, served = baselines.make(name), 0
    for seed in range(2):
        config = SystemConfig(M=7, K=4, pilot_length=3, preset=("paper", "urban")[seed])
        scenario = sample(config, np.random.default_rng(1_000_000 + seed))
        answer = policy.decide(scenario.problem)
        assert answer.feasible == bool(scenario.evaluate(answer.decision).feasible)
        served += answer.feasible
    assert served >= 1


@pytest.mark.parametrize(("preset", "pilots"), [("paper", 2), ("urban", 3)])
def test_exact_search_with_shared_pilots_keeps_its_bound_below_every_set(preset: str, pilots: int) -> None:
    problem = drop(4, 6, 4, pilots, preset=preset)
    every = (np.arange(1, 64)[:, None] >> np.arange(6) & 1).astype(bool)
    totals = ccp.solve(problem, every).total_power(problem.circuit_power_w)
    result = branch_and_bound.solve(problem, time_limit_s=None)
    assert result.lower_bound_w <= min(totals.min(), result.total_power_w)
    assert result.total_power_w == pytest.approx(totals.min(), rel=1e-4)
    assert violation(problem, result.power) <= 1e-7
    assert result.total_power_w == pytest.approx(result.power.sum() + 0.2 * result.active.sum(), rel=1e-12)
    rough = branch_and_bound.solve(problem, time_limit_s=0.0)
    assert rough.lower_bound_w <= totals.min()
    assert rough.total_power_w >= result.total_power_w * (1.0 - 1e-9)


@pytest.mark.parametrize("method", ["descend", "kicks"])
def test_an_interrupted_search_with_shared_pilots_keeps_powers_that_serve(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupting(*_: Any) -> None:
        raise KeyboardInterrupt

    problem = drop(4, 6, 4, 2)
    monkeypatch.setattr(LocalSearch, method, interrupting)
    with pytest.raises(branch_and_bound.SearchInterrupted) as stop:
        branch_and_bound.solve(problem)
    result = stop.value.result
    assert violation(problem, result.power) <= 1e-7
    assert 0.0 < result.lower_bound_w <= result.total_power_w


def test_exact_search_with_shared_pilots_proves_a_drop_infeasible() -> None:
    result = branch_and_bound.solve(drop(0, 5, 4, 2, crlb_threshold_m2=1e-5))
    assert result.status == "infeasible"
    assert result.allocation.status == Status.INFEASIBLE
    assert result.lower_bound_w == np.inf


def test_elimination_with_shared_pilots_costs_no_more_than_all_aps() -> None:
    problem = drop(3, 8, 4, 2, preset="urban")
    full, eliminated = (baselines.make(name).decide(problem).decision for name in ("full-ap", "modified-bb"))
    assert eliminated.active.sum() < full.active.sum()
    assert violation(problem, eliminated.power) <= 0.0  # with the feasibility margin


def test_solvers_for_orthogonal_pilots_name_alternatives() -> None:
    with pytest.raises(ValueError, match=r"orthogonal pilots.*baselines\.allocation\.ccp.*modified-bb, local-search"):
        baselines.make("modified-bb-paper").decide(drop(0, 5, 4, 2))


def test_bad_input_is_named() -> None:
    problem, active = drop(0, 5, 4, 2), np.ones(5, dtype=bool)
    with pytest.raises(ValueError, match=r"pilot_overlap must be .* of shape \(4, 4\)"):
        ccp.solve(replace(problem, pilot_overlap=2.0 * np.ones((4, 4))), active)
    batch = sample(SystemConfig(M=5, K=4, pilot_length=2), np.random.default_rng(0), 3).problem
    with pytest.raises(ValueError, match="one drop"):
        ccp.solve(batch, np.ones((3, 5), dtype=bool))
    with pytest.raises(TypeError, match="expected bool"):
        ccp.solve(problem, active.astype(int))
