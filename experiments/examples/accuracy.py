"""Price of accuracy: total power and active APs against the required CRLB of the target, on the same drops throughout.

python -m experiments.examples.accuracy --out docs/images/gallery
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cfisac_env import SystemConfig
from experiments import compare, results
from experiments.examples.gallery import Drops, run

POLICY = "most-informative-search"
THRESHOLDS_M2 = (10.0, 3.0, 1.0, 0.3, 0.1, 0.05, 0.03)
Float = NDArray[np.float64]


def decided(threshold_m2: float, drops: int) -> tuple[Float, Float]:
    """Transmit power in W and active APs, (drops,) each; NaN where no decision meets the requirement."""
    config = SystemConfig(M=30, K=6, T=10, crlb_threshold_m2=threshold_m2)
    found = compare.run(config, compare.build([POLICY], config), drops).policies[POLICY]
    transmit_w, aps = np.where(found.feasible, (found.transmit_power_w, found.active_aps), np.nan)
    return transmit_w, aps


def figure(transmit_w: Float, aps: Float) -> Figure:
    """Draw the means over the drops that are served at every threshold, from (thresholds, drops) each."""
    always, served = np.isfinite(aps).all(0), np.isfinite(aps).mean(1)
    mean_aps = aps[:, always].mean(1)
    total = (circuit := SystemConfig().circuit_power_w * mean_aps) + transmit_w[:, always].mean(1)
    axes = (picture := results.canvas(6.4, 4.0)).subplots()
    axes.fill_between(THRESHOLDS_M2, circuit, color="#a6cee3", label="circuit")
    axes.fill_between(THRESHOLDS_M2, circuit, total, color="#0072b2", label="transmit")
    for x, y, n, share in zip(THRESHOLDS_M2, total, mean_aps, served, strict=True):
        axes.text(1.1 * x, y + 0.01 * total.max(), f"{n:.1f} APs\n{share:.0%}", ha="right", fontsize=8)
    axes.set(xscale="log", xlim=(20, 0.025), xlabel="required CRLB, m² (stricter to the right)")
    axes.set_xticks(THRESHOLDS_M2, [f"{one:g}" for one in THRESHOLDS_M2])
    axes.minorticks_off()
    axes.set(ylim=(0, 1.2 * total.max()), ylabel="total power, W")
    axes.set_title(f"means of the {always.sum()} drops served throughout; %: served of {always.size}", fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    return picture


def main(drops: Drops = 40, out: Path = Path("runs/gallery")) -> None:
    """Decide `drops` test drops at every threshold, and write accuracy.png."""
    transmit_w, aps = (np.array(one) for one in zip(*(decided(one, drops) for one in THRESHOLDS_M2), strict=True))
    for threshold, w, n in zip(THRESHOLDS_M2, transmit_w, aps, strict=True):
        print(f"{threshold:g} m²: {np.isfinite(n).sum()} served, {np.nanmean(n):.1f} APs, {np.nanmean(w):.3f} W")
    results.write(out, {"accuracy.png": figure(transmit_w, aps)})


if __name__ == "__main__":
    run(main)
