"""Trained agents as files: the weights of the actor, and in the header what trained them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from stable_baselines3.common.policies import BasePolicy

import cfisac_env
from agents.rl.models import Run, actor_of

FILE_FORMAT = "cfisac-agent-1"

_TWINS = ("pi_features_extractor.", "vf_features_extractor.")
"""Other names of the weights of `features_extractor`, which actor and critic share."""


def write(path: Path, run: Run, policy: BasePolicy, card: dict[str, Any]) -> Path:
    """Write an agent; a reader sees the old file or the new, never half of one.

    Args:
        path: of the file.
        run: that trained it.
        policy: whose actor is kept.
        card: what it cost and how good it is.
    """
    weights = actor_of(policy).state_dict().items()
    tensors = {name: value.detach().cpu().clone() for name, value in weights if not name.startswith(_TWINS)}
    header = {"format": FILE_FORMAT, "run": json.dumps(run.as_dict()), "card": json.dumps(card)}
    return _replace(path, save(tensors, header))


def fill(policy: BasePolicy, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Give the actor of a policy the weights that `read` returned.

    Raises:
        ValueError: they are not those of such a policy, or not finite.
    """
    try:
        missing, more = actor_of(policy).load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} don't fit the policy that they name: {error}") from None
    missing = [name for name in missing if not name.startswith(_TWINS)]
    if missing or more:
        raise ValueError(
            f"the weights in {path} don't fit the policy that they name: {', '.join([*missing, *more][:5])}"
        )
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{path} holds weights that aren't finite; train it again")


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """Write JSON, whole or not at all; NaN becomes null."""
    plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return _replace(path, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())


def _replace(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(path: Path) -> tuple[Run, dict[str, torch.Tensor], dict[str, Any]]:
    """The run, weights and card of an agent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't an agent, is damaged, or comes from another version of the suite.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no agent at {path}{' (a folder)' if path.is_dir() else ''}; `cfisac train` writes best.safetensors into the folder of its run"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an agent: it is damaged or of another kind ({error})") from None
    if header.get("format") != FILE_FORMAT:
        raise ValueError(f"{path} is not an agent of format {FILE_FORMAT!r}, got {header.get('format')!r}")
    try:
        content, card = json.loads(header["run"]), json.loads(header["card"])
        theirs = str(content["version"])
        same = theirs.split(".")[:2] == cfisac_env.__version__.split(".")[:2]
        run = Run.from_dict(content) if same else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} says too little, or other things, about the run that made it ({error}): another version of the suite wrote it, or "
            "it was changed; train it again"
        ) from None
    if run is None:
        raise ValueError(
            f"{path} was trained with cfisac {theirs}, this is {cfisac_env.__version__}; observations or physics may "
            "differ, so train it again or install that version"
        )
    return run, tensors, card
