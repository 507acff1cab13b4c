"""Training of `mobile-value`: evolution of its parameters on the energy and service of whole episodes."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents import checkpoint
from agents.mobile import storage
from agents.mobile.config import MobileTraining
from agents.mobile.episodes import Costs, Episode, Played, mean, play, prepare
from agents.mobile.evolution import Evolution
from agents.mobile.value import Value
from baselines.foresight.futures import Laws
from cfisac_env import SystemConfig, files, seeds

SLOW = ("begin", "begin_slope", "keep", "users", "spread_slope")
"""Parameters that are varied less."""

TASKS = (Costs(8.0, 0), Costs(2.0, 2))
"""Switching costs that the agent is trained for."""


@dataclass
class Result:
    """Course of a run."""

    curve: list[dict[str, float]] = field(default_factory=list)
    best: list[float] = field(default_factory=list)  # parameters
    best_cost: float = float("inf")
    seconds: float = 0.0  # processor time


def train(
    training: MobileTraining,
    config: SystemConfig,
    folder: Path,
    *,
    resume: bool = True,
    step: Callable[[int, str], None] = lambda generation, text: None,
    complain: Callable[[str], None] = warnings.warn,
) -> Result:
    """Train in a folder, or resume the run in it.

    Every generation compares its candidates on the same random batch of episodes, each played with all of `TASKS`. The cost of a candidate
    is its energy, plus `unserved_j` per unserved instant, relative to that of the initial parameters. The folder gets checkpoints,
    `curve.json`, and `best.json` with the parameters of the least cost on the validation episodes.

    Args:
        resume: False refuses a folder that holds a run.
        step: called with the generation and a summary of the last validation.
        complain: called with a line about every checkpoint that cannot be read.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        BlockingIOError: another process trains in the folder.
        ValueError: the folder holds another run, or the configuration has shared pilots.
    """
    if config.pilots_reused:
        raise ValueError("mobile-value is trained with orthogonal pilots; leave out pilot_length")
    files.check_writable(folder, folder=True)
    about = {"training": asdict(training), "config": config.as_dict()}
    with files.locked(folder):
        if not resume and checkpoint.exists(folder):
            raise FileExistsError(
                f"{folder} holds a run; leave out --no-resume to continue it, or choose another folder"
            )
        state = checkpoint.load(
            folder, {"evolution": {"type": "object"}, "result": {"type": "object"}}, about, complain
        )
        return _run(training, config, folder, about, state, step)


def _run(
    training: MobileTraining,
    config: SystemConfig,
    folder: Path,
    about: dict[str, Any],
    state: dict[str, Any] | None,
    step: Callable[[int, str], None],
) -> Result:
    begin = time.process_time()
    episodes = prepare(config, seeds.of_run(training.seed), training.episodes, Laws())
    held_out = prepare(config, seeds.VALIDATION, training.validation_episodes, Laws())
    usual = [_cost(play_all(episodes, Value(), costs), training) for costs in TASKS]
    evolution, result = _start(training), Result()
    if state is not None:
        numbers: dict[str, Any] = {
            name: np.array(value) if isinstance(value, list) else value for name, value in state["evolution"].items()
        }
        evolution, result = Evolution(**numbers), Result(**state["result"])
    before = result.seconds
    while evolution.generation <= training.generations:
        done = evolution.generation
        if done % training.validate_every == 0 or done == training.generations:
            row, cost = _validation(Value.of(evolution.mean), held_out, training, usual)
            if cost < result.best_cost:
                result.best_cost, result.best = cost, evolution.mean.tolist()
            result.seconds = before + time.process_time() - begin
            result.curve.append(
                {"generation": done, "seconds": result.seconds, "step": evolution.step, "cost": cost, **row}
            )
            storage.write_curve(folder / "curve.json", about, result.curve)
            storage.write(folder / "best.json", Value.of(np.array(result.best)), about, result.curve)
            step(done, f"cost {cost:.3f}")
        if done == training.generations:
            break
        rng = np.random.default_rng([training.seed, done])
        batch = [episodes[i] for i in rng.choice(len(episodes), training.batch, replace=False)]
        candidates = evolution.sample(rng, training.population)
        evolution.update(candidates, np.array([_relative(Value.of(one), batch, training, usual) for one in candidates]))
        result.seconds = before + time.process_time() - begin
        kept = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in evolution.state().items()
        }
        checkpoint.save(folder, evolution.generation, {"about": about, "evolution": kept, "result": asdict(result)})
        step(evolution.generation, "")
    return result


def _start(training: MobileTraining) -> Evolution:
    names = [field.name for field in dataclasses.fields(Value)]
    return Evolution.start(Value().vector(), training.step, np.where(np.isin(names, SLOW), 0.4, 1.0))


def play_all(episodes: list[Episode], value: Value, costs: Costs) -> list[Played]:
    """Play every episode."""
    return [play(episode, value, costs) for episode in episodes]


def _cost(rows: list[Played], training: MobileTraining) -> float:
    return mean(rows, "energy_j") + training.unserved_j * mean(rows, "unserved")


def _relative(value: Value, episodes: list[Episode], training: MobileTraining, usual: list[float]) -> float:
    """Compute the cost relative to that of the initial parameters, averaged over the tasks."""
    costs = [_cost(play_all(episodes, value, task), training) for task in TASKS]
    return float(np.mean(np.array(costs) / usual))


def _validation(
    value: Value, episodes: list[Episode], training: MobileTraining, usual: list[float]
) -> tuple[dict[str, float], float]:
    """Measure the parameters on the validation episodes; return the measures of each task, and the relative cost."""
    row: dict[str, float] = {}
    relative: list[float] = []
    for task, own in zip(TASKS, usual, strict=True):
        rows = play_all(episodes, value, task)
        name = f"{task.energy_j:g} J, {task.wake_up_steps} steps"
        row[f"energy_j at {name}"] = mean(rows, "energy_j")
        row[f"served at {name}"] = 1.0 - mean(rows, "unserved") / len(episodes[0])
        relative.append(_cost(rows, training) / own)
    return row, float(np.mean(relative))
