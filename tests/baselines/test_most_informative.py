"""Closed-form powers against the exact allocator, and the policies that rank APs by Fisher information."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import baselines
from baselines.allocation import Allocator, fast
from baselines.allocation.closed_form import ScaledDrops
from baselines.allocation.result import Status
from baselines.most_informative import by_information, exact_prefix
from baselines.set_search import Budget, guided_search, neighbours, total_power
from cfisac_env import PRESETS, SystemConfig, actions, observations, sample
from cfisac_env.scenario import Scenario
from cfisac_env.types import Decision


def scenarios(preset: str, count: int = 6, **fields: Any) -> Scenario:
    return sample(SystemConfig(**{"M": 14, "K": 4, "preset": preset, **fields}), np.random.default_rng(5), count)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_closed_form_powers_meet_every_requirement_and_are_never_below_the_exact_ones(preset: str) -> None:
    drops = scenarios(preset)
    rng, served, excess = np.random.default_rng(0), 0, []
    sets = rng.random((40, 14)) < rng.uniform(0.2, 1.0, (40, 1))
    scaled = ScaledDrops.of(drops.problem)
    for i in range(6):
        power, transmit = scaled.power(sets, np.full(40, i))
        exact = fast.solve(drops[i].problem, sets)
        np.testing.assert_array_equal(transmit, scaled.transmit_power(sets, np.full(40, i)))
        for active, watts, total, status, best in zip(
            sets, power, transmit * drops.config.max_ap_power_w, exact.status, exact.transmit_power, strict=True
        ):
            if not np.isfinite(total):
                assert not watts.any()
                continue
            assert status == Status.OPTIMAL
            assert total >= best * (1 - 1e-6)
            assert watts.sum() == pytest.approx(total)
            assert drops[i].evaluate(Decision(active=active, power=watts)).feasible
            excess.append(total / best - 1)
        served += int((exact.status == Status.OPTIMAL).sum())
    assert len(excess) > 0.75 * served > 0
    assert np.median(excess) < 0.02


def test_closed_form_powers_do_not_depend_on_the_units_of_noise() -> None:
    problem = scenarios("paper").problem
    seen = observations.decode(observations.encode(scenarios("paper")))
    sets = np.random.default_rng(1).random((30, 14)) < 0.5
    drop = np.arange(30) % 6
    ours, theirs = (ScaledDrops.of(p).transmit_power(sets, drop) for p in (problem, seen))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_closed_form_powers_refuse_shared_pilots() -> None:
    with pytest.raises(ValueError, match="share pilots"):
        ScaledDrops.of(scenarios("paper", pilot_length=2).problem)


def test_neighbours_differ_by_one_ap_or_exchange_two_for_one() -> None:
    active = np.array([True, True, False, False, True, False])
    sets = neighbours(active, 2)
    kinds = {(int((active & ~s).sum()), int((~active & s).sum())) for s in sets}
    assert kinds == {(1, 0), (1, 1), (0, 1), (2, 1)}
    assert len({s.tobytes() for s in sets}) == len(sets) == 3 + 9 + 3 + 9
    assert all(s.sum() >= 3 for s in neighbours(active, 3))


def test_a_search_ends_at_a_set_without_cheaper_neighbours_for_any_order() -> None:
    drops = scenarios("urban", 3)
    for i in range(3):
        problem = drops[i].problem
        rng = np.random.default_rng(i)
        for order in (lambda sets: rng.random(len(sets)), lambda sets: -sets.sum(-1), lambda sets: np.zeros(len(sets))):  # noqa: B023
            start = np.ones(14, dtype=bool)
            active = guided_search(problem, start, order, Budget(moves=20, patience=100, rounds=200))
            total = total_power(problem, active[None], np.inf)[0]
            assert not np.isfinite(total_power(problem, neighbours(active), total * (1 - 1e-6))).any()


@pytest.mark.parametrize("preset", list(PRESETS))
def test_completions_and_moves_only_lower_the_mean_power(preset: str) -> None:
    drops = scenarios(preset, 12)
    observation = observations.encode(drops)

    def mean(name: str, **options: Any) -> float:
        action, _ = baselines.make(name, **options).predict(observation)
        decision = actions.decode(action, drops.config.max_ap_power_w)
        return float(drops.evaluate(decision).total_power.mean())

    rule = mean("most-informative")
    completed = mean("most-informative", completions=8)
    few = mean("most-informative-search", moves=6, patience=1, rounds=2)
    searched = mean("most-informative-search")
    assert completed <= rule * 1.001
    assert few <= completed * 1.001
    assert searched <= few * 1.001
    assert mean("local-search") <= searched * 1.001


def test_most_informative_selects_the_shortest_prefix_feasible_in_closed_form() -> None:
    drops = scenarios("paper", 6)
    policy = baselines.make("most-informative")
    for i in range(6):
        problem = drops[i].problem
        active = policy.decide(problem).decision.active
        ranking = by_information(problem)
        prefixes = np.zeros((14, 14), dtype=bool)
        for size in range(1, 15):
            prefixes[size - 1, ranking[:size]] = True
        served = np.isfinite(ScaledDrops.of(problem).transmit_power(prefixes))
        np.testing.assert_array_equal(active, prefixes[int(np.argmax(served))])


def test_bisection_finds_the_shortest_feasible_prefix() -> None:
    drops, allocate = scenarios("urban", 4), Allocator()
    for i in range(4):
        problem = drops[i].problem
        ranking = by_information(problem)
        active = exact_prefix(problem, ranking, allocate).decision.active
        size = int(active.sum())
        shorter = np.zeros(14, dtype=bool)
        shorter[ranking[: size - 1]] = True
        assert active[ranking[:size]].all()
        assert allocate(problem, shorter).status == Status.INFEASIBLE


@pytest.mark.parametrize("name", ["most-informative", "most-informative-search"])
def test_the_exact_allocator_serves_where_closed_forms_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScaledDrops, "transmit_power", lambda self, sets, drop=None: np.full(len(sets), np.inf))
    drops = scenarios("paper", 4)
    for i in range(4):
        answer = baselines.make(name).decide(drops[i].problem)
        assert answer.feasible
        assert answer.decision.active.sum() < 14
        assert drops[i].evaluate(answer.decision).feasible


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("most-informative", {"completions": 0}, "completions must be a whole number of 1 or more, got 0"),
        ("most-informative", {"completions": 2.0}, "completions must be"),
        ("most-informative", {"completions": True}, "completions must be"),
        ("most-informative", {"backend": "fats"}, "did you mean 'fast'"),
        ("most-informative-search", {"rounds": 0}, "rounds must be"),
        ("most-informative-search", {"patience": 1.5}, "patience must be"),
        ("most-informative-search", {"moves": -3}, "moves must be"),
        ("most-informative-search", {"completions": 0}, "completions must be"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        baselines.make(name, **options)
