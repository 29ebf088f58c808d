"""Estimators of the expected cost E[C[e, k] | Z_e = k] at fixed θ, over uniform architectures and over batches (Section 5.1).

An estimator measures one batch and returns a row ``[E, K]``, NaN where it observed nothing. Rows of independent batches are averaged.

* :class:`Sampled`: one probe of one architecture, as a search's statistics are taken: an entry an edge;
* :class:`Counterfactual`: the same probe with every candidate evaluated
  (:meth:`~nas_core.relaxation.Sample.counterfactual`): all entries at once, with the gradient of an architecture in which
  e carries another operation, hence biased;
* :class:`Conditioned`: the mean over many architectures that share one pass over the batch (:mod:`nas_core.conditioned`); with
  ``nodes=None`` over all of them, exactly.

Shapes: n rows, E edges, K operations, A architectures, M batches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from nas_core.conditioned import Design, SharedBatch, every_architecture, table, wiring
from nas_core.cost import probe
from nas_core.relaxation import Sample, Uniform, masked
from nas_core.space import NONE, OPERATIONS, SKIP, Cell
from nas_core.supernet import NetworkConfig, Supernet

Batches = Iterable[tuple[Tensor, Tensor]]


def entries(cell: Cell) -> np.ndarray:
    """``[E, K]`` bool: the candidates other than *none*, whose cost is 0 by definition."""
    wanted = np.array(cell.mask())
    wanted[:, NONE] = False
    return wanted


def _draw(network: Supernet, generator: torch.Generator) -> tuple[Tensor, Sample]:
    """log α of the uniform distribution and a sample of it."""
    config = network.config
    flat = torch.zeros(config.groups, len(config.cell.edges), len(OPERATIONS), dtype=torch.float64)
    log_alpha = masked(flat, config.cell)
    return log_alpha, Uniform().sample(log_alpha, generator)


@dataclass(frozen=True)
class Sampled:
    """One probe of one architecture: unbiased, an entry an edge."""

    name: str = "sampled"

    def row(self, network: Supernet, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """``[E, K]`` in float64 for a network of one cell."""
        return _probed(network, images, labels, _draw(network, generator)[1])


@dataclass(frozen=True)
class Counterfactual:
    """One probe of one architecture with all candidates evaluated: biased, every entry."""

    name: str = "counterfactual"

    def row(self, network: Supernet, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """``[E, K]`` in float64 for a network of one cell."""
        log_alpha, sample = _draw(network, generator)
        return _probed(network, images, labels, sample.counterfactual(log_alpha))


def _probed(network: Supernet, images: Tensor, labels: Tensor, sample: Sample) -> Tensor:
    cost = probe(network, images, labels, sample).cost[0].double().cpu()
    return torch.where(sample.active[0], cost, torch.nan)


@dataclass(frozen=True)
class Conditioned:
    """The mean over the architectures that share a pass over the batch: unbiased, every entry.

    ``nodes`` is how many first nodes x₁ a batch has (None: all there are), drawn such that every candidate of a first edge has its
    turn before any has its second: with as many nodes as candidates a Latin square, with fewer a batch does not tell of every entry.
    ``between`` is how many operations of the edge between are evaluated at each (None: all; *none* and *skip_connect*, which cost
    nothing, come on top), ``direct`` how many rounds of choices on the direct edges each is combined with."""

    nodes: int | None = 8
    between: int | None = 1
    direct: int = 1
    name: str = "conditioned"

    def __post_init__(self) -> None:
        for name, value in (("nodes", self.nodes), ("between", self.between), ("direct", self.direct)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give a whole number of at least 1")

    def row(self, network: Supernet, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """``[E, K]`` in float64."""
        return table(SharedBatch(network, images, labels), self.design(network.config, generator))

    def design(self, config: NetworkConfig, generator: torch.Generator) -> Design:
        """The architectures of one batch."""
        if self.nodes is None:
            return every_architecture(config)
        own, cell = wiring(config), config.cell
        first = _choices(cell, own.first, self.nodes, generator)
        round_ = max((len(cell.edges[e].indices) for e in own.direct), default=1)
        candidates = cell.edges[own.between].indices
        free = tuple(k for k in candidates if k in (NONE, SKIP))
        costly = _shuffled([k for k in candidates if k not in free], generator)
        taken = min(self.between or len(costly), len(costly))
        turns = [[costly[(x * taken + i) % len(costly)] for i in range(taken)] for x in range(len(first))]
        between = tuple((*free, *turn) for turn in turns)
        return Design(first, between, tuple(_choices(cell, own.direct, self.direct * round_, generator) for _ in first))


def _shuffled(values: Sequence[int], generator: torch.Generator) -> list[int]:
    return [values[i] for i in torch.randperm(len(values), generator=generator).tolist()]


def _choices(cell: Cell, edges: Sequence[int], count: int, generator: torch.Generator) -> tuple[tuple[int, ...], ...]:
    """``count`` times operations for several edges at once, such that no candidate of an edge comes up twice more often than
    another, in an order of its own."""
    columns = []
    for e in edges:
        column: list[int] = []
        while len(column) < count:
            column += _shuffled(cell.edges[e].indices, generator)
        columns.append(column[:count])
    return tuple(zip(*columns)) if edges else ((),) * count


Estimator = Sampled | Counterfactual | Conditioned


@dataclass(frozen=True)
class Rows:
    """What an estimator measured: ``values`` ``[n, E, K]``, NaN where it observed nothing, and the seconds that took."""

    values: np.ndarray
    seconds: float

    def count(self) -> np.ndarray:
        """Observations of each entry."""
        return np.isfinite(self.values).sum(0)

    def mean(self) -> np.ndarray:
        """The estimate, NaN where nothing was observed."""
        return np.where(self.count() > 0, np.nansum(self.values, 0) / np.maximum(self.count(), 1), np.nan)

    def variance(self) -> np.ndarray:
        """The unbiased variance of one observation, NaN below two."""
        squares = np.nansum((self.values - self.mean()) ** 2, 0)
        return np.where(self.count() > 1, squares / np.maximum(self.count() - 1, 1), np.nan)

    def standard_error(self) -> np.ndarray:
        """Of the mean, as if batches were independent; those of one pass are not, and a pass that observes every entry in
        every batch does better."""
        return np.sqrt(self.variance() / np.maximum(self.count(), 1))


def measure(network: Supernet, estimator: Estimator, batches: Batches, generator: torch.Generator) -> Rows:
    """A row for every batch. The seconds include making the batches."""
    start = time.process_time()
    values = [estimator.row(network, *batch, generator).numpy() for batch in batches]
    return Rows(np.stack(values), time.process_time() - start)


# --- how many samples a sign needs ------------------------------------------------------------------------------------


def _half_widths(rows: Rows, look: int, confidence: float, wanted: np.ndarray) -> np.ndarray:
    """``[E, K]``: half of the t-interval of each mean at look number ``look`` (from 1); NaN below two observations.

    The error 1 − ``confidence`` is shared among the ``wanted`` entries (Bonferroni) and among all looks there may ever be:
    look j may spend 1/(j(j+1)) of it. So the chance that any interval ever misses stays below it."""
    spent = (1 - confidence) / (wanted.sum() * look * (look + 1))
    return rows.standard_error() * stats.t.ppf(1 - spent / 2, np.maximum(rows.count() - 1, 1))


def sign_known(rows: Rows, look: int, confidence: float, wanted: np.ndarray) -> np.ndarray:
    """``[E, K]`` bool: the interval of an entry's mean excludes 0 at this look, all others and all looks allowed for."""
    with np.errstate(invalid="ignore"):
        return wanted & (np.abs(rows.mean()) > _half_widths(rows, look, confidence, wanted))


