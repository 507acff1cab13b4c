"""Reward and info of a step, common to all environments."""

from __future__ import annotations

from typing import Any

import numpy as np

from cfisac_env import physics, reward
from cfisac_env.config import SystemConfig
from cfisac_env.switching import Switching
from cfisac_env.types import Array, Decision, Outcome, Problem

Info = dict[str, Any]


def scored(
    problem: Problem,
    decision: Decision,
    outcome: Outcome,
    config: SystemConfig,
    served: Array | bool = True,
    switching: Switching | None = None,
    energy_j: Array | float = 0.0,
) -> tuple[Array, Info]:
    """Compute reward and info of one decision or a batch, without sharing memory with the arguments.

    - `total_power_w`, `transmit_power_w`, `circuit_power_w` (…,), `active_aps` (…,)
    - `sinr_db` (…, K), `crlb_m2` (…, S)
    - `feasible` (…,): whether this decision meets every requirement
    - `is_success` (…,): whether this decision and the last one at each previous instant of the episode are feasible
    - `cost` (…,): sum of `costs` (…, K + S), the relative violations of each user's SINR and each target's CRLB
    - `reward_terms`: those of `reward.terms`, (…,) each; their sum is the reward
    - with switching costs: `switched_on`, `waking_aps`, `switching_energy_j`, `energy_j` of the step, all included, and
      `episode_energy_j`

    Args:
        served: (…,) whether all previous instants of the episode ended with their requirements met.
        switching: state before the decision, with switching costs.
        energy_j: (…,) energy of the episode so far.
    """
    xp = physics.namespace(outcome.sinr)
    missed = reward.missed(outcome)
    info: Info = {
        "total_power_w": outcome.total_power,
        "transmit_power_w": outcome.transmit_power,
        "circuit_power_w": outcome.circuit_power,
        "active_aps": _count(decision.active),
        "sinr_db": sinr_db(outcome.sinr),
        "crlb_m2": xp.asarray(outcome.crlb, copy=True),
        "feasible": xp.asarray(
            outcome.feasible, copy=True
        ),  # an array also for a single decision, as vector environments require
        "is_success": xp.asarray(outcome.feasible & served),
        "cost": missed[0] + missed[1],
        "costs": xp.concat([outcome.sinr_violation, outcome.crlb_violation], axis=-1),
    }
    switching_w, most_switching_w = None, 0.0
    if switching is not None:
        active, awake = decision.active, switching.awake(decision.active.shape[-1])
        switched_on = _count(switching.switched_on(active))
        switching_j = switching.energy_j * (switched_on if xp is np else xp.astype(switched_on, xp.float64))
        step_j = outcome.total_power * switching.step_s + switching_j
        info |= {
            "switched_on": switched_on,
            "waking_aps": _count(active & ~awake),
            "switching_energy_j": switching_j,
            "energy_j": step_j,
            "episode_energy_j": energy_j + step_j,
        }
        switching_w = switching_j / switching.step_s
        most_switching_w = decision.active.shape[-1] * switching.energy_j / switching.step_s
    terms = info["reward_terms"] = reward.terms(outcome, config, problem, missed, switching_w, most_switching_w)
    return sum(terms.values()), info


def sinr_db(sinr: Array) -> Array:
    """Compute 10 log10 γ, at least −300 dB."""
    return 10.0 * physics.namespace(sinr).log10(physics.clip(sinr, 1e-30))


def _count(flags: Array) -> Array:
    """Count the set flags along the last axis, as int64."""
    return flags.sum(-1) if flags.ndim > 1 else np.int64(np.count_nonzero(flags))
