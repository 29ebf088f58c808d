"""The candidate operations on an edge, with the choices of Appendix H: normalisation and stacking order.

Shapes: B images, C channels, H × W pixels. Every operation maps ``[B, C, H, W]`` to ``[B, C, H/stride, W/stride]``.
*none* is not here: it contributes exactly 0, so a supernet never evaluates it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_core.space import OPERATIONS

NORMALIZATIONS = ("batch", "instance", "layer", "group", "identity")
ORDERS = ("relu-conv-norm", "conv-relu-norm", "conv-norm-relu")


@dataclass(frozen=True)
class Normalization:
    """How feature maps are normalised: always with the statistics of the batch at hand, never with running averages.

    ``batch`` takes mean and variance over (B, H, W) (Eq 16), ``layer`` over (C, H, W) (Eq 23), ``instance`` over (H,
    W), ``group`` over (C/groups, H, W); ``identity`` leaves the features as they are, which breaks Theorem 1."""

    kind: str = "batch"
    affine: bool = False
    eps: float = 1e-5
    groups: int = 4

    def __post_init__(self) -> None:
        if self.kind not in NORMALIZATIONS:
            raise ValueError(f"normalisation {self.kind!r} is unknown; allowed are {', '.join(NORMALIZATIONS)}")
        if not 0 <= self.eps < 1:
            raise ValueError(f"normalisation eps is {self.eps}; give a number from 0 up to, not including, 1")
        if self.groups < 1:
            raise ValueError(f"normalisation groups is {self.groups}; give a whole number of at least 1")


class Norm(nn.Module):
    """The layer that a :class:`Normalization` describes, for ``[B, C, H, W]``; affine parameters are per channel."""

    def __init__(self, channels: int, normalization: Normalization):
        super().__init__()
        if normalization.kind == "group" and channels % normalization.groups:
            raise ValueError(
                f"group normalisation cannot split {channels} channels into {normalization.groups} groups; "
                f"choose a number of groups that divides the channels"
            )
        self.normalization = normalization
        affine = normalization.affine and normalization.kind != "identity"
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        kind, eps = self.normalization.kind, self.normalization.eps
        if kind == "identity":
            return x_BCHW
        if kind == "batch":
            # Not F.batch_norm: that refuses ε = 0, at which Theorem 1 is exact.
            return torch.batch_norm(x_BCHW, self.weight, self.bias, None, None, True, 0.0, eps, True)
        # Layer and instance normalisation are group normalisation with one group and with one group a channel.
        channels = x_BCHW.shape[1]
        groups = {"layer": 1, "instance": channels, "group": self.normalization.groups}[kind]
        return F.group_norm(x_BCHW, groups, self.weight, self.bias, eps)


def _convolution(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """A depthwise convolution followed by a pointwise one, neither with a bias."""
    padding = dilation * (kernel - 1) // 2
    return [
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
    ]


def stack(convolution: list[nn.Module], channels: int, normalization: Normalization, order: str) -> nn.Sequential:
    """ReLU, the convolution and its normalisation in one of the three orders of Appendix H.2."""
    if order not in ORDERS:
        raise ValueError(f"stacking order {order!r} is unknown; allowed are {', '.join(ORDERS)}")
    norm = Norm(channels, normalization)
    if order == "relu-conv-norm":
        return nn.Sequential(nn.ReLU(), *convolution, norm)
    if order == "conv-relu-norm":
        return nn.Sequential(*convolution, nn.ReLU(), norm)
    return nn.Sequential(*convolution, norm, nn.ReLU())


class FactorizedReduce(nn.Module):
    """Halve the resolution with two shifted 1×1 convolutions: what *skip_connect* becomes on a stride of 2 (Liu et al.,
    2018).
    """

    def __init__(self, channels_in: int, channels_out: int, normalization: Normalization):
        super().__init__()
        self.left = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.right = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, stride=2, bias=False)
        self.norm = Norm(channels_out, normalization)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = F.relu(x_BCHW)
        # The right half sees the pixels that the left half steps over; padding keeps odd sizes equal.
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.left(x), self.right(shifted)], dim=1))


def build(name: str, channels: int, stride: int, normalization: Normalization, order: str) -> nn.Module:
    """The operation ``name`` of :data:`nas_core.space.OPERATIONS` on ``channels`` channels.

    Raises ``ValueError`` for an unknown name, and for *none*, which has nothing to build.
    """
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, normalization)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), Norm(channels, normalization))
    if name == "avg_pool_3x3":
        pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        return nn.Sequential(pool, Norm(channels, normalization))
    if name.startswith("sep_conv"):
        kernel = int(name[-1])
        first = stack(_convolution(channels, kernel, stride), channels, normalization, order)
        second = stack(_convolution(channels, kernel, 1), channels, normalization, order)
        return nn.Sequential(first, second)
    if name.startswith("dil_conv"):
        return stack(_convolution(channels, int(name[-1]), stride, dilation=2), channels, normalization, order)
    raise ValueError(f"there is no module for the operation {name!r}; allowed are {', '.join(OPERATIONS[1:])}")
