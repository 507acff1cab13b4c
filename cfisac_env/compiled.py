"""Compiled replacements of array code for small arrays, where NumPy's overhead dominates.

`actions.decode` and functions of `physics` call these first. They return None without numba, or for arrays that the kernels do not support,
and the array code is used instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np

from cfisac_env import jit
from cfisac_env.types import Array, Decision, Outcome, Problem


@cache
def kernels() -> ModuleType | None:
    """Return the module of compiled loops; None without numba."""
    if not jit.available():
        return None
    from cfisac_env import kernels as module

    return module


@cache
def random_kernels() -> ModuleType | None:
    """Return the module of compiled random number loops; None without numba or NumPy's exported functions."""
    if not jit.available():
        return None
    try:
        from cfisac_env import random_kernels as module
    except (ImportError, OSError):
        return None
    return module


def _contiguous(array: Array, dtype: type, shape: tuple[int, ...]) -> bool:
    return type(array) is np.ndarray and array.dtype == dtype and array.shape == shape and array.flags.c_contiguous


def decode(action: Array, max_ap_power_w: float) -> Decision | None:
    """Compute `actions.decode`; None if unsupported."""
    if not _contiguous(action, np.float32, action.shape) or action.ndim < 2 or (loops := kernels()) is None:
        return None
    *lead, M, columns = action.shape
    B = math.prod(lead)
    active, power = np.empty((B, M), np.bool_), np.empty((B, M, columns - 1))
    loops.decode(action.reshape(B, M, columns), max_ap_power_w, active, power)
    return Decision(active.reshape(*lead, M), power.reshape(*lead, M, columns - 1))


def evaluate(problem: Problem, decision: Decision, tolerance: float) -> Outcome | None:
    """Compute `physics.evaluate`; None if unsupported."""
    gain, fisher, overlap, power = problem.gain, problem.fisher, problem.pilot_overlap, decision.power
    prior = problem.prior
    shape = power.shape
    lead, M, K, S = shape[:-2], shape[-2], shape[-1], fisher.shape[-2]
    if not (
        _contiguous(power, np.float64, shape)
        and _contiguous(gain, np.float64, shape)
        and _contiguous(problem.estimate_gain, np.float64, shape)
        and _contiguous(fisher, np.float64, (*lead, M, S, 3))
        and _contiguous(decision.active, np.bool_, shape[:-1])
        and (overlap is None or _contiguous(overlap, np.float64, (*lead, K, K)))
        and (prior is None or _contiguous(prior, np.float64, (*lead, S, 3)))
        and (loops := kernels()) is not None
    ):
        return None
    B = math.prod(lead)
    sinr, crlb, sums, feasible = np.empty((2, B, K)), np.empty((2, B, S)), np.empty((4, B)), np.empty(B, np.bool_)
    loops.evaluate(
        power.reshape(B, M, K), decision.active.reshape(B, M), gain.reshape(B, M, K), problem.estimate_gain.reshape(B, M, K),
        np.empty((0, K, K)) if overlap is None else overlap.reshape(B, K, K), fisher.reshape(B, M, S, 3),
        np.empty((0, S, 3)) if prior is None else prior.reshape(B, S, 3),
        problem.noise_w, problem.sinr_threshold, problem.crlb_threshold_m2, problem.max_ap_power_w, problem.circuit_power_w,
        tolerance, sinr[0], crlb[0], sinr[1], crlb[1], sums, feasible,
    )  # fmt: skip
    if lead:
        sinr, crlb, sums, feasible = (
            sinr.reshape(2, *lead, K), crlb.reshape(2, *lead, S), sums.reshape(4, *lead), feasible.reshape(lead),
        )  # fmt: skip
    else:
        sinr, crlb, sums, feasible = sinr[:, 0], crlb[:, 0], sums[:, 0], feasible[0]
    return Outcome(
        sinr=sinr[0],
        crlb=crlb[0],
        transmit_power=sums[0],
        circuit_power=sums[1],
        total_power=sums[2],
        sinr_violation=sinr[1],
        crlb_violation=crlb[1],
        cap_violation=sums[3],
        feasible=feasible,
    )


