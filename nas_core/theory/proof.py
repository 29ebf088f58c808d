"""The element-wise proof of Theorem 1, equation by equation (Appendix D, Eqs 10–19; H.1, Eqs 23 and 24).

Each step is evaluated on the operations of a traced network, up to their first normalisation: ReLU, convolution v → X,
normalisation X → y, and a cotangent ∂L/∂y. The steps hold for any input v and any cotangent, so the rounding of the
rest of the network does not enter. X̂ = (X − μ)/√(σ²+ε) is the normalised input, γ and β the affine parameters.

**Misprints.** In our copy of the paper the last term of Eq 17, and the same term on the first three lines of Eq 19,
lack the factor X̂ (Eq 24 has it) and Eq 17 divides by CD for BD; the sums of Eq 12 over w_out and h_out run over K + 1
places for K. :func:`printed_gradient` measures the first. Shapes: B images, C channels, H × W pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_core.operations import Norm
from nas_core.theory.broken import layers
from nas_core.theory.evaluation import Stage, Trace
from nas_core.theory.normalization import (
    averaged,
    epsilon_share,
    gradient_error,
    hat_error,
    homogeneity_residual,
    members,
    norm_gradient,
    normalizes,
    roundings,
    statistics,
)
from nas_core.theory.residual import UNIT, Residual, compare, compare_tensors, inner, size, worst


def stages(seen: Trace) -> Iterator[Stage]:
    """The normalised operations on intermediate edges: those that Theorem 1 speaks of."""
    cell = seen.network.config.cell
    for own in seen.cells:
        for (edge, _), stage in own.paths.items():
            if cell.edge_class(edge) == "intermediate" and normalizes(stage):
                yield stage


def _placed(convolution: nn.Conv2d, out: int) -> Iterator[tuple[int, slice]]:
    """``(k, the padded positions that filter place k reads)`` along one dimension."""
    step, gap = convolution.stride[0], convolution.dilation[0]
    for k in range(convolution.kernel_size[0]):
        yield k, slice(k * gap, k * gap + step * (out - 1) + 1, step)


def _dense(convolution: nn.Conv2d) -> Tensor:
    """W ``[C_out, C_in, K, K]`` with the zeros that groups leave out."""
    weight, groups = convolution.weight.detach(), convolution.groups
    full = weight.new_zeros(weight.shape[0], convolution.in_channels, *weight.shape[2:])
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    for group in range(groups):
        block = slice(group * rows, (group + 1) * rows)
        full[block, group * columns : (group + 1) * columns] = weight[block]
    return full


def _side(convolution: nn.Conv2d) -> int:
    """How many zeros a convolution adds on every side; the network's own give it as a number, never as a word."""
    side = convolution.padding[0]
    assert isinstance(side, int)
    return side


def _padded(convolution: nn.Conv2d, v_BCHW: Tensor) -> Tensor:
    side = _side(convolution)
    return F.pad(v_BCHW, (side, side, side, side))


def _places(convolution: nn.Conv2d, weight: Tensor, shape) -> Iterator[tuple[Tensor, slice, slice]]:
    """``(W[:, :, k, l], rows, columns)`` of every filter place, for an output of this shape."""
    for k, rows in _placed(convolution, shape[2]):
        for m, columns in _placed(convolution, shape[3]):
            yield weight[:, :, k, m], rows, columns


def convolved(convolution: nn.Conv2d, v_BCHW: Tensor, like: Tensor, weight: Tensor | None = None) -> Tensor:
    """Eq 14: X[b, c_out, w, h] = Σ_c_in Σ_k Σ_l W[c_out, c_in, k, l] v[b, c_in, w + k, h + l].

    ``like`` has X's shape; stride, dilation and padding as the convolution has them; ``weight`` stands in for W."""
    x, padded = torch.zeros_like(like), _padded(convolution, v_BCHW)
    for place, rows, columns in _places(convolution, _dense(convolution) if weight is None else weight, like.shape):
        x += torch.einsum("oi,bihw->bohw", place, padded[:, :, rows, columns])
    return x


def pulled_back(convolution: nn.Conv2d, gradient_BCHW: Tensor, v_BCHW: Tensor, weight: Tensor | None = None) -> Tensor:
    """Eq 12: ∂L/∂v by index, each entry of v summed over the K × K places of the filter that read it."""
    total, shape = torch.zeros_like(_padded(convolution, v_BCHW)), gradient_BCHW.shape
    for place, rows, columns in _places(convolution, _dense(convolution) if weight is None else weight, shape):
        total[:, :, rows, columns] += torch.einsum("oi,bohw->bihw", place, gradient_BCHW)
    side = _side(convolution)
    return total[:, :, side : total.shape[2] - side, side : total.shape[3] - side]


