"""Learning curves from the folders of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import curves
from experiments.cli import main


def write_run(folder: Path, seed: int, gaps: list[float | None], K: int = 6) -> Path:
    folder.mkdir(parents=True)
    run = {
        "algorithm": "ddpg-paper",
        "seed": seed,
        "policy": "mlp",
        "config": {"M": 30, "K": K},
        "parameters": {"envs": 50, "warm_up": 100},
    }
    curve: list[dict[str, Any]] = [
        {"steps": 100 * i, "seconds": 2.0 * i, "feasible": 0.25 * i, "gap": gap, "active_aps": 9.0, "reward": -5.0 + i}
        for i, gap in enumerate(gaps)
    ]
    (folder / "curve.json").write_text(json.dumps({"run": run, "curve": curve}))
    return folder


def test_the_command_tables_and_draws_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / f"run{seed}", seed, [None, 8.0, 5.0 + seed]) for seed in (1, 0)]
    assert main(["curves", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "runs.md").read_text()
    assert "| ddpg-paper | 30, 6 | 0 | 200 | 4 | 200 | 50% | 500% | 9.0 |" in table
    assert table.index("| 0 | 200") < table.index("| 1 | 200")
    assert capsys.readouterr().out.count("ddpg-paper") == 2
    stored = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert [entry["run"]["seed"] for entry in stored["runs"]] == [0, 1]
    assert stored["runs"][0]["curve"][0]["gap"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "curves.json",
        "runs.md",
        "curves.png",
        "curves.svg",
    }


def test_validations_before_learning_began_are_never_the_best(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 0, [1.0, 1.0, 7.0])
    content = json.loads((folder / "curve.json").read_text())
    for row in content["curve"]:
        row["reward"] = -row["steps"]  # ever worse
    (folder / "curve.json").write_text(json.dumps(content))
    assert "| 200 | 50% | 700% |" in curves.table(curves.read([folder])).markdown()


def test_the_picture_shows_the_median_and_the_spread_over_seeds(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"run{seed}", seed, [None, 4.0 + seed, 2.0]) for seed in range(3)]
    folders.append(write_run(tmp_path / "other", 0, [None, 1.0], K=10))
    picture: Any = curves.figure(curves.read(folders))
    gap = picture.axes[1]
    np.testing.assert_allclose(gap.lines[0].get_ydata(), [500.0, 200.0])
    np.testing.assert_allclose(gap.lines[0].get_xdata(), [100.0, 200.0])
    assert len(gap.collections) == 2
    edges = gap.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (200.0, 600.0)
    assert [text.get_text() for text in picture.axes[0].get_legend().get_texts()] == [
        "M=30, K=6 (3 seeds)", "M=30, K=10 (1 seed)",
    ]  # fmt: skip


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the folders"):
        curves.read([])
    with pytest.raises(FileNotFoundError, match=r"no curve\.json in .*none"):
        curves.read([tmp_path / "none"])
    whole = json.loads((write_run(tmp_path / "run", 0, [1.0]) / "curve.json").read_text())
    for content, message in (
        ("{", "Expecting"),
        ("[]", r"\[\] is not of type 'object'"),
        ("\0", "Expecting"),
        ("[" * 100_000, "is damaged"),
        (json.dumps({**whole, "curve": []}), "should be non-empty"),
        (json.dumps({**whole, "curve": [{"steps": 1}]}), "'seconds' is a required property"),
        (json.dumps({**whole, "curve": [{**whole["curve"][0], "feasible": 2}]}), "2 is greater than the maximum of 1"),
        (json.dumps({**whole, "curve": [{**whole["curve"][0], "reward": None}]}), "None is not of type 'number'"),
        (json.dumps({**whole, "run": None}), "None is not of type 'object'"),
        (json.dumps({**whole, "run": {"algorithm": "ddpg-paper"}}), "'config' is a required property"),
        (json.dumps({**whole, "run": {**whole["run"], "algorithm": "dqn"}}), "dqn"),
        (
            json.dumps({**whole, "run": {**whole["run"], "parameters": {"steps": "many"}}}),
            "steps must be a whole number",
        ),
        (json.dumps({**whole, "run": {**whole["run"], "config": {}}}), "'M'"),
    ):
        (tmp_path / "curve.json").write_text(content)
        with pytest.raises(ValueError, match=rf"curve\.json .*{message}"):
            curves.read([tmp_path])


def test_a_folder_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 0, [1.0, 1.0])
    assert len(curves.read([folder, folder.parent / "." / "run", folder])) == 1
