"""The pages of Section 5.2 and Appendices D to F: what is drawn, what is tabled, and how verdicts fall."""

from dataclasses import replace

import numpy as np
import pytest

from nas_core import theory
from nas_core.pages import assignment, assignment_drawings, assignment_figures, drawing, figure_data
from nas_core.pages.claims import NOT_REPRODUCED, PARTLY, REPRODUCED
from nas_core.space import OPERATIONS, darts, minimal, modified
from nas_core.supernet import NetworkConfig
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def case():
    return assignment.case(0)


@pytest.fixture(scope="module")
def fed(case):
    return case.drawn(3, 0, assignment.feeding())


def test_gradient_reaches_an_edge_by_every_output_edge_behind_it_and_cost_by_its_own():
    cell = minimal()
    reach = [assignment_drawings.reaching(cell, edge, absorbed=False) for edge in range(5)]
    assert reach == [(2, 3), (2, 3), (3,), (3,), (3,)]
    assert [assignment_drawings.reaching(cell, edge, absorbed=True) for edge in range(5)] == [(2,)] * 2 + [(3,)] * 3


def test_a_node_that_is_no_output_gets_no_cost_of_its_own():
    cell = modified()
    into_one = next(edge for edge, own in enumerate(cell.edges) if own.target not in cell.outputs)
    assert assignment_drawings.reaching(cell, into_one, absorbed=True) == ()
    assert assignment_drawings.reaching(cell, into_one, absorbed=False) == cell.outputs


def test_restricted_draws_feed_the_node_or_skip(case, fed):
    for seen in fed:
        names = [OPERATIONS[k] for k in seen.z[0].argmax(-1)]
        assert "none" not in names and names[4] != "skip_connect"
        assert len(theory.shares(seen)) == 2
    skips = case.drawn(2, 0, assignment.skipping())
    assert {OPERATIONS[seen.z[0, 4].argmax()] for seen in skips} == {"skip_connect"}


def test_training_records_what_the_output_says():
    own = assignment.case(1, cell=minimal().without("skip_connect", assignment.PATH))
    course = assignment.train(own, 6, 1)
    assert course.edge_cost.shape == (6, 1, 5)
    assert np.allclose(course.edge_cost.sum((1, 2)), course.loss - course.entropy, atol=1e-6)
    assert np.allclose(course.averaged(4).loss, course.loss[:4].mean())  # what is left is dropped
    assert assignment.case(1, steps=0).network.head.weight.equal(assignment.case(1).network.head.weight)
    assert not assignment.case(1, steps=1).network.head.weight.equal(assignment.case(1).network.head.weight)


def test_a_study_finds_opposite_shares():
    own = assignment.study([0, 1], 0, 3)
    assert np.allclose(own.first, -own.second, atol=1e-5)
    assert (own.cancel < 1e-5).all() and (own.size > 0.05).all() and (own.skip > 0).all()
    assert "mean share of e0" in assignment.study_table({"untrained": own})


def study(size, skip):
    zeros = np.zeros(6)
    spread = np.linspace(0.99, 1.01, 6)
    return assignment.Study(zeros, zeros, size * spread, zeros, zeros, skip * spread)


HELD, BROKEN = theory.Residual(1e-12, 1e-10, 1.0, 9), theory.Residual(1e-3, 1e-10, 1.0, 9)
TOTALS = assignment.Totals(*(np.full((6, 2), value) for value in (0.0, 0.01, 0.0, 1.0)), np.zeros(6))


@pytest.mark.parametrize(
    "size, skip, nodes, outcome",
    [
        (0.01, 0.01, HELD, (REPRODUCED, REPRODUCED)),
        (0.9, 0.01, HELD, (PARTLY, REPRODUCED)),
        (0.9, 0.3, HELD, (PARTLY, PARTLY)),
        (0.9, 1.2, HELD, (PARTLY, NOT_REPRODUCED)),
        (0.01, 0.01, BROKEN, (NOT_REPRODUCED, NOT_REPRODUCED)),
    ],
)
def test_verdict_on_theorem_1(size, skip, nodes, outcome):
    first, *rest = assignment.verdicts({"now": study(size, skip)}, nodes, TOTALS, {"C1.1": HELD, "C1.2": BROKEN})
    assert (first.claim_id, first.direction, first.magnitude) == ("T1", *outcome)
    assert ("Per edge it does not" in first.sentence) == (outcome[0] != REPRODUCED)
    assert [(own.claim_id, own.direction) for own in rest] == [("C1.1", REPRODUCED), ("C1.2", NOT_REPRODUCED)]


