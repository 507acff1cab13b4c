"""Standard output and error that a pipe, a full disk or a poor character set can't turn into lost work."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cfisac_env import jit

LOG_WIDTH = 140
"""Columns of an output that has none of its own, such as a log file."""

_PLAIN = {
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "…": "...",
    "∞": "inf",
    "≥": ">=",
    "≤": "<=",
    "µ": "u",
    "²": "2",
    "ö": "o",
}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an output can't take by plain ones, or by a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("cfisac", _replaced)


def prepare() -> None:
    """Give the process outputs that take every character; a closed one leads nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cfisac")


class Output(Console):
    """The standard output or error; one that fails ends the output, not the command.

    Attributes:
        failure: what is to be raised once the command has done its work; a reader who leaves (`| head`) is none.
    """

    failure: OSError | None = None

    def on_broken_pipe(self) -> None:
        """Go on in silence."""
        self.quiet = True
        _silence(self.file)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as long as the output takes anything."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.quiet, self.failure = True, failed(error, self.file)


_ERRORS = Output(stderr=True)
"""The standard error: one console, so that a status line and a bar share the terminal."""


def output() -> Output:
    """The standard output, with a width of its own."""
    console = Output()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Output(width=LOG_WIDTH)
    return console


def complain(line: str, style: str = "red") -> None:
    """One line on the standard error."""
    _ERRORS.print(f"cfisac: {line}", style=style, markup=False, highlight=False, soft_wrap=True)


def announce(console: Console, written: Iterable[Path]) -> None:
    """Print the names of files that were written."""
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print what Python warns of as one line each, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *place, **where: complain(str(message), "yellow")
        yield


def compiling(kernel: str) -> AbstractContextManager[object]:
    """A line on the standard error while a kernel is compiled, if that is a terminal; otherwise, once, as in any program."""
    if not _ERRORS.is_terminal:
        return jit.log_once(kernel)
    return _ERRORS.status(f"compiling {kernel}, which takes up to half a minute; {jit.cache_description()}")


def progress() -> Progress:
    """A bar with counts and times on the standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=_ERRORS, disable=not _ERRORS.is_terminal)


def flush() -> None:
    """Empty the standard output before the interpreter does.

    Raises:
        OSError: it takes nothing, and is led nowhere from here on. A reader who has left is no error.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        raise failed(error, sys.stdout) from error


def failed(error: OSError, stream: IO[str]) -> OSError:
    """The error to raise for an output that fails, which is led nowhere from here on."""
    _silence(stream)
    return OSError(
        f"the standard output takes nothing more ({error.strerror}); whatever was to be written to files is written"
    )


def _silence(stream: IO[str]) -> None:
    """Lead an output nowhere, so that nothing complains about it when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except io.UnsupportedOperation:
        pass  # not one of the operating system's
    finally:
        os.close(nowhere)
