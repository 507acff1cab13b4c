"""The benchmark: tiers, entries of any kind of policy, scores, and the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cfisac_env import SystemConfig, seeds
from cfisac_env.wrappers import CanonicalOrder
from experiments import cli
from experiments.benchmark import entries, leaderboard, played, policies, scores
from experiments.benchmark import tiers as module
from experiments.benchmark.tiers import Case, EpisodeTier, Tier, episode_tiers, tiers
from experiments.results import Table

ROOT = Path(__file__).parents[2]
STORED = sorted((ROOT / "docs" / "leaderboard").glob("*.json"))

OWN = """
import numpy as np

class Everything:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        shape = observation["comm"].shape[:2]
        return np.ones((shape[0], shape[1] + 1), np.float32), state

class Informative:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["sensing"][..., :2].max((-2, -1)) / 20, state

class Waking:  # on from the second step of an episode, counted in its state
    knows = "nothing"

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = 0 if episode_start[0] else state + 1
        shape = observation["comm"].shape[:2]
        return np.full((shape[0], shape[1] + 1), 1.0 if count else -1.0, np.float32), count

one, nothing = Everything(), object()
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Tier]:
    """Three small tiers of drops and one of episodes, with their reference."""
    made = {
        "a": Tier("a", (Case(SystemConfig(M=8, K=2), 6),)),
        "b": Tier("b", (Case(SystemConfig(M=8, K=3), 3), Case(SystemConfig(M=9, K=2, preset="urban"), 3))),
        "p": Tier("p", (Case(SystemConfig(M=8, K=2), 6),), priorities=True),
    }
    moving = {
        "m": EpisodeTier("m", SystemConfig(M=6, K=2, T=4, crlb_threshold_m2=4), 8.0, 0, episodes=3, episode_steps=12)
    }
    for where in (module, entries, leaderboard):
        monkeypatch.setattr(where, "tiers", lambda: made)
        monkeypatch.setattr(where, "episode_tiers", lambda: moving)
    monkeypatch.setattr(entries, "REFERENCE", tmp_path / "reference.json")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", "reference", "--out", "reference.json"]) == 0
    return made


def test_tiers_have_test_drops_and_fit_the_stored_reference() -> None:
    reference = entries.reference()
    assert reference.keys() == tiers().keys()
    for name, tier in tiers().items():
        assert all(case.seed >= seeds.TEST for case in tier.cases)
        assert len({case.name for case in tier.cases}) == len(tier.cases) or name == "random"
        rule, best, bound = (np.array(reference[name][key], dtype=float) for key in ("rule_w", "best_w", "bound_w"))
        assert len(rule) == tier.drops
        served = np.isfinite(best)
        assert (rule[served] >= best[served]).all()
        assert (bound[served] <= best[served] * (1 + 1e-6)).all()
        assert scores.telling(rule, best).sum() >= 10
    configs = [case.config for case in tiers()["random"].cases]
    assert len(set(configs)) == len(configs) == 60


def test_episodes_of_the_stored_reference_fit_their_tiers() -> None:
    reference = entries.reference_episodes()
    assert reference.keys() == episode_tiers().keys()
    for name, tier in episode_tiers().items():
        known = {key: np.array(values) for key, values in reference[name].items()}
        assert {len(values) for values in known.values()} == {tier.episodes}
        assert tier.episodes >= 24
        assert (known["seeds"] >= seeds.TEST).all()
        assert (np.diff(known["seeds"]) > 0).all()
        assert (known["bound_j"] < known["best_j"]).all()
        assert (known["best_j"] <= known["rule_j"] * (1 + 1e-6)).mean() > 0.9  # the rule serves less, and may cost less


