"""`cfisac reproduce …`: the paper's errata, tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from cfisac_env import SystemConfig
from experiments.commands.common import progress


@dataclass(frozen=True)
class Errata:
    """Measure the paper's errata on random drops; writes errata.json and errata.md."""

    configured: ClassVar[bool] = True

    drops: int = 100
    """Number of random drops."""
    seed: int = 1_000_000
    """Seed of the first drop; the others follow."""
    out: Path = Path("runs/errata")
    """Folder of the results."""
    page: Path | None = None
    """A Markdown page whose quoted measures are replaced by the new values."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, print, write."""
        from experiments import files
        from experiments.reproduction import errata

        if self.drops < 1:
            raise ValueError(f"--drops must be 1 or more, got {self.drops}")
        if self.page is not None and not self.page.is_file():
            raise FileNotFoundError(f"no page at {self.page}; --page names an existing Markdown file")
        config = SystemConfig(**fields)
        drops = []
        with progress(console) as bar:
            for seed in bar.track(range(self.seed, self.seed + self.drops), description="measuring"):
                drops.append(errata.measure_drop(config, seed))
        measured = errata.summarise(drops)
        text = errata.table(measured)
        console.print(text, markup=False, soft_wrap=True)
        columns = sorted({name for drop in drops for name in drop})
        content = {
            **files.provenance(),
            "config": config.as_dict(),
            "seeds": [self.seed, self.seed + self.drops - 1],
            "measures": {one.name: vars(one) for one in measured},
            "drops": {name: [drop.get(name) for drop in drops] for name in columns},
        }
        written = [files.write_json(self.out / "errata.json", content), files.write_text(self.out / "errata.md", text)]
        if self.page is not None:
            page = errata.fill(self.page.read_text(encoding="utf-8"), measured)
            written.append(files.write_text(self.page, page))
        for path in written:
            console.print(f"wrote {path}", soft_wrap=True)
