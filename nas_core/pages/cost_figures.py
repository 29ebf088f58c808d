"""Figures and tables of the statistics of cost (Section 5.1): pure functions of runs of :mod:`nas_core.pages.cost_measures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas_core.pages import cost_measures as measures
from nas_core.pages import cost_reasons as reasons
from nas_core.pages import figures, style, summary
from nas_core.pages.claims import NOT_TESTED, REPRODUCED, number
from nas_core.pages.evidence import percent, sign, with_interval
from nas_core.pages.style import Pen
from nas_core.pages.tables import markdown
from nas_core.space import NONE, OPERATIONS, SKIP

_TOTAL = Pen(style.QUANTITY_COLOURS["cost"], width=2.4)


# --- one seed, as the paper has it ------------------------------------------------------------------------------------


@style.styled
def one_seed_map(groups: Mapping[str, Sequence], seed: int | None = None) -> Figure:
    """Fig 4 as one seed shows it: every mean with its standard error inside the run below it, in the units of the panel.

    ``seed`` defaults to the first. A frame marks an entry whose sign is opposite to that of the mean over the other seeds.
    """
    groups = summary.panels(groups)
    figure, rows = figures.new_maps(len(groups), len(summary.cell_of(summary.flat(groups)[0]).edges))
    spoken = []
    for axes, (title, runs) in zip(rows, groups.items(), strict=True):
        position = _position(runs, seed)
        found = summary.Estimates(*(own[-1] for own in summary.statistics(runs[position : position + 1])))
        figures.draw_map(figure, axes, summary.cell_of(runs[0]), found)
        values = measures.entries(runs)
        odd = np.zeros(values.shape[1:], dtype=bool)
        if len(runs) > 1:
            odd = values[position] * np.delete(values, position, axis=0).mean(axis=0) < 0
        _frame(axes, odd)
        axes.set_title(f"{title}, seed {runs[position].meta['seed']}".lstrip(", "), loc="left")
        known = np.isfinite(values[position])
        spoken.append(
            f"{title + ': ' if title else ''}{(values[position][known] > 0).sum()} of {known.sum()} operations other than "
            f"none are positive in this seed, {odd.sum()} have the sign opposite to the mean of the other seeds"
        )
    figure.set_label(f"Heat map of the cost in one seed with its standard error inside the run. {'; '.join(spoken)}.")
    return figure


def _position(runs: Sequence, seed: int | None) -> int:
    seeds = [run.meta["seed"] for run in runs]
    wanted = min(seeds) if seed is None else seed
    if wanted not in seeds:
        raise summary.ReadingError(f"seed {seed} is not among these runs; give one of {', '.join(map(str, seeds))}")
    return seeds.index(wanted)


def _frame(axes, which: np.ndarray) -> None:
    for edge, operation in zip(*np.nonzero(which), strict=True):
        frame = matplotlib.patches.Rectangle(
            (operation - 0.46, edge - 0.44), 0.92, 0.88, fill=False, edgecolor="#111111", linewidth=1.8
        )
        axes.add_patch(frame)


# --- training ---------------------------------------------------------------------------------------------------------


def window(epochs: int) -> int:
    """The width of the window over which curves of cost are averaged: a tenth of the run, odd, so that it has a middle."""
    return 2 * (epochs // 20) + 1


def _smooth(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean cost over a centred :func:`window` of epochs (axis 1), every step counting once; NaN without one."""
    kernel = np.ones(window(total.shape[1]))

    def windowed(values: np.ndarray) -> np.ndarray:
        return np.apply_along_axis(np.convolve, 1, values, kernel, mode="same")

    steps = windowed(count)
    return np.where(steps > 0, windowed(total) / np.maximum(steps, 1), np.nan)


