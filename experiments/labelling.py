"""Labelling of many sizes and presets: the plan of shards, and the labelling of those that are missing."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.hetgnn.labels import Labels, check_seeds, check_shard, label
from cfisac_env import SystemConfig
from experiments.parallel import in_order


@dataclass(frozen=True)
class Shard:
    """Drops of one file, labelled by one worker."""

    config: SystemConfig
    policy: str
    first: int  # seed
    count: int

    @property
    def name(self) -> str:
        """File name."""
        last = self.first + self.count - 1
        config = self.config
        plain = SystemConfig(M=config.M, K=config.K, preset=config.preset)
        own = "" if config == plain else f"-{zlib.crc32(str(config).encode()):08x}"
        return f"{config.preset}-{config.M}x{config.K}{own}-{self.policy}-{self.first:06d}-{last:06d}.npz"

    def make(self) -> Labels:
        """Label the drops."""
        return label(self.config, range(self.first, self.first + self.count), self.policy)

    def present(self, folder: Path) -> bool:
        """Return whether the folder holds the shard already.

        Raises:
            FileExistsError: a file of its name holds other labels.
            ValueError: the file is damaged.
        """
        path = folder / self.name
        if not path.exists():
            return False
        found = Labels.load(path)
        seeds = np.arange(self.first, self.first + self.count)
        if found.config != self.config or found.policy != self.policy or not np.array_equal(found.seeds, seeds):
            raise FileExistsError(
                f"{path} holds labels of another configuration, oracle or seeds; choose another --out"
            )
        return True


def plan(configs: Sequence[SystemConfig], drops: int, seed: int, policy: str, size: int) -> list[Shard]:
    """Plan all shards, alternating the configurations, so that an unfinished run has some of each.

    Args:
        drops: of each configuration.
        size: drops per shard.

    Raises:
        ValueError: a seed is reserved for testing, or a shard is too large.
    """
    check_seeds(seed, drops)
    for config in configs:
        check_shard(config, min(size, drops))
    starts = range(seed, seed + drops, size)
    return [
        Shard(config, policy, start, min(size, seed + drops - start))
        for start, config in itertools.product(starts, configs)
    ]


def missing(shards: Sequence[Shard], folder: Path, warn: Callable[[str], None]) -> list[Shard]:
    """Return the shards that are missing or damaged, with a warning about the latter."""
    rest = []
    for shard in shards:
        try:
            if shard.present(folder):
                continue
        except ValueError as error:
            warn(f"damaged, labelled again: {error}")
        rest.append(shard)
    return rest


def run(
    shards: Sequence[Shard], folder: Path, *, workers: int | None = None, ray: str | None = None
) -> Iterator[Labels]:
    """Label shards and write each as soon as it is done."""
    for shard, labels in zip(shards, in_order(Shard.make, shards, workers=workers, ray=ray), strict=True):
        labels.save(folder / shard.name)
        yield labels
