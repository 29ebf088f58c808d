"""The network as one writes it down: what the engine is measured against.

Every operation is a module, feature maps are contiguous ``[B, C, H, W]``, every candidate of every edge runs and is
multiplied by its weight z, autograd does the rest, and the cost is ``z.grad``. The published scripts do the same work
differently in a few places; those are functions of their own, ``published_*``.

Shapes: B images, C channels, H × W pixels, N cells, E edges, K operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_core.cost import Measurement
from nas_core.operations import Normalization
from nas_core.relaxation import Sample
from nas_core.space import OPERATIONS, Edge
from nas_core.supernet import NetworkConfig, Supernet


class Zero(nn.Module):
    """*none*: zeros of the output's size, made from the input."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW[:, :, :: self.stride, :: self.stride].mul(0.0)


class FactorizedReduce(nn.Module):
    """Half the resolution from two 1×1 convolutions on alternate pixels; the sides must be even."""

    def __init__(self, channels_in: int, channels: int, normalization: Normalization):
        super().__init__()
        self.left = nn.Conv2d(channels_in, channels // 2, 1, stride=2, bias=False)
        self.right = nn.Conv2d(channels_in, channels - channels // 2, 1, stride=2, bias=False)
        self.norm = _norm(channels, normalization)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = F.relu(x_BCHW)
        return self.norm(torch.cat([self.left(x), self.right(x[:, :, 1:, 1:])], dim=1))


def _norm(channels: int, normalization: Normalization) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=normalization.eps, affine=normalization.affine)


def _separable(channels: int, kernel: int, stride: int, dilation: int, normalization: Normalization) -> nn.Sequential:
    """ReLU, a depthwise and a pointwise convolution, normalisation."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(
            channels,
            channels,
            kernel,
            stride,
            padding=dilation * (kernel - 1) // 2,
            dilation=dilation,
            groups=channels,
            bias=False,
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        _norm(channels, normalization),
    )


def _operation(name: str, channels: int, stride: int, normalization: Normalization) -> nn.Module:
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, normalization)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), _norm(channels, normalization))
    if name == "avg_pool_3x3":
        pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        return nn.Sequential(pool, _norm(channels, normalization))
    kernel = int(name[-1])
    if name.startswith("dil_conv"):
        return _separable(channels, kernel, stride, 2, normalization)
    return nn.Sequential(
        _separable(channels, kernel, stride, 1, normalization), _separable(channels, kernel, 1, 1, normalization)
    )


class MixedOperation(nn.ModuleDict):
    """The candidates of one edge, and Σ_k z_k O_k(x) over all of them or over the ``chosen`` ones."""

    def __init__(self, edge: Edge, channels: int, stride: int, normalization: Normalization):
        super().__init__({name: _operation(name, channels, stride, normalization) for name in edge.operations})

    def forward(self, x_BCHW: Tensor, z_K: Tensor, chosen_K: list[bool] | None) -> Tensor:
        total = 0
        for name, operation in self.items():
            k = OPERATIONS.index(name)
            if chosen_K is None or chosen_K[k]:
                total = total + z_K[k] * operation(x_BCHW)
        return total


class PlainCell(nn.Module):
    """One cell; ``inputs`` lists for every input node (channels, whether its resolution is halved)."""

    def __init__(self, config: NetworkConfig, inputs: list[tuple[int, bool]], channels: int, stride: int):
        super().__init__()
        self.cell, normalization = config.cell, config.normalization
        self.preprocess = nn.ModuleList()
        for channels_in, halve in inputs:
            if halve:
                self.preprocess.append(FactorizedReduce(channels_in, channels, normalization))
            else:
                convolution = nn.Conv2d(channels_in, channels, 1, bias=False)
                self.preprocess.append(nn.Sequential(nn.ReLU(), convolution, _norm(channels, normalization)))
        self.edges = nn.ModuleList(
            MixedOperation(edge, channels, stride if edge.source < self.cell.inputs else 1, normalization)
            for edge in self.cell.edges
        )

    def forward(self, states: list[Tensor], z_EK: Tensor, chosen_EK: list[list[bool]] | None) -> Tensor:
        nodes = [preprocess(state) for preprocess, state in zip(self.preprocess, states)]
        for target in self.cell.intermediate:
            total = 0
            for e in self.cell.incoming(target):
                chosen = None if chosen_EK is None else chosen_EK[e]
                total = total + self.edges[e](nodes[self.cell.edges[e].source], z_EK[e], chosen)
            nodes.append(total)
        return torch.cat([nodes[node] for node in self.cell.outputs], dim=1)


class PlainNetwork(nn.Module):
    """Stem, cells, average pooling and head for a :class:`NetworkConfig`; logits ``[B, classes]``.

    Raises ``ValueError`` for a configuration other than batch normalisation in the order ReLU, convolution,
    normalisation."""

    def __init__(self, config: NetworkConfig, *, image_channels: int = 3, classes: int = 10):
        super().__init__()
        if config.normalization.kind != "batch" or config.order != "relu-conv-norm":
            raise ValueError(
                f"the plain network cannot have {config.normalization.kind} normalisation in the order {config.order}; "
                f"it knows batch normalisation in the order relu-conv-norm"
            )
        self.config = config
        channels, width = config.channels, config.stem_multiplier * config.channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, eps=config.normalization.eps),
        )
        widths, halvings, self.cells = [width, width], [0, 0], nn.ModuleList()
        for position in range(config.cells):
            reduces = position in config.reductions
            channels *= 2 if reduces else 1
            seen = range(-config.cell.inputs, 0)
            inputs = [(widths[i], halvings[i] < halvings[-1]) for i in seen]
            self.cells.append(PlainCell(config, inputs, channels, 2 if reduces else 1))
            widths.append(channels * len(config.cell.outputs))
            halvings.append(halvings[-1] + int(reduces))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], classes, bias=config.head_bias)

    @classmethod
    def like(cls, network: Supernet) -> PlainNetwork:
        """The plain network with the weights and the precision of ``network``.

        Raises ``ValueError`` where the two do not have the same weights."""
        given = dict(network.named_parameters())
        with torch.random.fork_rng(devices=[]):
            plain = cls(
                network.config, image_channels=given["stem.0.weight"].shape[1], classes=len(given["head.weight"])
            )
        plain = plain.to(given["head.weight"].dtype)
        own = dict(plain.named_parameters())
        odd = sorted(own.keys() ^ given.keys()) + [n for n in own if n in given and own[n].shape != given[n].shape]
        if odd:
            raise ValueError(f"the weight {odd[0]} of one network is not that of the other; build both from one config")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(given[name])
        return plain

    def per_cell(self, values_GEK: Tensor) -> Tensor:
        """Values of the α groups, repeated for every cell: ``[N, E, K]``."""
        return values_GEK[[self.config.group(position) for position in range(self.config.cells)]]

    def forward(self, images_BCHW: Tensor, z_NEK: Tensor, chosen_NEK: list | None = None) -> Tensor:
        """Logits; with ``chosen_NEK`` (truth values) no other operation runs."""
        stem = self.stem(images_BCHW)
        states = [stem, stem]
        for position, cell in enumerate(self.cells):
            chosen = None if chosen_NEK is None else chosen_NEK[position]
            states = [states[-1], cell(states[-self.config.cell.inputs :], z_NEK[position], chosen)]
        return self.head(self.pool(states[-1]).flatten(1))


def _forward(network: PlainNetwork, images: Tensor, labels: Tensor, sample: Sample, only_sampled: bool):
    """Loss, logits and the leaf z ``[N, E, K]``."""
    weight = network.head.weight
    z = network.per_cell(sample.z).to(device=weight.device, dtype=weight.dtype).requires_grad_()
    chosen = network.per_cell(sample.active).tolist() if only_sampled else None
    logits = network(images, z, chosen)
    return F.cross_entropy(logits, labels), logits, z


def _measured(loss: Tensor, logits: Tensor, z: Tensor) -> Measurement:
    cost = torch.zeros_like(z) if z.grad is None else z.grad
    return Measurement(loss.detach(), logits.detach(), cost)


def plain(network: PlainNetwork, images: Tensor, labels: Tensor, sample: Sample) -> Measurement:
    """One forward and one backward pass through every candidate; the gradients of the weights are left in ``grad``.

    The cost covers every candidate, also those that the sample does not activate."""
    loss, logits, z = _forward(network, images, labels, sample, only_sampled=False)
    loss.backward()
    return _measured(loss, logits, z)


def sampled(network: PlainNetwork, images: Tensor, labels: Tensor, sample: Sample) -> Measurement:
    """The same modules, of which only those that the sample activates run.

    This is also the published step of the cost statistics: it computes the gradients of the weights, unused."""
    loss, logits, z = _forward(network, images, labels, sample, only_sampled=True)
    loss.backward()
    return _measured(loss, logits, z)


def published_theta(network: PlainNetwork, images: Tensor, labels: Tensor, sample: Sample) -> Measurement:
    """The published DSNAS step: the sampled operations forward and back, then every candidate forward, for nothing.

    The scripts (``Analysis/snas/model_search.py``) record the graph of this second pass, as no ``no_grad`` surrounds it, and
    drop it with everything else when the step ends."""
    measured = sampled(network, images, labels, sample)
    _forward(network, images, labels, sample, only_sampled=False)
    return measured


def published_snas(network: PlainNetwork, images: Tensor, labels: Tensor, sample: Sample) -> Measurement:
    """The published SNAS step: every candidate forward, and the whole backward pass twice, for α and for the weights."""
    loss, logits, z = _forward(network, images, labels, sample, only_sampled=False)
    loss.backward(retain_graph=True)
    measured = _measured(loss, logits, z)
    network.zero_grad(set_to_none=True)
    z.grad = None
    loss.backward()
    return measured


def graph_bytes(config: NetworkConfig, batch: int, size: int, sample: Sample, *, only_sampled: bool) -> int:
    """Bytes that autograd keeps between the forward and the backward pass in float32, counted without computing."""
    with torch.device("meta"):
        network = PlainNetwork(config)
        images, labels = torch.empty(batch, 3, size, size), torch.empty(batch, dtype=torch.long)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _forward(network, images, labels, sample, only_sampled)
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
