"""Every operation against the same weights put through PyTorch's own functions, written out step by step."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas_core.operations import NORMALIZATIONS, ORDERS, FactorizedReduce, Norm, Normalization, build, stack
from nas_core.space import OPERATIONS

CHANNELS, EPS = 8, 1e-2
MODULES = [name for name in OPERATIONS if name != "none"]


def images(size=6, channels=CHANNELS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, size, size + 1, generator=generator, dtype=torch.float64)


def with_random_weights(module, seed=1):
    """The module in float64, every parameter drawn anew: affine ones start at 1 and 0, which would hide their use."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def normalised(x, norm):
    """What torch's module of that kind makes of x, then scale and shift per channel."""
    modules = {
        "identity": lambda: nn.Identity(),
        "batch": lambda: nn.BatchNorm2d(x.shape[1], eps=EPS, affine=False, track_running_stats=False),
        "instance": lambda: nn.InstanceNorm2d(x.shape[1], eps=EPS),
        "layer": lambda: nn.LayerNorm(x.shape[1:], eps=EPS, elementwise_affine=False),
        "group": lambda: nn.GroupNorm(norm.normalization.groups, x.shape[1], eps=EPS, affine=False),
    }
    out = modules[norm.normalization.kind]()(x)
    return out if norm.weight is None else out * norm.weight[:, None, None] + norm.bias[:, None, None]


