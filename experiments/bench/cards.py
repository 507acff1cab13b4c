"""Cards of the shipped agents as a page: `python -m experiments.bench.cards` writes it beside the weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.rl import storage
from agents.rl.loading import WEIGHTS
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from cfisac_env import SystemConfig, seeds
from cfisac_env.files import write_text
from experiments.results import Column, Table

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "rl"


def page(weights: Path = WEIGHTS, results: Path = RESULTS) -> str:
    """Return Markdown with one section per agent, from the header of its file and the comparisons on test drops.

    Args:
        results: folder of `compare-MxK.json`.
    """
    parts = [
        "# Shipped agents\n\nWritten by `python -m experiments.bench.cards` from the headers of the files and from the comparisons in "
        "docs/results/rl. `agents.load(algorithm, M=…, K=…)` loads them; docs/rl.md describes and evaluates them.\n"
    ]
    for path in sorted(weights.glob("*.safetensors")):
        run, _, card = storage.read(path)
        parts.append(f"## {path.name}\n\n{_made(path, run, card)}\n{_tested(run, results)}")
    return "\n".join(parts)


def command(run: Run) -> str:
    """Return the `cfisac` command that trains an agent, with the options that differ from the defaults of command and preset."""
    usual = Run(run.algorithm, run.config, hyper_parameters(run.algorithm))
    preset = SystemConfig(run.config.M, run.config.K, preset=run.config.preset)
    pairs = (
        (run.config.as_dict(), preset.as_dict()),
        (asdict(run.parameters), asdict(usual.parameters)),
        ({"validation_drops": run.validation_drops}, {"validation_drops": usual.validation_drops}),
    )
    differing = {name: value for ours, theirs in pairs for name, value in ours.items() if value != theirs[name]}
    if run.config.preset != SystemConfig().preset:
        differing["preset"] = run.config.preset
    if run.mixed:
        differing["mixed"] = " ".join(run.mixed)
    options = [f"--{name.replace('_', '-')} {value}" for name, value in differing.items()]
    size = f"--M {run.config.M} --K {run.config.K} --seed {run.seed}"
    return " ".join(["cfisac train", run.algorithm, size, *options])


def _made(path: Path, run: Run, card: dict[str, Any]) -> str:
    first = seeds.of_run(run.seed)
    serves = "every size" if run.every_size else f"M={run.config.M}, K={run.config.K}"
    gap = "–" if card["gap"] is None or card["gap"] != card["gap"] else f"{100 * card['gap']:.1f} %"
    values = ", ".join(f"{name} {value:g}" for name, value in asdict(run.parameters).items())
    return (
        f"- {run.algorithm} in {run.environment}, preset {' and '.join([run.config.preset, *run.mixed])}; "
        f"trained at M={run.config.M}, K={run.config.K}, serves {serves}\n"
        f"- SHA-256 begins with {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}\n"
        f"- command: `{command(run)}`\n"
        f"- data: drops of environments seeded from {first:,} on (one seed each); the best validation on drops with seeds from "
        f"{seeds.VALIDATION:,} on was kept; test drops have seeds from {seeds.TEST:,} on\n"
        f"- kept after {card['steps']:,.0f} of {run.parameters.steps:,} environment steps, {card['seconds']:.0f} s after the start\n"
        f"- validation: {100 * card['feasible']:.1f} % feasible, gap to local-search {gap}, {card['total_power_w']:.3f} W, "
        f"{card['active_aps']:.1f} APs on\n"
        f"- hyper-parameters: {values}\n"
    )


COLUMNS: tuple[Column[tuple[str, dict[str, Any]]], ...] = (
    Column("test drops", lambda entry: entry[0]),
    Column("total W", lambda entry: f"{entry[1]['total_power_w']['value']:.3f}"),
    Column("active APs", lambda entry: f"{entry[1]['active_aps']:.1f}"),
    Column("feasible", lambda entry: f"{100 * entry[1]['feasible_share']:.1f} %"),
    Column(
        "gap to best known",
        lambda entry: None if (gap := entry[1]["gap_to_best"]) is None else f"{100 * gap:.2f} %",
        "feasible on no drop",
    ),
)


def _tested(run: Run, results: Path) -> str:
    entries = []
    for path in sorted(results.glob("compare-*.json"), key=lambda p: [int(x) for x in p.stem.split("-")[1].split("x")]):
        content = json.loads(path.read_text(encoding="utf-8"))
        config = content["config"]
        if not run.every_size and (config["M"], config["K"]) != (run.config.M, run.config.K):
            continue
        preset = f", {config['preset']}" if run.policy == "sets" else ""
        drops = f"{len(content['seeds'])} at M={config['M']}, K={config['K']}{preset}"
        entries += [(drops, row) for row in content["rows"] if row["policy"] == run.algorithm]
    return Table(COLUMNS, entries).markdown()


if __name__ == "__main__":
    print(f"wrote {write_text(WEIGHTS / 'README.md', page())}")
