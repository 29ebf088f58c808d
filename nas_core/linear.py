"""A pointwise convolution and its batch normalisation as one matrix product.

Let d be a feature map with mean μ and covariance Σ over images and pixels. The batch normalisation of p = W d has the mean
W μ and the variances diag(W Σ Wᵀ), so both are known before p is, and

    h = γ (p − W μ)/σ + β = V d + b    with    V = diag(γ/σ) W,    b = β − V μ

is a single product: p is never written (:class:`Folded`). Going back, the gradient g = ∂L/∂h enters through two small quantities only,
G = Σ g dᵀ and ḡ = Σ g. They give the gradients of W, γ and β, the cost ⟨g, h⟩ (Eq 4), which is what batch normalisation sums
anyway, and three arrays with which ∂L/∂d = g A + d B + c. All this costs C_in² a pixel, so a map to far fewer channels, as that of a cell's inputs, does better to
write p (:class:`Narrowed`). The maps that enter there are the widest of a network; what is done to them is done to a few images at a
time (:func:`blocks`), so that one step finds in the cache what the one before has left.

Shapes: M maps at once; B images, P pixels of an image, C_in and C_out channels. The algebra is in float64; the products over
pixels are in the maps' own precision, image by image, so that no long sum loses digits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rows(x_BCHW: Tensor) -> Tensor:
    """A channels_last feature map as ``[B, P, C]``, without a copy."""
    images, channels, height, width = x_BCHW.shape
    return x_BCHW.permute(0, 2, 3, 1).reshape(images, height * width, channels)


def image(rows_BPC: Tensor, height: int, width: int) -> Tensor:
    """The way back from :func:`rows`."""
    return rows_BPC.view(len(rows_BPC), height, width, -1).permute(0, 3, 1, 2)


def products(left_BPC: Tensor, right_BPD: Tensor) -> Tensor:
    """Σ left rightᵀ over images and pixels, ``[C, D]`` in float64."""
    return torch.bmm(left_BPC.transpose(1, 2), right_BPD).sum(0, dtype=torch.float64)


BLOCK_BYTES = 1 << 20
"""What a block of images may take up: half of it and its result fit into a core's own cache."""


