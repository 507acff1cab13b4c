"""Measures of the paper's errata over many drops; `docs/errata.md` explains the errata, E1 to E14, and quotes the measures by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cfisac_env import SystemConfig
from experiments.reproduction import printed
from experiments.results import DASH, Column, Result, Table, number
from experiments.statistics import Interval, bootstrap

Statistic = Literal["mean", "median", "max", "sum"]


@dataclass(frozen=True)
class Measure:
    """A number of the page: a statistic of a column over the drops, and its format."""

    name: str
    text: str
    column: str
    statistic: Statistic = "mean"
    show: str = "{:.0%}"
    scale: float = 1.0


MEASURES: tuple[Measure, ...] = (
    Measure(
        "E1.printed", "v_mk with ς_mk inside the pilot sum, against simulated estimates: factor at the worst link of a drop (median)",
        "v_printed_factor", "median", "{:.3g}",
    ),
    Measure("E1.unit-noise", "the same with 1 for the noise in the denominator", "v_unit_noise_factor", "median", "{:.1e}"),
    Measure(
        "E1.corrected", "the same, corrected (what is left is the simulation's own scatter)",
        "v_corrected_factor", "median", "{:.3f}",
    ),
    Measure(
        "E3.printed", "SINR by (3) as printed, against a simulated downlink with shared pilots: worst user of a drop, dB (median)",
        "sinr_printed_error_db", "median", "{:.1f}",
    ),
    Measure("E3.corrected", "the same, corrected", "sinr_corrected_error_db", "median", "{:.2f}"),
    Measure(
        "E4.sum", "Σ P_mk as (8a) writes it, at least, for the AP powers of the best known decision (median)",
        "power_as_summed", "median", "{:.1e}",
    ),
    Measure("E4.radiated", "total power of the same decisions, W (mean)", "total_power_w", "mean", "{:.2f}"),
    Measure("E6.one-symbol", "drops in which all APs at P_max miss ν with one integrated symbol", "unlocatable_with_one_symbol"),
    Measure("E6.hundred", "the same with L = 100", "unlocatable"),
    Measure("E6.flat", "the same with L = 100 and the effective bandwidth B/√12 of a flat spectrum", "unlocatable_flat_spectrum"),
    Measure(
        "E7.counted", "what (8a) counts when one AP is declared on and the others radiate all the same, W (mean)",
        "uncounted_power_w", "mean", "{:.2f}",
    ),
    Measure("E8.pairs", "pairs of power vectors that meet (8d) with equality", "pairs", "sum", "{:,.0f}"),
    Measure("E8.outside", "midpoints of such pairs that miss it", "midpoints_outside", "sum", "{:.0f}"),
    Measure("E8.disagreements", "power vectors on which (8d) and its second-order cone disagree", "cone_disagreements", "sum", "{:.0f}"),
    Measure(
        "E9.printed-infeasible", "drops whose sensing requirement can be met, but not by (9d) with A as printed",
        "printed_9d_infeasible",
    ),
    Measure("E9.symmetric-infeasible", "the same with (A + Aᵀ)/2", "symmetric_9d_infeasible"),
    Measure("E9.cost", "sensing power by (9d) with (A + Aᵀ)/2 over the least there is (median)", "symmetric_9d_cost", "median", "{:.2f}"),
    Measure("E9.cost-mean", "the same (mean)", "symmetric_9d_cost", "mean", "{:.2f}"),
    Measure(
        "E9.over-active", "best known sets for which (9d) with (A + Aᵀ)/2 over the active APs has no solution",
        "optimum_9d_over_active_infeasible",
    ),
    Measure("E9.over-all", "the same over all APs, as printed", "optimum_9d_over_all_infeasible"),
    Measure("E10.counted", "what (9a) as printed counts, all APs on, in µW (median)", "counted_power_w", "median", "{:.2g}", 1000000.0),
    Measure("E10.radiated", "what has to be radiated, in mW (median)", "radiated_power_w", "median", "{:.0f}", 1000.0),
    Measure("E10.users", "users that miss the SINR with the powers of (9), all APs on", "users_missed_all_on"),
    Measure("E10.drops", "drops with such a user", "drop_missed_all_on"),
    Measure("E10.miss-db", "by how much such users miss it, dB (median)", "miss_db_all_on", "median", "{:.1f}"),
    Measure("E10.users-chosen", "users that miss the SINR with the powers of (9) on the best known set", "users_missed_chosen"),
    Measure("E10.miss-db-chosen", "by how much such users miss it, dB (median)", "miss_db_chosen", "median", "{:.1f}"),
    Measure("E11.refused", "users that (10) as printed refuses at a decision that meets every requirement", "printed_10_users_refused"),
    Measure("E12.removals", "removals of one AP from all", "removals", "sum", "{:,.0f}"),
    Measure("E12.saving", "of them, removals that lower the transmit power", "removals_that_save", "sum", "{:.0f}"),
    Measure("E12.active", "active APs of the corrected algorithm (mean)", "active_aps", "mean", "{:.1f}"),
    Measure(
        "E13.printed", "drops where (14) as printed is lower at silence or at full power than at the best known decision",
        "printed_loss_prefers_another",
    ),
    Measure("E13.hinged", "the same with hinges, circuit power and relative violations", "hinged_loss_prefers_another"),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Value of a measure; only means over drops have an interval, others NaN."""

    name: str
    text: str
    drops: int
    value: float
    low: float
    high: float
    shown: str


