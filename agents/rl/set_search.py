"""Moves from a set of APs to cheaper ones: a critic says in which order, the exact allocator at what price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from agents.hetgnn.network import Embedding
from agents.rl.drop_batch import DropBatch
from agents.rl.set_critic import SetCritic
from baselines.moves import drops_and_swaps

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Budget:
    """What a search may spend.

    Attributes:
        moves: sets that are priced a round, the cheapest of which is moved to.
        patience: rounds in a row without a cheaper set after which it ends.
        rounds: at most.
    """

    moves: int
    patience: int
    rounds: int


@torch.no_grad()
def improved(critic: SetCritic, batch: DropBatch, sets: Bools, served: Bools, budget: Budget) -> Bools:
    """Sets (B, M) after a search on each drop whose set serves it."""
    views = critic.embed(batch.graph)
    result = sets.copy()
    for i in np.flatnonzero(served).tolist():
        view = Embedding(views.ap[[i]], views.ue[[i]], views.target[[i]], views.drops[[i]])
        result[i] = _search(critic, view, batch, i, sets[i], budget)
    return result


def _search(critic: SetCritic, view: Embedding, batch: DropBatch, drop: int, active: Bools, budget: Budget) -> Bools:
    total = float(batch.exact_total(drop, active[None], np.inf)[0])
    tried, failures = {active.tobytes()}, 0
    waiting: list[Bools] = []  # neighbours of `active` that haven't been priced, the most valuable first
    moved = True
    for _ in range(budget.rounds):
        if moved:
            pool = neighbours(active, int(batch.fewest[drop]))
            value = critic(view, torch.from_numpy(pool)[None])[0, :, 0].numpy()
            waiting = [s for s in pool[np.argsort(-value, kind="stable")] if s.tobytes() not in tried]
        named, waiting = waiting[: budget.moves], waiting[budget.moves :]
        if not named:
            break
        tried.update(s.tobytes() for s in named)
        totals = batch.exact_total(drop, np.stack(named), total)
        best = int(np.argmin(totals))
        moved = bool(totals[best] < total)
        if moved:
            active, total, failures = named[best], float(totals[best]), 0
        else:
            failures += 1
            if failures >= budget.patience:
                break
    return active


def neighbours(active: Bools, fewest: int) -> Bools:
    """Every set of `fewest` APs or more that dropping, swapping or adding one AP, or putting one in the place of two, makes of (M,)."""
    on, off = np.flatnonzero(active), np.flatnonzero(~active)
    adds = np.repeat(active[None], len(off), axis=0)
    adds[np.arange(len(off)), off] = True
    first, second = np.triu_indices(len(on), 1)
    merges = np.repeat(active[None], len(first) * len(off), axis=0)
    pair, rows = np.repeat(np.arange(len(first)), len(off)), np.arange(len(first) * len(off))
    merges[rows, on[first[pair]]] = False
    merges[rows, on[second[pair]]] = False
    merges[rows, np.tile(off, len(first))] = True
    sets = np.concatenate([drops_and_swaps(active), adds, merges])
    return np.asarray(sets[sets.sum(-1) >= max(fewest, 1)])
