"""Hyper-parameters of every algorithm: defaults of its family, of the algorithm, and of single sizes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents import hint
from cfisac_env.config import SystemConfig, nearest

ALGORITHMS = ("ddpg", "ddpg-paper", "td3", "sac", "ppo", "maskable-ppo")
"""`maskable-ppo` plays `CfIsacSequential-v0` with the graph policy, the others play `CfIsac-v0`."""

POLICIES = ("mlp", "sorted-mlp", "graph", "sets")
"""`mlp` is the paper's: it reads the flattened observation as APs and users are numbered, and its critics state and action
alone. In `sorted-mlp` APs and users stand in an order (`agents.rl.order`), and critics hear what an action comes to
(`agents.rl.informed`). `graph` has the layers of the HetGNN; `sets` (`ddpg` alone) has them too, and chooses sets of APs
(`agents.rl.set_policy`)."""

FROM_ZERO = ("warm_up", "actor_from", "margin_db", "entropy", "noise_std", "penalty")
"""Hyper-parameters that may be 0; the others are above."""

MOST = {
    "first_on": 1, "envs": 1000, "learning_rate": 1, "penalty": 10**9, "margin_db": 20, "tau": 1, "clip_range": 1, "gae_lambda": 1,
    "gamma": 1, "actor_learning_rate": 1,
}  # fmt: skip
"""Largest values, where there is one; a run has the seeds of 1000 environments."""


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
        first_on: share of APs that the initial policy of an MLP has on, the first ones.
        validate_every: environment steps between validations.
        checkpoint_every: environment steps between checkpoints.

    Raises:
        ValueError: a value is out of range or of another kind, or two of them don't go together.
    """

    steps: int = 8_000
    envs: int = 32
    learning_rate: float = 1e-3
    batch_size: int = 128
    penalty: float = 3.0
    margin_db: float = 0.1
    reward_scale: float = 0.1
    first_on: float = 1.0
    validate_every: int = 1_000
    checkpoint_every: int = 2_000

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
class OffPolicy(HyperParameters):
    """DDPG, TD3 and SAC.

    Attributes:
        buffer_size: transitions in the replay buffer.
        warm_up: environment steps with the initial policy and noise before the first gradient step.
        actor_share: learning rate of the actor over that of the critics at first; it falls linearly to 0.
        actor_from: environment steps after which the actor learns, too.
        gradient_steps: after every step of all the environments.
        tau: of the target networks' moving average.
        noise_std: of the Gaussian noise added to actions (DDPG and TD3).
    """

    buffer_size: int = 8_000
    warm_up: int = 2_000
    actor_share: float = 0.1
    actor_from: int = 0
    gradient_steps: int = 8
    tau: float = 0.01
    noise_std: float = 0.2

    @property
    def learns_from(self) -> int:
        """Environment steps after which the actor is no longer the initial one."""
        return max(self.warm_up, self.actor_from) + self.envs

    def __post_init__(self) -> None:
        super().__post_init__()
        start = max(self.warm_up, self.actor_from)
        first = math.ceil(start / self.envs) * self.envs  # steps before those that the actor learns from
        if self.steps < self.envs or self.steps <= first:
            raise ValueError(
                f"nothing would be learned in {self.steps} steps of {self.envs} envs when warm_up is {self.warm_up} and actor_from "
                f"{self.actor_from}: raise steps, or lower the others"
            )
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size must be at most the {self.buffer_size} transitions of buffer_size, got {self.batch_size}"
            )


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

    @property
    def learns_from(self) -> int:
        """Environment steps after which the actor is no longer the initial one."""
        return self.envs * self.rollout

    def __post_init__(self) -> None:
        super().__post_init__()
        together = self.envs * self.rollout
        if self.steps < together:
            raise ValueError(
                f"steps must be {together} (envs × rollout) or more, for learning follows whole rollouts, got {self.steps}: "
                "raise it, or lower envs or rollout"
            )
        if not 2 <= self.batch_size <= together or together % self.batch_size == 1:
            raise ValueError(
                f"batch_size must be 2 or more, at most {together} (envs × rollout), and leave no batch of 1, got {self.batch_size}"
            )


