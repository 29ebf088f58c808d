"""The cost at the output of the last cell: Theorem 2, ΣC = L − H, and its sign (Section 5.2, Appendix F).

Pooling and a linear head without bias are homogeneous of degree 1, so by Euler's theorem the cost at the output node is
that at the logits, ⟨∂L/∂X, X⟩ = ⟨∂L/∂Y, Y⟩ = (1/B) Σ_b [Σ_n p_n Y_n − Y_label] = L − H. A bias b adds ⟨∂L/∂b, b⟩ to
the right side's subtrahend: ⟨∂L/∂Y, Y − b⟩ = L − H − ⟨∂L/∂b, b⟩.

The sum runs over *all* nodes that the output concatenates; a single node's part is not L − H. Shapes: B images,
n classes, C channels, D pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.cost import loss_and_entropy
from nas_core.relaxation import Sample, Uniform, masked
from nas_core.space import OPERATIONS
from nas_core.supernet import NetworkConfig, Supernet
from nas_core.theory.evaluation import Trace
from nas_core.theory.residual import UNIT, Residual, compare_tensors, inner, size, worst


def logit_cost(logits_Bn: Tensor, labels_B: Tensor) -> Tensor:
    """Eq 9, image by image: Σ_n p_n Y_n − Y_label ``[B]``, in float64. Its mean is L − H."""
    y = logits_Bn.double()
    return (F.softmax(y, 1) * y).sum(1) - y.gather(1, labels_B[:, None])[:, 0]


def logit_size(logits_Bn: Tensor, labels_B: Tensor) -> Tensor:
    """The scale of L − H and of Eq 9, image by image: an exponential of Y − max Y is off by |Y − max Y| roundings, a
    logarithm of the sum by the size of the largest logit."""
    y = logits_Bn.double().abs()
    chance, largest = F.softmax(logits_Bn.double(), 1), y.max(1).values
    taken = (chance * y).sum(1) + y.gather(1, labels_B[:, None])[:, 0] + largest + math.log(y.shape[1])
    return 2 * taken * (1 + 2 * largest)


def logit_residual(logits_Bn: Tensor, labels_B: Tensor) -> Residual:
    """Eqs 8 and 9: Σ_n p_n Y_n − Y_label = L − H, image by image, for any logits and labels."""
    loss, entropy = loss_and_entropy(logits_Bn, labels_B)
    unit = (4 * logits_Bn.shape[1] + 32) * UNIT
    return compare_tensors(
        logit_cost(logits_Bn, labels_B), loss - entropy, bound=unit * logit_size(logits_Bn, labels_B)
    )


def bias_term(network: Supernet, logits_Bn: Tensor, labels_B: Tensor) -> float:
    """⟨∂L/∂b, b⟩ = (1/B) Σ_b Σ_n (p_n − [n = label]) b_n, what a head with bias takes off Theorem 2; 0 without one."""
    if network.head.bias is None:
        return 0.0
    wrong = F.softmax(logits_Bn, 1) - F.one_hot(labels_B, logits_Bn.shape[1])
    return inner(wrong.mean(0), network.head.bias)


def _output(seen: Trace) -> tuple[Tensor, Tensor]:
    """X_out ``[B, C, H, W]`` of the last cell, and ∂L/∂X_out."""
    nodes, own = seen.network.config.cell.outputs, seen.cells[-1]
    return torch.cat([own.nodes[n] for n in nodes], 1), torch.cat([own.leaving[n] for n in nodes], 1)


def _head_size(seen: Trace) -> Tensor:
    """|W| |X_p| + |b| ``[B, n]``: the scale of the logits."""
    features, _ = _output(seen)
    bias = 0 if seen.network.head.bias is None else seen.network.head.bias.detach().abs()
    return features.abs().mean((2, 3)) @ seen.network.head.weight.detach().abs().T + bias


def head_bound(seen: Trace) -> float:
    """How far rounding may set ⟨∂L/∂X_out, X_out⟩ of the last cell apart from L − H − ⟨∂L/∂b, b⟩.

    ⟨|∂L/∂X|, |X|⟩ for the product at the features, ⟨|∂L/∂Y|, |W||X_p| + |b|⟩ for the head, and
    :func:`logit_size` for the step from the logits to L − H."""
    (features, gradient), logits = _output(seen), _head_size(seen)
    classes, batch = seen.logits.shape[1], len(seen.logits)
    steps = 2 * features.numel() + features[0, 0].numel() + features.shape[1] + 4 * classes + batch + 64
    chance = F.softmax(seen.logits, 1) + F.one_hot(seen.labels, classes)
    scale = 2 * size(gradient, features) + 2 * inner(chance, logits) / batch
    return steps * UNIT * (scale + float(logit_size(seen.logits, seen.labels).mean()))


def output_parts(seen: Trace) -> dict[int, float]:
    """⟨∂L/∂X_out^j, X_j⟩ of every output node j. Their sum is L − H − ⟨∂L/∂b, b⟩; none of them is, if there are two."""
    own = seen.cells[-1]
    return {node: inner(own.leaving[node], own.nodes[node]) for node in seen.network.config.cell.outputs}


def output_lines(seen: Trace) -> list[float]:
    """The seven lines of Eq 21, one number each; with a head that has a bias, b is taken off Y and ⟨∂L/∂b, b⟩ off the
    lines that follow. (As printed, the first terms stand inside a sum over n that would count them n times.)"""
    (features, gradient), head = _output(seen), seen.network.head
    batch, pixels = len(features), features[0, 0].numel()
    chance, pooled = F.softmax(seen.logits, 1), features.mean((2, 3))
    weights = chance @ head.weight.detach() - head.weight.detach()[seen.labels]
    plain = seen.logits if head.bias is None else seen.logits - head.bias.detach()
    lse, bias = seen.logits.logsumexp(1), bias_term(seen.network, seen.logits, seen.labels)
    label = seen.logits.gather(1, seen.labels[:, None])[:, 0]
    loss, entropy = loss_and_entropy(seen.logits, seen.labels)
    return [
        inner(gradient, features),
        float(torch.einsum("bc,bchw->", weights, features)) / (batch * pixels),
        inner(weights, pooled) / batch,
        float(((chance * plain).sum(1) - plain.gather(1, seen.labels[:, None])[:, 0]).mean()),
        float((-label + (chance * seen.logits).sum(1) + lse - lse).mean()) - bias,
        float((lse - label + (chance * (seen.logits - lse[:, None])).sum(1)).mean()) - bias,
        float((loss - entropy).mean()) - bias,
    ]


def lines_residual(seen: Trace) -> Residual:
    """Eq 21: the seven lines agree."""
    lines, scale = output_lines(seen), size(*_output(seen))
    return worst(Residual(abs(line - lines[-1]), head_bound(seen), scale) for line in lines[:-1])


def feature_residual(seen: Trace) -> Residual:
    """Eq 22: ∂L/∂X_out by index, (1/BD)(Σ_n p_n w_cn − w_c,label), against autograd."""
    (features, gradient), head = _output(seen), seen.network.head.weight.detach()
    count = features.numel() // features.shape[1]
    chance = F.softmax(seen.logits, 1)
    by_index = ((chance @ head - head[seen.labels]) / count)[:, :, None, None].expand_as(features)
    # p_n is off by as many roundings as its logit has, times the size of that logit's terms.
    own = (1 + 2 * _head_size(seen).max()) * (chance @ head.abs() + head.abs()[seen.labels]) / count
    steps = 4 * seen.logits.shape[1] + features.shape[1] + features[0, 0].numel() + 64
    return compare_tensors(gradient, by_index, bound=steps * UNIT * own[:, :, None, None].expand_as(features))


def chance_cost(logits_Bn: Tensor) -> Tensor:
    """E[L − H] ``[B]`` when the label is uniformly random: Σ_n (p_n − 1/n) Y_n = KL(p‖u) + KL(u‖p) ≥ 0, u uniform.

    Softmax keeps the order of the logits, so by Chebyshev's sum inequality it is never negative, for any logits and at
    any time: a network at chance pays. No Gaussian is needed for the theorem's "positive at low accuracy"."""
    y = logits_Bn.double()
    return ((F.softmax(y, 1) - 1 / y.shape[1]) * y).sum(1)


