"""The one decorator for compiled kernels, and the one cache of their machine code.

numba is imported by the first kernel that is called, and a kernel is compiled, or read from the cache, by its first call. Machine code
is kept under a digest of everything that it was compiled from: the bytecode of the kernel and of every kernel that it calls, the values of
the constants in them, numba's version and settings, and the processor. A file that is damaged, or of anything else, is compiled again.
"""

from __future__ import annotations

import _thread
import contextlib
import hashlib
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache, update_wrapper
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from cfisac_env import files

F = TypeVar("F", bound=Callable[..., Any])

LOG = logging.getLogger(__name__)

ENTRIES: dict[str, Kernel] = {}
"""The kernels that Python calls, by module and name; a module's own are there once it is imported."""

_SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # change the machine code
_KEPT = 8  # files of one kernel: of several versions and processors in one home
_COMPILING = threading.RLock()
# Held over a fork, so that no child inherits a lock that a thread holds which it doesn't have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_COMPILING.acquire, after_in_parent=_COMPILING.release, after_in_child=_COMPILING.release
    )


@cache
def available() -> bool:
    """Whether kernels can be compiled: numba is installed, for this NumPy, and not switched off by `NUMBA_DISABLE_JIT`."""
    try:
        with _signals_kept(wait=True):  # half imported, it would stay so
            import numba
    except (ImportError, OSError):
        return False
    return not numba.config.DISABLE_JIT


def compiled(signature: str | None = None, *, exact: bool = False) -> Callable[[F], F]:
    """Compile a function on its first call, without the interpreter lock.

    Args:
        signature: of the arguments in numba's notation, `"(float64[:, ::1], int64)"`, for a kernel that Python calls: it takes no
            others. None is for the functions that such kernels call; each kind of arguments that they get is compiled, and a literal
            integer is a kind of its own, unlike `np.int64(0)`.
        exact: sums keep their order; otherwise they may be reordered, but NaN and infinity keep their meaning.
    """

    def decorate(function: F) -> F:
        return cast(F, Kernel(cast(FunctionType, function), signature, exact))

    return decorate


