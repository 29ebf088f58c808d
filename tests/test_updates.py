"""Which edges a sample trains, against autograd; and the shares of samples, against all samples."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_core import updates
from nas_core.cost import enumerate_samples, probe
from nas_core.lab.ablations import ABLATIONS
from nas_core.relaxation import Sample
from nas_core.space import NONE, OPERATIONS, Cell, Edge, SpaceError, darts, minimal, modified, simplified
from tests import networks

CONVOLUTION = OPERATIONS.index("sep_conv_3x3")
KINDS = ("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_3x3")


@st.composite
def cells(draw):
    """A cell of two or three nodes from which edges and output nodes are missing at random."""
    whole = darts(draw(st.integers(2, 3))) if draw(st.booleans()) else simplified()
    edges = [Edge(own.source, own.target, KINDS) for own in whole.edges if draw(st.booleans())]
    outputs = tuple(node for node in whole.intermediate if draw(st.booleans()))
    try:
        return Cell("random", whole.inputs, whole.nodes, tuple(edges), outputs)
    except SpaceError:
        return whole.only(KINDS)


def drawn(cell: Cell, names) -> Sample:
    z = F.one_hot(torch.tensor([[OPERATIONS.index(name) for name in names]]), len(OPERATIONS)).double()
    return Sample(z, z > 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_weight_has_a_gradient_exactly_where_its_edge_is_trained(data):
    cell = data.draw(cells())
    names = [data.draw(st.sampled_from(KINDS)) for _ in cell.edges]
    net = networks.network(cell, channels=3, seed=data.draw(st.integers(0, 99)))
    probe(net, *networks.batch(images=4), drawn(cell, names), train=True)
    told = updates.trained(cell, [name != "none" for name in names])
    for operations, name, trained in zip(net.cells[0].edges, names, told, strict=True):
        for other, module in operations.items():
            for parameter in module.parameters():
                moved = parameter.grad is not None and bool((parameter.grad != 0).any())
                assert moved == (trained and other == name), (names, name, other)


@pytest.mark.parametrize("cell", [minimal().only(KINDS[:3]), modified(), *(own.cell for own in ABLATIONS.values())])
def test_shares_are_those_of_all_samples(cell):
    samples = [sample.z[0].numpy() for sample in enumerate_samples(cell)]
    counted = np.zeros((len(cell.edges), len(OPERATIONS)))
    sources = np.zeros(len(cell.edges))
    for z in samples:
        kept = z[:, NONE] == 0
        counted += z * np.array(updates.trained(cell, kept))[:, None]
        sources += [edge.source in updates.fed(cell, kept) for edge in cell.edges]
    np.testing.assert_allclose(updates.update_shares(cell), counted / len(samples), atol=1e-12)
    np.testing.assert_allclose(updates.fed_shares(cell), sources / len(samples), atol=1e-12)


def test_the_simplified_cell_by_hand():
    shares = updates.update_shares(simplified())
    np.testing.assert_allclose(shares[:, CONVOLUTION], [1 / 8, 1 / 8, 7 / 64])
    assert (shares[:, NONE] == 0).all()
    np.testing.assert_allclose(updates.fed_shares(simplified()), [1, 1, 7 / 8])


def test_without_its_output_edge_the_first_edge_needs_the_intermediate_one():
    np.testing.assert_allclose(updates.update_shares(modified())[:, CONVOLUTION], [7 / 64, 1 / 8, 7 / 64])
    fixed = modified().fix((0, 1), "sep_conv_3x3")
    np.testing.assert_allclose(updates.update_shares(fixed)[:, CONVOLUTION], [7 / 8, 1 / 8, 1 / 8])


def test_a_chain_is_trained_as_a_whole_or_not_at_all():
    chain = Cell("chain", 1, 3, (Edge(0, 1), Edge(1, 2), Edge(2, 3)), (3,))
    assert updates.trained(chain, (True, True, True)) == (True, True, True)
    for kept in ((True, True, False), (False, True, True), (True, False, True)):
        assert updates.trained(chain, kept) == (False, False, False)


def test_more_kept_edges_never_train_fewer():
    cell = darts(3)
    for kept in itertools.islice(itertools.product((False, True), repeat=len(cell.edges)), 0, None, 7):
        more = [keep or edge % 2 == 0 for edge, keep in enumerate(kept)]
        before, after = updates.trained(cell, kept), updates.trained(cell, more)
        assert all(now or not was for was, now in zip(before, after, strict=True))


def test_what_cannot_be_enumerated_is_said_in_one_sentence():
    with pytest.raises(SpaceError, match="at most 20 can be enumerated"):
        updates.update_shares(darts(6))
    with pytest.raises(SpaceError, match="give one entry an edge"):
        updates.trained(simplified(), (True,))
