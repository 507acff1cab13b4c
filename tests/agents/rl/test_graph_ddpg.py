"""The graph DDPG: sets that grow along an actor's scores, the critic's moves, the replay of drops, and Stable-Baselines3 around them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import baselines
from agents.rl.drop_batch import KEYS, DropBatch, turned
from agents.rl.drop_replay import DropReplay, PlayedDrops
from agents.rl.graph_ddpg import GraphDDPG, best_containing
from agents.rl.mixed_vec_env import MixedVecEnv, RotatingVecEnv
from agents.rl.relative_power import RelativePower
from agents.rl.set_actor import SetActor, grow
from agents.rl.set_beam import beam_search
from agents.rl.set_critic import SetCritic
from agents.rl.set_moves import improved, random_moves
from agents.rl.set_policy import SetPolicy, alternating
from agents.rl.vec_env import SB3VecEnv
from cfisac_env import PRESETS, SystemConfig, actions, observations, sample

SIZE = {"M": 10, "K": 3}


def part(count: int, **fields: Any) -> SB3VecEnv:
    options: dict[str, Any] = {**SIZE, "decisions_per_drop": 10, **fields}
    return SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=count, autoreset_mode="SameStep", **options))


def environments(count: int = 4, **fields: Any) -> RelativePower:
    return RelativePower(part(count, **fields))


def two_sizes() -> RelativePower:
    small = MixedVecEnv([part(2), part(2, preset="urban")])
    return RelativePower(RotatingVecEnv([small, part(3, M=14, K=4)]))


def policy(**options: Any) -> SetPolicy:
    torch.manual_seed(0)
    env = gym.make("CfIsac-v0", M=10, K=3)
    return SetPolicy(env.observation_space, env.action_space, lambda _: 1e-3, **options)


def observed(preset: str = "paper", count: int = 5, **fields: Any) -> Any:
    return sample(SystemConfig(**{**SIZE, "preset": preset, **fields}), np.random.default_rng(3), count)


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_drop_that_can_be_served_is_served_at_every_size(preset: str, search: bool) -> None:
    agent, full = policy(search=search), baselines.make("full-ap")
    for size in ({"M": 10, "K": 3}, {"M": 7, "K": 1}, {"M": 18, "K": 5}):
        drops = observed(preset, **size)
        action, _ = agent.predict(observations.encode(drops))
        assert action.shape == (5, size["M"], size["K"] + 1)
        outcome = drops.evaluate(actions.decode(action, drops.config.max_ap_power_w))
        wanted = [full.decide(drops[i].problem).feasible for i in range(5)]
        np.testing.assert_array_equal(outcome.feasible, wanted)


def test_a_batch_is_decided_like_its_drops_also_where_requirements_differ() -> None:
    agent = policy()
    parts = [observations.encode(observed(preset, 2)) for preset in ("paper", "urban", "high-rate")]
    batch = {key: np.concatenate([part[key] for part in parts])[[4, 0, 3, 1, 5, 2]] for key in KEYS}
    one_by_one = np.stack([agent.predict({key: value[i] for key, value in batch.items()})[0] for i in range(6)])
    together = agent.decide(DropBatch(batch))
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_numbering_aps_and_users_otherwise_numbers_the_decision_otherwise() -> None:
    agent, drop = policy(), {key: value[:1] for key, value in observations.encode(observed("urban")).items()}
    rng = np.random.default_rng(0)
    ap, ue = rng.permutation(10), rng.permutation(3)
    other = {**drop, **{key: drop[key][:, ap] for key in ("ap", "comm", "radar", "sensing")}}
    other["comm"], other["ue"] = other["comm"][:, :, ue], drop["ue"][:, ue]
    first, second = (agent.predict(o)[0][0] for o in (drop, other))
    np.testing.assert_allclose(second, first[ap][:, np.concatenate([[0], 1 + ue])], atol=1e-4)


def test_search_and_completions_never_cost_power() -> None:
    drops = observed("urban", 8)
    observation = observations.encode(drops)

    def total(**options: Any) -> NDArray[np.float64]:
        action, _ = policy(**options).predict(observation)
        return np.asarray(drops.evaluate(actions.decode(action, drops.config.max_ap_power_w)).total_power)

    plain, completed = total(completions=1, beams=1, search=False), total(beams=1, search=False)
    assert total(beams=8, search=False).mean() <= completed.mean() <= plain.mean()
    completed = total(search=False)
    assert (total(completions=8, search=True) <= completed * (1 + 1e-5)).all()


def test_where_closed_forms_end_short_the_exact_allocator_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    from baselines.allocation.closed_form import ScaledDrops

    monkeypatch.setattr(ScaledDrops, "transmit_power", lambda self, sets, drop=None: np.full(len(sets), np.inf))
    drops = observed()
    action, _ = policy().predict(observations.encode(drops))
    decision = actions.decode(action, drops.config.max_ap_power_w)
    served = np.array([baselines.make("full-ap").decide(drops[i].problem).feasible for i in range(5)])
    assert served.any()
    np.testing.assert_array_equal(drops.evaluate(decision).feasible, served)
    assert (decision.active.sum(-1)[served] < 10).all()


def test_grown_sets_are_prefixes_of_their_rankings_up_to_the_last_ap() -> None:
    batch, actor = DropBatch(observations.encode(observed("urban", 6))), SetActor()
    noise = np.random.default_rng(0).gumbel(size=(12, 10))
    embedding = actor.embed(batch.graph)
    grown = grow(
        lambda rows, on: actor(embedding[rows], on), batch.scaled, batch.fewest, 3, np.tile(np.arange(6), 2), noise
    )
    for active, ranking, fewest in zip(grown.sets, grown.ranking, np.tile(batch.fewest, 2), strict=True):
        size = int(active.sum())
        assert sorted(ranking.tolist()) == list(range(10))
        assert set(ranking[:size].tolist()) == set(np.flatnonzero(active).tolist())
        assert size >= fewest
    totals = batch.scaled.transmit_power(grown.sets, np.tile(np.arange(6), 2))
    np.testing.assert_array_equal(np.isfinite(totals), grown.served)


def test_one_beam_grows_the_sets_of_the_likeliest_ranking() -> None:
    batch, actor = DropBatch(observations.encode(observed("urban", 6))), SetActor()
    embedding = actor.embed(batch.graph)

    def score(rows: torch.Tensor, on: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = actor(embedding[rows], on)
        return scores

    grown = grow(score, batch.scaled, batch.fewest, 3)
    sets, served = beam_search(score, batch.scaled, batch.fewest, 3, beams=1)
    np.testing.assert_array_equal(served, grown.served)
    np.testing.assert_array_equal(sets[served], grown.sets[served])


def test_beams_that_hold_every_set_find_the_cheapest_of_the_fewest_aps_that_serve() -> None:
    batch = DropBatch(observations.encode(observed("urban", 5, M=8)))

    def blind(rows: torch.Tensor, on: torch.Tensor) -> torch.Tensor:
        return torch.zeros(on.shape).masked_fill(on, -torch.inf)

    sets, served = beam_search(blind, batch.scaled, batch.fewest, 8, beams=70)
    assert served.any()
    for i in range(5):
        for size in range(1, 9):
            every = np.array([[m in chosen for m in range(8)] for chosen in itertools.combinations(range(8), size)])
            totals = batch.scaled.transmit_power(every, np.full(len(every), i))
            if np.isfinite(totals).any():
                assert served[i]
                np.testing.assert_array_equal(sets[i], every[totals.argmin()])
                break
        else:
            assert not served[i]


def test_random_moves_are_swaps_additions_removals_and_merges() -> None:
    rng = np.random.default_rng(0)
    sets = np.array([[True] * 3 + [False] * 5, [True] + [False] * 7, [True] * 8])
    moves = random_moves(sets, 400, rng)
    kinds = [
        set(zip((before & ~after).sum(-1).tolist(), (after & ~before).sum(-1).tolist(), strict=True))
        for before, after in zip(sets, moves, strict=True)
    ]
    assert kinds[0] == {(1, 1), (0, 1), (1, 0), (2, 1)}
    assert kinds[1] == {(1, 1), (0, 1), (0, 0)}
    assert kinds[2] <= {(0, 0), (1, 0), (2, 0)}
    assert moves.any(-1).all()


def test_a_search_on_many_drops_never_costs_power_and_serves_some_that_its_start_does_not() -> None:
    batch = DropBatch(observations.encode(observed("urban", 8, M=14)))
    critic, rows = SetCritic(), np.arange(8)
    views = critic.embed(batch.graph)
    start = np.random.default_rng(1).random((8, 14)) < 0.5

    def total(sets: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray(batch.scaled.transmit_power(sets, rows) + sets.sum(-1) * batch.scaled.circuit_power)

    before, after = total(start), total(improved(critic, batch.scaled, views, start, np.random.default_rng(2)))
    assert (after <= before).all()
    assert (after < before).sum() >= 6


def test_turning_a_network_changes_neither_its_powers_nor_what_a_set_is_worth() -> None:
    graph = DropBatch(observations.encode(observed("urban", 4))).graph
    other = turned(graph, np.random.default_rng(0))
    assert (other.ap[..., :2] != graph.ap[..., :2]).any()
    torch.testing.assert_close(other.ap[..., :2].norm(dim=-1), graph.ap[..., :2].norm(dim=-1))
    torch.testing.assert_close(other.drops.fisher, graph.drops.fisher)
    torch.testing.assert_close(other.edges["comm"], graph.edges["comm"])


def test_the_critic_values_a_set_whatever_else_is_asked() -> None:
    critic: Any = SetCritic()
    batch = DropBatch(observations.encode(observed("urban", 2)))
    torch.nn.init.normal_(critic.head[-1].weight)
    sets = torch.from_numpy(np.random.default_rng(0).random((2, 7, 10)) < 0.4)
    view = critic.embed(batch.graph)
    together = critic(view, sets)
    for i in range(7):
        torch.testing.assert_close(critic(view, sets[:, i : i + 1]), together[:, i : i + 1])
    assert torch.isfinite(critic(view, torch.zeros(2, 1, 10, dtype=torch.bool))).all()


def test_every_second_move_is_the_one_that_the_critic_values_most_the_others_are_random() -> None:
    torch.manual_seed(0)
    critic: Any = SetCritic()
    torch.nn.init.normal_(critic.head[-1].weight)
    view = critic.embed(DropBatch(observations.encode(observed("urban", 1))).graph)
    pool = np.random.default_rng(2).random((40, 10)) < 0.4
    with torch.no_grad():
        value = critic(view, torch.from_numpy(pool)[None])[0, :, 0].numpy()
        orders = [np.argsort(-alternating(critic, view, np.random.default_rng(i), 100)(pool)) for i in range(2)]
        blind = np.argsort(-alternating(critic, view, np.random.default_rng(0), 1)(pool))
    for ranked in (*orders, blind):
        assert sorted(ranked) == list(range(40))
    best = np.argsort(-value)
    for ranked in orders:
        for k in range(20):  # values in other batches differ by rounding
            assert (value[ranked[: 2 * k + 1]] >= value[best[k]] - 1e-4 * np.ptp(value)).sum() > k
        assert not np.isin(ranked[:20], best[:15]).all()
    assert (orders[0] != orders[1]).any()


def test_sizes_take_turns_and_the_replay_keeps_them_apart() -> None:
    env: Any = two_sizes()
    assert env.seed(7) == [7, 8, 9, 10, 11, 12, 13]
    observation: Any = env.reset()
    replay = DropReplay(40, env.observation_space, env.action_space, n_envs=4)
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(40):
        n, M, K = observation["comm"].shape[:3]
        assert n == env.num_envs
        sizes.append((n, M, K))
        after, reward, done, infos = env.step(rng.uniform(-1, 1, (n, M, K + 1)))
        assert len(reward) == len(infos) == n
        replay.add(observation, after, rng.uniform(-1, 1, (n, M, K + 1)), reward, done, infos)
        observation = after
    assert sizes == 2 * ([(4, 10, 3)] * 10 + [(3, 14, 4)] * 10)
    assert replay.size() == 2 * (4 + 3)
    drawn = [replay.draw(8, rng) for _ in range(20)]
    assert {played.sets.shape for played in drawn} == {(8, 10, 10), (6, 10, 14)}
    assert len(env.get_attr("np_random")) == 7
    env.close()


def test_it_learns_on_several_sizes_at_once() -> None:
    model = GraphDDPG(SetPolicy, two_sizes(), seed=0, batch_size=8, actor_from=2, device="cpu")
    model.learn(4 * 10 + 3 * 10 + 4 * 10)
    assert {name: ring.size for name, ring in model.replay_buffer.rings.items()} == {"10x3": 8, "14x4": 6}
    assert all(bool(torch.isfinite(value).all()) for value in model.policy.state_dict().values())


def test_the_best_set_that_contains_another_is_found_as_by_hand() -> None:
    rng = np.random.default_rng(1)
    played = PlayedDrops({}, rng.random((3, 6, 5)) < 0.6, rng.normal(size=(3, 6)).astype(np.float32))
    played.rewards[0, 4:] = np.nan
    asked = rng.random((3, 4, 5)) < 0.3
    best = best_containing(asked, played)
    for b in range(3):
        for n in range(4):
            fitting = [
                r for s, r in zip(played.sets[b], played.rewards[b], strict=True)
                if np.isfinite(r) and not (asked[b, n] & ~s).any()
            ]  # fmt: skip
            assert np.isnan(best[b, n]) if not fitting else best[b, n] == max(fitting)


def test_the_replay_keeps_a_drop_once_with_every_decision_and_survives_a_file() -> None:
    env: Any = environments(3, decisions_per_drop=4)
    replay = DropReplay(40, env.observation_space, env.action_space, n_envs=3, decisions=4)
    observation: Any = env.reset()
    rng = np.random.default_rng(0)
    given = []
    for _ in range(10):
        action = rng.uniform(-1, 1, (3, 10, 4)).astype(np.float32)
        after, reward, done, infos = env.step(action)
        replay.add(observation, after, action, reward, done, infos)
        given.append((observation["comm"].copy(), action[..., 0] >= 0, reward))
        observation = after
    assert replay.size() == 9
    current = replay.current()
    np.testing.assert_array_equal(current.observation["comm"], given[-1][0])
    np.testing.assert_array_equal(current.sets[:, 1], given[-1][1])
    np.testing.assert_array_equal(current.rewards[:, :2], np.stack([given[-2][2], given[-1][2]], 1))
    assert np.isnan(current.rewards[:, 2:]).all()
    copy = DropReplay(40, env.observation_space, env.action_space, n_envs=3, decisions=4)
    copy.load_state(replay.state())
    assert copy.state().keys() == {"10x3"}
    for name, stored in replay.state()["10x3"].items():
        np.testing.assert_array_equal(copy.state()["10x3"][name], stored)


def test_relative_power_orders_decisions_as_the_watts_do_and_puts_what_is_not_served_below() -> None:
    env = environments(6, M=20)
    env.seed(5)
    observation: Any = env.reset()
    names = ("local-search", "most-informative", "full-ap")
    rewards = []
    for name in names:
        action, _ = baselines.make(name).predict(observation)
        _, reward, _, infos = env.step(action)
        assert all(info["feasible"] for info in infos)
        rewards.append(reward)
    _, none, _, _ = env.step(np.full((6, 20, 4), -1.0, np.float32))
    assert (rewards[0] >= rewards[1]).all() and (rewards[1] > rewards[2]).all()  # noqa: PT018
    assert (none <= -1.5).all()


def test_it_learns_in_stable_baselines3_and_plays_the_same_after_saving(tmp_path: Path) -> None:
    def trained() -> GraphDDPG:
        model = GraphDDPG(SetPolicy, environments(), seed=0, batch_size=8, actor_from=2, device="cpu")
        model.learn(4 * 10 * 4)
        return model

    model = trained()
    assert model._n_updates == 4 * 8
    assert (
        model.policy.actor.optimizer.param_groups[0]["lr"] == model.policy.critic.optimizer.param_groups[0]["lr"] == 0.0
    )
    assert model.replay_buffer.size() == 16
    fresh = GraphDDPG(SetPolicy, environments(), seed=0, device="cpu")
    for name in ("actor", "critic", "actor_target", "critic_target"):
        before, after = getattr(fresh.policy, name).state_dict(), getattr(model.policy, name).state_dict()
        assert any(not torch.equal(before[key], after[key]) for key in before), name
    observation = observations.encode(observed("urban"))
    action, _ = model.predict(observation)
    np.testing.assert_array_equal(trained().predict(observation)[0], action)
    model.save(tmp_path / "model")
    loaded = GraphDDPG.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.predict(observation)[0], action)


def test_its_actor_alone_learns_to_beat_the_rule_at_as_many_completions() -> None:
    drops = observed("urban", 60, M=14)
    observation = observations.encode(drops)

    def above(policy: Any) -> float:
        action, _ = policy.predict(observation)
        outcome = drops.evaluate(actions.decode(action, drops.config.max_ap_power_w))
        assert (outcome.feasible == np.isfinite(best)).all()
        return float(np.mean(outcome.total_power[outcome.feasible] / best[outcome.feasible]) - 1.0)

    oracle = baselines.make("local-search")
    answers = [oracle.decide(drops[i].problem) for i in range(60)]
    best = np.array(
        [drops[i].evaluate(a.decision).total_power if a.feasible else np.inf for i, a in enumerate(answers)]
    )
    model = GraphDDPG(
        SetPolicy, environments(24, M=14, preset="urban"), seed=0, batch_size=24, actor_from=8, device="cpu"
    )
    model.policy.configure(advised=False, search=False, completions=1, beams=1)
    untrained = above(model.policy)
    model.learn(24 * 10 * 24)
    for completions in (1, 8):
        model.policy.configure(completions=completions)
        assert above(model.policy) < 0.85 * above(baselines.make("most-informative", completions=completions))
    model.policy.configure(completions=1)
    assert above(model.policy) < 0.5 * untrained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o["comm"], "needs the Dict observation"),
        (lambda o: {key: value for key, value in o.items() if key != "sensing"}, "lacks sensing"),
        (lambda o: {**o, "comm": np.where(o["comm"] > 0, np.nan, o["comm"])}, "'comm' holds"),
        (lambda o: {**o, "pilots": np.ones((5, 3, 3), np.float32)}, "shared pilots"),
    ],
)
def test_observations_that_it_cannot_read_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy().predict(change(observations.encode(observed())))
