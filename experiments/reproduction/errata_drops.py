"""The paper's errata on a drop: values of its formulas as printed and corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

import baselines
from baselines import ap_sets
from baselines.allocation import Allocator
from baselines.allocation.paper import solve_paper
from baselines.allocation.reference import SOLVERS
from cfisac_env import Decision, Problem, Scenario, SystemConfig, physics, sample
from experiments.reproduction.link_simulation import simulate

Float = NDArray[np.float64]
Values = dict[str, float]

SHARED_PILOTS: Mapping[str, int] = {"M": 6, "K": 4, "pilot_length": 2}
"""Size of the drops on which E1 and E3 are simulated: two users a pilot."""

PAIRS = 200
"""Pairs of power vectors a drop for E8."""


def measure_drop(config: SystemConfig, seed: int) -> Values:
    """Measure a drop; numbers that it lacks, such as those of an infeasible drop, are missing or NaN."""
    rng = np.random.default_rng(seed)
    scenario = sample(config, rng)
    problem, allocate = scenario.problem, Allocator("fast")
    shared = sample(replace_fields(config, SHARED_PILOTS), np.random.default_rng(seed))
    numbers = _pilots(shared, np.random.default_rng(seed))
    numbers |= _integration(scenario) | _convexity(problem, rng) | _sensing_alone(problem)
    optimum = baselines.make("modified-bb").decide(problem)
    all_on = allocate(problem, np.ones(problem.M, dtype=bool))
    if optimum.feasible and all_on.feasible:
        numbers |= _optimum(problem, optimum.decision, all_on.power, config) | _removals(problem, allocate)
        numbers |= _relaxation(problem, optimum.decision, allocate) | _loss(problem, optimum.decision)
    return numbers


def replace_fields(config: SystemConfig, fields: Mapping[str, Any]) -> SystemConfig:
    """Return a configuration with some fields changed."""
    return SystemConfig(**{**config.as_dict(), **fields})


def _pilots(scenario: Scenario, rng: np.random.Generator) -> Values:
    """Compare the printed and the corrected closed forms of E1 and E3 with a simulated link with shared pilots."""
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
    """Return the largest factor between a ratio and 1."""
    return float(np.exp(np.abs(np.log(ratio)).max()))


def _integration(scenario: Scenario) -> Values:
    """Compare the least CRLB, that of all APs at P_max, with ν (E6)."""
    config = scenario.config
    least = float(physics.crlb(np.full(config.M, config.max_ap_power_w), scenario.fisher).max())
    limit, symbols = config.crlb_threshold_m2, config.integration_symbols
    return {
        "unlocatable_with_one_symbol": float(least * symbols > limit),
        "unlocatable": float(least > limit),
        "unlocatable_flat_spectrum": float(12 * least > limit),
    }


def _forms(problem: Problem) -> tuple[Float, Float]:
    """Return B (M,) and A (M, M) of the paper's (7), for the first target."""
    a, b, c = problem.fisher[:, 0].T
    return a + b, np.outer(a, b) - np.outer(c, c)


def _convexity(problem: Problem, rng: np.random.Generator) -> Values:
    """Check that midpoints of pairs that meet (8d) with equality meet it, and that (8d) is the cone (E8)."""
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


def _sensing_alone(problem: Problem) -> Values:
    """Compute the least power for sensing alone by the cone, by (9d) as printed and by (9d) with A made symmetric (E9)."""
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
    """Return the least Σ P_m in W with b ≤ ν · matrix · P elementwise and P within the caps; NaN without a solution."""
    b, _ = _forms(problem)
    rows = problem.crlb_threshold_m2 * problem.max_ap_power_w * matrix / b[:, None]
    most = np.ones(problem.M) if on is None else on.astype(np.float64)
    bounds = [(0.0, float(share)) for share in most]
    answer = linprog(np.ones(problem.M), A_ub=-rows, b_ub=-np.ones(problem.M), bounds=bounds, method="highs")
    return np.nan if answer.x is None else float(answer.x.sum()) * problem.max_ap_power_w


def _least_sensing_power(problem: Problem) -> float:
    """Return the least Σ P_m in W with tr J⁻¹ ≤ ν and P within the caps; NaN without a solution."""
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


def _optimum(problem: Problem, decision: Decision, all_on: Float, config: SystemConfig) -> Values:
    """Measure E4, E7 and E11 on the decision of `modified-bb` and on the optimum with all APs on."""
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
    serving = replace(problem, gain=gain, estimate_gain=estimate, fisher=problem.fisher[on])
    total = float(decision.power.sum()) + problem.circuit_power_w * on.sum()
    return {
        "total_power_w": total,
        "active_aps": float(on.sum()),
        "power_as_summed": float(printed_power.sum()),
        "uncounted_power_w": float(all_on.sum(1).min()) + problem.circuit_power_w,
        "printed_10_users_refused": float(np.mean(misprinted < problem.sinr_threshold)),
        "optimum_9d_over_active_infeasible": float(np.isnan(_elementwise(serving, symmetric[np.ix_(on, on)]))),
        "optimum_9d_over_all_infeasible": float(np.isnan(_elementwise(problem, symmetric, on))),
    }


def _relaxation(problem: Problem, optimum: Decision, allocate: Allocator) -> Values:
    """Compare the powers of (9), repaired as in `baselines.allocation.paper`, with (3) (E10)."""
    numbers: Values = {}
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
    communication = allocate(replace(problem, fisher=problem.fisher[:, :0]), np.ones(problem.M, dtype=bool))
    whole = allocate(problem, np.ones(problem.M, dtype=bool))
    return numbers | {
        "counted_power_w": float(communication.transmit_power),
        "radiated_power_w": float(whole.transmit_power),
    }


def _removals(problem: Problem, allocate: Allocator) -> Values:
    """Count the removals of one AP of all that lower the least transmit power (E12)."""
    whole = allocate(problem, np.ones(problem.M, dtype=bool))
    answers = allocate(problem, ap_sets.removals(np.ones(problem.M, dtype=bool)))
    saved = answers.transmit_power < float(whole.bound) * (1 - 1e-6)  # below the certified least with all on
    return {"removals": float(len(saved)), "removals_that_save": float(saved.sum())}


def _loss(problem: Problem, optimum: Decision) -> Values:
    """Compare the unsupervised part of (14), α = β = 1, with all APs off, at the optimum, and with all APs at P_max (E13)."""
    M, K = problem.M, problem.K
    full_power = Decision(np.ones(M, dtype=bool), np.full((M, K), problem.max_ap_power_w / K))
    all_off = Decision(np.zeros(M, dtype=bool), np.zeros((M, K)))
    as_printed = [_printed_loss(problem, one) for one in (all_off, optimum, full_power)]
    hinged = [_hinged_loss(problem, one) for one in (all_off, optimum, full_power)]
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


def _hinged_loss(problem: Problem, decision: Decision) -> float:
    outcome = physics.evaluate(problem, decision)
    return float(outcome.total_power + 10.0 * (outcome.sinr_violation.sum() + outcome.crlb_violation.sum()))
