"""The canonical order of access points and users, in which place i means the same kind of AP in every drop."""

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
"""What the axes of an entry run over: APs or users. Entries and axes that aren't here stay as they are."""


@dataclass(frozen=True, eq=False)
class Order:
    """Canonical order of the APs and users of one drop, or of a batch of drops along one leading axis.

    APs stand by Σ_s q_a + q_b, the most informative first; users by the place of their strongest AP, those of one AP by their gain to it,
    the strongest first.

    Attributes:
        aps: (…, M) the AP at every place.
        users: (…, K) the user at every place.
    """

    aps: NDArray[np.intp]
    users: NDArray[np.intp]

    @classmethod
    def of(cls, observation: Mapping[str, NDArray[Any]]) -> Order:
        """The order for the `sensing` and `comm` of an observation, or of a batch."""
        information = (10.0 ** observation["sensing"][..., :2].astype(np.float64)).sum((-2, -1))
        aps = np.argsort(-information, axis=-1, kind="stable")
        gain = np.take_along_axis(observation["comm"][..., 0], aps[..., None], -2)
        return cls(aps, np.lexsort((-gain.max(-2), gain.argmax(-2)), axis=-1))

    def arrange(self, observation: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The observation with APs and users at their places."""
        places = {"M": self.aps, "K": self.users}
        arranged = dict(observation)
        for key in arranged.keys() & _AXES.keys():
            for axis, kind in enumerate(_AXES[key]):
                arranged[key] = _take(arranged[key], places[kind], axis)
        return arranged

    def restore(self, action: Any, space: gym.Space[Any]) -> Any:
        """The action for APs and users as they are numbered, from one for their places.

        Args:
            action: (…, M, K + 1), (…, M), or of `Discrete(M + 1)`, whose last one isn't an AP.
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
    """values[…, order[…, j], …] along an axis that is counted after the leading axes of the order."""
    lead = order.ndim - 1
    index = order.reshape(*order.shape[:-1], *(1,) * axis, order.shape[-1], *(1,) * (values.ndim - lead - axis - 1))
    return np.take_along_axis(values, index, lead + axis)


def check_ordered(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Refuse environments whose APs and users have no order to be brought into.

    Raises:
        TypeError: naming what is missing.
    """
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
