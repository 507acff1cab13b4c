"""Cards of the shipped agents against their files."""

from __future__ import annotations

import pytest

from agents.rl import storage
from agents.rl.loading import WEIGHTS
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from cfisac_env import SystemConfig
from experiments.bench import cards
from experiments.cli import _parse
from experiments.commands.train_rl import TrainRl

CONFIG = SystemConfig(
    8, 2, preset="high-rate", crlb_threshold_m2=20.0, effective_bandwidth_hz=5e6, rcs_model="exponential"
)


def test_the_page_of_cards_is_that_of_the_shipped_files() -> None:
    assert (WEIGHTS / "README.md").read_text(encoding="utf-8") == cards.page(), (
        "run `python -m experiments.bench.cards`"
    )


ODD = (
    Run("ddpg-paper", CONFIG, hyper_parameters("ddpg-paper", tau=0.5, steps=70_000), 7, validation_drops=3),
    Run("sac", CONFIG, hyper_parameters("sac", learning_rate=1e-5)),
    Run("ppo", SystemConfig(9, 2, preset="urban"), hyper_parameters("ppo"), 399),
    Run("ddpg", CONFIG, hyper_parameters("ddpg"), mixed=("paper", "urban")),
)


@pytest.mark.parametrize(
    "run", [*(storage.read(path)[0] for path in sorted(WEIGHTS.glob("*.safetensors"))), *ODD], ids=str
)
def test_the_command_on_a_card_describes_the_run_that_made_the_agent(run: Run) -> None:
    options, fields = _parse(cards.command(run).split()[1:])
    assert isinstance(options, TrainRl)
    assert options.planned(fields) == run


def test_every_shipped_agent_has_a_card_with_its_command_and_its_tests() -> None:
    page = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:]
    paths = sorted(WEIGHTS.glob("*.safetensors"))
    assert [section.split("\n")[0] for section in sections] == [path.name for path in paths]
    for section, path in zip(sections, paths, strict=True):
        run, _, card = storage.read(path)
        size = f"--M {run.config.M} --K {run.config.K} --seed {run.seed}"
        assert f"cfisac train {run.algorithm} {size}" in section
        assert f"{100 * card['feasible']:.1f} % feasible" in section
        if run.policy == "sets":
            assert section.count("| 50 at M=30, K=6, ") == 2  # both presets that it was trained on
        else:
            assert section.count("| 200 at M=") == (1 if run.algorithm == "ddpg-paper" else 5)
