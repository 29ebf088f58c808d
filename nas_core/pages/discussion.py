"""Section 6: what the measurements of the other chapters say to the paper's four suggestions and two open questions.

An :class:`Answer` is one quantity that a chapter measures, with the value that separates *yes* from *no* and the
sentences that follow from either; :func:`readings` takes recorded runs to what was found. Nothing is measured here for
the first time except contrasts between runs that other chapters show.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from nas_core.lab.variations import PHASE, UNIVERSAL
from nas_core.pages import (
    alone_measures,
    cost_measures,
    edge_measures,
    estimator_pages,
    evolution_patterns,
    overview,
    stack_measures,
    style,
    summary,
    sweeps,
    variant_measures,
    verdicts,
)
from nas_core.pages.claims import NOT_TESTED, PARTLY, REPRODUCED, Verdict, claim, number, unbroken, untested
from nas_core.pages.discussion_points import OPPOSITE, POINTS, SHOWN, UNCLEAR, UNTESTED, Answer
from nas_core.pages.evidence import (
    BILEVEL,
    BILEVEL_SAME,
    FEWEST_SEEDS,
    CannotTell,
    Results,
    paired,
    sign,
    verdict,
    where,
    with_interval,
)
from nas_core.pages.parameters import SCALES
from nas_core.pages.tables import markdown

PARTS = tuple(part for part in verdicts.PARTS if part is not stack_measures)
"""The modules whose recorded runs answer something here: the paper's last section says nothing of stacks."""


def collect(scale: str) -> dict[str, Sequence]:
    """The recorded runs behind every answer, by label; computes nothing. Runs that are judged together are those of
    ``scale`` if enough of them are there, else those of the next smaller one that has them."""
    scales = SCALES[SCALES.index(scale) :: -1]
    found: dict[str, Sequence] = {}
    for part in PARTS:
        found |= overview.group(part.RECIPES, scales)
    for sweep in (UNIVERSAL, PHASE):
        found |= overview.group({name: name for name in sweep}, scales, fewest=1)
    return found | overview.taken_apart(scales)


# -- contrasts between runs of other chapters ------------------------------------------------------------------------------


def own_images(results: Results) -> Verdict:
    """Edges that bi-level search keeps when α is judged on θ's own images, minus those it keeps on held-out ones."""
    same, held_out = paired(results, BILEVEL_SAME, BILEVEL)
    kept = [summary.survivors(group)[:, -1].sum(axis=-1) for group in (same, held_out)]
    return _contrast("B1", [*same, *held_out], kept[0] - kept[1], "edges", +1)


def fixing(results: Results) -> Verdict:
    """How much more fixing (0,1) lowers the cost of (1,2) against (0,2) once the output edge is gone: the interaction."""
    effect = edge_measures.factorial(results)["interaction of fixing and removing"]
    groups = paired(results, *edge_measures.FACTORS.values())
    return _contrast("R2-ctrl", [run for group in groups for run in group], effect, "", -1)


def augmented(results: Results) -> Verdict:
    """The summed cost of the edges after training, on augmented training images minus on the same images plain."""
    group = results.get(cost_measures.TRAINED)
    if not group:
        raise CannotTell(f"This needs runs of {cost_measures.TRAINED}, and none is given.")
    seen, plain = cost_measures.sums_at_rest(group)
    return _contrast("T2", group, seen - plain, "nats", +1)


def speed(results: Results) -> Verdict:
    """Over the points of the phase diagram: the rank correlation of the predicted ratio (how far α can go over how far it
    has to) with the share of edges dropped. n counts points; the interval is Bonett and Wright's."""
    points = sweeps.grid(results)
    if len(points) < FEWEST_SEEDS:
        raise CannotTell(f"Of {len(PHASE)} points of the phase diagram {len(points)} are recorded.")
    known = sweeps.phases(points)
    ratios = [known[theta].ratio(alpha, noise=True) for alpha, theta in points]
    shares = [sweeps.dropped(group) for group in points.values()]
    if np.ptp(ratios) == 0 or np.ptp(shares) == 0:
        raise CannotTell("The share of edges dropped is the same at every recorded point.")
    rank = float(np.clip(stats.spearmanr(ratios, shares).statistic, -0.9999, 0.9999))
    half = stats.norm.ppf(0.975) * math.sqrt((1 + rank**2 / 2) / (len(points) - 3))
    low, high = (math.tanh(math.atanh(rank) + side * half) for side in (-1, 1))
    every = [run for group in points.values() for run in group]
    # A correlation over points is not a claim of the paper: it has no verdict.
    return Verdict("P1", NOT_TESTED, NOT_TESTED, len(points), rank, low, high, "rank correlation", "", *where(every))


