"""Figures of Appendices C and E: stacks of cells, as recorded and taken apart. Pass what a function returns to
:func:`nas_core.pages.style.show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from nas_core.pages import stack_measures, style, summary
from nas_core.pages.stack_gradients import WORDS, Anatomy
from nas_core.pages.style import Pen
from nas_core.space import OPERATIONS, Cell

_TINY = np.finfo(float).tiny
_SIGNED = matplotlib.colormaps["PuOr_r"].with_extremes(bad="#eeeeee")


@style.styled
def signed_maps(groups: Mapping[str, Sequence]) -> Figure:
    """Figs 15 and 16, every cell: the signed mean cost of each operation (columns) on each edge of each cell (rows, the last
    cell at the bottom), one map beside the other, colours linear near 0 and logarithmic beyond; a dot where the interval
    includes 0."""
    found = {title: summary.statistics(runs) for title, runs in groups.items()}
    cells, edges, _ = next(iter(found.values())).mean.shape
    sizes = np.concatenate([np.abs(own.mean[np.isfinite(own.mean)]) for own in found.values()])
    largest = max(float(sizes.max()), _TINY)
    scale = SymLogNorm(linthresh=largest / 20, vmin=-largest, vmax=largest, base=10)
    figure = style.new_figure(max(0.06 * edges, 0.4) * cells + 1.3)
    row = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    spoken = []
    for axes, (title, own) in zip(row, found.items(), strict=True):
        image = axes.imshow(
            np.ma.masked_invalid(own.mean.reshape(cells * edges, -1)), cmap=_SIGNED, norm=scale, aspect="auto"
        )
        known = np.isfinite(own.mean) & (own.mean != 0)
        y, x = np.nonzero((known & ~own.shown).reshape(cells * edges, -1))
        axes.plot(x, y, linestyle="", marker="o", color="#222222", markersize=1.6)
        for edge in range(edges, cells * edges, edges):
            axes.axhline(edge - 0.5, color="#444444", linewidth=0.9)
        axes.set_title(title, loc="left")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(len(OPERATIONS)), OPERATIONS, rotation=40, ha="right", rotation_mode="anchor")
        spoken.append(f"{title}: {_signs_words(own, known)}")
    row[0].set_yticks(
        [edges * (cell + 0.5) - 0.5 for cell in range(cells)], [f"cell {cell + 1}" for cell in range(cells)]
    )
    bar = figure.colorbar(image, ax=list(row), label="cost", pad=0.015, aspect=35)
    ticks = [-largest, -largest / 10, 0, largest / 10, largest]
    bar.set_ticks(ticks, labels=[f"{tick:.1g}".replace("-", "−") for tick in ticks])
    bar.minorticks_off()
    figure.set_label(
        f"Signed mean cost of every operation (columns) on the {edges} edges of each of {cells} cells (rows). {'; '.join(spoken)}."
    )
    return figure


def _signs_words(own: summary.Estimates, known: np.ndarray) -> str:
    """The signs that are shown in the last cell and in those before it."""
    parts = []
    for words, place in (("in the last cell", slice(-1, None)), ("before it", slice(-1))):
        shown, mean = own.shown[place] & known[place], own.mean[place]
        counts = [int((shown & (way * mean > 0)).sum()) for way in (1, -1)]
        parts.append(
            f"{words} {counts[0]} of {int(known[place].sum())} entries are shown to be positive, {counts[1]} negative"
        )
    return ", ".join(parts)


@style.styled
def cell_maps(groups: Mapping[str, Sequence]) -> Figure:
    """Figs 15 and 16 in short: mean |C̄| over operations for every cell (rows, the last one at the bottom) and edge
    (columns) with its standard error over seeds, one map below the other, on one logarithmic scale of colours."""
    sizes = {title: stack_measures.edge_sizes(runs) for title, runs in groups.items()}
    maps = {title: own.mean(axis=0) for title, own in sizes.items()}
    unknown = np.full(next(iter(maps.values())).shape, np.nan)
    errors = {t: own.std(axis=0, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else unknown for t, own in sizes.items()}
    cells, edges = next(iter(maps.values())).shape
    low, high = (bound(own.min() if bound is min else own.max() for own in maps.values()) for bound in (min, max))
    ends = max(low, _TINY), max(high, 2 * _TINY)
    scale = LogNorm(*ends)
    exponent = int(np.floor(np.log10(max(high, _TINY)))) - 1  # the largest entry then has two digits before the point
    figure = style.new_figure(len(maps) * (0.4 * cells + 0.4) + 0.5)
    rows = figure.subplots(len(maps), 1, squeeze=False, sharex=True)[:, 0]
    cell = summary.cell_of(next(iter(groups.values()))[0])
    spoken = []
    for axes, (title, own) in zip(rows, maps.items(), strict=True):
        image = axes.imshow(own, cmap="cividis_r", norm=scale, aspect="auto")
        digits = 2 if own.min() < 10.0**exponent and edges <= 8 else 1  # narrow cells have no room for two
        for place in np.ndindex(own.shape):
            text = f"{own[place] / 10.0**exponent:.{digits}f}"
            if np.isfinite(errors[title][place]):
                text += f"\n±{errors[title][place] / 10.0**exponent:.{digits}f}"
            axes.text(
                *place[::-1], text, ha="center", va="center", fontsize=style.SMALL,
                color="white" if style.is_dark(image.cmap(scale(own[place]))) else "black",
            )  # fmt: skip
        axes.set_yticks(range(cells), [f"cell {position + 1}" for position in range(cells)])
        axes.set_title(title, loc="left")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        spoken.append(f"{title}: {own[-1].mean():.2g} in the last cell, {own[:-1].mean():.2g} in those before it.")
    power = str(exponent).replace("-", "⁻").translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    bar = figure.colorbar(image, ax=list(rows), label=f"mean |cost|; numbers in 10{power}", pad=0.015, aspect=25)
    bar.minorticks_off()
    ticks = _log_ticks(*ends)
    bar.set_ticks(ticks, labels=[f"{tick / 10.0**exponent:.2g}" for tick in ticks])
    between = " " if edges <= 8 else "\n"  # side by side, the names of many edges would touch
    names = [f"e{edge}{between}{style.EDGE_SIGNS[cell.edge_class(edge)]}" for edge in range(edges)]
    rows[-1].set_xticks(range(edges), names)
    figure.set_label(f"Mean size of the cost of every cell (rows) and edge (columns). {' '.join(spoken)}")
    return figure


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times every power of ten within the limits, fewer where these are many; the limits where there are none."""
    powers = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    fine, coarse = ([m * 10.0**power for power in powers for m in steps] for steps in ((1, 2, 5), (1,)))
    found = [tick for tick in (fine if len(powers) <= 4 else coarse) if low <= tick <= high]
    return found[:: -(-len(found) // 9)] if len(found) > 1 else [low, high]


@style.styled
def profiles(stacks: Mapping[str, Mapping[str, Sequence]]) -> Figure:
    """Mean |C̄| and |Σ C̄| of every cell, logarithmic: one panel a stack, one line a state of θ and quantity.

    Lines are geometric means over seeds with the t-interval of the logarithms."""
    figure = style.new_figure(3.7)
    row = figure.subplots(1, len(stacks), sharey=True, squeeze=False)[0]
    looks = dict(zip(dict.fromkeys(when for own in stacks.values() for when in own), style.SERIES, strict=False))
    spoken = []
    for axes, (title, states) in zip(row, stacks.items(), strict=True):
        for when, runs in states.items():
            colour, _, marker = looks[when]
            sizes, sums = stack_measures.sizes(runs), np.abs(stack_measures.sums(runs))
            place = np.arange(1, sizes.shape[1] + 1)
            _log_curve(axes, place, sizes, Pen(colour, "-", marker))
            _log_curve(axes, place, sums, Pen(colour, ":", marker))
            ratio = np.exp(stack_measures.nearest(runs).mean())
            spoken.append(f"{title}, {when}: the last cell's mean size is {ratio:.2g} times the largest before it")
        axes.set_xticks(place)
        axes.set_yscale("log")
        style.tidy(axes, x="cell of the stack", title=title)
    row[0].set_ylabel("size of the cost")
    # An interval of few seeds spans many powers of ten: the lines are what the axis has to show.
    heights = np.concatenate([line.get_ydata() for axes in row for line in axes.lines])
    row[0].set_ylim(heights.min() / 4, heights.max() * 4)
    handles = [Line2D([], [], color=c, marker=m, markersize=4.5, label=when) for when, (c, _, m) in looks.items()]
    lines: tuple[tuple[LineStyleType, str], ...] = (("-", "mean |entry|"), (":", "|sum over the cell|"))
    handles += [Line2D([], [], color="#666666", linestyle=line, label=words) for line, words in lines]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    figure.set_label(f"Size of the cost, cell by cell, logarithmic. {'; '.join(spoken)}.")
    return figure


def _log_curve(axes: Axes, x: np.ndarray, values: np.ndarray, pen: Pen) -> None:
    """Geometric mean over seeds with the interval of the logarithms, for positive quantities on a logarithmic axis."""
    mean, low, high = (np.exp(bound) for bound in summary.band(np.log(np.maximum(values, _TINY))))
    axes.plot(
        x, mean, color=pen.colour, linestyle=pen.line, marker=pen.marker, markersize=4.5, linewidth=pen.width,
        label=pen.label or None,
    )  # fmt: skip
    axes.fill_between(x, low, high, color=pen.colour, alpha=0.18 if pen.line == "-" else 0.1, linewidth=0)


@style.styled
def two_cells(results: Sequence) -> Figure:
    """Fig 19: the mean cost of every edge of the second-last and of the last cell while θ is trained, with its sum; a band
    for the sum alone, as those of the edges would cover each other."""
    cell = summary.cell_of(results[0])
    epochs, cost = stack_measures.trend(results)
    figure = style.new_figure(4.2)
    row = figure.subplots(1, 2)
    pens = _pens(cell)
    spoken = []
    for axes, position, title in zip(row, (-2, -1), ("(a) second-last cell", "(b) last cell"), strict=True):
        own = cost[:, :, position]
        every = max(1, len(epochs) // 6)
        for edge, pen in enumerate(pens):
            axes.plot(
                epochs, own[..., edge].mean(0), color=pen.colour, linestyle=pen.line, linewidth=pen.width, zorder=2.1,
                marker=pen.marker, markersize=4.5, markevery=(edge * every // len(pens), every), label=pen.label,
            )  # fmt: skip
        style.curve(axes, epochs, own.sum(-1), Pen(style.QUANTITY_COLOURS["cost"], width=2.4, label="sum over edges"))
        style.zero_line(axes)
        style.tidy(axes, x="epoch", title=title)
        total = own.sum(-1).mean(0)
        spoken.append(f"{title} sum {total[0]:+.2g} in the first epoch, {total[-1]:+.2g} in the last")
    row[0].set_ylabel("mean cost per edge  Σ Z·C")
    figure.legend(
        *row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, handlelength=3
    )
    figure.draw_without_rendering()
    for axes, position in zip(row, (-2, -1), strict=True):
        ends = cost[:, -1, position].mean(0)
        names = [(ends[edge], f"e{edge}", pen.colour) for edge, pen in enumerate(pens)]
        style.end_labels(axes, epochs[-1], [*names, (ends.sum(), "sum", style.QUANTITY_COLOURS["cost"])])
    figure.set_label(f"Cost per edge over epochs; the two scales differ. {'; '.join(spoken)}.")
    return figure


def _pens(cell: Cell) -> list[Pen]:
    """The pens of a cell's edges, told apart within a class by dashes and marker too: here lines lie close together."""
    lines: tuple[LineStyleType, ...] = ("-", (0, (6, 1.5)), (0, (4, 1, 1, 1)), (0, (1, 1)))
    markers = {"input": "os^v", "intermediate": "DPX*"}
    seen: dict[str, int] = {}
    pens = []
    for edge, pen in enumerate(style.edge_pens(cell)):
        kind = cell.edge_class(edge)
        rank = seen[kind] = seen.get(kind, -1) + 1
        look = lines[rank % len(lines)], markers[kind][rank % len(markers[kind])]
        pens.append(Pen(pen.colour, *look, 1.1, f"e{edge}, {kind} edge"))
    return pens


@style.styled
def anatomy(states: Mapping[str, Anatomy]) -> Figure:
    """|C| of an edge and the three factors that make it up, cell by cell, relative to the last cell, logarithmic; one
    panel a state of θ. Lines are geometric means over seeds with the t-interval of the logarithms."""
    figure = style.new_figure(3.7)
    row = figure.subplots(1, len(states), sharey=True, squeeze=False)[0]
    spoken = []
    for axes, (title, own) in zip(row, states.items(), strict=True):
        for (name, words), (colour, line, marker) in zip(WORDS.items(), style.SERIES, strict=False):
            logs = getattr(own, name)
            relative = np.exp(logs - logs[:, -1:].mean())
            _log_curve(axes, np.arange(1, logs.shape[1] + 1), relative, Pen(colour, line, marker, label=words))
            spoken.append(f"{title}, {words}: {np.exp((logs[:, 0] - logs[:, -1]).mean()):.2g} in the first cell")
        axes.axhline(1, color="#444444", linewidth=0.9, zorder=0.5)
        axes.set_xticks(range(1, own.cost.shape[1] + 1))
        axes.set_yscale("log")
        style.tidy(axes, x="cell of the stack", title=title)
    row[0].set_ylabel("relative to the last cell")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.set_label(f"Size of the cost and its factors, relative to the last cell, logarithmic. {'; '.join(spoken)}.")
    return figure
