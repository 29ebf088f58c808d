"""Every claim of the paper as data, the verdict that a measurement gives on it, and both as they stand on a page.

A verdict is computed by :mod:`nas_core.pages.verdicts` and never written by hand. Direction (is the sign or order as
claimed?) and magnitude (is it as strong as claimed?) are judged apart.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

REPRODUCED = "reproduced"
PARTLY = "partly"
NOT_REPRODUCED = "not reproduced"
NOT_TESTED = "not tested at this scale"
OUTCOMES = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)


@dataclass(frozen=True)
class Claim:
    """What is claimed, where, and how this book measures it. Emphasis in the texts is Markdown's ``*…*``."""

    id: str
    where: str
    statement: str
    measured_as: str


@dataclass(frozen=True)
class Verdict:
    """What runs say about a claim. ``estimate`` with its 95 % interval [``low``, ``high``] in ``unit`` rests on ``n``
    seeds (or runs).

    The numbers are NaN where nothing was measured; the bounds alone are NaN for a single seed.
    """

    claim_id: str
    direction: str
    magnitude: str
    n: int
    estimate: float
    low: float
    high: float
    unit: str
    sentence: str
    scale: str
    dataset: str

    def __post_init__(self) -> None:
        for name in ("direction", "magnitude"):
            if getattr(self, name) not in OUTCOMES:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(OUTCOMES)}")
        claim(self.claim_id)

    @property
    def estimate_words(self) -> str:
        """``−3.20 edges [−4.10, −2.30], n = 5``; empty where nothing was measured."""
        if not math.isfinite(self.estimate):
            return ""
        known = math.isfinite(self.low)
        bounds = f"[{number(self.low)}, {number(self.high)}], n = {self.n}" if known else "(one seed, no interval)"
        return " ".join(filter(None, [number(self.estimate), self.unit, bounds]))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "P1",
        "3",
        "Single level: all edges are dropped first, then some recover.",
        "edges whose likeliest operation is not *none*, over epochs: a minimum, then growth",
    ),
    Claim(
        "P2",
        "3, 5.3",
        "Intermediate edges barely recover: width over depth.",
        "surviving share of input edges minus that of intermediate edges at the end",
    ),
    Claim(
        "P3",
        "3, 5.4",
        "Bi-level: no edge recovers from the first drop.",
        "surviving edges at the end, bi-level minus its single-level control",
    ),
    Claim(
        "P-univ",
        "3",
        "P1 to P3 hold across seeds, learning rates, cells, nodes and operation sets.",
        "a sweep of all of these",
    ),
    Claim(
        "U-DARTS",
        "4, B",
        "The α gradient of DARTS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "the formula against autograd",
    ),
    Claim(
        "U-SNAS",
        "4, B",
        "The α gradient of SNAS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "the formula against autograd",
    ),
    Claim(
        "U-DSNAS",
        "4, B",
        "The α gradient of DSNAS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "its own estimator, and on a small cell the exact expectation",
    ),
    Claim(
        "U-Proxyless",
        "4, B",
        "The α gradient of ProxylessNAS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "its own estimator, and on a small cell the exact expectation",
    ),
    Claim(
        "H1",
        "5.1",
        "Near initialisation the cost of every operation but *none* is positive.",
        "mean cost of the last cell over operations other than *none*, before training",
    ),
    Claim(
        "H2",
        "5.1",
        "With training these costs turn negative.",
        "mean cost of the last cell over operations other than *none*, after training",
    ),
    Claim(
        "M-last",
        "5.1",
        "The last cell's cost is at least ten times that of the other cells.",
        "ratio of magnitudes in a stack",
    ),
    Claim(
        "T1",
        "5.2, D",
        "A path passes no cost on through an intermediate edge.",
        "residual per node and per edge, its scaling with ε, the exception of skip connections",
    ),
    Claim(
        "C1.1",
        "5.2",
        "The total cost of a cell is distributed to that cell's own edges.",
        "residual of the identity",
    ),
    Claim(
        "C1.2",
        "5.2, E",
        "In every cell but the last, the costs sum to 0.",
        "residual of the identity",
    ),
    Claim(
        "T2",
        "5.2, F",
        "The last cell's output cost is L − H: positive at first, negative at high accuracy, falling as accuracy "
        "rises.",
        "sign before and after training, and correlation with accuracy, on training images",
    ),
    Claim(
        "D-dyn",
        "5.2",
        "The cost sum moves as the loss minus the entropy: dC/dt = dL/dt − dH/dt.",
        "changes of the summed edge costs, recorded at the edges, against changes of L − H, recorded at the output",
    ),
    Claim(
        "R1",
        "5.2",
        "Once costs follow Theorem 2, growth (P1) occurs.",
        "the epoch of crossing zero precedes that of recovery",
    ),
    Claim(
        "R2",
        "5.3, G",
        "Among edges into the same node, intermediate ones cost more than input ones.",
        "paired difference, every setting of Fig 27",
    ),
    Claim(
        "R2-ctrl",
        "5.3, G",
        "Without the output edge and with (0,1) fixed the order reverses: depth over width.",
        "paired difference, Figs 9b and 28",
    ),
    Claim(
        "R3",
        "5.3",
        "Remarks 1 and 2 together give the width preference (P2).",
        "R2 and P2 in the same runs",
    ),
    Claim(
        "R4",
        "5.4",
        "Held-out cost rises to positive values: on wrongly classified images L is larger and H smaller than in "
        "training.",
        "held-out against training images at the end: rise and sign of the cost, L and H on wrong images",
    ),
    Claim(
        "G-topk",
        "G",
        "Without *none* and with top-k derivation intermediate edges are still rarely chosen.",
        "derivation replayed on recorded α",
    ),
    Claim(
        "N-affine",
        "H.1",
        "Instance and layer normalisation with affine parameters behave as batch normalisation; Theorem 1 holds.",
        "residual, and Fig 4 repeated",
    ),
    Claim(
        "N-IN",
        "H.1",
        "Under instance normalisation without affine parameters all costs are 0.",
        "residual, Fig 29, and whether it can learn",
    ),
    Claim(
        "S-order",
        "H.2",
        "The stacking orders Conv-BN-ReLU and Conv-ReLU-BN change nothing.",
        "residual, Figs 30 and 31",
    ),
    Claim(
        "B1",
        "beyond",
        "Level, relaxation and the data for α as separate switches: which one causes P3?",
        "surviving edges, every combination",
    ),
    Claim(
        "B2",
        "beyond",
        "Is P3 the generalisation gap?",
        "bi-level search on digits with and without label noise: generalisation gap, held-out cost, surviving edges",
    ),
    Claim(
        "B3",
        "beyond",
        "Do P1 and P2 survive the corrected DSNAS gradient?",
        "`reference` against `corrected`",
    ),
    Claim(
        "B4",
        "beyond",
        "How much of the wiring is the derivation rule's?",
        "one trajectory under every rule",
    ),
    Claim(
        "B5",
        "beyond",
        "Which estimator of the cost is best at equal compute?",
        "bias and variance: sampled, counterfactual, exact",
    ),
    Claim(
        "B6",
        "beyond",
        "Is the discarded wiring worse?",
        "width- and depth-preferring cells trained alone",
    ),
    Claim(
        "B7",
        "beyond",
        "What do the patterns do under random reward, shuffled labels and equal training?",
        "controls",
    ),
)

