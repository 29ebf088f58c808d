"""How often sampling trains each edge of a cell (Section 5.3), exactly.

A weight gets a gradient only where its operation lies on a path of operations other than *none* from an input node to
the output. That needs two things: a source that is *fed*, because what an operation makes of zeros is zero and has no
gradient, and a target that *reaches* the output, because nothing comes back from where nothing goes. Both depend on
which edges drew *none* and on nothing else, so all 2^E patterns are enumerated instead of all samples.

It holds for one cell between a stem and a head whose operations map zeros to zeros, as the paper's do: ReLU,
convolution, and normalisation without affine parameters. Letters in shapes: E edges, K operations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from nas_core.space import NONE, OPERATIONS, Cell, SpaceError

LIMIT = 20
"""More edges than this are not enumerated: a million patterns take half a minute."""


def fed(cell: Cell, kept: Sequence[bool]) -> set[int]:
    """The nodes that carry something other than zeros if exactly the edges ``kept`` did not draw *none*."""
    nodes = set(range(cell.inputs))
    for node in cell.intermediate:
        if any(kept[edge] and cell.edges[edge].source in nodes for edge in cell.incoming(node)):
            nodes.add(node)
    return nodes


def reaching(cell: Cell, kept: Sequence[bool]) -> set[int]:
    """The intermediate nodes with a path of ``kept`` edges to the output; a node of the output is there already."""
    nodes = set(cell.outputs)
    for node in reversed(cell.intermediate):
        if any(kept[edge] and cell.edges[edge].target in nodes for edge in cell.outgoing(node)):
            nodes.add(node)
    return nodes


def trained(cell: Cell, kept: Sequence[bool]) -> tuple[bool, ...]:
    """Per edge, whether the weights of the operation that it drew get a gradient, if that operation has weights.

    Raises :class:`nas_core.space.SpaceError` where ``kept`` does not name every edge once."""
    if len(kept) != len(cell.edges):
        raise SpaceError(f"the {cell.name} cell has {len(cell.edges)} edges, not {len(kept)}; give one entry an edge")
    sources, targets = fed(cell, kept), reaching(cell, kept)
    return tuple(
        bool(keep) and edge.source in sources and edge.target in targets
        for keep, edge in zip(kept, cell.edges, strict=True)
    )


def _patterns(cell: Cell) -> Iterator[tuple[tuple[bool, ...], float]]:
    """Which edges did not draw *none*, and the probability of that under uniform sampling; impossible ones left out."""
    if len(cell.edges) > LIMIT:
        raise SpaceError(f"the {cell.name} cell has {len(cell.edges)} edges; at most {LIMIT} can be enumerated")
    gone = [("none" in edge.operations) / len(edge.operations) for edge in cell.edges]
    for kept in itertools.product((False, True), repeat=len(gone)):
        weight = float(np.prod([1 - lost if keep else lost for keep, lost in zip(kept, gone, strict=True)]))
        if weight > 0:
            yield kept, weight


def update_shares(cell: Cell) -> np.ndarray:
    """``[E, K]``: the share of uniform samples in which this operation is drawn on this edge and trained.

    0 for *none* and for what is no candidate. Operations without weights count as the others do: theirs is the share of
    samples in which they take part."""
    edges: Any = sum(weight * np.array(trained(cell, kept), dtype=float) for kept, weight in _patterns(cell))
    shares = np.zeros((len(cell.edges), len(OPERATIONS)))
    for row, share, edge in zip(shares, edges, cell.edges, strict=True):
        drawn = [index for index in edge.indices if index != NONE]
        row[drawn] = share / max(1, len(drawn))
    return shares


def fed_shares(cell: Cell) -> np.ndarray:
    """``[E]``: the share of uniform samples in which the edge's source is fed.

    In the others the edge's cost is exactly 0 whatever it drew: a mean over all samples is this share of the mean over
    those that tell something."""
    sources = [edge.source for edge in cell.edges]
    shares: Any = sum(
        weight * np.array([source in nodes for source in sources], dtype=float)
        for nodes, weight in ((fed(cell, kept), weight) for kept, weight in _patterns(cell))
    )
    return cast(np.ndarray, shares)
