"""Causal policies over time with switching costs: `myopic`, `hysteresis` and `keep-credit`.

They see the observation of `CfIsacMobile-v0` at the current instant, including the previous activation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from baselines import ap_sets
from baselines.allocation import Allocator
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.local_search import LocalSearchPolicy
from baselines.policy import (
    Answer,
    ObservationPolicy,
    Policy,
    all_on_at_max_power,
    allocate_with_margin,
    answer_from,
    encoded,
    with_margin,
)
from cfisac_env import actions
from cfisac_env.mobile import Switching, switching
from cfisac_env.mobility import checked_number
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

CHUNK = 48
"""Sets solved per batch."""

ALLOCATOR = Allocator(threads=1)
"""Allocator for small batches."""


class SequentialPolicy(Policy):
    """Policy over time, based on the switching state in the observation; otherwise memoryless."""

    @abstractmethod
    def decide_next(self, problem: Problem, state: Switching) -> Answer:
        """Decide on one instant."""

    def decide(self, problem: Problem) -> Answer:
        """Decide on a single drop, without switching costs."""
        return self.decide_next(problem, Switching())

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        rows = range(problem.batch_shape[0])
        states = [switching({key: value[i] for key, value in observation.items()}) for i in rows]
        return np.stack([encoded(problem[i], self.decide_next(problem[i], states[i])) for i in rows])


class CausalPolicy(SequentialPolicy):
    """Policy that switches to a target set at each instant, make before break.

    With a wake-up time, the target set is switched on, and the APs that are awake keep serving until all of it is awake.
    """

    def decide_next(self, problem: Problem, state: Switching) -> Answer:
        """Serve with the target set, or with the APs that are awake."""
        return self.make_before_break(problem, state, self.target_set(problem, state))

    def make_before_break(self, problem: Problem, state: Switching, target: Bools | None) -> Answer:
        """Switch the target set on, and keep serving until it is awake.

        Args:
            target: (M,), or None when no set serves the drop.
        """
        if target is None:
            return Answer(all_on_at_max_power(problem), feasible=False)
        awake = state.awake(problem.M)
        kept = target | (awake if state.previous_active is None else state.previous_active & awake)
        answer = allocate_with_margin(problem, target & awake, ALLOCATOR)
        if answer.feasible:
            return Answer(Decision(target, answer.power), feasible=True)
        power, feasible = serve(problem, kept & awake)
        return Answer(Decision(kept, power), feasible)

    @abstractmethod
    def target_set(self, problem: Problem, state: Switching) -> Bools | None:
        """Select the APs that should serve, (M,); None when no set serves the drop."""


class CachedLocalSearch(LocalSearchPolicy):
    """`local-search` with a cache of recent answers, shared by policies that play the same episodes."""

    _ANSWERS: ClassVar[OrderedDict[tuple[Any, ...], Answer]] = OrderedDict()
    _CAPACITY: ClassVar[int] = 128

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._options_key = repr(sorted(options.items()))

    def decide(self, problem: Problem) -> Answer:
        """Search, or return the cached answer."""
        arrays = (problem.gain, problem.estimate_gain, problem.fisher, problem.pilot_overlap, problem.prior)
        numbers = (
            problem.noise_w, problem.sinr_threshold, problem.crlb_threshold_m2, problem.max_ap_power_w, problem.circuit_power_w,
        )  # fmt: skip
        key = (
            self._options_key,
            *numbers,
            *(None if array is None else np.asarray(array).tobytes() for array in arrays),
        )
        answer = self._ANSWERS.pop(key, None)
        if answer is None:
            answer = super().decide(problem)
        self._ANSWERS[key] = answer
        if len(self._ANSWERS) > self._CAPACITY:
            self._ANSWERS.popitem(last=False)
        return answer


class MyopicPolicy(CausalPolicy):
    """Local search at every instant, ignoring switching costs.

    Args:
        options: of `local-search`; `M` and `K`, as for every policy.
    """

    name = "myopic"
    takes_prior = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**{key: value for key, value in options.items() if key in ("M", "K")})
        self._selection = CachedLocalSearch(**options)

    def target_set(self, problem: Problem, state: Switching) -> Bools | None:
        """Select by local search."""
        answer = self._selection.decide(problem)
        return np.asarray(answer.decision.active) if answer.feasible else None


class HysteresisPolicy(MyopicPolicy):
    """Local search with a surcharge on APs that are off: their switching cost, amortised over `payback_s`.

    With H = min(payback_s, remaining time of the episode), the set minimises the power at this instant plus, for each AP that is off,
    (`switching_energy_j` + `wake_up_steps` · `step_s` · P_cir)/H in W: by removals, exchanges and additions with exact powers, from the
    previous set and from the one of local search.

    Args:
        payback_s: time in which a switch must pay for itself, s.
        engine: policy for single drops whose sets replace those of local search, such as `hetgnn-exact`; it sees the observation.
        options: of `local-search`; `M` and `K`, as for every policy.

    Raises:
        ValueError: a payback time that isn't positive.
        TypeError: an engine that isn't a policy.
    """

    name = "hysteresis"

    def __init__(self, *, payback_s: float = 10.0, engine: ObservationPolicy | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._payback_s = checked_number("payback_s", payback_s, 1e9, positive=True)
        if not isinstance(engine, ObservationPolicy | None):
            raise TypeError(
                f"the engine of {self.name} is a policy, such as agents.load('hetgnn-exact'); got {engine!r}"
            )
        self._engine = engine

    @property
    def digest(self) -> str | None:
        """Hash of the engine's weights, if it has any."""
        return getattr(self._engine, "digest", None)

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        if self._engine is None:
            return super()._act(problem, observation, deterministic)
        chosen = self._engine.predict(observation, deterministic=deterministic)[0]
        result = np.empty_like(chosen)
        for i in range(len(chosen)):
            one, state = problem[i], switching({key: value[i] for key, value in observation.items()})
            selected = actions.decode(chosen[i], one.max_ap_power_w).active
            selection = answer_from(allocate_with_margin(one, selected, ALLOCATOR), one)
            result[i] = encoded(one, self.make_before_break(one, state, self.with_surcharge(one, state, selection)))
        return result

    def target_set(self, problem: Problem, state: Switching) -> Bools | None:
        """Select the cheapest set with the surcharge."""
        return self.with_surcharge(problem, state, self.select(problem))

    def select(self, problem: Problem) -> Answer:
        """Select by local search for this instant alone."""
        return self._selection.decide(problem)

    def with_surcharge(self, problem: Problem, state: Switching, selection: Answer) -> Bools | None:
        """Select the cheapest set with the surcharge, given the selection of local search."""
        if not selection.feasible:
            return None
        selected = np.asarray(selection.decision.active)
        if state.previous_active is None:
            return selected
        horizon_s = min(self._payback_s, max(state.steps_left, 1) * state.step_s)
        fresh_j = state.energy_j + state.wake_up_steps * state.step_s * problem.circuit_power_w
        keep_w = self._keep_credit_w(fresh_j, problem.circuit_power_w)
        if fresh_j == 0.0 or (keep_w == 0.0 and not (selected & ~state.previous_active).any()):
            return selected
        upkeep_w = np.where(state.previous_active, -keep_w, fresh_j / horizon_s) + problem.circuit_power_w
        return descend(problem, [state.previous_active, selected], upkeep_w)

    def _keep_credit_w(self, fresh_j: float, circuit_power_w: float) -> float:
        """Credit for APs that are on, W."""
        return 0.0


