"""Where an environment gets its drops from: drawn at random, or played from a `Scenario` that the user brings."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from cfisac_env import observations
from cfisac_env.config import SystemConfig
from cfisac_env.sampling import RandomInputs, build, sample
from cfisac_env.scenario import Scenario

_BLOCK = 64  # drops drawn at once: NumPy's overhead a call is then shared by that many resets
_BLOCK_LINKS = 2**17  # fewer when drops are large

REQUIREMENT_FIELDS = (
    "sinr_threshold_db", "crlb_threshold_m2", "max_ap_power_w", "circuit_power_w", "sinr_penalty", "crlb_penalty",
)  # fmt: skip
"""Configuration fields that may change on given drops, because no gain or estimate depends on them."""


class Block:
    """Some drops with their observations, handed out one after the other."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.problem = scenario.problem
        self.observation = observations.encode(scenario)

    def observe(self, index: int, previous_active: Any = None) -> observations.Observation:
        """A fresh copy of the observation of drop `index`."""
        observation = {key: value[index].copy() for key, value in self.observation.items()}
        if previous_active is not None:
            observation["ap"][:, 2] = previous_active
        return observation


class DropSource(Protocol):
    """What `CfIsacEnv` asks of a source; write your own to play other dynamics."""

    def first(self, rng: np.random.Generator, options: dict[str, Any]) -> tuple[Block, int]:
        """The drop of a new episode, as a block and an index into it."""

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """The next instant of the same episode."""

    def restart(self) -> None:
        """Forget everything prepared: the generator has been seeded anew."""


class RandomDrops:
    """Fresh drops from a configuration; later instants of an episode keep APs, receivers and targets.

    The generator's numbers are used drop by drop, in the order in which drops are played. Where an episode is one drop, up to 64 are
    prepared at once, twice as many each time after a seeding, so a seed costs one drop and a long run little a drop.
    """

    def __init__(self, config: SystemConfig, episode_steps: int = 1) -> None:
        self.config = config
        links = config.M * config.K
        self._most = max(1, min(_BLOCK, _BLOCK_LINKS // links)) if episode_steps == 1 else 1
        self.restart()

    def restart(self) -> None:
        """Forget the drops prepared."""
        self._block: Block | None = None
        self._network: Scenario | None = None
        self._index = 0
        self._size = 1

    def first(self, rng: np.random.Generator, options: dict[str, Any]) -> tuple[Block, int]:
        """A new network with its first users."""
        if self._block is None or self._network is not None or self._index + 1 >= len(self._block.scenario):
            inputs = RandomInputs(self.config, (self._size,))
            for i in range(self._size):
                inputs.fill(rng, i)
            self._block = Block(build(self.config, inputs))
            self._index = -1
            self._size = min(2 * self._size, self._most)
        self._index += 1
        self._network = None
        return self._block, self._index

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """New users and channels in the same network."""
        if self._block is None:
            raise RuntimeError("an episode has to begin with first() before next()")
        if self._network is None:
            self._network = self._block.scenario[self._index]
        self._block = Block(sample(self.config, rng, 1, network=self._network))
        self._index = 0
        return self._block, 0


class StoredDrops:
    """The drops of a `Scenario`, in order and from the beginning again; `reset(options={"drop": i})` goes to drop i."""

    def __init__(self, scenario: Scenario) -> None:
        if len(scenario.batch_shape) > 1:
            raise ValueError(
                f"drops must have one leading axis, got {scenario.batch_shape}; index or reshape the Scenario first"
            )
        self._block = Block(scenario.batch())
        self._count = len(self._block.scenario)
        self.restart()

    def restart(self) -> None:
        """Go back to the first drop."""
        self._index = -1

    def first(self, rng: np.random.Generator, options: dict[str, Any]) -> tuple[Block, int]:
        """The next drop, or the one that `options["drop"]` names."""
        self._index = checked_drop(options.get("drop", (self._index + 1) % self._count), self._count)
        return self._block, self._index

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """The drop after this one."""
        return self.first(rng, {})


def checked_drop(drop: Any, count: int) -> int:
    """The index of one of `count` drops, or a ValueError."""
    if not isinstance(drop, int | np.integer) or not 0 <= drop < count:
        raise ValueError(f"options['drop'] must be a whole number from 0 to {count - 1}, got {drop!r}")
    return int(drop)


def load(drops: str | os.PathLike[str] | Scenario, fields: dict[str, Any]) -> Scenario:
    """The drops of a file or a `Scenario`, asked for what `fields` of the configuration say.

    Raises:
        ValueError: a size other than the drops', or a field on which gains depend.
        TypeError: neither a path nor a Scenario.
    """
    if isinstance(drops, str | os.PathLike):
        drops = Scenario.load(drops)
    if not isinstance(drops, Scenario):
        raise TypeError(f"drops must be the path of a drops file or a Scenario, got {type(drops).__name__}")
    wanted = replace(drops.config, **fields) if fields else drops.config
    for name in fields:
        ours, theirs = getattr(wanted, name), getattr(drops.config, name)
        if name not in REQUIREMENT_FIELDS and ours != theirs:
            raise ValueError(
                f"{name}={ours!r} doesn't fit the drops, which were made with {name}={theirs!r}; leave it out. "
                f"Only {', '.join(REQUIREMENT_FIELDS)} may change on given drops"
            )
    return replace(drops, config=wanted)
