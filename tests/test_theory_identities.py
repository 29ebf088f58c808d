"""Every identity of the paper on random networks: 300 and more of them; and wrong statements, which must not pass."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_core import theory
from nas_core.operations import ORDERS, Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Sample, Snas, Uniform
from nas_core.space import NONE, OPERATIONS, darts, minimal
from nas_core.theory.cases import RELAXATIONS
from tests.networks import batch, log_alpha, network

SEEDS = st.integers(0, 10**9)
PROOF = [str(equation) for equation in range(10, 20)]


def broken(found):
    """The names of the residuals that exceed their bound, with the residuals."""
    return {name: residual for name, residual in found.items() if not residual.held}


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS)
def test_every_identity_holds_on_a_random_network(seed):
    case = theory.random_case(seed)
    found = theory.residuals(case)
    assert not broken(found)
    expected = {"probe", "epsilon", "cell", "last", "balance", "lines", "features"}
    if case.sample.active[..., NONE + 1 :].any():
        # Where *none* was drawn on every edge there is no operation to speak of.
        # (Whether one lies on a path that is counted depends on the draw; the next test holds that most do.)
        expected |= {"cost"}
    assert expected <= {name for name, residual in found.items() if residual.cases}


def test_most_random_networks_have_paths_to_check():
    seeds = range(10)
    assert sum(theory.residuals(theory.random_case(seed))["paths"].cases > 0 for seed in seeds) >= 5


@settings(max_examples=160, deadline=None)
@given(
    seed=SEEDS,
    kind=st.sampled_from(["batch", "layer", "instance", "group"]),
    order=st.sampled_from(ORDERS),
    relaxation=st.sampled_from(RELAXATIONS),
    cells=st.integers(1, 3),
    without=st.sampled_from([(), ("skip_connect",), ("none",), ("none", "skip_connect")]),
)
def test_cost_is_assigned_as_the_theorems_say(seed, kind, order, relaxation, cells, without):
    """Theorem 1, both corollaries and Theorem 2 for every normalisation, order, relaxation, with and without skips."""
    case = theory.random_case(seed, kind=kind, order=order, relaxation=relaxation, cells=cells, without=without)
    seen = theory.trace(case.network, case.images, case.labels, case.sample)
    checks = (
        theory.node_residual,
        theory.epsilon_residual,
        theory.skip_residual,
        theory.cell_residual,
        theory.inner_cell_residual,
        theory.last_cell_residual,
        theory.balance_residual,
    )
    found = {check.__name__: check(seen) for check in checks}
    assert not broken(found)
    assert found["inner_cell_residual"].cases == cells - 1
    assert "skip_connect" not in without or found["skip_residual"].cases == 0


@pytest.mark.parametrize("cells", range(2, 9))
@pytest.mark.parametrize("relaxation", [Darts(), Uniform()], ids=lambda r: r.name)
def test_the_corollaries_hold_in_deep_stacks(cells, relaxation):
    net = network(minimal(), cells, channels=2, seed=cells, eps=1e-6)
    sample = relaxation.sample(log_alpha(net, cells), torch.Generator().manual_seed(cells))
    seen = theory.trace(net, *batch(cells, images=3, size=4), sample)
    assert theory.inner_cell_residual(seen).held and theory.inner_cell_residual(seen).cases == cells - 1
    assert theory.last_cell_residual(seen).held and theory.balance_residual(seen).held


def test_the_table_counts_its_cases_and_holds():
    rows = {row.name: row for row in theory.check_all(cases=12, seed=100)}
    assert rows.keys() == theory.IDENTITIES.keys()
    seen = [row for row in rows.values() if row.name != "25"]  # Eq 25 needs one normalisation in particular.
    assert all(row.held and 0 < row.cases <= 12 and row.checks >= row.cases for row in seen)
    assert all(row.used <= 1 and row.scale > 0 for row in seen)
    assert rows["last"].cases == 12 and rows["19"].checks > 100


def test_no_wrong_statement_passes():
    """A test of the tests: what is refuted is refuted by orders of magnitude, in nearly every network it speaks of."""
    rows = theory.check_wrong(cases=40, seed=0)
    assert [row.name for row in rows] == list(theory.WRONG)
    for row in rows:
        assert row.cases >= 5 and not row.held, row
        assert row.failed >= 0.7 * row.cases and row.used > 1e6, row


def test_the_wrong_theorem_is_right_where_only_one_edge_contributes():
    """Theorem 1 edge by edge, as the paper words it: with *none* on e1, node 2 holds e0's output alone."""
    net = network(minimal().without("skip_connect"), eps=1e-6)
    single = draw(net, ["sep_conv_3x3", "none", "dil_conv_3x3", "max_pool_3x3", "sep_conv_5x5"])
    both = draw(net, ["sep_conv_3x3", "dil_conv_3x3", "dil_conv_3x3", "max_pool_3x3", "sep_conv_5x5"])
    alone, shared = (theory.trace(net, *batch(), sample) for sample in (single, both))
    assert theory.node_residual(alone).held and theory.node_residual(shared).held
    assert theory.shares(alone) == []
    first, second = theory.shares(shared)
    assert (first.through, first.edge, second.edge) == ((2, 3), (0, 2), (1, 2))
    assert abs(first.value + second.value) <= first.bound < 1e-3 * abs(first.value)
    # The cost of e0 is what it gets through the output edge only in the first network.
    for seen, share in ((alone, 0.0), (shared, first.value)):
        node = seen.cells[0].outputs[0, OPERATIONS.index("sep_conv_3x3")]
        direct = float((seen.cells[0].leaving[2] * node).sum())
        gap = float(seen.cost[0, 0, OPERATIONS.index("sep_conv_3x3")]) - direct
        assert abs(gap - share) <= 1e-5 < 1e-3 * abs(direct) + 1e-5


