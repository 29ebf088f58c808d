"""Every numbered thing of the paper has a row, and a row links to what is there and to nothing else."""

import importlib
import json
import re
import shutil

import pytest

from nas_core.pages import correspondence, tables
from nas_core.pages.correspondence import ITEMS, MISSING, CorrespondenceError
from nas_core.pages.notation import SYMBOLS

NAMES = [
    *(f"Eq {number}" for number in range(1, 26)),
    *("Theorem 1", "Theorem 2", "Corollary 1.1", "Corollary 1.2", "Definition 1"),
    *(f"Remark {number}" for number in range(1, 5)),
    *(f"Fig {number}" for number in range(1, 32)),
]


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each row of a Markdown table, by the first."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()[2:]]
    return {line[0].partition(" (")[0]: line for line in lines}


@pytest.fixture
def book(tmp_path):
    """A book of two pages: one an equation and a theorem, the other a figure in two parts."""
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n  - chapters:\n      - file: one\n      - file: two\n", encoding="utf-8"
    )
    (tmp_path / "index.md").write_text("# Title\n", encoding="utf-8")
    (tmp_path / "one.md").write_text(
        "# One\n\n```{math}\n:label: paper-eq-8\nC = L - H\n```\n\n````{prf:theorem} 2 of the paper\n:label: paper-thm-2\n"
        ":nonumber:\nText.\n```{math}\n:label: eq-inner\na\n```\n````\n\nSee {eq}`paper-eq-9`.\n\n:::{math}\n"
        ":label: paper-eq-25\n0\n:::\n",
        encoding="utf-8",
    )
    cells = [
        {
            "cell_type": "code",
            "id": "imports",
            "source": "from nas_core.pages import drawing, style as s",
            "metadata": {},
        },
        *(
            {
                "cell_type": "code",
                "id": part,
                "source": f"%time\ncell = {part!r}\ns.show(drawing.cell_drawing(len(cell)), alt=str(cell))",
                "metadata": {"mystnb": {"figure": {"name": f"paper-fig-9{part}", "caption": "Caption."}}},
            }
            for part in "ab"
        ),
    ]
    code = [cell | {"outputs": [], "execution_count": None} for cell in cells]
    (tmp_path / "two.ipynb").write_text(
        json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8"
    )
    return tmp_path


def test_every_numbered_thing_has_one_row():
    found = [item.name for item in ITEMS]
    assert len(found) == len(set(found))
    assert set(NAMES) <= set(found)
    assert set(rows(correspondence.table())) == set(found)


def test_labels_of_the_book_are_unique_and_each_belongs_to_the_paper():
    assert correspondence.strays() == []  # and labels() raises for a label that stands twice


def test_every_named_function_exists():
    for name in {check for item in ITEMS for check in item.checks}:
        module, _, function = f"nas_core.{name}".rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_every_maker_on_a_page_exists():
    made = {maker for label in correspondence.labels() for maker in label.makers}
    assert "pages.drawing.cell_drawing" in made
    for name in made:
        module, _, function = f"nas_core.{name}".rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_rows_link_to_what_is_there(book):
    found = rows(correspondence.table(book))
    assert found["Eq 8"][0::2] == ["Eq 8 (Section 5.2)", "{eq}`paper-eq-8` in {doc}`one`"]
    assert found["Theorem 2"][2] == found["Theorem 4"][2] == "{prf:ref}`Theorem 2 <paper-thm-2>` in {doc}`one`"
    assert found["Fig 9"][2:] == [
        "{numref}`paper-fig-9a`, {numref}`paper-fig-9b` in {doc}`two`",
        tables.code("pages.drawing.cell_drawing"),
    ]
    assert found["Eq 9"][2] == MISSING, "a reference is not a label"
    assert found["Eq 2"][2] == MISSING != found["Eq 25"][2], "2 is not 25"
    assert sum(row[2] != MISSING for row in found.values()) == 5
    assert "2 of 25 equations, 1 of 31 figures, 2 of 11 statements" in correspondence.summary_line(book)


def test_a_label_that_is_removed_shows_as_missing(book):
    page = book / "one.md"
    page.write_text(page.read_text(encoding="utf-8").replace(":label: paper-eq-8\n", ""), encoding="utf-8")
    assert rows(correspondence.table(book))["Eq 8"][2] == MISSING


def test_a_page_outside_the_contents_is_not_linked(book):
    toc = book / "_toc.yml"
    toc.write_text(toc.read_text(encoding="utf-8").replace("      - file: two\n", ""), encoding="utf-8")
    assert rows(correspondence.table(book))["Fig 9"][2] == MISSING


def test_the_real_book_without_its_labels_has_none_left(tmp_path):
    book = tmp_path / "book"
    shutil.copytree(correspondence.BOOK, book, ignore=shutil.ignore_patterns("_assets", "_extensions"))
    assert rows(correspondence.table(book))["Eq 1"][2].startswith("{eq}`paper-eq-1` in ")
    for page in correspondence.pages(book):
        page.write_text(page.read_text(encoding="utf-8").replace(":label: paper-eq-1\\n", ""), encoding="utf-8")
    assert rows(correspondence.table(book))["Eq 1"][2] == MISSING


def test_a_label_that_stands_twice_is_refused(book):
    (book / "index.md").write_text("# Title\n\n```{math}\n:label: paper-eq-8\na\n```\n", encoding="utf-8")
    with pytest.raises(CorrespondenceError, match="paper-eq-8 stands on index and on one"):
        correspondence.labels(book)


def test_a_misspelt_label_is_named(book):
    (book / "index.md").write_text("# Title\n\n```{math}\n:label: paper-eq-08\na\n```\n", encoding="utf-8")
    assert correspondence.strays(book) == ["paper-eq-08"]


def test_a_folder_that_is_no_book_is_refused(tmp_path):
    with pytest.raises(CorrespondenceError, match="no _toc.yml"):
        correspondence.labels(tmp_path)


def test_notation_has_each_symbol_once_and_says_where_it_is_defined(book):
    assert len({own.symbol for own in SYMBOLS}) == len(SYMBOLS)
    assert [own.symbol for own in SYMBOLS if not (own.label or own.where)] == []
    assert all(own.symbol.count("$") % 2 == 0 and own.meaning.count("$") % 2 == 0 for own in SYMBOLS)
    text = correspondence.notation(book)
    assert "{eq}`paper-eq-8`" in text and "{eq}`paper-eq-1`" not in text
    assert len(rows(text)) == len(SYMBOLS)


def test_links_of_the_notation_are_labels_of_the_book_or_of_the_paper():
    known = {item.label for item in ITEMS} | {label.name for label in correspondence.labels()}
    known |= {"eq-group-norm"}  # Appendix H
    assert {own.label for own in SYMBOLS if own.label} <= known


def test_a_table_cell_holds_no_bare_bar():
    for text in (correspondence.table(), correspondence.notation()):
        assert {len(re.split(r"(?<!\\)\|", line)) for line in text.splitlines()} == {6}
