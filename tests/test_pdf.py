"""The book on paper: pages in order, bookmarks, links inside the file, numbers, and one sentence where it cannot be made."""

import importlib.util
import re
import sys
import unicodedata
from collections import Counter

import pytest
from pypdf import PdfReader

from nas_core.pages import chromium
from tests.conftest import ROOT
from tests.test_book import toc_files
from tests.test_browser import browser  # noqa: F401  the fixture of the same Chromium

TOC = """format: jb-book
root: results
parts:
  - caption: First part
    numbered: true
    chapters:
      - file: errata
  - caption: Second part
    numbered: true
    chapters:
      - file: cluster
"""
CONFIG = "title: A small book\nauthor: Somebody\ncopyright: '2026'\n"


def load():
    spec = importlib.util.spec_from_file_location("book_pdf", ROOT / "book" / "_extensions" / "book_pdf.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


book_pdf = load()


@pytest.fixture(scope="module")
def printed(html, browser, tmp_path_factory) -> PdfReader:
    """Three small pages of the book as a book of their own."""
    folder = tmp_path_factory.mktemp("pdf")
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    (folder / "_config.yml").write_text(CONFIG, encoding="utf-8")
    output = folder / "book.pdf"
    assert book_pdf.main(["--html", str(html), "--out", str(output), "--root", str(folder)]) == 0
    return PdfReader(output)


TABLES = ("api", "results")
"""Pages to look things up on, small on purpose."""
BODY_POINTS = 9.3
"""The least size of running text: 10 points, less what spares a last page of a few lines."""


def squeezed(text: str) -> str:
    """Text without what a PDF may change: spaces, and letters joined to one sign."""
    return re.sub(r"\W", "", unicodedata.normalize("NFKD", text)).casefold()


def read(reader: PdfReader) -> tuple[str, float]:
    """The text, and the size of running text in points: the largest in which a twentieth of all letters are set (tables are
    smaller)."""
    letters: Counter = Counter()

    def count(text, whole, own, font, size):
        letters[round(abs(size * own[3] * whole[3]), 1)] += len(text.strip())

    text = " ".join(page.extract_text(visitor_text=count) for page in reader.pages)
    return text, max(size for size, count in letters.items() if 20 * count >= letters.total())


def laid_out(browser, page):
    """The document, the text of its margin notes, and how wide it is in CSS pixels where the paper has `VIEW.width`."""
    tab = browser.open(page, book_pdf.VIEW)
    try:
        book_pdf.prepare(tab)
        width = tab.evaluate("document.documentElement.scrollWidth")
        notes = tab.evaluate("[...document.querySelectorAll('article aside.margin')].map((own) => own.innerText)")
        return book_pdf.fitted(tab), notes, width
    finally:
        tab.close()


@pytest.mark.parametrize("name", toc_files())
def test_page_is_printed_at_its_size_with_every_margin_note(html, browser, name):
    reader, notes, width = laid_out(browser, html / f"{name}.html")
    text, size = read(reader)
    printed = squeezed(text)
    assert width <= book_pdf.VIEW.width, "Chromium makes the whole page smaller where one part is too wide"
    assert [note for note in notes if squeezed(note) not in printed] == []
    assert name in TABLES or size >= BODY_POINTS


def lines_page(folder, lines: int, style: str = ""):
    page = folder / "lines.html"
    css = "@page { size: A4; margin: 20mm } body { margin: 0; font: 16px/20px sans-serif } p { margin: 0 }"
    page.write_text(f"<meta charset=utf-8><style>{css}{style}</style>" + "<p>A line of text.</p>" * lines)
    return page


def test_a_last_page_of_few_lines_is_spared(browser, tmp_path):
    whole, *_ = laid_out(browser, lines_page(tmp_path, 45))
    fitting = next(lines for lines in range(40, 60) if len(laid_out(browser, lines_page(tmp_path, lines))[0].pages) > 1)
    room = len(whole.pages[0].extract_text().splitlines())
    assert room == 45 and fitting > 48, "two lines more than a page holds are set a little smaller"
    two, *_ = laid_out(browser, lines_page(tmp_path, fitting + 8))
    assert len(two.pages) == 2 and read(two)[1] == pytest.approx(12, abs=0.1), "not smaller where it spares nothing"


def test_a_blank_last_page_is_left_out(browser, tmp_path):
    page = lines_page(
        tmp_path, 3, "p:last-child { break-after: page } body::after { content: ''; display: block; height: 9px }"
    )
    tab = browser.open(page, book_pdf.VIEW)
    try:
        assert len(book_pdf.on_paper(tab).pages) == 2, "without care"
    finally:
        tab.close()
    reader, *_ = laid_out(browser, page)
    assert len(reader.pages) == 1 and reader.pages[0].extract_text().count("A line") == 3


def bookmarks(reader, level=0, outline=None):
    """``(level, title, page)`` of every bookmark."""
    for own in reader.outline if outline is None else outline:
        if isinstance(own, list):
            yield from bookmarks(reader, level + 1, own)
        else:
            yield level, own.title, reader.get_destination_page_number(own)


def test_bookmarks_are_parts_chapters_and_sections_in_reading_order(printed, html):
    found = list(bookmarks(printed))
    assert [title for level, title, _ in found if level == 0][1:] == ["First part", "Second part"]
    assert [page for *_, page in found] == sorted(page for *_, page in found)
    chapters = [own for own in found if own[1].split(". ")[-1] in ("Errata and caveats", "Sweeps beyond one machine")]
    assert len(chapters) == 2 and {level for level, *_ in chapters} == {1} and max(level for level, *_ in found) == 2
    for _, title, page in chapters:
        assert title.split(". ")[-1] in printed.pages[page].extract_text().replace("\n", " ")


def test_title_contents_and_numbers(printed):
    assert "A small book" in printed.pages[0].extract_text() and "Somebody" in printed.pages[0].extract_text()
    assert "Contents" in printed.pages[1].extract_text()
    assert printed.metadata.title == "A small book" and printed.metadata.author == "Somebody"
    for place, page in enumerate(printed.pages[1:], 2):
        assert page.extract_text().split()[-1] == str(place)
        assert len(page.extract_text().split()) > 3, f"page {place} is blank"


def test_links_lead_inside_the_file_or_to_the_web(printed):
    inner = 0
    for page in printed.pages:
        for link in page.get("/Annots", []):
            link = link.get_object()
            if "/Dest" in link:
                assert link["/Dest"][0].get_object()["/Type"] == "/Page"
                inner += 1
            else:
                assert link["/A"]["/URI"].startswith(("http:", "https:", "mailto:"))
    assert inner >= 3, "the contents alone have three"


def test_paper_has_no_navigation_no_buttons_and_no_data_links(printed):
    text = " ".join(page.extract_text() for page in printed.pages)
    for words in (
        "Skip to main content",
        "Show code cell source",
        "Data: CSV",
        "Back to top",
        "Print to PDF",
        str(ROOT),
    ):
        assert words not in text, words


def test_without_a_built_book_one_sentence_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chromium, "find", lambda: "/bin/false")
    assert book_pdf.main(["--html", str(tmp_path), "--out", str(tmp_path / "book.pdf")]) == 1
    assert capsys.readouterr().err.strip().endswith("run make book, then make pdf.")


def test_without_chromium_one_sentence_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chromium, "find", lambda: None)
    assert book_pdf.main(["--html", str(tmp_path), "--out", str(tmp_path / "book.pdf")]) == 1
    assert capsys.readouterr().err.startswith("There is no Chromium here") and not (tmp_path / "book.pdf").exists()


def test_every_page_of_the_contents_is_printed_in_order():
    parts = book_pdf.parts_of(ROOT / "_toc.yml")
    assert parts[0].pages == ("index",) and parts[1].pages[0] == "01_introduction" and len(parts) >= 4


def test_places_that_pages_link_to(tmp_path):
    (tmp_path / "one.html").write_text(
        '<a href="#here"></a><a href="two.html#d%C3%A9j&amp;a"></a><a href="https://x.org/two.html#no">'
    )
    (tmp_path / "two.html").write_text('<a href="one.html"></a>')
    assert book_pdf.linked_places(tmp_path, ["one", "two"]) == {"one": {"here"}, "two": {"déj&a"}}
