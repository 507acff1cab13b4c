"""Local search on many drops at once: random moves, of which the critic names those that closed-form powers price."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from agents.hetgnn.network import Embedding
from agents.rl.set_critic import SetCritic
from baselines.allocation.closed_form import ScaledDrops

Bools = NDArray[np.bool_]

ROUNDS = 12
"""Of a search."""

POOL, NAMED, DRAWN = 96, 16, 8
"""Random moves of a round, those that the critic names, and others that are priced as well."""

SWAPS, ADDITIONS, REMOVALS = 0.5, 0.1, 0.15
"""Shares of the kinds of moves; the rest are merges, of two APs into one."""


def random_moves(sets: Bools, count: int, rng: np.random.Generator) -> Bools:
    """Random moves from sets (B, M): swaps, additions, removals and merges, (B, count, M).

    A move that a set is too small or too large for is another one or none; none leaves a set empty.
    """
    B, M = sets.shape
    kind = rng.random((B, count))
    adds = (kind < SWAPS + ADDITIONS) | (kind >= SWAPS + ADDITIONS + REMOVALS)
    fewer = np.where(kind < SWAPS, 1, np.where(kind < SWAPS + ADDITIONS, 0, np.where(adds, 2, 1)))
    fewer = np.minimum(fewer, sets.sum(-1)[:, None] - ~adds)
    key = rng.random((B, count, M), dtype=np.float32)
    leaving = np.argsort(np.where(sets[:, None], key, 2.0), axis=2)[..., :2]
    joining = np.where(sets[:, None], -1.0, key).argmax(2)
    moved = np.repeat(sets[:, None], count, axis=1)
    before = np.take_along_axis(moved, leaving, 2)
    np.put_along_axis(moved, leaving, before & (np.arange(2) >= fewer[..., None]), 2)
    rows, columns = np.nonzero(adds)
    moved[rows, columns, joining[rows, columns]] = True
    return moved


@torch.no_grad()
def improved(critic: SetCritic, scaled: ScaledDrops, views: Embedding, sets: Bools, rng: np.random.Generator) -> Bools:
    """Sets (B, M) at which a search from `sets` ends on every drop: each round moves to the cheapest set that is priced.

    Args:
        critic: that names moves.
        scaled: the B drops.
        views: the critic's embedding of them.
        sets: (B, M) to begin with.
        rng: of the moves.
    """
    B, rows = len(sets), np.arange(len(sets))
    sets = sets.copy()
    total = scaled.transmit_power(sets, rows) + sets.sum(-1) * scaled.circuit_power
    for _ in range(ROUNDS):
        pool = random_moves(sets, POOL, rng)
        value = critic(views, torch.from_numpy(pool))[..., 0].numpy()
        named = np.argsort(-value, axis=1, kind="stable")[:, :NAMED]
        tried = np.concatenate([np.take_along_axis(pool, named[..., None], 1), pool[:, :DRAWN]], 1)
        priced = scaled.transmit_power(tried.reshape(-1, sets.shape[1]), np.repeat(rows, tried.shape[1]))
        totals = priced.reshape(B, -1) + tried.sum(-1) * scaled.circuit_power[:, None]
        cheapest = totals.argmin(1)
        better = totals[rows, cheapest] < total
        sets[better], total[better] = tried[rows, cheapest][better], totals[rows, cheapest][better]
    return sets
