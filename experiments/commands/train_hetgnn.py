"""`cfisac train hetgnn`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from agents.hetgnn.config import TrainingConfig
from experiments.commands.common import GOES_ON, Command, Count, Output, Range, Threads, announce, open_option, progress


@dataclass(frozen=True)
class TrainHetGnn(Command):
    """Train the graph network on labels; writes checkpoints, logs, weights and a model card. Interrupted runs continue."""

    kept: ClassVar[str] = GOES_ON
    output: ClassVar[Output] = "own"

    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)
    """Network, loss and optimisation."""
    labels: Path = Path("runs/labels/train")
    """Folder of `cfisac label`, read with its subfolders."""
    validation: Path = Path("runs/labels/validation")
    """Folder of labels of other seeds, which select the best epoch."""
    presets: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Presets whose labels are used; by default all."""
    drops: Annotated[Count | None, open_option("INT")] = None
    """Number of labels of each size and preset, at most; by default all."""
    out: Path = Path("runs/hetgnn")
    """Folder of the run."""
    start: Annotated[Path | None, open_option("FILE")] = None
    """Initial weights, such as those of another preset; by default random ones."""
    resume: bool = True
    """Continue from the last checkpoint in the folder, if there is one."""
    minutes: Annotated[Annotated[float, Range(0.0, 1e6, above=True)] | None, open_option("FLOAT")] = None
    """Time limit in minutes, over all runs in the folder; the best epoch so far is kept. By default none."""
    accelerator: str = "cpu"
    """Device of torch: cpu, gpu, auto, or one such as cuda:1."""
    devices: int = 1
    """Number of accelerators; only 1 is supported."""
    threads: Annotated[Threads | None, open_option("INT")] = None
    """Number of torch's threads; by default torch's own choice."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Read, train, write."""
        import torch

        from agents import defaults, tensorfile
        from agents.hetgnn import data, training, weights
        from cfisac_env.files import write_text
        from experiments import hetgnn, results

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.devices != 1:
            raise ValueError(
                f"--devices must be 1, got {self.devices}: a network of this size trains on one accelerator"
            )
        device = defaults.device(self.accelerator)

        def warn(line: str) -> None:
            console.print(f"skipped: {line}", style="yellow", soft_wrap=True)

        parts = [hetgnn.read(folder, self.presets, self.drops, warn) for folder in (self.labels, self.validation)]
        hetgnn.check_seeds(*parts)
        for name, shards in zip(("training", "validation"), parts, strict=True):
            console.print(f"{sum(map(len, shards))} labels for {name}")
        labels, validation = (data.prepare(shards) for shards in parts)
        start, past = (None, {}) if self.start is None else weights.load(self.start)
        with progress() as bar:
            task = bar.add_task("hetgnn", total=None)

            def step(done: int, total: int, text: str) -> None:
                bar.update(task, completed=done, total=total, description=f"hetgnn {text}")

            network, measures = training.train(
                self.training, labels, validation, self.out, resume=self.resume, start=start, device=str(device),
                limit_s=math.inf if self.minutes is None else 60.0 * self.minutes, step=step, warn=warn,
            )  # fmt: skip
        provenance = {
            **results.provenance(),
            "training": dataclasses.asdict(self.training),
            "labels": hetgnn.describe(parts[0]),
            "validation": hetgnn.describe(parts[1]),
            "measures": measures,
            "start": None if start is None else {**past, "digest": tensorfile.digest(start)},
        }
        path = weights.save(network, self.out / "hetgnn.safetensors", provenance)
        console.print(
            f"best epoch {measures['epoch'] + 1:.0f}: ranking names {measures['val/hits']:.1%} of the best sets, "
            f"own powers serve {measures['val/served']:.1%} of them"
        )
        announce(console, [path, write_text(self.out / "hetgnn.md", weights.card(weights.load(path)[0], provenance))])