def _edges(results: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the epochs and the smoothed cost of every edge ``[s, T, E]``: the mean over steps of what was drawn."""
    total, count = measures.step_totals(results)
    return np.arange(total.shape[1]) + 0.5, _smooth(total.sum(axis=-1), count.sum(axis=-1))


@style.styled
def training(results: Sequence) -> Figure:
    """Fig 7: loss, accuracy, and the cost of every edge with its sum, as the steps of training saw them; the costs are
    smoothed over a :func:`window`."""
    cell = summary.cell_of(results[0])
    epochs, cost = _edges(results)
    loss, score = (summary.stack(results, f"train_{name}") for name in ("loss", "accuracy"))
    total = cost.sum(axis=-1)
    figure = style.new_figure(5.6)
    rows = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 3))
    style.curve(rows[0], epochs, loss, Pen(style.QUANTITY_COLOURS["loss"]))
    style.curve(rows[1], epochs, score, Pen("#222222"), within=(0, 1))
    for edge, pen in enumerate(style.edge_pens(cell)):
        style.curve(rows[2], epochs, cost[..., edge], pen)
    style.curve(rows[2], epochs, total, _TOTAL)
    style.zero_line(rows[2])
    for axes, words in zip(rows, ("(a)  loss L (nats)", "accuracy", ""), strict=True):
        style.tidy(axes, y=words)
    style.tidy(rows[2], x="epoch", y="(b)  cost per edge, Σ")
    rows[2].set_xlim(0, epochs[-1] + 0.5)
    whole = Line2D([], [], color=_TOTAL.colour, linewidth=_TOTAL.width, label="sum over edges")
    figure.legend(handles=[*style.class_handles(cell), whole], loc="outside upper center", ncols=3, frameon=False)
    figure.draw_without_rendering()
    ends = summary.band(cost)[0][-1]
    names = [(ends[edge], f"e{edge}", pen.colour) for edge, pen in enumerate(style.edge_pens(cell))]
    style.end_labels(rows[2], epochs[-1] + 0.5, [*names, (ends.sum(), "sum", _TOTAL.colour)])
    figure.set_label(
        f"Loss, accuracy and cost over the epochs of training. Loss from {loss[:, 0].mean():.2f} to "
        f"{loss[:, -1].mean():.2f}, accuracy from {score[:, 0].mean():.2f} to {score[:, -1].mean():.2f}, sum of the edges' "
        f"costs from {total[:, 0].mean():+.3f} to {total[:, -1].mean():+.3f}."
    )
    return figure


@style.styled
def output_cost(results: Sequence) -> Figure:
    """Fig 21: L and H above, C below, over epochs: evaluations on plain training images (solid), and beside them what the
    steps of training saw (dashed), where C is the sum of the edges' costs and H was not recorded."""
    epochs, cost = _edges(results)
    evaluated = summary.evaluated(results)
    loss, entropy = summary.loss_and_entropy(results, "train")
    total, seen = cost.sum(axis=-1), summary.stack(results, "train_loss")
    figure = style.new_figure(4.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    dashed = style.SET_LINES["held_out"]
    colours = style.QUANTITY_COLOURS
    style.curve(above, evaluated, loss, Pen(colours["loss"], label="L, plain images"))
    style.curve(above, epochs, seen, Pen(colours["loss"], dashed, label="L, steps of training"))
    style.curve(above, evaluated, entropy, Pen(colours["entropy"], label="H, plain images"))
    style.curve(below, evaluated, loss - entropy, Pen(colours["cost"], label="C = L − H, plain images"))
    style.curve(below, epochs, total, Pen(colours["cost"], dashed, label="Σ C over edges, steps of training"))
    style.zero_line(below)
    style.tidy(above, y="loss L, entropy H (nats)")
    style.tidy(below, x="epoch", y="cost C")
    handles = [handle for axes in (above, below) for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    ends = [summary.band(values)[0] for values in (loss, entropy, loss - entropy, total)]
    figure.set_label(
        f"Loss L and entropy H, and below them the cost C, over epochs. On plain training images L goes from "
        f"{ends[0][0]:.2f} to {ends[0][-1]:.2f}, H from {ends[1][0]:.2f} to {ends[1][-1]:.2f}, C from {ends[2][0]:+.3f} to "
        f"{ends[2][-1]:+.3f}. In the steps of training the edges' costs add up to {ends[3][0]:+.3f} at first and "
        f"{ends[3][-1]:+.3f} at the end."
    )
    return figure


def skip_sizes(results: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles of the epochs, and ``[s, T]`` twice: the size of the smoothed cost of *skip_connect* on intermediate
    edges, and the mean size of that of the other operations there.

    Raises :class:`ReadingError` for a cell without such a skip."""
    cell = summary.cell_of(results[0])
    inner = [edge for edge in range(len(cell.edges)) if cell.edge_class(edge) == "intermediate"]
    if not any("skip_connect" in cell.edges[edge].operations for edge in inner):
        raise summary.ReadingError(f"the {cell.name} cell has no skip_connect on an intermediate edge")
    total, count = (own[:, :, inner] for own in measures.step_totals(results))
    size = np.abs(_smooth(total, count))
    others = [k for k in range(len(OPERATIONS)) if k not in (NONE, SKIP)]
    epochs = np.arange(size.shape[1]) + 0.5
    return epochs, _mean_known(size[..., [SKIP]]), _mean_known(size[..., others])


def _mean_known(size: np.ndarray) -> np.ndarray:
    """``[s, T, E, K] -> [s, T]``: the mean over the entries that there are."""
    known = np.isfinite(size).sum(axis=(2, 3))
    return np.where(known > 0, np.nansum(size, axis=(2, 3)) / np.maximum(known, 1), np.nan)


def skip_words(results: Sequence) -> str:
    """One sentence: how large the cost of those skips is against the other operations, over the whole training."""
    _, skip, others = skip_sizes(results)
    ratio = np.nanmean(skip, axis=1) / np.nanmean(others, axis=1)
    smaller, larger = sign(ratio - 1, -1) == REPRODUCED, sign(ratio - 1, 1) == REPRODUCED
    words = "smaller, as the paper says" if smaller else "larger, not smaller" if larger else "not shown to be smaller"
    return (
        f"Over this training the cost of such a skip is {with_interval(ratio)} times as large as that of the other operations "
        f"(n = {len(ratio)} seeds): it is {words}."
    )


@style.styled
def skip_course(results: Sequence) -> Figure:
    """The exception of Eq 20 over training: the size of the cost of skips on intermediate edges, beside that of the
    other operations there."""
    epochs, skip, others = skip_sizes(results)
    figure = style.new_figure(3.2)
    axes = figure.subplots()
    for values, pen in (
        (skip, Pen(style.OPERATION_COLOURS["skip_connect"], label="skip_connect")),
        (others, Pen(style.SERIES[3][0], "--", label="other operations, mean size")),
    ):
        style.curve(axes, epochs, values, pen, within=(0, np.inf))
    style.zero_line(axes)
    style.tidy(axes, x="epoch", y="size of the cost")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    ends = ", ".join(
        f"{words} {summary.band(own)[0][0]:.3f} at first and {summary.band(own)[0][-1]:.3f} at the end"
        for words, own in (("skip_connect", skip), ("others", others))
    )
    figure.set_label(f"Size of the cost of operations on intermediate edges over epochs: {ends}.")
    return figure


@style.styled
def crossing_curves(results: Sequence) -> Figure:
    """The cost of every operation over epochs, one panel an edge, with the edge's as a whole and its band over seeds, and
    last the sum over edges. Where a panel's cost as a whole crosses zero
    (:func:`nas_core.pages.cost_measures.crossing`), there is a vertical line with its interval over seeds."""
    cell = summary.cell_of(results[0])
    curves = _smooth(*measures.step_totals(results))
    epochs, whole = _edges(results)
    found = measures.crossings(results)
    panels = len(cell.edges) + 1
    rows = -(-panels // 3)
    figure = style.new_figure(1.95 * rows + 0.9)
    grid = figure.subplots(rows, 3, sharex=True, squeeze=False).ravel()
    for edge, axes in enumerate(grid[: len(cell.edges)]):
        for operation, name in enumerate(OPERATIONS):
            if operation != NONE and name in cell.edges[edge].operations:
                mean = summary.band(curves[:, :, edge, operation])[0]
                axes.plot(epochs, mean, color=style.OPERATION_COLOURS[name], linewidth=1.2)
        style.curve(axes, epochs, whole[..., edge], _TOTAL)
        _crossing_line(axes, found.edges[:, edge])
        style.tidy(axes, title=f"{style.EDGE_SIGNS[cell.edge_class(edge)]} {summary.edge_name(cell, edge)}")
    last = grid[len(cell.edges)]
    style.curve(last, epochs, whole.sum(axis=-1), _TOTAL)
    _crossing_line(last, found.cell)
    style.tidy(last, title="sum over edges")
    for position, axes in enumerate(grid):
        if position < panels:
            style.zero_line(axes)
            axes.tick_params(labelbottom=position + 3 >= panels)
        else:
            axes.set_axis_off()
    grid[0].set_xlim(0, epochs[-1] + 0.5)
    figure.supxlabel("epoch", fontsize=style.FONT)
    figure.supylabel("cost", fontsize=style.FONT)
    used = [name for name in OPERATIONS[1:] if any(name in edge.operations for edge in cell.edges)]
    handle = Line2D([], [], color=_TOTAL.colour, linewidth=_TOTAL.width, label="as a whole")
    figure.legend(handles=[*style.operation_handles(used), handle], loc="outside upper center", ncols=4, frameon=False)
    spoken = [
        f"{summary.edge_name(cell, edge)} {_epoch_words(found.edges[:, edge])}" for edge in range(len(cell.edges))
    ]
    figure.set_label(
        f"Cost of each operation over epochs of training, one panel an edge. Epoch at which the edge's cost crosses zero: "
        f"{', '.join(spoken)}; the sum over edges {_epoch_words(found.cell)}."
    )
    return figure


def _crossing_line(axes, epochs: np.ndarray) -> None:
    mean, low, high = summary.interval(epochs)
    if np.isfinite(mean):
        axes.axvline(mean, color="#444444", linewidth=1.2, linestyle=(0, (2, 2)), zorder=0.6)
    if np.isfinite(low):
        axes.axvspan(max(low, 0), high, color="#444444", alpha=0.12, linewidth=0, zorder=0.4)


def _epoch_words(epochs: np.ndarray) -> str:
    """``3.2 [2.1, 4.3]``, cut at 0, with how many seeds where some never cross, or ``never``."""
    crossed = int(np.isfinite(epochs).sum())
    if crossed == 0:
        return "never"
    mean, low, high = summary.interval(epochs)
    if len(epochs) == 1:
        return f"{mean:.0f}"  # epochs are counted; only their mean has decimals
    bounds = f" [{max(low, 0):.1f},\u00a0{high:.1f}]" if np.isfinite(low) else ""
    return f"{mean:.1f}{bounds}" + (f" ({crossed} of {len(epochs)})" if crossed < len(epochs) else "")


@style.styled
def sums(groups: Mapping[str, Sequence]) -> Figure:
    """The sum of the edges' costs over the epochs of training, and the accuracy on the images of the steps, one series an
    experiment; epochs as a share of training, so that runs of unlike length stand beside each other."""
    groups = summary.panels(groups)
    longest = {len(runs[0].arrays["train_loss"]) for runs in groups.values()}
    figure = style.new_figure(3.6)
    left, right = figure.subplots(1, 2, sharex=True)
    spoken = []
    for (title, runs), (colour, line, marker) in zip(groups.items(), style.SERIES, strict=False):
        epochs, cost = _edges(runs)
        x = epochs if len(longest) == 1 else epochs / len(epochs)
        pen = Pen(colour, line, marker, label=title)
        style.curve(left, x, cost.sum(axis=-1), pen)
        style.curve(right, x, summary.stack(runs, "train_accuracy"), pen, within=(0, 1))
        ends = cost.sum(axis=-1).mean(axis=0)
        spoken.append(f"{title} from {ends[0]:+.3f} to {ends[-1]:+.3f}")
    words = "epoch" if len(longest) == 1 else "share of training"
    style.zero_line(left)
    style.tidy(left, x=words, y="sum of the edges' costs")
    style.tidy(right, x=words, y="accuracy in training")
    right.set_ylim(0, 1)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=1, frameon=False)
    figure.set_label(f"Sum of the edges' costs, and accuracy, over training. The sum goes {'; '.join(spoken)}.")
    return figure


# --- tables -----------------------------------------------------------------------------------------------------------


def sign_table(results: Mapping[str, Sequence]) -> str:
    """H1 and H2 entry by entry: how many signs are shown over seeds, before and after training."""
    rows = []
    for words, label, expected in (("before training", measures.INITIAL, +1), ("after training", measures.TRAINED, -1)):
        runs = results[label]
        found = measures.signs(measures.entries(runs))
        rows.append(
            [words, len(runs), "+" if expected > 0 else "−", found.total, found.shown(expected), found.shown(-expected),
             found.open, found.means(expected)]
        )  # fmt: skip
    header = ["when", "n", "claimed sign", "entries", "shown", "opposite shown", "neither", "mean has the claimed sign"]
    return markdown(header, rows, text=1)


def one_seed_table(results: Mapping[str, Sequence]) -> str:
    """What the picture of one seed is worth, before and after training: :class:`nas_core.pages.cost_measures.OneSeed`."""
    rows = []
    for words, label, expected in (("before training", measures.INITIAL, +1), ("after training", measures.TRAINED, -1)):
        own = measures.one_seed(results[label], expected)
        total = measures.columns(measures.entries(results[label])).shape[1]
        rows.append(
            [words, f"{own.fewest} to {own.most} of {total}", *(_share(value) for value in (own.opposite, own.sampling)),
             number(own.errors)]
        )  # fmt: skip
    header = [
        "when",
        "entries with the claimed sign in a seed",
        "signs opposite to the other seeds' mean",
        "variance between seeds due to sampling",
        "median size in standard errors of the run",
    ]
    return markdown(header, rows, text=1)


def _share(value: float) -> str:
    return percent(value) if np.isfinite(value) else "–"


def crossing_table(results: Sequence) -> str:
    """The epoch at which each operation on each edge, each edge and the sum cross zero: mean over the seeds that cross, with
    interval, and how many of the seeds do where not all."""
    cell = summary.cell_of(results[0])
    found = measures.crossings(results)
    rows = []
    for operation, name in enumerate(OPERATIONS):
        if operation != NONE:
            cells = [
                _epoch_words(found.operations[:, edge, operation]) if name in own.operations else "–"
                for edge, own in enumerate(cell.edges)
            ]
            rows.append([name.replace("_", "\\_"), *cells])
    rows.append(["all operations", *(_epoch_words(found.edges[:, edge]) for edge in range(len(cell.edges)))])
    rows.append(["sum over all edges", _epoch_words(found.cell), *[""] * (len(cell.edges) - 1)])
    return markdown(["operation", *(summary.edge_name(cell, edge) for edge in range(len(cell.edges)))], rows, text=1)


def comparison_table(results: Mapping[str, Sequence]) -> str:
    """One row an experiment: mean over entries, signs shown, when the sum over edges crosses zero, accuracy at the end."""
    rows = []
    for label, runs in results.items():
        values = measures.entries(runs)
        overall = [float(np.nanmean(run)) for run in values]
        trained = len(runs[0].arrays.get("step_cost_mean", ())) > 0
        score = summary.stack(runs, "accuracy")[:, -1]
        rows.append(
            [label, len(runs), with_interval(overall), reasons.count_words(runs),
             _epoch_words(measures.crossings(runs).cell) if trained else "–",
             with_interval(score[:, 0]), with_interval(score[:, 1])]
        )  # fmt: skip
    header = ["runs", "n", "mean over entries", "entries shown +, shown −, open", "sum crosses zero at epoch"]
    return markdown([*header, "accuracy, training", "accuracy, held out"], rows, text=1)


def images_table(results: Mapping[str, Sequence]) -> str:
    """The sum of the edges' costs at the same weights on training images augmented as in training and as they are."""
    rows = []
    for label, runs in results.items():
        seen, plain = measures.sums_at_rest(runs)
        augment = runs[0].meta["config"]["data"]["augment"]
        rows.append([label, len(runs), augment, *(with_interval(own) for own in (seen, plain, plain - seen))])
    header = ["runs", "n", "augmentation", "images as in training", "images as they are", "paired difference"]
    return markdown(header, rows, text=1)


def images_words(results: Sequence) -> str:
    """Whether the sum of costs after training has the same sign on augmented and on plain training images, in a sentence."""
    both = measures.sums_at_rest(results)
    shown = [[sign(own, way) == REPRODUCED for way in (+1, -1)] for own in both]
    if NOT_TESTED in [sign(own, -1) for own in both]:
        return "With so few seeds the sign after training is not tested."
    if shown[0] == shown[1]:
        return "After training, both readings agree about the sign."
    if results[0].meta["config"]["data"]["augment"] == "none":
        return "After training the readings **do not agree about the sign**, and there is no augmentation that could be why."
    return (
        "After training the readings **do not agree about the sign**: at the same weights, what wiring costs depends on "
        "whether the images are augmented as in training."
    )


# --- the paper's scale ------------------------------------------------------------------------------------------------


def beside(
    results: Mapping[str, Sequence],
    at_paper: Mapping[str, Sequence],
    labels: Sequence[str] = (measures.INITIAL, measures.TRAINED),
) -> dict[str, list]:
    """Runs here and those recorded at the paper's scale, by title, for the labels that are recorded there; empty if none is
    or if the runs here are those."""
    titles = {measures.INITIAL: "before training", measures.TRAINED: "after training"}
    panels: dict[str, list] = {}
    for label in labels:
        if at_paper.get(label) and results[label][0].meta["scale"] != "paper":
            panels |= {
                f"{titles[label]}, {_scale_words(runs)}": list(runs) for runs in (results[label], at_paper[label])
            }
    return panels


def _scale_words(runs: Sequence) -> str:
    count = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
    return f"scale {runs[0].meta['scale']}, {count}"


def _data_words(at_paper: Mapping[str, Sequence]) -> str:
    names = dict.fromkeys(run.meta["dataset"]["name"] for run in summary.flat(at_paper))
    return " and ".join(summary.DATASET_WORDS.get(name, name) for name in names)


def paper_scale_words(results: Mapping[str, Sequence], at_paper: Mapping[str, Sequence]) -> str:
    """A table of the runs here and at the paper's scale; where none is recorded, a sentence with what records it."""
    if results[measures.TRAINED][0].meta["scale"] == "paper":
        return "The runs of this page are at the paper's scale themselves."
    panels = beside(results, at_paper)
    if not panels:
        commands = " and ".join(f"`{text}`" for text in measures.how_to_record("paper"))
        return f"No run at the paper's scale is recorded yet; {commands} record one seed."
    return (
        f"{comparison_table(panels)}\n\nBelow, the maps of {{numref}}`paper-fig-4` at both scales, and the sum of the edges' "
        "costs over training. What a single run shows, errors, parentheses and counts of signs, it shows inside itself, over its own "
        f"batches; that says nothing of other seeds. The images are {_data_words(at_paper)}."
    )
