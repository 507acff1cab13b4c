"""Policies side by side on the same seeded drops, every decision scored by the environment's physics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import agents
import baselines
from agents.coverage import described
from baselines.bounds import certify, relative_gap
from cfisac_env import Decision, Scenario, SystemConfig, actions, seeds
from cfisac_env.env import CfIsacEnv
from experiments.statistics import Interval, bootstrap


@dataclass(frozen=True, eq=False)
class PolicyResult:
    """One policy on every drop; arrays are (drops,), NaN on drops that are certified infeasible."""

    name: str
    total_power_w: NDArray[np.float64]
    transmit_power_w: NDArray[np.float64]
    active_aps: NDArray[np.float64]
    feasible: NDArray[np.bool_]
    violation: NDArray[
        np.float64
    ]  # largest relative miss of any requirement: 1 − γ/γ_thr or CRLB/ν − 1, 0 when all are met
    seconds: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All policies on the same drops."""

    config: SystemConfig
    seeds: list[int]
    infeasible: NDArray[np.bool_]  # (drops,) certified: no decision serves the drop
    lower_bound_w: NDArray[np.float64]  # (drops,) certified for every decision
    results: list[PolicyResult]
    untrained: Mapping[str, str] = field(
        default_factory=dict
    )  # agent → fields of the configuration that it wasn't trained for

    @property
    def best_known_w(self) -> NDArray[np.float64]:
        """(drops,) least total power of any feasible decision; infinite without one."""
        totals = [np.where(result.feasible, result.total_power_w, np.inf) for result in self.results]
        return np.asarray(np.min(totals, axis=0))

    @staticmethod
    def merged(parts: Sequence[Comparison]) -> Comparison:
        """Comparisons of different policies on the same drops as one; of their lower bounds the best."""
        bound = np.max([part.lower_bound_w for part in parts], axis=0)
        results = [result for part in parts for result in part.results]
        untrained = {name: fields for part in parts for name, fields in part.untrained.items()}
        return replace(parts[0], lower_bound_w=bound, results=results, untrained=untrained)


@dataclass(frozen=True)
class Row:
    """One policy's line in the table; means over the drops that aren't certified infeasible."""

    policy: str
    total_power_w: Interval
    total_power_iqm_w: Interval
    transmit_power_w: float
    circuit_power_w: float
    active_aps: float
    feasible_share: float
    worst_violation: float
    gap_to_best: float  # mean over the drops where the decision is feasible
    certified_gap: float  # the same, to the certified lower bound
    difference_w: Interval  # total power minus the reference policy's, paired by drop
    milliseconds: float
    untrained: str = ""  # fields of the configuration that an agent wasn't trained for


def score(decision: Decision, scenario: Scenario, seconds: float) -> dict[str, Any]:
    """A decision on a drop, as the physics sees it."""
    outcome = scenario.evaluate(decision)
    return {
        "total_power_w": float(outcome.total_power),
        "transmit_power_w": float(outcome.transmit_power),
        "active_aps": int(decision.active.sum()),
        "feasible": bool(outcome.feasible),
        "violation": max(
            float(outcome.sinr_violation.max()),
            float((outcome.crlb / scenario.config.crlb_threshold_m2).max()) - 1,
            0.0,
        ),
        "seconds": seconds,
    }


