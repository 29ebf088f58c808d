"""Depthwise convolutions and 3×3 pools with their gradients, as fast as PyTorch's own kernels allow.

Three of PyTorch's CPU kernels are many times slower than their neighbours: the gradients of a dilated or 5×5 depthwise
convolution, and both directions of pooling in channels_last. Each is restated here by a fast one: the input gradient is
a convolution with the mirrored kernel, a dilated convolution is a dense one on every second pixel, a 5×5 weight gradient
is four 3×3 ones, an average is a convolution with ones, and a maximum is taken along rows and then columns.

Shapes: every feature map is ``[B, C, H, W]``, channels_last; a depthwise weight is ``[C, 1, k, k]``."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.memory import blocks

LAST = torch.channels_last


def _padding(weight: Tensor, dilation: int) -> int:
    return dilation * (weight.shape[-1] - 1) // 2


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """The depthwise convolution that keeps the size (or halves it, with a stride of 2)."""
    return torch.conv2d(x, weight, None, stride, _padding(weight, dilation), dilation, len(weight))


def _by_autograd(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int, mask: list[bool]) -> Any:
    """PyTorch's gradients with respect to the input and to the weight."""
    padding = _padding(weight, dilation)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], len(weight), mask
    )


def depthwise_input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """∂L/∂x from the gradient at the output; ``x`` lends its shape only."""
    if stride != 1:
        return _by_autograd(gradient, x, weight, stride, dilation, [True, False, False])[0]
    return depthwise(gradient, weight.flip(2, 3), 1, dilation)


def _every_second_pixel(x_BHWC: Tensor) -> Tensor:
    """The four images of every second pixel, ``[2, 2, B, ⌈H/2⌉, ⌈W/2⌉, C]``, a view where the sides are even; odd ones are padded with
    zeros."""
    images, height, width, channels = x_BHWC.shape
    if height % 2 or width % 2:
        x_BHWC = F.pad(x_BHWC, (0, 0, 0, width % 2, 0, height % 2))
    rows, columns = x_BHWC.shape[1] // 2, x_BHWC.shape[2] // 2
    return x_BHWC.reshape(images, rows, 2, columns, 2, channels).permute(2, 4, 0, 1, 3, 5)


TOGETHER_BYTES = 1 << 18
"""Up to this size of a map four calls cost more than four copies of it side by side."""


def _five_by_five(gradient_BHWC: Tensor, x: Tensor) -> Tensor:
    """The weight gradient of a 5×5 kernel from four overlapping windows of 3×3, as channels of one map where that is small.

    ``x`` is ``[…, H, W, C]``, a view of any kind: its leading dimensions are those of the gradient's images."""
    *leading, height, width, channels = x.shape
    size = (*leading, height + 2, width + 2)
    corners = [(top, left) for top in (0, 2) for left in (0, 2)]
    if x.numel() * x.element_size() <= TOGETHER_BYTES:
        windows = x.new_empty(*size, 4 * channels)
        for corner, part in zip(corners, windows.chunk(4, dim=-1)):
            _write_window(x, *corner, part)
        parts = _three_by_three(torch.cat([gradient_BHWC] * 4, dim=3), windows.flatten(0, -4)).chunk(4)
    else:
        made = (_write_window(x, *corner, x.new_empty(*size, channels)) for corner in corners)
        parts = tuple(_three_by_three(gradient_BHWC, window.flatten(0, -4)) for window in made)
    result = x.new_empty(channels, 1, 5, 5)
    for (top, left), part in zip(corners, parts):
        result[:, :, top : top + 3, left : left + 3] = part
    return result


def _write_window(x: Tensor, top: int, left: int, window: Tensor) -> Tensor:
    """Write ``x``, padded by two pixels on every side, from row ``top`` and column ``left`` on into ``window``."""
    height, width = x.shape[-3:-1]
    window.narrow(-3, height if top else 0, 2).zero_()
    window.narrow(-2, width if left else 0, 2).zero_()
    window.narrow(-3, 2 - top, height).narrow(-2, 2 - left, width).copy_(x)
    return window


def _three_by_three(gradient_BHWC: Tensor, x_BHWC: Tensor) -> Tensor:
    """The weight gradient of a 3×3 kernel on a map that is padded already."""
    gradient, x = (part.permute(0, 3, 1, 2) for part in (gradient_BHWC, x_BHWC))
    like = x.new_empty(x.shape[1], 1, 3, 3)
    return torch.ops.aten.convolution_backward(
        gradient, x, like, None, [1, 1], [0, 0], [1, 1], False, [0, 0], len(like), [False, True, False]
    )[1]


def depthwise_weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1
) -> Tensor:
    """∂L/∂weight from the gradient at the output and the input ``x``."""
    kernel = weight.shape[-1]
    if stride != 1 or x.device.type != "cpu" or (kernel, dilation) == (3, 1):
        return _by_autograd(gradient, x, weight, stride, dilation, [False, True, False])[1]
    gradient, x = (part.permute(0, 2, 3, 1) for part in (gradient, x))
    if dilation == 2:
        gradient, x = _every_second_pixel(gradient).flatten(0, 2), _every_second_pixel(x)
    if kernel == 5:
        return _five_by_five(gradient, x)
    gradient, x = (part.permute(0, 3, 1, 2) for part in (gradient, x.flatten(0, -4)))
    return _by_autograd(gradient, x, weight, 1, 1, [False, True, False])[1]


