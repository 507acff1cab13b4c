"""Base classes of all policies with the `predict` of Stable-Baselines3, and helpers for decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Allocation, Allocator, Status
from baselines.allocation.certificate import refuse_prior
from cfisac_env import actions, observations
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

FEASIBILITY_MARGIN = 2e-5
"""Relative margin of exact policies to every requirement, so that the float32 action remains feasible; the power rises by about as much."""

FAST = Allocator()


@dataclass(frozen=True, eq=False)
class Answer:
    """Decision of a policy on one drop, with its claims about it."""

    decision: Decision
    feasible: bool  # claim that every requirement is met, to be verified by `evaluate`
    certificate: Allocation | None = None  # all-on allocation that proves the drop infeasible
    lower_bound_w: float = 0.0  # certified lower bound on the total power of every feasible decision


class ObservationPolicy(ABC):
    """Policy on observations of a `CfIsac` environment, with the `predict` of Stable-Baselines3.

    Args:
        M: required number of APs; None accepts any.
        K: required number of users; None accepts any.
    """

    name: str
    knows: ClassVar[str] = "observation"
    """Information that decisions are based on, for tables."""
    takes_prior: ClassVar[bool] = False
    """Support of prior information about targets; without it, such problems raise a ValueError."""

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
        """Compute the action for one observation or a batch.

        Args:
            observation: a `CfIsac` observation, or a batch of them along one leading axis.
            state: returned unchanged; these policies are memoryless.
            episode_start: not used.
            deterministic: False lets stochastic policies sample their actions.

        Returns:
            (M, K + 1) or (n, M, K + 1) float32, and `state`.

        Raises:
            ValueError: the observation lacks a key, contains NaN, has other sizes than the policy, or holds prior information that the
                policy doesn't support.
        """
        problem, batch = self._read(observation)
        if problem.batch_shape:
            return self._act(problem, batch, deterministic), state
        batch = {key: value[None] for key, value in batch.items()}
        return self._act(problem.batch(), batch, deterministic)[0], state

    @abstractmethod
    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        """Compute actions (n, M, K + 1) for n validated observations and their decoded problem."""

    def _read(self, observation: Any) -> tuple[Problem, Observation]:
        """Decode one observation or a batch, and refuse sizes other than the policy's."""
        problem, batch = read_observation(observation, self.name)
        if not self.takes_prior:
            refuse_prior(problem, self.name)
        for axis, built, given in (("M", self.M, problem.M), ("K", self.K, problem.K)):
            if built is not None and built != given:
                raise ValueError(
                    f"{self.name} was built for {axis}={built}, but the observation has {axis}={given}; "
                    f"build or load it with {axis}={given}, or without {axis} to take any size"
                )
        return problem, batch


def read_observation(observation: Any, name: str) -> tuple[Problem, Observation]:
    """Validate and decode one observation, or a batch along one leading axis.

    Returns:
        The decoded problem, and the observation as arrays.

    Raises:
        ValueError: not a Dict observation, a missing key, NaN, two leading axes, or entries with different leading axes.
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
    """Policy that decides each drop separately from its `Problem`."""

    takes_shared_pilots: ClassVar[bool] = True
    """Support of shared pilots; without it, they raise a ValueError."""
    certifies: ClassVar[bool] = False
    """Certification by `Answer.lower_bound_w`. The bound refers to the problem passed to `decide`; observations are rounded to float32."""

    @abstractmethod
    def decide(self, problem: Problem) -> Answer:
        """Decide on one drop."""

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        return np.stack([encoded(problem[i], self.decide(problem[i])) for i in range(problem.batch_shape[0])])


class AllocatingPolicy(Policy):
    """Policy with an allocator for its powers.

    Args:
        backend: of the allocator, see `baselines.allocation.Allocator`.
    """

    def __init__(self, *, backend: str = "fast", **sizes: Any) -> None:
        super().__init__(**sizes)
        self._allocator = Allocator(backend)


def encoded(problem: Problem, answer: Answer) -> NDArray[np.float32]:
    """Encode an answer on one drop as an action, (M, K + 1)."""
    return actions.encode(answer.decision, problem.max_ap_power_w, problem.estimate_gain)


def with_margin(problem: Problem) -> Problem:
    """Tighten every requirement by `FEASIBILITY_MARGIN`."""
    return replace(
        problem,
        sinr_threshold=problem.sinr_threshold * (1 + FEASIBILITY_MARGIN),
        crlb_threshold_m2=problem.crlb_threshold_m2 * (1 - FEASIBILITY_MARGIN),
    )


def allocate_with_margin(problem: Problem, active: NDArray[np.bool_], allocator: Allocator = FAST) -> Allocation:
    """Allocate exact powers for one set with the feasibility margin, or without it where the margin is infeasible."""
    answer = allocator(with_margin(problem), active)
    return answer if answer.feasible else allocator(problem, active)


def all_on_at_max_power(problem: Problem) -> Decision:
    """Build the decision with every AP on at P_max, split equally over the users."""
    power = np.full((problem.M, problem.K), problem.max_ap_power_w / problem.K)
    return Decision(active=np.ones(problem.M, dtype=bool), power=power)


def answer_from(allocation: Allocation, problem: Problem) -> Answer:
    """Convert an allocation of one set to an answer; an infeasible one becomes all APs on at maximum power."""
    if allocation.feasible:
        return Answer(Decision(active=allocation.active, power=allocation.power), feasible=True)
    proof = allocation if allocation.status == Status.INFEASIBLE and allocation.active.all() else None
    return Answer(all_on_at_max_power(problem), feasible=False, certificate=proof)
