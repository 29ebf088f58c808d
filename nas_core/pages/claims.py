"""Every claim of the paper as data, the verdict that a measurement gives on it, and both as they stand on a page.

A verdict is computed by :mod:`nas_core.pages.verdicts` and never written by hand. Direction (is the sign or order as
claimed?) and magnitude (is it as strong as claimed?) are judged apart.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

REPRODUCED = "reproduced"
PARTLY = "partly"
NOT_REPRODUCED = "not reproduced"
NOT_TESTED = "not tested at this scale"
OUTCOMES = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)
BEYOND = "beyond"
_BEYOND_WORDS = {REPRODUCED: "shown", PARTLY: "shown in part", NOT_REPRODUCED: "not shown", NOT_TESTED: NOT_TESTED}
SHARE, DIFFERENCE, SIZE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)


@dataclass(frozen=True)
class Claim:
    """What is claimed, where (``beyond``: by this book, beyond the paper), what the number is that it is measured by, the
    label of the figure that shows it (or a page, as ``doc:name``), and the ``range`` that the number cannot leave.
    Emphasis in the texts is Markdown's ``*…*``."""

    id: str
    where: str
    statement: str
    measured_as: str
    figure: str
    range: tuple[float, float] = (-math.inf, math.inf)

    @property
    def place(self) -> str:
        """Where it is claimed, in words."""
        return "beyond the paper" if self.where == BEYOND else f"Section {self.where}"

    @property
    def link(self) -> str:
        """A MyST reference to what shows it."""
        kind, _, name = self.figure.rpartition(":")
        return f"{{{kind}}}`table <{name}>`" if kind else f"{{numref}}`{name}`"

    def word(self, outcome: str) -> str:
        """An outcome in words: what nobody claimed before cannot be reproduced, only shown."""
        return _BEYOND_WORDS[outcome] if self.where == BEYOND else outcome


