"""`cfisac bench mobile`: policies over time at several switching energies and wake-up times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments import mobile
from experiments.mobile import MobileComparison, MobileSummary
from experiments.results import Column, Result, Table

SWITCHING_J = (0.5, 2.0, 8.0)
WAKE_UP_STEPS = (0, 2, 5)

HEADLINE = ((8.0, 0), (2.0, 2))
"""Cells (J, steps) with more episodes."""

POLICIES = (
    "random", "strongest-ap", "myopic", "hysteresis", "hysteresis:engine=hetgnn-exact", "keep-credit", "predictive", "mobile-value",
    "clairvoyant",
)  # fmt: skip

MISMATCHED = tuple(
    f"{name}:{option}"
    for name in ("predictive", "mobile-value")
    for option in ("speed_scale=1.5", "decorrelation_m=6.5", "decorrelation_m=26")
)
"""Policies with wrong laws of motion and shadowing, for the headline cells."""


NOTES = (
    "room closed, to clairvoyant: over the same episodes [95 % bootstrap interval over episodes]; ms a step: hysteresis and keep-credit "
    "reuse the searches that myopic made for the same episode, which take as long as its steps"
)


@dataclass(frozen=True)
class Row(MobileSummary):
    """Statistics of a policy in a cell."""

    switching_energy_j: float
    wake_up_steps: int
    episodes: int


@dataclass(frozen=True, eq=False)
class Cell:
    """Comparison at one switching energy and wake-up time."""

    comparison: MobileComparison
    rows: list[Row]

    @property
    def name(self) -> str:
        """Heading, such as "8 J, 2 steps"."""
        options = self.comparison.options
        return f"{options['switching_energy_j']:g} J, {options['wake_up_steps']} steps"


def play(
    fields: dict[str, Any],
    policies: Sequence[str],
    mismatched: Sequence[str],
    episodes: int,
    headline_episodes: int,
    seed: int,
    *,
    workers: int,
    folder: Path,
    step: Callable[[str], None],
) -> list[Cell]:
    """Compare the policies in every cell, the headline cells first.

    Args:
        fields: of `SystemConfig`.
        policies: names, with options where they have any.
        mismatched: further ones, for the headline cells.
        episodes: number of episodes of a cell; 0 for the headline cells alone.
        headline_episodes: number of episodes of the cells of `HEADLINE`.
        seed: of the first episode.
        workers: processes.
        folder: of the results, in which finished episodes are kept.
        step: called with the cell and policy after each episode.
    """
    pairs = [(energy_j, wake_up) for energy_j in SWITCHING_J for wake_up in WAKE_UP_STEPS]
    pairs = [pair for pair in pairs if episodes or pair in HEADLINE]
    settings = {pair: fields | {"switching_energy_j": pair[0], "wake_up_steps": pair[1]} for pair in pairs}
    folders = {(energy_j, wake_up): folder / f"{energy_j:g}j-{wake_up}" for energy_j, wake_up in pairs}
    comparisons = {}
    for pair in sorted(pairs, key=lambda pair: pair not in HEADLINE):
        headline = pair in HEADLINE
        comparisons[pair] = mobile.run(
            settings[pair], [*policies, *mismatched] if headline else policies, headline_episodes if headline else episodes, seed,
            workers=workers, folder=folders[pair], step=partial(_step, step, folders[pair].name),
        )  # fmt: skip
    cells = []
    for pair in pairs:
        comparison, rows = comparisons[pair], []
        for one in mobile.summarise(comparison):
            rows.append(
                Row(
                    **vars(one),
                    switching_energy_j=pair[0],
                    wake_up_steps=pair[1],
                    episodes=len(comparison.seeds),
                )
            )
        cells.append(Cell(comparison, rows))
    return cells


def _step(step: Callable[[str], None], cell: str, policy: str) -> None:
    step(f"{cell} {policy}")


def overview(cells: Sequence[Cell]) -> Table[list[Row]]:
    """Return the energies over all cells, one row a policy."""
    columns = [Column[list[Row]]("policy", lambda rows: rows[0].policy, code=True)]
    columns += [Column(cell.name, partial(_energy, i)) for i, cell in enumerate(cells)]
    return Table(
        columns,
        [list(rows) for rows in zip(*(cell.rows for cell in cells), strict=False)],  # the headline cells have more
        "Energy of an episode in J, and the share of served instants where it isn't 100 %, by switching energy and wake-up steps",
    )


def _energy(cell: int, rows: list[Row]) -> str:
    row = rows[cell]
    text = f"{row.energy_j.value:.1f}"
    return text if row.served == 1.0 else f"{text} ({row.served:.1%})"


def result(cells: Sequence[Cell]) -> Result:
    """Return `grid.md`, `grid.csv` and `grid.json`: energies over all cells, then a table for each."""
    first = cells[0].comparison
    tables: list[Table[Any]] = [overview(cells)]
    for cell in cells:
        table = mobile.table(cell.comparison, cell.rows)
        columns = [column for column in table.columns if column.heading not in ("to best", "certified")]
        tables.append(Table(columns, cell.rows, f"## {cell.name}\n\n{table.title}", NOTES))
    rows = [row for cell in cells for row in cell.rows]
    content = {
        "config": first.config.as_dict(),
        "seeds": {cell.name: cell.comparison.seeds for cell in cells},
        "rows": rows,
    }
    return Result("grid", tables, content, rows)
