"""Appendix H on a page: the theorems under other normalisations and stacking orders, what an instance norm takes from a
network, and what Theorem 1 does not survive. Tables are Markdown; pass a figure to :func:`nas_core.pages.style.show`.

The identities themselves are in :mod:`nas_core.theory`.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nas_core import theory
from nas_core.cost import probe
from nas_core.data import DataConfig, prepare
from nas_core.operations import ORDERS, Norm, Normalization
from nas_core.pages import style, summary
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, Verdict, number, power
from nas_core.pages.evidence import combine
from nas_core.pages.kept import kept
from nas_core.pages.style import Pen
from nas_core.pages.tables import markdown
from nas_core.relaxation import Darts, Sample, masked
from nas_core.space import OPERATIONS, minimal, simplified
from nas_core.supernet import NetworkConfig, Supernet
from nas_core.theory.normalization import averaged, statistics

EPSILON = 1e-5
"""The ε of the paper's normalisation layers (its footnote 4)."""

KINDS = {
    "batch": Normalization("batch", affine=True, eps=EPSILON),
    "layer": Normalization("layer", affine=True, eps=EPSILON),
    "instance": Normalization("instance", affine=True, eps=EPSILON),
    "group": Normalization("group", affine=True, eps=EPSILON, groups=2),
}
"""The normalisations with affine parameters, by the word of a row."""

ORDER_WORDS = {"relu-conv-norm": "ReLU-Conv-BN", "conv-relu-norm": "Conv-ReLU-BN", "conv-norm-relu": "Conv-BN-ReLU"}

CASES = range(12)
"""Seeds of the random cells on the page; some have no intermediate edge. The tests check more."""

STATEMENTS: dict[str, Callable[[theory.Trace], theory.Residual]] = {
    "Thm 1, up to ε": theory.node_residual,
    "Thm 1, ε included": theory.epsilon_residual,
    "Cor 1.1": theory.cell_residual,
    "Cor 1.2": theory.inner_cell_residual,
    "Thm 2": theory.last_cell_residual,
}
"""What must hold on every network whatever its normalisation and order."""


def _shifted(norm: Norm, generator: torch.Generator) -> None:
    """Random γ and β: at 1 and 0 a formula that forgets them would pass."""
    for own in (norm.weight, norm.bias):
        if own is not None:
            with torch.no_grad():
                own.add_(torch.randn(own.shape, generator=generator).to(own), alpha=0.5)


def _layer(normalization: Normalization, seed: int) -> tuple[Norm, Tensor, Tensor]:
    """A normalisation of 6 channels with random γ and β, an input of 4 images of 5 × 5 pixels whose means are not 0, and
    a cotangent."""
    generator = torch.Generator().manual_seed(seed)
    norm = Norm(6, normalization).double()
    _shifted(norm, generator)
    a, gradient = torch.randn(2, 4, 6, 5, 5, generator=generator, dtype=torch.float64)
    return norm, a + torch.arange(6, dtype=torch.float64).view(-1, 1, 1) / 3, gradient


def layer_residuals(seeds: Sequence[int]) -> dict[str, theory.Residual]:
    """Eq 24, ε included, on each normalisation layer alone: ⟨∂L/∂a, a⟩ against its ε term."""
    return {
        f"{name} norm": theory.worst(theory.homogeneity_residual(*_layer(kind, seed)) for seed in seeds)
        for name, kind in KINDS.items()
    }


def step_residuals(seeds: Sequence[int]) -> dict[str, theory.Residual]:
    """Eqs 23 and 24 in random networks: the normalisation process and the lines of the proof, for every kind."""
    found = {}
    for name in KINDS:
        steps = [theory.norm_steps(_trace(seed, kind=name)) for seed in seeds]
        for words, equation in (("process (Eq 23)", "16"), ("gradient", "17"), ("lines of Eq 24", "19")):
            found[f"{name} norm: {words}"] = theory.worst(own[equation] for own in steps)
    return found


