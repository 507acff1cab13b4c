"""Interface of subcommands, and types of their options."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import tyro
from rich.console import Console

from experiments.errors import UserError
from experiments.terminal import announce, progress

__all__ = [
    "GOES_ON",
    "Command",
    "Count",
    "Natural",
    "Output",
    "Range",
    "Seconds",
    "Seed",
    "Spread",
    "Threads",
    "announce",
    "check",
    "open_option",
    "options_of",
    "progress",
]


Output = Literal["folder", "file", "own"]

NOTHING_KEPT = "no results are kept; the same command begins again"
GOES_ON = "finished parts are kept in {out}, and the same command goes on from there"


class Command(Protocol):
    """A frozen dataclass of options; its docstring is the help text. Fields that are dataclasses are nested options."""

    configured: ClassVar[bool] = False
    """Options for the fields of `SystemConfig`, too."""

    output: ClassVar[Output] = "folder"
    """Kind of `--out`: a folder, which the command line locks for the command; a file; or, with `own`, a folder that the command locks
    itself. The command line checks that it can be written before anything is computed."""

    kept: ClassVar[str] = NOTHING_KEPT
    """Results that an interrupted run keeps, and how to resume it; `{out}` stands for the folder."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Compute, write, and only then print, so that an output that fails loses nothing.

        Args:
            fields: fields of `SystemConfig` that were given.
            console: standard output.

        Raises:
            ValueError, TypeError, OSError, MemoryError, ImportError: bad input, full disks or memory, or a missing extra; the user sees the
                message alone (`experiments.errors`).
        """


@dataclass(frozen=True)
class Range:
    """Range of a numeric option: `count: Annotated[int, Range(1, 100)]`. It never contains NaN."""

    low: float
    high: float
    above: bool = False  # whether `low` itself is excluded

    def check(self, flag: str, value: float) -> None:
        """Refuse a value outside the range."""
        if value != value:
            raise UserError(f"{flag} must be a number, got {value}")
        if value < self.low or (self.above and value == self.low):
            least = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
            raise UserError(f"{flag} must be {least}, got {_plain(value)}")
        if value > self.high:
            raise UserError(f"{flag} must be {_plain(self.high)} or less, got {_plain(value)}")


def _plain(value: float) -> str:
    return f"{value:,}" if abs(value) < 1e15 else f"{value:.3g}" if abs(value) < 1e300 else "a huge number"


def open_option(metavar: str) -> Any:
    """Annotate an option without a default value; its help text tells what then applies."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Threads = Annotated[int, Range(1, 1024)]
Count = Annotated[int, Range(1, 1_000_000)]
Natural = Annotated[int, Range(0, 1_000_000)]
Seed = Annotated[int, Range(0, 2**53)]
Seconds = Annotated[float, Range(0.0, 1e9, above=True)]


@dataclass(frozen=True)
class Spread(Command):
    """Options of a command whose work is spread over processes, see `parallel.in_order`."""

    workers: Annotated[Threads | None, open_option("INT")] = None
    """Number of processes; by default one a processor."""
    ray: Annotated[str | None, open_option("ADDRESS")] = None
    """Use a Ray cluster: its address (auto, ray://host:10001), or `local` to start one on this machine."""


def options_of(kind: type[Any], prefix: str = "--") -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield every option of a command, those of nested dataclasses included: its flag, the path of its attribute, and its type."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        inner, *notes = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        flag = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(inner):
            nested = prefix if any(getattr(note, "name", None) == "" for note in notes) else f"{flag}."
            for name, path, kind_ in options_of(typing.cast(type[Any], inner), nested):
                yield name, (field.name, *path), kind_
        elif tyro.conf.Suppress not in notes:
            yield flag, (field.name,), hint


def check(options: Any, arguments: Sequence[str]) -> None:
    """Refuse numbers outside their range, and options without a value."""
    given = {argument.split("=")[0].replace("_", "-") for argument in arguments}
    for flag, path, hint in options_of(type(options)):
        value = options
        for name in path:
            value = getattr(value, name)
        if value == () and flag in given:
            raise UserError(f"{flag} needs at least one value; leave it out for the default")
        for bounds in ranges(hint):
            for number in value if isinstance(value, tuple) else () if value is None else (value,):
                bounds.check(flag, number)


def ranges(hint: Any) -> Iterator[Range]:
    """Yield the ranges in the type of an option."""
    for part in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        if isinstance(part, Range):
            yield part
        elif typing.get_args(part):
            yield from ranges(part)
