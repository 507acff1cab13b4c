"""Reference heuristic for learned agents: the shortest feasible prefix of the ranking by Fisher information, optionally improved.

Candidate sets are evaluated with closed-form powers in microseconds; the selected set gets exact powers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Allocation, Allocator
from baselines.allocation.certificate import pilots_shared
from baselines.allocation.closed_form import ScaledDrops
from baselines.ap_sets import Bools, additions, prefixes
from baselines.bounds import fewest_active
from baselines.policy import FAST, AllocatingPolicy, Answer, allocate_with_margin, answer_from, with_margin
from baselines.set_search import Budget, guided_search
from cfisac_env.env import checked_count
from cfisac_env.types import Problem


def by_information(problem: Problem) -> NDArray[np.int64]:
    """Rank APs by decreasing Fisher information Σ_s tr Q_ms, (M,)."""
    return np.argsort(-np.asarray(problem.fisher)[..., :2].sum((-2, -1)), axis=-1, kind="stable")


def shortest_prefix(drops: ScaledDrops, ranking: NDArray[np.int64], fewest: int, completions: int = 1) -> Bools | None:
    """Find the smallest feasible set along a ranking with closed-form powers.

    At each size n, the first n − 1 APs are completed by each of the next `completions`, and the cheapest feasible set is taken.

    Args:
        ranking: (M,) APs.
        completions: number of candidates for the last AP of a set.

    Returns:
        The set (M,), or None if closed-form powers are feasible for none.
    """
    for size in range(fewest, len(ranking) + 1):
        sets = additions(prefixes(ranking, [size - 1])[0], ranking[size - 1 : size - 1 + completions])
        transmit = drops.transmit_power(sets)
        best = int(np.argmin(transmit))
        if np.isfinite(transmit[best]):
            chosen: Bools = sets[best]
            return chosen
    return None


def exact_prefix(problem: Problem, ranking: NDArray[np.int64], allocator: Allocator = FAST) -> Answer:
    """Find the shortest feasible prefix of a ranking with exact powers, by bisection, as adding APs preserves feasibility."""

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


class MostInformativePolicy(AllocatingPolicy):
    """Shortest feasible prefix of the ranking by Fisher information.

    Where closed-form powers are infeasible for every prefix, and with shared pilots, prefixes are tried with exact powers.

    Args:
        completions: number of candidates in the ranking for the last AP, of which the cheapest is taken.

    Raises:
        ValueError: fewer than one completion.
    """

    name = "most-informative"
    takes_prior = True

    def __init__(self, *, completions: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.completions = checked_count("completions", completions)

    def decide(self, problem: Problem) -> Answer:
        """Rank, grow, allocate."""
        return self.along(problem, by_information(problem))

    def along(self, problem: Problem, ranking: NDArray[np.int64]) -> Answer:
        """Decide by the shortest feasible prefix of a ranking (M,)."""
        if not pilots_shared(problem):
            found = shortest_prefix(ScaledDrops.of(problem), ranking, fewest_active(problem), self.completions)
            if found is not None:
                answer = allocate_with_margin(problem, self.improve(problem, found), self._allocator)
                if answer.feasible:
                    return answer_from(answer, problem)
        return exact_prefix(problem, ranking, self._allocator)

    def improve(self, problem: Problem, active: Bools) -> Bools:
        """Improve a feasible set (M,)."""
        return active


class MostInformativeSearchPolicy(MostInformativePolicy):
    """`most-informative`, improved by local search over neighbours in random order with exact powers.

    Args:
        completions: as for `most-informative`.
        moves: as in `Budget`, like `patience` and `rounds`.
        seed: of the order, the same for every drop, so that a decision depends on its drop alone.

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
        """Search the neighbourhood in random order."""
        rng = np.random.default_rng(self.seed)
        return guided_search(
            with_margin(problem), active, lambda sets: rng.random(len(sets)), self.budget, fewest_active(problem)
        )
