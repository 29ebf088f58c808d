"""A network of cells that evaluates only what a sample activates.

Shapes: B images, C channels, H × W pixels, N cells, E edges, K operations. The sum at a node, x_j = Σ_e Σ_k Z[e,k]
O_k(x_i), is one autograd function whose backward pass also returns C[e,k] = ⟨∂L/∂x_j, O_k(x_i)⟩ = ∂L/∂Z[e,k] (Eq 4):
the probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas_core.engine import EvaluateCell, Evaluation, Plan
from nas_core.features import Node, known
from nas_core.linear import Normalized, StandIn, rows
from nas_core.memory import onto
from nas_core.operations import FactorizedReduce, Norm, Normalization, build, stack
from nas_core.relaxation import Sample
from nas_core.space import NONE, OPERATIONS, Cell, Edge, minimal


@dataclass(frozen=True)
class NetworkConfig:
    """A stack of equal cells. With ``reduction`` the cells at one and two thirds of the depth halve the resolution,
    double the channels and have an α of their own, as in DARTS; the paper's search has none. Raises ``ValueError`` for
    impossible sizes."""

    cell: Cell = field(default_factory=minimal)
    cells: int = 1
    channels: int = 16
    stem_multiplier: int = 3
    reduction: bool = False
    head_bias: bool = False
    normalization: Normalization = field(default_factory=Normalization)
    order: str = "relu-conv-norm"

    def __post_init__(self) -> None:
        for name in ("cells", "channels", "stem_multiplier"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a whole number of at least 1")
        if self.reduction and self.cells < 3:
            raise ValueError(f"a network with reduction cells needs at least 3 cells, not {self.cells}")

    @property
    def reductions(self) -> tuple[int, ...]:
        """Positions of the reduction cells."""
        return (self.cells // 3, 2 * self.cells // 3) if self.reduction else ()

    @property
    def groups(self) -> int:
        """How many sets of α there are: one for normal cells and, if there are any, one for reduction cells."""
        return 2 if self.reduction else 1

    def group(self, cell: int) -> int:
        """The set of α that cell number ``cell`` uses."""
        return int(cell in self.reductions)


def _image_dot(gradient_BCHW: Tensor, output_BCHW: Tensor) -> Tensor:
    """⟨gradient, output⟩: summed per image in the tensors' precision, then over images in float64.

    Two stages, because one running sum over a million products would lose half the digits of a cost that is a
    near-cancellation."""
    g, o = (tensor.permute(0, 2, 3, 1).flatten(1) for tensor in (gradient_BCHW, output_BCHW))
    per_image = torch.bmm(g.unsqueeze(1), o.unsqueeze(2))
    return per_image.sum(dtype=torch.float64).to(gradient_BCHW.dtype)


class _Mix(torch.autograd.Function):
    """Σ_i z[place_i]·output_i, with ∂L/∂z[place_i] = ⟨∂L/∂sum, output_i⟩ from the same backward pass.

    ``weights`` are the values of z at ``places``, known on the host: a weight of 1 costs no multiplication, and an
    output of weight 0 takes no part in the sum or its gradient, only in the cost."""

    @staticmethod
    def forward(
        ctx: Any, z_EK: Tensor, places: tuple[tuple[int, int], ...], weights: tuple[float, ...], *outputs: Tensor
    ) -> Tensor:
        total = None
        for weight, output in zip(weights, outputs):
            if weight == 0:
                continue
            if total is None:
                total = output * weight if weight != 1 else output.clone()
            else:
                total.add_(output, alpha=weight)
        if total is None:
            total = torch.zeros_like(outputs[0])
        ctx.places, ctx.weights, ctx.probed = places, weights, z_EK.requires_grad
        ctx.save_for_backward(z_EK, *(outputs if ctx.probed else ()))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        z_EK, *outputs = ctx.saved_tensors
        cost_EK = None
        if ctx.needs_input_grad[0]:
            costs = dict(zip(ctx.places, (_image_dot(gradient, output) for output in outputs)))
            nothing, (edges, operations) = gradient.new_zeros(()), z_EK.shape
            entries = [costs.get((e, k), nothing) for e in range(edges) for k in range(operations)]
            cost_EK = torch.stack(entries).view_as(z_EK)
        passed: list[Tensor | None] = []
        for position, (place, weight) in enumerate(zip(ctx.places, ctx.weights)):
            if weight == 0 or not ctx.needs_input_grad[3 + position]:
                passed.append(None)
            elif weight == 1 and not torch.is_grad_enabled():
                passed.append(gradient)
            else:
                # Also where the backward pass is itself differentiated: then the factor z must stay in the graph.
                passed.append(gradient * z_EK[place])
        return cost_EK, None, None, *passed


class _Operations(nn.ModuleDict):
    """The candidates of one edge; *none* has no module."""

    def __init__(self, edge: Edge, channels: int, stride: int, config: NetworkConfig):
        super().__init__(
            {
                name: build(name, channels, stride, config.normalization, config.order)
                for name in edge.operations
                if name != "none"
            }
        )


class _Cell(nn.Module):
    """One cell of the stack: preprocessing of its input nodes, its edges, and the concatenation of its output nodes."""

    def __init__(self, config: NetworkConfig, inputs: list[tuple[int, bool]], channels: int, stride: int):
        super().__init__()
        self.cell = config.cell
        self.stride = stride
        self.preprocess = nn.ModuleList()
        for channels_in, halve in inputs:
            if halve:
                self.preprocess.append(FactorizedReduce(channels_in, channels, config.normalization))
            else:
                pointwise = nn.Conv2d(channels_in, channels, 1, bias=False)
                self.preprocess.append(stack([pointwise], channels, config.normalization, config.order))
        self.edges = nn.ModuleList(
            _Operations(edge, channels, stride if edge.source < self.cell.inputs else 1, config)
            for edge in self.cell.edges
        )

    @property
    def candidates(self) -> Sequence[Mapping[str, nn.Module]]:
        """The modules of every edge by the names of their operations."""
        return cast(Sequence[Mapping[str, nn.Module]], self.edges)

    def forward(self, states: list[Tensor], z_EK: Tensor, sample_EK: Plan) -> Tensor:
        nodes = [module(state) for module, state in zip(self.preprocess, states)]
        for target in self.cell.intermediate:
            places, weights, outputs = [], [], []
            for index in self.cell.incoming(target):
                source = nodes[self.cell.edges[index].source]
                for operation, weight in sample_EK[index]:
                    module = self.candidates[index][OPERATIONS[operation]]
                    # What has no weight passes nothing on: its graph would be built for nothing.
                    with torch.set_grad_enabled(torch.is_grad_enabled() and weight != 0):
                        outputs.append(module(source))
                    places.append((index, operation))
                    weights.append(weight)
            if outputs:
                nodes.append(_Mix.apply(z_EK, tuple(places), tuple(weights), *outputs))
            else:
                height, width = (-(-side // self.stride) for side in nodes[0].shape[-2:])
                nodes.append(nodes[0].new_zeros(len(nodes[0]), nodes[0].shape[1], height, width))
        return torch.cat([nodes[node] for node in self.cell.outputs], dim=1)


class Supernet(nn.Module):
    """Stem, N cells, global average pooling and a linear head (without bias unless asked for: Theorem 2 needs it so).

    ``forward(images, sample)`` returns logits ``[B, classes]``. The weights are those of PyTorch's default initialisers
    under ``seed``; the global random state is left untouched."""

    def __init__(self, config: NetworkConfig, *, image_channels: int = 3, classes: int = 10, seed: int = 0):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(image_channels, classes)

    def _build(self, image_channels: int, classes: int) -> None:
        config, cell = self.config, self.config.cell
        stem_channels = config.stem_multiplier * config.channels
        stem_norm = Normalization("batch", affine=True, eps=config.normalization.eps)
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, stem_channels, 3, padding=1, bias=False), Norm(stem_channels, stem_norm)
        )
        # (channels, number of halvings so far) of every state; a cell sees the latest one or two.
        states = [(stem_channels, 0), (stem_channels, 0)]
        channels, self.cells = config.channels, nn.ModuleList()
        for position in range(config.cells):
            reduces = position in config.reductions
            channels = channels * 2 if reduces else channels
            halvings = states[-1][1]
            # Both inputs are brought to the resolution of the newer one.
            inputs = [(width, own < halvings) for width, own in states[-cell.inputs :]]
            self.cells.append(_Cell(config, inputs, channels, stride=2 if reduces else 1))
            states.append((channels * len(cell.outputs), halvings + int(reduces)))
        self.head = nn.Linear(states[-1][0], classes, bias=config.head_bias)

    @property
    def stack(self) -> Sequence[_Cell]:
        """The cells, from the stem on."""
        return cast(Sequence[_Cell], self.cells)

    def plan(self, sample: Sample) -> list[Plan]:
        """``[group][edge]`` → the ``(operation, weight)`` pairs to evaluate, as plain numbers on the host.

        Raises ``ValueError`` where the sample activates an operation that its edge lacks.
        """
        if bool((sample.active & ~torch.tensor(self.config.cell.mask())).any()):
            raise ValueError(
                f"the sample activates an operation that an edge of the {self.config.cell.name} cell lacks; "
                f"draw it from masked(log_alpha, cell)"
            )
        active, z = sample.active.tolist(), sample.z.tolist()
        return [
            [
                [(k, row_z[k]) for k in range(len(row_z)) if row_active[k] and k != NONE]
                for row_active, row_z in zip(group_active, group_z)
            ]
            for group_active, group_z in zip(active, z)
        ]

    def gates(self, sample: Sample) -> Tensor:
        """Z for every cell, ``[N, E, K]``, a leaf on the network's device and in its precision."""
        groups = [self.config.group(position) for position in range(self.config.cells)]
        weight = self.head.weight
        return onto(sample.z[groups].to(weight.dtype), weight.device)

    @property
    def fused(self) -> bool:
        """Whether ``nas_core.engine`` evaluates this network: on the CPU, in the configurations that it covers.

        An accelerator that ends each kernel before the host has asked for the next is bound by their number, and modules need a
        fraction of the engine's (``python -m benchmarks --only launches``); times on one are not measured."""
        covered = self.config.normalization.kind == "batch" and self.config.order == "relu-conv-norm"
        return covered and self.head.weight.device.type == "cpu"

    def forward(
        self,
        images_BCHW: Tensor,
        sample: Sample,
        gates_NEK: Tensor | None = None,
        *,
        train: bool = True,
        twice: bool = False,
    ) -> Tensor:
        """Logits ``[B, classes]``; ``gates_NEK`` (from :meth:`gates`, made to require a gradient) receives the cost.

        Without ``train`` nothing is kept for the gradients of the weights. ``twice`` asks for a result that can be
        differentiated twice, which costs time and memory."""
        gates = self.gates(sample) if gates_NEK is None else gates_NEK
        plan = self.plan(sample)
        if self.fused and not twice:
            return self._evaluate(images_BCHW, gates, plan, train)
        with torch.set_grad_enabled(torch.is_grad_enabled() and train):
            stem = self.stem(images_BCHW)
        states = [stem, stem]
        for position, cell in enumerate(self.stack):
            inputs = states[-self.config.cell.inputs :]
            states = [states[-1], cell(inputs, gates[position], plan[self.config.group(position)])]
        return self.head(states[-1].mean(dim=(2, 3)))

    def _evaluate(self, images_BCHW: Tensor, gates_NEK: Tensor, plan: list[Plan], train: bool) -> Tensor:
        """The logits, by the engine."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and train):
            convolution, norm = self.stem[0], cast(Norm, self.stem[1])
            x = convolution(images_BCHW).contiguous(memory_format=torch.channels_last)
            gain, shift = known(norm.weight), known(norm.bias)
            normalized = Normalized(rows(x), gain, shift, norm.normalization.eps)
            stem = StandIn.apply(normalized, x, gain, shift)
        node = Node(x.detach(), normalized)
        states, nodes = [stem, stem], [node, node]
        for position, cell in enumerate(self.stack):
            row, last = plan[self.config.group(position)], position == len(self.cells) - 1
            evaluation = Evaluation(cell.cell, tuple(cell.preprocess), cell.candidates, row, cell.stride, last, train)
            count = cell.cell.inputs
            output = EvaluateCell.apply(
                evaluation, nodes[-count:], gates_NEK[position], *states[-count:], *evaluation.trained
            )
            states, nodes = [states[-1], output], [nodes[-1], Node(output.detach())]
        return self.head(states[-1])
