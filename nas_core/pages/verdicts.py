"""Measures: functions from recorded runs to a verdict on one claim, by the test of :mod:`nas_core.pages.evidence`.

``results`` maps a label to runs of one configuration that differ in the seed. The labels that measures look for are
:data:`BILEVEL`, :data:`SINGLE` and :data:`FIXED` (θ trained, α not), for B1 also :data:`SINGLE_HELD_OUT` and
:data:`BILEVEL_TRAIN`; others are ignored, except by B2, which uses every run that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from nas_core.pages import summary
from nas_core.pages.claims import CLAIMS, NOT_REPRODUCED, PARTLY, REPRODUCED, Verdict, claim, number, untested
from nas_core.pages.evidence import (
    BILEVEL,
    BILEVEL_TRAIN,
    FEW,
    FIXED,
    MODERATE,
    RUNS_FOR_CORRELATION,
    SINGLE,
    SINGLE_HELD_OUT,
    SOME,
    STRONG,
    TENFOLD,
    TIGHT,
    CannotTell,
    Results,
    combine,
    fisher_correlation,
    grade,
    lowest_of,
    mean_of,
    need,
    paired,
    percent,
    sign,
    verdict,
    where,
    with_interval,
)
from nas_core.space import NONE

__all__ = ["BILEVEL", "BILEVEL_TRAIN", "FIXED", "MEASURES", "RECIPES", "SINGLE", "SINGLE_HELD_OUT", "judge", "judge_all"]


def judge(claim_id: str, results: Results) -> Verdict:
    """The verdict of these runs on one claim; *not tested at this scale*, with the reason, where they cannot tell."""
    claim(claim_id)
    if claim_id not in MEASURES:
        return untested(claim_id, "No measurement of this claim is recorded yet.")
    try:
        return MEASURES[claim_id](results)
    except CannotTell as reason:
        return untested(claim_id, str(reason))


def judge_all(results: Results) -> list[Verdict]:
    """A verdict on every claim, in the paper's order."""
    return [judge(own.id, results) for own in CLAIMS]


def growth(results: Results) -> Verdict:
    """P1: single-level runs fall to a minimum of surviving edges and rise from it. Magnitude: the minimum is (nearly)
    none."""
    runs = need(results, SINGLE)
    counts = summary.survivors(runs).sum(axis=-1)
    lowest = lowest_of(counts)
    drop, rise = counts[:, 0] - lowest, counts[:, -1] - lowest
    direction = combine([sign(drop, +1), sign(rise, +1)])
    edges = summary.survivors(runs).shape[-1]
    magnitude = grade(direction, lowest.mean() <= FEW * edges, lowest.mean() <= SOME * edges)
    sentence = (
        f"Of {edges} edges {counts[:, 0].mean():.1f} are kept at first, {lowest.mean():.1f} at the minimum and "
        f"{counts[:, -1].mean():.1f} at the end; the number is the rise from the minimum."
    )
    return verdict("P1", runs, rise, "edges", direction, magnitude, sentence)


def width(results: Results) -> Verdict:
    """P2: at the end of single-level runs a larger share of input edges than of intermediate edges is alive."""
    runs = need(results, SINGLE)
    cell = summary.cell_of(runs[0])
    middle = np.array([cell.edge_class(edge) == "intermediate" for edge in range(len(cell.edges))])
    if middle.all() or not middle.any():
        raise CannotTell(f"The {cell.name} cell has edges of one class only, so there is nothing to compare.")
    final = summary.survivors(runs)[:, -1, : len(cell.edges)]
    inner, outer = final[:, middle].mean(axis=1), final[:, ~middle].mean(axis=1)
    direction = sign(outer - inner, +1)
    magnitude = grade(direction, inner.mean() <= FEW, inner.mean() <= SOME)
    sentence = (
        f"At the end {percent(outer.mean())} of the input edges and {percent(inner.mean())} of the intermediate edges "
        "are kept."
    )
    return verdict("P2", runs, outer - inner, "share of edges", direction, magnitude, sentence)


