"""PPO-Lagrangian: what it is charged, how its multiplier moves, and that it buys feasibility."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from agents.rl.lagrangian import PPOLagrangian
from agents.rl.vec_env import SB3VecEnv

FIELDS: dict[str, Any] = {"M": 4, "K": 1, "crlb_threshold_m2": 100.0, "reward": "power"}
OPTIONS: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "learning_rate": 1e-3, "gamma": 0.0, "device": "cpu"}


def many() -> SB3VecEnv:
    return SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=8, autoreset_mode="SameStep", **FIELDS))


class Watch(BaseCallback):
    """Keeps powers, costs and multipliers of each rollout, and the rewards that PPO was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rollouts: list[dict[str, Any]] = []

    def _on_rollout_start(self) -> None:
        model: Any = self.model
        self.rollouts.append({"multiplier": model.multiplier, "power": [], "cost": []})

    def _on_step(self) -> bool:
        for key, name in (("power", "total_power_w"), ("cost", "cost")):
            self.rollouts[-1][key].append([info[name] for info in self.locals["infos"]])
        return True

    def _on_rollout_end(self) -> None:
        model: Any = self.model
        self.rollouts[-1]["rewards"] = model.rollout_buffer.rewards.copy()


def test_rewards_are_charged_and_the_multiplier_follows_the_cost(tmp_path: Path) -> None:
    model = PPOLagrangian("MultiInputPolicy", many(), cost_limit=0.3, multiplier_rate=2.0, seed=0, **OPTIONS)
    watch = Watch()
    model.learn(3 * 256, callback=watch)
    expected = 1.0
    for rollout in watch.rollouts:
        assert rollout["multiplier"] == pytest.approx(expected)
        power, cost = np.array(rollout["power"]), np.array(rollout["cost"])
        np.testing.assert_allclose(rollout["rewards"], -power - expected * cost, rtol=1e-5, atol=1e-6)
        expected = max(0.0, expected + 2.0 * (cost.mean() - 0.3))
    assert model.multiplier == pytest.approx(expected)
    model.save(tmp_path / "agent.zip")
    again = PPOLagrangian.load(tmp_path / "agent.zip", env=many(), device="cpu")
    assert (again.multiplier, again.cost_limit) == (model.multiplier, 0.3)
    again.learn(256, reset_num_timesteps=False)
    assert again.multiplier != model.multiplier


def test_power_alone_switches_everything_off_and_the_multiplier_keeps_drops_served() -> None:
    envs = gym.make_vec("CfIsac-v0", num_envs=200, **FIELDS)
    served = []
    for algorithm in (PPO, PPOLagrangian):
        model = algorithm("MultiInputPolicy", many(), seed=0, **OPTIONS)
        model.learn(6144)
        observation, _ = envs.reset(seed=1_000_000)
        action, _ = model.predict(observation, deterministic=True)
        infos = envs.step(action)[-1]
        served.append(float(infos["feasible"].mean()))
    assert served[0] < 0.1
    assert served[1] > 0.5


@pytest.mark.parametrize("option", ["cost_limit", "multiplier", "multiplier_rate"])
def test_negative_options_are_refused(option: str) -> None:
    options: dict[str, Any] = {option: -1.0}
    with pytest.raises(ValueError, match=f"{option} must be a number of 0 or more, got -1.0"):
        PPOLagrangian("MultiInputPolicy", many(), **options)
