"""Compiled heads and unrolled allocation for a single drop.

A decision evaluates them on a few hundred sets, for which the overhead of torch's calls would exceed the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.hetgnn import compiled_steps
from agents.hetgnn.network import CLIP, SLOPE, Embedding, HetGnn, Joint
from baselines.allocation import Allocation, Multipliers, Status
from cfisac_env.jit import compiled
from cfisac_env.kernels import trace_inverse
from cfisac_env.physics import SINGULAR
from cfisac_env.types import Problem

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
        self._allocation: tuple[Any, ...] = ()

    def logits(self, sets: Bools) -> Float32:
        """Compute logits (n, M) that an AP belongs to the best set, given that those of a set (n, M) do; −∞ for its members."""
        out = np.empty(sets.shape, dtype=np.float32)
        _logits(np.ascontiguousarray(sets), self._set, self._activation, out)
        return out

    def allocate(
        self, problem: Problem, sets: Bools, limit_w: NDArray[np.float64], checkpoints: Sequence[int], rounding: float
    ) -> Allocation:
        """Compute the network's own powers for sets (n, M): those of the cheapest checkpoint that serves.

        Args:
            problem: the drop.
            sets: n sets.
            limit_w: (n,) transmit powers; a set that needs far more after a checkpoint isn't taken to the next.
            checkpoints: numbers of steps after which powers are evaluated, ascending.
            rounding: relative violation at which powers still serve.

        Returns:
            Status `LOCAL` where powers serve, with the prices of the allocation as multipliers, else `UNKNOWN`.
        """
        network, embedding = self._network, self._embedding
        if not self._allocation:
            drops = embedding.drops.to(torch.float64)
            links = (torch.exp(drops.log_gain[0]), torch.exp(drops.log_estimate[0]), drops.fisher[0])
            self._allocation = (
                _head(network.power_head, embedding.ap, "ap"), _head(network.user_head, embedding.ue, "node"),
                _head(network.target_head, embedding.target, "node"), tuple(_array(x) for x in links), float(drops.sinr_threshold[0]),
            )  # fmt: skip
        n, cap = len(sets), problem.max_ap_power_w
        power, served = np.zeros((n, problem.M, problem.K)), np.zeros(n, dtype=np.bool_)
        sinr, caps, sensing = np.zeros((n, problem.K)), np.zeros((n, problem.M)), np.zeros((n, problem.S, 3))
        _allocate(
            np.ascontiguousarray(sets), self._set, *self._allocation, np.array(checkpoints, dtype=np.int64), limit_w / cap,
            1.0 - rounding, power, served, sinr, caps, sensing,
        )  # fmt: skip
        watts = power * cap
        return Allocation(
            active=sets,
            power=watts,
            transmit_power=np.where(served, watts.sum((-2, -1)), np.inf),
            bound=np.zeros(n),
            status=np.where(served, str(Status.LOCAL), str(Status.UNKNOWN)),
            multipliers=Multipliers(
                sinr * (cap / problem.noise_w), caps, sensing * (cap * problem.crlb_threshold_m2)
            ),
            iterations=np.full(n, checkpoints[-1]),
        )


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _head(head: Joint, nodes: torch.Tensor, kind: str) -> _Head:
    """Return a head for the nodes of one drop: their part of the first layer (N, H), its weights for the set's features (2F + 4, H) and for the change
    by a next member (3, H), the second layer (H,), and its bias (1,)."""
    with torch.no_grad():
        base = head.part(kind, nodes[0])
    first, last = dict(head.first.named_children()), head.rest[-1]
    around = _weight(first["set"]).T
    change = _weight(first["change"]).T if "change" in first else torch.zeros(3, around.shape[1])
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

class CompiledHeads:
    """Heads of the network for one drop, without gradients; tests hold them equal to the network's."""
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
_LINKS = f"Tuple(({_WIDE}, {_WIDE}, float64[:, :, ::1]))"


@compiled(
    f"(boolean[:, ::1], {_SET}, {_HEAD}, {_HEAD}, {_HEAD}, {_LINKS}, float64, int64[::1], float64[::1], float64, "
    f"float64[:, :, ::1], boolean[::1], {_WIDE}, {_WIDE}, float64[:, :, ::1])"
)
def _allocate(
    sets: Any, numbers: Any, power_head: Any, user_head: Any, target_head: Any, links: Any, gamma: Any, checkpoints: Any,
    limits: Any, least: Any, power: Any, served: Any, sinr: Any, caps: Any, sensing: Any,
) -> None:  # fmt: skip
    """Fill powers (n, M, K) over P_max, whether they serve, and multipliers in units of P_max; see `compiled_steps.allocate`."""
    ap, fisher, estimate, _ = numbers
    K, S = estimate.shape[1], fisher.shape[1]
    information, reach = np.empty(fisher.shape[1:], np.float32), np.empty(K, np.float32)
    around, first = np.empty(2 * ap.shape[1] + 4, np.float32), np.empty(len(power_head[3]), np.float32)
    zero = np.float32(0.0)
    for i in range(len(sets)):
        rows = np.flatnonzero(sets[i])
        _set_features(sets[i], numbers, information, reach, around)
        level, users, targets = np.empty(len(rows)), np.empty(K), np.empty(S)
        _first(around, power_head[1], first)
        for j in range(len(rows)):
            x = _value(power_head, rows[j], first, np.float32(1.0), around[-2], around[-1])
            level[j] = np.exp(-np.log1p(np.exp(-abs(x))) - max(x, zero))  # of −softplus(x)
        _first(around, user_head[1], first)
        for k in range(K):
            users[k] = np.exp(np.float64(min(max(_value(user_head, k, first, zero, zero, zero), -20.0), 20.0)))
        _first(around, target_head[1], first)
        for s in range(S):
            targets[s] = np.exp(np.float64(min(max(_value(target_head, s, first, zero, zero, zero), -20.0), 20.0)))
        served[i] = compiled_steps.allocate(
            rows, links, gamma, level, users, targets, checkpoints, limits[i], least, power[i], sinr[i], caps[i], sensing[i]
        )
