"""The wiring's evolution read from recorded runs: what is alive, dropped and recovered, how wide and deep the cell is, and
P1 and P2 in the runs of one framework.

``runs`` have one configuration and differ in the seed; ``results`` maps labels to such runs, and :data:`RECIPES` names
the recipe behind every label. Letters in shapes: s seeds, R epochs + 1, E edges.

Epoch 0 is left out of drops and recoveries: α starts at random, so *none* is then the likeliest of K operations on one
edge of K by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from nas_core.derive import Shape, likeliest, shape, surviving
from nas_core.pages import summary
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED
from nas_core.pages.evidence import (
    BILEVEL,
    SAMPLED,
    SINGLE,
    SOME,
    CannotTell,
    Results,
    combine,
    grade,
    lowest_of,
    mean_of,
    sign,
)
from nas_core.patterns import FEW, Measures, fates, intermediate
from nas_core.space import Cell

SNAS = "SNAS"
PUBLISHED = "DSNAS, published gradient"
CORRECTED = "DSNAS"
PROXYLESS = "ProxylessNAS"
SNAS_DEEP = "SNAS, four nodes"
DSNAS_DEEP = "DSNAS, four nodes"
PROXYLESS_DEEP = "ProxylessNAS, four nodes"
SINGLE_DEEP = "single-level, four nodes"
BILEVEL_DEEP = "bi-level, four nodes"
DEEP = (SNAS_DEEP, DSNAS_DEEP, PROXYLESS_DEEP, SINGLE_DEEP, BILEVEL_DEEP)
"""Searches on the paper's own cell."""
NO_DECAY = "DSNAS, no weight decay on α"
BASELINE = "DSNAS, with a baseline"
ONLY_GRADIENT = "DSNAS, the scripts' gradient alone"
RANDOM = "random reward"

FRAMEWORKS = (
    SNAS, PUBLISHED, CORRECTED, PROXYLESS, SINGLE, SNAS_DEEP, DSNAS_DEEP, PROXYLESS_DEEP, SINGLE_DEEP, SAMPLED
)  # fmt: skip
"""Single-level searches, of which P1 and P2 speak; the last label is for runs of a method that are judged alone."""

BOTH_LEVELS = (*FRAMEWORKS, BILEVEL, BILEVEL_DEEP)
"""These and the bi-level searches, of which P3 speaks."""

VARIANTS = (PUBLISHED, ONLY_GRADIENT, CORRECTED, NO_DECAY, BASELINE, RANDOM)
"""DSNAS with other gradients, and its control."""

RECIPES = {
    SNAS: "reference_snas",
    PUBLISHED: "reference_dsnas",
    CORRECTED: "corrected_dsnas",
    PROXYLESS: "corrected_proxylessnas",
    SNAS_DEEP: "reference_snas_deep",
    DSNAS_DEEP: "reference_dsnas_deep",
    PROXYLESS_DEEP: "corrected_proxylessnas_deep",
    SINGLE_DEEP: "corrected_darts_single_deep",
    BILEVEL_DEEP: "reference_darts_bilevel_deep",
    NO_DECAY: "corrected_dsnas_no_decay",
    BASELINE: "corrected_dsnas_baseline",
    ONLY_GRADIENT: "corrected_dsnas_reference_gradient",
    RANDOM: "corrected_random_reward",
}
"""The recipe behind every label that only these claims need; those of DARTS are in the verdicts' own list."""


P3_OF = {SNAS: "snas", CORRECTED: "dsnas", PROXYLESS: "proxylessnas", BILEVEL: "darts"}
"""The relaxation of :mod:`nas_core.pages.crossed` whose bi-level runs answer for P3 in a framework."""


def recipes(*labels: str) -> dict[str, str]:
    """The recipes behind these labels."""
    return {label: RECIPES[label] for label in labels}


def present(results: Results, labels: Iterable[str] = FRAMEWORKS) -> dict[str, list]:
    """The runs of those of ``labels`` that are there."""
    found = {label: list(results[label]) for label in labels if results.get(label)}
    if not found:
        raise CannotTell(f"This needs runs of {' or '.join(labels)}, and none is given.")
    return found


# -- readings ------------------------------------------------------------------------------------------------------------


def alive(runs: Sequence) -> np.ndarray:
    """``[s, R, E]`` of 0/1: the edge's likeliest operation is not *none* (first α group)."""
    return surviving(summary.stack(runs, "probability")[:, :, 0]).astype(float)


def shapes(run) -> list[Shape]:
    """Width and depth of the likeliest wiring after every epoch."""
    cell = summary.cell_of(run)
    return [shape(likeliest(probability), cell) for probability in run.arrays["probability"][:, 0]]


def when_lowest(runs: Sequence) -> np.ndarray:
    """``[s]``: the first epoch, from 1 on, at which each run keeps the fewest edges."""
    return alive(runs)[:, 1:].sum(axis=-1).argmin(axis=1) + 1.0


