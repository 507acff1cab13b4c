"""Learned value of a set of APs: the expected cost of its failures in forecast futures."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.mobile.forecast import STEPS
from baselines.allocation.result import Float
from cfisac_env.mobile import Switching


@dataclass(frozen=True)
class Value:
    """Parameters of the value; each is unbounded, with 0 or the default as a neutral start.

    Costs are relative to E' = E + wake-up steps × step × P_cir, the price of an AP that has to be switched on, and times to the break-even
    time τ = E'/P_cir. A failure at time t costs E' scale (1 − t/(reach τ))₊^power.
    """

    scale: float = -0.4  # logarithm of the cost of a failure
    scale_slope: float = 0.1  # its slope over ln(τ/20 steps)
    reach: float = 0.1  # logarithm of the time beyond which failures cost nothing
    reach_slope: float = -0.2  # its slope over ln(τ/20 steps)
    power: float = -0.5  # logarithm
    again: float = -0.1  # log-odds of the cost of a further failure of the same future, relative to the first
    begin: float = -0.1  # load at which failing begins, minus 1
    begin_slope: float = -0.1  # its change with the time from now, see `_growth`
    width: float = -0.9  # logarithm of the load from the beginning of failing to certain failure
    width_slope: float = 0.3  # its change with the time from now
    users: float = 0.0  # logarithm of a factor of the users' load
    spread: float = 1.3  # power of an AP, relative to P_max, at which sets of three begin to fail
    spread_slope: float = 0.25  # its increase per further AP
    spread_width: float = -0.7  # logarithm of the increase to certain failure
    deep: float = -1.2  # logarithm of the cost of a deep failure, relative to a failure
    deep_begin: float = 0.5  # logarithm of the additional load at which it begins
    deep_width: float = 0.5  # logarithm of the load from its beginning to certainty
    miss: float = 4.1  # logarithm of the cost of an instant that cannot be rescued in time, J
    miss_after: float = -1.7  # logarithm of the same for the instant after, relative to `miss`
    keep: float = -0.1  # logarithm of the price of an AP that stays on, relative to its circuit energy
    join: float = -0.6  # logarithm of the same for an AP that is switched on, besides E

    @classmethod
    def of(cls, vector: Float) -> Value:
        """Build from a vector in the order of the fields.

        Raises:
            ValueError: a vector of another length, or with numbers that aren't finite.
        """
        if np.shape(vector) != (len(dataclasses.fields(cls)),) or not np.isfinite(vector).all():
            raise ValueError(f"a value has {len(dataclasses.fields(cls))} finite numbers, got {vector!r}")
        return cls(*np.asarray(vector).tolist())

    def vector(self) -> Float:
        """Return the parameters in the order of the fields."""
        return np.array(dataclasses.astuple(self))

    def tables(self, state: Switching, circuit_power_w: float) -> Tables:
        """Tabulate the costs for an instant's switching costs."""
        step_j = circuit_power_w * state.step_s
        fresh_j = state.energy_j + state.wake_up_steps * step_j
        even = max(fresh_j / step_j, 1.0) if step_j > 0.0 else 1e6
        log_even = math.log(even / 20.0)
        reach = _exp(self.reach + self.reach_slope * log_even) * even
        near = np.maximum(0.0, 1.0 - STEPS / reach) ** _exp(self.power)
        failure_j = fresh_j * _exp(self.scale + self.scale_slope * log_even) * near
        miss_j = np.zeros(len(STEPS))
        if state.wake_up_steps > 0:
            miss_j[state.wake_up_steps >= STEPS] = _exp(self.miss)
            miss_j[state.wake_up_steps + 1 == STEPS] = _exp(self.miss + self.miss_after)
        growth = 1.0 - np.exp(-STEPS / 8.0)
        begin = 1.0 + self.begin + self.begin_slope * growth
        width = np.exp(np.clip(self.width + self.width_slope * growth, -5.0, 5.0))
        deep = (begin + _exp(self.deep_begin), np.full(len(STEPS), 1.0 / _exp(self.deep_width)))
        weights = np.stack([failure_j, failure_j / (1.0 + _exp(-self.again)), failure_j * _exp(self.deep), miss_j])
        used = np.flatnonzero(weights.any(0))
        join_j = state.energy_j + step_j * _exp(self.join)
        return Tables(
            weights=weights,
            shape=np.stack([begin, 1.0 / width, *deep], axis=1).astype(np.float32),
            prices=np.array([step_j * _exp(self.keep), join_j, LEAST_J, ENOUGH * (fresh_j + step_j)]),
            users=_exp(self.users),
            spread=np.array([self.spread, self.spread_slope, 1.0 / _exp(self.spread_width)], np.float32),
            horizon=int(used[-1]) + 1 if len(used) else 0,
        )


LEAST_J = 1e-6
"""Least improvement of a move, J."""

ENOUGH = 0.3
"""Cost of the future, relative to E' and a step of an AP, up to which no additions are tried."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Arguments of `kernels.decide`."""

    weights: Float  # (4, H) J
    shape: NDArray[np.float32]  # (H, 4)
    prices: Float  # (4,) J
    users: float  # factor of the users' load
    spread: NDArray[np.float32]  # (3,)
    horizon: int  # number of instants with any cost


def _exp(x: float) -> float:
    return math.exp(min(max(x, -20.0), 20.0))
