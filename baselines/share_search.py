"""Best-first search over sets of APs with the bounds of the share relaxation, on all processors.

Nodes are taken from a heap in batches whose members several threads work on without the interpreter lock. A batch depends on the heap alone
and is merged in its order, so that the answer doesn't depend on the number of threads.
"""

from __future__ import annotations

import heapq
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation import interior_point
from baselines.allocation.result import Allocation, Float
from baselines.bounds import DualPool
from baselines.local_search import LocalSearch
from baselines.node_kernels import next_candidate, reduce_node
from baselines.share_kernels import tighten
from baselines.shares import ShareRelaxation

BATCH = 32
"""Nodes that are worked on together."""

EVALUATIONS, ROOT_EVALUATIONS = 20, 120
"""Of the Lagrangian in a node, at most."""

SOFTNESS = 0.04
"""Of the choice of APs in a node, relative to the power at stake."""

MOST = 700
"""Sets that a node prices rather than splitting further."""

ROUNDS = 3
"""How often the bound of a node is raised again after APs were fixed."""

POOL = 6
"""Multipliers that screen the sets of a node."""

HEAP = 50_000
"""Nodes in memory from which on the deepest are taken first; two share some kilobytes."""


@dataclass(eq=False)
class Node:
    """Sets of `size` APs that hold the APs that are on and none that is off."""

    size: int
    state: NDArray[np.int8]  # (M,) 1 on, 0 free, −1 off
    theta: Float  # multipliers of the parent, shared with its other child, as the next two
    power: Float  # (M,) guesses
    xi: Float  # (M,)
    total_w: float  # certified bound on the total power


@dataclass(eq=False)
class _Done:
    """What came of a node."""

    node: Node  # with better multipliers, and more APs fixed
    open: bool = False  # to be split
    bound_w: float = np.inf  # on the transmit power
    split: int = -1  # AP to split on
    least_w: float = np.inf  # of the priced sets, transmit power; infinite without one within the limit
    best: NDArray[np.bool_] | None = None  # (M,) that set
    proven_w: float = np.inf  # least certified bound of those solved to the end
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    """Evaluations of the Lagrangian, sets that the bound left, sets solved."""


