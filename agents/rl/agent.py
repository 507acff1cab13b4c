"""Agents trained by reinforcement learning, behind the `predict` of every other policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from agents.hetgnn.network import Embedding
from agents.rl import storage
from agents.rl.environments import masks, priced
from agents.rl.graph import GraphMaskablePolicy, Look
from agents.rl.models import Run, empty_policy
from agents.rl.order import Order
from agents.rl.set_policy import SetPolicy
from baselines.allocation import Allocator
from baselines.policy import ObservationPolicy
from cfisac_env import SystemConfig, actions, physics
from cfisac_env.observations import Observation
from cfisac_env.types import Problem

SET_OPTIONS = ("completions", "search", "budget")
WEIGHTS = Path(__file__).parent / "weights"


class DirectAgent(ObservationPolicy):
    """A Stable-Baselines3 policy that decides about a drop at once: activation and powers are its own.

    Args:
        policy: that decides.
        run: that trained it.
    """

    def __init__(self, policy: BasePolicy, run: Run) -> None:
        super().__init__()
        self.policy = policy
        self.run = run
        self.name = f"{run.algorithm}-graph" if run.policy == "graph" else run.algorithm
        policy.set_training_mode(False)

    def _read(self, observation: Any) -> tuple[Problem, Observation]:
        problem, batch = super()._read(observation)
        return problem, checked(batch, problem.batch_shape, self.policy.observation_space, self.name)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        order = Order.of(observation) if self.run.policy == "sorted-mlp" else None
        arranged = observation if order is None else order.arrange(observation)
        action, _ = self.policy.predict(arranged, deterministic=deterministic)
        action = np.asarray(action, dtype=np.float32)
        return action if order is None else order.restore(action)


class SetAgent(ObservationPolicy):
    """The policy of `graph-ddpg`, for every size.

    Args:
        policy: that decides.
        run: that trained it.
        M: number of APs that observations must have; None takes any.
        K: number of users; None takes any.
        options: `completions`, `search` and `budget` of the policy.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self, policy: SetPolicy, run: Run, *, M: int | None = None, K: int | None = None, **options: Any
    ) -> None:
        super().__init__(M=M, K=K)
        self.policy, self.run = policy, run
        self.name = run.algorithm
        policy.configure(**options)
        policy.set_training_mode(False)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        return self.policy.predict(observation, deterministic=deterministic)[0]


class SequentialAgent(ObservationPolicy):
    """A policy of `CfIsacSequential-v0` that plays the environment in its head: moves set by set, and answers with the best it has seen.

    An episode starts with every AP on, so the answer serves the drop whenever that can be served. It ends when the policy stops, comes
    back to a set, or has made 2M moves.

    Args:
        policy: that moves.
        run: that trained it.
        M: number of APs that observations must have; None takes any.
        K: number of users; None takes any.
    """

    def __init__(self, policy: GraphMaskablePolicy, run: Run, *, M: int | None = None, K: int | None = None) -> None:
        super().__init__(M=M, K=K)
        self.policy = policy
        self.run = run
        self.name = run.algorithm
        policy.set_training_mode(False)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        games = [_Game(problem[i]) for i in range(problem.batch_shape[0])]
        cap = problem.max_ap_power_w
        with torch.no_grad():
            embedding = self.policy.embed(observation)  # of the drops, whatever the sets
            while playing := [i for i, game in enumerate(games) if not game.over]:
                decisions = [games[i].decision for i in playing]
                look = Look(
                    Embedding(
                        embedding.ap[playing],
                        embedding.ue[playing],
                        embedding.target[playing],
                        embedding.drops[playing],
                    ),
                    torch.as_tensor(np.stack([decision.active for decision in decisions])),
                    torch.as_tensor(np.stack([decision.power.sum(-1) / cap for decision in decisions])).float(),
                )
                allowed = torch.as_tensor(np.stack([games[i].masks() for i in playing]))
                logits = self.policy.action_net(look).masked_fill(~allowed, -torch.inf)
                moves = logits.argmax(-1) if deterministic else torch.multinomial(logits.softmax(-1), 1)[:, 0]
                for i, move in zip(playing, moves.tolist(), strict=True):
                    games[i].play(move)
        return np.stack([actions.encode(game.best, cap, game.problem.estimate_gain) for game in games])


