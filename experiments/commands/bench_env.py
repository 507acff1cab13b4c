"""`cfisac bench env`."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from cfisac_env import seeds
from experiments.commands.common import Command, Count, Seconds, Seed, progress, wrote

MOBILE = 256
"""Environments of `CfIsacMobile-v0`, at most: each keeps a whole episode."""


@dataclass(frozen=True)
class BenchEnv(Command):
    """Measure decisions a second of the environments, beside mobile-env when it is installed; writes JSON and Markdown."""

    configured: ClassVar[bool] = True

    sizes: tuple[str, ...] = ("50x10", "30x6")
    """APs x users."""
    environments: Count = 1024
    """In the vector environment."""
    threads: Count = 2
    """Of the vector environment."""
    seconds: Seconds = 3.0
    """For each rate."""
    scaling: bool = True
    """Measure how the cost grows with the number of environments and with the size, too."""
    seed: Seed = seeds.TEST
    """Of drops and actions."""
    out: Path = Path("runs/bench")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Measure, write, print."""
        from cfisac_env import SystemConfig
        from experiments import results
        from experiments.bench import environment as bench
        from experiments.results import Table
        from experiments.sizes import parse_size

        if given := sorted({"M", "K"} & fields.keys()):
            raise ValueError(f"--{given[0]} is in --sizes, such as --sizes 50x10 30x6")
        configs = [SystemConfig(M, K, **fields) for M, K in map(parse_size, self.sizes)]
        rates, n = [], self.environments
        with progress() as bar:
            task = bar.add_task("timing", total=None)
            for config in configs:
                rates.append(bench.scalar(config, self.seed, self.seconds))
                for (decisions, instants), threads in itertools.product(
                    ((1, 1), (1, 50), (50, 1)), sorted({1, self.threads})
                ):
                    rates.append(
                        bench.vector(config, n, decisions, threads, self.seed, self.seconds, episode_steps=instants)
                    )
                rates.append(bench.scoring(config, n, 50, self.seed, self.seconds))
                for threads in sorted({1, self.threads}):
                    rates.append(bench.mobile(config, min(n, MOBILE), threads, self.seed, self.seconds))
            with contextlib.suppress(ImportError):  # the row is left out without torch
                rates.append(bench.vector(configs[0], n, 1, 1, self.seed, self.seconds, "torch"))
            reference = bench.mobile_env(self.seed, self.seconds)
            shares = bench.profile(configs[0], self.seed)
            grown: list[bench.Rate] = []
            if self.scaling:
                counts = [4**i for i in range(7)]
                sizes = [(10, 10), (50, 10), (100, 30), (300, 50), (1000, 100)]
                grown = list(bench.scaling(configs[0], counts, sizes, self.seed, self.seconds / 3))
            bar.remove_task(task)
        fitted = bench.growth(grown) if grown else None
        traffic, bandwidth = bench.bytes_per_decision(configs[0]), bench.copy_bandwidth()
        tables: list[Table[Any]] = [bench.table(rates, reference)]
        if fitted is not None:
            tables.append(bench.growth_table(grown, fitted))
        tables.append(bench.profile_table(shares, traffic, bandwidth))
        content = {
            "seed": self.seed,
            "fields": fields,
            "rates": rates,
            "mobile_env": reference,
            "scaling": grown,
            "growth": fitted,
            "profile": shares,
            "bytes_per_decision": traffic,
            "copy_bandwidth_bytes_per_s": bandwidth,
        }
        text = "\n".join(table.page() for table in tables)
        written = results.write(self.out, {"env.md": text, "env.json": content})
        for table in tables:
            table.show(console, f"env.md in {self.out}")
        wrote(console, written)
