"""Compiled heads for a single drop.

A decision evaluates them on a few hundred sets, for which the overhead of torch's calls would exceed the arithmetic.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.hetgnn.network import CLIP, SLOPE, Embedding, HetGnn, Joint
from baselines.allocation.closed_form import Start
from cfisac_env.jit import compiled
from cfisac_env.kernels import trace_inverse
from cfisac_env.physics import SINGULAR

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]

_ROUNDING = SINGULAR * float(np.finfo(np.float32).eps)

_Head = tuple[Float32, Float32, Float32, Float32, Float32]


class CompiledHeads:
    """Heads of the network for one drop, without gradients; tests hold them equal to the network's."""

    def __init__(self, network: HetGnn, embedding: Embedding) -> None:
        self._network, self._embedding, drops = network, embedding, embedding.drops
        with torch.no_grad():
            estimate = torch.exp(drops.log_estimate[0]) / drops.sinr_threshold[0]
        self._set = tuple(_array(x) for x in (embedding.ap[0], drops.fisher[0], estimate, drops.sinr_threshold))
        self._activation = _head(network.activation_head, embedding.ap, "ap")

    @cached_property
    def _allocation(self) -> tuple[_Head, _Head, _Head]:
        network, embedding = self._network, self._embedding
        return (
            _head(network.power_head, embedding.ap, "ap"),
            _head(network.user_head, embedding.ue, "node"),
            _head(network.target_head, embedding.target, "node"),
        )

    def logits(self, sets: Bools) -> Float32:
        """Compute logits (n, M) that an AP belongs to the best set, given that those of a set (n, M) do; −∞ for its members."""
        out = np.empty(sets.shape, dtype=np.float32)
        _logits(np.ascontiguousarray(sets), self._set, self._activation, out)
        return out

    def start(self, sets: Bools) -> Start:
        """Compute the starting points of the allocation for sets (n, M)."""
        n, (_, fisher, estimate, _) = len(sets), self._set
        start = Start(np.ones(sets.shape), np.empty((n, estimate.shape[1])), np.empty((n, fisher.shape[1])))
        _starts(np.ascontiguousarray(sets), self._set, *self._allocation, start.level, start.user, start.target)
        return start


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _head(head: Joint, nodes: torch.Tensor, kind: str) -> _Head:
    """Return the arrays of a head for the nodes of one drop.

    Of the first layer the nodes' part (N, H) and the weights of the set's features (2F + 4, H) and of the change by a member (3, H); the
    second layer (H,) and its bias (1,).
    """
    with torch.no_grad():
        base = head.part(kind, nodes[0])
    first, last = dict(head.first.named_children()), head.rest[-1]
    around = _weight(first["set"]).T
    change = _weight(first["change"]).T if "change" in first else around.new_zeros(3, around.shape[1])
    return (_array(base), _array(around), _array(change), _array(_weight(last)[0]), _array(_weight(last, "bias")))


def _weight(layer: Any, name: str = "weight") -> torch.Tensor:
    tensor: torch.Tensor = getattr(layer, name)
    return tensor.detach()


@compiled()
def _decades(x: Any) -> Any:
    return np.log10(min(max(x, np.float32(10.0**-CLIP)), np.float32(10.0**CLIP)))


@compiled()
def _accuracy(information: Any, more: Any, use: bool) -> Any:
    """Compute log10 of the worst target's CRLB over ν for Fisher matrices (S, 3), with `more` added if `use`, clipped."""
    worst = np.float32(-CLIP)
    for s in range(information.shape[0]):
        a, b, c = information[s, 0], information[s, 1], information[s, 2]
        if use:
            a, b, c = a + more[s, 0], b + more[s, 1], c + more[s, 2]
        worst = max(worst, _decades(np.float32(trace_inverse(a, b, c, _ROUNDING))))
    return worst


_MATRIX, _VECTOR = "float32[:, ::1]", "float32[::1]"
_SET = f"Tuple(({_MATRIX}, float32[:, :, ::1], {_MATRIX}, {_VECTOR}))"
_HEAD = f"Tuple(({_MATRIX}, {_MATRIX}, {_MATRIX}, {_VECTOR}, {_VECTOR}))"


