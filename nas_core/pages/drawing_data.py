"""The numbers behind a drawing of a cell, whose axes carry none, as the tables of :mod:`nas_core.pages.figure_data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nas_core.pages import summary
from nas_core.pages.figure_data import Panel, Row, Table, rounded
from nas_core.space import OPERATIONS, Cell


def joined(tables: Sequence[Table]) -> Table:
    """Tables of one panel each as one, the panels in this order."""
    panels = [replace(own.panels[0], number=number) for number, own in enumerate(tables, 1)]
    rows = [replace(row, panel=number) for number, own in enumerate(tables, 1) for row in own.rows]
    return Table(tuple(panels), tuple(rows))


def wiring(
    title: str,
    cell: Cell,
    epochs: Sequence[int],
    probability: np.ndarray,
    choices: Sequence[Sequence[str]],
    cost: np.ndarray | None = None,
) -> Table:
    """One run's wiring over F epochs: a row an epoch, edge and operation, with its probability ``[F, E, K]``, its cost
    ``[F, E, K]`` as y where that is known, and a mark on what the edge favours, ``choices`` ``[F][E]``."""
    rows = []
    for frame, epoch in enumerate(epochs):
        for edge, own in enumerate(cell.edges):
            for k in own.indices:
                known = cost is not None and np.isfinite(cost[frame, edge, k])
                rows.append(
                    Row(
                        1, "operation", summary.edge_name(cell, edge), x=float(epoch), y_name=OPERATIONS[k],
                        y=rounded(float(cost[frame, edge, k])) if cost is not None and known else None,
                        value=rounded(float(probability[frame, edge, k])),
                        mark="likeliest" if choices[frame][edge] == OPERATIONS[k] else None,
                    )
                )  # fmt: skip
    return Table((Panel(1, title, "epoch", "" if cost is None else "cost", "P(operation)"),), tuple(rows))


def edge_costs(title: str, cell: Cell, cost: np.ndarray) -> Table:
    """One cell's cost ``[E]``, a row an edge, and their sum."""
    named = [(summary.edge_name(cell, edge), value) for edge, value in enumerate(cost)]
    rows = [Row(1, "edge", name, value=rounded(float(value))) for name, value in (*named, ("sum", cost.sum()))]
    return Table((Panel(1, title, "", "", "cost"),), tuple(rows))
