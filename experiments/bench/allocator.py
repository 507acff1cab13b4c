"""Times of the compiled allocator, of Clarabel called directly and of the cvxpy reference, on the same sets in one run.

They are processor times of the one working thread, so that they hold on a busy machine, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import baselines
from baselines.allocation import Status, fast, reference
from cfisac_env import SystemConfig, sample
from cfisac_env.types import Problem
from experiments.bench import conic
from experiments.bench.cases import timed
from experiments.results import Column, number

KINDS = ("all on", "search")


@dataclass(frozen=True)
class AllocatorTiming:
    """One size and kind of set; times are medians over the sets, of one thread's processor time."""

    M: int
    K: int
    kind: str  # all on: every AP; search: `neighbours`
    active_aps: float  # mean
    sets: int
    infeasible: int  # certified, of `sets`
    iterations: float  # mean, of the compiled allocator
    fast_ms: float  # all sets of a drop in one call, as a search does
    clarabel_ms: float  # t as variables
    clarabel_dense_ms: float  # t substituted into every cone
    reference_ms: float  # of `reference_sets`, each after its program has been built
    reference_sets: int
    clarabel_ratio: float  # median over the drops of total time over total time
    clarabel_dense_ratio: float
    reference_ratio: float
    fast_violation: float  # largest relative miss of any requirement by an answer
    clarabel_violation: float
    objective_difference: float  # largest relative difference of the two transmit powers
    clarabel_failures: int  # sets that Clarabel neither solves nor finds infeasible


def measure(
    sizes: Sequence[tuple[int, int]],
    drops: int,
    sets: int,
    reference_sets: int,
    seed: int,
    fields: dict[str, Any],
    step: Callable[[], None] = lambda: None,
) -> list[AllocatorTiming]:
    """Measure every size and kind of set.

    Args:
        sizes: (M, K); every user gets a pilot of its own.
        sets: of each drop, for the kind `search`.
        reference_sets: sets of each drop that cvxpy solves as well.
    """
    rows = []
    for M, K in sizes:
        config = SystemConfig(**{"pilot_length": max(K, SystemConfig().pilot_length), **fields, "M": M, "K": K})
        problems = [sample(config, np.random.default_rng(seed + i)).problem for i in range(drops)]
        for kind in KINDS:
            rows.append(_row(M, K, kind, [_one_drop(p, kind, sets, reference_sets, step) for p in problems]))
    return rows


def _one_drop(
    problem: Problem, kind: str, count: int, reference_sets: int, step: Callable[[], None]
) -> dict[str, NDArray[np.float64]]:
    active = np.ones((1, problem.M), dtype=bool) if kind == "all on" else neighbours(problem, count)
    answers = fast.solve(problem, active, threads=1)
    one = [timed(lambda: fast.solve(problem, active, threads=1))[1] / len(active) for _ in range(5)]
    conics = [conic.solve(problem, a) for a in active]
    dense = [conic.solve(problem, a, sparse_rows=False).seconds for a in active[: max(1, reference_sets)]]
    chosen = active[:reference_sets]
    if len(chosen):
        reference.solve(problem, chosen)  # builds the programs
    slow = [timed(lambda a=a: reference.solve(problem, a))[1] for a in chosen]  # type: ignore[misc]
    step()
    solved = answers.status == Status.OPTIMAL
    powers = np.array([answer.transmit_power_w for answer in conics])
    both = solved & np.isfinite(powers)
    return {
        "size": active.sum(-1).astype(np.float64),
        "infeasible": (answers.status == Status.INFEASIBLE).astype(np.float64),
        "iterations": answers.iterations.astype(np.float64),
        "one": np.array([min(one)]),
        "direct": np.array([answer.seconds for answer in conics]),
        "dense": np.array(dense),
        "slow": np.array(slow),
        "violation": np.array([conic.violation(problem, power) for power in answers.power[solved]]),
        "direct_violation": np.array([answer.violation for answer in conics])[both],
        "difference": np.abs(powers[both] / answers.transmit_power[both] - 1.0),
        "failures": np.array([c.status not in ("Solved", "AlmostSolved", "PrimalInfeasible") for c in conics], float),
    }


