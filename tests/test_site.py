"""The site builds without a warning, and its pages work in a browser."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
WIDTHS = (1280, 390)
"""Of a desktop and of a phone, in pixels."""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which the site is served, just built."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_page_is_reached_from_the_first_and_works_on_desktop_and_phone(site: str, browser: Browser) -> None:
    for width in WIDTHS:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(120_000)  # the explorer draws for long on a busy machine
        said: list[object] = []

        def note(message: object, said: list[object] = said) -> None:
            said.append(message)

        page.on("console", note)
        page.on("pageerror", note)
        seen, waiting = set[str](), [f"{site}/index.html"]
        while waiting:
            address = waiting.pop()
            if address in seen:
                continue
            seen.add(address)
            response = page.goto(address)
            assert response is not None
            assert response.status == 200, address
            waiting += _links(page, site)
            wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider == 0, f"{address} is {wider} px wider than {width}"
        assert not said, said
        names = {address.removeprefix(f"{site}/") for address in seen}
        assert {
            "start/rl.html",
            "start/wireless.html",
            "start/optimisation.html",
            "api/agents.html",
            "explore.html",
            "how-to.html",
        } <= names
        assert {f"environments/{name}.html" for name in ("CfIsac-v0", "CfIsacMobile-v0")} <= names
    page.goto(f"{site}/search.html?q=hysteresis")
    page.wait_for_selector("#search-results li a")


def _links(page: Page, site: str) -> list[str]:
    """Pages of the site that this one links to."""
    found: list[str] = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href.split('#')[0])")
    return [
        address
        for address in found
        if address.startswith(site) and address.endswith(".html") and "_modules" not in address
    ]
