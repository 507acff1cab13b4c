"""Agents trained by reinforcement learning, behind the `predict` of every other policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from agents import defaults, tensorfile
from agents.coverage import Watch, trained_fields
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


class Agent(ObservationPolicy):
    """What agents trained by reinforcement learning share.

    Args:
        policy: that decides.
        run: that trained it.
        M: number of APs that observations must have; None takes any.
        K: number of users; None takes any.
        seed: of the actions that are drawn, when `deterministic` is False.

    Attributes:
        trained: fields of the configurations that it was trained for, see `agents.trained_for`.
    """

    def __init__(
        self, policy: BasePolicy, run: Run, *, M: int | None = None, K: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(M=M, K=K)
        self.policy, self.run = policy, run
        alike = run.policy == "graph" and run.algorithm != "maskable-ppo"
        self.name = f"{run.algorithm}-graph" if alike else run.algorithm
        self.trained = tuple(trained_fields(config, every_size=run.every_size) for config in run.configs)
        self.watch = Watch(self.name, self.trained)
        self._rng = np.random.default_rng(seed)
        policy.set_training_mode(False)

    @property
    def digest(self) -> str:
        """Sixteen digits that tell its weights from others."""
        return tensorfile.digest(storage.actor_weights(self.policy))

    def _read(self, observation: Any) -> tuple[Problem, Observation]:
        problem, batch = super()._read(observation)
        fitting = self._fitting(problem, batch)
        self.watch.look(fitting["requirement"])
        return problem, fitting

    def _fitting(self, problem: Problem, observation: Observation) -> Observation:
        """The entries that the policy reads; refuses those that don't fit it."""
        return observation

    @contextmanager
    def _draws(self, deterministic: bool) -> Iterator[None]:
        """Let torch draw from the agent's own random numbers, and leave its generator as it is."""
        if deterministic:
            yield
            return
        device = self.policy.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(self._rng.integers(2**63)))
            yield


class DirectAgent(Agent):
    """A Stable-Baselines3 policy that decides about a drop at once: activation and powers are its own."""

    def _fitting(self, problem: Problem, observation: Observation) -> Observation:
        return checked(observation, problem.batch_shape, self.policy.observation_space, self.name)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        order = Order.of(observation) if self.run.policy == "sorted-mlp" else None
        arranged = observation if order is None else order.arrange(observation)
        with self._draws(deterministic):
            action, _ = self.policy.predict(arranged, deterministic=deterministic)
        action = np.asarray(action, dtype=np.float32)
        return action if order is None else order.restore(action)


class SetAgent(Agent):
    """The policy of `ddpg`, for every size.

    Args:
        policy: that decides.
        run: that trained it.
        options: `completions`, `search` and `budget`, see `SetPolicy`, and those of `Agent`.

    Raises:
        ValueError: an option is out of range.
    """

    policy: SetPolicy

    def __init__(
        self,
        policy: SetPolicy,
        run: Run,
        **options: Any,
    ) -> None:
        sizes = {name: options.pop(name) for name in ("M", "K", "seed") if name in options}
        super().__init__(policy, run, **sizes)
        policy.configure(**options)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        return self.policy.predict(observation, deterministic=deterministic)[0]


class SequentialAgent(Agent):
    """A policy of `CfIsacSequential-v0` that plays the environment in its head: moves set by set, and answers with the best it has seen.

    An episode starts with every AP on, so the answer serves the drop whenever that can be served. It ends when the policy stops, comes
    back to a set, or has made 2M moves.
    """

    policy: GraphMaskablePolicy

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        games = [_Game(problem[i]) for i in range(problem.batch_shape[0])]
        cap = problem.max_ap_power_w
        device = self.policy.device
        with torch.no_grad(), self._draws(deterministic):
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
                    torch.as_tensor(np.stack([decision.active for decision in decisions]), device=device),
                    torch.as_tensor(
                        np.stack([decision.power.sum(-1) / cap for decision in decisions]),
                        dtype=torch.float32,
                        device=device,
                    ),
                )
                allowed = torch.as_tensor(np.stack([games[i].masks() for i in playing]), device=device)
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


def agent_of(policy: BasePolicy, run: Run) -> Agent:
    """The agent around a policy, as it is while it learns; that of `ddpg` without its search, which hides what was learned."""
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


class BySize(ObservationPolicy):
    """Agents of one algorithm, each for one size: the one for the size of the observation decides.

    Args:
        name: of the algorithm.
        paths: weights by M and K.
        build: makes an agent of its weights.
    """

    def __init__(self, name: str, paths: Mapping[tuple[int, int], Path], build: Callable[[Path], Agent]) -> None:
        super().__init__()
        self.name = name
        self._agents = {size: build(path) for size, path in paths.items()}
        self.trained = tuple(fields for agent in self._agents.values() for fields in agent.trained)

    @property
    def digest(self) -> str:
        """Digits that tell the weights of all its agents from others."""
        return "-".join(agent.digest for agent in self._agents.values())

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        agent = self._agents.get((problem.M, problem.K))
        if agent is None:
            raise ValueError(no_size(self.name, problem.M, problem.K, list(self._agents)))
        return agent.predict(observation, deterministic=deterministic)[0]


