"""Configurations that agents were trained for: a warning where they decide others, and only there."""

from __future__ import annotations

import dataclasses
import warnings
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import agents
import baselines
from agents.coverage import NEUTRAL, SIZES
from cfisac_env import PRESETS, SystemConfig
from experiments import compare, outputs

PRESETS_OF = {
    "hetgnn": set(PRESETS), "hetgnn-exact": set(PRESETS), "ddpg": {"paper", "urban"}, "grpo": {"paper", "urban"},
    "ddpg-paper": {"paper"}, "hetgnn-paper": {"paper"},
}  # fmt: skip
CHANGED: dict[str, Any] = {
    "reward": "power",
    "rcs_model": "exponential",
    "pilot_assignment": "greedy",
    "effective_bandwidth_hz": 5e6,
}


@lru_cache
def loaded(name: str) -> Any:
    return agents.load(name, M=30, K=6)


def changed(config: SystemConfig, name: str) -> SystemConfig:
    """The configuration with another value of one field."""
    value = getattr(config, name)
    other = CHANGED[name] if name in CHANGED else value + 1 if isinstance(value, int) else 0.9 * value
    return SystemConfig(**{**config.as_dict(), name: other})


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", PRESETS_OF)
def test_an_agent_was_trained_for_its_presets_and_for_no_other(name: str, preset: str) -> None:
    config = SystemConfig(30, 6, preset=preset)
    differing = agents.trained_for(loaded(name), config)
    assert (not differing) == (preset in PRESETS_OF[name])
    assert set(differing) <= set(PRESETS[preset])


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SystemConfig) if field.name != "preset"])
@pytest.mark.parametrize("name", PRESETS_OF)
def test_every_field_that_differs_is_named(name: str, field: str) -> None:
    config = SystemConfig(30, 6)
    other = changed(config, field)
    free = (*NEUTRAL, *(SIZES if name != "ddpg-paper" else ()))
    differing = agents.trained_for(loaded(name), other)
    assert {name: here for name, (_, here) in differing.items()} == (
        {} if field in free else {field: getattr(other, field)}
    )


def test_oracles_and_networks_of_unknown_origin_are_bound_to_nothing() -> None:
    from agents.hetgnn.policy import HetGnnPolicy
    from agents.hetgnn.weights import load

    urban = SystemConfig(30, 6, preset="urban", rcs_m2=10.0)
    assert not agents.trained_for(baselines.make("strongest-ap"), urban)
    assert not agents.trained_for(HetGnnPolicy(network=load()[0]), urban)


@pytest.mark.parametrize("name", PRESETS_OF)
def test_loading_for_another_configuration_warns_and_deciding_does_not_warn_again(name: str) -> None:
    config = SystemConfig(30, 6, preset="urban", rcs_m2=10.0)
    with pytest.warns(
        agents.UntrainedConfigurationWarning, match=rf"^{name} wasn't trained for .*rcs_m2 10 \(trained: 1\)"
    ):
        policy = agents.load(name, config=config)
    policy.predict(gym.make("CfIsac-v0", **config.as_dict()).reset(seed=0)[0])
    agents.load(name, config=SystemConfig(30, 6))  # which it was trained for: warnings are errors here


@pytest.mark.parametrize("name", PRESETS_OF)
def test_deciding_warns_once_where_the_requirements_are_others(name: str) -> None:
    policy = agents.load(name, M=30, K=6)
    drops = {
        gamma: gym.make("CfIsac-v0", M=30, K=6, sinr_threshold_db=gamma).reset(seed=0)[0] for gamma in (-5.6, -7.0)
    }
    policy.predict(drops[-5.6])
    with pytest.warns(agents.UntrainedConfigurationWarning, match=r"sinr_threshold_db -7 \(trained: -\d") as seen:
        policy.predict({key: np.stack([value, value]) for key, value in drops[-7.0].items()})
    assert len(seen) == 1
    policy.predict(drops[-7.0])


def test_a_comparison_says_which_agents_were_trained_for_something_else() -> None:
    config = SystemConfig(30, 6, crlb_threshold_m2=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", agents.UntrainedConfigurationWarning)
        comparison = compare.run(config, compare.build(["ddpg-paper", "strongest-ap"], config), 1)
    rows = {row.policy: row.untrained for row in compare.summarise(comparison)}
    assert rows == {"ddpg-paper": "crlb_threshold_m2 0.5 (trained: 1)", "strongest-ap": ""}
    notes = outputs.table(comparison, compare.summarise(comparison)).notes
    assert notes.endswith("; `ddpg-paper` wasn't trained for crlb_threshold_m2 0.5 (trained: 1)")
