"""Normalisation: the step at which a path stops passing cost on (Eqs 15, 19, 24), and what else could stand there.

A path x → A → a → N → y with A positively homogeneous of degree 1 (ReLU, convolutions without bias, pooling) and N a
normalisation is homogeneous of degree 0: twice the features, the same output. By Euler's theorem its derivative in the
direction of its own input vanishes, for every cotangent ∂L/∂y. With ε in the denominator, y − β = γ(a − μ)/√(σ²+ε), it
does not quite vanish; differentiating t ↦ N(ta) at t = 1 gives exactly

    ⟨∂L/∂x, x⟩ = Σ_g ε/(σ_g² + ε) · ⟨∂L/∂y, y − β⟩_g,

g running over the groups of entries that share μ and σ². Shapes: B images, C channels, H × W pixels."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_core.operations import Norm, Normalization
from nas_core.relaxation import Sample
from nas_core.supernet import Supernet
from nas_core.theory.evaluation import Stage, plain_logits, trace
from nas_core.theory.residual import UNIT, Residual, from_single, inner, size, worst


def averaged(x_BCHW: Tensor, normalization: Normalization) -> Tensor:
    """The mean over each group of entries that a normalisation treats as one, in the shape of ``x`` (Eqs 16, 23)."""
    if normalization.kind == "identity":
        return torch.zeros_like(x_BCHW)
    if normalization.kind == "group":
        batch, channels, height, width = x_BCHW.shape
        grouped = x_BCHW.reshape(batch, normalization.groups, channels // normalization.groups, height, width)
        return grouped.mean((2, 3, 4), keepdim=True).expand_as(grouped).reshape(x_BCHW.shape)
    dims = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}[normalization.kind]
    return x_BCHW.mean(dims, keepdim=True).expand_as(x_BCHW)


def members(x_BCHW: Tensor, normalization: Normalization) -> int:
    """How many entries share a mean and a variance."""
    batch, channels, height, width = x_BCHW.shape
    own = {"batch": batch, "layer": channels, "instance": 1, "group": channels // normalization.groups, "identity": 0}
    return own[normalization.kind] * height * width


@dataclass(frozen=True)
class Statistics:
    """Of a normalisation's input, each in the shape of the input: mean μ, 1/√(σ²+ε), x̂, γ, β, and ε/(σ²+ε)."""

    mean: Tensor
    inverse: Tensor
    hat: Tensor
    gamma: Tensor
    beta: Tensor
    ratio: Tensor


def statistics(norm: Norm, a_BCHW: Tensor) -> Statistics:
    """The normalisation process, Eq 16 or Eq 23, with the ε that the paper leaves out; ``identity`` changes nothing."""
    if norm.normalization.kind == "identity":
        nothing, one = torch.zeros_like(a_BCHW), torch.ones_like(a_BCHW)
        return Statistics(nothing, one, a_BCHW, one, nothing, nothing)
    eps, mean = norm.normalization.eps, averaged(a_BCHW, norm.normalization)
    variance = averaged((a_BCHW - mean) ** 2, norm.normalization)
    # Without variance and ε PyTorch's batch norm takes 1/0 for 0, so that a feature map of zeros stays one.
    inverse = torch.where(variance + eps > 0, (variance + eps).rsqrt(), 0.0)
    gamma, beta = (
        torch.full_like(a_BCHW, plain) if given is None else given.detach().view(-1, 1, 1).expand_as(a_BCHW)
        for given, plain in ((norm.weight, 1.0), (norm.bias, 0.0))
    )
    ratio = eps / (variance + eps) if eps > 0 else torch.zeros_like(variance)
    return Statistics(mean, inverse, (a_BCHW - mean) * inverse, gamma, beta, ratio)


def normalizes(stage: Stage | None) -> TypeGuard[Stage]:
    """Whether a path passes a normalisation: not a bare skip, nor the ``identity``."""
    return stage is not None and stage.norm.normalization.kind != "identity"


def passed(stage: Stage) -> float:
    """⟨∂L/∂x, x⟩: what the path passes on to whatever made x."""
    return inner(stage.gradient_x, stage.x)


