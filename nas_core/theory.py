"""The paper's identities as functions from a network, a batch and a sample to a residual: 0 where the statement holds.

Without *skip_connect* between intermediate nodes, and up to the normalisation's ε, every residual is at rounding level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.cost import by_group, loss_and_entropy, per_cell, probe
from nas_core.relaxation import Darts, Sample
from nas_core.space import NONE
from nas_core.supernet import Supernet


def cell_costs(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
    """The cost summed over each cell's edges, Σ Z·C ``[N]``, and L − H of the batch."""
    measured = probe(network, images, labels, sample)
    loss, entropy = loss_and_entropy(measured.logits, labels)
    totals = (per_cell(network, sample.z).to(measured.cost) * measured.cost).sum((1, 2))
    return totals, (loss - entropy).mean()


def output_residual(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> float:
    """Theorem 2 (Eq 8): Σ Z·C over the last cell minus (L − H)."""
    totals, cost = cell_costs(network, images, labels, sample)
    return float(totals[-1] - cost)


def inner_residual(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> float:
    """Corollary 1.2: the largest |Σ Z·C| of a cell before the last; 0 for a single cell."""
    totals, _ = cell_costs(network, images, labels, sample)
    return float(totals[:-1].abs().max()) if len(totals) > 1 else 0.0


def none_residual(network: Supernet, images: Tensor, labels: Tensor, log_alpha: Tensor) -> float:
    """In DARTS, ∂L/∂(log α_none) = −Ẑ_none·Σ_k Ẑ_k C_k on every edge: *none* gains exactly where the edge's cost is
    positive.

    The left side comes from autograd from the loss to α, the right side from the probe; the largest difference over
    edges."""
    free = log_alpha.clone().requires_grad_()
    sample = Darts().sample(free, torch.Generator())
    held = Sample(sample.z.detach(), sample.active)
    loss = F.cross_entropy(network(images, held, per_cell(network, sample.z)), labels)
    (gradient,) = torch.autograd.grad(loss, free)
    cost = by_group(network, probe(network, images, labels, held).cost)
    pressure = -held.z[..., NONE] * (held.z * cost).sum(-1)
    return float((gradient[..., NONE] - pressure).abs().max())