def load(
    algorithm: str,
    *,
    M: int | None = None,
    K: int | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    **options: Any,
) -> Agent | BySize:
    """An agent of an algorithm, from the shipped weights or from a file; torch's defaults and random numbers are left alone.

    Args:
        algorithm: that trained it.
        M: number of APs. Agents with a graph policy serve every size, and then refuse others; the rest serve the one they were trained for.
            Without M and K, an algorithm with shipped agents for several sizes serves each of these.
        K: number of users.
        weights: file that a training run wrote; None takes the shipped one.
        device: of torch, or `gpu`, or `auto`.
        seed: of the actions that are drawn, when `predict` isn't to be deterministic.
        options: of `ddpg`: `completions`, `search` and `budget`, see `SetPolicy`.

    Raises:
        TypeError: options that the algorithm doesn't have.
        FileNotFoundError: there is no such file.
        ValueError: the file's agent is of another algorithm or size; or none is shipped for the size; or there is no such device.
    """
    for name in options:
        if algorithm != "ddpg" or name not in SET_OPTIONS:
            raise TypeError(f"{algorithm} got an unexpected keyword argument {name!r}")
    chosen, size = defaults.device(device), {"M": M, "K": K}
    if weights is not None:
        return _from_file(Path(weights), algorithm, chosen, seed=seed, **size, **options)
    whole = WEIGHTS / f"{algorithm}.safetensors"
    if whole.is_file():
        return _from_file(whole, algorithm, chosen, seed=seed, **size, **options)
    sizes = shipped_sizes(algorithm)
    matching = {
        size: path
        for size, path in sizes.items()
        if all(want in (None, have) for want, have in zip((M, K), size, strict=True))
    }
    if not matching:
        raise ValueError(no_size(algorithm, M, K, list(sizes)))
    if len(matching) == 1:
        (path,) = matching.values()
        return _from_file(path, algorithm, chosen, seed=seed)
    return BySize(algorithm, matching, lambda path: _from_file(path, algorithm, chosen, seed=seed))


def shipped_sizes(algorithm: str) -> dict[tuple[int, int], Path]:
    """M and K → weights, for the agents of an algorithm that are shipped for one size each."""
    found = {}
    for path in WEIGHTS.glob(f"{algorithm}-*.safetensors"):
        M, cross, K = path.stem.removeprefix(f"{algorithm}-").partition("x")
        if cross and M.isdecimal() and K.isdecimal():
            found[int(M), int(K)] = path
    return dict(sorted(found.items()))


def no_size(algorithm: str, M: int | None, K: int | None, sizes: Sequence[tuple[int, int]]) -> str:
    """What to say where no agent is shipped for a size."""
    there = ", ".join(f"{m}x{k}" for m, k in sizes)
    wanted = "" if M is None and K is None else f" for M={M}, K={K}"
    return (
        f"no {algorithm} agent is shipped{wanted}{f'; there are agents for {there}' if sizes else ''}. Train one with "
        f"`cfisac train {algorithm} --M … --K …` and load it with weights=…"
    )


def _from_file(
    path: Path, algorithm: str, device: torch.device, *, M: int | None = None, K: int | None = None, **options: Any
) -> Agent:
    """The agent in a file."""
    run, tensors, _ = storage.read(path)
    if run.algorithm != algorithm:
        raise ValueError(
            f"{path} holds a {run.algorithm} agent, not {algorithm}; load it with agents.load({run.algorithm!r}, …)"
        )
    if run.every_size:
        size = {name: value for name, value in (("M", M), ("K", K)) if value is not None}
        run = replace(run, config=SystemConfig(**{**run.config.as_dict(), **size}))
    for name, wanted, found in (("M", M, run.config.M), ("K", K, run.config.K)):
        if wanted is not None and wanted != found:
            raise ValueError(
                f"{path} holds an agent for {name}={found}, not {name}={wanted!r}; a {algorithm} agent serves one size"
            )
    policy = empty_policy(run)
    storage.fill(policy, tensors, path)
    policy.to(device)
    if isinstance(policy, GraphMaskablePolicy):
        return SequentialAgent(policy, run, M=M, K=K, **options)
    if isinstance(policy, SetPolicy):
        if device.type != "cpu":
            raise ValueError(f"{algorithm} decides on the CPU, got the device {str(device)!r}; leave it out")
        return SetAgent(policy, run, M=M, K=K, **options)
    return DirectAgent(policy, run, **options)
