"""The probe against autograd, the estimators against enumeration, and the paper's identities as residuals."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from nas_core.cost import (
    CostStatistics,
    by_group,
    enumerate_samples,
    exact_cost,
    loss_and_entropy,
    per_cell,
    probe,
    sample_probability,
    unrolled_cost,
)
from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Sample, Snas, Uniform, masked, probability
from nas_core.space import NONE, OPERATIONS, SKIP, darts, minimal, modified, simplified
from tests.networks import POOLS, batch, log_alpha, network

NAMED = {
    "darts": Darts(),
    "snas": Snas(),
    "snas-cold": Snas(temperature=0.3),
    "dsnas": Dsnas(),
    "dsnas-reference": Dsnas("reference", 5.0),
    "proxylessnas": Proxyless(),
    "uniform": Uniform(),
}
RELAXATIONS = list(NAMED.values())


def plain_logits(net, images, z_NEK):
    """The network as anyone would write it: every operation runs, times Z, and is summed; autograd does the rest."""
    stem = net.stem(images)
    states = [stem, stem]
    cell = net.config.cell
    for position, module in enumerate(net.cells):
        nodes = [prepare(state) for prepare, state in zip(module.preprocess, states[-cell.inputs :])]
        for target in cell.intermediate:
            total = 0
            for index in cell.incoming(target):
                for name, operation in module.edges[index].items():
                    total = total + z_NEK[position, index, OPERATIONS.index(name)] * operation(
                        nodes[cell.edges[index].source]
                    )
            nodes.append(total)
        states = [states[-1], torch.cat([nodes[node] for node in cell.outputs], 1)]
    return net.head(states[-1].mean((2, 3)))


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=list(NAMED))
@pytest.mark.parametrize("cell, cells, reduction", [(minimal(), 2, False), (darts(3), 3, True), (modified(), 1, False)])
def test_the_probe_equals_autograd(relaxation, cell, cells, reduction):
    net = network(cell, cells, reduction=reduction, head_bias=True)
    images, labels = batch(size=8)
    sample = relaxation.sample(log_alpha(net), torch.Generator().manual_seed(3))
    measured = probe(net, images, labels, sample)
    z = per_cell(net, sample.z).clone().requires_grad_()
    loss = F.cross_entropy(plain_logits(net, images, z), labels)
    (expected,) = torch.autograd.grad(loss, z)
    active = per_cell(net, sample.active)
    assert abs(float(measured.loss - loss.detach())) < 1e-12
    assert torch.allclose(measured.cost[active], expected[active], rtol=0, atol=1e-10)
    assert torch.all(measured.cost[..., NONE] == 0)
    assert torch.all(measured.cost[~active] == 0)


@pytest.mark.parametrize("relaxation", [Darts(), Snas(), Dsnas()], ids=lambda r: r.name)
@pytest.mark.parametrize("height, width", [(9, 9), (10, 10), (9, 10)])
def test_reduction_works_on_odd_sides(relaxation, height, width):
    """Halving 9 or 10 pixels twice: loss and costs are those of autograd."""
    net = network(minimal(), 3, reduction=True)
    images, labels = batch(size=10)
    images = images[:, :, :height, :width]
    sample = relaxation.sample(log_alpha(net, scale=0.1), torch.Generator().manual_seed(0))
    z = per_cell(net, sample.z).clone().requires_grad_()
    loss = F.cross_entropy(plain_logits(net, images, z), labels)
    (expected,) = torch.autograd.grad(loss, z)
    got, active = probe(net, images, labels, sample), per_cell(net, sample.active)
    assert abs(float(got.loss - loss.detach())) < 1e-12
    assert torch.allclose(got.cost[active], expected[active], rtol=0, atol=1e-10)


@pytest.mark.parametrize("height, width", [(9, 9), (10, 10), (9, 10)])
def test_a_node_that_nothing_enters_has_the_size_of_the_others(height, width):
    """*none* on both edges into node 2: its zeros stand beside node 3, and go on to it over edge (2, 3)."""
    net = network(minimal(), 3, reduction=True)
    images, labels = batch(size=10)
    images = images[:, :, :height, :width]
    z = one_path(net, "sep_conv_3x3").z
    z[:, :2] = one_path(net, "none").z[:, :2]
    sample = Sample(z, z > 0)
    loss = F.cross_entropy(plain_logits(net, images, per_cell(net, z)).detach(), labels)
    assert abs(float(probe(net, images, labels, sample).loss - loss)) < 1e-12
    assert probe(net, images, labels, one_path(net, "none")).logits.abs().max() == 0


def one_path(net, operation):
    """The sample in which every edge of every cell is ``operation``."""
    z = torch.zeros_like(log_alpha(net))
    z[..., OPERATIONS.index(operation)] = 1
    return Sample(z, z > 0)


def test_normal_and_reduction_cells_follow_the_alpha_of_their_group():
    """Of three cells the last two reduce: each group's Z reaches its own cells, in gates, forward pass and cost."""
    net = network(cells=3, reduction=True)
    assert [net.config.group(position) for position in range(3)] == [0, 1, 1]
    z = torch.stack([one_path(net, "sep_conv_3x3").z[0], one_path(net, "max_pool_3x3").z[1]])
    sample = Sample(z, z > 0)
    cost = probe(net, *batch(size=8), sample).cost
    names = [{OPERATIONS[k] for edge in group for k, _ in edge} for group in net.plan(sample)]
    assert names == [{"sep_conv_3x3"}, {"max_pool_3x3"}]
    assert torch.equal(net.gates(sample), z[[0, 1, 1]]) and torch.equal(per_cell(net, z), z[[0, 1, 1]])
    assert torch.equal(cost != 0, z[[0, 1, 1]] > 0)


