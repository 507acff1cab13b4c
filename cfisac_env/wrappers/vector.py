"""Batched versions of `cfisac_env.wrappers` for vector environments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from cfisac_env.physics import namespace
from cfisac_env.wrappers import flat_actions, reward_space, unflattened, vector_reward
from cfisac_env.wrappers.order import Order, check_ordered

__all__ = ["CanonicalOrder", "FlatAction", "FlatObservation", "MOGymnasium", "SafetyGymnasium"]

_Envs = VectorEnv[Any, Any, Any]
_Step = tuple[Any, Any, Any, Any, dict[str, Any]]


class _Observation(VectorWrapper[Any, Any, Any, Any, Any]):
    """Wrapper of observations, including the final ones of episodes (`final_obs`)."""

    @abstractmethod
    def _converted(self, observation: Any) -> Any:
        """Convert the observation of any number of environments."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and convert the observation."""
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._converted(observation), infos

    def step(self, actions: Any) -> _Step:
        """Step, and convert the observation."""
        observation, *rest, infos = self.env.step(actions)
        if "final_obs" in infos:
            final = infos["final_obs"].copy()
            for i in np.flatnonzero(np.asarray(infos["_final_obs"])):
                converted = self._converted({key: value[None] for key, value in final[i].items()})
                final[i] = (
                    {key: value[0] for key, value in converted.items()} if isinstance(converted, dict) else converted[0]
                )
            infos = {**infos, "final_obs": final}
        return (self._converted(observation), *rest, infos)


class CanonicalOrder(_Observation):
    """Reorder APs and users canonically, as `cfisac_env.wrappers.CanonicalOrder`.

    Args:
        env: of NumPy arrays.

    Raises:
        TypeError: unsupported observations or actions, or tensors.
    """

    def __init__(self, env: _Envs) -> None:
        super().__init__(env)
        check_ordered(env.single_observation_space, env.single_action_space)
        _check_numpy(env, "CanonicalOrder")
        self._order: Order | None = None

    @property
    def order(self) -> Order:
        """Canonical order of the last observations, (N, M) and (N, K)."""
        if self._order is None:
            raise RuntimeError("the environments have to be reset before their APs have an order: call reset()")
        return self._order

    def step(self, actions: Any) -> _Step:
        """Step with actions in canonical order."""
        return super().step(self.order.restore(actions, self.env.single_action_space))

    def _converted(self, observation: Any) -> Any:
        self._order = Order.of(observation)
        return self._order.arrange(observation)


class FlatObservation(_Observation):
    """Flatten observations to rows (N, …), as `cfisac_env.wrappers.FlatObservation`."""

    def __init__(self, env: _Envs) -> None:
        super().__init__(env)
        flat: Any = spaces.flatten_space(env.single_observation_space)
        self.single_observation_space = flat
        self.observation_space = batch_space(flat, env.num_envs)

    def _converted(self, observation: Any) -> Any:
        space: Any = self.env.single_observation_space
        rows = [observation[key].reshape(observation[key].shape[0], -1) for key in space]
        return namespace(rows[0]).concat(rows, axis=-1)


class FlatAction(VectorWrapper[Any, Any, Any, Any, Any]):
    """Accept actions as rows (N, …), as `cfisac_env.wrappers.FlatAction`.

    Raises:
        TypeError: the actions aren't a `Box`.
    """

    def __init__(self, env: _Envs) -> None:
        super().__init__(env)
        self.single_action_space = flat_actions(env.single_action_space)
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def step(self, actions: Any) -> _Step:
        """Step with the reshaped actions."""
        return self.env.step(unflattened(actions, self.action_space.shape, self.env.action_space.shape))


class _FromInfo(VectorWrapper[Any, Any, Any, Any, Any]):
    """Wrapper that computes results of a step from the infos of its decisions, not from those of resets."""

    _over: Any = None  # environments that a next-step autoreset only resets

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset."""
        mask = (options or {}).get("reset_mask")
        if self._over is not None:
            self._over = None if mask is None else self._over & ~mask
        return self.env.reset(seed=seed, options=options)

    def _fill(self, results: Any, of: Callable[[dict[str, Any]], Any], step: _Step) -> Any:
        """Fill `results` (N, …) with `of(info)` where a decision was made."""
        _, _, terminations, truncations, infos = step
        over = terminations | truncations
        ended = infos.get("_final_info", over & ~over)
        for info, rows in ((infos, ~ended), (infos.get("final_info", {}), ended)):
            chosen = rows if self._over is None else rows & ~self._over
            if "cost" in info:
                results[chosen] = of(info)[chosen]
        if self.env.metadata.get("autoreset_mode") is AutoresetMode.NEXT_STEP:
            self._over = over if self._over is None else over & ~self._over
        return results


class SafetyGymnasium(_FromInfo):
    """Return observations, rewards, costs (N,), terminations, truncations and infos, as `cfisac_env.wrappers.SafetyGymnasium`.

    Costs include those of final steps with same-step autoreset, and are zero for steps that only reset.
    """

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any, dict[str, Any]]:  # type: ignore[override]
        """Step, and return the costs after the rewards."""
        step = observation, rewards, terminations, truncations, infos = self.env.step(actions)
        costs = self._fill(rewards * 0.0, lambda info: info["cost"], step)
        return observation, rewards, costs, terminations, truncations, infos


class MOGymnasium(_FromInfo):
    """Return vector rewards (N, 2) of NumPy, as `cfisac_env.wrappers.MOGymnasium`.

    They include those of final steps with same-step autoreset, and are zero for steps that only reset.

    Args:
        env: any vector environment of the suite that gives NumPy arrays.

    Raises:
        TypeError: an environment of tensors.
    """

    def __init__(self, env: _Envs) -> None:
        super().__init__(env)
        _check_numpy(env, "MOGymnasium")
        base: Any = env.unwrapped
        self._single = base.envs[0].unwrapped if hasattr(base, "envs") else base
        self.reward_space = base.reward_space = batch_space(reward_space(self._single), env.num_envs)

    def step(self, actions: Any) -> _Step:
        """Step, and return the vector rewards."""
        step = observation, _, terminations, truncations, infos = self.env.step(actions)
        rewards = np.zeros((self.num_envs, 2), np.float32)
        self._fill(rewards, lambda info: vector_reward(info, self._single), step)
        return observation, rewards, terminations, truncations, infos


def _check_numpy(env: _Envs, wrapper: str) -> None:
    if getattr(env.unwrapped, "backend", "numpy") != "numpy":
        raise TypeError(
            f"{wrapper} works on NumPy arrays, but this environment returns torch tensors; leave backend='torch' out"
        )
