"""Decisions of policies on `CfIsac-v0` as an offline dataset in Minari's format, written without a hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from cfisac_env import SystemConfig, seeds
from experiments import compare
from experiments.errors import UserError

Episode = tuple[EpisodeBuffer, dict[str, Any]]
"""Data of an episode, and its metadata."""


def name_of(config: SystemConfig, policies: Sequence[str]) -> str:
    """Return the dataset's id, such as `cfisac-urban-30x6/local-search-v0`."""
    return f"cfisac-{config.preset}-{config.M}x{config.K}/{'-'.join(dict.fromkeys(policies))}-v0"


def write(
    folder: Path, config: SystemConfig, policies: Sequence[str], drops: int, seed: int, step: Callable[[str], None]
) -> MinariDataset:
    """Write one episode for each policy and drop: observation, action, reward, and the seed, policy, power and feasibility as metadata.

    Args:
        folder: root of the datasets (Minari's MINARI_DATASETS_PATH); missing folders are created.
        config: of the drops.
        policies: names of oracles and agents.
        drops: number of drops.
        seed: of the first drop; the others follow.
        step: called with the policy after every decision.

    Raises:
        ValueError: an unknown policy, or seeds that are reserved for testing.
        FileExistsError: the folder has this dataset already.
        OSError: the folder can't be written; nothing is left there.
    """
    if seed + drops > seeds.TEST:
        raise UserError(
            f"seeds {seed} to {seed + drops - 1} reach the test seeds, which begin at {seeds.TEST} and which nothing may be trained on; "
            "choose a lower --seed, or fewer --drops"
        )
    built = compare.build(policies, config)
    name = name_of(config, policies)
    path = folder.absolute() / name  # Minari's HDF5 files don't take relative ones
    if path.exists():
        raise FileExistsError(
            f"{path} exists already, and datasets are never overwritten; remove it, or choose another --out"
        )
    env = gym.make("CfIsac-v0", **config.as_dict())
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "data").mkdir(parents=True)
    try:
        storage = MinariStorage.new(
            temporary / "data", env.observation_space, env.action_space, env.spec, jpeg_encoding=False
        )
        storage.update_metadata(
            {
                "dataset_id": name,
                "algorithm_name": ", ".join(policy.name for policy in built),
                "author": {f"cfisac {version('cfisac')}"},
                "description": f"decisions of {', '.join(policy.name for policy in built)} on drops of seeds {seed} to {seed + drops - 1}",
                "minari_version": version("minari"),
                "requirements": [f"cfisac=={version('cfisac')}"],
            }
        )
        episodes, about = zip(*_episodes(env, built, range(seed, seed + drops), step), strict=True)
        storage.update_episodes(episodes)
        storage.update_episode_metadata(about)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return MinariDataset(path / "data")


def _episodes(
    env: gym.Env[Any, Any], policies: Sequence[Any], drops: range, step: Callable[[str], None]
) -> Iterator[Episode]:
    for policy in policies:
        for seed in drops:
            first, _ = env.reset(seed=seed)
            action, _ = policy.predict(first)
            last, reward, terminated, truncated, info = env.step(action)
            data = EpisodeBuffer(
                seed=seed,
                observations={key: np.stack([first[key], last[key]]) for key in first},
                actions=action[None],
                rewards=[float(reward)],
                terminations=[terminated],
                truncations=[truncated],
                infos={},
            )
            about = {"policy": policy.name, "total_power_w": float(info["total_power_w"])}
            yield data, {**about, "feasible": bool(info["feasible"])}
            step(policy.name)
