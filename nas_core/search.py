"""The search: weights θ and architecture parameters α trained together, and the cost recorded on the way (Sections 3,
5.1, 5.4). :mod:`nas_core.config` says what can be chosen.

Shapes: R = epochs + 1 records, V evaluations, S = 2 sets of images, G α groups, N cells, E edges, K operations.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nas_core.config import ALPHA_DATA, LEVELS, AlphaConfig, SearchConfig, ThetaConfig
from nas_core.cost import CostStatistics, Measurement, by_group, loss_and_entropy, per_cell, probe, unrolled_cost
from nas_core.data import DataError, Split, Splits, batches, prepare, stream
from nas_core.memory import keep_freed_memory, onto
from nas_core.relaxation import Relaxation, Sample, masked, probability
from nas_core.supernet import Supernet

__all__ = ["ALPHA_DATA", "LEVELS", "AlphaConfig", "Diverged", "SearchConfig", "ThetaConfig", "estimate", "run"]

STREAMS = ("train_order", "alpha_order", "sample", "evaluation")


class Diverged(FloatingPointError):
    """The loss stopped being a finite number; the message names the epoch and the step."""


class _Search:
    """The state of one run: what a checkpoint holds, and the steps that change it."""

    def __init__(self, config: SearchConfig, seed: int, device: str, splits: Splits):
        _unseen(splits, config)
        self.config, self.seed, self.splits = config, seed, splits
        first = int(torch.randint(2**62, (), generator=stream(seed, "weights")))
        self.network = Supernet(config.network, image_channels=splits.channels, classes=splits.classes, seed=first)
        self.device = torch.device(device)
        # PyTorch's type hints lack the call with both, and in two calls some weights would get other strides.
        cast(Any, self.network).to(device=self.device, memory_format=torch.channels_last)
        self.parameters = list(self.network.parameters())
        self.log_alpha = self._initial_alpha(stream(seed, "alpha")).requires_grad_()
        self.generators = {name: stream(seed, name) for name in STREAMS}
        self.theta_step: torch.optim.SGD | None = None
        self.alpha_step: torch.optim.Adam | None = None
        if config.theta:
            t = config.theta
            self.theta_step = torch.optim.SGD(
                self.parameters, t.learning_rate, momentum=t.momentum, weight_decay=t.weight_decay
            )
        if config.alpha:
            a = config.alpha
            self.alpha_step = torch.optim.Adam(
                [self.log_alpha], a.learning_rate, betas=a.betas, weight_decay=a.weight_decay
            )
        self.epoch = 0
        self.records: dict[str, list[Tensor]] = {}
        self.statistics = self._statistics()
        self.statistics_done = 0
        self.losses: list[tuple[int, Tensor]] = []
        self.baseline = torch.zeros(self.log_alpha.shape[:2], dtype=torch.float64)

    def _initial_alpha(self, generator: torch.Generator) -> Tensor:
        """log α ``[G, E, K]`` in float64 on the CPU, where a step costs nothing and drawing Z needs no wait for the
        device.
        """
        network, alpha = self.config.network, self.config.alpha
        shape = (network.groups, len(network.cell.edges), len(network.cell.mask()[0]))
        if alpha is None:
            return torch.zeros(shape, dtype=torch.float64)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return alpha.initial_mean + alpha.initial_std * noise

    def _statistics(self) -> CostStatistics:
        return CostStatistics(self.config.network.cells, len(self.config.network.cell.edges), self.device)

    # -- what a checkpoint holds -----------------------------------------------------------------------------------------

    def name(self) -> str:
        """What tells this run from every other."""
        return f"{self.config!r} seed {self.seed}"

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "run": self.name(),
            "network": self.network.state_dict(),
            "log_alpha": self.log_alpha.detach(),
            "theta_step": self.theta_step and self.theta_step.state_dict(),
            "alpha_step": self.alpha_step and self.alpha_step.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "epoch": self.epoch,
            "records": self.records,
            "statistics": vars(self.statistics),
            "statistics_done": self.statistics_done,
            "baseline": self.baseline,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state` was taken. Raises ``ValueError`` for the state of another run."""
        if state["run"] != self.name():
            raise ValueError(
                "the checkpoint belongs to a run with another configuration or seed; "
                "give each run a file of its own, or delete this one"
            )
        self.network.load_state_dict(state["network"])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        for own, saved in ((self.theta_step, state["theta_step"]), (self.alpha_step, state["alpha_step"])):
            if own is not None:
                own.load_state_dict(saved)
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        self.epoch, self.records = state["epoch"], state["records"]
        self.statistics_done, self.baseline = state["statistics_done"], state["baseline"]
        vars(self.statistics).update({name: part.to(self.device) for name, part in state["statistics"].items()})

    # -- drawing and stepping --------------------------------------------------------------------------------------------

    def masked_alpha(self) -> Tensor:
        return masked(self.log_alpha.detach(), self.config.network.cell)

    def relaxation(self) -> Relaxation:
        return self.config.relaxation.at(min(1.0, self.epoch / max(1, self.config.epochs - 1)))

    def draw(self, stream_name: str = "sample") -> Sample:
        return self.relaxation().sample(self.masked_alpha(), self.generators[stream_name])

    def batches(self, split: Split, order: str) -> Iterator[tuple[Tensor, Tensor]]:
        config = self.config
        return batches(split, config.batch_size, self.generators[order], augment=config.data.augment)

    def endless(self, split: Split, order: str) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.batches(split, order)

    def observe(self, statistics: CostStatistics, sample: Sample, measured: Measurement) -> None:
        statistics.update(measured.cost, per_cell(self.network, sample.active))

    def step_alpha(self, sample: Sample, measured: Measurement) -> None:
        """One step of α, if it is trained, down (∂Z/∂α)·C. α is on the CPU: here a search waits for the device, once."""
        alpha, optimizer = self.config.alpha, self.alpha_step
        if alpha is None or optimizer is None:
            return
        self.check()
        cost = self.advantage(sample, by_group(self.network, measured.cost))
        self.log_alpha.grad = self.relaxation().alpha_gradient(self.masked_alpha(), sample, cost)
        if alpha.clip is not None:
            torch.nn.utils.clip_grad_norm_([self.log_alpha], alpha.clip)
        optimizer.step()
        if not torch.isfinite(self.log_alpha).all():
            raise Diverged(
                f"log α is no longer finite in epoch {self.epoch + 1}; lower α's learning rate, or check the data"
            )

    def advantage(self, sample: Sample, cost: Tensor) -> Tensor:
        """The cost less the running mean of each edge's reward, for a relaxation that asks for one."""
        decay = getattr(self.config.relaxation, "baseline", None)
        if decay is None:
            return cost
        less = cost - self.baseline[..., None]
        self.baseline = decay * self.baseline + (1 - decay) * (sample.z * cost).sum(-1)
        return less

    def step_theta(self) -> None:
        """One step of θ, if it is trained, down the gradients that a probe left in the parameters."""
        theta, optimizer = self.config.theta, self.theta_step
        if theta is None or optimizer is None:
            return
        if theta.idle == "moving":
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.nn.utils.clip_grad_norm_(self.parameters, theta.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def watch(self, measured: Measurement, step: int) -> None:
        """Remember a step's loss for :meth:`check`: to look at it now would wait for the device."""
        self.losses.append((step, measured.loss))

    def check(self, where: str = "") -> None:
        """Raise :class:`Diverged` for the first watched loss that is not finite, and forget them."""
        watched, self.losses = self.losses, []
        losses = torch.stack([loss for _, loss in watched]).tolist() if watched else []
        for (step, _), loss in zip(watched, losses):
            if not np.isfinite(loss):
                raise Diverged(
                    f"the loss is {loss} {where or f'at epoch {self.epoch + 1}'}, step {step + 1}; "
                    f"lower the learning rate of θ or α, or check the data"
                )

    # -- one epoch -------------------------------------------------------------------------------------------------------

    def alpha_measurement(
        self, batch: tuple[Tensor, Tensor], theta_batch: tuple[Tensor, Tensor]
    ) -> tuple[Sample, Measurement]:
        """The sample and cost that α learns from on a batch of its own."""
        sample = self.draw()
        if not self.config.second_order or self.theta_step is None:
            return sample, probe(self.network, *batch, sample)
        group = self.theta_step.param_groups[0]
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.network.named_parameters()}
        momentum = {
            names[parameter]: group["momentum"] * state["momentum_buffer"]
            for parameter, state in self.theta_step.state.items()
            if state.get("momentum_buffer") is not None
        }
        rate, decay = group["lr"], group["weight_decay"]
        measured = unrolled_cost(
            self.network, theta_batch, batch, sample, learning_rate=rate, weight_decay=decay, momentum=momentum
        )
        return sample, measured

    def train_epoch(self) -> None:
        """One pass over θ's images, with α's steps in the order that ``level`` says."""
        config, cost = self.config, self._statistics()
        moves_alpha = config.alpha is not None
        own = {"same": None, "train": self.splits.train, "held_out": self.splits.held_out}[config.alpha_data]
        alpha_batches = self.endless(own, "alpha_order") if moves_alpha and own is not None else None
        own_batch = alpha_batches is not None
        if config.theta and self.theta_step:
            self.theta_step.param_groups[0]["lr"] = _cosine(config.theta, self.epoch, config.epochs)
        seen, (lost, right) = 0, torch.zeros(2, dtype=torch.float64, device=self.device)
        for step, batch in enumerate(self.batches(self.splits.train, "train_order")):
            pending = None
            if moves_alpha and (own_batch or config.level == "bi"):
                alpha_batch = batch if alpha_batches is None else next(alpha_batches)
                sample, measured = self.alpha_measurement(alpha_batch, batch)
                self.watch(measured, step)
                self.observe(cost, sample, measured)
                if config.level == "bi":
                    self.step_alpha(sample, measured)
                else:
                    pending = (sample, measured)
            sample = self.draw()
            measured = probe(self.network, *batch, sample, train=config.theta is not None)
            self.watch(measured, step)
            if not moves_alpha or (config.level == "single" and not own_batch):
                self.observe(cost, sample, measured)
                pending = (sample, measured) if moves_alpha else None
            if config.theta:
                self.step_theta()
            if pending:
                self.step_alpha(*pending)
            seen += len(batch[1])
            lost += measured.loss.double() * len(batch[1])
            right += (measured.logits.argmax(1) == batch[1]).sum().double()
        self.check()
        self.epoch += 1
        self.record(train_loss=lost / seen, train_accuracy=right / seen, **cost.arrays("step_cost"))

    def statistics_epoch(self) -> None:
        """One pass with θ and α fixed, for the cost alone (Section 5.1)."""
        for step, batch in enumerate(self.batches(self.splits.train, "train_order")):
            sample = self.draw()
            measured = probe(self.network, *batch, sample)
            self.watch(measured, step)
            self.observe(self.statistics, sample, measured)
        self.check()
        self.statistics_done += 1

    # -- what is recorded ------------------------------------------------------------------------------------------------

    def record(self, **values: Tensor | float) -> None:
        for name, value in values.items():
            self.records.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float64, device="cpu"))

    def record_alpha(self) -> None:
        self.record(log_alpha=self.log_alpha.detach().clone(), probability=probability(self.masked_alpha()))

    def evaluate(self) -> None:
        """L, H, accuracy and cost at this θ and α, on images of θ's set and on images it never sees (Fig 10b)."""
        rows = [self.evaluate_split(split) for split in (self.splits.train, _unseen(self.splits, self.config))]
        self.record(evaluated=self.epoch, **{name: torch.stack([row[name] for row in rows]) for name in rows[0]})

    def evaluate_split(self, split: Split) -> dict[str, Tensor]:
        cost, edge_costs, losses, entropies, rights = self._statistics(), [], [], [], []
        for step, (images, labels) in enumerate(
            _plain_batches(split, self.config.batch_size, self.config.evaluation_images)
        ):
            sample = self.draw("evaluation")
            measured = probe(self.network, images, labels, sample)
            self.watch(measured, step)
            self.observe(cost, sample, measured)
            z = onto(per_cell(self.network, sample.z), self.device)
            edge_costs.append((z * measured.cost.double()).sum(-1) * len(labels))
            loss, entropy = loss_and_entropy(measured.logits, labels)
            losses.append(loss)
            entropies.append(entropy)
            rights.append(measured.logits.argmax(1) == labels)
        self.check(f"in the evaluation after epoch {self.epoch}")
        loss, entropy, right = (torch.cat(values).cpu() for values in (losses, entropies, rights))
        parts = (right, ~right)
        return {
            "accuracy": right.double().mean(),
            "loss": loss.mean(),
            "entropy": entropy.mean(),
            "split_count": torch.stack([part.sum().double() for part in parts]),
            "split_loss": torch.stack([loss[part].mean() for part in parts]),
            "split_entropy": torch.stack([entropy[part].mean() for part in parts]),
            "edge_cost": torch.stack(edge_costs).sum(0).cpu() / len(right),
            **cost.arrays("cost"),
        }

    def result(self) -> dict[str, np.ndarray]:
        """The recorded arrays (see the module's legend for their axes)."""
        arrays = {name: torch.stack(values).numpy() for name, values in self.records.items()}
        if self.config.statistics_epochs:
            arrays |= {name: value.numpy() for name, value in self.statistics.arrays("statistics").items()}
        return arrays


