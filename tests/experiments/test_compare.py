"""`cfisac compare`: what it prints and writes is what the physics says, and bad input is one clear line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import agents
import baselines
from agents.rl.vec_env import SB3VecEnv
from cfisac_env import Scenario, SystemConfig, sample
from experiments import compare, presets, statistics
from experiments.cli import main

ROOT = Path(__file__).parents[2]


def test_the_command_writes_table_json_csv_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["random", "full-ap", "modified-bb"]
    status = main(["compare", "--M", "8", "--K", "2", "--drops", "4", "--out", str(tmp_path), "--policies", *names])
    assert status == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["config"]["M"] == 8
    assert content["seeds"] == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert {"command", "versions", "python"} <= content.keys()
    with (tmp_path / "compare.csv").open() as file:
        assert [row["policy"] for row in csv.DictReader(file)] == names
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    # One stored number, made again by hand.
    env = gym.make("CfIsac-v0", M=8, K=2)
    served = content["drops"]["certified_infeasible"].index(False)
    observation, _ = env.reset(seed=1_000_000 + served)
    action, _ = baselines.make("modified-bb").predict(observation)
    info = env.step(action)[4]
    stored = content["drops"]["policies"]["modified-bb"]["total_power_w"][served]
    assert stored == pytest.approx(info["total_power_w"], rel=1e-9)


def test_by_default_every_oracle_decides_that_takes_the_drops(tmp_path: Path) -> None:
    arguments = ["compare", "--M", "4", "--K", "2", "--drops", "1", "--out", str(tmp_path), "--pilot-length"]
    for length in (1, 2):
        assert main([*arguments, str(length)]) == 0
        content = json.loads((tmp_path / "compare.json").read_text())
        decided = set(content["drops"]["policies"])
        missing = {"modified-bb-paper"} if length == 1 else set()
        assert decided == set(baselines.POLICIES) - missing


def test_the_bound_is_what_exact_search_proves_where_it_takes_part() -> None:
    config = SystemConfig(M=10, K=3, preset="urban")
    names = ["local-search", "branch-and-bound"]
    without, with_it = (compare.run(config, compare.build(part, config), 4, seed=0) for part in (names[:1], names))
    served = ~with_it.infeasible
    assert (with_it.lower_bound_w[served] > without.lower_bound_w[served] * (1 + 1e-3)).any()
    np.testing.assert_allclose(with_it.lower_bound_w[served], with_it.best_known_w[served], rtol=1e-4)
    assert (with_it.lower_bound_w <= with_it.best_known_w)[served].all()
    assert compare.summarise(with_it)[1].certified_gap < 1e-4


def test_certified_infeasible_drops_are_counted_and_not_averaged() -> None:
    config = SystemConfig(M=4, K=2, crlb_threshold_m2=0.5)
    result = compare.run(config, compare.build(["full-ap", "random"], config), 20, seed=0)
    assert 0 < result.infeasible.sum() < 20
    row = compare.summarise(result)[0]
    assert row.feasible_share == 1.0
    served = ~result.infeasible
    assert row.total_power_w.value == pytest.approx(result.results[0].total_power_w[served].mean())
    assert np.isnan(result.results[0].total_power_w[result.infeasible]).all()


def test_a_table_without_a_drop_that_can_be_served_shows_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"compare --M 4 --K 2 --crlb-threshold-m2 1e-6 --drops 2 --out {tmp_path}".split()
    assert main([*arguments, "--policies", "full-ap", "random"]) == 0
    printed = capsys.readouterr().out
    assert "0 drops (2 more certified infeasible)" in printed
    assert "nan" not in printed


def test_drops_with_reused_pilots_are_bounded_without_the_contamination() -> None:
    config = SystemConfig(M=8, K=4, pilot_length=2)
    result = compare.run(config, compare.build(["max-power"], config), 5, seed=50)
    served = result.lower_bound_w[~result.infeasible]
    assert len(served) > 0
    assert (served >= config.circuit_power_w).all()
    feasible = result.results[0].feasible
    assert (result.results[0].total_power_w[feasible] >= result.lower_bound_w[feasible]).all()


def test_requirements_may_change_on_given_drops_and_sizes_may_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sample(SystemConfig(M=6, K=2), np.random.default_rng(1), 2).save(tmp_path / "drops.npz")
    arguments = ["compare", "--drops-file", str(path), "--policies", "full-ap", "--out", str(tmp_path)]
    assert main([*arguments, "--crlb-threshold-m2", "2"]) == 0
    assert json.loads((tmp_path / "compare.json").read_text())["config"]["crlb_threshold_m2"] == 2.0
    capsys.readouterr()
    assert main([*arguments, "--K", "3"]) == 2
    assert "K=3 doesn't fit the drops, which were made with K=2" in " ".join(capsys.readouterr().err.split())


def test_no_feasible_decision_beats_the_certified_bound() -> None:
    config = SystemConfig(M=8, K=3)
    result = compare.run(config, compare.build(["full-ap", "modified-bb", "strongest-ap"], config), 10, seed=50)
    served = ~result.infeasible
    for policy in result.results:
        assert (policy.total_power_w[served] >= result.lower_bound_w[served] * (1 - 1e-6)).all()


@pytest.mark.filterwarnings("ignore::agents.coverage.UntrainedConfigurationWarning")
@pytest.mark.parametrize("given", [False, True], ids=["random drops", "given drops"])
def test_agents_decide_in_a_comparison_what_they_decide_in_environments_of_sb3(given: bool) -> None:
    config = SystemConfig(M=30, K=6, crlb_threshold_m2=0.3)
    drops = sample(config, np.random.default_rng(5), 6) if given else 6
    made = compare.run(config, compare.build(["ddpg-paper", "ddpg"], config), drops, 40)
    assert 0 < made.infeasible.sum() < 6
    kwargs: dict[str, Any] = {"drops": drops} if given else config.as_dict()
    for result in made.results:
        envs = SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=6, autoreset_mode="SameStep", **kwargs))
        if given:
            envs.set_options({"drop": list(range(6))})
        else:
            envs.seed(40)
        action, _ = agents.load(result.name, M=30, K=6).predict(envs.reset(), deterministic=True)
        infos = envs.step(action)[3]
        envs.close()
        for name in ("total_power_w", "transmit_power_w", "active_aps", "feasible"):
            stored, played = getattr(result, name), np.array([info[name] for info in infos])
            np.testing.assert_allclose(
                stored[~made.infeasible], played[~made.infeasible], rtol=1e-3, err_msg=f"{result.name} {name}"
            )


def test_policies_that_share_a_name_and_no_policies_are_refused() -> None:
    config = SystemConfig(M=8, K=2)
    twice = [*compare.build(["full-ap"], config), *compare.build(["full-ap"], config)]
    for policies in (twice, []):
        with pytest.raises(ValueError, match=r"a name of its own, got (full-ap, full-ap|none)"):
            compare.run(config, policies, 1)


def test_given_drops_are_played(tmp_path: Path) -> None:
    drops = sample(SystemConfig(M=6, K=2), np.random.default_rng(1), 3)
    path = drops.save(tmp_path / "drops.npz")
    assert main(["compare", "--drops-file", str(path), "--policies", "full-ap", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "compare.json").read_text())
    expected = drops[1].evaluate(baselines.make("full-ap").decide(Scenario.load(path)[1].problem).decision)
    stored = content["drops"]["policies"]["full-ap"]["total_power_w"][1]
    assert stored == pytest.approx(float(expected.total_power), rel=1e-5)


def test_the_stored_comparison_is_what_the_code_gives() -> None:
    stored = json.loads((ROOT / "docs" / "results" / "compare" / "compare.json").read_text())
    names = [name for name in stored["drops"]["policies"] if name != "modified-bb-paper"]
    config = SystemConfig(**stored["config"])
    again = compare.run(config, compare.build(names, config), 3, seed=stored["seeds"][0])
    for result in again.results:
        kept = stored["drops"]["policies"][result.name]
        assert list(result.feasible) == kept["feasible"][:3], result.name
        np.testing.assert_allclose(result.total_power_w, kept["total_power_w"][:3], rtol=1e-6, err_msg=result.name)
    np.testing.assert_allclose(again.lower_bound_w, stored["drops"]["lower_bound_w"][:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "ful-ap"], "unknown policy 'ful-ap' (did you mean 'full-ap'?)"),
        (["--preset", "rural"], "unknown preset 'rural'"),
        (["--M", "0"], "M must be a whole number in [1, 100000], got 0"),
        (["--drops", "0"], "--drops must be 1 or more, got 0"),
        (["--drops-file", "missing.npz"], "no drops file at missing.npz"),
        (["--reference", "full"], "the reference 'full' is not among the compared policies: random, max-power"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    assert statistics.interquartile_mean(np.array([0.0, 1.0, 2.0, 1000.0])) == 1.5


def test_the_bootstrap_interval_covers_the_mean_of_a_known_distribution() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        interval = statistics.bootstrap(rng.normal(3.0, 1.0, 60))
        covered += interval.low <= 3.0 <= interval.high
    assert covered >= 33  # 95 % of 40 is 38; fewer than 33 has a chance of 1 in 1000


@pytest.mark.parametrize("preset", ["paper", "high-rate", "precise-sensing", "urban"])
def test_no_infeasible_decision_outscores_the_optimum(preset: str) -> None:
    measured = presets.measure(SystemConfig(M=12, K=4, preset=preset), drops=60, seed=0)
    assert len(measured.penalty_margin_w) >= 30
    assert measured.penalty_margin_w.min() > 0
