"""Rules by which every AP decides alone, for `cfisac_env.decentralised`: no optimisation, and no information but the AP's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfisac_env import actions, physics
from cfisac_env.types import Decision

Observation = Mapping[str, NDArray[Any]]
"""Of one AP, see `CfIsacParallelEnv`."""


@dataclass(frozen=True)
class OwnLinks:
    """Switch on by the AP's own Fisher information, at full power.

    An AP is on when P_max ν tr Q/4 ≥ `threshold` for some target, the share of the sensing requirement that it could meet alone; it divides
    P_max among users in proportion to v_mk^`exponent`.
    """

    threshold: float
    exponent: float = 0.25

    def action(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action (K + 1,) of one AP."""
        _, crlb_m2, max_power_w, _ = observation["requirement"]
        share = max_power_w * crlb_m2 / 4 * _trace(observation["sensing"]).max()
        return _row(observation, bool(share >= self.threshold), 1.0, self.exponent)


@dataclass(frozen=True)
class SharedSensing:
    """Switch on by a ranking that all APs compute alike from the sensing links they share (a budget of 3 S numbers or more).

    On are the shortest prefix of the ranking by Fisher information that reaches every CRLB at full power, or ⌊K γ_thr⌋ + 1 APs if that is
    more, and the next `extra`. The AP radiates what this set needs for the CRLB if all of its APs radiate alike, in proportion to
    v_mk^`exponent`.
    """

    extra: int
    exponent: float = 0.25

    def action(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action (K + 1,) of one AP.

        Raises:
            ValueError: fewer than 3 S shared numbers per AP.
        """
        S, K = len(observation["sensing"]), len(observation["comm"])
        shared = observation["shared"]
        if shared.shape[1] < 3 * S:
            raise ValueError(
                f"SharedSensing needs a budget of 3 S = {3 * S} numbers per AP, this environment has {shared.shape[1]}"
            )
        gamma, crlb_m2, max_power_w, _ = (float(number) for number in observation["requirement"])
        sensing = shared[:, : 3 * S].reshape(-1, S, 3).astype(np.float64)
        ranking = np.argsort(-_trace(sensing).sum(-1), kind="stable")
        information = np.cumsum(max_power_w * _fisher(sensing)[ranking], axis=0)  # of every prefix
        excess = physics.trace_inverse(information).max(-1) / crlb_m2
        serving = np.flatnonzero(excess <= 1.0)
        size = len(ranking) if len(serving) == 0 else int(serving[0]) + 1
        size = min(len(ranking), max(size, int(K * gamma) + 1) + self.extra)
        level = min(1.0, 1.001 * float(excess[size - 1]))
        rank = int(np.flatnonzero(ranking == observation["own"].argmax())[0])
        return _row(observation, rank < size, level, self.exponent)


def _row(observation: Observation, active: bool, level: float, exponent: float) -> NDArray[np.float32]:
    """Return the action of an AP that divides `level` P_max among users in proportion to v^`exponent`."""
    weight = 10.0 ** (exponent * observation["comm"][:, 1].astype(np.float64))
    power = level * weight / weight.sum()
    row: NDArray[np.float32] = actions.encode(Decision(np.array([active]), power[None]), 1.0)[0]
    return row


def _trace(sensing: NDArray[Any]) -> NDArray[np.float64]:
    """Compute tr Q (…, S) of the entries `sensing` (…, S, 3)."""
    return np.asarray((10.0 ** sensing[..., :2].astype(np.float64)).sum(-1))


def _fisher(sensing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute q_a, q_b, q_c (…, 3) of the entries `sensing`."""
    diagonal = 10.0 ** sensing[..., :2]
    cross = sensing[..., 2:] * np.sqrt(diagonal[..., :1] * diagonal[..., 1:])
    return np.concatenate([diagonal, cross], axis=-1)
