"""Refusal of oversized allocations in advance, as systems that overcommit memory would kill the process."""

from __future__ import annotations

import os


def refuse_beyond_memory(needed: int, what: str) -> None:
    """Raise if an allocation exceeds this machine's memory.

    Args:
        needed: bytes.
        what: description for the message, such as `gains of 3 drops`.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:  # Windows does not overcommit
        return
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise MemoryError(
            f"{what} need {needed:,} bytes ({needed / 2**30:,.1f} GiB), and this machine has {available:,} ({available / 2**30:,.1f} GiB); "
            "take fewer or smaller ones"
        )
