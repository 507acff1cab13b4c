"""Guided local search over sets of APs: neighbours are solved exactly in the order of a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from baselines import ap_sets
from baselines.allocation import Allocator
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from cfisac_env.env import checked_count
from cfisac_env.types import Problem

SetScore = Callable[[Bools], Float]

ONE_THREAD = Allocator(threads=1)
"""Allocator for small batches."""


@dataclass(frozen=True)
class Budget:
    """Limits of a guided local search.

    Attributes:
        moves: neighbours solved per round, the cheapest of which is accepted if it improves.
        patience: number of consecutive rounds without improvement after which the search ends.
        rounds: maximum number of rounds.

    Raises:
        ValueError: a limit that is not a whole number of 1 or more.
    """

    moves: int = 64
    patience: int = 3
    rounds: int = 20

    def __post_init__(self) -> None:
        for name in ("moves", "patience", "rounds"):
            checked_count(name, getattr(self, name))


def guided_search(problem: Problem, active: Bools, score: SetScore, budget: Budget, fewest: int = 1) -> Bools:
    """Improve a set (M,) by moving to the cheapest of the best-scored neighbours in each round.

    Args:
        problem: one drop with orthogonal pilots, including the feasibility margin.
        active: (M,) starting set; if it is infeasible, any feasible neighbour improves it.
        score: score of sets (n, M); neighbours with the highest scores are solved first.
        fewest: minimum number of APs of a set.
    """
    total = float(total_power(problem, active[None], np.inf)[0])
    tried, failures, moved = {active.tobytes()}, 0, True
    waiting: list[Bools] = []
    for _ in range(budget.rounds):
        if moved:
            pool = neighbours(active, fewest)
            waiting = [s for s in pool[np.argsort(-score(pool), kind="stable")] if s.tobytes() not in tried]
        batch, waiting = waiting[: budget.moves], waiting[budget.moves :]
        if not batch:
            break
        tried.update(s.tobytes() for s in batch)
        totals = total_power(problem, np.stack(batch), total)
        best = int(np.argmin(totals))
        moved = bool(totals[best] < total)
        if moved:
            active, total, failures = batch[best], float(totals[best]), 0
        else:
            failures += 1
            if failures >= budget.patience:
                break
    return active


def total_power(problem: Problem, sets: Bools, below_w: float) -> Float:
    """Compute the least total power of sets (n, M) in W, (n,); infinite where infeasible or not below a limit."""
    circuit = sets.sum(-1) * problem.circuit_power_w
    return ONE_THREAD(problem, sets, below_w - circuit).total_power(problem.circuit_power_w)


def neighbours(active: Bools, fewest: int = 1) -> Bools:
    """Build all neighbours of a set (M,) with at least `fewest` APs: removals, exchanges, additions and merges."""
    on, off = np.flatnonzero(active), np.flatnonzero(~active)
    most = len(off) * len(on) * (len(on) - 1) // 2
    sets = [
        ap_sets.removals(active),
        ap_sets.swaps(active, on, off),
        ap_sets.additions(active),
        ap_sets.merges(active, on, off, most),
    ]
    found: Bools = np.concatenate(sets)
    return np.asarray(found[found.sum(-1) >= fewest])
