"""`cfisac ablate hetgnn`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

from agents.hetgnn.config import TrainingConfig
from experiments.commands.common import GOES_ON, Command, Count, Seed, Threads, open_option, wrote


@dataclass(frozen=True)
class AblateHetGnn(Command):
    """Train small variants of the network that differ in one thing each, and measure them on validation drops."""

    kept: ClassVar[str] = GOES_ON

    variants: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Names of variants; by default all. An unknown one lists them."""
    labels: Path = Path("runs/labels/train")
    """Folder of labels by local-search."""
    other_labels: Path = Path("runs/labels/modified-bb")
    """Folder of labels by modified-bb, for the variant that learns from them."""
    validation: Path = Path("runs/labels/validation")
    """Folder of labels by local-search, of other seeds."""
    sizes: tuple[str, ...] = ("30x6", "30x10", "50x10")
    """APs x users to train and measure on."""
    drops: Count = 300
    """Labels of each size to train on."""
    epochs: Count = 8
    """Of every variant."""
    seed: Seed = 0
    """Of every variant."""
    threads: Annotated[Threads | None, open_option("INT")] = None
    """Threads of torch; by default as torch has it."""
    out: Path = Path("runs/ablation")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Train, measure, write."""
        import torch

        from experiments import ablation, hetgnn, results
        from experiments.sizes import configurations

        names = self.variants or tuple(ablation.VARIANTS)
        ablation.check(names)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        base = TrainingConfig(epochs=self.epochs, patience=self.epochs, edges=8192, seed=self.seed)

        def complain(line: str) -> None:
            console.print(f"skipped: {line}", style="yellow", soft_wrap=True)

        sizes = [(config.M, config.K) for config in configurations(("paper",), self.sizes, {})]

        def read(folder: Path, drops: int | None) -> list[Any]:
            shards = hetgnn.read(folder, ("paper",), drops, complain)
            return [shard for shard in shards if (shard.config.M, shard.config.K) in sizes]

        labels = {"local-search": read(self.labels, self.drops)}
        if "labels of modified-bb" in names:
            labels["modified-bb"] = read(self.other_labels, self.drops)
        validation = read(self.validation, None)
        for shards in labels.values():
            hetgnn.check_seeds(shards, validation)
        measures = []
        for one in ablation.run(names, labels, validation, base, self.out):
            measures.append(one)
            console.print(
                f"{one.variant}: names {one.hits:.1%}, hetgnn {one.own_gap:.2%}, prefix {one.prefix_gap:.2%} above"
            )
        table = ablation.table(measures)
        content = {
            "labels": {oracle: hetgnn.describe(shards) for oracle, shards in labels.items()},
            "validation": hetgnn.describe(validation),
            "measures": [vars(one) for one in measures],
        }
        written = results.write(self.out, {"ablation.md": table.markdown(), "ablation.json": content})
        table.show(console, f"ablation.md in {self.out}")
        wrote(console, written)
