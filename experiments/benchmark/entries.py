"""Entries of the leaderboard: every result of a policy on the tiers, with what its training cost; and the reference for scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cfisac_env
from cfisac_env import json_files
from experiments import mobile, schemas
from experiments.benchmark import played
from experiments.benchmark.played import Named, Prioritised
from experiments.benchmark.policies import build
from experiments.benchmark.scores import RULE
from experiments.benchmark.tiers import episode_tiers, tiers
from experiments.results import json_text, provenance

REFERENCE = Path(__file__).parent / "reference.json"
"""Least known power of every drop, the rule's, and a certified bound; the energies of every episode."""

SCALE = ("hysteresis", "clairvoyant")
"""Policies over time between which an episode is scored."""

BEST = ("most-informative-search", "local-search", "hetgnn-exact")
"""Policies of which the cheapest feasible decision is the best known one."""


@dataclass(frozen=True)
class Training:
    """Cost of a policy's training."""

    seeds: tuple[int, ...]
    steps: int  # environment steps a seed, or labelled drops
    core_minutes: float | None  # a seed; None: not recorded


def play(
    policies: Sequence[Any],
    names: Sequence[str],
    folder: Path,
    step: Callable[[], None],
    *,
    canonical: bool = False,
    **processes: Any,
) -> dict[str, dict[str, Any]]:
    """Let policies play some tiers.

    Args:
        policies: one for each training seed.
        names: of tiers, of drops or of episodes.
        folder: of the decisions, which are kept and not made again.
        step: called after every drop and every episode.
        canonical: whether the policies were trained in the wrapper `CanonicalOrder`.
        processes: `workers` and `ray`, see `parallel.in_order`.

    Returns:
        `tiers` and `episodes` of an entry. For every tier its `runs`, one for each policy: `total_power_w` and `feasible` of every drop, or
        `energy_j` and `served` of every episode, and `milliseconds` a decision.
    """
    found: dict[str, dict[str, Any]] = {"tiers": {}, "episodes": {}}
    for name in names:
        of_episodes = name in episode_tiers()
        kind = Prioritised if not of_episodes and tiers()[name].priorities else Named
        named = [kind(policy, f"policy-{i}", canonical=canonical) for i, policy in enumerate(policies)]
        if of_episodes:
            seeds = reference_episodes()[name]["seeds"]
            runs = played.on_episodes(episode_tiers()[name], seeds, named, folder / name, step, **processes)
            found["episodes"][name] = {"runs": runs}
        else:
            found["tiers"][name] = {"runs": played.on_drops(tiers()[name], named, folder, step, **processes)}
    return found


def entry(
    name: str, specification: Sequence[str], knows: str, training: Training | None, results: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of an entry's file, checked by its schema.

    Args:
        name: of the entry.
        specification: of the policies.
        knows: information that decisions are based on.
        training: what it cost; None for policies that aren't trained.
        results: as `play` returns them.
    """
    content = {
        **provenance(),
        "format": 1,
        "cfisac": cfisac_env.__version__,
        "name": name,
        "policy": list(specification),
        "knows": knows,
        "training": training,
        **results,
    }
    return check(json.loads(json_text(content)), name)


def check(content: Any, where: Path | str) -> dict[str, Any]:
    """Refuse an entry that isn't of the format, lacks training seeds, or doesn't fit the tiers.

    Raises:
        ValueError: naming the file and what is wrong.
    """
    schemas.check(content, "benchmark entry", where)
    seeds = None if content["training"] is None else content["training"]["seeds"]
    runs = 1 if seeds is None else len(seeds)
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise ValueError(f"{where}: training seeds must differ, got {', '.join(map(str, seeds))}")
    sizes = {"tiers": {name: tier.drops for name, tier in tiers().items()}}
    sizes["episodes"] = {name: tier.episodes for name, tier in episode_tiers().items()}
    for kind, noun, keys in (
        ("tiers", "drops", ("total_power_w", "feasible")),
        ("episodes", "episodes", ("energy_j", "served")),
    ):
        for tier, one in content.get(kind, {}).items():
            if tier not in sizes[kind]:
                raise ValueError(f"{where}: there is no tier {tier!r} of {noun}; valid tiers: {', '.join(sizes[kind])}")
            if len(one["runs"]) != runs:
                raise ValueError(
                    f"{where}: tier {tier} has {len(one['runs'])} runs and the entry {runs} training seeds"
                )
            for run in one["runs"]:
                if found := {len(run[key]) for key in keys} - {sizes[kind][tier]}:
                    raise ValueError(f"{where}: tier {tier} has {sizes[kind][tier]} {noun}, and a run {found.pop()}")
    loaded: dict[str, Any] = content
    return loaded


def read(path: Path) -> dict[str, Any]:
    """Read an entry.

    Raises:
        ValueError: it is damaged, or doesn't fit the tiers.
    """
    return check(json_files.loads(json_files.read(path), path), path)


def reference() -> dict[str, Any]:
    """Return, for every tier, `rule_w`, `best_w` and `bound_w` of its drops; None where a drop can't be served."""
    found: dict[str, Any] = _reference()["tiers"]
    return found


def reference_episodes() -> dict[str, Any]:
    """Return `seeds`, `rule_j`, `rule_served`, `best_j` and `bound_j` of the episodes of every tier."""
    found: dict[str, Any] = _reference()["episodes"]
    return found


def _reference() -> dict[str, Any]:
    content = json_files.loads(json_files.read(REFERENCE), REFERENCE)
    schemas.check(content, "benchmark reference", REFERENCE)
    found: dict[str, Any] = content
    return found


def make_reference(folder: Path, step: Callable[[], None]) -> dict[str, Any]:
    """Decide every drop with the rule and with `BEST`, and certify it; play every episode with `SCALE`."""
    made: dict[str, Any] = {}
    policies = [build(name) for name in (RULE, *BEST)]
    for name, tier in tiers().items():
        parts = played.decided(policies, replace(tier, priorities=False), folder, step)
        made[name] = {
            "rule_w": np.concatenate([part.policies[RULE].total_power_w for part in parts]),
            "best_w": np.concatenate([part.best_known_w for part in parts]),
            "bound_w": np.concatenate([part.lower_bound_w for part in parts]),
        }
    episodes: dict[str, Any] = {}
    for name, moving in episode_tiers().items():
        compared = mobile.run(
            moving.fields, SCALE, moving.episodes, moving.seed, folder=folder / name, step=lambda _: step()
        )
        rule, best = compared.results
        if (best.served < 1.0).any():
            raise ValueError(
                f"{SCALE[1]} leaves an instant of {name} unserved, whose episodes can be served throughout"
            )
        episodes[name] = {
            "seeds": compared.seeds,
            "rule_j": rule.energy_j,
            "rule_served": rule.served,
            "best_j": best.energy_j,
            "bound_j": compared.lower_bound_j,
        }
    return {
        **provenance(),
        "format": 1,
        "cfisac": cfisac_env.__version__,
        "rule": RULE,
        "best": list(BEST),
        "tiers": made,
        "episodes": episodes,
    }
