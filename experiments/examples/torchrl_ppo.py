"""PPO of TorchRL on a vector of `CfIsacImprovement-v0`.

python -m experiments.examples.torchrl_ppo --frames 20000
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
import tyro
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import cfisac_env  # noqa: F401  (registers the environments)
from cfisac_env import seeds

ENTRIES = ("additions", "estimates", "observation", "removals")
"""Of the observation, whose `state` TorchRL calls `observation`."""


@dataclass(frozen=True)
class TorchRlCommand:
    """Train with TorchRL.

    Attributes:
        preset: of the drops.
        M: access points.
        K: users.
        num_envs: environments side by side.
        frames: steps of training.
        rollout: steps between two updates.
        epochs: passes over each rollout.
        seed: of the run.
    """

    preset: str = "urban"
    M: int = 30
    K: int = 6
    num_envs: int = 8
    frames: int = 20_000
    rollout: int = 1024
    epochs: int = 4
    seed: int = 0


class Network(nn.Module):
    """MLP on the entries of the observation."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

    def forward(self, *entries: torch.Tensor) -> torch.Tensor:
        """Flatten the entries that are matrices, and apply the layers."""
        lead = entries[1].ndim - 1
        outputs: torch.Tensor = self.layers(torch.cat([entry.flatten(lead) for entry in entries], -1))
        return outputs


class Masked(nn.Module):
    """Logits, and the moves that are allowed; all of them where none is, after the end of an episode."""

    def __init__(self, moves: int) -> None:
        super().__init__()
        self.network = Network(moves)

    def forward(self, allowed: torch.Tensor, *entries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and mask."""
        mask = allowed > 0.0
        return self.network(*entries), mask | ~mask.any(-1, keepdim=True)


def train(command: TorchRlCommand) -> list[float]:
    """Train, and return the mean reward of a step in every rollout."""
    torch.manual_seed(command.seed)
    envs: Any = gym.make_vec(
        "CfIsacImprovement-v0",
        num_envs=command.num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": "Disabled"},
        M=command.M,
        K=command.K,
        preset=command.preset,
    )
    env = GymWrapper(envs, categorical_action_encoding=True)
    env.set_seed(seeds.of_run(command.seed))
    network = TensorDictModule(
        Masked(int(envs.single_action_space.n)), in_keys=["allowed", *ENTRIES], out_keys=["logits", "mask"]
    )
    actor = ProbabilisticActor(
        network, in_keys=["logits", "mask"], distribution_class=MaskedCategorical, return_log_prob=True,
        spec=env.action_spec,
    )  # fmt: skip
    critic = ValueOperator(Network(1), in_keys=list(ENTRIES))
    for module in (actor, critic):
        module(env.reset())  # sizes of the lazy layers
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)
    collector = Collector(
        env, actor, frames_per_batch=command.rollout, total_frames=command.frames, auto_register_policy_transforms=False
    )
    rewards = []
    for batch in collector:
        rewards.append(float(batch["next", "reward"].mean()))
        for _ in range(command.epochs):
            with torch.no_grad():
                advantage(batch)
            rows = batch.reshape(-1)
            for part in rows[torch.randperm(len(rows))].split(256):
                losses = loss(part)
                total = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
    collector.shutdown()
    return rewards


def main() -> None:
    """Train."""
    torch.set_num_threads(1)
    rewards = train(tyro.cli(TorchRlCommand, description=TorchRlCommand.__doc__))
    print(f"mean reward of a move: {rewards[0]:.5f} in the first rollout, {rewards[-1]:.5f} in the last")


if __name__ == "__main__":
    main()