def test_the_cost_is_summed_over_the_cells_of_each_group():
    net = network(cells=4, reduction=True)
    cost = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    summed = by_group(net, cost)
    assert summed.dtype == torch.float64
    assert torch.equal(summed, torch.stack([cost[0].double() + cost[3].double(), cost[1].double() + cost[2].double()]))
    assert torch.equal(by_group(network(cells=4), cost), cost.double().sum(0, keepdim=True))


def test_a_sample_of_what_an_edge_lacks_is_refused():
    net = network(minimal().without("max_pool_3x3", 4))
    good = one_path(net, "skip_connect")
    assert net.plan(good) == [[[(SKIP, 1.0)]] * 5]
    active = good.active.clone()
    active[0, 4, OPERATIONS.index("max_pool_3x3")] = True
    with pytest.raises(ValueError, match="activates an operation that an edge of the minimal cell lacks") as caught:
        probe(net, *batch(), Sample(good.z, active))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("relaxation", [Darts(), Snas(), Dsnas(), Proxyless()], ids=lambda r: r.name)
def test_the_probe_leaves_the_weight_gradients_what_they_are(relaxation):
    net, plain = network(cells=2), network(cells=2)
    images, labels = batch()
    sample = relaxation.sample(log_alpha(net), torch.Generator().manual_seed(1))
    probe(net, images, labels, sample, train=True)
    F.cross_entropy(plain_logits(plain, images, per_cell(net, sample.z)), labels).backward()
    for (name, own), other in zip(net.named_parameters(), plain.parameters()):
        expected = torch.zeros_like(own) if other.grad is None else other.grad
        got = torch.zeros_like(own) if own.grad is None else own.grad
        assert torch.allclose(got, expected, rtol=0, atol=1e-12), name


def test_only_what_the_sample_activates_is_evaluated():
    net, (images, _) = network(), batch()
    sample = Dsnas().sample(log_alpha(net), torch.Generator().manual_seed(0))
    drawn = [(e, k) for e, k in enumerate(sample.z[0].argmax(-1).tolist()) if k != NONE]
    assert [(e, k) for e, edge in enumerate(net.plan(sample)[0]) for k, _ in edge] == drawn and len(drawn) < 6
    convolutions = sum({"sep": 2, "dil": 1}.get(OPERATIONS[k][:3], 0) for _, k in drawn)
    with Counted("aten::convolution") as counted:
        net(images, sample)
    # Beside the sampled ones there is the stem's, and one for an average pool.
    averages = len({net.config.cell.edges[e].source for e, k in drawn if OPERATIONS[k] == "avg_pool_3x3"})
    assert counted.calls == convolutions + averages + 1


