"""The numbers that a figure shows, read back from the figure itself, as a tidy table.

:func:`read` takes a matplotlib figure to rows; :mod:`nas_core.pages.figure_files` writes them. What is read is what was
drawn, so a table cannot differ from its figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection
from matplotlib.colors import same_color, to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter
from matplotlib.typing import ColorType

DIGITS = 8
"""Significant digits of a number; more would be noise of the last bits."""

Number = float | None


@dataclass(frozen=True)
class Row:
    """One point, bar, cell of a map, interval or span of a figure; ``None`` where a column does not apply.

    ``panel`` counts the axes from 1 in the order in which they were made. ``low`` and ``high`` bound a band or an
    interval in y (in x for the kinds that say so), a bar reaches from ``low`` to ``high``, ``value`` is the number
    behind a cell's colour, and ``mark`` what is written or framed in it. ``x_name`` and ``y_name`` are the words of the
    ticks, where these are words.
    """

    panel: int
    kind: str
    series: str
    x: Number = None
    x_name: str | None = None
    y: Number = None
    y_name: str | None = None
    low: Number = None
    high: Number = None
    value: Number = None
    mark: str | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its number in the rows, title and labels (with the units, where there are any)."""

    number: int
    title: str
    x: str
    y: str
    value: str


@dataclass(frozen=True)
class Table:
    """All that could be read of one figure."""

    panels: tuple[Panel, ...]
    rows: tuple[Row, ...]


_BEHIND: WeakKeyDictionary[Figure, Table] = WeakKeyDictionary()


def attach(figure: Figure, table: Table) -> None:
    """Give a drawing, whose axes carry no numbers, the table that it was drawn from."""
    _BEHIND[figure] = table


COLUMNS = tuple(field.name for field in fields(Row))


def read(figure: Figure) -> Table:
    """What a figure shows; a table without rows if nothing of it is a number (a drawing, say)."""
    if figure in _BEHIND:
        return _BEHIND[figure]
    panels: list[Panel] = []
    rows: list[Row] = []
    for axes in figure.axes:
        if not axes.axison or hasattr(axes, "_colorbar"):
            continue
        number = len(panels) + 1
        own = [row for part in (_lines, _points, _bars, _spans, _maps) for row in part(axes, number)]
        if own:
            panels.append(_panel(figure, axes, number))
            rows += own
    return Table(tuple(panels), tuple(rows))


def _panel(figure: Figure, axes: Axes, number: int) -> Panel:
    """The words around a panel; a label that the panels of a figure share stands on the figure or on a neighbour."""
    bars = [image.colorbar.ax for image in axes.get_images() if image.colorbar is not None]
    if axes.get_images() and not bars:  # one colour bar for several maps
        bars = [other for other in figure.axes if hasattr(other, "_colorbar")]
    x = axes.get_xlabel() or _shared(axes, axes.get_shared_x_axes(), "get_xlabel") or figure.get_supxlabel()
    y = axes.get_ylabel() or _shared(axes, axes.get_shared_y_axes(), "get_ylabel") or figure.get_supylabel()
    title = axes.get_title("left") or axes.get_title() or axes.get_title("right")
    value = next((bar.get_ylabel() or bar.get_xlabel() for bar in bars), "")
    return Panel(number, *(plain(words) for words in (title, x, y, value)))


def _shared(axes: Axes, group, label: str) -> str:
    return next((words for other in group.get_siblings(axes) if (words := getattr(other, label)())), "")


def plain(words: str) -> str:
    """Words on one line."""
    return " ".join(words.split())


# --- curves, bands and intervals ----------------------------------------------------------------------------------------


def _in_data(artist, axes: Axes) -> bool:
    """Whether both coordinates are data: a zero line, or a word's underline, is not."""
    return artist.get_transform().contains_branch_seperately(axes.transData) == (True, True)


