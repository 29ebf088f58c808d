"""The α gradient of every framework is (∂Z/∂α)·C (Section 4, Appendix B): the formulas of :mod:`nas_core.relaxation`
against autograd, the sampled ones against the enumerated expectation, and how far each is from the gradient of E[L].

Shapes: G groups of cells that share α, E edges, K operations, N cells."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.cost import by_group, enumerate_samples, per_cell, probe, sample_probability
from nas_core.relaxation import Darts, Dsnas, Proxyless, Relaxation, Sample, Snas, probability
from nas_core.space import NONE
from nas_core.supernet import Supernet
from nas_core.theory.evaluation import plain_logits
from nas_core.theory.residual import UNIT, Residual, compare_tensors


def _drawn(relaxation: Relaxation, log_alpha: Tensor, seed: int) -> Sample:
    """The relaxation's draw under a seed; the same noise every time, so that Z is a function of α."""
    return relaxation.sample(log_alpha, torch.Generator().manual_seed(seed))


def _scores(log_alpha: Tensor, sample: Sample) -> Tensor:
    """log p_e ``[G, E]`` of what a one-hot sample drew."""
    return F.log_softmax(log_alpha, -1).gather(-1, sample.z.argmax(-1, keepdim=True))[..., 0]


def alpha_gradients(
    network: Supernet, images: Tensor, labels: Tensor, log_alpha: Tensor, relaxation: Relaxation, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """∂L/∂(log α) ``[G, E, K]`` by the framework's formula and by autograd, and Σ_cells |C| ``[G, E, K]``, from one
    evaluation.

    Autograd goes through the loss itself for DARTS and SNAS; for DSNAS through Σ_e log p_e [R_e]_c, or log Σ_e p_e in
    its ``reference`` form with each edge's own R_e; for ProxylessNAS through Σ_k Ẑ_k [∂L/∂Z_k]_c. [·]_c is a constant,
    R_e the cost of what was drawn."""
    free = log_alpha.detach().clone().requires_grad_()
    sample = _drawn(relaxation, free, seed)
    held = Sample(sample.z.detach(), sample.active)
    soft = isinstance(relaxation, (Darts, Snas))
    z = per_cell(network, sample.z if soft else held.z.clone().requires_grad_())
    logits = plain_logits(network, images, z, per_cell(network, sample.active))
    loss = F.cross_entropy(logits, labels)
    wanted = [z, free] if soft else [z]
    cost, *through = torch.autograd.grad(loss, wanted, allow_unused=True)
    cost = torch.zeros_like(z) if cost is None else cost
    cost, sizes = (by_group(network, part).to(log_alpha) for part in (cost, cost.abs()))
    if soft:
        autograd = torch.zeros_like(free) if through[0] is None else through[0]
    else:
        (autograd,) = torch.autograd.grad(_surrogate(relaxation, free, held, cost), free)
    return relaxation.alpha_gradient(log_alpha, held, cost), autograd, sizes


def _surrogate(relaxation: Relaxation, free: Tensor, sample: Sample, cost: Tensor) -> Tensor:
    """A scalar function of α whose derivative the framework takes for ∂L/∂α."""
    if isinstance(relaxation, Proxyless):
        return (probability(free) * cost).sum()
    if not isinstance(relaxation, Dsnas):
        raise TypeError(f"{relaxation.name} gives α no gradient of a cost; take DARTS, SNAS, DSNAS or ProxylessNAS")
    reward = (sample.z * cost).sum(-1)
    if relaxation.clamp is not None:
        reward = reward.clamp(-relaxation.clamp, relaxation.clamp)
    scores = _scores(free, sample)
    if relaxation.gradient == "corrected":
        return (scores * reward).sum()
    # Each edge's α sees log Σ_e p_e through its own p_e alone, and its own reward.
    chances = scores.exp()
    edges = torch.eye(chances.shape[1], dtype=torch.bool)
    mixed = torch.where(edges, chances[:, None, :], chances.detach()[:, None, :]).sum(-1).log()
    return (mixed * reward).sum()


def alpha_residual(
    network: Supernet, images: Tensor, labels: Tensor, log_alpha: Tensor, relaxation: Relaxation, seed: int = 0
) -> Residual:
    """Appendix B: (∂Z/∂α)·C of a framework against autograd.

    Both sides use the same ∂L/∂Z, so the bound is that of a softmax derivative, Z_k (|C_k| + Σ_l Z_l |C_l|)/λ, and of
    the sums over K operations, E edges and N cells; how C itself agrees is
    :func:`~nas_core.theory.assignment.probe_residual`."""
    formula, autograd, sizes = alpha_gradients(network, images, labels, log_alpha, relaxation, seed)
    sample = _drawn(relaxation, log_alpha, seed)
    weights = sample.z + probability(log_alpha)
    sizes = weights * (sizes + (weights * sizes).sum(-1, keepdim=True)) / getattr(relaxation, "temperature", 1.0)
    steps = 4 * (log_alpha.shape[1] + log_alpha.shape[2] + network.config.cells) + 32
    return compare_tensors(formula, autograd, bound=steps * UNIT * sizes)


def _architectures(network: Supernet, images, labels, log_alpha) -> Iterator[tuple[Sample, float, float, Tensor]]:
    """Every architecture: its sample, its probability, its loss, and C of every candidate ``[G, E, K]``."""
    for sample in enumerate_samples(network.config.cell, network.config.groups):
        measured = probe(network, images, labels, sample.counterfactual(log_alpha))
        cost = by_group(network, measured.cost)
        yield sample, sample_probability(sample, log_alpha), float(measured.loss), cost


def expected_gradients(network: Supernet, images: Tensor, labels: Tensor, log_alpha: Tensor) -> dict[str, Tensor]:
    """∂/∂(log α) ``[1, E, K]`` of a batch's expected loss, and what each framework follows instead, in expectation.

    By enumeration: ``exact`` = ∇ Σ_Z p(Z) L(Z); ``dsnas`` = E[∇log p(Z_e)·C(Z_e)]; ``dsnas_reference``, of the
    published scripts, times E so that it compares; ``proxylessnas`` = E[(∂Ẑ/∂α)·C(Z)]. ``darts`` is ∂L(Ẑ)/∂α, which
    ProxylessNAS approximates by taking ∂L/∂Z at a one-hot Z. Raises ``ValueError`` for a cell that is too large."""
    p = probability(log_alpha)
    found = {name: torch.zeros_like(p) for name in ("exact", "dsnas", "dsnas_reference", "proxylessnas")}
    for sample, weight, loss, cost in _architectures(network, images, labels, log_alpha):
        found["exact"] += weight * loss * (sample.z - p)
        found["dsnas"] += weight * Dsnas().alpha_gradient(log_alpha, sample, cost)
        reference = Dsnas("reference").alpha_gradient(log_alpha, sample, cost)
        found["dsnas_reference"] += weight * p.shape[1] * reference
        found["proxylessnas"] += weight * Proxyless().alpha_gradient(log_alpha, sample, cost)
    sample = _drawn(Darts(), log_alpha, 0)
    cost = by_group(network, probe(network, images, labels, sample).cost)
    found["darts"] = Darts().alpha_gradient(log_alpha, sample, cost)
    return found


@dataclass(frozen=True)
class GradientError:
    """|approximation − exact|/|exact|, and the cosine between them: 1 where they point the same way."""

    relative: float
    cosine: float


def gradient_error(approximation: Tensor, exact: Tensor) -> GradientError:
    """How far one gradient is from another, over all their entries."""
    cosine = F.cosine_similarity(approximation.flatten(), exact.flatten(), dim=0)
    return GradientError(float((approximation - exact).norm() / exact.norm()), float(cosine))


@dataclass(frozen=True)
class MeanCheck:
    """A sampled mean ``[E, K]`` with its standard error, and the expectation that it should have."""

    mean: Tensor
    standard_error: Tensor
    exact: Tensor
    draws: int

    @property
    def z(self) -> Tensor:
        """(mean − exact)/standard error, 0 where neither varies."""
        gap = self.mean - self.exact
        return torch.where(self.standard_error > 0, gap / self.standard_error.clamp(min=1e-300), gap.sign() * 0)

    @property
    def worst(self) -> float:
        """The largest |z|; over m entries about √(2 ln m) is to be expected."""
        return float(self.z.abs().max())


def dsnas_mean(
    network: Supernet, images: Tensor, labels: Tensor, log_alpha: Tensor, *, draws: int, seed: int = 0
) -> MeanCheck:
    """The mean of DSNAS's gradient over sampled architectures of one batch, against its enumerated expectation."""
    gradients: dict[tuple[int, ...], Tensor] = {}
    exact = torch.zeros_like(log_alpha[0])
    for sample, weight, _, cost in _architectures(network, images, labels, log_alpha):
        gradient = Dsnas().alpha_gradient(log_alpha, sample, cost)
        gradients[tuple(sample.z[0].argmax(-1).tolist())] = gradient[0]
        exact = exact + weight * gradient[0]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack(
        [gradients[tuple(Dsnas().sample(log_alpha, generator).z[0].argmax(-1).tolist())] for _ in range(draws)]
    )
    return MeanCheck(drawn.mean(0), drawn.std(0) / math.sqrt(draws), exact, draws)


def reference_factor(log_alpha: Tensor, sample: Sample) -> Tensor:
    """p_e/mean(p) ``[G, E]``: by how much the published DSNAS scripts scale edge e's gradient, the mean taken over the
    edges' drawn operations. (Their gradient is this times the corrected one, over the number of edges.)"""
    drawn = _scores(log_alpha, sample).exp()
    return drawn / drawn.mean(1, keepdim=True)


@dataclass(frozen=True)
class Pull:
    """How hard a cost of size 1 pulls on the log α of an operation of probability p, per step and on average: under
    Σ log p_e p(1 − p), under the published log Σ p_e that times p/mean(p)."""

    probability: float
    corrected: float
    reference: float


def rare_operation_pull(p: float, mean_p: float) -> Pull:
    """An operation is drawn with probability p, and its own score is then 1 − p. The published scripts multiply that
    by p/mean(p): the pull on a rare operation falls with p² instead of p."""
    return Pull(p, p * (1 - p), p * (1 - p) * p / mean_p)


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
