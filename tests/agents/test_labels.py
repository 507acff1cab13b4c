"""Label files: what the oracle decided about the environment's own drops, whole or refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import baselines
from agents.hetgnn.labels import Labels, draw, label, read
from cfisac_env import Decision, SystemConfig
from cfisac_env.env import CfIsacEnv

CONFIG = SystemConfig(M=10, K=3)


def test_labels_are_the_oracles_decisions_about_the_drops_of_the_environment(tmp_path: Path) -> None:
    made = label(CONFIG, range(4, 10), "modified-bb")
    labels = Labels.load(made.save(tmp_path / "shard.npz"))
    assert (labels.config, labels.policy) == (CONFIG, "modified-bb")
    drops, oracle = labels.drops(), baselines.make("modified-bb")
    env = gym.make("CfIsac-v0", **CONFIG.as_dict())
    core = env.unwrapped
    assert isinstance(core, CfIsacEnv)
    for i, seed in enumerate(labels.seeds):
        env.reset(seed=int(seed))
        np.testing.assert_array_equal(core.scenario.gain, drops.gain[i])
        answer = oracle.decide(core.scenario.problem)
        assert labels.feasible[i] == answer.feasible
        if answer.feasible:
            np.testing.assert_array_equal(labels.active[i], answer.decision.active)
            outcome = core.evaluate(Decision(labels.active[i], labels.power[i].astype(np.float64)))
            assert outcome.feasible
            assert float(outcome.total_power) == pytest.approx(labels.total_power_w[i], rel=1e-6)
            assert labels.lower_bound_w[i] <= labels.total_power_w[i]


def test_the_better_oracle_labels_at_no_higher_power() -> None:
    config = SystemConfig(M=12, K=4, preset="urban")
    local, greedy = (label(config, range(8), policy) for policy in ("local-search", "modified-bb"))
    both = local.feasible & greedy.feasible
    assert both.sum() > 4
    assert (local.total_power_w[both] <= greedy.total_power_w[both] * (1 + 1e-6)).all()
    np.testing.assert_array_equal(local.lower_bound_w, greedy.lower_bound_w)


def test_a_drop_that_none_can_serve_has_an_infinite_bound() -> None:
    labels = label(SystemConfig(M=3, K=2, crlb_threshold_m2=1e-5), range(2))
    assert not labels.feasible.any()
    assert np.isinf(labels.lower_bound_w).all()


def test_test_seeds_are_never_labelled() -> None:
    with pytest.raises(ValueError, match=r"from 0 to 999,999, the others are for testing; got 999,999 to 1,000,000"):
        label(CONFIG, range(999_999, 1_000_001))


def test_other_teachers_and_shared_pilots_are_refused() -> None:
    with pytest.raises(ValueError, match=r"local-search or modified-bb, not from 'random'"):
        label(CONFIG, range(2), "random")
    with pytest.raises(ValueError, match=r"a pilot for every user: K = 3, pilot_length = 2"):
        label(replace(CONFIG, pilot_length=2), range(2))


def test_damaged_shards_are_named_and_the_others_read(tmp_path: Path) -> None:
    good = label(CONFIG, range(2), "modified-bb").save(tmp_path / "paper" / "good.npz")
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:500])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    shards, damaged = read(tmp_path)
    assert [len(shard) for shard in shards] == [2]
    assert len(damaged) == 2
    assert "cut.npz is truncated or not a label file" in damaged[0]
    assert "other.npz is not a label file of format" in damaged[1]
    with pytest.raises(FileNotFoundError, match=r"no label files in .*; `cfisac label --out"):
        read(tmp_path / "nothing")


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    labels = label(CONFIG, range(2), "modified-bb")
    path = replace(labels, power=labels.power[:, :5]).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"power in .* has shape \(2, 5, 3\), expected \(2, 10, 3\)"):
        Labels.load(path)


def test_drops_that_are_drawn_differently_now_are_refused() -> None:
    labels = label(CONFIG, range(2), "modified-bb")
    with pytest.raises(ValueError, match=r"no longer those that were labelled"):
        replace(labels, seeds=labels.seeds + 1).drops()


def test_shared_pilots_are_drawn_too() -> None:
    assert draw(replace(CONFIG, pilot_length=2), [0, 1]).problem.pilot_overlap is not None
