"""Observation codec: `encode` builds the observation of a drop, `decode` recovers the optimisation problem.

The observation contains all information of a central controller, to 1e-5 relative in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cfisac_env import compiled
from cfisac_env.config import FAR, SystemConfig
from cfisac_env.physics import clip, namespace
from cfisac_env.scenario import Scenario
from cfisac_env.types import Array, Problem

Observation = dict[str, NDArray[np.float32]]

LOG_LIMIT = 40.0
"""Logarithms are clipped to ±40, beyond any gain, ratio or Fisher information of a physical network."""

_TINY = 10.0**-LOG_LIMIT


def space(config: SystemConfig, *, prior: bool = False) -> spaces.Dict:
    """Return the observation space of a configuration; every entry is float32.

    - `ap` (M, 3): x and y over the disc's radius, and whether the AP was on at the previous step (0 after a reset)
    - `ue` (K, 2), `sr` (T, 2), `target` (S, 2): x and y over the disc's radius
    - `comm` (M, K, 2): log10 ς/σ² and log10 v/σ², per watt
    - `sensing` (M, S, 3): log10 q_a, log10 q_b, q_c/√(q_a q_b)
    - `radar` (M, S, T): log10 |χ|²/σ_S², per watt
    - `requirement` (4,): γ_thr (linear), ν in m², P_max and P_cir in W
    - `pilots` (K, K), only when K > τ_p: 1 where two users share a pilot
    - `prior` (S, 3), only with prior information: log10 J_a, log10 J_b, J_c/√(J_a J_b)
    """
    M, K, T, S = config.M, config.K, config.T, config.S
    sensing = np.full((M, S, 3), LOG_LIMIT, np.float32)
    sensing[..., 2] = 1.0
    ap = np.full((M, 3), FAR, np.float32)
    ap[:, 2] = 1.0
    low_ap = -ap
    low_ap[:, 2] = 0.0
    entries: dict[str, spaces.Space[Any]] = {
        "ap": spaces.Box(low_ap, ap, dtype=np.float32),
        "comm": spaces.Box(-LOG_LIMIT, LOG_LIMIT, (M, K, 2), np.float32),
        "sensing": spaces.Box(-sensing, sensing, dtype=np.float32),
        "radar": spaces.Box(-LOG_LIMIT, LOG_LIMIT, (M, S, T), np.float32),
        "requirement": spaces.Box(0.0, 1e7, (4,), np.float32),
        "sr": spaces.Box(-FAR, FAR, (T, 2), np.float32),
        "target": spaces.Box(-FAR, FAR, (S, 2), np.float32),
        "ue": spaces.Box(-FAR, FAR, (K, 2), np.float32),
    }
    if config.pilots_reused:
        entries["pilots"] = spaces.Box(0.0, 1.0, (K, K), np.float32)
    if prior:
        entries["prior"] = spaces.Box(-sensing[0], sensing[0], dtype=np.float32)
    return spaces.Dict(entries)


def requirement(config: SystemConfig) -> tuple[float, float, float, float]:
    """Return the values of the entry `requirement`."""
    return config.sinr_threshold, config.crlb_threshold_m2, config.max_ap_power_w, config.circuit_power_w


def encode(
    scenario: Scenario, previous_active: Array | None = None, out: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Encode a drop, or a batch of drops, as an observation of `space`.

    Args:
        previous_active: (…, M) bool; None is all off.
        out: float32 arrays for the entries, instead of new ones.

    Raises:
        ValueError: shared pilots with K ≤ τ_p, for which the observation has no entry.
    """
    config, xp = scenario.config, namespace(scenario.gain)
    if scenario.pilot is not None and not config.pilots_reused and not _all_orthogonal(scenario.problem.pilot_overlap):
        raise ValueError(
            f"users share pilots although K = {config.K} ≤ pilot_length = {config.pilot_length}, so the observation has no "
            "`pilots`; give every user its own pilot, or a configuration with a pilot_length below K"
        )
    lead = scenario.batch_shape

    def entry(key: str, *tail: int) -> Array:
        if out is not None:
            return out[key]
        if xp is np:
            return np.empty((*lead, *tail), np.float32)
        return xp.empty((*lead, *tail), dtype=xp.float32, device=scenario.gain.device)

    ap = entry("ap", config.M, 3)
    radius = config.area_diameter_m / 2
    ap[..., :2] = scenario.ap_xy / radius
    ap[..., 2] = 0.0 if previous_active is None else previous_active
    comm = entry("comm", config.M, config.K, 2)
    logs = [_log10(xp, values) for values in (scenario.gain, scenario.estimate_gain)]
    noise_log = math.log10(config.noise_w)
    if not compiled.pairs(logs[0], logs[1], noise_log, LOG_LIMIT, comm):
        for i in range(2):
            comm[..., i] = clip(logs[i] - noise_log, -LOG_LIMIT, LOG_LIMIT)
    observation = {"ap": ap, "comm": comm}  # in the order of the space
    if config.pilots_reused:
        overlap = scenario.problem.pilot_overlap
        observation["pilots"] = entry("pilots", config.K, config.K)
        observation["pilots"][...] = xp.eye(config.K) if overlap is None else overlap
    if scenario.prior is not None:
        observation["prior"] = entry("prior", config.S, 3)
        _encode_information(scenario.prior, observation["prior"])
    observation["radar"] = entry("radar", config.M, config.S, config.T)
    observation["radar"][...] = clip(_log10(xp, scenario.rcs_gain) - noise_log, -LOG_LIMIT, LOG_LIMIT)
    observation["requirement"] = entry("requirement", 4)
    for i, number in enumerate(requirement(config)):
        observation["requirement"][..., i] = number
    observation["sensing"] = entry("sensing", config.M, config.S, 3)
    _encode_information(scenario.fisher, observation["sensing"])
    for key, xy in (("sr", scenario.sr_xy), ("target", scenario.target_xy), ("ue", scenario.ue_xy)):
        observation[key] = entry(key, xy.shape[-2], 2)
        observation[key][...] = xy / radius
    return observation


