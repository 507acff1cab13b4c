"""Validation of user-supplied drops, and their npz file format."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cfisac_env import files, physics
from cfisac_env.config import FAR, SystemConfig
from cfisac_env.types import Array

FORMAT = "cfisac-drops-1"

POSITIONS = ("ap_xy", "ue_xy", "sr_xy", "target_xy")

_TEXT_BYTES = 2**20  # more than any configuration takes
_LARGE_BYTES, _MAX_RATIO = 2**28, 100  # random numbers compress by a few per cent

_Arrays = dict[str, Any]


def checked(config: SystemConfig, arrays: Mapping[str, Any], where: str = "") -> _Arrays:
    """Copy and validate the arrays of drops as float64 (pilots: int64).

    Args:
        config: M, K, T and S must be those of the arrays.
        arrays: `gain`, the four positions, and `rcs_gain` and `pilot`, which may be None.

    Raises:
        ValueError: a wrong shape or type, non-finite values, or a likely mistake, which the message names: complex coefficients,
            decibels, map coordinates, degrees, flags, text.
    """
    given = {name: _numbers(name, value, where) for name, value in arrays.items() if value is not None}
    gain = given["gain"]
    lead = gain.shape[:-2]
    if 0 in lead:
        raise ValueError(f"gain{where} has shape {gain.shape}: there are no drops in it; give one at least")
    shapes = _shapes(config, lead)
    for name, array in given.items():
        if array.shape != shapes[name]:
            raise ValueError(
                f"{name}{where} must have shape {shapes[name]} for this configuration, got {array.shape} of {array.dtype}"
            )
    _check_positions(config, {name: given[name] for name in POSITIONS}, where)
    _check_gain("gain", gain, _greatest_gain(config), where)
    if "rcs_gain" in given:
        _check_gain("rcs_gain", given["rcs_gain"], _greatest_rcs_gain(config), where)
    if "pilot" in given:
        low, high = given["pilot"].min(), given["pilot"].max()
        if low < 0 or high >= config.pilot_length:
            raise ValueError(
                f"pilot{where} must be whole numbers from 0 to pilot_length - 1 = {config.pilot_length - 1}, "
                f"got {low} to {high}"
            )
    return {name: given.get(name) for name in arrays}


def check_derived(name: str, array: Array, derived: Array, where: str) -> None:
    """Refuse an array that differs from its derivation by more than 1e-6, for `fisher` relative to the largest of its last axis."""
    scale = np.abs(derived).max(-1, keepdims=True) if name == "fisher" else derived
    if np.shape(array) != np.shape(derived) or not np.all(np.abs(array - derived) <= 1e-6 * scale):
        raise ValueError(
            f"{name}{where} doesn't follow from the gains, pilots, positions and configuration beside it, so one of them was changed; "
            "build the drops again with Scenario.from_gains, which derives it"
        )


def write(path: Path, config: SystemConfig, arrays: Mapping[str, Any]) -> Path:
    """Write drops to an npz file atomically."""
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, format=FORMAT, config=json.dumps(config.as_dict()), **arrays)
    return path


def read(path: Path) -> tuple[SystemConfig, _Arrays]:
    """Read configuration and arrays of a drops file; shapes are validated before decompression.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a truncated file, another format, or arrays that don't fit the configuration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no drops file at {path}; Scenario.save(path) writes one")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # NumPy, zipfile and zlib each have their own for damaged bytes
        raise ValueError(
            f"{path} cannot be read as a drops file: it is truncated or of another kind ({error}); "
            "write it again with Scenario.save"
        ) from None


class _RefusedError(Exception):
    """Invalid content of a readable file."""


def _read(path: Path, archive: zipfile.ZipFile) -> tuple[SystemConfig, _Arrays]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if "format" not in members or _text(archive, members["format"]) != FORMAT:
        raise _RefusedError(
            f"{path} is not a drops file of format {FORMAT!r} (it holds {', '.join(members) or 'nothing'}); "
            "build a Scenario with Scenario.from_gains and write it with Scenario.save"
        )
    if "config" not in members:
        raise _RefusedError(f"{path} holds no configuration; write it again with Scenario.save")
    try:
        config = SystemConfig(**json.loads(_text(archive, members["config"])))
    except (TypeError, ValueError, RecursionError) as error:
        raise _RefusedError(f"{path} holds no configuration that this version can read: {error}") from None
    names = set(_shapes(config, ()))
    missing = sorted(names - set(members) - {"pilot"})
    if missing:
        raise _RefusedError(f"{path} lacks {', '.join(missing)}; write it again with Scenario.save")
    unknown = sorted(set(members) - names - {"format", "config"})
    if unknown or len(members) != len(archive.infolist()):
        raise _RefusedError(
            f"{path} holds {', '.join(unknown) or 'an array twice'}, which no drops file does; take it out"
        )
    headers = {name: header(archive, members[name]) for name in sorted(names & set(members))}
    shapes = _shapes(config, headers["gain"][0][:-2])
    for name, (shape, dtype, offset) in headers.items():
        if shape != shapes[name] or dtype.kind not in "iuf":
            raise _RefusedError(
                f"{name} in {path} must be numbers of shape {shapes[name]} for its configuration, got {dtype} of shape {shape}"
            )
        if members[name].file_size != offset + math.prod(shape) * dtype.itemsize:
            raise _RefusedError(f"{name} in {path} doesn't have as many bytes as its shape {shape} says")
    inflated = sum(info.file_size for info in members.values())
    if inflated > max(_LARGE_BYTES, _MAX_RATIO * path.stat().st_size):
        raise _RefusedError(
            f"{path} has {path.stat().st_size:,} bytes and would take {inflated / 2**30:.1f} GiB of memory, which is implausible"
        )
    arrays = {}
    for name in headers:
        with archive.open(members[name]) as stream:
            array = npy.read_array(stream, allow_pickle=False)
        arrays[name] = np.array(array, array.dtype if name == "pilot" else np.float64, order="C")
    return config, arrays


