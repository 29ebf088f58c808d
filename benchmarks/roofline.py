"""The least that a step has to do, what the machine can do, and hence the least time: the roofline.

**Operations** are the multiplications and additions (2 a product) of the convolutions, forward, back to their inputs and,
where θ moves, back to their weights. Pooling, normalisation and sums are left out.

**Traffic** is that of float32 feature maps under one rule: what batch normalisation separates has to wait in memory, since
its statistics cover the whole batch; all else is done in passing. So, in units of one map:

============================================================  ==================  ===================================
map                                                           forward             backward
============================================================  ==================  ===================================
what an operation's stage normalises                          2 (written, read)   1 (read)
the same, where the node only meets the average pooling       0                   2 (written for it, read)
between the two stages of a separable convolution             0                   2 (the gradient, written and read)
a node or a preprocessed input                                1, and 1 if edges   2 (its gradient), and 1 (itself) if
                                                              leave it            edges leave it
a node that only meets the average pooling                    0                   0
a state, once for each cell that it enters                    1                   1 where it goes on
the stem                                                      1                   3 where weights learn
the images                                                    1                   1 where weights learn
============================================================  ==================  ===================================

An input that no evaluated edge leaves is not preprocessed. Backward counts only what a cost or a weight depends on. A
cache that holds a map from one pass to the next undercuts this, which is why the bandwidth within the last-level cache is
measured as well.

Shapes: B images, H × W pixels, C channels, N cells, E edges, K operations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.workloads import KINDS, Workload
from nas_core.relaxation import Sample
from nas_core.space import OPERATIONS
from nas_core.supernet import NetworkConfig

FLOAT = 4


@dataclass(frozen=True)
class Work:
    """Floating-point operations and bytes to and from memory."""

    operations: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def __mul__(self, factor: float) -> Work:
        return Work(self.operations * factor, self.bytes * factor)


@dataclass(frozen=True)
class Stage:
    """One normalised map of an operation: the side of its depthwise kernel (0: none), and whether channels are mixed."""

    kernel: int
    pointwise: bool


def stages(name: str, stride: int) -> tuple[Stage, ...]:
    """The stages of an operation of :data:`nas_core.space.OPERATIONS`."""
    if name == "none" or (name == "skip_connect" and stride == 1):
        return ()
    if name == "skip_connect":
        return (Stage(0, True),)
    if name.endswith("pool_3x3"):
        return (Stage(0, False),)
    stage = Stage(int(name[-1]), True)
    return (stage, stage) if name.startswith("sep_conv") else (stage,)


def operation(name: str, channels: int, pixels: int, stride: int, *, pooled: bool, back: bool, train: bool) -> Work:
    """One evaluated candidate on ``pixels`` = B·H·W output pixels.

    ``pooled``: its node only meets the average pooling. ``back``: a gradient goes back through it, and into its weights
    where ``train``."""
    own, total = stages(name, stride), Work()
    for position, stage in enumerate(own):
        last = position == len(own) - 1
        if last and pooled:
            maps = 2 * back
        else:
            maps = 2 + back * (1 if last else 3)
        passes = 1 + back * (1 + train)
        total += Work(2 * _products(stage, channels) * pixels * passes, FLOAT * channels * pixels * maps)
    return total


def _products(stage: Stage, channels: int) -> int:
    """Products a pixel of the depthwise and the pointwise convolution."""
    return stage.kernel**2 * channels + stage.pointwise * channels**2


@dataclass(frozen=True)
class _State:
    """A map that enters a cell: channels, pixels, and whether its gradient is wanted."""

    channels: int
    pixels: int
    wanted: bool


def _preprocessing(states: list[_State], channels: int, train: bool) -> Work:
    """What brings the states that a cell uses to ``channels``; one that enters twice is read once."""
    total = Work()
    pixels = min(state.pixels for state in states)
    for state in states:
        back = train or state.wanted
        passes = 1 + train + state.wanted
        total += Work(2 * state.channels * channels * pixels * passes, FLOAT * channels * pixels * (2 + 3 * back))
    for state in {id(state): state for state in states}.values():
        total += Work(0, FLOAT * state.channels * state.pixels * (1 + (train or state.wanted)))
    return total


def _cell(
    config: NetworkConfig,
    position: int,
    states: list[_State],
    channels: int,
    plan: list[list[tuple[int, float]]],
    train: bool,
) -> tuple[Work, _State]:
    """The work of one cell, and the state that it makes."""
    cell, last = config.cell, position == config.cells - 1
    halving = 2 if position in config.reductions else 1
    pixels = min(state.pixels for state in states) // halving**2
    leaving = {cell.edges[e].source for e, row in enumerate(plan) if row}
    entered = {cell.edges[e].target for e, row in enumerate(plan) if row}
    # A gradient is wanted at a node where a weight learns or a cost is taken, there or further back.
    wanted = {node: train or state.wanted for node, state in enumerate(states)}
    wanted |= {node: train or node in entered for node in cell.intermediate}
    pooled = {node for node in cell.intermediate if last and node not in leaving}
    used = [state for node, state in enumerate(states) if node in leaving]
    total = _preprocessing(used, channels, train) if used else Work()
    for edge, row in zip(cell.edges, plan):
        for k, weight in row:
            total += operation(
                OPERATIONS[k],
                channels,
                pixels,
                halving if edge.source < cell.inputs else 1,
                pooled=edge.target in pooled,
                back=weight != 0 and wanted[edge.source],
                train=train,
            )
    for node in set(cell.intermediate) - pooled:
        leaves = node in leaving
        total += Work(0, FLOAT * channels * pixels * (1 + leaves + (2 + leaves) * wanted[node]))
    return total, _State(channels * len(cell.outputs), pixels, any(wanted.values()))


def step(workload: Workload, sample: Sample, *, train: bool) -> Work:
    """The work of one forward and one backward pass on one batch; the head and the optimiser are left out."""
    config = workload.network()
    pixels = workload.batch * workload.size**2
    width = config.stem_multiplier * config.channels
    # A 3×3 convolution of three colours; no image needs a gradient.
    maps = width * (1 + 3 * train) + 3 * (1 + train)
    total = Work(2 * 27 * width * pixels * (1 + train), FLOAT * pixels * maps)
    stem = _State(width, pixels, train)
    states, channels = [stem, stem], config.channels
    for position in range(config.cells):
        channels *= 2 if position in config.reductions else 1
        plan = _plan(sample, config.group(position))
        work, state = _cell(config, position, states[-config.cell.inputs :], channels, plan, train)
        total += work
        states = [states[-1], state]
    return total


def _plan(sample: Sample, group: int) -> list[list[tuple[int, float]]]:
    """(operation, weight) of everything that is evaluated, edge by edge; *none* never is."""
    active, z = sample.active[group].tolist(), sample.z[group].tolist()
    return [[(k, row[k]) for k in range(1, len(row)) if flags[k]] for flags, row in zip(active, z)]


def least_work(workload: Workload, draws: int = 64) -> Work:
    """The least work of a step of the workload: the mean over its first ``draws`` samples."""
    kind = KINDS[workload.kind]
    total = Work()
    for sample in workload.samples(draws):
        total += step(workload, sample, train=kind.trains)
        if kind.own_batch:
            total += step(workload, sample, train=False)
    return total * (1 / draws)


# -- the machine ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """Measured rates: bytes copied a second (read and written) in memory and within the last-level cache, float32
    operations of a matrix product a second; and the size of that cache in bytes."""

    memory: float
    cache: float
    matrix: float
    cache_size: int

    def least_seconds(self, work: Work) -> float:
        """No step with this work, its maps in memory, takes less."""
        return max(work.bytes / self.memory, work.operations / self.matrix)

    def least_seconds_cached(self, work: Work) -> float:
        """The same if every map came from the cache."""
        return max(work.bytes / self.cache, work.operations / self.matrix)


def cache_size() -> int:
    """The size of the last-level cache in bytes; 32 MiB where the system does not say."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) << {"K": 10, "M": 20}[text[-1]])
    return max(sizes, default=32 << 20)


