"""Tiers of the benchmark: which drops of which configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from cfisac_env import SystemConfig, seeds
from experiments.sizes import random_configurations


@dataclass(frozen=True)
class Case:
    """Drops of one configuration: seeds from `seed` on."""

    config: SystemConfig
    drops: int
    seed: int = seeds.TEST

    @property
    def name(self) -> str:
        """Folder of its decisions."""
        return f"{self.config.preset}-{self.config.M}x{self.config.K}-{self.seed}"


@dataclass(frozen=True)
class Tier:
    """Cases whose drops count alike."""

    title: str
    cases: tuple[Case, ...]

    @property
    def drops(self) -> int:
        """Number of drops."""
        return sum(case.drops for case in self.cases)


def _case(preset: str, M: int, K: int, drops: int) -> Case:
    return Case(SystemConfig(M=M, K=K, preset=preset), drops)


@cache
def tiers() -> Mapping[str, Tier]:
    """Return every tier by name."""
    transfer = [
        ("paper", 20, 5),
        ("paper", 50, 10),
        ("paper", 50, 20),
        ("paper", 100, 20),
        ("urban", 20, 4),
        ("urban", 50, 10),
    ]
    return {
        "paper-30x6": Tier("`paper`, M = 30, K = 6", (_case("paper", 30, 6, 40),)),
        "urban-30x6": Tier("`urban`, M = 30, K = 6", (_case("urban", 30, 6, 40),)),
        "urban-50x20": Tier("`urban`, M = 50, K = 20", (_case("urban", 50, 20, 20),)),
        "sizes": Tier("other sizes of `paper` and `urban`, 8 drops each", tuple(_case(*size, 8) for size in transfer)),
        "random": Tier(
            "random configurations: 2 to 50 APs, 1 to 13 users, all presets, thresholds ± 6 dB", _random(60)
        ),
    }


def _random(count: int) -> tuple[Case, ...]:
    """Draw configurations with one drop each."""
    configs = random_configurations(np.random.default_rng(seeds.TEST), count)
    return tuple(Case(config, 1, seeds.TEST + i) for i, config in enumerate(configs))