def test_verdict_on_corollary_1_2_leaves_the_last_cell_out():
    skips = replace(TOTALS, skip=np.tile([0.01, 0.9], (6, 1)))
    inner, every = assignment.corollary("C1.2", skips, HELD), assignment.corollary("C1.1", skips, HELD)
    assert (inner.direction, inner.magnitude) == (REPRODUCED, REPRODUCED)
    assert inner.estimate == pytest.approx(0.01) and every.estimate == pytest.approx(0.455)
    assert assignment.corollary("C1.2", skips, BROKEN).direction == NOT_REPRODUCED


def test_residuals_and_steps_merge_over_traces(fed):
    checks = {"one": theory.node_residual}
    assert assignment.residuals(fed, checks)["one"].cases == len(fed)
    found = assignment.steps(fed, theory.norm_steps)
    assert list(found) == [f"Eq {number}" for number in range(15, 20)]
    assert all(own.held for own in found.values())


def test_tables_say_what_is_held_and_what_is_not(fed):
    wrong = theory.check_wrong(cases=4, seed=0)
    assert "| yes |" not in assignment.rows_table(wrong, ["edge", "plus"])
    printed = assignment.printed_table(fed).splitlines()
    smallest = [float(line.split("|")[3].replace("−", "-")) for line in printed[2:]]
    assert smallest[0] < 1e-10 and smallest[1] > 1e-3
    assert "−" in assignment.lines_table([-1.0, -1.0], ["a", "b"])


def test_bias_table_shows_the_term_that_a_bias_adds():
    seen = assignment.case(0, bias=True).mixture()
    cells = assignment.bias_table({"bias": seen}).splitlines()[2].split("|")
    assert cells[4] == cells[5] and cells[4].strip() != "0" and cells[8].strip() == "yes"


def test_figures_describe_themselves(case, fed):
    pair = assignment.case(0, cells=2).drawn(1, 0, assignment.feeding())[0]
    course = assignment.train(assignment.case(0, cells=2), 6, 0)
    scaling = theory.epsilon_scaling(case.network, case.images, case.labels, fed[0].sample, [1e-4, 1e-6, 1e-8])
    operation = case.network.cells[0].edges[4]["sep_conv_3x3"]
    figures = {
        "three": assignment_drawings.gradient_and_cost(darts(3)),
        "sum -0.0": assignment_drawings.two_cells(pair),
        "8 channels": assignment_drawings.head_drawing(fed[0]),
        "Conv 3×3, then Conv 1×1, then BN": assignment_drawings.operation_stack(operation, "X₂", "X₃²"),
        "3 draws": assignment_figures.shares(fed, assignment.PATH),
        "Slopes": assignment_figures.epsilon_lines([scaling]),
        "2 cells": assignment_figures.stacks({"all": {2: course.edge_cost.sum(-1)}}),
        "uniform sampling": assignment_figures.output_course([course, course], 2),
        "10 classes": assignment_figures.gaussian([0.5, 1.0], 10),
        "0 of them above zero": assignment_figures.image_costs({"untrained": fed[0]}),
    }
    for words, figure in figures.items():
        assert words in figure.get_label() or words == "three"
    assert "e4 (2→3)" in figures["three"].get_label()  # it leads to node 3, which has a path behind it


def test_chapter_names_rows_by_the_words_that_the_table_has():
    words = (ROOT / "book" / "05_cost_assignment.ipynb").read_text(encoding="utf-8")
    for name in ("learned", "skip"):
        assert f'row\\n",\n    "  *{assignment.STUDIED[name]}*' in words or f"row *{assignment.STUDIED[name]}*" in words


def test_initial_costs_are_bars_with_every_run_below_them():
    config = NetworkConfig(minimal(), channels=4)
    own = assignment.case(0)
    initial = theory.initial_costs(config, own.images, own.labels, range(12))
    table = figure_data.read(assignment_figures.initial(initial))
    bars = [row for row in table.rows if row.kind == "bar"]
    assert sum(row.high - row.low for row in bars) == 12
    assert {row.kind for row in table.rows} == {"bar", "span in x"}, "dashes are drawn in the axes' own measure"


def test_a_bar_stops_the_strand_beyond_its_arrow_head():
    figure = assignment_drawings.gradient_and_cost(minimal())
    figure.draw_without_rendering()
    right = figure.axes[1]
    (bar,) = right.lines
    middle = right.transData.transform(bar.get_xydata()).mean(0)
    source = right.transData.transform(drawing.positions(minimal())[2])
    radius = drawing.RADIUS * np.ptp(right.transData.transform([(0, 0), (1, 0)])[:, 0])
    points = 72 / figure.dpi
    assert (np.hypot(*(middle - source)) - radius) * points > 7, "the head is 5 points long"


def test_pools_have_no_v_in_the_drawing(case):
    figure = assignment_drawings.operation_stack(case.network.cells[0].edges[4]["max_pool_3x3"], "X₂", "X₃²")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "v" not in words and "X" in words
