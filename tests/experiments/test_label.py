"""`cfisac label`: resumes, mends damaged files, and does the same on Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from agents.hetgnn.labels import Labels
from cfisac_env import SystemConfig
from experiments import labelling, sizes
from experiments.cli import main

COMMAND = ["label", "--sizes", "8x2", "6x2", "--drops", "4", "--shard", "2", "--policy", "modified-bb", "--out"]


def test_a_killed_run_goes_on_and_damaged_files_are_named_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, str(tmp_path), "--workers", "1"]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        f"paper-{size}-modified-bb-{seeds}.npz"
        for size in ("6x2", "8x2")
        for seeds in ("000000-000001", "000002-000003")
    ]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    kept, cut, gone = names[0], names[1], names[2]
    kept_at = (tmp_path / kept).stat().st_mtime_ns
    (tmp_path / cut).write_bytes(before[cut][:700])
    (tmp_path / gone).unlink()
    capsys.readouterr()
    assert main([*COMMAND, str(tmp_path), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"damaged, labelled again: {tmp_path / cut}" in printed
    assert "2 of 4 files are there already" in printed
    assert "labelled 4 drops" in printed
    assert (tmp_path / kept).stat().st_mtime_ns == kept_at
    for name in (cut, gone):
        assert Labels.load(tmp_path / name).config == SystemConfig(*sizes.parse_size(name.split("-")[1]))


def test_two_ray_workers_of_which_one_is_killed_label_like_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    assert main([*COMMAND, str(tmp_path / "here"), "--workers", "1"]) == 0
    killed, make = tmp_path / "killed", labelling.Shard.make

    def dying(shard: labelling.Shard) -> Labels:
        if shard.first == 2 and shard.config.M == 8 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return make(shard)

    monkeypatch.setattr(labelling.Shard, "make", dying)
    assert main([*COMMAND, str(tmp_path / "ray"), "--workers", "2", "--ray", "local"]) == 0
    assert killed.exists()
    paths = sorted((tmp_path / "here").iterdir())
    assert len(paths) == 4
    for path in paths:
        here, there = Labels.load(path), Labels.load(tmp_path / "ray" / path.name)
        np.testing.assert_array_equal(here.active, there.active)
        np.testing.assert_allclose(
            here.power, there.power, rtol=1e-6
        )  # sums may be ordered otherwise in another process


def test_other_labels_under_the_same_name_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = [*COMMAND, str(tmp_path), "--workers", "1", "--noise-figure-db", "3"]
    assert main([*COMMAND, str(tmp_path), "--workers", "1"]) == 0
    plain = sorted(tmp_path.iterdir())
    assert main(noisy) == 0
    for mine, other in zip(plain, sorted(set(tmp_path.iterdir()) - set(plain)), strict=True):
        mine.replace(other)
    assert main(noisy) == 2
    assert "holds labels of another configuration" in " ".join(capsys.readouterr().err.split())


def test_sizes_and_presets_take_turns() -> None:
    shards = labelling.plan(sizes.configurations(["paper", "urban"], ["6x2"], {}), 5, 10, "modified-bb", 3)
    assert [(s.config.preset, s.first, s.count) for s in shards] == [
        ("paper", 10, 3), ("urban", 10, 3), ("paper", 13, 2), ("urban", 13, 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "30"], "a size is APs x users, such as 50x10; got '30'"),
        (["--drops", "0"], "--drops must be 1 or more, got 0"),
        (["--M", "8"], "use --sizes and --presets, not --M"),
        (["--drops", "9" * 30], "--drops must be 1,000,000 or less"),
        (["--shard", "0"], "--shard must be 1 or more, got 0"),
        (["--shard", "1000000", "--drops", "999999", "--sizes", "80x20"], "put fewer drops in a shard"),
        (["--sizes"], "--sizes needs at least one value"),
        (["--presets"], "--presets needs at least one value"),
        (["--sizes", "8x2", "--pilot-length", "1"], "labels need a pilot for every user"),
        (["--sizes", "99999999999999999999x2"], "M must be a whole number in [1, 100000]"),
        (
            ["--sizes", "8x2", "--ray", "127.0.0.1:1"],
            "no Ray cluster answers at 127.0.0.1:1 (Connection refused); start one",
        ),
        (
            ["--sizes", "8x2", "--ray", "ray://nowhere.invalid:10001"],
            "no Ray cluster answers at ray://nowhere.invalid:10001",
        ),
        (
            ["--sizes", "8x2", "--ray", "nowhere"],
            "a Ray cluster's address is auto, local, host:port or ray://host:port, got 'nowhere'",
        ),
        (["--workers", "0"], "--workers must be 1 or more, got 0"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["--seed", "999999"], "the others are for testing"),
        (["--presets", "rural"], "unknown preset 'rural'"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "--workers", "1", "--out", str(tmp_path), "--drops", "2", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
