"""Section 2 on a page: cells side by side, and the relaxations on one and the same edge.

Letters in shapes: n draws, E edges, K operations. All relaxations are given the same cost vector: nothing but the
relaxation differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nas_core.config import SearchConfig
from nas_core.lab.variations import CONTROLS, PHASE, SIZES, UNIVERSAL
from nas_core.pages import style
from nas_core.pages.claims import power
from nas_core.pages.tables import markdown
from nas_core.relaxation import Darts, Dsnas, Proxyless, Relaxation, Snas, Uniform
from nas_core.space import NONE, OPERATIONS, Cell

RELAXATIONS: dict[str, Relaxation] = {
    "DARTS": Darts(),
    "SNAS, λ = 1": Snas(1.0),
    "SNAS, λ = 0.1": Snas(0.1),
    "DSNAS": Dsnas(),
    "ProxylessNAS": Proxyless(),
    "uniform": Uniform(),
}
"""What Section 2.2 and its sequel compare, by the title of a row."""


@dataclass(frozen=True)
class Draws:
    """Independent draws on one edge, in float64: the weights ``z``, whether an operation is evaluated, and the gradient
    with respect to log α that the relaxation makes of the cost; ``[n, K]`` each."""

    z: np.ndarray
    evaluated: np.ndarray
    gradient: np.ndarray


def draw(
    relaxation: Relaxation, log_alpha: Sequence[float], cost: Sequence[float] | np.ndarray, seed: int, number: int
) -> Draws:
    """``number`` draws from ``log_alpha`` [K], each with the gradient that it makes of ``cost`` [K].

    Relaxations that are given the same seed see the same Gumbel noise. *none* contributes 0 without being evaluated.
    """
    # Groups share no noise, so that a group can stand for a draw.
    wide = torch.tensor(log_alpha, dtype=torch.float64).expand(number, 1, -1)
    sample = relaxation.sample(wide, torch.Generator().manual_seed(seed))
    gradient = relaxation.alpha_gradient(wide, sample, torch.tensor(cost, dtype=torch.float64))
    evaluated = sample.active.clone()
    evaluated[..., NONE] = False
    return Draws(*(tensor[:, 0].numpy() for tensor in (sample.z, evaluated, gradient)))


def softmax(log_alpha: Sequence[float]) -> np.ndarray:
    """p_α ``[K]`` in float64."""
    return torch.tensor(log_alpha, dtype=torch.float64).softmax(-1).numpy()


def local_gradient(log_alpha: Sequence[float], cost: Sequence[float]) -> np.ndarray:
    """p_k (C_k − Σ_l p_l C_l) ``[K]``: the gradient of E[C(Z)] for a fixed cost, which is what Eq 4 asks for."""
    p, c = softmax(log_alpha), np.asarray(cost, dtype=float)
    return p * (c - p @ c)


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the n rows of ``values`` ``[n, K]``."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


# ------------------------------------------------------------------------------------------------------------ figures


@style.styled
def comparison(log_alpha: Sequence[float], cost: Sequence[float], seed: int, shown: int = 3) -> Figure:
    """The first draws of every relaxation from one log α [K] and seed, and the gradients that they make of one cost.

    A dot under a bar marks an operation that is evaluated. In the last column every operation has a bar a draw, in the
    order of the draws, and a black dash at p (C − p·C).
    """
    figure = style.new_figure(7.4)
    grid = figure.subplots(len(RELAXATIONS), shown + 1, width_ratios=[1] * shown + [2])
    expected, spoken = local_gradient(log_alpha, cost), []
    for row, (title, relaxation) in zip(grid, RELAXATIONS.items(), strict=True):
        drawn = draw(relaxation, log_alpha, cost, seed, shown)
        for axes, z, evaluated in zip(row, drawn.z, drawn.evaluated, strict=False):
            _weights(axes, z, evaluated)
        _gradients(row[-1], drawn.gradient, expected)
        row[0].set_ylabel(title.replace(", ", "\n"))
        tops = ", ".join(f"{OPERATIONS[z.argmax()]} {z.max():.2f}" for z in drawn.z)
        spoken.append(f"{title}: {tops}; largest gradient {np.abs(drawn.gradient).max():.2f}.")
    for position in range(shown):
        grid[0, position].set_title(f"Z of draw {position + 1}")
    grid[0, -1].set_title("∂/∂ log α of draws " + ", ".join(str(position + 1) for position in range(shown)))
    limit = 1.1 * max(abs(end) for axes in grid[:, -1] for end in axes.dataLim.intervaly)
    for axes in grid[:, -1]:
        axes.set_ylim(-limit, limit)
    patches = [Patch(color=style.OPERATION_COLOURS[name], label=name) for name in OPERATIONS]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False)
    figure.set_label(f"Draws on one edge, seed {seed}; the largest weight of each draw. {' '.join(spoken)}")
    return figure


def _bars(axes: Axes, values: np.ndarray, offset: float = 0.0, width: float = 0.8) -> None:
    colours = [style.OPERATION_COLOURS[name] for name in OPERATIONS]
    axes.bar(np.arange(len(values)) + offset, values, width, color=colours)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _weights(axes: Axes, z: np.ndarray, evaluated: np.ndarray) -> None:
    _bars(axes, z)
    style.zero_line(axes)
    axes.plot(np.flatnonzero(evaluated), np.full(evaluated.sum(), -0.13), "o", color="#222222", markersize=3)
    axes.set_ylim(-0.22, 1.05)
    axes.set_yticks([0, 1])


def _gradients(axes: Axes, gradients: np.ndarray, expected: np.ndarray) -> None:
    width = 0.8 / len(gradients)
    for position, gradient in enumerate(gradients):
        _bars(axes, gradient, (position - (len(gradients) - 1) / 2) * width, 0.85 * width)
    style.zero_line(axes)
    middle = np.arange(len(expected))
    axes.hlines(expected, middle - 0.48, middle + 0.48, color="#000000", linewidth=1.6)


# ------------------------------------------------------------------------------------------------------------- tables


def edge_table(cell: Cell) -> str:
    """Index, ends, class and candidates of every edge."""
    rows = [
        (f"e{index}", f"({edge.source}, {edge.target})", cell.edge_class(index), _candidates(edge.operations))
        for index, edge in enumerate(cell.edges)
    ]
    return markdown(("edge", "(source, target)", "class", "candidates"), rows, text=4)


def _candidates(names: Sequence[str]) -> str:
    return f"all {len(names)}" if tuple(names) == OPERATIONS else ", ".join(names)


def gradient_table(log_alpha: Sequence[float], cost: Sequence[float], seed: int, number: int) -> str:
    """Per relaxation: evaluated operations a draw, how far the mean gradient is from p (C − p·C) where it is farthest,
    with its standard error, and the spread of one draw's gradient; the last two are relative to the norm of
    p (C − p·C)."""
    expected = local_gradient(log_alpha, cost)
    size = np.linalg.norm(expected)
    rows = []
    for title, relaxation in RELAXATIONS.items():
        drawn = draw(relaxation, log_alpha, cost, seed, number)
        mean, error = mean_and_error(drawn.gradient)
        bias = np.abs(mean - expected)
        worst = bias.argmax()
        spread = np.sqrt(drawn.gradient.var(axis=0, ddof=1).sum()) / size
        evaluated = f"{drawn.evaluated.sum(axis=1).mean():.2f}"
        rows.append((title, evaluated, _with_error(bias[worst] / size, error[worst] / size, "."), f"{spread:.2f}"))
    return markdown(("relaxation", "evaluated", "largest bias ± s.e.", "spread of a draw"), rows)


def expectation_table(log_alpha: Sequence[float], seed: int, number: int) -> str:
    """Per operation: p_α, and how far from it the means of DSNAS's Z and of SNAS's Z̃ at λ = 1 lie."""
    p = softmax(log_alpha)
    bands = [
        mean_and_error(draw(relaxation, log_alpha, np.zeros(len(p)), seed, number).z)
        for relaxation in (Dsnas(), Snas(1.0))
    ]
    rows = [
        (name, f"{p[k]:.4f}", *(_with_error(mean[k] - p[k], error[k], "+.") for mean, error in bands))
        for k, name in enumerate(OPERATIONS)
    ]
    return markdown(("operation", "p", "DSNAS: mean Z − p ± s.e.", "SNAS, λ = 1: mean Z̃ − p ± s.e."), rows)


def limit_table(log_alpha: Sequence[float], seed: int, number: int, temperatures: Sequence[float]) -> str:
    """Per λ: how far SNAS's Z̃ is from the one-hot Z of DSNAS under the same noise, and how many draws have another
    likeliest operation."""
    nothing = np.zeros(len(log_alpha))
    hard = draw(Dsnas(), log_alpha, nothing, seed, number).z
    rows = []
    for temperature in temperatures:
        soft = draw(Snas(temperature), log_alpha, nothing, seed, number).z
        apart = np.abs(soft - hard).max(axis=1)
        other = int((soft.argmax(axis=1) != hard.argmax(axis=1)).sum())
        rows.append((_number(temperature, "g"), power(apart.mean()), power(np.median(apart)), f"{other} of {number}"))
    return markdown(("λ", "largest |Z̃ᵏ − Zᵏ| over k, mean", "median", "another likeliest operation"), rows)


def cost_table(cell: Cell, z: torch.Tensor, cost: torch.Tensor) -> str:
    """C ``[E, K]`` of one cell in thousandths; bold where ``z`` ``[E, K]`` drew, a dash where the edge lacks the
    operation."""
    rows = []
    for index, edge in enumerate(cell.edges):
        entries = [_cost_text(float(cost[index, k]), bool(z[index, k])) for k in range(len(OPERATIONS))]
        rows.append((f"e{index}", *(text if k in edge.indices else "–" for k, text in enumerate(entries))))
    return markdown(("10³ C", *(name.replace("_", " ") for name in OPERATIONS)), rows)


def _cost_text(value: float, drawn: bool) -> str:
    text = "0" if value == 0 else _number(1e3 * value, "+.2f")
    return f"**{text}**" if drawn else text


SWEPT = {*PHASE, *SIZES, *UNIVERSAL, *CONTROLS.values()}
"""Recipes of sweeps, which vary one of the others and need no line of their own."""


def switches(recipes: Mapping[str, Callable[[str], SearchConfig]], scale: str) -> str:
    """The three switches of every recipe that trains α: a row a combination, with the recipes that have it."""
    combined: dict[tuple[str, str, str], list[str]] = {}
    for name, recipe in recipes.items():
        config = recipe(scale)
        if name not in SWEPT and getattr(config, "alpha", None) is not None:
            combined.setdefault((config.relaxation.name, config.level, config.alpha_data), []).append(f"`{name}`")
    rows = [(*switch, ", ".join(names)) for switch, names in sorted(combined.items())]
    return markdown(("`relaxation`", "`level`", "`alpha_data`", "recipes"), rows, text=4)


def _number(value: float, form: str) -> str:
    return f"{value:{form}}".replace("-", "−")


def _with_error(value: float, error: float, form: str) -> str:
    """``form`` is ``"."``, or ``"+."`` for a number that shows its sign; what is only rounding counts as exactly 0, and a number
    whose error is 0 as exact."""
    rounding = 1e-12
    if error >= rounding:
        return f"{_number(value, form + '4f')} ± {error:.4f}"
    return f"{'0' if abs(value) < rounding else _number(value, form + '4f')} (exact)"
