"""Weight files of the network; the header holds its sizes and its provenance."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from agents import tensorfile
from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.network import HetGnn, parameters
from agents.hetgnn.printed import build
from agents.tensorfile import Schema
from cfisac_env import json_files

FILE_FORMAT = "cfisac-hetgnn-1"

SHIPPED, PRINTED = (Path(__file__).parent / "shipped" / f"{name}.safetensors" for name in ("hetgnn", "hetgnn-paper"))
"""Weights that `agents.load("hetgnn")` and `agents.load("hetgnn-paper")` take by default; the model cards lie beside them."""

_WIDTHS: Schema = {"type": "array", "items": {"type": "integer"}}
_KINDS: dict[str, Schema] = {"int": {"type": "integer"}, "bool": {"type": "boolean"}, "tuple[int, ...]": _WIDTHS}
_NETWORK: Schema = {
    "type": "object",
    "properties": {field.name: _KINDS[str(field.type)] for field in dataclasses.fields(NetworkConfig)},
    "required": [field.name for field in dataclasses.fields(NetworkConfig) if field.name != "printed"],  # it came later
    "additionalProperties": False,
}
_PROVENANCE: Schema = {
    "type": "object",
    "properties": {
        "labels": {
            "type": "object",
            "properties": {"configurations": {"type": "array", "items": {"type": "object"}}},
        }
    },
}
SCHEMAS: dict[str, Schema] = {"network": _NETWORK, "story": _PROVENANCE}
"""Entries of the header; in this format the provenance is under `story`."""


def save(network: HetGnn, path: str | os.PathLike[str], provenance: dict[str, Any]) -> Path:
    """Write the weights, atomically; those of the printed network, which is large, as float16.

    Args:
        provenance: of the weights (configuration, labels, seeds, measures), as JSON values.
    """
    path, tensors = Path(path), network.state_dict()
    tensorfile.check_weights(tensors, path)
    if network.config.printed:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    header = {"network": dataclasses.asdict(network.config), "story": provenance}
    return tensorfile.write(path, FILE_FORMAT, tensors, header, SCHEMAS)


def load(path: str | os.PathLike[str] = SHIPPED) -> tuple[HetGnn, dict[str, Any]]:
    """Load a network, ready to decide, and the provenance of its weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, of another format, or its weights are invalid or don't fit the network in its header.
    """
    path = Path(path)
    tensors, header = tensorfile.read(path, FILE_FORMAT, SCHEMAS, "`cfisac train hetgnn`")
    if header["network"].get("printed"):  # as `save` writes them
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
    tensorfile.check_weights(tensors, path)
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["network"].items()
    }
    try:
        with torch.device("meta"):  # neither memory nor random numbers for a header that nothing has checked
            network = build(NetworkConfig(**fields))
        network.load_state_dict(tensors, assign=True)
    except (ValueError, RuntimeError) as error:
        first = " ".join(str(error).splitlines()[:2])
        raise ValueError(
            f"the weights in {path} are of another architecture than this version builds: {json_files.shortened(first)}"
        ) from None
    return network.eval().requires_grad_(False), header["story"]


def card(network: HetGnn, provenance: dict[str, Any]) -> str:
    """Write the model card: architecture, labels, command, and measures of the best epoch on the validation labels."""
    measures, labels, validation = (provenance[name] for name in ("measures", "labels", "validation"))
    config, start = network.config, provenance.get("start")
    steps = "" if config.printed else f" after {config.steps} steps"
    names = sorted({*labels["by_size"], *validation["by_size"]})
    sizes = [f"| {n} | {labels['by_size'].get(n, 0)} | {validation['by_size'].get(n, 0)} |" for n in names]
    lines = [
        "# HetGNN weights",
        "",
        f"Digest `{tensorfile.digest(network)}`: {parameters(network):,} parameters, {config.layers} layers, "
        f"edge MLPs {config.edge_widths}, node MLPs {config.node_widths}. The file's header holds everything below.",
        "",
        f"Made by `{provenance['command']}` with torch {provenance['versions'].get('torch')}, seed {provenance['training']['seed']}.",
        "",
        *([_origin(start), ""] if start else []),
        f"Learned from {labels['drops']:,} drops labelled by {', '.join(labels['oracles'])} (seeds {labels['seeds'][0]:,} to "
        f"{labels['seeds'][1]:,}). The best epoch, number {measures['epoch'] + 1:.0f} of {provenance['training']['epochs']}, was chosen on "
        f"{validation['drops']:,} others (seeds {validation['seeds'][0]:,} to {validation['seeds'][1]:,}). Seeds from 1,000,000 on, "
        "on which policies are compared, had no part in it.",
        "",
        f"On the validation labels the ranking names {measures['val/hits']:.1%} of the APs of the best known sets, and the network's own "
        f"powers serve {measures['val/served']:.1%} of these sets{steps}, at {measures['val/excess']:.2%} more total power.",
        "",
        "| preset and size | training drops | validation drops |",
        "|---|---:|---:|",
        *sizes,
    ]
    return "\n".join(lines) + "\n"


def _origin(provenance: dict[str, Any]) -> str:
    """Write a sentence about the weights that training started from."""
    labels = provenance["labels"]
    return (
        f"It started from weights `{provenance['digest']}`, made by `{provenance['command']}` with seed "
        f"{provenance['training']['seed']}, which had learned from {labels['drops']:,} drops of {', '.join(labels['by_size'])} "
        f"(seeds {labels['seeds'][0]:,} to {labels['seeds'][1]:,})."
    )
