"""Measures of P1 and P2 over all frameworks, and of the claims that rest on them: R1, R3, G-topk, P-univ, B3, B4 and the
part of B7 on random reward.

A claim about several frameworks gets one verdict here, over those that are there, and one outcome a framework in
:mod:`nas_core.pages.evolution_tables`. The patterns themselves are in :mod:`nas_core.pages.evolution_patterns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nas_core.derive import RULES, darts_rule
from nas_core.lab.variations import CONTROLS, PHASE, UNIVERSAL
from nas_core.pages import summary
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, Verdict, claim
from nas_core.pages.evidence import (
    FEWEST_SEEDS,
    MODERATE,
    SINGLE,
    SOME,
    STRONG,
    CannotTell,
    Results,
    combine,
    fisher_correlation,
    grade,
    mean_of,
    paired,
    percent,
    sign,
    verdict,
    with_interval,
)
from nas_core.pages.evolution_patterns import (
    BASELINE,
    BOTH_LEVELS,
    CORRECTED,
    FRAMEWORKS,
    NO_DECAY,
    ONLY_GRADIENT,
    PUBLISHED,
    RANDOM,
    RECIPES,
    Pattern,
    alive,
    at_the_minimum,
    by_class,
    charged,
    crossing,
    failure_of,
    growth_of,
    overall,
    present,
    rule_wirings,
    width_of,
)
from nas_core.patterns import FEW, fates, intermediate
from nas_core.space import NONE

__all__ = ["MEASURES", "RECIPES", "Fate", "chosen_and_chance", "edge_fates", "lag"]


def _by_seed(groups: dict[str, list], values: dict[str, np.ndarray]) -> np.ndarray:
    """Each seed's mean over all frameworks that ran it."""
    table: dict[int, list[float]] = {}
    for label, runs in groups.items():
        for run, value in zip(runs, values[label], strict=True):
            table.setdefault(run.meta["seed"], []).append(value)
    return np.array([mean_of(np.array(table[seed])) for seed in sorted(table)])


def _over_frameworks(claim_id: str, results: Results, pattern: Callable, unit: str, sentence: Callable) -> Verdict:
    groups = present(results)
    found = {label: pattern(runs) for label, runs in groups.items()}
    values = _by_seed(groups, {label: own.values for label, own in found.items()})
    direction = overall([own.direction for own in found.values()])
    magnitude = overall([own.magnitude for own in found.values()])
    magnitude = grade(direction, magnitude == REPRODUCED, magnitude == PARTLY)
    every = [run for runs in groups.values() for run in runs]
    return verdict(claim_id, every, values, unit, direction, magnitude, sentence(groups, found))


def _tally(outcomes: Iterable[str]) -> str:
    """How many hold, of those that have seeds enough to be tested."""
    given = [outcome for outcome in outcomes if outcome != NOT_TESTED]
    return f"{given.count(REPRODUCED)} of {len(given)}"


def growing(results: Results) -> Verdict:
    """P1 over all single-level frameworks."""

    def sentence(groups: dict, found: dict[str, Pattern]) -> str:
        lowest = "; ".join(f"{label} {percent(at_the_minimum(runs).mean())}" for label, runs in groups.items())
        return (
            f"*All edges are dropped first* holds in {_tally(own.parts[0] for own in found.values())} frameworks, "
            f"*then some recover* in {_tally(own.parts[1] for own in found.values())}. Edges alive at the minimum: "
            f"{lowest}. The number is the rise from the minimum, over all frameworks."
        )

    return _over_frameworks("P1", results, growth_of, "of all edges", sentence)


def wide(results: Results) -> Verdict:
    """P2 over all single-level frameworks."""

    def sentence(groups: dict, found: dict[str, Pattern]) -> str:
        kept = []
        for label, runs in groups.items():
            inner, outer = by_class(summary.cell_of(runs[0]), alive(runs)[:, -1])
            kept.append(f"{label} {percent(outer.mean())} and {percent(inner.mean())}")
        return (
            f"It holds in {_tally(own.direction for own in found.values())} frameworks. Input and intermediate edges "
            f"alive at the end: {'; '.join(kept)}. The number is the difference, over all frameworks."
        )

    return _over_frameworks("P2", results, width_of, "of the edges", sentence)


