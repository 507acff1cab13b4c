"""Comparisons of the same policies for several configurations, whose decisions are stored, so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cfisac_env import SystemConfig
from experiments import compare, outputs
from experiments.compare import Comparison, PolicySummary
from experiments.journal import Store
from experiments.results import Column, Table, number, percent

Entry = tuple[Comparison, PolicySummary]


def run(
    config: SystemConfig, policies: Sequence[str], drops: int, seed: int, folder: Path, step: Callable[[str], None]
) -> list[Entry]:
    """Compare policies as `compare.run` does, and write the comparison and its decisions into a folder.

    Decisions that are stored in `decisions.jsonl` aren't made again. An agent that was trained anew decides anew, and one whose weights
    have no digest decides every time.

    Raises:
        ValueError: the folder holds decisions of another version or configuration, or damaged ones.
    """
    store = Store(folder / "decisions.jsonl", "evaluation", {"config": config.as_dict()})
    comparison = compare.run(config, compare.build(policies, config), drops, seed, step, store)
    rows = compare.summarise(comparison)
    outputs.result(comparison, rows).write(folder)
    return [(comparison, row) for row in rows]


COLUMNS: tuple[Column[Entry], ...] = (
    Column("preset", lambda e: e[0].config.preset, code=True, rank=4),
    Column("M, K", lambda e: f"{e[0].config.M}, {e[0].config.K}", left=True),
    Column("drops", lambda e: str(int((~e[0].infeasible).sum())), rank=5),
    Column("policy", lambda e: e[1].policy, left=True, code=True),
    Column("feasible", lambda e: number(e[1].feasible_share, "{:.1%}"), outputs.NONE_SERVED, rank=1),
    Column("total W", lambda e: number(e[1].total_power_w.value), outputs.NONE_SERVED, rank=0),
    Column("to best", lambda e: percent(e[1].gap_to_best), outputs.NEVER_FEASIBLE, rank=2),
    Column("certified", lambda e: percent(e[1].certified_gap), outputs.NEVER_FEASIBLE, rank=2),
    Column("active APs", lambda e: number(e[1].active_aps, "{:.1f}"), outputs.NONE_SERVED, rank=3),
)


def table(entries: Sequence[Entry]) -> Table[Entry]:
    """Return one table of all comparisons, without times, which need an otherwise idle machine (`cfisac compare`)."""
    return Table(COLUMNS, entries, notes=outputs.NOTES + outputs.untrained(comparison for comparison, _ in entries))