def exchanged_sums(convolution: nn.Conv2d, gradient_BCHW: Tensor, v_BCHW: Tensor) -> list[float]:
    """Eq 13: Σ over the entries of v of what reads them; the same terms summed over the entries of X; ∂L/∂X in front of
    the inner sum; ⟨∂L/∂X, X⟩. All equal."""
    padded = _padded(convolution, v_BCHW)
    by_output = sum(
        float(torch.einsum("bohw,oi,bihw->", gradient_BCHW, place, padded[:, :, rows, columns]))
        for place, rows, columns in _places(convolution, _dense(convolution), gradient_BCHW.shape)
    )
    return [
        inner(pulled_back(convolution, gradient_BCHW, v_BCHW), v_BCHW),
        by_output,
        inner(gradient_BCHW, convolved(convolution, v_BCHW, gradient_BCHW)),
        inner(gradient_BCHW, convolution(v_BCHW)),
    ]


class _Steps:
    """v → X → y of one operation, and the gradients at each; the cotangent at y is that of the traced network."""

    def __init__(self, stage: Stage):
        self.norm, self.v, self.convolutions = stage.norm, stage.x.detach().clone().requires_grad_(), []
        value = self.v
        for layer in layers(stage.module):
            if layer is stage.norm:
                break
            before, value = value, layer(value)
            if isinstance(layer, nn.Conv2d):
                self.convolutions.append((layer, before, value))
        self.x, self.y = value, stage.norm(value)
        tensors = [self.v, self.x, *(t for _, *both in self.convolutions for t in both)]
        found = torch.autograd.grad(self.y, tensors, stage.gradient_y, retain_graph=True)
        self.gradient_v, self.gradient_x, *rest = found
        self.pairs = list(zip(rest[::2], rest[1::2]))
        (chained,) = torch.autograd.grad(self.x, self.v, self.gradient_x)
        self.chained = chained


def conv_steps(seen: Trace) -> dict[str, Residual]:
    """``{equation: residual}`` of Eqs 10 to 14 on every intermediate edge, convolution by convolution (a separable one
    is two).

    10: the chain rule, ∂L/∂v in one step or through ∂L/∂X. 11: ⟨∂L/∂v, v⟩ = ⟨∂L/∂X, X⟩, for pools too. 12 and 14: the
    gradient and the value by index. 13: the sums exchanged. Bounds: roundings of the sums over filter places, channels
    and entries, times the same sums of absolute values."""
    found: dict[str, list[Residual]] = {str(equation): [] for equation in range(10, 15)}
    for stage in stages(seen):
        steps = _Steps(stage)
        terms = 2 * roundings(stage.module, stage.norm, stage.x, stage.a)
        found["10"].append(
            compare_tensors(steps.gradient_v, steps.chained, bound=terms * UNIT * steps.gradient_v.abs())
        )
        left, right = inner(steps.gradient_v, steps.v), inner(steps.gradient_x, steps.x)
        found["11"].append(compare(left, right, scale=size(steps.gradient_x, stage.size_a), roundings=terms))
        for (layer, v, x), (gradient_v, gradient_x) in zip(steps.convolutions, steps.pairs):
            for name, residual in _by_index(layer, v.detach(), x.detach(), gradient_v, gradient_x).items():
                found[name].append(residual)
    return {name: worst(residuals) for name, residuals in found.items()}


def _by_index(convolution: nn.Conv2d, v: Tensor, x: Tensor, gradient_v: Tensor, gradient_x: Tensor) -> dict:
    """Eqs 12, 13 and 14 of one convolution."""
    absolute = _dense(convolution).abs()
    sizes = convolved(convolution, v.abs(), x, absolute)
    back = pulled_back(convolution, gradient_x.abs(), v, absolute)
    fan = 2 * absolute[0].numel() + 2 * absolute[:, 0].numel() + 8
    lines = exchanged_sums(convolution, gradient_x, v)
    total = fan + 2 * x.numel() + 2 * v.numel()
    return {
        "12": compare_tensors(pulled_back(convolution, gradient_x, v), gradient_v, bound=fan * UNIT * back),
        "13": worst(compare(a, lines[-1], scale=size(gradient_x, sizes), roundings=total) for a in lines[:-1]),
        "14": compare_tensors(convolved(convolution, v, x), x, bound=fan * UNIT * sizes),
    }


