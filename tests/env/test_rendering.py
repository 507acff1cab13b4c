"""Frames have one size, show what a decision changes, and need no display."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

import cfisac_env  # noqa: F401  (registers the environment)
from cfisac_env import Decision, Outcome, Scenario, SystemConfig, sample
from cfisac_env.rendering import SIZE_PX, Viewer, draw_map

Frame = NDArray[np.uint8]
SHAPE = (SIZE_PX[1], SIZE_PX[0], 3)
MET, MISSED, POWER = "#0072b2", "#d55e00", "#f0a202"


def decide(scenario: Scenario, on: int, power_w: float = 0.05) -> tuple[Decision, Outcome]:
    """The first `on` APs radiate `power_w` each, the same for every user."""
    config = scenario.config
    active = np.arange(config.M) < on
    power = np.where(active[:, None], np.full((config.M, config.K), power_w / config.K), 0.0)
    decision = Decision(active, power)
    return decision, scenario.evaluate(decision)


def drop(seed: int = 0, **fields: Any) -> Scenario:
    return sample(SystemConfig(**fields), np.random.default_rng(seed))


def pixels(frame: Frame, color: str) -> int:
    """How many pixels of the frame have exactly this colour."""
    return int((frame == np.round(255 * np.array(to_rgb(color))).astype(np.uint8)).all(-1).sum())


def mapped(scenario: Scenario, decision: Decision | None, outcome: Outcome | None) -> Axes:
    ax = Figure().add_subplot()
    draw_map(ax, scenario, decision, outcome)
    return ax


@pytest.mark.parametrize(
    "fields", [{}, {"M": 1, "K": 1, "T": 1}, {"M": 50, "K": 10, "S": 2, "preset": "urban"}, {"K": 25, "S": 7}]
)
def test_every_frame_has_the_same_shape_whatever_the_drop_and_the_decision(fields: dict[str, Any]) -> None:
    scenario, viewer = drop(**fields), Viewer()
    for frame in (
        viewer.frame(scenario, None, None),
        viewer.frame(scenario, *decide(scenario, scenario.config.M)),
        viewer.frame(scenario, *decide(scenario, 0)),
    ):
        assert frame.shape == SHAPE
        assert frame.dtype == np.uint8


def test_a_decision_changes_the_frame_and_taking_it_back_restores_it() -> None:
    scenario, viewer = drop(), Viewer()
    before = viewer.frame(scenario, None, None)
    after = viewer.frame(scenario, *decide(scenario, 9))
    assert (before != after).any()
    np.testing.assert_array_equal(viewer.frame(scenario, None, None), before)


def test_a_frame_is_the_callers_own() -> None:
    scenario, viewer = drop(), Viewer()
    frame = viewer.frame(scenario, None, None)
    frame[:] = 0
    assert viewer.frame(scenario, None, None).any()


def test_more_active_aps_put_more_of_their_colour_on_the_map() -> None:
    scenario, viewer = drop(), Viewer()
    amber = [pixels(viewer.frame(scenario, *decide(scenario, on))[:, :600], POWER) for on in (1, 4, 12, 30)]
    assert amber == sorted(amber)
    assert len(set(amber)) == len(amber)


def test_an_ap_that_radiates_more_is_larger() -> None:
    scenario, viewer = drop(), Viewer()
    low, high = (pixels(viewer.frame(scenario, *decide(scenario, 5, p))[:, :600], POWER) for p in (0.001, 0.1))
    assert low < high


def test_the_panel_turns_from_missed_to_met_when_the_requirements_are() -> None:
    scenario, viewer = drop(crlb_threshold_m2=50.0, sinr_threshold_db=-30.0), Viewer()
    good, bad = decide(scenario, 30), decide(scenario, 0)
    assert good[1].feasible
    assert not bad[1].feasible
    met, missed = viewer.frame(scenario, *good)[:, 700:], viewer.frame(scenario, *bad)[:, 700:]
    assert pixels(met, MISSED) == 0
    assert pixels(met, MET) > 1000
    assert pixels(missed, MISSED) > 1000


def test_before_a_decision_nothing_looks_met_missed_or_on() -> None:
    frame = Viewer().frame(drop(), None, None)
    assert pixels(frame[50:630, :605], MET) == pixels(frame[50:630, :605], MISSED) == 0
    assert pixels(frame[50:630, :605], POWER) == 0
    assert pixels(frame[:80, 700:], MET) == pixels(frame[:80, 700:], MISSED) == 0


def test_an_ellipse_is_the_inverse_fisher_matrix_at_the_stated_magnification() -> None:
    scenario = drop(S=2, crlb_threshold_m2=10.0)
    decision, outcome = decide(scenario, 30, 0.1)
    ax = mapped(scenario, decision, outcome)
    legend = ax.get_legend()
    assert legend is not None
    magnification = float(legend.get_texts()[-1].get_text().split("×")[1])
    ellipses = [patch for patch in ax.patches if isinstance(patch, Ellipse) and patch.get_linewidth() > 1.5]
    assert len(ellipses) == 2
    for s, ellipse in enumerate(ellipses):
        q_a, q_b, q_c = np.einsum("m,mi->i", decision.power.sum(-1), scenario.fisher[:, s])
        covariance = np.linalg.inv(np.array([[q_a, q_c], [q_c, q_b]]))
        turn = np.deg2rad(ellipse.angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        deviation = np.array([ellipse.get_width(), ellipse.get_height()]) / 2 / magnification / 2
        np.testing.assert_allclose(rotation @ np.diag(deviation**2) @ rotation.T, covariance, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ellipse.center, scenario.target_xy[s])


def test_a_target_that_is_not_located_has_a_dashed_ellipse_within_the_map() -> None:
    scenario = drop()
    ax = mapped(scenario, *decide(scenario, 0))
    (ellipse,) = (patch for patch in ax.patches if isinstance(patch, Ellipse) and patch.get_linestyle() == "--")
    assert 0 < ellipse.get_width() < scenario.config.area_diameter_m


def test_positions_outside_the_disc_are_within_the_map() -> None:
    scenario = drop()
    shift = np.array([4000.0, -7000.0])
    moved = Scenario.from_gains(
        scenario.config,
        ap_xy=scenario.ap_xy + shift,
        ue_xy=scenario.ue_xy + shift,
        sr_xy=scenario.sr_xy + shift,
        target_xy=scenario.target_xy + shift,
        gain=scenario.gain,
    )
    ax = mapped(moved, *decide(moved, 5))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for x, y in np.concatenate((moved.ap_xy, moved.ue_xy, moved.sr_xy, moved.target_xy)):
        assert left < x < right
        assert bottom < y < top
    assert right - left < 1000


def test_a_batch_is_refused_with_advice() -> None:
    batch = sample(SystemConfig(), np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="single drop"):
        mapped(batch, None, None)


def test_human_mode_draws_without_a_display_and_close_may_be_repeated() -> None:
    plt.switch_backend("agg")
    scenario, viewer = drop(), Viewer()
    viewer.close()
    viewer.show(scenario, None, None)
    viewer.show(scenario, *decide(scenario, 4))
    assert len(plt.get_fignums()) == 1
    viewer.close()
    viewer.close()
    assert not plt.get_fignums()
    viewer.show(scenario, None, None)  # a closed viewer may be used again
    plt.close("all")  # as a person closes the window
    viewer.show(scenario, None, None)
    viewer.close()


def test_human_mode_survives_a_backend_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ImportError("no display")

    monkeypatch.setattr(plt, "figure", fail)
    scenario, viewer = drop(), Viewer()
    viewer.show(scenario, None, None)
    viewer.show(scenario, *decide(scenario, 3))
    viewer.close()


def test_the_environment_renders_through_gymnasium() -> None:
    env = gym.make("CfIsac-v0", M=12, K=3, S=2, render_mode="rgb_array", episode_steps=2)
    env.reset(seed=1)
    first: Any = env.render()
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    second: Any = env.render()
    assert first.shape == second.shape == SHAPE
    assert (first != second).any()
    env.close()
    env.close()


def test_human_mode_works_through_gymnasium() -> None:
    plt.switch_backend("agg")
    env = gym.make("CfIsac-v0", M=12, K=3, render_mode="human")
    env.reset(seed=1)
    env.step(env.action_space.sample())
    assert env.render() is None
    env.close()
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import cfisac_env", "matplotlib"),
        (
            "import numpy as np\nfrom cfisac_env import SystemConfig, sample\nfrom cfisac_env.rendering import Viewer\n"
            "Viewer().frame(sample(SystemConfig(M=2, K=1), np.random.default_rng(0)), None, None)",
            "matplotlib.pyplot",
        ),
    ],
)
def test_nothing_loads_more_of_matplotlib_than_it_needs(program: str, absent: str) -> None:
    check = f"{program}\nimport sys\nassert {absent!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_gymnasium_records_an_episode_as_a_video(tmp_path: Path) -> None:
    clips = pytest.importorskip("moviepy", reason="gymnasium's RecordVideo needs moviepy")
    env = gym.make("CfIsacMobile-v0", M=6, K=2, episode_steps=3, render_mode="rgb_array")
    recorded: Any = RecordVideo(env, str(tmp_path / "videos"))
    recorded.reset(seed=0)
    over = False
    while not over:
        *_, over, _ = recorded.step(np.ones((6, 3), np.float32))
    frame: Any = env.render()
    recorded.close()
    (path,) = (tmp_path / "videos").glob("*.mp4")
    clip = clips.VideoFileClip(str(path))
    assert clip.size == [frame.shape[1], frame.shape[0]]
    assert round(clip.duration * clip.fps) == 4  # the first observation and three steps
    clip.close()
