"""Which libraries of reinforcement learning play which environments, tried now, with the versions that ran.

python -m experiments.bench.doors --out docs/results/doors
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from rich.console import Console
from stable_baselines3 import PPO

import cfisac_env  # noqa: F401  (registers the environments)
from cfisac_env import SystemConfig, seeds, wrappers
from experiments import results
from experiments.results import Column, Table

IDS = (
    "CfIsac-v0", "CfIsacMobile-v0", "CfIsacTracking-v0", "CfIsacActivation-v0", "CfIsacSequential-v0",
    "CfIsacPriority-v0", "CfIsacImprovement-v0",
)  # fmt: skip
FIELDS: dict[str, Any] = {"M": 6, "K": 2}
STEPS = 6


@dataclass(frozen=True)
class DoorsCommand:
    """Try every library on every environment.

    Attributes:
        out: folder of the results.
    """

    out: Path = Path("runs/doors")


@dataclass(frozen=True)
class Door:
    """Library, the call by which it takes an environment, and the ids that it is for (`only`)."""

    distribution: str
    call: str
    attempt: Callable[[str], None]
    only: tuple[str, ...] = IDS


def vector(name: str, autoreset: str) -> Any:
    """Two environments: natively batched where the id has that, otherwise one after the other."""
    if gym.spec(name).vector_entry_point is not None:
        return gym.make_vec(name, num_envs=2, autoreset_mode=autoreset, **FIELDS)
    options = {"autoreset_mode": autoreset}
    return gym.make_vec(name, num_envs=2, vectorization_mode="sync", vector_kwargs=options, **FIELDS)


def flat(name: str) -> gym.Env[Any, Any]:
    """One environment with flat observations and actions."""
    env = wrappers.FlatObservation(gym.make(name, **FIELDS))
    return wrappers.FlatAction(env) if isinstance(env.action_space, gym.spaces.Box) else env


def _gymnasium(name: str) -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(vector(name, "SameStep"))
    envs.reset(seed=0)
    for _ in range(STEPS):
        observation = envs.step(envs.action_space.sample())[0]
        assert envs.observation_space.contains(observation)


def _sb3(name: str) -> None:
    PPO("MultiInputPolicy", gym.make(name, **FIELDS), n_steps=8, batch_size=8, n_epochs=1).learn(8)


def _one_file(name: str) -> None:
    from experiments.examples import ppo

    ppo.train(ppo.PpoCommand(name, "paper", **FIELDS, num_envs=2, num_steps=4, minibatches=1, epochs=1, seconds=1e-6))


def _torchrl(name: str) -> None:
    from torchrl.envs import GymEnv, GymWrapper
    from torchrl.envs.utils import check_env_specs

    check_env_specs(GymEnv(name, **FIELDS), seed=0)
    rolled = GymWrapper(vector(name, "Disabled")).rollout(STEPS, break_when_any_done=False)
    assert rolled.batch_size == (2, STEPS)


def _rllib(name: str) -> None:
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    from experiments.examples import rllib_ppo

    command = rllib_ppo.RllibCommand(name, "paper", **FIELDS, rollout=8)
    runner = SingleAgentEnvRunner(config=rllib_ppo.config(command).env_runners(num_envs_per_env_runner=1))
    assert sum(map(len, runner.sample(num_timesteps=STEPS, random_actions=False))) >= STEPS
    runner.stop()  # type: ignore[no-untyped-call]


def _pettingzoo(name: str) -> None:
    from pettingzoo.test import parallel_api_test

    from cfisac_env.decentralised import CfIsacParallelEnv

    parallel_api_test(CfIsacParallelEnv(**FIELDS, episode_steps=STEPS), num_cycles=STEPS)


def _minari(name: str) -> None:
    from experiments import datasets

    with tempfile.TemporaryDirectory() as folder:
        made = datasets.write(Path(folder), SystemConfig(**FIELDS), ["random"], 2, seeds.TRAINING, lambda name: None)
        assert len(made[0].actions) == 1


def _mo(name: str) -> None:
    from mo_gymnasium.wrappers import LinearReward

    env = LinearReward(wrappers.MOGymnasium(gym.make(name, **FIELDS)), weight=np.array([1.0, 5.0]))
    env.reset(seed=0)
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == info["vector_reward"] @ [1.0, 5.0]


DOORS: Mapping[str, Door] = {
    "Gymnasium": Door("gymnasium", "gym.make_vec, RecordEpisodeStatistics", _gymnasium),
    "Stable-Baselines3": Door("stable-baselines3", "PPO", _sb3),
    "one file": Door("torch", "experiments.examples.ppo", _one_file),
    "TorchRL": Door("torchrl", "GymEnv, GymWrapper", _torchrl),
    "RLlib": Door("ray", "SingleAgentEnvRunner", _rllib),
    "PettingZoo": Door("pettingzoo", "CfIsacParallelEnv, parallel_api_test", _pettingzoo, IDS[:1]),
    "Minari": Door("minari", "cfisac dataset, MinariDataset", _minari, IDS[:1]),
    "MO-Gymnasium": Door("mo-gymnasium", "MOGymnasium, LinearReward", _mo),
}


def tried(door: Door, name: str) -> str:
    """`yes`, or the class of the error; empty if the library isn't for the environment."""
    if name not in door.only:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            door.attempt(name)
        except Exception as error:
            return type(error).__name__
    return "yes"


Row = tuple[str, Door, dict[str, str]]
"""Name of a library, its door, and id → what came of it."""


def _column(name: str) -> Column[Row]:
    return Column(name, lambda row: row[2][name] or None, "the library is for other environments")


COLUMNS: tuple[Column[Row], ...] = (
    Column("library", lambda row: row[0]),
    Column("version", lambda row: f"{row[1].distribution} {version(row[1].distribution)}"),
    Column("by", lambda row: row[1].call, code=True),
    *map(_column, IDS),
)


def matrix() -> Table[Row]:
    """Try everything."""
    return Table(COLUMNS, [(name, door, {one: tried(door, one) for one in IDS}) for name, door in DOORS.items()])


def main() -> None:
    """Try, write, print."""
    command = tyro.cli(DoorsCommand, description=DoorsCommand.__doc__)
    table = matrix()
    results.write(command.out, {"matrix.md": table.markdown()})
    table.show(Console())


if __name__ == "__main__":
    main()
