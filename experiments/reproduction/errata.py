"""The paper's errata, measured drop by drop: what its formulas give as printed, beside what is right.

E1 to E14 are the numbers of the documentation page `docs/errata.md`, which quotes the measures by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

import baselines
from baselines.allocation import Allocator, allocator
from baselines.allocation.paper import solve_paper
from baselines.allocation.reference import SOLVERS
from baselines.elimination import without_one
from baselines.heuristics import solved
from cfisac_env import Decision, Problem, Scenario, SystemConfig, physics, sample
from experiments.reproduction import printed
from experiments.reproduction.link_simulation import simulate
from experiments.statistics import Interval, bootstrap

Float = NDArray[np.float64]
Drop = dict[str, float]

SHARED_PILOTS: Mapping[str, int] = {"M": 6, "K": 4, "pilot_length": 2}
"""Size of the drops on which E1 and E3 are simulated: two users a pilot."""

PAIRS = 200
"""Pairs of power vectors a drop for E8."""


def measure_drop(config: SystemConfig, seed: int) -> Drop:
    """Every per-drop number; NaN where a drop has none (an infeasible one, or a program without a solution)."""
    rng = np.random.default_rng(seed)
    scenario = sample(config, rng)
    problem, allocate = scenario.problem, allocator("fast")
    shared = sample(replace_fields(config, SHARED_PILOTS), np.random.default_rng(seed))
    numbers = _pilots(shared, np.random.default_rng(seed))
    numbers |= _integration(scenario) | _convexity(problem, rng) | _sensing_alone(problem)
    optimum = baselines.make("modified-bb").decide(problem)
    everyone = allocate(problem, np.ones(problem.M, dtype=bool))
    if optimum.feasible and solved(everyone):
        numbers |= _optimum(problem, optimum.decision, everyone.power, config) | _removals(problem, allocate)
        numbers |= _relaxation(problem, optimum.decision, allocate) | _loss(problem, optimum.decision)
    return numbers


def replace_fields(config: SystemConfig, fields: Mapping[str, Any]) -> SystemConfig:
    """A configuration with some fields changed."""
    return SystemConfig(**{**config.as_dict(), **fields})


def _pilots(scenario: Scenario, rng: np.random.Generator) -> Drop:
    """E1 and E3: the printed and the corrected closed forms against a simulated link with shared pilots."""
    config, gain, overlap = scenario.config, scenario.gain, scenario.problem.pilot_overlap
    assert overlap is not None
    link = simulate(scenario, rng)
    energy, noise = config.pilot_energy_w, config.noise_w
    own_only = energy * gain**2 / (energy * gain * overlap.sum(1) + noise)
    unit_noise = energy * gain**2 / (energy * gain @ overlap + 1.0)
    amplitude = np.sqrt(link.power / scenario.estimate_gain)  # √P_mk of the paper, ρ_DL inside
    signal = np.sum(amplitude * scenario.estimate_gain, axis=0) ** 2
    leaked = (scenario.estimate_gain.T @ amplitude) ** 2 * overlap  # (k, k'): v_mk' ς_mk' cancelled
    np.fill_diagonal(leaked, 0.0)
    misprinted = signal / (leaked.sum(1) + gain.T @ link.power.sum(1) + noise)
    right = physics.sinr(link.power, gain, scenario.estimate_gain, noise, overlap)
    return {
        "v_printed_factor": _factor(own_only / link.estimate_gain),
        "v_unit_noise_factor": _factor(unit_noise / link.estimate_gain),
        "v_corrected_factor": _factor(scenario.estimate_gain / link.estimate_gain),
        "sinr_printed_error_db": float(np.abs(10 * np.log10(misprinted / link.sinr)).max()),
        "sinr_corrected_error_db": float(np.abs(10 * np.log10(right / link.sinr)).max()),
    }


def _factor(ratio: Float) -> float:
    """The largest factor by which a ratio is off, either way."""
    return float(np.exp(np.abs(np.log(ratio)).max()))


def _integration(scenario: Scenario) -> Drop:
    """E6: the CRLB falls with every watt, so all APs at P_max give the least there is; above ν the drop is infeasible."""
    config = scenario.config
    least = float(physics.crlb(np.full(config.M, config.max_ap_power_w), scenario.fisher).max())
    limit, symbols = config.crlb_threshold_m2, config.integration_symbols
    return {
        "unlocatable_with_one_symbol": float(least * symbols > limit),
        "unlocatable": float(least > limit),
        "unlocatable_flat_spectrum": float(12 * least > limit),
    }


def _forms(problem: Problem) -> tuple[Float, Float]:
    """B (M,) and A (M, M) of the paper's (7), for the first target."""
    a, b, c = problem.fisher[:, 0].T
    return a + b, np.outer(a, b) - np.outer(c, c)


