"""Policies over the same episodes of `CfIsacMobile-v0`: energy an episode, what it is made of, and how far it is from the best."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

import agents
import baselines
from baselines import clairvoyant
from baselines.clairvoyant import ClairvoyantPolicy
from cfisac_env import SystemConfig
from cfisac_env.mobile import CfIsacMobileEnv
from experiments import results
from experiments.journal import Journal
from experiments.parallel import in_order
from experiments.results import Column, Table, number, percent, span
from experiments.statistics import Interval, bootstrap, bootstrap_saving, bootstrap_share

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """One policy over every episode; arrays are (episodes,)."""

    policy: str  # with its options
    knows: str
    energy_j: Float
    transmit_j: Float
    circuit_j: Float
    switching_j: Float
    switched_on: Float
    active_aps: Float  # mean over the episode
    served: Float  # share of the instants that can be served in which every requirement was met
    step_ms: Float  # processor time of a decision


@dataclass(frozen=True, eq=False)
class MobileComparison:
    """All policies on the same episodes."""

    config: SystemConfig
    options: dict[str, Any]
    seeds: list[int]
    skipped: list[int]  # seeds of episodes that were passed over because an instant can't be served
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
    knows: str
    energy_j: Interval
    room: Interval  # share of the distance from `hysteresis` to `clairvoyant` that is closed; NaN without both
    above_clairvoyant: Interval
    transmit_j: float
    circuit_j: float
    switching_j: float
    switched_on: float
    active_aps: float
    served: float
    above_bound: float  # mean over the episodes that the policy served throughout
    above_best: float  # the same, to the best policy of the table in each episode that served it throughout
    step_ms: float


@dataclass(frozen=True)
class _Game:
    """One policy's episode, to be played by whichever process is free."""

    fields: dict[str, Any]
    policy: str
    seed: int
    beyond: tuple[int, ...]  # instants that can't be served
    payback_s: float
    bound_s: float


class EpisodeStore:
    """What is known of episodes and what was played, one journal a folder.

    Args:
        folder: of the results.
        settings: that episodes depend on.

    Attributes:
        lines: what is stored, by policy and seed; the policy of what is known about an episode itself is the empty string.

    Raises:
        ValueError: the file is of other settings or another version, is damaged, or isn't a store.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.journal = Journal(folder / "episodes.jsonl", "episodes", {"settings": settings})
        self.lines: dict[tuple[str, int], dict[str, Any]] = {}
        for line, where in self.journal.read():
            key = line["policy"], line["seed"]
            if key in self.lines:
                raise ValueError(f"{where} is damaged: {key[0] or 'the episode'} of seed {key[1]} is there twice")
            self.lines[key] = line["values"]

    def add(self, policy: str, seed: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Store a line, on disk before this returns."""
        values = self.journal.append({"policy": policy, "seed": seed, "values": values})["values"]
        self.lines[policy, seed] = dict(values)
        return self.lines[policy, seed]


