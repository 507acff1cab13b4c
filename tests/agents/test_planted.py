"""Files from elsewhere are data: a pickle that is planted in the place of any of them is refused, and never runs."""

from __future__ import annotations

import gc
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import agents
from agents.hetgnn import training as hetgnn_training
from agents.hetgnn import weights
from agents.hetgnn.config import NetworkConfig, TrainingConfig
from agents.hetgnn.data import Labelled, prepare
from agents.hetgnn.labels import Labels, label
from agents.rl import training as rl_training
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from cfisac_env import SystemConfig
from experiments.cli import main

CONFIG = SystemConfig(8, 2, crlb_threshold_m2=20.0)
STEPS: dict[str, Any] = {
    "steps": 32, "envs": 4, "batch_size": 8, "warm_up": 8, "validate_every": 32, "checkpoint_every": 16,
}  # fmt: skip
RUN = Run("ddpg-paper", CONFIG, hyper_parameters("ddpg-paper", **STEPS), validation_drops=1)
TRAINING = TrainingConfig(NetworkConfig(1, (8,), (8,), 8, steps=2), epochs=2)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def pickled(payload: Payload) -> bytes:
    return pickle.dumps({"config": payload, "state": payload})


def torch_file(payload: Payload) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": payload}, stream)
    return stream.getvalue()


def sb3_zip(payload: Payload) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data", '{"policy_class": {":serialized:": "' + pickle.dumps(payload).hex() + '"}}')
        archive.writestr("policy.pth", torch_file(payload))
    return stream.getvalue()


def numpy_file(payload: Payload) -> bytes:
    stream = io.BytesIO()
    hidden = np.array(payload, dtype=object)
    np.savez(stream, format=hidden, config=hidden, policy=hidden, seeds=hidden)
    return stream.getvalue()


KINDS: dict[str, Callable[[Payload], bytes]] = {
    "pickle": pickled, "torch": torch_file, "Stable-Baselines3": sb3_zip, "NumPy": numpy_file,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_payload_would_run(kind: str, tmp_path: Path) -> None:
    content = KINDS[kind](Payload(tmp_path / "mark"))
    if kind == "NumPy":
        np.load(io.BytesIO(content), allow_pickle=True)["seeds"]
    elif kind == "Stable-Baselines3":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=False)
    elif kind == "torch":
        torch.load(io.BytesIO(content), weights_only=False)
    else:
        pickle.loads(content)
    assert (tmp_path / "mark").exists()


@pytest.fixture(scope="module")
def groups() -> list[Labelled]:
    return prepare([label(SystemConfig(6, 2), range(10), "modified-bb")])


@pytest.fixture(scope="module")
def begun(groups: list[Labelled], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a finished run of each kind."""
    folder = tmp_path_factory.mktemp("begun")
    hetgnn_training.train(TRAINING, groups, groups, folder / "hetgnn")
    rl_training.train(RUN, folder / "rl")
    return folder


RESUMED = {
    "hetgnn": ("last.ckpt", "best.ckpt", "checkpoint-2.safetensors"),
    "rl": (
        "checkpoint-32/state.pkl", "checkpoint-32/replay.pkl", "checkpoint-32/model.zip", "checkpoint-32.safetensors",
        "checkpoint-64.safetensors", "run.json", "oracle.json",
    ),
}  # fmt: skip
PLACES = [(runner, name) for runner, names in RESUMED.items() for name in names]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("runner", "name"), PLACES)
def test_resuming_never_runs_planted_files(
    runner: str, name: str, kind: str, begun: Path, groups: list[Labelled], tmp_path: Path
) -> None:
    folder, mark = tmp_path / "run", tmp_path / "mark"
    folder.mkdir()
    for path in (begun / runner).glob("*"):
        if path.is_file() and not path.name.startswith("checkpoint"):
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(KINDS[kind](Payload(mark)))
    runs: dict[str, Callable[[], Any]] = {
        "hetgnn": lambda: hetgnn_training.train(TRAINING, groups, groups, folder),
        "rl": lambda: rl_training.train(RUN, folder),
    }
    with pytest.raises(ValueError, match=Path(name).name):
        runs[runner]()
    gc.collect()
    assert not mark.exists()


LOADERS: dict[str, Callable[[Path], Any]] = {
    "weights of a HetGNN": weights.load,
    "agents.load, path": lambda path: agents.load("hetgnn", path=path),
    "agents.load, weights": lambda path: agents.load("ddpg", weights=path),
    "labels": Labels.load,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loader", LOADERS)
def test_loading_never_runs_planted_files(loader: str, kind: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "file.npz", tmp_path / "mark"
    path.write_bytes(KINDS[kind](Payload(mark)))
    with pytest.raises(ValueError, match=r"file\.npz"):
        LOADERS[loader](path)
    gc.collect()
    assert not mark.exists()


def test_the_command_refuses_a_pickled_checkpoint_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, run = tmp_path / "mark", tmp_path / "run"
    (run / "checkpoint-16").mkdir(parents=True)
    (run / "checkpoint-16" / "state.pkl").write_bytes(pickled(Payload(mark)))
    assert main(["train", "ddpg-paper", "--M", "8", "--K", "2", "--out", str(run)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "state.pkl is a pickled checkpoint, which could run any code, so it is not opened; remove" in error
    assert not mark.exists()
