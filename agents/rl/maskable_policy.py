"""Graph policy of MaskablePPO on `CfIsacSequential-v0`: the layers of the HetGNN, and a logit for every AP.

No weight depends on the numbers of APs, users, receivers or targets, so a policy plays every size; permuting APs permutes logits.
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
"""Default sizes of the layers."""

FLOOR = 1e-6
"""Lower limit of a radiated power before its logarithm is taken, in P_max."""


@dataclass(frozen=True, eq=False)
class SetState:
    """B drops, each with its current set of APs."""

    embedding: Embedding
    on: Tensor  # (B, M) bool
    power: Tensor  # (B, M) P_m/P_max


class GraphFeatures(BaseFeaturesExtractor):
    """Embed an observation with the HetGNN. The result is a `SetState`, not a vector.

    Args:
        observation_space: of `CfIsacSequential-v0`.
        network: sizes of the layers.
    """

    def __init__(self, observation_space: spaces.Dict, network: NetworkConfig = SMALL) -> None:
        super().__init__(observation_space, 1)
        self.network = HetGnn(network)

    def forward(self, observations: dict[str, Tensor]) -> SetState:
        """Embed."""
        amplitude = observations["power"]
        on = observations["ap"][..., 2] > 0.5
        return SetState(self.network.embed(build(observations)), on, (amplitude * amplitude).sum(-1))


class PassThrough(nn.Module):
    """Hand the features to actor and critic as they are, in place of SB3's MLP extractor."""

    def forward(self, features: Any) -> tuple[Any, Any]:
        """Return the features of the actor and of the critic."""
        return features, features

    def forward_actor(self, features: Any) -> Any:
        """Return the features of the actor."""
        return features

    def forward_critic(self, features: Any) -> Any:
        """Return the features of the critic."""
        return features


class SwitchHead(nn.Module):
    """Logits of `CfIsacSequential-v0`: switch each AP, or stop.

    Args:
        network: sizes of the layers.
    """

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        node, head = network.node_widths[-1], (network.head_width,)
        self.switch = Joint({"ap": node, "set": 2 * node + 6, "change": 6}, head, 1)
        self.stop = mlp(2 * node + 6, head, 1)

    def forward(self, state: SetState) -> Tensor:
        """(B, M + 1)."""
        whole, each = set_features(state)
        head = self.switch
        parts = head.part("ap", state.embedding.ap), head.part("set", whole)[:, None], head.part("change", each)
        return torch.cat([head(*parts)[..., 0], self.stop(whole)], -1)


class ValueHead(nn.Module):
    """State value of a set of APs.

    Args:
        network: sizes of the layers.
    """

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        self.value = mlp(2 * network.node_widths[-1] + 6, (network.head_width, network.head_width), 1)

    def forward(self, state: SetState) -> Tensor:
        """(B, 1)."""
        value: Tensor = self.value(set_features(state)[0])
        return value


def set_features(state: SetState) -> tuple[Tensor, Tensor]:
    """Features of the set, (B, 2F + 6), and of every AP in relation to it, (B, M, 6).

    Besides those of the HetGNN's heads: for the set its mean power, and the number of APs that its power would leave unused at the cap; for
    each AP its power, the logarithm of that, and its decades above the weakest AP of the set.
    """
    whole, each = HetGnn.set_features(state.embedding, state.on)
    mask = state.on.to(state.power.dtype)
    size, total = mask.sum(-1, keepdim=True), state.power.sum(-1, keepdim=True)
    decades = torch.log10(state.power.clamp(min=FLOOR))
    least = decades.masked_fill(~state.on, torch.inf).amin(-1, keepdim=True)
    load = torch.stack([state.power, decades / 3.0, (decades - least).clamp(-6.0, 6.0) / 3.0], -1) * mask[..., None]
    slack = torch.cat([total / size.clamp(min=1.0), (size - total) / 10.0], -1)
    return torch.cat([whole, slack], -1), torch.cat([each, load], -1)


class GraphMaskablePolicy(MaskableActorCriticPolicy):
    """Actor and critic on the graph, for `MaskablePPO` on `CfIsacSequential-v0`."""

    def embed(self, observations: Mapping[str, Any]) -> Embedding:
        """Embed a batch of drops of any size; the result doesn't depend on their sets of APs."""
        assert isinstance(self.features_extractor, GraphFeatures)
        embedding: Embedding = self.features_extractor.network.embed(build(observations, self.device))
        return embedding

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.features_extractor, GraphFeatures)
        network = self.features_extractor.network.config
        self.mlp_extractor = PassThrough()  # type: ignore[assignment]
        self.action_net = SwitchHead(network)
        self.value_net = ValueHead(network)  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
