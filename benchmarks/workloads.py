"""What is timed: the training and measuring steps of a search, as data, and the step of every side.

A *side* is one way to do the same step: the engine, or one of :mod:`benchmarks.plain`. All sides of a workload get the
same initial weights, images, labels and samples. θ's optimiser step belongs to the step; α's does not, it is the same few
numbers on every side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import plain
from nas_core.config import ThetaConfig
from nas_core.cost import Measurement, probe
from nas_core.relaxation import Darts, Dsnas, Relaxation, Sample, Snas, Uniform, masked
from nas_core.space import OPERATIONS, darts
from nas_core.supernet import NetworkConfig, Supernet

ENGINE, PLAIN, SAMPLED, PUBLISHED = "engine", "plain", "sampled", "published"


@dataclass(frozen=True)
class Kind:
    """A kind of step: how Z is drawn, whether θ moves, whether α has a batch of its own, and the sides beside the
    engine. Where ``PUBLISHED`` is missing, the published step is the plain one, or there is none."""

    relaxation: Relaxation
    trains: bool
    own_batch: bool
    others: tuple[str, ...]
    words: str


KINDS = {
    "theta": Kind(Dsnas(), True, False, (PLAIN, SAMPLED, PUBLISHED), "θ step on a one-hot DSNAS sample"),
    "statistics": Kind(Uniform(), False, False, (PLAIN, PUBLISHED), "cost statistics on a uniform one-hot sample"),
    "snas": Kind(Snas(), True, False, (PLAIN, PUBLISHED), "SNAS step, all operations"),
    "darts": Kind(Darts(), True, False, (PLAIN,), "DARTS step, single-level, all operations"),
    "bilevel": Kind(Darts(), True, True, (PLAIN,), "DARTS step, bi-level, first order, all operations"),
}
PUBLISHED_IS_PLAIN = ("bilevel",)
"""Kinds whose published step is what :func:`benchmarks.plain.plain` does."""


@dataclass(frozen=True)
class Workload:
    """One step at one size: ``nodes`` intermediate nodes a cell (2 are the minimal cell), images ``size`` × ``size``.

    Raises ``ValueError`` for an unknown kind, a size below 1, and sides that reduction cells cannot halve twice."""

    kind: str
    cells: int = 1
    nodes: int = 2
    channels: int = 16
    size: int = 32
    batch: int = 96
    reduction: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of workload {self.kind!r} is unknown; allowed are {', '.join(KINDS)}")
        for name in ("cells", "nodes", "channels", "size", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"a workload's {name} is {getattr(self, name)}; give a whole number of at least 1")
        if self.reduction and self.size % 4:
            raise ValueError(f"images of size {self.size} cannot be halved twice; give a multiple of 4")

    def network(self) -> NetworkConfig:
        """The configuration of its network."""
        return NetworkConfig(
            darts(self.nodes), cells=self.cells, channels=self.channels, reduction=self.reduction and self.cells >= 3
        )

    def samples(self, count: int) -> list[Sample]:
        """The first ``count`` draws at uniform α; the same ones whoever asks."""
        config = self.network()
        log_alpha = torch.zeros(config.groups, len(config.cell.edges), len(OPERATIONS), dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        return [KINDS[self.kind].relaxation.sample(masked(log_alpha, config.cell), generator) for _ in range(count)]

    def batches(self, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
        """Random images ``[B, 3, H, W]`` and labels: θ's batch and α's."""
        generator = torch.Generator().manual_seed(1)
        shape = (self.batch, 3, self.size, self.size)
        return [
            (
                torch.randn(shape, generator=generator, dtype=dtype),
                torch.randint(0, 10, (self.batch,), generator=generator),
            )
            for _ in range(2)
        ]

    def plain_data(self) -> dict:
        """Its fields, as they are recorded."""
        return asdict(self)


_DEEP = {"cells": 8, "nodes": 4}
WORKLOADS = {
    "theta-minimal": Workload("theta"),
    "statistics-minimal": Workload("statistics"),
    "snas-minimal": Workload("snas"),
    "darts-minimal": Workload("darts"),
    "bilevel-minimal": Workload("bilevel"),
    "theta-8x4": Workload("theta", **_DEEP),
    "theta-8x4-batch-32": Workload("theta", **_DEEP, batch=32),
    "statistics-8x4": Workload("statistics", **_DEEP),
    "snas-8x4": Workload("snas", **_DEEP),
    "snas-8x4-batch-32": Workload("snas", **_DEEP, batch=32),
    "darts-8x4-batch-32": Workload("darts", **_DEEP, batch=32),
    "bilevel-8x4-batch-32": Workload("bilevel", **_DEEP, batch=32),
    "darts-8x4-reduction": Workload("darts", **_DEEP, batch=64, reduction=True),
    "bilevel-8x4-reduction": Workload("bilevel", **_DEEP, batch=64, reduction=True),
}
"""The rows of the table. The sizes are the paper's; a smaller batch stands in where the plain side cannot hold the paper's 96. The
scripts' DARTS has no reduction cells either (``Analysis/darts/cnn/model_search.py``); the last two rows are DARTS as its own authors
have it, which the paper does not use."""


def tiny(workload: Workload) -> Workload:
    """The same step at a size that takes milliseconds."""
    return replace(workload, cells=min(workload.cells, 3), nodes=min(workload.nodes, 3), channels=4, size=8, batch=8)


Measure = Callable[[tuple[Tensor, Tensor], Sample, bool], Measurement]


def _engine(network: Supernet) -> Measure:
    def measure(batch: tuple[Tensor, Tensor], sample: Sample, train: bool) -> Measurement:
        return probe(network, *batch, sample, train=train)

    return measure


def _by_modules(network: plain.PlainNetwork, how: Callable) -> Measure:
    def measure(batch: tuple[Tensor, Tensor], sample: Sample, train: bool) -> Measurement:
        measured = how(network, *batch, sample)
        if not train:
            network.zero_grad(set_to_none=True)
        return measured

    return measure


_PUBLISHED = {"theta": plain.published_theta, "statistics": plain.sampled, "snas": plain.published_snas}


class Step:
    """One side of a workload, ready to run: ``step(i)`` does the i-th step and returns what it measured about the cost.

    ``network`` is the side's own; :attr:`measure` is the step without θ's move. Raises ``ValueError`` for a side that the
    workload does not have."""

    SAMPLES = 256

    def __init__(self, workload: Workload, side: str, dtype: torch.dtype = torch.float32):
        self.kind = KINDS[workload.kind]
        if side not in (ENGINE, *self.kind.others):
            raise ValueError(f"the workload has no side {side!r}; allowed are {', '.join((ENGINE, *self.kind.others))}")
        supernet = Supernet(workload.network(), seed=0).to(dtype)
        self.samples, self.batches = workload.samples(self.SAMPLES), workload.batches(dtype)
        if side == ENGINE:
            # As a search has them: its data and its weights lie in channels_last.
            self.network = supernet.to(memory_format=torch.channels_last)
            self.batches = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in self.batches]
            self.measure = _engine(self.network)
        else:
            self.network = plain.PlainNetwork.like(supernet)
            how = {PLAIN: plain.plain, SAMPLED: plain.sampled, PUBLISHED: _PUBLISHED.get(workload.kind)}[side]
            self.measure = _by_modules(self.network, how)
        theta = ThetaConfig()
        self.clip, self.parameters = theta.clip, list(self.network.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters, theta.learning_rate, momentum=theta.momentum, weight_decay=theta.weight_decay
        )

    def __call__(self, index: int) -> Measurement:
        sample = self.samples[index % len(self.samples)]
        alpha = self.measure(self.batches[1], sample, False) if self.kind.own_batch else None
        measured = self.measure(self.batches[0], sample, self.kind.trains)
        if self.kind.trains:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return alpha or measured


def kept_bytes(workload: Workload, side: str) -> int:
    """The least memory of a side of :mod:`benchmarks.plain`: what its graph keeps between the two passes of a step.

    Of one-hot samples it is that of the operation with the most feature maps on every edge."""
    config = workload.network()
    largest = F.one_hot(torch.tensor(OPERATIONS.index("sep_conv_5x5")), len(OPERATIONS)).double()
    z = largest.expand(config.groups, len(config.cell.edges), -1)
    only_sampled = side == SAMPLED or (side == PUBLISHED and workload.kind == "statistics")
    return plain.graph_bytes(config, workload.batch, workload.size, Sample(z, z > 0), only_sampled=only_sampled)