def run(
    fields: dict[str, Any],
    policies: Sequence[str],
    episodes: int,
    seed: int,
    *,
    payback_s: float = 10.0,
    bound_s: float = 0.0,
    every: bool = False,
    workers: int | None = 1,
    folder: Path,
    step: Callable[[str], None] = lambda name: None,
) -> MobileComparison:
    """Let every policy play the same episodes. What `folder` has of them already isn't played again.

    Args:
        fields: arguments of `CfIsacMobile-v0`.
        policies: names, with options where they have any: `predictive:decorrelation_m=26,hold=6`.
        episodes: how many, with seeds from `seed` on.
        seed: of the first episode.
        payback_s: of `hysteresis` and `keep-credit`.
        bound_s: seconds of exact search for each instant's lower bound.
        every: play episodes in which an instant is certified to be beyond service, too, instead of passing over them.
        workers: processes.
        folder: of the results.
        step: called with a policy's name after each episode.

    Raises:
        ValueError: an unknown policy or option, results of other settings in the folder, or a thousand episodes on end that can't be
            served throughout.
    """
    env = gym.make("CfIsacMobile-v0", **fields)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    policies = list(dict.fromkeys(policies))
    made = {spec: _made(spec, env, payback_s, bound_s) for spec in policies}
    knows = {spec: str(getattr(policy, "knows", "observation")) for spec, policy in made.items()}
    # An agent that is trained anew plays anew.
    stored = {spec: "@".join(filter(None, (spec, getattr(policy, "digest", None)))) for spec, policy in made.items()}
    options = {
        "episode_steps": core.episode_steps, "step_s": core.step_s, "switching_energy_j": core.switching_energy_j,
        "wake_up_steps": core.wake_up_steps, "dynamics": repr(core.dynamics), "payback_s": payback_s, "bound_s": bound_s,
    }  # fmt: skip
    store = EpisodeStore(folder, {"config": core.config.as_dict(), "options": options})
    seeds: list[int] = []
    skipped: list[int] = []
    one = seed
    while len(seeds) < episodes:
        if len(skipped) >= 1000 + 100 * len(seeds):
            raise ValueError(
                f"of the episodes from seed {seed} on, {len(skipped)} have instants that can't be served, and {len(seeds)} haven't; "
                "play them with --every, or ask for less"
            )
        (seeds if every or not _known(store, core, one, bound_s)["beyond"] else skipped).append(one)
        one += 1
    games = [
        _Game(fields, spec, one, tuple(_known(store, core, one, bound_s)["beyond"]), payback_s, bound_s)
        for one in seeds
        for spec in policies
    ]
    env.close()
    missing = [game for game in games if (stored[game.policy], game.seed) not in store.lines]
    for game in games:
        if (stored[game.policy], game.seed) in store.lines:
            step(game.policy)
    for game, values in zip(missing, in_order(_played, missing, workers=workers), strict=True):
        store.add(stored[game.policy], game.seed, values)
        step(game.policy)

    def column(policy: str, name: str) -> Float:
        return np.array([store.lines[policy, one].get(name, 0.0) for one in seeds], dtype=np.float64)

    bound = column("", "lower_bound_j")
    for spec in policies:
        bound = np.maximum(bound, column(stored[spec], "lower_bound_j"))
    names = [field.name for field in dataclasses.fields(Episodes)][2:]
    results = [Episodes(spec, knows[spec], *(column(stored[spec], name) for name in names)) for spec in policies]
    beyond = np.array([len(store.lines["", one]["beyond"]) for one in seeds], dtype=np.float64)
    return MobileComparison(core.config, options, seeds, skipped, bound, beyond, results)


def _made(spec: str, env: Any, payback_s: float, bound_s: float) -> Any:
    """A policy from its name and options, or an agent."""
    name, _, text = spec.partition(":")
    options: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ValueError(f"the options of a policy are written name:option=value,option=value, got {spec!r}")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    if name in ("hysteresis", "keep-credit"):
        options = {"payback_s": payback_s} | options
    if name == "clairvoyant":
        options = {"env": env, "bound_s": bound_s} | options
    if name in agents.AGENTS:
        return agents.load(name, config=env.unwrapped.config, **options)
    try:
        return baselines.make(name, **options)
    except TypeError as error:
        raise ValueError(f"{spec}: {error}") from None


def _known(store: EpisodeStore, core: CfIsacMobileEnv, seed: int, bound_s: float) -> dict[str, Any]:
    """What is certified about an episode: instants that can't be served, and a lower bound for those who serve the others."""
    if ("", seed) not in store.lines:
        core.reset(seed=seed)
        problem = core.trajectory.problem
        bounds_w, beyond = clairvoyant.instant_bounds([problem[t] for t in range(core.episode_steps)], bound_s)
        values = {"lower_bound_j": bounds_w.sum() * core.step_s, "beyond": np.flatnonzero(beyond)}
        return store.add("", seed, values)
    return store.lines["", seed]


def _played(game: _Game) -> dict[str, float]:
    """One episode of one policy, by the environment's own account."""
    env = gym.make("CfIsacMobile-v0", **game.fields)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    policy = _made(game.policy, env, game.payback_s, game.bound_s)
    observation, _ = env.reset(seed=game.seed)
    infos, over, began = [], False, time.process_time()
    while not over:
        action, _ = policy.predict(observation, deterministic=True)
        observation, _, _, over, info = env.step(action)
        infos.append(info)
    spent_s = time.process_time() - began
    total = {key: float(sum(info[key] for info in infos)) for key in _SUMMED}
    servable = np.ones(len(infos), dtype=bool)
    servable[list(game.beyond)] = False
    feasible = np.array([info["feasible"] for info in infos])
    bound = {"lower_bound_j": policy.plan.lower_bound_j} if isinstance(policy, ClairvoyantPolicy) else {}
    env.close()
    return {
        "energy_j": infos[-1]["episode_energy_j"],
        "transmit_j": total["transmit_power_w"] * core.step_s,
        "circuit_j": total["circuit_power_w"] * core.step_s,
        "switching_j": total["switching_energy_j"],
        "switched_on": total["switched_on"],
        "active_aps": total["active_aps"] / len(infos),
        "served": float(feasible[servable].mean()) if servable.any() else 1.0,
        "step_ms": 1e3 * spent_s / len(infos),
        **bound,
    }


_SUMMED = ("transmit_power_w", "circuit_power_w", "switching_energy_j", "switched_on", "active_aps")


