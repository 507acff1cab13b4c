"""One comparison for every size and preset, and one table of them all; a run that was killed goes on with what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cfisac_env import SystemConfig
from experiments import compare, outputs
from experiments.files import provenance, write_json


def run(
    config: SystemConfig, policies: Sequence[str], drops: int, seed: int, folder: Path, step: Callable[[str], None]
) -> dict[str, Any]:
    """Compare policies on the same drops, as `compare.run` does, and write the comparison to a folder.

    What each policy decided is kept in a file of its own, with what it depends on, and not decided again.

    Returns:
        The content of `compare.json`.
    """
    runs = [_decided(config, policy, drops, seed, folder, step) for policy in compare.build(policies, config)]
    first, results = runs[0], [run.results[0] for run in runs]
    totals = np.stack([np.where(result.feasible, result.total_power_w, np.inf) for result in results])
    whole = replace(first, best_known_w=totals.min(0), results=results)
    outputs.write(folder, whole, compare.summarise(whole))
    content: dict[str, Any] = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    return content


def _decided(
    config: SystemConfig, policy: Any, drops: int, seed: int, folder: Path, step: Callable[[str], None]
) -> compare.Comparison:
    """One policy on the drops, from its file if that is about the same."""
    path = folder / f"{policy.name}.json"
    about = {"config": config.as_dict(), "drops": drops, "seed": seed, "weights": getattr(policy, "weights", None)}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        found = {}
    if found.get("about") == about:
        columns = {name: np.array(values, dtype=np.float64) for name, values in found["columns"].items()}
        infeasible, feasible = columns.pop("infeasible") > 0, columns.pop("feasible") > 0
        bound = np.where(infeasible, np.inf, columns.pop("lower_bound_w"))
        result = compare.PolicyResult(name=policy.name, feasible=feasible, **columns)
        totals = np.where(feasible, result.total_power_w, np.inf)
        return compare.Comparison(config, list(range(seed, seed + drops)), infeasible, bound, totals, [result])
    made = compare.run(config, [policy], drops, seed, step)
    columns = {name: value for name, value in vars(made.results[0]).items() if name != "name"}
    known = {"infeasible": made.infeasible, "lower_bound_w": made.lower_bound_w}
    write_json(path, {**provenance(), "about": about, "columns": {**columns, **known}})
    return made


def table(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """All comparisons as one Markdown table; gaps are means over the drops where the policy is feasible.

    It has no times: these need a machine that does nothing else, see `cfisac compare`.
    """
    lines = [
        "| preset | M, K | drops | policy | served | total W | above best known | above certified bound | active APs |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for content in comparisons:
        config = content["config"]
        drops = content["drops"]["certified_infeasible"].count(False)
        for row in content["rows"]:
            gap, certified = (_percent(row[name]) for name in ("gap_to_best", "certified_gap"))
            if not drops:
                continue
            lines.append(
                f"| `{config['preset']}` | {config['M']}, {config['K']} | {drops} | `{row['policy']}` | {row['feasible_share']:.1%} "
                f"| {row['total_power_w']['value']:.3f} | {gap} | {certified} | {row['active_aps']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
