"""Cases of benches on the command line, and the processor time of a call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cfisac_env import PRESETS, SystemConfig
from cfisac_env.config import nearest
from experiments.sizes import parse_size

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """Random drops of one preset and size, with orthogonal pilots."""

    config: SystemConfig
    drops: int
    limit_s: float = math.inf  # of exact search


def parse_case(text: str, form: str) -> Case:
    """Parse a case such as `paper:50x10:2:20`, whose form is `preset:MxK:seconds:drops`; or without seconds."""
    try:
        parts = dict(zip(form.split(":"), text.split(":"), strict=True))
        (M, K), drops, limit = parse_size(parts["MxK"]), int(parts["drops"]), float(parts.get("seconds", "inf"))
        if min(M, K, drops) < 1 or not limit > 0.0:
            raise ValueError
    except ValueError:
        raise ValueError(f"a case is {form}, all numbers above 0, got {text!r}") from None
    if (preset := parts["preset"]) not in PRESETS:
        hint = nearest(preset, list(PRESETS))
        raise ValueError(f"unknown preset {preset!r} in {text!r}{hint}; valid presets: {', '.join(PRESETS)}")
    return Case(SystemConfig(M, K, preset=preset, pilot_length=max(K, 20)), drops, limit)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return the answer of a call, and the seconds of processor time that it took in this thread."""
    begin = time.thread_time()
    answer = work()
    return answer, time.thread_time() - begin
