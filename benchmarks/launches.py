"""How many kernels a step asks an accelerator for, counted on PyTorch's meta device: none is needed.

A card that ends each kernel before the host has asked for the next is bound by their number and not by what they do. Counted is every
operation that computes, from the images to the gradients of the weights; views and allocations are not, nor is the optimiser."""

from __future__ import annotations

from dataclasses import replace

from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.workloads import ENGINE, KINDS, WORKLOADS, Step, Workload

COUNTED = ("theta-minimal", "statistics-minimal", "snas-minimal", "darts-minimal", "bilevel-minimal")
SAMPLES = 8
ON_CPU = "engine on a CPU"


class _Kernels(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        returns = function._schema.returns
        view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        self.count += not view and not function.name().startswith("aten::empty")
        return function(*args, **(kwargs or {}))


def kernels(workload: Workload, side: str, device: str = "meta") -> float:
    """Kernels a step of a side, on average over its first samples."""
    step = Step(workload, side)
    step.network.to(device)
    batches = [tuple(part.to(device) for part in batch) for batch in step.batches]
    with _Kernels() as counted:
        for sample in step.samples[:SAMPLES]:
            if step.kind.own_batch:
                step.measure(batches[1], sample, False)
            step.measure(batches[0], sample, step.kind.trains)
            step.network.zero_grad(set_to_none=True)
    return counted.count / SAMPLES


def launches(workloads: dict[str, Workload] | None = None) -> dict:
    """The counts of every side by the names of workloads, and the ``workload`` that they belong to; :data:`ON_CPU` is what
    :data:`~benchmarks.workloads.ENGINE` does there, on images so small that nothing is done in blocks."""
    chosen = {name: WORKLOADS[name] for name in COUNTED} if workloads is None else workloads
    found = {}
    for name, own in chosen.items():
        counts = {side: kernels(own, side) for side in (ENGINE, *KINDS[own.kind].others)}
        counts[ON_CPU] = kernels(replace(own, size=8, batch=8), ENGINE, "cpu")
        found[name] = {"workload": own.plain_data(), "kernels": counts}
    return found
