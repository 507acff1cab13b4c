"""Table and figure of a comparison, and the files that hold it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import results
from experiments.compare import Comparison, PolicySummary
from experiments.results import Column, Result, Table, milliseconds, number, percent, span

_POWER, _CIRCUIT, _MISSED = "#0072b2", "#a6cee3", "#d55e00"

NONE_SERVED = "no drop can be served"
NEVER_FEASIBLE = "the policy is feasible on no drop"

COLUMNS: tuple[Column[PolicySummary], ...] = (
    Column("policy", lambda row: row.policy, code=True),
    Column("total W", lambda row: number(row.total_power_w.value), NONE_SERVED, rank=0),
    Column("95 % interval", lambda row: span(row.total_power_w), results.ONE_VALUE, rank=5),
    Column("IQM W", lambda row: number(row.total_power_iqm_w.value), NONE_SERVED, rank=8),
    Column("transmit W", lambda row: number(row.transmit_power_w), NONE_SERVED, rank=7),
    Column("active APs", lambda row: number(row.active_aps, "{:.1f}"), NONE_SERVED, rank=3),
    Column("feasible", lambda row: number(row.feasible_share, "{:.0%}"), NONE_SERVED, rank=1),
    Column("worst miss", lambda row: miss(row.worst_violation), NONE_SERVED, rank=6),
    Column("to best", lambda row: percent(row.gap_to_best), NEVER_FEASIBLE, rank=2),
    Column("certified", lambda row: percent(row.certified_gap), NEVER_FEASIBLE, rank=2),
    Column("ms", lambda row: milliseconds(1e-3 * row.milliseconds), NONE_SERVED, rank=4),
)


def column(heading: str, **changes: Any) -> Column[Any]:
    """Return a column of `COLUMNS` for another table, with some fields changed."""
    return replace(next(one for one in COLUMNS if one.heading == heading), **changes)


NOTES = (
    "total W: mean over the drops; IQM: of their middle half; feasible: drops with every requirement met; worst miss: largest relative "
    "miss of one; to best, certified: gap to the least power of any feasible decision and to the certified bound, over the drops where "
    "the policy is feasible"
)


def miss(share: float) -> str | None:
    """Format a relative miss of a requirement; one within the tolerance is none."""
    return "none" if share <= 1e-4 else percent(share)


def table(comparison: Comparison, rows: Sequence[PolicySummary]) -> Table[PolicySummary]:
    """Return the table, one row a policy."""
    config = comparison.config
    served, lost = int((~comparison.infeasible).sum()), int(comparison.infeasible.sum())
    title = f"{config.preset}, M={config.M}, K={config.K}: {served} drops"
    if lost:
        title += f" ({lost} more certified infeasible)"
    notes = NOTES + ("; users share pilots: allocated powers are local optima" if config.pilots_reused else "")
    return Table(COLUMNS, rows, title, notes + untrained([comparison]))


def untrained(comparisons: Iterable[Comparison]) -> str:
    """Return the part of the notes on agents that weren't trained for the configuration."""
    found = {f"`{name}` wasn't trained for {fields}" for one in comparisons for name, fields in one.untrained.items()}
    return "".join(f"; {sentence}" for sentence in sorted(found))


def result(comparison: Comparison, rows: Sequence[PolicySummary]) -> Result:
    """Return `compare.md`, `compare.csv`, `compare.json` and `compare.png`."""
    content: dict[str, Any] = {
        "config": comparison.config.as_dict(),
        "seeds": comparison.seeds,
        "rows": rows,
        "drops": {
            "certified_infeasible": comparison.infeasible,
            "lower_bound_w": comparison.lower_bound_w,
            "best_known_w": comparison.best_known_w,
            "policies": {
                one.name: {key: value for key, value in vars(one).items() if key != "name"}
                for one in comparison.results
            },
        },
    }
    return Result("compare", [table(comparison, rows)], content, rows, figure=figure(comparison, rows))


def figure(comparison: Comparison, rows: Sequence[PolicySummary]) -> Figure:
    """Draw total power with its interval, share of drops served, and time a decision, one line a policy."""
    config = comparison.config
    picture = results.canvas(11, 1.6 + 0.42 * len(rows))
    power, served, clock = picture.subplots(1, 3, sharey=True, width_ratios=[3, 1.3, 1.5])
    y = np.arange(len(rows))[::-1]
    circuit = np.array([row.circuit_power_w for row in rows])
    transmit = np.array([row.transmit_power_w for row in rows])
    spread = np.array(
        [[r.total_power_w.value - r.total_power_w.low, r.total_power_w.high - r.total_power_w.value] for r in rows]
    )
    power.barh(y, circuit, color=_CIRCUIT, label="circuit")
    power.barh(y, transmit, left=circuit, color=_POWER, label="transmit", xerr=np.nan_to_num(spread).T, capsize=2)
    bound = comparison.lower_bound_w[~comparison.infeasible]
    if bound.size:
        power.axvline(float(bound.mean()), color="black", linestyle=":", label="certified lower bound")
    power.set_yticks(y, [results.escaped(row.policy) for row in rows])
    power.set_xlabel("total power, W (mean over drops, 95 % interval)")
    power.legend(frameon=False, fontsize=8)
    share = np.array([row.feasible_share for row in rows])
    served.barh(y, share, color=[_POWER if s > 0.999 else _MISSED for s in share])
    for height, value in zip(y, share, strict=True):
        served.text(min(value + 0.03, 1.03), height, f"{value:.0%}", va="center", fontsize=8)
    served.set_xlim(0, 1.3)
    served.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    served.set_xlabel("drops with all requirements met")
    clock.plot([row.milliseconds for row in rows], y, "o", color="black")
    clock.set_xscale("log")
    clock.grid(axis="x", alpha=0.3)
    clock.set_xlabel("time a decision, ms")
    for axis in (power, served, clock):
        axis.spines[["top", "right"]].set_visible(False)
    picture.suptitle(f"{config.preset}: M = {config.M} APs, K = {config.K} users, {len(bound)} drops", fontsize=11)
    return picture
