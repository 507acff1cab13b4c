"""Signals that end a command: each raises `KeyboardInterrupt`, and the exit status is the shell's."""

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
"""Signals of Ctrl+C, `kill`, and a closed terminal; Windows lacks the last."""


@contextmanager
def raised() -> Iterator[None]:
    """Raise an `Interruption`, a `KeyboardInterrupt`, on every signal of `NAMES`, and keep its number in `interruption.received`.

    Signals that the parent process ignores (`nohup`, background jobs of a shell) stay ignored; the old handlers are restored at the end.
    Outside the main thread, where Python handles no signals, nothing is changed. Python's message about an interruption in a destructor,
    which it drops, isn't printed: the next `interruption.check` raises it again.
    """
    interruption.note(None)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: (
        None if isinstance(dropped.exc_value, interruption.Interruption) else hook(dropped)
    )
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.Signals[name] for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status() -> int | None:
    """Return 128 + the signal's number, such as 130 after Ctrl+C and 143 after SIGTERM; None without a signal."""
    return None if interruption.received is None else 128 + interruption.received


def ignore() -> None:
    """Ignore further signals while the program ends, or until `raised` restores the handlers."""
    if threading.current_thread() is threading.main_thread():
        for name in NAMES:
            if hasattr(signal, name):
                signal.signal(signal.Signals[name], signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    interruption.note(number)
    raise interruption.Interruption
