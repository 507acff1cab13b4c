"""The tracks for stock agents: priorities along which APs are switched on, and moves that improve the rule's set."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO

import baselines
from agents.rl.environments import CfIsacPriorityEnv
from agents.rl.improvement import CfIsacImprovementEnv, valued
from baselines.allocation import Allocator
from baselines.bounds import certify
from baselines.policy import allocate_with_margin, with_margin
from baselines.set_search import neighbours
from cfisac_env import Scenario, SystemConfig, sample
from cfisac_env.wrappers import CanonicalOrder
from experiments.bench import tracks

FIRST = 1_000_000
URBAN: dict[str, Any] = {"M": 16, "K": 4, "preset": "urban"}


@pytest.mark.parametrize("completions", [1, 4])
def test_descending_priorities_in_canonical_order_are_the_rule(completions: int) -> None:
    env = CanonicalOrder(gym.make("CfIsacPriority-v0", M=16, K=4, completions=completions))
    rule = baselines.make("most-informative", completions=completions)
    for seed in range(FIRST, FIRST + 20):
        env.reset(seed=seed)
        drop = env.get_wrapper_attr("scenario")
        _, _, _, _, info = env.step(np.linspace(1.0, -1.0, 16, dtype=np.float32))
        expected = drop.evaluate(rule.decide(drop.problem).decision)
        assert info["total_power_w"] == pytest.approx(float(expected.total_power), rel=1e-4)


def test_whatever_the_priorities_a_drop_that_can_be_served_is_by_the_first_of_them() -> None:
    env = CfIsacPriorityEnv(M=10, K=3, decisions_per_drop=2)
    served = 0
    env.action_space.seed(0)
    for seed in range(FIRST, FIRST + 60):
        env.reset(seed=seed)
        priority = env.action_space.sample()
        observation, _, _, _, info = env.step(priority)
        assert info["feasible"] != certify(env.scenario.problem).infeasible
        first = np.argsort(-priority, kind="stable")[: info["active_aps"]]
        np.testing.assert_array_equal(np.flatnonzero(observation["ap"][:, 2]), np.sort(first))
        served += info["feasible"]
    assert 10 < served < 60


@pytest.mark.parametrize("action", [np.zeros((10, 4)), np.full(10, np.nan), np.zeros(9), ["a"] * 10])
def test_priorities_that_are_none_are_refused(action: Any) -> None:
    env = CfIsacPriorityEnv(M=10, K=3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"must have shape \(10,\)|holds NaN|real numbers"):
        env.step(action)
    with pytest.raises(ValueError, match="completions must be a whole number of 1 or more, got 0"):
        CfIsacPriorityEnv(completions=0)


def test_a_move_is_made_where_exact_powers_of_the_set_that_it_proposes_are_cheaper() -> None:
    env = CfIsacImprovementEnv(**URBAN, moves=12)
    rule, rng, allocate, kept = baselines.make("most-informative"), np.random.default_rng(1), Allocator(), [0, 0]
    for seed in range(FIRST, FIRST + 12):
        observation, info = env.reset(seed=seed)
        problem = env.scenario.problem
        np.testing.assert_array_equal(env.decision.active, rule.decide(problem).decision.active)
        first_w, earned, over = float(info["total_power_w"]), 0.0, False
        seen = {env.decision.active.tobytes()}
        while not over:
            mask = env.action_masks()
            np.testing.assert_array_equal(observation["allowed"], mask)
            before_w, active = float(info["total_power_w"]), env.decision.active.copy()
            action = int(rng.choice(np.flatnonzero(mask)))
            removed, added = moved(env, action, observation)
            observation, reward, over, _, info = env.step(action)
            proposal = active.copy()
            proposal[removed], proposal[added] = False, True
            assert proposal.tobytes() not in seen
            seen.add(proposal.tobytes())
            answer = allocate(with_margin(problem), proposal)
            price_w = answer.transmit_power + 0.2 * proposal.sum() if answer.feasible else np.inf
            accepted = price_w < before_w
            kept[int(accepted)] += 1
            np.testing.assert_array_equal(env.decision.active, proposal if accepted else active)
            assert reward == pytest.approx(before_w - info["total_power_w"])
            assert info["feasible"]
            earned += reward
        assert earned == pytest.approx(first_w - info["total_power_w"])
    assert min(kept) > 10


def moved(env: CfIsacImprovementEnv, action: int, observation: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The APs that an action switches off and on, counted out as the documentation says."""
    R, C = env.removals, env.additions
    i, j = (action, None) if action < R else (None, action - R) if action < R + C else divmod(action - R - C, C)
    problem, active = env.scenario.problem, env.decision.active
    _, value, *_ = valued(allocate_with_margin(problem, active), problem)
    value = np.maximum(value, 0.2 * np.exp(-5.0))
    information = problem.fisher[..., :2].sum((-2, -1))
    best_first = sorted(range(problem.M), key=lambda m: (-value[m], -information[m]))
    removed = [] if i is None else [[m for m in best_first if active[m]][-1 - i]]
    added = [] if j is None else [[m for m in best_first if not active[m]][j]]
    for place, chosen, key in ((i, removed, "removals"), (j, added, "additions")):
        if place is not None:
            assert observation[key][place, 0] == 1.0
            assert observation[key][place, 1] == pytest.approx(min(np.log(value[chosen[0]] / 0.2), 5.0), abs=1e-3)
    return removed, added


