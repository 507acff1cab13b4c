"""`cfisac dataset`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from cfisac_env import SystemConfig
from experiments.commands.common import Command, Count, Seed, progress


@dataclass(frozen=True)
class Dataset(Command):
    """Write decisions of oracles and agents as an offline dataset in Minari's format, for imitation and offline RL."""

    configured: ClassVar[bool] = True

    policies: tuple[str, ...] = ("local-search",)
    """Names of oracles and agents; each decides every drop."""
    drops: Count = 1000
    """Number of random drops."""
    seed: Seed = 0
    """Seed of the first drop; below 1,000,000, where the test seeds begin."""
    out: Path = Path("runs/datasets")
    """Folder of the datasets, which Minari reads as MINARI_DATASETS_PATH."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Decide and write."""
        from experiments import datasets

        with progress() as bar:
            task = bar.add_task("deciding", total=self.drops * len(dict.fromkeys(self.policies)))
            made = datasets.write(
                self.out, SystemConfig(**fields), self.policies, self.drops, self.seed,
                lambda name: bar.update(task, advance=1, description=name),
            )  # fmt: skip
        console.print(
            f"{made.total_episodes} decisions in {self.out / made.id}; "
            f'MINARI_DATASETS_PATH={self.out}, minari.load_dataset("{made.id}")',
            soft_wrap=True,
        )