class Counted(TorchDispatchMode):
    """How often an operator of PyTorch runs."""

    def __init__(self, name):
        super().__init__()
        self.name, self.calls = name, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += function.name() == self.name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("relaxation", [Darts(), Snas(temperature=0.7)], ids=lambda r: r.name)
def test_alpha_gradients_of_soft_relaxations_equal_autograd(relaxation):
    net, (images, labels) = network(cells=2), batch()
    alpha = log_alpha(net)
    sample = relaxation.sample(alpha, torch.Generator().manual_seed(5))
    cost = by_group(net, probe(net, images, labels, sample).cost)
    got = relaxation.alpha_gradient(alpha, sample, cost)
    free = alpha.clone().requires_grad_()
    # Z again from the same noise, this time as a function of α.
    z = relaxation.sample(free, torch.Generator().manual_seed(5)).z
    loss = F.cross_entropy(plain_logits(net, images, per_cell(net, z)), labels)
    (expected,) = torch.autograd.grad(loss, free)
    assert torch.allclose(got, expected, rtol=0, atol=1e-10)


def small_space():
    """Three edges with three cheap candidates each: 27 architectures."""
    return network(simplified().only(POOLS), channels=3)


def test_enumeration_visits_every_architecture_once():
    net = small_space()
    alpha = log_alpha(net)
    samples = list(enumerate_samples(net.config.cell))
    assert len({tuple(s.z[0].argmax(-1).tolist()) for s in samples}) == 27
    assert abs(sum(sample_probability(s, alpha) for s in samples) - 1) < 1e-12
    with pytest.raises(ValueError, match="more than the"):
        next(enumerate_samples(darts(4)))


def test_the_sampled_mean_converges_to_the_exact_expectation():
    """Over 4000 samples every conditional mean lies within five of its standard errors, and the errors are small."""
    net, (images, labels) = small_space(), batch(1)
    alpha = log_alpha(net, scale=0.3)
    exact = exact_cost(net, images, labels, alpha).conditional
    generator = torch.Generator().manual_seed(0)
    cached = {
        tuple(s.z[0].argmax(-1).tolist()): probe(net, images, labels, s).cost
        for s in enumerate_samples(net.config.cell)
    }
    statistics = CostStatistics(1, 3)
    for _ in range(4000):
        sample = Dsnas().sample(alpha, generator)
        statistics.update(cached[tuple(sample.z[0].argmax(-1).tolist())], per_cell(net, sample.active))
    seen = statistics.count > 0
    error = (statistics.means() - exact).abs()[seen]
    assert torch.all(error <= 5 * statistics.standard_error()[seen] + 1e-12)
    assert seen.sum() == 9 and float(error.max()) < 0.02


