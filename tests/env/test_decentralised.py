"""Every AP an agent: what it sees, what all of them do together, and rules that decide alone."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from baselines.decentralised import OwnLinks, SharedSensing
from cfisac_env.decentralised import CfIsacParallelEnv
from experiments.examples import decentralised

VALIDATION = 900_000


@pytest.mark.parametrize("fields", [{}, {"episode_steps": 4}, {"pilot_length": 1}, {"S": 2, "budget": 10}])
def test_it_is_a_parallel_environment_of_pettingzoo(fields: dict[str, Any]) -> None:
    def made() -> CfIsacParallelEnv:
        return CfIsacParallelEnv(M=5, K=2, **fields)

    parallel_api_test(made(), num_cycles=6)
    parallel_seed_test(made, num_cycles=6)
    env = made()
    for agent, observation in env.reset(seed=1)[0].items():
        assert env.observation_space(agent).contains(observation)
    state: Any = env.state()
    assert env.state_space.contains(state)


@pytest.mark.parametrize("budget", [0, 3, 4, 7])
def test_an_ap_sees_its_own_links_and_the_shared_numbers_alone(budget: int) -> None:
    env, central = CfIsacParallelEnv(M=6, K=2, budget=budget), gym.make("CfIsac-v0", M=6, K=2)
    seen, (whole, _) = env.reset(seed=VALIDATION)[0], central.reset(seed=VALIDATION)
    rows = np.concatenate([whole["sensing"].reshape(6, -1), whole["comm"].reshape(6, -1)], axis=1)
    for m, observation in enumerate(seen.values()):
        assert set(observation) == {"ap", "comm", "own", "radar", "requirement", "sensing", "shared"}
        for key in ("ap", "comm", "radar", "sensing"):
            np.testing.assert_array_equal(observation[key], whole[key][m])
        np.testing.assert_array_equal(observation["shared"], rows[:, :budget])
        assert np.flatnonzero(observation["own"]).tolist() == [m]


def test_joint_actions_earn_what_the_central_controller_earns_with_them() -> None:
    env, central = CfIsacParallelEnv(M=6, K=2, episode_steps=2), gym.make("CfIsac-v0", M=6, K=2, episode_steps=2)
    env.reset(seed=VALIDATION)
    central.reset(seed=VALIDATION)
    for last in (False, True):
        action = central.action_space.sample()
        _, rewards, terminated, truncated, infos = env.step(dict(zip(env.agents, action, strict=True)))
        _, expected, *_, info = central.step(action)
        assert set(rewards.values()) == {expected}
        assert not any(terminated.values())
        assert set(truncated.values()) == {last}
        assert infos["ap_3"]["total_power_w"] == info["total_power_w"]
    assert env.agents == []


def test_rules_agree_on_the_set_and_locate_the_target() -> None:
    env = CfIsacParallelEnv(M=20, K=4, budget=3)
    rule = SharedSensing(extra=1)
    for seed in range(VALIDATION, VALIDATION + 20):
        seen, _ = env.reset(seed=seed)
        scenario = env.env.scenario
        ranking = np.argsort(-scenario.fisher[:, 0, :2].sum(-1))
        _, _, _, _, infos = env.step({agent: rule.action(one) for agent, one in seen.items()})
        info = infos["ap_0"]
        size = int(info["active_aps"])
        power = np.zeros(20)
        power[ranking[:size]] = info["transmit_power_w"] / size  # the same from every AP of the prefix
        a, b, c = (power @ scenario.fisher[:, 0]).tolist()
        crlb = np.trace(np.linalg.inv(np.array([[a, c], [c, b]])))
        assert info["crlb_m2"][0] == pytest.approx(crlb, rel=1e-4)
        assert crlb <= 1.0 or size == 20
        full = scenario.fisher[ranking[: size - 2], 0].sum(0) * 0.1  # a shorter prefix, at full power
        if size - 1 > 2:  # ⌊K γ_thr⌋ + 1 APs
            assert np.trace(np.linalg.inv(np.array([[full[0], full[2]], [full[2], full[1]]]))) > 1.0


def test_an_ap_without_shared_numbers_decides_by_its_own_information() -> None:
    env = CfIsacParallelEnv(M=12, K=3, budget=0)
    seen, _ = env.reset(seed=VALIDATION)
    share = 0.1 / 4 * env.env.scenario.fisher[:, 0, :2].sum(-1)
    acted = [OwnLinks(threshold=0.1).action(one) for one in seen.values()]
    assert [bool(one[0] >= 0.0) for one in acted] == (share >= 0.1).tolist()
    with pytest.raises(
        ValueError, match="SharedSensing needs a budget of 3 S = 3 numbers per AP, this environment has 0"
    ):
        SharedSensing(0).action(seen["ap_0"])


def test_wrong_budgets_and_actions_are_refused() -> None:
    for budget in (-1, 8, 1.5, True):
        with pytest.raises(ValueError, match=r"budget must be a whole number from 0 to 3 S \+ 2 K = 7"):
            CfIsacParallelEnv(M=3, K=2, budget=budget)  # type: ignore[arg-type]
    env = CfIsacParallelEnv(M=3, K=2)
    with pytest.raises(RuntimeError, match="has to be reset"):
        env.state()
    env.reset(seed=0)
    action = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="missing: ap_1, ap_2"):
        env.step({"ap_0": action})
    with pytest.raises(ValueError, match=r"the action of ap_2 must have shape \(3,\)"):
        env.step({"ap_0": action, "ap_1": action, "ap_2": action[:2]})


def test_the_comparison_holds_the_central_oracle_below_the_rules() -> None:
    rows = decentralised.compare(decentralised.DecentralisedCommand(M=8, K=2, drops=4, tuning=2))
    gaps = {row.rule.split("(")[0]: row.gap for row in rows}
    assert gaps["local-search"] == 0.0
    assert all(not gap < -1e-4 for gap in gaps.values())
    assert [row.numbers for row in rows[:2]] == ["0", "3"]
