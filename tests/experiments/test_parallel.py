"""The ordered map gives what `map` gives, whatever does the work."""

from __future__ import annotations

import itertools
import math

import pytest

from experiments.parallel import in_order


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    assert list(in_order(math.factorial, range(20), workers=workers)) == [math.factorial(x) for x in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        list(in_order(math.factorial, [2, -1], workers=workers))


def test_results_are_handed_over_before_all_are_done() -> None:
    endless = in_order(math.factorial, itertools.count(), workers=1)
    assert [next(endless) for _ in range(3)] == [1, 1, 2]


def test_fewer_than_one_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        in_order(math.factorial, [1], workers=0)
