"""From α to a discrete cell, and how grown, wide and deep it is (Sections 2.3 and 3; Shu et al., 2020).

A *wiring* is a tuple with one entry an edge: the position of its operation in :data:`nas_core.space.OPERATIONS`, or
*none* (0) where the edge is gone. All functions take one α group: ``probability`` ``[E, K]``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nas_core.space import NONE, OPERATIONS, Cell

Wiring = tuple[int, ...]

TIE = 1e-6
"""Probabilities whose ratio is closer to 1 than this are equal: a softmax rounds."""


def likeliest(probability_EK: np.ndarray) -> Wiring:
    """The paper's rule: on every edge the likeliest operation, *none* among them; an edge of *none* is dropped.

    A tie with *none* goes to the other operation, as in :func:`surviving`.
    """
    probability = np.array(probability_EK, dtype=float)
    probability[:, NONE] *= 1 - TIE
    return tuple(int(k) for k in probability.argmax(axis=-1))


def darts_rule(probability_EK: np.ndarray, cell: Cell, keep: int = 2) -> Wiring:
    """The rule of DARTS:

    *none* may not be chosen, and every node keeps its ``keep`` edges of the largest remaining probability.
    """
    probability = np.array(probability_EK, dtype=float)
    probability[:, NONE] = -1.0
    best, strength = probability.argmax(-1), probability.max(-1)
    wiring = [NONE] * len(cell.edges)
    for node in cell.intermediate:
        for edge in sorted(cell.incoming(node), key=lambda index: -strength[index])[:keep]:
            # An edge that has no candidate but *none* cannot be kept.
            wiring[edge] = int(best[edge]) if strength[edge] >= 0 and cell.edges[edge].operations != ("none",) else NONE
    return tuple(wiring)


def _best(probability_EK: np.ndarray, kept_E: np.ndarray) -> Wiring:
    """The likeliest operation other than *none* where an edge is kept and has one, else *none*."""
    others = np.array(probability_EK, dtype=float)
    others[:, NONE] = 0.0
    return tuple(
        int(row.argmax()) if keep and row.max() > 0 else NONE for row, keep in zip(others, kept_E, strict=True)
    )


def mass(probability_EK: np.ndarray) -> np.ndarray:
    """``[E]``: how much of an edge is there, 1 − P(*none*)."""
    return 1 - np.asarray(probability_EK, dtype=float)[:, NONE]


def threshold_rule(probability_EK: np.ndarray, level: float = 0.5) -> Wiring:
    """An edge is kept if P(*none*) is at most 1 − ``level``, whichever operation is likeliest."""
    if not 0 < level < 1:
        raise ValueError(f"the threshold is {level!r}; give a share between 0 and 1")
    return _best(probability_EK, mass(probability_EK) >= level)


def node_softmax_rule(probability_EK: np.ndarray, cell: Cell) -> Wiring:
    """One softmax a node: the edges into it share its operations, and those with an even share or more are kept.

    With log P as logits the joint softmax over all operations but *none* of a node's edges gives each edge the share
    (1 − P(*none*)) / Σ (1 − P(*none*)). It compares edges with each other only: no node loses them all.
    """
    kept, masses = np.zeros(len(cell.edges), dtype=bool), mass(probability_EK)
    for node in cell.intermediate:
        edges = list(cell.incoming(node))
        kept[edges] = masses[edges] >= masses[edges].mean() * (1 - TIE)
    return _best(probability_EK, kept)


def project(masses_E: np.ndarray, budget: float) -> np.ndarray:
    """The point of {0 ≤ x ≤ 1, Σ x = ``budget``} closest to ``masses_E``: all are shifted alike, then clipped.

    Raises ValueError for a budget that this set cannot hold."""
    masses = np.asarray(masses_E, dtype=float)
    if not 0 <= budget <= masses.size:
        raise ValueError(f"the budget is {budget!r}; give a number from 0 to the {masses.size} edges")
    # Σ clip(masses − shift) falls piecewise linearly in the shift: interpolate between its kinks.
    kinks = np.sort(np.concatenate([masses, masses - 1]))[::-1]
    totals = np.array([np.clip(masses - shift, 0, 1).sum() for shift in kinks])
    return np.clip(masses - np.interp(budget, totals, kinks), 0, 1)


def budget_rule(probability_EK: np.ndarray, cell: Cell, keep: int = 2) -> Wiring:
    """The masses of the whole cell projected onto a budget, as many edges as the rule of DARTS keeps: an edge stays that
    is left at least half of itself. Masses that are nearly equal are shifted alike, and so all stay or all go."""
    budget = sum(min(keep, len(cell.incoming(node))) for node in cell.intermediate)
    return _best(probability_EK, project(mass(probability_EK), budget) >= 0.5 * (1 - TIE))


RULES: dict[str, Callable[[np.ndarray, Cell], Wiring]] = {
    "likeliest": lambda probability, cell: likeliest(probability),
    "top 2 a node": darts_rule,
    "softmax a node": node_softmax_rule,
    "threshold": lambda probability, cell: threshold_rule(probability),
    "budget": budget_rule,
}
"""Derivation rules by name: ``[E, K]`` and the cell → a wiring. The first is the paper's."""


