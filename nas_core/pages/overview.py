"""The first page: every recorded run behind every claim, the verdicts, and how many of each there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nas_core.lab.variations import UNIVERSAL
from nas_core.pages import findings as five
from nas_core.pages import runs, verdicts
from nas_core.pages.claims import OUTCOMES, Verdict
from nas_core.pages.evidence import FEWEST_SEEDS
from nas_core.pages.parameters import Parameters

SCALES = ("small", "tiny")
"""Where the runs of a group of claims are looked for, in this order."""


def _quiet(words: str) -> None:
    """Say nothing: the first page prints a table only."""


def group(
    recipes: Mapping[str, str], scales: Sequence[str] = SCALES, fewest: int = FEWEST_SEEDS
) -> Mapping[str, Sequence]:
    """The recorded runs of recipes that are judged together, all of one scale: the first of ``scales`` at which a third
    of them have the ``fewest`` seeds that a test needs, else the one at which most of them do."""
    best: Mapping[str, Sequence] = {}
    most = -1
    for scale in scales:
        found = runs.recorded(Parameters(scale=scale), recipes, _quiet)
        testable = sum(len(own) >= fewest for own in found.values())
        if 3 * testable >= len(recipes):
            return found
        if testable > most:
            best, most = found, testable
    return best


def results() -> dict[str, Sequence]:
    """Runs by label for :func:`nas_core.pages.verdicts.judge_all`, each label with the seeds that it has."""
    found: dict[str, Sequence] = {}
    for part in verdicts.PARTS:
        found |= group(part.RECIPES)
    found |= runs.recorded(Parameters(), {name: name for name in UNIVERSAL}, _quiet)
    tiny = Parameters(scale="tiny")
    return found | runs.variations(tiny, "reference_darts_bilevel", "label_noise", verdicts.NOISE, _quiet)


def judged(found: Mapping[str, Sequence]) -> list[Verdict]:
    """A verdict on every claim."""
    return verdicts.judge_all(found)


def tally(given: Iterable[Verdict]) -> str:
    """A sentence: how many claims there are, and how many have which outcome in direction and in magnitude."""
    every = [own for own in given if own.n]
    words = []
    for part in ("direction", "magnitude"):
        outcomes = [getattr(own, part) for own in every]
        counts = ", ".join(f"{outcomes.count(name)} {name}" for name in OUTCOMES if name in outcomes)
        words.append(f"in {part} {counts or 'none'}")
    return f"Of {len(every)} claims that recorded runs speak to: {'; '.join(words)}."


def findings(given: Iterable[Verdict]) -> str:
    """What was found, in five sentences, as a list."""
    return five.markdown(given)