def known_small(rows: Rows, look: int, confidence: float, wanted: np.ndarray, negligible: float) -> np.ndarray:
    """``[E, K]`` bool: an entry is shown to be smaller than ``negligible`` times the root mean square of the table as measured."""
    mean = rows.mean()
    size = math.sqrt(np.nanmean(mean[wanted] ** 2)) if np.isfinite(mean[wanted]).any() else 0.0
    with np.errstate(invalid="ignore"):
        return wanted & (np.abs(mean) + _half_widths(rows, look, confidence, wanted) < negligible * size)


def decided(rows: Rows, looks: Sequence[int], confidence: float, wanted: np.ndarray) -> np.ndarray:
    """``[E, K]``: after how many rows, among those at which one looked, each sign was first known; NaN where it never was."""
    steps = np.full(wanted.shape, np.nan)
    for look, n in enumerate(looks, start=1):
        known = sign_known(Rows(rows.values[:n], math.nan), look, confidence, wanted)
        steps = np.where(np.isnan(steps) & known, n, steps)
    return steps


@dataclass(frozen=True)
class Adaptive:
    """What :func:`adaptive` found: its ``rows``, after how many of them each sign was known (``signs`` ``[E, K]``, NaN where it was
    not), and which entries were shown to be ``small`` ``[E, K]``."""

    rows: Rows
    signs: np.ndarray
    small: np.ndarray


