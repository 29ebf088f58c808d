"""What a check of an identity returns: how far its two sides differ, and how far they may.

Bounds are running error bounds (Higham, 2002, Section 3.3), to first order in the unit roundoff u: the two sides of an
identity are equal in exact arithmetic, so what is computed for them differs by at most n · u · (the same expression
with every number replaced by its absolute value and every subtraction by an addition), n being the number of roundings
along its longest chain of operations. The last factor is the ``scale``; it is computed from the numbers at hand, not
estimated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

UNIT = 2.0**-53
"""The unit roundoff u of float64: half the distance from 1 to the next number."""


ALLOWANCE = 64
"""How much luckier than another one draw of rounding errors may be: see :func:`from_single`."""


def from_single(value: float) -> float:
    """The bound in float64 of a quantity that is nothing but rounding, given the size that it has in float32.

    Rounding errors are proportional to the unit roundoff, 2⁻⁵³ instead of 2⁻²⁴; two evaluations draw them differently,
    hence the allowance. For chains that are too long for a bound of the running kind to say anything."""
    return ALLOWANCE * 2.0**-29 * value


@dataclass(frozen=True)
class Residual:
    """The two sides of an identity on one or more comparisons.

    ``value`` is the largest |left − right|, ``bound`` the largest it may be, ``scale`` the largest size of what had to
    cancel, ``cases`` the number of comparisons, and ``used`` the largest share of a comparison's own bound that its
    value takes: at most 1 where the identity holds."""

    value: float
    bound: float
    scale: float
    cases: int = 1
    used: float = -1.0

    def __post_init__(self) -> None:
        if self.used < 0:
            object.__setattr__(self, "used", _share(self.value, self.bound))

    @property
    def held(self) -> bool:
        """Whether every comparison stayed within its bound."""
        return self.used <= 1


def _share(value: float, bound: float) -> float:
    """value/bound; 0 for 0/0, and infinite for anything that is not a number."""
    if math.isnan(value) or math.isnan(bound):
        return math.inf
    return value / bound if bound > 0 else (math.inf if value > 0 else 0.0)


def compare(left: float, right: float, *, scale: float, roundings: float, epsilon: float = 0.0) -> Residual:
    """|left − right| against ``roundings``·u·``scale``, plus what a normalisation's ε accounts for."""
    return Residual(abs(left - right), epsilon + roundings * UNIT * scale, scale)


def compare_tensors(left: Tensor, right: Tensor, *, bound: Tensor) -> Residual:
    """The same entry by entry, each entry against its own ``bound``; ``scale`` is the largest entry."""
    left, right, bound = left.detach(), right.detach(), bound.detach()
    gap = (left - right).abs()
    share = torch.where(gap > 0, gap / bound, torch.zeros_like(gap))
    used = math.inf if share.isnan().any() else float(share.max())
    largest = float(torch.maximum(left.abs(), right.abs()).max())
    return Residual(float(gap.max()), float(bound.max()), largest, used=used)


def worst(residuals: Iterable[Residual]) -> Residual:
    """All comparisons as one; without any, a residual of 0 cases."""
    found = list(residuals)
    return Residual(
        value=max((r.value for r in found), default=0.0, key=_ordered),
        bound=max((r.bound for r in found), default=0.0, key=_ordered),
        scale=max((r.scale for r in found), default=0.0, key=_ordered),
        cases=sum(r.cases for r in found),
        used=max((r.used for r in found), default=0.0),
    )


def _ordered(number: float) -> float:
    """What is not a number counts as larger than anything."""
    return math.inf if math.isnan(number) else number


def inner(left: Tensor, right: Tensor) -> float:
    """⟨left, right⟩, the sum over all entries."""
    return float((left.detach() * right.detach()).sum())


def size(left: Tensor, right: Tensor) -> float:
    """⟨|left|, |right|⟩: the scale of :func:`inner`."""
    return inner(left.abs(), right.abs())
