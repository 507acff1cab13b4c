"""`cfisac doctor` and `cfisac --version`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cfisac_env
from cfisac_env import collisions, extras, jit
from experiments import cli
from experiments.commands import doctor


def test_the_version_is_printed_without_heavy_imports() -> None:
    code = "import sys; sys.argv = ['cfisac', '--version']; import cfisac; cfisac.main(); print({'torch', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=extras.ROOT)
    assert done.stdout == f"cfisac {cfisac_env.__version__}\nset()\n"


def test_a_report_names_what_is_missing_or_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "EXTRAS", {"no_such_package": "cluster"})
    monkeypatch.setattr(collisions, "line", lambda: "`import agents` gives that of others")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "without the extra 'cluster': no_such_package; pip install" in said
    assert "import names: `import agents` gives that of others" in said
    assert f"0 of {len(jit.ENTRIES)} ready in {tmp_path}" in said
    assert "`cfisac warmup` compiles the others" in said


@pytest.mark.parametrize("place", [None, "file"])
def test_kernels_that_cannot_be_kept_are_said(
    place: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = None if place is None else tmp_path / place
    if path is not None:
        path.write_text("in the way")
    monkeypatch.setattr(jit, "folder", lambda: path)
    assert doctor.report()["compiled kernels"].startswith("compiled by every process anew")
    monkeypatch.setattr(jit, "available", lambda: False)
    assert "interpreted" in doctor.report()["compiled kernels"]
