"""Training runs with validation against an oracle, the best agent kept, and exact resumption."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from agents import checkpoint, defaults, tensorfile
from agents.events import Events
from agents.rl import storage
from agents.rl.agent import agent_of
from agents.rl.building import build
from agents.rl.checkpoint import SCHEMA, continue_in, restore, state_of
from agents.rl.run import Run
from agents.rl.training_envs import training_environments
from agents.rl.validation import Validation
from cfisac_env import files

BEST = "best.safetensors"
CURVE = "curve.json"
ORACLE = "oracle.json"
RUN = "run.json"


@dataclass
class Progress:
    """State of a run besides the model."""

    next_validation: int = 0
    next_checkpoint: int = 0
    best: float = -math.inf
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def train(
    run: Run,
    folder: Path,
    *,
    resume: bool = True,
    device: str = "cpu",
    step: Callable[[int, str], None] = lambda steps, text: None,
    complain: Callable[[str], None] = warnings.warn,
) -> Progress:
    """Train an agent in a folder, or resume the run in it.

    The folder gets `run.json`, `curve.json` (one entry per validation), `best.safetensors` (the agent with the best validation reward so
    far), TensorBoard events, and checkpoints with the model, its replay buffer and the state of every random generator: a run that was
    killed and resumed ends with the same weights as one that wasn't.

    Args:
        run: to train.
        folder: of the run; only one process may use it at a time.
        resume: False refuses a folder that holds a run.
        device: of torch, or `gpu`, or `auto`.
        step: called with the environment steps so far and a summary of the last validation.
        complain: called with a line about every checkpoint that cannot be read.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        BlockingIOError: another process trains in the folder.
        OSError: the folder is a file or lies in one, it can't be written, or its disk is full; the last checkpoint is whole.
        ValueError: the folder holds another run, and the message says what differs; or what it holds is damaged, torch has no such device,
            the oracle serves no validation drop, or training diverges.
    """
    chosen = defaults.device(device)
    files.check_writable(folder, folder=True)
    with files.locked(folder):
        _refuse_others(folder, run, resume)
        state = checkpoint.load(folder, {"progress": {"type": "object"}, **SCHEMA}, {"run": _about(run)}, complain)
        validation = Validation(
            run.config, run.validation_drops, run.parameters.missed_w, _known(folder, run.validation_drops)
        )
        with defaults.float32_on_cpu():
            model = build(run, training_environments(run), str(chosen))
            progress = Progress(next_checkpoint=run.parameters.checkpoint_every)
            _claim(folder, run, validation)
            if state is not None:
                try:
                    restore(model, state)
                    continue_in(model, training_environments(run), state)
                    progress = Progress(**state["progress"])
                except (KeyError, TypeError, ValueError, RuntimeError) as error:
                    raise ValueError(
                        f"the checkpoint in {folder} doesn't fit its run ({error}); remove it to start over"
                    ) from None
            with Events(folder / "tensorboard") as events:
                model.set_logger(Logger(str(folder / "tensorboard"), [_Scalars(events)]))
                try:
                    _learn(model, run, _Validator(run, folder, validation, progress, step))
                finally:
                    if model.env is not None:
                        model.env.close()
    return progress


def _learn(model: BaseAlgorithm, run: Run, validator: _Validator) -> None:
    left = run.parameters.steps - model.num_timesteps
    try:
        if left > 0:
            model.learn(left, callback=validator, reset_num_timesteps=model.num_timesteps == 0)
    except ValueError as error:  # environments and distributions refuse NaN, each in words of its own
        if all(torch.isfinite(parameter).all() for parameter in model.policy.parameters()):
            raise
        raise ValueError(
            f"training diverged: after {model.num_timesteps} steps the weights aren't finite any more; "
            "lower learning_rate (or reward_scale or penalty, where the algorithm has them), and train in another folder"
        ) from error


class _Scalars(KVWriter):
    """Write Stable-Baselines3's log as TensorBoard events."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write the numbers."""
        numbers = {key: value for key, value in key_values.items() if isinstance(value, int | float | np.number)}
        self._events.add(
            step,
            {key: float(value) for key, value in numbers.items() if "tensorboard" not in (key_excluded[key] or ())},
        )

    def close(self) -> None:
        """Leave the events open; the run closes them."""


