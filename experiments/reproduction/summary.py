"""Statistics of stored decisions: means with bootstrap intervals, differences paired by drop, curves, and claims in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.compare import Comparison, collect, common
from experiments.reproduction import policies
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.statistics import Interval, bootstrap, bootstrap_saving

Float = NDArray[np.float64]

LEAST_DROPS = 5
"""Fewest drops on which a claim is made."""

SERVES = 0.99
"""Share of drops that a policy has to serve to be drawn with a full line and filled markers."""


@dataclass(frozen=True, eq=False)
class PointData:
    """Stored decisions at a point; a policy need not have decided every drop."""

    point: Point
    drops: Comparison  # of every stored policy
    names: tuple[str, ...]  # policies that are shown

    @property
    def served(self) -> list[int]:
        """Seeds of the drops that aren't certified infeasible."""
        return [seed for seed, lost in zip(self.drops.seeds, self.drops.infeasible, strict=True) if not lost]

    @property
    def infeasible(self) -> list[int]:
        """Seeds of the drops that are certified infeasible."""
        return [seed for seed, lost in zip(self.drops.seeds, self.drops.infeasible, strict=True) if lost]


def read(store: PointStore, names: Sequence[str]) -> PointData:
    """Collect the stored decisions at a point; `names` are the policies to show."""
    lines = [store.drops[seed] for seed in sorted(store.drops)]
    stored = list(dict.fromkeys(name for line in lines for name in line["decisions"]))
    made = {
        name: [
            {**decision, "active_aps": len(decision["active"])} if (decision := line["decisions"].get(name)) else {}
            for line in lines
        ]
        for name in stored
    }
    bounds = [[line["lower_bound_w"] for line in lines]]
    bounds += [[decision.get("lower_bound_w", 0.0) for decision in decisions] for decisions in made.values()]
    drops = Comparison(
        store.config,
        [line["seed"] for line in lines],
        np.array([line["infeasible"] for line in lines], dtype=bool),
        np.max([[np.inf if value is None else value for value in row] for row in bounds], axis=0),
        [collect(name, decisions) for name, decisions in made.items()],
        untrained={},
    )
    return PointData(store.point, drops, tuple(name for name in names if name in stored))


@dataclass(frozen=True)
class PointSummary:
    """Statistics of a policy at a point, over the drops that it decided."""

    policy: str
    drops: int
    total_power_w: Interval
    total_power_iqm_w: Interval
    percent_of_decoupled: Interval  # of the decoupled method's mean on the same drops, as in Table II
    transmit_power_w: float
    active_aps: Interval
    feasible_share: Interval
    worst_violation: float
    gap_to_best: float  # mean over the drops where the decision is feasible
    certified_gap: float  # the same, to the certified lower bound
    difference_w: Interval  # total power minus the reference's, paired, where both are feasible
    difference_drops: int
    seconds: float  # median of the timing pass; NaN without one
    timed_drops: int


def summarise(data: PointData, reference: str, timed: Mapping[str, Sequence[float]]) -> list[PointSummary]:
    """Summarise every policy at a point.

    Args:
        reference: policy that differences are taken to.
        timed: policy → seconds of the timing pass.
    """
    summaries = []
    for name in data.names:
        made = data.drops.policies[name]
        decided = np.isfinite(made.total_power_w)
        ours, theirs, _ = _pair(data, name, reference, feasible=True)
        saving = bootstrap_saving(*_pair(data, name, "decoupled", feasible=False)[:2])
        seconds = list(timed.get(name, ()))
        summaries.append(
            PointSummary(
                **common(data.drops, made, decided),
                drops=int(decided.sum()),
                percent_of_decoupled=Interval(*(100 * (1 - x) for x in (saving.value, saving.high, saving.low))),
                active_aps=bootstrap(made.active_aps[decided]),
                feasible_share=bootstrap(made.feasible[decided].astype(np.float64)),
                difference_w=bootstrap(ours - theirs),
                difference_drops=len(ours),
                seconds=float(np.median(seconds)) if seconds else np.nan,
                timed_drops=len(seconds),
            )
        )
    return summaries


def _pair(data: PointData, name: str, other: str, *, feasible: bool) -> tuple[Float, Float, int]:
    """Return the total powers of two policies on the drops that both decided (and both serve), and how many both decided."""
    if not {name, other} <= set(data.names):
        return np.empty(0), np.empty(0), 0
    ours, theirs = data.drops.policies[name], data.drops.policies[other]
    both = np.isfinite(ours.total_power_w) & np.isfinite(theirs.total_power_w)
    kept = both & ours.feasible & theirs.feasible if feasible else both
    return ours.total_power_w[kept], theirs.total_power_w[kept], int(both.sum())


