"""Adapter from Gymnasium's vector environments to the `VecEnv` interface of Stable-Baselines3."""

from __future__ import annotations

import time
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

    As in SB3's own `VecEnv`s, a finished environment is reset in the same step, its last observation is `info["terminal_observation"]`, and
    `info["TimeLimit.truncated"]` tells truncation from termination. `info["episode"]` holds return, length and duration of the episode,
    from which SB3 computes `ep_rew_mean`: as recorded by a wrapper below, otherwise by this class.

    Args:
        env: with `metadata["autoreset_mode"]` of `SAME_STEP`, and NumPy arrays.

    Raises:
        TypeError: not a `VectorEnv`, or one that computes with torch.
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
        if getattr(env.unwrapped, "backend", "numpy") != "numpy":
            raise TypeError(
                "Stable-Baselines3 works on NumPy arrays, but this environment returns torch tensors; leave backend='torch' out"
            )
        self.env = env
        self._actions: Any = None
        self._began = False
        n = env.num_envs
        self._returns, self._lengths, self._starts = np.zeros(n), np.zeros(n, np.int64), np.full(n, time.perf_counter())
        super().__init__(n, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> VecEnvObs:
        """Begin an episode in every environment, with the seeds and options set since the last reset."""
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        seed: Any = seeds  # Gymnasium's base class says int; its own environments take lists
        if len(self._options) != self.num_envs:
            raise ValueError(f"set_options takes one dict, or a list of {self.num_envs}, got {self._options}")
        if all(options == self._options[0] for options in self._options):
            observation, infos = self.env.reset(seed=seed, options=dict(self._options[0]) or None)
            self.reset_infos = each(infos, self.num_envs)
        else:
            observation = self._reset_by_options(seed)
        self._began = True
        self._returns[:], self._lengths[:], self._starts[:] = 0.0, 0, time.perf_counter()
        self._reset_seeds()
        self._reset_options()
        result: VecEnvObs = observation
        return result

    def _reset_by_options(self, seed: Any) -> Any:
        """Reset environments with equal options together, since Gymnasium takes one dict for all that are reset."""
        if not self._began:
            self.env.reset(seed=seed)  # a mask may only leave out environments that have been reset before
        observation: Any = None
        left = np.ones(self.num_envs, np.bool_)
        while left.any():
            options = self._options[int(np.argmax(left))]
            alike = np.array([other == options for other in self._options])
            observation, infos = self.env.reset(seed=seed, options={**options, "reset_mask": alike & left})
            for i in np.flatnonzero(alike & left).tolist():
                self.reset_infos[i] = each(infos, self.num_envs)[i]
            left &= ~alike
        return observation

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Set the actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and reset the environments whose episode has ended."""
        observation, rewards, terminations, truncations, batch = self.env.step(self._actions)
        batch = dict(batch)
        last, final = batch.pop("final_obs", None), batch.pop("final_info", {})
        # A wrapper of the vector environment puts the ended episode's record into the infos of the next episode's first step.
        recorded = each({key: batch.pop(key) for key in ("episode", "_episode") if key in batch}, self.num_envs)
        for key in ("_final_obs", "_final_info"):
            batch.pop(key, None)
        infos, finals = each(batch, self.num_envs), each(final, self.num_envs)
        dones = terminations | truncations
        self._returns += rewards
        self._lengths += 1
        for i in np.flatnonzero(dones).tolist():
            self.reset_infos[i] = infos[i]
            infos[i] = {"episode": self._episode(i), **finals[i], **recorded[i], "terminal_observation": last[i]}
        for info, cut_off in zip(infos, (truncations & ~terminations).tolist(), strict=True):
            info["TimeLimit.truncated"] = cut_off
        return observation, rewards.astype(np.float32), dones, infos

    def _episode(self, i: int) -> dict[str, Any]:
        """Return the record of an ended episode, as `Monitor` writes it, and start that of the next."""
        now = time.perf_counter()
        record = {
            "r": round(float(self._returns[i]), 6),
            "l": int(self._lengths[i]),
            "t": round(now - self._starts[i], 6),
        }
        self._returns[i], self._lengths[i], self._starts[i] = 0.0, 0, now
        return record

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray[Any, Any] | None]:
        """Render every environment."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of every environment."""
        if (singles := self._singles()) is not None:
            return [singles[i].get_wrapper_attr(attr_name) for i in self._get_indices(indices)]
        values = self._batch().get_attr(attr_name)
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute. Natively batched environments take requirements and penalties only, the same for all.

        Raises:
            AttributeError: there is no such attribute, or it is fixed.
            ValueError: `indices` selects some of natively batched environments.
        """
        if (singles := self._singles()) is not None:
            for i in self._get_indices(indices):
                singles[i].set_wrapper_attr(attr_name, value)
            return
        self._check_all(indices, f"the attribute {attr_name!r} cannot be set")
        self._batch().set_attr(attr_name, [value] * self.num_envs)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of every environment. Natively batched environments have `configure` and `evaluate`.

        Raises:
            AttributeError: there is no such method.
            ValueError: `indices` selects some of natively batched environments.
        """
        if (singles := self._singles()) is not None:
            chosen = [singles[i] for i in self._get_indices(indices)]
            return [single.get_wrapper_attr(method_name)(*method_args, **method_kwargs) for single in chosen]
        self._check_all(indices, f"the method {method_name!r} cannot be called")
        return list(self._batch().call(method_name, *method_args, **method_kwargs))

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether each environment has a wrapper; natively batched ones have none."""
        singles = self._singles()
        return [singles is not None and is_wrapped(singles[i], wrapper_class) for i in self._get_indices(indices)]

    def _batch(self) -> Any:
        """Return the vector environment below its wrappers."""
        return self.env.unwrapped

    def _singles(self) -> list[gym.Env[Any, Any]] | None:
        """Return the single environments in this process; None for natively batched ones."""
        return getattr(self.env.unwrapped, "envs", None)

    def _check_all(self, indices: VecEnvIndices, otherwise: str) -> None:
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(
                f"{otherwise} for some environments of {type(self.env.unwrapped).__name__}, which share one configuration; "
                'leave indices out, or make environments that exist one by one with vectorization_mode="sync"'
            )


def each(infos: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """Split Gymnasium's batched infos, in which masks `_name` mark the environments that have a value, into n dicts."""
    result: list[dict[str, Any]] = [{} for _ in range(n)]
    for name, values in infos.items():
        if name.startswith("_") and name[1:] in infos:
            continue
        mask = infos.get(f"_{name}", np.ones(n, np.bool_))  # entries of `episode` have no mask of their own
        if isinstance(values, dict):
            rows: Sequence[Any] = each(values, n)
        else:
            rows = [np.asarray(value) for value in values] if values.dtype == np.bool_ else list(values)
        for info, value, has in zip(result, rows, mask.tolist(), strict=True):
            if has:
                info[name] = value
    return result
