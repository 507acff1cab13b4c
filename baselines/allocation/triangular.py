"""Compiled, blocked dense linear algebra of the interior point: Gram matrices, Cholesky factors and their inverses."""

from __future__ import annotations

import numpy as np

from baselines.allocation.result import Float
from cfisac_env.jit import compiled

PIVOT = 1e-13  # smallest pivot of a factorisation, relative to its diagonal
PANEL = 8  # columns per block


@compiled()
def add_gram(T: Float, X: Float) -> None:
    """Add XᵀX to the lower triangle of T, in blocks of two rows of T and four of X."""
    rows, m = X.shape
    whole, even = rows - rows % 4, m - m % 2
    for k in range(0, whole, 4):
        for i in range(0, even, 2):
            a0, a1, a2, a3 = X[k, i], X[k + 1, i], X[k + 2, i], X[k + 3, i]
            b0, b1, b2, b3 = X[k, i + 1], X[k + 1, i + 1], X[k + 2, i + 1], X[k + 3, i + 1]
            for j in range(i + 1):
                x0, x1, x2, x3 = X[k, j], X[k + 1, j], X[k + 2, j], X[k + 3, j]
                T[i, j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                T[i + 1, j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
            T[i + 1, i + 1] += b0 * b0 + b1 * b1 + b2 * b2 + b3 * b3
        for i in range(even, m):
            a0, a1, a2, a3 = X[k, i], X[k + 1, i], X[k + 2, i], X[k + 3, i]
            for j in range(i + 1):
                T[i, j] += a0 * X[k, j] + a1 * X[k + 1, j] + a2 * X[k + 2, j] + a3 * X[k + 3, j]
    for k in range(whole, rows):
        for i in range(m):
            a0 = X[k, i]
            for j in range(i + 1):
                T[i, j] += a0 * X[k, j]


@compiled()
def cholesky(T: Float, panel: Float) -> None:
    """Compute the lower Cholesky factor in place, `PANEL` columns at a time, with pivots of at least `PIVOT` of the diagonal.

    Args:
        T: (m, m), of which only the lower triangle is used.
        panel: (PANEL + 1, m) scratch.
    """
    m = T.shape[0]
    for i in range(m):
        panel[PANEL, i] = T[i, i]
    for k in range(0, m, PANEL):
        stop = min(k + PANEL, m)
        # Transposed for contiguous access.
        for i in range(k, m):
            for c in range(min(i + 1, stop) - k):
                panel[c, i] = T[i, k + c]
        for c in range(stop - k):
            for b in range(c):
                factor = panel[b, k + c]
                for i in range(k + c, m):
                    panel[c, i] -= factor * panel[b, i]
            pivot = np.sqrt(max(panel[c, k + c], PIVOT * panel[PANEL, k + c]))
            inverse = 1.0 / pivot
            panel[c, k + c] = pivot
            for i in range(k + c + 1, m):
                panel[c, i] *= inverse
        for i in range(k, m):
            for c in range(min(i + 1, stop) - k):
                T[i, k + c] = panel[c, i]
        for i in range(stop, m):
            a0, a1, a2, a3 = panel[0, i], panel[1, i], panel[2, i], panel[3, i]
            a4, a5, a6, a7 = panel[4, i], panel[5, i], panel[6, i], panel[7, i]
            for j in range(stop, i + 1):
                T[i, j] -= (
                    a0 * panel[0, j] + a1 * panel[1, j] + a2 * panel[2, j] + a3 * panel[3, j]
                    + a4 * panel[4, j] + a5 * panel[5, j] + a6 * panel[6, j] + a7 * panel[7, j]
                )  # fmt: skip


@compiled()
def invert(L: Float, rows: Float, G: Float) -> None:
    """Write L⁻¹ into the first m rows of `rows`, and replace G (m, K) by L⁻¹G."""
    m, K = G.shape
    for i in range(m):
        for j in range(m):
            rows[i, j] = 0.0
        rows[i, i] = 1.0
    for k in range(0, m, PANEL):
        stop = min(k + PANEL, m)
        for i in range(k, stop):
            for b in range(k, i):
                factor = L[i, b]
                for j in range(b + 1):
                    rows[i, j] -= factor * rows[b, j]
                for j in range(K):
                    G[i, j] -= factor * G[b, j]
            factor = 1.0 / L[i, i]
            for j in range(i + 1):
                rows[i, j] *= factor
            for j in range(K):
                G[i, j] *= factor
        for i in range(stop, m):
            _eliminate(L, i, k, rows, stop)
            _eliminate(L, i, k, G, K)


@compiled()
def _eliminate(L: Float, i: int, k: int, X: Float, width: int) -> None:
    """Subtract L[i, k : k + PANEL] X[k : k + PANEL] from row i of X, in the first `width` columns."""
    a0, a1, a2, a3 = L[i, k], L[i, k + 1], L[i, k + 2], L[i, k + 3]
    a4, a5, a6, a7 = L[i, k + 4], L[i, k + 5], L[i, k + 6], L[i, k + 7]
    for j in range(width):
        X[i, j] -= (
            a0 * X[k, j] + a1 * X[k + 1, j] + a2 * X[k + 2, j] + a3 * X[k + 3, j]
            + a4 * X[k + 4, j] + a5 * X[k + 5, j] + a6 * X[k + 6, j] + a7 * X[k + 7, j]
        )  # fmt: skip


@compiled()
def copy(source: Float, target: Float) -> None:
    """Copy a vector; numba's array assignment takes seconds to compile, because of its error messages."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@compiled()
def forward(L: Float, x: Float) -> None:
    """Replace x by L⁻¹ x."""
    for i in range(x.shape[0]):
        total = 0.0
        for j in range(i):
            total += L[i, j] * x[j]
        x[i] = (x[i] - total) / L[i, i]


@compiled()
def backward(L: Float, x: Float) -> None:
    """Replace x by L⁻ᵀ x."""
    for i in range(x.shape[0] - 1, -1, -1):
        x[i] /= L[i, i]
        for j in range(i):
            x[j] -= L[i, j] * x[i]


@compiled()
def subtract_product(rows: Float, G: Float, thin: Float) -> None:
    """Subtract G·thin from the first m rows, four columns of G at a time."""
    m, K = G.shape
    whole = K - K % 4
    for i in range(m):
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = G[i, k], G[i, k + 1], G[i, k + 2], G[i, k + 3]
            for j in range(m):
                rows[i, j] -= a0 * thin[k, j] + a1 * thin[k + 1, j] + a2 * thin[k + 2, j] + a3 * thin[k + 3, j]
        for k in range(whole, K):
            a0 = G[i, k]
            for j in range(m):
                rows[i, j] -= a0 * thin[k, j]