def _trace(seed: int, **choices) -> theory.Trace:
    case = theory.random_case(seed, **choices)
    return theory.trace(case.network, case.images, case.labels, case.sample)


@kept
def network_residuals(seeds: Sequence[int], **choices) -> dict[str, theory.Residual]:
    """:data:`STATEMENTS` on random cells; ``choices`` are those of :func:`nas_core.theory.random_case`."""
    seen = [_trace(seed, **choices) for seed in seeds]
    return {words: theory.worst(check(own) for own in seen) for words, check in STATEMENTS.items()}


def titled(groups: Mapping[str, Mapping[str, theory.Residual]]) -> dict[str, theory.Residual]:
    """Residuals by two words as residuals by one: the rows of a table."""
    return {f"{title}: {words}": own for title, many in groups.items() for words, own in many.items()}


def gamma_outside(normalization: Normalization, seed: int) -> float:
    """Size of the error, relative to ∂L/∂a, of the first line of Eq 24 as it is printed: γ in front of the inner sums.

    With ``s`` the statistics, ∂L/∂a = γ/√(σ²+ε)·(g − mean g − X̂·mean(g X̂)), g = ∂L/∂y and γ per channel. It is right
    where γ is constant over the entries that share a mean."""
    norm, a, gradient = _layer(normalization, seed)
    s, free = statistics(norm, a), a.clone().requires_grad_()
    (exact,) = torch.autograd.grad(norm(free), free, gradient)
    means = averaged(gradient, normalization) + s.hat * averaged(gradient * s.hat, normalization)
    return float((s.gamma * s.inverse * (gradient - means) - exact).norm() / exact.norm())


def gamma_table(seeds: Sequence[int]) -> str:
    """:func:`gamma_outside` of every kind, the largest over seeds."""
    rows = [(f"{name} norm", power(max(gamma_outside(kind, seed) for seed in seeds))) for name, kind in KINDS.items()]
    return markdown(("normalisation", "error of the gradient with γ in front, relative"), rows, text=1)


# Instance normalisation: a network that cannot learn


@dataclass(frozen=True)
class Setting:
    """One series of the learning figure."""

    normalization: Normalization
    order: str = "relu-conv-norm"


SETTINGS = {
    "batch norm": Setting(Normalization("batch")),
    "affine layer norm": Setting(KINDS["layer"]),
    "affine instance norm": Setting(KINDS["instance"]),
    "instance norm": Setting(Normalization("instance")),
    "instance norm, Conv-IN-ReLU": Setting(Normalization("instance"), "conv-norm-relu"),
}
CANDIDATES = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")


IMAGES = 64
"""Digits on which the small networks of this page learn and are drawn."""


@dataclass(frozen=True)
class Lesson:
    """A network trained on one batch: ``loss`` before every step; ``spread``, how much its logits differ between images
    in the end (the largest standard deviation over images); ``floor``, the least loss of logits that are the same for
    all images, which is the entropy of the batch's class frequencies."""

    loss: np.ndarray
    spread: float
    floor: float
    before: theory.Nothing
    after: theory.Nothing


@kept
def lesson(setting: Setting, seed: int, steps: int) -> Lesson:
    """The simplified cell of Fig 8(a) on 64 digits, all candidates mixed equally as in DARTS; SGD with the paper's
    learning rate of 0.025 and momentum of 0.9. Trained in single, examined in double precision."""
    split = prepare(DataConfig("digits", images=IMAGES, held_out=0.0), seed).train
    cell = simplified().only(CANDIDATES)
    config = NetworkConfig(cell, channels=4, normalization=setting.normalization, order=setting.order)
    network = Supernet(config, image_channels=1, seed=seed)
    flat = masked(torch.zeros(1, len(cell.edges), len(OPERATIONS)), cell)
    sample = Darts().sample(flat, torch.Generator())
    exact = (split.images.double(), split.labels, Darts().sample(flat.double(), torch.Generator()))
    before = theory.instance_norm(copy.deepcopy(network).double(), *exact)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9)
    loss = []
    for _ in range(steps):
        optimiser.zero_grad()
        measured = probe(network, split.images, split.labels, sample, train=True)
        loss.append(float(measured.loss))
        optimiser.step()
    share = torch.bincount(split.labels).double() / len(split)
    floor = -float(torch.special.xlogy(share, share).sum())
    network = network.double()
    with torch.no_grad():
        spread = float(network(exact[0], exact[2]).std(0).max())
    return Lesson(np.array(loss), spread, floor, before, theory.instance_norm(network, *exact))


