"""The whole book as one PDF: every built page in the order of the table of contents, printed by Chromium and joined.

    python book/_extensions/book_pdf.py        # _build/html -> _build/wiring-evolution.pdf

Links between pages lead inside the file; parts, chapters and sections are its bookmarks.
"""

import argparse
import base64
import html
import io
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    Fit,
    FloatObject,
    NameObject,
    NullObject,
)

from nas_core.pages import chromium

ROOT = Path(__file__).resolve().parent.parent.parent
OUTPUT = "wiring-evolution.pdf"
VIEW = chromium.View("paper", 672, 950, False, "light")  # A4 within the margins of book.css, in CSS pixels
SMALLEST_LINK = 2.0
"""Points; :data:`PREPARE` adds links smaller than this, which nobody is to click."""
NUMBER_FONT, NUMBER_HEIGHT = 9, 28
FEWEST_LINES = 4
"""A last page of fewer lines is spared where a slightly smaller print has room for them."""
SCALES = (0.98, 0.96, 0.94)

# Chromium gives a place a name only where the page itself links to it: link to every place that another page, a bookmark or
# the contents name. What is still wider than the paper is made smaller.
PREPARE = """((wanted) => {
    document.querySelectorAll("article details:not(.hide)").forEach((own) => { own.open = true; });  // answers to exercises
    const names = [...document.querySelectorAll("article section[id]")].map((own) => own.id);
    const holder = document.createElement("div");
    for (const name of new Set([...wanted, ...names])) {
        if (!document.getElementById(name)) continue;
        const link = document.createElement("a");
        link.href = "#" + encodeURIComponent(name);
        link.style.cssText = "position:absolute;top:0;left:0;width:1px;height:1px;display:block";
        holder.append(link);
    }
    document.body.append(holder);
    for (const own of document.querySelectorAll("article table, article mjx-container[display='true']")) {
        const room = own.parentElement.clientWidth, width = Math.max(own.scrollWidth, own.offsetWidth,
            own.querySelector("svg")?.getBoundingClientRect().width ?? 0);
        if (room > 0 && width > room + 1) own.style.zoom = Math.max(0.4, room / width);
    }
    const text = (heading) => {
        const copy = heading.cloneNode(true);
        copy.querySelectorAll(".headerlink, mjx-assistive-mml").forEach((own) => own.remove());
        copy.querySelectorAll("mjx-container").forEach((own) => own.remove());
        return copy.textContent.replace(/\\s+/g, " ").trim();
    };
    const title = document.querySelector("article h1");
    return {
        title: title ? text(title) : document.title,
        sections: [...document.querySelectorAll("article section[id] > h2")].map((own) => [own.parentElement.id, text(own)]),
    };
})"""


