"""The scripts of the gallery run, in a small form, and answer what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cfisac_env import Scenario
from experiments.examples import accuracy, gallery, growth, proof, square, wakeup

ROOT = Path(__file__).parents[2]
SCRIPTS = (growth, accuracy, wakeup, proof, square)


def test_the_page_shows_the_picture_and_the_command_of_every_script() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    for script in SCRIPTS:
        name = script.__name__.rpartition(".")[2]
        assert f"(images/gallery/{name}.png)" in page
        assert f"$ python -m {script.__name__} --out docs/images/gallery" in page
        assert len(Path(script.__file__ or "").read_text(encoding="utf-8").splitlines()) < 60, name


def test_more_users_need_more_aps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    growth.main(drops=2, users=(2, 8), out=tmp_path)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    few, many = (growth.active_aps("high-rate", K, 2).value for K in (2, 8))
    assert 3 <= few < 9 <= many  # at 0 dB, K users need more than K APs
    assert "high-rate K=2" in capsys.readouterr().out


def test_accuracy_never_comes_cheaper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy.main(drops=2, out=tmp_path)
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("served") == len(accuracy.THRESHOLDS_M2)
    loose, strict = (0.2 * aps + transmit_w for transmit_w, aps in (accuracy.decided(one, 2) for one in (10.0, 0.1)))
    assert (loose < strict).all()


def test_foresight_serves_every_instant_despite_the_delay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wakeup.main(drops=1, delays=(2,), out=tmp_path)
    assert (tmp_path / "wakeup.png").read_bytes().startswith(b"\x89PNG")
    found = re.findall(r"(\w+) (\S+) J, (\S+) %", capsys.readouterr().out)
    energy_j, unserved = ({name: float(row[i]) for name, *row in found} for i in (0, 1))
    assert energy_j.keys() == wakeup.POLICIES.keys()
    assert unserved["clairvoyant"] == 0.0 < unserved["hysteresis"]
    assert energy_j["clairvoyant"] == min(energy_j.values())


def test_no_policy_is_below_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof.main(drops=2, M=14, K=3, out=tmp_path)
    assert (tmp_path / "proof.png").read_bytes().startswith(b"\x89PNG")
    gaps = {line.split(":")[0]: float(line.split()[3]) for line in capsys.readouterr().out.splitlines()}
    assert min(gaps.values()) == gaps["branch-and-bound"] == 0.0


def test_a_user_without_a_path_is_beyond_any_network(tmp_path: Path) -> None:
    file = ROOT / "docs" / "results" / "etoile" / "etoile.npz"
    square.main(drops=2, file=file, out=tmp_path)
    assert (tmp_path / "square.png").read_bytes().startswith(b"\x89PNG")
    traced = Scenario.load(file)
    reached = traced.gain.max(-2).min(-1) > 1.1e-16
    assert (np.isfinite(square.least_w(traced, 30.0)) == reached).all()


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        *((script, ("--drops", "0"), "--drops must be 1 or more, got 0") for script in SCRIPTS),
        (growth, ("--users",), "--users needs at least one value"),
        (square, ("--file", "nowhere.npz"), "no drops file at nowhere.npz"),
    ],
)
def test_bad_options_are_refused_in_one_line(script: ModuleType, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(SystemExit) as refused:
        gallery.run(script.main, options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
