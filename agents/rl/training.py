"""Training runs that validate themselves against an oracle, keep the best agent, and go on exactly where they were killed."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.rl import storage
from agents.rl.agent import agent_of
from agents.rl.models import CLASSES, Run, ScaledReward, build, training_environments
from agents.rl.parameters import OffPolicy
from agents.rl.validation import Validation

BEST = "best.safetensors"
CURVE = "curve.json"
ORACLE = "oracle.json"
RUN = "run.json"


@dataclass
class Progress:
    """What a run has to remember besides the model."""

    next_validation: int = 0
    next_checkpoint: int = 0
    best: float = -math.inf
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def train(
    run: Run,
    folder: Path,
    *,
    drops: int = 50,
    resume: bool = True,
    device: str = "cpu",
    step: Callable[[int, str], None] = lambda steps, text: None,
) -> Progress:
    """Train an agent in a folder, or go on with the run that is there.

    The folder gets `run.json`, `curve.json` (one entry a validation), `best.safetensors` (the agent with the best validation reward so
    far), TensorBoard events, and a checkpoint with the model, its replay buffer, its environments and the state of every random
    generator: a run that was killed and taken up again ends with the weights it would have ended with.

    Args:
        run: what to train.
        folder: of the run.
        drops: validation drops.
        resume: False refuses a folder that holds a run.
        device: of torch.
        step: called with the environment steps so far and what the last validation said.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        NotADirectoryError: the folder is a file, or lies in one.
        ValueError: the folder holds another run, and the message says what differs; or what it holds is damaged, torch has no such device,
            the oracle serves no validation drop, or training diverges.
    """
    _refuse_device(device)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{folder}, or what it lies in, is a file; name another folder for the run") from None
    _refuse_others(folder, run, drops, resume)
    validation = Validation(run.config, drops, run.parameters.penalty, _known(folder))
    found = _newest(folder)
    if found is None:
        venv = training_environments(run)
        model, progress = build(run, venv, device), Progress(next_checkpoint=run.parameters.checkpoint_every)
    else:
        model, venv, progress = _restore(found, run, device)
    _claim(folder, run, validation)
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    watch = _Watch(run, folder, validation, progress, step)
    left = run.parameters.steps - model.num_timesteps
    try:
        if left > 0:
            model.learn(left, callback=watch, reset_num_timesteps=found is None)
    except ValueError as error:  # environments and distributions refuse NaN, each in words of its own
        if all(torch.isfinite(parameter).all() for parameter in model.policy.parameters()):
            raise
        raise ValueError(
            f"training diverged: after {model.num_timesteps} steps the weights aren't finite any more; "
            "lower learning_rate, reward_scale or penalty, and train in another folder"
        ) from error
    finally:
        model.logger.close()
        venv.close()
    return progress


class _Watch(BaseCallback):
    """Validates, keeps the best, writes checkpoints: always between two rollouts, where the model's state is whole."""

    def __init__(
        self, run: Run, folder: Path, validation: Validation, progress: Progress, step: Callable[[int, str], None]
    ) -> None:
        super().__init__()
        self._run, self._folder, self._validation = run, folder, validation
        self._progress, self._step = progress, step
        self._text = ""
        self._since = time.perf_counter()

    def _on_rollout_start(self) -> None:
        parameters, steps = self._run.parameters, self.num_timesteps
        if isinstance(parameters, OffPolicy):
            assert isinstance(self.model, OffPolicyAlgorithm)
            self.model.gradient_steps = 0 if steps < parameters.warm_up else parameters.gradient_steps
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
        # The initial policy is no trained agent.
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
        storage.write_json(self._folder / CURVE, {"run": self._run.as_dict(), "curve": progress.curve})
        self._text = f"{100 * score['feasible']:.0f} % feasible, gap {100 * score['gap']:.1f} %"
        self._since = time.perf_counter()

    def _clock(self) -> None:
        """Count the time since the last look as training."""
        now = time.perf_counter()
        self._progress.seconds += now - self._since
        self._since = now

    def _save(self) -> None:
        self._clock()
        target = self._folder / f"checkpoint-{self.num_timesteps}"
        partial = self._folder / "checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        self.model.save(partial / "model.zip")
        if isinstance(self.model, OffPolicyAlgorithm):
            self.model.save_replay_buffer(partial / "replay.pkl")
        assert isinstance(self.model.env, ScaledReward)
        state = {"venv": self.model.env.venv, "progress": self._progress, "random": _random_state()}
        (partial / "state.pkl").write_bytes(pickle.dumps(state))
        if not target.exists():
            partial.rename(target)
        for other in self._folder.glob("checkpoint*"):
            if other != target:
                shutil.rmtree(other)
        self._since = time.perf_counter()


