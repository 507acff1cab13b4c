"""`cfisac label`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from rich.console import Console

from experiments.commands.common import GOES_ON, Count, Seed, Spread, open_option, progress


@dataclass(frozen=True)
class Label(Spread):
    """Label drops with an oracle's decisions and certified bounds, for training; a killed run goes on where it was."""

    configured: ClassVar[bool] = True
    kept: ClassVar[str] = GOES_ON

    sizes: tuple[str, ...] = (
        "30x6", "30x5", "30x10", "30x15", "30x20", "50x5", "50x10", "50x15", "50x20", "80x5", "80x10", "80x15", "80x20",
    )  # fmt: skip
    """APs x users."""
    presets: tuple[str, ...] = ("paper",)
    """Names of presets."""
    random: Annotated[Count | None, open_option("INT")] = None
    """Number of random configurations, drawn from --seed, instead of sizes and presets: any preset, 2 to 60 APs, 1 to 20 users, 1 to 6
    receivers, 1 to 3 targets, and thresholds within 6 dB of the preset's."""
    drops: Count = 800
    """Number of drops of each configuration."""
    seed: Seed = 0
    """Seed of the first drop of each size; below 1,000,000, where the test seeds begin."""
    policy: Literal["local-search", "modified-bb"] = "local-search"
    """Oracle that decides; the paper's is modified-bb."""
    shard: Count = 25
    """Number of drops in a file."""
    out: Path = Path("runs/labels")
    """Folder of the files."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Plan, label, write."""
        import numpy as np

        from experiments import labelling
        from experiments.sizes import configurations, random_configurations

        if self.random is None:
            configs = configurations(self.presets, self.sizes, fields)
        elif fields:
            raise ValueError(
                f"--random draws the configurations: leave out {', '.join(f'--{name}' for name in fields)}"
            )
        else:
            configs = random_configurations(np.random.default_rng(self.seed), self.random, 60, 20, 6, 3)
        shards = labelling.plan(configs, self.drops, self.seed, self.policy, self.shard)
        rest = labelling.missing(shards, self.out, lambda line: console.print(line, style="yellow", soft_wrap=True))
        if len(rest) < len(shards):
            console.print(f"{len(shards) - len(rest)} of {len(shards)} files are there already")
        total = served = 0
        with progress() as bar:
            task = bar.add_task("labelling", total=sum(shard.count for shard in rest))
            for labels in labelling.run(rest, self.out, workers=self.workers, ray=self.ray):
                bar.advance(task, len(labels))
                total, served = total + len(labels), served + int(labels.feasible.sum())
        console.print(f"labelled {total} drops, {served} of them served, in {self.out}", soft_wrap=True)
