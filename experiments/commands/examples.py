"""An example of every command, for its `--help`."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "ablate hetgnn": "--labels runs/labels --sizes 30x6 --variants full",
    "bench allocator": "--sizes 30x6 50x20 --drops 8",
    "bench causal": "--M 6 --K 2 --episodes 2",
    "bench decisions": "--out runs/bench",
    "bench env": "--sizes 50x10 --environments 256",
    "bench mobile": "--preset urban --M 30 --K 6",
    "bench scale": "--out runs/bench",
    "bench selection": "--cases paper:30x6:8:10",
    "benchmark leaderboard": "--entries docs/leaderboard",
    "benchmark reference": "--out runs/reference.json",
    "benchmark run": "--policy my_module:policy --name mine --tiers urban-30x6",
    "compare": "--preset urban --policies strongest-ap most-informative-search hetgnn",
    "curves": "runs/ddpg-30x6-seed0 runs/ddpg-30x6-seed1",
    "dataset": "--policies local-search random --drops 1000",
    "doctor": "",
    "evaluate": "--sizes 30x6 50x20 --presets paper urban --workers 2",
    "label": "--sizes 30x6 50x10 --drops 800 --workers 2",
    "mobile": "--preset urban --switching-energy-j 2 --policies hysteresis predictive clairvoyant",
    "play": "--preset urban --policy hetgnn-exact",
    "presets": "--drops 20",
    "report": "--results runs/paper --out runs/paper.html",
    "reproduce all": "--drops 20 --presets paper --workers 2",
    "reproduce errata": "--drops 100",
    "reproduce fig3": "--drops 20 --presets paper",
    "reproduce fig4": "--drops 20 --presets paper",
    "reproduce table2": "--drops 20 --policies hetgnn local-search",
    "reproduce times": "--timed-drops 3",
    "trace": "--scene munich --M 20 --K 6 --drops 20 --out runs/munich.npz",
    "train ddpg": "--preset urban --mixed urban:50x20",
    "train ddpg-paper": "--M 30 --K 6 --steps 100000",
    "train grpo": "--preset urban --mixed urban:50x20",
    "train hetgnn": "--labels runs/labels --epochs 100",
    "train mobile-value": "--preset urban --generations 100",
    "train ppo": "--M 10 --K 3 --steps 100000",
    "train sac": "--M 10 --K 3 --steps 100000",
    "train td3": "--M 10 --K 3 --steps 100000",
    "warmup": "--workers 2",
}
"""Name of a command → options with which it does something sensible."""
