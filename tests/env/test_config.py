"""The configuration: presets, ranges, and errors that say what to do."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

from cfisac_env import PRESETS, SystemConfig

TABLE_ONE = {
    "bandwidth_hz": 20e6,
    "carrier_hz": 1900e6,
    "noise_density_dbm_hz": -174,
    "area_diameter_m": 500,
    "sinr_threshold_db": -5.6,
    "crlb_threshold_m2": 1,
    "pilot_power_w": 0.1,
    "circuit_power_w": 0.2,
    "pilot_length": 20,
    "max_ap_power_w": 0.1,
    "path_loss_intercept_db": -120.9,
    "path_loss_per_decade_db": 37.6,
    "shadowing_std_db": 7,
}

OPEN_IN_THE_PAPER = {
    "T": 2,
    "S": 1,
    "rcs_m2": 1,
    "rcs_model": "constant",
    "noise_figure_db": 9,
    "integration_symbols": 100,
    "min_distance_m": 10,
    "effective_bandwidth_hz": None,
}

# A value just outside each range, or on its open end.
OUTSIDE: list[tuple[str, Any]] = [
    ("M", 0),
    ("K", 0),
    ("T", -1),
    ("S", 0),
    ("bandwidth_hz", 0.0),
    ("effective_bandwidth_hz", 0.0),
    ("carrier_hz", -1.0),
    ("noise_density_dbm_hz", 1.0),
    ("noise_figure_db", -0.1),
    ("area_diameter_m", 0.0),
    ("min_distance_m", 0.0),
    ("path_loss_intercept_db", 0.1),
    ("path_loss_per_decade_db", -1.0),
    ("shadowing_std_db", -1.0),
    ("pilot_power_w", 0.0),
    ("pilot_length", 0),
    ("sinr_threshold_db", 61.0),
    ("crlb_threshold_m2", 0.0),
    ("max_ap_power_w", 0.0),
    ("circuit_power_w", -0.2),
    ("rcs_m2", 0.0),
    ("integration_symbols", 0),
    ("sinr_penalty", -1.0),
    ("crlb_penalty", -1.0),
    ("carrier_hz", math.nan),
    ("carrier_hz", math.inf),
    ("rcs_model", "swerling"),
    ("pilot_assignment", "luck"),
    ("reward", "best"),
]


@pytest.mark.parametrize(("field", "value"), (TABLE_ONE | OPEN_IN_THE_PAPER).items())
def test_the_defaults_are_table_one_and_our_choices_for_what_it_leaves_open(field: str, value: Any) -> None:
    assert getattr(SystemConfig(), field) == value


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("paper", {}),
        ("high-rate", {"sinr_threshold_db": 0}),
        (
            "urban",
            {
                "path_loss_per_decade_db": 36.7,
                "shadowing_std_db": 4,
                "max_ap_power_w": 0.2,
                "path_loss_intercept_db": -140.6,
                "sinr_threshold_db": -4,
            },
        ),
    ],
)
def test_a_preset_changes_what_it_says_and_nothing_else(preset: str, changes: dict[str, Any]) -> None:
    config = SystemConfig(preset=preset)
    assert config.as_dict() == SystemConfig().as_dict() | {"preset": preset} | changes
    assert config == SystemConfig.preset(preset)  # type: ignore[operator]


def test_precise_sensing_asks_for_a_tenth_of_the_error_of_more_receivers() -> None:
    precise, paper = SystemConfig(preset="precise-sensing"), SystemConfig()
    assert precise.crlb_threshold_m2 <= 0.1
    assert precise.T >= 4
    assert dataclasses.replace(precise, preset="paper", crlb_threshold_m2=1.0, T=2) == paper


def test_there_are_four_presets() -> None:
    assert set(PRESETS) == {"paper", "high-rate", "precise-sensing", "urban"}


def test_what_is_given_goes_before_the_preset() -> None:
    config = SystemConfig(50, 10, preset="urban", shadowing_std_db=3)
    assert (config.M, config.K, config.shadowing_std_db, config.max_ap_power_w) == (50, 10, 3, 0.2)


def test_the_derived_quantities_are_those_worked_out_by_hand() -> None:
    config = SystemConfig()
    assert config.pilot_energy_w == pytest.approx(2.0)
    assert config.sinr_threshold == pytest.approx(0.2754229, rel=1e-6)
    assert config.wavelength_m == pytest.approx(0.15778550, rel=1e-6)
    # 8π²·(2e7)²·100 / (6.3245553e-13 · (299792458)²) = 78.956835·4e16 / 5.6842514e4
    assert config.fisher_scale == pytest.approx(5.5561e13, rel=1e-4)


def test_a_flat_spectrum_has_a_twelfth_of_the_information() -> None:
    flat = SystemConfig(effective_bandwidth_hz=20e6 / math.sqrt(12))
    assert flat.fisher_scale == pytest.approx(SystemConfig().fisher_scale / 12)


@pytest.mark.parametrize(("K", "reused"), [(19, False), (20, False), (21, True)])
def test_pilots_are_reused_when_there_are_more_users_than_pilots(K: int, reused: bool) -> None:
    assert SystemConfig(K=K).pilots_reused is reused


@pytest.mark.parametrize(("field", "value"), OUTSIDE)
def test_a_value_outside_its_range_is_refused_with_field_value_and_range(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        SystemConfig(**{field: value})
    message = str(caught.value)
    assert repr(value) in message
    assert ("constant, exponential" if field == "rcs_model" else ", ") in message
    assert "must be" in message


def test_every_field_has_a_value_outside_its_range() -> None:
    assert {field for field, _ in OUTSIDE} == {f.name for f in dataclasses.fields(SystemConfig)} - {"preset"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("M", 2.5),
        ("M", "30"),
        ("K", True),
        ("bandwidth_hz", "20 MHz"),
        ("T", [2]),
        ("S", math.inf),
        ("rcs_m2", None),
        ("rcs_m2", b"2.5"),
        ("carrier_hz", 2e9 + 1j),
        ("circuit_power_w", np.bool_(True)),
        ("max_ap_power_w", np.array([0.1])),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=field) as caught:
        SystemConfig(**{field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("max_power_w", "max_ap_power_w"),
        ("sinr_threshold", "sinr_threshold_db"),
        ("bandwith_hz", "bandwidth_hz"),
        ("m", "M"),
        ("Shadowing_STD_dB", "shadowing_std_db"),
    ],
)
def test_an_unknown_field_gets_the_nearest_valid_name(typo: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"got an unexpected keyword argument '{typo}' .did you mean '{meant}'"):
        SystemConfig(**{typo: 1})  # type: ignore[arg-type]


def test_a_field_like_no_other_gets_the_list_of_fields() -> None:
    with pytest.raises(TypeError) as caught:
        SystemConfig(zzzz=1)  # type: ignore[call-arg]
    assert "did you mean" not in str(caught.value)
    assert all(field.name in str(caught.value) for field in dataclasses.fields(SystemConfig))


def test_an_unknown_preset_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="did you mean 'urban'") as caught:
        SystemConfig(preset="Urbam")
    assert all(name in str(caught.value) for name in PRESETS)
    with pytest.raises(TypeError, match="high-rate"):
        SystemConfig(preset=3)  # type: ignore[arg-type]


def test_a_configuration_cannot_be_changed() -> None:
    config = SystemConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.M = 3  # type: ignore[misc]


def test_numpy_numbers_become_plain_ones() -> None:
    config = SystemConfig(M=np.int64(7), K=4.0, rcs_m2=np.float32(0.5))  # type: ignore[arg-type]
    assert [type(x) for x in (config.M, config.K, config.rcs_m2)] == [int, int, float]
    assert (config.M, config.K, config.rcs_m2) == (7, 4, 0.5)


ODD = {"M": 12, "K": 25, "preset": "urban", "rcs_model": "exponential", "effective_bandwidth_hz": 5e6}


@pytest.mark.parametrize("fields", [{}, ODD], ids=["default", "odd"])
def test_a_configuration_survives_json_pickle_and_copying(fields: dict[str, Any]) -> None:
    config = SystemConfig(**fields)
    noise_w = config.noise_w
    for twin in (
        SystemConfig(**json.loads(json.dumps(config.as_dict()))),
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
        dataclasses.replace(config),
    ):
        assert twin == config
        assert hash(twin) == hash(config)
        assert twin.as_dict() == config.as_dict()
        assert twin.noise_w == noise_w
        assert type(twin.preset) is str


def test_replace_changes_one_field_and_what_follows_from_it() -> None:
    config = SystemConfig(preset="urban")
    _ = config.noise_w  # remembered by the original, not by the copy
    wide = dataclasses.replace(config, bandwidth_hz=40e6)
    assert wide.noise_w == pytest.approx(2 * config.noise_w)
    assert wide.as_dict() == config.as_dict() | {"bandwidth_hz": 40e6}
    with pytest.raises(ValueError, match="bandwidth_hz"):
        dataclasses.replace(config, bandwidth_hz=-1.0)


def test_configurations_that_differ_in_one_field_are_different() -> None:
    base = SystemConfig()
    assert base != SystemConfig(rcs_m2=2.0)
    assert len({base, SystemConfig(), SystemConfig(rcs_m2=2.0), SystemConfig(30, 6)}) == 2
