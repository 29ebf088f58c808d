"""Appendices C and E from recorded runs: how large the costs of every cell of a stack are, what they sum to, and the
verdict on M-last.

All of it is read from the statistics with θ and α fixed, as the paper's heat maps are: C̄ ``[N, E, K]``, the mean cost
of every operation. Letters in shapes: s seeds, T epochs, N cells, E edges, K operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from nas_core.pages import summary
from nas_core.pages.claims import Verdict, number
from nas_core.pages.evidence import TENFOLD, CannotTell, Results, combine, grade, sign, verdict, with_interval
from nas_core.pages.tables import markdown
from nas_core.space import NONE

INITIAL = "minimal cells, before training"
TRAINED = "minimal cells, after training"
DEEP_INITIAL = "original cells, before training"
DEEP_TRAINED = "original cells, after training"

RECIPES = {
    INITIAL: "reference_stack_initial",
    TRAINED: "reference_stack_trained",
    DEEP_INITIAL: "reference_deep_stack_initial",
    DEEP_TRAINED: "reference_deep_stack_trained",
}
"""The recipe behind every label."""
MINIMAL, DEEP = (
    {label: RECIPES[label] for label in labels} for labels in ((INITIAL, TRAINED), (DEEP_INITIAL, DEEP_TRAINED))
)
"""The recipes of either stack."""

_TIMES = {"before training": (INITIAL, DEEP_INITIAL), "after training": (TRAINED, DEEP_TRAINED)}


def by_time(results: Results) -> dict[str, Sequence]:
    """The runs of one stack by when they were measured, those that there are."""
    return {when: results[label] for when, labels in _TIMES.items() for label in labels if results.get(label)}


def seeds_words(results: Results, wanted: Iterable[str] = RECIPES) -> str:
    """How many seeds every stack has at which scale, and which of those ``wanted`` are not recorded, in sentences."""
    counts = [f"{label}: n = {len(runs)}" for label, runs in results.items() if runs]
    left = [label for label in wanted if not results.get(label)]
    scales = dict.fromkeys(run.meta["scale"] for runs in results.values() for run in runs)
    missing = f" Not recorded there and left out: {', '.join(left)}." if left else ""
    return f"Scale {', '.join(scales)}; {'; '.join(counts)}.{missing}"


def entries(results: Sequence) -> np.ndarray:
    """``[s, N, E, K - 1]``: C̄ of every operation but *none*, NaN where the edge lacks it."""
    return np.delete(summary.stack(results, "statistics_mean"), NONE, axis=-1)


def edge_sizes(results: Sequence) -> np.ndarray:
    """``[s, N, E]``: mean |C̄| over the operations of an edge."""
    return np.nanmean(np.abs(entries(results)), axis=-1)


def sizes(results: Sequence) -> np.ndarray:
    """``[s, N]``: mean |C̄| over the entries of a cell's map, the size that the paper reads off its heat maps."""
    return np.nanmean(np.abs(entries(results)), axis=(-2, -1))


def squares(results: Sequence) -> np.ndarray:
    """``[s, N]``: mean C̄² over a cell's map, without what sampling adds to it.

    A mean of n sampled costs is off by a variance of s²/n, and its square is too large by as much in the mean: taking
    that off leaves what infinitely many draws would show; it may fall below 0 where nothing is left."""
    error = _moments(results, "variance") / np.maximum(_moments(results, "count"), 1)
    return np.nanmean(entries(results) ** 2 - error, axis=(-2, -1))


def one_draw(results: Sequence) -> np.ndarray:
    """``[s, N]``: root mean square of the cost of a single draw on a single batch, over the entries of a cell's map."""
    return np.sqrt(np.nanmean(entries(results) ** 2 + _moments(results, "variance"), axis=(-2, -1)))


def _moments(results: Sequence, name: str) -> np.ndarray:
    return np.delete(summary.stack(results, f"statistics_{name}"), NONE, axis=-1)


def sums(results: Sequence) -> np.ndarray:
    """``[s, N]``: the expected cost of a cell under uniform sampling, Σ_e mean_k C̄ over the candidates of an edge."""
    return np.nansum(np.nanmean(summary.stack(results, "statistics_mean"), axis=-1), axis=-1)


def log_ratios(values: np.ndarray) -> np.ndarray:
    """``[s, N] -> [s, N - 1]``: logarithms of the last cell's size over that of each cell before it.

    Raises :class:`CannotTell` for a single cell."""
    logs = _logs(values)
    return logs[:, -1:] - logs[:, :-1]


def _logs(values: np.ndarray) -> np.ndarray:
    if values.shape[1] < 2:
        raise CannotTell("The network has a single cell, so there is no other to compare the last one with.")
    return np.log(np.maximum(values, np.finfo(float).tiny))


def nearest(results: Sequence) -> np.ndarray:
    """``[s]``: the logarithm of the last cell's size over that of the largest cell before it, in each run."""
    return log_ratios(sizes(results)).min(axis=1)


