"""Tables of the reproduction in Markdown and CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from experiments import results
from experiments.outputs import column
from experiments.reproduction import points as plan
from experiments.reproduction import policies, printed
from experiments.reproduction.points import Point
from experiments.reproduction.summary import PointData, PointSummary
from experiments.reproduction.timing import Seconds
from experiments.results import Column, Table, milliseconds, number, span
from experiments.statistics import Interval

Shown = tuple[PointData, list[PointSummary]]
"""Stored decisions at a point with their summaries."""


def title(point: Point) -> str:
    """Format a point: `paper`, M = 30, K = 6."""
    return f"`{point.preset}`, M = {point.M}, K = {point.K}"


def counted(data: PointData) -> str:
    """Format the numbers of drops and of those certified infeasible."""
    drops, lost = len(data.drops.seeds), len(data.infeasible)
    return f"{drops} drops, " + (f"{lost} of them certified infeasible and left out" if lost else "none infeasible")


NEVER_FEASIBLE = "the policy is feasible on none of its drops"
NOT_TIMED = "not timed here"

COLUMNS: tuple[Column[PointSummary], ...] = (
    column("policy"),
    Column("drops", lambda row: str(row.drops)),
    column("total W"),
    column("95 % interval"),
    Column(
        "% of decoupled",
        lambda row: number(row.percent_of_decoupled.value, "{:.1f}"),
        "no drop that `decoupled` decided",
    ),
    column("IQM W"),
    column("transmit W"),
    column("active APs", cell=lambda row: number(row.active_aps.value, "{:.1f}")),
    column("feasible", cell=lambda row: number(row.feasible_share.value, "{:.0%}")),
    column("worst miss"),
    column("to best", missing=NEVER_FEASIBLE),
    column("certified", missing=NEVER_FEASIBLE),
    Column("difference W", lambda row: _difference(row.difference_w), "both are feasible on fewer than two drops"),
    Column("ms", lambda row: milliseconds(row.seconds), NOT_TIMED),
)


def point_table(rows: Sequence[PointSummary]) -> Table[PointSummary]:
    """Return the table of a point, one row a policy."""
    ordered = {row.policy: row for row in rows}
    return Table(COLUMNS, [ordered[name] for name in policies.order(ordered)])


def _difference(difference: Interval) -> str | None:
    if not np.isfinite(difference.low):
        return None
    return f"{_signed(difference.value, 3)} [{_signed(difference.low, 2)}, {_signed(difference.high, 2)}]"


def _signed(value: float, digits: int) -> str:
    """Format with a sign, unless the number rounds to zero."""
    return f"{rounded:+.{digits}f}" if (rounded := round(value, digits)) else f"{0:.{digits}f}"


Printed = tuple[Point, str, printed.PrintedCell | None, PointSummary | None]
_HERE, _THERE = "not decided here", "not in the paper"


def _here(cell: Callable[[PointSummary], str | None]) -> Callable[[Printed], str | None]:
    return lambda entry: None if entry[3] is None else cell(entry[3])


def _there(cell: Callable[[printed.PrintedCell], str]) -> Callable[[Printed], str | None]:
    return lambda entry: None if entry[2] is None else cell(entry[2])


PRINTED_COLUMNS: tuple[Column[Printed], ...] = (
    Column("M, K", lambda e: f"{e[0].M}, {e[0].K}"),
    Column("method", lambda e: e[1], left=True),
    Column("paper: W", _there(lambda cell: f"{cell.total_power_w:.2f}"), _THERE),
    Column("paper: %", _there(lambda cell: f"{cell.percent_of_decoupled:.2f}"), _THERE),
    Column("paper: s", _there(lambda cell: f"{cell.seconds:,.2f}"), _THERE),
    Column("here: W", _here(lambda row: number(row.total_power_w.value, "{:.2f}")), _HERE),
    Column("here: %", _here(lambda row: number(row.percent_of_decoupled.value, "{:.1f}")), _HERE),
    Column("here: feasible", _here(lambda row: number(row.feasible_share.value, "{:.0%}")), _HERE),
    Column("here: drops", _here(lambda row: str(row.drops)), _HERE),
    Column("here: s", _here(lambda row: number(row.seconds, "{:.2g}")), NOT_TIMED),
)


def printed_table(points: Mapping[Point, Sequence[PointSummary]]) -> Table[Printed]:
    """Return Table II as printed, beside the same methods measured here."""
    entries: list[Printed] = []
    for point, rows in points.items():
        by_name, cells = {row.policy: row for row in rows}, printed.TABLE_II[point.M, point.K]
        entries += [(point, name, cells.get(name), by_name.get(name)) for name in policies.PAPER]
    return Table(PRINTED_COLUMNS, entries)


WATTS_DIFFER = (
    "*paper* columns are what the paper prints, *here* columns what this code measures. Watts differ because the paper's cannot follow "
    "from its Table I: 16 APs of at most 0.1 W and 0.2 W of circuit power draw at most 4.8 W, not 8.31 W (erratum E14), and its sums "
    "of P_mk aren't watts (E4). Percentages and order are what can be compared. Feasible is the share of drops where the powers meet "
    "every requirement, which the paper doesn't report."
)


def csv_text(shown: Mapping[Point, Shown]) -> str:
    """Format every row of every point as CSV."""
    return results.csv_text(
        [
            {**results.flat(point), "certified_infeasible": len(data.infeasible), **results.flat(row)}
            for point, (data, rows) in shown.items()
            for row in rows
        ]
    )


LEGEND = """## How to read this

