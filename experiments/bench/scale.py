"""Time, memory and certified gap of the allocator with every AP on, at hundreds to a hundred thousand APs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from baselines.allocation import Status, dual_bound, fast
from cfisac_env import SystemConfig, sample
from experiments.bench.cases import timed
from experiments.results import Column, number


@dataclass(frozen=True)
class ScaleMeasure:
    """Measurement of the drops of a preset and size; medians, except for the gap."""

    preset: str
    M: int
    K: int
    drops: int
    infeasible: int
    seconds: float  # of processor time, on one thread
    mebibytes: float  # peak of allocated memory, without the drop
    gap: float  # largest, to the bound recomputed from the multipliers


def measure(
    presets: Sequence[str], sizes: Sequence[tuple[int, int]], drops: int, seed: int, step: Callable[[], None]
) -> Iterator[ScaleMeasure]:
    """Solve every drop once for the time and once for the memory.

    Raises:
        RuntimeError: a drop was neither solved nor proven infeasible.
    """
    warm = sample(SystemConfig(M=30, K=3), np.random.default_rng(seed)).problem
    fast.solve(warm, np.ones(30, dtype=bool), threads=1)  # compiles
    for preset in presets:
        for M, K in sizes:
            seconds, memory, gaps, infeasible = [], [], [], 0
            config = SystemConfig(M=M, K=K, preset=preset, pilot_length=max(K, 20))
            for i in range(drops):
                problem = sample(config, np.random.default_rng(seed + i)).problem
                all_on = np.ones(M, dtype=bool)
                answer, spent = timed(lambda p=problem, a=all_on: fast.solve(p, a, threads=1))  # type: ignore[misc]
                seconds.append(spent)
                if answer.status == Status.INFEASIBLE:
                    infeasible += 1
                elif answer.status != Status.OPTIMAL:
                    raise RuntimeError(f"{preset} {M}x{K}, seed {seed + i}: {answer.status}")
                else:
                    bound = float(dual_bound(problem, all_on, answer.multipliers))
                    gaps.append(1.0 - bound / float(answer.transmit_power))
                del answer
                tracemalloc.start()
                fast.solve(problem, all_on, threads=1)
                memory.append(tracemalloc.get_traced_memory()[1] / 2**20)
                tracemalloc.stop()
                step()
            yield ScaleMeasure(
                preset, M, K, drops, infeasible, median(seconds), median(memory), max(gaps, default=np.nan)
            )


COLUMNS: tuple[Column[ScaleMeasure], ...] = (
    Column("preset", lambda row: row.preset),
    Column("M, K", lambda row: f"{row.M:,}, {row.K}"),
    Column("drops", lambda row: f"{row.drops} ({row.infeasible} infeasible)", rank=2),
    Column("ms", lambda row: f"{1e3 * row.seconds:.3g}"),
    Column("MiB", lambda row: f"{row.mebibytes:.3g}", rank=1),
    Column("largest certified gap", lambda row: number(row.gap, "{:.0e}"), "no drop can be served"),
)
