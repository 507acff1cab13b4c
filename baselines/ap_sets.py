"""Sets of APs as boolean masks: neighbourhoods of a set, and prefixes of a ranking, in the order in which searches try them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


def exchanged(active: Bools, leavers: Indices | None = None, joiners: Indices | None = None) -> Bools:
    """Build copies of a set, each with some APs switched off and others on.

    Args:
        active: (M,) the set.
        leavers: (n, a) APs to switch off in each copy; None for none.
        joiners: (n, b) APs to switch on in each copy.

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
    """Build the nonempty sets with one AP removed, (n, M), in the order of `leavers` (by default by index)."""
    leavers = np.flatnonzero(active) if leavers is None else leavers
    sets = exchanged(active, leavers=leavers[:, None])
    return sets[sets.any(1)]


def additions(active: Bools, joiners: Indices | None = None) -> Bools:
    """Build the sets with one AP added, (n, M), in the order of `joiners` (by default by index)."""
    joiners = np.flatnonzero(~active) if joiners is None else joiners
    return exchanged(active, joiners=joiners[:, None])


def swaps(active: Bools, leavers: Indices, joiners: Indices, *, jointly: bool = False) -> Bools:
    """Build the sets with one AP exchanged for another, (n, M).

    Args:
        active: (M,) the set.
        leavers: APs to switch off, in order.
        joiners: APs to switch on, in order.
        jointly: order the pairs by the sum of both positions; by default leaver by leaver.
    """
    pairs = _pairs(len(leavers), len(joiners), jointly)
    return exchanged(active, leavers[pairs[0], None], joiners[pairs[1], None])


def merges(active: Bools, leavers: Indices, joiners: Indices, most: int) -> Bools:
    """Build the sets with two APs exchanged for one, (at most `most`, M), ordered by the positions of all three."""
    first, second = np.triu_indices(len(leavers), 1)
    order = np.argsort(first + second, kind="stable")
    pair, joiner = (part[:most] for part in _pairs(len(order), len(joiners), jointly=True))
    two = leavers[np.stack([first, second], axis=1)[order[pair]]]
    return exchanged(active, two, joiners[joiner, None])


def prefixes(ranking: Indices, sizes: Indices | Sequence[int]) -> Bools:
    """Build the prefixes of a ranking (M,) of the given sizes, (n, M)."""
    place = np.argsort(ranking)
    return np.asarray(place[None] < np.asarray(sizes)[:, None])


def ranking(scores: NDArray[np.float64]) -> Indices:
    """Rank APs by their best position in any column of scores (M, n), the higher the better; ties by their mean position."""
    place = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
    return np.lexsort((place.mean(1), place.min(1)))


def _pairs(n: int, m: int, jointly: bool) -> tuple[Indices, Indices]:
    """Return the indices of all pairs; jointly, in order of the sum of their relative positions."""
    first, second = (axis.ravel() for axis in np.indices((n, m)))
    if jointly:
        order = np.argsort(first * m + second * n, kind="stable")
        first, second = first[order], second[order]
    return first, second
