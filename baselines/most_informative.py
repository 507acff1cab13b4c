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
from baselines.bounds import fewest_active
from baselines.heuristics import answered
from baselines.moves import Bools, drops_and_swaps, prefixes
from baselines.policy import FAST, Answer, Policy, allocate, solved
from cfisac_env.types import Problem


def by_information(problem: Problem) -> NDArray[np.int64]:
    """APs by Σ_s tr Q_ms, the most informative first, (M,)."""
    return np.argsort(-problem.fisher[..., :2].sum((-2, -1)), axis=-1, kind="stable")


def shortest_prefix(
    drops: ScaledDrops, ranking: NDArray[np.int64], fewest: int, completions: int = 1
) -> tuple[Bools, float] | None:
    """The first set along a ranking that closed-form powers serve.

    At each size n, the first n − 1 APs are completed by each of the next `completions`, and the cheapest that serves is taken.

    Args:
        drops: one drop.
        ranking: (M,) APs.
        fewest: n to begin with.
        completions: candidates for the last AP of a set.

    Returns:
        The set (M,) and its total power in units of P_max, or None when closed-form powers serve none.
    """
    for size in range(fewest, len(ranking) + 1):
        last = ranking[size - 1 : size - 1 + completions]
        sets = np.zeros((len(last), len(ranking)), dtype=bool)
        sets[:, ranking[: size - 1]] = True
        sets[np.arange(len(last)), last] = True
        totals = drops.total_power(sets)
        best = int(np.argmin(totals))
        if np.isfinite(totals[best]):
            return sets[best], float(totals[best])
    return None


def exact_prefix(problem: Problem, ranking: NDArray[np.int64], allocator: Allocator = FAST) -> Answer:
    """The shortest prefix of a ranking that exact powers serve, by bisection: more APs never serve less."""

    def prefix(size: int) -> Allocation:
        return allocate(problem, prefixes(ranking, [size])[0], allocator)

    low, high, best = 0, problem.M, prefix(problem.M)
    while solved(best) and high - low > 1:
        middle = (low + high) // 2
        answer = prefix(middle)
        if solved(answer):
            high, best = middle, answer
        else:
            low = middle
    return answered(best, problem)


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
            drops = ScaledDrops.of(problem)
            found = shortest_prefix(drops, ranking, fewest_active(problem), self.completions)
            if found is not None:
                answer = allocate(problem, self.improve(drops, *found), self._allocator)
                if solved(answer):
                    return answered(answer, problem)
        return exact_prefix(problem, ranking, self._allocator)

    def improve(self, drops: ScaledDrops, active: Bools, total: float) -> Bools:
        """The set to allocate for, from one that serves and its total power in units of P_max."""
        return active


class MostInformativeSearchPolicy(MostInformativePolicy):
    """`most-informative`, followed by rounds of moves: sets with one AP less or exchanged are priced, and the cheapest is taken.

    Args:
        completions: as for `most-informative`.
        rounds: of moves, at most; it ends when none is cheaper.
        moves: sets priced a round, drawn at random; None prices every one.
        seed: of the draws, which depend on nothing else.
        backend: of the allocator.
        sizes: `M` and `K`, as for every policy.

    Raises:
        ValueError: rounds or moves below one, or as for `most-informative`.
    """

    name = "most-informative-search"

    def __init__(
        self, *, completions: int = 8, rounds: int = 2, moves: int | None = None, seed: int = 0, **options: Any
    ) -> None:
        super().__init__(completions=completions, **options)
        for name, value in (("rounds", rounds), ("moves", 1 if moves is None else moves)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
        self.rounds, self.moves, self.seed = int(rounds), moves, seed

    def improve(self, drops: ScaledDrops, active: Bools, total: float) -> Bools:
        """Move while that lowers the total power."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.rounds):
            sets = drops_and_swaps(active)
            if self.moves is not None and self.moves < len(sets):
                sets = sets[rng.choice(len(sets), self.moves, replace=False)]
            totals = drops.total_power(sets)
            best = int(np.argmin(totals)) if len(sets) else 0
            if not len(sets) or not totals[best] < total:
                break
            active, total = sets[best], float(totals[best])
        return active
