"""`python -m experiments.bench.tracking`: rules, a learned agent and the true positions on the same episodes of `CfIsacTracking-v0`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium import spaces
from numpy.typing import NDArray
from rich.console import Console
from stable_baselines3 import SAC

from baselines.tracking import TrackingPolicy, at_several_positions
from cfisac_env import observations, physics, seeds
from cfisac_env.config import nearest
from cfisac_env.tracking import CfIsacTrackingEnv
from experiments.results import Column, Result, Table, number, percent, span
from experiments.statistics import Interval, bootstrap

FIELDS: Mapping[str, Any] = {"M": 30, "K": 6, "T": 2, "preset": "paper", "step_s": 0.5, "episode_steps": 40}
"""Arguments of the environment: the sensing requirement sets the power."""

SEARCH: Mapping[str, Any] = {"kicks": 0, "starts": ("greedy",)}
"""Options of the local search, the same for every policy."""

UNSERVED_W = 3.0
"""Power that an instant costs the learning agent if it misses a requirement."""

MOST = np.array([0.4, 4.0])
"""Largest margin and spread that the agent may choose."""

RULES: Mapping[str, Mapping[str, Any]] = {
    "all-on": {},
    "myopic": {},
    "margin-5": {"margin": 0.05},
    "margin-10": {"margin": 0.10},
    "spread-1": {"spread": 1.0},
    "spread-2": {"spread": 2.0},
    "spread-3": {"spread": 3.0},
    "spread-2-margin-20": {"spread": 2.0, "margin": 0.2},
}
"""Options of `TrackingPolicy`; the myopic policy aims at the requirement at the mean of the belief."""

Decide = Callable[[dict[str, NDArray[Any]]], NDArray[np.float32]]


def features(observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Summarise an observation for the agent, (8,) within ±3.

    log10 of ν over the variance of the predicted position, of its least and largest eigenvalue; log10 of CRLB/ν with every AP at P_max, at
    the mean and at the worst of four positions two standard deviations away; distances of the nearest AP and receiver in standard
    deviations; the distance from the centre; and the remaining share of the episode.
    """
    problem = observations.decode(observation)
    assert problem.prior is not None
    nu = problem.crlb_threshold_m2
    a, b, c = problem.prior[0]
    middle, half = (a + b) / 2.0, np.hypot((a - b) / 2.0, c)
    full = np.full(problem.M, problem.max_ap_power_w)
    several = at_several_positions(problem, observation, 2.0)
    crlb = physics.crlb(full, several.fisher, several.prior) / nu
    spread = np.sqrt(np.trace(observation["covariance"][0, :2, :2]))
    mean = observation["target"][0]
    far = [np.linalg.norm(observation[key][:, :2] - mean, axis=-1).min() / spread for key in ("ap", "sr")]
    values = [
        *np.log10(np.maximum([nu * (middle - half), nu * (middle + half)], 1e-3)), *np.log10([crlb[0], crlb.max()]),
        *np.log10(np.maximum(far, 1e-3)), np.hypot(*mean), observation["sequence"][3] / FIELDS["episode_steps"],
    ]  # fmt: skip
    return np.clip(np.array(values, dtype=np.float32), -3.0, 3.0)


