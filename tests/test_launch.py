"""Once the address of a public repository is set, every notebook has buttons that open it there; until then none has."""

from urllib.parse import unquote

import yaml
from bs4 import BeautifulSoup

from tests.conftest import build
from tests.test_book import ROOT, book_of_one_page

REPOSITORY = "https://github.com/someone/wiring"


def launch_links(folder, url: str) -> list[str]:
    """Addresses outside the book that a notebook's page links to, built with this address of the repository."""
    book_of_one_page(folder, "print(1)")
    config = yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))
    config["repository"]["url"] = url
    (folder / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = build(folder)
    assert result.returncode == 0, result.stdout[-3000:]
    page = BeautifulSoup((folder / "_build" / "html" / "index.html").read_text(encoding="utf-8"), "html.parser")
    header = page.find(class_="article-header-buttons")
    return [unquote(link["href"]) for link in header.find_all("a", href=True) if link["href"].startswith("http")]


def test_a_public_repository_gives_every_notebook_its_buttons(tmp_path):
    links = launch_links(tmp_path, REPOSITORY)
    for host in ("https://mybinder.org/v2/gh/", "https://colab.research.google.com/github/"):
        (link,) = (link for link in links if link.startswith(host))
        assert "someone/wiring" in link and "main" in link and "book/index" in link


def test_without_a_repository_there_is_nothing_to_launch(tmp_path):
    assert launch_links(tmp_path, "") == []


def test_binder_installs_the_library_with_its_requirements():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert any(line.strip() in ("-e .", "--editable .") for line in lines)