def blocks(*maps_BPC: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few images of every map at a time, as views; on a device other than the CPU all of them at once."""
    first = maps_BPC[0]
    images = len(first)
    if first.device.type == "cpu":
        images = max(1, BLOCK_BYTES // max(1, first[0].numel() * first.element_size()))
    return zip(*(own.split(images) for own in maps_BPC))


class Feature:
    """A feature map ``[B, P, C_in]`` with its sums over pixels, its mean and its covariance."""

    def __init__(self, x_BPC: Tensor):
        count = x_BPC.shape[0] * x_BPC.shape[1]
        self.x = x_BPC
        self.sums = x_BPC.sum(1)
        self.mean = self.sums.sum(0, dtype=torch.float64) / count
        self.covariance = products(x_BPC, x_BPC) / count - torch.outer(self.mean, self.mean)

    @property
    def count(self) -> int:
        """Images times pixels."""
        return self.x.shape[0] * self.x.shape[1]


@dataclass(frozen=True)
class Pull:
    """What the gradient at h becomes: the cost ``[M]``, ``weight`` ``[M, C_out, C_in]``, ``gain`` and ``shift`` ``[M, C_out]``, and
    the arrays of ∂L/∂d = g ``through`` + d ``own`` + ``constant``; these and ``weight`` are in the precision of d."""

    cost: Tensor
    weight: Tensor
    gain: Tensor
    shift: Tensor
    through: Tensor
    own: Tensor
    constant: Tensor


class Folded:
    """M normalised linear maps h = ``matrix`` d + ``offset`` (V and b above), and what their gradients need.

    ``weights`` are M matrices ``[C_out, C_in]``; ``gains`` and ``shifts`` M vectors each, or None without affine parameters."""

    def __init__(
        self,
        features: Sequence[Feature],
        weights: Sequence[Tensor],
        gains: Sequence[Tensor] | None,
        shifts: Sequence[Tensor] | None,
        eps: float,
    ):
        self.count, self.precision = features[0].count, features[0].x.dtype
        self.mean = torch.stack([feature.mean for feature in features])
        self.weight = torch.stack(list(weights)).double()
        self.spread = self.weight @ torch.stack([feature.covariance for feature in features])
        variance = (self.spread * self.weight).sum(-1).clamp_min(0)
        self.inverse = (variance + eps).rsqrt()
        self.gain = torch.stack(list(gains)).double() if gains else torch.ones_like(self.inverse)
        self.shift = torch.stack(list(shifts)).double() if shifts else torch.zeros_like(self.inverse)
        self.centre = (self.weight @ self.mean.unsqueeze(-1)).squeeze(-1)
        self.matrix = (self.gain * self.inverse).unsqueeze(-1) * self.weight
        self.offset = self.shift - self.gain * self.inverse * self.centre

    @functools.cached_property
    def applied(self) -> tuple[Tensor, Tensor]:
        """``matrix`` and ``offset`` in the precision of the feature maps."""
        return self.matrix.to(self.precision), self.offset.to(self.precision)

    def pull(self, products_MOI: Tensor, sums_MO: Tensor, z_M: Tensor) -> Pull:
        """The gradients of a loss that sees Σ z h, from G = Σ g dᵀ and ḡ = Σ g, where g is the gradient at that sum."""
        normal = self.inverse * ((self.weight * products_MOI).sum(-1) - self.centre * sums_MO)
        cost = (self.gain * normal + self.shift * sums_MO).sum(-1)
        z = z_M.unsqueeze(-1)
        scale = (z * self.gain * self.inverse).unsqueeze(-1)
        slope = (self.inverse * normal / self.count).unsqueeze(-1)
        through = scale * self.weight
        own = -(self.weight.transpose(1, 2) @ (slope * through))
        mean = self.mean.unsqueeze(1)
        constant = -(sums_MO.unsqueeze(1) / self.count) @ through - mean @ own
        centred = products_MOI - sums_MO.unsqueeze(-1) * mean
        weight = scale * (centred - self.count * slope * self.spread)
        weight, *passing = (part.to(self.precision) for part in (weight, through, own, constant.squeeze(1)))
        return Pull(cost, weight, z * normal, z * sums_MO, *passing)


def back(gradient_BPC: Tensor, x_BPC: Tensor, pull: Pull, m: int) -> Tensor:
    """∂L/∂d ``[B, P, C_in]`` of map number ``m``; a gradient of one pixel stands for the same at every pixel."""
    through, own, constant = pull.through[m], pull.own[m], pull.constant[m]
    if gradient_BPC.shape[1] == 1 and x_BPC.shape[1] > 1:
        same = torch.addmm(constant, gradient_BPC.squeeze(1), through).unsqueeze(1)
        return torch.baddbmm(same, x_BPC, own.expand(len(x_BPC), -1, -1))
    flat = torch.addmm(constant, gradient_BPC.flatten(0, 1), through)
    return flat.addmm_(x_BPC.flatten(0, 1), own).view(x_BPC.shape)


class Narrowed:
    """Normalised linear maps of the ReLU of one feature map ``[B, P, C_in]`` to fewer channels; :attr:`outputs` are
    ``[B, P, C]`` each.

    Neither the feature map, the widest of a cell, nor its ReLU is kept: :meth:`back` asks for the one and makes the other again.
    ``weights`` are matrices ``[C, C_in]``; ``gains`` and ``shifts`` vectors ``[C]``, or None without affine parameters."""

    def __init__(
        self,
        x_BPC: Tensor,
        weights: Sequence[Tensor],
        gains: Sequence[Tensor] | None,
        shifts: Sequence[Tensor] | None,
        eps: float,
    ):
        self.weight, self.gains = torch.cat(list(weights)), gains
        self.count = x_BPC.shape[0] * x_BPC.shape[1]
        p, turned = x_BPC.new_empty(*x_BPC.shape[:2], len(self.weight)), self.weight.t()
        for x, own in blocks(x_BPC, p):
            torch.mm(torch.relu(x).flatten(0, 1), turned, out=own.flatten(0, 1))
        mean, self.inverse = _moments(p, eps)
        scale, offset = self.inverse.to(p), (-mean * self.inverse).to(p)
        self.sizes = [len(weight) for weight in weights]
        split = [part.split(self.sizes, dim=-1) for part in (p, scale, offset)]
        self.normal = [torch.addcmul(shift, own, factor) for own, factor, shift in zip(*split)]
        self.outputs = self.normal
        if gains:
            self.outputs = [
                torch.addcmul(b, x, g) for x, g, b in zip(self.normal, gains, cast(Sequence[Tensor], shifts))
            ]

    def back(
        self, gradients: Sequence[Tensor | None], x_BPC: Tensor, wanted: bool, trained: bool
    ) -> tuple[list[Any], list[Any], list[Any], Tensor | None]:
        """∂L/∂ of the weights (where ``trained``), gains and shifts, one each for every map, and of the feature map (where
        ``wanted``), from those of the outputs; a gradient of None is one of zeros."""
        known = [torch.zeros_like(n) if g is None else g for g, n in zip(gradients, self.normal)]
        gains, shifts, passing = [], [], []
        for m, (gradient, normal, inverse) in enumerate(zip(known, self.normal, self.inverse.split(self.sizes))):
            sums, slope = _sums(blocks(gradient, normal), lambda g, n: (g, g * n))
            shifts.append(sums)
            gains.append(slope)
            scale = inverse if self.gains is None else inverse * self.gains[m].double()
            own, constant = (-scale * part / self.count for part in (slope, sums))
            passing.append([part.to(normal) for part in (constant, scale, own)])
        weights, passed = [], torch.empty_like(x_BPC) if wanted else None
        for x, to, *pairs in blocks(x_BPC, x_BPC if passed is None else passed, *known, *self.normal):
            at_p = [
                torch.addcmul(constant, g, scale).addcmul_(n, own)
                for g, n, (constant, scale, own) in zip(pairs[: len(known)], pairs[len(known) :], passing)
            ]
            together = at_p[0] if len(at_p) == 1 else torch.cat(at_p, dim=-1)
            if trained:
                weights.append(torch.bmm(together.transpose(1, 2), torch.relu(x)))
            if wanted:
                torch.ops.aten.threshold_backward.grad_input(torch.matmul(together, self.weight), x, 0, grad_input=to)
        own = torch.cat(weights).sum(0, dtype=torch.float64).split(self.sizes) if trained else ()
        return list(own), gains, shifts, passed


class BatchNormalization(torch.autograd.Function):
    """Affine batch normalisation of a channels_last map ``[B, C, H, W]``, with sums taken image by image.

    PyTorch's own adds up a million float32 numbers one after the other in this layout, which leaves three digits fewer in
    every cost. Differentiable once."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, gain_C: Tensor, shift_C: Tensor, eps: float) -> Tensor:
        mean, inverse = _moments(rows(x_BCHW), eps)
        scale = inverse * gain_C.double()
        ctx.save_for_backward(x_BCHW, gain_C, mean, inverse)
        factor, offset = (part.to(x_BCHW).view(-1, 1, 1) for part in (scale, shift_C.double() - scale * mean))
        return torch.addcmul(offset, x_BCHW, factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BCHW: Tensor) -> Any:
        x_BCHW, gain_C, mean, inverse = ctx.saved_tensors
        x, gradient = rows(x_BCHW), rows(gradient_BCHW.contiguous(memory_format=torch.channels_last))
        count = x.shape[0] * x.shape[1]
        sums, products = _sums(blocks(gradient, x), lambda g, own: (g, g * own))
        slope = inverse * (products - mean * sums)
        scale = inverse * gain_C.double()
        own = -scale * inverse * slope / count
        scale, constant, own = (part.to(x) for part in (scale, -scale * sums / count - own * mean, own))
        passed = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
        for g, inside, to in blocks(gradient, x, rows(passed)):
            torch.addcmul(constant, g, scale, out=to).addcmul_(inside, own)
        return passed, slope.to(gain_C), sums.to(gain_C), None


def _moments(x_BPC: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The mean over images and pixels, and 1/√(variance + ε), ``[C]`` each in float64."""
    count = x_BPC.shape[0] * x_BPC.shape[1]
    mean, squares = (total / count for total in _sums(blocks(x_BPC), lambda x: (x, x * x)))
    return mean, ((squares - mean**2).clamp_min(0) + eps).rsqrt()


def _sums(parts: Iterator[tuple[Tensor, ...]], made: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """The sums over images and pixels of the two maps that are ``made`` of every block, ``[C]`` each in float64; image by image
    first, so that no long sum loses digits."""
    by_image = [[own.sum(1) for own in made(*part)] for part in parts]
    return (torch.cat(own).sum(0, dtype=torch.float64) for own in zip(*by_image))
