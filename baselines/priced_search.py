"""Certified least cost of a set of APs with AP-specific prices, by best-first branch and bound on the share relaxation.

The cost of a set A is T(A) + Σ_{m in A} price_m, with T its least transmit power. `episode_bounds` prices APs by their use at an instant.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from baselines import interruption
from baselines.allocation import Allocator
from baselines.allocation.result import Float, Status
from baselines.ap_sets import Bools
from baselines.bounds import Certificate
from baselines.node_kernels import ROUNDING_MARGIN
from baselines.shares import Point, ShareRelaxation

ALLOCATOR = Allocator(threads=1)

COLD_STAGES = ((1.0, 20), (0.1, 30), (0.01, 60))
"""Softness and evaluations from the multipliers of all APs on."""

ROOT_SOFTNESS, ROOT_EVALUATIONS = 0.01, 80
SOFTNESS, EVALUATIONS = 0.03, 20
"""Softness of the selection relative to the target, and maximum evaluations of the Lagrangian, at the root and in a node."""

MAX_FOUND = 8
"""Maximum number of sets returned."""

MAX_FREE, MAX_SETS = 12, 64
"""Largest number of free APs of which all subsets are considered, and of sets that are solved instead of branching."""


@dataclass(eq=False)
class _Node:
    """Sets of APs that contain every AP fixed on and none fixed off."""

    state: NDArray[np.int8]  # (M,) 1 on, 0 free, −1 off
    point: Point  # its `price` c includes the prices
    constant: float = 0.0  # bound less the c of the free APs that it selects; units of P_max


@dataclass(frozen=True, eq=False)
class PricedBound:
    """Lower bound on the cost of every set that serves a drop, and sets found on the way."""

    lower_bound_w: float  # infinite if no set serves the drop
    sets: list[Bools]  # (M,) the cheapest that were found to be cheaper than the known one


class PricedSearch:
    """Bounds of one drop for changing prices; multipliers carry over from one call to the next.

    Args:
        certificate: of a drop that isn't certified infeasible; pilot contamination is neglected, a relaxation.
    """

    def __init__(self, certificate: Certificate) -> None:
        self.problem = replace(certificate.problem, pilot_overlap=None)
        self.relaxation = ShareRelaxation(self.problem)
        self.fewest, self.least_w = certificate.fewest, certificate.least_transmit_w
        self._all_on = certificate.all_on
        self._point: Point | None = None

    def bound(self, price_w: Float, best_w: float, gap: float, max_nodes: int) -> PricedBound:
        """Bound the cost of all sets, by a search that ends once no set is below (1 − gap) times the best cost.

        Args:
            price_w: (M,) at least zero, W.
            best_w: cost of a known set, W.
            gap: relative, in (0, 1).
            max_nodes: of the search; at zero the bound is that of the root.
        """
        target = best_w * (1.0 - gap)
        # Adding an AP never increases T, so those without a price are on.
        root = _Node(np.where(price_w <= 0.0, 1, 0).astype(np.int8), self._start(target))
        value = self._root(root, price_w, target)
        self._point = replace(_copied(root.point), unit=root.point.unit)
        heap, tickets, closed_w, found = [(value, 0, root)], 1, np.inf, list[tuple[float, Bools]]()
        for _ in range(max_nodes):
            if not heap or heap[0][0] >= target:
                break
            interruption.check()
            value, _, node = heapq.heappop(heap)
            value = max(value, self._tightened(node, price_w, target))
            if value >= target:
                closed_w = min(closed_w, value)
                continue
            closed_w = min(closed_w, target)  # of the sets that the node rules out
            self._fix(node, target)
            listed = self._listed(node, price_w, target)
            if listed is None:
                for child in self._branches(node):
                    heapq.heappush(heap, (value, tickets, child))
                    tickets += 1
            elif len(listed):
                costs = listed @ price_w
                answers = ALLOCATOR(self.problem, listed, target - costs)
                solved = (answers.status == Status.OPTIMAL) | (answers.status == Status.INACCURATE)
                closed_w = min(closed_w, float(np.min(np.where(solved, answers.bound + costs, np.inf))))
                totals = np.where(answers.feasible, answers.transmit_power + costs, np.inf)
                below = np.flatnonzero(totals < best_w)
                found += [(float(totals[i]), listed[i]) for i in below]
                target = min(target, float(np.min(totals)) * (1.0 - gap))
        found.sort(key=lambda one: one[0])
        return PricedBound(min(closed_w, heap[0][0] if heap else np.inf), [one for _, one in found[:MAX_FOUND]])

    def _start(self, target_w: float) -> Point:
        """Return the multipliers of the last call, or those of all APs on, scaled to the cost."""
        unit = target_w / self.relaxation.cap_w
        if self._point is not None:
            return replace(_copied(self._point), unit=unit)
        point = self.relaxation.start(self._all_on)
        return replace(point, theta=point.theta * (unit / point.unit), unit=unit)

    def _root(self, root: _Node, price_w: Float, target_w: float) -> float:
        """Bound the cost of all sets, W."""
        stages = COLD_STAGES if self._point is None else ((ROOT_SOFTNESS, ROOT_EVALUATIONS),)
        value = self._counted(root.state, price_w)
        for softness, evaluations in stages:
            if value < target_w:
                value = max(value, self._relaxed(root, price_w, target_w, softness, evaluations))
        return value

    def _tightened(self, node: _Node, price_w: Float, target_w: float) -> float:
        """Improve the multipliers of a node, and bound the cost of its sets, W."""
        counted = self._counted(node.state, price_w)
        if counted >= target_w:
            return counted
        return max(counted, self._relaxed(node, price_w, target_w, SOFTNESS, EVALUATIONS))

    def _relaxed(self, node: _Node, price_w: Float, target_w: float, softness: float, evaluations: int) -> float:
        """Bound the cost of a node's sets by the share relaxation, W."""
        value = self.relaxation.tighten(
            node.point, self.fewest, node.state, cost_w=price_w, target_w=target_w, evaluations=evaluations, softness=softness
        )  # fmt: skip
        order, _, chosen = self._selection(node)
        c = node.point.price
        node.constant = value / self.relaxation.cap_w - c[order[:chosen]].sum()
        return value

    def _counted(self, state: NDArray[np.int8], price_w: Float) -> float:
        """Bound the cost of a node's sets by P_all, the APs that are on and the cheapest others up to n_min, W."""
        missing, free = self.fewest - int((state > 0).sum()), np.sort(price_w[state == 0])
        if missing > len(free):
            return np.inf
        return self.least_w + float(price_w[state > 0].sum() + free[: max(missing, 0)].sum())

    def _selection(self, node: _Node) -> tuple[NDArray[np.int64], int, int]:
        """Return the free APs by increasing c, the number of those that n_min requires, and of those that minimise Σ c."""
        free = np.flatnonzero(node.state == 0)
        order = free[np.argsort(node.point.price[free], kind="stable")]
        required = max(self.fewest - int((node.state > 0).sum()), 0)
        return order, required, max(required, int((node.point.price[order] < 0.0).sum()))

    def _fix(self, node: _Node, target_w: float) -> None:
        """Fix APs of a node on or off where the opposite raises the bound above the target, by their reduced costs c."""
        c, (order, required, chosen) = node.point.price, self._selection(node)
        room = self._room(node, target_w) - c[order[:chosen]].sum()
        swapped_out = max(0.0, c[order[required - 1]]) if required else 0.0
        swapped_in = 0.0 if chosen > required else (max(0.0, c[order[chosen]]) if chosen < len(order) else np.inf)
        selected, others = order[:chosen], order[chosen:]
        node.state[others[c[others] - swapped_out > room]] = -1
        fixed = selected[swapped_in - c[selected] > room]
        node.state[fixed] = 1
        node.constant += float(c[fixed].sum())

    def _room(self, node: _Node, target_w: float) -> float:
        """Return the largest Σ c of free APs with which a set is below the target, in units of P_max."""
        return target_w / self.relaxation.cap_w * (1.0 + ROUNDING_MARGIN) - node.constant

    def _listed(self, node: _Node, price_w: Float, target_w: float) -> Bools | None:
        """List the sets of a node that may be below the target, (n, M); None if there are too many."""
        free = np.flatnonzero(node.state == 0)
        if len(free) > MAX_FREE:
            return None
        chosen = (np.arange(2 ** len(free))[:, None] >> np.arange(len(free))) & 1 == 1
        sets = np.repeat((node.state > 0)[None], len(chosen), axis=0)
        sets[:, free] = chosen
        kept = (chosen @ node.point.price[free] <= self._room(node, target_w)) & (sets.sum(1) >= self.fewest)
        kept &= self.least_w + sets @ price_w < target_w
        return sets[kept] if kept.sum() <= MAX_SETS else None

    def _branches(self, node: _Node) -> list[_Node]:
        """Split a node at the free AP whose weight is the most fractional, weighted by its power."""
        free, point = np.flatnonzero(node.state == 0), node.point
        score = np.minimum(point.weight, 1.0 - point.weight) * (1e-3 + np.sqrt(point.power))
        children = [_Node(node.state.copy(), _copied(point)) for _ in range(2)]
        for child, value in zip(children, (1, -1), strict=True):
            child.state[free[np.argmax(score[free])]] = value
        return children


def _copied(point: Point) -> Point:
    """Copy the multipliers and initial values of a node for another."""
    arrays = {name: getattr(point, name).copy() for name in ("theta", "power", "xi", "price", "weight")}
    return replace(point, **arrays)
