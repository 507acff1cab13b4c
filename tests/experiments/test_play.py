"""`cfisac play`: what the page shows is what allocator and environments say, and it answers to clicks without a word on the console."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from baselines.allocation import Allocator
from cfisac_env import CfIsacEnv, actions
from experiments.cli import main
from experiments.play import page as served
from experiments.play.session import DEEPEST_DB, Network, Session, choose, policies, relaxed

DROP = Network("drop", "urban", 12, 3, 1_000_003)
MOTION: dict[str, Any] = {"episode_steps": 4, "switching_energy_j": 2.0, "wake_up_steps": 1}
CLICK_AT = """m => {
  const graph = document.querySelector("#map .js-plotly-plot"), box = graph.getBoundingClientRect(), layout = graph._fullLayout;
  const trace = graph.data.find(one => one.customdata && one.customdata.includes(m)), i = trace.customdata.indexOf(m);
  return [box.left + layout.xaxis._offset + layout.xaxis.d2p(trace.x[i]), box.top + layout.yaxis._offset + layout.yaxis.d2p(trace.y[i])];
}"""
"""Position of an access point on the page, in pixels."""


@dataclass
class Visit:
    """A page, its session, and what it says and asks for."""

    page: Page
    address: str
    session: Session
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def click_ap(self, m: int) -> None:
        """Click an access point on the map."""
        self.page.mouse.click(*self.page.evaluate(CLICK_AT, m))

    def shows(self, network: Network, sets: list[list[int]]) -> None:
        """Wait until the page shows the last of these sets, with the session's own numbers."""
        own, _ = self.session.played(network, sets)
        one = own.instants[-1]
        expect(self.page.locator("#on")).to_have_text(f"{len(sets[-1])} of {network.M} APs on")
        expect(self.page.locator("#verdict")).to_contain_text("✓ feasible" if one.outcome.feasible else "✗ infeasible")
        expect(self.page.locator("#total")).to_have_text(f"{float(one.outcome.total_power):.3f} W")
        expect(self.page.locator("#sinr .row")).to_have_count(network.K)
        for k, row in enumerate(self.page.locator("#sinr .row").all()):
            expect(row).to_contain_text(f"{10 * np.log10(one.outcome.sinr[k]):.2f} dB".replace("-", "−"))


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    session = Session({"crlb_threshold_m2": 5.0}, MOTION)
    server = served.server(served.build(session, DROP, "full-ap"), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    one = Visit(page, f"http://{served.HOST}:{server.port}", session)
    page.on("console", lambda message: one.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: one.said.append(str(error)))
    page.on("request", lambda request: one.requests.append(request.url))
    page.goto(one.address)
    page.wait_for_selector("#beside")
    yield one
    page.close()
    server.shutdown()
    server.server_close()


def test_clicks_switch_access_points_and_the_page_shows_exact_powers_beside_the_policy(visit: Visit) -> None:
    page, every = visit.page, list(range(DROP.M))
    visit.shows(DROP, [every])
    assert "Both need the same power." in page.inner_text("#difference")
    visit.click_ap(4)
    visit.shows(DROP, [[m for m in every if m != 4]])
    visit.click_ap(4)
    visit.shows(DROP, [every])
    page.click("#all-off")
    expect(page.locator("#reason")).to_have_text("No AP is on.")
    visit.click_ap(0)
    visit.shows(DROP, [[0]])
    expect(page.locator("#reason")).to_contain_text("miss by")

    page.click("#policy")
    page.get_by_role("option", name="branch-and-bound", exact=True).click()
    expect(page.locator("#beside th").nth(2)).to_contain_text("branch-and-bound")
    page.click("#take")
    env = gym.make("CfIsac-v0", preset="urban", M=DROP.M, K=DROP.K, crlb_threshold_m2=5.0)
    env.reset(seed=DROP.seed)
    core = env.unwrapped
    assert isinstance(core, CfIsacEnv)
    course = visit.session.course(DROP, "branch-and-bound")
    best = np.flatnonzero(course.instants[0].decision.active).tolist()
    assert core.evaluate(course.instants[0].decision).feasible
    visit.shows(DROP, [best])
    expect(page.locator("#difference")).to_have_text("Both need the same power.")
    rings = page.evaluate("document.querySelector('#map .js-plotly-plot').data[0].x.length")
    assert rings == len(best)

    page.get_by_text("Access points by number").click()
    page.locator("#aps label").nth(best[0]).click()
    visit.shows(DROP, [best[1:]])
    page.click("#new")
    visit.shows(replace(DROP, seed=DROP.seed + 1), [every])
    _silent(visit)


def test_an_episode_is_stepped_through_and_bad_numbers_are_named(visit: Visit) -> None:
    page, episode = visit.page, replace(DROP, kind="episode")
    page.get_by_text("an episode in motion").click()
    expect(page.locator("#instant")).to_have_text("instant 1 of 4")
    sets = [list(range(DROP.M))]
    visit.click_ap(2)
    sets[-1].remove(2)
    visit.shows(episode, sets)
    page.click("#step")
    expect(page.locator("#instant")).to_have_text("instant 2 of 4")
    visit.click_ap(2)
    sets.append(list(range(DROP.M)))
    visit.shows(episode, sets)  # it wakes up
    expect(page.locator("#beside")).to_contain_text(f"{visit.session.played(episode, sets)[0].energy_j[-1]:.1f} J")
    page.click("#step")
    page.click("#step")
    expect(page.locator("#instant")).to_have_text("instant 4 of 4")
    expect(page.locator("#step")).to_be_disabled()
    page.click("#back")
    expect(page.locator("#instant")).to_have_text("instant 3 of 4")
    page.click("#restart")
    visit.shows(episode, [list(range(DROP.M))])
    for number, words in (("", "K must be a whole number from 1 to 40"), ("11", "")):
        page.fill("#K", number)
        page.press("#K", "Enter")
        expect(page.locator("#notice")).to_have_text(words)
    visit.shows(replace(episode, K=11), [list(range(DROP.M))])
    _silent(visit)


def test_the_page_fits_a_phone_in_the_dark(visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.wait_for_selector("#beside")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    visit.click_ap(1)
    visit.shows(DROP, [[m for m in range(DROP.M) if m != 1]])
    _silent(visit)


def _silent(visit: Visit) -> None:
    assert visit.said == []
    assert {re.sub(r"^(https?://[^/]*|data:|blob:).*", r"\1", url) for url in visit.requests} <= {
        visit.address,
        "data:",
        "blob:",
    }


def test_the_closest_powers_are_those_of_the_least_relaxation() -> None:
    problem = Session({}, {}).instants(DROP)[0].problem
    active = np.zeros(DROP.M, dtype=bool)
    active[:2] = True
    choice = choose(problem, active, active)
    assert choice.missed_db is not None
    assert choice.proven
    assert 0.1 < choice.missed_db < DEEPEST_DB
    solve = Allocator("clarabel")
    assert solve(relaxed(problem, choice.missed_db + 0.02), active).feasible
    assert not solve(relaxed(problem, choice.missed_db - 0.02), active).feasible
    misses = (
        problem.sinr_threshold / np.asarray(choice.outcome.sinr),
        np.asarray(choice.outcome.crlb) / problem.crlb_threshold_m2,
    )
    assert 10 * np.log10(np.concatenate(misses).max()) == pytest.approx(choice.missed_db, abs=1e-3)


def test_the_energy_of_switched_sets_is_the_environments() -> None:
    session, network = Session({}, MOTION), Network("episode", "urban", 12, 3, 1_000_004)
    sets = [list(range(12)), [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6], list(range(12))]
    own, _ = session.played(network, sets)
    env = gym.make("CfIsacMobile-v0", **session.settings(network))
    env.reset(seed=network.seed)
    core: Any = env.unwrapped
    for one in own.instants:
        problem = core.scenario.problem
        action = actions.encode(one.decision, problem.max_ap_power_w, problem.estimate_gain)
        *_, info = env.step(action)
        assert one.energy_j == pytest.approx(info["episode_energy_j"], rel=1e-4)
        assert bool(one.outcome.feasible) == info["feasible"]


@pytest.mark.parametrize("name", policies("drop"))
def test_every_name_of_the_menu_plays_or_says_why_not(name: str) -> None:
    session, drop = Session({}, MOTION), Network("drop", "paper", 8, 2, 1_000_000)
    if name in ("ddpg-paper", "td3", "sac", "ppo"):  # not shipped for this size
        with pytest.raises((ValueError, FileNotFoundError), match=name):
            session.course(drop, name)
    else:
        assert session.course(drop, name).policy == name


def test_a_port_in_use_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((served.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["play", "--M", "6", "--K", "2", "--port", str(port)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"port {port} can't be opened (Address already in use)" in said
    assert "give another one with --port" in said
