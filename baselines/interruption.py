"""Reliable interruption: the command's signal handler notes signals here, and long computations poll for them.

A `KeyboardInterrupt` raised in a destructor or a callback from C, such as numba's loader, is printed and ignored; the next `check` raises
it again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption(KeyboardInterrupt):
    """Signal that ends the program.

    A subclass, because once a `KeyboardInterrupt` itself has passed through an `exec` of a string, as in imports and numba, the interpreter
    kills itself with SIGINT on exit, even if the exception was handled.
    """


received: int | None = None
"""Number of the received signal; None without any."""


def note(number: int | None) -> None:
    """Record the number of a signal; None clears it."""
    global received
    received = number


def check() -> None:
    """Raise a pending interruption; cheap enough for every batch of a search.

    Raises:
        Interruption: a signal was received.
    """
    if received is not None:
        raise Interruption


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restore the signal handlers that a library replaces in the block."""
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
    """Block SIGINT until the block ends, and permanently in processes that are started in it.

    For libraries that would handle the signal themselves (SCS), and for workers, which are ended by their parent.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
