"""Measure how the wiring of differentiable architecture search evolves.

The science: :mod:`nas_core.space` (cells), :mod:`nas_core.operations`, :mod:`nas_core.supernet`,
:mod:`nas_core.relaxation`,
:mod:`nas_core.cost` (the probe), :mod:`nas_core.search`, :mod:`nas_core.derive`, :mod:`nas_core.theory`,
:mod:`nas_core.data`.
Running and recording it: :mod:`nas_core.lab`. Presenting it: :mod:`nas_core.pages`. Imports point from pages to lab to
the science."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """``nas_core.audit``, imported once it is asked for, so that ``nas_core.audit(method, cell)`` needs no second import.

    It is the module, which is callable: what the name means must not depend on who imported the module first. Its name is
    computed, so that the fingerprint of recorded results does not come to cover the audit."""
    if name == "audit":
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
