"""The statistics of cost (Section 5.1): what its runs are, what they say of the paper's hypothesis, and readings of them.

The runs sample the minimal cell uniformly. Those of :data:`INITIAL` never train; the others train θ first. All end with
epochs of cost at fixed θ and α, which give one mean cost an edge and operation and run: an *entry*. Letters in shapes:
s seeds, T epochs of training, E edges, K operations. Entries are NaN where there is nothing to choose: *none*, whose
cost is 0, and operations that an edge lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_core.lab.experiments import command, with_dataset
from nas_core.lab.recipes import RECIPES as EVERY_RECIPE
from nas_core.lab.store import Job, Result, State, Store
from nas_core.pages import runs as recorded_runs
from nas_core.pages import summary
from nas_core.pages.claims import NOT_TESTED, REPRODUCED, Verdict, untested
from nas_core.pages.evidence import (
    CannotTell,
    Results,
    combine,
    fisher_correlation,
    grade,
    mean_of,
    need,
    paired,
    percent,
    sign,
    verdict,
    with_interval,
)
from nas_core.pages.parameters import Parameters
from nas_core.space import NONE, OPERATIONS

INITIAL = "initial θ"
TRAINED = "trained θ"
FROZEN = "trained θ (idle weights frozen)"
SHUFFLED = "trained θ (shuffled labels)"

RECIPES = {
    INITIAL: "reference_cost_initial",
    TRAINED: "reference_cost_trained",
    FROZEN: "corrected_cost_trained",
    SHUFFLED: "corrected_cost_shuffled",
}
"""The recipe behind every label."""

ALL, MOST = 1.0, 0.5
"""Shares of the entries: before training the paper says "all operations", after it "most of the cost"."""
GONE, NOTHING = 0.5, 0.1
"""An effect of which a control leaves less than these shares is mostly gone, or gone."""
CLASSES = 10
"""Classes of CIFAR-10 and of the digits."""


# --- from parameters to runs ------------------------------------------------------------------------------------------


def collect(chosen: Parameters, say: Callable[[str], None] = print) -> dict[str, list[Result]]:
    """The runs of :data:`RECIPES`, the same seeds for all.

    ``epochs`` is the length of training, so it does not reach the runs that never train; ``label_noise`` does not reach
    the shuffled labels, which are a value of it themselves.
    """
    share = EVERY_RECIPE[RECIPES[SHUFFLED]](chosen.scale).data.label_noise
    own = {
        TRAINED: chosen,
        FROZEN: chosen,
        INITIAL: replace(chosen, epochs=None),
        SHUFFLED: replace(chosen, label_noise=share),
    }
    found: dict[str, list[Result]] = {}
    tell = _once(say)
    for parameters in dict.fromkeys(own.values()):
        recipes = {label: RECIPES[label] for label in own if own[label] == parameters}
        if found:
            parameters = replace(parameters, seeds=tuple(summary.seeds(found[TRAINED])))
        found |= recorded_runs.collect(parameters, recipes, tell)
    return {label: found[label] for label in RECIPES}


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say a sentence the first time only: every collection names its data."""
    said = set()

    def tell(words: str) -> None:
        if words not in said:
            said.add(words)
            say(words)

    return tell


def recorded(scale: str, labels: Sequence[str] = (INITIAL, TRAINED)) -> dict[str, list[Result]]:
    """The recorded runs of a scale, by label, whatever seeds and data there are; computes nothing, and leaves out a label
    without any.
    """
    store = Store()
    found: dict[str, list[Result]] = {}
    for label in labels:
        for name, sha256 in store.datasets(recorded_runs.EXPERIMENT):
            config = with_dataset(EVERY_RECIPE[RECIPES[label]](scale), name, sha256)
            states = store.seeds(recorded_runs.EXPERIMENT, config)
            jobs = [
                Job(recorded_runs.EXPERIMENT, config, seed, RECIPES[label], scale)
                for seed, state in states.items()
                if state is State.FRESH
            ]
            found.setdefault(label, []).extend(store.read(job) for job in jobs)
    return {label: own for label, own in found.items() if own}


