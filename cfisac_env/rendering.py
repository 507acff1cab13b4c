"""Rendering of a drop and a decision: a map, and a panel with power and requirements.

Blue marks met requirements and vermilion violated ones. Only this module of the suite imports matplotlib.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse, Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from cfisac_env.belief import Belief
from cfisac_env.info import sinr_db
from cfisac_env.physics import FEASIBILITY_TOLERANCE, fisher_matrix
from cfisac_env.scenario import Scenario
from cfisac_env.types import Decision, Outcome

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIZE_PX = (1120, 720)
"""Width and height of a frame; multiples of 16 for video encoders."""

MAP_PX = (480, 512)
"""Width and height of a frame of one environment of a batch."""

_DPI = 100
MET, MISSED, NEUTRAL = "#0072b2", "#d55e00", "#8a8f98"
POWER, CIRCUIT, RECEIVER, OFF = "#f0a202", "#56606e", "#7b4ea3", "#a7adb6"
INK, QUIET, TRACK, GROUND, RIM = "#22262b", "#5f6670", "#e6e8eb", "#f6f7f9", "#b4bac2"
_SPAN_DB = 10.0  # range of displayed margins
_SHADES = (
    (0.0, MISSED),
    (0.5, "#fbdcc2"),
    (0.5, "#cfe5f5"),
    (1.0, MET),
)  # discontinuous between violated and met
_COLORS = LinearSegmentedColormap.from_list("margin", list(_SHADES))
_NORM = Normalize(-_SPAN_DB, _SPAN_DB)
LEAST_SHARE = 0.05  # least share of a user's power for a link to be drawn
_BOLD: Any = {"weight": "bold"}


def draw_map(
    ax: Axes,
    scenario: Scenario,
    decision: Decision | None,
    outcome: Outcome | None,
    belief: Belief | None = None,
    *,
    legend: bool = True,
) -> None:
    """Draw the map: node positions, active APs, links, and met requirements of users and targets.

    The opacity of a link is its AP's share of the user's power. A target's ellipse is the 2σ ellipse of the Fisher matrix
    J = J0 + Σ_m P_m Q_m, magnified by the factor in the legend, and dashed where truncated. A belief has the 2σ ellipse of its
    covariance, around its mean (a plus), whose error is magnified as well.

    Args:
        decision: None draws every AP off.
        outcome: of the decision; None leaves users and targets neutral.
        belief: about the targets.

    Raises:
        ValueError: the scenario is a batch.
    """
    if scenario.batch_shape:
        raise ValueError(
            f"only a single drop can be drawn, got a batch of shape {scenario.batch_shape}; index it first"
        )
    config = scenario.config
    ax.clear()
    half_m = _draw_ground(ax, scenario)
    # A circle at the CRLB threshold has about a tenth of the map's radius.
    magnification = nice(0.12 * half_m / math.sqrt(2 * config.crlb_threshold_m2))
    ap_power = np.zeros(config.M) if decision is None else np.asarray(decision.power, dtype=np.float64).sum(-1)
    if decision is not None:
        _draw_links(ax, scenario, decision)
    if decision is not None or belief is not None:
        _draw_ellipses(ax, scenario, ap_power, outcome, belief, magnification, 0.32 * half_m)
    _draw_nodes(ax, scenario, decision, ap_power, outcome)
    if not legend:
        return
    _draw_keys(ax, magnification)
    counts = ((config.M, "AP"), (config.K, "user"), (config.T, "receiver"), (config.S, "target"))
    words = [f"{n} {name}{'' if n == 1 else 's'}" for n, name in counts]
    if decision is not None:
        words[0] = f"{np.count_nonzero(decision.active)} of {words[0]} on"
    if outcome is not None:
        words.append(watts(float(outcome.total_power)))
    ax.set_title("  ·  ".join(words), fontsize=12, color=INK, pad=8)


class Viewer:
    """Renderer of drops and decisions as frames or in a window, each with one reused figure."""

    def __init__(self) -> None:
        self._offscreen: _Dashboard | None = None
        self._window: _Dashboard | None = None

    def frame(
        self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None, belief: Belief | None = None
    ) -> NDArray[np.uint8]:
        """Render a frame of fixed size, (height, width, 3)."""
        if self._offscreen is None:
            self._offscreen = _Dashboard(_blank_figure())
        canvas = self._offscreen.draw(scenario, decision, outcome, belief)
        return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()

    def show(
        self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None, belief: Belief | None = None
    ) -> None:
        """Draw in a window without blocking, reopening a closed one; without a display, draw off-screen."""
        from matplotlib import pyplot as plt

        manager = None if self._window is None else self._window.figure.canvas.manager
        if self._window is None or (manager is not None and not plt.fignum_exists(manager.num)):
            try:
                figure = plt.figure(figsize=(SIZE_PX[0] / _DPI, SIZE_PX[1] / _DPI), dpi=_DPI)
            except ImportError:  # the backend needs a display
                figure = _blank_figure()
            self._window = _Dashboard(figure)
        canvas = self._window.draw(scenario, decision, outcome, belief)
        if canvas.manager is not None and canvas.required_interactive_framework is not None:
            canvas.manager.set_window_title("CfIsac")
            canvas.manager.show()
            canvas.flush_events()

    def close(self) -> None:
        """Close the window and release the figures; idempotent."""
        if self._window is not None and self._window.figure.canvas.manager is not None:
            from matplotlib import pyplot as plt

            plt.close(self._window.figure)
        self._window = self._offscreen = None


class MapViewer:
    """Renderer of maps alone as frames, for batches; one figure is reused."""

    def __init__(self) -> None:
        self._figure = _blank_figure(MAP_PX)
        self._figure.set_facecolor("white")
        self._map = self._figure.add_axes((0.02, 0.02, 0.96, 0.9))

    def frame(
        self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None, belief: Belief | None = None
    ) -> NDArray[np.uint8]:
        """Render a frame of `MAP_PX`, (height, width, 3)."""
        draw_map(self._map, scenario, decision, outcome, belief, legend=False)
        if decision is not None and outcome is not None:
            words = (
                f"{np.count_nonzero(decision.active)} of {scenario.config.M} on  ·  {watts(float(outcome.total_power))}"
            )
            holds = bool(outcome.feasible)
            self._map.set_title(f"{'✓' if holds else '✗'}  {words}", fontsize=15, color=_color(holds), **_BOLD)
        canvas: Any = self._figure.canvas
        canvas.draw()
        return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def _blank_figure(size: tuple[int, int] = SIZE_PX) -> Figure:
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure


class _Dashboard:
    """Figure with map and panel."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        figure.set_facecolor("white")
        self._map = figure.add_axes((0.012, 0.11, 0.535, 0.835))
        self._panel = _Panel(figure.add_axes((0.655, 0.03, 0.33, 0.945)))

    def draw(
        self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None, belief: Belief | None
    ) -> Any:
        """Draw and return the canvas."""
        draw_map(self._map, scenario, decision, outcome, belief)
        self._panel.update(scenario, decision, outcome)
        self.figure.canvas.draw()
        return self.figure.canvas


