"""Interquartile means and paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """Estimate with its 95 % bootstrap interval, whose ends are NaN for a single value."""

    value: float
    low: float
    high: float


def mean(values: Float) -> float:
    """Mean, or NaN without values."""
    return float(values.mean()) if values.size else np.nan


def interquartile_mean(values: Float, axis: int = -1) -> Float:
    """Mean of the middle half, without the quarter at either end."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def bootstrap(values: Float, statistic: Literal["mean", "iqm"] = "mean") -> Interval:
    """Seeded percentile bootstrap over drops (`scipy.stats.bootstrap`) of the mean or the interquartile mean.

    For a paired comparison, pass the differences drop by drop.
    """
    function: Callable[..., Any] = interquartile_mean if statistic == "iqm" else np.mean
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return Interval(np.nan, np.nan, np.nan)
    centre = float(function(values))
    return _interval((values,), function, centre, constant=np.ptp(values) == 0)


def bootstrap_saving(ours: Float, theirs: Float) -> Interval:
    """Saving 1 − Σ ours/Σ theirs against another policy on the same drops, with a paired percentile bootstrap."""
    share = bootstrap_share(ours, theirs)
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def bootstrap_share(part: Float, whole: Float) -> Interval:
    """Share Σ part/Σ whole over the same drops, with a paired percentile bootstrap."""

    def share(a: Float, b: Float, axis: int = -1) -> Float:
        return np.asarray(a.mean(axis=axis) / b.mean(axis=axis))

    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    if part.size == 0 or not whole.any():
        return Interval(np.nan, np.nan, np.nan)
    centre = float(share(part, whole))
    return _interval((part, whole), share, centre, np.ptp(part - centre * whole) <= 1e-12 * np.abs(whole).max())


def _interval(samples: tuple[Float, ...], function: Callable[..., Any], centre: float, constant: bool) -> Interval:
    """Bootstrap a statistic of samples, paired if there are several; a constant one has an interval without width."""
    if samples[0].size == 1:
        return Interval(centre, np.nan, np.nan)
    if constant:
        return Interval(centre, centre, centre)
    ends = stats.bootstrap(
        samples, function, paired=len(samples) > 1, n_resamples=RESAMPLES, method="percentile", vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Interval(centre, float(ends.low), float(ends.high))