@dataclass(frozen=True)
class Verdict:
    """What runs say about a claim. ``estimate`` with its 95 % interval [``low``, ``high``] in ``unit`` rests on ``n``
    seeds (or runs). Where it speaks of one ``part`` of the claim only, ``measured`` names the number instead of the claim.

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
    part: str = ""
    measured: str = ""

    def __post_init__(self) -> None:
        for name in ("direction", "magnitude"):
            if getattr(self, name) not in OUTCOMES:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(OUTCOMES)}")
        claim(self.claim_id)

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval, cut to what the number can be: a t-interval knows nothing of that."""
        least, most = claim(self.claim_id).range
        return max(self.low, least), min(self.high, most)

    @property
    def interval_words(self) -> str:
        """``−3.20 edges [−4.10, −2.30]``; empty where nothing was measured."""
        if not math.isfinite(self.estimate):
            return ""
        low, high = self.bounds
        interval = f"[{number(low)}, {number(high)}]" if math.isfinite(self.low) else "(one seed, no interval)"
        return " ".join(filter(None, [number(self.estimate), self.unit, interval]))

    @property
    def estimate_words(self) -> str:
        """``−3.20 edges [−4.10, −2.30], n = 5``; empty where nothing was measured."""
        return self.interval_words + (f", n = {self.n}" if math.isfinite(self.low) else "")


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "P1",
        "3",
        "Single level: all edges are dropped first, then some recover.",
        "rise of the share of edges alive, those whose likeliest operation is not *none*, from its minimum to the end",
        "fig-observations-survivors",
        DIFFERENCE,
    ),
    Claim(
        "P2",
        "3, 5.3",
        "Intermediate edges barely recover: width over depth.",
        "share of input edges alive at the end minus that of intermediate edges",
        "fig-observations-alive",
        DIFFERENCE,
    ),
    Claim(
        "P3",
        "3, 5.4",
        "Bi-level: no edge recovers from the first drop.",
        "edges alive at the end, bi-level minus its single-level control",
        "fig-bilevel-survivors",
    ),
    Claim(
        "P-univ",
        "3",
        "P1 to P3 hold across seeds, learning rates, cells, nodes and operation sets.",
        "P2's difference in a sweep of all of these, one number a single-level setting",
        "ref:evolution-universal",
        DIFFERENCE,
    ),
    Claim(
        "U-DARTS",
        "4, B",
        "The α gradient of DARTS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "the formula against autograd",
        "doc:04_unified_framework",
    ),
    Claim(
        "U-SNAS",
        "4, B",
        "The α gradient of SNAS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "the formula against autograd",
        "doc:04_unified_framework",
    ),
    Claim(
        "U-DSNAS",
        "4, B",
        "The α gradient of DSNAS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "its own estimator, and on a small cell the exact expectation",
        "doc:04_unified_framework",
    ),
    Claim(
        "U-Proxyless",
        "4, B",
        "The α gradient of ProxylessNAS is (∂Z/∂α)·C with C = ∂L/∂x·x.",
        "its own estimator; on a small cell the error of its exact expectation",
        "doc:04_unified_framework",
        SIZE,
    ),
    Claim(
        "H1",
        "5.1",
        "Near initialisation the cost of every operation but *none* is positive.",
        "mean cost ∂L/∂Z of the last cell over operations other than *none*, before training",
        "paper-fig-4",
    ),
    Claim(
        "H2",
        "5.1",
        "With training these costs turn negative.",
        "mean cost ∂L/∂Z of the last cell over operations other than *none*, after training",
        "paper-fig-4",
    ),
    Claim(
        "M-last",
        "5.1",
        "The last cell's cost is at least ten times that of the other cells.",
        "size of an entry of the last cell's map over that of the largest cell before it",
        "fig-stack-profile",
        SIZE,
    ),
    Claim(
        "T1",
        "5.2, D",
        "A path passes no cost on through an intermediate edge.",
        "mean size of the share that a single edge gets through it, and the residual per node",
        "fig-assignment-shares",
        SIZE,
    ),
    Claim(
        "C1.1",
        "5.2",
        "The total cost of a cell is distributed to that cell's own edges.",
        "what skip connections leave over, and the residual of the identity without that",
        "paper-fig-6",
        SIZE,
    ),
    Claim(
        "C1.2",
        "5.2, E",
        "In every cell but the last, the costs sum to 0.",
        "what skip connections leave over, and the residual of the identity without that",
        "fig-corollary-stacks",
        SIZE,
    ),
    Claim(
        "T2",
        "5.2, F",
        "The last cell's output cost is L − H: positive at first, negative at high accuracy, falling as accuracy rises.",
        "L − H on training images after training; judged with its sign before and its correlation with accuracy",
        "paper-fig-7",
    ),
    Claim(
        "D-dyn",
        "5.2",
        "The cost sum moves as the loss minus the entropy: dC/dt = dL/dt − dH/dt.",
        "changes of the summed edge costs, recorded at the edges, against changes of L − H, recorded at the output",
        "fig-assignment-dynamics",
        DIFFERENCE,
    ),
    Claim(
        "R1",
        "5.2",
        "Once costs follow Theorem 2, growth (P1) occurs.",
        "delay from the epoch at which an edge's cost turns negative to that of its recovery",
        "fig-observations-crossing",
    ),
    Claim(
        "R2",
        "5.3, G",
        "Among edges into the same node, intermediate ones cost more than input ones.",
        "cost of edge (1,2) minus that of (0,2), same operation, mean over the settings of Fig 27",
        "fig-edges-forest",
    ),
    Claim(
        "R2-ctrl",
        "5.3, G",
        "Without the output edge and with (0,1) fixed the order reverses: depth over width.",
        "the same difference in the modified cell, Figs 9b and 28",
        "paper-fig-9b",
    ),
    Claim(
        "R3",
        "5.3",
        "Remarks 1 and 2 together give the width preference (P2).",
        "how much more intermediate edges cost than input edges, in the runs of P2",
        "fig-observations-lag",
    ),
    Claim(
        "R4",
        "5.4",
        "Held-out cost rises to positive values: on wrongly classified images L is larger and H smaller than in training.",
        "L − H on held-out images at the end; judged with its rise, and with L and H on wrong images",
        "paper-fig-10a",
    ),
    Claim(
        "G-topk",
        "G",
        "Without *none* and with top-k derivation intermediate edges are still rarely chosen.",
        "share of intermediate edges chosen from recorded α, minus what blind choice gives",
        "fig-evolution-rules",
        DIFFERENCE,
    ),
    Claim(
        "N-affine",
        "H.1",
        "Instance and layer normalisation with affine parameters behave as batch normalisation; Theorem 1 holds.",
        "correlation of their cost maps with batch norm's; judged with residuals",
        "fig-affine-trained",
        DIFFERENCE,
    ),
    Claim(
        "N-IN",
        "H.1",
        "Under instance normalisation without affine parameters all costs are 0.",
        "largest cost; judged with residuals, and whether it can learn",
        "paper-fig-29",
        SIZE,
    ),
    Claim(
        "S-order",
        "H.2",
        "The stacking orders Conv-BN-ReLU and Conv-ReLU-BN change nothing.",
        "correlation of their cost maps with those in the usual order; judged with residuals",
        "fig-norm-agreement",
        DIFFERENCE,
    ),
    Claim(
        "B1",
        "beyond",
        "Held-out images for α, not the order of steps, cause P3.",
        "edges alive at the end, α judged on held-out images minus on θ's own batch, mean over orders of steps and recorded relaxations",
        "fig-bilevel-combinations",
    ),
    Claim(
        "B2",
        "beyond",
        "Fewer edges survive where the generalisation gap is wider.",
        "correlation of gap and edges alive at the end, over settings of bi-level search",
        "fig-bilevel-gap-predictors",
        DIFFERENCE,
    ),
    Claim(
        "B3",
        "beyond",
        "P1 and P2 survive the corrected gradient of DSNAS.",
        "P2's difference under the corrected gradient",
        "fig-evolution-gradient",
        DIFFERENCE,
    ),
    Claim(
        "B4",
        "beyond",
        "P2 holds under every derivation rule, and the rules agree.",
        "share of edges on which five rules disagree about the same α",
        "fig-evolution-rules",
        SHARE,
    ),
    Claim(
        "B5",
        "beyond",
        "The conditioned estimator of the cost needs less time than one probe a batch.",
        "time of one probe a batch over that of the conditioned estimator, for the same standard error",
        "fig-estimators-error",
        SIZE,
    ),
    Claim(
        "B6",
        "beyond",
        "Trained alone, the wide cell that search prefers beats the deep one that it discards.",
        "accuracy on images never trained on, wide minus deep",
        "ref:discarded",
        DIFFERENCE,
    ),
    Claim(
        "B7",
        "beyond",
        "Patterns and costs weaken under random reward, shuffled labels and equal training, as the explanation has it.",
        "the first of these: mean cost after training, shuffled labels minus true ones",
        "fig-cost-controls",
    ),
)

