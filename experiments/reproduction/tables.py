"""The reproduction's tables as Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.reproduction import points as plan
from experiments.reproduction import policies, printed
from experiments.reproduction.points import Point
from experiments.reproduction.summary import PointData, Row
from experiments.statistics import Interval

HEADINGS = (
    "policy", "drops", "total W", "% of decoupled", "IQM W", "transmit W", "active APs", "feasible", "worst miss", "to best",
    "certified", "difference W", "ms",
)  # fmt: skip


def order(names: Sequence[str]) -> list[str]:
    """Table II's columns first, then oracles, then agents."""
    known = list(
        dict.fromkeys(
            (*policies.PAPER, "full-ap-paper", "modified-bb", "local-search", "branch-and-bound", "hetgnn-exact")
        )
    )
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def point_table(data: PointData, rows: Sequence[Row], reference: str) -> str:
    """One point: every policy with everything that is known about it, as Markdown."""
    ordered = {row.policy: row for row in rows}
    lines = [
        f"{counted(data)}; differences to `{reference}`",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---" + "|---:" * (len(HEADINGS) - 1) + "|",
    ]
    lines += ["| " + " | ".join(cells(ordered[name])) + " |" for name in order(list(ordered))]
    return "\n".join(lines) + "\n"


def title(point: Point) -> str:
    """`paper`, M = 30, K = 6."""
    return f"`{point.preset}`, M = {point.M}, K = {point.K}"


def counted(data: PointData) -> str:
    """How many drops, and how many of them are certified infeasible."""
    drops, lost = len(data.served) + len(data.infeasible), len(data.infeasible)
    return (
        f"{drops} drops, {lost} of them certified infeasible and left out"
        if lost
        else f"{drops} drops, none infeasible"
    )


def cells(row: Row) -> tuple[str, ...]:
    """One policy's line under `HEADINGS`."""
    total, difference = row.total_power_w, row.difference_w
    return (
        f"`{row.policy}`",
        str(row.drops),
        f"{total.value:.3f} [{total.low:.2f}, {total.high:.2f}]" if np.isfinite(total.low) else f"{total.value:.3f}",
        number(row.percent_of_decoupled.value, "{:.1f}"),
        f"{row.total_power_iqm_w.value:.3f}",
        f"{row.transmit_power_w:.3f}",
        f"{row.active_aps.value:.1f}",
        f"{row.feasible_share.value:.0%}",
        _share(row.worst_violation) if row.worst_violation > 1e-4 else "–",
        _share(row.gap_to_best),
        _share(row.certified_gap),
        _difference(difference) if np.isfinite(difference.low) else "–",
        milliseconds(row.seconds),
    )


def _difference(difference: Interval) -> str:
    return f"{_signed(difference.value, 3)} [{_signed(difference.low, 2)}, {_signed(difference.high, 2)}]"


def _signed(value: float, digits: int) -> str:
    """With its sign; what rounds to zero has none."""
    return f"{rounded:+.{digits}f}" if (rounded := round(value, digits)) else f"{0:.{digits}f}"


def number(value: float, form: str) -> str:
    """A number, or a dash where there is none."""
    return form.format(value) if np.isfinite(value) else "–"


def _share(share: float) -> str:
    if not np.isfinite(share):
        return "–"
    return f"{share:.2%}" if share < 1 else f"{share:.3g}×"


def milliseconds(seconds: float) -> str:
    """A time to three digits."""
    return number(1e3 * seconds, "{:.3g}" if 1e3 * seconds < 1000 else "{:,.0f}")


