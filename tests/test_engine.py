"""The engine against the network evaluated module by module: loss, costs and the gradient of every weight."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_core import kernels, memory
from nas_core.cost import probe
from nas_core.features import Node
from nas_core.linear import Feature, Folded, Narrowed, Normalized, StandIn, back, products, rows
from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Snas, Uniform
from nas_core.space import OPERATIONS, Cell, Edge, SpaceError, darts, minimal
from nas_core.supernet import NetworkConfig, Supernet
from tests.networks import batch, log_alpha, network

RELAXATIONS = (Darts(), Snas(0.7), Dsnas(), Proxyless(), Uniform())
LAST = torch.channels_last


def by_modules(net, images, labels, sample):
    """Loss, cost and weight gradients from PyTorch's own modules and autograd."""
    gates = net.gates(sample).requires_grad_()
    loss = F.cross_entropy(net(images, sample, gates, twice=True), labels)
    loss.backward()
    cost = torch.zeros_like(gates) if gates.grad is None else gates.grad
    return loss.detach(), cost, taken(net)


def taken(net):
    """The gradients of the weights, which are cleared."""
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    return gradients


def apart(left, right):
    """The largest difference of two sets of gradients; None counts as zeros."""
    pairs = [(left[name], right[name]) for name in left]
    zero = [
        tuple(torch.zeros_like(b if a is None else a) if x is None else x for x in (a, b))
        for a, b in pairs
        if a is not b
    ]
    return max((float((a - b).abs().max()) for a, b in zero), default=0.0)


@st.composite
def cells(draw):
    """A random cell of 1 or 2 inputs and 2 to 4 intermediate nodes with random edges, candidates and outputs."""
    inputs, nodes = draw(st.integers(1, 2)), draw(st.integers(2, 4))
    last = inputs + nodes
    edges = []
    for target in range(inputs, last):
        for source in draw(st.sets(st.integers(0, target - 1), min_size=1)):
            names = draw(st.sets(st.sampled_from(OPERATIONS), min_size=1, max_size=4))
            edges.append(Edge(source, target, tuple(names)))
    sources = {edge.source for edge in edges}
    outputs = draw(st.sets(st.integers(inputs, last - 1), min_size=1)) | (set(range(inputs, last)) - sources)
    try:
        return Cell("random", inputs, nodes, tuple(edges), tuple(sorted(outputs)))
    except SpaceError:
        return darts(2)


def untied(cell, count):
    """The cell with max pooling only where its input comes straight from the stem's convolution.

    Neighbouring windows share their maximum, so what max pooling made holds equal pixels. Where a second one chooses
    among them the loss has a kink, and a rounding decides which one-sided derivative a backward pass returns."""

    def kept(edge):
        if count == 1 and edge.source < cell.inputs:
            return edge.operations
        return tuple(name for name in edge.operations if name != "max_pool_3x3") or ("avg_pool_3x3",)

    edges = tuple(Edge(edge.source, edge.target, kept(edge)) for edge in cell.edges)
    return Cell(cell.name, cell.inputs, cell.nodes, edges, cell.outputs)


@settings(max_examples=60, deadline=None)
@given(
    cell=cells(),
    count=st.integers(1, 3),
    reduction=st.booleans(),
    affine=st.booleans(),
    relaxation=st.sampled_from(RELAXATIONS),
    counterfactual=st.booleans(),
    side=st.integers(5, 8),
    seed=st.integers(0, 999),
)
def test_the_engine_equals_the_modules(cell, count, reduction, affine, relaxation, counterfactual, side, seed):
    net = network(
        untied(cell, count),
        count,
        reduction=reduction and count == 3,
        seed=seed,
        normalization=Normalization(affine=affine),
        head_bias=True,
    )
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    images, labels = batch(seed, images=5, size=side)
    alpha = log_alpha(net, seed)
    sample = relaxation.sample(alpha, torch.Generator().manual_seed(seed))
    if counterfactual:
        sample = sample.counterfactual(alpha)
    assert net.fused
    loss, cost, gradients = by_modules(net, images, labels, sample)
    measured = probe(net, images, labels, sample, train=True)
    scale = 1 + max(float(g.abs().max()) for g in gradients.values() if g is not None)
    assert abs(float(measured.loss - loss)) < 1e-10
    assert torch.allclose(measured.cost, cost, rtol=0, atol=1e-10 * scale)
    assert apart(taken(net), gradients) < 1e-10 * scale
    alone = probe(net, images, labels, sample)
    assert torch.allclose(alone.cost, cost, rtol=0, atol=1e-10 * scale)
    assert taken(net).values() and all(gradient is None for gradient in taken(net).values())


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda r: r.name)
def test_in_float32_the_engine_is_no_further_from_float64_than_a_few_roundings(relaxation):
    """Costs of order 0.1 are off by about 1e-8, gradients by 2e-6 of the largest; the bounds leave a factor of ten.

    Without max pooling: where two pixels are all but equal, a rounding decides which of them takes the gradient."""
    cell = minimal().without("max_pool_3x3")
    exact = Supernet(NetworkConfig(cell, cells=2), seed=3).double()
    rounded = Supernet(NetworkConfig(cell, cells=2), seed=3).to(memory_format=LAST)
    images, labels = batch(images=32, size=16)
    sample = relaxation.sample(log_alpha(exact, scale=0.1), torch.Generator().manual_seed(0))
    _, cost, gradients = by_modules(exact, images, labels, sample)
    measured = probe(rounded, images.float().contiguous(memory_format=LAST), labels, sample, train=True)
    assert float((measured.cost.double() - cost).abs().max()) < 5e-7
    got = {name: None if g is None else g.double() for name, g in taken(rounded).items()}
    largest = max(float(g.abs().max()) for g in gradients.values() if g is not None)
    assert apart(got, gradients) < 3e-5 * largest


