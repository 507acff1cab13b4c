"""Oracle and heuristic policies behind Stable-Baselines3's `predict`, and the optimisation that they stand on."""

from __future__ import annotations

from typing import Any

from baselines.branch_and_bound import BranchAndBoundPolicy
from baselines.decoupled import DecoupledPolicy
from baselines.elimination import ModifiedBbPaperPolicy, ModifiedBbPolicy
from baselines.heuristics import FullApPolicy, MaxPowerPolicy, NearestApPolicy, RandomPolicy, StrongestApPolicy
from baselines.local_search import LocalSearchPolicy
from baselines.policy import Answer, Policy
from cfisac_env.config import nearest

__all__ = ["POLICIES", "Answer", "Policy", "make"]

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        RandomPolicy,
        MaxPowerPolicy,
        NearestApPolicy,
        StrongestApPolicy,
        FullApPolicy,
        DecoupledPolicy,
        ModifiedBbPaperPolicy,
        ModifiedBbPolicy,
        LocalSearchPolicy,
        BranchAndBoundPolicy,
    )
}


def make(name: str, **options: Any) -> Policy:
    """Build a policy by its name.

    Args:
        name: one of `POLICIES`.
        options: of the policy; every one takes `M` and `K` and then refuses observations of another size.

    Raises:
        ValueError: there is no policy of that name; the message lists those that there are.
    """
    if name not in POLICIES:
        raise ValueError(
            f"unknown policy {name!r}{nearest(name, list(POLICIES))}; valid policies: {', '.join(POLICIES)}"
        )
    return POLICIES[name](**options)
