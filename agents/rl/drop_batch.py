"""A batch of observations as agents that choose sets of APs need it: graphs for networks, scaled drops to price, powers for actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.hetgnn.graph import Graph, build
from baselines.allocation.closed_form import ScaledDrops
from baselines.ap_sets import Bools
from baselines.bounds import fewest_active
from baselines.most_informative import exact_prefix
from baselines.policy import with_margin
from baselines.set_search import ONE_THREAD
from cfisac_env import actions, observations
from cfisac_env.types import Decision, Problem

Ints = NDArray[np.int64]

KEYS = ("ap", "comm", "radar", "requirement", "sensing")
"""Entries of an observation that decide about a drop."""


class DropBatch:
    """B drops of one size; their requirements may differ.

    Args:
        observation: of a `CfIsac` environment, with one leading axis.

    Raises:
        ValueError: the observation lacks a key, holds NaN, or users share pilots.
    """

    def __init__(self, observation: Mapping[str, NDArray[Any]]) -> None:
        self.graph: Graph = build(observation)
        rows, which = np.unique(np.asarray(observation["requirement"]), axis=0, return_inverse=True)
        self._which = which.reshape(-1)
        groups = [np.flatnonzero(self._which == i) for i in range(len(rows))]
        self._problems = [observations.decode({key: np.asarray(observation[key])[g] for key in KEYS}) for g in groups]
        self._place = np.empty(len(self._which), np.int64)  # of a drop in its problem
        for group in groups:
            self._place[group] = np.arange(len(group))
        self.scaled = ScaledDrops.of(*self._problems)[np.argsort(np.concatenate(groups))]
        self.fewest = np.array([fewest_active(self.problem(i)) for i in range(len(self))])

    def __len__(self) -> int:
        return len(self._which)

    @property
    def M(self) -> int:
        """Number of APs."""
        return self._problems[0].M

    def problem(self, drop: int) -> Problem:
        """One drop."""
        problem: Problem = self._problems[self._which[drop]][int(self._place[drop])]
        return problem

    def actions(self, sets: Bools, drop: Ints) -> tuple[NDArray[np.float32], Bools]:
        """Raw actions of `CfIsac-v0` for sets (n, M) of the drops (n,): exact powers, or P_max in equal parts where none serve.

        Returns:
            (n, M, K + 1), and whether each set serves its drop.
        """
        out = np.empty((*sets.shape, self.scaled.gain.shape[-1] + 1), np.float32)
        serving = np.zeros(len(sets), dtype=bool)
        for i, problem in enumerate(self._problems):
            mine = np.flatnonzero(self._which[drop] == i)
            if len(mine) == 0:
                continue
            here, active = problem[self._place[drop[mine]]], sets[mine]
            answer = ONE_THREAD(with_margin(here), active)
            power, good = answer.power, answer.feasible
            if not good.all():
                power = np.where(good[:, None, None], power, problem.max_ap_power_w / problem.K * active[..., None])
            serving[mine] = good
            out[mine] = actions.encode(Decision(active=active, power=power), problem.max_ap_power_w, here.estimate_gain)
        return out, serving

    def fallback(self, drop: int, ranking: Ints) -> tuple[NDArray[np.float32], bool]:
        """The action of the shortest prefix of a ranking (M,) that exact powers serve, and whether any does."""
        problem = self.problem(drop)
        answer = exact_prefix(problem, ranking)
        return actions.encode(answer.decision, problem.max_ap_power_w, problem.estimate_gain), answer.feasible


def turned(graph: Graph, rng: np.random.Generator) -> Graph:
    """Every network turned about its centre and, half of them, mirrored, which changes no reward."""
    angle, mirror = rng.uniform(0.0, 2.0 * np.pi, len(graph)), rng.choice((-1.0, 1.0), len(graph))
    return graph.rotated(torch.from_numpy(angle).float(), torch.from_numpy(mirror).float())
