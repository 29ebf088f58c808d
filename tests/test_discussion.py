"""Section 6 and the first page's sentences: every branch on made-up verdicts, and the glossary's promises."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from nas_core.lab.variations import PHASE
from nas_core.pages import claims, cost_measures, discussion, edge_measures, findings, overview, style, verdicts
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, OUTCOMES, PARTLY, REPRODUCED, Verdict
from nas_core.pages.discussion_points import OPPOSITE, POINTS, SHOWN, UNCLEAR, UNTESTED
from nas_core.pages.evidence import BILEVEL, BILEVEL_SAME, CannotTell
from nas_core.patterns import Measures
from tests.synthetic import runs

BOOK = Path(__file__).parents[1] / "book"
ANSWERS = [answer for point in POINTS for answer in point.answers]


def measured(answer, side: int, n: int = 5) -> discussion.Reading:
    """A reading whose interval lies on one ``side`` of the boundary (+1 as asked), or around it (0)."""
    unit = 0.1 * answer.boundary or 1.0
    middle = answer.boundary + 2 * side * answer.expected * unit
    own = Verdict(
        answer.claim, PARTLY, PARTLY, n, middle + 0.1 * unit, middle - unit, middle + unit, "u", "s", "tiny", "digits"
    )
    return discussion.Reading(answer, own)


def everything(side: int, n: int = 5) -> dict[str, list[discussion.Reading]]:
    return {point.name: [measured(answer, side, n) for answer in point.answers] for point in POINTS}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.short)
def test_each_side_of_the_boundary_has_its_own_sentence(answer):
    given = {SHOWN: measured(answer, +1), OPPOSITE: measured(answer, -1), UNCLEAR: measured(answer, 0)}
    assert {outcome: reading.outcome for outcome, reading in given.items()} == dict(zip(given, given, strict=True))
    few = measured(answer, +1, n=4)
    assert few.outcome == UNTESTED and answer.measured in few.sentence
    said = [reading.sentence for reading in (*given.values(), few)]
    assert len(set(said)) == 4 and all(sentence.endswith(".") for sentence in said)
    assert not re.search(r"\d{2}|\d\.\d", "".join(said[:3])), "a sentence holds no number of its own"


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.short)
def test_an_answer_names_a_measure_a_claim_and_a_page(answer):
    assert answer.measure in discussion.MEASURES and claims.claim(answer.claim) and answer.expected in (-1, 1)
    assert answer.measure == answer.claim or answer.measure not in verdicts.MEASURES
    pages = re.findall(r"\{doc\}`(\w+)`", answer.where)
    assert all((BOOK / f"{page}.ipynb").exists() for page in pages) and (pages or "{ref}" in answer.where)


def test_touching_the_boundary_decides_nothing_and_more_seeds_are_counted():
    answer = next(own for own in ANSWERS if own.boundary == 0)
    own = dataclasses.replace(measured(answer, 0).verdict, estimate=0.5, low=0.0, high=1.0)
    reading = discussion.Reading(answer, own)
    assert reading.outcome == UNCLEAR and reading.more_seeds == 6
    wide = discussion.Reading(answer, dataclasses.replace(own, estimate=0.5, low=-1.5, high=2.5))
    assert wide.more_seeds == 5 * 16 + 1
    assert discussion.Reading(answer, dataclasses.replace(own, estimate=0.0, low=-1.0)).more_seeds is None
    assert measured(answer, +1).more_seeds is None


def test_the_figure_places_a_row_by_its_boundary_and_side():
    down = next(own for own in ANSWERS if own.expected < 0 and own.boundary == 0)
    estimate, low, high = discussion.placed(measured(down, +1))
    assert 0 < low < estimate < high == 1
    ratio = next(own for own in ANSWERS if own.ratio)
    own = dataclasses.replace(measured(ratio, +1).verdict, estimate=2.0, low=0.5, high=8.0)
    assert discussion.placed(discussion.Reading(ratio, own)) == pytest.approx((1 / 3, -1 / 3, 1.0))


@pytest.mark.parametrize("found", [everything(+1), everything(-1), everything(0), everything(+1, n=1)])
def test_figure_table_and_paragraphs_take_every_outcome(found):
    figure = discussion.forest(found)
    assert style.svg(figure) and all(answer.short in figure.get_label() for answer in ANSWERS)
    lines = discussion.table(found).splitlines()
    assert len(lines) == 2 + len(ANSWERS) and len({line.count(" | ") for line in lines}) == 1
    for name, own in found.items():
        assert discussion.paragraph(found, name).count("\n- ") == len(own) - 1


def test_untested_sentences_come_last():
    found = everything(+1)
    name = POINTS[0].name
    found[name][0] = measured(POINTS[0].answers[0], +1, n=1)
    said = discussion.paragraph(found, name).splitlines()
    assert said[-1].startswith("- Too few runs") and not said[0].startswith("- Too few")


def test_what_is_open_has_a_way_to_close_it():
    assert discussion.left_open(everything(+1), {}, "small") == "Every quantity above lies on one side of its boundary."
    text = discussion.left_open(everything(+1, n=0), {}, "small")
    assert text.count("\n- ") == len(ANSWERS) - 1
    assert "`python -m nas_core.lab run corrected_darts_bilevel_same --scale small --seeds 0-4` (and `" in text
    assert "See {doc}`A_evolution` for the runs" in text, "where the runs are not known beforehand"
    undecided = discussion.left_open(everything(0), {}, "small")
    assert undecided.count("undecided") == len(ANSWERS) and "points of the diagram would" in undecided
    far = {"x": [measured(ANSWERS[1], 0)]}
    far["x"][0] = dataclasses.replace(far["x"][0], verdict=dataclasses.replace(far["x"][0].verdict, estimate=1e-4))
    assert "No reasonable number of seeds" in discussion.left_open(far, {}, "small")


def test_labels_that_a_measure_needs_have_recipes():
    assert {label for own in discussion.NEEDS.values() for label in own} <= set(verdicts.RECIPES)
    assert set(discussion.NEEDS) <= set(discussion.MEASURES)


def test_nothing_recorded_leaves_everything_untested():
    found = discussion.readings({})
    assert {reading.outcome for own in found.values() for reading in own} == {UNTESTED}


@pytest.mark.parametrize(("same", "held_out", "outcome"), [(5, 1, SHOWN), (1, 5, OPPOSITE), (3, 3, UNCLEAR)])
def test_own_images_against_held_out_ones(same, held_out, outcome):
    (answer,) = (own for own in ANSWERS if own.measure == "own images")
    reading = discussion.read(answer, {BILEVEL_SAME: runs(5, kept=same), BILEVEL: runs(5, kept=held_out)})
    assert (reading.outcome, reading.verdict.estimate) == (outcome, same - held_out)


@pytest.mark.parametrize(("apart", "outcome"), [(0.3, SHOWN), (-0.3, OPPOSITE)])
def test_augmented_against_plain_images(monkeypatch, apart, outcome):
    jitter = 0.01 * np.arange(5)
    monkeypatch.setattr(cost_measures, "sums_at_rest", lambda group: (apart + jitter, np.zeros(5)))
    (answer,) = (own for own in ANSWERS if own.measure == "augmented")
    assert discussion.read(answer, {cost_measures.TRAINED: runs(5)}).outcome == outcome


@pytest.mark.parametrize(("change", "outcome"), [(-0.1, SHOWN), (0.1, OPPOSITE)])
def test_the_interaction_is_read_from_the_factorial(monkeypatch, change, outcome):
    effect = {"interaction of fixing and removing": change + 0.001 * np.arange(5)}
    monkeypatch.setattr(edge_measures, "factorial", lambda results: effect)
    (answer,) = (own for own in ANSWERS if own.measure == "fixing")
    assert discussion.read(answer, {label: runs(5) for label in edge_measures.FACTORS.values()}).outcome == outcome


class Ratio:
    def ratio(self, alpha, noise):
        return alpha


@pytest.mark.parametrize(("way", "outcome"), [(+1, SHOWN), (-1, OPPOSITE)])
def test_speed_is_a_rank_correlation_over_points(monkeypatch, way, outcome):
    points = {(float(alpha), 1.0): runs(2) for alpha in range(1, 9)}
    shares = iter(way * np.arange(8.0))
    monkeypatch.setattr(discussion.sweeps, "grid", lambda results: points)
    monkeypatch.setattr(discussion.sweeps, "phases", lambda given: {1.0: Ratio()})
    monkeypatch.setattr(discussion.sweeps, "dropped", lambda group: next(shares))
    (answer,) = (own for own in ANSWERS if own.measure == "speed")
    reading = discussion.read(answer, {})
    assert (reading.outcome, reading.verdict.n) == (outcome, 8) and abs(reading.verdict.estimate) > 0.99


def test_speed_needs_points_that_differ(monkeypatch):
    with pytest.raises(CannotTell, match=f"Of {len(PHASE)} points"):
        discussion.speed({})
    monkeypatch.setattr(discussion.sweeps, "grid", lambda results: {(float(a), 1.0): runs(2) for a in range(5)})
    monkeypatch.setattr(discussion.sweeps, "phases", lambda given: {1.0: Ratio()})
    monkeypatch.setattr(discussion.sweeps, "dropped", lambda group: 0.2)
    with pytest.raises(CannotTell, match="the same at every"):
        discussion.speed({})


# The five sentences of the first page


def judged(direction: str, magnitude: str = REPRODUCED, n: int = 5) -> list[Verdict]:
    return [
        Verdict(own.id, direction, magnitude, n, -0.5, -0.75, -0.25, "edges", "Because.", "small", "digits")
        for own in claims.CLAIMS
    ]


@pytest.mark.parametrize("direction", OUTCOMES)
@pytest.mark.parametrize("magnitude", OUTCOMES)
def test_five_sentences_say_direction_and_magnitude(direction, magnitude):
    said = findings.sentences(judged(direction, magnitude))
    assert len(said) == 5 and all(sentence.endswith(".") for sentence in said)
    numbers = "−0.50 edges [−0.75, −0.25], n = 5 (small, digits)"
    for sentence in said[:3]:
        word = {REPRODUCED: " is reproduced:", PARTLY: " is reproduced in part:", NOT_REPRODUCED: " is not reproduced:",
                NOT_TESTED: " is not tested at this scale: Because."}[direction]  # fmt: skip
        assert word in sentence and (numbers in sentence) == (direction != NOT_TESTED)
        strength = direction in (REPRODUCED, PARTLY)
        assert (findings._STRENGTH[magnitude] in sentence) == strength
    for sentence in said[3:]:
        assert findings._GROUPS[direction] in sentence.lower()
        assert sentence.count("(small, digits)") == (direction != NOT_TESTED)
        weak = direction in (REPRODUCED, PARTLY) and magnitude in (PARTLY, NOT_REPRODUCED)
        assert ("more weakly" in sentence) == weak


def test_sentences_differ_by_direction_and_group_mixed_outcomes():
    every = [findings.sentences(judged(direction))[:3] for direction in OUTCOMES]
    assert len({sentence for said in every for sentence in said}) == 3 * len(OUTCOMES)
    mixed = [own for own in judged(REPRODUCED) if own.claim_id not in ("R1", "B2")]
    mixed.append(dataclasses.replace(judged(NOT_REPRODUCED)[0], claim_id="R1"))
    mixed = [dataclasses.replace(own, scale="tiny") if own.claim_id == "R2" else own for own in mixed]
    last = findings.sentences(mixed)[-1]
    places = [
        last.index(words)
        for words in (
            "It is borne out that inter",
            "; it is not borne out that edges",
            "; it is not tested whether fewer edges",
        )
    ]
    assert places == sorted(places)
    assert last.count("(small, digits)") == 3 and last.count("(tiny, digits)") == 1, (
        "where it differs, each says its own"
    )


def test_no_verdict_is_a_sentence_without_numbers():
    said = findings.sentences([])
    assert all("not tested" in sentence.lower() and "n =" not in sentence for sentence in said)
    assert overview.findings([]).count("1. ") == 5
    alone = dataclasses.replace(judged(REPRODUCED)[0], n=1, low=math.nan, high=math.nan)
    assert "(one seed, no interval)" in findings.pattern(alone)


def test_a_mean_on_the_claimed_side_is_explained_where_the_count_of_frameworks_says_no():
    own = dataclasses.replace(judged(NOT_REPRODUCED)[0], claim_id="P2", n=5, estimate=0.3, low=0.2, high=0.4)
    assert "the claimed side all the same" in findings.pattern(own)
    others = ({"low": -0.1}, {"direction": REPRODUCED}, {"claim_id": "P3"}, {"n": 1})
    assert not any("the claimed side" in findings.pattern(dataclasses.replace(own, **change)) for change in others)


# Glossary


def entries() -> dict[str, str]:
    text = (BOOK / "glossary.md").read_text(encoding="utf-8").split("```{glossary}\n")[1].split("```")[0]
    found, waiting = {}, []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        waiting = [line for line in lines if not line.startswith("  ")]
        found |= dict.fromkeys(waiting, " ".join(line.strip() for line in lines[len(waiting) :]))
    return found


def test_glossary_is_short_sorted_and_linked():
    found = entries()
    alone = [term for term in found if term != "STALE"]  # which shares the entry of FRESH
    assert len(alone) >= 35 and alone == sorted(alone, key=str.lower)
    for term, words in found.items():
        assert re.search(r"\{(doc|eq|numref|prf:ref)\}`", words), f"{term} has no link"
        assert 1 <= len(re.findall(r"\.(?:\s|$)", words)) <= 3, term
        for page in re.findall(r"\{doc\}`(\w+)`", words):
            assert any((BOOK / f"{page}.{ending}").exists() for ending in ("ipynb", "md")), page


@pytest.mark.parametrize("name", ["index.md", "06_discussion.ipynb", "glossary.md"])
def test_terms_in_use_are_in_the_glossary(name):
    used = set(re.findall(r"\{term\}`([^`]+)`", (BOOK / name).read_text(encoding="utf-8")))
    assert used and used <= set(entries())


def test_reporting_table_names_properties_that_there_are():
    table = (
        (BOOK / "06_discussion.ipynb").read_text(encoding="utf-8").split("| report | because")[1].split("## What")[0]
    )
    named = {name for name in re.findall(r"(?<!\})`([a-z_]+)`", table)}
    assert {"lowest", "p_width", "cost_map"} <= named and all(hasattr(Measures, name) for name in named)


def test_the_source_line_counts_runs_and_recipes():
    words = discussion.source({"a": runs(5), "b": runs(3, scale="tiny", dataset="digits", recipe="other")})
    assert (
        words
        == "Data: 8 recorded runs of 2 recipes; scale small, tiny; cifar10-jpeg, digits. {doc}`results` lists them."
    )
    assert discussion.source({}) == "No run behind these rows is recorded."


def test_a_number_on_the_right_side_does_not_hide_that_parts_of_its_claim_fail():
    answer = next(own for point in POINTS for own in point.answers if own.measure == "B1")
    for direction, words in (("partly", "B1 with all its parts is shown in part."), ("reproduced", "")):
        own = Verdict("B1", direction, direction, 5, -2.0, -3.0, -1.0, "edges", "", "small", "digits")
        reading = discussion.Reading(answer, own)
        assert reading.outcome == "shown" and reading.reservation == words
        assert reading.sentence.startswith("On average over the recorded relaxations") and reading.sentence.endswith(
            words
        )
