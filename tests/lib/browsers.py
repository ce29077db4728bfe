"""A real Chromium."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def running(*options: str) -> Iterator[Browser]:
    """A browser, closed at the end; without one on this machine the test is left out, but not in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found and "CI" not in os.environ:
        pytest.skip("no Chromium on this machine: install one, e.g. apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *options])
        yield browser
        browser.close()
