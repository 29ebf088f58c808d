"""Small cells of which every architecture is evaluated: what an operation is charged against what it is worth, and what
the expected gradients of Section 4 are the gradients of.

Letters in shapes: A architectures of a cell, B images, n classes, E edges, K operations. All networks have one cell and
are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.cost import Measurement, enumerate_samples, probe
from nas_core.data import DataConfig, prepare
from nas_core.operations import Normalization
from nas_core.pages.kept import kept
from nas_core.relaxation import Dsnas, Relaxation, Sample, Uniform, masked, probability
from nas_core.space import NONE, OPERATIONS, Cell, simplified
from nas_core.supernet import NetworkConfig, Supernet

CANDIDATES = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")
"""One of every kind: 64 architectures of the simplified cell are enumerated in well under a second."""


@dataclass(frozen=True)
class Small:
    """A network of one small cell, a batch of digits in float64, and log α ``[1, E, K]``."""

    network: Supernet
    images: Tensor
    labels: Tensor
    log_alpha: Tensor

    @property
    def cell(self) -> Cell:
        return self.network.config.cell

    def probe(self, sample: Sample) -> Measurement:
        """:func:`nas_core.cost.probe` on the batch."""
        return probe(self.network, self.images, self.labels, sample)


@kept
def small(seed: int, *, steps: int = 0, cell: Cell | None = None, epsilon: float = 1e-5) -> Small:
    """The simplified cell of Fig 8(a) with :data:`CANDIDATES` (or ``cell``) on 32 digits; with ``steps`` its θ is first
    trained that long on this batch by uniform sampling (SGD, learning rate 0.025, momentum 0.9)."""
    cell = simplified().only(CANDIDATES) if cell is None else cell
    split = prepare(DataConfig("digits", images=32, held_out=0.0), seed).train
    config = NetworkConfig(cell, channels=4, normalization=Normalization(eps=epsilon))
    network = Supernet(config, image_channels=1, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    log_alpha = masked(torch.randn(1, len(cell.edges), len(OPERATIONS), generator=generator).double(), cell)
    case = Small(network, split.images.double(), split.labels, log_alpha)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        sample = Uniform().sample(log_alpha, generator)
        probe(network, case.images, case.labels, sample, train=True)
        optimiser.step()
    return case


def with_epsilon(case: Small, epsilon: float) -> Small:
    """The same weights under another ε of the normalisation."""
    config = case.network.config
    network = Supernet(replace(config, normalization=replace(config.normalization, eps=epsilon)), image_channels=1)
    network = network.double()
    network.load_state_dict(case.network.state_dict())
    return replace(case, network=network)


@dataclass(frozen=True)
class Landscape:
    """All architectures of a cell on one batch: ``z`` ``[A, E, K]`` one-hot, ``loss`` ``[A]``, ``logits`` ``[A, B, n]``
    and ``cost`` ``[A, E, K]``, that of every candidate at this architecture."""

    z: Tensor
    loss: Tensor
    logits: Tensor
    cost: Tensor

    @property
    def chosen(self) -> Tensor:
        """``[A, E]``: the operation that an architecture has on an edge."""
        return self.z.argmax(-1)

    def probability(self, log_alpha: Tensor) -> Tensor:
        """p_α(Z) ``[A]``; differentiable."""
        return (self.z * probability(log_alpha)).sum(-1).prod(-1)


def landscape(case: Small) -> Landscape:
    """Evaluate every architecture of the case's cell once, with the cost of all its candidates."""
    samples = list(enumerate_samples(case.cell))
    measured = [case.probe(sample.counterfactual(case.log_alpha)) for sample in samples]
    return Landscape(
        torch.stack([sample.z[0] for sample in samples]),
        torch.stack([own.loss for own in measured]),
        torch.stack([own.logits for own in measured]),
        torch.stack([own.cost[0] for own in measured]),
    )


@dataclass(frozen=True)
class Prices:
    """Every drawn operation but *none* in every architecture, one entry each: its ``edge``, its ``cost`` C, the
    ``difference`` D = L − L without it, the ``divergence``, the mean over images of KL(p ‖ p without it) between the
    predicted distributions, and whether it acts on the logits ``directly``: nothing was drawn behind its node."""

    edge: np.ndarray
    cost: np.ndarray
    difference: np.ndarray
    divergence: np.ndarray
    directly: np.ndarray


