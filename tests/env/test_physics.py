"""The physics against simulation, finite differences, linear algebra and numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cfisac_env import Decision, Problem, SystemConfig, physics, sample
from cfisac_env.backend import backend

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

LIGHT = 299_792_458.0

# Pilots of the simulation: (length, pilot of each user). The second setting shares two pilots among five users.
PILOTS = {"own pilots": (4, [0, 1, 2, 3]), "reused pilots": (3, [0, 1, 0, 2, 1])}


class Simulation:
    """A link-level simulation: Rayleigh channels, transmitted pilot sequences, linear MMSE estimates, conjugate beams.

    Nothing in it uses the closed forms: the estimator is C_hy C_yy⁻¹ y on the received pilot block, and the SINR is that of
    the use-and-then-forget bound, |E g_kk|² / (Var g_kk + Σ_k' E|g_kk'|² + σ²) with g_kk' = Σ_m h_mk √(p_mk'/v_mk') ĥ*_mk'.
    """

    def __init__(self, length: int, pilot: list[int], blocks: int = 120, block: int = 25_000) -> None:
        rng = np.random.default_rng(20_240)
        self.M, self.K = 3, len(pilot)
        self.pilot = np.array(pilot)
        self.gain = 10.0 ** rng.uniform(-1.0, 0.5, (self.M, self.K))
        self.power = 10.0 ** rng.uniform(-1.0, 0.3, (self.M, self.K))
        self.power[1, 2] = 0.0
        self.noise_w, self.pilot_power_w = 0.4, 0.25
        self.pilot_energy_w = length * self.pilot_power_w
        orthonormal = np.fft.fft(np.eye(length)) / math.sqrt(length)
        sequences = math.sqrt(self.pilot_energy_w) * orthonormal[:, self.pilot]  # (τ, K), ρ_p a symbol

        received_cov = np.einsum("mk,tk,uk->mtu", self.gain, sequences, sequences.conj())
        received_cov = received_cov + self.noise_w * np.eye(length)
        cross_cov = self.gain[:, :, None] * sequences.conj().T  # E h_mk yᴴ, (M, K, τ)
        filters = cross_cov @ np.linalg.inv(received_cov)
        beam_norm = np.real(np.einsum("mkt,mkt->mk", filters, cross_cov.conj()))

        def normal(*shape: int) -> Complexes:
            pairs = rng.standard_normal((*shape, 2))
            return np.asarray(pairs.view(np.complex128)[..., 0] * math.sqrt(0.5))

        self.estimate_square = np.zeros((self.M, self.K))
        self.radiated = np.zeros((self.M, self.K))
        mean, square = np.zeros(self.K, np.complex128), np.zeros((self.K, self.K))
        for _ in range(blocks):
            channel = np.sqrt(self.gain) * normal(block, self.M, self.K)
            pilots = channel @ sequences.T + math.sqrt(self.noise_w) * normal(block, self.M, length)
            estimate = np.einsum("nmt,mkt->nmk", pilots, filters, optimize=True)
            beam = np.sqrt(self.power / beam_norm) * estimate.conj()
            effective = np.swapaxes(channel, 1, 2) @ beam  # g_kk', (n, K, K)
            self.estimate_square += np.mean(np.abs(estimate) ** 2, axis=0) / blocks
            self.radiated += np.mean(np.abs(beam) ** 2, axis=0) / blocks
            mean += np.mean(np.einsum("nkk->nk", effective), axis=0) / blocks
            square += np.mean(np.abs(effective) ** 2, axis=0) / blocks
        signal = np.abs(mean) ** 2
        self.sinr = signal / (square.sum(axis=1) - signal + self.noise_w)

    @property
    def overlap(self) -> Floats | None:
        """G, or None when every user has its own pilot."""
        shared = (self.pilot[:, None] == self.pilot[None, :]).astype(np.float64)
        return None if len(set(self.pilot.tolist())) == self.K else shared


@pytest.fixture(scope="module", params=list(PILOTS))
def simulation(request: pytest.FixtureRequest) -> Simulation:
    length, pilot = PILOTS[request.param]
    return Simulation(length, pilot)


def test_the_mean_square_of_a_simulated_mmse_estimate_is_the_estimate_gain(simulation: Simulation) -> None:
    closed = physics.estimate_gain(simulation.gain, simulation.pilot_energy_w, simulation.noise_w, simulation.overlap)
    np.testing.assert_allclose(simulation.estimate_square, closed, rtol=2.5e-3)


def test_the_simulated_beams_radiate_the_power_they_are_given(simulation: Simulation) -> None:
    np.testing.assert_allclose(simulation.radiated, simulation.power, rtol=2.5e-3)


def test_the_sinr_of_a_simulated_downlink_is_the_closed_form(simulation: Simulation) -> None:
    v = physics.estimate_gain(simulation.gain, simulation.pilot_energy_w, simulation.noise_w, simulation.overlap)
    closed = physics.sinr(simulation.power, simulation.gain, v, simulation.noise_w, simulation.overlap)
    np.testing.assert_allclose(simulation.sinr, closed, rtol=1.5e-3)


def test_sharing_a_pilot_costs_sinr_in_the_simulation_and_in_the_closed_form(simulation: Simulation) -> None:
    plain = physics.estimate_gain(simulation.gain, simulation.pilot_energy_w, simulation.noise_w)
    clean = physics.sinr(simulation.power, simulation.gain, plain, simulation.noise_w)
    v = physics.estimate_gain(simulation.gain, simulation.pilot_energy_w, simulation.noise_w, simulation.overlap)
    closed = physics.sinr(simulation.power, simulation.gain, v, simulation.noise_w, simulation.overlap)
    shares = np.array([(simulation.pilot == p).sum() > 1 for p in simulation.pilot])
    for contaminated in (simulation.sinr, closed):
        assert (contaminated[shares] < 0.9 * clean[shares]).all()
        np.testing.assert_allclose(contaminated[~shares], clean[~shares], rtol=1.5e-3)


def network(seed: int = 0, *lead: int, M: int = 5, K: int = 4, T: int = 3, S: int = 2) -> dict[str, Floats]:
    """Random positions and gains in everyday magnitudes, by plain NumPy."""
    rng = np.random.default_rng(seed)
    return {
        "ap_xy": rng.uniform(-250, 250, (*lead, M, 2)),
        "sr_xy": rng.uniform(-250, 250, (*lead, T, 2)),
        "target_xy": rng.uniform(-50, 50, (*lead, S, 2)),
        "gain": 10.0 ** rng.uniform(-12, -8, (*lead, M, K)),
        "rcs": 10.0 ** rng.uniform(-1, 1, (*lead, M, S, T)),
        "power": 0.1 * rng.uniform(0.05, 1.0, (*lead, M, K)) / K,
    }


def delay_fisher(ap: Floats, sr: Floats, target: Floats, information: Floats, ap_power: Floats) -> Floats:
    """J of one target from delays τ_mt = (R_m + R_t)/c measured with variance 1/(P_m information_mt), by differences."""

    def delays(at: Floats) -> Floats:
        there = np.linalg.norm(ap - at, axis=-1)
        back = np.linalg.norm(sr - at, axis=-1)
        return np.asarray((there[:, None] + back[None, :]) / LIGHT)

    step = 1e-3
    gradient = np.stack([(delays(target + d) - delays(target - d)) / (2 * step) for d in step * np.eye(2)], axis=-1)
    return np.asarray(np.einsum("m,mt,mti,mtj->ij", ap_power, information, gradient, gradient))


def test_fisher_information_is_that_of_the_measured_delays() -> None:
    drop, bandwidth, symbols, noise_w, wavelength = network(1), 20e6, 100, 6.3e-13, 0.158
    rcs_gain = physics.radar_gain(drop["ap_xy"], drop["sr_xy"], drop["target_xy"], wavelength, drop["rcs"], 1e-3)
    scale = 8 * math.pi**2 * bandwidth**2 * symbols / (noise_w * LIGHT**2)
    fisher = physics.fisher_information(drop["ap_xy"], drop["sr_xy"], drop["target_xy"], rcs_gain, scale)
    ap_power = drop["power"].sum(-1)
    bound = physics.crlb(ap_power, fisher)
    for s in range(2):
        away_ap = np.linalg.norm(drop["ap_xy"] - drop["target_xy"][s], axis=-1)
        away_sr = np.linalg.norm(drop["sr_xy"] - drop["target_xy"][s], axis=-1)
        chi = wavelength**2 * drop["rcs"][:, s] / ((4 * math.pi) ** 3 * away_ap[:, None] ** 2 * away_sr[None, :] ** 2)
        information = 8 * math.pi**2 * bandwidth**2 * symbols * chi / noise_w
        J = delay_fisher(drop["ap_xy"], drop["sr_xy"], drop["target_xy"][s], information, ap_power)
        ours = np.einsum("m,mq->q", ap_power, fisher[:, s])
        np.testing.assert_allclose(ours, [J[0, 0], J[1, 1], J[0, 1]], rtol=1e-6)
        assert bound[s] == pytest.approx(np.trace(np.linalg.inv(J)), rel=1e-6)


def test_the_configuration_builds_its_drops_on_the_same_delay_model() -> None:
    config = SystemConfig(M=6, K=2, T=3, S=2, effective_bandwidth_hz=7e6, rcs_m2=4.0)
    drop = sample(config, np.random.default_rng(3))
    noise_w = 1e-3 * 10 ** (-174 / 10) * 20e6 * 10 ** (9 / 10)
    wavelength = LIGHT / 1.9e9
    for s in range(2):
        away_ap = np.maximum(np.linalg.norm(drop.ap_xy - drop.target_xy[s], axis=-1), 10.0)
        away_sr = np.maximum(np.linalg.norm(drop.sr_xy - drop.target_xy[s], axis=-1), 10.0)
        chi = wavelength**2 * 4.0 / ((4 * math.pi) ** 3 * away_ap[:, None] ** 2 * away_sr[None, :] ** 2)
        J = delay_fisher(
            drop.ap_xy, drop.sr_xy, drop.target_xy[s], 8 * math.pi**2 * 7e6**2 * 100 * chi / noise_w, np.full(6, 0.02)
        )
        ours = 0.02 * drop.fisher[:, s].sum(0)
        np.testing.assert_allclose(ours, [J[0, 0], J[1, 1], J[0, 1]], rtol=1e-6)


def fisher_triples(rng: np.random.Generator, *shape: int) -> Floats:
    """(q_a, q_b, q_c) of random positive definite matrices, built as G Gᵀ."""
    factor = rng.standard_normal((*shape, 2, 2)) * 10.0 ** rng.uniform(-1, 1, (*shape, 1, 1))
    matrix = factor @ np.swapaxes(factor, -1, -2)
    return np.stack([matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 0, 1]], axis=-1)


def as_matrices(triples: Floats) -> Floats:
    a, b, c = triples[..., 0], triples[..., 1], triples[..., 2]
    return np.stack([np.stack([a, c], -1), np.stack([c, b], -1)], -2)


def test_crlb_is_the_trace_of_the_inverse_fisher_matrix() -> None:
    rng = np.random.default_rng(4)
    fisher, ap_power = fisher_triples(rng, 50, 7, 3), rng.uniform(0, 1, (50, 7))
    J = np.einsum("nm,nmsij->nsij", ap_power, as_matrices(fisher))
    np.testing.assert_allclose(
        physics.crlb(ap_power, fisher), np.trace(np.linalg.inv(J), axis1=-2, axis2=-1), rtol=1e-10
    )


def test_crlb_is_the_quotient_of_forms_in_the_paper() -> None:
    rng = np.random.default_rng(5)
    fisher, ap_power = fisher_triples(rng, 9, 1), rng.uniform(0, 1, 9)
    qa, qb, qc = fisher[:, 0].T
    quotient = ((qa + qb) @ ap_power) / (ap_power @ (np.outer(qa, qb) - np.outer(qc, qc)) @ ap_power)
    assert physics.crlb(ap_power, fisher)[0] == pytest.approx(quotient, rel=1e-12)


def test_a_target_seen_along_one_line_only_cannot_be_located() -> None:
    angle = 0.7
    line = np.array([math.cos(angle) ** 2, math.sin(angle) ** 2, math.cos(angle) * math.sin(angle)])
    fisher = np.stack([1e3 * line, 2e4 * line, 7.0 * line])[:, None, :]
    assert physics.crlb(np.array([0.1, 0.03, 1.0]), fisher)[0] == np.inf
    assert physics.crlb(np.zeros(3), fisher)[0] == np.inf


def test_the_crlb_constraint_is_a_second_order_cone() -> None:
    rng = np.random.default_rng(6)
    triples = fisher_triples(rng, 20_000)
    a, b, c = triples.T
    matrices = as_matrices(triples)
    trace = np.trace(np.linalg.inv(matrices), axis1=-2, axis2=-1)
    threshold = trace * 10.0 ** rng.uniform(-1, 1, trace.shape)  # half of them violated
    threshold[:100] = trace[:100] * (1 + 1e-6)
    threshold[100:200] = trace[100:200] * (1 - 1e-6)
    left = np.sqrt((a - b) ** 2 + (2 * c) ** 2 + (2 / threshold) ** 2)
    in_cone = left <= a + b - 2 / threshold
    met = physics.crlb(np.ones((20_000, 1)), triples[:, None, None, :])[:, 0] <= threshold
    assert 0.4 < met.mean() < 0.6
    np.testing.assert_array_equal(met, in_cone)


def test_path_gain_at_one_kilometre_and_at_a_hundred_metres_is_that_of_table_one() -> None:
    gain = physics.path_gain(np.array([1000.0, 100.0, 10.0]), -120.9, 37.6)
    np.testing.assert_allclose(10 * np.log10(gain), [-120.9, -83.3, -45.7], rtol=1e-12)
    assert physics.path_gain(np.array(100.0), -120.9, 37.6, 7.0) == pytest.approx(10**-7.63, rel=1e-12)


def test_the_urban_preset_is_minus_30_5_dB_at_one_metre() -> None:
    urban = SystemConfig(preset="urban")
    gain = physics.path_gain(np.array([1.0, 10.0]), urban.path_loss_intercept_db, urban.path_loss_per_decade_db)
    np.testing.assert_allclose(10 * np.log10(gain), [-30.5, -67.2], rtol=1e-12)


def test_noise_power_is_minus_92_dBm() -> None:
    # −174 dBm/Hz + 9 dB + 10 log10(20e6) = −174 + 9 + 73.0103 = −91.9897 dBm
    assert SystemConfig().noise_w == pytest.approx(10 ** ((-91.98970004 - 30) / 10), rel=1e-8)


def test_the_radar_equation_gives_the_gain_worked_out_by_hand() -> None:
    # λ = 0.15 m, σ = 2 m², R_m = 50 m (30-40-50), R_t = 100 m: 0.0225·2 / (1984.4017·2500·10000)
    ap, sr, target = np.array([[30.0, 40.0]]), np.array([[0.0, -100.0]]), np.zeros((1, 2))
    gain = physics.radar_gain(ap, sr, target, 0.15, 2.0, 10.0)
    assert gain.shape == (1, 1, 1)
    assert gain[0, 0, 0] == pytest.approx(9.0707561e-13, rel=1e-6)


def test_the_radar_equation_floors_each_distance_by_itself() -> None:
    ap, sr, target = np.array([[3.0, 0.0]]), np.array([[0.0, 20.0]]), np.zeros((1, 2))
    floored = physics.radar_gain(ap, sr, target, 0.15, 1.0, 10.0)
    at_ten = physics.radar_gain(np.array([[10.0, 0.0]]), sr, target, 0.15, 1.0, 1e-3)
    np.testing.assert_allclose(floored, at_ten, rtol=1e-14)


def test_fisher_information_of_a_node_on_the_target_is_that_of_the_other_leg() -> None:
    fisher = physics.fisher_information(
        np.zeros((1, 2)), np.array([[0.0, 5.0]]), np.zeros((1, 2)), np.full((1, 1, 1), 2.0), 3.0
    )
    np.testing.assert_allclose(fisher[0, 0], [0.0, 6.0, 0.0])


def test_the_sinr_of_one_user_at_two_aps_is_the_one_worked_out_by_hand() -> None:
    # amplitudes √(4·1) + √(9·4) = 8; interference 2·4 + 5·9 = 53, noise 11
    power, gain, v = np.array([[4.0], [9.0]]), np.array([[2.0], [5.0]]), np.array([[1.0], [4.0]])
    assert physics.sinr(power, gain, v, 11.0)[0] == pytest.approx(64 / 64)


def test_two_users_on_one_pilot_leak_into_each_other_as_worked_out_by_hand() -> None:
    # one AP, ς = (1, 2), v = (1, 4) and p = (9, 25): user 0 hears √(25·4)·1/2 = 5 of user 1, user 1 √(9·1)·2/1 = 6 of user 0
    power, gain, v = np.array([[9.0, 25.0]]), np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])
    leaking = physics.sinr(power, gain, v, 1.0, np.ones((2, 2)))
    np.testing.assert_allclose(leaking, [9 / (25 + 34 + 1), 100 / (36 + 68 + 1)])
    np.testing.assert_allclose(physics.sinr(power, gain, v, 1.0, np.eye(2)), physics.sinr(power, gain, v, 1.0))


# Every function on one dictionary of arrays, so that NumPy, torch, batches and gradients can be compared name by name.
def _radar(d: dict[str, Any]) -> Any:
    return physics.radar_gain(d["ap_xy"], d["sr_xy"], d["target_xy"], 0.158, d["rcs"], 10.0)


def _fisher(d: dict[str, Any]) -> Any:
    return physics.fisher_information(d["ap_xy"], d["sr_xy"], d["target_xy"], _radar(d), 1.0e19)


def _estimate(d: dict[str, Any]) -> Any:
    return physics.estimate_gain(d["gain"], 2.0, 6.3e-13)


def _estimate_reused(d: dict[str, Any]) -> Any:
    return physics.estimate_gain(d["gain"], 2.0, 6.3e-13, d["overlap"])


FUNCTIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = {
    "path_gain": (lambda d: physics.path_gain(d["distance"], -120.9, 37.6, d["shadowing"]), ("distance", "shadowing")),
    "radar_gain": (_radar, ("ap_xy", "sr_xy", "target_xy", "rcs")),
    "fisher_information": (_fisher, ("ap_xy", "sr_xy", "target_xy", "rcs")),
    "estimate_gain": (_estimate, ("gain",)),
    "estimate_gain, reused pilots": (_estimate_reused, ("gain",)),
    "sinr": (lambda d: physics.sinr(d["power"], d["gain"], _estimate(d), 6.3e-13), ("power", "gain")),
    "sinr, reused pilots": (
        lambda d: physics.sinr(d["power"], d["gain"], _estimate_reused(d), 6.3e-13, d["overlap"]),
        ("power", "gain"),
    ),
    "crlb": (lambda d: physics.crlb(d["power"].sum(-1), _fisher(d)), ("power", "ap_xy", "sr_xy", "target_xy")),
    "precision": (
        lambda d: physics.precision(physics.fisher_matrix(d["power"].sum(-1), _fisher(d))),
        ("power", "ap_xy", "sr_xy", "target_xy"),
    ),
}


def arguments(seed: int, *lead: int) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    pilot = np.array([0, 1, 0, 2])
    overlap = (pilot[:, None] == pilot).astype(np.float64)
    return network(seed, *lead) | {
        "distance": rng.uniform(10, 500, (*lead, 5, 4)),
        "shadowing": rng.normal(0, 7, (*lead, 5, 4)),
        "overlap": np.broadcast_to(overlap, (*lead, 4, 4)).copy(),
    }


@pytest.mark.parametrize("lead", [(), (6,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_torch_gives_the_numbers_of_numpy(name: str, lead: tuple[int, ...]) -> None:
    function, _ = FUNCTIONS[name]
    given = arguments(7, *lead)
    ours = function(given)
    theirs = function({key: torch.from_numpy(value) for key, value in given.items()})
    assert isinstance(ours, np.ndarray)
    assert isinstance(theirs, torch.Tensor)
    assert theirs.dtype == torch.float64
    assert ours.shape[: len(lead)] == lead
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-12)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_a_batch_is_the_stack_of_its_drops(name: str) -> None:
    function, _ = FUNCTIONS[name]
    given = arguments(8, 2, 3)
    batched = function(given)
    for i in range(2):
        for j in range(3):
            alone = function({key: value[i, j] for key, value in given.items()})
            np.testing.assert_allclose(batched[i, j], alone, rtol=1e-12)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_torch_gradients_are_central_differences_of_numpy(name: str) -> None:
    function, inputs = FUNCTIONS[name]
    given = arguments(9)
    weight = np.random.default_rng(10).uniform(0.5, 1.5, function(given).shape)
    weight = weight / function(given)  # every output counts alike, whatever its magnitude
    tensors = {key: torch.from_numpy(value).requires_grad_(key in inputs) for key, value in given.items()}
    (function(tensors) * torch.from_numpy(weight)).sum().backward()
    for key in inputs:
        gradient = tensors[key].grad
        assert gradient is not None
        step = 1e-6 * np.maximum(np.abs(given[key]), 1e-3 if key.endswith("xy") else 0.0)
        differences = np.empty(given[key].shape)
        for index in np.ndindex(given[key].shape):
            values = []
            for sign in (1, -1):
                moved = given[key].copy()
                moved[index] += sign * step[index]
                values.append(float((function(given | {key: moved}) * weight).sum()))
            differences[index] = (values[0] - values[1]) / (2 * step[index])
        scaled = gradient.numpy() * np.abs(given[key])
        np.testing.assert_allclose(
            differences * np.abs(given[key]), scaled, rtol=2e-5, atol=1e-6 * float(np.abs(scaled).max())
        )


@pytest.mark.parametrize("name", ["sinr", "sinr, reused pilots"])
@pytest.mark.parametrize("off", [[0], [1, 3], [0, 1, 2, 3, 4]], ids=str)
def test_sinr_gradients_with_aps_off_are_those_of_interference_alone(name: str, off: list[int]) -> None:
    given = arguments(11)
    given["power"][off] = 0.0
    given["power"][2, 1] = 0.0  # one user that an AP doesn't serve
    overlap = given["overlap"] if "reused" in name else None
    v = physics.estimate_gain(given["gain"], 2.0, 6.3e-13, overlap)

    def total(power: Any, gain: Any, estimate: Any) -> Any:
        pilots = torch.from_numpy(overlap) if overlap is not None and isinstance(power, torch.Tensor) else overlap
        return (physics.sinr(power, gain, estimate, 6.3e-13, pilots) + 1e-3).sum()

    power, gain, estimate = (torch.from_numpy(a.copy()).requires_grad_() for a in (given["power"], given["gain"], v))
    total(power, gain, estimate).backward()
    zero = given["power"] == 0.0
    heard = np.where(zero, 0.0, v)  # what a power of zero may add to signals is left out, as its slope is infinite
    for tensor, i in ((power, 0), (gain, 1)):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        values = [given["power"], given["gain"], heard]
        differences = np.empty(values[i].shape)
        for index in np.ndindex(differences.shape):
            step = 1e-6 * max(float(values[i][index]), 1e-3 if i == 0 else 0.0)
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in values]
                moved[i][index] += sign * step
                with np.errstate(invalid="ignore"):  # a negative power without a signal
                    ends.append(float(total(*moved)))
            differences[index] = (ends[0] - ends[1]) / (2 * step)
        scale = np.maximum(values[i], 1e-3) if i == 0 else values[i]
        scaled = tensor.grad.numpy() * scale
        np.testing.assert_allclose(differences * scale, scaled, rtol=1e-4, atol=1e-6 * np.abs(scaled).max() + 1e-300)
    assert estimate.grad is not None
    assert torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_the_inverse_of_the_bound(dtype: str) -> None:
    xy = np.random.default_rng(13).normal(size=(50, 7, 2)).astype(dtype)
    information = np.stack([xy[..., 0] ** 2, xy[..., 1] ** 2, xy[..., 0] * xy[..., 1]], -1)  # of rank one each
    total = information.sum(1)
    np.testing.assert_allclose(physics.precision(total) * physics.trace_inverse(total), 1.0, rtol=1e-4)
    expected = 1.0 / np.trace(np.linalg.inv(total[:, [[0, 2], [2, 1]]].astype(float)), axis1=-2, axis2=-1)
    np.testing.assert_allclose(physics.precision(total), expected, rtol=1e-5 if dtype == "float32" else 1e-10)
    for singular in (information, 0.0 * information):
        assert (physics.precision(singular) == 0.0).all()
        assert np.isinf(physics.trace_inverse(singular)).all()


@pytest.mark.parametrize("on", [0, 1, 6], ids="{} on".format)
@pytest.mark.parametrize("fields", [{}, {"pilot_length": 2}], ids=str)
def test_every_term_of_the_score_has_finite_gradients_in_torch(on: int, fields: dict[str, Any]) -> None:
    drop = sample(SystemConfig(M=6, K=4, S=2, T=4, **fields), np.random.default_rng(12)).to(backend("torch", None))
    power = torch.full((6, 4), 0.01, dtype=torch.float64)
    power[on:] = 0.0
    power.requires_grad_()
    outcome = drop.evaluate(Decision(torch.arange(6) < on, power))
    score = outcome.total_power + outcome.sinr_violation.sum() + outcome.crlb_violation.sum() + outcome.cap_violation
    score.backward()
    assert power.grad is not None
    assert torch.isfinite(power.grad).all()
    assert on == 0 or (power.grad[:on] != 0.0).all()


def handmade(**changes: Any) -> Problem:
    """Two APs, one user and one target, in numbers that can be followed by hand.

    With p = (1, 1) W: γ = (√1 + √1)² / (1 + 1 + 2) = 1. J = (P_1·4, P_2·4) on the diagonal: CRLB = 1/4 + 1/4 = 1/2 m².
    """
    problem = Problem(
        gain=np.ones((2, 1)),
        estimate_gain=np.ones((2, 1)),
        noise_w=2.0,
        fisher=np.array([[[4.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]]]),
        sinr_threshold=1.0,
        crlb_threshold_m2=0.5,
        max_ap_power_w=1.0,
        circuit_power_w=0.25,
    )
    return replace(problem, **changes)


BOTH_ON = Decision(np.array([True, True]), np.ones((2, 1)))


def test_a_decision_that_meets_everything_exactly_is_feasible() -> None:
    outcome = physics.evaluate(handmade(), BOTH_ON)
    np.testing.assert_allclose(outcome.sinr, [1.0])
    np.testing.assert_allclose(outcome.crlb, [0.5])
    assert outcome.transmit_power == pytest.approx(2.0)
    assert outcome.circuit_power == pytest.approx(0.5)
    assert outcome.total_power == pytest.approx(2.5)
    np.testing.assert_allclose(outcome.sinr_violation, [0.0], atol=1e-15)
    np.testing.assert_allclose(outcome.crlb_violation, [0.0], atol=1e-15)
    assert outcome.cap_violation == 0.0
    assert outcome.feasible


@pytest.mark.parametrize(
    ("changes", "sinr_violation", "crlb_violation", "cap_violation"),
    [
        ({"sinr_threshold": 4.0}, 0.75, 0.0, 0.0),
        ({"crlb_threshold_m2": 0.4}, 0.0, 0.2, 0.0),
        ({"max_ap_power_w": 0.8}, 0.0, 0.0, 0.25),
    ],
)
def test_a_violation_is_the_share_by_which_the_constraint_is_missed(
    changes: dict[str, float], sinr_violation: float, crlb_violation: float, cap_violation: float
) -> None:
    outcome = physics.evaluate(handmade(**changes), BOTH_ON)
    np.testing.assert_allclose(outcome.sinr_violation, [sinr_violation], atol=1e-15)
    np.testing.assert_allclose(outcome.crlb_violation, [crlb_violation], atol=1e-15)
    assert outcome.cap_violation == pytest.approx(cap_violation)
    assert not outcome.feasible


@pytest.mark.parametrize("field", ["sinr_threshold", "crlb_threshold_m2", "max_ap_power_w"])
@pytest.mark.parametrize(("miss", "feasible"), [(0.9e-4, True), (1.2e-4, False)])
def test_a_miss_within_one_in_ten_thousand_counts_as_met(field: str, miss: float, feasible: bool) -> None:
    exact = getattr(handmade(), field)
    tighter = exact * (1 + miss) if field == "sinr_threshold" else exact * (1 - miss)
    problem = handmade(**{field: tighter})
    assert bool(physics.evaluate(problem, BOTH_ON).feasible) is feasible
    assert physics.evaluate(problem, BOTH_ON, tolerance=1e-3).feasible
    assert not physics.evaluate(problem, BOTH_ON, tolerance=1e-5).feasible


def test_an_ap_that_is_off_and_radiates_is_never_feasible() -> None:
    decision = Decision(np.array([True, False]), np.array([[1.0], [1e-12]]))
    outcome = physics.evaluate(handmade(sinr_threshold=1e-6, crlb_threshold_m2=1e13), decision)
    assert outcome.cap_violation == np.inf
    assert not outcome.feasible
    assert outcome.circuit_power == pytest.approx(0.25)


def test_radiating_nothing_violates_everything_and_breaks_no_cap() -> None:
    outcome = physics.evaluate(handmade(), Decision(np.zeros(2, bool), np.zeros((2, 1))))
    np.testing.assert_array_equal(outcome.sinr, [0.0])
    np.testing.assert_array_equal(outcome.crlb, [np.inf])
    np.testing.assert_array_equal(outcome.sinr_violation, [1.0])
    np.testing.assert_array_equal(outcome.crlb_violation, [1.0])
    assert outcome.cap_violation == 0.0
    assert outcome.total_power == 0.0
    assert not outcome.feasible


OUTCOME_FIELDS = (
    "sinr", "crlb", "transmit_power", "circuit_power", "total_power",
    "sinr_violation", "crlb_violation", "cap_violation", "feasible",
)  # fmt: skip


def random_decisions(rng: np.random.Generator, *shape: int) -> Decision:
    """Of shape (…, M, K); about one AP in eight radiates although it is off, one in eight exceeds its cap."""
    active = rng.random(shape[:-1]) < 0.7
    power = np.where(active[..., None], 0.1 * rng.random(shape) / shape[-1], 0.0)
    return Decision(
        active | (rng.random(shape[:-1]) < 0.1), power * np.where(rng.random(shape[:-1]) < 0.02, 40, 1)[..., None]
    )


@pytest.mark.parametrize(
    "config", [SystemConfig(M=6, K=3, S=2), SystemConfig(M=6, K=5, S=3, T=1, pilot_length=2)], ids=str
)
def test_evaluating_a_batch_is_evaluating_each_drop_in_numpy_and_torch(config: SystemConfig) -> None:
    rng = np.random.default_rng(11)
    problem = sample(config, rng, 12).problem
    decision = random_decisions(rng, 12, config.M, config.K)
    batched = physics.evaluate(problem, decision)
    tensors: dict[str, Any] = {
        name: torch.tensor(value)
        for name in ("gain", "estimate_gain", "fisher", "pilot_overlap")
        if (value := getattr(problem, name)) is not None
    }
    in_torch = physics.evaluate(
        replace(problem, **tensors), Decision(torch.tensor(decision.active), torch.tensor(decision.power))
    )
    for name in OUTCOME_FIELDS:
        whole = getattr(batched, name)
        np.testing.assert_allclose(getattr(in_torch, name).numpy(), whole, rtol=1e-12, atol=1e-14)
        for i in range(12):
            alone = physics.evaluate(problem[i], Decision(decision.active[i], decision.power[i]))
            np.testing.assert_allclose(getattr(alone, name), whole[i], rtol=1e-12, atol=1e-14)


def test_many_decisions_on_one_drop_are_scored_without_repeating_the_drop() -> None:
    rng = np.random.default_rng(12)
    problem = sample(SystemConfig(M=6, K=5, S=2, pilot_length=3), rng).problem
    decision = random_decisions(rng, 4, 7, 6, 5)
    outcome = physics.evaluate(problem, decision)
    assert outcome.feasible.shape == (4, 7)
    for i, j in np.ndindex(4, 7):
        alone = physics.evaluate(problem, Decision(decision.active[i, j], decision.power[i, j]))
        for name in OUTCOME_FIELDS:
            np.testing.assert_allclose(getattr(outcome, name)[i, j], getattr(alone, name), rtol=1e-12, atol=1e-14)
