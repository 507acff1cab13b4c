"""`cfisac bench allocator`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from experiments.commands.common import Command, Count, Seed, progress


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
    reference_sets: int = 1
    """Sets of each drop that cvxpy solves as well, at most."""
    agreement: int = 0
    """Instead of timing, solve so many random instances with the compiled allocator and with cvxpy and compare the answers."""
    seed: Seed = 1_000_000
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, print, write."""
        from experiments import files
        from experiments.bench import agreement, allocator
        from experiments.labelling import parse_size

        for name in ("drops", "sets", "reference_sets"):
            least = 0 if name == "reference_sets" else 1
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be {least} or more, got {getattr(self, name)}")
        if self.agreement < 0:
            raise ValueError(f"--agreement must be 0 (no comparison of answers) or more, got {self.agreement}")
        if self.agreement:
            if fields:
                raise ValueError(f"--agreement draws its own configurations; leave out {', '.join(sorted(fields))}")
            with progress() as bar:
                task = bar.add_task("solving", total=self.agreement)
                rows = agreement.run(self.agreement, self.seed, self.out, lambda done: bar.advance(task, done))
            console.print(agreement.table(rows), markup=False, soft_wrap=True)
            console.print(f"wrote {self.out / 'agreement.csv'}, agreement.json and agreement.md", soft_wrap=True)
            return
        pairs = [parse_size(text) for text in self.sizes]
        measures = []
        with progress() as bar:
            task = bar.add_task("timing", total=len(pairs) * len(allocator.KINDS) * self.drops)
            for row in allocator.measure(
                pairs, self.drops, self.sets, self.reference_sets, self.seed, fields, lambda: bar.advance(task)
            ):
                measures.append(row)
        text = allocator.table(measures)
        console.print(text, markup=False, soft_wrap=True)
        content = {
            "seed": self.seed,
            "drops": self.drops,
            "threads": 1,
            "fields": fields,
            "rows": [asdict(row) for row in measures],
        }
        for path in (
            files.write_json(self.out / "allocator.json", {**files.provenance(), **content}),
            files.write_text(self.out / "allocator.md", text + "\n"),
        ):
            console.print(f"wrote {path}", soft_wrap=True)
