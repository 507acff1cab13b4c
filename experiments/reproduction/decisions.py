"""Decisions of a policy on single drops, scored by the environment's physics, as they are stored."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import agents
from baselines.bounds import certify
from cfisac_env import Decision, Scenario, actions, info
from cfisac_env.drops import Block
from cfisac_env.sampling import draw
from experiments import compare
from experiments.journal import Record
from experiments.reproduction import policies
from experiments.reproduction.points import Point


@dataclass(frozen=True)
class Task:
    """A drop and the policies that decide it."""

    point: Point
    seed: int
    names: tuple[str, ...]
    time_limit_s: float
    certificate: bool  # whether to store the drop's infeasibility and bound, too


@dataclass(frozen=True, eq=False)
class Drop:
    """A drop as the environment returns it."""

    scenario: Scenario
    observation: Mapping[str, Any]


def drop(point: Point, seed: int) -> Drop:
    """Return the drop of `reset(seed=seed)`."""
    block = Block(draw(point.config, [seed]))
    return Drop(block.scenario[0], block.observe(0))


def solve(task: Task) -> Record:
    """Return a line of the store; a drop that is certified infeasible has no decisions."""
    one_thread()
    drawn = drop(task.point, task.seed)
    certificate = certify(drawn.scenario.problem)
    infeasible, bound = certificate.infeasible, certificate.lower_bound_w
    line: Record = {"seed": task.seed}
    if task.certificate:
        line |= {"infeasible": infeasible, "lower_bound_w": None if infeasible else rounded(bound, 10)}
    if infeasible:
        return line | {"decisions": {}}
    decisions = {}
    for name in task.names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", agents.UntrainedConfigurationWarning)  # a note names them
            policy = policies.cached(name, task.point, task.time_limit_s)
            decisions[name] = record(policy, drawn)
    return line | {"decisions": decisions}


def one_thread() -> None:
    """Limit this process to one thread, since every process has a drop of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch = sys.modules.get("torch")  # if imported later, it reads the environment
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def record(policy: Any, drawn: Drop) -> Record:
    """Return a decision with all values that tables, figures and maps show."""
    start = time.perf_counter()
    action, bound = compare.decide(policy, drawn.observation, drawn.scenario)
    seconds = time.perf_counter() - start
    config = drawn.scenario.config
    decision = actions.decode(np.asarray(action), config.max_ap_power_w)
    result = compare.score(decision, drawn.scenario, seconds)
    outcome = drawn.scenario.evaluate(decision)
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
        "sinr_db": [rounded(value, 5) for value in info.sinr_db(outcome.sinr)],
        "crlb_m2": [rounded(value, 5) if np.isfinite(value) else None for value in outcome.crlb],
    }


def stored_decision(line: Record, point: Point) -> Decision:
    """Return the decision of a record; powers by user aren't stored, so the first column holds each AP's power."""
    power = np.zeros((point.M, point.K))
    power[line["active"], 0] = line["ap_power_w"]
    active = np.zeros(point.M, dtype=bool)
    active[line["active"]] = True
    return Decision(active, power)


def rounded(value: Any, digits: int) -> float:
    """Round to significant digits."""
    return float(f"{float(value):.{digits}g}")