def catastrophe(results: Results) -> Verdict:
    """P3: fewer edges survive bi-level search than its single-level control. Magnitude: bi-level keeps (nearly)
    none."""
    bilevel, single = paired(results, BILEVEL, SINGLE)
    edges = summary.survivors(bilevel).shape[-1]
    kept, control = (summary.survivors(runs)[:, -1].sum(axis=-1) for runs in (bilevel, single))
    direction = sign(kept - control, -1)
    magnitude = grade(direction, kept.mean() <= FEW * edges, kept.mean() <= SOME * edges)
    sentence = (
        f"Of {edges} edges {with_interval(kept)} survive bi-level search and {with_interval(control)} its "
        "single-level control; the number is the paired difference."
    )
    return verdict("P3", [*bilevel, *single], kept - control, "edges", direction, magnitude, sentence)


def crossed(results: Results) -> Verdict:
    """B1: surviving edges under both orders of steps, crossed with both sources of α's images, paired by seed.

    The number is the main effect of held-out images: the mean over both orders of (held out − training). Direction: it is
    negative. Magnitude: it exceeds the main effect of the order, whose interval is said too.
    """
    groups = paired(results, BILEVEL, SINGLE_HELD_OUT, BILEVEL_TRAIN, SINGLE)
    first, second, third, last = (summary.survivors(runs)[:, -1].sum(axis=-1) for runs in groups)
    data, steps = (first + second - third - last) / 2, (first + third - second - last) / 2
    direction = sign(data, -1)
    apart = sign(np.abs(data) - np.abs(steps), +1)
    magnitude = grade(direction, apart == REPRODUCED, abs(data.mean()) > abs(steps.mean()))
    sentence = (
        f"Judging α on held-out images instead of training images changes the number of surviving edges by "
        f"{with_interval(data)}; letting α step before θ instead of with it changes it by {with_interval(steps)}."
    )
    return verdict("B1", [run for runs in groups for run in runs], data, "edges", direction, magnitude, sentence)


def _operation_costs(results: Results, evaluation: int) -> tuple[list, np.ndarray]:
    """Runs, and ``[s, E, K-1]``: the last cell's mean cost on training images of every operation but *none*."""
    runs = need(results, FIXED, SINGLE, BILEVEL)
    costs = summary.stack(runs, "cost_mean")[:, evaluation, 0, -1]
    return runs, np.delete(costs, NONE, axis=-1)


def _hypothesis(claim_id: str, results: Results, evaluation: int, expected: int) -> Verdict:
    """H1, H2: the sign of the mean over edges and operations. Magnitude: on how many edges the sign is shown
    separately."""
    runs, costs = _operation_costs(results, evaluation)
    overall = np.array([mean_of(run) for run in costs])
    per_edge = np.array([[mean_of(edge) for edge in run] for run in costs])
    direction = sign(overall, expected)
    shown = [sign(per_edge[:, edge], expected) == REPRODUCED for edge in range(per_edge.shape[1])]
    magnitude = grade(direction, all(shown), any(shown))
    way = "positive" if expected > 0 else "negative"
    when = "before training" if evaluation == 0 else "after training"
    moved = "" if results.get(FIXED) else " α moved during these runs; the paper holds it fixed."
    sentence = (
        f"{when.capitalize()} the mean cost of operations other than *none* is shown to be {way} on {sum(shown)} of "
        f"{len(shown)} edges of the last cell.{moved if evaluation else ''}"
    )
    return verdict(claim_id, runs, overall, "", direction, magnitude, sentence)


def positive_at_first(results: Results) -> Verdict:
    """H1 on the last cell, from the evaluation of training images before training."""
    return _hypothesis("H1", results, 0, +1)


def negative_in_the_end(results: Results) -> Verdict:
    """H2 on the last cell, from the evaluation of training images after training."""
    return _hypothesis("H2", results, -1, -1)


