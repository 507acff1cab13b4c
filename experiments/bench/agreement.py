"""Random instances of every preset, size and tightness, solved by the compiled allocator and by the cvxpy reference."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.allocation import Status, fast, reference
from baselines.allocation.certificate import dual_bound
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem
from experiments import results, schemas
from experiments.bench import conic
from experiments.results import Column, Table, number

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
            results.write(out, {path.name: results.csv_text([_rounded(rows[key]) for key in sorted(rows)])})
    answer = [rows[one] for one in wanted]
    made = {"seed": seed, "instances": count, "threads": 1}
    results.write(out, {"agreement.md": table(answer).markdown(), "agreement.json": made})
    return answer


def _rounded(row: Instance) -> dict[str, Any]:
    values = asdict(row).items()
    return {key: float(f"{value:.10g}") if isinstance(value, float) else value for key, value in values}


def _before(path: Path) -> list[Instance]:
    """The instances in a file.

    Raises:
        ValueError: the file is damaged, or has an instance twice.
    """
    if not path.exists():
        return []
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": _float, "str": str}
    rows = []
    for place, line in enumerate(csv.DictReader(io.StringIO(schemas.read(path))), 2):
        where = f"{path}, line {place},"
        try:
            row = Instance(**{field.name: kinds[str(field.type)](line[field.name]) for field in fields(Instance)})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{where} is damaged: {error}; choose another --out, or move the file away") from None
        schemas.check(results.plain(row), "agreement", where)
        rows.append(row)
    if len({row.seed for row in rows}) < len(rows):
        raise ValueError(f"{path} is damaged: it has an instance twice; choose another --out, or move the file away")
    return rows


def _float(text: str) -> float:
    return np.nan if text == "" else float(text)


@dataclass(frozen=True)
class Summary:
    """What the instances of a preset say together."""

    preset: str
    rows: Sequence[Instance]

    def count(self, ours: str, theirs: str) -> int:
        """Instances of which the two said this."""
        return sum((row.fast_status, row.reference_status) == (ours, theirs) for row in self.rows)

    def contrary(self) -> int:
        """Instances of which one proves what the other refutes."""
        return self.count(*_SURE) + self.count(*_SURE[::-1])

    def unsure(self, side: str) -> int:
        """Instances of which one side says neither."""
        return sum(getattr(row, f"{side}_status") not in _SURE for row in self.rows)

    def worst(self, key: str, *, optimal: bool = False) -> str | None:
        """Largest value of a column, of all instances or of those that the compiled allocator solved."""
        values = [getattr(row, key) for row in self.rows if not optimal or row.fast_status == _SURE[0]]
        return number(max((value for value in values if np.isfinite(value)), default=None), "{:.1e}")


_SURE = (str(Status.OPTIMAL), str(Status.INFEASIBLE))
_NONE = "no such instance"

COLUMNS: tuple[Column[Summary], ...] = (
    Column("preset", lambda one: one.preset),
    Column("instances", lambda one: str(len(one.rows))),
    Column("both optimal", lambda one: str(one.count(_SURE[0], _SURE[0])), rank=1),
    Column("both infeasible", lambda one: str(one.count(_SURE[1], _SURE[1])), rank=1),
    Column("compiled: other", lambda one: str(one.unsure("fast")), rank=2),
    Column("cvxpy: other", lambda one: str(one.unsure("reference")), rank=2),
    Column("they disagree", lambda one: str(one.contrary())),
    Column("powers differ by at most", lambda one: one.worst("difference"), _NONE),
    Column("worst miss: compiled", lambda one: one.worst("fast_violation"), _NONE, rank=3),
    Column("worst miss: cvxpy", lambda one: one.worst("reference_violation"), _NONE, rank=3),
    Column("largest gap: compiled", lambda one: one.worst("fast_gap", optimal=True), _NONE, rank=3),
)


def table(rows: Sequence[Instance]) -> Table[Summary]:
    """Counts and worst cases, one row a preset and one of all."""
    presets = sorted({row.preset for row in rows})
    parts = [Summary(preset, [row for row in rows if row.preset == preset]) for preset in presets]
    return Table(COLUMNS, [*parts, Summary("all", rows)])
