"""Sizes that cannot fit into this machine are refused before anything is allocated: systems that overcommit end the process instead."""

from __future__ import annotations

import os


def refuse_beyond_memory(needed: int, what: str) -> None:
    """Raise if something needs more bytes than this machine has memory.

    Args:
        needed: bytes.
        what: for the message, such as `gains of 3 drops`.

    Raises:
        MemoryError: with the bytes needed and those there are.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:  # Windows refuses by itself
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise MemoryError(
            f"{what} need {needed:,} bytes ({needed / 2**30:,.1f} GiB), and this machine has {there:,} ({there / 2**30:,.1f} GiB); "
            "take fewer or smaller ones"
        )
