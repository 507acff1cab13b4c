"""Drops from ray tracing: APs on the façades or roofs of a city, users in its streets, every link traced with Sionna RT.

Sionna RT and its renderer are optional, large, and imported only when something is traced.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cfisac_env import Scenario, SystemConfig
from cfisac_env.config import nearest
from cfisac_env.mobile import MAX_STEPS
from cfisac_env.mobility import MAX_SPEED_M_S, checked_number, uniform_in_disc

Floats = NDArray[np.float64]
Mount = Literal["facade", "roof"]

GROUND_M = 0.5
"""Height below which the first hit of a vertical ray is the street."""

ROOF_M = 5.0
"""Height above which it is a roof."""

FACADE_M, ABOVE_ROOF_M = 0.5, 2.0
"""Distances of an AP from its wall and above its roof."""

FARTHEST_WALL_M = 150.0
APS_AT_ONCE, USERS_AT_ONCE = 4, 24
"""Links traced together, which take some 40 MB each."""

ATTEMPTS = 200
"""Draws of a few hundred candidates before a placement fails."""

_VERSION = re.compile(r"^libLLVM-(\d+)\.so$")
_LLVM_ADVICE = (
    'Dr.Jit needs an LLVM shared library, version 16 or newer (15 fails on some processors with "Cannot select"): '
    "on Debian, `apt install libllvm19` and set DRJIT_LIBLLVM_PATH=/usr/lib/x86_64-linux-gnu/libLLVM-19.so"
)


@dataclass(frozen=True)
class Tracing:
    """Scene, sites and solver."""

    scene: str = "etoile"
    """Bundled scene of sionna.rt.scene (etoile, munich, florence, …), or the path of a Mitsuba scene."""
    mount: Mount = "facade"
    """Place of APs and receivers."""
    ap_height_m: float = 8.0
    """Height of APs and receivers on façades in m; roofs have their own."""
    user_height_m: float = 1.5
    """Height of users in m."""
    max_depth: int = 4
    """Largest number of reflections of a path."""
    samples: int = 200_000
    """Number of rays that each AP shoots."""
    diffraction: bool = True
    """Diffract paths at edges, too."""
    floor_db: float = -160.0
    """Gain in dB of links without a path, and the least gain of any link."""

    def __post_init__(self) -> None:
        if self.mount not in ("facade", "roof"):
            raise ValueError(
                f"mount must be facade or roof, got {self.mount!r}{nearest(self.mount, ['facade', 'roof'])}"
            )
        for name in ("ap_height_m", "user_height_m"):
            checked_number(name, getattr(self, name), 1e3, positive=True)
        for name, low, high in (("max_depth", 0, 100), ("samples", 1, 10**9)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {value!r}")
        if not -300.0 <= self.floor_db <= 0.0:
            raise ValueError(f"floor_db must be in [-300, 0] dB, got {self.floor_db!r}")


@dataclass(frozen=True)
class Walk:
    """Motion of users and targets along the streets: straight to a place in sight, then to the next."""

    instants: int = 1
    """Instants of each drop: with several, users and targets move along the streets, and CfIsacMobile-v0 plays the file."""
    step_s: float = 1.0
    """Time between instants in s."""
    user_speed_m_s: float = 1.5
    """Speed of the users in m/s."""
    target_speed_m_s: float = 15.0
    """Speed of the targets in m/s."""

    def __post_init__(self) -> None:
        if not 1 <= self.instants <= MAX_STEPS:
            raise ValueError(f"instants must be in [1, {MAX_STEPS}], got {self.instants!r}")
        checked_number("step_s", self.step_s, 1e6, positive=True)
        for name in ("user_speed_m_s", "target_speed_m_s"):
            checked_number(name, getattr(self, name), MAX_SPEED_M_S)


@dataclass(frozen=True, eq=False)
class Traced:
    """Drops, or trajectories with leading axes (drops, instants), and the share of links without a path."""

    drops: Scenario
    without_path: float


def trace(
    config: SystemConfig,
    tracing: Tracing,
    drops: int,
    seed: int,
    step: Callable[[int], None] = lambda links: None,
    walk: Walk = Walk(),
) -> Traced:
    """Place a network in a scene and trace the links of its drops or walks.

    APs and receivers are placed once, targets and users anew in every drop, all within the disc of the configuration around the scene's
    origin. A link's gain is the sum of its paths' |a|² between isotropic antennas, and `floor_db` at least. Sensing gains follow from the
    positions by the radar equation.

    Args:
        config: sizes, carrier, disc and requirements; path loss and shadowing are unused.
        walk: with several instants, the drops are trajectories.

    Raises:
        ImportError: Sionna RT or its LLVM is missing; the message tells what to install.
        ValueError: the scene is unknown or has too little room.
    """
    if drops < 1:
        raise ValueError(f"the number of drops must be 1 or more, got {drops}")
    rt = sionna_rt()
    scene = _load(rt, tracing.scene)
    scene.frequency = config.carrier_hz
    rng = np.random.default_rng(seed)
    place = Placement(scene, config.area_diameter_m / 2, rng)
    mounted = place.on_walls if tracing.mount == "facade" else place.on_roofs
    nodes = mounted(config.M + config.T, tracing.ap_height_m)
    users, targets = (
        place.ways(drops * count, tracing.user_height_m, speed_m_s * walk.step_s * np.arange(walk.instants))
        for count, speed_m_s in ((config.K, walk.user_speed_m_s), (config.S, walk.target_speed_m_s))
    )
    lead = (drops,) if walk.instants == 1 else (drops, walk.instants)
    users, targets = (
        way.reshape(drops, count, walk.instants, 3).swapaxes(1, 2).reshape(-1, 3)
        for way, count in ((users, config.K), (targets, config.S))
    )
    ap, sr = nodes[: config.M], nodes[config.M :]
    scene.tx_array = scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="V")
    solver = rt.PathSolver(deterministic=True)
    gain = np.empty((len(users), config.M))
    for first_ap, first_user in itertools.product(range(0, len(ap), APS_AT_ONCE), range(0, len(users), USERS_AT_ONCE)):
        near, far = ap[first_ap : first_ap + APS_AT_ONCE], users[first_user : first_user + USERS_AT_ONCE]
        names = [f"ap-{m}" for m in range(len(near))] + [f"user-{k}" for k in range(len(far))]
        for name, position in zip(names, [*near, *far], strict=True):
            device = rt.Transmitter if name.startswith("ap") else rt.Receiver
            scene.add(device(name=name, position=position.tolist()))
        paths = solver(
            scene,
            max_depth=tracing.max_depth,
            samples_per_src=tracing.samples,
            diffraction=tracing.diffraction,
            refraction=False,
            seed=seed + 1,
        )
        real, imaginary = (np.asarray(part, dtype=np.float64) for part in paths.a)  # (user, 1, AP, 1, path)
        traced = (real**2 + imaginary**2).sum(-1)[:, 0, :, 0]
        gain[first_user : first_user + len(far), first_ap : first_ap + len(near)] = traced
        for name in names:
            scene.remove(name)
        step(traced.size)
    floored = np.maximum(gain, 10 ** (tracing.floor_db / 10)).reshape(*lead, config.K, config.M)
    scenario = Scenario.from_gains(
        config,
        ap_xy=np.broadcast_to(ap[:, :2], (*lead, config.M, 2)),
        sr_xy=np.broadcast_to(sr[:, :2], (*lead, config.T, 2)),
        ue_xy=users[:, :2].reshape(*lead, config.K, 2),
        target_xy=targets[:, :2].reshape(*lead, config.S, 2),
        gain=np.swapaxes(floored, -1, -2),
    )
    return Traced(scenario, float(np.mean(gain == 0.0)))


def sionna_rt() -> Any:
    """Import `sionna.rt`, with an LLVM that it can use.

    Raises:
        ImportError: it isn't installed, or has no LLVM.
    """
    if sys.platform == "linux" and "DRJIT_LIBLLVM_PATH" not in os.environ and (library := newest_llvm()) is not None:
        os.environ["DRJIT_LIBLLVM_PATH"] = library
    try:
        rt = importlib.import_module("sionna.rt")
        drjit = importlib.import_module("drjit")
        mitsuba = importlib.import_module("mitsuba")
        drjit.eval(mitsuba.Float(1.0) + 1.0)
    except ModuleNotFoundError as error:
        raise ImportError(f"ray tracing needs Sionna RT (about 0.6 GB): {error}. {_LLVM_ADVICE}") from error
    except Exception as error:  # Dr.Jit has an exception of its own for libraries
        raise ImportError(f"Sionna RT is installed but cannot start ({error}). {_LLVM_ADVICE}") from error
    return rt


def newest_llvm(libraries: Path = Path("/usr/lib")) -> str | None:
    """Return the newest LLVM library in a subfolder of `libraries`, or None; Dr.Jit's own search may take an older one."""
    found = [
        (int(match[1]), str(path)) for path in libraries.glob("*/libLLVM-*.so") if (match := _VERSION.search(path.name))
    ]
    return max(found)[1] if found else None


