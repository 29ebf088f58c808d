"""Cost assignment drawn from the cell (Figs 5, 6), and the layers that Appendices D and F speak of (Figs 18, 20).

Pass what a function returns to :func:`nas_core.pages.style.show`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import nn

from nas_core import theory
from nas_core.operations import Norm
from nas_core.pages import drawing, drawing_data, style, summary
from nas_core.pages.figure_data import attach
from nas_core.space import Cell

STRANDS = ("#332288", "#cc3311", "#117733", "#aa3377", "#bb8800")
"""One colour an output edge: cost and gradient wear the colour of the output edge that they entered the cell by."""
_GAP = 0.075
NAMES = ("second-last cell", "last cell")
TALL = 2.0
"""How far two cells beside each other are pulled apart in height, so that numbers find room on their edges."""
_HEAD = "-|>,head_length=5,head_width=2.2"

# ------------------------------------------------------------------------------------------------- cost assignment drawn


def reaching(cell: Cell, edge: int, *, absorbed: bool) -> tuple[int, ...]:
    """The nodes whose output edge hands something back to ``edge``: every one on a path from the edge to the output
    (Fig 5a), or with ``absorbed`` the edge's own target alone (Fig 5b)."""
    target = cell.edges[edge].target
    found = {target} & set(cell.outputs)
    if not absorbed:
        for behind in cell.outgoing(target):
            found |= set(reaching(cell, behind, absorbed=False))
    return tuple(sorted(found))


@style.styled
def gradient_and_cost(cell: Cell) -> Figure:
    """Fig 5: (a) which output edges' gradient reaches an edge, (b) which output edges' cost does, by Theorem 1."""
    figure = style.new_figure(2.5 if cell.nodes <= 2 else 3.6)
    row = figure.subplots(1, 2)
    titles = ("(a) gradient back-propagation", "(b) cost assignment")
    for axes, title, absorbed in zip(row, titles, (False, True), strict=True):
        _strands(axes, cell, absorbed=absorbed)
        axes.set_title(title, loc="center")
    figure.legend(handles=_strand_handles(cell), loc="outside lower center", ncols=3, frameon=False)
    differing = [e for e in range(len(cell.edges)) if len(reaching(cell, e, absorbed=False)) > 1]
    edges = ", ".join(summary.edge_name(cell, edge) for edge in differing)
    figure.set_label(
        f"The {cell.name} cell twice, arrows from the output back. Left, the gradient: {edges} get strands from several "
        "output edges. Right, the cost: every edge has one strand, from the output edge of its own target; at the source "
        "of an intermediate edge a bar stops it."
    )
    return figure


def _strand_handles(cell: Cell) -> list[Line2D]:
    output = cell.inputs + cell.nodes
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, label=f"through output edge ({node}, {output})")
        for node, colour in zip(cell.outputs, STRANDS, strict=False)
    ]
    return [*handles, Line2D([], [], color="#222222", marker="|", markersize=9, linestyle="", label="absorbed (Thm 1)")]


def _placed(cell: Cell, across: float, tall: float) -> dict[int, tuple[float, float]]:
    """The cell's nodes, moved to the right and pulled apart in height."""
    return {node: (x + across, tall * y) for node, (x, y) in drawing.positions(cell).items()}


def _strands(axes: Axes, cell: Cell, *, absorbed: bool, across: float = 0.0, tall: float = 1.0) -> None:
    """The cell with one backward arrow an edge and output edge that reaches it."""
    places = _placed(cell, across, tall)
    output, colours = cell.inputs + cell.nodes, dict(zip(cell.outputs, STRANDS, strict=False))
    routes = drawing.routes(cell, places)
    every = np.concatenate([*routes.values(), np.array(list(places.values()))])
    # Patches do not move the limits by themselves; two cells in one picture widen them twice.
    axes.update_datalim(np.array([every.min(0) - 0.3, every.max(0) + 0.3]))
    axes.autoscale_view()
    for node in cell.outputs:
        _back(axes, routes[node, output], colours[node])
    for edge, own in enumerate(cell.edges):
        sources = reaching(cell, edge, absorbed=absorbed)
        for rank, node in enumerate(sources):
            beside = (rank - (len(sources) - 1) / 2) * _GAP
            _back(axes, _beside(routes[own.source, own.target], beside), colours[node])
        if absorbed and cell.edge_class(edge) == "intermediate":
            _bar(axes, routes[own.source, own.target])
    _nodes(axes, cell, places)