def _unseen(splits: Splits, config: SearchConfig) -> Split:
    """Images that θ never sees: the held-out ones, else the test images. Raises ``DataError`` where there are none."""
    unseen = splits.held_out or splits.test
    if unseen is None:
        raise DataError(
            f"{config.data.dataset} has no test images and held_out is 0, so no image is left that θ never sees; "
            f"set held_out above 0"
        )
    return unseen


def _cosine(theta: ThetaConfig, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch."""
    share = 0.5 * (1 + np.cos(np.pi * epoch / epochs))
    return float(theta.final_learning_rate + (theta.learning_rate - theta.final_learning_rate) * share)


def _plain_batches(split: Split, batch_size: int, limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The first images of a split, in order, in equal batches: batch statistics of a short last batch would not be
    comparable.
    """
    total = min(len(split), limit or len(split))
    size = min(batch_size, total)
    for start in range(0, total - size + 1, size):
        yield split.images[start : start + size], split.labels[start : start + size]


def _save(path: Path, state: dict[str, Any]) -> None:
    """Replace a checkpoint in one step, so that a kill at any moment leaves the old one or the new one."""
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def run(
    config: SearchConfig,
    seed: int,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Run a search and return its arrays; with ``checkpoint`` it continues from that file and rewrites it after every
    epoch.

    On a CPU, same config, seed, machine and thread count give the same bits, interrupted or not. On a GPU convolutions
    run in full float32 and by deterministic algorithms, but pooling has none. Raises :class:`Diverged` when the loss or
    α is no longer finite, ``DataError`` when the data cannot be had, and ``ValueError`` for a checkpoint of another
    run."""
    keep_freed_memory()
    with _full_precision():
        return _run(config, seed, device, checkpoint, progress)


def _full_precision() -> AbstractContextManager[None]:
    """cuDNN without TF32: a cost is a near-cancellation, and ten bits of mantissa would not survive it."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _run(
    config: SearchConfig,
    seed: int,
    device: str,
    checkpoint: Path | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, np.ndarray]:
    search = _Search(config, seed, device, prepare(config.data, seed, device=device))
    if checkpoint is not None and checkpoint.exists():
        # On the CPU: generators, α and records live there; weights and optimisers copy to where theirs are.
        search.restore(torch.load(checkpoint, map_location="cpu", weights_only=True))
    total = config.epochs + config.statistics_epochs
    if search.epoch == 0 and not search.records:
        search.record_alpha()
        search.evaluate()
    while (done := search.epoch + search.statistics_done) < total:
        if search.epoch < config.epochs:
            search.train_epoch()
            search.record_alpha()
            if search.epoch % config.evaluation_every == 0 or search.epoch == config.epochs:
                search.evaluate()
        else:
            search.statistics_epoch()
        if checkpoint is not None:
            _save(checkpoint, search.state())
        if progress is not None:
            progress(done + 1, total)
    return search.result()


def estimate(config: SearchConfig, *, device: str = "cpu", steps: int = 3) -> float:
    """About how many seconds :func:`run` takes here, from a few timed steps of the same search on its first images."""
    with _full_precision():
        return _estimate(config, device, steps)


def _estimate(config: SearchConfig, device: str, steps: int) -> float:
    splits = prepare(config.data, 0, device=device)
    second = _unseen(splits, config)
    search = _Search(config, 0, device, splits)
    few = config.batch_size * steps
    few_train, few_second = _first(splits.train, few), _first(second, few)
    search.splits = replace(splits, train=few_train, held_out=few_second)
    train = _timed(search.train_epoch) if config.epochs else 0.0
    statistics = _timed(search.statistics_epoch) if config.statistics_epochs else 0.0
    evaluation = _timed(search.evaluate) / sum(_measured(config, split) for split in (few_train, few_second))
    share = len(splits.train) / len(few_train)
    evaluations = 1 + -(-config.epochs // config.evaluation_every)
    images = sum(_measured(config, split) for split in (splits.train, second))
    return share * (config.epochs * train + config.statistics_epochs * statistics) + evaluations * images * evaluation


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _measured(config: SearchConfig, split: Split) -> int:
    """How many images of a split an evaluation looks at."""
    return min(len(split), config.evaluation_images or len(split))


def _first(split: Split, images: int) -> Split:
    return replace(split, images=split.images[:images], labels=split.labels[:images])