class _Panel:
    """Panel with power, active APs and requirements; built once and updated for every frame."""

    def __init__(self, ax: Axes) -> None:
        self.ax = ax
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.set_axis_off()
        self._verdict = self.text(0.5, 0.955, 17, "white", ha="center", **_BOLD)
        self.text(0, 0.865, 12, QUIET).set_text("Total power")
        self._total = self.text(0, 0.81, 26, **_BOLD)
        self._budget = self.text(1, 0.803, 11, QUIET, ha="right")
        self.bar(0.75, 1.0, TRACK)
        self._circuit, self._transmit = self.bar(0.75, 0.0, CIRCUIT), self.bar(0.75, 0.0, POWER)
        self.bar(0.706, 0.03, CIRCUIT, height=0.018)
        self.bar(0.706, 0.03, POWER, left=0.5, height=0.018)
        self._circuit_text, self._transmit_text = self.text(0.045, 0.706, 11), self.text(0.545, 0.706, 11)
        self.text(0, 0.635, 12, QUIET).set_text("Active APs")
        self._active_text = self.text(1, 0.635, 13, ha="right", **_BOLD)
        self.bar(0.6, 1.0, TRACK, height=0.018)
        self._active = self.bar(0.6, 0.0, POWER, height=0.018)
        self._sinr, self._crlb = _Requirement(self, 0.515, "SINR"), _Requirement(self, 0.285, "CRLB")
        self._cap_mark, self._cap = self.text(0, 0.062, 17, **_BOLD), self.text(0.07, 0.062, 12, **_BOLD)

    def text(self, x: float, y: float, size: float, color: str = INK, **style: Any) -> Text:
        """Add an empty text, centred vertically."""
        return self.ax.text(x, y, "", fontsize=size, color=color, va="center", **style)

    def bar(self, y: float, width: float, color: str, *, left: float = 0.0, height: float = 0.034) -> Rectangle:
        """Add a filled rectangle centred at height `y`."""
        bar = Rectangle((left, y - height / 2), width, height, facecolor=color, edgecolor="none")
        self.ax.add_patch(bar)
        return bar

    def update(self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None) -> None:
        """Update to a decision and its outcome."""
        config = scenario.config
        budget = config.M * (config.max_ap_power_w + config.circuit_power_w)
        transmit, circuit = (
            (0.0, 0.0) if outcome is None else map(float, (outcome.transmit_power, outcome.circuit_power))
        )
        self._total.set_text("—" if outcome is None else watts(transmit + circuit))
        self._budget.set_text(f"of at most {budget:.4g} W")
        self._circuit_text.set_text("circuit " + ("—" if outcome is None else watts(circuit)))
        self._transmit_text.set_text("transmit " + ("—" if outcome is None else watts(transmit)))
        left = min(circuit / budget, 1.0)
        self._circuit.set_width(left)
        self._transmit.set(x=left, width=min(transmit / budget, 1.0 - left))
        active = 0 if decision is None else np.count_nonzero(decision.active)
        self._active_text.set_text(f"{'—' if decision is None else active} of {config.M}")
        self._active.set_width(active / config.M)

        goal_db, limit, cap = config.sinr_threshold_db, config.crlb_threshold_m2, f"{config.max_ap_power_w:g} W"
        self._sinr.label(*(f"{goal_db + step:.3g} dB".replace("-", "−") for step in (-_SPAN_DB, 0, _SPAN_DB)))
        self._crlb.label(*(f"{limit * factor:.3g} m²" for factor in (10, 1, 0.1)))
        if outcome is None:
            self._sinr.update("every user", "")
            self._crlb.update("every target", "")
            kept = feasible = None
        else:
            margin, met = margin_db(scenario, outcome), users_met(scenario, outcome)
            worst = f"worst margin {margin.min() + 0.0:+.2f} dB".replace("-", "−")
            words = worst if margin.min() > -200 else "no signal at a user"
            self._sinr.update(f"{met.sum()} of {met.size} users reach it", words, margin, met)
            crlb, met = np.asarray(outcome.crlb, dtype=np.float64), targets_met(scenario, outcome)
            words = f"worst {crlb.max():.3g} m²" if np.isfinite(crlb).all() else "a target isn't located"
            precision = 10 * np.log10(limit / np.minimum(crlb, 1e30))
            self._crlb.update(f"{met.sum()} of {met.size} targets reach it", words, precision, met)
            kept, feasible = bool(outcome.cap_violation <= FEASIBILITY_TOLERANCE), bool(outcome.feasible)
        self._cap.set_text(f"an AP radiates more than {cap}" if kept is False else f"every AP within its {cap}")
        _mark(self._cap_mark, kept)
        self._verdict.set_text({None: "NO DECISION YET", True: "✓  FEASIBLE", False: "✗  INFEASIBLE"}[feasible])
        self._verdict.set_bbox({"boxstyle": "round,pad=0.45", "facecolor": _color(feasible), "edgecolor": "none"})


