"""Sizes and presets on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cfisac_env import SystemConfig


def parse_size(text: str) -> tuple[int, int]:
    """Parse a size: `50x10` is (50, 10)."""
    M, cross, K = text.partition("x")
    if not (cross and M.isdecimal() and K.isdecimal()):
        raise ValueError(f"a size is APs x users, such as 50x10; got {text!r}")
    return int(M), int(K)


def configurations(presets: Sequence[str], sizes: Sequence[str], fields: dict[str, Any]) -> list[SystemConfig]:
    """Return a configuration for every size of every preset; a name given twice counts once.

    Raises:
        ValueError: a size or a preset among the fields, a malformed size, or a field that `SystemConfig` refuses.
    """
    for name in ("M", "K", "preset"):
        if name in fields:
            raise ValueError(f"this command takes several sizes and presets: use --sizes and --presets, not --{name}")
    return [
        SystemConfig(*parse_size(size), preset=preset, **fields)
        for preset in dict.fromkeys(presets)
        for size in dict.fromkeys(sizes)
    ]
