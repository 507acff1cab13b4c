"""Best-first branch and bound over sets of APs with the bounds of the share relaxation, in parallel.

Nodes are taken from a heap in batches and processed by threads without the interpreter lock. A batch depends on the heap alone and is
merged in order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import heapq
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation import fast, interior_point
from baselines.allocation.result import Allocation, Float
from baselines.bounds import DualPool, scaled_gains
from baselines.local_search import LocalSearch
from baselines.node_kernels import next_candidate, reduce_node
from baselines.share_kernels import tighten
from baselines.shares import ShareRelaxation

BATCH = 32
"""Nodes per batch."""

EVALUATIONS, ROOT_EVALUATIONS = 20, 120
"""Maximum evaluations of the Lagrangian in a node and at a root."""

SOFTNESS = 0.04
"""Softness of the selection of APs in a node, relative to the target."""

MAX_SETS = 700
"""Number of sets up to which a node is enumerated instead of branched on."""

ROUNDS = 3
"""Maximum rounds of bounding and fixing in a node."""

POOL_SIZE = 6
"""Multipliers for screening the sets of a node."""

MAX_NODES = 50_000
"""Number of open nodes above which the deepest are processed first."""


@dataclass(eq=False)
class Node:
    """Sets of `size` APs that contain every AP fixed on and none fixed off."""

    size: int
    state: NDArray[np.int8]  # (M,) 1 on, 0 free, −1 off
    theta: Float  # multipliers of the parent; like the next two, shared with its other child
    power: Float  # (M,) initial values
    xi: Float  # (M,)
    total_w: float  # certified bound on the total power


@dataclass(eq=False)
class _NodeResult:
    """Result of processing a node."""

    node: Node  # with improved multipliers and further APs fixed
    open: bool = False  # to be branched on
    bound_w: float = np.inf  # on the transmit power
    split: int = -1  # AP to branch on
    least_w: float = np.inf  # least transmit power of the solved sets; infinite if none is within the limit
    best: NDArray[np.bool_] | None = None  # (M,) that set
    proven_w: float = np.inf  # least certified bound of the solved sets
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    """Evaluations of the Lagrangian, sets enumerated, sets solved."""


class ShareSearch:
    """Search tree over the sets of several sizes, with its certified bound.

    Args:
        run: local search with the incumbent, which is updated.
        gap: relative optimality gap.
        threads: for processing nodes; by default the number of processors.
    """

    def __init__(self, run: LocalSearch, gap: float, threads: int | None = None) -> None:
        problem = run.problem
        self.run, self.gap = run, gap
        self.threads = threads if threads is not None else fast.processors()
        self.relaxation = ShareRelaxation(problem)
        self.nodes = 0
        self.solved_w = np.inf  # least certified bound, total power, among sets that were solved rather than ruled out
        self.counts = np.zeros(3, np.int64)
        self._heap: list[tuple[float, int, Node]] = []
        self._taken: list[Node] = []  # the batch being processed
        self._ticket = 0
        self._gains = scaled_gains(problem)
        self._arrays = tuple(
            np.ascontiguousarray(array, dtype=np.float64)[None].copy()
            for array in (problem.gain, problem.estimate_gain, problem.fisher)
        )
        self._prior = np.zeros((1, problem.S, 3))
        self._pool = DualPool(problem, np.arange(problem.M), POOL_SIZE)
        self._unit = 0.0

    def target_w(self) -> float:
        """Total power at which sets are pruned."""
        return self.run.best_w * (1.0 - self.gap)

    def limit_w(self, size: int) -> float:
        """Transmit power at which sets of a size are pruned, by their cost or their caps."""
        problem = self.run.problem
        by_cost = self.target_w() - size * problem.circuit_power_w
        return min(by_cost, size * problem.max_ap_power_w * (1.0 + 1e-6))

    def lower_bound_w(self) -> float:
        """Lower bound on the total power of all sets in the tree."""
        open_w = min((node.total_w for node in self._taken), default=np.inf)
        if self._heap:
            open_w = min(open_w, self._heap[0][0])
        return min(open_w, self.solved_w, self.target_w())

    def root(self, allocation: Allocation, size: int) -> float:
        """Add all sets of a size to the tree, and return the bound on their transmit power, W.

        Args:
            allocation: of a near-optimal set, as the starting point.
            size: n.
        """
        problem = self.run.problem
        point = self.relaxation.start(allocation)
        self._unit = max(self._unit, point.unit)
        circuit = size * problem.circuit_power_w
        limit = self.limit_w(size)
        bound = self.relaxation.tighten(point, size, target_w=limit, evaluations=ROOT_EVALUATIONS)
        if bound < self.run.least_transmit_w:
            # Fall back to the multipliers of all APs on, as those of the set undervalue its complement.
            other, found = self.relaxation.cold(self.run.all_on, size, limit)
            if found > bound:
                point, bound = other, found
        if bound <= limit:
            total = circuit + max(bound, self.run.least_transmit_w)
            self._push(Node(size, np.zeros(problem.M, np.int8), point.theta, point.power, point.xi, total))
        self._pool.add(allocation.multipliers)
        return bound

    def search(self) -> bool:
        """Process nodes until none is below the target; return False at the deadline."""
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
        """Take the nodes with the least bounds, or those with most APs fixed above `MAX_NODES`."""
        target = self.target_w()
        if len(self._heap) > MAX_NODES:
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

    def _work(self, node: Node, duals: tuple[Float, Float, Float, Float]) -> _NodeResult:
        """Tighten the bound of a node, fix APs, and solve its sets once they are few; thread-safe."""
        problem, relaxation = self.run.problem, self.relaxation
        M, cap, size = problem.M, relaxation.cap_w, node.size
        limit = self.limit_w(size)
        target = limit / cap
        node = replace(
            node, state=node.state.copy(), theta=node.theta.copy(), power=node.power.copy(), xi=node.xi.copy()
        )
        c, a, picks, out = np.empty(M), np.zeros(M), np.empty((MAX_SETS, size), np.int64), np.zeros(4, np.int64)
        free_w = np.zeros(M)  # every set has the same circuit power
        done = _NodeResult(node)
        for _ in range(ROUNDS):
            bound, spent = tighten(
                node.theta, relaxation.inverse_s, relaxation.rho, relaxation.Q, node.state, size, False, free_w, relaxation.gamma,
                node.power, node.xi, SOFTNESS * target, target, target, EVALUATIONS, c, a,
            )  # fmt: skip
            done.counts[0] += spent
            if bound > target:
                return done
            reduce_node(node.state, c, a, node.power, size, bound, target, picks, out)
            done.bound_w, done.split = bound * cap, int(out[3])
            if out[0] <= MAX_SETS:
                done.counts[1] += out[0]
                self._price(done, picks, int(out[0]), int(out[1]), limit, duals)
                return done
            if out[2] < 2:
                break
        done.open = True
        return done

    def _price(
        self, done: _NodeResult, picks: NDArray[np.int64], rows: int, count: int, limit: float, duals: tuple[Float, Float, Float, Float]
    ) -> None:  # fmt: skip
        """Screen and solve complete sets: rows of `picks` in addition to the APs fixed on."""
        problem, cap = self.run.problem, self.relaxation.cap_w
        M, K, S = problem.M, problem.K, problem.S
        gain, estimate, fisher = self._arrays
        noise, gamma, nu = float(problem.noise_w), self.relaxation.gamma, float(problem.crlb_threshold_m2)
        pool = [np.zeros((POOL_SIZE, *part.shape[1:])) for part in duals]
        for mine, part in zip(pool, duals, strict=True):
            mine[: len(part)] = part
        rewards, caps, values, shares = pool
        order, filled = np.arange(POOL_SIZE), np.array([len(duals[2])])
        active, drop, cutoff = np.zeros((1, M), dtype=bool), np.zeros(1, np.int64), np.array([limit])
        status, iterations = np.zeros((2, 1), np.int64)
        bound, power = np.zeros(1), np.zeros((1, M, K))
        sinr, mu, Z = np.zeros((1, K)), np.zeros((1, M)), np.zeros((1, S, 3))
        row, learn = 0, False
        while True:
            row = next_candidate(
                picks, row, rows, count, done.node.state, *self._gains, fisher[0], noise, gamma, nu, cap, limit, rewards, caps, values,
                shares, order, filled, learn, sinr[0], mu[0], Z[0], active[0],
            )  # fmt: skip
            if row == rows:
                return
            for array in (power, sinr, mu, Z):
                array.fill(0.0)
            interior_point.solve_range(
                0, 1, drop, active, gain, estimate, fisher, noise, gamma, nu, cap, cutoff, status, bound, iterations, power, sinr, mu, Z,
                self._prior,
            )  # fmt: skip
            done.counts[2] += 1
            row, learn = row + 1, True
            if status[0] in (interior_point.OPTIMAL, interior_point.INACCURATE):
                done.proven_w = min(done.proven_w, float(bound[0]))
                if status[0] == interior_point.OPTIMAL and (total := float(power.sum())) < done.least_w:
                    done.least_w, done.best = total, active[0].copy()

    def _merge(self, done: _NodeResult) -> None:
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