def _lines(axes: Axes, panel: int) -> list[Row]:
    """Curves with their bands, points without a line, and intervals drawn as line segments."""
    children = axes.get_children()
    lines = [own for own in children if isinstance(own, Line2D) and _in_data(own, axes) and np.size(own.get_xdata())]
    bands = {}
    alone = []
    for place, own in enumerate(children):
        if isinstance(own, PolyCollection):
            outline = _outline(own)
            line = _line_of(own, outline, [line for line in lines if line not in bands], children, place)
            if line is None:
                alone.append((own, outline))
            else:
                bands[line] = outline
    ticks = _ticks(axes)
    rows = []
    for order, line in enumerate(lines, 1):
        kind = "points" if line.get_linestyle() in ("None", "", " ") else "line"
        name = _name(axes, line, line.get_color(), f"{kind} {order}")
        for x, y in zip(*(_floats(axis) for axis in (line.get_xdata(), line.get_ydata())), strict=True):
            if math.isfinite(x) and math.isfinite(y):
                low, high = bands.get(line, {}).get(x, (None, None))
                rows.append(_row(panel, kind, name, ticks, x=x, y=y, low=low, high=high))
    for order, (own, outline) in enumerate(alone, 1):
        name = _name(axes, own, _colour(own.get_facecolor()), f"band {order}")
        rows += [_row(panel, "band", name, ticks, x=x, low=low, high=high) for x, (low, high) in outline.items()]
    return rows + _segments(axes, panel, ticks)


def _outline(band: PolyCollection) -> dict[float, tuple[float, float]]:
    """Lower and upper end of a band at each x."""
    found: dict[float, list[float]] = {}
    for path in band.get_paths():
        for x, y in np.asarray(path.vertices).tolist():
            if math.isfinite(x) and math.isfinite(y):
                found.setdefault(x, []).append(y)
    return {x: (min(ends), max(ends)) for x, ends in sorted(found.items())}


def _line_of(band, outline: Mapping, lines: Sequence[Line2D], children: Sequence, place: int) -> Line2D | None:
    """The curve that a band belongs to: of its colour, inside it, and drawn last before it."""
    colour = _colour(band.get_facecolor())
    fitting = [
        line for line in lines if colour is not None and same_color(to_rgb(line.get_color()), colour)
        and _inside(line, outline)
    ]  # fmt: skip
    away = {line: place - children.index(line) for line in fitting}
    return min(fitting, key=lambda line: (away[line] < 0, abs(away[line])), default=None)


def _inside(line: Line2D, outline: Mapping) -> bool:
    points = dict(zip(_floats(line.get_xdata()), _floats(line.get_ydata()), strict=True))
    common = [(points[x], outline[x]) for x in points if x in outline and math.isfinite(points[x])]
    room = 1e-9 * max((abs(high) + abs(low) for _, (low, high) in common), default=0)
    return bool(common) and all(low - room <= y <= high + room for y, (low, high) in common)


def _segments(axes: Axes, panel: int, ticks) -> list[Row]:
    rows = []
    for order, own in enumerate(
        (own for own in axes.collections if isinstance(own, LineCollection) and _in_data(own, axes)), 1
    ):
        name = _name(axes, own, _colour(own.get_colors()), f"intervals {order}")
        for segment in own.get_segments():
            if len(segment) != 2 or not np.isfinite(segment).all():
                continue
            (x, y), (other_x, other_y) = segment.tolist()
            if x == other_x:
                rows.append(_row(panel, "interval", name, ticks, x=x, low=min(y, other_y), high=max(y, other_y)))
            elif y == other_y:
                bounds = {"low": min(x, other_x), "high": max(x, other_x)}
                rows.append(_row(panel, "interval in x", name, ticks, y=y, **bounds))
    return rows


# --- scatters, bars and spans -----------------------------------------------------------------------------------------


