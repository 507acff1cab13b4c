"""Tables say the same in Markdown, CSV and a terminal of any width; the files of a result appear together or not at all."""

from __future__ import annotations

import csv
import dataclasses
import importlib.machinery
import io
import json
import math
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

import baselines
from cfisac_env import SystemConfig
from experiments import compare, curves, evaluation, mobile, outputs, presets, results
from experiments.bench import ablation, agreement, allocator, scale, selection
from experiments.reproduction import errata, tables
from experiments.results import Column, Table, number, percent, span
from experiments.statistics import Interval

EVERY: dict[str, Sequence[Column[Any]]] = {
    "compare": outputs.COLUMNS,
    "evaluate": evaluation.COLUMNS,
    "mobile": mobile.COLUMNS,
    "curves": curves.TABLE,
    "ablate hetgnn": ablation.COLUMNS,
    "presets": presets.COLUMNS,
    "bench allocator": allocator.COLUMNS,
    "bench agreement": agreement.COLUMNS,
    "bench scale": scale.COLUMNS,
    "bench selection": selection.COLUMNS,
    "reproduce errata": errata.table([]).columns,
    "reproduce table2": tables.PRINTED_COLUMNS,
    "reproduce a point": tables.COLUMNS,
}


@dataclass(frozen=True)
class Line:
    """A row."""

    name: str
    power: Interval
    gap: float


LINES = [Line("a", Interval(1.0, 0.5, 1.5), 0.25), Line("b|c", Interval(2.0, math.nan, math.nan), math.nan)]
TABLE = Table(
    (
        Column("policy", lambda line: line.name, code=True),
        Column("W", lambda line: number(line.power.value)),
        Column("interval", lambda line: span(line.power), "one value", rank=2),
        Column("gap", lambda line: percent(line.gap), "never feasible", rank=1),
    ),
    LINES,
    "a title",
    "some notes",
)


def _printed(table: Table[Any], width: int, where: str = "all.md") -> list[str]:
    text = io.StringIO()
    table.show(Console(file=text, width=width), where)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 140, 200])
@pytest.mark.parametrize("name", EVERY)
def test_every_table_fits_every_terminal_and_names_what_it_leaves_out(name: str, width: int) -> None:
    columns: list[Column[Any]] = [
        Column(one.heading, lambda row: "123.456", one.missing, one.rank, one.left, one.code) for one in EVERY[name]
    ]
    lines = _printed(Table(columns, [0, 1]), width)
    assert all(len(line) <= width for line in lines)
    text = " ".join(lines).replace("┃", " ")
    whole = " ".join(text.split())
    shown, _, left_out = whole.partition("too narrow for")
    assert columns[0].heading in shown or width < 60
    for one in columns[1:]:
        assert (one.heading in shown) or (one.heading in left_out), one.heading
    assert not left_out or left_out.endswith("see all.md")


def test_a_dash_has_its_reason_below_the_table() -> None:
    assert TABLE.markdown() == (
        "| policy | W | interval | gap |\n|---|---:|---:|---:|\n| `a` | 1.000 | [0.50, 1.50] | 25.00% |\n| `b\\|c` | 2.000 | – | – |\n\n"
        "– under interval: one value; – under gap: never feasible.\n"
    )
    text = "\n".join(_printed(TABLE, 80))
    assert all(
        part in text for part in ("a title", "some notes", "– under interval: one value; – under gap: never feasible")
    )
    narrow = "\n".join(_printed(TABLE, 24))
    assert "too narrow for interval" in narrow
    assert "0.50" not in narrow


def test_every_column_that_can_lack_a_value_says_why() -> None:
    """A column is asked about rows of nothing but NaN; where it then has no value, its reason must be its own."""
    nothing = Interval(math.nan, math.nan, math.nan)
    values = {"Interval": nothing, "float": math.nan, "str": "a"}
    rows = {
        name: cast(Any, kind)(**{field.name: values[str(field.type)] for field in dataclasses.fields(kind)})
        for name, kind in (("compare", compare.PolicySummary), ("mobile", mobile.MobileSummary))
    }
    for name, row in rows.items():
        for column in EVERY[name]:
            cell = column.cell(row)
            assert cell in (None, "a"), (name, column.heading)
            assert cell or column.missing != "no value", (name, column.heading)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0.00%"), (0.0012, "0.12%"), (0.3185, "31.85%"), (1.0, "100%"), (1.72, "172%"), (88.0, "8,800%"), (math.inf, "∞"),
     (math.nan, None)],
)  # fmt: skip
def test_gaps_are_percentages_of_every_size(share: float, shown: str | None) -> None:
    assert percent(share) == shown


