"""The presets, measured: drops served, active APs at the best known decision, what binds, and whether the penalties are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import baselines
from baselines import moves
from baselines.allocation import Allocator, Status
from baselines.bounds import fewest_active
from cfisac_env import Decision, Scenario, SystemConfig, physics, reward, sample
from cfisac_env.types import Problem


@dataclass(frozen=True, eq=False)
class PresetMeasure:
    """One preset over its drops; arrays are (served drops,)."""

    config: SystemConfig
    drops: int
    infeasible: int  # certified
    active_aps: NDArray[np.float64]
    total_power_w: NDArray[np.float64]
    fewest_bind: float  # share of drops with no more active APs than the SINRs alone ask for, ⌊Kγ⌋ + 1
    users_bind: float  # share of drops where no user gets more than it asks for
    sensing_binds: float  # share of drops where less accuracy would save power
    caps_bind: float  # share of drops where an AP is at P_max
    penalty_margin_w: NDArray[
        np.float64
    ]  # reward of the best known decision minus that of the best infeasible one found


def measure(
    config: SystemConfig,
    drops: int,
    seed: int,
    step: Callable[[], None] = lambda: None,
    policy: str = "local-search",
) -> PresetMeasure:
    """Decide `drops` drops with an oracle and attack each decision with `adversaries`."""
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
        fewest_bind=float(columns[2].mean()),
        users_bind=float(columns[3].mean()),
        sensing_binds=float(columns[4].mean()),
        caps_bind=float(columns[5].mean()),
        penalty_margin_w=columns[6],
    )


def score(scenario: Scenario, decision: Decision) -> tuple[float, bool]:
    """Reward of a decision, and whether it is feasible."""
    outcome = scenario.evaluate(decision)
    return float(sum(reward.terms(outcome, scenario.config).values())), bool(outcome.feasible)


def adversaries(scenario: Scenario, optimum: Decision, rng: np.random.Generator) -> Iterator[Decision]:
    """Decisions that trade a requirement for power: what a reward with too small a penalty would prefer to the optimum.

    Everything off; the optimum without one AP, as it is and louder up to the caps; without one AP and re-optimised for requirements
    relaxed by 0.02 to 30 %; its powers shaved, all together or one user's; random decisions.
    """
    problem = scenario.problem
    M, K, cap = problem.M, problem.K, problem.max_ap_power_w
    yield Decision(np.zeros(M, dtype=bool), np.zeros((M, K)))
    smaller = moves.drops(optimum.active)
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


def table(measures: Sequence[PresetMeasure]) -> str:
    """The measures as a Markdown table."""
    lines = [
        "| preset | served | active APs: median (min–max) | share of M | fewest | total W | users bind | sensing binds | a cap binds "
        "| least margin W |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measures:
        active = one.active_aps
        lines.append(
            f"| `{one.config.preset}` | {one.drops - one.infeasible} of {one.drops} "
            f"| {np.median(active):.0f} ({active.min():.0f}–{active.max():.0f}) | {active.mean() / one.config.M:.0%} "
            f"| {one.fewest_bind:.0%} | {one.total_power_w.mean():.2f} | {one.users_bind:.0%} | {one.sensing_binds:.0%} "
            f"| {one.caps_bind:.0%} | {one.penalty_margin_w.min():.2f} |"
        )
    return "\n".join(lines)
