"""Recipes of the experiments on estimators of the cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas_core.data import DataConfig
from nas_core.estimation import EstimatorConfig
from nas_core.supernet import NetworkConfig
from nas_core.verification import EnumerationConfig

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
        sampled_passes=10,
        fixed_passes=50,
    ),
}


def cost_estimators(scale: str) -> EstimatorConfig:
    """B5: sampled, counterfactual, exact and conditioned cost of one minimal cell, before and after training."""
    if scale not in _SCALES:
        raise ValueError(f"scale {scale!r} is unknown; allowed are {', '.join(_SCALES)}")
    return _SCALES[scale]


cost_estimators.experiment = "estimators"  # type: ignore[attr-defined]  # mypy knows no attributes of a function


def estimator_enumeration(scale: str) -> EnumerationConfig:
    """The shared pass against a probe of each of the 8⁵ architectures on one small batch, about as small at every scale."""
    data = cost_estimators(scale).data.dataset
    size = None if data == "digits" else 8
    return EnumerationConfig(data=DataConfig(data, images=8, size=size, held_out=0.0))


estimator_enumeration.experiment = "enumeration"  # type: ignore[attr-defined]

RECIPES: dict[str, Callable[[str], EstimatorConfig] | Callable[[str], EnumerationConfig]] = {
    "cost_estimators": cost_estimators,
    "estimator_enumeration": estimator_enumeration,
}
"""Every recipe by name. A recipe names its experiment in its attribute ``experiment``; without one it is a search."""