# -- why: the cost ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fate:
    """One edge of one run: its class, the epochs at which its cost turned negative and at which it came back (NaN:
    never), and whether it was dropped at all."""

    label: str
    seed: int
    kind: str
    crossed: float
    back: float
    dropped: bool
    epochs: int


SWEEPS = {
    "phase diagram": tuple(PHASE),
    "settings of P-univ": tuple(name for name, own in UNIVERSAL.items() if not own.bilevel),
}
"""Single-level searches with unlike rates, where edges do drop and come back, under one name each."""


def single_level(results: Results) -> dict[str, list[list]]:
    """The runs of every single-level framework and of :data:`SWEEPS`, in groups of one configuration; each run once."""
    wanted = {label: (label,) for label in FRAMEWORKS} | SWEEPS
    known: set[tuple[str, int]] = set()
    found: dict[str, list[list]] = {}
    for name, labels in wanted.items():
        for label in labels:
            fresh = [run for run in results.get(label) or () if (run.meta["ident"], run.meta["seed"]) not in known]
            known |= {(run.meta["ident"], run.meta["seed"]) for run in fresh}
            if fresh:
                found.setdefault(name, []).append(fresh)
    if not found:
        raise CannotTell(f"This needs runs of {' or '.join(wanted)}, and none is given.")
    return found


def edge_fates(results: Results) -> list[Fate]:
    """Every edge of every single-level run."""
    every = [(name, runs) for name, groups in single_level(results).items() for runs in groups]
    found = []
    for label, runs in every:
        cell, costs = summary.cell_of(runs[0]), charged(runs)
        for run, cost in zip(runs, costs, strict=True):
            for edge, own in enumerate(fates(run)):
                back = float("nan") if own.recovered is None else float(own.recovered)
                found.append(
                    Fate(label, run.meta["seed"], cell.edge_class(edge), crossing(cost[:, edge]), back,
                         own.dropped is not None, len(cost))
                )  # fmt: skip
    return found


def _returned(edges: Sequence[Fate]) -> str:
    return f"{sum(np.isfinite(own.back) for own in edges)} of {len(edges)}"


def crossing_first(results: Results) -> Verdict:
    """R1: of edges that were dropped and came back, the cost turned negative before they did. Magnitude: how closely
    both epochs go together. An edge whose cost never turned counts as turning after the last epoch."""
    groups = single_level(results)
    dropped = [own for own in edge_fates(results) if own.dropped]
    back = [own for own in dropped if np.isfinite(own.back)]
    if not back:
        raise CannotTell("No edge was dropped and came back in these runs, so there is no recovery to date.")
    turned = np.array([own.crossed if np.isfinite(own.crossed) else own.epochs for own in back])
    came, seeds = np.array([own.back for own in back]), np.array([own.seed for own in back])
    lead = np.array([mean_of((came - turned)[seeds == seed]) for seed in np.unique(seeds)])
    together = np.array([fisher_correlation(turned[seeds == seed], came[seeds == seed]) for seed in np.unique(seeds)])
    direction, close = sign(lead, +1), np.tanh(summary.interval(together)[0])
    magnitude = grade(direction, close >= STRONG, close >= MODERATE)
    crossed, never = ([own for own in dropped if np.isfinite(own.crossed) == is_so] for is_so in (True, False))
    held = f"; the epochs correlate with {with_interval(together, np.tanh)}" if np.isfinite(close) else ""
    without = f", {_returned(never)} where it never did" if never else ""
    sentence = (
        f"In {'; '.join(groups)}: of {len(back)} edges that were dropped and came back, {percent(float((came > turned).mean()))} did so after "
        f"their cost had turned negative{held}. Of dropped edges {_returned(crossed)} came back where the cost turned{without}. "
        "The number is the mean delay."
    )
    every = [run for own in groups.values() for runs in own for run in runs]
    return verdict("R1", every, lead, "epochs", direction, magnitude, sentence)


