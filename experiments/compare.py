"""Comparison of policies on the same seeded drops; every decision is scored by the environment's physics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agents
import baselines
from agents.coverage import described
from baselines.bounds import certify, relative_gap
from cfisac_env import Decision, Scenario, SystemConfig, actions, seeds
from cfisac_env.drops import Block, StoredDrops
from cfisac_env.sampling import draw
from experiments.journal import policy_key
from experiments.parallel import in_order
from experiments.statistics import Interval, bootstrap, mean


@dataclass(frozen=True, eq=False)
class PolicyResult:
    """Decisions of a policy; arrays are (drops,), with NaN where it made none, as on drops that are certified infeasible."""

    name: str
    total_power_w: NDArray[np.float64]
    transmit_power_w: NDArray[np.float64]
    active_aps: NDArray[np.float64]
    feasible: NDArray[np.bool_]
    violation: NDArray[
        np.float64
    ]  # largest relative miss of a requirement: 1 − γ/γ_thr or CRLB/ν − 1, 0 if all are met
    seconds: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Decisions of several policies on the same drops."""

    config: SystemConfig
    seeds: list[int]
    infeasible: NDArray[np.bool_]  # (drops,) certified infeasible
    lower_bound_w: NDArray[np.float64]  # (drops,) certified for every decision
    results: list[PolicyResult]
    untrained: Mapping[str, str]  # agent → fields of the configuration that it wasn't trained for

    @property
    def policies(self) -> Mapping[str, PolicyResult]:
        """Decisions by the name of the policy."""
        return {result.name: result for result in self.results}

    @property
    def best_known_w(self) -> NDArray[np.float64]:
        """(drops,) W, least total power of the feasible decisions; infinite without one."""
        totals = [np.where(result.feasible, result.total_power_w, np.inf) for result in self.results]
        return np.asarray(np.min([np.full(len(self.seeds), np.inf), *totals], axis=0))


@dataclass(frozen=True)
class PolicySummary:
    """Statistics of a policy over the drops that aren't certified infeasible; powers are means."""

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
    """Score a decision on a drop: powers in W, active APs, feasibility, and its largest relative violation."""
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
    store: MutableMapping[tuple[str, int], dict[str, Any]] | None = None,
    *,
    workers: int | None = 1,
    ray: str | None = None,
) -> Comparison:
    """Let every policy decide every drop.

    The lower bound of a drop is that of `certify` or, if it is larger, that of a policy that certifies its answers, such as
    `branch-and-bound`.

    Args:
        policies: objects with Stable-Baselines3's `predict`, each with a `name` of its own.
        drops: number of random drops, with seeds from `seed` on; or the drops themselves.
        store: decisions of earlier runs on drops of this configuration; decisions that it lacks are added, drop by drop.
        workers, ray: see `parallel.in_order`; times of decisions mean something with one worker alone.

    Raises:
        ValueError: no policy, or two of one name.
    """
    names = [policy.name for policy in policies]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"every compared policy needs a name of its own, got {', '.join(names) or 'none'}")
    given = None if isinstance(drops, int) else StoredDrops(drops).block
    config = config if given is None else given.scenario.config
    known: MutableMapping[tuple[str, int], dict[str, Any]] = {} if store is None else store
    keys = {policy.name: policy_key(policy.name, policy) for policy in policies}
    numbers = list(range(seed, seed + drops) if isinstance(drops, int) else range(len(drops.batch())))
    todo = {number: one for number in numbers if (one := _missing(known, keys, policies, number)) is not None}
    made = in_order(partial(_on_drop, config, given), todo.items(), workers=workers, ray=ray)
    for number in numbers:
        for name, values in next(made) if number in todo else ():
            known[keys.get(name, name), number] = values
        for policy in policies:
            step(policy.name)
    infeasible = np.array([known["", number]["infeasible"] for number in numbers], dtype=bool)
    bound = np.array([np.inf if (w := known["", number]["lower_bound_w"]) is None else w for number in numbers])
    results = []
    for name, key in keys.items():
        decided = [known.get((key, number), {}) for number in numbers]
        bound = np.maximum(bound, [values.get("lower_bound_w", 0.0) for values in decided])
        results.append(collect(name, decided))
    return Comparison(config, numbers, infeasible, bound, results, untrained_fields(policies, config))


_Todo = tuple[bool, Sequence[Any]]


def _missing(
    known: Mapping[tuple[str, int], Any], keys: Mapping[str, str], policies: Sequence[Any], number: int
) -> _Todo | None:
    """Return whether a drop lacks its certificate, and the policies that haven't decided it; None if nothing is missing."""
    drop = known.get(("", number))
    if drop is not None and drop["infeasible"]:
        return None
    rest = [policy for policy in policies if (keys[policy.name], number) not in known]
    return (drop is None, rest) if rest or drop is None else None


_warm: set[tuple[str, str]] = set()  # policies and configurations that this process has decided


