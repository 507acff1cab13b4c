"""`predictive`: the set of APs with the least energy now and in simulated futures."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import ap_sets
from baselines.allocation.certificate import pilots_shared
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.foresight import kernels
from baselines.foresight.futures import Futures, Laws, draw
from baselines.policy import Answer, encoded, with_margin
from baselines.sequential import ALLOCATOR, MyopicPolicy, serve
from cfisac_env.mobile import MAX_STEPS, Switching, switching
from cfisac_env.mobility import checked_number
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

LARGE_SET = 12
"""Size above which a set is first reduced to the APs that enough futures keep."""

KEEP_SHARES = (0.02, 0.1, 0.2, 0.35, 0.5)
"""Thresholds for these shares of the futures."""

ROUNDS = 20
"""Maximum number of moves of a search."""

MAX_REMOVALS, MAX_ADDITIONS, MAX_JOINT = 10, 8, 4
"""Maximum numbers of removals and additions tried per round, and of APs added jointly."""

SCREENING_FUTURES, SLACK_J = 6, 1.5
"""Number of futures for screening sets, and the excess energy over the current set at which a set is discarded."""

MAX_VERIFIED, VERIFIED_FUTURES = 10, 24
"""Maximum numbers of sets per round, and of futures, for which the next instants are verified exactly."""

UNSERVED_NOW_J = 1e7
"""Cost of leaving the current instant unserved although it can be served, J."""

MISS_J, HORIZON = 240.0, 10
"""Least cost of an unserved instant, J, and least horizon in steps."""


class PredictivePolicy(MyopicPolicy):
    """Local search for the set with the least energy now and in simulated futures.

    Futures are simulated from the observation and `Laws`: targets continue their turns, users walk to waypoints, shadowing decorrelates
    along their paths. In each future a closed form decides which APs serve. The set is held for some steps; then each AP is kept as long
    as it is needed in this future or in one that is still indistinguishable, and missing APs are switched on when needed, at their cost.
    The current instant, and feasibility at the next three, are evaluated exactly. Single APs are removed and added as long as that saves
    energy; additions that can wait are postponed.

    Args:
        futures: number of futures simulated at every step, up to 1000, with the same random numbers in every episode.
        hold: steps for which a set is held in the futures.
        horizon: look-ahead in steps, within the episode; None takes the time in which the circuit energy of an AP equals its switching
            cost, at least 10.
        miss_j: cost of an unserved instant, J; None takes 240, or the cost of switching on half of the APs if that is more. The current
            instant is served whenever the APs that are awake can.
        apart_m: distance between the positions of a target at which two futures are distinguishable, m.
        options: fields of `Laws`; options of `local-search`, the fallback where single additions are infeasible; `M` and `K`, as for
            every policy.

    Raises:
        ValueError: a number out of range; for an observation of `CfIsacMobile-v0` without velocities.
    """

    name = "predictive"
    takes_prior = False
    knows = "observation, laws of motion"

    def __init__(
        self,
        *,
        futures: int = 40,
        hold: int = 4,
        horizon: int | None = None,
        miss_j: float | None = None,
        apart_m: float = 30.0,
        **options: Any,
    ) -> None:
        own = {field.name for field in dataclasses.fields(Laws)} & options.keys()
        self.laws = Laws(**{name: options.pop(name) for name in own})
        super().__init__(**options)
        self.count = _checked_count("futures", futures, 1000)
        self.hold = _checked_count("hold", hold, MAX_STEPS)
        self.horizon = None if horizon is None else _checked_count("horizon", horizon, MAX_STEPS)
        self.miss_j = None if miss_j is None else checked_number("miss_j", miss_j, 1e9)
        self.apart_m = checked_number("apart_m", apart_m, 1e6)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        if "sequence" not in observation:
            return super()._act(problem, observation, deterministic)
        rows = range(problem.batch_shape[0])
        return np.stack([self._ahead({key: value[i] for key, value in observation.items()}, problem[i]) for i in rows])

    def _ahead(self, observation: Observation, problem: Problem) -> NDArray[np.float32]:
        state = switching(observation)
        active = _Lookahead(self, observation, problem, state).run()
        power, feasible = serve(problem, active & state.awake(problem.M))
        return encoded(problem, Answer(Decision(active, power), feasible))


def _checked_count(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number in [1, {most}], got {value!r}")
    return int(value)


class _Lookahead:
    """Local search of one decision, over the cost of sets now and in the futures."""

    def __init__(self, policy: PredictivePolicy, observation: Observation, problem: Problem, state: Switching) -> None:
        assert state.previous_active is not None
        assert state.wait is not None
        self.policy, self.problem, self.state = policy, problem, state
        self.on, self.ready = state.previous_active, state.wait
        step_j = problem.circuit_power_w * state.step_s
        self.switch_on_j = state.energy_j + state.wake_up_steps * step_j
        even = math.ceil(min(self.switch_on_j / step_j, MAX_STEPS)) if step_j > 0.0 else MAX_STEPS
        horizon = max(HORIZON, even) if policy.horizon is None else policy.horizon
        self.horizon = min(horizon, state.steps_left - 1)
        self.miss_j = max(MISS_J, 0.5 * problem.M * self.switch_on_j) if policy.miss_j is None else policy.miss_j
        self.costs = np.array([step_j, state.energy_j, self.miss_j, state.step_s])
        self.futures: Futures | None = None
        if self.horizon > 0:
            self.futures = draw(observation, problem, state, policy.laws, count=policy.count, horizon=self.horizon)
            self.apart = self.futures.apart(policy.apart_m)
        self.newcomers = np.zeros(problem.M)
        self.until = np.zeros((policy.count, problem.M), np.int64)
        self.aim = with_margin(problem)
        self.servable = bool(ALLOCATOR(self.aim, state.awake(problem.M)).feasible)
        if not self.servable:
            self.aim = problem
            self.servable = bool(ALLOCATOR(self.aim, state.awake(problem.M)).feasible)
        self.now_w: dict[bytes, float] = {}  # transmit power by serving set
        self.later: dict[bytes, tuple[Bools, Float]] = {}  # sets, with their energies in the futures
        self.checked: dict[bytes, float] = {}

    def run(self) -> Bools:
        """Search from the APs that are on."""
        start = self.on
        if self.on.sum() > LARGE_SET and self.futures is not None:
            self.future_costs(self.on[None])
            often = (self.until > self.policy.hold).mean(0)
            sets = np.array([often >= share for share in KEEP_SHARES])
            start = sets[int(np.argmin(self.total(sets)))]
        best, best_j = self.descend(start)
        if not np.isfinite(self.cost_now(best[None])[0]):
            # Single additions do not serve this instant: restart with the set of local search.
            selected = self.policy.target_set(self.problem, self.state)
            wider = np.ones(self.problem.M, dtype=bool) if selected is None else start | selected
            other, other_j = self.descend(wider)
            if other_j < best_j:
                best = other
        return best

    def descend(self, start: Bools) -> tuple[Bools, float]:
        """Remove and add APs as long as that saves energy; return the last set and its energy in J."""
        current, current_j = start, float(self.total(start[None])[0])
        for _ in range(ROUNDS):
            sets = self.neighbours(current)
            totals = self.total(sets, current)
            better, least = None, current_j + self.check(current) - 1e-9
            for i in np.argsort(totals, kind="stable")[:MAX_VERIFIED]:
                if not totals[i] < least:
                    break
                whole = float(totals[i]) + self.check(sets[i])
                if whole < least:
                    better, least = int(i), whole
            if better is None:
                break
            current, current_j = sets[better], float(totals[better])
        return current, current_j + self.check(current)

    def neighbours(self, current: Bools) -> Bools:
        """Build the neighbours of a set: removals, additions, and joint additions of APs that the futures need, (n, M)."""
        self.newcomers[:] = 0.0
        self.later.pop(current.tobytes(), None)
        self.future_costs(current[None])
        members = np.flatnonzero(current)
        members = members[np.argsort(self.until[:, members].sum(0), kind="stable")][:MAX_REMOVALS]
        if not np.isfinite(self.cost_now(current[None])[0]):
            off = np.flatnonzero(~current & (self.ready == 0))
            off = off[np.isfinite(self.cost_now(ap_sets.additions(current, off)))]
        else:
            # Additions that can wait are postponed.
            lacking = self.newcomers + 1e-3 * self.on
            off = np.flatnonzero(~current & (lacking > 0.0))
            off = off[np.argsort(-lacking[off], kind="stable")][:MAX_ADDITIONS]
            if self.state.wake_up_steps > 0 and self.check(current) > 0.0:
                off = np.concatenate([off, np.setdiff1d(self.supports(current), off)])
        urgent = off[self.newcomers[off] > 0.0][:MAX_JOINT]
        several = np.repeat(current[None], max(0, len(urgent) - 1), axis=0)
        for i in range(len(several)):
            several[i, urgent[: i + 2]] = True
        return np.concatenate([ap_sets.removals(current, members), ap_sets.additions(current, off), several])

    def supports(self, current: Bools) -> NDArray[np.int64]:
        """Select the APs whose addition reduces the load most at the first instant at which they can be awake."""
        futures = self.futures
        assert futures is not None
        i = min(int(np.searchsorted(futures.times, self.state.wake_up_steps)), len(futures.times) - 1)
        loads = np.empty(self.problem.M)
        serving = current & (self.ready <= futures.times[i])
        kernels.loads_with(futures.rows, i, serving, self.problem.S, self.problem.K, futures.requirement, loads)
        loads[current] = np.inf
        best = np.argsort(loads, kind="stable")[:MAX_ADDITIONS]
        return best[np.isfinite(loads[best])]

    def total(self, sets: Bools, current: Bools | None = None) -> Float:
        """Compute the energy of sets now and in the futures, (n,) J, without exact verification of the next instants.

        Sets that are worse than `current` in a few futures are discarded with infinite energy.
        """
        now = self._cost_now_finite(sets)
        result = np.full(len(sets), np.inf)
        open_ = np.ones(len(sets), dtype=bool)
        if current is not None and self.futures is not None and self.policy.count > SCREENING_FUTURES:
            known = np.array([row.tobytes() in self.later for row in sets], dtype=bool)
            own = (
                self._cost_now_finite(current[None])[0] + self.future_costs(current[None])[0, :SCREENING_FUTURES].mean()
            )
            open_ = known | (now + self._simulated_costs(sets, SCREENING_FUTURES).mean(1) < own + SLACK_J)
        if open_.any():
            result[open_] = now[open_] + self.future_costs(sets[open_]).mean(1)
        return result

    def _cost_now_finite(self, sets: Bools) -> Float:
        now = self.cost_now(sets)
        return np.where(np.isfinite(now), now, UNSERVED_NOW_J + self.costs[0] * sets.sum(1))

    def cost_now(self, sets: Bools) -> Float:
        """Compute the energy at this instant and of switching, (n,) J; infinite where it is avoidably unserved."""
        serving = sets & (self.ready == 0)
        keys = [row.tobytes() for row in serving]
        fresh = {key: i for i, key in enumerate(keys) if key not in self.now_w}
        if not self.servable:
            self.now_w.update(dict.fromkeys(fresh, 0.0))
        elif fresh:
            answers = ALLOCATOR(self.aim, serving[list(fresh.values())])
            transmit_w = np.where(answers.feasible, answers.transmit_power, np.inf)
            self.now_w.update(zip(fresh, transmit_w.tolist(), strict=True))
        power_w = np.array([self.now_w[key] for key in keys]) + self.problem.circuit_power_w * sets.sum(1)
        switched = (sets & ~self.on).sum(1)
        return np.asarray(power_w * self.state.step_s + self.state.energy_j * switched)

    def future_costs(self, sets: Bools) -> Float:
        """Compute the energy of the following instants in every future, (n, F) J."""
        if self.futures is None:
            return np.zeros((len(sets), 1))
        keys = [row.tobytes() for row in sets]
        fresh = [i for i, key in enumerate(keys) if key not in self.later]
        if fresh:
            for i, row in zip(fresh, self._simulated_costs(sets[fresh], self.policy.count), strict=True):
                self.later[keys[i]] = (sets[i], row)
            # Additional APs cost at most their circuit energy while held.
            held_j = self.costs[0] * min(self.policy.hold, self.horizon)
            known = np.array([one for one, _ in self.later.values()])
            values = np.array([row for _, row in self.later.values()])
            for i in fresh:
                extra = (sets[i] & ~known).sum(1)
                smaller = (known <= sets[i]).all(1)
                bounds = values[smaller] + held_j * extra[smaller, None]
                self.later[keys[i]] = (sets[i], np.minimum(self.later[keys[i]][1], bounds.min(0)))
        return np.array([self.later[key][1] for key in keys])

    def _simulated_costs(self, sets: Bools, count: int) -> Float:
        """Simulate the energy in the first `count` futures, (n, count) J."""
        futures = self.futures
        assert futures is not None
        result = np.empty((len(sets), count))
        kernels.set_costs(
            futures.rows[:count], futures.servable[:count], futures.times, futures.weights,
            np.ascontiguousarray(self.apart[:count, :count]), np.ascontiguousarray(sets), self.ready, self.policy.hold,
            self.state.wake_up_steps, self.problem.S, self.problem.K, futures.requirement, self.costs, result, self.newcomers,
            self.until[:count],
        )  # fmt: skip
        return result

    def check(self, active: Bools) -> float:
        """Return the cost of unserved next instants that the closed form misses, J."""
        key = active.tobytes()
        if key not in self.checked:
            self.checked[key] = self._check(active)
        return self.checked[key]

    def _check(self, active: Bools) -> float:
        futures, cost_j = self.futures, 0.0
        if futures is None:
            return cost_j
        problem = futures.first[:VERIFIED_FUTURES]
        for i in range(problem.batch_shape[1]):
            t = int(futures.times[i])
            if t >= self.policy.hold:
                break
            serving = active & (self.ready <= t)
            if pilots_shared(problem):  # slow, so only one future
                exact = ALLOCATOR(problem[0, i], serving).feasible.reshape(1)
            else:
                many = problem[:, i]
                exact = ALLOCATOR(many, np.repeat(serving[None], len(many.gain), axis=0)).feasible
            claimed = np.empty((len(exact), i + 1), np.bool_)
            kernels.serves(futures.rows, serving, problem.S, problem.K, futures.requirement, claimed)
            missed = float(np.mean(claimed[:, i] & ~exact))
            cost_j += missed * (self.miss_j if t <= self.state.wake_up_steps else self.switch_on_j + self.costs[0])
        return cost_j
