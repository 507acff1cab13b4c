"""`cfisac evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

from cfisac_env import seeds
from experiments.commands.common import GOES_ON, Count, Seed, Spread, Threads, open_option, progress


@dataclass(frozen=True)
class Evaluate(Spread):
    """Compare policies for several sizes and presets: one table of all, and a folder each. Stored decisions aren't made again."""

    configured: ClassVar[bool] = True
    kept: ClassVar[str] = GOES_ON

    policies: tuple[str, ...] = ("hetgnn", "hetgnn-exact", "local-search")
    """Names of oracles and agents; the best known decision of a drop is the best of theirs."""
    sizes: tuple[str, ...] = ("30x6", "30x10", "50x10", "50x20")
    """APs x users."""
    presets: tuple[str, ...] = ("paper",)
    """Names of presets."""
    drops: Count = 200
    """Random drops of each size of each preset."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    workers: Annotated[Threads | None, open_option("INT")] = 1
    """Number of processes; with several, times of decisions mean little."""
    out: Path = Path("runs/evaluate")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Decide, write, print."""
        from experiments import compare, evaluation
        from experiments.results import Result
        from experiments.sizes import configurations

        configs = configurations(self.presets, self.sizes, fields)
        compare.build(self.policies, configs[0])
        entries = []
        with progress() as bar:
            for config in configs:
                name = f"{config.preset}-{config.M}x{config.K}"
                task = bar.add_task(name, total=self.drops * len(dict.fromkeys(self.policies)))
                step = partial(bar.update, task, advance=1)
                entries += evaluation.run(
                    config,
                    self.policies,
                    self.drops,
                    self.seed,
                    self.out / name,
                    lambda _, step=step: step(),  # type: ignore[misc]
                    workers=self.workers,
                    ray=self.ray,
                )
        Result("evaluate", [evaluation.table(entries)]).publish(self.out, console)
