"""What the paper claims in four sentences, each with its chapter and its verdict, and which question a chapter answers.

Chapters that are not in the table of contents yet are named as such, so that the book builds at every stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_core.pages import claims, correspondence, verdicts
from nas_core.pages.correspondence import BOOK, MISSING
from nas_core.pages.tables import markdown

SNAS, DSNAS = "SNAS", "DSNAS"
"""Labels of the single-level runs of this chapter; the others are those of :mod:`nas_core.pages.verdicts`."""


@dataclass(frozen=True)
class Statement:
    """A sentence of the paper's introduction, the claim that it is judged by, and the chapter that tests it.

    ``methods`` are the labels of runs that are judged one by one; without any, all runs are judged together.
    """

    sentence: str
    claim_id: str
    chapter: str
    methods: tuple[str, ...] = ()


STATEMENTS = (
    Statement(
        "The search grows instead of pruning: all edges are dropped first, and some recover.",
        "P1",
        "03_observations",
        (SNAS, DSNAS),
    ),
    Statement(
        "It prefers width: edges between intermediate nodes, which make a cell deep, recover more slowly or not at all.",
        "P2",
        "03_observations",
        (SNAS, DSNAS),
    ),
    Statement(
        "In bi-level optimisation, with α trained on held-out images, no edge recovers.",
        "P3",
        "05_bilevel",
    ),
    Statement(
        "The cause is how cost is assigned to edges: its sum is the loss minus the entropy, positive at first and "
        "negative once the network has learned.",
        "T2",
        "05_cost_assignment",
    ),
)

QUESTIONS = {
    "02_background": "What is searched, and how do the methods differ?",
    "03_observations": "Are P1, P2 and P3 there, how strongly, and in which frameworks?",
    "04_unified_framework": "Do all the methods follow one formula?",
    "05_cost_statistics": "What does an operation cost, before and after training?",
    "05_cost_assignment": "To which edges does the cost go, and what does it add up to?",
    "05_intermediate_edges": "Why do edges between nodes cost more?",
    "05_bilevel": "Why does bi-level search drop everything?",
    "06_discussion": "What could be done about it?",
}
"""What a chapter answers, in reading order."""


def in_the_book(book: Path = BOOK) -> set[str]:
    """The names of the pages in the table of contents."""
    return {path.stem for path in correspondence.pages(book)}


def statements(results: Mapping[str, Sequence], book: Path = BOOK) -> str:
    """The four sentences as a Markdown table, with chapters and computed verdicts."""
    there = in_the_book(book)
    rows = []
    for own in STATEMENTS:
        given = _judged(own, results)
        verdict = "<br>".join(f"{label} {_marks(judged)}".strip() for label, judged in given.items())
        evidence = "<br>".join(
            f"{label} {judged.estimate_words or judged.sentence}".strip() for label, judged in given.items()
        )
        chapter = f"{{doc}}`{own.chapter}`" if own.chapter in there else MISSING
        rows.append((f"**{own.claim_id}**", own.sentence, chapter, verdict, evidence))
    return markdown(("claim", "the paper says", "tested in", "direction, magnitude", "evidence"), rows)


def _judged(own: Statement, results: Mapping[str, Sequence]) -> dict[str, claims.Verdict]:
    if not own.methods:
        return {"": verdicts.judge(own.claim_id, results)}
    return {
        f"{method}:": verdicts.judge(own.claim_id, {verdicts.SAMPLED: results.get(method, ())})
        for method in own.methods
    }


def _marks(verdict: claims.Verdict) -> str:
    words = (verdict.direction, verdict.magnitude)
    return " ".join(f'<span class="verdict {claims.css_class(word)}">{word}</span>' for word in words)


def questions(book: Path = BOOK) -> str:
    """A Markdown list: what each chapter of the book answers, of those that are there."""
    there = in_the_book(book)
    return "\n".join(f"- {words} {{doc}}`{name}`" for name, words in QUESTIONS.items() if name in there)
