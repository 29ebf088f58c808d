"""The first page: every recorded run behind every claim, the verdicts, and how many of each there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nas_core.lab.variations import UNIVERSAL
from nas_core.pages import runs, verdicts
from nas_core.pages.claims import OUTCOMES, Verdict
from nas_core.pages.evidence import FEWEST_SEEDS
from nas_core.pages.parameters import Parameters

SCALES = ("small", "tiny")
"""Where the runs of a group of claims are looked for; of two that serve as well, the first is taken."""


def _quiet(words: str) -> None:
    """Say nothing: the first page prints a table only."""


def _group(recipes: Mapping[str, str]) -> dict[str, Sequence]:
    """The recorded runs of recipes that are judged together, all of one scale: the one at which more of them have the
    seeds that a test needs."""
    found = [runs.recorded(Parameters(scale=scale), recipes, _quiet) for scale in SCALES]
    return max(found, key=lambda own: sum(len(group) >= FEWEST_SEEDS for group in own.values()))


def results() -> dict[str, Sequence]:
    """Runs by label for :func:`nas_core.pages.verdicts.judge_all`, each label with the seeds that it has."""
    found: dict[str, Sequence] = {}
    for part in verdicts.PARTS:
        found |= _group(part.RECIPES)
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
