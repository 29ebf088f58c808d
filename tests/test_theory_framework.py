"""Appendix B against autograd and enumeration, Theorem 2's sign, and what the normalisations do and do not do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_core import theory
from nas_core.cost import enumerate_samples, exact_cost, loss_and_entropy, probe, sample_probability
from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Sample, Snas, Uniform, masked, probability
from nas_core.space import OPERATIONS, SKIP, minimal, modified, simplified
from nas_core.supernet import NetworkConfig
from nas_core.theory.cases import RELAXATIONS
from nas_core.theory.residual import compare, compare_tensors, from_single
from tests.networks import POOLS, batch, log_alpha, network
from tests.test_cost import plain_logits

LEARNING = [relaxation for relaxation in RELAXATIONS if relaxation.name != "uniform"]


def small():
    """27 architectures, their batch and α."""
    net = network(simplified().only(POOLS), channels=3, eps=1e-2)
    return net, *batch(2), log_alpha(net, scale=0.5)


# The result type.


def test_a_residual_is_held_where_every_comparison_is():
    inside, outside, nothing = theory.Residual(1, 2, 5), theory.Residual(3, 2, 1), theory.Residual(math.nan, 1, 1)
    assert inside.held and not outside.held and not nothing.held
    assert theory.Residual(0, 0, 0).held and not theory.Residual(1e-300, 0, 0).held
    both = theory.worst([inside, theory.Residual(0.1, 0.1, 7, cases=3)])
    assert (both.value, both.bound, both.scale, both.cases, both.used) == (1, 2, 7, 4, 1.0) and both.held
    # The large bound of one comparison does not cover another.
    assert not theory.worst([theory.Residual(1, 100, 0), outside]).held
    assert not theory.worst([inside, nothing]).held and theory.worst([nothing, inside]).used == math.inf
    assert theory.worst([]).cases == 0 and theory.worst([]).held


def test_bounds_are_proportional_to_the_unit_roundoff():
    assert theory.UNIT == torch.finfo(torch.float64).eps / 2
    found = compare(1.0, 1.0 + 1e-13, scale=3.0, roundings=100)
    assert found.bound == 300 * theory.UNIT and not found.held and compare(1, 1 + 1e-14, scale=3, roundings=100).held
    assert compare(1.0, 1.5, scale=0.0, roundings=1, epsilon=0.6).held
    entries = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1])
    assert not compare_tensors(*entries, bound=torch.tensor([9.0, 0.01])).held
    assert compare_tensors(*entries, bound=torch.tensor([0.0, 0.2])).held
    assert from_single(2.0**29) == 64


# One evaluation that keeps everything.


@pytest.mark.parametrize("relaxation", [Darts(), Dsnas(), Proxyless()], ids=lambda r: r.name)
def test_a_trace_is_the_network_and_its_gradients(relaxation):
    net, (images, labels) = network(minimal(), 3, reduction=True, head_bias=True), batch(size=8)
    alpha = log_alpha(net)
    sample = relaxation.sample(alpha, torch.Generator().manual_seed(2))
    seen = theory.trace(net, images, labels, sample)
    z = seen.z.clone().requires_grad_()
    logits = plain_logits(net, images, z)
    (cost,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), z)
    active = sample.active[[0, 1, 1]]
    assert torch.allclose(seen.logits, logits, rtol=0, atol=1e-12)
    assert torch.allclose(seen.cost[active], cost[active], rtol=0, atol=1e-12)
    assert torch.allclose(theory.plain_logits(net, images, z), logits, rtol=0, atol=1e-12)
    for own in seen.cells:
        assert set(own.outputs) == set(own.passed) == set(own.paths)
        for node in net.config.cell.intermediate:
            parts = [own.passed[p] for p in own.passed if net.config.cell.edges[p[0]].source == node]
            total = sum(parts) + own.leaving[node]
            assert torch.allclose(total, own.gradients[node], rtol=0, atol=1e-14), "the paths add up to the gradient"
        tensors = [*own.nodes, *own.outputs.values(), *(s.a for s in own.paths.values() if s is not None)]
        assert not any(tensor.requires_grad for tensor in tensors)


def test_a_feature_map_of_zeros_at_epsilon_0_is_refused():
    """Layer norm divides 0 by 0; batch norm does not, and the identities hold with a node of zeros too."""
    cell = minimal().only("none", 0).only("none", 1).fix(4, "sep_conv_3x3")
    net = network(cell, eps=0)
    sample = Uniform().sample(log_alpha(net), torch.Generator().manual_seed(0))
    seen = theory.trace(net, *batch(), sample)
    assert theory.balance_residual(seen).held and theory.epsilon_residual(seen).held
    net = network(cell, normalization=Normalization("layer", eps=0))
    with pytest.raises(ValueError, match="is not a number") as caught:
        theory.trace(net, *batch(), sample)
    assert "\n" not in str(caught.value)


# Section 4 and Appendix B.


@pytest.mark.parametrize("relaxation", LEARNING, ids=lambda r: f"{r.name}-{getattr(r, 'gradient', '')}")
@pytest.mark.parametrize("cells", [1, 3])
def test_every_alpha_gradient_is_what_autograd_makes_of_its_surrogate(relaxation, cells):
    net = network(minimal(), cells, reduction=cells == 3)
    alpha = log_alpha(net)
    found = theory.alpha_residual(net, *batch(size=8), alpha, relaxation, seed=4)
    assert found.held and found.value < 1e-15 < 1e-4 < found.scale
    formula, autograd, _ = theory.alpha_gradients(net, *batch(size=8), alpha, relaxation, seed=4)
    assert formula.shape == alpha.shape and float(formula.abs().max()) > 1e-5
    # The bound tells a wrong factor: one part in 10⁹ is seen.
    assert float((formula * (1 + 1e-9) - autograd).abs().max()) > found.bound


def test_the_published_gradient_is_scaled_by_p_over_its_mean():
    net, images, labels, alpha = small()
    corrected, reference = (
        theory.alpha_gradients(net, images, labels, alpha, Dsnas(gradient), seed=1)[0]
        for gradient in ("corrected", "reference")
    )
    sample = Dsnas().sample(alpha, torch.Generator().manual_seed(1))
    factor = theory.reference_factor(alpha, sample)
    drawn = (probability(alpha) * sample.z).sum(-1)
    assert torch.allclose(factor, drawn / drawn.mean(), rtol=0, atol=1e-15) and abs(float(factor.mean()) - 1) < 1e-15
    assert torch.allclose(3 * reference, factor[..., None] * corrected, rtol=0, atol=1e-15)
    assert float((3 * reference - corrected).abs().max()) > 1e-4


def test_the_pull_on_a_rare_operation_falls_with_p_squared():
    """Against the relaxation itself: a cost of 1 for one operation of edge 0, edge 1 certain of its own."""
    alpha = torch.full((1, 2, len(OPERATIONS)), -math.inf, dtype=torch.float64)
    alpha[0, 1, 0] = 0
    for p in (0.01, 0.2, 0.9):
        alpha[0, 0, 1:3] = torch.tensor([p, 1 - p], dtype=torch.float64).log()
        sample = Sample(torch.zeros(1, 2, len(OPERATIONS), dtype=torch.float64), torch.isfinite(alpha))
        sample.z[0, 0, 1] = sample.z[0, 1, 0] = 1
        pull = theory.rare_operation_pull(p, (p + 1) / 2)
        for gradient, factor in (("corrected", 1), ("reference", 2)):
            found = Dsnas(gradient).alpha_gradient(alpha, sample, sample.z)[0, 0, 1]
            assert abs(p * factor * float(found) - getattr(pull, gradient)) < 1e-14
    rare, common = theory.rare_operation_pull(0.001, 0.5), theory.rare_operation_pull(0.1, 0.5)
    assert 80 < common.corrected / rare.corrected < 100 and 8000 < common.reference / rare.reference < 10000


def test_expected_gradients_are_those_of_the_enumeration():
    net, images, labels, alpha = small()
    found = theory.expected_gradients(net, images, labels, alpha)
    exact, step = exact_cost(net, images, labels, alpha), 1e-5
    for edge, operation in ((0, 0), (1, 1), (2, 2)):
        shifted = [alpha.clone() for _ in range(2)]
        for sign, own in zip((1, -1), shifted):
            own[0, edge, operation] += sign * step
        up, down = (exact_cost(net, images, labels, own).loss for own in shifted)
        assert abs((up - down) / (2 * step) - float(found["exact"][0, edge, operation])) < 1e-8
    assert torch.allclose(found["dsnas"], exact.score_gradient, rtol=0, atol=1e-12)
    expected = theory.alpha_gradients(net, images, labels, alpha, Darts())[1]
    assert torch.allclose(found["darts"], expected, rtol=0, atol=1e-12)
    reference, straight = torch.zeros_like(alpha), torch.zeros_like(alpha)
    for sample in enumerate_samples(net.config.cell):
        weight, full = sample_probability(sample, alpha), sample.counterfactual(alpha)
        own = Dsnas().alpha_gradient(alpha, sample, probe(net, images, labels, sample).cost)
        reference += weight * theory.reference_factor(alpha, sample)[..., None] * own
        straight += weight * Proxyless().alpha_gradient(alpha, full, probe(net, images, labels, full).cost)
    assert torch.allclose(found["dsnas_reference"], reference, rtol=0, atol=1e-12)
    assert torch.allclose(found["proxylessnas"], straight, rtol=0, atol=1e-12)
    for name, gradient in found.items():
        assert torch.all(gradient[~torch.isfinite(alpha)] == 0), name


def test_approximations_have_an_error_that_is_measured():
    net, images, labels, alpha = small()
    found = theory.expected_gradients(net, images, labels, alpha)
    errors = {name: theory.gradient_error(gradient, found["exact"]) for name, gradient in found.items()}
    assert errors["exact"].relative == 0 and abs(errors["exact"].cosine - 1) < 1e-12
    assert all(errors[name].relative > 0.01 for name in ("dsnas", "dsnas_reference", "proxylessnas", "darts"))
    half = theory.gradient_error(-0.5 * found["exact"], found["exact"])
    assert abs(half.relative - 1.5) < 1e-12 and abs(half.cosine + 1) < 1e-12


def test_sampled_dsnas_gradients_have_the_enumerated_mean():
    net, images, labels, alpha = small()
    found = theory.dsnas_mean(net, images, labels, alpha, draws=3000, seed=0)
    assert found.draws == 3000 and found.mean.shape == (3, len(OPERATIONS))
    assert 0.1 < found.worst < 4.5, "9 entries vary, so the largest of 9 z-scores"
    assert int((found.z != 0).sum()) == 9 and float(found.standard_error.max()) < 0.01
    assert torch.allclose(found.exact, theory.expected_gradients(net, images, labels, alpha)["dsnas"][0], atol=1e-14)
    off = theory.MeanCheck(found.mean + 10 * found.standard_error, found.standard_error, found.exact, 3000)
    assert off.worst > 5


# Theorem 2 and its sign.

LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=8)


@given(LOGITS, st.integers(0, 7))
def test_the_cost_of_an_image_is_its_loss_minus_its_entropy(row, label):
    logits, labels = torch.tensor([row], dtype=torch.float64), torch.tensor([label % len(row)])
    loss, entropy = loss_and_entropy(logits, labels)
    assert theory.logit_residual(logits, labels).held
    assert abs(float(theory.logit_cost(logits, labels) - (loss - entropy))) < 1e-11
    assert theory.correct_residual(logits, labels).held
    assert float(theory.logit_cost(logits, labels)) >= theory.lowest_cost(len(row)) - 1e-9


@given(LOGITS)
def test_a_random_label_never_pays_on_average(row):
    logits = torch.tensor([row], dtype=torch.float64)
    every = torch.cat([theory.logit_cost(logits, torch.tensor([label])) for label in range(len(row))])
    assert abs(float(theory.chance_cost(logits) - every.mean())) < 1e-11
    assert float(theory.chance_cost(logits)) > -1e-13 and theory.chance_residual(logits).held


def test_correct_images_are_those_whose_label_is_largest():
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 0.5]], dtype=torch.float64)
    found = theory.correct_residual(logits, torch.tensor([0, 0, 0]))
    assert found.cases == 2 and found.value == 0 and found.held
    assert theory.correct_residual(logits[1:2], torch.tensor([0])).cases == 0
    cost = theory.logit_cost(logits, torch.tensor([0, 0, 0]))
    assert cost[0] < 0 < cost[1]


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_the_lowest_cost_is_reached_and_not_passed(classes):
    margins = torch.linspace(0, 12, 20001, dtype=torch.float64)
    logits = torch.zeros(len(margins), classes, dtype=torch.float64)
    logits[:, 0] = margins
    costs = theory.logit_cost(logits, torch.zeros(len(margins), dtype=torch.int64))
    assert abs(float(costs.min()) - theory.lowest_cost(classes)) < 1e-6 and float(costs[-1]) > float(costs.min()) / 2


@pytest.mark.parametrize("s", [0.05, 0.7, 4.0])
def test_gaussian_logits_cost_what_integration_by_parts_says(s):
    """Two classes: s²·2 E[p(1 − p)], p the logistic of √2 s x; ten: a simulation, and the expansion for small s."""
    x = np.linspace(-12, 12, 20001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    p = 1 / (1 + np.exp(-math.sqrt(2) * s * x))
    assert abs(theory.gaussian_cost(s, 2) / (2 * s**2 * float(density @ (p * (1 - p)))) - 1) < 1e-10
    logits = s * torch.randn(40000, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = theory.chance_cost(logits)
    assert abs(float(drawn.mean()) - theory.gaussian_cost(s, 10)) < 4 * float(drawn.std()) / 200
    if s < 0.1:
        assert abs(theory.gaussian_cost_small(s, 10) / theory.gaussian_cost(s, 10) - 1) < 2 * s**4
        assert abs(s**2 * 0.9 / theory.gaussian_cost(s, 10) - 1) > s**2 / 20, "the second term is needed"
    assert theory.gaussian_cost(s, 10) > 0 and theory.gaussian_cost(0, 10) == 0


def test_initial_costs_are_positive_on_average_and_as_predicted():
    images, labels = batch(3, images=12)
    config = NetworkConfig(minimal().without("skip_connect"), channels=4)
    found = theory.initial_costs(config, images, labels, range(60))
    assert found.costs.shape == found.predicted.shape == (60,) and np.all(found.predicted > 0)
    assert found.mean > 2 * found.standard_error and abs(found.z) < 4 and 0.5 < found.share_positive <= 1
    again = theory.initial_costs(config, images, labels, [7])
    assert again.costs[0] == found.costs[7]


@pytest.mark.parametrize("bias", [False, True])
def test_the_predicted_initial_cost_is_the_mean_over_heads(bias):
    """One network of seed 7 with 4000 heads drawn as PyTorch draws them."""
    images, labels = batch(3, images=12)
    config = NetworkConfig(minimal().without("skip_connect"), channels=4, head_bias=bias)
    found = theory.initial_costs(config, images, labels, [7])
    net, classes = network(config.cell, seed=7, head_bias=bias), int(labels.max()) + 1
    flat = masked(torch.zeros_like(log_alpha(net)), config.cell)
    sample = Uniform().sample(flat, torch.Generator().manual_seed(7))
    nodes = theory.trace(net, images, labels, sample).cells[0].nodes
    pooled = torch.cat([nodes[2], nodes[3]], 1).mean((2, 3))
    width, generator = pooled.shape[1], torch.Generator().manual_seed(0)
    heads = 2 * torch.rand(4000, classes, width + 1, generator=generator, dtype=torch.float64) - 1
    logits = (pooled @ heads[..., :width].mT + (heads[..., None, :, width] if bias else 0)) / width**0.5
    costs = (logits.softmax(-1) * logits).sum(-1).mean(-1)
    assert (
        abs(float(costs.mean()) - found.predicted[0]) < 4 * float(costs.std()) / 4000**0.5 + 0.01 * found.predicted[0]
    )


def test_the_parts_of_several_output_nodes_sum_to_the_cost():
    for bias in (False, True):
        net = network(minimal(), head_bias=bias)
        seen = theory.trace(net, *batch(), Darts().sample(log_alpha(net), None))
        loss, entropy = (float(part.mean()) for part in loss_and_entropy(seen.logits, seen.labels))
        own = theory.bias_term(net, seen.logits, seen.labels)
        parts = theory.output_parts(seen)
        assert set(parts) == {2, 3} and min(abs(part - (loss - entropy)) for part in parts.values()) > 1e-4
        assert abs(sum(parts.values()) - (loss - entropy - own)) < 1e-14
        lines = theory.output_lines(seen)
        assert len(lines) == 7 and max(lines) - min(lines) < 1e-14 and theory.lines_residual(seen).held
        assert (abs(own) > 1e-4) is bias
        if bias:
            gradient = seen.gradient_logits.sum(0)
            assert abs(float(gradient @ net.head.bias.detach()) - own) < 1e-15


def test_the_cost_moves_as_the_loss_and_the_entropy_do():
    generator = np.random.default_rng(0)
    loss, entropy = generator.uniform(0, 2, (2, 30))
    found = theory.dynamics(loss, entropy, loss - entropy)
    assert found.residual.held and found.residual.cases == 29 and found.mismatch == 0
    assert np.array_equal(found.falls, found.cost_change < 0) and 5 < found.falls.sum() < 25
    off = theory.dynamics(loss, entropy, loss - entropy + 1e-9 * np.arange(30))
    assert not off.residual.held and 2e-8 < off.mismatch < 4e-8
    single = [part.astype(np.float32) for part in (loss, entropy, loss - entropy)]
    assert theory.dynamics(*single).residual.held, "curves stored in float32 are held to float32"


# Appendix H, the ε, the shares and the skip.


@pytest.mark.parametrize("kind", ["batch", "layer", "instance", "group"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), log_eps=st.floats(-12, 0), offset=st.floats(-10, 10))
def test_every_normalisation_is_homogeneous_of_degree_0(kind, seed, log_eps, offset):
    """On any tensor and cotangent, also far from mean 0; and the bound is far below what is at stake."""
    from nas_core.operations import Norm

    norm = Norm(4, Normalization(kind, affine=True, eps=min(10**log_eps, 0.9), groups=2)).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in norm.parameters():
        parameter.data.normal_(generator=generator)
    a, gradient = (torch.randn(3, 4, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    found = theory.homogeneity_residual(norm, a + offset, gradient)
    assert found.held and found.bound < 1e-8 * found.scale
    a.requires_grad_()
    (expected,) = torch.autograd.grad(norm(a), a, gradient)
    assert torch.allclose(theory.norm_gradient(norm, a.detach(), gradient), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_what_breaks_the_theorem_and_what_does_not(kind):
    cell = minimal().without(("skip_connect", "none"))
    net = network(cell, 2, normalization=Normalization(kind, eps=1e-9))
    found = {own.name: own for own in theory.breaks(net, *batch(), Darts().sample(log_alpha(net), None))}
    for name in ("normalised", "weight standardisation and normalisation"):
        assert found[name].ratio < 1e-6 < 1e-3 < found[name].carried
    for name in ("no normalisation", "weight standardisation"):
        assert abs(found[name].ratio - 1) < 1e-12, "of degree 1: all of it passes"
    for name in ("scaled residual", "input-dependent gate", "fixed statistics"):
        assert found[name].ratio > 0.05
    assert (found["bias before normalisation"].ratio < 1e-6) is (kind == "batch")
    fixed, plain = found["fixed statistics"], found["normalised"]
    assert abs(fixed.carried / plain.carried - 1) > 0.01, "the values are the same, the gradients are not"


def test_fixed_statistics_leave_the_values_as_they_are():
    from nas_core.theory.broken import fixed_statistics, scaled_residual

    net, (images, labels) = network(minimal()), batch()
    sample = Darts().sample(log_alpha(net), None)
    plain, fixed, other = (
        theory.trace(net, images, labels, sample, run=run) for run in (None, fixed_statistics, scaled_residual)
    )
    assert torch.allclose(plain.logits, fixed.logits, rtol=0, atol=1e-13)
    assert float((plain.logits - other.logits).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_the_residual_is_proportional_to_epsilon(kind):
    cell = minimal().without(("skip_connect", "none"))
    net = network(cell, 2, normalization=Normalization(kind, eps=1e-5, groups=2))
    sample = Darts().sample(log_alpha(net), None)
    found = theory.epsilon_scaling(net, *batch(), sample, [10.0**k for k in (-13, -10, -7, -5, -1)])
    assert abs(found.slope - 1) < 0.01 and np.all(found.rounding < 1e-9)
    assert np.all(np.diff(found.ratios) > 0) and found.ratios[0] < 1e-9 < 0.1 < found.ratios[-1]
    assert found.residuals[-1] < 0.5e4 * found.residuals[-2], "it saturates where ε exceeds the variance"
    assert math.isnan(theory.epsilon_scaling(net, *batch(), sample, [1e-2, 1e-1]).slope)


def test_shares_cancel_but_are_not_small():
    """A node's edges share nothing together and much apiece: most of what they get from the output edge."""
    cell, traces = minimal().without(("skip_connect", "none")), []
    for seed in range(40):
        net = network(cell, seed=seed, eps=1e-9)
        sample = Uniform().sample(log_alpha(net), torch.Generator().manual_seed(seed))
        traces.append(theory.trace(net, *batch(seed), sample))
    first, second = theory.share_statistics(traces)
    assert (first.through, first.edge, second.edge, first.draws) == ((2, 3), (0, 2), (1, 2), 40)
    assert first.cancel < 1e-4 and first.mean_absolute > 0.2 * first.own_absolute
    values = [share.value for seen in traces for share in theory.shares(seen) if share.edge == (0, 2)]
    assert abs(first.mean - np.mean(values)) < 1e-15 and abs(first.z - first.mean / first.standard_error) < 1e-12
    assert abs(first.standard_error - np.std(values, ddof=1) / 40**0.5) < 1e-15
    assert abs(first.mean + second.mean) < 1e-6
    pairs = [[share.value for share in theory.shares(seen)] for seen in traces]
    assert abs(first.cancel - np.mean([abs(a + b) / (abs(a) + abs(b)) for a, b in pairs])) < 1e-15 < first.cancel


