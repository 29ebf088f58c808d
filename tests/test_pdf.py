"""The book on paper: pages in order, bookmarks, links inside the file, numbers, and one sentence where it cannot be made."""

import importlib.util
import os
import sys

import pytest
from pypdf import PdfReader

from nas_core.pages import chromium
from tests.conftest import ROOT

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
def printed(html, tmp_path_factory) -> PdfReader:
    """Three small pages of the book as a book of their own."""
    if chromium.find() is None:
        reason = "Chromium is not installed (on Debian: apt-get install chromium)."
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("pdf")
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    (folder / "_config.yml").write_text(CONFIG, encoding="utf-8")
    output = folder / "book.pdf"
    assert book_pdf.main(["--html", str(html), "--out", str(output), "--root", str(folder)]) == 0
    return PdfReader(output)


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
