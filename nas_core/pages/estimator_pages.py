"""The estimators of the cost on a page: their errors against time, where the variance comes from, when a sign is known, and claim B5.

Runs are those of :mod:`nas_core.estimation`. An estimator's *error* is the root of the mean square over all entries (edge and operation) other than
*none*. Its *price* is the mean variance of a repeat times the seconds of the repeat: after T seconds the standard error is √(price/T). Letters in
shapes: s seeds, T = 2 states of θ, R repeats, E edges, K operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas_core.conditioned import SharedBatch, layout
from nas_core.cost import probe
from nas_core.estimation import STATES
from nas_core.estimators import entries
from nas_core.operations import Normalization
from nas_core.pages import style, summary
from nas_core.pages.claims import Verdict, number, power, untested
from nas_core.pages.evidence import CannotTell, Results, grade, need, percent, sign, verdict, with_interval
from nas_core.pages.style import Pen
from nas_core.pages.tables import markdown
from nas_core.relaxation import Sample
from nas_core.space import Cell, minimal
from nas_core.supernet import NetworkConfig, Supernet

ESTIMATORS = "estimators of the cost"
SAMPLED, COUNTERFACTUAL, CONDITIONED, EXACT = "sampled", "counterfactual", "conditioned", "exact"
GOAL = 4.0
"""How many times less time than plain sampling counts as a full success."""

STATE_WORDS = {"initial": "before training", "trained": "after training"}
WORDS = {
    SAMPLED: "sampled: one probe a batch",
    COUNTERFACTUAL: "counterfactual: one probe, all candidates",
    CONDITIONED: "conditioned: shared pass (Rao–Blackwell)",
    EXACT: "exact on each batch",
}
SERIES = dict(zip(WORDS, style.SERIES))
PARTS = ("architecture", "batch", "interaction")
PART_COLOURS = ("#4477aa", "#bb8800", "#bbbbbb")


# --- readings ---------------------------------------------------------------------------------------------------------


def wanted(run) -> np.ndarray:
    """``[E, K]`` bool: the entries that are estimated."""
    return entries(summary.cell_of(run))


def over_entries(values: np.ndarray, run) -> np.ndarray:
    """Mean over the entries of ``[..., E, K]``, without those of which nothing is known."""
    own = values[..., wanted(run)]
    count = np.isfinite(own).sum(-1)
    return np.where(count > 0, np.nansum(own, -1) / np.maximum(count, 1), np.nan)


def _variance(mean: np.ndarray) -> np.ndarray:
    """``[T, R, E, K] -> [T, E, K]``: the unbiased variance over repeats, NaN where fewer than two know an entry."""
    count = np.isfinite(mean).sum(1)
    centre = np.nansum(mean, 1) / np.maximum(count, 1)
    squares = np.nansum((mean - centre[:, None]) ** 2, 1)
    return np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan)


def prices(results: Sequence, name: str) -> np.ndarray:
    """``[s, T]``: variance times seconds. For *exact* batches are taken as independent, and are its repeats."""
    found = []
    for run in results:
        seconds = np.asarray(run.arrays[f"{name}_seconds"], dtype=float)
        each = seconds / run.arrays["exact_mean"].shape[1] if name == EXACT else seconds.mean(1)
        found.append(over_entries(_variance(run.arrays[f"{name}_mean"]), run) * each)
    return np.array(found)


def independent_prices(results: Sequence, name: str) -> np.ndarray:
    """``[s, T]``: the same from the variance between single batches, as if the batches of a pass were independent."""
    found = []
    for run in results:
        arrays = run.arrays
        share = arrays[f"{name}_variance"] / np.maximum(arrays[f"{name}_count"].mean(1), 1)
        found.append(over_entries(share, run)
                     * arrays[f"{name}_seconds"].mean(1))  # fmt: skip
    return np.array(found)


def gains(results: Sequence, name: str = CONDITIONED) -> np.ndarray:
    """``[s, T]``: how many times less time than plain sampling an estimator takes to the same standard error."""
    return prices(results, SAMPLED) / prices(results, name)


def biases(results: Sequence) -> np.ndarray:
    """``[s, T]``: the counterfactual bias of a typical entry (the root of the median square, its noise taken off, or 0).

    The median, because a rare draw gives entries of two edges a cost that is larger by orders of magnitude."""
    found = []
    for run in results:
        means = [np.asarray(run.arrays[f"{name}_mean"]) for name in (COUNTERFACTUAL, CONDITIONED)]
        noise = sum(_variance(mean) / mean.shape[1] for mean in means)
        square = (means[0].mean(1) - means[1].mean(1)) ** 2 - noise
        found.append(np.sqrt(np.maximum(np.nanmedian(square[:, wanted(run)], axis=-1), 0)))
    return np.array(found)


def sizes(results: Sequence) -> np.ndarray:
    """``[s, T]``: the root mean square of the costs themselves."""
    return np.array([np.sqrt(over_entries(run.arrays["conditioned_mean"].mean(1) ** 2, run)) for run in results])


def errors(results: Sequence, name: str, seconds: np.ndarray) -> np.ndarray:
    """``[s, T, X]``: the error after so many seconds; the counterfactual one includes its bias."""
    square = prices(results, name)[..., None] / seconds
    if name == COUNTERFACTUAL:
        square = square + biases(results)[..., None] ** 2
    return np.sqrt(square)


def known(results: Sequence, name: str, seconds: np.ndarray) -> np.ndarray:
    """``[s, T, X]``: the share of entries whose sign is known after so many seconds, every look paid for."""
    found = []
    for run in results:
        arrays = run.arrays
        step = arrays[f"{name}_seconds"].sum(1) / arrays[f"{name}_steps"].sum(1)
        times = arrays[f"{name}_signs"][:, wanted(run)] * step[:, None]
        found.append((times[..., None] <= seconds).mean(1))
    return np.array(found)


def total_seconds(results: Sequence, name: str) -> float:
    """Mean seconds of all repeats of an estimator together."""
    return float(np.mean([run.arrays[f"{name}_seconds"].sum(1) for run in results]))


# --- the derivation, checked ------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """The largest difference between a cost from the shared pass and from a probe, the largest cost, and how many were compared."""

    difference: float
    largest: float
    architectures: int
    costs: int


def verification(architectures: int = 150, cell: Cell | None = None, seed: int = 0) -> Check:
    """Costs of random architectures, by the shared pass and by a probe of each, in float64; ε is large enough to be seen."""
    config = NetworkConfig(cell or minimal(), channels=4, normalization=Normalization(eps=1e-3))
    network = Supernet(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (4,), generator=generator)
    costs = layout(SharedBatch(network, images, labels))
    difference = largest = 0.0
    for _ in range(architectures):
        place = [int(torch.randint(size, (), generator=generator)) for size in costs.shape[1:]]
        choice = [edge.indices[at] for edge, at in zip(config.cell.edges, place, strict=True)]
        z = torch.zeros(1, *np.array(config.cell.mask()).shape, dtype=torch.float64)
        z[0, range(len(choice)), choice] = 1
        own = probe(network, images, labels, Sample(z, z > 0)).cost[0, range(len(choice)), choice]
        index: tuple[slice | int, ...] = (slice(None), *place)
        difference = max(difference, float((own - costs[index]).abs().max()))
        largest = max(largest, float(own.abs().max()))
    return Check(difference, largest, architectures, architectures * len(config.cell.edges))


def check_table(drawn: Check, recorded: Sequence) -> str:
    """:func:`verification` on the page, and the recorded run of :mod:`nas_core.verification` that probes every architecture."""
    rows = [
        [
            "drawn at random, on this page",
            drawn.architectures,
            drawn.costs,
            power(drawn.difference),
            power(drawn.largest),
            "–",
        ]
    ]
    for run in recorded:
        arrays, count = run.arrays, int(run.arrays["architectures"])
        apart = float(np.nanmax(np.abs(arrays["probed"] - arrays["shared"])))
        rows.append(["every one, recorded", count, count * len(arrays["largest"]),
                     *(power(arrays[name].max()) for name in ("difference", "largest")), power(apart)])  # fmt: skip
    header = [
        "architectures",
        "how many",
        "costs compared",
        "largest difference",
        "largest cost",
        "largest difference of a mean",
    ]
    return markdown(header, rows, text=1)


# --- tables -----------------------------------------------------------------------------------------------------------


def state_rows(build: Callable[[int], list[list[str]]]) -> list[list[str]]:
    return [[STATE_WORDS[state], *row] for position, state in enumerate(STATES) for row in build(position)]


def gain_words(values: np.ndarray) -> str:
    """The geometric mean of ratios or errors with its interval."""
    return with_interval(np.log(values), np.exp)


def comparison(results: Sequence) -> str:
    """One row an estimator: milliseconds a batch, error after the time that all repeats of plain sampling took, bias, and its gain."""
    budget = np.array([total_seconds(results, SAMPLED)])

    def rows(state: int) -> list[list[str]]:
        table = []
        for name in WORDS:
            step = np.array([milliseconds(run, name, state) for run in results])
            own = np.sqrt(prices(results, name)[:, state] / budget)
            bias = biases(results)[:, state] if name == COUNTERFACTUAL else None
            table.append([
                name, with_interval(step), gain_words(1000 * own),
                "0, by construction" if bias is None else with_interval(1000 * bias),
                "1" if name == SAMPLED else gain_words(gains(results, name)[:, state]),
            ])  # fmt: skip
        return table

    header = ["θ", "estimator", "ms a batch", f"standard error × 10³ after {number(float(budget[0]))} s", "bias × 10³"]
    return markdown([*header, "times less time for the same standard error"], state_rows(rows), text=2)


def milliseconds(run, name: str, state: int) -> float:
    seconds = np.sum(run.arrays[f"{name}_seconds"][state])
    steps = run.arrays["exact_mean"].shape[1] if name == EXACT else np.sum(run.arrays[f"{name}_steps"][state])
    return float(1000 * seconds / steps)


def stopping(results: Sequence) -> str:
    """When signs are known: by plain sampling in its time, and by the conditioned estimator in the same and in less."""
    fixed = results[0].meta["config"]["fixed_passes"]

    def rows(state: int) -> list[list[str]]:
        found = [_saved(run, state) for run in results]
        columns = np.array(found, dtype=float).T
        return [[with_interval(columns[0]), with_interval(columns[1]), with_interval(columns[2])]]

    header = ["θ", f"signs known by sampling after {fixed} passes", "signs known by conditioning in that time"]
    return markdown([*header, "share of the time saved until conditioning knows as many"], state_rows(rows), text=1)


def _saved(run, state: int) -> tuple[float, float, float]:
    """Signs that fixed passes of plain sampling tell, signs that conditioning tells in that time, and the time it saves to as many."""
    arrays, own = run.arrays, wanted(run)
    steps = arrays["steps_per_pass"] * run.meta["config"]["fixed_passes"]
    each = {name: milliseconds(run, name, state) for name in (SAMPLED, CONDITIONED)}
    plain = int((arrays["sampled_signs"][state][own] <= steps).sum())
    times = np.sort(arrays["conditioned_signs"][state][own] * each[CONDITIONED])
    budget = float(steps * each[SAMPLED])
    shared = int((times <= budget).sum())
    saved = 1 - times[plain - 1] / budget if plain else np.nan
    return plain, shared, saved


# --- figures ----------------------------------------------------------------------------------------------------------


@style.styled
def error_against_time(results: Sequence) -> Figure:
    """The error of every estimator against seconds, one panel a state of θ; a marker where it was measured."""
    longest = max(total_seconds(results, name) for name in (SAMPLED, CONDITIONED))
    seconds = np.geomspace(longest / 300, 3 * longest, 40)
    figure = style.new_figure(3.9)
    row = figure.subplots(1, len(STATES), sharey=True)
    spoken = []
    for state, axes in enumerate(row):
        for name, (colour, line, marker) in SERIES.items():
            mean, low, high = (np.exp(part) for part in summary.band(np.log(errors(results, name, seconds)[:, state])))
            axes.plot(seconds, mean, color=colour, linestyle=line, linewidth=1.8, label=WORDS[name])
            axes.fill_between(seconds, low, high, color=colour, alpha=0.15, linewidth=0)
            at = total_seconds(results, name) if name != EXACT else _exact_seconds(results)
            axes.plot(
                at, np.exp(np.interp(np.log(at), np.log(seconds), np.log(mean))), marker, color=colour, markersize=6
            )
        size = float(np.mean(sizes(results)[:, state]))
        axes.axhline(size, color="#666666", linewidth=0.9, linestyle=(0, (1, 2)), label="size of the costs")
        axes.set_xscale("log"), axes.set_yscale("log")
        style.tidy(axes, x="seconds of one processor", title=STATE_WORDS[STATES[state]])
        spoken.append(
            f"{STATE_WORDS[STATES[state]]}, conditioning takes {number(float(np.exp(np.log(gains(results)[:, state]).mean())))} times "
            f"less time than sampling for the same standard error"
        )
    row[0].set_ylabel("error of an entry (root mean square)")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(f"Error of four estimators against time, falling lines on logarithmic axes: {'; '.join(spoken)}.")
    return figure


def _exact_seconds(results: Sequence) -> float:
    return float(np.mean([run.arrays["exact_seconds"] for run in results]))


@style.styled
def bias_and_noise(results: Sequence) -> Figure:
    """Bias and standard error of every estimator after equal time, relative to the size of the costs."""
    budget = np.array([total_seconds(results, SAMPLED)])
    figure = style.new_figure(3.3)
    row = figure.subplots(1, len(STATES), sharey=True)
    relative = biases(results) / sizes(results)
    spoken = []
    for state, axes in enumerate(row):
        for at, name in enumerate(WORDS):
            noise = np.sqrt(prices(results, name)[:, state] / budget) / sizes(results)[:, state]
            _point(axes, at, noise, "#4477aa", "o")
        _point(axes, list(WORDS).index(COUNTERFACTUAL) + 0.15, relative[:, state], "#aa3377", "D")
        axes.set_yscale("log")
        axes.set_xticks(range(len(WORDS)), list(WORDS), rotation=20, ha="right", rotation_mode="anchor")
        axes.axhline(1, color="#666666", linewidth=0.9, linestyle=(0, (1, 2)))
        style.tidy(axes, title=STATE_WORDS[STATES[state]])
        words = percent(float(np.median(relative[:, state])))
        spoken.append(
            f"{STATE_WORDS[STATES[state]]} the bias of the counterfactual estimator is {words} of the size of the costs"
        )
    row[0].set_ylabel("relative to the size of the costs")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=words)
        for colour, marker, words in (
            ("#4477aa", "o", "standard error"),
            ("#aa3377", "D", "bias (the others have none)"),
        )
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(f"Bias and standard error of four estimators after equal time: {'; '.join(spoken)}.")
    return figure


def _point(axes, at: float, values: np.ndarray, colour: str, marker: str) -> None:
    """The median of runs as a marker, and their range as a line: one run in many has a huge value, which no interval fits."""
    shown = values[values > 0]
    if len(shown):
        axes.plot([at] * 2, [shown.min(), shown.max()], color=colour, linewidth=1.2)
        axes.plot(at, np.median(values) or np.nan, marker, color=colour, markersize=6)


@style.styled
def variance_split(results: Sequence) -> Figure:
    """Shares of the variance of one probe that architectures, batches and their interaction have, one bar an edge."""
    cell = summary.cell_of(results[0])
    figure = style.new_figure(3.3)
    row = figure.subplots(1, len(STATES), sharey=True)
    spoken = []
    for state, axes in enumerate(row):
        parts = np.array([_edge_parts(run)[state] for run in results])  # [s, 3, E]
        shares = (parts / parts.sum(1, keepdims=True)).mean(0)
        floor = np.zeros(len(cell.edges))
        for part, colour in enumerate(PART_COLOURS):
            axes.bar(range(len(cell.edges)), shares[part], 0.7, bottom=floor, color=colour, label=PARTS[part])
            floor += shares[part]
        names = [summary.edge_name(cell, e).replace(" ", "\n") for e in range(len(cell.edges))]
        axes.set_xticks(range(len(cell.edges)), names)
        style.tidy(axes, title=STATE_WORDS[STATES[state]])
        spoken.append(f"{STATE_WORDS[STATES[state]]} batches have {percent(float(shares[1].mean()))} of it")
    row[0].set_ylabel("share of the variance of a probe")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(
        f"Variance of one probe split into architecture, batch and interaction, by edge: {'; '.join(spoken)}."
    )
    return figure


def _edge_parts(run) -> np.ndarray:
    """``[T, 3, E]``: variance components of a probe, averaged over an edge's operations."""
    own = wanted(run)
    return (run.arrays["exact_single"] * own).sum(-1) / own.sum(-1).clip(min=1)


