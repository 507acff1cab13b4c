"""One self-contained HTML page of a folder of results: tables, figures with their values, and the map of every stored drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any

import jinja2
import numpy as np
from plotly.offline import get_plotlyjs

from experiments.reproduction import decisions, figures, run, summary, tables
from experiments.reproduction import points as plan
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.reproduction.summary import PointData, Row
from experiments.results import plain
from experiments.statistics import Interval

PANELS = ("local-search", "hetgnn", "decoupled")
"""Policies of the three maps to begin with, where they are."""


def build(study: run.Reproduction, maps: int) -> str:
    """The page.

    Args:
        study: an open folder of results.
        maps: drops a point whose maps are on the page, at most.

    Raises:
        ValueError: nothing is stored.
    """
    data = study.data()
    if not data:
        raise ValueError(
            f"no decisions are stored in {study.options.folder}; make them with cfisac reproduce all --out …"
        )
    rows = {point: study.rows(one) for point, one in data.items()}
    names = tables.order(
        list({row.policy for here in rows.values() for row in here} | set().union(*study.times.seconds.values()))
    )
    paper = tables.printed_table({point: rows[point] for point in plan.TABLE if point in rows})
    content = {
        "made": _made(study),
        "headings": [column.heading for column in tables.COLUMNS],
        "points": [_point(study.stores[point], data[point], rows[point], study, maps) for point in data],
        "colors": {name: figures.color(name) for name in names},
        "presets": list(dict.fromkeys(point.preset for point in data)),
        "sweeps": [_sweep(along, rows) for along in plan.sweeps()],
        "times": _times(study.times.seconds, names),
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


def _point(
    store: PointStore, data: PointData, rows: Sequence[Row], study: run.Reproduction, maps: int
) -> dict[str, Any]:
    point = data.point
    table = tables.point_table(rows)
    said = [claim.text for claim in summary.claims(data)] + summary.speed_claims(study.times.seconds, point)
    return {
        "key": point.key,
        "title": tables.title(point).replace("`", ""),
        "config": {
            name: getattr(point.config, name)
            for name in ("area_diameter_m", "sinr_threshold_db", "crlb_threshold_m2", "max_ap_power_w")
        },
        "counted": tables.counted(data),
        "cells": table.cells(),
        "reasons": table.reasons(),
        "claims": [text.replace("`", "") for text in said],
        "drops": [_drop(store, seed, [row.policy for row in rows]) for seed in data.served[:maps]],
    }


def _drop(store: PointStore, seed: int, names: Sequence[str]) -> dict[str, Any]:
    scenario = decisions.drop(store.point, seed).scenario
    made = {}
    for name in tables.order([name for name in store.drops[seed]["decisions"] if name in names]):
        record = store.drops[seed]["decisions"][name]
        radiated = decisions.stored_decision(record, store.point).power.sum(1)
        fisher = np.einsum("m,msi->si", radiated, np.asarray(scenario.fisher))
        made[name] = {
            key: value for key, value in record.items() if key not in ("seconds", "lower_bound_w", "violation")
        }
        made[name]["fisher"] = [[decisions.rounded(value, 5) for value in one] for one in fisher]
    places = {"ap": scenario.ap_xy, "ue": scenario.ue_xy, "sr": scenario.sr_xy, "target": scenario.target_xy}
    return {"seed": seed, "decisions": made, **{name: np.round(xy, 1) for name, xy in places.items()}}


def _sweep(along: Sequence[Point], rows: Mapping[Point, Sequence[Row]]) -> dict[str, Any]:
    axis = "K" if along[0].M == along[-1].M else "M"
    there = {point: {row.policy: row for row in rows[point]} for point in along if point in rows}
    curves = []
    for name in tables.order(list({name for here in there.values() for name in here})):
        here = [(getattr(point, axis), by_name[name]) for point, by_name in there.items() if name in by_name]
        curves.append(
            {
                "policy": name,
                "x": [x for x, _ in here],
                "power": [_ends(row.total_power_w) for _, row in here],
                "active": [_ends(row.active_aps) for _, row in here],
                "drops": [row.drops for _, row in here],
                "feasible": [row.feasible_share.value for _, row in here],
                "serves": all(row.feasible_share.value >= figures.SERVES for _, row in here),
            }
        )
    label = f"users K (M = {along[0].M})" if axis == "K" else f"access points M (K = {along[0].K})"
    return {
        "preset": along[0].preset,
        "axis": axis,
        "label": label,
        "ticks": [getattr(p, axis) for p in along],
        "curves": curves,
    }


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _times(seconds: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]) -> list[dict[str, Any]]:
    curves = []
    for name in names:
        here = [(point.M, seconds[point.key][name]) for point in plan.SCALING if seconds.get(point.key, {}).get(name)]
        if here:
            median = [float(np.median(taken)) for _, taken in here]
            curves.append(
                {
                    "policy": name,
                    "x": [M for M, _ in here],
                    "median": median,
                    "up": [max(taken) - middle for (_, taken), middle in zip(here, median, strict=True)],
                    "down": [middle - min(taken) for (_, taken), middle in zip(here, median, strict=True)],
                }
            )
    return curves
