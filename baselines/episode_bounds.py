"""Certified lower bound on the energy of an episode with switching costs, by Lagrangian decomposition: derivation in `docs/bounds.md`.

Prices of every AP at every instant separate the instants from each other and from the activation of the APs. The instants are bounded by
`priced_search`, the activation of an AP by dynamic programming. Any prices give a bound; good ones come from a linear program over sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.bounds import Certificate
from baselines.priced_search import PricedSearch
from cfisac_env.switching import Switching

TOLERANCE = 0.01
"""Relative tolerance of the searches of the instants, in total."""

MAX_NODES = 300
"""Nodes of the search of an instant in a round."""

FIRST, MORE = 60, 30
"""Sets per instant in the linear program at first, and sets added per instant in each of its rounds."""

LP_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Activation:
    """Energy of an AP's activation: a path through the states asleep and awake, where only an AP that is awake may serve.

    Waking up costs the switching energy and the circuit energy of the wake-up time. An AP that stays on without serving is awake.
    """

    upkeep_j: float  # of an AP that is awake for an instant
    wake_j: float
    wake_up_steps: int
    awake: Bools  # (M,) before the first instant

    @classmethod
    def of(cls, start: Switching, M: int, circuit_power_w: float) -> Activation:
        """Return the costs of an episode; APs in the middle of their wake-up at its beginning are taken as awake, a relaxation."""
        upkeep_j = circuit_power_w * start.step_s
        previous = np.ones(M, dtype=bool) if start.previous_active is None else start.previous_active
        wait = np.zeros(M) if start.wait is None else start.wait
        awake = previous | (wait < start.wake_up_steps)
        return cls(upkeep_j, start.energy_j + start.wake_up_steps * upkeep_j, start.wake_up_steps, awake)

    def least_j(self, price_j: Float) -> float:
        """Compute the least energy of all APs, less the prices that they receive, by dynamic programming, J.

        Args:
            price_j: (steps, M) paid to an AP that is awake.
        """
        net = self.upkeep_j - price_j
        asleep, awake = np.where(self.awake, np.inf, 0.0), np.where(self.awake, 0.0, np.inf)
        for t, now in enumerate(net):
            # No AP has woken up before; leaving and waking up again within the wake-up time never pays.
            woken = asleep + self.wake_j if t >= self.wake_up_steps else np.inf
            asleep, awake = np.minimum(asleep, awake), np.minimum(awake, woken) + now
        return float(np.minimum(asleep, awake).sum())


@dataclass(eq=False)
class EpisodeBound:
    """Lower bound on the energy of every schedule that serves each instant not certified infeasible.

    Args:
        certificates: of the instants; those of infeasible instants are ignored.
        start: switching costs and initial switching state.
    """

    certificates: Sequence[Certificate]
    start: Switching
    lower_bound_j: float = field(default=-np.inf, init=False)
    """Best bound so far, J."""
    price_j: Float = field(init=False)
    """(steps, M) prices of that bound."""

    def __post_init__(self) -> None:
        problem = self.certificates[0].problem
        steps, M = len(self.certificates), problem.M
        self._activation = Activation.of(self.start, M, problem.circuit_power_w)
        self._searches = {t: PricedSearch(one) for t, one in enumerate(self.certificates) if not one.infeasible}
        self._columns = np.zeros((steps, 0), dtype=bool)
        self.price_j = np.zeros((steps, M))

    def at(self, price_j: Float, known_j: Float, tolerance_j: float, max_nodes: int = MAX_NODES) -> list[Bools]:
        """Evaluate the bound of given prices, keep it if it is the best, and return sets found that are cheaper than the known ones.

        Args:
            price_j: (steps, M) at least zero.
            known_j: (steps,) transmit energy plus prices of a set of each instant.
            tolerance_j: of the bound of an instant.
            max_nodes: of the search of an instant.
        """
        step_s, total, sets = self.start.step_s, self._activation.least_j(price_j), []
        for t, search in self._searches.items():
            gap = min(max(tolerance_j / known_j[t], 1e-6), 0.5)
            found = search.bound(price_j[t] / step_s, known_j[t] / step_s * (1.0 + 1e-9), gap, max_nodes)
            total += found.lower_bound_w * step_s
            sets += found.sets
        if total > self.lower_bound_j:
            self.lower_bound_j, self.price_j = total, price_j
        return sets

    def improve(self, sets: Bools, transmit_j: Float, energy_j: float) -> list[Bools]:
        """Improve the bound by one round of prices from the linear program, and return sets that improve on the known ones.

        Args:
            sets: (n, M) known sets.
            transmit_j: (steps, n) their transmit energy, infinite where they don't serve.
            energy_j: of a good schedule, a scale.
        """
        price_j = self._prices(sets, transmit_j, energy_j)
        known_j = np.min(transmit_j + price_j @ sets.T, axis=1)
        # Without a known set, as with shared pilots, any scale does.
        known_j = np.where(np.isfinite(known_j), known_j, energy_j)
        return self.at(price_j, known_j, TOLERANCE * energy_j / len(known_j))

    def _prices(self, sets: Bools, transmit_j: Float, energy_j: float) -> Float:
        """Solve the linear program over convex combinations of the known sets for the prices, (steps, M) J."""
        size = sets.sum(1)
        served = np.isfinite(transmit_j)
        if not self._columns.any():
            total = transmit_j + self._activation.upkeep_j * size
            self._columns = _least(total, FIRST)
        grown = len(size) - self._columns.shape[1]
        columns = np.pad(self._columns, ((0, 0), (0, grown)), constant_values=True) & served
        for _ in range(LP_ROUNDS):
            price_j = self._solve(sets, transmit_j, columns)
            cost = transmit_j + price_j @ sets.T
            reduced = cost - np.min(cost, axis=1, where=columns, initial=1e9 * energy_j, keepdims=True)
            missing = served & ~columns & (reduced < 0.0)
            if np.min(reduced, axis=1, initial=0.0, where=missing).sum() > -TOLERANCE * energy_j:
                break
            columns |= missing & _least(np.where(missing, reduced, np.inf), MORE)
        self._columns = columns & (reduced < 0.5 * energy_j / len(reduced))
        return price_j

    def _solve(self, sets: Bools, transmit_j: Float, columns: Bools) -> Float:
        """Solve the linear program over given columns (steps, n) by an interior point, whose prices lie in the middle of the optimal ones.

        Variables are the weights of the columns, whether an AP is awake, and whether it wakes up.
        """
        steps, M = self.price_j.shape
        t, j = np.nonzero(columns)
        n, cells = len(t), steps * M
        states = np.repeat([self._activation.upkeep_j, self._activation.wake_j], cells)
        cost = np.concatenate([transmit_j[t, j], states])
        row, m = np.nonzero(sets[j])
        uses = sparse.csr_matrix((np.ones(len(row)), (t[row] * M + m, row)), shape=(cells, n))
        eye, before = sparse.eye(cells, format="csr"), sparse.eye(cells, k=-M, format="csr")
        pick = sparse.csr_matrix((np.ones(n), (t, np.arange(n))), shape=(steps, n))[np.flatnonzero(columns.any(axis=1))]
        rows = sparse.vstack(
            [
                sparse.hstack([pick, sparse.csr_matrix((pick.shape[0], 2 * cells))]),
                sparse.hstack([uses, -eye, sparse.csr_matrix((cells, cells))]),
                sparse.hstack([sparse.csr_matrix((cells, n)), eye - before, -eye]),
                -sparse.eye(n + 2 * cells),
            ]
        )
        initial = np.zeros((steps, M))
        initial[0] = self._activation.awake
        right = np.concatenate([np.ones(pick.shape[0]), np.zeros(cells), initial.ravel(), np.zeros(n + 2 * cells)])
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_rel = settings.tol_gap_abs = 2e-3
        settings.tol_feas = 1e-6
        cones = [clarabel.ZeroConeT(pick.shape[0]), clarabel.NonnegativeConeT(len(right) - pick.shape[0])]
        nothing = sparse.csc_matrix((len(cost), len(cost)))
        solution = clarabel.DefaultSolver(nothing, cost, sparse.csc_matrix(rows), right, cones, settings).solve()
        dual = np.asarray(solution.z)[pick.shape[0] :][:cells].reshape(steps, M)
        return np.where(dual > 1e-7, dual, 0.0)


def _least(values: Float, count: int) -> NDArray[np.bool_]:
    """Mark the `count` smallest finite values of each row."""
    limit = np.partition(values, count - 1, axis=1)[:, count - 1 : count] if values.shape[1] > count else np.inf
    return np.isfinite(values) & (values <= limit)
