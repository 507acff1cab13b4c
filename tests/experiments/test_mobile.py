"""`cfisac mobile`: what it prints and writes is what the environment says, and bad input is one clear line."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import baselines
from experiments import episode, mobile
from experiments.cli import main

SMALL = [
    "--M",
    "6",
    "--K",
    "2",
    "--T",
    "4",
    "--crlb-threshold-m2",
    "4",
    "--episode-steps",
    "5",
    "--switching-energy-j",
    "1",
]


def test_the_command_writes_energies_that_the_environment_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["full-ap", "myopic", "hysteresis", "clairvoyant"]
    arguments = ["mobile", *SMALL, "--episodes", "3", "--seed", "40", "--out", str(tmp_path), "--policies", *names]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    content = json.loads((tmp_path / "mobile.json").read_text())
    assert content["seeds"] == [40, 41, 42]
    assert content["options"]["switching_energy_j"] == 1.0
    assert "RandomWaypoint(speed_m_s=1.5)" in content["options"]["dynamics"]
    assert (tmp_path / "mobile.png").stat().st_size > 5_000
    with (tmp_path / "mobile.csv").open() as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert list(rows) == names

    env = gym.make("CfIsacMobile-v0", M=6, K=2, T=4, crlb_threshold_m2=4, episode_steps=5, switching_energy_j=1)
    policy = baselines.make("hysteresis")
    observation, _ = env.reset(seed=41)
    for _ in range(5):
        observation, *_, info = env.step(policy.predict(observation)[0])
    stored = content["episodes"]["policies"]
    assert stored["hysteresis"]["energy_j"][1] == pytest.approx(info["episode_energy_j"], rel=1e-9)

    whole = np.array(content["episodes"]["infeasible_instants"]) == 0
    assert whole.any()
    bound = np.array(content["episodes"]["lower_bound_j"])
    for name in names:
        one = {key: np.array(value, dtype=float) for key, value in stored[name].items() if key != "knows"}
        np.testing.assert_allclose(
            one["energy_j"], one["transmit_j"] + one["circuit_j"] + one["switching_j"], rtol=1e-9
        )
        np.testing.assert_array_equal(one["switching_j"], one["switched_on"])
        assert (one["energy_j"][whole] >= bound[whole] * (1 - 1e-6)).all()
        assert float(rows[name]["energy_j"]) == pytest.approx(one["energy_j"][whole].mean())
    assert stored["clairvoyant"]["served"] == [1.0] * 3
    assert float(rows["clairvoyant"]["above_best"]) <= 1e-4


def test_without_the_clairvoyant_policy_the_bound_is_there_too(tmp_path: Path) -> None:
    assert main(["mobile", *SMALL, "--episodes", "1", "--out", str(tmp_path), "--policies", "strongest-ap"]) == 0
    content = json.loads((tmp_path / "mobile.json").read_text())
    assert content["episodes"]["lower_bound_j"][0] >= 0.0
    assert content["rows"][0]["policy"] == "strongest-ap"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "predictive:hold"], "written name:option=value,option=value, got 'predictive:hold'"),
        (["--policies", "predictive:hold=0"], "hold must be a whole number in [1, 1000], got 0"),
        (["--policies", "predictive:wings=2"], "wings"),
        (["--workers", "0"], "--workers must be 1 or more, got 0"),
        (["--policies", "miopic"], "unknown policy 'miopic' (did you mean 'myopic'?)"),
        (["--user-speed-m-s", "-1.5"], "user_speed_m_s must be a number in [0, 1000], got -1.5"),
        (["--step-s", "0"], "step_s must be a number in (0, 1e+06], got 0.0"),
        (["--switching-energy-j", "-1"], "switching_energy_j must be a number"),
        (["--wake-up-steps", "-1"], "wake_up_steps must be a whole number in [0, 1000], got -1"),
        (["--payback-s", "0"], "payback_s must be a number in (0, 1e+09], got 0.0"),
        (["--episodes", "0"], "--episodes must be 1 or more, got 0"),
        (["--S", "0"], "S must be a whole number in [1, 1000], got 0"),
        (["--pilot-length", "0"], "pilot_length must be a whole number in [1, 100000], got 0"),
        (
            ["--pilot-assignment", "luck"],
            "pilot_assignment must be one of in-turn, random, greedy, master-ap, got 'luck'",
        ),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mobile", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


HARD = ["mobile", "--M", "5", "--K", "2", "--T", "2", "--episode-steps", "3", "--switching-energy-j", "1"]


def test_episodes_that_cannot_be_served_throughout_are_passed_over(tmp_path: Path) -> None:
    policies = ["--policies", "hysteresis", "predictive:futures=4", "clairvoyant"]
    assert main([*HARD, "--episodes", "6", "--seed", "50", "--out", str(tmp_path), *policies]) == 0
    content = json.loads((tmp_path / "mobile.json").read_text())
    assert content["skipped_seeds"]
    assert sorted(content["seeds"] + content["skipped_seeds"]) == list(range(50, max(content["seeds"]) + 1))
    assert content["episodes"]["infeasible_instants"] == [0.0] * 6
    rows = {row["policy"]: row for row in content["rows"]}
    assert rows["hysteresis"]["room"]["value"] == 0.0
    assert rows["clairvoyant"]["room"]["value"] == 1.0
    assert rows["clairvoyant"]["above_clairvoyant"]["value"] == 0.0
    stored = content["episodes"]["policies"]
    h, c, p = (np.sum(stored[name]["energy_j"]) for name in ("hysteresis", "clairvoyant", "predictive:futures=4"))
    ours = rows["predictive:futures=4"]
    assert ours["room"]["value"] == pytest.approx((h - p) / (h - c))
    assert ours["room"]["low"] <= ours["room"]["value"] <= ours["room"]["high"]
    assert ours["above_clairvoyant"]["value"] == pytest.approx(p / c - 1)
    assert [rows[name]["knows"] for name in ("hysteresis", "clairvoyant")] == ["observation", "whole episode"]
    assert ours["knows"] == "observation, laws of motion"
    assert "| `predictive:futures=4` |" in (tmp_path / "mobile.md").read_text()


def test_what_was_played_is_kept_and_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*HARD, "--episodes", "2", "--seed", "50", "--every", "--out", str(tmp_path)]
    assert main([*arguments, "--policies", "hysteresis", "full-ap"]) == 0
    store = tmp_path / "episodes.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 + 4
    store.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote
    before = json.loads((tmp_path / "mobile.json").read_text())["episodes"]["policies"]
    played: list[tuple[str, int]] = []
    one = mobile._play

    def noted(task: Any) -> dict[str, float]:
        played.append((task.policy, task.seed))
        return one(task)

    monkeypatch.setattr(mobile, "_play", noted)
    assert main([*arguments, "--policies", "hysteresis", "full-ap", "strongest-ap"]) == 0
    assert sorted(played) == [("full-ap", 51), ("strongest-ap", 50), ("strongest-ap", 51)]
    after = json.loads((tmp_path / "mobile.json").read_text())["episodes"]["policies"]
    assert after["hysteresis"] == before["hysteresis"]
    assert after["full-ap"]["energy_j"] == before["full-ap"]["energy_j"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: ["nothing\n"], "episodes.jsonl"),
        (lambda lines: [lines[0].replace('"format":1', '"format":2'), *lines[1:]], "was made with format = 2"),
        (lambda lines: [*lines, lines[-1]], "is there twice"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"energy_j":', '"energy_j":-')], "line 3"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"served"', '"nerved"')], "line 3"),
    ],
    ids=range(5),
)
def test_a_damaged_store_is_refused(
    damage: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*HARD, "--episodes", "1", "--seed", "50", "--every", "--out", str(tmp_path), "--policies", "full-ap"]
    assert main(arguments) == 0
    store = tmp_path / "episodes.jsonl"
    store.write_text("".join(damage(store.read_text().splitlines(keepends=True))))
    assert main(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_results_of_other_settings_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*HARD, "--episodes", "1", "--every", "--out", str(tmp_path), "--policies", "full-ap"]
    assert main(arguments) == 0
    assert main([*arguments, "--target-speed-m-s", "5"]) == 2
    assert "was made with settings = {'options': {'dynamics': " in " ".join(capsys.readouterr().err.split())


def test_pictures_show_what_the_policies_did(tmp_path: Path) -> None:
    small = ["--episodes", "1", "--seed", "40", "--wake-up-steps", "1", "--out", str(tmp_path / "out")]
    pictures = ["--timeline", str(tmp_path / "a.png"), "--animation", str(tmp_path / "b.gif")]
    policies = ["hysteresis", "clairvoyant"]
    assert main(["mobile", *SMALL, *small, *pictures, "--policies", *policies]) == 0
    stored = json.loads((tmp_path / "out" / "mobile.json").read_text())["episodes"]["policies"]
    fields = {"M": 6, "K": 2, "T": 4, "crlb_threshold_m2": 4.0, "episode_steps": 5, "switching_energy_j": 1.0}
    for course in episode.play(fields | {"wake_up_steps": 1}, policies, 40):
        assert course.energy_j[-1] == pytest.approx(stored[course.policy]["energy_j"][0], rel=1e-9)
        assert course.served.mean() == stored[course.policy]["served"][0]
        for before, after in itertools.pairwise(course.instants):
            assert (after.states[before.states == episode.OFF] != episode.ON).all()
            assert (after.decision.power[after.states != episode.ON] == 0.0).all()
    with Image.open(tmp_path / "b.gif") as animation:
        assert animation.n_frames == 5  # type: ignore[attr-defined]
    with Image.open(tmp_path / "a.png") as timeline:
        assert np.asarray(timeline.convert("L")).std() > 5.0


def test_pictures_of_other_kinds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--episodes", "1", "--out", str(tmp_path), "--animation", str(tmp_path / "b.mp4")]
    assert main(["mobile", *SMALL, *arguments]) == 2
    assert "the file of --animation ends in .gif" in " ".join(capsys.readouterr().err.split())