def header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Read shape, dtype and data offset of an array in an npz file, without its data."""
    with archive.open(info) as stream:
        return _read_header(stream)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    major, _ = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    return shape, dtype, stream.tell()


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """Read a text stored as an array."""
    if info.file_size > _TEXT_BYTES:
        raise _RefusedError(
            f"{archive.filename}: {info.filename} has {info.file_size:,} bytes, more than any text in a drops file"
        )
    with archive.open(info) as stream:
        return str(npy.read_array(stream, allow_pickle=False))


def _shapes(config: SystemConfig, lead: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    M, K, T, S = config.M, config.K, config.T, config.S
    tails: dict[str, tuple[int, ...]] = {
        "ap_xy": (M, 2), "ue_xy": (K, 2), "sr_xy": (T, 2), "target_xy": (S, 2), "gain": (M, K),
        "estimate_gain": (M, K), "rcs_gain": (M, S, T), "fisher": (M, S, 3), "pilot": (K,),
    }  # fmt: skip
    return {name: (*lead, *tail) for name, tail in tails.items()}


def _numbers(name: str, value: Any, where: str) -> NDArray[Any]:
    """Copy `value` as float64 (pilots: int64)."""
    kinds, kind = ("iu", "whole numbers") if name == "pilot" else ("iuf", "real numbers")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}{where} must be an array of {kind}: {error}") from None
    if np.iscomplexobj(array):
        hint = (
            "give x and y along the last axis"
            if name in POSITIONS
            else "large-scale gains are mean squares of coefficients, np.mean(np.abs(h) ** 2) over the fading"
        )
        raise ValueError(f"{name}{where} must be {kind}, got complex ones; {hint}")
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name}{where} must be {kind}, got an array of {array.dtype}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{name}{where} is masked at {np.ma.getmaskarray(value).sum()} places; fill them first")
    numbers: NDArray[Any] = np.array(array, np.int64 if name == "pilot" else np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"{name}{where} must be finite; {int((~np.isfinite(numbers)).sum())} of its {numbers.size} values are not"
        )
    return numbers


def _check_gain(name: str, gain: NDArray[np.float64], greatest: float, where: str) -> None:
    """Refuse gains that are not positive linear power gains up to a plausible maximum."""
    low, high = float(gain.min()), float(gain.max())
    if high < 0.0:
        raise ValueError(
            f"{name}{where} must be finite and positive, got {low:g} to {high:g}: gains look like dB; give 10 ** ({name} / 10)"
        )
    if low <= 0.0:
        bad = int((gain <= 0.0).sum())
        raise ValueError(
            f"{name}{where} must be finite and positive; {bad} of its {gain.size} values are not, the least is {low:g}; "
            "give links without a path a floor such as 1e-20"
        )
    if high > greatest:
        likely = (
            "gains look like path loss in dB; give 10 ** (-loss_db / 10)"
            if name == "gain"
            else "two-way gains look like cross-sections in m² (a field of the configuration: rcs_m2) or like dB"
        )
        raise ValueError(
            f"{name}{where} must be linear power gains of {greatest:.3g} at most, got {low:g} to {high:g}: {likely}"
        )


def _greatest_gain(config: SystemConfig) -> float:
    """Return the largest plausible gain: 1, or the configuration's at the least distance if that is more."""
    distance_m, shadowing_db = np.array(config.min_distance_m), 8.0 * config.shadowing_std_db
    gain = physics.path_gain(distance_m, config.path_loss_intercept_db, config.path_loss_per_decade_db, shadowing_db)
    return max(1.0, float(gain))


def _greatest_rcs_gain(config: SystemConfig) -> float:
    """Return the largest plausible two-way gain: 1e-3, or 100 times the radar equation at the least distances if that is more."""
    here = np.zeros((1, 2))
    gain = physics.radar_gain(here, here, here, config.wavelength_m, config.rcs_m2, config.min_distance_m)
    return max(1e-3, 100.0 * float(gain.max()))


def _check_positions(config: SystemConfig, places: Mapping[str, NDArray[np.float64]], where: str) -> None:
    """Refuse coordinates that are not in metres around the centre of the area."""
    points = np.concatenate([xy.reshape(-1, 2) for xy in places.values()])
    middle = (points.min(0) + points.max(0)) / 2
    radius_m, spread_m, offset_m = (
        config.area_diameter_m / 2,
        float(np.ptp(points, axis=0).max()) / 2,
        float(np.abs(middle).max()),
    )
    if spread_m < min(1.0, 0.1 * offset_m) and len(np.unique(points, axis=0)) > 1:
        raise ValueError(
            f"positions{where} lie within {2 * spread_m:.2g} m of each other, around ({middle[0]:g}, {middle[1]:g}): they look like "
            "latitude and longitude in degrees; give metres from the middle of your area"
        )
    if offset_m > 100.0 * max(spread_m, radius_m):
        raise ValueError(
            f"positions{where} lie around ({middle[0]:.10g}, {middle[1]:.10g}) m: they look like map coordinates (UTM); subtract the "
            "middle of your area, which has to be near (0, 0)"
        )
    for name, xy in places.items():
        if (most := float(np.abs(xy).max())) > FAR * radius_m:
            raise ValueError(
                f"{name}{where} reaches {most:g} m, more than {FAR:g} radii of an area of {config.area_diameter_m:g} m across; give metres "
                "from its middle, and its diameter as area_diameter_m"
            )
