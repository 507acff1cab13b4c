"""Compiled activation head for a single drop.

A decision evaluates it a dozen times on a few sets, for which the overhead of torch's calls would exceed the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.hetgnn.network import CLIP, SLOPE, Embedding, HetGnn
from cfisac_env.jit import compiled
from cfisac_env.kernels import trace_inverse
from cfisac_env.physics import SINGULAR

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]

_ROUNDING = SINGULAR * float(np.finfo(np.float32).eps)


class CompiledHead:
    """`HetGnn.propose` for one drop, without gradients; tests hold both equal."""

    def __init__(self, network: HetGnn, embedding: Embedding) -> None:
        head, drops = network.activation_head, embedding.drops
        with torch.no_grad():
            base = head.part("ap", embedding.ap[0])
            estimate = torch.exp(drops.log_estimate[0]) / drops.sinr_threshold[0]
        last = head.rest[-1]
        arrays = (
            embedding.ap[0], base, _weight(head.first["set"]).T, _weight(head.first["change"]).T, _weight(last)[0],
            _weight(last, "bias"), drops.fisher[0], estimate, drops.sinr_threshold,
        )  # fmt: skip
        self._numbers = tuple(np.ascontiguousarray(array.detach().cpu().numpy()) for array in arrays)

    def logits(self, sets: Bools) -> Float32:
        """Compute logits (n, M) that an AP belongs to the best set, given that those of a set (n, M) do; −∞ for its members."""
        out = np.empty(sets.shape, dtype=np.float32)
        _logits(np.ascontiguousarray(sets), self._numbers, out)
        return out


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
_NUMBERS = ", ".join([*[_MATRIX] * 4, _VECTOR, _VECTOR, "float32[:, :, ::1]", _MATRIX, _VECTOR])


@compiled(f"(boolean[:, ::1], Tuple(({_NUMBERS})), {_MATRIX})")
def _logits(sets: Any, numbers: Any, out: Any) -> None:
    """Fill `out` (n, M).

    Args:
        numbers: (M, F) embedding of the APs and (M, H) its contribution to the first layer; (2F + 4, H) first layer of the set's features,
            and (3, H) of those of an AP as its next member; (H,) second layer and (1,) its bias; (M, S, 3) Fisher information in units of
            the requirement; (M, K) v P_max/σ² over γ_thr; (1,) γ_thr.
    """
    ap, base, around, change, last, bias, fisher, estimate, threshold = numbers
    n, M = sets.shape
    width, hidden, K = ap.shape[1], base.shape[1], estimate.shape[1]
    mean, largest, first = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(hidden, np.float32)
    information, reach = np.empty(fisher.shape[1:], np.float32), np.empty(K, np.float32)
    for i in range(n):
        size = np.float32(0.0)
        mean[:], largest[:], information[:], reach[:] = 0.0, -np.inf, 0.0, 0.0
        for m in range(M):
            if sets[i, m]:
                size += np.float32(1.0)
                for f in range(width):
                    mean[f] += ap[m, f]
                    largest[f] = max(largest[f], ap[m, f])
                information += fisher[m]
                for k in range(K):
                    reach[k] += estimate[m, k]
        if size == 0.0:
            largest[:] = 0.0
        share = np.float32(1.0) / max(size, np.float32(1.0))
        first[:] = 0.0
        for f in range(width):
            x, y = mean[f] * share, largest[f]
            for h in range(hidden):
                first[h] += x * around[f, h] + y * around[width + f, h]
        a, b = np.log1p(size), np.log((size + np.float32(1.0)) / (threshold[0] * np.float32(K)))
        c, d = _accuracy(information, information, False), _decades(reach.min()) / np.float32(2.0)
        for h in range(hidden):
            first[h] += (
                a * around[2 * width, h] + b * around[2 * width + 1, h] + c * around[2 * width + 2, h] + d * around[2 * width + 3, h]
            )  # fmt: skip
        for m in range(M):
            if sets[i, m]:
                out[i, m] = -np.inf
                continue
            least = reach[0] + estimate[m, 0]
            for k in range(1, K):
                least = min(least, reach[k] + estimate[m, k])
            c, d = _accuracy(information, fisher[m], True), _decades(least) / np.float32(2.0)
            total = bias[0]
            for h in range(hidden):
                x = base[m, h] + first[h] + c * change[1, h] + d * change[2, h]
                total += last[h] * (x if x > 0.0 else np.float32(SLOPE) * x)
            out[i, m] = total
