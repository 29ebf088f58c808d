"""Measure how the wiring of differentiable architecture search evolves.

The science: :mod:`nas_core.space` (cells), :mod:`nas_core.operations`, :mod:`nas_core.supernet`,
:mod:`nas_core.relaxation`,
:mod:`nas_core.cost` (the probe), :mod:`nas_core.search`, :mod:`nas_core.derive`, :mod:`nas_core.theory`,
:mod:`nas_core.data`.
Running and recording it: :mod:`nas_core.lab`. Presenting it: :mod:`nas_core.pages`. Imports point from pages to lab to
the science."""
