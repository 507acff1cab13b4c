"""Label files: decisions of an oracle on the environment's own drops; damaged files are refused by name."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import baselines
from agents.hetgnn.labels import _ARRAYS, Labels, label, read
from cfisac_env import Decision, SystemConfig
from cfisac_env.env import CfIsacEnv
from cfisac_env.sampling import draw

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


def test_infeasible_drops_have_an_infinite_bound() -> None:
    labels = label(SystemConfig(M=3, K=2, crlb_threshold_m2=1e-5), range(2))
    assert not labels.feasible.any()
    assert np.isinf(labels.lower_bound_w).all()


def test_test_seeds_are_never_labelled() -> None:
    with pytest.raises(ValueError, match=r"from 0 to 999,999, the others are for testing; got 2 from 999,999 on"):
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
    assert "cut.npz is not a whole label file" in damaged[0]
    assert "other.npz is not a whole label file: it lacks one of the texts format, config, policy" in damaged[1]
    with pytest.raises(FileNotFoundError, match=r"no label files in .*; `cfisac label --out"):
        read(tmp_path / "nothing")


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """Entries of a shard file of five drops, at least one of them infeasible."""
    labels = label(CONFIG, range(2, 7), "modified-bb")
    assert labels.feasible[0]
    assert not labels.feasible.all()
    arrays = {name: getattr(labels, name) for name in _ARRAYS}
    return {"format": "cfisac-labels-1", "config": json.dumps(CONFIG.as_dict()), "policy": "modified-bb", **arrays}


def _changed(parts: dict[str, Any], name: str, value: Any, where: Any = ...) -> dict[str, Any]:
    array = np.array(parts[name])
    array[where] = value
    return {**parts, name: array}


def _without(name: str, parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parts.items() if key != name}


SERVED = (0,)  # a row of `parts` that its oracle served

DAMAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "power NaN": lambda p: _changed(p, "power", np.nan, (SERVED, 0, 0)),
    "power infinite": lambda p: _changed(p, "power", np.inf, (SERVED, 0, 0)),
    "power negative": lambda p: _changed(p, "power", -1e-3, (SERVED, 0, 0)),
    "power 1e30": lambda p: _changed(p, "power", 1e30, (SERVED, 0, 0)),
    "power above the cap": lambda p: _changed(p, "power", 0.06, (SERVED, 0)),
    "power zero": lambda p: _changed(p, "power", 0.0),
    "power of a set of others": lambda p: {**p, "power": p["power"][:, ::-1]},
    "power in float64": lambda p: {**p, "power": p["power"].astype(np.float64)},
    "power of other users": lambda p: {**p, "power": p["power"][:, :, :2]},
    "power of pickled objects": lambda p: {**p, "power": p["power"].astype(object)},
    "active as 0.3": lambda p: {**p, "active": np.where(p["active"], 0.3, 0.0)},
    "active as whole numbers": lambda p: {**p, "active": p["active"].astype(np.int64)},
    "active all off": lambda p: _changed(p, "active", False),
    "active all on": lambda p: _changed(p, "active", True),
    "seeds twice": lambda p: _changed(p, "seeds", p["seeds"][1], SERVED),
    "seeds negative": lambda p: _changed(p, "seeds", -1, SERVED),
    "seeds of tests": lambda p: _changed(p, "seeds", 1_000_000, SERVED),
    "seeds as floats": lambda p: {**p, "seeds": p["seeds"].astype(np.float64)},
    "no seeds": lambda p: {name: value[:0] if name in _ARRAYS else value for name, value in p.items()},
    "rows that lack": lambda p: {**p, "feasible": p["feasible"][:3]},
    "feasible as numbers": lambda p: {**p, "feasible": p["feasible"].astype(float)},
    "total power NaN": lambda p: _changed(p, "total_power_w", np.nan, SERVED),
    "total power of others": lambda p: {**p, "total_power_w": p["total_power_w"] * 0.9},
    "bound NaN": lambda p: _changed(p, "lower_bound_w", np.nan, SERVED),
    "bound negative": lambda p: _changed(p, "lower_bound_w", -1.0, SERVED),
    "bound above the decision": lambda p: _changed(p, "lower_bound_w", 1e3, SERVED),
    "bound infinite where it is served": lambda p: _changed(p, "lower_bound_w", np.inf, SERVED),
    "seconds negative": lambda p: _changed(p, "seconds", -1.0, SERVED),
    "seconds infinite": lambda p: _changed(p, "seconds", np.inf, SERVED),
    "fingerprint NaN": lambda p: _changed(p, "fingerprint", np.nan, SERVED),
    "unknown teacher": lambda p: {**p, "policy": "oracle"},
    "a teacher that labels nothing": lambda p: {**p, "policy": "random"},
    "no teacher": lambda p: {**p, "policy": ""},
    "other format": lambda p: {**p, "format": "cfisac-labels-0"},
    "format as a number": lambda p: {**p, "format": 1},
    "configuration no JSON": lambda p: {**p, "config": "{"},
    "configuration a list": lambda p: {**p, "config": "[]"},
    "configuration nested without end": lambda p: {**p, "config": "[" * 50_000},
    "configuration of pickled objects": lambda p: {**p, "config": np.array({}, dtype=object)},
    "configuration of other fields": lambda p: {**p, "config": json.dumps({**CONFIG.as_dict(), "N": 3})},
    "configuration out of range": lambda p: {**p, "config": json.dumps({**CONFIG.as_dict(), "M": -3})},
    "configuration NaN": lambda p: {**p, "config": json.dumps({**CONFIG.as_dict(), "circuit_power_w": np.nan})},
    "configuration with shared pilots": lambda p: {**p, "config": json.dumps({**CONFIG.as_dict(), "pilot_length": 2})},
    "configuration of another size": lambda p: {**p, "config": json.dumps({**CONFIG.as_dict(), "M": 11})},
    "another part": lambda p: {**p, "more": np.zeros(3)},
    **{f"without {name}": partial(_without, name) for name in ("format", "config", "policy", *_ARRAYS)},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_invalid_labels_are_refused(damage: str, parts: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "shard.npz"
    np.savez_compressed(path, **DAMAGES[damage](parts))
    with pytest.raises(ValueError, match=r"shard\.npz") as refusal:
        Labels.load(path)
    assert len(str(refusal.value)) < 700


def test_a_whole_file_is_read(parts: dict[str, Any], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "shard.npz", **parts)
    assert len(Labels.load(tmp_path / "shard.npz")) == 5


def test_labels_that_would_be_refused_are_not_written(tmp_path: Path) -> None:
    labels = label(CONFIG, range(2), "modified-bb")
    for wrong in (
        replace(labels, power=labels.power[:, :5]),
        replace(labels, power=-labels.power),
        replace(labels, policy="x"),
    ):
        with pytest.raises(ValueError, match=r"a\.npz"):
            wrong.save(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_decisions_that_belong_to_other_drops_are_refused(parts: dict[str, Any]) -> None:
    labels = label(CONFIG, range(40), "modified-bb")
    served = labels[labels.feasible]
    order = np.roll(np.arange(len(served)), 1)
    columns = {name: getattr(served, name)[order] for name in ("active", "power", "total_power_w", "lower_bound_w")}
    swapped = replace(served, **columns)
    swapped.check("memory")
    with pytest.raises(ValueError, match="decisions miss requirements that they are said to meet"):
        swapped.drops()


def test_a_zip_bomb_is_refused_before_it_is_inflated(parts: dict[str, Any], tmp_path: Path) -> None:
    for name, bomb in (("power", np.zeros((5, 10, 200_000), np.float32)), ("config", np.full((), "x" * 3_000_000))):
        path = tmp_path / f"{name}.npz"
        np.savez_compressed(path, **{**parts, name: bomb})
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"{name}.npz is not a whole label file"):
            Labels.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()


def test_drops_that_are_drawn_differently_now_are_refused() -> None:
    labels = label(CONFIG, range(2), "modified-bb")
    with pytest.raises(ValueError, match=r"no longer those that were labelled"):
        replace(labels, seeds=labels.seeds + 1).drops()


def test_shared_pilots_are_drawn_too() -> None:
    assert draw(replace(CONFIG, pilot_length=2), [0, 1]).problem.pilot_overlap is not None
