"""B1: the three switches of a search crossed, level × relaxation × α's images, and what each does to the wiring.

A *combination* is (level, α's images) of one relaxation; its label is its recipe's name, or for DARTS the label that it has
anyway. What is not recorded is left out. Numbers count the edges alive at the end and are paired by seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from matplotlib.figure import Figure

from nas_core.lab.recipes import CROSSED, CROSSED_DATA, crossed_name
from nas_core.pages import style, summary
from nas_core.pages.claims import NOT_REPRODUCED, REPRODUCED, unbroken
from nas_core.pages.evidence import (
    ANY,
    BILEVEL,
    BILEVEL_SAME,
    FEWEST_SEEDS,
    SINGLE,
    SINGLE_HELD_OUT,
    Results,
    sign,
    with_interval,
)
from nas_core.pages.tables import markdown

LEVELS = ("single", "bi")
WORDS = {"same": "θ's own batch", "train": "another batch of θ's images", "held_out": "held-out images"}
NAMES = {"darts": "DARTS", "snas": "SNAS", "dsnas": "DSNAS", "proxylessnas": "ProxylessNAS"}
_OWN = {
    "reference_darts_bilevel": BILEVEL,
    "corrected_darts_single": SINGLE,
    "corrected_darts_single_held_out": SINGLE_HELD_OUT,
    "corrected_darts_bilevel_same": BILEVEL_SAME,
}

_LEVEL_WORDS = {"single": "α with θ (single level)", "bi": "α before θ (bi-level)"}

Combination = tuple[str, str]
BySeed = dict[int, float]


def label(relaxation: str, level: str, alpha_data: str) -> str:
    """The label of a combination's runs."""
    name = crossed_name(relaxation, level, alpha_data)
    return _OWN.get(name, name)


def recipes(relaxation: str) -> dict[str, str]:
    """The recipes of one relaxation's six combinations, by label."""
    return {label(relaxation, *own): crossed_name(relaxation, *own) for own in itertools.product(LEVELS, CROSSED_DATA)}


EVERY = {name: recipe for relaxation in CROSSED for name, recipe in recipes(relaxation).items()}
"""The recipe of every combination of every relaxation, by label."""


def merged(*given: Results, measure: Callable[[Results, str], BySeed] | None = None) -> dict[str, Sequence]:
    """Every relaxation's runs from the first of ``given`` in which ``measure`` (default: :func:`images`, which needs four
    combinations) has enough seeds for a test, else from the first in which it is recorded at all: combinations are
    compared at one scale."""
    measure = measure or images
    found: dict[str, Sequence] = {}
    for name in CROSSED:
        there = [own for own in given if combinations(own, name)]
        best = next((own for own in there if len(measure(own, name)) >= FEWEST_SEEDS), there[0] if there else {})
        found |= {own: best[own] for own in recipes(name) if best.get(own)}
    return found


def combinations(results: Results, relaxation: str) -> dict[Combination, Sequence]:
    """The runs of those combinations that are recorded."""
    found = {own: results.get(label(relaxation, *own)) for own in itertools.product(LEVELS, CROSSED_DATA)}
    return {own: runs for own, runs in found.items() if runs}


def kept(runs: Sequence) -> BySeed:
    """Edges alive at the end, by seed."""
    left = summary.survivors(runs)[:, -1].sum(axis=-1)
    return {run.meta["seed"]: float(value) for run, value in zip(runs, left, strict=True)}


def contrast(results: Results, relaxation: str, weights: Mapping[Combination, int], over: int = 1) -> BySeed:
    """The weighted sum of the edges kept under some combinations, divided by ``over``, for the seeds that all of them have; empty if one of them
    is not recorded."""
    own = combinations(results, relaxation)
    if not set(weights) <= set(own):
        return {}
    counts = {which: kept(own[which]) for which in weights}
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in counts.values())))
    return {seed: sum(weight * counts[which][seed] for which, weight in weights.items()) / over for seed in seeds}


def images(results: Results, relaxation: str, other: str = "same", one: str = "held_out") -> BySeed:
    """The main effect of α's images, ``one`` instead of ``other``: the mean over both orders of steps."""
    signs = {one: 1, other: -1}
    return contrast(
        results, relaxation, {(level, data): signs[data] for level in LEVELS for data in signs}, len(LEVELS)
    )


def order(results: Results, relaxation: str) -> BySeed:
    """The main effect of α stepping before θ instead of with it, over held-out images and θ's own batch, and over
    the third kind where that is recorded."""
    own = combinations(results, relaxation)
    third = {"train"} if all((level, "train") in own for level in LEVELS) else set()
    data = {"same", "held_out"} | third
    signs = {"bi": 1, "single": -1}
    weights = {(level, which): signs[level] for level in LEVELS for which in sorted(data)}
    return contrast(results, relaxation, weights, len(data))


def catastrophe(results: Results, relaxation: str) -> BySeed:
    """P3 in this relaxation, bi-level on held-out images minus single level on θ's own batch."""
    return contrast(results, relaxation, {("bi", "held_out"): 1, ("single", "same"): -1})


def scale(results: Results, relaxation: str) -> str | None:
    """The scale of a relaxation's runs in P3; :func:`merged` may take another than the page's."""
    return cast("str | None", combinations(results, relaxation)["bi", "held_out"][0].meta.get("scale"))


def fewer(results: Results, label: str, control: str) -> BySeed:
    """P3 of two labels outside the crossing: edges that the runs of ``label`` keep minus those of ``control``, for the
    seeds that both have."""
    own, other = (kept(results[name]) if results.get(name) else {} for name in (label, control))
    return {seed: own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())}


