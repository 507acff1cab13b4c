"""Agents from the shipped weights or from a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agents import defaults
from agents.rl import storage
from agents.rl.agent import Agent, BySize, MlpAgent, SetAgent, no_size
from agents.rl.building import SET_POLICIES, empty_policy
from agents.rl.set_policy import ActorPolicy
from cfisac_env import SystemConfig

WEIGHTS = Path(__file__).parent / "weights"


def load(
    algorithm: str,
    *,
    M: int | None = None,
    K: int | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    **options: Any,
) -> Agent | BySize:
    """Load an agent; torch's defaults and global generator are left as they are.

    Args:
        algorithm: that trained it.
        M: number of APs. Graph policies serve every size, and refuse others than the given one; the rest serve the size that
            they were trained for. Without M and K, an algorithm that is shipped for several sizes serves each of them.
        K: number of users.
        weights: file written by a training run; None takes the shipped one.
        device: of torch, or `gpu`, or `auto`.
        seed: of the actions sampled when `predict` gets `deterministic=False`.
        options: of agents that choose sets of APs: `completions`, `beams`, `search`, `budget` and, of `ddpg`, `advised`; see
            `agents.rl.set_policy`.

    Raises:
        TypeError: the algorithm has no such option.
        FileNotFoundError: there is no such file.
        ValueError: the file holds an agent of another algorithm or size, none is shipped for the size, or there is no such device.
    """
    for name in options:
        if algorithm not in SET_POLICIES or name not in SET_POLICIES[algorithm].OPTIONS:
            raise TypeError(f"{algorithm} got an unexpected keyword argument {name!r}")
    chosen, size = defaults.device(device), {"M": M, "K": K}
    if weights is not None:
        return _from_file(Path(weights), algorithm, chosen, seed=seed, **size, **options)
    whole = WEIGHTS / f"{algorithm}.safetensors"
    if whole.is_file():
        return _from_file(whole, algorithm, chosen, seed=seed, **size, **options)
    sizes = shipped_sizes(algorithm)
    matching = {
        size: path
        for size, path in sizes.items()
        if all(want in (None, have) for want, have in zip((M, K), size, strict=True))
    }
    if not matching:
        raise ValueError(no_size(algorithm, M, K, list(sizes)))
    if len(matching) == 1:
        (path,) = matching.values()
        return _from_file(path, algorithm, chosen, seed=seed)
    return BySize(algorithm, matching, lambda path: _from_file(path, algorithm, chosen, seed=seed))


def shipped_sizes(algorithm: str) -> dict[tuple[int, int], Path]:
    """Return the weights by M and K of an algorithm whose agents are shipped for one size each."""
    found = {}
    for path in WEIGHTS.glob(f"{algorithm}-*.safetensors"):
        M, cross, K = path.stem.removeprefix(f"{algorithm}-").partition("x")
        if cross and M.isdecimal() and K.isdecimal():
            found[int(M), int(K)] = path
    return dict(sorted(found.items()))


def _from_file(
    path: Path, algorithm: str, device: torch.device, *, M: int | None = None, K: int | None = None, **options: Any
) -> Agent:
    """Load the agent in a file."""
    run, tensors, _ = storage.read(path)
    if run.algorithm != algorithm:
        raise ValueError(
            f"{path} holds a {run.algorithm} agent, not {algorithm}; load it with agents.load({run.algorithm!r}, …)"
        )
    if run.every_size:
        size = {name: value for name, value in (("M", M), ("K", K)) if value is not None}
        run = replace(run, config=SystemConfig(**{**run.config.as_dict(), **size}))
    for name, wanted, found in (("M", M, run.config.M), ("K", K, run.config.K)):
        if wanted is not None and wanted != found:
            raise ValueError(
                f"{path} holds an agent for {name}={found}, not {name}={wanted!r}; a {algorithm} agent serves one size"
            )
    policy = empty_policy(run)
    storage.fill(policy, tensors, path)
    policy.to(device)
    if isinstance(policy, ActorPolicy):
        if device.type != "cpu":
            raise ValueError(f"{algorithm} decides on the CPU, got the device {str(device)!r}; leave it out")
        return SetAgent(policy, run, M=M, K=K, **options)
    return MlpAgent(policy, run, **options)
