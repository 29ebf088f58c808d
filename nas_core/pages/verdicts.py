"""Measures: functions from recorded runs to a verdict on one claim, by the test of :mod:`nas_core.pages.evidence`.

``results`` maps a label to runs of one configuration that differ in the seed. The labels that measures look for are
:data:`BILEVEL`, :data:`SINGLE` and :data:`FIXED` (DARTS; in the last θ is trained and α not), for B1 also
:data:`SINGLE_HELD_OUT` and :data:`BILEVEL_SAME`, for P1 and P2 :data:`SAMPLED`, for the statistics of cost
:data:`UNIFORM`.
For B2 those of :data:`NOISE`. Others are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from nas_core.pages import summary
from nas_core.pages.claims import CLAIMS, REPRODUCED, Verdict, claim, untested
from nas_core.pages.evidence import (
    BILEVEL,
    BILEVEL_SAME,
    FEW,
    FIXED,
    MODERATE,
    NOISE,
    SAMPLED,
    SINGLE,
    SINGLE_HELD_OUT,
    SOME,
    STRONG,
    TENFOLD,
    TIGHT,
    UNIFORM,
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
    with_interval,
)
from nas_core.space import NONE

__all__ = [
    "BILEVEL",
    "BILEVEL_SAME",
    "FIXED",
    "MEASURES",
    "NOISE",
    "RECIPES",
    "SAMPLED",
    "SINGLE",
    "SINGLE_HELD_OUT",
    "UNIFORM",
    "judge",
    "judge_all",
]


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
    runs = need(results, SAMPLED)
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
    runs = need(results, SAMPLED)
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

    The number is the main effect of held-out images: the mean over both orders of (held out − training). Direction: it
    is negative. Magnitude: it exceeds the main effect of the order, whatever that effect's sign; its interval is said
    too."""
    groups = paired(results, BILEVEL, SINGLE_HELD_OUT, BILEVEL_SAME, SINGLE)
    first, second, third, last = (summary.survivors(runs)[:, -1].sum(axis=-1) for runs in groups)
    data, steps = (first + second - third - last) / 2, (first + third - second - last) / 2
    direction = sign(data, -1)
    apart = {sign(data + steps, -1), sign(data - steps, -1)}
    magnitude = grade(direction, apart == {REPRODUCED}, abs(data.mean()) > abs(steps.mean()))
    sentence = (
        f"Judging α on held-out images instead of θ's own batch changes the number of surviving edges by "
        f"{with_interval(data)}; letting α step before θ instead of with it changes it by {with_interval(steps)}."
    )
    return verdict("B1", [run for runs in groups for run in runs], data, "edges", direction, magnitude, sentence)


def _operation_costs(results: Results, evaluation: int) -> tuple[list, np.ndarray]:
    """Runs, and ``[s, E, K-1]``: the last cell's mean cost on training images of every operation but *none*."""
    runs = need(results, UNIFORM)
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
    sentence = (
        f"{when.capitalize()} the mean cost of operations other than *none* is shown to be {way} on {sum(shown)} of "
        f"{len(shown)} edges of the last cell."
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
    runs = need(results, UNIFORM)
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
        "L − H."
    )
    return verdict("D-dyn", runs, together, "correlation", direction, magnitude, sentence, np.tanh)


def false_confidence(results: Results) -> Verdict:
    """R4: four statements on bi-level runs (or, as in Figs 22 to 26, runs with α fixed), each tested once a seed.

    Magnitude: the held-out cost ends positive, as the paper says, rather than only higher. The training cost is said
    beside it, as a control."""
    label = BILEVEL if results.get(BILEVEL) else FIXED
    runs = need(results, label)
    loss, entropy = summary.loss_and_entropy(runs, "held_out")
    held = loss - entropy
    if not np.isfinite(held).all():
        raise CannotTell("These runs have no held-out images.")
    train = np.subtract(*summary.loss_and_entropy(runs, "train"))
    more_loss, less_entropy = _wrong_images(runs)
    parts = {
        "the held-out cost rises from its minimum": (held[:, -1] - lowest_of(held), +1),
        "it ends positive": (held[:, -1], +1),
        "L on wrong images is larger held out": (more_loss, +1),
        "H on wrong images is smaller held out": (less_entropy, -1),
    }
    outcomes = {words: sign(values, expected) for words, (values, expected) in parts.items()}
    direction = combine(list(outcomes.values()))
    magnitude = grade(direction, outcomes["it ends positive"] == REPRODUCED, mean_of(held[:, -1]) > 0)
    words = "; ".join(f"{text} {with_interval(values)}, {outcomes[text]}" for text, (values, _) in parts.items())
    sentence = (
        f"In {label} runs: {words}. For comparison, the training cost ends at {with_interval(train[:, -1])}. "
        "The number is the held-out cost at the end."
    )
    return verdict("R4", runs, held[:, -1], "nats", direction, magnitude, sentence)


def _wrong_images(runs: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s]`` twice: L and H on wrongly classified images, held-out minus training, after training."""
    (held_loss, held_entropy), (own_loss, own_entropy) = (
        [values[:, -1] for values in summary.loss_and_entropy(runs, which, "wrong")] for which in ("held_out", "train")
    )
    return held_loss - own_loss, held_entropy - own_entropy


def gap_and_wiring(results: Results) -> Verdict:
    """B2: the same bi-level search with and without label noise, paired by seed: noise opens the generalisation gap,
    raises the held-out cost, and drops edges. Magnitude: without noise (nearly) all edges stay, with it at most half of
    them do."""
    quiet, noisy = paired(results, *(min(NOISE, key=NOISE.get), max(NOISE, key=NOISE.get)))
    edges = summary.survivors(quiet).shape[-1]
    kept = {name: summary.survivors(runs)[:, -1].sum(axis=-1) for name, runs in (("quiet", quiet), ("noisy", noisy))}
    cost = [summary.edge_cost(runs, "held_out")[1][:, -1].sum(axis=-1) for runs in (quiet, noisy)]
    parts = {
        "the generalisation gap grows": (summary.gap(noisy) - summary.gap(quiet), +1),
        "the held-out cost grows": (cost[1] - cost[0], +1),
        "the number of surviving edges falls": (kept["noisy"] - kept["quiet"], -1),
    }
    outcomes = {words: sign(values, expected) for words, (values, expected) in parts.items()}
    direction = combine(list(outcomes.values()))
    spared = kept["quiet"].mean() >= (1 - FEW) * edges
    magnitude = grade(direction, spared and kept["noisy"].mean() <= SOME * edges, spared)
    words = "; ".join(f"{text} by {with_interval(values)}, {outcomes[text]}" for text, (values, _) in parts.items())
    share = percent(max(NOISE.values()))
    sentence = (
        f"With {share} of the labels replaced, {words}. Of {edges} edges {with_interval(kept['quiet'])} "
        f"survive without noise "
        f"and {with_interval(kept['noisy'])} with it."
    )
    return verdict(
        "B2", [*quiet, *noisy], parts["the number of surviving edges falls"][0], "edges", direction, magnitude, sentence
    )


RECIPES = {
    BILEVEL: "reference_darts_bilevel",
    SINGLE: "corrected_darts_single",
    FIXED: "reference_darts_curves",
    SINGLE_HELD_OUT: "corrected_darts_single_held_out",
    BILEVEL_SAME: "corrected_darts_bilevel_same",
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
    "B2": gap_and_wiring,
}
"""The measures there are so far, by claim."""
