"""Time a decision: one policy after the other in one process, which is why it is a pass of its own.

Seconds are CPU seconds of that process, all its threads together, so that other work on the machine doesn't count.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cfisac_env
from baselines.bounds import certify
from cfisac_env.files import write_text
from experiments import compare, results, schemas
from experiments.reproduction import decisions, policies
from experiments.reproduction.points import Point

FORMAT = 1


class TimingStore:
    """`timing.json`: point → policy → seconds of each drop timed. Rewritten whole after every policy.

    Args:
        folder: of the results.

    Raises:
        ValueError: the file is damaged, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "timing.json"
        self.header: dict[str, Any] = {"format": FORMAT, "cfisac": cfisac_env.__version__}
        self.seconds: dict[str, dict[str, list[float]]] = {}
        if self.path.exists():
            found = schemas.loads(schemas.read(self.path), self.path)
            schemas.check(found, "times", self.path)
            for name, wanted in self.header.items():
                if found.get(name) != wanted:
                    raise ValueError(
                        f"{self.path} was made with {name} = {found.get(name)}, and this is {wanted}: results of another version "
                        "are never overwritten; name another folder with --out, or move the old one away"
                    )
            self.seconds = found["seconds"]

    def put(self, point: Point, name: str, seconds: list[float]) -> None:
        """Add one policy at one point, on disk before this returns."""
        self.seconds.setdefault(point.key, {})[name] = seconds
        content = self.header | results.provenance() | {"seconds": self.seconds}
        schemas.check(content, "times", self.path)
        write_text(self.path, results.json_text(content))

    def forget(self, names: Sequence[str]) -> None:
        """Drop what some policies took, so that they are timed again."""
        for row in self.seconds.values():
            for name in names:
                row.pop(name, None)


def measure(
    store: TimingStore,
    points: Sequence[Point],
    names: Sequence[str],
    *,
    seed: int,
    drops: int,
    budget_s: float,
    time_limit_s: float,
    step: Callable[[str], None] = lambda text: None,
) -> None:
    """Time what isn't timed yet. A policy whose decision at one point took more than the budget is left out at larger ones.

    Args:
        store: where the times go.
        points: in increasing order of size.
        names: of the policies; those that are missing at a point are passed over.
        seed: of the first drop; drops certified infeasible are passed over.
        drops: how many, at most.
        budget_s: seconds for one policy at one point: no further drop is begun after that.
        time_limit_s: of `branch-and-bound`.
        step: told what is being timed.
    """
    decisions.one_thread()
    for name in names:
        largest = policies.LARGEST.get(name, math.inf)
        for point in sorted(points, key=lambda p: (p.M * p.K, p.M)):
            if largest < point.M:
                break
            taken = store.seconds.get(point.key, {}).get(name)
            if taken is None:
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
    """The first seeds whose drops aren't certified infeasible."""
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
