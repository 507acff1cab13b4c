"""Training environments of a run: parallel, with the run's penalty, margin and reward scale."""

from __future__ import annotations

import math

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from agents.rl.mixed_vec_env import MixedVecEnv, RotatingVecEnv
from agents.rl.parameters import Penalised, Sets
from agents.rl.relative_power import RelativePower
from agents.rl.run import Run
from agents.rl.vec_env import SB3VecEnv
from cfisac_env import SystemConfig


class ScaledReward(VecEnvWrapper):
    """Multiply every reward by a constant.

    Args:
        venv: the environments.
        scale: the factor.
    """

    def __init__(self, venv: VecEnv, scale: float) -> None:
        super().__init__(venv)
        self.scale = scale

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments."""
        observation, rewards, dones, infos = self.venv.step_wait()
        return observation, rewards * self.scale, dones, infos


def training_environments(run: Run) -> VecEnvWrapper:
    """Build the environments of a run, neither seeded nor reset.

    Requirements are tightened by the run's margin.

    Raises:
        ValueError: there are fewer environments than presets.
    """
    parameters = run.parameters
    if isinstance(parameters, Sets):
        return RelativePower(_mixed(run, parameters))
    assert isinstance(parameters, Penalised)
    fields = run.config.changed(sinr_penalty=parameters.penalty, crlb_penalty=parameters.penalty).as_dict()
    fields["sinr_threshold_db"] += parameters.margin_db
    fields["crlb_threshold_m2"] *= 10 ** (-parameters.margin_db / 10)
    many = gym.make_vec(run.environment, num_envs=parameters.envs, autoreset_mode="SameStep", **fields)
    return ScaledReward(SB3VecEnv(many), parameters.reward_scale)


def _mixed(run: Run, parameters: Sets) -> VecEnv:
    """Build environments in which the configurations of one size play together and the sizes in turn.

    Of the run's own size there are `envs`; of another, fewer by the root of the ratio of their numbers of links, and at most `envs`.
    """
    together: dict[tuple[int, int], list[SystemConfig]] = {}
    for config in run.configs:
        together.setdefault((config.M, config.K), []).append(config)
    parts: list[VecEnv] = []
    for (M, K), configs in together.items():
        envs = parameters.envs * min(1.0, math.sqrt(run.config.M * run.config.K / (M * K)))
        each = int(envs / len(configs))
        if each < 1:
            raise ValueError(f"{len(configs)} presets need as many envs or more, got {int(envs)}")
        many = [
            gym.make_vec(
                run.environment, num_envs=each, autoreset_mode="SameStep", decisions_per_drop=parameters.decisions, **config.as_dict()
            )
            for config in configs
        ]  # fmt: skip
        parts.append(MixedVecEnv([SB3VecEnv(one) for one in many]))
    return RotatingVecEnv(parts)
