"""The evolution of the wiring as tables in Markdown: one row a framework, a setting, an edge or a derivation rule.

Numbers are means over seeds with their 95 % t-interval. What is not recorded says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nas_core.derive import RULES, Shape, likeliest, shape
from nas_core.lab.variations import PHASE, SIZES, UNIVERSAL
from nas_core.pages import crossed, summary
from nas_core.pages.claims import NOT_TESTED
from nas_core.pages.evidence import BILEVEL, CannotTell, Results, sign, with_interval
from nas_core.pages.evolution_measures import chosen_and_chance, failure_in
from nas_core.pages.evolution_patterns import (
    BILEVEL_DEEP,
    BOTH_LEVELS,
    P3_OF,
    SINGLE_DEEP,
    alive,
    at_the_minimum,
    by_class,
    charged,
    crossing,
    growth_of,
    recovered,
    rule_wirings,
    shapes,
    when_lowest,
    width_of,
)
from nas_core.pages.tables import markdown
from nas_core.patterns import expected_shape, fates
from nas_core.space import NONE, Cell

MISSING = "not recorded"
TOO_FEW = "too few seeds"


def _word(outcome: str) -> str:
    return TOO_FEW if outcome == NOT_TESTED else outcome


def _rows(results: Results, labels: Iterable[str]) -> dict[str, list]:
    return {label: list(results[label]) for label in labels if results.get(label)}


def _nothing(words: str = "these runs") -> str:
    return f"*Not recorded: {words}.*"


def outcomes(results: Results) -> str:
    """P1 in both halves, P2 and P3 for every framework: number, interval and outcome in every cell. P3 is that of the
    framework's relaxation in bi-level search (B1), against the same in single-level search."""
    rows = []
    for label, runs in _rows(results, BOTH_LEVELS).items():
        p1, p2 = growth_of(runs), width_of(runs)
        first, back = p1.parts
        rows.append(
            [
                label,
                str(len(runs)),
                f"{_within(at_the_minimum(runs), 1)} {_word(first)}",
                _told(p1.values, back),
                "not claimed" if label in (BILEVEL, BILEVEL_DEEP) else _word(p1.direction),
                _told(p2.values, p2.direction),
                _failure(results, label),
            ]
        )
    header = [
        "framework",
        "n",
        "share alive at the minimum: all dropped first?",
        "rise from it: do some recover?",
        "P1",
    ]
    return markdown([*header, "P2: share of input − of intermediate edges", "P3: edges, bi-level − single level"], rows)


def _within(values: np.ndarray, most: float) -> str:
    """Mean and interval of what lies between 0 and ``most``."""
    return with_interval(values, within=(0, most))


def _width(shapes: Sequence[Shape], cell: Cell) -> str:
    """The mean width; at most the number of output nodes."""
    return _within(np.array([own.width for own in shapes]), len(cell.outputs))


def _depth(shapes: Sequence[Shape], cell: Cell) -> str:
    """The mean depth; at most the number of intermediate nodes."""
    return _within(np.array([own.depth for own in shapes], dtype=float), cell.nodes)


def _told(values: np.ndarray, outcome: str) -> str:
    return f"{with_interval(values)} {_word(outcome)}"


def _failure(results: Results, label: str) -> str:
    scale = ""
    if label == BILEVEL_DEEP:
        found = crossed.fewer(results, BILEVEL_DEEP, SINGLE_DEEP)
    elif label in P3_OF:
        found = crossed.catastrophe(results, P3_OF[label])
        if found and (own := crossed.scale(results, P3_OF[label])) != results[label][0].meta.get("scale"):
            scale = f" (scale {own})"
    else:
        return "not claimed"
    values = np.array(list(found.values()))
    if not len(values):
        return MISSING
    return f"{_told(values, sign(values, -1))}, n = {len(values)}{scale}"


def growth_table(results: Results) -> str:
    """P1 in numbers: edges alive at the start, at the minimum and at the end, and when edges drop and recover."""
    rows = []
    for label, runs in _rows(results, BOTH_LEVELS).items():
        counts = alive(runs).sum(axis=-1)
        own = [[fate for fate in fates(run) if fate.dropped is not None] for run in runs]
        gone = [[fate.dropped for fate in run if fate.dropped is not None] for run in own]
        back = [[fate.recovered for fate in run if fate.recovered is not None] for run in own]
        rows.append(
            [
                f"{label} ({counts_of(runs)} edges)",
                str(len(runs)),
                _within(counts[:, 0], counts_of(runs)),
                _within(at_the_minimum(runs) * counts_of(runs), counts_of(runs)),
                _within(when_lowest(runs), np.inf),
                _within(counts[:, -1], counts_of(runs)),
                _dated(gone),
                _dated(back),
            ]
        )
    header = ["framework", "n", "alive at first", "at the minimum", "its epoch", "at the end", "epoch of drop"]
    return markdown([*header, "epoch of recovery"], rows, text=1)


