"""Figures of Section 3 and Appendix A that are not in :mod:`nas_core.pages.figures`: which edges are alive when, width
and depth over epochs, recovery against the cost's crossing, and cells under every derivation rule."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType

from nas_core.derive import RULES
from nas_core.pages import style, summary
from nas_core.pages.evolution_measures import Fate, edge_fates, lag
from nas_core.pages.evolution_patterns import alive, shapes
from nas_core.pages.style import Pen
from nas_core.patterns import intermediate
from nas_core.space import NONE, OPERATIONS

_SWEEP_COLOURS: dict[str, ColorType] = {"phase diagram": "#999999", "settings of P-univ": "#d55e00"}
_MORE_COLOURS = ("#44aa99", "#999933", "#777777")


@style.styled
def alive_map(results: Sequence | Mapping[str, Sequence]) -> Figure:
    """P1 and P2 at a glance: one row an edge, epochs to the right, in how many of the seeds the edge is alive as shade;
    one panel a framework."""
    groups = summary.panels(results)
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    edges = max(len(summary.cell_of(runs[0]).edges) for runs in groups.values())
    figure = style.new_figure(rows * (0.17 * edges + 0.9) + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    spoken: list[str] = []
    images: list[AxesImage] = []
    for place, (axes, (title, runs)) in enumerate(zip(grid, groups.items(), strict=False)):
        cell, share = summary.cell_of(runs[0]), alive(runs).mean(axis=0)
        last = share.shape[0] - 1
        extent = (-0.5, last + 0.5, len(cell.edges) - 0.5, -0.5)
        images.append(
            axes.imshow(share.T, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest", extent=extent)
        )
        names = [f"{style.EDGE_SIGNS[cell.edge_class(edge)]} e{edge}" for edge in range(len(cell.edges))]
        axes.set_yticks(range(len(cell.edges)), names)
        style.tidy(axes, x="epoch" if place + columns >= len(groups) else "", title=_title(title, runs))
        axes.tick_params(length=0)
        lowest = int(share.sum(axis=1).argmin())
        spoken.append(
            f"{title or 'runs'}: of {len(cell.edges)} edges {share[0].sum():.1f} alive at first, {share[lowest].sum():.1f} "
            f"at epoch {lowest}, {share[-1].sum():.1f} at the end."
        )
    for axes in grid[len(groups) :]:
        axes.set_axis_off()
    figure.colorbar(images[-1], ax=grid.tolist(), label="share of seeds, edge alive", pad=0.015, aspect=18 * rows)
    figure.set_label(
        f"In which share of the seeds each edge is alive, over epochs; ◆ is intermediate. {' '.join(spoken)}"
    )
    return figure


@style.styled
def shape_over_time(results: Mapping[str, Sequence]) -> Figure:
    """P2: width and depth of the likeliest wiring over epochs, one series a framework; all must search cells of as many
    nodes."""
    groups = summary.panels(results)
    nodes = {summary.cell_of(runs[0]).nodes for runs in groups.values()}
    if len(nodes) > 1:
        raise summary.ReadingError(f"these cells have {sorted(nodes)} nodes; pass runs whose cells have as many")
    if len(groups) > len(style.SERIES):
        raise summary.ReadingError(f"{len(groups)} series cannot be told apart; pass at most {len(style.SERIES)}")
    figure = style.new_figure(3.4)
    row = figure.subplots(1, 2)
    spoken = []
    for (title, runs), (colour, line, marker) in zip(groups.items(), style.looks(list(groups)), strict=True):
        forms = [shapes(run) for run in runs]
        width, depth = (
            np.array([[getattr(own, name) for own in run] for run in forms], dtype=float) for name in ("width", "depth")
        )
        for axes, values in zip(row, (width, depth), strict=True):
            pen = Pen(colour, line, marker, label=title or "runs")
            style.curve(axes, np.arange(values.shape[1]), values, pen, within=(0, max(nodes)))
        spoken.append(
            f"{title or 'runs'}: width {width[:, -1].mean():.2f}, depth {depth[:, -1].mean():.2f} at the end."
        )
    for axes, name in zip(row, ("width", "depth"), strict=True):
        style.tidy(axes, x="epoch", y=f"{name} of the likeliest cell")
        axes.set_ylim(-0.05 * max(nodes), 1.05 * max(nodes))
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(
        f"Width and depth of the likeliest cell over epochs, at most {max(nodes)} each. {' '.join(spoken)}"
    )
    return figure


@style.styled
def recovery_against_crossing(results: Mapping[str, Sequence]) -> Figure:
    """R1: when an edge came back against when its cost turned negative, one point an edge and run that was dropped; the
    epochs as shares of the search. Points on the upper rail never came back; on the right one the cost never turned."""
    own = [fate for fate in edge_fates(results) if fate.dropped]
    figure = style.new_figure(4.4)
    axes = figure.subplots()
    jitter = np.random.default_rng(0).uniform(-0.012, 0.012, (len(own), 2))
    labels = list(dict.fromkeys(fate.label for fate in own))
    colours = _colours(labels)
    for fate, shift in zip(own, jitter, strict=True):
        x, y = _shares(fate)
        axes.plot(
            x + shift[0], y + shift[1], marker=style.EDGE_MARKERS[fate.kind], markersize=5.5, alpha=0.75, linestyle="",
            color=colours[fate.label], markeredgewidth=0,
        )  # fmt: skip
    axes.plot([0, 1], [0, 1], color="#444444", linewidth=0.9, zorder=0.5)
    for draw in (axes.axhline, axes.axvline):
        draw(1.07, color="#bbbbbb", linewidth=0.9, zorder=0.4)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([*ticks, 1.13], [*(f"{tick:g}" for tick in ticks), "never"])
    axes.set_xlim(-0.05, 1.2)
    axes.set_ylim(-0.05, 1.2)
    style.tidy(axes, x="cost turns negative (share of the search)", y="edge is back (share of the search)")
    if not own:
        style.say_empty(axes, "no edge was dropped")
    handles = [Line2D([], [], linestyle="", marker="o", color=colour, label=label) for label, colour in colours.items()]
    handles += [
        Line2D([], [], linestyle="", marker=marker, color="#777777", label=f"{kind} edge")
        for kind, marker in style.EDGE_MARKERS.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    back = [fate for fate in own if np.isfinite(fate.back)]
    above = sum(fate.back > fate.crossed for fate in back)
    figure.set_label(
        f"Epoch of recovery against the epoch at which the cost turned negative, {len(own)} dropped edges. "
        f"{len(back)} came back, {above} of them after their cost had turned."
    )
    return figure


def _colours(labels: Sequence[str]) -> dict[str, ColorType]:
    """A colour a label: a method and a sweep their own, the others what is left, then colours that no series has."""
    others = [label for label in labels if label not in _SWEEP_COLOURS]
    first, more = others[: len(style.SERIES)], others[len(style.SERIES) :]
    found: dict[str, ColorType] = {label: look[0] for label, look in zip(first, style.looks(first), strict=True)}
    found |= dict(zip(more, _MORE_COLOURS * len(more), strict=False))
    found |= {label: colour for label, colour in _SWEEP_COLOURS.items() if label in labels}
    return {label: found[label] for label in labels}


def _shares(fate: Fate) -> tuple[float, float]:
    crossed, back = (value / fate.epochs if np.isfinite(value) else 1.13 for value in (fate.crossed, fate.back))
    return crossed, back


@style.styled
def lag_and_life(results: Mapping[str, Sequence]) -> Figure:
    """R3: how much longer input edges live than intermediate ones against how much less they cost, one point a node and
    run, one panel a framework."""
    groups = summary.panels(results)
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = style.new_figure(2.1 * rows + 0.5)
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(wspace=0.07)  # else ticks of neighbours touch
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    spoken = []
    for axes, (title, runs) in zip(grid, groups.items(), strict=False):
        cost, lived = lag(runs)
        axes.plot(cost.ravel(), lived.ravel(), linestyle="", marker="D", color=style.EDGE_SHADES["intermediate"][0],
                  markersize=5, alpha=0.7, markeredgewidth=0)  # fmt: skip
        style.zero_line(axes)
        style.zero_line(axes, vertical=True)
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        style.tidy(axes, title=_title(title, runs))
        spoken.append(
            f"{title or 'runs'}: extra cost {cost.mean():+.3g}, longer life {lived.mean():+.2f} of the epochs."
        )
    for axes in grid[len(groups) :]:
        axes.set_axis_off()
    figure.supxlabel("extra cost of intermediate edges into the same node", fontsize=style.FONT)
    figure.supylabel("longer life of input edges", fontsize=style.FONT)
    figure.set_label(
        f"Longer life of input edges against the extra cost of intermediate edges. On average {' '.join(spoken)}"
    )
    return figure


@style.styled
def under_every_rule(runs: Sequence, most: int = 5) -> Figure:
    """B4: what each derivation rule (columns) makes of each edge (rows) from the same last α, in the operation's colour;
    white: dropped. One panel a run, at most ``most`` of them."""
    shown, cell = list(runs)[:most], summary.cell_of(runs[0])
    figure = style.new_figure(0.19 * len(cell.edges) + 1.9)
    row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    kept: dict[str, list[int]] = {}
    for axes, run in zip(row, shown, strict=True):
        wirings = [rule(run.arrays["probability"][-1, 0], cell) for rule in RULES.values()]
        colours = [[_TILES[wiring[edge]] for wiring in wirings] for edge in range(len(cell.edges))]
        axes.imshow(np.array([[to_rgb(colour) for colour in line] for line in colours]), aspect="auto")
        for place in range(1, len(RULES)):
            axes.axvline(place - 0.5, color="white", linewidth=1.5)
        for place in range(1, len(cell.edges)):
            axes.axhline(place - 0.5, color="white", linewidth=1.5)
        axes.set_xticks(range(len(RULES)), RULES, rotation=90)
        axes.set_title(f"seed {run.meta['seed']}", loc="left")
        axes.tick_params(length=0)
        for name, wiring in zip(RULES, wirings, strict=True):
            kept.setdefault(name, []).append(sum(operation != NONE for operation in wiring))
    names = [f"{style.EDGE_SIGNS[cell.edge_class(edge)]} e{edge}" for edge in range(len(cell.edges))]
    row[0].set_yticks(range(len(cell.edges)), names)
    used = [name for name in OPERATIONS[1:] if any(name in own.operations for own in cell.edges)]
    figure.legend(handles=style.operation_handles(used, 6), loc="outside upper center", ncols=4, frameon=False)
    counts = "; ".join(f"{name} {np.mean(values):.1f}" for name, values in kept.items())
    figure.set_label(
        f"What each derivation rule keeps of the same α, one panel a run. Edges kept of {len(cell.edges)}: {counts}."
    )
    return figure


@style.styled
def rules_over_time(runs: Sequence) -> Figure:
    """B4 over epochs: edges that each derivation rule keeps of the same α (left), and how many more of the input edges
    than of the intermediate ones (right), mean and band over runs."""
    cell = summary.cell_of(runs[0])
    figure = style.new_figure(3.4)
    row = figure.subplots(1, 2)
    spoken = []
    for (name, rule), (colour, line, marker) in zip(RULES.items(), style.SERIES, strict=False):
        wirings = np.array([[rule(own, cell) for own in run.arrays["probability"][:, 0]] for run in runs])
        kept = (wirings != NONE).astype(float)
        inner, outer = (kept[..., part].mean(axis=-1) for part in (intermediate(cell), ~intermediate(cell)))
        both = (kept.sum(axis=-1), (0, kept.shape[-1])), (outer - inner, (-1, 1))
        for axes, (values, within) in zip(row, both, strict=True):
            style.curve(axes, np.arange(values.shape[1]), values, Pen(colour, line, marker, label=name), within=within)
        spoken.append(
            f"{name}: {kept[:, 0].sum(axis=-1).mean():.1f} edges at first, {kept[:, -1].sum(axis=-1).mean():.1f} at the end."
        )
    style.zero_line(row[1])
    style.tidy(row[0], x="epoch", y=f"edges kept of {len(cell.edges)}")
    style.tidy(row[1], x="epoch", y="share of input −\nof intermediate edges")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(f"What every derivation rule keeps of the same α over epochs, n = {len(runs)}. {' '.join(spoken)}")
    return figure


def shown_words(title: str, runs: Sequence, n: int) -> str:
    """What a figure shows, in a sentence: method, cell, and how many runs of it."""
    cell = summary.cell_of(runs[0])
    cells = runs[0].meta["config"]["network"]["cells"]
    return (
        f"Shown: {title}, the {cell.name} cell ({cell.nodes} nodes, {len(cell.edges)} edges; {cells} of them in the network), "
        f"n = {n}."
    )


_TILES = ["#ffffff", *(style.OPERATION_COLOURS[name] for name in OPERATIONS[1:])]


def _title(title: str, runs: Sequence) -> str:
    """A panel's title in lines that fit it."""
    return textwrap.fill(f"{title} (n = {len(runs)})".replace("n = ", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), 22)
