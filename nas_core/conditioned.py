"""The cost of every operation from one pass over a batch: what all architectures share is computed once (Rao–Blackwell).

Hold θ and a batch fixed in a cell of two intermediate nodes. Write x₁ for its first node, *first* for the edges that enter it,
*direct* for those from an input to the second node, and *between* for the edge that joins the two. The output of a candidate k
of a first or direct edge e is O_{e,k}, the same in every architecture, and the head sees averages over pixels only. With W₁ and
W₂, the head's parts that see the two nodes, the logits are a sum,

    ℓ = Σ_first p_{e,k} + Σ_direct p_{e,k} + q_k(x₁),    p_{e,k} = W ⟨O_{e,k}⟩,    q_k(x₁) = W₂ ⟨O_{between,k}(x₁)⟩,

and so are the costs, with g = ∂L/∂ℓ:

    direct e:   C = ⟨g, p_{e,k}⟩              between:   C = ⟨g, q_k(x₁)⟩
    first e:    C = ⟨g, p_{e,k} + t_e⟩        t_e = W₂ ⟨J(x₁) O_{e,k}⟩

where J is the derivative of the operation on the edge between. The last term is the part that passes through this edge: it is a
derivative *forward*, in the direction O_{e,k}, and depends on x₁ and that operation alone, not on g. So a few sampled x₁ with their q and t
serve every choice on the direct edges. Over the first edges t adds up to the derivative in the direction x₁ itself, which is 0 but for ε where a
normalised path follows, and ⟨x₁⟩ for *skip_connect* (Theorem 1): one direction fewer to compute.

Shapes: B images, C channels, H × W pixels, P pixels, L classes, K operations, F first edges, S sampled x₁."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core import kernels
from nas_core.features import Node, Stage, known, stages
from nas_core.linear import Feature, Folded, Narrowed, Normalized, image, products, rows
from nas_core.operations import Norm
from nas_core.space import NONE, OPERATIONS, SKIP
from nas_core.supernet import NetworkConfig, Supernet


@dataclass(frozen=True)
class Wiring:
    """The edges of a cell of two intermediate nodes, by what they join."""

    first: tuple[int, ...]
    direct: tuple[int, ...]
    between: int


def wiring(config: NetworkConfig) -> Wiring:
    """The roles of the edges. Raises ``ValueError`` for a network whose costs cannot be had this way."""
    cell, norm = config.cell, config.normalization
    if config.cells != 1 or config.reduction or cell.nodes != 2:
        raise ValueError(
            f"conditioning needs one cell of two intermediate nodes, not {config.cells} of {cell.nodes}; "
            f"take the sampled estimator there"
        )
    if norm.kind != "batch" or norm.affine or config.order != "relu-conv-norm":
        raise ValueError(
            f"conditioning needs batch normalisation without affine parameters in the order relu-conv-norm, not {norm.kind} "
            f"(affine {norm.affine}) in the order {config.order}; take the sampled estimator there"
        )
    one, two = cell.intermediate
    between = [e for e in cell.incoming(two) if cell.edges[e].source == one]
    if len(between) != 1:
        raise ValueError(f"the {cell.name} cell has no edge from node {one} to node {two}; conditioning needs one")
    return Wiring(cell.incoming(one), tuple(e for e in cell.incoming(two) if e != between[0]), between[0])


@dataclass
class Path:
    """One candidate at one node: its feature maps and the normalised linear maps that follow them; *skip_connect* has none."""

    node: Node
    name: str
    stages: tuple[Stage, ...]
    features: list[Feature] = field(default_factory=list)
    maps: list[tuple[Folded, int]] = field(default_factory=list)
    inner: Tensor | None = None

    @property
    def sides(self) -> tuple[int, int]:
        height, width = self.node.x.shape[2:]
        return height, width

    def pooled(self) -> Tensor:
        """The output averaged over pixels, ``[B, C]`` in float64."""
        if not self.stages:
            return self.node.x.mean((2, 3)).double()
        (folded, m), feature = self.maps[-1], self.features[-1]
        return _average(feature) @ folded.matrix[m].t() + folded.offset[m]

    def output(self) -> Tensor:
        """The output, ``[B, C, H, W]``."""
        return _apply(self.features[-1].x, *self.maps[-1], self.sides) if self.stages else self.node.x

    def along_itself(self) -> Tensor:
        """The pooled derivative in the direction of the input, ``[B, C]`` in float64; for normalised paths all that is left is ε."""
        pooled = self.pooled()
        if not self.stages:
            return pooled
        eps = self.stages[0].norm.normalization.eps
        folded, m = self.maps[0]
        rate = eps * folded.inverse[m] ** 2
        if len(self.stages) == 1:
            return pooled * rate
        # The second feature map is linear, channel by channel, in what leaves the first normalisation.
        folded, m = self.maps[1]
        moved = (_average(self.features[1]) - folded.mean[m]) * rate
        relative = folded.inverse[m] ** 2 * (folded.spread[m] * rate * folded.weight[m]).sum(-1)
        return moved @ folded.matrix[m].t() - relative * pooled

    def along(self, direction_BCHW: Tensor) -> Tensor:
        """The pooled derivative in a direction of the input, ``[B, C]`` in float64."""
        if not self.stages:
            return direction_BCHW.mean((2, 3)).double()
        moved = self._moved(direction_BCHW)
        if len(self.stages) == 2:
            moved = self._through_first(moved)
        folded, m = self.maps[-1]
        mean, relative = _shift(self.features[-1].x, moved, folded, m)
        return (moved.mean(1).double() - mean) @ folded.matrix[m].t() - relative * self.pooled()

    def _moved(self, direction_BCHW: Tensor) -> Tensor:
        """The derivative of the first feature map, ``[B, P, C]``."""
        stage, x = self.stages[0], self.node.x
        if self.name == "avg_pool_3x3":
            return rows(kernels.avg_pool(direction_BCHW))
        if self.name == "max_pool_3x3":
            return rows(_max_pool_along(x, direction_BCHW))
        rectified = torch.ops.aten.threshold_backward(direction_BCHW, x, 0)
        return rows(kernels.depthwise(rectified, stage.kernel, stage.stride, stage.dilation))

    def _through_first(self, moved_BPC: Tensor) -> Tensor:
        """From the derivative of the first feature map to that of the second."""
        (folded, m), x, stage = self.maps[0], self.features[0].x, self.stages[1]
        mean, relative = _shift(x, moved_BPC, folded, m)
        matrix = folded.matrix[m]
        constant = -(matrix @ mean) - relative * folded.offset[m]
        flat = torch.addmm(constant.to(x), moved_BPC.flatten(0, 1), matrix.t().to(x))
        flat.addmm_(x.flatten(0, 1), -(relative.unsqueeze(1) * matrix).t().to(x))
        moved = image(flat.view(*x.shape[:2], -1), *self.sides)
        moved = torch.ops.aten.threshold_backward(moved, self.inner, 0)
        return rows(kernels.depthwise(moved, stage.kernel, stage.stride, stage.dilation))


def _average(feature: Feature) -> Tensor:
    """Over pixels, ``[B, C]`` in float64."""
    return feature.sums.double() / feature.x.shape[1]


def _apply(x_BPC: Tensor, folded: Folded, m: int, sides: tuple[int, int]) -> Tensor:
    """A normalised linear map at every pixel, as an image."""
    flat = torch.addmm(folded.offset[m].to(x_BPC), x_BPC.flatten(0, 1), folded.matrix[m].t().to(x_BPC))
    return image(flat.view(*x_BPC.shape[:2], -1), *sides)


def _shift(x_BPC: Tensor, moved_BPC: Tensor, folded: Folded, m: int) -> tuple[Tensor, Tensor]:
    """How a normalisation moves: the mean's derivative ``[C_in]`` and the standard deviation's, relative to itself, ``[C_out]``."""
    mean = moved_BPC.sum(1).sum(0, dtype=torch.float64) / folded.count
    covariance = products(moved_BPC, x_BPC) / folded.count - torch.outer(mean, folded.mean[m])
    weight = folded.weight[m]
    return mean, folded.inverse[m] ** 2 * ((weight @ covariance) * weight).sum(-1)


def _max_pool_along(x: Tensor, direction: Tensor) -> Tensor:
    """The derivative of the 3×3 maximum: along rows, then columns, each entry takes the direction of the largest."""
    for dim in (3, 2):
        largest, taken, size = x.clone(), direction.clone(), x.shape[dim]
        for own, other in ((1, 0), (0, 1)):
            view, candidate = largest.narrow(dim, own, size - 1), x.narrow(dim, other, size - 1)
            wins = candidate > view
            taken.narrow(dim, own, size - 1).copy_(
                torch.where(wins, direction.narrow(dim, other, size - 1), taken.narrow(dim, own, size - 1))
            )
            torch.maximum(view, candidate, out=view)
        x, direction = largest, taken
    return direction


def evaluate(paths: Sequence[Path]) -> None:
    """Fill in the feature maps and linear maps of paths; those of equal shape share their small matrix products."""
    staged = [path for path in paths if path.stages]
    for path in staged:
        stage = path.stages[0]
        if stage.depthwise is None:
            path.features.append(path.node.feature(path.name, stage.stride))
        else:
            x = kernels.depthwise(path.node.rectified(), stage.depthwise, stage.stride, stage.dilation)
            path.features.append(Feature(rows(x)))
    _fold(staged, 0)
    double = [path for path in staged if len(path.stages) == 2]
    for path in double:
        stage = path.stages[1]
        path.inner = _apply(path.features[0].x, *path.maps[0], path.sides).relu_()
        path.features.append(Feature(rows(kernels.depthwise(path.inner, stage.kernel, stage.stride, stage.dilation))))
    _fold(double, 1)


def _fold(paths: Sequence[Path], position: int) -> None:
    if not paths:
        return
    features = [path.features[position] for path in paths]
    like = features[0].x
    matrices = [path.stages[position].matrix(like) for path in paths]
    folded = Folded(features, matrices, None, None, paths[0].stages[0].norm.normalization.eps)
    for m, path in enumerate(paths):
        path.maps.append((folded, m))


@dataclass(frozen=True)
class Design:
    """Which architectures a batch is averaged over.

    ``first`` lists the sampled x₁, one operation for each first edge. ``between`` lists for each of them the operations that are
    evaluated on the edge between. ``direct`` lists for each of them choices on the direct edges. What of a table is not
    covered is NaN."""

    first: tuple[tuple[int, ...], ...]
    between: tuple[tuple[int, ...], ...]
    direct: tuple[tuple[tuple[int, ...], ...], ...]


def every_architecture(config: NetworkConfig) -> Design:
    """The design that leaves nothing to chance: the exact table of a batch."""
    own, cell = wiring(config), config.cell
    first, direct = (
        tuple(itertools.product(*(cell.edges[e].indices for e in edges))) for edges in (own.first, own.direct)
    )
    return Design(first, (cell.edges[own.between].indices,) * len(first), (direct,) * len(first))


class SharedBatch:
    """One batch at fixed θ, and what all architectures share on it.

    ``logits[e]`` ``[K, B, L]`` is p_{e,k} for first and direct edges, 0 for *none*. Only the maps that a sampled x₁ asks
    for are ever written."""

    @torch.no_grad()
    def __init__(self, network: Supernet, images_BCHW: Tensor, labels_B: Tensor):
        self.network, self.labels = network, labels_B
        self.wiring, self.cell = wiring(network.config), network.config.cell
        nodes = self._inputs(images_BCHW)
        edges = (*self.wiring.first, *self.wiring.direct)
        self.paths = {
            (e, k): self._path(nodes[self.cell.edges[e].source], e, k)
            for e in edges
            for k in self.cell.edges[e].indices
            if k != NONE
        }
        evaluate(list(self.paths.values()))
        self.logits = {e: self._logits(e) for e in edges}
        self.outputs: dict[tuple[int, int], Tensor] = {}
        self.target = F.one_hot(labels_B, network.head.out_features).to(images_BCHW)

    def _inputs(self, images_BCHW: Tensor) -> list[Node]:
        """The cell's input nodes."""
        convolution, norm = self.network.stem[0], cast(Norm, self.network.stem[1])
        x = rows(convolution(images_BCHW).contiguous(memory_format=kernels.LAST))
        normalized = Normalized(x, known(norm.weight), known(norm.bias), norm.normalization.eps)
        narrow = [stages(module)[0] for module in self.network.stack[0].preprocess]
        matrices = [stage.matrix(x) for stage in narrow]
        narrowed = Narrowed(x, matrices, None, None, narrow[0].norm.normalization.eps, normalized)
        return [Node(image(output, *images_BCHW.shape[2:])) for output in narrowed.outputs]

    def _path(self, node: Node, edge: int, operation: int) -> Path:
        name = OPERATIONS[operation]
        return Path(node, name, stages(self.network.stack[0].candidates[edge][name], name))

    def _part(self, node: int) -> Tensor:
        """The head's weights that see a node, ``[L, C]`` in float64; zeros if it is no output."""
        weight, channels = self.network.head.weight.detach().double(), self.network.config.channels
        if node not in self.cell.outputs:
            return torch.zeros_like(weight[:, :channels])
        position = self.cell.outputs.index(node)
        return weight[:, position * channels : (position + 1) * channels]

    def _logits(self, edge: int) -> Tensor:
        part = self._part(self.cell.edges[edge].target)
        table = self.network.head.weight.new_zeros(len(OPERATIONS), len(self.labels), len(part))
        for k in self.cell.edges[edge].indices:
            if k != NONE:
                table[k] = self.paths[edge, k].pooled() @ part.t()
        return table

    def _output(self, edge: int, operation: int) -> Tensor:
        if (edge, operation) not in self.outputs:
            self.outputs[edge, operation] = self.paths[edge, operation].output()
        return self.outputs[edge, operation]

    @torch.no_grad()
    def between(self, choice: Sequence[int], operations: Sequence[int]) -> tuple[Tensor, Tensor]:
        """q ``[K', B, L]`` and t ``[F, K', B, L]`` of operations on the edge between, where the first edges have ``choice``."""
        own, part = self.wiring, self._part(self.cell.intermediate[1])
        entering = [(f, self._output(e, k)) for f, (e, k) in enumerate(zip(own.first, choice)) if k != NONE]
        like = self.target
        q = like.new_zeros(len(operations), len(self.labels), len(part))
        t = like.new_zeros(len(own.first), *q.shape)
        if not entering:
            return q, t
        node = Node(entering[0][1] if len(entering) == 1 else cast(Tensor, sum(output for _, output in entering)))
        paths = {position: self._path(node, own.between, k) for position, k in enumerate(operations) if k != NONE}
        evaluate(list(paths.values()))
        for position, path in paths.items():
            q[position] = path.pooled() @ part.t()
            rest = path.along_itself() @ part.t()
            for f, output in entering[1:]:
                moved = path.along(output) @ part.t()
                t[f, position] = moved
                rest = rest - moved
            t[entering[0][0], position] = rest
        return q, t

    def gradient(self, logits: Tensor) -> Tensor:
        """∂L/∂ℓ for logits ``[..., B, L]``."""
        if self.network.head.bias is not None:
            logits = logits + self.network.head.bias.detach()
        return (logits.softmax(-1) - self.target) / len(self.labels)

    def blocks(self, design: Design) -> Iterator[Block]:
        """What each sampled x₁ of a design gives."""
        own = self.wiring
        for choice, operations, direct in zip(design.first, design.between, design.direct):
            q, t = self.between(choice, operations)
            base = sum(self.logits[e][k] for e, k in zip(own.first, choice))
            chosen = torch.tensor(direct).view(len(direct), len(own.direct))
            rest = sum(self.logits[e][chosen[:, d]] for d, e in enumerate(own.direct))
            yield Block(choice, operations, chosen, q, t, self.gradient(base + q.unsqueeze(1) + rest))


