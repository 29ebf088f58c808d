"""Appendix H from recorded runs: the cost maps of other normalisations and stacking orders against those of batch norm
in the order ReLU-Conv-BN, and the verdicts on N-affine, N-IN and S-order.

Two maps are compared by the correlation of their entries. A run's map is set against the mean map of the *other* seeds'
base runs, so that the base can be compared with itself in the same way: that likeness is the most that a variant which
changes nothing could reach. Letters in shapes: s seeds, E edges, K operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nas_core.pages import normalization_figures, summary
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, Verdict, number, unbroken
from nas_core.pages.evidence import (
    FEWEST_SEEDS,
    MODERATE,
    STRONG,
    Results,
    combine,
    fisher_correlation,
    grade,
    mean_of,
    paired,
    sign,
    verdict,
    with_interval,
)
from nas_core.pages.tables import markdown
from nas_core.space import NONE

BASE = "batch norm, ReLU-Conv-BN"
LAYER = "affine layer norm"
INSTANCE_AFFINE = "affine instance norm"
INSTANCE = "instance norm"
CONV_RELU = "Conv-ReLU-BN"
CONV_NORM = "Conv-BN-ReLU"
BEFORE, AFTER = "before training", "after training"

_NAMES = {
    BASE: "cost",
    LAYER: "layer_affine",
    INSTANCE_AFFINE: "instance_affine",
    INSTANCE: "instance",
    CONV_RELU: "conv_relu_norm",
    CONV_NORM: "conv_norm_relu",
}


def label(title: str, when: str) -> str:
    """The label of a variant's runs before or after training."""
    return f"{title}, {when}"


RECIPES = {
    label(title, when): f"reference_{name}_{recipe}"
    for title, name in _NAMES.items()
    for when, recipe in ((BEFORE, "initial"), (AFTER, "trained"))
}
"""The recipe behind every label."""

NOTHING = 1e-3
"""A map whose largest entry is below this share of the base's mean entry counts as zero: what single precision leaves
of a sum that cancels is smaller still, and a cost of that size moves nothing."""
STILL = 1e-3
"""A loss that stays this close (in nats) to the one of equal logits has learned nothing."""
ALIKE = 2.0
"""Mean sizes within this factor of each other count as the same size."""


def entries(results: Sequence) -> np.ndarray:
    """``[s, E, K - 1]``: the last cell's mean cost of every operation but *none*, with θ and α fixed."""
    return np.delete(summary.stack(results, "statistics_mean")[:, -1], NONE, axis=-1)


def sizes(results: Sequence) -> np.ndarray:
    """``[s]``: mean |entry| of each map."""
    return np.nanmean(np.abs(entries(results)), axis=(1, 2))


def likeness(own: Sequence, base: Sequence) -> np.ndarray:
    """``[s]``: Fisher's z of the correlation between a run's map and the mean map of the base's other seeds.

    Both are runs of the same seeds in the same order. A single seed is compared with the base's own run, which leaves
    nothing to compare the base itself with (NaN). A map without cost has no correlation (NaN)."""
    maps, others = entries(own), entries(base)
    if len(others) == 1:
        return np.array([math.nan if own is base else fisher_correlation(maps[0].ravel(), others[0].ravel())])
    rest = [np.delete(others, run, axis=0).mean(axis=0) for run in range(len(others))]
    found = np.array([fisher_correlation(a.ravel(), b.ravel()) for a, b in zip(maps, rest, strict=True)])
    return np.where(_is_nothing(own, base), math.nan, found)


def _is_nothing(own: Sequence, base: Sequence) -> np.ndarray:
    """``[s]``: whether a map is zero next to the base's; see :data:`NOTHING`."""
    return np.nanmax(np.abs(entries(own)), axis=(1, 2)) <= NOTHING * sizes(base)


@dataclass(frozen=True)
class Comparison:
    """A variant's maps against the base's, one number a seed: the ``mean`` entry of both, Fisher's z of the correlation
    (``alike``) and of that of the base with itself (``ceiling``), the ``size`` of the variant's mean |entry| over the
    base's, and how many of all ``known`` entries are ``positive`` in both. ``nothing``: whether the map is zero."""

    title: str
    when: str
    mean: np.ndarray
    base_mean: np.ndarray
    alike: np.ndarray
    ceiling: np.ndarray
    size: np.ndarray
    positive: np.ndarray
    base_positive: np.ndarray
    known: int
    nothing: np.ndarray

    @property
    def outcome(self) -> str:
        """Whether the mean entry has the sign of Fig 4: positive before training, negative after it. A map of zeros has
        none."""
        if self.nothing.all() and len(self.nothing) >= FEWEST_SEEDS:
            return NOT_REPRODUCED
        return sign(self.mean, +1 if self.when == BEFORE else -1)

    def same(self, share: float) -> bool:
        """Whether the map is of the base's size, within :data:`ALIKE`, and sign in the mean, and correlates with it at
        least ``share`` times as well as the base with itself; where the base's own maps do not agree, size and sign
        alone count."""
        if self.nothing.any() or abs(summary.interval(np.log(self.size))[0]) > math.log(ALIKE):
            return False
        if mean_of(self.mean) * mean_of(self.base_mean) < 0:
            return False
        if sign(self.ceiling, +1) != REPRODUCED:
            return True
        return bool(np.tanh(mean_of(self.alike)) >= share * np.tanh(mean_of(self.ceiling)))

    @property
    def words(self) -> str:
        """Which map it is, for a verdict's sentence."""
        return f"{self.title} {self.when}{' (no cost at all)' if self.nothing.all() else ''}"


