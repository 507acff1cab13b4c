"""Graph policies for Stable-Baselines3: the layers of the HetGNN as features extractor, heads for every AP and every user.

No weight depends on the numbers of APs, users, receivers or targets, so what was trained at one size plays at every other, and when APs
or users are numbered otherwise, so are the actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import Actor as TD3Actor
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn

from agents.hetgnn.graph import Drops, build
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
    network: HetGnn | None = None  # whose heads propose sets and powers


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
        return Look(self.network.embed(build(observations)), ap[..., 2] > 0.5, power, self.network)


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
    load = torch.stack([look.power, decades / 3.0, (decades - least).clamp(-6.0, 6.0) / 3.0], -1) * mask[..., None]
    slack = torch.cat([total / size.clamp(min=1.0), (size - total) / 10.0], -1)
    return torch.cat([around, slack], -1), torch.cat([change, load], -1)


class ActionHead(nn.Module):
    """Actions of `CfIsac-v0`, (B, M (K + 1)): the HetGNN's activation head for every AP, its power head for the set that results.

    Args:
        lift: what is added to every activation logit at first; a network that hasn't learned anything starts with every AP on by it.
    """

    def __init__(self, lift: float) -> None:
        super().__init__()
        self.lift = nn.Parameter(torch.tensor(lift))

    def forward(self, look: Look) -> Tensor:
        """Within [-1, 1]."""
        assert look.network is not None
        logits = look.network.propose(look.embedding, torch.zeros_like(look.on)) + self.lift
        on = logits >= 0
        share = look.network.power(look.embedding, on)
        amplitude = 2.0 * torch.sqrt(share.clamp(0.0, 1.0) + 1e-9) - 1.0
        action = torch.cat([torch.tanh(logits)[..., None], amplitude.to(logits.dtype)], -1)
        return action.flatten(1).clamp(-1.0, 1.0)


class UnsquashedHead(ActionHead):
    """The same before the tanh that SAC puts behind it."""

    def forward(self, look: Look) -> Tensor:
        """Within ±3."""
        limit = 0.995
        return torch.atanh(super().forward(look) * limit)


class Spread(nn.Module):
    """One logarithm of a standard deviation for all actions.

    Args:
        log_std: at first.
        actions: how many.
    """

    def __init__(self, log_std: float, actions: int) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.tensor(log_std))
        self._actions = actions

    def forward(self, look: Look) -> Tensor:
        """(B, actions)."""
        return self.log_std.expand(len(look.on), self._actions)


class QHead(nn.Module):
    """Value of an action of `CfIsac-v0`: every AP, user and target says what the action means to it, and the sum is heard.

    An AP sees its activation and power; a user by how much the action's SINR is above the threshold, a target the same of its CRLB. The
    step at an activation of 0 passes the gradient of a sigmoid.

    Args:
        network: sizes of the layers behind it.
    """

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        node, head = network.node_widths[-1], network.head_width
        self.ap = mlp(node + 3, (head,), head)
        self.user = mlp(node + 2, (head,), head)
        self.target = mlp(node + 2, (head,), head)
        self.value = mlp(head, (head,), 1)

    def forward(self, look: Look, actions: Tensor) -> Tensor:
        """(B, 1)."""
        embedding, drops = look.embedding, look.embedding.drops
        action = actions.reshape(*look.on.shape, -1)
        on, load, user, target = consequences(drops, action)
        parts = (
            self.ap(torch.cat([embedding.ap, action[..., :1], on[..., None], load[..., None]], -1)).sum(1),
            self.user(_judged(embedding.ue, user)).sum(1),
            self.target(_judged(embedding.target, target)).sum(1),
        )
        value: Tensor = self.value((parts[0] + parts[1] + parts[2]) / 10.0)
        return value


def consequences(drops: Drops, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What actions of `CfIsac-v0` come to, differentiable in every entry of them.

    Args:
        drops: B of them.
        action: (B, M, K + 1).

    Returns:
        Which APs are on (B, M), with the gradient of a sigmoid; what they radiate (B, M) in P_max; log10 γ_k/γ_thr (B, K) and
        log10 ν/CRLB_s (B, S), both no less than −3.
    """
    soft = torch.sigmoid(4.0 * action[..., 0])
    on = (action[..., 0] >= 0).to(soft.dtype) + soft - soft.detach()
    share = ((action[..., 1:] + 1.0) * 0.5) ** 2
    share = share / share.sum(-1, keepdim=True).clamp(min=1.0)
    load = share.sum(-1) * on
    signal = (torch.sqrt(share + 1e-12) * on[..., None] * torch.exp(0.5 * drops.log_estimate)).sum(1)
    interference = torch.einsum("bm,bmk->bk", load, torch.exp(drops.log_gain)) + 1.0
    user = torch.log10(signal * signal / interference / drops.sinr_threshold[:, None] + 1e-3)
    a, b, c = torch.einsum("bm,bmsj->bsj", load, drops.fisher).unbind(-1)
    target = torch.log10((a * b - c * c).clamp(min=0.0) / (a + b + 1e-9) + 1e-3)
    return on, load, user, target


