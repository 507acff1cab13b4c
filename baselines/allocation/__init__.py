"""Exact power for a fixed set of APs: two back ends behind one signature, a procedure for shared pilots, and their certificates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.allocation.certificate import dual_bound, pilots_shared
from baselines.allocation.result import Allocation, Multipliers, Status
from cfisac_env.config import nearest
from cfisac_env.types import Problem

__all__ = ["BACKENDS", "Allocation", "Allocator", "Multipliers", "Status", "dual_bound"]

BACKENDS = ("fast", "clarabel", "scs")


@dataclass(frozen=True)
class Allocator:
    """Solves the fixed-set problem of one drop for one set or a batch of sets.

    Drops whose users share pilots go to the convex–concave procedure (`ccp`), whatever the back end; its answers are `LOCAL`.

    Args:
        backend: `fast` (compiled interior point), `clarabel` or `scs` (cvxpy, the reference).
        threads: of `fast`; by default as many as there are processors and work for. Answers do not depend on it.

    Raises:
        ValueError: there is no such back end.
    """

    backend: str = "fast"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(
                f"unknown allocator {self.backend!r}{nearest(self.backend, list(BACKENDS))}; valid ones: {', '.join(BACKENDS)}"
            )

    def __call__(self, problem: Problem, active: NDArray[np.bool_], cutoff_w: ArrayLike | None = None, /) -> Allocation:
        """Least transmit power with which the APs in `active` (…, M) meet every requirement.

        A back end may stop a solve whose dual bound on the transmit power passes `cutoff_w`, which is broadcast over the sets.
        """
        if pilots_shared(problem):
            from baselines.allocation import ccp

            return ccp.solve(problem, active, cutoff_w=cutoff_w)
        if self.backend == "fast":
            from baselines.allocation import fast

            return fast.solve(problem, active, cutoff_w=cutoff_w, threads=self.threads)
        from baselines.allocation import reference

        return reference.solve(problem, active, solver=self.backend.upper())
