"""Sources of drops for environments: random ones, or those of a user-supplied `Scenario`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cfisac_env import observations
from cfisac_env.backend import Backend
from cfisac_env.config import REQUIREMENT_FIELDS, SystemConfig, nearest
from cfisac_env.sampling import RandomInputs, build, sample
from cfisac_env.scenario import Scenario

_MAX_BLOCK = 64  # drops generated together, to amortise NumPy's overhead per call
_MAX_BLOCK_LINKS = 2**17  # limit for large drops


class Block:
    """Batch of drops with their observations."""

    def __init__(self, scenario: Scenario, observation: observations.Observation | None = None) -> None:
        self.scenario = scenario
        self.problem = scenario.problem
        self.observation = observations.encode(scenario) if observation is None else observation

    def observe(self, index: int, previous_active: Any = None) -> observations.Observation:
        """Return a copy of the observation of drop `index`."""
        observation = {key: value[index].copy() for key, value in self.observation.items()}
        if previous_active is not None:
            observation["ap"][:, 2] = previous_active
        return observation

    def required(self, config: SystemConfig) -> Block:
        """Return the same drops with other requirements."""
        observation = dict(self.observation)
        requirement = np.empty_like(observation["requirement"])
        requirement[...] = observations.requirement(config)
        observation["requirement"] = requirement
        return Block(replace(self.scenario, config=config), observation)


class DropSource:
    """Source of drops for an environment.

    Attributes:
        count: number of selectable drops; None for random ones.
    """

    count: int | None = None

    def __init__(self, config: SystemConfig) -> None:
        self.config = config
        self.block: Block | None = None
        self.restart()

    def first(self, rng: np.random.Generator, drop: int | None = None) -> tuple[Block, int]:
        """Return the drop of a new episode, as a block and an index into it; `drop` selects one of `count`."""
        raise NotImplementedError

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """Return the next instant of the same episode."""
        raise NotImplementedError

    def restart(self) -> None:
        """Discard prepared drops after reseeding."""
        raise NotImplementedError

    def configure(self, config: SystemConfig) -> None:
        """Change the requirements."""
        self.config = config
        if self.block is not None:
            self.block = self.block.required(config)


class RandomDrops(DropSource):
    """Random drops of a configuration; later instants of an episode keep APs, receivers and targets.

    Random numbers are used drop by drop, in the order of play. Where an episode is one drop, up to 64 are prepared together, starting with
    one after seeding and doubling each time, so that both frequent seeding and long runs are efficient.
    """

    def __init__(self, config: SystemConfig, episode_steps: int = 1) -> None:
        links = config.M * config.K
        # Greedy pilots depend on P_max, which may change between any two drops.
        one_by_one = episode_steps > 1 or (config.pilots_reused and config.pilot_assignment == "greedy")
        self._most = 1 if one_by_one else max(1, min(_MAX_BLOCK, _MAX_BLOCK_LINKS // links))
        super().__init__(config)

    def restart(self) -> None:
        """Discard prepared drops."""
        self.block = None
        self._network: Scenario | None = None
        self._index = 0
        self._size = 1

    def first(self, rng: np.random.Generator, drop: int | None = None) -> tuple[Block, int]:
        """Return a new network with its first users."""
        if self.block is None or self._network is not None or self._index + 1 >= len(self.block.scenario):
            inputs = RandomInputs(self.config, (self._size,))
            for i in range(self._size):
                inputs.fill(rng, i)
            self.block = Block(build(self.config, inputs))
            self._index = -1
            self._size = min(2 * self._size, self._most)
        self._index += 1
        self._network = None
        return self.block, self._index

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """Return new users and channels in the same network."""
        if self.block is None:
            raise RuntimeError("an episode has to begin with first() before next()")
        if self._network is None:
            self._network = self.block.scenario[self._index]
        self.block = Block(sample(self.config, rng, 1, network=self._network))
        self._index = 0
        return self.block, 0


class StoredDrops(DropSource):
    """Drops of a `Scenario`, played in order and repeatedly."""

    def __init__(self, scenario: Scenario) -> None:
        if len(scenario.batch_shape) > 1:
            raise ValueError(
                f"drops must have one leading axis, got {scenario.batch_shape}; index or reshape the Scenario first"
            )
        drops = scenario.batch()
        super().__init__(drops.config)
        self.block: Block = Block(drops)
        self.count: int = len(drops)

    def restart(self) -> None:
        """Go back to the first drop."""
        self._index = -1

    def first(self, rng: np.random.Generator, drop: int | None = None) -> tuple[Block, int]:
        """Return the selected drop, or the next one."""
        self._index = (self._index + 1) % self.count if drop is None else drop
        return self.block, self._index

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """Return the next drop."""
        return self.first(rng)


def chosen_drop(options: Mapping[str, Any] | None, count: int | None) -> int | None:
    """Return the drop selected by the options of a reset; None is the next.

    Raises:
        TypeError: options that are no mapping.
        ValueError: an unknown option, a drop out of range, or a selection among random drops.
    """
    if options is None:
        return None
    check_options(options, () if count is None else ("drop",))
    if (drop := options.get("drop")) is None:
        return None
    if isinstance(drop, bool) or not isinstance(drop, int | np.integer) or not 0 <= drop < (count or 0):
        raise ValueError(f"options['drop'] must be a whole number from 0 to {(count or 0) - 1}, got {drop!r}")
    return int(drop)


def check_options(options: Mapping[str, Any] | None, known: tuple[str, ...]) -> None:
    """Refuse unknown options of a reset."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options must be a dict or None, got {options!r}")
    for name in options or {}:
        if name == "drop" and name not in known:
            raise ValueError(
                "options['drop'] picks one of given drops, but this environment draws its own; "
                "make it with drops=<a Scenario or the path of a drops file>"
            )
        if name not in known:
            hint = nearest(name, list(known)) if isinstance(name, str) else ""
            raise ValueError(f"reset has no option {name!r}{hint}; it has {', '.join(known) or 'none'}")


def load(drops: str | os.PathLike[str] | Scenario, fields: dict[str, Any]) -> Scenario:
    """Load the drops of a file or a `Scenario`, with requirements changed by `fields` of the configuration.

    Raises:
        ValueError: no drops, other sizes, or a field that the gains depend on.
        TypeError: neither a path nor a Scenario.
    """
    if isinstance(drops, str | os.PathLike):
        drops = Scenario.load(drops)
    if not isinstance(drops, Scenario):
        raise TypeError(f"drops must be the path of a drops file or a Scenario, got {type(drops).__name__}")
    if 0 in drops.batch_shape:
        raise ValueError(f"drops must hold one drop at least, got a Scenario of leading axes {drops.batch_shape}")
    wanted = drops.config.changed(**fields)
    for name in fields:
        ours, theirs = getattr(wanted, name), getattr(drops.config, name)
        if name not in REQUIREMENT_FIELDS and ours != theirs:
            raise ValueError(
                f"{name}={ours!r} doesn't fit the drops, which were made with {name}={theirs!r}; leave it out. "
                f"Only {', '.join(REQUIREMENT_FIELDS)} may change on given drops"
            )
    return replace(drops.to(Backend("numpy", "cpu")), config=wanted)
