"""Algorithm 1 of the paper ("modified branch and bound"): greedy backward elimination, with exact powers or those of problem (9)."""

from __future__ import annotations

import numpy as np

from baselines import ap_sets
from baselines.allocation import Allocation, Allocator, Status
from baselines.allocation.certificate import refuse_prior
from baselines.bounds import removal_bounds
from baselines.policy import AllocatingPolicy, Answer, Policy, all_on_at_max_power, answer_from, with_margin
from cfisac_env.types import Decision, Problem

CHUNK = 16
"""Maximum number of candidates per batch; the first one is solved alone."""

ACCURACY = 1e-6
"""Relative accuracy of the allocator's transmit powers."""

LOCAL_ACCURACY = 1e-3
"""Fraction of an AP's circuit power within which removals tie, with shared pilots."""


class ModifiedBbPolicy(AllocatingPolicy):
    """Greedy elimination: remove the AP that lowers the total power most, until no removal lowers it.

    Algorithm 1 with the exact fixed-set problem and erratum E12 corrected: circuit power counts, and the current power is updated.
    """

    name = "modified-bb"
    takes_prior = True

    def decide(self, problem: Problem) -> Answer:
        """Eliminate."""
        all_on = np.ones(problem.M, dtype=bool)
        aim = with_margin(problem)
        current = self._allocator(aim, all_on)
        if not current.feasible:
            aim, current = problem, self._allocator(problem, all_on)
        while current.feasible:
            smaller = cheapest_removal(self._allocator, aim, current)
            if smaller is None:
                break
            current = smaller
        return answer_from(current, problem)


def cheapest_removal(allocator: Allocator, problem: Problem, current: Allocation) -> Allocation | None:
    """Find the removal of one AP with the least total power; None if every removal increases it.

    Removing an AP never decreases the transmit power T. Removals that leave T unchanged within the allocator's accuracy tie, and the
    one of the AP that radiates least is chosen; otherwise the one with the least T. Candidates are tried in order of the removed AP's
    power. The result equals that of solving all of them: a candidate is skipped or cut off only when its certified bound exceeds the
    power of another, and the first one with unchanged T ends the search.
    """
    on = np.flatnonzero(current.active)
    sets = ap_sets.removals(current.active)
    if not len(sets):
        return None
    now = float(current.transmit_power)
    tie = now * (1.0 + ACCURACY)
    if current.status == Status.LOCAL:
        tie += LOCAL_ACCURACY * problem.circuit_power_w
    best: Allocation | None = None
    least = now + problem.circuit_power_w
    order = np.argsort(current.power.sum(-1)[on], kind="stable")
    bounds = removal_bounds(problem, current)
    start, size = 0, 1
    while start < len(order):
        chunk = order[start : start + size]
        start, size = start + size, min(2 * size, CHUNK)
        chunk = chunk[bounds[chunk] <= least]
        if not len(chunk):
            continue
        answers = allocator(problem, sets[chunk], least)
        for i in range(len(chunk)):
            power = float(answers.transmit_power[i]) if answers[i].feasible else np.inf
            if power <= tie:
                return answers[i]
            if power < least or (power == least and best is None):
                best, least = answers[i], power
    return best


class ModifiedBbPaperPolicy(Policy):
    """Algorithm 1 with the paper's relaxed problem (9) and its uncorrected powers.

    Errata E9, E10 and E12 are corrected minimally (see `baselines.allocation.paper`). The powers violate the SINRs, because (9)
    underestimates the interference.
    """

    name = "modified-bb-paper"
    takes_shared_pilots = False

    def decide(self, problem: Problem) -> Answer:
        """Eliminate."""
        from baselines.allocation.paper import solve_paper

        refuse_prior(problem, self.name)
        active = np.ones(problem.M, dtype=bool)
        current = solve_paper(problem, active)
        if not current.feasible:
            return Answer(all_on_at_max_power(problem), feasible=False)
        while True:
            best = None
            limit = float(current.power.sum()) + problem.circuit_power_w
            for candidate in ap_sets.removals(active):
                answer = solve_paper(problem, candidate)
                if answer.feasible and (total := float(answer.power.sum())) <= limit:
                    best, limit = (candidate, answer), total
            if best is None:
                return Answer(Decision(active=active, power=current.power), feasible=False)
            active, current = best