def last_cell(results: Results) -> Verdict:
    """M-last: the mean |C̄| of the last cell over that of the largest cell before it, in each stack, before and after
    training.

    Direction: the ratio is above 1 in every stack that is given. Magnitude: the interval of its geometric mean lies at
    or above ten in all of them; *partly* if the mean does in half of them. The number is the smallest of the ratios."""
    given = {label: list(results[label]) for label in RECIPES if results.get(label)}
    if not given:
        raise CannotTell(f"This needs runs of {' or '.join(RECIPES)}, and none is given.")
    logs = {label: nearest(runs) for label, runs in given.items()}
    direction = combine([sign(own, +1) for own in logs.values()])
    bounds = [summary.interval(own) for own in logs.values()]
    tenfold = np.log(TENFOLD)
    above = sum(mean >= tenfold for mean, _, _ in bounds)
    magnitude = grade(direction, all(low >= tenfold for _, low, _ in bounds), 2 * above >= len(bounds))
    words = "; ".join(f"{label} {with_interval(own, np.exp)}" for label, own in logs.items())
    least = min(logs, key=lambda label: logs[label].mean())
    sentence = (
        f"Mean size of an entry of the last cell's map over that of the largest cell before it: {words}. The number is "
        f"the smallest of these. The size of the cell's *sum*, which Corollary 1.2 settles, is "
        f"{_over_others(sums(given[least]) ** 2)} times that of the others there."
    )
    return verdict("M-last", given[least], logs[least], "times", direction, magnitude, sentence, np.exp)


MEASURES: dict[str, Callable[[Results], Verdict]] = {"M-last": last_cell}
"""The measures of this module, by claim."""


# ---------------------------------------------------------------------------------------------------------------- tables


def ratio_table(groups: Mapping[str, Sequence]) -> str:
    """The last cell's mean |C̄| over that of each cell before it; geometric means over seeds with 95 % intervals."""
    found = {label: log_ratios(sizes(runs)) for label, runs in groups.items()}
    deepest = max(own.shape[1] for own in found.values())
    rows = []
    for before in range(deepest):
        entry = [with_interval(own[:, before], np.exp) if before < own.shape[1] else "" for own in found.values()]
        rows.append((f"cell {before + 1}", *entry))
    return markdown(("last cell over", *found), rows, text=1)


def steps(results: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s]`` twice, logarithms of factors from one cell to the next: the step from the second-last cell to the last,
    and the mean of those before it (NaN for two cells)."""
    logs = _logs(sizes(results))
    earlier = np.diff(logs[:, :-1], axis=1)
    return logs[:, -1] - logs[:, -2], earlier.mean(axis=1) if earlier.shape[1] else np.full(len(logs), np.nan)


def steps_table(groups: Mapping[str, Sequence]) -> str:
    """Whether sizes fall with the distance from the output, as a vanishing gradient would have it, or once."""
    rows = [(label, len(runs), *(with_interval(own, np.exp) for own in steps(runs))) for label, runs in groups.items()]
    header = ("stack", "n", "factor from the second-last cell to the last", "factor from any earlier cell to the next")
    return markdown(header, rows, text=1)


def size_table(groups: Mapping[str, Sequence]) -> str:
    """Per stack: the last cell over the root mean square of the cells before it, for four sizes of a cell's cost;
    geometric means over seeds with 95 % intervals."""
    reads = {
        "mean |entry|": lambda own: sizes(own) ** 2,
        "entries without sampling noise": squares,
        "one draw": lambda own: one_draw(own) ** 2,
        "|sum|": lambda own: sums(own) ** 2,
    }
    rows = [
        (label, len(runs), *(_over_others(read(runs)) for read in reads.values())) for label, runs in groups.items()
    ]
    return markdown(("last cell over the others", "n", *reads), rows, text=1)


def _over_others(square: np.ndarray) -> str:
    """``[s, N]`` squared sizes -> the last cell over the others. Squares that sampling noise leaves at or below 0 count
    as a millionth of the last cell's."""
    last = np.maximum(square[:, -1], np.finfo(float).tiny)
    return with_interval(np.log(last / np.maximum(square[:, :-1].mean(axis=1), 1e-6 * last)) / 2, np.exp)


def trend(results: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Fig 19: ``[T]`` epochs and ``[s, T, N, E]``, the expected cost of every edge as the steps of θ saw it."""
    cells = summary.stack(results, "step_cost_mean").shape[2]
    epochs = summary.edge_cost(results, "search", 0)[0]
    return epochs, np.stack([summary.edge_cost(results, "search", cell)[1] for cell in range(cells)], axis=2)


def trend_table(results: Sequence) -> str:
    """What the second-last and the last cell's edges sum to over training: means over epochs of the size of the sum and
    of a single edge's cost, and the sum after training; means over seeds with 95 % intervals."""
    cost = trend(results)[1]
    rows = []
    for words, position in (("second-last", -2), ("last", -1)):
        own = cost[:, :, position]
        total, single = np.abs(own.sum(-1)).mean(1), np.abs(own).mean((1, 2))
        ends = own.sum(-1)[:, -1]
        rows.append((words, *map(with_interval, (total, single, total / single, ends))))
    header = ("cell", "mean |sum|", "mean |cost of an edge|", "ratio of the two", "sum in the last epoch")
    return markdown(header, rows, text=1)


def trend_words(results: Sequence) -> str:
    """The size of Fig 19's sums, in one sentence."""
    cost = trend(results)[1]
    total = np.abs(cost.sum(-1)).mean(1)
    share = total[:, -2] / np.maximum(total[:, -1], np.finfo(float).tiny)
    return (
        f"Averaged over epochs, the sum of the second-last cell's edges has a size of {with_interval(total[:, -2])}, that "
        f"of the last cell {with_interval(total[:, -1])}: a share of {number(float(share.mean()))}."
    )
