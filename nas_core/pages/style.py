"""How every figure of the book looks and is put on a page: colours, fonts, bands, a legend, and an image with
alternative text.

Figures are ``matplotlib.figure.Figure`` objects drawn without pyplot, so that nothing global changes. Their width is
that of a page's text (7 inches, about 700 pixels), so a font size here is the size that a reader sees.
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType, LineStyleType

from nas_core.pages import figure_files, summary
from nas_core.space import OPERATIONS, Cell

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")

WIDTH = 7.0
FONT = 9.5
SMALL = 9.0

# Okabe and Ito's palette, told apart under the common colour vision deficiencies; its yellow is darkened to hold on
# white.
OPERATION_COLOURS = {
    "none": "#8c8c8c",
    "skip_connect": "#000000",
    "max_pool_3x3": "#009e73",
    "avg_pool_3x3": "#b39b00",
    "sep_conv_3x3": "#0072b2",
    "dil_conv_3x3": "#d55e00",
    "dil_conv_5x5": "#cc79a7",
    "sep_conv_5x5": "#56b4e9",
}
EDGE_LINES: dict[str, LineStyleType] = {"input": "-", "intermediate": "--"}
EDGE_MARKERS = {"input": "o", "intermediate": "D"}
EDGE_SIGNS = {"input": "●", "intermediate": "◆"}
# An edge plot shows edges, not operations: a hue says the class and a label says which edge.
EDGE_SHADES = {"input": ("#0b3c5d", "#3f8fc4"), "intermediate": ("#7a3000", "#cf7a1e")}
QUANTITY_COLOURS = {"loss": "#332288", "entropy": "#117733", "cost": "#882255"}
SET_LINES: dict[str, LineStyleType] = {"train": "-", "held_out": (0, (5, 2))}
SERIES: tuple[tuple[str, LineStyleType, str], ...] = (
    ("#222222", "-", "o"),
    ("#aa3377", "--", "s"),
    ("#228833", "-.", "^"),
    ("#4477aa", ":", "v"),
    ("#bb8800", "-", "P"),
    ("#117777", (0, (4, 1, 1, 1, 1, 1)), "D"),
)
METHODS = ("bi-level", "single-level", "DSNAS", "SNAS", "ProxylessNAS")
"""Labels that keep their place in :data:`SERIES`, so that a method looks the same on every page."""
NODE_COLOURS = {"input": "#bcd9f0", "intermediate": "#fbd0a0", "output": "#bcd9f0"}

_RC: dict[RcKeyType, Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "path",
    "svg.hashsalt": "nas_core",
}


@dataclass(frozen=True)
class Pen:
    """How one curve is drawn."""

    colour: ColorType
    line: LineStyleType = "-"
    marker: str = ""
    width: float = 1.6
    label: str = ""


def styled(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Decorator: run a drawing function under the book's settings, and leave matplotlib's own as they were."""

    @functools.wraps(draw)
    def wrapped(*arguments: Arguments.args, **named: Arguments.kwargs) -> Drawn:
        with matplotlib.rc_context(_RC):
            return draw(*arguments, **named)

    return wrapped


def new_figure(height: float) -> Figure:
    """An empty opaque white figure of the page's width; ``height`` in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.07)
    return Figure(figsize=(WIDTH, height), facecolor="white", layout=layout)


def curve(
    axes: Axes, x: np.ndarray, values: np.ndarray, pen: Pen, within: tuple[float, float] = (-np.inf, np.inf)
) -> None:
    """Mean over seeds of ``values`` [s, X] as a line, its t-interval as a band, cut to ``within``, what the values can be: a
    t-interval knows nothing of that. Nothing where all is NaN."""
    mean, low, high = summary.band(values)
    low, high = (np.clip(bound, *within) for bound in (low, high))
    if not np.isfinite(mean).any():
        return
    every = max(1, len(x) // 8)
    axes.plot(
        x, mean, color=pen.colour, linestyle=pen.line, linewidth=pen.width, label=pen.label or None,
        marker=pen.marker, markersize=4.5, markevery=every,
    )  # fmt: skip
    axes.fill_between(x, low, high, color=pen.colour, alpha=0.18, linewidth=0)


def looks(labels: Sequence[str]) -> list[tuple[ColorType, LineStyleType, str]]:
    """Colour, line and marker of every label, of :data:`SERIES`: a method its own, the others what is left, in order.

    At most as many labels as there are series."""
    own = {label: SERIES[METHODS.index(label)] for label in labels if label in METHODS}
    left = iter([look for look in SERIES if look not in own.values()])
    return [own[label] if label in own else next(left) for label in labels]


def is_dark(colour: ColorType) -> bool:
    """Whether white is easier to read on ``colour`` than black, by the contrast of WCAG 2."""
    channels = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05


def tidy(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Labels, no box where it says nothing, and no half epochs on the axis."""
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def zero_line(axes: Axes, *, vertical: bool = False) -> None:
    """The line that separates costs that drop an edge from costs that keep it; it is always within the limits."""
    draw = axes.axvline if vertical else axes.axhline
    draw(0, color="#444444", linewidth=0.9, zorder=0.5)


