"""`cfisac trace`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rich.console import Console

from cfisac_env import SystemConfig
from experiments.commands.common import Command, Count, Output, Seed, progress


@dataclass(frozen=True)
class Trace(Command):
    """Trace the rays of a city with Sionna RT (extra `sionna`) and write a drops file that CfIsac-v0 plays and `compare` compares."""

    configured: ClassVar[bool] = True
    output: ClassVar[Output] = "file"

    scene: str = "etoile"
    """Bundled scene of sionna.rt.scene (etoile, munich, florence, …), or the path of a Mitsuba scene."""
    mount: Literal["facade", "roof"] = "facade"
    """Where APs and receivers are."""
    ap_height_m: float = 8.0
    """Height of those on façades; roofs have their own."""
    user_height_m: float = 1.5
    """Height of users."""
    max_depth: int = 4
    """Reflections that a path may have."""
    samples: int = 200_000
    """Rays shot from every AP."""
    diffraction: bool = True
    """Whether rays bend around edges."""
    floor_db: float = -160.0
    """Gain of links without a path, and the least of any."""
    drops: Count = 20
    """Number of drops: users and targets stand anew in each, APs and receivers stay."""
    instants: Count = 1
    """Instants of each drop: with several, users and targets go along the streets, and CfIsacMobile-v0 plays the file."""
    step_s: float = 1.0
    """Seconds from one instant to the next."""
    user_speed_m_s: float = 1.5
    """Speed of the users."""
    target_speed_m_s: float = 15.0
    """Speed of the targets."""
    seed: Seed = 0
    """Of the positions and the solver."""
    out: Path = Path("runs/traced.npz")
    """The drops file."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Place, trace, write."""
        from experiments import trace

        config = SystemConfig(**fields)
        tracing = trace.Tracing(
            scene=self.scene,
            mount=self.mount,
            ap_height_m=self.ap_height_m,
            user_height_m=self.user_height_m,
            max_depth=self.max_depth,
            samples=self.samples,
            diffraction=self.diffraction,
            floor_db=self.floor_db,
        )
        walk = trace.Walk(self.instants, self.step_s, self.user_speed_m_s, self.target_speed_m_s)
        with progress() as bar:
            task = bar.add_task(f"tracing {self.scene}", total=self.drops * self.instants * config.K * config.M)

            def step(links: int) -> None:
                bar.advance(task, links)

            traced = trace.trace(config, tracing, self.drops, self.seed, step, walk)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        traced.drops.save(self.out)
        what = "drops" if self.instants == 1 else f"drops of {self.instants} instants"
        console.print(
            f"{self.drops} {what}, {config.M} APs and {config.K} users; {traced.without_path:.0%} of the links have no path and get "
            f"{self.floor_db:g} dB",
            soft_wrap=True,
        )
        console.print(f"wrote {self.out}", soft_wrap=True)
