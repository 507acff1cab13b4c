"""Decorator for compiled kernels, and the cache of their machine code.

numba is imported by the first kernel call, and a kernel is compiled, or loaded from the cache, by its first call. Machine code is cached
under a digest of everything that determines it: the bytecode and constants of the kernel and of every kernel that it calls, numba's version
and settings, and the processor. Damaged files are recompiled.
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
"""Kernels called from Python, by module and name; registered when their module is imported."""

_SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # affect the machine code
_MAX_FILES = 8  # cached files per kernel, for different versions and processors
_COMPILING = threading.RLock()
# Held during a fork, so that no child inherits a lock held by another thread.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_COMPILING.acquire, after_in_parent=_COMPILING.release, after_in_child=_COMPILING.release
    )


@cache
def available() -> bool:
    """Return whether numba can be imported and is not disabled by `NUMBA_DISABLE_JIT`."""
    try:
        with _deferred_signals(wait=True):  # an interrupted import would remain incomplete
            import numba
    except (ImportError, OSError):
        return False
    return not numba.config.DISABLE_JIT


def compiled(signature: str | None = None, *, exact: bool = False) -> Callable[[F], F]:
    """Compile a function on its first call, without the interpreter lock.

    Args:
        signature: argument types in numba's notation, `"(float64[:, ::1], int64)"`, for a kernel called from Python. None is for
            functions called by such kernels; they are compiled for each combination of argument types, where a literal integer has a type
            of its own, unlike `np.int64(0)`.
        exact: preserve the order of sums; otherwise they may be reordered, with NaN and infinity still supported.
    """

    def decorate(function: F) -> F:
        return cast(F, Kernel(cast(FunctionType, function), signature, exact))

    return decorate


class Kernel:
    """Function that is compiled on its first call."""

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
        """Call the compiled function; the first call compiles or loads it.

        Raises:
            TypeError: a kernel without a signature, which has no entry point for Python.
        """
        if self.signature is None and available():
            raise TypeError(
                f"{self.name} is compiled for other kernels only; give it a signature to call it from Python"
            )
        return (self._ready or self.compile())(*args)

    def __reduce__(self) -> str:
        """Pickle and copy by name, as functions."""
        return self.function.__qualname__

    @property
    def dispatcher(self) -> Any:
        """Uncompiled numba dispatcher of this kernel."""
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
        """Type of the kernel for numba, when another kernel calls it."""
        if self.signature is not None:
            self.compile()
        return self.dispatcher._numba_type_

    def compile(self) -> Callable[..., Any]:
        """Compile the kernel, or load it from the cache.

        Returns:
            The compiled function; with `NUMBA_DISABLE_JIT`, the Python function.
        """
        with _COMPILING:
            if self._ready is None:
                if available():
                    self._ready = self.dispatcher if self.signature is None else self._specialised()
                else:
                    self._ready = self._interpreted()
            return self._ready

    def cached(self) -> bool:
        """Return whether the machine code for this version and processor is cached."""
        context = self.dispatcher.targetctx
        context.refresh()
        path = self._path(context.codegen())
        return path is not None and path.exists()

    def _specialised(self) -> Any:
        from numba.core.sigutils import normalize_signature

        dispatcher, (arguments, _) = self.dispatcher, normalize_signature(self.signature)
        with _deferred_signals(wait=True):
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
            with _deferred_signals(), announce(self.name):
                dispatcher.compile(arguments)
            if path is not None:
                _save(path, dispatcher.overloads[arguments], self.name)
        dispatcher.disable_compile()
        return dispatcher

    def _path(self, codegen: Any) -> Path | None:
        """Return the path of the machine code for this processor; None without a cache folder."""
        root = folder()
        if root is None:
            return None
        import llvmlite
        import numba

        settings = [getattr(numba.config, name, None) for name in _SETTINGS]
        versions = [sys.implementation.cache_tag, numba.__version__, llvmlite.__version__, np.__version__]
        made_from = [self.signature, self._fastmath, settings, versions, codegen.magic_tuple()]
        digest = hashlib.sha256(repr([*made_from, *_inputs(self.function)]).encode()).hexdigest()
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


def log_once(name: str) -> AbstractContextManager[object]:
    """Log the first compilation of this process."""
    _log_warning(f"compiling numerical kernels, which takes up to a minute; {cache_description()}")
    return log_debug(name)


def log_debug(name: str) -> AbstractContextManager[object]:
    """Log a compilation at debug level."""
    LOG.debug("compiling %s", name)
    return contextlib.nullcontext()


announce: Callable[[str], AbstractContextManager[object]] = log_once
"""Context manager factory entered during the compilation of a kernel, with its name; commands show a status line."""


@contextlib.contextmanager
def announced(by: Callable[[str], AbstractContextManager[object]]) -> Iterator[None]:
    """Replace `announce` within the block."""
    global announce
    before, announce = announce, by
    try:
        yield
    finally:
        announce = before


@cache
def _log_warning(line: str) -> None:
    LOG.warning(line)


def cache_description() -> str:
    """Describe where machine code is cached."""
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
    """Return the cache folder: under `NUMBA_CACHE_DIR` if set, otherwise in the user's cache folder; None without a home folder."""
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


def _inputs(function: FunctionType) -> Iterator[Any]:
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
    """Load compiled code; None without a trusted file."""
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
    except Exception as error:  # from numba's deserialisation
        LOG.info("%s can't be used (%s: %s); compiling again", path, type(error).__name__, error)
        return None


def _save(path: Path, result: Any, name: str) -> None:
    """Cache compiled code if the folder is writable."""
    from numba.core.serialize import dumps

    content = dumps(result._reduce())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_bytes(path, _digest(path, content) + content)
        for old in sorted(path.parent.glob(f"{name}-*.bin"), key=os.path.getmtime)[:-_MAX_FILES]:
            old.unlink(missing_ok=True)
    except OSError as error:
        LOG.info("%s isn't kept: %s", name, error)


def _digest(path: Path, content: bytes) -> bytes:
    """Compute the digest of a file's name and content, so that renamed files are refused too."""
    return hashlib.sha256(path.name.encode() + b"\n" + content).digest()


@contextlib.contextmanager
def _deferred_signals(wait: bool = False) -> Iterator[None]:
    """Protect numba and signals from each other within the block.

    LLVM calls back into Python for stored machine code. An exception raised there by a signal handler would be lost, and the missing code
    would crash the process: such signals are sent again later. Exceptions that numba swallows are raised again at the end.

    Args:
        wait: defer every signal to the end, for short operations that must complete.
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
    """Return whether Python runs inside a callback of LLVM."""
    while frame is not None:
        if frame.f_code.co_name.startswith("_raw_object_cache_"):
            return True
        frame = frame.f_back
    return False
