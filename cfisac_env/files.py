"""Files that are written whole or not at all, and folders that have one writer at a time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
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
    """Yield a temporary path beside `path` that takes its place when the block ends without an error.

    Readers see the old file or the new one, never a part of either, also after a crash or on a full disk. The temporary path has the
    suffix of `path`, for writers that choose a format by it, and a name that no other process uses.

    Args:
        path: of the file; missing folders are made.

    Raises:
        OSError: the folder can't be written, or its disk is full; the old file is as it was.
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
    """Write files beside their places first and put them there at the end: all of them, or none where a disk is full.

    Args:
        contents: path → what the file is to hold; missing folders are made.

    Raises:
        OSError: a file can't be written; the old ones are as they were.
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
    """Write a file, whole or not at all."""
    write_together({path: content})
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file, whole or not at all."""
    return write_bytes(path, text.encode())


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place when the block ends without an error.

    A folder can't be exchanged in one system call: for an instant there is none, and the old one is kept under its temporary name until
    the new one stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(path), _beside(path)
    try:
        temporary.mkdir()
        with naming(path):
            yield temporary
        if path.exists():
            path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_writable(path: Path, *, folder: bool) -> None:
    """Refuse a place that results can't be written to, before they are computed; nothing is left behind.

    Args:
        path: of a file or a folder that need not exist yet.
        folder: whether it is a folder.

    Raises:
        OSError: a file where a folder is needed or the reverse, no permission, or a full disk.
    """
    if path.exists() and path.is_dir() != folder:
        kind = "a file, and a folder is needed" if folder else "a folder, and a file is needed"
        raise FileExistsError(f"{path} is {kind}; choose another --out")
    there = path.absolute()
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
    """Be the only writer of a folder until the block ends; the operating system frees the lock of a process that dies.

    What killed writers have left behind, half written under its temporary name, is removed.

    Args:
        folder: made if it doesn't exist, and removed again if nothing is written to it.

    Raises:
        BlockingIOError: another process writes there; the message names it.
        ModuleNotFoundError: filelock isn't installed; every extra that writes results has it.
    """
    import filelock

    new = not folder.exists()
    lock = filelock.FileLock(folder / _LOCK, blocking=False)
    try:
        while not lock.is_locked:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another writer has just removed the folder that it had made
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
