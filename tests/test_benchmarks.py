"""The benchmark's sides do the same step, its counts are right, its tables say what was measured. Nothing is timed here."""

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as command
from benchmarks import chapters, measure, plain, report, roofline, scaling, table
from benchmarks.workloads import ENGINE, KINDS, PLAIN, PUBLISHED, SAMPLED, WORKLOADS, Step, Workload, kept_bytes, tiny
from nas_core.cost import per_cell
from nas_core.data import DataConfig, prepare
from nas_core.operations import Normalization
from nas_core.relaxation import Sample
from nas_core.space import NONE, OPERATIONS
from nas_core.supernet import NetworkConfig, Supernet

ROOT = Path(__file__).resolve().parent.parent
MAX_POOL = OPERATIONS.index("max_pool_3x3")
SIDES = [(name, side) for name, workload in WORKLOADS.items() for side in KINDS[workload.kind].others]


def gradients(step):
    """Every weight's gradient; a weight that took no part has one of zeros."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in step.network.named_parameters()
    }


def differences(name, side, dtype, change=lambda sample: sample):
    """The largest differences between the engine and a side: loss, cost of what is active, and weight gradient, the last
    in units of the largest one. The cells of one-hot kinds are shown a sample without *none* too."""
    engine, other = (Step(tiny(WORKLOADS[name]), each, dtype) for each in (ENGINE, side))
    worst = [0.0, 0.0, 0.0]
    for sample in map(change, engine.samples[:3]):
        own, theirs = (step.measure(step.batches[0], sample, True) for step in (engine, other))
        active = per_cell(engine.network, sample.active).clone()
        active[..., NONE] = False
        assert active.any() and float(theirs.cost[active].abs().max()) > 1e-4
        largest = max(float(gradient.abs().max()) for gradient in gradients(other).values())
        pairs = zip(gradients(engine).values(), gradients(other).values(), strict=True)
        found = (
            float((own.loss - theirs.loss).abs()),
            float((own.cost - theirs.cost)[active].abs().max()),
            max(float((a - b).abs().max()) for a, b in pairs) / largest,
        )
        worst = list(map(max, worst, found))
        for step in (engine, other):
            step.network.zero_grad(set_to_none=True)
    return worst


@pytest.mark.parametrize("name, side", SIDES)
def test_every_side_does_the_same_step(name, side):
    """Loss, every cost and every weight gradient, in float64."""
    assert max(differences(name, side, torch.float64)) < 1e-9


def without_max_pool(sample):
    """Where two pixels are all but equal, a rounding decides which of them takes the gradient: in float32 the pool is out."""
    z, active = sample.z.clone(), sample.active.clone()
    z[..., MAX_POOL], active[..., MAX_POOL] = 0, False
    return Sample(z, active)


@pytest.mark.parametrize("name, side", SIDES)
def test_in_float32_the_sides_differ_by_roundings(name, side):
    """Loss near 2.3, where a rounding is 2e-7; costs near 0.3. Measured: 2.4e-7, 3.3e-7 and 8e-7 of the largest gradient
    over three cells in a row; the bounds leave a factor of ten."""
    loss, cost, gradient = differences(name, side, torch.float32, without_max_pool)
    assert loss < 3e-6 and cost < 3e-6 and gradient < 1e-5


def test_a_wrong_weight_is_noticed():
    """The test of the tests above: one channel's kernel changed by a thousandth (all of them would cancel)."""
    engine, other = (Step(tiny(WORKLOADS["darts-minimal"]), side, torch.float64) for side in (ENGINE, PLAIN))
    with torch.no_grad():
        next(p for name, p in other.network.named_parameters() if "sep_conv_5x5" in name)[0].mul_(1.001)
    own, theirs = (step.measure(step.batches[0], step.samples[0], True) for step in (engine, other))
    assert float((own.cost - theirs.cost).abs().max()) > 1e-8


@pytest.mark.parametrize("kind", ["snas", "darts", "bilevel"])
def test_the_weights_move_alike(kind):
    """After two whole steps, clipping and momentum included."""
    steps = [Step(tiny(Workload(kind)), side, torch.float64) for side in (ENGINE, *KINDS[kind].others)]
    before = steps[0].network.head.weight.detach().clone()
    for step in steps:
        step(0), step(1)
    assert not torch.allclose(before, steps[0].network.head.weight)
    for step in steps[1:]:
        theirs = dict(step.network.named_parameters())
        for name, own in steps[0].network.named_parameters():
            assert torch.allclose(own, theirs[name], rtol=0, atol=1e-9), name


