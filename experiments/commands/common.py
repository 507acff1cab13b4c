"""What subcommands share: the shape of one, and the ranges of its options."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import tyro
from rich.console import Console

from experiments.errors import UserError
from experiments.terminal import progress

__all__ = [
    "GOES_ON",
    "Command",
    "Count",
    "Natural",
    "Output",
    "Range",
    "Seconds",
    "Seed",
    "check",
    "open_option",
    "progress",
    "ranges",
    "wrote",
]


Output = Literal["folder", "file", "own"]

NOTHING_KEPT = "no results are kept; the same command begins again"
GOES_ON = "what is finished is kept in {out}, and the same command goes on from there"


class Command(Protocol):
    """A frozen dataclass of options; its docstring is the help text."""

    configured: ClassVar[bool] = False
    """Whether the fields of `SystemConfig` are options of the command, too."""

    output: ClassVar[Output] = "folder"
    """Whether `--out` is a folder, of which the command is the only writer while it runs, or a file. The command line looks whether it can
    be written before anything is computed, and locks a folder; with `own`, a folder that the command locks itself."""

    kept: ClassVar[str] = NOTHING_KEPT
    """What an interrupted run leaves, and how to go on; `{out}` stands for the folder."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Compute, write, print: results come first, then words, so that an output that fails loses nothing.

        Args:
            fields: the fields of `SystemConfig` that were given.
            console: where to print.

        Raises:
            ValueError, TypeError, OSError, MemoryError, ImportError: bad input, files or numbers that have no room, or a missing extra;
                the message is all that the user sees, see `experiments.errors`.
        """


@dataclass(frozen=True)
class Range:
    """Values that a numeric option takes: `count: Annotated[int, Range(1, 100)]`. Not-a-number is never among them."""

    low: float
    high: float
    above: bool = False  # whether `low` itself is left out

    def check(self, flag: str, value: float) -> None:
        """Refuse a value outside.

        Raises:
            UserError: naming the option, the value and the range.
        """
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
    """Annotation of an option that is left open by default; its text says what then holds."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Threads = Annotated[int, Range(1, 1024)]
Count = Annotated[int, Range(1, 1_000_000)]
Natural = Annotated[int, Range(0, 1_000_000)]
Seed = Annotated[int, Range(0, 2**53)]
Seconds = Annotated[float, Range(0.0, 1e9, above=True)]


def wrote(console: Console, paths: Iterable[Path]) -> None:
    """Say which files were written."""
    for path in paths:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def check(options: Any, arguments: Sequence[str]) -> None:
    """Refuse numbers outside their range, and options without a value.

    Args:
        options: of a command, parsed.
        arguments: what was typed.

    Raises:
        UserError: naming the option.
    """
    given = {argument.split("=")[0].replace("_", "-") for argument in arguments}
    hints = typing.get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        flag, value = f"--{field.name.replace('_', '-')}", getattr(options, field.name)
        if value == () and flag in given:
            raise UserError(f"{flag} needs at least one value; leave it out for the default")
        for bounds in ranges(hints[field.name]):
            for number in value if isinstance(value, tuple) else () if value is None else (value,):
                bounds.check(flag, number)


def ranges(hint: Any) -> Iterator[Range]:
    """The ranges in the annotation of an option."""
    for part in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        if isinstance(part, Range):
            yield part
        elif typing.get_args(part):
            yield from ranges(part)