def _restore(checkpoint: Path, run: Run, device: str) -> tuple[BaseAlgorithm, VecEnv, Progress]:
    try:
        state = pickle.loads((checkpoint / "state.pkl").read_bytes())
        venv = ScaledReward(state["venv"], run.parameters.reward_scale)
        model = CLASSES[run.algorithm].load(checkpoint / "model.zip", env=venv, device=device, force_reset=False)
        if isinstance(model, OffPolicyAlgorithm):
            model.load_replay_buffer(checkpoint / "replay.pkl")
    except Exception as error:  # zipfile, pickle and torch each have their own for damaged bytes
        raise ValueError(f"{checkpoint} cannot be read ({error}); remove it to start over") from error
    _set_random_state(state["random"])
    return model, venv, state["progress"]


def _newest(folder: Path) -> Path | None:
    """The last whole checkpoint."""
    steps = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*") if path.is_dir()}
    return max((path for path in steps if steps[path].isdecimal()), key=lambda path: int(steps[path]), default=None)


def _random_state() -> dict[str, Any]:
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 (what Stable-Baselines3 draws from)
    torch.set_rng_state(state["torch"])


def _refuse_device(device: str) -> None:
    """Refuse what torch cannot compute on; Stable-Baselines3 would take the CPU in silence where there is no CUDA."""
    if device == "auto":
        return
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"torch cannot compute on the device {device!r} here ({reason}); leave it at cpu") from None


def _refuse_others(folder: Path, run: Run, drops: int, resume: bool) -> None:
    """Refuse a folder with a run that isn't this one."""
    if not (folder / RUN).exists():
        parts = [path.name for path in (folder / ORACLE, _newest(folder)) if path is not None and path.exists()]
        if parts:
            raise ValueError(f"{folder} holds {' and '.join(parts)} of a run, but no {RUN}; choose another folder")
        return
    if not resume:
        raise FileExistsError(
            f"{folder} holds a run already; choose another folder, or leave resuming on to go on with it"
        )
    differing = _differences(_stored(folder / RUN), json.loads(json.dumps(run.as_dict())))
    known = _known(folder)
    if known is not None and len(known) != drops:
        differing.append(f"validation drops (there {len(known)}, now {drops})")
    if differing:
        raise ValueError(
            f"{folder} holds another run, which differs in {'; '.join(differing)}; choose another folder, or the same options"
        )


def _claim(folder: Path, run: Run, validation: Validation) -> None:
    """Write what the folder is for, and what the oracle said, unless that is there."""
    if not (folder / RUN).exists():
        storage.write_json(folder / RUN, run.as_dict())
    if not (folder / ORACLE).exists():
        totals = [None if math.isnan(x) else float(x) for x in validation.oracle_w]
        storage.write_json(folder / ORACLE, {"total_power_w": totals})


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in here.keys() | there.keys():
        ours, theirs = here.get(key), there.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += _differences(theirs, ours, f"{key}.")
        elif ours != theirs:
            found.append(f"{prefix}{key} (there {theirs!r}, now {ours!r})")
    return sorted(found)


def _known(folder: Path) -> NDArray[np.float64] | None:
    """What the oracle has said about the validation drops, if it was asked."""
    path = folder / ORACLE
    if not path.exists():
        return None
    try:
        return np.array([math.nan if x is None else x for x in _stored(path)["total_power_w"]], dtype=np.float64)
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _stored(path: Path) -> dict[str, Any]:
    """A JSON object of the folder."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from None
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds a {type(content).__name__}")
    return content


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(f"{path} is damaged ({reason}); train in another folder, or remove this folder to start over")
