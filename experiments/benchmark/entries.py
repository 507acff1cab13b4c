"""Entries of the leaderboard: every decision of a policy on the tiers, with what its training cost."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cfisac_env
from baselines import ObservationPolicy
from experiments import compare, schemas
from experiments.benchmark.policies import build
from experiments.benchmark.scores import RULE
from experiments.benchmark.tiers import Tier, tiers
from experiments.compare import Comparison
from experiments.journal import Store
from experiments.results import json_text, provenance

REFERENCE = Path(__file__).parent / "reference.json"
"""Least known power of every drop, the rule's, and a certified bound."""

BEST = ("most-informative-search", "local-search", "hetgnn-exact")
"""Policies of which the cheapest feasible decision is the best known one."""


@dataclass(frozen=True)
class Training:
    """Cost of a policy's training."""

    seeds: tuple[int, ...]
    steps: int  # environment steps a seed, or labelled drops
    core_minutes: float | None  # a seed; None: not recorded


class _Named:
    """A policy under the name of its entry, for a store of decisions.

    Decisions of foreign policies without a `digest` are not reused, since nothing tells whether the policy has changed.
    """

    def __init__(self, policy: Any, name: str) -> None:
        self._policy, self.name = policy, name
        unknown = None if isinstance(policy, ObservationPolicy) else secrets.token_hex(8)
        self.digest = getattr(policy, "digest", unknown)

    def predict(self, observation: Any, **options: Any) -> Any:
        return self._policy.predict(observation, **options)


def play(policies: Sequence[Any], names: Sequence[str], folder: Path, step: Callable[[], None]) -> dict[str, Any]:
    """Let policies decide every drop of some tiers.

    Args:
        policies: one for each training seed.
        names: of tiers.
        folder: of the decisions, which are kept and not made again.
        step: called after every decision.

    Returns:
        For every tier its `runs`, one for each policy: `total_power_w` and `feasible` of every drop, and `milliseconds` a decision.
    """
    played = {}
    for tier in names:
        named = [_Named(policy, f"policy-{i}") for i, policy in enumerate(policies)]
        parts = _decided(named, tiers()[tier], folder, step)
        runs = []
        for one in named:
            made = [part.policies[one.name] for part in parts]
            seconds = np.concatenate([result.seconds for result in made])
            runs.append(
                {
                    "total_power_w": np.concatenate([result.total_power_w for result in made]),
                    "feasible": np.concatenate([result.feasible for result in made]),
                    "milliseconds": 1e3 * float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else None,
                }
            )
        played[tier] = {"runs": runs}
    return played


def entry(
    name: str, specification: Sequence[str], training: Training | None, played: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of an entry's file, checked by its schema."""
    content = {
        **provenance(),
        "format": 1,
        "cfisac": cfisac_env.__version__,
        "name": name,
        "policy": list(specification),
        "training": training,
        "tiers": played,
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
    for tier, one in content["tiers"].items():
        if tier not in tiers():
            raise ValueError(f"{where}: there is no tier {tier!r}; valid tiers: {', '.join(tiers())}")
        if len(one["runs"]) != runs:
            raise ValueError(f"{where}: tier {tier} has {len(one['runs'])} runs and the entry {runs} training seeds")
        for run in one["runs"]:
            if len(run["total_power_w"]) != tiers()[tier].drops or len(run["feasible"]) != tiers()[tier].drops:
                raise ValueError(
                    f"{where}: tier {tier} has {tiers()[tier].drops} drops, and a run {len(run['feasible'])}"
                )
    loaded: dict[str, Any] = content
    return loaded


def read(path: Path) -> dict[str, Any]:
    """Read an entry.

    Raises:
        ValueError: it is damaged, or doesn't fit the tiers.
    """
    return check(schemas.loads(schemas.read(path), path), path)


def reference() -> dict[str, Any]:
    """Return, for every tier, `rule_w`, `best_w` and `bound_w` of its drops; None where a drop can't be served."""
    content = schemas.loads(schemas.read(REFERENCE), REFERENCE)
    schemas.check(content, "benchmark reference", REFERENCE)
    found: dict[str, Any] = content["tiers"]
    return found


def make_reference(folder: Path, step: Callable[[], None]) -> dict[str, Any]:
    """Decide every drop with the rule and with `BEST`, and certify it."""
    made: dict[str, Any] = {}
    policies = [build(name) for name in (RULE, *BEST)]
    for name, tier in tiers().items():
        parts = _decided(policies, tier, folder, step)
        made[name] = {
            "rule_w": np.concatenate([part.policies[RULE].total_power_w for part in parts]),
            "best_w": np.concatenate([part.best_known_w for part in parts]),
            "bound_w": np.concatenate([part.lower_bound_w for part in parts]),
        }
    return {
        **provenance(),
        "format": 1,
        "cfisac": cfisac_env.__version__,
        "rule": RULE,
        "best": list(BEST),
        "tiers": made,
    }


def _decided(policies: Sequence[Any], tier: Tier, folder: Path, step: Callable[[], None]) -> list[Comparison]:
    """Compare policies on every case of a tier; decisions are kept in the folder and not made again."""
    made = []
    for case in tier.cases:
        store = Store(folder / case.name / "decisions.jsonl", "evaluation", {"config": case.config.as_dict()})
        made.append(compare.run(case.config, policies, case.drops, case.seed, lambda _: step(), store))
    return made