def compare(results: Results, title: str, when: str) -> Comparison:
    """One variant against the base at one time, paired by seed."""
    own, base = paired(results, label(title, when), label(BASE, when))
    maps, others = entries(own), entries(base)
    return Comparison(
        title,
        when,
        np.nanmean(maps, axis=(1, 2)),
        np.nanmean(others, axis=(1, 2)),
        likeness(own, base),
        likeness(base, base),
        sizes(own) / np.maximum(sizes(base), np.finfo(float).tiny),
        (maps > 0).sum(axis=(1, 2)),
        (others > 0).sum(axis=(1, 2)),
        int(np.isfinite(maps[0]).sum()),
        _is_nothing(own, base),
    )


def panels(results: Results, titles: Sequence[str], when: str) -> dict[str, list]:
    """The runs of several variants at one time, by title: the panels of a figure."""
    return {title: list(results[label(title, when)]) for title in titles}


def times(results: Results, title: str) -> dict[str, list]:
    """The runs of one variant before and after training."""
    return {when: list(results[label(title, when)]) for when in (BEFORE, AFTER)}


def comparisons(results: Results, titles: Sequence[str]) -> list[Comparison]:
    """:func:`compare` before and after training, for every title."""
    return [compare(results, title, when) for title in titles for when in (BEFORE, AFTER)]


def comparison_table(results: Results, titles: Sequence[str]) -> str:
    """Variants against the base, before and after training: signs, correlation and size; means over seeds with 95 %
    intervals, sizes as geometric means. Below: n, and how well the base's maps agree with each other."""
    found = comparisons(results, titles)
    rows = []
    for own in found:
        positive, base = (f"{values.mean():.1f}" for values in (own.positive, own.base_positive))
        difference = with_interval((own.positive - own.base_positive).astype(float))
        size = np.log(np.maximum(own.size, np.finfo(float).tiny))
        alike = "all zero" if own.nothing.all() else with_interval(own.alike, np.tanh)
        rows.append((
            f"{own.title}, {own.when}", with_interval(own.mean), f"{positive} / {base}", difference, alike,
            with_interval(size, np.exp),
        ))  # fmt: skip
    header = ("variant", "mean entry", f"positive of {found[0].known}, variant / base", "their difference",
              "correlation with base", "size / base's")  # fmt: skip
    return f"{markdown(header, rows, text=1)}\n\n{_agreement(found)}"


def _agreement(found: Sequence[Comparison]) -> str:
    """n, and the correlation of the base's maps between seeds, in a sentence."""
    seeds = " or ".join(dict.fromkeys(str(len(own.size)) for own in found))
    known = [own for own in found if np.isfinite(own.ceiling).any()]
    if not known:
        return f"Paired by seed, n = {seeds}."
    words = dict.fromkeys(f"{with_interval(own.ceiling, np.tanh)} {own.when}" for own in known)
    return unbroken(
        f"Paired by seed, n = {seeds}. Between seeds the base's own maps correlate by {' and '.join(words)}: the most that a "
        "variant which changes nothing could reach."
    )


def learning_table(results: Results) -> str:
    """What every network learned: accuracy and loss on the first training images, not augmented, at the end, and L − H;
    means over seeds with 95 % intervals."""
    rows = []
    for title in _NAMES:
        runs = results.get(label(title, AFTER))
        if runs:
            loss, entropy = summary.loss_and_entropy(runs, "train")
            accuracy = summary.stack(runs, "accuracy")[:, :, 0]
            columns = (accuracy[:, 0], accuracy[:, -1], loss[:, -1], (loss - entropy)[:, -1])
            rows.append((title, len(runs), *map(with_interval, columns)))
    header = ("network", "n", "accuracy before", "accuracy after", "loss after", "L − H after, plain images")
    return markdown(header, rows, text=1)


# -------------------------------------------------------------------------------------------------------------- verdicts