def fill(generators: Sequence[np.random.Generator], uniform: Array, normal: Array, exponential: Array | None) -> bool:
    """Fill rows of random numbers, each from its own generator; return False if unsupported.

    Neither the interpreter lock nor the generators' locks are held: no other thread may use the generators.
    """
    if (loops := random_kernels()) is None:
        return False
    B = len(generators)
    streams = np.array([one.bit_generator.ctypes.bit_generator.value for one in generators], np.uintp)
    rows = np.empty((B, 0)) if exponential is None else exponential.reshape(B, -1)
    loops.fill(streams, uniform.reshape(B, -1), normal.reshape(B, -1), rows)
    return True


_FEW_RECEIVERS = 8  # fewer receivers are summed in order by NumPy, bit-identical to the loops


def _places(*arrays: Array) -> bool:
    """Return whether these are supported positions (…, N, 2) with equal leading axes."""
    lead = arrays[0].shape[:-2]
    return all(type(a) is np.ndarray and a.dtype == np.float64 and a.shape[:-2] == lead for a in arrays)


def link_distance(ap_xy: Array, ue_xy: Array, min_distance_m: float) -> Array | None:
    """Compute `physics.link_distance`; None if unsupported."""
    if not _places(ap_xy, ue_xy) or (loops := kernels()) is None:
        return None
    *lead, M, _ = ap_xy.shape
    K = ue_xy.shape[-2]
    distance = np.empty((math.prod(lead), M, K))
    loops.link_distance(ap_xy.reshape(-1, M, 2), ue_xy.reshape(-1, K, 2), min_distance_m, distance)
    return distance.reshape(*lead, M, K)


def radar_gain(
    ap_xy: Array, sr_xy: Array, target_xy: Array, scale: Array | float, min_distance_m: float
) -> Array | None:
    """Compute `physics.radar_gain` with `scale` for λ² σ_rcs/(4π)³; None if unsupported."""
    *lead, M, _ = ap_xy.shape
    T, S = sr_xy.shape[-2], target_xy.shape[-2]
    # The memory layout for many receivers affects the order of their later sum.
    few = isinstance(scale, float) and T < _FEW_RECEIVERS
    if not few or not _places(ap_xy, sr_xy, target_xy) or (loops := kernels()) is None:
        return None
    rcs_gain = np.empty((math.prod(lead), M, S, T))
    loops.radar_gain(
        ap_xy.reshape(-1, M, 2), sr_xy.reshape(-1, T, 2), target_xy.reshape(-1, S, 2), scale, min_distance_m, rcs_gain
    )
    return rcs_gain.reshape(*lead, M, S, T)


def fisher_information(
    ap_xy: Array, sr_xy: Array, target_xy: Array, rcs_gain: Array, fisher_scale: float
) -> Array | None:
    """Compute `physics.fisher_information`; None if unsupported."""
    *lead, M, S, T = rcs_gain.shape
    if (
        T >= _FEW_RECEIVERS
        or not _places(ap_xy, sr_xy, target_xy)
        or not _contiguous(rcs_gain, np.float64, (*ap_xy.shape[:-1], S, T))
        or (loops := kernels()) is None
    ):
        return None
    fisher = np.empty((math.prod(lead), M, S, 3))
    loops.fisher_information(
        ap_xy.reshape(-1, M, 2), sr_xy.reshape(-1, T, 2), target_xy.reshape(-1, S, 2), rcs_gain.reshape(-1, M, S, T),
        fisher_scale, fisher,
    )  # fmt: skip
    return fisher.reshape(*lead, M, S, 3)


def pairs(first: Array, second: Array, shift: float, limit: float, out: Array) -> bool:
    """Interleave two arrays, minus `shift` and clipped to ±`limit`, in `out` (…, 2); return False if unsupported."""
    shape = first.shape
    if not (
        _contiguous(first, np.float64, shape)
        and _contiguous(second, np.float64, shape)
        and _contiguous(out, np.float32, (*shape, 2))
        and (loops := kernels()) is not None
    ):
        return False
    M, K = shape[-2:]
    loops.pairs(first.reshape(-1, M, K), second.reshape(-1, M, K), shift, limit, out.reshape(-1, M, K, 2))
    return True
