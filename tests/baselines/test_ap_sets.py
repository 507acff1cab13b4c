"""Neighbourhoods of a set of APs: complete, without duplicates, and in the documented order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from baselines import ap_sets
from baselines.ap_sets import Bools

KINDS = {  # numbers of APs removed and added
    "removals": (1, 0),
    "additions": (0, 1),
    "swaps": (1, 1),
    "merges": (2, 1),
}


def made(kind: str, active: Bools) -> Bools:
    on, off = np.flatnonzero(active), np.flatnonzero(~active)
    if kind == "swaps":
        return ap_sets.swaps(active, on, off)
    if kind == "merges":
        return ap_sets.merges(active, on, off, most=10**6)
    return ap_sets.removals(active) if kind == "removals" else ap_sets.additions(active)


@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbourhood_contains_each_of_its_sets_once(kind: str) -> None:
    gone, come = KINDS[kind]
    for bits in itertools.product([False, True], repeat=5):
        active = np.array(bits)
        before = active.copy()
        sets = made(kind, active)
        wanted = {
            row
            for row in itertools.product([False, True], repeat=5)
            if any(row) and (active & ~np.array(row)).sum() == gone and (~active & np.array(row)).sum() == come
        }
        assert sets.shape == (len(wanted), 5)
        assert {tuple(row) for row in sets.tolist()} == wanted
        np.testing.assert_array_equal(active, before)


def test_neighbours_follow_the_order_of_their_aps() -> None:
    active = np.array([True, True, False, False, True])
    leavers, joiners = np.array([4, 0, 1]), np.array([3, 2])
    assert [np.flatnonzero(active & ~row).tolist() for row in ap_sets.removals(active, leavers)] == [[4], [0], [1]]
    assert [np.flatnonzero(~active & row).tolist() for row in ap_sets.additions(active, joiners)] == [[3], [2]]

    def pairs(sets: Bools) -> list[tuple[list[int], list[int]]]:
        return [(np.flatnonzero(active & ~row).tolist(), np.flatnonzero(~active & row).tolist()) for row in sets]

    plain = [([4], [3]), ([4], [2]), ([0], [3]), ([0], [2]), ([1], [3]), ([1], [2])]
    assert pairs(ap_sets.swaps(active, leavers, joiners)) == plain
    # Places 0, 1, 2 of three leavers weigh 0, 2, 4, those of two joiners 0, 3.
    jointly = [([4], [3]), ([0], [3]), ([4], [2]), ([1], [3]), ([0], [2]), ([1], [2])]
    assert pairs(ap_sets.swaps(active, leavers, joiners, jointly=True)) == jointly
    assert pairs(ap_sets.merges(active, leavers, joiners, most=3)) == [([0, 4], [3]), ([1, 4], [3]), ([0, 4], [2])]


def test_prefixes_are_the_first_aps_of_a_ranking() -> None:
    scores = np.array([[0.0, 5.0], [9.0, 1.0], [8.0, 4.0], [7.0, 0.0]])
    ranking = ap_sets.ranking(scores)
    assert ranking.tolist() == [1, 0, 2, 3]  # best places 0, 0, 1, 2; mean places 1, 1.5, 1, 2.5
    for size, row in enumerate(ap_sets.prefixes(ranking, range(5))):
        assert np.flatnonzero(row).tolist() == sorted(ranking[:size].tolist())