def _same_maps(claim_id: str, results: Results, titles: Sequence[str]) -> Verdict:
    """Whether all ``titles`` show what batch norm shows in Fig 4.

    Direction: the mean entry is positive before training and negative after it. Magnitude: the maps are the same as the
    base's (see :meth:`Comparison.same`, with :data:`evidence.STRONG`); *partly* if half of them are by
    :data:`evidence.MODERATE`. The number is the mean correlation after training."""
    found = comparisons(results, titles)
    direction = combine([own.outcome for own in found])
    full, half = (sum(own.same(share) for own in found) for share in (STRONG, MODERATE))
    magnitude = grade(direction, full == len(found), 2 * half >= len(found))
    later = np.stack([own.alike for own in found if own.when == AFTER])
    values = np.array([mean_of(column) for column in later.T])
    signs = _count(found, [own.outcome == REPRODUCED for own in found])
    likes = _count(found, [own.same(STRONG) for own in found])
    sentence = (
        f"Recorded maps, before and after training: the mean entry is shown to have the sign of Fig 4 in {signs}. Size, sign and "
        f"pattern are those of batch norm in the order ReLU-Conv-BN in {likes}. The chapter's table has the numbers; the "
        "number here is the mean correlation with these maps of batch norm after training."
    )
    runs = [run for title in titles for run in results[label(title, AFTER)]]
    return verdict(claim_id, runs, values, "correlation", direction, magnitude, sentence, np.tanh)


def _count(found: Sequence[Comparison], holds: Sequence[bool]) -> str:
    """``3 of 4, not in Conv-BN-ReLU before training``."""
    *others, last = ["", *(own.words for own, holding in zip(found, holds, strict=True) if not holding)]
    named = " and ".join(filter(None, [", ".join(others[1:]), last]))
    return f"{sum(holds)} of {len(found)}" + (f", not in {named}" if named else "")


def affine_maps(results: Results) -> Verdict:
    """N-affine, as recorded: the maps of layer and instance norm with affine parameters."""
    return _same_maps("N-affine", results, (LAYER, INSTANCE_AFFINE))


def order_maps(results: Results) -> Verdict:
    """S-order, as recorded: the maps of the other two orders."""
    return _same_maps("S-order", results, (CONV_RELU, CONV_NORM))


def no_cost(results: Results) -> Verdict:
    """N-IN, as recorded: no entry of a map is more than :data:`NOTHING` of the base's mean entry, before and after
    training, and the loss stays within :data:`STILL` of ln 10 all the way. The number is the largest such share after
    training."""
    shares = {}
    for when in (BEFORE, AFTER):
        own, base = paired(results, label(INSTANCE, when), label(BASE, when))
        shares[when] = np.nanmax(np.abs(entries(own)), axis=(1, 2)) / sizes(base)
    loss = summary.loss_and_entropy(own, "train")[0]
    moved = np.abs(loss - math.log(10)).max(axis=1)
    accuracy = summary.stack(own, "accuracy")[:, :, 0]
    parts = [*(values <= NOTHING for values in shares.values()), moved <= STILL]
    enough = len(own) >= FEWEST_SEEDS
    outcomes = [(REPRODUCED if part.all() else NOT_REPRODUCED) if enough else sign([], +1) for part in parts]
    direction = combine(outcomes)
    sentence = (
        f"Recorded: the largest entry is {number(float(shares[BEFORE].max()))} of the mean entry under batch norm before "
        f"training and {number(float(shares[AFTER].max()))} after it. The loss stays within "
        f"{number(float(moved.max()))} of ln 10, accuracy on training images ends at {with_interval(accuracy[:, -1])}."
    )
    return verdict("N-IN", own, shares[AFTER], "of batch norm's mean entry", direction, direction, sentence)


RECORDED: dict[str, Callable[[Results], Verdict]] = {"N-affine": affine_maps, "N-IN": no_cost, "S-order": order_maps}
"""The recorded part of each claim."""


def measure(claim_id: str, results: Results) -> Verdict:
    """One verdict on a claim of Appendix H from its two parts: what holds on small networks
    (:func:`nas_core.pages.normalization_figures.findings`), and what recorded maps show.

    Direction combines both, and is not tested where the recorded part is not; magnitude, number and n are those of the
    recorded maps."""
    recorded = RECORDED[claim_id](results)
    (theory,) = (own for own in normalization_figures.verdicts(*normalization_figures.findings())
                 if own.claim_id == claim_id)  # fmt: skip
    return joined(theory, recorded)


def joined(theory: Verdict, recorded: Verdict) -> Verdict:
    """See :func:`measure`."""
    both = [theory.direction, recorded.direction]
    return replace(
        recorded,
        direction=NOT_TESTED if NOT_TESTED in both else combine(both),
        sentence=f"{theory.sentence} {recorded.sentence}",
    )


MEASURES: dict[str, Callable[[Results], Verdict]] = {claim_id: partial(measure, claim_id) for claim_id in RECORDED}
"""The measures of this module, by claim."""
