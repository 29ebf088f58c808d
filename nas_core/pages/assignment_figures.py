"""Figures of Section 5.2 and Appendices D to F that are curves, bars and scatters.

Pass what a function returns to :func:`nas_core.pages.style.show`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas_core import theory
from nas_core.pages import style, summary
from nas_core.pages.assignment import Course, recorded
from nas_core.pages.claims import power
from nas_core.pages.style import Pen
from nas_core.space import Cell

# ------------------------------------------------------------------------------------------------------- recorded curves


@style.styled
def training(results: Sequence) -> Figure:
    """Fig 7: loss, accuracy, and the cost of every edge of the last cell with its sum, on training images."""
    cell, epochs = summary.cell_of(results[0]), summary.evaluated(results)
    loss, _, total = recorded(results)
    score, cost = summary.stack(results, "accuracy")[:, :, 0], summary.edge_cost(results, "train")[1]
    figure = style.new_figure(5.6)
    rows = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 3))
    style.curve(rows[0], epochs, loss, Pen(style.QUANTITY_COLOURS["loss"]))
    style.curve(rows[1], epochs, score, Pen("#222222"), within=(0, 1))
    for edge, pen in enumerate(style.edge_pens(cell)):
        style.curve(rows[2], epochs, cost[..., edge], pen)
    style.curve(rows[2], epochs, total, Pen(style.QUANTITY_COLOURS["cost"], width=2.4))
    style.zero_line(rows[2])
    for axes, words in zip(rows, ("loss L (nats)", "accuracy", "cost per edge, Σ"), strict=True):
        style.tidy(axes, y=words)
    style.tidy(rows[2], x="epoch", y="cost of the last cell")
    figure.legend(handles=_edge_handles(cell), loc="outside upper center", ncols=3, frameon=False)
    rows[2].set_xlim(epochs[0] - 0.03 * epochs[-1], epochs[-1])
    figure.draw_without_rendering()
    _name_edges(rows[2], cell, epochs[-1], summary.band(cost)[0][-1])
    figure.set_label(
        f"Loss, accuracy and cost on training images over epochs. Loss from {loss[:, 0].mean():.2f} to "
        f"{loss[:, -1].mean():.2f}, accuracy from {score[:, 0].mean():.2f} to {score[:, -1].mean():.2f}, sum of the edges' "
        f"costs from {total[:, 0].mean():+.2f} to {total[:, -1].mean():+.2f}."
    )
    return figure


def _edge_handles(cell: Cell) -> list[Line2D]:
    total = Line2D([], [], color=style.QUANTITY_COLOURS["cost"], linewidth=2.4, label="sum over edges")
    return [*style.class_handles(cell), total]


def _name_edges(axes: Axes, cell: Cell, x: float, ends: np.ndarray) -> None:
    """Names at the right end of the curves of a cell's edges and of their sum."""
    labels = [(ends[edge], f"e{edge}", pen.colour) for edge, pen in enumerate(style.edge_pens(cell))]
    style.end_labels(axes, x, [*labels, (ends.sum(), "sum", style.QUANTITY_COLOURS["cost"])])


@style.styled
def dynamics(groups: Mapping[str, Sequence]) -> Figure:
    """dC against dL − dH from one evaluation to the next, one point a step and seed; beside it C against accuracy."""
    figure = style.new_figure(3.5)
    left, right = figure.subplots(1, 2)
    spoken = []
    for (title, results), (colour, _, marker) in zip(groups.items(), style.SERIES, strict=False):
        loss, entropy, cost = recorded(results)
        x, y = np.diff(loss - entropy, axis=1).ravel(), np.diff(cost, axis=1).ravel()
        score = summary.stack(results, "accuracy")[:, :, 0].ravel()
        look = {"linestyle": "", "marker": marker, "markersize": 3.6, "alpha": 0.75, "color": colour}
        left.plot(x, y, **look, label=title)
        right.plot(score, cost.ravel(), **look)
        together = [np.corrcoef(*pair)[0, 1] for pair in ((x, y), (score, cost.ravel()))]
        spoken.append(f"{title}: correlations {together[0]:+.3f} and {together[1]:+.3f}")
    left.axline((0, 0), slope=1, color="#444444", linewidth=0.9, linestyle=(0, (4, 3)))
    style.tidy(left, x="dL − dH, measured at the output", y="dC, measured at the edges")
    style.tidy(right, x="accuracy on training images", y="C of the last cell")
    style.zero_line(right)
    figure.legend(loc="outside upper center", ncols=len(groups), frameon=False)
    figure.set_label(
        "Left, changes of the summed cost between evaluations against those of L − H, with the diagonal; right, the cost "
        f"against accuracy. {'; '.join(spoken)}."
    )
    return figure


# -------------------------------------------------------------------------------------------------------- small networks