@compiled()
def _set_features(members: Any, numbers: Any, information: Any, reach: Any, around: Any) -> None:
    """Fill the Fisher matrices (S, 3) of a set, the sums (K,) of its APs' v P_max/σ² over γ_thr, and its features (2F + 4,).

    Args:
        members: (M,) bool.
        numbers: (M, F) embedding of the APs; (M, S, 3) Fisher information in units of the requirement; (M, K) v P_max/σ² over γ_thr; (1,)
            γ_thr.
        information: (S, 3), filled.
        reach: (K,), filled.
        around: (2F + 4,), filled.
    """
    ap, fisher, estimate, threshold = numbers
    width, K = ap.shape[1], estimate.shape[1]
    size = np.float32(0.0)
    information[:], reach[:], around[:] = 0.0, 0.0, 0.0
    around[width : 2 * width] = -np.inf
    for m in range(len(members)):
        if members[m]:
            size += np.float32(1.0)
            for f in range(width):
                around[f] += ap[m, f]
                around[width + f] = max(around[width + f], ap[m, f])
            information += fisher[m]
            for k in range(K):
                reach[k] += estimate[m, k]
    if size == 0.0:
        around[width : 2 * width] = 0.0
    around[:width] /= max(size, np.float32(1.0))
    around[2 * width] = np.log1p(size)
    around[2 * width + 1] = np.log((size + np.float32(1.0)) / (threshold[0] * np.float32(K)))
    around[2 * width + 2] = _accuracy(information, information, False)
    around[2 * width + 3] = _decades(reach.min()) / np.float32(2.0)


@compiled()
def _first(around: Any, weights: Any, first: Any) -> None:
    """Fill the contribution (H,) of a set's features (2F + 4,) to the first layer of a head."""
    first[:] = 0.0
    for f in range(len(around)):
        for h in range(len(first)):
            first[h] += around[f] * weights[f, h]


@compiled()
def _value(head: Any, node: int, first: Any, inside: Any, accuracy: Any, reach: Any) -> Any:
    """Evaluate a head at one node."""
    base, _, change, last, bias = head
    total = bias[0]
    for h in range(len(last)):
        x = base[node, h] + first[h] + inside * change[0, h] + accuracy * change[1, h] + reach * change[2, h]
        total += last[h] * (x if x > 0.0 else np.float32(SLOPE) * x)
    return total


@compiled(f"(boolean[:, ::1], {_SET}, {_HEAD}, {_MATRIX})")
def _logits(sets: Any, numbers: Any, head: Any, out: Any) -> None:
    """Fill `out` (n, M); see `_set_features` and `_head`."""
    ap, fisher, estimate, _ = numbers
    n, M = sets.shape
    K = estimate.shape[1]
    information, reach = np.empty(fisher.shape[1:], np.float32), np.empty(K, np.float32)
    around, first = np.empty(2 * ap.shape[1] + 4, np.float32), np.empty(len(head[3]), np.float32)
    for i in range(n):
        _set_features(sets[i], numbers, information, reach, around)
        _first(around, head[1], first)
        for m in range(M):
            if sets[i, m]:
                out[i, m] = -np.inf
                continue
            least = reach[0] + estimate[m, 0]
            for k in range(1, K):
                least = min(least, reach[k] + estimate[m, k])
            further = _decades(least) / np.float32(2.0)
            accuracy = _accuracy(information, fisher[m], True)
            out[i, m] = _value(head, m, first, np.float32(0.0), accuracy, further)


_WIDE = "float64[:, ::1]"


@compiled(f"(boolean[:, ::1], {_SET}, {_HEAD}, {_HEAD}, {_HEAD}, {_WIDE}, {_WIDE}, {_WIDE})")
def _starts(
    sets: Any, numbers: Any, power_head: Any, user_head: Any, target_head: Any, level: Any, users: Any, targets: Any
) -> None:
    """Fill AP powers (n, M) and prices of users (n, K) and targets (n, S), see `unrolled`."""
    ap, fisher, estimate, _ = numbers
    information, reach = np.empty(fisher.shape[1:], np.float32), np.empty(estimate.shape[1], np.float32)
    around, first = np.empty(2 * ap.shape[1] + 4, np.float32), np.empty(len(power_head[3]), np.float32)
    zero = np.float32(0.0)
    for i in range(len(sets)):
        _set_features(sets[i], numbers, information, reach, around)
        _first(around, power_head[1], first)
        for m in range(sets.shape[1]):
            if not sets[i, m]:
                continue
            x = np.float64(_value(power_head, m, first, np.float32(1.0), around[-2], around[-1]))
            level[i, m] = np.exp(-np.log1p(np.exp(-abs(x))) - max(x, 0.0))  # of −softplus(x)
        for head, prices in ((user_head, users), (target_head, targets)):
            _first(around, head[1], first)
            for j in range(prices.shape[1]):
                x = np.float64(_value(head, j, first, zero, zero, zero))
                prices[i, j] = np.exp(min(max(x, -20.0), 20.0))