@dataclass(frozen=True)
class Block:
    """One sampled x₁: its ``choice`` on the first edges, ``operations`` K' on the edge between, choices ``direct`` ``[D, edges]``,
    q ``[K', B, L]``, t ``[F, K', B, L]``, and g ``[K', D, B, L]`` of every architecture."""

    choice: tuple[int, ...]
    operations: tuple[int, ...]
    direct: Tensor
    q: Tensor
    t: Tensor
    g: Tensor


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """⟨left, right⟩ over classes and then, in float64, over images."""
    return (left * right).sum(-1).sum(-1, dtype=torch.float64)


def weights(operations: Sequence[int], candidates: Sequence[int]) -> Tensor:
    """The share of each evaluated operation in the average over the edge between, ``[K']`` in float64.

    *none* and *skip_connect* cost nothing, so they are always evaluated and stand for themselves; the others stand for all
    others."""
    free = [k for k in candidates if k in (NONE, SKIP)]
    costly = len(candidates) - len(free)
    taken = sum(k not in (NONE, SKIP) for k in operations)
    return torch.tensor([1.0 if k in free else costly / taken for k in operations]).double() / len(candidates)


def table(batch: SharedBatch, design: Design) -> Tensor:
    """The mean cost ``[E, K]`` over the architectures of a design, in float64: of entry (e, k) over those with Z_e = k.

    0 for *none*, NaN where k is no candidate of e or nothing was evaluated."""
    own, cell = batch.wiring, batch.cell
    total = torch.zeros(len(cell.edges), len(OPERATIONS), dtype=torch.float64)
    seen = torch.zeros_like(total)
    spread: dict[int, list[Tensor | float]] = {e: [0.0] * len(OPERATIONS) for e in own.direct}
    for block in batch.blocks(design):
        share = weights(block.operations, cell.edges[own.between].indices).to(block.q)
        mean = block.g.mean(1)
        between = _dot(mean, block.q)
        for position, k in enumerate(block.operations):
            total[own.between, k] += float(between[position])
            seen[own.between, k] += 1
        for f, (e, k) in enumerate(zip(own.first, block.choice)):
            if k != NONE:
                total[e, k] += float(_dot(mean, batch.logits[e][k] + block.t[f]) @ share.double())
            seen[e, k] += 1
        overall = torch.einsum("k,kdbl->dbl", share, block.g)
        for d, e in enumerate(own.direct):
            for row, k in zip(overall, block.direct[:, d].tolist()):
                spread[e][k] = spread[e][k] + row
                seen[e, k] += 1
    for e in own.direct:
        for k in cell.edges[e].indices:
            if seen[e, k]:
                total[e, k] = _dot(cast(Tensor, spread[e][k]), batch.logits[e][k])
    return torch.where(seen > 0, total / seen.clamp(min=1), torch.nan)


