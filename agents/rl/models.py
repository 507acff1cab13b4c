"""What a training run is made of: its description, its environments, and the Stable-Baselines3 model that learns in them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import DDPG, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import nn

import cfisac_env
from agents import defaults
from agents.hetgnn import weights
from agents.hetgnn.network import HetGnn, NetworkConfig
from agents.rl.features import ScaledFlatten
from agents.rl.graph import SMALL, GraphFeatures, GraphMaskablePolicy, GraphPPOPolicy, GraphSACPolicy, GraphTD3Policy
from agents.rl.graph_ddpg import GraphDDPG, RelativePower
from agents.rl.informed import InformedSACPolicy, InformedTD3Policy
from agents.rl.mixed_vec_env import MixedVecEnv
from agents.rl.order import Order, Sorted
from agents.rl.parameters import POLICIES, OffPolicy, OnPolicy, SetOffPolicy, family, usual_policy
from agents.rl.set_actor import NETWORK
from agents.rl.set_policy import SetPolicy
from agents.rl.vec_env import SB3VecEnv
from cfisac_env import SystemConfig, observations, sample, seeds
from cfisac_env.config import nearest

MOST_LINKS = 1_000_000
"""M K of an agent; beyond it observations and actions alone fill the memory, and a header that says so is damaged."""

ACTOR, CRITIC = [128, 64], [64, 128]
"""Hidden layers, as in the paper."""


class _SlowActor:
    """Lets the actor begin after the critics, at a smaller learning rate, as in Lillicrap et al. 2016, which falls linearly to 0."""

    actor_share = 1.0
    actor_from = 0

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)  # type: ignore[misc]
        model: Any = self
        share = self.actor_share * model._current_progress_remaining if model.num_timesteps >= self.actor_from else 0.0
        for group in model.policy.actor.optimizer.param_groups:
            group["lr"] *= share


class SlowActorDDPG(_SlowActor, DDPG):
    """DDPG whose actor learns at `actor_share` of the learning rate."""


class SlowActorTD3(_SlowActor, TD3):
    """TD3 whose actor learns at `actor_share` of the learning rate."""


class SlowActorSAC(_SlowActor, SAC):
    """SAC whose actor learns at `actor_share` of the learning rate."""


CLASSES: dict[str, type[BaseAlgorithm]] = {
    "ddpg": GraphDDPG, "ddpg-paper": SlowActorDDPG, "td3": SlowActorTD3, "sac": SlowActorSAC, "ppo": PPO, "maskable-ppo": MaskablePPO,
}  # fmt: skip

GRAPHS: dict[str, type[BasePolicy]] = {
    "ddpg-paper": GraphTD3Policy, "td3": GraphTD3Policy, "sac": GraphSACPolicy, "ppo": GraphPPOPolicy, "maskable-ppo": GraphMaskablePolicy,
}  # fmt: skip

INFORMED: dict[str, type[BasePolicy]] = {
    "ddpg-paper": InformedTD3Policy,
    "td3": InformedTD3Policy,
    "sac": InformedSACPolicy,
}

LIFT = 1.0
"""Of the activation logits of a graph policy that starts from scratch: every AP is on."""

MODERATE = 0.5
"""Share of P_max that each AP radiates under the initial policy."""


@dataclass(frozen=True)
class Run:
    """Everything that decides the outcome of a training run.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        config: of the drops.
        parameters: of the algorithm.
        seed: of everything random.
        policy: one of `POLICIES`; None is the usual one of the algorithm; `maskable-ppo` always has the graph.
        start_from: HetGNN weights that the graph policy begins with, a file or `shipped`; None begins from scratch.
        network: sizes of the graph policy's layers; those of the weights that it begins with.
        mixed: presets whose drops `ddpg` trains on besides those of `config`, as often each; M and K are those of `config`.
        validation_drops: by which the best agent is chosen.

    Raises:
        ValueError: the seed is outside 0 … 399, or there is no such algorithm, or no such policy for it, or the network is too large.
        TypeError: the hyper-parameters are those of another family.
    """

    algorithm: str
    config: SystemConfig
    parameters: OffPolicy | OnPolicy | SetOffPolicy
    seed: int = 0
    policy: str | None = None
    start_from: str | None = None
    network: NetworkConfig = SMALL
    mixed: tuple[str, ...] = ()
    validation_drops: int = 50

    def __post_init__(self) -> None:
        if self.config.M * self.config.K > MOST_LINKS:
            raise ValueError(
                f"agents are trained for at most {MOST_LINKS:,} AP–user links, got M={self.config.M}, K={self.config.K}"
            )
        wanted, masked = family(self.algorithm), self.algorithm == "maskable-ppo"
        if not isinstance(self.parameters, wanted):
            raise TypeError(
                f"{self.algorithm} takes {wanted.__name__} hyper-parameters, got {type(self.parameters).__name__}; "
                f"make them with hyper_parameters({self.algorithm!r}, config, …)"
            )
        if self.policy is None:
            object.__setattr__(self, "policy", usual_policy(self.algorithm))
        if self.policy not in POLICIES:
            raise ValueError(
                f"policy must be one of {', '.join(POLICIES)}, got {self.policy!r}{nearest(str(self.policy), list(POLICIES))}"
            )
        sets = self.algorithm == "ddpg"
        if sets != (self.policy == "sets"):
            raise ValueError(
                f"ddpg and the policy 'sets' go together, got {self.algorithm} with {self.policy!r}; leave the policy out"
            )
        if len(self.configs) > 1 and not sets:  # whose making refuses presets that aren't there
            raise ValueError(f"only ddpg trains on several presets, got {self.algorithm} with {self.mixed}")
        if sets and self.network == SMALL:
            object.__setattr__(self, "network", NETWORK)
        if masked and self.policy != "graph":
            raise ValueError(
                f"maskable-ppo always has the graph policy, got {self.policy!r}; leave it out, or choose ppo"
            )
        if self.start_from is not None and self.policy != "graph":
            raise ValueError(
                "only a graph policy can start from the weights of a HetGNN; add --policy graph, or leave --start-from out"
            )
        seeds.of_run(self.seed)  # refuses one without drops of its own

    @property
    def environment(self) -> str:
        """Id of the environment that it plays."""
        return "CfIsacSequential-v0" if self.algorithm == "maskable-ppo" else "CfIsac-v0"

    @property
    def every_size(self) -> bool:
        """Whether its agent serves every M and K, and not only those of its configuration."""
        return self.policy in ("graph", "sets")

    @property
    def configs(self) -> list[SystemConfig]:
        """Configurations whose drops it trains on."""
        M, K = self.config.M, self.config.K
        return [self.config, *(SystemConfig(M, K, preset=preset) for preset in self.mixed)]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; `Run.from_dict` gives the run back."""
        return {
            "algorithm": self.algorithm,
            "environment": self.environment,
            "version": cfisac_env.__version__,
            "config": self.config.as_dict(),
            "parameters": asdict(self.parameters),
            "seed": self.seed,
            "policy": self.policy,
            "start_from": self.start_from,
            "network": asdict(self.network),
            **({"mixed": list(self.mixed)} if self.mixed else {}),
            "validation_drops": self.validation_drops,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Run:
        """The run that `as_dict` wrote."""
        config = SystemConfig(**content["config"])
        parameters = family(content["algorithm"])(**content["parameters"])
        network: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content.get("network", asdict(SMALL)).items()
        }
        start_from = content.get("start_from")
        return cls(
            content["algorithm"],
            config,
            parameters,
            content["seed"],
            content["policy"],
            start_from,
            NetworkConfig(**network),
            mixed=tuple(content.get("mixed", ())),
            validation_drops=content.get("validation_drops", 50),
        )


