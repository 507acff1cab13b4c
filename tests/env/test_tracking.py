"""`CfIsacTracking-v0` and its filter, against simulation, finite differences and Fisher information from elsewhere."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import baselines
from cfisac_env import SystemConfig, actions, physics, sample
from cfisac_env.belief import Belief, NearlyConstantTurn, measured, path_length
from cfisac_env.rendering import Viewer
from cfisac_env.tracking import INITIAL_COVARIANCE, CfIsacTrackingEnv
from cfisac_env.types import Decision

SMALL: dict[str, Any] = {"M": 12, "K": 3, "T": 4, "preset": "urban", "episode_steps": 6}
LINEAR = NearlyConstantTurn(acceleration_m_s2=0.5, turn_rate_rad_s=0.0)


def made(**fields: Any) -> CfIsacTrackingEnv:
    return CfIsacTrackingEnv(**(SMALL | fields))


def network(seed: int, S: int = 1) -> Any:
    """A drop with targets 60 m or more from every node, where path lengths are nearly linear."""
    rng = np.random.default_rng(seed)
    drop = sample(SystemConfig(M=10, K=2, T=4, S=S, area_diameter_m=2000, min_distance_m=60), rng)
    return drop, rng


def test_path_lengths_have_the_gradients_of_finite_differences() -> None:
    drop, rng = network(0)
    xy = rng.normal(size=(3, 2)) * 100
    _, slope = path_length(xy, drop.ap_xy, drop.sr_xy)
    for axis in range(2):
        step = np.eye(2)[axis] * 1e-4
        high, low = (path_length(xy + sign * step, drop.ap_xy, drop.sr_xy)[0] for sign in (1, -1))
        np.testing.assert_allclose(slope[..., axis], (high - low) / 2e-4, rtol=1e-6, atol=1e-8)


def test_measurements_have_the_fisher_information_of_the_model() -> None:
    drop, rng = network(1, S=2)
    power = rng.random(10)
    lengths, weight = measured(
        rng, drop.target_xy, drop.ap_xy, drop.sr_xy, power, drop.rcs_gain, drop.config.fisher_scale
    )
    expected = physics.fisher_matrix(power, drop.fisher)
    true, slope = path_length(drop.target_xy, drop.ap_xy, drop.sr_xy)
    for s in range(2):
        J = np.einsum("mti,mt,mtj->ij", slope[:, s], weight[:, s], slope[:, s])
        np.testing.assert_allclose([J[0, 0], J[1, 1], J[0, 1]], expected[s], rtol=1e-9)
    draws = np.array(
        [measured(rng, drop.target_xy, drop.ap_xy, drop.sr_xy, power, drop.rcs_gain, 1e18)[0] for _ in range(2000)]
    )
    assert lengths.shape == (10, 2, 4)
    np.testing.assert_allclose(draws.var(0)[:, 1] * (1e18 * power[:, None] * drop.rcs_gain[:, 1]), 1.0, atol=0.2)
    np.testing.assert_allclose(draws.mean(0), true, rtol=1e-3)


def test_predictions_have_the_jacobians_of_finite_differences() -> None:
    model, rng = NearlyConstantTurn(0.0, 0.0, 3.0), np.random.default_rng(0)
    for rate in (0.3, -0.05, 1e-6, 0.0):
        mean = np.append(rng.normal(size=4) * 10, rate)
        covariance = np.diag(rng.random(5)) * 1e-4

        def moved(state: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(model.predict(Belief(state[None], np.zeros((1, 5, 5))), 0.7).mean[0])

        F = np.stack([(moved(mean + d) - moved(mean - d)) / 2e-5 for d in np.eye(5) * 1e-5], axis=-1)
        predicted = model.predict(Belief(mean[None], covariance[None]), 0.7).covariance[0]
        np.testing.assert_allclose(predicted, F @ covariance @ F.T, rtol=1e-6, atol=1e-12)


def test_predictions_follow_the_arcs_of_the_targets_motion() -> None:
    # A circle: radius v/ω, a quarter of a turn in π/(2ω).
    model = NearlyConstantTurn(0.0, 0.0, 1e6)
    belief = model.predict(Belief(np.array([[0.0, 0.0, 10.0, 0.0, 0.1]]), np.zeros((1, 5, 5))), np.pi / 0.2)
    np.testing.assert_allclose(belief.mean[0], [100.0, 100.0, 0.0, 10.0, 0.1], atol=1e-2)


def test_process_noise_is_that_of_simulated_turns() -> None:
    model, rng, n = NearlyConstantTurn(0.3, 0.02, 5.0), np.random.default_rng(0), 60_000
    memory = np.exp(-1 / 5.0)
    rate = 0.05 * memory + np.sqrt(1 - memory**2) * 0.02 * rng.normal(size=n)
    acceleration = 0.3 * rng.normal(size=(n, 2))
    heading = rate * np.linspace(0, 1, 41)[:, None]
    xy = 15.0 * np.stack([np.cos(heading), np.sin(heading)], -1).mean(0) + acceleration / 2
    end = 15.0 * np.stack([np.cos(heading[-1]), np.sin(heading[-1])], -1) + acceleration
    simulated = np.cov(np.concatenate([xy, end, rate[:, None]], axis=1).T)
    belief = model.predict(Belief(np.array([[0, 0, 15.0, 0, 0.05]]), np.zeros((1, 5, 5))), 1.0)
    np.testing.assert_allclose(belief.covariance[0], simulated, rtol=0.03, atol=3e-4)


def test_errors_of_the_filter_are_the_posterior_bound() -> None:
    """40,000 targets with a linear motion and nearly linear measurements: three digits, within the sampling error."""
    drop, rng = network(2)
    config, runs, power = drop.config, 40_000, np.full(10, 0.1)
    start = np.diag([4.0, 4.0, 1.0, 1.0, 1e-12])
    truth = np.tile([50.0, -40.0, 8.0, 5.0, 0.0], (runs, 1))
    belief = Belief(truth + rng.multivariate_normal(np.zeros(5), start, runs), np.repeat(start[None], runs, axis=0))
    for _ in range(3):
        xy = truth[:, :2]
        rcs = physics.radar_gain(drop.ap_xy, drop.sr_xy, xy, config.wavelength_m, 30.0, config.min_distance_m)
        fisher = physics.fisher_information(drop.ap_xy, drop.sr_xy, xy, rcs, config.fisher_scale)
        bound = physics.crlb(power, fisher, belief.information)
        length, weight = measured(rng, xy, drop.ap_xy, drop.sr_xy, power, rcs, config.fisher_scale)
        belief = belief.updated(length, weight, drop.ap_xy, drop.sr_xy)
        square = np.sum((belief.mean[:, :2] - xy) ** 2, axis=-1)
        assert abs(square.mean() - bound.mean()) < 4.0 * square.std() / np.sqrt(runs)
        np.testing.assert_allclose(square.mean(), bound.mean(), rtol=0.02)
        np.testing.assert_allclose(belief.variance_m2.mean(), bound.mean(), rtol=1e-3)
        assert bound.mean() < 0.95 * physics.crlb(power, fisher).mean()  # with less information, without the prior
        push = LINEAR.acceleration_m_s2 * rng.normal(size=(runs, 2))
        truth = truth + np.concatenate([truth[:, 2:4] + push / 2, push, np.zeros((runs, 1))], axis=1)
        belief = LINEAR.predict(belief, 1.0)


def test_one_measurement_is_bayes_rule_on_a_grid() -> None:
    drop, rng = network(3)
    power = np.where(np.arange(10) < 3, 0.1, 0.0)
    rcs = physics.radar_gain(drop.ap_xy, drop.sr_xy, drop.target_xy, drop.config.wavelength_m, 30.0, 60.0)
    start = np.diag([9.0, 9.0, 4.0, 4.0, 0.01])
    start[0, 1] = start[1, 0] = 4.0
    belief = Belief(np.array([[1.0, -2.0, 0, 0, 0]]), start[None])
    length, weight = measured(rng, drop.target_xy, drop.ap_xy, drop.sr_xy, power, rcs, drop.config.fisher_scale)
    axis = np.linspace(-18, 18, 401)
    x, y = np.meshgrid(axis + 1.0, axis - 2.0, indexing="ij")
    points = np.stack([x, y], -1).reshape(-1, 2)
    log = -0.5 * np.einsum("ni,ij,nj->n", points - [1.0, -2.0], np.linalg.inv(start[:2, :2]), points - [1.0, -2.0])
    to_ap = np.linalg.norm(points[:, None] - drop.ap_xy, axis=-1)
    to_sr = np.linalg.norm(points[:, None] - drop.sr_xy, axis=-1)
    residual = length[:, 0] - (to_ap[:, :, None] + to_sr[:, None, :])
    log = log - 0.5 * np.sum(weight[:, 0] * residual**2, axis=(1, 2))
    p = np.exp(log - log.max())
    p /= p.sum()
    mean = p @ points
    covariance = (points - mean).T @ (p[:, None] * (points - mean))
    updated = belief.updated(length, weight, drop.ap_xy, drop.sr_xy)
    spread = np.sqrt(np.trace(covariance))
    np.testing.assert_allclose(updated.mean[0, :2], mean, atol=0.02 * spread)
    np.testing.assert_allclose(updated.covariance[0, :2, :2], covariance, rtol=0.03, atol=0.01 * spread**2)


def test_the_requirement_is_on_the_posterior_at_the_true_position() -> None:
    env = made(S=2)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(4):
        truth, belief = env.scenario, env.belief
        action = rng.uniform(-1, 1, (12, 4)).astype(np.float32)
        decision = actions.decode(action, env.config.max_ap_power_w)
        _, _, _, _, information = env.step(action)
        for s in range(2):
            a, b, c = decision.power.sum(-1) @ truth.fisher[:, s]
            J = np.linalg.inv(belief.covariance[s, :2, :2]) + np.array([[a, c], [c, b]])
            np.testing.assert_allclose(information["crlb_m2"][s], np.trace(np.linalg.inv(J)), rtol=1e-9)
        assert information["position_error_m"].shape == information["belief_variance_m2"].shape == (2,)


def test_the_observation_holds_the_belief_and_not_the_truth() -> None:
    env = made(S=2)
    observation, _ = env.reset(seed=1)
    for _ in range(3):
        belief, radius = env.belief, env.config.area_diameter_m / 2
        np.testing.assert_allclose(observation["target"] * radius, belief.mean[:, :2], rtol=1e-5)
        np.testing.assert_allclose(observation["target_velocity"] * radius, belief.mean[:, 2:4], rtol=1e-5)
        np.testing.assert_allclose(
            observation["covariance"][:, :2, :4] * radius**2, belief.covariance[:, :2, :4], rtol=1e-5
        )
        np.testing.assert_allclose(observation["covariance"][:, 4, 4], belief.covariance[:, 4, 4], rtol=1e-5)
        np.testing.assert_allclose(10 ** observation["prior"][:, 0], belief.information[:, 0], rtol=1e-4)
        drop = env.scenario
        moved = replace(drop, target_xy=belief.mean[:, :2])
        expected = physics.fisher_information(
            moved.ap_xy, moved.sr_xy, moved.target_xy,
            physics.radar_gain(moved.ap_xy, moved.sr_xy, moved.target_xy, env.config.wavelength_m, env.config.rcs_m2, 10.0),
            env.config.fisher_scale,
        )  # fmt: skip
        np.testing.assert_allclose(10 ** observation["sensing"][..., 0], expected[..., 0], rtol=1e-3)
        assert not np.allclose(observation["target"] * radius, drop.target_xy, atol=1e-3)
        observation, *_ = env.step(env.action_space.sample())


def test_with_a_known_cross_section_the_belief_keeps_its_ratio_to_the_mean() -> None:
    env = made(rcs_model="exponential")
    env.reset(seed=0)
    drop, believed = env.scenario, env.believed_scenario
    ratios = []
    for one in (drop, believed):
        plain = physics.radar_gain(
            one.ap_xy, one.sr_xy, one.target_xy, env.config.wavelength_m, env.config.rcs_m2, 10.0
        )
        ratios.append(one.rcs_gain / plain)
    np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-9)


def test_information_bought_now_is_saved_later() -> None:
    """After a step at full power the exact power of the next one is less than after a step that just meets the requirement."""
    powers = []
    for full in (False, True):
        env = made(preset="paper", episode_steps=2, initial_covariance=np.diag([1.0, 1.0, 0.1, 0.1, 1e-4]))
        observation, _ = env.reset(seed=4)
        policy = baselines.make("full-ap")
        action, _ = policy.predict(observation)
        if full:
            decision = Decision(np.ones(12, dtype=bool), np.full((12, 3), env.config.max_ap_power_w / 3))
            action = actions.encode(decision, env.config.max_ap_power_w, env.scenario.estimate_gain)
        observation, *_ = env.step(action)
        _, _, _, _, information = env.step(policy.predict(observation)[0])
        powers.append(information["transmit_power_w"])
    assert powers[1] < 0.9 * powers[0]


def test_noise_does_not_depend_on_the_decision() -> None:
    errors = []
    for level in (0.5, 0.5, 0.01):
        env = made()
        env.reset(seed=2)
        _, _, _, _, information = env.step(np.full((12, 4), level, np.float32))
        errors.append(float(information["position_error_m"][0]))
        state = env.np_random.bit_generator.state["state"]["state"]
        errors.append(float(state % 2**40))
    assert errors[0] == errors[2]
    assert errors[0] != errors[4]
    assert errors[1] == errors[3] == errors[5]


def test_copies_and_vectors_play_on_identically() -> None:
    env = made()
    env.reset(seed=3)
    env.step(env.action_space.sample())
    other = pickle.loads(pickle.dumps(env))
    action = env.action_space.sample()
    ours, theirs = env.step(action), other.step(action)
    assert all((ours[0][key] == theirs[0][key]).all() for key in ours[0])
    assert ours[1] == theirs[1]
    several: Any = gym.make_vec("CfIsacTracking-v0", num_envs=2, **SMALL)
    observations, _ = several.reset(seed=[3, 5])
    alone = gym.make("CfIsacTracking-v0", **SMALL)
    for i, seed in enumerate((3, 5)):
        observation, _ = alone.reset(seed=seed)
        assert all((observation[key] == observations[key][i]).all() for key in observation)
    several.close()


def test_trajectories_of_users_and_several_targets_are_tracked() -> None:
    played = made(S=2, episode_steps=5)
    played.reset(seed=0)
    env = CfIsacTrackingEnv(drops=played.trajectory, initial_covariance=0.01 * INITIAL_COVARIANCE)
    observation, _ = env.reset(seed=0)
    over, policy = False, baselines.make("myopic", kicks=0)
    while not over:
        observation, _, _, over, information = env.step(policy.predict(observation)[0])
        assert (information["position_error_m"] < 6.0).all()


def test_frames_show_belief_and_truth() -> None:
    env = made(render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.step(env.action_space.sample())
    second = env.render()
    assert first is not None
    assert second is not None
    assert (first != second).any()
    drop, decision, outcome, belief = env._shown  # type: ignore[misc]
    assert belief is not None
    plain = Viewer().frame(drop, decision, outcome)
    assert (plain != second).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"acceleration_m_s2": -1.0}, "acceleration_m_s2"),
        ({"turn_rate_rad_s": float("nan")}, "turn_rate_rad_s"),
        ({"turn_memory_s": 0.0}, "memory_s"),
        ({"episode_steps": 0}, "episode_steps"),
        ({"episode_steps": 10**6}, "episode_steps"),
        ({"initial_covariance": np.eye(4)}, r"symmetric positive definite \(5, 5\)"),
        ({"initial_covariance": -np.eye(5)}, "least eigenvalue is -1"),
        ({"initial_covariance": np.zeros((5, 5))}, "least eigenvalue is 0"),
        ({"initial_covariance": np.eye(5) + np.eye(5, k=1)}, "isn't symmetric"),
        ({"initial_covariance": np.full((5, 5), np.nan)}, "positive definite"),
        ({"initial_covariance": "wide"}, "positive definite"),
    ],
)
def test_bad_arguments_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**fields)


def test_before_a_reset_there_is_no_belief() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        _ = made().belief
