"""Card and learning curve of the shipped `mobile-value`: `python -m experiments.bench.mobile_card` writes them from its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from agents.mobile import storage
from cfisac_env import seeds
from cfisac_env.files import write_text
from experiments import results

CURVES = Path(__file__).parents[2] / "docs" / "results" / "mobile" / "training"


def page(path: Path = storage.SHIPPED) -> str:
    """Return Markdown: origin, parameters, and validations."""
    value, about, curve = storage.read(path)
    training, config = about["training"], about["config"]
    options = " ".join(f"{name} {number:g}" for name, number in training.items())
    size = f"--preset {config['preset']} --M {config['M']} --K {config['K']} --T {config['T']}"
    names = list(curve[0])
    rows = [
        "| "
        + " | ".join(f"{row[name]:.0f}" if name in ("generation", "seconds") else f"{row[name]:.4g}" for name in names)
        + " |"
        for row in curve
    ]
    return "\n".join([
        f"# {path.name}", "", "Written by `python -m experiments.bench.mobile_card` from the file.", "",
        f"- mobile-value in CfIsacMobile-v0, preset {config['preset']}; trained at M={config['M']}, K={config['K']}, serves every size",
        f"- SHA-256 begins with {storage.digest(path)}",
        f"- command: `cfisac train mobile-value {size} --seed {training['seed']:g}`, with {options}",
        f"- data: episodes with seeds from {seeds.of_run(int(training['seed'])):,} on; the best validation on episodes with seeds from "
        f"{seeds.VALIDATION:,} on was kept; test episodes have seeds from {seeds.TEST:,} on",
        "- parameters: " + ", ".join(f"{name} {number:.3f}" for name, number in vars(value).items()), "",
        "Validations; *cost* is relative to that of the initial parameters on the training episodes, *seconds* are processor time:", "",
        "| " + " | ".join(names) + " |", "|" + "---:|" * len(names), *rows, "",
    ])  # fmt: skip


def figure(curve: list[dict[str, float]]) -> Figure:
    """Draw energy and service of the validations over the generations."""
    picture = results.canvas(8.0, 3.0)
    for axes, kind, scale, label in zip(
        picture.subplots(1, 2),
        ("energy_j", "served"),
        (1.0, 100.0),
        ("energy of an episode, J", "served instants, %"),
        strict=True,
    ):
        for name in curve[0]:
            if name.startswith(kind):
                numbers = [scale * row[name] for row in curve]
                axes.plot(
                    [row["generation"] for row in curve], numbers, marker="o", label=re.sub(r"^\w+ at ", "", name)
                )
        axes.set_xlabel("generation")
        axes.set_ylabel(label)
        axes.legend()
    return picture


def write(folder: Path = CURVES) -> list[Path]:
    """Write the card beside the parameters, and the curve as png and json."""
    _, about, curve = storage.read(storage.SHIPPED)
    content: dict[str, Any] = {"curve.png": figure(curve), "curve.json": {"about": about, "curve": curve}}
    return [write_text(storage.SHIPPED.parent / "README.md", page()), *results.write(folder, content)]


if __name__ == "__main__":
    for one in write():
        print(f"wrote {one}")
