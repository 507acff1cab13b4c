"""`cfisac bench scale`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cfisac_env import seeds
from experiments.commands.common import Command, Count, Seed, progress, wrote


@dataclass(frozen=True)
class BenchScale(Command):
    """Time the allocator with every AP on at up to a hundred thousand APs, with memory and certified gaps; writes JSON and Markdown."""

    presets: tuple[str, ...] = ("urban", "paper", "high-rate")
    """Presets."""
    sizes: tuple[str, ...] = ("200x10", "1000x10", "1000x20", "10000x20", "100000x20")
    """APs x users."""
    drops: Count = 3
    """Drops of each preset and size."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments import results
        from experiments.bench import scale
        from experiments.sizes import parse_size

        pairs = [parse_size(text) for text in self.sizes]
        with progress() as bar:
            task = bar.add_task("timing", total=len(self.presets) * len(pairs) * self.drops)
            rows = list(scale.measure(self.presets, pairs, self.drops, self.seed, lambda: bar.advance(task)))
        table = scale.table(rows)
        content = {"seed": self.seed, "drops": self.drops, "threads": 1, "rows": rows}
        written = results.write(self.out, {"scale.md": table.markdown(), "scale.json": content})
        table.show(console, f"scale.md in {self.out}")
        wrote(console, written)
