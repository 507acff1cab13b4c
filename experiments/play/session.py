"""Networks that the page shows: exact powers for sets of access points chosen by hand, and the decisions of policies beside them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import agents
import baselines
from baselines.allocation import Allocation, Status
from baselines.policy import FAST, allocate_with_margin
from cfisac_env import CfIsacEnv, Decision, Outcome, Scenario, actions, physics
from cfisac_env.mobile import CfIsacMobileEnv
from cfisac_env.switching import Switching
from cfisac_env.types import Problem
from experiments import compare, episode
from experiments.episode import OFF, ON, WAKING, Course, Instant
from experiments.errors import UserError

Kind = Literal["drop", "episode"]

LARGEST = (200, 40)
"""Most APs and users that the page draws."""

DEEPEST_DB = 40.0
"""Requirements are relaxed by so much at most in search of powers for an infeasible set."""

_HALVINGS = 12


@dataclass(frozen=True)
class Network:
    """A drop of `CfIsac-v0` or an episode of `CfIsacMobile-v0`."""

    kind: Kind
    preset: str
    M: int
    K: int
    seed: int


@dataclass(frozen=True, eq=False)
class Choice:
    """Powers for a set of APs."""

    decision: Decision
    outcome: Outcome
    missed_db: float | None
    """Decibels by which every requirement has to be relaxed: 0 for a feasible set, None if `DEEPEST_DB` isn't enough."""
    proven: bool
    """Certificate that no powers meet the requirements."""


def policies(kind: Kind) -> list[str]:
    """Return the names of the policies that play drops or episodes."""
    every = [*baselines.POLICIES, *agents.AGENTS]
    if kind == "drop":
        return every
    return [*(name for name in baselines.SEQUENTIAL if name != "tracking"), *agents.SEQUENTIAL, *every]


def checked_policy(kind: Kind, name: str) -> None:
    """Refuse a name that isn't one of `policies`.

    Raises:
        ValueError: it isn't; the message lists those that are.
    """
    valid = policies(kind)
    if name not in valid:
        raise ValueError(f"unknown policy {name!r}{agents.hint(name, valid)}; valid policies: {', '.join(valid)}")


def choose(problem: Problem, active: NDArray[np.bool_], serving: NDArray[np.bool_]) -> Choice:
    """Allocate exact powers; for an infeasible set, those that come closest to the requirements.

    Closest is the least relaxation of all requirements by one factor, found by bisection to 0.01 dB.

    Args:
        problem: of one drop.
        active: (M,) APs that are on, and draw circuit power.
        serving: (M,) those of them that radiate.
    """

    def made(allocation: Allocation, missed_db: float | None, proven: bool) -> Choice:
        decision = Decision(active, allocation.power)
        return Choice(decision, physics.evaluate(problem, decision), missed_db, proven)

    first = allocate_with_margin(problem, serving)
    if first.feasible:
        return made(first, 0.0, False)
    proven = str(first.status) == Status.INFEASIBLE
    met, missed = DEEPEST_DB, 0.0
    best = FAST(relaxed(problem, met), serving)
    if not serving.any() or not best.feasible:
        return made(first, None, proven)
    for _ in range(_HALVINGS):
        middle = (met + missed) / 2
        allocation = FAST(relaxed(problem, middle), serving)
        if allocation.feasible:
            met, best = middle, allocation
        else:
            missed = middle
    return made(best, met, proven)


def relaxed(problem: Problem, by_db: float) -> Problem:
    """Relax every requirement by a number of decibels."""
    factor = 10 ** (by_db / 10)
    return replace(
        problem,
        sinr_threshold=problem.sinr_threshold / factor,
        crlb_threshold_m2=problem.crlb_threshold_m2 * factor,
    )


class Session:
    """Networks, choices and courses of policies, each computed once, and one at a time: compiled kernels run threads of their own.

    Args:
        fields: fields of `SystemConfig` besides preset, M and K.
        motion: arguments of `CfIsacMobile-v0` for episodes.
    """

    def __init__(self, fields: dict[str, Any], motion: dict[str, Any]) -> None:
        self.fields, self.motion, self.lock = fields, motion, threading.RLock()
        self._made = lru_cache(16)(self._make)
        self._course = lru_cache(64)(self._play)
        self._choice = lru_cache(4096)(self._choose)

    def settings(self, network: Network) -> dict[str, Any]:
        """Return the arguments of the network's environment."""
        own = {"preset": network.preset, "M": network.M, "K": network.K}
        return self.fields | own | (self.motion if network.kind == "episode" else {})

    def instants(self, network: Network) -> Scenario:
        """Return the drop or the instants of the episode, with one leading axis.

        Raises:
            ValueError: an invalid configuration, or a network too large to be drawn.
        """
        with self.lock:
            return self._made(network)[1]

    def played(self, network: Network, sets: Sequence[Sequence[int]]) -> tuple[Course, Choice]:
        """Play sets of APs, one an instant from the first on.

        Returns:
            The course, and the choice at the last of these instants.
        """
        with self.lock:
            core, instants = self._made(network)
            config = instants.config
            state = core.beginning() if network.kind == "episode" else Switching()
            energy_j, course = 0.0, []
            for t, chosen in enumerate(sets):
                active = np.isin(np.arange(config.M), chosen)
                awake = state.awake(config.M)
                choice = self._choice(network, t, active.tobytes(), awake.tobytes())
                switched = np.count_nonzero(state.switched_on(active))
                energy_j += state.step_s * float(choice.outcome.total_power) + state.energy_j * switched
                states = np.where(active, np.where(awake, ON, WAKING), OFF)
                course.append(Instant(instants[t], choice.decision, choice.outcome, states, energy_j))
                state = state.after(active)
            return Course("yours", course, state.step_s), choice

    def course(self, network: Network, policy: str) -> Course:
        """Play a policy on the network.

        Raises:
            ValueError: unknown policy, or one that can't play this network.
        """
        with self.lock:
            return self._course(network, policy)

    def _make(self, network: Network) -> tuple[Any, Scenario]:
        for name, number, most in zip(("M", "K"), (network.M, network.K), LARGEST, strict=True):
            if number > most:
                raise UserError(f"{name} must be {most} or less to be drawn, got {number}")
        core: Any = gym.make(
            "CfIsacMobile-v0" if network.kind == "episode" else "CfIsac-v0", **self.settings(network)
        ).unwrapped
        core.reset(seed=network.seed)
        if isinstance(core, CfIsacMobileEnv):
            return core, core.trajectory
        assert isinstance(core, CfIsacEnv)
        return core, core.scenario.batch()

    def _choose(self, network: Network, t: int, active: bytes, awake: bytes) -> Choice:
        on, up = np.frombuffer(active, np.bool_), np.frombuffer(awake, np.bool_)
        return choose(self._made(network)[1][t].problem, on, on & up)

    def _play(self, network: Network, policy: str) -> Course:
        core, instants = self._made(network)
        if network.kind == "episode":
            return episode.play(self.settings(network), [policy], network.seed)[0]
        (made,) = compare.build([policy], core.config)
        observation, _ = core.reset(seed=network.seed)
        action, _ = made.predict(observation)
        decision = actions.decode(np.asarray(action), core.config.max_ap_power_w)
        outcome = core.evaluate(decision)
        states = np.where(decision.active, ON, OFF)
        return Course(policy, [Instant(instants[0], decision, outcome, states, float(outcome.total_power))], 1.0)
