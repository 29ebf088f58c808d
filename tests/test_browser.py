"""Every page, opened from disk in a real browser: wide and narrow, light and dark.

Pictures of all of them are left in _build/screenshots/ for a person to look at.
"""

import os
from pathlib import Path

import pytest

from tests import chromium
from tests.conftest import ROOT
from tests.test_book import toc_files

SCREENSHOTS = ROOT / "_build" / "screenshots"
VIEWS = [
    chromium.View(f"{device}-{scheme}", width, height, phone, scheme)
    for device, width, height, phone in (("desktop", 1280, 900, False), ("phone", 390, 844, True))
    for scheme in ("light", "dark")
]

STATE = """(() => ({
    theme: document.documentElement.dataset.theme,
    width: document.documentElement.scrollWidth,
    mathematics: document.querySelectorAll(".math").length,
    rendered: document.querySelectorAll(".math mjx-container").length,
    faulty: [...document.querySelectorAll("mjx-merror, [data-mml-node='merror']")].map(e => e.textContent),
    invisible: [...document.querySelectorAll("main img")]
        .filter(e => !(e.complete && e.naturalWidth > 0 && e.getBoundingClientRect().width > 0)).map(e => e.src),
    altered: [...document.querySelectorAll("main img")]
        .filter(e => getComputedStyle(e).filter !== "none" || getComputedStyle(e).paddingTop !== "0px").map(e => e.src),
}))()"""


@pytest.fixture(scope="module")
def browser():
    path = chromium.find()
    if path is None:
        reason = "Chromium is not installed (on Debian: apt-get install chromium)."
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    with chromium.Chromium(path) as process:
        yield process


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@pytest.mark.parametrize("name", toc_files())
def test_page_as_a_reader_sees_it(html: Path, browser, name, view):
    page = browser.open(html / f"{name}.html", view)
    try:
        state = page.evaluate(STATE)
        page.screenshot(SCREENSHOTS / f"{name}-{view.name}.png")
    finally:
        page.close()
    assert page.visit.errors == []
    assert [url for url in page.visit.requests if not url.startswith(("file:", "data:"))] == []
    assert state["theme"] == view.scheme
    assert state["width"] <= view.width, "the page scrolls sideways"
    assert state["rendered"] == state["mathematics"], "some mathematics stayed as TeX"
    assert (state["faulty"], state["invisible"], state["altered"]) == ([], [], [])
