"""AP selection: exact search against brute force and a mixed-integer solver, local search against exact search."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import baselines
from agents.hetgnn.labels import label
from baselines import ap_sets, branch_and_bound, local_search
from baselines.allocation import Allocation, Allocator, Status, fast
from baselines.allocation.certificate import dual_bound
from baselines.bounds import DualPool, DualScreen, SensingKnapsack, certify, fewest_active, sensing_qualities
from baselines.elimination import ACCURACY, cheapest_removal
from baselines.enumeration import enumerate_sets
from cfisac_env import SystemConfig, physics, sample
from cfisac_env.types import Decision, Problem
from experiments import compare

PRESETS = ("paper", "high-rate", "precise-sensing", "urban")


def drop(seed: int, **options: Any) -> Problem:
    problem: Problem = sample(SystemConfig(**options), np.random.default_rng(1_000_000 + seed), 1)[0].problem
    return problem


def every_set(M: int) -> NDArray[np.bool_]:
    return np.array(list(itertools.product([False, True], repeat=M))[1:])


def brute_force(problem: Problem) -> float:
    """Least total power over all sets; infinite when every one is infeasible."""
    sets = every_set(problem.M)
    answers = fast.solve(problem, sets, threads=1)
    assert set(answers.status.tolist()) <= {Status.OPTIMAL, Status.INFEASIBLE}
    return float(np.min(answers.transmit_power + problem.circuit_power_w * sets.sum(-1)))


TIGHTNESS = {
    "as it is": (0.0, 1.0),
    "more rate": (5.0, 1.0),
    "finer": (0.0, 0.1),
    "tight": (3.0, 0.3),
    "loose": (-6.0, 100.0),
}


TINY = 13
"""Drops of every preset and tightness: 4 × 5 × 13 = 260 cases."""


def tiny(preset: str, tightness: str, seed: int) -> Problem:
    decibels, factor = TIGHTNESS[tightness]
    problem = drop(seed, M=3 + seed % 7, K=1 + seed % 4, preset=preset, S=1 + (seed == 5))
    return replace(
        problem,
        sinr_threshold=problem.sinr_threshold * 10 ** (decibels / 10),
        crlb_threshold_m2=problem.crlb_threshold_m2 * factor,
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tightness", TIGHTNESS)
def test_exact_search_agrees_with_brute_force_over_all_sets(preset: str, tightness: str) -> None:
    for seed in range(TINY):
        problem = tiny(preset, tightness, seed)
        least = brute_force(problem)
        result = branch_and_bound.solve(problem, time_limit_s=None, threads=1)
        if math.isinf(least):
            assert result.status == "infeasible"
            proof = result.allocation
            assert dual_bound(problem, proof.active, proof.multipliers) > problem.M * problem.max_ap_power_w
            continue
        assert result.status == "optimal"
        assert result.gap <= 1e-6 * (1 + 1e-6)
        assert result.total_power_w == pytest.approx(least, rel=2e-6)
        assert result.lower_bound_w <= least * (1 + 1e-12)
        outcome = physics.evaluate(problem, Decision(active=result.active, power=result.power))
        assert outcome.feasible
        assert result.total_power_w == pytest.approx(float(outcome.total_power), rel=1e-12)


def test_the_tiny_cases_hold_feasible_and_infeasible_drops() -> None:
    feasible = [
        fast.solve(problem, np.ones(problem.M, dtype=bool)).status == Status.OPTIMAL
        for preset, tightness, seed in itertools.product(PRESETS, TIGHTNESS, range(TINY))
        if (problem := tiny(preset, tightness, seed))
    ]
    assert len(feasible) >= 200
    assert sum(feasible) >= 80
    assert len(feasible) - sum(feasible) >= 40


@pytest.mark.parametrize("preset", ["paper", "precise-sensing", "urban"])
def test_the_sensing_knapsack_rules_out_only_what_needs_more(preset: str) -> None:
    hopeless = 0
    for seed in range(4):
        problem = drop(seed, M=9, K=3, preset=preset, S=1 + seed % 2)
        sets = every_set(9)
        power = fast.solve(problem, sets, threads=1).transmit_power
        knapsack = SensingKnapsack(problem)
        assert knapsack.least_w <= power.min()
        for limit in (np.where(np.isfinite(power), power * (1 + 1e-6), 0.9), np.full(len(sets), np.inf)):
            ruled_out = knapsack.rules_out(sets, limit)
            hopeless += int(ruled_out.sum())
            assert not (ruled_out & np.isfinite(power) & (power <= limit)).any()
    assert hopeless > 100
    assert SensingKnapsack(drop(0, M=3, K=2, crlb_threshold_m2=1e-5)).least_w == np.inf


@pytest.mark.parametrize("preset", ["paper", "high-rate", "urban"])
def test_the_dual_screen_rules_out_only_what_needs_more(preset: str) -> None:
    ruled_out = 0
    for seed in range(4):
        problem = drop(seed, M=9, K=3, preset=preset, S=1 + seed % 2)
        sets = every_set(9)
        answers = fast.solve(problem, sets, threads=1)
        served = np.flatnonzero(np.isfinite(answers.transmit_power))
        screen = DualScreen(problem)
        for i in served[: 4 * 7 : 7]:
            screen.add(answers[int(i)].multipliers)
        for share in (0.7, 1.0 + 1e-6):
            limit = np.where(np.isfinite(answers.transmit_power), share * answers.transmit_power, 0.9)
            out = screen.rules_out(sets, limit)
            ruled_out += int(out.sum())
            if share > 1.0:
                assert not out[served].any()
    assert ruled_out > 100


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("quantile", [0.02, 0.3, 0.9])
def test_the_screens_rule_out_no_set_that_is_cheaper_than_the_limit(preset: str, quantile: float) -> None:
    for seed in range(3):
        problem = drop(seed, M=9, K=3, preset=preset, S=1 + seed % 2)
        sets = every_set(9)
        answers = fast.solve(problem, sets, threads=1)
        size = sets.sum(-1)
        order = np.random.default_rng(seed).permutation(9)
        pool = DualPool(problem, order)
        for i in range(0, len(sets), 60):
            pool.add(answers[i].multipliers)
        scale = problem.estimate_gain.sum(0)
        quality = np.ascontiguousarray(sensing_qualities(problem)[:, order])
        for n in (1, 2, 4, 7):
            power = answers.transmit_power[size == n]
            if not np.isfinite(power).any():
                continue
            limit = float(np.quantile(power[np.isfinite(power)], quantile)) * (1 + 1e-6)
            position, depth = np.zeros(n, dtype=np.int64), 1
            found = np.empty((7, n), dtype=np.int64)
            kept = set()
            while depth > 0:
                duals = pool.arrays()
                rows, depth, _ = enumerate_sets(
                    position, depth, n,
                    np.ascontiguousarray((problem.estimate_gain / scale)[order]),
                    np.ascontiguousarray((problem.sinr_threshold * problem.gain / scale)[order]),
                    problem.sinr_threshold * problem.noise_w / scale, problem.max_ap_power_w, limit * (1 + 1e-9),
                    quality, np.ascontiguousarray(np.argsort(-quality, axis=1)), np.arange(len(quality)),
                    *duals, np.arange(len(duals[0])), found, 5,
                )  # fmt: skip
                kept |= {frozenset(order[row].tolist()) for row in found[:rows]}
            cheap = (size == n) & (answers.transmit_power <= limit * (1 - 1e-6))
            assert kept >= {frozenset(np.flatnonzero(row).tolist()) for row in sets[cheap]}


def test_no_set_smaller_than_the_cardinality_bound_is_feasible() -> None:
    for seed, preset in itertools.product(range(4), PRESETS):
        problem = drop(seed, M=8, K=4, preset=preset, noise_figure_db=9.0 + 10.0 * seed)
        sets = every_set(8)
        answers = fast.solve(problem, sets, threads=1)
        all_on = answers.transmit_power[-1]
        if np.isfinite(all_on):
            feasible = sets.sum(-1)[answers.status == Status.OPTIMAL]
            assert feasible.min() >= fewest_active(problem, float(answers.bound[-1])) >= fewest_active(problem)


def scip(problem: Problem) -> float:
    """The mixed-integer second-order cone problem by SCIP, normalised by the received powers with all APs on; W."""
    from pyscipopt import Model, quicksum

    M, K, cap, gamma, nu = (
        problem.M, problem.K, problem.max_ap_power_w, problem.sinr_threshold, problem.crlb_threshold_m2
    )  # fmt: skip
    all_on = fast.solve(problem, np.ones(M, dtype=bool), threads=1)
    need = gamma * (all_on.power.sum(-1) @ problem.gain + problem.noise_w)  # t_k with all APs on
    unit = need / problem.estimate_gain / cap  # p_mk in caps, by p'_mk = v_mk p_mk/t_k
    model = Model()
    model.hideOutput()
    model.setParam("numerics/feastol", 1e-9)
    model.setParam("limits/gap", 1e-6)
    model.setParam("parallel/maxnthreads", 1)
    on = [model.addVar(vtype="B") for _ in range(M)]
    radiated = [model.addVar(lb=0.0, ub=1.0) for _ in range(M)]
    t = [model.addVar(lb=0.0) for _ in range(K)]
    p = [[model.addVar(lb=0.0) for _ in range(K)] for _ in range(M)]
    r = [[model.addVar(lb=0.0) for _ in range(K)] for _ in range(M)]
    for m in range(M):
        model.addCons(radiated[m] <= on[m])
        model.addCons(quicksum(float(unit[m, k]) * p[m][k] for k in range(K)) == radiated[m])
        for k in range(K):
            model.addCons(r[m][k] * r[m][k] <= p[m][k] * t[k])
    interference = gamma * cap * problem.gain / need
    for k in range(K):
        noise = gamma * problem.noise_w / float(need[k])
        model.addCons(quicksum(float(interference[m, k]) * radiated[m] for m in range(M)) + noise <= t[k])
        model.addCons(quicksum(r[m][k] for m in range(M)) >= t[k])
    for s in range(problem.S):
        qa, qb, qc = (0.5 * cap * nu * problem.fisher[:, s, i] for i in range(3))
        trace, difference, cross = model.addVar(lb=0.0), model.addVar(lb=None), model.addVar(lb=None)
        model.addCons(quicksum(float(qa[m] + qb[m]) * radiated[m] for m in range(M)) - 1.0 == trace)
        model.addCons(quicksum(float(qa[m] - qb[m]) * radiated[m] for m in range(M)) == difference)
        model.addCons(quicksum(float(2.0 * qc[m]) * radiated[m] for m in range(M)) == cross)
        model.addCons(difference * difference + cross * cross + 1.0 <= trace * trace)
    # Implied by Cauchy–Schwarz (n > K γ). At n = K γ the noise is all that is missing, which is less than SCIP's tolerance.
    model.addCons(quicksum(on) >= math.floor(K * gamma * (1 + 1e-12)) + 1)
    model.setObjective(quicksum(cap * radiated[m] + problem.circuit_power_w * on[m] for m in range(M)))
    model.optimize()
    status = model.getStatus()
    assert status in ("optimal", "gaplimit", "infeasible")
    return float(model.getObjVal()) if status != "infeasible" else math.inf


@pytest.mark.parametrize("preset", PRESETS)
def test_exact_search_agrees_with_scip(preset: str) -> None:
    compared = 0
    for seed in itertools.count(100):
        problem = drop(seed, M=8 + seed % 5, K=2 + seed % 2, preset=preset)
        result = branch_and_bound.solve(problem, threads=1)
        if result.status == "infeasible":
            continue
        assert scip(problem) == pytest.approx(result.total_power_w, rel=1e-4)
        compared += 1
        if compared == 6:
            break


def test_local_search_finds_the_proven_optimum_nearly_always() -> None:
    hits = []
    for preset, (M, K), drops in (
        ("paper", (30, 6), 50), ("paper", (50, 10), 15), ("precise-sensing", (30, 6), 20), ("urban", (30, 6), 50)
    ):  # fmt: skip
        for seed in range(drops):
            problem = drop(seed, M=M, K=K, preset=preset)
            result = branch_and_bound.solve(problem, seed=1, threads=1)
            if result.status != "infeasible":
                assert result.status == "optimal"
                found = local_search.search(problem, threads=1)
                assert found.total_power_w >= result.total_power_w * (1 - 2e-6)
                hits.append(found.total_power_w <= result.total_power_w * (1 + 2e-6))
    assert len(hits) >= 100
    assert np.mean(hits) >= 0.98


def test_greedy_elimination_is_never_better_than_exact_search() -> None:
    greedy, exact = baselines.make("modified-bb"), baselines.make("branch-and-bound", time_limit_s=None)
    for seed, preset in itertools.product(range(3), PRESETS):
        problem = drop(seed, M=15, K=4, preset=preset)
        answers = [policy.decide(problem) for policy in (greedy, exact)]
        if not answers[1].feasible:
            assert not answers[0].feasible
            continue
        totals = [float(physics.evaluate(problem, answer.decision).total_power) for answer in answers]
        assert totals[1] <= totals[0] * (1 + 2e-6)
        assert answers[1].lower_bound_w == pytest.approx(totals[1], rel=5e-5)
        assert answers[1].lower_bound_w <= min(totals)


def plain_removal(problem: Problem, current: Allocation) -> Allocation | None:
    """Plain elimination round: every set with one AP removed is solved."""
    on = np.flatnonzero(current.active)
    answers = fast.solve(problem, ap_sets.removals(current.active), threads=1)
    quiet = np.argsort(current.power.sum(-1)[on], kind="stable")
    now = float(current.transmit_power)
    for i in quiet:
        if answers.transmit_power[i] <= now * (1 + ACCURACY):
            return answers[i]
    best = min(quiet, key=lambda i: float(answers.transmit_power[i]))
    return answers[best] if answers.transmit_power[best] <= now + problem.circuit_power_w else None


def test_elimination_with_bounds_and_cut_offs_takes_the_rounds_of_plain_elimination() -> None:
    rounds = 0
    for seed, preset in itertools.product(range(3), PRESETS):
        problem = drop(seed, M=16, K=4, preset=preset)
        current: Allocation | None = fast.solve(problem, np.ones(16, dtype=bool), threads=1)
        while current is not None and current.status == Status.OPTIMAL and current.active.sum() > 1:
            expected = plain_removal(problem, current)
            current = cheapest_removal(Allocator(threads=1), problem, current)
            assert (current is None) == (expected is None)
            if current is not None and expected is not None:
                np.testing.assert_array_equal(current.active, expected.active)
                rounds += 1
    assert rounds > 100


def test_a_time_limit_of_zero_gives_greedy_elimination_and_the_floor() -> None:
    problem = drop(2, M=30, K=6, preset="high-rate")
    quick = branch_and_bound.solve(problem, time_limit_s=0.0, threads=1)
    exact = branch_and_bound.solve(problem, time_limit_s=None, threads=1)
    assert quick.status == "feasible"
    assert quick.nodes == 0
    assert quick.lower_bound_w <= exact.total_power_w <= quick.total_power_w <= 1.2 * exact.total_power_w
    all_on = fast.solve(problem, np.ones(30, dtype=bool))
    assert quick.lower_bound_w == pytest.approx(float(all_on.bound) + 7 * problem.circuit_power_w, rel=1e-12)
    assert physics.evaluate(problem, Decision(active=quick.active, power=quick.power)).feasible
    assert local_search.search(problem, time_limit_s=0.0).total_power_w == pytest.approx(quick.total_power_w)


@pytest.mark.parametrize("ending", ["at once", "in the first start", "by an interruption", "in the end"])
def test_a_search_restores_its_deadline_however_it_ends(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = time.perf_counter() + 1e6
    run = local_search.LocalSearch(drop(1, M=12, K=3), threads=1, deadline=deadline)
    if ending == "at once":
        run.best_w = 0.0  # nothing can be better
    if ending == "in the first start":
        monkeypatch.setattr(run, "eliminate", lambda: setattr(run, "best_w", 0.0))
    if ending == "by an interruption":

        def interrupted() -> None:
            assert run.deadline == np.inf  # the first start is given its time
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "eliminate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            local_search.improve(run)
    else:
        local_search.improve(run)
    assert run.deadline == deadline


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_labels_searches_and_comparisons_share_one_certificate(preset: str, shared: bool) -> None:
    config = SystemConfig(M=12, K=4, preset=preset, pilot_length=2 if shared else 20)
    for seed in range(3):
        problem = sample(config, np.random.default_rng(seed)).problem
        certificate = certify(problem)
        run = local_search.LocalSearch(problem, threads=1)
        assert certificate.infeasible == (run.all_on.status == Status.INFEASIBLE) or shared
        if certificate.infeasible:
            assert certificate.lower_bound_w == certificate.floor_w == np.inf
            continue
        assert certificate.fewest == fewest_active(problem, certificate.least_transmit_w)
        assert certificate.floor_w <= certificate.lower_bound_w * (1 + 1e-12)
        if not shared:
            assert (run.fewest, run.lower_bound_w) == (certificate.fewest, certificate.floor_w)
            assert label(config, [seed]).lower_bound_w[0] == certificate.lower_bound_w
        made = compare.run(config, [baselines.make("full-ap")], 1, seed)
        assert made.lower_bound_w[0] == certificate.lower_bound_w


@pytest.mark.parametrize("calls", [1, 4, 12])
@pytest.mark.parametrize("where", ["allocator", "enumeration"])
def test_an_interrupted_search_raises_with_its_incumbent_and_a_valid_bound(
    monkeypatch: pytest.MonkeyPatch, where: str, calls: int
) -> None:
    problem = drop(1, M=24, K=6, preset="high-rate")
    exact = branch_and_bound.solve(problem, time_limit_s=None, threads=1)
    module: Any = fast if where == "allocator" else branch_and_bound
    name = "solve" if where == "allocator" else "enumerate_sets"
    original, count = getattr(module, name), itertools.count()

    def interrupting(*arguments: Any, **options: Any) -> Any:
        if next(count) == calls:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, interrupting)
    with pytest.raises(branch_and_bound.SearchInterrupted) as stop:
        branch_and_bound.solve(problem, time_limit_s=None, threads=1)
    result = stop.value.result
    assert result.status == "feasible"
    assert result.lower_bound_w <= exact.total_power_w <= result.total_power_w * (1 + 2e-6)
    assert physics.evaluate(problem, Decision(active=result.active, power=result.power)).feasible


def test_the_policy_keeps_an_interrupted_result_and_passes_the_interrupt_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupting(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(branch_and_bound, "improve", interrupting)
    policy = branch_and_bound.BranchAndBoundPolicy()
    with pytest.raises(KeyboardInterrupt):
        policy.decide(drop(1, M=30, K=3))
    assert policy.last_result is not None
    assert np.isfinite(policy.last_result.total_power_w)


def test_a_wide_gap_is_honoured_and_its_bound_is_valid() -> None:
    for seed in range(6):
        problem = drop(seed, M=20, K=5, preset="urban")
        exact = branch_and_bound.solve(problem, time_limit_s=None, threads=1)
        rough = branch_and_bound.solve(problem, gap=0.3, time_limit_s=None, threads=1)
        assert rough.status == "optimal"
        assert rough.gap <= 0.3 * (1 + 1e-9)
        assert rough.lower_bound_w <= exact.total_power_w * (1 + 1e-9)
        assert rough.nodes <= exact.nodes


def test_the_same_seed_gives_the_same_result_for_any_number_of_threads() -> None:
    problem = drop(7, M=30, K=6, preset="high-rate")
    first, second = (branch_and_bound.solve(problem, time_limit_s=None, seed=3, threads=n) for n in (1, 2))
    assert np.array_equal(first.active, second.active)
    assert np.array_equal(first.power, second.power)
    assert (first.lower_bound_w, first.nodes) == (second.lower_bound_w, second.nodes)
    one, two = (local_search.search(problem, seed=3, threads=n) for n in (1, 2))
    assert np.array_equal(one.allocation.power, two.allocation.power)
    assert one.solves == two.solves


@pytest.mark.parametrize("name", ["local-search", "branch-and-bound"])
def test_decisions_survive_the_action_and_meet_every_requirement(name: str) -> None:
    policy = baselines.make(name, M=12, K=3)
    for seed, preset in itertools.product(range(2), PRESETS):
        config = SystemConfig(M=12, K=3, preset=preset)
        scenario = sample(config, np.random.default_rng(1_000_000 + seed), 1)[0]
        answer = policy.decide(scenario.problem)
        outcome = physics.evaluate(scenario.problem, answer.decision)
        assert answer.feasible == bool(outcome.feasible)
        if answer.certificate is not None:
            bound = dual_bound(scenario.problem, answer.certificate.active, answer.certificate.multipliers)
            assert bound > 12 * config.max_ap_power_w


@pytest.mark.parametrize("name", ["local-search", "branch-and-bound"])
def test_an_infeasible_drop_comes_with_its_proof(name: str) -> None:
    problem = replace(drop(1, M=6, K=3), crlb_threshold_m2=1e-9)
    answer = baselines.make(name).decide(problem)
    assert not answer.feasible
    assert answer.certificate is not None
    assert answer.certificate.status == Status.INFEASIBLE
    assert answer.decision.active.all()


def test_bad_input_is_refused_with_a_reason() -> None:
    problem = drop(0, M=5, K=2)
    with pytest.raises(ValueError, match="relative gap in"):
        branch_and_bound.solve(problem, gap=1.0)
    with pytest.raises(ValueError, match="zero or more seconds"):
        branch_and_bound.solve(problem, time_limit_s=-1.0)
    with pytest.raises(ValueError, match=r"greedy.*valid starts"):
        local_search.search(problem, starts=("gredy",))
    with pytest.raises(ValueError, match="kicks is -1"):
        local_search.search(problem, kicks=-1)
    batch = sample(SystemConfig(M=5, K=2), np.random.default_rng(0), 3).problem
    with pytest.raises(ValueError, match="one drop"):
        branch_and_bound.solve(batch)
