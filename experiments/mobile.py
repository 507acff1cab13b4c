"""Comparison of policies on the same episodes of `CfIsacMobile-v0`: energy an episode, its parts, and its gaps."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import agents
import baselines
from baselines.bounds import certify
from baselines.clairvoyant import ClairvoyantPolicy
from cfisac_env import SystemConfig
from cfisac_env.mobile import CfIsacMobileEnv
from experiments import results
from experiments.journal import Store, policy_key
from experiments.parallel import in_order
from experiments.results import Column, Result, Table, number, percent, span
from experiments.statistics import Interval, bootstrap, bootstrap_saving, bootstrap_share, mean

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Episodes of a policy; arrays are (episodes,)."""

    policy: str  # with its options
    knows: str
    energy_j: Float
    transmit_j: Float
    circuit_j: Float
    switching_j: Float
    switched_on: Float
    active_aps: Float  # mean over the episode
    served: Float  # share of the instants, certified infeasible ones aside, in which every requirement was met
    step_ms: Float  # processor time of a decision


@dataclass(frozen=True, eq=False)
class MobileComparison:
    """Episodes of several policies, with the same seeds."""

    config: SystemConfig
    options: dict[str, Any]
    seeds: list[int]
    skipped: list[int]  # seeds of episodes that were skipped for a certified infeasible instant
    lower_bound_j: Float  # (episodes,) certified for policies that serve every other instant
    infeasible: Float  # (episodes,) number of certified infeasible instants
    results: list[Episodes]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """(episodes,) whether no instant is certified infeasible; energies are averaged over these episodes."""
        return np.asarray(self.infeasible == 0)


@dataclass(frozen=True)
class MobileSummary:
    """Statistics of a policy over the episodes without a certified infeasible instant; numbers are means."""

    policy: str
    knows: str
    energy_j: Interval
    room: Interval  # share of the gap between `hysteresis` and `clairvoyant` that is closed; NaN without both, or without a significant gap
    above_clairvoyant: Interval
    transmit_j: float
    circuit_j: float
    switching_j: float
    switched_on: float
    active_aps: float
    served: float
    above_bound: float  # over the episodes that the policy served throughout
    above_best: float  # the same, to the best policy of each episode that served it throughout
    step_ms: float


@dataclass(frozen=True)
class _Task:
    """An episode of one policy, for any process."""

    fields: dict[str, Any]
    policy: str
    seed: int
    infeasible: tuple[int, ...]  # instants that are certified infeasible
    payback_s: float
    bound_s: float


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
    """Let every policy play the same episodes. Episodes that are stored in `folder` aren't played again.

    Args:
        fields: arguments of `CfIsacMobile-v0`.
        policies: names, with options where they have any: `predictive:decorrelation_m=26,hold=6`.
        episodes: number of episodes, with seeds from `seed` on.
        seed: of the first episode.
        payback_s: of `hysteresis` and `keep-credit`.
        bound_s: processor time in s per instant for the bound of `clairvoyant` that accounts for switching.
        every: play episodes with a certified infeasible instant, too, instead of skipping them.
        workers: processes.
        folder: of the results.
        step: called with a policy's name after each episode.

    Raises:
        ValueError: an unknown policy or option, results of other settings in the folder, or a thousand episodes in a row with a
            certified infeasible instant.
    """
    env = gym.make("CfIsacMobile-v0", **fields)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    policies = list(dict.fromkeys(policies))
    made = {spec: build(spec, core.config, payback_s, bound_s) for spec in policies}
    keys = {spec: policy_key(spec, policy) for spec, policy in made.items()}
    options = {
        "episode_steps": core.episode_steps, "step_s": core.step_s, "switching_energy_j": core.switching_energy_j,
        "wake_up_steps": core.wake_up_steps, "dynamics": repr(core.dynamics), "payback_s": payback_s, "bound_s": bound_s,
    }  # fmt: skip
    settings = {"settings": {"config": core.config.as_dict(), "options": options}}
    store = Store(folder / "episodes.jsonl", "episodes", settings)
    seeds: list[int] = []
    skipped: list[int] = []
    for episode in itertools.count(seed):
        if len(seeds) == episodes:
            break
        if len(skipped) >= 1000 + 100 * len(seeds):
            raise ValueError(
                f"of the episodes from seed {seed} on, {len(skipped)} have certified infeasible instants, and {len(seeds)} haven't; "
                "play them with --every, or relax the requirements"
            )
        if ("", episode) not in store:
            store["", episode] = _certified(core, episode)
        (seeds if every or not store["", episode]["beyond"] else skipped).append(episode)
    env.close()
    tasks = [
        _Task(fields, spec, episode, tuple(store["", episode]["beyond"]), payback_s, bound_s)
        for episode in seeds
        for spec in policies
    ]
    missing = [task for task in tasks if (keys[task.policy], task.seed) not in store]
    for task in tasks:
        if (keys[task.policy], task.seed) in store:
            step(task.policy)
    for task, values in zip(missing, in_order(_play, missing, workers=workers), strict=True):
        store[keys[task.policy], task.seed] = values
        step(task.policy)

    def column(key: str, name: str) -> Float:
        return np.array([store[key, episode].get(name, 0.0) for episode in seeds], dtype=np.float64)

    bounds = [column(key, "lower_bound_j") for key in ("", *keys.values())]
    names = [field.name for field in dataclasses.fields(Episodes)][2:]
    results = [
        Episodes(spec, str(getattr(policy, "knows", "observation")), *(column(keys[spec], name) for name in names))
        for spec, policy in made.items()
    ]
    infeasible = np.array([len(store["", episode]["beyond"]) for episode in seeds], dtype=np.float64)
    return MobileComparison(core.config, options, seeds, skipped, np.max(bounds, axis=0), infeasible, results)


