"""The leaderboard: a page with a table, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments import results
from experiments.benchmark import scores
from experiments.benchmark.tiers import tiers
from experiments.results import Column, Result, Table, milliseconds, number, percent
from experiments.statistics import Interval, mean

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")


@dataclass(frozen=True)
class Standing:
    """Result of an entry."""

    name: str
    tiers: Mapping[str, Interval]  # score
    overall: Interval | None  # None unless every tier was played
    served: float  # share of the drops that can be served, over its tiers
    gap: float  # mean relative distance to the best known power where it serves
    certified: float  # the same, to the certified bound
    milliseconds: Mapping[str, float]  # median a decision, by tier
    seeds: int  # of training; 0 without
    steps: int
    core_minutes: float | None


def standing(entry: Mapping[str, Any], reference: Mapping[str, Any]) -> Standing:
    """Score an entry."""
    training = entry["training"]
    found = {tier: scores.of_entry(entry, tier, reference) for tier in tiers()}
    played = {tier: values for tier, values in found.items() if values is not None}
    served, gaps, certified = [], [], []
    for tier in played:
        best, bound = (np.array(reference[tier][key], dtype=np.float64) for key in ("best_w", "bound_w"))
        can = np.isfinite(best)
        for run in entry["tiers"][tier]["runs"]:
            met = np.array(run["feasible"])[can]
            total = np.array(run["total_power_w"], dtype=np.float64)[can]
            served.append(met)
            gaps.append((total / best[can] - 1.0)[met])
            certified.append((total / bound[can] - 1.0)[met])
    times = {
        tier: mean(np.array([run["milliseconds"] for run in entry["tiers"][tier]["runs"]], dtype=np.float64))
        for tier in played
    }
    return Standing(
        name=entry["name"],
        tiers={tier: scores.summarise([values]) for tier, values in played.items()},
        overall=scores.summarise(list(played.values())) if len(played) == len(found) else None,
        served=mean(np.concatenate(served).astype(np.float64)),
        gap=mean(np.concatenate(gaps)),
        certified=mean(np.concatenate(certified)),
        milliseconds=times,
        seeds=0 if training is None else len(training["seeds"]),
        steps=0 if training is None else training["steps"],
        core_minutes=None if training is None else training["core_minutes"],
    )


def _score(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval.value:.0f} [{interval.low:.0f}, {interval.high:.0f}]"


def table(standings: Sequence[Standing], reference: Mapping[str, Any]) -> Table[Standing]:
    """Return the table, best first."""
    ranked = sorted(
        standings, key=lambda one: (one.overall is None, -(one.overall or Interval(0.0, 0.0, 0.0)).value, one.name)
    )
    columns: list[Column[Standing]] = [
        Column("entry", lambda one: one.name, code=True),
        Column("all tiers", lambda one: _score(one.overall), "it hasn't played every tier", rank=0),
        *(
            Column[Standing](tier, lambda one, tier=tier: _score(one.tiers.get(tier)), "not played", rank=3)  # type: ignore[misc]
            for tier in tiers()
        ),
        Column("served", lambda one: percent(one.served, 1), rank=1),
        Column("to best", lambda one: percent(one.gap), "it served no drop", rank=1),
        Column("certified", lambda one: percent(one.certified), "it served no drop", rank=2),
        Column("ms", lambda one: milliseconds(1e-3 * float(np.mean(list(one.milliseconds.values())))), rank=2),
        Column("training seeds", lambda one: str(one.seeds) if one.seeds else None, "not trained", rank=4),
        Column("steps", lambda one: f"{one.steps:,}" if one.seeds else None, "not trained", rank=4),
        Column("core minutes", lambda one: number(one.core_minutes, "{:.0f}"), "not trained, or not recorded", rank=4),
    ]
    counts = []
    for tier in tiers():
        rule, best = (np.array(reference[tier][key], dtype=np.float64) for key in ("rule_w", "best_w"))
        can, tell = int(np.isfinite(best).sum()), int(scores.telling(rule, best).sum())
        counts.append(f"{tier}: {tell} of {can}")
    notes = (
        f"Scores: interquartile mean over training seeds and drops of 100 ln(P_rule/P)/ln(P_rule/P_best), with its 95 % stratified "
        f"bootstrap interval: `{scores.RULE}` has 0, the best known decision 100, a missed requirement 0, and nothing less than 0. "
        f"Drops where the rule is optimal are left out; counted are, of those that can be served, {', '.join(counts)}. "
        "served, to best, certified: over all drops that can be served; ms: median time a decision on one core"
    )
    return Table(columns, ranked, "", notes)


def figure(standings: Sequence[Standing]) -> Figure:
    """Draw score against time a decision, one panel a tier."""
    picture = Figure(figsize=(2.7 * len(tiers()) + 2.2, 3.4), layout="constrained")
    FigureCanvasAgg(picture)
    panels = picture.subplots(1, len(tiers()), sharey=True)
    for panel, tier in zip(panels, tiers(), strict=True):
        for i, one in enumerate(standings):
            if tier in one.tiers:
                value = one.tiers[tier]
                miss = [[max(value.value - value.low, 0.0)], [max(value.high - value.value, 0.0)]]
                marker = "os^Dv"[i // len(_COLOURS) % 5]
                colour, label = _COLOURS[i % len(_COLOURS)], results.escaped(one.name)
                panel.errorbar(
                    [one.milliseconds[tier]],
                    [value.value],
                    miss,
                    fmt=marker,
                    color=colour,
                    capsize=2,
                    label=label,
                    alpha=0.85,
                )
        panel.set_xscale("log")
        panel.set_title(tier, fontsize=9)
        panel.set_xlabel("ms a decision")
        panel.spines[["top", "right"]].set_visible(False)
    shown = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    picture.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False, fontsize=8)
    panels[0].set_ylabel("score (rule 0, best known 100)")
    return picture


def result(entries: Sequence[Mapping[str, Any]], reference: Mapping[str, Any]) -> Result:
    """Return `leaderboard.md` and `leaderboard.png`."""
    standings = [standing(entry, reference) for entry in entries]
    return Result("leaderboard", [table(standings, reference)], figure=figure(standings))
