"""`cfisac train ddpg`, `td3`, `sac`, `ppo` and `maskable-ppo`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from rich.console import Console

from agents.rl.parameters import ALGORITHMS, FAMILY, TUNED, HyperParameters, hyper_parameters, usual_policy
from cfisac_env import SystemConfig
from experiments.commands.common import GOES_ON, Command, Output, open_option, progress
from experiments.commands.options import left_open, texts

if TYPE_CHECKING:
    from agents.rl.models import Run


@dataclass(frozen=True)
class TrainRl(Command):
    """Options of every algorithm."""

    configured: ClassVar[bool] = True
    output: ClassVar[Output] = "own"
    kept: ClassVar[str] = GOES_ON
    algorithm: ClassVar[str]

    seed: int = 0
    """Of everything random, from 0 to 399; every seed trains on drops of its own."""
    out: Annotated[Path | None, open_option("FOLDER")] = None
    """Folder of the run; by default runs/ALGORITHM-MxK-seedSEED. A run that is there and was stopped goes on."""
    resume: bool = True
    """Go on with the run in the folder; --no-resume refuses a folder that holds one."""
    validation_drops: int = 50
    """Number of fixed drops on which the agent is held against local-search."""
    policy: Annotated[
        Literal["mlp", "sorted-mlp", "graph", "sets"] | None, open_option("{mlp,sorted-mlp,graph,sets}")
    ] = None
    """The paper's MLPs on the flattened observation (mlp), the same with APs and users in an order and critics that hear what actions come
    to (sorted-mlp, the default of ddpg and td3), both for one M and K, or the HetGNN's layers, for every size (graph; maskable-ppo's)."""
    mixed: Annotated[
        tuple[Literal["paper", "high-rate", "urban"], ...], open_option("{paper,high-rate,urban} [...]")
    ] = ()
    """Presets whose drops ddpg trains on besides those of the configuration, as often each."""
    start_from: Annotated[str | None, open_option("FILE")] = None
    """HetGNN weights that a graph policy begins with: a file, or shipped."""
    device: str = "cpu"
    """Where torch computes."""

    def planned(self, fields: dict[str, Any]) -> Run:
        """The run that the options describe."""
        from agents.rl.models import Run, starting_from

        config = SystemConfig(**fields)
        names = [spec.name for spec in dataclasses.fields(FAMILY[self.algorithm])]
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        parameters = hyper_parameters(self.algorithm, config, self.policy, **given)
        run = Run(
            self.algorithm,
            config,
            parameters,
            self.seed,
            self.policy,
            mixed=self.mixed,
            validation_drops=self.validation_drops,
        )
        return run if self.start_from is None else starting_from(run, self.start_from)

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Train, print, write."""
        import torch

        from agents.rl import training

        run = self.planned(fields)
        kind = "" if run.policy == usual_policy(self.algorithm) else f"-{run.policy}"
        folder = self.out or Path(f"runs/{self.algorithm}{kind}-{run.config.M}x{run.config.K}-seed{self.seed}")

        def complain(line: str) -> None:
            console.print(line, style="yellow", markup=False, soft_wrap=True)

        torch.set_num_threads(1)  # networks this small lose by more
        with progress() as bar:
            task = bar.add_task(self.algorithm, total=run.parameters.steps)

            def step(steps: int, text: str) -> None:
                bar.update(task, completed=steps, description=f"{self.algorithm} {text}")

            result = training.train(run, folder, resume=self.resume, device=self.device, step=step, complain=complain)
        last = result.curve[-1]
        console.print(
            f"{int(last['steps'])} steps in {result.seconds:.0f} s: {100 * last['feasible']:.1f} % feasible, "
            f"gap {100 * last['gap']:.1f} %, {last['active_aps']:.1f} APs on"
        )
        for name in (training.BEST, training.CURVE):
            console.print(f"wrote {folder / name}", soft_wrap=True)


def _command(algorithm: str) -> type[Command]:
    """The command of an algorithm: its hyper-parameters are options, left open so that the tuned values fill them."""
    family = FAMILY[algorithm]
    text, usual = texts(HyperParameters, family), hyper_parameters(algorithm, SystemConfig())
    tuned = {name for (of, *_), values in TUNED.items() if of == algorithm for name in values}
    options = [
        left_open(
            spec,
            {"int": int, "float": float}[str(spec.type)],
            text.get(spec.name, ""),
            f"{getattr(usual, spec.name)}{', tuned for some sizes' if spec.name in tuned else ''}",
        )
        for spec in dataclasses.fields(family)
    ]
    namespace = {"algorithm": algorithm, "__doc__": f"Train an agent with {algorithm.upper()}, for one M and K."}
    return dataclasses.make_dataclass(
        f"Train_{algorithm.replace('-', '_')}", options, bases=(TrainRl,), namespace=namespace, frozen=True
    )


COMMANDS: Mapping[str, type[Command]] = {algorithm: _command(algorithm) for algorithm in ALGORITHMS}
