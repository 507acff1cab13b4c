"""Rewards of `CfIsac-v0` relative to the least that a drop can need, comparable between drops, sizes and presets."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

UNSERVED, WORST = 1.5, 3.0
"""Cost of an unserved drop in `RelativePower`, and the largest amount that its violations add."""


class RelativePower(VecEnvWrapper):
    """Reward −log(P/(n_min P_cir)) where every requirement is met, −1.5 − the violations (3 at most) elsewhere.

    It is of one scale at every size and preset, which the watts of `CfIsac-v0` are not.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Without the class's own attributes, which can't be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With them again."""
        self.__dict__.update(state, class_attributes=dict(inspect.getmembers(type(self))))

    def reset(self) -> VecEnvObs:
        """Reset all."""
        observation = self.venv.reset()
        self._observation: Any = observation
        self.num_envs = self.venv.num_envs
        return observation

    def step_wait(self) -> VecEnvStepReturn:
        """Step all."""
        observation, _, dones, infos = self.venv.step_wait()
        requirement = np.asarray(self._observation["requirement"], np.float64)
        users = self._observation["comm"].shape[2]
        gamma, nu, cap, circuit = requirement.T
        floor = np.maximum(users * gamma, 1.0) * np.maximum(circuit, 0.01 * cap)
        rewards = np.empty(len(infos), np.float32)
        for i, info in enumerate(infos):
            if info["feasible"]:
                rewards[i] = -np.log(info["total_power_w"] / floor[i])
            else:
                sinr = np.maximum(0.0, 1.0 - 10.0 ** (np.asarray(info["sinr_db"]) / 10.0) / gamma[i]).sum()
                crlb = np.maximum(0.0, 1.0 - nu[i] / np.asarray(info["crlb_m2"])).sum()
                rewards[i] = -UNSERVED - min(sinr + crlb, WORST)
        self._observation, self.num_envs = observation, self.venv.num_envs
        return observation, rewards, dones, infos
