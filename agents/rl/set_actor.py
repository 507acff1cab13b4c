"""An actor that builds a set of APs one by one: scores of the next AP given those before, and the growth of sets along such scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.graph import Graph
from agents.hetgnn.network import Embedding, HetGnn
from baselines.allocation.closed_form import ScaledDrops

Bools = NDArray[np.bool_]

NETWORK = NetworkConfig(layers=2, edge_widths=(32,), node_widths=(32, 32), head_width=32, edge_updates=False)
"""Sizes of the layers of actor and critic."""

POWER_HEADS = ("power_head", "user_head", "target_head")

SLACK = 10
"""A set that isn't served with 2 n_min + SLACK APs is left to the exact allocator."""


class SetActor(nn.Module):
    """Layers of the HetGNN and its head for the next AP of a set; no weight depends on the size of a drop.

    Args:
        network: sizes of the layers.
    """

    optimizer: torch.optim.Optimizer

    def __init__(self, network: NetworkConfig = NETWORK) -> None:
        super().__init__()
        self.network = HetGnn(network)
        for name in POWER_HEADS:
            delattr(self.network, name)

    def embed(self, graph: Graph) -> Embedding:
        """The embedding of B drops."""
        return self.network.embed(graph)

    def forward(self, embedding: Embedding, on: Tensor) -> Tensor:
        """Scores (B, M) of every AP as the next of the sets `on` (B, M) bool; −∞ for those that are in."""
        return self.network.propose(embedding, on).masked_fill(on, -torch.inf)


Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Grown:
    """Sets that grew along scores."""

    sets: Bools  # (n, M)
    served: Bools  # (n,) whether closed-form powers serve them
    ranking: NDArray[np.int64]  # (n, M) every AP, those of the set in the order in which they came first


@torch.no_grad()
def grow(
    score: Score,
    scaled: ScaledDrops,
    fewest: NDArray[np.int64],
    completions: int,
    drop: NDArray[np.int64] | None = None,
    noise: NDArray[np.float64] | None = None,
) -> Grown:
    """Add the AP of the highest score until closed-form powers serve the set.

    From n_min on, the set so far is priced with each of the `completions` APs of the highest scores; the cheapest that serves ends it.

    Args:
        score: of every AP (n, M) as the next one, for n of the drops and a set (n, M) of each.
        scaled: B drops.
        fewest: (B,) n_min.
        completions: APs that are priced as the last one.
        drop: (n,) the drop of each set; None for one set a drop.
        noise: (n, M) added to the scores throughout; None for none.
    """
    drop = np.arange(len(fewest)) if drop is None else drop
    n, M = len(drop), scaled.gain.shape[1]
    sets, served = np.zeros((n, M), dtype=bool), np.zeros(n, dtype=bool)
    order, most = np.full((n, M), np.inf), np.minimum(M, 2 * fewest[drop] + SLACK)
    live = np.arange(n)
    for size in range(1, M + 1):
        live = live[most[live] >= size]
        if len(live) == 0:
            break
        scores = score(torch.from_numpy(drop[live]), torch.from_numpy(sets[live])).numpy().astype(np.float64)
        if noise is not None:
            scores += noise[live]
        best = np.argsort(-scores, axis=1, kind="stable")[:, : min(completions, M - size + 1)]
        chosen = best[:, 0].copy()
        ready = fewest[drop[live]] <= size
        if ready.any():
            trying = live[ready]
            tried = np.repeat(sets[trying][:, None], best.shape[1], axis=1)
            np.put_along_axis(tried, best[ready][..., None], True, axis=2)
            totals = scaled.transmit_power(tried.reshape(-1, M), np.repeat(drop[trying], best.shape[1]))
            totals = totals.reshape(len(trying), -1)
            cheapest = totals.argmin(1)
            good = np.isfinite(totals[np.arange(len(trying)), cheapest])
            chosen[np.flatnonzero(ready)[good]] = best[ready][good, cheapest[good]]
            served[trying[good]] = True
        sets[live, chosen] = True
        order[live, chosen] = size
        rest = ~served[live]
        late = np.where(sets[live], order[live], M + 1.0 + np.argsort(np.argsort(-scores, axis=1), axis=1))
        order[live] = np.where(np.isinf(order[live]) | ~sets[live], late, order[live])
        live = live[rest]
    return Grown(sets, served, np.argsort(order, axis=1, kind="stable"))
