"""B1 on a page: which combinations there are, the effects of each switch, and the verdict over relaxations."""

import re

import pytest

from nas_core.lab.recipes import RECIPES
from nas_core.pages import crossed, style, verdicts
from nas_core.pages.claims import NOT_REPRODUCED, PARTLY, REPRODUCED, unbroken
from nas_core.pages.evidence import BILEVEL, SINGLE, SINGLE_HELD_OUT
from tests import synthetic


def runs(kept, count=5):
    return synthetic.runs(count, kept=kept)


def six(relaxation, kept, count=5):
    """Runs of a relaxation's combinations: ``kept`` has the edges of each, in the order of levels and images."""
    return {name: runs(edges, count) for name, edges in zip(crossed.recipes(relaxation), kept, strict=True)}


IMAGES, ORDER, FRESH = (5, 5, 1, 5, 5, 1), (5, 5, 5, 1, 1, 1), (5, 1, 1, 5, 1, 1)
"""What held-out images, the order of steps, or any batch but θ's own would do."""


def test_every_combination_has_a_recipe_and_a_label_of_its_own():
    assert len(crossed.EVERY) == 24 and set(crossed.EVERY.values()) <= set(RECIPES)
    assert crossed.label("darts", "bi", "held_out") == BILEVEL
    assert crossed.label("snas", "bi", "held_out") == "corrected_snas_bilevel_held_out"


def test_main_effects_tell_the_switches_apart():
    given = six("darts", IMAGES)
    values = [set(effect(given, "darts").values()) for effect in crossed.EFFECTS.values()]
    assert values == [{-4.0}, {-4.0}, {0.0}, {0.0}]
    values = [set(effect(six("darts", ORDER), "darts").values()) for effect in crossed.EFFECTS.values()]
    assert values == [{0.0}, {0.0}, {0.0}, {-4.0}]
    values = [set(effect(six("darts", FRESH), "darts").values()) for effect in crossed.EFFECTS.values()]
    assert values == [{-4.0}, {0.0}, {-4.0}, {0.0}]
    assert set(crossed.catastrophe(given, "darts").values()) == {-4.0}


def test_effects_are_paired_by_seed_and_need_all_that_they_compare():
    given = six("darts", IMAGES)
    given[SINGLE] = given[SINGLE][2:]
    assert sorted(crossed.images(given, "darts")) == [2, 3, 4]
    del given[SINGLE]
    assert crossed.images(given, "darts") == {} and crossed.images(given, "darts", "train")
    assert crossed.images({}, "darts") == {}


def test_the_verdict_is_over_every_relaxation_that_is_recorded():
    one = verdicts.judge("B1", six("darts", IMAGES))
    assert (one.direction, one.magnitude, one.estimate) == (REPRODUCED, REPRODUCED, -4)
    both = six("darts", IMAGES) | six("snas", ORDER)
    verdict = verdicts.judge("B1", both)
    assert verdict.direction == PARTLY and verdict.estimate == -2 and "in 1 of 2 relaxations" in verdict.sentence
    assert "DARTS: judging" in verdict.sentence and "SNAS: judging" in verdict.sentence
    assert verdicts.judge("B1", six("snas", ORDER)).direction == NOT_REPRODUCED
    assert verdicts.judge("B1", six("snas", FRESH)).direction == PARTLY, "the images matter, not that they are held out"
    partial = {name: own for name, own in six("snas", IMAGES).items() if not name.endswith("single_same")}
    assert verdicts.judge("B1", partial).n == 0


def test_a_relaxation_is_read_at_one_scale():
    small = {name: runs(5) for name in list(crossed.recipes("snas"))[:3]}
    tiny = six("snas", IMAGES) | six("darts", IMAGES)
    merged = crossed.merged(small | six("dsnas", ORDER, 1), tiny)
    assert all(merged[name] is tiny[name] for name in crossed.recipes("snas")), "three of six are no test"
    assert len(merged["corrected_dsnas_single_same"]) == 1 and BILEVEL in merged
    assert crossed.merged({}, {}) == {}


def test_tables_show_what_is_recorded():
    given = six("darts", IMAGES) | {"corrected_snas_single_same": runs(5)}
    lines = crossed.table(given).splitlines()[2:]
    assert len(lines) == 4 and lines[0].count(unbroken("n = 5")) == 3 and lines[2].count("not recorded") == 2
    effects = crossed.effects(given).splitlines()[2:]
    assert unbroken("−4.00 [−4.00, −4.00]") in effects[0] and effects[1].count("–") == 5
    assert "None of these" in crossed.table({}) and "None of these" in crossed.effects({})


def test_the_experiment_that_could_have_refuted_it_says_how_it_came_out():
    assert unbroken("1.00 [1.00, 1.00] edges survive, against 5.00") in crossed.refutation(six("darts", IMAGES))
    assert "the order of steps is not needed for P3" in crossed.refutation(six("darts", IMAGES))
    assert "does not show that held-out images alone suffice" in crossed.refutation(six("darts", ORDER))
    assert "too few seeds" in crossed.refutation(six("darts", IMAGES, 3))
    assert "is not recorded" in crossed.refutation({SINGLE_HELD_OUT: runs(1)})


@pytest.mark.parametrize("count", [5, 1])
def test_the_figure_has_a_panel_a_relaxation(count, recwarn):
    given = six("darts", IMAGES, count) | {"corrected_snas_single_same": runs(5, count)}
    figure = crossed.figure(given)
    markup = style.svg(figure)
    assert not recwarn.list and not re.search(r"\bnan\b", figure.get_label() + markup)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["DARTS", "SNAS"]
    assert "DARTS, bi, held-out images: 1.0 of 5" in figure.get_label()
    assert "recorded" in style.svg(crossed.figure({})) or crossed.figure({}).axes[0].texts


def test_p3_is_read_where_its_two_searches_are():
    """Effects need four combinations at one scale, P3 two of them."""
    tiny, small = six("snas", IMAGES), six("snas", ORDER)
    pair = {
        crossed.label("snas", *own): small[crossed.label("snas", *own)]
        for own in (("bi", "held_out"), ("single", "same"))
    }
    assert crossed.merged(pair, tiny) == tiny
    assert crossed.merged(pair, tiny, measure=crossed.catastrophe) == pair
    assert crossed.merged({}, tiny, measure=crossed.catastrophe) == tiny


def test_the_scale_of_p3_is_that_of_its_runs():
    given = six("dsnas", IMAGES)
    for run in given[crossed.label("dsnas", "bi", "held_out")]:
        run.meta["scale"] = "small"
    assert crossed.scale(given, "dsnas") == "small"


def test_fewer_edges_are_counted_for_the_seeds_that_both_have():
    given = {"one": runs(2), "other": runs(5)[1:]}
    assert crossed.fewer(given, "one", "other") == {seed: -3.0 for seed in (1, 2, 3, 4)}
    assert crossed.fewer(given, "one", "nobody") == {}
