"""Graphs for torch_geometric: the network written as its message passing gives the dense network's embeddings, for mixed sizes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import HeteroConv, MessagePassing

from agents.hetgnn import geometric, weights
from agents.hetgnn.graph import RELATIONS, build
from agents.hetgnn.labels import label
from agents.hetgnn.network import EdgeConvolution, HetGnn, Joint, NetworkConfig
from cfisac_env import SystemConfig, observations, physics, sample

NETWORKS: dict[str, Callable[[], HetGnn]] = {
    "shipped": lambda: weights.load()[0].requires_grad_(True),
    "deep": lambda: HetGnn(NetworkConfig(2, (10, 8), (12, 8), 8, edge_updates=False)),
}


class EdgeMessages(MessagePassing):  # type: ignore[misc]
    """Paper (11): mean and maximum over a node's edges of an MLP of the edge and the node at its other end."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__(aggr=["mean", "max"])
        self.mlp = mlp

    def forward(self, x: tuple[Tensor, Tensor], edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Messages to the nodes of the second kind."""
        out: Tensor = self.propagate(edge_index, x=x, edge_attr=edge_attr, size=(len(x[0]), len(x[1])))
        return out

    def message(self, x_j: Tensor, edge_attr: Tensor) -> Tensor:
        """One message an edge."""
        out: Tensor = self.mlp(torch.cat([edge_attr, x_j], -1))
        return out


def plain(joint: nn.Module) -> nn.Sequential:
    """An MLP of the concatenated inputs from one that applies its first layer to each input by itself."""
    assert isinstance(joint, Joint)
    weight = torch.cat([part.get_parameter("weight") for part in joint.first.children()], 1)
    bias = next(joint.first.children()).get_parameter("bias")

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, weight, bias)

    return nn.Sequential(First(), joint.rest)


def embed(network: HetGnn, batch: Any) -> dict[str, Tensor]:
    """Paper (11) to (13) on a batch of `HeteroData` of any sizes."""
    nodes = {other: network.start[other].expand(batch[other].num_nodes, -1) for other in RELATIONS.values()}
    nodes["ap"] = batch["ap"].x
    edges = {kind: batch["ap", kind, other].edge_attr for kind, other in RELATIONS.items()}
    for layer in network.layers:
        assert isinstance(layer, EdgeConvolution)
        messages = HeteroConv(
            {("ap", kind, other): EdgeMessages(plain(layer.to_other[kind])) for kind, other in RELATIONS.items()}
            | {
                (other, f"rev_{kind}", "ap"): EdgeMessages(plain(layer.to_ap[kind]))
                for kind, other in RELATIONS.items()
            },
            aggr="cat",
        )
        both = {("ap", kind, other): edges[kind] for kind, other in RELATIONS.items()}
        both |= {(other, f"rev_{kind}", "ap"): edges[kind] for kind, other in RELATIONS.items()}
        received = messages(nodes, batch.edge_index_dict, both)
        nodes = {kind: layer.node[kind](torch.cat([x, received[kind]], -1)) for kind, x in nodes.items()}
        for kind, update in layer.edge.items():
            ap, other = batch["ap", kind, RELATIONS[kind]].edge_index
            edges[kind] = plain(update)(torch.cat([edges[kind], nodes["ap"][ap], nodes[RELATIONS[kind]][other]], -1))
    return nodes


@pytest.mark.parametrize("name", NETWORKS)
def test_message_passing_over_mixed_sizes_gives_the_embeddings_and_gradients_of_the_dense_network(name: str) -> None:
    network = NETWORKS[name]()
    sizes = ((2, 9, 4, 3, 2), (1, 5, 2, 1, 1), (3, 12, 1, 2, 3))
    encoded = [
        observations.encode(sample(SystemConfig(M=M, K=K, T=T, S=S), np.random.default_rng(M), n))
        for n, M, K, T, S in sizes
    ]
    batch = Batch.from_data_list([data for one in encoded for data in geometric.from_observation(one)])
    reference = embed(network, batch)
    dense = [network.embed(build(one)) for one in encoded]
    gradients = []
    for kind in ("ap", "ue", "target"):
        stacked = torch.cat([getattr(one, kind).flatten(0, 1) for one in dense])
        torch.testing.assert_close(stacked, reference[kind], rtol=1e-4, atol=1e-5)
        parameters = [*network.layers.parameters()]
        for values in (stacked, reference[kind]):
            grads = torch.autograd.grad(values.square().mean(), parameters, retain_graph=True, allow_unused=True)
            gradients.append(torch.cat([grad.flatten() for grad in grads if grad is not None]))
    for ours, theirs in zip(gradients[::2], gradients[1::2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))
        assert theirs.abs().max() > 0.0


def test_labels_of_mixed_sizes_are_batched_with_decisions_that_the_physics_accepts() -> None:
    shards = [label(SystemConfig(M=M, K=K), range(6), "modified-bb") for M, K in ((8, 2), (10, 3))]
    graphs = geometric.from_labels(shards)
    assert len(graphs) == sum(int(shard.feasible.sum()) for shard in shards)
    batch = next(iter(DataLoader(graphs, batch_size=len(graphs), shuffle=True)))
    assert batch["ap"].num_nodes == sum(shard.active[shard.feasible].size for shard in shards)
    for data in batch.to_data_list():
        M, K = data["ap"].num_nodes, data["ue"].num_nodes
        gain, estimate, power = (
            data["ap", "comm", "ue"][name].reshape(M, K) for name in ("log_gain", "log_estimate", "power")
        )
        assert (physics.sinr(power, gain.exp(), estimate.exp(), 1.0) >= data.sinr_threshold * (1 - 1e-4)).all()
        fisher = data["ap", "sensing", "target"].fisher.reshape(M, -1, 3)
        assert (physics.crlb(power.sum(-1), fisher) <= 1 + 1e-4).all()
        watts = data.max_ap_power_w * power.sum() + data.circuit_power_w * data["ap"].active.sum()
        torch.testing.assert_close(watts.double(), data.total_power_w, rtol=1e-5, atol=0.0)