def test_with_all_places_and_enough_moves_no_exchange_is_left_that_saves_power() -> None:
    env = CfIsacImprovementEnv(M=6, K=2, crlb_threshold_m2=100.0, moves=300, removals=6, additions=6)
    allocate, changed = Allocator(), 0
    for seed in range(FIRST, FIRST + 8):
        _, info = env.reset(seed=seed)
        first_w, over = info["total_power_w"], False
        while not over:
            _, _, over, _, info = env.step(np.flatnonzero(env.action_masks())[0])
        problem, active = env.scenario.problem, env.decision.active
        nearby = [
            one for one in neighbours(active) if abs(int(one.sum()) - int(active.sum())) + (one != active).sum() <= 2
        ]
        answers = allocate(problem, np.array(nearby))
        best_w = np.where(answers.feasible, answers.transmit_power + 0.2 * np.array(nearby).sum(-1), np.inf).min()
        assert info["total_power_w"] <= best_w * (1 + 1e-4)
        changed += info["total_power_w"] < first_w
    assert changed > 0


@pytest.mark.parametrize("preset", ["paper", "urban"])
def test_no_other_power_is_worth_more_at_the_multipliers_than_what_an_ap_radiates(preset: str) -> None:
    config = SystemConfig(16, 4, preset=preset)
    rng, checked = np.random.default_rng(FIRST), 0
    for _ in range(20):
        problem = sample(config, rng).problem
        answer = Allocator()(problem, rng.random(16) < 0.6)
        if not answer.feasible:
            continue
        _, value, level, worth = valued(answer, problem)
        np.testing.assert_allclose(level[answer.active], answer.power.sum(-1)[answer.active])
        total, duals = worth.sum(-1), answer.multipliers
        price = 1.0 + problem.sinr_threshold * problem.gain @ duals.sinr - duals.sensing_credits(problem)
        for other in np.linspace(0.0, config.max_ap_power_w, 50):
            assert (2.0 * np.sqrt(other * total) - price * other <= value + 1e-4 * config.max_ap_power_w).all()
        checked += 1
    assert checked > 5


def test_observations_do_not_depend_on_the_numbering() -> None:
    drops = sample(SystemConfig(**URBAN), np.random.default_rng(FIRST), 5)
    rng = np.random.default_rng(2)
    aps, users = rng.permutation(16), rng.permutation(4)
    gains = drops.gain[:, aps][:, :, users]
    other = Scenario.from_gains(
        drops.config, ap_xy=drops.ap_xy[:, aps], ue_xy=drops.ue_xy[:, users], sr_xy=drops.sr_xy, target_xy=drops.target_xy, gain=gains
    )  # fmt: skip
    first, second = CfIsacImprovementEnv(drops=drops), CfIsacImprovementEnv(drops=other)
    for _ in range(5):
        results: Any = first.reset(), second.reset()
        over = False
        while not over:
            for key in first.observation_space.spaces:  # type: ignore[attr-defined]
                np.testing.assert_allclose(results[0][0][key], results[1][0][key], atol=2e-3, err_msg=key)
            action = int(rng.choice(np.flatnonzero(first.action_masks())))
            results = first.step(action), second.step(action)
            over = results[0][2]


def test_a_drop_that_no_powers_serve_ends_at_once_and_earns_nothing() -> None:
    env = CfIsacImprovementEnv(M=4, K=2, crlb_threshold_m2=1e-4)
    observation, info = env.reset(seed=FIRST)
    assert not info["feasible"]
    assert info["active_aps"] == 4
    assert not observation["allowed"].any()
    assert not env.action_masks().any()
    _, reward, terminated, truncated, _ = env.step(0)
    assert (reward, terminated, truncated) == (0.0, True, False)
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(0)


@pytest.mark.parametrize("action", [27, -1, 1.5, "0", None, np.zeros(7), True])
def test_moves_that_are_not_there_are_refused(action: Any) -> None:
    env = CfIsacImprovementEnv(**URBAN)
    env.reset(seed=FIRST)
    with pytest.raises(ValueError, match="whole number from 0 to 26"):
        env.step(action)


@pytest.mark.parametrize("option", ["moves", "removals", "additions"])
def test_counts_of_less_than_one_are_refused(option: str) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(ValueError, match=f"{option} must be a whole number of 1 or more, got 0"):
        CfIsacImprovementEnv(**URBAN, **options)


def test_a_stock_agent_learns_to_save_more_than_random_moves_do() -> None:
    env, tried = CfIsacImprovementEnv(**URBAN), CfIsacImprovementEnv(**URBAN)
    model = MaskablePPO(
        "MultiInputPolicy", env, n_steps=512, batch_size=128, learning_rate=1e-3, gamma=1.0, seed=1, device="cpu"
    )
    model.learn(3072)
    plain = gym.make("CfIsac-v0", **URBAN)
    rule = baselines.make("most-informative")
    rule_w, _ = tracks.played(plain, lambda seen, _: rule.predict(seen)[0], FIRST, 100)
    random_w, _ = tracks.played(tried, tracks.at_random(), FIRST, 100)
    learned_w, _ = tracks.played(tried, tracks.learned(model), FIRST, 100)
    served = ~np.isnan(rule_w)
    np.testing.assert_array_equal(np.isnan(learned_w), ~served)
    assert (learned_w[served] <= rule_w[served] * (1 + 1e-4)).all()
    assert learned_w[served].mean() < 0.97 * random_w[served].mean()
    assert (learned_w < random_w * (1 - 1e-6)).sum() > 1.3 * (learned_w > random_w * (1 + 1e-6)).sum()
