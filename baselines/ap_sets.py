"""Sets of APs around a set, as boolean masks: the moves of every search, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


def exchanged(active: Bools, leavers: Indices | None = None, joiners: Indices | None = None) -> Bools:
    """Copies of a set, each with some APs switched off and others on.

    Args:
        active: (M,) the set.
        leavers: (n, a) APs that each copy switches off; None for none.
        joiners: (n, b) APs that each copy switches on.

    Returns:
        (n, M)
    """
    given = [part for part in (leavers, joiners) if part is not None]
    sets = np.repeat(active[None], len(given[0]), axis=0)
    for part, on in ((leavers, False), (joiners, True)):
        if part is not None:
            np.put_along_axis(sets, part, on, axis=1)
    return sets


def removals(active: Bools, leavers: Indices | None = None) -> Bools:
    """Sets with one AP less, (n, M), in the order of `leavers` (by default by number); never the empty set."""
    leavers = np.flatnonzero(active) if leavers is None else leavers
    sets = exchanged(active, leavers=leavers[:, None])
    return sets[sets.any(1)]


def additions(active: Bools, joiners: Indices | None = None) -> Bools:
    """Sets with one AP more, (n, M), in the order of `joiners` (by default by number)."""
    joiners = np.flatnonzero(~active) if joiners is None else joiners
    return exchanged(active, joiners=joiners[:, None])


def swaps(active: Bools, leavers: Indices, joiners: Indices, *, jointly: bool = False) -> Bools:
    """Sets with one AP for another, (n, M).

    Args:
        active: (M,) the set.
        leavers: APs to switch off, the first to try first.
        joiners: APs to switch on, likewise.
        jointly: order the pairs by the sum of both places instead of all joiners of the first leaver first.
    """
    pairs = _pairs(len(leavers), len(joiners), jointly)
    return exchanged(active, leavers[pairs[0], None], joiners[pairs[1], None])


def removals_and_swaps(active: Bools) -> Bools:
    """Sets with one AP less, then those with one AP for another, (n, M)."""
    return np.concatenate([removals(active), swaps(active, np.flatnonzero(active), np.flatnonzero(~active))])


def merges(active: Bools, leavers: Indices, joiners: Indices, most: int) -> Bools:
    """Sets with one AP for two, (at most `most`, M), ordered by the places of all three."""
    first, second = np.triu_indices(len(leavers), 1)
    order = np.argsort(first + second, kind="stable")
    pair, joiner = (part[:most] for part in _pairs(len(order), len(joiners), jointly=True))
    two = leavers[np.stack([first, second], axis=1)[order[pair]]]
    return exchanged(active, two, joiners[joiner, None])


def prefixes(ranking: Indices, sizes: Indices | Sequence[int]) -> Bools:
    """The first APs of a ranking (M,), for every size: (n, M)."""
    place = np.argsort(ranking)
    return np.asarray(place[None] < np.asarray(sizes)[:, None])


def ranking(scores: NDArray[np.float64]) -> Indices:
    """APs by their best place in any column of scores (M, n), the higher the better; ties by their mean place."""
    place = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
    return np.lexsort((place.mean(1), place.min(1)))


def _pairs(n: int, m: int, jointly: bool) -> tuple[Indices, Indices]:
    """Indices of all pairs of n and m things; jointly, by the sum of their relative places."""
    first, second = (axis.ravel() for axis in np.indices((n, m)))
    if jointly:
        order = np.argsort(first * m + second * n, kind="stable")
        first, second = first[order], second[order]
    return first, second
