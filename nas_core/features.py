"""What the engine sees of a cell: its operations as stages, and its nodes with what several edges make of them.

Shapes: B images, P pixels, C channels, H × W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from nas_core import kernels
from nas_core.linear import Feature, Folded, Normalized, image, rows
from nas_core.memory import onto
from nas_core.operations import FactorizedReduce, Norm

Parameters = tuple[nn.Parameter, ...]
Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """``value``, which the caller knows to be there."""
    assert value is not None
    return value


@dataclass(frozen=True)
class Stage:
    """A depthwise convolution (or none) and the normalised linear map that follows; ``pointwise`` has two parts where two
    convolutions see different pixels, none where the map is the identity."""

    pointwise: Parameters
    norm: Norm
    depthwise: nn.Parameter | None = None
    stride: int = 1
    dilation: int = 1

    @property
    def kernel(self) -> nn.Parameter:
        """The weights of the depthwise convolution, of a stage that has one."""
        return known(self.depthwise)

    @property
    def parameters(self) -> Parameters:
        """All weights of the stage."""
        maybe = (self.depthwise, *self.pointwise, self.norm.weight, self.norm.bias)
        return tuple(weight for weight in maybe if weight is not None)

    def matrix(self, like: Tensor) -> Tensor:
        """The linear map ``[C_out, C_in]`` of a feature map ``[B, P, C_in]``."""
        if not self.pointwise:
            # Made where it is needed: a copy from elsewhere would wait for the device.
            return torch.eye(like.shape[2], dtype=like.dtype, device=like.device)
        parts = [weight.flatten(1) for weight in self.pointwise]
        return parts[0] if len(parts) == 1 else torch.block_diag(*parts)


def stages(module: nn.Module, name: str = "") -> tuple[Stage, ...]:
    """The stages of an operation or of a cell's preprocessing; none for the identity."""
    if isinstance(module, nn.Identity):
        return ()
    if isinstance(module, FactorizedReduce):
        left, right = (cast(nn.Parameter, half.weight) for half in (module.left, module.right))
        return (Stage((left, right), module.norm, stride=2),)
    parts: Sequence[Any] = tuple(module.children())
    if isinstance(parts[0], nn.Sequential):
        return tuple(stage for part in parts for stage in stages(part))
    if name.endswith("pool_3x3"):
        return (Stage((), parts[1], stride=parts[0].stride),)
    *_, pointwise, norm = parts
    if len(parts) == 3:
        return (Stage((pointwise.weight,), norm),)
    convolution = parts[1]
    return (Stage((pointwise.weight,), norm, convolution.weight, convolution.stride[0], convolution.dilation[0]),)


def affine(norms: Sequence[Norm]) -> tuple[list[nn.Parameter] | None, list[nn.Parameter] | None]:
    """The gains and the shifts of normalisations that all have them, or that all have none."""
    if norms[0].weight is None:
        return None, None
    return [known(norm.weight) for norm in norms], [known(norm.bias) for norm in norms]


@dataclass
class Batch:
    """Linear maps of equal shape, folded together; ``members`` are positions in the list of terms, ``weights`` ``[M]`` theirs."""

    members: list[int]
    folded: Folded
    weights: Tensor


def fold(features: list[Feature], chosen: list[Stage], weights: Sequence[float]) -> list[Batch]:
    """The linear maps of ``chosen`` stages, each with its weight in a sum, folded in groups of equal width."""
    batches = []
    for width in sorted({feature.x.shape[2] for feature in features}):
        members = [m for m, feature in enumerate(features) if feature.x.shape[2] == width]
        norms = [chosen[m].norm for m in members]
        like = features[members[0]].x
        folded = Folded(
            [features[m] for m in members],
            [chosen[m].matrix(like) for m in members],
            *affine(norms),
            norms[0].normalization.eps,
        )
        own = torch.tensor([weights[m] for m in members], dtype=torch.float64)
        batches.append(Batch(members, folded, onto(own, like.device)))
    return batches


