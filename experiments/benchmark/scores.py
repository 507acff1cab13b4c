"""Scores: 0 for the rule, 100 for the best known decision, on a logarithmic scale of total power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.statistics import Interval, interquartile_mean

Float = NDArray[np.float64]

RULE = "most-informative"
"""Policy that scores 0."""

DECIDED = 1e-4
"""Relative distance of the rule to the best known power within which a drop says nothing about a policy."""

RESAMPLES = 2000


def score(total_power_w: Float, feasible: NDArray[np.bool_], rule_w: Float, best_w: Float) -> Float:
    """Score decisions: 100 ln(P_rule/P)/ln(P_rule/P_best), at least 0, and 0 where a requirement is missed.

    Args:
        total_power_w: (…, drops) in W.
        feasible: (…, drops).
        rule_w: (drops,) of the rule.
        best_w: (drops,) least known; below `rule_w`.
    """
    power = np.where(feasible, total_power_w, rule_w)
    return np.asarray(np.maximum(100.0 * np.log(rule_w / power) / np.log(rule_w / best_w), 0.0))


def telling(rule_w: Float, best_w: Float) -> NDArray[np.bool_]:
    """(drops,) Whether the best known decision is better than the rule's."""
    return np.asarray(np.isfinite(rule_w) & (rule_w > best_w * (1.0 + DECIDED)))


def summarise(scores: Sequence[Float]) -> Interval:
    """Interquartile mean of the scores of all tiers, with a 95 % stratified bootstrap interval.

    Args:
        scores: one (training seeds, drops) array for each tier. Seeds and drops are drawn again within their tier.
    """
    rng = np.random.default_rng(0)
    centre = float(interquartile_mean(np.concatenate([np.ravel(one) for one in scores])))
    drawn = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        parts = [
            one[rng.integers(len(one), size=len(one))][:, rng.integers(one.shape[1], size=one.shape[1])]
            for one in scores
        ]
        drawn[i] = interquartile_mean(np.concatenate([np.ravel(part) for part in parts]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(centre, float(low), float(high))


def of_entry(entry: Mapping[str, Any], tier: str, reference: Mapping[str, Any]) -> Float | None:
    """(training seeds, telling drops) scores of an entry on a tier; None if it wasn't played."""
    if tier not in entry["tiers"]:
        return None
    rule, best = (np.array(reference[tier][key], dtype=np.float64) for key in ("rule_w", "best_w"))
    keep = telling(rule, best)
    runs = entry["tiers"][tier]["runs"]
    total = np.array([run["total_power_w"] for run in runs], dtype=np.float64)[:, keep]
    feasible = np.array([run["feasible"] for run in runs], dtype=bool)[:, keep]
    return score(total, feasible, rule[keep], best[keep])
