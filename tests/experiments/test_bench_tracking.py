"""`python -m experiments.bench.tracking` on short episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.bench import tracking


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tracking, "FIELDS", {"M": 8, "K": 2, "T": 3, "preset": "paper", "step_s": 0.5, "episode_steps": 5}
    )


def test_every_policy_plays_the_same_episodes(tmp_path: Path) -> None:
    names = [*tracking.RULES, "learned", "true-position"]
    tracking.run(policies=tuple(names), episodes=2, steps=8, out=tmp_path)
    stored: dict[str, Any] = json.loads((tmp_path / "tracking.json").read_text())
    rows = {row["policy"]: row for row in stored["rows"]}
    assert list(rows) == names
    assert all(0.0 <= row["served"] <= 1.0 for row in rows.values())
    assert rows["all-on"]["active_aps"] == 8.0
    assert rows["true-position"]["energy_j"]["value"] == pytest.approx(np.mean(stored["episodes"]["true-position"]))
    assert stored["training"]["steps"] == 8


def test_the_agents_action_and_observation_span_their_boxes() -> None:
    env = tracking.InformationEnv()
    observation, _ = env.reset()
    assert env.observation_space.contains(observation)
    powers = []
    for action in (-np.ones(2), np.array([-1.0, 0.5])):
        env = tracking.InformationEnv()
        env.reset()
        observation, reward, _, _, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert reward == pytest.approx(-info["total_power_w"] - 3.0 * (not info["feasible"]))
        powers.append(info["total_power_w"])
    assert powers[1] > powers[0]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(SystemExit, match="did you mean 'spread-2'"):
        tracking.run(policies=("spread2",))
