"""Cells drawn from their data: the graph itself (Figs 2, 8) and its likeliest wiring over time (Figs 1, 11, 13)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path

from nas_core.derive import surviving
from nas_core.pages import drawing_data, style, summary
from nas_core.pages.figure_data import attach
from nas_core.space import NONE, OPERATIONS, Cell

RADIUS = 0.17
_BENDS = (0.0, 0.08, -0.08, 0.14, -0.14, 0.2, -0.2, 0.27, -0.27, 0.35, -0.35)
_OUTPUT_COLOUR = "#b5b5b5"
# Before training all operations are equally likely: such an edge is there, but has no operation to be coloured by.
_LOOKS: dict[str, dict[str, Any]] = {
    "none": {"color": "#8c8c8c", "linewidth": 1.0, "linestyle": ":", "zorder": 2},
    "tie": {"color": "#555555", "linewidth": 1.6, "linestyle": "-", "zorder": 2},
}
_LOOK_WORDS = {"none": "dropped (none)", "tie": "undecided (a tie)"}


@style.styled
def cell_drawing(cell: Cell, probability: np.ndarray | None = None) -> Figure:
    """Fig 2, or with ``probability`` [E, K] the likeliest wiring of the cell.

    Input and output nodes are blue, intermediate nodes orange. In a wiring the colour of an edge is its likeliest
    operation and its width grows with 1 − P(none); an edge whose likeliest operation is *none* is a thin dotted grey
    line.
    """
    figure = style.new_figure(3.0 if cell.nodes <= 2 else 4.6)
    axes = figure.subplots()
    draw_cell(axes, cell, probability, labels=True)
    figure.legend(handles=legend(cell, [probability]), loc="outside lower center", ncols=4, frameon=False)
    figure.set_label(_cell_words(cell) if probability is None else _wiring_words(cell, probability))
    return figure


@style.styled
def cells(panels: Mapping[str, tuple[Cell, np.ndarray | None]]) -> Figure:
    """Cells side by side, by title: the graph itself, or with a probability ``[E, K]`` its likeliest wiring, as
    :func:`cell_drawing` draws one. Either all panels have a probability or none has."""
    figure = style.new_figure(2.1 if all(cell.inputs == 1 for cell, _ in panels.values()) else 2.9)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (cell, probability)) in zip(row, panels.items(), strict=True):
        draw_cell(axes, cell, probability, labels=True)
        axes.set_title(title, loc="center")
    shown = [probability for _, probability in panels.values()]
    handles = legend(next(iter(panels.values()))[0], shown)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.set_label(" ".join(f"{title}: {_words(*panel)}" for title, panel in panels.items()))
    return figure


def _words(cell: Cell, probability: np.ndarray | None) -> str:
    return _cell_words(cell) if probability is None else _wiring_words(cell, probability)


@style.styled
def wiring_over_time(
    results: Sequence, epochs: Sequence[int] | None = None, seed: int | None = None, group: int = 0
) -> Figure:
    """Figs 1, 11, 13: the likeliest wiring of one run at several epochs (default: six, spread evenly).

    ``seed`` chooses the run (default: the first one given).
    """
    result = _run(results, seed)
    values = np.asarray(result.arrays["probability"])[:, group]
    last = len(values) - 1
    chosen = sorted(set(np.linspace(0, last, 6).round().astype(int))) if epochs is None else list(epochs)
    outside = [epoch for epoch in chosen if not 0 <= epoch <= last]
    if outside or not chosen:
        raise summary.ReadingError(f"epochs is {chosen}; give epochs between 0 and {last}, the last one of this run")
    cell = summary.cell_of(result)
    small = cell.nodes <= 2
    columns = min(3 if small else 2, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = style.new_figure(rows * (1.5 if small else 2.3) + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, epoch in zip(grid, chosen, strict=False):
        draw_cell(axes, cell, values[epoch], labels=False)
        kept = int(surviving(values[epoch]).sum())
        axes.set_title(f"epoch {epoch}: {kept} of {len(cell.edges)} edges", loc="center")
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    shown = [values[epoch] for epoch in chosen]
    figure.legend(handles=legend(cell, shown), loc="outside lower center", ncols=4, frameon=False)
    choices = [[choice(row) for row in frame] for frame in shown]
    attach(figure, drawing_data.wiring(f"seed {result.meta['seed']}", cell, chosen, np.array(shown), choices))
    counts = ", ".join(f"epoch {epoch}: {int(surviving(values[epoch]).sum())}" for epoch in chosen)
    figure.set_label(
        f"Likeliest wiring of the {cell.name} cell over epochs, seed {result.meta['seed']}. "
        f"Edges not dropped, of {len(cell.edges)}: {counts}. At the end {edges_words(cell, values[chosen[-1]])}."
    )
    return figure


def _run(results: Sequence, seed: int | None):
    for result in results:
        if seed is None or result.meta["seed"] == seed:
            return result
    have = ", ".join(map(str, summary.seeds(results))) or "none"
    raise summary.ReadingError(f"no run has the seed {seed}; the seeds here are {have}")


def choice(probability: np.ndarray) -> str:
    """What one edge's ``probability`` [K] favours: an operation, ``"none"``, or ``"tie"`` among several that are not
    *none*."""
    others = np.delete(probability, NONE)
    if not surviving(probability):
        return "none"
    if np.isclose(others, others.max(), rtol=1e-6, atol=0).sum() > 1:
        return "tie"
    return next(
        name for name, value in zip(OPERATIONS, probability, strict=True) if name != "none" and value == others.max()
    )


def positions(cell: Cell) -> dict[int, tuple[float, float]]:
    """Where each node is drawn; the output node is the number after the last intermediate one.

    Inputs stand on the left, one above the other; intermediate nodes follow from left to right, alternately low and
    high, so that an edge does not run through the nodes between its ends; the output is on the right.
    """
    tall = 1.6 if cell.nodes > 2 else 1.0  # more edges need more height to stay apart
    inputs = {0: (0.0, 0.0)} if cell.inputs == 1 else {0: (0.0, 0.75 * tall), 1: (0.0, -0.75 * tall)}
    sway = 0.5 * tall if cell.nodes > 1 else 0.0
    middle = {node: (1.35 * (step + 1), sway if step % 2 else -sway) for step, node in enumerate(cell.intermediate)}
    return inputs | middle | {cell.inputs + cell.nodes: (1.35 * (cell.nodes + 1), 0.0)}


def draw_cell(axes: Axes, cell: Cell, probability: np.ndarray | None, *, labels: bool) -> None:
    """Draw the cell, or with a probability ``[E, K]`` its likeliest wiring, on axes that show nothing else."""
    places = positions(cell)
    output = cell.inputs + cell.nodes
    ways = routes(cell, places)
    for node in cell.outputs:
        _arrow(axes, ways[node, output], color=_OUTPUT_COLOUR, linewidth=1.2, zorder=1)
    paths = [ways[own.source, own.target] for own in cell.edges]
    for edge, path in enumerate(paths):
        _arrow(axes, path, **_edge_style(cell, edge, probability))
    if labels:
        for edge, (x, y) in enumerate(label_places(paths, list(places.values()))):
            sign = style.EDGE_SIGNS[cell.edge_class(edge)]
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            axes.text(x, y, f"{sign} {edge}", ha="center", va="center", fontsize=style.SMALL, bbox=box, zorder=4)
    for node, place in places.items():
        kind = "output" if node == output else "input" if node < cell.inputs else "intermediate"
        axes.add_patch(
            Circle(place, RADIUS, facecolor=style.NODE_COLOURS[kind], edgecolor="#333333", linewidth=0.9, zorder=5)
        )
        axes.text(place[0], place[1], str(node), ha="center", va="center", fontsize=style.SMALL, zorder=6)
    axes.set_xlim(-0.3, places[output][0] + 0.3)
    low, high = _extent([*ways.values(), np.array(list(places.values()))])
    axes.set_ylim(low - 0.25, high + 0.25)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _extent(paths: Sequence[np.ndarray]) -> tuple[float, float]:
    heights = np.concatenate([path[:, 1] for path in paths])
    return float(heights.min()), float(heights.max())


def _edge_style(cell: Cell, edge: int, probability: np.ndarray | None) -> dict:
    if probability is None:
        kind = cell.edge_class(edge)
        return {"color": style.EDGE_SHADES[kind][0], "linewidth": 1.5, "linestyle": style.EDGE_LINES[kind], "zorder": 2}
    best = choice(probability[edge])
    width = 1.0 + 2.5 * (1 - float(probability[edge, NONE]))
    return (
        dict(_LOOKS[best])
        if best in _LOOKS
        else {"color": style.OPERATION_COLOURS[best], "linewidth": width, "zorder": 3}
    )


def _arrow(axes: Axes, path: np.ndarray, **look) -> None:
    head = "-|>,head_length=5,head_width=2.4"
    axes.add_patch(
        FancyArrowPatch(path=Path(_trimmed(path)), arrowstyle=head, mutation_scale=1, capstyle="butt", **look)
    )


def _trimmed(path: np.ndarray) -> np.ndarray:
    """The part of a curve outside the nodes at its ends."""
    outside = (np.hypot(*(path - path[0]).T) > RADIUS) & (np.hypot(*(path - path[-1]).T) > RADIUS + 0.02)
    return path[outside]


def routes(cell: Cell, places: dict[int, tuple[float, float]]) -> dict[tuple[int, int], np.ndarray]:
    """A curve for every edge and output edge, by its ends; short edges choose their way first."""
    output = cell.inputs + cell.nodes
    pairs = [(own.source, own.target) for own in cell.edges] + [(node, output) for node in cell.outputs]
    found: dict[tuple[int, int], np.ndarray] = {}
    for source, target in sorted(pairs, key=lambda pair: np.hypot(*np.subtract(places[pair[0]], places[pair[1]]))):
        others = [place for node, place in places.items() if node not in (source, target)]
        ways = [_curve(places[source], places[target], bend) for bend in _BENDS]
        found[source, target] = max(
            zip(_BENDS, ways, strict=True), key=lambda way: _merit(way[0], way[1], others, list(found.values()))
        )[1]
    return found


def _merit(bend: float, path: np.ndarray, nodes: Sequence, earlier: Sequence[np.ndarray]) -> float:
    """Straight is best, unless the curve would touch a node (never) or run along another edge."""
    nearest = min((np.hypot(*(path - np.array(place)).T).min() for place in nodes), default=np.inf)
    touching = 10.0 if nearest < RADIUS + 0.09 else 0.0
    drawn = np.concatenate([*earlier, np.full((1, 2), np.inf)])
    close = np.hypot(*(path[6:-6, None] - drawn[None]).T).min(axis=0) < 0.13
    return -abs(bend) - touching - 2.0 * float(close.mean())


def _curve(start, end, bend: float, number: int = 61) -> np.ndarray:
    """``[number, 2]``: a quadratic Bézier curve whose control point lies ``bend`` times the length off its middle."""
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    along = end - start
    control = (start + end) / 2 + 2 * bend * np.array([-along[1], along[0]])
    t = np.linspace(0, 1, number)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def label_places(paths: Sequence[np.ndarray], nodes: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """A point on every curve, as far as can be from nodes, other curves and the labels already placed."""
    placed: list[np.ndarray] = []
    for edge, path in enumerate(paths):
        others = [other for index, other in enumerate(paths) if index != edge]
        placed.append(max(path[12:-12], key=functools.partial(_room, nodes=nodes, curves=others, labels=placed)))
    return placed


def _room(point: np.ndarray, nodes: Sequence, curves: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """The distance to what is nearest; a curve counts as farther than it is, for a label may almost touch one."""
    far = [np.hypot(*(point - np.array(node))) - RADIUS for node in nodes]
    far += [0.8 * np.hypot(*(point - label)) for label in labels]
    far += [1.6 * np.hypot(*(curve - point).T).min() for curve in curves]
    return min(far)


def legend(cell: Cell, shown: Sequence[np.ndarray | None]) -> list[Line2D]:
    """What the edges of these drawings mean: their classes, or the operations that are likeliest anywhere."""
    if shown[0] is None:
        kinds = dict.fromkeys(cell.edge_class(edge) for edge in range(len(cell.edges)))
        handles = [
            Line2D([], [], color=style.EDGE_SHADES[kind][0], linestyle=style.EDGE_LINES[kind],
                   label=f"{style.EDGE_SIGNS[kind]} {kind} edge")
            for kind in kinds
        ]  # fmt: skip
    else:
        used = {choice(row) for probability in shown if probability is not None for row in probability}
        handles = [Line2D([], [], label=_LOOK_WORDS[name], **_LOOKS[name]) for name in _LOOKS if name in used]
        handles += style.operation_handles([name for name in OPERATIONS if name in used - set(_LOOKS)])
    return [*handles, Line2D([], [], color=_OUTPUT_COLOUR, linewidth=1.2, label="output edge (concatenated)")]


def _cell_words(cell: Cell) -> str:
    edges = ", ".join(f"{edge} from {own.source} to {own.target}" for edge, own in enumerate(cell.edges))
    middle = [edge for edge in range(len(cell.edges)) if cell.edge_class(edge) == "intermediate"]
    which = f"intermediate: {', '.join(map(str, middle))}" if middle else "there is no intermediate edge"
    return (
        f"The {cell.name} cell: input node{'s' * (cell.inputs > 1)} {_listed(range(cell.inputs))}, "
        f"intermediate nodes {_listed(cell.intermediate)}, output "
        f"node {cell.inputs + cell.nodes} fed by {_listed(cell.outputs)}. Edges: {edges}; {which}."
    )


def _wiring_words(cell: Cell, probability: np.ndarray) -> str:
    return f"Likeliest wiring of the {cell.name} cell: {edges_words(cell, probability)}."


def edges_words(cell: Cell, probability: np.ndarray) -> str:
    best = [choice(row) for row in probability]
    kept = [
        f"{summary.edge_name(cell, edge)} {_LOOK_WORDS.get(name, name)}"
        for edge, name in enumerate(best)
        if name != "none"
    ]
    gone = [f"e{edge}" for edge, name in enumerate(best) if name == "none"]
    return "; ".join(filter(None, [", ".join(kept), f"dropped: {', '.join(gone)}" if gone else "nothing dropped"]))


def _listed(nodes) -> str:
    return ", ".join(map(str, nodes))