@style.styled
def shares(traces: Sequence[theory.Trace], through: tuple[int, int]) -> Figure:
    """The shares of the edges into a node through one edge behind it, one pair of bars a draw, beside the cost that the
    same edges get through the node's output edge."""
    found = [[own for own in theory.shares(seen) if own.through == through] for seen in traces]
    names = [f"({i}, {j})" for i, j in dict.fromkeys(own.edge for pair in found for own in pair)]
    figure = style.new_figure(3.1)
    row = figure.subplots(1, 2, sharey=True)
    for axes, read, title in zip(
        row, (lambda own: own.value, lambda own: own.own), (f"through edge {through}", "through the output edge"),
        strict=True,
    ):  # fmt: skip
        for rank, name in enumerate(names):
            heights = [read(pair[rank]) for pair in found]
            place = np.arange(len(found)) + 0.4 * (rank - (len(names) - 1) / 2)
            axes.bar(place, heights, 0.36, color=style.SERIES[rank][0], label=f"edge {name}")
        sums = [sum(map(read, pair)) for pair in found]
        axes.plot(
            np.arange(len(found)), sums, "_", color="#000000", markersize=13, markeredgewidth=2, label="their sum"
        )
        style.zero_line(axes)
        axes.set_xticks(range(len(found)), range(1, len(found) + 1))
        style.tidy(axes, x="draw", title=title)
    row[0].set_ylabel("part of the edge's cost")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(names) + 1, frameon=False)
    worst = max(abs(sum(own.value for own in pair)) for pair in found)
    largest = max(abs(own.value) for pair in found for own in pair)
    figure.set_label(
        f"Parts of two edges' costs in {len(found)} draws. Through edge {through} single shares reach {largest:.3f} while "
        f"their sums stay within {power(worst)}; through the output edge the sums do not vanish."
    )
    return figure


@style.styled
def epsilon_lines(scalings: Sequence[theory.EpsilonScaling]) -> Figure:
    """What intermediate edges pass on against the mean ε/(σ²+ε), log–log, one line a network, with slope 1 beside it."""
    figure = style.new_figure(3.4)
    axes = figure.subplots()
    for place, (own, (colour, line, marker)) in enumerate(zip(scalings, style.SERIES, strict=False)):
        axes.loglog(own.ratios, own.residuals, color=colour, linestyle=line, marker=marker, markersize=4.5,
                    label=f"network {place}, slope {own.slope:.3f}")  # fmt: skip
        axes.loglog(own.ratios, own.rounding, color=colour, linestyle=":", linewidth=0.8)
    own = scalings[0]
    axes.loglog(own.ratios, 4 * own.residuals[-1] * own.ratios / own.ratios[-1], color="#999999", linewidth=0.9)
    middle = len(own.ratios) // 2
    where = (own.ratios[middle], 4 * own.residuals[-1] * own.ratios[middle] / own.ratios[-1])
    axes.annotate("slope 1", where, xytext=(-6, 4), textcoords="offset points", ha="right", color="#777777",
                  fontsize=style.SMALL)  # fmt: skip
    style.tidy(axes, x="mean ε / (σ² + ε) over channels", y="Σ |cost passed on|")
    figure.legend(loc="outside upper center", ncols=2 if len(scalings) == 4 else 3, frameon=False)
    slopes = ", ".join(f"{own.slope:.3f}" for own in scalings)
    figure.set_label(
        f"Cost that intermediate edges pass on against the size of epsilon, both logarithmic. Slopes: {slopes}. Dotted: the "
        "part that rounding may be."
    )
    return figure


@style.styled
def stacks(panels: Mapping[str, Mapping[int, np.ndarray]]) -> Figure:
    """The size of Σ Z·C in every cell of stacks of several depths, logarithmic: per panel and depth ``[D, N]``, the mean
    size over the D draws."""
    figure = style.new_figure(3.5)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    spoken = []
    for axes, (title, found) in zip(row, panels.items(), strict=True):
        for (cells, sums), (colour, line, marker) in zip(found.items(), style.SERIES, strict=False):
            axes.semilogy(np.arange(1, cells + 1), np.abs(sums).mean(0), color=colour, linestyle=line, marker=marker,
                          markersize=5, label=f"{cells} cells")  # fmt: skip
            before, last = np.abs(sums)[:, :-1].max(), np.abs(sums)[:, -1].mean()
            spoken.append(
                f"{title}, {cells} cells: at most {power(before)} before the last, on average {last:.3f} in it"
            )
        axes.set_xticks(range(1, max(found) + 1))
        style.tidy(axes, x="cell of the stack", title=title)
    row[0].set_ylabel("mean |Σ Z·C| of a cell")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure.set_label(f"Sums of costs, cell by cell. {'; '.join(spoken)}.")
    return figure


