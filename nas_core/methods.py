"""What a search method must be for :func:`nas_core.audit.audit`, and a trial that says what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nas_core.relaxation import Sample, masked
from nas_core.space import OPERATIONS, Cell


class AuditError(ValueError):
    """A method, or a request, that cannot be audited: one sentence."""

    def _render_traceback_(self) -> list[str]:
        return [f"AuditError: {self}"]  # in a notebook the sentence stands alone


class Method(Protocol):
    """The two functions of a relaxation, as :mod:`nas_core.relaxation` describes them. ``at(progress)``, for what is annealed,
    ``probability(log_alpha)`` and ``name`` may be added."""

    def sample(self, log_alpha: Tensor, generator: torch.Generator) -> Sample: ...

    def alpha_gradient(self, log_alpha: Tensor, sample: Sample, cost: Tensor) -> Tensor: ...


Train = Callable[[Cell, int], Any]
"""A function that trains by itself: of a cell and a seed."""

FUNCTIONS = ("sample", "alpha_gradient")


@dataclass(frozen=True)
class Unchanging:
    """A method that brought no ``at``: the same at every share of a search, which asks for one."""

    method: Any

    @property
    def name(self) -> str:
        return name_of(self.method)

    def at(self, progress: float) -> Unchanging:
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "method" or name.startswith("__"):  # asked for by a copy that has no fields yet
            raise AttributeError(name)
        return getattr(self.method, name)


def with_at(method: Any) -> Any:
    """The method itself, or where it lacks ``at`` the same with one."""
    return method if callable(getattr(method, "at", None)) else Unchanging(method)


def name_of(method: Any) -> str:
    """What a method calls itself, or its class's name."""
    own = getattr(method, "name", None)
    return own if isinstance(own, str) and own else getattr(method, "__name__", type(method).__name__)


def is_relaxation(method: Any) -> bool:
    """Whether it has a relaxation's two functions."""
    return all(callable(getattr(method, name, None)) for name in FUNCTIONS)


def check(method: Any, cell: Cell) -> None:
    """Try a method's functions on uniform and on random α of ``cell``. Raises :class:`AuditError` for what a search would
    stumble over: one sentence that says what came back and what should."""
    if isinstance(method, type):
        name = method.__name__
        raise AuditError(f"{name} is a class; give an object of it, such as {name}()")
    name = name_of(method)
    if not is_relaxation(method):
        if callable(method):
            return
        missing = [own for own in FUNCTIONS if not callable(getattr(method, own, None))]
        raise AuditError(
            f"{name} lacks {', '.join(missing)}; give it a relaxation's sample and alpha_gradient, or give a function "
            f"train(cell, seed)"
        )
    _check_baseline(method, name)
    whole = with_at(method)
    shape_GEK = (1, len(cell.edges), len(OPERATIONS))
    noise = torch.randn(shape_GEK, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for progress in (0.0, 1.0):
        now = call_of(name, "at", whole.at, progress)
        if not is_relaxation(now):
            raise AuditError(f"{name}.at({progress:g}) returned {now!r}; return the relaxation itself, or a copy of it")
        for log_alpha in (masked(torch.zeros_like(noise), cell), masked(noise, cell)):
            _check_once(name, now, log_alpha, cell)


def _check_baseline(method: Any, name: str) -> None:
    given = getattr(method, "baseline", None)
    if given is not None and not (isinstance(given, (int, float)) and 0 <= given < 1):
        raise AuditError(
            f"{name}.baseline is {given!r}, but a search reads this attribute as the decay of a running mean of rewards; give a "
            f"number from 0 up to, not including, 1, or another name"
        )


def call_of(name: str, function: str, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        sentence = " ".join(str(error).split())
        raise AuditError(f"{name}.{function} failed with {type(error).__name__}: {sentence}") from error


def _check_once(name: str, method: Any, log_alpha: Tensor, cell: Cell) -> None:
    candidates = torch.isfinite(log_alpha)
    drawn = [call_of(name, "sample", method.sample, log_alpha, torch.Generator().manual_seed(1)) for _ in range(2)]
    sample = drawn[0]
    if not isinstance(sample, Sample):
        raise AuditError(f"{name}.sample returned {type(sample).__name__}; return a nas_core.relaxation.Sample")
    _check_tensor(f"{name}.sample's z", sample.z, log_alpha, cell)
    if sample.active.shape != log_alpha.shape or sample.active.dtype != torch.bool:
        raise AuditError(f"{name}.sample's active is not a mask of bool of the shape {tuple(log_alpha.shape)}")
    if bool(((sample.z != 0) & ~candidates).any() or (sample.active & ~candidates).any()):
        raise AuditError(f"{name}.sample weighs or activates an operation that its edge lacks, where log_alpha is -inf")
    if bool(((sample.z != 0) & ~sample.active).any()):
        raise AuditError(
            f"{name}.sample gives an operation a weight but does not activate it; active must hold where z is not 0"
        )
    if not torch.equal(sample.z, drawn[1].z):
        raise AuditError(
            f"{name}.sample draws from elsewhere than the generator it is given, so no run could be repeated"
        )
    cost = torch.linspace(-1, 1, log_alpha.numel(), dtype=log_alpha.dtype).reshape(log_alpha.shape)
    cost = torch.where(sample.active, cost, 0)
    gradient = call_of(name, "alpha_gradient", method.alpha_gradient, log_alpha, sample, cost)
    _check_tensor(f"{name}.alpha_gradient", gradient, log_alpha, cell)
    if callable(getattr(method, "probability", None)):
        p = call_of(name, "probability", method.probability, log_alpha)
        _check_tensor(f"{name}.probability", p, log_alpha, cell)
        if bool((p < 0).any() or (p[~candidates] != 0).any()):
            raise AuditError(f"{name}.probability is negative, or not 0 where an edge lacks the operation")


def _check_tensor(what: str, given: Any, like: Tensor, cell: Cell) -> None:
    if not isinstance(given, Tensor) or given.shape != like.shape:
        got = f"the shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"the type {type(given).__name__}"
        raise AuditError(
            f"{what} has {got}; for the {cell.name} cell it must be a tensor of the shape {tuple(like.shape)}"
        )
    if not torch.isfinite(given).all():
        raise AuditError(
            f"{what} is not finite; log_alpha is -inf where an edge lacks an operation, so mind 0 times inf"
        )
