"""Oracle and heuristic policies with Stable-Baselines3's `predict`, and their optimisation methods."""

from __future__ import annotations

from typing import Any, Literal, overload

from baselines.branch_and_bound import BranchAndBoundPolicy
from baselines.clairvoyant import ClairvoyantPolicy
from baselines.decoupled import DecoupledPolicy
from baselines.elimination import ModifiedBbPaperPolicy, ModifiedBbPolicy
from baselines.foresight import PredictivePolicy
from baselines.heuristics import FullApPolicy, MaxPowerPolicy, NearestApPolicy, RandomPolicy, StrongestApPolicy
from baselines.local_search import LocalSearchPolicy
from baselines.most_informative import MostInformativePolicy, MostInformativeSearchPolicy
from baselines.policy import Answer, ObservationPolicy, Policy
from baselines.sequential import HysteresisPolicy, KeepCreditPolicy, MyopicPolicy
from baselines.tracking import TrackingPolicy
from cfisac_env.config import nearest

__all__ = ["POLICIES", "SEQUENTIAL", "Answer", "ObservationPolicy", "Policy", "make"]

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        RandomPolicy,
        MaxPowerPolicy,
        NearestApPolicy,
        StrongestApPolicy,
        MostInformativePolicy,
        MostInformativeSearchPolicy,
        FullApPolicy,
        DecoupledPolicy,
        ModifiedBbPaperPolicy,
        ModifiedBbPolicy,
        LocalSearchPolicy,
        BranchAndBoundPolicy,
    )
}


SEQUENTIAL: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        MyopicPolicy,
        HysteresisPolicy,
        KeepCreditPolicy,
        PredictivePolicy,
        ClairvoyantPolicy,
        TrackingPolicy,
    )
}
"""Policies over time, for `CfIsacMobile-v0` and `CfIsacTracking-v0`."""


@overload
def make(name: Literal["random"], **options: Any) -> RandomPolicy: ...
@overload
def make(name: Literal["max-power"], **options: Any) -> MaxPowerPolicy: ...
@overload
def make(name: Literal["nearest-ap"], **options: Any) -> NearestApPolicy: ...
@overload
def make(name: Literal["strongest-ap"], **options: Any) -> StrongestApPolicy: ...
@overload
def make(name: Literal["most-informative"], **options: Any) -> MostInformativePolicy: ...
@overload
def make(name: Literal["most-informative-search"], **options: Any) -> MostInformativeSearchPolicy: ...
@overload
def make(name: Literal["full-ap"], **options: Any) -> FullApPolicy: ...
@overload
def make(name: Literal["decoupled"], **options: Any) -> DecoupledPolicy: ...
@overload
def make(name: Literal["modified-bb-paper"], **options: Any) -> ModifiedBbPaperPolicy: ...
@overload
def make(name: Literal["modified-bb"], **options: Any) -> ModifiedBbPolicy: ...
@overload
def make(name: Literal["local-search"], **options: Any) -> LocalSearchPolicy: ...
@overload
def make(name: Literal["branch-and-bound"], **options: Any) -> BranchAndBoundPolicy: ...
@overload
def make(name: Literal["myopic"], **options: Any) -> MyopicPolicy: ...
@overload
def make(name: Literal["hysteresis"], **options: Any) -> HysteresisPolicy: ...
@overload
def make(name: Literal["keep-credit"], **options: Any) -> KeepCreditPolicy: ...
@overload
def make(name: Literal["predictive"], **options: Any) -> PredictivePolicy: ...
@overload
def make(name: Literal["clairvoyant"], **options: Any) -> ClairvoyantPolicy: ...
@overload
def make(name: Literal["tracking"], **options: Any) -> TrackingPolicy: ...
@overload
def make(name: str, **options: Any) -> Policy: ...
def make(name: str, **options: Any) -> Policy:
    """Build a policy by name.

    Args:
        name: one of `POLICIES` or `SEQUENTIAL`.
        options: of the policy; with `M` and `K`, it refuses observations of other sizes.

    Raises:
        ValueError: unknown name; the message lists the valid ones.
    """
    known = POLICIES | SEQUENTIAL
    if name not in known:
        raise ValueError(f"unknown policy {name!r}{nearest(name, list(known))}; valid policies: {', '.join(known)}")
    return known[name](**options)
