"""`predictive`: the set of APs that is cheapest now and in simulated futures."""

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
from baselines.policy import Answer, all_on_at_max_power, allocate_with_margin, encoded, with_margin
from baselines.sequential import ALLOCATOR, CachedLocalSearch, CausalPolicy
from cfisac_env.mobile import MAX_STEPS, Switching, switching
from cfisac_env.mobility import checked_number
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

LARGE = 12
"""A set of more APs is first reduced to those that enough of the futures keep."""

SHARES = (0.02, 0.1, 0.2, 0.35, 0.5)
"""Shares of the futures that are tried as enough."""

ROUNDS = 20
"""Moves that a search takes, at most."""

DROPPED, ADDED, TOGETHER = 10, 8, 4
"""APs whose removal, and whose addition, is tried in a round, and that are added at once, at most."""

FEW, SLACK_J = 6, 1.5
"""Futures that all sets are looked at in; by so much more energy there than the present set's, a set drops out."""

CHECKED, CHECKS = 10, 24
"""Sets of a round whose next instants are priced exactly, and futures in which they are, at most."""

AT_ANY_PRICE_J = 1e7
"""What a set that leaves this instant unserved counts as beside one that doesn't, in J."""

MISS_J, HORIZON = 240.0, 10
"""Least that a missed instant counts as, in J, and least steps that are looked ahead."""


class PredictivePolicy(CausalPolicy):
    """Weighs what a set of APs costs now against what it comes to in simulated futures, and takes the cheapest set in reach.

    The futures follow from the observation and from `Laws`: targets turn as they have begun to, users walk to waypoints, shadowing forgets
    along their ways. In each, a closed form says which APs serve; the set is held for a while, then each of its APs is kept as long as it
    is needed in this future or in one that can't be told apart yet, and what the set lacks is switched on when it is needed, at its price.
    This instant, and whether the next three are served, is priced exactly. Single APs are dropped and added as long as that saves
    energy; an AP that can be switched on later as well waits.

    Args:
        futures: simulated at every step, up to 1000. Their random numbers are the same in every episode.
        hold: steps that a set is held for in them.
        horizon: steps that are looked ahead, as far as the episode goes; None takes the time in which an AP that stays on costs what
            switching it on costs, and 10 at least.
        miss_j: what an instant that isn't served counts as, in J; None takes 240, or what switching on
            half of the APs costs if that is more. An instant that what is awake can serve is served at any price.
        apart_m: distance of a target's positions from which on two futures can be told apart.
        options: fields of `Laws`; options of `local-search`, which helps out where single additions don't serve; `M` and `K`, as for
            every policy.

    Raises:
        ValueError: a number out of range; for an observation of `CfIsacMobile-v0` without velocities.
    """

    name = "predictive"
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
        super().__init__(**{key: value for key, value in options.items() if key in ("M", "K")})
        self.count = _checked_count("futures", futures, 1000)
        self.hold = _checked_count("hold", hold, MAX_STEPS)
        self.horizon = None if horizon is None else _checked_count("horizon", horizon, MAX_STEPS)
        self.miss_j = None if miss_j is None else checked_number("miss_j", miss_j, 1e9)
        self.apart_m = checked_number("apart_m", apart_m, 1e6)
        self._selection = CachedLocalSearch(**options)

    def wanted(self, problem: Problem, state: Switching) -> Bools | None:
        """What local search selects: without a forecast there is only this instant."""
        answer = self._selection.decide(problem)
        return np.asarray(answer.decision.active) if answer.feasible else None

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        if "sequence" not in observation:
            return super()._act(problem, observation, deterministic)
        rows = range(problem.batch_shape[0])
        return np.stack([self._ahead({key: value[i] for key, value in observation.items()}, problem[i]) for i in rows])

    def _ahead(self, observation: Observation, problem: Problem) -> NDArray[np.float32]:
        state = switching(observation)
        active = _Lookahead(self, observation, problem, state).run()
        serving = active & state.awake(problem.M)
        answer = allocate_with_margin(problem, serving, ALLOCATOR)
        power = answer.power if answer.feasible else np.where(serving[:, None], all_on_at_max_power(problem).power, 0.0)
        return encoded(problem, Answer(Decision(active, power), feasible=bool(answer.feasible)))


