"""`cfisac bench mobile` and `cfisac bench causal` on short episodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cfisac_env.mobility import RandomWaypoint
from experiments import mobile
from experiments.bench import causal, mobile_grid
from experiments.cli import main

FIELDS = {"M": 5, "K": 2, "T": 4, "crlb_threshold_m2": 4.0, "episode_steps": 5}


def _cells(folder: Path, policies: tuple[str, ...], episodes: int = 2) -> list[mobile_grid.Cell]:
    return mobile_grid.play(
        FIELDS, policies, ["predictive:futures=3,speed_scale=2"], episodes, 3, 50, workers=1, folder=folder, step=lambda name: None
    )  # fmt: skip


def test_every_cell_has_the_rows_that_the_comparison_of_policies_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mobile_grid, "SWITCHING_J", (2.0, 8.0))
    monkeypatch.setattr(mobile_grid, "WAKE_UP_STEPS", (0, 2))
    names = ("random", "hysteresis", "clairvoyant")
    cells = _cells(tmp_path, names)
    assert [cell.name for cell in cells] == ["2 J, 0 steps", "2 J, 2 steps", "8 J, 0 steps", "8 J, 2 steps"]
    headline = [(cell.rows[0].switching_energy_j, cell.rows[0].wake_up_steps) in mobile_grid.HEADLINE for cell in cells]
    for cell, more in zip(cells, headline, strict=True):
        assert [row.policy for row in cell.rows[:3]] == list(names)
        assert len(cell.rows) == 3 + more
        assert {row.episodes for row in cell.rows} == {3 if more else 2}
        assert all(row.step_ms > 0.0 for row in cell.rows)
    settings = FIELDS | {"switching_energy_j": 8.0, "wake_up_steps": 2}
    alone = mobile.summarise(mobile.run(settings, ["hysteresis"], 2, 50, folder=tmp_path / "alone"))[0]
    row = cells[3].rows[1]
    assert (row.energy_j, row.served, row.switching_j) == (alone.energy_j, alone.served, alone.switching_j)

    mobile_grid.result(cells).write(tmp_path)
    page, stored = (tmp_path / "grid.md").read_text(), json.loads((tmp_path / "grid.json").read_text())
    assert len(stored["rows"]) == 4 * 3 + 2
    assert stored["seeds"]["8 J, 0 steps"] == cells[2].comparison.seeds
    assert f"{row.energy_j.value:.1f}" in page.splitlines()[5]
    assert page.count("## ") == 4

    monkeypatch.setattr(mobile, "_play", lambda task: pytest.fail(f"{task} was played again"))
    assert [cell.name for cell in _cells(tmp_path, names, 0)] == ["2 J, 2 steps", "8 J, 0 steps"]
    again = _cells(tmp_path, names)
    assert [cell.rows for cell in again] == [cell.rows for cell in cells]


def test_an_unknown_policy_or_engine_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("histeresis", "hysteresis:engine=histeresis"):
        assert main(["bench", "mobile", "--policies", name]) == 2
        assert "unknown policy 'histeresis' (did you mean 'hysteresis'?)" in " ".join(capsys.readouterr().err.split())


def test_the_bound_on_causal_policies_stands_beside_their_energies(tmp_path: Path) -> None:
    fields = FIELDS | {"switching_energy_j": 2.0, "preset": "urban"}
    result = causal.run(
        fields, ["hysteresis", "strongest-ap"], 3, 50, futures=3, samples=2, scale=0.8, step=lambda: None
    )  # fmt: skip
    result.write(tmp_path)
    stored = json.loads((tmp_path / "causal.json").read_text())
    rows = {row["name"]: row for row in stored["rows"]}
    assert list(rows) == ["clairvoyant", "bound on causal policies", "hysteresis", "strongest-ap"]
    one = stored["policies"]["hysteresis"]
    assert rows["hysteresis"]["energy_j"]["value"] == pytest.approx(sum(one["energy_j"]) / 3)
    for energy_j, penalty_j, bound_j, least_j, served in zip(
        one["energy_j"], one["penalties_j"], stored["bound_j"], stored["clairvoyant_j"], one["served"], strict=True
    ):
        assert served == 1.0
        assert least_j <= energy_j * (1.0 + 1e-6)
        assert bound_j <= (energy_j + penalty_j) * (1.0 + 1e-6)
    assert "| bound on causal policies |" in (tmp_path / "causal.md").read_text()


def test_a_motion_whose_law_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="knows the law of SmoothTurns, got RandomWaypoint"):
        causal.run(
            FIELDS | {"target_motion": RandomWaypoint()}, [], 1, 50, futures=1, samples=1, scale=1.0, step=lambda: None
        )  # fmt: skip
