"""Graph policies for Stable-Baselines3: the layers of the HetGNN as features extractor, heads for every AP and every user.

No weight depends on the numbers of APs, users, receivers or targets, so what was trained at one size plays at every other, and when APs
or users are numbered otherwise, so are the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.hetgnn.graph import build
from agents.hetgnn.network import Embedding, HetGnn, Joint, NetworkConfig, mlp

SMALL = NetworkConfig(layers=2, edge_widths=(32,), node_widths=(32, 32), head_width=32)
"""Of networks that start from scratch."""

FLOOR = 1e-6
"""Least radiated power that the logarithms tell apart, in P_max."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the heads see of B drops: their embedding, the set of APs, and what each of them radiates."""

    embedding: Embedding
    on: Tensor  # (B, M) bool
    power: Tensor  # (B, M) P_m/P_max


class GraphFeatures(BaseFeaturesExtractor):
    """The HetGNN's embedding of an observation. It hands the heads a `Look`, not a vector.

    Args:
        observation_space: of a `CfIsac` environment.
        network: sizes of the layers.
    """

    def __init__(self, observation_space: spaces.Dict, network: NetworkConfig = SMALL) -> None:
        super().__init__(observation_space, 1)
        self.network = HetGnn(network)

    def forward(self, observations: dict[str, Tensor]) -> Look:
        """Embed."""
        ap, amplitude = observations["ap"], observations.get("power")
        power = torch.zeros_like(ap[..., 0]) if amplitude is None else (amplitude * amplitude).sum(-1)
        return Look(self.network.embed(build(observations)), ap[..., 2] > 0.5, power)


class Both(nn.Module):
    """In the place of SB3's MLPs between features and heads: hands the features to both."""

    def forward(self, features: Any) -> tuple[Any, Any]:
        """For the actor and for the critic."""
        return features, features

    def forward_actor(self, features: Any) -> Any:
        """For the actor."""
        return features

    def forward_critic(self, features: Any) -> Any:
        """For the critic."""
        return features


class SwitchHead(nn.Module):
    """Logits of `CfIsacSequential-v0`: one for switching each AP, one for stopping.

    Args:
        network: sizes of the layers behind it.
    """

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        node, head = network.node_widths[-1], (network.head_width,)
        self.switch = Joint({"ap": node, "set": 2 * node + 6, "change": 6}, head, 1)
        self.stop = mlp(2 * node + 6, head, 1)

    def forward(self, look: Look) -> Tensor:
        """(B, M + 1)."""
        around, change = seen(look)
        head = self.switch
        parts = head.part("ap", look.embedding.ap), head.part("set", around)[:, None], head.part("change", change)
        return torch.cat([head(*parts)[..., 0], self.stop(around)], -1)


class ValueHead(nn.Module):
    """Value of a set of APs.

    Args:
        network: sizes of the layers behind it.
    """

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        self.value = mlp(2 * network.node_widths[-1] + 6, (network.head_width, network.head_width), 1)

    def forward(self, look: Look) -> Tensor:
        """(B, 1)."""
        value: Tensor = self.value(seen(look)[0])
        return value


def seen(look: Look) -> tuple[Tensor, Tensor]:
    """What the HetGNN's heads know about a set, and how much it radiates: (B, 2F + 6) and, for every AP, (B, M, 6).

    The set also has its mean power and how many APs it has beyond those that its power fills to the cap; an AP what it radiates, the
    logarithm of that, and by how many decades it is above the AP of the set that radiates least.
    """
    around, change = HetGnn._look(look.embedding, look.on)
    mask = look.on.to(look.power.dtype)
    size, total = mask.sum(-1, keepdim=True), look.power.sum(-1, keepdim=True)
    decades = torch.log10(look.power.clamp(min=FLOOR))
    least = decades.masked_fill(~look.on, torch.inf).amin(-1, keepdim=True)
    load = torch.stack([look.power, decades / 3.0, (decades - least).clamp(max=6.0) / 3.0], -1) * mask[..., None]
    slack = torch.cat([total / size.clamp(min=1.0), (size - total) / 10.0], -1)
    return torch.cat([around, slack], -1), torch.cat([change, load], -1)


class GraphMaskablePolicy(MaskableActorCriticPolicy):
    """For `MaskablePPO` on `CfIsacSequential-v0`."""

    def embed(self, observations: Mapping[str, Any]) -> Embedding:
        """What the network knows about a batch of drops of any size, whatever their sets of APs."""
        assert isinstance(self.features_extractor, GraphFeatures)
        embedding: Embedding = self.features_extractor.network.embed(build(observations))
        return embedding

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.features_extractor, GraphFeatures)
        network = self.features_extractor.network.config
        self.mlp_extractor = Both()  # type: ignore[assignment]
        self.action_net = SwitchHead(network)
        self.value_net = ValueHead(network)  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
