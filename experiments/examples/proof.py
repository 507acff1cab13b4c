"""Distance of reinforcement learning from proof: gaps of a rule, `ddpg` and a search to the certified bound, drop by drop.

python -m experiments.examples.proof --out docs/images/gallery
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from baselines.bounds import relative_gap
from cfisac_env import SystemConfig
from experiments import compare, results
from experiments.compare import Comparison
from experiments.examples.gallery import Drops, run

COLOURS = {
    "most-informative": "#e69f00",
    "most-informative-search": "#009e73",
    "ddpg": "#d55e00",
    "branch-and-bound": "#000000",
}


def figure(comparison: Comparison) -> Figure:
    """Draw the sorted gaps, one line a policy; a drop that a policy doesn't serve counts as an infinite gap."""
    picture = results.canvas(6.4, 4.0)
    axes = picture.subplots()
    for one in comparison.results:
        rows = ~comparison.infeasible
        gap = relative_gap(one.total_power_w, comparison.lower_bound_w)
        gaps = np.sort(np.where(one.feasible, 100 * gap, np.inf)[rows])
        share = 100 * np.arange(1, len(gaps) + 1) / len(gaps)
        axes.step(gaps, share, where="post", color=COLOURS[one.name], label=one.name)
        print(
            f"{one.name}: gap of {gaps.mean():.2f} % on average, below 0.01 % on {(gaps < 0.01).mean():.0%} of the drops"
        )
    config = comparison.config
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    axes.set(xlabel="gap to the certified bound, %", ylabel="drops with at most this gap, %", xlim=(-0.1, None))
    axes.set_title(f"{config.preset}, M = {config.M}, K = {config.K}: {len(gaps)} drops", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return picture


def main(drops: Drops = 40, preset: str = "urban", M: int = 30, K: int = 6, out: Path = Path("runs/gallery")) -> None:
    """Let all policies decide `drops` test drops, and write proof.png."""
    config = SystemConfig(M=M, K=K, preset=preset)
    comparison = compare.run(config, compare.build(list(COLOURS), config), drops)
    results.write(out, {"proof.png": figure(comparison)})


if __name__ == "__main__":
    run(main)