def lessons(seeds: Sequence[int], steps: int) -> dict[str, list[Lesson]]:
    """:data:`SETTINGS` on every seed."""
    return {title: [lesson(setting, seed, steps) for seed in seeds] for title, setting in SETTINGS.items()}


def nothing_table(found: Mapping[str, Sequence[Lesson]]) -> str:
    """Eq 25 before and after training: the largest cost, logit and weight gradient, L − ln n, and whether all of it is
    rounding."""
    rows = []
    for title, own in found.items():
        for when in ("before", "after"):
            states = [getattr(each, when) for each in own]
            largest = [
                max(abs(getattr(s, name)) for s in states) for name in ("cost", "logits", "gradient", "loss_gap")
            ]
            zero = "yes" if all(s.held for s in states) else "no"
            rows.append((f"{title}, {when} training", *map(power, largest), len(states), zero))
    header = ("network", "largest cost", "largest logit", "largest weight gradient", "L − ln 10", "cases", "all zero")
    return markdown(header, rows, text=1)


def learning_table(found: Mapping[str, Sequence[Lesson]]) -> str:
    """What each network learned on its batch, and whether its logits can tell images apart."""
    rows = [
        (
            title,
            number(float(np.mean([each.loss[0] for each in own]))),
            number(float(np.mean([each.loss[-1] for each in own]))),
            number(float(np.mean([each.floor for each in own]))),
            power(max(each.spread for each in own)),
        )
        for title, own in found.items()
    ]
    header = ("network", "first loss", "last loss", "loss of the class frequencies", "spread of logits over images")
    return markdown(header, rows, text=1)


def lessons_words(found: Mapping[str, Sequence[Lesson]]) -> str:
    """What :func:`learning` is drawn from, with n."""
    seeds = ", ".join(dict.fromkeys(str(len(own)) for own in found.values()))
    return (
        f"Line: mean of {seeds} seeds. Band: 95 % t-interval of that mean over seeds. {IMAGES} images of scikit-learn's digits, computed "
        "while this page is built."
    )


@style.styled
def learning(found: Mapping[str, Sequence[Lesson]]) -> Figure:
    """The loss over training steps, one line a normalisation, with ln 10 and the entropy of the class frequencies."""
    figure = style.new_figure(3.6)
    axes = figure.subplots()
    spoken = []
    for (title, own), (colour, line, marker) in zip(found.items(), style.SERIES, strict=False):
        losses = np.stack([each.loss for each in own])
        style.curve(axes, np.arange(losses.shape[1]), losses, Pen(colour, line, marker, label=title))
        spoken.append(f"{title} from {losses[:, 0].mean():.3f} to {losses[:, -1].mean():.3f}")
    floor = float(np.mean([each.floor for own in found.values() for each in own]))
    for y, words in ((math.log(10), "ln 10"), (floor, "frequencies")):
        axes.axhline(y, color="#444444", linewidth=0.9, zorder=0.5)
        axes.annotate(
            words, (1, y), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
            fontsize=style.SMALL, va="center", color="#444444", annotation_clip=False,
        )  # fmt: skip
    style.tidy(axes, x="step", y="loss L (nats)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(
        f"Loss on the training batch over steps, mean of {len(next(iter(found.values())))} seeds: {', '.join(spoken)}."
    )
    return figure


