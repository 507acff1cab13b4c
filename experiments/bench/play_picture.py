"""Picture of the page of `cfisac play`, for the documentation: an episode in which a set of APs was held for some instants."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from experiments.play import page
from experiments.play.session import Network, Session

NETWORK = Network("episode", "urban", 30, 6, 3)
MOTION = {"episode_steps": 30, "switching_energy_j": 2.0, "wake_up_steps": 1}
INSTANTS = 12


def main(out: Path = Path("docs/images/play.png")) -> None:
    """Take the policy's APs every four instants, hold them in between, and write the picture.

    Raises:
        playwright.sync_api.Error: there is no Chromium; `CHROMIUM` names one.
    """
    server = page.server(page.build(Session({}, MOTION), NETWORK, "hysteresis"), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=found) as browser:
        view = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
        view.goto(f"http://{page.HOST}:{server.port}")
        view.wait_for_selector("#beside")
        for t in range(INSTANTS):
            if t % 4 == 0:
                view.click("#take")
                expect(view.locator("#beside tr").nth(3).locator("td").nth(1)).not_to_have_text(str(NETWORK.M))
            view.click("#step")
            expect(view.locator("#instant")).to_have_text(f"instant {t + 2} of {MOTION['episode_steps']:g}")
        view.wait_for_timeout(1000)  # for Plotly to have drawn
        view.screenshot(path=out, full_page=True)
    server.shutdown()
    server.server_close()
    print(f"wrote {out}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
