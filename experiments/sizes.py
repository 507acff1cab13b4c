"""Sizes and presets on the command line, and random configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cfisac_env import PRESETS, SystemConfig


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


def random_configurations(
    rng: np.random.Generator, count: int, aps: int = 50, users: int = 13, receivers: int = 0, targets: int = 0
) -> list[SystemConfig]:
    """Draw configurations: any preset, 2 to `aps` APs, 1 to `users` users, and thresholds within 6 dB of the preset's.

    Args:
        rng: generator.
        count: number of configurations.
        aps: largest number of APs.
        users: largest number of users.
        receivers: largest number of receivers; 0 keeps the default number.
        targets: largest number of targets; 0 keeps the default number.
    """
    return [_random_configuration(rng, aps, users, receivers, targets) for _ in range(count)]


def _random_configuration(rng: np.random.Generator, aps: int, users: int, receivers: int, targets: int) -> SystemConfig:
    preset = sorted(PRESETS)[rng.integers(len(PRESETS))]
    sizes: dict[str, Any] = {"M": int(rng.integers(2, aps + 1)), "K": int(rng.integers(1, users + 1))}
    sinr_db, crlb_db = rng.uniform(-6.0, 6.0, 2)
    sizes |= {name: int(rng.integers(1, most + 1)) for name, most in (("T", receivers), ("S", targets)) if most}
    plain = SystemConfig(**sizes, preset=preset)
    return SystemConfig(
        **sizes,
        preset=preset,
        sinr_threshold_db=round(plain.sinr_threshold_db + sinr_db, 2),
        crlb_threshold_m2=round(plain.crlb_threshold_m2 * 10.0 ** (crlb_db / 10.0), 6),
    )