def say_empty(axes: Axes, words: str) -> None:
    """Words in the place of curves that these runs do not have."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="#555555")


def edge_pens(cell: Cell) -> list[Pen]:
    """One pen an edge: its class gives hue, line and marker, its rank within the class the shade."""
    blend = matplotlib.colors.LinearSegmentedColormap.from_list
    classes = [cell.edge_class(edge) for edge in range(len(cell.edges))]
    pens = []
    for edge, kind in enumerate(classes):
        of_class = [other for other, own in enumerate(classes) if own == kind]
        shade = of_class.index(edge) / max(1, len(of_class) - 1)
        colour = matplotlib.colors.to_hex(blend(kind, EDGE_SHADES[kind])(shade))
        pens.append(Pen(colour, EDGE_LINES[kind], EDGE_MARKERS[kind]))
    return pens


def class_handles(cell: Cell) -> list[Line2D]:
    """Legend entries for the edge classes that the cell has."""
    kinds = dict.fromkeys(cell.edge_class(edge) for edge in range(len(cell.edges)))
    return [
        Line2D([], [], color=EDGE_SHADES[kind][0], linestyle=EDGE_LINES[kind], marker=EDGE_MARKERS[kind],
               markersize=4.5, label=f"{kind} edge")
        for kind in kinds
    ]  # fmt: skip


def operation_handles(names: Sequence[str] = OPERATIONS, width: float = 2.2) -> list[Line2D]:
    """Legend entries for operations."""
    return [Line2D([], [], color=OPERATION_COLOURS[name], linewidth=width, label=name) for name in names]


def end_labels(axes: Axes, x: float, labels: Sequence[tuple[float, str, ColorType]]) -> None:
    """Write ``(y, text, colour)`` at the right end of curves, moved apart just enough to be read.

    Call it when the limits of the axes are final: the room that a line of text takes is worked out from them.
    """
    kept = sorted((label for label in labels if np.isfinite(label[0])), key=lambda label: label[0])
    if not kept:
        return
    low, high = axes.get_ylim()
    inches = axes.get_window_extent().height / axes.figure.dpi
    room = (high - low) * 1.15 * SMALL / 72 / max(inches, 0.5)
    places = np.array(spread([label[0] for label in kept], room))
    # Lifted off the bottom rather than over the tick labels, then lowered from the top: the order stays.
    lifted = np.maximum(places, low + room * (np.arange(len(kept)) + 0.5))
    lowered = np.minimum(lifted, high - room * (np.arange(len(kept))[::-1] + 0.5))
    for (_, text, colour), y in zip(kept, lowered, strict=True):
        axes.annotate(
            text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", color=colour, fontsize=SMALL,
            annotation_clip=False,
        )  # fmt: skip


def spread(values: Sequence[float], room: float) -> list[float]:
    """Sorted values moved as little as needed to lie ``room`` apart: touching ones share a block around their mean."""
    blocks: list[list[float]] = []  # [mean of the wanted places, how many]
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < room * (blocks[-1][1] + blocks[-2][1]) / 2:
            (mean, count), (below, under) = blocks.pop(), blocks.pop()
            blocks.append([(mean * count + below * under) / (count + under), count + under])
    return [mean + (index - (count - 1) / 2) * room for mean, count in blocks for index in range(int(count))]


def svg(figure: Figure, description: str = "") -> str:
    """The figure as SVG text: equal figures give equal bytes (fixed ids, no date)."""
    stream = io.StringIO()
    about = {"Date": None, "Creator": None, "Title": figure.get_label() or None, "Description": description or None}
    with matplotlib.rc_context(_RC):
        figure.savefig(
            stream,
            format="svg",
            metadata={key: value for key, value in about.items() if value or key in ("Date", "Creator")},
        )
    return stream.getvalue()


class Shown:
    """A figure as a notebook puts it on a page: an ``<img>`` with alternative text, its provenance and its data below."""

    def __init__(self, markup: str, alt: str):
        self.markup, self.alt = markup, alt

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"


def show(
    figure: Figure,
    results: Sequence | Mapping[str, Sequence] | None = None,
    *,
    alt: str | None = None,
    drawn: str = "lines",
    note: str = "",
) -> Shown:
    """Put a figure on the page: the last expression of a cell.

    The alternative text is the one that the figure computed from its data unless ``alt`` replaces it. With ``results``
    the line below says what is ``drawn`` (a kind of :data:`nas_core.pages.summary.DRAWN`) from how many seeds, and where
    the numbers come from; ``note`` says it for what was computed on the page. Two links give the numbers themselves. Caption and name of the figure are the cell's own
    (``mystnb.figure.caption`` and ``.name`` in its metadata): the book wraps this output in them.
    """
    words = alt or str(figure.get_label() or "")
    if not words:
        raise ValueError("this figure has no alternative text; pass alt= a sentence that says what it shows")
    below = note
    if results is not None:
        below = " ".join(filter(None, (note, summary.drawn_words(results, drawn), summary.provenance(results))))
    # An image in the page's own bytes, not a file: its alternative text can then be computed.
    data = base64.b64encode(svg(figure, below).encode()).decode()
    line = f'<p class="provenance"><small>{html.escape(below)}</small></p>' if below else ""
    # On a phone the image keeps a readable size and is scrolled sideways.
    size = "width:100%;min-width:34em;max-width:50em;height:auto;background:#fff"
    image = f'<img class="plot" alt="{html.escape(words)}" style="{size}" src="data:image/svg+xml;base64,{data}">'
    files = figure_files.links(figure, results, description=words, note=below)
    return Shown(f'<div class="plot-scroll" style="overflow-x:auto">{image}</div>{line}{files}', words)
