"""The page itself, and its server on the loopback address."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from importlib.resources import files as package_files
from typing import Any

import dash
import numpy as np
from dash import Input, Output, State, dcc, html
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from cfisac_env import PRESETS
from experiments import errors
from experiments.play import drawing
from experiments.play.session import LARGEST, Network, Session, policies

HOST = "127.0.0.1"

_GRAPH: Any = {"displayModeBar": False, "responsive": True, "scrollZoom": False, "doubleClick": False}
_RANGES = {"M": (1, LARGEST[0]), "K": (1, LARGEST[1]), "seed": (0, 2**53)}
_MAP, _SMALL = {"height": "min(620px, 96vw)"}, {"height": "190px"}


class _Quiet(WSGIRequestHandler):
    """Serves without a log of requests."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Print nothing."""


def server(app: dash.Dash, port: int) -> BaseWSGIServer:
    """Bind the page to a port of the loopback address; 0 is any free one.

    Raises:
        UserError: the port is in use, or not allowed.
    """
    try:
        bound = socket.create_server((HOST, port))
    except OSError as error:
        raise errors.UserError(
            f"port {port} can't be opened ({os.strerror(error.errno or 0)}): give another one with --port, or --port 0 for any that is free"
        ) from None
    with bound:
        return make_server(
            HOST, bound.getsockname()[1], app.server, threaded=True, request_handler=_Quiet, fd=bound.fileno()
        )


def build(session: Session, network: Network, policy: str) -> dash.Dash:
    """Build the page.

    Args:
        session: that computes.
        network: to begin with.
        policy: beside one's own choice.
    """
    app = dash.Dash(__name__, title="cfisac play", update_title="", serve_locally=True)
    app.index_string = (package_files("experiments.play") / "page.html").read_text(encoding="utf-8")
    app.layout = _layout(network, policy)
    _connect(app, session)
    return app


def _layout(network: Network, policy: str) -> html.Div:
    return html.Div(
        [
            html.H1("Which access points should be on?"),
            html.P(
                "Click access points on the map to switch them on and off. Their powers are exact: the least that meet every "
                "requirement, or those that come closest.",
                className="quiet",
            ),
            html.Div(_controls(network), className="controls"),
            html.Div(id="notice", className="notice", role="status"),
            html.Div([_map(), html.Div([html.Div(id="panel", className="card"), _beside(network, policy)])], className="columns"),
            dcc.Store(id="network"), dcc.Store(id="sets", data=[]), dcc.Store(id="played"),
        ]
    )  # fmt: skip


def _controls(network: Network) -> list[Any]:
    kinds = [{"label": "one drop", "value": "drop"}, {"label": "an episode in motion", "value": "episode"}]
    presets = dcc.Dropdown(list(PRESETS), network.preset, id="preset", clearable=False, searchable=False)
    return [
        dcc.RadioItems(kinds, network.kind, id="kind", inline=True),
        _labelled("preset", presets, "choice"),
        _labelled("access points M", _number("M", network.M)),
        _labelled("users K", _number("K", network.K)),
        _labelled("seed", _number("seed", network.seed)),
        html.Button("new drop", id="new"),
    ]


def _map() -> html.Div:
    steps = [
        html.Button("◀ back", id="back"),
        html.Button("step ▶", id="step"),
        html.Button("from the start", id="restart"),
    ]
    sets = [
        html.Button("all on", id="all-on"),
        html.Button("all off", id="all-off"),
        html.Button("take the policy's", id="take"),
    ]
    numbers = dcc.Checklist([], [], id="aps", inline=True)
    return html.Div(
        [
            html.Div([*steps, html.Span(id="instant", className="quiet")], id="steps", className="buttons"),
            dcc.Graph(figure={"data": [{}]}, id="map", config=_GRAPH, style=_MAP),
            html.Div(id="legend", className="legend small quiet"),
            html.Div(sets, className="buttons"),
            html.Details([html.Summary("Access points by number"), numbers]),
        ],
        className="card",
    )


def _beside(network: Network, policy: str) -> html.Div:
    names = dcc.Dropdown(policies(network.kind), policy, id="policy", clearable=False)
    return html.Div(
        [
            _labelled("beside the policy", names, "wide"),
            dcc.Loading(html.Div(id="rival"), type="dot", delay_show=300, color=drawing.RIVAL),
            html.Div(dcc.Graph(id="energy", config=_GRAPH, style=_SMALL), id="energies"),
        ],
        className="card",
    )


def _labelled(name: str, control: Any, style: str = "number") -> html.Label:
    return html.Label([name, html.Div(control, className=style)])


def _number(key: str, value: int) -> dcc.Input:
    least, most = _RANGES[key]
    return dcc.Input(
        id=key, type="number", value=value, min=least, max=most, step=1, debounce=True, style={"width": "100%"}
    )