def lag(runs: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s, nodes]`` twice, over nodes that edges of both classes enter: how much more the intermediate ones cost than
    the input ones, and how much longer (share of epochs) the input ones are alive.

    The cost is the last cell's mean over the epochs of the search and over operations other than *none*, as sampled."""
    cell = summary.cell_of(runs[0])
    steps = np.delete(summary.stack(runs, "step_cost_mean")[:, :, -1], NONE, axis=-1)
    cost = np.array([[mean_of(steps[run, :, edge]) for edge in range(steps.shape[2])] for run in range(len(steps))])
    lived, middle = alive(runs)[:, 1:].mean(axis=1), intermediate(cell)
    differences = []
    for node in cell.intermediate:
        edges = np.array(cell.incoming(node))
        inner, outer = edges[middle[edges]], edges[~middle[edges]]
        if len(inner) and len(outer):
            dearer = cost[:, inner].mean(axis=1) - cost[:, outer].mean(axis=1)
            differences.append((dearer, lived[:, outer].mean(axis=1) - lived[:, inner].mean(axis=1)))
    if not differences:
        raise CannotTell(f"No node of the {cell.name} cell has edges of both classes, so there is nothing to compare.")
    dearer_sn, longer_sn = (np.stack(values, axis=1) for values in zip(*differences, strict=True))
    return dearer_sn, longer_sn


def cost_and_width(results: Results) -> Verdict:
    """R3: where intermediate edges cost more than input edges into the same node (R2), they are dropped (P2), in the
    same runs. Magnitude: the correlation of both differences over nodes and runs of a framework."""
    groups = present(results)
    dearer, outcomes, relations, values = [], [], [], {}
    for label, runs in groups.items():
        cost, lived = lag(runs)
        values[label] = cost.mean(axis=1)
        dearer.append(sign(values[label], +1))
        outcomes.append(combine([dearer[-1], width_of(runs).direction]))
        relations.append(fisher_correlation(cost.ravel(), lived.ravel()))
    direction, close = overall(outcomes), np.tanh(mean_of(np.array(relations)))
    magnitude = grade(direction, close >= STRONG, close >= MODERATE)
    sentence = (
        f"Intermediate edges cost more (R2) in {_tally(dearer)} frameworks, and both that and P2 hold in "
        f"{_tally(outcomes)}. Within a framework the extra cost and the longer life of input edges correlate with "
        f"{with_interval(np.array(relations), np.tanh)} (interval over frameworks). The number is the extra cost."
    )
    every = [run for runs in groups.values() for run in runs]
    return verdict("R3", every, _by_seed(groups, values), "", direction, magnitude, sentence)


# -- the derivation rule, the gradient, the controls -------------------------------------------------------------------------


def chosen_and_chance(runs: Sequence, keep: int = 2) -> tuple[np.ndarray, float]:
    """``[s]`` and a number: the share of intermediate edges that the rule of DARTS keeps, and what drawing ``keep``
    edges a node blindly would."""
    cell = summary.cell_of(runs[0])
    middle = intermediate(cell)
    if not middle.any():
        raise CannotTell(f"The {cell.name} cell has no intermediate edge.")
    wirings = rule_wirings(runs, partial(darts_rule, keep=keep))
    chance = [min(1.0, keep / len(cell.incoming(own.target))) for own in cell.edges]
    return (wirings[:, middle] != NONE).mean(axis=1), float(np.array(chance)[middle].mean())


