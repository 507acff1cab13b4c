"""Drops: how they are distributed, kept, written and read."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from cfisac_env import Scenario, SystemConfig, drop_files, sample
from cfisac_env.scenario import overlap

ARRAYS = tuple(field.name for field in dataclasses.fields(Scenario) if field.name not in ("config", "prior"))

REUSED = SystemConfig(M=5, K=7, S=2, T=3, pilot_length=3, rcs_model="exponential")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def same(one: Scenario, other: Scenario) -> bool:
    """Every array bit for bit, and the configuration."""
    return one.config == other.config and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        if getattr(one, name) is not None
        else getattr(other, name) is None
        for name in ARRAYS
    )


@pytest.mark.parametrize("who", ["ap_xy", "ue_xy", "sr_xy", "target_xy"])
def test_positions_are_uniform_in_the_disc(who: str) -> None:
    drops = sample(SystemConfig(M=4, K=4, T=4, S=5, area_diameter_m=300.0), rng(1), 1000)
    xy = getattr(drops, who)[:, 1:].reshape(-1, 2)  # the first target stands at the centre
    share = (xy**2).sum(-1) / 150.0**2
    angle = np.arctan2(xy[:, 1], xy[:, 0]) / (2 * math.pi) + 0.5
    assert share.max() <= 1.0
    assert stats.kstest(share, "uniform").pvalue > 0.01
    assert stats.kstest(angle, "uniform").pvalue > 0.01
    assert abs(stats.spearmanr(share, angle).statistic) < 0.06


@pytest.mark.parametrize("n", [None, 3])
def test_the_first_target_stands_at_the_centre_and_the_others_elsewhere(n: int | None) -> None:
    drops = sample(SystemConfig(S=3), rng(2), n)
    np.testing.assert_array_equal(drops.target_xy[..., 0, :], 0.0)
    assert (np.linalg.norm(drops.target_xy[..., 1:, :], axis=-1) > 0).all()


def link_distances(drops: Scenario) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(drops.ap_xy[..., :, None, :] - drops.ue_xy[..., None, :, :], axis=-1))


def test_shadowing_is_normal_in_decibels_and_independent_on_every_link() -> None:
    drops = sample(SystemConfig(M=8, K=5), rng(3), 500)
    distance_km = np.maximum(link_distances(drops), 10.0) / 1000
    shadowing = 10 * np.log10(drops.gain) - (-120.9 - 37.6 * np.log10(distance_km))
    assert stats.kstest(shadowing.ravel() / 7.0, "norm").pvalue > 0.01
    assert shadowing.std() == pytest.approx(7.0, rel=0.02)
    correlation = np.corrcoef(shadowing.reshape(500, 40).T)[np.triu_indices(40, 1)]
    assert correlation.std() == pytest.approx(1 / math.sqrt(500), rel=0.1)  # what independent links show


def test_no_link_is_counted_shorter_than_the_minimum_distance() -> None:
    drops = sample(SystemConfig(M=20, K=20, shadowing_std_db=0.0, min_distance_m=60.0), rng(4), 20)
    close = link_distances(drops) < 60.0
    assert 0.01 < close.mean() < 0.5
    at_floor = -120.9 - 37.6 * math.log10(0.06)
    np.testing.assert_allclose(10 * np.log10(drops.gain[close]), at_floor, rtol=1e-12)
    assert (10 * np.log10(drops.gain[~close]) < at_floor).all()
    reach = np.linalg.norm(drops.ap_xy - drops.target_xy, axis=-1) < 60.0
    assert reach.any()
    wavelength = 299_792_458.0 / 1.9e9
    leg = np.maximum(np.linalg.norm(drops.sr_xy - drops.target_xy, axis=-1), 60.0)
    nearest = wavelength**2 / ((4 * math.pi) ** 3 * 60.0**2 * leg**2)
    expected = np.broadcast_to(nearest[:, None, :], (20, 20, 2))[reach]
    np.testing.assert_allclose(drops.rcs_gain[:, :, 0, :][reach], expected, rtol=1e-12)


def test_exponential_cross_sections_have_the_mean_asked_for_on_every_pair() -> None:
    config = SystemConfig(M=4, T=3, S=2, rcs_m2=5.0, rcs_model="exponential")
    drops = sample(config, rng(5), 800)
    ap = np.maximum(np.linalg.norm(drops.ap_xy[:, :, None] - drops.target_xy[:, None], axis=-1), 10.0)
    sr = np.maximum(np.linalg.norm(drops.sr_xy[:, :, None] - drops.target_xy[:, None], axis=-1), 10.0)
    unit = config.wavelength_m**2 / ((4 * math.pi) ** 3 * ap[:, :, :, None] ** 2 * np.swapaxes(sr, 1, 2)[:, None] ** 2)
    section = drops.rcs_gain / unit
    assert section.shape == (800, 4, 2, 3)
    assert stats.kstest(section.ravel() / 5.0, "expon").pvalue > 0.01
    assert len(np.unique(section[0].round(9))) == 24


@pytest.mark.parametrize("config", [SystemConfig(), REUSED], ids=["paper", "reused"])
@pytest.mark.parametrize("n", [None, 4])
def test_the_same_seed_draws_the_same_drops_and_another_seed_others(config: SystemConfig, n: int | None) -> None:
    assert same(sample(config, rng(6), n), sample(config, rng(6), n))
    assert not np.array_equal(sample(config, rng(6), n).gain, sample(config, rng(7), n).gain)


def test_shapes_are_those_of_the_configuration() -> None:
    drops = sample(REUSED, rng(8), 4)
    shapes = {name: getattr(drops, name).shape for name in ARRAYS}
    assert shapes == {
        "ap_xy": (4, 5, 2),
        "ue_xy": (4, 7, 2),
        "sr_xy": (4, 3, 2),
        "target_xy": (4, 2, 2),
        "gain": (4, 5, 7),
        "estimate_gain": (4, 5, 7),
        "rcs_gain": (4, 5, 2, 3),
        "fisher": (4, 5, 2, 3),
        "pilot": (4, 7),
    }
    assert len(drops) == 4
    assert drops[2].batch_shape == ()
    assert len(drops[1:3]) == 2
    assert len(drops[2].batch()) == 1
    with pytest.raises(TypeError, match="batch"):
        len(drops[2])
    with pytest.raises(IndexError, match="batch"):
        drops[2][0]


@pytest.mark.parametrize("n", [None, 3])
def test_a_drop_can_be_handed_to_torch(n: int | None) -> None:
    drops = sample(REUSED, rng(23), n)
    for name in ARRAYS:
        np.testing.assert_array_equal(torch.tensor(getattr(drops, name)).numpy(), getattr(drops, name))


def test_a_batch_of_networks_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="single drop"):
        sample(REUSED, rng(), network=sample(REUSED, rng(), 2))


def test_fewer_than_one_drop_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        sample(SystemConfig(), rng(), 0)


def test_more_users_than_pilots_take_turns() -> None:
    drops = sample(REUSED, rng(9), 2)
    np.testing.assert_array_equal(drops.pilot, [[0, 1, 2, 0, 1, 2, 0]] * 2)
    G = overlap(drops.pilot)
    assert G is not None
    np.testing.assert_array_equal(drops.problem.pilot_overlap, G)
    np.testing.assert_array_equal(G[0, 0], [1, 0, 0, 1, 0, 0, 1])
    E, noise_w = 3 * 0.1, REUSED.noise_w
    gain = drops.gain[0]
    heard = gain[:, [0]] + gain[:, [3]] + gain[:, [6]]
    np.testing.assert_allclose(
        drops.estimate_gain[0][:, [0]], E * gain[:, [0]] ** 2 / (E * heard + noise_w), rtol=1e-12
    )
    assert sample(SystemConfig(), rng(9)).pilot is None


def test_the_estimate_of_a_user_with_its_own_pilot_follows_table_one() -> None:
    drop = sample(SystemConfig(), rng(10))
    noise_w = 10 ** ((-174 - 30 + 9) / 10) * 20e6
    np.testing.assert_allclose(drop.estimate_gain, 2.0 * drop.gain**2 / (2.0 * drop.gain + noise_w), rtol=1e-12)


@pytest.mark.parametrize("n", [None, 3])
def test_a_new_instant_keeps_the_infrastructure_and_moves_the_users(n: int | None) -> None:
    network = sample(REUSED, rng(11))
    instants = sample(REUSED, rng(12), n, network=network)
    assert instants.batch_shape == (() if n is None else (n,))
    for name in ("ap_xy", "sr_xy", "target_xy"):
        np.testing.assert_array_equal(
            getattr(instants, name), np.broadcast_to(getattr(network, name), getattr(instants, name).shape)
        )
        assert not np.shares_memory(getattr(instants, name), getattr(network, name))
    for name in ("ue_xy", "gain", "rcs_gain"):
        assert not np.isclose(getattr(instants, name), getattr(network, name), atol=0).any()
    if n is not None:
        assert not np.isclose(instants.ue_xy[0], instants.ue_xy[1]).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: sample(REUSED, rng(13)),
        lambda: sample(REUSED, rng(13), 3),
        lambda: sample(REUSED, rng(13), 3)[1],
        lambda: sample(REUSED, rng(13)).batch(),
        lambda: sample(REUSED, rng(13), 2, network=sample(REUSED, rng(14))),
        lambda: pickle.loads(pickle.dumps(sample(REUSED, rng(13)))),
        lambda: copy.deepcopy(sample(REUSED, rng(13))),
    ],
    ids=["one", "batch", "item", "batch of one", "instants", "pickled", "copied"],
)
def test_a_scenario_cannot_be_changed(make: Any) -> None:
    drop = make()
    for name in ARRAYS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(drop, name)[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        drop.gain = None


@pytest.mark.parametrize(
    "config", [SystemConfig(), REUSED, SystemConfig(preset="urban", S=2)], ids=["paper", "reused", "urban"]
)
@pytest.mark.parametrize("n", [None, 3])
def test_drops_come_back_from_a_file_bit_for_bit(config: SystemConfig, n: int | None, tmp_path: Path) -> None:
    drops = sample(config, rng(15), n)
    path = drops.save(tmp_path / "drops.npz")
    assert same(Scenario.load(path), drops)
    assert same(Scenario.load(str(path)), drops)
    assert [p.name for p in tmp_path.iterdir()] == ["drops.npz"]


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        Scenario.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(share: float, tmp_path: Path) -> None:
    path = sample(SystemConfig(), rng(16), 3).save(tmp_path / "cut.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.npz"):
        Scenario.load(path)


def test_a_file_with_a_damaged_byte_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    drops = sample(SystemConfig(M=4, K=2), rng(17))
    path = drops.save(tmp_path / "damaged.npz")
    content = path.read_bytes()
    refusals = []
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            again = Scenario.load(path)
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert same(again, drops), position
    assert len(refusals) > 50
    assert all("damaged.npz" in message for message in refusals)


def test_files_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    drops = sample(SystemConfig(M=4, K=2), rng(18))
    np.savez(tmp_path / "foreign.npz", weights=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "notes.npz").write_text("not an archive")
    np.savez(tmp_path / "objects.npz", format=np.array([{}], dtype=object))
    good = drops.save(tmp_path / "good.npz")
    with np.load(good) as file:
        content = dict(file)
    np.savez(tmp_path / "version.npz", **(content | {"format": np.array("cfisac-drops-99")}))
    np.savez(tmp_path / "lacking.npz", **{name: a for name, a in content.items() if name != "fisher"})
    np.savez(tmp_path / "unconfigured.npz", **{name: a for name, a in content.items() if name != "config"})
    np.savez(tmp_path / "notjson.npz", **(content | {"config": np.array("{")}))
    np.savez(tmp_path / "newer.npz", **(content | {"config": np.array('{"a_field_of_tomorrow": 1}')}))
    np.savez(tmp_path / "other-size.npz", **(content | {"config": np.array('{"M": 9, "K": 2}')}))
    np.savez(tmp_path / "negative.npz", **(content | {"gain": -content["gain"]}))
    np.savez(tmp_path / "pilots.npz", **(content | {"pilot": np.zeros(5, int)}))
    (tmp_path / "good.npz").unlink()
    found = sorted(tmp_path.iterdir())
    assert len(found) == 12
    for path in found:
        with pytest.raises(ValueError, match=path.name):
            Scenario.load(path)


def test_a_write_that_fails_halfway_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = sample(SystemConfig(), rng(19)), sample(SystemConfig(), rng(20))
    path = old.save(tmp_path / "drops.npz")

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"PK\x03\x04 half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space left"):
        new.save(path)
    assert same(Scenario.load(path), old)
    assert [p.name for p in tmp_path.iterdir()] == ["drops.npz"]


def given(config: SystemConfig, seed: int = 21, *lead: int) -> dict[str, Any]:
    """Positions and gains as a user would bring them."""
    g = rng(seed)
    sizes = {"ap_xy": config.M, "ue_xy": config.K, "sr_xy": config.T, "target_xy": config.S}
    xy = {name: g.uniform(-200, 200, (*lead, count, 2)) for name, count in sizes.items()}
    return {**xy, "gain": 10 ** g.uniform(-12, -8, (*lead, config.M, config.K))}


@pytest.mark.parametrize("lead", [(), (3,)], ids=str)
@pytest.mark.parametrize("config", [SystemConfig(M=4, K=3, S=2), REUSED], ids=["own", "reused"])
def test_a_scenario_from_the_gains_of_a_sampled_one_is_the_sampled_one(
    config: SystemConfig, lead: tuple[int, ...]
) -> None:
    drops = sample(config, rng(22), *lead)
    parts = {
        name: getattr(drops, name) for name in ("ap_xy", "ue_xy", "sr_xy", "target_xy", "gain", "rcs_gain", "pilot")
    }
    assert same(Scenario.from_gains(config, **parts), drops)


def test_gains_that_were_brought_stay_the_users_own() -> None:
    config = SystemConfig(M=4, K=3)
    parts = given(config)
    drop = Scenario.from_gains(config, **parts)
    before = drop.gain.copy()
    for array in parts.values():
        array[...] = 1.0  # still writeable
    np.testing.assert_array_equal(drop.gain, before)


def test_lists_are_as_good_as_arrays() -> None:
    config = SystemConfig(M=4, K=3)
    parts = given(config)
    assert same(
        Scenario.from_gains(config, **{name: a.tolist() for name, a in parts.items()}),
        Scenario.from_gains(config, **parts),
    )


@pytest.mark.parametrize("name", ["ap_xy", "ue_xy", "sr_xy", "target_xy", "gain"])
def test_a_shape_that_does_not_fit_is_refused_by_name(name: str) -> None:
    config = SystemConfig(M=4, K=3)
    parts = given(config)
    parts[name] = parts[name][..., :1]
    with pytest.raises(ValueError, match=f"{name} must have shape") as caught:
        Scenario.from_gains(config, **parts)
    assert str(parts[name].shape) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("gain", 0.0), ("gain", -1e-9), ("gain", math.nan), ("ap_xy", math.inf), ("rcs_gain", 0.0)]
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: float) -> None:
    config = SystemConfig(M=4, K=3)
    parts = given(config) | {"rcs_gain": np.full((4, 1, 2), 1e-14)}
    parts[name].flat[1] = value
    with pytest.raises(ValueError, match=f"{name} must be finite.*1 of its"):
        Scenario.from_gains(config, **parts)


@pytest.mark.parametrize(
    "pilot", [[0, 1, 2], [0, 1, 2, 0, 1, 2, 3], [0, 1, -1, 0, 1, 2, 0], [0.0, 1, 2, 0, 1, 2, 0]], ids=str
)
def test_pilots_that_cannot_be_are_refused(pilot: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pilot must (be whole numbers|have shape)"):
        Scenario.from_gains(REUSED, **given(REUSED), pilot=pilot)


def test_pilots_that_were_brought_decide_who_contaminates_whom() -> None:
    pilot = np.array([2, 2, 1, 0, 1, 0, 2])
    drop = Scenario.from_gains(REUSED, **given(REUSED), pilot=pilot)
    G = overlap(drop.pilot)
    assert G is not None
    np.testing.assert_array_equal(drop.problem.pilot_overlap, G)
    np.testing.assert_array_equal(G[0], [1, 1, 0, 0, 0, 0, 1])
    heard = drop.gain[:, 3] + drop.gain[:, 5]
    E = 0.3
    np.testing.assert_allclose(
        drop.estimate_gain[:, 3], E * drop.gain[:, 3] ** 2 / (E * heard + REUSED.noise_w), rtol=1e-12
    )


HOSTILE: dict[str, tuple[str, Any, str]] = {
    "complex coefficients": ("gain", lambda a: np.sqrt(a) * np.exp(1j), r"complex ones; .*np.abs\(h\) \*\* 2"),
    "complex numbers without imaginary parts": ("gain", lambda a: a + 0j, "complex"),
    "gains in dB": ("gain", lambda a: 10 * np.log10(a), r"look like dB; give 10 \*\* \(gain / 10\)"),
    "path loss in dB": ("gain", lambda a: -10 * np.log10(a), r"path loss in dB; give 10 \*\* \(-loss_db / 10\)"),
    "one link in dB": ("gain", lambda a: np.where(a == a.max(), 114.0, a), "got .* to 114: gains look like path loss in dB"),
    "flags": ("gain", lambda a: a > 0, "real numbers, got an array of bool"),
    "text": ("gain", lambda a: a.astype(str), "real numbers, got an array of <U"),
    "bytes": ("gain", lambda a: a.astype("S"), r"real numbers, got an array of \|S"),
    "objects": ("gain", lambda a: a.astype(object), "real numbers, got an array of object"),
    "nothing": ("gain", lambda a: np.full(a.shape, None), "real numbers, got an array of object"),
    "dates": ("gain", lambda a: np.full(a.shape, np.datetime64("2026-01-01")), "real numbers, got an array of datetime64"),
    "durations": ("gain", lambda a: np.full(a.shape, np.timedelta64(3, "s")), "real numbers, got an array of timedelta64"),
    "a masked array": ("gain", lambda a: np.ma.masked_less(a, np.median(a)), r"gain is masked at \d+ places"),
    "ragged lists": ("gain", lambda a: [[1e-9], [1e-9, 1e-9]], "gain must be an array of real numbers"),
    "no drop at all": ("gain", lambda a: a[None][:0], "there are no drops in it"),
    "links without a path": ("gain", lambda a: np.where(a == a.max(), 0.0, a), "a floor such as 1e-20"),
    "two-way gains in dB": ("rcs_gain", lambda a: 10 * np.log10(a), r"look like dB; give 10 \*\* \(rcs_gain / 10\)"),
    "cross-sections": ("rcs_gain", lambda a: np.ones(a.shape), "look like cross-sections in m²"),
    "complex two-way gains": ("rcs_gain", lambda a: a + 1e-20j, "complex"),
    "map coordinates": ("positions", lambda a: np.add(a, [448_000.0, 5_411_000.0]), r"map coordinates \(UTM\); subtract the middle"),
    "degrees": ("positions", lambda a: np.add(a / 111e3, [48.87, 2.29]), "latitude and longitude in degrees"),
    "a far user": ("ue_xy", lambda a: np.where(a == a.max(), 1e300, a), "ue_xy reaches 1e\\+300 m, more than 1000 radii"),
    "kilometres too many": ("positions", lambda a: a * 1e4, "area_diameter_m"),
    "complex positions": ("ap_xy", lambda a: a + 0j, "complex ones; give x and y along the last axis"),
    "text for positions": ("sr_xy", lambda a: a.astype(str), "sr_xy must be real numbers"),
    "flags for targets": ("target_xy", lambda a: a > 0, "target_xy must be real numbers"),
    "fractional pilots": ("pilot", lambda a: a + 0.5, "pilot must be whole numbers"),
    "flags for pilots": ("pilot", lambda a: a > 0, "pilot must be whole numbers"),
    "complex pilots": ("pilot", lambda a: a + 0j, "pilot must be whole numbers, got complex"),
}  # fmt: skip
"""Arrays that mean something else than what they are given as: what is wrong → array, how it comes about, what the message names."""


def hostile(parts: dict[str, Any], name: str, change: Any) -> dict[str, Any]:
    chosen = [key for key in parts if key.endswith("_xy")] if name == "positions" else [name]
    return parts | {key: change(parts[key]) for key in chosen}


@pytest.mark.parametrize("mistake", list(HOSTILE))
@pytest.mark.parametrize("lead", [(), (3,)], ids=str)
def test_what_is_meant_otherwise_is_refused_with_the_likely_mistake(mistake: str, lead: tuple[int, ...]) -> None:
    name, change, message = HOSTILE[mistake]
    drops = sample(REUSED, rng(30), *lead)
    parts = {key: np.array(getattr(drops, key)) for key in ARRAYS if key not in ("estimate_gain", "fisher")}
    with pytest.raises(ValueError, match=message):
        Scenario.from_gains(REUSED, **hostile(parts, name, change))


def rewritten(path: Path, **changes: Any) -> Path:
    """A drops file with some of its arrays changed; None takes one out."""
    with np.load(path) as file:
        content = {**file, **changes}
    np.savez_compressed(path, **{name: a for name, a in content.items() if a is not None})
    return path


@pytest.mark.parametrize("mistake", list(HOSTILE))
def test_a_file_with_what_is_meant_otherwise_is_refused_by_name(mistake: str, tmp_path: Path) -> None:
    name, change, _ = HOSTILE[mistake]
    drops = sample(REUSED, rng(31), 2)
    path = drops.save(tmp_path / "hostile.npz")
    parts = {key: np.array(getattr(drops, key)) for key in ARRAYS}
    if mistake in ("ragged lists", "a masked array", "no drop at all"):
        parts["gain"] = {"ragged lists": np.ones(3), "a masked array": np.full((2, 5, 7), np.nan)}.get(
            mistake, parts["gain"][:0]
        )
        changes = {"gain": parts["gain"]}
    else:
        changes = hostile(parts, name, change)
    with pytest.raises(ValueError, match=r"hostile\.npz"):
        Scenario.load(rewritten(path, **changes))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fisher", lambda a: a * [1.0, 1.0, 50.0]),  # not positive semidefinite any more: a negative CRLB
        ("fisher", lambda a: -a),
        ("fisher", lambda a: a * 1.001),
        ("fisher", np.zeros_like),
        ("fisher", lambda a: np.full_like(a, np.nan)),
        ("estimate_gain", lambda a: a * 1e3),  # above the gain that is estimated
        ("estimate_gain", lambda a: -a),
        ("estimate_gain", lambda a: a + 0j),
        ("gain", lambda a: a * 2),
        ("rcs_gain", lambda a: a * 2),
        ("ap_xy", lambda a: a + 5.0),
        ("pilot", lambda a: a * 0),
        ("pilot", lambda a: None),
        ("pilot", lambda a: a[..., :-1]),
        ("junk", lambda a: np.zeros(3)),
        ("config", lambda a: np.array("[" * 5000)),
        ("config", lambda a: np.array("[1, 2]")),
        ("config", lambda a: np.array('{"M": NaN}')),
    ],
)  # fmt: skip
def test_a_file_whose_arrays_contradict_each_other_is_refused(name: str, change: Any, tmp_path: Path) -> None:
    drops = sample(REUSED, rng(32), 2)
    path = drops.save(tmp_path / "contradiction.npz")
    changed = change(np.array(getattr(drops, name, 0.0)))
    with pytest.raises(ValueError, match=r"contradiction\.npz"):
        Scenario.load(rewritten(path, **{name: changed}))


@pytest.mark.parametrize("name", ["junk", "gain", "fisher", "pilot", "config", "format"])
def test_a_file_that_would_inflate_to_gigabytes_is_refused_before_it_does(name: str, tmp_path: Path) -> None:
    path = sample(SystemConfig(M=4, K=2), rng(33), 2).save(tmp_path / "bomb.npz")
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist() if info.filename != f"{name}.npy"}
    header = str({"descr": "<f8", "fortran_order": False, "shape": (2**23,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for filename, data in content.items():
            archive.writestr(filename, data)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
            for _ in range(128):
                member.write(bytes(2**19))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb\.npz"):
        Scenario.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22  # of 64 MiB


def test_a_file_that_inflates_to_gigabytes_of_its_own_shapes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_files, "_LARGE_BYTES", 2**20)
    drops = sample(SystemConfig(M=64, K=64, pilot_length=64), rng(34), 100)
    path = drops.save(tmp_path / "dense.npz")
    assert same(Scenario.load(path), drops)
    with pytest.raises(ValueError, match=r"dense\.npz .* would take 0\.0 GiB"):
        Scenario.load(rewritten(path, **{name: np.zeros_like(getattr(drops, name)) for name in ARRAYS[:-1]}))


def test_drops_that_could_not_be_read_are_not_written(tmp_path: Path) -> None:
    drops = sample(REUSED, rng(35), 3)
    for broken in (dataclasses.replace(drops, fisher=-drops.fisher), drops[3:]):
        with pytest.raises(ValueError, match="to be saved"):
            broken.save(tmp_path / "broken.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a.astype(np.longdouble)])
def test_arrays_of_other_layouts_are_read_as_float64_in_order(change: Any, tmp_path: Path) -> None:
    drops = sample(REUSED, rng(37), 2)
    path = drops.save(tmp_path / "layout.npz")
    changed = {name: change(getattr(drops, name)) for name in ARRAYS if name != "pilot"}
    again = Scenario.load(rewritten(path, **changed))
    assert same(again, drops)
    assert all(getattr(again, name).dtype == np.float64 for name in changed)
    assert all(getattr(again, name).flags.c_contiguous for name in changed)
