"""`cfisac bench selection`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from cfisac_env import seeds
from experiments.commands.common import GOES_ON, Command, Count, Range, Seed, progress, wrote


@dataclass(frozen=True)
class BenchSelection(Command):
    """Prove optima, measure how far the heuristics are from them, and time it all; a run that was killed goes on where it was."""

    kept: ClassVar[str] = GOES_ON

    cases: tuple[str, ...] = (
        "paper:30x6:2:100", "paper:50x10:2:100", "paper:50x20:60:20", "high-rate:30x6:60:8", "high-rate:50x10:60:4",
        "precise-sensing:30x6:60:20", "precise-sensing:50x10:60:20", "urban:30x6:60:20", "urban:50x10:30:20", "urban:50x20:60:20",
        "paper:100x40:60:2",
    )  # fmt: skip
    """preset:APs x users:seconds:drops."""
    elimination: Annotated[str | None, tyro.conf.arg(metavar="MxK|None")] = "50x20"
    """Size at which greedy elimination is timed against the same on cvxpy; None to leave it out."""
    elimination_drops: Count = 3
    """Drops of that size."""
    elimination_solves: Annotated[int, Range(2, 1_000_000)] = 8
    """Solves of cvxpy for each of them, from which the rest is extrapolated."""
    seed: Seed = seeds.TEST
    """Seed of the first drop of each case; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments.bench import selection
        from experiments.sizes import parse_size

        cases = [selection.parse_case(text) for text in self.cases]
        size = None if self.elimination is None else parse_size(self.elimination)
        with progress() as bar:
            task = bar.add_task("searching", total=sum(case.drops for case in cases))

            def step(label: str) -> None:
                bar.update(task, advance=1, description=label)

            drops = selection.run(cases, self.seed, self.out, step)
        timed: dict[str, Any] = {"drops": []}
        if size is not None:
            timed = selection.elimination(*size, self.elimination_drops, self.elimination_solves, self.seed, self.out)
        selection.table(drops).show(console, f"selection.md in {self.out}")
        for one in timed["drops"]:
            console.print(
                f"elimination at {self.elimination}, seed {one['seed']}: {one['compiled_s']:.2f} s compiled; on cvxpy "
                f"{one['cvxpy_s']:.0f} s by {one['solves_timed']} of {one['solves_of_plain_elimination']} solves: "
                f"{one['ratio']:.0f} times as long",
                soft_wrap=True,
            )
        wrote(console, [self.out / "selection.json", self.out / "selection.md"])
