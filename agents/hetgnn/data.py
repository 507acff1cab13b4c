"""Labelled drops as batches of graphs. A batch has one size, so that it is dense; an epoch shuffles sizes and drops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.hetgnn.graph import Graph, build
from agents.hetgnn.labels import Labels
from cfisac_env import observations


@dataclass(frozen=True, eq=False)
class Labelled:
    """B labelled drops of one size."""

    graph: Graph
    active: Tensor  # (B, M) bool
    power: Tensor  # (B, M, K) over P_max
    total_power_w: Tensor  # (B,)

    def to(self, device: torch.device) -> Labelled:
        """Move to a device."""
        return Labelled(
            self.graph.to(device), self.active.to(device), self.power.to(device), self.total_power_w.to(device)
        )

    def __len__(self) -> int:
        return len(self.active)

    def __getitem__(self, index: Tensor) -> Labelled:
        """Select drops."""
        return Labelled(self.graph[index], self.active[index], self.power[index], self.total_power_w[index])


def prepare(shards: Sequence[Labels]) -> list[Labelled]:
    """Group labels by configuration, without the drops that their oracle didn't serve.

    Raises:
        ValueError: no drop is left.
    """
    configs = {json: [s for s in shards if str(s.config) == json] for json in sorted({str(s.config) for s in shards})}
    groups = []
    for same in configs.values():
        served = np.concatenate([shard.feasible for shard in same])
        if not served.any():
            continue
        encoded = [observations.encode(shard.drops()) for shard in same]
        observation = {key: np.concatenate([one[key] for one in encoded])[served] for key in encoded[0]}
        power = np.concatenate([shard.power for shard in same])[served] / same[0].config.max_ap_power_w
        groups.append(
            Labelled(
                build(observation),
                *(
                    torch.as_tensor(array, device="cpu")
                    for array in (
                        np.concatenate([shard.active for shard in same])[served],
                        power,
                        np.concatenate([shard.total_power_w for shard in same])[served],
                    )
                ),
            )
        )
    if not groups:
        raise ValueError("no labelled drop is served by its oracle: there is nothing to learn from")
    return groups


class BatchSampler:
    """Sampler of batches of about the same number of AP–user edges, and thus the same cost.

    Args:
        edges: AP–user edges per batch; a larger drop is a batch of its own.
        seed: of the order, which differs from epoch to epoch; None keeps the order of the groups.
    """

    def __init__(self, groups: Sequence[Labelled], edges: int, seed: int | None) -> None:
        self._groups, self._edges, self._seed = groups, edges, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Iterate over an epoch's batches: the index of a group and rows of it."""
        rng = None if self._seed is None else torch.Generator().manual_seed(self._seed * 100_003 + self.epoch)

        def order(count: int) -> Tensor:
            return (
                torch.arange(count, device="cpu") if rng is None else torch.randperm(count, generator=rng, device="cpu")
            )

        batches = []
        for i, group in enumerate(self._groups):
            batches += [(i, rows) for rows in torch.split(order(len(group)), self._size(group))]
        return iter([batches[i] for i in order(len(batches)).tolist()])

    def __len__(self) -> int:
        return sum(-(-len(group) // self._size(group)) for group in self._groups)

    def _size(self, group: Labelled) -> int:
        return max(1, self._edges // (group.power.shape[1] * group.power.shape[2]))