@style.styled
def signs_known(results: Sequence) -> Figure:
    """The share of entries whose sign is known against seconds, by sampling and by conditioning."""
    figure = style.new_figure(3.3)
    row = figure.subplots(1, len(STATES), sharey=True)
    seconds = np.linspace(0, max(total_seconds(results, name) for name in (SAMPLED, CONDITIONED)), 200)
    spoken = []
    for state, axes in enumerate(row):
        ends = []
        for name in (SAMPLED, CONDITIONED):
            colour, line, _ = SERIES[name]
            until = seconds <= total_seconds(results, name)
            share = known(results, name, seconds)[:, state][:, until]
            style.curve(axes, seconds[until], share, Pen(colour, line, label=WORDS[name], width=1.8))
            ends.append(f"{name} {percent(float(share[:, -1].mean()))}")
        axes.set_ylim(0, 1.02)
        style.tidy(axes, x="seconds of one processor", title=STATE_WORDS[STATES[state]])
        spoken.append(f"{STATE_WORDS[STATES[state]]} {' and '.join(ends)}")
    row[0].set_ylabel("share of signs known")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.set_label(f"Share of the entries whose sign is known against time. At the end: {'; '.join(spoken)}.")
    return figure


# --- the claim --------------------------------------------------------------------------------------------------------


