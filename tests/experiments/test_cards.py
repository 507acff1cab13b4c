"""The cards of the shipped agents are those of the files that lie beside them."""

from __future__ import annotations

from agents.rl import storage
from agents.rl.agent import WEIGHTS
from experiments import cards


def test_the_page_of_cards_is_that_of_the_shipped_files() -> None:
    assert (WEIGHTS / "README.md").read_text(encoding="utf-8") == cards.page(), "run `python -m experiments.cards`"


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
            assert section.count("| 200 at M=") == (5 if run.policy == "graph" else 1)
