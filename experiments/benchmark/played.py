"""Policies on the tiers of the benchmark: decisions on drops, priorities, episodes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from baselines import ObservationPolicy
from baselines.most_informative import MostInformativePolicy
from baselines.policy import encoded, read_observation
from cfisac_env.mobile import CfIsacMobileEnv
from cfisac_env.wrappers import Order
from experiments import compare, mobile
from experiments.benchmark.tiers import EpisodeTier, Tier
from experiments.compare import Comparison
from experiments.journal import Store, policy_key
from experiments.parallel import in_order


class Named:
    """A policy under the name of its entry, for a store of decisions.

    Decisions of foreign policies without a `digest` are not reused, since nothing tells whether the policy has changed.

    Args:
        policy: with Stable-Baselines3's `predict`.
        name: in the store.
        canonical: whether the policy reads and acts in the order of the wrapper `CanonicalOrder`.
    """

    def __init__(self, policy: Any, name: str, *, canonical: bool = False) -> None:
        self._policy, self.name, self._canonical = policy, name, canonical
        unknown = None if isinstance(policy, ObservationPolicy) else secrets.token_hex(8)
        self.digest = getattr(policy, "digest", unknown)
        if hasattr(policy, "foresee"):
            self.foresee = policy.foresee

    def predict(self, observation: Any, **options: Any) -> tuple[Any, Any]:
        """Decide; refuse actions that aren't those of `CfIsac-v0`."""
        action, state = self.act(observation, **options)
        M, K = observation["comm"].shape[:2]
        if action.shape != (M, K + 1):
            hint = "; `--tiers priority-paper-30x6 priority-urban-30x6` take priorities" if action.shape == (M,) else ""
            raise ValueError(
                f"this tier takes actions of shape ({M}, {K + 1}), and the policy's is {action.shape}{hint}"
            )
        return action, state

    def act(self, observation: Any, **options: Any) -> tuple[NDArray[Any], Any]:
        """Return the policy's action in the original order, and its state."""
        if not self._canonical:
            action, state = self._policy.predict(observation, **options)
            return np.asarray(action), state
        order = Order.of(observation)
        action, state = self._policy.predict(order.arrange(observation), **options)
        return np.asarray(order.restore(action, spaces.Box(-1.0, 1.0, np.shape(action)))), state


class Prioritised(Named):
    """The decision that `CfIsacPriority-v0` makes of a policy's priorities.

    A policy with actions of `CfIsac-v0` is taken by its set: the APs that are on come first, by their power.
    """

    _rule = MostInformativePolicy()

    def predict(self, observation: Any, **options: Any) -> tuple[Any, Any]:
        """Switch APs on by priority until the drop is served."""
        action, state = self.act(observation, **options)
        M, K = observation["comm"].shape[:2]
        if action.shape not in ((M,), (M, K + 1)):
            raise ValueError(f"this tier takes priorities of shape ({M},), and the policy's action is {action.shape}")
        if action.ndim == 2:
            radiated = np.square(np.maximum(action[:, 1:], 0.0)).sum(-1)
            action = np.where(action[:, 0] >= 0.0, radiated / (1.0 + radiated.max()), -1.0)
        problem, _ = read_observation(observation, self.name)
        ranking = np.argsort(-np.clip(action, -1.0, 1.0), kind="stable")
        return encoded(problem, self._rule.along(problem, ranking)), state


def on_drops(
    tier: Tier, policies: Sequence[Named], folder: Path, step: Callable[[], None], **processes: Any
) -> list[dict[str, Any]]:
    """Let policies decide the drops of a tier; see `entries.play`."""
    parts = decided(policies, tier, folder, step, **processes)
    runs = []
    for one in policies:
        made = [part.policies[one.name] for part in parts]
        seconds = np.concatenate([result.seconds for result in made])
        runs.append(
            {
                "total_power_w": np.concatenate([result.total_power_w for result in made]),
                "feasible": np.concatenate([result.feasible for result in made]),
                "milliseconds": 1e3 * float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else None,
            }
        )
    return runs


def decided(
    policies: Sequence[Any], tier: Tier, folder: Path, step: Callable[[], None], **processes: Any
) -> list[Comparison]:
    """Compare policies on every case of a tier; decisions are kept in the folder and not made again."""
    made = []
    for case in tier.cases:
        name = f"priority-{case.name}" if tier.priorities else case.name
        store = Store(folder / name / "decisions.jsonl", "evaluation", {"config": case.config.as_dict()})
        made.append(compare.run(case.config, policies, case.drops, case.seed, lambda _: step(), store, **processes))
    return made


def on_episodes(
    tier: EpisodeTier,
    seeds: Sequence[int],
    policies: Sequence[Named],
    folder: Path,
    step: Callable[[], None],
    *,
    workers: int | None = 1,
    ray: str | None = None,
) -> list[dict[str, Any]]:
    """Let policies play the episodes of a tier; see `entries.play`."""
    store = Store(folder / "episodes.jsonl", "episodes", {"settings": tier.fields})
    runs = []
    for policy in policies:
        key = policy_key(policy.name, policy)
        todo = [seed for seed in seeds if (key, seed) not in store]
        made = in_order(partial(_episode, tier, policy), todo, workers=workers, ray=ray)
        for seed in seeds:
            if seed in todo:
                store[key, seed] = next(made)
            step()
        episodes: list[Mapping[str, Any]] = [store[key, seed] for seed in seeds]
        runs.append(
            {
                "energy_j": [one["energy_j"] for one in episodes],
                "served": [one["served"] for one in episodes],
                "milliseconds": float(np.median([one["step_ms"] for one in episodes])),
            }
        )
    return runs


def _episode(tier: EpisodeTier, policy: Named, seed: int) -> dict[str, Any]:
    """Play one episode."""
    env = gym.make("CfIsacMobile-v0", **tier.fields)
    assert isinstance(env.unwrapped, CfIsacMobileEnv)
    with closing(env):
        return mobile.play(env, policy, seed)
