"""`cfisac bench env` measures what it says, and writes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cfisac_env import SystemConfig, observations
from experiments.bench import environment
from experiments.cli import main


def test_rates_count_decisions_and_processor_time() -> None:
    ticks = iter(range(100))

    def play() -> int:
        next(ticks)
        return 7

    rate = environment.timed("test", environment.Load(SystemConfig(M=3, K=2), 7, 1, 2), play, 0.0)
    assert rate.decisions == 7
    assert next(ticks) == 2  # the warm-up is played and not counted
    one = environment.Rate("test", 3, 2, 1, 1, 2, decisions=600, wall_s=2.0, processor_s=3.0)
    assert (one.per_second, one.per_processor_second, one.share) == (300.0, 200.0, 0.75)


def test_growth_finds_the_line_behind_rates() -> None:
    def rate(M: int, K: int, n: int) -> environment.Rate:
        step_s = 200e-6 + n * 3e-6 + n * M * K * 40e-9
        return environment.Rate("test", M, K, n, 1, 1, decisions=n, wall_s=2 * step_s, processor_s=step_s)

    rates = [rate(50, 10, 1), rate(50, 10, 64), rate(50, 10, 4096), rate(10, 10, 64), rate(1000, 100, 1)]
    fitted = environment.growth(rates)
    assert (fitted.us_a_step, fitted.us_an_environment, fitted.ns_a_link) == pytest.approx((200, 3, 40), rel=1e-4)
    assert fitted.deviation < 1e-4
    off = environment.growth([*rates, replace(rates[0], decisions=2)])
    assert off.deviation > 0.2
    assert "| 50 | 10 | 64 | 1.67 | 1.67 | 26.1 | 52 |" in environment.growth_table(rates, fitted).markdown()


def test_traffic_counts_actions_observations_and_drops() -> None:
    config = SystemConfig(M=5, K=3, S=2, T=4)
    floats = sum(space.shape[0] * space.shape[-1] * (space.shape[1] if len(space.shape) == 3 else 1)
                 for space in observations.space(config).values() if space.shape and len(space.shape) > 1) + 4  # fmt: skip
    drop = 8 * (2 * 5 * 3 + 5 * 2 * 3 + 5 * 2 * 4)
    assert environment.bytes_per_decision(config) == 4 * floats + 4 * 5 * 4 + 2 * drop


def test_the_command_writes_rates_profile_and_scaling(tmp_path: Path) -> None:
    arguments = ["bench", "env", "--sizes", "4x2", "--environments", "3", "--seconds", "0.01", "--no-scaling"]
    assert main([*arguments, "--out", str(tmp_path), "--preset", "urban"]) == 0
    content = json.loads((tmp_path / "env.json").read_text())
    rates = {(rate["what"], rate["decisions_per_drop"]): rate for rate in content["rates"]}
    assert {
        ("single", 1),
        ("vector, numpy", 1),
        ("vector, numpy", 50),
        ("vector, numpy, 50 instants of a network", 1),
        ("scoring alone", 50),
        ("mobile vector", 1),
    } < set(rates)
    assert all(rate["decisions"] > 0 and rate["wall_s"] > 0 for rate in content["rates"])
    assert content["mobile_env"] is None or content["mobile_env"]["M"] == 13
    assert content["fields"] == {"preset": "urban"}
    assert content["profile"][-1]["what"] == "all"
    assert "decisions/processor s" in (tmp_path / "env.md").read_text()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--environments", "0"], "--environments must be 1 or more"),
        (["--threads", "0"], "--threads must be 1 or more"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--M", "5"], "--M is in --sizes"),
    ],
)
def test_bad_options_are_refused(option: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "env", *option]) == 2
    assert message in capsys.readouterr().err
