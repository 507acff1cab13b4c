"""An observation as the paper's heterogeneous graph: APs, users, receivers and targets, and the edges from every AP to each of the others.

Features are normalised so that one network serves every size and preset. Powers are in units of P_max, gains in P_max/σ² and Fisher
information in P_max ν, so that 1 corresponds to one AP at its cap; quantities that span decades are logarithms, and those that matter by
comparison also appear relative to the best AP.

| where | features |
|---|---|
| AP | x, y over the disc's radius; log10 of γ_thr, K γ_thr, M, P_cir/P_max |
| user, receiver, target | none, as in the paper |
| AP–user (`comm`) | log10 v P_max/σ²; the same minus the user's best; log10 v_mk/Σ_k v_mk; log10 v/ς |
| AP–receiver (`radar`) | log10 Σ_s |χ|² P_max/σ²; the same minus the receiver's best |
| AP–target (`sensing`) | log10 (q_a + q_b) P_max ν; the same minus the target's best; (q_a − q_b)/(q_a + q_b); 2 q_c/(q_a + q_b) |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from cfisac_env import physics

RELATIONS = {"comm": "ue", "radar": "sr", "sensing": "target"}
"""Edge type → node type at its other end; one end is always an AP."""

WIDTHS = {"ap": 6, "comm": 4, "radar": 2, "sensing": 4}
"""Number of features of each node and edge type that has any."""

KEYS = ("ap", "comm", "radar", "requirement", "sensing")
"""Entries of an observation that the graph is built from."""

_LN10 = math.log(10.0)


@dataclass(frozen=True, eq=False)
class Drops:
    """Parameters of B drops in units of P_max, P_max/σ² and P_max ν, in which caps, noise and CRLB threshold are 1."""

    log_gain: Tensor  # (B, M, K) natural logarithm of ς P_max/σ²
    log_estimate: Tensor  # (B, M, K) of v P_max/σ²
    fisher: Tensor  # (B, M, S, 3) q P_max ν
    sinr_threshold: Tensor  # (B,) linear
    max_ap_power_w: Tensor  # (B,)
    circuit_power_w: Tensor  # (B,)

    def to(self, where: torch.device | torch.dtype) -> Drops:
        """Move to a device or convert to a precision; near-singular Fisher matrices need float64 to be exact."""
        return Drops(**{field.name: getattr(self, field.name).to(where) for field in fields(self)})

    def of_aps(self, rows: Tensor) -> Drops:
        """Restrict each drop to the APs `rows` (B, m)."""
        links = rows[..., None].expand(-1, -1, self.log_gain.shape[-1])
        return replace(
            self,
            log_gain=torch.gather(self.log_gain, 1, links),
            log_estimate=torch.gather(self.log_estimate, 1, links),
            fisher=torch.gather(self.fisher, 1, rows[..., None, None].expand(-1, -1, *self.fisher.shape[2:])),
        )

    def margins(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Compute γ_k/γ_thr (B, K) and ν/CRLB_s (B, S) of powers (B, M, K) over P_max; a constraint holds from 1 on."""
        sinr = physics.sinr(power, torch.exp(self.log_gain), torch.exp(self.log_estimate), 1.0)
        located = physics.precision(physics.fisher_matrix(power.sum(-1), self.fisher))
        return sinr / self.sinr_threshold[:, None], located

    def __getitem__(self, index: Any) -> Drops:
        """Select drops by an index of the leading axis."""
        return Drops(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class Graph:
    """Graphs of B drops of one size. Every AP has an edge to every user, receiver and target, so edges are matrices."""

    ap: Tensor  # (B, M, 6)
    edges: Mapping[str, Tensor]  # `comm` (B, M, K, 4), `radar` (B, M, T, 2), `sensing` (B, M, S, 4)
    drops: Drops

    def to(self, device: torch.device) -> Graph:
        """Move to a device."""
        edges = {kind: edge.to(device) for kind, edge in self.edges.items()}
        return Graph(self.ap.to(device), edges, self.drops.to(device))

    def __len__(self) -> int:
        return len(self.ap)

    def __getitem__(self, index: Any) -> Graph:
        """Select graphs by an index of the leading axis."""
        return Graph(self.ap[index], {kind: edge[index] for kind, edge in self.edges.items()}, self.drops[index])

    def rotated(self, angle: Tensor, mirror: Tensor) -> Graph:
        """Rotate and mirror every network about its centre, of which the optimal decision is independent.

        Args:
            angle: (B,) radians.
            mirror: (B,) −1 to mirror y first, else 1.
        """
        c, s = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
        x, y = self.ap[..., 0], self.ap[..., 1] * mirror[:, None]
        ap = torch.cat([torch.stack([c * x - s * y, s * x + c * y], -1), self.ap[..., 2:]], -1)
        sensing = self.edges["sensing"]
        c, s = torch.cos(2 * angle)[:, None, None], torch.sin(2 * angle)[:, None, None]
        x, y = sensing[..., 2], sensing[..., 3] * mirror[:, None, None]
        turned = torch.cat([sensing[..., :2], torch.stack([c * x - s * y, s * x + c * y], -1)], -1)
        return replace(self, ap=ap, edges={**self.edges, "sensing": turned})


def build(observation: Mapping[str, Any], device: torch.device | str = "cpu") -> Graph:
    """Build the graphs of a batch of observations, in float32.

    Args:
        observation: arrays or tensors with one leading axis, as a `CfIsac` environment or its vector version gives them.
        device: for arrays; tensors stay on their own.

    Raises:
        ValueError: a key is missing, a shape doesn't fit, a value isn't finite, or users share pilots.
    """
    missing = [key for key in KEYS if key not in observation]
    if missing:
        raise ValueError(
            f"the observation lacks {', '.join(missing)} (it has {', '.join(observation) or 'nothing'}); "
            "the network needs the Dict observation of a CfIsac environment"
        )
    if "pilots" in observation:
        raise ValueError("the network doesn't support shared pilots: use at most as many users as pilot_length")
    ap, comm, radar, requirement, sensing = (
        x.float() if isinstance(x, Tensor) else torch.as_tensor(x, dtype=torch.float32, device=device)
        for x in (observation[key] for key in KEYS)
    )
    B, M, K = comm.shape[:3] if comm.ndim == 4 else (0, 0, 0)
    shapes = (ap.shape[:2], radar.shape[:2], sensing.shape[:2])
    if B == 0 or any(shape != (B, M) for shape in shapes) or requirement.shape != (B, 4) or comm.shape[-1] != 2:
        raise ValueError(
            "observations need one leading axis: ap (B, M, 3), comm (B, M, K, 2), radar (B, M, S, T), requirement (B, 4) and "
            f"sensing (B, M, S, 3); got {', '.join(f'{key} {tuple(observation[key].shape)}' for key in KEYS)}"
        )
    for key, tensor in zip(KEYS, (ap, comm, radar, requirement, sensing), strict=True):
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"the observation's {key!r} holds {int((~torch.isfinite(tensor)).sum())} values that aren't finite"
            )
    gamma, nu, cap, circuit = requirement.unbind(-1)
    log_cap = torch.log10(cap)[:, None, None]
    gain, estimate = comm[..., 0] + log_cap, comm[..., 1] + log_cap
    largest = sensing[..., :2].amax(-1)  # of log10 q_a and log10 q_b
    a, b = (10.0 ** (sensing[..., i] - largest) for i in (0, 1))
    c = sensing[..., 2] * torch.sqrt(a * b)
    strength = largest + log_cap + torch.log10(nu)[:, None, None]
    trace = strength + torch.log10(a + b)
    echo = torch.logsumexp(radar * _LN10, dim=2) / _LN10 + log_cap
    ones = torch.ones_like(ap[..., 0])
    network = torch.stack(
        [torch.log10(gamma), torch.log10(gamma * K), math.log10(M) - 1.5 + 0.0 * gamma, torch.log10((circuit + 1e-6) / cap)], -1
    )  # fmt: skip
    edges = {
        "comm": torch.stack(
            [
                (estimate - 2.0) / 2.0,
                (estimate - estimate.amax(1, keepdim=True)) / 2.0,
                estimate - torch.logsumexp(estimate * _LN10, dim=2, keepdim=True) / _LN10,
                comm[..., 1] - comm[..., 0],
            ],
            -1,
        ),
        "radar": torch.stack([echo / 4.0, (echo - echo.amax(1, keepdim=True)) / 2.0], -1),
        "sensing": torch.stack([trace, trace - trace.amax(1, keepdim=True), (a - b) / (a + b), 2.0 * c / (a + b)], -1),
    }
    return Graph(
        ap=torch.cat([ap[..., :2], network[:, None] * ones[..., None]], -1),
        edges=edges,
        drops=Drops(
            log_gain=gain * _LN10,
            log_estimate=estimate * _LN10,
            fisher=torch.stack([a, b, c], -1) * 10.0 ** strength[..., None],
            sinr_threshold=gamma,
            max_ap_power_w=cap,
            circuit_power_w=circuit,
        ),
    )