def prices(case: Small, table: Landscape) -> Prices:
    """C, D and the divergence of every entry of ``table``; "without it" is the architecture with *none* in its place.

    Raises ``ValueError`` where an edge lacks *none*."""
    if not all(NONE in edge.indices for edge in case.cell.edges):
        raise ValueError("an edge lacks 'none', so no architecture is without its operation; add 'none' to every edge")
    where = {tuple(row): index for index, row in enumerate(table.chosen.tolist())}
    log_p = F.log_softmax(table.logits, -1)
    entries = []
    for row, index in where.items():
        for edge, operation in enumerate(row):
            if operation == NONE:
                continue
            without = where[row[:edge] + (NONE,) + row[edge + 1 :]]
            behind = case.cell.outgoing(case.cell.edges[edge].target)
            divergence = (log_p[index].exp() * (log_p[index] - log_p[without])).sum(-1).mean()
            entries.append((
                edge, table.cost[index, edge, operation], table.loss[index] - table.loss[without], divergence,
                all(row[other] == NONE for other in behind),
            ))  # fmt: skip
    edges, costs, differences, divergences, directly = zip(*entries, strict=True)
    numbers = [np.array([float(value) for value in column]) for column in (costs, differences, divergences)]
    return Prices(np.array(edges), numbers[0], numbers[1], numbers[2], np.array(directly))


@dataclass(frozen=True)
class Sweep:
    """The loss of one architecture while the gate of one edge's operation goes from 0 to 1: ``gate`` ``[T]``, ``loss``
    ``[T]``, and ∂L/∂gate at both ends."""

    gate: np.ndarray
    loss: np.ndarray
    slope_at_0: float
    slope_at_1: float


def _one_hot(case: Small, operations: Sequence[str]) -> Tensor:
    """Z ``[1, E, K]`` of an architecture given by the name of every edge's operation."""
    z = torch.zeros_like(case.log_alpha)
    for position, name in enumerate(operations):
        z[0, position, OPERATIONS.index(name)] = 1.0
    return z


def sweep(case: Small, operations: Sequence[str], edge: int, gate: Sequence[float]) -> Sweep:
    """Move the gate of ``operations[edge]`` while every other edge keeps its operation fully.

    The gate must go from 0 to 1; at 0 the slope is what ProxylessNAS charges an operation that did not run while *none*
    did."""
    z = _one_hot(case, operations)
    place = (0, edge, OPERATIONS.index(operations[edge]))
    active, losses, slopes = z > 0, [], []
    for value in gate:
        own = z.clone()
        own[place] = float(value)
        measured = case.probe(Sample(own, active))
        losses.append(float(measured.loss))
        slopes.append(float(measured.cost[place]))
    return Sweep(np.asarray(gate, dtype=float), np.array(losses), slopes[0], slopes[-1])


def asymmetry(table: Landscape, log_alpha: Tensor, relaxation: Relaxation | None) -> float:
    """How far the expected gradient, as a field over log α, is from the gradient of any function: the norm of the
    antisymmetric part of its Jacobian over that of the symmetric part, 0 for a gradient.

    ``relaxation`` is one that draws one-hot; ``None`` takes ∇E[L], which is one."""
    free = torch.isfinite(log_alpha)

    def field(entries: Tensor) -> Tensor:
        own = log_alpha.masked_scatter(free, entries)
        weight = table.probability(own)
        if relaxation is None:
            (gradient,) = torch.autograd.grad((weight * table.loss).sum(), entries, create_graph=True)
            return gradient
        wide = own.expand(len(weight), -1, -1)
        each = relaxation.alpha_gradient(wide, Sample(table.z, table.z > 0), table.cost)
        return (weight[:, None, None] * each).sum(0, keepdim=True)[free]

    entries = log_alpha[free].clone().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(field, entries)
    return float((jacobian - jacobian.T).norm() / (jacobian + jacobian.T).norm())


