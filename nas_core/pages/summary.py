"""Readings of results that figures and verdicts share: stacked curves, surviving edges, intervals over seeds,
provenance in words.

A result is anything with ``arrays`` and ``meta`` as :mod:`nas_core.lab.store` returns them. Results that are stacked
are runs of one configuration that differ in their seed. Letters in shapes: s seeds, R epochs + 1, V evaluations, N
cells, E edges, K operations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from nas_core.derive import surviving
from nas_core.space import Cell

SETS = ("train", "held_out")
SET_WORDS = {"train": "training images", "held_out": "held-out images"}
SPLITS = ("correct", "wrong")
SPLIT_WORDS = {"correct": "classified correctly", "wrong": "classified wrongly"}
DATASET_WORDS = {
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "CIFAR-10 re-encoded as JPEG",
    "digits": "scikit-learn's digits",
}


class ReadingError(ValueError):
    """Results that cannot be read together, or that lack what was asked of them."""


def choose(what: str, given: Any, allowed: Sequence[str]) -> int:
    """The position of ``given`` in ``allowed``, or :class:`ReadingError`."""
    if given not in allowed:
        raise ReadingError(f"{what} is {given!r}; give one of {', '.join(allowed)}")
    return allowed.index(given)


def panels(results: Sequence | Mapping[str, Sequence]) -> dict[str, list]:
    """Results by title: a bare sequence becomes the single untitled panel."""
    groups = dict(results) if isinstance(results, Mapping) else {"": results}
    if not groups or not all(len(group) for group in groups.values()):
        raise ReadingError("no result was given; pass at least one, as a list or as lists by title")
    return {title: list(group) for title, group in groups.items()}


def flat(results: Sequence | Mapping[str, Sequence]) -> list:
    """All results of all panels in one list."""
    return [result for group in panels(results).values() for result in group]


def stack(results: Sequence, name: str) -> np.ndarray:
    """``[s, ...]``: one array of every run, stacked over seeds. Runs of unlike shape raise :class:`ReadingError`."""
    arrays = [np.asarray(result.arrays[name], dtype=float) for result in results]
    if len({array.shape for array in arrays}) != 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ReadingError(
            f"{name} has the shapes {shapes} in these runs; pass runs of one configuration that differ in the seed"
        )
    return np.stack(arrays)


def cell_of(result) -> Cell:
    """The cell that the run searched."""
    return Cell.from_dict(result.meta["config"]["network"]["cell"])


def edge_name(cell: Cell, edge: int) -> str:
    """``e4 (2→3)``."""
    return f"e{edge} ({cell.edges[edge].source}→{cell.edges[edge].target})"


def seeds(results: Sequence) -> list[int]:
    """The seeds of the runs, sorted, each once."""
    return sorted({int(result.meta["seed"]) for result in results})


def evaluated(results: Sequence) -> np.ndarray:
    """``[V]``: the epochs after which the runs were evaluated; 0 is before training."""
    return stack(results, "evaluated")[0]


def interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student-t interval of the mean; missing values (NaN) are left out.

    With fewer than two values the bounds are NaN; with none the mean is NaN too.
    """
    kept = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if len(kept) == 0:
        return (np.nan, np.nan, np.nan)
    mean, low, high = band(kept[:, None], confidence)
    return (float(mean[0]), float(low[0]), float(high[0]))