# Orders


def start_table(seeds: Sequence[int]) -> str:
    """L − H at initialisation of the minimal cell on 64 digits, one uniformly sampled architecture a seed, by order."""
    split = prepare(DataConfig("digits", images=IMAGES, held_out=0.0), 0).train
    rows = []
    for order in ORDERS:
        config = NetworkConfig(minimal(), channels=4, order=order)
        found = theory.initial_costs(config, split.images, split.labels, seeds)
        mean, low, high = summary.interval(found.costs)
        bounds = f"[{number(low)}, {number(high)}]"
        rows.append((ORDER_WORDS[order], len(found.costs), number(mean), bounds, f"{100 * found.share_positive:.0f} %"))
    header = ("order", "initialisations", "mean L − H", "95 % interval", "positive")
    return markdown(header, rows, text=1)


# What breaks the theorem


@dataclass
class Breaks:
    """|cost passed on| / |cost carried| by variant and normalisation, one number a seed."""

    ratios: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def median(self, variant: str, kind: str) -> float:
        """Over seeds."""
        return float(np.median(self.ratios[variant][kind]))


def breaks(seeds: Sequence[int]) -> Breaks:
    """:func:`nas_core.theory.breaks` on the minimal cell without *skip_connect*, under DARTS with a random α."""
    found = Breaks()
    for name, kind in KINDS.items():
        for seed in seeds:
            for own in theory.breaks(*_example(kind, seed)):
                found.ratios.setdefault(own.name, {}).setdefault(name, []).append(own.ratio)
    return found


def _example(normalization: Normalization, seed: int) -> tuple[Supernet, Tensor, Tensor, Sample]:
    cell, generator = minimal().without("skip_connect"), torch.Generator().manual_seed(seed)
    network = Supernet(NetworkConfig(cell, channels=4, normalization=normalization), seed=seed).double()
    for module in network.modules():
        if isinstance(module, Norm):
            _shifted(module, generator)
    images = torch.randn(8, 3, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (8,), generator=generator)
    log_alpha = masked(torch.randn(1, len(cell.edges), len(OPERATIONS), generator=generator).double(), cell)
    return network, images, labels, Darts().sample(log_alpha, generator)


SMALL = 1e-3
"""A path that passes on less than this share of what it carries keeps Theorem 1: ε is of order 1e-5."""


def breaks_table(found: Breaks) -> str:
    """The median share that each variant passes on, by normalisation; bold where Theorem 1 is broken."""
    kinds = list(KINDS)
    rows = []
    for variant in found.ratios:
        medians = [found.median(variant, kind) for kind in kinds]
        rows.append((variant, *(f"**{own:.2g}**" if own > SMALL else power(own) for own in medians)))
    return markdown(("operation", *(f"{kind} norm" for kind in kinds)), rows, text=1)


def breaks_words(found: Breaks) -> str:
    """What :func:`breaks_figure` is drawn from, with n."""
    seeds = ", ".join(dict.fromkeys(str(len(own)) for kinds in found.ratios.values() for own in kinds.values()))
    return f"One mark a seed and normalisation, {seeds} seeds. Random images, in float64, computed while this page is built."


