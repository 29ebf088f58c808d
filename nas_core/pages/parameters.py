"""The parameters cell of a notebook, checked: unknown names are refused, strings are parsed, types and ranges are held.

papermill puts ``-p NAME VALUE`` into the notebook's global variables and only warns when the notebook has no such
parameter, so a misspelt name would silently run the defaults. ``bind(globals())``, called right after the parameters
cell, turns that into one sentence.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


class ParameterError(ValueError):
    """A parameter that a notebook does not have, or a value that it cannot take: one sentence."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for its own rendering: who mistyped a value needs the sentence, not the stack.
        return [f"ParameterError: {self}"]


@dataclass(frozen=True)
class Parameters:
    """What a notebook runs with; ``None`` takes the value of the scale (or, for ``minutes``, sets no budget)."""

    scale: str = "small"
    dataset: str = "auto"
    epochs: int | None = None
    seeds: tuple[int, ...] | None = None
    images: int | None = None
    label_noise: float | None = None
    minutes: float | None = 8.0
    workers: int | None = None
    device: str = "cpu"

    def overrides(self) -> dict[str, int | float]:
        """The values that replace a recipe's own, by name: those of ``epochs``, ``images`` and ``label_noise`` that are
        set."""
        given = {name: getattr(self, name) for name in ("epochs", "images", "label_noise")}
        return {name: value for name, value in given.items() if value is not None}

    def at(self, scale: str) -> Parameters:
        """Another scale with its own values on the same machine: what a page sets beside its own."""
        return Parameters(scale, minutes=self.minutes, workers=self.workers, device=self.device)


@dataclass(frozen=True)
class Parameter:
    """One row of :data:`PARAMETERS`: how a value is read, which values pass, and both in words for the error."""

    name: str
    kind: str
    check: Callable[[Any], bool]
    meaning: str
    optional: bool = True


SCALES = ("tiny", "small", "paper")

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("scale", "text", lambda v: v in SCALES, "one of tiny, small, paper", optional=False),
    Parameter(
        "dataset", "text", lambda v: bool(v.strip()), "auto, the name of a dataset, or a folder of class folders", False
    ),
    Parameter("epochs", "whole", lambda v: v >= 1, "a whole number of at least 1"),
    Parameter(
        "seeds",
        "seeds",
        lambda v: len(v) > 0 and min(v) >= 0 and len(set(v)) == len(v),
        "distinct whole numbers of at least 0, such as [0, 1, 2] or 0-4",
    ),
    Parameter(
        "images", "whole", lambda v: v >= 2, "a whole number of at least 2 (training images, both halves together)"
    ),
    Parameter("label_noise", "number", lambda v: 0 <= v < 1, "a share of at least 0 and below 1"),
    Parameter("minutes", "number", lambda v: v > 0, "a number of minutes above 0"),
    Parameter("workers", "whole", lambda v: v >= 1, "a whole number of at least 1 (processes)"),
    Parameter(
        "device", "text", lambda v: re.fullmatch(r"cpu|cuda(:\d+)?", v) is not None, "cpu, cuda or cuda:<number>", False
    ),
)
"""Every parameter that a notebook of the book may have."""

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
_DEFAULTS = {field.name: field.default for field in fields(Parameters)}

# What IPython and papermill (with --inject-paths) put into a notebook's globals themselves.
_FOREIGN = {"In", "Out", "exit", "quit", "open", "get_ipython", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}
_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None))


def bind(namespace: Mapping[str, Any], allowed: Iterable[str] | None = None) -> Parameters:
    """The checked parameters of a notebook.

    ``namespace`` is the notebook's ``globals()``. ``allowed`` names the parameters that this notebook has (default: all
    of :data:`PARAMETERS`); a parameter missing from the namespace keeps its default. Every other plain value (number,
    text, list, tuple, dict, set, ``None``) whose name does not start with an underscore counts as a parameter that the
    notebook lacks.

    It also settles that PyTorch uses one thread in this notebook. Raises :class:`ParameterError` naming what was given,
    what is allowed and, for a misspelt name, the closest one.
    """
    names = tuple(_BY_NAME) if allowed is None else tuple(allowed)
    undeclared = [name for name in names if name not in _BY_NAME]
    if undeclared:
        raise ParameterError(f"bind() was told to allow {undeclared[0]!r}, which is not one of {', '.join(_BY_NAME)}")
    for name, value in namespace.items():
        if name not in names and _looks_like_a_parameter(name, value):
            raise ParameterError(_unknown(name, value, names))
    given = {name: namespace.get(name, _DEFAULTS[name]) for name in names}
    bound = Parameters(**{name: _read(_BY_NAME[name], value) for name, value in given.items()})
    _one_thread()
    return bound


def _one_thread() -> None:
    """What a page computes itself runs on one thread: its networks are too small for two, and its numbers must not depend
    on the cores of a machine. Searches have processes of their own. In a build every kernel starts so; here papermill's does."""
    import torch  # late: who only checks parameters does not wait for it

    torch.set_num_threads(1)


def _looks_like_a_parameter(name: str, value: Any) -> bool:
    return not name.startswith("_") and name not in _FOREIGN and isinstance(value, _PLAIN)


def _unknown(name: str, value: Any, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown parameter {name!r} (given {_short(value)}): this notebook takes {', '.join(names)}{hint}"


def _read(parameter: Parameter, value: Any) -> Any:
    """``value`` as the parameter's kind, or :class:`ParameterError`."""
    if isinstance(value, str) and value.strip().lower() in ("none", "null"):
        value = None
    if value is None and parameter.optional:
        return None
    try:
        parsed = _PARSERS[parameter.kind](value)
        passed = parameter.check(parsed)
    except (TypeError, ValueError, OverflowError):
        passed = False
    if not passed:
        none = ", or None for the default of the scale" if parameter.optional and parameter.name != "minutes" else ""
        none = ", or None for no limit" if parameter.name == "minutes" else none
        raise ParameterError(f"{parameter.name} is {_short(value)}; give {parameter.meaning}{none}")
    return parsed


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    """An int; a string or a float that is exactly one (papermill reads ``1e2`` as 100.0) passes, a bool does not."""
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(value) if isinstance(value, int) else int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _seeds(value: Any) -> tuple[int, ...]:
    """``3``, ``[3, 4]``, ``"[3,4]"``, ``"3, 4"``, ``"0-4"`` or ``"0-2,7"``."""
    if isinstance(value, str):
        parts = value.strip().removeprefix("[").removesuffix("]").split(",")
        return tuple(seed for part in parts for seed in _seed_range(part))
    if isinstance(value, (list, tuple)):
        return tuple(_whole(seed) for seed in value)
    return (_whole(value),)


def _seed_range(text: str) -> range:
    found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", text)
    if found is None:
        raise ValueError
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first or last - first > 9999:
        raise ValueError
    return range(first, last + 1)


_PARSERS: dict[str, Callable[[Any], Any]] = {"text": _text, "whole": _whole, "number": _number, "seeds": _seeds}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
