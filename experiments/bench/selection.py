"""Exact search, local search and greedy elimination on the same drops: proven optima, gaps and times.

Times are processor seconds of one thread, so that they hold on a busy machine, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import ap_sets, branch_and_bound, local_search
from baselines.allocation import Allocation, Allocator, Status, reference
from baselines.elimination import cheapest_removal
from cfisac_env import SystemConfig, sample
from cfisac_env.types import Problem
from experiments.bench.cases import Case, timed
from experiments.journal import Store
from experiments.results import Column, Result, Table

SAME = 2e-6
"""Relative difference of equal total powers, at most: twice the allocator's accuracy."""

WALL = 8.0
"""Limit of a search in wall time, relative to that in processor time, for busy machines."""


def label(case: Case) -> str:
    """Name the row of a case, such as `paper 50x10 2s`."""
    return f"{case.config.preset} {case.config.M}x{case.config.K} {case.limit_s:g}s"


@dataclass(frozen=True)
class DropResult:
    """Answers to a drop; powers are infinite and gaps NaN if it is certified infeasible."""

    case: str
    seed: int
    infeasible: bool
    proven: bool  # gap of at most 1e-6 within the time limit
    gap: float
    total_w: float
    lower_bound_w: float
    active_aps: int
    nodes: int
    exact_s: float
    local_w: float
    local_s: float
    greedy_w: float
    greedy_s: float


def measure(case: Case, seed: int) -> DropResult:
    """Search the sets of a drop on one thread."""
    problem = drop(case.config, seed)
    exact, exact_s = timed(lambda: branch_and_bound.solve(problem, time_limit_s=WALL * case.limit_s, threads=1))
    local, local_s = timed(lambda: local_search.search(problem, threads=1))
    greedy, greedy_s = timed(lambda: eliminate(problem)[-1])
    infeasible = exact.status == "infeasible"
    return DropResult(
        case=label(case),
        seed=seed,
        infeasible=infeasible,
        proven=exact.status == "optimal" and exact_s <= case.limit_s,
        gap=np.nan if infeasible else exact.gap,
        total_w=exact.total_power_w,
        lower_bound_w=exact.lower_bound_w,
        active_aps=int(exact.active.sum()),
        nodes=exact.nodes,
        exact_s=exact_s,
        local_w=local.total_power_w,
        local_s=local_s,
        greedy_w=float(greedy.transmit_power) + problem.circuit_power_w * int(greedy.active.sum()),
        greedy_s=greedy_s,
    )


def drop(config: SystemConfig, seed: int) -> Problem:
    """Draw the drop of a seed."""
    problem: Problem = sample(config, np.random.default_rng(seed)).problem
    return problem


def eliminate(problem: Problem) -> list[Allocation]:
    """Return the path of greedy elimination, which begins with all APs on."""
    allocate = Allocator(threads=1)
    path = [allocate(problem, np.ones(problem.M, dtype=bool))]
    while path[-1].status == Status.OPTIMAL:
        smaller = cheapest_removal(allocate, problem, path[-1])
        if smaller is None:
            break
        path.append(smaller)
    return path


def run(
    cases: Sequence[Case], seed: int, out: Path, step: Callable[[str], None] = lambda label: None
) -> list[DropResult]:
    """Measure every drop of every case; those that `selection.jsonl` in `out` holds aren't measured again."""
    store = Store(out / "selection.jsonl", "selection", {})
    branch_and_bound.solve(drop(SystemConfig(10, 3), seed))  # compiles
    none: dict[str, Any] = {"gap": np.nan, **dict.fromkeys(("total_w", "lower_bound_w", "local_w", "greedy_w"), np.inf)}
    drops = []
    for case in cases:
        for number in range(seed, seed + case.drops):
            if (label(case), number) not in store:
                store[label(case), number] = vars(measure(case, number))
            values = store[label(case), number].items()
            drops.append(DropResult(**{key: none[key] if value is None else value for key, value in values}))
            step(label(case))
    return drops


def result(drops: Sequence[DropResult], seed: int, eliminated: Mapping[str, Any] | None) -> Result:
    """Return `selection.md` and `selection.json`."""
    content: dict[str, Any] = {"seed": seed, "threads": 1, "drops": drops}
    return Result("selection", [table(drops)], content if eliminated is None else content | {"elimination": eliminated})


