"""The paper's network: edge convolutions (11) to (13) on APs, users, receivers and targets, and four heads on the embedding.

Every AP has an edge to every other node, so edges are matrices and message passing is broadcasting over drops of one size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agents.hetgnn import unrolled
from agents.hetgnn.config import NetworkConfig as NetworkConfig
from agents.hetgnn.graph import RELATIONS, WIDTHS, Drops, Graph
from cfisac_env import physics

SLOPE = 0.1
"""Negative slope of the LeakyReLU."""

CLIP = 3.0
"""Decades between a set and a requirement at which the set's features saturate."""


def mlp(width: int, widths: Sequence[int], out: int | None = None) -> nn.Sequential:
    """Build linear layers with LeakyReLU after each; with `out`, a linear one at the end."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((width, *widths)):
        layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    if out is not None:
        layers.append(nn.Linear(widths[-1] if widths else width, out))
    return nn.Sequential(*layers)


class Joint(nn.Module):
    """MLP of concatenated inputs whose first layer acts on each of them before they are broadcast against each other."""

    def __init__(self, inputs: Mapping[str, int], widths: Sequence[int], out: int | None = None) -> None:
        super().__init__()
        self.first = nn.ModuleDict(
            {name: nn.Linear(width, widths[0], bias=i == 0) for i, (name, width) in enumerate(inputs.items())}
        )
        self.rest = nn.Sequential(nn.LeakyReLU(SLOPE), *mlp(widths[0], widths[1:], out))

    def part(self, name: str, x: Tensor) -> Tensor:
        """Compute the contribution of one input to the first layer."""
        y: Tensor = self.first[name](x)
        return y

    def forward(self, *parts: Tensor) -> Tensor:
        """Apply the MLP to the sum of the parts."""
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        y: Tensor = self.rest(total)
        return y


class EdgeConvolution(nn.Module):
    """One layer: messages (11) along every kind of edge both ways, node updates (12), edge updates (13)."""

    def __init__(self, nodes: Mapping[str, int], edges: Mapping[str, int], config: NetworkConfig, update: bool) -> None:
        super().__init__()
        wide, node = config.edge_widths[-1], config.node_widths[-1]
        self.to_other = nn.ModuleDict()
        self.to_ap = nn.ModuleDict()
        self.edge = nn.ModuleDict()
        self.node = nn.ModuleDict({"ap": mlp(nodes["ap"] + 2 * wide * len(RELATIONS), config.node_widths)})
        for kind, other in RELATIONS.items():
            self.to_other[kind] = Joint({"edge": edges[kind], "node": nodes["ap"]}, config.edge_widths)
            self.to_ap[kind] = Joint({"edge": edges[kind], "node": nodes[other]}, config.edge_widths)
            self.node[other] = mlp(nodes[other] + 2 * wide, config.node_widths)
            if update:
                self.edge[kind] = Joint({"edge": edges[kind], "ap": node, "other": node}, config.edge_widths)

    def forward(
        self, nodes: Mapping[str, Tensor], edges: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute nodes (B, N, F) and edges (B, M, N, F) of the next layer."""
        after: dict[str, Tensor] = {}
        received = [nodes["ap"]]
        for kind, other in RELATIONS.items():
            to_other, to_ap = _joint(self.to_other[kind]), _joint(self.to_ap[kind])
            messages = to_other(to_other.part("edge", edges[kind]), to_other.part("node", nodes["ap"])[:, :, None])
            after[other] = self.node[other](torch.cat([nodes[other], messages.mean(1), messages.amax(1)], -1))
            messages = to_ap(to_ap.part("edge", edges[kind]), to_ap.part("node", nodes[other])[:, None])
            received += [messages.mean(2), messages.amax(2)]
        after["ap"] = self.node["ap"](torch.cat(received, -1))
        updated = dict(edges)
        for kind, module in self.edge.items():
            update = _joint(module)
            updated[kind] = update(
                update.part("edge", edges[kind]),
                update.part("ap", after["ap"])[:, :, None],
                update.part("other", after[RELATIONS[kind]])[:, None],
            )
        return after, updated


