"""Gymnasium wrappers for every environment of the suite; `cfisac_env.wrappers.vector` has those for vector environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from cfisac_env.wrappers.order import Order, check_ordered

__all__ = ["CanonicalOrder", "FlatAction", "FlatObservation", "Order", "SafetyGymnasium"]


class CanonicalOrder(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Show APs and users in their canonical order, and take actions for them in that order.

    As numbered, AP i is another kind of AP in every drop, which a policy that isn't permutation-equivariant can't learn. In this order
    (`Order`) the first APs know most about the targets. Infos stay as numbered.

    Args:
        env: any environment of the suite with the observation of `CfIsac-v0`.

    Raises:
        TypeError: its observations or actions have no such order.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        check_ordered(env.observation_space, env.action_space)
        self._order: Order | None = None

    @property
    def order(self) -> Order:
        """Of the last observation."""
        if self._order is None:
            raise RuntimeError("the environment has to be reset before its APs have an order: call reset()")
        return self._order

    def action_masks(self) -> NDArray[np.bool_]:
        """(M + 1,) bool: the mask of the wrapped environment, for the places."""
        mask: NDArray[np.bool_] = np.asarray(self.env.get_wrapper_attr("action_masks")())
        M = len(self.order.aps)
        return np.concatenate([mask[self.order.aps], mask[M:]])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and arrange the observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._arranged(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with an action for the places."""
        observation, *rest = self.env.step(self.order.restore(action, self.env.action_space))
        return (self._arranged(observation), *rest)  # type: ignore[return-value]

    def _arranged(self, observation: Any) -> dict[str, NDArray[Any]]:
        self._order = Order.of(observation)
        return self._order.arrange(observation)


class FlatObservation(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Show the observation as one 1-D array, entry after entry, for code that takes no `Dict` (CleanRL, RLlib's default models).

    Unlike `gymnasium.wrappers.FlattenObservation`, it can be pickled, so that it goes to worker processes.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = spaces.flatten_space(env.observation_space)

    def observation(self, observation: Any) -> Any:
        """The entries one after the other."""
        return spaces.flatten(self.env.observation_space, observation)


class FlatAction(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Take actions as 1-D arrays, row after row.

    Args:
        env: with a `Box` of actions.

    Raises:
        TypeError: the actions aren't a `Box`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.action_space = flat_actions(env.action_space)

    def action(self, action: Any) -> Any:
        """The action in the shape of the wrapped environment."""
        return unflattened(action, self.action_space.shape, self.env.action_space.shape)


class SafetyGymnasium(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Return the six-tuple of Safety-Gymnasium: observation, reward, cost, terminated, truncated, info.

    The cost is `info["cost"]`, the sum of the relative violations. Made with `reward="power"`, the reward is the negative power alone.

    Args:
        env: any environment of the suite.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def step(self, action: Any) -> tuple[Any, float, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Step; the cost stands after the reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), float(info["cost"]), terminated, truncated, info


def flat_actions(space: gym.Space[Any]) -> spaces.Box:
    """The 1-D Box of a Box of any shape, or a TypeError."""
    if not isinstance(space, spaces.Box):
        raise TypeError(f"FlatAction flattens a Box of actions, got {space}; other spaces are taken as they are")
    return spaces.Box(space.low.reshape(-1), space.high.reshape(-1), dtype=space.dtype.type)


def unflattened(action: Any, flat: Any, wanted: Any) -> Any:
    """The action in the shape that is wanted, or a ValueError."""
    if tuple(np.shape(action)) != tuple(flat):
        raise ValueError(
            f"the flat action must have shape {tuple(flat)}, got {tuple(np.shape(action))}; was the policy built for this size?"
        )
    return action.reshape(wanted) if hasattr(action, "reshape") else np.asarray(action).reshape(wanted)
