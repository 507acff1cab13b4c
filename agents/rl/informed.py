"""Critics of the MLP policies that are told what an action comes to: SINRs, CRLBs and power, besides the flattened state and action.

A critic on the flattened state and action alone has to find out that a user's SINR is a ratio of sums over APs. With the hidden layers
of the paper and 30 APs it doesn't: `tests/agents/rl/test_order.py` holds both kinds against drops that they haven't seen.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor

from agents.hetgnn.graph import drops_of
from agents.rl.graph import consequences


class InformedCritic(ContinuousCritic):
    """Critics 64–128–1 that see the state, the action, and what the action comes to.

    Args:
        observation_space: of `CfIsac-v0`, users with pilots of their own.
        action_space: of `CfIsac-v0`.
        net_arch: hidden layers.
        features_extractor: flattens the observation.
        features_dim: of what it returns.
        arguments: of the base class.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        **arguments: Any,
    ) -> None:
        told = 2 * (observation_space["ue"].shape[0] + observation_space["target"].shape[0]) + 2  # type: ignore[index]
        super().__init__(
            observation_space, action_space, net_arch, features_extractor, features_dim + told, **arguments
        )
        self._shape = action_space.shape

    def forward(self, obs: Any, actions: Tensor) -> tuple[Tensor, ...]:
        """What every critic thinks, each (n, 1)."""
        with torch.set_grad_enabled(not self.share_features_extractor):
            features = self.extract_features(obs, self.features_extractor)
        seen = self._seen(features, obs, actions)
        return tuple(network(seen) for network in self.q_networks)

    def q1_forward(self, obs: Any, actions: Tensor) -> Tensor:
        """What the first thinks."""
        with torch.no_grad():
            features = self.extract_features(obs, self.features_extractor)
        value: Tensor = self.q_networks[0](self._seen(features, obs, actions))
        return value

    def told(self, obs: Any, actions: Tensor) -> Tensor:
        """(n, 2K + 2S + 2): decades above and below what is required, how many tens of APs are on, what they radiate in 10 P_max."""
        drops = drops_of(obs)
        on, load, user, target = consequences(drops, actions.reshape(-1, *self._shape))
        margins = torch.cat([user, target], 1)
        spent = torch.stack([on.sum(1), load.sum(1)], 1) / 10.0
        return torch.cat([margins, margins.clamp(max=0.0), spent], 1)

    def _seen(self, features: Tensor, obs: Any, actions: Tensor) -> Tensor:
        return torch.cat([features, actions, self.told(obs, actions)], 1)


class _Informed:
    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Critics that are told what actions come to, unless users share pilots."""
        policy: Any = self
        if "pilots" in policy.observation_space.spaces:
            plain: ContinuousCritic = super().make_critic(features_extractor)  # type: ignore[misc]
            return plain
        arguments = policy._update_features_extractor(policy.critic_kwargs, features_extractor)
        return InformedCritic(**arguments).to(policy.device)


class InformedTD3Policy(_Informed, TD3Policy):
    """For `DDPG` and `TD3`."""


class InformedSACPolicy(_Informed, SACPolicy):
    """For `SAC`."""
