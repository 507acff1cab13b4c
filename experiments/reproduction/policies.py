"""The policies of the reproduction by name: oracles, agents, and the paper's problem (9) with every AP on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

import agents
import baselines
from baselines.policy import Answer, Policy, all_on_at_max_power
from cfisac_env import Decision, Problem
from experiments.reproduction.points import Point

PAPER = ("hetgnn-paper", "hetgnn", "ddpg-paper", "modified-bb-paper", "decoupled")
"""The columns of Table II; its HetGNN as printed, and as this project completes it."""

ORACLES = (
    "modified-bb-paper", "decoupled", "full-ap-paper", "full-ap", "modified-bb", "local-search", "branch-and-bound",
)  # fmt: skip
LEARNED = ("hetgnn", "hetgnn-exact", "hetgnn-paper", "ddpg-paper")
"""Agents that the tables name even where their weights are missing; the others of `agents.AGENTS` follow them."""

SLOW = ("modified-bb-paper",)
"""Policies that solve hundreds of cvxpy programs a drop, and get fewer drops."""

LARGEST: Mapping[str, int] = {"modified-bb-paper": 200, "full-ap-paper": 200}
"""M beyond which the paper's problem (9) is not timed: (9d) couples all APs, and with 500 of them cvxpy needs more than 24 GB."""


class FullApPaperPolicy(Policy):
    """Every AP on with the powers of the paper's problem (9), "Full AP + Constraint relaxed"; they miss SINRs."""

    name = "full-ap-paper"

    def decide(self, problem: Problem) -> Answer:
        """Solve (9) once."""
        from baselines.allocation.paper import solve_paper

        active = np.ones(problem.M, dtype=bool)
        answer = solve_paper(problem, active)
        decision = Decision(active, answer.power) if answer.feasible else all_on_at_max_power(problem)
        return Answer(decision, feasible=False)


def names() -> tuple[str, ...]:
    """Return the names of all policies of the reproduction."""
    return tuple(dict.fromkeys((*LEARNED, *agents.AGENTS, *ORACLES)))


def order(given: Iterable[str]) -> list[str]:
    """Sort names: Table II's columns first, then oracles, then agents."""
    known = [*PAPER, "full-ap-paper", "modified-bb", "local-search", "branch-and-bound", "hetgnn-exact"]
    return sorted(given, key=lambda name: (known.index(name) if name in known else len(known), name))


def check(given: tuple[str, ...]) -> None:
    """Refuse unknown names."""
    for name in given:
        if name not in names():
            raise ValueError(f"unknown policy {name!r}; the reproduction knows {', '.join(names())}")


def build(name: str, point: Point, time_limit_s: float) -> Any:
    """Build a policy for the size of a point.

    Args:
        time_limit_s: a drop, for `branch-and-bound`.

    Raises:
        MissingAgentError: there is no such agent, or none with weights for this size.
    """
    sizes = {"M": point.M, "K": point.K}
    if name == FullApPaperPolicy.name:
        return FullApPaperPolicy(**sizes)
    if name == "branch-and-bound":
        return baselines.make(name, time_limit_s=time_limit_s, **sizes)
    if name in baselines.POLICIES:
        return baselines.make(name, **sizes)
    try:
        return agents.load(name, config=point.config)
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise MissingAgentError(name, str(error)) from None


cached = lru_cache(maxsize=64)(build)
"""`build`, with the same policy for every drop of a point."""


def check_there(name: str, point: Point, observation: Mapping[str, Any]) -> None:
    """Check that an agent can decide at a point by letting it decide once; oracles always can.

    Raises:
        MissingAgentError: as `build`, or because the agent was trained for drops of another shape.
    """
    if name in baselines.POLICIES or name == FullApPaperPolicy.name:
        return
    policy = build(name, point, 1.0)
    try:
        policy.predict(observation, deterministic=True)
    except ValueError as error:
        raise MissingAgentError(name, str(error)) from None


class MissingAgentError(Exception):
    """An agent that cannot decide at a point."""

    def __init__(self, name: str, why: str) -> None:
        command = "hetgnn" if name.startswith("hetgnn") else name
        advice = "" if "cfisac train" in why else f"; train them with `cfisac train {command}`"
        super().__init__(f"missing weights ({why}){advice}")
