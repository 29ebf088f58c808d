"""Every link of the built book: inside it, to a file and a place that exist; outside, to a well-formed https address."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")


class Links(HTMLParser):
    """Of one page: every address that an element has, and every place that a fragment may name."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.places = {"", "top"}  # "#" and "#top" are a page's beginning
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("href", "src", "data", "xlink:href") and value]
        self.places |= {value for key, value in attrs if key in ("id", "name") and value}


def outside(address: str) -> str | None:
    """What is wrong with the address of another site; None if nothing is."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme == "mailto":
        return None if re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", parts.path) else "is no mail address"
    if parts.scheme != "https":
        return "is not https"
    if not HOST.fullmatch(host) or re.search(r"\s", address) or parts.username:
        return "is not well formed"
    return None


def faults(folder: Path) -> list[str]:
    """Every link of every page below a folder that leads nowhere."""
    pages = sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)
    links = {path.resolve(): Links(path.read_text(encoding="utf-8")) for path in pages}
    known = {path: own.places for path, own in links.items()}
    return [
        f"{page.name}: {address} {wrong}"
        for page, own in links.items()
        for address in own.addresses
        if not address.startswith("data:") and (wrong := fault(address, page, folder.resolve(), known))
    ]


def fault(address: str, page: Path, folder: Path, known: dict[Path, set[str]]) -> str | None:
    """What is wrong with an address on a page; None if nothing is."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme or parts.netloc:
        return outside(address)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return "does not exist"
    if not target.is_relative_to(folder):
        return "leaves the book"
    if parts.fragment and target in known and unquote(parts.fragment) not in known[target]:
        return "has no such place"
    return None


def test_every_link_leads_somewhere(html):
    assert faults(html) == []


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("other.html", None),
        ("other.html#here", None),
        ("#own", None),
        ("#", None),
        ("picture%20one.svg", None),
        ("https://example.org/a?b=c#d", None),
        ("mailto:one@example.org", None),
        ("data:image/png;base64,AA==", None),
        ("missing.html", "does not exist"),
        ("other.html#there", "has no such place"),
        ("#there", "has no such place"),
        ("../outside.html", "leaves the book"),
        ("picture.svg", "does not exist"),
        ("http://example.org/", "is not https"),
        ("//example.org/a.js", "is not https"),
        ("javascript:void(0)", "is not https"),
        ("https:///a", "is not well formed"),
        ("https://exa mple.org/", "is not well formed"),
        ("https://localhost/a", "is not well formed"),
        ("https://[1/", "is no address"),
        ("mailto:nobody", "is no mail address"),
    ],
)
@pytest.mark.parametrize("markup", ['<a href="{}">link</a>', '<img alt="" src="{}">'], ids=["href", "src"])
def test_a_fault_is_seen_and_nothing_else(tmp_path, markup, address, wrong):
    book = tmp_path / "book"
    book.mkdir()
    (tmp_path / "outside.html").write_text("")
    (book / "picture one.svg").write_text("<svg/>")
    (book / "other.html").write_text('<p id="here"></p>')
    (book / "page.html").write_text(f'<p id="own"></p>{markup.format(address)}')
    found = faults(book)
    assert (len(found) == 0) if wrong is None else (len(found) == 1 and wrong in found[0])
