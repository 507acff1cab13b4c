"""Drawing a decision: the network on a map, and beside it the power against the budget and which requirement holds."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from numpy.typing import NDArray

from cfisac_env.scenario import Scenario
from cfisac_env.types import Decision, Outcome

ON, OFF, SENSING, MISSED, CIRCUIT = "#0072b2", "#9a9a9a", "#7b3294", "#d55e00", "#a6cee3"
_NORM = TwoSlopeNorm(0.0, -6.0, 12.0)
_COLOURS = matplotlib.colormaps["PuOr"]


def draw_map(
    axes: Axes, scenario: Scenario, decision: Decision | None = None, outcome: Outcome | None = None, magnification: float = 30.0
) -> None:
    """Draw one drop and, when there is one, the decision on it.

    APs are triangles: hollow when off, filled when on, larger with more power. Users are discs, coloured by how far their SINR is above
    (purple) or below (orange) the threshold; those below are crossed. Receivers are squares. A target is a star in its error ellipse:
    two standard deviations of the Cramér–Rao bound, `magnification` times enlarged, dashed when the requirement is missed.

    Args:
        axes: of a matplotlib figure.
        scenario: a single drop.
        decision: what is on, and the powers.
        outcome: how the physics scores the decision.
        magnification: of the error ellipses.
    """
    config = scenario.config
    radius = config.area_diameter_m / 2
    axes.add_patch(Circle((0, 0), radius, facecolor="#fafafa", edgecolor="#bbbbbb"))
    active = np.zeros(config.M, dtype=bool) if decision is None else decision.active
    if decision is not None:
        _draw_links(axes, scenario, decision)
        share = np.sqrt(decision.power.sum(-1) / config.max_ap_power_w)
        axes.scatter(
            *scenario.ap_xy[active].T, marker="^", s=60 + 260 * share[active], color=ON, edgecolor="white", zorder=4, label="AP on"
        )
    axes.scatter(*scenario.ap_xy[~active].T, marker="^", s=40, facecolor="none", edgecolor=OFF, zorder=3, label="AP off")
    axes.scatter(*scenario.sr_xy.T, marker="s", s=45, color=SENSING, edgecolor="white", zorder=4, label="receiver")
    if outcome is None:
        axes.scatter(*scenario.ue_xy.T, s=70, color="#cccccc", edgecolor="black", linewidth=0.6, zorder=5, label="user")
    else:
        margin = 10 * np.log10(np.maximum(outcome.sinr, 1e-30) / config.sinr_threshold)
        axes.scatter(
            *scenario.ue_xy.T, s=70, c=margin, cmap=_COLOURS, norm=_NORM, edgecolor="black", linewidth=0.6, zorder=5, label="user"
        )
        missed = outcome.sinr < config.sinr_threshold * (1 - 1e-4)
        if missed.any():
            axes.scatter(*scenario.ue_xy[missed].T, marker="x", s=150, color=MISSED, linewidth=2.2, zorder=6, label="SINR missed")
    if decision is not None and outcome is not None:
        _draw_ellipses(axes, scenario, decision, outcome, magnification)
    axes.scatter(*scenario.target_xy.T, marker="*", s=190, color="black", edgecolor="white", zorder=7, label="target")
    axes.set(xlim=(-1.06 * radius, 1.06 * radius), ylim=(-1.06 * radius, 1.06 * radius), aspect="equal")
    axes.set_axis_off()
    bar = 10 ** np.floor(np.log10(radius))
    axes.plot([-radius, bar - radius], [-radius, -radius], color="black", linewidth=2)
    axes.text(bar / 2 - radius, -0.985 * radius, f"{bar:.0f} m", ha="center", va="bottom", fontsize=8)


def _draw_links(axes: Axes, scenario: Scenario, decision: Decision) -> None:
    """Lines from APs to the users whose signal they carry a tenth of, or more."""
    amplitude = np.sqrt(decision.power * scenario.estimate_gain)
    share = amplitude / np.maximum(amplitude.sum(0), 1e-300)
    m, k = np.nonzero(share > 0.1)
    segments = np.stack([scenario.ap_xy[m], scenario.ue_xy[k]], axis=1)
    axes.add_collection(LineCollection(list(segments), colors=ON, alpha=0.35, linewidths=3 * share[m, k], zorder=2))


def _draw_ellipses(axes: Axes, scenario: Scenario, decision: Decision, outcome: Outcome, magnification: float) -> None:
    config = scenario.config
    ap_power = decision.power.sum(-1)
    for s in range(config.S):
        a, b, c = ap_power @ scenario.fisher[:, s]
        if not np.isfinite(outcome.crlb[s]):
            continue
        variances, axes_of = np.linalg.eigh(np.linalg.inv([[a, c], [c, b]]))
        width, height = 4 * magnification * np.sqrt(np.maximum(variances[::-1], 0.0))
        met = outcome.crlb[s] <= config.crlb_threshold_m2 * (1 + 1e-4)
        angle = np.degrees(np.arctan2(axes_of[1, 1], axes_of[0, 1]))
        axes.add_patch(
            Ellipse(
                scenario.target_xy[s],
                min(width, 4 * config.area_diameter_m),
                height,
                angle=angle,
                facecolor="#00000012",
                edgecolor=SENSING if met else MISSED,
                linestyle="-" if met else "--",
                linewidth=1.8,
                zorder=3,
            )
        )


def draw_panel(axes: Axes, scenario: Scenario, decision: Decision | None, outcome: Outcome | None) -> None:
    """Power against the budget M (P_max + P_cir) as a bar, and every requirement in words."""
    config = scenario.config
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.97, f"{config.preset}   M = {config.M}   K = {config.K}", fontsize=11, weight="bold", va="top")
    if decision is None or outcome is None:
        axes.text(0, 0.86, "no decision yet", fontsize=11, color="#666666", va="top")
        return
    budget = config.M * (config.max_ap_power_w + config.circuit_power_w)
    circuit, transmit = float(outcome.circuit_power) / budget, float(outcome.transmit_power) / budget
    axes.barh([0.74], [1], height=0.07, color="#eeeeee")
    axes.barh([0.74], [circuit], height=0.07, color=CIRCUIT)
    axes.barh([0.74], [transmit], left=[circuit], height=0.07, color=ON)
    axes.text(0, 0.87, f"{float(outcome.total_power):.3f} W", fontsize=18, weight="bold", va="top")
    axes.text(1, 0.80, f"of {budget:.1f} W", fontsize=9, ha="right", color="#666666")
    lines = [
        (f"{float(outcome.circuit_power):.2f} W circuits", CIRCUIT),
        (f"{1e3 * float(outcome.transmit_power):.1f} mW radiated", ON),
        (f"{int(decision.active.sum())} of {config.M} APs on", "black"),
    ]
    worst = float(10 * np.log10(max(float(outcome.sinr.min()), 1e-30)))
    sinr_met = bool((outcome.sinr >= config.sinr_threshold * (1 - 1e-4)).all())
    crlb = float(outcome.crlb.max())
    crlb_met = crlb <= config.crlb_threshold_m2 * (1 + 1e-4)
    for i, (text, colour) in enumerate(lines):
        axes.plot([0.02], [0.655 - 0.06 * i], "s", color=colour, markersize=8)
        axes.text(0.08, 0.655 - 0.06 * i, text, fontsize=11, va="center")
    for i, (title, met, value) in enumerate(
        (
            ("SINR", sinr_met, f"worst {worst:.1f} dB, asked {config.sinr_threshold_db:.1f} dB"),
            ("position", crlb_met, f"CRLB {crlb:.3g} m², asked {config.crlb_threshold_m2:g} m²"),
        )
    ):
        y = 0.42 - 0.13 * i
        axes.text(0, y, f"{title} {'met' if met else 'MISSED'}", fontsize=13, weight="bold", color=ON if met else MISSED, va="top")
        axes.text(0, y - 0.055, value, fontsize=10, color="#444444", va="top")


class Viewer:
    """Draws frames of one size, off screen or in a window."""

    def __init__(self) -> None:
        self._figure = Figure(figsize=(9.6, 6.4), dpi=100)
        self._canvas = FigureCanvasAgg(self._figure)
        self._map = self._figure.add_axes((0.0, 0.02, 0.64, 0.94))
        self._panel = self._figure.add_axes((0.67, 0.2, 0.31, 0.76))
        self._scale = self._figure.add_axes((0.67, 0.07, 0.31, 0.025))
        colours = matplotlib.cm.ScalarMappable(_NORM, _COLOURS)
        bar = self._figure.colorbar(colours, cax=self._scale, orientation="horizontal", label="user's SINR above threshold, dB")
        bar.set_ticks([-6, 0, 6, 12])
        self._window: Any = None

    def frame(self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None) -> NDArray[np.uint8]:
        """(640, 960, 3) RGB."""
        for axes in (self._map, self._panel):
            axes.clear()
        draw_map(self._map, scenario, decision, outcome)
        self._map.legend(loc="upper left", fontsize=8, frameon=False, markerscale=0.6, borderaxespad=0.0)
        if decision is not None:
            self._map.set_title("error ellipse: 2σ, 30 times enlarged", fontsize=8, color="#666666", y=-0.02)
        draw_panel(self._panel, scenario, decision, outcome)
        self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def show(self, scenario: Scenario, decision: Decision | None, outcome: Outcome | None) -> None:
        """Draw into a window that stays open; without a display, nothing appears."""
        from matplotlib import pyplot

        frame = self.frame(scenario, decision, outcome)
        if self._window is None or not pyplot.fignum_exists(self._window[0].number):
            figure = pyplot.figure("CfIsac", figsize=(9.6, 6.4))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            self._window = (figure, axes.imshow(frame))
        figure, image = self._window
        image.set_data(frame)
        figure.canvas.draw_idle()
        figure.canvas.flush_events()
        if matplotlib.get_backend().lower() != "agg":
            pyplot.show(block=False)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            from matplotlib import pyplot

            pyplot.close(self._window[0])
            self._window = None
