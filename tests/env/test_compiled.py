"""The compiled loops are the array code, only sooner; without numba the array code does the work."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cfisac_env import CfIsacEnv, Decision, Scenario, SystemConfig, actions, compiled, observations, physics, sample
from cfisac_env.sampling import RandomInputs

RUNS = settings(max_examples=60, deadline=None, derandomize=True)

OUTCOME_FIELDS = (
    "sinr", "crlb", "transmit_power", "circuit_power", "total_power",
    "sinr_violation", "crlb_violation", "cap_violation", "feasible",
)  # fmt: skip


@st.composite
def scored(draw: st.DrawFn) -> tuple[Scenario, Decision]:
    """Drops and decisions, sensible and not: APs that radiate though off, powers above the cap, everything off."""
    config = SystemConfig(
        M=draw(st.integers(1, 12)),
        K=draw(st.integers(1, 9)),
        S=draw(st.integers(1, 3)),
        T=draw(st.integers(1, 3)),
        pilot_length=draw(st.sampled_from([1, 2, 4, 20])),
        rcs_model=draw(st.sampled_from(["constant", "exponential"])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([None, 1, 4]))
    drops = sample(config, rng, n)
    active = rng.random(drops.gain.shape[:-1]) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    power = rng.random(drops.gain.shape) ** 4 * config.max_ap_power_w / config.K
    if draw(st.booleans()):
        power *= active[..., None]
    return drops, Decision(active, power * draw(st.sampled_from([0.1, 1.0, 10.0])))


@RUNS
@given(scored())
def test_a_decision_scores_the_same_compiled(case: tuple[Scenario, Decision]) -> None:
    drops, decision = case
    sooner = compiled.evaluate(drops.problem, decision, 1e-4)
    assert sooner is not None
    later = physics._evaluate(drops.problem, decision, 1e-4)
    for name in OUTCOME_FIELDS:
        ours, theirs = getattr(sooner, name), getattr(later, name)
        assert np.shape(ours) == np.shape(theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        # Where the geometry is all but degenerate, rounding decides the digits of a bound.
        located = np.isfinite(theirs) & (np.asarray(theirs) < 1e6) if name == "crlb" else np.isfinite(theirs)
        assert_allclose(np.where(located, ours, 0.0), np.where(located, theirs, 0.0), rtol=1e-9, atol=1e-12)
        if name != "crlb":
            assert_array_equal(np.isfinite(ours), np.isfinite(theirs))


@RUNS
@given(st.integers(1, 12), st.integers(1, 9), st.sampled_from([(), (1,), (2, 3)]), st.integers(0, 2**32 - 1))
def test_an_action_decodes_the_same_compiled(M: int, K: int, lead: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    action = rng.normal(size=(*lead, M, K + 1)).astype(np.float32)
    sooner = compiled.decode(action, 0.1)
    assert sooner is not None
    later = actions._decode(action, 0.1)
    assert_array_equal(sooner.active, later.active)
    assert_allclose(sooner.power, later.power, rtol=1e-14)
    assert_array_equal(sooner.power, actions.decode(np.clip(action, -1, 1), 0.1).power)


@pytest.mark.parametrize("T", [1, 2, 7, 10])
@pytest.mark.parametrize("n", [None, 3])
def test_drops_are_the_same_to_the_last_bit_without_numba(
    T: int, n: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rcs_model in ("constant", "exponential"):
        config = SystemConfig(M=20, K=11, S=2, T=T, min_distance_m=60.0, rcs_model=rcs_model)
        sooner = sample(config, np.random.default_rng(3), n)
        with monkeypatch.context() as without:
            without.setattr(compiled, "kernels", lambda: None)
            later = sample(config, np.random.default_rng(3), n)
        for name in ("gain", "estimate_gain", "rcs_gain", "fisher"):
            assert_array_equal(getattr(sooner, name), getattr(later, name))


@pytest.mark.parametrize(
    "fields", [{}, {"rcs_model": "exponential"}, {"pilot_length": 2, "pilot_assignment": "random"}], ids=str
)
@pytest.mark.parametrize("moving_only", [False, True])
def test_every_generator_draws_compiled_what_it_draws_by_itself(
    fields: dict[str, Any], moving_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SystemConfig(M=7, K=5, S=2, T=3, **fields)

    def drawn() -> list[Any]:
        generators = [np.random.default_rng(seed) for seed in (3, 1, 2)]
        generators[1] = np.random.Generator(np.random.MT19937(1))
        inputs = RandomInputs(config, (3,), moving_only=moving_only)
        numbers = []
        for _ in range(2):
            inputs.fill_each(generators)
            numbers += [
                np.copy(a) for a in (inputs.uniform, inputs.normal, inputs.exponential, inputs.pilot) if a is not None
            ]
        return [*numbers, [generator.random() for generator in generators]]

    assert isinstance(compiled.random_kernels(), ModuleType)
    sooner = drawn()
    monkeypatch.setattr(compiled, "random_kernels", lambda: None)
    for ours, theirs in zip(sooner, drawn(), strict=True):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [None, 3])
def test_an_observation_is_the_same_to_the_last_bit_without_numba(
    n: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = sample(SystemConfig(M=5, K=3, S=2), np.random.default_rng(1), n)
    gain = drops.gain.copy()
    gain[..., :3, 0] = 0.0, 1e-70, 1e70  # beyond what an observation says
    drops = replace(drops, gain=gain)
    sooner = observations.encode(drops)
    monkeypatch.setattr(compiled, "kernels", lambda: None)
    later = observations.encode(drops)
    for key, entry in later.items():
        assert_array_equal(sooner[key], entry)
    assert_array_equal(sooner["comm"][..., :3, 0, 0], np.broadcast_to([-40.0, -40.0, 40.0], (*gain.shape[:-2], 3)))


def test_what_the_loops_were_not_compiled_for_goes_to_the_array_code() -> None:
    drop = sample(SystemConfig(M=4, K=3), np.random.default_rng(0))
    decision = actions.decode(np.ones((5, 4, 4), np.float32), 0.1)
    assert compiled.evaluate(drop.problem, decision, 1e-4) is None  # many decisions on one drop
    single = replace(drop.problem, gain=drop.gain.astype(np.float32))
    assert compiled.evaluate(single, Decision(decision.active[0], decision.power[0]), 1e-4) is None
    assert compiled.decode(np.ones((4, 4)), 0.1) is None
    assert compiled.decode(np.ones((4, 8), np.float32)[:, ::2], 0.1) is None
    assert drop.evaluate(decision).sinr.shape == (5, 3)


@pytest.mark.parametrize("fields", [{}, {"K": 4, "pilot_length": 2, "S": 2, "episode_steps": 3}], ids=str)
def test_an_environment_without_numba_says_the_same(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def rewards() -> list[float]:
        env, rng = CfIsacEnv(M=6, **({"K": 3} | fields)), np.random.default_rng(1)
        said = []
        env.reset(seed=3)
        for _ in range(20):
            action = rng.uniform(-1, 1, (6, env.config.K + 1)).astype(np.float32)
            _, reward, terminated, truncated, info = env.step(action)
            said += [float(reward), *info["sinr_db"], *info["crlb_m2"]]
            if terminated or truncated:
                env.reset()
        return said

    assert isinstance(compiled.kernels(), ModuleType)
    sooner = rewards()
    monkeypatch.setattr(compiled, "kernels", lambda: None)
    assert_allclose(sooner, rewards(), rtol=1e-9)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, cfisac_env; "
        "heavy = {'numba', 'torch', 'scipy', 'cvxpy', 'matplotlib', 'stable_baselines3'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_broken_or_missing_numba_is_done_without() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from cfisac_env import CfIsacEnv, compiled\n"
        "env = CfIsacEnv(M=4, K=2); env.reset(seed=0); env.step(env.action_space.sample())\n"
        "assert compiled.kernels() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
