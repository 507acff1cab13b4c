"""Checkpoints of training runs: numbers, text and tensors in safetensors, whole or not at all.

A pickled checkpoint (`torch.load`, Stable-Baselines3's zips, its replay buffers) runs whatever is hidden in it, before anything in it can
be checked. So none is ever loaded: models, optimisers and generators are built anew from the run's description, and filled with values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import tensorfile

FILE_FORMAT = "cfisac-checkpoint-1"

KEPT = 2
"""Checkpoints in a folder: where the newest cannot be read, a run goes on from the one before and ends the same."""

_TENSOR = "tensor of"


def save(folder: Path, done: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint beside the last one, and remove older ones.

    Args:
        folder: of the run.
        done: epochs or steps behind it.
        state: dicts with text as keys, lists, tensors, arrays and JSON values; tuples come back as lists.

    Raises:
        OSError: the disk is full, or the folder can't be written; the checkpoints before are as they were.
    """
    content, tensors = _packed(state)
    path = tensorfile.write(
        folder / f"checkpoint-{done}.safetensors", FILE_FORMAT, tensors, {"state": content}, {"state": _state({})}
    )
    for old in _found(folder)[KEPT:]:
        old.unlink()
    return path


def exists(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return bool(_found(folder))


def remove(folder: Path) -> None:
    """Remove every checkpoint of a folder."""
    for path in _found(folder):
        path.unlink()


def load(
    folder: Path, schema: tensorfile.Schema, about: Mapping[str, Any], complain: Callable[[str], None]
) -> dict[str, Any] | None:
    """The newest state in a folder that can be read; None when there is none at all.

    Args:
        folder: of the run.
        schema: of the state's JSON.
        about: values of `state["about"]`, which tell the run from others.
        complain: gets a line about each newer checkpoint that cannot be read.

    Raises:
        ValueError: no checkpoint can be read, or it is of another run, or an earlier version left pickled ones; these are not opened.
    """
    for pattern in ("*.ckpt", "checkpoint-*/*.pkl", "checkpoint-*/*.zip"):
        for path in sorted(folder.glob(pattern)):
            raise ValueError(
                f"{path} is a pickled checkpoint, which could run any code, so it is not opened; "
                f"remove {path if path.parent == folder else path.parent} to start over, or choose another folder"
            )
    whole = _state(schema)
    damaged: list[str] = []
    for path in _found(folder):
        try:
            tensors, header = tensorfile.read(path, FILE_FORMAT, {"state": whole}, "a training run")
            state: dict[str, Any] = _unpacked(header["state"], tensors)
        except (ValueError, KeyError) as error:
            damaged.append(f"{path} cannot be read ({error})")
            continue
        differing = [name for name, value in about.items() if state["about"].get(name) != value]
        if differing:
            raise ValueError(
                f"{path} is of a run with another {' and another '.join(differing)}; "
                "choose another folder, the same options, or not to resume"
            )
        for line in damaged:
            complain(f"{line}; going on from {path.name}")
        return state
    if damaged:
        raise ValueError(f"{damaged[0]}; remove the checkpoints in {folder} to start over")
    return None


def _state(schema: tensorfile.Schema) -> tensorfile.Schema:
    """Schema of a state with some entries besides `about`."""
    return {"type": "object", "properties": {"about": {"type": "object"}, **schema}, "required": ["about", *schema]}


def _found(folder: Path) -> list[Path]:
    """Paths of the checkpoints, the newest first."""
    numbers = {path: path.stem.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*.safetensors")}
    valid = [path for path, number in numbers.items() if number.isascii() and number.isdecimal()]
    return sorted(valid, key=lambda path: int(numbers[path]), reverse=True)


def _packed(state: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """JSON for a state, and its tensors and arrays under the names of their places; what stands in several of them is kept once."""
    tensors: dict[str, Tensor] = {}
    places: dict[Any, str] = {}

    def pack(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: pack(item, f"{name}/{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [pack(item, f"{name}/{i}") for i, item in enumerate(value)]
        if isinstance(value, np.ndarray):
            value = torch.as_tensor(value, device="cpu")
        if isinstance(value, Tensor):
            memory = (value.data_ptr() or name, value.shape, value.stride(), value.dtype)
            tensors.setdefault(places.setdefault(memory, name), value)
            return {_TENSOR: places[memory]}
        return value.item() if isinstance(value, np.generic) else value

    return pack(state, ""), tensors


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: _unpacked(item, tensors) for key, item in value.items()}
    return [_unpacked(item, tensors) for item in value] if isinstance(value, list) else value


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser knows, in the order of its parameters."""
    state = optimiser.state_dict()
    count = sum(len(group["params"]) for group in state["param_groups"])
    return {"each": [state["state"].get(i, {}) for i in range(count)], "groups": state["param_groups"]}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser over the same parameters what `optimiser_state` returned."""
    each = {i: one for i, one in enumerate(state["each"]) if one}
    optimiser.load_state_dict({"state": each, "param_groups": state["groups"]})
