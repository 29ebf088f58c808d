"""Section 4 and Appendix B on a page: their identities on random networks and enumerated cells as tables, and the
verdicts on the α gradients.

The identities themselves are in :mod:`nas_core.theory`, the cells whose architectures are enumerated in
:mod:`nas_core.pages.enumeration`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas_core import theory
from nas_core.cost import exact_cost
from nas_core.pages import summary
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, Verdict, number, power
from nas_core.pages.enumeration import Landscape, Prices, ScoreCheck, Small, asymmetry
from nas_core.pages.evidence import FEWEST_SEEDS, SOME, TIGHT, grade
from nas_core.pages.tables import markdown
from nas_core.relaxation import Darts, Dsnas, Proxyless, Relaxation, Snas, probability
from nas_core.space import OPERATIONS

FRAMEWORKS: dict[str, Relaxation] = {
    "DARTS": Darts(),
    "SNAS, λ = 1": Snas(1.0),
    "SNAS, λ = 0.1": Snas(0.1),
    "DSNAS": Dsnas(),
    "DSNAS, published scripts": Dsnas("reference"),
    "ProxylessNAS": Proxyless(),
}
"""Whose gradient is checked, by the title of a row."""

EXPECTATIONS = {
    "dsnas": "DSNAS",
    "dsnas_reference": "DSNAS, published scripts",
    "proxylessnas": "ProxylessNAS",
    "darts": "DARTS",
}
"""Keys of :func:`nas_core.theory.expected_gradients` by the title of a row; "exact" is what they are compared with."""


def price_residual(own: Prices) -> theory.Residual:
    """C = D + KL for operations that act on the logits directly.

    C is an inner product of a few hundred terms an image, D a difference of two losses and the divergence a sum over
    classes: together fewer than 1000 roundings of numbers of the size of the loss, or of the terms if they are larger.
    """
    there = own.directly
    gap = np.abs(own.cost - own.difference - own.divergence)[there]
    scale = (np.abs(own.cost) + np.abs(own.difference) + own.divergence)[there]
    bound = 1000 * theory.UNIT * max(1.0, float(scale.max()))
    return theory.Residual(float(gap.max()), bound, float(scale.max()), int(there.sum()))


def price_table(groups: Mapping[str, Sequence[Prices]]) -> str:
    """Per state of θ and kind of edge: how often sign and size of the cost mislead about the difference."""
    rows = []
    for title, many in groups.items():
        for words, directly in (("output edge alone", True), ("a path behind it too", False)):
            cost, difference = (
                np.concatenate([getattr(own, name)[own.directly == directly] for own in many])
                for name in ("cost", "difference")
            )
            helps, harms = difference < 0, difference > 0
            rows.append((
                title, words, len(cost), f"{cost.mean():+.4f}".replace("-", "−"),
                f"{difference.mean():+.4f}".replace("-", "−"),
                _share(cost > 0, helps), _share(cost < 0, harms),
            ))  # fmt: skip
    header = ("θ", "its node has", "operations", "mean C", "mean D", "of those that help, C > 0",
              "of those that harm, C < 0")  # fmt: skip
    return markdown(header, rows, text=2)


def _share(hits: np.ndarray, among: np.ndarray) -> str:
    return f"{100 * (hits & among).sum() / among.sum():.0f} % of {among.sum()}" if among.any() else "–"


def errors(case: Small) -> dict[str, theory.GradientError]:
    """Every framework's expected gradient against ∇E[L], and ProxylessNAS against Eq 4 and against DARTS, whose
    derivative it approximates."""
    own = theory.expected_gradients(case.network, case.images, case.labels, case.log_alpha)
    found = {title: theory.gradient_error(own[key], own["exact"]) for key, title in EXPECTATIONS.items()}
    found["ProxylessNAS against Eq 4"] = theory.gradient_error(own["proxylessnas"], own["dsnas"])
    found["ProxylessNAS against DARTS"] = theory.gradient_error(own["proxylessnas"], own["darts"])
    return found


def eq4_residual(case: Small) -> theory.Residual:
    """Eq 4 with the conditional costs of Eq 5, p_k (C_k − Σ_l p_l C_l), against the enumerated mean of DSNAS's gradient.

    Both are sums of A·K products, so the rounding of each is at most (A + K) units of the sum of their sizes."""
    own, p = exact_cost(case.network, case.images, case.labels, case.log_alpha), probability(case.log_alpha)
    left = p * (own.conditional - (p * own.conditional).sum(-1, keepdim=True))
    scale = float((p * own.conditional.abs()).sum(-1).max())
    bound = 4 * (case.cell.architectures() + len(OPERATIONS)) * theory.UNIT * scale
    return theory.Residual(float((left - own.score_gradient).abs().max()), bound, scale)


def geometric(values: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean over seeds with the 95 % t-interval of the logarithms."""
    mean, low, high = (float(np.exp(bound)) for bound in summary.interval(np.log(values)))
    return mean, low, high


