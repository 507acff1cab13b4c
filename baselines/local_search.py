"""Local search over sets of APs: removals, exchanges, additions and merges from several starting sets, with exact powers.

A set of n APs with transmit power T costs T + n P_cir. Adding an AP never increases T, so the all-on optimum bounds every set from below;
a solve stops once its dual bound shows that the set cannot improve on the incumbent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from baselines import ap_sets
from baselines.allocation import Allocation, Allocator
from baselines.allocation.result import Float
from baselines.ap_sets import Bools, Indices
from baselines.bounds import certify
from baselines.policy import Answer, Policy, answer_from, with_margin
from cfisac_env.config import nearest
from cfisac_env.types import Problem

START_NAMES = ("greedy", "sensing", "users", "random")

CHUNK = 48
"""Sets solved per batch."""

MERGES = 600
"""Maximum number of merges (two APs for one) tried from a set."""


@dataclass(frozen=True, eq=False)
class Incumbent:
    """Best set found by a local search."""

    allocation: Allocation  # of the best set; of all APs on for an infeasible drop
    total_power_w: float  # transmit and circuit power; infinite for an infeasible drop
    lower_bound_w: float  # certified bound for every set: all-on transmit power + n_min P_cir
    solves: int  # fixed-set problems solved or cut off

    @property
    def feasible(self) -> bool:
        """Feasibility of the drop; without it, `allocation` proves that no set serves it."""
        return bool(np.isfinite(self.total_power_w))


class LocalSearch:
    """State of a local search; `best` remains valid when it is interrupted.

    Args:
        problem: one drop with orthogonal pilots.
        threads: of the allocator; results do not depend on it.
        deadline: `time.perf_counter()` after which no further batch is started; infinity for none.

    Raises:
        ValueError: a batch of drops, or arguments that `fast.solve` refuses.
    """

    def __init__(self, problem: Problem, *, threads: int | None = None, deadline: float = np.inf) -> None:
        if problem.batch_shape:
            raise ValueError(
                f"local search takes one drop, got a batch of shape {problem.batch_shape}: index the problem first"
            )
        self.problem = problem
        self.solves = 0
        self.best: Allocation | None = None
        self.best_w = np.inf
        self._allocator = Allocator(threads=threads)
        self.deadline = deadline
        self._bounds: dict[bytes, float] = {}  # certified lower bound on the total power of tried sets, W
        certificate = certify(problem, self._allocator(problem, np.ones(problem.M, dtype=bool)))
        self.solves += 1
        self.all_on, self.fewest = certificate.all_on, certificate.fewest
        self.least_transmit_w, self._floor_w = certificate.least_transmit_w, certificate.floor_w
        if self.all_on.feasible:
            self.best, self.best_w = self.all_on, self.cost(self.all_on)

    @property
    def lower_bound_w(self) -> float:
        """Lower bound on the total power of every feasible set, P_all + n_min P_cir, W."""
        return min(self.best_w, self._floor_w)

    def cost(self, allocation: Allocation) -> float:
        """Compute the total power T + n P_cir, W."""
        return float(allocation.total_power(self.problem.circuit_power_w))

    def finished(self) -> bool:
        """Return whether the incumbent is optimal or the deadline has passed."""
        return self.best_w <= self.lower_bound_w * (1 + 1e-9) or time.perf_counter() >= self.deadline

    @contextmanager
    def without_deadline(self) -> Iterator[None]:
        """Suspend the deadline within the block."""
        deadline, self.deadline = self.deadline, np.inf
        try:
            yield
        finally:
            self.deadline = deadline

    def solve(self, sets: Bools, cutoff_w: float | Float) -> Allocation:
        """Solve sets (n, M) with cutoffs on their transmit power, and update the incumbent."""
        answers = self._allocator(self.problem, sets, cutoff_w)
        self.solves += len(sets)
        totals = answers.total_power(self.problem.circuit_power_w)
        winner = int(np.argmin(totals))
        if totals[winner] < self.best_w:
            self.best, self.best_w = answers[winner], float(totals[winner])
        return answers

    def first_better(self, sets: Bools, limit_w: float) -> Allocation | None:
        """Return the best set of the first batch with one below `limit_w`; None if there is none.

        Args:
            sets: (n, M), in the order in which they are tried.
            limit_w: total power to improve on.
        """
        limit_w -= 1e-9 * limit_w if np.isfinite(limit_w) else 0.0
        size = sets.sum(-1)
        possible = size >= self.fewest
        possible &= self.least_transmit_w + size * self.problem.circuit_power_w < limit_w
        keys = [row.tobytes() for row in np.packbits(sets, axis=-1)]
        order = [i for i in np.flatnonzero(possible) if self._bounds.get(keys[i], -np.inf) < limit_w]
        for start in range(0, len(order), CHUNK):
            if time.perf_counter() >= self.deadline:
                return None
            chunk = order[start : start + CHUNK]
            answers = self.solve(sets[chunk], limit_w - size[chunk] * self.problem.circuit_power_w)
            bounds = answers.bound + size[chunk] * self.problem.circuit_power_w
            self._bounds.update(zip((keys[i] for i in chunk), bounds.tolist(), strict=True))
            totals = answers.total_power(self.problem.circuit_power_w)
            winner = int(np.argmin(totals))
            if totals[winner] < limit_w:
                return answers[winner]
        return None

    def descend(self, current: Allocation) -> Allocation:
        """Move to cheaper neighbours until no removal, exchange, addition or merge lowers the total power."""
        while not self.finished():
            limit = self.cost(current)
            better = None
            for move in (self.removals, self.swaps, self.additions, self.merges):
                better = self.first_better(move(current), limit)
                if better is not None:
                    break
            if better is None:
                break
            current = better
        return current

    def removals(self, current: Allocation) -> Bools:
        """Return the sets without one AP, (n, M), by increasing radiated power."""
        return ap_sets.removals(current.active, _by_power(current))

    def additions(self, current: Allocation) -> Bools:
        """Return the sets with one more AP, (M − n, M), in the order of `by_price`."""
        return ap_sets.additions(current.active, by_price(self.problem, current))

    def swaps(self, current: Allocation) -> Bools:
        """Return the sets with one AP exchanged, (n (M − n), M), in the joint order of both APs."""
        return ap_sets.swaps(current.active, _by_power(current), by_price(self.problem, current), jointly=True)

    def merges(self, current: Allocation) -> Bools:
        """Return sets with two APs exchanged for one, (at most `MERGES`, M), in the joint order of all three."""
        on = _by_power(current)
        if len(on) - 1 < self.fewest:
            return np.empty((0, self.problem.M), dtype=bool)
        return ap_sets.merges(current.active, on, by_price(self.problem, current), MERGES)

    def eliminate(self) -> Allocation:
        """Run lazy greedy elimination from all APs on.

        First the longest tail of the ranking by power whose removal is nearly free is removed at once. Then removals are tried in order of
        increasing power, and the first batch with a cheaper set is accepted.
        """
        current = self.all_on
        ranking = _by_power(current)[::-1]
        sizes = sorted({max(self.fewest, round(self.problem.M * 0.8**i)) for i in range(1, 40)})
        allowance = 0.02 * self.problem.circuit_power_w
        for size in sizes:
            prefix = ap_sets.prefixes(ranking, [size])
            limit = float(self.all_on.transmit_power) + allowance + size * self.problem.circuit_power_w
            answer = self.first_better(prefix, min(limit, self.cost(current)))
            if answer is not None:
                current = answer
                break
        while not self.finished():
            better = self.first_better(self.removals(current), self.cost(current))
            if better is None:
                break
            current = better
        return current

    def grow(self, ranking: Indices) -> Allocation | None:
        """Return the cheapest prefix of a ranking, or None if none is cheaper than all APs on."""
        found = None
        sizes = np.arange(self.fewest, self.problem.M)
        prefixes = ap_sets.prefixes(ranking, sizes)
        limit = self.cost(self.all_on)
        for start in range(0, len(sizes), 8):
            answer = self.first_better(prefixes[start : start + 8], limit)
            if answer is not None:
                found, limit = answer, self.cost(answer)
        return found

    def kicks(self, rng: np.random.Generator, times: int) -> None:
        """Exchange two random APs of the best set and descend again, until `times` consecutive failures."""
        failures = 0
        while failures < times and self.best is not None and not self.finished():
            before = self.best_w
            active = self.best.active.copy()
            on, off = np.flatnonzero(active), np.flatnonzero(~active)
            count = min(2, len(on), len(off))
            if count == 0:
                return
            active[rng.choice(on, count, replace=False)] = False
            active[rng.choice(off, count, replace=False)] = True
            kicked = self.first_better(active[None], self.cost(self.all_on))
            if kicked is not None:
                self.descend(kicked)
            failures = 0 if self.best_w < before else failures + 1


def search(
    problem: Problem,
    *,
    seed: int = 0,
    starts: Sequence[str] = START_NAMES,
    kicks: int = 10,
    threads: int | None = None,
    time_limit_s: float | None = None,
) -> Incumbent:
    """Search for the set of APs with the least total power T(A) + |A| P_cir.

    Every starting set is improved by removals, exchanges, additions and merges (two for one), accepting the first improving batch, until
    none improves.

    Args:
        problem: one drop with orthogonal pilots.
        seed: of the random start and the kicks; results are deterministic without a time limit.
        starts: of `START_NAMES`, in this order: `greedy` eliminates from all APs on, `sensing` and `users` take the cheapest prefix of the
            ranking by Fisher information and by channel, `random` that of a random ranking.
        kicks: number of consecutive unsuccessful random exchanges of two APs of the best set after which the search ends.
        time_limit_s: time limit after the first start, which always completes: at zero, this is greedy elimination. None for no limit.

    Raises:
        ValueError: an unknown start, a negative number, shared pilots or a batch of drops.
    """
    run = LocalSearch(problem, threads=threads, deadline=deadline_in(time_limit_s))
    improve(run, seed=seed, starts=starts, kicks=kicks)
    return Incumbent(run.best if run.best is not None else run.all_on, run.best_w, run.lower_bound_w, run.solves)


def improve(run: LocalSearch, *, seed: int = 0, starts: Sequence[str] = START_NAMES, kicks: int = 10) -> None:
    """Run every start and the kicks, updating `run.best`; the first start is not subject to the deadline."""
    if kicks < 0:
        raise ValueError(f"kicks is {kicks}, expected zero or more")
    for start in starts:
        if start not in START_NAMES:
            raise ValueError(
                f"unknown start {start!r}{nearest(start, list(START_NAMES))}; valid starts: {', '.join(START_NAMES)}"
            )
    rng = np.random.default_rng(seed)
    if run.best is None:
        return
    for place, begin in enumerate(_starts(run, starts, rng)):
        with run.without_deadline() if place == 0 else nullcontext():
            if run.finished():
                return
            current = begin()
        if current is not None:
            run.descend(current)
    run.kicks(rng, kicks)


def _starts(
    run: LocalSearch, starts: Sequence[str], rng: np.random.Generator
) -> Iterator[Callable[[], Allocation | None]]:
    problem = run.problem
    for start in starts:
        if start == "greedy":
            yield run.eliminate
            continue
        if start == "sensing":
            scores = problem.fisher[..., 0] + problem.fisher[..., 1]
        elif start == "users":
            scores = problem.estimate_gain
        else:
            scores = rng.random((problem.M, 1))
        yield partial(run.grow, ap_sets.ranking(scores))


def _by_power(current: Allocation) -> Indices:
    """Order the active APs by increasing radiated power."""
    on = np.flatnonzero(current.active)
    return on[np.argsort(current.power.sum(-1)[on], kind="stable")]


def by_price(problem: Problem, current: Allocation) -> Indices:
    """Order the inactive APs by their contribution to Σ_k λ_k Σ_m v_mk/w_m, those with a negative price first."""
    duals = current.multipliers
    price = duals.prices(problem)
    worth = np.where(price > 0.0, problem.estimate_gain @ duals.sinr / np.maximum(price, 1e-300), np.inf)
    off = np.flatnonzero(~current.active)
    return off[np.lexsort((price[off], -worth[off]))]


def deadline_in(time_limit_s: float | None) -> float:
    """Return `time.perf_counter()` after the time limit; infinity for None."""
    if time_limit_s is None:
        return np.inf
    if not time_limit_s >= 0.0:
        raise ValueError(f"time_limit_s is {time_limit_s}, expected zero or more seconds, or None for no limit")
    return time.perf_counter() + time_limit_s


class LocalSearchPolicy(Policy):
    """Local search over sets of APs from several starting sets, with exact powers.

    Args:
        seed: of the search, the same for every drop, so that a decision depends on its drop alone.
        starts: see `search`.
    """

    name = "local-search"
    takes_prior = True

    def __init__(self, *, seed: int = 0, starts: Sequence[str] = START_NAMES, kicks: int = 10, **sizes: Any) -> None:
        super().__init__(**sizes)
        self._options: dict[str, Any] = {"seed": seed, "starts": tuple(starts), "kicks": kicks}

    def decide(self, problem: Problem) -> Answer:
        """Search with the feasibility margin, or without it where the margin is infeasible."""
        found = search(with_margin(problem), **self._options)
        if not found.feasible:
            found = search(problem, **self._options)
        return answer_from(found.allocation, problem)
