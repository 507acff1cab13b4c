"""Exact power for a fixed set of APs: two back ends behind one signature, a procedure for shared pilots, and their certificates."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from baselines.allocation.certificate import dual_bound, pilots_shared
from baselines.allocation.result import Allocation, Multipliers, Status
from cfisac_env.config import nearest
from cfisac_env.types import Problem

__all__ = ["BACKENDS", "Allocation", "Allocator", "Multipliers", "Status", "allocator", "dual_bound"]

BACKENDS = ("fast", "clarabel", "scs")


class Allocator(Protocol):
    """Solves the fixed-set problem of one drop for one set or a batch of sets."""

    def __call__(self, problem: Problem, active: NDArray[np.bool_], cutoff_w: float | None = None, /) -> Allocation:
        """Least transmit power with which the APs in `active` (…, M) meet every requirement.

        A back end may stop a solve whose dual bound on the transmit power passes `cutoff_w`.
        """


def allocator(backend: str = "fast") -> Allocator:
    """The back end of a name: `fast` (compiled interior point), `clarabel` or `scs` (cvxpy, the reference).

    Drops whose users share pilots go to the convex–concave procedure (`ccp`), whatever the back end; its answers are `LOCAL`.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown allocator {backend!r}{nearest(backend, list(BACKENDS))}; valid ones: {', '.join(BACKENDS)}"
        )

    def allocate(problem: Problem, active: NDArray[np.bool_], cutoff_w: float | None = None, /) -> Allocation:
        if pilots_shared(problem):
            from baselines.allocation import ccp

            return ccp.solve(problem, active, cutoff_w=cutoff_w)
        if backend == "fast":
            from baselines.allocation import fast

            return fast.solve(problem, active, cutoff_w=cutoff_w)
        from baselines.allocation import reference

        return reference.solve(problem, active, solver=backend.upper())

    return allocate
