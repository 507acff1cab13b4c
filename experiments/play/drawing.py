"""Map and energy of the page as Plotly figures, requirements and watts as HTML, in the colours of `cfisac_env.rendering`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from dash import html
from numpy.typing import NDArray

from cfisac_env import Scenario
from cfisac_env.info import sinr_db
from cfisac_env.physics import fisher_matrix
from cfisac_env.rendering import (
    CIRCUIT,
    INK,
    LEAST_SHARE,
    MET,
    MISSED,
    NEUTRAL,
    OFF,
    POWER,
    RECEIVER,
    margin_db,
    nice,
    targets_met,
    users_met,
    watts,
)
from experiments import episode
from experiments.episode import Course, Instant
from experiments.play.session import DEEPEST_DB, Choice

RIVAL = "#009e73"
"""Colour of the policy beside one's own choice."""

_SPAN_DB = 10.0  # of the strips, to both sides of the requirement
_CLEAR = "rgba(0,0,0,0)"
_FAINT = "rgba(128,128,128,0.09)"
_LINE = "rgba(128,128,128,0.5)"
_WORDS = "#848a93"  # legible on white and on black

RING = 0
"""Index of the map's trace with the policy's APs."""


def network(one: Instant, rival: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Draw the map of an instant; APs carry their index, for clicks.

    Args:
        one: instant to draw.
        rival: (M,) APs that the policy has on, which get a ring.
    """
    scenario, decision, outcome = one.scenario, one.decision, one.outcome
    config = scenario.config
    radius = config.area_diameter_m / 2
    ap, user, receiver, target = (
        np.asarray(xy) for xy in (scenario.ap_xy, scenario.ue_xy, scenario.sr_xy, scenario.target_xy)
    )
    radiated = np.asarray(decision.power).sum(-1)
    size = 11 + 12 * np.sqrt(np.clip(radiated / config.max_ap_power_w, 0, 1))
    sinr, served = sinr_db(np.asarray(outcome.sinr)), users_met(scenario, outcome)
    margin, located = margin_db(scenario, outcome), targets_met(scenario, outcome)
    waking = one.states == episode.WAKING
    on, off = (one.states == episode.ON), (one.states == episode.OFF)
    small = 8.0 if config.M > 60 else 11.0
    traces: list[dict[str, Any]] = [
        {
            **_points("the policy's APs", ring(ap, rival), "circle-open", 27, RIVAL),
            "hoverinfo": "skip",
            "hovertemplate": None,
            "visible": True,
        },
        _links(ap, user, np.asarray(decision.power)),
        *_ellipses(scenario, radiated, located),
        _points(
            "AP off", ap[off], "triangle-up-open", small, OFF, [f"AP {m}: off" for m in np.flatnonzero(off)],
            np.flatnonzero(off),
        ),
        _points(
            "AP on", ap[on], "triangle-up", size[on], POWER,
            [f"AP {m}: {watts(radiated[m])} radiated" for m in np.flatnonzero(on)], np.flatnonzero(on), edge=INK,
        ),
        _points("receiver", receiver, "diamond", 9, RECEIVER, [f"receiver {t}" for t in range(config.T)]),
        _points(
            "user", user, ["circle" if met else "x" for met in served], 11, [_color(met) for met in served],
            [f"user {k}: {_db(sinr[k])}, margin {_db(margin[k], '+')}" for k in range(config.K)], edge=INK,
        ),
        _points(
            "target", target, "star", 15, [_color(met) for met in located],
            [f"target {s}: {_square(outcome.crlb[s])}" for s in range(config.S)],
        ),
    ]  # fmt: skip
    if waking.any():
        names = [f"AP {m}: on, waking up" for m in np.flatnonzero(waking)]
        traces.append(_points("AP waking", ap[waking], "triangle-up-open", 13, POWER, names, np.flatnonzero(waking)))
    axis: dict[str, Any] = {
        "visible": False,
        "range": [-1.06 * radius, 1.06 * radius],
        "constrain": "domain",
        "fixedrange": True,
    }
    ground = {"type": "circle", "x0": -radius, "x1": radius, "y0": -radius, "y1": radius, "layer": "below"}
    return {
        "data": traces,
        "layout": {
            "xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "uirevision": "map", "dragmode": False, "hovermode": "closest",
            "shapes": [ground | {"line": {"color": _LINE}, "fillcolor": _FAINT}], "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
            "showlegend": False,
            **_paper(),
        },
    }  # fmt: skip


def legend(scenario: Scenario) -> list[Any]:
    """Explain the marks of the map."""
    marks = (
        ("▲", POWER, "AP on, by power"), ("△", OFF, "AP off"), ("○", RIVAL, "on for the policy"), ("●", MET, "user"),
        ("✖", MISSED, "misses its SINR"),
        ("◆", RECEIVER, "receiver"), ("★", MET, f"target, 2σ ellipse ×{_scale(scenario):g}"),
    )  # fmt: skip
    return [html.Span([html.Span(mark, style={"color": color}), " " + name]) for mark, color, name in marks]


def ring(ap: NDArray[np.float64], rival: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the positions of a policy's APs."""
    return ap[:0] if rival is None else ap[rival]


def energy(own: Course, rival: Course | None, steps: int) -> dict[str, Any]:
    """Draw the energy so far over an episode; crosses mark instants in which a requirement is missed."""
    traces: list[dict[str, Any]] = []
    for course, color, name in ((rival, RIVAL, None), (own, MET, "yours")):
        if course is None:
            continue
        x = course.step_s * np.arange(1, len(course.instants) + 1)
        missed = ~course.served
        line = {
            "x": x, "y": course.energy_j, "type": "scatter", "mode": "lines+markers" if name else "lines",
            "name": name or course.policy, "line": {"color": color, "width": 2}, "marker": {"size": 5},
            "hovertemplate": "%{x:g} s: %{y:.1f} J",
        }  # fmt: skip
        misses = {
            "x": x[missed], "y": course.energy_j[missed], "type": "scatter", "mode": "markers", "showlegend": False,
            "marker": {"symbol": "x", "size": 8, "color": MISSED}, "hovertemplate": "requirements missed<extra></extra>",
        }  # fmt: skip
        traces += [line, misses]
    axis = {"gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "fixedrange": True, "rangemode": "tozero"}
    return {
        "data": traces,
        "layout": {
            "margin": {"l": 44, "r": 8, "t": 8, "b": 34}, "dragmode": False,
            "xaxis": axis | {"title": {"text": "s"}, "range": [0, own.step_s * steps]},
            "yaxis": axis | {"title": {"text": "energy so far, J"}},
            "legend": {"x": 0.01, "y": 0.99, "bgcolor": _CLEAR}, **_paper(),
        },
    }  # fmt: skip


def panel(one: Instant, choice: Choice) -> list[Any]:
    """Show verdict, watts, and every requirement of an instant."""
    config, outcome = one.scenario.config, one.outcome
    budget = config.M * (config.max_ap_power_w + config.circuit_power_w)
    circuit, transmit = float(outcome.circuit_power), float(outcome.transmit_power)
    served, located = users_met(one.scenario, outcome), targets_met(one.scenario, outcome)
    feasible = bool(outcome.feasible)
    crlb = np.asarray(outcome.crlb, dtype=np.float64)
    precision = 10 * np.log10(config.crlb_threshold_m2 / np.minimum(crlb, 1e30))
    return [
        html.Div("✓ feasible" if feasible else "✗ infeasible", id="verdict", className="met" if feasible else "missed"),
        html.P(_reason(one, choice), id="reason", className="quiet"),
        html.Div(
            [html.Span(watts(circuit + transmit), id="total"), html.Span(f"of at most {budget:.4g} W", className="quiet")],
            className="between",
        ),
        html.Div(
            [
                html.Div(style={"width": f"{100 * circuit / budget:.3f}%", "background": CIRCUIT}),
                html.Div(style={"width": f"{100 * transmit / budget:.3f}%", "background": POWER}),
            ],
            className="bar",
        ),
        html.Div(
            [
                html.Span([_key(CIRCUIT), f"circuit {watts(circuit)}"]),
                html.Span([_key(POWER), f"radiated {watts(transmit)}"]),
                html.Span(f"{np.count_nonzero(one.decision.active)} of {config.M} APs on", id="on"),
            ],
            className="between small",
        ),
        html.H2([f"SINR, at least {_db(config.sinr_threshold_db)}", _count(served)]),
        html.Div(
            [
                _strip(f"user {k}", margin, met, _db(value))
                for k, (margin, met, value) in enumerate(
                    zip(margin_db(one.scenario, outcome), served, sinr_db(np.asarray(outcome.sinr)), strict=True)
                )
            ],
            id="sinr",
        ),
        html.H2([f"CRLB, at most {config.crlb_threshold_m2:g} m²", _count(located)]),
        html.Div(
            [
                _strip(f"target {s}", margin, met, _square(value))
                for s, (margin, met, value) in enumerate(zip(precision, located, crlb, strict=True))
            ],
            id="crlb",
        ),
    ]  # fmt: skip


def beside(own: Course, rival: Course, t: int) -> list[Any]:
    """Tabulate one's own choice beside a policy's at an instant."""
    one, other = own.instants[t], rival.instants[t]
    rows = {
        "total power": [watts(float(each.outcome.total_power)) for each in (one, other)],
        "radiated": [watts(float(each.outcome.transmit_power)) for each in (one, other)],
        "APs on": [str(np.count_nonzero(each.decision.active)) for each in (one, other)],
        "requirements": ["all met" if each.outcome.feasible else "missed" for each in (one, other)],
    }
    if len(rival.instants) > 1:
        rows["energy so far"] = [f"{each.energy_j:.1f} J" for each in (one, other)]
        rows["instants served"] = [f"{course.served[: t + 1].sum()} of {t + 1}" for course in (own, rival)]
    verdicts = {"all met": "met", "missed": "missed"}
    head = html.Tr([html.Th(""), html.Th("yours"), html.Th([_key(RIVAL), rival.policy])])
    body = [
        html.Tr([html.Td(name), *(html.Td(value, className=verdicts.get(value)) for value in values)])
        for name, values in rows.items()
    ]
    return [
        html.Table([html.Thead(head), html.Tbody(body)], id="beside"),
        html.P(_difference(one, other), id="difference"),
    ]


def _difference(one: Instant, other: Instant) -> str:
    if not one.outcome.feasible or not other.outcome.feasible:
        return ""
    ratio = float(one.outcome.total_power) / float(other.outcome.total_power) - 1
    if abs(ratio) < 1e-4:
        return "Both need the same power."
    if ratio > 1:
        return f"Yours needs {1 + ratio:.1f} times the power."
    return f"Yours needs {100 * abs(ratio):.2f} % {'more' if ratio > 0 else 'less'}."


def _reason(one: Instant, choice: Choice) -> str:
    if one.outcome.feasible:
        return "Exact: no powers of these APs need less."
    if not one.decision.active.any():
        return "No AP is on."
    first = (
        "No powers of these APs meet every requirement"
        if choice.proven
        else "No powers were found that meet every requirement"
    )
    if (one.states == episode.WAKING).any():
        first += ", as APs that wake up serve nobody"
    if choice.missed_db is None:
        return f"{first}, nor come within {DEEPEST_DB:g} dB of it."
    return f"{first}. The closest, shown here, miss by {choice.missed_db:.2f} dB."


def _strip(name: str, margin: float, met: bool, value: str) -> html.Div:
    place = 50 + 47 * float(np.clip(margin / _SPAN_DB, -1, 1))
    dot = html.Span(className="dot", style={"left": f"{place:.2f}%", "background": _color(met)})
    return html.Div(
        [html.Span(name), html.Div(dot, className="strip"), html.Span(value, className="met" if met else "missed")],
        className="row",
    )


def _count(met: NDArray[np.bool_]) -> html.Span:
    return html.Span(f"{met.sum()} of {met.size}", className="met" if met.all() else "missed")


def _key(color: str) -> html.Span:
    return html.Span(className="key", style={"background": color})


def _color(met: bool) -> str:
    return MET if met else MISSED


def _db(value: float, sign: str = "") -> str:
    return "no signal" if value < -200 else f"{value:{sign}.2f} dB".replace("-", "−")


def _square(value: float) -> str:
    return f"{value:#.3g} m²".replace(". m", " m") if value < 1e6 else "not located"


def _paper() -> dict[str, Any]:
    return {
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"color": _WORDS, "family": "system-ui, sans-serif"},
    }


def _points(
    name: str, xy: NDArray[Any], symbol: Any, size: Any, color: Any, text: Sequence[str] = (), index: Any = None, *,
    edge: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    marker = {"symbol": symbol, "size": size, "color": color, "opacity": 1}
    if edge is not None:
        marker["line"] = {"color": edge, "width": 1}
    elif isinstance(symbol, str) and symbol.endswith("-open"):
        marker["line"] = {"width": 2}
    return {
        "x": xy[:, 0], "y": xy[:, 1], "type": "scatter", "mode": "markers", "name": name, "marker": marker, "text": list(text),
        "hovertemplate": "%{text}<extra></extra>", "customdata": None if index is None else list(map(int, index)),
        "cliponaxis": False,
    }  # fmt: skip


def _links(ap: NDArray[Any], user: NDArray[Any], power: NDArray[Any]) -> dict[str, Any]:
    total = power.sum(0)
    m, k = np.nonzero(power >= LEAST_SHARE * np.where(total > 0, total, np.inf))
    ends = np.stack([ap[m], user[k], np.full((len(m), 2), np.nan)], axis=1).reshape(-1, 2)
    xy: list[list[float | None]] = [
        [None if math.isnan(value) else value for value in along] for along in ends.T.tolist()
    ]
    return {
        "x": xy[0], "y": xy[1], "type": "scatter", "mode": "lines", "hoverinfo": "skip",
        "line": {"color": NEUTRAL, "width": 1.2}, "opacity": 0.6,
    }  # fmt: skip


def _scale(scenario: Scenario) -> float:
    """Return by how much ellipses are enlarged: a circle at the required CRLB has about an eighth of the map's radius."""
    return nice(0.06 * scenario.config.area_diameter_m / math.sqrt(2 * scenario.config.crlb_threshold_m2))


def _ellipses(scenario: Scenario, radiated: NDArray[Any], located: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Draw the 2σ ellipses, enlarged by `_scale`, and dashed where they are cut."""
    radius = scenario.config.area_diameter_m / 2
    scale = _scale(scenario)
    turn = np.linspace(0, 2 * np.pi, 65)
    traces = []
    fisher = fisher_matrix(radiated, np.asarray(scenario.fisher))
    for (x, y), (q_a, q_b, q_c), met in zip(np.asarray(scenario.target_xy), fisher, located, strict=True):
        information, axes = np.linalg.eigh(np.array([[q_a, q_c], [q_c, q_b]]))
        semi = 2 * scale / np.sqrt(np.maximum(information, 1e-30))
        cut = bool(semi.max() > 0.32 * radius)
        points = (axes * np.minimum(semi, 0.32 * radius)) @ np.stack([np.cos(turn), np.sin(turn)])
        color = _color(bool(met))
        traces.append(
            {
                "x": x + points[0], "y": y + points[1], "type": "scatter", "mode": "lines", "hoverinfo": "skip", "fill": "toself",
                "fillcolor": color + "26", "line": {"color": color, "width": 1.6, "dash": "dash" if cut else "solid"},
                "name": f"2σ ×{scale:g}",
            }
        )  # fmt: skip
    return traces
