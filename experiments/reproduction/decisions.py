"""What one policy decides about one drop, scored by the environment's physics and small enough to store for every drop."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

import agents
from baselines.bounds import certify
from cfisac_env import Decision, Scenario, actions
from cfisac_env.env import CfIsacEnv
from experiments import compare
from experiments.journal import Record
from experiments.reproduction import policies
from experiments.reproduction.points import Point


@dataclass(frozen=True)
class Task:
    """One drop and the policies that are to decide it."""

    point: Point
    seed: int
    names: tuple[str, ...]
    time_limit_s: float
    certificate: bool  # whether the drop's own line, infeasibility and bound, is wanted, too


@dataclass(frozen=True, eq=False)
class Drop:
    """A drop as the environment deals it."""

    scenario: Scenario
    observation: Mapping[str, Any]


@lru_cache(maxsize=8)
def _environment(point: Point) -> gym.Env[Any, Any]:
    return gym.make("CfIsac-v0", **point.config.as_dict())


def drop(point: Point, seed: int) -> Drop:
    """The drop that `reset(seed=seed)` draws."""
    env = _environment(point)
    observation, _ = env.reset(seed=seed)
    core = env.unwrapped
    assert isinstance(core, CfIsacEnv)
    return Drop(core.scenario, observation)


def solve(task: Task) -> Record:
    """A line of the store: the drop's certificate if wanted, and a record for every policy; none on a drop certified infeasible."""
    one_thread()
    here = drop(task.point, task.seed)
    certificate = certify(here.scenario.problem)
    infeasible, bound = certificate.infeasible, certificate.lower_bound_w
    line: Record = {"seed": task.seed}
    if task.certificate:
        line |= {"infeasible": infeasible, "lower_bound_w": None if infeasible else rounded(bound, 10)}
    if infeasible:
        return line | {"decisions": {}}
    decisions = {}
    for name in task.names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", agents.UntrainedConfigurationWarning)  # said where the study began
            policy = policies.cached(name, task.point, task.time_limit_s)
            decisions[name] = record(policy, here)
    return line | {"decisions": decisions}


def one_thread() -> None:
    """One drop a process, one thread a drop."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch = sys.modules.get("torch")  # one that is imported later goes by the environment
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def record(policy: Any, here: Drop) -> Record:
    """A decision with everything that tables, figures and maps show of it."""
    start = time.perf_counter()
    action, bound = compare.decide(policy, here.observation, here.scenario)
    seconds = time.perf_counter() - start
    config = here.scenario.config
    decision = actions.decode(np.asarray(action), config.max_ap_power_w)
    result = compare.score(decision, here.scenario, seconds)
    outcome = here.scenario.evaluate(decision)
    on = np.flatnonzero(decision.active)
    return {
        "total_power_w": rounded(result["total_power_w"], 10),
        "transmit_power_w": rounded(result["transmit_power_w"], 10),
        "feasible": result["feasible"],
        "violation": rounded(result["violation"], 6),
        "seconds": rounded(seconds, 4),
        **({"lower_bound_w": rounded(bound, 10)} if bound > 0 else {}),
        "active": on.tolist(),
        "ap_power_w": [rounded(value, 5) for value in decision.power[on].sum(1)],
        "sinr_db": [rounded(value, 5) for value in 10 * np.log10(np.maximum(outcome.sinr, 1e-30))],
        "crlb_m2": [rounded(value, 5) if np.isfinite(value) else None for value in outcome.crlb],
    }


def stored_decision(line: Record, point: Point) -> Decision:
    """The activation and the AP powers of a record; users' parts aren't stored, so each AP's power stands in the first column."""
    power = np.zeros((point.M, point.K))
    power[line["active"], 0] = line["ap_power_w"]
    active = np.zeros(point.M, dtype=bool)
    active[line["active"]] = True
    return Decision(active, power)


def rounded(value: Any, digits: int) -> float:
    """A float with so many significant digits."""
    return float(f"{float(value):.{digits}g}")