class _Game:
    """One drop, the set that has been reached on it, and the best so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.over = False
        self._allocate = Allocator()
        self._seen: set[bytes] = set()
        self._cost = np.inf
        self._enter(np.ones(problem.M, dtype=bool))
        self.best = self.decision

    def masks(self) -> NDArray[np.bool_]:
        """What the environment would allow."""
        return masks(self.decision.active, self._feasible)

    def play(self, move: int) -> None:
        """Switch an AP, or stop."""
        active = self.decision.active.copy()
        if move == len(active):
            self.over = True
            return
        active[move] = not active[move]
        self.over = active.tobytes() in self._seen or len(self._seen) >= 2 * len(active)
        if not self.over:
            self._enter(active)

    def _enter(self, active: NDArray[np.bool_]) -> None:
        self._seen.add(active.tobytes())
        self.decision = priced(self._allocate, self.problem, active)
        outcome = physics.evaluate(self.problem, self.decision)
        self._feasible = bool(outcome.feasible)
        if self._feasible and float(outcome.total_power) < self._cost:
            self._cost = float(outcome.total_power)
            self.best = self.decision


def agent_of(policy: BasePolicy, run: Run) -> DirectAgent | SequentialAgent | SetAgent:
    """The agent around a policy, as it is while it learns; that of `graph-ddpg` without its search, which hides what was learned."""
    if isinstance(policy, SetPolicy):
        return SetAgent(policy, run, search=False)
    if isinstance(policy, GraphMaskablePolicy):
        return SequentialAgent(policy, run)
    return DirectAgent(policy, run)


def checked(observation: Observation, batch_shape: tuple[int, ...], space: Any, name: str) -> Observation:
    """The entries that an agent reads, or a ValueError that says what is wrong with them."""
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


def load(
    algorithm: str, *, M: int | None = None, K: int | None = None, weights: str | Path | None = None, **options: Any
) -> DirectAgent | SequentialAgent | SetAgent:
    """An agent of an algorithm, from the shipped weights or from a file.

    Args:
        algorithm: that trained it.
        M: number of APs. Agents with a graph policy serve every size, and then refuse others; the rest serve the one they were trained for.
        K: number of users.
        weights: file that a training run wrote; None takes the shipped one.
        options: of `graph-ddpg`: `completions`, `search` and `budget`, see `SetPolicy`.

    Raises:
        TypeError: options that the algorithm doesn't have.
        FileNotFoundError: there is no such file.
        ValueError: the file's agent is of another algorithm or size; or none is shipped for the size.
    """
    for name in options:
        if algorithm != "graph-ddpg" or name not in SET_OPTIONS:
            raise TypeError(f"{algorithm} got an unexpected keyword argument {name!r}")
    path = _shipped(algorithm, M, K) if weights is None else Path(weights)
    run, tensors, _ = storage.read(path)
    if run.algorithm != algorithm:
        raise ValueError(
            f"{path} holds a {run.algorithm} agent, not {algorithm}; load it with agents.load({run.algorithm!r}, …)"
        )
    if run.policy in ("graph", "sets"):
        size = {name: value for name, value in (("M", M), ("K", K)) if value is not None}
        run = replace(run, config=SystemConfig(**{**run.config.as_dict(), **size}))
    for name, wanted, found in (("M", M, run.config.M), ("K", K, run.config.K)):
        if wanted is not None and wanted != found:
            raise ValueError(
                f"{path} holds an agent for {name}={found}, not {name}={wanted!r}; a {algorithm} agent serves one size"
            )
    policy = empty_policy(run)
    storage.fill(policy, tensors, path)
    if isinstance(policy, GraphMaskablePolicy):
        return SequentialAgent(policy, run, M=M, K=K)
    if isinstance(policy, SetPolicy):
        return SetAgent(policy, run, M=M, K=K, **options)
    return DirectAgent(policy, run)


def _shipped(algorithm: str, M: int | None, K: int | None) -> Path:
    whole = WEIGHTS / f"{algorithm}.safetensors"
    if whole.is_file():
        return whole
    path = WEIGHTS / f"{algorithm}-{M}x{K}.safetensors"
    if not path.is_file():
        sizes = [path.stem.removeprefix(f"{algorithm}-") for path in sorted(WEIGHTS.glob(f"{algorithm}-*.safetensors"))]
        raise ValueError(
            f"no {algorithm} agent is shipped for M={M}, K={K}; there are {', '.join(sizes) or 'none at all'}. Train one with "
            f"`cfisac train {algorithm} --M … --K …` and load it with weights=…"
        )
    return path
