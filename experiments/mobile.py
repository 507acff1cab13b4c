"""Policies over the same episodes of `CfIsacMobile-v0`: energy an episode, what it is made of, and how far it is from the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

import baselines
from baselines import clairvoyant
from baselines.clairvoyant import ClairvoyantPolicy
from cfisac_env import SystemConfig
from cfisac_env.mobile import CfIsacMobileEnv
from experiments import results
from experiments.results import Column, Table, number, percent, span
from experiments.statistics import Interval, bootstrap

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """One policy over every episode; arrays are (episodes,)."""

    policy: str
    energy_j: Float
    transmit_j: Float
    circuit_j: Float
    switching_j: Float
    switched_on: Float
    active_aps: Float  # mean over the episode
    served: Float  # share of the instants that can be served in which every requirement was met


@dataclass(frozen=True, eq=False)
class MobileComparison:
    """All policies on the same episodes."""

    config: SystemConfig
    options: dict[str, Any]
    seeds: list[int]
    lower_bound_j: Float  # (episodes,) certified for whoever serves every instant that can be served
    infeasible: Float  # (episodes,) instants that are certified to be beyond service
    results: list[Episodes]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """(episodes,) every instant can be served, as far as is proven; energies are averaged over these."""
        return np.asarray(self.infeasible == 0)


@dataclass(frozen=True)
class MobileRow:
    """One policy's line in the table; means over the episodes of which every instant can be served."""

    policy: str
    energy_j: Interval
    transmit_j: float
    circuit_j: float
    switching_j: float
    switched_on: float
    active_aps: float
    served: float
    above_bound: float  # mean over the episodes that the policy served throughout
    above_best: float  # the same, to the best policy of the table in each episode that served it throughout


def run(
    fields: dict[str, Any],
    policies: Sequence[str],
    episodes: int,
    seed: int,
    *,
    payback_s: float = 10.0,
    bound_s: float = 0.0,
    step: Callable[[str], None] = lambda name: None,
) -> MobileComparison:
    """Let every policy play every episode.

    Args:
        fields: arguments of `CfIsacMobile-v0`.
        policies: names.
        episodes: how many, with seeds from `seed` on.
        seed: of the first episode.
        payback_s: of `hysteresis`.
        bound_s: seconds of exact search for each instant's lower bound.
        step: called with a policy's name after each episode.
    """
    env = gym.make("CfIsacMobile-v0", **fields)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    options: dict[str, dict[str, Any]] = {
        "hysteresis": {"payback_s": payback_s},
        "clairvoyant": {"env": env, "bound_s": bound_s},
    }
    made = [baselines.make(name, **options.get(name, {})) for name in dict.fromkeys(policies)]
    seer = next((policy for policy in made if isinstance(policy, ClairvoyantPolicy)), None)
    rows: dict[str, list[list[float]]] = {policy.name: [] for policy in made}
    bounds, infeasible = np.zeros(episodes), np.zeros(episodes)
    for i in range(episodes):
        env.reset(seed=seed + i)
        if seer is None:
            problem = core.trajectory.problem
            instants = [problem[t] for t in range(core.episode_steps)]
            bounds_w, beyond = clairvoyant.instant_bounds(instants, bound_s)
            bounds[i] = bounds_w.sum() * core.step_s
        else:
            bounds[i], beyond = seer.plan.lower_bound_j, seer.plan.infeasible
        infeasible[i] = beyond.sum()
        for policy in made:
            rows[policy.name].append(_play(env, policy, seed + i, ~beyond))
            step(policy.name)
    env.close()
    played = [Episodes(name, *np.array(values, dtype=np.float64).T) for name, values in rows.items()]
    settings = {
        "episode_steps": core.episode_steps, "step_s": core.step_s, "switching_energy_j": core.switching_energy_j,
        "wake_up_steps": core.wake_up_steps, "dynamics": repr(core.dynamics), "payback_s": payback_s, "bound_s": bound_s,
    }  # fmt: skip
    return MobileComparison(core.config, settings, [seed + i for i in range(episodes)], bounds, infeasible, played)


def _play(env: gym.Env[Any, Any], policy: Any, seed: int, servable: NDArray[np.bool_]) -> list[float]:
    """One episode of one policy, in the order of the fields of `Episodes`, by the environment's own account."""
    observation, _ = env.reset(seed=seed)
    infos, over = [], False
    while not over:
        action, _ = policy.predict(observation, deterministic=True)
        observation, _, _, over, info = env.step(action)
        infos.append(info)
    step_s = env.unwrapped.step_s  # type: ignore[attr-defined]
    total = {key: float(sum(info[key] for info in infos)) for key in _SUMMED}
    feasible = np.array([info["feasible"] for info in infos])
    return [
        infos[-1]["episode_energy_j"],
        total["transmit_power_w"] * step_s,
        total["circuit_power_w"] * step_s,
        total["switching_energy_j"],
        total["switched_on"],
        total["active_aps"] / len(infos),
        float(feasible[servable].mean()) if servable.any() else np.nan,
    ]


_SUMMED = ("transmit_power_w", "circuit_power_w", "switching_energy_j", "switched_on", "active_aps")


