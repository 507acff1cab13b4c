"""The reward: negative power minus penalties for missed constraints, as a sum of named terms."""

from __future__ import annotations

from cfisac_env.config import SystemConfig
from cfisac_env.types import Array, Outcome


def missed(outcome: Outcome) -> tuple[Array, Array]:
    """Σ_k max(0, 1 − γ_k/γ_thr) and Σ_s max(0, 1 − ν/CRLB_s), each (…,)."""
    return outcome.sinr_violation.sum(-1), outcome.crlb_violation.sum(-1)


def terms(outcome: Outcome, config: SystemConfig, misses: tuple[Array, Array] | None = None) -> dict[str, Array]:
    """The terms whose sum is the reward, each (…,) and in W.

    - `power`: −(transmit + circuit power)
    - `sinr`: −`sinr_penalty` · Σ_k max(0, 1 − γ_k/γ_thr)
    - `crlb`: −`crlb_penalty` · Σ_s max(0, 1 − ν/CRLB_s)

    So the reward is within [−M (P_max + P_cir) − K·sinr_penalty − S·crlb_penalty, 0].

    Args:
        outcome: leading axes ….
        config: gives the penalties.
        misses: what `missed` says of the outcome, if it is known already.
    """
    sinr, crlb = missed(outcome) if misses is None else misses
    return {
        "power": -outcome.total_power,
        "sinr": -config.sinr_penalty * sinr,
        "crlb": -config.crlb_penalty * crlb,
    }
