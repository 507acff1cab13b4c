"""Stock algorithms on `CfIsacPriority-v0` and `CfIsacImprovement-v0`, beside rules that learn nothing, on the same test drops.

    python -m experiments.bench.tracks --track improvement --preset urban --algorithm MaskablePPO --seconds 60 300 600
    python -m experiments.bench.tracks --track priority --algorithm PPO --policy RankingPolicy --completions 8 --n-steps 256 --seconds 75

Algorithms are those of Stable-Baselines3 and sb3-contrib with their default hyper-parameters, apart from `n_steps` where it is given;
seconds are processor time of training in one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

import baselines
from agents.rl.improvement import CfIsacImprovementEnv
from agents.rl.ranking_policy import RankingPolicy
from baselines.policy import Policy
from cfisac_env import seeds
from cfisac_env.observations import Observation
from cfisac_env.wrappers import CanonicalOrder
from experiments import results
from experiments.results import Column, Table

Choose = Callable[[Observation, gym.Env[Any, Any]], Any]

ALGORITHMS: dict[str, Any] = {"MaskablePPO": MaskablePPO, "PPO": PPO, "DQN": DQN, "SAC": SAC}


@dataclass(frozen=True)
class TracksCommand:
    """Train one stock algorithm on a track, and compare it with rules at several times.

    Attributes:
        track: `priority` or `improvement`.
        algorithm: of Stable-Baselines3 or sb3-contrib.
        policy: `MultiInputPolicy`, on the priority track in canonical order, or `RankingPolicy` (PPO on the priority track).
        completions: option of the priority track.
        reward: of the training environments.
        preset: of the drops.
        M: access points.
        K: users.
        seconds: of processor time after which the agent is compared, ascending.
        envs: environments that are trained in side by side.
        n_steps: of each environment between updates; None for the algorithm's default.
        seed: of the training run.
        drops: test drops.
        out: folder of the results.
    """

    track: Literal["priority", "improvement"] = "improvement"
    algorithm: Literal["MaskablePPO", "PPO", "DQN", "SAC"] = "MaskablePPO"
    policy: Literal["MultiInputPolicy", "RankingPolicy"] = "MultiInputPolicy"
    completions: int = 1
    reward: str = "penalty"
    preset: str = "urban"
    M: int = 30
    K: int = 6
    seconds: tuple[float, ...] = (600.0,)
    envs: int = 8
    n_steps: int | None = None
    seed: int = 0
    drops: int = 200
    out: Path = Path("runs/tracks")

    def __post_init__(self) -> None:
        if self.policy == "RankingPolicy" and (self.track, self.algorithm) != ("priority", "PPO"):
            raise ValueError(f"RankingPolicy is PPO's on the priority track, got {self.algorithm} on {self.track}")

    @property
    def name(self) -> str:
        """Name of the files of results."""
        options: list[str] = [] if self.policy == "MultiInputPolicy" else [self.policy]
        options += [] if self.completions == 1 else [f"completions{self.completions}"]
        parts = [self.track, self.preset, f"{self.M}x{self.K}", self.algorithm, *options, f"seed{self.seed}"]
        return "-".join(parts)


@dataclass(frozen=True)
class TrackResult:
    """One policy over the test drops."""

    policy: str
    steps: int | None  # of training
    served: float  # share of the drops that `local-search` serves
    gap: float  # mean over the drops that both serve
    ms: float  # of processor time a drop


def environment(command: TracksCommand) -> gym.Env[Any, Any]:
    """The environment that is trained in."""
    fields: dict[str, Any] = {"M": command.M, "K": command.K, "preset": command.preset, "reward": command.reward}
    if command.track == "improvement":
        return gym.make("CfIsacImprovement-v0", **fields)
    if command.policy == "RankingPolicy":
        return gym.make("CfIsacPriority-v0", completions=command.completions, relaxed=True, **fields)
    return CanonicalOrder(gym.make("CfIsacPriority-v0", completions=command.completions, **fields))


def played(env: gym.Env[Any, Any], choose: Choose, first: int, drops: int) -> tuple[NDArray[np.float64], float]:
    """Total power at the end of the episodes of so many seeds in W, NaN where the drop isn't served, and ms of processor time a drop."""
    total, spent = np.full(drops, np.nan), 0.0
    for i in range(drops):
        observation, info = env.reset(seed=first + i)
        start, over = time.process_time(), False
        while not over:
            observation, _, terminated, truncated, info = env.step(choose(observation, env))
            over = terminated or truncated
        spent += time.process_time() - start
        if info["feasible"]:
            total[i] = info["total_power_w"]
    return total, 1e3 * spent / drops


