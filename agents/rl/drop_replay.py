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


class DropReplay(ReplayBuffer):
    """A ring of drops, in the place of Stable-Baselines3's ring of transitions.

    Args:
        buffer_size: decisions that are kept.
        observation_space: of a `CfIsac` environment.
        action_space: of `CfIsac-v0`.
        device: that Stable-Baselines3 names; everything stays in NumPy.
        n_envs: environments that step together.
        optimize_memory_usage: not used.
        decisions: D, decisions a drop that are kept; later ones replace the oldest.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        device: Any = "cpu",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        decisions: int = 10,
    ) -> None:
        self.n_envs, self.device, self.handle_timeout_termination = n_envs, device, False
        capacity = max(2 * n_envs, buffer_size // decisions)
        self.observation = {
            key: np.zeros((capacity, *(observation_space[key].shape or ())), np.float32) for key in KEYS
        }
        self.sets = np.zeros((capacity, decisions, action_space.shape[0]), dtype=bool)
        self.rewards = np.full((capacity, decisions), np.nan, np.float32)
        self.played = np.zeros(capacity, np.int64)  # decisions on each drop
        self.slot = np.full(n_envs, -1)  # where each environment's drop lies
        self.drops = 0  # that have been added

    def size(self) -> int:
        """Number of drops that are kept."""
        return min(self.drops, len(self.played))

    def fresh(self, observation: dict[str, NDArray[Any]]) -> bool:
        """Whether the environments have moved on to other drops."""
        return bool((self.slot < 0).any() or (self.observation["comm"][self.slot] != observation["comm"]).any())

    def add(self, observation: Any, next_observation: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Keep a step of every environment; drops that are new take the place of the oldest."""
        if self.fresh(observation):
            self.slot = (self.drops + np.arange(len(self.slot))) % len(self.played)
            self.drops += len(self.slot)
            for key, stored in self.observation.items():
                stored[self.slot] = observation[key]
            self.played[self.slot], self.rewards[self.slot] = 0, np.nan
        place = self.played[self.slot] % self.rewards.shape[1]
        self.sets[self.slot, place] = np.asarray(action)[..., 0] >= 0.0
        self.rewards[self.slot, place] = reward
        self.played[self.slot] += 1

    def current(self) -> PlayedDrops:
        """The drops that the environments are at."""
        return self.at(self.slot)

    def draw(self, batch_size: int, rng: np.random.Generator) -> PlayedDrops:
        """Some drops, drawn without replacement where there are enough."""
        size = self.size()
        return self.at(rng.choice(size, min(batch_size, size), replace=False))

    def at(self, rows: NDArray[np.int64]) -> PlayedDrops:
        """The drops at some places."""
        observation = {key: stored[rows] for key, stored in self.observation.items()}
        return PlayedDrops(observation, self.sets[rows], self.rewards[rows])

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, for a checkpoint."""
        count = {"drops": np.array(self.drops)}
        arrays = {"sets": self.sets, "rewards": self.rewards, "played": self.played, "slot": self.slot}
        return {**count, **arrays, **{f"observation.{key}": stored for key, stored in self.observation.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, as arrays or tensors."""
        for name, array in self.state().items():
            if name != "drops":
                array[...] = np.asarray(state[name])
        self.drops = int(state["drops"])
