"""Interruptions that can't be lost: the command's signal handler notes the signal here, and long computations ask for it.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. In a destructor or a callback from C, such as numba's loader,
it is printed and dropped; then the next `check` raises it again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption(KeyboardInterrupt):
    """A signal that ends the program.

    Not `KeyboardInterrupt` itself: once that has passed through an `exec` of a string, as imports and numba use it, the interpreter kills
    itself with SIGINT at its end, whatever became of the exception and of the exit status.
    """


received: int | None = None
"""Number of the signal that asked the program to end; None as long as none did."""


def note(number: int | None) -> None:
    """Keep the number of a signal, or forget it with None."""
    global received
    received = number


def check() -> None:
    """Raise the interruption that has been asked for, if there is one; cheap enough for every batch of a search.

    Raises:
        Interruption: a signal was noted.
    """
    if received is not None:
        raise Interruption


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of signals back at the end that a library replaces in the block."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in zip(numbers, before, strict=True):
                if handler is not None:
                    signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Hold Ctrl+C back until the block ends, and for good from processes that are started in it.

    For code that would take the signal as its own (SCS), and for workers, which their parent ends.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