def at_the_minimum(runs: Sequence) -> np.ndarray:
    """``[s]``: the share of edges alive where the other runs' mean is lowest, from epoch 1 on: at epoch 0 the random start decides
    which operation is likeliest."""
    return lowest_of(alive(runs)[:, 1:].mean(axis=-1))


def by_class(cell: Cell, values_sE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[s, E] -> [s]`` twice: the means over intermediate and over input edges, without NaN."""
    middle = intermediate(cell)
    if middle.all() or not middle.any():
        raise CannotTell(f"The {cell.name} cell has edges of one class only, so there is nothing to compare.")
    inner, outer = (np.array([mean_of(row) for row in values_sE[:, part]]) for part in (middle, ~middle))
    return inner, outer


def recovered(runs: Sequence) -> np.ndarray:
    """``[s, E]``: 1 where an edge was dropped and came back for good, 0 where it was dropped and did not, NaN where it
    never was."""
    rows = [[np.nan if own.dropped is None else float(own.recovered is not None) for own in fates(run)] for run in runs]
    return np.array(rows)


def charged(runs: Sequence) -> np.ndarray:
    """``[s, R - 1, E]``: the cost per edge that α was charged in each epoch, over all cells that share it."""
    cells = summary.stack(runs, "step_cost_mean").shape[2]
    return cast(np.ndarray, sum(summary.edge_cost(runs, "search", cell)[1] for cell in range(cells)))


def crossing(cost: np.ndarray) -> float:
    """The epoch at which a cost turns negative; NaN: it never does.

    It is where a split into positive before and negative after misplaces the fewest epochs: neither the first nor the
    last change of sign, which noise would decide, and it knows nothing of when the edge came back."""
    before = np.concatenate([[0], np.cumsum(cost > 0)])
    after = np.concatenate([np.cumsum((cost < 0)[::-1])[::-1], [0]])
    split = int(np.argmax(before + after))
    return float(split) if split < len(cost) else float("nan")


def rule_wirings(runs: Sequence, rule: Callable) -> np.ndarray:
    """``[s, E]``: what a derivation rule makes of the last α of every run."""
    return np.array([rule(run.arrays["probability"][-1, 0], summary.cell_of(run)) for run in runs])


# -- P1 and P2 of one framework ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pattern:
    """One pattern in the runs of one framework: values ``[s]`` behind its number, and its outcomes."""

    values: np.ndarray
    direction: str
    magnitude: str
    parts: tuple[str, ...]


def growth_of(runs: Sequence) -> Pattern:
    """P1 in two parts, each judged alone: edges are dropped first; then some recover. The values are the rise from the
    minimum as a share of all edges, the magnitude says whether (nearly) all were dropped."""
    share = alive(runs).mean(axis=-1)
    lowest = at_the_minimum(runs)
    rise = share[:, -1] - lowest
    dropped = sign(share[:, 0] - lowest, +1)
    # What was never dropped cannot recover.
    back = sign(rise, +1) if dropped != NOT_REPRODUCED else NOT_REPRODUCED
    direction = combine([dropped, back])
    all_first = grade(dropped, lowest.mean() <= FEW, lowest.mean() <= SOME)
    return Pattern(rise, direction, grade(direction, all_first == REPRODUCED, all_first == PARTLY), (all_first, back))


def width_of(runs: Sequence) -> Pattern:
    """P2: the share of input edges alive at the end minus that of intermediate edges. Magnitude: how few of the latter
    are.

    Counts that are equal in all runs have an interval of no width, whatever made them so. The direction therefore also
    needs so few intermediate edges to be unlikely by chance (:attr:`nas_core.patterns.Measures.p_width`)."""
    cell = summary.cell_of(runs[0])
    inner, outer = by_class(cell, alive(runs)[:, -1])
    direction = sign(outer - inner, +1)
    if direction == REPRODUCED and not Measures(cell, runs).wide:
        direction = NOT_REPRODUCED
    return Pattern(outer - inner, direction, grade(direction, inner.mean() <= FEW, inner.mean() <= SOME), (direction,))


def failure_of(runs: Sequence, control: Sequence) -> Pattern:
    """P3: a smaller share of edges is alive at the end of bi-level runs than of their single-level ``control``, run by run.
    Magnitude: how few are."""
    left, other = (alive(own)[:, -1].mean(axis=-1) for own in (runs, control))
    direction = sign(left - other, -1)
    return Pattern(left - other, direction, grade(direction, left.mean() <= FEW, left.mean() <= SOME), (direction,))


def overall(outcomes: Sequence[str]) -> str:
    """One outcome over several frameworks or settings: all alike, or the mean of those tested, where *partly* is half.

    From one half on it is *partly*; one that could not be tested keeps the whole from being fully reproduced."""
    if len(set(outcomes)) == 1:
        return outcomes[0]
    worth = {REPRODUCED: 1.0, PARTLY: 0.5, NOT_REPRODUCED: 0.0}
    tested = [worth[outcome] for outcome in outcomes if outcome != NOT_TESTED]
    return PARTLY if np.mean(tested) >= 0.5 else NOT_REPRODUCED
