"""Comparisons of the same policies for several configurations, whose decisions are stored, so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cfisac_env import SystemConfig
from experiments import compare, outputs
from experiments.compare import Comparison, PolicySummary
from experiments.journal import Store
from experiments.results import Column, Table, number

Entry = tuple[Comparison, PolicySummary]


def run(
    config: SystemConfig,
    policies: Sequence[str],
    drops: int,
    seed: int,
    folder: Path,
    step: Callable[[str], None],
    **processes: Any,
) -> list[Entry]:
    """Compare policies as `compare.run` does, and write the comparison and its decisions into a folder.

    Decisions that are stored in `decisions.jsonl` aren't made again. An agent that was trained anew decides anew.

    Args:
        processes: `workers` and `ray`, see `compare.run`.

    Raises:
        ValueError: the folder holds decisions of another version or configuration, or damaged ones.
    """
    store = Store(folder / "decisions.jsonl", "evaluation", {"config": config.as_dict()})
    comparison = compare.run(config, compare.build(policies, config), drops, seed, step, store, **processes)
    rows = compare.summarise(comparison)
    outputs.result(comparison, rows).write(folder)
    return [(comparison, row) for row in rows]


def _of_row(heading: str, **changes: Any) -> Column[Entry]:
    """Return a column of `cfisac compare`."""
    one = outputs.column(heading, **changes)
    return replace(one, cell=lambda entry: one.cell(entry[1]))


COLUMNS: tuple[Column[Entry], ...] = (
    Column("preset", lambda e: e[0].config.preset, code=True, rank=4),
    Column("M, K", lambda e: f"{e[0].config.M}, {e[0].config.K}", left=True),
    Column("drops", lambda e: str(int((~e[0].infeasible).sum())), rank=5),
    _of_row("policy", left=True),
    _of_row("feasible", cell=lambda row: number(row.feasible_share, "{:.1%}")),
    *map(_of_row, ("total W", "to best", "certified", "active APs")),
)


def table(entries: Sequence[Entry]) -> Table[Entry]:
    """Return one table of all comparisons, without times, which need an otherwise idle machine (`cfisac compare`)."""
    return Table(COLUMNS, entries, notes=outputs.NOTES + outputs.untrained(comparison for comparison, _ in entries))