class Node:
    """A node's feature map, and what several edges make of it, computed when first asked for.

    With a normalisation ``ahead`` the map that is written is the one that it sees."""

    def __init__(self, written_BCHW: Tensor, ahead: Normalized | None = None):
        self.written, self.ahead = written_BCHW, ahead
        self.features: dict[tuple[str, int], Feature] = {}
        self._rectified: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """The feature map ``[B, C, H, W]``."""
        if self.ahead is None:
            return self.written
        return image(self.ahead.of(rows(self.written)), *self.written.shape[2:])

    def rectified(self) -> Tensor:
        """ReLU of the node."""
        if self._rectified is None:
            self._rectified = torch.relu(self.x)
        return self._rectified

    def forget(self) -> None:
        """Drop the rectified map; it is made again when it is needed."""
        self._rectified = None

    def feature(self, name: str, stride: int) -> Feature:
        """``max_pool_3x3``, ``avg_pool_3x3``, or ``halves`` (see :meth:`halves`)."""
        if (name, stride) not in self.features:
            self.features[name, stride] = Feature(rows(self._map(name, stride)))
        return self.features[name, stride]

    def _map(self, name: str, stride: int) -> Tensor:
        if name == "max_pool_3x3":
            return kernels.max_pool(self.x, stride)
        if name == "avg_pool_3x3":
            return kernels.avg_pool(self.x, stride)
        return self.halves()

    def halves(self) -> Tensor:
        """Every second pixel of the rectified map beside the pixels that this leaves out, as two halves of the channels."""
        x = self.rectified()
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        parts = [part[:, :, ::2, ::2] for part in (x, shifted)]
        return torch.cat(parts, dim=1).contiguous(memory_format=kernels.LAST)


class Gradients:
    """∂L/∂ of one node, collected from the edges that leave it and from the cell's output."""

    def __init__(self, node: Node):
        self.node = node
        self.direct: Tensor | None = None
        self.rectified: Tensor | None = None
        self.pools: dict[tuple[str, int], Tensor] = {}

    def add(self, gradient_BCHW: Tensor, scale: float = 1.0) -> None:
        """A gradient at the node itself."""
        if self.direct is None:
            self.direct = gradient_BCHW * scale if scale != 1 else gradient_BCHW.clone()
        else:
            self.direct.add_(gradient_BCHW, alpha=scale)

    def add_rectified(self, gradient_BCHW: Tensor) -> None:
        """A gradient at its ReLU."""
        self.rectified = gradient_BCHW if self.rectified is None else self.rectified.add_(gradient_BCHW)

    def add_pool(self, key: tuple[str, int], gradient_BPC: Tensor) -> None:
        """A gradient at one of its pools."""
        own = self.pools.get(key)
        self.pools[key] = gradient_BPC if own is None else own.add_(gradient_BPC)

    def add_halves(self, gradient_BPC: Tensor, height: int, width: int) -> None:
        """A gradient at the two halves of the channels that ``halves`` laid side by side."""
        x = self.node.x
        if self.rectified is None:
            self.rectified = torch.zeros_like(x)
        left, right = image(gradient_BPC, height, width).chunk(2, dim=1)
        self.rectified[:, :, ::2, ::2].add_(left)
        target = self.rectified[:, :, 1::2, 1::2]
        target.add_(right[:, :, : target.shape[2], : target.shape[3]])

    def total(self) -> Tensor | None:
        """All of them together, ``[B, C, H, W]``; None where nothing came."""
        x, parts = self.node.x, []
        for (name, stride), gradient in self.pools.items():
            pooled = image(self.node.feature(name, stride).x, *(-(-side // stride) for side in x.shape[2:]))
            gradient = image(gradient, *pooled.shape[2:])
            if name == "max_pool_3x3":
                parts.append(kernels.max_pool_gradient(gradient, x, pooled, stride))
            else:
                parts.append(kernels.avg_pool_gradient(gradient, x, stride))
        if self.rectified is not None:
            parts.append(torch.ops.aten.threshold_backward(self.rectified, x, 0))
        if self.direct is not None:
            parts.append(self.direct)
        if not parts:
            return None
        total = parts[0]
        for part in parts[1:]:
            total = total.add_(part)
        return total
