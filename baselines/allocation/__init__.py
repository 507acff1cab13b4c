"""Exact power allocation for fixed sets of APs: two back ends with one signature, a procedure for shared pilots, and certificates."""

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
    """Solver of the fixed-set problem of one drop for one set or a batch of sets.

    With shared pilots every back end uses the convex–concave procedure (`ccp`), whose solutions are `LOCAL`.

    Args:
        backend: `fast` (compiled interior point), `clarabel` or `scs` (cvxpy, the reference).
        threads: of `fast`; by default chosen by processors and work. Results do not depend on it.

    Raises:
        ValueError: unknown back end.
    """

    backend: str = "fast"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(
                f"unknown allocator {self.backend!r}{nearest(self.backend, list(BACKENDS))}; valid ones: {', '.join(BACKENDS)}"
            )

    def __call__(self, problem: Problem, active: NDArray[np.bool_], cutoff_w: ArrayLike | None = None, /) -> Allocation:
        """Minimise the transmit power with which the APs in `active` (…, M) meet every requirement.

        A back end may stop a solve once its dual bound on the transmit power exceeds `cutoff_w`, which is broadcast over the sets.
        """
        if pilots_shared(problem):
            from baselines.allocation import ccp

            return ccp.solve(problem, active, cutoff_w=cutoff_w)
        if self.backend == "fast":
            from baselines.allocation import fast

            return fast.solve(problem, active, cutoff_w=cutoff_w, threads=self.threads)
        from baselines.allocation import reference

        return reference.solve(problem, active, solver=self.backend.upper())
