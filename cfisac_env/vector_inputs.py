"""Validation of what the vector environments are given: seeds, drops, masks and actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfisac_env import physics
from cfisac_env.backend import Backend
from cfisac_env.drops import chosen_drop
from cfisac_env.env import flat_hint, real_array
from cfisac_env.shard import Rows
from cfisac_env.types import Array


def checked_seeds(seed: Any, n: int) -> Sequence[int | None]:
    """Validate the seed of a reset, and return one for each environment."""
    if seed is None:
        return [None] * n
    if _is_seed(seed):
        return range(int(seed), int(seed) + n)
    several = isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str) and len(seed) == n
    if not several or not all(one is None or _is_seed(one) for one in seed):
        raise ValueError(
            f"seed must be None, an int of at least 0, or a list of {n} ints or Nones (one an environment), got {seed!r}"
        )
    return [None if one is None else int(one) for one in seed]


def checked_drops(drop: Any, n: int, count: int | None) -> NDArray[np.int64] | None:
    """Return the index of the stored drop of every environment, −1 for the next; None is the next for all.

    `count` stored drops may be chosen; None is none.
    """
    if count is None or drop is None:
        return None
    each = drop if isinstance(drop, Sequence | np.ndarray) and not isinstance(drop, str) else [drop] * n
    if len(each) != n:
        raise ValueError(f"options['drop'] must be one index, or a list of {n} (one an environment), got {drop!r}")
    chosen = [chosen_drop({"drop": one}, count) for one in each]
    return np.array([-1 if one is None else one for one in chosen])


def checked_mask(mask: Any, n: int, began: bool) -> Rows:
    """Validate the mask (n,) of environments to reset; None is all of them."""
    if mask is None:
        return np.ones(n, np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = f"{type(mask).__name__} of {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"options['reset_mask'] must be a NumPy array of bool, got {kind}")
    if mask.shape != (n,) or not mask.any():
        raise ValueError(
            f"options['reset_mask'] must have shape ({n},) and at least one True, "
            f"got shape {mask.shape} with {mask.sum()} True"
        )
    if not began and not mask.all():
        raise RuntimeError(f"environments {some(~mask)} have never been reset; reset all of them before some by a mask")
    return mask


def checked_actions(actions: Any, playing: Rows, shape: tuple[int, ...], backend: Backend) -> Array:
    """Validate actions and round them to float32."""
    xp, numpy = backend.xp, backend.name == "numpy"
    array: Any = real_array(actions, "the actions") if numpy else backend.array(actions)
    if tuple(array.shape) != shape:
        raise ValueError(
            f"the actions must have shape {shape} (environments, APs, 1 activation + users), got {tuple(array.shape)}; "
            f"every step takes one action for each of the {shape[0]} environments; "
            + flat_hint(tuple(array.shape), shape)
        )
    if not numpy and array.is_complex():
        raise ValueError(f"the actions must hold real numbers, got a tensor of {array.dtype}")
    if array.dtype != xp.float32:
        array = xp.astype(physics.clip(array, -1.0, 1.0), xp.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = xp.isfinite(array.sum())  # a fast test for the absence of NaN
    if not finite:
        bad = xp.any(xp.isnan(array), axis=(1, 2)) & backend.array(playing)
        if bad.any():
            raise ValueError(
                f"the actions hold NaN (environments {some(bad)}); every entry must be a number in [-1, 1]"
            )
    return array if numpy else xp.astype(array, xp.float64)


def _is_seed(seed: Any) -> bool:
    return isinstance(seed, int | np.integer) and not isinstance(seed, bool) and bool(seed >= 0)


def some(rows: Array) -> str:
    """List the first ten marked rows for messages."""
    marked = [i for i, is_marked in enumerate(rows.tolist()) if is_marked]
    return f"{marked[:10]}{f' and {len(marked) - 10} more' if len(marked) > 10 else ''}"