def test_expected_gradients_equal_the_enumerated_ones():
    """DSNAS: Σ_Z p(Z) gradient = ∇ of E[C], C held fixed. Proxyless: Σ_Z p(Z) J·C(Z) with its counterfactual costs."""
    net, (images, labels) = small_space(), batch(2)
    alpha = log_alpha(net)
    exact = exact_cost(net, images, labels, alpha)
    p = probability(alpha)
    score, straight = torch.zeros_like(p), torch.zeros_like(p)
    for sample in enumerate_samples(net.config.cell):
        weight = sample_probability(sample, alpha)
        cost = by_group(net, probe(net, images, labels, sample).cost)
        score += weight * Dsnas().alpha_gradient(alpha, sample, cost)
        full = sample.counterfactual(alpha)
        cost = by_group(net, probe(net, images, labels, full).cost)
        straight += weight * Proxyless().alpha_gradient(alpha, full, cost)
    # Against autograd: Σ_k softmax(α)_k E[C | k], the costs being constants (Eq 4).
    free = alpha.clone().requires_grad_()
    local = (probability(free) * exact.conditional).sum()
    (expected,) = torch.autograd.grad(local, free)
    assert torch.allclose(score, expected, rtol=0, atol=1e-10)
    assert torch.allclose(exact.score_gradient, expected, rtol=0, atol=1e-10)
    # Proxyless: average the exact cost vector first, then one Jacobian product; it is linear in C.
    mean_cost = torch.zeros_like(p)
    for sample in enumerate_samples(net.config.cell):
        z = per_cell(net, sample.z).clone().requires_grad_()
        loss = F.cross_entropy(plain_logits(net, images, z), labels)
        mean_cost += sample_probability(sample, alpha) * torch.autograd.grad(loss, z)[0]
    free = alpha.clone().requires_grad_()
    (expected,) = torch.autograd.grad((probability(free) * mean_cost).sum(), free)
    assert torch.allclose(straight, expected, rtol=0, atol=1e-10)


def test_proxyless_draws_have_the_enumerated_mean():
    net, (images, labels) = small_space(), batch(2)
    alpha = log_alpha(net, scale=0.3)
    gradients = {}
    exact = 0
    for sample in enumerate_samples(net.config.cell):
        cost = by_group(net, probe(net, images, labels, sample.counterfactual(alpha)).cost)
        gradient = Proxyless().alpha_gradient(alpha, sample, cost)
        gradients[tuple(sample.z[0].argmax(-1).tolist())] = gradient
        exact = exact + sample_probability(sample, alpha) * gradient
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [gradients[tuple(Proxyless().sample(alpha, generator).z[0].argmax(-1).tolist())] for _ in range(3000)]
    )
    error = (drawn.mean(0) - exact).abs()
    assert torch.all(error <= 5 * drawn.std(0) / 3000**0.5 + 1e-12)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cell=st.sampled_from([minimal(), simplified(), darts(3)]),
    relaxation=st.sampled_from([Darts(), Snas(), Dsnas(), Uniform()]),
    order=st.sampled_from(["relu-conv-norm", "conv-relu-norm", "conv-norm-relu"]),
    kind=st.sampled_from(["batch", "layer", "group"]),
)
def test_total_cost_is_loss_minus_entropy(seed, cell, relaxation, order, kind):
    """Theorem 2 with its one exception taken out: without skip_connect, ΣZ·C of the last cell is L − H, up to ε."""
    cell = cell.without("skip_connect")
    net = network(
        cell, cells=1, seed=seed, order=order, normalization=Normalization(kind, eps=0 if kind == "batch" else 1e-12)
    )
    images, labels = batch(seed)
    if relaxation.name in ("dsnas", "uniform"):
        # A node of zeros has no variance to divide by: with ε = 0 it has no derivative, so *none* stays out here.
        net = network(cell.without("none"), seed=seed, order=order, normalization=net.config.normalization)
    sample = relaxation.sample(log_alpha(net, seed), torch.Generator().manual_seed(seed))
    measured = probe(net, images, labels, sample)
    loss, entropy = loss_and_entropy(measured.logits, labels)
    total = (per_cell(net, sample.z) * measured.cost).sum()
    assert abs(float(total - (loss - entropy).mean())) < 1e-6


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cells=st.integers(2, 4),
    relaxation=st.sampled_from([Dsnas(), Uniform(), Darts(), Snas()]),
)
def test_every_cell_but_the_last_sums_to_zero(seed, cells, relaxation):
    """Corollary 1.2: all paths out of such a cell pass a normalisation before they reach the loss; in soft samples
    skip is one path inside the last cells that does not, so it is taken out there too."""
    cell = minimal().without(("skip_connect", "none"))
    net = network(cell, cells, seed=seed, eps=1e-14)
    images, labels = batch(seed)
    sample = relaxation.sample(log_alpha(net, seed), torch.Generator().manual_seed(seed))
    sums = (per_cell(net, sample.z) * probe(net, images, labels, sample).cost).sum((1, 2))
    assert torch.all(sums[:-1].abs() < 1e-8)
    assert abs(float(sums[-1])) > 1e-6