_BY_ID = {own.id: own for own in CLAIMS}
IDENTITIES = ("U-DARTS", "U-SNAS", "U-DSNAS", "U-Proxyless", "T1", "C1.1", "C1.2")
"""Claims that need no recorded run: :func:`nas_core.pages.overview.identities` judges them on small networks."""


def claim(claim_id: str) -> Claim:
    """The claim with this id; KeyError's kin :class:`ValueError` in one sentence if there is none."""
    if claim_id not in _BY_ID:
        raise ValueError(f"there is no claim {claim_id!r}; the claims are {', '.join(_BY_ID)}")
    return _BY_ID[claim_id]


def untested(claim_id: str, reason: str) -> Verdict:
    """The verdict where nothing was measured, and why."""
    nan = math.nan
    return Verdict(claim_id, NOT_TESTED, NOT_TESTED, 0, nan, nan, nan, "", reason, "", "")


def table(verdicts: Iterable[Verdict], residuals: Mapping[str, str] | None = None) -> str:
    """Markdown table of all claims in the paper's order; a claim without a verdict reads *not tested at this scale*.
    ``residuals``: by claim, how well an identity holds, in words."""
    given = {verdict.claim_id: verdict for verdict in verdicts}
    rows = [
        "| claim | what is claimed | measured | n | direction, magnitude | shown in |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for own in CLAIMS:
        verdict = given.get(own.id) or untested(own.id, "")
        numbers = ", ".join(filter(None, [verdict.interval_words, (residuals or {}).get(own.id, "")]))
        measured = f"{own.measured_as}: **{numbers}**" if numbers else own.measured_as
        seeds = "; ".join(filter(None, [f"{verdict.n}", verdict.scale or verdict.dataset])) if verdict.n else "–"
        cells = (f"**{own.id}**", f"{own.statement} ({own.place})", measured, seeds, pills(verdict), own.link)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return unbroken("\n".join(rows))


def pills(verdict: Verdict) -> str:
    """HTML of direction and magnitude; once where nothing was tested in either respect."""
    own, both = claim(verdict.claim_id), (verdict.direction, verdict.magnitude)
    kept = both if verdict.n else dict.fromkeys(both)
    return " ".join(f'<span class="verdict {css_class(word)}">{own.word(word)}</span>' for word in kept)


def box(verdict: Verdict) -> str:
    """HTML of a chapter's verdict box; its classes are ``verdict`` and an outcome (``not-reproduced``): the direction's,
    or *partly* where the direction holds and the magnitude does not."""
    own = claim(verdict.claim_id)
    source = ", ".join(filter(None, [f"Scale {verdict.scale}" if verdict.scale else "", verdict.dataset]))
    measured = ": ".join(filter(None, [f"Measured: {verdict.measured or own.measured_as}", verdict.estimate_words]))
    named = ", ".join(filter(None, [own.id, verdict.part]))
    small = ". ".join(filter(None, [measured, source[:1].upper() + source[1:]]))
    words = [own.word(outcome) for outcome in (verdict.direction, verdict.magnitude)]
    lines = [
        f"<p><strong>{named}</strong> ({own.place}): {_inline(own.statement)}</p>",
        f"<p>Direction: <strong>{words[0]}</strong>. Magnitude: <strong>{words[1]}</strong>.</p>",
        f"<p>{_inline(verdict.sentence)}</p>" if verdict.sentence else "",
        f"<p><small>{_inline(small)}.</small></p>",
    ]
    weaker = verdict.direction == REPRODUCED and verdict.magnitude in (PARTLY, NOT_REPRODUCED)
    kind = css_class(PARTLY if weaker else verdict.direction)
    text = unbroken("".join(lines))
    return f'<div class="verdict {kind}" role="note" aria-label="Verdict on {own.id}">{text}</div>'


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


def unbroken(text: str) -> str:
    """The same with no-break spaces inside intervals, between n and its number, and before a percent sign."""
    tied = re.sub(r"(\[[^\[\]\s]+,) ([^\[\]\s]+\])", "\\1\N{NO-BREAK SPACE}\\2", text)
    tied = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", tied)
    return re.sub(r"\bn = (?=\d)", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", tied)


def number(value: float) -> str:
    """Two decimals, or two significant digits where these say nothing; with a true minus sign."""
    text = f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:#.2g}"
    return text.replace("-", "−")


def power(value: float) -> str:
    """Two significant digits of something very small or large, with a true minus sign, at which no line breaks; of what is neither,
    :func:`number`."""
    if value == 0:
        return "0"
    if 0.01 <= abs(value) < 1000:
        return number(value) if abs(value) < 100 else f"{value:.0f}"
    return f"{value:.1e}".replace("-", "−")