def _contrast(claim_id: str, group: Sequence, values: np.ndarray, unit: str, expected: int) -> Verdict:
    outcome = sign(values, expected)
    return verdict(claim_id, group, values, unit, outcome, outcome, f"{with_interval(values)}.")


MEASURES: dict[str, Callable[[Results], Verdict]] = {
    **verdicts.MEASURES,
    # The mathematics of Appendix H takes its own page a quarter of a minute; here only recorded maps are read.
    **variant_measures.RECORDED,
    **verdicts.CONTROLS,
    "own images": own_images,
    "fixing": fixing,
    "augmented": augmented,
    "speed": speed,
}
"""What an answer's ``measure`` may name."""

NEEDS: dict[str, tuple[str, ...]] = {
    "P3": (BILEVEL, verdicts.SINGLE),
    "R4": (BILEVEL,),
    "B1": (BILEVEL, verdicts.SINGLE, verdicts.SINGLE_HELD_OUT, BILEVEL_SAME),
    "own images": (BILEVEL_SAME, BILEVEL),
    "R2": edge_measures.SIMPLIFIED,
    "R2-ctrl": (*edge_measures.MODIFIED, edge_measures.FIRST_FIXED),
    "fixing": tuple(edge_measures.FACTORS.values()),
    "equal training": (edge_measures.EQUAL, edge_measures.STILL),
    "augmented": (cost_measures.TRAINED,),
    "shuffled labels": (cost_measures.TRAINED, cost_measures.SHUFFLED),
    "random reward": (evolution_patterns.CORRECTED, evolution_patterns.RANDOM),
    "B3": (evolution_patterns.CORRECTED,),
    "B5": (estimator_pages.ESTIMATORS,),
    "B6": tuple(alone_measures.RECIPES),
    "N-affine": tuple(
        variant_measures.label(title, when)
        for title in (variant_measures.BASE, variant_measures.LAYER, variant_measures.INSTANCE_AFFINE)
        for when in (variant_measures.BEFORE, variant_measures.AFTER)
    ),
    "S-order": tuple(
        variant_measures.label(title, when)
        for title in (variant_measures.BASE, variant_measures.CONV_RELU, variant_measures.CONV_NORM)
        for when in (variant_measures.BEFORE, variant_measures.AFTER)
    ),
    "N-IN": tuple(
        variant_measures.label(title, when)
        for title in (variant_measures.BASE, variant_measures.INSTANCE)
        for when in (variant_measures.BEFORE, variant_measures.AFTER)
    ),
}
"""The labels of the runs that a measure cannot do without, where they are known beforehand."""


# -- readings ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What recorded runs say to one answer."""

    answer: Answer
    verdict: Verdict

    @property
    def outcome(self) -> str:
        """On which side of the answer's boundary the whole interval lies: *shown*, *opposite*, *unclear* where it
        includes the boundary, *untested* with too few seeds."""
        own = self.verdict
        if own.n < FEWEST_SEEDS or not math.isfinite(own.low):
            return UNTESTED
        above, below = own.low > self.answer.boundary, own.high < self.answer.boundary
        if self.answer.expected < 0:
            above, below = below, above
        return SHOWN if above else OPPOSITE if below else UNCLEAR

    @property
    def sentence(self) -> str:
        """What follows from the outcome, in one sentence."""
        if self.outcome == UNTESTED:
            return f"Too few runs are recorded to say anything of this: {self.answer.measured}."
        said = {SHOWN: self.answer.shown, OPPOSITE: self.answer.opposite, UNCLEAR: self.answer.unclear}[self.outcome]
        return f"{said} {self.reservation}".strip()

    @property
    def reservation(self) -> str:
        """What a number alone would hide: that the claim which it belongs to is judged in parts, and not all of them hold."""
        own, answer = self.verdict, self.answer
        if self.outcome != SHOWN or answer.measure != answer.claim or own.direction == REPRODUCED:
            return ""
        outcome = claim(own.claim_id).word(own.direction)
        return f"{answer.claim} with all its parts is {'partly reproduced' if outcome == PARTLY else outcome}."

    @property
    def numbers(self) -> str:
        """The number with its unit, interval and n; a dash where there is none."""
        return self.verdict.estimate_words or "–"

    @property
    def more_seeds(self) -> int | None:
        """How many seeds would set the interval clear of the boundary if mean and spread stayed as they are; None unless
        the outcome is unclear."""
        own, boundary = self.verdict, self.answer.boundary
        if self.outcome != UNCLEAR or own.estimate == boundary:
            return None
        half = (own.high - own.low) / 2
        return max(own.n + 1, math.ceil(own.n * (half / abs(own.estimate - boundary)) ** 2) + 1)


