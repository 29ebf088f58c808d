"""Made-up search results with the shapes of real ones, whose curves are dialled by the caller."""

from __future__ import annotations

import dataclasses
import hashlib
from types import MappingProxyType

import numpy as np

from nas_core import space
from nas_core.space import NONE, OPERATIONS


@dataclasses.dataclass(frozen=True)
class FakeResult:
    arrays: MappingProxyType
    meta: dict


def result(
    seed: int = 0,
    cell: space.Cell | None = None,
    *,
    kept: int | None = None,
    low: int | None = None,
    train_cost: tuple[float, float] = (0.4, -0.6),
    held_cost: tuple[float, float] = (0.4, 1.2),
    wrong: tuple[float, float] = (1.0, -0.5),
    initial_cost: float = 0.05,
    noise: float = 0.05,
    epochs: int = 20,
    cells: int = 2,
    held_out: bool = True,
    statistics: bool = True,
    scale: str = "small",
    dataset: str = "cifar10-jpeg",
    recipe: str = "reference_darts_bilevel",
) -> FakeResult:
    """A run of ``cell`` (default minimal) at ``seed``.

    ``kept`` edges (default 1) end alive, ``low`` (default ``kept``) are alive halfway, all are alive at first. The
    output cost L - H goes from the first to the second value of ``train_cost`` and ``held_cost``. On wrong held-out
    images L is larger by ``wrong[0]`` and H by ``wrong[1]`` than on wrong training images. ``initial_cost`` is the mean
    cost per operation at first. ``noise`` scales what differs from seed to seed.
    """
    cell = cell or space.minimal()
    rng = np.random.default_rng(seed)
    edges, rows = len(cell.edges), epochs + 1
    kept = 1 if kept is None else kept
    low = kept if low is None else low
    evaluated = np.arange(0, rows, max(1, epochs // 10))
    evaluated[-1] = epochs
    time = evaluated / epochs
    arrays = {"probability": _probability(cell, rng, rows, kept, low)}
    arrays["log_alpha"] = np.log(np.maximum(arrays["probability"], 1e-9))
    arrays["evaluated"] = evaluated

    def path(ends):
        ramp = ends[0] + (ends[1] - ends[0]) * time
        return ramp + noise * rng.normal() * (0.5 + time)

    train, held = path(train_cost), path(held_cost)
    entropy = np.stack([2.0 - 1.2 * time, 2.0 - 1.4 * time], axis=1)
    arrays["entropy"] = entropy
    arrays["loss"] = entropy + np.stack([train, held], axis=1)
    score = np.stack([0.1 + 0.6 * time, 0.1 + 0.35 * time], axis=1) + noise * 0.2 * rng.normal(size=2)
    arrays["accuracy"] = score
    arrays["train_accuracy"] = np.interp(np.arange(epochs) + 0.5, evaluated, score[:, 0])
    arrays["train_loss"] = np.interp(np.arange(epochs) + 0.5, evaluated, arrays["loss"][:, 0])
    arrays["split_count"] = np.round(500 * np.stack([score, 1 - score], axis=-1))
    jitter = noise * rng.normal(size=(len(time), 2))
    wrong_loss = 2.3 + 0.2 * time[:, None] * np.array([1, 1]) + jitter
    wrong_entropy = 1.8 - 0.3 * time[:, None] * np.array([1, 1]) + jitter
    wrong_loss[:, 1] += wrong[0] * time
    wrong_entropy[:, 1] += wrong[1] * time
    right_loss = 0.9 - 0.6 * time[:, None] + jitter
    arrays["split_loss"] = np.stack([right_loss, wrong_loss], axis=-1)
    arrays["split_entropy"] = np.stack([right_loss + 0.4, wrong_entropy], axis=-1)
    mask = np.array(cell.mask())
    slope = np.stack([train - train[0], held - held[0]], axis=1) / edges
    base = (
        initial_cost
        + slope[:, :, None, None, None]
        + noise * 0.2 * rng.normal(size=(len(time), 2, cells, edges, len(OPERATIONS)))
    )
    base[..., :-1, :, :] *= 0.05
    base[..., NONE] = 0
    arrays["cost_mean"] = np.where(mask, base, np.nan)
    arrays["cost_variance"] = np.where(mask, 0.01, np.nan) * np.ones(base.shape)
    arrays["cost_count"] = np.where(mask, 10, 0) * np.ones(base.shape, dtype=int)
    share = np.arange(1, edges + 1) / np.arange(1, edges + 1).sum()
    output = arrays["loss"] - arrays["entropy"]
    arrays["edge_cost"] = output[:, :, None, None] * share * np.where(np.arange(cells) == cells - 1, 1, 0.02)[:, None]
    steps = np.interp(np.arange(epochs) + 0.5, evaluated, held if held_out else train) / edges
    step = steps[:, None, None, None] + noise * 0.3 * rng.normal(size=(epochs, cells, edges, len(OPERATIONS)))
    step[..., NONE] = 0
    arrays["step_cost_mean"] = np.where(mask, step, np.nan)
    arrays["step_cost_variance"] = np.where(mask, 0.01, np.nan) * np.ones(step.shape)
    arrays["step_cost_count"] = np.where(mask, 10, 0) * np.ones(step.shape, dtype=int)
    count = cells if statistics else 0
    for name in ("mean", "variance", "count"):
        arrays[f"statistics_{name}"] = arrays[f"cost_{name}"][-1, 0][:count]
    arrays["test_accuracy"] = np.array(score[-1, 1])
    if not held_out:
        for name in ("accuracy", "loss", "entropy", "split_loss", "split_entropy", "cost_mean", "edge_cost"):
            arrays[name] = np.array(arrays[name], dtype=float)
            arrays[name][:, 1] = np.nan
    meta = _meta(seed, cell, epochs, scale, dataset, recipe, held_out)
    return FakeResult(MappingProxyType(arrays), meta)


def runs(count: int = 5, first: int = 0, **dials) -> list[FakeResult]:
    """``count`` runs that differ in their seed."""
    return [result(seed, **dials) for seed in range(first, first + count)]


def _probability(cell: space.Cell, rng, rows: int, kept: int, low: int) -> np.ndarray:
    """``[R, 1, E, K]``: uniform at first; edges beyond ``low`` are dropped halfway, edges beyond ``kept`` at the
    end."""
    mask = np.array(cell.mask(), dtype=float)
    logits = np.zeros((rows, *mask.shape))
    logits += rng.normal(size=mask.shape) * np.linspace(0, 0.8, rows)[:, None, None]
    time = np.linspace(0, 1, rows)
    for edge in range(len(cell.edges)):
        middle = 0 if edge < low else 4
        end = 0 if edge < kept else 4
        push = np.interp(time, [0, 0.5, 1], [0, middle, end])
        logits[:, edge, NONE] = np.where(push > 0, push, -4 * time)
    weight = np.exp(logits) * mask
    return (weight / weight.sum(axis=-1, keepdims=True))[:, None]


def _meta(seed, cell, epochs, scale, dataset, recipe, held_out) -> dict:
    data = {
        "dataset": dataset, "sha256": "0" * 64, "images": 2000, "size": 16, "label_noise": 0.1,
        "held_out": 0.5 if held_out else 0.0, "augment": "none",
    }  # fmt: skip
    config = {"network": {"cell": cell.to_dict()}, "data": data, "epochs": epochs}
    ident = hashlib.sha256(repr(config).encode()).hexdigest()[:12]
    return {
        "experiment": "search", "ident": ident, "seed": seed, "code": "abcdef012345", "recipe": recipe, "scale": scale,
        "config": config, "dataset": {"name": dataset, "sha256": "0" * 64}, "device": "cpu", "threads": 1,
        "torch": "2.14.1", "python": "3.11", "numpy": "2", "platform": "test", "seconds": 1.0, 
        "created": "2020-01-01T00:00:00Z", "attested": None,
    }  # fmt: skip
