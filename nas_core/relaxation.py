"""The relaxations of Eq 2: how each framework draws Z from α, and the α gradient that it makes of the cost (Section 4,
Appendix B).

A relaxation is a frozen object with three pure functions. With G groups of cells that share α, E edges and K
operations:

``sample(log_alpha, generator)``
    a :class:`Sample`: the weights Z ``[G, E, K]`` and which operations must be evaluated for them;
``alpha_gradient(log_alpha, sample, cost)``
    ∂L/∂(log α) ``[G, E, K]`` from the cost C = ∂L/∂Z ``[G, E, K]``, summed over the cells that share α;
``at(progress)``
    the relaxation at a share of the search from 0 to 1: itself, unless it is annealed.

``log_alpha`` holds −inf where an edge lacks an operation (:func:`masked`), which makes its probability and gradient
exactly 0. Another method plugs in by bringing ``sample`` and ``alpha_gradient``, and ``at`` where something is annealed.
All tensors are on the CPU."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.space import NONE, Cell


@dataclass(frozen=True)
class Sample:
    """One draw: ``z`` ``[G, E, K]``, the weight of every operation, and ``active`` ``[G, E, K]``, the operations to
    evaluate.

    An active operation of weight 0 is evaluated for its cost alone: the counterfactual ⟨∂L/∂x_j, O_k(x_i)⟩. Both
    tensors live on the CPU, so that deciding what to evaluate never waits for an accelerator."""

    z: Tensor
    active: Tensor

    def counterfactual(self, log_alpha: Tensor) -> Sample:
        """The same draw with every candidate evaluated."""
        return replace(self, active=torch.isfinite(log_alpha))


def masked(log_alpha: Tensor, cell: Cell) -> Tensor:
    """``log_alpha`` ``[G, E, K]`` with −inf where an edge of ``cell`` lacks the operation."""
    return log_alpha.masked_fill(~torch.tensor(cell.mask()), -math.inf)


def probability(log_alpha: Tensor) -> Tensor:
    """p_α, the softmax of ``log_alpha`` over operations."""
    return F.softmax(log_alpha, dim=-1)


def _gumbel(log_alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of the shape of ``log_alpha``; the uniform draw is kept off 0, where its logarithm is not
    finite.
    """
    uniform = torch.rand(log_alpha.shape, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16))).to(log_alpha.dtype)


def _one_hot(log_alpha: Tensor, generator: torch.Generator) -> Tensor:
    """A strictly one-hot draw from p_α per edge, by the Gumbel-max trick."""
    chosen = (log_alpha + _gumbel(log_alpha, generator)).argmax(dim=-1)
    return F.one_hot(chosen, log_alpha.shape[-1]).to(log_alpha.dtype)


def _softmax_gradient(weights: Tensor, cost: Tensor, temperature: float) -> Tensor:
    """(∂Z/∂log α)·C for Z = softmax(·/λ): Z (C − Σ_l Z_l C_l)/λ."""
    return weights * (cost - (weights * cost).sum(-1, keepdim=True)) / temperature


@dataclass(frozen=True)
class Darts:
    """DARTS (Liu et al., 2018): Ẑ = softmax(log α), no sampling; the gradient is exact (Appendix B.1)."""

    name: str = "darts"

    def at(self, progress: float) -> Darts:
        """The relaxation at a share of the search, from 0 to 1; this one does not change."""
        return self

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        return Sample(probability(log_alpha), torch.isfinite(log_alpha))

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        return _softmax_gradient(sample.z, cost, 1.0)


@dataclass(frozen=True)
class Snas:
    """SNAS (Xie et al., 2018): Z̃ = softmax((log α + Gumbel)/λ); the reparametrised gradient is exact for the draw.

    ``temperature`` is λ at the start; with ``final_temperature`` it is annealed geometrically over the search.
    """

    temperature: float = 1.0
    final_temperature: float | None = None
    name: str = "snas"

    def __post_init__(self) -> None:
        for value in (self.temperature, self.final_temperature):
            if value is not None and not value > 0:
                raise ValueError(f"a SNAS temperature is {value}; give a number above 0")

    def at(self, progress: float) -> Snas:
        if self.final_temperature is None:
            return self
        ratio = self.final_temperature / self.temperature
        return replace(self, temperature=self.temperature * ratio**progress, final_temperature=None)

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        noisy = log_alpha + _gumbel(log_alpha, generator)
        return Sample(F.softmax(noisy / self.temperature, dim=-1), torch.isfinite(log_alpha))

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        return _softmax_gradient(sample.z, cost, self.temperature)


