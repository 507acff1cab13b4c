"""Exact search, local search and greedy elimination on the same drops: what is proven, how far each is from it, and what it takes.

Times are processor seconds of one thread, so that they hold on a busy machine too; on an idle core they are seconds on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import ap_sets, branch_and_bound, local_search
from baselines.allocation import Allocation, Allocator, Status, reference
from baselines.elimination import cheapest_removal
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem
from experiments import results, schemas
from experiments.results import Column, Table

SAME = 2e-6
"""Relative difference of two total powers that counts as none: the allocator's own accuracy, twice."""

WALL = 8.0
"""How many times its limit in processor seconds a search may take on the wall of a busy machine."""


@dataclass(frozen=True)
class Case:
    """One line of the table: a kind of drop, and how long a search may take."""

    preset: str
    M: int
    K: int
    limit_s: float
    drops: int

    @property
    def label(self) -> str:
        """Such as `paper 50x10 2s`."""
        return f"{self.preset} {self.M}x{self.K} {self.limit_s:g}s"


def parse_case(text: str) -> Case:
    """`paper:50x10:2:20` as 20 drops of that preset and size, two seconds each."""
    parts = text.split(":")
    try:
        preset, size, limit, drops = parts
        M, K = (int(part) for part in size.split("x"))
        case = Case(preset, M, K, float(limit), int(drops))
    except ValueError:
        raise ValueError(f"a case is preset:MxK:seconds:drops, such as paper:50x10:2:20; got {text!r}") from None
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r} in {text!r}; valid presets: {', '.join(PRESETS)}")
    if min(M, K, case.drops) < 1 or not case.limit_s > 0.0:
        raise ValueError(f"{text!r}: sizes, seconds and drops must be positive")
    return case


@dataclass(frozen=True)
class Drop:
    """What the three found on one drop; powers are infinite and gaps NaN where it is certified infeasible."""

    case: str
    seed: int
    infeasible: bool
    proven: bool  # gap at most 1e-6 within the limit in processor seconds
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


