"""Recipes of the experiment that compares estimators of the cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas_core.data import DataConfig
from nas_core.estimation import EstimatorConfig
from nas_core.supernet import NetworkConfig

_BASE = EstimatorConfig(network=NetworkConfig())
_SCALES = {
    "tiny": replace(
        _BASE,
        data=DataConfig("digits", images=400, label_noise=0.4, held_out=0.0),
        batch_size=32,
        epochs=20,
        fixed_passes=8,
    ),
    "small": replace(
        _BASE,
        data=DataConfig("cifar10", images=2000, size=16, held_out=0.0, augment="crop-flip"),
        batch_size=64,
        epochs=10,
        fixed_passes=25,
    ),
    "paper": replace(
        _BASE,
        data=DataConfig("cifar10", held_out=0.0, augment="crop-flip"),
        batch_size=96,
        epochs=150,
        fixed_passes=50,
    ),
}


def cost_estimators(scale: str) -> EstimatorConfig:
    """B5: sampled, counterfactual, exact and conditioned cost of one minimal cell, before and after training."""
    if scale not in _SCALES:
        raise ValueError(f"scale {scale!r} is unknown; allowed are {', '.join(_SCALES)}")
    return _SCALES[scale]


cost_estimators.experiment = "estimators"  # type: ignore[attr-defined]  # mypy knows no attributes of a function

RECIPES: dict[str, Callable[[str], EstimatorConfig]] = {"cost_estimators": cost_estimators}
"""Every recipe by name. A recipe names its experiment in its attribute ``experiment``; without one it is a search."""
