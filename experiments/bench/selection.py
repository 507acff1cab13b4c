"""Exact search, local search and greedy elimination on the same drops: what is proven, how far each is from it, and what it takes.

Times are processor seconds of one thread, so that they hold on a busy machine too; on an idle core they are seconds on the wall.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines import branch_and_bound, local_search, moves
from baselines.allocation import Allocation, Allocator, Status, reference
from baselines.elimination import cheapest_removal
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem
from experiments.files import provenance, write_json, write_text

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


def run(
    cases: Sequence[Case], seed: int, out: Path, step: Callable[[str], None] = lambda label: None
) -> list[dict[str, Any]]:
    """Every drop of every case; a run that was killed goes on where it was, and one with more drops adds them.

    Writes `selection.json` and `selection.md` into `out`.
    """
    path = out / "selection.json"
    rows: list[dict[str, Any]] = _before(path, seed).get("drops", [])
    done = {(row["case"], row["seed"]) for row in rows}
    branch_and_bound.solve(drop(Case("paper", 10, 3, 1.0, 1), seed))  # compiles
    for case in cases:
        for i in range(case.drops):
            if (case.label, seed + i) not in done:
                rows.append(asdict(measure(case, seed + i)))
                _write(path, seed, drops=rows)
            step(case.label)
    write_text(out / "selection.md", table(rows) + "\n")
    return rows


def _before(path: Path, seed: int) -> dict[str, Any]:
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content["seed"] != seed:
        raise FileExistsError(f"{path} holds drops from seed {content['seed']} on; choose another --out or --seed")
    return content


def _write(path: Path, seed: int, **parts: Any) -> None:
    """Put parts of the result into the file and leave the others."""
    write_json(path, {**_before(path, seed), **provenance(), "seed": seed, "threads": 1, **parts})


def table(rows: Iterable[dict[str, Any]]) -> str:
    """One line a case, in Markdown."""
    lines = [
        "| preset, M×K, limit | drops | proven | s: median / longest | gap of the others: mean / max | local search = proven "
        "| local search above best: max | greedy above best: mean / max | local s | greedy s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    for label, part in cases.items():
        served = [row for row in part if not row["infeasible"]]
        proven = [row for row in served if row["proven"]]
        open_gaps = [row["gap"] for row in served if not row["proven"]]
        best = [min(row["total_w"], row["local_w"], row["greedy_w"]) for row in served]
        local = np.array([row["local_w"] / least - 1.0 for row, least in zip(served, best, strict=True)])
        greedy = np.array([row["greedy_w"] / least - 1.0 for row, least in zip(served, best, strict=True)])
        equal = sum(row["local_w"] <= row["total_w"] * (1.0 + SAME) for row in proven)
        seconds = np.array([row["exact_s"] for row in served])
        infeasible = f" ({len(part) - len(served)} infeasible)" if len(part) > len(served) else ""
        others = f"{np.mean(open_gaps):.2%} / {np.max(open_gaps):.2%}" if open_gaps else "–"
        lines.append(
            f"| {label} | {len(part)}{infeasible} | {len(proven)} of {len(served)} | {np.median(seconds):.2g} / {seconds.max():.2g} "
            f"| {others} | {equal} of {len(proven)} | {local.max():.2%} | {greedy.mean():.2%} / {greedy.max():.2%} "
            f"| {np.median([row['local_s'] for row in served]):.2g} | {np.median([row['greedy_s'] for row in served]):.2g} |"
        )
    return "\n".join(lines)


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
            candidate = moves.drops(path[place].active)[0]
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
