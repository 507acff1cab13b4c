"""Agents that choose sets of APs beside the rule that learns nothing, at several budgets: drops served, gap to the best known, time.

Times are processor milliseconds of single decisions on one thread, so that they hold on a busy machine too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agents
import baselines
from agents.rl import storage
from baselines.set_search import Budget
from cfisac_env import actions, observations
from cfisac_env.sampling import draw
from experiments.bench.cases import Case
from experiments.results import Column

SHORT = Budget(moves=16, patience=1, rounds=12)
"""Of a search that prices few sets."""

LONG = Budget(moves=64, patience=60, rounds=200)
"""Of one that ends, up to 50 APs and 20 users, where no neighbour is cheaper."""


@dataclass(frozen=True)
class Row:
    """A policy on the drops of a case; one entry a trained agent, or a single one."""

    case: str
    policy: str
    drops: int
    servable: int  # drops that any policy of the case serves
    served: Sequence[int]
    gap: Sequence[float]  # mean over the drops served, to the best known
    error: float  # standard error over drops, of the mean over agents
    ms: float  # median


def policies(weights: Sequence[Path]) -> dict[str, list[Callable[[], Any]]]:
    """Name of a row → what makes its policies: one, or one for each file of weights."""
    rule, search = "most-informative", "most-informative-search"
    plain: dict[str, Callable[[], Any]] = {
        rule: lambda: baselines.make(rule),
        f"{rule}, 8 completions": lambda: baselines.make(rule, completions=8),
        f"{search}, short": lambda: baselines.make(search, **asdict(SHORT)),
        search: lambda: baselines.make(search),
        f"{search}, long": lambda: baselines.make(search, **asdict(LONG)),
        "local-search": lambda: baselines.make("local-search"),
    }
    trained: dict[str, dict[str, Any]] = {
        "grpo, no search, 1 beam": {"search": False, "beams": 1},
        "grpo, no search, 8 beams": {"search": False, "beams": 8},
        "grpo, no search": {"search": False},
        "grpo, short search": {"budget": SHORT},
        "grpo": {},
        "grpo, long search": {"budget": LONG},
        "ddpg, actor alone, 1 completion": {"advised": False, "search": False, "beams": 1, "completions": 1},
        "ddpg, actor alone, 1 beam": {"advised": False, "search": False, "beams": 1},
        "ddpg, actor alone": {"advised": False, "search": False},
        "ddpg, 1 beam": {"search": False, "beams": 1},
        "ddpg, no search": {"search": False},
        "ddpg, short search": {"budget": SHORT},
        "ddpg": {},
        "ddpg, long search": {"budget": LONG},
    }
    files: dict[str, list[Path | None]] = {}
    for path in weights:
        files.setdefault(storage.read(path)[0].algorithm, []).append(path)

    def loader(agent: str, path: Path | None, options: Mapping[str, Any]) -> Callable[[], Any]:
        return lambda: agents.load(agent, **({} if path is None else {"weights": path}), **options)

    found = {name: [make] for name, make in plain.items()}
    for name, options in trained.items():
        agent = name.partition(",")[0]
        if agent in files or not weights:
            found[name] = [loader(agent, path, options) for path in files.get(agent, [None])]
    return found


def measure(
    case: Case, weights: Sequence[Path], seed: int, step: Callable[[str], None] = lambda name: None
) -> list[Row]:
    """Every policy on every drop of a case, one decision at a time; drops have the seeds from `seed` on.

    Args:
        weights: of agents trained alike; none for the shipped one.
    """
    scenario = draw(case.config, range(seed, seed + case.drops))
    observation = observations.encode(scenario)
    total: dict[str, NDArray[np.float64]] = {}
    spent: dict[str, float] = {}
    for name, makers in policies(weights).items():
        decided: list[NDArray[np.float64]] = []
        times: list[float] = []
        for make in makers:
            policy, chosen = make(), []
            policy.predict(_one(observation, 0))  # compiles
            for i in range(case.drops):
                since = time.process_time()
                action, _ = policy.predict(_one(observation, i))
                times.append(time.process_time() - since)
                chosen.append(action)
                step(name)
            outcome = scenario.evaluate(actions.decode(np.stack(chosen), case.config.max_ap_power_w))
            decided.append(np.where(outcome.feasible, outcome.total_power, np.inf))
        total[name], spent[name] = np.stack(decided), 1e3 * float(np.median(times))
    best = np.min([values.min(0) for values in total.values()], axis=0)
    return [_row(case, name, values, best, spent[name]) for name, values in total.items()]


def _row(case: Case, name: str, values: NDArray[np.float64], best: NDArray[np.float64], ms: float) -> Row:
    servable = np.isfinite(best)
    above = values[:, servable] / best[servable] - 1.0
    served = np.isfinite(above)
    gap = np.where(served, above, np.nan)
    over_agents = np.nanmean(gap[:, served.any(0)], axis=0) if served.any() else np.zeros(0)
    return Row(
        case=f"{case.config.preset} {case.config.M}, {case.config.K}",
        policy=name,
        drops=case.drops,
        servable=int(servable.sum()),
        served=[int(one.sum()) for one in served],
        gap=[float(np.nanmean(one)) if np.isfinite(one).any() else np.nan for one in gap],
        error=float(over_agents.std(ddof=1) / np.sqrt(len(over_agents))) if len(over_agents) > 1 else np.nan,
        ms=ms,
    )


def _one(observation: Mapping[str, NDArray[Any]], i: int) -> dict[str, NDArray[Any]]:
    return {key: value[i] for key, value in observation.items()}


def _gap(row: Row) -> str | None:
    if not np.isfinite(row.gap).any():
        return None
    spread = f" ({100 * min(row.gap):.2f} to {100 * max(row.gap):.2f})" if len(row.gap) > 1 else ""
    error = f" ± {100 * row.error:.2f}" if np.isfinite(row.error) else ""
    return f"{100 * float(np.nanmean(row.gap)):.2f}{error}{spread}"


COLUMNS: tuple[Column[Row], ...] = (
    Column("preset M, K", lambda row: row.case),
    Column("policy", lambda row: row.policy, left=True),
    Column("served", lambda row: f"{100 * float(np.mean(row.served)) / max(row.servable, 1):.4g} % of {row.servable}"),
    Column("gap %, ± standard error (spread over seeds)", _gap, "no drop is served"),
    Column("ms", lambda row: f"{row.ms:.2g}" if row.ms < 100 else f"{row.ms:.0f}"),
)
