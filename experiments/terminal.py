"""Standard output and error whose failure or character set never loses results."""

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
"""Width of outputs without one, such as log files."""

_PLAIN = {
    **dict.fromkeys("–—−", "-"), "×": "x", "…": "...", "∞": "inf", "≥": ">=", "≤": "<=", "µ": "u", "²": "2", "ö": "o",
}  # fmt: skip


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace characters outside an output's character set by plain ones or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("cfisac", _replaced)


def prepare() -> None:
    """Make the outputs accept every character, and replace closed ones."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cfisac")


class Output(Console):
    """Standard output or error whose failure ends the output, not the command.

    Attributes:
        failure: error to raise at the end of the command; a reader who leaves (`| head`) causes none.
    """

    failure: OSError | None = None

    def on_broken_pipe(self) -> None:
        """Print nothing from here on."""
        self.quiet = True
        _silence(self.file)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, unless the output has failed."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.quiet, self.failure = True, failed(error, self.file)


_ERRORS = Output(stderr=True)
"""Standard error: one console, so that status lines and bars share the terminal."""


def output() -> Output:
    """Return the standard output, `LOG_WIDTH` wide if it has no width."""
    console = Output()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Output(width=LOG_WIDTH)
    return console


def complain(line: str, style: str = "red") -> None:
    """Print a line on the standard error."""
    _ERRORS.print(f"cfisac: {line}", style=style, markup=False, highlight=False, soft_wrap=True)


def announce(console: Console, written: Iterable[Path]) -> None:
    """Print the names of files that were written."""
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print Python's warnings as one line each, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *place, **where: complain(str(message), "yellow")
        yield


def compiling(kernel: str) -> AbstractContextManager[object]:
    """Show a status line while a kernel is compiled; without a terminal, log it once."""
    if not _ERRORS.is_terminal:
        return jit.log_once(kernel)
    return _ERRORS.status(f"compiling {kernel}, which takes up to half a minute; {jit.cache_description()}")


def progress() -> Progress:
    """Return a progress bar with counts and times, which only terminals show."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=_ERRORS, disable=not _ERRORS.is_terminal)


def flush() -> None:
    """Flush the standard output before the interpreter does.

    Raises:
        OSError: the output failed, and is silenced. A reader who has left is no error.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        raise failed(error, sys.stdout) from error


def failed(error: OSError, stream: IO[str]) -> OSError:
    """Silence an output that failed, and return the error to raise."""
    _silence(stream)
    return OSError(f"the standard output takes nothing more ({error.strerror}); the files are complete")


def _silence(stream: IO[str]) -> None:
    """Redirect an output to the null device, so that it doesn't fail again when the interpreter ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except io.UnsupportedOperation:
        pass  # not one of the operating system's
    finally:
        os.close(null)
