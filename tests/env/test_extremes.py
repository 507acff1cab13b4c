"""Every configuration that `SystemConfig` accepts gives observations within their spaces, and numbers that are finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfisac_env import PRESETS, CfIsacEnv, CfIsacMobileEnv, Scenario, SystemConfig, sample
from cfisac_env.config import CHOICES, RANGES, WEIGHTS

SEED = 1_000_077
FEW = {"M": 4, "K": 4, "T": 3, "S": 3, "pilot_length": 5}
"""Most of what takes memory, or shares pilots."""


def configurations(count: int, seed: int = SEED) -> Iterator[SystemConfig]:
    """Configurations drawn over the whole of what is accepted, a fifth of the numbers at an end of their range."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        fields: dict[str, Any] = {"preset": str(rng.choice(list(PRESETS)))}
        fields |= {name: str(rng.choice(choices)) for name, choices in CHOICES.items()}
        for name, (low, high) in RANGES.items():
            if name in WEIGHTS and fields["reward"] != "linear":
                continue
            if name in FEW:
                fields[name] = int(rng.integers(1, FEW[name] + 1))
            elif rng.random() < 0.7:
                if rng.random() < 0.2:
                    value = float(rng.choice([low, high]))
                elif low > 0.0 and high / low > 1e3:
                    value = float(np.exp(rng.uniform(math.log(low), math.log(high))).clip(low, high))
                else:
                    value = float(rng.uniform(low, high))
                fields[name] = int(value) if name == "integration_symbols" else value
        if fields["reward"] == "log" and fields.get("circuit_power_w") == 0.0:
            fields["circuit_power_w"] = RANGES["circuit_power_w"][1]
        yield SystemConfig(**fields)


@pytest.mark.parametrize(
    ("make", "count"),
    [(CfIsacEnv, 4200), (CfIsacMobileEnv, 800)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_observations_of_5000_random_configurations_lie_within_their_spaces(make: Any, count: int) -> None:
    rng = np.random.default_rng(0)
    for i, config in enumerate(configurations(count)):
        env = make(**config.as_dict(), episode_steps=3)
        space: Any = env.observation_space
        action = rng.choice([-1.0, 0.3, 1.0], env.action_space.shape).astype(np.float32)
        observation, _ = env.reset(seed=i)
        after, reward, _, _, info = env.step(action)
        for seen in (observation, after):
            for key, entry in space.items():
                assert entry.contains(seen[key]), (key, config)
        numbers = [reward, info["total_power_w"], *info["sinr_db"], *info["reward_terms"].values()]
        assert np.isfinite(numbers).all(), config
        assert not np.isnan(info["crlb_m2"]).any(), config


def test_drops_of_extreme_configurations_come_back_from_a_file(tmp_path: Path) -> None:
    for i, config in enumerate(configurations(100, SEED + 1)):
        drops = sample(config, np.random.default_rng(i), 2)
        again = Scenario.load(drops.save(tmp_path / "drops.npz"))
        np.testing.assert_array_equal(again.gain, drops.gain)
        np.testing.assert_array_equal(again.fisher, drops.fisher)
