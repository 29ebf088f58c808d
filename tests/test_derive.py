"""Derivation rules and the measures of growth, width and depth."""

import numpy as np
import pytest

from nas_core.derive import Growth, Shape, darts_rule, genotype, growth, likeliest, shape, surviving
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