_BY_ID = {own.id: own for own in CLAIMS}


def claim(claim_id: str) -> Claim:
    """The claim with this id; KeyError's kin :class:`ValueError` in one sentence if there is none."""
    if claim_id not in _BY_ID:
        raise ValueError(f"there is no claim {claim_id!r}; the claims are {', '.join(_BY_ID)}")
    return _BY_ID[claim_id]


def untested(claim_id: str, reason: str) -> Verdict:
    """The verdict where nothing was measured, and why."""
    nan = math.nan
    return Verdict(claim_id, NOT_TESTED, NOT_TESTED, 0, nan, nan, nan, "", reason, "", "")


ON_THEIR_PAGE = {
    **dict.fromkeys(("U-DARTS", "U-SNAS", "U-DSNAS", "U-Proxyless"), "04_unified_framework"),
    **dict.fromkeys(("T1", "C1.1", "C1.2"), "05_cost_assignment"),
}
"""Claims that need no recorded run: they are judged by what their page computes while the book is built."""


def table(verdicts: Iterable[Verdict]) -> str:
    """Markdown table of all claims in the paper's order; a claim without a verdict points to the page that judges it, or
    reads *not tested at this scale*."""
    given = {verdict.claim_id: verdict for verdict in verdicts}
    rows = [
        "| claim | what is claimed | direction, magnitude | evidence |",
        "| --- | --- | --- | --- |",
    ]
    for own in CLAIMS:
        verdict = given.get(own.id) or untested(own.id, "")
        evidence = ", ".join(filter(None, [verdict.estimate_words, verdict.scale, verdict.dataset]))
        # What was not tested in either respect is said once.
        words = (
            dict.fromkeys((verdict.direction, verdict.magnitude))
            if not verdict.n
            else (verdict.direction, verdict.magnitude)
        )
        outcomes = " ".join(f'<span class="verdict {css_class(word)}">{word}</span>' for word in words)
        if not verdict.n and own.id in ON_THEIR_PAGE:
            outcomes, evidence = "computed on its page", f"{{doc}}`{ON_THEIR_PAGE[own.id]}`"
        place = "beyond the paper" if own.where == "beyond" else f"Section {own.where}"
        cells = (f"**{own.id}**", f"{own.statement} ({place})", outcomes, evidence or "–")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def box(verdict: Verdict) -> str:
    """HTML of a chapter's verdict box; its classes are ``verdict`` and an outcome (``not-reproduced``): the direction's,
    or *partly* where the direction holds and the magnitude does not."""
    own = claim(verdict.claim_id)
    place = "beyond the paper" if own.where == "beyond" else f"Section {own.where}"
    source = ", ".join(filter(None, [f"scale {verdict.scale}" if verdict.scale else "", verdict.dataset]))
    measured = ". ".join(filter(None, [f"Measured: {own.measured_as}", verdict.estimate_words, source]))
    lines = [
        f"<p><strong>{own.id}</strong> ({place}): {_inline(own.statement)}</p>",
        f"<p>Direction: <strong>{verdict.direction}</strong>. Magnitude: <strong>{verdict.magnitude}</strong>.</p>",
        f"<p>{_inline(verdict.sentence)}</p>" if verdict.sentence else "",
        f"<p><small>{_inline(measured)}.</small></p>",
    ]
    weaker = verdict.direction == REPRODUCED and verdict.magnitude in (PARTLY, NOT_REPRODUCED)
    kind = css_class(PARTLY if weaker else verdict.direction)
    return f'<div class="verdict {kind}" role="note" aria-label="Verdict on {own.id}">{"".join(lines)}</div>'


def records(verdicts: Iterable[Verdict]) -> list[dict]:
    """Verdicts as JSON-able rows for a golden file: numbers to four significant digits, ``None`` for NaN."""

    def plain(value):
        if isinstance(value, float):
            return float(f"{value:.4g}") if math.isfinite(value) else None
        return value

    return [{name: plain(value) for name, value in asdict(verdict).items()} for verdict in verdicts]


def css_class(outcome: str) -> str:
    return "untested" if outcome == NOT_TESTED else outcome.replace(" ", "-")


def _inline(text: str) -> str:
    marked = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", marked)


def number(value: float) -> str:
    """Two decimals, or two significant digits where these say nothing; with a true minus sign."""
    text = f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"
    return text.replace("-", "−")