def convolved(x, kernel, stride, dilation, weights):
    """A depthwise convolution that keeps the size up to its stride, then a pointwise one."""
    depthwise, pointwise = weights
    assert depthwise.shape == (CHANNELS, 1, kernel, kernel)
    padding = (kernel // 2) * dilation
    spread = F.conv2d(x, depthwise, stride=stride, padding=padding, dilation=dilation, groups=CHANNELS)
    return torch.einsum("oi,bihw->bohw", pointwise[:, :, 0, 0], spread)


def stacked(x, convolution, norm, order):
    steps = {"relu": torch.relu, "conv": convolution, "norm": lambda value: normalised(value, norm)}
    for step in order.split("-"):
        x = steps[step](x)
    return x


def weights_of(module):
    """The convolutions' weights in the order in which they are applied, and the normalisation, of one stack."""
    convolutions = [part.weight for part in module if isinstance(part, nn.Conv2d)]
    (norm,) = (part for part in module if isinstance(part, Norm))
    return convolutions, norm


def by_hand(name, module, x, stride, order):
    """The operation as Liu et al. (2018) describe it, from the weights of ``module``."""
    if name == "skip_connect":
        return x if stride == 1 else reduced(x, module)
    if name == "max_pool_3x3":
        return normalised(F.max_pool2d(x, 3, stride, 1), module[1])
    if name == "avg_pool_3x3":
        # The mean over the pixels of the image alone: padding counts neither above nor below the line.
        inside = F.avg_pool2d(torch.ones_like(x), 3, stride, 1)
        return normalised(F.avg_pool2d(x, 3, stride, 1) / inside, module[1])
    kernel, dilation = int(name[-1]), 2 if name.startswith("dil") else 1
    for position, part in enumerate(module if name.startswith("sep") else [module]):
        weights, norm = weights_of(part)
        settings = {"kernel": kernel, "stride": 1 if position else stride, "dilation": dilation, "weights": weights}
        x = stacked(x, partial(convolved, **settings), norm, order)
    return x


def reduced(x, module):
    """Even pixels through the left convolution, odd ones through the right; beyond an odd edge there are zeros."""
    x = F.pad(torch.relu(x), (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    halves = [
        torch.einsum("oi,bihw->bohw", convolution.weight[:, :, 0, 0], pixels)
        for convolution, pixels in ((module.left, x[:, :, ::2, ::2]), (module.right, x[:, :, 1::2, 1::2]))
    ]
    return normalised(torch.cat(halves, 1), module.norm)


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_operation_is_the_one_written_by_hand(order, kind, affine):
    """Same weights, same numbers: on both strides, on even and on odd sides."""
    normalization = Normalization(kind, affine=affine, eps=EPS)
    for name in MODULES:
        for stride, size in ((1, 6), (2, 6), (2, 7)):
            module, x = with_random_weights(build(name, CHANNELS, stride, normalization, order)), images(size)
            expected = by_hand(name, module, x, stride, order)
            assert expected.shape[-2:] == (-(-size // stride), -(-(size + 1) // stride))
            assert torch.allclose(module(x), expected, rtol=1e-10, atol=1e-10), (name, stride, size)


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("skip_connect", 0),
        ("max_pool_3x3", 0),
        ("avg_pool_3x3", 0),
        ("sep_conv_3x3", 2 * 8 * (9 + 8)),
        ("sep_conv_5x5", 2 * 8 * (25 + 8)),
        ("dil_conv_3x3", 8 * (9 + 8)),
        ("dil_conv_5x5", 8 * (25 + 8)),
    ],
)
def test_an_operation_has_no_weights_but_its_convolutions(name, parameters):
    module = build(name, CHANNELS, 1, Normalization(), ORDERS[0])
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


def test_average_pooling_of_a_constant_is_that_constant_up_to_the_border():
    pool = build("avg_pool_3x3", CHANNELS, 1, Normalization("identity"), ORDERS[0])
    pooled = pool(torch.full((1, CHANNELS, 4, 4), 3.0))
    assert torch.allclose(pooled, torch.full_like(pooled, 3.0))


def test_factorized_reduce_looks_at_every_second_pixel_with_each_half():
    """One lit pixel shows which half sees it; two of the four pixels of a square are seen by neither."""
    module = with_random_weights(FactorizedReduce(1, 2, Normalization("identity")))
    seen = {}
    for row in (0, 1):
        for column in (0, 1):
            x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
            x[..., 2 + row, column] = 1
            seen[row, column] = [(int(c), int(h), int(w)) for _, c, h, w in module(x).nonzero()]
    assert seen == {(0, 0): [(0, 1, 0)], (1, 1): [(1, 1, 0)], (0, 1): [], (1, 0): []}


def test_factorized_reduce_splits_an_odd_number_of_channels():
    module = FactorizedReduce(3, 5, Normalization())
    assert module(torch.randn(2, 3, 4, 4)).shape == (2, 5, 2, 2)
    assert (module.left.out_channels, module.right.out_channels) == (2, 3)


def test_batch_norm_keeps_no_memory_and_works_at_epsilon_zero():
    norm, x = Norm(CHANNELS, Normalization(eps=0)), images()
    first = norm(x)
    norm(x + 5)
    assert torch.equal(norm.eval()(x), first) and not list(norm.buffers())
    assert torch.allclose(first.mean((0, 2, 3)), torch.zeros(CHANNELS, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(first.var((0, 2, 3), unbiased=False), torch.ones(CHANNELS, dtype=torch.float64))


def test_affine_parameters_start_as_the_identity_and_are_absent_without_a_norm():
    norm = Norm(CHANNELS, Normalization(affine=True))
    assert torch.all(norm.weight == 1) and torch.all(norm.bias == 0)
    assert not list(Norm(CHANNELS, Normalization("identity", affine=True)).parameters())


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: build("none", 4, 1, Normalization(), ORDERS[0]), "no module for the operation 'none'"),
        (lambda: build("conv_7x7", 4, 1, Normalization(), ORDERS[0]), "no module for the operation 'conv_7x7'"),
        (lambda: stack([], 4, Normalization(), "norm-conv-relu"), "stacking order 'norm-conv-relu' is unknown"),
        (lambda: Normalization(groups=0), "groups is 0"),
        (lambda: Normalization(eps=1.0), "eps is 1.0"),
        (lambda: Norm(6, Normalization("group")), "cannot split 6 channels into 4 groups"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(make, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        make()
    assert "\n" not in str(caught.value)
