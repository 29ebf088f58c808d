"""Claims are complete, and verdicts follow the numbers: each measure is shown data that should flip it."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from nas_core.pages import alone_measures, bilevel_measures, claims, evidence, tables, verdicts
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, OUTCOMES, PARTLY, REPRODUCED
from tests.synthetic import result, runs

CHECKLIST = set(
    "P1 P2 P3 P-univ U-DARTS U-SNAS U-DSNAS U-Proxyless H1 H2 M-last T1 C1.1 C1.2 T2 D-dyn R1 R2 R2-ctrl R3 R4 "
    "G-topk N-affine N-IN S-order B1 B2 B3 B4 B5 B6 B7".split()
)

BOOK = Path(__file__).parents[1] / "book"


def as_the_paper(**both) -> dict:
    """Bi-level runs that keep one edge, and other runs that drop all and recover four."""
    dropped = {"kept": 1} | both
    others = {"kept": 4, "low": 0, "held_cost": (0.4, -0.5)} | both
    given = {
        verdicts.BILEVEL: runs(5, **dropped),
        verdicts.SINGLE: runs(5, **others),
        verdicts.SINGLE_HELD_OUT: runs(5, **dropped),
        verdicts.BILEVEL_SAME: runs(5, **others),
        verdicts.SAMPLED: runs(5, **others),
        "digits, no noise": with_gap(runs(5, **({"kept": 5, "held_cost": (0.1, -0.5)} | both)), 0.02),
        "digits, 20 % noise": with_gap(runs(5, **({"kept": 3, "held_cost": (0.1, 0.1)} | both)), 0.15),
        "digits, 40 % noise": with_gap(runs(5, **({"kept": 1, "held_cost": (0.1, 0.5)} | both)), 0.3),
    }
    return given


def with_gap(group: list, gap: float) -> list:
    """The same runs with this generalisation gap at the end, give or take a little: a setting of its own."""
    for run in group:
        run.meta["ident"] = f"gap {gap}"
        run.arrays["accuracy"][-1] = (0.5 + gap + 0.001 * run.meta["seed"], 0.5)
    return group


def outcome(claim_id: str, results: dict) -> tuple[str, str]:
    verdict = verdicts.judge(claim_id, results)
    return verdict.direction, verdict.magnitude


def test_every_claim_of_the_checklist_is_there_once():
    ids = [own.id for own in claims.CLAIMS]
    assert len(ids) == len(set(ids)) and set(ids) == CHECKLIST
    assert all(own.where and own.statement and own.measured_as for own in claims.CLAIMS)


@pytest.mark.parametrize("claim_id", ["P2", "P3", "T2", "D-dyn", "R4"])
def test_data_as_in_the_paper_reproduce_it(claim_id):
    assert outcome(claim_id, as_the_paper()) == (REPRODUCED, REPRODUCED)


@pytest.mark.parametrize(
    ("claim_id", "dials", "expected"),
    [
        ("T2", {"train_cost": (0.4, 0.1)}, (PARTLY, REPRODUCED)),  # falls, but never turns negative
        ("T2", {"train_cost": (-0.4, 0.6)}, (NOT_REPRODUCED, NOT_REPRODUCED)),
    ],
)
def test_other_data_do_not(claim_id, dials, expected):
    assert outcome(claim_id, as_the_paper(**dials)) == expected


def test_catastrophe_needs_fewer_edges_than_the_control_and_grades_how_many_are_left():
    def verdict(kept, control):
        given = {"bi-level": runs(5, kept=kept, noise=0.1), "single-level": runs(5, kept=control)}
        return outcome("P3", given)

    assert verdict(0, 4) == (REPRODUCED, REPRODUCED)
    assert verdict(1, 4) == (REPRODUCED, REPRODUCED)
    assert verdict(2, 4) == (REPRODUCED, PARTLY)
    assert verdict(3, 4) == (REPRODUCED, NOT_REPRODUCED)
    assert verdict(1, 1) == (NOT_REPRODUCED, NOT_REPRODUCED)
    assert verdict(4, 1) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_catastrophe_is_paired_by_seed_whatever_the_order():
    control = [result(seed, kept=kept) for seed, kept in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (9, 5)]]
    bilevel = [result(seed, kept=kept) for seed, kept in [(4, 4), (3, 3), (2, 2), (1, 1), (0, 0), (8, 0)]]
    verdict = verdicts.judge("P3", {"bi-level": bilevel, "single-level": control})
    # Every common seed has exactly one edge fewer: only pairing sees that, the counts themselves overlap.
    assert (verdict.n, verdict.estimate, verdict.low, verdict.high) == (5, -1, -1, -1)
    assert verdict.direction == REPRODUCED
    alone = verdicts.judge("P3", {"bi-level": runs(3), "single-level": runs(3, first=10)})
    assert alone.direction == NOT_TESTED and "no seed in common" in alone.sentence


def test_differences_that_are_noise_are_not_reproduced():
    mixed = [result(seed, kept=kept) for seed, kept in enumerate([1, 3, 2, 4, 2])]
    same = [result(seed, kept=kept) for seed, kept in enumerate([2, 2, 3, 3, 3])]
    verdict = verdicts.judge("P3", {"bi-level": mixed, "single-level": same})
    assert verdict.low < 0 < verdict.high and verdict.estimate < 0 and verdict.direction == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("dials", "expected"),
    [
        ({"held_cost": (0.4, 0.4)}, (PARTLY, REPRODUCED)),  # positive, but does not rise
        ({"held_cost": (0.4, -0.6)}, (PARTLY, NOT_REPRODUCED)),  # it falls and stays below zero
        ({"train_cost": (0.4, 0.9)}, (REPRODUCED, REPRODUCED)),  # the control is not part of the claim
        ({"wrong": (-1.0, -0.5)}, (PARTLY, REPRODUCED)),
        ({"wrong": (1.0, 0.5)}, (PARTLY, REPRODUCED)),
        (
            {"held_cost": (0.4, -0.6), "train_cost": (0.4, 0.9), "wrong": (-1.0, 0.5)},
            (NOT_REPRODUCED, NOT_REPRODUCED),
        ),
    ],
)
def test_false_confidence_is_four_statements(dials, expected):
    assert outcome("R4", as_the_paper(**dials)) == expected


@pytest.mark.parametrize("walk", [False, True])
def test_a_curve_of_noise_rarely_rises_from_its_minimum(walk):
    curves = np.random.default_rng(0).normal(size=(600, 5, 30))  # experiments, seeds, epochs
    curves = curves.cumsum(axis=-1) if walk else curves
    found = [evidence.sign(own[:, -1] - evidence.lowest_of(own), +1) == REPRODUCED for own in curves]
    assert 0.01 < np.mean(found) < 0.09
    naive = [evidence.sign(own[:, -1] - own.min(axis=1), +1) == REPRODUCED for own in curves]
    assert np.mean(naive) > 0.3, "what is avoided"


def test_the_test_errs_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [evidence.sign(rng.normal(size=5), +1) == REPRODUCED for _ in range(2000)]
    assert 0.015 < np.mean(found) < 0.035  # one side of a 95 % interval


def test_no_held_out_images_leave_held_out_claims_untested():
    verdict = verdicts.judge("R4", as_the_paper(held_out=False))
    assert (verdict.direction, verdict.n) == (NOT_TESTED, 0) and "held-out" in verdict.sentence
    assert outcome("T2", as_the_paper(held_out=False)) == (REPRODUCED, REPRODUCED)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("claim_id", sorted(bilevel_measures.MEASURES))
def test_fewer_than_five_seeds_test_nothing(claim_id, count):
    given = {label: group[:count] for label, group in as_the_paper().items()}
    verdict = verdicts.judge(claim_id, given)
    assert (verdict.direction, verdict.magnitude, verdict.n) == (NOT_TESTED, NOT_TESTED, count)
    assert math.isfinite(verdict.estimate)
    assert ("One seed, no interval" if count == 1 else "4 seeds are too few") in verdict.sentence
    assert math.isnan(verdict.low) == (count == 1)


def test_fixed_alpha_runs_are_preferred_where_the_paper_fixes_alpha():
    given = as_the_paper()
    assert outcome("T2", given) == (REPRODUCED, REPRODUCED)
    opposite = given | {"fixed-alpha": runs(5, train_cost=(-0.4, 0.6))}
    assert outcome("T2", opposite) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_dynamics_compares_edges_with_the_output():
    given = {"single-level": runs(5)}
    for run in given["single-level"]:
        run.arrays["edge_cost"][:, 0, -1, 0] += 0.5  # a constant offset: same changes, other values
    assert outcome("D-dyn", given) == (REPRODUCED, PARTLY)
    for run in given["single-level"]:
        run.arrays["edge_cost"][:, 0] *= -1
    assert outcome("D-dyn", given) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_crossed_switches_tell_images_from_the_order_of_steps():
    given = as_the_paper()
    assert outcome("B1", given) == (REPRODUCED, REPRODUCED)
    assert "changes it by 0.00" in verdicts.judge("B1", given).sentence
    order = given | {
        verdicts.SINGLE_HELD_OUT: given[verdicts.SINGLE],  # held-out images alone drop nothing,
        verdicts.BILEVEL_SAME: given[verdicts.BILEVEL],  # the order of steps drops all the same
    }
    assert outcome("B1", order) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_edges_must_fall_as_the_gap_widens_over_settings():
    given = as_the_paper()
    assert outcome("B2", given) == (REPRODUCED, REPRODUCED)
    quiet, some, noisy = "digits, no noise", "digits, 20 % noise", "digits, 40 % noise"
    rare = {label: given[label] for label in (quiet, noisy)}
    assert outcome("B2", rare) == (NOT_TESTED, NOT_TESTED), "two settings always correlate"
    turned = {quiet: with_gap(given[quiet], 0.4), some: given[some], noisy: with_gap(given[noisy], 0.01)}
    assert outcome("B2", turned) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_held_out_images_like_training_images_reproduce_no_false_confidence():
    same = {"held_cost": (0.4, -0.6), "train_cost": (0.4, -0.6), "wrong": (0.0, 0.0)}
    assert outcome("R4", as_the_paper(**same)) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_claims_without_a_measure_or_runs_are_not_tested():
    assert all(verdict.direction == NOT_TESTED and verdict.n == 0 for verdict in verdicts.judge_all({}))
    found = verdicts.judge_all(as_the_paper())
    assert [verdict.claim_id for verdict in found] == [own.id for own in claims.CLAIMS]
    judged = {verdict.claim_id for verdict in found if verdict.n}
    assert set(bilevel_measures.MEASURES) | {"P1", "P2"} <= judged <= set(verdicts.MEASURES)
    with pytest.raises(ValueError, match="no claim 'P9'"):
        verdicts.judge("P9", {})


def test_verdict_carries_scale_dataset_and_number():
    verdict = verdicts.judge("P3", as_the_paper())
    assert (verdict.n, verdict.scale, verdict.dataset, verdict.unit) == (5, "small", "cifar10-jpeg", "edges")
    assert verdict.estimate_words == "−3.00 edges [−3.00, −3.00], n = 5"
    alone = {verdicts.BILEVEL: runs(1, kept=1), verdicts.SINGLE: runs(1, kept=4)}
    assert verdicts.judge("P3", alone).estimate_words == "−3.00 edges (one seed, no interval)"
    assert claims.untested("P3", "").estimate_words == ""


def test_verdict_refuses_an_unknown_outcome_or_claim():
    with pytest.raises(ValueError, match="direction is 'sure'"):
        claims.Verdict("P3", "sure", PARTLY, 1, 0, 0, 0, "", "", "", "")
    with pytest.raises(ValueError, match="no claim"):
        claims.Verdict("P33", PARTLY, PARTLY, 1, 0, 0, 0, "", "", "", "")


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of every row of the first page's table, by claim."""
    lines = text.splitlines()[2:]
    found = {line.split("**")[1]: [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines}
    assert len(found) == len(lines)
    return found


def test_table_has_a_row_for_every_claim():
    found = rows_of(claims.table(verdicts.judge_all(as_the_paper())))
    assert set(found) == CHECKLIST and {len(cells) for cells in found.values()} == {6}
    own = found["P3"]
    assert own[4].count('<span class="verdict reproduced">reproduced</span>') == 2 and own[3] == "5; small"
    assert "its single-level control: **−3.00 edges [−3.00,\N{NO-BREAK SPACE}−3.00]**" in own[2]
    assert found["B1"][4].count('<span class="verdict reproduced">shown</span>') == 2
    assert found["S-order"][3] == "–" and found["S-order"][4].count("not tested at this scale") == 1
    empty = rows_of(claims.table(verdicts.judge_all({})))  # a verdict that says "nothing measured" is none
    assert empty == rows_of(claims.table([])) and all("**" not in cells[2] for cells in empty.values())


def test_a_residual_stands_in_the_row_of_its_identity():
    own = claims.Verdict("U-SNAS", REPRODUCED, PARTLY, 20, *(math.nan,) * 3, "", "It holds.", "", "")
    cells = rows_of(claims.table([own], {"U-SNAS": "residual of nothing"}))["U-SNAS"]
    assert cells[2] == "the formula against autograd: **residual of nothing**" and cells[3] == "20"


def test_every_row_links_to_a_label_that_the_book_has():
    text = "".join(path.read_text(encoding="utf-8") for path in BOOK.glob("*.ipynb"))
    for own in claims.CLAIMS:
        kind, _, name = own.figure.rpartition(":")
        there = {"": f'"name": "{name}"', "ref": f"({name})="}.get(kind)
        assert (there in text) if there else (BOOK / f"{name}.ipynb").exists(), own.figure
        assert own.figure in claims.table([]).replace("table <", f"{kind}:")


def test_what_goes_beyond_the_paper_is_a_statement_that_can_be_shown():
    for own in claims.CLAIMS:
        assert own.statement.endswith(".") and "?" not in own.statement
        words = {own.word(outcome) for outcome in OUTCOMES}
        assert len(words) == 4 and ("reproduced" in words) == (own.where != "beyond")


@pytest.mark.parametrize(("claim_id", "bounds"), [("P2", (-1.0, 1.0)), ("B4", (0.0, 1.0)), ("P3", (-9.0, 9.0))])
def test_an_interval_is_cut_to_what_the_number_can_be(claim_id, bounds):
    verdict = claims.Verdict(claim_id, PARTLY, PARTLY, 5, 0.5, -9.0, 9.0, "", "", "tiny", "digits")
    assert verdict.bounds == bounds and (verdict.low, verdict.high) == (-9.0, 9.0)
    words = ", ".join(map(claims.number, bounds))
    assert verdict.estimate_words == f"0.50 [{words}], n = 5" and verdict.interval_words == f"0.50 [{words}]"


def test_an_interval_and_a_count_are_not_broken_over_lines():
    gap = "\N{NO-BREAK SPACE}"
    assert claims.unbroken("1 [−0.1, 2], n = 5 of [a, b, c]") == f"1 [−0.1,{gap}2], n{gap}={gap}5 of [a, b, c]"
    assert claims.unbroken("63 %, not % alone") == f"63{gap}%, not % alone"


@pytest.mark.parametrize(
    ("direction", "magnitude", "kind"),
    [
        (REPRODUCED, REPRODUCED, "reproduced"),
        (REPRODUCED, PARTLY, "partly"),
        (REPRODUCED, NOT_REPRODUCED, "partly"),
        (REPRODUCED, NOT_TESTED, "reproduced"),
        (PARTLY, PARTLY, "partly"),
        (NOT_REPRODUCED, PARTLY, "not-reproduced"),
        (NOT_TESTED, PARTLY, "untested"),
    ],
)
def test_box_has_its_class_and_escapes_its_text(direction, magnitude, kind):
    verdict = claims.Verdict("H1", direction, magnitude, 5, 0.05, 0.01, 0.09, "", "a < b & *none*", "tiny", "digits")
    markup = claims.box(verdict)
    assert markup.startswith(f'<div class="verdict {kind}"') and "a &lt; b &amp; <em>none</em>" in markup
    words = f"before training: {claims.unbroken('0.050 [0.010, 0.090], n = 5')}. Scale tiny, digits.</small>"
    assert words in markup and "(Section 5.1)" in markup
    assert f"Direction: <strong>{direction}</strong>. Magnitude: <strong>{magnitude}</strong>." in markup
    assert "(beyond the paper)" in claims.box(claims.untested("B1", ""))
    assert "Direction: <strong>not shown</strong>" in claims.box(
        dataclasses.replace(verdict, claim_id="B1", direction=NOT_REPRODUCED)
    )


def test_a_box_about_a_part_of_a_claim_names_it_and_its_number():
    whole = claims.Verdict("B7", REPRODUCED, REPRODUCED, 5, 0.05, 0.01, 0.09, "", "", "tiny", "digits")
    part = dataclasses.replace(whole, part="random reward", measured="fall of something")
    assert "<strong>B7</strong>" in claims.box(whole) and claims.claim("B7").measured_as in claims.box(whole)
    assert "<strong>B7, random reward</strong>" in claims.box(part)
    assert "Measured: fall of something: " in claims.box(part) and claims.claim("B7").measured_as not in claims.box(
        part
    )


def test_records_are_json_without_nan():
    rows = claims.records(verdicts.judge_all(as_the_paper()))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    by_id = {row["claim_id"]: row for row in rows}
    assert by_id["S-order"]["estimate"] is None and by_id["P3"]["estimate"] == -3


def test_every_claim_has_a_measure_or_a_page_that_judges_it():
    assert set(verdicts.MEASURES) | set(claims.IDENTITIES) == CHECKLIST
    labels = [label for part in verdicts.PARTS for label in part.RECIPES]
    assert len(labels) == len(set(labels)), "a label stands for one recipe"


def alone(wide: float, deep: float) -> dict:
    """Cells trained alone that end with these accuracies on images never trained on."""
    given = {}
    for label, right in ((alone_measures.WIDE, wide), (alone_measures.DEEP, deep)):
        given[label] = runs(5)
        for run in given[label]:
            run.arrays["accuracy"][-1] = (0.8, right + 0.001 * run.meta["seed"])
    return given


@pytest.mark.parametrize(
    ("wide", "deep", "expected"),
    [
        (0.5, 0.4, (REPRODUCED, REPRODUCED)),
        (0.5, 0.495, (REPRODUCED, NOT_REPRODUCED)),
        (0.4, 0.5, (NOT_REPRODUCED, NOT_REPRODUCED)),
    ],
)
def test_the_discarded_wiring_is_judged_on_images_never_trained_on(wide, deep, expected):
    given = alone(wide, deep)
    assert outcome("B6", given) == expected
    assert len(alone_measures.table(given).splitlines()) == 4


def test_controls_say_what_is_recorded_and_what_is_not(monkeypatch):
    def measure(direction):
        return lambda results: claims.Verdict("B7", direction, PARTLY, 5, 1.0, 0.5, 1.5, "x", "It holds.", "small", "d")

    def missing(results):
        raise evidence.CannotTell("No runs.")

    monkeypatch.setattr(
        verdicts, "CONTROLS", {"one": measure(REPRODUCED), "two": missing, "three": measure(NOT_TESTED)}
    )
    verdict = verdicts.judge("B7", {})
    assert (verdict.direction, verdict.magnitude, verdict.n) == (REPRODUCED, PARTLY, 5)
    assert verdict.sentence.startswith("*One* (shown): It holds. *Three* (not tested")
    assert verdict.sentence.endswith("The runs here do not judge *two*.")
    monkeypatch.setattr(verdicts, "CONTROLS", {"one": missing})
    alone = verdicts.judge("B7", {})
    assert (alone.direction, alone.sentence) == (NOT_TESTED, "*One*: No runs.")


def test_a_table_keeps_an_interval_and_its_n_together():
    line = tables.markdown(["a", "b"], [["one", "0.40 [0.31, 0.51], n = 5"]]).splitlines()[-1]
    assert line == "| one | 0.40 [0.31,\xa00.51], n\xa0=\xa05 |"


def test_what_is_small_is_not_nothing():
    assert [evidence.percent(share) for share in (0.0, 0.00023, 0.4, 1.0)] == ["0 %", "0.023 %", "40 %", "100 %"]
