"""`cfisac bench allocator`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from cfisac_env import seeds
from experiments.commands.common import Command, Count, Natural, Seed, progress, wrote


@dataclass(frozen=True)
class BenchAllocator(Command):
    """Time the compiled allocator against Clarabel and cvxpy, or check that they agree; writes JSON and Markdown."""

    configured: ClassVar[bool] = True

    sizes: tuple[str, ...] = ("30x6", "50x10", "50x20", "100x40")
    """APs x users."""
    drops: Count = 5
    """Drops of each size."""
    sets: Count = 20
    """Sets of each drop that are as small as those that a search solves."""
    reference_sets: Natural = 1
    """Sets of each drop that cvxpy solves as well, at most."""
    agreement: Natural = 0
    """Instead of timing, solve so many random instances with the compiled allocator and with cvxpy and compare the answers."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments import results
        from experiments.bench import agreement, allocator
        from experiments.sizes import parse_size

        if self.agreement:
            if fields:
                raise ValueError(f"--agreement draws its own configurations; leave out {', '.join(sorted(fields))}")
            with progress() as bar:
                task = bar.add_task("solving", total=self.agreement)
                rows = agreement.run(self.agreement, self.seed, self.out, lambda done: bar.advance(task, done))
            agreement.table(rows).show(console, f"agreement.md in {self.out}")
            wrote(console, [self.out / f"agreement.{kind}" for kind in ("csv", "json", "md")])
            return
        pairs = [parse_size(text) for text in self.sizes]
        measures = []
        with progress() as bar:
            task = bar.add_task("timing", total=len(pairs) * len(allocator.KINDS) * self.drops)
            for row in allocator.measure(
                pairs, self.drops, self.sets, self.reference_sets, self.seed, fields, lambda: bar.advance(task)
            ):
                measures.append(row)
        table = allocator.table(measures)
        content = {"seed": self.seed, "drops": self.drops, "threads": 1, "fields": fields, "rows": measures}
        written = results.write(self.out, {"allocator.md": table.markdown(), "allocator.json": content})
        table.show(console, f"allocator.md in {self.out}")
        wrote(console, written)