def learned(model: BaseAlgorithm) -> Choose:
    """The deterministic decisions of an agent, within the mask if it takes one."""

    def choose(observation: Observation, env: gym.Env[Any, Any]) -> Any:
        masks = {"action_masks": env.get_wrapper_attr("action_masks")()} if isinstance(model, MaskablePPO) else {}
        return model.predict(observation, deterministic=True, **masks)[0]

    return choose


def at_random(seed: int = 0) -> Choose:
    """Any move that the mask allows."""
    rng = np.random.default_rng(seed)
    return lambda observation, env: int(rng.choice(np.flatnonzero(observation["allowed"])))


def by_estimate(observation: Observation, env: gym.Env[Any, Any]) -> int:
    """The move of the highest estimate that the mask allows."""
    return int(np.argmax(np.where(observation["allowed"] > 0.0, observation["estimates"], -np.inf)))


class Marks(BaseCallback):
    """Calls `reached` whenever training has taken so many seconds more, and ends it after the last; those of `reached` don't count."""

    def __init__(self, seconds: Sequence[float], reached: Callable[[BaseAlgorithm, float], None]) -> None:
        super().__init__()
        self._seconds, self._reached = sorted(seconds), reached

    def _on_training_start(self) -> None:
        self._start = time.process_time()

    def _on_step(self) -> bool:
        if time.process_time() - self._start >= self._seconds[0]:
            now = time.process_time()
            self._reached(self.model, self._seconds.pop(0))
            self._start += time.process_time() - now
        return bool(self._seconds)


def compare(command: TracksCommand, report: Callable[[list[TrackResult]], None]) -> None:
    """Compare rules first, then the agent at every time; all rows so far are reported after each."""
    found: list[TrackResult] = []
    torch.set_num_threads(1)
    env, plain = environment(command), gym.make("CfIsac-v0", M=command.M, K=command.K, preset=command.preset)

    def row(name: str, choose: Choose, on: gym.Env[Any, Any], steps: int | None = None) -> None:
        total, ms = played(on, choose, seeds.TEST, command.drops)
        both = ~np.isnan(best) & ~np.isnan(total)
        served, gap = both.sum() / (~np.isnan(best)).sum(), (total[both] / best[both] - 1.0).mean()
        found.append(TrackResult(name, steps, float(served), float(gap), ms))
        report(found)

    def policy(name: str, **options: Any) -> Choose:
        made: Policy = baselines.make(name, **options)
        return lambda observation, env: made.predict(observation)[0]

    best, _ = played(plain, policy("local-search"), seeds.TEST, command.drops)
    row("most-informative", policy("most-informative"), plain)
    row("most-informative, 8 completions", policy("most-informative", completions=8), plain)
    row("most-informative-search", policy("most-informative-search"), plain)
    if isinstance(env.unwrapped, CfIsacImprovementEnv):
        row("random moves", at_random(), env)
        row("highest estimate first", by_estimate, env)

    def reached(model: BaseAlgorithm, seconds: float) -> None:
        row(f"{command.algorithm}, {seconds:g} s", learned(model), env, model.num_timesteps)

    venv = make_vec_env(lambda: environment(command), n_envs=command.envs, seed=seeds.of_run(command.seed))
    policy_class = RankingPolicy if command.policy == "RankingPolicy" else command.policy
    options = {} if command.n_steps is None else {"n_steps": command.n_steps}
    model = ALGORITHMS[command.algorithm](policy_class, venv, seed=command.seed, device="cpu", **options)
    if command.policy == "RankingPolicy":
        row("RankingPolicy, untrained", learned(model), env, 0)
    model.learn(10**9, callback=Marks(command.seconds, reached))


COLUMNS: tuple[Column[TrackResult], ...] = (
    Column("policy", lambda row: row.policy),
    Column("steps", lambda row: None if row.steps is None else f"{row.steps:,}", "nothing is trained"),
    Column("served", lambda row: f"{row.served:.1%}"),
    Column("gap to local-search", lambda row: f"{row.gap:.1%}"),
    Column("ms a drop", lambda row: f"{row.ms:.2f}"),
)


def main() -> None:
    """Run the command; its table is written after every row and shown at the end."""
    command = tyro.cli(TracksCommand, description=TracksCommand.__doc__)
    rows: list[TrackResult] = []

    def report(found: list[TrackResult]) -> None:
        rows[:] = found
        content = {"settings": {**vars(command), "out": str(command.out)}, "rows": [vars(row) for row in rows]}
        results.write(
            command.out, {f"{command.name}.md": Table(COLUMNS, rows).markdown(), f"{command.name}.json": content}
        )

    compare(command, report)
    Table(COLUMNS, rows).show(Console())


if __name__ == "__main__":
    main()
