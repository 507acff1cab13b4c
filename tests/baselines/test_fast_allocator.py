"""Compiled allocator, against independent formulas and solvers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from numpy.typing import NDArray

from baselines.allocation.certificate import dual_bound
from baselines.allocation.fast import solve
from baselines.allocation.result import Allocation, Status
from cfisac_env import PRESETS, SystemConfig, sample
from cfisac_env.types import Problem

SIZES = [(10, 2), (30, 6), (50, 20)]


def drop(seed: int, M: int = 30, K: int = 6, **fields: Any) -> Problem:
    return sample(SystemConfig(M=M, K=K, **fields), np.random.default_rng(seed)).problem


def random_sets(seed: int, M: int, n: int) -> NDArray[np.bool_]:
    """Sets of every density, all APs on first."""
    rng = np.random.default_rng(seed)
    sets = rng.random((n, M)) < rng.uniform(0.05, 1.0, (n, 1))
    sets[0] = True
    return np.asarray(sets)


def worst_violation(problem: Problem, power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest relative violation of SINR, CRLB and caps, from the definitions: explicit sums and matrix inverses."""
    p = power.reshape(-1, problem.M, problem.K)
    worst = np.zeros(len(p))
    for i, one in enumerate(p):
        total = one.sum(1)
        for k in range(problem.K):
            signal = sum(np.sqrt(one[m, k] * problem.estimate_gain[m, k]) for m in range(problem.M)) ** 2
            interference = sum(total[m] * problem.gain[m, k] for m in range(problem.M))
            worst[i] = max(worst[i], 1.0 - signal / (interference + problem.noise_w) / problem.sinr_threshold)
        for s in range(problem.S):
            a, b, c = total @ problem.fisher[:, s]
            crlb = np.trace(np.linalg.inv(np.array([[a, c], [c, b]])))
            worst[i] = max(worst[i], 1.0 - problem.crlb_threshold_m2 / crlb)
        worst[i] = max(worst[i], total.max() / problem.max_ap_power_w - 1.0)
    return worst.reshape(power.shape[:-2])


def check(problem: Problem, active: NDArray[np.bool_], answer: Allocation) -> None:
    """Check every guarantee of a solution."""
    assert np.isin(answer.status, [Status.OPTIMAL, Status.INFEASIBLE]).all(), np.unique(answer.status)
    optimal = answer.status == Status.OPTIMAL
    bound = dual_bound(problem, active, answer.multipliers)
    caps = active.sum(-1) * problem.max_ap_power_w
    assert (bound[~optimal] > caps[~optimal]).all()
    assert np.isinf(answer.bound[~optimal]).all()
    assert np.isinf(answer.transmit_power[~optimal]).all()
    assert (answer.power[~optimal] == 0.0).all()
    assert (answer.power >= 0.0).all()
    assert (answer.power[~active] == 0.0).all()
    assert (answer.multipliers.cap[~active] == 0.0).all()
    power = answer.power[optimal]
    np.testing.assert_allclose(power.sum((-2, -1)), answer.transmit_power[optimal], rtol=1e-12)
    np.testing.assert_allclose(bound[optimal], answer.transmit_power[optimal], rtol=1e-6)
    np.testing.assert_allclose(bound[optimal], answer.bound[optimal], rtol=1e-9)
    if optimal.any():
        assert worst_violation(problem, power).max() <= 1e-7