def read(answer: Answer, results: Results) -> Reading:
    """One answer from these runs; untested, with the reason, where they cannot tell."""
    try:
        return Reading(answer, MEASURES[answer.measure](results))
    except CannotTell as reason:
        return Reading(answer, untested(answer.claim, str(reason)))


def readings(results: Results) -> dict[str, list[Reading]]:
    """Every answer, by the name of the suggestion or question that it speaks to."""
    return {point.name: [read(answer, results) for answer in point.answers] for point in POINTS}


# -- on the page -------------------------------------------------------------------------------------------------------------


OUTCOME_WORDS = {SHOWN: "yes", OPPOSITE: "no: the opposite", UNCLEAR: "undecided", UNTESTED: NOT_TESTED}


def table(found: Mapping[str, Sequence[Reading]]) -> str:
    """The chapter's summary: what was asked, what was measured and which claim it belongs to, the number, and whether it is
    so. What most rows rest on stands in the header, what others do beside their number."""
    every = [reading.verdict for own in found.values() for reading in own if reading.outcome != UNTESTED]
    usual = Counter(map(_basis, every)).most_common(1)[0][0] if every else ""
    rows = []
    for name, own in found.items():
        for position, reading in enumerate(own):
            answer, judged = reading.answer, reading.verdict
            of = f" ({answer.claim})" if answer.measure == answer.claim else ""
            basis = "" if _basis(judged) == usual or not judged.n else f"; {_basis(judged)}"
            rows.append(
                (f"**{name}**" if position == 0 else "", answer.measured + of,
                 (judged.interval_words or "–") + basis, OUTCOME_WORDS[reading.outcome])
            )  # fmt: skip
    number_of = "number, 95 % interval" + (f"; {usual} unless said" if usual else "")
    return markdown(("", "what was measured", number_of, "is it so?"), rows)


def _basis(own: Verdict) -> str:
    return f"n = {own.n}, {own.scale}"


def source(results: Results) -> str:
    """Where the numbers come from, in one line: too many recipes to name each."""
    every = [run for group in results.values() for run in group]
    if not every:
        return "No run behind these rows is recorded."
    scales, data = where(every)
    recipes = len({run.meta["recipe"] for run in every})
    return (
        f"Data: {len(every)} recorded runs of {recipes} recipes; scale {scales}; {data}. {{doc}}`results` lists them."
    )


def paragraph(found: Mapping[str, Sequence[Reading]], name: str) -> str:
    """What is said to one suggestion or question: a sentence an answer, untested ones last."""
    own = found[name]
    ordered = sorted(own, key=lambda reading: reading.outcome == UNTESTED)
    return "\n".join(f"- {reading.sentence} ({reading.answer.where})" for reading in ordered)


def left_open(found: Mapping[str, Sequence[Reading]], results: Results, scale: str) -> str:
    """What is undecided or untested, each with what would settle it: seeds to add, or the commands that record them."""
    lines = []
    for reading in (reading for own in found.values() for reading in own):
        answer = reading.answer
        if reading.outcome == UNTESTED:
            lines.append(f"- **{answer.measured}**: untested. {_commands(answer, results, scale)}")
        elif reading.outcome == UNCLEAR:
            lines.append(f"- **{answer.measured}**: undecided, {reading.numbers}. {_seeds_words(reading)}")
    return unbroken("\n".join(lines)) or "Every quantity above lies on one side of its boundary."


def _seeds_words(reading: Reading) -> str:
    """How many more seeds would decide; a thousand is no plan."""
    needed = reading.more_seeds
    if needed is None or needed > 1000:
        return f"No reasonable number of {reading.answer.counts} would decide it at this spread."
    return f"About {needed} {reading.answer.counts} would decide it if mean and spread stayed as they are."


