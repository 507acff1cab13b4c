"""`cfisac train mobile-value`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from agents.mobile.config import MobileTraining
from cfisac_env import SystemConfig
from experiments.commands.common import GOES_ON, Command, Output, open_option, progress


@dataclass(frozen=True)
class TrainMobile(Command):
    """Train the value of sets for CfIsacMobile-v0 by evolution on whole episodes, for every M and K."""

    configured: ClassVar[bool] = True
    output: ClassVar[Output] = "own"
    kept: ClassVar[str] = GOES_ON

    training: Annotated[MobileTraining, tyro.conf.arg(name="")] = field(default_factory=MobileTraining)
    """Evolution strategy, episodes and costs."""
    out: Annotated[Path | None, open_option("FOLDER")] = None
    """Folder of the run; by default runs/mobile-value-seedSEED. A stopped run in it is resumed."""
    resume: bool = True
    """Resume the run in the folder; --no-resume refuses a folder that holds one."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Train, print, write."""
        from agents.mobile import training

        folder = self.out or Path(f"runs/mobile-value-seed{self.training.seed}")

        def complain(line: str) -> None:
            console.print(line, style="yellow", markup=False, soft_wrap=True)

        with progress() as bar:
            task = bar.add_task("mobile-value", total=self.training.generations)

            def step(generation: int, text: str) -> None:
                bar.update(task, completed=generation, description=f"mobile-value {text}")

            result = training.train(
                self.training, SystemConfig(**fields), folder, resume=self.resume, step=step, complain=complain
            )
        console.print(
            f"{self.training.generations} generations in {result.seconds:.0f} s of processor time; relative cost "
            f"{result.best_cost:.3f}, initially {result.curve[0]['cost']:.3f}"
        )
        for name in ("best.json", "curve.json"):
            console.print(f"wrote {folder / name}", soft_wrap=True)
