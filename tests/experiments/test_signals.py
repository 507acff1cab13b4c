"""A signal ends every command with the shell's exit status and one line, wherever it comes, and workers end with their parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import baselines
from baselines import branch_and_bound, enumeration, interruption
from baselines.allocation import reference
from cfisac_env import SystemConfig, sample
from experiments import cli, parallel, signals, terminal
from experiments.commands.common import Command

EVERY: dict[str, type[Command]] = {
    **cli.COMMANDS,
    **{f"{group} {name}": command for group, (_, commands) in cli.GROUPS.items() for name, command in commands.items()},
}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def _nothing_noted() -> Any:
    yield
    interruption.note(None)


def _loses_the_interruption() -> None:
    """What happens in numba's loader: the exception is raised in a callback that has no one to tell."""

    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass

    Dying()


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("name", EVERY)
def test_a_signal_ends_every_command_with_its_status_and_one_line(
    name: str,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def run(self: Any, fields: dict[str, Any], console: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10.0)

    monkeypatch.setattr(EVERY[name], "run", run)
    before = signal.getsignal(number)
    out = [] if vars(EVERY[name]).get("out", 0) is None else ["--out", str(tmp_path / "here")]
    assert cli.main([*name.split(), *out]) == STATUS[number]
    line = capsys.readouterr().err
    assert re.fullmatch(rf"cfisac: interrupted; .*{'page is closed' if name == 'play' else 'same command'}.*\n", line)
    assert ("kept in" in line) == (str(tmp_path / "here") in line or "the folder of the run" in line)
    assert signal.getsignal(number) == before


def test_an_error_that_an_interruption_leaves_behind_does_not_hide_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(self: Any, fields: dict[str, Any], console: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10.0)
        finally:
            raise ValueError("a worker was terminated")

    monkeypatch.setattr(cli.COMMANDS["presets"], "run", run)
    assert cli.main(["presets"]) == 143
    assert "terminated" not in capsys.readouterr().err


@pytest.mark.parametrize("work", ["branch-and-bound", "local-search", "modified-bb", "full-ap", "tasks", "cvxpy"])
def test_an_interruption_that_python_drops_is_raised_by_what_comes_next(work: str) -> None:
    config = SystemConfig(M=10, K=3)
    problem = sample(config, np.random.default_rng(0)).problem
    todo: dict[str, Callable[[], Any]] = {
        "tasks": lambda: list(parallel.in_order(abs, [1, 2], workers=1)),
        "cvxpy": lambda: reference.solve(problem, np.ones(10, dtype=bool)),
    }
    with signals.raised():
        _loses_the_interruption()
        with pytest.raises(KeyboardInterrupt):
            todo.get(work, lambda: baselines.make(work).decide(problem))()
    assert signals.exit_status() == 143


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert signals.exit_status() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_bench_stores_nothing_of_the_drop_it_was_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = enumeration.enumerate_sets

    def interrupting(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    arguments = f"bench selection --cases high-rate:30x6:20:1 --elimination None --out {tmp_path}".split()
    with monkeypatch.context() as patch:
        patch.setattr(branch_and_bound, "enumerate_sets", interrupting)
        assert cli.main(arguments) == 130
    assert not (tmp_path / "selection.json").exists()
    assert f"kept in {tmp_path}" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="a process group of its own")
@pytest.mark.parametrize("how", ["SIGKILL to it", "SIGTERM to it", "SIGINT to all"])
def test_workers_end_with_their_parent_and_in_silence(how: str, tmp_path: Path) -> None:
    name, whom = how.split(" to ")
    number = signal.Signals[name]
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, sys, time\n"
        "from experiments import parallel, signals\n"
        "with signals.raised():\n"
        "    try:\n"
        "        for _ in parallel.in_order(time.sleep, [0.0, 60.0, 60.0], workers=2):\n"
        "            pathlib.Path(sys.argv[1]).touch()\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "sys.exit(signals.exit_status())\n"
    )
    begun = tmp_path / "begun"
    with (tmp_path / "err").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(program), str(begun)],
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            _wait(begun.exists, 60.0)
            (os.killpg if whom == "all" else os.kill)(process.pid, number)
            assert process.wait(30.0) == (-9 if number == signal.SIGKILL else STATUS[number])
            _wait(lambda: not _members(process.pid), 15.0)
        finally:
            if _members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in (tmp_path / "err").read_text()


def _members(group: int) -> list[int]:
    """Processes of a session that are alive."""
    listed = subprocess.run(["ps", "-eo", "pid=,sid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, session, state, *_ in rows if int(session) == group and not state.startswith("Z")]


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def test_a_second_signal_does_not_disturb_the_end_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(self: Any, fields: dict[str, Any], console: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10.0)

    def complain(line: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        print(line, file=sys.stderr)

    monkeypatch.setattr(cli.COMMANDS["presets"], "run", run)
    monkeypatch.setattr(terminal, "complain", complain)
    assert cli.main(["presets"]) == 143
    assert capsys.readouterr().err.startswith("interrupted; ")


@pytest.mark.parametrize("as_error", ["error", "ImportError('half imported')", "ModuleNotFoundError('half')"])
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_while_the_command_is_imported_ends_it_the_same_way(
    number: signal.Signals, as_error: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'experiments.cli':\n"
        "            try:\n"
        f"                os.kill(os.getpid(), {int(number)})\n"
        "                for _ in range(1000): pass\n"
        "            except BaseException as error:\n"
        f"                raise {as_error} from error\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from cfisac import main\n"
        "sys.exit(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (STATUS[number], "cfisac: interrupted; nothing had begun\n")
