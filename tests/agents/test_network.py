"""The network: equivariant and for every size; its unrolled allocation keeps caps and leads to the optimum of a set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from agents.hetgnn import unrolled, weights
from agents.hetgnn.compiled import CompiledHeads
from agents.hetgnn.graph import Graph, build
from agents.hetgnn.network import HetGnn, NetworkConfig
from agents.hetgnn.printed import build as build_network
from baselines.allocation import Status, fast
from baselines.local_search import search
from cfisac_env import PRESETS, Decision, Scenario, SystemConfig, observations, physics, sample

SMALL = NetworkConfig(edge_widths=(12,), node_widths=(16, 12), head_width=16, steps=4)
DEEP = NetworkConfig(layers=2, edge_widths=(10, 8), node_widths=(12, 8), head_width=8, steps=2, edge_updates=False)
PRINTED = NetworkConfig(layers=3, edge_widths=(12, 8), node_widths=(12, 10), printed=True)


def _network(config: NetworkConfig = SMALL) -> HetGnn:
    torch.manual_seed(0)
    network = build_network(config).eval()
    if config.printed:  # means of messages hardly differ with the initial weights
        for parameter in network.parameters():
            parameter.data *= 3.0
    return network


def _observation(n: int = 3, seed: int = 0, **fields: Any) -> dict[str, Any]:
    config = SystemConfig(**{"M": 9, "K": 4, "T": 3, "S": 2, **fields})
    return observations.encode(sample(config, np.random.default_rng(seed), n))


def _logits_and_powers(
    network: HetGnn, observation: Mapping[str, Any], on: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        embedding = network.embed(build(observation))
        return network.propose(embedding, on), network.power(embedding, on)


def _sets(n: int, M: int) -> torch.Tensor:
    on = torch.rand(n, M, generator=torch.Generator().manual_seed(1)) < 0.5
    on[:, 0] = True
    return on


@pytest.mark.parametrize("config", [SMALL, DEEP, PRINTED], ids=["compact", "deep", "printed"])
@pytest.mark.parametrize("axis", ["M", "K", "T", "S"])
def test_the_network_is_equivariant_to_permutations(axis: str, config: NetworkConfig) -> None:
    network, observation, on = _network(config), _observation(), _sets(3, 9)
    sizes = {"M": 9, "K": 4, "T": 3, "S": 2}
    order = np.random.default_rng(2).permutation(sizes[axis])
    places = {
        "M": {"ap": 1, "comm": 1, "radar": 1, "sensing": 1},
        "K": {"comm": 2, "ue": 1},
        "T": {"radar": 3, "sr": 1},
        "S": {"sensing": 2, "radar": 2, "target": 1},
    }[axis]
    shuffled = {k: np.take(v, order, places[k]) if k in places else v for k, v in observation.items()}
    logits, power = _logits_and_powers(network, observation, on)
    new_logits, new_power = _logits_and_powers(network, shuffled, on[:, order] if axis == "M" else on)
    if axis == "M":
        logits, power = logits[:, order], power[:, order]
    elif axis == "K":
        power = power[..., order]
    torch.testing.assert_close(new_logits, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new_power, power, rtol=1e-3, atol=1e-6)
    assert logits.std() > 1e-3


def test_the_printed_network_uses_every_weight_and_radiates_at_most_the_cap() -> None:
    network, on = _network(PRINTED), _sets(3, 9)
    embedding = network.embed(build(_observation()))
    with torch.no_grad():
        embedding.link.mul_(40.0)  # type: ignore[attr-defined]
        power = network.power(embedding, on)
    assert power.min() >= 0.0
    assert not power[~on].any()
    assert 1.0 - 1e-6 <= power.sum(-1).max() <= 1.0 + 1e-6
    embedding = network.embed(build(_observation()))
    (network.power(embedding, on).sum() + network.propose(embedding, on).sum()).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_graph_holds_the_physics_of_the_drop(preset: str) -> None:
    scenario = sample(SystemConfig(M=9, K=4, preset=preset), np.random.default_rng(3), 2)
    drops, config = build(observations.encode(scenario)).drops, scenario.config
    power = np.random.default_rng(0).random((2, 9, 4)) * config.max_ap_power_w / 4
    outcome = physics.evaluate(scenario.problem, Decision(np.ones((2, 9), bool), power))
    relative = torch.as_tensor(power / config.max_ap_power_w)
    sinr, precision = drops.to(torch.float64).margins(relative)
    np.testing.assert_allclose(sinr, outcome.sinr / config.sinr_threshold, rtol=1e-4)
    np.testing.assert_allclose(precision, config.crlb_threshold_m2 / outcome.crlb, rtol=1e-4)


@pytest.mark.parametrize("off", [[], [0], [2, 5, 6]], ids="{} off".format)
def test_gradients_of_the_margins_are_finite_differences(off: list[int]) -> None:
    drops, on = build(_observation()).drops.to(torch.float64), torch.ones(9, dtype=torch.bool)
    on[off] = False
    radiated = 10.0 ** (
        4.0 * torch.rand(3, int(on.sum()), 4, generator=torch.Generator().manual_seed(3)).double() - 5.0
    )

    def margins(radiated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return drops.margins(torch.zeros(3, 9, 4, dtype=torch.float64).index_copy(1, on.nonzero()[:, 0], radiated))

    assert torch.autograd.gradcheck(margins, radiated.requires_grad_(), eps=1e-10, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-38, 1e-30, 1e-20, 1e-8, 1.0])
@pytest.mark.parametrize("T", [1, 3])
def test_gradients_of_the_margins_are_finite_in_float32_for_every_power(T: int, scale: float) -> None:
    drops = build(_observation(8, seed=5, T=T)).drops
    power = scale * torch.rand(8, 9, 4, generator=torch.Generator().manual_seed(4)) / 4.0
    for i in range(8):
        power[i, i + 1 :] = 0.0  # from one AP on to all
    power.requires_grad_()
    for margin in drops.margins(power):
        torch.relu(1.0 - margin).sum().backward()  # type: ignore[no-untyped-call]
    assert power.grad is not None
    assert torch.isfinite(power.grad).all()
    assert scale < 1e-30 or (power.grad[power > 0.0] != 0.0).any()


def test_a_rotated_graph_is_the_graph_of_rotated_positions() -> None:
    scenario = sample(SystemConfig(M=6, K=2), np.random.default_rng(1), 1)
    angle, mirror = 0.7, -1.0

    def turn(xy: np.ndarray) -> np.ndarray:
        x, y = xy[..., 0], mirror * xy[..., 1]
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([c * x - s * y, s * x + c * y], -1)

    other = Scenario.from_gains(
        scenario.config, gain=scenario.gain, ap_xy=turn(scenario.ap_xy), ue_xy=turn(scenario.ue_xy),
        sr_xy=turn(scenario.sr_xy), target_xy=turn(scenario.target_xy),
    )  # fmt: skip
    graph: Graph = build(observations.encode(scenario)).rotated(torch.tensor([angle]), torch.tensor([mirror]))
    expected = build(observations.encode(other))
    torch.testing.assert_close(graph.ap, expected.ap, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(graph.edges["sensing"], expected.edges["sensing"], rtol=1e-3, atol=1e-4)


def test_powers_keep_the_caps_for_any_weights() -> None:
    network = _network()
    for parameter in network.parameters():
        parameter.data.mul_(8.0)
    on = _sets(3, 9)
    _, power = _logits_and_powers(network, _observation(), on)
    assert torch.isfinite(power).all()
    assert (power >= 0).all()
    assert (power.sum(-1) <= 1 + 1e-6).all()
    assert (power[~on] == 0).all()


@pytest.mark.parametrize("preset", ["paper", "high-rate", "urban"])
def test_many_steps_lead_to_the_optimum_of_the_set(preset: str) -> None:
    scenario = sample(SystemConfig(M=14, K=4, preset=preset), np.random.default_rng(8), 12)
    drops = build(observations.encode(scenario)).drops.to(torch.float64)
    sets = np.stack([search(scenario[i].problem, starts=("greedy",), kicks=0).allocation.active for i in range(12)])
    exact = fast.solve(scenario.problem, sets)
    served = np.flatnonzero(exact.status == Status.OPTIMAL)
    assert len(served) >= 8
    start = torch.zeros(12, 14, dtype=torch.float64) - 1.0
    zeros = torch.zeros(12, 4, dtype=torch.float64)
    power = unrolled.allocate(drops, torch.as_tensor(sets), start, zeros, zeros[:, :1], 1000)
    total = power.sum((-2, -1)).numpy() * scenario.config.max_ap_power_w
    shortfall = 1.0 - torch.cat(drops.margins(power), -1).amin(-1)
    close = (shortfall.numpy() < 1e-3) & (np.abs(total / exact.transmit_power - 1) < 0.02)
    assert close[served].mean() >= 0.9


def test_gradients_reach_every_head_and_are_finite() -> None:
    network = _network()
    embedding = network.embed(build(_observation(8, seed=5)))
    on = _sets(8, 9)
    power = network.power(embedding, on)
    (network.propose(embedding, on).sum() + embedding.drops.margins(power)[0].log().sum()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    for head in (network.activation_head, network.power_head, network.user_head):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_gradients_are_finite_near_zero_power() -> None:
    drops = build(_observation(4, seed=5)).drops
    on = _sets(4, 9)
    level = torch.full((4, 9), -50.0, requires_grad=True)
    prices = torch.full((4, 4), -20.0, requires_grad=True)
    sensing = torch.full((4, drops.fisher.shape[2]), -20.0, requires_grad=True)
    power = unrolled.allocate(drops, on, level, prices, sensing, 1)
    torch.sqrt(power + 1e-9).sum().backward()  # type: ignore[no-untyped-call]
    for start in (level, prices, sensing):
        assert start.grad is not None
        assert torch.isfinite(start.grad).all()


@pytest.mark.parametrize("empty", [[1], [0, 1, 2]])
def test_the_empty_set_has_zero_powers_and_finite_gradients(empty: list[int]) -> None:
    network, on = weights.load()[0].requires_grad_(True), _sets(3, 9)  # of trained prices, and as many steps as in use
    on[empty] = False
    embedding = network.embed(build(_observation()))
    assert torch.isfinite(network.propose(embedding, on)).all()
    power = network.power(embedding, on)
    assert (power[empty] == 0).all()
    torch.sqrt(power + 1e-9).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("config", [SMALL, DEEP], ids=["compact", "deep"])
@pytest.mark.parametrize("fields", [*({"preset": preset} for preset in PRESETS), {"T": 1}, {"T": 1, "S": 1}], ids=str)
def test_the_compiled_heads_give_the_networks_logits_and_starting_points(
    fields: dict[str, Any], config: NetworkConfig
) -> None:
    network, observation, on = _network(config), _observation(**fields), _sets(6, 9)
    on[1] = torch.arange(9) == 4
    on[0] = False
    with torch.no_grad():
        for i in range(3):
            embedding = network.embed(build(observation)[i : i + 1])
            expected = network.propose(embedding.repeated(6), on).masked_fill(on, -torch.inf)
            heads = CompiledHeads(network, embedding)
            np.testing.assert_allclose(heads.logits(on.numpy()), expected.numpy(), rtol=1e-4, atol=1e-5)
            start = heads.start(on.numpy())
            level, users, targets = network.starts(embedding.repeated(6), on)
            inside = on.numpy()
            np.testing.assert_allclose(np.log(start.level)[inside], level.numpy()[inside], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(np.log(start.user), users.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(np.log(start.target), targets.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o.pop("radar"), "the observation lacks radar"),
        (lambda o: o["comm"].__setitem__((0, 0, 0, 0), np.nan), "'comm' holds 1 values that aren't finite"),
        (lambda o: o.update(ap=o["ap"][0]), "need one leading axis"),
        (lambda o: o.update(pilots=np.eye(4)), "support shared pilots"),
    ],
)
def test_bad_observations_are_refused(change: Any, message: str) -> None:
    observation = _observation()
    change(observation)
    with pytest.raises(ValueError, match=message):
        build(observation)


@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 0}, {"layers": 100_000}, {"layers": 2.0}, {"layers": True}, {"head_width": 0}, {"head_width": 10**9},
        {"edge_widths": ()}, {"node_widths": (64,) * 1000}, {"node_widths": (64, -1)}, {"edge_widths": ("64",)}, {"steps": -1},
        {"steps": 10**7},
    ],
)  # fmt: skip
def test_sizes_out_of_range_are_refused(sizes: Any) -> None:
    with pytest.raises(ValueError, match="a network needs from 1 to 32 layers"):
        NetworkConfig(**sizes)