def test_what_is_not_finite_is_empty_in_csv_and_null_in_json() -> None:
    rows = [results.flat(line) for line in LINES]
    read = list(csv.DictReader(io.StringIO(results.csv_text(rows))))
    assert list(read[0]) == ["name", "power", "power_low", "power_high", "gap"]
    assert read[1] == {"name": "b|c", "power": "2.0", "power_low": "", "power_high": "", "gap": ""}
    content = json.loads(results.json_text({"rows": LINES, "array": np.array([1.0, np.inf]), "path": Path("a")}))
    assert content == {
        "rows": [
            {"name": "a", "power": {"value": 1.0, "low": 0.5, "high": 1.5}, "gap": 0.25},
            {"name": "b|c", "power": {"value": 2.0, "low": None, "high": None}, "gap": None},
        ],
        "array": [1.0, None],
        "path": "a",
    }


def test_files_of_a_result_appear_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"a.md": "new", "a.png": Figure(), "a.json": {"new": 1}}
    for name in contents:
        (tmp_path / name).write_text("old")
    original = os.fsync
    calls: list[int] = []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        original(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '"):
        results.write(tmp_path, contents)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(contents, "old")
    written = results.write(tmp_path, contents)
    assert sorted(path.name for path in written) == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert {"command", "versions", "python", "machine", "new"} == json.loads((tmp_path / "a.json").read_text()).keys()


@pytest.mark.parametrize("name", ["$\\frac{", "$", "a$b$", "{{script}}", "<!--<script>", "_hidden", "%s", "µ∞ 全"])
def test_a_policy_of_any_name_can_be_drawn_and_tabled(name: str, tmp_path: Path) -> None:
    policy = baselines.make("full-ap")
    policy.name = name
    made = compare.run(SystemConfig(M=10, K=2), [policy], 2, seed=0)
    rows = compare.summarise(made)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a font need not have every character
        written = outputs.result(made, rows).write(tmp_path)
    assert len(written) == 4
    assert f"`{name}`" in (tmp_path / "compare.md").read_text()
    assert next(csv.DictReader(io.StringIO((tmp_path / "compare.csv").read_text())))["policy"] == name


def test_an_evaluation_keeps_every_bound_that_a_policy_proves(tmp_path: Path) -> None:
    config, names = SystemConfig(M=10, K=3, preset="urban"), ["full-ap", "branch-and-bound"]
    whole = compare.run(config, compare.build(names, config), 3, seed=0)
    entries = evaluation.run(config, names, 3, 0, tmp_path, lambda name: None)
    evaluated, rows = entries[0][0], [row for _, row in entries]
    np.testing.assert_array_equal(evaluated.infeasible, whole.infeasible)
    np.testing.assert_allclose(evaluated.lower_bound_w, whole.lower_bound_w, rtol=1e-9)
    assert rows[1].certified_gap < 1e-4


def test_two_processes_evaluate_like_one(tmp_path: Path) -> None:
    config, names = SystemConfig(M=10, K=3), ["full-ap", "hetgnn"]
    one, two = (
        evaluation.run(config, names, 3, 0, tmp_path / str(n), lambda name: None, workers=n)[0][0] for n in (1, 2)
    )
    np.testing.assert_array_equal(one.infeasible, two.infeasible)
    for name in names:
        np.testing.assert_allclose(one.policies[name].total_power_w, two.policies[name].total_power_w, rtol=1e-9)
    before = (tmp_path / "2" / "decisions.jsonl").read_text()
    evaluation.run(config, names, 3, 0, tmp_path / "2", lambda name: None, workers=2)
    assert (tmp_path / "2" / "decisions.jsonl").read_text() == before


def test_a_killed_ray_worker_loses_no_drop_of_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    killed, on_drop = tmp_path / "killed", compare._on_drop

    def dying(config: SystemConfig, given: Any, task: Any) -> Any:
        if task[0] == 2 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return on_drop(config, given, task)

    config = SystemConfig(M=10, K=3)
    here = evaluation.run(config, ["full-ap"], 4, 0, tmp_path / "here", lambda name: None)[0][0]
    monkeypatch.setattr(compare, "_on_drop", dying)
    there = evaluation.run(config, ["full-ap"], 4, 0, tmp_path / "ray", lambda name: None, workers=2, ray="local")[0][0]
    assert killed.exists()
    np.testing.assert_array_equal(here.infeasible, there.infeasible)
    np.testing.assert_allclose(
        here.policies["full-ap"].total_power_w, there.policies["full-ap"].total_power_w, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("experiments.bench.tracks", "python -m experiments.bench.tracks"),
        ("experiments.cli", "cfisac"),
        (None, "cfisac"),
    ],
)
def test_a_result_says_how_to_make_it_again(module: str | None, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = None if module is None else importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["file.py", "--preset", "urban"])
    assert results.provenance()["command"] == f"{program} --preset urban"
