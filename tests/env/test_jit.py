"""Compiled kernels: the cache of their machine code is never wrong and never in the way, and no interruption is lost in it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import baselines  # noqa: F401  (its kernels)
from agents.hetgnn import compiled as hetgnn  # noqa: F401
from baselines.allocation import triangular
from cfisac_env import compiled, jit

compiled.kernels()
compiled.random_kernels()

ROOT = Path(__file__).parents[2]
CALLER = """
    import numpy as np
    from cfisac_env.jit import compiled
    from {callee} import LIMITS, plus

    SCALE = 2.0

    @compiled("(float64[::1],)")
    def total(x):
        t = 0.0
        for i in range(x.size):
            t += plus(SCALE * x[i])
        return min(max(t, LIMITS[0]), LIMITS[1])
"""
CALLEE = """
    from cfisac_env.jit import compiled

    LIMITS = (-100.0, 100.0)
    SHIFT = 1.0

    @compiled()
    def plus(x):
        return x + SHIFT
"""
_NUMBER = itertools.count()


class Kit:
    """A kernel in one module and what it calls in another, written anew, imported anew, with a cache of their own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.compilations: list[str] = []

    def total(self, callee: str = CALLEE, caller: str = CALLER) -> float:
        """1 + 2·0 + 1 + 2·1 + 1 + 2·2 = 9 with the sources as they are."""
        name = f"kit_callee_{next(_NUMBER)}"
        self._module(name, callee)
        # The same name every time: it is part of the file's name.
        self.kernel = self._module("kit_caller", caller.format(callee=name)).total
        with jit.announced(self._note):
            return float(self.kernel(np.arange(3.0)))

    def _note(self, kernel: str) -> AbstractContextManager[object]:
        self.compilations.append(kernel)
        return nullcontext()

    def file(self) -> Path:
        """The one file of the cache."""
        (path,) = (self.cache / "cfisac" / "kernels").iterdir()
        return path

    def _module(self, name: str, source: str) -> ModuleType:
        path = self.folder / f"{name}_{next(_NUMBER)}.py"
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    entries = dict(jit.ENTRIES)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    yield Kit(tmp_path / "source", tmp_path / "cache")
    jit.ENTRIES.clear()
    jit.ENTRIES.update(entries)
    for name in [name for name in sys.modules if name.startswith("kit_")]:
        del sys.modules[name]


def test_machine_code_is_kept_and_loaded_as_long_as_no_source_changes(kit: Kit) -> None:
    assert kit.total() == 9.0
    assert kit.total() == 9.0
    assert kit.compilations == ["kit_caller.total"]


@pytest.mark.parametrize(
    ("callee", "caller", "answer"),
    [
        (CALLEE.replace("x + SHIFT", "x - SHIFT"), CALLER, 3.0),
        (CALLEE.replace("SHIFT = 1.0", "SHIFT = 3.0"), CALLER, 15.0),
        (CALLEE.replace("100.0)", "5.0)"), CALLER, 5.0),
        (CALLEE, CALLER.replace("SCALE = 2.0", "SCALE = 3.0"), 12.0),
        (CALLEE, CALLER.replace("t = 0.0", "t = 1.0"), 10.0),
        (CALLEE, CALLER.replace("SCALE * x[i]", "SCALE + x[i]"), 12.0),
        (CALLEE.replace("SHIFT = 1.0", "SHIFT = np.full(2, 4.0)").replace("+ SHIFT", "+ SHIFT[1]"), CALLER, 18.0),
    ],
)
def test_a_change_anywhere_in_the_sources_changes_the_answer_with_a_warm_cache(
    kit: Kit, callee: str, caller: str, answer: float
) -> None:
    assert kit.total() == 9.0
    assert kit.total("\n    import numpy as np" + callee, caller) == answer
    assert len(kit.compilations) == 2


def _callees(kernel: jit.Kernel) -> list[jit.Kernel]:
    found, waiting = [kernel], [kernel]
    while waiting:
        function = waiting.pop().function
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, jit.Kernel) and value not in found:
                found.append(value)
                waiting.append(value)
    return found


def _path(kernel: jit.Kernel) -> Path | None:
    context = kernel.dispatcher.targetctx
    context.refresh()
    return kernel._path(context.codegen())