def _nodes(axes: Axes, cell: Cell, places: Mapping[int, tuple[float, float]]) -> None:
    output = cell.inputs + cell.nodes
    for node, place in places.items():
        kind = "output" if node == output else "input" if node < cell.inputs else "intermediate"
        face = style.NODE_COLOURS[kind]
        axes.add_patch(Circle(place, drawing.RADIUS, facecolor=face, edgecolor="#333333", linewidth=0.9, zorder=5))
        axes.text(*place, str(node), ha="center", va="center", fontsize=style.SMALL, zorder=6)
    axes.margins(0)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _beside(path: np.ndarray, distance: float) -> np.ndarray:
    along = np.gradient(path, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(*along.T)[:, None]
    return path + distance * normal


def _visible(path: np.ndarray) -> np.ndarray:
    ends = np.array([path[0], path[-1]])
    far = np.hypot(*(path[:, None] - ends[None]).transpose(2, 0, 1)) > drawing.RADIUS + 0.02
    return path[far.all(axis=1)]


def _back(axes: Axes, path: np.ndarray, colour: str) -> None:
    look: dict[str, Any] = {"arrowstyle": _HEAD, "mutation_scale": 1, "capstyle": "butt"}
    axes.add_patch(FancyArrowPatch(path=Path(_visible(path)[::-1]), color=colour, linewidth=1.5, zorder=3, **look))


def _bar(axes: Axes, path: np.ndarray) -> None:
    """A bar across the path before it reaches its source, clear of the arrow's head: no cost gets past it."""
    seen = _visible(path)
    place = len(seen) // 8
    point, along = seen[place], seen[place + 1] - seen[place]
    across = 0.13 * np.array([-along[1], along[0]]) / np.hypot(*along)
    axes.plot(*zip(point - across, point + across, strict=True), color="#222222", linewidth=2.4, zorder=4.6)


@style.styled
def two_cells(seen: theory.Trace) -> Figure:
    """Fig 6: the last two cells with the measured cost Σ_k Z·C of every edge, its sum in each, and where it enters."""
    cell = seen.network.config.cell
    figure = style.new_figure(3.4)
    axes = figure.subplots()
    width, output = 1.35 * (cell.nodes + 1), cell.inputs + cell.nodes
    shifts = (0.0, width + 1.15)
    costs = (seen.z * seen.cost).sum(-1).numpy()[-2:]
    for shift, cost in zip(shifts, costs, strict=True):
        _strands(axes, cell, absorbed=True, across=shift, tall=TALL)
        _values(axes, cell, cost, shift)
    _link(axes, _placed(cell, shifts[1], TALL)[cell.inputs - 1], (width, 0.0))
    end = shifts[1] + width
    _link(axes, (end + 0.9, 0.0), (end, 0.0))
    axes.text(end + 0.9, 0.0, " L − H", va="center", fontsize=style.FONT)
    axes.set_xlim(-0.35, end + 1.65)
    for shift, cost, name in zip(shifts, costs, NAMES, strict=True):
        total = (f"{cost.sum():+.4f}" if abs(cost.sum()) > 5e-5 else f"{cost.sum():+.0e}").replace("-", "−")
        axes.text(shift + width / 2, 0.75 * TALL + 0.5, f"{name}: Σ C = {total}", ha="center", fontsize=style.FONT)
    axes.set_ylim(-0.75 * TALL - 0.3, 0.75 * TALL + 0.8)
    figure.legend(handles=_strand_handles(cell), loc="outside lower center", ncols=3, frameon=False)
    attach(
        figure,
        drawing_data.joined([drawing_data.edge_costs(*own) for own in zip(NAMES, (cell, cell), costs, strict=True)]),
    )
    words = [", ".join(f"{summary.edge_name(cell, e)} {value:+.4f}" for e, value in enumerate(row)) for row in costs]
    figure.set_label(
        f"The last two cells, costs flowing from the output back. Second-last cell: {words[0]}, sum {costs[0].sum():+.4f}. "
        f"Last cell: {words[1]}, sum {costs[1].sum():+.4f}. Output node {output} of the second-last cell is input node "
        f"{cell.inputs - 1} of the last."
    )
    return figure


def _link(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look: dict[str, Any] = {"arrowstyle": _HEAD, "mutation_scale": 1, "linestyle": ":"}
    axes.add_patch(FancyArrowPatch(start, end, color="#555555", shrinkA=13, shrinkB=13, linewidth=1.4, **look))


def _values(axes: Axes, cell: Cell, cost: np.ndarray, across: float) -> None:
    places = _placed(cell, across, TALL)
    routes = drawing.routes(cell, places)
    paths = [routes[own.source, own.target] for own in cell.edges]
    # A number is wider than high: what is beside it counts as nearer than what is above or below.
    narrow = np.array([0.4, 1.0])
    found = drawing.label_places(
        [path * narrow for path in paths], [tuple(np.array(place) * narrow) for place in places.values()]
    )
    for path, (x, y), value in zip(paths, (place / narrow for place in found), cost, strict=True):
        steep, flat = np.abs(path[-1] - path[0])[::-1]
        if steep < flat:  # it would cover a flat arrow: it stands outside of it
            y += 0.24 * np.sign(y)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        text = f"{value:+.3f}".replace("-", "−")
        axes.text(x, y, text, ha="center", va="center", fontsize=style.SMALL, bbox=box, zorder=4.5)


# -------------------------------------------------------------------------------------------------------------- diagrams

_BOX_WORDS = {
    "ReLU": "ReLU", "Conv2d": "Conv", "MaxPool2d": "max pool", "AvgPool2d": "average pool", "Norm": "BN",
}  # fmt: skip


def _box_words(layer: nn.Module) -> str:
    """What stands in the box of a layer; a convolution says its filter."""
    name = _BOX_WORDS[type(layer).__name__]
    return f"{name}\n{layer.kernel_size[0]}×{layer.kernel_size[1]}" if isinstance(layer, nn.Conv2d) else name


@style.styled
def operation_stack(module: nn.Module, source: str, target: str) -> Figure:
    """Fig 18: the layers of an operation up to its first normalisation, with the tensors of the proof between them."""
    plain = [part for part in module.modules() if not isinstance(part, nn.Sequential | nn.ModuleList)]
    layers = plain[: 1 + next(place for place, part in enumerate(plain) if isinstance(part, Norm))]
    between = [source, *("v" if place == 0 and len(layers) > 2 else "" for place in range(len(layers) - 1)), target]
    between[-2] = "X"
    words = [_box_words(layer) for layer in layers]
    figure = _chain(words, between, degrees=["degree 1"] * (len(layers) - 1) + ["degree 0"])
    figure.set_label(f"From {source} to {target}: {', then '.join(word.replace(chr(10), ' ') for word in words)}.")
    return figure


@style.styled
def head_drawing(seen: theory.Trace) -> Figure:
    """Fig 20: what happens between the output node of the last cell and the loss, with the shapes of this network."""
    classes, features = seen.network.head.weight.shape
    node = seen.network.config.cell.inputs + seen.network.config.cell.nodes
    side = seen.cells[-1].nodes[-1].shape[-1]
    words = ["average\npooling", f"linear\n{features} → {classes}", "softmax,\ncross entropy"]
    between = [f"X{node}\n{features}×{side}×{side}", f"Xp\n{features}", f"Y\n{classes}", "L"]
    bias = "degree 1" if seen.network.head.bias is None else "degree 1, + b"
    figure = _chain(words, between, degrees=["degree 1", bias, ""])
    figure.set_label(
        f"Output node {node} with {features} channels of {side} by {side} pixels, average pooling to {features} features, "
        f"linear layer to {classes} logits, softmax and cross entropy."
    )
    return figure


def _chain(boxes: Sequence[str], between: Sequence[str], degrees: Sequence[str]) -> Figure:
    """Boxes in a row with arrows between them; names of tensors above the arrows, degrees of homogeneity below."""
    figure = style.new_figure(1.45)
    axes = figure.subplots()
    head = "-|>,head_length=5,head_width=2.4"
    look: dict[str, Any] = {"arrowstyle": head, "mutation_scale": 1, "color": "#333333", "linewidth": 1.2}
    step, width = 2.1, 1.15
    for place, (word, degree) in enumerate(zip(boxes, degrees, strict=True)):
        x = step * place
        face = "#fbd0a0" if degree == "degree 0" else "#e7eef5"
        axes.add_patch(FancyBboxPatch((x, -0.32), width, 0.64, "round,pad=0.04", facecolor=face, edgecolor="#333333"))
        axes.text(x + width / 2, 0, word, ha="center", va="center", fontsize=style.SMALL)
        axes.text(x + width / 2, -0.62, degree, ha="center", va="center", fontsize=style.SMALL - 1, color="#555555")
    for place, name in enumerate(between):
        start, end = step * place - (step - width) + 0.06, step * place - 0.06
        axes.add_patch(FancyArrowPatch((start, 0), (end, 0), **look))
        axes.text((start + end) / 2, 0.12, name, ha="center", va="bottom", fontsize=style.SMALL)
    axes.set_xlim(-(step - width) - 0.15, step * len(boxes) + 0.15)
    axes.set_ylim(-0.8, 0.75)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure
