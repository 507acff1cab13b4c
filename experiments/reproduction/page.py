"""Self-contained HTML page of a folder of results: tables, figures with their values, and a map of every stored drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any

import jinja2
import numpy as np
from plotly.offline import get_plotlyjs

from experiments.reproduction import decisions, figures, policies, run, summary, tables, timing
from experiments.reproduction import points as plan
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.reproduction.summary import PointSummary
from experiments.reproduction.tables import Shown
from experiments.results import plain

PANELS = ("local-search", "hetgnn", "decoupled")
"""Policies that the three maps show first."""


def build(study: run.Reproduction, maps: int) -> str:
    """Return the page.

    Args:
        maps: drops a point with a map, at most.

    Raises:
        ValueError: nothing is stored.
    """
    shown = study.shown()
    if not shown:
        raise ValueError(f"no decisions are stored in {study.folder}; make them with cfisac reproduce all --out …")
    rows = {point: here for point, (_, here) in shown.items()}
    timed = study.times.seconds
    names = {row.policy for here in rows.values() for row in here} | {name for row in timed.values() for name in row}
    paper = tables.printed_table({point: rows[point] for point in plan.TABLE if point in rows})
    content = {
        "made": _made(study),
        "headings": [column.heading for column in tables.COLUMNS],
        "points": [_point(study.stores[point], one, timed, maps) for point, one in shown.items()],
        "colors": {name: figures.color(name) for name in policies.order(names)},
        "presets": list(dict.fromkeys(point.preset for point in shown)),
        "sweeps": [_sweep(along, rows) for along in plan.sweeps()],
        "times": [_time(*curve) for curve in timing.curves(timed)],
        "times_label": f"access points M (K = {plan.USERS_OF_APS})",
        "printed": {"headings": paper.headings, "cells": paper.cells(), "reasons": paper.reasons()},
        "panels": PANELS,
    }
    folder = package_files("experiments.reproduction")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    # `tojson` writes <, >, & and ' as \\u…, so that no name ends the block of data.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    page: str = environment.from_string((folder / "page.html").read_text(encoding="utf-8")).render(
        data=plain(content), plotly=get_plotlyjs(), script=(folder / "page.js").read_text(encoding="utf-8")
    )
    return page


def _made(study: run.Reproduction) -> str:
    first = min(seed for store in study.stores.values() for seed in store.drops)
    notes = " ".join(note.replace("`", "") + "." for note in study.notes)
    return (
        f"Decisions stored by cfisac {next(iter(study.stores.values())).journal.header['cfisac']}, seeds from {first:,} on; "
        f"differences to {study.options.reference}. {notes}"
    )


def _point(store: PointStore, shown: Shown, timed: timing.Seconds, maps: int) -> dict[str, Any]:
    data, rows = shown
    table = tables.point_table(rows)
    names = ("area_diameter_m", "sinr_threshold_db", "crlb_threshold_m2", "max_ap_power_w")
    return {
        "key": data.point.key,
        "title": tables.title(data.point).replace("`", ""),
        "config": {name: getattr(store.config, name) for name in names},
        "counted": tables.counted(data),
        "cells": table.cells(),
        "reasons": table.reasons(),
        "claims": [text.replace("`", "") for text in summary.sentences(data, timed)],
        "drops": [_drop(store, seed, data.names) for seed in data.served[:maps]],
    }


def _drop(store: PointStore, seed: int, names: Sequence[str]) -> dict[str, Any]:
    scenario = decisions.drop(store.point, seed).scenario
    made = {}
    for name in policies.order(name for name in store.drops[seed]["decisions"] if name in names):
        record = store.drops[seed]["decisions"][name]
        radiated = decisions.stored_decision(record, store.point).power.sum(1)
        fisher = np.einsum("m,msi->si", radiated, np.asarray(scenario.fisher))
        made[name] = {
            key: value for key, value in record.items() if key not in ("seconds", "lower_bound_w", "violation")
        }
        made[name]["fisher"] = [[decisions.rounded(value, 5) for value in one] for one in fisher]
    places = {"ap": scenario.ap_xy, "ue": scenario.ue_xy, "sr": scenario.sr_xy, "target": scenario.target_xy}
    return {"seed": seed, "decisions": made, **{name: np.round(xy, 1) for name, xy in places.items()}}


def _sweep(along: Sequence[Point], rows: Mapping[Point, Sequence[PointSummary]]) -> dict[str, Any]:
    axis, _ = plan.axes(along)
    label = f"users K (M = {along[0].M})" if axis == "K" else f"access points M (K = {along[0].K})"
    curves = [
        {
            "policy": curve.policy,
            "x": curve.x,
            "power": [row.total_power_w for row in curve.rows],
            "active": [row.active_aps for row in curve.rows],
            "drops": [row.drops for row in curve.rows],
            "feasible": [row.feasible_share.value for row in curve.rows],
            "serves": curve.serves,
        }
        for curve in summary.curves(rows, along, axis)
    ]
    ticks = [getattr(point, axis) for point in along]
    return {"preset": along[0].preset, "axis": axis, "label": label, "ticks": ticks, "curves": curves}


def _time(name: str, x: Sequence[int], taken: Sequence[Sequence[float]]) -> dict[str, Any]:
    median = [float(np.median(seconds)) for seconds in taken]
    up = [max(seconds) - middle for seconds, middle in zip(taken, median, strict=True)]
    down = [middle - min(seconds) for seconds, middle in zip(taken, median, strict=True)]
    return {"policy": name, "x": x, "median": median, "up": up, "down": down}
