"""Every page through axe-core: nothing that it calls serious or critical, in light, in dark and on a phone."""

import json
from pathlib import Path

import pytest

from nas_core.pages import chromium
from tests.conftest import ROOT
from tests.test_book import toc_files
from tests.test_browser import VIEWS, browser, player_page  # noqa: F401  fixtures of the same Chromium

AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
DESKTOP, DARK, PHONE = (view for view in VIEWS if view.name != "phone-dark")
# A colour scheme changes colours and a width what scrolls; all the rest is the same page and is looked at once.
OF_THE_VIEW = {
    "desktop-dark": ["color-contrast"],
    "phone-light": [
        "color-contrast",
        "scrollable-region-focusable",
        "label-content-name-mismatch",
        "aria-hidden-focus",
    ],
}
# Formulas are pictures with a name, and code repeats a handful of colours: of each, what is looked at once is enough.
# Colours that fade from one scheme to the other are none of a reader's.
THIN = """(() => {
    const still = document.createElement("style");
    still.textContent = "*, *::before, *::after { transition: none !important; animation: none !important }";
    document.head.append(still);
    for (const own of document.querySelectorAll("mjx-container")) {
        const {width, height} = own.getBoundingClientRect();
        own.replaceChildren();
        own.style.cssText = `display: inline-block; width: ${width}px; height: ${height}px`;
    }
    const seen = new Set();
    for (const own of document.querySelectorAll("pre span")) {
        if (seen.has(own.className)) own.replaceWith(...own.childNodes);
        seen.add(own.className);
    }
})()"""
CHECK = """(async (scheme, rules) => {
    const root = document.documentElement.dataset;
    for (let i = 0; "theme" in root && root.theme !== scheme && i < 100; i++) await new Promise(r => setTimeout(r, 20));
    await new Promise(r => setTimeout(r, 100));
    const only = rules ? {runOnly: {type: "rule", values: rules}} : {};
    const {violations} = await axe.run(document, {...only, resultTypes: ["violations"], preload: false});
    return violations.filter(({impact}) => ["serious", "critical"].includes(impact)).flatMap(({id, nodes}) =>
        nodes.map(({target, failureSummary}) => [id, target.join(" "), failureSummary]));
})"""


def violations(browser: chromium.Chromium, page: Path, views=(DESKTOP, DARK, PHONE)) -> list[str]:
    """What axe-core calls serious or critical on a page in any of the views, one line each. The page is opened once."""
    tab = browser.open(page, views[0])
    try:
        tab.evaluate(f"{AXE.read_text(encoding='utf-8')}; {THIN}")
        return [line for view in views for line in seen(tab, view)]
    finally:
        tab.close()


def seen(tab: chromium.Page, view: chromium.View) -> list[str]:
    """The violations of an open page in one view."""
    tab.look(view)
    found = tab.evaluate(f"{CHECK}({json.dumps(view.scheme)}, {json.dumps(OF_THE_VIEW.get(view.name))})")
    return [f"{rule}: {view.name}: {where}: {why}" for rule, where, why in found]


@pytest.mark.parametrize("name", [*toc_files(), "search", "genindex", "prf-prf", "py-modindex"])
def test_page_has_no_serious_barrier(html, browser, name):
    assert violations(browser, html / f"{name}.html") == []


def test_player_has_no_serious_barrier(browser, player_page):
    assert violations(browser, player_page) == []


@pytest.mark.parametrize(
    ("view", "rule", "body"),
    [
        (DESKTOP, "color-contrast", '<p style="color: #999; background: #fff">pale</p>'),
        (DARK, "color-contrast", '<p style="color: #999; background: #fff">pale</p>'),
        (
            PHONE,
            "scrollable-region-focusable",
            '<div style="overflow: auto; height: 2em"><p style="height: 9em">tall</p></div>',
        ),
        (PHONE, "label-content-name-mismatch", '<button aria-label="Something else">Words</button>'),
        (DESKTOP, "aria-required-children", '<div role="list"><button>no item</button></div>'),
    ],
    ids=["pale", "pale-in-dark", "tall", "named-otherwise", "no-item"],
)
def test_a_barrier_is_seen(browser, tmp_path, view, rule, body):
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1>{body}</main></html>')
    assert rule in {line.split(":")[0] for line in violations(browser, page, [view])}
