"""Why an earlier cell costs less (Appendix C): the cost of an edge taken apart into gradient, features and angle.

An edge's cost is an inner product, C = ⟨∂L/∂X_j, X_j^i⟩ = ‖∂L/∂X_j‖ · ‖X_j^i‖ · cos φ. A vanishing gradient is a
statement about the first factor alone. Letters in shapes: s seeds, N cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from nas_core import theory
from nas_core.pages import assignment, summary
from nas_core.pages.evidence import with_interval
from nas_core.pages.tables import markdown
from nas_core.space import Cell, minimal


@dataclass(frozen=True)
class Anatomy:
    """Logarithms ``[s, N]`` of |C|, ‖∂L/∂X_j‖, ‖X_j^i‖ and \\|cos φ\\|, means over a cell's edges and over draws, so that
    the first is the sum of the others."""

    cost: np.ndarray
    gradient: np.ndarray
    feature: np.ndarray
    cosine: np.ndarray


WORDS = {"cost": "|cost|", "gradient": "‖∂L/∂X‖", "feature": "‖X‖", "cosine": "|cos φ|"}
"""The quantities of an :class:`Anatomy` as a reader sees them."""


def feeding() -> Cell:
    """The minimal cell without *none*: an edge that adds nothing has no angle."""
    return minimal().without("none")


def anatomy(seeds: Sequence[int], cells: int, steps: int, draws: int) -> Anatomy:
    """One float64 stack of ``cells`` minimal cells a seed, on 64 digits, trained ``steps`` steps under uniform sampling;
    then ``draws`` uniformly drawn architectures."""
    rows = []
    for seed in seeds:
        own = assignment.case(seed, cells=cells, steps=steps)
        rows.append(np.mean([_logs(seen) for seen in own.drawn(draws, seed, feeding())], axis=0))
    return Anatomy(*np.stack(rows).transpose(2, 0, 1))


def _logs(seen: theory.Trace) -> np.ndarray:
    """``[N, 4]``: the logarithms of one draw, means over the edges of each cell."""
    return np.array([np.mean(list(_edges(seen, position)), axis=0) for position in range(len(seen.cells))])


def _edges(seen: theory.Trace, position: int) -> Iterator[np.ndarray]:
    cell, own = seen.network.config.cell, seen.cells[position]
    for (edge, operation), output in own.outputs.items():
        gradient = float(own.gradients[cell.edges[edge].target].norm())
        feature, cost = float(output.norm()), abs(float(seen.cost[position, edge, operation]))
        yield np.log([cost, gradient, feature, cost / (gradient * feature)])


def n_words(states: Mapping[str, Anatomy]) -> str:
    """What the figure of :func:`anatomy` is drawn from, with n."""
    seeds, cells = next(iter(states.values())).cost.shape
    return (
        f"Line: geometric mean of {seeds} seeds. Band: 95 % t-interval of the logarithms over seeds. {assignment.IMAGES} images of "
        f"scikit-learn's digits, stacks of {cells} cells in float64, computed while this page is built."
    )


def cases_words(cases: Mapping[int, Sequence]) -> str:
    """What sums of costs in small stacks are drawn from, with n; ``cases`` are the networks by their number of cells."""
    seeds = ", ".join(dict.fromkeys(str(len(own)) for own in cases.values()))
    return (
        f"Mark: mean size of the sum over {seeds} seeds, one architecture each. {assignment.IMAGES} images of scikit-learn's digits, in float64, "
        "computed while this page is built."
    )


def anatomy_table(states: Mapping[str, Anatomy]) -> str:
    """Factors from the second-last cell to the last and, per cell, among those before it: |C| and the three parts whose
    product it is; geometric means over seeds with 95 % intervals."""
    rows = []
    for state, own in states.items():
        for name in (part.name for part in fields(own)):
            logs = getattr(own, name)
            last, earlier = logs[:, -1] - logs[:, -2], np.diff(logs[:, :-1], axis=1).mean(axis=1)
            rows.append((state, WORDS[name], *(with_interval(values, np.exp) for values in (last, earlier))))
    header = ("θ", "quantity", "factor from the second-last cell to the last", "from any earlier cell to the next")
    return markdown(header, rows, text=2)


def words(states: Mapping[str, Anatomy]) -> str:
    """What gradient and angle contribute to the step into the last cell, and where the gradient is largest: two
    sentences a state."""
    sentences = []
    for state, own in states.items():
        cost, gradient, angle = (values[:, -1] - values[:, -2] for values in (own.cost, own.gradient, own.cosine))
        sentences.append(
            f"{state.capitalize()} the cost of a draw changes by a factor of {with_interval(cost, np.exp)} into the last "
            f"cell; the gradient contributes {with_interval(gradient, np.exp)}, the angle {with_interval(angle, np.exp)}. "
            f"Before that, the gradient changes by {_towards_input(np.diff(own.gradient[:, :-1], axis=1).mean(axis=1))}."
        )
    return " ".join(sentences)


def _towards_input(logs: np.ndarray) -> str:
    """What the gradient does on its way back, from the logarithm of its factor between a cell and the next."""
    _, low, high = summary.interval(logs)
    way = (
        "it shrinks towards the input, as a vanishing gradient does"
        if low > 0
        else "it grows towards the input, the opposite of vanishing"
        if high < 0
        else "it neither vanishes nor grows beyond the interval"
    )
    return f"{with_interval(logs, np.exp)} from one cell to the next: {way}"
