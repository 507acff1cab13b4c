"""Training episodes of `mobile-value`: forecasts of every instant, made once, and the energy of an episode for given parameters.

Networks don't react to decisions, so an episode is the same for all parameters; exact allocations are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agents.mobile.forecast import Forecast, draw
from agents.mobile.policy import choose
from agents.mobile.value import Value
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.foresight import kernels as closed_form
from baselines.foresight.futures import Laws
from baselines.policy import with_margin
from baselines.sequential import ALLOCATOR
from cfisac_env import SystemConfig, observations, seeds
from cfisac_env.mobile import CfIsacMobileEnv, Switching, switching
from cfisac_env.observations import Observation
from cfisac_env.types import Problem


@dataclass(frozen=True)
class Costs:
    """Switching costs of a task."""

    energy_j: float
    wake_up_steps: int


@dataclass(frozen=True)
class Played:
    """An episode with given parameters."""

    energy_j: float
    unserved: int  # instants
    switched_on: int
    active_aps: float  # mean


@dataclass(eq=False)
class Instant:
    """Forecast and exact problem of one instant, with orthogonal pilots."""

    forecast: Forecast
    problem: Problem
    transmit_w: dict[bytes, float] = field(default_factory=dict)

    def exact_w(self, serving: Bools) -> float:
        """Compute the exact transmit power of a set in W, infinite where it fails; known sets are looked up."""
        key = serving.tobytes()
        if key not in self.transmit_w:
            answer = ALLOCATOR(self.problem, serving)
            self.transmit_w[key] = float(answer.transmit_power) if answer.feasible else np.inf
        return self.transmit_w[key]


Episode = list[Instant]


def prepare(config: SystemConfig, first_seed: int, count: int, laws: Laws) -> list[Episode]:
    """Generate `count` episodes of which all APs together serve every instant, in closed form, with seeds from `first_seed` on."""
    env = CfIsacMobileEnv(**config.as_dict())
    off = np.full(env.action_space.shape or (), -1.0, np.float32)
    episodes: list[Episode] = []
    for seed in range(first_seed, first_seed + min(20 * count + 100, seeds.RUN)):
        if len(episodes) == count:
            return episodes
        observation, _ = env.reset(seed=seed)
        episode, over = [], False
        while not over:
            episode.append(_instant(observation, laws))
            observation, _, _, over, _ = env.step(off)
        if _servable(episode):
            episodes.append(episode)
    raise ValueError(
        f"only {len(episodes)} of {count} episodes of this configuration have no instant that cannot be served"
    )


def _servable(episode: Episode) -> bool:
    first = episode[0].forecast
    rows = np.array([[instant.forecast.now for instant in episode]])
    served = np.empty((1, len(episode)), np.bool_)
    everyone = np.ones(rows.shape[2], np.bool_)
    closed_form.serves(rows, everyone, first.S, first.K, np.ascontiguousarray(first.requirement[:4]), served)
    return bool(served.all())


def _instant(observation: Observation, laws: Laws) -> Instant:
    problem = observations.decode(observation)
    return Instant(draw(observation, problem, switching(observation), laws), with_margin(problem))


def play(episode: Episode, value: Value, costs: Costs) -> Played:
    """Play an episode from its first instant on, with every AP on."""
    problem = episode[0].problem
    M, step_s = problem.M, float(episode[0].forecast.requirement[4])
    circuit_j = float(problem.circuit_power_w) * step_s
    state = Switching(step_s=step_s, energy_j=costs.energy_j, wake_up_steps=costs.wake_up_steps)
    tables = value.tables(state, float(problem.circuit_power_w))
    on, ready = np.ones(M, np.bool_), np.zeros(M, np.int64)
    energy_j, unserved, switched, size = 0.0, 0, 0, 0
    for instant in episode:
        active, transmit_w = choose(instant.forecast, tables, on, ready, instant.exact_w)
        if not np.isfinite(transmit_w):
            unserved += 1
            transmit_w = float(problem.max_ap_power_w) * int((active & (ready == 0)).sum())
        joined = int((active & ~on).sum())
        switched += joined
        size += int(active.sum())
        energy_j += transmit_w * step_s + circuit_j * int(active.sum()) + costs.energy_j * joined
        on, ready = active.copy(), _waiting(active, ready, costs.wake_up_steps)
    return Played(energy_j, unserved, switched, size / len(episode))


def _waiting(active: Bools, ready: NDArray[np.int64], wake_up_steps: int) -> NDArray[np.int64]:
    """Return the steps until each AP is awake at the next instant, as `Switching.after`."""
    return np.where(active, np.maximum(ready - 1, 0), wake_up_steps)


def mean(rows: list[Played], name: str) -> float:
    """Return the mean of a field."""
    values: Float = np.array([getattr(row, name) for row in rows], dtype=np.float64)
    return float(values.mean())