@pytest.mark.parametrize("name", list(jit.ENTRIES))
def test_the_key_of_every_kernel_depends_on_every_function_and_constant_that_it_is_compiled_from(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = jit.ENTRIES[name]
    before = _path(kernel)
    for one in _callees(kernel):
        code, known = one.function.__code__, one.function.__globals__
        with monkeypatch.context() as change:
            other = FunctionType(code.replace(co_consts=(*code.co_consts, 0.123)), known)
            change.setattr(one, "function", other)
            assert _path(kernel) != before, one.name
        for constant in code.co_names:
            if isinstance(known.get(constant), bool | int | float | tuple):
                with monkeypatch.context() as change:
                    change.setitem(known, constant, -12345)
                    assert _path(kernel) != before, f"{one.name}: {constant}"
    assert _path(kernel) == before


def test_the_key_is_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import baselines; from cfisac_env import jit; name = 'baselines.allocation.interior_point.solve_range';"
        "kernel = jit.ENTRIES[name]; context = kernel.dispatcher.targetctx; context.refresh();"
        "print(kernel._path(context.codegen()).name)"
    )
    mine = _path(jit.ENTRIES["baselines.allocation.interior_point.solve_range"])
    assert mine is not None
    theirs = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert theirs.stdout.strip() == mine.name


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"\x00",
        lambda content: content[:31],
        lambda content: content[:32],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\n",
        lambda content: os.urandom(len(content)),
        lambda content: bytes(len(content)),
        lambda content: _flipped(content, 0),
        lambda content: _flipped(content, len(content) // 3),
        lambda content: _flipped(content, len(content) - 1),
        lambda content: b"\x80\x04" + content,
        lambda content: b"not machine code " * 1000,
    ],
)
def test_a_damaged_file_is_compiled_again_and_replaced(kit: Kit, damage: Callable[[bytes], bytes]) -> None:
    assert kit.total() == 9.0
    whole = kit.file().read_bytes()
    kit.file().write_bytes(damage(whole))
    assert kit.total() == 9.0
    assert len(kit.compilations) == 2
    assert kit.total() == 9.0
    assert len(kit.compilations) == 2


def test_a_whole_file_in_the_place_of_another_is_compiled_again(kit: Kit) -> None:
    assert kit.total() == 9.0
    first, content = kit.file(), kit.file().read_bytes()
    other = CALLEE.replace("x + SHIFT", "x - SHIFT")
    assert kit.total(other) == 3.0
    (second,) = {*first.parent.iterdir()} - {first}
    second.write_bytes(content)
    assert kit.total(other) == 3.0


def test_a_state_that_numba_does_not_know_is_compiled_again(kit: Kit) -> None:
    assert kit.total() == 9.0
    path = kit.file()
    for content in (b"\x80\x04N.", b"\x80\x04)."):  # None and an empty tuple, pickled
        path.write_bytes(jit._digest(path, content) + content)
        assert kit.total() == 9.0


@pytest.mark.parametrize("obstacle", ["file", "folder"])
def test_what_stands_in_the_way_of_a_file_only_costs_time(kit: Kit, obstacle: str) -> None:
    assert kit.total() == 9.0
    path = kit.file()
    path.unlink()
    if obstacle == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.parent / "nowhere")
    assert kit.total() == 9.0


def test_no_more_than_a_few_versions_of_a_kernel_are_kept(kit: Kit) -> None:
    for shift in range(jit._MAX_FILES + 2):
        assert kit.total(CALLEE.replace("SHIFT = 1.0", f"SHIFT = {shift}.0")) == 6.0 + 3 * shift
    assert len(list((kit.cache / "cfisac" / "kernels").iterdir())) == jit._MAX_FILES


