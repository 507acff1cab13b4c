"""`cfisac presets`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from cfisac_env import PRESETS, SystemConfig
from experiments.commands.common import Command, Count, Seed, progress


@dataclass(frozen=True)
class Presets(Command):
    """Measure every preset: drops served, active APs, what binds, and whether the reward's penalties are exact."""

    configured: ClassVar[bool] = True

    drops: Count = 200
    """Number of random drops a preset."""
    seed: Seed = 500_000
    """Seed of the first drop; the others follow. Presets are tuned by this table, so it stays clear of the test seeds."""
    out: Path = Path("runs/presets")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, print, write."""
        from experiments import files, presets

        measures = []
        with progress() as bar:
            for name in PRESETS:
                task = bar.add_task(name, total=self.drops)
                config = SystemConfig(**{**fields, "preset": name})
                measures.append(presets.measure(config, self.drops, self.seed, partial(bar.advance, task)))
        text = presets.table(measures)
        console.print(text, markup=False, soft_wrap=True)
        content = {one.config.preset: {**vars(one), "config": one.config.as_dict()} for one in measures}
        for path in (
            files.write_json(self.out / "presets.json", {**files.provenance(), "seed": self.seed, "presets": content}),
            files.write_text(self.out / "presets.md", text + "\n"),
        ):
            console.print(f"wrote {path}", soft_wrap=True)
