"""A critic of sets of APs: the reward of exactly this set, and the best reward of a set that contains it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.graph import Graph
from agents.hetgnn.network import Embedding, HetGnn, Joint, mlp
from agents.rl.set_actor import NETWORK, POWER_HEADS

TINY = 1e-12


class SetCritic(nn.Module):
    """Values of sets of a drop, as corrections to −log(n/n_min).

    A set is described by the sum of its APs' embeddings; for each user by Σv, (Σ√v)² and Σς, for each target by the Fisher sum; and by its
    size. All sums are products with the indicator of the set, so that a thousand sets of a drop cost little more than one.

    Args:
        network: sizes of the layers.
        width: of the MLPs behind them.
    """

    optimizer: torch.optim.Optimizer

    def __init__(self, network: NetworkConfig = NETWORK, width: int = 64) -> None:
        super().__init__()
        self.network = HetGnn(network)
        for name in (*POWER_HEADS, "activation_head"):
            delattr(self.network, name)
        node = network.node_widths[-1]
        self.user = Joint({"set": 4, "node": node}, (24,), 16)
        self.target = Joint({"set": 2, "node": node}, (16,), 8)
        self.head = mlp(2 * node + 2 * (16 + 8) + 3, (width, width), 2)
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]

    def embed(self, graph: Graph) -> Embedding:
        """The embedding of B drops."""
        return self.network.embed(graph)

    def forward(self, embedding: Embedding, sets: Tensor) -> Tensor:
        """Values (B, n, 2) of sets (B, n, M) bool: of this set, and of the best that contains it."""
        drops, mask = embedding.drops, sets.to(embedding.ap.dtype)
        size = mask.sum(-1, keepdim=True)
        gamma = drops.sinr_threshold[:, None, None]
        v, gain = torch.exp(drops.log_estimate), torch.exp(drops.log_gain)
        total = torch.log(mask @ v + TINY)
        coherent = 2.0 * torch.log(mask @ torch.sqrt(v) + TINY)
        interference = torch.log1p(mask @ gain)
        users = torch.stack(
            [total / 4.0, coherent - total, interference / 4.0, (total - torch.log(gamma) - interference).clamp(-6.0, 6.0)], -1
        )  # fmt: skip
        B, S = len(mask), drops.fisher.shape[2]
        a, b, c = (mask @ drops.fisher.flatten(2)).reshape(*mask.shape[:2], S, 3).unbind(-1)
        trace = (a + b).clamp(min=1e-6)
        shape = ((a * b - c * c) / trace**2).clamp(min=1e-6)
        targets = torch.stack([torch.log(trace), (torch.log(trace) + torch.log(shape)).clamp(-6.0, 6.0)], -1)
        pooled = []
        for module, features, nodes in ((self.user, users, embedding.ue), (self.target, targets, embedding.target)):
            each = module(module.part("set", features), module.part("node", nodes)[:, None])
            pooled += [each.mean(2), each.amax(2)]
        least = torch.log(gamma * users.shape[2] + 1.0).expand(B, mask.shape[1], 1)
        log_size = torch.log(size.clamp(min=1.0))
        summed = mask @ embedding.ap
        seen = torch.cat([summed / 4.0, summed / size.clamp(min=1.0), *pooled, log_size, log_size - least, least], -1)
        base = least - torch.maximum(log_size, least)
        values: Tensor = self.head(seen) + base
        return values
