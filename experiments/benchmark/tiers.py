"""Tiers of the benchmark: which drops of which configurations, and which episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

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
    priorities: bool = False  # played on `CfIsacPriority-v0`

    @property
    def drops(self) -> int:
        """Number of drops."""
        return sum(case.drops for case in self.cases)


@dataclass(frozen=True)
class EpisodeTier:
    """Episodes of `CfIsacMobile-v0` in which every instant can be served, the first from a seed on."""

    title: str
    config: SystemConfig
    switching_energy_j: float
    wake_up_steps: int
    episodes: int = 24
    episode_steps: int = 50
    seed: int = seeds.TEST

    @property
    def fields(self) -> dict[str, Any]:
        """Arguments of `CfIsacMobile-v0`."""
        return self.config.as_dict() | {
            "switching_energy_j": self.switching_energy_j,
            "wake_up_steps": self.wake_up_steps,
            "episode_steps": self.episode_steps,
        }


def _case(preset: str, M: int, K: int, drops: int) -> Case:
    return Case(SystemConfig(M=M, K=K, preset=preset), drops)


@cache
def tiers() -> Mapping[str, Tier]:
    """Return every tier of drops by name."""
    transfer = [
        ("paper", 20, 5),
        ("paper", 50, 10),
        ("paper", 50, 20),
        ("paper", 100, 20),
        ("urban", 20, 4),
        ("urban", 50, 10),
    ]
    at_30x6 = {preset: (_case(preset, 30, 6, 40),) for preset in ("paper", "urban")}
    return {
        "paper-30x6": Tier("`paper`, M = 30, K = 6", at_30x6["paper"]),
        "urban-30x6": Tier("`urban`, M = 30, K = 6", at_30x6["urban"]),
        "urban-50x20": Tier("`urban`, M = 50, K = 20", (_case("urban", 50, 20, 20),)),
        "sizes": Tier("other sizes of `paper` and `urban`, 8 drops each", tuple(_case(*size, 8) for size in transfer)),
        "random": Tier(
            "random configurations: 2 to 50 APs, 1 to 13 users, all presets, thresholds ± 6 dB", _random(60)
        ),
        **{
            f"priority-{preset}-30x6": Tier(f"the drops of `{preset}-30x6`, by priorities", cases, priorities=True)
            for preset, cases in at_30x6.items()
        },
    }


@cache
def episode_tiers() -> Mapping[str, EpisodeTier]:
    """Return every tier of episodes by name."""
    config = SystemConfig(M=30, K=6, T=4, preset="urban")
    return {
        "mobile-8j": EpisodeTier("8 J a switch-on, no wake-up time", config, 8.0, 0),
        "mobile-2j-wake-up": EpisodeTier("2 J a switch-on, two wake-up steps", config, 2.0, 2),
    }


def _random(count: int) -> tuple[Case, ...]:
    """Draw configurations with one drop each."""
    configs = random_configurations(np.random.default_rng(seeds.TEST), count)
    return tuple(Case(config, 1, seeds.TEST + i) for i, config in enumerate(configs))
