"""Atomic file writes, and exclusive locks on folders."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_LOCK, _HOLDER = ".lock", ".lock.json"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an `OSError` without a file name, as a full disk raises it, the name of the file that is being written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that atomically replaces `path` when the block ends without an error.

    Readers see the complete old or new file, also after a crash or on a full disk. The temporary path has the suffix of `path`, for
    writers that choose a format by it, and a unique name.

    Args:
        path: of the file; missing folders are created.

    Raises:
        OSError: the folder is not writable, or its disk is full; the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_together(contents: Mapping[Path, bytes]) -> list[Path]:
    """Write several files atomically: all temporary files are complete before the first one is renamed.

    Args:
        contents: path → content; missing folders are created.

    Raises:
        OSError: a file can't be written; the old files are unchanged.
    """
    with contextlib.ExitStack() as waiting:
        ready = []
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = _beside(path)
            waiting.callback(temporary.unlink, missing_ok=True)
            with naming(path), temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            ready.append((temporary, path))
        for temporary, path in ready:
            temporary.replace(path)
    return list(contents)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically."""
    write_together({path: content})
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file atomically."""
    return write_bytes(path, text.encode())


def check_writable(path: Path, *, folder: bool) -> None:
    """Refuse an unwritable output path before results are computed, without side effects.

    Raises:
        OSError: a file where a folder is needed or the reverse, no permission, or a full disk.
    """
    if path.exists() and path.is_dir() != folder:
        kind = "a file, and a folder is needed" if folder else "a folder, and a file is needed"
        raise FileExistsError(f"{path} is {kind}; choose another --out")
    there = path.absolute() if folder else path.absolute().parent
    while not there.is_dir():
        if there.exists():
            raise NotADirectoryError(f"{path} can't be made: {there} is not a folder; choose another --out")
        there = there.parent
    probe = _beside(there / "probe")
    try:
        probe.write_bytes(bytes(4096))
    except OSError as error:
        raise type(error)(f"nothing can be written to {there} ({error.strerror}); choose another --out") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for exclusive writing within the block; the operating system releases the locks of terminated processes.

    Temporary files of terminated writers are removed.

    Args:
        folder: created if missing, and removed again if it remains empty.

    Raises:
        BlockingIOError: another process holds the lock; the message names it.
    """
    import filelock

    new = not folder.exists()
    lock = filelock.FileLock(folder / _LOCK, blocking=False)
    try:
        while not lock.is_locked:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another writer has just removed the folder
                lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(
            f"another process is writing to {folder}: {_holder(folder)}; wait for it, stop it, or choose another folder"
        ) from None
    try:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)}
        write_text(folder / _HOLDER, json.dumps(me))
        _sweep(folder)
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        (folder / _LOCK).unlink(
            missing_ok=True
        )  # while it is held; filelock sees a lock on a file that is gone, and begins again
        if new and not any(folder.iterdir()):
            folder.rmdir()
        lock.release()


def _holder(folder: Path) -> str:
    try:
        known = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return f"process {known['pid']} on {known['host']} ({known['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "one that has just begun"


def _sweep(folder: Path) -> None:
    for path in folder.glob(".*.partial*"):
        found = _TEMPORARY.search(path.name)
        if found is not None and path.is_file() and not _runs(int(found[1])):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl+C
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


_TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]{8}\.partial")  # of `_beside`


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
