"""The reward: negative power minus penalties for missed constraints, as a sum of named terms."""

from __future__ import annotations

from cfisac_env.config import SystemConfig
from cfisac_env.physics import namespace
from cfisac_env.types import Array, Outcome


def terms(outcome: Outcome, config: SystemConfig) -> dict[str, Array]:
    """The terms whose sum is the reward, each (…,) and in W.

    - `power`: −(transmit + circuit power)
    - `sinr`: −`sinr_penalty` · Σ_k max(0, 1 − γ_k/γ_thr)
    - `crlb`: −`crlb_penalty` · Σ_s max(0, 1 − ν/CRLB_s)

    So the reward is within [−M (P_max + P_cir) − K·sinr_penalty − S·crlb_penalty, 0].
    """
    xp = namespace(outcome.sinr_violation)
    return {
        "power": -outcome.total_power,
        "sinr": -config.sinr_penalty * xp.sum(outcome.sinr_violation, axis=-1),
        "crlb": -config.crlb_penalty * xp.sum(outcome.crlb_violation, axis=-1),
    }