@style.styled
def breaks_figure(found: Breaks) -> Figure:
    """The share of its own cost that a path passes on, one dot a seed and normalisation, one row a variant."""
    figure = style.new_figure(0.36 * len(found.ratios) + 1.4)
    axes = figure.subplots()
    for row, (variant, by_kind) in enumerate(found.ratios.items()):
        for (kind, values), (colour, _, marker), shift in zip(
            by_kind.items(), style.SERIES, (-0.24, -0.08, 0.08, 0.24), strict=False
        ):
            y = np.full(len(values), row + shift)
            label = f"{kind} norm" if row == 0 else None
            axes.plot(np.maximum(values, 1e-18), y, marker, color=colour, markersize=4, alpha=0.8, label=label)
    axes.set_xscale("log")
    axes.axvline(SMALL, color="#444444", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.5)
    axes.set_yticks(range(len(found.ratios)), list(found.ratios))
    axes.invert_yaxis()
    style.tidy(axes, x="share of its cost that an intermediate edge passes on")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    broken = [name for name, own in found.ratios.items() if max(map(np.median, own.values())) > SMALL]
    kept = [name for name in found.ratios if name not in broken]
    figure.set_label(
        f"The share of its own cost that an intermediate edge passes on, on a logarithmic axis. Below {SMALL:g}: "
        f"{', '.join(kept)}. Above it for at least one normalisation: {', '.join(broken)}."
    )
    return figure


# Verdicts


class Findings(NamedTuple):
    """What the small networks of Appendix H say: :func:`network_residuals` by kind and by the words of an order, and
    :func:`lessons`."""

    kinds: dict[str, dict[str, theory.Residual]]
    orders: dict[str, dict[str, theory.Residual]]
    lessons: dict[str, list[Lesson]]


@functools.cache
def findings() -> Findings:
    """The theory part of the chapter, at fixed seeds: the same for every page that judges it, computed once a process."""
    return Findings(
        {name: network_residuals(CASES, kind=name) for name in KINDS},
        {words: network_residuals(CASES, order=name) for name, words in ORDER_WORDS.items()},
        lessons(range(3), 40),
    )


def verdicts(
    kinds: Mapping[str, Mapping[str, theory.Residual]],
    orders: Mapping[str, Mapping[str, theory.Residual]],
    found: Mapping[str, Sequence[Lesson]],
) -> list[Verdict]:
    """N-affine, N-IN and S-order from :func:`network_residuals` by kind and by order and from :func:`lessons`.

    N-affine has four parts: the theorems under either normalisation, and whether the logits of a trained network differ
    between images, as those of batch norm do. Magnitude asks for cost maps like Fig 4, which are recorded: see
    :mod:`nas_core.pages.variant_measures`. N-IN says "exactly zero" and has one part."""
    parts = [kinds[name] for name in ("layer", "instance")]
    held = [_outcome(all(own.held for own in part.values())) for part in parts]
    differ = [_outcome(min(o.spread for o in found[f"affine {name} norm"]) > 1e-9) for name in ("layer", "instance")]
    zero = [state for own in found["instance norm"] for state in (own.before, own.after)]
    nothing = _outcome(all(state.held for state in zero))
    ordered = _outcome(all(own.held for part in orders.values() for own in part.values()))
    affine = (
        f"Both theorems and the corollaries, on {_cases(parts)} comparisons: {held[0]} with layer norm, {held[1]} with "
        f"affine instance norm. Logits that tell images apart after training, as those of batch norm do: {differ[0]} "
        f"with layer norm, {differ[1]} with instance norm."
    )
    flat = (
        f"Cost, logits and weight gradients are at rounding level in {sum(state.held for state in zero)} of {len(zero)} small "
        "networks, before and after training."
    )
    every = (
        f"Both theorems and the corollaries in all three orders, on {_cases(orders.values())} comparisons: {ordered}."
    )
    return [
        _verdict("N-affine", combine([*held, *differ]), NOT_TESTED, _cases(parts), affine),
        _verdict("N-IN", nothing, nothing, len(zero), flat),
        _verdict("S-order", ordered, NOT_TESTED, _cases(orders.values()), every),
    ]


def _outcome(holds: bool) -> str:
    return REPRODUCED if holds else NOT_REPRODUCED


def _cases(parts) -> int:
    return sum(own.cases for part in parts for own in part.values())


def _verdict(claim_id: str, direction: str, magnitude: str, n: int, sentence: str) -> Verdict:
    return Verdict(claim_id, direction, magnitude, n, math.nan, math.nan, math.nan, "", sentence, "", "")
