"""Libraries of reinforcement learning take the environments, and the examples for them learn."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from baselines import make
from cfisac_env import seeds
from experiments import cli, examples
from experiments.bench import doors
from experiments.examples import cloning, ppo

ROOT = Path(__file__).parents[2]
STORED = (ROOT / "docs" / "results" / "doors" / "matrix.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("library", doors.DOORS)
def test_a_library_plays_what_the_stored_matrix_says(library: str) -> None:
    door = doors.DOORS[library]
    row = next(line for line in STORED.splitlines() if line.startswith(f"| {library} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"{door.distribution} {version(door.distribution)}"
    assert cells[3:] == ["yes" if name in door.only else "–" for name in doors.IDS]
    for name in door.only[:2] if library == "RLlib" else door.only:
        assert doors.tried(door, name) == "yes", name


def test_a_failed_attempt_is_not_said_to_play() -> None:
    assert doors.tried(doors.Door("gymnasium", "", lambda name: 1 / 0), "CfIsac-v0") == "ZeroDivisionError"  # type: ignore[arg-type]


def test_the_one_file_ppo_saves_more_than_random_moves() -> None:
    command = ppo.PpoCommand(M=14, K=3, num_steps=64, seconds=3.0, drops=40)
    reports: list[int] = []
    agent = ppo.train(command, lambda steps, earned: reports.append(steps))
    assert reports[0] == 8 * 64
    chance, _ = ppo.evaluate(command, None, seeds.VALIDATION)
    learned, _ = ppo.evaluate(command, agent, seeds.VALIDATION)
    assert learned > chance


def test_the_masked_policy_never_draws_a_move_that_is_not_allowed() -> None:
    envs = ppo.environments(ppo.PpoCommand(M=10, K=3), 4)
    agent = ppo.Agent(envs)
    observation, _ = envs.reset(seed=seeds.VALIDATION)
    mask = ppo.allowed_entries(envs)
    for _ in range(20):
        action = agent(torch.as_tensor(observation))[0].sample().numpy()
        allowed = observation[:, mask] > 0.0
        assert all(allowed[i, action[i]] or not allowed[i].any() for i in range(4))
        observation = envs.step(action)[0]


@pytest.mark.filterwarnings("ignore")  # of TorchRL's own parts
def test_torchrl_trains_on_a_vector() -> None:
    from experiments.examples import torchrl_ppo

    rewards = torchrl_ppo.train(torchrl_ppo.TorchRlCommand(M=8, K=3, num_envs=2, frames=128, rollout=64, epochs=1))
    assert len(rewards) == 2
    assert all(reward >= 0.0 for reward in rewards)  # the power never rises


@pytest.mark.filterwarnings("ignore")  # of RLlib's own parts
def test_rllib_samples_flat_episodes() -> None:
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    from experiments.examples import rllib_ppo

    command = rllib_ppo.RllibCommand("CfIsac-v0", "paper", M=6, K=2)
    runner = SingleAgentEnvRunner(config=rllib_ppo.config(command).env_runners(num_envs_per_env_runner=1))
    (episode,) = runner.sample(num_episodes=1, random_actions=True)
    core: Any = gym.make("CfIsac-v0", M=6, K=2).unwrapped
    assert episode.get_observations(0).shape == (gym.spaces.flatdim(core.observation_space),)
    assert episode.get_actions(0).shape == (6 * 3,)
    assert episode.get_return() <= 0.0
    runner.stop()  # type: ignore[no-untyped-call]


def written(folder: Path, *options: str) -> int:
    return cli.main(["dataset", "--M", "8", "--K", "3", "--preset", "urban", "--out", str(folder), *options])


def test_a_dataset_read_back_holds_the_decisions_with_their_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert written(Path(), "--drops", "5", "--seed", "7", "--policies", "most-informative", "max-power") == 0
    name = "cfisac-urban-8x3/most-informative-max-power-v0"
    assert name in capsys.readouterr().out
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset(name)
    about = list(dataset.storage.get_episode_metadata(range(10)))
    assert [one["policy"] for one in about] == ["most-informative"] * 5 + ["max-power"] * 5
    assert [one["seed"] for one in about] == [*range(7, 12)] * 2
    env = dataset.recover_environment()
    for episode, one in zip(dataset, about, strict=True):
        observation, _ = env.reset(seed=int(one["seed"]))
        for key, value in observation.items():
            np.testing.assert_array_equal(episode.observations[key][0], value)
        action, _ = make(one["policy"]).predict(observation)
        np.testing.assert_array_equal(episode.actions[0], action)
        _, reward, terminated, _, info = env.step(action)
        assert (episode.rewards[0], episode.terminations[0]) == (reward, terminated)
        assert (one["total_power_w"], one["feasible"]) == (info["total_power_w"], info["feasible"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--policies", "max-power"), "exists already, and datasets are never overwritten"),
        (("--policies", "max-pover"), "unknown policy 'max-pover' (did you mean 'max-power'?)"),
        (
            ("--policies", "max-power", "--seed", "999999", "--drops", "2"),
            "reach the test seeds, which begin at 1000000",
        ),
    ],
)
def test_a_dataset_that_cannot_be_written_leaves_what_is_there(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(tmp_path, "--policies", "max-power", "--drops", "1") == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert written(tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_clone_is_equivariant_learns_the_activation_and_serves_every_drop(tmp_path: Path) -> None:
    assert written(tmp_path, "--drops", "60", "--policies", "most-informative-search") == 0
    folder = tmp_path / "cfisac-urban-8x3" / "most-informative-search-v0"
    dataset, comm, sensing, active = cloning.read(folder)
    scorer, losses = cloning.cloned(cloning.CloningCommand(folder, epochs=12, batch=8), comm, sensing, active)
    guess = float(active.mean())
    entropy = -(guess * np.log(guess) + (1 - guess) * np.log(1 - guess))
    assert losses[-1] < entropy  # of the best constant
    order = torch.randperm(8)
    torch.testing.assert_close(scorer(comm[:, order], sensing[:, order]), scorer(comm, sensing)[:, order])
    found = cloning.gaps(scorer, dataset.spec.env_spec.kwargs, 4)
    assert found["clone"][0] == 1.0
    with pytest.raises(ValueError, match="holds no dataset of Minari"):
        cloning.read(tmp_path)


@pytest.mark.parametrize(("algorithm", "kind"), [("ppo", PPO), ("dqn", DQN)])
def test_hyper_parameters_are_those_that_the_zoo_hands_to_sb3(algorithm: str, kind: Any) -> None:
    text = Path(examples.__path__[0], "zoo", f"{algorithm}.yml").read_text(encoding="utf-8")
    for name, parameters in yaml.safe_load(text).items():
        options = dict(parameters)
        policy, steps = options.pop("policy"), int(float(options.pop("n_timesteps")))
        chain = [
            getattr(importlib.import_module(one.rpartition(".")[0]), one.rpartition(".")[2])
            for one in options.pop("env_wrapper", [])
        ]

        def environment(name: str = name, chain: list[Any] = chain) -> gym.Env[Any, Any]:
            env = gym.make(name, M=6, K=2)
            for wrapper in chain:
                env = wrapper(env)
            return env

        envs: Any = make_vec_env(environment, options.pop("n_envs"))
        if "normalize" in options:
            envs = VecNormalize(envs, **eval(options.pop("normalize")))
        for key, value in options.items():
            if isinstance(value, str):
                options[key] = float(value.removeprefix("lin_")) if value.startswith("lin_") else eval(value)
        model = kind(policy, envs, device="cpu", **options)
        model.predict(envs.reset())
        assert steps >= 100_000
        envs.close()
