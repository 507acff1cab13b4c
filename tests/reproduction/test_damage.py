"""Stored results that are damaged, doubled or contradict themselves are refused by file, line and reason; reading changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

import cfisac_env
from cfisac_env import SystemConfig
from experiments import evaluation, journal, results, schemas
from experiments.bench import agreement, selection
from experiments.cli import main
from experiments.reproduction import decisions
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.reproduction.timing import TimingStore

POINT = Point("paper", 8, 2)
NAMES = ("full-ap", "local-search")

Lines = list[Any]


@pytest.fixture(scope="module")
def solved() -> Lines:
    """Three drops, of which one is certified infeasible, as the store takes them."""
    lines = [decisions.solve(decisions.Task(POINT, seed, NAMES, 1.0, certificate=True)) for seed in range(8)]
    served = [line for line in lines if not line["infeasible"]][:2]
    lost = [line for line in lines if line["infeasible"]][:1]
    assert (len(served), len(lost)) == (2, 1)
    return [*served, *lost]


@pytest.fixture
def path(solved: Lines, tmp_path: Path) -> Path:
    """A whole store of them."""
    store = PointStore(tmp_path, POINT, 10.0)
    for line in solved:
        store.append(line)
    assert len(PointStore(tmp_path, POINT, 10.0).drops) == 3
    return store.path


def _record(change: Callable[[dict[str, Any]], Any]) -> Callable[[Lines], Any]:
    """Damage to the first decision of the first drop."""
    return lambda lines: change(lines[1]["decisions"]["full-ap"])


def _put(key: str, value: Any) -> Callable[[Lines], Any]:
    return _record(lambda record: record.__setitem__(key, value))


DAMAGE: dict[str, tuple[Callable[[Lines], Any], str]] = {
    "no total": (_record(lambda r: r.pop("total_power_w")), "'total_power_w' is a required property"),
    "no seconds": (_record(lambda r: r.pop("seconds")), "'seconds' is a required property"),
    "total is null": (_put("total_power_w", None), "None is not of type 'number'"),
    "total is text": (_put("total_power_w", "1.8"), "'1.8' is not of type 'number'"),
    "total is NaN": (_put("total_power_w", float("nan")), "NaN is not a number"),
    "total is infinite": (_put("total_power_w", float("inf")), "Infinity is not a number"),
    "total is negative": (_put("total_power_w", -1.0), "-1.0 is less than the minimum"),
    "total is absurd": (_put("total_power_w", 1e30), r"1e\+30 is greater than the maximum"),
    "total isn't the sum": (_put("total_power_w", 2.5), "total_power_w says 2.5"),
    "transmit isn't the APs'": (_put("transmit_power_w", 0.9), "transmit_power_w says 0.9"),
    "feasible is a number": (_put("feasible", 1), "1 is not of type 'boolean'"),
    "feasible with a violation": (_put("violation", 0.5), "feasible is True with a violation of 0.5"),
    "infeasible without a violation": (_put("feasible", False), "feasible is False with a violation of"),
    "violation is negative": (_put("violation", -0.1), "-0.1 is less than the minimum"),
    "seconds are negative": (_put("seconds", -1), "-1 is less than the minimum"),
    "active is a mask of halves": (_put("active", [0.3] * 8), "active must name APs"),
    "an AP twice": (_record(lambda r: r["active"].__setitem__(1, r["active"][0])), "active must name APs"),
    "an AP that isn't there": (_record(lambda r: r["active"].__setitem__(-1, 8)), "active must name APs from 0 to 7"),
    "a negative AP": (_record(lambda r: r["active"].__setitem__(0, -1)), "active must name APs"),
    "APs out of order": (_record(lambda r: r["active"].reverse()), "in increasing order"),
    "active is text": (_put("active", ["zero"]), "must hold numbers"),
    "active is nested": (_put("active", [[0], [1]]), "active must hold"),
    "a power too few": (_record(lambda r: r["ap_power_w"].pop()), "active must hold 7 numbers, got 8"),
    "a power beyond the cap": (_record(lambda r: r["ap_power_w"].__setitem__(0, 5.0)), "an AP radiates from 0 to 0.1 W"),
    "a negative power": (_record(lambda r: r["ap_power_w"].__setitem__(0, -0.01)), "an AP radiates from 0 to 0.1 W"),
    "a power is null": (_record(lambda r: r["ap_power_w"].__setitem__(0, None)), "an AP radiates|must hold numbers"),
    "an SINR too few": (_record(lambda r: r["sinr_db"].pop()), "sinr_db must hold 2 numbers, got 1"),
    "an SINR is null": (_record(lambda r: r["sinr_db"].__setitem__(0, None)), "SINRs are finite|must hold numbers"),
    "no CRLB": (_put("crlb_m2", []), "crlb_m2 must hold 1 numbers, got 0"),
    "a negative CRLB": (_put("crlb_m2", [-21.9]), "CRLBs positive"),
    "a field more": (_put("power", 1.0), "'power' was unexpected"),
    "a bound above the power": (_put("lower_bound_w", 3.0), "below the certified bound of 3.0 W"),
    "a drop's bound above its powers": (lambda s: s[1].__setitem__("lower_bound_w", 50.0), "below the certified bound"),
    "a bound is null": (lambda s: s[1].__setitem__("lower_bound_w", None), "exactly if it isn't certified infeasible"),
    "an infeasible drop with a bound": (lambda s: s[3].__setitem__("lower_bound_w", 1.0), "exactly if it isn't"),
    "an infeasible drop with decisions": (
        lambda s: s[3].__setitem__("decisions", s[1]["decisions"]), "a drop certified infeasible has decisions",
    ),
    "decisions after infeasibility": (
        lambda s: s.append({"seed": s[3]["seed"], "decisions": s[1]["decisions"]}), "is certified infeasible and has decisions",
    ),
    "no word on infeasibility": (lambda s: [s[1].pop(k) for k in ("infeasible", "lower_bound_w")], "without a line on its feasibility"),
    "seed is text": (lambda s: s[1].__setitem__("seed", "5"), "'5' is not of type 'integer'"),
    "seed is negative": (lambda s: s[1].__setitem__("seed", -5), "-5 is less than the minimum"),
    "seed is a truth value": (lambda s: s[1].__setitem__("seed", True), "True is not of type 'integer'"),
    "no seed": (lambda s: s[1].pop("seed"), "'seed' is a required property"),
    "a drop twice": (lambda s: s.append(s[1]), "has the certificate, full-ap, local-search of seed"),
    "a policy twice": (
        lambda s: s.append({"seed": s[1]["seed"], "decisions": {"full-ap": s[1]["decisions"]["full-ap"]}}), "has the full-ap of seed",
    ),
    "a contradiction": (lambda s: s.append({**s[1], "infeasible": True, "lower_bound_w": None, "decisions": {}}), "certificate"),
    "decisions are a list": (lambda s: s[1].__setitem__("decisions", []), "is not of type 'object'"),
    "a decision is null": (lambda s: s[1]["decisions"].__setitem__("full-ap", None), "None is not of type 'object'"),
    "a line is a number": (lambda s: s.__setitem__(1, 7), "7 is not of type 'object'"),
    "a line is a list": (lambda s: s.__setitem__(1, [1, 2]), "is not of type 'object'"),
    "the header is missing": (lambda s: s.pop(0), "it isn't a store of decisions"),
    "the header is a list": (lambda s: s.__setitem__(0, []), "it isn't a store of decisions"),
    "the header has no configuration": (lambda s: s[0].pop("config"), "it isn't a store of decisions"),
    "another version": (lambda s: s[0].__setitem__("cfisac", "9.9"), "was made with cfisac = 9.9"),
    "another format": (lambda s: s[0].__setitem__("format", 2), "was made with format = 2"),
    "another configuration": (lambda s: s[0]["config"].__setitem__("K", 3), re.escape("was made with config = {'K': 3}")),
    "another time limit": (lambda s: s[0].__setitem__("time_limit_s", 3.0), "was made with time_limit_s = 3.0"),
    "a time limit of nothing": (lambda s: s[0].__setitem__("time_limit_s", 0), "it isn't a store of decisions"),
}  # fmt: skip

BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an empty file": (lambda b: b"", "it isn't a store of decisions"),
    "not text": (lambda b: b"\xff\xfe" + b, "isn't UTF-8 text"),
    "not JSON": (lambda b: b"hello\n" + b, "it isn't a store of decisions"),
    "a torn line in the middle": (lambda b: b[: len(b) // 2] + b"\n" + b[len(b) // 2 :], "is damaged"),
    "an empty line": (lambda b: b.replace(b"\n", b"\n\n", 1), "line 2, is damaged"),
    "zeros": (lambda b: b[: len(b) // 2] + bytes(300) + b"\n", "is damaged"),
    "two lines in one": (
        lambda b: b"".join(b.splitlines(keepends=True)[:2]) + b.splitlines()[2] * 2 + b"\n",
        "is damaged",
    ),
    "a line of brackets": (lambda b: b + b"[" * 100_000 + b"\n", "is damaged"),
    "a number of 10,000 digits": (lambda b: b + b'{"seed":' + b"9" * 10_000 + b',"decisions":{}}\n', "is damaged"),
}


def _refused(folder: Path, message: str) -> None:
    """Reading fails in words, writer and report alike, and the file stays as it was."""
    path = PointStore.file(folder, POINT)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        PointStore(folder, POINT, 10.0)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_store_is_refused_by_line_and_reason(kind: str, path: Path) -> None:
    damage, message = DAMAGE[kind]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    damage(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _refused(path.parents[1], message)


@pytest.mark.parametrize("kind", BYTES)
def test_a_file_that_is_not_a_store_is_refused(kind: str, path: Path) -> None:
    damage, message = BYTES[kind]
    path.write_bytes(damage(path.read_bytes()))
    _refused(path.parents[1], message)


@pytest.mark.parametrize(
    "kind", [kind for kind in DAMAGE if not kind.startswith(("the header", "another", "a time limit", "a line"))]
)
def test_the_writer_refuses_what_the_reader_refuses(kind: str, solved: Lines, tmp_path: Path) -> None:
    damage, _ = DAMAGE[kind]
    lines: Lines = [{}, *json.loads(json.dumps(solved))]
    damage(lines)
    store = PointStore(tmp_path, POINT, 10.0)

    def write() -> None:
        for line in lines[1:]:
            store.append(line)

    with pytest.raises(ValueError, match=r"is damaged|Out of range"):
        write()
    if store.path.exists():
        PointStore(tmp_path, POINT, 10.0)  # what was written before is whole


def test_a_torn_last_line_is_left_alone_by_readers_and_taken_away_by_the_next_writer(path: Path, solved: Lines) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seed":1000003,"infeasible":false,"decis')
    torn = path.read_bytes()
    store = PointStore(path.parents[1], POINT, 10.0)
    assert path.read_bytes() == torn
    assert len(store.drops) == 3
    store.append({**solved[0], "seed": 77})
    assert len(path.read_bytes().splitlines()) == 5
    assert 77 in PointStore(path.parents[1], POINT, 10.0).drops


@pytest.mark.usefixtures("small_points")
@pytest.mark.parametrize("torn", [False, True])
def test_a_report_leaves_its_folder_as_it_was(torn: bool, path: Path, tmp_path: Path) -> None:
    folder = path.parents[1]
    if torn:
        path.write_bytes(path.read_bytes() + b'{"seed":1000003,"infeas')
    before = {one: (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.rglob("*") if one.is_file()}
    folder.chmod(0o555)
    try:
        assert (
            main(["report", "--results", str(folder), "--out", str(tmp_path.parent / f"{torn}.html"), "--maps", "1"])
            == 0
        )
    finally:
        folder.chmod(0o755)
    assert {one: (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.rglob("*") if one.is_file()} == before


@pytest.mark.usefixtures("small_points")
@pytest.mark.parametrize("kind", ["no total", "a drop twice", "total is NaN", "another version"])
def test_reports_on_damaged_stores_are_one_clear_line(
    kind: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, _ = DAMAGE[kind]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    damage(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", "--results", str(path.parents[1]), "--out", str(path.parents[1] / "page.html")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cfisac: ")
    assert len(error.splitlines()) == 1
    assert path.name in error


TIMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no seconds": lambda c: c.pop("seconds"),
    "seconds are a list": lambda c: c.__setitem__("seconds", []),
    "a time is negative": lambda c: c["seconds"][POINT.key].__setitem__("full-ap", [-1.0]),
    "a time is null": lambda c: c["seconds"][POINT.key].__setitem__("full-ap", [None]),
    "a time is text": lambda c: c["seconds"][POINT.key].__setitem__("full-ap", "1"),
    "another version": lambda c: c.__setitem__("cfisac", "9.9"),
    "no version": lambda c: c.pop("cfisac"),
}


@pytest.mark.parametrize("kind", TIMES)
def test_damaged_times_are_refused(kind: str, tmp_path: Path) -> None:
    TimingStore(tmp_path).put(POINT, "full-ap", [0.1, 0.2])
    path = tmp_path / "timing.json"
    content = json.loads(path.read_text())
    TIMES[kind](content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        TimingStore(tmp_path)


BENCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "selection": (
        "paper 8x2 1s",
        vars(selection.DropResult("a", 3, False, True, 1e-7, 1.0, 0.9, 2, 5, 0.1, 1.0, 0.1, 1.1, 0.1)),
    ),
    "agreement": (
        "",
        vars(agreement.Instance(3, "paper", 8, 2, 1, 8, "optimal", "optimal", 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)),
    ),
}


@pytest.mark.parametrize("kind", BENCHES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line["values"].popitem(),
        lambda line: line["values"].__setitem__("seed", -1),
        lambda line: line["values"].__setitem__("gap" if "gap" in line["values"] else "fast_w", "1"),
        lambda line: line.__setitem__("seed", -3),
        lambda line: line.pop("values"),
    ],
)
def test_damaged_results_of_benches_are_refused(kind: str, damage: Callable[[Any], Any], tmp_path: Path) -> None:
    path, (name, values) = tmp_path / f"{kind}.jsonl", BENCHES[kind]
    journal.Store(path, kind, {})[name, 3] = values
    assert journal.Store(path, kind, {}) == {(name, 3): values}
    header, text = path.read_text().splitlines()
    line = json.loads(text)
    damage(line)
    path.write_text(f"{header}\n{json.dumps(line)}\n")
    run = {"selection": selection.run, "agreement": agreement.run}[kind]
    with pytest.raises(ValueError, match=re.escape(str(path))):
        cast(Any, run)([] if kind == "selection" else 1, 3, tmp_path)


def test_every_schema_is_one() -> None:
    for name, schema in schemas.SCHEMAS.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        with pytest.raises(ValueError, match=r"nowhere is damaged: \[\] is not of type 'object'"):
            schemas.check([], name, "nowhere")


def test_a_second_writer_of_a_folder_is_refused_and_the_first_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = (
        f"import pathlib, sys\nfrom cfisac_env.files import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for command in ("reproduce table2", "compare", "mobile", "evaluate", "presets", "bench selection"):
            assert main([*command.split(), "--out", str(tmp_path)]) == 2
            error = capsys.readouterr().err
            assert f"another process is writing to {tmp_path}: process {holder.pid} on " in error, command
            assert len(error.splitlines()) == 1
        holder.communicate("")


def test_an_evaluation_goes_on_with_decisions_of_the_same_version_and_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results.Result, "write", lambda *arguments: [])
    config = SystemConfig(M=8, K=2)
    path = tmp_path / "decisions.jsonl"

    def run(drops: int = 2, seed: int = 5, config: SystemConfig = config) -> list[float]:
        ((comparison, _),) = evaluation.run(config, ["full-ap"], drops, seed, tmp_path, lambda name: None)
        return [float(value) for value in comparison.results[0].seconds]

    first = run()
    assert run() == first
    assert run(drops=1) == first[:1]
    assert run(drops=3)[:2] == first
    assert run(seed=6, drops=1) == first[1:]
    with pytest.raises(ValueError, match=re.escape("was made with config = {'noise_figure_db': 9.0}")):
        run(config=SystemConfig(M=8, K=2, noise_figure_db=8.0))
    whole = path.read_text()
    path.write_text(whole.replace(f'"cfisac":"{cfisac_env.__version__}"', '"cfisac":"0.1.0"', 1))
    assert run(drops=3)[:2] == first
    with pytest.raises(ValueError, match=r"made with cfisac 0\.1\.0, and this is .* nothing is added"):
        run(drops=4)
    for damaged in (
        whole.replace('"cfisac":"', '"cfisac":"0.0.', 1),
        whole.replace('"feasible":true', '"feasible":7', 1),
        whole.replace('"seed":5', '"seed":-5', 1),
        whole.replace('"seconds":', '"minutes":', 1),
        whole + whole.splitlines(keepends=True)[-1],
        "{",
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            run()
