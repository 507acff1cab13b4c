"""Hyper-parameters of every algorithm: defaults of its family, then of the algorithm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents import hint
from cfisac_env.config import nearest

POLICIES = {"ddpg": "sets", "grpo": "sets", "ddpg-paper": "mlp", "td3": "mlp", "sac": "mlp", "ppo": "mlp"}
"""Algorithm → kind of its policy: Stable-Baselines3's MLPs on the flattened observation (`mlp`), or the layers of the HetGNN, which
choose a set of APs (`sets`, `agents.rl.set_policy`)."""

ALGORITHMS = tuple(POLICIES)

FROM_ZERO = ("warm_up", "actor_from", "margin_db", "entropy", "noise_std", "penalty", "imitation")
"""Hyper-parameters that may be 0; the others are positive."""

MOST = {
    "envs": 1000, "learning_rate": 1, "penalty": 10**9, "margin_db": 20, "tau": 1, "clip_range": 1, "gae_lambda": 1, "gamma": 1,
    "actor_learning_rate": 1,
}  # fmt: skip
"""Upper limits, where there are any; a run has seeds for 1000 environments."""


@dataclass(frozen=True)
class HyperParameters:
    """Hyper-parameters of every algorithm.

    Attributes:
        steps: environment steps in all.
        envs: parallel environments.
        learning_rate: of Adam.
        validate_every: environment steps between validations.
        checkpoint_every: environment steps between checkpoints.

    Raises:
        ValueError: a value is out of range or of the wrong type, or two of them don't go together.
    """

    steps: int = 8_000
    envs: int = 32
    learning_rate: float = 1e-3
    validate_every: int = 1_000
    checkpoint_every: int = 2_000

    @property
    def missed_w(self) -> float:
        """Penalty of a missed requirement in the reward of validations, in W."""
        return 3.0

    @property
    def learns_from(self) -> int:
        """Environment steps after which the policy differs from the initial one."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            name, value = spec.name, getattr(self, spec.name)
            whole, zero, most = str(spec.type) == "int", name in FROM_ZERO, MOST.get(name, math.inf)
            number = isinstance(value, (int,) if whole else (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not 0 <= value <= most or (value == 0 and not zero):
                kind = "a whole number" if whole else "a number"
                bounds = ("of 0 or more" if zero else "above 0") + (f", at most {most}" if name in MOST else "")
                raise ValueError(f"{name} must be {kind} {bounds}, got {value!r}")


@dataclass(frozen=True)
class Penalised(HyperParameters):
    """Hyper-parameters of algorithms whose reward is in watts.

    Attributes:
        batch_size: transitions per gradient step.
        penalty: `sinr_penalty` and `crlb_penalty` of the reward `linear` in training, in W.
        margin_db: by how much requirements are tightened in training, so that decisions near the boundary are feasible.
        reward_scale: factor of the reward.
    """

    batch_size: int = 128
    penalty: float = 3.0
    margin_db: float = 0.1
    reward_scale: float = 0.1

    @property
    def missed_w(self) -> float:
        """Penalty of a missed requirement in the reward of validations, in W."""
        return self.penalty


@dataclass(frozen=True)
class OffPolicy(Penalised):
    """Hyper-parameters of DDPG on the flattened observation, TD3 and SAC.

    Attributes:
        buffer_size: transitions in the replay buffer.
        warm_up: environment steps with uniformly random actions before the first gradient step.
        gradient_steps: after each step of all environments.
        tau: of the target networks' moving average.
        noise_std: standard deviation of the Gaussian action noise (DDPG and TD3).
    """

    buffer_size: int = 20_000
    warm_up: int = 2_000
    gradient_steps: int = 8
    tau: float = 0.01
    noise_std: float = 0.2

    @property
    def learns_from(self) -> int:
        """Environment steps after which the policy differs from the initial one."""
        return self.warm_up + self.envs

    def __post_init__(self) -> None:
        super().__post_init__()
        first = math.ceil(self.warm_up / self.envs) * self.envs
        if self.steps < self.envs or self.steps <= first:
            raise ValueError(
                f"nothing would be learned in {self.steps} steps of {self.envs} envs when warm_up is {self.warm_up}: raise steps, or "
                "lower the others"
            )
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size must be at most the {self.buffer_size} transitions of buffer_size, got {self.batch_size}"
            )


@dataclass(frozen=True)
class OnPolicy(Penalised):
    """Hyper-parameters of PPO.

    Attributes:
        rollout: steps of each environment between updates.
        epochs: passes over a rollout.
        clip_range: of the probability ratio.
        entropy: weight of the entropy in the loss.
        gae_lambda: of the advantage estimate.
        gamma: discount of a step.
        noise_std: initial standard deviation of the actions.
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

    @property
    def learns_from(self) -> int:
        """Environment steps after which the policy differs from the initial one."""
        return self.envs * self.rollout

    def __post_init__(self) -> None:
        super().__post_init__()
        together = self.envs * self.rollout
        if self.steps < together:
            raise ValueError(
                f"steps must be {together} (envs × rollout) or more, since learning follows whole rollouts, got {self.steps}: "
                "raise it, or lower envs or rollout"
            )
        if not 2 <= self.batch_size <= together or together % self.batch_size == 1:
            raise ValueError(
                f"batch_size must be 2 or more, at most {together} (envs × rollout), and leave no batch of 1, got {self.batch_size}"
            )


@dataclass(frozen=True)
class Sets(HyperParameters):
    """Hyper-parameters of algorithms that choose sets of APs, whose rewards are relative to the drop.

    Attributes:
        decisions: on a drop, before the next one.
        tau: of the moving averages that decide.
    """

    steps: int = 480_000
    validate_every: int = 24_000
    checkpoint_every: int = 48_000
    decisions: int = 10
    tau: float = 0.02


@dataclass(frozen=True)
class SetPolicyGradient(Sets):
    """Hyper-parameters of GRPO on sets of APs.

    Attributes:
        epochs: gradient steps on the decisions of a batch of drops.
        clip_range: of the probability ratio.
        entropy: weight of the entropy in the loss.
    """

    envs: int = 24
    learning_rate: float = 2e-3
    decisions: int = 12
    epochs: int = 3
    clip_range: float = 0.2
    entropy: float = 0.02

    @property
    def learns_from(self) -> int:
        """Environment steps after which the policy differs from the initial one."""
        return self.envs * self.decisions

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decisions < 2:
            raise ValueError(f"decisions must be 2 or more, each compared with the others, got {self.decisions}")


@dataclass(frozen=True)
class SetOffPolicy(Sets):
    """Hyper-parameters of DDPG on sets of APs.

    Attributes:
        batch_size: drops per gradient step.
        buffer_size: decisions in the replay buffer.
        actor_learning_rate: initial value; like `learning_rate`, it falls linearly to 0.
        actor_from: gradient steps of the critic before the actor's first.
        gradient_steps: of the critic after every drop of the environments.
        policy_delay: gradient steps of the critic per gradient step of the actor.
        imitation: weight of the actor's loss towards the best sets that were played.
    """

    envs: int = 48
    batch_size: int = 24
    buffer_size: int = 40_000
    actor_learning_rate: float = 1e-3
    actor_from: int = 40
    gradient_steps: int = 8
    policy_delay: int = 1
    imitation: float = 1.0

    @property
    def learns_from(self) -> int:
        """Environment steps after which the policy differs from the initial one."""
        return self.envs * self.decisions * (1 + self.actor_from // self.gradient_steps)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decisions < 5:
            raise ValueError(f"decisions must be 5 or more (rankings, a search, moves), got {self.decisions}")


FAMILY: Mapping[str, type[HyperParameters]] = {
    "ddpg": SetOffPolicy, "grpo": SetPolicyGradient, "ddpg-paper": OffPolicy, "td3": OffPolicy, "sac": OffPolicy, "ppo": OnPolicy,
}  # fmt: skip

DEFAULTS: Mapping[str, Mapping[str, Any]] = {"ddpg-paper": {"penalty": 1.0, "margin_db": 0.0}}
"""Algorithm → values that differ from the defaults of its family. Those of `ddpg-paper` are the printed α = β = 1 and no margin."""


def family(algorithm: str) -> type[HyperParameters]:
    """Return the class of an algorithm's hyper-parameters.

    Raises:
        ValueError: there is no such algorithm; the message suggests the nearest.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"unknown algorithm {algorithm!r}{hint(algorithm, list(ALGORITHMS))}; valid ones: {', '.join(ALGORITHMS)}"
        )
    return FAMILY[algorithm]


def hyper_parameters(algorithm: str, **given: Any) -> HyperParameters:
    """Return the defaults of an algorithm, replaced by the given values.

    Args:
        algorithm: one of `ALGORITHMS`.
        given: hyper-parameters of the algorithm.

    Raises:
        ValueError: there is no such algorithm, a value is out of range, or two of them don't go together.
        TypeError: there is no such hyper-parameter; the message suggests the nearest.
    """
    valid = [spec.name for spec in dataclasses.fields(family(algorithm))]
    for name in given:
        if name not in valid:
            raise TypeError(
                f"{algorithm} has no hyper-parameter {name!r}{nearest(name, valid)}; it has {', '.join(valid)}"
            )
    return FAMILY[algorithm](**{**DEFAULTS.get(algorithm, {}), **given})