@pytest.mark.parametrize("side", [ENGINE, *KINDS["statistics"].others])
def test_statistics_leave_the_weights_alone(side):
    step = Step(tiny(Workload("statistics")), side)
    before = step.network.head.weight.detach().clone()
    step(0)
    assert all(parameter.grad is None for parameter in step.network.parameters())
    assert torch.equal(before, step.network.head.weight)


@pytest.mark.parametrize("side", [ENGINE, PLAIN])
def test_bilevel_takes_the_cost_from_a_batch_of_its_own(side):
    step, again = (Step(tiny(Workload("bilevel")), side, torch.float64) for _ in range(2))
    assert torch.equal(step(0).cost, again.measure(again.batches[1], again.samples[0], False).cost)
    assert not torch.equal(step.batches[0][0], step.batches[1][0])


def test_the_plain_network_runs_what_its_name_says():
    """Plain: every candidate. Sampled: what the sample activates. Published: both, one after the other."""
    runs = {}
    for side in (PLAIN, SAMPLED, PUBLISHED):
        step = Step(tiny(Workload("theta")), side)
        calls = []
        for module in step.network.modules():
            if isinstance(module, plain.MixedOperation):
                for name, operation in module.items():
                    operation.register_forward_hook(lambda *_, name=name, calls=calls: calls.append(name))
        step(0)
        runs[side] = calls
    drawn = [OPERATIONS[k] for k in Step(tiny(Workload("theta")), PLAIN).samples[0].z[0].argmax(-1).tolist()]
    assert runs[PLAIN] == list(OPERATIONS) * 5 and runs[SAMPLED] == drawn
    assert runs[PUBLISHED] == drawn + list(OPERATIONS) * 5


def test_the_published_second_pass_moves_only_running_averages():
    """And the published SNAS step goes back twice without doubling a gradient (the tests above compare those)."""
    once, twice = (Step(tiny(Workload("theta")), side) for side in (SAMPLED, PUBLISHED))
    once(0), twice(0)
    own, theirs = once.network.state_dict(), twice.network.state_dict()
    changed = {name for name in own if not torch.equal(own[name], theirs[name])}
    assert changed and all("running" in name or "tracked" in name for name in changed)
    assert all(torch.equal(a, b) for a, b in zip(once.network.parameters(), twice.network.parameters()))


def test_building_a_plain_network_leaves_the_random_state_alone():
    supernet, state = Supernet(NetworkConfig(channels=4)), torch.get_rng_state()
    plain.PlainNetwork.like(supernet)
    assert torch.equal(state, torch.get_rng_state())


def test_a_plain_network_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="cannot have layer normalisation in the order relu-conv-norm; it knows"):
        plain.PlainNetwork(NetworkConfig(normalization=Normalization("layer")))
    supernet = Supernet(NetworkConfig(channels=4))
    supernet.cells[0].edges[0]["new"] = torch.nn.Conv2d(4, 4, 1, bias=False)
    with pytest.raises(ValueError, match="the weight cells.0.edges.0.new.weight of one network is not that of"):
        plain.PlainNetwork.like(supernet)


@pytest.mark.parametrize("only_sampled", [False, True])
def test_the_bytes_of_a_graph_are_counted_without_computing(only_sampled):
    workload = tiny(WORKLOADS["darts-8x4-reduction"])
    step, kept = Step(workload, PLAIN), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    sample = Workload("theta", **{k: v for k, v in workload.plain_data().items() if k != "kind"}).samples(1)[0]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        plain._forward(step.network, *step.batches[0], sample, only_sampled)
    for parameter in step.network.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    counted = plain.graph_bytes(workload.network(), workload.batch, workload.size, sample, only_sampled=only_sampled)
    # Next to the maps, a few scalars and the labels are kept, whose storages PyTorch shares on one device only.
    assert abs(counted - real) < 0.01 * real


