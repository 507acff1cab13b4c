"""Stable-Baselines3 models and policies of a run."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import DDPG, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from agents import defaults
from agents.rl.features import ScaledFlatten
from agents.rl.graph_ddpg import GraphDDPG
from agents.rl.grpo import GRPO
from agents.rl.parameters import OffPolicy, OnPolicy, Penalised, SetOffPolicy, SetPolicyGradient
from agents.rl.run import Run
from agents.rl.set_policy import ActorPolicy, SetPolicy
from cfisac_env import observations, sample, seeds

CLASSES: dict[str, type[BaseAlgorithm]] = {
    "ddpg": GraphDDPG, "grpo": GRPO, "ddpg-paper": DDPG, "td3": TD3, "sac": SAC, "ppo": PPO,
}  # fmt: skip

SET_POLICIES: dict[str, type[ActorPolicy]] = {"ddpg": SetPolicy, "grpo": ActorPolicy}
"""Algorithm that chooses sets of APs → class of its policy."""

PRINTED = {"net_arch": {"pi": [128, 64], "qf": [64, 128]}, "n_critics": 2, "activation_fn": nn.Sigmoid}
"""MLPs of `ddpg-paper` as the paper prints them: an actor 128–64–output with sigmoids (the tanh that bounds actions to [-1, 1] is one,
rescaled), and a pair of critics 64–128–1 on state and action."""


def build(run: Run, venv: VecEnv, device: str = "cpu") -> BaseAlgorithm:
    """Build the model of a run, ready to learn, and seed its environments.

    Args:
        venv: from `training_environments(run)`.
    """
    p = run.parameters
    options: dict[str, Any] = {"learning_rate": p.learning_rate}
    if isinstance(p, Penalised | SetOffPolicy):
        options["batch_size"] = p.batch_size
    if isinstance(p, SetPolicyGradient):
        options |= {
            "decisions": p.decisions,
            "tau": p.tau,
            "entropy": p.entropy,
            "epochs": p.epochs,
            "clip_range": p.clip_range,
        }
    elif isinstance(p, SetOffPolicy):
        options |= {
            "buffer_size": p.buffer_size, "tau": p.tau, "train_freq": p.decisions, "gradient_steps": p.gradient_steps,
            "policy_delay": p.policy_delay, "actor_from": p.actor_from, "imitation": p.imitation,
            "replay_buffer_kwargs": {"decisions": p.decisions},
        }  # fmt: skip
    elif isinstance(p, OffPolicy):
        options |= {
            "buffer_size": p.buffer_size, "learning_starts": p.warm_up, "tau": p.tau, "gradient_steps": p.gradient_steps,
        }  # fmt: skip
        if run.algorithm != "sac":
            shape = venv.action_space.shape or ()
            options["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, p.noise_std))
    elif isinstance(p, OnPolicy):
        options |= {
            "n_steps": p.rollout, "n_epochs": p.epochs, "clip_range": p.clip_range, "ent_coef": p.entropy,
            "gae_lambda": p.gae_lambda, "gamma": p.gamma,
        }  # fmt: skip
    model = CLASSES[run.algorithm](
        policy_class(run), venv, policy_kwargs=policy_options(run), seed=run.seed, device=device, **options
    )
    if run.policy == "mlp":
        fit_features(model.policy, run)
    venv.seed(seeds.of_run(run.seed))  # the constructor has seeded them with the run's seed alone
    return model


def policy_class(run: Run) -> type[BasePolicy]:
    """Return the class of a run's policy."""
    if run.policy == "sets":
        return SET_POLICIES[run.algorithm]
    return CLASSES[run.algorithm].policy_aliases["MultiInputPolicy"]


def policy_options(run: Run) -> dict[str, Any]:
    """Return the arguments of the policy's constructor besides spaces and learning rate."""
    p = run.parameters
    if isinstance(p, SetOffPolicy):
        return {"network": run.network, "actor_learning_rate": p.actor_learning_rate}
    if isinstance(p, SetPolicyGradient):
        return {"network": run.network}
    options: dict[str, Any] = {"features_extractor_class": ScaledFlatten}
    if run.algorithm == "ddpg-paper":
        return options | PRINTED
    return options | ({"log_std_init": math.log(max(p.noise_std, 1e-6))} if isinstance(p, OnPolicy) else {})


def empty_policy(run: Run) -> BasePolicy:
    """Build a policy for weights that are still to be loaded."""
    env = gym.make(run.environment, **run.config.as_dict())
    with defaults.float32_on_cpu():
        return policy_class(run)(env.observation_space, env.action_space, constant_rate, **policy_options(run))


def constant_rate(progress: float) -> float:
    """Return the learning rate 0, for optimisers that aren't used."""
    return 0.0


def fit_features(policy: nn.Module, run: Run, drops: int = 512) -> None:
    """Fit the feature scaling of an MLP policy to drops with a seed of training."""
    batch = observations.encode(sample(run.config, np.random.default_rng(seeds.TRAINING), drops))
    for module in policy.modules():
        if isinstance(module, ScaledFlatten):
            module.fit(batch)


def acting_part(policy: BasePolicy) -> nn.Module:
    """Return the part of a policy that decides: the weights that an agent's file holds."""
    if isinstance(policy, SetPolicy):
        return nn.ModuleDict({"actor": policy.actor_target, "critic": policy.critic_target})
    if isinstance(policy, ActorPolicy):
        return policy.actor_target
    return getattr(policy, "actor", policy)
