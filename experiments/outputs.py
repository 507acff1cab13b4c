"""A comparison as a table in the terminal, JSON, CSV and a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from experiments.compare import Comparison, Row
from experiments.files import provenance, write_csv, write_json, write_picture, write_text

_POWER, _CIRCUIT, _MISSED = "#0072b2", "#a6cee3", "#d55e00"


_HEADINGS = (
    "policy",
    "total W",
    "IQM W",
    "transmit W",
    "active APs",
    "feasible",
    "worst miss",
    "to best",
    "certified",
    "ms",
)


def _cells(row: Row) -> tuple[str, ...]:
    total = row.total_power_w
    if not np.isfinite(total.value):  # no drop could be served
        return (row.policy, *["–"] * (len(_HEADINGS) - 1))
    return (
        row.policy,
        f"{total.value:.3f} [{total.low:.2f}, {total.high:.2f}]",
        f"{row.total_power_iqm_w.value:.3f}",
        f"{row.transmit_power_w:.3f}",
        f"{row.active_aps:.1f}",
        f"{row.feasible_share:.0%}",
        _percent(row.worst_violation) if row.worst_violation > 1e-4 else "–",
        _percent(row.gap_to_best),
        _percent(row.certified_gap),
        f"{row.milliseconds:.3g}" if row.milliseconds < 1000 else f"{row.milliseconds:.0f}",
    )


def table(comparison: Comparison, rows: list[Row]) -> Table:
    """The table that the terminal shows."""
    config = comparison.config
    served = int((~comparison.infeasible).sum())
    view = Table(
        title=f"{config.preset}, M={config.M}, K={config.K}: {served} drops"
        + (f" ({comparison.infeasible.sum()} more certified infeasible)" if comparison.infeasible.any() else ""),
        caption="power: mean [95 % bootstrap interval]; feasible: drops with every requirement met; "
        "gaps: over the drops where the policy is feasible"
        + ("; users share pilots: allocated powers are local optima" if config.pilots_reused else ""),
    )
    for i, heading in enumerate(_HEADINGS):
        view.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        view.add_row(*_cells(row))
    return view


def markdown(rows: list[Row]) -> str:
    """The same table for a page."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---" + "|---:" * (len(_HEADINGS) - 1) + "|"]
    lines += ["| " + " | ".join((f"`{cells[0]}`", *cells[1:])) + " |" for cells in map(_cells, rows)]
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    if not np.isfinite(share):
        return "–"
    return f"{share:.2%}" if share < 1 else f"{share:.3g}×"


def write(folder: Path, comparison: Comparison, rows: list[Row]) -> list[Path]:
    """Write `compare.json`, `compare.csv`, `compare.md` and `compare.png` into a folder."""
    flat = [_flat(row) for row in rows]
    content = {
        "config": comparison.config.as_dict(),
        "seeds": comparison.seeds,
        **provenance(),
        "rows": [dataclasses.asdict(row) for row in rows],
        "drops": {
            "certified_infeasible": comparison.infeasible,
            "lower_bound_w": comparison.lower_bound_w,
            "best_known_w": comparison.best_known_w,
            "policies": {
                result.name: {key: value for key, value in vars(result).items() if key != "name"}
                for result in comparison.results
            },
        },
    }
    return [
        write_json(folder / "compare.json", content),
        write_csv(folder / "compare.csv", flat),
        write_text(folder / "compare.md", markdown(rows)),
        write_picture(folder / "compare.png", figure(comparison, rows)),
    ]


def _flat(row: Row) -> dict[str, Any]:
    """Intervals become three columns."""
    flat: dict[str, Any] = {}
    for key, value in dataclasses.asdict(row).items():
        if isinstance(value, dict):
            flat |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        else:
            flat[key] = value
    return flat


def figure(comparison: Comparison, rows: list[Row]) -> Figure:
    """Total power with its interval, share of drops served, and time a decision, one line a policy."""
    config = comparison.config
    result = Figure(figsize=(11, 1.6 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(result)
    power, served, clock = result.subplots(1, 3, sharey=True, width_ratios=[3, 1.3, 1.5])
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
    power.set_yticks(y, [row.policy for row in rows])
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
    result.suptitle(f"{config.preset}: M = {config.M} APs, K = {config.K} users, {len(bound)} drops", fontsize=11)
    return result
