"""Drops as the ranking policy sees them: features of every AP, and how far a set of APs is from the requirements, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from agents.hetgnn.graph import build

AP_FEATURES = 19
"""Features of an AP in `DropView.ap`."""

LEAST_POWER = 1e-4
"""Relaxed power of an AP over P_max below which its logarithm isn't taken."""

DECADES = 3.0
"""Decades between a set and a requirement at which its features saturate."""


@dataclass(frozen=True, eq=False)
class DropView:
    """B drops of one size, in units of P_max, P_max/σ² and P_max ν. Nothing in it is learned."""

    ap: Tensor  # (B, M, AP_FEATURES)
    log_power: Tensor  # (B, M) ln of the relaxed power over P_max
    log_information: Tensor  # (B, M) ln of Σ_s tr Q_ms
    reach: Tensor  # (B, M, K) amplitude of the AP at its cap at the users, shared in proportion to v
    gain: Tensor  # (B, M, K) ς
    fisher: Tensor  # (B, M, S, 3)
    sinr_threshold: Tensor  # (B,)
    fewest: Tensor  # (B,) n_min

    def sums(self, sets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum `fisher`, `reach` and `gain` over sets (B, L, M) of 0 and 1: (B, L, S, 3), (B, L, K), (B, L, K)."""
        fisher = (sets @ self.fisher.flatten(2)).reshape(*sets.shape[:2], *self.fisher.shape[2:])
        return fisher, sets @ self.reach, sets @ self.gain

    def margins(self, fisher: Tensor, reach: Tensor, gain: Tensor) -> Tensor:
        """Decades to the requirements of sets at their caps, (B, …, 3): of the worst CRLB, the worst SINR, and the SINRs' mean.

        A user's SINR is (Σ_m v_mk/√Σ_j v_mj)²/(Σ_m ς_mk + 1), with powers in proportion to v; the CRLB is exact.

        Args:
            fisher: (B, …, S, 3), sum over a set.
            reach: (B, …, K), sum over a set.
            gain: (B, …, K), sum over a set.
        """
        a, b, c = fisher.unbind(-1)
        located = ((a * b - c * c).clamp(min=1e-9) / (a + b + 1e-9)).amin(-1)
        threshold = self.sinr_threshold.reshape(-1, *(1,) * (reach.ndim - 1))
        sinr = _decades(reach**2 / (threshold * (gain + 1.0)))
        return torch.stack([_decades(located), sinr.amin(-1), sinr.mean(-1)], -1)


def _decades(x: Tensor) -> Tensor:
    return torch.log10(x.clamp(10.0**-DECADES, 10.0**DECADES))


def places(values: Tensor) -> Tensor:
    """Place of every value in descending order along the last axis, from 0."""
    return torch.argsort(torch.argsort(-values, dim=-1, stable=True), dim=-1)


class RankingFeatures(BaseFeaturesExtractor):
    """Observations of `CfIsacPriority-v0` with `relaxed=True` as a `DropView`, without parameters.

    Args:
        observation_space: of the environment.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, 1)

    @torch.no_grad()
    def forward(self, observations: dict[str, Tensor]) -> DropView:
        """View a batch of observations of any size."""
        graph = build(observations)
        drops, comm, sensing = graph.drops, graph.edges["comm"], graph.edges["sensing"]
        M, K = drops.log_gain.shape[1:]
        ratio = drops.log_estimate - drops.log_gain
        fewest = torch.ceil(drops.sinr_threshold * torch.exp(-ratio.amax(1)).sum(-1)).clamp(1, M)
        estimate = torch.exp(drops.log_estimate)
        log_information = torch.log(drops.fisher[..., :2].sum((-2, -1)) + 1e-9)
        power = observations["power"].float() ** 2
        total = power.sum(-1)
        log_power = torch.log(total.clamp(min=LEAST_POWER))
        share = power / power.sum(1, keepdim=True).clamp(min=1e-9)
        network = torch.stack(
            [torch.log10(drops.sinr_threshold * K), fewest / 5.0, torch.log10(total.sum(1).clamp(min=1e-3))], -1
        )
        ap = [
            *_compared(log_information), sensing[..., 1].amin(2), sensing[..., 1].amax(2),
            comm[..., 0].amax(2), comm[..., 1].amax(2), comm[..., 1].mean(2), ratio.amax(2), ratio.mean(2),
            graph.edges["radar"][..., 1].mean(2), *_compared(log_power), share.amax(2), K * share.mean(2),
        ]  # fmt: skip
        return DropView(
            ap=torch.cat([torch.stack(ap, -1), network[:, None].expand(-1, M, -1)], -1),
            log_power=log_power,
            log_information=log_information,
            reach=estimate / torch.sqrt(estimate.sum(-1, keepdim=True) + 1e-12),
            gain=torch.exp(drops.log_gain),
            fisher=drops.fisher,
            sinr_threshold=drops.sinr_threshold,
            fewest=fewest,
        )


def _compared(logs: Tensor) -> list[Tensor]:
    """Values (B, M) as they are, relative to the largest, and by their place."""
    return [logs / 3.0, (logs - logs.amax(1, keepdim=True)) / 3.0, torch.log1p(places(logs).float()) / 2.0]