def band(values: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[s, ...] -> three [...]``: mean over seeds and the bounds of its t-interval, entry by entry, without the NaN
    entries."""
    count = np.isfinite(values).sum(axis=0)
    total = np.nansum(values, axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    spread = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    half = stats.t.ppf((1 + confidence) / 2, np.maximum(count - 1, 1)) * spread / np.sqrt(np.maximum(count, 1))
    half = np.where(count > 1, half, np.nan)
    return mean, mean - half, mean + half


def survivors(results: Sequence) -> np.ndarray:
    """``[s, R, edges of all groups]`` of 0/1: the edge's likeliest operation is not *none*."""
    alive = surviving(stack(results, "probability"))
    return alive.reshape(*alive.shape[:2], -1).astype(float)


def edge_cost(
    results: Sequence, source: str = "search", cell: int = -1, group: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Epochs ``[X]`` and the cost per edge ``[s, X, E]`` (mean of Σ_k Z_k C_k, Eq 5) of one cell.

    ``source`` is a set that was evaluated (``"train"``, ``"held_out"``) or ``"search"``: what the steps of α themselves
    saw, each operation's recorded cost weighted by its probability in the middle of the epoch. ``group`` says which α
    the cell follows.
    """
    position = choose("source", source, (*SETS, "search"))
    if source != "search":
        return evaluated(results), stack(results, "edge_cost")[:, :, position, cell]
    probability = stack(results, "probability")[:, :, group]
    weight = (probability[:, 1:] + probability[:, :-1]) / 2
    seen = stack(results, "step_cost_mean")[:, :, cell]
    cost = np.where(np.isnan(seen).all(axis=-1), np.nan, np.nansum(weight * seen, axis=-1))
    return np.arange(cost.shape[1]) + 0.5, cost


def loss_and_entropy(results: Sequence, which: str, split: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """``[s, V]`` twice: L and H of Theorem 2 in nats, over all images of a set or over those of one split."""
    position = choose("set", which, SETS)
    if split is None:
        return stack(results, "loss")[:, :, position], stack(results, "entropy")[:, :, position]
    part = choose("split", split, SPLITS)
    return stack(results, "split_loss")[:, :, position, part], stack(results, "split_entropy")[:, :, position, part]


def gap(results: Sequence) -> np.ndarray:
    """``[s]``: generalisation gap after the last epoch, accuracy on training images minus accuracy on held-out
    images."""
    accuracy = stack(results, "accuracy")[:, -1]
    return accuracy[:, 0] - accuracy[:, 1]


class Estimates(NamedTuple):
    """Means ``[...]``, the standard error of each (NaN where there is none), and whether its 95 % t-interval leaves out 0."""

    mean: np.ndarray
    error: np.ndarray
    shown: np.ndarray


def estimates(mean: np.ndarray, variance: np.ndarray, count: np.ndarray) -> Estimates:
    """Means ``[s, ...]`` over batches in every run as one mean each, with its error over seeds.

    Of a single run the error is that inside it, from the variance of one batch and the count of batches, as if these were independent.
    """
    if len(mean) > 1:
        centre, low, _ = band(mean)
        freedom = np.isfinite(mean).sum(axis=0) - 1
        half = centre - low
    else:
        centre, freedom = mean[0], count[0] - 1
        half = stats.t.ppf(0.975, np.maximum(freedom, 1)) * np.sqrt(variance[0] / np.maximum(count[0], 1))
        half = np.where(freedom > 0, half, np.nan)
    with np.errstate(invalid="ignore"):
        return Estimates(centre, half / stats.t.ppf(0.975, np.maximum(freedom, 1)), np.abs(centre) > half)


def statistics(results: Sequence) -> Estimates:
    """:func:`estimates` of the costs at fixed θ and α, ``[N, E, K]``. Raises :class:`ReadingError` for runs without them."""
    mean = stack(results, "statistics_mean")
    if mean.shape[1] == 0:
        raise ReadingError(
            "these runs recorded no statistics after training (statistics_epochs = 0); ask for 'train' or 'held_out'"
        )
    if any("statistics_variance" not in result.arrays for result in results):  # only means were kept
        return estimates(mean, np.full(mean.shape, np.nan), np.ones(mean.shape))
    return estimates(mean, stack(results, "statistics_variance"), stack(results, "statistics_count"))


_ONE_RUN = "mean over the batches of one run (n = 1)"
DRAWN = {
    "lines": "Line: mean of {n}. Band: 95 % t-interval of that mean over seeds.",
    "map": "In each cell: mean of {n} ± its standard error over seeds; in parentheses unless the 95 % t-interval over seeds leaves out 0.",
    "colours": "Colour: mean of {n}. A dot: the 95 % t-interval over seeds includes 0.",
    "sizes": "In each cell: mean of {n} ± its standard error over seeds.",
    "medians": "In each cell: median of {n}.",
    "bars": "Bar: mean of {n}.",
    "points": "Mark: mean of {n}.",
    "intervals": "Mark: mean of {n}. Line through it: 95 % t-interval of that mean over seeds.",
    "ranges": "Mark: median of {n}. Line through it: their range.",
    "runs": "One mark a run, of {n}.",
    "nodes": "One mark a node and run, of {n}.",
    "evaluations": "One mark a run and evaluation, of {n}.",
    "panels": "One panel a run, of {n}.",
    "shares": "Colour: share of {n}.",
    "wiring": "The likeliest wiring of {n}.",
    "geometric": "Line: geometric mean of {n}. Band: 95 % t-interval of the mean logarithm over seeds.",
}
"""What the marks of a figure are, by kind of figure."""
_OF_ONE = {
    "lines": "One seed: a single run (n = 1), no band.",
    "map": f"In each cell: {_ONE_RUN} ± its standard error in the run; in parentheses unless the 95 % interval inside the run leaves "
    "out 0, which says nothing of other seeds.",
    "colours": f"Colour: {_ONE_RUN}. A dot: the 95 % interval inside the run includes 0.",
}
_SOME_OF_ONE = {
    "lines": " Where n = 1, a single run without a band.",
    "map": " Where n = 1, over the batches of that run instead, which says nothing of other seeds.",
    "colours": " Where n = 1, over the batches of that run instead.",
}


def drawn_words(results: Sequence | Mapping[str, Sequence], drawn: str = "lines") -> str:
    """What the marks of a figure are, with n; ``drawn`` is a kind of :data:`DRAWN`."""
    choose("drawn", drawn, tuple(DRAWN))
    counts = {title: len(group) for title, group in panels(results).items()}
    if set(counts.values()) == {1}:
        words = DRAWN[drawn].partition(". Line")[0].rstrip(".") + "."
        for what in ("mean of {n}", "median of {n}", "{n}"):
            words = words.replace(what, "a single run (n = 1)")
        return _OF_ONE.get(drawn, words.replace(" ± its standard error over seeds", ""))
    some = _SOME_OF_ONE.get(drawn, "") if 1 in counts.values() else ""
    if len(set(counts.values())) == 1:
        number = f"{next(iter(counts.values()))} seeds"
    else:
        # A title that states how many seeds it has needs no n.
        titles = [
            title if re.search(r"\b(one|\d+) seeds?\b", title) else f"{title}: n = {n}" for title, n in counts.items()
        ]
        number = f"seeds ({'; '.join(titles)})"
    return DRAWN[drawn].format(n=number) + some


def provenance(results: Sequence | Mapping[str, Sequence]) -> str:
    """One line on where the numbers come from: data, images, seeds, recipe, scale, configuration, code and device."""
    every = flat(results)
    recipes = [result.meta["recipe"] for result in every if result.meta.get("recipe")]
    parts = [
        _unique(_data_words(result.meta) for result in every),
        "seeds " + _ranges(seeds(every)) if len(seeds(every)) > 1 else f"seed {seeds(every)[0]}",
        *([_named("recipe", recipes)] if recipes else []),  # a run of one's own method has none
        _named("scale", (result.meta.get("scale") or "none" for result in every)),
        _named("configuration", (result.meta["ident"] for result in every)),
        _named("code", (_code_words(result.meta) for result in every)),
        _named("torch", (f"{result.meta['torch']} on {result.meta['device']}" for result in every)),
    ]
    return " · ".join(parts)


def _data_words(meta: Mapping) -> str:
    data = meta["config"]["data"]
    name = meta["dataset"]["name"]
    words = [
        DATASET_WORDS.get(name, name),
        f"{data['images']} training images" if data["images"] else "all training images",
    ]
    words.append(f"{data['size']}×{data['size']} pixels" if data["size"] else "native size")
    if data["held_out"]:
        words.append(f"{data['held_out']:.0%} of them held out".replace("%", " %"))
    if data["label_noise"]:
        words.append(f"{data['label_noise']:.0%} of the training labels replaced".replace("%", " %"))
    return ", ".join(words)


def _code_words(meta: Mapping) -> str:
    return f"{meta['code']} (attested)" if meta.get("attested") else str(meta["code"])


def _unique(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _named(word: str, values: Iterable[str]) -> str:
    return f"{word} {', '.join(dict.fromkeys(values))}"


def _ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5] -> "0–2, 5"``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
