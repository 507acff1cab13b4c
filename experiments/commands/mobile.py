"""`cfisac mobile`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

from cfisac_env import seeds
from experiments.commands.common import GOES_ON, Command, Count, Range, Seed, progress, wrote


@dataclass(frozen=True)
class Mobile(Command):
    """Compare policies over episodes in which users walk, targets drive and switching costs; writes mobile.json, .csv, .md and .png."""

    configured: ClassVar[bool] = True
    kept: ClassVar[str] = GOES_ON

    policies: tuple[str, ...] = (
        "full-ap", "strongest-ap", "myopic", "hysteresis", "keep-credit", "predictive", "clairvoyant",
    )  # fmt: skip
    """Names of policies and agents, with options as in predictive:hold=6,futures=48. `clairvoyant` sees the whole episode."""
    episodes: Count = 24
    """Number of episodes, in all of which every instant can be served."""
    seed: Seed = seeds.TEST
    """Seed of the first episode; the others follow."""
    every: bool = False
    """Play episodes in which an instant is certified to be beyond service, too, instead of passing over them."""
    workers: Count = 1
    """Processes that play episodes side by side."""
    episode_steps: int = 50
    """Decisions an episode."""
    step_s: float = 1.0
    """Seconds from one to the next."""
    switching_energy_j: float = 0.0
    """What switching an AP on costs, in J."""
    wake_up_steps: int = 0
    """Instants during which an AP that was switched on serves nobody."""
    user_speed_m_s: float = 1.5
    """Speed of the users."""
    target_speed_m_s: float = 15.0
    """Speed of the targets."""
    decorrelation_m: float = 13.0
    """Decorrelation distance of the shadowing."""
    payback_s: float = 10.0
    """Of `hysteresis` and `keep-credit`: within so many seconds a switch has to pay for itself."""
    bound_s: Annotated[float, Range(0.0, 1e6)] = 0.0
    """Seconds of exact search for each instant's lower bound; at 0 it is P_all + n_min P_cir."""
    out: Path = Path("runs/mobile")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Play, write, print."""
        from experiments import mobile

        dynamics = {
            name: getattr(self, name)
            for name in (
                "episode_steps", "step_s", "switching_energy_j", "wake_up_steps", "user_speed_m_s", "target_speed_m_s",
                "decorrelation_m",
            )
        }  # fmt: skip
        with progress() as bar:
            task = bar.add_task("playing", total=self.episodes * len(dict.fromkeys(self.policies)))

            def step(name: str) -> None:
                bar.update(task, advance=1, description=name)

            comparison = mobile.run(
                fields | dynamics,
                self.policies,
                self.episodes,
                self.seed,
                payback_s=self.payback_s,
                bound_s=self.bound_s,
                every=self.every,
                workers=self.workers,
                folder=self.out,
                step=step,
            )
        rows = mobile.summarise(comparison)
        written = mobile.write(self.out, comparison, rows)
        mobile.table(comparison, rows).show(console, f"mobile.md and mobile.csv in {self.out}")
        wrote(console, written)
