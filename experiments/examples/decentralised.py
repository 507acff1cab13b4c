"""Cost of decentralised control: APs that decide alone by rules, beside the central oracle, on the same test drops.

    python -m experiments.examples.decentralised --preset paper --out docs/results/doors

Every AP of the PettingZoo environment decides from its own links and from the numbers that all APs share. The settings of a rule are those
that need the least power on training drops among those that serve at least `served` of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

import baselines
from baselines.decentralised import OwnLinks, SharedSensing
from cfisac_env import seeds
from cfisac_env.decentralised import CfIsacParallelEnv
from experiments import results
from experiments.results import Column, Table

Rule = OwnLinks | SharedSensing
Float = NDArray[np.float64]

EXPONENTS = (0.0, 0.125, 0.25, 0.375, 0.5)
RULES: dict[str, list[Rule]] = {
    "own links": [OwnLinks(*pair) for pair in itertools.product((0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01), EXPONENTS)],
    "sensing links shared": [
        SharedSensing(*pair) for pair in itertools.product((0, 1, 2, 3, 4, 6, 8, 12, 16), EXPONENTS)
    ],
}
"""Settings to choose from, by the information that APs have."""


@dataclass(frozen=True)
class DecentralisedCommand:
    """Choose the settings of rules on training drops, and compare them with central policies on test drops.

    Attributes:
        preset: of the drops.
        M: access points.
        K: users.
        drops: test drops.
        tuning: training drops for the choice of settings.
        served: least share of the training drops.
        out: folder of the results.
    """

    preset: str = "paper"
    M: int = 30
    K: int = 6
    drops: int = 200
    tuning: int = 100
    served: float = 0.95
    out: Path = Path("runs/decentralised")


@dataclass(frozen=True)
class Row:
    """One way of control over the test drops."""

    control: str
    numbers: str  # shared per AP
    rule: str
    served: float  # share of the drops that `local-search` serves
    power_w: float  # mean over the drops that both serve
    gap: float  # mean over them
    aps: float  # active, mean over all drops


def jointly(rule: Rule) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Every AP acts by the rule on what it sees."""
    return lambda observations, central: {agent: rule.action(seen) for agent, seen in observations.items()}


def centrally(name: str) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """A central policy decides for all APs."""
    policy = baselines.make(name)
    return lambda observations, central: dict(zip(observations, policy.predict(central)[0], strict=True))


def played(
    env: CfIsacParallelEnv, act: Callable[[dict[str, Any], Any], dict[str, Any]], first: int, drops: int
) -> tuple[Float, Float]:
    """Total power in W, NaN where the drop isn't served, and active APs, (drops,) each."""
    total, aps = np.full(drops, np.nan), np.zeros(drops)
    for i in range(drops):
        observations, _ = env.reset(seed=first + i)
        _, _, _, _, infos = env.step(act(observations, env.central_observation))
        info = next(iter(infos.values()))
        aps[i] = info["active_aps"]
        if info["feasible"]:
            total[i] = info["total_power_w"]
    return total, aps


def tuned(rules: Sequence[Rule], env: CfIsacParallelEnv, drops: int, served: float) -> Rule:
    """The rule of least mean power among those that serve enough training drops, or the one that serves most."""
    totals = [played(env, jointly(rule), seeds.TRAINING, drops)[0] for rule in rules]
    shares = [float(np.isfinite(total).mean()) for total in totals]
    enough = [i for i, share in enumerate(shares) if share >= min(served, max(shares))]
    return rules[min(enough, key=lambda i: float(np.nanmean(totals[i])))]


def compare(command: DecentralisedCommand) -> list[Row]:
    """Tune and compare."""
    config: dict[str, Any] = {"M": command.M, "K": command.K, "preset": command.preset}
    env = CfIsacParallelEnv(budget=0, **config)
    full = 3 * env.env.config.S + 2 * command.K
    best, best_aps = played(env, centrally("local-search"), seeds.TEST, command.drops)

    def row(control: str, numbers: int, rule: str, total: Float, aps: Float) -> Row:
        both = np.isfinite(best) & np.isfinite(total)
        return Row(
            control, str(numbers), rule, float(both.sum() / np.isfinite(best).sum()), float(total[both].mean()),
            float((total[both] / best[both] - 1.0).mean()), float(aps.mean()),
        )  # fmt: skip

    rows = []
    for (control, rules), budget in zip(RULES.items(), (0, 3 * env.env.config.S), strict=True):
        local = CfIsacParallelEnv(budget=budget, **config)
        rule = tuned(rules, local, command.tuning, command.served)
        rows.append(row(control, budget, repr(rule), *played(local, jointly(rule), seeds.TEST, command.drops)))
    for name in ("max-power", "strongest-ap", "most-informative"):
        rows.append(row("central", full, name, *played(env, centrally(name), seeds.TEST, command.drops)))
    return [*rows, row("central", full, "local-search", best, best_aps)]


COLUMNS: tuple[Column[Row], ...] = (
    Column("control", lambda row: row.control),
    Column("numbers per AP", lambda row: row.numbers),
    Column("rule", lambda row: row.rule, code=True),
    Column("served", lambda row: f"{row.served:.1%}"),
    Column("W", lambda row: f"{row.power_w:.3f}"),
    Column("gap to local-search", lambda row: f"{row.gap:.0%}"),
    Column("active APs", lambda row: f"{row.aps:.1f}"),
)


def main() -> None:
    """Run the command, write and show its table."""
    command = tyro.cli(DecentralisedCommand, description=DecentralisedCommand.__doc__)
    rows = compare(command)
    name = f"decentralised-{command.preset}-{command.M}x{command.K}"
    content = {"settings": {**vars(command), "out": str(command.out)}, "rows": [vars(row) for row in rows]}
    results.write(command.out, {f"{name}.md": Table(COLUMNS, rows).markdown(), f"{name}.json": content})
    Table(COLUMNS, rows).show(Console())


if __name__ == "__main__":
    main()
