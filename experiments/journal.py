"""Results as lines of JSON that are appended while a run goes on, so that a killed run loses nothing.

The first line is a header: format, version and whatever else the other lines depend on. Every line is checked by its schema when it is
written and when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cfisac_env
from cfisac_env import json_files
from cfisac_env.files import naming, write_text
from experiments import schemas
from experiments.results import plain, provenance

Record = dict[str, Any]

VERSION: Mapping[str, Any] = {"format": 1, "cfisac": cfisac_env.__version__}
"""Versions in the header of every store."""


def check_header(found: Record, wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse stored results of a version that this one doesn't read, or of other settings."""
    for name, value in wanted.items():
        readable = name == "cfisac" and str(found.get(name)).rpartition(".")[0] in cfisac_env.READABLE
        if found.get(name) != value and not readable:
            raise ValueError(
                f"{path} was made with {name} = {_difference(found.get(name), value)}, and this is {_difference(value, found.get(name))}: "
                "results of another kind or version are never overwritten; name another folder with --out, or move the old one away"
            )


def check_version(found: Record, path: Path) -> None:
    """Refuse to add to results of another version, which are only read."""
    if found["cfisac"] != cfisac_env.__version__:
        raise ValueError(
            f"{path} was made with cfisac {found['cfisac']}, and this is {cfisac_env.__version__}: results of another version are shown, "
            "but nothing is added to them; name another folder with --out, or go on with that version"
        )


class Journal:
    """A file of JSON lines; reading leaves it unchanged.

    Args:
        kind: prefix of its schemas, `KIND header` and `KIND line`.
        settings: what its lines depend on.

    Attributes:
        header: its first line, with the version that wrote it.
        torn: whether a killed run left an unfinished last line; the next `append` removes it.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any]) -> None:
        self.path, self._kind = path, kind
        self.header: Record = {**VERSION, **plain(settings)}
        self.torn = False

    def read(self) -> Iterator[tuple[Record, str]]:
        """Yield every line with its place, for messages; nothing if there is no file.

        Raises:
            ValueError: the file is damaged, isn't a journal, or was made with another version or other settings.
        """
        if not self.path.exists():
            return
        whole, _, rest = json_files.read(self.path).rpartition("\n")
        self.torn = bool(rest)
        first, *lines = whole.split("\n")
        try:
            found = json_files.loads(first, self.path)
            schemas.check(found, f"{self._kind} header", self.path)
        except ValueError as error:
            raise ValueError(
                f"{error}; it isn't a store of {self._kind}: name another folder, or move the file away"
            ) from None
        check_header(found, self.header, self.path)
        self.header["cfisac"] = found["cfisac"]
        for number, text in enumerate(lines, 2):
            where = f"{self.path}, line {number},"
            line = json_files.loads(text, where)
            schemas.check(line, f"{self._kind} line", where)
            yield line, where

    def checked(self, line: Record) -> Record:
        """Convert a new line to types of JSON.

        Raises:
            ValueError: it violates the schema.
        """
        line = plain(line)
        schemas.check(line, f"{self._kind} line", "the new line")
        return line

    def check_version(self) -> None:
        """Refuse to add to a journal of another version.

        Raises:
            ValueError: it is one.
        """
        check_version(self.header, self.path)

    def append(self, line: Record) -> Record:
        """Add a line, on disk before this returns, and return it as JSON gives it back.

        Raises:
            ValueError: it violates the schema, or the journal is of another version.
        """
        self.check_version()
        line = self.checked(line)
        if self.torn:
            write_text(self.path, json_files.read(self.path).rpartition("\n")[0] + "\n")
            self.torn = False
        if not self.path.exists():
            self.rewrite([])
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))
        return line

    def rewrite(self, lines: Iterable[Record]) -> None:
        """Replace the file by one with these lines.

        Raises:
            ValueError: the journal is of another version.
        """
        self.check_version()
        write_text(self.path, "".join(map(_line, [self.header | provenance(), *lines])))
        self.torn = False


class Store(dict[tuple[str, int], Record]):
    """Values by policy and seed, kept in a journal; the empty policy has those of the drop or episode itself.

    Raises:
        ValueError: the file is damaged, isn't such a store, or was made with another version or other settings.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._journal = Journal(path, kind, settings)
        for line, where in self._journal.read():
            key = line["policy"], line["seed"]
            if super().__contains__(key):
                raise ValueError(f"{where} is damaged: {key[0] or 'the drop'} of seed {key[1]} is there twice")
            super().__setitem__(key, line["values"])

    def __contains__(self, key: object) -> bool:
        """Return whether values are stored. What a store of another version lacks is refused, before it is computed."""
        found = super().__contains__(key)
        if not found:
            self._journal.check_version()
        return found

    def __setitem__(self, key: tuple[str, int], values: Record) -> None:
        """Add values, on disk before this returns."""
        line = self._journal.append({"policy": key[0], "seed": key[1], "values": values})
        super().__setitem__(key, line["values"])


def policy_key(name: str, policy: Any) -> str:
    """Return the key of a policy in a store, which changes with the weights of an agent."""
    digest = getattr(policy, "digest", None)
    return name if digest is None else f"{name}@{digest}"


def _line(content: Record) -> str:
    return json.dumps(plain(content), allow_nan=False, separators=(",", ":")) + "\n"


def _difference(value: Any, other: Any) -> Any:
    """The entries of an object that differ from another's; any other value as it is."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: _difference(item, other.get(name)) for name, item in value.items() if other.get(name) != item}
    return value