def genotype(wiring: Wiring, cell: Cell) -> tuple[tuple[int, int, str], ...]:
    """The edges that are left, as ``(source, target, operation)``."""
    return tuple(
        (edge.source, edge.target, OPERATIONS[operation])
        for edge, operation in zip(cell.edges, wiring)
        if operation != NONE
    )


def surviving(probability_EK: np.ndarray) -> np.ndarray:
    """Whether an edge is kept: *none* is not likelier than every other operation. Leading axes are kept: ``[..., E]``
    of bool.

    A tie, as at uniform α, keeps the edge: nothing has been dropped yet.
    """
    probability = np.asarray(probability_EK)
    return np.delete(probability, NONE, axis=-1).max(axis=-1) >= probability[..., NONE] * (1 - TIE)


@dataclass(frozen=True)
class Shape:
    """Width and depth of a cell. ``depth``: operations on the longest path from an input node to an intermediate node
    in the output. ``width``: how many output nodes hang on input nodes, each counted by the share of its edges that do
    so (Shu et al., 2020)."""

    width: float
    depth: int


def shape(wiring: Wiring, cell: Cell) -> Shape:
    """Width and depth of a wiring; both are 0 when nothing is left."""
    depth: dict[int, int] = {node: 0 for node in range(cell.inputs)}
    width = 0.0
    for node in cell.intermediate:
        sources = [cell.edges[index].source for index in cell.incoming(node) if wiring[index] != NONE]
        # A source without a path from an input carries zeros: it adds neither depth nor width.
        live = [source for source in sources if source in depth]
        if live:
            depth[node] = 1 + max(depth[source] for source in live)
            if node in cell.outputs:
                width += sum(source < cell.inputs for source in live) / len(live)
    deepest = max((depth[node] for node in cell.outputs if node in depth), default=0)
    return Shape(width, deepest)


@functools.lru_cache(maxsize=256)
def chance_shape(kept: int, cell: Cell) -> tuple[float, float]:
    """Mean width and mean depth over all ways to keep ``kept`` edges of a cell: what no preference would give."""
    if not 0 <= kept <= len(cell.edges):
        raise ValueError(f"{kept} edges cannot be kept; the {cell.name} cell has {len(cell.edges)}")
    shapes = []
    for chosen in itertools.combinations(range(len(cell.edges)), kept):
        shapes.append(shape(tuple(int(edge in chosen) for edge in range(len(cell.edges))), cell))
    return float(np.mean([own.width for own in shapes])), float(np.mean([own.depth for own in shapes]))


@dataclass(frozen=True)
class Growth:
    """When an edge's likeliest operation first was *none*, and when it last came back for good (epochs;

    None: never).
    """

    dropped: int | None
    recovered: int | None


def growth(probability_REK: np.ndarray) -> tuple[Growth, ...]:
    """Drop and recovery of every edge over R records; an edge that is dropped at the last record has not recovered."""
    alive = surviving(probability_REK)
    history = []
    for edge in range(alive.shape[1]):
        gone = np.flatnonzero(~alive[:, edge])
        if not len(gone):
            history.append(Growth(None, None))
        else:
            back = int(gone[-1]) + 1
            history.append(Growth(int(gone[0]), back if back < len(alive) else None))
    return tuple(history)
