"""A device other than the CPU, where there is none: PyTorch's meta device, whose values nobody can read.

What would make a step wait for a GPU is seen there without one: a value that the host reads is an error, and a tensor that comes
from the CPU is an operation with tensors of two devices. A step may use ``onto`` alone, which copies behind the queued work."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import launches
from benchmarks.workloads import ENGINE, Workload, tiny
from nas_core import cost, features, search, supernet
from nas_core.config import SearchConfig
from nas_core.data import DataConfig, Split, prepare
from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Snas, Uniform
from nas_core.space import darts, minimal
from nas_core.supernet import NetworkConfig

NETWORKS = {
    "minimal": NetworkConfig(minimal(), cells=2, channels=4),
    "reduction": NetworkConfig(darts(3), cells=3, channels=4, reduction=True),
    "affine": NetworkConfig(minimal(), channels=4, normalization=Normalization(affine=True)),
    "by modules": NetworkConfig(minimal(), channels=4, normalization=Normalization("layer")),
}


class Crossings(TorchDispatchMode):
    """The operations that saw tensors of two devices, but those of ``onto``; how often the host waited to read a cost."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found, self.reads, self.copying = [], 0, False
        for module in (cost, features, search, supernet):
            monkeypatch.setattr(module, "onto", self.onto)
        monkeypatch.setattr(search, "by_group", self.read)

    def onto(self, tensor, device):
        self.copying = True
        try:
            return tensor.to(device)
        finally:
            self.copying = False

    def read(self, network, cost_NEK):
        """In place of ``by_group``, which brings a step's cost to α."""
        self.reads += 1
        return torch.zeros(network.config.groups, *cost_NEK.shape[1:], dtype=torch.float64)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1 and not self.copying:
            self.found.append(function.name())
        return result


def elsewhere(split):
    return None if split is None else Split(*(part.to("meta") for part in (split.images, split.labels, split.black)))


def started(monkeypatch, **choices):
    """A search on the meta device that neither checks its losses nor records anything: both are for the end of an epoch."""
    config = dataclasses.replace(
        SearchConfig(
            data=DataConfig(dataset="digits", images=64, augment="crop-flip"),
            batch_size=16,
            epochs=1,
            evaluation_every=1,
        ),
        **choices,
    )
    splits = prepare(config.data, 0)
    parts = {name: elsewhere(getattr(splits, name)) for name in ("train", "held_out", "test")}
    monkeypatch.setattr(search._Search, "check", lambda self, where="": self.losses.clear())
    monkeypatch.setattr(search._Search, "record", lambda self, **values: None)
    monkeypatch.setattr(cost.CostStatistics, "arrays", lambda self, prefix: {})
    own = search._Search(config, 0, "meta", dataclasses.replace(splits, **parts))
    return own, len(list(own.batches(own.splits.train, "evaluation")))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("relaxation", [Darts(), Snas(), Dsnas(), Proxyless(), Uniform()], ids=lambda r: r.name)
def test_a_step_uses_nothing_of_the_cpu_but_what_is_copied_behind_the_queue(monkeypatch, network, relaxation):
    """Only α, which lives on the CPU, waits for its cost: once a step. Once an epoch the order and the crops are copied."""
    own, steps = started(monkeypatch, network=network, relaxation=relaxation, alpha_data="held_out", level="bi")
    with Crossings(monkeypatch) as crossings:
        own.train_epoch()
    assert crossings.found == ["aten::_to_copy"] * 4 and crossings.reads == steps


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_with_alpha_fixed_nothing_waits_within_an_epoch(monkeypatch, network):
    own, _ = started(monkeypatch, network=network, relaxation=Uniform(), alpha=None, statistics_epochs=1)
    for epoch in (own.train_epoch, own.statistics_epoch):
        with Crossings(monkeypatch) as crossings:
            epoch()
        assert crossings.found == ["aten::_to_copy"] * 2 and crossings.reads == 0


def test_an_accelerator_is_asked_for_fewer_kernels_than_by_the_engine_or_by_any_other_side():
    """Why cells are evaluated module by module there."""
    counts = launches.launches({"tiny": tiny(Workload("snas")), "one": tiny(Workload("theta"))})
    for own in counts.values():
        fewest, *others = sorted(own["kernels"], key=own["kernels"].get)
        assert fewest == ENGINE and others
        assert own["kernels"][launches.ON_CPU] > 2 * own["kernels"][ENGINE]


def test_a_copy_that_would_wait_is_noticed(monkeypatch):
    own, _ = started(monkeypatch, alpha=None, relaxation=Uniform())
    with Crossings(monkeypatch) as crossings:
        torch.eye(4).to(own.device)
    assert crossings.found == ["aten::_to_copy"]
    with pytest.raises(RuntimeError), Crossings(monkeypatch):
        torch.zeros((), device=own.device).item()