class ShareSearch:
    """The tree of all sets of some sizes: what is open, and what that proves.

    Args:
        run: the local search that holds the incumbent; improved.
        gap: relative gap that counts as none.
        threads: to work on nodes; by default as many as processors.
    """

    def __init__(self, run: LocalSearch, gap: float, threads: int | None = None) -> None:
        problem = run.problem
        self.run, self.gap = run, gap
        self.threads = threads if threads is not None else _processors()
        self.relaxation = ShareRelaxation(problem)
        self.nodes = 0
        self.solved_w = np.inf  # least certified bound, total power, among sets that were solved rather than ruled out
        self.counts = np.zeros(3, np.int64)
        self._heap: list[tuple[float, int, Node]] = []
        self._taken: list[Node] = []  # of the batch that is being worked on
        self._ticket = 0
        scale = problem.estimate_gain.sum(0)
        self._screen = (
            np.ascontiguousarray(problem.estimate_gain / scale, dtype=np.float64),
            np.ascontiguousarray(problem.sinr_threshold * problem.gain / scale, dtype=np.float64),
            np.asarray(problem.sinr_threshold * problem.noise_w / scale, dtype=np.float64),
        )
        self._arrays = tuple(
            np.ascontiguousarray(array, dtype=np.float64)[None].copy()
            for array in (problem.gain, problem.estimate_gain, problem.fisher)
        )
        self._pool = DualPool(problem, np.arange(problem.M), POOL)
        self._unit = 0.0

    def target_w(self) -> float:
        """Total power from which a set needs no further attention."""
        return self.run.best_w * (1.0 - self.gap)

    def lower_bound_w(self) -> float:
        """What the sizes that were started prove: no set of theirs needs less total power; infinite when all are through."""
        open_w = min((node.total_w for node in self._taken), default=np.inf)
        if self._heap:
            open_w = min(open_w, self._heap[0][0])
        return min(open_w, self.solved_w, self.target_w())

    def root(self, allocation: Allocation, size: int) -> float:
        """Put all sets of a size into the tree, and return the bound on their transmit power, W.

        Args:
            allocation: of a good set, to start from.
            size: n.
        """
        problem = self.run.problem
        point = self.relaxation.start(allocation)
        self._unit = max(self._unit, point.unit)
        circuit = size * problem.circuit_power_w
        limit = min(self.target_w() - circuit, size * problem.max_ap_power_w * (1.0 + 1e-6))
        bound = self.relaxation.tighten(point, size, target_w=limit, evaluations=ROOT_EVALUATIONS)
        if bound < self.run.least_transmit_w:
            # The set's multipliers make an AP outside look far too good; those of all APs on don't.
            other, found = self.relaxation.cold(self.run.all_on, size, limit)
            if found > bound:
                point, bound = other, found
        if bound <= limit:
            total = circuit + max(bound, self.run.least_transmit_w)
            self._push(Node(size, np.zeros(problem.M, np.int8), point.theta, point.power, point.xi, total))
        self._pool.add(allocation.multipliers)
        return bound

    def search(self) -> bool:
        """Work until no node is left below the target; False when time is up before."""
        with ThreadPoolExecutor(self.threads) as pool:
            while True:
                interruption.check()
                self._taken = self._next_batch()
                if not self._taken:
                    return True
                if time.perf_counter() >= self.run.deadline:
                    for node in self._taken:
                        self._push(node)
                    self._taken = []
                    return False
                duals = self._pool.arrays()
                each = map if self.threads == 1 else pool.map
                done = list(each(partial(self._work, duals=duals), self._taken))
                self._taken = []
                for one in done:
                    self._merge(one)

    def _next_batch(self) -> list[Node]:
        """The nodes of the least bounds; the ones with most APs fixed where memory is full."""
        target = self.target_w()
        if len(self._heap) > HEAP:
            self._heap = [entry for entry in self._heap if entry[0] < target]
            self._heap.sort(key=lambda entry: (-int(np.count_nonzero(entry[2].state)), entry[1]))
            batch = [node for _, _, node in self._heap[:BATCH]]
            self._heap = self._heap[BATCH:]
            heapq.heapify(self._heap)
            return batch
        batch = []
        while self._heap and len(batch) < BATCH:
            if self._heap[0][0] >= target:
                self._heap.clear()
                break
            batch.append(heapq.heappop(self._heap)[2])
        return batch

    def _work(self, node: Node, duals: tuple[Float, Float, Float, Float]) -> _Done:
        """Raise the bound of a node, fix APs, and price its sets once they are few; touches nothing that nodes share."""
        problem, relaxation = self.run.problem, self.relaxation
        M, cap, size = problem.M, relaxation.cap_w, node.size
        limit = min(self.target_w() - size * problem.circuit_power_w, size * problem.max_ap_power_w * (1.0 + 1e-6))
        target = limit / cap
        node = replace(
            node, state=node.state.copy(), theta=node.theta.copy(), power=node.power.copy(), xi=node.xi.copy()
        )
        c, a, picks, out = np.empty(M), np.zeros(M), np.empty((MOST, size), np.int64), np.zeros(4, np.int64)
        done = _Done(node)
        for _ in range(ROUNDS):
            bound, spent = tighten(
                node.theta, relaxation.inverse_s, relaxation.rho, relaxation.Q, node.state, size, relaxation.gamma, node.power, node.xi,
                SOFTNESS * target, target, target, EVALUATIONS, c, a,
            )  # fmt: skip
            done.counts[0] += spent
            if bound > target:
                return done
            reduce_node(node.state, c, a, node.power, size, bound, target, picks, out)
            done.bound_w, done.split = bound * cap, int(out[3])
            if out[0] <= MOST:
                done.counts[1] += out[0]
                self._price(done, picks, int(out[0]), int(out[1]), limit, duals)
                return done
            if out[2] < 2:
                break
        done.open = True
        return done

    def _price(
        self, done: _Done, picks: NDArray[np.int64], rows: int, count: int, limit: float, duals: tuple[Float, Float, Float, Float]
    ) -> None:  # fmt: skip
        """Screen and solve complete sets: rows of `picks` on top of the APs that are on."""
        problem, cap = self.run.problem, self.relaxation.cap_w
        M, K, S = problem.M, problem.K, problem.S
        gain, estimate, fisher = self._arrays
        noise, gamma, nu = float(problem.noise_w), self.relaxation.gamma, float(problem.crlb_threshold_m2)
        pool = [np.zeros((POOL, *part.shape[1:])) for part in duals]
        for mine, part in zip(pool, duals, strict=True):
            mine[: len(part)] = part
        rewards, caps, values, shares = pool
        order, filled = np.arange(POOL), np.array([len(duals[2])])
        active, drop, cutoff = np.zeros((1, M), dtype=bool), np.zeros(1, np.int64), np.array([limit])
        status, iterations, bound, power = (
            np.zeros(1, np.int64),
            np.zeros(1, np.int64),
            np.zeros(1),
            np.zeros((1, M, K)),
        )
        sinr, mu, Z = np.zeros((1, K)), np.zeros((1, M)), np.zeros((1, S, 3))
        row, learn = 0, False
        while True:
            row = next_candidate(
                picks, row, rows, count, done.node.state, *self._screen, fisher[0], noise, gamma, nu, cap, limit, rewards, caps, values,
                shares, order, filled, learn, sinr[0], mu[0], Z[0], active[0],
            )  # fmt: skip
            if row == rows:
                return
            for array in (power, sinr, mu, Z):
                array.fill(0.0)
            interior_point.solve_range(
                0, 1, drop, active, gain, estimate, fisher, noise, gamma, nu, cap, cutoff, status, bound, iterations, power, sinr, mu, Z
            )  # fmt: skip
            done.counts[2] += 1
            row, learn = row + 1, True
            if status[0] in (interior_point.OPTIMAL, interior_point.INACCURATE):
                done.proven_w = min(done.proven_w, float(bound[0]))
                if status[0] == interior_point.OPTIMAL and (total := float(power.sum())) < done.least_w:
                    done.least_w, done.best = total, active[0].copy()

    def _merge(self, done: _Done) -> None:
        problem, run, node = self.run.problem, self.run, done.node
        circuit = node.size * problem.circuit_power_w
        self.nodes += 1
        self.counts += done.counts
        self.solved_w = min(self.solved_w, done.proven_w + circuit)
        if done.best is not None and done.least_w + circuit < run.best_w:
            self._pool.add(run.solve(done.best[None], np.inf)[0].multipliers)
        if done.open:
            total = max(node.total_w, circuit + done.bound_w)
            for value in (1, -1):
                state = node.state.copy()
                state[done.split] = value
                self._push(replace(node, state=state, total_w=total))

    def _push(self, node: Node) -> None:
        self._ticket += 1
        heapq.heappush(self._heap, (node.total_w, self._ticket, node))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
