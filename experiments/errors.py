"""Distinction between errors that users of the command line can mend and bugs."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

MACHINE = (OSError, MemoryError, ImportError)
"""Errors of files, memory and packages, which users can mend wherever they are raised."""

_ROOT = Path(__file__).parent.parent
_PACKAGES = tuple(_ROOT / name for name in ("cfisac_env", "baselines", "agents", "experiments"))


class UserError(ValueError):
    """Input that the command line refuses; the message tells what was given, what was expected and what to do."""


def line(error: Exception) -> str | None:
    """Return the line to print for an error that users can mend, or None for a bug, whose traceback is needed.

    Users can mend a `UserError`, one of `MACHINE`, and exceptions from `raise` statements of this project, whose messages are written for
    users. Exceptions that Python or a library raises in the middle of a computation are bugs, of any type.
    """
    if isinstance(error, OSError) and error.strerror is not None:
        named = "" if error.filename is None else f" ({os.fspath(error.filename)!r})"
        return f"{error.strerror}{named}"
    if isinstance(error, MemoryError) and not str(error):
        return "the machine has too little memory for that"
    if isinstance(error, (UserError, *MACHINE)) or _refused(error):
        return " ".join(str(error).split())
    return None


def _refused(error: Exception) -> bool:
    if isinstance(error, AssertionError | NotImplementedError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    last = frames[-1]
    ours = any(Path(last.filename).is_relative_to(folder) for folder in _PACKAGES)
    return ours and (last.line or "").startswith("raise ")