@dataclass(frozen=True)
class Summary:
    """Statistics of the drops of a case."""

    case: str
    drops: Sequence[DropResult]

    @property
    def served(self) -> list[DropResult]:
        """Drops that aren't certified infeasible."""
        return [drop for drop in self.drops if not drop.infeasible]

    @property
    def proven(self) -> list[DropResult]:
        """Served drops with a proven optimum."""
        return [drop for drop in self.served if drop.proven]

    def above(self, key: str) -> NDArray[np.float64]:
        """Return the relative distance of a power of every served drop to the least of its three."""
        values = [getattr(drop, key) / min(drop.total_w, drop.local_w, drop.greedy_w) - 1.0 for drop in self.served]
        return np.array(values, dtype=np.float64)

    def column(self, key: str, drops: Sequence[DropResult] | None = None) -> NDArray[np.float64]:
        """Return a number of every served drop, or of the given ones."""
        return np.array([getattr(drop, key) for drop in (self.served if drops is None else drops)], dtype=np.float64)

    def open_gaps(self) -> NDArray[np.float64]:
        """Return the gaps of the served drops without a proven optimum."""
        return self.column("gap", [drop for drop in self.served if not drop.proven])


def _drops(one: Summary) -> str:
    lost = len(one.drops) - len(one.served)
    return f"{len(one.drops)} ({lost} infeasible)" if lost else str(len(one.drops))


def _ends(
    form: str, first: Callable[[Any], Any], last: Callable[[Any], Any] | None, values: NDArray[np.float64]
) -> str | None:
    if not values.size:
        return None
    return " / ".join(form.format(end(values)) for end in (first, last) if end is not None)


def _equal(one: Summary) -> str:
    return f"{sum(drop.local_w <= drop.total_w * (1.0 + SAME) for drop in one.proven)} of {len(one.proven)}"


_NONE = "no drop can be served"

COLUMNS: tuple[Column[Summary], ...] = (
    Column("preset, M×K, limit", lambda one: one.case),
    Column("drops", _drops),
    Column("proven", lambda one: f"{len(one.proven)} of {len(one.served)}"),
    Column("s: median / longest", lambda one: _ends("{:.2g}", np.median, np.max, one.column("exact_s")), _NONE, rank=1),
    Column(
        "gap of the others: mean / max",
        lambda one: _ends("{:.2%}", np.mean, np.max, one.open_gaps()),
        "every one is proven",
        rank=1,
    ),
    Column("local search = proven", _equal, rank=2),
    Column(
        "local search above best: max", lambda one: _ends("{:.2%}", np.max, None, one.above("local_w")), _NONE, rank=2
    ),
    Column(
        "greedy above best: mean / max",
        lambda one: _ends("{:.2%}", np.mean, np.max, one.above("greedy_w")),
        _NONE,
        rank=3,
    ),
    Column("local s", lambda one: _ends("{:.2g}", np.median, None, one.column("local_s")), _NONE, rank=4),
    Column("greedy s", lambda one: _ends("{:.2g}", np.median, None, one.column("greedy_s")), _NONE, rank=4),
)


def table(drops: Iterable[DropResult]) -> Table[Summary]:
    """Return the table, one row a case."""
    cases: dict[str, list[DropResult]] = {}
    for drop in drops:
        cases.setdefault(drop.case, []).append(drop)
    return Table(COLUMNS, [Summary(label, part) for label, part in cases.items()])


def elimination(M: int, K: int, drops: int, solves: int, seed: int) -> dict[str, Any]:
    """Time compiled greedy elimination, and the same on cvxpy, extrapolated from some of its solves.

    Plain elimination solves every set with one AP less, at every size. Of these sets, some of evenly spread sizes are solved with cvxpy,
    whose programs are built before; the times of the others are interpolated by size.

    Args:
        solves: of cvxpy on each drop.
    """
    config = SystemConfig(M, K, pilot_length=max(K, 20))
    rows = []
    for i in range(drops):
        problem = drop(config, seed + i)
        eliminate(problem)
        path, seconds = timed(lambda p=problem: eliminate(p))  # type: ignore[misc]
        sizes = np.array([int(one.active.sum()) for one in path])
        total = int(sizes.sum())
        chosen = np.unique(np.linspace(0, len(path) - 1, solves).round().astype(int))
        times = []
        for place in chosen:
            candidate = ap_sets.removals(path[place].active)[0]
            reference.solve(problem, candidate)
            times.append(timed(lambda p=problem, c=candidate: reference.solve(p, c))[1])  # type: ignore[misc]
        each = np.interp(sizes, sizes[chosen][::-1], np.array(times)[::-1])
        rows.append(
            {
                "seed": seed + i,
                "compiled_s": seconds,
                "solves_of_plain_elimination": total,
                "solves_timed": len(chosen),
                "timed_sizes": sizes[chosen] - 1,
                "timed_s": times,
                "cvxpy_s": float((each * sizes).sum()),
                "ratio": float((each * sizes).sum() / seconds),
            }
        )
    return {"M": M, "K": K, "drops": rows}
