"""Exact search for the best set of APs, with an anytime certified lower bound.

A set of n APs costs T + n P_cir with T at least the all-on optimum, which limits the sizes worth searching. Where interference makes the
best set transmit more than all APs on, `share_search` branches on the sets of all these sizes, best bound first. Otherwise sizes are taken
in increasing order, and `enumeration` prunes partial and complete sets. The exact allocator solves the remaining sets, with a cutoff.

Where users share pilots, exact search on the drop without contamination gives the bound and the set from which local search starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation.certificate import pilots_shared, refuse_prior
from baselines.allocation.result import Allocation, Float, Status
from baselines.bounds import DualPool, scaled_gains, sensing_qualities
from baselines.enumeration import enumerate_sets
from baselines.local_search import LocalSearch, deadline_in, improve
from baselines.node_kernels import ROUNDING_MARGIN
from baselines.policy import Answer, Policy, all_on_at_max_power, allocate_with_margin
from baselines.share_search import ShareSearch
from cfisac_env.types import Decision, Problem

BATCH = 64
"""Sets solved per batch."""

KICKS = 10
"""Consecutive failures of local search's random exchanges after which it ends, with shared pilots."""

RELAXATION_RATIO = 0.85
"""Ratio of the all-on optimum to the best set's transmit power below which the share relaxation is used."""