@style.styled
def output_course(courses: Sequence[Course], window: int) -> Figure:
    """Fig 21: L, H and, in a panel of its own, C = Σ Z·C measured at the edges of the last cell, with L − H."""
    kept = [own.averaged(window) for own in courses]
    loss, entropy = (np.stack([getattr(own, name) for own in kept]) for name in ("loss", "entropy"))
    cost = np.stack([own.edge_cost[:, -1].sum(-1) for own in kept])
    steps = window * (np.arange(cost.shape[1]) + 0.5)
    figure = style.new_figure(4.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    style.curve(above, steps, loss, Pen(style.QUANTITY_COLOURS["loss"], label="L"))
    style.curve(above, steps, entropy, Pen(style.QUANTITY_COLOURS["entropy"], label="H"))
    style.curve(below, steps, cost, Pen(style.QUANTITY_COLOURS["cost"], label="C, summed over the edges"))
    style.curve(below, steps, loss - entropy, Pen("#222222", ":", label="L − H"))
    style.zero_line(below)
    style.tidy(above, y="loss L, entropy H (nats)")
    style.tidy(below, x=f"step of training (n = {len(courses)} seeds)", y="cost")
    handles = [handle for axes in (above, below) for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    figure.set_label(
        f"L, H and the cost while weights are trained by uniform sampling. The cost goes from {cost[:, 0].mean():+.3f} to "
        f"{cost[:, -1].mean():+.3f}; it differs from L − H by at most {power(np.abs(cost - loss + entropy).max())}."
    )
    return figure


@style.styled
def initial(own: theory.InitialCosts) -> Figure:
    """L − H of many initialisations, each a dash below, with its mean and the one that Gaussian logits have."""
    import seaborn  # slow to import, and no other page needs it

    figure = style.new_figure(3.0)
    axes = figure.subplots()
    look = {"edgecolor": "#888888", "linewidth": 0.6, "alpha": 1, "zorder": 0.4}
    seaborn.histplot(x=own.costs, bins=24, color="#cccccc", ax=axes, **look)
    seaborn.rugplot(x=own.costs, height=0.05, color="#222222", linewidth=0.8, ax=axes)
    style.zero_line(axes, vertical=True)
    axes.axvline(own.mean, color=style.QUANTITY_COLOURS["cost"], linewidth=2, label="mean")
    axes.axvspan(own.mean - 2 * own.standard_error, own.mean + 2 * own.standard_error, alpha=0.2, linewidth=0,
                 color=style.QUANTITY_COLOURS["cost"], label="± 2 standard errors")  # fmt: skip
    predicted = float(own.predicted.mean())
    axes.axvline(predicted, color="#222222", linestyle="--", linewidth=1.6, label="Gaussian logits")
    style.tidy(axes, x="C = L − H of one batch, before training", y="initialisations")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(
        f"L − H at {len(own.costs)} initialisations: {100 * own.share_positive:.0f} percent are positive, mean "
        f"{own.mean:+.4f}, Gaussian value {predicted:+.4f}."
    )
    return figure


@style.styled
def gaussian(spreads: Sequence[float], classes: int) -> Figure:
    """E[L − H] of Gaussian logits against their standard deviation, with the first terms of its series."""
    grid = np.linspace(0, max(spreads), 24)[1:]
    figure = style.new_figure(2.9)
    axes = figure.subplots()
    exact = [theory.gaussian_cost(float(s), classes) for s in grid]
    axes.plot(grid, exact, color=style.QUANTITY_COLOURS["cost"], linewidth=2, label="exact")
    axes.plot(grid, grid**2 * (1 - 1 / classes), color="#222222", linestyle=":", label="s²(1 − 1/N)")
    axes.set_ylim(0, 1.25 * exact[-1])
    style.zero_line(axes)
    style.tidy(axes, x="standard deviation s of the logits", y="E[L − H] (nats)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(
        f"Expected cost of Gaussian logits for {classes} classes: 0 at s = 0, {exact[-1]:.2f} at s = {grid[-1]:g}."
    )
    return figure


@style.styled
def image_costs(panels: Mapping[str, theory.Trace]) -> Figure:
    """Eq 9 image by image against the probability of the label: right and wrong ones, and the lowest cost there is."""
    figure = style.new_figure(3.4)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    spoken = []
    for axes, (title, seen) in zip(row, panels.items(), strict=True):
        cost = theory.logit_cost(seen.logits, seen.labels).numpy()
        label = seen.logits.softmax(1).gather(1, seen.labels[:, None])[:, 0].numpy()
        right = (seen.logits.argmax(1) == seen.labels).numpy()
        for there, marker, colour, words in ((right, "o", "#228833", "right"), (~right, "x", "#aa3377", "wrong")):
            axes.plot(label[there], cost[there], marker, color=colour, markersize=4.5, label=f"classified {words}")
        style.zero_line(axes)
        lowest = theory.lowest_cost(seen.logits.shape[1])
        axes.axhline(lowest, color="#777777", linestyle="--", linewidth=0.9, label="lowest possible")
        style.tidy(axes, x="probability of the label", title=title)
        positive = int((cost[right] > 0).sum())
        spoken.append(
            f"{title}: {right.sum()} images right, {positive} of them above zero; mean cost {cost.mean():+.3f}"
        )
    row[0].set_ylabel("cost of one image  $\\sum_n p_n Y_n - Y_{\\mathrm{label}}$")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(f"Cost of single images against the probability of their label. {'; '.join(spoken)}.")
    return figure
