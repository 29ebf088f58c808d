"""The cost C[cell, edge, operation] = ∂L/∂Z (Eqs 4 and 5): one probe for every relaxation, and three estimators of its
expectation.

* *sampled*: the probe on samples as they are drawn (the paper's Monte Carlo simulation, Section 5.1);
* *counterfactual*: the probe on :meth:`~nas_core.relaxation.Sample.counterfactual`, ⟨∂L/∂x_j, O_k(x_i)⟩ for every
  candidate k at once, with the gradient of the network that was drawn: less variance, but a first-order answer to another
  question, hence biased;
* *exact*: :func:`enumerate_samples` and :func:`exact_cost`, where the cell is small enough.

Shapes: B images, N cells, E edges, K operations, G groups of cells that share α.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.memory import onto
from nas_core.relaxation import Sample, probability
from nas_core.space import OPERATIONS, Cell
from nas_core.supernet import Supernet

EXACT_LIMIT = 100_000
"""More architectures than this are not enumerated: at 5 ms each that is about eight minutes a batch."""


@dataclass(frozen=True)
class Measurement:
    """What one batch told: the mean cross entropy, the logits ``[B, classes]``, and C ``[N, E, K]`` (0 where nothing
    was evaluated).
    """

    loss: Tensor
    logits: Tensor
    cost: Tensor


def probe(network: Supernet, images: Tensor, labels: Tensor, sample: Sample, *, train: bool = False) -> Measurement:
    """Loss, logits and cost of a batch from one backward pass.

    With ``train`` the same pass adds ∂L/∂θ to the parameters' ``grad``; without it no weight gradient is computed.
    """
    gates = network.gates(sample).requires_grad_()
    logits = network(images, sample, gates, train=train)
    loss = F.cross_entropy(logits, labels)
    if train:
        loss.backward()
        cost = gates.grad
    else:
        # A sample of *none* alone leaves the gates out of the graph: its cost is 0.
        (cost,) = torch.autograd.grad(loss, [gates], allow_unused=True)
    cost = torch.zeros_like(gates) if cost is None else cost
    return Measurement(loss.detach(), logits.detach(), cost.detach())


def loss_and_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """L and H of Theorem 2 for every image, ``[B]`` each, in nats and in float64."""
    log_p = F.log_softmax(logits.double(), dim=1)
    loss = F.nll_loss(log_p, labels, reduction="none")
    return loss, -(log_p.exp() * log_p).sum(1)


def by_group(network: Supernet, cost_NEK: Tensor) -> Tensor:
    """The cost summed over the cells that share α: ``[G, E, K]`` in float64, on the CPU."""
    config = network.config
    groups = torch.tensor([config.group(position) for position in range(config.cells)])
    summed = torch.zeros(config.groups, *cost_NEK.shape[1:], dtype=torch.float64)
    return summed.index_add_(0, groups, cost_NEK.double().cpu())


def per_cell(network: Supernet, tensor_GEK: Tensor) -> Tensor:
    """A tensor of the α groups, repeated for every cell: ``[N, E, K]``."""
    return tensor_GEK[[network.config.group(position) for position in range(network.config.cells)]]


class CostStatistics:
    """Running count, mean and variance of the cost per entry ``[N, E, K]``, in float64, over the batches in which it
    was observed.

    Statistics of disjoint runs merge exactly (Chan et al., 1979). They are kept where the cost is computed, ``device``, so that
    taking in a batch waits for nothing; :meth:`arrays` brings them to the CPU.
    """

    def __init__(self, cells: int, edges: int, device: torch.device | str = "cpu"):
        shape = (cells, edges, len(OPERATIONS))
        self.count, self.mean, self.squares = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(3))

    def update(self, cost_NEK: Tensor, observed_NEK: Tensor) -> None:
        """Take in one batch; entries that were not ``observed`` (bool) are left alone."""
        device = self.mean.device
        cost, seen = cost_NEK.to(device, torch.float64), onto(observed_NEK.double(), device)
        delta = cost - self.mean
        self.count += seen
        self.mean += seen * delta / self.count.clamp(min=1)
        self.squares += seen * delta * (cost - self.mean)

    def merge(self, other: CostStatistics) -> None:
        """Add the batches that ``other`` has seen."""
        total = self.count + other.count
        share = other.count / total.clamp(min=1)
        delta = other.mean - self.mean
        self.squares += other.squares + delta**2 * self.count * share
        self.mean += delta * share
        self.count = total

    def means(self) -> Tensor:
        """The mean cost, NaN where nothing was observed."""
        return torch.where(self.count > 0, self.mean, math.nan)

    def variance(self) -> Tensor:
        """The unbiased variance over batches, NaN below two observations."""
        return torch.where(self.count > 1, self.squares / (self.count - 1), math.nan)

    def standard_error(self) -> Tensor:
        """The standard error of the mean, as if batches were independent."""
        return (self.variance() / self.count).sqrt()

    def arrays(self, prefix: str) -> dict[str, Tensor]:
        """Mean, variance and count under ``prefix``, as they are recorded."""
        return {
            f"{prefix}_mean": self.means().cpu(),
            f"{prefix}_variance": self.variance().cpu(),
            f"{prefix}_count": self.count.cpu().clone(),
        }


def enumerate_samples(cell: Cell, groups: int = 1) -> Iterator[Sample]:
    """Every one-hot sample of ``cell``, the same in each of ``groups``, in lexicographic order.

    Raises ``ValueError`` beyond :data:`EXACT_LIMIT` architectures.
    """
    if cell.architectures() > EXACT_LIMIT:
        raise ValueError(
            f"the {cell.name} cell has {cell.architectures()} architectures, more than the {EXACT_LIMIT} "
            f"that can be enumerated; "
            f"restrict it with only() or fix(), or use a sampled estimator"
        )
    for choice in itertools.product(*(edge.indices for edge in cell.edges)):
        z = F.one_hot(torch.tensor(choice), len(OPERATIONS)).double().expand(groups, -1, -1)
        yield Sample(z, z > 0)


def sample_probability(sample: Sample, log_alpha: Tensor) -> float:
    """p_α(Z) of a one-hot sample: the product of its operations' probabilities over the edges of one group."""
    drawn = (sample.z * probability(log_alpha)).sum(-1)
    return float(drawn[0].prod())


