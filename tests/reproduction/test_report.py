"""The page of `cfisac report` in a real headless Chromium: it loads in silence, switches drop and policy, and shows what is stored."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from baselines.bounds import certify
from cfisac_env.env import CfIsacEnv
from experiments.cli import main
from experiments.reproduction import decisions, run
from experiments.reproduction.options import Options
from experiments.reproduction.points import Point
from experiments.reproduction.store import PointStore

HOSTILE = (
    "{{script}}", "{{ data }}", "{% raw %}", "{#", "<!--<script>", "</script><script>throw 1</script>", "<b>bold</b>", "%{x}", "&lt;",
    "'\"`", "__proto__", "constructor", "a\u2028b", "$\\frac{", "a|b", "%{text}<extra>",
)  # fmt: skip
"""Names that mean something to a template, to HTML, to JavaScript, to Plotly, to TeX or to Markdown."""

POLICIES = ("decoupled", "full-ap", "full-ap-paper", "modified-bb", "local-search")
SMALL = Point("paper", 8, 2)


@dataclass
class Visit:
    """An open page, what it is about, and everything that it said or asked for."""

    page: Page
    store: PointStore
    served: list[int]
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def visit(small_points: None, tmp_path: Path, browser: Browser) -> Visit:
    """Results of a few small drops, with their times, as a page in a browser."""
    first = _first_served()
    study = run.Reproduction.open(tmp_path, Options(POLICIES, drops=8, timed_drops=1, seed=first))
    study.decide(study.tasks(), 1, None, lambda _: None)
    study.time(lambda _: None)
    for point, store in study.stores.items():
        for seed, line in list(store.drops.items()):
            if "full-ap" in line["decisions"]:
                store.append({"seed": seed, "decisions": dict.fromkeys(HOSTILE, line["decisions"]["full-ap"])})
        for name in HOSTILE if study.times.seconds.get(point.key) else ():
            study.times.put(point, name, [0.01, 0.02])
    path = tmp_path / "report.html"
    assert main(["report", "--results", str(tmp_path), "--out", str(path)]) == 0
    store = PointStore(tmp_path, SMALL)
    served = [seed for seed in sorted(store.drops) if not store.drops[seed]["infeasible"]]
    assert len(served) >= 2
    page = browser.new_page()
    visit = Visit(page, store, served)
    page.on("console", lambda message: visit.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.messages.append(str(error)))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    return visit


def _first_served() -> int:
    return next(seed for seed in range(100) if not certify(decisions.drop(SMALL, seed).scenario.problem).infeasible)


def facts(page: Page, panel: int) -> dict[str, str]:
    names = page.locator(f"#facts-{panel} dt").all_inner_texts()
    return dict(zip(names, page.locator(f"#facts-{panel} dd").all_inner_texts(), strict=True))


def traces(page: Page, chart: str) -> list[dict[str, Any]]:
    shown = page.evaluate(f"JSON.stringify(document.getElementById('{chart}').data)")
    result: list[dict[str, Any]] = json.loads(shown)
    return result


def test_the_page_loads_in_silence_switches_drop_and_policy_and_shows_the_stored_numbers(visit: Visit) -> None:
    page, store = visit.page, visit.store
    for step, seed in enumerate(visit.served[:2]):
        if step:
            page.click("#next")
        assert page.input_value("#map-drop") == str(seed)
        _shows(visit, 0, seed, page.input_value("#policy-0"))
        page.select_option("#policy-1", "full-ap-paper")
        _shows(visit, 1, seed, "full-ap-paper")
        page.select_option("#policy-2", "modified-bb")
        _shows(visit, 2, seed, "modified-bb")
        assert page.locator("#drop-table tr").count() == 1 + len(POLICIES) + len(HOSTILE)
    page.select_option("#map-drop", str(visit.served[0]))
    _shows(visit, 1, visit.served[0], "full-ap-paper")  # the chosen policy stays when the drop changes

    page.select_option("#table-point", "paper-M8-K3")
    assert page.locator("#table tr").count() == 1 + len(POLICIES) + len(HOSTILE)
    page.select_option("#table-point", SMALL.key)
    dashes = page.locator("#table td", has_text="–").count()
    assert ("– under" in page.inner_text("#table-reasons")) == (dashes > 0)
    assert "– under here: W" in page.locator("#printed-reasons").text_content()  # type: ignore[operator]
    mean = np.mean([store.drops[seed]["decisions"]["modified-bb"]["total_power_w"] for seed in visit.served])
    row = (
        page.locator("#table tr", has=page.locator("td", has_text="modified-bb")).first.locator("td").all_inner_texts()
    )
    assert float(row[2].split()[0]) == pytest.approx(mean, abs=6e-4)
    assert row[1] == str(len(visit.served))

    curve = next(trace for trace in traces(page, "curves") if trace.get("name") == "modified-bb")
    assert curve["x"] == [2, 3]
    assert curve["y"][0] == pytest.approx(mean, rel=1e-6)
    page.select_option("#quantity", "active")
    page.select_option("#preset", "urban")
    page.select_option("#along", "M")
    curve = next(trace for trace in traces(page, "curves") if trace.get("name") == "full-ap")
    assert (curve["x"], curve["y"]) == ([5, 8], [5, 8])
    assert {html.unescape(trace["name"]) for trace in traces(page, "times")} == {*POLICIES, *HOSTILE}
    _names_are_only_names(page)

    assert visit.messages == []
    assert all(url.startswith(("file:", "blob:", "data:")) for url in visit.requests)


def _names_are_only_names(page: Page) -> None:
    """Every name stands as it is in the tables, the menus and the legends, and the bands are bands without dots."""
    for table in ("table", "drop-table"):
        assert set(page.locator(f"#{table} tr td:first-child").all_text_contents()) >= set(HOSTILE), table
    assert set(page.locator("#policy-0 option").all_text_contents()) >= set(HOSTILE)
    for chart in ("curves", "times"):
        page.wait_for_selector(f"#{chart} .legendtext")
        shown = {text.replace("\xa0", " ") for text in page.locator(f"#{chart} .legendtext").all_text_contents()}
        assert shown >= {name.replace("\u2028", " ") for name in HOSTILE} or shown >= set(HOSTILE), chart
    page.select_option("#policy-0", "<!--<script>")
    assert page.input_value("#policy-0") == "<!--<script>"
    bands = [trace for trace in traces(page, "curves") if trace.get("fill") == "toself"]
    assert bands
    assert {trace["mode"] for trace in bands} == {"lines"}


def _shows(visit: Visit, panel: int, seed: int, name: str) -> None:
    """A panel's words and marks against the environment's own verdict on what is stored."""
    page, record = visit.page, visit.store.drops[seed]["decisions"][name]
    assert page.input_value(f"#policy-{panel}") == name
    env = gym.make("CfIsac-v0", M=8, K=2)
    env.reset(seed=seed)
    core = env.unwrapped
    assert isinstance(core, CfIsacEnv)
    said = facts(page, panel)
    assert said["APs on"] == str(len(record["active"]))
    assert said["total power"] == f"{record['total_power_w']:.3f} W"
    assert said["requirements"] == ("all met" if record["feasible"] else "missed")
    worst = min(record["sinr_db"]) - core.config.sinr_threshold_db
    assert float(said["worst SINR margin"].split()[0]) == pytest.approx(worst, abs=6e-3)
    assert float(said["CRLB"].split()[0]) == pytest.approx(record["crlb_m2"][0], rel=1e-3)

    marks = {trace["name"]: trace for trace in traces(page, f"map-{panel}")}
    on = np.stack([marks["AP on"]["x"], marks["AP on"]["y"]], axis=1)
    np.testing.assert_allclose(on, core.scenario.ap_xy[record["active"]], atol=0.06)
    assert len(marks["AP off"]["x"]) == 8 - len(record["active"])
    ellipse = next(trace for text, trace in marks.items() if text.startswith("2σ ellipse"))
    if ellipse["line"]["dash"] == "solid":
        # The axes of the 2σ ellipse are 2/√eigenvalue of the Fisher matrix.
        radiated = np.zeros(8)
        radiated[record["active"]] = record["ap_power_w"]
        a, b, c = np.einsum("m,mi->i", radiated, core.scenario.fisher[:, 0])
        scale = float(ellipse["name"].split("×")[1])
        distance = np.hypot(ellipse["x"], ellipse["y"])
        expected = 2 * scale / np.sqrt(np.linalg.eigvalsh(np.array([[a, c], [c, b]])))
        assert [distance.max(), distance.min()] == pytest.approx(expected.tolist(), rel=1e-3)


def test_bad_input_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path / "none")]) == 2
    assert "no results in" in (message := " ".join(capsys.readouterr().err.split()))
    assert "make them with: cfisac reproduce all --out" in message
    assert main(["report", "--maps", "-1"]) == 2
    assert "--maps must be 0 or more, got -1" in " ".join(capsys.readouterr().err.split())
