"""Files of `mobile-value`: its parameters and the course of its training, as JSON."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from agents import tensorfile
from agents.mobile.value import Value
from agents.rl.storage import write_json
from agents.tensorfile import Schema

SHIPPED = Path(__file__).parent / "shipped" / "mobile-value.json"
"""Parameters that `agents.load("mobile-value")` takes by default."""

_NUMBERS: Schema = {"type": "object", "additionalProperties": {"type": "number"}}
_CURVE: Schema = {"type": "array", "minItems": 1, "items": _NUMBERS}
_ABOUT: Schema = {
    "type": "object",
    "properties": {"training": _NUMBERS, "config": {"type": "object"}},
    "required": ["training", "config"],
}
CURVE: Schema = {"type": "object", "properties": {"about": _ABOUT, "curve": _CURVE}, "required": ["about", "curve"]}
_AGENT: Schema = {
    "type": "object",
    "properties": {
        "agent": {"const": "mobile-value"},
        "value": {**_NUMBERS, "required": list(asdict(Value()))},
        "about": _ABOUT,
        "curve": _CURVE,
    },
    "required": ["agent", "value", "about", "curve"],
}


def write(path: Path, value: Value, about: dict[str, Any], curve: list[dict[str, float]]) -> Path:
    """Write an agent atomically."""
    return write_json(path, {"agent": "mobile-value", "value": asdict(value), "about": about, "curve": curve}, _AGENT)


def write_curve(path: Path, about: dict[str, Any], curve: list[dict[str, float]]) -> Path:
    """Write the course of a run atomically."""
    return write_json(path, {"about": about, "curve": curve}, CURVE)


def read(path: Path) -> tuple[Value, dict[str, Any], list[dict[str, float]]]:
    """Read an agent: its parameters, its run, and its validations.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}; `cfisac train mobile-value` writes it as best.json in the folder of its run"
        )
    content = tensorfile.read_json(path, _AGENT)
    try:
        value = Value.of(np.array([content["value"][name] for name in asdict(Value())]))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return value, content["about"], content["curve"]


def digest(path: Path) -> str:
    """Return the first digits of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
