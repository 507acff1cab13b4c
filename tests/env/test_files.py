"""Files are replaced whole, and a folder has one writer at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from cfisac_env import files
from cfisac_env.files import locked, replacing, write_text


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _fail(text: str, temporary: Path) -> None:
    temporary.write_text(text)
    raise OSError("disk full")


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_text(tmp_path / "result.json", "old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        _fail("ne", temporary)
    assert path.read_text() == "old"
    assert temporary.suffix == ".json"
    assert _names(tmp_path) == ["result.json"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = """
import os, signal, sys
from pathlib import Path
from cfisac_env.files import replacing

with replacing(Path(sys.argv[1]) / "result.json") as temporary:
    temporary.write_text("ha")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    (left,) = _names(tmp_path)
    assert left.startswith(".result.")
    with replacing(tmp_path / "other.json") as going_on, locked(tmp_path):
        going_on.write_text("{}")
        assert left not in _names(tmp_path)
    assert _names(tmp_path) == ["other.json"]


def test_a_second_writer_of_a_folder_is_refused_by_name_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    hold = (
        f"import pathlib, time\nfrom cfisac_env.files import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"process {holder.pid} on "), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        pass


def test_a_file_may_be_written_again_and_a_folder_that_is_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_text("old")
    files.check_writable(path, folder=False)
    with pytest.raises(FileExistsError, match="a file, and a folder is needed"):
        files.check_writable(path, folder=True)
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        files.check_writable(path / "below", folder=False)