def starting_from(run: Run, start_from: str) -> Run:
    """The run with a graph policy that begins with the weights of a HetGNN.

    Args:
        run: with a graph policy.
        start_from: file of the weights, or `shipped`.

    Raises:
        FileNotFoundError, ValueError: there are no such weights, or the policy is no graph.
    """
    return replace(run, start_from=start_from, network=_trained(start_from).config)


def _trained(start_from: str) -> HetGnn:
    return weights.load(weights.SHIPPED if start_from == "shipped" else start_from)[0]


class ScaledReward(VecEnvWrapper):
    """Multiplies every reward.

    Args:
        venv: whose rewards.
        scale: the factor.
    """

    def __init__(self, venv: VecEnv, scale: float) -> None:
        super().__init__(venv)
        self.scale = scale

    def reset(self) -> VecEnvObs:
        """Reset all."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step all."""
        observation, rewards, dones, infos = self.venv.step_wait()
        return observation, rewards * self.scale, dones, infos


def training_environments(run: Run) -> ScaledReward:
    """The environments of a run; what they ask for is tightened by the margin, what is missed costs the run's penalty."""
    parameters, fields = run.parameters, run.config.as_dict()
    if isinstance(parameters, SetOffPolicy):
        return ScaledReward(RelativePower(_mixed_environments(run, parameters)), 1.0)
    fields |= {"reward": "linear", "sinr_penalty": parameters.penalty, "crlb_penalty": parameters.penalty}
    if run.algorithm != "maskable-ppo":  # whose powers are exact
        fields["sinr_threshold_db"] += parameters.margin_db
        fields["crlb_threshold_m2"] *= 10 ** (-parameters.margin_db / 10)
    together: VecEnv
    if run.environment == "CfIsac-v0":
        many = gym.make_vec(run.environment, num_envs=parameters.envs, autoreset_mode="SameStep", **fields)
        together = SB3VecEnv(many)
        if run.policy == "sorted-mlp":
            together = Sorted(together)
    else:
        together = DummyVecEnv([partial(gym.make, run.environment, **fields)] * parameters.envs)
    return ScaledReward(together, parameters.reward_scale)


