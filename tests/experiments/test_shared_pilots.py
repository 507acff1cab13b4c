"""Oracles work where users share pilots, under every assignment, and says that its powers are local optima."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfisac_env import SystemConfig, pilots
from experiments import compare
from experiments.cli import main

ORACLES = ("strongest-ap", "nearest-ap", "full-ap", "modified-bb")


@pytest.mark.parametrize("rule", list(pilots.ASSIGNMENTS))
def test_oracles_serve_drops_with_shared_pilots_above_the_certified_bound(rule: str) -> None:
    config = SystemConfig(M=5, K=3, T=4, pilot_length=2, pilot_assignment=rule, preset="urban")
    result = compare.run(config, compare.build(ORACLES, config), 1, seed=61)
    served = ~result.infeasible
    assert served.any()
    for one in result.results:
        assert one.feasible[served].all()
        assert (one.total_power_w[served] >= result.lower_bound_w[served] * (1 - 1e-6)).all()


def test_the_table_says_that_powers_are_local_optima(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--M", "5", "--K", "3", "--T", "4", "--drops", "1", "--policies", "full-ap", "--out", str(tmp_path)]
    assert main(["compare", *sizes, "--pilot-length", "2", "--pilot-assignment", "greedy"]) == 0
    assert "allocated powers are local optima" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", *sizes]) == 0
    assert "local optima" not in " ".join(capsys.readouterr().out.split())
