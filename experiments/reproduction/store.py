"""Stored decisions, one journal a point.

Each line holds a drop; decisions of policies that were added later are lines of their own until the file is put in order. `_check` checks
single lines, `_merge` checks them against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cfisac_env import SystemConfig
from experiments.journal import Journal, Record
from experiments.reproduction.points import Point

TOLERANCE = 1e-4
"""Relative tolerance of requirements, of certified bounds, and of numbers that were rounded to five digits."""


class PointStore:
    """Stored drops of a point.

    Args:
        time_limit_s: of exact search for the decisions; None accepts any.

    Attributes:
        drops: seed → merged line.

    Raises:
        ValueError: the file belongs to another version, configuration or time limit, is damaged, or isn't a store.
    """

    def __init__(self, folder: Path, point: Point, time_limit_s: float | None = None) -> None:
        self.point, self.path = point, self.file(folder, point)
        about: dict[str, Any] = {"config": point.config.as_dict()}
        if time_limit_s is not None:
            about["time_limit_s"] = time_limit_s
        self.journal = Journal(self.path, "decisions", about)
        self.drops: dict[int, Record] = {}
        for line, where in self.journal.read():
            self._check(line, where)
            self._merge(line, where)

    @cached_property
    def config(self) -> SystemConfig:
        """Configuration of the point."""
        return self.point.config

    @staticmethod
    def file(folder: Path, point: Point) -> Path:
        """Return the path of a point's drops."""
        return folder / "drops" / f"{point.key}.jsonl"

    def _check(self, line: Record, where: Path | str) -> None:
        """Refuse a line that contradicts itself."""
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
        """Merge a line with the others of its drop."""
        seed = line["seed"]
        here = self.drops.get(seed, {"seed": seed, "decisions": {}})
        certificate = ["certificate"] if "infeasible" in here and "infeasible" in line else []
        twice = [*certificate, *(name for name in line["decisions"] if name in here["decisions"])]
        if twice:
            raise ValueError(f"{where} is damaged: it has the {', '.join(twice)} of seed {seed} a second time")
        if "infeasible" not in line | here:
            raise ValueError(f"{where} is damaged: it has decisions on seed {seed}, without a line on its feasibility")
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
        line = self.journal.checked(line)
        self._check(line, "the new line")
        self._merge(line, "the new line")
        self.journal.append(line)

    def forget(self, names: Iterable[str]) -> None:
        """Remove the decisions of some policies, so that they are made again."""
        for line in self.drops.values():
            for name in names:
                line["decisions"].pop(name, None)
        if self.drops:
            self.tidy()

    def missing(self, seed: int, names: Iterable[str]) -> tuple[str, ...]:
        """Return the policies that haven't decided a drop."""
        line = self.drops.get(seed)
        if line is None:
            return tuple(names)
        return () if line["infeasible"] else tuple(name for name in names if name not in line["decisions"])

    def tidy(self) -> None:
        """Rewrite the file with one line a drop, in the order of the seeds."""
        self.journal.rewrite(self.drops[seed] for seed in sorted(self.drops))


def _contradiction(record: Record, config: SystemConfig) -> str | None:
    """Describe a contradiction between the numbers of a decision; None without one."""
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
    valid = (active == np.floor(active)) & (active >= 0) & (active < config.M)
    if not valid.all() or (np.diff(active) <= 0).any():
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
