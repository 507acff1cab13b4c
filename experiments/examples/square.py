"""Ray-traced square: its gains and least powers beside those of the random disc of the same size.

python -m experiments.examples.square --out docs/images/gallery
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import baselines
from cfisac_env import Scenario, seeds
from cfisac_env.drops import load
from cfisac_env.sampling import draw
from experiments import results
from experiments.examples.gallery import Drops, run

ETOILE = Path("docs/results/etoile/etoile.npz")
THRESHOLDS_M2 = (1.0, 3.0, 10.0, 30.0)
COLOURS = {"ray-traced square": "#d55e00", "random disc": "#0072b2"}


def least_w(drops: Scenario, threshold_m2: float) -> list[float]:
    """Total power of every drop in W by exact search; NaN where no decision meets the requirements."""
    policy, changed = baselines.make("branch-and-bound"), load(drops, {"crlb_threshold_m2": threshold_m2})
    outcomes = [(one := changed[i]).evaluate(policy.decide(one.problem).decision) for i in range(len(drops))]
    return [float(one.total_power) if one.feasible else np.nan for one in outcomes]


def figure(networks: dict[str, Scenario]) -> Figure:
    """Draw the gains over distance, and the least power of every drop over the required CRLB."""
    links, power = (picture := results.canvas(9.0, 3.8)).subplots(1, 2)
    for shift, (name, drops) in zip((-0.06, 0.06), networks.items(), strict=True):
        distance = np.linalg.norm(drops.ap_xy[..., :, None, :] - drops.ue_xy[..., None, :, :], axis=-1)
        links.scatter(distance, 10 * np.log10(drops.gain), s=6, color=COLOURS[name], alpha=0.6)
        for threshold in THRESHOLDS_M2:
            found = np.array(least_w(drops, threshold))
            print(f"{name}, {threshold:g} m²: {np.isfinite(found).sum()} served, {np.nanmean(found):.2f} W")
            power.scatter(np.full(len(found), threshold * 10**shift), found, s=18, color=COLOURS[name])
        power.plot([], [], "o", color=COLOURS[name], label=f"{name}: {np.isfinite(found).sum()} of {len(found)} served")
    links.set(xlabel="distance of AP and user, m", ylabel="gain, dB")
    power.set(xscale="log", xlabel="required CRLB, m²", ylabel="least total power of a drop, W", ylim=(0, None))
    power.set_xticks(THRESHOLDS_M2, [f"{one:g}" for one in THRESHOLDS_M2])
    power.minorticks_off()
    power.legend(frameon=False)
    return picture


def main(drops: Drops = 6, file: Path = ETOILE, out: Path = Path("runs/gallery")) -> None:
    """Solve the first `drops` drops of a file of `cfisac trace` and as many random test drops, and write square.png."""
    traced = Scenario.load(file)[:drops]
    disc = draw(traced.config, range(seeds.TEST, seeds.TEST + len(traced)))
    results.write(out, {"square.png": figure(dict(zip(COLOURS, (traced, disc), strict=True)))})


if __name__ == "__main__":
    run(main)
