"""A network evaluated module by module, with every feature map, every operation's output and every gradient kept.

This is the supernet as the paper writes it (Eq 1), independent of the engine that searches run on. Shapes: B images,
C channels, H × W pixels, N cells, E edges, K operations.

A node's feature map reaches the loss along several paths: through each operation on each edge that leaves it, and
through its output edge. Each of them reads the node through an alias of its own, so that autograd returns ∂L/∂x_j
restricted to that path."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_core.cost import per_cell
from nas_core.operations import Norm
from nas_core.relaxation import Sample
from nas_core.space import OPERATIONS
from nas_core.supernet import Supernet

Run = Callable[[nn.Module, Tensor], Tensor]


@dataclass
class Stage:
    """A path up to its first normalisation: ``x`` → A → ``a`` → normalisation → ``y``, A without shifts.

    ``gradient_x`` and ``gradient_y`` are ∂L/∂x and ∂L/∂y along this path alone; ``size_a`` is |A||x|, the largest that
    any order of summation could meet on the way to ``a``."""

    module: nn.Module
    norm: Norm
    x: Tensor
    a: Tensor
    y: Tensor
    size_a: Tensor
    gradient_x: Tensor = field(init=False, repr=False)
    gradient_y: Tensor = field(init=False, repr=False)


@dataclass
class CellTrace:
    """One cell: ``nodes`` x_i and their ``gradients`` ∂L/∂x_i; ``outputs`` O_k(x_i) of every evaluated ``(edge,
    operation)``, ``passed`` ∂L/∂x_i through that operation alone and ``paths`` its first normalisation (none for a
    bare skip); ``leaving`` ∂L/∂x_j through the output edge of j alone; ``inputs`` the preprocessing of every input
    node."""

    nodes: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    outputs: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    passed: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    paths: dict[tuple[int, int], Stage | None] = field(default_factory=dict)
    leaving: dict[int, Tensor] = field(default_factory=dict)
    inputs: list[Stage] = field(default_factory=list)


@dataclass(frozen=True)
class Trace:
    """A batch through a network and back: ``z`` and ``cost`` = ∂L/∂Z ``[N, E, K]``, ``logits`` ``[B, classes]`` with
    ``gradient_logits`` = ∂L/∂Y, L the batch-mean cross entropy, and a :class:`CellTrace` a cell."""

    network: Supernet
    images: Tensor
    labels: Tensor
    sample: Sample
    z: Tensor
    cost: Tensor
    logits: Tensor
    gradient_logits: Tensor
    loss: float
    cells: tuple[CellTrace, ...]


class _Evaluation:
    """The forward pass, and the tensors whose gradients are wanted with the function that stores each."""

    def __init__(self, network: Supernet, images: Tensor, z_NEK: Tensor, active_NEK: Tensor, run: Run | None):
        self.network, self.z, self.active, self.run = network, z_NEK, active_NEK.tolist(), run
        self.wanted: list[tuple[Tensor, Callable[[Tensor], None]]] = []
        stem = network.stem(images)
        states = [stem, stem]
        self.cells: list[CellTrace] = []
        for position in range(network.config.cells):
            states = [states[-1], self._cell(position, states)]
        self.logits = network.head(states[-1].mean((2, 3)))

    def want(self, tensor: Tensor, store: Callable[[Tensor], None]) -> Tensor:
        """Ask for the gradient of an alias of ``tensor``, and hand out the alias."""
        alias = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().clone().requires_grad_()
        self.wanted.append((alias, store))
        return alias

    def _cell(self, position: int, states: list[Tensor]) -> Tensor:
        module, cell, trace = self.network.cells[position], self.network.config.cell, CellTrace()
        self.cells.append(trace)
        for prepare, state in zip(cast(nn.ModuleList, module.preprocess), states[-cell.inputs :]):
            output, stage = self._watched(prepare, state)
            assert stage is not None  # preprocessing has a normalisation, be it the identity
            trace.inputs.append(stage)
            self._node(trace, output)
        for target in cell.intermediate:
            terms = [term for edge in cell.incoming(target) for term in self._edge(trace, position, edge)]
            self._node(trace, cast(Tensor, sum(terms)) if terms else self._zeros(trace, position))
        leaving = []
        for node in cell.outputs:
            leaving.append(self.want(trace.nodes[node], functools.partial(trace.leaving.__setitem__, node)))
        return torch.cat(leaving, dim=1)

    def _node(self, trace: CellTrace, value: Tensor) -> None:
        place = len(trace.nodes)
        trace.gradients.append(value.new_empty(0))  # its place, until the backward pass is done
        trace.nodes.append(self.want(value, functools.partial(trace.gradients.__setitem__, place)))

    def _edge(self, trace: CellTrace, position: int, index: int) -> list[Tensor]:
        """Z_k·O_k(x) of every evaluated operation of an edge."""
        terms, source = [], trace.nodes[self.network.config.cell.edges[index].source]
        edges = cast(Sequence[nn.ModuleDict], self.network.cells[position].edges)
        for name, module in edges[index].items():
            place = (index, OPERATIONS.index(name))
            if not self.active[position][index][place[1]]:
                continue
            x = self.want(source, functools.partial(trace.passed.__setitem__, place))
            if self.run is None:
                trace.outputs[place], trace.paths[place] = self._watched(module, x)
            else:
                trace.outputs[place], trace.paths[place] = self.run(module, x), None
            terms.append(self.z[position, index, place[1]] * trace.outputs[place])
        return terms

    def _watched(self, module: nn.Module, x: Tensor) -> tuple[Tensor, Stage | None]:
        """The module's output, and its first normalisation if it has one."""
        if not any(isinstance(part, Norm) for part in module.modules()):
            return module(x), None
        x = self.want(x, lambda g: setattr(stage, "gradient_x", g))
        output, norm, a, y = _first_normalization(module, x)
        absolute = {name: parameter.detach().abs() for name, parameter in module.named_parameters()}
        with torch.no_grad():
            size_a = _first_normalization(module, x.detach().abs(), absolute)[2]
        stage = Stage(module, norm, x, a, y, size_a)
        self.wanted.append((y, lambda g: setattr(stage, "gradient_y", g)))
        return output, stage

    def _zeros(self, trace: CellTrace, position: int) -> Tensor:
        """A node that nothing enters."""
        like, stride = trace.nodes[0], 2 if position in self.network.config.reductions else 1
        height, width = (-(-side // stride) for side in like.shape[-2:])
        return like.new_zeros(*like.shape[:2], height, width)


def _first_normalization(module: nn.Module, x: Tensor, parameters=None) -> tuple[Tensor, Norm, Tensor, Tensor]:
    """``module(x)``, with other parameters if given; its first normalisation, and what enters and leaves that."""
    seen = []
    norm = next(part for part in module.modules() if isinstance(part, Norm))
    handle = norm.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    try:
        output = module(x) if parameters is None else torch.func.functional_call(module, parameters, (x,))
    finally:
        handle.remove()
    return output, norm, *seen[0]


def _detach(cell: CellTrace) -> None:
    """Let go of the graph: what is kept are numbers."""
    cell.nodes = [node.detach() for node in cell.nodes]
    cell.outputs = {place: output.detach() for place, output in cell.outputs.items()}
    for stage in (*cell.inputs, *cell.paths.values()):
        if stage is not None:
            stage.x, stage.a, stage.y = stage.x.detach(), stage.a.detach(), stage.y.detach()


def plain_logits(network: Supernet, images: Tensor, z_NEK: Tensor, active_NEK: Tensor | None = None) -> Tensor:
    """Logits ``[B, classes]`` as a function of Z ``[N, E, K]`` that autograd can differentiate; by default every
    operation of weight above 0 runs."""
    active = z_NEK.detach() > 0 if active_NEK is None else active_NEK
    return _Evaluation(network, images, z_NEK, active, None).logits


def trace(network: Supernet, images: Tensor, labels: Tensor, sample: Sample, *, run: Run | None = None) -> Trace:
    """Evaluate a batch and its gradients. ``run(module, x)`` replaces ``module(x)`` on every edge: a way to see what a
    network of other operations would do, without its paths' bounds.

    Raises ``ValueError`` where a gradient is not a number: a feature map of zeros cannot be normalised at ε = 0."""
    z = per_cell(network, sample.z).to(images).detach().clone().requires_grad_()
    active = per_cell(network, sample.active)
    evaluation = _Evaluation(network, images, z, active, run)
    loss = F.cross_entropy(evaluation.logits, labels)
    tensors = [z, evaluation.logits, *(tensor for tensor, _ in evaluation.wanted)]
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    cost, gradient_logits, *rest = (torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found))
    for (_, store), gradient in zip(evaluation.wanted, rest):
        store(gradient)
    for cell in evaluation.cells:
        _detach(cell)
    if not all(bool(torch.isfinite(gradient).all()) for gradient in (cost, *rest)):
        raise ValueError(
            "a gradient of the traced network is not a number: a feature map without variance was normalised with "
            "ε = 0; give its Normalization an eps above 0, or take 'none' out of its cell"
        )
    return Trace(
        network=network,
        images=images,
        labels=labels,
        sample=sample,
        z=z.detach(),
        cost=cost,
        logits=evaluation.logits.detach(),
        gradient_logits=gradient_logits,
        loss=float(loss.detach()),
        cells=tuple(evaluation.cells),
    )