def test_what_the_engine_does_not_cover_goes_by_modules():
    for normalization, order in (("layer", "relu-conv-norm"), ("batch", "conv-relu-norm")):
        assert not network(normalization=Normalization(normalization), order=order).fused


def test_a_second_backward_pass_is_refused():
    net, (images, labels) = network(), batch()
    sample = Darts().sample(log_alpha(net), torch.Generator())
    loss = F.cross_entropy(net(images, sample, net.gates(sample).requires_grad_()), labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="asked for twice"):
        loss.backward()


def test_nothing_is_kept_for_weights_when_only_costs_are_asked_for():
    net, (images, _) = network(cells=2), batch()
    sample = Darts().sample(log_alpha(net), torch.Generator())
    logits = net(images, sample, net.gates(sample).requires_grad_(), train=False)
    logits.sum().backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} <= {"head.weight", "head.bias"}


# -- the linear maps ---------------------------------------------------------------------------------------------------


def maps(seed, count, channels_in, channels_out, mean=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = [torch.randn(3, 7, channels_in, generator=generator, dtype=torch.float64) + mean for _ in range(count)]
    weights = [torch.randn(channels_out, channels_in, generator=generator, dtype=torch.float64) for _ in range(count)]
    gains, shifts = (
        [torch.randn(channels_out, generator=generator, dtype=torch.float64) for _ in range(count)] for _ in range(2)
    )
    gradient = torch.randn(3, 7, channels_out, generator=generator, dtype=torch.float64)
    return x, weights, gains, shifts, gradient


def normalised(x, weight, gain, shift, eps):
    p = (x @ weight.t()).flatten(0, 1)
    return F.batch_norm(p, None, None, gain, shift, True, 0.0, eps).view(*x.shape[:2], -1)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("affine", [False, True])
def test_folded_maps_equal_batch_normalisation_and_its_gradients(affine, eps):
    x, weights, gains, shifts, gradient = maps(0, 3, 4, 5, mean=2.0)
    features = [Feature(one) for one in x]
    folded = Folded(features, weights, gains if affine else None, shifts if affine else None, eps)
    z = torch.tensor([0.3, 1.0, -0.7], dtype=torch.float64)
    pull = folded.pull(torch.stack([products(gradient, one) for one in x]), gradient.sum((0, 1)).expand(3, -1), z)
    for m in range(3):
        leaves = [t.clone().requires_grad_() for t in (x[m], weights[m], gains[m], shifts[m])]
        used = leaves if affine else [*leaves[:2], None, None]
        h = normalised(*used, eps)
        assert torch.allclose(x[m] @ folded.matrix[m].t() + folded.offset[m], h, atol=1e-12)
        assert torch.allclose(pull.cost[m], (gradient * h).sum(), atol=1e-12)
        expected = torch.autograd.grad((z[m] * h * gradient).sum(), leaves[: 4 if affine else 2])
        got = (back(gradient, x[m], pull, m), pull.weight[m], pull.gain[m], pull.shift[m])
        for a, b in zip(got, expected):
            assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("normalized_ahead", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_narrowed_maps_equal_batch_normalisation_and_its_gradients(affine, normalized_ahead):
    """Also where the map that enters is normalised on its way in: then ``back`` is given what the normalisation sees."""
    (raw, _), weights, gains, shifts, gradient = maps(1, 2, 6, 3, mean=1.0)
    ahead = Normalized(raw, torch.linspace(0.5, 2, 6), torch.linspace(-1, 1, 6), 1e-5) if normalized_ahead else None
    x, entering = raw if ahead is None else ahead.of(raw), raw
    narrowed = Narrowed(entering, weights, gains if affine else None, shifts if affine else None, 1e-5, ahead)
    gradients = (gradient, 2 * gradient.flip(1))
    leaves = [t.clone().requires_grad_() for t in (x, *weights, *gains, *shifts)]
    outputs = [
        normalised(leaves[0].relu(), leaves[1 + m], *((leaves[3 + m], leaves[5 + m]) if affine else (None, None)), 1e-5)
        for m in range(2)
    ]
    for own, other in zip(narrowed.outputs, outputs):
        assert torch.allclose(own, other, atol=1e-12)
    total = sum((h * g).sum() for h, g in zip(outputs, gradients))
    expected = torch.autograd.grad(total, leaves if affine else leaves[:3])
    own_weights, own_gains, own_shifts, own_x = narrowed.back(gradients, entering, True, True)
    for a, b in zip((own_x, *own_weights, *own_gains, *own_shifts), expected):
        assert torch.allclose(a, b, atol=1e-11)
    # Half of the gradients missing is the same as zeros.
    some = narrowed.back((gradient, None), entering, True, True)
    assert torch.allclose(some[3], narrowed.back((gradient, torch.zeros_like(gradient)), entering, True, True)[3])
    # Only what is asked for is made.
    assert narrowed.back(gradients, entering, False, True)[3] is None
    assert narrowed.back(gradients, entering, True, False)[0] == []


@pytest.mark.parametrize("size", [1, 3000, 1 << 20])
def test_blocks_of_images_change_no_bit(monkeypatch, size):
    """A whole step in float32, with blocks of one image, of a few with a shorter last one, and of all."""
    net, (images, labels) = network(minimal(), 2).float(), batch(7, images=7, size=8)
    images = images.float().contiguous(memory_format=LAST)
    sample = Darts().sample(log_alpha(net), torch.Generator().manual_seed(0))
    found = []
    for limit in (1 << 30, size):
        monkeypatch.setattr(memory, "BLOCK_BYTES", limit)
        measured = probe(net, images, labels, sample, train=True)
        found.append((measured.loss, measured.cost, *taken(net).values()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_block_is_as_many_images_as_fit(monkeypatch):
    x = torch.zeros(7, 10, 3)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2 * 10 * 3 * 4)
    assert [len(own) for own, _ in memory.blocks(x, x)] == [2, 2, 2, 1]
    assert [len(own) for (own,) in memory.blocks(x, share=2)] == [1] * 7
    monkeypatch.setattr(memory, "BLOCK_BYTES", 1)
    assert len(list(memory.blocks(x))) == 7


def test_a_large_mean_costs_no_digits_of_the_variance():
    """Variance from second moments loses the square of mean over deviation: here 100 times ε of float32."""
    x = (torch.randn(64, 256, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 10).float()
    exact = Feature(x.double()).covariance
    assert float((Feature(x).covariance - exact).abs().max()) < 100 * 1.2e-7 * 10


# -- the kernels -------------------------------------------------------------------------------------------------------

SIDES = [(8, 8), (7, 9), (2, 3), (1, 1), (1, 5)]


def image_of(height, width, ties=False):
    x = torch.randn(3, 4, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (x.round() if ties else x).contiguous(memory_format=LAST)


def random_like(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype).contiguous(
        memory_format=LAST
    )


@pytest.mark.parametrize("together", [0, 1 << 18])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel, dilation", [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("height, width", SIDES)
def test_depthwise_gradients_equal_autograd(monkeypatch, height, width, kernel, dilation, stride, together):
    monkeypatch.setattr(kernels, "TOGETHER_BYTES", together)
    x = image_of(height, width).requires_grad_()
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(4, 1, kernel, kernel, generator=generator, dtype=torch.float64, requires_grad=True)
    y = kernels.depthwise(x, weight, stride, dilation)
    gradient = random_like(y)
    expected = torch.autograd.grad(y, [x, weight], gradient)
    arguments = gradient, x.detach(), weight.detach(), stride, dilation
    for own, other in zip((kernels.depthwise_input_gradient, kernels.depthwise_weight_gradient), expected):
        assert torch.allclose(own(*arguments), other, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
def test_windows_side_by_side_change_no_bit(monkeypatch, dilation):
    """The four windows of a 5×5 weight gradient as channels of one map, and one after the other."""
    x = torch.randn(32, 8, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=LAST)
    gradient, weight, found = random_like(x), torch.zeros(8, 1, 5, 5), []
    for limit in (0, 1 << 18):
        monkeypatch.setattr(kernels, "TOGETHER_BYTES", limit)
        found.append(kernels.depthwise_weight_gradient(gradient, x, weight, 1, dilation))
    assert torch.equal(*found)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("height, width", SIDES)
def test_pools_and_their_gradients_equal_autograd(height, width, ties, stride):
    """Where several pixels are the largest, the same one takes the gradient."""
    x = image_of(height, width, ties).requires_grad_()
    largest = F.max_pool2d(x, 3, stride, 1)
    gradient = random_like(largest)
    own = kernels.max_pool(x.detach(), stride)
    assert torch.equal(own, largest)
    (expected,) = torch.autograd.grad(largest, x, gradient)
    assert torch.allclose(kernels.max_pool_gradient(gradient, x.detach(), own, stride), expected, atol=1e-14)
    average = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    (expected,) = torch.autograd.grad(average, x, gradient)
    assert torch.allclose(kernels.avg_pool(x.detach(), stride), average, atol=1e-14)
    assert torch.allclose(kernels.avg_pool_gradient(gradient, x.detach(), stride), expected, atol=1e-14)


def test_rows_are_a_view():
    x = image_of(4, 5)
    assert rows(x).data_ptr() == x.data_ptr() and rows(x).shape == (3, 20, 4)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_c_library_without_the_setting_is_no_error(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory.__wrapped__() is False


LARGE_PAGES = """
import resource, sys
import torch
from nas_core import memory

if sys.argv[1] == "small":
    used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory.RESERVED // 2,) * 2)
assert memory.keep_freed_memory() and memory.keep_freed_memory()
there, large = torch.ones(1 << 22).data_ptr(), None
for line in open("/proc/self/smaps"):
    name, *rest = line.split()
    if "-" in name and not name.endswith(":"):
        start, end = (int(side, 16) for side in name.split("-"))
    elif name == "VmFlags:" and start <= there < end:
        large = "hg" in rest
print(large)
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no large pages")
@pytest.mark.parametrize("room", ["enough", "small"])
def test_what_a_step_asks_for_lies_where_large_pages_are_asked_for(room):
    """Without room for the reserve everything goes on as ever."""
    done = subprocess.run([sys.executable, "-c", LARGE_PAGES, room], capture_output=True, text=True)
    assert done.stderr == "" and (done.stdout == "True\n" or room == "small")


def node(x, gain, shift):
    """A node whose map is normalised where it is needed."""
    return Node(x, Normalized(rows(x), gain, shift, 1e-5))


def test_batch_normalisation_keeps_its_digits_in_channels_last():
    """Next to float64, the engine's is closer than PyTorch's by more than a factor of ten."""
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(96, 8, 32, 32, generator=generator).contiguous(memory_format=LAST)
    gain, shift = torch.full((8,), 2.0), torch.full((8,), 0.5)
    exact = F.batch_norm(x.double(), None, None, gain.double(), shift.double(), True)
    own = node(x, gain, shift).x
    theirs = F.batch_norm(x, None, None, gain, shift, True)
    assert float((own - exact).abs().max()) < min(5e-6, float((theirs - exact).abs().max()) / 2)


def test_batch_normalisation_has_the_gradients_of_autograd():
    x, gain, shift = image_of(5, 6), torch.randn(4).double(), torch.randn(4).double()
    leaves = [t.requires_grad_() for t in (x, gain, shift)]
    gradient = random_like(x)
    expected = torch.autograd.grad(F.batch_norm(*leaves[:1], None, None, *leaves[1:], True), leaves, gradient)
    normalized = Normalized(rows(x), gain, shift, 1e-5)
    stands = StandIn.apply(normalized, *leaves)
    assert stands.shape == x.shape and stands.untyped_storage().nbytes() == 8
    got = torch.autograd.grad(stands, leaves, gradient)
    for own, other in zip(got, expected):
        assert torch.allclose(own, other, atol=1e-12)