Ended = Literal["optimal", "feasible", "infeasible", "unknown"]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Best set found, with its certified bound."""

    active: NDArray[np.bool_]  # (M,)
    power: Float  # (M, K) W, zero when no feasible set was found
    total_power_w: float  # infinite when no feasible set was found
    lower_bound_w: float  # certified: no feasible decision needs less; infinite when the drop is infeasible
    gap: float  # 1 − lower bound/total; zero when the drop is infeasible
    nodes: int  # partial and complete sets visited by the exact search
    seconds: float
    status: (
        Ended  # optimal: within the requested gap; infeasible: proven, see `allocation`; unknown: the allocator failed
    )
    allocation: Allocation  # of the best set; of all APs on, with the proof, when the drop is infeasible


class SearchInterrupted(KeyboardInterrupt):
    """Interruption of a search by `KeyboardInterrupt`, with the best set and bound so far in `result`."""

    def __init__(self, result: SearchResult) -> None:
        super().__init__("the search was interrupted; its best set and bound so far are in `result`")
        self.result = result


def solve(
    problem: Problem,
    *,
    gap: float = 1e-6,
    time_limit_s: float | None = 60.0,
    seed: int = 0,
    threads: int | None = None,
) -> SearchResult:
    """Find the set of APs with the least total power T(A) + |A| P_cir, and certify it.

    With shared pilots the set is that of a local search, and the bound that of exact search without contamination, which only increases the
    required power: half of the time limit each.

    Args:
        problem: one drop.
        gap: relative gap between total power and bound at which a set is optimal. The allocator's own bounds are within 1e-6 of the
            transmit power, which limits the provable gap.
        time_limit_s: seconds, None for no limit; checked between batches. At zero the set is that of greedy elimination, with the better
            of P_all + n_min P_cir and the share relaxation's bound.
        seed: of the preceding local search; without a time limit, the result is deterministic.
        threads: of the search and the allocator, by default the number of processors. Results do not depend on it.

    Raises:
        ValueError: gap or time limit out of range, prior information, or a batch of drops.
        SearchInterrupted: on `KeyboardInterrupt`, with the best set and bound so far.
    """
    if not 0.0 <= gap < 1.0:
        raise ValueError(f"gap is {gap}, expected a relative gap in [0, 1), for example 1e-6")
    refuse_prior(problem, "exact search")
    begin = time.perf_counter()
    if pilots_shared(problem):
        return _contaminated(problem, gap, time_limit_s, seed, threads, begin)
    run = LocalSearch(problem, threads=threads, deadline=deadline_in(time_limit_s))
    if run.all_on.status == Status.INFEASIBLE:
        return _result(run, np.inf, 0, begin, "infeasible")
    proof = _Proof(run, gap, threads)
    try:
        improve(run, seed=seed)
        proof.search()
    except KeyboardInterrupt as stop:
        raise SearchInterrupted(_proven(run, proof, begin)) from stop
    return _proven(run, proof, begin)


def _contaminated(
    problem: Problem, gap: float, time_limit_s: float | None, seed: int, threads: int | None, begin: float
) -> SearchResult:
    """Search locally around the best set without contamination, and certify by its bound."""
    run = LocalSearch(problem, threads=threads, deadline=deadline_in(time_limit_s))
    half, bound, nodes = None if time_limit_s is None else time_limit_s / 2.0, run.lower_bound_w, 0
    if run.all_on.status == Status.INFEASIBLE:
        return _result(run, np.inf, 0, begin, "infeasible")

    def found() -> SearchResult:
        return _result(run, min(bound, run.best_w), nodes, begin, _ended(run, bound, gap))

    try:
        relaxed = solve(replace(problem, pilot_overlap=None), gap=gap, time_limit_s=half, seed=seed, threads=threads)
        bound, nodes = max(bound, relaxed.lower_bound_w), relaxed.nodes
        with run.without_deadline():
            start = run.first_better(relaxed.active[None], np.inf)
        if start is None:
            improve(run, seed=seed)
        else:
            run.descend(start)
            run.kicks(np.random.default_rng(seed), KICKS)
    except SearchInterrupted as stop:
        bound = max(bound, stop.result.lower_bound_w)
        raise SearchInterrupted(found()) from stop
    except KeyboardInterrupt as stop:
        raise SearchInterrupted(found()) from stop
    return found()


class _Proof:
    """Exact search over all sizes, and the bound that it has certified so far."""

    def __init__(self, run: LocalSearch, gap: float, threads: int | None) -> None:
        problem = run.problem
        self.run, self.gap = run, gap
        self.shares = ShareSearch(run, gap, threads)
        self.nodes = 0
        self.size = run.fewest  # smaller sizes are completed
        self.solved_w = np.inf  # least certified bound among sets that were solved rather than ruled out
        self.started = False
        # APs in order of their sensing quality, so that pruning without them cuts whole branches.
        quality = sensing_qualities(problem)
        self.order = np.lexsort((-quality.max(0), -run.all_on.multipliers.sensing_credits(problem)))
        self.quality = np.ascontiguousarray(quality[:, self.order])
        self.ranking = np.ascontiguousarray(np.argsort(-self.quality, axis=1, kind="stable"))
        self.recent = np.arange(len(quality))
        self.V, self.S, self.b = scaled_gains(problem, self.order)
        self.pool = DualPool(problem, self.order)

    def floor_w(self, size: int) -> float:
        """Lower bound on the total power of all sets of `size` APs or more; infinite for more than M."""
        if size > self.run.problem.M:
            return np.inf
        return self.run.least_transmit_w + size * self.run.problem.circuit_power_w

    def lower_bound_w(self) -> float:
        """Lower bound from the completed sizes and the floor of the others."""
        through = min(self.shares.target_w(), self.solved_w, self.shares.lower_bound_w()) if self.started else np.inf
        bound = max(min(through, self.floor_w(self.size)), self.floor_w(self.run.fewest))
        return min(bound, self.run.best_w)

    def search(self) -> None:
        """Search the sizes in increasing order until none can improve, or until the deadline."""
        for allocation in (self.run.all_on, self.run.best):
            if allocation is not None:
                self.pool.add(allocation.multipliers)
        if self.run.best is not None and self.run.least_transmit_w < RELAXATION_RATIO * float(
            self.run.best.transmit_power
        ):
            self._search_shares(self.run.best)
            return
        while self.floor_w(self.size) < self.shares.target_w():
            self.started = True
            if not self._enumerate():
                return
            self.size += 1

    def _search_shares(self, best: Allocation) -> None:
        """Search all sizes together by `share_search`."""
        while self.floor_w(self.size) < self.shares.target_w():
            self.started = True
            interruption.check()
            self.shares.root(best, self.size)
            self.size += 1
        try:
            self.shares.search()
        finally:
            self.nodes = self.shares.nodes

    def _enumerate(self) -> bool:
        """Prune or solve every set of the current size; return False at the deadline."""
        problem, size = self.run.problem, self.size
        position, depth = np.zeros(size, dtype=np.int64), 1
        found = np.empty((BATCH, size), dtype=np.int64)
        # About a tenth of a second between checks of deadline and interrupts.
        steps = max(200, int(1.5e7 / (size * size * problem.K)))
        while depth > 0:
            interruption.check()
            if time.perf_counter() >= self.run.deadline:
                return False
            limit = self.shares.limit_w(size)
            if limit <= self.run.least_transmit_w:
                return True
            duals = self.pool.arrays()
            useful = np.arange(len(duals[0]))
            rows, depth, nodes = enumerate_sets(
                position, depth, size, self.V, self.S, self.b, problem.max_ap_power_w, limit * (1.0 + ROUNDING_MARGIN),
                self.quality, self.ranking, self.recent, *duals, useful, found, steps,
            )  # fmt: skip
            self.nodes += nodes
            self.pool.reorder(useful)
            if rows:
                sets = np.zeros((rows, problem.M), dtype=bool)
                np.put_along_axis(sets, self.order[found[:rows]], True, axis=1)
                self._price(sets, limit)
        return True

    def _price(self, sets: NDArray[np.bool_], limit_w: float) -> None:
        """Solve sets of the current size, keep the best, and add the first few multipliers to the pool."""
        circuit = self.size * self.run.problem.circuit_power_w
        answers = self.run.solve(sets, limit_w)
        resolved = (answers.status == Status.OPTIMAL) | (answers.status == Status.INACCURATE)
        if resolved.any():
            self.solved_w = min(self.solved_w, float(answers.bound[resolved].min()) + circuit)
        for i in range(min(len(sets), 4)):
            self.pool.add(answers[i].multipliers)


def _proven(run: LocalSearch, proof: _Proof, begin: float) -> SearchResult:
    """Build the result of a completed or interrupted search."""
    bound = proof.lower_bound_w()
    return _result(run, bound, proof.nodes, begin, _ended(run, bound, proof.gap))


def _ended(run: LocalSearch, bound: float, gap: float) -> Ended:
    """Return the status of a search with a bound, at a requested gap; the allocator resolves gaps down to 1e-6."""
    if run.best is None:
        return "infeasible" if bound == np.inf else "unknown"
    return "optimal" if bound >= run.best_w * (1.0 - max(gap, 1e-6)) * (1.0 - 1e-12) else "feasible"


def _result(run: LocalSearch, bound: float, nodes: int, begin: float, status: Ended) -> SearchResult:
    best = run.best if run.best is not None else run.all_on
    power = best.power if run.best is not None else np.zeros_like(best.power)
    return SearchResult(
        active=best.active,
        power=power,
        total_power_w=run.best_w,
        lower_bound_w=bound,
        gap=0.0 if status == "infeasible" else 1.0 - bound / run.best_w,
        nodes=nodes,
        seconds=time.perf_counter() - begin,
        status=status,
        allocation=best,
    )


class BranchAndBoundPolicy(Policy):
    """Exact search for the best set, with a certified lower bound on every feasible decision.

    The search uses the exact requirements, so that its bound holds for every feasible decision; the powers of the best set are then
    allocated with the feasibility margin, which costs about 2e-5 of the transmit power.

    Args:
        time_limit_s: per drop, see `solve`.
    """

    name = "branch-and-bound"
    certifies = True

    def __init__(self, *, time_limit_s: float | None = 60.0, gap: float = 1e-6, seed: int = 0, **sizes: Any) -> None:
        super().__init__(**sizes)
        self._options: dict[str, Any] = {"time_limit_s": time_limit_s, "gap": gap, "seed": seed}
        self.last_result: SearchResult | None = None  # of the last drop, also if interrupted

    def decide(self, problem: Problem) -> Answer:
        """Search and allocate.

        Raises:
            SearchInterrupted: on `KeyboardInterrupt`; `last_result` holds the incumbent.
        """
        try:
            self.last_result = result = solve(problem, **self._options)
        except SearchInterrupted as stop:
            self.last_result = stop.result
            raise
        if not np.isfinite(result.total_power_w):
            proof = result.allocation if result.status == "infeasible" else None
            return Answer(
                all_on_at_max_power(problem), feasible=False, certificate=proof, lower_bound_w=result.lower_bound_w
            )
        answer = allocate_with_margin(problem, result.active)
        power = answer.power if answer.feasible else result.power
        return Answer(Decision(active=result.active, power=power), feasible=True, lower_bound_w=result.lower_bound_w)
