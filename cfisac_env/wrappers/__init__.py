"""Gymnasium wrappers for all environments of the suite; see `cfisac_env.wrappers.vector` for vector environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from cfisac_env.wrappers.order import Order, check_ordered

__all__ = ["CanonicalOrder", "FlatAction", "FlatObservation", "MOGymnasium", "Order", "SafetyGymnasium"]


class CanonicalOrder(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Reorder APs and users of observations and actions canonically.

    The index of an AP carries no information, so that policies without permutation equivariance cannot learn from it. In canonical order
    (`Order`) the first APs are the most informative about the targets. Infos keep the original order.

    Args:
        env: any environment of the suite with the observation of `CfIsac-v0`.

    Raises:
        TypeError: unsupported observations or actions.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        check_ordered(env.observation_space, env.action_space)
        self._order: Order | None = None

    @property
    def order(self) -> Order:
        """Canonical order of the last observation."""
        if self._order is None:
            raise RuntimeError("the environment has to be reset before its APs have an order: call reset()")
        return self._order

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the mask of the wrapped environment in canonical order, (M + 1,)."""
        mask: NDArray[np.bool_] = np.asarray(self.env.get_wrapper_attr("action_masks")())
        M = len(self.order.aps)
        return np.concatenate([mask[self.order.aps], mask[M:]])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and reorder the observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._arranged(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with an action in canonical order."""
        observation, *rest = self.env.step(self.order.restore(action, self.env.action_space))
        return (self._arranged(observation), *rest)  # type: ignore[return-value]

    def _arranged(self, observation: Any) -> dict[str, NDArray[Any]]:
        self._order = Order.of(observation)
        return self._order.arrange(observation)


class FlatObservation(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Flatten the observation to a 1-D array, for code without support of `Dict` (CleanRL, RLlib's default models).

    Unlike `gymnasium.wrappers.FlattenObservation`, it can be pickled for worker processes.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = spaces.flatten_space(env.observation_space)

    def observation(self, observation: Any) -> Any:
        """Concatenate the entries."""
        return spaces.flatten(self.env.observation_space, observation)


class FlatAction(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Accept actions as 1-D arrays in row-major order.

    Raises:
        TypeError: the actions aren't a `Box`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.action_space = flat_actions(env.action_space)

    def action(self, action: Any) -> Any:
        """Reshape the action for the wrapped environment."""
        return unflattened(action, self.action_space.shape, self.env.action_space.shape)


class SafetyGymnasium(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Return the six-tuple of Safety-Gymnasium: observation, reward, cost, terminated, truncated, info.

    The cost is `info["cost"]`, the sum of the relative violations. With `reward="power"`, the reward is the negative power alone.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def step(self, action: Any) -> tuple[Any, float, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Step, and return the cost after the reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), float(info["cost"]), terminated, truncated, info


class MOGymnasium(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Return the vector reward of MO-Gymnasium: (−power in W, −cost), to be maximised both.

    The power includes switching energy per second of a step; the cost is `info["cost"]`, the sum of the relative violations. Environments
    whose episodes are moves from set to set return them for the set after each move. `env.unwrapped.reward_space` holds the bounds, where
    MO-Gymnasium's wrappers look for them.

    Args:
        env: any environment of the suite.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        base: Any = env.unwrapped
        base.reward_space = self.reward_space = reward_space(base)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and return the vector reward, float32 (2,)."""
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, vector_reward(info, self.env.unwrapped), terminated, truncated, info


def reward_space(env: Any) -> spaces.Box:
    """Return the space of `vector_reward` of an unwrapped environment."""
    config = env.config
    switching_w = getattr(env, "switching_energy_j", 0.0) / getattr(env, "step_s", 1.0)
    most_w = config.M * (config.max_ap_power_w + config.circuit_power_w + switching_w)
    low = np.nextafter(np.array([-most_w, -(config.K + config.S)], np.float32), np.float32(-np.inf))
    return spaces.Box(low, np.zeros(2, np.float32), dtype=np.float32)


def vector_reward(info: dict[str, Any], env: Any) -> NDArray[np.float32]:
    """Compute (−power in W, −cost) from the info of a step of one environment or a batch, (…, 2)."""
    switching_w = info.get("switching_energy_j", 0.0) / getattr(env, "step_s", 1.0)
    drawn_w = info["total_power_w"] + switching_w
    return 0.0 - np.stack([np.asarray(drawn_w), np.asarray(info["cost"])], axis=-1).astype(np.float32)


def flat_actions(space: gym.Space[Any]) -> spaces.Box:
    """Flatten a Box, or raise a TypeError."""
    if not isinstance(space, spaces.Box):
        raise TypeError(f"FlatAction flattens a Box of actions, got {space}; other spaces are taken as they are")
    return spaces.Box(space.low.reshape(-1), space.high.reshape(-1), dtype=space.dtype.type)


def unflattened(action: Any, flat: Any, wanted: Any) -> Any:
    """Reshape a flat action, or raise a ValueError."""
    if tuple(np.shape(action)) != tuple(flat):
        raise ValueError(
            f"the flat action must have shape {tuple(flat)}, got {tuple(np.shape(action))}; was the policy built for this size?"
        )
    return action.reshape(wanted) if hasattr(action, "reshape") else np.asarray(action).reshape(wanted)