def build(spec: str, config: SystemConfig, payback_s: float, bound_s: float) -> Any:
    """Build a policy or an agent from its name and options."""
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
        if isinstance(options.get("engine"), str):
            options["engine"] = build(options["engine"], config, payback_s, bound_s)
    if name == "clairvoyant":
        options = {"M": config.M, "K": config.K, "bound_s": bound_s} | options
    if name in agents.AGENTS | agents.SEQUENTIAL:
        return agents.load(name, config=config, **options)
    try:
        return baselines.make(name, **options)
    except TypeError as error:
        raise ValueError(f"{spec}: {error}") from None


def _certified(core: CfIsacMobileEnv, seed: int) -> dict[str, Any]:
    """Certify an episode: its infeasible instants, and a lower bound on the energy of the others."""
    core.reset(seed=seed)
    problem = core.trajectory.problem
    certificates = [certify(problem[t]) for t in range(core.episode_steps)]
    beyond = [t for t, one in enumerate(certificates) if one.infeasible]
    bounds_w = [one.lower_bound_w for one in certificates if not one.infeasible]
    return {"lower_bound_j": sum(bounds_w) * core.step_s, "beyond": beyond}


def _play(task: _Task) -> dict[str, float]:
    """Play an episode in any process."""
    env = gym.make("CfIsacMobile-v0", **task.fields)
    policy = build(task.policy, env.unwrapped.config, task.payback_s, task.bound_s)  # type: ignore[attr-defined]
    values = play(env, policy, task.seed, task.infeasible)
    if isinstance(policy, ClairvoyantPolicy):
        values["lower_bound_j"] = policy.plan.lower_bound_j
    env.close()
    return values


def play(env: Any, policy: Any, seed: int, infeasible: Sequence[int] = ()) -> dict[str, float]:
    """Play an episode; all values are the environment's own.

    Args:
        env: a `CfIsacMobile-v0`.
        policy: with Stable-Baselines3's `predict`, whose state is passed on from step to step. One with `foresee`, like `clairvoyant`, is
            shown the whole episode first.
        seed: of the episode.
        infeasible: instants that are certified infeasible, which don't count as unserved.

    Returns:
        The numbers of `Episodes`, by name.
    """
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    observation, _ = env.reset(seed=seed)
    infos: list[dict[str, Any]] = []
    state, over, begin = None, False, time.process_time()
    if hasattr(policy, "foresee"):
        policy.foresee(core.trajectory.problem, core.beginning())
    while not over:
        first = np.array([not infos])
        action, state = policy.predict(observation, state=state, episode_start=first, deterministic=True)
        observation, _, _, over, info = env.step(action)
        infos.append(info)
    seconds = time.process_time() - begin
    total = {
        key: float(sum(info[key] for info in infos))
        for key in ("transmit_power_w", "circuit_power_w", "switching_energy_j", "switched_on", "active_aps")
    }
    feasible = np.delete([info["feasible"] for info in infos], list(infeasible))
    return {
        "energy_j": infos[-1]["episode_energy_j"],
        "transmit_j": total["transmit_power_w"] * core.step_s,
        "circuit_j": total["circuit_power_w"] * core.step_s,
        "switching_j": total["switching_energy_j"],
        "switched_on": total["switched_on"],
        "active_aps": total["active_aps"] / len(infos),
        "served": float(feasible.mean()) if feasible.size else 1.0,
        "step_ms": 1e3 * seconds / len(infos),
    }


