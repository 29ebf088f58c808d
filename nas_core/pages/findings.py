"""What was found, in five sentences: for readers of the first page. Every sentence follows from verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, Verdict, untested

_STRENGTH = {
    REPRODUCED: "and it is as strong as the paper says",
    PARTLY: "but it is weaker than the paper says",
    NOT_REPRODUCED: "but it is far weaker than the paper says",
    NOT_TESTED: "how strong it is was not tested",
}


@dataclass(frozen=True)
class Pattern:
    """One pattern of the paper in words: its ``name``, what the sentence says by direction, and what its number is."""

    name: str
    reproduced: str
    partly: str
    not_reproduced: str
    number: str


PATTERNS: dict[str, Pattern] = {
    "P1": Pattern(
        "Growth (P1)",
        "single-level search drops its edges first, and some come back",
        "edges drop first or come back later, but not both in every framework",
        "edges are not shown to be dropped first and to come back",
        "Rise of the share of alive edges from its minimum:",
    ),
    "P2": Pattern(
        "Width over depth (P2)",
        "at the end fewer intermediate edges are alive than input edges",
        "at the end fewer intermediate edges are alive than input edges in some frameworks",
        "in most frameworks intermediate edges are not shown to be rarer at the end than input edges",
        "Share of input edges alive minus that of intermediate ones, over all frameworks:",
    ),
    "P3": Pattern(
        "Catastrophic failure (P3)",
        "fewer edges survive bi-level search than its single-level control",
        "some of what makes bi-level search fail is seen",
        "bi-level search is not shown to keep fewer edges than its single-level control",
        "Bi-level minus single-level:",
    ),
}

_SIGNS = {
    "H1": "costs are positive before training (H1)",
    "H2": "costs are negative after training (H2)",
    "T2": "L − H on training images falls from positive to negative as accuracy rises (T2)",
}

_LINKS = {
    "R1": "edges recover after their cost has turned (R1)",
    "R2": "intermediate edges cost more than their rivals (R2)",
    "B1": "held-out images, not the order of steps, cause P3 (B1)",
    "B2": "fewer edges survive where the generalisation gap is wider (B2)",
    "B7": "patterns and costs weaken in controls as the explanation has it (B7)",
}

_GROUPS = {
    REPRODUCED: "it is borne out that",
    PARTLY: "it is borne out in part that",
    NOT_REPRODUCED: "it is not borne out that",
    NOT_TESTED: "it is not tested whether",
}


def _source(own: Verdict) -> str:
    """Where a number was measured, in words."""
    return ", ".join(filter(None, [own.scale, own.dataset]))


def pattern(own: Verdict) -> str:
    """The sentence on P1, P2 or P3."""
    words = PATTERNS[own.claim_id]
    if own.direction == NOT_TESTED:
        reason = f": {own.sentence}" if own.sentence else "."
        return f"**{words.name}** is not tested at this scale{reason}"
    said = {REPRODUCED: words.reproduced, PARTLY: words.partly, NOT_REPRODUCED: words.not_reproduced}[own.direction]
    verdict = {REPRODUCED: "is reproduced", PARTLY: "is reproduced in part", NOT_REPRODUCED: "is not reproduced"}
    strength = "" if own.direction == NOT_REPRODUCED else f", {_STRENGTH[own.magnitude]}"
    number = f" {words.number} {own.estimate_words} ({_source(own)})." if own.estimate_words else ""
    # P1 and P2 are judged framework by framework, and their number is a mean over frameworks: the two may disagree.
    carried = (
        " The mean lies on the claimed side all the same, but each framework is judged by itself."
        if _carried(own)
        else ""
    )
    return f"**{words.name}** {verdict[own.direction]}: {said}{strength}.{number}{carried}"


def _carried(own: Verdict) -> bool:
    """Whether the number alone would say what the count over frameworks does not."""
    return own.claim_id in ("P1", "P2") and own.direction == NOT_REPRODUCED and own.n > 1 and own.low > 0


def grouped(given: Mapping[str, Verdict], words: Mapping[str, str]) -> str:
    """The claims of ``words`` by outcome, the best first, each with its number; where all were measured, once at the end
    if it is the same for all."""
    every = [given.get(claim_id) or untested(claim_id, "") for claim_id in words]
    tested = [own for own in every if own.direction != NOT_TESTED and own.estimate_words]
    common = len({_source(own) for own in tested}) == 1
    by_outcome: dict[str, list[str]] = {outcome: [] for outcome in _GROUPS}
    for own in every:
        weaker = own.direction in (REPRODUCED, PARTLY) and own.magnitude in (PARTLY, NOT_REPRODUCED)
        text = words[own.claim_id] + (", more weakly than claimed" if weaker else "")
        if own in tested:
            text += f": {own.estimate_words}" + ("" if common else f" ({_source(own)})")
        by_outcome[own.direction].append(text)
    said = "; ".join(
        f"{_GROUPS[outcome]} {f', and {_GROUPS[outcome].split()[-1]} '.join(texts)}"
        for outcome, texts in by_outcome.items()
        if texts
    )
    return said[0].upper() + said[1:] + (f" ({_source(tested[0])})." if common else ".")


def sentences(judged: Iterable[Verdict]) -> list[str]:
    """Five sentences on P1, P2, P3, the sign of the cost, and the paper's explanation."""
    given = {own.claim_id: own for own in judged}
    return [
        *(pattern(given.get(claim_id) or untested(claim_id, "")) for claim_id in PATTERNS),
        f"**The sign of the cost.** {grouped(given, _SIGNS)}",
        f"**The paper's explanation.** {grouped(given, _LINKS)}",
    ]


def markdown(judged: Iterable[Verdict]) -> str:
    """The five sentences as a list."""
    return "\n".join(f"1. {sentence}" for sentence in sentences(judged))
