"""Scores: 0 for the rule, 100 for the best known decision, on a logarithmic scale of total power or on that of an episode's energy."""

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
    drawn = np.concatenate([one[_drawn(one.shape, rng)].reshape(RESAMPLES, -1) for one in scores], axis=-1)
    low, high = np.quantile(interquartile_mean(drawn), (0.025, 0.975))
    return Interval(centre, float(low), float(high))


def _drawn(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Any, Any]:
    """Draw training seeds and drops or episodes again: indices of `RESAMPLES` arrays of a shape."""
    runs, columns = (rng.integers(size, size=(RESAMPLES, size)) for size in shape)
    return runs[:, :, None], columns[:, None, :]


def room_closed(energy_j: Float, served: Float, rule_j: Float, rule_served: Float, best_j: Float) -> Interval:
    """Score episodes: 100 Σ saving/Σ(E_rule − E_best), at least 0, with a 95 % bootstrap interval over training seeds and episodes.

    The saving of an episode is E_rule − E, and at most 0 where fewer instants are served than by the rule.

    Args:
        energy_j: (training seeds, episodes) in J.
        served: (training seeds, episodes) share of the instants.
        rule_j: (episodes,) of `hysteresis`, like `rule_served`.
        rule_served: (episodes,).
        best_j: (episodes,) of `clairvoyant`.
    """
    saving = rule_j - energy_j
    saving = np.where(served < rule_served - 1e-9, np.minimum(saving, 0.0), saving)
    both = np.stack([saving, np.broadcast_to(rule_j - best_j, saving.shape)], axis=-1)

    def share(values: Float) -> Float:
        total = values.sum((-3, -2))
        return np.asarray(np.maximum(100.0 * total[..., 0] / total[..., 1], 0.0))

    low, high = np.quantile(share(both[_drawn(saving.shape, np.random.default_rng(0))]), (0.025, 0.975))
    return Interval(float(share(both)), float(low), float(high))


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
