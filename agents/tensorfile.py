"""Files of tensors and JSON in safetensors: weights, agents and checkpoints. Reading one runs no code, wherever it comes from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cfisac_env import files

MOST_WEIGHT = 1e6
"""Largest magnitude of a weight that is believed; trained ones are below 100, and the scale of a feature is at most this."""

Schema = Mapping[str, Any]


def write(
    path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any], schemas: Mapping[str, Schema]
) -> Path:
    """Write tensors with their header, whole or not at all.

    Args:
        path: of the file.
        kind: name of the format, which `read` asks for.
        tensors: by name.
        header: JSON values by name.
        schemas: JSON schema of every entry of the header.

    Raises:
        ValueError: a schema forbids its entry.
        OSError: the folder can't be written, or its disk is full; an old file is as it was.
    """
    metadata = {name: json.dumps(value) for name, value in header.items()}
    for name, schema in schemas.items():
        decoded(metadata.get(name), schema, f"{name!r} in the header of {path}")
    metadata["format"] = kind
    with files.replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # of a new file for this user; safetensors closes its files to everyone else
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata
            )
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from None
        temporary.chmod(mode)
    return path


def read(path: Path, kind: str, schemas: Mapping[str, Schema], maker: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file and its header, checked.

    Args:
        path: of the file.
        kind: name of the format.
        schemas: JSON schema of every entry that the header must have.
        maker: the command that writes such files, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, of another format, or its header isn't as the schemas say.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}{' (it is a folder)' if path.is_dir() else ''}; {maker} writes it")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise ValueError(
                    f"{path} is not of the format {kind!r}, got {metadata.get('format')!r}; {maker} writes such files"
                )
            header = {
                name: decoded(metadata.get(name), schema, f"{name!r} in the header of {path}")
                for name, schema in schemas.items()
            }
            # Copies start at the addresses that torch's allocator gives. Where tensors lie in the file, matrix products may round
            # differently from those of a copy of the agent.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error})") from None
    return tensors, header


def decoded(text: str | bytes | None, schema: Schema, what: str) -> Any:
    """The value of a JSON text that a schema allows.

    Args:
        text: JSON; None where there is none.
        schema: that the value must meet.
        what: name of the text, for messages.

    Raises:
        ValueError: the text is missing, no JSON, or the schema forbids its value.
    """
    if text is None:
        raise ValueError(f"{what} is missing")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON ({error})") from None
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    if wrong is not None:
        raise ValueError(f"{what} is not as it should be: {shortened(wrong.message)} at {wrong.json_path}")
    return value


def shortened(text: str, most: int = 300) -> str:
    """A text for a message, cut where it is long."""
    return text if len(text) <= most else f"{text[:most]}…"


def read_json(path: Path, schema: Schema) -> Any:
    """The value of a JSON file that a schema allows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return decoded(text, schema, os.fspath(path))


def check_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that no training makes.

    Raises:
        ValueError: a tensor isn't float32, or holds values that aren't finite or beyond `MOST_WEIGHT`.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name!r} in {path} is {tensor.dtype}, weights are float32")
        largest = float(tensor.abs().max()) if tensor.numel() else 0.0
        if not largest <= MOST_WEIGHT:
            kind = "aren't finite" if not math.isfinite(largest) else f"are as large as {largest:.3g}"
            raise ValueError(
                f"the weights {name!r} in {path} {kind}: the file is damaged, or training diverged; train again"
            )


def digest(tensors: nn.Module | Mapping[str, Tensor]) -> str:
    """Sixteen digits that tell tensors by name, or the weights of a module, from others."""
    total = hashlib.sha256()
    for name, tensor in sorted((tensors.state_dict() if isinstance(tensors, nn.Module) else tensors).items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
