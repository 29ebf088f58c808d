"""Figures of the chapters on theory: pure functions of what :mod:`nas_core.pages.enumeration` computes.

Pass what a function returns to :func:`nas_core.pages.style.show`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nas_core.pages import style, summary
from nas_core.pages.enumeration import Prices, Sweep
from nas_core.space import OPERATIONS, Cell

CHARGED, WORTH = "#882255", "#222222"
COUNTERFACTUAL = "#4477aa"
ROUNDING = 1e-12
"""Points closer to the diagonal than this lie on it: an operation that gets zeros and returns zeros."""


@style.styled
def price_scatter(panels: Mapping[str, Prices], cell: Cell) -> Figure:
    """What every drawn operation is charged, C, against what it is worth, D: one panel a state of θ.

    Filled: the operation acts on the logits directly. Hollow: a drawn operation lies behind its node as well."""
    figure = style.new_figure(3.7)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    pens, spoken = style.edge_pens(cell), []
    for axes, (title, own) in zip(row, panels.items(), strict=True):
        for edge, pen in enumerate(pens):
            for directly in (True, False):
                there = (own.edge == edge) & (own.directly == directly)
                axes.plot(
                    own.difference[there], own.cost[there], pen.marker, color=pen.colour, markersize=3.6,
                    markerfacecolor=pen.colour if directly else "none", markeredgewidth=0.8, alpha=0.8,
                )  # fmt: skip
        axes.axline((0, 0), slope=1, color="#444444", linewidth=0.9, linestyle=(0, (4, 3)))
        style.zero_line(axes)
        style.zero_line(axes, vertical=True)
        style.tidy(axes, x="worth  D = L − L without it", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        below = int(((own.cost < own.difference - ROUNDING) & own.directly).sum())
        spoken.append(f"{title}: of {own.directly.sum()} filled points {below} lie below the diagonal.")
    row[0].set_ylabel("charged  C = ∂L/∂Z")
    handles = [
        Line2D([], [], color=pen.colour, linestyle="", marker=pen.marker, markersize=4.5, label=_edge_words(cell, edge))
        for edge, pen in enumerate(pens)
    ]
    handles.append(Line2D([], [], color="#444444", linestyle=(0, (4, 3)), linewidth=0.9, label="C = D"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.set_label(f"Cost of every drawn operation against the loss that it changes. {' '.join(spoken)}")
    return figure


def _edge_words(cell: Cell, edge: int) -> str:
    return f"{summary.edge_name(cell, edge)}, {cell.edge_class(edge)}"


@style.styled
def gate_sweeps(panels: Mapping[str, Sweep]) -> Figure:
    """The loss over one gate, one panel an architecture, with the tangents that are charged as its cost.

    At the right end the tangent of the operation that ran (DSNAS), at the left that of one that did not
    (ProxylessNAS after a draw of *none*)."""
    figure = style.new_figure(3.2)
    row = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    spoken = []
    for axes, (title, own) in zip(row, panels.items(), strict=True):
        _sweep(axes, own)
        style.tidy(axes, x="gate t", title=title)
        worth = own.loss[-1] - own.loss[0]
        spoken.append(
            f"{title}: worth {worth:+.4f}, charged {own.slope_at_1:+.4f} after it ran and {own.slope_at_0:+.4f} after it "
            "did not."
        )
    row[0].set_ylabel("loss L")
    handles = [
        Line2D([], [], color=WORTH, linewidth=1.6, label="L(t)"),
        Line2D([], [], color=CHARGED, linestyle="--", label="tangent at 1"),
        Line2D([], [], color=COUNTERFACTUAL, linestyle=":", linewidth=2, label="tangent at 0"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(f"The loss while one gate goes from 0 to 1, and its tangents. {' '.join(spoken)}")
    return figure


def _sweep(axes: Axes, own: Sweep) -> None:
    axes.plot(own.gate, own.loss, color=WORTH, linewidth=1.6, zorder=3)
    ends = [own.loss[-1] - own.slope_at_1 * (1 - x) for x in (0, 1)]
    low, high = min(*own.loss, *ends), max(*own.loss, *ends)
    room = 0.08 * (high - low)
    axes.plot([0, 1], ends, color=CHARGED, linestyle="--", linewidth=1.4)
    axes.plot([0, 1], [own.loss[0], own.loss[0] + own.slope_at_0], color=COUNTERFACTUAL, linestyle=":", linewidth=2)
    # A tangent at 0 that leaves the picture is the point of it: it must not set the limits.
    axes.set_ylim(low - room, high + room)
    axes.ticklabel_format(axis="y", useOffset=False)


@style.styled
def scripts_factor(
    p: Sequence[float], drifts: Mapping[str, np.ndarray], edges: int, others: Sequence[float] = (0.1, 0.3, 0.9)
) -> Figure:
    """The published DSNAS gradient: left, its factor p_e/mean(p) against the probability of what edge e drew, for several
    mean probabilities of what the other edges drew; right, the expected step on log α where all operations cost −1.

    ``p`` ``[K]`` and ``drifts`` are the arguments and the result of :func:`nas_core.pages.enumeration.drift`."""
    figure = style.new_figure(3.5)
    left, right = figure.subplots(1, 2)
    grid = np.geomspace(1e-3, 1, 120)
    for mean, (colour, line, _) in zip(others, style.SERIES, strict=False):
        left.plot(
            grid,
            edges * grid / (grid + (edges - 1) * mean),
            color=colour,
            linestyle=line,
            linewidth=1.6,
            label=f"{mean:g}",
        )
    left.axhline(1, color="#444444", linewidth=0.9, zorder=0.5)
    left.set_xscale("log")
    left.set_yscale("log")
    left.legend(title="mean p of the others", frameon=False, title_fontsize=style.SMALL)
    style.tidy(left, x="probability of the drawn operation", y="factor  p / mean(p)")
    _drift(right, p, drifts)
    rarest, likeliest = int(np.argmin(p)), int(np.argmax(p))
    figure.set_label(
        f"Left: the factor of the published gradient falls in proportion to the probability of a rare draw. Right: where "
        f"every operation costs the same, the published step on log alpha is {drifts['reference'][likeliest]:+.3f} for "
        f"{OPERATIONS[likeliest]} (p = {p[likeliest]:.2f}) and {drifts['reference'][rarest]:+.3f} for "
        f"{OPERATIONS[rarest]} (p = {p[rarest]:.2f}); the corrected one is 0 for all."
    )
    return figure


def _drift(axes: Axes, p: Sequence[float], drifts: Mapping[str, np.ndarray]) -> None:
    order = np.argsort(p, kind="stable")
    place = np.arange(len(order))
    axes.bar(place, drifts["reference"][order], 0.7, color=[style.OPERATION_COLOURS[OPERATIONS[k]] for k in order])
    axes.plot(place, drifts["corrected"][order], "o", color=WORTH, markersize=4.5, label="corrected")
    style.zero_line(axes)
    axes.set_xticks(
        place, [f"{OPERATIONS[k]}  {p[k]:.2f}" for k in order], rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.legend(frameon=False, loc="upper left")
    style.tidy(axes, y="expected step on log α")