_MEANS = ("transmit_j", "circuit_j", "switching_j", "switched_on", "active_aps", "served", "step_ms")


def summarise(comparison: MobileComparison) -> list[MobileSummary]:
    """Summarise every policy over the episodes without a certified infeasible instant."""
    whole = comparison.whole
    throughout = {one.policy: whole & (one.served == 1.0) for one in comparison.results}
    best = np.min([np.where(throughout[one.policy], one.energy_j, np.inf) for one in comparison.results], axis=0)
    energy = {one.policy: one.energy_j[whole] for one in comparison.results}
    unknown = Interval(np.nan, np.nan, np.nan)
    least, rule = energy.get("clairvoyant"), energy.get("hysteresis")
    gap = None if least is None or rule is None else rule - least
    if gap is not None and bootstrap(gap).low <= 0.0:
        gap = None
    rows = []
    for one in comparison.results:
        met, ours = throughout[one.policy], energy[one.policy]
        above = unknown if least is None else bootstrap_saving(ours, least)
        rows.append(
            MobileSummary(
                policy=one.policy,
                knows=one.knows,
                energy_j=bootstrap(ours),
                room=unknown if gap is None or rule is None else bootstrap_share(rule - ours, gap),
                above_clairvoyant=Interval(0.0 - above.value, 0.0 - above.high, 0.0 - above.low),
                above_bound=mean(one.energy_j[met] / comparison.lower_bound_j[met] - 1),
                above_best=mean(one.energy_j[met] / best[met] - 1),
                **{name: mean(getattr(one, name)[whole]) for name in _MEANS},
            )
        )
    return rows


NONE_WHOLE = "every episode has a certified infeasible instant"
NEVER_THROUGHOUT = "the policy served no episode throughout"
NO_CLAIRVOYANT = "no clairvoyant in the table"
NO_ROOM = "no hysteresis and clairvoyant in the table, or no significant gap between them"


def _percents(interval: Interval) -> str | None:
    """Format an estimate and its interval in percent."""
    if not np.isfinite(interval.value):
        return None
    ends = span(interval, "{:.0%}")
    return f"{interval.value:.0%}" + (f" {ends}" if ends else "")


COLUMNS: tuple[Column[MobileSummary], ...] = (
    Column("policy", lambda row: row.policy, code=True),
    Column("energy J", lambda row: number(row.energy_j.value, "{:.1f}"), NONE_WHOLE),
    Column("95 % interval", lambda row: span(row.energy_j, "{:.1f}"), results.ONE_VALUE, rank=5),
    Column("served", lambda row: percent(row.served, 2), NONE_WHOLE, rank=1),
    Column("room closed", lambda row: _percents(row.room), NO_ROOM, rank=1),
    Column("to clairvoyant", lambda row: _percents(row.above_clairvoyant), NO_CLAIRVOYANT, rank=2),
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
    "throughout; knows: information that decisions use"
)


def _title(comparison: MobileComparison) -> str:
    config, options, whole = comparison.config, comparison.options, comparison.whole
    others = int((~whole).sum()) + len(comparison.skipped)
    more = f" ({others} more with certified infeasible instants)" if others else ""
    return (
        f"{config.preset}, M={config.M}, K={config.K}, S={config.S}: {whole.sum()} episodes of {options['episode_steps']} × "
        f"{options['step_s']:g} s{more}, {options['switching_energy_j']:g} J a switch, {options['wake_up_steps']} wake-up steps"
    )


def table(comparison: MobileComparison, rows: Sequence[MobileSummary]) -> Table[MobileSummary]:
    """Return the table, one row a policy."""
    return Table(COLUMNS, rows, _title(comparison), NOTES)


def figure(comparison: MobileComparison, rows: Sequence[MobileSummary]) -> Figure:
    """Draw the energy of an episode and its parts, one bar a policy."""
    picture = results.canvas(8.5, 1.8 + 0.42 * len(rows))
    ax = picture.subplots()
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
    ax.set_yticks(y, [results.escaped(row.policy) for row in rows])
    ax.set_xlabel("energy an episode, J")
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(_title(comparison), fontsize=9)
    return picture


def result(comparison: MobileComparison, rows: Sequence[MobileSummary]) -> Result:
    """Return `mobile.md`, `mobile.csv`, `mobile.json` and `mobile.png`."""
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
    return Result("mobile", [table(comparison, rows)], content, rows, figure=figure(comparison, rows))
