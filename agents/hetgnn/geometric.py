"""Observations and labels as torch_geometric's `HeteroData`, for graph networks other than this project's.

One `HeteroData` a drop, with the nodes, edges and features of `agents.hetgnn.graph`; `torch_geometric.loader.DataLoader` batches drops of
different sizes.

| where | attributes |
|---|---|
| `ap` | `x` (M, 6); with labels `active` (M,) bool |
| `ue`, `sr`, `target` | `x` of ones, (K, 1), (T, 1) and (S, 1): they have no features of their own |
| `ap, comm, ue` | `edge_index` and `edge_attr` (M K, 4); `log_gain` and `log_estimate` (M K,); with labels `power` (M K,), p_mk/P_max |
| `ap, radar, sr` | `edge_index` and `edge_attr` (M T, 2) |
| `ap, sensing, target` | `edge_index` and `edge_attr` (M S, 4); `fisher` (M S, 3) |
| `ue, rev_comm, ap` and so on | `edge_index` and `edge_attr` in the other direction |
| the drop | `sinr_threshold`, `max_ap_power_w`, `circuit_power_w`; with labels `total_power_w`, (1,) each |

`log_gain`, `log_estimate` and `fisher` are in the units of `agents.hetgnn.graph.Drops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch_geometric.data import HeteroData

from agents.hetgnn.data import prepare
from agents.hetgnn.graph import RELATIONS, Graph, build
from agents.hetgnn.labels import Labels


def from_observation(observation: Mapping[str, Any]) -> list[HeteroData]:
    """Convert a batch of observations of `CfIsac-v0`, one graph a drop.

    Args:
        observation: arrays or tensors with one leading axis.
    """
    graphs = build(observation)
    return [_from_graph(graphs[i]) for i in range(len(graphs))]


def from_labels(shards: Sequence[Labels]) -> list[HeteroData]:
    """Convert labels of any sizes, one graph for each drop that its oracle served."""
    converted = []
    for group in prepare(shards):
        for i in range(len(group)):
            data = _from_graph(group.graph[i])
            data["ap"].active = group.active[i]
            data["ap", "comm", "ue"].power = group.power[i].flatten()
            data.total_power_w = group.total_power_w[i : i + 1]
            converted.append(data)
    return converted


def _from_graph(graph: Graph) -> HeteroData:
    """Convert the graph of one drop, without a leading axis."""
    data, drops = HeteroData(), graph.drops
    data["ap"].x = graph.ap
    for kind, other in RELATIONS.items():
        M, N, _ = graph.edges[kind].shape
        data[other].x = graph.ap.new_ones(N, 1)
        index = torch.cartesian_prod(*(torch.arange(count, device=graph.ap.device) for count in (M, N))).T.contiguous()
        there, back = data["ap", kind, other], data[other, f"rev_{kind}", "ap"]
        there.edge_index, back.edge_index = index, index.flip(0)
        there.edge_attr = back.edge_attr = graph.edges[kind].flatten(0, 1)
    users, targets = data["ap", "comm", "ue"], data["ap", "sensing", "target"]
    users.log_gain, users.log_estimate = drops.log_gain.flatten(), drops.log_estimate.flatten()
    targets.fisher = drops.fisher.flatten(0, 1)
    for name in ("sinr_threshold", "max_ap_power_w", "circuit_power_w"):
        data[name] = getattr(drops, name).reshape(1)
    return data
