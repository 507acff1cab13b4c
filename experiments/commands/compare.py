"""`cfisac compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from rich.console import Console

import baselines
from cfisac_env import Scenario, SystemConfig, seeds
from cfisac_env.drops import load
from experiments.commands.common import Command, Count, Seed, open_option, progress


@dataclass(frozen=True)
class Compare(Command):
    """Compare policies on the same drops; writes compare.json, compare.csv, compare.md and compare.png."""

    configured: ClassVar[bool] = True

    policies: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Names of oracles and of agents, such as hetgnn; by default every oracle that supports the drops (not all support shared pilots)."""
    drops: Count = 20
    """Number of random drops."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    drops_file: Annotated[Path | None, open_option("FILE")] = None
    """Compare on these drops (written by Scenario.save) instead of random ones."""
    reference: Annotated[str | None, open_option("NAME")] = None
    """Policy that paired differences are taken to; by default the cheapest that is feasible on every drop."""
    out: Path = Path("runs/compare")
    """Folder of the results."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Decide, write, print."""
        from experiments import compare, outputs

        drops: int | Scenario = self.drops
        if self.drops_file is None:
            config, count = SystemConfig(**fields), self.drops
        else:
            drops = load(self.drops_file, fields).batch()
            config, count = drops.config, len(drops)
        names = self.policies or tuple(
            name
            for name, policy in baselines.POLICIES.items()
            if policy.takes_shared_pilots or not config.pilots_reused
        )
        compare.check_reference(self.reference, names)
        policies = compare.build(names, config)
        with progress() as bar:
            task = bar.add_task("deciding", total=count * len(policies))
            comparison = compare.run(
                config, policies, drops, self.seed, lambda name: bar.update(task, advance=1, description=name)
            )
        outputs.result(comparison, compare.summarise(comparison, self.reference)).publish(self.out, console)
