"""`cfisac presets`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from cfisac_env import PRESETS, SystemConfig, seeds
from experiments.commands.common import Command, Count, Seed, progress
from experiments.errors import UserError


@dataclass(frozen=True)
class Presets(Command):
    """Measure every preset: drops served, active APs, what binds, and whether the reward's penalties are exact."""

    configured: ClassVar[bool] = True

    drops: Count = 200
    """Number of random drops a preset."""
    seed: Seed = seeds.TRAINING
    """Seed of the first drop; the others follow. Presets are tuned by this table, so it stays clear of the test seeds."""
    out: Path = Path("runs/presets")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments import presets
        from experiments.results import Result, Table

        if "preset" in fields:
            raise UserError(f"every preset is measured: leave out --preset {fields['preset']}")
        measures = []
        with progress() as bar:
            for name in PRESETS:
                task = bar.add_task(name, total=self.drops)
                config = SystemConfig(**{**fields, "preset": name})
                measures.append(presets.measure(config, self.drops, self.seed, partial(bar.advance, task)))
        content = {
            "seed": self.seed,
            "presets": {one.config.preset: {**vars(one), "config": one.config.as_dict()} for one in measures},
        }
        Result("presets", [Table(presets.COLUMNS, measures)], content).publish(self.out, console)
