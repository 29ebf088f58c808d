"""Appendix H as the page computes it: the numbers behind its tables, at fixed seeds, and what its figures say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nas_core import theory
from nas_core.operations import ORDERS, Normalization
from nas_core.pages import normalization_figures as norms
from nas_core.pages.claims import NOT_REPRODUCED, PARTLY, REPRODUCED

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def lessons():
    titles = (
        "batch norm",
        "affine layer norm",
        "affine instance norm",
        "instance norm",
        "instance norm, Conv-IN-ReLU",
    )
    return {title: [norms.lesson(norms.SETTINGS[title], 0, 12)] for title in titles}


@pytest.fixture(scope="module")
def kinds():
    return {kind: norms.network_residuals(range(3), kind=kind) for kind in ("layer", "instance")}


def test_every_table_of_residuals_holds_and_says_something():
    for own in (norms.layer_residuals(SEEDS), norms.step_residuals(range(4))):
        assert all(residual.held and residual.cases > 0 and residual.scale > 0 for residual in own.values())
    assert len(norms.layer_residuals(SEEDS)) == len(norms.KINDS)


@pytest.mark.parametrize("order", ORDERS)
def test_theorems_hold_in_every_order(order):
    found = norms.network_residuals(range(4), order=order)
    assert found.keys() == norms.STATEMENTS.keys()
    assert all(own.held and own.cases > 0 for own in found.values())


def test_gamma_may_stand_in_front_only_where_it_is_constant_over_a_group():
    errors = {name: norms.gamma_outside(kind, 0) for name, kind in norms.KINDS.items()}
    assert max(errors["batch"], errors["instance"]) < 1e-12
    assert min(errors["layer"], errors["group"]) > 1e-2
    assert norms.gamma_outside(Normalization("layer"), 0) < 1e-12, "without affine parameters nothing is wrong"


def test_instance_norm_learns_nothing_and_affine_only_class_frequencies(lessons):
    plain, affine, batch = (lessons[title][0] for title in ("instance norm", "affine instance norm", "batch norm"))
    assert plain.before.held and plain.after.held
    assert np.abs(plain.loss - math.log(10)).max() < 1e-6
    assert not affine.after.held and affine.before.cost < 1e-12 < affine.after.cost
    assert affine.spread < 1e-12 and (affine.loss > affine.floor).all() and affine.loss[-1] < affine.loss[0] - 1e-4
    assert batch.spread > 1e-2 and not batch.before.held
    assert lessons["instance norm, Conv-IN-ReLU"][0].spread > 1e-6, "a ReLU last makes means that differ"


def test_tables_of_lessons(lessons):
    nothing, learned = norms.nothing_table(lessons), norms.learning_table(lessons)
    assert [line.endswith("| yes |") for line in nothing.splitlines()[2:]].count(True) == 2
    assert len(learned.splitlines()) == 2 + len(lessons)
    assert "ln 10" in nothing and "-0" not in nothing


def test_learning_figure_names_every_network(lessons):
    figure = norms.learning(lessons)
    assert all(title in figure.get_label() for title in lessons)
    assert len(figure.axes[0].lines) == len(lessons) + 2


def test_what_breaks_theorem_1():
    found = norms.breaks((0,))
    medians = {name: {kind: found.median(name, kind) for kind in norms.KINDS} for name in found.ratios}
    for kept in ("normalised", "weight standardisation and normalisation"):
        assert max(medians[kept].values()) < norms.SMALL
    for broken in ("no normalisation", "weight standardisation"):
        assert all(own == pytest.approx(1) for own in medians[broken].values())
    for broken in ("scaled residual", "input-dependent gate", "fixed statistics"):
        assert min(medians[broken].values()) > norms.SMALL
    biased = medians["bias before normalisation"]
    assert max(biased["batch"], biased["instance"]) < norms.SMALL < min(biased["layer"], biased["group"])
    assert norms.breaks_table(found).count("**") == 2 * (5 * len(norms.KINDS) + 2)
    assert "bias before normalisation" in norms.breaks_figure(found).get_label().split("Above")[1]


def test_initial_cost_is_largest_with_relu_last():
    table = norms.start_table(range(8))
    means = [float(line.split("|")[3].replace("−", "-")) for line in table.splitlines()[2:]]
    assert means[2] > 2 * max(means[:2])


def test_verdicts_follow_the_numbers(kinds, lessons):
    affine, instance, order = norms.verdicts(kinds, kinds, lessons)
    assert [own.claim_id for own in (affine, instance, order)] == ["N-affine", "N-IN", "S-order"]
    assert (affine.direction, instance.direction, order.direction) == (PARTLY, REPRODUCED, REPRODUCED)
    assert instance.n == 2 and order.n == sum(own.cases for part in kinds.values() for own in part.values())
    wrong = {name: part | {"Thm 2": theory.Residual(1.0, 1e-9, 1.0)} for name, part in kinds.items()}
    learned = lessons | {"instance norm": lessons["batch norm"]}
    affine, instance, order = norms.verdicts(wrong, wrong, learned)
    assert (affine.direction, instance.direction, order.direction) == (NOT_REPRODUCED,) * 3
    differ = lessons | {"affine instance norm": [replace(lessons["affine instance norm"][0], spread=0.1)]}
    assert norms.verdicts(kinds, kinds, differ)[0].direction == REPRODUCED


def test_what_is_computed_on_the_page_says_n():
    found = norms.lessons(range(2), 1)
    assert "mean of 2 seeds" in norms.lessons_words(found) and f"{norms.IMAGES} images" in norms.lessons_words(found)
    assert "3 seeds" in norms.breaks_words(norms.Breaks({"a": {"batch": [1.0, 2.0, 3.0]}}))