def _convexity(problem: Problem, rng: np.random.Generator) -> Drop:
    """E8: midpoints of pairs that meet (8d) with equality meet it, and (8d) is the cone."""
    b, A = _forms(problem)
    limit = problem.crlb_threshold_m2
    power = rng.exponential(size=(2 * PAIRS, problem.M)) * (rng.random((2 * PAIRS, problem.M)) < 0.3)
    power = power[power.any(1)]
    power *= ((power @ b) / np.einsum("nm,mi,ni->n", power, A, power) / limit)[:, None]
    power = power[np.isfinite(power).all(1)]
    middle = (power[: len(power) // 2] + power[len(power) // 2 :][: len(power) // 2]) / 2
    crlb = (middle @ b) / np.einsum("nm,mi,ni->n", middle, A, middle)
    j = np.einsum("nm,mi->in", power * rng.choice([0.9, 1.1], size=(len(power), 1)), problem.fisher[:, 0])
    total, difference = j[0] + j[1], j[0] - j[1]
    cone = np.hypot(np.hypot(difference, 2 * j[2]), 2 / limit) <= total - 2 / limit
    quotient = total / (j[0] * j[1] - j[2] ** 2) <= limit
    return {
        "pairs": float(len(middle)),
        "midpoints_outside": float(np.sum(crlb > limit * (1 + 1e-9))),
        "cone_disagreements": float(np.sum(cone != quotient)),
    }


def _sensing_alone(problem: Problem) -> Drop:
    """E9: least power for the sensing requirement alone, by the cone and by (9d) as printed and with A made symmetric."""
    exact = _least_sensing_power(problem)
    numbers = {"sensing_infeasible": float(np.isnan(exact))}
    if not np.isnan(exact):
        _, A = _forms(problem)
        as_printed, symmetric = _elementwise(problem, A), _elementwise(problem, (A + A.T) / 2)
        numbers |= {
            "printed_9d_infeasible": float(np.isnan(as_printed)),
            "symmetric_9d_infeasible": float(np.isnan(symmetric)),
            "symmetric_9d_cost": symmetric / exact,
        }
    return numbers


def _elementwise(problem: Problem, matrix: Float, on: NDArray[np.bool_] | None = None) -> float:
    """Least Σ P_m in W with b ≤ ν · matrix · P elementwise and P within the caps; NaN when there is none."""
    b, _ = _forms(problem)
    rows = problem.crlb_threshold_m2 * problem.max_ap_power_w * matrix / b[:, None]
    most = np.ones(problem.M) if on is None else on.astype(np.float64)
    bounds = [(0.0, float(share)) for share in most]
    answer = linprog(np.ones(problem.M), A_ub=-rows, b_ub=-np.ones(problem.M), bounds=bounds, method="highs")
    return np.nan if answer.x is None else float(answer.x.sum()) * problem.max_ap_power_w


def _least_sensing_power(problem: Problem) -> float:
    """Least Σ P_m in W with tr J⁻¹ ≤ ν and P within the caps; NaN when there is none."""
    program, rows = _sensing_program(problem.M)
    a, b, c = problem.fisher[:, 0].T
    rows.value = problem.crlb_threshold_m2 * problem.max_ap_power_w / 2 * np.stack([a + b, a - b, 2 * c])
    full = rows.value.sum(1)
    if full[0] - 1 < np.hypot(np.hypot(full[1], full[2]), 1.0):  # all APs at P_max locate best
        return np.nan
    program.solve(solver="CLARABEL", **SOLVERS["CLARABEL"])
    return float(program.value) * problem.max_ap_power_w


@lru_cache(maxsize=8)
def _sensing_program(M: int) -> tuple[Any, Any]:
    rows, share = cp.Parameter((3, M)), cp.Variable(M, nonneg=True)
    u = rows @ share
    cone = cp.SOC(u[0] - 1, cp.hstack([u[1], u[2], 1.0]))
    return cp.Problem(cp.Minimize(cp.sum(share)), [share <= 1, cone]), rows


def _optimum(problem: Problem, decision: Decision, everyone: Float, config: SystemConfig) -> Drop:
    """E4, E7 and E11 on the decision of `modified-bb` and on the all-on optimum."""
    v, on = problem.estimate_gain, decision.active
    # p_mk = ρ_DL v_mk P_mk; all of an AP's power on its strongest user makes the printed sum least.
    printed_power = decision.power.sum(1) / (config.max_ap_power_w * v.max(1))
    amplitude = np.sqrt(decision.power / v)[on]
    gain, estimate = problem.gain[on], v[on]
    # (10) as printed: v_mk for v_mk', every k' ≠ k leaks whatever its pilot.
    leaked = ((estimate * gain).T @ (amplitude / gain)) ** 2
    np.fill_diagonal(leaked, 0.0)
    misprinted = np.sum(amplitude * estimate, axis=0) ** 2 / (
        leaked.sum(1) + gain.T @ decision.power[on].sum(1) + problem.noise_w
    )
    _, A = _forms(problem)
    symmetric = (A + A.T) / 2
    total = float(decision.power.sum()) + problem.circuit_power_w * on.sum()
    return {
        "total_power_w": total,
        "active_aps": float(on.sum()),
        "power_as_summed": float(printed_power.sum()),
        "uncounted_power_w": float(everyone.sum(1).min()) + problem.circuit_power_w,
        "printed_10_users_refused": float(np.mean(misprinted < problem.sinr_threshold)),
        "optimum_9d_over_active_infeasible": float(np.isnan(_elementwise_active(problem, symmetric, on))),
        "optimum_9d_over_all_infeasible": float(np.isnan(_elementwise(problem, symmetric, on))),
    }


def _elementwise_active(problem: Problem, matrix: Float, on: NDArray[np.bool_]) -> float:
    smaller = replace(
        problem, gain=problem.gain[on], estimate_gain=problem.estimate_gain[on], fisher=problem.fisher[on]
    )
    return _elementwise(smaller, matrix[np.ix_(on, on)])


def _relaxation(problem: Problem, optimum: Decision, allocate: Allocator) -> Drop:
    """E10: the powers of (9), repaired as in `baselines.allocation.paper`, held against (3)."""
    numbers: Drop = {}
    for name, active in (("all_on", np.ones(problem.M, dtype=bool)), ("chosen", optimum.active)):
        answer = solve_paper(problem, active)
        if answer.feasible:
            outcome = physics.evaluate(problem, Decision(active, answer.power))
            missed = outcome.sinr < problem.sinr_threshold * (1 - physics.FEASIBILITY_TOLERANCE)
            margin_db = 10 * np.log10(outcome.sinr / problem.sinr_threshold)
            numbers |= {
                f"users_missed_{name}": float(missed.mean()),
                f"drop_missed_{name}": float(missed.any()),
                f"miss_db_{name}": float(-np.median(margin_db[missed])) if missed.any() else np.nan,
            }
    speech = allocate(replace(problem, fisher=problem.fisher[:, :0]), np.ones(problem.M, dtype=bool))
    whole = allocate(problem, np.ones(problem.M, dtype=bool))
    return numbers | {
        "counted_power_w": float(speech.transmit_power),
        "radiated_power_w": float(whole.transmit_power),
    }


def _removals(problem: Problem, allocate: Allocator) -> Drop:
    """E12: how often the least transmit power falls when one AP of all is removed."""
    whole = allocate(problem, np.ones(problem.M, dtype=bool))
    answers = allocate(problem, without_one(np.ones(problem.M, dtype=bool)))
    saved = answers.transmit_power < float(whole.bound) * (1 - 1e-6)  # below the certified least with all on
    return {"removals": float(len(saved)), "removals_that_save": float(saved.sum())}


def _loss(problem: Problem, optimum: Decision) -> Drop:
    """E13: the unsupervised part of (14) with α = β = 1 at silence, at the optimum, and with every AP at P_max."""
    M, K = problem.M, problem.K
    loud = Decision(np.ones(M, dtype=bool), np.full((M, K), problem.max_ap_power_w / K))
    silent = Decision(np.zeros(M, dtype=bool), np.zeros((M, K)))
    as_printed = [_printed_loss(problem, one) for one in (silent, optimum, loud)]
    hinged = [_hinged_loss(problem, one) for one in (silent, optimum, loud)]
    return {
        "printed_loss_prefers_another": float(as_printed[1] > min(as_printed[0], as_printed[2])),
        "hinged_loss_prefers_another": float(hinged[1] > min(hinged[0], hinged[2])),
    }


def _printed_loss(problem: Problem, decision: Decision) -> float:
    b, A = _forms(problem)
    power = decision.power.sum(1)
    gamma = physics.sinr(decision.power, problem.gain, problem.estimate_gain, problem.noise_w)
    return float(
        power.sum() + np.sum(gamma - problem.sinr_threshold) + b @ power - problem.crlb_threshold_m2 * power @ A @ power
    )


def _hinged_loss(problem: Problem, decision: Decision, weight: float = 10.0) -> float:
    outcome = physics.evaluate(problem, decision)
    return float(outcome.total_power + weight * (outcome.sinr_violation.sum() + outcome.crlb_violation.sum()))


Statistic = Literal["mean", "median", "max", "sum"]


@dataclass(frozen=True)
class Measure:
    """One number of the page: a statistic of a per-drop column, and how it is written."""

    name: str
    text: str
    column: str
    statistic: Statistic = "mean"
    scale: float = 1.0
    show: str = "{:.0%}"


MEASURES: tuple[Measure, ...] = (
    Measure(
        "E1.printed",
        "v_mk with ς_mk inside the pilot sum, against simulated estimates: factor at the worst link of a drop (median)",
        "v_printed_factor",
        "median",
        1.0,
        "{:.3g}",
    ),
    Measure(
        "E1.unit-noise",
        "the same with 1 for the noise in the denominator",
        "v_unit_noise_factor",
        "median",
        1.0,
        "{:.1e}",
    ),
    Measure(
        "E1.corrected",
        "the same, corrected (what is left is the simulation's own scatter)",
        "v_corrected_factor",
        "median",
        1.0,
        "{:.3f}",
    ),
    Measure(
        "E3.printed",
        "SINR by (3) as printed, against a simulated downlink with shared pilots: worst user of a drop, dB (median)",
        "sinr_printed_error_db",
        "median",
        1.0,
        "{:.1f}",
    ),
    Measure("E3.corrected", "the same, corrected", "sinr_corrected_error_db", "median", 1.0, "{:.2f}"),
    Measure(
        "E4.sum",
        "Σ P_mk as (8a) writes it, at least, for the AP powers of the best known decision (median)",
        "power_as_summed",
        "median",
        1.0,
        "{:.1e}",
    ),
    Measure("E4.radiated", "total power of the same decisions, W (mean)", "total_power_w", "mean", 1.0, "{:.2f}"),
    Measure(
        "E6.one-symbol",
        "drops in which all APs at P_max miss ν with one integrated symbol",
        "unlocatable_with_one_symbol",
    ),
    Measure("E6.hundred", "the same with L = 100", "unlocatable"),
    Measure(
        "E6.flat",
        "the same with L = 100 and the effective bandwidth B/√12 of a flat spectrum",
        "unlocatable_flat_spectrum",
    ),
    Measure(
        "E7.counted",
        "what (8a) counts when one AP is declared on and the others radiate all the same, W (mean)",
        "uncounted_power_w",
        "mean",
        1.0,
        "{:.2f}",
    ),
    Measure("E8.pairs", "pairs of power vectors that meet (8d) with equality", "pairs", "sum", 1.0, "{:,.0f}"),
    Measure("E8.outside", "midpoints of such pairs that miss it", "midpoints_outside", "sum", 1.0, "{:.0f}"),
    Measure(
        "E8.disagreements",
        "power vectors on which (8d) and its second-order cone disagree",
        "cone_disagreements",
        "sum",
        1.0,
        "{:.0f}",
    ),
    Measure(
        "E9.printed-infeasible",
        "drops whose sensing requirement can be met, but not by (9d) with A as printed",
        "printed_9d_infeasible",
    ),
    Measure("E9.symmetric-infeasible", "the same with (A + Aᵀ)/2", "symmetric_9d_infeasible"),
    Measure(
        "E9.cost",
        "sensing power by (9d) with (A + Aᵀ)/2 over the least there is (median)",
        "symmetric_9d_cost",
        "median",
        1.0,
        "{:.2f}",
    ),
    Measure("E9.cost-mean", "the same (mean)", "symmetric_9d_cost", "mean", 1.0, "{:.2f}"),
    Measure(
        "E9.over-active",
        "best known sets for which (9d) with (A + Aᵀ)/2 over the active APs has no solution",
        "optimum_9d_over_active_infeasible",
    ),
    Measure("E9.over-all", "the same over all APs, as printed", "optimum_9d_over_all_infeasible"),
    Measure(
        "E10.counted",
        "what (9a) as printed counts, all APs on, in µW (median)",
        "counted_power_w",
        "median",
        1e6,
        "{:.2g}",
    ),
    Measure("E10.radiated", "what has to be radiated, in mW (median)", "radiated_power_w", "median", 1e3, "{:.0f}"),
    Measure("E10.users", "users that miss the SINR with the powers of (9), all APs on", "users_missed_all_on"),
    Measure("E10.drops", "drops with such a user", "drop_missed_all_on"),
    Measure("E10.miss-db", "by how much such users miss it, dB (median)", "miss_db_all_on", "median", 1.0, "{:.1f}"),
    Measure(
        "E10.users-chosen",
        "users that miss the SINR with the powers of (9) on the best known set",
        "users_missed_chosen",
    ),
    Measure(
        "E10.miss-db-chosen", "by how much such users miss it, dB (median)", "miss_db_chosen", "median", 1.0, "{:.1f}"
    ),
    Measure(
        "E11.refused",
        "users that (10) as printed refuses at a decision that meets every requirement",
        "printed_10_users_refused",
    ),
    Measure("E12.removals", "removals of one AP from all", "removals", "sum", 1.0, "{:,.0f}"),
    Measure(
        "E12.saving", "of them, removals that lower the transmit power", "removals_that_save", "sum", 1.0, "{:.0f}"
    ),
    Measure("E12.active", "active APs of the corrected algorithm (mean)", "active_aps", "mean", 1.0, "{:.1f}"),
    Measure(
        "E13.printed",
        "drops where (14) as printed is lower at silence or at full power than at the best known decision",
        "printed_loss_prefers_another",
    ),
    Measure("E13.hinged", "the same with hinges, circuit power and relative violations", "hinged_loss_prefers_another"),
)


@dataclass(frozen=True)
class Measured:
    """A measure with its value; the interval is that of a mean over drops, and NaN for anything else."""

    name: str
    text: str
    drops: int
    value: float
    low: float
    high: float
    shown: str


def summarise(drops: Sequence[Mapping[str, float]]) -> list[Measured]:
    """Every measure over the drops, then the arithmetic of the paper's own numbers (E14)."""
    result = []
    for measure in MEASURES:
        values = np.array([drop[measure.column] for drop in drops if measure.column in drop], dtype=np.float64)
        values = values[np.isfinite(values)] * measure.scale
        interval = bootstrap(values) if measure.statistic == "mean" else _plain(values, measure.statistic)
        shown = measure.show.format(interval.value)
        result.append(
            Measured(measure.name, measure.text, len(values), interval.value, interval.low, interval.high, shown)
        )
    return result + arithmetic()


def _plain(values: Float, statistic: Statistic) -> Interval:
    functions: Mapping[str, Callable[[Float], Any]] = {"median": np.median, "max": np.max, "sum": np.sum}
    value = float(functions[statistic](values)) if values.size else np.nan
    return Interval(value, np.nan, np.nan)


def arithmetic() -> list[Measured]:
    """E14: the paper's numbers held against each other."""
    table, big = printed.TABLE_II, printed.TABLE_II[50, 20]
    savings = [1 - row["hetgnn"].total_power_w / row["modified-bb-paper"].total_power_w for row in table.values()]
    savings_decoupled = [1 - row["hetgnn"].total_power_w / row["decoupled"].total_power_w for row in table.values()]
    speedups = [row["modified-bb-paper"].seconds / row["hetgnn"].seconds for row in table.values()]
    active = printed.ACTIVE_APS_AT_20_USERS
    most = {name: count * (printed.MAX_AP_POWER_W + printed.CIRCUIT_POWER_W) for name, count in active.items()}
    words = printed.POWER_AT_10_USERS_W
    rows: list[tuple[str, str, float, str]] = [
        ("E14.saving-low", "least saving of the HetGNN against the modified BB in Table II", min(savings), "{:.1%}"),
        ("E14.saving-high", "largest", max(savings), "{:.1%}"),
        (
            "E14.saving-decoupled-high",
            "largest saving against the decoupled method in Table II",
            max(savings_decoupled),
            "{:.1%}",
        ),
        (
            "E14.fig3",
            "HetGNN at M = 50, K = 10 in Table II over what the text reads from Fig. 3",
            table[50, 10]["hetgnn"].total_power_w / words["hetgnn"],
            "{:.1f}",
        ),
        ("E14.most-hetgnn", "most that the 16 APs of Fig. 4 can draw by Table I, W", most["hetgnn"], "{:.1f}"),
        ("E14.table-hetgnn", "what Table II has them draw, W", big["hetgnn"].total_power_w, "{:.2f}"),
        ("E14.most-ddpg", "most that the DDPG's 29 APs can draw, W", most["ddpg"], "{:.1f}"),
        ("E14.table-ddpg", "what Table II has them draw, W", big["ddpg"].total_power_w, "{:.2f}"),
        (
            "E14.speedup-low",
            "least ratio of the run-times of modified BB and HetGNN in Table II",
            min(speedups),
            "{:,.0f}",
        ),
        ("E14.speedup-high", "largest", max(speedups), "{:,.0f}"),
        (
            "E14.decoupled-over-bb",
            "decoupled method over modified BB at (50, 20) in Table II",
            big["decoupled"].total_power_w / big["modified-bb-paper"].total_power_w - 1,
            "{:.0%}",
        ),
        (
            "E14.aps-ratio",
            "active APs of the decoupled method over the HetGNN's in Fig. 4",
            active["decoupled"] / active["hetgnn"],
            "{:.1f}",
        ),
    ]
    return [Measured(name, text, 0, value, np.nan, np.nan, show.format(value)) for name, text, value, show in rows]


def table(measured: Sequence[Measured]) -> str:
    """The measures as a Markdown table."""
    lines = ["| measure | what | value | 95 % interval | drops |", "|---|---|---:|---:|---:|"]
    shows = {measure.name: measure.show for measure in MEASURES}
    for one in measured:
        interval = ""
        if np.isfinite(one.low) and one.low < one.high:
            interval = " to ".join(shows[one.name].format(end) for end in (one.low, one.high))
        lines.append(f"| `{one.name}` | {one.text} | {one.shown} | {interval} | {one.drops or ''} |")
    return "\n".join(lines) + "\n"


_QUOTE = re.compile(r"\*\*([^*\n]+)\*\*<!-- (E\d+\.[\w-]+) -->")


def fill(page: str, measured: Sequence[Measured]) -> str:
    """A page with every quoted number, written `**value**<!-- E9.cost -->`, replaced by the measured one.

    Raises:
        ValueError: the page quotes a measure that doesn't exist.
    """
    values = {one.name: one.shown for one in measured}

    def quote(match: re.Match[str]) -> str:
        name = match[2]
        if name not in values:
            raise ValueError(f"the page quotes {name!r}, which isn't measured; measures: {', '.join(values)}")
        return f"**{values[name]}**<!-- {name} -->"

    return _QUOTE.sub(quote, page)
