"""Power allocation for a fixed set of APs by a fixed number of differentiable steps in closed form.

The optimum of the fixed-set problem (docs/model.md) has the form p_mk = c_k v_mk/w_m²: given the power P_m of every AP and a weight c_k for
every user, AP m gives user k the share x_mk = c_k v_mk/Σ_j c_j v_mj, and a watt there is worth w_m = √(Σ_k c_k v_mk/P_m) in signal. With
λ_k for the SINRs, ζ_s for the CRLBs and the matrices J_s, stationarity says for every AP below its cap

    w_m + Σ_s ζ_s ⟨J_s⁻², Q_ms⟩ = 1 + γ Σ_k λ_k ς_mk,        c_k = (λ_k s_k)²,        s_k = Σ_m √(p_mk v_mk),

so P_m is multiplied by a root of the ratio of both sides, λ_k by a root of γ (I_k + σ²)/s_k² and ζ_s by one of CRLB_s/ν. All of them stay
positive, powers stay within the caps, and every fixed point is optimal. The network supplies the starting point of P, λ and ζ.

The iteration runs on the logarithms of powers, signals and prices, so it states s_k itself; `Drops.margins` scores its results.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.hetgnn.graph import Drops
from cfisac_env import physics

RATE = 0.5
"""Exponent of every multiplicative step."""

DAMPING = 0.5
"""Exponent of the share of a miss that is added to its price at once; without it, prices and powers oscillate."""

MARGIN = 1e-4
"""Relative margin within the requirements at which the steps aim."""

BALANCING, SCALING = 4, 4
"""Final steps at fixed ratios of the AP powers: shares are balanced between the users, then all powers are scaled as well."""

CLIP = 4.0
"""Largest logarithm of a miss that counts in one step."""

LARGEST_CRLB = 1e8
"""CRLB over ν at which sensing prices saturate."""

_OFF = -60.0


def allocate(
    drops: Drops,
    on: Tensor,
    log_power: Tensor,
    log_sinr_price: Tensor,
    log_sensing_price: Tensor,
    steps: int,
) -> Tensor:
    """Iterate towards the cheapest powers that meet the requirements.

    Args:
        drops: B drops, in units of the caps.
        on: (B, M) bool.
        log_power: (B, M) start of log P_m/P_max, at most 0.
        log_sinr_price: (B, K) start of log λ_k Σ_{m on} v_mk.
        log_sensing_price: (B, S) start of log ζ_s/Σ_m P_m.
        steps: number of steps.

    Returns:
        (B, M, K) p_mk/P_max: at least 0, zero where the AP is off, Σ_k p_mk/P_max at most 1.
    """
    gamma, log_v = drops.sinr_threshold[:, None], drops.log_estimate
    target = torch.log(gamma * (1.0 + MARGIN))
    gain, off = torch.exp(drops.log_gain), ~on
    masked_v = log_v.masked_fill(off[..., None], _OFF)
    level = log_power.masked_fill(off, _OFF)
    price = log_sinr_price - torch.logsumexp(masked_v, 1)
    sensing = log_sensing_price + torch.logsumexp(level, 1)[:, None]
    signal = 0.5 * torch.logsumexp(masked_v + level[..., None], 1)
    need = torch.zeros_like(signal)
    for _ in range(steps):
        paid = price + DAMPING * need
        weight = 2.0 * (paid + signal)[:, None] + log_v
        total = torch.logsumexp(weight, -1)
        signal, power, interference = _received(drops, gain, off, weight - total[..., None], level)
        crlb, value = _sensing(power, drops.fisher)
        miss = torch.log(crlb * (1.0 + MARGIN)).clamp(-CLIP, CLIP)
        reward = (value * torch.exp(sensing + DAMPING * miss)[:, None]).sum(-1)
        worth = torch.exp(0.5 * (total - level)) + reward
        cost = 1.0 + gamma * (gain @ torch.exp(paid)[..., None])[..., 0]
        level = (level + (RATE * torch.log(worth / cost)).clamp(-1.0, 1.0)).clamp(max=0.0).masked_fill(off, _OFF)
        need = (target + torch.log1p(interference) - 2.0 * signal).clamp(-CLIP, CLIP)
        price = price + RATE * need
        sensing = sensing + RATE * miss
    return _balanced(drops, gain, off, level, 2.0 * (price + signal))


def _balanced(drops: Drops, gain: Tensor, off: Tensor, level: Tensor, weight: Tensor) -> Tensor:
    """Powers from AP powers (B, M) and weights of the users (B, K), balanced and scaled."""
    log_v = drops.log_estimate
    for step in range(BALANCING + SCALING):
        share = torch.log_softmax(weight[:, None] + log_v, -1)
        signal, power, interference = _received(drops, gain, off, share, level)
        weight = weight - 2.0 * signal + torch.log1p(interference)
        if step >= BALANCING:
            level = (level + _scale(drops, power, signal, interference)[:, None]).clamp(max=0.0).masked_fill(off, _OFF)
    share = torch.log_softmax(weight[:, None] + log_v, -1)
    return torch.exp(share + level[..., None]).masked_fill(off[..., None], 0.0)


def _received(
    drops: Drops, gain: Tensor, off: Tensor, log_share: Tensor, level: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log s_k (B, K), the power of each AP (B, M), and the interference at each user over the noise (B, K)."""
    amplitude = 0.5 * (log_share + level[..., None] + drops.log_estimate)
    power = torch.exp(level).masked_fill(off, 0.0)
    signal = torch.logsumexp(amplitude.masked_fill(off[..., None], _OFF), 1)
    return signal, power, (power[:, None] @ gain)[:, 0]


def _sensing(power: Tensor, fisher: Tensor) -> tuple[Tensor, Tensor]:
    """CRLB_s/ν (B, S), and its decrease per watt of each AP, ⟨J_s⁻², Q_ms⟩ (B, M, S)."""
    information = physics.fisher_matrix(power, fisher)
    crlb = 1.0 / physics.precision(information).clamp(min=1.0 / LARGEST_CRLB)
    trace = (information[..., 0] + information[..., 1]).clamp(min=1.0 / LARGEST_CRLB)
    y, x, z = (information / trace[..., None] * crlb[..., None]).unbind(-1)  # J⁻¹ = [[x, −z], [−z, y]]
    z_square = z * z
    square = torch.stack([x * x + z_square, y * y + z_square, -2.0 * z * (x + y)], -1)
    return crlb, torch.einsum("bsj,bmsj->bms", square, fisher).clamp(min=0.0)


def _scale(drops: Drops, power: Tensor, signal: Tensor, interference: Tensor) -> Tensor:
    """Log of the least factor on all powers that meets the CRLBs and, if power alone can, the SINRs, (B,)."""
    gamma = drops.sinr_threshold[:, None] * (1.0 + MARGIN)
    room = torch.exp(2.0 * signal) - gamma * interference
    users = gamma / torch.maximum(room, gamma * math.exp(-2.0 * CLIP)) * (room > 0.0).all(-1, keepdim=True)
    crlb, _ = _sensing(power, drops.fisher)
    return torch.log(torch.cat([users, crlb * (1.0 + MARGIN)], -1).amax(-1)).clamp(-CLIP, CLIP)