def summarise(comparison: MobileComparison) -> list[MobileRow]:
    """The table: one row a policy, over the episodes of which every instant can be served."""
    whole = comparison.whole
    throughout = {one.policy: whole & (one.served == 1.0) for one in comparison.results}
    best = np.min([np.where(throughout[one.policy], one.energy_j, np.inf) for one in comparison.results], axis=0)
    energy = {one.policy: one.energy_j[whole] for one in comparison.results}
    unknown = Interval(np.nan, np.nan, np.nan)
    seer, rule = energy.get("clairvoyant"), energy.get("hysteresis")
    rows = []
    for one in comparison.results:
        met, ours = throughout[one.policy], energy[one.policy]
        above = unknown if seer is None else bootstrap_saving(ours, seer)
        rows.append(
            MobileRow(
                policy=one.policy,
                knows=one.knows,
                energy_j=bootstrap(ours),
                room=unknown if seer is None or rule is None else bootstrap_share(rule - ours, rule - seer),
                above_clairvoyant=Interval(0.0 - above.value, 0.0 - above.high, 0.0 - above.low),
                transmit_j=_mean(one.transmit_j[whole]),
                circuit_j=_mean(one.circuit_j[whole]),
                switching_j=_mean(one.switching_j[whole]),
                switched_on=_mean(one.switched_on[whole]),
                active_aps=_mean(one.active_aps[whole]),
                served=_mean(one.served[whole]),
                above_bound=_mean(one.energy_j[met] / comparison.lower_bound_j[met] - 1),
                above_best=_mean(one.energy_j[met] / best[met] - 1),
                step_ms=_mean(one.step_ms[whole]),
            )
        )
    return rows


def _mean(values: Float) -> float:
    return float(values.mean()) if values.size else np.nan


NONE_WHOLE = "no episode of which every instant can be served"
NEVER_THROUGHOUT = "the policy served no episode throughout"

NO_ROOM = "no hysteresis and clairvoyant in the table"


def _percents(interval: Interval) -> str | None:
    """An estimate and its interval in percent."""
    if not np.isfinite(interval.value):
        return None
    ends = span(interval, "{:.0%}")
    return f"{interval.value:.0%}" + (f" {ends}" if ends else "")


COLUMNS: tuple[Column[MobileRow], ...] = (
    Column("policy", lambda row: row.policy, code=True),
    Column("energy J", lambda row: number(row.energy_j.value, "{:.1f}"), NONE_WHOLE),
    Column("95 % interval", lambda row: span(row.energy_j, "{:.1f}"), results.ONE_VALUE, rank=5),
    Column("served", lambda row: percent(row.served, 2), NONE_WHOLE, rank=1),
    Column("room closed", lambda row: _percents(row.room), NO_ROOM, rank=1),
    Column("to clairvoyant", lambda row: _percents(row.above_clairvoyant), NO_ROOM, rank=2),
    Column("circuit J", lambda row: number(row.circuit_j, "{:.1f}"), NONE_WHOLE, rank=7),
    Column("transmit J", lambda row: number(row.transmit_j, "{:.1f}"), NONE_WHOLE, rank=7),
    Column("switching J", lambda row: number(row.switching_j, "{:.1f}"), NONE_WHOLE, rank=6),
    Column("switch-ons", lambda row: number(row.switched_on, "{:.1f}"), NONE_WHOLE, rank=4),
    Column("active APs", lambda row: number(row.active_aps, "{:.1f}"), NONE_WHOLE, rank=4),
    Column("to best", lambda row: percent(row.above_best, 1), NEVER_THROUGHOUT, rank=3),
    Column("certified", lambda row: percent(row.above_bound, 1), NEVER_THROUGHOUT, rank=3),
    Column("ms a step", lambda row: number(row.step_ms, "{:.1f}"), NONE_WHOLE, rank=5),
    Column("knows", lambda row: row.knows, rank=3),
)

NOTES = (
    "energy: mean of an episode; served: instants with every requirement met; room closed: share of the energy between hysteresis and "
    "clairvoyant that is saved, to clairvoyant: energy above its, both over the same episodes [95 % bootstrap interval over episodes]; "
    "to best, certified: gap to the best policy of the table and to the certified lower bound, over the episodes that the policy served "
    "throughout; knows: what decisions rest on"
)


def _title(comparison: MobileComparison) -> str:
    config, options, whole = comparison.config, comparison.options, comparison.whole
    others = int((~whole).sum()) + len(comparison.skipped)
    more = f" ({others} more with instants that are certified to be beyond service)" if others else ""
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
    ax.set_yticks(y, [results.drawn(row.policy) for row in rows])
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
        "skipped_seeds": comparison.skipped,
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
