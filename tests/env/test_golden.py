"""One drop of each preset, worked out link by link in plain Python from the random numbers, and pinned.

Nothing here is shared with the package but the stream of random numbers: positions are complex numbers, constants are typed in again
from Table I of the paper and the documentation of the presets, sums are loops.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import cfisac_env  # registers the environments

M, K, SEED = 4, 2, 1_000_027

# What each preset asks for, as the documentation has it: path loss at 1 km and per decade, shadowing, targets' accuracy, receivers, …
TABLE: dict[str, dict[str, float]] = {"paper": {}, "high-rate": {}, "precise-sensing": {}, "urban": {}}
for _values in TABLE.values():
    _values |= {"at_1_km": -120.9, "slope": 37.6, "shadowing": 7.0, "sinr_db": -5.6, "nu": 1.0, "T": 2, "cap": 0.1}
TABLE["high-rate"]["sinr_db"] = 0.0
TABLE["precise-sensing"] |= {"nu": 0.065, "T": 10}
TABLE["urban"] |= {"at_1_km": -140.6, "slope": 36.7, "shadowing": 4.0, "sinr_db": -4.0, "cap": 0.2}

GOLDEN: dict[str, dict[str, Any]] = {
    "paper": {
        "transmit_power_w": 0.201953125,
        "circuit_power_w": 0.6,
        "active_aps": 3,
        "sinr_db": [-1.71862175727, 1.51568934449],
        "crlb_m2": [0.932206611119],
        "feasible": True,
        "reward": -0.801953125,
        "first_comm": [3.48118279779, 3.48111109506],
    },
    "high-rate": {
        "transmit_power_w": 0.201953125,
        "circuit_power_w": 0.6,
        "active_aps": 3,
        "sinr_db": [-1.71862175727, 1.51568934449],
        "crlb_m2": [0.932206611119],
        "feasible": False,
        "reward": -1.3307238957,
        "first_comm": [3.48118279779, 3.48111109506],
    },
    "precise-sensing": {
        "transmit_power_w": 0.201953125,
        "circuit_power_w": 0.6,
        "active_aps": 3,
        "sinr_db": [-5.42882634867, -0.669799439683],
        "crlb_m2": [0.122303522127],
        "feasible": False,
        "reward": -1.38741413536,
        "first_comm": [1.72356556891, 1.71948101278],
    },
    "urban": {
        "transmit_power_w": 0.40390625,
        "circuit_power_w": 0.6,
        "active_aps": 3,
        "sinr_db": [-3.21286246784, -0.322657774457],
        "crlb_m2": [0.466103305559],
        "feasible": True,
        "reward": -1.00390625,
        "first_comm": [1.1403231581, 1.12488172636],
    },
}


def action() -> np.ndarray[Any, np.dtype[np.float32]]:
    """AP 0 wants more than its cap, AP 1 less, AP 2 is off, AP 3 serves one user."""
    rows = [[0.5, 0.9, 0.7], [0.0, -0.25, 0.5], [-0.5, 1.0, 1.0], [1.0, -1.0, 0.125]]
    return np.array(rows, np.float32)


def slowly(preset: str) -> dict[str, Any]:
    """What the environment has to say about the first drop of the seed and that action."""
    table, T = TABLE[preset], int(TABLE[preset]["T"])
    rng = np.random.default_rng(SEED)
    uniform = rng.random((K + M + T, 2)).tolist()
    shadowing_db = (rng.standard_normal((M, K)) * table["shadowing"]).tolist()
    places = [250.0 * math.sqrt(u) * cmath.exp(2j * math.pi * turn) for u, turn in uniform]
    users, aps, receivers, target = places[:K], places[K : K + M], places[K + M :], 0j

    noise_w = 10 ** ((-174.0 + 9.0) / 10) * 1e-3 * 20e6
    light = 299792458.0
    wavelength = light / 1.9e9
    energy = 20 * 0.1

    radiated = []
    for row in action().tolist():
        asked = [table["cap"] * ((a + 1) / 2) ** 2 for a in row[1:]]
        share = min(1.0, table["cap"] / sum(asked)) if row[0] >= 0 else 0.0
        radiated.append([share * watts for watts in asked])

    gain: list[list[float]] = []
    estimate: list[list[float]] = []
    for m in range(M):
        gain.append([])
        estimate.append([])
        for k in range(K):
            kilometres = max(abs(aps[m] - users[k]), 10.0) / 1000
            loss_db = table["at_1_km"] - table["slope"] * math.log10(kilometres) + shadowing_db[m][k]
            sigma = 10 ** (loss_db / 10)
            gain[m].append(sigma)
            estimate[m].append(energy * sigma**2 / (energy * sigma + noise_w))

    sinr = []
    for k in range(K):
        signal = abs(sum(math.sqrt(radiated[m][k] * estimate[m][k]) for m in range(M))) ** 2
        heard = sum(gain[m][k] * radiated[m][j] for m in range(M) for j in range(K))
        sinr.append(signal / (heard + noise_w))

    # Fisher matrix of the target's position: every path AP – target – receiver measures its length, along the sum of two directions.
    information = [[0.0, 0.0], [0.0, 0.0]]
    per_watt = 8 * math.pi**2 * 20e6**2 * 100 / (noise_w * light**2)
    for m in range(M):
        for t in range(T):
            to_ap, to_receiver = aps[m] - target, receivers[t] - target
            ranges = max(abs(to_ap), 10.0) * max(abs(to_receiver), 10.0)
            echo = wavelength**2 * 1.0 / ((4 * math.pi) ** 3 * ranges**2)
            way = to_ap / abs(to_ap) + to_receiver / abs(to_receiver)
            for i, first in enumerate((way.real, way.imag)):
                for j, second in enumerate((way.real, way.imag)):
                    information[i][j] += per_watt * echo * sum(radiated[m]) * first * second
    determinant = information[0][0] * information[1][1] - information[0][1] * information[1][0]
    crlb = (information[0][0] + information[1][1]) / determinant

    transmit = sum(map(sum, radiated))
    threshold = 10 ** (table["sinr_db"] / 10)
    missed = [*(max(0.0, 1 - ratio / threshold) for ratio in sinr), max(0.0, 1 - table["nu"] / crlb)]
    return {
        "transmit_power_w": transmit,
        "circuit_power_w": 0.2 * 3,
        "active_aps": 3,
        "sinr_db": [10 * math.log10(ratio) for ratio in sinr],
        "crlb_m2": [crlb],
        "feasible": not any(missed),
        "reward": -transmit - 0.6 if not any(missed) else -4 * (table["cap"] + 0.2) * (1 + sum(missed) / 3),
        "first_comm": [math.log10(gain[0][0] / noise_w), math.log10(estimate[0][0] / noise_w)],
    }


def scalar(preset: str) -> dict[str, Any]:
    env = gym.make("CfIsac-v0", M=M, K=K, preset=preset)
    observation, _ = env.reset(seed=SEED)
    _, reward, _, _, info = env.step(action())
    return {**info, "reward": reward, "first_comm": observation["comm"][0, 0]}


def batched(preset: str, **arguments: Any) -> dict[str, Any]:
    envs = gym.make_vec(
        "CfIsac-v0", num_envs=3, vectorization_mode="vector_entry_point", M=M, K=K, preset=preset, **arguments
    )
    seeds: Any = [5, SEED, 6]
    observation, _ = envs.reset(seed=seeds)
    _, rewards, _, _, infos = envs.step(np.stack([action()] * 3))
    return {key: value[1] for key, value in {**infos, "reward": rewards}.items() if key != "reward_terms"} | {
        "first_comm": observation["comm"][1, 0, 0]
    }


def in_torch(preset: str) -> dict[str, Any]:
    return batched(preset, backend="torch")


@pytest.mark.parametrize("preset", list(cfisac_env.PRESETS))
def test_the_slow_way_gives_the_golden_values(preset: str) -> None:
    assert slowly(preset).keys() == GOLDEN[preset].keys()
    for name, value in slowly(preset).items():
        assert value == pytest.approx(GOLDEN[preset][name], rel=1e-9), name


@pytest.mark.parametrize("environment", [scalar, batched, in_torch])
@pytest.mark.parametrize("preset", list(cfisac_env.PRESETS))
def test_environments_give_the_golden_values(preset: str, environment: Callable[[str], dict[str, Any]]) -> None:
    said = environment(preset)
    for name, value in GOLDEN[preset].items():
        tolerance = 1e-6 if name == "first_comm" else 1e-9  # observations are float32
        assert np.asarray(said[name]).tolist() == pytest.approx(value, rel=tolerance), name
