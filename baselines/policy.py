"""The shape of every oracle and heuristic: Stable-Baselines3's `predict` around one decision for one drop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Allocation, Allocator, Status
from cfisac_env import actions, observations
from cfisac_env.types import Decision, Problem

MARGIN = 2e-5
"""Exact policies aim this far (relative) inside every requirement, so that rounding an action to float32 never costs feasibility;
it costs them about as much of the power."""


FAST = Allocator()


@dataclass(frozen=True, eq=False)
class Answer:
    """What a policy decided about one drop, and what it knows about that decision."""

    decision: Decision
    feasible: bool  # the policy claims that every requirement is met; `evaluate` has the last word
    certificate: Allocation | None = None  # proof that no decision serves the drop: all APs on, infeasible
    lower_bound_w: float = 0.0  # certified lower bound on the total power of every feasible decision


class Policy(ABC):
    """Decides drop by drop, from the observation alone.

    Args:
        M: number of APs the policy is meant for; None takes any.
        K: number of users the policy is meant for; None takes any.
    """

    name: str
    takes_shared_pilots: ClassVar[bool] = True
    """Whether it decides where users share pilots, too; others raise a ValueError there."""
    certifies: ClassVar[bool] = False
    """Whether its answers carry a lower bound that is worth keeping. The bound is one for the drop that `decide` was given, so decide on
    the drop itself: observations are rounded to float32."""

    def __init__(self, *, M: int | None = None, K: int | None = None) -> None:
        self.M = M
        self.K = K

    @abstractmethod
    def decide(self, problem: Problem) -> Answer:
        """Decide about one drop."""

    def predict(
        self,
        observation: Mapping[str, NDArray[Any]] | NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """The action for one observation or for a batch, as Stable-Baselines3 has it.

        Args:
            observation: a `CfIsac` observation, or a batch of them along one leading axis.
            state: returned as it is; these policies have no memory.
            episode_start: not used.
            deterministic: not used.

        Returns:
            (M, K + 1) or (n, M, K + 1) float32, and `state`.

        Raises:
            ValueError: the observation lacks a key, holds NaN, or is of another size than the policy was built for.
        """
        problem = read_observation(observation, self.name, M=self.M, K=self.K)
        if not problem.batch_shape:
            return self._action(problem), state
        return np.stack([self._action(problem[i]) for i in range(problem.batch_shape[0])]), state

    def _action(self, problem: Problem) -> NDArray[np.float32]:
        decision = self.decide(problem).decision
        return actions.encode(decision, problem.max_ap_power_w, problem.estimate_gain)


def read_observation(observation: Any, name: str, *, M: int | None = None, K: int | None = None) -> Problem:
    """What a policy is given, checked: the optimiser's numbers of one observation, or of a batch along one leading axis.

    Args:
        observation: of a `CfIsac` environment.
        name: of the policy, for messages.
        M: number of APs the policy is meant for; None takes any.
        K: number of users the policy is meant for; None takes any.

    Raises:
        ValueError: it isn't a Dict observation, lacks a key, holds NaN, has two leading axes, or is of another size.
    """
    if not isinstance(observation, Mapping):
        raise ValueError(
            f"{name} needs the Dict observation of a CfIsac environment, got {type(observation).__name__}; "
            "don't flatten the observation for it"
        )
    problem = observations.decode(observation)
    for axis, built, given in (("M", M, problem.M), ("K", K, problem.K)):
        if built is not None and built != given:
            raise ValueError(
                f"{name} was built for {axis}={built}, but the observation has {axis}={given}; "
                f"build or load it with {axis}={given}, or without {axis} to take any size"
            )
    if len(problem.batch_shape) > 1:
        raise ValueError(f"observations may have one leading axis, got {problem.batch_shape}")
    return problem


def inside(problem: Problem) -> Problem:
    """The same drop with every requirement tightened by `MARGIN`."""
    return replace(
        problem,
        sinr_threshold=problem.sinr_threshold * (1 + MARGIN),
        crlb_threshold_m2=problem.crlb_threshold_m2 * (1 - MARGIN),
    )


def solved(allocation: Allocation) -> bool:
    """Whether an allocation for one set holds powers that meet every requirement."""
    return bool(served(allocation))


def served(allocation: Allocation) -> NDArray[np.bool_]:
    """The same for every set of a batch, (…,)."""
    return np.asarray((allocation.status == Status.OPTIMAL) | (allocation.status == Status.LOCAL))


def allocate(problem: Problem, active: NDArray[np.bool_], allocator: Allocator = FAST) -> Allocation:
    """Exact powers for one set, a hair inside the requirements; on them when there is no room for that."""
    answer = allocator(inside(problem), active)
    return answer if solved(answer) else allocator(problem, active)


def everything(problem: Problem) -> Decision:
    """Every AP on, radiating P_max in equal parts for every user: what is left when no requirement can be met."""
    power = np.full((problem.M, problem.K), problem.max_ap_power_w / problem.K)
    return Decision(active=np.ones(problem.M, dtype=bool), power=power)
