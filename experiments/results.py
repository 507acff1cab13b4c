"""Results: rows as a table in Markdown, in the terminal and as CSV; files that appear together, with what is needed to make them again."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from cfisac_env import files
from experiments.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Row = TypeVar("Row")

DASH = "–"
"""Stands where there is no value; a line under the table says why."""

_PACKAGES = ("cfisac", "gymnasium", "numpy", "scipy", "cvxpy", "clarabel", "scs", "numba", "torch", "stable-baselines3")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table."""

    heading: str
    cell: Callable[[Row], str | None]  # None where there is no value
    missing: str = "no value"  # why there may be none
    rank: int = 0  # a narrow terminal leaves out the columns of the highest rank first, of equal ones the last
    left: bool = False  # aligned so, as the first column always is
    code: bool = False  # names, which Markdown sets as code


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Rows under their columns; `notes` say how to read them."""

    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    title: str = ""
    notes: str = ""

    @property
    def headings(self) -> list[str]:
        """Of the columns."""
        return [column.heading for column in self.columns]

    def cells(self) -> list[list[str]]:
        """Of every row."""
        return [[_shown(column.cell(row)) for column in self.columns] for row in self.rows]

    def reasons(self) -> str:
        """Why there is a dash in a column, for the columns that have one."""
        why: dict[str, list[str]] = {}
        for column in self.columns:
            if any(column.cell(row) is None for row in self.rows):
                why.setdefault(column.missing, []).append(column.heading)
        return "; ".join(f"{DASH} under {', '.join(headings)}: {reason}" for reason, headings in why.items())

    def markdown(self) -> str:
        """The table and the reasons for its dashes, for a page."""
        rules = ["---" if column.left or not i else "---:" for i, column in enumerate(self.columns)]
        lines = [_line(self.headings), f"|{'|'.join(rules)}|"]
        for cells in self.cells():
            marked = zip(self.columns, cells, strict=True)
            lines.append(_line([f"`{cell}`" if column.code and cell != DASH else cell for column, cell in marked]))
        reasons = self.reasons()
        return "\n".join([*lines, *(["", f"{reasons}."] if reasons else [])]) + "\n"

    def page(self) -> str:
        """The table between its title and its notes, in Markdown."""
        return "\n".join(f"{text}\n" for text in (self.title, self.markdown().rstrip("\n"), self.notes) if text)

    def show(self, console: Console, where: str = "") -> None:
        """Print the table with as many columns as there is room for, then what is left out.

        Args:
            console: gives the width.
            where: the files that have all columns.
        """
        from rich.cells import cell_len
        from rich.table import Table as View

        cells = self.cells()
        widths = [max(map(cell_len, column)) for column in zip(self.headings, *cells, strict=True)]
        kept = list(range(len(self.columns)))
        while len(kept) > 1 and sum(widths[i] + 3 for i in kept) + 1 > console.width:
            kept.remove(max(kept[1:], key=lambda i: (self.columns[i].rank, i)))
        view = View()
        for i in kept:
            left = self.columns[i].left or not i
            view.add_column(self.columns[i].heading, justify="left" if left else "right", overflow="fold")
        for row in cells:
            view.add_row(*(row[i] for i in kept))
        gone = [column.heading for i, column in enumerate(self.columns) if i not in kept]
        gone_line = f"too narrow for {', '.join(gone)}" + (f": see {where}" if where else "") if gone else ""
        for text in (self.title, view, self.notes, self.reasons(), gone_line):
            if text:
                console.print(text, markup=False, highlight=False)


def _shown(cell: str | None) -> str:
    return DASH if cell is None else cell


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None, form: str = "{:.3f}") -> str | None:
    """A number, "∞", or None where there is none."""
    if value is None or math.isnan(value):
        return None
    return form.format(value) if math.isfinite(value) else "∞"


def percent(share: float | None, digits: int = 2) -> str | None:
    """A share, a gap or a miss as a percentage; whole ones from 100 % on."""
    return number(share, f"{{:,.{digits}%}}" if share is not None and abs(share) < 1 else "{:,.0%}")


def span(interval: Interval, form: str = "{:.2f}") -> str | None:
    """The 95 % interval of an estimate, or None where there is none."""
    if not math.isfinite(interval.low):
        return None
    return f"[{form.format(interval.low)}, {form.format(interval.high)}]"


def milliseconds(seconds: float | None) -> str | None:
    """A time in ms, to three digits."""
    ms = None if seconds is None else 1e3 * seconds
    return number(ms, "{:.3g}" if ms is not None and ms < 1000 else "{:,.0f}")


ONE_VALUE = "an interval takes two values or more"


def flat(row: Any) -> dict[str, Any]:
    """A dataclass as columns of a CSV: an interval becomes three of them."""
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Interval):
            columns |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        else:
            columns[field.name] = value
    return columns


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as CSV, the keys as its header; what isn't finite is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in plain(row).items()} for row in rows)
    return text.getvalue()


def json_text(content: Any) -> str:
    """Strict JSON."""
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """A value as strict JSON has it: dataclasses as objects, NumPy arrays as lists, paths as text, what isn't finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def drawn(name: str) -> str:
    """A name as matplotlib draws it as it is: a dollar sign begins no formula."""
    return name.replace("$", r"\$")


def picture(figure: Figure, kind: str) -> bytes:
    """A figure as png or svg."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def write(folder: Path, contents: Mapping[str, Any]) -> list[Path]:
    """Write the files of a result together: all of them, or none where the disk is full.

    Args:
        folder: of the files.
        contents: name → text, a figure, or what is to be JSON, which is preceded by its `provenance`.
    """
    made = {}
    for name, content in contents.items():
        path = folder / name
        if isinstance(content, str):
            made[path] = content.encode()
        elif hasattr(content, "savefig"):
            made[path] = picture(content, path.suffix[1:])
        else:
            made[path] = json_text({**provenance(), **content}).encode()
    return files.write_together(made)


def provenance() -> dict[str, Any]:
    """Versions, command line and kind of machine behind a result."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["cfisac", *sys.argv[1:]]),
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
