"""Training: the loss agrees with the physics, training improves policies, and a killed run ends like an undisturbed one."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.hetgnn import training, weights
from agents.hetgnn.config import LossConfig, NetworkConfig, TrainingConfig
from agents.hetgnn.data import BatchSampler, Labelled, prepare
from agents.hetgnn.graph import build as graphs
from agents.hetgnn.labels import Labels, label
from agents.hetgnn.loss import Loss, power_error
from agents.hetgnn.network import HetGnn
from agents.hetgnn.policy import HetGnnExactPolicy, HetGnnPaperPolicy, HetGnnPolicy
from agents.hetgnn.printed import build
from baselines import make
from cfisac_env import Decision, SystemConfig, actions, files, observations, physics
from cfisac_env.types import Problem

CONFIG = SystemConfig(M=10, K=3)
SMALL = TrainingConfig(
    network=NetworkConfig(layers=2, edge_widths=(16,), node_widths=(16, 16), head_width=16, steps=6),
    epochs=4,
    edges=480,
    learning_rate=5e-3,
)

PRINTED = replace(
    SMALL,
    epochs=8,
    learning_rate=1e-2,
    network=NetworkConfig(layers=3, edge_widths=(32, 32), node_widths=(32, 32), printed=True),
    loss=LossConfig(activation_weight=1.0, activation="soft", multipliers="fixed", alpha=10.0, beta=10.0),
)


@pytest.fixture(scope="module")
def shards() -> tuple[Labels, Labels]:
    torch.set_num_threads(1)
    return label(CONFIG, range(260), "modified-bb"), label(CONFIG, range(900_000, 900_040), "modified-bb")


@pytest.fixture(scope="module")
def groups(shards: tuple[Labels, Labels]) -> tuple[list[Labelled], list[Labelled]]:
    return prepare(shards[:1]), prepare(shards[1:])


@pytest.fixture(scope="module")
def trained(
    groups: tuple[list[Labelled], list[Labelled]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[HetGnn, dict[str, float], Path]:
    folder = tmp_path_factory.mktemp("run")
    return *training.train(SMALL, *groups, folder), folder


def _mean_power(policy: Any, shard: Labels) -> tuple[float, float]:
    drops = shard.drops()
    action, _ = policy.predict(observations.encode(drops))
    outcome = drops.evaluate(actions.decode(action, CONFIG.max_ap_power_w))
    feasible = np.asarray(outcome.feasible)
    return float(np.asarray(outcome.total_power)[shard.feasible].mean()), float(feasible[shard.feasible].mean())


def test_training_improves_on_random_weights_and_heuristics(
    trained: tuple[HetGnn, dict[str, float], Path], shards: tuple[Labels, Labels]
) -> None:
    network, measures, _ = trained
    torch.manual_seed(SMALL.seed)
    fresh = HetGnn(SMALL.network)
    plain = {"width": 1, "rounds": 0}
    after, served = _mean_power(HetGnnExactPolicy(network=network, **plain), shards[1])
    before, _ = _mean_power(HetGnnExactPolicy(network=fresh, **plain), shards[1])
    strongest, _ = _mean_power(make("strongest-ap"), shards[1])
    best = shards[1].total_power_w[shards[1].feasible].mean()
    assert served == 1.0
    assert after < before
    assert after < strongest
    assert after < 1.15 * best
    own, own_served = _mean_power(HetGnnPolicy(network=network), shards[1])
    assert own_served >= 0.9
    assert own < 1.3 * best
    assert measures["val/hits"] > 0.6


def test_training_starts_from_given_weights(
    trained: tuple[HetGnn, dict[str, float], Path], groups: tuple[list[Labelled], list[Labelled]], tmp_path: Path
) -> None:
    still = replace(SMALL, epochs=1, learning_rate=1e-12)
    network, _ = training.train(still, *groups, tmp_path / "still", start=trained[0])
    for name, tensor in trained[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"the weights to start from are of NetworkConfig\(layers=2"):
        training.train(replace(still, network=NetworkConfig()), *groups, tmp_path / "other", start=trained[0])


def test_the_printed_loss_is_14_by_the_physics(groups: tuple[list[Labelled], list[Labelled]]) -> None:
    config = LossConfig(
        power_weight=0.3, activation_weight=0.7, unsupervised_weight=0.5, activation="soft", multipliers="fixed", alpha=2.0, beta=3.0
    )  # fmt: skip
    torch.manual_seed(3)
    network, batch = build(PRINTED.network), groups[0][0][torch.arange(5)]
    with torch.no_grad():
        embedding = network.embed(batch.graph)
        loss, terms = Loss(config)(network, embedding, batch.active, batch.power, batch.active)
        soft = torch.sigmoid(network.propose(embedding, batch.active)).double().numpy()
        power = network.power(embedding, torch.ones_like(batch.active)).double().numpy()
    label, on = batch.power.double().numpy(), batch.active.numpy()
    assert float(terms["power"]) == pytest.approx(0.3 * ((power - label) ** 2).sum((-2, -1)).mean(), rel=1e-4)
    entropy = -np.where(on, np.log(soft), np.log1p(-soft)).sum(-1).mean()
    assert float(terms["activation"]) == pytest.approx(0.7 * entropy, rel=1e-4)
    drops, radiated = batch.graph.drops, power * soft[..., None]
    sinr, located = (m.double().numpy() for m in drops.margins(torch.as_tensor(radiated, dtype=torch.float32)))
    watts = 0.1 * radiated.sum((-2, -1)) + 0.2 * soft.sum(-1)
    fewest = np.floor(CONFIG.K * CONFIG.sinr_threshold) + 1
    missed = 2.0 * np.maximum(1 - sinr, 0).sum(-1) + 3.0 * np.maximum(1 - located, 0).sum(-1)
    assert float(terms["chosen"]) == pytest.approx(0.5 * (watts / (fewest * 0.2) + missed).mean(), rel=1e-3)
    assert float(loss) == pytest.approx(sum(map(float, terms.values())), rel=1e-6)


def test_the_printed_network_learns_and_its_float16_weights_decide_as_its_policy(
    groups: tuple[list[Labelled], list[Labelled]], shards: tuple[Labels, Labels], tmp_path: Path
) -> None:
    network, _ = training.train(PRINTED, *groups, tmp_path / "run")
    path = weights.save(network, tmp_path / "weights.safetensors", {})
    policy = HetGnnPaperPolicy(path=path)
    watts, served = _mean_power(policy, shards[1])
    drops = shards[1].drops()
    action, _ = policy.predict(observations.encode(drops))
    outcome = drops.evaluate(actions.decode(action, CONFIG.max_ap_power_w))
    assert np.asarray(outcome.sinr_violation <= 0.1).mean() > 0.7
    assert watts < 1.5 * shards[1].total_power_w.mean()
    assert served > 0.1
    with torch.no_grad():
        graph, problem = graphs(observations.encode(drops)), drops.problem
        claims = [policy.decide(problem[i], graph[i : i + 1]).feasible for i in range(len(graph))]
    assert not (np.array(claims) & ~np.asarray(outcome.feasible)).any()
    with pytest.raises(
        ValueError, match=r"hetgnn needs the compact network, got the printed one; load such weights as hetgnn-paper"
    ):
        HetGnnPolicy(path=path)
    with pytest.raises(
        ValueError, match=r"hetgnn-paper needs the printed network, got the compact one; load such weights as hetgnn"
    ):
        HetGnnPaperPolicy(path=weights.SHIPPED)


def test_a_killed_run_ends_where_an_undisturbed_one_does(
    trained: tuple[HetGnn, dict[str, float], Path], groups: tuple[list[Labelled], list[Labelled]], tmp_path: Path
) -> None:
    def kill(done: int, total: int, text: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(SMALL, *groups, tmp_path, step=kill)
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == [f"checkpoint-{i}.safetensors" for i in (1, 2)]
    network, measures = training.train(SMALL, *groups, tmp_path)
    assert measures == trained[1]
    for name, tensor in trained[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=0)
    assert list((tmp_path / "logs").glob("events*"))


def test_a_run_of_another_configuration_or_a_damaged_checkpoint_is_not_continued(
    trained: tuple[HetGnn, dict[str, float], Path], groups: tuple[list[Labelled], list[Labelled]], tmp_path: Path
) -> None:
    for path in trained[2].glob("checkpoint*"):
        shutil.copy(path, tmp_path)
    last, before = (tmp_path / f"checkpoint-{i}.safetensors" for i in (4, 3))
    with pytest.raises(ValueError, match=r"is of a run with another configuration; choose another folder"):
        training.train(replace(SMALL, learning_rate=1e-4), *groups, tmp_path)
    others = [group[torch.arange(len(group) - 1)] for group in groups[0]]
    with pytest.raises(ValueError, match=r"is of a run with another set of labels;"):
        training.train(SMALL, others, groups[1], tmp_path)
    with pytest.raises(ValueError, match=r"with another network to start from;"):
        training.train(SMALL, *groups, tmp_path, start=trained[0])
    last.write_bytes(last.read_bytes()[:5000])
    lines: list[str] = []
    network, measures = training.train(SMALL, *groups, tmp_path, warn=lines.append)  # from the one before
    assert "checkpoint-4.safetensors cannot be read" in lines[0]
    assert measures == trained[1]
    for name, tensor in trained[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=0)
    for path in (last, before):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"checkpoint-4.safetensors cannot be read .*; remove the checkpoints in"):
        training.train(SMALL, *groups, tmp_path)
    training.train(replace(SMALL, epochs=1), *groups, tmp_path, resume=False)
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == ["checkpoint-1.safetensors"]


def test_a_time_limit_keeps_the_best_so_far(groups: tuple[list[Labelled], list[Labelled]], tmp_path: Path) -> None:
    network, measures = training.train(SMALL, *groups, tmp_path, limit_s=1e-9)
    assert (measures["epoch"], list(tmp_path.glob("checkpoint*"))) == (0, [])
    assert 0.0 <= measures["val/hits"] <= 1.0
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_divergence_is_reported(groups: tuple[list[Labelled], list[Labelled]], tmp_path: Path) -> None:
    labels = [replace(group, power=group.power * torch.nan) for group in groups[0]]
    with pytest.raises(ValueError, match="training diverged: after 0 batches the gradient isn't finite"):
        training.train(SMALL, labels, groups[1], tmp_path)


def test_a_folder_has_one_training_run_at_a_time(groups: tuple[list[Labelled], list[Labelled]], tmp_path: Path) -> None:
    with (
        files.locked(tmp_path),
        pytest.raises(BlockingIOError, match=rf"another process is writing to .*: process {os.getpid()} on"),
    ):
        training.train(SMALL, *groups, tmp_path)


def test_weights_come_back_with_their_provenance(
    trained: tuple[HetGnn, dict[str, float], Path], tmp_path: Path
) -> None:
    path = weights.save(trained[0], tmp_path / "w.safetensors", {"seed": 3})
    network, provenance = weights.load(path)
    assert provenance == {"seed": 3}
    assert network.config == SMALL.network
    for name, tensor in trained[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=0)


def test_bad_weights_are_refused(trained: tuple[HetGnn, dict[str, float], Path], tmp_path: Path) -> None:
    path = weights.save(trained[0], tmp_path / "w.safetensors", {})
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"w.safetensors is truncated or not a safetensors file"):
        weights.load(path)
    path.write_bytes(whole.replace(b'\\"layers\\": 2', b'\\"layers\\": 3'))
    with pytest.raises(ValueError, match=r"another architecture.*Missing key"):
        weights.load(path)
    path.write_bytes(whole.replace(b"cfisac-hetgnn-1", b"cfisac-hetgnn-0"))
    with pytest.raises(ValueError, match=r"is not of the format 'cfisac-hetgnn-1'"):
        weights.load(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*none.safetensors; `cfisac train hetgnn` writes it"):
        weights.load(tmp_path / "none.safetensors")


def test_every_epoch_has_every_drop_once_and_its_own_order(groups: tuple[list[Labelled], list[Labelled]]) -> None:
    both = [groups[0][0], groups[1][0]]
    sampler = BatchSampler(both, 300, 7)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        for i, group in enumerate(both):
            rows = torch.cat([rows for index, rows in batches if index == i])
            assert sorted(rows.tolist()) == list(range(len(group)))
        orders.append([(i, rows.tolist()) for i, rows in batches])
    assert orders[0] == orders[2] != orders[1]


def test_the_unsupervised_part_is_power_and_hinges_by_the_physics(
    groups: tuple[list[Labelled], list[Labelled]],
) -> None:
    batch = groups[1][0][torch.arange(6)]
    drops = batch.graph.drops
    problem = Problem(
        gain=np.exp(drops.log_gain.double().numpy()), estimate_gain=np.exp(drops.log_estimate.double().numpy()), noise_w=1.0,
        fisher=drops.fisher.double().numpy(), sinr_threshold=CONFIG.sinr_threshold, crlb_threshold_m2=1.0,
        max_ap_power_w=1.0, circuit_power_w=CONFIG.circuit_power_w / CONFIG.max_ap_power_w,
    )  # fmt: skip
    power = batch.power * torch.tensor([1.0, 0.5, 0.1, 1.0, 2.0, 0.01])[:, None, None]
    loss = Loss(LossConfig(alpha=2.0, beta=3.0, multipliers="fixed"))
    outcome = physics.evaluate(problem, Decision(batch.active.numpy(), power.double().numpy()))
    fewest = np.floor(3 * CONFIG.sinr_threshold) + 1
    expected = outcome.total_power / (fewest * problem.circuit_power_w)
    expected = expected + 2.0 * outcome.sinr_violation.sum(-1) + 3.0 * outcome.crlb_violation.sum(-1)
    value = float(loss.unsupervised(drops, power, batch.active.float()))
    assert value == pytest.approx(float(expected.mean()), rel=1e-3)
    assert outcome.crlb_violation.max() > 0.3


def test_multipliers_rise_only_while_constraints_are_violated(
    groups: tuple[list[Labelled], list[Labelled]],
) -> None:
    batch = groups[1][0]
    loss = Loss(LossConfig()).train()
    generous = batch.power * 1.5
    loss.unsupervised(batch.graph.drops, generous, batch.active.float())
    assert float(loss.beta) == 1.0
    loss.unsupervised(batch.graph.drops, batch.power * 0.5, batch.active.float())
    assert float(loss.beta) > 1.0
    raised = float(loss.beta)
    loss.eval().unsupervised(batch.graph.drops, batch.power * 0.5, batch.active.float())
    assert float(loss.beta) == raised


@pytest.mark.parametrize("scale", ["log", "amplitude", "fraction", "watt"])
def test_the_power_error_is_zero_at_the_label_and_only_there(
    scale: Any, groups: tuple[list[Labelled], list[Labelled]]
) -> None:
    batch = groups[1][0]
    assert float(power_error(batch.power, batch.power, batch.active, scale)) == pytest.approx(0.0, abs=1e-9)
    weakest = batch.power.clone()
    weakest[..., 0] *= 3.0
    assert float(power_error(weakest, batch.power, batch.active, scale)) > 1e-6


@pytest.mark.parametrize("activation", ["straight-through", "soft"])
def test_the_gradient_passes_the_threshold(activation: Any, groups: tuple[list[Labelled], list[Labelled]]) -> None:
    batch = groups[1][0]
    network = HetGnn(SMALL.network)
    config = LossConfig(power_weight=0.0, activation_weight=0.0, activation=activation)
    loss, terms = Loss(config)(network, network.embed(batch.graph), batch.active, batch.power, batch.active)
    loss.backward()
    assert set(terms) == {"labelled", "chosen"}
    reached = torch.cat([p.grad.flatten() for p in network.activation_head.parameters() if p.grad is not None])
    assert torch.isfinite(reached).all()
    assert reached.abs().max() > 0


def test_labels_alone_leave_the_unsupervised_part_out(groups: tuple[list[Labelled], list[Labelled]]) -> None:
    batch = groups[1][0]
    network = HetGnn(SMALL.network)
    config = LossConfig(unsupervised_weight=0.0)
    _, terms = Loss(config)(network, network.embed(batch.graph), batch.active, batch.power, batch.active)
    assert set(terms) == {"activation", "power"}


def test_drops_that_no_oracle_served_are_left_out() -> None:
    impossible = label(SystemConfig(M=3, K=2, crlb_threshold_m2=1e-5), range(3))
    with pytest.raises(ValueError, match="nothing to learn from"):
        prepare([impossible])


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epochs": 10**30},
        {"edges": 0},
        {"patience": -1},
        {"learning_rate": 0.0},
        {"learning_rate": math.inf},
        {"learning_rate": math.nan},
        {"learning_rate": 1.5},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_a_configuration_that_cannot_train_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainingConfig(**bad)


def test_a_loss_without_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="not all weights 0"):
        LossConfig(power_weight=0.0, activation_weight=0.0, unsupervised_weight=0.0)