class Kernel:
    """A function that is compiled when it is first called."""

    def __init__(self, function: FunctionType, signature: str | None, exact: bool) -> None:
        self.function, self.signature = function, signature
        self._fastmath = () if exact else ("contract", "nsz", "reassoc")
        update_wrapper(self, function)
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._ready: Callable[..., Any] | None = None
        self._dispatcher: Any = None
        if signature is not None:
            ENTRIES[self.name] = self

    def __call__(self, *args: Any) -> Any:
        """Run it; the first call compiles or loads.

        Raises:
            TypeError: machine code without a signature has no entry for Python.
        """
        if self.signature is None and available():
            raise TypeError(
                f"{self.name} is compiled for other kernels only; give it a signature to call it from Python"
            )
        return (self._ready or self.compile())(*args)

    def __reduce__(self) -> str:
        """Pickled and copied by name, as functions are."""
        return self.function.__qualname__

    @property
    def dispatcher(self) -> Any:
        """The object behind this kernel in numba, not compiled yet."""
        import numba

        with _COMPILING:
            if self._dispatcher is None:
                self._dispatcher = numba.njit(
                    nogil=True,
                    error_model="numpy",
                    fastmath=set(self._fastmath),
                    no_cfunc_wrapper=True,
                    no_cpython_wrapper=self.signature is None,
                )(self.function)
            return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        """By which numba knows a kernel that another one calls; one that Python calls, too, is compiled or loaded by itself."""
        if self.signature is not None:
            self.compile()
        return self.dispatcher._numba_type_

    def compile(self) -> Callable[..., Any]:
        """Compile, or load from the cache.

        Returns:
            The compiled function; with `NUMBA_DISABLE_JIT`, the function itself.

        Raises:
            ModuleNotFoundError: numba isn't installed.
        """
        with _COMPILING:
            if self._ready is None:
                if available():
                    self._ready = self.dispatcher if self.signature is None else self._specialised()
                else:
                    self._ready = self._interpreted()
            return self._ready

    def cached(self) -> bool:
        """Whether the machine code of this version, for this processor, is kept."""
        context = self.dispatcher.targetctx
        context.refresh()
        path = self._path(context.codegen())
        return path is not None and path.exists()

    def _specialised(self) -> Any:
        from numba.core.sigutils import normalize_signature

        dispatcher, (arguments, _) = self.dispatcher, normalize_signature(self.signature)
        with _signals_kept(wait=True):
            dispatcher.targetctx.refresh()
            context = dispatcher.targetctx
            path = self._path(context.codegen())
            result = None if path is None or arguments in dispatcher.overloads else _loaded(path, context)
            if result is not None:
                context.insert_user_function(
                    result.entry_point, result.fndesc, [result.library]
                )  # for kernels that call it
                dispatcher.add_overload(result)
        if result is None:
            with _signals_kept(), announce(self.name):
                dispatcher.compile(arguments)
            if path is not None:
                _save(path, dispatcher.overloads[arguments], self.name)
        dispatcher.disable_compile()
        return dispatcher

    def _path(self, codegen: Any) -> Path | None:
        """Of the file for its machine code on this processor; None where there is no place for it."""
        root = folder()
        if root is None:
            return None
        import llvmlite
        import numba

        settings = [getattr(numba.config, name, None) for name in _SETTINGS]
        versions = [sys.implementation.cache_tag, numba.__version__, llvmlite.__version__, np.__version__]
        made_from = [self.signature, self._fastmath, settings, versions, codegen.magic_tuple()]
        digest = hashlib.sha256(repr([*made_from, *_ingredients(self.function)]).encode()).hexdigest()
        return root / f"{self.name}-{digest[:40]}.bin"

    def _interpreted(self) -> Callable[..., Any]:
        try:
            import numba  # noqa: F401
        except (ImportError, OSError) as error:
            raise ModuleNotFoundError(f"{self.name} is compiled by numba, which can't be imported: {error}") from error
        if self.signature is None:
            return self.function

        def run(*args: Any) -> Any:
            with np.errstate(all="ignore"):
                return self.function(*args)

        return run


def said_once(name: str) -> AbstractContextManager[object]:
    """A line in the log for the first kernel that this process compiles."""
    _say(f"compiling numerical kernels, which takes up to a minute; {kept()}")
    return in_silence(name)


def in_silence(name: str) -> AbstractContextManager[object]:
    """A line in the log that only a debug level shows."""
    LOG.debug("compiling %s", name)
    return contextlib.nullcontext()


announce: Callable[[str], AbstractContextManager[object]] = said_once
"""Called with the name of a kernel that has to be compiled, and entered meanwhile; commands put a status line here."""


@contextlib.contextmanager
def announced(by: Callable[[str], AbstractContextManager[object]]) -> Iterator[None]:
    """Announce what is compiled meanwhile in another way."""
    global announce
    before, announce = announce, by
    try:
        yield
    finally:
        announce = before


@cache
def _say(line: str) -> None:
    LOG.warning(line)


def kept() -> str:
    """Where machine code goes, in words."""
    place = folder()
    try:
        if place is None:
            raise OSError("there is no home folder")
        files.check_writable(place, folder=True)
    except OSError as error:
        reason = str(error).partition(";")[0]
        return f"no process can keep it for the next ({reason}): set NUMBA_CACHE_DIR to a folder that can be written"
    return f"it is kept in {place}, and `cfisac warmup` does it ahead"


