"""Policies side by side on the same seeded drops, every decision scored by the environment's physics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import agents
import baselines
from baselines.bounds import certify, relative_gap
from baselines.branch_and_bound import BranchAndBoundPolicy
from cfisac_env import Decision, Scenario, SystemConfig, actions
from cfisac_env.config import nearest
from cfisac_env.env import CfIsacEnv
from experiments.statistics import Interval, bootstrap

TEST_SEED = 1_000_000
"""Seeds from here on are for testing: nothing is trained, tuned or selected on them."""

_TOGETHER = 64  # environments of an agent of Stable-Baselines3


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
    best_known_w: NDArray[np.float64]  # (drops,) least total power of any feasible decision seen
    results: list[PolicyResult] = field(default_factory=list)


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


def score(name: str, decision: Decision, scenario: Scenario, seconds: float) -> dict[str, Any]:
    """A decision on a drop, as the physics sees it."""
    outcome = scenario.evaluate(decision)
    return {
        "policy": name,
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
    seed: int = TEST_SEED,
    step: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Let every policy decide every drop.

    The lower bound of a drop is that of `certify`, or what `branch-and-bound` proves where it takes part. Agents of Stable-Baselines3 play
    after the others, in environments as that library has them, with the same results.

    Args:
        config: of the drops.
        policies: objects with `name` and Stable-Baselines3's `predict`.
        drops: how many random drops, with seeds from `seed` on; or the drops themselves.
        seed: of the first drop.
        step: called with the policy's name after each decision, for a progress bar.
    """
    kwargs = config.as_dict()
    count = drops if isinstance(drops, int) else len(drops.batch())
    env = gym.make("CfIsac-v0", **kwargs) if isinstance(drops, int) else gym.make("CfIsac-v0", drops=drops)
    core = env.unwrapped
    assert isinstance(core, CfIsacEnv)
    seeds = [seed + i for i in range(count)] if isinstance(drops, int) else list(range(count))
    infeasible, bound = np.zeros(count, dtype=bool), np.zeros(count)
    scores: dict[str, list[dict[str, Any] | None]] = {policy.name: [] for policy in policies}
    warm: set[str] = set()
    together = [policy for policy in policies if _has_sb3_policy(policy)]
    alone = [policy for policy in policies if policy not in together]
    for i in range(count):
        options = None if isinstance(drops, int) else {"drop": i}
        observation, _ = env.reset(seed=seeds[i], options=options)
        scenario = core.scenario
        certificate = certify(scenario.problem)
        infeasible[i], bound[i] = certificate.infeasible, certificate.lower_bound_w
        for policy in alone:
            if infeasible[i]:
                scores[policy.name].append(None)
            else:
                if policy.name not in warm:
                    policy.predict(observation, deterministic=True)  # compilation is not part of a decision's time
                    warm.add(policy.name)
                start = time.perf_counter()
                if isinstance(policy, BranchAndBoundPolicy):
                    # On the drop itself: what float32 leaves of it in an observation would not do for a certificate.
                    answer = policy.decide(scenario.problem)
                    action = actions.encode(answer.decision, core.config.max_ap_power_w, scenario.estimate_gain)
                    bound[i] = max(bound[i], answer.lower_bound_w)
                else:
                    action, _ = policy.predict(observation, deterministic=True)
                seconds = time.perf_counter() - start
                decision = actions.decode(np.asarray(action), core.config.max_ap_power_w)
                scores[policy.name].append(score(policy.name, decision, scenario, seconds))
            step(policy.name)
    env.close()
    for policy in together:
        scores[policy.name] = _played(policy, core.config, drops, seeds, infeasible, step)
    results = [_collect(name, rows) for name, rows in scores.items()]
    totals = np.stack([np.where(result.feasible, result.total_power_w, np.inf) for result in results])
    return Comparison(core.config, seeds, infeasible, bound, totals.min(0), results)


def _has_sb3_policy(policy: Any) -> bool:
    if not hasattr(policy, "policy"):
        return False
    from stable_baselines3.common.policies import BasePolicy

    return isinstance(policy.policy, BasePolicy)


def _played(
    policy: Any,
    config: SystemConfig,
    drops: int | Scenario,
    seeds: Sequence[int],
    infeasible: NDArray[np.bool_],
    step: Callable[[str], None],
) -> list[dict[str, Any] | None]:
    """What `run` collects of an agent of Stable-Baselines3, from environments as that library has them.

    Environments are reset and stepped together; decisions are made, and timed, one at a time.
    """
    from agents.rl.vec_env import SB3VecEnv

    played: list[dict[str, Any] | None] = []
    warm = False
    for start in range(0, len(seeds), _TOGETHER):
        chunk = list(seeds[start : start + _TOGETHER])
        kwargs: dict[str, Any] = config.as_dict() if isinstance(drops, int) else {"drops": drops}
        envs = SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=len(chunk), autoreset_mode="SameStep", **kwargs))
        if isinstance(drops, int):
            envs.seed(chunk[0])
        else:
            envs.set_options({"drop": chunk})
        observation: Any = envs.reset()
        action, seconds = np.zeros((len(chunk), config.M, config.K + 1), np.float32), np.zeros(len(chunk))
        for i in range(len(chunk)):
            if not infeasible[start + i]:
                one = {key: entry[i] for key, entry in observation.items()}
                if not warm:
                    policy.predict(one, deterministic=True)
                    warm = True
                began = time.perf_counter()
                action[i], _ = policy.predict(one, deterministic=True)
                seconds[i] = time.perf_counter() - began
            step(policy.name)
        _, _, _, infos = envs.step(action)
        envs.close()
        for i, info in enumerate(infos):
            played.append(None if infeasible[start + i] else _told(policy.name, info, config, float(seconds[i])))
    return played


def _told(name: str, info: dict[str, Any], config: SystemConfig, seconds: float) -> dict[str, Any]:
    """What `score` says of a decision, from the info of its step."""
    sinr = 10 ** (info["sinr_db"] / 10)
    return {
        "policy": name,
        **{key: info[key] for key in ("total_power_w", "transmit_power_w", "active_aps", "feasible")},
        "violation": max(
            float((1 - sinr / config.sinr_threshold).max()),
            float((info["crlb_m2"] / config.crlb_threshold_m2).max()) - 1,
            0.0,
        ),
        "seconds": seconds,
    }


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
            raise ValueError(f"unknown policy {name!r}{nearest(name, valid)}; valid policies: {', '.join(valid)}")
    return [
        (agents.load if name in agents.AGENTS else baselines.make)(name, M=config.M, K=config.K)
        for name in dict.fromkeys(names)
    ]
