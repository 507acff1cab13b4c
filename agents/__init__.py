"""Learned policies, with the `predict` that oracles have, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from agents.coverage import UntrainedConfigurationWarning, trained_for, warn_untrained
from cfisac_env.config import SystemConfig, nearest

if TYPE_CHECKING:  # they need torch
    from agents.hetgnn.policy import HetGnnExactPolicy, HetGnnPaperPolicy, HetGnnPolicy
    from agents.mobile.policy import MobileValuePolicy
    from agents.rl.agent import BySize, MlpAgent, SetAgent
    from baselines.policy import ObservationPolicy

__all__ = ["AGENTS", "SEQUENTIAL", "UntrainedConfigurationWarning", "load", "trained_for"]


def _hetgnn(**options: Any) -> Any:
    from agents.hetgnn.policy import HetGnnPolicy

    return HetGnnPolicy(**options)


def _hetgnn_exact(**options: Any) -> Any:
    from agents.hetgnn.policy import HetGnnExactPolicy

    return HetGnnExactPolicy(**options)


def _hetgnn_paper(**options: Any) -> Any:
    from agents.hetgnn.policy import HetGnnPaperPolicy

    return HetGnnPaperPolicy(**options)


def _rl(algorithm: str, **options: Any) -> Any:
    from agents.rl import loading

    return loading.load(algorithm, **options)


def _mobile_value(**options: Any) -> Any:
    from agents.mobile import loading

    return loading.load(**options)


AGENTS: dict[str, Callable[..., Any]] = {
    "hetgnn": _hetgnn,
    "hetgnn-exact": _hetgnn_exact,
    "hetgnn-paper": _hetgnn_paper,
    **{name: partial(_rl, name) for name in ("ddpg", "grpo", "ddpg-paper", "td3", "sac", "ppo")},
}
"""Name of an agent → its loader, which takes the agent's own options and imports torch only when called."""

SEQUENTIAL: dict[str, Callable[..., Any]] = {"mobile-value": _mobile_value}
"""Name of an agent for `CfIsacMobile-v0` → its loader."""

RENAMED = {"graph-ddpg": "ddpg"}
"""Earlier name of an agent → its present name."""

REPLACED = {"maskable-ppo": "ddpg"}
"""Agent that is no longer shipped → the one that answers in its place, with a warning, until the next version."""


def hint(name: str, valid: list[str]) -> str:
    """The present name of an agent, its successor, or the nearest valid name, as the end of a message; nothing when none is close."""
    if name in REPLACED:
        return f" (it is no longer shipped; {REPLACED[name]!r} takes its place)"
    return f" (its name is {RENAMED[name]!r} now)" if name in RENAMED else nearest(name, valid)


@overload
def load(name: Literal["hetgnn"], **options: Any) -> HetGnnPolicy: ...
@overload
def load(name: Literal["hetgnn-exact"], **options: Any) -> HetGnnExactPolicy: ...
@overload
def load(name: Literal["hetgnn-paper"], **options: Any) -> HetGnnPaperPolicy: ...
@overload
def load(name: Literal["ddpg", "grpo"], **options: Any) -> SetAgent: ...
@overload
def load(name: Literal["ddpg-paper", "td3", "sac", "ppo"], **options: Any) -> MlpAgent | BySize: ...
@overload
def load(name: Literal["mobile-value"], **options: Any) -> MobileValuePolicy: ...
@overload
def load(name: str, **options: Any) -> ObservationPolicy: ...
def load(name: str, *, config: SystemConfig | None = None, **options: Any) -> ObservationPolicy:
    """Load an agent with its shipped weights, or with those that its options name.

    Args:
        name: one of `AGENTS` or `SEQUENTIAL`.
        config: to play: sets M and K, and gives an `UntrainedConfigurationWarning` when the agent wasn't trained for it.
        options: of the agent; all take `device` (`cpu` by default), and `M` and `K`, with which they refuse observations of another size.

    Raises:
        ValueError: there is no agent of that name; the message lists the valid ones.
    """
    if name in REPLACED and "weights" not in options:
        warnings.warn(
            f"{name} is no longer shipped, {REPLACED[name]} answers in its place; load {REPLACED[name]!r}: the next version "
            "won't know the old name",
            FutureWarning,
            stacklevel=2,
        )
        name = REPLACED[name]
    valid = AGENTS | SEQUENTIAL
    if name not in valid:
        raise ValueError(f"unknown agent {name!r}{hint(name, list(valid))}; valid agents: {', '.join(valid)}")
    sizes = {} if config is None else {"M": config.M, "K": config.K}
    policy = cast("ObservationPolicy", valid[name](**(sizes | options)))
    if config is not None:
        warn_untrained(policy, config)
    return policy