def neighbours(problem: Problem, count: int) -> NDArray[np.bool_]:
    """Return neighbours, (count, M), of the set where greedy elimination ends, as a search prices them: by turns a swap and an addition.

    Where elimination removes no AP, return the set of all.
    """
    last: NDArray[np.bool_] = baselines.make("modified-bb").decide(problem).decision.active
    rng = np.random.default_rng(0)
    on, off = np.flatnonzero(last), np.flatnonzero(~last)
    if not len(off):
        return last.reshape(1, -1)
    sets = np.repeat(last[None], count, axis=0)
    sets[np.arange(0, count, 2), rng.choice(on, (count + 1) // 2)] = False
    sets[np.arange(count), rng.choice(off, count)] = True
    return sets


def _row(M: int, K: int, kind: str, drops: list[dict[str, NDArray[np.float64]]]) -> AllocatorTiming:
    whole = {key: np.concatenate([drop[key] for drop in drops]) for key in drops[0]}

    def median_ms(key: str) -> float:
        return 1e3 * float(np.median(whole[key])) if whole[key].size else np.nan

    def ratio(key: str) -> float:
        values = [drop[key].mean() / drop["one"][0] for drop in drops if drop[key].size]
        return float(np.median(values)) if values else np.nan

    return AllocatorTiming(
        M=M,
        K=K,
        kind=kind,
        active_aps=float(whole["size"].mean()),
        sets=len(whole["size"]),
        infeasible=int(whole["infeasible"].sum()),
        iterations=float(whole["iterations"].mean()),
        fast_ms=median_ms("one"),
        clarabel_ms=median_ms("direct"),
        clarabel_dense_ms=median_ms("dense"),
        reference_ms=median_ms("slow"),
        reference_sets=len(whole["slow"]),
        clarabel_ratio=ratio("direct"),
        clarabel_dense_ratio=ratio("dense"),
        reference_ratio=ratio("slow"),
        fast_violation=float(whole["violation"].max(initial=0.0)),
        clarabel_violation=float(whole["direct_violation"].max(initial=0.0)),
        objective_difference=float(whole["difference"].max(initial=0.0)),
        clarabel_failures=int(whole["failures"].sum()),
    )


_NO_REFERENCE = "no set was solved with cvxpy"

COLUMNS: tuple[Column[AllocatorTiming], ...] = (
    Column("M, K", lambda row: f"{row.M}, {row.K}"),
    Column("sets", lambda row: f"{row.kind} ({row.sets}, {row.infeasible} infeasible)", left=True),
    Column("active APs", lambda row: f"{row.active_aps:.1f}", rank=3),
    Column("compiled ms", lambda row: f"{row.fast_ms:.3g}"),
    Column("Clarabel ms", lambda row: f"{row.clarabel_ms:.3g}", rank=1),
    Column("Clarabel, dense ms", lambda row: f"{row.clarabel_dense_ms:.3g}", rank=4),
    Column("cvxpy ms", lambda row: number(row.reference_ms, "{:.3g}"), _NO_REFERENCE, rank=1),
    Column("Clarabel ÷ compiled", lambda row: f"{row.clarabel_ratio:.0f}", rank=2),
    Column("dense ÷ compiled", lambda row: f"{row.clarabel_dense_ratio:.0f}", rank=4),
    Column("cvxpy ÷ compiled", lambda row: number(row.reference_ratio, "{:.0f}"), _NO_REFERENCE, rank=2),
    Column("worst miss: compiled", lambda row: f"{row.fast_violation:.0e}", rank=5),
    Column("worst miss: Clarabel", lambda row: f"{row.clarabel_violation:.0e}", rank=5),
    Column("powers differ by", lambda row: f"{row.objective_difference:.0e}", rank=5),
)
