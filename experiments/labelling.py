"""Labelling of many sizes and presets: the plan of shards, and the labelling of those that are missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.hetgnn.labels import Labels, check_seeds, check_shard, label
from cfisac_env import SystemConfig
from experiments.parallel import in_order
from experiments.sizes import configurations


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
        return f"{self.config.preset}-{self.config.M}x{self.config.K}-{self.policy}-{self.first:06d}-{last:06d}.npz"

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


def plan(
    presets: Sequence[str], sizes: Sequence[str], drops: int, seed: int, policy: str, size: int, fields: dict[str, Any]
) -> list[Shard]:
    """Plan all shards, alternating sizes and presets, so that an unfinished run has some of each.

    Args:
        sizes: such as `50x10`.
        drops: for each size of each preset.
        size: drops per shard.

    Raises:
        ValueError: a seed is reserved for testing, a size is invalid, a shard is too large, or `SystemConfig` refuses a field.
    """
    check_seeds(seed, drops)
    configs = configurations(presets, sizes, fields)
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