def folder() -> Path | None:
    """Where machine code is kept: under `NUMBA_CACHE_DIR` if that is set, otherwise in the user's cache folder; None without a home."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    try:
        root = Path(chosen) if chosen else _user_cache()
    except RuntimeError:  # no home
        return None
    return root / "cfisac" / "kernels"


def _user_cache() -> Path:
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


def _ingredients(function: FunctionType) -> Iterator[Any]:
    """Yield everything that determines the machine code of a function: bytecode, constants, and the functions that it calls."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", function)]
    while waiting:
        name, value = waiting.pop()
        value = value.function if isinstance(value, Kernel) else value
        if isinstance(value, FunctionType):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value.__defaults__, value.__kwdefaults__
                cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
                known = {**value.__globals__, **{key: cell.cell_contents for key, cell in cells.items()}}
                for code in _codes(value.__code__):
                    yield [
                        getattr(code, f"co_{part}")
                        for part in ("code", "names", "varnames", "freevars", "flags", "argcount")
                    ]
                    waiting += [
                        ("", constant)
                        for constant in code.co_consts
                        if not isinstance(constant, CodeType) and constant is not value.__doc__
                    ]
                    for key in sorted({*code.co_names, *code.co_freevars} & known.keys()):
                        if isinstance(module := known[key], ModuleType):
                            waiting += [(own, getattr(module, own)) for own in code.co_names if hasattr(module, own)]
                        else:
                            waiting.append((key, known[key]))
        elif isinstance(value, frozenset):
            yield name, sorted(value, key=repr)
        elif isinstance(value, bool | int | float | complex | str | bytes | tuple):
            yield name, value
        elif isinstance(value, np.ndarray | np.generic):
            yield name, str(value.dtype), value.shape, value.tobytes()
        else:
            yield name, getattr(value, "__module__", ""), getattr(value, "__qualname__", type(value).__qualname__)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _loaded(path: Path, target_context: Any) -> Any:
    """What numba compiled, or None where there is no file that can be trusted."""
    from numba.core.compiler import CompileResult

    try:
        owner = path.stat().st_uid
        content = path.read_bytes()
    except OSError:
        return None
    if hasattr(os, "getuid") and owner not in (os.getuid(), 0):
        LOG.warning(
            "%s belongs to another user and is not loaded: machine code is only taken from this user or root", path
        )
        return None
    if content[:32] != _digest(path, content[32:]):
        LOG.info("%s is damaged; compiling again", path)
        return None
    try:
        return CompileResult._rebuild(target_context, *pickle.loads(content[32:]))
    except Exception as error:  # whatever numba's own classes make of a state that isn't theirs
        LOG.info("%s can't be used (%s: %s); compiling again", path, type(error).__name__, error)
        return None


def _save(path: Path, result: Any, name: str) -> None:
    """Keep what was compiled, if that can be written."""
    from numba.core.serialize import dumps

    content = dumps(result._reduce())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_bytes(path, _digest(path, content) + content)
        for old in sorted(path.parent.glob(f"{name}-*.bin"), key=os.path.getmtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        LOG.info("%s isn't kept: %s", name, error)  # `announce` has said it


def _digest(path: Path, content: bytes) -> bytes:
    """Of a file's content, with its name: a file put in the place of another is refused, too."""
    return hashlib.sha256(path.name.encode() + b"\n" + content).digest()


@contextlib.contextmanager
def _signals_kept(wait: bool = False) -> Iterator[None]:
    """Keep a signal from being lost while numba works, and numba from being hurt by it.

    LLVM calls back into Python for stored machine code. An exception that a signal handler raises there is printed and lost, and the code
    is missing afterwards, which ends in a crash: such a signal comes again a moment later. An exception that Python code of numba swallows
    is raised again at the end.

    Args:
        wait: until the end with every signal, for what takes a moment and must be whole.
    """
    swallowed: list[tuple[Callable[[int, FrameType | None], Any], int]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if wait or _called_back(frame):
            threading.Timer(0.01, _thread.interrupt_main, (number,)).start()
            return
        handler = before[number]
        try:
            handler(number, frame)
        except BaseException:
            swallowed.append((handler, number))
            raise

    before: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for kind in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
            if callable(handler := signal.getsignal(kind)):
                before[kind] = handler
                signal.signal(kind, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for handler, number in swallowed:
        handler(number, None)


def _called_back(frame: FrameType | None) -> bool:
    """Whether Python runs inside LLVM's callbacks."""
    while frame is not None:
        if frame.f_code.co_name.startswith("_raw_object_cache_"):
            return True
        frame = frame.f_back
    return False
