"""Measurement of the presets: drops served, active APs at the best known decision, binding constraints, exactness of the reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import baselines
from baselines import ap_sets
from baselines.allocation import Allocator, Status
from baselines.bounds import fewest_active
from cfisac_env import Decision, Scenario, SystemConfig, physics, reward, sample
from cfisac_env.types import Problem
from experiments.results import Column


@dataclass(frozen=True, eq=False)
class PresetMeasure:
    """Measurement of a preset; arrays are (served drops,), shares are of the served drops and NaN without any."""

    config: SystemConfig
    drops: int
    infeasible: int  # certified
    active_aps: NDArray[np.float64]
    total_power_w: NDArray[np.float64]
    fewest_bind: float  # share of drops with the fewest active APs that the SINRs allow, ⌊Kγ⌋ + 1
    users_bind: float  # share of drops where every SINR constraint binds
    sensing_binds: float  # share of drops where a CRLB constraint binds
    caps_bind: float  # share of drops where a power cap binds
    penalty_margin_w: NDArray[np.float64]  # reward of the best known decision minus the best of an infeasible one


def measure(
    config: SystemConfig,
    drops: int,
    seed: int,
    step: Callable[[], None] = lambda: None,
    policy: str = "local-search",
) -> PresetMeasure:
    """Decide drops with an oracle, and compare its rewards with those of `adversaries`."""
    oracle, allocate = baselines.make(policy), Allocator("fast")
    infeasible, rows = 0, []
    for i in range(drops):
        scenario = sample(config, np.random.default_rng(seed + i))
        answer = oracle.decide(scenario.problem)
        step()
        if not answer.feasible:
            infeasible += 1
            continue
        optimum = answer.decision
        solved = allocate(scenario.problem, optimum.active)
        ap_power, sinr = optimum.power.sum(-1), scenario.evaluate(optimum).sinr
        attacks = [score(scenario, attack) for attack in adversaries(scenario, optimum, np.random.default_rng(i))]
        best = max(value for value, feasible in attacks if not feasible)
        rows.append(
            (
                optimum.active.sum(),
                ap_power.sum() + config.circuit_power_w * optimum.active.sum(),
                optimum.active.sum() == fewest_active(scenario.problem),
                (sinr < config.sinr_threshold * (1 + 1e-3)).all(),
                float(np.abs(solved.multipliers.sensing).max()) * config.fisher_scale > 1e-9
                and float(physics.crlb(ap_power, scenario.fisher).max()) > config.crlb_threshold_m2 * (1 - 1e-3),
                (ap_power > config.max_ap_power_w * (1 - 1e-4)).any(),
                score(scenario, optimum)[0] - best,
            )
        )
    columns = np.array(rows, dtype=np.float64).reshape(-1, 7).T
    return PresetMeasure(
        config=config,
        drops=drops,
        infeasible=infeasible,
        active_aps=columns[0],
        total_power_w=columns[1],
        fewest_bind=_share(columns[2]),
        users_bind=_share(columns[3]),
        sensing_binds=_share(columns[4]),
        caps_bind=_share(columns[5]),
        penalty_margin_w=columns[6],
    )


def _share(met: NDArray[np.float64]) -> float:
    return float(met.mean()) if met.size else np.nan


def score(scenario: Scenario, decision: Decision) -> tuple[float, bool]:
    """Return the reward of a decision, and whether it is feasible."""
    outcome = scenario.evaluate(decision)
    return float(sum(reward.terms(outcome, scenario.config, scenario.problem).values())), bool(outcome.feasible)


def adversaries(scenario: Scenario, optimum: Decision, rng: np.random.Generator) -> Iterator[Decision]:
    """Decisions that trade a requirement for power: what a reward with too small a penalty would prefer to the optimum.

    Everything off; the optimum without one AP, as it is and louder up to the caps; without one AP and re-optimised for requirements
    relaxed by 0.02 to 30 %; its powers shaved, all together or one user's; random decisions.
    """
    problem = scenario.problem
    M, K, cap = problem.M, problem.K, problem.max_ap_power_w
    yield Decision(np.zeros(M, dtype=bool), np.zeros((M, K)))
    smaller = ap_sets.removals(optimum.active)
    for active in smaller:
        left = np.where(active[:, None], optimum.power, 0.0)
        yield Decision(active, left)
        for louder in (1.2, 2.0, 5.0):
            power = left * louder
            yield Decision(active, power / np.maximum(power.sum(-1, keepdims=True) / cap, 1.0))
    for slack in (2e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3):
        relaxed = _relaxed(problem, slack)
        for sets in (smaller, optimum.active[None]):
            if len(sets):
                answers = Allocator("fast")(relaxed, sets)
                for i in np.flatnonzero(answers.status == Status.OPTIMAL):
                    yield Decision(sets[i], answers.power[i])
    for share in (1.5e-4, 1e-3, 1e-2, 0.1, 0.5, 0.99):
        yield Decision(optimum.active, optimum.power * (1 - share))
        for k in range(K):
            power = optimum.power.copy()
            power[:, k] *= 1 - share
            yield Decision(optimum.active, power)
    for _ in range(20):
        active = rng.random(M) < rng.random()
        yield Decision(active, np.where(active[:, None], rng.random((M, K)) ** 4 * cap / K, 0.0))


def _relaxed(problem: Problem, slack: float) -> Problem:
    return replace(
        problem,
        sinr_threshold=problem.sinr_threshold * (1 - slack),
        crlb_threshold_m2=problem.crlb_threshold_m2 / (1 - slack),
    )


_NONE = "no drop can be served"


def _of(form: str, value: Callable[[PresetMeasure], float]) -> Callable[[PresetMeasure], str | None]:
    """Return the cell of a statistic over the served drops; None without any."""
    return lambda one: form.format(value(one)) if one.active_aps.size else None


COLUMNS: tuple[Column[PresetMeasure], ...] = (
    Column("preset", lambda one: one.config.preset, code=True),
    Column("served", lambda one: f"{one.drops - one.infeasible} of {one.drops}"),
    Column("active APs: median", _of("{:.0f}", lambda one: np.median(one.active_aps)), _NONE),
    Column("min", _of("{:.0f}", lambda one: one.active_aps.min()), _NONE, rank=2),
    Column("max", _of("{:.0f}", lambda one: one.active_aps.max()), _NONE, rank=2),
    Column("share of M", _of("{:.0%}", lambda one: one.active_aps.mean() / one.config.M), _NONE, rank=3),
    Column("fewest", _of("{:.0%}", lambda one: one.fewest_bind), _NONE, rank=1),
    Column("total W", _of("{:.2f}", lambda one: one.total_power_w.mean()), _NONE),
    Column("users bind", _of("{:.0%}", lambda one: one.users_bind), _NONE, rank=1),
    Column("sensing binds", _of("{:.0%}", lambda one: one.sensing_binds), _NONE, rank=1),
    Column("a cap binds", _of("{:.0%}", lambda one: one.caps_bind), _NONE, rank=1),
    Column("least margin W", _of("{:.2f}", lambda one: one.penalty_margin_w.min()), _NONE),
)