def how_to_record(scale: str, labels: Sequence[str] = (INITIAL, TRAINED)) -> list[str]:
    """The commands that record one seed of each label at a scale."""
    return [command(RECIPES[label], scale, EVERY_RECIPE[RECIPES[label]](scale), [0]) for label in labels]


# --- readings ---------------------------------------------------------------------------------------------------------


def entries(results: Sequence) -> np.ndarray:
    """``[s, E, K]``: the last cell's mean cost at fixed θ and α. Raises :class:`CannotTell` for runs without it."""
    if not all(len(run.arrays.get("statistics_mean", ())) for run in results):
        raise CannotTell("These runs recorded no cost at fixed weights (statistics_epochs = 0).")
    values = summary.stack(results, "statistics_mean")[:, -1].copy()
    values[..., NONE] = np.nan
    return values


def standard_errors(results: Sequence) -> np.ndarray:
    """``[s, E, K]``: the standard error of each of :func:`entries` inside its run, as if batches were independent."""
    variance, count = (summary.stack(results, f"statistics_{name}")[:, -1] for name in ("variance", "count"))
    return np.where(np.isfinite(entries(results)), np.sqrt(variance / np.maximum(count, 1)), np.nan)


@dataclass(frozen=True)
class Signs:
    """How many entries there are, of how many the sign is shown over seeds (each by the test of
    :mod:`nas_core.pages.evidence`), and of how many the mean over seeds is positive."""

    total: int
    positive: int
    negative: int
    mean_positive: int

    @property
    def open(self) -> int:
        """Entries whose interval includes 0, or that have too few seeds."""
        return self.total - self.positive - self.negative

    def shown(self, expected: int) -> int:
        """Entries shown to have the sign ``expected``."""
        return self.positive if expected > 0 else self.negative

    def means(self, expected: int) -> int:
        """Entries whose mean has the sign ``expected``."""
        return self.mean_positive if expected > 0 else self.total - self.mean_positive


def columns(values: np.ndarray) -> np.ndarray:
    """``[s, M]``: the entries that there are, as columns."""
    flat = values.reshape(len(values), -1)
    return flat[:, np.isfinite(flat).any(axis=0)]


def signs(values: np.ndarray) -> Signs:
    """The signs of entries ``[s, E, K]``."""
    each = columns(values)
    up, down = (sum(sign(entry, expected) == REPRODUCED for entry in each.T) for expected in (+1, -1))
    return Signs(each.shape[1], up, down, int((np.nanmean(each, axis=0) > 0).sum()))


@dataclass(frozen=True)
class OneSeed:
    """What a picture from a single seed is worth.

    ``fewest`` and ``most`` entries have the claimed sign in one seed, ``opposite`` is the share of (seed, entry) whose
    sign is opposite to that of the other seeds' mean, ``sampling`` the share of the variance between seeds that the
    standard errors inside the runs account for (median over entries), ``errors`` the median |mean| in units of the
    standard error inside a run."""

    fewest: int
    most: int
    opposite: float
    sampling: float
    errors: float


def one_seed(results: Sequence, expected: int) -> OneSeed:
    """Judges single seeds by the others; the shares are NaN for fewer than two runs."""
    each = columns(entries(results))
    values, errors = (own.reshape(len(results), -1) for own in (entries(results), standard_errors(results)))
    # An operation that was drawn in one batch only has a mean and no standard error.
    both = np.isfinite(values).any(axis=0) & np.isfinite(errors).any(axis=0)
    values, errors = values[:, both], errors[:, both]
    claimed = (np.sign(each) == expected).sum(axis=1)
    opposite = sampling = np.nan
    if len(each) > 1:
        # The sum of the others has the sign of their mean, and is 0 where none of them drew the operation.
        others = np.nansum(each, axis=0) - np.nan_to_num(each)
        opposite = float((each * others < 0).mean())
        known = (np.isfinite(values).sum(axis=0) > 1) & np.isfinite(errors).any(axis=0)
        between = np.nanvar(values[:, known], axis=0, ddof=1)
        within = np.nanmean(errors[:, known] ** 2, axis=0)
        sampling = float(np.median(np.minimum(within / np.maximum(between, np.finfo(float).tiny), 1)))
    ratio = float(np.nanmedian(np.abs(values) / errors))
    return OneSeed(int(claimed.min()), int(claimed.max()), opposite, sampling, ratio)


