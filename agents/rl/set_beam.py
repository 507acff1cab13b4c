"""Beam search along an actor's scores: several sets a drop grow side by side, and the cheapest completion of them all is taken."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from agents.rl.set_actor import SLACK, Bools, Score
from baselines.allocation.closed_form import ScaledDrops

REPEATS = 8
"""Candidates looked at for each set that is kept, since a set comes up once for every order of its APs."""


@torch.no_grad()
def beam_search(
    score: Score, scaled: ScaledDrops, fewest: NDArray[np.int64], completions: int, beams: int
) -> tuple[Bools, Bools]:
    """Grow the `beams` likeliest sets of every drop, AP by AP, until closed-form powers serve one.

    From n_min on, every set so far is priced with each of the `completions` APs of its highest scores; the cheapest that serves is the
    answer. With one beam that is `grow` without noise.

    Args:
        score: of every AP (n, M) as the next one, for n of the drops and a set (n, M) of each; logarithms of probability up to a constant.
        scaled: B drops.
        fewest: (B,) n_min.
        completions: APs that are priced as the last one.
        beams: sets of a drop that are kept at each size.

    Returns:
        Sets (B, M), and whether each serves its drop, (B,); empty where none of up to 2 n_min + `SLACK` APs was found.
    """
    M = scaled.gain.shape[1]
    found, served = np.zeros((len(fewest), M), dtype=bool), np.zeros(len(fewest), dtype=bool)
    live, most = np.arange(len(fewest)), np.minimum(M, 2 * fewest + SLACK)
    sets, likelihood = np.zeros((len(live), 1, M), dtype=bool), np.zeros((len(live), 1))
    for size in range(1, M + 1):
        n, width = likelihood.shape
        next_ap = score(torch.from_numpy(np.repeat(live, width)), torch.from_numpy(sets.reshape(-1, M)))
        scores = next_ap.log_softmax(-1).numpy().astype(np.float64).reshape(n, width, M)
        ready = np.flatnonzero(fewest[live] <= size)
        if len(ready) > 0:
            best = np.argsort(-scores[ready], axis=2, kind="stable")[..., : min(completions, M - size + 1)]
            tried = np.repeat(sets[ready][:, :, None], best.shape[2], axis=2)
            np.put_along_axis(tried, best[..., None], True, axis=3)
            tried = tried.reshape(len(ready), -1, M)
            totals = scaled.transmit_power(tried.reshape(-1, M), np.repeat(live[ready], tried.shape[1]))
            totals = totals.reshape(len(ready), -1)
            cheapest = totals.argmin(1)
            good = np.flatnonzero(np.isfinite(totals.min(1)))
            found[live[ready[good]]] = tried[good, cheapest[good]]
            served[live[ready[good]]] = True
        rest = ~served[live] & (most[live] > size)
        live, sets = live[rest], sets[rest]
        if len(live) == 0:
            break
        sets, likelihood = _likeliest(sets, likelihood[rest][..., None] + scores[rest], beams)
    return found, served


def _likeliest(sets: Bools, likelihood: NDArray[np.float64], beams: int) -> tuple[Bools, NDArray[np.float64]]:
    """The likeliest different sets of one AP more.

    Args:
        sets: (n, w, M).
        likelihood: (n, w, M) of each with each AP added.
        beams: sets that are kept.

    Returns:
        (n, beams, M), and their likelihoods; where there are fewer, the likeliest again with the likelihood −∞.
    """
    n, _, M = sets.shape
    key = np.random.default_rng(0).integers(
        2**62, size=M
    )  # sums of keys tell sets apart, whatever the order of their APs
    keys = ((sets @ key)[..., None] + key).reshape(n, -1)
    flat = likelihood.reshape(n, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : REPEATS * beams]
    grown, kept = np.empty((n, beams, M), dtype=bool), np.full((n, beams), -np.inf)
    for i in range(n):
        _, first = np.unique(keys[i, order[i]], return_index=True)
        chosen = order[i, np.sort(first)]
        chosen = chosen[np.isfinite(flat[i, chosen])][:beams]
        one = sets[i, chosen // M]
        one[np.arange(len(chosen)), chosen % M] = True
        grown[i] = one[np.minimum(np.arange(beams), len(chosen) - 1) * (np.arange(beams) < len(chosen))]
        kept[i, : len(chosen)] = flat[i, chosen]
    return grown, kept