def _interval(bounds: tuple[float, float, float]) -> str:
    mean, low, high = bounds
    return number(mean) if math.isnan(low) else f"{number(mean)} [{number(low)}, {number(high)}]"


def error_table(groups: Mapping[str, Sequence[Mapping[str, theory.GradientError]]], titles: Sequence[str]) -> str:
    """Per state of θ and gradient: relative error and cosine, means over seeds with 95 % intervals."""
    rows = []
    for state, many in groups.items():
        for title in titles:
            relative = _interval(geometric([own[title].relative for own in many]))
            # On Fisher's scale an interval cannot leave [−1, 1].
            angles = np.arctanh(np.clip([own[title].cosine for own in many], -0.9999, 0.9999))
            cosine = _interval(tuple(np.tanh(summary.interval(angles))))
            rows.append((state, title, len(many), relative, cosine))
    return markdown(("θ", "expected gradient", "n", "relative error", "cosine"), rows, text=2)


FIELDS: dict[str, Relaxation | None] = {
    "∇E[L]": None,
    "DSNAS": Dsnas(),
    "DSNAS, published scripts": Dsnas("reference"),
    "ProxylessNAS": Proxyless(),
}
"""Expected gradients that can be enumerated as functions of log α."""


def field_table(groups: Mapping[str, Sequence[tuple[Small, Landscape]]]) -> str:
    """Per state of θ: the :func:`asymmetry` of every expected gradient, geometric mean over seeds with its 95 % interval."""
    rows = []
    for state, many in groups.items():
        for title, relaxation in FIELDS.items():
            values = [asymmetry(table, case.log_alpha, relaxation) for case, table in many]
            words = "0" if max(values) < 1e-10 else _interval(geometric(values))
            rows.append((state, title, len(many), words))
    return markdown(("θ", "expected gradient", "n", "antisymmetric share of the Jacobian"), rows, text=2)


def proxyless_table(groups: Mapping[str, Sequence[Small]]) -> str:
    """Per setting: how far the means of ProxylessNAS and of DSNAS are from where they should be, geometric means over
    seeds with 95 % intervals."""
    rows = []
    for title, many in groups.items():
        found = [errors(case) for case in many]
        columns = ("ProxylessNAS against DARTS", "ProxylessNAS against Eq 4", "ProxylessNAS", "DSNAS")
        rows.append(
            (title, len(many), *(_interval(geometric([own[name].relative for own in found])) for name in columns))
        )
    header = (
        "candidates, ε",
        "n",
        "ProxylessNAS against DARTS",
        "against Eq 4",
        "against ∇E[L]",
        "DSNAS against ∇E[L]",
    )
    return markdown(header, rows, text=1)


def score_table(checks: Mapping[str, ScoreCheck]) -> str:
    """The three expressions, the Hessian term, and what is left when it is added."""
    rows = []
    for title, own in checks.items():
        left = own.score_of_cost - own.gradient - own.hessian
        values = (own.gradient, own.score_of_loss, own.score_of_cost, own.hessian)
        rows.append((title, *(f"{1e3 * value:+.4f}".replace("-", "−") for value in values), power(abs(left))))
    header = ("in thousandths", "gradient of SNAS", "E[∇log p · L]", "E[∇log p · C·Z̃], as printed", "Hessian term",
              "rest (not in thousandths)")  # fmt: skip
    return markdown(header, rows, text=1)


def pull_table(drawn: Sequence[float], others: float, edges: int) -> str:
    """What an operation of probability p gains from its own draws for a cost of −1, when the other edges' draws have the
    mean probability ``others``: the factor, and the expected push under both gradients."""
    rows = []
    for p in drawn:
        mean = (p + (edges - 1) * others) / edges
        own = theory.rare_operation_pull(p, mean)
        rows.append((f"{p:g}", f"{p / mean:.3g}", f"{own.corrected:.2g}", f"{own.reference:.2g}"))
    return markdown(("p", "factor p/mean(p)", "expected push, Σ log p", "expected push, log Σ p"), rows, text=0)


