"""Options of the reproduction: the policies that decide, on how many drops, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from cfisac_env import PRESETS, seeds
from experiments.commands.common import Count, Natural, Seconds, Seed, open_option


@dataclass(frozen=True)
class Options:
    """Policies, drops and times."""

    policies: Annotated[tuple[str, ...], open_option("NAME [NAME ...]")] = ()
    """Names of the policies; by default every oracle and every agent."""
    presets: tuple[str, ...] = tuple(PRESETS)
    """Presets whose points are decided; stored decisions of other presets are shown, too."""
    drops: Count = 100
    """Random drops a point."""
    slow_drops: Natural = 20
    """Number of these drops that modified-bb-paper decides, which solves hundreds of cvxpy programs a drop."""
    seed: Seed = seeds.TEST
    """Seed of the first drop; the others follow."""
    reference: str = "local-search"
    """Policy that paired differences are taken to."""
    time_limit: Seconds = 10.0
    """Time in s a drop for branch-and-bound, whose lower bounds are the certified ones."""
    timed_drops: Count = 5
    """Drops that the timing pass decides, one policy after the other."""
    time_budget: Seconds = 60.0
    """Time in s for timing one policy at one size; a policy whose decision takes longer isn't timed at larger sizes."""
    largest: Annotated[int, tyro.conf.Suppress] = 1000  # M of the timing pass
    slow_links: Annotated[int | None, tyro.conf.Suppress] = None  # M·K beyond which slow policies are left out

    def reduced(self) -> Options:
        """Reduce the work to some ten minutes: few drops, short searches, small sizes for slow policies."""
        return replace(
            self,
            drops=min(self.drops, 4),
            slow_drops=min(self.slow_drops, 1),
            time_limit=min(self.time_limit, 1.0),
            timed_drops=min(self.timed_drops, 2),
            time_budget=min(self.time_budget, 5.0),
            largest=200,
            slow_links=300,
        )
