"""Invalid weights and headers are refused by name before anything large is built."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

import agents
from agents.hetgnn import weights
from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.network import HetGnn
from agents.rl.loading import WEIGHTS

Tensors = dict[str, torch.Tensor]
Header = dict[str, str]
SHIPPED = {"hetgnn": weights.SHIPPED}
for path in sorted(WEIGHTS.glob("*.safetensors")):
    SHIPPED[path.stem.rsplit("-", 1)[0] if "x" in path.stem else path.stem] = path  # without the size
KINDS = [*SHIPPED]


def load(kind: str, path: Path) -> Any:
    return agents.load(kind, **{"path" if kind == "hetgnn" else "weights": path})


def whole(kind: str) -> tuple[Tensors, Header]:
    with safe_open(SHIPPED[kind], framework="pt") as file:
        return load_file(SHIPPED[kind]), file.metadata()


def filled(value: float, tensors: Tensors) -> Tensors:
    """The same with one value, in the middle of the first tensor."""
    first, *_ = sorted(tensors)
    changed = tensors[first].clone()
    changed.view(-1)[changed.numel() // 2] = value
    return {**tensors, first: changed}


TENSORS: dict[str, Callable[[Tensors], Tensors]] = {
    "one NaN": partial(filled, torch.nan),
    "one infinite": partial(filled, -torch.inf),
    "one 1e30": partial(filled, 1e30),
    "all NaN": lambda t: {name: tensor * torch.nan for name, tensor in t.items()},
    "all infinite": lambda t: {name: tensor + torch.inf for name, tensor in t.items()},
    "all 1e30": lambda t: {name: torch.full_like(tensor, 1e30) for name, tensor in t.items()},
    "float64": lambda t: {name: tensor.double() for name, tensor in t.items()},
    "whole numbers": lambda t: {name: tensor.int() for name, tensor in t.items()},
    "half precision": lambda t: {name: tensor.half() for name, tensor in t.items()},
    "none": lambda t: {},
    "one lacks": lambda t: dict(list(t.items())[1:]),
    "one more": lambda t: {**t, "more": torch.zeros(3)},
    "another name": lambda t: {f"x.{name}": tensor for name, tensor in t.items()},
    "another shape": lambda t: {name: tensor.flatten()[:1] for name, tensor in t.items()},
    "empty": lambda t: {name: tensor.flatten()[:0] for name, tensor in t.items()},
}


def entry(header: Header, kind: str, **changes: Any) -> Header:
    """The header with other values in its description."""
    name = "network" if kind == "hetgnn" else "run"
    return {**header, name: json.dumps({**json.loads(header[name]), **changes})}


def sizes(**changes: Any) -> Callable[[Header, str], Header]:
    """A header whose network has other sizes."""

    def change(header: Header, kind: str) -> Header:
        if kind == "hetgnn":
            return entry(header, kind, **changes)
        return entry(header, kind, network={**json.loads(header["run"]).get("network", {}), **changes}, policy="graph")

    return change


HEADERS: dict[str, Callable[[Header, str], Header]] = {
    "without its description": lambda h, k: {n: v for n, v in h.items() if n not in ("network", "run")},
    "without its provenance": lambda h, k: {n: v for n, v in h.items() if n not in ("story", "card")},
    "empty": lambda h, k: {},
    "another format": lambda h, k: {**h, "format": "cfisac-agent-0"},
    "bad JSON": lambda h, k: {n: v if n == "format" else v[:-1] for n, v in h.items()},
    "no JSON at all": lambda h, k: {n: v if n == "format" else "" for n, v in h.items()},
    "lists": lambda h, k: {n: v if n == "format" else "[]" for n, v in h.items()},
    "null": lambda h, k: {n: v if n == "format" else "null" for n, v in h.items()},
    "nested without end": lambda h, k: {n: v if n == "format" else "[" * 100_000 for n, v in h.items()},
    "a number without end": lambda h, k: {n: v if n == "format" else "9" * 100_000 for n, v in h.items()},
    "layers: 100000": sizes(layers=100_000),
    "layers: 10**30": sizes(layers=10**30),
    "layers: 0": sizes(layers=0),
    "layers: 2.5": sizes(layers=2.5),
    "layers: true": sizes(layers=True),
    "layers as text": sizes(layers="3"),
    "widths: 10**6": sizes(edge_widths=[10**6]),
    "no widths": sizes(node_widths=[]),
    "widths as text": sizes(edge_widths="64"),
    "many widths": sizes(node_widths=[64] * 10_000),
    "a field more": sizes(depth=3),
    "head_width: NaN": sizes(head_width=float("nan")),
    "steps: -1": sizes(steps=-1),
}

RUNS: dict[str, Callable[[Header, str], Header]] = {
    "an agent of another algorithm": lambda h, k: entry(h, k, algorithm="td3"),
    "an unknown algorithm": lambda h, k: entry(h, k, algorithm="dqn"),
    "another version": lambda h, k: entry(h, k, version="0.9.0"),
    "a version that is none": lambda h, k: entry(h, k, version=1),
    "a configuration without end": lambda h, k: entry(h, k, config={"M": 100_000, "K": 10_000}),
    "a configuration out of range": lambda h, k: entry(h, k, config={"M": 0, "K": 3}),
    "a configuration of other fields": lambda h, k: entry(h, k, config={"N": 3}),
    "no configuration": lambda h, k: entry(h, k, config=None),
    "a seed for testing": lambda h, k: entry(h, k, seed=500),
    "a seed as text": lambda h, k: entry(h, k, seed="0"),
    "hyper-parameters of others": lambda h, k: entry(h, k, parameters={"alpha": 1}),
    "hyper-parameters out of range": lambda h, k: entry(
        h, k, parameters={**json.loads(h["run"])["parameters"], "steps": -1}
    ),
    "an unknown policy": lambda h, k: entry(h, k, policy="tree"),
    "a policy of another kind": lambda h, k: entry(
        h, k, policy="mlp" if json.loads(h["run"])["policy"] != "mlp" else "graph"
    ),
    "presets that are none": lambda h, k: entry(h, k, mixed=["rural"]),
    "a card of text": lambda h, k: {**h, "card": '{"steps": "many"}'},
}

BYTES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda b: b"",
    "text": lambda b: b"hello, I am no agent",
    "cut": lambda b: b[: len(b) // 2],
    "cut in the header": lambda b: b[:100],
    "zeros": lambda b: bytes(len(b)),
    "a header longer than the file": lambda b: struct.pack("<Q", 2**62) + b[8:],
    "a header of zeros": lambda b: b[:8] + bytes(len(b) - 8),
    "more at the end": lambda b: b + b"more",
}


def refused(kind: str, content: bytes, path: Path) -> None:
    path.write_bytes(content)
    begun = time.process_time()
    with pytest.raises(ValueError, match=path.name) as refusal:
        load(kind, path)
    assert time.process_time() - begun < 3.0
    assert len(str(refusal.value)) < 800


@pytest.mark.parametrize("damage", TENSORS)
@pytest.mark.parametrize("kind", KINDS)
def test_invalid_weights_are_refused(kind: str, damage: str, tmp_path: Path) -> None:
    tensors, header = whole(kind)
    refused(kind, save(TENSORS[damage](tensors), header), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *((kind, damage) for kind in KINDS for damage in HEADERS),
        *((kind, damage) for kind in KINDS[1:] for damage in RUNS),
    ],
)
def test_invalid_headers_are_refused(kind: str, damage: str, tmp_path: Path) -> None:
    tensors, header = whole(kind)
    refused(kind, save(tensors, {**HEADERS, **RUNS}[damage](header, kind)), tmp_path / "w.safetensors")


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused(kind: str, damage: str, tmp_path: Path) -> None:
    refused(kind, BYTES[damage](SHIPPED[kind].read_bytes()), tmp_path / "w.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(*whole(kind)))
    assert load(kind, path).digest
    for place in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(FileNotFoundError, match=place.name):
            load(kind, place)


def test_weights_that_would_be_refused_are_not_written(tmp_path: Path) -> None:
    network = HetGnn(NetworkConfig(1, (4,), (4,), 4))
    with torch.no_grad():
        network.activation_head.rest[-1].get_parameter("bias").fill_(torch.nan)
    with pytest.raises(ValueError, match=r"'activation_head\.rest\.1\.bias' in .* aren't finite"):
        weights.save(network, tmp_path / "w.safetensors", {})
    assert not list(tmp_path.iterdir())
