"""The sums of Theorem 2 and Corollary 1.2 from one call of the probe: for a network of any size, without bounds.

Without *skip_connect* between intermediate nodes, and up to the normalisation's ε, every residual is at rounding level.
:mod:`nas_core.theory.assignment` has the same statements with their exceptions and bounds."""

from __future__ import annotations

from torch import Tensor

from nas_core.cost import loss_and_entropy, per_cell, probe
from nas_core.relaxation import Sample
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
