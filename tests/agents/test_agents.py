"""Agents by name."""

from __future__ import annotations

import pytest

import agents


def test_an_unknown_name_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agents.AGENTS, "teacher", dict)
    with pytest.raises(
        ValueError, match=r"unknown agent 'teecher' \(did you mean 'teacher'\?\); valid agents: .*teacher"
    ):
        agents.load("teecher")


def test_options_reach_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agents.AGENTS, "teacher", dict)
    assert agents.load("teacher", M=3) == {"M": 3}
