"""Labelled drops: what an oracle decided about them, in shards that carry their configuration, seeds and oracle.

A shard holds no drops. They are drawn again from its configuration and seeds, the ones that `env.reset(seed=…)` draws, and a fingerprint
in the shard says when the sampler no longer draws the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import baselines
from baselines.bounds import certify
from cfisac_env import Scenario, SystemConfig, sample
from cfisac_env import seeds as seeds_of

FILE_FORMAT = "cfisac-labels-1"

TEACHERS = ("local-search", "modified-bb")
"""Oracles that labels may come from."""


@dataclass(frozen=True, eq=False)
class Labels:
    """One oracle's decisions about n drops of one configuration."""

    config: SystemConfig
    policy: str  # name of the oracle
    seeds: NDArray[np.int64]  # (n,)
    feasible: NDArray[np.bool_]  # (n,) whether the oracle served the drop; if not, the decision means nothing
    active: NDArray[np.bool_]  # (n, M)
    power: NDArray[np.float32]  # (n, M, K) W
    total_power_w: NDArray[np.float64]  # (n,)
    lower_bound_w: NDArray[np.float64]  # (n,) certified for every decision, infinite where none can serve the drop
    seconds: NDArray[np.float64]  # (n,) what the decision took
    fingerprint: NDArray[np.float64]  # (n,) mean log10 gain of the drop

    def __len__(self) -> int:
        return len(self.seeds)

    def drops(self) -> Scenario:
        """The drops, (n,), drawn again.

        Raises:
            ValueError: the sampler draws others now than when they were labelled.
        """
        scenario = draw(self.config, self.seeds)
        if not np.allclose(_fingerprint(scenario), self.fingerprint, rtol=1e-9):
            raise ValueError(
                f"the drops of seeds {self.seeds[0]} to {self.seeds[-1]} are no longer those that were labelled: "
                "another version drew them; label them again"
            )
        return scenario

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an npz file; an existing one is replaced only when all is written."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        config = json.dumps(self.config.as_dict())
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, format=FILE_FORMAT, config=config, policy=self.policy, **arrays)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Labels:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, of another kind, or its parts don't fit each other.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no label file at {path}; `cfisac label` writes them")
        with path.open("rb") as stream:
            try:
                file = np.load(stream, allow_pickle=False)
                content = {name: file[name] for name in file.files}
            except Exception as error:  # NumPy, zipfile and zlib each have their own for damaged bytes
                raise ValueError(f"{path} is truncated or not a label file ({error})") from None
        if str(content.get("format")) != FILE_FORMAT:
            raise ValueError(f"{path} is not a label file of format {FILE_FORMAT!r}")
        try:
            config = SystemConfig(**json.loads(str(content["config"])))
            labels = cls(config=config, policy=str(content["policy"]), **{name: content[name] for name in _ARRAYS})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} lacks a part or holds an unreadable one: {error}") from None
        n = len(labels.seeds)
        for name in _ARRAYS:
            tail = {"active": (config.M,), "power": (config.M, config.K)}.get(name, ())
            if getattr(labels, name).shape != (n, *tail):
                raise ValueError(f"{name} in {path} has shape {getattr(labels, name).shape}, expected {(n, *tail)}")
        return labels


_ARRAYS = (
    "seeds", "feasible", "active", "power", "total_power_w", "lower_bound_w", "seconds", "fingerprint",
)  # fmt: skip


def draw(config: SystemConfig, seeds: Sequence[int] | NDArray[np.int64]) -> Scenario:
    """The drops that environments of this configuration draw at their reset with each of the seeds, (n,)."""
    drops = [sample(config, np.random.default_rng(int(seed)), 1) for seed in seeds]
    arrays = ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain", "estimate_gain", "rcs_gain", "fisher")
    pilot = None if drops[0].pilot is None else np.concatenate([drop.pilot for drop in drops])
    return Scenario(
        config, pilot=pilot, **{name: np.concatenate([getattr(drop, name) for drop in drops]) for name in arrays}
    )


def _fingerprint(scenario: Scenario) -> NDArray[np.float64]:
    return np.asarray(np.log10(scenario.gain).mean((-2, -1)), dtype=np.float64)


def label(config: SystemConfig, seeds: Sequence[int], policy: str = "local-search") -> Labels:
    """Let an oracle decide the drops of some seeds.

    Raises:
        ValueError: the oracle is none of `TEACHERS`, a seed is kept for testing, or the users share pilots.
    """
    if policy not in TEACHERS:
        raise ValueError(f"labels come from {' or '.join(TEACHERS)}, not from {policy!r}")
    if not len(seeds) or min(seeds) < 0 or max(seeds) >= seeds_of.TEST:
        raise ValueError(
            f"label seeds must be from 0 to {seeds_of.TEST - 1:,}, the others are for testing; "
            f"got {f'{min(seeds):,} to {max(seeds):,}' if len(seeds) else 'none'}"
        )
    if config.pilots_reused:
        raise ValueError(f"labels need a pilot for every user: K = {config.K}, pilot_length = {config.pilot_length}")
    scenario, oracle = draw(config, seeds), baselines.make(policy)
    n, M, K = len(seeds), config.M, config.K
    feasible, active, power = np.zeros(n, bool), np.zeros((n, M), bool), np.zeros((n, M, K), np.float32)
    total, bound, seconds = np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        problem = scenario[i].problem
        start = time.perf_counter()
        answer = oracle.decide(problem)
        seconds[i] = time.perf_counter() - start
        bound[i] = certify(problem).lower_bound_w
        feasible[i], active[i], power[i] = answer.feasible, answer.decision.active, answer.decision.power
        total[i] = answer.decision.power.sum() + config.circuit_power_w * answer.decision.active.sum()
    return Labels(
        config,
        policy,
        np.array(seeds, np.int64),
        feasible,
        active,
        power,
        total,
        bound,
        seconds,
        _fingerprint(scenario),
    )


def read(folder: str | os.PathLike[str]) -> tuple[list[Labels], list[str]]:
    """Every shard of a folder and its subfolders that can be read, by name, and a line about each that cannot.

    Raises:
        FileNotFoundError: there is no shard at all.
    """
    shards, damaged = [], []
    paths = sorted(Path(folder).rglob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"no label files in {folder}; `cfisac label --out {folder}` writes them")
    for path in paths:
        try:
            shards.append(Labels.load(path))
        except ValueError as error:
            damaged.append(str(error))
    return shards, damaged
