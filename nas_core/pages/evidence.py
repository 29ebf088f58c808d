"""The one statistical test behind every verdict, and its words.

A quantity is measured once a seed (a difference between two experiments: paired by seed) and has the claimed sign if
the 95 % t-interval of its mean over seeds lies on that side of zero. An interval that includes zero is *not
reproduced*, never *partly*: otherwise pure noise would be "partly" right half of the time. *Partly* means that some of
a claim's several statements hold. Fewer than five seeds test nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas_core.pages import summary
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, Verdict, number

BILEVEL = "bi-level"
SINGLE = "single-level"
FIXED = "fixed-alpha"
SINGLE_HELD_OUT = "single-level, held-out images"
BILEVEL_SAME = "bi-level, θ's own batch"
SAMPLED = "SNAS or DSNAS, single-level"
NOISE = {"digits, no noise": 0.0, "digits, 20 % noise": 0.2, "digits, 40 % noise": 0.4}
"""Bi-level runs by the share of labels that are replaced."""

SOME = 0.5
"""Above this share of surviving edges, "dropped" is the wrong word even in part."""
STRONG = 0.8
"""Correlation that counts as strong: about two thirds of the variance (0.64) are shared."""
MODERATE = 0.5
"""Correlation that counts as moderate: a quarter of the variance is shared."""
TIGHT = 0.1
"""Residual, relative to the range of the curve, below which two curves are called one; skip connections, which Theorem
1 excepts, add to it."""
TENFOLD = 10.0
"""The paper's "at least one-degree-larger magnitude"."""
FEWEST_SEEDS = 5
"""Edges are counted in whole numbers, and a few equal counts have an interval of no width: of three runs that differ by
±1 at random, a quarter agree. Of five it is one in sixteen."""

Results = Mapping[str, Sequence]
Values = Sequence[float] | np.ndarray
"""A quantity ``[s]``, once a seed."""


class CannotTell(Exception):
    """These runs do not carry what the measure needs; the message is a sentence for the reader."""


def need(results: Results, *labels: str) -> list:
    """The runs of the first of ``labels`` that is there."""
    for label in labels:
        if results.get(label):
            return list(results[label])
    raise CannotTell(f"This needs runs of {' or '.join(labels)}, and none is among the runs here.")


def paired(results: Results, *labels: str) -> list[list]:
    """Runs of several experiments with the seeds that all of them have, in the same order."""
    by_seed = [{run.meta["seed"]: run for run in need(results, label)} for label in labels]
    common = sorted(set.intersection(*(set(runs) for runs in by_seed)))
    if not common:
        raise CannotTell(f"The runs of {' and '.join(labels)} have no seed in common.")
    return [[runs[seed] for seed in common] for runs in by_seed]


def sign(values: Values, expected: int) -> str:
    """The outcome of the test described at the top of this module."""
    if np.isfinite(values).sum() < FEWEST_SEEDS:
        return NOT_TESTED
    _, low, high = summary.interval(values)
    return REPRODUCED if (low > 0 if expected > 0 else high < 0) else NOT_REPRODUCED


def combine(outcomes: list[str]) -> str:
    """All parts hold, at least half of them do (*partly*), or fewer: one of many holds by chance too often to count.

    A part that could not be tested keeps the whole from being fully reproduced.
    """
    if len(set(outcomes)) == 1:
        return outcomes[0]
    return PARTLY if 2 * outcomes.count(REPRODUCED) >= len(outcomes) else NOT_REPRODUCED


def grade(direction: str, full: bool, half: bool) -> str:
    """Magnitude from two thresholds; an effect that was not tested, or is not there, has none."""
    if direction in (NOT_TESTED, NOT_REPRODUCED):
        return direction
    return REPRODUCED if full else PARTLY if half else NOT_REPRODUCED


def verdict(
    claim_id: str, runs: Sequence, values: Values, unit: str, direction: str, magnitude: str, sentence: str,
    back: Callable = float,
) -> Verdict:  # fmt: skip
    """The verdict whose number is the mean of ``values``, one a seed, taken ``back`` from the scale of the test."""
    finite = [float(value) for value in values if np.isfinite(value)]
    if not finite:
        raise CannotTell(
            "These runs do not carry the values that this needs (no held-out images, or none classified wrongly)."
        )
    mean, low, high = (float(back(bound)) for bound in summary.interval(finite))
    if len(finite) < FEWEST_SEEDS:
        few = "One seed, no interval" if len(finite) == 1 else f"{len(finite)} seeds are too few"
        sentence += f" {few}: this shows a run and tests nothing."
    return Verdict(claim_id, direction, magnitude, len(finite), mean, low, high, unit, sentence, *where(runs))


def where(runs: Sequence) -> tuple[str, str]:
    """Scale and dataset of the runs, in words."""
    scales = dict.fromkeys(run.meta.get("scale") or "own settings" for run in runs)
    return ", ".join(scales), ", ".join(dict.fromkeys(run.meta["dataset"]["name"] for run in runs))


def mean_of(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def lowest_of(curves: np.ndarray) -> np.ndarray:
    """``[s, X] -> [s]``: each run's value where the mean of the *other* runs is lowest.

    A run's own minimum lies below its end even if the curve is flat noise, and the test would then always find a rise.
    This way it finds one in about one of twenty flat curves with five seeds.
    """
    if len(curves) == 1:
        return np.nanmin(curves, axis=1)
    others = [np.delete(curves, run, axis=0).mean(axis=0) for run in range(len(curves))]
    return np.array([own[np.nanargmin(other)] for own, other in zip(curves, others, strict=True)])


ANY, SHARE = (-math.inf, math.inf), (0.0, 1.0)
"""What a number can be."""


def with_interval(values: Values, back: Callable = float, within: tuple[float, float] = ANY) -> str:
    """Mean and interval in words, for a sentence or a table; ``back`` takes them from the scale of the test to that of
    the reader. What lies outside ``within``, what the number can be, is cut: a t-interval knows nothing of that."""
    mean, low, high = (float(np.clip(back(bound), *within)) for bound in summary.interval(values))
    bounds = f" [{number(low)}, {number(high)}]" if np.isfinite(low) else ""
    return number(mean) + bounds if np.isfinite(mean) else "an unknown value"


def percent(share: float) -> str:
    """A share in whole percent; below one percent in two significant digits, so that something small is not nothing."""
    return f"{100 * share:.2g} %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def fisher_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation on Fisher's scale (arctanh), where an interval cannot leave [-1, 1]; NaN if a curve is
    constant."""
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return float("nan")
    return float(np.arctanh(np.clip(np.corrcoef(first[known], second[known])[0, 1], -0.9999, 0.9999)))
