"""What the `hetgnn` commands share: labels from folders, kept apart by their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.hetgnn.labels import Labels
from agents.hetgnn.labels import read as read_shards


def read(folder: Path, presets: Sequence[str], drops: int | None, complain: Callable[[str], None]) -> list[Labels]:
    """The labels in a folder; damaged files are named and skipped.

    Args:
        folder: of `cfisac label`.
        presets: to use; empty for all.
        drops: of each configuration, the first ones; None for all.
        complain: gets a line for every file that is skipped.

    Raises:
        FileNotFoundError: there are no files.
        ValueError: none of them can be used.
    """
    shards, damaged = read_shards(folder)
    for line in damaged:
        complain(line)
    chosen, seen = [], dict.fromkeys([shard.config for shard in shards], 0)
    for shard in shards:
        rest = len(shard) if drops is None else min(len(shard), drops - seen[shard.config])
        if rest > 0 and (not presets or shard.config.preset in presets):
            chosen.append(shard if rest == len(shard) else first(shard, rest))
            seen[shard.config] += rest
    if not chosen:
        raise ValueError(f"no label file in {folder} can be used" + (f" for {', '.join(presets)}" if presets else ""))
    return chosen


def first(shard: Labels, count: int) -> Labels:
    """The first drops of a shard."""
    arrays = ("seeds", "feasible", "active", "power", "total_power_w", "lower_bound_w", "seconds", "fingerprint")
    return replace(shard, **{name: getattr(shard, name)[:count] for name in arrays})


def check_seeds(labels: Sequence[Labels], validation: Sequence[Labels]) -> None:
    """Refuse drops that are in both.

    Raises:
        ValueError: naming a configuration and a seed.
    """
    for ours in labels:
        for theirs in validation:
            if ours.config == theirs.config and (both := set(ours.seeds.tolist()) & set(theirs.seeds.tolist())):
                raise ValueError(
                    f"seed {min(both)} of {ours.config.preset} {ours.config.M}x{ours.config.K} is in the training and in the "
                    "validation labels; label the validation with another --seed"
                )


def describe(shards: Sequence[Labels]) -> dict[str, Any]:
    """What a model card says about labels."""
    sizes: dict[str, int] = {}
    for shard in shards:
        key = f"{shard.config.preset} {shard.config.M}x{shard.config.K}"
        sizes[key] = sizes.get(key, 0) + int(shard.feasible.sum())
    return {
        "drops": sum(sizes.values()),
        "by_size": sizes,
        "oracles": sorted({shard.policy for shard in shards}),
        "seeds": [int(min(s.seeds.min() for s in shards)), int(max(s.seeds.max() for s in shards))],
    }
