"""How cost is assigned to edges: Theorem 1, Corollaries 1.1 and 1.2, Theorem 2 (Section 5.2, Appendices D and E).

Notation: X_j is the sum at node j, X_j^i what edge (i, j) adds to it, C = ∂L/∂Z the cost, and ⟨∂L/∂X_j|path, ·⟩ a cost
that flows through one path out of node j: through an operation on an edge (j, k), or through the output edge (j, out).

**Where the paper's wording is too strong.** Theorem 1 says that "a path does not distribute cost from its output edge
after passing one intermediate edge", and concludes that the cost of *an edge* (i, j) comes from (j, out) alone. What
vanishes is ⟨∂L/∂X_j|path, X_j⟩: the *sum* over all edges that enter j of what they get through the path. The proof puts
X_2^0 in the place of the convolution's input, which is X_2 = X_2^0 + X_2^1; they are the same only if *none* was drawn
on the other edge. One edge's share, ⟨∂L/∂X_j|path, X_j^i⟩, is in general as large as any cost
(:func:`nas_core.theory.sharing.shares`)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from nas_core.cost import loss_and_entropy, per_cell, probe
from nas_core.theory import normalization as norms
from nas_core.theory.evaluation import CellTrace, Stage, Trace
from nas_core.theory.output import bias_term, head_bound
from nas_core.theory.residual import UNIT, Residual, compare, from_single, inner, size, worst


def intermediate_paths(seen: Trace) -> list[tuple[int, int, int, Stage | None, Tensor, CellTrace]]:
    """``(cell, edge, operation, first normalisation, ∂L/∂x_source through it, the cell)`` of every evaluated operation
    on an intermediate edge."""
    cell = seen.network.config.cell
    return [
        (position, edge, operation, own.paths[edge, operation], gradient, own)
        for position, own in enumerate(seen.cells)
        for (edge, operation), gradient in own.passed.items()
        if cell.edge_class(edge) == "intermediate"
    ]


def source_of(seen: Trace, edge: int) -> int:
    """The node that an edge leaves."""
    return seen.network.config.cell.edges[edge].source


def node_size(seen: Trace, position: int, node: int) -> Tensor:
    """Σ|Z·O(x)| over all that enters a node: the scale of its sum; |x| of an input node."""
    cell, own = seen.network.config.cell, seen.cells[position]
    if node < cell.inputs:
        return own.nodes[node].abs()
    entering = cell.incoming(node)
    terms = [
        float(seen.z[position, edge, operation]) * output.abs()
        for (edge, operation), output in own.outputs.items()
        if edge in entering
    ]
    return cast(Tensor, sum(terms)) if terms else own.nodes[node].abs()


def cost_residual(seen: Trace) -> Residual:
    """Eqs 4 and 5: ∂L/∂Z[e, k] = ⟨∂L/∂x_j, O_k(x_i)⟩, the sum over w, h, c, b, on every evaluated operation."""
    found = []
    for position, own in enumerate(seen.cells):
        for (edge, operation), output in own.outputs.items():
            gradient = own.gradients[seen.network.config.cell.edges[edge].target]
            right, left = inner(gradient, output), float(seen.cost[position, edge, operation])
            found.append(compare(left, right, scale=size(gradient, output), roundings=2 * output.numel()))
    return worst(found)


def paths_residual(seen: Trace) -> Residual:
    """Eqs 6 and 7: the cost of an operation on an edge into j is what it gets through j's output edge plus what it gets
    through every path out of j. With no path out of j, Eq 7: the output edge alone."""
    cell, found = seen.network.config.cell, []
    for position, own in enumerate(seen.cells):
        for (edge, operation), output in own.outputs.items():
            node = cell.edges[edge].target
            parts = [own.passed[place] for place in own.passed if place[0] in cell.outgoing(node)]
            parts += [own.leaving[node]] if node in own.leaving else []
            if not parts:
                continue
            right = sum(inner(part, output) for part in parts)
            found.append(
                compare(
                    float(seen.cost[position, edge, operation]),
                    right,
                    scale=sum(size(part, output) for part in parts),
                    roundings=2 * output.numel() + 2 * len(parts),
                )
            )
    return worst(found)


def node_residual(seen: Trace) -> Residual:
    """Theorem 1: through a normalised operation on an edge (j, k), the edges into j together get no cost,
    ⟨∂L/∂X_j|path, X_j⟩ = 0, up to the ε of the normalisation.

    Bound: |Σ_g ε/(σ_g²+ε) ⟨∂L/∂y, y−β⟩_g| (:mod:`nas_core.theory.normalization`) plus rounding."""
    found = []
    for _, edge, _, stage, gradient, own in intermediate_paths(seen):
        if stage is not None:
            x = own.nodes[source_of(seen, edge)]
            bound = abs(norms.epsilon_share(stage)) + norms.rounding(stage)
            found.append(Residual(abs(inner(gradient, x)), bound, size(gradient, x)))
    return worst(found)


def epsilon_residual(seen: Trace) -> Residual:
    """Theorem 1 without "up to": what passes *is* the ε term, on every operation of every edge and on the
    preprocessing of every cell; only rounding is allowed for."""
    stages = [stage for own in seen.cells for stage in (*own.inputs, *own.paths.values()) if stage is not None]
    return worst(norms.stage_residual(stage) for stage in stages)


def skip_residual(seen: Trace) -> Residual:
    """Eq 20: a skip on an intermediate edge (j, k) passes exactly its own cost on to the edges into j."""
    found = []
    for position, edge, operation, stage, gradient, own in intermediate_paths(seen):
        if stage is None:
            x, z = own.nodes[source_of(seen, edge)], float(seen.z[position, edge, operation])
            own_cost = z * float(seen.cost[position, edge, operation])
            scale = z * size(own.gradients[seen.network.config.cell.edges[edge].target], x)
            found.append(compare(inner(gradient, x), own_cost, scale=scale, roundings=2 * x.numel() + 2))
    return worst(found)


@dataclass(frozen=True)
class Balance:
    """Where the cost of one cell's edges comes from:

    ``total`` = Σ Z·C over its edges = ``output`` + ``skip`` + ``epsilon``, with ``output`` = ⟨∂L/∂X_out, X_out⟩, the
    cost at the output node; ``skip`` what bare skips on its intermediate edges pass back to edges before them;
    ``epsilon`` what its other intermediate edges do. And ``output`` = ``loss_minus_entropy`` − ``bias`` + ``later``:
    L − H and ⟨∂L/∂b, b⟩ in the last cell (else 0), and what the preprocessing of later cells lets through by its ε.
    ``within`` and ``beyond`` are the rounding bounds of the two sums, ``scale`` the size of what cancels."""

    total: float
    output: float
    skip: float
    epsilon: float
    loss_minus_entropy: float
    bias: float
    later: float
    within: float
    beyond: float
    scale: float


def balance(seen: Trace) -> list[Balance]:
    """The two sums of :class:`Balance`, cell by cell; exact up to rounding for every network with normalised paths."""
    found = []
    for position, own in enumerate(seen.cells):
        total = float((seen.z[position] * seen.cost[position]).sum())
        output = sum(inner(gradient, own.nodes[node]) for node, gradient in own.leaving.items())
        skip = epsilon = within = 0.0
        for cell, edge, _, stage, gradient, _ in intermediate_paths(seen):
            if cell != position:
                continue
            if stage is None:
                skip += inner(gradient, own.nodes[source_of(seen, edge)])
            else:
                epsilon += norms.epsilon_share(stage)
                within += norms.rounding(stage)
        scale, steps = _node_scale(seen, position)
        excess, bias, later, beyond = _beyond(seen, position)
        rounding = steps * UNIT * scale
        within, beyond = within + rounding, beyond + rounding
        found.append(Balance(total, output, skip, epsilon, excess, bias, later, within, beyond, scale))
    return found


def _node_scale(seen: Trace, position: int) -> tuple[float, int]:
    """Σ_j Σ_path ⟨|∂L/∂X_j|path|, Σ|Z·O|⟩ of a cell, and the roundings of a sum over its nodes."""
    own, scale, largest = seen.cells[position], 0.0, 0
    for node in seen.network.config.cell.intermediate:
        x = node_size(seen, position, node)
        largest = max(largest, x.numel())
        paths = [own.passed[place] for place in own.passed if source_of(seen, place[0]) == node]
        for gradient in paths + ([own.leaving[node]] if node in own.leaving else []):
            scale += size(gradient, x)
    return scale, 2 * largest + 4 * len(own.outputs) + 8


def _beyond(seen: Trace, position: int) -> tuple[float, float, float, float]:
    """``loss_minus_entropy``, ``bias``, ``later`` and the rounding bound of their sum."""
    if position == len(seen.cells) - 1:
        loss, entropy = loss_and_entropy(seen.logits, seen.labels)
        bias = bias_term(seen.network, seen.logits, seen.labels)
        return float((loss - entropy).mean()), bias, 0.0, head_bound(seen)
    inputs = seen.network.config.cell.inputs
    later = [
        seen.cells[cell].inputs[inputs - (cell - position)]
        for cell in range(position + 1, min(position + inputs, len(seen.cells) - 1) + 1)
    ]
    return 0.0, 0.0, sum(map(norms.epsilon_share, later)), sum(map(norms.rounding, later))


def balance_residual(seen: Trace) -> Residual:
    """Both sums of :class:`Balance` in every cell, ε, skips and bias included: only rounding is allowed for."""
    found = []
    for own in balance(seen):
        inside = own.total - (own.output + own.skip + own.epsilon)
        outside = own.output - (own.loss_minus_entropy - own.bias + own.later)
        found += [Residual(abs(inside), own.within, own.scale), Residual(abs(outside), own.beyond, own.scale)]
    return worst(found)


def cell_residual(seen: Trace) -> Residual:
    """Corollary 1.1: the cost at the output node, ⟨∂L/∂X_out, X_out⟩, is the sum of the costs of the cell's edges, less
    what bare skips on intermediate edges pass back (their cost is counted twice), up to ε."""
    return worst(
        Residual(abs(own.total - own.skip - own.output), abs(own.epsilon) + own.within, own.scale)
        for own in balance(seen)
    )


def inner_cell_residual(seen: Trace) -> Residual:
    """Corollary 1.2: in every cell but the last the costs sum to 0, skips on intermediate edges apart, up to ε.

    Skips in *later* cells do not matter: the preprocessing in front of them is normalised. A network of one cell has
    no such cell, and the residual no case."""
    return worst(
        Residual(abs(own.total - own.skip), abs(own.epsilon + own.later) + own.within + own.beyond, own.scale)
        for own in balance(seen)[:-1]
    )


def last_cell_residual(seen: Trace) -> Residual:
    """Theorem 2 (Eq 8): in the last cell the costs sum to L − H, less ⟨∂L/∂b, b⟩ of a biased head, skips on
    intermediate edges apart, up to ε."""
    own = balance(seen)[-1]
    gap = own.total - own.skip - (own.loss_minus_entropy - own.bias)
    return Residual(abs(gap), abs(own.epsilon) + own.within + own.beyond, own.scale)


def probe_residual(seen: Trace) -> Residual:
    """Eq 4 as the library computes it: :func:`nas_core.cost.probe` against this module-by-module evaluation.

    The chain runs through the whole network, so the bound is measured: what the same comparison differs by in float32,
    scaled to float64 (:func:`nas_core.theory.residual.from_single`). To it comes the running bound of the last link,
    ⟨∂L/∂x_j, O⟩, which counts where an operation normalises a map without variance: that is noise divided by √ε, and
    may happen to be 0 in one precision alone."""
    active = per_cell(seen.network, seen.sample.active)
    if not bool(active.any()):
        return worst([])
    own = probe(seen.network, seen.images, seen.labels, seen.sample).cost
    single = probe(copy.deepcopy(seen.network).float(), seen.images.float(), seen.labels, seen.sample).cost.double()
    bound = from_single(float((single - seen.cost)[active].abs().max())) + _last_link(seen)
    largest = float(seen.cost.abs().max())
    return Residual(float((own - seen.cost)[active].abs().max()), bound, largest, cases=int(active.sum()))


def _last_link(seen: Trace) -> float:
    """The largest n·u·⟨|∂L/∂x_j|, |O|⟩ + ⟨|∂L/∂x_j|, error of O⟩ of an operation with one normalisation."""
    largest = 0.0
    for own in seen.cells:
        for (edge, operation), output in own.outputs.items():
            gradient = own.gradients[seen.network.config.cell.edges[edge].target]
            stage, unit = own.paths[edge, operation], 2 * output.numel() * UNIT
            error = unit * size(gradient, output)
            if norms.normalizes(stage) and stage.y.shape == gradient.shape:
                unit = UNIT * norms.roundings(stage.module, stage.norm, stage.x, stage.a)
                gamma = norms.statistics(stage.norm, stage.a).gamma
                error += size(gradient, gamma * norms.hat_error(stage.norm, stage.a, unit)[0])
            largest = max(largest, error)
    return largest
