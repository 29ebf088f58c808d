"""B6: cells that prefer width and depth, of equal cost, trained alone: is the wiring that the search discards worse?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas_core.pages import summary
from nas_core.pages.claims import Verdict
from nas_core.pages.evidence import Results, grade, paired, sign, verdict, with_interval
from nas_core.pages.tables import markdown

WIDE, DEEP = "wide cell alone", "deep cell alone"
RECIPES = {WIDE: "corrected_alone_wide", DEEP: "corrected_alone_deep"}
"""The recipe behind every label."""

POINT = 0.01
"""A difference in accuracy of at least one percentage point counts as one that matters."""


def accuracy(runs: Sequence) -> np.ndarray:
    """``[s, 2]``: accuracy after training on training images and on images that were never trained on."""
    return summary.stack(runs, "accuracy")[:, -1]


def discarded(results: Results) -> Verdict:
    """B6. Direction: the wide cell, which the search prefers, is the better one on images never trained on; the
    question is open, so a deep cell that is as good or better reads *not reproduced*. Magnitude: by a point or more."""
    wide, deep = paired(results, WIDE, DEEP)
    apart = accuracy(wide)[:, 1] - accuracy(deep)[:, 1]
    direction = sign(apart, +1)
    magnitude = grade(direction, summary.interval(apart)[1] >= POINT, apart.mean() >= POINT)
    sentence = (
        f"Three convolutions side by side reach an accuracy of {with_interval(accuracy(wide)[:, 1])}, three of which "
        f"one follows the other two {with_interval(accuracy(deep)[:, 1])}, on images never trained on; on training images "
        f"{with_interval(accuracy(wide)[:, 0])} and {with_interval(accuracy(deep)[:, 0])}. The number is the paired difference, wide "
        "minus deep."
    )
    return verdict("B6", [*wide, *deep], apart, "of accuracy", direction, magnitude, sentence)


def table(results: Results) -> str:
    """One row a cell: accuracy on both sets after training."""
    rows = [
        [label, str(len(results[label])), *(with_interval(accuracy(results[label])[:, which]) for which in (0, 1))]
        for label in RECIPES
        if results.get(label)
    ]
    return markdown(["cell", "n", "accuracy, training images", "accuracy, other images"], rows, text=1)


MEASURES: dict[str, Callable[[Results], Verdict]] = {"B6": discarded}
"""The measure of this module, by claim."""
