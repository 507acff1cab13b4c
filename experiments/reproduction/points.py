"""Points of the paper's table and figures, and of the same figures on other presets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cfisac_env import PRESETS, SystemConfig


@dataclass(frozen=True, order=True)
class Point:
    """Preset, number of APs and number of users at which policies are compared."""

    preset: str
    M: int
    K: int

    @property
    def key(self) -> str:
        """Name in files."""
        return f"{self.preset}-M{self.M}-K{self.K}"

    @property
    def config(self) -> SystemConfig:
        """Its configuration."""
        return SystemConfig(M=self.M, K=self.K, preset=self.preset)


FAMILIES = tuple(PRESETS)
"""Presets in the figures."""

USERS = (5, 10, 15, 20)
"""K of Fig. 3 and 4, at M = `APS_OF_USERS`."""

APS_OF_USERS = 50

APS = (20, 30, 50, 80)
"""M of the same figures, at K = `USERS_OF_APS`."""

USERS_OF_APS = 10

SCALING_APS = (50, 100, 200, 500, 1000)
"""M of the time a decision, at K = `USERS_OF_APS`."""

TABLE: tuple[Point, ...] = tuple(Point("paper", M, K) for M, K in ((30, 6), (30, 10), (50, 10), (50, 20)))
SCALING: tuple[Point, ...] = tuple(Point("paper", M, USERS_OF_APS) for M in SCALING_APS)


def axes(along: Sequence[Point]) -> tuple[str, str]:
    """Return the field that a sweep varies, and the one that it fixes: "M" and "K"."""
    return ("K", "M") if along[0].M == along[-1].M else ("M", "K")


def over_users(preset: str) -> tuple[Point, ...]:
    """Return the sweep over K at M = `APS_OF_USERS`."""
    return tuple(Point(preset, APS_OF_USERS, K) for K in USERS)


def over_aps(preset: str) -> tuple[Point, ...]:
    """Return the sweep over M at K = `USERS_OF_APS`."""
    return tuple(Point(preset, M, USERS_OF_APS) for M in APS)


def sweeps() -> tuple[tuple[Point, ...], ...]:
    """Return all sweeps of the figures: over users and over APs, preset by preset."""
    return tuple(along for preset in FAMILIES for along in (over_users(preset), over_aps(preset)))


def of(targets: Iterable[str]) -> tuple[Point, ...]:
    """Return the points that `table2`, `fig3` and `fig4` need, the paper's preset first, each once."""
    curves = tuple(point for along in sweeps() for point in along)
    needed: Mapping[str, tuple[Point, ...]] = {"table2": TABLE, "fig3": curves, "fig4": curves}
    return tuple(dict.fromkeys(point for target in targets for point in needed[target]))
