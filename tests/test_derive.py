"""Derivation rules and the measures of growth, width and depth."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_core.derive import (
    RULES,
    Growth,
    Shape,
    budget_rule,
    chance_shape,
    darts_rule,
    genotype,
    growth,
    likeliest,
    mass,
    node_softmax_rule,
    project,
    shape,
    surviving,
    threshold_rule,
)
from nas_core.space import NONE, OPERATIONS, darts, minimal

SEP = OPERATIONS.index("sep_conv_3x3")


def favouring(operations, strength=0.5):
    """``[E, K]`` with the named operation of every edge at ``strength``."""
    rest = (1 - strength) / (len(OPERATIONS) - 1)
    probability = np.full((len(operations), len(OPERATIONS)), rest)
    for edge, operation in enumerate(operations):
        probability[edge, operation] = strength
    return probability


def test_the_paper_s_rule_lets_none_compete_and_the_rule_of_darts_does_not():
    p = favouring([SEP, NONE, 2, NONE, NONE])
    assert likeliest(p) == (SEP, 0, 2, 0, 0)
    p[1, 3] += 0.02  # the strongest of what is left on edge 1
    p[3, 4] += 0.01
    # Node 2 has two edges and keeps both; node 3 keeps its two strongest: edge 2 and then edge 3.
    assert darts_rule(p, minimal()) == (SEP, 3, 2, 4, 0)
    assert darts_rule(p, minimal(), keep=1) == (SEP, 0, 2, 0, 0)


def test_an_edge_of_none_alone_is_never_kept():
    cell = minimal().fix(4, "none")
    p = favouring([1, 1, 1, 1, NONE])
    p[4] = 0
    p[4, NONE] = 1
    assert darts_rule(p, cell, keep=3)[4] == NONE


def test_genotype_names_what_is_left():
    assert genotype((SEP, 0, 0, 0, 1), minimal()) == ((0, 2, "sep_conv_3x3"), (2, 3, "skip_connect"))


@pytest.mark.parametrize(
    "wiring, expected",
    [
        ((1, 1, 1, 1, 0), Shape(2.0, 1)),  # both nodes hang on the inputs alone: as wide as it gets
        ((1, 0, 0, 0, 1), Shape(1.0, 2)),  # a chain
        ((1, 1, 1, 1, 1), Shape(1 + 2 / 3, 2)),
        ((0, 0, 0, 0, 0), Shape(0.0, 0)),
        ((0, 0, 0, 0, 1), Shape(0.0, 0)),  # edge 4 carries zeros: no input reaches it
        ((0, 0, 1, 0, 1), Shape(1.0, 1)),
    ],
)
def test_width_and_depth(wiring, expected):
    assert shape(wiring, minimal()) == expected


def test_depth_of_the_original_cell():
    cell = darts(4)
    chain = tuple(int((e.source, e.target) in {(0, 2), (2, 3), (3, 4), (4, 5)}) for e in cell.edges)
    assert shape(chain, cell) == Shape(1.0, 4)


def test_a_tie_keeps_the_edge():
    assert surviving(np.full((3, 5, 8), 1 / 8)).all()
    assert surviving(favouring([NONE, SEP])).tolist() == [False, True]


def test_growth_dates_drop_and_recovery():
    def history(alive):
        return favouring([SEP if flag else NONE for flag in alive])

    records = np.stack([history(flags) for flags in ([1, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0], [1, 1, 0])])
    assert growth(records) == (Growth(1, 4), Growth(None, None), Growth(1, None))


def masses(values):
    """``[E, K]`` whose edges have these masses 1 − P(none), the rest of it on SEP and a little on the others."""
    probability = np.full((len(values), len(OPERATIONS)), 1e-3)
    probability[:, NONE] = 1 - np.asarray(values)
    probability[:, SEP] = 1 - probability.sum(axis=1) + probability[:, SEP]
    return probability


def test_rules_differ_where_they_say_they_do():
    p = masses([0.9, 0.1, 0.6, 0.45, 0.55])
    assert mass(p) == pytest.approx([0.9, 0.1, 0.6, 0.45, 0.55])
    assert threshold_rule(p) == (SEP, NONE, SEP, NONE, SEP)
    assert threshold_rule(p, 0.4) == (SEP, NONE, SEP, SEP, SEP)
    # Node 2 has a mean of 0.50, node 3 one of 0.53.
    assert node_softmax_rule(p, minimal()) == (SEP, NONE, SEP, NONE, SEP)
    # Two edges a node make a budget of four: the one of the smallest mass is left out.
    assert budget_rule(p, minimal()) == (SEP, NONE, SEP, SEP, SEP)
    assert darts_rule(p, minimal()) == (SEP, SEP, SEP, NONE, SEP)
    # A spread-out edge is kept by the threshold although none is its likeliest operation.
    flat = np.full((5, 8), 0.1)
    flat[:, NONE] = 0.3
    assert likeliest(flat) == (NONE,) * 5 and NONE not in threshold_rule(flat)


def test_a_node_s_edges_share_its_operations_whatever_their_sum():
    high, low = (
        node_softmax_rule(masses(values), minimal())
        for values in ([0.9, 0.8, 0.9, 0.9, 0.5], [0.2, 0.1, 0.2, 0.2, 0.1])
    )
    assert high == low == (SEP, NONE, SEP, SEP, NONE)
    for even in np.linspace(0.05, 0.95, 19):
        assert NONE not in node_softmax_rule(masses([even] * 5), minimal()), "even shares are all kept"


@pytest.mark.parametrize("name", RULES)
def test_no_rule_keeps_an_edge_without_an_operation(name):
    p = masses([0.9, 0.9, 0.9, 0.9, 0.9])
    p[4] = np.eye(8)[NONE]
    assert RULES[name](p, minimal().fix(4, "none"))[4] == NONE


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="share between 0 and 1"):
        threshold_rule(masses([0.5] * 5), 1.0)


@given(arrays(float, st.integers(1, 7), elements=st.floats(0, 1)), st.floats(0, 1))
def test_projection_fills_the_budget_keeps_the_order_and_is_closest(values, share):
    budget = share * len(values)
    x = project(values, budget)
    assert x.min() >= 0 and x.max() <= 1 and x.sum() == pytest.approx(budget, abs=1e-6)
    assert (np.diff(x[np.argsort(values)]) >= -1e-9).all()
    assert project(x, budget) == pytest.approx(x, abs=1e-6)
    even = np.full(len(values), share)  # another point of the set
    assert np.sum((values - x) ** 2) <= np.sum((values - even) ** 2) + 1e-9
    assert (values - x) @ (even - x) <= 1e-6, "the optimality condition of a projection onto a convex set"


def test_a_budget_beyond_the_edges_is_refused():
    with pytest.raises(ValueError, match="0 to the 5 edges"):
        project(np.full(5, 0.5), 6)


def test_chance_shape_is_the_mean_over_all_choices():
    cell = minimal()
    assert chance_shape(0, cell) == (0.0, 0.0)
    assert chance_shape(5, cell) == (shape((1,) * 5, cell).width, 2.0)
    pairs = [shape(tuple(int(e in pair) for e in range(5)), cell) for pair in itertools.combinations(range(5), 2)]
    assert chance_shape(2, cell) == pytest.approx(
        (np.mean([s.width for s in pairs]), np.mean([s.depth for s in pairs]))
    )
    with pytest.raises(ValueError, match="has 5"):
        chance_shape(6, cell)
