"""A browser for the tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Chromium without a screen and without calls home."""

PATIENCE_MS = 120_000


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Chromium on the path, that of `CHROMIUM`, or the one that Playwright installed."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next((path for name in names if name and (path := shutil.which(name))), own)
        if not Path(found).exists():
            pytest.fail("no Chromium to look at pages with: run `make browser`, or set CHROMIUM to one", pytrace=False)
        opened = playwright.chromium.launch(executable_path=found, args=list(QUIET), timeout=PATIENCE_MS)
        yield opened
        opened.close()