def printed_cells(points: Mapping[Point, Sequence[Row]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Table II as the paper prints it, beside what its four methods do here: headings and lines."""
    headings = (
        "M, K", "method", "paper: W", "paper: %", "paper: s", "here: W", "here: %", "here: feasible", "here: drops", "here: s",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = []
    for point, rows in points.items():
        by_name = {row.policy: row for row in rows}
        for name, cell in printed.TABLE_II[point.M, point.K].items():
            row = by_name.get(name)
            ours = ("–",) * 5
            if row is not None:
                ours = (
                    f"{row.total_power_w.value:.2f}",
                    number(row.percent_of_decoupled.value, "{:.1f}"),
                    f"{row.feasible_share.value:.0%}",
                    str(row.drops),
                    number(row.seconds, "{:.2g}"),
                )
            theirs = (f"{cell.total_power_w:.2f}", f"{cell.percent_of_decoupled:.2f}", f"{cell.seconds:,.2f}")
            lines.append((f"{point.M}, {point.K}", name, *theirs, *ours))
    return headings, lines


def printed_table(points: Mapping[Point, Sequence[Row]]) -> str:
    """The same as Markdown."""
    headings, lines = printed_cells(points)
    rows = ["| " + " | ".join(line) + " |" for line in (headings, *lines)]
    rows.insert(1, "|---|---" + "|---:" * (len(headings) - 2) + "|")
    return "\n".join(rows) + "\n"


WATTS_DIFFER = (
    "*paper* columns are what the paper prints, *here* columns what this code measures. Watts differ because the paper's cannot follow "
    "from its Table I: 16 APs of at most 0.1 W and 0.2 W of circuit power draw at most 4.8 W, not 8.31 W (erratum E14), and its sums "
    "of P_mk aren't watts (E4). Percentages and order are what can be compared. Feasible is the share of drops where the powers meet "
    "every requirement, which the paper doesn't report."
)


def csv_text(points: Mapping[Point, tuple[PointData, Sequence[Row]]]) -> str:
    """Every row of every point; intervals become three columns."""
    flat: list[dict[str, Any]] = []
    for point, (data, rows) in points.items():
        for row in rows:
            line: dict[str, Any] = {**dataclasses.asdict(point), "certified_infeasible": len(data.infeasible)}
            for key, value in dataclasses.asdict(row).items():
                if isinstance(value, dict):
                    line |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
                else:
                    line[key] = value
            flat.append(
                {
                    key: "" if isinstance(value, float) and not np.isfinite(value) else value
                    for key, value in line.items()
                }
            )
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


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
    shown: Mapping[Point, tuple[PointData, Sequence[Row]]], along: Sequence[Point], quantity: Callable[[Row], Interval]
) -> str:
    """One curve a policy: its values at the points of a sweep, with their intervals."""
    there = [point for point in along if point in shown]
    if not there:
        return ""
    fixed, moving = ("M", "K") if there[0].M == there[-1].M else ("K", "M")
    by_point = {point: {row.policy: row for row in shown[point][1]} for point in there}
    heads = [
        f"`{there[0].preset}`, {fixed} = {getattr(there[0], fixed)}",
        *(f"{moving} = {getattr(p, moving)}" for p in there),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * len(there) + "|"]
    for name in order(list({name for here in by_point.values() for name in here})):
        cells = []
        for point in there:
            row = by_point[point].get(name)
            if row is None:
                cells.append("–")
                continue
            value = quantity(row)
            interval = f" [{value.low:.2f}, {value.high:.2f}]" if np.isfinite(value.low) else ""
            served = "" if row.feasible_share.value >= 0.995 else f", {row.feasible_share.value:.0%} feasible"
            cells.append(f"{value.value:.2f}{interval}{served}, n = {row.drops}")
        lines.append("| " + " | ".join((f"`{name}`", *cells)) + " |")
    lost = ["drops, of them certified infeasible"]
    for point in there:
        data = shown[point][0]
        lost.append(f"{len(data.served) + len(data.infeasible)}, {len(data.infeasible)}")
    return "\n".join([*lines, "| " + " | ".join(lost) + " |"]) + "\n"


Seconds = Mapping[str, Mapping[str, Sequence[float]]]


def time_table(seconds: Seconds, budget_s: float) -> str:
    """Median time a decision at every size that was timed, in ms."""
    sizes = [point for point in dict.fromkeys((*plan.TABLE, *plan.SCALING)) if point.key in seconds]
    names = order(list({name for row in seconds.values() for name in row}))
    lines = ["| ms | " + " | ".join(f"{p.M}, {p.K}" for p in sizes) + " |", "|---" + "|---:" * len(sizes) + "|"]
    for name in names:
        cells = []
        for point in sizes:
            taken = seconds[point.key].get(name)
            cells.append(f"{milliseconds(float(np.median(taken)))} ({len(taken)})" if taken else "–")
        lines.append("| " + " | ".join((f"`{name}`", *cells)) + " |")
    return (
        "\n".join(lines)
        + "\n\nColumns are M, K; CPU time, medians over as many drops as in brackets. A policy whose decision takes more than "
        f"{budget_s:g} s at one size isn't timed at larger ones, and those that solve the paper's (9) need too much memory with 500 APs. "
        "A dash is that, or an agent without weights for the size.\n"
    )


def time_csv(seconds: Seconds) -> str:
    """Every timed decision."""
    lines = ["point,policy,drop,seconds"]
    for key, row in seconds.items():
        lines += [f"{key},{name},{i},{value}" for name, taken in row.items() for i, value in enumerate(taken)]
    return "\n".join(lines) + "\n"
