"""Results as lines of JSON: a header, then lines that are appended while a run goes on, so that a killed one loses nothing.

The header says what the file is: its format, the version that made it, and whatever else its lines depend on. Lines are checked by their
schemas when they are written and when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cfisac_env
from cfisac_env.files import naming, write_text
from experiments import schemas
from experiments.results import plain, provenance

Record = dict[str, Any]

FORMAT = 1


class Journal:
    """One file; reading changes nothing.

    Args:
        path: of the file, which need not exist yet.
        kind: of its schemas, `KIND header` and `KIND line`.
        about: what its lines depend on.

    Attributes:
        torn: whether the file ends in a line that a killed run didn't finish; the next `append` takes it away.
    """

    def __init__(self, path: Path, kind: str, about: Mapping[str, Any]) -> None:
        self.path, self._kind = path, kind
        self.header: Record = {"format": FORMAT, "cfisac": cfisac_env.__version__, **plain(about)}
        self.torn = False

    def read(self) -> Iterator[tuple[Record, str]]:
        """Yield every line with its place, for messages; nothing if there is no file.

        Raises:
            ValueError: the file belongs to another version or other results, is damaged, or isn't a journal.
        """
        if not self.path.exists():
            return
        whole, _, broken = schemas.read(self.path).rpartition("\n")
        self.torn = bool(broken)
        first, *rest = whole.split("\n")
        try:
            found = schemas.loads(first, self.path)
            schemas.check(found, f"{self._kind} header", self.path)
        except ValueError as error:
            raise ValueError(
                f"{error}; it isn't a store of {self._kind}: name another folder, or move the file away"
            ) from None
        for name, wanted in self.header.items():
            if found.get(name) != wanted:
                raise ValueError(
                    f"{self.path} was made with {name} = {_brief(found.get(name), wanted)}, and this is {_brief(wanted, found.get(name))}: "
                    "results of another kind or version are never overwritten; name another folder with --out, or move the old one away"
                )
        for number, text in enumerate(rest, 2):
            where = f"{self.path}, line {number},"
            line = schemas.loads(text, where)
            schemas.check(line, f"{self._kind} line", where)
            yield line, where

    def checked(self, line: Record) -> Record:
        """A new line as JSON gives it back.

        Raises:
            ValueError: it isn't of the format.
        """
        line = plain(line)
        schemas.check(line, f"{self._kind} line", "the new line")
        return line

    def append(self, line: Record) -> Record:
        """Add a line, on disk before this returns.

        Returns:
            The line as JSON gives it back.

        Raises:
            ValueError: it isn't of the format.
        """
        line = self.checked(line)
        if self.torn:
            write_text(self.path, schemas.read(self.path).rpartition("\n")[0] + "\n")
            self.torn = False
        if not self.path.exists():
            self.rewrite([])
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))
        return line

    def rewrite(self, lines: Iterable[Record]) -> None:
        """Write the file anew with these lines."""
        write_text(self.path, "".join(map(_line, [self.header | provenance(), *lines])))
        self.torn = False


def _line(content: Record) -> str:
    return json.dumps(plain(content), allow_nan=False, separators=(",", ":")) + "\n"


def _brief(value: Any, other: Any) -> Any:
    """The entries of an object that differ; anything else as it is."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: _brief(item, other.get(name)) for name, item in value.items() if other.get(name) != item}
    return value