@dataclass(frozen=True)
class Curve:
    """A policy along a sweep of points."""

    policy: str
    x: list[int]  # M or K
    rows: list[PointSummary]

    @property
    def serves(self) -> bool:
        """Full service: `SERVES` of the drops or more at every point."""
        return all(row.feasible_share.value >= SERVES for row in self.rows)


def curves(rows: Mapping[Point, Sequence[PointSummary]], along: Sequence[Point], axis: str) -> list[Curve]:
    """Return the curve of every policy over those points of a sweep that have rows; `axis` is "M" or "K"."""
    there = {point: {row.policy: row for row in rows[point]} for point in along if point in rows}
    return [
        Curve(
            name, *map(list, zip(*((getattr(p, axis), by[name]) for p, by in there.items() if name in by), strict=True))
        )
        for name in policies.order({name for by in there.values() for name in by})
    ]


@dataclass(frozen=True)
class Claim:
    """Comparison of two policies at a point, in numbers and in words."""

    point: Point
    policy: str
    baseline: str
    saving: Interval  # 1 − Σ total/Σ total of the baseline, on drops that both serve
    drops: int  # served by both
    of_drops: int  # decided by both
    text: str


CLAIMS = (
    ("hetgnn-paper", "decoupled"),
    ("hetgnn", "modified-bb-paper"),
    ("hetgnn", "decoupled"),
    ("hetgnn", "ddpg-paper"),
    ("hetgnn-exact", "decoupled"),
    ("hetgnn-exact", "modified-bb"),
    ("hetgnn-exact", "full-ap"),
    ("modified-bb", "modified-bb-paper"),
    ("modified-bb", "decoupled"),
    ("modified-bb", "full-ap"),
    ("modified-bb", "local-search"),
)
"""Pairs that the paper compares, and the same with exact powers."""


def claims(data: PointData, pairs: Sequence[tuple[str, str]] = CLAIMS) -> list[Claim]:
    """Return a claim on each pair that was compared at a point."""
    result = []
    for name, baseline in pairs:
        ours, theirs, decided = _pair(data, name, baseline, feasible=True)
        if decided:
            saving = bootstrap_saving(ours, theirs)
            text = _sentence(name, baseline, saving, len(ours), decided)
            result.append(Claim(data.point, name, baseline, saving, len(ours), decided, text))
    return result


def _sentence(name: str, baseline: str, saving: Interval, drops: int, decided: int) -> str:
    where = f"on the {drops} of {decided} drops where both meet every requirement"
    if drops < LEAST_DROPS:
        return f"`{name}` and `{baseline}`: no claim, both meet every requirement on {drops} of {decided} drops only."
    low, high = saving.low, saving.high
    if low <= 0 <= high:
        more = f"between {abs(min(low, 0)):.1%} more and {max(high, 0):.1%} less"
        return f"`{name}` and `{baseline}` cannot be told apart {where}: {more} total power."
    value, ends, word = (saving.value, (low, high), "less") if low > 0 else (-saving.value, (-high, -low), "more")
    return f"`{name}` draws {value:.1%} [{ends[0]:.1%}, {ends[1]:.1%}] {word} than `{baseline}` {where}."


def speed_claims(timed: Mapping[str, Mapping[str, Sequence[float]]], point: Point) -> list[str]:
    """Compare the times of quick policies with that of Algorithm 1 as printed, from the timing pass."""
    here = timed.get(point.key, {})
    slow = here.get("modified-bb-paper")
    if not slow:
        return []
    result = []
    for name in ("hetgnn-paper", "hetgnn", "hetgnn-exact", "ddpg-paper", "modified-bb", "local-search"):
        if quick := here.get(name):
            low, high = min(slow) / max(quick), max(slow) / min(quick)
            ratio = float(np.median(slow) / np.median(quick))
            result.append(
                f"`{name}` decides {ratio:,.3g} times as fast as `modified-bb-paper` (medians of {len(quick)} and {len(slow)} drops; "
                f"the extreme ratios are {low:,.3g} and {high:,.3g})."
            )
    return result


def sentences(data: PointData, timed: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return every claim at a point in words."""
    return [claim.text for claim in claims(data)] + speed_claims(timed, data.point)
