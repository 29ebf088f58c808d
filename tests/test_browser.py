"""Every page, opened from disk in a real browser: wide and narrow, light and dark.

`make screenshots` leaves pictures of all of them in _build/screenshots/ for a person to look at; `make test` only looks.
"""

import os
import time
from pathlib import Path

import matplotlib.image
import pytest
from bs4 import BeautifulSoup

from nas_core import space
from nas_core.pages import chromium, player
from tests import synthetic
from tests.conftest import ROOT
from tests.test_book import toc_files
from tests.test_player import PAGE

ASSETS = ROOT / "book" / "_assets"
SCREENSHOTS = ROOT / "_build" / "screenshots"


def keep(tab, name):
    """A picture of the page, where the environment asks for pictures."""
    if os.environ.get("SCREENSHOTS"):
        tab.screenshot(SCREENSHOTS / f"{name}.png")


VIEWS = [
    chromium.View(f"{device}-{scheme}", width, height, phone, scheme)
    for device, width, height, phone in (("desktop", 1280, 900, False), ("phone", 390, 844, True))
    for scheme in ("light", "dark")
]

STATE = """(() => ({
    width: document.documentElement.scrollWidth,
    mathematics: document.querySelectorAll(".math").length,
    rendered: document.querySelectorAll(".math mjx-container").length,
    faulty: [...document.querySelectorAll("mjx-merror, [data-mml-node='merror']")].map(e => e.textContent),
    invisible: [...document.querySelectorAll("main img")]
        .filter(e => !(e.complete && e.naturalWidth > 0 && e.getBoundingClientRect().width > 0)).map(e => e.src),
    altered: [...document.querySelectorAll("main img")]
        .filter(e => getComputedStyle(e).filter !== "none" || getComputedStyle(e).paddingTop !== "0px").map(e => e.src),
}))()"""

# Text that is TeX to a reader: not code, and not what MathJax keeps for screen readers.
RAW = r"""(() => {
    const walk = document.createTreeWalker(document.querySelector("article, body"), NodeFilter.SHOW_TEXT), found = [];
    for (let own; (own = walk.nextNode());) {
        if (own.parentElement.closest("script, style, pre, code, dt.sig, mjx-container")) continue;
        if (/\$\$|\\[a-zA-Z]{2,}/.test(own.data)) found.push(own.data.trim().slice(0, 80));
    }
    return found;
})()"""

# What is wider than its frame. A table may be, if a reader sees that it goes on; a formula must fit beside its number.
CUT = """(async () => {
    await new Promise(r => setTimeout(r, 100));
    const found = [];
    for (const own of document.querySelectorAll("article table")) {
        let frame = own.parentElement;
        while (frame !== document.body && getComputedStyle(frame).overflowX === "visible") frame = frame.parentElement;
        const scrolls = getComputedStyle(frame).overflowX === "auto" && getComputedStyle(frame).maskImage !== "none";
        if (own.scrollWidth > frame.clientWidth + 1 && !scrolls) found.push(own.textContent.trim().slice(0, 60));
    }
    const apart = (one, two) => one.right <= two.left || two.right <= one.left || one.bottom <= two.top || two.bottom <= one.top;
    for (const own of document.querySelectorAll("div.math")) {
        const frame = own.getBoundingClientRect(), number = own.querySelector(".eqno")?.getBoundingClientRect();
        for (const picture of own.querySelectorAll("mjx-container[display='true'] > svg")) {
            const box = picture.getBoundingClientRect();
            if (box.left < frame.left - 1 || box.right > frame.right + 1 || (number && !apart(box, number)))
                found.push(own.textContent.trim().slice(0, 60));
        }
    }
    return found;
})()"""
WIDTHS = (1150, 1024, 800, 390)
"""From a laptop to a phone: margin notes stand in the text here."""


@pytest.fixture(scope="module")
def browser():
    path = chromium.find()
    if path is None:
        reason = "Chromium is not installed (on Debian: apt-get install chromium)."
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    with chromium.Chromium(path) as process:
        yield process