- total W: mean over the drops that the policy decided, with its 95 % bootstrap interval; IQM: mean of the middle half of them.
- % of decoupled: of the decoupled method's mean on the same drops, as the paper prints it.
- feasible: share of drops where the powers meet every requirement. A policy that misses requirements may well draw less.
- worst miss: largest relative miss of any requirement.
- to best, certified: distance to the least total power of any feasible decision, and to a bound that no decision can beat, over
  the drops where the policy is feasible.
- difference: total power minus the reference's on drops where both are feasible, paired, with its interval.
- ms, s: median CPU time a decision in the timing pass, all threads of the process together.
"""


def curve_table(
    shown: Mapping[Point, Shown], along: Sequence[Point], quantity: Callable[[PointSummary], Interval]
) -> str:
    """Format the curves of a sweep in Markdown, one row a policy; empty where nothing is stored."""
    there = [point for point in along if point in shown]
    if not there:
        return ""
    moving, fixed = plan.axes(along)
    by_point = {point: {row.policy: row for row in shown[point][1]} for point in there}
    total = "drops, of them certified infeasible"

    def cell(point: Point, name: str) -> str | None:
        if name == total:
            data = shown[point][0]
            return f"{len(data.drops.seeds)}, {len(data.infeasible)}"
        if (row := by_point[point].get(name)) is None:
            return None
        value = quantity(row)
        interval = f" {span(value)}" if span(value) else ""
        served = "" if row.feasible_share.value >= 0.995 else f", {row.feasible_share.value:.0%} feasible"
        return f"{value.value:.2f}{interval}{served}, n = {row.drops}"

    columns = [
        Column(f"`{along[0].preset}`, {fixed} = {getattr(along[0], fixed)}", lambda name: name if name == total else f"`{name}`"),
        *(Column(f"{moving} = {getattr(p, moving)}", partial(cell, p), "not decided there") for p in there),
    ]  # fmt: skip
    return Table(columns, [*policies.order({name for here in by_point.values() for name in here}), total]).markdown()


def time_table(seconds: Seconds) -> Table[str]:
    """Return the median time a decision in ms, one column a size."""

    def cell(point: Point, name: str) -> str | None:
        taken = seconds[point.key].get(name)
        return f"{milliseconds(float(np.median(taken)))} ({len(taken)})" if taken else None

    sizes = [point for point in dict.fromkeys((*plan.TABLE, *plan.SCALING)) if point.key in seconds]
    why = "beyond the time or memory that a policy may take, or an agent without weights for the size"
    columns = [Column("ms", str, code=True), *(Column(f"{p.M}, {p.K}", partial(cell, p), why) for p in sizes)]
    return Table(columns, policies.order({name for row in seconds.values() for name in row}))


def time_notes(budget_s: float) -> str:
    """Return the notes on `time_table`."""
    return (
        "Columns are M, K; CPU time, medians over as many drops as in brackets. A policy whose decision takes more than "
        f"{budget_s:g} s at one size isn't timed at larger ones, and those that solve the paper's (9) need too much memory with 500 APs.\n"
    )


def time_csv(seconds: Seconds) -> str:
    """Format every timed decision as CSV."""
    return results.csv_text(
        [
            {"point": key, "policy": name, "drop": i, "seconds": value}
            for key, row in seconds.items()
            for name, taken in row.items()
            for i, value in enumerate(taken)
        ]
    )