def draw(net, names):
    """The one-hot sample of these operations, edge by edge."""
    z = torch.zeros(1, len(names), len(OPERATIONS), dtype=torch.float64)
    for edge, name in enumerate(names):
        z[0, edge, OPERATIONS.index(name)] = 1
    return Sample(z, z > 0)


@pytest.mark.parametrize("spoil", ["weight", "statistics"])
def test_a_spoilt_network_is_noticed(spoil, monkeypatch):
    """A convolution with a shift, or a normalisation that forgets its mean, and Theorem 1 is gone."""
    from nas_core.operations import Norm

    net = network(darts(3).without("skip_connect"), channels=4, normalization=Normalization("layer", eps=1e-6))
    sample = Darts().sample(log_alpha(net), None)
    plain = Norm.forward
    assert theory.epsilon_residual(theory.trace(net, *batch(), sample)).held
    if spoil == "weight":
        ramp = torch.linspace(-1, 1, 4, dtype=torch.float64).view(-1, 1, 1)
        monkeypatch.setattr(Norm, "forward", lambda self, x: plain(self, x + ramp if x.shape[1] == 4 else x))
    else:
        monkeypatch.setattr(Norm, "forward", lambda self, x: (x - 1) / (x.var(correction=0) + 1e-6).sqrt())
    seen = theory.trace(net, *batch(), sample)
    assert not theory.epsilon_residual(seen).held and not theory.balance_residual(seen).held


def test_without_normalisation_a_path_passes_all_it_carries():
    net = network(minimal().without(("skip_connect", "none")), 2, normalization=Normalization("identity"))
    seen = theory.trace(net, *batch(), Darts().sample(log_alpha(net), None))
    for check in (theory.node_residual, theory.epsilon_residual, theory.inner_cell_residual, theory.cell_residual):
        assert not check(seen).held and check(seen).used > 1e6
    assert theory.cost_residual(seen).held and theory.paths_residual(seen).held, "these need no normalisation"


