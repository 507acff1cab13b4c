"""Gymnasium's vector environments for Stable-Baselines3, which has an interface of its own for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn


class SB3VecEnv(VecEnv):
    """A `gymnasium.vector.VectorEnv` as an SB3 `VecEnv`.

    ```python
    import gymnasium as gym
    import cfisac_env
    from agents.rl.vec_env import SB3VecEnv
    from stable_baselines3 import PPO

    envs = gym.make_vec("CfIsac-v0", num_envs=8, autoreset_mode="SameStep", M=10, K=3)
    model = PPO("MultiInputPolicy", SB3VecEnv(envs), n_steps=16, batch_size=64)
    model.learn(256)
    ```

    As with SB3's own, a finished environment is reset in the same step, its last observation is `info["terminal_observation"]`, and
    `info["TimeLimit.truncated"]` says whether it was cut off rather than over.

    Args:
        env: with `metadata["autoreset_mode"]` of `SAME_STEP`.

    Raises:
        TypeError: not a `VectorEnv`.
        ValueError: another mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if not isinstance(env, VectorEnv):
            raise TypeError(
                f"env must be a gymnasium.vector.VectorEnv such as gym.make_vec(...) returns, got {type(env).__name__}; "
                "SB3 takes single environments as they are"
            )
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 resets finished environments within the same step, but this one has autoreset_mode {mode}; "
                'make it with autoreset_mode="SameStep" (or, for vectorization_mode="sync" and "async", '
                'vector_kwargs={"autoreset_mode": "SameStep"})'
            )
        self.env = env
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> VecEnvObs:
        """Begin an episode everywhere, from the seeds and options that were set since the last reset."""
        if any(options != self._options[0] for options in self._options):
            raise ValueError(
                f"a vector environment takes the same reset options for all of its environments, got {self._options}"
            )
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        seed: Any = seeds  # Gymnasium's base class says int; its own environments take lists
        observation, infos = self.env.reset(seed=seed, options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = each(infos, self.num_envs)
        result: VecEnvObs = observation
        return result

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Take the actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and reset whoever has finished."""
        observation, rewards, terminations, truncations, batch = self.env.step(self._actions)
        batch = dict(batch)
        last, final = batch.pop("final_obs", None), batch.pop("final_info", {})
        for key in ("_final_obs", "_final_info"):
            batch.pop(key, None)
        infos, finals = each(batch, self.num_envs), each(final, self.num_envs)
        dones = terminations | truncations
        for i in np.flatnonzero(dones).tolist():
            self.reset_infos[i] = infos[i]
            infos[i] = {**finals[i], "terminal_observation": last[i]}
        for info, cut_off in zip(infos, (truncations & ~terminations).tolist(), strict=True):
            info["TimeLimit.truncated"] = cut_off
        return observation, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray[Any, Any] | None]:
        """A picture of every environment."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of every environment; where the vector environment doesn't tell them apart, its own."""
        chosen = self._get_indices(indices)
        if (singles := getattr(self.env, "envs", None)) is not None:
            return [singles[i].get_wrapper_attr(attr_name) for i in chosen]
        if (of_each := getattr(self.env, "get_attr", None)) is not None:
            values = of_each(attr_name)
            return [values[i] for i in chosen]
        return [getattr(self.env, attr_name) for _ in chosen]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of environments that exist one by one."""
        for single in self._singles(indices, f"the attribute {attr_name!r} cannot be set"):
            single.set_wrapper_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of environments that exist one by one."""
        singles = self._singles(indices, f"the method {method_name!r} cannot be called")
        return [single.get_wrapper_attr(method_name)(*method_args, **method_kwargs) for single in singles]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether each environment has a wrapper; those of a batch have none."""
        singles = getattr(self.env, "envs", None)
        return [singles is not None and is_wrapped(singles[i], wrapper_class) for i in self._get_indices(indices)]

    def _singles(self, indices: VecEnvIndices, otherwise: str) -> list[gym.Env[Any, Any]]:
        singles = getattr(self.env, "envs", None)
        if singles is None:
            raise AttributeError(
                f"{otherwise}: {type(self.env).__name__} has no environments of their own; "
                'use the vector environment itself, or make it with vectorization_mode="sync"'
            )
        return [singles[i] for i in self._get_indices(indices)]


def each(infos: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """The infos of n environments one by one, from Gymnasium's layout: values beside masks `_name` of who has them."""
    result: list[dict[str, Any]] = [{} for _ in range(n)]
    for name, values in infos.items():
        mask = infos.get(f"_{name}")
        if mask is None:  # a mask itself
            continue
        if isinstance(values, dict):
            rows: Sequence[Any] = each(values, n)
        else:
            rows = values.tolist() if values.ndim == 1 else list(values)
        for info, value, has in zip(result, rows, mask.tolist(), strict=True):
            if has:
                info[name] = value
    return result
