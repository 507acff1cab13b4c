"""Fig. 3 and 4 of the paper, the same on every preset, and the time a decision against the number of APs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.reproduction import points as plan
from experiments.reproduction import policies, summary, timing
from experiments.reproduction.points import Point
from experiments.reproduction.summary import SERVES, PointSummary
from experiments.results import canvas, escaped
from experiments.statistics import Interval

Rows = Mapping[Point, Sequence[PointSummary]]

COLORS: Mapping[str, str] = {
    "hetgnn": "#d55e00", "hetgnn-exact": "#cc79a7", "ddpg-paper": "#e69f00", "modified-bb-paper": "#7f7f7f", "decoupled": "#56b4e9",
    "full-ap-paper": "#b8a07e", "full-ap": "#8c6d31", "modified-bb": "#0072b2", "local-search": "#009e73", "branch-and-bound": "#000000",
    "hetgnn-paper": "#6a3d9a",
}  # fmt: skip
_MORE = ("#6a3d9a", "#b15928", "#1b9e77", "#e7298a", "#66a61e", "#a6761d")
MARKERS = "osD^v<>PX*phd8"


@dataclass(frozen=True)
class Quantity:
    """Quantity that a figure shows."""

    name: str  # of the files
    label: str
    value: Callable[[PointSummary], Interval]
    log: bool = False


POWER = Quantity("fig3", "total power, W", lambda row: row.total_power_w, log=True)
ACTIVE = Quantity("fig4", "active APs", lambda row: row.active_aps)


def color(name: str) -> str:
    """Return the colour of a policy in every picture."""
    return COLORS.get(name) or _MORE[sum(map(ord, name)) % len(_MORE)]


def marker(name: str) -> str:
    """Return the marker of a policy in every picture."""
    known = list(COLORS)
    if name in known:
        return MARKERS[known.index(name)]
    return MARKERS[len(known) + sum(map(ord, name)) % (len(MARKERS) - len(known))]


def comparison(rows: Rows, quantity: Quantity) -> Figure:
    """Draw the paper's preset against the number of users, as printed, and against the number of APs."""
    figure = canvas(12.5, 5.2)
    left, right = figure.subplots(1, 2, sharey=True)
    _curves(left, rows, plan.over_users("paper"), quantity)
    left.set(xlabel=f"users K (M = {plan.APS_OF_USERS})", ylabel=quantity.label)
    _curves(right, rows, plan.over_aps("paper"), quantity)
    right.set(xlabel=f"access points M (K = {plan.USERS_OF_APS})")
    _legend(figure, rows)
    return figure


def every_preset(rows: Rows, quantity: Quantity) -> Figure:
    """Draw the same for every preset, a row each."""
    figure = canvas(12.5, 14.5)
    grid = figure.subplots(len(plan.FAMILIES), 2, squeeze=False)
    for (left, right), preset in zip(grid, plan.FAMILIES, strict=True):
        _curves(left, rows, plan.over_users(preset), quantity)
        left.set(title=f"{preset}: users K (M = {plan.APS_OF_USERS})", ylabel=quantity.label)
        _curves(right, rows, plan.over_aps(preset), quantity)
        right.set(title=f"{preset}: access points M (K = {plan.USERS_OF_APS})")
    _legend(figure, rows)
    return figure


def scaling(seconds: timing.Seconds) -> Figure:
    """Draw the median time a decision against M, with a band from the fastest drop to the slowest."""
    figure = canvas(9.5, 5.6)
    ax = figure.subplots()
    curves = timing.curves(seconds)
    for name, x, taken in curves:
        ax.fill_between(x, [min(s) for s in taken], [max(s) for s in taken], color=color(name), alpha=0.12, linewidth=0)
        median = [float(np.median(s)) for s in taken]
        ax.plot(x, median, marker=marker(name), color=color(name), label=escaped(name), markersize=5)
    ax.set(
        xscale="log", yscale="log", xlabel=f"access points M (K = {plan.USERS_OF_APS})", ylabel="CPU time a decision, s"
    )
    _style(ax, [point.M for point in plan.SCALING])
    ax.minorticks_off()
    if curves:
        ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _curves(ax: Axes, rows: Rows, along: Sequence[Point], quantity: Quantity) -> None:
    axis, _ = plan.axes(along)
    for curve in summary.curves(rows, along, axis):
        values = [quantity.value(row) for row in curve.rows]
        own = color(curve.policy)
        ax.fill_between(curve.x, [v.low for v in values], [v.high for v in values], color=own, alpha=0.14, linewidth=0)
        ax.plot(
            curve.x, [v.value for v in values], color=own, linestyle="-" if curve.serves else "--", linewidth=1.5,
            marker=marker(curve.policy), markersize=6, markerfacecolor=own if curve.serves else "white",
        )  # fmt: skip
    if quantity.log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _style(ax, [getattr(point, axis) for point in along])


def _style(ax: Axes, ticks: Sequence[int]) -> None:
    ax.set_xticks(ticks, [str(value) for value in ticks])
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, rows: Rows) -> None:
    shares: dict[str, list[float]] = {}
    for row in (row for here in rows.values() for row in here):
        shares.setdefault(row.policy, []).append(row.feasible_share.value)
    handles = [
        Line2D([], [], color=color(n), marker=marker(n), linestyle="-" if min(shares[n]) >= SERVES else "--",
               markerfacecolor=color(n) if min(shares[n]) >= SERVES else "white", label=escaped(n))
        for n in policies.order(shares)
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    note = f"dashed and hollow: misses a requirement on more than {1 - SERVES:.0%} of the drops; bands: 95 % bootstrap"
    figure.suptitle(note, fontsize=9, color="#5f6670")
