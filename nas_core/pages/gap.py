"""B2, deepened: what opens and closes the generalisation gap in bi-level search, and what it does to the wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from nas_core.lab.store import Result
from nas_core.pages import style, summary
from nas_core.pages.claims import number
from nas_core.pages.evidence import mean_of, with_interval
from nas_core.pages.parameters import Parameters
from nas_core.pages.runs import recorded
from nas_core.pages.tables import markdown

VARIED: dict[str, dict[str, Any]] = {
    "no label noise": {"label_noise": 0.0},
    "40 % label noise": {},
    "40 % noise, half the images": {"images": 200},
    "40 % noise, twice the images": {"images": 800},
}
"""Bi-level runs on the digits by what is set in place of the values of scale ``tiny``."""
DECAY = "40 % noise, weight decay × 30"


def collect(tiny: Parameters, say: Callable[[str], None] = print) -> dict[str, list[Result]]:
    """The recorded runs of every setting at the parameters ``tiny``, by label."""
    found: dict[str, list[Result]] = {}
    for label, given in VARIED.items():
        found |= recorded(replace(tiny, **given), {label: "reference_darts_bilevel"}, say)
    return found | recorded(tiny, {DECAY: "corrected_bilevel_decay"}, say)


def gaps(runs: Sequence) -> np.ndarray:
    """``[s, V]``: accuracy on training images minus accuracy on held-out images."""
    accuracy = summary.stack(runs, "accuracy")
    return accuracy[..., 0] - accuracy[..., 1]


def held_out_cost(runs: Sequence) -> np.ndarray:
    """``[s, V]``: the last cell's summed edge costs on held-out images."""
    return summary.edge_cost(runs, "held_out")[1].sum(axis=-1)


def kept(runs: Sequence) -> np.ndarray:
    """``[s, V]``: edges alive at the epochs that were evaluated."""
    return summary.survivors(runs).sum(axis=-1)[:, summary.evaluated(runs).astype(int)]


def stop(runs: Sequence) -> np.ndarray:
    """``[s]``: the evaluation after which the loss on held-out images is lowest: where early stopping would end."""
    return np.argmin(summary.stack(runs, "loss")[:, :, 1], axis=1)


@style.styled
def paths(results: Mapping[str, Sequence]) -> Figure:
    """Held-out cost against the generalisation gap, one line a run from its first evaluation to its last, which is
    marked: filled where at least half of the edges are alive, hollow where not."""
    figure = style.new_figure(4.2)
    axes = figure.subplots()
    spoken = []
    for (label, runs), (colour, line, marker) in zip(results.items(), style.SERIES, strict=False):
        gap, cost, alive = gaps(runs), held_out_cost(runs), kept(runs)
        most = len(summary.cell_of(runs[0]).edges) / 2
        for run in range(len(runs)):
            axes.plot(gap[run], cost[run], color=colour, linestyle=line, linewidth=0.8, alpha=0.5)
            axes.plot(
                gap[run, -1], cost[run, -1], marker=marker, color=colour, markersize=6.5, linestyle="",
                markerfacecolor=colour if alive[run, -1] >= most else "white",
                label=label if run == 0 else None,
            )  # fmt: skip
        spoken.append(
            f"{label}: mean gap {mean_of(gap[:, -1]):.2f}, held-out cost {mean_of(cost[:, -1]):+.2f}, "
            f"{mean_of(alive[:, -1]):.1f} edges alive at the end"
        )
    style.zero_line(axes)
    style.tidy(axes, x="accuracy on training images − accuracy on held-out images", y="held-out cost of the last cell")
    if results:
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
    else:
        style.say_empty(axes, "none of these searches is recorded")
    figure.set_label(
        f"Held-out cost against the generalisation gap over the search, a line a run. {'; '.join(spoken)}."
    )
    return figure


def table(results: Mapping[str, Sequence]) -> str:
    """One row a setting: gap, held-out cost and surviving edges at the end, and the last two where the held-out loss was
    lowest."""
    rows = []
    for label, runs in results.items():
        best, every = stop(runs), np.arange(len(runs))
        rows.append(
            [
                label,
                str(len(runs)),
                with_interval(gaps(runs)[:, -1]),
                with_interval(held_out_cost(runs)[:, -1]),
                with_interval(kept(runs)[:, -1]),
                with_interval(held_out_cost(runs)[every, best]),
                with_interval(kept(runs)[every, best]),
            ]
        )
    header = ["search", "n", "gap", "held-out cost", "edges kept", "held-out cost, stopped early", "edges kept"]
    return markdown(header, rows, text=1)


def prediction(results: Mapping[str, Sequence]) -> str:
    """A sentence: how well, over all runs, the gap at the end and the held-out cost at the end predict what survives."""
    if not results:
        return "None of these searches is recorded for these parameters."
    ends = {name: np.concatenate([own(runs)[:, -1] for runs in results.values()]) for name, own in _READINGS.items()}
    left = np.concatenate([kept(runs)[:, -1] for runs in results.values()])
    words = []
    for name, values in ends.items():
        if np.ptp(values) == 0 or np.ptp(left) == 0:
            return f"Over {len(left)} runs the number of surviving edges does not vary, so nothing predicts it."
        words.append(f"the {name} {number(float(stats.spearmanr(values, left).statistic))}")
    return (
        f"Over {len(left)} runs the rank correlation (Spearman) with the number of surviving edges is, for "
        f"{' and for '.join(words)}."
    )


_READINGS = {"generalisation gap": gaps, "held-out cost": held_out_cost}
