"""`cfisac reproduce`: stored decisions are the environment's, nothing is lost or overwritten, and sentences say what the numbers say."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import agents
import baselines
import cfisac_env
from baselines.bounds import certify
from experiments import compare, statistics
from experiments.cli import main
from experiments.reproduction import decisions, figures, policies, run, summary, tables
from experiments.reproduction.options import Options
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore
from experiments.statistics import Interval

SMALL = Point("paper", 8, 2)
ORACLES = ("decoupled", "full-ap-paper", "full-ap", "modified-bb", "local-search")


def study(
    folder: Path, target: str, names: tuple[str, ...] = ORACLES, again: Sequence[str] = (), **more: Any
) -> run.Reproduction:
    """A small reproduction."""
    options = Options(names, **({"drops": 4, "slow_drops": 1, "timed_drops": 1} | more))
    return run.Reproduction.open(folder, options, [target], again)


@pytest.mark.usefixtures("small_points")
def test_one_command_writes_every_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("hetgnn", "modified-bb-paper", "decoupled", "modified-bb", "local-search", "branch-and-bound")
    arguments = ["reproduce", "all", "--drops", "6", "--slow-drops", "4", "--timed-drops", "1", "--out", str(tmp_path)]
    arguments += ["--workers", "1", "--policies", *names]
    assert main(arguments) == 0
    assert f"wrote {tmp_path / 'table2.md'}" in capsys.readouterr().out
    for name in ("table2", "fig3", "fig4", "times"):
        for kind in (
            ("md", "csv") + (("json",) if name != "times" else ()) + (("svg", "png") if name != "table2" else ())
        ):
            assert (tmp_path / f"{name}.{kind}").stat().st_size > 200
    content = json.loads((tmp_path / "table2.json").read_text())
    assert {"command", "versions", "python", "printed"} <= content.keys()
    with (tmp_path / "table2.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["M"], row["K"]) == ("8", "2")]
    served = 6 - int(rows[0]["certified_infeasible"])
    assert {row["policy"]: int(row["drops"]) for row in rows}["modified-bb"] == served
    assert {row["policy"]: int(row["drops"]) for row in rows}["modified-bb-paper"] < served
    # One stored number, made again by hand.
    store = PointStore(tmp_path, SMALL, 10.0)
    seed = next(seed for seed, line in store.drops.items() if not line["infeasible"])
    env = gym.make("CfIsac-v0", M=8, K=2)
    observation, _ = env.reset(seed=seed)
    info = env.step(baselines.make("modified-bb").predict(observation)[0])[4]
    stored = store.drops[seed]["decisions"]["modified-bb"]
    assert stored["total_power_w"] == pytest.approx(info["total_power_w"], rel=1e-9)
    assert len(stored["active"]) == info["active_aps"]
    assert stored["sinr_db"] == pytest.approx(info["sinr_db"].tolist(), rel=1e-4)
    assert stored["crlb_m2"] == pytest.approx(info["crlb_m2"].tolist(), rel=1e-4)
    best = store.drops[seed]["decisions"]["branch-and-bound"]
    assert best["lower_bound_w"] <= best["total_power_w"] <= stored["total_power_w"] * (1 + 1e-4)


@pytest.mark.usefixtures("small_points")
def test_an_agent_without_weights_is_named_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str, **options: Any) -> Any:
        raise FileNotFoundError(f"no weights of {name}")

    monkeypatch.setattr(agents, "load", load)
    arguments = ["reproduce", "table2", "--drops", "6", "--slow-drops", "0", "--no-timing", "--workers", "1"]
    assert main([*arguments, "--out", str(tmp_path), "--policies", "hetgnn", "local-search"]) == 0
    note = "missing weights (no weights of hetgnn); train them with `cfisac train hetgnn`"
    assert f"note: `hetgnn` is missing at paper-M8-K2, paper-M8-K3: {note}" in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "table2.md").read_text()
    assert note in page[page.index("Missing here") :]
    assert "| `local-search` |" in page


@pytest.mark.usefixtures("small_points")
def test_an_interrupted_run_goes_on_and_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def stop(_: str) -> None:
        counted.append(1)
        if len(counted) == 3:
            raise KeyboardInterrupt

    counted: list[int] = []
    begun = study(tmp_path / "a", "table2")
    with pytest.raises(KeyboardInterrupt):
        begun.decide(begun.tasks(), 1, None, stop)
    path = begun.stores[SMALL].path
    with path.open("a") as file:  # a line that was being written when the power went
        file.write('{"seed":1000003,"infeasible":false,"decis')
    again = study(tmp_path / "a", "table2")
    left = again.tasks()
    assert len(left) == 5
    again.decide(left, 1, None, lambda _: None)
    whole = study(tmp_path / "b", "table2")
    whole.decide(whole.tasks(), 1, None, lambda _: None)
    for point, store in whole.stores.items():
        other = PointStore(tmp_path / "a", point, 10.0)
        assert _without_times(other.drops) == _without_times(store.drops)
    assert study(tmp_path / "a", "table2").tasks() == []


def _without_times(drops: dict[int, Any]) -> dict[int, Any]:
    for line in drops.values():
        for made in line["decisions"].values():
            made.pop("seconds", None)
    return drops


@pytest.mark.usefixtures("small_points")
def test_results_of_another_version_are_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "table2", "--drops", "1", "--slow-drops", "0", "--no-timing", "--workers", "1"]
    arguments += ["--out", str(tmp_path), "--policies", "full-ap", "local-search"]
    assert main(arguments) == 0
    path = tmp_path / "drops" / f"{SMALL.key}.jsonl"
    here = f'"cfisac":"{cfisac_env.__version__}"'
    old = path.read_text().replace(here, '"cfisac":"0.0.9"', 1)
    path.write_text(old)
    capsys.readouterr()
    assert main(arguments) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert (
        f"was made with cfisac = 0.0.9, and this is {cfisac_env.__version__}: results of another kind or version are never overwritten"
        in message
    )
    assert path.read_text() == old
    earlier = old.replace('"cfisac":"0.0.9"', '"cfisac":"0.1.0"', 1)
    path.write_text(earlier)
    assert main(arguments) == 0  # nothing is missing
    for more in (["--drops", "2"], ["--again", "full-ap"]):
        capsys.readouterr()
        assert main([*arguments, *more]) == 2, more
        message = " ".join(capsys.readouterr().err.split())
        assert "was made with cfisac 0.1.0, and this is" in message
        assert "nothing is added to them; name another folder with --out" in message
        assert path.read_text() == earlier
    path.write_text(old.replace('"cfisac":"0.0.9"', here, 1))
    assert main([*arguments, "--time-limit", "3"]) == 2
    assert "was made with time_limit_s = 10.0, and this is 3.0" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("small_points")
def test_a_policy_trained_anew_decides_again(tmp_path: Path) -> None:
    made = study(tmp_path, "table2")
    made.decide(made.tasks(), 1, None, lambda _: None)
    again = study(tmp_path, "table2", again=["full-ap"])
    assert {name for task in again.tasks() for name in task.names} == {"full-ap"}


@pytest.mark.usefixtures("small_points")
def test_a_policy_beyond_its_time_is_not_timed_at_larger_sizes(tmp_path: Path) -> None:
    short = study(tmp_path, "times", ("full-ap", "local-search"), time_budget=1e-6)
    short.time(lambda _: None)
    assert set(short.times.seconds) == {SMALL.key}
    whole = study(tmp_path / "more", "times", ("full-ap", "local-search"), time_budget=60.0)
    whole.time(lambda _: None)
    assert set(whole.times.seconds) == {"paper-M8-K2", "paper-M8-K3", "paper-M12-K2"}
    assert all(min(taken) > 0 for row in whole.times.seconds.values() for taken in row.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "ful-ap"], "unknown policy 'ful-ap'; the reproduction knows hetgnn"),
        (["--presets", "rural"], "unknown preset 'rural'"),
        (["--drops", "0"], "--drops must be 1 or more, got 0"),
        (["--slow-drops", "-1"], "--slow-drops must be 0 or more, got -1"),
        (["--time-limit", "0"], "--time-limit must be above 0, got 0"),
        (["--policies", "full-ap"], "the reference 'local-search' is not among the compared policies: full-ap"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "table2", "--out", str(tmp_path), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def data(**totals: list[float]) -> summary.PointData:
    """Policies with these total powers on ten drops; a negative number is a decision that misses a requirement."""
    made = []
    for name, values in {**totals, "least": [1.0] * 10}.items():
        decisions = [
            {
                "total_power_w": abs(w),
                "transmit_power_w": 0.0,
                "active_aps": 2,
                "feasible": w > 0,
                "violation": 0.0,
                "seconds": 0.0,
            }
            for w in values
        ]
        made.append(compare.collect(name, decisions + [{}] * (11 - len(values))))
    infeasible = np.array([False] * 10 + [True])
    bound = np.where(infeasible, np.inf, 1.0)
    drops = compare.Comparison(SMALL.config, [*range(10), 77], infeasible, bound, made, untrained={})
    return summary.PointData(SMALL, drops, tuple(totals))


def test_claims_are_made_of_the_numbers_of_drops_that_both_serve() -> None:
    base = np.linspace(1.0, 2.0, 10)
    here = data(a=list(0.8 * base), b=list(base), c=list(np.where(np.arange(10) < 7, -base, base)), d=list(base[::-1]))
    less, more, few, alike = summary.claims(here, [("a", "b"), ("b", "a"), ("c", "b"), ("d", "b")])
    assert (
        less.text
        == "`a` draws 20.0% [20.0%, 20.0%] less than `b` on the 10 of 10 drops where both meet every requirement."
    )
    assert more.text.startswith("`b` draws 25.0% [25.0%, 25.0%] more than `a`")
    assert few.text == "`c` and `b`: no claim, both meet every requirement on 3 of 10 drops only."
    assert alike.text.startswith("`d` and `b` cannot be told apart")
    assert summary.claims(here, [("a", "nobody")]) == []


def test_rows_are_paired_by_drop_and_count_what_is_infeasible() -> None:
    base = np.linspace(1.0, 2.0, 10)
    here = data(decoupled=list(2 * base), b=[*(-base[:4]), *base[4:]], short=list(base[:3]))
    by_name = {row.policy: row for row in summary.summarise(here, "b", {"b": [0.3, 0.1, 0.2]})}
    assert by_name["b"].percent_of_decoupled.value == pytest.approx(50.0)
    assert by_name["short"].percent_of_decoupled.value == pytest.approx(50.0)
    assert by_name["short"].difference_drops == 0
    assert by_name["decoupled"].difference_drops == 6
    assert by_name["decoupled"].difference_w.value == pytest.approx(base[4:].mean())
    assert by_name["b"].feasible_share.value == pytest.approx(0.6)
    assert by_name["b"].gap_to_best == pytest.approx(base[4:].mean() - 1)
    assert by_name["b"].seconds == 0.2
    assert tables.counted(here) == "11 drops, 1 of them certified infeasible and left out"
    text = tables.point_table(list(by_name.values())).markdown()
    assert "nan" not in text
    assert "– under difference W: both are feasible on fewer than two drops; – under ms: not timed here" in text


def test_a_saving_is_a_ratio_of_means_with_a_paired_interval() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        theirs = rng.lognormal(0.0, 1.0, 80)
        interval = statistics.bootstrap_saving(theirs * rng.normal(0.7, 0.05, 80), theirs)
        assert interval.high - interval.low < 0.1  # the drops' own spread cancels
        covered += interval.low <= 0.3 <= interval.high
    assert covered >= 33
    assert statistics.bootstrap_saving(np.array([1.0]), np.array([2.0])).value == 0.5
    assert statistics.bootstrap_saving(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == Interval(0.5, 0.5, 0.5)


def test_drops_certified_infeasible_are_decided_by_nobody() -> None:
    point = Point("paper", 2, 2)
    seed = next(s for s in range(100) if certify(decisions.drop(point, s).scenario.problem).infeasible)
    line = decisions.solve(decisions.Task(point, seed, ("full-ap",), 1.0, True))
    assert line == {"seed": seed, "infeasible": True, "lower_bound_w": None, "decisions": {}}


def test_every_policy_has_a_colour_and_a_marker_of_its_own() -> None:
    names = [name for name in policies.names() if name in figures.COLORS]
    assert len({(figures.color(name), figures.marker(name)) for name in names}) == len(names)
