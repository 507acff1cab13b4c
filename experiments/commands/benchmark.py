"""`cfisac benchmark`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

import agents
import baselines
from cfisac_env import files
from experiments.commands.common import GOES_ON, Command, Natural, Output, Range, Spread, Threads, open_option, progress
from experiments.errors import UserError


@dataclass(frozen=True)
class Run(Spread):
    """Play the tiers of the benchmark with a policy, and write its entry: NAME.json, for the leaderboard."""

    kept: ClassVar[str] = GOES_ON

    policy: Annotated[tuple[str, ...], open_option("POLICY [POLICY ...]")] = ()
    """Name of an oracle or agent, NAME=FILE with an agent's weights, ALGORITHM=FILE.zip of Stable-Baselines3, or MODULE:OBJECT. A trained
    policy: one for each training seed."""
    name: Annotated[str | None, open_option("NAME")] = None
    """Name of the entry; by default the policy's."""
    training_seeds: Annotated[tuple[Natural, ...], open_option("SEED [SEED ...]")] = ()
    """Training seeds of the policies, in their order; five are expected. None for policies that aren't trained."""
    steps: Natural = 0
    """Environment steps of training with each seed, or labelled drops."""
    core_minutes: Annotated[float, Range(0.0, 1e9)] = 0.0
    """Minutes of training with each seed, times the number of cores; may be left out for the suite's own weights, if it isn't known."""
    tiers: Annotated[tuple[str, ...], open_option("TIER [TIER ...]")] = ()
    """Names of tiers; by default those of drops, or those of episodes for a policy over time of the suite."""
    knows: Annotated[str | None, open_option("TEXT")] = None
    """Information that decisions are based on, such as "observation, laws of motion"; by default what the policy says, or "observation"."""
    canonical_order: bool = False
    """The policy was trained in the wrapper `CanonicalOrder`: it reads and acts in that order."""
    trust: bool = False
    """Load files of Stable-Baselines3, which run code that they contain."""
    workers: Annotated[Threads | None, open_option("INT")] = 1
    """Number of processes; with several, times of decisions mean little."""
    decisions: Path = Path("runs/benchmark")
    """Folder in which decisions are kept, to go on from."""
    out: Path = Path("docs/leaderboard")
    """Folder of the entries."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Play, write."""
        from experiments.benchmark import entries, policies
        from experiments.benchmark.tiers import episode_tiers, tiers
        from experiments.results import json_text

        if not self.policy:
            raise UserError("--policy needs a policy: a name, NAME=FILE, ALGORITHM=FILE.zip or MODULE:OBJECT")
        count = {name: tier.drops for name, tier in tiers().items()}
        count |= {name: tier.episodes for name, tier in episode_tiers().items()}
        names = self.tiers or tuple(
            episode_tiers() if self.policy[0] in [*baselines.SEQUENTIAL, *agents.SEQUENTIAL] else tiers()
        )
        for name in names:
            if name not in count:
                raise UserError(f"there is no tier {name!r}; valid tiers: {', '.join(count)}")
        training = self._training(policies.trained(self.policy[0]))
        built = [policies.build(one, trust=self.trust) for one in self.policy]
        title = self.name or policies.short(self.policy[0])
        if not title.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise UserError(f"--name is the name of a file: letters, digits, hyphens and dots, got {title!r}")
        files.check_writable(self.decisions, folder=True)
        with progress() as bar:
            task = bar.add_task("deciding", total=len(built) * sum(count[name] for name in names))
            played = entries.play(
                built,
                names,
                self.decisions / title,
                lambda: bar.update(task, advance=1),
                canonical=self.canonical_order,
                workers=self.workers,
                ray=self.ray,
            )
        knows = self.knows or str(getattr(built[0], "knows", "observation"))
        content = entries.entry(title, self.policy, knows, training, played)
        path = files.write_text(self.out / f"{title}.json", json_text(content))
        console.print(f"wrote {path}; `cfisac benchmark leaderboard` ranks it", markup=False, highlight=False)

    def _training(self, trained: bool) -> Any:
        from experiments.benchmark.entries import Training

        if not trained and not self.training_seeds:
            return None
        shipped = all(one in agents.AGENTS for one in self.policy)
        if len(self.training_seeds) != len(self.policy) or not self.steps or not (self.core_minutes or shipped):
            raise UserError(
                f"a trained policy needs --training-seeds, one for each --policy, --steps and --core-minutes above 0; got "
                f"{len(self.policy)} policies, {len(self.training_seeds)} seeds, {self.steps} steps and {self.core_minutes:g} minutes"
            )
        return Training(self.training_seeds, self.steps, self.core_minutes or None)


@dataclass(frozen=True)
class Leaderboard(Command):
    """Score all entries of a folder; writes leaderboard.md and leaderboard.png."""

    entries: Path = Path("docs/leaderboard")
    """Folder of the entries."""
    out: Path = Path("docs/results/leaderboard")
    """Folder of the page."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Read, score, write, print."""
        from experiments.benchmark import entries, leaderboard

        paths = sorted(self.entries.glob("*.json"))
        if not paths:
            raise UserError(f"{self.entries} has no entries; `cfisac benchmark run` writes one")
        read = [entries.read(path) for path in paths]
        leaderboard.result(read, entries.reference(), entries.reference_episodes()).publish(self.out, console)


@dataclass(frozen=True)
class Reference(Command):
    """Decide every drop with the rule and the best oracles, play every episode with `hysteresis` and `clairvoyant`: the scale of scores."""

    kept: ClassVar[str] = GOES_ON
    output: ClassVar[Output] = "file"

    decisions: Path = Path("runs/benchmark")
    """Folder in which decisions are kept, to go on from."""
    out: Path = Path("experiments/benchmark/reference.json")
    """File of the reference."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Decide, write."""
        from experiments.benchmark import entries
        from experiments.benchmark.tiers import episode_tiers, tiers
        from experiments.results import json_text

        with progress() as bar:
            total = sum(tier.drops for tier in tiers().values()) * (1 + len(entries.BEST))
            total += sum(tier.episodes for tier in episode_tiers().values()) * len(entries.SCALE)
            task = bar.add_task("deciding", total=total)
            made = entries.make_reference(self.decisions / "reference", lambda: bar.update(task, advance=1))
        console.print(f"wrote {files.write_text(self.out, json_text(made))}", markup=False, highlight=False)


BENCHMARK: Mapping[str, type[Command]] = {"run": Run, "leaderboard": Leaderboard, "reference": Reference}
