"""A cell of the search space as data: nodes, edges, candidate operations and output nodes (paper, Section 2.1 and Figs
2, 8).

A cell is a directed acyclic graph. Nodes ``0 … inputs-1`` are *input nodes*, the next ``nodes`` are *intermediate
nodes*; the output node is implicit: it concatenates the intermediate nodes listed in ``outputs``. Every edge carries
its own tuple of candidate operations, always listed in the order of :data:`OPERATIONS`, so that a row of ``log_alpha``
means the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

OPERATIONS = (
    "none",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_5x5",
)
"""The eight candidates, in the paper's order (caption of Fig 4)."""

NONE = OPERATIONS.index("none")
SKIP = OPERATIONS.index("skip_connect")


class SpaceError(ValueError):
    """A cell that cannot exist, or an edge or operation that it does not have."""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


@dataclass(frozen=True)
class Edge:
    """A directed edge ``(source, target)`` with its candidate operations."""

    source: int
    target: int
    operations: tuple[str, ...] = OPERATIONS

    def __post_init__(self) -> None:
        names = tuple(self.operations)
        unknown = [name for name in names if name not in OPERATIONS]
        if unknown:
            raise SpaceError(
                f"edge ({self.source}, {self.target}) got the operation {unknown[0]!r}; "
                f"allowed are {_listed(OPERATIONS)}"
            )
        if not names:
            raise SpaceError(
                f"edge ({self.source}, {self.target}) has no candidate operation; "
                f"give it one, or leave the edge out of the cell"
            )
        if len(set(names)) != len(names):
            raise SpaceError(f"edge ({self.source}, {self.target}) lists an operation twice: {_listed(names)}")
        object.__setattr__(self, "operations", tuple(name for name in OPERATIONS if name in names))

    @property
    def indices(self) -> tuple[int, ...]:
        """Positions of the candidates in :data:`OPERATIONS`."""
        return tuple(OPERATIONS.index(name) for name in self.operations)


