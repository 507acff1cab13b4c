"""Hyper-parameters of every algorithm: defaults of its family, of the algorithm, and of single sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfisac_env.config import SystemConfig, nearest

ALGORITHMS = ("ddpg", "td3", "sac", "ppo", "maskable-ppo")
"""`maskable-ppo` plays `CfIsacSequential-v0` with the graph policy, the others play `CfIsac-v0`."""


@dataclass(frozen=True)
class HyperParameters:
    """What every algorithm has.

    Attributes:
        steps: environment steps in all.
        envs: environments that step together.
        learning_rate: of Adam.
        batch_size: transitions a gradient step.
        penalty: of a missed requirement while training, in W, for SINR and CRLB alike. The environment's own (5000) is exact, but drowns
            the power that is to be saved.
        margin_db: how much more than what is required is asked for while training, so that decisions near the edge fall inside.
        reward_scale: the reward is multiplied by it.
        validate_every: environment steps between validations.
        checkpoint_every: environment steps between checkpoints.
    """

    steps: int = 8_000
    envs: int = 32
    learning_rate: float = 1e-3
    batch_size: int = 128
    penalty: float = 3.0
    margin_db: float = 0.1
    reward_scale: float = 0.1
    validate_every: int = 1_000
    checkpoint_every: int = 2_000


@dataclass(frozen=True)
class OffPolicy(HyperParameters):
    """DDPG, TD3 and SAC.

    Attributes:
        buffer_size: transitions in the replay buffer.
        warm_up: environment steps with the initial policy and noise before the first gradient step.
        actor_share: learning rate of the actor over that of the critics.
        gradient_steps: after every step of all the environments.
        tau: of the target networks' moving average.
        noise_std: of the Gaussian noise added to actions (DDPG and TD3).
    """

    buffer_size: int = 8_000
    warm_up: int = 2_000
    actor_share: float = 0.1
    gradient_steps: int = 8
    tau: float = 0.01
    noise_std: float = 0.2


@dataclass(frozen=True)
class OnPolicy(HyperParameters):
    """PPO and MaskablePPO.

    Attributes:
        rollout: steps of each environment between updates.
        epochs: passes over a rollout.
        clip_range: of the probability ratio.
        entropy: weight of the entropy in the loss.
        gae_lambda: of the advantage estimate.
        gamma: discount of a step.
        noise_std: initial standard deviation of the actions (PPO).
    """

    steps: int = 40_000
    learning_rate: float = 3e-4
    validate_every: int = 4_000
    checkpoint_every: int = 8_000
    rollout: int = 128
    epochs: int = 10
    clip_range: float = 0.2
    entropy: float = 0.0
    gae_lambda: float = 0.95
    gamma: float = 0.99
    noise_std: float = 0.2


FAMILY: Mapping[str, type[OffPolicy] | type[OnPolicy]] = {
    "ddpg": OffPolicy,
    "td3": OffPolicy,
    "sac": OffPolicy,
    "ppo": OnPolicy,
    "maskable-ppo": OnPolicy,
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "maskable-ppo": {
        "steps": 8_192, "envs": 8, "learning_rate": 1e-3, "batch_size": 256, "rollout": 128, "epochs": 4, "penalty": 1.0,
        "reward_scale": 5.0, "entropy": 0.003, "gamma": 0.98, "validate_every": 1_024, "checkpoint_every": 2_048,
    },
}  # fmt: skip
"""Algorithm → what differs from its family's defaults, at every size."""

TUNED: Mapping[tuple[str, int, int], Mapping[str, Any]] = {}
"""(algorithm, M, K) → what differs from the defaults; nothing so far."""


def names(algorithm: str) -> list[str]:
    """The hyper-parameters of an algorithm."""
    return [spec.name for spec in dataclasses.fields(FAMILY[algorithm])]


def hyper_parameters(algorithm: str, config: SystemConfig, **given: Any) -> OffPolicy | OnPolicy:
    """The tuned values for an algorithm and a size, then the ones that are given.

    Raises:
        ValueError: there is no such algorithm, or a value is out of range.
        TypeError: there is no such hyper-parameter; the message suggests the nearest.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"unknown algorithm {algorithm!r}{nearest(algorithm, list(ALGORITHMS))}; valid ones: {', '.join(ALGORITHMS)}"
        )
    valid = names(algorithm)
    for name, value in given.items():
        if name not in valid:
            raise TypeError(
                f"{algorithm} has no hyper-parameter {name!r}{nearest(name, valid)}; it has {', '.join(valid)}"
            )
        low_included = name in ("warm_up", "margin_db", "entropy", "noise_std", "penalty")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value < 0
            or (value == 0 and not low_included)
        ):
            raise ValueError(f"{name} must be a number {'of 0 or more' if low_included else 'above 0'}, got {value!r}")
    return FAMILY[algorithm](
        **{**DEFAULTS.get(algorithm, {}), **TUNED.get((algorithm, config.M, config.K), {}), **given}
    )