def _commands(answer: Answer, results: Results, scale: str) -> str:
    recipes = {**verdicts.RECIPES, **{name: name for name in PHASE}}
    labels = NEEDS.get(answer.measure, ())
    lacking = [recipes[label] for label in labels if len(results.get(label, ())) < FEWEST_SEEDS]
    if not lacking:
        return f"See {answer.where} for the runs that it needs."
    named = " ".join(lacking[:1])
    rest = f" (and {', '.join(f'`{name}`' for name in lacking[1:])})" if lacking[1:] else ""
    return f"`python -m nas_core.lab run {named} --scale {scale} --seeds 0-4`{rest} would settle it."


# -- the figure --------------------------------------------------------------------------------------------------------------

_LOOKS = {SHOWN: ("#0072b2", "o", True), OPPOSITE: ("#c04a00", "s", True), UNCLEAR: ("#6b6b6b", "o", False)}
_LEGEND = {SHOWN: "as asked, shown", OPPOSITE: "the opposite, shown", UNCLEAR: "undecided"}


def placed(reading: Reading) -> tuple[float, float, float]:
    """Estimate and interval as distances from the boundary towards what is asked, in units of the farther bound: 0 is
    the boundary, ±1 the farther end. Ratios are compared by their logarithms."""
    own, answer = reading.verdict, reading.answer
    values = np.array([own.estimate, own.low, own.high])
    if answer.ratio:
        values, boundary = np.log(values), math.log(answer.boundary)
    else:
        boundary = answer.boundary
    values = np.sign(answer.expected) * (values - boundary)
    farthest = np.abs(values).max() or 1.0
    estimate, *ends = values / farthest
    return float(estimate), float(min(ends)), float(max(ends))


@style.styled
def forest(found: Mapping[str, Sequence[Reading]]) -> Figure:
    """Every quantity with its interval, one row each, on a scale of its own around the boundary between yes and no."""
    rows = [(name, reading) for name, own in found.items() for reading in (None, *own)]
    figure = style.new_figure(0.235 * len(rows) + 0.95)
    axes = figure.subplots()
    axes.axvspan(0, 1.12, color="#0072b2", alpha=0.06, linewidth=0, zorder=0)
    style.zero_line(axes, vertical=True)
    labels: list[str] = []
    used: dict[str, None] = {}
    for row, (name, reading) in enumerate(rows):
        labels.append(name if reading is None else reading.answer.short)
        if reading is not None:
            used[reading.outcome] = None
            _draw(axes, row, reading)
    axes.set_yticks(range(len(rows)), labels)
    for tick, (_, reading) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if reading is None else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-1.12, 1.12)
    axes.set_xticks([-1, 0, 1], ["←  the opposite", "boundary", "as asked  →"])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for outcome in (SHOWN, OPPOSITE, UNCLEAR):
        if outcome in used:
            colour, marker, filled = _LOOKS[outcome]
            axes.plot([], [], marker=marker, color=colour, markerfacecolor=colour if filled else "white",
                      linewidth=1.8, label=_LEGEND[outcome])  # fmt: skip
    if any(outcome != UNTESTED for outcome in used):
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.set_label(_spoken(reading for _, reading in rows if reading is not None))
    return figure


def _draw(axes: Axes, row: int, reading: Reading) -> None:
    right: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": style.SMALL - 1}
    if reading.outcome == UNTESTED:
        axes.text(1.02, row, "too few runs", color="#777777", **right)
        return
    colour, marker, filled = _LOOKS[reading.outcome]
    estimate, low, high = placed(reading)
    axes.plot([low, high], [row, row], color=colour, linewidth=1.8, solid_capstyle="round")
    axes.plot([estimate], [row], marker=marker, color=colour, markersize=6,
              markerfacecolor=colour if filled else "white")  # fmt: skip
    ends = ", ".join(map(number, reading.verdict.bounds))
    axes.text(1.02, row, f"{number(reading.verdict.estimate)} [{ends}]", color="#222222", **right)


def _spoken(given: Iterable[Reading]) -> str:
    """The figure in words: which quantities lie on which side."""
    by_outcome: dict[str, list[str]] = {}
    for reading in given:
        by_outcome.setdefault(reading.outcome, []).append(reading.answer.short)
    words = [f"{OUTCOME_WORDS[outcome]}: {', '.join(names)}" for outcome, names in by_outcome.items()]
    return f"Every quantity of the table with its interval around its boundary. {'; '.join(words)}."
