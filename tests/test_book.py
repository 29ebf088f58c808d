"""The book: its sources by rule, and its pages as built."""

import ast
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from jupyter_client.kernelspec import KernelSpecManager

from tests.conftest import ROOT, build

BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
LONGEST_CELL = 15

# Jupyter Book only shows a box for a key that it does not know; every key in use is named here.
CONFIG_KEYS = {
    "": {"title", "author", "copyright", "logo", "only_build_toc_files", "exclude_patterns", "execute", "parse", "html",
         "sphinx", "repository", "launch_buttons"},
    "execute": {"execute_notebooks", "raise_on_error", "allow_errors", "timeout", "stderr_output"},
    "parse": {"myst_enable_extensions"},
    "html": {"use_multitoc_numbering", "home_page_in_navbar", "favicon"},
    "sphinx": {"local_extensions", "config"},
    "sphinx.config": {"extensions", "html_static_path", "html_css_files", "html_js_files", "html_context", "language",
                      "html_show_search_summary",
                      "bibtex_bibfiles", "bibtex_default_style", "bibtex_reference_style", "mathjax_path", "mathjax3_config",
                      "nb_render_markdown_format", "nb_merge_streams", "myst_dmath_double_inline", "autodoc_member_order",
                      "autodoc_typehints_format", "autodoc_inherit_docstrings", "autodoc_preserve_defaults",
                      "python_maximum_signature_line_length", "toc_object_entries_show_parents", "nitpick_ignore_regex"},
}  # fmt: skip


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def toc_files() -> list[str]:
    """Names of the pages in reading order, as the table of contents has them."""
    toc = read_yaml(ROOT / "_toc.yml")
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def source(name: str) -> Path:
    """The file of a page."""
    return next((path for ending in (".md", ".ipynb") if (path := BOOK / f"{name}{ending}").exists()), BOOK / name)


