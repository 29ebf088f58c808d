"""The figures of Section 5.3 and Appendix G: pure functions from results, by label of
:data:`nas_core.pages.edge_measures.RECIPES`, to a figure.

An edge keeps its colour in all of them. Lines are means over seeds, bands and bars their 95 % t-intervals. Pass what a
function returns to :func:`nas_core.pages.style.show`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nas_core.lab.ablations import BETWEEN, DIRECT, FIRST
from nas_core.pages import assignment_drawings as assignment
from nas_core.pages import drawing, style, summary
from nas_core.pages import edge_measures as measures
from nas_core.pages.claims import number
from nas_core.pages.style import Pen
from nas_core.space import Cell, modified, simplified

EDGES = (FIRST, DIRECT, BETWEEN)
_TIMES = {"initial": ("#999999", "^"), "training": ("#4477aa", "s"), "end": ("#222222", "o")}
_FED = ("#aa3377", "D")
_LEVELS = ("sampled", "never none", "fixed")


def _said(value: float) -> str:
    """A number in words; in a very short run an operation may never be drawn on both edges."""
    return number(value) if np.isfinite(value) else "not measured"


def _name(edge: tuple[int, int]) -> str:
    return f"({edge[0]},{edge[1]})"


def edge_words(cell: Cell, edge: tuple[int, int]) -> str:
    """An edge as the paper names it, with the sign of its class."""
    return f"{style.EDGE_SIGNS[cell.edge_class(cell.index(edge))]} {_name(edge)}"


def _pens() -> dict[tuple[int, int], Pen]:
    cell = simplified()
    pens = style.edge_pens(cell)
    return {edge: pens[cell.index(edge)] for edge in EDGES}


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=pen.colour, linestyle=pen.line, marker=pen.marker, markersize=4.5,
               label=f"{simplified().edge_class(simplified().index(edge))} edge {_name(edge)}")
        for edge, pen in _pens().items()
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- Fig 8


@style.styled
def two_cells() -> Figure:
    """Fig 8: gradient and cost in (a) the simplified and (b) the modified cell, flowing from the output back."""
    figure = style.new_figure(4.3)
    grid = figure.subplots(2, 2)
    colours = dict(zip(simplified().outputs, assignment.STRANDS, strict=False))
    for row, cell, letter in zip(grid, (simplified(), modified()), "ab", strict=True):
        for axes, words, absorbed in zip(row, ("gradient", "cost"), (False, True), strict=True):
            _backward(axes, cell, colours, absorbed=absorbed)
            axes.set_title(f"({letter}) {cell.name} cell: {words}", loc="center")
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, label=f"through output edge ({node},3)")
        for node, colour in colours.items()
    ]
    stop = Line2D([], [], color="#222222", marker="|", markersize=9, linestyle="", label="absorbed (Thm 1)")
    figure.legend(handles=[*handles, stop], loc="outside lower center", ncols=3, frameon=False)
    told = [f"The {cell.name} cell. {_spoken(cell)}" for cell in (simplified(), modified())]
    figure.set_label(f"Gradient (left) and cost (right) from the output back. {' '.join(told)}")
    return figure


def _backward(axes: Axes, cell: Cell, colours: Mapping[int, str], *, absorbed: bool) -> None:
    """One arrow for every output edge that hands something to an edge; a faint one where nothing arrives."""
    places, output = drawing.positions(cell), cell.inputs + cell.nodes
    routes = drawing.routes(cell, places)
    every = np.concatenate([*routes.values(), np.array(list(places.values()))])
    axes.update_datalim(np.array([every.min(0) - 0.25, every.max(0) + 0.25]))  # patches do not move the limits
    axes.autoscale_view()
    for node in cell.outputs:
        assignment._back(axes, routes[node, output], colours[node])
    for edge, own in enumerate(cell.edges):
        path, sources = routes[own.source, own.target], assignment.reaching(cell, edge, absorbed=absorbed)
        for rank, node in enumerate(sources):
            beside = (rank - (len(sources) - 1) / 2) * assignment._GAP
            assignment._back(axes, assignment._beside(path, beside), colours[node])
        if not sources:
            axes.plot(*assignment._visible(path).T, color="#b5b5b5", linewidth=1.2, linestyle=":")
        if absorbed and cell.edge_class(edge) == "intermediate":
            assignment._bar(axes, path)
    assignment._nodes(axes, cell, places)


def _spoken(cell: Cell) -> str:
    parts = []
    for words, absorbed in (("gradient", False), ("cost", True)):
        reached = [
            f"{_name((own.source, own.target))} from {_through(assignment.reaching(cell, edge, absorbed=absorbed))}"
            for edge, own in enumerate(cell.edges)
        ]
        parts.append(f"{words.capitalize()} reaches {', '.join(reached)}.")
    return " ".join(parts)


def _through(nodes: Sequence[int]) -> str:
    return " and ".join(f"output edge ({node},3)" for node in nodes) or "no output edge"


# ------------------------------------------------------------------------------------------------------- Figs 9, 27, 28


@style.styled
def averages(results: Mapping[str, Sequence]) -> Figure:
    """Figs 9(b), 27 and 28: cost of each edge over epochs, averaged over operations, one panel a setting."""
    groups = summary.panels(results)
    columns = min(len(groups), 3 if len(groups) % 3 == 0 else 2)
    rows = -(-len(groups) // columns)
    figure = style.new_figure(2.1 * rows + 0.7)
    grid = figure.subplots(rows, columns, sharex=True, sharey="row", squeeze=False)
    spoken = []
    for axes, (label, runs) in zip(grid.ravel(), groups.items(), strict=True):
        means = _draw_averages(axes, runs)
        style.zero_line(axes)
        style.tidy(axes, title=_title(label, 26 if columns == 3 else 42))
        spoken.append(f"{label}: {_ends(means)}.")
    for axes in grid[-1]:
        style.tidy(axes, x="epoch", title=axes.get_title(loc="left"))
    for axes in grid[:, 0]:
        axes.set_ylabel("cost, mean over\noperations")
    figure.legend(handles=_handles(), loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(f"Cost of each edge over epochs, averaged over operations. Last epoch: {' '.join(spoken)}")
    return figure


def _title(label: str, width: int) -> str:
    """A setting in words, broken where the panel ends; the label of a control says it all."""
    return "\n".join(textwrap.wrap(heading(label), width))


def heading(label: str) -> str:
    """``27b: (1,2) without convolutions``."""
    return f"{label}: {measures.place(label)}"


def _draw_averages(axes: Axes, runs: Sequence) -> dict[tuple[int, int], float]:
    found, cell = measures.edge_averages(runs), summary.cell_of(runs[0])
    epochs = np.arange(found.shape[1]) + 0.5
    means = {}
    for edge, pen in _pens().items():
        values = found[..., cell.index(edge)]
        style.curve(axes, epochs, values, pen)
        means[edge] = float(summary.band(values)[0][-1])
    return means


def _ends(means: Mapping[tuple[int, int], float]) -> str:
    return ", ".join(f"{_name(edge)} {_said(value)}" for edge, value in means.items())


@style.styled
def together(results: Mapping[str, Sequence]) -> Figure:
    """Fig 9(a): the settings of :func:`averages` in one picture, and beside it what the claim is about, the difference
    between (1,2) and (0,2) of the same operation in each epoch."""
    groups = summary.panels(results)
    figure = style.new_figure(3.6)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    spoken = []
    for label, runs in groups.items():
        means = _draw_averages(left, runs)
        spoken.append(f"{label}: {_ends(means)}")
    for patch in left.collections:  # eighteen bands on top of each other: fainter, each is in Fig 27
        patch.set_alpha(0.05)
    for line in left.lines:
        line.set(linewidth=1.0, markersize=3)
    style.zero_line(left)
    style.tidy(left, x="epoch", y="cost, mean over operations", title="each edge")
    _draw_differences(right, groups)
    figure.legend(handles=_handles(), loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(
        f"Cost of each edge over epochs in {len(groups)} settings; one colour an edge. Last epoch: {'; '.join(spoken)}. "
        "Right: cost of (1,2) minus cost of (0,2)."
    )
    return figure


def _draw_differences(axes: Axes, groups: Mapping[str, Sequence]) -> None:
    """One line a setting."""
    looks = style.SERIES * len(groups)
    for (label, runs), (colour, line, _) in zip(groups.items(), looks, strict=False):
        epochs, values = measures.difference_curve(runs)
        style.curve(axes, epochs, values, Pen(colour, line, label=label, width=1.3))
    for patch in axes.collections:
        patch.set_alpha(0.06)
    style.zero_line(axes)
    style.tidy(axes, x="epoch", y="cost (1,2) − cost (0,2)", title="same operation")
    axes.legend(fontsize=style.SMALL, frameon=False, ncols=2, loc="best")


# ------------------------------------------------------------------------------------------------- differences, factors


@style.styled
def forest(results: Mapping[str, Sequence]) -> Figure:
    """Cost of (1,2) minus that of (0,2), same operation: one row a setting, before, over and after training."""
    groups = summary.panels(results)
    figure = style.new_figure(0.38 * len(groups) + 1.2)
    axes = figure.subplots()
    spoken = []
    for row, (label, runs) in enumerate(groups.items()):
        for place, (when, (colour, marker)) in enumerate(_TIMES.items()):
            _bar(axes, row + 0.2 * (place - 1.5), measures.differences(runs, when), colour, marker)
        _bar(axes, row + 0.3, measures.differences(runs, "end", fed=True), *_FED)
        spoken.append(f"{label} {_said(summary.interval(measures.differences(runs, 'end'))[0])}")
    style.zero_line(axes, vertical=True)
    style.tidy(axes, x="cost (1,2) − cost (0,2), same operation")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_yticks(range(len(groups)), [heading(label) for label in groups])
    axes.invert_yaxis()
    names = [measures.WHEN_WORDS[when] for when in _TIMES] + ["at the end, fed samples"]
    looks = [*_TIMES.values(), _FED]
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=w) for w, (c, m) in zip(names, looks, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    figure.set_label(
        f"Cost of edge (1,2) minus cost of edge (0,2), one row a setting. At the end: {', '.join(spoken)}."
    )
    return figure


def _bar(axes: Axes, y: float, values: np.ndarray, colour: str, marker: str) -> None:
    mean, low, high = summary.interval(values)
    if np.isfinite(low):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.3)
    axes.plot([mean], [y], color=colour, marker=marker, markersize=4.5, linestyle="")


@style.styled
def factors(results: Mapping[str, Sequence]) -> Figure:
    """The two factors of Appendix G crossed: difference at the end against what happens on (0,1), one line with the
    output edge (1,3) and one without."""
    figure = style.new_figure(3.2)
    axes = figure.subplots()
    spoken = []
    for (kept, line, marker), shift in zip((("kept", "-", "o"), ("removed", "--", "s")), (-0.03, 0.03), strict=True):
        values = np.array([measures.differences(results[measures.FACTORS[kept, own]], "end") for own in _LEVELS])
        mean, low, high = summary.band(values.T)
        x = np.arange(len(_LEVELS)) + shift
        colour = "#222222" if kept == "kept" else "#aa3377"
        axes.plot(x, mean, color=colour, linestyle=line, marker=marker, label=f"output edge (1,3) {kept}")
        low, high = (np.where(np.isnan(bound), mean, bound) for bound in (low, high))
        axes.vlines(x, low, high, color=colour, linewidth=1.3)
        spoken.append(f"with (1,3) {kept}: {', '.join(map(_said, mean))}")
    style.zero_line(axes)
    axes.set_xticks(range(len(_LEVELS)), [f"(0,1) {own}" for own in _LEVELS])
    style.tidy(axes, y="cost (1,2) − cost (0,2)\nat the end")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(f"Difference between (1,2) and (0,2) for (0,1) sampled, never none, fixed: {'; '.join(spoken)}.")
    return figure


@style.styled
def response(results: Mapping[str, Sequence]) -> Figure:
    """Dose and response: difference at the end against how often training reaches (1,2), relative to (0,2), and against
    how often it reaches one way through (0,1) and (1,2)."""
    found = measures.responses(results)
    figure = style.new_figure(7.0)
    row = figure.subplots(2, 1, sharex=True)
    for axes, which, title in zip(row, ("lead", "path_lead"), ("the edge (1,2)", "one way 0-1-2"), strict=True):
        for label, (dose, values) in found.items():
            _point(axes, getattr(dose, which), values, label)
        style.zero_line(axes)
        style.zero_line(axes, vertical=True)
        below = "log₂ of updates, relative to (0,2)" if axes is row[-1] else ""
        style.tidy(axes, x=below, y="cost (1,2) − cost (0,2),\nconvolutions, fed samples", title=title)
        axes.set_xlim(-5.6, 2.9)
        axes.set_xticks(range(-3, 2))
    handles = [
        Line2D([], [], color="#222222", marker=marker, markerfacecolor=face, linestyle="", label=words)
        for words, (marker, face) in _SETTING_MARKERS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    figure.draw_without_rendering()  # where labels have room depends on the final limits
    for axes, which in zip(row, ("lead", "path_lead"), strict=True):
        _name_points(axes, {label: (getattr(dose, which), values) for label, (dose, values) in found.items()})
    words = [
        f"{label} at {number(dose.lead)} and {number(dose.path_lead)}: {_said(summary.interval(values)[0])}"
        for label, (dose, values) in found.items()
    ]
    figure.set_label(
        "Difference in cost by setting, against log₂ of the update shares of edge (1,2) (above) and of one way through it "
        f"(below), relative to (0,2): {'; '.join(words)}."
    )
    return figure


_SETTING_MARKERS = {
    "simplified cell, Fig 27": ("o", "#222222"),
    "simplified cell, controls": ("o", "white"),
    "modified cell, Fig 28": ("s", "#999999"),
}


def _point(axes: Axes, x: float, values: np.ndarray, label: str) -> None:
    own = measures.SETTINGS[label]
    kind = 2 if not own.has_output_edge else 0 if own.figure else 1
    marker, face = list(_SETTING_MARKERS.values())[kind]
    mean, low, high = summary.interval(values)
    if np.isfinite(low):
        axes.plot([x, x], [low, high], color="#222222", linewidth=1.0)
    axes.plot([x], [mean], marker=marker, color="#222222", markerfacecolor=face, linestyle="")


def _name_points(axes: Axes, points: Mapping[str, tuple[float, np.ndarray]]) -> None:
    """Names in two columns, for lags of a whole octave left of the points and for the others right of them."""
    low, high = axes.get_ylim()
    room = (high - low) * 1.15 * style.SMALL / 72 / (axes.get_window_extent().height / axes.figure.dpi)
    for is_left, x, side in ((True, -3.5, "right"), (False, 1.0, "left")):
        means = {label: summary.interval(v)[0] for label, (lead, v) in points.items() if (lead < -1) == is_left}
        labels = sorted((label for label in means if np.isfinite(means[label])), key=means.__getitem__)
        for label, y in zip(labels, style.spread([means[label] for label in labels], room), strict=True):
            axes.annotate(
                label, (points[label][0], means[label]), xytext=(x, y), ha=side, va="center",
                fontsize=style.SMALL, zorder=4,
                arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": "#777777", "relpos": (is_left, 0.5), "zorder": 1},
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