@pytest.mark.parametrize("device", ["desktop", "phone"])
@pytest.mark.parametrize("name", toc_files())
def test_page_as_a_reader_sees_it(html: Path, browser, name, device):
    """Opened once and turned to the other colour scheme: from light to dark on a desktop, from dark to light on a phone."""
    views = [view for view in VIEWS if view.name.startswith(device)][:: -1 if device == "phone" else 1]
    tab = browser.open(html / f"{name}.html", views[0])
    try:
        for view in views:
            tab.look(view)
            wait(lambda scheme=view.scheme: tab.evaluate("document.documentElement.dataset.theme") == scheme)
            tab.evaluate(chromium.READY)  # a scheme may have pictures of its own
            state = tab.evaluate(STATE)
            assert state["width"] <= view.width, "the page scrolls sideways"
            assert state["rendered"] == state["mathematics"], "some mathematics stayed as TeX"
            assert (state["faulty"], state["invisible"], state["altered"]) == ([], [], [])
            keep(tab, f"{name}-{view.name}")
        assert tab.evaluate(RAW) == []
        if device == "desktop":
            assert tab.evaluate(CUT) == []
            assert_every_width_has_room(tab)
    finally:
        tab.close()
    assert tab.visit.errors == []
    assert [url for url in tab.visit.requests if not url.startswith(("file:", "data:"))] == []


def assert_every_width_has_room(tab):
    """From a laptop to a phone the page and its margin notes fit."""
    for width in WIDTHS:
        tab.look(chromium.View("some", width, 900, width < 500, "light"))
        time.sleep(chromium.SETTLING)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, f"the page scrolls sideways at {width}"
        notes = tab.evaluate(
            "[...document.querySelectorAll('article aside.margin')].map((own) => own.getBoundingClientRect())"
            ".map(({left, right}) => [left, right])"
        )
        assert [own for own in notes if own[0] < 0 or own[1] > width] == [], f"a note is cut at {width}"


def test_search_from_disk_finds_pages_and_reports_no_error(html: Path, browser):
    tab = browser.open(html / "search.html", VIEWS[0], query="?q=entropy")
    try:
        hits = "document.querySelectorAll('#search-results ul.search li a').length"
        wait(lambda: tab.evaluate(hits) >= 3)
        time.sleep(0.5)
        assert tab.evaluate(hits) >= 3 and tab.visit.errors == []
    finally:
        tab.close()


@pytest.fixture
def open_body(browser, tmp_path):
    """Open a page of the book's style sheets and scripts with this in its article."""
    tabs = []

    def opened(body: str) -> chromium.Page:
        page = tmp_path / "page.html"
        looks = "".join(
            f"<style>{(ASSETS / name).read_text('utf-8')}</style>" for name in ("book.css", "accessible.css")
        )
        script = f"<script>{(ASSETS / 'accessible.js').read_text('utf-8')}</script>"
        page.write_text(f"<!doctype html><meta charset=utf-8>{looks}{script}<article class=bd-content>{body}</article>")
        tabs.append(browser.open(page, VIEWS[0]))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()


UNDER_ITS_NUMBER = (
    "<div class='math' style='width:20em'><span class='eqno' style='float:right;margin-left:-3em'>(1)</span>"
    "<mjx-container display='true'><svg width='315' height='9'></svg></mjx-container></div>"
)


@pytest.mark.parametrize(
    ("body", "raw", "cut"),
    [
        ("<p>$$</p>", 1, 0),
        (r"<p>as \tfrac12 says</p>", 1, 0),
        (r"<p>as <code>$$ \tfrac12</code> says</p>", 0, 0),
        ("<div style='width:9em;overflow:hidden'><table style='width:20em'><tr><td>wide</table></div>", 0, 1),
        ("<div class='pst-scrollable-table-container' style='width:9em'><table style='width:20em'><tr><td>w</table></div>", 0, 0),
        ("<div class='math' style='width:9em'><mjx-container display='true'><svg width='400'></svg></mjx-container></div>", 0, 1),
        ("<div class='math' style='width:9em'><mjx-container display='true'><svg width='40'></svg></mjx-container></div>", 0, 0),
        (UNDER_ITS_NUMBER, 0, 1),
    ],
    ids=["dollars", "command", "code", "cut table", "scrolling table", "wide formula", "formula", "under its number"],
)  # fmt: skip
def test_raw_tex_and_cut_content_are_seen(open_body, body, raw, cut):
    tab = open_body(body)
    assert (len(tab.evaluate(RAW)), len(tab.evaluate(CUT))) == (raw, cut)


def test_what_goes_on_fades_on_that_side_alone(open_body):
    tab = open_body(
        "<div class='pst-scrollable-table-container' style='width:9em'><table style='width:30em'><tr><td>w</table></div>"
    )
    sides = "(({dataset}) => ['moreLeft' in dataset, 'moreRight' in dataset])(document.querySelector('article div'))"
    wait(lambda: tab.evaluate(sides) == [False, True])
    for place, expected in ((50, [True, True]), (9999, [True, False])):
        tab.evaluate(f"document.querySelector('article div').scrollLeft = {place}")
        wait(lambda expected=expected: tab.evaluate(sides) == expected)


def test_a_picture_has_the_whole_page_and_leaves_the_window_as_it_was(open_body, tmp_path):
    tab = open_body("<p style='height:3000px;background:linear-gradient(red, blue)'>long</p>")
    tab.screenshot(tmp_path / "page.png")
    image = matplotlib.image.imread(tmp_path / "page.png")
    assert image.shape[0] > 3000 and image.shape[1] == VIEWS[0].width and image[-100, 600, 2] > 0.9
    assert tab.evaluate("innerHeight") == VIEWS[0].height


def test_a_page_higher_than_a_picture_can_be_has_several(open_body, tmp_path, monkeypatch):
    monkeypatch.setattr(chromium, "HIGHEST", 2000)
    tab = open_body(
        "<div style='height:3000px;background:red'>long</div><div style='height:2500px;background:blue'>end</div>"
    )
    written = tab.screenshot(tmp_path / "page.png")
    assert [own.name for own in written] == ["page.png", "page-2.png", "page-3.png"]
    first, second, third = map(matplotlib.image.imread, written)
    # The first two are as high as a picture can be, and the third shows the end of the page.
    assert first.shape[0] == second.shape[0] == 2000 and third.shape[0] >= 1500
    assert (first[1000, 600, 0], second[500, 600, 0], second[1500, 600, 2], third[-100, 600, 2]) == (1, 1, 1, 1)
    assert tab.evaluate("innerHeight") == VIEWS[0].height


# The player of wiring evolution, on a page of its own

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
    keep(tab, f"player-{view.name}")


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
    keep(tab, f"player-{'print' if script else 'no-script'}")


SMALL_PHONE = chromium.View("small phone", 360, 640, True, "light")


def test_introduction_moves_within_five_seconds_of_being_opened_on_a_small_phone(html: Path, browser):
    tab = browser.open(html / "01_introduction.html", SMALL_PHONE)
    try:
        wait(lambda: tab.evaluate("parseInt(document.querySelector('.player-clock').textContent.split(' ')[1])") >= 2)
        top = tab.evaluate("document.querySelector('.player-stage').getBoundingClientRect().top")
    finally:
        tab.close()
    assert top < SMALL_PHONE.height, "the reader must scroll to see it move"


def test_players_of_the_introduction_are_small(html: Path):
    page = BeautifulSoup((html / "01_introduction.html").read_text(encoding="utf-8"), "html.parser")
    players = page.select(".wiring-player")
    assert len(players) == 2 and sum(len(str(own).encode()) for own in players) < PAGE
