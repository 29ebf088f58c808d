"""How large what Theorem 1 leaves open is: single edges' shares, what ε lets through, what skips pass on.

Theorem 1 says that the edges into a node get nothing *together* through a path behind it. Whether one edge's share is
small, or vanishes on average over samples, batches, seeds or training, is not mathematics but measurement."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Tensor, nn

from nas_core.relaxation import Sample
from nas_core.space import SKIP
from nas_core.supernet import Supernet
from nas_core.theory import normalization as norms
from nas_core.theory.assignment import intermediate_paths
from nas_core.theory.evaluation import Stage, Trace, trace
from nas_core.theory.residual import inner


@dataclass(frozen=True)
class Share:
    """What edge (i, j) gets through one edge (j, k): ``value`` = ⟨∂L/∂X_j|(j,k), X_j^i⟩ over the normalised operations
    of (j, k). ``own`` is what it gets through the output edge of j, which the paper takes for its whole cost; 0 where j
    is no output. ``bound`` is how far ε and rounding may set the sum of the node's shares from 0."""

    cell: int
    node: int
    through: tuple[int, int]
    edge: tuple[int, int]
    value: float
    own: float
    bound: float


def shares(seen: Trace) -> list[Share]:
    """Every edge's share of what its node gets through each intermediate edge behind it, where several edges enter.

    Edges that contribute nothing (*none*) have no share. The shares of a node through one edge sum to 0."""
    cell, found = seen.network.config.cell, []
    for position, own in enumerate(seen.cells):
        parts = _entering(seen, position)
        through: dict[int, list[tuple[Tensor, Stage]]] = defaultdict(list)
        for place, stage in own.paths.items():
            if cell.edge_class(place[0]) == "intermediate" and norms.normalizes(stage):
                through[place[0]].append((own.passed[place], stage))
        for out, stages in through.items():
            node = cell.edges[out].source
            gradient = cast(Tensor, sum(gradient for gradient, _ in stages))
            bound = sum(abs(norms.epsilon_share(stage)) + norms.rounding(stage) for _, stage in stages)
            for edge, part in parts[node].items() if len(parts[node]) > 1 else ():
                alone = inner(own.leaving[node], part) if node in own.leaving else 0.0
                behind, before = ((cell.edges[e].source, cell.edges[e].target) for e in (out, edge))
                found.append(Share(position, node, behind, before, inner(gradient, part), alone, bound))
    return found


def _entering(seen: Trace, position: int) -> dict[int, dict[int, Tensor]]:
    """``{node: {edge: X_j^i}}`` of every edge of a cell that contributes something."""
    found: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for (edge, operation), output in seen.cells[position].outputs.items():
        z = float(seen.z[position, edge, operation])
        if z != 0:
            node = seen.network.config.cell.edges[edge].target
            found[node][edge] = found[node].get(edge, 0) + z * output
    return found


@dataclass(frozen=True)
class ShareStatistics:
    """A share over many draws: its mean with standard error, its mean size, the mean size of the same edge's ``own``
    cost, and the mean of |Σ|/Σ|·| over the edges of the node (``cancel``: 0 where they cancel, 1 where they do not)."""

    cell: int
    through: tuple[int, int]
    edge: tuple[int, int]
    draws: int
    mean: float
    standard_error: float
    mean_absolute: float
    own_absolute: float
    cancel: float

    @property
    def z(self) -> float:
        """The mean in standard errors: beyond 2 or so, the share does not vanish on average either."""
        return self.mean / self.standard_error if self.standard_error > 0 else math.nan