def _judged(nodes: Tensor, margin: Tensor) -> Tensor:
    """Nodes with the decades that they are above what is required, and those that they lack."""
    return torch.cat([nodes, torch.stack([margin, margin.clamp(max=0.0)], -1)], -1)


class GraphCritic(ContinuousCritic):
    """Critics that look at the graph and the action."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self.features_extractor, GraphFeatures)
        self.q_networks = [QHead(self.features_extractor.network.config) for _ in range(self.n_critics)]
        for i, head in enumerate(self.q_networks):
            self.add_module(f"qf{i}", head)

    def forward(self, obs: Any, actions: Tensor) -> tuple[Tensor, ...]:
        """What every critic thinks, each (B, 1)."""
        with torch.set_grad_enabled(not self.share_features_extractor):
            look = self.extract_features(obs, self.features_extractor)
        return tuple(head(look, actions) for head in self.q_networks)

    def q1_forward(self, obs: Any, actions: Tensor) -> Tensor:
        """What the first thinks."""
        with torch.no_grad():
            look = self.extract_features(obs, self.features_extractor)
        value: Tensor = self.q_networks[0](look, actions)
        return value


class GraphTD3Policy(TD3Policy):
    """For `DDPG` and `TD3` on `CfIsac-v0`.

    Args:
        lift: of the `ActionHead`.
    """

    def __init__(self, *args: Any, lift: float, **kwargs: Any) -> None:
        self._lift = lift
        super().__init__(*args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> TD3Actor:
        """The paper's network in the place of the MLP."""
        actor = super().make_actor(features_extractor)
        actor.mu = ActionHead(self._lift)  # type: ignore[assignment]
        return actor

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Critics on the graph."""
        return GraphCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)


class GraphSACPolicy(SACPolicy):
    """For `SAC` on `CfIsac-v0`.

    Args:
        lift: of the `ActionHead`.
        noise_std: of the actions before the tanh, at first.
    """

    def __init__(self, *args: Any, lift: float, noise_std: float, **kwargs: Any) -> None:
        self._lift, self._noise_std = lift, noise_std
        super().__init__(*args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> SACActor:
        """The paper's network in the place of the MLP."""
        actor = super().make_actor(features_extractor)
        spread = Spread(math.log(self._noise_std), get_action_dim(self.action_space))
        for name, module in (("latent_pi", nn.Identity()), ("mu", UnsquashedHead(self._lift)), ("log_std", spread)):
            setattr(actor, name, module)
        return actor

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Critics on the graph."""
        return GraphCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)


class GraphPPOPolicy(ActorCriticPolicy):
    """For `PPO` on `CfIsac-v0`.

    Args:
        lift: of the `ActionHead`.
        noise_std: of the actions, at first.
    """

    def __init__(self, *args: Any, lift: float, noise_std: float, **kwargs: Any) -> None:
        self._lift, self._noise_std = lift, noise_std
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.features_extractor, GraphFeatures)
        self.mlp_extractor = Both()  # type: ignore[assignment]
        self.action_net = ActionHead(self._lift)
        self.log_std = nn.Parameter(torch.tensor([math.log(self._noise_std)]))
        self.value_net = ValueHead(self.features_extractor.network.config)  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]


class GraphMaskablePolicy(MaskableActorCriticPolicy):
    """For `MaskablePPO` on `CfIsacSequential-v0`."""

    def embed(self, observations: Mapping[str, Any]) -> Embedding:
        """What the network knows about a batch of drops of any size, whatever their sets of APs."""
        assert isinstance(self.features_extractor, GraphFeatures)
        embedding: Embedding = self.features_extractor.network.embed(build(observations, self.device))
        return embedding

    def _build(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.features_extractor, GraphFeatures)
        network = self.features_extractor.network.config
        self.mlp_extractor = Both()  # type: ignore[assignment]
        self.action_net = SwitchHead(network)
        self.value_net = ValueHead(network)  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