def epsilon_terms(stage: Stage) -> Tensor:
    """ε/(σ²+ε) · ∂L/∂y · (y − β), entry by entry: their sum is what ε lets through."""
    s = statistics(stage.norm, stage.a)
    return s.ratio * stage.gradient_y * (stage.y - s.beta)


def epsilon_share(stage: Stage) -> float:
    """What ε alone lets through: the sum in this module's first lines."""
    return float(epsilon_terms(stage).sum())


def hat_error(norm: Norm, a: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    """How far off a computed x̂ may be, entry by entry, and a computed √(σ²+ε), relative to itself; ``unit`` is n·u.

    With X̂ = (|a| + mean|a|)/√(σ²+ε): μ and a − μ are off by n·u·X̂·√(σ²+ε), hence σ² by twice their product with
    |a − μ| and the root, relatively, by κ = n·u·(mean |x̂|X̂ + n·u·mean X̂²/2 + 1); x̂ by n·u·X̂ + κ|x̂|."""
    s, kind = statistics(norm, a), norm.normalization
    size = (a.abs() + averaged(a.abs(), kind)) * s.inverse
    kappa = unit * (averaged(s.hat.abs() * size, kind) + unit * averaged(size**2, kind) / 2 + 1)
    return unit * size + kappa * s.hat.abs(), kappa


def gradient_error(norm: Norm, a: Tensor, gradient_y: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    """How far off a computed ∂L/∂a (Eq 17) may be, and |∂L/∂a| at most, entry by entry.

    With G = |γ ∂L/∂y| and d the error of x̂: that of x̂·mean(G x̂) is d·mean(G|x̂|) + |x̂|·mean(G d) + d·mean(G d); the
    rest is relative, n·u for every sum and product and κ for the root."""
    s, kind = statistics(norm, a), norm.normalization
    error, kappa = hat_error(norm, a, unit)
    g = (s.gamma * gradient_y).abs()
    product, moved = averaged(g * s.hat.abs(), kind), averaged(g * error, kind)
    size = (g + averaged(g, kind) + s.hat.abs() * product) * s.inverse
    crossed = (error * product + s.hat.abs() * moved + error * moved) * s.inverse
    return (2 * unit + kappa) * size + crossed, norm_gradient(norm, a, gradient_y).abs()


def norm_gradient(norm: Norm, a_BCHW: Tensor, gradient_BCHW: Tensor) -> Tensor:
    """Eq 17: ∂L/∂X = (G − mean G − X̂·mean(G X̂))/√(σ²+ε), with G = γ ∂L/∂y and means over the group."""
    s, kind = statistics(norm, a_BCHW), norm.normalization
    g = s.gamma * gradient_BCHW
    return (g - averaged(g, kind) - s.hat * averaged(g * s.hat, kind)) * s.inverse


def cost_error(norm: Norm, a: Tensor, gradient_y: Tensor, size_a: Tensor, unit: float) -> float:
    """How far rounding may set ⟨∂L/∂x, x⟩ apart from its ε term.

    ⟨∂L/∂a, Ax⟩ with ∂L/∂a off by ``gradient_error``; pulling back through A, multiplying by x and computing a = Ax are
    each off by n·u·⟨|∂L/∂a|, |A||x|⟩, with ``size_a`` = |A||x|; the ε term as its factors are."""
    error, size = gradient_error(norm, a, gradient_y, unit)
    s, (hat, kappa) = statistics(norm, a), hat_error(norm, a, unit)
    term = s.ratio * (s.gamma * gradient_y).abs() * (hat + (2 * kappa + 2 * unit) * s.hat.abs())
    return float((error * a.abs() + 3 * unit * (size + error) * size_a + term).sum())


def roundings(module: nn.Module, norm: Norm, x: Tensor, a: Tensor) -> int:
    """Roundings along the longest chain of ⟨∂L/∂x, x⟩: the sum over x, the fan-in and fan-out of every convolution and
    pool, and the normalisation's four sums over a group."""
    count = x.numel() + 4 * members(a, norm.normalization) + 32
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            count += part.weight[0].numel() + part.weight[:, 0].numel()
        elif isinstance(part, (nn.MaxPool2d, nn.AvgPool2d)):
            count += 2 * 9
    return count


def rounding(stage: Stage) -> float:
    """The rounding bound of :func:`passed` and of :func:`epsilon_share`, together."""
    unit = roundings(stage.module, stage.norm, stage.x, stage.a) * UNIT
    return cost_error(stage.norm, stage.a, stage.gradient_y, stage.size_a, unit)


def stage_residual(stage: Stage) -> Residual:
    """⟨∂L/∂x, x⟩ against its exact value, the ε term; only rounding may be left."""
    left, right = passed(stage), epsilon_share(stage)
    return Residual(abs(left - right), rounding(stage), float((stage.gradient_x * stage.x).abs().sum()))


def homogeneity_residual(norm: Norm, a_BCHW: Tensor, gradient_BCHW: Tensor) -> Residual:
    """Eqs 15 and 24 for any normalisation, input and cotangent: ⟨(∂y/∂a)ᵀ ∂L/∂y, a⟩ against its ε term.

    ``bound`` is that of rounding alone."""
    a = a_BCHW.detach().clone().requires_grad_()
    y = norm(a)
    (gradient,) = torch.autograd.grad(y, a, gradient_BCHW)
    s = statistics(norm, a.detach())
    right = inner(s.ratio * gradient_BCHW, y - s.beta)
    bound = cost_error(norm, a.detach(), gradient_BCHW, a.detach().abs(), roundings(norm, norm, a, a) * UNIT)
    return Residual(abs(inner(gradient, a) - right), bound, size(gradient, a))


@dataclass(frozen=True)
class Nothing:
    """What is left of a network that computes nothing: the largest |cost|, |logit| and |weight gradient|, and L − ln n.

    ``single`` holds the first three in float32. They are rounding, and so shrink with the unit roundoff: in float64
    each must be within :func:`~nas_core.theory.residual.from_single` of it; |L − ln n| is at most 2 max|logit|."""

    cost: float
    logits: float
    gradient: float
    loss_gap: float
    single: tuple[float, float, float]
    classes: int

    @property
    def residual(self) -> Residual:
        """The four as comparisons with 0."""
        pairs = zip((self.cost, self.logits, self.gradient), map(from_single, self.single))
        gap = 2 * self.logits + 16 * UNIT * math.log(self.classes)
        return worst([Residual(abs(self.loss_gap), gap, math.log(self.classes)), *(Residual(*p, 0.0) for p in pairs)])

    @property
    def held(self) -> bool:
        """Whether nothing but rounding is there."""
        return self.residual.held


def learns_nothing(network: Supernet) -> bool:
    """Whether Eq 25 applies: an affine-free instance norm, a head without bias, and no ReLU behind the last
    normalisation (in the order *conv-norm-relu* means are positive, and the network does learn)."""
    config = network.config
    plain = config.normalization.kind == "instance" and not config.normalization.affine and not config.head_bias
    return plain and config.order != "conv-norm-relu"


def instance_norm(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> Nothing:
    """Eq 25 with what the paper does not say beside it: feature maps of mean 0 in every image and channel are pooled to
    0, so the logits are 0, the loss is ln n, no cost flows, and no weight has a gradient: the network cannot learn.

    It holds where :func:`learns_nothing` says so."""
    cost, logits, gradient, loss = _sizes(network, images, labels, sample)
    single = _sizes(copy.deepcopy(network).float(), images.float(), labels, sample)
    classes = network.head.out_features
    return Nothing(cost, logits, gradient, loss - math.log(classes), single[:3], classes)


def _sizes(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> tuple[float, float, float, float]:
    """The largest |cost|, |logit| and |weight gradient|, and the loss."""
    seen = trace(network, images, labels, sample)
    loss = F.cross_entropy(plain_logits(network, images, seen.z), labels)
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    largest = max(float(gradient.abs().max()) for gradient in gradients if gradient is not None)
    return float(seen.cost.abs().max()), float(seen.logits.abs().max()), largest, seen.loss
