"""The player of Section 1: a cell's likeliest wiring over epochs, to be played, scrubbed and asked about edge by edge.

:func:`show` writes what a page needs into the page: the numbers as JSON, which ``_assets/player.js`` draws and moves,
and small multiples (Figs 1, 11, 13), which stay in print and wherever no script runs.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_core.derive import surviving
from nas_core.pages import drawing, drawing_data, figure_files, style, summary
from nas_core.pages.figure_data import Table
from nas_core.pages.style import Shown
from nas_core.space import NONE, OPERATIONS, Cell

SCALE = np.array([85.0, -125.0])
"""Pixels a unit of :func:`nas_core.pages.drawing.positions`: with two cells side by side, width is what is scarce."""
RADIUS = 20.0
"""Of a node, in pixels."""
MOST_FRAMES = 61
"""Frames of a player. A longer search is thinned evenly, so that a page stays small."""
STILLS = 6
"""Small multiples a method."""
TIE = len(OPERATIONS)
"""What an edge favours that favours several operations alike; other edges have the number of their operation."""
UNKNOWN = -(2**15)
"""The packed cost of an operation that no step of the epoch sampled."""
_LARGEST = 32000
_MARGIN = 8.0
# On a phone the pictures keep a readable size and are scrolled sideways, as figures are.
_STILL_SIZE = "width:100%;min-width:34em;max-width:50em;background:#fff"
_OUTPUT_COLOUR = "#b5b5b5"
_COLOURS = (*style.OPERATION_COLOURS.values(), "#555555")  # the last one is that of a tie


@dataclass(frozen=True)
class _Film:
    """What is played of one run: F frames, each the record of an epoch. ``probability`` [F, E, K], ``choice`` [F, E],
    ``cost`` [F, E, K] and ``edge_cost`` [F, E] of the epoch that ended there (NaN: nothing was seen)."""

    title: str
    seed: int
    cell: Cell
    epochs: np.ndarray
    probability: np.ndarray
    choice: np.ndarray
    cost: np.ndarray
    edge_cost: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """``[F]``: edges whose likeliest operation is not *none*."""
        return surviving(self.probability).sum(axis=-1)

    @property
    def stills(self) -> list[int]:
        """The frames that become small multiples, both ends among them."""
        return np.unique(np.linspace(0, len(self.epochs) - 1, STILLS).round().astype(int)).tolist()

    @property
    def table(self) -> Table:
        """The numbers that are played."""
        names = [[drawing.choice(row) for row in frame] for frame in self.probability]
        title = f"{self.title}, seed {self.seed}" if self.title else f"seed {self.seed}"
        return drawing_data.wiring(title, self.cell, self.epochs.tolist(), self.probability, names, self.cost)

    @property
    def words(self) -> str:
        """What the small multiples show, for those who do not see them."""
        counts = ", ".join(f"epoch {self.epochs[frame]}: {self.kept[frame]}" for frame in self.stills)
        start = f"{self.title}, likeliest" if self.title else "Likeliest"
        return (
            f"{start} wiring of the {self.cell.name} cell over epochs, seed {self.seed}. "
            f"Edges not dropped, of {len(self.cell.edges)}: {counts}. "
            f"At the end {drawing.edges_words(self.cell, self.probability[-1])}."
        )


def show(results: Sequence | Mapping[str, Sequence], seed: int | None = None) -> Shown:
    """A player with one cell a method, side by side, and the line of provenance below it.

    ``results`` is a list of runs, or lists by method; of each, the run of ``seed`` is played (default: the smallest
    seed that all methods have). The cost of a frame is what α's own steps saw in the last cell during the epoch that
    ended there. Raises :class:`nas_core.pages.summary.ReadingError` if no such run is there.
    """
    chosen = _chosen(summary.panels(results), seed)
    films = [_film(title, run) for title, run in chosen.items()]
    shapes = [_geometry(film.cell) for film in films]
    data = {
        "operations": OPERATIONS,
        "colours": _COLOURS,
        "signs": style.EDGE_SIGNS,
        "panels": [_panel(film, shape) for film, shape in zip(films, shapes, strict=True)],
    }
    # "</" would end the script element early, whatever stands around it.
    inline = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    stills = "".join(_stills(film, shape) for film, shape in zip(films, shapes, strict=True))
    runs = "One run of each method" if len(films) > 1 else "One run"
    origin = f"{runs}, no mean. {summary.provenance({title: [run] for title, run in chosen.items()})}"
    markup = (
        f'<div class="wiring-player"><script type="application/json">{inline}</script>'
        f'<div class="player-stills" style="overflow-x:auto">{stills}</div>{_legend(films)}</div>'
        f'<p class="provenance"><small>{html.escape(origin)}</small></p>'
    )
    words = " ".join(film.words for film in films)
    played, numbers = {title: [run] for title, run in chosen.items()}, drawing_data.joined([own.table for own in films])
    return Shown(markup + figure_files.table_links(numbers, played, description=words, note=origin), words)


def _chosen(panels: Mapping[str, Sequence], seed: int | None) -> dict[str, Any]:
    """One run of every method, all of the same seed."""
    common = sorted(set.intersection(*(set(summary.seeds(runs)) for runs in panels.values())))
    if not common:
        raise summary.ReadingError(f"the runs of {' and '.join(panels)} have no seed in common; record one for all")
    wanted = common[0] if seed is None else seed
    if wanted not in common:
        raise summary.ReadingError(
            f"seed is {wanted}; give one of {', '.join(map(str, common))}, which all methods have"
        )
    return {title: next(run for run in runs if run.meta["seed"] == wanted) for title, runs in panels.items()}


def _film(title: str, run) -> _Film:
    records = len(run.arrays["probability"])
    epochs = np.unique(np.linspace(0, records - 1, min(records, MOST_FRAMES)).round().astype(int))
    probability = np.asarray(run.arrays["probability"], dtype=float)[epochs, 0]
    cost = np.asarray(run.arrays["step_cost_mean"], dtype=float)[:, -1]
    edge_cost = summary.edge_cost([run], "search")[1][0]
    return _Film(
        title=title,
        seed=int(run.meta["seed"]),
        cell=summary.cell_of(run),
        epochs=epochs,
        probability=probability,
        choice=np.array([[_choice(row) for row in frame] for frame in probability]),
        cost=_after_start(cost)[epochs],
        edge_cost=_after_start(edge_cost)[epochs],
    )


def _choice(probability: np.ndarray) -> int:
    name = drawing.choice(probability)
    return TIE if name == "tie" else OPERATIONS.index(name)


def _after_start(costs: np.ndarray) -> np.ndarray:
    """``[R-1, ...] -> [R, ...]``: before the first epoch no step has seen a cost."""
    return np.concatenate([np.full_like(costs[:1], np.nan), costs])


# Data for the script


def _panel(film: _Film, shape: Mapping[str, Any]) -> dict[str, Any]:
    """One method as JSON: geometry, and arrays as base64 of bytes. P is in 255ths, cost in ``unit``."""
    known = np.abs(np.concatenate([film.cost.ravel(), film.edge_cost.ravel()]))
    unit = float(f"{max(np.nanmax(known, initial=0), 1e-9) / _LARGEST:.3g}")
    return {
        "title": film.title,
        "epochs": film.epochs.tolist(),
        **shape,
        "choice": _packed(film.choice, "u1"),
        "probability": _packed((255 * film.probability).round(), "u1"),
        "unit": unit,
        "cost": _packed(_in_units(film.cost, unit), "<i2"),
        "edge_cost": _packed(_in_units(film.edge_cost, unit), "<i2"),
    }


def _in_units(costs: np.ndarray, unit: float) -> np.ndarray:
    return np.where(np.isfinite(costs), (np.nan_to_num(costs) / unit).round(), UNKNOWN)


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


# Geometry


def _geometry(cell: Cell) -> dict[str, Any]:
    """Nodes, edges and output edges as they are drawn, and the view box around them, in pixels."""
    units = drawing.positions(cell)
    places = {node: np.array(place) * SCALE for node, place in units.items()}
    routes = {ends: _route(path * SCALE) for ends, path in drawing.routes(cell, units).items()}
    output = cell.inputs + cell.nodes
    own = [routes[edge.source, edge.target] for edge in cell.edges]
    chips = drawing.label_places([path["points"] / 100 for path in own], [place / 100 for place in places.values()])
    around = [*(path["points"] for path in routes.values()), *(place + RADIUS for place in places.values())]
    around += [place - RADIUS for place in places.values()]
    corners = np.vstack(around)
    low, high = corners.min(axis=0) - _MARGIN, corners.max(axis=0) + _MARGIN
    return {
        "box": _whole((*low, *(high - low))),
        "nodes": [[*_whole(place), style.NODE_COLOURS[_kind(cell, node)]] for node, place in places.items()],
        "outputs": [[routes[node, output][part] for part in ("line", "head")] for node in cell.outputs],
        "edges": [
            {
                "ends": [edge.source, edge.target],
                "kind": cell.edge_class(number),
                "line": path["line"],
                "head": path["head"],
                "chip": _whole(100 * np.array(chip)),
                "operations": edge.indices,
            }
            for number, (edge, path, chip) in enumerate(zip(cell.edges, own, chips, strict=True))
        ],
    }


def _kind(cell: Cell, node: int) -> str:
    return "output" if node == cell.inputs + cell.nodes else "input" if node < cell.inputs else "intermediate"


def _route(points: np.ndarray) -> dict[str, Any]:
    """A sampled quadratic curve between two nodes as SVG paths: ``line``, arrow ``head``, and its ``points`` outside the
    nodes."""
    start, end = points[0], points[-1]
    control = 2 * points[len(points) // 2] - (start + end) / 2
    t = np.linspace(0, 1, 401)
    curve = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1) @ np.stack([start, control, end])
    outside = (np.hypot(*(curve - start).T) > RADIUS) & (np.hypot(*(curve - end).T) > RADIUS + 2)
    first, last = np.flatnonzero(outside)[[0, -1]]
    a, b = t[first], t[last]
    # The part of a quadratic from a to b is a quadratic again, with this control point (its blossom at a and b).
    bend = (1 - a) * (1 - b) * start + ((1 - a) * b + a * (1 - b)) * control + a * b * end
    tip = curve[last]
    along = (tip - bend) / np.hypot(*(tip - bend))
    across = np.array([-along[1], along[0]])
    base = tip - 14 * along
    return {
        "line": f"M{_at(curve[first])}Q{_at(bend)} {_at(tip - 10 * along)}",
        "head": f"M{_at(tip)}L{_at(base + 7 * across)} {_at(base - 7 * across)}z",
        "points": curve[first : last + 1 : 5],
    }


def _at(point: np.ndarray) -> str:
    return f"{point[0]:.0f} {point[1]:.0f}"


def _whole(values: Iterable[float]) -> list[int]:
    return [round(float(value)) for value in values]


# Small multiples, and the legend of both


def _stills(film: _Film, shape: Mapping[str, Any]) -> str:
    """One method's small multiples: an image that needs neither script nor style sheet."""
    left, top, width, height = shape["box"]
    columns = min(3, len(film.stills))
    rows = -(-len(film.stills) // columns)
    line = 40
    cells = []
    for number, frame in enumerate(film.stills):
        x, y = number % columns * width - left, number // columns * (height + line) + line - top
        label = f"epoch {film.epochs[frame]}: {film.kept[frame]} of {len(film.cell.edges)} edges"
        cells.append(
            f'<g transform="translate({x} {y})"><text x="{left + width // 2}" y="{top - 12}" fill="#000">{label}</text>'
            f"{_wiring(shape, film.probability[frame], film.choice[frame])}</g>"
        )
    title = f"<p><strong>{html.escape(film.title)}</strong></p>" if film.title else ""
    return (
        f'{title}<svg role="img" aria-label="{html.escape(film.words)}" style="{_STILL_SIZE}" fill="none" '
        f'viewBox="0 0 {columns * width} {rows * (height + line)}" text-anchor="middle" font-family="sans-serif" '
        f'font-size="22">{"".join(cells)}</svg>'
    )


def _wiring(shape: Mapping[str, Any], probability: np.ndarray, choice: np.ndarray) -> str:
    """The cell with one likeliest wiring: ``probability`` [E, K], ``choice`` [E]."""
    parts = [
        f'<path d="{line}" stroke="{_OUTPUT_COLOUR}" stroke-width="2"/><path d="{head}" fill="{_OUTPUT_COLOUR}"/>'
        for line, head in shape["outputs"]
    ]
    for edge, best, row in zip(shape["edges"], choice, probability, strict=True):
        faint = ' opacity=".4"' if best == NONE else ""
        dash = ' stroke-dasharray="7 5"' if best == NONE else ""
        width = f"{1 + 7 * (1 - row[NONE]):.1f}"
        parts.append(
            f'<path d="{edge["line"]}" stroke="{_COLOURS[best]}" stroke-width="{width}"{dash}{faint}/>'
            f'<path d="{edge["head"]}" fill="{_COLOURS[best]}"{faint}/>'
        )
    parts.append(f'<g fill="#fff" stroke="#333">{"".join(_sign(edge) for edge in shape["edges"])}</g>')
    parts += [
        f'<circle cx="{x}" cy="{y}" r="{RADIUS:.0f}" fill="{colour}" stroke="#333"/>'
        f'<text x="{x}" y="{y + 8}" fill="#000">{number}</text>'
        for number, (x, y, colour) in enumerate(shape["nodes"])
    ]
    return "".join(parts)


def _sign(edge: Mapping[str, Any]) -> str:
    """The mark of an edge's class, as the legend has it."""
    x, y = edge["chip"]
    return f'<circle cx="{x}" cy="{y}" r="6"/>' if edge["kind"] == "input" else f'<path d="M{x} {y - 8}l8 8-8 8-8-8z"/>'


def _legend(films: Sequence[_Film]) -> str:
    """Colours, lines and signs in words: those that occur in any frame."""
    names = ["dropped (none)", *OPERATIONS[1:], "undecided (a tie)"]
    used = sorted(set().union(*(film.choice.ravel().tolist() for film in films)))
    entries = [_swatch(_COLOURS[best], 5, names[best], faint=best == NONE) for best in used]
    kinds = dict.fromkeys(film.cell.edge_class(edge) for film in films for edge in range(len(film.cell.edges)))
    entries += [f"<li>{style.EDGE_SIGNS[kind]} {kind} edge</li>" for kind in kinds]
    entries += [_swatch(_OUTPUT_COLOUR, 2, "output edge (concatenated)"), "<li>width of an edge: 1 − P(none)</li>"]
    return f'<ul class="player-legend">{"".join(entries)}</ul>'


def _swatch(colour: str, width: int, words: str, *, faint: bool = False) -> str:
    dash = ' stroke-dasharray="7 5"' if faint else ""
    line = f'<path d="M1 6H27" stroke="{colour}" stroke-width="{width}"{dash}/>'
    return f'<li><svg width="28" height="12" aria-hidden="true" style="background:#fff">{line}</svg> {words}</li>'
