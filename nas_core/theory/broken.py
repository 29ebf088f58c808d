"""What Theorem 1 does not survive: the same network with other operations, and the cost that their paths pass on.

Each variant is a ``run(module, x)`` for :func:`nas_core.theory.evaluation.trace`: it evaluates an operation of the
network, with its own weights, in another way. A variant whose path is homogeneous of degree 0 passes nothing on; of degree 1, all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_core.operations import FactorizedReduce, Norm
from nas_core.relaxation import Sample
from nas_core.space import SKIP
from nas_core.supernet import Supernet
from nas_core.theory.evaluation import Trace, trace
from nas_core.theory.normalization import statistics
from nas_core.theory.residual import inner


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """ReLU, convolutions, pools and normalisations of an operation, in the order in which they run."""
    if isinstance(module, nn.Sequential):
        for part in module:
            yield from layers(part)
    elif not isinstance(module, nn.Identity):
        yield module


def normalised(module: nn.Module, x: Tensor) -> Tensor:
    """The operation as it is."""
    return module(x)


def unnormalised(module: nn.Module, x: Tensor) -> Tensor:
    """The operation without its normalisations: homogeneous of degree 1."""
    for layer in layers(module):
        x = x if isinstance(layer, Norm) else layer(x)
    return x


def _standardised(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer, a convolution with weights of mean 0 and variance 1/fan-in in every output channel (Qiao et al., 2019).
    Depthwise 1 × 1 filters have nothing to standardise."""
    if not isinstance(layer, nn.Conv2d):
        return layer(x)
    weight = layer.weight
    if weight[0].numel() > 1:
        centred = weight - weight.mean((1, 2, 3), keepdim=True)
        weight = centred / (centred.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-10)
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def weight_standardised(module: nn.Module, x: Tensor) -> Tensor:
    """Standardised weights instead of normalised features: still homogeneous of degree 1 in the features."""
    for layer in layers(module):
        x = x if isinstance(layer, Norm) else _standardised(layer, x)
    return x


def both_standardised(module: nn.Module, x: Tensor) -> Tensor:
    """Standardised weights and normalised features: degree 0 again."""
    for layer in layers(module):
        x = _standardised(layer, x)
    return x


def scaled_residual(module: nn.Module, x: Tensor) -> Tensor:
    """Half of the input beside the operation: that half of the path is of degree 1."""
    return module(x) + 0.5 * x


def gated(module: nn.Module, x: Tensor) -> Tensor:
    """The operation times a gate that sees the input, as in squeeze-and-excitation: not homogeneous of any degree."""
    return module(x) * torch.sigmoid(x.abs().mean((1, 2, 3), keepdim=True) - 1)


def fixed_statistics(module: nn.Module, x: Tensor) -> Tensor:
    """Normalised with constants, here the batch's own: what batch normalisation does with running averages. The values
    are those of the operation as it is, but μ and σ² do not follow the input, and the path is affine."""
    for layer in layers(module):
        if isinstance(layer, Norm):
            s = statistics(layer, x.detach())
            x = s.gamma * (x - s.mean) * s.inverse + s.beta
        else:
            x = layer(x)
    return x


def biased(module: nn.Module, x: Tensor) -> Tensor:
    """A shift a channel before every normalisation. Batch and instance norm subtract it with the mean; layer and group
    norm do not, and the path is no longer homogeneous."""
    for layer in layers(module):
        if isinstance(layer, Norm):
            shift = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype, device=x.device).view(-1, 1, 1)
            x = layer(x + shift)
        else:
            x = layer(x)
    return x


VARIANTS = {
    "normalised": normalised,
    "no normalisation": unnormalised,
    "weight standardisation": weight_standardised,
    "weight standardisation and normalisation": both_standardised,
    "scaled residual": scaled_residual,
    "input-dependent gate": gated,
    "fixed statistics": fixed_statistics,
    "bias before normalisation": biased,
}


@dataclass(frozen=True)
class Break:
    """Σ|cost passed on by a path| and Σ|cost of the path's own edge|, over all intermediate edges, and their ratio."""

    name: str
    passed: float
    carried: float

    @property
    def ratio(self) -> float:
        """0 where Theorem 1 holds, 1 where a path passes on all that it carries; not a number without such edges."""
        return self.passed / self.carried if self.carried > 0 else math.nan


def passed_and_carried(seen: Trace) -> tuple[float, float]:
    """Σ|⟨∂L/∂x_j|path, x_j⟩| and Σ|Z·C| over the operations other than skip on intermediate edges."""
    passed = carried = 0.0
    cell = seen.network.config.cell
    for position, own in enumerate(seen.cells):
        for (edge, operation), gradient in own.passed.items():
            if cell.edge_class(edge) == "intermediate" and operation != SKIP:
                passed += abs(inner(gradient, own.nodes[cell.edges[edge].source]))
                carried += abs(float(seen.z[position, edge, operation] * seen.cost[position, edge, operation]))
    return passed, carried


def breaks(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> list[Break]:
    """Every variant on the edges of the same network and batch: what its paths pass on, against what they carry.

    Only intermediate edges count; a reduction cell's strided edges leave input nodes and stay as they are."""
    found = []
    for name, variant in VARIANTS.items():

        def run(module, x, variant=variant):
            strided = any(isinstance(part, FactorizedReduce) or _stride(part) > 1 for part in module.modules())
            return module(x) if strided else variant(module, x)

        found.append(Break(name, *passed_and_carried(trace(network, images, labels, sample, run=run))))
    return found


def _stride(layer: nn.Module) -> int:
    stride = getattr(layer, "stride", 1)
    return stride[0] if isinstance(stride, tuple) else stride