def chance_residual(logits_Bn: Tensor) -> Residual:
    """:func:`chance_cost` is not negative, and it is the divergence KL(p‖u) + KL(u‖p)."""
    log_p, found = F.log_softmax(logits_Bn.double(), 1), chance_cost(logits_Bn)
    uniform = -math.log(log_p.shape[1])
    divergence = (log_p.exp() * (log_p - uniform)).sum(1) + (uniform - log_p).mean(1)
    scale = logit_size(logits_Bn, logits_Bn.abs().argmax(1))
    steps = 4 * log_p.shape[1] + 32
    negative = Residual(float((-found).clamp(min=0).max()), steps * UNIT * float(scale.max()), float(found.max()))
    return worst([compare_tensors(found, divergence, bound=steps * UNIT * scale), negative])


def correct_residual(logits_Bn: Tensor, labels_B: Tensor) -> Residual:
    """What "negative at high accuracy" rests on, for each image: if its label's logit is largest, Σ p_n Y_n ≤ Y_label.

    ``value`` is the largest positive cost of a correctly classified image; ``cases`` counts those images."""
    cost, right = logit_cost(logits_Bn, labels_B), logits_Bn.argmax(1) == labels_B
    if not bool(right.any()):
        return worst([])
    scale = float(logit_size(logits_Bn, labels_B)[right].max())
    bound = (4 * logits_Bn.shape[1] + 32) * UNIT * scale
    return Residual(float(cost[right].clamp(min=0).max()), bound, scale, cases=int(right.sum()))