def _load(rt: Any, name: str) -> Any:
    if Path(name).is_file():
        return rt.load_scene(name)
    bundled = [key for key, value in vars(rt.scene).items() if isinstance(value, str) and value.endswith(".xml")]
    if name not in bundled:
        raise ValueError(
            f"unknown scene {name!r}{nearest(name, bundled)}; bundled scenes: {', '.join(sorted(bundled))}, "
            "or the path of a Mitsuba scene"
        )
    return rt.load_scene(getattr(rt.scene, name))


class Placement:
    """Random places in a scene, found by shooting rays."""

    def __init__(self, scene: Any, radius_m: float, rng: np.random.Generator) -> None:
        self._mi = importlib.import_module("mitsuba")
        self._scene, self._radius_m, self._rng = scene.mi_scene, radius_m, rng
        self._top_m = float(np.asarray(self._scene.bbox().max).ravel()[2]) + 10.0

    def in_streets(self, count: int, height_m: float) -> Floats:
        """Return (count, 3) m, uniform over the streets."""

        def draw() -> Floats:
            xy = uniform_in_disc(self._rng, 256, self._radius_m)
            xy = xy[self._height(xy) < GROUND_M]
            return np.column_stack([xy, np.full(len(xy), height_m)])

        return self._collect(draw, count, "open ground for users and targets")

    def ways(self, count: int, height_m: float, way_m: NDArray[Any]) -> Floats:
        """Return (count, steps, 3) m along ways that start in the streets and go straight from place to place in sight.

        Args:
            height_m: of the ways; lower walls don't block them.
            way_m: (steps,) distances along the way, rising from 0.

        Raises:
            ValueError: no other place is in sight from a place.
        """
        starts = self.in_streets(count, height_m)
        result = np.empty((count, len(way_m), 3))
        for i, start in enumerate(starts):
            corners, length_m = [start], [0.0]
            while length_m[-1] < way_m[-1]:
                corners.append(self._in_sight(corners, height_m))
                length_m.append(length_m[-1] + float(np.linalg.norm(corners[-1] - corners[-2])))
            for axis in range(3):
                result[i, :, axis] = np.interp(way_m, length_m, [corner[axis] for corner in corners])
        return result

    def _in_sight(self, corners: list[Floats], height_m: float) -> Floats:
        """Return a place in sight of the last corner, or the corner before it if there is no other."""
        here = corners[-1]
        for _ in range(ATTEMPTS):
            there = self.in_streets(64, height_m)
            distance = np.linalg.norm(there - here, axis=1)
            direction = (there - here) / np.maximum(distance, 1e-9)[:, None]
            free = self._shoot(np.broadcast_to(here, there.shape), direction) > distance
            found = np.flatnonzero(free & (distance > 1.0))
            if len(found):
                return np.asarray(there[found[0]])
            if len(corners) > 1:
                return corners[-2]
        raise ValueError(
            f"from ({here[0]:.0f}, {here[1]:.0f}) m no other place in the streets is in sight; choose another seed or scene"
        )

    def on_walls(self, count: int, height_m: float) -> Floats:
        """Return (count, 3) m, `FACADE_M` off the first wall in a random direction from a random place in the streets."""

        def draw() -> Floats:
            xy = uniform_in_disc(self._rng, 256, self._radius_m)
            angle = 2.0 * np.pi * self._rng.random(256)
            direction = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(256)])
            outdoors = self._height(xy) < GROUND_M
            origin = np.column_stack([xy, np.full(256, height_m)])
            distance = self._shoot(origin, direction)
            hit = outdoors & (distance > 2 * FACADE_M) & (distance < FARTHEST_WALL_M)
            place = origin[hit] + (distance[hit, None] - FACADE_M) * direction[hit]
            return np.asarray(place[np.linalg.norm(place[:, :2], axis=1) <= self._radius_m])

        return self._collect(draw, count, f"walls of {height_m:g} m for APs and receivers")

    def on_roofs(self, count: int, height_m: float) -> Floats:
        """Return (count, 3) m, `ABOVE_ROOF_M` above uniform places on roofs."""

        def draw() -> Floats:
            xy = uniform_in_disc(self._rng, 256, self._radius_m)
            top = self._height(xy)
            roof = np.isfinite(top) & (top > ROOF_M)
            return np.column_stack([xy[roof], top[roof] + ABOVE_ROOF_M])

        return self._collect(draw, count, "roofs for APs and receivers")

    def _collect(self, draw: Callable[[], Floats], count: int, what: str) -> Floats:
        found = np.empty((0, 3))
        for _ in range(ATTEMPTS):
            found = np.concatenate([found, draw()])
            if len(found) >= count:
                return found[:count]
        raise ValueError(
            f"the scene has too few {what} within {self._radius_m:g} m of its origin: found {len(found)} places of {count}; "
            "change area_diameter_m, or the scene"
        )

    def _height(self, xy: Floats) -> Floats:
        """Return (n,) m, the height of the first hit of a vertical ray; infinite where the scene ends."""
        origin = np.column_stack([xy, np.full(len(xy), self._top_m)])
        down = np.broadcast_to([0.0, 0.0, -1.0], origin.shape)
        return np.asarray(self._top_m - self._shoot(origin, down, missed=-np.inf))

    def _shoot(self, origin: Floats, direction: Floats, missed: float = np.inf) -> Floats:
        """Return (n,) m, the distance to the first surface; `missed` without one."""
        mi = self._mi
        ray = mi.Ray3f(mi.Point3f(*origin.T.astype(np.float32)), mi.Vector3f(*direction.T.astype(np.float32)))
        hit = self._scene.ray_intersect_preliminary(ray)
        return np.asarray(np.where(np.asarray(hit.is_valid()), np.asarray(hit.t), missed), dtype=np.float64)
