"""Results as tables in Markdown, CSV and the terminal, as JSON and as pictures: all files of a result are written together."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from cfisac_env import extras, files
from experiments import terminal
from experiments.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

T = TypeVar("T")

DASH = "–"
"""Placeholder of a missing value; a line under the table gives the reason."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table."""

    heading: str
    cell: Callable[[T], str | None]  # text of a row; None where the row has no value
    missing: str = "no value"  # reason for a missing value
    rank: int = 0  # narrow terminals leave out the columns of the highest rank first, the last of equal ones
    left: bool = False  # left-aligned, as the first column always is
    code: bool = False  # set as code in Markdown


@dataclass(frozen=True)
class Table(Generic[T]):
    """Rows and their columns, with a title and notes on how to read them."""

    columns: Sequence[Column[T]]
    rows: Sequence[T]
    title: str = ""
    notes: str = ""

    @property
    def headings(self) -> list[str]:
        """Headings of the columns."""
        return [column.heading for column in self.columns]

    def cells(self) -> list[list[str]]:
        """Text of every row, column by column."""
        return [[DASH if (cell := one.cell(row)) is None else cell for one in self.columns] for row in self.rows]

    def reasons(self) -> str:
        """Reasons for the dashes, for the columns that have any."""
        why: dict[str, list[str]] = {}
        for column in self.columns:
            if any(column.cell(row) is None for row in self.rows):
                why.setdefault(column.missing, []).append(column.heading)
        return "; ".join(f"{DASH} under {', '.join(headings)}: {reason}" for reason, headings in why.items())

    def markdown(self) -> str:
        """The table and the reasons for its dashes in Markdown."""
        rules = ["---" if column.left or not i else "---:" for i, column in enumerate(self.columns)]
        lines = [_line(self.headings), f"|{'|'.join(rules)}|"]
        for cells in self.cells():
            marked = zip(self.columns, cells, strict=True)
            lines.append(_line([f"`{cell}`" if column.code and cell != DASH else cell for column, cell in marked]))
        reasons = self.reasons()
        return "\n".join([*lines, *(["", f"{reasons}."] if reasons else [])]) + "\n"

    def page(self) -> str:
        """The table between its title and its notes in Markdown."""
        return "\n".join(f"{text}\n" for text in (self.title, self.markdown().rstrip("\n"), self.notes) if text)

    def show(self, console: Console, where: str = "") -> None:
        """Print the table with as many columns as fit, and name the others.

        Args:
            where: file that has all columns.
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


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None, form: str = "{:.3f}") -> str | None:
    """Format a number; infinity as "∞", NaN as None."""
    if value is None or math.isnan(value):
        return None
    return form.format(value) if math.isfinite(value) else "∞"


def percent(share: float | None, digits: int = 2) -> str | None:
    """Format a ratio as a percentage, without decimals from 100 % on."""
    return number(share, f"{{:,.{digits}%}}" if share is not None and abs(share) < 1 else "{:,.0%}")


def span(interval: Interval, form: str = "{:.2f}") -> str | None:
    """Format the ends of a 95 % interval; None where it has none."""
    if not math.isfinite(interval.low):
        return None
    return f"[{form.format(interval.low)}, {form.format(interval.high)}]"


def milliseconds(seconds: float | None) -> str | None:
    """Format a time in ms to three digits."""
    ms = None if seconds is None else 1e3 * seconds
    return number(ms, "{:.3g}" if ms is not None and ms < 1000 else "{:,.0f}")


ONE_VALUE = "an interval takes two values or more"


def flat(row: Any) -> dict[str, Any]:
    """Columns of a dataclass in CSV; an interval has three."""
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Interval):
            columns |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        else:
            columns[field.name] = value
    return columns


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with equal keys as CSV; numbers that aren't finite are empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in plain(row).items()} for row in rows)
    return text.getvalue()


def json_text(content: Any) -> str:
    """Format as strict JSON."""
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Convert to types of strict JSON: dataclasses to objects, arrays to lists, paths to text, numbers that aren't finite to None."""
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


def escaped(name: str) -> str:
    """Escape dollar signs, with which matplotlib would begin a formula."""
    return name.replace("$", r"\$")


def canvas(width_in: float, height_in: float) -> Figure:
    """Return an empty figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, kind: str) -> bytes:
    """Render a figure as png or svg."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def write(folder: Path, contents: Mapping[str, Any]) -> list[Path]:
    """Write the files of a result: all of them or, where the disk is full, none.

    Args:
        folder: created if need be.
        contents: file name → text, a figure, or a mapping, which is written as JSON after its `provenance`.
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


@dataclass(frozen=True)
class Result:
    """A result of a command: `NAME.md` and, as far as they are given, `NAME.csv`, `NAME.json` and `NAME.png`."""

    name: str
    tables: Sequence[Table[Any]]  # with titles and notes in Markdown if there are several
    content: Mapping[str, Any] | None = None  # of the JSON file
    csv: Sequence[Any] = ()  # dataclasses, the rows of the CSV file
    figure: Figure | None = None

    def write(self, folder: Path) -> list[Path]:
        """Write the files together."""
        pages = [one.page() if len(self.tables) > 1 else one.markdown() for one in self.tables]
        contents: dict[str, Any] = {f"{self.name}.md": "\n".join(pages)}
        if self.csv:
            contents[f"{self.name}.csv"] = csv_text([flat(row) for row in self.csv])
        if self.figure is not None:
            contents[f"{self.name}.png"] = self.figure
        if self.content is not None:
            contents[f"{self.name}.json"] = self.content
        return write(folder, contents)

    def show(self, folder: Path, console: Console, written: Iterable[Path]) -> None:
        """Print the tables, then the names of the files that were written."""
        for one in self.tables:
            one.show(console, f"{self.name}.md in {folder}")
        terminal.announce(console, written)

    def publish(self, folder: Path, console: Console) -> None:
        """Write the files, then print."""
        self.show(folder, console, self.write(folder))


def provenance() -> dict[str, Any]:
    """Command line, versions and kind of machine that made a result."""
    return {
        "command": " ".join([_program(), *sys.argv[1:]]),
        "versions": extras.versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _program() -> str:
    """Return `cfisac`, or how the module of this suite that runs was called."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = "" if spec is None else str(spec.name)
    return f"python -m {module}" if module.startswith(("experiments.bench.", "experiments.examples.")) else "cfisac"