def _points(axes: Axes, panel: int) -> list[Row]:
    rows, ticks = [], _ticks(axes)
    for order, own in enumerate((own for own in axes.collections if isinstance(own, PathCollection)), 1):
        name = _name(axes, own, _colour(own.get_facecolor()), f"points {order}")
        places: np.ndarray = np.ma.filled(np.ma.asarray(own.get_offsets(), dtype=float), np.nan)
        values = own.get_array()
        shown = [None] * len(places) if values is None else _floats(values)
        for (x, y), value in zip(places.tolist(), shown, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                rows.append(_row(panel, "points", name, ticks, x=x, y=y, value=value))
    return rows


def _bars(axes: Axes, panel: int) -> list[Row]:
    rows, ticks = [], _ticks(axes)
    groups = [own for own in axes.containers if isinstance(own, BarContainer)]
    for order, group in enumerate(groups, 1):
        colour = group.patches[0].get_facecolor()[:3] if group.patches else None
        name = _name(axes, group, colour, f"bars {order}")
        for bar in group.patches:
            (left, low), (right, high) = bar.get_bbox().get_points().tolist()
            if group.orientation == "horizontal":
                rows.append(_row(panel, "bar in x", name, ticks, y=(low + high) / 2, low=left, high=right))
            else:
                rows.append(_row(panel, "bar", name, ticks, x=(left + right) / 2, low=low, high=high))
    return rows


def _spans(axes: Axes, panel: int) -> list[Row]:
    """Ranges of one axis shaded from edge to edge of the other."""
    rows, barred = [], {id(bar) for own in axes.containers if isinstance(own, BarContainer) for bar in own.patches}
    for own in axes.patches:
        if not isinstance(own, Rectangle) or id(own) in barred:
            continue
        along = own.get_transform().contains_branch_seperately(axes.transData)
        (left, low), (right, high) = own.get_bbox().get_points().tolist()
        name = _name(axes, own, own.get_facecolor()[:3], "span")
        if along == (True, False):
            rows.append(_row(panel, "span in x", name, None, low=left, high=right))
        elif along == (False, True):
            rows.append(_row(panel, "span", name, None, low=low, high=high))
    return rows


# --- maps ---------------------------------------------------------------------------------------------------------------


def _maps(axes: Axes, panel: int) -> list[Row]:
    rows, ticks = [], _ticks(axes)
    for order, image in enumerate(axes.get_images(), 1):
        if _array(image).ndim == 2:
            rows += _map_rows(axes, panel, image, f"map {order}", ticks)
        else:
            rows += _tile_rows(axes, panel, image, f"map {order}", ticks)
    return rows


def _array(image: AxesImage) -> np.ndarray:
    """What ``imshow`` drew: it never leaves an image without an array."""
    array = image.get_array()
    assert array is not None
    return array


def _cells(axes: Axes, image: AxesImage) -> Iterable[tuple[tuple[int, int], float, float]]:
    """``(row, column), x, y`` of the middle of every cell."""
    height, width = _array(image).shape[:2]
    left, right, bottom, top = image.get_extent()
    across = left + (np.arange(width) + 0.5) * (right - left) / width
    first, last = (bottom, top) if image.origin == "lower" else (top, bottom)
    down = first + (np.arange(height) + 0.5) * (last - first) / height
    for row, column in np.ndindex(height, width):
        yield (row, column), float(across[column]), float(down[row])


def _map_rows(axes: Axes, panel: int, image: AxesImage, name: str, ticks) -> list[Row]:
    values: np.ndarray = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
    marks = _marks(axes)
    rows = []
    for place, x, y in _cells(axes, image):
        mark = marks.get((round(x, 6), round(y, 6)))
        rows.append(_row(panel, "map", name, ticks, x=x, y=y, value=values[place].item(), mark=mark))
    return rows


def _tile_rows(axes: Axes, panel: int, image: AxesImage, name: str, ticks) -> list[Row]:
    """A map whose colours are categories: the mark is the category's name in a legend, or else the colour."""
    rows, colours = [], _array(image)
    for place, x, y in _cells(axes, image):
        colour = tuple(np.asarray(colours[place], dtype=float)[:3] / (255 if colours.dtype == np.uint8 else 1))
        white = all(part > 0.999 for part in colour)
        mark = None if white else _in_legends(axes, colour) or _hex(colour)
        rows.append(_row(panel, "map", name, ticks, x=x, y=y, mark=mark))
    return rows


def _marks(axes: Axes) -> dict[tuple[float, float], str]:
    """What is written at a place of the axes, and which places are framed."""
    found: dict[tuple[float, float], list[str]] = {}
    for text in axes.texts:
        if _in_data(text, axes) and text.get_text():
            x, y = text.get_position()
            found.setdefault((round(float(x), 6), round(float(y), 6)), []).append(text.get_text())
    for own in axes.patches:
        if isinstance(own, Rectangle) and _in_data(own, axes) and not own.get_fill():
            x, y = own.get_bbox().get_points().mean(axis=0).tolist()
            found.setdefault((round(x, 6), round(y, 6)), []).append("framed")
    return {place: plain(" ".join(words)) for place, words in found.items()}


# --- names --------------------------------------------------------------------------------------------------------------


def _name(axes: Axes, artist, colour, fallback: str) -> str:
    """What a series is called: its own label, a word of its colour in the panel, or an entry of a legend."""
    label = str(artist.get_label() or "")
    if label and not label.startswith("_"):
        return plain(label)
    if colour is None:
        return fallback
    for text in axes.texts:
        if text.get_text() and same_color(to_rgb(text.get_color()), to_rgb(colour)) and sum(to_rgb(colour)) > 0:
            return plain(text.get_text())
    return _in_legends(axes, colour, artist) or fallback


def _in_legends(axes: Axes, colour, artist=None) -> str | None:
    """The legend entry of a colour; of several, the one with the artist's line style."""
    legends = [own for own in (axes.get_legend(), *axes.figure.legends) if own is not None]
    entries = []
    for legend in legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if isinstance(handle, Line2D):
                own: ColorType | tuple | None = handle.get_color()
            else:  # the stubs say no more than Artist; what a legend shows beside lines has a face
                own = _colour(np.atleast_2d(cast(Patch | Collection, handle).get_facecolor()))
            if own is not None and np.allclose(to_rgb(own), to_rgb(colour), atol=1e-6):
                entries.append((handle, text.get_text()))
    if len(entries) > 1 and isinstance(artist, Line2D):
        same = [own for own in entries if _style(own[0]) == _style(artist)]
        entries = same or entries
    return plain(entries[0][1]) if entries else None


def _style(line) -> tuple:
    return (line.get_linestyle(), line.get_marker()) if isinstance(line, Line2D) else ()


def _colour(colours) -> tuple | None:
    """The colour of a collection, or ``None`` where its members differ."""
    array = np.atleast_2d(np.asarray(colours, dtype=float))
    return tuple(array[0, :3]) if len(array) and (array[:, :3] == array[0, :3]).all() else None


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)


