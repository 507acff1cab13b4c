"""Fig. 3 and 4 of the paper and their siblings, with bootstrap bands, and the time a decision against the number of APs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.reproduction import points as plan
from experiments.reproduction import tables
from experiments.reproduction.points import Point
from experiments.reproduction.summary import Row
from experiments.results import drawn
from experiments.statistics import Interval

Rows = Mapping[Point, Sequence[Row]]

COLORS: Mapping[str, str] = {
    "hetgnn": "#d55e00", "hetgnn-exact": "#cc79a7", "ddpg-paper": "#e69f00", "modified-bb-paper": "#7f7f7f", "decoupled": "#56b4e9",
    "full-ap-paper": "#b8a07e", "full-ap": "#8c6d31", "modified-bb": "#0072b2", "local-search": "#009e73", "branch-and-bound": "#000000",
}  # fmt: skip
_MORE = ("#6a3d9a", "#b15928", "#1b9e77", "#e7298a", "#66a61e", "#a6761d")
MARKERS = "osD^v<>PX*phd8"

SERVES = 0.99
"""Share of drops that a policy has to serve to be drawn with a full line and filled markers."""


def color(name: str) -> str:
    """The same colour for a policy in every picture."""
    return COLORS.get(name) or _MORE[sum(map(ord, name)) % len(_MORE)]


def marker(name: str) -> str:
    """The same marker for a policy in every picture."""
    known = list(COLORS)
    return (
        MARKERS[known.index(name)]
        if name in known
        else MARKERS[len(known) + sum(map(ord, name)) % (len(MARKERS) - len(known))]
    )


def total_power(row: Row) -> Interval:
    """What Fig. 3 draws."""
    return row.total_power_w


def active_aps(row: Row) -> Interval:
    """What Fig. 4 draws."""
    return row.active_aps


def comparison(rows: Rows, quantity: Callable[[Row], Interval], label: str, log: bool) -> Figure:
    """The paper's preset against the number of users, as printed, and against the number of APs."""
    figure = _figure(12.5, 5.2)
    left, right = figure.subplots(1, 2, sharey=True)
    _curves(left, rows, plan.over_users("paper"), "K", quantity, log)
    left.set(xlabel=f"users K (M = {plan.APS_OF_USERS})", ylabel=label)
    _curves(right, rows, plan.over_aps("paper"), "M", quantity, log)
    right.set(xlabel=f"access points M (K = {plan.USERS_OF_APS})")
    _legend(figure, rows)
    return figure


def every_preset(rows: Rows, quantity: Callable[[Row], Interval], label: str, log: bool) -> Figure:
    """The same for every preset, a row each."""
    figure = _figure(12.5, 14.5)
    grid = figure.subplots(len(plan.FAMILIES), 2, squeeze=False)
    for (left, right), preset in zip(grid, plan.FAMILIES, strict=True):
        _curves(left, rows, plan.over_users(preset), "K", quantity, log)
        left.set(title=f"{preset}: users K (M = {plan.APS_OF_USERS})", ylabel=label)
        _curves(right, rows, plan.over_aps(preset), "M", quantity, log)
        right.set(title=f"{preset}: access points M (K = {plan.USERS_OF_APS})")
    _legend(figure, rows)
    return figure


def scaling(timed: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Median time a decision against M; the band reaches from the fastest drop to the slowest."""
    figure = _figure(9.5, 5.6)
    ax = figure.subplots()
    names = tables.order(list({name for row in timed.values() for name in row}))
    for name in names:
        here = [(p.M, timed[p.key][name]) for p in plan.SCALING if timed.get(p.key, {}).get(name)]
        if here:
            x = [M for M, _ in here]
            ax.fill_between(
                x, [min(s) for _, s in here], [max(s) for _, s in here], color=color(name), alpha=0.12, linewidth=0
            )
            ax.plot(
                x,
                [float(np.median(s)) for _, s in here],
                marker=marker(name),
                color=color(name),
                label=drawn(name),
                markersize=5,
            )
    ax.set(
        xscale="log", yscale="log", xlabel=f"access points M (K = {plan.USERS_OF_APS})", ylabel="CPU time a decision, s"
    )
    ticks = [point.M for point in plan.SCALING]
    ax.set_xticks(ticks, [str(M) for M in ticks])
    ax.minorticks_off()
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if names:
        ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _curves(
    ax: Axes, rows: Rows, along: Sequence[Point], axis: str, quantity: Callable[[Row], Interval], log: bool
) -> None:
    by_point = {point: {row.policy: row for row in rows[point]} for point in along if point in rows}
    for name in tables.order(list({name for here in by_point.values() for name in here})):
        here = [(getattr(point, axis), by_point[point][name]) for point in by_point if name in by_point[point]]
        x = [float(value) for value, _ in here]
        values = [quantity(row) for _, row in here]
        ax.fill_between(
            x, [v.low for v in values], [v.high for v in values], color=color(name), alpha=0.14, linewidth=0
        )
        serves = all(row.feasible_share.value >= SERVES for _, row in here)
        ax.plot(
            x, [v.value for v in values], color=color(name), linestyle="-" if serves else "--", linewidth=1.5, marker=marker(name),
            markersize=6, markerfacecolor=color(name) if serves else "white",
        )  # fmt: skip
    ticks = [getattr(point, axis) for point in along]
    ax.set_xticks(ticks, [str(value) for value in ticks])
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, rows: Rows) -> None:
    names = tables.order(list({row.policy for here in rows.values() for row in here}))
    served = {
        name: all(row.feasible_share.value >= SERVES for here in rows.values() for row in here if row.policy == name)
        for name in names
    }
    handles = [
        Line2D([], [], color=color(n), marker=marker(n), linestyle="-" if served[n] else "--",
               markerfacecolor=color(n) if served[n] else "white", label=drawn(n))
        for n in names
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    note = f"dashed and hollow: misses a requirement on more than {1 - SERVES:.0%} of the drops; bands: 95 % bootstrap"
    figure.suptitle(note, fontsize=9, color="#5f6670")