def test_what_a_skip_passes_is_measured_against_what_others_carry():
    cell = modified().fix((0, 1), "sep_conv_3x3").fix((0, 2), "sep_conv_3x3").fix((1, 2), "skip_connect")
    net = network(cell, eps=1e-9)
    seen = theory.trace(net, *batch(), Darts().sample(log_alpha(net), None))
    found, cost, sep = theory.skip_passed([seen, seen]), seen.cost[0].abs(), OPERATIONS.index("sep_conv_3x3")
    assert found.passed == float(cost[2, SKIP]) and abs(found.carried - float(cost[:2, sep].mean())) < 1e-15
    assert theory.skip_residual(seen).cases == 1 and theory.skip_residual(seen).held and found.ratio > 0
    plain = network(cell.fix((1, 2), "sep_conv_3x3"))
    empty = theory.skip_passed([theory.trace(plain, *batch(), Darts().sample(log_alpha(plain), None))])
    assert math.isnan(empty.passed) and math.isnan(empty.ratio) and empty.carried > 0


@pytest.mark.parametrize("relaxation", [Darts(), Snas(), Dsnas()], ids=lambda r: r.name)
def test_affine_free_instance_norm_leaves_nothing(relaxation):
    for order in ("relu-conv-norm", "conv-relu-norm"):
        net = network(minimal(), 2, normalization=Normalization("instance"), order=order)
        found = theory.instance_norm(net, *batch(), relaxation.sample(log_alpha(net), torch.Generator().manual_seed(0)))
        assert theory.learns_nothing(net) and found.held and found.residual.cases == 4
        assert max(found.cost, found.logits, found.gradient, abs(found.loss_gap)) < 1e-11


@pytest.mark.parametrize(
    "normalization, choices",
    [
        (Normalization("instance", affine=False), {"order": "conv-norm-relu"}),
        (Normalization("instance", affine=True), {}),
        (Normalization("batch"), {}),
    ],
)
def test_with_a_last_relu_a_shift_or_another_norm_it_learns(normalization, choices):
    """Eq 25's conditions are needed: a ReLU behind the norm alone lifts the means off 0."""
    net = network(minimal(), normalization=normalization, **choices)
    if normalization.affine:
        for module in net.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    found = theory.instance_norm(net, *batch(), Darts().sample(log_alpha(net), None))
    assert not theory.learns_nothing(net) and not found.held
    assert min(found.cost, found.logits, found.gradient) > 1e-4
