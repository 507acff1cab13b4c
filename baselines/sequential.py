"""Policies that know what switching costs: `myopic` looks at this instant alone, `hysteresis` switches only when it pays back.

Both are causal: they see the observation of `CfIsacMobile-v0` at the present instant, previous activation included, and nothing else.
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
from baselines.policy import Answer, Policy, all_on_at_max_power, allocate_with_margin, encoded, with_margin
from cfisac_env.mobile import Switching, switching
from cfisac_env.mobility import checked_number
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

CHUNK = 48
"""Sets priced between two looks at whether one of them is cheaper."""

ALLOCATOR = Allocator(threads=1)
"""Chunks are small, and episodes long."""


class SequentialPolicy(Policy):
    """Decides instant by instant, knowing which APs are on and which are awake; an observation holds all memory there is."""

    @abstractmethod
    def decide_next(self, problem: Problem, state: Switching) -> Answer:
        """Decide about an instant.

        Args:
            problem: the instant.
            state: where the network stands.
        """

    def decide(self, problem: Problem) -> Answer:
        """Decide about a drop without a past."""
        return self.decide_next(problem, Switching())

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        rows = range(problem.batch_shape[0])
        states = [switching({key: value[i] for key, value in observation.items()}) for i in rows]
        return np.stack([encoded(problem[i], self.decide_next(problem[i], states[i])) for i in rows])


class CausalPolicy(SequentialPolicy):
    """Switches to the set that it wants at an instant.

    With a wake-up time, that set is switched on, and until all of it is awake whatever is awake and serves stays on, too.
    """

    def decide_next(self, problem: Problem, state: Switching) -> Answer:
        """Serve with the wanted set, or with what is awake."""
        return self.settle(problem, state, self.wanted(problem, state))

    def settle(self, problem: Problem, state: Switching, wanted: Bools | None) -> Answer:
        """The decision that brings the wanted APs on, and keeps serving until they are awake.

        Args:
            problem: the instant.
            state: where the network stands.
            wanted: (M,), or None when no set serves the drop.
        """
        if wanted is None:
            return Answer(all_on_at_max_power(problem), feasible=False)
        awake = state.awake(problem.M)
        kept = wanted | (awake if state.previous_active is None else state.previous_active & awake)
        for serving in (wanted & awake, kept & awake):
            answer = allocate_with_margin(problem, serving, ALLOCATOR)
            if answer.feasible:
                return Answer(Decision(active=wanted | serving, power=answer.power), feasible=True)
        # What is awake cannot serve this instant: as loud as it can, until the others are.
        power = np.where((kept & awake)[:, None], all_on_at_max_power(problem).power, 0.0)
        return Answer(Decision(active=kept, power=power), feasible=False)

    @abstractmethod
    def wanted(self, problem: Problem, state: Switching) -> Bools | None:
        """(M,) APs that should serve, as soon as they can; None when no set serves the drop."""


class CachedLocalSearch(LocalSearchPolicy):
    """`local-search` that remembers its last answers: policies that play the same episodes ask for the same ones."""

    _ANSWERS: ClassVar[OrderedDict[tuple[Any, ...], Answer]] = OrderedDict()
    _MOST: ClassVar[int] = 128

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._asked = repr(sorted(options.items()))

    def decide(self, problem: Problem) -> Answer:
        """Search, or remember."""
        arrays = (problem.gain, problem.estimate_gain, problem.fisher, problem.pilot_overlap)
        numbers = (
            problem.noise_w, problem.sinr_threshold, problem.crlb_threshold_m2, problem.max_ap_power_w, problem.circuit_power_w,
        )  # fmt: skip
        key = (self._asked, *numbers, *(None if array is None else np.asarray(array).tobytes() for array in arrays))
        answer = self._ANSWERS.pop(key, None)
        if answer is None:
            answer = super().decide(problem)
        self._ANSWERS[key] = answer
        if len(self._ANSWERS) > self._MOST:
            self._ANSWERS.popitem(last=False)
        return answer


class MyopicPolicy(CausalPolicy):
    """Solves every instant anew, as if there were no other: the set of least power now, whatever it costs to switch to it.

    Args:
        options: of `local-search`, which finds the set; `M` and `K`, as for every policy.
    """

    name = "myopic"

    def __init__(self, **options: Any) -> None:
        super().__init__(**{key: value for key, value in options.items() if key in ("M", "K")})
        self._selection = CachedLocalSearch(**options)

    def wanted(self, problem: Problem, state: Switching) -> Bools | None:
        """What local search selects."""
        answer = self._selection.decide(problem)
        return np.asarray(answer.decision.active) if answer.feasible else None


class HysteresisPolicy(CausalPolicy):
    """Switches only when it pays back: an AP that is off is charged for being switched on, spread over `payback_s`.

    With H = min(payback_s, what is left of the episode), the set minimises the power of this instant plus, for each AP that is off,
    (`switching_energy_j` + `wake_up_steps` · `step_s` · P_cir)/H watts: by drop, swap and add moves with exact powers, from the set that is
    on and from the one that local search selects.

    Args:
        payback_s: within so many seconds a switch has to pay for itself.
        options: of `local-search`; `M` and `K`, as for every policy.

    Raises:
        ValueError: a payback time that isn't positive.
    """

    name = "hysteresis"

    def __init__(self, *, payback_s: float = 10.0, **options: Any) -> None:
        super().__init__(**{key: value for key, value in options.items() if key in ("M", "K")})
        self._payback_s = checked_number("payback_s", payback_s, 1e9, positive=True)
        self._selection = CachedLocalSearch(**options)

    def wanted(self, problem: Problem, state: Switching) -> Bools | None:
        """What is cheapest with the surcharge."""
        return self.follow(problem, state, self.select(problem))

    def select(self, problem: Problem) -> Answer:
        """What local search selects for this instant alone."""
        return self._selection.decide(problem)

    def follow(self, problem: Problem, state: Switching, selection: Answer) -> Bools | None:
        """What is cheapest with the surcharge, when local search has selected so."""
        if not selection.feasible:
            return None
        selected = np.asarray(selection.decision.active)
        if state.previous_active is None:
            return selected
        horizon_s = min(self._payback_s, max(state.steps_left, 1) * state.step_s)
        fresh_j = state.energy_j + state.wake_up_steps * state.step_s * problem.circuit_power_w
        keep_w = self._credit_w(fresh_j, problem.circuit_power_w)
        if fresh_j == 0.0 or (keep_w == 0.0 and not (selected & ~state.previous_active).any()):
            return selected
        upkeep_w = np.where(state.previous_active, -keep_w, fresh_j / horizon_s) + problem.circuit_power_w
        return descend(problem, [state.previous_active, selected], upkeep_w)

    def _credit_w(self, fresh_j: float, circuit_power_w: float) -> float:
        """W that an AP that is on is cheaper by."""
        return 0.0


class KeepCreditPolicy(HysteresisPolicy):
    """`hysteresis` that is slower to switch off, too: an AP that is on may be needed again, and is cheaper to keep by that.

    The credit is what switching it on again would cost, spread over `keep_s`, and at most 3/4 of what it draws.

    Args:
        keep_s: in about so many seconds an AP that is switched off is expected back.
        payback_s: as for `hysteresis`, like the further options.

    Raises:
        ValueError: a time that isn't positive.
    """

    name = "keep-credit"

    def __init__(self, *, keep_s: float = 60.0, payback_s: float = 10.0, **options: Any) -> None:
        super().__init__(payback_s=payback_s, **options)
        self._keep_s = checked_number("keep_s", keep_s, 1e9, positive=True)

    def _credit_w(self, fresh_j: float, circuit_power_w: float) -> float:
        return min(fresh_j / self._keep_s, 0.75 * circuit_power_w)


def descend(problem: Problem, starts: list[Bools], upkeep_w: Float) -> Bools:
    """The cheapest set that drop, swap and add moves reach from any start, when AP m costs `upkeep_w[m]` besides its transmit power.

    Args:
        problem: one drop.
        starts: sets (M,); the ones that do not serve the drop are passed over, but one must.
        upkeep_w: (M,) W.

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
    """The best set of the first chunk of neighbours that holds one below `limit_w`, with its cost; None when there is none."""
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