def lowest_cost(classes: int) -> float:
    """The least value of L − H over all logits: −W((n−1)/e), W Lambert's function.

    Given p_label, H is largest where the rest is spread evenly; with Y_label = a and other logits 0 the cost is
    −a(n−1)/(e^a + n − 1), least where (a−1)e^(a−1) = (n−1)/e. So the cost of a certain network, L = H = 0, is above
    its minimum: near the end of training it rises again."""
    # W(x) < log(1 + x), and from above Newton's steps go down to it without overshooting.
    w = math.log1p((classes - 1) / math.e)
    for _ in range(50):
        w -= (w * math.exp(w) - (classes - 1) / math.e) / (math.exp(w) * (w + 1))
    return -w


def gaussian_cost(s: float, classes: int) -> float:
    """E[L − H] for logits that are independently N(0, s²) whatever the label: s²(1 − E Σ_n p_n²) > 0, for every s.

    Gaussian integration by parts, E[Y p(Y)] = s² E[∂p/∂Y], gives the formula. Its expectation is a double integral:
    with 1/(Σ_n e^Y_n)² = ∫ t e^(−t Σ e^Y) dt, E[p_1 p_2] = ∫ t φ_1(t)² φ_0(t)^(n−2) dt, where φ_k(t) =
    E[e^(kY − t e^Y)]; both by the trapezoidal rule, which converges geometrically here."""
    if s == 0:
        return 0.0
    y = np.linspace(-12.0, 12.0, 1201)
    density = np.exp(-(y**2) / 2) / math.sqrt(2 * math.pi) * (y[1] - y[0])
    step = 0.15
    log_t = np.arange(-12 * s - math.log(classes) - 12, 12 * s + 5, step)
    exponent = -np.exp(np.minimum(log_t[:, None] + s * y, 700.0))
    phi_0 = np.exp(exponent) @ density
    # e^(Y + log t) instead of e^Y keeps large and small factors together; t·φ_1² dt = (t φ_1)² d log t.
    phi_1 = np.exp(exponent + log_t[:, None] + s * y) @ density
    pairs = np.sum(phi_1**2 * phi_0 ** (classes - 2)) * step
    return float(s**2 * classes * (classes - 1) * pairs)


def gaussian_cost_small(s: float, classes: int) -> float:
    """The same for small s: s²(1 − 1/n) − s⁴(n−1)/n², from Σ p² ≈ 1/n + (1/n²) Σ(Y − mean Y)²."""
    return s**2 * (1 - 1 / classes) - s**4 * (classes - 1) / classes**2


@dataclass(frozen=True)
class InitialCosts:
    """L − H at initialisation: one of ``costs`` a seed, what Gaussian logits of the same variance cost
    (``predicted``), and the standard error of the mean difference."""

    costs: np.ndarray
    predicted: np.ndarray

    @property
    def share_positive(self) -> float:
        """The share of initialisations with a positive cost."""
        return float((self.costs > 0).mean())

    @property
    def mean(self) -> float:
        """The mean cost over initialisations."""
        return float(self.costs.mean())

    @property
    def standard_error(self) -> float:
        """Of :attr:`mean`."""
        return float(self.costs.std(ddof=1) / math.sqrt(len(self.costs)))

    @property
    def z(self) -> float:
        """How many standard errors the mean of ``costs`` − ``predicted`` lies from 0."""
        gap = self.costs - self.predicted
        return float(gap.mean() / (gap.std(ddof=1) / math.sqrt(len(gap))))


