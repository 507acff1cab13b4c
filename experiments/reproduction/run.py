"""The reproduction from missing decisions to written files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfisac_env import PRESETS, SystemConfig, seeds
from experiments import compare, parallel, results
from experiments.reproduction import decisions, figures, points, policies, printed, summary, tables, timing
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.reproduction.summary import PointData, Row

TARGETS = ("table2", "fig3", "fig4", "times")


@dataclass(frozen=True)
class Options:
    """How much is decided, by whom, and where it goes."""

    folder: Path
    names: tuple[str, ...]
    named: bool = False  # the names were asked for, not taken from what there is
    presets: tuple[str, ...] = tuple(
        PRESETS
    )  # whose points are decided; what is stored of others is shown all the same
    drops: int = 100
    slow_drops: int = 20
    seed: int = seeds.TEST
    reference: str = "local-search"
    time_limit_s: float = 10.0  # a drop, of branch-and-bound
    timed_drops: int = 5
    budget_s: float = 60.0  # of timing one policy at one point
    largest: int = max(points.SCALING_APS)  # M of the timing pass
    slow_links: int | None = None  # slow policies are left out where M·K is larger


@dataclass
class Reproduction:
    """One folder of results.

    Attributes:
        options: how much is decided, and by whom.
        targets: of `TARGETS`.
        stores: of the points that the targets need.
        times: of the timing pass.
        notes: agents that are missing, with what to do.
    """

    options: Options
    targets: tuple[str, ...]
    stores: dict[Point, PointStore]
    times: timing.TimingStore
    notes: list[str]

    @classmethod
    def open(cls, options: Options, targets: Sequence[str], again: Sequence[str] = ()) -> Reproduction:
        """Read what the folder holds.

        Args:
            options: how much is decided, and by whom.
            targets: of `TARGETS`.
            again: policies whose stored decisions and times are thrown away.

        Raises:
            ValueError: an unknown policy or preset, or results of another version.
        """
        policies.check((*options.names, *again))
        for preset in options.presets:
            SystemConfig(preset=preset)
        compare.check_reference(options.reference, options.names)
        needed = points.of(target for target in targets if target != "times")
        stores = {point: PointStore(options.folder, point, options.time_limit_s) for point in needed}
        times = timing.TimingStore(options.folder)
        if again:
            times.forget(again)
            for store in stores.values():
                store.forget(again)
        self = cls(options, tuple(targets), stores, times, [])
        self._find_missing()
        return self

    @classmethod
    def read(cls, folder: Path, reference: str) -> Reproduction:
        """What a folder holds, of whatever points and policies, to look at.

        Raises:
            FileNotFoundError: there are no results.
            ValueError: they are of another version, or the reference isn't among the policies.
        """
        present = [point for point in points.of(["table2", "fig3"]) if PointStore.file(folder, point).is_file()]
        if not present:
            raise FileNotFoundError(f"no results in {folder}; make them with: cfisac reproduce all --out {folder}")
        stores = {point: PointStore(folder, point) for point in present}
        names = {name for store in stores.values() for line in store.drops.values() for name in line["decisions"]}
        compare.check_reference(reference, sorted(names))
        options = Options(folder, tuple(sorted(names)), reference=reference)
        return cls(options, TARGETS, stores, timing.TimingStore(folder), [])

    def _find_missing(self) -> None:
        """Load every agent once. One that has no weights at all is only missed where it was asked for, or where the paper has it."""
        self._absent: set[tuple[Point, str]] = set()
        observations = {point: decisions.drop(point, self.options.seed).observation for point in self.stores}
        for name in self.options.names:
            why: dict[Point, str] = {}
            for point in self.stores:
                try:
                    policies.check_there(name, point, observations[point])
                except policies.MissingAgentError as error:
                    why[point] = str(error)
            self._absent |= {(point, name) for point in why}
            if why and (self.options.named or name in policies.LEARNED or len(why) < len(self.stores)):
                where = ", ".join(point.key for point in why)
                self.notes.append(
                    f"`{name}` is missing at {where}: {next(iter(why.values()))}; the rest of the tables still comes"
                )

    def tasks(self) -> list[decisions.Task]:
        """What hasn't been decided: for each drop one task for the quick policies and one for each slow one."""
        options, result = self.options, []
        for point, store in self.stores.items():
            if point.preset not in options.presets:
                continue
            present = [name for name in options.names if (point, name) not in self._absent]
            quick = [name for name in present if name not in policies.SLOW]
            slow = [name for name in present if name in policies.SLOW]
            if options.slow_links is not None and options.slow_links < point.M * point.K:
                slow = []
            for i in range(options.drops):
                seed = options.seed + i
                new = seed not in store.drops
                groups = [tuple(quick), *((name,) for name in slow if i < options.slow_drops)]
                for group in groups:
                    left = store.missing(seed, group)
                    if left or (new and group is groups[0]):
                        result.append(
                            decisions.Task(point, seed, left, options.time_limit_s, new and group is groups[0])
                        )
        return result

    def decide(
        self, tasks: Sequence[decisions.Task], workers: int | None, ray: str | None, step: Callable[[str], None]
    ) -> None:
        """Decide; every drop is on disk before the next is counted. Files are put in order at the end."""
        lines = parallel.in_order(decisions.solve, tasks, workers=workers, ray=ray)
        try:
            for task, line in zip(tasks, lines, strict=True):
                self.stores[task.point].append(line)
                step(task.point.key)
        finally:
            for point in {task.point for task in tasks}:
                self.stores[point].tidy()

    def time(self, step: Callable[[str], None]) -> None:
        """The timing pass of Table II's sizes and, for `times`, of the larger ones."""
        options = self.options
        sizes = [*points.TABLE] if {"table2", "times"} & set(self.targets) else []
        if "times" in self.targets:
            sizes += [point for point in points.SCALING if options.largest >= point.M]
        for family in (points.TABLE, points.SCALING):
            timing.measure(
                self.times,
                [point for point in sizes if point in family],
                options.names,
                seed=options.seed,
                drops=options.timed_drops,
                budget_s=options.budget_s,
                time_limit_s=options.time_limit_s,
                step=step,
            )

    def write(self) -> list[Path]:
        """Write tables and figures of everything that is stored, together."""
        data = self.data()
        rows = {point: self.rows(one) for point, one in data.items()}
        contents: dict[str, Any] = {}
        if "table2" in self.targets:
            contents |= self._table({point: (data[point], rows[point]) for point in points.TABLE if point in data})
        shown = {point: (data[point], rows[point]) for point in points.of(["fig3"]) if point in data}
        for target, quantity, label, log in (
            ("fig3", figures.total_power, "total power, W", True),
            ("fig4", figures.active_aps, "active APs", False),
        ):
            if target in self.targets:
                contents |= self._figure(target, shown, quantity, label, log)
        if "times" in self.targets:
            contents |= self._times()
        return results.write(self.options.folder, contents)

    def data(self) -> dict[Point, PointData]:
        """What is stored, point by point."""
        names = self.options.names
        return {
            point: summary.collect(store, sorted(store.drops), names)
            for point, store in self.stores.items()
            if store.drops
        }

    def rows(self, data: PointData) -> list[Row]:
        """The table of one point."""
        return summary.rows(data, self.options.reference, self.times.seconds.get(data.point.key, {}))

    def _table(self, shown: Mapping[Point, tuple[PointData, list[Row]]]) -> dict[str, Any]:
        parts = [
            "# Table II\n",
            tables.printed_table({point: rows for point, (_, rows) in shown.items()}).markdown(),
            tables.WATTS_DIFFER + "\n",
        ]
        for point, (data, rows) in shown.items():
            counted = f"{tables.counted(data)}; differences to `{self.options.reference}`\n"
            parts += [f"## {tables.title(point)}\n", counted, tables.point_table(rows).markdown()]
            said = [claim.text for claim in summary.claims(data)] + summary.speed_claims(self.times.seconds, point)
            parts.append("".join(f"- {text}\n" for text in said))
        parts.append(self._legend())
        return self._texts("table2", "\n".join(parts), shown, {"printed": printed_json()})

    def _figure(
        self,
        target: str,
        shown: Mapping[Point, tuple[PointData, list[Row]]],
        quantity: Callable[[Row], Any],
        label: str,
        log: bool,
    ) -> dict[str, Any]:
        rows = {point: here for point, (_, here) in shown.items()}
        pictures = _both_kinds(target, figures.comparison(rows, quantity, label, log))
        pictures |= _both_kinds(f"{target}-presets", figures.every_preset(rows, quantity, label, log))
        parts = [
            f"# Fig. {target[-1]}: {label}\n",
            f"![{label}]({target}.png)\n",
            f"![{label}, every preset]({target}-presets.png)\n",
        ]
        parts += [tables.curve_table(shown, along, quantity) for along in points.sweeps()]
        if target == "fig3":
            for point in (point for point in points.over_users("paper") if point in shown):
                said = summary.claims(shown[point][0])
                parts += [f"## {tables.title(point)}\n", "".join(f"- {claim.text}\n" for claim in said)]
        parts.append(self._legend())
        return {**pictures, **self._texts(target, "\n".join(parts), shown, {})}

    def _times(self) -> dict[str, Any]:
        seconds = self.times.seconds
        text = tables.time_table(seconds).markdown() + "\n" + tables.time_notes(self.options.budget_s)
        return {
            "times.md": f"# Time a decision\n\n![time a decision](times.png)\n\n{text}",
            "times.csv": tables.time_csv(seconds),
            **_both_kinds("times", figures.scaling(seconds)),
        }

    def _legend(self) -> str:
        notes = "".join(f"- {note}\n" for note in self.notes)
        return tables.LEGEND + (f"\nMissing here:\n\n{notes}" if notes else "")

    def _texts(
        self, name: str, text: str, shown: Mapping[Point, tuple[PointData, list[Row]]], more: Mapping[str, Any]
    ) -> dict[str, Any]:
        content = {
            "reference": self.options.reference,
            "time_limit_s": self.options.time_limit_s,
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
        return {f"{name}.md": text, f"{name}.csv": tables.csv_text(shown), f"{name}.json": content}


def _both_kinds(name: str, figure: Any) -> dict[str, Any]:
    return {f"{name}.{kind}": figure for kind in ("svg", "png")}


def printed_json() -> list[dict[str, Any]]:
    """Table II as the paper prints it."""
    return [
        {"M": M, "K": K, "policy": name, **dataclasses.asdict(cell)}
        for (M, K), row in printed.TABLE_II.items()
        for name, cell in row.items()
    ]
