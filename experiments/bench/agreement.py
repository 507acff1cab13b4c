"""Random instances of every preset, size and tightness, solved by the compiled allocator and by the cvxpy reference."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Status, fast, reference
from baselines.allocation.certificate import dual_bound
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem
from experiments.bench import conic
from experiments.files import provenance, write_json, write_text

SIZES = ((2, 1), (4, 2), (6, 3), (8, 2), (10, 4), (15, 5), (20, 8), (30, 6), (50, 10), (50, 20), (100, 40))
"""(M, K)."""

WEIGHTS = (4, 4, 4, 4, 4, 4, 3, 3, 1, 1, 0.25)
"""How often each size comes: the reference takes half a second at the larger ones, and seconds at the largest."""

TIGHTNESS = ((0.0, 1.0), (0.0, 1.0), (3.0, 0.5), (-3.0, 10.0), (-6.0, 100.0), (0.0, 0.5))
"""(dB added to the SINR threshold, factor of the CRLB threshold)."""

SAVE_EVERY = 20


@dataclass(frozen=True)
class Instance:
    """What both said about one set of one drop."""

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
    fast_violation: float  # largest relative miss of any user's SINR, a CRLB or a cap, by the physics
    reference_violation: float
    fast_gap: float  # 1 − bound/power, the bound recomputed from the multipliers; where infeasible, caps/bound, below one for a proof


def draw(seed: int) -> tuple[Problem, NDArray[np.bool_], str]:
    """The drop of a seed, a set of it, and the preset."""
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
    """Solve the instance of a seed with both."""
    problem, active, preset = draw(seed)
    ours, theirs = fast.solve(problem, active, threads=1), reference.solve(problem, active)
    solved, believed = ours.status == Status.OPTIMAL, theirs.status == Status.OPTIMAL
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
        difference=abs(float(ours.transmit_power / theirs.transmit_power) - 1.0) if solved and believed else np.nan,
        fast_violation=conic.violation(problem, ours.power) if solved else np.nan,
        reference_violation=conic.violation(problem, theirs.power) if believed else np.nan,
        fast_gap=1.0 - bound / float(ours.transmit_power) if solved else caps / bound,
    )


def run(count: int, seed: int, out: Path, step: Callable[[int], None] = lambda done: None) -> list[Instance]:
    """Solve `count` instances, with seeds from `seed` on; a run that was killed goes on where it was.

    Writes `agreement.csv` (one line an instance), `agreement.json` (how it was made) and `agreement.md` into `out`.
    """
    path = out / "agreement.csv"
    rows = {row.seed: row for row in _before(path)}
    wanted = range(seed, seed + count)
    missing = [one for one in wanted if one not in rows]
    step(count - len(missing))
    for done, one in enumerate(missing, 1):
        rows[one] = instance(one)
        step(1)
        if done % SAVE_EVERY == 0 or done == len(missing):
            write_text(path, _csv([rows[key] for key in sorted(rows)]))
    answer = [rows[one] for one in wanted]
    write_json(out / "agreement.json", {**provenance(), "seed": seed, "instances": count, "threads": 1})
    write_text(out / "agreement.md", table(answer) + "\n")
    return answer


def _csv(rows: Sequence[Instance]) -> str:
    text = io.StringIO()
    names = [field.name for field in fields(Instance)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (getattr(row, name) for name in names)
        writer.writerow([f"{value:.10g}" if isinstance(value, float) else value for value in values])
    return text.getvalue()


def _before(path: Path) -> list[Instance]:
    if not path.exists():
        return []
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Instance(**{field.name: kinds[str(field.type)](line[field.name]) for field in fields(Instance)})
            for line in csv.DictReader(file)
        ]


def table(rows: Sequence[Instance]) -> str:
    """Counts and worst cases as a Markdown table, one line a preset."""
    lines = [
        "| preset | instances | both optimal | both infeasible | compiled: other | cvxpy: other | they disagree | powers differ by at most "
        "| worst miss: compiled | worst miss: cvxpy | largest gap: compiled |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    sure = (str(Status.OPTIMAL), str(Status.INFEASIBLE))
    for preset in (*sorted({row.preset for row in rows}), "all"):
        part = [row for row in rows if preset in (row.preset, "all")]
        pairs = Counter((row.fast_status, row.reference_status) for row in part)
        ours = sum(number for (mine, _), number in pairs.items() if mine not in sure)
        theirs = sum(number for (_, other), number in pairs.items() if other not in sure)
        contrary = sum(number for (a, b), number in pairs.items() if a in sure and b in sure and a != b)
        optimal = [row for row in part if row.fast_status == sure[0]]
        lines.append(
            f"| {preset} | {len(part)} | {pairs[sure[0], sure[0]]} | {pairs[sure[1], sure[1]]} | {ours} | {theirs} | {contrary} "
            f"| {_worst(part, 'difference')} | {_worst(part, 'fast_violation')} | {_worst(part, 'reference_violation')} "
            f"| {_worst(optimal, 'fast_gap')} |"
        )
    return "\n".join(lines)


def _worst(rows: Sequence[Instance], key: str) -> str:
    values = [getattr(row, key) for row in rows if np.isfinite(getattr(row, key))]
    return f"{max(values):.1e}" if values else "–"
