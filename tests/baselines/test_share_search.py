"""Best-first search on the share relaxation: against brute force, for any number of threads, memory limit and interruption."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from baselines import branch_and_bound, interruption, share_kernels, share_search
from baselines.allocation import fast
from cfisac_env import PRESETS, SystemConfig, physics, sample
from cfisac_env.types import Decision, Problem


def drop(seed: int, **options: Any) -> Problem:
    problem: Problem = sample(SystemConfig(**options), np.random.default_rng(1_000_000 + seed), 1)[0].problem
    return problem


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the share search for every drop."""
    monkeypatch.setattr(branch_and_bound, "RELAXATION_RATIO", np.inf)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("most", "heap"), [(1, 50_000), (20, 3)])
def test_the_search_agrees_with_brute_force_at_any_enumeration_size_and_memory_limit(
    monkeypatch: pytest.MonkeyPatch, preset: str, most: int, heap: int
) -> None:
    monkeypatch.setattr(share_search, "MAX_SETS", most)
    monkeypatch.setattr(share_search, "MAX_NODES", heap)
    monkeypatch.setattr(share_search, "BATCH", 2)
    # Without a local search, so that the tree has to find the answer.
    monkeypatch.setattr(branch_and_bound, "improve", lambda *_, **__: None)
    for seed in range(8):
        problem = drop(seed, M=4 + seed % 5, K=1 + seed % 4, preset=preset, S=1 + seed % 2)
        sets = np.array(list(itertools.product([False, True], repeat=problem.M))[1:])
        answers = fast.solve(problem, sets, threads=1)
        least = float(np.min(answers.transmit_power + problem.circuit_power_w * sets.sum(-1)))
        result = branch_and_bound.solve(problem, time_limit_s=None, threads=1)
        if np.isinf(least):
            assert result.status == "infeasible"
            continue
        assert result.status == "optimal"
        assert result.total_power_w == pytest.approx(least, rel=2e-6)
        assert result.lower_bound_w <= least * (1 + 2e-7)
        assert physics.evaluate(problem, Decision(active=result.active, power=result.power)).feasible


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("preset", "M", "K"), [("urban", 50, 10), ("high-rate", 16, 4), ("precise-sensing", 25, 5)])
def test_result_bound_and_nodes_do_not_depend_on_the_threads(preset: str, M: int, K: int) -> None:
    problem = drop(3, M=M, K=K, preset=preset)
    first, second = (branch_and_bound.solve(problem, time_limit_s=None, threads=threads) for threads in (1, 3))
    assert first.status == second.status == "optimal"
    assert (first.lower_bound_w, first.nodes) == (second.lower_bound_w, second.nodes)
    np.testing.assert_array_equal(first.power, second.power)


def test_urban_drops_are_solved_where_the_cardinality_bound_leaves_a_gap() -> None:
    for seed in range(2):
        problem = drop(seed, M=50, K=10, preset="urban")
        quick = branch_and_bound.solve(problem, time_limit_s=0.0, threads=1)
        result = branch_and_bound.solve(problem, time_limit_s=120.0)
        assert result.status == "optimal"
        assert result.nodes > 0
        assert quick.lower_bound_w <= result.total_power_w <= quick.total_power_w
        # The relaxation is part of the bound even without time: the floor would leave 10 % and more.
        assert quick.lower_bound_w >= 0.9 * result.total_power_w


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("calls", [0, 1, 5, 40])
def test_an_interruption_in_the_tree_carries_the_incumbent_and_a_valid_bound(
    monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    problem = drop(1, M=40, K=8, preset="urban")
    exact = branch_and_bound.solve(problem, time_limit_s=None)
    monkeypatch.setattr(share_search, "MAX_SETS", 10)
    count, original = itertools.count(), share_kernels.tighten

    def interrupting(*arguments: Any) -> Any:
        if next(count) == calls:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(share_search, "tighten", interrupting)
    with pytest.raises(branch_and_bound.SearchInterrupted) as stop:
        branch_and_bound.solve(problem, time_limit_s=None, threads=1 + calls % 2)
    result = stop.value.result
    assert result.lower_bound_w <= exact.total_power_w * (1 + 1e-9)
    assert exact.total_power_w <= result.total_power_w * (1 + 2e-6)
    assert physics.evaluate(problem, Decision(active=result.active, power=result.power)).feasible


def test_a_recorded_signal_ends_the_search_at_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = drop(1, M=40, K=8, preset="urban")
    original = share_kernels.tighten

    def noting(*arguments: Any) -> Any:
        interruption.note(2)
        return original(*arguments)

    monkeypatch.setattr(share_search, "tighten", noting)
    try:
        with pytest.raises(branch_and_bound.SearchInterrupted) as stop:
            branch_and_bound.solve(problem, time_limit_s=None, threads=1)
    finally:
        interruption.note(None)
    assert np.isfinite(stop.value.result.total_power_w)