@dataclass(frozen=True)
class Dsnas:
    """DSNAS (Hu et al., 2020): a strictly one-hot Z, and the score-function gradient ∇ log p(Z_e)·C(Z_e) of every edge
    e.

    ``gradient="corrected"`` is the paper's Σ_e log p_e. ``"reference"`` differentiates log Σ_e p_e instead, as the
    published scripts do: edge e's gradient is scaled by p_e/Σ_e p_e (which is p_e/mean(p), divided by the number of
    edges), so an edge that drew a rare operation hardly learns from it. ``clamp`` bounds the edge's reward, ±5 in those
    scripts. ``baseline`` is the decay of a running mean of each edge's reward that a search subtracts before the score
    function sees it: the expected gradient stays, its variance falls (the paper has none)."""

    gradient: str = "corrected"
    clamp: float | None = None
    baseline: float | None = None
    name: str = "dsnas"

    def __post_init__(self) -> None:
        if self.gradient not in ("corrected", "reference"):
            raise ValueError(f"the DSNAS gradient {self.gradient!r} is unknown; allowed are corrected, reference")
        if self.baseline is not None and not 0 <= self.baseline < 1:
            raise ValueError(f"the DSNAS baseline is {self.baseline}; give a decay from 0 up to, not including, 1")

    def at(self, progress: float) -> Dsnas:
        return self

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        z = _one_hot(log_alpha, generator)
        return Sample(z, z > 0)

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        p = probability(log_alpha)
        reward = (sample.z * cost).sum(-1, keepdim=True)
        if self.clamp is not None:
            reward = reward.clamp(-self.clamp, self.clamp)
        score = sample.z - p
        if self.gradient == "reference":
            drawn = (sample.z * p).sum(-1, keepdim=True)
            score = score * drawn / drawn.sum(dim=1, keepdim=True)
        return score * reward


@dataclass(frozen=True)
class Proxyless:
    """ProxylessNAS (Cai et al., 2018): one path runs, the gradient is that of the softmax with C = ∂L/∂Z_k of every
    path (Appendix B.2).
    """

    name: str = "proxylessnas"

    def at(self, progress: float) -> Proxyless:
        return self

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        return Sample(_one_hot(log_alpha, generator), torch.isfinite(log_alpha))

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        return _softmax_gradient(probability(log_alpha), cost, 1.0)


@dataclass(frozen=True)
class Uniform:
    """Every candidate of an edge equally likely whatever α is: how the paper trains θ and samples the cost with α fixed
    (Section 5.1).
    """

    name: str = "uniform"

    def at(self, progress: float) -> Uniform:
        return self

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        flat = torch.zeros_like(log_alpha).masked_fill(~torch.isfinite(log_alpha), -math.inf)
        z = _one_hot(flat, generator)
        return Sample(z, z > 0)

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        return torch.zeros_like(log_alpha)


@dataclass(frozen=True)
class EqualTraining:
    """A control of Section 5.3: uniform sampling, but *none* is never drawn on the edges in ``edges`` while θ learns.

    An intermediate edge learns only if its input is not zero. Where it follows an edge with K candidates, *none* among
    them, that is a share 1 − 1/K of its draws; drawn from K − 1 candidates, each of its operations is trained as often
    as one of an input edge. At the end of the search it is :class:`Uniform`, so that the cost is measured as
    elsewhere."""

    edges: tuple[int, ...] = ()
    name: str = "equal_training"

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))

    def at(self, progress: float) -> EqualTraining | Uniform:
        return Uniform() if progress >= 1 else self

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        rest = log_alpha.clone()
        rest[:, list(self.edges), NONE] = -math.inf
        return Uniform().sample(rest, generator)

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        return torch.zeros_like(log_alpha)


@dataclass(frozen=True)
class RandomReward:
    """A control: DSNAS whose cost gets a random sign at every step, so that it is as large but says nothing.

    The sign is a function of the cost's own digits: a repeated run repeats it."""

    gradient: str = "corrected"
    name: str = "random_reward"

    def at(self, progress: float) -> RandomReward:
        return self

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample:
        return Dsnas().sample(log_alpha, generator)

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor:
        digest = hashlib.sha256(cost.double().cpu().contiguous().numpy().tobytes()).digest()
        noise = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        signs = torch.randint(2, cost.shape[:2], generator=noise).to(cost.dtype)[..., None] * 2 - 1
        return Dsnas(self.gradient).alpha_gradient(log_alpha, sample, cost * signs)


Relaxation = Darts | Snas | Dsnas | Proxyless | Uniform | EqualTraining | RandomReward
