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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nas_core.memory import blocks


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


class Feature:
    """A feature map ``[B, P, C_in]`` with its sums over pixels, its mean and its covariance."""

    def __init__(self, x_BPC: Tensor):
        count = x_BPC.shape[0] * x_BPC.shape[1]
        self.x = x_BPC
        parts = [(x.sum(1), torch.bmm(x.transpose(1, 2), x)) for (x,) in blocks(x_BPC)]
        self.sums, squares = (torch.cat(own) for own in zip(*parts))
        self.mean = self.sums.sum(0, dtype=torch.float64) / count
        self.covariance = squares.sum(0, dtype=torch.float64) / count - torch.outer(self.mean, self.mean)

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
        ahead: Normalized | None = None,
    ):
        self.weight, self.gains, self.ahead = torch.cat(list(weights)), gains, ahead
        self.count = x_BPC.shape[0] * x_BPC.shape[1]
        self.sizes = [len(weight) for weight in weights]
        p, turned = x_BPC.new_empty(*x_BPC.shape[:2], len(self.weight)), self.weight.t()

        def made() -> Iterator[Tensor]:
            for x, own in blocks(x_BPC, p):
                rectified = torch.relu(x) if ahead is None else ahead.of(x).relu_()
                torch.mm(rectified.flatten(0, 1), turned, out=own.flatten(0, 1))
                yield own

        mean, self.inverse = _moments(made(), self.count, eps)
        parts = (p, self.inverse.to(p), (-mean * self.inverse).to(p))
        split = [part.split(self.sizes, dim=-1) for part in parts]
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
            sums, slope = _sums((g, g * n) for g, n in blocks(gradient, normal))
            shifts.append(sums)
            gains.append(slope)
            scale = inverse if self.gains is None else inverse * self.gains[m].double()
            own, constant = (-scale * part / self.count for part in (slope, sums))
            passing.append([part.to(normal) for part in (constant, scale, own)])
        weights, passed = [], torch.empty_like(x_BPC) if wanted else None
        for x, to, *pairs in blocks(x_BPC, x_BPC if passed is None else passed, *known, *self.normal):
            at_p = x.new_empty(*x.shape[:2], len(self.weight))
            parts = zip(at_p.split(self.sizes, dim=-1), pairs[: len(known)], pairs[len(known) :], passing)
            for own, g, n, (constant, scale, slope) in parts:
                torch.addcmul(constant, g, scale, out=own).addcmul_(n, slope)
            before = x if self.ahead is None else self.ahead.of(x)
            if trained:
                weights.append(torch.bmm(at_p.transpose(1, 2), torch.relu(before)))
            if wanted:
                torch.ops.aten.threshold_backward.grad_input(torch.matmul(at_p, self.weight), before, 0, grad_input=to)
        own = torch.cat(weights).sum(0, dtype=torch.float64).split(self.sizes) if trained else ()
        return list(own), gains, shifts, passed


class Normalized:
    """The affine batch normalisation of a map x ``[B, P, C]``, written a block at a time where it is needed (:meth:`of`): it is the
    widest map of a network, and whoever sees it takes its ReLU at once.

    Sums are taken image by image. PyTorch's own adds up a million float32 numbers one after the other in this layout, which leaves
    two digits fewer in every cost."""

    @torch.no_grad()
    def __init__(self, x_BPC: Tensor, gain_C: Tensor, shift_C: Tensor, eps: float):
        self.count = x_BPC.shape[0] * x_BPC.shape[1]
        self.mean, self.inverse = _moments((x for (x,) in blocks(x_BPC)), self.count, eps)
        scale = self.inverse * gain_C.double()
        self.factor, self.offset = (part.to(x_BPC) for part in (scale, shift_C.double() - scale * self.mean))

    def of(self, x_BPC: Tensor) -> Tensor:
        """The normalised map, from some images of x."""
        return torch.addcmul(self.offset, x_BPC, self.factor)


class StandIn(torch.autograd.Function):
    """What stands for a :class:`Normalized` map where gradients are concerned: its shape, without values. Differentiable once."""

    @staticmethod
    def forward(ctx: Any, normalized: Normalized, x_BCHW: Tensor, gain_C: Tensor, shift_C: Tensor) -> Tensor:
        ctx.normalized = normalized
        ctx.save_for_backward(x_BCHW, gain_C)
        return x_BCHW.new_zeros(()).expand(x_BCHW.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BCHW: Tensor) -> Any:
        x_BCHW, gain_C = ctx.saved_tensors
        mean, inverse, count = ctx.normalized.mean, ctx.normalized.inverse, ctx.normalized.count
        x, gradient = rows(x_BCHW), rows(gradient_BCHW.contiguous(memory_format=torch.channels_last))
        sums, products = _sums((g, g * own) for g, own in blocks(gradient, x))
        slope = inverse * (products - mean * sums)
        scale = inverse * gain_C.double()
        own = -scale * inverse * slope / count
        scale, constant, own = (part.to(x) for part in (scale, -scale * sums / count - own * mean, own))
        passed = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
        for g, inside, to in blocks(gradient, x, rows(passed)):
            torch.addcmul(constant, g, scale, out=to).addcmul_(inside, own)
        return None, passed, slope.to(gain_C), sums.to(gain_C)


def _moments(parts: Iterator[Tensor], count: int, eps: float) -> tuple[Tensor, Tensor]:
    """The mean over images and pixels, ``count`` in all, and 1/√(variance + ε), ``[C]`` each in float64, of a map that comes in
    blocks."""
    mean, squares = (total / count for total in _sums((own, own * own) for own in parts))
    return mean, ((squares - mean**2).clamp_min(0) + eps).rsqrt()


def _sums(parts: Iterator[tuple[Tensor, ...]]) -> list[Tensor]:
    """The sums over images and pixels of each of the maps that come in blocks, ``[C]`` each in float64; image by image first, so
    that no long sum loses digits."""
    by_image = [[own.sum(1) for own in part] for part in parts]
    return [torch.cat(own).sum(0, dtype=torch.float64) for own in zip(*by_image)]
