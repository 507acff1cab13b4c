"""`cfisac train ALGORITHM` for the algorithms of reinforcement learning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rich.console import Console

from agents.rl.parameters import ALGORITHMS, FAMILY, hyper_parameters
from cfisac_env import SystemConfig
from experiments.commands.common import GOES_ON, Command, Output, open_option, progress
from experiments.commands.options import left_open, texts

if TYPE_CHECKING:
    from agents.rl.run import Run

TEXTS = {
    "ddpg": "Train DDPG with a graph actor that chooses sets of APs, for every M and K.",
    "grpo": "Train a policy gradient with a graph actor that chooses sets of APs, for every M and K.",
    "ddpg-paper": "Train the paper's DDPG: printed MLPs on the flattened observation, for one M and K.",
    "td3": "Train TD3 with the MLPs of Stable-Baselines3, for one M and K.",
    "sac": "Train SAC with the MLPs of Stable-Baselines3, for one M and K.",
    "ppo": "Train PPO with the MLPs of Stable-Baselines3, for one M and K.",
}
"""Algorithm → description of its command."""


@dataclass(frozen=True)
class TrainRl(Command):
    """Options of every algorithm."""

    configured: ClassVar[bool] = True
    output: ClassVar[Output] = "own"
    kept: ClassVar[str] = GOES_ON
    algorithm: ClassVar[str]

    seed: int = 0
    """Seed of all random numbers, from 0 to 399; every seed trains on drops of its own."""
    out: Annotated[Path | None, open_option("FOLDER")] = None
    """Folder of the run; by default runs/ALGORITHM-MxK-seedSEED. A stopped run in it is resumed."""
    resume: bool = True
    """Resume the run in the folder; --no-resume refuses a folder that holds one."""
    validation_drops: int = 50
    """Number of fixed drops on which the agent is compared with local-search."""
    mixed: Annotated[tuple[str, ...], open_option("PRESET[:MxK] [...]")] = ()
    """Presets on which ddpg and grpo train besides that of the configuration, at its size or, as in urban:50x20, at another."""
    device: str = "cpu"
    """Device of torch."""

    def planned(self, fields: dict[str, Any]) -> Run:
        """Return the run that the options describe."""
        from agents.rl.run import Run

        config = SystemConfig(**fields)
        names = [spec.name for spec in dataclasses.fields(FAMILY[self.algorithm])]
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        parameters = hyper_parameters(self.algorithm, **given)
        return Run(
            self.algorithm, config, parameters, self.seed, mixed=self.mixed, validation_drops=self.validation_drops
        )

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Train, print, write."""
        import torch

        from agents.rl import training

        run = self.planned(fields)
        folder = self.out or Path(f"runs/{self.algorithm}-{run.config.M}x{run.config.K}-seed{self.seed}")

        def complain(line: str) -> None:
            console.print(line, style="yellow", markup=False, soft_wrap=True)

        torch.set_num_threads(1)  # networks this small lose by more
        with progress() as bar:
            task = bar.add_task(self.algorithm, total=run.parameters.steps)

            def step(steps: int, text: str) -> None:
                bar.update(task, completed=steps, description=f"{self.algorithm} {text}")

            result = training.train(run, folder, resume=self.resume, device=self.device, step=step, complain=complain)
        last = result.curve[-1]
        gap = "" if math.isnan(last["gap"]) else f"gap {100 * last['gap']:.1f} %, "
        console.print(
            f"{int(last['steps'])} steps in {result.seconds:.0f} s: {100 * last['feasible']:.1f} % feasible, "
            f"{gap}{last['active_aps']:.1f} APs on"
        )
        for name in (training.BEST, training.CURVE):
            console.print(f"wrote {folder / name}", soft_wrap=True)


def _command(algorithm: str) -> type[Command]:
    """Return the command of an algorithm, whose hyper-parameters are options."""
    family = FAMILY[algorithm]
    text, usual = texts(*reversed(family.__mro__[:-1])), hyper_parameters(algorithm)
    options = [
        left_open(
            spec,
            {"int": int, "float": float}[str(spec.type)],
            text.get(spec.name, ""),
            f"{getattr(usual, spec.name)}",
        )
        for spec in dataclasses.fields(family)
    ]
    namespace = {"algorithm": algorithm, "__doc__": TEXTS[algorithm]}
    return dataclasses.make_dataclass(
        f"Train_{algorithm.replace('-', '_')}", options, bases=(TrainRl,), namespace=namespace, frozen=True
    )


COMMANDS: Mapping[str, type[Command]] = {algorithm: _command(algorithm) for algorithm in ALGORITHMS}