def test_without_a_place_for_machine_code_everything_works_and_that_is_said_once(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kit.cache.write_text("a file, where a folder is needed")
    jit._log_warning.cache_clear()
    assert kit.total() == 9.0
    with jit.announced(jit.log_once), caplog.at_level(logging.WARNING):
        for shift in (2.0, 3.0):
            kit._module("kit_other", CALLEE.replace("SHIFT = 1.0", f"SHIFT = {shift}"))
            sys.modules["kit_callee"] = sys.modules["kit_other"]
            kernel = kit._module("kit_caller", CALLER.format(callee="kit_callee")).total
            assert kernel(np.arange(3.0)) == 6.0 + 3 * shift
    (record,) = caplog.records
    assert "NUMBA_CACHE_DIR" in record.getMessage()
    jit._log_warning.cache_clear()


def test_a_kernel_for_other_kernels_is_not_called_from_python() -> None:
    if jit.available():
        with pytest.raises(TypeError, match="give it a signature to call it from Python"):
            triangular.invert(*np.ones((3, 2, 2)))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert jit.folder() == tmp_path / "numba" / "cfisac" / "kernels"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert jit.folder() == tmp_path / "xdg" / "cfisac" / "kernels"
        for relative in ("", "relative"):
            monkeypatch.setenv("XDG_CACHE_HOME", relative)
            monkeypatch.setenv("HOME", str(tmp_path))
            assert jit.folder() == tmp_path / ".cache" / "cfisac" / "kernels"


INTERRUPTED = """
import signal, sys
import numpy as np
from numba.core.registry import cpu_target
from cfisac_env import jit
from experiments import signals
{module}
cpu_target.target_context.refresh()
engine = cpu_target.target_context.codegen()._engine._ee
loading = engine._object_cache_getbuffer
due = [{number}]
def interrupted(module):
    if due:
        signal.raise_signal(due.pop())
    return loading(module)
engine._object_cache_getbuffer = interrupted
try:
    with signals.raised():
        total(np.arange(3.0))
        while True:
            pass
except KeyboardInterrupt:
    print("came through", total(np.arange(3.0)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_the_loader_comes_through_and_the_kernel_is_whole(tmp_path: Path, number: int) -> None:
    source = "@jit.compiled('(float64[::1],)')\ndef total(x):\n    return x[0] + x[1] + x[2]"
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.format(module=source, number=int(number)))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for _ in range(2):  # while it compiles, while it loads
        done = subprocess.run([sys.executable, script], env=environment, timeout=120, capture_output=True, text=True)
        assert done.stdout == "came through 3.0\n", done.stderr
        assert "ignored" not in done.stderr


def test_a_handler_that_only_takes_note_is_called_once_and_nothing_is_raised(kit: Kit) -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        with jit._deferred_signals():
            signal.raise_signal(signal.SIGINT)
        assert noted == [signal.SIGINT]
        assert kit.total() == 9.0
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_exception_that_is_swallowed_while_numba_works_is_raised_again() -> None:
    def swallowing() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), jit._deferred_signals():
        swallowing()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


WORLDS = """
import hashlib, json, sys
{before}
import gymnasium as gym
import numpy as np
import cfisac_env
from cfisac_env import compiled

drops, rewards = {{}}, {{}}
for id in {ids}:
    for count in (None, 3):
        make = dict(M=6, K=2, S=2, rcs_model="exponential")
        env = gym.make(id, **make) if count is None else gym.make_vec(id, num_envs=count, vectorization_mode="vector_entry_point", **make)
        env.action_space.seed(5)
        digest, scores = hashlib.sha256(), []
        for seed in (1_000_000, 1_000_007):
            observation, _ = env.reset(seed=seed)
            for _ in range(3):
                for key in sorted(observation):
                    digest.update(np.ascontiguousarray(observation[key]).tobytes())
                assert np.ptp(observation["comm"]) > 1.0
                observation, reward, *_ = env.step(env.action_space.sample())
                scores += np.ravel(reward).tolist()
                if count is None:
                    observation, _ = env.reset()
        drops[f"{{id}} {{count}}"] = digest.hexdigest()
        rewards[f"{{id}} {{count}}"] = scores
json.dump([drops, rewards, compiled.kernels() is not None], sys.stdout)
"""
MODES: dict[str, tuple[str, dict[str, str], bool]] = {
    "compiled": ("", {}, True),
    "cold and read-only": ("", {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/dev/null"}, True),
    "NUMBA_DISABLE_JIT": ("", {"NUMBA_DISABLE_JIT": "1"}, False),
    "without numba": ("sys.modules['numba'] = None", {}, False),
    "with a broken numba": ("sys.modules['llvmlite'] = None", {}, False),
    "bounds checked": ("", {"NUMBA_BOUNDSCHECK": "1"}, True),
}


def test_drops_are_the_same_with_and_without_compiled_code_wherever_it_is_kept() -> None:
    # Those whose powers come from the exact allocator draw the same drops, and need numba to step.
    registered = [
        id
        for id, spec in gym.registry.items()
        if id.startswith("CfIsac") and "agents" not in str(spec.entry_point) and spec.vector_entry_point is not None
    ]
    runs = {
        mode: subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORLDS.format(before=before, ids=registered)],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mode, (before, variables, _) in MODES.items()
    }
    said = {mode: json.loads(run.communicate(timeout=300)[0]) for mode, run in runs.items()}
    drops, rewards, _ = said["compiled"]
    assert len(set(drops.values())) == len(drops)
    for mode, (theirs, scores, is_compiled) in said.items():
        assert theirs == drops, mode
        assert is_compiled == MODES[mode][2], mode
        for case in rewards:
            np.testing.assert_allclose(scores[case], rewards[case], rtol=1e-9, err_msg=f"{mode}: {case}")


def _later(envs: Any, pipe: Any) -> None:
    observation, reward, *_ = envs.step(np.zeros(envs.action_space.shape, np.float32))
    pipe.send((observation["comm"], reward))


def test_a_fork_after_threads_neither_hangs_nor_changes_a_number() -> None:
    envs = gym.make_vec("CfIsac-v0", num_envs=1500, vectorization_mode="vector_entry_point", M=10, K=2, threads=2)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    child = forking.Process(target=_later, args=(envs, sender))
    # Another thread compiles meanwhile: the child must not inherit its lock.
    busy, over = threading.Event(), threading.Event()

    def compiling() -> None:
        with jit._COMPILING:
            busy.set()
            over.wait(0.5)

    thread = threading.Thread(target=compiling)
    thread.start()
    busy.wait()
    child.start()
    assert receiver.poll(60)
    comm, reward = receiver.recv()
    child.join(60)
    over.set()
    thread.join()
    assert child.exitcode == 0
    observation, expected, *_ = envs.step(np.zeros(envs.action_space.shape, np.float32))
    assert_array_equal(comm, observation["comm"])
    assert_array_equal(reward, expected)
    envs.close()
