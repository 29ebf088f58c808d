"""The identities as residuals: small where the paper's statements hold, large where their conditions do not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_core.cost import probe
from nas_core.operations import Normalization
from nas_core.pages.checks import EPSILON, example
from nas_core.relaxation import Darts, Dsnas, Snas
from nas_core.space import darts, minimal, simplified
from nas_core.theory import inner_residual, none_residual, output_residual
from tests.networks import batch, log_alpha, network


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cell=st.sampled_from([minimal(), simplified(), darts(3)]),
    cells=st.integers(1, 3),
    relaxation=st.sampled_from([Darts(), Snas(), Dsnas()]),
    kind=st.sampled_from(["batch", "layer", "group"]),
    order=st.sampled_from(["relu-conv-norm", "conv-relu-norm", "conv-norm-relu"]),
)
def test_residuals_vanish_without_skip(seed, cell, cells, relaxation, kind, order):
    # *none* goes too: a node of zeros has no scale, and a normalisation without ε has no derivative there.
    cell = cell.without(("skip_connect", "none"))
    net = network(cell, cells, seed=seed, order=order, normalization=Normalization(kind, eps=1e-13))
    images, labels = batch(seed)
    sample = relaxation.sample(log_alpha(net, seed), torch.Generator().manual_seed(seed))
    assert abs(output_residual(net, images, labels, sample)) < 1e-7
    assert inner_residual(net, images, labels, sample) < 1e-7


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cells=st.integers(1, 2), scale=st.floats(0, 4))
def test_none_gains_exactly_where_the_edge_costs(seed, cells, scale):
    net = network(cells=cells, seed=seed)
    assert none_residual(net, *batch(seed), log_alpha(net, seed, scale)) < 1e-12


def test_a_head_with_a_bias_breaks_theorem_2():
    cell = minimal().without(("skip_connect", "none"))
    residuals = []
    for bias in (False, True):
        net = network(cell, eps=1e-13, head_bias=bias)
        sample = Darts().sample(log_alpha(net), torch.Generator())
        residuals.append(abs(output_residual(net, *batch(), sample)))
    assert residuals[0] < 1e-8 < 1e-4 < residuals[1]


def test_a_network_without_normalisation_breaks_the_corollary():
    cell = minimal().without(("skip_connect", "none"))
    net = network(cell, 2, normalization=Normalization("identity"))
    sample = Darts().sample(log_alpha(net), torch.Generator())
    assert inner_residual(net, *batch(), sample) > 1e-6


def test_the_residual_shrinks_with_epsilon():
    """Theorem 1 is off by a term of order ε/σ²: a hundredth of ε, a hundredth of the residual."""
    cell, found = minimal().without(("skip_connect", "none")), []
    for eps in (1e-4, 1e-6):
        net = network(cell, 2, eps=eps)
        found.append(inner_residual(net, *batch(), Darts().sample(log_alpha(net), torch.Generator())))
    assert 50 < found[0] / found[1] < 200


def test_affine_free_instance_norm_costs_nothing_and_learns_nothing():
    """Eq 25: pooled features are 0, so are the logits; the loss is ln 10, no cost flows, no weight has a gradient."""
    net = network(minimal().without("skip_connect"), normalization=Normalization("instance", affine=False))
    images, labels = batch()
    sample = Darts().sample(log_alpha(net), torch.Generator())
    assert torch.allclose(net(images, sample), torch.zeros(6, 10, dtype=torch.float64), atol=1e-12)
    assert abs(output_residual(net, images, labels, sample)) < 1e-12
    measured = probe(net, images, labels, sample, train=True)
    assert abs(float(measured.loss) - math.log(10)) < 1e-12 and float(measured.cost.abs().max()) < 1e-12
    assert max(largest_gradients(net).values()) < 1e-12


@pytest.mark.parametrize("normalization", [Normalization("instance", affine=True), Normalization("batch")])
def test_with_shifts_or_batch_statistics_something_is_learned(normalization):
    """The counterpart of the test above, on the same network: there is a gradient."""
    net = network(minimal().without("skip_connect"), normalization=normalization)
    probe(net, *batch(), Darts().sample(log_alpha(net), torch.Generator()), train=True)
    assert max(largest_gradients(net).values()) > 1e-3


def largest_gradients(net):
    """``{name: the gradient's largest entry}`` of every parameter; a parameter that got none is an error here."""
    return {name: float(parameter.grad.abs().max()) for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("without, small", [("skip_connect", True), ((), False)])
def test_the_chapter_s_example_shows_the_rule_and_its_exception(without, small):
    net, (images, labels), alpha, sample = example(without=without, cells=2, seed=0)
    assert net.config.normalization.eps == EPSILON and torch.isfinite(alpha[..., 2]).all()
    assert (abs(output_residual(net, images, labels, sample)) < 1e-6) is small