def layout(batch: SharedBatch) -> Tensor:
    """The cost of every edge in every architecture, ``[E, K_0, …, K_{E−1}]`` in float64, the axes in the order of the edges.

    Entry [e, k_0, …] is C[e, k_e] of the architecture (k_0, …); each axis has as many places as its edge has candidates."""
    own, cell = batch.wiring, batch.cell
    sizes = [len(edge.indices) for edge in cell.edges]
    order = (*own.first, own.between, *own.direct)
    costs = torch.zeros(len(cell.edges), *(sizes[e] for e in order), dtype=torch.float64)
    rest = tuple(sizes[e] for e in order[len(own.first) :])
    for block in batch.blocks(every_architecture(batch.network.config)):
        place = tuple(cell.edges[e].indices.index(k) for e, k in zip(own.first, block.choice))
        for f, (e, k) in enumerate(zip(own.first, block.choice)):
            # The cost of *none* is 0: nothing is there to be scaled.
            part = batch.logits[e][k] + block.t[f].unsqueeze(1)
            costs[(e, *place)] = _dot(block.g, part).view(rest) if k != NONE else 0.0
        costs[(own.between, *place)] = _dot(block.g, block.q.unsqueeze(1)).view(rest)
        for d, e in enumerate(own.direct):
            costs[(e, *place)] = _dot(block.g, batch.logits[e][block.direct[:, d]]).view(rest)
    back = [1 + order.index(e) for e in range(len(cell.edges))]
    return costs.permute(0, *back)
