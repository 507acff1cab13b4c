"""The base classes of every policy: Stable-Baselines3's `predict` around a decision, and what decisions share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Allocation, Allocator
from cfisac_env import actions, observations
from cfisac_env.observations import Observation
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


class ObservationPolicy(ABC):
    """Decides from the observations of a `CfIsac` environment, behind the `predict` of Stable-Baselines3.

    Args:
        M: number of APs the policy is meant for; None takes any.
        K: number of users the policy is meant for; None takes any.
    """

    name: str
    knows: ClassVar[str] = "observation"
    """What its decisions rest on, for tables."""

    def __init__(self, *, M: int | None = None, K: int | None = None) -> None:
        self.M = M
        self.K = K

    def predict(
        self,
        observation: Mapping[str, NDArray[Any]] | NDArray[Any] | tuple[NDArray[Any], ...],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """The action for one observation or for a batch, as Stable-Baselines3 has it.

        Args:
            observation: a `CfIsac` observation, or a batch of them along one leading axis.
            state: returned as it is; these policies have no memory.
            episode_start: not used.
            deterministic: False lets policies that can draw their actions do so.

        Returns:
            (M, K + 1) or (n, M, K + 1) float32, and `state`.

        Raises:
            ValueError: the observation lacks a key, holds NaN, or is of another size than the policy is meant for.
        """
        problem, batch = self._read(observation)
        if problem.batch_shape:
            return self._act(problem, batch, deterministic), state
        batch = {key: value[None] for key, value in batch.items()}
        return self._act(problem.batch(), batch, deterministic)[0], state

    @abstractmethod
    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        """(n, M, K + 1) actions for n observations, checked, and the numbers in them."""

    def _read(self, observation: Any) -> tuple[Problem, Observation]:
        """An observation, or a batch along one leading axis, as numbers and as arrays; refuses what the policy isn't meant for."""
        problem, batch = read_observation(observation, self.name)
        for axis, built, given in (("M", self.M, problem.M), ("K", self.K, problem.K)):
            if built is not None and built != given:
                raise ValueError(
                    f"{self.name} was built for {axis}={built}, but the observation has {axis}={given}; "
                    f"build or load it with {axis}={given}, or without {axis} to take any size"
                )
        return problem, batch


def read_observation(observation: Any, name: str) -> tuple[Problem, Observation]:
    """One observation, or a batch of them along one leading axis, as numbers and as arrays.

    Args:
        observation: of a `CfIsac` environment.
        name: of the policy that reads it, for messages.

    Raises:
        ValueError: it isn't a Dict observation, lacks a key, holds NaN, has two leading axes, or its entries differ in theirs.
    """
    if not isinstance(observation, Mapping):
        raise ValueError(
            f"{name} needs the Dict observation of a CfIsac environment, got {type(observation).__name__}; "
            "don't flatten the observation for it"
        )
    arrays = {key: np.asarray(value) for key, value in observation.items()}
    if "comm" in arrays and arrays["comm"].ndim == 4:
        sizes = {key: array.shape[:1] for key, array in arrays.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the observation's entries are of batches of different sizes: {sizes}")
    problem = observations.decode(arrays)
    if len(problem.batch_shape) > 1:
        raise ValueError(f"observations may have one leading axis, got {problem.batch_shape}")
    return problem, arrays


class Policy(ObservationPolicy):
    """Decides drop by drop, from the optimiser's numbers alone.

    Args:
        M: number of APs the policy is meant for; None takes any.
        K: number of users the policy is meant for; None takes any.
    """

    takes_shared_pilots: ClassVar[bool] = True
    """Whether it decides where users share pilots, too; others raise a ValueError there."""
    certifies: ClassVar[bool] = False
    """Whether its answers carry a lower bound that is worth keeping. The bound is one for the drop that `decide` was given, so decide on
    the drop itself: observations are rounded to float32."""

    @abstractmethod
    def decide(self, problem: Problem) -> Answer:
        """Decide about one drop."""

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        return np.stack([encoded(problem[i], self.decide(problem[i])) for i in range(problem.batch_shape[0])])


def encoded(problem: Problem, answer: Answer) -> NDArray[np.float32]:
    """An answer about one drop as an action, (M, K + 1)."""
    return actions.encode(answer.decision, problem.max_ap_power_w, problem.estimate_gain)


def with_margin(problem: Problem) -> Problem:
    """The same drop with every requirement tightened by `MARGIN`."""
    return replace(
        problem,
        sinr_threshold=problem.sinr_threshold * (1 + MARGIN),
        crlb_threshold_m2=problem.crlb_threshold_m2 * (1 - MARGIN),
    )


def allocate_with_margin(problem: Problem, active: NDArray[np.bool_], allocator: Allocator = FAST) -> Allocation:
    """Exact powers for one set, a hair inside the requirements; on them when there is no room for that."""
    answer = allocator(with_margin(problem), active)
    return answer if answer.feasible else allocator(problem, active)


def all_on_at_max_power(problem: Problem) -> Decision:
    """Every AP on, radiating P_max in equal parts for every user: what is left when no requirement can be met."""
    power = np.full((problem.M, problem.K), problem.max_ap_power_w / problem.K)
    return Decision(active=np.ones(problem.M, dtype=bool), power=power)