def _on_drop(config: SystemConfig, given: Block | None, task: tuple[int, _Todo]) -> list[tuple[str, dict[str, Any]]]:
    """Certify and decide one drop; the certificate has no name."""
    number, (certificate_too, policies) = task
    block, row = (Block(draw(config, [number])), 0) if given is None else (given, number)
    observation, scenario = block.observe(row), block.scenario[row]
    made: list[tuple[str, dict[str, Any]]] = []
    if certificate_too:
        certificate = certify(scenario.problem)
        bound_w = None if certificate.infeasible else certificate.lower_bound_w
        made.append(("", {"infeasible": certificate.infeasible, "lower_bound_w": bound_w}))
        if certificate.infeasible:
            return made
    for policy in policies:
        if (policy.name, str(config)) not in _warm:
            policy.predict(observation, deterministic=True)  # compilation is not part of a decision's time
            _warm.add((policy.name, str(config)))
        made.append((policy.name, _decided(policy, observation, scenario)))
    return made


def collect(name: str, decisions: Sequence[Mapping[str, Any]]) -> PolicyResult:
    """Collect the scores of a policy, one mapping a drop, in arrays; an empty mapping stands for no decision.

    JSON has no infinity: a violation of None is an infinite one.
    """

    def column(key: str) -> NDArray[np.float64]:
        values = [decision.get(key, np.nan) for decision in decisions]
        return np.array([np.inf if value is None else value for value in values], dtype=np.float64)

    names = ("total_power_w", "transmit_power_w", "active_aps", "violation", "seconds")
    return PolicyResult(name, feasible=column("feasible") == 1.0, **{key: column(key) for key in names})


def _decided(policy: Any, observation: Any, scenario: Scenario) -> dict[str, Any]:
    """Score of a policy's decision, with the lower bound if it proves one."""
    start = time.perf_counter()
    action, bound = decide(policy, observation, scenario)
    seconds = time.perf_counter() - start
    decision = actions.decode(np.asarray(action), scenario.config.max_ap_power_w)
    return score(decision, scenario, seconds) | ({"lower_bound_w": bound} if bound > 0.0 else {})


def untrained_fields(policies: Sequence[Any], config: SystemConfig) -> dict[str, str]:
    """Map agents that weren't trained for a configuration to the fields that differ."""
    differing = {policy.name: agents.trained_for(policy, config) for policy in policies}
    return {name: described(fields) for name, fields in differing.items() if fields}


def decide(policy: Any, observation: Any, scenario: Scenario) -> tuple[Any, float]:
    """Return the action of a policy, and the lower bound on the drop's total power in W that it proves, or 0.

    A policy that certifies its answers decides on the drop itself, since float32 observations are too coarse for a certificate.
    """
    if not getattr(policy, "certifies", False):
        return policy.predict(observation, deterministic=True)[0], 0.0
    problem = scenario.problem
    answer = policy.decide(problem)
    return actions.encode(answer.decision, problem.max_ap_power_w, problem.estimate_gain), answer.lower_bound_w


def summarise(comparison: Comparison, reference: str | None = None) -> list[PolicySummary]:
    """Summarise every policy over the drops that aren't certified infeasible.

    Args:
        reference: policy that differences are taken to; by default the cheapest of those that are feasible everywhere.
    """
    served = ~comparison.infeasible
    names = list(comparison.policies)
    if reference is None:
        whole = [r for r in comparison.results if r.feasible[served].all()] or comparison.results
        reference = min(whole, key=lambda r: float(r.total_power_w[served].sum())).name
    check_reference(reference, names)
    base = comparison.results[names.index(reference)]
    rows = []
    for result in comparison.results:
        total = result.total_power_w[served]
        rows.append(
            PolicySummary(
                **common(comparison, result, served),
                circuit_power_w=mean(total - result.transmit_power_w[served]),
                active_aps=mean(result.active_aps[served]),
                feasible_share=mean(result.feasible[served].astype(np.float64)),
                difference_w=bootstrap(total - base.total_power_w[served]),
                milliseconds=1e3 * mean(result.seconds[served]),
                untrained=comparison.untrained.get(result.name, ""),
            )
        )
    return rows


def common(comparison: Comparison, result: PolicyResult, rows: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the statistics of a policy over some drops (drops,) that every summary has."""
    total, met = result.total_power_w[rows], result.feasible[rows]
    return {
        "policy": result.name,
        "total_power_w": bootstrap(total),
        "total_power_iqm_w": bootstrap(total, "iqm"),
        "transmit_power_w": mean(result.transmit_power_w[rows]),
        "worst_violation": float(result.violation[rows].max()) if rows.any() else np.nan,
        "gap_to_best": mean(relative_gap(total, comparison.best_known_w[rows])[met]),
        "certified_gap": mean(relative_gap(total, comparison.lower_bound_w[rows])[met]),
    }


def check_reference(reference: str | None, names: Sequence[str]) -> None:
    """Refuse a reference that isn't among the compared policies."""
    if reference is not None and reference not in names:
        raise ValueError(f"the reference {reference!r} is not among the compared policies: {', '.join(names)}")


def build(names: Sequence[str], config: SystemConfig) -> list[Any]:
    """Build oracles and agents by name, for the sizes of a configuration; a name given twice counts once.

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