class _Validator(BaseCallback):
    """Validate, keep the best agent and write checkpoints, always between two rollouts, where the model's state is complete."""

    def __init__(
        self, run: Run, folder: Path, validation: Validation, progress: Progress, step: Callable[[int, str], None]
    ) -> None:
        super().__init__()
        self._run, self._folder, self._validation = run, folder, validation
        self._progress, self._step = progress, step
        self._text = ""
        self._since = time.process_time()

    def _on_rollout_start(self) -> None:
        parameters, steps = self._run.parameters, self.num_timesteps
        if steps >= self._progress.next_validation:
            self._progress.next_validation += parameters.validate_every
            self._validate()
        if steps >= self._progress.next_checkpoint:
            self._progress.next_checkpoint += parameters.checkpoint_every
            self._save()
        self._step(steps, self._text)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._validate(last=True)
        self._save()
        self._step(self.num_timesteps, self._text)

    def _validate(self, last: bool = False) -> None:
        self._clock()
        # The initial policy isn't a trained agent.
        learned = last or self.num_timesteps >= self._run.parameters.learns_from
        score = asdict(self._validation.score(agent_of(self.model.policy, self._run)))
        for name, value in score.items():
            self.logger.record(f"validation/{name}", value)
        self.logger.dump(self.num_timesteps)
        progress = self._progress
        progress.curve.append({"steps": self.num_timesteps, "seconds": progress.seconds, **score})
        if learned and score["reward"] > progress.best:
            progress.best = score["reward"]
            storage.write(self._folder / BEST, self._run, self.model.policy, progress.curve[-1])
        storage.write_json(self._folder / CURVE, {"run": self._run.as_dict(), "curve": progress.curve}, storage.CURVE)
        gap = "" if math.isnan(score["gap"]) else f", gap {100 * score['gap']:.1f} %"
        self._text = f"{100 * score['feasible']:.0f} % feasible{gap}"
        self._since = time.process_time()

    def _clock(self) -> None:
        """Add the processor time since the last call to the training time."""
        now = time.process_time()
        self._progress.seconds += now - self._since
        self._since = now

    def _save(self) -> None:
        self._clock()
        state = {"about": {"run": _about(self._run)}, "progress": asdict(self._progress), **state_of(self.model)}
        checkpoint.save(self._folder, self.num_timesteps, state)
        continue_in(self.model, training_environments(self._run), state)
        self._since = time.process_time()


def _about(run: Run) -> dict[str, Any]:
    """Return the run as JSON values."""
    about: dict[str, Any] = json.loads(json.dumps(run.as_dict()))
    return about


def _refuse_others(folder: Path, run: Run, resume: bool) -> None:
    """Refuse a folder with another run."""
    if not (folder / RUN).exists():
        parts = [ORACLE] if (folder / ORACLE).exists() else []
        parts += ["a checkpoint"] if checkpoint.exists(folder) else []
        if parts:
            raise ValueError(f"{folder} holds {' and '.join(parts)} of a run, but no {RUN}; choose another folder")
        return
    if not resume:
        raise FileExistsError(
            f"{folder} holds a run already; choose another folder, or leave resuming on to go on with it"
        )
    differing = _differences(_stored(folder / RUN, storage.RUN), _about(run))
    if differing:
        raise ValueError(
            f"{folder} holds another run, which differs in {'; '.join(differing)}; choose another folder, or the same options"
        )


def _claim(folder: Path, run: Run, validation: Validation) -> None:
    """Write the run and the oracle's total powers, unless they are there."""
    if not (folder / RUN).exists():
        storage.write_json(folder / RUN, run.as_dict(), storage.RUN)
    if not (folder / ORACLE).exists():
        totals = [None if math.isnan(x) else float(x) for x in validation.oracle_w]
        storage.write_json(folder / ORACLE, {"total_power_w": totals}, storage.ORACLE)


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in here.keys() | there.keys():
        ours, theirs = here.get(key), there.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += _differences(theirs, ours, f"{key}.")
        elif ours != theirs:
            found.append(f"{prefix}{key} (there {theirs!r}, now {ours!r})")
    return sorted(found)


def _known(folder: Path, drops: int) -> NDArray[np.float64] | None:
    """Read the oracle's total powers on the validation drops, if they are there."""
    try:
        totals = _stored(folder / ORACLE, storage.ORACLE)["total_power_w"]
    except FileNotFoundError:
        return None
    if len(totals) != drops:
        raise ValueError(
            f"{folder / ORACLE} holds {len(totals)} drops, the run has {drops}; "
            "train in another folder, or remove this folder to start over"
        )
    return np.array([math.nan if x is None else x for x in totals], dtype=np.float64)


def _stored(path: Path, schema: tensorfile.Schema) -> dict[str, Any]:
    """Read a JSON object of the folder."""
    try:
        content: dict[str, Any] = tensorfile.read_json(path, schema)
    except ValueError as error:
        raise ValueError(f"{error}; train in another folder, or remove this folder to start over") from None
    return content
