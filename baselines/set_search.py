"""Moves from a set of APs to cheaper ones: an order says which neighbours come first, the exact allocator what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from baselines import ap_sets
from baselines.allocation import Allocator
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from cfisac_env.types import Problem

SetScore = Callable[[Bools], Float]

ONE_THREAD = Allocator(threads=1)
"""Batches are small."""


@dataclass(frozen=True)
class Budget:
    """What a search may spend.

    Attributes:
        moves: sets that are priced a round, the cheapest of which is moved to.
        patience: rounds in a row without a cheaper set after which it ends.
        rounds: at most.

    Raises:
        ValueError: one of them is no whole number of 1 or more.
    """

    moves: int = 64
    patience: int = 3
    rounds: int = 20

    def __post_init__(self) -> None:
        for name in ("moves", "patience", "rounds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")


def guided_search(problem: Problem, active: Bools, order: SetScore, budget: Budget, fewest: int = 1) -> Bools:
    """The set (M,) that moves lead to, each round to the cheapest of the next neighbours.

    Args:
        problem: one drop with orthogonal pilots, with the margin that the powers shall have.
        active: (M,) the set to begin with; where it serves nothing, any neighbour that serves is better.
        order: values of sets (n, M), the highest of which are priced first.
        budget: of the search.
        fewest: APs that a set must have at least.
    """
    total = float(total_power(problem, active[None], np.inf)[0])
    tried, failures, moved = {active.tobytes()}, 0, True
    waiting: list[Bools] = []
    for _ in range(budget.rounds):
        if moved:
            pool = neighbours(active, fewest)
            waiting = [s for s in pool[np.argsort(-order(pool), kind="stable")] if s.tobytes() not in tried]
        named, waiting = waiting[: budget.moves], waiting[budget.moves :]
        if not named:
            break
        tried.update(s.tobytes() for s in named)
        totals = total_power(problem, np.stack(named), total)
        best = int(np.argmin(totals))
        moved = bool(totals[best] < total)
        if moved:
            active, total, failures = named[best], float(totals[best]), 0
        else:
            failures += 1
            if failures >= budget.patience:
                break
    return active


def total_power(problem: Problem, sets: Bools, below_w: float) -> Float:
    """Least total power of sets (n, M) in W, (n,); infinite where it isn't below a limit or no powers serve."""
    circuit = sets.sum(-1) * problem.circuit_power_w
    answer = ONE_THREAD(problem, sets, below_w - circuit)
    return np.asarray(np.where(answer.feasible, answer.transmit_power + circuit, np.inf))


def neighbours(active: Bools, fewest: int = 1) -> Bools:
    """Every set of `fewest` APs or more that dropping, swapping or adding one AP, or putting one in the place of two, makes of (M,)."""
    on, off = np.flatnonzero(active), np.flatnonzero(~active)
    most = len(off) * len(on) * (len(on) - 1) // 2
    sets = [ap_sets.removals_and_swaps(active), ap_sets.additions(active), ap_sets.merges(active, on, off, most)]
    found: Bools = np.concatenate(sets)
    return np.asarray(found[found.sum(-1) >= fewest])
