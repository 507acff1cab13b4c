"""Actions and observations say what they were made from, whatever the drop and the decision."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cfisac_env import PRESETS, Decision, Scenario, SystemConfig, actions, observations, physics, sample
from cfisac_env.scenario import overlap

RUNS = settings(max_examples=60, deadline=None, derandomize=True)

Floats = NDArray[np.float64]

configurations = st.builds(
    SystemConfig,
    M=st.integers(2, 30),
    K=st.integers(1, 8),
    S=st.integers(1, 3),
    T=st.integers(1, 4),
    preset=st.sampled_from(sorted(PRESETS)),
    pilot_length=st.sampled_from([2, 5, 20]),
    rcs_model=st.sampled_from(["constant", "exponential"]),
)
seeds = st.integers(0, 2**32 - 1)


def random_decision(config: SystemConfig, drop: Scenario, rng: np.random.Generator, decades: float) -> Decision:
    """Powers log-uniform over that many decades below the cap; a user's best active AP gives it about 1e-4 of the cap or more."""
    M, K, cap = config.M, config.K, config.max_ap_power_w
    active = rng.random(M) < rng.uniform(0.1, 1.0)
    active[rng.integers(M)] = True
    power = cap / K * 10.0 ** rng.uniform(-decades, 0, (M, K))
    if rng.random() < 0.3:
        power[rng.random((M, K)) < 0.5] = 0.0
    best = np.where(active[:, None], drop.gain, 0.0).argmax(0), np.arange(K)
    power[best] = np.maximum(power[best], 1e-4 * cap)
    total = power.sum(-1, keepdims=True)
    if rng.random() < 0.2:  # every AP that radiates is at its cap, to the last digit
        power = power * cap / np.where(total > 0, total, 1.0)
        total = power.sum(-1, keepdims=True)
    power = power / np.maximum(1.0, total / cap)
    return Decision(active, power * active[:, None])


@settings(RUNS, max_examples=200)
@given(config=configurations, seed=seeds, decades=st.sampled_from([0.0, 2.0, 7.0]))
def test_an_action_brings_back_every_sinr_of_its_decision_to_five_digits(
    config: SystemConfig, seed: int, decades: float
) -> None:
    rng = np.random.default_rng(seed)
    drop = sample(config, rng)
    decision = random_decision(config, drop, rng, decades)
    action = actions.encode(decision, config.max_ap_power_w, drop.estimate_gain)
    assert actions.space(config).contains(action)
    back = actions.decode(action, config.max_ap_power_w)
    np.testing.assert_array_equal(back.active, decision.active)
    wanted, got = drop.evaluate(decision), drop.evaluate(back)
    np.testing.assert_allclose(got.sinr, wanted.sinr, rtol=1e-5)
    np.testing.assert_allclose(got.total_power, wanted.total_power, rtol=1e-5)
    if decades <= 2:  # an AP that radiates next to nothing may move by more, and locates nothing
        located = wanted.crlb < 1e3 * config.crlb_threshold_m2
        np.testing.assert_allclose(got.crlb[located], wanted.crlb[located], rtol=5e-5)
    assert got.cap_violation < 1e-12