def _joint(module: nn.Module) -> Joint:
    assert isinstance(module, Joint)
    return module


@dataclass(frozen=True, eq=False)
class Embedding:
    """Node embeddings of B drops of one size, independent of the decision."""

    ap: Tensor  # (B, M, F)
    ue: Tensor  # (B, K, F)
    target: Tensor  # (B, S, F)
    drops: Drops

    def __getitem__(self, index: Any) -> Embedding:
        """The embeddings at an index of the leading axis."""
        return Embedding(self.ap[index], self.ue[index], self.target[index], self.drops[index])

    def repeated(self, times: int) -> Embedding:
        """Repeat every drop `times` times in a row, one for each of several sets."""
        index = torch.arange(len(self.ap), device=self.ap.device).repeat_interleave(times)
        return self[index]


class HetGnn(nn.Module):
    """Heterogeneous graph network: `embed` once a drop, then `propose` and `power` for any number of sets of APs.

    Equivariant to permutations of APs and users, invariant to those of receivers and targets.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        node, edge = config.node_widths[-1], config.edge_widths[-1]
        self.start = nn.ParameterDict({kind: nn.Parameter(0.1 * torch.randn(8)) for kind in RELATIONS.values()})
        nodes = {"ap": WIDTHS["ap"], **dict.fromkeys(RELATIONS.values(), 8)}
        edges = {kind: WIDTHS[kind] for kind in RELATIONS}
        self.layers = nn.ModuleList()
        for i in range(config.layers):
            update = config.edge_updates and i < config.layers - 1  # no head reads the edges
            self.layers.append(EdgeConvolution(nodes, edges, config, update))
            nodes = dict.fromkeys(nodes, node)
            if update:
                edges = dict.fromkeys(edges, edge)
        head = (config.head_width,)
        self.activation_head = Joint({"ap": node, "set": 2 * node + 4, "change": 3}, head, 1)
        self.power_head = Joint({"ap": node, "set": 2 * node + 4, "change": 3}, head, 1)
        self.user_head = Joint({"node": node, "set": 2 * node + 4}, head, 1)
        self.target_head = Joint({"node": node, "set": 2 * node + 4}, head, 1)

        self.to(torch.float32)  # under any default dtype of torch

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def embed(self, graph: Graph) -> Embedding:
        """Apply the layers to B drops of one size."""
        nodes, edges = {"ap": graph.ap}, dict(graph.edges)
        for kind, other in RELATIONS.items():
            nodes[other] = self.start[other].expand(len(graph), edges[kind].shape[2], -1)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges)
        return Embedding(nodes["ap"], nodes["ue"], nodes["target"], graph.drops)

    def propose(self, embedding: Embedding, on: Tensor) -> Tensor:
        """Compute logits that an AP belongs to the best set, given that those in `on` do; with none on, the paper's activation head.

        Args:
            on: (B, M) bool.

        Returns:
            (B, M); entries of APs that are on are meaningless.
        """
        return self._of_aps(self.activation_head, embedding, *self.set_features(embedding, on))

    def power(self, embedding: Embedding, on: Tensor, steps: int | None = None, drops: Drops | None = None) -> Tensor:
        """Compute powers for a set by the unrolled allocation, started from the heads.

        Args:
            on: (B, M) bool.
            steps: of the allocation; None for as many as in training.
            drops: the embedding's drops in another precision.

        Returns:
            (B, M, K) p_mk/P_max: not negative, zero where the AP is off, and at most 1 for an AP.
        """
        drops = embedding.drops if drops is None else drops
        kind = drops.fisher.dtype
        log_power, users, targets = (x.to(kind) for x in self.starts(embedding, on))
        # The allocation runs on as many rows as the largest set has APs. Where no AP is on, the first one takes part and has its power set
        # to zero in the end: for users without any signal the prices would overflow, and gradients be NaN.
        rows = torch.argsort((~on).to(torch.uint8), dim=-1, stable=True)[:, : max(1, int(on.sum(-1).max()))]
        among = torch.gather(on, 1, rows)
        taking_part = among | ((~on.any(-1, keepdim=True)) & (torch.arange(among.shape[1], device=on.device) == 0))
        level = torch.gather(log_power, 1, rows)
        steps = self.config.steps if steps is None else steps
        own = unrolled.allocate(drops.of_aps(rows), taking_part, level, users, targets, steps)
        own = own.masked_fill(~among[..., None], 0.0)
        return torch.zeros_like(drops.log_gain).scatter(1, rows[..., None].expand_as(own), own)

    def starts(self, embedding: Embedding, on: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the starting points of the allocation, as `unrolled.allocate` takes them: (B, M), (B, K) and (B, S)."""
        around, change = self.set_features(embedding, on)
        log_power = -nn.functional.softplus(self._of_aps(self.power_head, embedding, around, change))
        users, targets = (
            h(h.part("node", nodes), h.part("set", around)[:, None])[..., 0].clamp(-20.0, 20.0)
            for h, nodes in ((self.user_head, embedding.ue), (self.target_head, embedding.target))
        )
        return log_power, users, targets

    @staticmethod
    def _of_aps(head: Joint, embedding: Embedding, around: Tensor, change: Tensor) -> Tensor:
        """Apply a head to every AP, (B, M)."""
        value: Tensor = head(
            head.part("ap", embedding.ap), head.part("set", around)[:, None], head.part("change", change)
        )
        return value[..., 0]

    @staticmethod
    def set_features(embedding: Embedding, on: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features of a set, (B, 2F + 4), and of every AP as its next member, (B, M, 3).

        Of the set: mean and maximum of its APs' embeddings; its size, and its size over the SINRs' lower bound K γ_thr; distances from
        locating the worst target and from reaching the worst user with every AP at its cap. Of an AP: whether it is on, and those
        distances of the set joined by it.
        """
        drops, mask = embedding.drops, on.to(embedding.ap.dtype)
        size = mask.sum(-1, keepdim=True)
        mean = (embedding.ap * mask[..., None]).sum(1) / size.clamp(min=1.0)
        largest = embedding.ap.masked_fill(~on[..., None], -torch.inf).amax(1)
        largest = torch.where(size > 0, largest, torch.zeros_like(largest))
        need = drops.sinr_threshold[:, None] * embedding.ue.shape[1]
        with torch.no_grad():
            information = physics.fisher_matrix(mask, drops.fisher)
            more = information[:, None] + drops.fisher * (1.0 - mask)[..., None, None]
            estimate = torch.exp(drops.log_estimate) / drops.sinr_threshold[:, None, None]
            reach = (estimate * mask[..., None]).sum(1, keepdim=True)
            further = reach + estimate * (1.0 - mask)[..., None]
            around = torch.cat([_accuracy(information)[:, None], _decades(reach.amin(-1)) / 2.0], -1)
            change = torch.stack([mask, _accuracy(more), _decades(further.amin(-1)) / 2.0], -1)
        return torch.cat([mean, largest, torch.log1p(size), torch.log((size + 1.0) / need), around], -1), change


def _accuracy(information: Tensor) -> Tensor:
    """Compute log10 of the worst target's CRLB over ν for Fisher matrices (…, S, 3), clipped."""
    return _decades(physics.trace_inverse(information)).amax(-1)


def _decades(x: Tensor) -> Tensor:
    return torch.log10(x.clamp(min=10.0**-CLIP, max=10.0**CLIP))


def parameters(network: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(math.prod(p.shape) for p in network.parameters())