def test_the_score_of_episodes_is_the_share_of_the_room_and_leaves_out_savings_by_serving_less() -> None:
    rule, best, rule_served = np.array([100.0, 60.0]), np.array([60.0, 50.0]), np.array([1.0, 0.9])

    def score(energy: list[float], served: list[float]) -> float:
        return scores.room_closed(np.array([energy]), np.array([served]), rule, rule_served, best).value

    assert score([100.0, 60.0], [1.0, 0.9]) == 0.0
    assert score([60.0, 50.0], [1.0, 1.0]) == 100.0
    assert score([80.0, 55.0], [1.0, 0.9]) == pytest.approx(50.0)
    assert score([80.0, 10.0], [1.0, 0.5]) == pytest.approx(40.0)
    assert score([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert score([300.0, 60.0], [1.0, 1.0]) == 0.0
    many = scores.room_closed(np.array([[80.0, 55.0], [60.0, 50.0]]), np.ones((2, 2)), rule, rule_served, best)
    assert many.value == pytest.approx(75.0)
    assert many.low < 75.0 < many.high


def test_scores_are_what_the_protocol_says() -> None:
    rule, best = np.array([2.0, 2.0, 2.0, 2.0]), np.array([1.0, 1.0, 1.0, 1.0])
    total = np.array([2.0, 1.0, np.sqrt(2.0), 3.0])
    assert_allclose(scores.score(total, np.ones(4, bool), rule, best), [0.0, 100.0, 50.0, 0.0], atol=1e-9)
    assert_allclose(scores.score(total, np.zeros(4, bool), rule, best), 0.0)
    assert scores.score(np.full(4, 0.9), np.ones(4, bool), rule, best)[0] > 100.0
    assert scores.telling(np.array([1.0, 1.1, np.inf]), np.ones(3)).tolist() == [False, True, False]
    one = scores.summarise([np.array([[0.0, 40.0, 60.0, 100.0]])])
    assert one.value == 50.0
    assert one.low < 50.0 < one.high
    flat = scores.summarise([np.full((5, 8), 70.0), np.full((5, 4), 70.0)])
    assert (flat.value, flat.low, flat.high) == (70.0, 70.0, 70.0)


def test_policies_of_every_kind_are_played_scored_and_ranked(
    small: dict[str, Tier], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_policy.py").write_text(OWN)
    for extra in (
        ["--policy", "most-informative"],
        ["--policy", "local-search"],
        [
            "--policy",
            "own_policy:one",
            "own_policy:Everything",
            "--training-seeds",
            "3",
            "4",
            "--steps",
            "10",
            "--core-minutes",
            "1",
        ],
        ["--policy", "ddpg", "--training-seeds", "0", "--steps", "48000", "--core-minutes", "15", "--tiers", "a"],
        ["--policy", "own_policy:Informative", "--tiers", "p"],
        *(["--policy", name] for name in ("hysteresis", "predictive", "clairvoyant")),
        ["--policy", "own_policy:Waking", "--tiers", "m"],
    ):
        assert cli.main(["benchmark", "run", *extra, "--out", "entries"]) == 0, capsys.readouterr().err
    assert cli.main(["benchmark", "leaderboard", "--entries", "entries", "--out", "page"]) == 0
    assert (tmp_path / "page" / "leaderboard.png").stat().st_size > 10_000
    read = [entries.read(path) for path in (tmp_path / "entries").iterdir()]
    found = {one["name"]: row for one in read if (row := leaderboard.on_drops(one, entries.reference())) is not None}
    assert found["most-informative"].overall is not None
    assert found["most-informative"].overall.value == 0.0
    assert found["local-search"].overall is not None
    assert found["local-search"].overall.value == pytest.approx(100.0, abs=0.1)
    assert found["one"].seeds == 2
    assert found["one"].served < 1.0 or found["one"].gap > 1.0
    assert (found["ddpg"].overall, found["ddpg"].served, list(found["ddpg"].tiers)) == (None, 1.0, ["a"])
    assert found["Informative"].tiers["p"].value == found["most-informative"].tiers["p"].value == 0.0
    assert found["local-search"].tiers["p"].value == pytest.approx(100.0, abs=0.1)
    moved = {
        one["name"]: standing
        for one in read
        if (standing := leaderboard.on_episodes(one, entries.reference_episodes())) is not None
    }
    assert moved["hysteresis"].tiers["m"].value == pytest.approx(0.0, abs=1e-6)
    assert moved["clairvoyant"].tiers["m"].value == pytest.approx(100.0)
    assert 0.0 < moved["predictive"].tiers["m"].value <= 100.0
    assert moved["clairvoyant"].knows == "whole episode"
    assert moved["Waking"].served["m"] == pytest.approx(11 / 12)
    assert moved["Waking"].knows == "nothing"
    page = (tmp_path / "page" / "leaderboard.md").read_text(encoding="utf-8")
    assert page.index("local-search") < page.index("`ddpg`")


def test_priorities_are_decided_as_their_environment_does(tmp_path: Path) -> None:
    import gymnasium as gym

    class Random:
        def predict(self, observation: Any, **options: Any) -> tuple[Any, None]:
            return np.random.default_rng(observation["comm"].shape[0]).uniform(-1, 1, len(observation["ap"])), None

    for canonical in (False, True):
        env: Any = gym.make("CfIsacPriority-v0", M=9, K=2)
        plain = gym.make("CfIsac-v0", M=9, K=2)
        if canonical:
            env = CanonicalOrder(env)
        policy = played.Prioritised(Random(), "random", canonical=canonical)
        for seed in range(5):
            observation, _ = env.reset(seed=seed)
            same, _ = plain.reset(seed=seed)
            *_, expected = env.step(Random().predict(observation)[0])
            *_, got = plain.step(policy.predict(same)[0])
            assert got["active_aps"] == expected["active_aps"]
            assert got["total_power_w"] == pytest.approx(expected["total_power_w"], rel=1e-4)


def test_decisions_are_not_made_again(small: dict[str, Tier], monkeypatch: pytest.MonkeyPatch) -> None:
    run = ["benchmark", "run", "--policy", "strongest-ap", "--out", "entries"]
    assert cli.main(run) == 0
    first = json.loads(Path("entries/strongest-ap.json").read_text())
    monkeypatch.setattr("baselines.heuristics.StrongestApPolicy.decide", None)
    assert cli.main(run) == 0
    assert json.loads(Path("entries/strongest-ap.json").read_text())["tiers"] == first["tiers"]


def test_a_foreign_policy_without_a_digest_decides_anew(small: dict[str, Tier], tmp_path: Path) -> None:
    class Foreign:
        decided = 0

        def predict(self, observation: Any, **options: Any) -> tuple[Any, None]:
            self.decided += 1
            M, K = observation["comm"].shape[:2]
            return np.ones((M, K + 1), np.float32), None

    class Versioned(Foreign):
        digest = "1"

    for policy, again in ((Foreign(), True), (Versioned(), False)):
        entries.play([policy], ["a"], tmp_path / "kept", lambda: None)
        first = policy.decided
        entries.play([policy], ["a"], tmp_path / "kept", lambda: None)
        assert first > 0
        assert (policy.decided > first) == again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "nosuch"], "unknown policy 'nosuch'"),
        ([], "--policy needs a policy"),
        (["--policy", "ddpg"], "a trained policy needs --training-seeds"),
        (
            ["--policy", "ddpg", "--training-seeds", "0", "1", "--steps", "5", "--core-minutes", "1"],
            "1 policies, 2 seeds",
        ),
        (["--policy", "ddpg", "--training-seeds", "0", "--core-minutes", "1"], "0 steps"),
        (["--policy", "ddpg=x", "--training-seeds", "0", "--steps", "5"], "0 minutes"),
        (["--policy", "most-informative", "--tiers", "nosuch"], "no tier 'nosuch'"),
        (["--policy", "own_policy:Informative", "--tiers", "paper-30x6"], "take priorities"),
        (["--policy", "own_policy:nothing"], "has no method predict"),
        (["--policy", "own_policy:nosuch"], "cannot be imported"),
        (["--policy", "nosuch.module:one"], "cannot be imported"),
        (["--policy", "ppo=model.zip", "--training-seeds", "0", "--steps", "5", "--core-minutes", "1"], "add --trust"),
        (["--policy", "ddpg=nosuch", "--training-seeds", "0", "--steps", "5", "--core-minutes", "1"], "no file nosuch"),
        (["--policy", "most-informative", "--name", "a/b"], "is the name of a file"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_policy.py").write_text(OWN)
    assert cli.main(["benchmark", "run", *arguments, "--out", "entries"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "entries").exists()


def _without_seeds(entry: Any) -> None:
    entry["training"] = {"steps": 5, "core_minutes": 1.0}


def _twice(entry: Any) -> None:
    entry["training"]["seeds"] = [0, 0]


def _more_seeds(entry: Any) -> None:
    entry["training"]["seeds"] = [0, 1, 2]


def _short(entry: Any) -> None:
    next(iter(entry["tiers"].values()))["runs"][0]["total_power_w"].pop()


def _unknown(entry: Any) -> None:
    entry["tiers"]["nosuch"] = entry["tiers"].popitem()[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_seeds, "damaged at training"), (_twice, "must differ"), (_more_seeds, "runs and the entry 3 training seeds"),
        (_short, "drops, and a run"), (_unknown, "there is no tier 'nosuch'"),
    ],
)  # fmt: skip
def test_entries_that_say_too_little_or_do_not_fit_are_refused(
    damage: Any, message: str, small: dict[str, Tier], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_policy.py").write_text(OWN)
    training = ["--training-seeds", "0", "1", "--steps", "10", "--core-minutes", "1"]
    run = ["benchmark", "run", "--policy", "own_policy:one", "own_policy:one", *training, "--out", "entries"]
    assert cli.main(run) == 0
    path = tmp_path / "entries" / "one.json"
    entry = json.loads(path.read_text())
    damage(entry)
    path.write_text(json.dumps(entry))
    assert cli.main(["benchmark", "leaderboard", "--entries", "entries", "--out", "page"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_entries_are_read_and_stand_in_the_stored_page(path: Path) -> None:
    entry = entries.read(path)
    page = (ROOT / "docs" / "results" / "leaderboard" / "leaderboard.md").read_text(encoding="utf-8")
    tables: list[Table[Any]] = []
    if (drops := leaderboard.on_drops(entry, entries.reference())) is not None:
        tables.append(leaderboard.drop_table([drops], entries.reference()))
    if (moved := leaderboard.on_episodes(entry, entries.reference_episodes())) is not None:
        tables += [leaderboard.episode_table([moved], tier) for tier in moved.tiers]
    assert tables
    for table in tables:
        assert table.markdown().splitlines()[2] in page


def test_a_model_of_stable_baselines3_is_played_when_its_file_is_trusted(tmp_path: Path) -> None:
    import gymnasium as gym
    from stable_baselines3 import PPO

    model = PPO("MultiInputPolicy", gym.make("CfIsac-v0", M=8, K=2), n_steps=8, batch_size=8)
    model.save(tmp_path / "model.zip")
    loaded = policies.build(f"ppo={tmp_path / 'model.zip'}", trust=True)
    observation, _ = gym.make("CfIsac-v0", M=8, K=2).reset(seed=0)
    assert loaded.predict(observation)[0].shape == (8, 3)
