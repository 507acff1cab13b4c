"""`cfisac trace`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from cfisac_env import SystemConfig
from experiments.commands.common import Command, Count, Output, Seed, announce, progress
from experiments.trace import Tracing, Walk


@dataclass(frozen=True)
class Trace(Command):
    """Trace the rays of a city with Sionna RT (extra `sionna`) and write a drops file for the environments and `cfisac compare`."""

    configured: ClassVar[bool] = True
    output: ClassVar[Output] = "file"

    tracing: Annotated[Tracing, tyro.conf.arg(name="")] = field(default_factory=Tracing)
    walk: Annotated[Walk, tyro.conf.arg(name="")] = field(default_factory=Walk)
    drops: Count = 20
    """Number of drops: APs and receivers stay, users and targets are placed anew."""
    seed: Seed = 0
    """Seed of the positions and the solver."""
    out: Path = Path("runs/traced.npz")
    """The drops file."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Place, trace, write."""
        from experiments import trace

        config, instants = SystemConfig(**fields), self.walk.instants
        with progress() as bar:
            task = bar.add_task(f"tracing {self.tracing.scene}", total=self.drops * instants * config.K * config.M)
            traced = trace.trace(
                config, self.tracing, self.drops, self.seed, lambda links: bar.advance(task, links), self.walk
            )
        self.out.parent.mkdir(parents=True, exist_ok=True)
        traced.drops.save(self.out)
        kind = "drops" if instants == 1 else f"drops of {instants} instants"
        console.print(
            f"{self.drops} {kind}, {config.M} APs and {config.K} users; {traced.without_path:.0%} of the links have no path and get "
            f"{self.tracing.floor_db:g} dB",
            soft_wrap=True,
        )
        announce(console, [self.out])