class PdfError(Exception):
    """The book cannot be printed; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Part:
    """A part of the table of contents; the first page stands in one without a caption."""

    caption: str
    pages: tuple[str, ...]


@dataclass
class Printed:
    """A page on paper."""

    name: str
    title: str
    sections: list[tuple[str, str]]
    reader: PdfReader
    first: int = 0
    places: dict[str, tuple[int, float]] = field(default_factory=dict)


def parts_of(toc: Path) -> list[Part]:
    """The pages of ``_toc.yml`` in reading order."""
    contents = yaml.safe_load(toc.read_text(encoding="utf-8"))
    own = [Part(part["caption"], tuple(page["file"] for page in part["chapters"])) for part in contents["parts"]]
    return [Part("", (contents["root"],)), *own]


def linked_places(folder: Path, names: list[str]) -> dict[str, set[str]]:
    """For every page, the ids in it that any page links to."""
    found = {name: set() for name in names}
    for name in names:
        for address in re.findall(r'href="([^"]*#[^"]+)"', (folder / f"{name}.html").read_text(encoding="utf-8")):
            parts = urlsplit(html.unescape(address))
            target = Path(parts.path).stem or name
            if not parts.scheme and target in found:
                found[target].add(unquote(parts.fragment))
    return found


def print_page(browser: chromium.Chromium, page: Path, wanted: set[str] = frozenset()) -> Printed:
    """Print one file; ``wanted`` are the ids whose places in the PDF must be known."""
    tab = browser.open(page, VIEW)
    try:
        about = prepare(tab, wanted)
        reader = fitted(tab)
    finally:
        tab.close()
    return Printed(page.stem, about["title"], [tuple(own) for own in about["sections"]], reader)


def prepare(tab: chromium.Page, wanted: set[str] = frozenset()) -> dict:
    """Lay an open page out for paper; its title and sections."""
    light = {"name": "prefers-color-scheme", "value": "light"}
    tab.call("Emulation.setEmulatedMedia", media="print", features=[light])
    return tab.evaluate(f"{PREPARE}({sorted(wanted)!r})")


def fitted(tab: chromium.Page) -> PdfReader:
    """The page on paper, a little smaller where its last lines would have a sheet to themselves."""
    whole = on_paper(tab)
    last = lines_on(whole.pages[-1]) if len(whole.pages) > 1 else FEWEST_LINES
    if last == 0:  # the room below the last line has gone to a sheet of its own
        return on_paper(tab, pages=f"1-{len(whole.pages) - 1}")
    if last < FEWEST_LINES:
        for scale in SCALES:
            smaller = on_paper(tab, scale)
            if len(smaller.pages) < len(whole.pages):
                return smaller
    return whole


def on_paper(tab: chromium.Page, scale: float = 1.0, pages: str = "") -> PdfReader:
    look = {"printBackground": True, "preferCSSPageSize": True, "generateTaggedPDF": False}
    look |= {"scale": scale, "pageRanges": pages}
    return PdfReader(io.BytesIO(base64.b64decode(tab.call("Page.printToPDF", **look)["data"])))


def lines_on(page: PageObject) -> float:
    """Lines of text on a sheet; a picture counts as many."""
    if page.get("/Resources", {}).get("/XObject"):
        return float("inf")
    return len([line for line in page.extract_text().splitlines() if line.strip()])


def number(documents: list[Printed]) -> None:
    """Say where every document begins and where its named places are, counted over the whole file."""
    first = 0
    for own in documents:
        own.first = first
        own.places = {
            unquote(str(name).lstrip("/")): (
                first + own.reader.get_destination_page_number(place),
                float(place.top or 0),
            )
            for name, place in own.reader.named_destinations.items()
        }
        first += len(own.reader.pages)


def join(documents: list[Printed], parts: list[Part], folder: Path) -> PdfWriter:
    """One file with numbered pages, inner links and bookmarks."""
    number(documents)
    writer = PdfWriter()
    for own in documents:
        for page in own.reader.pages:
            writer.add_page(page)
    known = {own.name: own for own in documents}
    for own in documents:
        for place in range(own.first, own.first + len(own.reader.pages)):
            mend_links(writer, writer.pages[place], own, known, folder)
            if place > 0:  # the title page has none
                write_number(writer, writer.pages[place], place + 1)
    add_bookmarks(writer, parts, known)
    return writer


def mend_links(writer: PdfWriter, page: PageObject, own: Printed, known: dict[str, Printed], folder: Path) -> None:
    """Lead links to places of the book inside the file, keep those to the world, drop those to files of this machine."""
    kept = ArrayObject()
    for reference in page.get("/Annots", ArrayObject()):
        link = reference.get_object()
        _, bottom, _, top = (float(side) for side in link["/Rect"])
        target = place_of(link, own, known, folder)
        if abs(top - bottom) < SMALLEST_LINK or target is None:
            continue
        if isinstance(target, tuple):
            link.pop("/A", None)
            where = [
                NameObject("/XYZ"),
                NullObject(),
                FloatObject(target[1]) if target[1] else NullObject(),
                NullObject(),
            ]
            link[NameObject("/Dest")] = ArrayObject([writer.pages[target[0]].indirect_reference, *where])
        kept.append(reference)
    if "/Annots" in page:
        page[NameObject("/Annots")] = kept


def place_of(link: DictionaryObject, own: Printed, known: dict[str, Printed], folder: Path):
    """``(page, top)`` of a link's target, its address where that is on the web, ``None`` for anything else."""
    action = link.get("/A", DictionaryObject()).get_object()
    if "/URI" not in action:
        name = link.get("/Dest", action.get("/D", ""))
        return own.places.get(unquote(str(name).lstrip("/"))) if isinstance(name, str) else None
    address = urlsplit(str(action["/URI"]))
    if address.scheme != "file":
        return address.geturl()
    path = Path(unquote(address.path))
    target = known.get(path.stem) if path.suffix == ".html" and path.parent == folder.resolve() else None
    if target is None:
        return None
    return target.places.get(unquote(address.fragment), (target.first, 0.0))


def write_number(writer: PdfWriter, page: PageObject, value: int) -> None:
    """The page's number in the middle of its foot."""
    words, width = str(value), float(page.mediabox.width)
    left = (width - 0.556 * NUMBER_FONT * len(words)) / 2  # every digit of Helvetica is 0.556 em wide
    before, after = DecodedStreamObject(), DecodedStreamObject()
    before.set_data(b"q\n")
    after.set_data(
        f"\nQ BT 0.3 g /BookNumber {NUMBER_FONT} Tf {left:.2f} {NUMBER_HEIGHT} Td ({words}) Tj ET\n".encode()
    )
    old = page.raw_get("/Contents")
    middle = list(old.get_object()) if isinstance(old.get_object(), ArrayObject) else [old]
    page[NameObject("/Contents")] = ArrayObject([writer._add_object(before), *middle, writer._add_object(after)])
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    resources = page.setdefault(NameObject("/Resources"), DictionaryObject()).get_object()
    fonts = resources.setdefault(NameObject("/Font"), DictionaryObject()).get_object()
    fonts[NameObject("/BookNumber")] = DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})