def _rate(work: Callable[[], object], amount: float, seconds: float) -> float:
    """The best rate of ``amount`` a call over about ``seconds``, after one call of warm-up."""
    work()
    best, end = math.inf, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return amount / best


def _copy_rate(size: int, seconds: float) -> float:
    """Bytes read and written a second by copying ``size`` bytes; small copies are repeated, to drown the call's own time."""
    source = torch.ones(size // FLOAT)
    target = torch.empty_like(source)
    times = max(1, (64 << 20) // size)

    def copies() -> None:
        for _ in range(times):
            target.copy_(source)

    return _rate(copies, 2 * size * times, seconds)


def machine(threads: int, *, seconds: float = 2.0, matrix: int = 2048, copied: int | None = None) -> Machine:
    """Measure the machine with ``threads`` threads.

    ``copied`` bytes (default: eight times the last-level cache) are copied for memory, a quarter of the cache, source and
    target together, for the cache; ``matrix`` is the side of the square product. A copy within the cache is also tried on one
    thread, and the better rate counts: a small copy is over before threads on a busy machine have met."""
    before, cached = torch.get_num_threads(), cache_size()
    torch.set_num_threads(threads)
    try:
        left, right = (torch.randn(matrix, matrix) for _ in range(2))
        product = torch.empty_like(left)
        memory = _copy_rate(8 * cached if copied is None else copied, seconds)
        product_rate = _rate(lambda: torch.mm(left, right, out=product), 2.0 * matrix**3, seconds)
        cache = _copy_rate(cached // 8, seconds)
        torch.set_num_threads(1)
        return Machine(memory, max(cache, _copy_rate(cached // 8, seconds)), product_rate, cached)
    finally:
        torch.set_num_threads(before)
