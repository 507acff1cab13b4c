"""Calls of strategies of motion and shadowing, given by users or built in, and validation of their results."""

from __future__ import annotations

from typing import Any

import numpy as np

from cfisac_env.config import FAR, SystemConfig
from cfisac_env.mobility import (
    CorrelatedShadowing,
    Floats,
    Generators,
    Motion,
    RandomWaypoint,
    Shadowing,
    SmoothTurns,
    Track,
)

MAX_SHADOWING_DB = 500.0
"""Maximum magnitude of the shadowing returned by a strategy."""


def moved(
    motion: Motion,
    what: str,
    rngs: Generators,
    start_xy: Floats,
    config: SystemConfig,
    steps: int,
    step_s: float,
) -> Track:
    """Compute and validate the tracks of a motion for n episodes.

    Args:
        start_xy: (n, N, 2) m.

    Raises:
        ValueError: a result of another shape than (steps, N, 2), non-finite values, or positions beyond `FAR` radii of the disc.
    """
    radius_m = config.area_diameter_m / 2
    if type(motion) is RandomWaypoint or type(motion) is SmoothTurns:  # subclasses may override `trajectory`
        return motion.tracks(rngs, start_xy, radius_m, steps, step_s)
    call = motion_of(motion, what)
    name, shape = f"{type(motion).__name__}.trajectory for the {what}", (steps, start_xy.shape[1], 2)
    ways = [
        _checked(call(rng, start.copy(), radius_m, steps, step_s), name, shape, "m", FAR * radius_m)
        for rng, start in zip(rngs, start_xy, strict=True)
    ]
    return Track.through(np.stack(ways), step_s)


def shadowed(shadowing: Shadowing, rngs: Generators, ap_xy: Floats, ue_xy: Floats, config: SystemConfig) -> Floats:
    """Compute and validate the shadowing of n episodes, (n, steps, M, K) dB.

    Raises:
        ValueError: a result of another shape, non-finite values, or magnitudes above `MAX_SHADOWING_DB`.
    """
    if type(shadowing) is CorrelatedShadowing:
        return shadowing.fields(rngs, ap_xy, ue_xy, config.shadowing_std_db)
    call = series_of(shadowing)
    name, shape = f"{type(shadowing).__name__}.series", (ue_xy.shape[1], config.M, config.K)
    return np.stack(
        [
            _checked(call(rng, ap.copy(), ue.copy(), config.shadowing_std_db), name, shape, "dB", MAX_SHADOWING_DB)
            for rng, ap, ue in zip(rngs, ap_xy, ue_xy, strict=True)
        ]
    )


def motion_of(motion: Motion, what: str) -> Any:
    """Return the trajectory method of a motion, or raise a TypeError."""
    return _method(motion, "trajectory", f"the motion of the {what}", "RandomWaypoint or SmoothTurns")


def series_of(shadowing: Shadowing) -> Any:
    """Return the series method of a shadowing strategy, or raise a TypeError."""
    return _method(shadowing, "series", "shadowing", "CorrelatedShadowing")


def _method(strategy: Any, name: str, what: str, example: str) -> Any:
    call = getattr(strategy, name, None)
    if not callable(call) or isinstance(strategy, type):
        raise TypeError(
            f"{what} must be an object with a method {name}() such as {example}(), got {strategy!r}; "
            "see cfisac_env.mobility"
        )
    return call


def _checked(returned: Any, name: str, shape: tuple[int, ...], unit: str, most: float) -> Floats:
    try:
        array = np.array(returned, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must return numbers of shape {shape} in {unit}, got {returned!r}") from None
    if array.shape != shape:
        raise ValueError(f"{name} must return shape {shape} in {unit}, got {array.shape}")
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} returned {int((~np.isfinite(array)).sum())} values that aren't finite, the first at index {first}"
        )
    if (reached := float(np.abs(array).max())) > most:
        raise ValueError(f"{name} must return values within ±{most:g} {unit}, got {reached:g}")
    return array