@RUNS
@given(config=configurations, seed=seeds)
def test_without_the_channel_an_action_keeps_every_amplitude_to_a_rounding_step(
    config: SystemConfig, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    decision = random_decision(config, sample(config, rng), rng, 7.0)
    back = actions.decode(actions.encode(decision, config.max_ap_power_w), config.max_ap_power_w)
    # Float32 in [0.5, 1) has steps of 2⁻²⁴; the amplitude is half the action, and rounding goes half a step at most.
    off = np.sqrt(back.power / config.max_ap_power_w) - np.sqrt(decision.power / config.max_ap_power_w)
    assert np.abs(off).max() <= 2.0**-26 * (1 + math.sqrt(config.K))


@RUNS
@given(config=configurations, seed=seeds)
def test_any_action_decodes_to_powers_within_the_caps_and_none_where_off(config: SystemConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (config.M, config.K + 1)).astype(np.float32)
    decision = actions.decode(action, config.max_ap_power_w)
    total = decision.power.sum(-1)
    assert (total <= config.max_ap_power_w * (1 + 1e-12)).all()
    assert (total[~decision.active] == 0).all()
    np.testing.assert_array_equal(decision.active, action[:, 0] >= 0)
    asked = config.max_ap_power_w * ((action[:, 1:].astype(np.float64) + 1) / 2) ** 2
    for m in np.flatnonzero(decision.active):
        over = max(1.0, asked[m].sum() / config.max_ap_power_w)
        np.testing.assert_allclose(decision.power[m], asked[m] / over, rtol=1e-12)


def test_an_action_decodes_as_worked_out_by_hand() -> None:
    action = np.array([[0.0, 0.0, -1.0], [1.0, 1.0, 1.0], [-1e-6, 1.0, 1.0], [1.0, -0.5, 0.2]], np.float32)
    decision = actions.decode(action, 0.1)
    np.testing.assert_array_equal(decision.active, [True, True, False, True])
    np.testing.assert_allclose(
        decision.power, [[0.025, 0.0], [0.05, 0.05], [0.0, 0.0], [0.00625, 0.036]], rtol=1e-7, atol=1e-20
    )


def test_an_action_of_an_ap_that_is_off_says_nothing_but_off() -> None:
    decision = Decision(np.array([True, False]), np.array([[0.1], [0.05]]))
    np.testing.assert_array_equal(actions.encode(decision, 0.1), [[1, 1], [-1, -1]])


@RUNS
@given(config=configurations, seed=seeds)
def test_a_batch_of_actions_is_each_action_by_itself(config: SystemConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drops = sample(config, rng, 3)
    each = [random_decision(config, drops[i], rng, 4.0) for i in range(3)]
    batch = Decision(np.stack([d.active for d in each]), np.stack([d.power for d in each]))
    encoded = actions.encode(batch, config.max_ap_power_w, drops.estimate_gain)
    decoded = actions.decode(encoded, config.max_ap_power_w)
    for i in range(3):
        alone = actions.encode(each[i], config.max_ap_power_w, drops.estimate_gain[i])
        np.testing.assert_array_equal(encoded[i], alone)
        np.testing.assert_array_equal(decoded.power[i], actions.decode(alone, config.max_ap_power_w).power)


def test_torch_decodes_actions_as_numpy_does_and_lets_gradients_through() -> None:
    action = np.random.default_rng(0).uniform(-1, 1, (5, 7, 4))
    ours = actions.decode(action, 0.1)
    tensor = torch.tensor(action, requires_grad=True)
    theirs = actions.decode(tensor, 0.1)
    np.testing.assert_array_equal(theirs.active.numpy(), ours.active)
    np.testing.assert_allclose(theirs.power.detach().numpy(), ours.power, rtol=1e-12)
    theirs.power.sum().backward()
    assert tensor.grad is not None
    assert torch.isfinite(tensor.grad).all()
    assert (tensor.grad[..., 1:] != 0).any()


@RUNS
@given(config=configurations, seed=seeds)
def test_an_observation_brings_back_every_number_of_its_drop_to_five_digits(config: SystemConfig, seed: int) -> None:
    drop = sample(config, np.random.default_rng(seed))
    problem = observations.decode(observations.encode(drop))
    assert problem.noise_w == 1.0
    assert (problem.M, problem.K, problem.S) == (config.M, config.K, config.S)
    np.testing.assert_allclose(problem.gain, drop.gain / config.noise_w, rtol=1e-5)
    np.testing.assert_allclose(problem.estimate_gain, drop.estimate_gain / config.noise_w, rtol=1e-5)
    np.testing.assert_allclose(problem.fisher[..., :2], drop.fisher[..., :2], rtol=1e-5)
    off_diagonal = (problem.fisher[..., 2] - drop.fisher[..., 2]) / np.sqrt(drop.fisher[..., 0] * drop.fisher[..., 1])
    assert np.abs(off_diagonal).max() < 1e-5
    for name in ("sinr_threshold", "crlb_threshold_m2", "max_ap_power_w", "circuit_power_w"):
        assert getattr(problem, name) == pytest.approx(getattr(config, name), rel=1e-5)
    if config.pilot_length < config.K:
        np.testing.assert_array_equal(problem.pilot_overlap, overlap(drop.pilot))
    else:
        assert problem.pilot_overlap is None
    for name in ("ap_xy", "ue_xy", "target_xy"):
        np.testing.assert_allclose(getattr(problem, name) * 250.0, getattr(drop, name), rtol=1e-6)


@RUNS
@given(config=configurations, seed=seeds)
def test_a_decision_scores_the_same_on_the_observation_as_on_the_drop(config: SystemConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drop = sample(config, rng)
    decision = random_decision(config, drop, rng, 3.0)
    seen, true = physics.evaluate(observations.decode(observations.encode(drop)), decision), drop.evaluate(decision)
    np.testing.assert_allclose(seen.sinr, true.sinr, rtol=2e-5)
    located = true.crlb < 10 * config.crlb_threshold_m2
    np.testing.assert_allclose(seen.crlb[located], true.crlb[located], rtol=1e-3)
    np.testing.assert_allclose(seen.total_power, true.total_power, rtol=1e-6)


@RUNS
@given(config=configurations, seed=seeds)
def test_a_batch_of_observations_is_each_observation_by_itself(config: SystemConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drops = sample(config, rng, 3)
    active = rng.random((3, config.M)) < 0.5
    batch = observations.encode(drops, active)
    decoded = observations.decode(batch)
    for i in range(3):
        alone = observations.encode(drops[i], active[i])
        assert observations.space(config).contains(alone)
        assert set(alone) == set(batch) == set(observations.space(config))
        for key, value in alone.items():
            np.testing.assert_array_equal(batch[key][i], value)
        np.testing.assert_array_equal(alone["ap"][:, 2], active[i])
        np.testing.assert_array_equal(decoded.fisher[i], observations.decode(alone).fisher)
        np.testing.assert_array_equal(decoded.gain[i], observations.decode(alone).gain)


@pytest.mark.parametrize("pilot_length", [4, 20])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_thousand_observations_of_every_preset_lie_in_their_space(preset: str, pilot_length: int) -> None:
    config = SystemConfig(M=8, K=6, S=2, preset=preset, pilot_length=pilot_length, rcs_model="exponential")
    batch = observations.encode(sample(config, np.random.default_rng(1), 1000))
    space = observations.space(config)
    assert all(space.contains({key: value[i] for key, value in batch.items()}) for i in range(1000))


def test_hopeless_links_are_observed_at_the_edge_of_the_space() -> None:
    config = SystemConfig(M=3, K=2)
    drop = sample(config, np.random.default_rng(2))
    parts: dict[str, Any] = {name: getattr(drop, name) for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy")}
    gain, rcs_gain = drop.gain.copy(), drop.rcs_gain.copy()
    gain[0, 0], gain[1, 1], rcs_gain[2] = 1e-60, 1e-200, 1e-90
    observation = observations.encode(Scenario.from_gains(config, **parts, gain=gain, rcs_gain=rcs_gain))
    assert observations.space(config).contains(observation)
    np.testing.assert_array_equal(observation["comm"][0, 0], -40)
    np.testing.assert_array_equal(observation["radar"][2], -40)
    observations.decode(observation)


def test_an_observation_never_hides_that_users_share_a_pilot() -> None:
    config = SystemConfig(M=3, K=2)
    drop = sample(config, np.random.default_rng(3))
    parts: dict[str, Any] = {name: getattr(drop, name) for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain")}
    with pytest.raises(ValueError, match="pilot_length"):
        observations.encode(Scenario.from_gains(config, **parts, pilot=[5, 5]))
    own = observations.encode(Scenario.from_gains(config, **parts, pilot=[5, 7]))
    assert observations.space(config).contains(own)


def test_the_entries_of_an_observation_are_what_they_say() -> None:
    config = SystemConfig(M=2, K=3, S=2, T=2, area_diameter_m=400.0, pilot_length=2)
    drop = sample(config, np.random.default_rng(4))
    seen = observations.encode(drop)
    np.testing.assert_allclose(seen["ap"][:, :2] * 200.0, drop.ap_xy, rtol=1e-6)
    np.testing.assert_allclose(seen["sr"] * 200.0, drop.sr_xy, rtol=1e-6)
    np.testing.assert_allclose(seen["radar"], np.log10(drop.rcs_gain / config.noise_w), rtol=1e-6)
    np.testing.assert_allclose(seen["comm"][..., 0], np.log10(drop.gain / config.noise_w), rtol=1e-6)
    np.testing.assert_array_equal(seen["pilots"], [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    np.testing.assert_allclose(seen["requirement"], [10**-0.56, 1.0, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(seen["ap"][:, 2], 0)
    assert {value.dtype for value in seen.values()} == {np.dtype(np.float32)}


def test_torch_observes_what_numpy_observes() -> None:
    config = SystemConfig(M=4, K=5, S=2, pilot_length=3)
    drops = sample(config, np.random.default_rng(5), 3)
    tensors: dict[str, Any] = {
        name: torch.tensor(getattr(drops, name))
        for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain", "estimate_gain", "rcs_gain", "fisher", "pilot")
    }
    ours, theirs = observations.encode(drops), observations.encode(replace(drops, **tensors))
    for key, value in ours.items():
        np.testing.assert_allclose(np.asarray(theirs[key]), value, rtol=1e-6, atol=1e-7)


@pytest.fixture
def observation() -> dict[str, Any]:
    return observations.encode(sample(SystemConfig(M=4, K=3), np.random.default_rng(6)))


@pytest.mark.parametrize("key", ["comm", "sensing", "requirement"])
def test_a_missing_entry_is_named_together_with_those_there(key: str, observation: dict[str, Any]) -> None:
    del observation[key]
    with pytest.raises(ValueError, match=f"lacks {key} .*radar"):
        observations.decode(observation)


@pytest.mark.parametrize("key", ["comm", "sensing", "requirement"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused_by_entry(key: str, value: float, observation: dict[str, Any]) -> None:
    observation[key].flat[0] = value
    with pytest.raises(ValueError, match=f"'{key}' holds 1 values"):
        observations.decode(observation)


@pytest.mark.parametrize("key", ["comm", "sensing", "requirement"])
def test_a_shape_that_does_not_fit_is_refused_with_the_shapes(key: str, observation: dict[str, Any]) -> None:
    observation[key] = observation[key][..., :-1]
    with pytest.raises(ValueError, match=r"must have comm \(…, M, K, 2\)"):
        observations.decode(observation)
    observation[key] = observation[key][None]
    with pytest.raises(ValueError, match=r"must have comm \(…, M, K, 2\)"):
        observations.decode(observation)


def test_a_batch_of_different_requirements_is_refused(observation: dict[str, Any]) -> None:
    batch = {key: np.stack([value, value]) for key, value in observation.items()}
    batch["requirement"][1, 0] *= 2
    with pytest.raises(ValueError, match="one requirement"):
        observations.decode(batch)
