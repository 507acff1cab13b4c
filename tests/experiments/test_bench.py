"""`cfisac bench`: small runs hold what their tables say, go on where they were, and refuse bad input."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from baselines.allocation import Status, fast
from cfisac_env import SystemConfig, sample
from experiments.bench import agreement, conic, scale
from experiments.cli import main
from experiments.results import Table


@pytest.mark.parametrize("preset", ["paper", "urban"])
def test_the_cone_program_handed_to_clarabel_has_the_optimum_of_the_allocator(preset: str) -> None:
    for seed, S in ((0, 1), (1, 2), (2, 0)):
        problem = sample(SystemConfig(M=8, K=3, S=max(S, 1), preset=preset), np.random.default_rng(seed)).problem
        if S == 0:
            problem = problem.__class__(**{**vars(problem), "fisher": problem.fisher[:, :0]})
        active = np.ones(8, dtype=bool)
        active[seed] = False
        answer, ours = conic.solve(problem, active), fast.solve(problem, active)
        if ours.status == Status.INFEASIBLE:
            assert answer.status == "PrimalInfeasible"
        else:
            assert answer.transmit_power_w == pytest.approx(float(ours.transmit_power), rel=1e-5)
            assert conic.violation(problem, ours.power) <= 1e-7


def test_allocator_bench_stores_the_ratios_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "allocator", "--sizes", "15x3", "--drops", "2", "--sets", "3", "--out", str(tmp_path)]
    assert main(arguments) == 0
    content = json.loads((tmp_path / "allocator.json").read_text())
    assert {"command", "versions", "python", "machine", "threads", "seed"} <= content.keys()
    everyone, search = content["rows"]
    assert (everyone["kind"], everyone["sets"], everyone["active_aps"]) == ("all on", 2, 15.0)
    assert (search["kind"], search["sets"]) == ("search", 6)
    assert everyone["fast_violation"] <= 1e-7
    assert everyone["objective_difference"] <= 1e-5
    page, printed = (tmp_path / "allocator.md").read_text(), capsys.readouterr().out
    assert f"| {everyone['fast_ms']:.3g} |" in page
    assert all(text in printed for text in ("all on (2, ", "search (6, ", f"{everyone['fast_ms']:.3g}"))


def test_agreement_goes_on_where_it_was_and_gives_every_instance_again(tmp_path: Path) -> None:
    first = agreement.run(3, 0, tmp_path)
    stored = (tmp_path / "agreement.jsonl").read_text()
    again = agreement.run(5, 0, tmp_path)
    assert (tmp_path / "agreement.jsonl").read_text().startswith(stored)
    assert [row.fast_status for row in again[:3]] == [row.fast_status for row in first]
    assert [row.seed for row in again] == [0, 1, 2, 3, 4]
    for row in again:
        problem, active, preset = agreement.draw(row.seed)
        assert (row.preset, row.M, row.active_aps) == (preset, problem.M, active.sum())
        assert row.fast_status in (Status.OPTIMAL, Status.INFEASIBLE)
        assert not row.difference > 1e-6
        assert not row.fast_violation > 1e-7
    agreement.result(again, 0).write(tmp_path)
    assert "| all | 5 |" in (tmp_path / "agreement.md").read_text()
    assert len((tmp_path / "agreement.csv").read_text().splitlines()) == 6


def test_selection_bench_measures_each_drop_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seed", "3", "--out", str(tmp_path), "--elimination", "8x2", "--elimination-drops", "1"]
    arguments = ["bench", "selection", *options, "--elimination-solves", "3", "--cases"]
    assert main([*arguments, "urban:10x3:20:2"]) == 0
    before = json.loads((tmp_path / "selection.json").read_text())
    assert main([*arguments, "urban:10x3:20:3"]) == 0
    content = json.loads((tmp_path / "selection.json").read_text())
    assert content["drops"][:2] == before["drops"]
    assert [row["seed"] for row in content["drops"]] == [3, 4, 5]
    for row in content["drops"]:
        if not row["infeasible"]:
            assert row["proven"]
            assert row["lower_bound_w"] <= row["total_w"] <= row["greedy_w"] * (1 + 2e-6)
            assert row["total_w"] <= row["local_w"] * (1 + 2e-6)
    (one,) = content["elimination"]["drops"]
    assert one["solves_of_plain_elimination"] >= 8
    assert one["cvxpy_s"] > one["compiled_s"] > 0.0
    assert "3 of" in capsys.readouterr().out


def test_decisions_bench_holds_the_agent_against_the_rule_on_drops_that_can_be_served(tmp_path: Path) -> None:
    weights = [
        str(Path(str(files("agents.rl") / "weights" / f"{name}.safetensors"))) for name in ("ddpg", "ddpg", "grpo")
    ]
    assert main(["bench", "decisions", "--cases", "paper:10x3:6", "--weights", *weights, "--out", str(tmp_path)]) == 0
    rows = {row["policy"]: row for row in json.loads((tmp_path / "decisions.json").read_text())["rows"]}
    assert 0 < rows["ddpg"]["servable"] < 6  # full-ap is feasible on 118 of 200 drops of this size
    for name, row in rows.items():
        agents = 2 if name.startswith("ddpg") else 1
        assert row["served"] == [row["servable"]] * agents
        assert len(set(row["gap"])) == 1
        assert row["gap"][0] >= 0.0
    assert rows["most-informative"]["gap"][0] >= rows["most-informative-search"]["gap"][0]
    assert min(row["gap"][0] for row in rows.values()) < 1e-9
    assert "100 %" in (tmp_path / "decisions.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["allocator", "--sizes", "30"], "a size is APs x users"),
        (["allocator", "--drops", "0"], "--drops must be 1 or more"),
        (["allocator", "--agreement", "-1"], "--agreement must be 0 or more, got -1"),
        (["allocator", "--agreement", "2", "--preset", "urban"], "leave out preset"),
        (["selection", "--cases", "paper:30x6"], "a case is preset:MxK:seconds:drops"),
        (["decisions", "--cases", "paper:30x6"], "a case is preset:MxK:drops"),
        (["decisions", "--cases", "papre:30x6:1"], "papre"),
        (["selection", "--cases", "papre:30x6:1:1"], "unknown preset 'papre'"),
        (["selection", "--cases", "paper:30x6:0:1"], "all numbers above 0"),
        (["selection", "--elimination-solves", "1"], "--elimination-solves must be 2 or more"),
    ],
)
def test_bad_input_ends_in_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_scale_table_holds_certified_gaps_and_the_memory_of_sets_of_every_size(tmp_path: Path) -> None:
    steps: list[int] = []
    rows = list(scale.measure(("paper", "urban"), [(30, 3), (600, 3)], 1, 1_000_000, lambda: steps.append(1)))
    assert len(steps) == 4
    for row in rows:
        assert row.infeasible == 0
        assert 0.0 <= row.gap <= 1e-6
        assert row.seconds > 0.0
        # Powers alone, and far from a matrix of APs by APs.
        assert 8 * row.M * row.K < 2**20 * row.mebibytes < 8 * row.M**2 + 2**20
    assert "600, 3" in Table(scale.COLUMNS, rows).markdown()