def mean_table(case: Small, draws: Sequence[int], seed: int) -> str:
    """Sampled means of DSNAS's gradient against the enumerated one: the worst entry in standard errors."""
    rows = []
    for number_of in draws:
        own = theory.dsnas_mean(case.network, case.images, case.labels, case.log_alpha, draws=number_of, seed=seed)
        apart = float((own.mean - own.exact).norm() / own.exact.norm())
        rows.append((f"{number_of:,}".replace(",", " "), number(apart), f"{own.worst:.1f}"))
    return markdown(("draws", "relative error of the mean", "worst entry, in standard errors"), rows, text=0)


def gradient_residuals(seeds: Sequence[int]) -> dict[str, theory.Residual]:
    """The α gradient of every framework against autograd, on one random network a seed."""
    found: dict[str, list[theory.Residual]] = {title: [] for title in FRAMEWORKS}
    for seed in seeds:
        case = theory.random_case(seed)
        for title, relaxation in FRAMEWORKS.items():
            found[title].append(
                theory.alpha_residual(case.network, case.images, case.labels, case.log_alpha, relaxation, seed)
            )
    return {title: theory.worst(many) for title, many in found.items()}


def cost_residuals(seeds: Sequence[int]) -> dict[str, theory.Residual]:
    """Eqs 4 and 5, and the library's probe, on one random network a seed."""
    found: dict[str, list[theory.Residual]] = {"Eqs 4 and 5": [], "the probe": []}
    for seed in seeds:
        case = theory.random_case(seed)
        trace = theory.trace(case.network, case.images, case.labels, case.sample)
        found["Eqs 4 and 5"].append(theory.cost_residual(trace))
        found["the probe"].append(theory.probe_residual(trace))
    return {title: theory.worst(many) for title, many in found.items()}


def residual_table(residuals: Mapping[str, theory.Residual]) -> str:
    """Statement, residual, bound, the scale that rounding is proportional to, number of cases, and whether it held."""
    rows = [
        (title, *map(power, (own.value, own.bound, own.scale)), own.cases, "yes" if own.held else "**no**")
        for title, own in residuals.items()
    ]
    header = ("statement", "largest residual", "bound", "scale of rounding", "cases", "held")
    return markdown(header, rows, text=1)


CLAIMS = {"U-DARTS": "DARTS", "U-SNAS": "SNAS, λ = 1", "U-DSNAS": "DSNAS", "U-Proxyless": "ProxylessNAS"}
"""The row of :data:`FRAMEWORKS` that a claim is about."""


def verdicts(
    residuals: Mapping[str, theory.Residual],
    expectation: theory.Residual,
    found: Sequence[Mapping[str, theory.GradientError]],
) -> list[Verdict]:
    """U-DARTS to U-Proxyless, from :func:`gradient_residuals`, :func:`eq4_residual` and :func:`errors` (one a seed).

    Direction: the framework's own gradient has the form (∂Z/∂α)·C in every case. Magnitude: for DARTS and SNAS the
    same, for the claim is an equality; for DSNAS, that its enumerated mean is Eq 4; for ProxylessNAS, which is "also
    consistent with (4)" by an approximation, the error of its enumerated mean relative to Eq 4: at most
    :data:`evidence.TIGHT` (with its interval), or at most :data:`evidence.SOME`."""
    return [_verdict(claim_id, residuals[title], expectation, found) for claim_id, title in CLAIMS.items()]


def _verdict(claim_id: str, own: theory.Residual, expectation: theory.Residual, found) -> Verdict:
    direction = magnitude = REPRODUCED if own.held else NOT_REPRODUCED
    sentence = f"The largest residual in {own.cases} random networks is {power(own.value)}, with a bound of {power(own.bound)}."
    n, numbers, unit, data = own.cases, (math.nan,) * 3, "", ""
    if claim_id == "U-DSNAS":
        magnitude = grade(direction, expectation.held, False)
        sentence += (
            f" Its mean over all architectures of {expectation.cases} small cells is that of Eq 4 up to "
            f"{power(expectation.value)}, with a bound of {power(expectation.bound)}."
        )
    if claim_id == "U-Proxyless":
        numbers = geometric([error["ProxylessNAS against Eq 4"].relative for error in found])
        n, unit, data = len(found), "times the norm of Eq 4", "one small cell on digits"
        graded = grade(direction, numbers[2] <= TIGHT, numbers[0] <= SOME)
        magnitude = graded if n >= FEWEST_SEEDS else NOT_TESTED
        sentence += (
            " That is its own estimator. The number is the error of its mean over all architectures against Eq 4."
        )
    return Verdict(claim_id, direction, magnitude, n, *numbers, unit, sentence, "", data)