def counts_of(runs: Sequence) -> int:
    """How many edges the cell of these runs has."""
    return len(summary.cell_of(runs[0]).edges)


def _dated(rows: Sequence[Sequence[float]] | np.ndarray) -> str:
    """The mean over runs of each run's mean epoch; a dash where nothing happened in any."""
    means = _means(rows)
    return _within(means, np.inf) if np.isfinite(means).any() else "–"


def _means(rows: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    return np.array([np.mean(row) if len(row) else np.nan for row in rows], dtype=float)


def width_table(results: Results) -> str:
    """P2 in numbers: edges of both classes that are alive at the end, recovered after a drop, and the derived cell's width
    and depth beside those of a cell with as many edges at random."""
    rows = []
    for label, runs in _rows(results, BOTH_LEVELS).items():
        cell = summary.cell_of(runs[0])
        inner, outer = by_class(cell, alive(runs)[:, -1])
        back_inner, back_outer = by_class(cell, recovered(runs))
        last = [shapes(run)[-1] for run in runs]
        chance = np.array([expected_shape(run, summary.cell_of(run)) for run in runs])
        rows.append(
            [
                label,
                *(_within(values, 1) for values in (outer, inner)),
                *(_within(values, 1) if np.isfinite(values).any() else "–" for values in (back_outer, back_inner)),
                f"{_width(last, cell)} ({chance[:, 0].mean():.2f})",
                f"{_depth(last, cell)} ({chance[:, 1].mean():.2f})",
            ]
        )
    header = ["framework", "input alive", "intermediate alive", "input recovered", "intermediate recovered"]
    return markdown([*header, "width (by chance)", "depth (by chance)"], rows, text=1)


def edges(results: Results) -> str:
    """When each edge was dropped and came back, one column a framework: how many runs, and the median epoch.

    The frameworks must search the same cell."""
    groups = {label: list(runs) for label, runs in results.items() if runs}
    if not groups:
        return _nothing()
    cell = summary.cell_of(next(iter(groups.values()))[0])
    rows = []
    for edge, kind in enumerate(cell.edge_class(edge) for edge in range(len(cell.edges))):
        row = [f"{summary.edge_name(cell, edge)}, {kind}"]
        for runs in groups.values():
            own = [fates(run)[edge] for run in runs]
            dropped = [fate.dropped for fate in own if fate.dropped is not None]
            back = [fate.recovered for fate in own if fate.recovered is not None]
            words = f"dropped {_when(dropped, len(runs))}" if dropped else f"never dropped (n = {len(runs)})"
            row.append(words + (f", back {_when(back, len(dropped))}" if back else ", never back" if dropped else ""))
        rows.append(row)
    return markdown(["edge", *groups], rows)


def _when(epochs: Sequence[int], of: int) -> str:
    return f"in {len(epochs)} of {of} at epoch {np.median(epochs):g}"


def universal(results: Results) -> str:
    """P-univ: a row for every setting that is planned."""
    rows = []
    for name, variation in UNIVERSAL.items():
        runs = results.get(name)
        if not runs:
            rows.append([variation.words, "0", *[MISSING] * 7])
            continue
        p2 = width_of(runs)
        if variation.bilevel:
            words = ["–", "–", _p3(results, name)]
        else:
            words = [_word(growth_of(runs).direction), _word(p2.direction), "–"]
        last = [shapes(run)[-1] for run in runs]
        rows.append(
            [
                variation.words,
                str(len(runs)),
                _within(at_the_minimum(runs), 1),
                with_interval(p2.values),
                _width(last, summary.cell_of(runs[0])),
                _depth(last, summary.cell_of(runs[0])),
                *words,
            ]
        )
    header = ["setting", "n", "share alive at the minimum", "input − intermediate at the end", "width", "depth"]
    return markdown([*header, "P1", "P2", "P3"], rows)


def _p3(results: Results, name: str) -> str:
    """P3 of one setting: the change of the share of edges against its control; starred where that is not its own."""
    own, its_own = failure_in(results, name)
    if own is None:
        return "no control recorded"
    return f"{with_interval(own.values)}{'' if its_own else '*'} {_word(own.direction)}"


def sizes(results: Results) -> str:
    """P1 by the size of the network, at some points of the phase diagram: share of edges dropped at the minimum, and the
    epoch at which the charged cost turns negative."""
    rows = []
    for name in dict.fromkeys(name.rsplit("_", 1)[0] for name in SIZES):
        for own in (name, *(other for other in SIZES if other.startswith(f"{name}_"))):
            runs, network = list(results.get(own) or []), SIZES.get(own, PHASE[name])
            words = [f"α × {network.alpha:g}, θ × {network.theta:g}", str(network.cells or PHASE[name].cells)]
            words += [str(network.channels or "as in the map"), str(len(runs))]
            rows.append([*words, *(_dropped_and_turned(runs) if runs else (MISSING, MISSING))])
    return markdown(["rates", "cells", "channels", "n", "share dropped at the minimum", "cost turns at epoch"], rows)


def _dropped_and_turned(runs: Sequence) -> tuple[str, str]:
    turned = np.array([crossing(cost.sum(axis=-1)) for cost in charged(runs)])
    never = f" (never in {np.isnan(turned).sum()} of {len(turned)})" if np.isnan(turned).any() else ""
    return _within(1 - at_the_minimum(runs), 1), f"{with_interval(turned)}{never}"


def patterns(results: Results, labels: Sequence[str], against: str) -> str:
    """P1 and P2 for several labels (B3, B7), and how P2's difference changes from ``against`` to each, paired by
    seed."""
    rows = []
    base = {run.meta["seed"]: value for run, value in _values(results.get(against) or [])}
    for label in labels:
        runs = results.get(label)
        if not runs:
            rows.append([label, "0", *[MISSING] * 5])
            continue
        p1, p2 = growth_of(runs), width_of(runs)
        change = [value - base[run.meta["seed"]] for run, value in _values(runs) if run.meta["seed"] in base]
        rows.append(
            [
                label,
                str(len(runs)),
                _within(at_the_minimum(runs), 1),
                with_interval(p2.values),
                "–" if label == against or not change else with_interval(np.array(change)),
                _word(p1.direction),
                _word(p2.direction),
            ]
        )
    header = ["search", "n", "share alive at the minimum", "input − intermediate at the end"]
    return markdown([*header, f"its change from {against}", "P1", "P2"], rows)


def _values(runs: Sequence) -> list[tuple]:
    return list(zip(runs, width_of(runs).values, strict=True)) if runs else []


def rules(runs: Sequence) -> str:
    """B4: what every derivation rule keeps of the last α of these runs."""
    if not runs:
        return _nothing()
    cell, rows = summary.cell_of(runs[0]), []
    first = rule_wirings(runs, lambda probability, cell: likeliest(probability)) != NONE
    for name, rule in RULES.items():
        wirings = rule_wirings(runs, rule)
        kept = (wirings != NONE).astype(float)
        inner, outer = by_class(cell, kept)
        own = [shape(tuple(wiring), cell) for wiring in wirings]
        rows.append(
            [
                name,
                _within(kept.sum(axis=1), len(cell.edges)),
                _within(outer, 1),
                _within(inner, 1),
                _width(own, cell),
                _depth(own, cell),
                _within((kept == first).mean(axis=1), 1),
            ]
        )
    header = ["rule", f"edges kept of {len(cell.edges)}", "input", "intermediate", "width", "depth", "as the likeliest"]
    return markdown(header, rows, text=1)


def top_two(results: Results) -> str:
    """G-topk: intermediate edges that the rule of DARTS chooses, against blind choice."""
    rows = []
    for label, runs in _rows(results, BOTH_LEVELS).items():
        try:
            chosen, chance = chosen_and_chance(runs)
        except CannotTell:
            continue
        difference = chosen - chance
        rows.append(
            [label, str(len(runs)), _within(chosen, 1), f"{chance:.2f}", with_interval(difference),
             _word(sign(difference, -1))]
        )  # fmt: skip
    header = ["search", "n", "share of intermediate edges chosen", "by chance", "difference", "rarer than by chance"]
    return markdown(header, rows) if rows else _nothing()


def kinds(results: Mapping[str, Sequence]) -> dict[str, dict[str, list]]:
    """The results by the cell that they search, for tables and figures that need one."""
    found: dict[str, dict[str, list]] = {}
    for label, runs in results.items():
        if runs:
            found.setdefault(summary.cell_of(runs[0]).name, {})[label] = list(runs)
    return found
