"""Times of decisions, measured in a pass of its own: one policy after the other in one process.

Times are CPU seconds of that process, all its threads together, so that other work on the machine doesn't count.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from baselines.bounds import certify
from cfisac_env import json_files
from cfisac_env.files import write_text
from experiments import compare, journal, results, schemas
from experiments.reproduction import decisions, points, policies
from experiments.reproduction.points import Point

Seconds = Mapping[str, Mapping[str, Sequence[float]]]
"""Key of a point → policy → seconds of each timed drop."""


class TimingStore:
    """`timing.json`, which is rewritten after every policy.

    Raises:
        ValueError: the file is damaged, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "timing.json"
        self.seconds: dict[str, dict[str, list[float]]] = {}
        self.header: Mapping[str, Any] = journal.VERSION
        if self.path.exists():
            found = json_files.loads(json_files.read(self.path), self.path)
            schemas.check(found, "times", self.path)
            journal.check_header(found, journal.VERSION, self.path)
            self.seconds, self.header = found["seconds"], found

    def put(self, point: Point, name: str, seconds: list[float]) -> None:
        """Add the times of a policy at a point, on disk before this returns.

        Raises:
            ValueError: the file is of another version.
        """
        self.check_version()
        self.seconds.setdefault(point.key, {})[name] = seconds
        content = {**journal.VERSION, **results.provenance(), "seconds": self.seconds}
        schemas.check(content, "times", self.path)
        write_text(self.path, results.json_text(content))

    def check_version(self) -> None:
        """Refuse to add to times of another version."""
        journal.check_version(dict(self.header), self.path)

    def forget(self, names: Sequence[str]) -> None:
        """Remove the times of some policies, so that they are measured again."""
        for row in self.seconds.values():
            for name in names:
                row.pop(name, None)


def curves(seconds: Seconds) -> list[tuple[str, list[int], list[Sequence[float]]]]:
    """Return name, numbers of APs and times of every policy that was timed at points of `SCALING`."""
    result = []
    for name in policies.order({name for row in seconds.values() for name in row}):
        here = [(point.M, taken) for point in points.SCALING if (taken := seconds.get(point.key, {}).get(name))]
        if here:
            result.append((name, [M for M, _ in here], [taken for _, taken in here]))
    return result


def measure(
    store: TimingStore,
    sizes: Sequence[Point],
    names: Sequence[str],
    *,
    seed: int,
    drops: int,
    budget_s: float,
    time_limit_s: float,
    step: Callable[[str], None] = lambda text: None,
) -> None:
    """Add missing times. A policy whose decision at one point exceeds the budget is left out at larger ones.

    Args:
        names: of the policies; missing agents are skipped.
        seed: of the first drop; drops certified infeasible are skipped.
        drops: number of drops, at most.
        budget_s: seconds for one policy at one point, after which no further drop is begun.
    """
    decisions.one_thread()
    for name in names:
        largest = policies.LARGEST.get(name, math.inf)
        for point in sorted(sizes, key=lambda p: (p.M * p.K, p.M)):
            if largest < point.M:
                break
            taken = store.seconds.get(point.key, {}).get(name)
            if taken is None:
                store.check_version()
                step(f"{name} {point.key}")
                try:
                    policy = policies.build(name, point, time_limit_s)
                except policies.MissingAgentError:
                    continue
                taken = _seconds(policy, point, served(point, seed, drops), budget_s)
                store.put(point, name, taken)
            if not taken or min(taken) > budget_s:
                break


@lru_cache(maxsize=32)
def served(point: Point, seed: int, count: int) -> tuple[int, ...]:
    """Return the first seeds whose drops aren't certified infeasible."""
    able = (s for s in itertools.count(seed) if not certify(decisions.drop(point, s).scenario.problem).infeasible)
    return tuple(itertools.islice(able, count))


def _seconds(policy: Any, point: Point, seeds: Sequence[int], budget_s: float) -> list[float]:
    drops = [decisions.drop(point, seed) for seed in seeds]
    begin = time.process_time()
    compare.decide(policy, drops[0].observation, drops[0].scenario)  # compilation is not part of a decision's time
    if (first := time.process_time() - begin) > budget_s:
        return [round(first, 6)]
    seconds: list[float] = []
    for here in drops:
        start = time.process_time()
        compare.decide(policy, here.observation, here.scenario)
        seconds.append(round(time.process_time() - start, 6))
        if time.process_time() - begin > budget_s:
            break
    return seconds
