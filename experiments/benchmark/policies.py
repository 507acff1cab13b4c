"""Policies by specification: a name, a file of trained weights, a file of Stable-Baselines3, or an object of a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import agents
import baselines

SB3 = ("a2c", "ddpg", "dqn", "ppo", "sac", "td3")


def build(specification: str, *, trust: bool = False) -> Any:
    """Return the policy that a specification names.

    Args:
        specification: `NAME` of an oracle or agent of the suite; `NAME=FILE` for an agent's weights; `ALGORITHM=FILE.zip` for a model of
            Stable-Baselines3; or `MODULE:OBJECT`, a policy or a function or class that returns one.
        trust: load files of Stable-Baselines3, which run code that they contain.

    Raises:
        ValueError: there is no such policy, a zip file without `trust`, or an object without `predict`.
        OSError: there is no such file.
    """
    name, equals, file = specification.partition("=")
    if equals:
        return _from_file(name, Path(file), trust)
    if name in agents.AGENTS | agents.SEQUENTIAL:
        return agents.load(name)
    if name in baselines.POLICIES or name in baselines.SEQUENTIAL:
        return baselines.make(name)
    module, colon, attribute = specification.partition(":")
    if not colon:
        valid = [*baselines.POLICIES, *baselines.SEQUENTIAL, *agents.AGENTS, *agents.SEQUENTIAL]
        raise ValueError(
            f"unknown policy {name!r}{agents.hint(name, valid)}; valid: {', '.join(valid)}, NAME=FILE, ALGORITHM=FILE.zip, MODULE:OBJECT"
        )
    return _from_module(module, attribute)


def _from_file(name: str, file: Path, trust: bool) -> Any:
    if file.suffix != ".zip":
        return agents.load(name, weights=file)
    if name not in SB3:
        raise ValueError(f"{name!r} is no algorithm of Stable-Baselines3 that saves {file}; valid: {', '.join(SB3)}")
    if not trust:
        raise ValueError(f"{file} may contain code, which loading it runs: add --trust if you know where it comes from")
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    import stable_baselines3

    return getattr(stable_baselines3, name.upper()).load(file, device="cpu")


def _from_module(module: str, attribute: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"{module}:{attribute} cannot be imported: {error}") from None
    finally:
        del sys.path[0]
    policy = (
        found if hasattr(found, "predict") and not isinstance(found, type) else found() if callable(found) else found
    )
    if not callable(getattr(policy, "predict", None)):
        raise ValueError(
            f"{module}:{attribute} has no method predict(observation, state=None, episode_start=None, deterministic=False), "
            "as Stable-Baselines3's policies have"
        )
    return policy


def trained(specification: str) -> bool:
    """Return whether a specification names weights or an agent that has some."""
    return "=" in specification or specification in agents.AGENTS | agents.SEQUENTIAL


def short(specification: str) -> str:
    """Return the default name of an entry."""
    return specification.partition("=")[0].rpartition(":")[2]