def sums_at_rest(results: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s]`` twice: the sum of the edges' costs at the final weights, on training images augmented as in training and on
    the evaluation's, which are as they are. Raises :class:`CannotTell` for runs without cost at fixed weights."""
    entries(results)
    mean, count = (summary.stack(results, f"statistics_{name}")[:, -1] for name in ("mean", "count"))
    seen = (np.where(count > 0, mean, 0) * count).sum(axis=-1) / np.maximum(count.sum(axis=-1), 1)
    return seen.sum(axis=-1), summary.edge_cost(results, "train")[1][:, -1].sum(axis=-1)


def step_totals(results: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s, T, E, K]`` twice: the sum of the costs that the steps of an epoch saw, and in how many steps an operation was
    drawn."""
    if not all(len(run.arrays.get("step_cost_mean", ())) for run in results):
        raise CannotTell("These runs recorded no steps of training.")
    mean, count = (summary.stack(results, f"step_cost_{name}")[:, :, -1] for name in ("mean", "count"))
    return np.where(count > 0, mean, 0) * count, count


def crossing(totals: np.ndarray) -> np.ndarray:
    """``[..., T] -> [...]``: the epoch τ at which a cost crosses zero downwards, from its sum in every epoch.

    τ is where the cost added up from the start is largest: every other place would leave more cost below zero before it
    or above zero after it. No smoothing is chosen, and every step counts once. 0 says that nothing is gained by calling
    even the first epoch positive; NaN that the sum is largest at the end (never crossed), or that there is no cost.
    """
    start = np.zeros((*totals.shape[:-1], 1))
    risen = np.concatenate([start, np.cumsum(totals, axis=-1)], axis=-1)
    epoch = risen.argmax(axis=-1).astype(float)
    never = (epoch == totals.shape[-1]) | ~(totals != 0).any(axis=-1)
    return np.where(never, np.nan, epoch)


@dataclass(frozen=True)
class Crossings:
    """Epochs of :func:`crossing`: ``operations`` ``[s, E, K]``, ``edges`` ``[s, E]`` for all operations of an edge, and
    ``cell`` ``[s]`` for the sum over edges."""

    operations: np.ndarray
    edges: np.ndarray
    cell: np.ndarray


def crossings(results: Sequence) -> Crossings:
    """When the costs of the last cell cross zero."""
    total = np.moveaxis(step_totals(results)[0], 1, -1)  # [s, E, K, T]
    per_edge = total.sum(axis=2)
    return Crossings(crossing(total), crossing(per_edge), crossing(per_edge.sum(axis=1)))


def information_left(share: float, classes: int = CLASSES) -> float:
    """Nats that a label still says about the true class when a ``share`` of the labels is replaced by another class each:
    0 for a share of 1 − 1/classes, more on either side, since a label that is always wrong excludes a class."""
    kept = np.array([1 - share, *[share / (classes - 1)] * (classes - 1)])
    kept = kept[kept > 0]
    return max(0.0, float(np.log(classes) + (kept * np.log(kept)).sum()))


# --- measures ---------------------------------------------------------------------------------------------------------


def _means(values: np.ndarray) -> np.ndarray:
    """``[s]``: the mean over entries."""
    return np.array([mean_of(run) for run in values])


def _magnitude(direction: str, found: Signs, expected: int, wanted: float) -> str:
    """Full where the sign is shown for at least the claimed share of entries and the opposite for none; half where it is
    shown for most."""
    shown = found.shown(expected)
    full = shown >= wanted * found.total and not found.shown(-expected)
    return grade(direction, full, shown >= MOST * found.total)


def _shown_words(runs: Sequence, values: np.ndarray, expected: int) -> str:
    found = signs(values)
    way, other = ("positive", "negative") if expected > 0 else ("negative", "positive")
    names = _shown_names(runs, values, -expected)
    listed = f" ({', '.join(names)})" if 0 < len(names) <= 3 else ""
    return (
        f"{found.shown(expected)} of {found.total} entries (edge and operation other than *none*) are shown to be {way}, "
        f"{len(names)} to be {other}{listed}"
    )


def _shown_names(runs: Sequence, values: np.ndarray, expected: int) -> list[str]:
    """The entries shown to have the sign ``expected``, in words."""
    cell = summary.cell_of(runs[0])
    return [
        f"`{OPERATIONS[operation]}` on {summary.edge_name(cell, edge)}"
        for edge, operation in np.ndindex(values.shape[1:])
        if sign(values[:, edge, operation], expected) == REPRODUCED
    ]


def positive_at_first(results: Results) -> Verdict:
    """H1: the mean over entries before training is positive. Magnitude: every single entry is shown to be (partly: most
    are)."""
    runs = need(results, INITIAL)
    values = entries(runs)
    found, overall = signs(values), _means(values)
    direction = sign(overall, +1)
    sentence = f"Before training {_shown_words(runs, values, +1)}. The number is the mean over entries."
    return verdict("H1", runs, overall, "", direction, _magnitude(direction, found, +1, ALL), sentence)


def negative_in_the_end(results: Results) -> Verdict:
    """H2: after training the mean over entries is negative, and it fell (paired with H1's runs by seed). Magnitude: most
    entries are shown to be negative and none positive (partly: most are, and some are positive)."""
    runs = need(results, TRAINED)
    values = entries(runs)
    found, overall = signs(values), _means(values)
    parts, fall = [sign(overall, -1)], ""
    if results.get(INITIAL):
        before, after = paired(results, INITIAL, TRAINED)
        change = _means(entries(after)) - _means(entries(before))
        parts.append(sign(change, -1))
        fall = f" Training changes the mean by {with_interval(change)} ({parts[-1]})."
    direction = combine(parts)
    sentence = (
        f"After training {_shown_words(runs, values, -1)}.{fall} The number is the mean over entries after training "
        f"({parts[0]})."
    )
    return verdict("H2", runs, overall, "", direction, _magnitude(direction, found, -1, MOST), sentence)


def shuffled_labels(results: Results) -> Verdict:
    """B7, the part on labels: with labels that say next to nothing the costs end higher than with the true ones, paired by
    seed. Magnitude: next to nothing of the negative mean is left (partly: less than half of it)."""
    true, wrong = paired(results, TRAINED, SHUFFLED)
    with_labels, without = (_means(entries(runs)) for runs in (true, wrong))
    direction = sign(without - with_labels, +1)
    left = mean_of(without) / mean_of(with_labels) if mean_of(with_labels) < 0 else np.nan
    gone = sign(without, -1) != REPRODUCED and left < NOTHING
    sentence = (
        f"Shuffled labels: the mean over entries after training is {with_interval(with_labels)} with the labels as they "
        f"are and {with_interval(without)} with shuffled ones; the number is the paired difference."
    )
    magnitude = grade(direction, gone, left < GONE)
    found = verdict("B7", [*true, *wrong], without - with_labels, "", direction, magnitude, sentence)
    return replace(found, part="shuffled labels", measured="mean cost after training, shuffled labels minus true ones")


MEASURES: dict[str, Callable[[Results], Verdict]] = {"H1": positive_at_first, "H2": negative_in_the_end}
"""Measures of whole claims."""

CONTROLS: dict[str, Callable[[Results], Verdict]] = {"B7": shuffled_labels}
"""Measures of a part of a claim whose other parts are measured elsewhere."""


def judge(claim_id: str, results: Results) -> Verdict:
    """The verdict of :data:`MEASURES` or :data:`CONTROLS`; *not tested*, with the reason, where the runs cannot tell."""
    try:
        return (MEASURES | CONTROLS)[claim_id](results)
    except CannotTell as reason:
        return untested(claim_id, str(reason))


# --- sentences --------------------------------------------------------------------------------------------------------


def _outcome_words(outcome: str) -> str:
    if outcome == NOT_TESTED:
        return "not tested with so few seeds"
    return "shown to be negative" if outcome == REPRODUCED else "not shown to be negative"


def idle_words(results: Results) -> str:
    """Whether the costs after training depend on how idle weights move, in sentences."""
    moving, frozen = paired(results, TRAINED, FROZEN)
    values = [entries(runs) for runs in (moving, frozen)]
    means = [_means(own) for own in values]
    outcomes = [sign(own, -1) for own in means]
    found = [signs(own) for own in values]
    apart = signs(values[1] - values[0])
    if NOT_TESTED in outcomes:
        result = "With so few seeds that decides nothing."
    elif outcomes[0] == outcomes[1]:
        result = "In this the finding does not depend on how idle weights are treated."
    else:
        result = "In this the finding **depends on how idle weights are treated**."
    return (
        f"After training the mean over entries is {with_interval(means[0])} with idle weights moving "
        f"({_outcome_words(outcomes[0])}) and {with_interval(means[1])} with idle weights frozen "
        f"({_outcome_words(outcomes[1])}). {result} "
        f"Freezing them changes the mean by {with_interval(means[1] - means[0])}; entry by entry the paired change is "
        f"shown to be upwards for {apart.positive} and downwards for {apart.negative} of {apart.total}, and "
        f"{found[0].negative} entries are shown to be negative with moving, {found[1].negative} with frozen weights."
    )


def shuffled_words(results: Results) -> str:
    """What the runs on shuffled labels say about the claim that the cost's sign is about learning, in sentences."""
    runs = need(results, SHUFFLED)
    share = runs[0].meta["config"]["data"]["label_noise"]
    accuracy = summary.stack(runs, "accuracy")[:, -1]
    hint = sign(accuracy[:, 1] - 1 / CLASSES, -1) == REPRODUCED
    below = ", **below chance**: a label that is nearly always wrong tells which class to avoid" if hint else ""
    outcome = sign(_means(entries(runs)), -1)
    if outcome == NOT_TESTED:
        result = "With so few seeds that decides nothing."
    elif outcome == REPRODUCED:
        result = (
            "The costs turn negative **although there is next to nothing to learn**: to fit the training labels, by heart, "
            "is enough, and a negative cost on training images is no sign of a wiring that generalises."
        )
    else:
        result = (
            "The costs are not shown to turn negative without something to learn. That is what the paper's explanation "
            "needs, but a network that had the time to learn these labels by heart could still turn them."
        )
    return (
        f"{percent(share)} of the labels are replaced, each by another class, which leaves {information_left(share):.2f} "
        f"of ln {CLASSES} = {np.log(CLASSES):.2f} nats that a label says about its image. After training the accuracy is "
        f"{with_interval(accuracy[:, 0])} on the training images with these labels and {with_interval(accuracy[:, 1])} on "
        f"held-out ones with true labels{below}. {result}"
    )


def training_words(results: Sequence) -> str:
    """How the sum of the edges' costs goes with loss and accuracy over the epochs of training, in a sentence."""
    cost, count = (values.sum(axis=-1) for values in step_totals(results))  # each [s, T, E]
    total, words = (cost / np.maximum(count, 1)).sum(axis=-1), []
    for name in ("loss", "accuracy"):
        curves = summary.stack(results, f"train_{name}")
        together = np.array([fisher_correlation(*pair) for pair in zip(total, curves, strict=True)])
        words.append(f"the {name} {with_interval(together, np.tanh)}")
    return (
        f"Over {total.shape[1]} epochs of training the sum of the edges' costs has a correlation with {' and with '.join(words)} "
        f"(mean over {len(total)} seeds)."
    )
