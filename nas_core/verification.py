"""The shared pass of :mod:`nas_core.conditioned` against a probe of *every* architecture of a cell, on one small batch, in float64
(Section 5.1).

Shapes of what is recorded: E edges, K operations."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas_core.conditioned import SharedBatch, every_architecture, layout, table, wiring
from nas_core.cost import probe
from nas_core.data import DataConfig, prepare
from nas_core.operations import Normalization
from nas_core.relaxation import Sample
from nas_core.space import OPERATIONS, Cell
from nas_core.supernet import NetworkConfig, Supernet

_EPS = 1e-3
"""Large enough for the terms in ε to be seen."""


@dataclass(frozen=True)
class EnumerationConfig:
    """Everything that defines the check but its seed: all images that ``data`` has are the one batch."""

    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(channels=2, normalization=Normalization(eps=_EPS))
    )
    data: DataConfig = field(default_factory=lambda: DataConfig("digits", images=8, held_out=0.0))

    def __post_init__(self) -> None:
        wiring(self.network)


def choices(cell: Cell) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of every architecture its place among each edge's candidates, and its operations."""
    for pairs in itertools.product(*(enumerate(edge.indices) for edge in cell.edges)):
        place, choice = zip(*pairs)
        yield place, choice


def _probed(network: Supernet, images: Tensor, labels: Tensor, choice: tuple[int, ...]) -> Tensor:
    """``[E]``: the cost of every edge of one architecture, by a gradient of its own."""
    z = F.one_hot(torch.tensor(choice), len(OPERATIONS))[None].to(images)
    return probe(network, images, labels, Sample(z, z > 0)).cost[0, range(len(choice)), choice]


def _network(config: EnumerationConfig, seed: int, device: str) -> tuple[Supernet, Tensor, Tensor]:
    splits = prepare(config.data, seed, device=device)
    network = Supernet(config.network, image_channels=splits.channels, classes=splits.classes, seed=seed)
    return network.double().to(device), splits.train.images.double(), splits.train.labels


def run(
    config: EnumerationConfig,
    seed: int,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Probe every architecture, and return the largest ``difference`` ``[E]`` to the shared pass, the ``largest`` cost ``[E]``, the
    tables of mean costs ``probed`` and ``shared`` ``[E, K]``, and how many ``architectures`` there were.

    It takes minutes, so ``checkpoint`` is not used: an interrupted run begins anew."""
    network, images, labels = _network(config, seed, device)
    batch, cell = SharedBatch(network, images, labels), config.network.cell
    costs = layout(batch)
    total, seen = torch.zeros(2, len(cell.edges), len(OPERATIONS), dtype=torch.float64)
    difference, largest = torch.zeros(2, len(cell.edges), dtype=torch.float64)
    edges, count = range(len(cell.edges)), math.prod(costs.shape[1:])
    for done, (place, choice) in enumerate(choices(cell), start=1):
        own = _probed(network, images, labels, choice).cpu()
        index: tuple[slice | int, ...] = (slice(None), *place)
        difference = torch.maximum(difference, (own - costs[index]).abs())
        largest = torch.maximum(largest, own.abs())
        total[edges, choice] += own
        seen[edges, choice] += 1
        if progress is not None and (done % 1024 == 0 or done == count):
            progress(done, count)
    shared = table(batch, every_architecture(config.network))
    arrays = {"difference": difference, "largest": largest, "probed": total / seen, "shared": shared}
    return {name: own.numpy() for name, own in arrays.items()} | {"architectures": np.array(count)}


def estimate(config: EnumerationConfig, *, device: str = "cpu", steps: int = 20) -> float:
    """About how many seconds :func:`run` takes here, from a few timed probes."""
    network, images, labels = _network(config, 0, device)
    some = [choice for _, choice in itertools.islice(choices(config.network.cell), steps)]
    start = time.process_time()
    for choice in some:
        _probed(network, images, labels, choice)
    each = (time.process_time() - start) / len(some)
    return each * math.prod(len(edge.indices) for edge in config.network.cell.edges)