def _largest_of_three(x: Tensor, dim: int) -> Tensor:
    """The largest of each entry and its two neighbours along ``dim``."""
    size = x.shape[dim]
    before, after = (x.narrow(dim, start, size - 1) for start in (0, 1))
    largest = torch.empty_like(x)
    largest.select(dim, size - 1).copy_(x.select(dim, size - 1))
    torch.maximum(before, after, out=largest.narrow(dim, 0, size - 1))
    own = largest.narrow(dim, 1, size - 1)
    torch.maximum(own, before, out=own)
    return largest


def _to_the_largest(gradient: Tensor, largest: Tensor, x: Tensor, dim: int, passed: Tensor) -> Tensor:
    """Pass each gradient on to the first of the three entries that is the largest; ``passed`` is written and returned."""
    size = x.shape[dim]

    def first(t: Tensor) -> Tensor:
        return t.narrow(dim, 0, size - 1)

    def last(t: Tensor) -> Tensor:
        return t.narrow(dim, 1, size - 1)

    left = torch.empty_like(x)
    # The entry before the window's middle: the first window has none, and the last entry is before none.
    passed.select(dim, size - 1).zero_()
    left.select(dim, 0).copy_(gradient.select(dim, 0))
    taken = _where_largest(last(gradient), first(x), last(largest), out=first(passed))
    torch.sub(last(gradient), taken, out=last(left))
    # The middle.
    taken = _where_largest(left, x, largest)
    passed.add_(taken)
    left.sub_(taken)
    # What neither of them took belongs to the entry after.
    last(passed).add_(first(left))
    return passed


def _where_largest(gradient: Tensor, x: Tensor, largest: Tensor, out: Tensor | None = None) -> Tensor:
    """``gradient`` where ``x`` is ``largest``, and 0 elsewhere."""
    # An entry is the largest where it falls short of it by nothing; ReLU's gradient makes that choice in one pass.
    nothing, short = -torch.finfo(x.dtype).tiny, x - largest
    if out is None:
        return torch.ops.aten.threshold_backward(gradient, short, nothing)
    return torch.ops.aten.threshold_backward.grad_input(gradient, short, nothing, grad_input=out)


def max_pool(x: Tensor, stride: int = 1) -> Tensor:
    """The 3×3 maximum with a padding of 1."""
    if stride != 1 or min(x.shape[2:]) < 2:
        return F.max_pool2d(x, 3, stride, 1)
    return _largest_of_three(_largest_of_three(x, 3), 2)


def max_pool_gradient(gradient: Tensor, x: Tensor, pooled: Tensor, stride: int = 1) -> Tensor:
    """∂L/∂x; of equal entries the first in reading order takes the gradient, as in PyTorch."""
    if stride != 1 or min(x.shape[2:]) < 2:
        size, step, padding = [3, 3], [stride] * 2, [1, 1]
        _, indices = torch.ops.aten.max_pool2d_with_indices(x, size, step, padding)
        return torch.ops.aten.max_pool2d_with_indices_backward(gradient, x, size, step, padding, [1, 1], False, indices)
    passed = torch.empty_like(x)
    for g, own, largest, to in blocks(gradient, x, pooled, passed, share=2):
        rows = _largest_of_three(own, 3)
        by_rows = _to_the_largest(g, largest, rows, 2, torch.empty_like(own))
        _to_the_largest(by_rows, rows, own, 3, to)
    return passed


def _ones(x: Tensor) -> Tensor:
    return x.new_ones(x.shape[1], 1, 3, 3)


@functools.lru_cache(maxsize=32)
def _share(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One over the number of pixels that a 3×3 window covers, ``[H, W]``; the same every time, so nobody writes on it."""
    sides = [torch.full((side,), 3.0, dtype=dtype, device=device) for side in (height, width)]
    for side in sides:
        side[0] -= 1
        side[-1] -= 1
    return 1 / torch.outer(*sides)


def _share_of(x: Tensor) -> Tensor:
    return _share(*x.shape[2:], x.dtype, x.device)


def avg_pool(x: Tensor, stride: int = 1) -> Tensor:
    """The 3×3 average with a padding of 1 that does not count."""
    if stride != 1:
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    return depthwise(x, _ones(x)).mul_(_share_of(x))


def avg_pool_gradient(gradient: Tensor, x: Tensor, stride: int = 1) -> Tensor:
    """∂L/∂x; ``x`` lends its shape only."""
    if stride != 1:
        return torch.ops.aten.avg_pool2d_backward(
            gradient.contiguous(memory_format=LAST), x, [3, 3], [stride] * 2, [1, 1], False, False, None
        )
    return depthwise(gradient * _share_of(gradient), _ones(x))