def last_cell(results: Results) -> Verdict:
    """M-last: mean |edge cost| of the last cell over that of the cells before it, on training images, over all
    evaluations."""
    runs = need(results, FIXED, SINGLE, BILEVEL)
    size = np.abs(summary.stack(runs, "edge_cost")[:, :, 0]).mean(axis=(1, 3))
    if size.shape[1] < 2:
        raise CannotTell("The network has a single cell, so there is no other to compare the last one with.")
    ratio = size[:, -1] / np.maximum(size[:, :-1].mean(axis=1), np.finfo(float).tiny)
    direction = sign(np.log(ratio), +1)
    magnitude = grade(direction, summary.interval(ratio)[1] >= TENFOLD, ratio.mean() >= TENFOLD)
    sentence = f"Over training the last cell's edge costs are {ratio.mean():.1f} times those of the cells before it."
    return verdict("M-last", runs, ratio, "times", direction, magnitude, sentence)


def output_cost(results: Results) -> Verdict:
    """T2: L − H on training images is positive before training, negative after it, and falls as accuracy rises.

    Magnitude: how strong the correlation with accuracy is; the paper gives no number of its own.
    """
    runs = need(results, FIXED, SINGLE, BILEVEL)
    loss, entropy = summary.loss_and_entropy(runs, "train")
    cost, score = loss - entropy, summary.stack(runs, "accuracy")[:, :, 0]
    together = np.array([fisher_correlation(own, right) for own, right in zip(cost, score, strict=True)])
    parts = [sign(cost[:, 0], +1), sign(cost[:, -1], -1), sign(together, -1)]
    direction = combine(parts)
    magnitude = grade(
        direction, np.tanh(summary.interval(together)[2]) <= -STRONG, np.tanh(mean_of(together)) <= -MODERATE
    )
    words = [f"{text} ({outcome})" for text, outcome in zip(
        (f"before training {with_interval(cost[:, 0])}", f"after it {with_interval(cost[:, -1])}",
         f"correlation with accuracy {with_interval(together, np.tanh)}"), parts, strict=True)]  # fmt: skip
    sentence = f"L − H on training images: {'; '.join(words)}. The number is the value after training."
    return verdict("T2", runs, cost[:, -1], "nats", direction, magnitude, sentence)


def dynamics(results: Results) -> Verdict:
    """D-dyn: the sum of the last cell's edge costs, measured at the edges, changes as L − H, measured at the output.

    Differences of L and H alone would repeat a definition; the edge costs are an independent measurement. Magnitude:
    the largest gap between the two curves relative to the range of L − H.
    """
    runs = need(results, FIXED, SINGLE, BILEVEL)
    loss, entropy = summary.loss_and_entropy(runs, "train")
    total = summary.edge_cost(runs, "train")[1].sum(axis=-1)
    output = loss - entropy
    together = np.array([fisher_correlation(np.diff(a), np.diff(b)) for a, b in zip(total, output, strict=True)])
    rest = np.abs(total - output).max(axis=1) / np.maximum(np.ptp(output, axis=1), np.finfo(float).tiny)
    direction = sign(together, +1)
    magnitude = grade(direction, rest.mean() <= TIGHT, np.tanh(mean_of(together)) >= STRONG)
    sentence = (
        f"Between evaluations Σ C over the last cell's edges and L − H change with a correlation of "
        f"{with_interval(together, np.tanh)}; the two curves differ by at most {percent(rest.mean())} of the range of "
        "L − H, skip connections included."
    )
    return verdict("D-dyn", runs, together, "correlation", direction, magnitude, sentence, np.tanh)