class _Requirement:
    """Panel section of one requirement: mark, counts, worst value, and a strip of all margins."""

    def __init__(self, panel: _Panel, top: float, name: str) -> None:
        self._y = top - 0.1
        self._mark = panel.text(0, top, 17, **_BOLD)
        panel.text(0.07, top, 13, **_BOLD).set_text(name)
        self._worst = panel.text(1, top, 12, ha="right", **_BOLD)
        self._count, self._goal = panel.text(0.07, top - 0.042, 11, QUIET), panel.text(0.5, self._y - 0.048, 10)
        self._goal.set(ha="center", weight="bold")
        self._low = panel.text(0, self._y - 0.048, 10, QUIET)
        self._high = panel.text(1, self._y - 0.048, 10, QUIET, ha="right")
        panel.bar(self._y, 0.5, "#fae3d3", height=0.06)
        panel.bar(self._y, 0.5, "#d3e7f4", left=0.5, height=0.06)
        panel.bar(self._y, 0.006, INK, left=0.497, height=0.06)
        self._dots = panel.ax.scatter([], [], s=52, edgecolors=INK, linewidths=0.8, zorder=3)

    def label(self, low: str, goal: str, high: str) -> None:
        """Label the ends and the middle of the strip."""
        self._low.set_text(low)
        self._goal.set_text(f"required {goal}")
        self._high.set_text(high)

    def update(self, count: str, worst: str, margin_db: Floats | None = None, met: Bools | None = None) -> None:
        """Show the margins; neutral without them."""
        holds = None if met is None else bool(met.all())
        _mark(self._mark, holds)
        self._count.set_text(count)
        self._worst.set(text=worst, color=_color(holds))
        margin_db = np.empty(0) if margin_db is None else margin_db
        lanes = min(max(margin_db.size, 1), 5)  # stacked lanes, so that equal margins remain visible
        x = 0.5 + 0.475 * np.clip(margin_db / _SPAN_DB, -1, 1)
        y = self._y + 0.036 * (np.arange(margin_db.size) % lanes - (lanes - 1) / 2) / max(lanes - 1, 1)
        self._dots.set_offsets(np.stack([x, y], axis=-1))
        if met is not None:
            self._dots.set_facecolor(_margin_colors(margin_db, met))