def test_costs_into_a_hidden_node_sum_to_zero_unless_skip_passes_them_on():
    """Theorem 1 at a node: in the modified cell node 1 reaches the output by edge (1, 2) alone, so C on (0, 1) is 0."""
    images, labels = batch()
    for operation in ("sep_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "avg_pool_3x3"):
        cell = modified().fix((0, 1), "sep_conv_5x5").fix((0, 2), "sep_conv_3x3").fix((1, 2), operation)
        net = network(cell, eps=1e-14)
        cost = probe(net, images, labels, Darts().sample(log_alpha(net), None)).cost[0]
        assert abs(float(cost[0].sum())) < 1e-9 < abs(float(cost[2].sum()))
    net = network(
        modified().fix((0, 1), "sep_conv_5x5").fix((0, 2), "sep_conv_3x3").fix((1, 2), "skip_connect"), eps=1e-14
    )
    cost = probe(net, images, labels, Darts().sample(log_alpha(net), None)).cost[0]
    assert abs(float(cost[0].sum())) > 1e-6
    assert abs(float(cost[0].sum() - cost[2, SKIP])) < 1e-12, "Eq 20: skip passes the whole cost on"


def test_the_identities_break_without_normalisation():
    """A test of the tests above: with no normalisation the sum over an inner cell is far from 0."""
    net = network(minimal().without(("skip_connect", "none")), 2, normalization=Normalization("identity"))
    images, labels = batch()
    sample = Uniform().sample(log_alpha(net), torch.Generator().manual_seed(0))
    sums = (per_cell(net, sample.z) * probe(net, images, labels, sample).cost).sum((1, 2))
    assert abs(float(sums[0])) > 1e-6


@pytest.mark.parametrize("relaxation", [Darts(), Snas()], ids=lambda r: r.name)
@pytest.mark.parametrize("momentum", [False, True])
def test_the_second_order_cost_equals_autograd_through_the_step(relaxation, momentum):
    net = network(channels=2)
    train, search = batch(1), batch(2)
    sample = relaxation.sample(log_alpha(net), torch.Generator().manual_seed(0))
    buffers = {name: torch.full_like(p, 0.01) for name, p in net.named_parameters()} if momentum else None
    got = unrolled_cost(net, train, search, sample, learning_rate=0.1, weight_decay=0.01, momentum=buffers)
    z = per_cell(net, sample.z).clone().requires_grad_()
    names, weights = zip(*net.named_parameters())
    inner = F.cross_entropy(plain_logits(net, train[0], z), train[1])
    gradients = torch.autograd.grad(inner, weights, create_graph=True)
    for name, weight, gradient in zip(names, weights, gradients):
        step = gradient + 0.01 * weight.detach() + (buffers[name] if momentum else 0)
        _set(net, name, weight.detach() - 0.1 * step)
    (expected,) = torch.autograd.grad(F.cross_entropy(plain_logits(net, search[0], z), search[1]), z)
    active = per_cell(net, sample.active)
    assert torch.allclose(got.cost[active], expected[active], rtol=0, atol=1e-10)
    first_order = probe(network(channels=2), *search, sample).cost
    assert float((got.cost - first_order).abs().max()) > 1e-4, "the second-order term must not vanish here"


def _set(net, name, tensor):
    *path, last = name.split(".")
    module = net.get_submodule(".".join(path))
    del module._parameters[last]
    setattr(module, last, tensor)


def test_looking_ahead_of_a_sample_of_nothing_costs_nothing():
    """Without a path there is no derivative by Z, of either order; the loss is still that of the second batch."""
    net = network(cells=2, head_bias=True)
    got = unrolled_cost(net, batch(1), batch(2), one_path(net, "none"), learning_rate=0.1, weight_decay=0.01)
    assert got.cost.shape == (2, 5, 8) and torch.all(got.cost == 0)
    bias, labels = net.head.bias.detach().clone().requires_grad_(), batch(1)[1]
    (gradient,) = torch.autograd.grad(F.cross_entropy(bias.expand(6, 10), labels), bias)
    stepped = (bias - 0.1 * (gradient + 0.01 * bias)).detach()
    assert abs(float(got.loss - F.cross_entropy(stepped.expand(6, 10), batch(2)[1]))) < 1e-12


def test_statistics_take_in_only_what_was_observed():
    """Every entry has a mask of its own; what it did not observe changes neither count nor mean nor variance."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(9, 2, 3, 8, generator=generator, dtype=torch.float64)
    seen = torch.rand(9, 2, 3, 8, generator=generator) < torch.linspace(0, 1, 8)
    statistics = CostStatistics(2, 3)
    for value, mask in zip(values, seen):
        statistics.update(value, mask)
    assert torch.equal(statistics.count, seen.sum(0).double())
    assert {0.0, 9.0} < set(statistics.count.flatten().tolist()), "entries without a batch, with some, and with all"
    for entry in np.ndindex(2, 3, 8):
        own = values[(slice(None), *entry)][seen[(slice(None), *entry)]].numpy()
        mean, variance = (float(part[entry]) for part in (statistics.means(), statistics.variance()))
        assert np.isclose(mean, own.mean() if len(own) else np.nan, rtol=0, atol=1e-12, equal_nan=True)
        assert np.isclose(variance, own.var(ddof=1) if len(own) > 1 else np.nan, rtol=0, atol=1e-12, equal_nan=True)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=1, max_size=5))
def test_statistics_merge_to_those_of_all_batches(runs):
    merged = CostStatistics(1, 1)
    seen = torch.zeros(1, 1, len(OPERATIONS), dtype=torch.bool)
    seen[..., 3] = True
    for run in runs:
        part = CostStatistics(1, 1)
        for value in run:
            part.update(torch.full((1, 1, len(OPERATIONS)), value), seen)
        merged.merge(part)
    # The probe's costs may be float32; so are the ones here.
    values = np.float32(list(itertools.chain(*runs))).astype(float)
    assert float(merged.count[0, 0, 3]) == len(values)
    assert abs(float(merged.means()[0, 0, 3]) - values.mean()) < 1e-9
    if len(values) > 1:
        assert abs(float(merged.variance()[0, 0, 3]) - values.var(ddof=1)) < 1e-9
        assert abs(float(merged.standard_error()[0, 0, 3]) - values.std(ddof=1) / len(values) ** 0.5) < 1e-9
    assert torch.isnan(merged.means()[0, 0, 0]), "what was never observed has no mean"


def test_an_operation_that_an_edge_lacks_has_no_probability_and_no_gradient():
    cell = minimal().fix(0, "max_pool_3x3").without("none", 4)
    net = network(cell)
    alpha = masked(torch.zeros(1, 5, 8, dtype=torch.float64), cell)
    generator = torch.Generator().manual_seed(0)
    for relaxation in RELAXATIONS:
        for _ in range(20):
            sample = relaxation.sample(alpha, generator)
            gradient = relaxation.alpha_gradient(alpha, sample, torch.ones_like(alpha))
            assert torch.all(sample.z[~torch.isfinite(alpha)] == 0)
            assert torch.all(gradient[~torch.isfinite(alpha)] == 0) and torch.isfinite(gradient).all()
        assert float(sample.z[0, 0, 2]) == 1
    assert probe(net, *batch(), sample).cost.shape == (1, 5, 8)


def test_a_sample_of_nothing_costs_nothing():
    net = network(minimal().only(("none",)))
    measured = probe(net, *batch(), Uniform().sample(log_alpha(net), torch.Generator()))
    assert torch.all(measured.cost == 0) and abs(float(measured.loss) - np.log(10)) < 1e-12