@dataclass(frozen=True)
class SetOffPolicy(HyperParameters):
    """DDPG on sets of APs. Its rewards are relative to the drop; penalty and reward_scale count in validation alone.

    Attributes:
        decisions: on a drop, before the next.
        buffer_size: decisions in the replay buffer.
        actor_learning_rate: at first; it falls linearly to 0.
        actor_from: gradient steps of the critic before the actor's first.
        gradient_steps: of the critic after every drop of the environments.
        policy_delay: gradient steps of the critic for one of the actor.
        tau: of the running averages that decide.
    """

    steps: int = 480_000
    envs: int = 48
    batch_size: int = 48
    reward_scale: float = 1.0
    validate_every: int = 24_000
    checkpoint_every: int = 48_000
    decisions: int = 10
    buffer_size: int = 40_000
    actor_learning_rate: float = 5e-4
    actor_from: int = 80
    gradient_steps: int = 8
    policy_delay: int = 4
    tau: float = 0.02

    @property
    def learns_from(self) -> int:
        """Environment steps after which the actor is no longer the initial one."""
        return self.envs * self.decisions * (1 + self.actor_from // self.gradient_steps)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decisions < 5:
            raise ValueError(f"decisions must be 5 or more (rankings, a search, moves), got {self.decisions}")


Family = type[OffPolicy] | type[OnPolicy] | type[SetOffPolicy]

FAMILY: Mapping[str, Family] = {
    "ddpg": SetOffPolicy,
    "ddpg-paper": OffPolicy,
    "td3": OffPolicy,
    "sac": OffPolicy,
    "ppo": OnPolicy,
    "maskable-ppo": OnPolicy,
}

_SORTED = {
    "steps": 60_000, "envs": 128, "penalty": 20.0, "margin_db": 1.0, "reward_scale": 0.05, "validate_every": 4_000,
    "checkpoint_every": 20_000, "buffer_size": 30_000, "warm_up": 4_000, "actor_from": 8_000, "actor_share": 1.0, "gradient_steps": 16,
    "first_on": 0.3,
}  # fmt: skip

DEFAULTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("ddpg-paper", "sorted-mlp"): _SORTED,
    ("td3", "sorted-mlp"): _SORTED,
    ("maskable-ppo", "graph"): {
        "steps": 8_192, "envs": 8, "learning_rate": 1e-3, "batch_size": 256, "rollout": 128, "epochs": 4, "penalty": 1.0,
        "reward_scale": 5.0, "entropy": 0.003, "gamma": 0.98, "validate_every": 1_024, "checkpoint_every": 2_048,
    },
}  # fmt: skip
"""(algorithm, policy) → what differs from the defaults of the family, at every size."""

TUNED: Mapping[tuple[str, str, int, int], Mapping[str, Any]] = {
    ("ddpg-paper", "sorted-mlp", 20, 5): {"first_on": 0.4},
    ("ddpg-paper", "sorted-mlp", 30, 6): {"first_on": 0.27},
    ("ddpg-paper", "sorted-mlp", 30, 10): {"first_on": 0.4},
    ("ddpg-paper", "sorted-mlp", 50, 10): {"steps": 100_000, "first_on": 0.24},
    ("ddpg-paper", "sorted-mlp", 50, 20): {
        "steps": 120_000, "buffer_size": 20_000, "actor_share": 0.5, "first_on": 0.4, "validate_every": 8_000, "checkpoint_every": 40_000,
    },
}  # fmt: skip
"""(algorithm, policy, M, K) → what differs from those."""


def family(algorithm: str) -> Family:
    """The class of an algorithm's hyper-parameters.

    Raises:
        ValueError: there is no such algorithm; the message suggests the nearest.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"unknown algorithm {algorithm!r}{hint(algorithm, list(ALGORITHMS))}; valid ones: {', '.join(ALGORITHMS)}"
        )
    return FAMILY[algorithm]


def usual_policy(algorithm: str) -> str:
    """The policy of an algorithm when none is named."""
    return {"ddpg": "sets", "ddpg-paper": "sorted-mlp", "td3": "sorted-mlp", "maskable-ppo": "graph"}.get(
        algorithm, "mlp"
    )


def names(algorithm: str) -> list[str]:
    """The hyper-parameters of an algorithm."""
    return [spec.name for spec in dataclasses.fields(family(algorithm))]


def hyper_parameters(
    algorithm: str, config: SystemConfig, policy: str | None = None, **given: Any
) -> OffPolicy | OnPolicy | SetOffPolicy:
    """The tuned values for an algorithm, a policy and a size, then the ones that are given.

    Args:
        algorithm: one of `ALGORITHMS`.
        config: whose M and K count.
        policy: one of `POLICIES`; None is the usual one.
        given: hyper-parameters of the algorithm.

    Raises:
        ValueError: there is no such algorithm, a value is out of range, or two of them don't go together.
        TypeError: there is no such hyper-parameter; the message suggests the nearest.
    """
    valid, policy = names(algorithm), policy or usual_policy(algorithm)
    for name in given:
        if name not in valid:
            raise TypeError(
                f"{algorithm} has no hyper-parameter {name!r}{nearest(name, valid)}; it has {', '.join(valid)}"
            )
    return family(algorithm)(
        **{**DEFAULTS.get((algorithm, policy), {}), **TUNED.get((algorithm, policy, config.M, config.K), {}), **given}
    )
