"""Oracles without compiled code: interpreted, they decide the same; without numba, the error names what to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import baselines

SCRIPT = """
import importlib.machinery, json, sys
{before}
import gymnasium as gym
import cfisac_env
import baselines

fields = dict(M=8, K=2, sinr_threshold_db=-3.0, crlb_threshold_m2=25.0)
kinds = [("CfIsac-v0", baselines.POLICIES), ("CfIsacMobile-v0", baselines.SEQUENTIAL)]
decisions = {{}}
for id, policies in kinds:
    env = gym.make(id, **fields, **(dict(episode_steps=2) if "Mobile" in id else {{}}))
    observation, _ = env.reset(seed=1_000_000)
    for name in policies:
        try:
            policy = baselines.make(name, **(dict(env=env) if name == "clairvoyant" else {{}}))
            decisions[name] = policy.predict(observation)[0].tolist()
        except ModuleNotFoundError as error:
            decisions[name] = str(error)
json.dump(decisions, sys.stdout)
"""
NO_NUMBA = """
found = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = lambda name, *rest: None if name == "numba" else found(name, *rest)
"""
KERNEL_FREE = ("random", "max-power", "modified-bb-paper")
"""Policies whose decision needs no kernel."""


def decided(before: str = "", **variables: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(before=before)],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    decisions: dict[str, Any] = json.loads(done.stdout)
    return decisions


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    return decided()


def test_every_oracle_decides_the_same_interpreted(compiled: dict[str, Any]) -> None:
    interpreted = decided(NUMBA_DISABLE_JIT="1")
    assert set(interpreted) == {*baselines.POLICIES, *baselines.SEQUENTIAL}
    for name, action in interpreted.items():
        for ours, theirs in zip(action, compiled[name], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5), name


def test_every_oracle_that_needs_numba_says_what_to_install(compiled: dict[str, Any]) -> None:
    for name, said in decided(NO_NUMBA).items():
        if isinstance(said, str):
            assert "numba" in said, name
            assert "pip install" in said, name
            assert "baselines" in said, name
            assert name not in KERNEL_FREE
        else:
            assert said == compiled[name], name