def measure(case: Case, seed: int) -> Drop:
    """One drop, on one thread."""
    problem = drop(case, seed)
    exact, exact_s = _timed(lambda: branch_and_bound.solve(problem, time_limit_s=WALL * case.limit_s, threads=1))
    local, local_s = _timed(lambda: local_search.search(problem, threads=1))
    greedy, greedy_s = _timed(lambda: eliminate(problem)[-1])
    infeasible = exact.status == "infeasible"
    return Drop(
        case=case.label,
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


def drop(case: Case, seed: int) -> Problem:
    """The drop of a seed; every user has a pilot of its own."""
    config = SystemConfig(M=case.M, K=case.K, preset=case.preset, pilot_length=max(case.K, 20))
    problem: Problem = sample(config, np.random.default_rng(seed)).problem
    return problem


def eliminate(problem: Problem) -> list[Allocation]:
    """The sets that greedy elimination passes through, all APs on first."""
    allocate = Allocator(threads=1)
    path = [allocate(problem, np.ones(problem.M, dtype=bool))]
    while path[-1].status == Status.OPTIMAL:
        smaller = cheapest_removal(allocate, problem, path[-1])
        if smaller is None:
            break
        path.append(smaller)
    return path


def run(cases: Sequence[Case], seed: int, out: Path, step: Callable[[str], None] = lambda label: None) -> list[Drop]:
    """Every drop of every case; a run that was killed goes on where it was, and one with more drops adds them.

    Writes `selection.json` and `selection.md` into `out`.

    Raises:
        FileExistsError: the folder holds drops of other seeds.
        ValueError: its file is damaged.
    """
    path = out / "selection.json"
    drops = [_drop(row) for row in _before(path, seed).get("drops", [])]
    done = {(one.case, one.seed) for one in drops}
    if len(done) < len(drops):
        raise ValueError(f"{path} is damaged: it has a drop twice; choose another --out, or move the file away")
    branch_and_bound.solve(drop(Case("paper", 10, 3, 1.0, 1), seed))  # compiles
    for case in cases:
        for i in range(case.drops):
            if (case.label, seed + i) not in done:
                drops.append(measure(case, seed + i))
                _write(path, seed, drops=drops)
            step(case.label)
    results.write(out, {"selection.md": table(drops).markdown()})
    return drops


def _drop(row: dict[str, Any]) -> Drop:
    """A stored drop; where it is certified infeasible its powers are infinite and its gap is none."""
    missing: dict[str, Any] = {
        "gap": np.nan,
        "total_w": np.inf,
        "lower_bound_w": np.inf,
        "local_w": np.inf,
        "greedy_w": np.inf,
    }
    return Drop(**{key: missing[key] if value is None else value for key, value in row.items()})


def _before(path: Path, seed: int) -> dict[str, Any]:
    if not path.exists():
        return {}
    content: dict[str, Any] = schemas.loads(schemas.read(path), path)
    schemas.check(content, "selection", path)
    if content["seed"] != seed:
        raise FileExistsError(f"{path} holds drops from seed {content['seed']} on; choose another --out or --seed")
    return content


def _write(path: Path, seed: int, **parts: Any) -> None:
    """Put parts of the result into the file and leave the others."""
    content = results.plain({**_before(path, seed), **results.provenance(), "seed": seed, "threads": 1, **parts})
    schemas.check(content, "selection", path)
    results.write(path.parent, {path.name: content})


@dataclass(frozen=True)
class Summary:
    """What the drops of a case say together."""

    case: str
    drops: Sequence[Drop]

    @property
    def served(self) -> list[Drop]:
        """The drops that aren't certified infeasible."""
        return [drop for drop in self.drops if not drop.infeasible]

    @property
    def proven(self) -> list[Drop]:
        """Those of which the optimum is proven."""
        return [drop for drop in self.served if drop.proven]

    def above(self, key: str) -> NDArray[np.float64]:
        """How far one power of every served drop is above the least of its three, relative."""
        values = [getattr(drop, key) / min(drop.total_w, drop.local_w, drop.greedy_w) - 1.0 for drop in self.served]
        return np.array(values, dtype=np.float64)

    def column(self, key: str, drops: Sequence[Drop] | None = None) -> NDArray[np.float64]:
        """One number of every served drop, or of those given."""
        return np.array([getattr(drop, key) for drop in (self.served if drops is None else drops)], dtype=np.float64)

    def open_gaps(self) -> NDArray[np.float64]:
        """Gaps of the served drops whose optimum isn't proven."""
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


def table(drops: Iterable[Drop]) -> Table[Summary]:
    """One row a case."""
    cases: dict[str, list[Drop]] = {}
    for drop in drops:
        cases.setdefault(drop.case, []).append(drop)
    return Table(COLUMNS, [Summary(label, part) for label, part in cases.items()])


def elimination(M: int, K: int, drops: int, solves: int, seed: int, out: Path) -> dict[str, Any]:
    """Greedy elimination, compiled, against the same elimination on cvxpy, which is extrapolated from some of its solves.

    Plain elimination solves every set with one AP less, at every size. Some of those sets, of sizes spread evenly over the way down, are
    solved with cvxpy, each with a program built before; in between, the time for a set is interpolated by its size.

    Args:
        M: APs.
        K: users.
        drops: how many.
        solves: of cvxpy for each drop.
        seed: of the first drop.
        out: folder of `selection.json`, which receives the result.
    """
    case = Case("paper", M, K, 1.0, drops)
    rows = []
    for i in range(drops):
        problem = drop(case, seed + i)
        eliminate(problem)
        path, seconds = _timed(lambda p=problem: eliminate(p))  # type: ignore[misc]
        # The last set is left once all of its removals have been tried, too.
        sizes = np.array([int(one.active.sum()) for one in path])
        total = int(sizes.sum())
        chosen = np.unique(np.linspace(0, len(path) - 1, solves).round().astype(int))
        times = []
        for place in chosen:
            candidate = ap_sets.removals(path[place].active)[0]
            reference.solve(problem, candidate)
            times.append(_timed(lambda p=problem, c=candidate: reference.solve(p, c))[1])  # type: ignore[misc]
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
    result = {"M": M, "K": K, "drops": rows}
    _write(out / "selection.json", seed, elimination=result)
    return result


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.thread_time()
    answer = work()
    return answer, time.thread_time() - begin
