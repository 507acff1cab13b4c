"""From stored decisions to rows, curves and claims: means and interquartile means with bootstrap intervals, differences paired by drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.statistics import Interval, bootstrap, bootstrap_saving

Float = NDArray[np.float64]

LEAST_DROPS = 5
"""A claim about fewer drops isn't made."""


@dataclass(frozen=True, eq=False)
class PolicyDrops:
    """One policy on the drops that it decided; drops certified infeasible are not among them. Arrays are (drops,)."""

    seeds: tuple[int, ...]
    total_power_w: Float
    transmit_power_w: Float
    active_aps: Float
    feasible: NDArray[np.bool_]
    violation: Float
    seconds: Float


@dataclass(frozen=True, eq=False)
class PointData:
    """All policies on the drops of one point."""

    point: Point
    infeasible: tuple[int, ...]  # seeds of the drops certified infeasible
    served: tuple[int, ...]  # seeds of the others
    lower_bound_w: Mapping[int, float]  # certified for every decision, by seed
    best_known_w: Mapping[int, float]  # least total power of any feasible decision, by seed; infinite without one
    policies: Mapping[str, PolicyDrops]


def collect(store: PointStore, seeds: Sequence[int], names: Sequence[str]) -> PointData:
    """What the store holds of these drops and policies; the others in it are left alone."""
    lines = [store.drops[seed] for seed in seeds if seed in store.drops]
    served = [line for line in lines if not line["infeasible"]]
    bounds, best = {}, {}
    for line in served:
        made = line["decisions"].values()
        bounds[line["seed"]] = max(line["lower_bound_w"], *(one.get("lower_bound_w", 0.0) for one in made), 0.0)
        best[line["seed"]] = min((one["total_power_w"] for one in made if one["feasible"]), default=np.inf)
    policies = {}
    for name in names:
        made = {line["seed"]: line["decisions"][name] for line in served if name in line["decisions"]}
        if made:
            policies[name] = PolicyDrops(
                seeds=tuple(made),
                total_power_w=np.array([one["total_power_w"] for one in made.values()]),
                transmit_power_w=np.array([one["transmit_power_w"] for one in made.values()]),
                active_aps=np.array([float(len(one["active"])) for one in made.values()]),
                feasible=np.array([one["feasible"] for one in made.values()]),
                violation=np.array([np.inf if one["violation"] is None else one["violation"] for one in made.values()]),
                seconds=np.array([one["seconds"] for one in made.values()]),
            )
    infeasible = tuple(line["seed"] for line in lines if line["infeasible"])
    return PointData(store.point, infeasible, tuple(bounds), bounds, best, policies)


@dataclass(frozen=True)
class Row:
    """One policy at one point; everything over the drops that it decided, certified infeasible ones aside."""

    policy: str
    drops: int
    total_power_w: Interval
    total_power_iqm_w: Interval
    percent_of_decoupled: Interval  # of the decoupled method's mean on the same drops, as Table II has it
    transmit_power_w: float
    active_aps: Interval
    feasible_share: Interval
    worst_violation: float
    gap_to_best: float  # mean over the drops where the decision is feasible
    certified_gap: float  # the same, to the certified lower bound
    difference_w: Interval  # total power minus the reference's, paired, where both are feasible
    difference_drops: int
    seconds: float  # median of the timing pass; NaN where there was none
    timed_drops: int


def rows(data: PointData, reference: str, timed: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row for every policy at a point.

    Args:
        data: of the point.
        reference: the policy that differences are taken to.
        timed: policy → seconds of the timing pass.
    """
    result = []
    for name, made in data.policies.items():
        met = made.feasible
        best = np.array([data.best_known_w[seed] for seed in made.seeds])
        bound = np.array([data.lower_bound_w[seed] for seed in made.seeds])
        ours, theirs, _ = _pair(data, name, reference, feasible=True)
        percent = _pair(data, name, "decoupled", feasible=False)
        saving = bootstrap_saving(percent[0], percent[1])
        seconds = list(timed.get(name, ()))
        result.append(
            Row(
                policy=name,
                drops=len(made.seeds),
                total_power_w=bootstrap(made.total_power_w),
                total_power_iqm_w=bootstrap(made.total_power_w, "iqm"),
                percent_of_decoupled=Interval(*(100 * (1 - x) for x in (saving.value, saving.high, saving.low))),
                transmit_power_w=float(made.transmit_power_w.mean()),
                active_aps=bootstrap(made.active_aps),
                feasible_share=bootstrap(met.astype(np.float64)),
                worst_violation=float(made.violation.max()),
                gap_to_best=_mean((made.total_power_w / best - 1)[met]),
                certified_gap=_mean((made.total_power_w / bound - 1)[met]),
                difference_w=bootstrap(ours - theirs),
                difference_drops=len(ours),
                seconds=float(np.median(seconds)) if seconds else np.nan,
                timed_drops=len(seconds),
            )
        )
    return result


def _mean(values: Float) -> float:
    return float(values.mean()) if values.size else np.nan


def _pair(data: PointData, name: str, other: str, *, feasible: bool) -> tuple[Float, Float, int]:
    """Total powers of two policies on the drops that both decided (and both serve), and how many both decided."""
    if name not in data.policies or other not in data.policies:
        return np.empty(0), np.empty(0), 0
    a, b = data.policies[name], data.policies[other]
    place = {seed: i for i, seed in enumerate(b.seeds)}
    pairs = [(i, place[seed]) for i, seed in enumerate(a.seeds) if seed in place]
    kept = [(i, j) for i, j in pairs if not feasible or (a.feasible[i] and b.feasible[j])]
    i, j = [one for one, _ in kept], [one for _, one in kept]
    return a.total_power_w[i], b.total_power_w[j], len(pairs)


@dataclass(frozen=True)
class Claim:
    """A comparison of two policies at one point in a sentence, made of the numbers beside it."""

    point: Point
    policy: str
    baseline: str
    saving: Interval  # 1 − Σ total/Σ total of the baseline, on drops that both serve
    drops: int  # served by both
    of_drops: int  # decided by both
    text: str


CLAIMS = (
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
    """What the numbers of a point say about each pair that was compared there."""
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
    """How much faster the quick policies decide than Algorithm 1 as printed, from the timing pass."""
    here = timed.get(point.key, {})
    slow = here.get("modified-bb-paper")
    if not slow:
        return []
    result = []
    for name in ("hetgnn", "hetgnn-exact", "ddpg-paper", "modified-bb", "local-search"):
        if quick := here.get(name):
            low, high = min(slow) / max(quick), max(slow) / min(quick)
            ratio = float(np.median(slow) / np.median(quick))
            result.append(
                f"`{name}` decides {ratio:,.3g} times as fast as `modified-bb-paper` (medians of {len(quick)} and {len(slow)} drops; "
                f"the extreme ratios are {low:,.3g} and {high:,.3g})."
            )
    return result
