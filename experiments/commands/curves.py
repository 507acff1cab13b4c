"""`cfisac curves`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments.commands.common import Command, announce


@dataclass(frozen=True)
class Curves(Command):
    """Learning curves of training runs with their spread over seeds; writes curves.json, runs.md, curves.png and curves.svg."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs of `cfisac train ALGORITHM`."""
    out: Path = Path("runs/curves")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Read, draw, write."""
        from experiments import curves

        found = curves.read(self.runs)
        written = curves.write(self.out, found)
        curves.table(found).show(console, f"runs.md in {self.out}")
        announce(console, written)