def initial_costs(config: NetworkConfig, images: Tensor, labels: Tensor, seeds: Iterable[int]) -> InitialCosts:
    """L − H of one uniformly sampled architecture per seed, at initialisation, against :func:`gaussian_cost`.

    PyTorch draws the head's weights uniformly from ±1/√F, F features: given an image's pooled features X_p its logits
    are independent, with mean 0 and variance s² = |X_p|²/(3F) (plus 1/(3F) for a bias), and nearly Gaussian."""
    costs, spreads = [], []
    for seed in seeds:
        network = Supernet(config, classes=int(labels.max()) + 1, image_channels=images.shape[1], seed=seed)
        network = network.to(images.device, torch.float64)
        generator = torch.Generator().manual_seed(seed)
        shape = (config.groups, len(config.cell.edges), len(OPERATIONS))
        sample = Uniform().sample(masked(torch.zeros(shape, dtype=torch.float64), config.cell), generator)
        logits, pooled = _pooled(network, images.double(), sample)
        features = pooled.shape[1]
        variance = (pooled.square().sum(1) + (0 if network.head.bias is None else 1)) / (3 * features)
        costs.append(float(logit_cost(logits, labels).mean()))
        spreads.append(variance.sqrt().cpu().numpy())
    return InitialCosts(np.array(costs), _gaussian_costs(np.array(spreads), logits.shape[1]).mean(1))


def _pooled(network: Supernet, images: Tensor, sample: Sample) -> tuple[Tensor, Tensor]:
    """Logits, and the pooled features ``[B, F]`` that the head made them of."""
    seen = []
    handle = network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        logits = network(images, sample)
    handle.remove()
    return logits, seen[0]


def _gaussian_costs(s: np.ndarray, classes: int) -> np.ndarray:
    """:func:`gaussian_cost` of many s: cost/s² is smooth, so it is interpolated on 17 points."""
    grid = np.linspace(0, max(float(s.max()), 1e-6), 17)[1:]
    ratios = np.array([gaussian_cost(value, classes) / value**2 for value in grid])
    return s**2 * np.interp(s, np.concatenate([[0], grid]), np.concatenate([[1 - 1 / classes], ratios]))


@dataclass(frozen=True)
class Dynamics:
    """Changes from one record to the next of C, L and H; ``residual`` of dC = dL − dH; ``mismatch`` the largest
    |C − (L − H)| of the records themselves."""

    cost_change: np.ndarray
    loss_change: np.ndarray
    entropy_change: np.ndarray
    residual: Residual
    mismatch: float

    @property
    def falls(self) -> np.ndarray:
        """Where the cost falls: exactly where the loss changes by less than the entropy does."""
        return self.loss_change < self.entropy_change


def dynamics(loss: np.ndarray, entropy: np.ndarray, cost: np.ndarray) -> Dynamics:
    """dC/dt = dL/dt − dH/dt on recorded curves ``[T]`` (Section 5.2), as finite differences.

    Nothing but Theorem 2 again: the residual of the differences is at most twice the ``mismatch`` of the curves. The
    bound is that of rounding in the precision of the arrays: curves from a network with skips, or summed in another
    precision than they are stored in, exceed it."""
    unit = max(float(np.finfo(np.asarray(curve).dtype).eps) / 2 for curve in (loss, entropy, cost))
    loss, entropy, cost = (np.asarray(curve, dtype=np.float64) for curve in (loss, entropy, cost))
    d_cost, d_loss, d_entropy = (np.diff(curve) for curve in (cost, loss, entropy))
    sizes = np.abs(cost) + np.abs(loss) + np.abs(entropy)
    gap = np.abs(d_cost - (d_loss - d_entropy))
    bound = 4 * unit * (sizes[1:] + sizes[:-1])
    found = worst(Residual(float(g), float(b), float(c)) for g, b, c in zip(gap, bound, np.abs(d_loss)))
    return Dynamics(d_cost, d_loss, d_entropy, found, mismatch=float(np.abs(cost - (loss - entropy)).max()))
