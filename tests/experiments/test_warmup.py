"""`cfisac warmup` compiles whatever there is to compile, and commands say it when they have to."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from cfisac_env import jit
from experiments import cli, terminal
from experiments.commands import warmup

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("cfisac_env", "baselines", "agents", "experiments") for path in ROOT.glob(f"{package}/**/*.py")
]
DRAWING_ALONE = """
import sys
from cfisac_env import random_kernels, jit
from experiments import cli
from experiments.commands import warmup
warmup.kernels = lambda: {"cfisac_env.random_kernels.fill": random_kernels.fill}
sys.exit(cli.main(["warmup", "--workers", "1"]))
"""


def test_every_kernel_of_the_project_is_warmed_up() -> None:
    known = warmup.kernels()
    entries = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.{name}"
        for path in SOURCES
        for name in re.findall(r"@compiled\(\s*f?\".*?\)\ndef (\w+)", path.read_text(), re.DOTALL)
    }
    assert len(entries) > 10
    assert set(known) == entries


def test_compiled_code_has_one_decorator() -> None:
    for path in SOURCES:
        if path.name != "jit.py":
            assert not re.search(
                r"\bnjit\b|^import numba|numba\.(jit|vectorize|guvectorize|cfunc)", path.read_text(), re.M
            ), path


def test_machine_code_is_kept_where_the_command_says_and_serves_the_next_process(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    for compiled in (1, 0):
        done = subprocess.run(
            [sys.executable, "-c", DRAWING_ALONE], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{compiled} of 1 kernels compiled")
        assert str(tmp_path / "cfisac" / "kernels") in done.stdout
        (kept,) = (tmp_path / "cfisac" / "kernels").iterdir()
        assert kept.name.startswith("cfisac_env.random_kernels.fill-")


def test_two_processes_with_an_empty_cache_do_not_hurt_each_other(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [subprocess.Popen([sys.executable, "-c", DRAWING_ALONE], env=environment) for _ in range(3)]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    assert len(list((tmp_path / "cfisac" / "kernels").iterdir())) == 1


@pytest.mark.parametrize(
    ("disabled", "cache", "expected"),
    [
        (True, "cache", "NUMBA_DISABLE_JIT"),
        (False, "a_file/cache", "NUMBA_CACHE_DIR"),
        (False, "/dev/null", "NUMBA_CACHE_DIR"),
        (False, "/proc/nowhere", "NUMBA_CACHE_DIR"),
    ],
)
def test_what_cannot_be_warmed_up_is_one_line(
    disabled: bool,
    cache: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / cache))
    if disabled:
        monkeypatch.setattr(jit, "available", lambda: False)
    assert cli.main(["warmup"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_terminal_shows_what_is_compiled_beside_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(terminal, "_ERRORS", Console(file=written, force_terminal=True, width=200))
    with terminal.progress() as bar:
        task = bar.add_task("drops", total=2)
        bar.advance(task)
        with terminal.compiling("baselines.some.kernel"):
            time.sleep(0.3)
        bar.advance(task)
    assert "compiling baselines.some.kernel" in written.getvalue()
    assert "2/2" in written.getvalue()


def test_a_log_file_gets_one_line_about_compiling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(terminal, "_ERRORS", Console(file=io.StringIO()))
    jit._log_warning.cache_clear()
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            with terminal.compiling(name):
                pass
    (record,) = caplog.records
    assert "warmup" in record.getMessage() or "NUMBA_CACHE_DIR" in record.getMessage()
    jit._log_warning.cache_clear()
