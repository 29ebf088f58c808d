"""The first page: every recorded run behind every claim, the verdicts, and how many of each there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nas_core import theory
from nas_core.lab.variations import CONTROLS, PHASE, UNIVERSAL
from nas_core.pages import assignment, crossed, enumeration, gap, runs, verdicts
from nas_core.pages import findings as five
from nas_core.pages import identities as gradients
from nas_core.pages.claims import BEYOND, OUTCOMES, Verdict, claim, power, unbroken
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
    sweeps = (*UNIVERSAL, *CONTROLS.values(), *PHASE)
    return found | runs.recorded(Parameters(), {name: name for name in sweeps}, _quiet) | taken_apart()


def taken_apart(scales: Sequence[str] = SCALES) -> dict[str, Sequence]:
    """The runs behind B1, each relaxation at the first of ``scales`` that has it, and behind B2, whose variations are of the
    digits."""
    found = crossed.merged(*(runs.recorded(Parameters(scale=scale), crossed.EVERY, _quiet) for scale in scales))
    return found | gap.collect(Parameters(scale="tiny"), _quiet)


def judged(found: Mapping[str, Sequence]) -> list[Verdict]:
    """A verdict on every claim."""
    return verdicts.judge_all(found)


# -- identities: judged on small networks while the page is built, as on their own pages -----------------------------------

SEEDS, NETWORKS = range(5), [10 * seed + network for seed in range(5) for network in range(4)]
STACKS = range(6)


def identities() -> tuple[list[Verdict], dict[str, str]]:
    """The verdicts on the claims that need no recorded run, and by claim how well the identity holds, in words."""
    kept = gradient_identities(), cost_identities()
    found = {own.claim_id: own for verdict, _ in kept for own in verdict}
    return list(found.values()), {name: residual_words(own) for _, held in kept for name, own in held.items()}


def gradient_identities() -> tuple[list[Verdict], dict[str, theory.Residual]]:
    """U-DARTS to U-Proxyless, as in Section 4."""
    small = [enumeration.small(seed, steps=60) for seed in SEEDS]
    residuals = gradients.gradient_residuals(NETWORKS)
    expectation = theory.worst(map(gradients.eq4_residual, small))
    found = gradients.verdicts(residuals, expectation, [gradients.errors(case) for case in small])
    return found, {name: residuals[title] for name, title in gradients.CLAIMS.items()}


def cost_identities() -> tuple[list[Verdict], dict[str, theory.Residual]]:
    """T1, C1.1 and C1.2, as in Section 5.2."""
    stacks = [assignment.case(seed, cells=3) for seed in STACKS]
    drawn = [seen for seed, own in zip(STACKS, stacks, strict=True) for seen in own.drawn(1, seed)]
    skipping = [own.drawn(1, seed, assignment.skipping())[0] for seed, own in zip(STACKS, stacks, strict=True)]
    checks = {"T1": theory.node_residual, "C1.1": theory.cell_residual, "C1.2": theory.inner_cell_residual}
    held = assignment.residuals([*drawn, *skipping], checks)
    states = {"after 50 steps": assignment.study(STACKS, 50, 8)}
    sums = {name: held[name] for name in ("C1.1", "C1.2")}
    return assignment.verdicts(states, held["T1"], assignment.totals(skipping), sums), held


def residual_words(own: theory.Residual) -> str:
    """Largest residual, its bound and the number of cases."""
    return f"residual {power(own.value)} (bound {power(own.bound)}, {own.cases} cases)"


# -- in words ---------------------------------------------------------------------------------------------------------------


def tally(given: Iterable[Verdict]) -> str:
    """Sentences: how many claims of the paper, and of this book, have which outcome in direction and in magnitude."""
    every = [own for own in given if own.n]
    beyond = [own for own in every if claim(own.claim_id).where == BEYOND]
    paper = [own for own in every if own not in beyond]
    groups = {"claims of the paper": paper, "that go beyond it": beyond}
    return " ".join(f"Of {len(own)} {words}: {_counts(own)}." for words, own in groups.items() if own)


def _counts(given: Sequence[Verdict]) -> str:
    words = []
    for part in ("direction", "magnitude"):
        outcomes = [claim(own.claim_id).word(getattr(own, part)) for own in given]
        ordered = [claim(given[0].claim_id).word(name) for name in OUTCOMES]
        words.append(
            f"in {part} " + ", ".join(f"{outcomes.count(name)} {name}" for name in ordered if name in outcomes)
        )
    return "; ".join(words)


def findings(given: Iterable[Verdict]) -> str:
    """What was found, in five sentences, as a list."""
    return unbroken(five.markdown(given))