def false_confidence(results: Results) -> Verdict:
    """R4: five statements on bi-level runs (or, as in Figs 22 to 26, runs with α fixed), each tested once a seed;
    magnitude: the held-out cost ends positive, training's does not."""
    runs = need(results, BILEVEL, FIXED)
    loss, entropy = summary.loss_and_entropy(runs, "held_out")
    held = loss - entropy
    if not np.isfinite(held).all():
        raise CannotTell("These runs have no held-out images.")
    train = np.subtract(*summary.loss_and_entropy(runs, "train"))
    rise = held[:, -1] - lowest_of(held)
    more_loss, less_entropy = _wrong_images(runs)
    parts = {
        "the held-out cost rises from its minimum": (rise, +1),
        "it ends positive": (held[:, -1], +1),
        "the training cost ends negative": (train[:, -1], -1),
        "L on wrong images is larger held out": (more_loss, +1),
        "H on wrong images is smaller held out": (less_entropy, -1),
    }
    outcomes = {words: sign(values, expected) for words, (values, expected) in parts.items()}
    direction = combine(list(outcomes.values()))
    signs = [outcomes["it ends positive"] == REPRODUCED, outcomes["the training cost ends negative"] == REPRODUCED]
    magnitude = grade(direction, all(signs), any(signs))
    words = "; ".join(f"{text} {with_interval(values)}, {outcomes[text]}" for text, (values, _) in parts.items())
    label = BILEVEL if results.get(BILEVEL) else FIXED
    return verdict(
        "R4",
        runs,
        held[:, -1],
        "nats",
        direction,
        magnitude,
        f"In {label} runs: {words}. The number is the held-out cost at the end.",
    )


def _wrong_images(runs: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s]`` twice: L and H on wrongly classified images, held-out minus training, after training."""
    (held_loss, held_entropy), (own_loss, own_entropy) = (
        [values[:, -1] for values in summary.loss_and_entropy(runs, which, "wrong")] for which in ("held_out", "train")
    )
    return held_loss - own_loss, held_entropy - own_entropy


def gap_and_cost(results: Results) -> Verdict:
    """B2: Spearman's correlation, over all runs of all labels, of the held-out cost at the end with the generalisation
    gap.

    The interval is Fisher's, with Bonett and Wright's standard error for ranks.
    """
    # A run may stand under two labels; it counts once.
    runs = list({(run.meta["ident"], run.meta["seed"]): run for group in results.values() for run in group}.values())
    pairs = [(summary.gap([run])[0], summary.edge_cost([run], "held_out")[1][0, -1].sum()) for run in runs]
    known = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2)
    if len(known) < RUNS_FOR_CORRELATION:
        raise CannotTell(
            f"This needs at least {RUNS_FOR_CORRELATION} runs with held-out images, and {len(known)} are given."
        )
    rank = float(stats.spearmanr(known[:, 0], known[:, 1]).statistic)
    if not np.isfinite(rank):
        raise CannotTell("The gap or the held-out cost is the same in all runs, so they cannot be correlated.")
    half = stats.norm.ppf(0.975) * np.sqrt((1 + rank**2 / 2) / (len(known) - 3))
    centre = np.arctanh(np.clip(rank, -0.999999, 0.999999))
    low, high = float(np.tanh(centre - half)), float(np.tanh(centre + half))
    direction = REPRODUCED if low > 0 else NOT_REPRODUCED
    magnitude = REPRODUCED if low >= MODERATE else PARTLY if rank >= MODERATE and low > 0 else NOT_REPRODUCED
    sentence = (
        f"Over {len(known)} runs the held-out cost at the end and the generalisation gap have a rank correlation of "
        f"{number(rank)}."
    )
    return Verdict("B2", direction, magnitude, len(known), rank, low, high, "rank correlation", sentence, *where(runs))


RECIPES = {
    BILEVEL: "reference_darts_bilevel",
    SINGLE: "corrected_darts_single",
    FIXED: "reference_darts_curves",
    SINGLE_HELD_OUT: "corrected_darts_single_held_out",
    BILEVEL_TRAIN: "corrected_darts_bilevel_train",
}
"""The recipe behind every label."""

MEASURES: dict[str, Callable[[Results], Verdict]] = {
    "P1": growth,
    "P2": width,
    "P3": catastrophe,
    "H1": positive_at_first,
    "H2": negative_in_the_end,
    "M-last": last_cell,
    "T2": output_cost,
    "D-dyn": dynamics,
    "R4": false_confidence,
    "B1": crossed,
    "B2": gap_and_cost,
}
"""The measures there are so far, by claim."""