def norm_lines(norm: Norm, a_BCHW: Tensor, gradient_BCHW: Tensor) -> list[float]:
    """The four lines of Eq 19 (Eq 24), ⟨∂L/∂X, X⟩ with less and less in it; with G = γ ∂L/∂y:

    the gradient of Eq 17 times X; X − μ for X in its first two terms; the second term gone, Σ(X − μ) being 0; and
    Σ G X̂ (1 − mean X̂²). The paper's last step, mean X̂² = 1, is exact at ε = 0; else 1 − mean X̂² = ε/(σ²+ε)."""
    s, kind = statistics(norm, a_BCHW), norm.normalization
    g = s.gamma * gradient_BCHW
    product = averaged(g * s.hat, kind)
    third = inner(product * s.hat, a_BCHW * s.inverse)
    return [
        inner(g - averaged(g, kind), a_BCHW * s.inverse) - third,
        inner(g - averaged(g, kind), (a_BCHW - s.mean) * s.inverse) - third,
        inner(g, s.hat) - third,
        inner(g * s.hat, 1 - averaged(s.hat**2, kind)),
    ]


def printed_gradient(norm: Norm, a_BCHW: Tensor, gradient_BCHW: Tensor) -> Tensor:
    """Eq 17 as our copy has it: the last term without X̂ and with CD for BD."""
    s, kind, shape = statistics(norm, a_BCHW), norm.normalization, a_BCHW.shape
    g = s.gamma * gradient_BCHW
    count = members(a_BCHW, kind) / (shape[1] * shape[2] * shape[3])
    return (g - averaged(g, kind) - averaged(g * s.hat, kind) * count) * s.inverse


def norm_steps(seen: Trace) -> dict[str, Residual]:
    """``{equation: residual}`` of Eqs 15 to 19 on every intermediate edge; with another normalisation than batch's, Eq
    16 stands for 23 and Eq 19 for 24.

    15: ⟨∂L/∂X, X⟩ = 0 up to ε. 16: the process. 17: ∂L/∂X, and 18: ∂L/∂μ and ∂L/∂σ², against autograd. 19: its lines
    and autograd agree, ε included. Bounds: :func:`~nas_core.theory.normalization.gradient_error` and its
    neighbours."""
    found: dict[str, list[Residual]] = {str(equation): [] for equation in range(15, 20)}
    for stage in stages(seen):
        norm, a, cotangent = stage.norm, stage.a, stage.gradient_y
        free = a.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(norm(free), free, cotangent)
        exact, s = homogeneity_residual(norm, a, cotangent), statistics(norm, a)
        unit, value = UNIT * roundings(norm, norm, a, a), inner(gradient, a)
        found["15"].append(Residual(abs(value), abs(epsilon_share(stage)) + exact.bound, exact.scale))
        bound = s.gamma.abs() * hat_error(norm, a, unit)[0] + unit * s.beta.abs()
        found["16"].append(compare_tensors(s.gamma * s.hat + s.beta, stage.y, bound=2 * bound))
        bound = gradient_error(norm, a, cotangent, unit)[0]
        found["17"].append(compare_tensors(norm_gradient(norm, a, cotangent), gradient, bound=2 * bound))
        for formula, autograd, bound in _moments(norm, a, cotangent, unit):
            found["18"].append(compare_tensors(formula, autograd, bound=bound))
        lines = [*norm_lines(norm, a, cotangent), value]
        found["19"] += [Residual(abs(line - lines[3]), 2 * exact.bound, exact.scale) for line in lines[:3] + lines[4:]]
    return {name: worst(residuals) for name, residuals in found.items()}


def _moments(norm: Norm, a: Tensor, gradient: Tensor, unit: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Eq 18, ∂L/∂μ and ∂L/∂σ² of each group: by the formula, by autograd with μ and σ² set free, and the bound.

    ∂L/∂μ also counts that σ² depends on μ, which adds ∂L/∂σ²·(−2/M) Σ(X − μ): 0, up to the error of X − μ."""
    s, kind, count = statistics(norm, a), norm.normalization, members(a, norm.normalization)
    g, (error, kappa) = s.gamma * gradient, hat_error(norm, a, unit)
    mean = s.mean.detach().clone().requires_grad_()
    variance = averaged((a - mean) ** 2, kind)
    free = variance.detach().clone().requires_grad_()
    y_mean, y_variance = (s.gamma * (a - mean) * (v + kind.eps).rsqrt() + s.beta for v in (variance, free))
    (by_mean,) = torch.autograd.grad(y_mean, mean, gradient)
    (by_variance,) = torch.autograd.grad(y_variance, free, gradient)
    product, moved = averaged(g.abs() * s.hat.abs(), kind), averaged(g.abs() * error, kind)
    sizes = (2 * unit + kappa) * averaged(g.abs(), kind)
    sizes = sizes + (product + moved) * averaged(error + unit * s.hat.abs(), kind)
    yield -count * averaged(g, kind) * s.inverse, count * averaged(by_mean, kind), 2 * count * sizes * s.inverse
    formula = -0.5 * count * averaged(g * s.hat, kind) * s.inverse**2
    sizes = (2 * unit + 2 * kappa) * product + moved
    yield formula, count * averaged(by_variance, kind), count * sizes * s.inverse**2