def _encode_information(information: Array, out: Array) -> None:
    """Encode Fisher matrices (…, 3) as log10 of both diagonal entries and their correlation."""
    xp = namespace(information)
    diagonal = clip(information[..., :2], _TINY)
    out[..., :2] = clip(xp.log10(diagonal), -LOG_LIMIT, LOG_LIMIT)
    out[..., 2] = clip(information[..., 2] / xp.sqrt(diagonal[..., 0] * diagonal[..., 1]), -1.0, 1.0)


def _decoded_information(entry: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert `_encode_information`."""
    information = np.empty(entry.shape)
    information[..., :2] = diagonal = 10.0 ** entry[..., :2]
    information[..., 2] = entry[..., 2] * np.sqrt(diagonal[..., 0] * diagonal[..., 1])
    return information


def _log10(xp: Any, values: Array) -> Array:
    with np.errstate(divide="ignore"):  # −∞ is clipped
        return xp.log10(values)


def _all_orthogonal(overlap: Array) -> bool:
    return bool((overlap.sum(-1) == 1.0).all())


def decode(observation: Mapping[str, Array]) -> Problem:
    """Decode one observation or a batch, whose requirement must be constant.

    Gains are divided by σ², with `noise_w = 1`, and accurate to 1e-5 relative.

    Raises:
        ValueError: a missing key, a wrong shape, or a non-finite value.
    """
    keys = ("comm", "sensing", "requirement")
    missing = [key for key in keys if key not in observation]
    if missing:
        raise ValueError(
            f"the observation lacks {', '.join(missing)} (it has {', '.join(observation) or 'nothing'}); "
            "policies need the Dict observation of a CfIsac environment, not a flattened or foreign one"
        )
    comm, sensing, requirement = (np.asarray(observation[key], dtype=np.float64) for key in keys)
    if (
        comm.ndim < 3
        or comm.shape[-1] != 2
        or sensing.shape[:-2] != comm.shape[:-2]
        or sensing.shape[-1:] != (3,)
        or requirement.shape != (*comm.shape[:-3], 4)
    ):
        raise ValueError(
            "the observation must have comm (…, M, K, 2), sensing (…, M, S, 3) and requirement (…, 4), "
            f"got {comm.shape}, {sensing.shape} and {requirement.shape}"
        )
    for key, array in zip(keys, (comm, sensing, requirement), strict=True):
        if not np.isfinite(array).all():
            raise ValueError(
                f"the observation's {key!r} holds {int((~np.isfinite(array)).sum())} values that aren't finite"
            )
    rows = requirement.reshape(-1, 4)
    if not (rows == rows[0]).all():
        raise ValueError("the drops of a batch must share one requirement; predict them one configuration at a time")
    optional = {
        key: None if key not in observation else np.asarray(observation[key], dtype=np.float64)
        for key in ("pilots", "ap", "ue", "target", "prior")
    }
    prior = optional["prior"]
    if prior is not None and (prior.shape != (*comm.shape[:-3], *sensing.shape[-2:]) or not np.isfinite(prior).all()):
        raise ValueError(
            f"the observation's prior must be (…, S, 3) finite numbers, got an array of shape {prior.shape}"
        )
    gamma, nu, cap, circuit = (float(x) for x in rows[0])
    return Problem(
        gain=10.0 ** comm[..., 0],
        estimate_gain=10.0 ** comm[..., 1],
        noise_w=1.0,
        fisher=_decoded_information(sensing),
        sinr_threshold=gamma,
        crlb_threshold_m2=nu,
        max_ap_power_w=cap,
        circuit_power_w=circuit,
        pilot_overlap=optional["pilots"],
        ap_xy=None if optional["ap"] is None else optional["ap"][..., :2],
        ue_xy=optional["ue"],
        target_xy=optional["target"],
        prior=None if prior is None else _decoded_information(prior),
    )