class KeepCreditPolicy(HysteresisPolicy):
    """`hysteresis` with a credit for APs that are on, which may be needed again.

    The credit is their switching cost, amortised over `keep_s`, and at most 3/4 of their circuit power.

    Args:
        keep_s: expected time until an AP that is switched off is needed again, s.
        options: of `hysteresis`.

    Raises:
        ValueError: a time that isn't positive.
    """

    name = "keep-credit"

    def __init__(self, *, keep_s: float = 60.0, **options: Any) -> None:
        super().__init__(**options)
        self._keep_s = checked_number("keep_s", keep_s, 1e9, positive=True)

    def _keep_credit_w(self, fresh_j: float, circuit_power_w: float) -> float:
        return min(fresh_j / self._keep_s, 0.75 * circuit_power_w)


def serve(problem: Problem, serving: Bools) -> tuple[Float, bool]:
    """Allocate exact powers to the APs that are on and awake; at maximum power where the requirements cannot be met.

    Returns:
        (M, K) W, and whether every requirement is met.
    """
    answer = allocate_with_margin(problem, serving, ALLOCATOR)
    if answer.feasible:
        return answer.power, True
    return np.where(serving[:, None], all_on_at_max_power(problem).power, 0.0), False


def descend(problem: Problem, starts: list[Bools], upkeep_w: Float) -> Bools:
    """Find the cheapest set by removals, exchanges and additions from several starting sets, with AP-specific circuit power.

    Args:
        problem: one drop.
        starts: sets (M,), of which at least one must be feasible.
        upkeep_w: (M,) cost of each AP in addition to its transmit power, W.

    Returns:
        (M,) bool
    """
    aim = with_margin(problem)
    if not ALLOCATOR(aim, np.ones(problem.M, dtype=bool)).feasible:
        aim = problem
    least_w = float(ALLOCATOR(aim, np.ones(problem.M, dtype=bool)).bound)
    best, best_w = starts[-1], np.inf
    tried: set[bytes] = set()
    for start in starts:
        current, current_w = start, np.inf
        answer = ALLOCATOR(aim, start)
        if answer.feasible:
            current_w = float(answer.transmit_power) + float(upkeep_w[start].sum())
        while np.isfinite(current_w):
            if current_w < best_w:
                best, best_w = current, current_w
            better = _first_better(aim, current, current_w, upkeep_w, least_w, tried)
            if better is None:
                break
            current, current_w = better
    return best


def _first_better(
    problem: Problem, current: Bools, limit_w: float, upkeep_w: Float, least_w: float, tried: set[bytes]
) -> tuple[Bools, float] | None:
    """Return the best set of the first batch of neighbours with one below `limit_w`, with its cost; None if there is none."""
    limit_w *= 1.0 - 1e-9
    on, off = np.flatnonzero(current), np.flatnonzero(~current)
    for sets in (ap_sets.removals(current), ap_sets.swaps(current, on, off), ap_sets.additions(current)):
        fixed = sets @ upkeep_w
        open_ = np.flatnonzero(fixed + least_w < limit_w)
        open_ = open_[np.argsort(fixed[open_], kind="stable")]
        keys = np.packbits(sets, axis=-1)
        rows = [i for i in open_ if keys[i].tobytes() not in tried]
        for begin in range(0, len(rows), CHUNK):
            chunk = rows[begin : begin + CHUNK]
            answers = ALLOCATOR(problem, sets[chunk], limit_w - fixed[chunk])
            tried.update(keys[i].tobytes() for i in chunk)
            totals = np.where(answers.feasible, answers.transmit_power + fixed[chunk], np.inf)
            winner = int(np.argmin(totals))
            if totals[winner] < limit_w:
                return sets[chunk[winner]], float(totals[winner])
    return None
