"""Labels: an oracle's decisions on drops, in shards that name their configuration, seeds and oracle.

A shard holds no drops. They are redrawn from its configuration and seeds, as `env.reset(seed=…)` draws them; a fingerprint in the shard
detects a sampler that no longer draws the same.
"""

from __future__ import annotations

import json
import math
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import baselines
from agents import tensorfile
from baselines.bounds import certify
from cfisac_env import Decision, Scenario, SystemConfig, files, json_files
from cfisac_env import seeds as seeds_of
from cfisac_env.drop_files import header
from cfisac_env.sampling import draw

FILE_FORMAT = "cfisac-labels-1"

MAX_POWERS = 50_000_000
"""Upper limit of powers (n M K) in a shard, 200 MB."""

TEACHERS = ("local-search", "modified-bb")
"""Oracles that may label."""


@dataclass(frozen=True, eq=False)
class Labels:
    """One oracle's decisions on n drops of one configuration."""

    config: SystemConfig
    policy: str  # name of the oracle
    seeds: NDArray[np.int64]  # (n,)
    feasible: NDArray[np.bool_]  # (n,) whether the oracle served the drop; otherwise the decision is meaningless
    active: NDArray[np.bool_]  # (n, M)
    power: NDArray[np.float32]  # (n, M, K) W
    total_power_w: NDArray[np.float64]  # (n,)
    lower_bound_w: NDArray[np.float64]  # (n,) certified for every decision, infinite where the drop is infeasible
    seconds: NDArray[np.float64]  # (n,) taken by the decision
    fingerprint: NDArray[np.float64]  # (n,) mean log10 gain of the drop

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Labels:
        """Select labels."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    def drops(self) -> Scenario:
        """Redraw the drops, (n,).

        Raises:
            ValueError: the sampler has changed since they were labelled, or a decision doesn't serve its drop.
        """
        scenario, span = draw(self.config, self.seeds), f"the drops of seeds {self.seeds[0]} to {self.seeds[-1]}"
        if not np.allclose(_fingerprint(scenario), self.fingerprint, rtol=1e-9):
            raise ValueError(
                f"{span} are no longer those that were labelled: another version drew them; label them again"
            )
        outcome = scenario.evaluate(Decision(active=self.active, power=self.power.astype(np.float64)))
        missed = self.feasible & ~np.asarray(outcome.feasible)
        if missed.any():
            raise ValueError(
                f"{span} don't belong to these labels: {missed.sum()} decisions miss requirements that they are said to meet, the first at "
                f"seed {self.seeds[missed][0]}; the file was changed, label them again"
            )
        return scenario

    def check(self, where: object) -> None:
        """Validate the labels as the output of an oracle."""

        def refuse(name: str, wrong: Any, reason: str) -> None:
            if wrong.any():
                seed = self.seeds[np.unravel_index(int(wrong.argmax()), wrong.shape)[0]]
                raise ValueError(
                    f"{name} in {where} {reason} (seed {seed}): the file is damaged; label the drops again"
                )

        config, n = self.config, len(self.seeds)
        if self.policy not in TEACHERS:
            raise ValueError(
                f"the labels in {where} come from {self.policy!r}; they must come from {' or '.join(TEACHERS)}"
            )
        _check_shapes(config, {name: (getattr(self, name).shape, getattr(self, name).dtype) for name in _ARRAYS}, where)
        refuse("seeds", (self.seeds < 0) | (self.seeds >= seeds_of.TEST), f"must be from 0 to {seeds_of.TEST - 1:,}")
        first = np.zeros(n, np.bool_)
        first[np.unique(self.seeds, return_index=True)[1]] = True
        refuse("seeds", ~first, "name a drop twice")
        for name in ("power", "total_power_w", "seconds", "fingerprint"):
            refuse(name, ~np.isfinite(getattr(self, name)), "holds values that aren't finite")
        for name in ("power", "seconds"):
            refuse(name, getattr(self, name) < 0.0, "holds negative values")
        power = self.power.astype(np.float64)
        refuse(
            "power",
            power.sum(-1) > config.max_ap_power_w * (1.0 + _ROUNDING),
            f"exceeds the {config.max_ap_power_w} W of an AP",
        )
        refuse("active", ~self.active.any(-1), "has no AP on")
        refuse("power", (power > 0.0).any(-1) & ~self.active, "isn't zero at an AP that is off")
        total = power.sum((-2, -1)) + config.circuit_power_w * self.active.sum(-1)
        refuse(
            "total_power_w", np.abs(self.total_power_w - total) > _ROUNDING * total, "isn't the power of the decision"
        )
        bound = self.lower_bound_w
        refuse("lower_bound_w", ~(bound >= 0.0), "must be 0 or more")
        refuse(
            "lower_bound_w",
            self.feasible & ~(bound <= self.total_power_w * (1.0 + _ROUNDING)),
            "is above the power of a decision",
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an npz file, atomically.

        Raises:
            ValueError: labels that `load` would refuse.
        """
        path = Path(path)
        self.check(path)
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        texts: dict[str, Any] = dict(
            zip(_TEXTS, (FILE_FORMAT, json.dumps(self.config.as_dict()), self.policy), strict=True)
        )
        with files.replacing(path) as temporary:
            np.savez_compressed(temporary, **texts, **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Labels:
        """Read a label file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, of another format, or its labels are invalid.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no label file at {path}; `cfisac label` writes them")
        try:
            headers = _headers(path)
            texts = {name: headers.pop(name, ((), np.dtype(np.void))) for name in _TEXTS}
            if not all(
                shape == () and kind.kind == "U" and kind.itemsize <= _MAX_TEXT for shape, kind in texts.values()
            ):
                raise ValueError(f"it lacks one of the texts {', '.join(_TEXTS)}")
            with np.load(path, allow_pickle=False) as file:
                form, config_text, policy = (str(file[name]) for name in _TEXTS)
                if form != FILE_FORMAT:
                    raise ValueError(f"its format is {json_files.shortened(form)!r}, expected {FILE_FORMAT!r}")
                fields = tensorfile.decoded(config_text, {"type": "object"}, "its configuration")
                config = SystemConfig(**fields)
                _check_shapes(config, headers, path)  # before anything large is inflated
                arrays = {name: file[name] for name in _ARRAYS}
        except Exception as error:  # NumPy, zipfile and zlib each have their own for damaged bytes
            raise ValueError(f"{path} is not a whole label file: {error}") from None
        labels = cls(config=config, policy=policy, **arrays)
        labels.check(path)
        return labels


_TEXTS = ("format", "config", "policy")

_ARRAYS: Mapping[str, type[np.generic]] = {
    "seeds": np.int64, "feasible": np.bool_, "active": np.bool_, "power": np.float32, "total_power_w": np.float64,
    "lower_bound_w": np.float64, "seconds": np.float64, "fingerprint": np.float64,
}  # fmt: skip

_ROUNDING = 1e-5
"""Relative, of powers that are stored as float32."""

_MAX_TEXT = 100_000
"""Bytes of a text."""

_Header = tuple[tuple[int, ...], np.dtype[Any]]


def _headers(path: Path) -> dict[str, _Header]:
    """Read the shape and dtype of every array of an npz file without decompressing it."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename.removesuffix(".npy"): header(archive, info)[:2] for info in archive.infolist()}


def _check_shapes(config: SystemConfig, headers: Mapping[str, _Header], where: object) -> None:
    """Validate names, shapes and dtypes of the arrays against the configuration."""
    if headers.keys() != _ARRAYS.keys():
        raise ValueError(
            f"the arrays in {where} must be {', '.join(_ARRAYS)}, got {json_files.shortened(', '.join(headers))}"
        )
    n = math.prod(headers["seeds"][0])
    check_shard(config, n)
    for name, (shape, kind) in headers.items():
        expected = (n, *{"active": (config.M,), "power": (config.M, config.K)}.get(name, ()))
        if shape != expected or kind != _ARRAYS[name]:
            raise ValueError(
                f"{name} in {where} has shape {shape} and kind {kind}, expected {expected} and {np.dtype(_ARRAYS[name])}"
            )


def check_shard(config: SystemConfig, count: int) -> None:
    """Validate that a configuration can be labelled, with so many drops in a shard."""
    if config.pilots_reused:
        raise ValueError(f"labels need a pilot for every user: K = {config.K}, pilot_length = {config.pilot_length}")
    if not 1 <= count * config.M * config.K <= MAX_POWERS:
        raise ValueError(
            f"a shard holds from one drop to {MAX_POWERS:,} powers (drops × M × K), got {count} drops of M={config.M}, K={config.K}; "
            "put fewer drops in a shard"
        )


def check_seeds(first: int, count: int) -> None:
    """Validate label seeds, which must not be reserved for testing."""
    if not 0 <= first <= first + count - 1 < seeds_of.TEST:
        raise ValueError(
            f"label seeds must be from 0 to {seeds_of.TEST - 1:,}, the others are for testing; got {count:,} from {first:,} on"
        )


def _fingerprint(scenario: Scenario) -> NDArray[np.float64]:
    return np.asarray(np.log10(scenario.gain).mean((-2, -1)), dtype=np.float64)


def label(config: SystemConfig, seeds: Sequence[int], policy: str = "local-search") -> Labels:
    """Label the drops of some seeds by an oracle.

    Raises:
        ValueError: the oracle is none of `TEACHERS`, a seed is reserved for testing, or users share pilots.
    """
    if policy not in TEACHERS:
        raise ValueError(f"labels come from {' or '.join(TEACHERS)}, not from {policy!r}")
    check_shard(config, len(seeds))
    check_seeds(min(seeds), max(seeds) - min(seeds) + 1)
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
    """Read the shards of a folder and its subfolders in the order of their names.

    Returns:
        The shards, and a line about each file that cannot be read.

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
