"""Measures that rest on DARTS searches and on θ trained with α fixed: P3, T2, D-dyn, R4, B1 and B2.

``results`` maps a label to runs of one configuration that differ in the seed. The labels are :data:`BILEVEL`,
:data:`SINGLE` and :data:`FIXED` (in the last θ is trained and α not), for B1 also :data:`SINGLE_HELD_OUT` and
:data:`BILEVEL_SAME` and those of :mod:`nas_core.pages.crossed`, for B2 those of :mod:`nas_core.pages.gap`. Others are
ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas_core.lab.recipes import CROSSED
from nas_core.pages import crossed, gap, summary
from nas_core.pages.claims import REPRODUCED, Verdict
from nas_core.pages.evidence import (
    BILEVEL,
    BILEVEL_SAME,
    FIXED,
    MODERATE,
    NOISE,
    SINGLE,
    SINGLE_HELD_OUT,
    STRONG,
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
    with_interval,
)
from nas_core.pages.evolution_patterns import failure_of, overall


def catastrophe(results: Results) -> Verdict:
    """P3: fewer edges survive bi-level search than its single-level control. Magnitude: bi-level keeps (nearly)
    none."""
    bilevel, single = paired(results, BILEVEL, SINGLE)
    edges = summary.survivors(bilevel).shape[-1]
    kept, control = (summary.survivors(runs)[:, -1].sum(axis=-1) for runs in (bilevel, single))
    own = failure_of(bilevel, single)
    sentence = (
        f"Of {edges} edges {with_interval(kept)} survive bi-level search and {with_interval(control)} its "
        "single-level control; the number is the paired difference."
    )
    return verdict("P3", [*bilevel, *single], kept - control, "edges", own.direction, own.magnitude, sentence)


def taken_apart(results: Results) -> Verdict:
    """B1: surviving edges under both orders of steps, crossed with the sources of α's images, paired by seed, in every
    relaxation that has all four corners.

    The number is the main effect of held-out images against θ's own batch: the mean over both orders, then over
    relaxations. Direction, in each relaxation: it is negative, and so is that against another batch of θ's images where
    this is recorded. Magnitude: it exceeds the main effect of the order, whatever that effect's sign."""
    found = {name: _switches(results, name) for name in CROSSED if crossed.images(results, name)}
    if not found:
        corners = f"{BILEVEL}, {SINGLE_HELD_OUT}, {BILEVEL_SAME} and {SINGLE}"
        raise CannotTell(f"This needs runs of {corners} with a seed in common, or the same of another relaxation.")
    directions, magnitudes, words, effects = zip(*found.values(), strict=True)
    seeds = sorted(set().union(*effects))
    data = [float(np.mean([own[seed] for own in effects if seed in own])) for seed in seeds]
    said = " ".join(f"{crossed.NAMES[name]}: {own}" for name, own in zip(found, words, strict=True))
    sentence = (
        f"{said} Held-out images are shown to drop edges in {directions.count(REPRODUCED)} of {len(found)} relaxations. The "
        "number is their effect against θ's own batch."
    )
    every = [run for name in found for runs in crossed.combinations(results, name).values() for run in runs]
    return verdict("B1", every, data, "edges", overall(directions), overall(magnitudes), sentence)


def _switches(results: Results, name: str) -> tuple[str, str, str, crossed.BySeed]:
    """Direction, magnitude and sentence of one relaxation, and the main effect of its held-out images."""
    data, fresh, steps = (
        crossed.images(results, name),
        crossed.images(results, name, "train"),
        crossed.order(results, name),
    )
    direction = combine([sign(list(own.values()), -1) for own in (data, fresh) if own])
    seeds = sorted(set(data) & set(steps))
    one, other = (np.array([own[seed] for seed in seeds]) for own in (data, steps))
    apart = {sign(one + other, -1), sign(one - other, -1)}
    magnitude = grade(direction, apart == {REPRODUCED}, abs(one.mean()) > abs(other.mean()))
    itself = f", instead of another batch of θ's images by {crossed.said(fresh)}" if fresh else ""
    words = (
        f"judging α on held-out images instead of θ's own batch changes the number of surviving edges by "
        f"{crossed.said(data)}{itself}; letting α step before θ instead of with it changes it by {crossed.said(steps)}."
    )
    return direction, magnitude, words, data


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
    rise = held[:, -1] - lowest_of(held)
    tests = ((rise, +1), (held[:, -1], +1), (more_loss, +1), (less_entropy, -1))
    outcomes = [sign(values, expected) for values, expected in tests]
    direction = combine(outcomes)
    magnitude = grade(direction, outcomes[1] == REPRODUCED, mean_of(held[:, -1]) > 0)
    rises, ends, loses, doubts = (
        f"{with_interval(values)} ({outcome})" for (values, _), outcome in zip(tests, outcomes, strict=True)
    )
    sentence = (
        f"In {label} runs the held-out cost rises from its minimum by {rises}; claimed to end positive, it ends at {ends}. On wrong "
        f"images, held out minus training, L, claimed to be larger held out, is {loses}; H, claimed to be smaller, {doubts}. For comparison, the training cost ends at {with_interval(train[:, -1])}. "
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
    """B2: over searches that judge α on held-out images, fewer edges survive where the generalisation gap is wider: the rank
    correlation over settings within a seed is negative. Magnitude: how strong it is.

    The sentence also says what the share of epochs with a positive charged cost tells, and what label noise alone does."""
    groups = gap.settings(results)
    if len(groups) < gap.FEWEST_SETTINGS:
        raise CannotTell(
            f"{len(groups)} settings are recorded, fewer than the {gap.FEWEST_SETTINGS} to correlate over."
        )
    found = {name: gap.within_seeds(groups, reading) for name, reading in gap.READINGS.items()}
    together = found["generalisation gap"]
    direction, close = sign(together, -1), np.tanh(mean_of(together))
    magnitude = grade(direction, close <= -STRONG, close <= -MODERATE)
    sentence = f"{gap.prediction(results)} {_noise_words(results)} The number is the correlation with the gap."
    every = [run for runs in groups.values() for run in runs]
    return verdict("B2", every, together, "rank correlation", direction, magnitude, sentence.strip(), np.tanh)


def _noise_words(results: Results) -> str:
    """What replacing labels does to the same search, paired by seed; empty where it is not recorded."""
    try:
        quiet, noisy = paired(results, *(min(NOISE, key=NOISE.__getitem__), max(NOISE, key=NOISE.__getitem__)))
    except CannotTell:
        return ""
    kept = [summary.survivors(runs)[:, -1].sum(axis=-1) for runs in (quiet, noisy)]
    cost = [summary.edge_cost(runs, "held_out")[1][:, -1].sum(axis=-1) for runs in (quiet, noisy)]
    return (
        f"Replacing {percent(max(NOISE.values()))} of the labels changes the gap by "
        f"{with_interval(summary.gap(noisy) - summary.gap(quiet))}, the held-out cost by {with_interval(cost[1] - cost[0])} and "
        f"the number of surviving edges by {with_interval(kept[1] - kept[0])}."
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
    "P3": catastrophe,
    "T2": output_cost,
    "D-dyn": dynamics,
    "R4": false_confidence,
    "B1": taken_apart,
    "B2": gap_and_wiring,
}
"""The measures of this module, by claim."""
