"""The phase diagram of P1: how many edges are dropped, by the speed of α and of θ, with the boundary predicted from how
long the cost stays positive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nas_core.lab.variations import ALPHA_FACTORS, PHASE, THETA_FACTORS
from nas_core.pages import style, sweeps

_BOUNDARIES = {False: ("every step in full", "#000000", "-", "o"), True: ("discounted for noise", "#009e73", "--", "s")}
_SHADES = matplotlib.colormaps["Purples"]
_THETA_LOOKS = {theta: look for theta, look in zip(THETA_FACTORS, style.SERIES, strict=False)}


@style.styled
def phase_diagram(results: Mapping[str, Sequence]) -> Figure:
    """A heat map: α's learning rate to the right, θ's upwards, in factors; the share of edges dropped at the minimum as
    colour and number, with n below. Lines are the predicted boundaries: edges should be dropped to their right. The
    star is the point of the paper's two rates."""
    points = sweeps.grid(results)
    figure = style.new_figure(4.0)
    axes = figure.subplots()
    share = np.full((len(THETA_FACTORS), len(ALPHA_FACTORS)), np.nan)
    for (alpha, theta), runs in points.items():
        share[THETA_FACTORS.index(theta), ALPHA_FACTORS.index(alpha)] = sweeps.dropped(runs)
    image = axes.imshow(
        np.ma.masked_invalid(share), cmap=_SHADES, vmin=0, vmax=1, origin="lower", aspect="auto",
    )  # fmt: skip
    for row, column in np.ndindex(share.shape):
        _write(axes, row, column, float(share[row, column]), points)
    axes.set_xticks(range(len(ALPHA_FACTORS)), [f"× {factor:g}" for factor in ALPHA_FACTORS])
    axes.set_yticks(range(len(THETA_FACTORS)), [f"× {factor:g}" for factor in THETA_FACTORS])
    style.tidy(axes, x="learning rate of α", y="learning rate of θ")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="share of edges dropped at the minimum", pad=0.015)
    if points:
        _overlay(axes, points)
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    known = np.isfinite(share)
    words = (
        f"{int(known.sum())} of {len(PHASE)} points are recorded; the share dropped runs from "
        f"{np.nanmin(share):.2f} to {np.nanmax(share):.2f}."
        if known.any()
        else "No point is recorded."
    )
    figure.set_label(
        f"Share of edges dropped at the minimum, by the learning rates of α (columns) and θ (rows). {words}"
    )
    return figure


def _write(axes: Axes, row: int, column: int, share: float, points: Mapping) -> None:
    runs = points.get((ALPHA_FACTORS[column], THETA_FACTORS[row]))
    text = f"{share:.2f}\nn = {len(runs)}" if runs else "not\nrecorded"
    cell = _SHADES(share) if runs else "white"
    colour = "white" if style.is_dark(cell) else "#222222" if runs else "#777777"
    # Above the predicted boundary, which crosses cells: an outline in the cell's colour keeps the number readable.
    axes.text(
        column, row - 0.17, text, ha="center", va="center", fontsize=style.SMALL, color=colour, zorder=4,
        path_effects=[withStroke(linewidth=3, foreground=cell)],
    )  # fmt: skip


def _column(factor: float) -> float:
    """Where a factor lies among the columns, which are even steps but not even on a logarithmic scale; outside them, at the
    border."""
    places = np.log(ALPHA_FACTORS)
    inside = np.interp(np.log(factor), places, np.arange(len(places)))
    return float(
        np.where(factor < ALPHA_FACTORS[0], -0.45, np.where(factor > ALPHA_FACTORS[-1], len(places) - 0.55, inside))
    )


def _overlay(axes: Axes, points: Mapping) -> None:
    known = sweeps.phases(points)
    rows = [THETA_FACTORS.index(theta) + 0.25 for theta in known]
    for noise, (words, colour, line, marker) in _BOUNDARIES.items():
        places = [_column(one.boundary(noise)) for one in known.values()]
        axes.plot(places, rows, color=colour, linestyle=line, marker=marker, markersize=5, label=f"predicted: {words}",
                  markeredgecolor="white", clip_on=False)  # fmt: skip
    paper = _column(sweeps.paper_factor(known))
    axes.plot(
        [paper], [THETA_FACTORS.index(1.0) + 0.25], linestyle="", marker="*", markersize=13, color="#d55e00",
        markeredgecolor="white", label="the paper's two rates", clip_on=False,
    )  # fmt: skip


@style.styled
def against_prediction(
    results: Mapping[str, Sequence], expected: Mapping[tuple, float], paper: sweeps.Phase | None = None
) -> Figure:
    """The same points against three predictions: the ratio with every step in full and with steps discounted for noise
    (right of 1 edges should be dropped), and the share ``expected`` from replaying α alone (points on the diagonal).
    Dotted: the ratio of the ``paper``."""
    points = sweeps.grid(results)
    figure = style.new_figure(3.3)
    row = figure.subplots(1, 3, sharey=True)
    known = sweeps.phases(points)
    for theta, one in known.items():
        own = sorted((alpha, sweeps.dropped(runs)) for (alpha, other), runs in points.items() if other == theta)
        share = [value for _, value in own]
        colour, line, marker = _THETA_LOOKS[theta]
        for axes, noise in zip(row, _BOUNDARIES, strict=False):
            axes.plot([one.ratio(alpha, noise) for alpha, _ in own], share, color=colour, linestyle=line,
                      marker=marker, markersize=5)  # fmt: skip
        told = [expected[alpha, theta] for alpha, _ in own]
        row[2].plot(told, share, color=colour, linestyle="", marker=marker, markersize=6, label=f"θ × {theta:g}")
    for axes, (noise, (words, *_)) in zip(row, _BOUNDARIES.items(), strict=False):
        axes.axvline(1, color="#444444", linewidth=0.9)
        if paper is not None and paper.ratio(1.0, noise) > 0:
            axes.axvline(paper.ratio(1.0, noise), color="#d55e00", linestyle=":")
        axes.set_xscale("log")
        style.tidy(axes, x="way α can go / way to go", title=words)
    row[2].plot([0, 1], [0, 1], color="#444444", linewidth=0.9, zorder=0.5)
    style.tidy(row[2], x="share when α is replayed", title="α alone, replayed")
    row[0].set_ylim(-0.03, 1.03)
    row[0].set_ylabel("share of edges dropped")
    if points:
        figure.legend(*row[2].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    else:
        for axes in row:
            style.say_empty(axes, "not recorded")
    figure.set_label(
        "Share of edges dropped at the minimum against the predicted ratio, and against the share when α is replayed. "
        + " ".join(sweeps.findings(points, expected, paper))
    )
    return figure
