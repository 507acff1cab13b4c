"""`hetgnn` and `hetgnn-exact` with the shipped weights: feasible where they claim it, for any size and preset; bad input is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import agents
import baselines
import cfisac_env
from agents import tensorfile
from agents.hetgnn import weights
from agents.hetgnn.compiled import CompiledHeads
from agents.hetgnn.graph import build
from agents.hetgnn.search import Search
from baselines.allocation import Status, dual_bound, fast
from baselines.local_search import search
from cfisac_env import PRESETS, SystemConfig, actions, observations, sample, seeds
from cfisac_env.sampling import draw

assert cfisac_env.__version__
NAMES = ("hetgnn", "hetgnn-exact")

# Active APs and total power of the shipped weights on the test drops 1,000,000 and 1,000,001 of 30 APs and 6 users.
GOLDEN: dict[tuple[str, str], list[tuple[list[int], float]]] = {
    ("hetgnn", "paper"): [([8, 20], 0.574079460), ([0, 17], 0.562115291)],
    ("hetgnn", "high-rate"): [([5, 6, 8, 14, 20, 22, 26], 1.570234462), ([0, 2, 5, 14, 15, 17, 24], 1.564183307)],
    ("hetgnn", "precise-sensing"): [([7, 16, 20], 0.879284934), ([2, 17], 0.434738316)],
    ("hetgnn", "urban"): [([0, 8, 20], 0.806341200), ([15, 17, 19], 0.874790518)],
    ("hetgnn-exact", "paper"): [([8, 20], 0.564150608), ([0, 17], 0.561018593)],
    ("hetgnn-exact", "high-rate"): [([0, 6, 7, 8, 14, 20, 26], 1.564520437), ([0, 2, 4, 14, 15, 17, 24], 1.561216878)],
    ("hetgnn-exact", "precise-sensing"): [([7, 16, 20], 0.854703645), ([2, 17], 0.431268774)],
    ("hetgnn-exact", "urban"): [([0, 8, 20], 0.786816669), ([0, 15, 24], 0.903954485)],
}


@pytest.mark.parametrize(("name", "preset"), GOLDEN)
def test_the_shipped_weights_keep_their_decisions(name: str, preset: str) -> None:
    drops = draw(SystemConfig(30, 6, preset=preset), [1_000_000, 1_000_001])
    action, _ = agents.load(name).predict(observations.encode(drops))
    decision = actions.decode(action, drops.config.max_ap_power_w)
    assert [np.flatnonzero(active).tolist() for active in decision.active] == [aps for aps, _ in GOLDEN[name, preset]]
    total = drops.evaluate(decision).total_power
    np.testing.assert_allclose(total, [watts for _, watts in GOLDEN[name, preset]], rtol=0.0, atol=1e-6)


def _drops(n: int = 5, seed: int = 0, **fields: Any) -> Any:
    return sample(SystemConfig(**{"M": 12, "K": 4, **fields}), np.random.default_rng(seed), n)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_exact_powers_meet_every_requirement_on_every_feasible_drop(preset: str) -> None:
    policy, full = agents.load("hetgnn-exact"), baselines.make("full-ap")
    scenario = _drops(20, seed=11, preset=preset)
    action, _ = policy.predict(observations.encode(scenario))
    outcome = scenario.evaluate(actions.decode(action, scenario.config.max_ap_power_w))
    expected = [full.decide(scenario[i].problem).feasible for i in range(20)]
    np.testing.assert_array_equal(outcome.feasible, expected)
    assert sum(expected) > 5


def test_exact_powers_are_close_to_the_best_known_for_sizes_never_trained_on() -> None:
    scenario = sample(SystemConfig(M=24, K=7), np.random.default_rng(3), 8)
    action, _ = agents.load("hetgnn-exact").predict(observations.encode(scenario))
    outcome = scenario.evaluate(actions.decode(action, scenario.config.max_ap_power_w))
    best = np.array([search(scenario[i].problem).total_power_w for i in range(8)])
    served = np.isfinite(best)
    assert served.sum() >= 6
    assert np.asarray(outcome.feasible)[served].all()
    assert (np.asarray(outcome.total_power) / best - 1.0)[served].mean() < 0.02


def test_accepting_a_certified_gap_saves_solves_and_keeps_the_gap() -> None:
    scenario, network = sample(SystemConfig(M=20, K=5), np.random.default_rng(4), 12), weights.load()[0]
    graphs, solves, stopped = build(observations.encode(scenario)), {}, 0
    for accept in (0.0, 0.02):
        solves[accept] = 0
        for i in range(12):
            problem = scenario[i].problem
            with torch.inference_mode():
                run = Search(problem, CompiledHeads(network, network.embed(graphs[i : i + 1])), accept=accept)
            if run.price_prefixes(4) is None:
                assert not search(problem).feasible
                continue
            best = run.improve(8, 6)
            np.testing.assert_allclose(run.best_w, best.transmit_power + 0.2 * best.active.sum(), rtol=1e-12)
            assert run.lower_bound_w <= search(problem).lower_bound_w * (1 + 1e-6)
            solves[accept] += run.solves
            stopped += run.finished()
            if run.finished():
                assert run.best_w <= (1.0 + accept) * search(problem).total_power_w * (1 + 1e-6)
    assert solves[0.02] < solves[0.0]
    assert stopped > 5


def test_claims_of_own_powers_agree_with_the_physics() -> None:
    policy = agents.load("hetgnn")
    claims = []
    for preset in PRESETS:
        scenario = _drops(8, seed=5, M=20, preset=preset)
        observation = observations.encode(scenario)
        action, _ = policy.predict(observation)
        outcome = scenario.evaluate(actions.decode(action, scenario.config.max_ap_power_w))
        with torch.no_grad():
            graph, problem = build(observation), observations.decode(observation)
            answers = [policy.decide(problem[i], graph[i : i + 1]) for i in range(8)]
        np.testing.assert_array_equal([answer.feasible for answer in answers], outcome.feasible)
        claims += [answer.feasible for answer in answers]
    assert np.mean(claims) > 0.6


def test_the_bare_activation_is_the_heads_threshold() -> None:
    policy, observation = agents.load("hetgnn", extend=False), observations.encode(_drops(6))
    action, _ = policy.predict(observation)
    with torch.no_grad():
        embedding = policy.network.embed(build(observation))
        logits = policy.network.propose(embedding, torch.zeros(6, 12, dtype=torch.bool))
    np.testing.assert_array_equal(action[..., 0] >= 0, logits.numpy() >= 0)
    outcome = _drops(6).evaluate(actions.decode(action, _drops(6).config.max_ap_power_w))
    assert not outcome.feasible.all()
    assert (outcome.transmit_power[(logits >= 0).any(-1).numpy()] > 0.0).all()  # powers, even where they don't serve


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_decided_like_its_drops(name: str) -> None:
    policy, observation = agents.load(name), observations.encode(_drops(3))
    batch, state = policy.predict(observation)
    assert state is None
    assert batch.shape == (3, 12, 5)
    assert batch.dtype == np.float32
    for i in range(3):
        single, _ = policy.predict({key: value[i] for key, value in observation.items()})
        np.testing.assert_allclose(single, batch[i], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_stable_baselines3_evaluates_it(name: str) -> None:
    env = Monitor(gym.make("CfIsac-v0", M=12, K=3))
    rewards, _ = evaluate_policy(agents.load(name, M=12, K=3), env, n_eval_episodes=2, return_episode_rewards=True)
    assert np.isfinite(rewards).all()


def test_infeasible_drops_are_certified() -> None:
    observation = observations.encode(_drops(1, M=3, K=2, crlb_threshold_m2=1e-5))
    problem = observations.decode(observation)[0]
    with torch.no_grad():
        exact = agents.load("hetgnn-exact").decide(problem, build(observation))
        own = agents.load("hetgnn").decide(problem, build(observation))
    assert not own.feasible
    assert not exact.feasible
    assert exact.certificate is not None
    assert exact.certificate.status == Status.INFEASIBLE
    assert dual_bound(problem, exact.certificate.active, exact.certificate.multipliers) > 3 * 0.1


@pytest.mark.parametrize("status", [status for status in Status if status not in (Status.OPTIMAL, Status.LOCAL)])
def test_certificates_require_a_proof_of_infeasibility(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    observation = observations.encode(_drops(1, M=3, K=2, crlb_threshold_m2=1e-5))
    problem = observations.decode(observation)[0]
    solve = fast.solve

    def unsure(*args: Any, **options: Any) -> Any:
        answer = solve(*args, **options)
        return replace(answer, status=np.full(np.shape(answer.status), status))

    monkeypatch.setattr(fast, "solve", unsure)
    with torch.no_grad():
        answer = agents.load("hetgnn-exact").decide(problem, build(observation))
    assert not answer.feasible
    assert (answer.certificate is not None) == (status == Status.INFEASIBLE)


def test_the_weights_come_with_their_provenance() -> None:
    network, provenance = weights.load()
    card = (weights.SHIPPED.parent / "README.md").read_text(encoding="utf-8")
    assert tensorfile.digest(network) in card
    assert provenance["labels"]["drops"] >= 10_000
    assert provenance["labels"]["seeds"][1] < provenance["validation"]["seeds"][0]
    assert provenance["validation"]["seeds"][1] < seeds.TEST
    assert weights.SHIPPED.stat().st_size < 5e6


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused(name: str, tmp_path: Path) -> None:
    policy = agents.load(name, M=12, K=4)
    observation = {key: value[0] for key, value in observations.encode(_drops(1)).items()}
    with pytest.raises(ValueError, match=rf"{name} was built for M=12, but the observation has M=13"):
        policy.predict(observations.encode(_drops(1, M=13)))
    with pytest.raises(ValueError, match=r"needs the Dict observation"):
        policy.predict(np.zeros(30, np.float32))
    with pytest.raises(ValueError, match=r"lacks radar"):
        policy.predict({key: value for key, value in observation.items() if key != "radar"})
    with pytest.raises(ValueError, match=r"values that aren't finite"):
        policy.predict({**observation, "comm": np.full_like(observation["comm"], np.nan)})
    with pytest.raises(ValueError, match=r"shared pilots"):
        policy.predict(observations.encode(_drops(1, pilot_length=2)))
    with pytest.raises(FileNotFoundError, match=r"no file"):
        agents.load(name, path=tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"width must be 1 or more, got 0"):
        agents.load(name, width=0)
