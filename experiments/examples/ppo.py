"""Proximal policy optimisation in one file on a vector environment, with no library of algorithms, in the manner of CleanRL.

    python -m experiments.examples.ppo --env-id CfIsacImprovement-v0 --seconds 60

Where the observation has an entry `allowed`, the mask of the moves, others are never drawn. The seconds are processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import VectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

import cfisac_env  # noqa: F401  (registers the environments)
from cfisac_env import seeds
from cfisac_env.wrappers import vector

Envs = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class PpoCommand:
    """Train on random drops, and compare with random moves on test drops.

    Attributes:
        env_id: of the environment.
        preset: of the drops.
        M: access points.
        K: users.
        num_envs: environments side by side.
        num_steps: steps an environment between two updates.
        seconds: of training.
        epochs: passes over each rollout.
        minibatches: per pass.
        learning_rate: of Adam.
        gamma: discount.
        gae_lambda: of generalised advantage estimation.
        clip: of the ratio of probabilities.
        entropy: weight of the entropy.
        seed: of the run.
        drops: test drops.
    """

    env_id: str = "CfIsacImprovement-v0"
    preset: str = "urban"
    M: int = 30
    K: int = 6
    num_envs: int = 8
    num_steps: int = 128
    seconds: float = 60.0
    epochs: int = 4
    minibatches: int = 8
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    seed: int = 0
    drops: int = 200


def environments(command: PpoCommand, count: int) -> Envs:
    """A vector environment with flat observations and actions, whose finished environments are reset within the step."""
    fields: dict[str, Any] = {"M": command.M, "K": command.K, "preset": command.preset}
    if gym.spec(command.env_id).vector_entry_point is not None:
        envs = gym.make_vec(command.env_id, num_envs=count, autoreset_mode="SameStep", **fields)
    else:
        options = {"autoreset_mode": "SameStep"}
        envs = gym.make_vec(command.env_id, num_envs=count, vectorization_mode="sync", vector_kwargs=options, **fields)
    flat = vector.FlatObservation(envs)
    return vector.FlatAction(flat) if isinstance(envs.single_action_space, gym.spaces.Box) else flat


def allowed_entries(envs: Envs) -> slice | None:
    """Return the entries of a flat observation that hold the mask of the moves, if there is one."""
    start, space = 0, envs.unwrapped.single_observation_space
    assert isinstance(space, gym.spaces.Dict)
    for key, entry in space.items():
        size = int(np.prod(entry.shape or ()))
        if key == "allowed":
            return slice(start, start + size)
        start += size
    return None


class Agent(nn.Module):
    """Actor and critic: two MLPs on the normalised observation."""

    def __init__(self, envs: Envs) -> None:
        super().__init__()
        inputs, action = int(envs.single_observation_space.shape[0]), envs.single_action_space  # type: ignore[index]
        self.discrete, self.mask = isinstance(action, gym.spaces.Discrete), allowed_entries(envs)
        outputs = int(action.n) if isinstance(action, gym.spaces.Discrete) else int(action.shape[0])  # type: ignore[index]
        self.actor, self.critic = _mlp(inputs, outputs, 0.01), _mlp(inputs, 1, 1.0)
        self.log_std = nn.Parameter(torch.full((outputs,), -0.5))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def fit(self, observation: Tensor) -> None:
        """Normalise by the observations of many drops, (n, inputs)."""
        self.mean, self.scale = observation.mean(0), observation.std(0).clamp_min(1e-2)

    def forward(self, observation: Tensor) -> tuple[Distribution, Tensor]:
        """Return the distribution of actions and the value of observations (n, inputs)."""
        inputs = (observation - self.mean) / self.scale
        outputs = self.actor(inputs)
        value: Tensor = self.critic(inputs)[:, 0]
        if not self.discrete:
            return Independent(Normal(outputs, self.log_std.exp()), 1), value
        if self.mask is not None:
            allowed = observation[:, self.mask] > 0.0
            allowed = allowed | ~allowed.any(-1, keepdim=True)  # a finished episode has no move left
            outputs = outputs.masked_fill(~allowed, -1e9)
        return Categorical(logits=outputs), value


def _mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    layers = [nn.Linear(inputs, 64), nn.Linear(64, 64), nn.Linear(64, outputs)]
    for layer, std in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, std)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def train(command: PpoCommand, report: Callable[[int, float], None] = lambda steps, earned: None) -> Agent:
    """Train an agent; `report` gets the steps so far and the mean return of the last episodes after each rollout."""
    torch.manual_seed(command.seed)
    envs = environments(command, command.num_envs)
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=command.learning_rate, eps=1e-5)
    first = seeds.of_run(command.seed)
    agent.fit(torch.cat([_tensor(envs.reset(seed=first + i * command.num_envs)[0]) for i in range(32)]))
    observation = _tensor(envs.reset(seed=first)[0])
    shape, earned, finished = (command.num_steps, command.num_envs), np.zeros(command.num_envs), list[float]()
    start, steps = time.process_time(), 0
    while time.process_time() - start < command.seconds:
        rows: list[tuple[Tensor, ...]] = []
        for _ in range(command.num_steps):
            with torch.no_grad():
                distribution, value = agent(observation)
            action = distribution.sample()
            following, reward, terminated, truncated, infos = envs.step(action.numpy())
            over = terminated | truncated
            target = np.array(reward, np.float32)  # cut-off episodes go on by the value of their last observation
            for i in np.flatnonzero(truncated & ~terminated):
                with torch.no_grad():
                    target[i] += command.gamma * agent(_tensor(infos["final_obs"][i])[None])[1].item()
            rows.append((observation, action, distribution.log_prob(action), value, _tensor(target), _tensor(over)))
            earned += reward
            finished += earned[over].tolist()
            earned[over] = 0.0
            observation = _tensor(following)
        steps += command.num_steps * command.num_envs
        with torch.no_grad():
            _, value = agent(observation)
        seen, actions, logs, values, rewards, overs = (torch.stack(column) for column in zip(*rows, strict=True))
        advantages, ahead = torch.zeros(shape), torch.zeros(command.num_envs)
        for t in reversed(range(command.num_steps)):
            going = 1.0 - overs[t]
            error = rewards[t] + command.gamma * value * going - values[t]
            advantages[t] = ahead = error + command.gamma * command.gae_lambda * going * ahead
            value = values[t]
        batch = (seen, actions, logs, advantages, advantages + values)
        _update(command, agent, optimizer, [one.flatten(0, 1) for one in batch])
        report(steps, float(np.mean(finished[-100:])) if finished else float("nan"))
    envs.close()
    return agent


def _update(command: PpoCommand, agent: Agent, optimizer: torch.optim.Optimizer, batch: list[Tensor]) -> None:
    """Take the steps on the clipped objective for one rollout."""
    for _ in range(command.epochs):
        for rows in torch.randperm(len(batch[0])).chunk(command.minibatches):
            seen, actions, logs, advantages, returns = (one[rows] for one in batch)
            distribution, value = agent(seen)
            ratio = (distribution.log_prob(actions) - logs).exp()
            scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            gain = torch.min(ratio * scaled, ratio.clamp(1 - command.clip, 1 + command.clip) * scaled).mean()
            loss = -gain + 0.5 * (value - returns).square().mean() - command.entropy * distribution.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def evaluate(command: PpoCommand, agent: Agent | None, first: int = seeds.TEST) -> tuple[float, float]:
    """Mean return over the drops of so many seeds, and the mean power in W of those that are served; without an agent, of random moves."""
    env = environments(command, 1)
    rng, returns, power = np.random.default_rng(command.seed), np.zeros(command.drops), []
    mask = allowed_entries(env)
    for i in range(command.drops):
        observation, _ = env.reset(seed=first + i)
        env.action_space.seed(first + i)
        over = False
        while not over:
            if agent is not None:
                with torch.no_grad():
                    distribution, _ = agent(_tensor(observation))
                action = distribution.probs.argmax(-1).numpy() if agent.discrete else distribution.mean.numpy()
            elif mask is not None:
                allowed = observation[0, mask] > 0.0
                action = rng.choice(np.flatnonzero(allowed | ~allowed.any()), 1)
            else:
                action = env.action_space.sample()
            observation, reward, terminated, truncated, infos = env.step(action)
            returns[i] += reward[0]
            over = bool(terminated[0] or truncated[0])
        if infos["final_info"]["feasible"][0]:
            power.append(float(infos["final_info"]["total_power_w"][0]))
    env.close()
    return float(returns.mean()), float(np.mean(power)) if power else float("nan")


def _tensor(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def main() -> None:
    """Train, then evaluate."""
    command = tyro.cli(PpoCommand, description=PpoCommand.__doc__)
    torch.set_num_threads(1)
    print("random moves: return {:.4f}, {:.4f} W".format(*evaluate(command, None)))
    agent = train(command, lambda steps, earned: print(f"{steps} steps: mean return of 100 episodes {earned:.4f}"))
    print("trained: return {:.4f}, {:.4f} W".format(*evaluate(command, agent)))


if __name__ == "__main__":
    main()