def rarely_chosen(results: Results) -> Verdict:
    """G-topk: two edges a node by the strongest operation other than *none*: intermediate edges against chance.
    Magnitude: at most a fifth, or half, of what chance would choose."""
    groups = present(results, BOTH_LEVELS)
    values, ratios, words = {}, [], []
    for label, runs in groups.items():
        chosen, chance = chosen_and_chance(runs)
        values[label] = chosen - chance
        ratios.append(chosen.mean() / chance)
        words.append(f"{label} {percent(chosen.mean())} against {percent(chance)}")
    difference = _by_seed(groups, values)
    direction = sign(difference, -1)
    magnitude = grade(direction, np.mean(ratios) <= FEW, np.mean(ratios) <= SOME)
    sentence = (
        f"Intermediate edges chosen, against what blind choice gives: {'; '.join(words)}. It is shown to be rarer in "
        f"{_tally(sign(own, -1) for own in values.values())} frameworks. The number is the difference."
    )
    every = [run for runs in groups.values() for run in runs]
    return verdict("G-topk", every, difference, "of the edges", direction, magnitude, sentence)


def gradients(results: Results) -> Verdict:
    """B3: P1 and P2 under the paper's gradient, alone, without weight decay on α, and with a baseline, against the
    scripts'. Magnitude: that of P1 and P2 in these runs.

    The published search differs in clamped rewards and moving idle weights too, so the contrast is with the scripts' gradient
    alone where that is recorded."""
    groups = present(results, (PUBLISHED, ONLY_GRADIENT, CORRECTED, NO_DECAY, BASELINE))
    if CORRECTED not in groups:
        raise CannotTell(f"This needs runs of {CORRECTED}, and none is given.")
    found = {label: (growth_of(runs), width_of(runs)) for label, runs in groups.items()}
    words = [f"{label}: P1 {own[0].direction}, P2 {own[1].direction}" for label, own in found.items()]
    tests = [own for label, pair in found.items() if label not in (PUBLISHED, ONLY_GRADIENT) for own in pair]
    direction = combine([own.direction for own in tests])
    magnitude = overall([own.magnitude for own in tests])
    sentence = f"{'; '.join(words)}."
    other = next((label for label in (ONLY_GRADIENT, PUBLISHED) if label in groups), None)
    if other:
        old, new = paired(results, other, CORRECTED)
        change = width_of(new).values - width_of(old).values
        also = " (clamped rewards and idle weights differ as well)" if other == PUBLISHED else ""
        sentence += f" Against {other}{also} it changes the difference of P2 by {with_interval(change)}."
    runs = groups[CORRECTED]
    sentence += " The number is the difference of P2 under the corrected gradient."
    magnitude = grade(direction, magnitude == REPRODUCED, magnitude == PARTLY)
    return verdict("B3", runs, found[CORRECTED][1].values, "of the edges", direction, magnitude, sentence)


def rules(results: Results) -> Verdict:
    """B4: one α, five rules. Direction: P2 holds whichever rule derives the cell. Magnitude: how few edges there are
    on which the rules disagree. The number is that share."""
    groups = present(results)
    outcomes: dict[str, list[str]] = {name: [] for name in RULES}
    values: dict[str, np.ndarray] = {}
    for label, runs in groups.items():
        cell = summary.cell_of(runs[0])
        kept = {name: (rule_wirings(runs, rule) != NONE).astype(float) for name, rule in RULES.items()}
        for name, wirings in kept.items():
            inner, outer = by_class(cell, wirings)
            outcomes[name].append(sign(outer - inner, +1))
        together = np.stack(list(kept.values())).mean(axis=0)
        values[label] = ((together > 0) & (together < 1)).mean(axis=1)
    share = _by_seed(groups, values)
    direction = overall([overall(own) for own in outcomes.values()])
    magnitude = grade(direction, share.mean() <= FEW, share.mean() <= SOME)
    words = "; ".join(f"{name} {_tally(own)}" for name, own in outcomes.items())
    sentence = (
        f"Frameworks in which more input than intermediate edges are kept, by rule: {words}. The number is the share of "
        "edges on which the rules disagree."
    )
    every = [run for runs in groups.values() for run in runs]
    return verdict("B4", every, share, "of all edges", direction, magnitude, sentence)


