"""Weights in safetensors, with everything that is needed to build the network again, and how it came about, in the file's header."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.network import HetGnn, parameters

FILE_FORMAT = "cfisac-hetgnn-1"

SHIPPED = Path(__file__).parent / "shipped" / "hetgnn.safetensors"
"""The weights that `agents.load("hetgnn")` takes; the model card lies beside them."""


def digest(network: HetGnn) -> str:
    """Sixteen digits that tell a network's weights from others."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def save(network: HetGnn, path: str | os.PathLike[str], story: dict[str, Any]) -> Path:
    """Write the weights; an existing file is replaced only when all is written.

    Args:
        network: whose weights.
        path: of the file.
        story: how they came about (configuration, data, seeds, measures), ready for JSON.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "format": FILE_FORMAT,
        "network": json.dumps(dataclasses.asdict(network.config)),
        "story": json.dumps(story),
    }
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, partial, header)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike[str] = SHIPPED) -> tuple[HetGnn, dict[str, Any]]:
    """The network that a file holds, ready to decide, and the story of its weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, of another kind, or its weights don't fit the network that it names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}{' (a folder)' if path.is_dir() else ''}; `cfisac train hetgnn` writes them into a file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors has an exception of its own for damaged bytes
        raise ValueError(f"{path} is truncated or not a safetensors file ({error})") from None
    if header.get("format") != FILE_FORMAT:
        raise ValueError(f"{path} holds no weights of format {FILE_FORMAT!r}; `cfisac train hetgnn` writes them")
    fields: dict[str, Any] = json.loads(header["network"])
    try:
        for name in ("edge_widths", "node_widths"):
            fields[name] = tuple(fields[name])
        config = NetworkConfig(**fields)
        network = HetGnn(config)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[:2]
        raise ValueError(
            f"the weights in {path} are of another architecture than this version builds: {' '.join(first)}"
        ) from None
    return network.eval().requires_grad_(False), json.loads(header["story"])


def card(network: HetGnn, story: dict[str, Any]) -> str:
    """The model card: what the network is, what it learned from, how, and how good its best epoch was on the validation labels."""
    measures, labels, validation, config = story["measures"], story["labels"], story["validation"], network.config
    start = story.get("start")
    names = sorted({*labels["by_size"], *validation["by_size"]})
    sizes = [f"| {n} | {labels['by_size'].get(n, 0)} | {validation['by_size'].get(n, 0)} |" for n in names]
    lines = [
        "# HetGNN weights",
        "",
        f"`hetgnn.safetensors`, digest `{digest(network)}`: {parameters(network):,} parameters, {config.layers} layers, "
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
