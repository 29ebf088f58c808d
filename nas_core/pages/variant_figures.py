"""Figures of Appendix H from recorded runs. Pass what a function returns to :func:`nas_core.pages.style.show`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nas_core.pages import style
from nas_core.pages.evidence import Results, fisher_correlation
from nas_core.pages.variant_measures import (
    AFTER,
    BASE,
    BEFORE,
    CONV_NORM,
    CONV_RELU,
    INSTANCE_AFFINE,
    LAYER,
    NOTHING,
    entries,
    label,
)
from nas_core.space import NONE, OPERATIONS


@style.styled
def agreement(results: Results, titles: Sequence[str] = (LAYER, INSTANCE_AFFINE, CONV_RELU, CONV_NORM)) -> Figure:
    """The mean map of every variant (y) against that of the base (x), one mark an entry in the colour of its operation:
    before training above, after it below, a column a variant."""
    figure = style.new_figure(4.4)
    grid = figure.subplots(2, len(titles), squeeze=False)
    spoken = []
    for row, when in zip(grid, (BEFORE, AFTER), strict=True):
        base = entries(results[label(BASE, when)]).mean(axis=0)
        for axes, title in zip(row, titles, strict=True):
            own = entries(results[label(title, when)]).mean(axis=0)
            axes.set_title(title if when == BEFORE else "", loc="left", fontsize=style.SMALL)
            if np.nanmax(np.abs(own)) <= NOTHING * np.nanmean(np.abs(base)):
                style.say_empty(axes, "all zero,\nup to rounding")
                axes.set_axis_off()
                spoken.append(f"{title} {when}: all zero")
                continue
            _scatter(axes, base, own)
            together = np.tanh(fisher_correlation(base.ravel(), own.ravel()))
            spoken.append(f"{title} {when}: correlation {together:+.2f}")
        row[0].set_ylabel(when)
    figure.supxlabel("cost under batch norm, ReLU-Conv-BN", fontsize=style.FONT)
    figure.supylabel("cost under the variant", fontsize=style.FONT)
    names = [name for position, name in enumerate(OPERATIONS) if position != NONE]
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=4, color=style.OPERATION_COLOURS[name], label=name)
        for name in names
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=4, frameon=False)
    figure.set_label(f"Cost of every operation and edge, a variant against batch norm. {'; '.join(spoken)}.")
    return figure


def _scatter(axes: Axes, base: np.ndarray, own: np.ndarray) -> None:
    colours = [style.OPERATION_COLOURS[name] for position, name in enumerate(OPERATIONS) if position != NONE]
    for column, colour in enumerate(colours):
        axes.plot(base[:, column], own[:, column], "o", color=colour, markersize=4, alpha=0.85)
    axes.axline((0, 0), slope=1, color="#444444", linewidth=0.9, linestyle=(0, (4, 3)))
    style.zero_line(axes)
    style.zero_line(axes, vertical=True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=2))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3))
    axes.spines[["top", "right"]].set_visible(False)