def add_bookmarks(writer: PdfWriter, parts: list[Part], known: dict[str, Printed]) -> None:
    """Parts, chapters in them, sections in these."""
    for part in parts:
        pages = [known[name] for name in part.pages if name in known]
        above = (
            writer.add_outline_item(title=part.caption, page_number=pages[0].first, bold=True)
            if part.caption and pages
            else None
        )
        for own in pages:
            chapter = writer.add_outline_item(title=own.title, page_number=own.first, parent=above)
            for name, title in own.sections:
                page, top = own.places.get(name, (own.first, 0.0))
                writer.add_outline_item(title=title, page_number=page, parent=chapter, fit=Fit.xyz(left=0, top=top))


FRONT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
@page {{ size: A4; margin: 18mm 16mm 20mm }}
body {{ margin: 0; font: 11pt/1.45 "DejaVu Sans", "Liberation Sans", sans-serif; color: #1f2328 }}
.title {{ height: 240mm; display: flex; flex-direction: column; justify-content: center; break-after: page }}
.title h1 {{ font-size: 28pt; line-height: 1.2; margin: 0 0 12mm }}
h2 {{ font-size: 18pt }} h3 {{ font-size: 11pt; margin: 6mm 0 1mm; break-after: avoid }}
a {{ display: flex; gap: 4mm; color: inherit; text-decoration: none; break-inside: avoid }}
a i {{ flex: 1; border-bottom: 1px dotted #8c959f; margin-bottom: 1.2mm }}
</style><body><div class="title"><h1>{title}</h1><p>An executable book</p><p>{author}</p><p>{rights}</p></div>
<h2>Contents</h2>{contents}</body></html>"""


def front(
    browser: chromium.Chromium, documents: list[Printed], parts: list[Part], folder: Path, config: dict
) -> Printed:
    """Title page and contents; printed twice, for the contents number the pages that they themselves push back."""
    known = {own.name: own for own in documents}
    length = 0
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "front.html"
        for _ in range(2):
            lines = []
            for part in parts:
                lines += [f"<h3>{html.escape(part.caption)}</h3>"] if part.caption else []
                for own in (known[name] for name in part.pages if name in known):
                    address = (folder.resolve() / f"{own.name}.html").as_uri()
                    lines.append(
                        f'<a href="{address}">{html.escape(own.title)}<i></i><span>{own.first + length + 1}</span></a>'
                    )
            words = {key: html.escape(str(config.get(own, ""))) for key, own in
                     (("title", "title"), ("author", "author"), ("rights", "copyright"))}  # fmt: skip
            page.write_text(FRONT.format(**words, contents="".join(lines)), encoding="utf-8")
            own = print_page(browser, page)
            length = len(own.reader.pages)
    return own


def make(folder: Path, output: Path, root: Path = ROOT, say=print) -> PdfWriter:
    """Print the book built in ``folder`` to ``output``. Raises :class:`PdfError` without Chromium or without the book."""
    program = chromium.find()
    if program is None:
        raise PdfError(
            "There is no Chromium here: install it (on Debian and Ubuntu the package chromium), then run make pdf."
        )
    parts = parts_of(root / "_toc.yml")
    names = [name for part in parts for name in part.pages]
    missing = [name for name in names if not (folder / f"{name}.html").is_file()]
    if missing:
        raise PdfError(f"The built book lacks {', '.join(missing)}: run make book, then make pdf.")
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    places = linked_places(folder, names)
    with chromium.Chromium(program) as browser:
        documents = []
        for name in names:
            documents.append(print_page(browser, folder / f"{name}.html", places[name]))
            say(f"{name}: {len(documents[-1].reader.pages)} pages")
        number(documents)
        documents.insert(0, front(browser, documents, parts, folder, config))
    writer = join(documents, parts, folder)
    writer.compress_identical_objects()
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as stream:
        writer.write(stream)
    return writer


def main(arguments: list[str] | None = None) -> int:
    """The command ``make pdf``."""
    parser = argparse.ArgumentParser(description="The built book as one PDF.")
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html", help="folder of the built book")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / OUTPUT, help="file to write")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of _toc.yml and _config.yml")
    given = parser.parse_args(arguments)
    try:
        writer = make(given.html, given.out, given.root)
    except (PdfError, TimeoutError, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(writer.pages)} pages, {given.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
