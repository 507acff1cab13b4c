"""Search from the network's rankings to a set of APs: prefixes, then local moves from the cheapest one.

A set of n APs costs T + n P_cir, with T from an allocator: the exact one, or the network's own powers. It is priced at most once, with a
cut-off, and only if neither the SINRs' least number of APs, nor the sensing knapsack, nor the multipliers of earlier sets exclude that it
improves on the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from agents.hetgnn.compiled import CompiledHeads
from baselines import ap_sets
from baselines.allocation import Allocation, fast
from baselines.bounds import DualScreen, SensingKnapsack, fewest_active
from baselines.local_search import by_price
from cfisac_env.types import Problem

Bools = NDArray[np.bool_]
Allocator = Callable[[Bools, NDArray[np.float64]], Allocation]


class Rankings:
    """Rankings of one drop's APs, extended on demand.

    Args:
        head: evaluated again after every AP.
        width: number of rankings; they differ in their first AP.
    """

    def __init__(self, head: CompiledHeads, count: int, width: int) -> None:
        self._head = head
        first = np.argsort(-head.logits(np.zeros((1, count), dtype=bool))[0], kind="stable")[:width]
        self._on = np.zeros((len(first), count), dtype=bool)
        self._on[np.arange(len(first)), first] = True
        self._prefixes = [self._on]

    def prefixes(self, size: int) -> Bools:
        """Return sets of `size` APs, (width, M), the ranking with the likeliest first AP first; sets may repeat."""
        while len(self._prefixes) < size:
            self._on = self._on.copy()
            self._on[np.arange(len(self._on)), self._head.logits(self._on).argmax(-1)] = True
            self._prefixes.append(self._on)
        return self._prefixes[size - 1]


class Search:
    """Search for the cheapest set of one drop.

    Args:
        problem: one drop with orthogonal pilots.
        head: of the same drop.
        allocate: allocator of sets (n, M) with cut-offs (n,) W; by default the exact one.
        accept: stop when the total power is certified to be at most this far (relative) above the optimum.
    """

    def __init__(
        self, problem: Problem, head: CompiledHeads, allocate: Allocator | None = None, accept: float = 0.0
    ) -> None:
        self.problem, self._head, self._accept = problem, head, accept
        self._allocate = allocate or (lambda sets, room: fast.solve(problem, sets, cutoff_w=room))
        self.best: Allocation | None = None
        self.best_w = np.inf
        self.solves = 0
        self._tried: set[bytes] = set()
        self._knapsack, self._screen = SensingKnapsack(problem), DualScreen(problem)
        self.fewest = fewest_active(problem, self._knapsack.least_w)
        self.lower_bound_w = self._knapsack.least_w + self.fewest * problem.circuit_power_w

    def finished(self) -> bool:
        """Return whether the best set is certified to within the accepted gap."""
        return self.best_w <= self.lower_bound_w * (1.0 + self._accept)

    def start(self, allocation: Allocation) -> None:
        """Start from an allocated set."""
        self.best = allocation
        self._screen.add(allocation.multipliers)
        self.best_w = float(allocation.transmit_power) + self.problem.circuit_power_w * int(allocation.active.sum())

    def price_prefixes(self, width: int) -> Allocation | None:
        """Price the prefixes of so many rankings, from the least number of APs on; None when not even all APs serve the drop."""
        rankings = Rankings(self._head, self.problem.M, width)
        for size in range(self.fewest, self.problem.M + 1):
            if size * self.problem.circuit_power_w + self._knapsack.least_w >= self.best_w:
                break
            self.price(rankings.prefixes(size))
        return self.best

    def improve(self, rounds: int, outsiders: int) -> Allocation:
        """Move to the cheapest neighbour of the best set, at most so many times.

        A move exchanges, removes or adds one AP; when none of these helps, it exchanges two for one. Candidates to add are those with the
        highest logits given the APs that stay, and those with the best reduced costs where the allocator has multipliers.
        """
        if self.best is None:
            raise ValueError("there is no set to improve: call `price_prefixes` or `start` first")
        for _ in range(rounds):
            if self.finished() or not any(self.price(sets) for sets in self._neighbours(self.best, outsiders)):
                break
        return self.best

    def price(self, sets: Bools) -> bool:
        """Price sets (n, M), and return whether one of them has become the best."""
        problem, size, chosen = self.problem, sets.sum(-1), []
        room = self.best_w * (1.0 - 1e-9) - problem.circuit_power_w * size
        keys = np.packbits(sets, axis=-1)
        for i in np.flatnonzero((size >= self.fewest) & (room > self._knapsack.least_w)).tolist():
            if (key := keys[i].tobytes()) not in self._tried:
                self._tried.add(key)
                chosen.append(i)
        rows = np.array(chosen, dtype=np.int64)
        rows = rows[~self._knapsack.rules_out(sets[rows], room[rows])]
        rows = rows[~self._screen.rules_out(sets[rows], room[rows])]
        if not len(rows):
            return False
        answers = self._allocate(sets[rows], room[rows])
        self.solves += len(rows)
        total = np.where(
            answers.feasible & (answers.transmit_power < room[rows]),
            answers.transmit_power + problem.circuit_power_w * size[rows],
            np.inf,
        )
        winner = int(total.argmin())
        if not total[winner] < self.best_w:
            return False
        self.best, self.best_w = answers[winner], float(total[winner])
        self._screen.add(self.best.multipliers)
        return True

    def _neighbours(self, best: Allocation, outsiders: int) -> Iterator[Bools]:
        """Yield the neighbours of the best set, (n, M): with one AP exchanged, removed or added, then with two exchanged for one."""
        on = np.flatnonzero(best.active)
        prices = by_price(self.problem, best)[: outsiders if best.multipliers.sinr.any() else 0]
        without = ap_sets.removals(best.active)
        yield np.concatenate(
            [without, self._additions(np.concatenate([without, best.active[None]]), best.active, prices, outsiders)]
        )
        if len(on) > self.fewest:
            pairs = on[np.stack(np.triu_indices(len(on), 1), axis=1)]
            yield self._additions(ap_sets.exchanged(best.active, leavers=pairs), best.active, prices, outsiders)

    def _additions(self, bases: Bools, barred: Bools, prices: NDArray[np.int64], outsiders: int) -> Bools:
        """Add one AP to each base: each of `prices`, and `outsiders` with the highest logits. Returns sets (n, M)."""
        logits = self._head.logits(bases)
        logits[:, barred] = -np.inf
        wanted = np.argsort(-logits, axis=-1, kind="stable")[:, :outsiders]
        newcomers = np.concatenate([wanted, np.repeat(prices[None], len(bases), axis=0)], axis=1)
        moves = np.repeat(bases[:, None], newcomers.shape[1], axis=1)
        np.put_along_axis(moves, newcomers[..., None], True, axis=-1)
        return moves.reshape(-1, moves.shape[-1])