def run(
    config: SystemConfig,
    policies: Sequence[Any],
    drops: int | Scenario,
    seed: int = seeds.TEST,
    step: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Let every policy decide every drop.

    The lower bound of a drop is that of `certify`, or what a policy proves that certifies its answers, such as `branch-and-bound`.

    Args:
        config: of the drops.
        policies: objects with a `name` each of its own and Stable-Baselines3's `predict`.
        drops: how many random drops, with seeds from `seed` on; or the drops themselves.
        seed: of the first drop.
        step: called with the policy's name after each decision, for a progress bar.

    Raises:
        ValueError: no policy, or two of one name.
    """
    names = [policy.name for policy in policies]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"every compared policy needs a name of its own, got {', '.join(names) or 'none'}")
    random = isinstance(drops, int)
    count = drops if isinstance(drops, int) else len(drops.batch())
    env = gym.make("CfIsac-v0", **config.as_dict()) if random else gym.make("CfIsac-v0", drops=drops)
    core = env.unwrapped
    assert isinstance(core, CfIsacEnv)
    infeasible, bound = np.zeros(count, dtype=bool), np.zeros(count)
    scores: dict[str, list[dict[str, Any] | None]] = {name: [] for name in names}
    for i in range(count):
        observation, _ = env.reset(seed=seed + i, options=None if random else {"drop": i})
        scenario = core.scenario
        certificate = certify(scenario.problem)
        infeasible[i], bound[i] = certificate.infeasible, certificate.lower_bound_w
        for policy in policies:
            if infeasible[i]:
                scores[policy.name].append(None)
            else:
                if not any(scores[policy.name]):
                    policy.predict(observation, deterministic=True)  # compilation is not part of a decision's time
                start = time.perf_counter()
                action, proven = decide(policy, observation, scenario)
                seconds = time.perf_counter() - start
                bound[i] = max(bound[i], proven)
                decision = actions.decode(np.asarray(action), core.config.max_ap_power_w)
                scores[policy.name].append(score(decision, scenario, seconds))
            step(policy.name)
    env.close()
    first = seed if random else 0
    results = [_collect(name, rows) for name, rows in scores.items()]
    untrained = untrained_fields(policies, core.config)
    return Comparison(core.config, list(range(first, first + count)), infeasible, bound, results, untrained)


def untrained_fields(policies: Sequence[Any], config: SystemConfig) -> dict[str, str]:
    """Agents that weren't trained for a configuration → the fields that differ."""
    differing = {policy.name: agents.trained_for(policy, config) for policy in policies}
    return {name: described(fields) for name, fields in differing.items() if fields}


def decide(policy: Any, observation: Any, scenario: Scenario) -> tuple[Any, float]:
    """The action of a policy, and the lower bound on the drop's total power that it proves, or 0.

    A policy that certifies its answers decides on the drop itself: what float32 leaves of it in an observation would not do for a
    certificate.
    """
    if not getattr(policy, "certifies", False):
        return policy.predict(observation, deterministic=True)[0], 0.0
    problem = scenario.problem
    answer = policy.decide(problem)
    return actions.encode(answer.decision, problem.max_ap_power_w, problem.estimate_gain), answer.lower_bound_w


def _collect(name: str, scores: Sequence[dict[str, Any] | None]) -> PolicyResult:
    def column(key: str) -> NDArray[np.float64]:
        return np.array([np.nan if score is None else score[key] for score in scores], dtype=np.float64)

    return PolicyResult(
        name=name,
        total_power_w=column("total_power_w"),
        transmit_power_w=column("transmit_power_w"),
        active_aps=column("active_aps"),
        feasible=np.array([score is not None and score["feasible"] for score in scores]),
        violation=column("violation"),
        seconds=column("seconds"),
    )


def summarise(comparison: Comparison, reference: str | None = None) -> list[Row]:
    """The table: one row a policy, over the drops that aren't certified infeasible.

    Args:
        comparison: what `run` returned.
        reference: the policy that differences are taken to; by default the cheapest of those that are feasible everywhere.
    """
    served = ~comparison.infeasible
    names = [result.name for result in comparison.results]
    if reference is None:
        whole = [r for r in comparison.results if r.feasible[served].all()] or comparison.results
        reference = min(whole, key=lambda r: float(r.total_power_w[served].sum())).name
    check_reference(reference, names)
    base = comparison.results[names.index(reference)]
    rows = []
    for result in comparison.results:
        total, met = result.total_power_w[served], result.feasible[served]
        best, bound = comparison.best_known_w[served], comparison.lower_bound_w[served]
        transmit = result.transmit_power_w[served]
        rows.append(
            Row(
                policy=result.name,
                total_power_w=bootstrap(total),
                total_power_iqm_w=bootstrap(total, "iqm"),
                transmit_power_w=_mean(transmit),
                circuit_power_w=_mean(total - transmit),
                active_aps=_mean(result.active_aps[served]),
                feasible_share=_mean(met.astype(np.float64)),
                worst_violation=float(result.violation[served].max()) if served.any() else np.nan,
                gap_to_best=_mean(relative_gap(total, best)[met]),
                certified_gap=_mean(relative_gap(total, bound)[met]),
                difference_w=bootstrap(total - base.total_power_w[served]),
                milliseconds=1e3 * _mean(result.seconds[served]),
                untrained=comparison.untrained.get(result.name, ""),
            )
        )
    return rows


def check_reference(reference: str | None, names: Sequence[str]) -> None:
    """Refuse a reference that isn't compared."""
    if reference is not None and reference not in names:
        raise ValueError(f"the reference {reference!r} is not among the compared policies: {', '.join(names)}")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else np.nan


def build(names: Sequence[str], config: SystemConfig) -> list[Any]:
    """Oracles and agents by name, for the sizes of a configuration; a name given twice counts once.

    Raises:
        ValueError: there is no policy or agent of that name.
    """
    valid = [*baselines.POLICIES, *agents.AGENTS]
    for name in names:
        if name not in valid:
            raise ValueError(f"unknown policy {name!r}{agents.hint(name, valid)}; valid policies: {', '.join(valid)}")
    return [
        agents.load(name, config=config) if name in agents.AGENTS else baselines.make(name, M=config.M, K=config.K)
        for name in dict.fromkeys(names)
    ]
