"""Composite columns: agreement with the direct method, certificates beyond its size, and refusal of oversized problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from baselines.allocation import columns, fast
from baselines.allocation.certificate import dual_bound, meets
from baselines.allocation.result import Allocation, Status
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.memory import refuse_beyond_memory
from cfisac_env.types import Problem


def drop(seed: int, **options: Any) -> Problem:
    problem: Problem = sample(SystemConfig(**options), np.random.default_rng(1_000_000 + seed), 1)[0].problem
    return problem


def directly(problem: Problem) -> Allocation:
    return fast._all_on(problem)


@pytest.mark.parametrize("preset", PRESETS)
def test_columns_agree_with_the_direct_method_also_where_caps_bind_and_where_nothing_is_feasible(preset: str) -> None:
    rng = np.random.default_rng(len(preset))
    seen: Counter[tuple[str | None, str]] = Counter()
    for seed in range(7):
        problem = drop(seed, M=int(rng.integers(200, 300)), K=int(rng.integers(1, 12)), S=1 + seed % 2, preset=preset)
        if seed >= 3:
            problem = replace(
                problem,
                sinr_threshold=problem.sinr_threshold * 10 ** rng.uniform(-1, 1.5),
                crlb_threshold_m2=problem.crlb_threshold_m2 * 10 ** rng.uniform(-3, 1),
                max_ap_power_w=problem.max_ap_power_w * 10 ** rng.uniform(-1.5, 0.5),
            )
        all_on = np.ones(problem.M, dtype=bool)
        reference = directly(problem)
        found = columns.solve_one(problem, all_on, np.inf, directly)
        seen[None if found is None else str(found.status), str(reference.status)] += 1
        if found is not None:
            assert found.status == reference.status
            certified = float(dual_bound(problem, all_on, found.multipliers))
            if found.status == Status.OPTIMAL:
                assert float(found.transmit_power) == pytest.approx(float(reference.transmit_power), rel=2e-6)
                assert meets(problem, found.power)
                assert certified == pytest.approx(float(found.bound), rel=1e-9)
            else:
                assert certified > problem.M * problem.max_ap_power_w
        whole = fast.solve(problem, all_on, threads=1)
        assert whole.status == reference.status
    assert seen["optimal", "optimal"] >= 3


def test_a_batch_of_drops_with_sets_of_every_size_is_answered_in_its_order() -> None:
    scenario = sample(SystemConfig(M=260, K=3), np.random.default_rng(1_000_000), 2)
    rng = np.random.default_rng(0)
    sets = rng.random((2, 4, 260)) < np.array([0.05, 1.0, 0.3, 0.95])[:, None]
    answers = fast.solve(scenario.problem, sets)
    for i in range(2):
        for j in range(4):
            one = fast.solve(scenario.problem[i], sets[i, j], threads=1)
            assert answers.status[i, j] == one.status == Status.OPTIMAL
            np.testing.assert_array_equal(answers.power[i, j], one.power)
            assert not answers.power[i, j][~sets[i, j]].any()
            assert float(answers.bound[i, j]) == float(one.bound)
            np.testing.assert_array_equal(answers.multipliers.cap[i, j], one.multipliers.cap)
    cut = fast.solve(scenario.problem, sets, cutoff_w=1e-7)
    assert (cut.status == Status.CUT_OFF).all()
    assert (cut.bound > 1e-7).all()


@pytest.mark.parametrize(("M", "K", "preset"), [(1_000, 10, "urban"), (3_000, 20, "paper"), (20_000, 5, "high-rate")])
def test_thousands_of_aps_are_certified(M: int, K: int, preset: str) -> None:
    problem = drop(0, M=M, K=K, preset=preset)
    answer = fast.solve(problem, np.ones(M, dtype=bool))
    assert answer.status == Status.OPTIMAL
    assert meets(problem, answer.power)
    bound = float(dual_bound(problem, np.ones(M, dtype=bool), answer.multipliers))
    assert 0.0 <= 1.0 - bound / float(answer.transmit_power) <= 1e-6


@pytest.mark.parametrize("name", ["crlb_threshold_m2", "max_ap_power_w"])
def test_thousands_of_aps_that_cannot_locate_a_target_are_proven_infeasible(name: str) -> None:
    problem = drop(0, M=5_000, K=5)
    hopeless = replace(problem, **{name: getattr(problem, name) * 1e-7})
    answer = fast.solve(hopeless, np.ones(5_000, dtype=bool))
    assert answer.status == Status.INFEASIBLE
    assert dual_bound(hopeless, np.ones(5_000, dtype=bool), answer.multipliers) > 5_000 * hopeless.max_ap_power_w


def test_sizes_past_memory_are_refused_with_the_bytes_they_need() -> None:
    problem = drop(0, M=300, K=4)
    sets = np.broadcast_to(np.ones(300, dtype=bool), (10**9, 300))
    with pytest.raises(MemoryError, match=r"1,000,000,000 sets of 300 APs and 4 users need 14,488,000,000,000 bytes"):
        fast.solve(problem, sets)
    with pytest.raises(MemoryError, match=r"gains need 1,208,925,819,614,629,174,706,176 bytes .* this machine has"):
        refuse_beyond_memory(2**80, "gains")
    with pytest.raises(MemoryError, match=r"gains of 1,000 drops of 100,000 APs and 1,000 users need 3,"):
        sample(SystemConfig(M=100_000, K=1_000, pilot_length=1_000), np.random.default_rng(0), 1_000)


def test_a_network_without_targets_is_solved_too() -> None:
    problem = drop(0, M=200, K=3)
    problem = replace(problem, fisher=problem.fisher[:, :0])
    found = columns.solve_one(problem, np.ones(200, dtype=bool), np.inf, directly)
    assert found is not None
    assert float(found.transmit_power) == pytest.approx(float(directly(problem).transmit_power), rel=2e-6)
