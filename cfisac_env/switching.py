"""The state and the cost of switching access points on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfisac_env import physics


@dataclass(frozen=True)
class Switching:
    """What time and switching cost, and where a network stands at an instant.

    An AP that is switched on costs `energy_j` at once, and serves nobody for `wake_up_steps` instants in which it draws circuit power.
    """

    step_s: float = 1.0
    energy_j: float = 0.0
    wake_up_steps: int = 0
    steps_left: int = 1  # decisions until the end of the episode, this one included
    previous_active: NDArray[np.bool_] | None = None  # (M,); None where no AP has a history
    wait: NDArray[np.int64] | None = None  # (M,) instants for which an AP that is on from now on will not serve yet

    def awake(self, M: int) -> NDArray[np.bool_]:
        """(M,) APs that serve at this instant if they are on."""
        return np.ones(M, dtype=bool) if self.wait is None else self.wait == 0

    def switched_on(self, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(M,) APs that are on and were not."""
        return np.zeros_like(active) if self.previous_active is None else active & ~self.previous_active

    def after(self, active: NDArray[np.bool_]) -> Switching:
        """Where the network stands at the next instant."""
        xp = physics.namespace(active)
        wait = xp.zeros_like(active, dtype=xp.int64) if self.wait is None else self.wait
        return replace(
            self,
            steps_left=self.steps_left - 1,
            previous_active=xp.asarray(active, copy=True),
            wait=active * physics.clip(wait - 1, 0) + self.wake_up_steps * ~active,
        )


def switching(observation: Mapping[str, NDArray[Any]]) -> Switching:
    """The state of switching in one observation; an observation without `wait` and `sequence` knows no cost of it."""
    if "wait" not in observation or "sequence" not in observation:
        return Switching()
    step_s, energy_j, wake_up_steps, steps_left = (float(x) for x in observation["sequence"])
    return Switching(
        step_s=step_s,
        energy_j=energy_j,
        wake_up_steps=int(wake_up_steps),
        steps_left=int(steps_left),
        previous_active=np.asarray(observation["ap"])[:, 2] > 0.5,
        wait=np.asarray(observation["wait"]).astype(np.int64),
    )