EFFECTS: dict[str, Callable[[Results, str], BySeed]] = {
    "held-out images instead of θ's own batch": images,
    "held-out images instead of another batch of θ's": lambda results, name: images(results, name, "train"),
    "another batch of θ's instead of its own": lambda results, name: images(results, name, "same", "train"),
    "α before θ instead of with it": order,
}
"""The main effects, by what they change."""


def said(values: BySeed, most: float | None = None) -> str:
    """Mean and interval over seeds, in words; with ``most``, a count, cut to what that can be."""
    return with_interval(list(values.values()), within=ANY if most is None else (0, most))


def _present(results: Results) -> list[str]:
    return [name for name in CROSSED if combinations(results, name)]


def table(results: Results) -> str:
    """Edges that survive, of how many: one row a relaxation and level, one column a kind of α's images."""
    rows = []
    for name, level in itertools.product(_present(results), LEVELS):
        own = combinations(results, name)
        edges = len(summary.cell_of(next(iter(own.values()))[0]).edges)
        cells = [
            f"{said(kept(own[level, data]), edges)}, n = {len(own[level, data])}"
            if (level, data) in own
            else "not recorded"
            for data in CROSSED_DATA
        ]
        rows.append([f"{NAMES[name]} ({edges} edges)", _LEVEL_WORDS[level], *cells])
    if not rows:
        return "*None of these searches is recorded.*"
    return markdown(["relaxation", "order of steps", *(f"α judged on {WORDS[data]}" for data in CROSSED_DATA)], rows)


def effects(results: Results) -> str:
    """The main effects on the number of surviving edges, one row a relaxation; the last column is P3 itself."""
    rows = []
    for name in _present(results):
        values = [effect(results, name) for effect in EFFECTS.values()] + [catastrophe(results, name)]
        most = max(map(len, values))
        rows.append([NAMES[name], str(most), *(said(own) if own else "–" for own in values)])
    header = ["relaxation", "n", *EFFECTS, "both: bi-level on held-out images"]
    return markdown(header, rows, text=1) if rows else "*None of these searches is recorded.*"


def refutation(results: Results) -> str:
    """Sentences: the single-level order on held-out images, which would have kept its edges if the order were the cause, and
    how it came out in every relaxation."""
    sentences = []
    for name in _present(results):
        own = combinations(results, name)
        change = contrast(results, name, {("single", "held_out"): 1, ("single", "same"): -1})
        if not change:
            continue
        edges = summary.survivors(own["single", "same"]).shape[-1]
        left, control = (said(kept(own["single", data]), edges) for data in ("held_out", "same"))
        outcome = {
            REPRODUCED: "so the order of steps is not needed for P3",
            NOT_REPRODUCED: "so this does not show that held-out images alone suffice",
        }.get(sign(list(change.values()), -1), "too few seeds to tell")
        sentences.append(
            f"**{NAMES[name]}**: {left} edges survive, against {control} where α is judged on θ's own batch "
            f"({said(change)}, n = {len(change)}), {outcome}."
        )
    if not sentences:
        return "The experiment that could have refuted this, single level on held-out images, is not recorded."
    return unbroken(
        "*The experiment that could have refuted it*: the single-level order of steps, with α judged on held-out images. Were "
        "the order the cause, this search would keep its edges. " + " ".join(sentences)
    )


@style.styled
def figure(results: Results) -> Figure:
    """Edges that survive, mean and interval over seeds: α's images to the right, one line an order of steps, one panel a
    relaxation."""
    names = _present(results)
    drawn = style.new_figure(2.9)
    row = drawn.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
    spoken = []
    for axes, name in zip(row, names, strict=False):
        own = combinations(results, name)
        edges = len(summary.cell_of(next(iter(own.values()))[0]).edges)
        for level, shift, (colour, line, marker) in zip(LEVELS, (-0.07, 0.07), style.SERIES, strict=False):
            places = [place for place, data in enumerate(CROSSED_DATA) if (level, data) in own]
            bands = [summary.interval(kept(own[level, CROSSED_DATA[place]]).values()) for place in places]
            means = [mean for mean, *_ in bands]
            bars = [[mean - low if np.isfinite(low) else 0.0 for mean, low, _ in bands]] * 2
            axes.errorbar(
                [place + shift for place in places], means, yerr=bars if bands else None, color=colour, linestyle=line,
                marker=marker, markersize=6, capsize=3, label=_LEVEL_WORDS[level],
            )  # fmt: skip
            spoken += [
                f"{NAMES[name]}, {level}, {WORDS[CROSSED_DATA[place]]}: {mean:.1f} of {edges}"
                for place, mean in zip(places, means, strict=True)
            ]
        axes.set_xticks(range(len(CROSSED_DATA)), ["own\nbatch", "another\nbatch", "held\nout"])
        axes.set_xlim(-0.4, len(CROSSED_DATA) - 0.6)
        axes.set_ylim(-0.3, edges + 0.4)
        style.tidy(axes, title=NAMES[name])
    row[0].set_ylabel("edges alive at the end")
    if names:
        drawn.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    else:
        style.say_empty(row[0], "none of these searches is recorded")
    drawn.supxlabel("α judged on", fontsize=style.FONT)
    drawn.set_label(
        f"Edges alive at the end by order of steps and α's images, a panel a relaxation. {'; '.join(spoken)}."
    )
    return drawn