class InformationEnv(gym.Wrapper[Any, Any, Any, Any]):
    """`CfIsacTracking-v0` with the action (margin, spread) of `TrackingPolicy`, which decides on APs and powers.

    The reward is −P − 3 W · (a requirement is missed).
    """

    def __init__(self) -> None:
        super().__init__(gym.make("CfIsacTracking-v0", **FIELDS))
        self.observation_space = spaces.Box(-3.0, 3.0, (8,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._seed = seeds.of_run(0)
        self._last: dict[str, NDArray[Any]] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next training episode."""
        self._last, info = self.env.reset(seed=self._seed)
        self._seed += 1
        return features(self._last), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Decide with the chosen margin and spread."""
        self._last, _, terminated, truncated, info = self.env.step(decision(self._last, action))
        reward = -float(info["total_power_w"]) - UNSERVED_W * (not info["feasible"])
        return features(self._last), reward, terminated, truncated, info


def decision(observation: dict[str, NDArray[Any]], action: NDArray[Any]) -> NDArray[np.float32]:
    """Decide with the margin and spread of an action in [-1, 1]²."""
    margin, spread = MOST * (np.clip(action, -1.0, 1.0) + 1.0) / 2.0
    return TrackingPolicy(margin=float(margin), spread=float(spread), **SEARCH).predict(observation)[0]


def train(steps: int, seed: int) -> tuple[SAC, float]:
    """Train the agent; return it and the processor time in s."""
    begin = time.process_time()
    agent = SAC(
        "MlpPolicy", InformationEnv(), gamma=0.8, learning_rate=1e-3, learning_starts=500, batch_size=128, seed=seed,
        policy_kwargs={"net_arch": [32, 32]}, device="cpu",
    )  # fmt: skip
    agent.learn(steps)
    return agent, time.process_time() - begin


@dataclass(frozen=True)
class Row:
    """Statistics of a policy over the episodes."""

    policy: str
    energy_j: Interval
    served: float
    transmit_j: float
    active_aps: float
    bound_m2: float  # mean posterior bound at the true positions
    square_error_m2: float
    step_ms: float


def play(name: str, episodes: int, seed: int, agent: SAC | None = None) -> tuple[Row, NDArray[np.float64]]:
    """Play test episodes; return statistics and the energy of each."""
    env = gym.make("CfIsacTracking-v0", **FIELDS)
    core = env.unwrapped
    assert isinstance(core, CfIsacTrackingEnv)
    decide = _decide(name, env, agent)
    energy, infos, seconds = [], [], 0.0
    for episode in range(seed, seed + episodes):
        observation, _ = env.reset(seed=episode)
        over = False
        while not over:
            begin = time.process_time()
            action = decide(observation)
            seconds += time.process_time() - begin
            observation, _, _, over, info = env.step(action)
            infos.append(info)
        energy.append(float(info["episode_energy_j"]))

    def mean(values: list[Any]) -> float:
        return float(np.mean(values))

    row = Row(
        policy=name,
        energy_j=bootstrap(np.array(energy)),
        served=mean([info["feasible"] for info in infos]),
        transmit_j=sum(float(info["transmit_power_w"]) for info in infos) * core.step_s / episodes,
        active_aps=mean([info["active_aps"] for info in infos]),
        bound_m2=mean([info["crlb_m2"] for info in infos]),
        square_error_m2=mean([np.square(info["position_error_m"]) for info in infos]),
        step_ms=1e3 * seconds / len(infos),
    )
    return row, np.array(energy)


def _decide(name: str, env: Any, agent: SAC | None) -> Decide:
    if name == "learned":
        assert agent is not None
        return lambda observation: decision(observation, agent.predict(features(observation), deterministic=True)[0])
    if name == "all-on":
        from baselines import make

        return lambda observation: make("full-ap").predict(observation)[0]
    options = {"env": env} if name == "true-position" else RULES[name]
    policy = TrackingPolicy(**options, **SEARCH)
    return lambda observation: policy.predict(observation)[0]


COLUMNS: tuple[Column[Row], ...] = (
    Column("policy", lambda row: row.policy),
    Column("energy J", lambda row: number(row.energy_j.value, "{:.2f}")),
    Column("95 % interval", lambda row: span(row.energy_j, "{:.2f}")),
    Column("served", lambda row: percent(row.served, 1)),
    Column("transmit J", lambda row: number(row.transmit_j, "{:.2f}")),
    Column("active APs", lambda row: number(row.active_aps, "{:.2f}")),
    Column("posterior bound m²", lambda row: number(row.bound_m2, "{:.3f}")),
    Column("square error m²", lambda row: number(row.square_error_m2, "{:.3f}")),
    Column("ms a step", lambda row: number(row.step_ms, "{:.1f}")),
)


def run(
    policies: Annotated[tuple[str, ...], tyro.conf.arg(help="names of rules; `learned`; `true-position`")] = (
        *RULES, "learned", "true-position",
    ),
    episodes: Annotated[int, tyro.conf.arg(help="number of test episodes")] = 24,
    steps: Annotated[int, tyro.conf.arg(help="training steps of `learned`")] = 3000,
    seed: Annotated[int, tyro.conf.arg(help="of `learned`")] = 0,
    out: Annotated[Path, tyro.conf.arg(help="folder of the results")] = Path("runs/tracking"),
) -> None:  # fmt: skip
    """Train the agent on training seeds, and compare policies on the same test episodes; writes tracking.json, .csv and .md."""
    known = [*RULES, "learned", "true-position"]
    for name in policies:
        if name not in known:
            raise SystemExit(f"unknown policy {name!r}{nearest(name, known)}; valid ones: {', '.join(known)}")
    torch.set_num_threads(1)
    agent, training_s = train(steps, seed) if "learned" in policies else (None, 0.0)
    played = []
    for name in policies:
        played.append(play(name, episodes, seeds.TEST, agent))
        rows = [row for row, _ in played]
        content: dict[str, Any] = {
            "module": "experiments.bench.tracking", "environment": FIELDS, "search": SEARCH, "rules": RULES,
            "seeds": [seeds.TEST, seeds.TEST + episodes - 1], "rows": rows, "episodes": {row.policy: energy for row, energy in played},
        }  # fmt: skip
        if agent is not None:
            content["training"] = {"steps": steps, "seed": seed, "unserved_w": UNSERVED_W, "processor_s": training_s}
        title = f"{episodes} episodes from seed {seeds.TEST:,}"
        result = Result("tracking", [Table(COLUMNS, rows, title)], content, rows)
        result.write(out)  # complete rows remain if the run is stopped
    result.show(out, Console(), [])


if __name__ == "__main__":
    tyro.cli(run, prog="python -m experiments.bench.tracking")