def summarise(drops: Sequence[Mapping[str, float]]) -> list[Measured]:
    """Evaluate every measure over the drops, and E14."""
    result = []
    for measure in MEASURES:
        values = np.array([drop[measure.column] for drop in drops if measure.column in drop], dtype=np.float64)
        values = values[np.isfinite(values)] * measure.scale
        interval = bootstrap(values) if measure.statistic == "mean" else _plain(values, measure.statistic)
        shown = number(interval.value, measure.show) or DASH
        result.append(
            Measured(measure.name, measure.text, len(values), interval.value, interval.low, interval.high, shown)
        )
    return result + arithmetic()


def _plain(values: NDArray[np.float64], statistic: Statistic) -> Interval:
    functions: Mapping[str, Callable[[NDArray[np.float64]], Any]] = {"median": np.median, "max": np.max, "sum": np.sum}
    value = float(functions[statistic](values)) if values.size else np.nan
    return Interval(value, np.nan, np.nan)


def arithmetic() -> list[Measured]:
    """Evaluate E14: ratios of numbers that the paper prints."""
    table, big = printed.TABLE_II, printed.TABLE_II[50, 20]
    savings = [1 - row["hetgnn-paper"].total_power_w / row["modified-bb-paper"].total_power_w for row in table.values()]
    savings_decoupled = [
        1 - row["hetgnn-paper"].total_power_w / row["decoupled"].total_power_w for row in table.values()
    ]
    speedups = [row["modified-bb-paper"].seconds / row["hetgnn-paper"].seconds for row in table.values()]
    active = printed.ACTIVE_APS_AT_20_USERS
    most = {name: count * (printed.MAX_AP_POWER_W + printed.CIRCUIT_POWER_W) for name, count in active.items()}
    words = printed.POWER_AT_10_USERS_W
    ratio = big["decoupled"].total_power_w / big["modified-bb-paper"].total_power_w
    stated = table[50, 10]["hetgnn-paper"].total_power_w / words["hetgnn-paper"]
    rows: list[tuple[str, str, float, str]] = [
        ("E14.saving-low", "least saving of the HetGNN against the modified BB in Table II", min(savings), "{:.1%}"),
        ("E14.saving-high", "largest", max(savings), "{:.1%}"),
        ("E14.saving-decoupled-high", "largest saving against the decoupled method in Table II", max(savings_decoupled), "{:.1%}"),
        ("E14.fig3", "HetGNN at M = 50, K = 10 in Table II over what the text reads from Fig. 3", stated, "{:.1f}"),
        ("E14.most-hetgnn", "most that the 16 APs of Fig. 4 can draw by Table I, W", most["hetgnn-paper"], "{:.1f}"),
        ("E14.table-hetgnn", "what Table II has them draw, W", big["hetgnn-paper"].total_power_w, "{:.2f}"),
        ("E14.most-ddpg", "most that the DDPG's 29 APs can draw, W", most["ddpg-paper"], "{:.1f}"),
        ("E14.table-ddpg", "what Table II has them draw, W", big["ddpg-paper"].total_power_w, "{:.2f}"),
        ("E14.speedup-low", "least ratio of the run-times of modified BB and HetGNN in Table II", min(speedups), "{:,.0f}"),
        ("E14.speedup-high", "largest", max(speedups), "{:,.0f}"),
        ("E14.decoupled-over-bb", "decoupled method over modified BB at (50, 20) in Table II", ratio - 1, "{:.0%}"),
        (
            "E14.aps-ratio", "active APs of the decoupled method over the HetGNN's in Fig. 4",
            active["decoupled"] / active["hetgnn-paper"], "{:.1f}",
        ),
    ]  # fmt: skip
    return [Measured(name, text, 0, value, np.nan, np.nan, show.format(value)) for name, text, value, show in rows]


