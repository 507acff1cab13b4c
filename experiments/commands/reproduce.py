"""`cfisac reproduce …`: the paper's errata, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

from cfisac_env import PRESETS, SystemConfig, seeds
from cfisac_env.files import check_writable, write_text
from experiments.commands.common import GOES_ON, Command, Count, Natural, Seconds, Seed, open_option, progress, wrote


@dataclass(frozen=True)
class Errata(Command):
    """Measure the paper's errata on random drops; writes errata.json and errata.md."""

    configured: ClassVar[bool] = True

    drops: Count = 100
    """Number of random drops."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/errata")
    """Folder of the results."""
    page: Annotated[Path | None, open_option("FILE")] = None
    """A Markdown page whose quoted measures are replaced by the new values."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from experiments import results, schemas
        from experiments.reproduction import errata, errata_drops

        if self.page is not None:
            if not self.page.is_file():
                raise FileNotFoundError(f"no page at {self.page}; --page names an existing Markdown file")
            check_writable(self.page, folder=False)
            errata.check_quotes(schemas.read(self.page))
        config = SystemConfig(**fields)
        drops = []
        with progress() as bar:
            for seed in bar.track(range(self.seed, self.seed + self.drops), description="measuring"):
                drops.append(errata_drops.measure_drop(config, seed))
        measured = errata.summarise(drops)
        table = errata.table(measured)
        columns = sorted({name for drop in drops for name in drop})
        content = {
            "config": config.as_dict(),
            "seeds": [self.seed, self.seed + self.drops - 1],
            "measures": {one.name: vars(one) for one in measured},
            "drops": {name: [drop.get(name) for drop in drops] for name in columns},
        }
        written = results.write(self.out, {"errata.md": table.markdown(), "errata.json": content})
        if self.page is not None:
            written.append(write_text(self.page, errata.fill(schemas.read(self.page), measured)))
        table.show(console, f"errata.md in {self.out}")
        wrote(console, written)


@dataclass(frozen=True)
class _Study(Command):
    """Options that the tables and figures share."""

    kept: ClassVar[str] = GOES_ON
    targets: ClassVar[tuple[str, ...]]

    drops: Count = 100
    """Random drops a point."""
    slow_drops: Natural = 20
    """Of them, drops that modified-bb-paper decides, too: it solves hundreds of cvxpy programs for each."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    policies: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Names of the policies; by default every oracle and every agent."""
    presets: tuple[str, ...] = tuple(PRESETS)
    """Presets whose points are decided; what is stored of others is shown all the same."""
    again: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Policies whose stored decisions are thrown away and made again, such as an agent that was trained anew."""
    reference: str = "local-search"
    """Policy that paired differences are taken to."""
    time_limit: Seconds = 10.0
    """Seconds a drop for branch-and-bound, whose lower bounds are the certified ones."""
    timed_drops: Count = 5
    """Drops that the timing pass decides, one policy after the other."""
    time_budget: Seconds = 60.0
    """Seconds for timing one policy at one size; a policy whose decision takes longer isn't timed at larger sizes."""
    timing: bool = True
    """Whether to time decisions after all of them are made."""
    workers: Annotated[Count | None, open_option("INT")] = None
    """Processes; by default one a processor."""
    ray: Annotated[str | None, open_option("ADDRESS")] = None
    """Address of a Ray cluster (`auto`, `ray://host:10001`), or `local`; by default joblib on this machine."""
    quick: bool = False
    """A look at everything within ten minutes: few drops, short searches, small sizes for what is slow."""
    out: Path = Path("runs/paper")
    """Folder of the results. A run that was stopped goes on where it was; results of another version are refused."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Decide what is missing, time, write, print."""
        from experiments.reproduction import run

        study = run.Reproduction.open(self._options(), self.targets, self.again)
        tasks = study.tasks()
        with progress() as bar:
            if tasks:
                task = bar.add_task("deciding", total=len(tasks))
                study.decide(
                    tasks,
                    self.workers,
                    self.ray,
                    lambda point: bar.update(task, advance=1, description=f"deciding {point}"),
                )
            if self.timing:
                task = bar.add_task("timing", total=None)
                study.time(lambda what: bar.update(task, description=f"timing {what}"))
                bar.update(task, total=1, completed=1, description="timed")
        written = study.write()
        for note in study.notes:
            console.print(f"note: {note}", markup=False, soft_wrap=True)
        wrote(console, written)

    def _options(self) -> Any:
        from experiments.reproduction import policies, run

        options = run.Options(
            folder=self.out,
            names=tuple(dict.fromkeys(self.policies)) or policies.names(),
            named=bool(self.policies),
            presets=self.presets,
            drops=self.drops,
            slow_drops=self.slow_drops,
            seed=self.seed,
            reference=self.reference,
            time_limit_s=self.time_limit,
            timed_drops=self.timed_drops,
            budget_s=self.time_budget,
        )
        if not self.quick:
            return options
        return replace(
            options,
            drops=min(self.drops, 4),
            slow_drops=min(self.slow_drops, 1),
            time_limit_s=min(self.time_limit, 1.0),
            timed_drops=min(self.timed_drops, 2),
            budget_s=min(self.time_budget, 5.0),
            largest=200,
            slow_links=300,
        )


@dataclass(frozen=True)
class Table2(_Study):
    """Table II: total power, feasibility, bounds and time at (30, 6), (30, 10), (50, 10), (50, 20), the paper's numbers beside."""

    targets: ClassVar[tuple[str, ...]] = ("table2",)


@dataclass(frozen=True)
class Fig3(_Study):
    """Fig. 3: total power against the number of users, against the number of APs, and on every preset."""

    targets: ClassVar[tuple[str, ...]] = ("fig3",)


@dataclass(frozen=True)
class Fig4(_Study):
    """Fig. 4: active APs against the number of users, against the number of APs, and on every preset."""

    targets: ClassVar[tuple[str, ...]] = ("fig4",)


@dataclass(frozen=True)
class Times(_Study):
    """Time a decision at the sizes of Table II and against up to 1,000 APs."""

    targets: ClassVar[tuple[str, ...]] = ("times",)


@dataclass(frozen=True)
class All(_Study):
    """Table II, Fig. 3, Fig. 4 and times from one set of decisions."""

    targets: ClassVar[tuple[str, ...]] = ("table2", "fig3", "fig4", "times")


COMMANDS: Mapping[str, type[Command]] = {
    "table2": Table2,
    "fig3": Fig3,
    "fig4": Fig4,
    "times": Times,
    "all": All,
    "errata": Errata,
}
"""Second words of `cfisac reproduce`."""
