"""`cfisac reproduce …`, the paper's errata, tables and figures, and `cfisac report`, a page of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from cfisac_env import SystemConfig, json_files, seeds
from cfisac_env.files import check_writable, write_text
from experiments.commands.common import (
    GOES_ON,
    Command,
    Count,
    Natural,
    Output,
    Seed,
    Spread,
    announce,
    open_option,
    progress,
)
from experiments.reproduction.options import Options


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
        from experiments.reproduction import errata, errata_drops

        if self.page is not None:
            if not self.page.is_file():
                raise FileNotFoundError(f"no page at {self.page}; --page names an existing Markdown file")
            check_writable(self.page, folder=False)
            errata.check_quotes(json_files.read(self.page))
        config, drops = SystemConfig(**fields), []
        with progress() as bar:
            for seed in bar.track(range(self.seed, self.seed + self.drops), description="measuring"):
                drops.append(errata_drops.measure_drop(config, seed))
        measured = errata.summarise(drops)
        result = errata.result(config, self.seed, drops, measured)
        written = result.write(self.out)
        if self.page is not None:
            written.append(write_text(self.page, errata.fill(json_files.read(self.page), measured)))
        result.show(self.out, console, written)


@dataclass(frozen=True)
class _Study(Spread):
    """Options that the tables and figures share."""

    kept: ClassVar[str] = GOES_ON
    targets: ClassVar[tuple[str, ...]]

    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    again: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Policies whose stored decisions are thrown away and made again, such as an agent that was trained anew."""
    timing: bool = True
    """Time decisions after all of them are made."""
    quick: bool = False
    """Finish within some ten minutes: few drops, short searches, small sizes for slow policies."""
    out: Path = Path("runs/paper")
    """Folder of the results. A run that was stopped goes on where it was; results of another version are refused."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Decide what is missing, time, write, print."""
        from experiments.reproduction.run import Reproduction

        options = self.options.reduced() if self.quick else self.options
        study = Reproduction.open(self.out, options, self.targets, self.again)
        tasks = study.tasks()
        with progress() as bar:
            if tasks:
                task = bar.add_task("deciding", total=len(tasks))

                def step(point: str) -> None:
                    bar.update(task, advance=1, description=f"deciding {point}")

                study.decide(tasks, self.workers, self.ray, step)
            if self.timing:
                task = bar.add_task("timing", total=None)
                study.time(lambda what: bar.update(task, description=f"timing {what}"))
                bar.update(task, total=1, completed=1, description="timed")
        written = study.write()
        for note in study.notes:
            console.print(f"note: {note}", markup=False, soft_wrap=True)
        announce(console, written)


@dataclass(frozen=True)
class Table2(_Study):
    """Table II: total power, feasibility, bounds and time at (30, 6), (30, 10), (50, 10), (50, 20), beside the paper's numbers."""

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
    """Time a decision at the sizes of Table II and with up to 1,000 APs."""

    targets: ClassVar[tuple[str, ...]] = ("times",)


@dataclass(frozen=True)
class All(_Study):
    """Table II, Fig. 3, Fig. 4 and times from one set of decisions."""

    targets: ClassVar[tuple[str, ...]] = ("table2", "fig3", "fig4", "times")


@dataclass(frozen=True)
class Report(Command):
    """Write a self-contained HTML file with the tables, figures and drops of a folder of results."""

    output: ClassVar[Output] = "file"

    results: Path = Path("docs/results/paper")
    """Folder that `cfisac reproduce … --out` wrote."""
    maps: Natural = 100
    """Drops a point with a map, at most."""
    reference: str = "local-search"
    """Policy that paired differences are taken to."""
    out: Path = Path("runs/report.html")
    """The page."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Read, build, write."""
        from experiments.reproduction import page, run

        with progress() as bar:
            bar.add_task("reading and drawing", total=None)
            study = run.Reproduction.read(self.results, self.reference)
            path = write_text(self.out, page.build(study, self.maps))
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)


REPRODUCE: Mapping[str, type[Command]] = {
    "table2": Table2, "fig3": Fig3, "fig4": Fig4, "times": Times, "all": All, "errata": Errata,
}  # fmt: skip
"""Second words of `cfisac reproduce`."""
