"""Learned policies, behind the same `predict` as the oracles, and how to load them by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cfisac_env.config import nearest

__all__ = ["AGENTS", "load"]


def _hetgnn(**options: Any) -> Any:
    from agents.hetgnn.policy import HetGnnPolicy

    return HetGnnPolicy(**options)


def _hetgnn_exact(**options: Any) -> Any:
    from agents.hetgnn.policy import HetGnnExactPolicy

    return HetGnnExactPolicy(**options)


def _rl(algorithm: str, **options: Any) -> Any:
    from agents.rl import agent

    return agent.load(algorithm, **options)


AGENTS: dict[str, Callable[..., Any]] = {
    "hetgnn": _hetgnn,
    "hetgnn-exact": _hetgnn_exact,
    **{name: partial(_rl, name) for name in ("graph-ddpg", "ddpg", "td3", "sac", "ppo", "maskable-ppo")},
}
"""Name of an agent → what loads it, with the agent's own options. Loaders import torch when they are called, not before."""


def load(name: str, **options: Any) -> Any:
    """Load an agent with its shipped weights, or with those that its options name.

    Args:
        name: one of `AGENTS`.
        options: of the agent; every one takes `M` and `K` and then refuses observations of another size.

    Returns:
        A policy with Stable-Baselines3's `predict` and a `name`.

    Raises:
        ValueError: there is no agent of that name; the message lists those that there are.
    """
    if name not in AGENTS:
        raise ValueError(f"unknown agent {name!r}{nearest(name, list(AGENTS))}; valid agents: {', '.join(AGENTS)}")
    return AGENTS[name](**options)