def test_a_sampled_side_keeps_less():
    kept = {side: kept_bytes(tiny(Workload("theta")), side) for side in (PLAIN, SAMPLED, PUBLISHED)}
    assert kept[SAMPLED] < 0.6 * kept[PLAIN]
    # The scripts record the graph of their second pass, through every candidate; those of statistics have none.
    assert kept[PUBLISHED] == kept[PLAIN]
    assert kept_bytes(tiny(Workload("statistics")), PUBLISHED) == kept[SAMPLED]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"kind": "nonsense"}, "'nonsense' is unknown; allowed are theta, statistics"),
        ({"batch": 0}, "batch is 0; give a whole number of at least 1"),
        ({"reduction": True, "size": 9}, "size 9 cannot be halved twice; give a multiple of 4"),
    ],
)
def test_an_impossible_workload_is_refused(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        replace(Workload("theta"), **change)


def test_a_side_that_a_workload_lacks_is_refused():
    with pytest.raises(ValueError, match="no side 'sampled'; allowed are engine, plain"):
        Step(tiny(Workload("darts")), SAMPLED)


# -- the roofline --------------------------------------------------------------------------------------------------------


def one_hot(*names):
    z = torch.nn.functional.one_hot(torch.tensor([OPERATIONS.index(name) for name in names]), len(OPERATIONS))
    z = z.double().unsqueeze(0)
    return Sample(z, z > 0)


HAND = Workload("theta", channels=2, size=4, batch=3)
PIXELS, MAP = 48, 4 * 2 * 48


def test_the_counts_of_one_cell_by_hand():
    """e0 = separable into node 2, e3 = skip and e4 = max pool into node 3, which only meets the average pooling."""
    sample = one_hot("sep_conv_3x3", "none", "none", "skip_connect", "max_pool_3x3")
    images, stem = 4 * 3 * PIXELS, 4 * 6 * PIXELS
    stem_products, preprocessing, stage = 27 * 6, 6 * 2, 9 * 2 + 2 * 2
    # Costs only. Two inputs, written and read; two stages, written and read; no gradient goes back to an input. The pool's
    # output is written and read on the way back; node 2 is written, read, read again, and has a gradient.
    fixed = roofline.step(HAND, sample, train=False)
    assert fixed.bytes == images + 2 * stem + MAP * (2 * 2 + 2 * 2 + 2 + 5)
    assert fixed.operations == 2 * PIXELS * (stem_products + 2 * preprocessing + 2 * stage)
    # Weights too: everything goes back, to the images.
    moving = roofline.step(HAND, sample, train=True)
    assert moving.bytes == 2 * images + 4 * stem + 2 * stem + MAP * (2 * 5 + 5 + 3 + 2 + 5)
    assert moving.operations == 2 * PIXELS * (2 * stem_products + 3 * 2 * preprocessing + 3 * 2 * stage)


def test_a_step_of_nothing_reads_its_images():
    work = roofline.step(HAND, one_hot(*["none"] * 5), train=False)
    assert work.bytes == 4 * (3 + 6) * PIXELS and work.operations == 2 * PIXELS * 27 * 6


def test_bilevel_is_two_batches():
    both, theta = (roofline.least_work(tiny(Workload(kind)), 1) for kind in ("bilevel", "darts"))
    sample = tiny(Workload("darts")).samples(1)[0]
    alpha = roofline.step(tiny(Workload("darts")), sample, train=False)
    assert both == theta + alpha and alpha.operations < theta.operations


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_forward_operations_are_those_that_pytorch_counts(name, stride):
    module = plain._operation(name, 4, stride, Normalization())
    with FlopCounterMode(display=False) as counter:
        out = module(torch.randn(3, 4, 8, 8))
    pixels = 3 * out.shape[2] * out.shape[3]
    work = roofline.operation(name, 4, pixels, stride, pooled=False, back=False, train=False)
    assert work.operations == counter.get_total_flops()


@pytest.mark.parametrize("name, made", [("snas-minimal", []), ("darts-8x4-reduction", [(1, 1), (2, 0), (2, 1)])])
def test_the_operations_of_a_network_are_those_that_pytorch_counts(name, made):
    """Stem, preprocessing, reduction and all, of a sample of weights 0: only the ``made`` inputs of cells, those that cells
    made, get gradients then, which their preprocessing sends on."""
    workload = tiny(WORKLOADS[name])
    step = Step(workload, PLAIN)
    sample = Sample(torch.zeros_like(step.samples[0].z), step.samples[0].active)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        step.network(step.batches[0][0], step.network.per_cell(sample.z).float())
    head = 2 * workload.batch * step.network.head.weight.numel()
    counts = counter.get_flop_counts()
    again = sum(sum(counts[f"PlainNetwork.cells.{cell}.preprocess.{place}"].values()) for cell, place in made)
    work = roofline.step(workload, sample, train=False)
    assert work.operations == counter.get_total_flops() - head + again


def test_the_least_time_is_the_larger_of_the_two():
    machine = roofline.Machine(memory=10.0, cache=100.0, matrix=5.0, cache_size=1 << 20)
    assert machine.least_seconds(roofline.Work(operations=10, bytes=10)) == 2.0
    assert machine.least_seconds(roofline.Work(operations=10, bytes=40)) == 4.0
    assert machine.least_seconds_cached(roofline.Work(operations=1, bytes=40)) == 0.4


def test_the_machine_is_measured_and_its_threads_are_given_back():
    before = torch.get_num_threads()
    found = roofline.machine(1, seconds=0.0, matrix=64, copied=1 << 16)
    assert torch.get_num_threads() == before
    assert all(math.isfinite(rate) and rate > 0 for rate in (found.memory, found.cache, found.matrix))


# -- measuring -----------------------------------------------------------------------------------------------------------

SMALL = tiny(Workload("theta"))


def test_a_pace_keeps_its_bounds():
    pace = measure.Pace(10.0, 5, 101, 0.0)
    assert [pace.pairs(each) for each in (0.0, 0.5, 100.0)] == [101, 20, 5]


def test_before_a_short_step_of_a_turn_another_runs_that_does_not_count():
    side, asked = measure.Side.__new__(measure.Side), []
    side.run = lambda numbers: asked.append(numbers) or [float(10 * number) for number in numbers]
    assert side.turn(3, True) == side.turn(3, False) == 30.0 and asked == [[2, 3], [3]]


def test_sides_take_turns():
    found = measure.compare(SMALL, SAMPLED, 1, measure.QUICK)
    assert found["alternating"] is True
    assert len(found["engine"]["seconds"]) == len(found["other"]["seconds"]) >= measure.QUICK.least
    assert all(second > 0 for side in ("engine", "other") for second in found[side]["seconds"])


def test_sides_that_do_not_fit_together_run_one_after_the_other(monkeypatch):
    answers = iter([True, False, True])
    monkeypatch.setattr(measure, "fits", lambda size: next(answers))
    found = measure.compare(SMALL, SAMPLED, 1, measure.QUICK)
    assert found["alternating"] is False and found["engine"]["seconds"] and found["other"]["seconds"]


def test_a_side_that_does_not_fit_is_not_started(monkeypatch):
    monkeypatch.setattr(measure, "available", lambda: 1000)
    found = measure.compare(SMALL, PLAIN, 1, measure.QUICK)
    assert found["engine"]["seconds"] and found["other"] == {"kept": kept_bytes(SMALL, PLAIN), "available": 1000}
    assert report.ratios(found) is None


def _greedy(connection):
    """In a process of its own: take more than there is."""
    measure.available = lambda: measure.RESERVE + (256 << 20)
    measure._bound()
    torch.ones(16 << 20)
    try:
        torch.ones(256 << 20)
    except RuntimeError as error:
        connection.send(measure._sentence(error))


def test_a_process_that_takes_too_much_is_stopped():
    ours, theirs = measure._CONTEXT.Pipe()
    process = measure._CONTEXT.Process(target=_greedy, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.recv() == "it ran out of memory"
    process.join()


def test_a_side_that_fails_says_why():
    with pytest.raises(measure.Failed, match="the workload has no side 'sampled'"):
        measure.Side(tiny(Workload("darts")), SAMPLED, 1)
    assert "failed" in measure.alone(tiny(Workload("darts")), SAMPLED, 1, measure.QUICK)


def test_a_process_that_dies_is_noticed():
    side = measure.Side(SMALL, ENGINE, 1)
    side._process.kill()
    side._process.join()
    with pytest.raises(measure.Failed, match="its process ended with exit code -9"):
        side.run([0])


def test_a_soak_compares_the_last_steps_with_the_first(monkeypatch):
    found = scaling.soak(1, steps=6, chunk=2)
    assert len(found["resident"]) == 3 and found["growth"] == found["resident"][-1] - found["resident"][0]
    assert min(found["resident"]) > 1 << 20


# -- the tables ----------------------------------------------------------------------------------------------------------


def comparison(engine, other, /, **more):
    return {
        "engine": {"seconds": engine, "peak": 10**8},
        "other": {"seconds": other, "peak": 3 * 10**8},
        "alternating": True,
    } | more


RESULTS = {
    "provenance": {
        "date": "2026-01-01 00:00 UTC",
        "python": "3.11.0",
        "torch": "2.9.0",
        "cpu": "a processor",
        "cores": 4,
        "threads": 2,
        "memory": 16 * 10**9,
        "code": "0123456789ab",
        "quick": False,
    },
    "machine": {"memory": 2e10, "cache": 1e11, "matrix": 1e11, "cache_size": 32 << 20},
    "workloads": {
        "theta-minimal": {
            "workload": Workload("theta").plain_data(),
            "least": {"operations": 1e9, "bytes": 4e8},
            "sides": {
                "plain": comparison([0.1, 0.1, 0.2], [1.0, 1.0, 1.0]),
                "sampled": comparison([0.1], [0.3], alternating=False),
                "published": comparison([0.1, 0.1], [0.5, 0.6], other={"kept": 2 * 10**10, "available": 10**10}),
            },
        },
        "bilevel-8x4-reduction": {
            "workload": WORKLOADS["bilevel-8x4-reduction"].plain_data(),
            "least": {"operations": 1e12, "bytes": 1e9},
            "sides": {"plain": comparison([2.0], [9.0], other={"failed": "it ran out of memory"})},
        },
    },
    "table": {
        "data": "digits",
        "size": 8,
        "batch": 96,
        "channels": 16,
        "repeats": 2,
        "steps": 200,
        "states": {
            "initial": {
                "published": {"seconds": [0.1, 0.1], "price": [20.0, 40.0]},
                "sampled": {"seconds": [0.02, 0.02], "price": [4.0, 8.0]},
                "conditioned": {"seconds": [0.3, 0.3], "price": [1.0, 2.0]},
            }
        },
    },
    "launches": {
        "snas-minimal": {
            "workload": WORKLOADS["snas-minimal"].plain_data(),
            "kernels": {"engine": 669.0, "plain": 691.0, "published": 1093.5, "engine on a CPU": 1737.0},
        }
    },
    "seeds": {
        "cores": 2,
        "workloads": {"paper": Workload("theta").plain_data()},
        "rates": {"paper": {"processes": 30.0, "threads": 20.0}},
    },
    "startup": {"n": 5, "torch": 1.5, "library": 0.25, "read_import": 2.0, "read": 0.125, "results": 10},
    "scaling": {
        "base": Workload("darts").plain_data(),
        "curves": {"cells": [{"value": 1, "seconds": 0.5, "peak": 10**8, "n": 3}, {"value": 8, "failed": "no room"}]},
        "deep": {"workload": scaling.DEEP.plain_data(), "seconds": 7.0, "peak": 5 * 10**9, "n": 3},
        "limit": 12 * 10**9,
    },
    "chapters": {
        "limit": 60.0,
        "chapters": {"01": {"seconds": 61.0, "results": 9}, "02": {"seconds": 9.0, "results": 0}},
    },
    "soak": {"workload": {}, "steps": 30, "chunk": 10, "resident": [10**8, 10**8, 101 * 10**6], "growth": 10**6},
}


def test_a_ratio_is_the_median_of_the_pairs_and_lies_between_their_quartiles():
    ratio, low, high, pairs = report.ratios(comparison([0.1, 0.1, 0.2], [1.0, 1.0, 1.0]))
    assert (ratio, low, high, pairs) == pytest.approx((10.0, 7.5, 10.0, 3))
    assert report.ratios(comparison([0.5], [1.0])) == (2.0, 2.0, 2.0, 1)
    # The ratio of the medians, 3 / 2, lies outside the quartiles of these pairs.
    ratio, low, high, _ = report.ratios(comparison([1.0, 2.0, 3.0], [3.0, 1.0, 12.0]))
    assert ratio == 3.0 and low <= ratio <= high


def test_a_cache_slower_than_memory_is_left_out():
    """As once recorded: 1.08 GB/s within the cache of a machine that copies 23.7 GB/s in memory."""
    text = report.render(RESULTS | {"machine": RESULTS["machine"] | {"cache": 1e9}})
    assert "least time from cache" not in text and "it is left out" in text
    assert "least time from cache" in report.render(RESULTS) and "left out" not in report.render(RESULTS)


def test_the_tables_are_a_pure_function_of_the_results():
    before = json.dumps(RESULTS)
    text = report.render(RESULTS)
    assert report.render(json.loads(before)) == text and json.dumps(RESULTS) == before
    assert f"100{report.SPACE}ms" in text and f"[7.5,{report.SPACE}10], n{report.SPACE}={report.SPACE}3" in text
    text = text.replace(report.SPACE, " ")
    for words in (
        "| `theta-minimal`: 1 × 2, batch 96 | 100 ms | 1 s: **10×** [7.5, 10], n = 3 |",
        "300 ms: **3×** [3, 3], n = 1, one after the other",
        "does not fit: its graph alone keeps 20 GB, 10 GB were free |",
        "| `bilevel-8x4-reduction`: 8 × 4, batch 64, reduction | 2 s | failed: it ran out of memory | – | as plain |",
        "| `theta-minimal` | 1 | 0.4 | 20 ms | memory | 20 % | 10 ms |",
        "| `bilevel-8x4-reduction` | 1e+03 | 1 | 10 s | arithmetic | 5e+02 % | 10 s |",
        "| at initialisation | 100 ms | 20 ms | 300 ms | **5×** [5, 5] | **20×** [20, 20] |",
        "| paper: 1 × 2, 16 channels, 32 × 32, batch 96 | 30 | 20 | **1.5×** |",
        "has imported all it needs after 2 s and has read them after 125 ms more",
        "| cells = 8 | failed: no room | – |",
        "7 s a step and a peak of 5 GB, within the 12 GB that it may take",
        "from 100 MB after step 10 to 101 MB at the end: +1 MB",
    ):
        assert words in text, words
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            widths.setdefault(line.count("|"), []).append(line)
    assert set(widths) == {4, 5, 6, 7, 8}


@pytest.mark.parametrize(
    "left_out", ["workloads", "launches", "table", "seeds", "startup", "scaling", "soak", "chapters"]
)
def test_what_was_not_measured_is_left_out(left_out):
    some = {name: value for name, value in RESULTS.items() if name != left_out}
    heading = {
        "workloads": "Roofline",
        "launches": "Kernels a step",
        "table": "A table of costs",
        "seeds": "Processes or threads",
        "startup": "Start-up",
    }.get(left_out, left_out.capitalize())
    assert f"### {heading}" in report.render(RESULTS) and f"### {heading}" not in report.render(some)


def test_kernels_stand_in_the_order_of_the_columns():
    assert "| 669 | 691 | – | 1094 | 1737 |" in report.render(RESULTS)
    row = {"workload": WORKLOADS["bilevel-minimal"].plain_data(), "kernels": {"engine": 3.0, "plain": 4.0}}
    assert "| 3 | 4 | – | as plain | – |" in report.render(RESULTS | {"launches": {"bilevel-minimal": row}})


def test_failures_are_told():
    some = RESULTS | {"startup": {"failed": "no torch"}, "soak": {"failed": "it ran out of memory"}}
    assert "could not be imported: no torch." in report.render(some)
    assert "The soak failed: it ran out of memory." in report.render(some)
    startup = {"n": 1, "torch": 1.0, "library": 1.0, "read_failed": "The result is STALE"}
    assert "were not read: The result is STALE." in report.render(RESULTS | {"startup": startup})
    broken = json.loads(json.dumps(RESULTS))
    broken["workloads"]["bilevel-8x4-reduction"]["sides"]["plain"]["engine"] = {"failed": "it ran out of memory"}
    assert "| failed: it ran out of memory | failed: it ran out of memory |" in report.render(broken)


def test_chapters_are_counted_against_their_limit():
    text = report.render(RESULTS).replace(report.SPACE, " ")
    assert "1 of 2 within the 60 s" in text
    assert "| `01` | 9 | 61 s |" in text and "| `02` | – | 9 s |" in text
    broken = {"limit": 60.0, "chapters": {"01": {"failed": "no torch"}}}
    words = report.render(RESULTS | {"chapters": broken})
    assert "0 of 1 within" in words and "| `01` | failed: no torch | – |" in words


def test_a_chapter_that_stops_says_why(monkeypatch):
    stopped = subprocess.CompletedProcess([], 1, "", "a trace\nParameterError: there is no scale 'huge'\n")
    monkeypatch.setattr(chapters.subprocess, "run", lambda *given, **options: stopped)
    found = chapters.chapters(["01_introduction"])
    assert found["chapters"] == {"01_introduction": {"failed": "ParameterError: there is no scale 'huge'"}}


def test_a_chapter_is_timed_from_an_empty_store(monkeypatch):
    seen = []

    def run(command, *, env, **options):
        root = Path(env["NAS_RESULTS_ROOT"])
        assert not root.exists() and "NAS_RESULTS" not in env
        root.mkdir()
        (root / "one.npz").touch()
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("NAS_RESULTS", "read")
    monkeypatch.setattr(chapters.subprocess, "run", run)
    found = chapters.chapters(chapters.names())["chapters"]
    assert len(found) == len(seen) == len(list((ROOT / "book").glob("*.ipynb")))
    assert {own["results"] for own in found.values()} == {1}


def test_a_table_goes_between_the_markers():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.insert(page, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n" and report.insert(once, "new") == once
    with pytest.raises(ValueError, match="the page has no place for the table"):
        report.insert("before\nafter\n", "new")


def test_results_of_the_same_code_and_machine_are_kept():
    later = {"provenance": RESULTS["provenance"] | {"date": "later"}, "workloads": {"snas-minimal": {}}}
    merged = command.merge(RESULTS, later)
    some = RESULTS | {
        "chapters": {
            "limit": 60.0,
            "chapters": {"00": {"seconds": 1.0, "results": 0}, "02": {"seconds": 2.0, "results": 0}},
        }
    }
    own = command.merge(RESULTS, some)["chapters"]["chapters"]
    assert list(own) == ["00", "01", "02"] and (own["01"]["seconds"], own["02"]["seconds"]) == (61.0, 2.0)
    assert list(merged["workloads"]) == ["theta-minimal", "snas-minimal", "bilevel-8x4-reduction"] and "soak" in merged
    assert merged["provenance"]["date"] == "later" and "snas-minimal" not in RESULTS["workloads"]
    assert command.merge({}, RESULTS) == RESULTS
    for change in ({"code": "ba9876543210"}, {"threads": 1}, {"quick": True}):
        other = later | {"provenance": RESULTS["provenance"] | change}
        assert command.merge(RESULTS, other) == other


# -- the command ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--only", "theta-mininal"], "nothing to measure named 'theta-mininal'; allowed are theta-minimal, "),
        (["--threads", "0"], "--threads is 0; give a whole number from 1 to "),
        (["--threads", "100000"], "--threads is 100000; give a whole number from 1 to "),
        (["--out", "nowhere/at/all.json"], "there is no folder nowhere/at; make it, or give another --out"),
        (["--out", "README.md"], "--out is README.md; give the name of a JSON file"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr(command, "_measured", lambda *given: pytest.fail("it began to measure"))
    assert command.main(["--quick", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1


def test_a_file_that_is_not_json_is_refused(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results.json"
    out.write_text("{")
    monkeypatch.setattr(command, "_measured", lambda *given: RESULTS)
    assert command.main(["--out", str(out)]) == 2 and "is not JSON" in capsys.readouterr().err
    assert out.read_text() == "{"


def test_only_and_the_flags_choose():
    def chosen(*arguments):
        return command._chosen(command._parser().parse_args(arguments))

    assert chosen() == [*WORKLOADS, "launches", "table", "seeds", "startup"]
    assert chosen("--scaling", "--soak") == [
        *WORKLOADS,
        "launches",
        "table",
        "seeds",
        "startup",
        "scaling",
        "soak",
    ]
    assert chosen("--only", "snas-8x4", "theta-minimal") == ["theta-minimal", "snas-8x4"]
    assert (
        chosen("--only", "startup", "--chapters")
        == chosen("--only", "chapters", "startup")
        == ["startup", *chapters.names()]
    )
    assert chosen("--quick", "--only", "chapters") == ["01_introduction"]
    assert chosen("--only", "02_background") == ["02_background"]
    assert chosen("--only", "startup", "--soak") == ["startup", "soak"]
    kinds = {WORKLOADS[name].kind for name in chosen("--quick") if name in WORKLOADS}
    assert kinds == set(KINDS)


def test_a_quick_run_writes_nothing_of_its_own_accord(monkeypatch, capsys):
    monkeypatch.setattr(command, "_measured", lambda *given: RESULTS)
    monkeypatch.setattr(command, "_write", lambda *given: pytest.fail("it wrote"))
    assert command.main(["--quick"]) == 0 and capsys.readouterr().out.startswith("Measured 2026-01-01")


def test_the_recorded_page_is_that_of_the_recorded_results():
    """Nobody edits a number by hand."""
    page = command.PAGE.read_text(encoding="utf-8")
    assert report.BEGIN in page and report.END in page
    if command.RESULTS.exists():
        assert report.insert(page, report.render(json.loads(command.RESULTS.read_text(encoding="utf-8")))) == page


def test_a_quick_run_from_the_command_line(tmp_path):
    """All of it in small, curves, soak and a chapter too, with everything where it belongs."""
    out = tmp_path / "quick.json"
    before = {path: path.read_bytes() for path in (command.PAGE, command.RESULTS) if path.exists()}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--quick",
            "--scaling",
            "--soak",
            "--chapters",
            "--threads",
            "1",
            "--out",
            out,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert out.with_suffix(".md").read_text() == report.render(results)
    assert done.stdout.startswith("Measured ") and "A quick run" in done.stdout
    assert [name for name in command.QUICK if name in WORKLOADS] == list(results["workloads"])
    for entry in results["workloads"].values():
        assert set(entry["sides"]) == set(KINDS[entry["workload"]["kind"]].others)
        for own in entry["sides"].values():
            assert own["alternating"] and min(own["engine"]["seconds"] + own["other"]["seconds"]) > 0
    assert results["chapters"]["chapters"]["01_introduction"]["seconds"] > 0
    assert results["soak"]["steps"] == 60 and results["scaling"]["deep"]["peak"] >= 0
    assert [len(points) for points in results["scaling"]["curves"].values()] == [2, 2, 2]
    assert {"torch", "library"} <= set(results["startup"]) and results["provenance"]["threads"] == 1
    assert before == {path: path.read_bytes() for path in before}
    for text in (out.read_text(), done.stdout):
        assert str(ROOT) not in text and "/tmp" not in text


# -- a table of costs to equal error -------------------------------------------------------------------------------------


def test_the_price_of_a_way_is_its_error_after_a_second():
    """An entry seen in every row with variance v costs v·s; one of eight candidates, seen in an eighth of the rows, eight times that."""
    subject = table._Subject(table.QUICK, prepare(DataConfig("digits", images=64, held_out=0.0), 0), 0)
    rng = np.random.default_rng(0)
    every = rng.normal(size=(4000, *subject.flat.shape[1:]))
    assert subject._price(every, 0.5)[1] == pytest.approx(0.5, rel=0.05)
    drawn = rng.integers(0, every.shape[-1], size=every.shape[:2])
    sometimes = np.where(np.arange(every.shape[-1]) == drawn[..., None], every, np.nan)
    assert subject._price(sometimes, 0.5)[1] == pytest.approx(4.0, rel=0.05)


def test_ways_to_a_table_take_turns_and_are_all_priced():
    found = table.compare(1, table.QUICK)
    assert found["data"] == "digits" and set(found["states"]) == {"initial", "trained"}
    for ways in found["states"].values():
        assert set(ways) == {"published", "sampled", "conditioned"}
        assert all(len(own) == 2 and min(own) > 0 for way in ways.values() for own in way.values())
    assert table.gains(found, "initial", "published") == [1.0, 1.0]
    json.dumps(found)


def test_several_seeds_are_timed_as_processes_and_as_threads(monkeypatch):
    class Still:
        """A side whose steps take as long as told, whatever the threads."""

        def __init__(self, workload, side, threads):
            self.steps = []

        def warm_up(self, seconds):
            return 0.01

        def run(self, numbers):
            time.sleep(0.2)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(scaling, "Side", Still)
    found = scaling.seeds(2, workloads={"a": Workload("theta")}, seconds=0.05)
    rates = found["rates"]["a"]
    assert 1.3 < rates["processes"] / rates["threads"] < 2.7
