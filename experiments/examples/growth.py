"""Growth of a network: active APs of near-optimal decisions against the number of users.

python -m experiments.examples.growth --out docs/images/gallery
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cfisac_env import SystemConfig
from experiments import compare, results
from experiments.examples.gallery import Drops, run
from experiments.statistics import Interval, bootstrap

POLICY = "most-informative-search"
PRESETS = {"paper": ("#0072b2", "o"), "urban": ("#009e73", "s"), "high-rate": ("#d55e00", "^")}


def active_aps(preset: str, K: int, drops: int) -> Interval:
    """Mean active APs of 40 for K users, over the test drops that can be served."""
    config = SystemConfig(M=40, K=K, preset=preset)
    comparison = compare.run(config, compare.build([POLICY], config), drops)
    return bootstrap(comparison.policies[POLICY].active_aps[~comparison.infeasible])


def figure(users: Sequence[int], aps: dict[str, list[Interval]]) -> Figure:
    """Draw means and 95 % intervals, and the fewest APs that the SINRs allow."""
    picture = results.canvas(6.4, 4.0)
    axes = picture.subplots()
    for preset, found in aps.items():
        colour, marker = PRESETS[preset]
        mean, low, high = np.array([(one.value, one.low, one.high) for one in found]).T
        axes.errorbar(users, mean, (mean - low, high - mean), color=colour, marker=marker, capsize=3, label=preset)
        threshold = SystemConfig(preset=preset).sinr_threshold
        axes.plot(users, [np.floor(K * threshold) + 1 for K in users], ":", color=colour)
    axes.plot([], [], ":", color="grey", label="fewest that the SINRs allow, ⌊Kγ⌋ + 1")
    axes.set(xlabel="users K", ylabel="active APs of 40", xticks=users, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return picture


def main(drops: Drops = 20, users: tuple[int, ...] = (2, 4, 6, 8, 10, 12), out: Path = Path("runs/gallery")) -> None:
    """Decide `drops` test drops for every number of users, and write growth.png."""
    aps = {preset: [active_aps(preset, K, drops) for K in users] for preset in PRESETS}
    for preset, found in aps.items():
        print(preset, *(f"K={K}: {one.value:.1f}" for K, one in zip(users, found, strict=True)))
    results.write(out, {"growth.png": figure(users, aps)})


if __name__ == "__main__":
    run(main)
