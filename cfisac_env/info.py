"""What a step says besides observation and reward: one place for the names and kinds of all of it, on every environment."""

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
    """The reward and the information of decisions, one or a batch; nothing returned shares memory with the arguments.

    - `total_power_w`, `transmit_power_w`, `circuit_power_w` (…,), `active_aps` (…,)
    - `sinr_db` (…, K), `crlb_m2` (…, S)
    - `feasible` (…,): whether this decision meets every requirement
    - `is_success` (…,): whether this one and the last one on each instant of the episode before did; at its end, whether the episode did
    - `cost` (…,): sum of `costs` (…, K + S): by how much, relatively, each user's SINR and each target's CRLB misses its requirement
    - `reward_terms`: those of `reward.terms`, (…,) each; their sum is the reward
    - where switching costs: `switched_on`, `waking_aps`, `switching_energy_j`, `energy_j` of the step, all included, and
      `episode_energy_j`

    Args:
        problem: of the drops; leading axes ….
        decision: for them.
        outcome: of the decision.
        config: gives the kind of reward.
        served: (…,) whether every instant of the episode before ended with its requirements met.
        switching: the state before the decision, where switching costs.
        energy_j: (…,) of the episode before, then.
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
        ),  # an array also of one decision, which vectors of environments want
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
    """10 log10 γ, with −300 dB for a user that gets nothing."""
    return 10.0 * physics.namespace(sinr).log10(physics.clip(sinr, 1e-30))


def _count(flags: Array) -> Array:
    """How many of the last axis are set; int64."""
    return flags.sum(-1) if flags.ndim > 1 else np.int64(np.count_nonzero(flags))
