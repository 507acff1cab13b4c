"""Pictures of one episode of `CfIsacMobile-v0`: an animation of several policies side by side, and a timeline of their access points."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cfisac_env import Decision, Outcome, Scenario, actions, files, rendering
from cfisac_env.mobile import CfIsacMobileEnv
from experiments import results
from experiments.mobile import build

OFF, WAKING, ON = 0, 1, 2
_STATES = (("off", "#f1f2f4"), ("waking", "#f0a202"), ("on", "#0072b2"))
_MISSED = "#d55e00"
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#56606e", "#cc79a7", "#e69f00")

DPI = 80
COLOURS = 64
"""Colours of an animation, which keep its file small."""

FRAME_MS = 240


@dataclass(frozen=True, eq=False)
class Instant:
    """One step of an episode."""

    scenario: Scenario
    decision: Decision  # as realised: APs that wake up radiate nothing
    outcome: Outcome
    states: NDArray[np.int64]  # (M,) `OFF`, `WAKING` or `ON`
    energy_j: float  # of the episode so far


@dataclass(frozen=True, eq=False)
class Course:
    """Episode of a policy."""

    policy: str
    instants: list[Instant]
    step_s: float

    @property
    def served(self) -> NDArray[np.bool_]:
        """(steps,) whether every requirement is met."""
        return np.array([bool(one.outcome.feasible) for one in self.instants])

    @property
    def energy_j(self) -> NDArray[np.float64]:
        """(steps,) J so far."""
        return np.array([one.energy_j for one in self.instants])


def play(fields: dict[str, Any], policies: Sequence[str], seed: int, payback_s: float = 10.0) -> list[Course]:
    """Let policies play the same episode.

    Args:
        fields: arguments of `CfIsacMobile-v0`.
        policies: names, with options as in `cfisac mobile`.
        seed: of the episode.
        payback_s: of `hysteresis` and `keep-credit`.
    """
    env = gym.make("CfIsacMobile-v0", **fields)
    core = env.unwrapped
    assert isinstance(core, CfIsacMobileEnv)
    courses = []
    for name in policies:
        policy = build(name, core.config, payback_s, 0.0)
        observation, _ = env.reset(seed=seed)
        if hasattr(policy, "foresee"):
            policy.foresee(core.trajectory.problem, core.beginning())
        state, over = None, False
        instants: list[Any] = []
        while not over:
            scenario, awake = core.scenario, core.switching.awake(core.config.M)
            action, state = policy.predict(
                observation, state=state, episode_start=np.array([not instants]), deterministic=True
            )
            decision = actions.decode(np.asarray(action), core.config.max_ap_power_w)
            realised = Decision(decision.active, np.where(awake[:, None], decision.power, 0.0))
            observation, _, _, over, info = env.step(action)
            states = np.where(realised.active, np.where(awake, ON, WAKING), OFF)
            instants.append(
                Instant(scenario, realised, scenario.evaluate(realised), states, float(info["episode_energy_j"]))
            )
        courses.append(Course(name, instants, core.step_s))
    env.close()
    return courses


def timeline(courses: Sequence[Course]) -> Figure:
    """Draw the state of every AP over time, one panel a policy, and the energies so far below.

    APs that no policy uses after the first instant are left out; marks at the top are instants in which a requirement is missed.
    """
    used = np.any([[one.states != OFF for one in course.instants[1:] or course.instants] for course in courses], (0, 1))
    shown = np.flatnonzero(used)
    times = courses[0].step_s * np.arange(len(courses[0].instants) + 1)
    figure = results.canvas(3.1 * len(courses) + 0.8, 0.13 * len(shown) + 4.0)
    figure.set_layout_engine("none")
    space: dict[str, Any] = {"left": 0.08, "right": 0.99, "top": 0.9, "bottom": 0.14, "hspace": 0.12, "wspace": 0.1}
    space["height_ratios"] = (0.13 * len(shown) + 1, 1.6)
    panels = figure.subplots(2, len(courses), sharex=True, sharey="row", squeeze=False, gridspec_kw=space)
    colours = ListedColormap([colour for _, colour in _STATES])
    for i, (course, panel) in enumerate(zip(courses, panels[0], strict=True)):
        states = np.array([one.states[shown] for one in course.instants]).T
        rows = np.arange(len(shown) + 1)
        panel.pcolormesh(times, rows, states, cmap=colours, vmin=OFF, vmax=ON, edgecolors="white", linewidth=0.3)
        missed = times[:-1][~course.served] + 0.5 * course.step_s
        panel.plot(missed, np.full(missed.size, len(shown) + 0.5), "v", color=_MISSED, markersize=3, clip_on=False)
        panel.set_ylim(0, len(shown) + 1)
        panel.set_yticks(rows[:-1] + 0.5, [str(m) for m in shown], fontsize=6)
        panel.set_title(
            f"{results.escaped(course.policy)}\n{course.energy_j[-1]:.0f} J, {course.served.mean():.0%} served",
            fontsize=10,
        )
        below = panels[1, i]
        for j, other in enumerate(courses):
            own = other is course
            colour = _COLOURS[j % len(_COLOURS)] if own else "#c9cdd3"
            below.plot(times[1:], other.energy_j, color=colour, linewidth=2.0 if own else 1.0, zorder=2 + own)
        below.set_xlabel("s")
        for ax in (panel, below):
            ax.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("access point")
    panels[1, 0].set_ylabel("energy so far, J")
    handles: list[Any] = [Patch(facecolor=colour, label=name) for name, colour in _STATES]
    handles += panels[0, 0].plot([], [], "v", color=_MISSED, markersize=4, label="a requirement is missed")
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def write(courses: Sequence[Course], timeline_to: Path | None, animation_to: Path | None) -> list[Path]:
    """Write the timeline (PNG) and the animation (GIF) of an episode, as far as files are given."""
    contents = {}
    if timeline_to is not None:
        contents[timeline_to] = results.picture(timeline(courses), "png")
    if animation_to is not None:
        contents[animation_to] = animation(courses)
    return files.write_together(contents)


def animation(courses: Sequence[Course]) -> bytes:
    """Render the maps of all policies side by side, the energy so far below, as a GIF with a frame a step."""
    from PIL import Image

    figure = results.canvas(2.9 * len(courses), 4.1)
    panels = figure.subplots(2, len(courses), squeeze=False, height_ratios=(2.9, 1.0), sharey="row")
    steps = len(courses[0].instants)
    times = courses[0].step_s * np.arange(1, steps + 1)
    frames = []
    for t in range(steps):
        for i, course in enumerate(courses):
            one, colour = course.instants[t], _COLOURS[i % len(_COLOURS)]
            ax, below = panels[:, i]
            rendering.draw_map(ax, one.scenario, one.decision, one.outcome, legend=False)
            words = f"{np.count_nonzero(one.states == ON)} on"
            if waking := np.count_nonzero(one.states == WAKING):
                words += f", {waking} waking"
            ax.set_title(f"{results.escaped(course.policy)}\n{words}, {one.energy_j:.0f} J", fontsize=10)
            below.clear()
            for other in courses:
                below.plot(times, other.energy_j, color="#dfe2e6", linewidth=1)
            below.plot(times[: t + 1], course.energy_j[: t + 1], color=colour, linewidth=2)
            missed = ~course.served[: t + 1]
            below.plot(times[: t + 1][missed], course.energy_j[: t + 1][missed], "v", color="black", markersize=4)
            below.set(xlim=(0, times[-1]), ylim=(0, 1.05 * max(one.energy_j[-1] for one in courses)), xlabel="s")
            below.spines[["top", "right"]].set_visible(False)
        panels[1, 0].set_ylabel("energy so far, J")
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
        frames.append(Image.open(content).convert("RGB"))
    several = np.concatenate([np.asarray(frame) for frame in frames[:: max(1, steps // 4)]])
    palette = Image.fromarray(several).quantize(COLOURS)
    images = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    written = io.BytesIO()
    durations = [FRAME_MS] * (steps - 1) + [2500]
    images[0].save(
        written, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False, disposal=1
    )
    return written.getvalue()