def _mark(text: Text, holds: bool | None) -> None:
    text.set(text={None: "○", True: "✓", False: "✗"}[holds], color=_color(holds))


def _color(holds: bool | None) -> str:
    return {None: NEUTRAL, True: MET, False: MISSED}[holds]


def margin_db(scenario: Scenario, outcome: Outcome) -> Floats:
    """Compute 10 log10(γ_k/γ_thr) of every user, (K,)."""
    return np.asarray(sinr_db(np.asarray(outcome.sinr, dtype=np.float64)) - scenario.config.sinr_threshold_db)


def _margin_colors(margin_db: Floats, met: Bools) -> Any:
    """Compute the colours (…, 4) of margins; violations within the tolerance count as met."""
    return _COLORS(_NORM(np.where(met, np.maximum(margin_db, 0.0), np.minimum(margin_db, -0.1))))


def users_met(scenario: Scenario, outcome: Outcome) -> Bools:
    """Return which users reach their SINR within the tolerance, (K,)."""
    return np.asarray(outcome.sinr) >= scenario.config.sinr_threshold * (1 - FEASIBILITY_TOLERANCE)


def targets_met(scenario: Scenario, outcome: Outcome) -> Bools:
    """Return which targets are located as required within the tolerance, (S,)."""
    return np.asarray(outcome.crlb) <= scenario.config.crlb_threshold_m2 * (1 + FEASIBILITY_TOLERANCE)


