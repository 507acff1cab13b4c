"""A comparison whose decisions are stored policy by policy, so that a run that was killed goes on with what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import agents
import cfisac_env
from cfisac_env import SystemConfig
from experiments import compare, outputs, results, schemas
from experiments.compare import Comparison, PolicyResult, Row
from experiments.results import Column, Table, number, percent


def run(
    config: SystemConfig, policies: Sequence[str], drops: int, seed: int, folder: Path, step: Callable[[str], None]
) -> tuple[Comparison, list[Row]]:
    """Compare policies on the same drops, as `compare.run` does, and write the comparison to a folder.

    The decisions of each policy are kept in a file of its own with what they depend on, and are not made again: configuration, drops,
    version, and of an agent the digest of its weights. An agent without a digest decides anew every time.

    Returns:
        The comparison and its rows.
    """
    parts = [_decided(config, policy, drops, seed, folder, step) for policy in compare.build(policies, config)]
    whole = Comparison.merged(parts)
    rows = compare.summarise(whole)
    outputs.write(folder, whole, rows)
    return whole, rows


def _decided(
    config: SystemConfig, policy: Any, drops: int, seed: int, folder: Path, step: Callable[[str], None]
) -> Comparison:
    """One policy on the drops, from its file if that is about the same and whole."""
    path = folder / f"{policy.name}.json"
    about = {
        "cfisac": cfisac_env.__version__, "config": config.as_dict(), "drops": drops, "seed": seed, "policy": policy.name,
        "digest": getattr(policy, "digest", None),
    }  # fmt: skip
    known = policy.name not in agents.AGENTS or about["digest"] is not None
    if known and (stored := _stored(path, about, config, drops, seed)) is not None:
        for _ in range(drops):
            step(policy.name)
        return replace(stored, untrained=compare.untrained_fields([policy], config))
    made = compare.run(config, [policy], drops, seed, step)
    columns = {name: value for name, value in vars(made.results[0]).items() if name != "name"}
    columns |= {"infeasible": made.infeasible, "lower_bound_w": made.lower_bound_w}
    content = results.plain({**results.provenance(), "about": about, "columns": columns})
    schemas.check(content, "evaluation", path)
    results.write(folder, {path.name: content})
    return made


def _stored(path: Path, about: dict[str, Any], config: SystemConfig, drops: int, seed: int) -> Comparison | None:
    """What a file holds, or None where it is missing, damaged or about something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schemas.check(content, "evaluation", path)
    except (FileNotFoundError, ValueError):
        return None
    if content["about"] != about or any(len(column) != drops for column in content["columns"].values()):
        return None
    columns = {name: np.array(values, dtype=np.float64) for name, values in content["columns"].items()}
    infeasible, feasible = columns.pop("infeasible") > 0, columns.pop("feasible") > 0
    bound = np.where(infeasible, np.inf, columns.pop("lower_bound_w"))
    result = PolicyResult(name=about["policy"], feasible=feasible, **columns)
    return Comparison(config, list(range(seed, seed + drops)), infeasible, bound, [result])


Entry = tuple[Comparison, Row]

COLUMNS: tuple[Column[Entry], ...] = (
    Column("preset", lambda e: e[0].config.preset, code=True, rank=4),
    Column("M, K", lambda e: f"{e[0].config.M}, {e[0].config.K}", left=True),
    Column("drops", lambda e: str(int((~e[0].infeasible).sum())), rank=5),
    Column("policy", lambda e: e[1].policy, left=True, code=True),
    Column("feasible", lambda e: number(e[1].feasible_share, "{:.1%}"), outputs.NONE_SERVED, rank=1),
    Column("total W", lambda e: number(e[1].total_power_w.value), outputs.NONE_SERVED, rank=0),
    Column("to best", lambda e: percent(e[1].gap_to_best), outputs.NEVER_FEASIBLE, rank=2),
    Column("certified", lambda e: percent(e[1].certified_gap), outputs.NEVER_FEASIBLE, rank=2),
    Column("active APs", lambda e: number(e[1].active_aps, "{:.1f}"), outputs.NONE_SERVED, rank=3),
)


def table(made: Sequence[tuple[Comparison, Sequence[Row]]]) -> Table[Entry]:
    """All comparisons as one table.

    It has no times: these need a machine that does nothing else, see `cfisac compare`.
    """
    entries = [(comparison, row) for comparison, rows in made for row in rows]
    return Table(COLUMNS, entries, notes=outputs.NOTES + outputs.untrained(comparison for comparison, _ in made))
