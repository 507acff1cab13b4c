"""Canonical order of access points and users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

_AXES = {
    "ap": "M", "comm": "MK", "pilots": "KK", "power": "MK", "radar": "M", "sensing": "M", "ue": "K", "ue_turn_rate": "K",
    "ue_velocity": "K", "wait": "M",
}  # fmt: skip
"""Axes of the entries over APs and users; other entries and axes are not reordered."""


@dataclass(frozen=True, eq=False)
class Order:
    """Canonical order of the APs and users of one drop, or of a batch of drops along one leading axis.

    APs are sorted by decreasing Σ_s q_a + q_b; users by the position of their strongest AP, and by decreasing gain to it.

    Attributes:
        aps: (…, M) index of the AP at every position.
        users: (…, K) index of the user at every position.
    """

    aps: NDArray[np.intp]
    users: NDArray[np.intp]

    @classmethod
    def of(cls, observation: Mapping[str, NDArray[Any]]) -> Order:
        """Determine the order from `sensing` and `comm` of an observation or a batch."""
        information = (10.0 ** observation["sensing"][..., :2].astype(np.float64)).sum((-2, -1))
        aps = np.argsort(-information, axis=-1, kind="stable")
        gain = np.take_along_axis(observation["comm"][..., 0], aps[..., None], -2)
        return cls(aps, np.lexsort((-gain.max(-2), gain.argmax(-2)), axis=-1))

    def arrange(self, observation: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Reorder an observation canonically."""
        places = {"M": self.aps, "K": self.users}
        arranged = dict(observation)
        for key in arranged.keys() & _AXES.keys():
            for axis, kind in enumerate(_AXES[key]):
                arranged[key] = _take(arranged[key], places[kind], axis)
        return arranged

    def restore(self, action: Any, space: gym.Space[Any]) -> Any:
        """Convert an action in canonical order to the original order.

        Args:
            action: (…, M, K + 1), (…, M), or of `Discrete(M + 1)`, whose last value is not an AP.
            space: of a single environment.
        """
        if isinstance(space, spaces.Discrete):
            every = np.concatenate([self.aps, np.full((*self.aps.shape[:-1], 1), self.aps.shape[-1])], axis=-1)
            return np.take_along_axis(every, np.asarray(action)[..., None], -1)[..., 0]
        action = _take(np.asarray(action), np.argsort(self.aps, -1), 0)
        if len(space.shape or ()) == 1:
            return action
        first = np.zeros((*self.users.shape[:-1], 1), np.intp)
        return _take(action, np.concatenate([first, np.argsort(self.users, -1) + 1], -1), 1)


def _take(values: NDArray[Any], order: NDArray[np.intp], axis: int) -> NDArray[Any]:
    """Take values[…, order[…, j], …] along an axis, counted after the leading axes of the order."""
    lead = order.ndim - 1
    index = order.reshape(*order.shape[:-1], *(1,) * axis, order.shape[-1], *(1,) * (values.ndim - lead - axis - 1))
    return np.take_along_axis(values, index, lead + axis)


def check_ordered(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Refuse environments with unsupported observations or actions."""
    entries = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    if missing := [key for key in ("sensing", "comm") if key not in entries]:
        raise TypeError(
            f"CanonicalOrder reads the entries sensing and comm, and {', '.join(missing)} isn't in the observation space "
            f"{observation_space}; "
            "wrap the environment before its observations are flattened"
        )
    M, K, _ = entries["comm"].shape or ()
    discrete = isinstance(action_space, spaces.Discrete) and action_space.n == M + 1
    if not discrete and action_space.shape not in ((M, K + 1), (M,)):
        raise TypeError(
            f"CanonicalOrder puts back actions of shape ({M}, {K + 1}) or ({M},), or Discrete({M + 1}), got {action_space}; "
            "wrap the environment before its actions are flattened"
        )