def watts(power_w: float) -> str:
    """Write a power with its unit."""
    if 0 < power_w < 5e-4:
        return f"{power_w * 1e3:.2g} mW"
    return f"{power_w:.3f} W" if power_w < 10 else f"{power_w:.2f} W" if power_w < 100 else f"{power_w:.0f} W"


def nice(number: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    decade = 10.0 ** math.floor(math.log10(number))
    return decade * max(step for step in (1, 2, 5) if step * decade <= number * (1 + 1e-9))


def _draw_ground(ax: Axes, scenario: Scenario) -> float:
    """Draw the disc and a scale bar; return half the width of the map in m."""
    nodes = np.concatenate((scenario.ap_xy, scenario.ue_xy, scenario.sr_xy, scenario.target_xy))
    radius = scenario.config.area_diameter_m / 2
    x, y, half = 0.0, 0.0, 1.04 * radius
    if (np.hypot(nodes[:, 0], nodes[:, 1]) <= 1.01 * radius).all():
        ax.add_patch(Circle((0, 0), radius, facecolor=GROUND, edgecolor=RIM, linewidth=1.4, zorder=0))
    else:  # user-supplied positions may lie outside of the disc
        low, high = nodes.min(0), nodes.max(0)
        x, y = (low + high) / 2
        half = max(0.55 * float((high - low).max()), 1.0)
    ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], aspect="equal")
    ax.set_frame_on(False)
    length, right, bottom = nice(0.4 * half), x + 0.98 * half, y - 0.97 * half
    ax.plot([right - length, right], [bottom, bottom], color=QUIET, linewidth=2.5, solid_capstyle="butt")
    label = f"{length:g} m" if length < 1000 else f"{length / 1000:g} km"
    ax.text(right - length / 2, bottom + 0.025 * half, label, ha="center", va="bottom", fontsize=10, color=QUIET)
    return half


def _draw_links(ax: Axes, scenario: Scenario, decision: Decision) -> None:
    power = np.asarray(decision.power, dtype=np.float64)
    total = power.sum(0)
    share = power / np.where(total > 0, total, 1.0)
    m, k = np.nonzero(share >= LEAST_SHARE)
    ends = np.stack([np.asarray(scenario.ap_xy)[m], np.asarray(scenario.ue_xy)[k]], axis=1)
    colors = [to_rgba(CIRCUIT, 0.12 + 0.5 * s) for s in share[m, k]]
    ax.add_collection(LineCollection(list(ends), colors=colors, linewidths=0.8 + 1.8 * share[m, k], zorder=1), False)


def _draw_ellipses(
    ax: Axes, scenario: Scenario, ap_power: Floats, outcome: Outcome | None, belief: Belief | None, magnification: float,
    longest_m: float,
) -> None:  # fmt: skip
    met = [None] * scenario.config.S if outcome is None else targets_met(scenario, outcome).tolist()
    xy = np.asarray(scenario.target_xy)
    if belief is None:
        fisher = fisher_matrix(ap_power, np.asarray(scenario.fisher), scenario.prior)
    else:
        fisher = belief.information
        xy = xy + magnification * (belief.mean[:, :2] - xy)
        ax.scatter(xy[:, 0], xy[:, 1], s=90, marker="+", c=INK, linewidths=1.6, zorder=9)
    for (x, y), (q_a, q_b, q_c), holds in zip(xy.tolist(), fisher, met, strict=True):
        information, axes = np.linalg.eigh(np.array([[q_a, q_c], [q_c, q_b]]))
        semi = 2 * magnification / np.sqrt(np.maximum(information, 1e-30))
        cut = bool(semi.max() > longest_m)
        width, height = 2 * np.minimum(semi, longest_m)
        angle = math.degrees(math.atan2(axes[1, 0], axes[0, 0]))
        style: Any = {"edgecolor": _color(holds), "facecolor": to_rgba(_color(holds), 0.07 if cut else 0.16)}
        style |= {"linestyle": "--" if cut else "-", "linewidth": 1.8, "zorder": 3, "clip_on": cut}
        ax.add_patch(Ellipse((x, y), width, height, angle=angle, **style))


