"""The reproduction from missing decisions to written files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfisac_env import SystemConfig
from experiments import compare, parallel, results
from experiments.reproduction import decisions, figures, points, policies, printed, summary, tables, timing
from experiments.reproduction.options import Options
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.reproduction.tables import Shown

TARGETS = ("table2", "fig3", "fig4", "times")


@dataclass
class Reproduction:
    """A folder of results."""

    folder: Path
    options: Options
    names: tuple[str, ...]  # of the policies
    targets: tuple[str, ...]  # of `TARGETS`
    stores: dict[Point, PointStore]  # of the points that the targets need
    times: timing.TimingStore
    notes: list[str] = dataclasses.field(default_factory=list)  # missing agents, and how to get them
    absent: set[tuple[Point, str]] = dataclasses.field(default_factory=set)  # points at which an agent is missing

    @classmethod
    def open(
        cls, folder: Path, options: Options, targets: Sequence[str] = TARGETS, again: Sequence[str] = ()
    ) -> Reproduction:
        """Open a folder, which need not exist yet, to add to it.

        Args:
            again: policies whose stored decisions and times are thrown away.

        Raises:
            ValueError: an unknown policy or preset, or results of another version.
        """
        names = tuple(dict.fromkeys(options.policies)) or policies.names()
        policies.check((*names, *again))
        for preset in options.presets:
            SystemConfig(preset=preset)
        compare.check_reference(options.reference, names)
        needed = points.of(target for target in targets if target != "times")
        stores = {point: PointStore(folder, point, options.time_limit) for point in needed}
        self = cls(folder, options, names, tuple(targets), stores, timing.TimingStore(folder))
        if again:
            self.times.forget(again)
            for store in stores.values():
                store.forget(again)
        self._find_missing()
        return self

    @classmethod
    def read(cls, folder: Path, reference: str) -> Reproduction:
        """Open a folder to show all stored decisions.

        Raises:
            FileNotFoundError: there are no results.
            ValueError: they are of another version, or the reference isn't among the policies.
        """
        present = [point for point in points.of(["table2", "fig3"]) if PointStore.file(folder, point).is_file()]
        if not present:
            raise FileNotFoundError(f"no results in {folder}; make them with: cfisac reproduce all --out {folder}")
        stores = {point: PointStore(folder, point) for point in present}
        names = sorted(
            {name for store in stores.values() for line in store.drops.values() for name in line["decisions"]}
        )
        compare.check_reference(reference, names)
        return cls(folder, Options(reference=reference), tuple(names), TARGETS, stores, timing.TimingStore(folder))

    def _find_missing(self) -> None:
        """Note the agents that can't decide; one without any weights only if it was asked for or is the paper's."""
        observations = {point: decisions.drop(point, self.options.seed).observation for point in self.stores}
        for name in self.names:
            why: dict[Point, str] = {}
            for point, observation in observations.items():
                try:
                    policies.check_there(name, point, observation)
                except policies.MissingAgentError as error:
                    why[point] = str(error)
            self.absent |= {(point, name) for point in why}
            if why and (self.options.policies or name in policies.LEARNED or len(why) < len(self.stores)):
                where = ", ".join(point.key for point in why)
                self.notes.append(
                    f"`{name}` is missing at {where}: {next(iter(why.values()))}; the tables are made without it"
                )

    def tasks(self) -> list[decisions.Task]:
        """List the missing decisions: for each drop one task for the quick policies and one for each slow one."""
        options, result = self.options, []
        for point, store in self.stores.items():
            if point.preset not in options.presets:
                continue
            present = [name for name in self.names if (point, name) not in self.absent]
            quick = tuple(name for name in present if name not in policies.SLOW)
            slow = [(name,) for name in present if name in policies.SLOW]
            if options.slow_links is not None and options.slow_links < point.M * point.K:
                slow = []
            for i in range(options.drops):
                seed = options.seed + i
                for group in (quick, *(slow if i < options.slow_drops else ())):
                    missing = store.missing(seed, group)
                    new = seed not in store.drops and group is quick
                    if missing or new:
                        result.append(decisions.Task(point, seed, missing, options.time_limit, new))
        return result

    def decide(
        self, tasks: Sequence[decisions.Task], workers: int | None, ray: str | None, step: Callable[[str], None]
    ) -> None:
        """Make decisions; each drop is on disk before it is counted, and files are put in order at the end."""
        for point in {task.point for task in tasks}:
            self.stores[point].journal.check_version()
        lines = parallel.in_order(decisions.solve, tasks, workers=workers, ray=ray)
        try:
            for task, line in zip(tasks, lines, strict=True):
                self.stores[task.point].append(line)
                step(task.point.key)
        finally:
            for point in {task.point for task in tasks}:
                self.stores[point].tidy()

    def time(self, step: Callable[[str], None]) -> None:
        """Time Table II's sizes and, for `times`, the larger ones."""
        options = self.options
        table = points.TABLE if {"table2", "times"} & set(self.targets) else ()
        larger = [p for p in points.SCALING if options.largest >= p.M] if "times" in self.targets else []
        for sizes in (table, larger):
            timing.measure(
                self.times,
                sizes,
                self.names,
                seed=options.seed,
                drops=options.timed_drops,
                budget_s=options.time_budget,
                time_limit_s=options.time_limit,
                step=step,
            )

    def shown(self) -> dict[Point, Shown]:
        """Summarise all stored decisions."""
        data = {point: summary.read(store, self.names) for point, store in self.stores.items() if store.drops}
        timed = self.times.seconds
        return {
            point: (one, summary.summarise(one, self.options.reference, timed.get(point.key, {})))
            for point, one in data.items()
        }

    def write(self) -> list[Path]:
        """Write the tables and figures of all stored decisions, together."""
        shown, contents = self.shown(), dict[str, Any]()
        if "table2" in self.targets:
            contents |= self._table({point: shown[point] for point in points.TABLE if point in shown})
        sweeps = {point: shown[point] for point in points.of(["fig3"]) if point in shown}
        for figure in (figures.POWER, figures.ACTIVE):
            if figure.name in self.targets:
                contents |= self._figure(figure, sweeps)
        if "times" in self.targets:
            contents |= self._times()
        return results.write(self.folder, contents)

    def _table(self, shown: Mapping[Point, Shown]) -> dict[str, Any]:
        paper = tables.printed_table({point: rows for point, (_, rows) in shown.items()})
        parts = ["# Table II\n", paper.markdown(), tables.WATTS_DIFFER + "\n"]
        for point, (data, rows) in shown.items():
            counted = f"{tables.counted(data)}; differences to `{self.options.reference}`\n"
            claims = "".join(f"- {text}\n" for text in summary.sentences(data, self.times.seconds))
            parts += [f"## {tables.title(point)}\n", counted, tables.point_table(rows).markdown(), claims]
        return self._files("table2", parts, shown, {"printed": printed.cells()})

    def _figure(self, figure: figures.Quantity, shown: Mapping[Point, Shown]) -> dict[str, Any]:
        rows = {point: here for point, (_, here) in shown.items()}
        name, label = figure.name, figure.label
        parts = [
            f"# Fig. {name[-1]}: {label}\n",
            f"![{label}]({name}.png)\n",
            f"![{label}, every preset]({name}-presets.png)\n",
        ]
        parts += [tables.curve_table(shown, along, figure.value) for along in points.sweeps()]
        for point in points.over_users("paper") if figure is figures.POWER else ():
            if point in shown:
                claims = summary.claims(shown[point][0])
                parts += [f"## {tables.title(point)}\n", "".join(f"- {claim.text}\n" for claim in claims)]
        pictures = _pictures(name, figures.comparison(rows, figure))
        pictures |= _pictures(f"{name}-presets", figures.every_preset(rows, figure))
        return pictures | self._files(name, parts, shown, {})

    def _times(self) -> dict[str, Any]:
        seconds = self.times.seconds
        text = tables.time_table(seconds).markdown() + "\n" + tables.time_notes(self.options.time_budget)
        return {
            "times.md": f"# Time a decision\n\n![time a decision](times.png)\n\n{text}",
            "times.csv": tables.time_csv(seconds),
            **_pictures("times", figures.scaling(seconds)),
        }

    def _files(
        self, name: str, parts: Sequence[str], shown: Mapping[Point, Shown], more: Mapping[str, Any]
    ) -> dict[str, Any]:
        notes = "".join(f"- {note}\n" for note in self.notes)
        legend = tables.LEGEND + (f"\nMissing here:\n\n{notes}" if notes else "")
        content = {
            "reference": self.options.reference,
            "time_limit_s": self.options.time_limit,
            "missing": self.notes,
            **more,
            "points": [
                {
                    "config": point.config.as_dict(),
                    "seeds": [*data.served, *data.infeasible],
                    "certified_infeasible": data.infeasible,
                    "per_drop": f"drops/{point.key}.jsonl",
                    "rows": rows,
                    "claims": summary.claims(data),
                }
                for point, (data, rows) in shown.items()
            ],
        }
        return {
            f"{name}.md": "\n".join([*parts, legend]),
            f"{name}.csv": tables.csv_text(shown),
            f"{name}.json": content,
        }


def _pictures(name: str, figure: Any) -> dict[str, Any]:
    return {f"{name}.{kind}": figure for kind in ("svg", "png")}
