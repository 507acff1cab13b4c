"""A study at sizes that take no time."""

from __future__ import annotations

import pytest

from experiments.reproduction import points, printed
from experiments.reproduction.points import Point


@pytest.fixture
def small_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The points of the paper, made small."""
    monkeypatch.setattr(points, "TABLE", (Point("paper", 8, 2), Point("paper", 8, 3)))
    monkeypatch.setattr(points, "SCALING", (Point("paper", 8, 2), Point("paper", 12, 2)))
    monkeypatch.setattr(points, "USERS", (2, 3))
    monkeypatch.setattr(points, "APS_OF_USERS", 8)
    monkeypatch.setattr(points, "APS", (5, 8))
    monkeypatch.setattr(points, "USERS_OF_APS", 2)
    monkeypatch.setattr(points, "FAMILIES", ("paper", "urban"))
    cells = printed.TABLE_II[30, 6]
    monkeypatch.setattr(printed, "TABLE_II", {(8, 2): cells, (8, 3): cells})
