"""The evaluation of a cell, forward and back, with as little arithmetic and memory as its result allows.

Every candidate but *skip_connect* is a feature map (a pool, or a depthwise convolution of the rectified node) followed by a
normalised linear map (:mod:`nas_core.linear`). Hence, against evaluating module by module:

* the rectified node, its two pools and their statistics are computed once for all edges that leave it;
* convolution and normalisation are one product, summed into the node as it is made, and the cost of an operation is a by-product;
* only nodes and depthwise outputs are kept for the backward pass; what a ReLU or a normalisation made is made again;
* a node that only the average pooling sees is never written: pooling commutes with linear maps;
* without weight gradients, nothing is pulled back that no cost depends on.

It covers batch normalisation in the order ReLU, convolution, normalisation; :mod:`nas_core.supernet` evaluates the rest, and what
is to be differentiated twice, by modules. Shapes: B images, P pixels, C channels, E edges, K operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nas_core import kernels
from nas_core.features import Batch, Gradients, Node, Parameters, Stage, affine, fold, known, stages
from nas_core.linear import Feature, Folded, Narrowed, Normalized, back, image, products, rows
from nas_core.space import OPERATIONS, Cell

Plan = list[list[tuple[int, float]]]
"""For every edge the (operation, weight) pairs to evaluate."""


@dataclass
class Term:
    """One evaluated candidate: where it stands, its weight, its stages, and the features that enter their linear maps."""

    edge: int
    operation: int
    weight: float
    source: int
    stages: tuple[Stage, ...]
    features: list[Feature] = field(default_factory=list)

    @property
    def name(self) -> str:
        return OPERATIONS[self.operation]


class Evaluation:
    """One cell on one batch: :meth:`forward` returns its output, :meth:`backward` the gradients and the costs.

    ``plan`` lists for every edge the (operation, weight) pairs to evaluate. With ``pooled`` the output is averaged over pixels,
    ``[B, C]``, as the last cell's is. Without ``train`` no gradient of a weight is computed; with it :attr:`trained` lists the
    weights that take part."""

    def __init__(
        self,
        cell: Cell,
        preprocess: Sequence[nn.Module],
        edges: Sequence[Mapping[str, nn.Module]],
        plan: Plan,
        stride: int,
        pooled: bool,
        train: bool,
    ):
        self.cell, self.stride, self.pooled = cell, stride, pooled
        self.inputs = [stages(module)[0] for module in preprocess]
        self.terms: dict[int, list[Term]] = {}
        for target in cell.intermediate:
            self.terms[target] = [
                Term(e, k, weight, cell.edges[e].source, stages(edges[e][OPERATIONS[k]], OPERATIONS[k]))
                for e in cell.incoming(target)
                for k, weight in plan[e]
            ]
        self.nodes: list[Node | None] = []
        self.states: list[Node] = []
        self.scratch: Tensor | None = None
        self.first: dict[int, list[Batch]] = {}
        self.last: dict[int, list[Batch]] = {}
        run = [term for terms in self.terms.values() for term in terms]
        weighted = [stage for term in run if term.weight != 0 for stage in term.stages]
        self.trained: Parameters = ()
        if train:
            self.trained = tuple(weight for stage in (*self.inputs, *weighted) for weight in stage.parameters)
        used = {term.source for term in run}
        self.only_pooled = {node for node in cell.intermediate if pooled and node not in used}

    # -- forward ---------------------------------------------------------------------------------------------------------

    def forward(self, states: list[Node]) -> Tensor:
        """The cell's output from its input states."""
        self.states += states
        # The first cell sees one state twice: both maps are then one.
        same = len(states) == 2 and states[0] is states[1]
        self.entering = [
            (inputs, self._narrowed(inputs)) for inputs in ([[0, 1]] if same else [[i] for i in range(len(states))])
        ]
        for inputs, narrowed in self.entering:
            stride = self.inputs[inputs[0]].stride
            sides = [-(-side // stride) for side in states[inputs[0]].written.shape[2:]]
            self.nodes += [Node(image(output, *sides)) for output in narrowed.outputs]
        self.sides = [-(-side // self.stride) for side in self._node(0).x.shape[2:]]
        pooled = {}
        for target in self.cell.intermediate:
            self._enter(target)
            if target in self.only_pooled:
                self.nodes.append(None)
                pooled[target] = self._pooled_sum(target)
            else:
                self.nodes.append(Node(self._sum(target)))
                if self.pooled and target in self.cell.outputs:
                    pooled[target] = rows(self._node(target).x).mean(1)
        self.scratch = None
        # The first of two states is not seen by a later cell, and by the last cell no state is.
        for node in (*self.nodes, *(self.states if self.pooled else self.states[:1])):
            if node is not None:
                node.forget()
        if self.pooled:
            return torch.cat([pooled[node] for node in self.cell.outputs], dim=1)
        return torch.cat([self._node(node).x for node in self.cell.outputs], dim=1)

    def _node(self, number: int) -> Node:
        """A node whose feature map is written, and still needed."""
        return known(self.nodes[number])

    def _narrowed(self, inputs: list[int]) -> Narrowed:
        """The preprocessing of input states that are one and the same."""
        chosen, (x, ahead) = [self.inputs[position] for position in inputs], self._entering(inputs)
        norms = [stage.norm for stage in chosen]
        return Narrowed(
            x,
            [stage.matrix(x) for stage in chosen],
            *affine(norms),
            norms[0].normalization.eps,
            ahead,
        )

    def _entering(self, inputs: list[int]) -> tuple[Tensor, Normalized | None]:
        """The map whose ReLU the preprocessing of these input states sees, as rows ``[B, P, C_in]``, and what normalises it first."""
        state = self.states[inputs[0]]
        if self.inputs[inputs[0]].stride == 2:
            return rows(state.halves()), None
        return rows(state.written), state.ahead

    def _enter(self, target: int) -> None:
        """The feature maps of every term into ``target``, up to the last linear map."""
        terms = self.terms[target]
        double = [term for term in terms if len(term.stages) == 2]
        for term in terms:
            node = self._node(term.source)
            for stage in term.stages[:1]:
                if stage.depthwise is not None:
                    x = kernels.depthwise(node.rectified(), stage.depthwise, stage.stride, stage.dilation)
                    term.features.append(Feature(rows(x)))
                else:
                    name = "halves" if stage.pointwise else term.name
                    term.features.append(node.feature(name, stage.stride))
        if double:
            stages_in, ones = [term.stages[0] for term in double], [1.0] * len(double)
            batches = fold([term.features[0] for term in double], stages_in, ones)
            self.first[target] = batches
            for batch in batches:
                for m, member in enumerate(batch.members):
                    term = double[member]
                    inner = self._inner(term, batch.folded, m)
                    stage = term.stages[1]
                    x = kernels.depthwise(inner, stage.kernel, stage.stride, stage.dilation)
                    term.features.append(Feature(rows(x)))
        final = [term for term in terms if term.stages]
        if final:
            stages_out, weights = [term.stages[-1] for term in final], [term.weight for term in final]
            self.last[target] = fold([term.features[-1] for term in final], stages_out, weights)

    def _inner(self, term: Term, folded: Folded, m: int) -> Tensor:
        """The rectified output of the first of two stages: good until the next one is asked for.

        It lives in one place for all terms, because a block of this size that comes and goes between blocks that stay leaves
        a hole that the allocator does not fill again."""
        x = term.features[0].x
        matrix, offset = (part[m] for part in folded.applied)
        if self.scratch is None:
            self.scratch = x.new_empty(len(x) * x.shape[1], len(matrix))
        torch.addmm(offset, x.flatten(0, 1), matrix.t(), out=self.scratch).relu_()
        return image(self.scratch.view(*x.shape[:2], -1), *self.sides)

    def _weighted(self, target: int) -> Iterator[tuple[Feature, Tensor, Tensor]]:
        """Every (feature, matrix, offset) of weight other than 0 that enters the sum, z folded in."""
        final = [term for term in self.terms[target] if term.stages]
        for batch in self.last.get(target, ()):
            folded, z = batch.folded, batch.weights.unsqueeze(-1)
            matrices, offsets = (folded.matrix * z.unsqueeze(-1)).to(folded.precision), folded.offset * z
            for m, member in enumerate(batch.members):
                term = final[member]
                if term.weight != 0:
                    yield term.features[-1], matrices[m], offsets[m]

    def _sum(self, target: int) -> Tensor:
        """x_j = Σ_e Σ_k Z[e,k] O_k(x_i), ``[B, C, H, W]``."""
        like, parts = self._node(0).x, list(self._weighted(target))
        total = None
        if parts:
            offset = cast(Tensor, sum(offset for _, _, offset in parts)).to(like)
            (first, matrix, _), *others = parts
            flat = torch.addmm(offset, first.x.flatten(0, 1), matrix.t())
            for feature, matrix, _ in others:
                flat.addmm_(feature.x.flatten(0, 1), matrix.t())
            total = image(flat.view(len(like), -1, flat.shape[1]), *self.sides)
        for term in self.terms[target]:
            if not term.stages and term.weight != 0:
                x = self._node(term.source).x
                if total is None:
                    total = x * term.weight if term.weight != 1 else x.clone()
                else:
                    total.add_(x, alpha=term.weight)
        if total is None:
            size = (len(like), like.shape[1], *self.sides)
            total = torch.zeros(size, dtype=like.dtype, device=like.device).contiguous(memory_format=kernels.LAST)
        return total

    def _pooled_sum(self, target: int) -> Tensor:
        """The average of x_j over pixels, ``[B, C]``, from the averages of what enters it."""
        like = self._node(0).x
        total = like.new_zeros(len(like), like.shape[1])
        for feature, matrix, offset in self._weighted(target):
            total = total + torch.addmm(offset.to(like), feature.sums / feature.x.shape[1], matrix.t())
        for term in self.terms[target]:
            if not term.stages and term.weight != 0:
                total = total.add(self._node(term.source).x.mean((2, 3)), alpha=term.weight)
        return total

    # -- backward --------------------------------------------------------------------------------------------------------

    def backward(self, gradient: Tensor, wanted: list[bool]) -> tuple[list[Tensor | None], Tensor]:
        """∂L/∂ of the states (where ``wanted``) and the costs ``[E, K]``; gradients of weights are in :attr:`gradients`."""
        self.gradients: dict[nn.Parameter, Tensor] = {}
        like = self._node(0).x
        # A node's gradient is worth having where a cost or a weight depends on it.
        self.needed = [bool(self.trained) or flag for flag in wanted] + [True] * self.cell.nodes
        self.collected = [None if node is None else Gradients(node) for node in self.nodes]
        zero = torch.zeros((), dtype=torch.float64, device=like.device)
        costs = [zero] * (len(self.cell.edges) * len(OPERATIONS))
        channels = like.shape[1]
        shares = dict(zip(self.cell.outputs, gradient.split(channels, dim=1)))
        for target in reversed(self.cell.intermediate):
            g = self._gradient(target, shares.get(target))
            if g is not None:
                for term, cost in self._pull(target, g):
                    costs[term.edge * len(OPERATIONS) + term.operation] = cost
            # What this node needed is no longer wanted by anyone.
            self.nodes[target] = self.collected[target] = None
            del self.terms[target]
            self.first.pop(target, None), self.last.pop(target, None)
        result: list[Tensor | None] = [None] * len(wanted)
        for inputs, narrowed in self.entering:
            if self.needed[inputs[0]]:
                # A state that enters twice gets its whole gradient at its first place.
                result[inputs[0]] = self._preprocessing(inputs, narrowed, wanted[inputs[0]])
        return result, torch.stack(costs).view(-1, len(OPERATIONS)).to(like.dtype)

    def _gradient(self, target: int, share: Tensor | None) -> Tensor | None:
        """∂L/∂x of a node as rows ``[B, P, C]``, or ``[B, 1, C]`` where every pixel has the same."""
        if target in self.only_pooled:
            pixels = self.sides[0] * self.sides[1]
            return None if share is None else share.unsqueeze(1) / pixels
        collected = known(self.collected[target])
        total = collected.total()
        if share is None:
            return None if total is None else rows(total)
        if self.pooled:
            share = (share / (self.sides[0] * self.sides[1]))[:, :, None, None]
            if total is None:
                total = share.expand_as(collected.node.x).contiguous(memory_format=kernels.LAST)
            else:
                total = total.add_(share)
        else:
            share = share.contiguous(memory_format=kernels.LAST)
            total = share if total is None else total.add_(share)
        return rows(total)

    def _pull(self, target: int, g_BPC: Tensor) -> Iterator[tuple[Term, Tensor]]:
        """Yield (term, cost) of everything that entered ``target``, and send its gradient on to the sources."""
        everywhere = g_BPC.shape[1] == 1
        sums = g_BPC.sum(1).sum(0, dtype=torch.float64) * (self.sides[0] * self.sides[1] if everywhere else 1)
        terms = self.terms[target]
        for term in terms:
            if not term.stages:
                yield term, self._skip(term, g_BPC)
        final = [term for term in terms if term.stages]
        inner: dict[int, Tensor] = {}
        for batch in self.last.get(target, ()):
            members = [final[member] for member in batch.members]
            pairs = [_outer(g_BPC, term.features[-1]) for term in members]
            pull = batch.folded.pull(torch.stack(pairs), sums.expand(len(members), -1), batch.weights)
            for m, term in enumerate(members):
                yield term, pull.cost[m]
                # Its last use: what a feature map leaves free is where the next gradients go.
                feature = term.features.pop()
                if term.weight == 0 or not (self.trained or self.needed[term.source]):
                    continue
                self._learn(term.stages[-1], pull.weight[m], pull.gain[m], pull.shift[m])
                if not self._goes_on(term):
                    continue
                if len(term.stages) == 2:
                    inner[id(term)] = back(g_BPC, feature.x, pull, m)
                else:
                    self._to_source(term, back(g_BPC, feature.x, pull, m))
            del feature
        if inner:
            self._first_stages(target, inner)

    def _goes_on(self, term: Term) -> bool:
        """Whether anything before the last linear map wants the gradient."""
        return self.needed[term.source] or any(stage.depthwise is not None for stage in term.stages)

    def _skip(self, term: Term, g_BPC: Tensor) -> Tensor:
        node, gradients = self._node(term.source), known(self.collected[term.source])
        x = rows(node.x)
        product = g_BPC.squeeze(1) * x.sum(1) if g_BPC.shape[1] == 1 else (g_BPC * x).sum(1)
        if term.weight != 0 and self.needed[term.source]:
            g = image(g_BPC.expand_as(x), *node.x.shape[2:])
            gradients.add(g, term.weight)
        return product.sum(dtype=torch.float64)

    def _first_stages(self, target: int, gradients: dict[int, Tensor]) -> None:
        """Pull the gradients at second-stage features back through the second depthwise convolution and the first stage;
        ``gradients``, by the identity of their terms, are taken out one by one."""
        double = [term for term in self.terms[target] if len(term.stages) == 2]
        for batch in self.first[target]:
            members = [(m, double[member]) for m, member in enumerate(batch.members)]
            entering, pairs, sums = {}, [], []
            for m, term in members:
                if id(term) in gradients:
                    entering[m] = self._through_second(term, gradients.pop(id(term)), batch.folded, m)
                    pairs.append(products(entering[m], term.features[0].x))
                    sums.append(entering[m].sum(1).sum(0, dtype=torch.float64))
                else:
                    pairs.append(torch.zeros_like(batch.folded.weight[m]))
                    sums.append(torch.zeros_like(batch.folded.centre[m]))
            pull = batch.folded.pull(torch.stack(pairs), torch.stack(sums), batch.weights)
            for m, term in members:
                if m in entering:
                    self._learn(term.stages[0], pull.weight[m], pull.gain[m], pull.shift[m])
                    self._to_source(term, back(entering.pop(m), term.features.pop().x, pull, m))

    def _through_second(self, term: Term, gradient_BPC: Tensor, folded: Folded, m: int) -> Tensor:
        """From the second depthwise output to the first stage's linear map, before its ReLU; rows ``[B, P, C]``."""
        stage, inner = term.stages[1], self._inner(term, folded, m)
        gradient = image(gradient_BPC, *self.sides)
        if self.trained:
            self._add(stage.kernel, kernels.depthwise_weight_gradient(gradient, inner, stage.kernel, 1, stage.dilation))
        gradient = kernels.depthwise_input_gradient(gradient, inner, stage.kernel, 1, stage.dilation)
        return rows(torch.ops.aten.threshold_backward(gradient, inner, 0))

    def _to_source(self, term: Term, gradient_BPC: Tensor) -> None:
        """From a first feature map to the node that it was made of."""
        stage, gradients, node = term.stages[0], known(self.collected[term.source]), self._node(term.source)
        if stage.depthwise is None:
            if stage.pointwise:
                gradients.add_halves(gradient_BPC, *self.sides)
            else:
                gradients.add_pool((term.name, stage.stride), gradient_BPC)
            return
        gradient, x = image(gradient_BPC, *self.sides), node.rectified()
        how = (stage.stride, stage.dilation)
        if self.trained:
            self._add(stage.depthwise, kernels.depthwise_weight_gradient(gradient, x, stage.depthwise, *how))
        if self.needed[term.source]:
            gradients.add_rectified(kernels.depthwise_input_gradient(gradient, x, stage.depthwise, *how))

    def _preprocessing(self, inputs: list[int], narrowed: Narrowed, wanted: bool) -> Tensor | None:
        """The gradient at an input state, through its preprocessing."""
        totals = [known(self.collected[position]).total() for position in inputs]
        for position in inputs:
            self.nodes[position] = self.collected[position] = None
        if all(total is None for total in totals):
            return None
        gradients = [None if total is None else rows(total) for total in totals]
        x, _ = self._entering(inputs)
        weights, gains, shifts, gradient = narrowed.back(gradients, x, wanted, bool(self.trained))
        for position, *learned in zip(inputs, weights, gains, shifts):
            if totals[inputs.index(position)] is not None:
                self._learn(self.inputs[position], *learned)
        self.states[inputs[0]].forget()
        if gradient is None:
            return None
        sides = next(total for total in totals if total is not None).shape[2:]
        if self.inputs[inputs[0]].stride == 1:
            return image(gradient, *sides)
        state = Gradients(self.states[inputs[0]])
        state.add_halves(gradient, *sides)
        return state.total()

    def _learn(self, stage: Stage, matrix: Tensor, gain: Tensor, shift: Tensor) -> None:
        """Keep the gradients of a linear map and its normalisation."""
        if not self.trained:
            return
        row = column = 0
        for weight in stage.pointwise:
            height, width = weight.shape[:2]
            self._add(weight, matrix[row : row + height, column : column + width].reshape(weight.shape))
            row, column = row + height, column + width
        for parameter, own in ((stage.norm.weight, gain), (stage.norm.bias, shift)):
            if parameter is not None:
                self._add(parameter, own)

    def _add(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        self.gradients[parameter] = gradient.to(parameter.dtype)


def _outer(g_BPC: Tensor, feature: Feature) -> Tensor:
    """G = Σ g dᵀ, ``[C_out, C_in]``; with the same g at every pixel the sums of d are enough."""
    if g_BPC.shape[1] == 1 and feature.x.shape[1] > 1:
        return g_BPC.squeeze(1).double().t() @ feature.sums.double()
    return products(g_BPC, feature.x)


class EvaluateCell(torch.autograd.Function):
    """:class:`Evaluation` as a function of the gates ``[E, K]``, the states and the weights; differentiable once."""

    @staticmethod
    def forward(ctx: Any, evaluation: Evaluation, nodes: list[Node], z_EK: Tensor, *tensors: Tensor) -> Tensor:
        ctx.evaluation, ctx.states = evaluation, len(nodes)
        return evaluation.forward(nodes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        evaluation, ctx.evaluation = ctx.evaluation, None
        if evaluation is None:
            raise RuntimeError("the cell's backward pass was asked for twice; what it needs is freed after the first")
        wanted = list(ctx.needs_input_grad[3 : 3 + ctx.states])
        states, costs = evaluation.backward(gradient, wanted)
        weights = [evaluation.gradients.get(parameter) for parameter in evaluation.trained]
        return None, None, costs if ctx.needs_input_grad[2] else None, *states, *weights