def text_of(path: Path) -> str:
    """All that stands in a page's cells, or in a Markdown page."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


# Sources


def test_both_tables_of_contents_are_equal():
    assert (ROOT / "_toc.yml").read_bytes() == (BOOK / "_toc.yml").read_bytes()


def test_configuration_is_found_upwards_and_lies_there_once():
    assert [path.parent for path in ROOT.glob("_config.yml")] == [ROOT]
    assert not (BOOK / "_config.yml").exists()


def test_table_of_contents_and_pages_agree():
    missing = [name for name in toc_files() if not source(name).is_file()]
    unlisted = {path.stem for path in (*NOTEBOOKS, *BOOK.glob("*.md"))} - set(toc_files())
    assert (missing, unlisted) == ([], set())


def test_every_part_is_numbered():
    assert all(part["numbered"] is True for part in read_yaml(ROOT / "_toc.yml")["parts"])


@pytest.mark.parametrize("section", CONFIG_KEYS)
def test_configuration_has_no_unknown_key(section):
    config = read_yaml(ROOT / "_config.yml")
    for key in filter(None, section.split(".")):
        config = config[key]
    assert set(config) <= CONFIG_KEYS[section]


def test_notebooks_always_run():
    config = read_yaml(ROOT / "_config.yml")
    execute = config["execute"]
    assert (execute["execute_notebooks"], execute["raise_on_error"], execute["timeout"]) == ("cache", True, 600)
    # The cache is only where the runs of this very build are put: book_notebooks empties it first.
    assert "book_notebooks" in config["sphinx"]["config"]["extensions"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert [cell.id for cell in code if len(cell.source.splitlines()) > LONGEST_CELL] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_one_cell_of_plain_parameters(path):
    cells = nbformat.read(path, as_version=4).cells
    (cell,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign), ast.unparse(statement)
        ast.literal_eval(statement.value)  # a plain value, or this raises


def references() -> list[str]:
    return re.findall(r"^@\w+\{([^,\s]+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)


def test_bibliography_has_each_key_once():
    keys = references()
    assert len(keys) == len(set(keys)) and "xie2021wiring" in keys


@pytest.mark.parametrize("name", toc_files())
def test_citations_are_in_the_bibliography(name):
    used = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text_of(source(name)))
    cited = {key.strip() for group in used for key in group.split(",")}
    assert cited <= set(references())


def test_kernel_is_the_environments_own():
    folder = Path(KernelSpecManager().get_kernel_spec("python3").resource_dir)
    assert folder.is_relative_to(sys.prefix)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("block", [0, 1], ids=["light", "dark"])
def test_verdict_colours_are_legible(block):
    css = (BOOK / "_assets" / "book.css").read_text(encoding="utf-8")
    blocks = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) for text in re.findall(r"\{([^}]*)\}", css)]
    colours = [block for block in blocks if block][block]
    verdicts = [name for name in colours if f"{name}-card" in colours]
    assert len(verdicts) == 4
    for name in verdicts:
        card = colours[f"{name}-card"]
        assert contrast(colours[name], card) >= 4.5 and contrast(colours["verdict-text"], card) >= 4.5, name


# Built pages


def pages(html: Path) -> dict[Path, BeautifulSoup]:
    found = sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in found}


@pytest.fixture(scope="module")
def soups(html) -> dict[Path, BeautifulSoup]:
    return pages(html)


LOADING = [("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("video", "src"),
           ("audio", "src"), ("object", "data"), ("embed", "src"), ("image", "href"), ("use", "href")]  # fmt: skip
CSS_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")


def loaded(page: Path, soup: BeautifulSoup) -> list[str]:
    """Every address that a browser loads for the page itself, style sheets excepted."""
    tags = [tag[key] for name, key in LOADING for tag in soup.find_all(name) if tag.get(key)]
    styles = [tag.get_text() for tag in soup.find_all("style")] + [tag["style"] for tag in soup.find_all(style=True)]
    return tags + [url for text in styles for url in CSS_URL.findall(text)]


def fault(address: str, base: Path) -> str | None:
    """What is wrong with an address seen from a file: not local, or not there. None if all is well."""
    parts = urlsplit(address)
    if parts.scheme == "data" or (not parts.scheme and not parts.netloc and not parts.path):
        return None
    if parts.scheme or parts.netloc:
        return f"{base.name} loads {address}"
    return None if (base.parent / unquote(parts.path)).is_file() else f"{base.name} lacks {address}"


def test_every_page_of_the_contents_is_built(html):
    assert [name for name in toc_files() if not (html / f"{name}.html").is_file()] == []


def test_pages_load_nothing_external_and_nothing_missing(soups):
    faults = [fault(address, page) for page, soup in soups.items() for address in loaded(page, soup)]
    assert list(filter(None, faults)) == []


def test_style_sheets_load_nothing_external_and_nothing_missing(html):
    faults = []
    for sheet in html.rglob("*.css"):
        faults += [fault(url, sheet) for url in CSS_URL.findall(sheet.read_text(encoding="utf-8"))]
    assert list(filter(None, faults)) == []


def test_links_inside_the_book_lead_somewhere(soups):
    anchors = {page.resolve(): {tag["id"] for tag in soup.find_all(id=True)} for page, soup in soups.items()}
    dead = []
    for page, soup in soups.items():
        for link in soup.find_all("a", href=True):
            parts = urlsplit(link["href"])
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
            if parts.scheme or parts.netloc or link["href"] == "#":
                continue
            if not target.exists() or (parts.fragment and parts.fragment not in anchors.get(target, {parts.fragment})):
                dead.append(f"{page.name}: {link['href']}")
    assert dead == []


@pytest.mark.parametrize("name", toc_files())
def test_page_has_one_title_a_language_and_described_pictures(soups, html, name):
    soup = soups[html / f"{name}.html"]
    assert len(soup.article.find_all("h1")) == 1  # the theme keeps a second one for paper
    assert soup.html["lang"] == "en"
    # Sphinx puts the file's name where nobody wrote a description.
    assert [image["src"] for image in soup.find_all("img") if image.get("alt", "").strip() in ("", image["src"])] == []


@pytest.mark.parametrize("name", toc_files())
def test_page_shows_no_error_and_no_folder_of_this_machine(soups, html, name):
    text = soups[html / f"{name}.html"].get_text()
    assert "Traceback" not in text
    assert str(html) not in text and str(ROOT) not in text


def test_punctuation_stays_with_its_formula(soups):
    alone, kept = [], 0
    for page, soup in soups.items():
        for formula in soup.select("span.math"):
            behind = formula.next_sibling if isinstance(formula.next_sibling, str) else ""
            if behind[:1] in set(",.;:?!)"):
                kept += 1
                alone += [page.name] if "nobreak" not in formula.parent.get("class", []) else []
    assert alone == [] and kept > 100


def book_of_one_page(folder: Path, code: str) -> Path:
    """A book in `folder` whose only page runs `code`, with everything else as this book has it; its sources' folder."""
    book = folder / "book"
    shutil.copytree(BOOK / "_extensions", book / "_extensions", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(BOOK / "_assets", book / "_assets", ignore=shutil.ignore_patterns("mathjax"))
    shutil.copy(BOOK / "references.bib", book)
    shutil.copy(ROOT / "_config.yml", folder)
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\n", encoding="utf-8")
    head = text_of(BOOK / "index.md").split("---")[1]
    page = f"---{head}---\n\n# Title\n\n```{{code-cell}} ipython3\n{code}\n```\n"
    (book / "index.md").write_text(page, encoding="utf-8")
    return book


def test_second_build_runs_the_notebooks_again(tmp_path):
    """Nothing in the page changes, only what its code reads: the number on the page must follow."""
    book = book_of_one_page(tmp_path, "print(open('number.txt').read())")
    for number in ("number one", "number two"):
        (book / "number.txt").write_text(number, encoding="utf-8")
        result = build(tmp_path)
        assert result.returncode == 0, result.stdout[-3000:]
        assert number in (tmp_path / "_build" / "html" / "index.html").read_text(encoding="utf-8")
