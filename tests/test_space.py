"""Cells as data: the paper's literals, restrictions, and graphs that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_core.space import OPERATIONS, Cell, Edge, SpaceError, darts, minimal, modified, simplified


def pairs(cell):
    return [(edge.source, edge.target) for edge in cell.edges]


def test_the_minimal_cell_is_figure_2():
    cell = minimal()
    assert pairs(cell) == [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    assert [cell.edge_class(e) for e in range(5)] == ["input"] * 4 + ["intermediate"]
    assert cell.outputs == (2, 3)
    assert cell.architectures() == 8**5


def test_the_original_cell_has_the_paper_s_intermediate_edges():
    cell = darts(4)
    assert len(cell.edges) == 14
    # Caption of Fig 12: 4, 7, 8, 11, 12 and 13 are intermediate edges.
    assert [e for e in range(14) if cell.edge_class(e) == "intermediate"] == [4, 7, 8, 11, 12, 13]


def test_the_modified_cell_lacks_one_output_edge():
    assert simplified().outputs == (1, 2) and modified().outputs == (2,)
    assert pairs(simplified()) == pairs(modified()) == [(0, 1), (0, 2), (1, 2)]


def test_restrictions_return_new_cells():
    cell = minimal()
    fixed = cell.fix((2, 3), "sep_conv_5x5")
    assert fixed.edges[4].operations == ("sep_conv_5x5",) and cell.edges[4].operations == OPERATIONS
    assert all("none" not in edge.operations for edge in cell.without("none").edges)
    some = cell.only(("skip_connect", "none"), 0)
    assert some.edges[0].operations == ("none", "skip_connect"), "candidates are kept in the paper's order"
    assert fixed.mask()[4] == tuple(name == "sep_conv_5x5" for name in OPERATIONS)


@pytest.mark.parametrize("cell", [minimal(), simplified(), modified(), darts(3), minimal().without("skip_connect", 2)])
def test_a_cell_survives_its_own_description(cell):
    assert Cell.from_dict(cell.to_dict()) == cell


@pytest.mark.parametrize(
    "inputs, nodes, edges, outputs, reason",
    [
        (1, 1, [(0, 1), (0, 1)], (1,), "twice"),
        (1, 2, [(0, 1), (2, 1)], (1, 2), "smaller to a larger"),
        (1, 2, [(0, 1)], (1,), "no incoming"),
        (1, 2, [(0, 1), (0, 2)], (2,), "leads nowhere"),
        (2, 1, [(0, 1), (0, 2)], (2,), "enters an input node"),
        (1, 1, [(0, 1)], (), "no node is concatenated"),
        (1, 1, [(0, 1)], (0,), "not an intermediate"),
        (1, 1, [(0, 1)], (1, 1), "twice"),
        (3, 1, [(0, 3)], (3,), "input nodes"),
        (1, 0, [], (1,), "at least 1"),
        (1, 1, [(0, 5)], (1,), "between 0 and 1"),
    ],
)
def test_an_impossible_cell_is_refused(inputs, nodes, edges, outputs, reason):
    with pytest.raises(SpaceError, match=reason):
        Cell("bad", inputs, nodes, tuple(Edge(*pair) for pair in edges), outputs)


def test_wrong_edges_and_operations_are_named():
    with pytest.raises(SpaceError, match=r"no edge \(3, 2\).*4: \(2, 3\)"):
        minimal().fix((3, 2), "none")
    with pytest.raises(SpaceError, match="no edge 5"):
        minimal().fix(5, "none")
    with pytest.raises(SpaceError, match="'conv_9x9'.*allowed are none, skip_connect"):
        minimal().fix(0, "conv_9x9")
    with pytest.raises(SpaceError, match="no candidate"):
        minimal().fix(0, "none").without("none", 0)
    with pytest.raises(SpaceError, match="twice"):
        Edge(0, 1, ("none", "none"))
    with pytest.raises(SpaceError, match="cannot remove"):
        minimal().without("nothing")


@given(st.data())
def test_only_keeps_exactly_what_it_is_given(data):
    wanted = data.draw(st.sets(st.sampled_from(OPERATIONS), min_size=1))
    edge = data.draw(st.integers(0, 4))
    cell = minimal().only(wanted, edge)
    assert set(cell.edges[edge].operations) == wanted
    assert cell.architectures() == 8**4 * len(wanted)
