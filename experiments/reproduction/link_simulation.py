"""Simulation of the downlink with shared pilots, which the paper's closed forms (1) and (3) describe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfisac_env import Scenario

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Link:
    """Simulated estimates and SINRs, and the powers."""

    power: Float  # (M, K) W
    estimate_gain: Float  # (M, K) mean square of the channel estimate
    sinr: Float  # (K,) linear


def simulate(scenario: Scenario, rng: np.random.Generator, blocks: int = 20_000) -> Link:
    """Simulate Rayleigh channels, pilots, MMSE estimates and conjugate beams, with P_max of every AP in equal parts for every user.

    The SINR is that of a receiver that knows the mean of its effective channel g_kk' = Σ_m h_mk √(p_mk'/v_mk') ĥ*_mk':
    |E g_kk|²/(Σ_k' E|g_kk'|² − |E g_kk|² + σ²). None of the closed forms is used.

    Args:
        scenario: a single drop with a pilot index for every user.
    """
    config = scenario.config
    M, K, length = config.M, config.K, config.pilot_length
    gain = np.asarray(scenario.gain) / config.noise_w  # relative to the noise
    sequences = np.sqrt(config.pilot_energy_w) * np.eye(length)[:, np.asarray(scenario.pilot)]  # (τ, K)
    covariance = np.einsum("mk,tk,uk->mtu", gain, sequences, sequences) + np.eye(length)
    cross = gain[:, :, None] * sequences.T  # E h_mk yᵀ, (M, K, τ)
    filters = cross @ np.linalg.inv(covariance)
    power = np.full((M, K), config.max_ap_power_w / K)

    def normal(*shape: int) -> NDArray[np.complex128]:
        real, imaginary = rng.standard_normal((2, *shape)) * np.sqrt(0.5)
        return np.asarray(real + 1j * imaginary)

    channel = np.sqrt(gain) * normal(blocks, M, K)
    estimate = np.einsum("nmt,mkt->nmk", channel @ sequences.T + normal(blocks, M, length), filters)
    square = np.mean(np.abs(estimate) ** 2, axis=0)
    effective = np.swapaxes(channel, 1, 2) @ (np.sqrt(power / square) * estimate.conj())  # (n, K, K)
    signal = np.abs(np.einsum("nkk->nk", effective).mean(0)) ** 2
    received = np.mean(np.abs(effective) ** 2, axis=0).sum(1)
    return Link(power, square * config.noise_w, signal / (received - signal + 1.0))