def _mixed_environments(run: Run, parameters: SetOffPolicy) -> VecEnv:
    """Environments of the run's configuration and of the presets mixed in, the same number of each."""
    each = parameters.envs // len(run.configs)
    if each < 1:
        raise ValueError(f"{len(run.configs)} presets need as many envs or more, got {parameters.envs}")
    many = [
        gym.make_vec(
            run.environment, num_envs=each, autoreset_mode="SameStep", decisions_per_drop=parameters.decisions, **config.as_dict()
        )
        for config in run.configs
    ]  # fmt: skip
    return MixedVecEnv([SB3VecEnv(one) for one in many], seed_step=1000 // len(run.configs))


def build(run: Run, venv: VecEnv, device: str = "cpu") -> BaseAlgorithm:
    """A model ready to learn in environments with the run's seeds: features scaled, at first some APs or every one on at moderate power."""
    p = run.parameters
    arguments: dict[str, Any] = {"learning_rate": p.learning_rate, "batch_size": p.batch_size}
    if isinstance(p, SetOffPolicy):
        graph_ddpg = GraphDDPG(
            SetPolicy, venv, buffer_size=p.buffer_size, tau=p.tau, train_freq=p.decisions, gradient_steps=p.gradient_steps,
            policy_delay=p.policy_delay, actor_from=p.actor_from, replay_buffer_kwargs={"decisions": p.decisions},
            policy_kwargs=policy_arguments(run), seed=run.seed, device=device, **arguments,
        )  # fmt: skip
        venv.seed(seeds.of_run(run.seed))
        return graph_ddpg
    if isinstance(p, OffPolicy):
        arguments |= {
            "buffer_size": p.buffer_size,
            "learning_starts": 0,
            "tau": p.tau,
            "gradient_steps": p.gradient_steps,
        }
        if run.algorithm != "sac":
            shape = venv.action_space.shape or ()
            arguments["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, p.noise_std))
    else:
        arguments |= {
            "n_steps": p.rollout, "n_epochs": p.epochs, "clip_range": p.clip_range, "ent_coef": p.entropy,
            "gae_lambda": p.gae_lambda, "gamma": p.gamma,
        }  # fmt: skip
    model = CLASSES[run.algorithm](
        policy_class(run), venv, policy_kwargs=policy_arguments(run), seed=run.seed, device=device, **arguments
    )
    if isinstance(model, _SlowActor) and isinstance(p, OffPolicy):
        model.actor_share, model.actor_from = p.actor_share, p.actor_from
    if run.policy != "graph":
        fit_features(model.policy, run)
        _start_moderate(model, run)
    elif run.start_from is not None:
        trained = _trained(run.start_from)
        for module in model.policy.modules():
            if isinstance(module, HetGnn):
                module.load_state_dict(trained.state_dict())
    venv.seed(seeds.of_run(run.seed))  # the constructor has seeded them with the run's seed alone
    return model


def policy_class(run: Run) -> type[BasePolicy]:
    """What decides in a run."""
    if run.policy == "sets":
        return SetPolicy
    if run.policy == "graph":
        return GRAPHS[run.algorithm]
    if run.policy == "sorted-mlp" and run.algorithm in INFORMED:
        return INFORMED[run.algorithm]
    return CLASSES[run.algorithm].policy_aliases["MultiInputPolicy"]


def policy_arguments(run: Run) -> dict[str, Any]:
    """What the constructor of the policy takes besides spaces."""
    if isinstance(run.parameters, SetOffPolicy):
        return {"network": run.network, "actor_learning_rate": run.parameters.actor_learning_rate}
    noise = max(run.parameters.noise_std, 1e-6)
    if run.policy == "graph":
        arguments: dict[str, Any] = {
            "features_extractor_class": GraphFeatures, "features_extractor_kwargs": {"network": run.network},
        }  # fmt: skip
        if run.algorithm != "maskable-ppo":
            arguments["lift"] = LIFT if run.start_from is None else 0.0
        return arguments | ({"noise_std": noise} if run.algorithm in ("sac", "ppo") else {})
    arguments = {"features_extractor_class": ScaledFlatten}
    if isinstance(run.parameters, OffPolicy):
        return arguments | {"net_arch": {"pi": ACTOR, "qf": CRITIC}, "n_critics": 2}
    return arguments | {"net_arch": {"pi": ACTOR, "vf": CRITIC}, "log_std_init": math.log(noise)}


def empty_policy(run: Run) -> BasePolicy:
    """A policy of a run's kind, its weights still to be loaded."""
    env = gym.make(run.environment, **run.config.as_dict())
    with defaults.plain():
        return policy_class(run)(env.observation_space, env.action_space, constant_rate, **policy_arguments(run))


def constant_rate(progress: float) -> float:
    """A learning rate for optimisers that aren't used."""
    return 0.0


def fit_features(policy: nn.Module, run: Run, drops: int = 512) -> None:
    """Take the statistics of every feature from drops with a seed of training."""
    batch = observations.encode(sample(run.config, np.random.default_rng(seeds.TRAINING), drops))
    if run.policy == "sorted-mlp":
        batch = Order.of(batch).arrange(batch)
    for module in policy.modules():
        if isinstance(module, ScaledFlatten):
            module.fit(batch)


def _start_moderate(model: BaseAlgorithm, run: Run) -> None:
    """Make the last layer of the actor put out the first APs on, with equal powers, whatever it sees: it learns from there.

    Critics begin without an opinion about actions, so that the actor follows what rewards have said, not how a critic was drawn.
    """
    config = run.config
    wanted = torch.full((config.M, config.K + 1), 2.0 * math.sqrt(MODERATE / config.K) - 1.0)
    wanted[:, 0] = 0.5
    wanted[round(run.parameters.first_on * config.M) :, 0] = -0.5
    wanted = wanted.flatten()
    policy: Any = model.policy
    if isinstance(model, PPO):
        last = policy.action_net
    else:
        wanted = torch.atanh(wanted.clamp(-0.99, 0.99))
        last = policy.actor.mu if isinstance(model, SAC) else policy.actor.mu[-2]
    with torch.no_grad():
        last.weight.mul_(0.01)
        last.bias.copy_(wanted)
        if isinstance(model, SAC):
            policy.actor.log_std.weight.mul_(0.01)
            policy.actor.log_std.bias.fill_(math.log(0.3))
        if not isinstance(model, PPO):
            start = policy.critic.features_extractor.features_dim
            for network in policy.critic.q_networks:
                network[0].weight[:, start : start + wanted.numel()] = 0.0
            policy.critic_target.load_state_dict(policy.critic.state_dict())
    if isinstance(model, TD3):
        policy.actor_target.load_state_dict(policy.actor.state_dict())


def actor_of(policy: BasePolicy) -> nn.Module:
    """The part of a policy that decides."""
    if isinstance(policy, SetPolicy):
        return nn.ModuleDict({"actor": policy.actor_target, "critic": policy.critic_target})
    return getattr(policy, "actor", policy)
