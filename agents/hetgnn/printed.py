"""The network as printed in the paper: (11) to (13) with one MLP a kind of node, and powers from a ReLU on the last layer's AP–user edges.

Where the paper is silent: the pooling Θ of messages is the mean, and the inputs are this project's normalised features, those of the target
at the APs. Nothing is computed that no output depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.graph import WIDTHS, Drops, Graph
from agents.hetgnn.network import Embedding, HetGnn, Joint, mlp

KINDS = {"comm": "ue", "radar": "sr"}
"""Edge type → node type at its other end; targets are features of the APs."""


class PrintedLayer(nn.Module):
    """Messages ψ (11) and nodes φ (12), for each kind of node, and edges ω (13), for each kind of edge."""

    def __init__(self, nodes: Mapping[str, int], edges: Mapping[str, int], config: NetworkConfig, last: bool) -> None:
        super().__init__()
        wide, node = config.edge_widths[-1], config.node_widths[-1]
        updated = ("comm",) if last else tuple(KINDS)
        ends = {KINDS[kind]: {"node": nodes["ap"], kind: edges[kind]} for kind in updated}
        self.message = nn.ModuleDict(
            {
                name: Joint(inputs, config.edge_widths)
                for name, inputs in {"ap": {"node": nodes["ue"], **edges}, **ends}.items()
            }
        )
        self.node = nn.ModuleDict({name: mlp(nodes[name] + wide, config.node_widths) for name in self.message})
        self.edge = nn.ModuleDict(
            {kind: Joint({"edge": edges[kind], "ap": node, "other": node}, config.edge_widths) for kind in updated}
        )

    def forward(
        self, nodes: Mapping[str, Tensor], edges: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute nodes (B, N, F) and edges (B, M, N, F) of the next layer."""
        to_ap = torch.cat([self._messages("ap", kind, nodes[KINDS[kind]][:, None], edges) for kind in KINDS], 2)
        means = {"ap": to_ap.mean(2)}
        for kind in self.edge:
            means[KINDS[kind]] = self._messages(KINDS[kind], kind, nodes["ap"][:, :, None], edges).mean(1)
        after = {name: self.node[name](torch.cat([nodes[name], mean], -1)) for name, mean in means.items()}
        updated = {}
        for kind, module in self.edge.items():
            assert isinstance(module, Joint)
            updated[kind] = module(
                module.part("edge", edges[kind]),
                module.part("ap", after["ap"])[:, :, None],
                module.part("other", after[KINDS[kind]])[:, None],
            )
        return after, updated

    def _messages(self, sink: str, kind: str, sources: Tensor, edges: Mapping[str, Tensor]) -> Tensor:
        """Compute the messages (B, M, N, F) along a kind of edge to one of its ends."""
        module = self.message[sink]
        assert isinstance(module, Joint)
        messages: Tensor = module(module.part("node", sources), module.part(kind, edges[kind]))
        return messages


@dataclass(frozen=True, eq=False)
class PrintedEmbedding(Embedding):
    """APs and users after the last layer, and powers; targets have no features."""

    link: Tensor  # (B, M, K) p_mk/P_max before the caps and the threshold


class PrintedHetGnn(HetGnn):
    """The paper's network: an AP is on where σ of its output is at least 0.5, whatever others are; powers don't depend on the set.

    Equivariant to permutations of APs and users, invariant to those of receivers and targets.
    """

    activation_head: nn.Linear  # type: ignore[assignment]
    power_head: nn.Linear  # type: ignore[assignment]

    def __init__(self, config: NetworkConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        node, edge = config.node_widths[-1], config.edge_widths[-1]
        self.start = nn.ParameterDict({kind: nn.Parameter(0.1 * torch.randn(8)) for kind in KINDS.values()})
        nodes = {"ap": WIDTHS["ap"] + WIDTHS["sensing"], **dict.fromkeys(KINDS.values(), 8)}
        edges = {kind: WIDTHS[kind] for kind in KINDS}
        self.layers = nn.ModuleList()
        for i in range(config.layers):
            self.layers.append(PrintedLayer(nodes, edges, config, last=i == config.layers - 1))
            nodes, edges = dict.fromkeys(nodes, node), dict.fromkeys(edges, edge)
        self.activation_head = nn.Linear(node, 1)
        self.power_head = nn.Linear(edge, 1)
        nn.init.constant_(self.power_head.bias, 0.1)  # where the ReLU is zero there is no gradient
        self.to(torch.float32)  # under any default dtype of torch

    def embed(self, graph: Graph) -> PrintedEmbedding:
        """Apply the layers to B drops of one size; of several targets, APs get the mean features."""
        nodes = {"ap": torch.cat([graph.ap, graph.edges["sensing"].mean(2)], -1)}
        edges = {kind: graph.edges[kind] for kind in KINDS}
        for kind, other in KINDS.items():
            nodes[other] = self.start[other].expand(len(graph), edges[kind].shape[2], -1)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges)
        link = torch.relu(self.power_head(edges["comm"])[..., 0])
        none = graph.ap.new_zeros(len(graph), graph.drops.fisher.shape[2], 0)
        return PrintedEmbedding(nodes["ap"], nodes["ue"], none, graph.drops, link)

    def propose(self, embedding: Embedding, on: Tensor) -> Tensor:
        """Compute logits (B, M) that an AP belongs to the best set; `on` (B, M) has no part in it."""
        logits: Tensor = self.activation_head(embedding.ap)
        return logits[..., 0]

    def power(self, embedding: Embedding, on: Tensor, steps: int | None = None, drops: Drops | None = None) -> Tensor:
        """Compute p_mk/P_max (B, M, K): zero where the AP is off, and scaled down to the cap as the environment does.

        Args:
            on: (B, M) bool.
            steps: without meaning here.
            drops: without meaning here.
        """
        assert isinstance(embedding, PrintedEmbedding)
        own = embedding.link * on[..., None]
        return own / own.sum(-1, keepdim=True).clamp(min=1.0)


def build(config: NetworkConfig) -> HetGnn:
    """Build the network that a configuration describes, with random weights."""
    return PrintedHetGnn(config) if config.printed else HetGnn(config)
