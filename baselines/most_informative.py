"""The sober baseline for learned agents: APs ranked by Fisher information, the shortest prefix that serves, optionally improved by moves.

Nothing is learned and nothing is proven. Sets are priced by closed-form powers in microseconds; the set that is chosen gets exact ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Allocation, Allocator
from baselines.allocation.certificate import pilots_shared
from baselines.allocation.closed_form import ScaledDrops
from baselines.ap_sets import Bools, prefixes
from baselines.bounds import fewest_active
from baselines.heuristics import answer_from
from baselines.policy import FAST, Answer, Policy, allocate_with_margin, with_margin
from baselines.set_search import Budget, guided_search
from cfisac_env.types import Problem


def by_information(problem: Problem) -> NDArray[np.int64]:
    """APs by Σ_s tr Q_ms, the most informative first, (M,)."""
    return np.argsort(-np.asarray(problem.fisher)[..., :2].sum((-2, -1)), axis=-1, kind="stable")


def shortest_prefix(drops: ScaledDrops, ranking: NDArray[np.int64], fewest: int, completions: int = 1) -> Bools | None:
    """The first set along a ranking that closed-form powers serve.

    At each size n, the first n − 1 APs are completed by each of the next `completions`, and the cheapest that serves is taken.

    Args:
        drops: one drop.
        ranking: (M,) APs.
        fewest: n to begin with.
        completions: candidates for the last AP of a set.

    Returns:
        The set (M,), or None when closed-form powers serve none.
    """
    for size in range(fewest, len(ranking) + 1):
        last = ranking[size - 1 : size - 1 + completions]
        sets = np.zeros((len(last), len(ranking)), dtype=bool)
        sets[:, ranking[: size - 1]] = True
        sets[np.arange(len(last)), last] = True
        transmit = drops.transmit_power(sets)  # circuit power is the same for all of them
        best = int(np.argmin(transmit))
        if np.isfinite(transmit[best]):
            chosen: Bools = sets[best]
            return chosen
    return None


def exact_prefix(problem: Problem, ranking: NDArray[np.int64], allocator: Allocator = FAST) -> Answer:
    """The shortest prefix of a ranking that exact powers serve, by bisection: more APs never serve less."""

    def prefix(size: int) -> Allocation:
        return allocate_with_margin(problem, prefixes(ranking, [size])[0], allocator)

    low, high, best = 0, problem.M, prefix(problem.M)
    while best.feasible and high - low > 1:
        middle = (low + high) // 2
        answer = prefix(middle)
        if answer.feasible:
            high, best = middle, answer
        else:
            low = middle
    return answer_from(best, problem)


class MostInformativePolicy(Policy):
    """The shortest prefix of the ranking by Fisher information that serves the drop.

    Drops that closed-form powers don't serve, and those whose users share pilots, get the shortest prefix by exact powers.

    Args:
        completions: the last AP is the one of the next so many in the ranking that makes the set cheapest.
        backend: of the allocator.
        sizes: `M` and `K`, as for every policy.

    Raises:
        ValueError: fewer than one completion.
    """

    name = "most-informative"

    def __init__(self, *, completions: int = 1, backend: str = "fast", **sizes: Any) -> None:
        super().__init__(**sizes)
        if isinstance(completions, bool) or not isinstance(completions, int | np.integer) or completions < 1:
            raise ValueError(f"completions must be a whole number of 1 or more, got {completions!r}")
        self.completions = int(completions)
        self._allocator = Allocator(backend)

    def decide(self, problem: Problem) -> Answer:
        """Rank, grow, allocate."""
        ranking = by_information(problem)
        if not pilots_shared(problem):
            found = shortest_prefix(ScaledDrops.of(problem), ranking, fewest_active(problem), self.completions)
            if found is not None:
                answer = allocate_with_margin(problem, self.improve(problem, found), self._allocator)
                if answer.feasible:
                    return answer_from(answer, problem)
        return exact_prefix(problem, ranking, self._allocator)

    def improve(self, problem: Problem, active: Bools) -> Bools:
        """The set to allocate for, from one that serves."""
        return active


class MostInformativeSearchPolicy(MostInformativePolicy):
    """`most-informative`, followed by drop, swap, add and merge moves in random order, each priced by the exact allocator.

    Args:
        completions: as for `most-informative`.
        moves: sets that are priced a round, the cheapest of which is moved to.
        patience: rounds in a row without a cheaper set after which it ends.
        rounds: at most.
        seed: of the order; every drop starts from the same one, so a decision depends on its drop alone.
        backend: of the allocator that sets the powers.
        sizes: `M` and `K`, as for every policy.

    Raises:
        ValueError: moves, patience or rounds below one, or as for `most-informative`.
    """

    name = "most-informative-search"

    def __init__(
        self,
        *,
        completions: int = 8,
        moves: int = 64,
        patience: int = 3,
        rounds: int = 20,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(completions=completions, **options)
        self.budget, self.seed = Budget(moves, patience, rounds), seed

    def improve(self, problem: Problem, active: Bools) -> Bools:
        """Move while that lowers the total power."""
        rng = np.random.default_rng(self.seed)
        return guided_search(
            with_margin(problem), active, lambda sets: rng.random(len(sets)), self.budget, fewest_active(problem)
        )
