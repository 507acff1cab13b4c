"""The leaderboard: a page with a table of decisions on drops and one of each tier of episodes, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments import results
from experiments.benchmark import scores
from experiments.benchmark.tiers import episode_tiers, tiers
from experiments.results import Column, Result, Table, milliseconds, number, percent
from experiments.statistics import Interval, mean

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")

EPISODE_NOTES = (
    "Scores: share of the energy between `hysteresis` (0) and `clairvoyant` (100) that is saved, over all episodes, with its 95 % "
    "bootstrap interval over training seeds and episodes, and nothing less than 0; an episode in which fewer instants are served than "
    "by `hysteresis` saves nothing. J: mean energy an episode; served: instants, which can all be served; to clairvoyant, certified: "
    "mean energy above that of `clairvoyant` and above the certified bound; ms: median over episodes of the processor time a step"
)

PANELS = 5
"""Panels a row of the picture."""


@dataclass(frozen=True)
class Standing:
    """Result of an entry on one kind of tiers."""

    name: str
    knows: str
    tiers: Mapping[str, Interval]  # score
    milliseconds: Mapping[str, float]  # median a decision, by tier
    seeds: int  # of training; 0 without
    steps: int
    core_minutes: float | None


@dataclass(frozen=True)
class DropStanding(Standing):
    """Result of an entry on the tiers of drops."""

    overall: Interval | None  # over the tiers without priorities; None unless all of them were played
    served: float  # share of the drops that can be served, over its tiers without priorities, or else over all
    gap: float  # mean relative distance to the best known power where it serves
    certified: float  # the same, to the certified bound


@dataclass(frozen=True)
class EpisodeStanding(Standing):
    """Result of an entry on the tiers of episodes, by tier."""

    energy_j: Mapping[str, float]  # mean an episode
    served: Mapping[str, float]  # share of the instants
    above_best: Mapping[str, float]  # energy above that of `clairvoyant`
    above_bound: Mapping[str, float]  # energy above the certified bound


def on_drops(entry: Mapping[str, Any], reference: Mapping[str, Any]) -> DropStanding | None:
    """Score an entry on the tiers of drops; None if it has played none."""
    found = {tier: scores.of_entry(entry, tier, reference) for tier in tiers()}
    played = {tier: values for tier, values in found.items() if values is not None}
    if not played:
        return None
    raw = [name for name, tier in tiers().items() if not tier.priorities]
    counted = [tier for tier in played if tier in raw] or list(played)
    served, gaps, certified = [], [], []
    for tier in counted:
        best, bound = (np.array(reference[tier][key], dtype=np.float64) for key in ("best_w", "bound_w"))
        can = np.isfinite(best)
        for run in entry["tiers"][tier]["runs"]:
            met = np.array(run["feasible"])[can]
            total = np.array(run["total_power_w"], dtype=np.float64)[can]
            served.append(met)
            gaps.append((total / best[can] - 1.0)[met])
            certified.append((total / bound[can] - 1.0)[met])
    all_raw = [played[tier] for tier in raw if tier in played]
    return DropStanding(
        **_common(entry, "tiers", list(played)),
        tiers={tier: scores.summarise([values]) for tier, values in played.items()},
        overall=scores.summarise(all_raw) if len(all_raw) == len(raw) else None,
        served=mean(np.concatenate(served).astype(np.float64)),
        gap=mean(np.concatenate(gaps)),
        certified=mean(np.concatenate(certified)),
    )


def on_episodes(entry: Mapping[str, Any], reference: Mapping[str, Any]) -> EpisodeStanding | None:
    """Score an entry on the tiers of episodes; None if it has played none."""
    played = [tier for tier in episode_tiers() if tier in entry.get("episodes", {})]
    if not played:
        return None
    score: dict[str, Interval] = {}
    energy: dict[str, float] = {}
    served: dict[str, float] = {}
    best: dict[str, float] = {}
    bound: dict[str, float] = {}
    for tier in played:
        known = {key: np.array(values, dtype=np.float64) for key, values in reference[tier].items()}
        runs = entry["episodes"][tier]["runs"]
        energy_j, met = (np.array([run[key] for run in runs]) for key in ("energy_j", "served"))
        score[tier] = scores.room_closed(energy_j, met, known["rule_j"], known["rule_served"], known["best_j"])
        energy[tier], served[tier] = mean(energy_j), mean(met)
        best[tier], bound[tier] = (energy[tier] / mean(known[key]) - 1.0 for key in ("best_j", "bound_j"))
    return EpisodeStanding(
        **_common(entry, "episodes", played),
        tiers=score,
        energy_j=energy,
        served=served,
        above_best=best,
        above_bound=bound,
    )


def _common(entry: Mapping[str, Any], kind: str, played: Sequence[str]) -> dict[str, Any]:
    training = entry["training"]
    times = {
        tier: mean(np.array([run["milliseconds"] for run in entry[kind][tier]["runs"]], dtype=np.float64))
        for tier in played
    }
    return {
        "name": entry["name"],
        "knows": entry.get("knows", "observation"),
        "milliseconds": times,
        "seeds": 0 if training is None else len(training["seeds"]),
        "steps": 0 if training is None else training["steps"],
        "core_minutes": None if training is None else training["core_minutes"],
    }


def _score(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval.value:.0f} [{interval.low:.0f}, {interval.high:.0f}]"


S = TypeVar("S", bound=Standing)


def _scores(names: Sequence[str]) -> list[Column[S]]:
    return [
        Column(tier, lambda one, tier=tier: _score(one.tiers.get(tier)), "not played", rank=3)  # type: ignore[misc]
        for tier in names
    ]


def _costs(names: Sequence[str]) -> list[Column[S]]:
    """Columns on information, time and training; the time is the mean over the tiers that were played."""

    def times(one: S) -> list[float]:
        return [one.milliseconds[tier] for tier in names if tier in one.milliseconds] or [np.nan]

    return [
        Column("knows", lambda one: one.knows, rank=4),
        Column("ms", lambda one: milliseconds(1e-3 * float(np.mean(times(one)))), rank=2),
        Column("training seeds", lambda one: str(one.seeds) if one.seeds else None, "not trained", rank=4),
        Column("steps", lambda one: f"{one.steps:,}" if one.seeds else None, "not trained", rank=4),
        Column("core minutes", lambda one: number(one.core_minutes, "{:.0f}"), "not trained, or not recorded", rank=4),
    ]


def drop_table(standings: Sequence[DropStanding], reference: Mapping[str, Any]) -> Table[DropStanding]:
    """Return the table of decisions on drops, best first."""
    ranked = sorted(
        standings, key=lambda one: (one.overall is None, -(one.overall or Interval(0.0, 0.0, 0.0)).value, one.name)
    )
    raw = [name for name, tier in tiers().items() if not tier.priorities]
    columns: list[Column[DropStanding]] = [
        Column("entry", lambda one: one.name, code=True),
        Column("all tiers", lambda one: _score(one.overall), "it hasn't played every tier", rank=0),
        *_scores(raw),
        *_scores([name for name in tiers() if name not in raw]),
        Column("served", lambda one: percent(one.served, 1), rank=1),
        Column("to best", lambda one: percent(one.gap), "it served no drop", rank=1),
        Column("certified", lambda one: percent(one.certified), "it served no drop", rank=2),
        *_costs(raw),
    ]
    counts = []
    for tier in raw:
        rule, best = (np.array(reference[tier][key], dtype=np.float64) for key in ("rule_w", "best_w"))
        can, tell = int(np.isfinite(best).sum()), int(scores.telling(rule, best).sum())
        counts.append(f"{tier}: {tell} of {can}")
    notes = (
        f"Scores: interquartile mean over training seeds and drops of 100 ln(P_rule/P)/ln(P_rule/P_best), with its 95 % stratified "
        f"bootstrap interval: `{scores.RULE}` has 0, the best known decision 100, a missed requirement 0, and nothing less than 0. "
        "All tiers, served, to best, certified and ms: of the tiers without priorities. "
        f"Drops where the rule is optimal are left out; counted are, of those that can be served, {', '.join(counts)}. "
        "served, to best, certified: over all drops that can be served; ms: median time a decision on one core"
    )
    return Table(columns, ranked, "Decisions on drops", notes)


def episode_table(standings: Sequence[EpisodeStanding], tier: str, notes: bool = True) -> Table[EpisodeStanding]:
    """Return the table of a tier of episodes, best first, with or without notes."""
    ranked = sorted(standings, key=lambda one: (-one.tiers[tier].value, one.energy_j[tier]))
    columns: list[Column[EpisodeStanding]] = [
        Column("entry", lambda one: one.name, code=True),
        Column("score", lambda one: _score(one.tiers[tier])),
        Column("J", lambda one: number(one.energy_j[tier], "{:.1f}"), rank=2),
        Column("served", lambda one: percent(one.served[tier], 2), rank=1),
        Column("to clairvoyant", lambda one: percent(one.above_best[tier], 1), rank=2),
        Column("certified", lambda one: percent(one.above_bound[tier], 1), rank=3),
        *_costs([tier]),
    ]
    return Table(columns, ranked, f"`{tier}`: {episode_tiers()[tier].title}", EPISODE_NOTES if notes else "")


def figure(standings: Sequence[Standing]) -> Figure:
    """Draw score against time a decision, one panel a tier."""
    timed = {tier for one in standings for tier, ms in one.milliseconds.items() if np.isfinite(ms)}
    names = [tier for tier in (*tiers(), *episode_tiers()) if tier in timed]
    rows = -(-len(names) // PANELS)
    picture = results.canvas(2.7 * min(PANELS, len(names)) + 2.2, 3.2 * rows)
    panels = picture.subplots(rows, min(PANELS, len(names)), sharey=True, squeeze=False)
    entries = list(dict.fromkeys(one.name for one in standings))
    for panel, tier in zip(panels.flat, names, strict=False):
        for one in standings:
            if tier in one.tiers:
                value, i = one.tiers[tier], entries.index(one.name)
                panel.errorbar(
                    [one.milliseconds[tier]],
                    [value.value],
                    [[max(value.value - value.low, 0.0)], [max(value.high - value.value, 0.0)]],
                    fmt="os^Dv"[i // len(_COLOURS) % 5],
                    color=_COLOURS[i % len(_COLOURS)],
                    capsize=2,
                    label=results.escaped(one.name),
                    alpha=0.85,
                )
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())  # labels of less than a decade lie over each other
        panel.set_title(tier, fontsize=9)
        panel.set_xlabel("ms a decision")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    shown = {
        label: handle for panel in panels.flat for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    picture.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False, fontsize=8)
    for row in panels:
        row[0].set_ylabel("score (rule 0, best known 100)")
    return picture


def result(entries: Sequence[Mapping[str, Any]], reference: Mapping[str, Any], episodes: Mapping[str, Any]) -> Result:
    """Return `leaderboard.md` and `leaderboard.png`."""
    drops = [one for one in (on_drops(entry, reference) for entry in entries) if one is not None]
    over_time = [one for one in (on_episodes(entry, episodes) for entry in entries) if one is not None]
    pages: list[Table[Any]] = [drop_table(drops, reference)] if drops else []
    played = [tier for tier in episode_tiers() if any(tier in one.tiers for one in over_time)]
    for tier in played:
        pages.append(episode_table([one for one in over_time if tier in one.tiers], tier, tier == played[-1]))
    return Result("leaderboard", pages, figure=figure([*drops, *over_time]))