def _ticks(axes: Axes) -> tuple[list, list]:
    """Places and words of the ticks of both axes, where somebody wrote words there."""
    found = []
    for group, own in ((axes.get_shared_x_axes(), "xaxis"), (axes.get_shared_y_axes(), "yaxis")):
        axis = getattr(axes, own)
        pairs = []
        for candidate in (axis, *(getattr(other, own) for other in group.get_siblings(axes))):
            # Matplotlib keeps given words in a FuncFormatter.
            if not isinstance(candidate.get_major_locator(), FixedLocator):
                continue
            if isinstance(formatter := candidate.get_major_formatter(), FuncFormatter):
                places = candidate.get_ticklocs().tolist()
                pairs = [pair for pair in zip(places, formatter.format_ticks(places), strict=True) if pair[1]]
                break
        found.append(pairs)
    return found[0], found[1]


def _row(panel: int, kind: str, series: str, ticks, **values) -> Row:
    columns: dict[str, Any] = {key: own if key == "mark" else rounded(own) for key, own in values.items()}
    for axis, pairs in zip("xy", ticks or ([], []), strict=True):
        place = values.get(axis)
        if place is not None and pairs:
            near, words = min(pairs, key=lambda pair: abs(pair[0] - place))
            columns[f"{axis}_name"] = plain(str(words)) if abs(near - place) < 0.5 else None
    return Row(panel, kind, series, **columns)


def rounded(value: Number) -> Number:
    """A number as the files have it."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}") + 0.0


def _floats(values) -> list[float]:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel().tolist()
