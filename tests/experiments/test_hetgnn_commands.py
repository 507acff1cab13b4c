"""`cfisac train hetgnn`, `ablate hetgnn` and `evaluate`: what they write, that they go on, and bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agents import tensorfile
from agents.hetgnn import weights
from cfisac_env import Scenario
from experiments import compare, hetgnn
from experiments.cli import main

SIZE = ["--sizes", "8x2", "--workers", "1", "--policy"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    for name, policy, drops, seed in (
        ("train", "local-search", 24, 0),
        ("other", "modified-bb", 24, 0),
        ("validation", "local-search", 6, 900_000),
    ):
        arguments = ["--drops", str(drops), "--seed", str(seed), "--shard", "8", "--out", str(folder / name)]
        assert main(["label", *SIZE, policy, *arguments]) == 0
    return folder


def _train(folders: Path, out: Path, *more: str) -> int:
    return main(
        ["train", "hetgnn", "--labels", str(folders / "train"), "--validation", str(folders / "validation"), "--threads", "1",
         "--epochs", "1", "--network.layers", "1", "--network.edge-widths", "8", "--network.node-widths", "8",
         "--out", str(out), *more]
    )  # fmt: skip


def test_training_writes_weights_with_their_provenance(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "train" / "zz.npz").write_bytes(b"nothing")
    assert _train(folders, tmp_path, "--drops", "20") == 0
    (folders / "train" / "zz.npz").unlink()
    printed = capsys.readouterr().out
    assert "zz.npz is not a whole label file" in printed
    assert "20 labels for training" in printed
    network, provenance = weights.load(tmp_path / "hetgnn.safetensors")
    assert network.config.layers == 1
    assert provenance["labels"]["seeds"] == [0, 19]
    assert provenance["labels"]["oracles"] == ["local-search"]
    assert provenance["validation"]["seeds"] == [900_000, 900_005]
    assert provenance["training"]["epochs"] == 1
    assert 0 <= provenance["measures"]["val/hits"] <= 1
    card = (tmp_path / "hetgnn.md").read_text()
    assert tensorfile.digest(network) in card
    assert f"| paper 8x2 | {provenance['labels']['drops']} | {provenance['validation']['drops']} |" in card


def test_a_drop_that_two_files_label_counts_once(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folders / "train", tmp_path / "labels" / "a")
    shutil.copytree(folders / "other", tmp_path / "labels" / "b")
    lines: list[str] = []
    whole = hetgnn.read(folders / "train", (), None, lambda line: None)
    twice = hetgnn.read(tmp_path / "labels", (), None, lines.append)
    assert [shard.policy for shard in twice] == ["local-search"] * len(whole)
    assert [shard.seeds.tolist() for shard in twice] == [shard.seeds.tolist() for shard in whole]
    assert lines == [
        f"8 of the drops of modified-bb from seed {seed} on, which another file labels, too" for seed in (0, 8, 16)
    ]
    few = hetgnn.read(tmp_path / "labels", (), 10, lambda line: None)
    assert [seed for shard in few for seed in shard.seeds.tolist()] == list(range(10))


def test_training_from_weights_records_their_provenance_too(folders: Path, tmp_path: Path) -> None:
    assert _train(folders, tmp_path / "first", "--drops", "8") == 0
    first = tmp_path / "first" / "hetgnn.safetensors"
    assert _train(folders, tmp_path / "second", "--start", str(first)) == 0
    _, provenance = weights.load(tmp_path / "second" / "hetgnn.safetensors")
    assert provenance["start"]["labels"]["seeds"] == [0, 7]
    card = (tmp_path / "second" / "hetgnn.md").read_text()
    assert f"It started from weights `{tensorfile.digest(weights.load(first)[0])}`" in card
    assert f"| paper 8x2 | {provenance['labels']['drops']} | {provenance['validation']['drops']} |" in card


def test_training_refuses_to_validate_on_what_it_learns_from(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(folders, tmp_path, "--validation", str(folders / "train")) == 2
    assert "seed 0 of paper 8x2 is in the training and in the validation labels" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presets", "urban"], "no label file in"),
        (["--presets", "rural"], "unknown preset 'rural'"),
        (["--presets"], "--presets needs at least one value"),
        (["--drops", "0"], "--drops must be 1 or more, got 0"),
        (["--threads", "0"], "--threads must be 1 or more, got 0"),
        (["--devices", "0"], "--devices must be 1, got 0"),
        (["--devices", "2"], "--devices must be 1, got 2"),
        (["--accelerator", "gpu"], "torch cannot compute on the device 'gpu' here"),
        (["--accelerator", "cupu"], "torch cannot compute on the device 'cupu' here"),
        (["--minutes", "inf"], "--minutes must be 1,000,000.0 or less"),
        (["--minutes", "nan"], "--minutes must be a number, got nan"),
        (["--minutes", "0"], "--minutes must be above 0, got 0"),
        (["--minutes", "-1"], "--minutes must be above 0, got -1"),
        (["--learning-rate", "inf"], "learning_rate must be above 0, at most 1, got inf"),
        (["--learning-rate", "nan"], "learning_rate must be above 0, at most 1, got nan"),
        (["--edges", "0"], "edges must be from 1"),
        (["--edges", "9" * 30], "edges must be from 1"),
        (["--patience", "-3"], "patience must be from 1"),
        (["--seed", "-1"], "seed must be from 0"),
        (["--seed", "9" * 30], "seed must be from 0"),
        (["--network.layers", "100000"], "a network needs from 1 to 32 layers"),
        (["--network.head-width", "0"], "a network needs from 1 to 32 layers"),
        (["--network.edge-widths"], "a network needs from 1 to 32 layers"),
        (["--loss.alpha", "inf"], "must be from 0 to 1e+06"),
        (["--loss.power-weight", "nan"], "must be from 0 to 1e+06"),
        (["--start", "nowhere"], "no file nowhere; `cfisac train hetgnn` writes it"),
        (["--labels", "nowhere"], "no label files in nowhere; `cfisac label --out nowhere` writes them"),
        (["--epochs", "0"], "epochs must be from 1 to 100,000, got 0"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], message: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(folders, tmp_path, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_ablation_measures_each_variant_once(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "ablate",
        "hetgnn",
        "--labels",
        str(folders / "train"),
        "--validation",
        str(folders / "validation"),
        "--threads",
        "1",
    ]
    command += ["--other-labels", str(folders / "other"), "--sizes", "8x2", "--epochs", "1", "--out", str(tmp_path)]
    command += ["--variants", "labels only", "labels of modified-bb", "shipped"]
    assert main(command) == 0
    content = json.loads((tmp_path / "ablation.json").read_text())
    assert [one["variant"] for one in content["measures"]] == ["labels only", "labels of modified-bb", "shipped"]
    assert content["labels"]["modified-bb"]["oracles"] == ["modified-bb"]
    assert all(one["exact_gap"] > -1e-4 for one in content["measures"])
    checkpoint = tmp_path / "labels-only" / "checkpoint-1.safetensors"
    checkpoint.unlink()
    assert main(command) == 0
    assert not checkpoint.exists()
    assert json.loads((tmp_path / "ablation.json").read_text())["measures"] == content["measures"]
    capsys.readouterr()
    fewer = [*command, "--drops", "12", "--variants", "labels only"]  # other labels: measured again
    assert main(fewer) == 0
    assert checkpoint.exists()
    assert json.loads((tmp_path / "ablation.json").read_text())["measures"] != content["measures"][:1]
    capsys.readouterr()
    for wrong, message in (
        (
            ["--variants", "label only"],
            "unknown variant 'label only' (did you mean 'labels only'?); valid variants: reference",
        ),
        (["--variants"], "--variants needs at least one value"),
        (["--epochs", "0"], "--epochs must be 1 or more, got 0"),
        (["--sizes", "8"], "a size is APs x users, such as 50x10; got '8'"),
        (["--sizes"], "--sizes needs at least one value"),
        (["--drops", "0"], "--drops must be 1 or more, got 0"),
        (["--threads", "0"], "--threads must be 1 or more, got 0"),
    ):
        assert main(["ablate", "hetgnn", "--labels", "nowhere", "--out", str(tmp_path / "no"), *wrong]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_an_evaluation_goes_on_with_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"evaluate --policies modified-bb full-ap --sizes 10x2 12x2 --drops 3 --out {tmp_path}".split()
    assert main(command) == 0
    lines = (tmp_path / "evaluate.md").read_text().splitlines()
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| `paper` | 10, 2 | ")
    stored = json.loads((tmp_path / "paper-12x2" / "compare.json").read_text())
    assert stored["seeds"] == [1_000_000, 1_000_001, 1_000_002]
    decided: list[tuple[int, str]] = []

    def spy(policy: Any, observation: Any, scenario: Scenario) -> Any:
        decided.append((scenario.config.M, policy.name))
        return original(policy, observation, scenario)

    original = compare.decide
    monkeypatch.setattr(compare, "decide", spy)
    store = tmp_path / "paper-10x2" / "decisions.jsonl"
    kept = [line for line in store.read_text().splitlines(keepends=True) if '"policy":"full-ap"' not in line]
    store.write_text("".join(kept) + kept[-1][:20])  # killed while it wrote
    assert main(command) == 0
    assert decided == [(10, "full-ap")]
    again = json.loads((tmp_path / "paper-12x2" / "compare.json").read_text())
    assert (again["rows"], again["drops"]) == (stored["rows"], stored["drops"])
    assert main([*command, "--drops", "2"]) == 0
    assert len(decided) == 1
    assert main([*command, "--drops", "4"]) == 0
    assert 1 + 4 >= len(decided) > 1


def test_unknown_policies_are_refused_before_anything_is_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--policies", "full-a", "--out", str(tmp_path)]) == 2
    assert "unknown policy 'full-a' (did you mean 'full-ap'?)" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
