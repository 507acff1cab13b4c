"""Trained agents as policies of the suite, with the `predict` that oracles have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from agents import tensorfile
from agents.coverage import Watch, trained_fields
from agents.rl import storage
from agents.rl.run import Run
from agents.rl.set_policy import ActorPolicy, SetPolicy
from baselines.policy import ObservationPolicy
from cfisac_env.observations import Observation
from cfisac_env.types import Problem


class Agent(ObservationPolicy):
    """Base class of trained agents.

    Args:
        M: number of APs that observations must have; None takes any.
        K: number of users that observations must have; None takes any.
        seed: of the actions sampled when `deterministic` is False.

    Attributes:
        trained: fields of the configurations that it was trained for, see `agents.trained_for`.
    """

    def __init__(
        self, policy: BasePolicy, run: Run, *, M: int | None = None, K: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(M=M, K=K)
        self.policy, self.run, self.name = policy, run, run.algorithm
        fields = [trained_fields(config, every_size=run.every_size) for config in run.configs]
        self.trained = tuple(one for i, one in enumerate(fields) if one not in fields[:i])
        self.watch = Watch(self.name, self.trained)
        self._rng = np.random.default_rng(seed)
        policy.set_training_mode(False)

    @property
    def digest(self) -> str:
        """Sixteen digits that identify its weights."""
        return tensorfile.digest(storage.actor_weights(self.policy))

    def _read(self, observation: Any) -> tuple[Problem, Observation]:
        problem, batch = super()._read(observation)
        fitting = self._fitting(problem, batch)
        self.watch.check(fitting["requirement"])
        return problem, fitting

    def _fitting(self, problem: Problem, observation: Observation) -> Observation:
        """Return the entries that the policy reads; refuse those that don't fit it."""
        return observation

    @contextmanager
    def _sampling(self, deterministic: bool) -> Iterator[None]:
        """Let torch sample from the agent's own generator, and leave the global one as it is."""
        if deterministic:
            yield
            return
        device = self.policy.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(self._rng.integers(2**63)))
            yield


class MlpAgent(Agent):
    """Stable-Baselines3 policy on the flattened observation, for the size that it was trained for."""

    def _fitting(self, problem: Problem, observation: Observation) -> Observation:
        return checked(observation, problem.batch_shape, self.policy.observation_space, self.name)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        with self._sampling(deterministic):
            action, _ = self.policy.predict(observation, deterministic=deterministic)
        return np.asarray(action, dtype=np.float32)


class SetAgent(Agent):
    """Policy that chooses sets of APs, of `ddpg` or `grpo`, for every size.

    Args:
        options: of the policy (`ActorPolicy`, `SetPolicy`), and those of `Agent`.

    Raises:
        ValueError: an option is out of range.
    """

    policy: ActorPolicy

    def __init__(self, policy: ActorPolicy, run: Run, **options: Any) -> None:
        sizes = {name: options.pop(name) for name in ("M", "K", "seed") if name in options}
        super().__init__(policy, run, **sizes)
        policy.configure(**options)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        return self.policy.predict(observation, deterministic=deterministic)[0]


def agent_of(policy: BasePolicy, run: Run) -> Agent:
    """Wrap a policy as it is during training: the actor alone, without search, with one beam of `ddpg` and eight of `grpo`."""
    if isinstance(policy, SetPolicy):
        return SetAgent(policy, run, beams=1, advised=False, search=False)
    if isinstance(policy, ActorPolicy):
        return SetAgent(policy, run, beams=8, search=False)
    return MlpAgent(policy, run)


def checked(observation: Observation, batch_shape: tuple[int, ...], space: Any, name: str) -> Observation:
    """Return the entries that an agent reads.

    Raises:
        ValueError: one is missing, has another shape, or holds values that aren't finite.
    """
    missing = [key for key in space.spaces if key not in observation]
    if missing:
        raise ValueError(f"the observation lacks {', '.join(missing)} (it has {', '.join(observation) or 'nothing'})")
    arrays = {key: np.asarray(observation[key]) for key in space.spaces}
    for key, array in arrays.items():
        shape = space[key].shape
        if array.shape != (*batch_shape, *shape):
            raise ValueError(
                f"{name} was trained for {key!r} of shape {shape}, got {array.shape}; a model serves the size that it was trained for: "
                "load or train one for this M, K, T and S"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"the observation's {key!r} holds values that aren't finite")
    return arrays


class BySize(ObservationPolicy):
    """Agents of one algorithm for one size each; the size of the observation selects one.

    Args:
        paths: weights by M and K.
        build: makes an agent from its weights.
    """

    def __init__(self, name: str, paths: Mapping[tuple[int, int], Path], build: Callable[[Path], Agent]) -> None:
        super().__init__()
        self.name = name
        self._agents = {size: build(path) for size, path in paths.items()}
        self.trained = tuple(fields for agent in self._agents.values() for fields in agent.trained)

    @property
    def digest(self) -> str:
        """Digits that identify the weights of all its agents."""
        return "-".join(agent.digest for agent in self._agents.values())

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        agent = self._agents.get((problem.M, problem.K))
        if agent is None:
            raise ValueError(no_size(self.name, problem.M, problem.K, list(self._agents)))
        return agent.predict(observation, deterministic=deterministic)[0]


def no_size(algorithm: str, M: int | None, K: int | None, sizes: Sequence[tuple[int, int]]) -> str:
    """Return the message for a size without a shipped agent."""
    there = ", ".join(f"{m}x{k}" for m, k in sizes)
    wanted = "" if M is None and K is None else f" for M={M}, K={K}"
    return (
        f"no {algorithm} agent is shipped{wanted}{f'; there are agents for {there}' if sizes else ''}. Train one with "
        f"`cfisac train {algorithm} --M … --K …` and load it with weights=…"
    )
