"""`cfisac trace` without Sionna RT: what it says when that is missing, and what the traced drops in the repository are good for."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import baselines
from cfisac_env import CfIsacEnv, Scenario, SystemConfig
from experiments import trace
from experiments.cli import main

ETOILE = Path(__file__).parents[2] / "docs" / "results" / "etoile" / "etoile.npz"
installed = importlib.util.find_spec("sionna") is not None


@pytest.mark.skipif(installed, reason="Sionna RT is installed")
def test_a_missing_library_is_one_clear_line_with_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "--scene", "etoile", "--drops", "1", "--out", str(tmp_path / "drops.npz")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "ray tracing needs Sionna RT (about 0.6 GB): sionna is not installed; the extra 'sionna' brings it: pip install "
        in said
    )
    assert '[sionna]"' in said
    assert "apt install libllvm19" in said
    assert "DRJIT_LIBLLVM_PATH" in said
    assert list(tmp_path.iterdir()) == []


def test_of_several_llvm_libraries_the_newest_is_taken(tmp_path: Path) -> None:
    assert trace.newest_llvm(tmp_path) is None
    folder = tmp_path / "x86_64-linux-gnu"
    folder.mkdir()
    for name in ("libLLVM-9.so", "libLLVM-19.so", "libLLVM-15.so", "libLLVM-19.so.1", "libclang-20.so"):
        (folder / name).touch()
    assert trace.newest_llvm(tmp_path) == str(folder / "libLLVM-19.so")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ap-height-m", "-8"], "ap_height_m must be a number in (0, 1000], got -8.0"),
        (["--floor-db", "10"], "floor_db must be in [-300, 0] dB, got 10.0"),
        (["--max-depth", "-1"], "max_depth must be in [0, 100], got -1"),
        (["--samples", "0"], "samples must be in [1, 1000000000], got 0"),
        (["--instants", "0"], "instants must be in [1, 1000], got 0"),
        (["--instants", "5", "--target-speed-m-s", "-15"], "target_speed_m_s must be a number in [0, 1000], got -15.0"),
        (["--instants", "5", "--step-s", "0"], "step_s must be a number in (0, 1e+06], got 0.0"),
        (["--drops", "0"], "--drops must be 1 or more, got 0"),
        (["--M", "0"], "M must be a whole number in [1, 100000], got 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_traced(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_traced_drops_are_played_step_by_step() -> None:
    drops = Scenario.load(ETOILE)
    config = drops.config
    assert len(drops) == 6
    gain = 10 * np.log10(drops.gain)
    assert gain.min() == pytest.approx(-160.0)
    # Nobody hears an AP better than across the few metres that are least between them; and streets are not free space.
    assert gain.max() < -40.0
    assert (drops.ap_xy == drops.ap_xy[0]).all()
    assert np.linalg.norm(drops.ue_xy, axis=-1).max() <= config.area_diameter_m / 2
    env = gym.make("CfIsac-v0", drops=str(ETOILE))
    assert isinstance(env.unwrapped, CfIsacEnv)
    for i in range(3):
        observation, _ = env.reset(options={"drop": i})
        np.testing.assert_array_equal(env.unwrapped.scenario.gain, drops[i].gain)
        action, _ = baselines.make("full-ap", M=config.M, K=config.K).predict(observation)
        answer = baselines.make("full-ap").decide(drops[i].problem)
        assert env.step(action)[4]["feasible"] == answer.feasible


def test_the_traced_drops_are_compared_as_the_page_says(tmp_path: Path) -> None:
    names = ["full-ap", "strongest-ap", "modified-bb"]
    assert main(["compare", "--drops-file", str(ETOILE), "--out", str(tmp_path), "--policies", *names]) == 0
    made, stored = (json.loads((folder / "compare.json").read_text()) for folder in (tmp_path, ETOILE.parent))
    assert made["drops"]["certified_infeasible"] == stored["drops"]["certified_infeasible"]
    for name in names:
        ours, theirs = (
            np.array(one["drops"]["policies"][name]["total_power_w"], dtype=float) for one in (made, stored)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


class Box:
    """A scene for rays: a flat street z = 0 with one cube of 40 m around the origin, and nothing beyond 300 m."""

    class Ray3f:
        """Origin and direction."""

        def __init__(self, o: Any, d: Any) -> None:
            self.o, self.d = np.array(o, dtype=float).T, np.array(d, dtype=float).T

    Point3f = Vector3f = staticmethod(lambda x, y, z: (x, y, z))

    class Corner:
        """Upper corner of the bounding box."""

        max = np.array([300.0, 300.0, 40.0])

    def bbox(self) -> Corner:
        """The bounding box."""
        return self.Corner()

    def ray_intersect_preliminary(self, ray: Ray3f) -> Any:
        """Distance to the cube or the street, by slabs."""
        with np.errstate(divide="ignore", invalid="ignore"):
            low = (np.array([-20.0, -20.0, 0.0]) - ray.o) / ray.d
            high = (np.array([20.0, 20.0, 40.0]) - ray.o) / ray.d
            entry = np.nanmax(np.minimum(low, high), axis=1)
            leave = np.nanmin(np.maximum(low, high), axis=1)
            cube = np.where((entry <= leave) & (entry > 0), entry, np.inf)
            street = np.where(ray.d[:, 2] < 0, -ray.o[:, 2] / ray.d[:, 2], np.inf)
        outside = (np.abs(ray.o[:, :2]) > 300).any(1)
        t: NDArray[np.float64] = np.where(outside, np.inf, np.minimum(cube, street))

        class Hit:
            def __init__(self) -> None:
                self.t = t

            def is_valid(self) -> NDArray[np.bool_]:
                return np.isfinite(t)

        return Hit()


def placement(monkeypatch: pytest.MonkeyPatch, radius_m: float = 100.0) -> trace.Placement:
    box = Box()
    monkeypatch.setattr("importlib.import_module", lambda name: box)

    class Scene:
        mi_scene = box

    return trace.Placement(Scene(), radius_m, np.random.default_rng(0))


def test_users_stand_in_the_street_and_aps_on_the_walls_or_the_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    place = placement(monkeypatch)
    users = place.in_streets(500, 1.5)
    assert users.shape == (500, 3)
    assert (users[:, 2] == 1.5).all()
    assert (np.abs(users[:, :2]).max(1) > 20).all()
    assert np.linalg.norm(users[:, :2], axis=1).max() <= 100
    walls = place.on_walls(200, 8.0)
    off = np.abs(walls[:, :2]).max(1) - 20.0
    assert (walls[:, 2] == 8.0).all()
    assert ((off > 0) & (off <= 0.5 + 1e-6)).all()
    roofs = place.on_roofs(200, 8.0)
    assert (np.abs(roofs[:, :2]).max(1) <= 20).all()
    np.testing.assert_allclose(roofs[:, 2], 42.0)


def test_a_scene_without_room_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = placement(monkeypatch, radius_m=15.0)
    with pytest.raises(
        ValueError, match="too few open ground for users and targets within 15 m of its origin: found 0"
    ):
        place.in_streets(3, 1.5)


def test_a_configuration_of_the_file_is_that_of_the_command() -> None:
    config = Scenario.load(ETOILE).config
    assert config == SystemConfig(M=12, K=4, T=4)


def test_ways_keep_to_the_streets_at_constant_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    place = placement(monkeypatch)
    ways = place.ways(30, 1.5, 5.0 * np.arange(80.0))
    assert ways.shape == (30, 80, 3)
    walked = np.linalg.norm(np.diff(ways, axis=1), axis=-1)
    assert walked.max() <= 5.0 + 1e-9
    assert np.median(walked) == pytest.approx(5.0)
    between = np.concatenate([ways[:, :-1] + share * np.diff(ways, axis=1) for share in (0.0, 0.5)], axis=1)
    assert (np.abs(between[..., :2]).max(-1) > 17.0).all()  # a corner may be cut between two instants, not the block
    assert (np.linalg.norm(ways[..., :2], axis=-1) <= 100.0 + 1e-6).all()
    standing = place.ways(3, 1.5, np.zeros(2))
    np.testing.assert_array_equal(standing[:, 0], standing[:, 1])


class Radio:
    """What `trace` needs of Sionna RT: every link one path, of the amplitude of free space."""

    def __init__(self) -> None:
        self.devices: dict[str, tuple[str, NDArray[np.float64]]] = {}
        self.mi_scene = Box()
        self.frequency = 0.0

    def add(self, device: tuple[str, str, list[float]]) -> None:
        """A device joins."""
        kind, name, position = device
        self.devices[name] = (kind, np.array(position))

    def remove(self, name: str) -> None:
        """It goes."""
        del self.devices[name]

    @staticmethod
    def Transmitter(name: str, position: list[float]) -> Any:
        """A transmitter."""
        return "t", name, position

    @staticmethod
    def Receiver(name: str, position: list[float]) -> Any:
        """A receiver."""
        return "r", name, position

    @staticmethod
    def PlanarArray(**_: Any) -> None:
        """An antenna."""

    def PathSolver(self, deterministic: bool) -> Any:
        """The solver."""
        return self.solve

    def solve(self, scene: Radio, **_: Any) -> Any:
        """(receivers, 1, transmitters, 1, 1) amplitudes."""
        places = {kind: np.array([at for k, at in scene.devices.values() if k == kind]) for kind in "tr"}
        distance = np.linalg.norm(places["r"][:, None] - places["t"], axis=-1)
        amplitude = (1e-3 / distance)[:, None, :, None, None]

        class Paths:
            a = (amplitude, np.zeros_like(amplitude))

        return Paths()


def test_traced_walks_are_trajectories_that_the_mobile_environment_plays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    radio = Radio()
    monkeypatch.setattr(trace, "sionna_rt", lambda: radio)
    monkeypatch.setattr(trace, "_load", lambda rt, name: radio)
    monkeypatch.setattr("importlib.import_module", lambda name: radio.mi_scene)
    path = tmp_path / "walks.npz"
    options = ["--M", "5", "--K", "2", "--T", "2", "--area-diameter-m", "200", "--drops", "2", "--instants", "6"]
    assert main(["trace", *options, "--step-s", "0.5", "--user-speed-m-s", "2", "--out", str(path)]) == 0
    monkeypatch.undo()
    walks = Scenario.load(path)
    assert walks.batch_shape == (2, 6)
    for drop in range(2):
        for t in range(6):
            distance = np.linalg.norm(walks.ap_xy[drop, t, :, None] - walks.ue_xy[drop, t], axis=-1)
            np.testing.assert_allclose(walks.gain[drop, t], 1e-6 / (distance**2 + 6.5**2), rtol=1e-6)
    speed = np.linalg.norm(np.diff(walks.ue_xy, axis=1), axis=-1) / 0.5
    assert np.median(speed) == pytest.approx(2.0)
    env = gym.make("CfIsacMobile-v0", drops=str(path), step_s=0.5)
    observation, _ = env.reset(seed=0)
    for t in range(6):
        np.testing.assert_allclose(observation["ue"] * 100.0, walks.ue_xy[0, t], rtol=1e-5)
        observation, _, _, over, _ = env.step(baselines.make("predictive").predict(observation)[0])
        assert over == (t == 5)
