"""Signals that end a command: each is raised as `KeyboardInterrupt`, and the exit status is the shell's."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from baselines import interruption

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl+C, `kill`, and a terminal that was closed; the last is unknown to Windows."""


@contextmanager
def raised() -> Iterator[None]:
    """Raise an `Interruption`, a `KeyboardInterrupt`, on every signal of `NAMES`, and keep its number in `interruption.received`.

    A signal that the parent process has set to be ignored (`nohup`, a shell's background jobs) stays ignored. The old handlers come back
    at the end. Outside the main thread, where Python handles no signals, nothing is changed. What Python would print about an
    interruption that is raised in a destructor, and dropped, isn't: the next `interruption.check` raises it again.
    """
    interruption.note(None)
    shown = sys.unraisablehook
    sys.unraisablehook = lambda dropped: (
        None if isinstance(dropped.exc_value, interruption.Interruption) else shown(dropped)
    )
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.Signals[name] for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        sys.unraisablehook = shown
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status() -> int | None:
    """128 + the signal's number, such as 130 after Ctrl+C and 143 after SIGTERM; None when no signal has come."""
    return None if interruption.received is None else 128 + interruption.received


def ignore() -> None:
    """Let no further signal disturb the end of the program; inside of `raised`, until it ends."""
    if threading.current_thread() is threading.main_thread():
        for name in NAMES:
            if hasattr(signal, name):
                signal.signal(signal.Signals[name], signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    interruption.note(number)
    raise interruption.Interruption