@dataclass(frozen=True)
class Cell:
    """A cell: ``inputs`` input nodes, ``nodes`` intermediate nodes, ``edges``, and the nodes that its output
    concatenates.

    Raises :class:`SpaceError` for a graph that could not be evaluated or would carry a node without a purpose.
    """

    name: str
    inputs: int
    nodes: int
    edges: tuple[Edge, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        _check(self)

    @property
    def intermediate(self) -> range:
        """Ids of the intermediate nodes."""
        return range(self.inputs, self.inputs + self.nodes)

    def incoming(self, node: int) -> tuple[int, ...]:
        """Indices of the edges that enter ``node``."""
        return tuple(index for index, edge in enumerate(self.edges) if edge.target == node)

    def outgoing(self, node: int) -> tuple[int, ...]:
        """Indices of the edges that leave ``node`` (output edges not counted)."""
        return tuple(index for index, edge in enumerate(self.edges) if edge.source == node)

    def edge_class(self, index: int) -> str:
        """``"input"`` if the edge leaves an input node, ``"intermediate"`` if it joins two intermediate nodes."""
        return "input" if self.edges[index].source < self.inputs else "intermediate"

    def mask(self) -> tuple[tuple[bool, ...], ...]:
        """``[edges, operations]``: whether the edge has the operation among its candidates."""
        return tuple(tuple(name in edge.operations for name in OPERATIONS) for edge in self.edges)

    def architectures(self) -> int:
        """How many one-hot samples the cell admits."""
        return math.prod(len(edge.operations) for edge in self.edges)

    def index(self, edge: int | tuple[int, int]) -> int:
        """The position of an edge, given as that position or as ``(source, target)``."""
        if isinstance(edge, int):
            if 0 <= edge < len(self.edges):
                return edge
        else:
            for position, own in enumerate(self.edges):
                if (own.source, own.target) == tuple(edge):
                    return position
        raise SpaceError(
            f"the {self.name} cell has no edge {edge}; it has "
            + _listed(f"{position}: ({own.source}, {own.target})" for position, own in enumerate(self.edges))
        )

    def fix(self, edge: int | tuple[int, int], operation: str) -> Cell:
        """The same cell with a single operation on ``edge``: nothing is left to choose there."""
        return self.only((operation,), edge)

    def only(self, operations: str | Iterable[str], edge: int | tuple[int, int] | None = None) -> Cell:
        """The same cell with exactly these candidates, on one edge or (``edge=None``) on every edge."""
        wanted = (operations,) if isinstance(operations, str) else tuple(operations)
        return self._restrict(edge, lambda own: wanted)

    def without(self, operations: str | Iterable[str], edge: int | tuple[int, int] | None = None) -> Cell:
        """The same cell with these candidates removed, on one edge or (``edge=None``) on every edge."""
        gone = (operations,) if isinstance(operations, str) else tuple(operations)
        for name in gone:
            if name not in OPERATIONS:
                raise SpaceError(f"cannot remove the operation {name!r}; allowed are {_listed(OPERATIONS)}")
        return self._restrict(edge, lambda own: tuple(name for name in own if name not in gone))

    def _restrict(
        self, edge: tuple[int, int] | int | None, change: Callable[[tuple[str, ...]], tuple[str, ...]]
    ) -> Cell:
        chosen = range(len(self.edges)) if edge is None else (self.index(edge),)
        edges = [
            replace(own, operations=change(own.operations)) if position in chosen else own
            for position, own in enumerate(self.edges)
        ]
        return replace(self, edges=tuple(edges))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it stands in a result's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Cell:
        """The cell that :meth:`to_dict` described."""
        edges = tuple(Edge(edge["source"], edge["target"], tuple(edge["operations"])) for edge in data["edges"])
        return cls(data["name"], data["inputs"], data["nodes"], edges, tuple(data["outputs"]))


def _check(cell: Cell) -> None:
    """Refuse a graph with a dangling, duplicated or backward part."""

    def refuse(reason: str) -> None:
        raise SpaceError(f"the cell {cell.name!r} is impossible: {reason}")

    if cell.inputs not in (1, 2):
        refuse(f"it has {cell.inputs} input nodes; 1 (the previous cell) or 2 (the two previous cells) are allowed")
    if cell.nodes < 1:
        refuse(f"it has {cell.nodes} intermediate nodes; at least 1 is needed")
    last = cell.inputs + cell.nodes - 1
    seen: set[tuple[int, int]] = set()
    for edge in cell.edges:
        pair = (edge.source, edge.target)
        if not (0 <= edge.source < edge.target <= last):
            refuse(f"edge {pair} must go from a smaller to a larger node between 0 and {last}")
        if edge.target < cell.inputs:
            refuse(f"edge {pair} enters an input node; edges may only enter nodes {cell.inputs} to {last}")
        if pair in seen:
            refuse(f"edge {pair} is there twice; list it once")
        seen.add(pair)
    if not cell.outputs:
        refuse("no node is concatenated to its output; name at least one intermediate node in outputs")
    if len(set(cell.outputs)) != len(cell.outputs):
        refuse(f"its outputs {cell.outputs} name a node twice; list each once")
    for node in cell.outputs:
        if node not in cell.intermediate:
            refuse(f"output node {node} is not an intermediate node ({cell.inputs} to {last})")
    for node in cell.intermediate:
        if not cell.incoming(node):
            refuse(f"node {node} has no incoming edge; add one or drop the node")
        if node not in cell.outputs and not cell.outgoing(node):
            refuse(f"node {node} leads nowhere; add it to outputs or give it an outgoing edge")


def _complete(inputs: int, nodes: int) -> tuple[Edge, ...]:
    """Every node connected to all nodes with smaller ids, ordered by target and then by source."""
    return tuple(Edge(source, target) for target in range(inputs, inputs + nodes) for source in range(target))


def minimal() -> Cell:
    """Fig 2: two input nodes, two intermediate nodes; edges e0 … e4 = (0,2) (1,2) (0,3) (1,3) (2,3)."""
    return Cell("minimal", 2, 2, _complete(2, 2), (2, 3))


def simplified() -> Cell:
    """Fig 8(a): one input node; edges (0,1) (0,2) (1,2).

    The minimal cell's e1, e3 and e4, renumbered as the paper does.
    """
    return Cell("simplified", 1, 2, _complete(1, 2), (1, 2))


def modified() -> Cell:
    """Fig 8(b): the simplified cell whose output node concatenates node 2 only: the output edge (1,3) is removed."""
    return Cell("modified", 1, 2, _complete(1, 2), (2,))


def darts(nodes: int = 4) -> Cell:
    """The cell of DARTS and SNAS: two input nodes and ``nodes`` intermediate nodes (14 edges for 4)."""
    return Cell(f"darts-{nodes}", 2, nodes, _complete(2, nodes), tuple(range(2, 2 + nodes)))
