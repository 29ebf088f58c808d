"""Every page, opened from disk in a real browser: wide and narrow, light and dark.

Pictures of all of them are left in _build/screenshots/ for a person to look at.
"""

import os
import time
from pathlib import Path

import pytest

from nas_core import space
from nas_core.pages import chromium, player
from tests import synthetic
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


# The player of wiring evolution, on a page of its own

ASSETS = ROOT / "book" / "_assets"
PLAYER = """(() => {
    const say = (name) => document.querySelector(name);
    return {
        epoch: say("input[type=range]")?.valueAsNumber,
        clock: say(".player-clock")?.textContent,
        button: say(".player-controls button")?.textContent,
        titles: [...document.querySelectorAll(".player-title")].map((own) => own.textContent),
        dropped: [...document.querySelectorAll(".player-edge")].map((own) => own.classList.contains("dropped")),
        labels: [...document.querySelectorAll(".player-edge")].map((own) => own.ariaLabel),
        chosen: [...document.querySelectorAll("[aria-selected=true]")].map((own) => own.ariaLabel),
        focused: document.activeElement.ariaLabel,
        said: say(".player-said")?.textContent,
        cells: [...document.querySelectorAll(".player-edge-table tbody td")].map((own) => own.textContent),
        live: say(".player-live") ? getComputedStyle(say(".player-live")).display : "none",
        stills: getComputedStyle(say(".player-stills")).display,
        width: document.documentElement.scrollWidth,
    };
})()"""


@pytest.fixture(scope="module")
def player_page(tmp_path_factory) -> Path:
    """Two methods on a cell of nine edges: the second one ends with a single edge, the first with seven."""
    films = {
        "SNAS": [synthetic.result(cell=space.darts(3), kept=7, low=0)],
        "DSNAS": [synthetic.result(cell=space.darts(3), kept=1)],
    }
    page = tmp_path_factory.mktemp("player") / "player.html"
    page.write_text(
        '<!doctype html><html lang="en"><title>Player</title><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<style>{(ASSETS / 'player.css').read_text(encoding='utf-8')}</style>"
        f"<script>{(ASSETS / 'player.js').read_text(encoding='utf-8')}</script>{player.show(films)._repr_html_()}",
        encoding="utf-8",
    )
    return page


@pytest.fixture
def open_player(browser, player_page):
    """Open the page; ``motion`` is false for a reader who asked for less, ``script`` for one without JavaScript."""
    tabs = []

    def opened(view=VIEWS[0], *, motion=True, script=True):
        tab = browser.open(player_page, view)
        tabs.append(tab)
        wish = {"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"}
        tab.call("Emulation.setEmulatedMedia", features=[wish])
        tab.call("Emulation.setScriptExecutionDisabled", value=not script)
        tab.call("Page.navigate", url=player_page.as_uri())
        wait(lambda: tab.evaluate("document.readyState") == "complete")
        return tab

    yield opened
    for tab in tabs:
        assert tab.visit.errors == []
        tab.close()


def wait(until, seconds: float = 5.0) -> None:
    """Until something is true; the test fails where it stays false."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def press(tab: chromium.Page, key: str) -> None:
    """A real key, down and up."""
    for kind in ("rawKeyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


@pytest.mark.parametrize("view", [VIEWS[0], VIEWS[2]], ids=lambda view: view.name)
def test_player_moves_by_itself_within_five_seconds_and_stops_when_told(open_player, view):
    tab = open_player(view)
    wait(lambda: tab.evaluate(PLAYER)["epoch"] >= 2)
    tab.evaluate("document.querySelector('.player-controls button').click()")
    state = tab.evaluate(PLAYER)
    time.sleep(0.6)
    assert tab.evaluate(PLAYER)["epoch"] == state["epoch"] and state["button"] == "Play"
    assert (state["live"], state["stills"]) == ("block", "none") and state["width"] <= view.width
    tab.screenshot(SCREENSHOTS / f"player-{view.name}.png")


def test_player_stands_still_for_who_wants_less_motion_but_can_be_played(open_player):
    tab = open_player(motion=False)
    time.sleep(0.8)
    assert tab.evaluate(PLAYER)["epoch"] == 0
    tab.evaluate("document.querySelector('.player-controls button').click()")
    wait(lambda: tab.evaluate(PLAYER)["epoch"] >= 1)


def test_player_is_stepped_scrubbed_and_read_by_keyboard(open_player):
    tab = open_player(motion=False)
    tab.evaluate("document.querySelector('.player-edge[tabindex=\"0\"]').focus()")
    assert tab.evaluate(PLAYER)["focused"].startswith("e8 (3→4), intermediate edge: ")
    press(tab, "ArrowRight")
    assert tab.evaluate(PLAYER)["clock"] == "epoch 1 of 20"
    press(tab, "End")
    press(tab, "ArrowDown")
    state = tab.evaluate(PLAYER)
    assert state["clock"] == "epoch 20 of 20"
    assert state["titles"] == ["SNAS: 7 of 9 edges", "DSNAS: 1 of 9 edges"]
    assert state["dropped"] == [False] * 7 + [True] * 2 + [False] + [True] * 8
    assert [": dropped, P(none)" in label for label in state["labels"]] == state["dropped"]
    assert [label.split(",")[0] for label in state["chosen"]] == ["e0 (0→2)"] * 2 and state["focused"] == state[
        "chosen"
    ][0]
    assert sum(float(text.split()[0]) for text in state["cells"][:-4:4]) == pytest.approx(100, abs=4), "P of SNAS"
    assert "," in state["chosen"][0] and state["chosen"][0].split("cost ")[1] == state["cells"][-3]
    wait(lambda: tab.evaluate(PLAYER)["said"].startswith("Epoch 20."))
    said = tab.evaluate(PLAYER)["said"]
    assert "SNAS: 7 of 9 edges: e0 (0→2) " in said and "DSNAS: 1 of 9 edges" in said
    tab.evaluate("document.querySelector('input[type=range]').focus()")
    press(tab, "Home")
    assert tab.evaluate(PLAYER)["clock"] == "epoch 0 of 20"


def test_edge_under_the_pointer_is_chosen_in_both_cells(open_player):
    tab = open_player(motion=False)
    place = tab.evaluate(
        "(({x, y, width, height}) => ({x: x + width / 2, y: y + height / 2}))"
        "(document.querySelectorAll('.player-chip')[3].getBoundingClientRect())"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", **place)
    assert [label.split(" ")[0] for label in tab.evaluate(PLAYER)["chosen"]] == ["e3", "e3"]


@pytest.mark.parametrize("script", [True, False], ids=["print", "no-script"])
def test_small_multiples_stand_in_for_the_player(open_player, script):
    tab = open_player(script=script)
    if script:
        tab.call("Emulation.setEmulatedMedia", media="print")
    state = tab.evaluate(PLAYER)
    assert (state["live"], state["stills"]) == ("none", "block")
    tab.screenshot(SCREENSHOTS / f"player-{'print' if script else 'no-script'}.png")
