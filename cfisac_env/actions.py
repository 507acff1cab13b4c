"""Action codec: conversion between decisions and actions in [-1, 1].

Column 0 of an action is the activation (on when ≥ 0), the others are amplitudes: p_mk = P_max ((a + 1)/2)², so that float32 resolves both
microwatts for users and milliwatts for the target.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cfisac_env import compiled
from cfisac_env.config import SystemConfig
from cfisac_env.physics import clip, namespace
from cfisac_env.types import Array, Decision

_RESOLUTION = 2.0**-25  # finest amplitude step of float32 actions in [-1, 1], near zero
_NEGLIGIBLE = 2e-6  # tolerated relative rounding error of a user's amplitude


def space(config: SystemConfig) -> spaces.Box:
    """Return `Box(-1, 1, (M, K + 1), float32)`."""
    return spaces.Box(-1.0, 1.0, (config.M, config.K + 1), np.float32)


def decode(action: Array, max_ap_power_w: float) -> Decision:
    """Decode an action: squared amplitudes, zero when off, each AP scaled down to its cap if it exceeds it.

    Args:
        action: (…, M, K + 1), clipped to [-1, 1].
    """
    return compiled.decode(action, max_ap_power_w) or _decode(action, max_ap_power_w)


def _decode(action: Array, max_ap_power_w: float) -> Decision:
    xp = namespace(action)
    if xp is np:
        action = action.astype(np.float64)
    active = action[..., 0] >= 0
    amplitude = (clip(action[..., 1:], -1.0, 1.0) + 1.0) * 0.5
    share = amplitude * amplitude
    total = xp.sum(share, axis=-1)
    scale = xp.where(active, max_ap_power_w / xp.clip(total, 1.0, None), 0.0)
    return Decision(active=active, power=share * scale[..., None])


def encode(decision: Decision, max_ap_power_w: float, estimate_gain: Array | None = None) -> NDArray[np.float32]:
    """Encode a decision as an action, to 1e-5 relative in every SINR if each user gets at least 1e-4 P_max from its best AP.

    Float32 resolves amplitudes to 3e-8 of √P_max, so smaller powers are less accurate. With `estimate_gain`, rounding errors of a user's
    signal Σ_m √(p_mk v_mk) at its stronger links are compensated at its weaker ones, where the resolution is finer.

    Args:
        decision: `active` (…, M), `power` (…, M, K) W within the caps.
        estimate_gain: (…, M, K) v in any unit.

    Returns:
        (…, M, K + 1) float32
    """
    power = np.asarray(decision.power, dtype=np.float64)
    active = np.asarray(decision.active, dtype=bool)
    exact = np.where(active[..., None], np.sqrt(np.maximum(power, 0.0) / max_ap_power_w), 0.0)
    action = np.empty((*power.shape[:-1], power.shape[-1] + 1), np.float32)
    action[..., 0] = np.where(active, 1.0, -1.0)
    action[..., 1:] = 2.0 * np.minimum(exact, 1.0) - 1.0
    if estimate_gain is not None:
        action[..., 1:] = _compensated(exact, action[..., 1:], np.sqrt(np.asarray(estimate_gain)), active)
    return action


def _compensated(
    exact: NDArray[np.float64], rounded: NDArray[np.float32], weight: NDArray[np.float64], active: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Adjust rounded amplitudes so that each user's Σ_m amplitude·weight is preserved, strongest link first."""
    weight = np.where(active[..., None], weight, 0.0)
    order = np.argsort(-weight, axis=-2, kind="stable")
    w = np.take_along_axis(weight, order, -2)
    wanted = np.take_along_axis(exact, order, -2)
    result = np.take_along_axis(rounded, order, -2)
    lost = np.zeros(w.shape[:-2] + w.shape[-1:])
    # Smaller rounding errors are not compensated, as a compensation is interference to other users.
    realised = (result.astype(np.float64) + 1.0) * 0.5
    needed = np.abs(np.sum((wanted - realised) * w, axis=-2)) > _NEGLIGIBLE * np.sum(wanted * w, axis=-2)
    for m in range(int(active.sum(-1).max(initial=0))):  # the others are off
        here = w[..., m, :]
        usable = (here > 0) & needed
        # At most 64 steps per link, to bound the change of weak links.
        shift = np.clip(np.where(usable, lost / np.where(usable, here, 1.0), 0.0), -64 * _RESOLUTION, 64 * _RESOLUTION)
        moved = np.clip(2.0 * (wanted[..., m, :] + shift) - 1.0, -1.0, 1.0).astype(np.float32)
        result[..., m, :] = np.where(usable, moved, result[..., m, :])
        kept = (result[..., m, :].astype(np.float64) + 1.0) * 0.5
        lost = lost + np.where(usable, (wanted[..., m, :] - kept) * here, 0.0)
    restored = np.empty_like(result)
    np.put_along_axis(restored, order, result, -2)
    return restored
