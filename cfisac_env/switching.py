"""Switching state and switching costs of access points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfisac_env import physics


@dataclass(frozen=True)
class Switching:
    """Switching costs and switching state at an instant.

    Switching an AP on costs `energy_j`, and for `wake_up_steps` instants it draws circuit power without serving.
    """

    step_s: float = 1.0
    energy_j: float = 0.0
    wake_up_steps: int = 0
    steps_left: int = 1  # remaining decisions of the episode, including this one
    previous_active: NDArray[np.bool_] | None = None  # (M,); None without history
    wait: NDArray[np.int64] | None = None  # (M,) remaining instants until an AP that is on from now on serves

    def awake(self, M: int) -> NDArray[np.bool_]:
        """Return the APs that serve at this instant if they are on, (M,)."""
        return np.ones(M, dtype=bool) if self.wait is None else self.wait == 0

    def switched_on(self, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the APs that are switched on, (M,)."""
        return np.zeros_like(active) if self.previous_active is None else active & ~self.previous_active

    def after(self, active: NDArray[np.bool_]) -> Switching:
        """Return the switching state at the next instant."""
        xp = physics.namespace(active)
        wait = xp.zeros_like(active, dtype=xp.int64) if self.wait is None else self.wait
        return replace(
            self,
            steps_left=self.steps_left - 1,
            previous_active=xp.asarray(active, copy=True),
            wait=active * physics.clip(wait - 1, 0) + self.wake_up_steps * ~active,
        )


def switching(observation: Mapping[str, NDArray[Any]]) -> Switching:
    """Decode the switching state of one observation; without `wait` and `sequence` switching is free."""
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
