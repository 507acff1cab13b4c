"""PPO-Lagrangian: power as the reward, violations as the cost, and a multiplier between them that is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class PPOLagrangian(PPO):
    """Stable-Baselines3's PPO on the reward − `multiplier` · cost, with the multiplier raised while the mean cost is above its limit.

    After every rollout, multiplier ← max(0, multiplier + `multiplier_rate` · (mean `info["cost"]` of a step − `cost_limit`)).

    ```python
    import gymnasium as gym
    import cfisac_env
    from agents.rl.lagrangian import PPOLagrangian

    model = PPOLagrangian("MultiInputPolicy", gym.make("CfIsac-v0", M=10, K=3, reward="power"), n_steps=64)
    model.learn(64)
    ```

    Args:
        policy: as for PPO.
        env: any environment of the suite, made with `reward="power"`.
        cost_limit: mean cost of a step that is allowed.
        multiplier: at first, in W for a violation of 1.
        multiplier_rate: by which the multiplier follows the mean cost.
        options: those of PPO.

    Raises:
        ValueError: a negative limit, multiplier or rate.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        cost_limit: float = 0.01,
        multiplier: float = 1.0,
        multiplier_rate: float = 0.5,
        **options: Any,
    ) -> None:
        for name, value in (
            ("cost_limit", cost_limit),
            ("multiplier", multiplier),
            ("multiplier_rate", multiplier_rate),
        ):
            if not 0.0 <= value < np.inf:
                raise ValueError(f"{name} must be a number of 0 or more, got {value!r}")
        self.cost_limit, self.multiplier, self.multiplier_rate = cost_limit, multiplier, multiplier_rate
        super().__init__(policy, env, **options)

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        wrapped = PPO._wrap_env(env, verbose, monitor_wrapper)
        return wrapped if isinstance(wrapped, _Charged) else _Charged(wrapped)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collect a rollout at the present multiplier, and move the multiplier."""
        assert isinstance(env, _Charged)
        env.multiplier = self.multiplier
        env.costs.clear()
        going = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        cost = float(np.mean(env.costs))
        self.multiplier = max(0.0, self.multiplier + self.multiplier_rate * (cost - self.cost_limit))
        self.logger.record("rollout/cost_mean", cost)
        self.logger.record("train/multiplier", self.multiplier)
        return going


class _Charged(VecEnvWrapper):
    """Rewards less the multiplier times the costs, which are kept."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.multiplier = 0.0
        self.costs: list[float] = []

    def reset(self) -> VecEnvObs:
        """Reset all."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step all."""
        observation, rewards, dones, infos = self.venv.step_wait()
        costs = [float(info["cost"]) for info in infos]
        self.costs += costs
        return observation, rewards - self.multiplier * np.array(costs, np.float32), dones, infos
