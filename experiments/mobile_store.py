"""Played episodes of `CfIsacMobile-v0` on disk, one line of JSON an episode and policy, appended while a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cfisac_env
from cfisac_env.files import write_text
from experiments import schemas
from experiments.results import plain, provenance

FORMAT = 1
NAME = "episodes.jsonl"


class EpisodeStore:
    """The lines of one folder: first what was played, then what came of it.

    Attributes:
        lines: what is stored, by policy and seed; the policy of what is known about an episode itself is the empty string.

    Raises:
        ValueError: the file is of other settings or another version, or isn't a store.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.lines: dict[tuple[str, int], dict[str, Any]] = {}
        header = {"format": FORMAT, "cfisac": cfisac_env.__version__, "settings": plain(dict(settings))}
        if self.path.exists():
            self._read(header)
        else:
            write_text(self.path, _line(header | provenance()))

    def _read(self, header: Mapping[str, Any]) -> None:
        whole, _, broken = schemas.read(self.path).rpartition("\n")
        first, *rest = whole.split("\n")
        found = schemas.loads(first, self.path)
        schemas.check(found, "episodes header", self.path)
        for name, wanted in header.items():
            if found[name] != wanted:
                raise ValueError(
                    f"{self.path} was made with other {name}; name another folder with --out, or move the old one away"
                )
        for number, text in enumerate(rest, 2):
            where = f"{self.path}, line {number},"
            line = schemas.loads(text, where)
            schemas.check(line, "episodes line", where)
            if (line["policy"], line["seed"]) in self.lines:
                raise ValueError(
                    f"{where} is damaged: {line['policy'] or 'the episode'} of seed {line['seed']} is there twice"
                )
            self.lines[line["policy"], line["seed"]] = line["values"]
        if broken:  # the run was killed while it wrote this line
            write_text(self.path, whole + "\n")

    def add(self, policy: str, seed: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Store a line, on disk before this returns."""
        self.lines[policy, seed] = plain(dict(values))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line({"policy": policy, "seed": seed, "values": values}))
        return self.lines[policy, seed]


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(plain(dict(content)), allow_nan=False, separators=(",", ":")) + "\n"
