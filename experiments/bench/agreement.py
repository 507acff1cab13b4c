"""Agreement of the compiled allocator and the cvxpy reference on random instances of every preset, size and tightness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Status, fast, reference
from baselines.allocation.certificate import dual_bound
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem
from experiments.bench import conic
from experiments.journal import Store
from experiments.results import Column, Result, Table, number

SIZES = ((2, 1), (4, 2), (6, 3), (8, 2), (10, 4), (15, 5), (20, 8), (30, 6), (50, 10), (50, 20), (100, 40))
"""(M, K)."""

WEIGHTS = (4, 4, 4, 4, 4, 4, 3, 3, 1, 1, 0.25)
"""Relative frequencies of the sizes: the reference takes half a second at the larger ones, and seconds at the largest."""

TIGHTNESS = ((0.0, 1.0), (0.0, 1.0), (3.0, 0.5), (-3.0, 10.0), (-6.0, 100.0), (0.0, 0.5))
"""(dB added to the SINR threshold, factor of the CRLB threshold)."""


@dataclass(frozen=True)
class Instance:
    """Answers of both allocators to a set of a drop."""

    seed: int
    preset: str
    M: int
    K: int
    S: int
    active_aps: int
    fast_status: str
    reference_status: str
    fast_w: float  # transmit power; infinite when there is none
    reference_w: float
    difference: float  # relative, where both are optimal
    fast_violation: float  # largest relative violation of an SINR, a CRLB or a cap
    reference_violation: float
    fast_gap: float  # 1 − bound/power, with the bound recomputed from the multipliers; if infeasible, caps/bound, below 1 for a proof


def draw(seed: int) -> tuple[Problem, NDArray[np.bool_], str]:
    """Draw a drop, a set of its APs, and the preset."""
    rng = np.random.default_rng(seed)
    preset = sorted(PRESETS)[seed % len(PRESETS)]
    M, K = SIZES[rng.choice(len(SIZES), p=np.array(WEIGHTS) / sum(WEIGHTS))]
    S = int(rng.choice([1, 1, 1, 2, 4]))
    decibels, factor = TIGHTNESS[rng.integers(len(TIGHTNESS))]
    config = SystemConfig(M=M, K=K, S=S, preset=preset, pilot_length=max(K, 20))
    problem: Problem = sample(config, rng).problem
    problem = replace(
        problem,
        sinr_threshold=problem.sinr_threshold * 10 ** (decibels / 10),
        crlb_threshold_m2=problem.crlb_threshold_m2 * factor,
    )
    active = rng.random(M) < rng.choice([0.5, 1.0, 1.0, 1.0])
    active[rng.integers(M)] = True
    return problem, active, preset


def instance(seed: int) -> Instance:
    """Solve the instance of a seed with both allocators."""
    problem, active, preset = draw(seed)
    ours, theirs = fast.solve(problem, active, threads=1), reference.solve(problem, active)
    solved, theirs_solved = ours.status == Status.OPTIMAL, theirs.status == Status.OPTIMAL
    bound = float(dual_bound(problem, active, ours.multipliers))
    caps = float(active.sum()) * problem.max_ap_power_w
    return Instance(
        seed=seed,
        preset=preset,
        M=problem.M,
        K=problem.K,
        S=problem.S,
        active_aps=int(active.sum()),
        fast_status=str(ours.status),
        reference_status=str(theirs.status),
        fast_w=float(ours.transmit_power),
        reference_w=float(theirs.transmit_power),
        difference=abs(float(ours.transmit_power / theirs.transmit_power) - 1.0)
        if solved and theirs_solved
        else np.nan,
        fast_violation=conic.violation(problem, ours.power) if solved else np.nan,
        reference_violation=conic.violation(problem, theirs.power) if theirs_solved else np.nan,
        fast_gap=1.0 - bound / float(ours.transmit_power) if solved else caps / bound,
    )


def run(count: int, seed: int, out: Path, step: Callable[[], None] = lambda: None) -> list[Instance]:
    """Solve `count` instances, with seeds from `seed` on; those that `agreement.jsonl` in `out` holds aren't solved again."""
    store = Store(out / "agreement.jsonl", "agreement", {})
    rows = []
    for one in range(seed, seed + count):
        if ("", one) not in store:
            store["", one] = {
                key: float(f"{v:.10g}") if isinstance(v, float) else v for key, v in vars(instance(one)).items()
            }
        values: dict[str, Any] = {key: np.nan if v is None else v for key, v in store["", one].items()}
        rows.append(Instance(**values))
        step()
    return rows


def result(rows: Sequence[Instance], seed: int) -> Result:
    """Return `agreement.md`, `agreement.json` and `agreement.csv`, which has a line an instance."""
    return Result("agreement", [table(rows)], {"seed": seed, "instances": len(rows), "threads": 1}, rows)


@dataclass(frozen=True)
class Summary:
    """Statistics of the instances of a preset."""

    preset: str
    rows: Sequence[Instance]

    def count(self, ours: str, theirs: str) -> int:
        """Count the instances with these two statuses."""
        return sum((row.fast_status, row.reference_status) == (ours, theirs) for row in self.rows)

    def contradictions(self) -> int:
        """Count the instances that one allocator solves and the other proves infeasible."""
        return self.count(*_DECIDED) + self.count(*_DECIDED[::-1])

    def undecided(self, side: str) -> int:
        """Count the instances that an allocator neither solves nor proves infeasible."""
        return sum(getattr(row, f"{side}_status") not in _DECIDED for row in self.rows)

    def worst(self, key: str, *, optimal: bool = False) -> str | None:
        """Format the largest value of a column, over all instances or those that the compiled allocator solved."""
        values = [getattr(row, key) for row in self.rows if not optimal or row.fast_status == _DECIDED[0]]
        return number(max((value for value in values if np.isfinite(value)), default=None), "{:.1e}")


_DECIDED = (str(Status.OPTIMAL), str(Status.INFEASIBLE))
_NONE = "no such instance"

COLUMNS: tuple[Column[Summary], ...] = (
    Column("preset", lambda one: one.preset),
    Column("instances", lambda one: str(len(one.rows))),
    Column("both optimal", lambda one: str(one.count(_DECIDED[0], _DECIDED[0])), rank=1),
    Column("both infeasible", lambda one: str(one.count(_DECIDED[1], _DECIDED[1])), rank=1),
    Column("compiled: other", lambda one: str(one.undecided("fast")), rank=2),
    Column("cvxpy: other", lambda one: str(one.undecided("reference")), rank=2),
    Column("they disagree", lambda one: str(one.contradictions())),
    Column("powers differ by at most", lambda one: one.worst("difference"), _NONE),
    Column("worst miss: compiled", lambda one: one.worst("fast_violation"), _NONE, rank=3),
    Column("worst miss: cvxpy", lambda one: one.worst("reference_violation"), _NONE, rank=3),
    Column("largest gap: compiled", lambda one: one.worst("fast_gap", optimal=True), _NONE, rank=3),
)


def table(rows: Sequence[Instance]) -> Table[Summary]:
    """Return the table, one row a preset and one of all."""
    presets = sorted({row.preset for row in rows})
    parts = [Summary(preset, [row for row in rows if row.preset == preset]) for preset in presets]
    return Table(COLUMNS, [*parts, Summary("all", rows)])