def table(measured: Sequence[Measured]) -> Table[Measured]:
    """Return the table, one row a measure."""
    shows = {measure.name: measure.show for measure in MEASURES}

    def interval(one: Measured) -> str | None:
        if not (np.isfinite(one.low) and one.low < one.high):
            return None
        return " to ".join(shows[one.name].format(end) for end in (one.low, one.high))

    columns: tuple[Column[Measured], ...] = (
        Column("measure", lambda one: one.name, code=True),
        Column("what", lambda one: one.text, left=True, rank=3),
        Column("value", lambda one: None if one.shown == DASH else one.shown, "no drop has it"),
        Column("95 % interval", interval, "not a mean over drops, or without spread", rank=2),
        Column("drops", lambda one: str(one.drops) if one.drops else None, "the paper's own numbers", rank=1),
    )
    return Table(columns, measured)


def result(
    config: SystemConfig, seed: int, drops: Sequence[Mapping[str, float]], measured: Sequence[Measured]
) -> Result:
    """Return `errata.md` and `errata.json`; `seed` is that of the first drop."""
    columns = sorted({name for drop in drops for name in drop})
    content = {
        "config": config.as_dict(),
        "seeds": [seed, seed + len(drops) - 1],
        "measures": {one.name: vars(one) for one in measured},
        "drops": {name: [drop.get(name) for drop in drops] for name in columns},
    }
    return Result("errata", [table(measured)], content)


_QUOTE = re.compile(r"\*\*([^*\n]+)\*\*<!-- (E\d+\.[\w-]+) -->")


def fill(page: str, measured: Sequence[Measured]) -> str:
    """Replace the quoted numbers of a page, written `**value**<!-- E9.cost -->`, by the measured ones.

    Raises:
        ValueError: the page quotes no measure, or one that doesn't exist.
    """
    check_quotes(page, [one.name for one in measured])
    values = {one.name: one.shown for one in measured}

    return _QUOTE.sub(lambda match: f"**{values[match[2]]}**<!-- {match[2]} -->", page)


def check_quotes(page: str, names: Sequence[str] | None = None) -> None:
    """Refuse a page that quotes no measure or an unknown one."""
    known = names or [*(measure.name for measure in MEASURES), *(one.name for one in arithmetic())]
    quoted = [match[2] for match in _QUOTE.finditer(page)]
    if not quoted:
        raise ValueError(f"the page quotes no measure; a quoted one is written **value**<!-- {known[0]} -->")
    for name in quoted:
        if name not in known:
            raise ValueError(f"the page quotes {name!r}, which isn't measured; measures: {', '.join(known)}")
