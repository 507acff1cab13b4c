"""Agents by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_overloads

import pytest

import agents
import baselines
from cfisac_env import SystemConfig
from experiments import compare


def test_an_unknown_name_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agents.AGENTS, "teacher", dict)
    with pytest.raises(
        ValueError, match=r"unknown agent 'teecher' \(did you mean 'teacher'\?\); valid agents: .*teacher"
    ):
        agents.load("teecher")


def test_an_earlier_name_is_refused_with_the_present_one() -> None:
    for build in (lambda: agents.load("graph-ddpg"), lambda: compare.build(["graph-ddpg"], SystemConfig())):
        with pytest.raises(ValueError, match=r"'graph-ddpg' \(its name is 'ddpg' now\)"):
            build()


def test_the_name_of_a_removed_agent_loads_its_successor_with_a_warning_and_never_its_own_weights(
    tmp_path: Path,
) -> None:
    with pytest.warns(FutureWarning, match="maskable-ppo is no longer shipped, ddpg answers in its place"):
        assert agents.load("maskable-ppo", M=30, K=6).name == "ddpg"
    with pytest.raises(
        ValueError, match=r"unknown agent 'maskable-ppo' \(it is no longer shipped; 'ddpg' takes its place\)"
    ):
        agents.load("maskable-ppo", weights=tmp_path / "best.safetensors")


def test_options_reach_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agents.AGENTS, "teacher", dict)
    loaded: Any = agents.load("teacher", M=3)
    assert loaded == {"M": 3}


@pytest.mark.parametrize("function", [agents.load, baselines.make])
def test_type_checkers_know_what_every_name_builds(function: Callable[..., Any]) -> None:
    names: dict[str, str] = {}
    *by_name, anything = [inspect.signature(one) for one in get_overloads(function)]
    for signature in by_name:
        literal = signature.parameters["name"].annotation
        names |= dict.fromkeys(re.findall(r"['\"]([^'\"]+)['\"]", literal), signature.return_annotation)
    assert anything.parameters["name"].annotation == "str"
    if function is agents.load:
        assert names.keys() == (agents.AGENTS | agents.SEQUENTIAL).keys()
        assert type(agents.load("hetgnn")).__name__ == names["hetgnn"]
        assert type(agents.load("ddpg")).__name__ == names["ddpg"]
        for sizes in ({"M": 30, "K": 6}, {}):
            assert type(agents.load("ddpg-paper", **sizes)).__name__ in names["ddpg-paper"].split(" | ")
    else:
        known = baselines.POLICIES | baselines.SEQUENTIAL
        assert names == {name: policy.__name__ for name, policy in known.items()}


def test_type_checkers_refuse_what_is_no_field_or_no_attribute() -> None:
    # Strict mypy complains about an ignore that isn't needed, so each of these is one error of a user that it finds.
    with pytest.raises(TypeError, match="noise_figure_db"):
        SystemConfig(noise_figur_db=7.0)  # type: ignore[call-arg]
    with pytest.raises((TypeError, ValueError)):
        SystemConfig(M="many")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        print(baselines.make("branch-and-bound").last_reslut)  # type: ignore[attr-defined]
    assert baselines.make("branch-and-bound").last_result is None