def summarise(comparison: MobileComparison) -> list[MobileRow]:
    """The table: one row a policy, over the episodes of which every instant can be served."""
    whole = comparison.whole
    throughout = {one.policy: whole & (one.served == 1.0) for one in comparison.results}
    best = np.min([np.where(throughout[one.policy], one.energy_j, np.inf) for one in comparison.results], axis=0)
    rows = []
    for one in comparison.results:
        met = throughout[one.policy]
        rows.append(
            MobileRow(
                policy=one.policy,
                energy_j=bootstrap(one.energy_j[whole]),
                transmit_j=_mean(one.transmit_j[whole]),
                circuit_j=_mean(one.circuit_j[whole]),
                switching_j=_mean(one.switching_j[whole]),
                switched_on=_mean(one.switched_on[whole]),
                active_aps=_mean(one.active_aps[whole]),
                served=_mean(one.served[whole]),
                above_bound=_mean(one.energy_j[met] / comparison.lower_bound_j[met] - 1),
                above_best=_mean(one.energy_j[met] / best[met] - 1),
            )
        )
    return rows


def _mean(values: Float) -> float:
    return float(values.mean()) if values.size else np.nan


NONE_WHOLE = "no episode of which every instant can be served"
NEVER_THROUGHOUT = "the policy served no episode throughout"

COLUMNS: tuple[Column[MobileRow], ...] = (
    Column("policy", lambda row: row.policy, code=True),
    Column("energy J", lambda row: number(row.energy_j.value, "{:.1f}"), NONE_WHOLE),
    Column("95 % interval", lambda row: span(row.energy_j, "{:.1f}"), results.ONE_VALUE, rank=5),
    Column("circuit J", lambda row: number(row.circuit_j, "{:.1f}"), NONE_WHOLE, rank=7),
    Column("transmit J", lambda row: number(row.transmit_j, "{:.1f}"), NONE_WHOLE, rank=7),
    Column("switching J", lambda row: number(row.switching_j, "{:.1f}"), NONE_WHOLE, rank=6),
    Column("switch-ons", lambda row: number(row.switched_on, "{:.1f}"), NONE_WHOLE, rank=4),
    Column("active APs", lambda row: number(row.active_aps, "{:.1f}"), NONE_WHOLE, rank=3),
    Column("served", lambda row: percent(row.served, 1), NONE_WHOLE, rank=1),
    Column("to best", lambda row: percent(row.above_best, 1), NEVER_THROUGHOUT, rank=2),
    Column("certified", lambda row: percent(row.above_bound, 1), NEVER_THROUGHOUT, rank=2),
)

NOTES = (
    "energy: mean of an episode; served: instants with every requirement met; to best, certified: gap to the best policy of the table and "
    "to the certified lower bound, over the episodes that the policy served throughout"
)


def _title(comparison: MobileComparison) -> str:
    config, options, whole = comparison.config, comparison.options, comparison.whole
    more = f" ({(~whole).sum()} more with instants that are certified to be beyond service)" if (~whole).any() else ""
    return (
        f"{config.preset}, M={config.M}, K={config.K}, S={config.S}: {whole.sum()} episodes of {options['episode_steps']} × "
        f"{options['step_s']:g} s{more}, {options['switching_energy_j']:g} J a switch, {options['wake_up_steps']} wake-up steps"
    )


def table(comparison: MobileComparison, rows: Sequence[MobileRow]) -> Table[MobileRow]:
    """One row a policy."""
    return Table(COLUMNS, rows, _title(comparison), NOTES)


def figure(comparison: MobileComparison, rows: Sequence[MobileRow]) -> Figure:
    """Energy an episode and what it is made of, one bar a policy."""
    result = Figure(figsize=(8.5, 1.8 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(result)
    ax = result.subplots()
    y = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for label, color in (("circuit", "#a6cee3"), ("transmit", "#0072b2"), ("switching", "#d55e00")):
        width = np.nan_to_num([getattr(row, f"{label}_j") for row in rows])
        ax.barh(y, width, left=left, color=color, label=label)
        left += width
    bound = comparison.lower_bound_j[comparison.whole]
    if bound.size:
        ax.axvline(float(bound.mean()), color="black", linestyle=":", label="certified lower bound")
    for height, width, row in zip(y, left, rows, strict=True):
        if row.served < 1.0:
            ax.text(width, height, f" {row.served:.1%} served", va="center", fontsize=8)
    ax.set_yticks(y, [row.policy for row in rows])
    ax.set_xlabel("energy an episode, J")
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(_title(comparison), fontsize=9)
    return result


def write(folder: Path, comparison: MobileComparison, rows: Sequence[MobileRow]) -> list[Path]:
    """Write `mobile.csv`, `mobile.md`, `mobile.png` and `mobile.json` into a folder."""
    content = {
        "config": comparison.config.as_dict(),
        "options": comparison.options,
        "seeds": comparison.seeds,
        "rows": rows,
        "episodes": {
            "lower_bound_j": comparison.lower_bound_j,
            "infeasible_instants": comparison.infeasible,
            "policies": {
                one.policy: {key: value for key, value in vars(one).items() if key != "policy"}
                for one in comparison.results
            },
        },
    }
    return results.write(
        folder,
        {
            "mobile.csv": results.csv_text([results.flat(row) for row in rows]),
            "mobile.md": table(comparison, rows).markdown(),
            "mobile.png": figure(comparison, rows),
            "mobile.json": content,
        },
    )