def _checked_count(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number in [1, {most}], got {value!r}")
    return int(value)


class _Lookahead:
    """One decision: sets of APs, what they cost now, and what they come to."""

    def __init__(self, policy: PredictivePolicy, observation: Observation, problem: Problem, state: Switching) -> None:
        assert state.previous_active is not None
        assert state.wait is not None
        self.policy, self.problem, self.state = policy, problem, state
        self.on, self.ready = state.previous_active, state.wait
        step_j = problem.circuit_power_w * state.step_s
        self.fresh_j = state.energy_j + state.wake_up_steps * step_j
        even = math.ceil(min(self.fresh_j / step_j, MAX_STEPS)) if step_j > 0.0 else MAX_STEPS
        horizon = max(HORIZON, even) if policy.horizon is None else policy.horizon
        self.horizon = min(horizon, state.steps_left - 1)
        self.miss_j = max(MISS_J, 0.5 * problem.M * self.fresh_j) if policy.miss_j is None else policy.miss_j
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
        self.now_w: dict[bytes, float] = {}  # transmit power by the APs that serve
        self.later: dict[bytes, tuple[Bools, Float]] = {}  # sets and their energies in the futures
        self.checked: dict[bytes, float] = {}

    def run(self) -> Bools:
        """The cheapest set in reach of the APs that are on."""
        start = self.on
        if self.on.sum() > LARGE and self.futures is not None:
            self.come_to(self.on[None])
            often = (self.until > self.policy.hold).mean(0)
            sets = np.array([often >= share for share in SHARES])
            start = sets[int(np.argmin(self.total(sets)))]
        best, best_j = self.descend(start)
        if not np.isfinite(self.cost_now(best[None])[0]):
            # No single addition after the other serves this instant: what local search finds for it does, if anything.
            selected = self.policy.wanted(self.problem, self.state)
            wider = np.ones(self.problem.M, dtype=bool) if selected is None else start | selected
            other, other_j = self.descend(wider)
            if other_j < best_j:
                best = other
        return best

    def descend(self, start: Bools) -> tuple[Bools, float]:
        """Drops and additions from a set, as long as they save energy; the last set, and its energy in J."""
        current, current_j = start, float(self.total(start[None])[0])
        for _ in range(ROUNDS):
            sets = self.neighbours(current)
            totals = self.total(sets, current)
            better, least = None, current_j + self.check(current) - 1e-9
            for i in np.argsort(totals, kind="stable")[:CHECKED]:
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
        """Sets (n, M) without one AP, with one more, and with several that the futures lack."""
        self.newcomers[:] = 0.0
        self.later.pop(current.tobytes(), None)
        self.come_to(current[None])
        members = np.flatnonzero(current)
        members = members[np.argsort(self.until[:, members].sum(0), kind="stable")][:DROPPED]
        if not np.isfinite(self.cost_now(current[None])[0]):
            off = np.flatnonzero(~current & (self.ready == 0))
            off = off[np.isfinite(self.cost_now(ap_sets.additions(current, off)))]
        else:
            # An AP that can be switched on later as well waits, until more is known.
            lacking = self.newcomers + 1e-3 * self.on
            off = np.flatnonzero(~current & (lacking > 0.0))
            off = off[np.argsort(-lacking[off], kind="stable")][:ADDED]
            if self.state.wake_up_steps > 0 and self.check(current) > 0.0:
                off = np.concatenate([off, np.setdiff1d(self.supports(current), off)])
        urgent = off[self.newcomers[off] > 0.0][:TOGETHER]
        several = np.repeat(current[None], max(0, len(urgent) - 1), axis=0)
        for i in range(len(several)):
            several[i, urgent[: i + 2]] = True
        return np.concatenate([ap_sets.removals(current, members), ap_sets.additions(current, off), several])

    def supports(self, current: Bools) -> NDArray[np.int64]:
        """APs whose addition relieves a set most at the first instant at which they can be awake."""
        futures = self.futures
        assert futures is not None
        i = min(int(np.searchsorted(futures.times, self.state.wake_up_steps)), len(futures.times) - 1)
        loads = np.empty(self.problem.M)
        serving = current & (self.ready <= futures.times[i])
        kernels.loads_with(futures.rows, i, serving, self.problem.S, self.problem.K, futures.requirement, loads)
        loads[current] = np.inf
        best = np.argsort(loads, kind="stable")[:ADDED]
        return best[np.isfinite(loads[best])]

    def total(self, sets: Bools, current: Bools | None = None) -> Float:
        """Energy of sets now and in the futures, (n,) J, without the exact look at the next instants.

        Sets that a few futures already show to be dearer than `current` count as infinitely dear.
        """
        now = self._now_or_missed(sets)
        result = np.full(len(sets), np.inf)
        open_ = np.ones(len(sets), dtype=bool)
        if current is not None and self.futures is not None and self.policy.count > FEW:
            known = np.array([row.tobytes() in self.later for row in sets], dtype=bool)
            own = self._now_or_missed(current[None])[0] + self.come_to(current[None])[0, :FEW].mean()
            open_ = known | (now + self._costs(sets, FEW).mean(1) < own + SLACK_J)
        if open_.any():
            result[open_] = now[open_] + self.come_to(sets[open_]).mean(1)
        return result

    def _now_or_missed(self, sets: Bools) -> Float:
        now = self.cost_now(sets)
        return np.where(np.isfinite(now), now, AT_ANY_PRICE_J + self.costs[0] * sets.sum(1))

    def cost_now(self, sets: Bools) -> Float:
        """(n,) J of this instant and of switching, infinite where it isn't served although it could be."""
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

    def come_to(self, sets: Bools) -> Float:
        """(n, F) J of the instants to come in every future."""
        if self.futures is None:
            return np.zeros((len(sets), 1))
        keys = [row.tobytes() for row in sets]
        fresh = [i for i, key in enumerate(keys) if key not in self.later]
        if fresh:
            for i, row in zip(fresh, self._costs(sets[fresh], self.policy.count), strict=True):
                self.later[keys[i]] = (sets[i], row)
            # Further APs can't make a future dearer than to hold them in vain.
            held_j = self.costs[0] * min(self.policy.hold, self.horizon)
            known = np.array([one for one, _ in self.later.values()])
            values = np.array([row for _, row in self.later.values()])
            for i in fresh:
                extra = (sets[i] & ~known).sum(1)
                smaller = (known <= sets[i]).all(1)
                bounds = values[smaller] + held_j * extra[smaller, None]
                self.later[keys[i]] = (sets[i], np.minimum(self.later[keys[i]][1], bounds.min(0)))
        return np.array([self.later[key][1] for key in keys])

    def _costs(self, sets: Bools, count: int) -> Float:
        """(n, count) J in so many futures."""
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
        """J that misses of the next instants cost which exact prices know of, and the closed form doesn't."""
        key = active.tobytes()
        if key not in self.checked:
            self.checked[key] = self._check(active)
        return self.checked[key]

    def _check(self, active: Bools) -> float:
        futures, cost_j = self.futures, 0.0
        if futures is None:
            return cost_j
        problem = futures.first[:CHECKS]
        for i in range(problem.batch_shape[1]):
            t = int(futures.times[i])
            if t >= self.policy.hold:
                break
            serving = active & (self.ready <= t)
            if pilots_shared(problem):  # slow: one future has to do
                exact = ALLOCATOR(problem[0, i], serving).feasible.reshape(1)
            else:
                many = problem[:, i]
                exact = ALLOCATOR(many, np.repeat(serving[None], len(many.gain), axis=0)).feasible
            claimed = np.empty((len(exact), i + 1), np.bool_)
            kernels.serves(futures.rows, serving, problem.S, problem.K, futures.requirement, claimed)
            missed = float(np.mean(claimed[:, i] & ~exact))
            cost_j += missed * (self.miss_j if t <= self.state.wake_up_steps else self.fresh_j + self.costs[0])
        return cost_j
