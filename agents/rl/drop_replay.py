"""Replay that keeps a drop once, with every set of APs that was played on it and what each earned beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer

from agents.rl.drop_batch import KEYS


@dataclass(frozen=True, eq=False)
class PlayedDrops:
    """Some drops of the replay."""

    observation: dict[str, NDArray[np.float32]]  # (B, …)
    sets: NDArray[np.bool_]  # (B, D, M)
    rewards: NDArray[np.float32]  # (B, D), NaN where fewer than D sets were played


class Ring:
    """The latest drops of one size.

    Args:
        decisions: D, on each.
        observation: of as many environments as step together, whose drops are added at once.
    """

    def __init__(self, capacity: int, decisions: int, observation: Mapping[str, NDArray[Any]]) -> None:
        n, M = np.shape(observation["comm"])[:2]
        capacity = max(2 * n, capacity)
        shapes = {key: np.shape(observation[key])[1:] for key in KEYS}
        self.observation = {key: np.zeros((capacity, *shape), np.float32) for key, shape in shapes.items()}
        self.sets = np.zeros((capacity, decisions, M), dtype=bool)
        self.rewards = np.full((capacity, decisions), np.nan, np.float32)
        self.played = np.zeros(capacity, np.int64)  # decisions on each drop
        self.slot = np.full(n, -1)  # where each environment's drop lies
        self.drops = np.zeros(1, np.int64)  # that have been added

    @property
    def size(self) -> int:
        """Number of drops that are kept."""
        return min(int(self.drops[0]), len(self.played))

    def fresh(self, observation: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether the environments have moved on to other drops."""
        return bool((self.slot < 0).any() or (self.observation["comm"][self.slot] != observation["comm"]).any())

    def add(self, observation: Mapping[str, NDArray[Any]], sets: NDArray[np.bool_], rewards: NDArray[Any]) -> None:
        """Keep a decision of every environment; drops that are new take the place of the oldest."""
        if self.fresh(observation):
            self.slot[:] = (self.drops + np.arange(len(self.slot))) % len(self.played)
            self.drops += len(self.slot)
            for key, stored in self.observation.items():
                stored[self.slot] = observation[key]
            self.played[self.slot], self.rewards[self.slot] = 0, np.nan
        place = self.played[self.slot] % self.rewards.shape[1]
        self.sets[self.slot, place], self.rewards[self.slot, place] = sets, rewards
        self.played[self.slot] += 1

    def at(self, rows: NDArray[np.int64]) -> PlayedDrops:
        """The drops at some places."""
        observation = {key: stored[rows] for key, stored in self.observation.items()}
        return PlayedDrops(observation, self.sets[rows], self.rewards[rows])

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        own = {name: getattr(self, name) for name in ("sets", "rewards", "played", "slot", "drops")}
        return {**own, **{f"observation.{key}": stored for key, stored in self.observation.items()}}


class DropReplay(ReplayBuffer):
    """A ring of drops for every size, in the place of Stable-Baselines3's ring of transitions.

    Args:
        buffer_size: decisions that are kept of each size.
        observation_space: not used; observations say how large they are.
        action_space: not used.
        device: that Stable-Baselines3 names; everything stays in NumPy.
        n_envs: environments that step together at first.
        optimize_memory_usage: not used.
        decisions: D, decisions a drop that are kept; later ones replace the oldest.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: Any = "cpu",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        decisions: int = 10,
    ) -> None:
        self.n_envs, self.device, self.handle_timeout_termination = n_envs, device, False
        self.capacity, self.decisions = buffer_size // decisions, decisions
        self.rings: dict[str, Ring] = {}
        self._ring: Ring | None = None

    def size(self) -> int:
        """Number of drops that are kept."""
        return sum(ring.size for ring in self.rings.values())

    def fresh(self, observation: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether the environments have moved on to other drops."""
        ring = self.rings.get(_name(observation))
        return ring is None or ring is not self._ring or ring.fresh(observation)

    def add(self, observation: Any, next_observation: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Keep a step of every environment."""
        name = _name(observation)
        if name not in self.rings:
            self.rings[name] = Ring(self.capacity, self.decisions, observation)
        self._ring = self.rings[name]
        self._ring.add(observation, np.asarray(action)[..., 0] >= 0.0, reward)

    def current(self) -> PlayedDrops:
        """The drops that the environments are at."""
        assert self._ring is not None
        return self._ring.at(self._ring.slot)

    def draw(self, batch_size: int, rng: np.random.Generator) -> PlayedDrops:
        """Some drops of one size, without replacement; of a size that fewer environments play, fewer in proportion.

        Args:
            batch_size: drops of the size of which the most environments play, where there are so many.
            rng: draws the size, each as often, and the drops.
        """
        rings = list(self.rings.values())
        ring = rings[int(rng.integers(len(rings)))]
        wanted = -(-batch_size * len(ring.slot) // max(len(other.slot) for other in rings))
        return ring.at(rng.choice(ring.size, min(wanted, ring.size), replace=False))

    def state(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Everything, for a checkpoint."""
        return {name: ring.state() for name, ring in self.rings.items()}

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what `state` gave, as arrays or tensors."""
        for name, stored in state.items():
            arrays = {key: np.asarray(value) for key, value in stored.items()}
            observation = {key: arrays[f"observation.{key}"][: len(arrays["slot"])] for key in KEYS}
            self.rings[name] = ring = Ring(self.capacity, self.decisions, observation)
            for key, array in ring.state().items():
                array[...] = arrays[key]


def _name(observation: Mapping[str, NDArray[Any]]) -> str:
    M, K = np.shape(observation["comm"])[1:3]
    return f"{M}x{K}"
