"""`cfisac report`: a folder of results as a page to explore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from experiments.commands.common import Command, Natural, Output


@dataclass(frozen=True)
class Report(Command):
    """Write one HTML file, complete in itself, with the tables, figures and drops of a folder of results."""

    output: ClassVar[Output] = "file"

    results: Path = Path("docs/results/paper")
    """Folder that `cfisac reproduce … --out` wrote."""
    maps: Natural = 100
    """Drops a point that can be seen on the map, at most."""
    reference: str = "local-search"
    """Policy that paired differences are taken to."""
    out: Path = Path("runs/report.html")
    """The page."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Read, build, write."""
        from cfisac_env.files import write_text
        from experiments.reproduction import page, run

        study = run.Reproduction.read(self.results, self.reference)
        path = write_text(self.out, page.build(study, self.maps))
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
