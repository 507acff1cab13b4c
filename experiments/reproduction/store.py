"""Every decision of every drop, one file of JSON lines a point: appended while a run goes on, so that a killed one loses nothing.

The first line says what the file is: its format, the version that made it, the configuration. Each further line holds one
drop; policies that came later have lines of their own until the file is put in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cfisac_env
from experiments.files import plain, provenance, write_text
from experiments.reproduction.decisions import Record
from experiments.reproduction.points import Point

FORMAT = 1


@dataclass
class PointStore:
    """The stored drops of one point.

    Attributes:
        point: whose drops they are.
        path: of the file.
        header: its first line.
        drops: seed → line, with the decisions of all policies merged.
    """

    point: Point
    path: Path
    header: dict[str, Any]
    drops: dict[int, Record] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, point: Point, time_limit_s: float | None = None) -> PointStore:
        """Read what is there, or begin.

        Args:
            folder: of the results.
            point: whose drops.
            time_limit_s: that the decisions were, or will be, made with; None takes what the file says.

        Raises:
            ValueError: the file belongs to another version, configuration or time limit, or isn't a store.
        """
        path = cls.file(folder, point)
        header: dict[str, Any] = {
            "format": FORMAT,
            "cfisac": cfisac_env.__version__,
            "config": plain(point.config.as_dict()),
        }
        if time_limit_s is not None:
            header["time_limit_s"] = time_limit_s
        store = cls(point, path, header)
        if path.exists():
            store._read()
        return store

    @staticmethod
    def file(folder: Path, point: Point) -> Path:
        """Where a point's drops are."""
        return folder / "drops" / f"{point.key}.jsonl"

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        whole, _, broken = text.rpartition("\n")
        lines = whole.split("\n")
        try:
            found = json.loads(lines[0])
            rest = [json.loads(line) for line in lines[1:]]
        except json.JSONDecodeError:
            raise ValueError(f"{self.path} isn't a store of decisions; name another folder with --out") from None
        for name, wanted in self.header.items():
            if found.get(name) != wanted:
                raise ValueError(
                    f"{self.path} was made with {name} = {_brief(found.get(name), wanted)}, and this is "
                    f"{_brief(wanted, found.get(name))}: results of another version are never overwritten; name another folder "
                    "with --out, or move the old one away"
                )
        if broken:  # the run was killed while it wrote this line
            write_text(self.path, whole + "\n")
        for line in rest:
            self._merge(line)

    def _merge(self, line: Record) -> None:
        here = self.drops.setdefault(line["seed"], {"seed": line["seed"], "decisions": {}})
        here |= {name: value for name, value in line.items() if name != "decisions"}
        here["decisions"] |= line["decisions"]

    def append(self, line: Record) -> None:
        """Add a drop, on disk before this returns."""
        if not self.path.exists():
            self.tidy()
        self._merge(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))

    def forget(self, names: Iterable[str]) -> None:
        """Drop the decisions of some policies, so that they are made again."""
        for line in self.drops.values():
            for name in names:
                line["decisions"].pop(name, None)
        if self.drops:
            self.tidy()

    def missing(self, seed: int, names: Iterable[str]) -> tuple[str, ...]:
        """Which of these policies haven't decided this drop."""
        line = self.drops.get(seed)
        if line is None:
            return tuple(names)
        return () if line["infeasible"] else tuple(name for name in names if name not in line["decisions"])

    def tidy(self) -> None:
        """Write the file anew with one line a drop, in the order of the seeds."""
        lines = [_line(self.header | provenance()), *(_line(self.drops[seed]) for seed in sorted(self.drops))]
        write_text(self.path, "".join(lines))


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(plain(content), allow_nan=False, separators=(",", ":")) + "\n"


def _brief(value: Any, other: Any) -> Any:
    """A configuration's fields that differ; anything else as it is."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: item for name, item in value.items() if other.get(name) != item}
    return value
