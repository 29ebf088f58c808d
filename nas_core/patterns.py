"""The patterns of Section 3 in runs of one configuration: growth (P1), width (P2), catastrophe (P3), and the cost meanwhile.

A run is anything with ``arrays`` as a search records them. Letters in shapes: s runs, R records, E edges, K operations. Epoch
0 is left out of drops and recoveries: α starts at random, so *none* is then the likeliest here and there by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas_core.derive import Growth, chance_shape, growth, likeliest, shape, surviving
from nas_core.space import NONE, Cell

FEW = 0.2
"""Share of edges that still counts as "no edge": one of the minimal cell's five, the smallest number that is not
none."""
SIGNIFICANT = 0.05


def intermediate(cell: Cell) -> np.ndarray:
    """``[E]`` of bool: which edges join two intermediate nodes."""
    return np.array([cell.edge_class(edge) == "intermediate" for edge in range(len(cell.edges))])


def fates(run: Any) -> tuple[Growth, ...]:
    """Drop and recovery of every edge of a run's first α, in epochs from 1 on."""
    history = growth(run.arrays["probability"][1:, 0])
    return tuple(
        Growth(*(None if epoch is None else epoch + 1 for epoch in (own.dropped, own.recovered))) for own in history
    )


def expected_shape(run: Any, cell: Cell) -> tuple[float, float]:
    """Width and depth that as many edges as the run keeps at the end would give by chance."""
    wiring = likeliest(run.arrays["probability"][-1, 0])
    return chance_shape(sum(operation != NONE for operation in wiring), cell)


def _mean(values: np.ndarray) -> float:
    """The mean without NaN; NaN where nothing is known."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


@dataclass(frozen=True)
class Measures:
    """P1 to P3 in runs of one configuration. Every array has one row a run."""

    cell: Cell
    runs: Sequence[Any]

    @cached_property
    def alive(self) -> np.ndarray:
        """``[s, R, E]`` of bool: *none* is not likelier than every other operation."""
        return np.stack([surviving(run.arrays["probability"][:, 0]) for run in self.runs])

    @cached_property
    def intermediate(self) -> np.ndarray:
        """``[E]`` of bool: edges between two intermediate nodes."""
        return intermediate(self.cell)

    @cached_property
    def _growth(self) -> np.ndarray:
        """``[s, E, 2]``: epochs of drop and recovery, NaN for never."""
        return np.array(
            [
                [[math.nan if at is None else float(at) for at in (own.dropped, own.recovered)] for own in fates(run)]
                for run in self.runs
            ]
        )

    @property
    def dropped(self) -> np.ndarray:
        """``[s, E]``: the epoch at which an edge's likeliest operation first was *none*; NaN: never."""
        return self._growth[..., 0]

    @property
    def recovered(self) -> np.ndarray:
        """``[s, E]``: the epoch at which a dropped edge came back for good; NaN: never."""
        return self._growth[..., 1]

    @property
    def lowest(self) -> np.ndarray:
        """``[s]``: the smallest share of edges alive at once, from epoch 1 on."""
        return self.alive[:, 1:].mean(axis=-1).min(axis=1)

    @property
    def last(self) -> np.ndarray:
        """``[s]``: the share of edges alive at the end."""
        return self.alive[:, -1].mean(axis=-1)

    def alive_share(self, kind: str) -> float:
        """The share of ``"input"`` or ``"intermediate"`` edges alive at the end, over runs; NaN without such edges."""
        return _mean(self.alive[:, -1, self._of(kind)].astype(float))

    def recovered_share(self, kind: str) -> float:
        """Of the edges of a class that were dropped, the share that came back; NaN if none was dropped."""
        gone = np.isfinite(self.dropped) & self._of(kind)
        return _mean(np.isfinite(self.recovered)[gone].astype(float))

    def _of(self, kind: str) -> np.ndarray:
        if kind not in ("input", "intermediate"):
            raise ValueError(f"the class of edges is {kind!r}; give input or intermediate")
        return self.intermediate if kind == "intermediate" else ~self.intermediate

    @cached_property
    def shapes(self) -> np.ndarray:
        """``[s, 4]``: width and depth of the likeliest cell at the end, then those that as many edges have by chance."""
        rows = []
        for run in self.runs:
            own = shape(likeliest(run.arrays["probability"][-1, 0]), self.cell)
            rows.append([own.width, own.depth, *expected_shape(run, self.cell)])
        return np.array(rows, dtype=float)

    @property
    def grows(self) -> np.ndarray:
        """``[s]`` of bool, P1: at most :data:`FEW` of the edges were alive at once, and one that was dropped came back."""
        return (self.lowest <= FEW) & np.isfinite(self.recovered).any(axis=1)

    @property
    def fails(self) -> np.ndarray:
        """``[s]`` of bool, P3: at most :data:`FEW` of the edges are alive at the end."""
        return self.last <= FEW

    @property
    def p_width(self) -> float:
        """P2: how likely so few intermediate edges, or fewer, would be among those kept, were every edge as good as any.

        Exact: in a run that keeps m edges every choice of m edges counts alike, and runs are independent. How many are kept is
        taken as given: a run that keeps all or none says nothing. NaN if the cell has edges of one class only."""
        inner, edges = int(self.intermediate.sum()), len(self.intermediate)
        if inner in (0, edges):
            return math.nan
        chance, kept = np.ones(1), self.alive[:, -1]
        for m in kept.sum(axis=1):
            ways = [
                math.comb(inner, k) * math.comb(edges - inner, int(m) - k) if k <= m else 0 for k in range(inner + 1)
            ]
            chance = np.convolve(chance, np.array(ways) / math.comb(edges, int(m)))
        return float(min(1.0, chance[: kept[:, self.intermediate].sum() + 1].sum()))

    @property
    def wide(self) -> bool:
        """P2: intermediate edges are kept more rarely than chance allows, at the level ``SIGNIFICANT``."""
        return self.p_width < SIGNIFICANT

    @property
    def knows_cost(self) -> bool:
        return all("step_cost_mean" in run.arrays for run in self.runs)

    def cost_map(self, late: bool) -> np.ndarray:
        """``[s, E, K]``: the mean cost that α was charged in the first, or the last, quarter of the epochs, summed over the
        cells that share it; NaN where an operation was never sampled. Raises :class:`ValueError` without a cost."""
        if not self.knows_cost:
            raise ValueError("these runs recorded no cost; let the training function return it as 'cost'")
        maps = []
        for run in self.runs:
            cost = np.asarray(run.arrays["step_cost_mean"], dtype=float)
            quarter = max(1, len(cost) // 4)
            part = cost[-quarter:] if late else cost[:quarter]
            known = np.isfinite(part).sum(axis=0)
            maps.append(np.where(known > 0, np.nansum(part, axis=0) / np.maximum(known, 1), np.nan).sum(axis=0))
        return np.stack(maps)
