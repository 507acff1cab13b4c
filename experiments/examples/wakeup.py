"""Price of a wake-up delay: energy and unserved instants of an episode against the seconds that an AP needs to wake up.

python -m experiments.examples.wakeup --out docs/images/gallery
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import baselines
from cfisac_env import seeds
from experiments import mobile, results
from experiments.examples.gallery import Drops, run

POLICIES = {"hysteresis": "#e69f00", "predictive": "#d55e00", "clairvoyant": "#000000"}  # name → colour
NETWORK: dict[str, Any] = {"M": 30, "K": 6, "T": 4, "preset": "urban", "episode_steps": 30, "switching_energy_j": 2.0}


def played(wake_up_steps: int, episodes: int) -> NDArray[np.float64]:
    """Mean energy in J and unserved instants in % of every policy, (policies, 2)."""
    env = gym.make("CfIsacMobile-v0", wake_up_steps=wake_up_steps, **NETWORK)
    episode_seeds = range(seeds.TEST, seeds.TEST + episodes)
    values = [[mobile.play(env, baselines.make(name), seed) for seed in episode_seeds] for name in POLICIES]
    numbers = [[(one["energy_j"], 100 * (1 - one["served"])) for one in row] for row in values]
    return np.asarray(np.mean(numbers, axis=1))


def figure(delays: Sequence[int], values: NDArray[np.float64]) -> Figure:
    """Draw values (delays, policies, 2)."""
    picture = results.canvas(8.0, 3.6)
    labels = ("energy of an episode, J", "unserved instants, %")
    for column, (axes, label) in enumerate(zip(picture.subplots(1, 2), labels, strict=True)):
        for row, name in enumerate(POLICIES):
            axes.plot(delays, values[:, row, column], color=POLICIES[name], marker="o", label=name)
        axes.set(xlabel="wake-up time, s", ylabel=label, xticks=delays)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return picture


def main(drops: Drops = 4, delays: tuple[int, ...] = (0, 1, 2, 4, 8), out: Path = Path("runs/gallery")) -> None:
    """Let all policies play `drops` test episodes for every delay, and write wakeup.png."""
    values = np.array([played(delay, drops) for delay in delays])
    for delay, row in zip(delays, values, strict=True):
        print(
            f"{delay} s:", *(f"{name} {j:.1f} J, {lost:.1f} %;" for name, (j, lost) in zip(POLICIES, row, strict=True))
        )
    results.write(out, {"wakeup.png": figure(delays, values)})


if __name__ == "__main__":
    run(main)
