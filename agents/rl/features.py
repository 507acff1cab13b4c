"""Flattened observation, standardised with statistics that are saved with the model."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from cfisac_env.types import Array


class ScaledFlatten(BaseFeaturesExtractor):
    """Concatenate the entries of the observation and standardise them by their mean and standard deviation over drops."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, observation_space: spaces.Dict) -> None:
        size = sum(get_flattened_obs_dim(space) for space in observation_space.values())
        super().__init__(observation_space, size)
        self._keys = sorted(observation_space.keys())
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, observations: dict[str, Array]) -> None:
        """Set mean and standard deviation from a batch of observations; features that are constant in it aren't scaled."""
        flat = self._flatten({key: torch.as_tensor(observations[key]) for key in self._keys}).double()
        deviation = flat.std(0)
        varies = deviation > 1e-6
        self.mean.copy_(flat.mean(0))
        self.scale.copy_(torch.where(varies, 1.0 / torch.where(varies, deviation, 1.0), 1.0))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """(n, size)."""
        return (self._flatten(observations) - self.mean) * self.scale

    def _flatten(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([observations[key].flatten(1) for key in self._keys], dim=1)