def _connect(app: dash.Dash, session: Session) -> None:
    """Define what follows from what."""

    @app.callback(
        Output("network", "data"), Output("seed", "value"), Output("notice", "children"), Output("policy", "options"),
        Output("policy", "value"),
        Input("kind", "value"), Input("preset", "value"), Input("M", "value"), Input("K", "value"), Input("seed", "value"),
        Input("new", "n_clicks"), State("policy", "value"),
    )  # fmt: skip
    def choose(kind: Any, preset: str, M: Any, K: Any, seed: Any, clicks: Any, policy: str) -> tuple[Any, ...]:
        if dash.ctx.triggered_id == "new" and seed is not None:
            seed += 1
        names = policies(kind)
        policy = policy if policy in names else names[0]
        for (name, (least, most)), value in zip(_RANGES.items(), (M, K, seed), strict=True):
            if value is None:
                return (*_kept(2), f"{name} must be a whole number from {least} to {most:,}", *_kept(2))
        network = Network(kind, preset, int(M), int(K), int(seed))
        try:
            session.instants(network)
        except Exception as error:
            return (*_kept(2), _said(error), *_kept(2))
        return vars(network), seed, "", names, policy

    @app.callback(
        Output("aps", "options"), Output("aps", "value"), Output("sets", "data"), Output("map", "clickData"),
        Input("network", "data"), Input("map", "clickData"), Input("all-on", "n_clicks"), Input("all-off", "n_clicks"),
        Input("take", "n_clicks"), Input("step", "n_clicks"), Input("back", "n_clicks"), Input("restart", "n_clicks"),
        State("aps", "value"), State("sets", "data"), State("played", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def switch(
        given: dict[str, Any], click: Any, on: Any, off: Any, take: Any, step: Any, back: Any, restart: Any, chosen: list[int],
        sets: list[list[int]], played: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        every, cause = list(range(given["M"])), dash.ctx.triggered_id
        if cause in ("network", "restart"):
            return [{"label": str(m), "value": m} for m in every], every, [], None
        if cause == "map" and click is not None:
            index = click["points"][0].get("customdata")
            if index is not None:
                chosen = sorted(set(chosen) ^ {index})
        elif cause in ("all-on", "all-off"):
            chosen = every if cause == "all-on" else []
        elif cause == "take" and played is not None and played["network"] == given:
            course = session.course(Network(**given), played["policy"])
            chosen = np.flatnonzero(course.instants[len(sets)].decision.active).tolist()
        elif cause == "step":
            sets = [*sets, chosen]
        elif cause == "back" and sets:
            *sets, chosen = sets
        return dash.no_update, chosen, sets, None

    @app.callback(
        Output("played", "data"), Output("rival", "children"), Input("network", "data"), Input("policy", "value"),
        prevent_initial_call=True,
    )  # fmt: skip
    def play(given: dict[str, Any], policy: str) -> tuple[Any, Any]:
        if policy not in policies(given["kind"]):
            return None, ""
        try:
            session.course(Network(**given), policy)
        except Exception as error:
            return None, html.P(_said(error), className="missed")
        return {"network": given, "policy": policy}, dash.no_update

    @app.callback(
        Output("map", "figure"), Output("panel", "children"), Output("instant", "children"), Output("steps", "className"),
        Output("step", "disabled"), Output("back", "disabled"), Output("energies", "className"), Output("legend", "children"),
        Input("aps", "value"), Input("sets", "data"), State("network", "data"), State("played", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def show(chosen: list[int], sets: list[list[int]], given: dict[str, Any], played: Any) -> tuple[Any, ...]:
        network = Network(**given)
        own, choice = session.played(network, [*sets, chosen])
        one, steps, t = own.instants[-1], len(session.instants(network)), len(sets)
        hidden = "hidden" if network.kind == "drop" else ""
        return (
            drawing.network(one, _rival(session, given, played, t)), drawing.panel(one, choice), f"instant {t + 1} of {steps}",
            f"buttons {hidden}", t + 1 >= steps, t == 0, hidden,
            drawing.legend(one.scenario),
        )  # fmt: skip

    @app.callback(
        Output("map", "figure", allow_duplicate=True), Output("rival", "children", allow_duplicate=True), Output("energy", "figure"),
        Input("played", "data"), Input("aps", "value"), Input("sets", "data"), State("network", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def compare(played: Any, chosen: list[int], sets: list[list[int]], given: dict[str, Any]) -> tuple[Any, ...]:
        network, t = Network(**given), len(sets)
        own, _ = session.played(network, [*sets, chosen])
        ringed, patch = _rival(session, given, played, t), dash.Patch()
        at = drawing.ring(np.asarray(own.instants[-1].scenario.ap_xy), ringed)
        patch["data"][drawing.RING]["x"], patch["data"][drawing.RING]["y"] = at[:, 0], at[:, 1]
        rival = None if ringed is None else session.course(network, played["policy"])
        table = dash.no_update if rival is None else drawing.beside(own, rival, t)
        return patch, table, drawing.energy(own, rival, len(session.instants(network)))


def _rival(session: Session, given: dict[str, Any], played: Any, t: int) -> Any:
    """Return the APs that the policy has on at an instant, (M,); None if it hasn't played this network."""
    if played is None or played["network"] != given:
        return None
    return session.course(Network(**given), played["policy"]).instants[t].decision.active


def _kept(count: int) -> Sequence[Any]:
    return [dash.no_update] * count


def _said(error: Exception) -> str:
    """Return the line about an error of the user's; bugs are raised."""
    line = errors.line(error)
    if line is None:
        raise error
    return line
