"""An order of access points and users that a flattened observation can be learned in: entry i means the same kind of AP in every drop.

An MLP that reads APs as they happen to be numbered has to learn about each of them anew. In the order of this module the first APs
are those that tell most about the targets, and users follow the APs that they hear best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

_APS_FIRST = ("ap", "comm", "sensing", "radar")


@dataclass(frozen=True, eq=False)
class Order:
    """Of the APs and users of n drops.

    Attributes:
        aps: (n, M) the AP at every place.
        users: (n, K) the user at every place.
    """

    aps: NDArray[np.intp]
    users: NDArray[np.intp]

    @classmethod
    def of(cls, observation: Mapping[str, NDArray[Any]]) -> Order:
        """The order of a batch of observations of `CfIsac-v0`.

        Args:
            observation: entries (n, …). APs are ordered by Σ_s q_a + q_b, most first; users by the place of their strongest AP, then by
                how strong it is, strongest first.
        """
        information = (10.0 ** observation["sensing"][..., :2].astype(np.float64)).sum((-2, -1))
        aps = np.argsort(-information, axis=-1, kind="stable")
        gain = np.take_along_axis(observation["comm"][..., 0], aps[..., None], -2)
        return cls(aps, np.lexsort((-gain.max(-2), gain.argmax(-2)), axis=-1))

    def arrange(self, observation: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The observation with APs and users at their places."""
        arranged = dict(observation)
        for key in _APS_FIRST:
            arranged[key] = _take(arranged[key], self.aps, 1)
        arranged["comm"] = _take(arranged["comm"], self.users, 2)
        arranged["ue"] = _take(arranged["ue"], self.users, 1)
        if "pilots" in arranged:
            arranged["pilots"] = _take(_take(arranged["pilots"], self.users, 1), self.users, 2)
        return arranged

    def restore(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action (n, M, K + 1) for APs and users as they were numbered, from one for their places."""
        columns = np.concatenate([np.zeros((len(self.users), 1), np.intp), np.argsort(self.users, -1) + 1], -1)
        return _take(_take(action, np.argsort(self.aps, -1), 1), columns, 2)


def _take(values: NDArray[Any], order: NDArray[np.intp], axis: int) -> NDArray[Any]:
    """values[i, …, order[i, j], …] with the order along an axis."""
    shape = [1] * values.ndim
    shape[0], shape[axis] = order.shape
    return np.take_along_axis(values, order.reshape(shape), axis)


class Sorted(VecEnvWrapper):
    """Environments of `CfIsac-v0` whose APs and users stand in their order.

    Args:
        venv: whose observations and actions.
    """

    def reset(self) -> VecEnvObs:
        """Reset all."""
        return self._arranged(self.venv.reset())

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Step all, with actions for the places."""
        self.venv.step_async(self._order.restore(actions))

    def step_wait(self) -> VecEnvStepReturn:
        """What the step came to."""
        observation, rewards, dones, infos = self.venv.step_wait()
        over = np.flatnonzero(dones).tolist()
        if over:
            last = [infos[i]["terminal_observation"] for i in over]
            together = {key: np.stack([one[key] for one in last]) for key in last[0]}
            together = Order.of(together).arrange(together)
            for row, i in enumerate(over):
                infos[i]["terminal_observation"] = {key: value[row] for key, value in together.items()}
        return self._arranged(observation), rewards, dones, infos

    def _arranged(self, observation: VecEnvObs) -> VecEnvObs:
        assert isinstance(observation, dict)
        self._order = Order.of(observation)
        return self._order.arrange(observation)