def clarabel_power(problem: Problem, active: NDArray[np.bool_]) -> float | None:
    """Optimum of one set by an independent conic solver, infinite without one; None when the solver fails."""
    on = np.flatnonzero(active)
    cap, gamma, nu = problem.max_ap_power_w, problem.sinr_threshold, problem.crlb_threshold_m2
    gain, estimate = problem.gain[on] / problem.noise_w, problem.estimate_gain[on] / problem.noise_w
    scale = cap * estimate.sum(0)
    p = cp.Variable((len(on), problem.K), nonneg=True)  # in caps
    r = cp.Variable((len(on), problem.K))
    total = cp.sum(p, axis=1)
    constraints = [total <= 1]
    for k in range(problem.K):
        t = gamma * (cap * gain[:, k] @ total + 1.0) / scale[k]
        constraints.append(np.sqrt(cap * estimate[:, k] / scale[k]) @ r[:, k] >= t)
        constraints += [cp.SOC(p[m, k] + t, cp.hstack([p[m, k] - t, 2 * r[m, k]])) for m in range(len(on))]
    for s in range(problem.S):
        a, b, c = (nu * cap * problem.fisher[on, s, i] @ total for i in range(3))
        constraints.append(cp.SOC(a + b - 2, cp.hstack([a - b, 2 * c, 2.0])))
    model = cp.Problem(cp.Minimize(cp.sum(p)), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an inaccurate end, which the status tells too
        model.solve(solver=cp.CLARABEL)
    return float(model.value) * cap if model.status in (cp.OPTIMAL, cp.INFEASIBLE) else None


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize(("M", "K"), SIZES)
def test_solutions_are_certified_on_random_sets(preset: str, M: int, K: int) -> None:
    for seed in range(3):
        problem, active = drop(seed, M, K, preset=preset), random_sets(seed, M, 12)
        answer = solve(problem, active)
        check(problem, active, answer)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_optimum_agrees_with_clarabel(preset: str) -> None:
    agreed = 0
    for seed in range(3):
        # Twelve APs are too few for the precision that the preset asks of thirty.
        eased = {"crlb_threshold_m2": 0.4} if preset == "precise-sensing" else {}
        problem = drop(seed, 12, 3, preset=preset, **eased)
        active = random_sets(seed, 12, 3)
        answer = solve(problem, active)
        for i in range(len(active)):
            expected = clarabel_power(problem, active[i]) if active[i].any() else None
            if expected is not None:
                np.testing.assert_allclose(answer.transmit_power[i], expected, rtol=5e-6)
                agreed += 1
    assert agreed >= 4


@pytest.mark.skipif(importlib.util.find_spec("baselines.allocation.reference") is None, reason="no reference allocator")
def test_optimum_agrees_with_the_reference_allocator() -> None:
    from baselines.allocation import reference

    for seed in range(3):
        problem, active = drop(seed, 10, 3), np.ones(10, dtype=np.bool_)
        answer, expected = solve(problem, active), reference.solve(problem, active)
        if expected.status == Status.OPTIMAL:
            np.testing.assert_allclose(answer.transmit_power, expected.transmit_power, rtol=5e-6)


def test_one_ap_and_one_user_without_sensing_match_the_closed_form() -> None:
    # γ = v p/(ς p + σ²) at the threshold gives p = γσ²/(v − γς).
    gain, estimate, noise, gamma = 3e-9, 2.5e-9, 1e-12, 0.5
    problem = Problem(
        gain=np.array([[gain]]),
        estimate_gain=np.array([[estimate]]),
        noise_w=noise,
        fisher=np.zeros((1, 0, 3)),
        sinr_threshold=gamma,
        crlb_threshold_m2=1.0,
        max_ap_power_w=0.1,
        circuit_power_w=0.2,
    )
    answer = solve(problem, np.array([True]))
    assert answer.status == Status.OPTIMAL
    np.testing.assert_allclose(answer.transmit_power, gamma * noise / (estimate - gamma * gain), rtol=1e-6)
    # More than v/ς is out of reach at any power.
    assert solve(replace(problem, sinr_threshold=0.9), np.array([True])).status == Status.INFEASIBLE


def test_sensing_alone_matches_the_closed_form() -> None:
    # J = P·diag(q, q) at each of two equal APs with a nearly free user: CRLB = 2/(qP) ≤ ν asks for P = 2/(qν) in all.
    q, nu = 40.0, 1.0
    problem = Problem(
        gain=np.full((2, 1), 1e-8),
        estimate_gain=np.full((2, 1), 1e-8),
        noise_w=1e-13,
        fisher=np.tile([q, q, 0.0], (2, 1, 1)),
        sinr_threshold=1e-3,
        crlb_threshold_m2=nu,
        max_ap_power_w=0.04,
        circuit_power_w=0.2,
    )
    both = np.array([True, True])
    np.testing.assert_allclose(solve(problem, both).transmit_power, 2 / (q * nu), rtol=1e-6)
    assert solve(problem, np.array([True, False])).status == Status.INFEASIBLE


@pytest.mark.parametrize("S", [0, 2, 4])
def test_any_number_of_targets(S: int) -> None:
    feasible = 0
    for seed in range(6):
        problem = drop(seed, 20, 4, S=max(S, 1), T=4)
        problem = problem if S else replace(problem, fisher=np.zeros((20, 0, 3)))
        active = random_sets(seed, 20, 8)
        answer = solve(problem, active)
        check(problem, active, answer)
        feasible += int((answer.status == Status.OPTIMAL).sum())
        if S == 2 and answer.status[0] == Status.OPTIMAL:
            expected = clarabel_power(problem, active[0])
            if expected is not None:
                np.testing.assert_allclose(answer.transmit_power[0], expected, rtol=5e-6)
    assert feasible


@pytest.mark.parametrize(("M", "K"), [(1, 1), (1, 3), (2, 1), (4, 12), (40, 1)])
def test_extreme_shapes(M: int, K: int) -> None:
    for seed in range(8):
        problem, active = drop(seed, M, K), random_sets(seed, M, 4)
        check(problem, active, solve(problem, active))


def test_two_hundred_aps_and_sixty_users_are_solved() -> None:
    problem, active = drop(0, 200, 60, pilot_length=60), random_sets(0, 200, 2)
    answer = solve(problem, active)
    check(problem, active, answer)
    assert answer.status[0] == Status.OPTIMAL


def test_wide_ranges_and_other_requirements_never_fail() -> None:
    rng = np.random.default_rng(7)
    for seed in range(60):
        M, K = int(rng.integers(2, 25)), int(rng.integers(1, 8))
        problem = drop(seed, M, K, T=3)
        fade = 10 ** rng.uniform(-3, 3, (M, 1))
        problem = replace(
            problem,
            gain=problem.gain * fade,
            estimate_gain=problem.estimate_gain * fade * rng.uniform(0.3, 1.0, (M, K)),
            sinr_threshold=10 ** rng.uniform(-1.5, 0.6),
            crlb_threshold_m2=10 ** rng.uniform(-2, 3),
            max_ap_power_w=10 ** rng.uniform(-2, 1),
        )
        active = random_sets(seed, M, 8)
        check(problem, active, solve(problem, active))


def test_barely_feasible_and_barely_infeasible_sets_are_distinguished() -> None:
    active = np.ones(12, dtype=np.bool_)
    for seed in range(5):
        problem = drop(seed, 12, 3, preset="precise-sensing", crlb_threshold_m2=0.5)
        low, high = problem.crlb_threshold_m2 * 1e-6, problem.crlb_threshold_m2
        # Bisect the tightest CRLB that the caps allow.
        while high / low > 1 + 1e-5:
            middle = np.sqrt(low * high)
            answer = solve(replace(problem, crlb_threshold_m2=middle), active)
            check(replace(problem, crlb_threshold_m2=middle), active, answer)
            low, high = (low, middle) if answer.status == Status.OPTIMAL else (middle, high)


def test_an_empty_set_is_infeasible() -> None:
    problem, active = drop(0), np.zeros(30, dtype=np.bool_)
    answer = solve(problem, active)
    assert answer.status == Status.INFEASIBLE
    assert answer.bound == np.inf
    assert dual_bound(problem, active, answer.multipliers) > 0.0


def test_adding_aps_never_costs_transmit_power() -> None:
    rng = np.random.default_rng(3)
    for seed in range(5):
        problem = drop(seed)
        order = rng.permutation(30)
        nested = np.zeros((30, 30), dtype=np.bool_)
        for n in range(30):
            nested[n, order[: n + 1]] = True
        power = solve(problem, nested).transmit_power
        assert (power[1:] <= power[:-1] * (1 + 1e-6)).all()


def test_results_do_not_depend_on_threads_or_on_the_rest_of_the_batch() -> None:
    problem, active = drop(1), random_sets(1, 30, 40)
    alone = [solve(problem, active[i], threads=1) for i in range(40)]
    for threads in (1, 2, 5, None):
        together = solve(problem, active, threads=threads)
        for i, single in enumerate(alone):
            assert together.status[i] == single.status
            np.testing.assert_array_equal(together.power[i], single.power)
            np.testing.assert_array_equal(together.bound[i], single.bound)
            np.testing.assert_array_equal(together.multipliers.sensing[i], single.multipliers.sensing)


def test_cut_off_stops_exactly_the_sets_above_the_limit() -> None:
    problem, active = drop(2), random_sets(2, 30, 40)
    full = solve(problem, active)
    limit = float(np.median(full.transmit_power[np.isfinite(full.transmit_power)])) * 1.001
    answer = solve(problem, active, cutoff_w=limit)
    below = full.transmit_power < limit
    assert below.any()
    assert not below.all()
    assert (answer.status[below] == Status.OPTIMAL).all()
    np.testing.assert_array_equal(answer.power[below], full.power[below])
    cut = answer.status == Status.CUT_OFF
    assert cut.any()
    assert np.isin(answer.status[~below], [Status.CUT_OFF, Status.INFEASIBLE]).all()
    assert (answer.bound[cut] > limit).all()
    assert (answer.bound[cut] <= full.transmit_power[cut] * (1 + 1e-9)).all()
    assert np.isinf(answer.transmit_power[cut]).all()
    np.testing.assert_allclose(dual_bound(problem, active, answer.multipliers)[cut], answer.bound[cut], rtol=1e-9)
    assert answer.iterations[cut].mean() < full.iterations[cut].mean() or np.isinf(full.transmit_power[cut]).all()


def test_every_set_may_have_its_own_limit() -> None:
    problem = drop(2)
    answer = solve(problem, np.ones((2, 30), dtype=np.bool_), cutoff_w=np.array([np.inf, 0.0]))
    assert answer.status.tolist() == [Status.OPTIMAL, Status.CUT_OFF]


def test_a_batch_of_drops_equals_its_drops_one_by_one() -> None:
    problem = sample(SystemConfig(M=12, K=3), np.random.default_rng(0), 4).problem
    active = random_sets(0, 12, 4 * 5).reshape(4, 5, 12)
    answer, first = solve(problem, active), solve(problem, active[:, 0])
    assert answer.power.shape == (4, 5, 12, 3)
    assert answer.multipliers.sensing.shape == (4, 5, 1, 3)
    for i in range(4):
        np.testing.assert_array_equal(answer.power[i], solve(problem[i], active[i]).power)
    np.testing.assert_array_equal(answer.power[:, 0], first.power)


def test_only_the_ratio_of_gain_to_noise_matters() -> None:
    problem, active = drop(4), np.ones(30, dtype=np.bool_)
    scaled = replace(
        problem, gain=problem.gain / problem.noise_w, estimate_gain=problem.estimate_gain / problem.noise_w, noise_w=1.0
    )
    np.testing.assert_allclose(solve(problem, active).transmit_power, solve(scaled, active).transmit_power, rtol=1e-6)


def test_no_sets_give_an_empty_answer() -> None:
    answer = solve(drop(0), np.zeros((0, 30), dtype=np.bool_))
    assert answer.power.shape == (0, 30, 6)
    assert answer.status.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": np.full((30, 6), np.nan)}, "gain must be positive.*NaN"),
        ({"estimate_gain": np.zeros((30, 6))}, "estimate_gain must be positive"),
        ({"estimate_gain": np.ones((30, 5))}, "estimate_gain has shape"),
        ({"fisher": np.ones((30, 3))}, "fisher has shape"),
        ({"fisher": np.full((30, 1, 3), -1.0)}, "fisher must be finite"),
        ({"noise_w": -1.0}, "noise_w is -1"),
        ({"sinr_threshold": 0.0}, "sinr_threshold is 0"),
        ({"crlb_threshold_m2": np.nan}, "crlb_threshold_m2 is nan"),
        ({"max_ap_power_w": np.inf}, "max_ap_power_w is inf"),
        ({"pilot_overlap": np.ones((6, 6))}, r"orthogonal pilots.*baselines\.allocation\.ccp"),
    ],
)
def test_bad_problems_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(replace(drop(0), **change), np.ones(30, dtype=np.bool_))


