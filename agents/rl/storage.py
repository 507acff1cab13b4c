"""Files of trained agents: the actor's weights, and a header with the run and its validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

import cfisac_env
from agents import tensorfile
from agents.rl.building import acting_part
from agents.rl.run import Run
from agents.tensorfile import Schema
from cfisac_env import files, json_files

FILE_FORMAT = "cfisac-agent-1"

RUN: Schema = {
    "type": "object",
    "properties": {
        "algorithm": {"type": "string"}, "environment": {"type": "string"}, "version": {"type": "string"}, "config": {"type": "object"},
        "parameters": {"type": "object"}, "seed": {"type": "integer"}, "policy": {"type": "string"},
        "network": {"type": "object"}, "validation_drops": {"type": "integer"},
    },
    "required": ["algorithm", "version", "config", "parameters", "seed", "policy"],
}  # fmt: skip
_NUMBERS: Schema = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
SCHEMAS: dict[str, Schema] = {"run": RUN, "card": _NUMBERS}
"""Entries of the header."""

_MEASURES = {
    "steps": {"type": "number", "minimum": 0}, "seconds": {"type": "number", "minimum": 0},
    "feasible": {"type": "number", "minimum": 0, "maximum": 1}, "gap": {"type": ["number", "null"]},
    "active_aps": {"type": "number", "minimum": 0}, "reward": {"type": "number"},
}  # fmt: skip
CURVE: Schema = {
    "type": "object",
    "properties": {
        "run": {**RUN, "required": ["algorithm", "config", "parameters", "seed", "policy"]},
        "curve": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "properties": _MEASURES, "required": list(_MEASURES)},
        },
    },
    "required": ["run", "curve"],
}
"""`curve.json` of a run: one entry per validation."""

ORACLE: Schema = {
    "type": "object",
    "properties": {"total_power_w": {"type": "array", "items": {"type": ["number", "null"], "exclusiveMinimum": 0}}},
    "required": ["total_power_w"],
}
"""`oracle.json` of a run: total power of the oracle on each validation drop; null where it serves none."""

_ALIASES = ("pi_features_extractor.", "vf_features_extractor.")
"""Prefixes under which PPO's policies list the weights of `features_extractor` again."""


def write(path: Path, run: Run, policy: BasePolicy, card: dict[str, Any]) -> Path:
    """Write an agent atomically.

    Raises:
        ValueError: weights that `read` would refuse.
    """
    tensors = actor_weights(policy)
    tensorfile.check_weights(tensors, path)
    return tensorfile.write(path, FILE_FORMAT, tensors, {"run": run.as_dict(), "card": card}, SCHEMAS)


def actor_weights(policy: BasePolicy) -> dict[str, Tensor]:
    """Return the weights of the acting part, by name."""
    weights = acting_part(policy).state_dict().items()
    return {name: value.detach() for name, value in weights if not name.startswith(_ALIASES)}


def fill(policy: BasePolicy, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights from `read` into the acting part of a policy.

    Raises:
        ValueError: they are those of another policy.
    """
    try:
        missing, more = acting_part(policy).load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {path} don't fit the policy that they name: {json_files.shortened(str(error))}"
        ) from None
    missing = [name for name in missing if not name.startswith(_ALIASES)]
    if missing or more:
        raise ValueError(
            f"the weights in {path} don't fit the policy that they name: {', '.join([*missing, *more][:5])}"
        )


def write_json(path: Path, content: dict[str, Any], schema: Schema) -> Path:
    """Write JSON that a schema allows, atomically; NaN becomes null."""
    plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
    text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
    tensorfile.decoded(text, schema, str(path))
    return files.write_text(path, text)


def read(path: Path) -> tuple[Run, dict[str, Tensor], dict[str, Any]]:
    """Read the run, weights and card of an agent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't an agent, is damaged, holds weights that aren't finite or are too large, or is of another version.
    """
    tensors, header = tensorfile.read(
        path, FILE_FORMAT, SCHEMAS, "`cfisac train` (as best.safetensors in the folder of its run)"
    )
    tensorfile.check_weights(tensors, path)
    content, theirs = header["run"], header["run"]["version"]
    if theirs.rpartition(".")[0] not in cfisac_env.READABLE:
        raise ValueError(
            f"{path} was trained with cfisac {theirs}, this is {cfisac_env.__version__}; observations or physics may "
            "differ, so train it again or install that version"
        )
    if content["algorithm"] == "ddpg" and content["policy"] != "sets":
        raise ValueError(
            f"{path} holds a DDPG agent on the flattened observation, in the format from before `ddpg` became the name of the graph "
            "agent; train it again with `cfisac train ddpg-paper`"
        )
    try:
        return Run.from_dict(content), tensors, header["card"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = json_files.shortened(str(error))
        raise ValueError(
            f"{path} says too little, or other things, about the run that made it ({reason}): another version of the suite wrote it, or it "
            "was changed; train it again"
        ) from None
