"""Labels for the `hetgnn` commands: from folders, with training and validation apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.coverage import trained_fields
from agents.hetgnn.labels import Labels
from agents.hetgnn.labels import read as read_shards
from cfisac_env import PRESETS, SystemConfig
from cfisac_env.config import nearest


def read(folder: Path, presets: Sequence[str], drops: int | None, warn: Callable[[str], None]) -> list[Labels]:
    """Read the labels in a folder, skipping damaged files.

    Args:
        presets: to use; empty for all.
        drops: of each configuration, the first ones; None for all.
        warn: called with a line about every skipped file or repeated drop.

    Raises:
        FileNotFoundError: there are no files.
        ValueError: none of them can be used.
    """
    if drops is not None and drops < 1:
        raise ValueError(f"--drops must be 1 or more, got {drops}; leave it out to use every label")
    unknown = [name for name in presets if name not in PRESETS]
    if unknown:
        raise ValueError(
            f"unknown preset {unknown[0]!r}{nearest(unknown[0], list(PRESETS))}; valid presets: {', '.join(PRESETS)}"
        )
    shards, damaged = read_shards(folder)
    for line in damaged:
        warn(line)
    chosen: list[Labels] = []
    seen: dict[SystemConfig, set[int]] = {shard.config: set() for shard in shards}
    for shard in shards:
        if presets and shard.config.preset not in presets:
            continue
        known = seen[shard.config]
        new = np.array([seed not in known for seed in shard.seeds.tolist()])
        if not new.all():
            warn(
                f"{(~new).sum()} of the drops of {shard.policy} from seed {shard.seeds[0]} on, which another file labels, too"
            )
        if drops is not None:
            new &= np.cumsum(new) <= drops - len(known)
        if new.any():
            chosen.append(shard if new.all() else shard[new])
            known.update(chosen[-1].seeds.tolist())
    if not chosen:
        raise ValueError(f"no label file in {folder} can be used" + (f" for {', '.join(presets)}" if presets else ""))
    return chosen


def check_seeds(labels: Sequence[Labels], validation: Sequence[Labels]) -> None:
    """Validate that no drop is in both."""
    for ours in labels:
        for theirs in validation:
            if ours.config == theirs.config and (both := set(ours.seeds.tolist()) & set(theirs.seeds.tolist())):
                raise ValueError(
                    f"seed {min(both)} of {ours.config.preset} {ours.config.M}x{ours.config.K} is in the training and in the "
                    "validation labels; label the validation with another --seed"
                )


def describe(shards: Sequence[Labels]) -> dict[str, Any]:
    """Describe labels for the provenance of weights: numbers of drops, configurations, oracles and seeds."""
    sizes: dict[str, int] = {}
    for shard in shards:
        key = f"{shard.config.preset} {shard.config.M}x{shard.config.K}"
        sizes[key] = sizes.get(key, 0) + int(shard.feasible.sum())
    trained = [trained_fields(shard.config, every_size=True) for shard in shards]
    return {
        "drops": sum(sizes.values()),
        "by_size": sizes,
        "configurations": [fields for i, fields in enumerate(trained) if fields not in trained[:i]],
        "oracles": sorted({shard.policy for shard in shards}),
        "seeds": [int(min(s.seeds.min() for s in shards)), int(max(s.seeds.max() for s in shards))],
    }
