"""What subcommands share: the shape of one, and a progress bar."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Command(Protocol):
    """A frozen dataclass of options; its docstring is the help text."""

    configured: ClassVar[bool]  # whether the fields of `SystemConfig` are options of the command, too
    kept: ClassVar[str]  # what an interrupted run leaves, and how to go on; `{out}` stands for the folder

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Compute, print, write.

        Args:
            fields: the fields of `SystemConfig` that were given.
            console: where to print.

        Raises:
            ValueError, TypeError, OSError, MemoryError, ImportError: bad input, files or numbers that have no room, or a missing extra;
                the message is all that the user sees.
        """


NOTHING_KEPT = "no results are kept; the same command begins again"
GOES_ON = "what is finished is kept in {out}, and the same command goes on from there"


def progress(console: Console) -> Progress:
    """A bar with counts and times."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