@dataclass(frozen=True)
class ScoreCheck:
    """∂/∂log α of one of two candidates on an edge, by quadrature: the gradient of SNAS, ∇E[L] by the score function of
    Z̃, the right-hand side that Section 4 prints, and the Hessian term E[∂Z̃ᵀ ∇²L Z̃] by which that one is off."""

    gradient: float
    score_of_loss: float
    score_of_cost: float
    hessian: float


def score_check(
    case: Small, operations: Sequence[str], edge: int, other: str, temperature: float, *, gap: float = 0.7,
    nodes: int = 48,
) -> ScoreCheck:  # fmt: skip
    """SNAS with the two candidates ``operations[edge]`` and ``other`` on one edge and the rest of the cell fixed.

    With two candidates Z̃ = (s, 1 − s), s = σ((gap + logit u)/λ) for a uniform u, and ∇ log p(Z̃) with respect to the
    first log α is 2u − 1: the expectations are integrals over u, taken here by Gauss and Legendre."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    first, second = OPERATIONS.index(operations[edge]), OPERATIONS.index(other)
    base = _one_hot(case, operations)

    def at(s: float, scale: float = 1.0) -> tuple[float, float, float]:
        z = base.clone()
        z[0, edge, first], z[0, edge, second] = scale * s, scale * (1 - s)
        measured = case.probe(Sample(z, z > 0))
        return float(measured.loss), *measured.cost[0, edge, [first, second]].tolist()

    total, step = np.zeros(4), 1e-4
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        s = 1 / (1 + math.exp(-(gap + math.log(point / (1 - point))) / temperature))
        moved, score = s * (1 - s) / temperature, 2 * point - 1
        loss, one, two = at(s)
        (_, up_one, up_two), (_, down_one, down_two) = at(s, 1 + step), at(s, 1 - step)
        bend = ((up_one - up_two) - (down_one - down_two)) / (2 * step)
        total += weight * np.array([moved * (one - two), score * loss, score * (s * one + (1 - s) * two), moved * bend])
    return ScoreCheck(*total.tolist())


def score_limit(case: Small, operations: Sequence[str], edge: int, other: str, *, gap: float = 0.7) -> ScoreCheck:
    """What the four expressions of :func:`score_check` tend to as λ → 0, from the two one-hot networks alone: the first
    two to ∇E[L], the third to the mean gradient of DSNAS, the last to their difference."""
    losses, costs = [], []
    for name in (operations[edge], other):
        z = _one_hot(case, [*operations[:edge], name, *operations[edge + 1 :]])
        measured = case.probe(Sample(z, z > 0))
        losses.append(float(measured.loss))
        costs.append(float(measured.cost[0, edge, OPERATIONS.index(name)]))
    first = 1 / (1 + math.exp(-gap))
    exact, dsnas = (first * (1 - first) * (values[0] - values[1]) for values in (losses, costs))
    return ScoreCheck(exact, exact, dsnas, dsnas - exact)


def drift(p: Sequence[float], edges: int) -> dict[str, np.ndarray]:
    """The expected step on log α ``[K]``, down the gradient, of one of ``edges`` equal edges with probabilities ``p``
    on which every operation costs −1: nothing is to be learned there.

    Exact, by enumerating all draws; the scripts' step is multiplied by the number of edges, which Adam would divide out.
    """
    p_K = torch.tensor(p, dtype=torch.float64)
    choice = torch.cartesian_prod(*[torch.arange(len(p))] * edges).reshape(-1, edges)
    z = F.one_hot(choice, len(p)).double()
    weight = (z * p_K).sum(-1).prod(-1)
    log_alpha, cost = p_K.log().expand(*z.shape[1:]), -torch.ones(z.shape[1:], dtype=torch.float64)
    found = {}
    for name, gain in (("corrected", 1), ("reference", edges)):
        wide = log_alpha.expand(len(z), -1, -1)
        gradient = Dsnas(name).alpha_gradient(wide, Sample(z, z > 0), cost)
        found[name] = -gain * (weight[:, None, None] * gradient).sum(0)[0].numpy()
    return found
