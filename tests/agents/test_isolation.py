"""Agents and torch's global settings: neither disturbs the other, and a child process decides as its parent does."""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import agents
from agents.rl.agent import agent_of
from agents.rl.building import empty_policy
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from cfisac_env import SystemConfig

M, K = 30, 6
SHIPPED = ("hetgnn", "hetgnn-exact", "hetgnn-paper", "ddpg", "ddpg-paper", "grpo")


def load(name: str) -> Any:
    """The shipped agent of a name, or an untrained one where none is shipped."""
    if name in SHIPPED:
        return agents.load(name, M=M, K=K)
    config = SystemConfig(M, K)
    run = Run(name, config, hyper_parameters(name))
    return agent_of(empty_policy(run), run)


@lru_cache
def drops() -> dict[str, NDArray[Any]]:
    env = gym.make("CfIsac-v0", M=M, K=K)
    each = [env.reset(seed=seed)[0] for seed in (0, 1)]
    return {key: np.stack([one[key] for one in each]) for key in each[0]}


@lru_cache
def decided(name: str) -> NDArray[np.float32]:
    action: NDArray[np.float32] = load(name).predict(drops())[0]
    return action


def test_every_shipped_agent_is_walked_over() -> None:
    for name in agents.AGENTS:
        if name not in SHIPPED:
            with pytest.raises(ValueError, match=f"no {name} agent is shipped"):
                agents.load(name, M=M, K=K)


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def elsewhere() -> Iterator[None]:
    torch.set_default_device("meta")  # which computes nothing: what lands there is found out
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS: Mapping[str, Callable[[], Any]] = {"float64": float64, "another device": elsewhere}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", SHIPPED)
def test_decisions_depend_on_no_default_of_torch(name: str, setting: str) -> None:
    expected, before = decided(name), load(name)
    with SETTINGS[setting]():
        there = load(name)
        for agent in (there, before):
            np.testing.assert_array_equal(agent.predict(drops())[0], expected)
    np.testing.assert_array_equal(there.predict(drops())[0], expected)  # loaded there, played here


def states() -> list[bytes]:
    return [
        pickle.dumps(random.getstate()),
        pickle.dumps(np.random.get_state(legacy=False)),  # noqa: NPY002
        torch.get_rng_state().numpy().tobytes(),
    ]


@pytest.mark.parametrize("name", [*agents.AGENTS])
def test_loading_and_deciding_leave_the_global_generators_alone(name: str) -> None:
    before = states()
    agent = load(name)
    for deterministic in (True, False):
        agent.predict(drops(), deterministic=deterministic)
        assert states() == before


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_drawn_actions_come_from_the_seed_of_the_agent(name: str) -> None:
    first, second = (load(name) for _ in range(2))
    torch.manual_seed(0)
    drawn = [first.predict(drops(), deterministic=False)[0] for _ in range(3)]
    torch.manual_seed(1)
    again = [second.predict(drops(), deterministic=False)[0] for _ in range(3)]
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn[0], drawn[1])
    if name in SHIPPED:
        other = agents.load(name, M=M, K=K, seed=1)
        assert other.predict(drops(), deterministic=False)[0].shape == drawn[0].shape


@pytest.mark.parametrize("name", SHIPPED)
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    np.testing.assert_array_equal(agents.load(name, M=M, K=K, device="cpu").predict(drops())[0], decided(name))
    for device in ("cuda:9", "gpux", "meta"):
        with pytest.raises(ValueError, match=f"torch cannot compute on the device '{device}' here"):
            agents.load(name, M=M, K=K, device=device)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_decides_as_its_parent_does(method: str) -> None:
    policies = {name: load(name) for name in SHIPPED}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        float((torch.ones(512, 512) @ torch.ones(512, 512)).sum())  # starts the threads, which a forked child lacks
        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            waiting = {name: pool.submit(policy.predict, drops()) for name, policy in policies.items()}
            actions = {name: answer.result(timeout=120)[0] for name, answer in waiting.items()}
    finally:
        torch.set_num_threads(threads)
    for name, action in actions.items():
        np.testing.assert_array_equal(action[..., 0], decided(name)[..., 0])
        np.testing.assert_allclose(action, decided(name), atol=1e-5)  # other threads, other sums of float32
