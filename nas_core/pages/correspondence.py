"""Where every numbered thing of the paper is in the book: found by label in the sources of its pages, never written down.

An equation of the paper is labelled ``paper-eq-8``, an environment ``paper-thm-1``, ``paper-cor-1-2``, ``paper-remark-2``
or ``paper-def-1``, a figure ``paper-fig-4`` or, in parts, ``paper-fig-9b``. What no page of the table of contents
carries reads :data:`MISSING`, so that a book that is not finished builds without a broken link.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from nas_core.pages.notation import SYMBOLS, Symbol
from nas_core.pages.tables import code, markdown

MISSING = "*not in the book yet*"
BOOK = Path(__file__).resolve().parents[2] / "book"


class CorrespondenceError(ValueError):
    """A book whose labels cannot be used: one sentence."""


@dataclass(frozen=True)
class Item:
    """One numbered thing of the paper. ``label`` is that of the book, without the letter of a figure's part;
    ``same_as`` the label of what it repeats, if it does; ``checks`` name functions of ``nas_core``."""

    name: str
    label: str
    section: str
    what: str
    checks: tuple[str, ...] = ()
    same_as: str = ""


@dataclass(frozen=True)
class Label:
    """A label in a page's source: ``kind`` is the directive (``math``, ``prf:theorem``, ``figure``), ``makers`` the
    functions that draw a figure."""

    name: str
    page: str
    kind: str
    makers: tuple[str, ...] = ()


def _equation(number: int, section: str, what: str, *checks: str) -> Item:
    return Item(f"Eq {number}", f"paper-eq-{number}", section, what, checks)


def _figure(number: int, section: str, what: str) -> Item:
    return Item(f"Fig {number}", f"paper-fig-{number}", section, what)


ITEMS: tuple[Item, ...] = (
    _equation(1, "2.2", "choosing an operation, $\\mathbf Z^{\\mathsf T}\\mathbf O$", "supernet.Supernet"),
    _equation(2, "2.2", "the objective, an expectation over architectures", "theory.expected_gradients"),
    _equation(3, "2.2", "the loss, cross entropy", "cost.loss_and_entropy"),
    _equation(4, "4", "the local cost $\\partial L/\\partial Z$", "theory.cost_residual", "theory.alpha_residual"),
    _equation(5, "4", "the cost written out over images, channels and pixels", "theory.cost_residual"),
    _equation(6, "5.2", "cost of an edge whose node has a path behind it", "theory.paths_residual"),
    _equation(7, "5.2", "cost of an edge whose node has none", "theory.paths_residual"),
    _equation(8, "5.2", "the cost of the last cell is $L - H$", "theory.last_cell_residual"),
    _equation(9, "5.2", "the same in logits", "theory.logit_residual"),
    _equation(10, "D", "chain rule through the convolution", "theory.conv_steps"),
    _equation(11, "D", "a convolution leaves the cost as it is", "theory.conv_steps"),
    _equation(12, "D", "the gradient at its input, by index", "theory.conv_steps"),
    _equation(13, "D", "the sums exchanged", "theory.conv_steps"),
    _equation(14, "D", "a convolution by index", "theory.conv_steps"),
    _equation(15, "D", "no cost before a normalisation", "theory.homogeneity_residual"),
    _equation(16, "D", "batch normalisation", "theory.norm_steps"),
    _equation(17, "D", "its gradient", "theory.norm_steps", "theory.norm_gradient"),
    _equation(18, "D", "the gradients of mean and variance", "theory.norm_steps"),
    _equation(19, "D", "Eq 15 element by element", "theory.norm_lines"),
    _equation(20, "D", "a skip connection passes its cost on", "theory.skip_residual"),
    _equation(21, "F", "from the features to $L - H$", "theory.lines_residual"),
    _equation(22, "F", "the gradient at the output node", "theory.feature_residual"),
    _equation(23, "H.1", "layer normalisation", "theory.norm_steps"),
    _equation(24, "H.1", "Eq 15 for it, element by element", "theory.homogeneity_residual", "theory.norm_lines"),
    _equation(25, "H.1", "no cost under an affine-free instance normalisation", "theory.instance_norm"),
    Item("Definition 1", "paper-def-1", "5.2", "the search space $\\mathcal A$", ("space.Cell",)),
    Item(
        "Theorem 1",
        "paper-thm-1",
        "5.2",
        "no cost passes an intermediate edge",
        ("theory.node_residual", "theory.epsilon_residual"),
    ),
    Item(
        "Corollary 1.1",
        "paper-cor-1-1",
        "5.2",
        "the total cost is that of a cell's own edges",
        ("theory.cell_residual",),
    ),
    Item(
        "Corollary 1.2",
        "paper-cor-1-2",
        "5.2",
        "the costs of an earlier cell sum to 0",
        ("theory.inner_cell_residual",),
    ),
    Item(
        "Theorem 2",
        "paper-thm-2",
        "5.2",
        "cost $L - H$, its sign, and accuracy",
        ("theory.last_cell_residual", "theory.chance_cost", "theory.correct_residual"),
    ),
    Item("Remark 1", "paper-remark-1", "5.2", "costs that obey Theorem 2 make the wiring grow"),
    Item("Remark 2", "paper-remark-2", "5.3", "intermediate edges cost more"),
    Item("Remark 3", "paper-remark-3", "5.3", "hence width"),
    Item("Remark 4", "paper-remark-4", "5.4", "cost of held-out images", ("pages.bilevel_measures.false_confidence",)),
    Item("Theorem 3", "paper-thm-3", "D", "Theorem 1 again", ("theory.conv_steps", "theory.norm_steps"), "paper-thm-1"),
    Item("Theorem 4", "paper-thm-4", "F", "Theorem 2 again", ("theory.lines_residual",), "paper-thm-2"),
    _figure(1, "1", "wiring over time, SNAS"),
    _figure(2, "2.1", "the minimal cell"),
    _figure(3, "3", "probabilities over time, SNAS"),
    _figure(4, "5.1", "mean cost of every operation"),
    _figure(5, "5.2", "gradients and cost in the minimal cell"),
    _figure(6, "5.2", "cost in the last two cells"),
    _figure(7, "5.2", "loss, accuracy and cost"),
    _figure(8, "5.3", "simplified and modified cells"),
    _figure(9, "5.3", "cost of each edge in these cells"),
    _figure(10, "5.4", "bi-level: cost per edge; $C$, $L$, $H$"),
    _figure(11, "A", "wiring over time, DSNAS"),
    _figure(12, "A", "probabilities over time, DSNAS"),
    _figure(13, "A", "wiring over time, bi-level DARTS"),
    _figure(14, "A", "probabilities over time, bi-level DARTS"),
    _figure(15, "C", "mean cost, 8 minimal cells"),
    _figure(16, "C", "mean cost, 8 cells of DARTS"),
    _figure(17, "D", "the minimal cell again"),
    _figure(18, "D", "the layers of edge 4"),
    _figure(19, "E", "cost of each edge in the last two cells"),
    _figure(20, "F", "from the last cell to the loss"),
    _figure(21, "F", "$C$, $L$, $H$ in DSNAS"),
    _figure(22, "F", "in DARTS, training set"),
    _figure(23, "F", "in DARTS, search set"),
    _figure(24, "F", "in DSNAS, right and wrong answers"),
    _figure(25, "F", "in DARTS, right and wrong answers, training set"),
    _figure(26, "F", "in DARTS, right and wrong answers, search set"),
    _figure(27, "G", "cost of each edge, simplified cell"),
    _figure(28, "G", "cost of each edge, modified cell"),
    _figure(29, "H.1", "mean cost, affine-free instance normalisation"),
    _figure(30, "H.2", "mean cost, Conv-ReLU-BN"),
    _figure(31, "H.2", "mean cost, Conv-BN-ReLU"),
)
"""Every numbered equation, statement and figure of the paper. Theorems 3 and 4 are the appendix's copies of 1 and 2."""

_DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:-]+)\}[^\n]*\n(?P<options>(?::[\w-]+:[^\n]*\n)*)", re.MULTILINE
)
_OPTION = re.compile(r"^:(?:label|name):[ \t]*(\S+)", re.MULTILINE)


def pages(book: Path) -> list[Path]:
    """The sources of the pages in the table of contents, in reading order."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    names = [toc["root"], *(chapter["file"] for part in toc.get("parts", ()) for chapter in part["chapters"])]
    return [path for name in names for ending in (".md", ".ipynb") if (path := book / f"{name}{ending}").is_file()]


def labels(book: Path = BOOK) -> list[Label]:
    """Every label of an equation, an environment or a figure, in reading order.

    Raises :class:`CorrespondenceError` for a label that stands twice, or a book without a table of contents."""
    if not (book / "_toc.yml").is_file():
        raise CorrespondenceError(f"there is no _toc.yml in {book.name}/; run this from a copy of the repository")
    found = [label for path in pages(book) for label in _labels_of(path)]
    seen: dict[str, Label] = {}
    for label in found:
        first = seen.setdefault(label.name, label)
        if first is not label:
            raise CorrespondenceError(f"{label.name} stands on {first.page} and on {label.page}; a label is used once")
    return found


def _labels_of(path: Path) -> Iterator[Label]:
    if path.suffix == ".md":
        yield from _in_markdown(path.read_text(encoding="utf-8"), path.stem)
        return
    cells = nbformat.read(path, as_version=4).cells
    imports = _imports(cell.source for cell in cells if cell.cell_type == "code")
    for cell in cells:
        if cell.cell_type == "markdown":
            yield from _in_markdown(cell.source, path.stem)
        elif name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
            yield Label(name, path.stem, "figure", _makers(cell.source, imports))


def _in_markdown(text: str, page: str) -> Iterator[Label]:
    for directive in _DIRECTIVE.finditer(text):
        for name in _OPTION.findall(directive["options"]):
            yield Label(name, page, directive["kind"])


def _tree(source: str) -> ast.AST:
    """A cell's syntax tree; lines for IPython alone are left out."""
    return ast.parse("\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines()))


def _imports(sources: Iterator[str]) -> dict[str, str]:
    """``{name in the notebook: what it is within nas_core}``."""
    found: dict[str, str] = {}
    for source in sources:
        for node in ast.walk(_tree(source)):
            if isinstance(node, ast.ImportFrom) and (module := node.module or "").split(".")[0] == "nas_core":
                base = module.removeprefix("nas_core").lstrip(".")
                found |= {own.asname or own.name: f"{base}.{own.name}".lstrip(".") for own in node.names}
    return found


def _makers(source: str, imports: Mapping[str, str]) -> tuple[str, ...]:
    """The functions of ``nas_core.pages`` inside a cell's ``show(…)``."""
    made = []
    for shown in ast.walk(_tree(source)):
        if not isinstance(shown, ast.Call) or _called(shown, imports).rpartition(".")[2] != "show":
            continue
        calls = [own for argument in shown.args[:1] for own in ast.walk(argument) if isinstance(own, ast.Call)]
        made += [name for name in (_called(own, imports) for own in calls) if name.startswith("pages.")]
    return tuple(dict.fromkeys(made))


def _called(call: ast.Call, imports: Mapping[str, str]) -> str:
    """The name of a called function within nas_core, or nothing."""
    text = ast.unparse(call.func)
    root, _, rest = text.partition(".")
    return f"{imports[root]}.{rest}".rstrip(".") if root in imports else ""


def carriers(label: str, found: Sequence[Label]) -> list[Label]:
    """The labels of the book that stand for one of the paper: itself, or a figure's parts ``…a``, ``…b``."""
    part = "[a-z]?" if label.startswith("paper-fig-") else ""
    return [own for own in found if re.fullmatch(re.escape(label) + part, own.name)]


def link(label: Label) -> str:
    """A reference to a label, in MyST."""
    if label.kind == "math":
        return f"{{eq}}`{label.name}`"
    if label.kind.startswith("prf:"):
        # Environments bear the paper's numbers in their titles and none of the book's, so a bare reference is one word short.
        names = (item.name for item in ITEMS if item.label == label.name)
        return f"{{prf:ref}}`{next(names, label.name)} <{label.name}>`"
    return f"{{numref}}`{label.name}`"


def strays(book: Path = BOOK) -> list[str]:
    """Labels of the book that begin with ``paper-`` and belong to nothing in the paper: misspelt ones."""
    found = labels(book)
    known = {own.name for item in ITEMS for own in carriers(item.label, found)}
    return [own.name for own in found if own.name.startswith("paper-") and own.name not in known]


def table(book: Path = BOOK) -> str:
    """The correspondence table in MyST Markdown, one row an :data:`ITEMS` entry."""
    found = labels(book)
    header = ("paper", "what it says or shows", "in this book", "checked or made by")
    return markdown(header, [_row(item, found) for item in ITEMS])


def _row(item: Item, found: Sequence[Label]) -> tuple[str, ...]:
    own = carriers(item.label, found) or (carriers(item.same_as, found) if item.same_as else [])
    makers = [name for label in own for name in label.makers]
    functions = ", ".join(code(name) for name in dict.fromkeys([*item.checks, *makers]))
    places = []
    for page in dict.fromkeys(label.page for label in own):
        links = ", ".join(link(label) for label in own if label.page == page)
        places.append(f"{links} in {{doc}}`{page}`")
    section = f"Section {item.section}" if item.section[0].isdigit() else f"Appendix {item.section}"
    return f"{item.name} ({section})", item.what, "; ".join(places) or MISSING, functions or "–"


def summary_line(book: Path = BOOK) -> str:
    """How much of the paper the book carries by now, in one sentence."""
    found = labels(book)
    kinds = {"equations": "paper-eq-", "figures": "paper-fig-", "statements": "paper-"}
    counts = {kind: [0, 0] for kind in kinds}
    for item in ITEMS:
        kind = next(kind for kind, start in kinds.items() if item.label.startswith(start))
        counts[kind][0] += bool(carriers(item.label, found) or (item.same_as and carriers(item.same_as, found)))
        counts[kind][1] += 1
    words = ", ".join(f"{have} of {all_} {kind}" for kind, (have, all_) in counts.items())
    return f"The book carries {words} of the paper."


def notation(book: Path = BOOK) -> str:
    """The table of symbols in MyST Markdown."""
    found = labels(book)
    rows = [(own.symbol, own.meaning, own.shape or "number", _defined(own, found)) for own in SYMBOLS]
    return markdown(("symbol", "meaning", "shape", "defined"), rows)


def _defined(symbol: Symbol, found: Sequence[Label]) -> str:
    """A link to where a symbol is defined, or the words for it."""
    if not symbol.label:
        return symbol.where
    own = [label for label in found if label.name == symbol.label]
    return link(own[0]) if own else symbol.where or MISSING
