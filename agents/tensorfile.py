"""Files of tensors and JSON in safetensors: weights, agents and checkpoints. Reading one never runs code."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cfisac_env import files, json_files

MAX_WEIGHT = 1e6
"""Upper limit of a weight's magnitude; trained ones are below 100, and the scale of a feature is at most this."""

Schema = Mapping[str, Any]


def write(
    path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any], schemas: Mapping[str, Schema]
) -> Path:
    """Write tensors with their header, atomically.

    Args:
        kind: name of the format, which `read` checks.
        schemas: JSON schema of every entry of the header.

    Raises:
        OSError: the folder can't be written, or its disk is full; an old file is unchanged.
    """
    metadata = {name: json.dumps(value) for name, value in header.items()}
    for name, schema in schemas.items():
        decoded(metadata.get(name), schema, f"{name!r} in the header of {path}")
    metadata["format"] = kind
    with files.replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the umask; safetensors makes its files private
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata
            )
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from None
        temporary.chmod(mode)
    return path


def read(path: Path, kind: str, schemas: Mapping[str, Schema], maker: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read and validate the tensors and the header of a file.

    Args:
        schemas: JSON schema of every required entry of the header.
        maker: command that writes such files, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, of another format, or its header violates the schemas.
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
            # Copies are aligned by torch's allocator: at the tensors' addresses in the file, matrix products may round differently than
            # in a copy of the agent.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error})") from None
    return tensors, header


def decoded(text: str | bytes | None, schema: Schema, what: str) -> Any:
    """Decode JSON, which may hold NaN, and validate it against a schema.

    Raises:
        ValueError: the text is missing, not JSON, or violates the schema.
    """
    if text is None:
        raise ValueError(f"{what} is missing")
    value = json_files.loads(text, what, nan=True)
    json_files.check(value, schema, what)
    return value


def read_json(path: Path, schema: Schema) -> Any:
    """Read a JSON file and validate it against a schema.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    return decoded(json_files.read(path), schema, str(path))


def check_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Validate weights.

    Raises:
        ValueError: a tensor isn't float32, or holds values that aren't finite or beyond `MAX_WEIGHT`.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name!r} in {path} is {tensor.dtype}, weights are float32")
        largest = float(tensor.abs().max()) if tensor.numel() else 0.0
        if not largest <= MAX_WEIGHT:
            kind = "aren't finite" if not math.isfinite(largest) else f"are as large as {largest:.3g}"
            raise ValueError(
                f"the weights {name!r} in {path} {kind}: the file is damaged, or training diverged; train again"
            )


def digest(tensors: nn.Module | Mapping[str, Tensor]) -> str:
    """Hash named tensors, or the weights of a module, to sixteen digits."""
    total = hashlib.sha256()
    for name, tensor in sorted((tensors.state_dict() if isinstance(tensors, nn.Module) else tensors).items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