def adaptive(
    network: Supernet,
    estimator: Estimator,
    batches: Batches,
    generator: torch.Generator,
    *,
    every: int,
    confidence: float = 0.95,
    negligible: float = 0.0,
) -> Adaptive:
    """Measure until every sign is known or its cost shown to be negligible (:func:`known_small`), looking after ``every`` batches,
    or until ``batches`` end."""
    wanted, start = entries(network.config.cell), time.process_time()
    values: list[np.ndarray] = []
    signs, small = np.full(wanted.shape, np.nan), np.zeros(wanted.shape, bool)
    for batch in batches:
        values.append(estimator.row(network, *batch, generator).numpy())
        if len(values) % every == 0:
            rows, look = Rows(np.stack(values), math.nan), len(values) // every
            known = sign_known(rows, look, confidence, wanted)
            signs = np.where(np.isnan(signs) & known, len(values), signs)
            small |= known_small(rows, look, confidence, wanted, negligible)
            if (np.isfinite(signs) | small)[wanted].all():
                break
    return Adaptive(Rows(np.stack(values), time.process_time() - start), signs, small)


# --- where the variance comes from ------------------------------------------------------------------------------------


def two_way(values_MA: np.ndarray) -> np.ndarray:
    """Variance components ``[architecture, batch, interaction]`` of a table of M batches and *all* A architectures.

    Batches are a sample, architectures are not; the estimates are unbiased, so a small one may fall below 0."""
    batches, architectures = values_MA.shape
    row, column = values_MA.mean(1), values_MA.mean(0)
    rest = values_MA - row[:, None] - column + values_MA.mean()
    interaction = (rest**2).sum() / (architectures * (batches - 1))
    return np.array([column.var() - interaction / batches, row.var(ddof=1), interaction])


def variance_components(config: NetworkConfig, layouts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[3, E, K]`` twice, by :func:`two_way`: of one probe, and of the mean over all architectures that share an x₁.

    ``layouts`` ``[M, E, K_0, …]`` are those of :func:`nas_core.conditioned.layout` on M batches."""
    cell, own = config.cell, wiring(config)
    single = np.zeros((3, len(cell.edges), len(OPERATIONS)))
    shared = np.zeros_like(single)
    for e, k in zip(*np.nonzero(entries(cell))):
        costs = given(cell, layouts, e, k)
        # Axes of the edges that are left, after e's own is gone.
        averaged = tuple(1 + f - (f > e) for f in range(len(cell.edges)) if f not in own.first and f != e)
        single[:, e, k] = two_way(costs.reshape(len(costs), -1))
        shared[:, e, k] = two_way(costs.mean(averaged).reshape(len(costs), -1))
    return single, shared


def given(cell: Cell, layouts: np.ndarray, edge: int, operation: int) -> np.ndarray:
    """The cost of an operation on an edge, ``[M, …]``, over the architectures that have it there."""
    return np.take(layouts[:, edge], cell.edges[edge].indices.index(operation), axis=1 + edge)


def exact_tables(cell: Cell, layouts: np.ndarray) -> np.ndarray:
    """The exact cost of each batch, ``[M, E, K]``: 0 for *none*, NaN for what is no candidate."""
    tables = np.full((len(layouts), len(cell.edges), len(OPERATIONS)), np.nan)
    for e, k in zip(*np.nonzero(np.array(cell.mask()))):
        tables[:, e, k] = given(cell, layouts, e, k).reshape(len(layouts), -1).mean(1)
    return tables


def best_split(
    architecture_variance: float, batch_variance: float, architecture_seconds: float, batch_seconds: float
) -> float:
    """How many architectures a batch give the smallest variance of the mean in a given time.

    With n of them the mean over M batches has the variance (σ_b² + σ_a²/n)/M and takes M(c_b + n c_a) seconds; the product is
    smallest at n = √(σ_a²/σ_b² · c_b/c_a). σ_a² includes the interaction."""
    return math.sqrt(architecture_variance * batch_seconds / (batch_variance * architecture_seconds))
