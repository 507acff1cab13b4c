"""Weights of the network, with everything that is needed to build it again, and how it came about, in the file's header."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from agents import tensorfile
from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.network import HetGnn, parameters
from agents.tensorfile import Schema

FILE_FORMAT = "cfisac-hetgnn-1"

SHIPPED = Path(__file__).parent / "shipped" / "hetgnn.safetensors"
"""The weights that `agents.load("hetgnn")` takes; the model card lies beside them."""

_WIDTHS: Schema = {"type": "array", "items": {"type": "integer"}}
_KINDS: dict[str, Schema] = {"int": {"type": "integer"}, "bool": {"type": "boolean"}, "tuple[int, ...]": _WIDTHS}
_NETWORK: Schema = {
    "type": "object",
    "properties": {field.name: _KINDS[str(field.type)] for field in dataclasses.fields(NetworkConfig)},
    "required": [field.name for field in dataclasses.fields(NetworkConfig)],
    "additionalProperties": False,
}
_STORY: Schema = {
    "type": "object",
    "properties": {
        "labels": {
            "type": "object",
            "properties": {"configurations": {"type": "array", "items": {"type": "object"}}},
        }
    },
}
SCHEMAS: dict[str, Schema] = {"network": _NETWORK, "story": _STORY}
"""Entries of the header."""


def save(network: HetGnn, path: str | os.PathLike[str], story: dict[str, Any]) -> Path:
    """Write the weights; an existing file is replaced only when all is written.

    Args:
        network: whose weights.
        path: of the file.
        story: how they came about (configuration, data, seeds, measures), ready for JSON.

    Raises:
        ValueError: weights that `load` would refuse.
    """
    path, tensors = Path(path), network.state_dict()
    tensorfile.check_weights(tensors, path)
    header = {"network": dataclasses.asdict(network.config), "story": story}
    return tensorfile.write(path, FILE_FORMAT, tensors, header, SCHEMAS)


def load(path: str | os.PathLike[str] = SHIPPED) -> tuple[HetGnn, dict[str, Any]]:
    """The network that a file holds, ready to decide, and the story of its weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, of another kind, or its weights don't fit the network that it names, or no training made them.
    """
    path = Path(path)
    tensors, header = tensorfile.read(path, FILE_FORMAT, SCHEMAS, "`cfisac train hetgnn`")
    tensorfile.check_weights(tensors, path)
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["network"].items()
    }
    try:
        with torch.device("meta"):  # takes neither memory nor random numbers, whatever the header says
            network = HetGnn(NetworkConfig(**fields))
        network.load_state_dict(tensors, assign=True)
    except (ValueError, RuntimeError) as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(
            f"the weights in {path} are of another architecture than this version builds: {tensorfile.shortened(first)}"
        ) from None
    return network.eval().requires_grad_(False), header["story"]


def card(network: HetGnn, story: dict[str, Any]) -> str:
    """The model card: what the network is, what it learned from, how, and how good its best epoch was on the validation labels."""
    measures, labels, validation, config = story["measures"], story["labels"], story["validation"], network.config
    start = story.get("start")
    names = sorted({*labels["by_size"], *validation["by_size"]})
    sizes = [f"| {n} | {labels['by_size'].get(n, 0)} | {validation['by_size'].get(n, 0)} |" for n in names]
    lines = [
        "# HetGNN weights",
        "",
        f"`hetgnn.safetensors`, digest `{tensorfile.digest(network)}`: {parameters(network):,} parameters, {config.layers} layers, "
        f"edge MLPs {config.edge_widths}, node MLPs {config.node_widths}. The file's header holds everything below.",
        "",
        f"Made by `{story['command']}` with torch {story['versions'].get('torch')}, seed {story['training']['seed']}.",
        "",
        *([_beginning(start), ""] if start else []),
        f"Learned from {labels['drops']:,} drops labelled by {', '.join(labels['oracles'])} (seeds {labels['seeds'][0]:,} to "
        f"{labels['seeds'][1]:,}). The best epoch, number {measures['epoch'] + 1:.0f} of {story['training']['epochs']}, was chosen on "
        f"{validation['drops']:,} others (seeds {validation['seeds'][0]:,} to {validation['seeds'][1]:,}). Seeds from 1,000,000 on, "
        "on which policies are compared, had no part in it.",
        "",
        f"On the validation labels the ranking names {measures['val/hits']:.1%} of the APs of the best known sets, and the network's own "
        f"powers serve {measures['val/served']:.1%} of these sets after {config.steps} steps, at {measures['val/excess']:.2%} more "
        "total power.",
        "",
        "| preset and size | training drops | validation drops |",
        "|---|---:|---:|",
        *sizes,
    ]
    return "\n".join(lines) + "\n"


def _beginning(story: dict[str, Any]) -> str:
    """A sentence about the weights that training started from."""
    labels = story["labels"]
    return (
        f"It started from weights `{story['digest']}`, made by `{story['command']}` with seed {story['training']['seed']}, which "
        f"had learned from {labels['drops']:,} drops of {', '.join(labels['by_size'])} "
        f"(seeds {labels['seeds'][0]:,} to {labels['seeds'][1]:,})."
    )
