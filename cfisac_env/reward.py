"""Reward as a sum of named terms: negative power and penalties for violated requirements."""

from __future__ import annotations

from collections.abc import Callable

from cfisac_env import physics
from cfisac_env.config import SystemConfig
from cfisac_env.types import Array, Outcome, Problem


def missed(outcome: Outcome) -> tuple[Array, Array]:
    """Compute Σ_k max(0, 1 − γ_k/γ_thr) and Σ_s max(0, 1 − ν/CRLB_s), each (…,)."""
    return outcome.sinr_violation.sum(-1), outcome.crlb_violation.sum(-1)


def terms(
    outcome: Outcome,
    config: SystemConfig,
    problem: Problem,
    misses: tuple[Array, Array] | None = None,
    switching_w: Array | None = None,
    most_switching_w: float = 0.0,
) -> dict[str, Array]:
    """Compute the terms of the reward, each (…,).

    With the power P, its maximum P_most = M (P_max + P_cir), the switching power W and its maximum W_most (zero without switching costs),
    and the K + S relative violations v, `config.reward` selects:

    - `penalty`: −P − W where every requirement is met, else −(P_most + W_most) (1 + mean v).
    - `log`: −ln((P + W)/P_floor) where every requirement is met, else −ln((P_most + W_most)/P_floor) (1 + mean v), with the drop's floor
      P_floor = n_min P_cir (`physics.fewest_active`).
    - `power`: −P − W.
    - `linear`: −P − W − `sinr_penalty` Σ_k v_k − `crlb_penalty` Σ_s v_s.

    The terms are `power`, `switching` (with switching costs), `sinr` and `crlb`, which increase with the violations, and the fixed penalty
    `infeasible`, which raises the total to P_most + W_most.

    Args:
        misses: `missed(outcome)`, if already computed.
        switching_w: (…,) W.
        most_switching_w: W_most.
    """
    kind, power = config.reward, outcome.total_power
    drawn = power if switching_w is None else power + switching_w
    scale = _logarithm(problem) if kind == "log" else _watts
    result: dict[str, Array] = {"power": -scale(power)}
    if switching_w is not None:
        result["switching"] = scale(power) - scale(drawn)
    if kind == "power":
        return result
    sinr, crlb = missed(outcome) if misses is None else misses
    if kind == "linear":
        return {**result, "sinr": -config.sinr_penalty * sinr, "crlb": -config.crlb_penalty * crlb}
    unmet = ~outcome.feasible
    most = scale(config.M * (config.max_ap_power_w + config.circuit_power_w) + most_switching_w)
    each = most / (outcome.sinr.shape[-1] + outcome.crlb.shape[-1])
    lost = {"infeasible": scale(drawn) - most, "sinr": -each * sinr, "crlb": -each * crlb}
    return result | {name: unmet * value + 0.0 for name, value in lost.items()}  # 0.0 rather than −0.0


def _watts(power_w: Array) -> Array:
    return power_w


def _logarithm(problem: Problem) -> Callable[[Array], Array]:
    """Return the function ln(P/P_floor), zero below the floor."""
    floor_w = physics.fewest_active(problem) * problem.circuit_power_w

    def scaled(power_w: Array) -> Array:
        return physics.namespace(floor_w).log(physics.clip(power_w / floor_w, 1.0))

    return scaled