def _draw_nodes(
    ax: Axes, scenario: Scenario, decision: Decision | None, ap_power: Floats, outcome: Outcome | None
) -> None:
    ap, user, target = (np.asarray(a) for a in (scenario.ap_xy, scenario.ue_xy, scenario.target_xy))
    on = np.zeros(len(ap), bool) if decision is None else np.asarray(decision.active, bool)
    _points(ax, ap[~on], "^", 45, "white", OFF, 2)
    # Areas scale with amplitude, so that milliwatts remain visible.
    area = 45 + 255 * np.sqrt(np.clip(ap_power / scenario.config.max_ap_power_w, 0, 1))
    _points(ax, ap[on], "^", area[on], POWER, INK, 5)
    _points(ax, np.asarray(scenario.sr_xy), "D", 75, RECEIVER, "white", 4)
    if outcome is None:
        _points(ax, user, "o", 100, "white", NEUTRAL, 6)
        _points(ax, target, "*", 300, NEUTRAL, "white", 7)
        return
    served, located = users_met(scenario, outcome), targets_met(scenario, outcome)
    _points(ax, user, "o", 100, _margin_colors(margin_db(scenario, outcome), served), INK, 6)
    _points(ax, target, "*", 300, [_color(holds) for holds in located.tolist()], "white", 7)
    missed = user[~served]
    ax.scatter(missed[:, 0], missed[:, 1], s=110, marker="x", c=INK, linewidths=1.9, zorder=8)


def _points(ax: Axes, xy: Floats, marker: str, area: Any, face: Any, edge: str, order: int) -> None:
    x, y = xy[:, 0], xy[:, 1]
    ax.scatter(x, y, s=area, marker=marker, facecolors=face, edgecolors=edge, linewidths=1.2, zorder=order)


def _draw_keys(ax: Axes, magnification: float) -> None:
    """Draw the legend and the colour scale of the margins."""
    keys = (
        ("^", 10, POWER, INK, "AP on, by power"),
        ("^", 7, "white", OFF, "AP off"),
        ("o", 9, _COLORS(0.8), INK, "user, by SINR margin"),
        ("x", 9, INK, INK, "user that misses it"),
        ("D", 7, RECEIVER, RECEIVER, "receiver"),
        ("*", 13, MET, MET, f"target, 2σ ellipse ×{magnification:g}"),
    )
    handles = [
        Line2D([], [], ls="", marker=marker, markersize=size, markerfacecolor=face, markeredgecolor=edge, label=label)
        for marker, size, face, edge, label in keys
    ]
    place: Any = {"loc": "upper center", "bbox_to_anchor": (0.53, 0.005), "ncols": 3, "columnspacing": 2.0}
    ax.legend(handles=handles, fontsize=10, frameon=False, handletextpad=0.3, labelcolor=INK, **place)
    # Faster than a matplotlib colour bar.
    left, right, low, step = 1.025, 1.049, 0.2, 0.6 / 40
    cells = [[(left, y), (right, y), (right, y + step), (left, y + step)] for y in low + step * np.arange(40)]
    place = {"transform": ax.transAxes, "clip_on": False}
    ax.add_collection(PolyCollection(cells, facecolors=_COLORS(np.arange(0.5, 40) / 40), aa=False, **place), False)
    words: Any = {"transform": ax.transAxes, "fontsize": 10, "color": QUIET}
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        label = f"{(2 * share - 1) * _SPAN_DB:+.0f}".replace("-", "−") if share != 0.5 else "0"
        ax.text(right + 0.012, low + 40 * step * share, label, va="center", **words)
    ax.text((left + right) / 2, 0.82, "SINR\nmargin\n(dB)", ha="center", va="bottom", **words)
