"""`mobile-value`: the set with the least energy now plus a learned value of its future, in a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.coverage import Fields, Watch
from agents.mobile import kernels
from agents.mobile.forecast import STEPS, Forecast, draw
from agents.mobile.value import Tables, Value
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.foresight.futures import Laws
from baselines.policy import Answer, ObservationPolicy, all_on_at_max_power, encoded, with_margin
from baselines.sequential import ALLOCATOR
from cfisac_env.mobile import Switching, switching
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

LIMITS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Loads, in closed form, up to which this instant counts as served; the next one is used when a set fails exactly."""


class MobileValuePolicy(ObservationPolicy):
    """Learned policy for `CfIsacMobile-v0`.

    Starting from the APs that are on, APs are removed, added and exchanged as long as that lowers the energy of this instant plus `Value`.
    This instant is verified by exact allocation, which also gives the powers.

    Args:
        value: learned parameters.
        laws: of motion and shadowing for the forecasts.
        trained: fields of the training configurations; empty if unknown.
        digest: of the parameters.
        sizes: `M` and `K`, as for every policy.
    """

    name = "mobile-value"
    knows = "observation, laws of motion"

    def __init__(
        self,
        value: Value | None = None,
        *,
        laws: Laws | None = None,
        trained: Sequence[Fields] = (),
        digest: str = "",
        **sizes: Any,
    ) -> None:
        super().__init__(**sizes)
        self.value, self.laws = value or Value(), laws or Laws()
        self.trained, self.watch, self.digest = tuple(trained), Watch(self.name, trained), digest
        self._tables = lru_cache(maxsize=16)(self._tabulated)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        self.watch.check(observation["requirement"])
        rows = range(problem.batch_shape[0])
        return np.stack([self._one({key: value[i] for key, value in observation.items()}, problem[i]) for i in rows])

    def _one(self, observation: Mapping[str, NDArray[Any]], problem: Problem) -> NDArray[np.float32]:
        state = switching(observation)
        on = np.ones(problem.M, np.bool_) if state.previous_active is None else state.previous_active
        ready = np.zeros(problem.M, np.int64) if state.wait is None else state.wait
        tables = self._tables(state.step_s, state.energy_j, state.wake_up_steps, float(problem.circuit_power_w))
        aim = with_margin(problem)
        powers: dict[bytes, Float] = {}

        def transmit_w(serving: Bools) -> float:
            answer = ALLOCATOR(aim, serving)
            if not answer.feasible:
                answer = ALLOCATOR(problem, serving)
            powers[serving.tobytes()] = answer.power
            return float(answer.transmit_power) if answer.feasible else np.inf

        active, served = choose(draw(observation, problem, state, self.laws), tables, on, ready, transmit_w)
        serving = active & (ready == 0)
        power = powers[serving.tobytes()] if np.isfinite(served) else at_full_power(problem, serving)
        return encoded(problem, Answer(Decision(active, power), bool(np.isfinite(served))))

    def _tabulated(self, step_s: float, energy_j: float, wake_up_steps: int, circuit_power_w: float) -> Tables:
        state = Switching(step_s=step_s, energy_j=energy_j, wake_up_steps=wake_up_steps)
        return self.value.tables(state, circuit_power_w)


def at_full_power(problem: Problem, serving: Bools) -> Float:
    """Return the powers of APs that radiate P_max each, split equally over the users, (M, K) W."""
    return np.where(serving[:, None], all_on_at_max_power(problem).power, 0.0)


def choose(
    forecast: Forecast, tables: Tables, on: Bools, ready: NDArray[np.int64], transmit_w: Callable[[Bools], float]
) -> tuple[Bools, float]:
    """Decide on one instant.

    Args:
        forecast: of the APs' features.
        tables: of the value.
        on: (M,) APs that are on.
        ready: (M,) steps until each AP is awake, if it is on from now on.
        transmit_w: exact transmit power of the APs that serve, W; infinite where they cannot.

    Returns:
        (M,) APs to be on, and their transmit power at this instant in W; infinite where even all awake APs fail.
    """
    H = min(len(forecast.rows), tables.horizon)
    active, awake = np.empty(len(on), np.bool_), ready == 0
    for limit in LIMITS:
        kernels.decide(
            forecast.rows, forecast.now, STEPS, H, on, ready, forecast.S, forecast.K, forecast.requirement, tables.prices, limit,
            tables.users, tables.spread, tables.weights, tables.shape, active,
        )  # fmt: skip
        power_w = transmit_w(active & awake)
        if np.isfinite(power_w):
            return active, power_w
        if limit == LIMITS[0] and not np.isfinite(transmit_w(awake)):
            return active, np.inf
    for more in (on & awake, awake):
        active |= more
        power_w = transmit_w(active & awake)
        if np.isfinite(power_w):
            return active, power_w
    return active, np.inf
