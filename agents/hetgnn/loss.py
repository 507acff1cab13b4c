"""The paper's loss (14), corrected: supervised by labels, unsupervised by the power and the constraint violations.

    L = ε₁ power(p, p*) + ε₂ BCE(activation, A*) + [ power and circuit power + Σ_k α [1 − γ_k/γ_thr]₊ + Σ_s β [1 − ν/CRLB_s]₊ ]

Penalties are hinges, circuit power counts (erratum E13), and power is in units of P_cir times the fewest APs that the SINRs allow, so that
sizes and presets weigh alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.hetgnn.config import LossConfig, PowerScale
from agents.hetgnn.graph import Drops
from agents.hetgnn.network import Embedding, HetGnn
from cfisac_env import physics

LEAST = 1e-6
"""Power over P_max, and share of an AP's power, at which logarithms are cut off."""


class Loss(nn.Module):
    """Loss with multipliers that belong to the saved state."""

    alpha: Tensor
    beta: Tensor

    def __init__(self, config: LossConfig | None = None) -> None:
        super().__init__()
        self.config = config or LossConfig()
        self.register_buffer("alpha", torch.tensor(self.config.alpha))
        self.register_buffer("beta", torch.tensor(self.config.beta))

    def forward(
        self, network: HetGnn, embedding: Embedding, active: Tensor, power: Tensor, known: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of B drops, and its terms by name.

        Args:
            active: (B, M) bool, the labels' sets A*.
            power: (B, M, K) the labels' powers over P_max.
            known: (B, M) bool, a subset of A* that the activation head has to complete.
        """
        if network.config.printed:
            terms = self.printed(network, embedding, active, power)
            return torch.stack(list(terms.values())).sum(), terms
        config, terms = self.config, dict[str, Tensor]()
        logits = network.propose(embedding, torch.zeros_like(active))
        if config.activation_weight > 0.0:
            whole, rest = (
                nn.functional.binary_cross_entropy_with_logits(guess, active.float(), reduction="none")
                for guess in (logits, network.propose(embedding, known))
            )
            terms["activation"] = config.activation_weight * (whole.sum(-1) + (rest * ~known).sum(-1)).mean()
        drops = embedding.drops
        if config.power_weight > 0.0 or config.unsupervised_weight > 0.0:
            own = network.power(embedding, active)
            if config.power_weight > 0.0:
                terms["power"] = config.power_weight * power_error(own, power, active, config.power_scale)
            if config.unsupervised_weight > 0.0:
                terms["labelled"] = config.unsupervised_weight * self.unsupervised(drops, own, active.float())
        if config.unsupervised_weight > 0.0:
            chosen, gate = self._chosen(logits)
            own = network.power(embedding, chosen) * gate[..., None]
            terms["chosen"] = config.unsupervised_weight * self.unsupervised(drops, own, gate)
        return torch.stack(list(terms.values())).sum(), terms

    def _chosen(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the network's own set, and its activations with a gradient, both (B, M)."""
        soft = torch.sigmoid(logits)
        chosen = soft >= 0.5
        # With no AP on there would be no gradient: the likeliest one is switched on.
        chosen = chosen | (
            nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).bool() & ~chosen.any(-1, keepdim=True)
        )
        return chosen, soft if self.config.activation == "soft" else chosen.float() + soft - soft.detach()

    def printed(self, network: HetGnn, embedding: Embedding, active: Tensor, power: Tensor) -> dict[str, Tensor]:
        """Compute the terms of (14) with nothing added: errors of all powers and activations, and the unsupervised part of the decision."""
        logits = network.propose(embedding, active)
        _, gate = self._chosen(logits)
        own = network.power(embedding, torch.ones_like(active))
        bce = nn.functional.binary_cross_entropy_with_logits(logits, active.float(), reduction="none")
        return {
            "power": self.config.power_weight * (own - power).square().sum((-2, -1)).mean(),
            "activation": self.config.activation_weight * bce.sum(-1).mean(),
            "chosen": self.config.unsupervised_weight * self.unsupervised(embedding.drops, own * gate[..., None], gate),
        }

    def unsupervised(self, drops: Drops, power: Tensor, gate: Tensor) -> Tensor:
        """Compute the unsupervised part for powers (B, M, K) over P_max and activations (B, M)."""
        fewest = torch.floor(drops.sinr_threshold * power.shape[-1]) + 1.0
        cap, circuit = drops.max_ap_power_w, drops.circuit_power_w
        watts = cap * power.sum((-2, -1)) + circuit * gate.sum(-1)
        sinr_violation, crlb_violation = (torch.relu(1.0 - margin) for margin in drops.margins(power))
        if self.training and self.config.multipliers == "adaptive":
            self.alpha += self.config.ascent * sinr_violation.detach().mean()
            self.beta += self.config.ascent * crlb_violation.detach().mean()
        penalty = self.alpha.clone() * sinr_violation.sum(-1) + self.beta.clone() * crlb_violation.sum(-1)
        return (watts / (fewest * torch.where(circuit > 0.0, circuit, cap)) + penalty).mean()


def power_error(power: Tensor, label: Tensor, active: Tensor, scale: PowerScale) -> Tensor:
    """Compute the mean squared difference of powers (B, M, K) over P_max on the APs of the labels' sets.

    In log: of ln P_m and, weighted by the label's share, of ln x_mk with x_mk = p_mk/P_m. In fractions: of P_m and x_mk. In amplitudes:
    of √p_mk.
    """
    on = active.float()
    count = on.sum().clamp(min=1.0)
    if scale == "watt":
        return ((power - label).square().sum(-1) * on).sum() / count
    if scale == "amplitude":
        error: Tensor = physics.root(power) - physics.root(label)
        return (error.square().sum(-1) * on).sum() / count
    mine, theirs = power.sum(-1), label.sum(-1)
    share, target = (
        p / torch.where(total > 0.0, total, 1.0)[..., None] for p, total in ((power, mine), (label, theirs))
    )
    if scale == "fraction":
        return (((mine - theirs).square() + (share - target).square().sum(-1)) * on).sum() / count
    level, shares = (
        torch.log(ours.clamp(min=LEAST)) - torch.log(labels.clamp(min=LEAST))
        for ours, labels in ((mine, theirs), (share, target))
    )
    return ((level.square() + (target * shares.square()).sum(-1)) * on).sum() / count
