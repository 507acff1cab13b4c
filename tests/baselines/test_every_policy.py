"""Common interface of all policies, oracles and agents."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import agents
import baselines
from agents.rl.agent import agent_of
from agents.rl.building import empty_policy
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from baselines import ObservationPolicy
from cfisac_env import SystemConfig

SMALL, SHIPPED = (8, 3), (30, 6)
"""Sizes: agents that serve one size alone are shipped for the second."""

NAMES = [*baselines.POLICIES, *baselines.SEQUENTIAL, *agents.AGENTS]


@lru_cache
def mobile(M: int, K: int) -> gym.Env[Any, Any]:
    return gym.make("CfIsacMobile-v0", M=M, K=K, episode_steps=4, wake_up_steps=1, switching_energy_j=3.0)


def observations(policy: Any, count: int) -> list[Mapping[str, Any]]:
    """The instants of an episode of the policy's size, which serve policies without memory as drops, too."""
    env = mobile(*size(policy))
    observation, _ = env.reset(seed=3)
    seen = [observation]
    while len(seen) < count:
        observation, *_ = env.step(np.full(env.action_space.shape or (), 0.3, np.float32))
        seen.append(observation)
    return seen


@lru_cache
def build(name: str) -> Any:
    M, K = SMALL
    if name not in agents.AGENTS:
        return baselines.make(name, M=M, K=K, **({"env": mobile(M, K)} if name == "clairvoyant" else {}))
    for size in (SMALL, SHIPPED):
        try:
            return agents.load(name, M=size[0], K=size[1])
        except ValueError:
            continue
    config = SystemConfig(M, K)  # none is shipped: an untrained one
    run = Run(name, config, hyper_parameters(name))
    agent = agent_of(empty_policy(run), run)
    agent.M, agent.K = M, K
    return agent


def size(policy: Any) -> tuple[int, int]:
    config = getattr(getattr(policy, "run", None), "config", None)
    return SMALL if config is None or SMALL[0] in (policy.M, config.M) else SHIPPED


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gets_the_actions_of_its_observations(name: str) -> None:
    policy = build(name)
    seen, (M, K) = observations(policy, 3), size(policy)
    assert isinstance(policy, ObservationPolicy)
    batch = {key: np.stack([one[key] for one in seen]) for key in seen[0]}
    single = [copy.deepcopy(policy).predict(one)[0] for one in seen] if name != "random" else []
    action, state = policy.predict(batch, state=(np.ones(3),))
    assert action.shape == (3, M, K + 1)
    assert action.dtype == np.float32
    assert state is not None
    assert (state[0] == 1.0).all()
    for row, one in zip(action, single, strict=False):
        np.testing.assert_allclose(row, one, atol=1e-5)


BROKEN: dict[str, tuple[Callable[[Mapping[str, Any]], Any], str]] = {
    "flat": (lambda seen: np.concatenate([np.ravel(value) for value in seen.values()]), "Dict observation"),
    "a list": (lambda seen: list(seen.values()), "Dict observation"),
    "nothing": (lambda seen: {}, "lacks comm"),
    "without a key": (lambda seen: {key: value for key, value in seen.items() if key != "sensing"}, "lacks sensing"),
    "NaN": (lambda seen: {**seen, "comm": np.full_like(seen["comm"], np.nan)}, "aren't finite"),
    "infinite": (lambda seen: {**seen, "sensing": np.full_like(seen["sensing"], np.inf)}, "aren't finite"),
    "one AP less": (
        lambda seen: {key: v[1:] if len(v) == len(seen["ap"]) else v for key, v in seen.items()},
        r"M=\d|shape",
    ),
    "one user less": (lambda seen: {**seen, "comm": seen["comm"][:, 1:], "ue": seen["ue"][1:]}, r"K=\d|shape"),
    "another last axis": (lambda seen: {**seen, "comm": seen["comm"][..., :1]}, r"\(…, M, K, 2\)"),
    "two leading axes": (lambda seen: {key: v[None, None] for key, v in seen.items()}, "one leading axis"),
    "batches of two sizes": (
        lambda seen: {key: np.stack([v] * (2 + (key == "ap"))) for key, v in seen.items()},
        "batches of different sizes",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("name", NAMES)
def test_invalid_observations_are_refused(name: str, what: str) -> None:
    broken, message = BROKEN[what]
    with pytest.raises(ValueError, match=message):
        build(name).predict(broken(observations(build(name), 1)[0]))


@pytest.mark.parametrize("name", [*baselines.POLICIES, *baselines.SEQUENTIAL])
def test_every_policy_takes_sizes_and_decides_on_a_drop(name: str) -> None:
    M, K = SMALL
    mobile(M, K).reset(seed=3)
    problem = mobile(M, K).unwrapped.scenario.problem  # type: ignore[attr-defined]
    answer = baselines.make(name, M=M, K=K).decide(problem)
    assert answer.decision.power.shape == (M, K)
    assert answer.decision.active.dtype == np.bool_
