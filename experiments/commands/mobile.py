"""`cfisac mobile`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from cfisac_env import files, seeds
from experiments.commands.common import GOES_ON, Command, Count, Range, Seed, announce, open_option, progress
from experiments.errors import UserError


@dataclass(frozen=True)
class Environment:
    """Arguments of `CfIsacMobile-v0` besides the configuration."""

    episode_steps: int = 50
    """Decisions an episode."""
    step_s: float = 1.0
    """Time between decisions in s."""
    switching_energy_j: float = 0.0
    """Energy of switching an AP on in J."""
    wake_up_steps: int = 0
    """Instants during which an AP that was switched on serves nobody."""
    user_speed_m_s: float = 1.5
    """Speed of the users in m/s."""
    target_speed_m_s: float = 15.0
    """Speed of the targets in m/s."""
    decorrelation_m: float = 13.0
    """Decorrelation distance of the shadowing in m."""


@dataclass(frozen=True)
class Mobile(Command):
    """Compare policies over episodes with moving users and targets and with switching energy; writes mobile.json, .csv, .md and .png."""

    configured: ClassVar[bool] = True
    kept: ClassVar[str] = GOES_ON

    environment: Annotated[Environment, tyro.conf.arg(name="")] = field(default_factory=Environment)
    policies: tuple[str, ...] = (
        "full-ap", "strongest-ap", "myopic", "hysteresis", "keep-credit", "predictive", "clairvoyant",
    )  # fmt: skip
    """Names of policies and agents, with options as in predictive:hold=6,futures=48. `clairvoyant` knows the whole episode."""
    episodes: Count = 24
    """Number of episodes."""
    seed: Seed = seeds.TEST
    """Seed of the first episode; the others follow."""
    every: bool = False
    """Play episodes with a certified infeasible instant, too, instead of skipping them."""
    workers: Count = 1
    """Number of processes."""
    payback_s: float = 10.0
    """Time in s within which `hysteresis` and `keep-credit` expect a switch to pay for itself."""
    bound_s: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Processor time in s per instant for the certified lower bound that accounts for switching, computed by `clairvoyant`; at 0 it is the
    sum of the instants' bounds."""
    timeline: Annotated[Path | None, open_option("FILE.png")] = None
    """Picture of the first episode: which APs each policy has on, waking and off over time, and the energy so far."""
    animation: Annotated[Path | None, open_option("FILE.gif")] = None
    """Animation of the first episode: the maps of all policies side by side."""
    out: Path = Path("runs/mobile")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Play, write, print."""
        from experiments import episode, mobile

        for path, suffix in ((self.timeline, ".png"), (self.animation, ".gif")):
            if path is not None and path.suffix != suffix:
                raise UserError(
                    f"the file of --{'timeline' if suffix == '.png' else 'animation'} ends in {suffix}, got {path}"
                )
            if path is not None:
                files.check_writable(path, folder=False)
        settings = fields | vars(self.environment)
        with progress() as bar:
            task = bar.add_task("playing", total=self.episodes * len(dict.fromkeys(self.policies)))
            comparison = mobile.run(
                settings,
                self.policies,
                self.episodes,
                self.seed,
                payback_s=self.payback_s,
                bound_s=self.bound_s,
                every=self.every,
                workers=self.workers,
                folder=self.out,
                step=lambda name: bar.update(task, advance=1, description=name),
            )
        mobile.result(comparison, mobile.summarise(comparison)).publish(self.out, console)
        if self.timeline is not None or self.animation is not None:
            courses = episode.play(settings, self.policies, comparison.seeds[0], self.payback_s)
            announce(console, episode.write(courses, self.timeline, self.animation))
