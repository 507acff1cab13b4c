"""Powers for a set of APs by a fixed number of differentiable steps, each of them in closed form.

The optimum of the fixed-set problem (docs/model.md) has the form p_mk = c_k v_mk/w_m²: given the power P_m of every AP and a weight c_k for
every user, AP m gives user k the share x_mk = c_k v_mk/Σ_j c_j v_mj, and a watt there is worth w_m = √(Σ_k c_k v_mk/P_m) in signal. With
λ_k for the SINRs, ζ_s for the CRLBs and the matrices J_s, stationarity says for every AP below its cap

    w_m + Σ_s ζ_s ⟨J_s⁻², Q_ms⟩ = 1 + γ Σ_k λ_k ς_mk,        c_k = (λ_k s_k)²,        s_k = Σ_m √(p_mk v_mk),

so P_m is multiplied by a root of the ratio of both sides, λ_k by a root of γ (I_k + σ²)/s_k² and ζ_s by one of CRLB_s/ν. All of them stay
positive, powers stay within the caps, and where nothing changes any more the point is optimal. What the network puts in is where
P, λ and ζ start.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from agents.hetgnn.graph import Drops

RATE = 0.5
"""Exponent of every multiplicative step."""

DAMPING = 0.5
"""Exponent of what a miss adds to its price at once, without which prices and powers would circle each other."""

AIM = 1e-4
"""How far (relative) inside the requirements the steps aim."""

BALANCING, SCALING = 4, 4
"""Steps at the end that leave the ratios of the AP powers: shares are balanced between the users, then everything is scaled, too."""

FAR = 1e8
"""Largest CRLB, over what is required, that is told apart from still larger ones."""

_OFF = -60.0


def allocate(
    drops: Drops,
    on: Tensor,
    log_power: Tensor,
    log_sinr_price: Tensor,
    log_sensing_price: Tensor,
    checkpoints: Sequence[int],
) -> Iterator[Tensor]:
    """Powers that meet the requirements as far as some numbers of steps get.

    Args:
        drops: B drops, in units of the caps.
        on: (B, M) bool.
        log_power: (B, M) start of log P_m/P_max, at most 0.
        log_sinr_price: (B, K) start of log λ_k Σ_{m on} v_mk.
        log_sensing_price: (B, S) start of log ζ_s/Σ_m P_m.
        checkpoints: numbers of steps after which to look, ascending.

    Yields:
        (B, M, K) p_mk/P_max for every checkpoint: at least 0, zero where the AP is off, Σ_k p_mk/P_max at most 1.
    """
    gamma, log_v = drops.sinr_threshold[:, None], drops.log_estimate
    gain = torch.exp(drops.log_gain)
    off = ~on
    masked_v = log_v.masked_fill(off[..., None], _OFF)
    level = log_power.masked_fill(off, _OFF)
    price = log_sinr_price - torch.logsumexp(masked_v, 1)
    sensing = log_sensing_price + torch.logsumexp(level, 1)[:, None]
    signal = 0.5 * torch.logsumexp(masked_v + level[..., None], 1)
    need = torch.zeros_like(signal)
    for before, after in itertools.pairwise((0, *checkpoints)):
        for _ in range(before, after):
            paid = price + DAMPING * need
            weight = 2.0 * (paid + signal)[:, None] + log_v
            total = torch.logsumexp(weight, -1)
            signal = _signal(weight - total[..., None], level, log_v, off)
            power = torch.exp(level).masked_fill(off, 0.0)
            interference = (power[:, None] @ gain)[:, 0]
            crlb, value = _sensing(power, drops.fisher)
            miss = torch.log(crlb * (1.0 + AIM)).clamp(-4.0, 4.0)
            reward = (value * torch.exp(sensing + DAMPING * miss)[:, None]).sum(-1)
            worth = torch.exp(0.5 * (total - level)) + reward
            cost = 1.0 + gamma * (gain @ torch.exp(paid)[..., None])[..., 0]
            level = (level + (RATE * torch.log(worth / cost)).clamp(-1.0, 1.0)).clamp(max=0.0).masked_fill(off, _OFF)
            need = (torch.log(gamma * (1.0 + AIM)) + torch.log1p(interference) - 2.0 * signal).clamp(-4.0, 4.0)
            price = price + RATE * need
            sensing = sensing + RATE * miss
        yield _finished(drops, gain, off, level, 2.0 * (price + signal))


def _finished(drops: Drops, gain: Tensor, off: Tensor, level: Tensor, weight: Tensor) -> Tensor:
    """Powers from AP powers (B, M) and weights of the users (B, K), balanced and scaled."""
    log_v = drops.log_estimate
    for step in range(BALANCING + SCALING):
        share = torch.log_softmax(weight[:, None] + log_v, -1)
        signal = _signal(share, level, log_v, off)
        power = torch.exp(level).masked_fill(off, 0.0)
        interference = (power[:, None] @ gain)[:, 0]
        weight = weight - 2.0 * signal + torch.log1p(interference)
        if step >= BALANCING:
            level = (level + _scale(drops, power, signal, interference)[:, None]).clamp(max=0.0).masked_fill(off, _OFF)
    share = torch.log_softmax(weight[:, None] + log_v, -1)
    return torch.exp(share + level[..., None]).masked_fill(off[..., None], 0.0)


def _signal(log_share: Tensor, level: Tensor, log_v: Tensor, off: Tensor) -> Tensor:
    """Log s_k, (B, K)."""
    return torch.logsumexp((0.5 * (log_share + level[..., None] + log_v)).masked_fill(off[..., None], _OFF), 1)


def _sensing(power: Tensor, fisher: Tensor) -> tuple[Tensor, Tensor]:
    """CRLB_s/ν (B, S), and what a watt of each AP takes off it: ⟨J_s⁻², Q_ms⟩ (B, M, S)."""
    a, b, c = torch.einsum("bm,bmsj->bsj", power, fisher).unbind(-1)
    # What has next to no power, or sees the target from one side only, is as bad as FAR at most: its gradients stay finite in float32.
    trace = (a + b).clamp(min=1.0 / FAR)
    a, b, c = a / trace, b / trace, c / trace
    determinant = (a * b - c * c).clamp(min=1e-6 * a * b + 1.0 / FAR)
    crlb = (1.0 / (trace * determinant)).clamp(max=FAR)
    x, y, z = b * crlb, a * crlb, -c * crlb
    square = torch.stack([x * x + z * z, y * y + z * z, 2.0 * z * (x + y)], -1)
    return crlb, torch.einsum("bsj,bmsj->bms", square, fisher).clamp(min=0.0)


def _scale(drops: Drops, power: Tensor, signal: Tensor, interference: Tensor) -> Tensor:
    """Log of the least factor on all powers that meets the CRLBs and, if power alone can, the SINRs, (B,)."""
    gamma = drops.sinr_threshold[:, None] * (1.0 + AIM)
    room = torch.exp(2.0 * signal) - gamma * interference
    users = gamma / room.clamp(min=1e-12) * (room > 0.0).all(-1, keepdim=True)
    crlb, _ = _sensing(power, drops.fisher)
    return torch.log(torch.cat([users, crlb * (1.0 + AIM)], -1).amax(-1)).clamp(-4.0, 4.0)


def sinr(drops: Drops, power: Tensor) -> Tensor:
    """γ_k/γ_thr of powers (B, M, K) in units of P_max, (B, K)."""
    gain, v = torch.exp(drops.log_gain), torch.exp(drops.log_estimate)
    signal = torch.sqrt(power * v + 1e-20).sum(1)
    interference = (power.sum(-1)[:, None] @ gain)[:, 0]
    return signal**2 / (1.0 + interference) / drops.sinr_threshold[:, None]


def crlb(drops: Drops, power: Tensor) -> Tensor:
    """CRLB_s/ν of powers (B, M, K) in units of P_max, (B, S)."""
    return _sensing(power.sum(-1), drops.fisher)[0]
