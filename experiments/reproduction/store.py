"""Every decision of every drop, one file of JSON lines a point: appended while a run goes on, so that a killed one loses nothing.

The first line says what the file is: its format, the version that made it, the configuration. Each further line holds one
drop; policies that came later have lines of their own until the file is put in order. Lines are checked when they are written and when
they are read: `experiments.schemas` has their format, `_check` what must agree in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import cfisac_env
from cfisac_env import SystemConfig
from cfisac_env.files import write_text
from experiments import schemas
from experiments.reproduction.decisions import Record
from experiments.reproduction.points import Point
from experiments.results import plain, provenance

FORMAT = 1

TOLERANCE = 1e-4
"""Relative: of the environment's requirements, of certified bounds, and of numbers that were rounded to five digits."""


@dataclass
class PointStore:
    """The stored drops of one point.

    Attributes:
        point: whose drops they are.
        path: of the file.
        header: its first line.
        drops: seed → line, with the decisions of all policies merged.
        torn: whether the file ends in a line that a killed run didn't finish; the next `append` takes it away.
    """

    point: Point
    path: Path
    header: dict[str, Any]
    drops: dict[int, Record] = field(default_factory=dict)
    torn: bool = False

    @cached_property
    def config(self) -> SystemConfig:
        """Of the point."""
        return self.point.config

    @classmethod
    def open(cls, folder: Path, point: Point, time_limit_s: float | None = None) -> PointStore:
        """Read what is there, or begin; nothing is written.

        Args:
            folder: of the results.
            point: whose drops.
            time_limit_s: that the decisions were, or will be, made with; None takes what the file says.

        Raises:
            ValueError: the file belongs to another version, configuration or time limit, is damaged, or isn't a store.
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
        whole, _, broken = schemas.read(self.path).rpartition("\n")
        self.torn = bool(broken)
        first, *rest = whole.split("\n")
        try:
            found = schemas.loads(first, self.path)
            schemas.check(found, "store header", self.path)
        except ValueError as error:
            raise ValueError(
                f"{error}; it isn't a store of decisions: name another folder, or move the file away"
            ) from None
        for name, wanted in self.header.items():
            if found.get(name) != wanted:
                raise ValueError(
                    f"{self.path} was made with {name} = {_brief(found.get(name), wanted)}, and this is "
                    f"{_brief(wanted, found.get(name))}: results of another version are never overwritten; name another folder "
                    "with --out, or move the old one away"
                )
        for number, text in enumerate(rest, 2):
            where = f"{self.path}, line {number},"
            line = schemas.loads(text, where)
            self._check(line, where)
            self._merge(line, where)

    def _check(self, line: Record, where: Path | str) -> None:
        """Refuse a line of the wrong format, or whose numbers contradict each other.

        Raises:
            ValueError: naming the line, the policy and the contradiction.
        """
        schemas.check(line, "store line", where)
        if "infeasible" in line:
            if line["infeasible"] and line["decisions"]:
                raise ValueError(f"{where} is damaged: a drop certified infeasible has decisions")
            if line["infeasible"] != (line.get("lower_bound_w") is None):
                raise ValueError(
                    f"{where} is damaged: a drop has a lower bound exactly if it isn't certified infeasible"
                )
        for name, record in line["decisions"].items():
            if wrong := _contradiction(record, self.config):
                raise ValueError(f"{where} is damaged: {name}: {wrong}")

    def _merge(self, line: Record, where: Path | str) -> None:
        """Add a line to what is known of its drop.

        Raises:
            ValueError: it says again or otherwise what is known.
        """
        seed = line["seed"]
        here = self.drops.get(seed, {"seed": seed, "decisions": {}})
        known = {"certificate"} & ({"certificate"} if "infeasible" in here and "infeasible" in line else set())
        twice = [*known, *(name for name in line["decisions"] if name in here["decisions"])]
        if twice:
            raise ValueError(f"{where} is damaged: it has the {', '.join(twice)} of seed {seed} a second time")
        if "infeasible" not in line | here:
            raise ValueError(
                f"{where} is damaged: it has decisions on seed {seed}, of which no line says whether it can be served"
            )
        merged = {**here, **line, "decisions": {**here["decisions"], **line["decisions"]}}
        if merged["infeasible"] and merged["decisions"]:
            raise ValueError(f"{where} is damaged: seed {seed} is certified infeasible and has decisions")
        made = merged["decisions"].values()
        proven = max([merged["lower_bound_w"] or 0.0, *(one.get("lower_bound_w", 0.0) for one in made)])
        for name, one in merged["decisions"].items():
            if one["feasible"] and one["total_power_w"] < proven * (1 - TOLERANCE):
                raise ValueError(
                    f"{where} is damaged: {name} serves seed {seed} with {one['total_power_w']} W, below the certified bound of {proven} W"
                )
        self.drops[seed] = merged

    def append(self, line: Record) -> None:
        """Add a drop, on disk before this returns."""
        line = plain(line)
        self._check(line, "the new line")
        if self.torn or not self.path.exists():
            self.tidy()
        self._merge(line, "the new line")
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
        self.torn = False


def _contradiction(record: Record, config: SystemConfig) -> str | None:
    """What is wrong with the arrays of a decision or between its numbers, or None."""
    try:
        active = np.array(record["active"], dtype=np.float64)
        radiated = np.array(record["ap_power_w"], dtype=np.float64)
        sinr = np.array(record["sinr_db"], dtype=np.float64)
        crlb = np.array([np.inf if value is None else value for value in record["crlb_m2"]], dtype=np.float64)
    except (TypeError, ValueError):
        return "active, ap_power_w, sinr_db and crlb_m2 must hold numbers"
    lengths = [(active, "active", len(radiated)), (sinr, "sinr_db", config.K), (crlb, "crlb_m2", config.S)]
    for values, name, length in lengths:
        if values.shape != (length,):
            return f"{name} must hold {length} numbers, got {values.size}"
    inside = (active == np.floor(active)) & (active >= 0) & (active < config.M)
    if not inside.all() or (np.diff(active) <= 0).any():
        return f"active must name APs from 0 to {config.M - 1} in increasing order"
    if not ((radiated >= 0) & (radiated <= config.max_ap_power_w * (1 + TOLERANCE))).all():
        return f"an AP radiates from 0 to {config.max_ap_power_w} W"
    if not np.isfinite(sinr).all() or not (crlb > 0).all():
        return "SINRs are finite and CRLBs positive"
    transmit, total = record["transmit_power_w"], record["total_power_w"]
    if abs(transmit - radiated.sum()) > TOLERANCE * max(transmit, 1e-9):
        return f"the APs radiate {radiated.sum():.6g} W together, and transmit_power_w says {transmit}"
    expected = transmit + len(active) * config.circuit_power_w
    if abs(total - expected) > 1e-8 * max(expected, 1e-9):
        return f"transmit and circuit power are {expected:.10g} W, and total_power_w says {total}"
    missed = record["violation"] is None or record["violation"] > TOLERANCE * (1 + 1e-5)
    met = record["violation"] is not None and record["violation"] < TOLERANCE * (1 - 1e-5)
    if (record["feasible"] and missed) or (not record["feasible"] and met):
        return f"feasible is {record['feasible']} with a violation of {record['violation']}"
    return None


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(plain(content), allow_nan=False, separators=(",", ":")) + "\n"


def _brief(value: Any, other: Any) -> Any:
    """A configuration's fields that differ; anything else as it is."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: item for name, item in value.items() if other.get(name) != item}
    return value
