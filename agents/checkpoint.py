"""Checkpoints of training runs: numbers, text and tensors in safetensors, written atomically.

A pickled checkpoint (`torch.load`, Stable-Baselines3's zips and replay buffers) can run code before anything in it is checked, so none is
ever loaded: models, optimisers and generators are rebuilt from the run's description and filled with values.
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
"""Checkpoints kept in a folder: if the newest cannot be read, a run resumes from the one before and ends the same."""

_TENSOR = "tensor of"


def save(folder: Path, done: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint, and remove all older ones but one.

    Args:
        done: epochs or steps completed.
        state: dicts with text as keys, lists, tensors, arrays and JSON values; tuples come back as lists.

    Raises:
        OSError: the disk is full, or the folder can't be written; earlier checkpoints are unchanged.
    """
    content, tensors = _packed(state)
    path = tensorfile.write(
        folder / f"checkpoint-{done}.safetensors", FILE_FORMAT, tensors, {"state": content}, {"state": _state({})}
    )
    for old in _found(folder)[KEPT:]:
        old.unlink()
    return path


def exists(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint."""
    return bool(_found(folder))


def remove(folder: Path) -> None:
    """Remove all checkpoints of a folder."""
    for path in _found(folder):
        path.unlink()


def load(
    folder: Path, schema: tensorfile.Schema, identity: Mapping[str, Any], warn: Callable[[str], None]
) -> dict[str, Any] | None:
    """Load the newest readable state of a folder; None without any checkpoint.

    Args:
        identity: of the run, compared with `state["about"]`.
        warn: called with a line about each newer checkpoint that cannot be read.

    Raises:
        ValueError: no checkpoint can be read, it is of another run, or an earlier version left pickled ones, which are not opened.
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
        differing = [name for name, value in identity.items() if state["about"].get(name) != value]
        if differing:
            raise ValueError(
                f"{path} is of a run with another {' and another '.join(differing)}; "
                "choose another folder, the same options, or not to resume"
            )
        for line in damaged:
            warn(f"{line}; going on from {path.name}")
        return state
    if damaged:
        raise ValueError(f"{damaged[0]}; remove the checkpoints in {folder} to start over")
    return None


def _state(schema: tensorfile.Schema) -> tensorfile.Schema:
    """Build the schema of a state with some entries besides `about`."""
    return {"type": "object", "properties": {"about": {"type": "object"}, **schema}, "required": ["about", *schema]}


def _found(folder: Path) -> list[Path]:
    """List the paths of the checkpoints, the newest first."""
    numbers = {path: path.stem.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*.safetensors")}
    valid = [path for path, number in numbers.items() if number.isascii() and number.isdecimal()]
    return sorted(valid, key=lambda path: int(numbers[path]), reverse=True)


def _packed(state: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Split a state into JSON and tensors named by their place; a tensor at several places is stored once."""
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
    """Return the state of an optimiser, in the order of its parameters."""
    state = optimiser.state_dict()
    count = sum(len(group["params"]) for group in state["param_groups"])
    return {"each": [state["state"].get(i, {}) for i in range(count)], "groups": state["param_groups"]}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a state of `optimiser_state` to an optimiser over the same parameters."""
    each = {i: one for i, one in enumerate(state["each"]) if one}
    optimiser.load_state_dict({"state": each, "param_groups": state["groups"]})
