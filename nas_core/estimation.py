"""The experiment that compares estimators of the cost: what each gives, how sure it is, and how long it takes, at initialisation and after
a training of θ under uniform sampling (Section 5.1).

Shapes of what is recorded: T = 2 states of θ (initial, trained), R repeats, D designs, E edges, K operations. Every estimator runs R
times on passes of its own; the seconds of the processor are measured on the machine at hand, so they, unlike all else, differ from run to run."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nas_core.conditioned import SharedBatch, layout, wiring
from nas_core.config import ThetaConfig
from nas_core.cost import probe
from nas_core.data import DataConfig, Splits, batches, prepare, stream
from nas_core.estimators import (
    Conditioned,
    Counterfactual,
    Estimator,
    Rows,
    Sampled,
    adaptive,
    decided,
    entries,
    exact_tables,
    measure,
    variance_components,
)
from nas_core.memory import keep_freed_memory
from nas_core.relaxation import Uniform, masked
from nas_core.space import OPERATIONS
from nas_core.supernet import NetworkConfig, Supernet

STATES = ("initial", "trained")

DESIGNS = (
    Conditioned(nodes=2),
    Conditioned(nodes=4),
    Conditioned(),
    Conditioned(nodes=16),
    Conditioned(between=2),
    Conditioned(between=None),
    Conditioned(direct=2),
    Conditioned(direct=4),
)
"""The conditioned estimator with fewer and with more architectures a batch, one dial at a time."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Everything that defines the experiment but its seed and its machine.

    θ is trained for ``epochs`` between the two states. A repeat takes ``passes`` passes over the training images, one of the sampled
    estimator ``sampled_passes``. ``layout_batches`` are the batches on which every architecture is measured, ``fixed_passes`` what a
    search's statistics take whatever they find. ``designs`` are compared on the same ``design_batches``. The adaptive run of the
    conditioned estimator may take as many passes as its repeats together; to it a cost is negligible below a share ``negligible`` of
    the root mean square of the table."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(held_out=0.0))
    theta: ThetaConfig = field(default_factory=ThetaConfig)
    conditioned: Conditioned = field(default_factory=Conditioned)
    designs: tuple[Conditioned, ...] = DESIGNS
    epochs: int = 20
    batch_size: int = 64
    repeats: int = 5
    passes: int = 1
    sampled_passes: int = 5
    layout_batches: int = 4
    design_batches: int = 16
    fixed_passes: int = 25
    confidence: float = 0.95
    negligible: float = 0.5

    def __post_init__(self) -> None:
        counts = {"epochs": 1, "batch_size": 2, "repeats": 2, "passes": 1, "sampled_passes": 1}
        for name, least in (counts | {"layout_batches": 2, "design_batches": 2, "fixed_passes": 1}).items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give a whole number of at least {least}")
        for name in ("confidence", "negligible"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number between 0 and 1")
        if self.fixed_passes > self.repeats * self.sampled_passes:
            raise ValueError(
                f"fixed_passes is {self.fixed_passes}; give at most the {self.repeats * self.sampled_passes} passes that the sampled "
                "estimator takes in all repeats"
            )
        wiring(self.network)

    def estimators(self) -> dict[str, tuple[Estimator, int]]:
        """By the name under which it is recorded: each estimator, and the passes of a repeat."""
        return {
            "sampled": (Sampled(), self.sampled_passes),
            "counterfactual": (Counterfactual(), self.passes),
            "conditioned": (self.conditioned, self.passes),
        }


class _Experiment:
    """One network, its images, and what is measured of it."""

    def __init__(self, config: EstimatorConfig, seed: int, device: str, splits: Splits):
        self.config, self.seed, self.splits = config, seed, splits
        first = int(torch.randint(2**62, (), generator=stream(seed, "weights")))
        self.network = Supernet(config.network, image_channels=splits.channels, classes=splits.classes, seed=first)
        cast(Any, self.network).to(device=torch.device(device), memory_format=torch.channels_last)
        self.per_pass = len(splits.train) // config.batch_size

    def passes(self, count: int | None, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of equal size, as θ sees them, of so many passes over the training images (None: without end)."""
        done = 0
        while count is None or done < count:
            data = self.config.data
            yield from batches(
                self.splits.train, self.config.batch_size, generator, augment=data.augment, drop_last=True
            )
            done += 1

    def train(self) -> None:
        """θ under uniform sampling, as a search trains it."""
        theta, generator = self.config.theta, stream(self.seed, "train")
        step = torch.optim.SGD(
            self.network.parameters(), theta.learning_rate, momentum=theta.momentum, weight_decay=theta.weight_decay
        )
        shape = (self.config.network.groups, len(self.config.network.cell.edges), len(OPERATIONS))
        flat = masked(torch.zeros(shape, dtype=torch.float64), self.config.network.cell)
        for epoch in range(self.config.epochs):
            share = 0.5 * (1 + math.cos(math.pi * epoch / self.config.epochs))
            rate = theta.final_learning_rate + (theta.learning_rate - theta.final_learning_rate) * share
            step.param_groups[0]["lr"] = rate
            for batch in self.passes(1, generator):
                measured = probe(self.network, *batch, Uniform().sample(flat, generator), train=True)
                if not torch.isfinite(measured.loss):
                    raise FloatingPointError(
                        f"the loss is {float(measured.loss)} in epoch {epoch + 1}; lower theta's learning_rate"
                    )
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), theta.clip)
                step.step()
                step.zero_grad(set_to_none=True)

    def repeated(self, name: str, estimator: Estimator, passes: int) -> dict[str, np.ndarray]:
        """An estimator, R times: mean and count of each repeat, variance of a row, seconds, and when signs were known."""
        runs = []
        for repeat in range(self.config.repeats):
            generator = stream(self.seed, f"{name} {repeat}")
            runs.append(measure(self.network, estimator, self.passes(passes, generator), generator))
        rows = Rows(np.concatenate([run.values for run in runs]), sum(run.seconds for run in runs))
        looks = range(self.per_pass, len(rows.values) + 1, self.per_pass)
        return {
            "mean": np.stack([run.mean() for run in runs]),
            "count": np.stack([run.count() for run in runs]),
            "variance": rows.variance(),
            "seconds": np.array([run.seconds for run in runs]),
            "steps": np.array([len(run.values) for run in runs]),
            "signs": decided(rows, looks, self.config.confidence, entries(self.config.network.cell)),
        }

    def exact(self) -> dict[str, np.ndarray]:
        """Every architecture on each of a few batches: the exact table of each, the seconds of all, and variance components of a probe
        and of the mean over an x₁."""
        walk, start = self.passes(None, stream(self.seed, "layout")), time.process_time()
        some = [next(walk) for _ in range(self.config.layout_batches)]
        layouts = np.stack([layout(SharedBatch(self.network, *batch)).numpy() for batch in some])
        seconds = time.process_time() - start
        single, shared = variance_components(self.config.network, layouts)
        mean = exact_tables(self.config.network.cell, layouts)
        return {"mean": mean, "seconds": np.array(seconds), "single": single, "shared": shared}

    def designed(self) -> dict[str, np.ndarray]:
        """Every design on the same batches: variance and count of a row, seconds and rows."""
        config, measured = self.config, []
        for position, design in enumerate(config.designs):
            walk = self.passes(None, stream(self.seed, "designs"))
            some = itertools.islice(walk, config.design_batches)
            measured.append(measure(self.network, design, some, stream(self.seed, f"design {position}")))
        return {
            "variance": np.stack([rows.variance() for rows in measured]),
            "count": np.stack([rows.count() for rows in measured]),
            "seconds": np.array([rows.seconds for rows in measured]),
            "steps": np.array([len(rows.values) for rows in measured]),
        }

    def stopped(self) -> dict[str, np.ndarray]:
        """The conditioned estimator until it knows enough, for as many passes at most as its repeats take together."""
        config, generator = self.config, stream(self.seed, "adaptive")
        found = adaptive(
            self.network,
            config.conditioned,
            self.passes(config.repeats * config.passes, generator),
            generator,
            every=self.per_pass,
            confidence=config.confidence,
            negligible=config.negligible,
        )
        return {
            "signs": found.signs,
            "small": found.small,
            "seconds": np.array(found.rows.seconds),
            "steps": np.array(len(found.rows.values)),
        }

    def parts(self) -> dict[str, Callable[[], dict[str, np.ndarray]]]:
        """Everything that is measured of one state, by name."""
        table = {
            name: lambda name=name, own=own: self.repeated(name, *own) for name, own in self.config.estimators().items()
        }
        return table | {"exact": self.exact, "design": self.designed, "adaptive": self.stopped}


def run(
    config: EstimatorConfig,
    seed: int,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Measure with every estimator and return arrays ``<estimator>_<what>`` whose first axis is the state of θ.

    It takes minutes, so ``checkpoint`` is not used: an interrupted run begins anew. The same seed gives the same bits but for the
    seconds. Raises ``FloatingPointError`` when θ diverges and ``DataError`` when the data cannot be had."""
    keep_freed_memory()
    experiment = _Experiment(config, seed, device, prepare(config.data, seed, device=device))
    parts = experiment.parts()
    states: list[Any] = []
    for state in STATES:
        if state == "trained":
            experiment.train()
        arrays: dict[str, Any] = {}
        for name, part in parts.items():
            arrays |= {f"{name}_{what}": value for what, value in part().items()}
            if progress is not None:
                progress(len(states) * len(parts) + list(parts).index(name) + 1, len(STATES) * len(parts))
        states.append(arrays)
    result = {name: np.stack([arrays[name] for arrays in states]) for name in states[0]}
    return result | {"steps_per_pass": np.array(experiment.per_pass)}


def estimate(config: EstimatorConfig, *, device: str = "cpu", steps: int = 2) -> float:
    """About how many seconds :func:`run` takes here, from a few timed steps."""
    experiment = _Experiment(config, 0, device, prepare(config.data, 0, device=device))
    generator, walk = stream(0, "estimate"), experiment.passes(None, stream(0, "estimate order"))
    some = [next(walk) for _ in range(steps)]
    seconds = {
        name: measure(experiment.network, estimator, some, generator).seconds / steps
        for name, (estimator, _) in config.estimators().items()
    }
    a_pass = experiment.per_pass
    total = sum(a_pass * config.repeats * passes * seconds[name] for name, (_, passes) in config.estimators().items())
    total += a_pass * config.repeats * config.passes * seconds["conditioned"]  # the adaptive run, if it stops nowhere
    for design in config.designs:
        total += measure(experiment.network, design, some[:1], generator).seconds * config.design_batches
    start = time.process_time()
    layout(SharedBatch(experiment.network, *some[0]))
    total += (time.process_time() - start) * config.layout_batches
    return len(STATES) * total + 2 * a_pass * config.epochs * seconds["sampled"]