def test_drops_of_different_sizes_in_one_batch_are_refused() -> None:
    small, large = drop(0, 5, 2), drop(0, 6, 2)
    ragged: Any = np.empty(2, dtype=object)
    ragged[:] = [small.gain, large.gain]
    with pytest.raises(ValueError, match=r"gain is not one array of numbers.*different sizes can't share a batch"):
        solve(replace(small, gain=ragged), np.ones((2, 6), dtype=np.bool_))
    with pytest.raises(ValueError, match="estimate_gain has shape"):
        solve(replace(small, gain=np.array([small.gain, large.gain[:5]])), np.ones((2, 5), dtype=np.bool_))


def test_bad_sets_and_options_are_refused_by_name() -> None:
    problem, on = drop(0), np.ones(30, dtype=np.bool_)
    with pytest.raises(TypeError, match="dtype int64, expected bool"):
        solve(problem, on.astype(np.int64))
    with pytest.raises(ValueError, match=r"active has shape \(29,\), expected \(…, 30\)"):
        solve(problem, on[:-1])
    with pytest.raises(ValueError, match="active has shape"):
        solve(sample(SystemConfig(M=30, K=6), np.random.default_rng(0), 3).problem, np.ones((2, 30), dtype=np.bool_))
    with pytest.raises(ValueError, match="cutoff_w has shape"):
        solve(problem, on, cutoff_w=np.ones(7))
    with pytest.raises(ValueError, match="cutoff_w holds NaN"):
        solve(problem, on, cutoff_w=np.nan)
    with pytest.raises(ValueError, match="threads is 0"):
        solve(problem, on, threads=0)


def test_importing_starts_no_threads() -> None:
    code = "import threading, baselines.allocation.fast; print(threading.active_count())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
