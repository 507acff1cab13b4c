"""`cfisac bench causal`: bound on the mean energy of causal policies, and what policies take on the same episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.bounds import certify
from baselines.causal_bounds import HindsightValue, causal_bound_j, paid_j, penalties
from cfisac_env.mobile import CfIsacMobileEnv
from cfisac_env.mobility import SmoothTurns
from experiments.mobile import build
from experiments.results import ONE_VALUE, Column, Result, Table, number, percent, span
from experiments.statistics import Interval, bootstrap, bootstrap_saving, bootstrap_share

Float = NDArray[np.float64]

NONE = Interval(np.nan, np.nan, np.nan)

PENALTY_SEED = 7_000_000
"""Seed of the moves that the penalties are drawn from, plus that of the episode."""


@dataclass(frozen=True)
class Row:
    """Energy of a policy or a bound over the episodes."""

    name: str
    energy_j: Interval
    paid_j: Interval  # penalties of a policy, whose mean over episodes is zero; NaN for a bound, like the next two
    served: float
    out_of_reach: Interval  # share of the energy above clairvoyant that no causal policy saves
    above_bound: Interval  # energy relative to the bound on causal policies


def run(
    fields: dict[str, Any],
    policies: Sequence[str],
    episodes: int,
    seed: int,
    *,
    futures: int,
    samples: int,
    scale: float,
    step: Callable[[], None],
) -> Result:
    """Bound and play episodes; no episode is left out, as a selection would depend on the future.

    Args:
        fields: of `SystemConfig` and of `CfIsacMobile-v0`.
        policies: names, with options where they have any.
        episodes: number of episodes.
        seed: of the first episode.
        futures: of the value of a set.
        samples: moves of the target from which the mean of the value is estimated.
        scale: factor of the penalties, chosen on other episodes.
        step: called after each episode.
    """
    env = gym.make("CfIsacMobile-v0", **fields)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    motion = core.dynamics.targets
    if not isinstance(motion, SmoothTurns):
        raise ValueError(f"the bound knows the law of SmoothTurns, got {motion!r}")
    value = HindsightValue(core.config, motion, core.beginning(), futures)
    made = {name: build(name, core.config, 10.0, 0.0) for name in policies}
    bounds, energy = np.empty((2, episodes)), {name: np.empty((episodes, 3)) for name in made}
    infeasible = 0
    for i in range(episodes):
        env.reset(seed=seed + i)
        episode, track = core.trajectory, core.target_track
        penalty_j = scale * penalties(value, episode, track, np.random.default_rng(PENALTY_SEED + seed + i), samples)
        problem = episode.problem
        beyond = np.array([certify(problem[t]).infeasible for t in range(core.episode_steps)])
        infeasible += int(beyond.sum())
        for j, share in enumerate((0.0, 1.0)):
            bounds[j, i] = causal_bound_j(problem, core.beginning(), share * penalty_j)
        for name, policy in made.items():
            energy[name][i] = _play(env, policy, seed + i, beyond, penalty_j)
        step()
    # Penalties of causal policies have zero mean: those of the policies are a control variate.
    control = np.mean([values[:, 1] for values in energy.values()], axis=0) if energy else np.zeros(episodes)
    least, bound = bounds[0], bounds[1] - control
    rows = [
        Row(name, bootstrap(own), NONE, np.nan, NONE, _above(own, bound))
        for name, own in (("clairvoyant", least), ("bound on causal policies", bound))
    ]
    for name, (own, paid, served) in ((name, values.T) for name, values in energy.items()):
        reach = bootstrap_share(bound - least, own - least)
        rows.append(Row(name, bootstrap(own), bootstrap(paid), float(served.mean()), reach, _above(own, bound)))
    content = {
        "config": core.config.as_dict(), "switching_energy_j": core.switching_energy_j, "episode_steps": core.episode_steps,
        "seeds": [seed, seed + episodes - 1], "futures": futures, "samples": samples, "scale": scale, "infeasible_instants": infeasible,
        "rows": rows, "clairvoyant_j": least, "bound_j": bounds[1], "control_j": control,
        "bound_less_clairvoyant_j": bootstrap(bound - least),
        "policies": {
            name: {"energy_j": own, "penalties_j": paid, "served": served}
            for name, (own, paid, served) in ((name, values.T) for name, values in energy.items())
        },
    }  # fmt: skip
    config = core.config
    title = (
        f"{config.preset}, M={config.M}, K={config.K}: {episodes} episodes of {core.episode_steps} × {core.step_s:g} s, "
        f"{core.switching_energy_j:g} J a switch; {infeasible} instants are certified infeasible and demand nothing"
    )
    return Result("causal", [Table(COLUMNS, rows, title)], content, rows)


def _above(ours: Float, bound: Float) -> Interval:
    saving = bootstrap_saving(ours, bound)
    return Interval(0.0 - saving.value, 0.0 - saving.high, 0.0 - saving.low)


def _play(env: Any, policy: Any, seed: int, beyond: NDArray[np.bool_], penalty_j: Float) -> tuple[float, float, float]:
    """Play an episode; return its energy and penalties in J, and the share of served instants, without infeasible instants."""
    core: CfIsacMobileEnv = env.unwrapped
    observation, _ = env.reset(seed=seed)
    energy_j, state, active, served = 0.0, None, [], []
    for t in range(core.episode_steps):
        action, state = policy.predict(observation, state=state, episode_start=np.array([t == 0]), deterministic=True)
        active.append(np.asarray(action)[:, 0] >= 0.0)
        observation, *_, info = env.step(action)
        radiated_w = info["transmit_power_w"] if not beyond[t] else 0.0
        energy_j += (radiated_w + info["circuit_power_w"]) * core.step_s + info["switching_energy_j"]
        served.append(info["feasible"] or beyond[t])
    return energy_j, paid_j(penalty_j, np.array(active)), float(np.mean(served))


def _interval(interval: Interval, form: str) -> str | None:
    """Format an estimate and its interval."""
    if not np.isfinite(interval.value):
        return None
    return f"{form.format(interval.value)} {span(interval, form) or ''}".strip()


NO_POLICY = "only policies have it"

COLUMNS: tuple[Column[Row], ...] = (
    Column("", lambda row: row.name),
    Column("energy J", lambda row: number(row.energy_j.value, "{:.1f}")),
    Column("95 % interval", lambda row: span(row.energy_j, "{:.1f}"), ONE_VALUE),
    Column("penalties J", lambda row: _interval(row.paid_j, "{:.1f}"), NO_POLICY),
    Column("served", lambda row: percent(row.served, 2), NO_POLICY),
    Column("above the bound", lambda row: _interval(row.above_bound, "{:.0%}")),
    Column("out of reach", lambda row: _interval(row.out_of_reach, "{:.0%}"), NO_POLICY),
)