def test_random_cases_cover_what_they_promise():
    dice = [random.Random(seed) for seed in range(300)]
    cells = [theory.random_cell(own) for own in dice]
    assert {cell.inputs for cell in cells} == {1, 2} and {cell.nodes for cell in cells} == {2, 3, 4, 5}
    assert any(len(cell.outputs) < cell.nodes for cell in cells)
    names = Counter(name for cell in cells for edge in cell.edges for name in edge.operations)
    assert set(names) == set(OPERATIONS)
    made = [theory.random_case(seed, cells=1 + seed % 3) for seed in range(60)]
    configs = [case.network.config for case in made]
    assert {config.normalization.kind for config in configs} == {"batch", "layer", "instance", "group"}
    assert {config.order for config in configs} == set(ORDERS)
    assert {case.relaxation for case in made} == set(RELAXATIONS)
    assert {config.reduction for config in configs} == {True, False}
    for choice, kind in ((Snas(), "group"), (Proxyless(), "layer"), (Dsnas(), "batch")):
        case = theory.random_case(1, relaxation=choice, kind=kind, head_bias=True, without=("skip_connect",))
        assert case.relaxation == choice and case.network.config.normalization.kind == kind
        assert case.network.config.head_bias and not any(
            "skip_connect" in edge.operations for edge in case.network.config.cell.edges
        )


def test_a_case_is_the_same_again():
    one, two = theory.random_case(5), theory.random_case(5)
    assert torch.equal(one.images, two.images) and torch.equal(one.sample.z, two.sample.z)
    assert all(torch.equal(a, b) for a, b in zip(one.network.parameters(), two.network.parameters()))
    assert theory.residuals(one) == theory.residuals(two)


@pytest.mark.parametrize("name", PROOF)
def test_the_proof_is_checked_equation_by_equation(name):
    """Every step says something on an ordinary network: sep and dil convolutions, and both pools."""
    net = network(minimal().without(("skip_connect", "none")), normalization=Normalization("batch", affine=True))
    seen = theory.trace(net, *batch(), Darts().sample(log_alpha(net), None))
    steps = theory.conv_steps(seen) | theory.norm_steps(seen)
    assert steps.keys() == set(PROOF)
    assert steps[name].held and steps[name].cases >= 6 and steps[name].scale > 0


def test_the_lines_of_the_proof_are_numbers_that_agree():
    """Eq 19 at ε = 0 and at ε > 0: four equal numbers, 0 in the first case and the ε term in the second."""
    for eps in (0.0, 1e-2):
        net = network(minimal().without(("skip_connect", "none")), eps=eps)
        seen = theory.trace(net, *batch(), Darts().sample(log_alpha(net), None))
        stage = next(theory.stages(seen))
        lines = theory.norm_lines(stage.norm, stage.a, stage.gradient_y)
        assert len(lines) == 4 and max(lines) - min(lines) < 1e-14
        assert abs(lines[-1] - theory.epsilon_share(stage)) < 1e-15
        assert (abs(lines[-1]) < 1e-15) is (eps == 0)
        printed = theory.printed_gradient(stage.norm, stage.a, stage.gradient_y)
        right = theory.norm_gradient(stage.norm, stage.a, stage.gradient_y)
        assert float((printed - right).abs().max()) > 0.1 * float(right.abs().max())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, stride=st.integers(1, 2), kernel=st.sampled_from([1, 3, 5]), dilation=st.integers(1, 2))
def test_convolutions_by_index_equal_pytorch_s(seed, stride, kernel, dilation):
    """Eqs 12 and 14, off the beaten path too: strides, dilations, groups and odd sides."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Conv2d(4, 6, kernel, stride, dilation * (kernel - 1) // 2, dilation, groups=2, bias=False).double()
    v = torch.randn(2, 4, 7, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    x = layer(v)
    gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(x, v, gradient)
    with torch.no_grad():
        assert torch.allclose(theory.convolved(layer, v, x), x, rtol=0, atol=1e-13)
        assert torch.allclose(theory.pulled_back(layer, gradient, v), expected, rtol=0, atol=1e-13)
        lines = theory.exchanged_sums(layer, gradient, v)
    assert max(lines) - min(lines) < 1e-11
