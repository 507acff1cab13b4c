"""Numbers that the paper prints in Table II and states in its text: copied, never computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PrintedCell:
    """One method at one size in Table II."""

    total_power_w: float
    percent_of_decoupled: float
    seconds: float


TABLE_II: Mapping[tuple[int, int], Mapping[str, PrintedCell]] = {
    (30, 6): {
        "hetgnn-paper": PrintedCell(4.04, 73.46, 0.08),
        "ddpg-paper": PrintedCell(4.13, 75.14, 0.07),
        "modified-bb-paper": PrintedCell(4.34, 78.92, 87.10),
        "decoupled": PrintedCell(5.50, 100.0, 61.97),
    },
    (30, 10): {
        "hetgnn-paper": PrintedCell(5.92, 74.62, 0.08),
        "ddpg-paper": PrintedCell(6.22, 78.37, 0.07),
        "modified-bb-paper": PrintedCell(6.30, 79.45, 187.05),
        "decoupled": PrintedCell(7.93, 100.0, 131.04),
    },
    (50, 10): {
        "hetgnn-paper": PrintedCell(6.64, 74.77, 0.08),
        "ddpg-paper": PrintedCell(6.80, 76.50, 0.09),
        "modified-bb-paper": PrintedCell(7.16, 80.55, 931.95),
        "decoupled": PrintedCell(8.88, 100.0, 744.79),
    },
    (50, 20): {
        "hetgnn-paper": PrintedCell(8.31, 73.93, 0.12),
        "ddpg-paper": PrintedCell(8.69, 77.31, 0.14),
        "modified-bb-paper": PrintedCell(8.92, 79.32, 6035.32),
        "decoupled": PrintedCell(11.24, 100.0, 2904.19),
    },
}
"""By (M, K) and policy."""


def cells() -> list[dict[str, Any]]:
    """Return Table II, one mapping a cell."""
    return [
        {"M": M, "K": K, "policy": name, **asdict(cell)}
        for (M, K), row in TABLE_II.items()
        for name, cell in row.items()
    ]


ACTIVE_APS_AT_20_USERS: Mapping[str, int] = {
    "hetgnn-paper": 16,
    "ddpg-paper": 29,
    "modified-bb-paper": 32,
    "decoupled": 42,
}
"""Fig. 4 at M = 50, K = 20, as section IV states it."""

POWER_AT_10_USERS_W: Mapping[str, float] = {"hetgnn-paper": 3.0, "modified-bb-paper": 3.8}
"""Fig. 3 at M = 50, K = 10, as section IV states it."""

MAX_AP_POWER_W, CIRCUIT_POWER_W = 0.1, 0.2
"""Table I: ρ_DL, which by (8b) bounds what an AP radiates, and P_cir."""
