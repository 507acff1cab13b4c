"""Algorithm 1 of the paper, "modified branch and bound": greedy backward elimination, with exact powers or with the paper's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import allocator
from baselines.allocation.result import Status
from baselines.heuristics import answered
from baselines.policy import Answer, Policy, everything, inside
from cfisac_env.types import Decision, Problem


class ModifiedBbPolicy(Policy):
    """Switch off, one after the other, the AP without which the total power is least; stop when no removal lowers it.

    Algorithm 1 with the exact fixed-set problem and erratum E12 mended: circuit power counts, and the current power is updated.

    Args:
        backend: of the allocator.
        sizes: `M` and `K`, as for every policy.
    """

    name = "modified-bb"

    def __init__(self, *, backend: str = "fast", **sizes: Any) -> None:
        super().__init__(**sizes)
        self._allocate = allocator(backend)

    def decide(self, problem: Problem) -> Answer:
        """Eliminate."""
        everyone = np.ones(problem.M, dtype=bool)
        aim = inside(problem)
        current = self._allocate(aim, everyone)
        if current.status == Status.INFEASIBLE:
            aim, current = problem, self._allocate(problem, everyone)
        while current.status == Status.OPTIMAL:
            sets = without_one(current.active)
            if not len(sets):
                break
            # A removal pays while the transmit power rises by less than one AP's circuit power.
            limit = float(current.transmit_power) + problem.circuit_power_w
            candidates = self._allocate(aim, sets, limit)
            power = np.where(candidates.status == Status.OPTIMAL, candidates.transmit_power, np.inf)
            best = int(np.argmin(power))
            if not power[best] <= limit:
                break
            current = candidates[best]
        return answered(current, problem)


class ModifiedBbPaperPolicy(Policy):
    """Algorithm 1 with the paper's relaxed problem (9), its powers taken as they come.

    Errata E9, E10 and E12 are mended as little as makes it run (see `baselines.allocation.paper`); its powers miss the SINR, because
    (9) counts less interference than they cause.
    """

    name = "modified-bb-paper"

    def decide(self, problem: Problem) -> Answer:
        """Eliminate."""
        from baselines.allocation.paper import solve_paper

        active = np.ones(problem.M, dtype=bool)
        current = solve_paper(problem, active)
        if not current.feasible:
            return Answer(everything(problem), feasible=False)
        while True:
            best = None
            limit = float(current.power.sum()) + problem.circuit_power_w
            for candidate in without_one(active):
                answer = solve_paper(problem, candidate)
                if answer.feasible and (total := float(answer.power.sum())) <= limit:
                    best, limit = (candidate, answer), total
            if best is None:
                return Answer(Decision(active=active, power=current.power), feasible=False)
            active, current = best


def without_one(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Every set with one AP less: (M,) with n on to (n, M)."""
    on = np.flatnonzero(active)
    sets = np.repeat(active[None], len(on), axis=0)
    sets[np.arange(len(on)), on] = False
    return sets[sets.any(1)]