def random_reward(results: Results) -> Verdict:
    """B7, its part on random reward: without information in the cost P1 and P2 weaken, paired by seed. Magnitude:
    neither is left."""
    told, blind = paired(results, CORRECTED, RANDOM)
    drop = [1 - at_the_minimum(runs) for runs in (told, blind)]
    width = [width_of(runs).values for runs in (told, blind)]
    parts = {
        "the share of edges dropped at the minimum": drop[0] - drop[1],
        "the difference of P2": width[0] - width[1],
    }
    outcomes = {words: sign(values, +1) for words, values in parts.items()}
    direction = combine(list(outcomes.values()))
    left = [growth_of(blind).direction, width_of(blind).direction]
    magnitude = grade(direction, left == [NOT_REPRODUCED] * 2, NOT_REPRODUCED in left)
    words = "; ".join(
        f"{text} falls by {with_interval(values)}, {claim('B7').word(outcomes[text])}" for text, values in parts.items()
    )
    sentence = (
        f"With signs of the cost drawn at random, {words}. Under random reward P1 is {left[0]} and P2 {left[1]}. The "
        "number is the second fall."
    )
    found = verdict("B7", [*told, *blind], width[0] - width[1], "of the edges", direction, magnitude, sentence)
    return replace(found, part="random reward", measured="fall of P2's difference under random reward")


def failure_in(results: Results, name: str) -> tuple[Pattern | None, bool]:
    """P3 in one bi-level setting by the rule of P3 itself, against the setting's own control, or where that is not recorded
    against the one of unvaried DARTS; and whether it is its own. None: no control shares its seeds."""
    for label, own in ((CONTROLS.get(name, SINGLE), True), (SINGLE, False)):
        try:
            return failure_of(*paired(results, name, label)), own
        except CannotTell:
            continue
    return None, False


def universal(results: Results) -> Verdict:
    """P-univ: P1 and P2 in every single-level setting of the sweep, P3 in every bi-level one. The number is the mean
    over single-level settings of P2's difference, its interval over settings."""
    groups = present(results, UNIVERSAL)
    single = {name: runs for name, runs in groups.items() if not UNIVERSAL[name].bilevel}
    if len(single) < FEWEST_SEEDS:
        raise CannotTell(
            f"Of {len(UNIVERSAL)} settings {len(groups)} are recorded, {len(single)} of them single-level, fewer than the "
            f"{FEWEST_SEEDS} to judge."
        )
    first, second = [growth_of(runs) for runs in single.values()], [width_of(runs) for runs in single.values()]
    failures = [failure_in(results, name)[0] for name in groups if UNIVERSAL[name].bilevel]
    third = [own.direction if own else NOT_TESTED for own in failures]
    direction = overall([*(own.direction for own in (*first, *second)), *third])
    magnitude = overall([own.magnitude for own in (*first, *second)])
    magnitude = grade(direction, magnitude == REPRODUCED, magnitude == PARTLY)
    values = np.array([own.values.mean() for own in second])
    sentence = (
        f"P1 holds in {_tally(own.direction for own in first)} settings (*all edges first* in "
        f"{_tally(own.parts[0] for own in first)}), P2 in {_tally(own.direction for own in second)}, P3 (fewer edges "
        f"than the single-level control) in {_tally(third)} bi-level ones, of {len(UNIVERSAL)} planned. The number is P2's difference, its n and "
        "interval over settings."
    )
    every = [run for runs in groups.values() for run in runs]
    return verdict("P-univ", every, values, "of the edges", direction, magnitude, sentence)


MEASURES: dict[str, Callable[[Results], Verdict]] = {
    "P1": growing,
    "P2": wide,
    "P-univ": universal,
    "R1": crossing_first,
    "R3": cost_and_width,
    "G-topk": rarely_chosen,
    "B3": gradients,
    "B4": rules,
    "B7": random_reward,
}
"""The measures of this module, by claim."""