def best_estimator(results: Results) -> Verdict:
    """B5. Direction: conditioning needs less time than plain sampling for the same standard error, before and after training (the geometric
    mean of the two). Magnitude: at least :data:`GOAL` times less, shown or on average."""
    runs = need(results, ESTIMATORS)
    logs = np.log(gains(runs))
    overall = logs.mean(1)
    direction = sign(overall, +1)
    low = summary.interval(overall)[1]
    magnitude = grade(direction, low >= np.log(GOAL), overall.mean() >= np.log(GOAL))
    bias = biases(runs) / sizes(runs)
    words = " and ".join(
        f"{gain_words(gains(runs)[:, state])} times less time {STATE_WORDS[name]}" for state, name in enumerate(STATES)
    )
    off = " and ".join(f"{percent(np.median(bias[:, state]))} {STATE_WORDS[name]}" for state, name in enumerate(STATES))
    sentence = (
        f"For the same standard error the conditioned estimator takes {words} than one probe a batch. The counterfactual estimator is biased by "
        f"{off} of the size of the costs. To be exact on each batch takes {gain_words(1 / gains(runs, EXACT).prod(1) ** 0.5)} times the time "
        f"of plain sampling. The number is the gain of conditioning."
    )
    return verdict("B5", runs, overall, "times", direction, magnitude, sentence, np.exp)


RECIPES = {ESTIMATORS: "cost_estimators"}
"""The recipe behind the label."""
EVERY = {"every architecture": "estimator_enumeration"}
"""The check of the derivation that takes minutes, recorded at scale ``tiny``."""

MEASURES: dict[str, Callable[[Results], Verdict]] = {"B5": best_estimator}
"""The measure of the claim that this page judges."""


def judge(claim_id: str, results: Results) -> Verdict:
    """The verdict of :data:`MEASURES`; *not tested*, with the reason, where the runs cannot tell."""
    try:
        return MEASURES[claim_id](results)
    except CannotTell as reason:
        return untested(claim_id, str(reason))