@dataclass(frozen=True)
class ExactCost:
    """E[C | Z_e = k] ``[N, E, K]`` (0 where k is no candidate of e), E[L], and E[∇ log p(Z_e)·C(Z_e)] ``[G, E, K]``."""

    conditional: Tensor
    loss: float
    score_gradient: Tensor


def exact_cost(network: Supernet, images: Tensor, labels: Tensor, log_alpha: Tensor) -> ExactCost:
    """The expectations over Z ~ p_α on one batch, by enumeration;

    ``log_alpha`` ``[1, E, K]`` is masked as in a search.
    """
    p = probability(log_alpha)
    weighted: Any = 0.0
    gradient: Any = 0.0
    loss = 0.0
    for sample in enumerate_samples(network.config.cell):
        weight = sample_probability(sample, log_alpha)
        measured = probe(network, images, labels, sample)
        loss += weight * float(measured.loss)
        weighted = weighted + weight * measured.cost.double().cpu() * per_cell(network, sample.z)
        reward = (sample.z * by_group(network, measured.cost)).sum(-1, keepdim=True)
        gradient = gradient + weight * (sample.z - p) * reward
    conditional = torch.where(per_cell(network, p) > 0, weighted / per_cell(network, p).clamp(min=1e-300), 0.0)
    return ExactCost(conditional, loss, gradient)


def unrolled_cost(
    network: Supernet,
    train_batch: tuple[Tensor, Tensor],
    search_batch: tuple[Tensor, Tensor],
    sample: Sample,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: dict[str, Tensor] | None = None,
) -> Measurement:
    """The second-order cost of bi-level search: d L_search(θ − ξ(∇_θ L_train(θ, Z) + weight decay + momentum), Z)/dZ.

    Exact, by differentiating the training gradient once more, where DARTS takes a finite difference. θ is left as it
    was. Operations of weight 0 cannot be unrolled: the sample must be soft (DARTS, SNAS) or evaluated only where it is
    1."""
    names, parameters = zip(*network.named_parameters())
    inner = network.gates(sample).requires_grad_()
    train_loss = F.cross_entropy(network(train_batch[0], sample, inner, twice=True), train_batch[1])
    gradients = torch.autograd.grad(train_loss, parameters, create_graph=True, allow_unused=True)
    stepped = {}
    for name, parameter, gradient in zip(names, parameters, gradients):
        step = weight_decay * parameter.detach()
        step = step + (gradient.detach() if gradient is not None else 0)
        step = step + (momentum[name] if momentum and name in momentum else 0)
        stepped[name] = (parameter.detach() - learning_rate * step).requires_grad_()
    outer = network.gates(sample).requires_grad_()
    logits = torch.func.functional_call(network, stepped, (search_batch[0], sample, outer), {"twice": True})
    loss = F.cross_entropy(logits, search_batch[1])
    direct, *vectors = torch.autograd.grad(loss, [outer, *stepped.values()], allow_unused=True)
    pairs = [(g, v) for g, v in zip(gradients, vectors) if g is not None and v is not None]
    product: Any = sum((g * v).sum() for g, v in pairs)
    (indirect,) = torch.autograd.grad(product, [inner], allow_unused=True)
    cost = torch.zeros_like(outer) if direct is None else direct
    cost = cost - learning_rate * (indirect if indirect is not None else 0)
    return Measurement(loss.detach(), logits.detach(), cost.detach())