def share_statistics(traces: Iterable[Trace]) -> list[ShareStatistics]:
    """:func:`shares` over traces of one cell design: draws, batches, seeds or states of training.

    Only draws in which at least two edges feed the node count: a single one's share is 0 by Theorem 1."""
    values = defaultdict(list)
    for seen in traces:
        groups = defaultdict(list)
        for share in shares(seen):
            groups[share.cell, share.through].append(share)
        for (cell, through), group in groups.items():
            total = sum(abs(share.value) for share in group)
            if len(group) > 1 and total > 0:
                cancel = abs(sum(share.value for share in group)) / total
                for share in group:
                    values[cell, through, share.edge].append((share.value, share.own, cancel))
    found = []
    for (cell, through, edge), rows in sorted(values.items()):
        value, own, cancel = np.array(rows).T
        error = value.std(ddof=1) / math.sqrt(len(value)) if len(value) > 1 else math.nan
        sizes = (float(np.abs(value).mean()), float(np.abs(own).mean()), float(cancel.mean()))
        found.append(ShareStatistics(cell, through, edge, len(value), float(value.mean()), float(error), *sizes))
    return found


@dataclass(frozen=True)
class SkipPassed:
    """The exception of Eq 20 in size: the mean |Z·C| that a skip on an intermediate edge passes on, the mean |Z·C| of
    the other operations of these cells (*none* not counted), and their ratio."""

    passed: float
    carried: float

    @property
    def ratio(self) -> float:
        """Passed over carried; the paper expects it to be "much smaller" than 1. Not a number without a skip."""
        return self.passed / self.carried if self.carried > 0 else math.nan


def skip_passed(traces: Iterable[Trace]) -> SkipPassed:
    """Over one or more traces: what skips pass through, against what an ordinary operation carries."""
    skips: list[float] = []
    others: list[float] = []
    for seen in traces:
        cell = seen.network.config.cell
        for position, own in enumerate(seen.cells):
            for edge, operation in own.outputs:
                z = float(seen.z[position, edge, operation])
                if z == 0:
                    continue
                bare = operation == SKIP and cell.edge_class(edge) == "intermediate"
                (skips if bare else others).append(abs(z * float(seen.cost[position, edge, operation])))
    return SkipPassed(*(float(np.mean(part)) if part else math.nan for part in (skips, others)))


@dataclass(frozen=True)
class EpsilonScaling:
    """For each of ``epsilons``: the mean of ε/(σ²+ε) over the channels of all paths, Σ|cost passed on|, and the part of
    it that rounding may be; ``slope`` of the logarithms over the points above rounding and below saturation."""

    epsilons: np.ndarray
    ratios: np.ndarray
    residuals: np.ndarray
    rounding: np.ndarray

    @property
    def slope(self) -> float:
        """1 where the residual is proportional to ε/σ²; not a number below two usable points."""
        use = (self.residuals > 10 * self.rounding) & (self.ratios < 1e-3) & (self.ratios > 0)
        if use.sum() < 2:
            return math.nan
        return float(np.polyfit(np.log(self.ratios[use]), np.log(self.residuals[use]), 1)[0])


def epsilon_scaling(
    network: Supernet, images: Tensor, labels: Tensor, sample: Sample, epsilons: Sequence[float]
) -> EpsilonScaling:
    """The cost that intermediate edges pass on, for the same weights under another ε in every normalisation."""
    rows = []
    for eps in epsilons:
        config = replace(network.config, normalization=replace(network.config.normalization, eps=eps))
        head, stem = network.head, cast(nn.Conv2d, network.stem[0])
        twin = Supernet(config, image_channels=stem.in_channels, classes=head.out_features)
        twin.to(head.weight).load_state_dict(network.state_dict())
        seen = trace(twin, images, labels, sample)
        stages = [stage for _, _, _, stage, *_ in intermediate_paths(seen) if stage is not None]
        ratios = [float(norms.statistics(stage.norm, stage.a).ratio.mean()) for stage in stages]
        residual = sum(abs(norms.passed(stage)) for stage in stages)
        rows.append((eps, float(np.mean(ratios)), residual, sum(norms.rounding(stage) for stage in stages)))
    return EpsilonScaling(*np.array(rows).T)
