"""GRPO on sets of APs: probabilities of what is drawn, learning, saving, deciding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

import agents
import baselines
from agents.rl.drop_batch import DropBatch
from agents.rl.grpo import GRPO, drawn, log_probabilities
from agents.rl.mixed_vec_env import RotatingVecEnv
from agents.rl.relative_power import RelativePower
from agents.rl.set_actor import SetActor
from agents.rl.set_policy import ActorPolicy
from agents.rl.vec_env import SB3VecEnv
from cfisac_env import SystemConfig, actions, observations, sample

DECISIONS = 6


def part(count: int, **fields: Any) -> SB3VecEnv:
    options: dict[str, Any] = {"M": 10, "K": 3, "decisions_per_drop": DECISIONS, **fields}
    return SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=count, autoreset_mode="SameStep", **options))


def model(*parts: SB3VecEnv, **options: Any) -> GRPO:
    venv = RelativePower(RotatingVecEnv(parts or [part(4)]))
    return GRPO(ActorPolicy, venv, decisions=DECISIONS, seed=0, device="cpu", **options)


def test_sets_are_drawn_with_the_probability_that_the_gradient_is_of() -> None:
    torch.manual_seed(1)
    actor = SetActor()
    config = SystemConfig(5, 2, crlb_threshold_m2=30.0)
    batch = DropBatch(observations.encode(sample(config, np.random.default_rng(4), 2)))
    grown = drawn(actor, batch, batch.graph, 8000, 1, np.random.default_rng(0))
    assert grown.served.all()
    with torch.no_grad():
        logarithm, entropy = log_probabilities(actor, batch.graph, grown, priced=False)
    for drop in range(2):
        mine = np.arange(drop, 16000, 2)
        sizes = grown.sets[mine].sum(1)
        orders = [tuple(grown.ranking[i, :n]) for i, n in zip(mine, sizes, strict=True)]
        chance = dict(zip(orders, logarithm[mine].sum(1).exp().tolist(), strict=True))
        assert len(chance) > 3
        for order, count in Counter(orders).items():
            expected = 8000 * chance[order]
            assert abs(count - expected) < 5.0 * np.sqrt(expected) + 1.0, order
        # The entropy of the sequence is the mean of the sums of its draws' entropies.
        p = np.array(list(chance.values()))
        assert float(entropy[mine].sum(1).mean()) == pytest.approx(-(p * np.log(p)).sum(), rel=0.05)


def test_rewards_that_are_equal_on_a_drop_teach_nothing_but_entropy() -> None:
    for weight, moves in ((0.0, False), (0.1, True)):
        learner = model(entropy=weight)
        batch = DropBatch(observations.encode(sample(SystemConfig(10, 3), np.random.default_rng(0), 4)))
        grown = drawn(learner.policy.actor, batch, batch.graph, DECISIONS, 4, np.random.default_rng(0))
        before = {name: value.clone() for name, value in learner.policy.actor.state_dict().items()}
        learner.set_logger(configure(None, []))
        learner._update(batch.graph, grown, np.full((DECISIONS, 4), -0.7))
        after = learner.policy.actor.state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in before) == moves


def test_it_learns_in_stable_baselines3_and_plays_the_same_after_saving(tmp_path: Path) -> None:
    parts = part(4), part(3, M=14, K=4)
    learner = model(*parts).learn(2 * (4 + 3) * DECISIONS)
    assert learner._n_updates == 4 * learner.epochs
    assert learner.num_timesteps == 2 * (4 + 3) * DECISIONS
    observation = observations.encode(sample(SystemConfig(12, 3, preset="urban"), np.random.default_rng(3), 5))
    action, _ = learner.predict(observation)
    again = model(part(4), part(3, M=14, K=4)).learn(2 * (4 + 3) * DECISIONS)
    np.testing.assert_array_equal(again.predict(observation)[0], action)
    learner.save(tmp_path / "model")
    np.testing.assert_array_equal(GRPO.load(tmp_path / "model", device="cpu").predict(observation)[0], action)


def test_a_callback_ends_learning() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 3

    assert model().learn(10_000, callback=Stop()).num_timesteps == 3 * 4


def test_it_learns_to_beat_the_rule_at_as_many_completions() -> None:
    drops = sample(SystemConfig(20, 4, preset="urban"), np.random.default_rng(3), 50)
    observation = observations.encode(drops)

    def watts(policy: Any) -> Any:
        action, _ = policy.predict(observation)
        outcome = drops.evaluate(actions.decode(action, drops.config.max_ap_power_w))
        return np.where(outcome.feasible, outcome.total_power, np.nan)

    learner, best = model(part(24, M=20, K=4, preset="urban")), watts(baselines.make("local-search"))
    learner.policy.configure(beams=1, completions=4, search=False)
    untrained = watts(learner.policy)
    learner.learn(24 * DECISIONS * 40)
    learned, rule = watts(learner.policy), watts(baselines.make("most-informative", completions=4))
    assert (np.isnan(learned) == np.isnan(best)).all()
    above = {
        name: np.nanmean(total / best) - 1.0 for name, total in [("no", untrained), ("rule", rule), ("yes", learned)]
    }
    assert above["yes"] < 0.85 * above["rule"], above
    assert above["yes"] < 0.5 * above["no"], above


def test_a_search_only_lowers_power_and_a_batch_decides_as_its_drops_do() -> None:
    drops = sample(SystemConfig(12, 3, preset="urban"), np.random.default_rng(5), 8)
    observation = observations.encode(drops)
    policy = model().policy
    totals = []
    for search in (False, True):
        policy.configure(search=search)
        action, _ = policy.predict(observation)
        single = [policy.predict({key: value[i] for key, value in observation.items()})[0] for i in range(8)]
        np.testing.assert_allclose(np.stack(single), action, atol=1e-6)
        totals.append(drops.evaluate(actions.decode(action, drops.config.max_ap_power_w)).total_power)
    assert (totals[1] <= totals[0] * (1.0 + 1e-6)).all()
    assert (totals[1] < 0.999 * totals[0]).any()


def test_options_of_another_agent_are_refused() -> None:
    with pytest.raises(TypeError, match="grpo got an unexpected keyword argument 'advised'"):
        agents.load("grpo", advised=True)
    with pytest.raises(ValueError, match="search must be True or False, got 1"):
        model().policy.configure(search=1)  # type: ignore[arg-type]
