"""From recorded runs to verdicts: every measure there is, under one roof.

A measure is a function from ``results``, runs by label, to a :class:`Verdict`; it looks for the labels that it knows and
ignores others. The modules ``*_measures`` hold them, by the test of :mod:`nas_core.pages.evidence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas_core.pages import (
    alone_measures,
    bilevel_measures,
    cost_measures,
    edge_measures,
    estimator_pages,
    evolution_measures,
    stack_measures,
    variant_measures,
)
from nas_core.pages.claims import CLAIMS, NOT_TESTED, Verdict, claim, untested
from nas_core.pages.evidence import (
    BILEVEL,
    BILEVEL_SAME,
    FIXED,
    NOISE,
    SAMPLED,
    SINGLE,
    SINGLE_HELD_OUT,
    CannotTell,
    Results,
    combine,
)

__all__ = [
    "BILEVEL",
    "BILEVEL_SAME",
    "CONTROLS",
    "FIXED",
    "MEASURES",
    "NOISE",
    "RECIPES",
    "SAMPLED",
    "SINGLE",
    "SINGLE_HELD_OUT",
    "judge",
    "judge_all",
]

PARTS = (
    bilevel_measures,
    cost_measures,
    edge_measures,
    stack_measures,
    variant_measures,
    evolution_measures,
    estimator_pages,
    alone_measures,
)

CONTROLS: dict[str, Callable[[Results], Verdict]] = {
    "shuffled labels": cost_measures.shuffled_labels,
    "equal training": edge_measures.equal_training,
    "random reward": evolution_measures.random_reward,
}
"""The three controls of B7: each tells what a pattern is not due to, or what it is."""


def controls(results: Results) -> Verdict:
    """B7 from those of its controls that these runs can judge. The number is the first one's."""
    found, missing = {}, {}
    for name, measure in CONTROLS.items():
        try:
            found[name] = measure(results)
        except CannotTell as reason:
            missing[name] = str(reason)
    if not found:
        raise CannotTell(" ".join(f"*{name.capitalize()}*: {reason}" for name, reason in missing.items()))
    first = next(iter(found.values()))
    words = [
        f"*{name.capitalize()}* ({claim('B7').word(own.direction)}): {own.sentence}" for name, own in found.items()
    ]
    if missing:
        words.append(f"The runs here do not judge {' and '.join(f'*{name}*' for name in missing)}.")
    tested = [own for own in found.values() if own.direction != NOT_TESTED]
    direction, magnitude = (
        combine([getattr(own, part) for own in tested]) if tested else NOT_TESTED for part in ("direction", "magnitude")
    )
    # Only where one control is judged is the verdict that control's.
    part, measured = (first.part, first.measured) if len(found) == 1 else ("", "")
    sentence = " ".join(words)
    return replace(first, direction=direction, magnitude=magnitude, sentence=sentence, part=part, measured=measured)


MEASURES: dict[str, Callable[[Results], Verdict]] = {
    claim_id: measure for part in PARTS for claim_id, measure in part.MEASURES.items() if claim_id != "B7"
} | {"B7": controls}
"""The measures there are, by claim."""

RECIPES: dict[str, str] = {label: recipe for part in PARTS for label, recipe in part.RECIPES.items()}
"""The recipe behind every label."""


def judge(claim_id: str, results: Results) -> Verdict:
    """The verdict of these runs on one claim; *not tested at this scale*, with the reason, where they cannot tell."""
    claim(claim_id)
    if claim_id not in MEASURES:
        return untested(claim_id, "No measurement of this claim is recorded yet.")
    try:
        return MEASURES[claim_id](results)
    except CannotTell as reason:
        return untested(claim_id, str(reason))


def judge_all(results: Results) -> list[Verdict]:
    """A verdict on every claim, in the paper's order."""
    return [judge(own.id, results) for own in CLAIMS]
