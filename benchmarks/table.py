"""A table of costs to equal error: what a reader of statistics waits for, against the published way to it.

A published step probes one sampled architecture and tells five entries of the table; the same step of the engine does so
sooner; the conditioned estimator (:mod:`nas_core.conditioned`) tells all of them from one pass. The *price* of a way is the
mean square error of an entry after one second: the variance of an observation times the seconds it takes, over the share of
steps that observe the entry. Batches are taken as independent, alike for all three, and the three take turns batch by batch
in one process, whose allocator keeps freed memory for all of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks import plain
from nas_core import data
from nas_core.config import ThetaConfig
from nas_core.cost import probe
from nas_core.estimators import Conditioned, Rows, Sampled, entries
from nas_core.memory import keep_freed_memory
from nas_core.relaxation import Sample, Uniform, masked
from nas_core.space import OPERATIONS
from nas_core.supernet import NetworkConfig, Supernet

PUBLISHED, SAMPLED, CONDITIONED = "published", "sampled", "conditioned"
STATES = ("initial", "trained")


@dataclass(frozen=True)
class Plan:
    """How much is measured: ``repeats`` seeds, ``steps`` of θ before the second state, and rows of each way; a row of the
    conditioned estimator takes as long as many samples, so there are fewer of them."""

    repeats: int = 5
    steps: int = 200
    sampled: int = 96
    conditioned: int = 16
    batch: int = 96
    channels: int = 16
    images: int | None = None


FULL = Plan()
QUICK = Plan(repeats=2, steps=2, sampled=8, conditioned=2, batch=8, channels=4, images=64)


def compare(threads: int, plan: Plan = FULL) -> dict:
    """For every state of θ and way: the ``seconds`` of a row (median) and the ``price``, a number a repeat."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    name = "digits" if plan is QUICK else data.auto()
    config = data.DataConfig(dataset=name, held_out=0.0, images=plan.images, augment="crop-flip")
    found: dict = {"data": name, "batch": plan.batch, "repeats": plan.repeats, "steps": plan.steps}
    found["states"] = {state: {way: {"seconds": [], "price": []} for way in _ways()} for state in STATES}
    for seed in range(plan.repeats):
        subject = _Subject(plan, data.prepare(config, seed), seed)
        for state in STATES:
            if state == "trained":
                subject.train(plan.steps)
            for way, (seconds, price) in subject.measure(plan).items():
                found["states"][state][way]["seconds"].append(seconds)
                found["states"][state][way]["price"].append(price)
    found["size"], found["channels"] = subject.splits.size, plan.channels
    return found


def _ways() -> tuple[str, ...]:
    return PUBLISHED, SAMPLED, CONDITIONED


class _Subject:
    """One network, its images, and the three ways to a row of its table."""

    def __init__(self, plan: Plan, splits: data.Splits, seed: int):
        self.splits = splits
        config = NetworkConfig(channels=plan.channels)
        network = Supernet(config, image_channels=splits.channels, classes=splits.classes, seed=seed)
        self.network = network.to(memory_format=torch.channels_last)
        self.generator = torch.Generator().manual_seed(seed)
        self.walk = self._batches(plan.batch)
        self.flat = masked(torch.zeros(1, len(config.cell.edges), len(OPERATIONS), dtype=torch.float64), config.cell)

    def _batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from data.batches(self.splits.train, size, self.generator, augment="crop-flip", drop_last=True)

    def draw(self) -> Sample:
        return Uniform().sample(self.flat, self.generator)

    def train(self, steps: int) -> None:
        """Steps of θ under uniform sampling."""
        theta = ThetaConfig()
        optimizer = torch.optim.SGD(
            self.network.parameters(), theta.learning_rate, momentum=theta.momentum, weight_decay=theta.weight_decay
        )
        for batch in itertools.islice(self.walk, steps):
            probe(self.network, *batch, self.draw(), train=True)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), theta.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def measure(self, plan: Plan) -> dict[str, tuple[float, float]]:
        """Way → (seconds of a row, price), the ways in turns; the first round only warms up."""
        published = plain.PlainNetwork.like(self.network)

        def by_scripts(images: Tensor, labels: Tensor) -> Tensor:
            sample = self.draw()
            cost = plain.sampled(published, images.contiguous(), labels, sample).cost[0].double()
            published.zero_grad(set_to_none=True)
            return torch.where(sample.active[0], cost, torch.nan)

        def row(estimator: Sampled | Conditioned) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda images, labels: estimator.row(self.network, images, labels, self.generator)

        ways = {PUBLISHED: by_scripts, SAMPLED: row(Sampled()), CONDITIONED: row(Conditioned())}
        rows: dict[str, list] = {way: [] for way in ways}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        every = plan.sampled // plan.conditioned
        for turn in range(-1, plan.sampled):
            for way, take in ways.items():
                if way == CONDITIONED and turn % every and turn >= 0:
                    continue
                images, labels = next(self.walk)
                start = time.perf_counter()
                value = take(images, labels)
                if turn >= 0:
                    seconds[way].append(time.perf_counter() - start)
                    rows[way].append(value.numpy())
        return {way: self._price(np.stack(rows[way]), float(np.median(seconds[way]))) for way in ways}

    def _price(self, values: np.ndarray, seconds: float) -> tuple[float, float]:
        wanted = entries(self.network.config.cell)
        everything = Rows(values, 0.0)
        share = np.where(
            everything.count() < len(values), 1 / np.array(self.network.config.cell.mask()).sum(1)[:, None], 1
        )
        return seconds, float(np.nanmean((everything.variance() / share)[wanted]) * seconds)


def gains(found: dict, state: str, way: str = CONDITIONED) -> list[float]:
    """How many times less time than the published sampling ``way`` takes to the same error, a number a repeat."""
    prices = found["states"][state]
    return [theirs / own for theirs, own in zip(prices[PUBLISHED]["price"], prices[way]["price"])]
