"""Figures of the book that are curves, maps and scatters: pure functions from results to a figure.

``results`` is a list of runs of one configuration that differ in the seed, or a dict of such lists by title, which
become panels (or, where said, series). Every curve is the mean over seeds with the t-interval of that mean as its band.
Pass what a function returns to :func:`nas_core.pages.style.show`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from nas_core.pages import style, summary
from nas_core.pages.style import Pen, show
from nas_core.space import NONE, OPERATIONS

__all__ = [
    "accuracy",
    "cost_against_gap",
    "cost_per_edge",
    "heat_map",
    "loss_entropy_cost",
    "probability",
    "show",
    "survivors",
]

_SOURCE_WORDS = {"search": "as the steps of α saw it", "train": "on training images", "held_out": "on held-out images"}
_NO_HELD_OUT = "these runs have\nno held-out images"


@style.styled
def cost_per_edge(
    results: Sequence | Mapping[str, Sequence], source: str = "search", cell: int = -1, group: int = 0
) -> Figure:
    """Fig 10(a): each edge's cost over epochs, one line an edge, panels side by side for a dict of results.

    ``source``: ``"search"`` is what the steps of α saw, ``"train"`` and ``"held_out"`` the evaluations; see
    :func:`nas_core.pages.summary.edge_cost`.
    """
    groups = summary.panels(results)
    edges = len(summary.cell_of(summary.flat(results)[0]).edges)
    figure = style.new_figure(max(3.5, 1.3 + 0.19 * edges))  # every edge's label needs a line of its own
    row = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    spoken = []
    for axes, (title, group_results) in zip(row, groups.items(), strict=True):
        own = summary.cell_of(group_results[0])
        epochs, cost = summary.edge_cost(group_results, source, cell, group)
        for edge, pen in enumerate(style.edge_pens(own)):
            style.curve(axes, epochs, cost[..., edge], pen)
        style.zero_line(axes)
        axes.set_xlim(epochs[0] - 0.03 * epochs[-1], epochs[-1])
        style.tidy(axes, x="epoch", title=title)
        if not np.isfinite(cost).any():
            style.say_empty(axes, _NO_HELD_OUT)
        spoken.append(_speak(title, own, summary.band(cost)[0][-1]))
    row[0].set_ylabel("cost per edge  Σ Z·∂L/∂Z")
    own = summary.cell_of(summary.flat(results)[0])
    figure.legend(handles=style.class_handles(own), loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(f"Cost of each edge over epochs, {_SOURCE_WORDS[source]}, with a zero line. {' '.join(spoken)}")
    _label_edges(figure, row, groups, source, cell, group)
    return figure


def _label_edges(figure: Figure, row, groups: Mapping[str, list], source: str, cell: int, group: int) -> None:
    """Name each curve at its right end: needs the final limits, hence a layout first."""
    figure.draw_without_rendering()
    for axes, group_results in zip(row, groups.values(), strict=True):
        own = summary.cell_of(group_results[0])
        epochs, cost = summary.edge_cost(group_results, source, cell, group)
        ends = summary.band(cost)[0][-1]
        labels = [
            (ends[edge], summary.edge_name(own, edge), pen.colour) for edge, pen in enumerate(style.edge_pens(own))
        ]
        style.end_labels(axes, epochs[-1], labels)


def _speak(title: str, cell, ends: np.ndarray) -> str:
    """The last values in words, for the alternative text."""
    if not np.isfinite(ends).any():
        return f"{title + ': ' if title else ''}no held-out images."
    prefix = f"{title}: " if title else ""
    if len(ends) > 6:  # nobody listens to fourteen numbers
        top, bottom = int(np.nanargmax(ends)), int(np.nanargmin(ends))
        return (
            f"{prefix}at the end {int((ends > 0).sum())} of {len(ends)} edges are above zero, the highest is "
            f"{summary.edge_name(cell, top)} {ends[top]:+.3g}, "
            f"the lowest {summary.edge_name(cell, bottom)} {ends[bottom]:+.3g}."
        )
    words = ", ".join(f"{summary.edge_name(cell, edge)} {value:+.3g}" for edge, value in enumerate(ends))
    return f"{prefix}last values: {words}."


@style.styled
def loss_entropy_cost(
    results: Sequence,
    sets: str | Sequence[str] = ("train", "held_out"),
    split: str | None | Sequence[str | None] = None,
) -> Figure:
    """Figs 10(b), 22, 23, 25, 26: L and H above, C = L − H below, over epochs, on one or both sets.

    ``split`` is ``None`` (all images), ``"correct"``, ``"wrong"``, or a sequence of these, one column each.
    """
    names = (sets,) if isinstance(sets, str) else tuple(sets)
    columns = (split,) if split is None or isinstance(split, str) else tuple(split)
    figure = style.new_figure(4.8)
    # Two panels, not the paper's second axis: there C is magnified and its zero lies wherever the axes happen to put
    # it, while the sign of C is the whole point; stacked panels share the epochs and give C a zero line of its own.
    grid = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    epochs = summary.evaluated(results)
    spoken = []
    for (above, below), part in zip(grid.T, columns, strict=True):
        for which in names:
            loss, entropy = summary.loss_and_entropy(results, which, part)
            words = f", {summary.SET_WORDS[which]}"
            line = style.SET_LINES[which]
            style.curve(above, epochs, loss, Pen(style.QUANTITY_COLOURS["loss"], line, label="L" + words))
            style.curve(above, epochs, entropy, Pen(style.QUANTITY_COLOURS["entropy"], line, label="H" + words))
            style.curve(below, epochs, loss - entropy, Pen(style.QUANTITY_COLOURS["cost"], line, label="C" + words))
            spoken.append(_speak_cost(which, part, loss, entropy))
        if not above.lines:
            style.say_empty(above, _NO_HELD_OUT)
        title = "images " + summary.SPLIT_WORDS[part] if part else ("all images" if len(columns) > 1 else "")
        style.tidy(above, title=title)
        style.tidy(below, x="epoch")
        style.zero_line(below)
    grid[0, 0].set_ylabel("loss L, entropy H (nats)")
    grid[1, 0].set_ylabel("cost C = L − H")
    grid[0, 0].set_ylim(bottom=max(0.0, grid[0, 0].get_ylim()[0]))  # L and H are never negative
    handles = [handle for axes in grid[:, 0] for handle in axes.get_legend_handles_labels()[0]]
    if handles:  # one column a quantity, one row a set
        handles.sort(key=lambda handle: "LHC".index(handle.get_label()[0]))
        figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(
        f"Loss L and entropy H (upper panel) and cost C = L − H (lower panel) over epochs. {' '.join(spoken)}"
    )
    return figure


def _speak_cost(which: str, part: str | None, loss: np.ndarray, entropy: np.ndarray) -> str:
    where = summary.SET_WORDS[which] + (f" {summary.SPLIT_WORDS[part]}" if part else "")
    cost = summary.band(loss - entropy)[0]
    if not np.isfinite(cost[-1]):
        return f"On {where}: no value at the end."
    last = [summary.band(values)[0][-1] for values in (loss, entropy)]
    ends = f"with L {last[0]:.2f} and H {last[1]:.2f} at the end"
    return f"On {where} C goes from {cost[0]:+.2f} to {cost[-1]:+.2f}, {ends}."


@style.styled
def probability(results: Sequence, group: int = 0) -> Figure:
    """Figs 3, 12, 14: the probability of each operation over epochs, one panel an edge."""
    cell = summary.cell_of(results[0])
    values = summary.stack(results, "probability")[:, :, group]
    epochs = np.arange(values.shape[1])
    columns = 3 if len(cell.edges) <= 8 else 4
    rows = -(-len(cell.edges) // columns)
    figure = style.new_figure(1.75 * rows + 0.9)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for edge, axes in enumerate(grid[: len(cell.edges)]):
        kind = cell.edge_class(edge)
        for name in cell.edges[edge].operations:
            # The title says the class: solid lines without markers leave eight curves readable.
            pen = Pen(style.OPERATION_COLOURS[name], width=2.6 if name == "none" else 1.5)
            style.curve(axes, epochs, values[..., edge, OPERATIONS.index(name)], pen, within=(0, 1))
        style.tidy(axes, title=_edge_title(cell, edge, kind if columns == 3 else ""))
        axes.tick_params(labelbottom=edge + columns >= len(cell.edges))
    for axes in grid[len(cell.edges) :]:
        axes.set_axis_off()
    # Where no probability rises, a scale up to 1 would show eight lines as one.
    most = min(1.0, 1.2 * float(np.nanmax(np.stack(summary.band(values)))))
    grid[0].set_ylim(-0.02 * most, 1.02 * most)
    figure.supxlabel("epoch", fontsize=style.FONT)
    figure.supylabel("P(operation)", fontsize=style.FONT)
    used = [name for name in OPERATIONS if any(name in edge.operations for edge in cell.edges)]
    figure.legend(handles=style.operation_handles(used), loc="outside upper center", ncols=4, frameon=False)
    ends = [_likeliest_words(cell, edge, summary.band(values)[0][-1, edge]) for edge in range(len(cell.edges))]
    figure.set_label(
        f"Probability of each operation over epochs, one panel an edge. Likeliest at the end: {', '.join(ends)}."
    )
    return figure


def _edge_title(cell, edge: int, kind: str) -> str:
    own = cell.edges[edge]
    sign = style.EDGE_SIGNS[cell.edge_class(edge)]
    return f"{sign} edge {edge} ({own.source}→{own.target}) {kind}".rstrip()


def _likeliest_words(cell, edge: int, probability: np.ndarray) -> str:
    best = int(np.argmax(probability))
    return f"{summary.edge_name(cell, edge)} {OPERATIONS[best]} {probability[best]:.2f}"


@style.styled
def heat_map(
    results: Sequence | Mapping[str, Sequence], which: str = "statistics", cell: int = -1, evaluation: int = -1
) -> Figure:
    """Fig 4: the mean cost of every operation on every edge of one cell, and its standard error; a dict of results gives
    one map below the other.

    ``which``: ``"statistics"`` (sampled after training with θ and α fixed), ``"train"`` or ``"held_out"`` (the
    evaluation at index ``evaluation``). Values stand in parentheses unless their t-interval leaves out 0: that over seeds,
    or with one run that over its batches.
    """
    groups = summary.panels(results)
    edges = len(summary.cell_of(summary.flat(results)[0]).edges)
    figure, rows = new_maps(len(groups), edges)
    spoken = []
    for axes, (title, group_results) in zip(rows, groups.items(), strict=True):
        found = _map_values(group_results, which, cell, evaluation)
        draw_map(figure, axes, summary.cell_of(group_results[0]), found)
        axes.set_title(title, loc="left")
        others = np.delete(found.mean, NONE, axis=1)
        positive, known = int((others > 0).sum()), int(np.isfinite(others).sum())
        open_ = known - int(np.delete(found.shown, NONE, axis=1).sum())
        spoken.append(
            f"{title + ': ' if title else ''}{positive} of {known} values other than none are positive, {open_} have an interval that "
            "includes 0."
        )
    figure.set_label(f"Mean cost of each operation (columns) on each edge (rows). {' '.join(spoken)}")
    return figure


def new_maps(count: int, edges: int) -> tuple[Figure, np.ndarray]:
    """A figure of so many maps below each other, and their axes, with room for two lines of numbers in every cell."""
    figure = style.new_figure(count * (0.44 * edges + 0.55) + 0.9)
    rows = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    rows[-1].set_xticks(range(len(OPERATIONS)), OPERATIONS, rotation=25, ha="right", rotation_mode="anchor")
    return figure, rows


def _map_values(results: Sequence, which: str, cell: int, evaluation: int) -> summary.Estimates:
    """``[E, K]`` each."""
    if which == "statistics":
        return summary.Estimates(*(own[cell] for own in summary.statistics(results)))
    place = (slice(None), evaluation, summary.choose("which", which, ("train", "held_out")), cell)
    return summary.estimates(*(summary.stack(results, f"cost_{name}")[place] for name in ("mean", "variance", "count")))


def draw_map(figure: Figure, axes, cell, found: summary.Estimates) -> None:
    """One map ``[E, K]``: colours around 0, and in every cell the mean with its standard error below it."""
    finite = np.abs(found.mean[np.isfinite(found.mean)])
    largest = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    # One power of ten for the whole map keeps every number short enough for its cell.
    exponent = int(np.floor(np.log10(largest)))
    scaled, limit = np.ma.masked_invalid(found.mean / 10.0**exponent), largest / 10.0**exponent
    colours = matplotlib.colormaps["PuOr_r"].with_extremes(bad="#eeeeee")
    image = axes.imshow(scaled, cmap=colours, norm=TwoSlopeNorm(0, -limit, limit), aspect="auto")
    for edge, operation in np.ndindex(found.mean.shape):
        mean, error, shown = (own[edge, operation] for own in found)
        dark = np.isfinite(mean) and style.is_dark(image.cmap(image.norm(mean / 10.0**exponent)))
        axes.text(
            operation, edge, _map_text(float(mean), float(error), bool(shown), exponent), ha="center", va="center",
            fontsize=style.SMALL, color="white" if dark else "black",
        )  # fmt: skip
    labels = [
        f"{summary.edge_name(cell, edge)} {style.EDGE_SIGNS[cell.edge_class(edge)]}" for edge in range(len(cell.edges))
    ]
    axes.set_yticks(range(len(cell.edges)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=_power_label(exponent), pad=0.015, aspect=12)


def _power_label(exponent: int) -> str:
    digits = str(exponent).replace("-", "⁻").translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "cost" if exponent == 0 else f"cost in 10{digits}"


def _map_text(mean: float, error: float, shown: bool, exponent: int) -> str:
    if not np.isfinite(mean):
        return "–"
    if mean == 0:
        return "0"
    text = f"{mean / 10.0**exponent:.2f}".replace("-", "−")
    text = "0.00" if text == "−0.00" else text
    spread = f"\n±{error / 10.0**exponent:.2f}" if np.isfinite(error) else ""
    return (text if shown else f"({text})") + spread


@style.styled
def survivors(results: Mapping[str, Sequence]) -> Figure:
    """P1, P3: how many edges have a likeliest operation other than *none*, over epochs, one series an experiment."""
    groups = summary.panels(results)
    figure = style.new_figure(3.4)
    axes = figure.subplots()
    edges, spoken = 0, []
    for (title, group_results), (colour, line, marker) in zip(groups.items(), _series(groups), strict=True):
        alive = summary.survivors(group_results)
        edges = max(edges, alive.shape[-1])
        counts = alive.sum(axis=-1)
        pen = Pen(colour, line, marker, 1.9, title or "runs")
        style.curve(axes, np.arange(counts.shape[1]), counts, pen, within=(0, alive.shape[-1]))
        spoken.append(f"{title or 'runs'} from {counts[:, 0].mean():.1f} to {counts[:, -1].mean():.1f}")
    style.tidy(axes, x="epoch", y=f"edges not dropped (of {edges})")
    axes.set_ylim(-0.15, edges + 0.15)
    axes.set_yticks(range(0, edges + 1, 1 if edges <= 8 else 2))
    figure.legend(loc="outside upper center", ncols=min(3, len(groups)), frameon=False)
    figure.set_label(f"Edges whose likeliest operation is not none, over epochs, of {edges}: {'; '.join(spoken)}.")
    return figure


@style.styled
def accuracy(results: Sequence | Mapping[str, Sequence]) -> Figure:
    """Accuracy of the supernet on training and on held-out images over epochs; panels for a dict of results."""
    groups = summary.panels(results)
    figure = style.new_figure(3.3)
    row = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    spoken = []
    for axes, (title, group_results) in zip(row, groups.items(), strict=True):
        values = summary.stack(group_results, "accuracy")
        for position, which in enumerate(summary.SETS):
            colour = ("#222222", "#aa3377")[position]
            pen = Pen(colour, style.SET_LINES[which], label=summary.SET_WORDS[which])
            style.curve(axes, summary.evaluated(group_results), values[..., position], pen, within=(0, 1))
        style.tidy(axes, x="epoch", title=title)
        ends = summary.band(values)[0][-1]
        held = f" and {ends[1]:.2f} on held-out ones" if np.isfinite(ends[1]) else "; there are no held-out images"
        spoken.append(f"{title + ': ' if title else ''}{ends[0]:.2f} on training images{held} at the end.")
    row[0].set_ylabel("accuracy")
    row[0].set_ylim(0, 1)
    longest = max(row, key=lambda axes: len(axes.lines))
    figure.legend(*longest.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(f"Accuracy over epochs. {' '.join(spoken)}")
    return figure


@style.styled
def cost_against_gap(results: Mapping[str, Sequence], cell: int = -1) -> Figure:
    """B2: the last cell's cost on held-out images against the generalisation gap, one point a run, after the last
    epoch."""
    groups = summary.panels(results)
    figure = style.new_figure(3.8)
    axes = figure.subplots()
    spoken = []
    for (title, group_results), (colour, _, marker) in zip(groups.items(), _series(groups), strict=True):
        x = summary.gap(group_results)
        y = summary.edge_cost(group_results, "held_out", cell)[1][:, -1].sum(axis=-1)
        if not np.isfinite(x * y).any():
            spoken.append(f"{title or 'runs'}: no held-out images")
            continue
        axes.plot(x, y, linestyle="", marker=marker, color=colour, markersize=6, alpha=0.85, label=title or "runs")
        spoken.append(f"{title or 'runs'}: mean gap {np.nanmean(x):.2f}, mean cost {np.nanmean(y):+.2f}")
    if not axes.lines:
        style.say_empty(axes, _NO_HELD_OUT)
    style.zero_line(axes)
    style.zero_line(axes, vertical=True)
    style.tidy(
        axes, x="accuracy on training images − accuracy on held-out images", y="held-out cost of the last cell  Σ C"
    )
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=min(3, len(groups)), frameon=False)
    figure.set_label(
        f"Held-out cost of the last cell against the generalisation gap, one point a run. {'; '.join(spoken)}."
    )
    return figure


def _series(groups: Mapping) -> list[tuple]:
    if len(groups) > len(style.SERIES):
        raise summary.ReadingError(
            f"{len(groups)} experiments in one figure cannot be told apart; pass at most {len(style.SERIES)}"
        )
    return style.looks(list(groups))
