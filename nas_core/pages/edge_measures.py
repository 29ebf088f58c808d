"""Section 5.3 and Appendix G as numbers: what the intermediate edge costs against the input edge of the same node, what
that depends on, and the verdicts R2, R2-ctrl and B7 (equal training).

``results`` maps a label of :data:`RECIPES` to runs that differ in the seed. Letters in shapes: s seeds, X epochs, E
edges, K operations. All costs are those of the last cell; *none* costs nothing and is left out of every average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_core.lab.ablations import ABLATIONS, BETWEEN, CONVOLUTIONS, DIRECT, FIRST, Ablation
from nas_core.pages import summary
from nas_core.pages.claims import NOT_TESTED, REPRODUCED, Verdict, untested
from nas_core.pages.evidence import (
    SOME,
    CannotTell,
    Results,
    combine,
    grade,
    paired,
    percent,
    sign,
    verdict,
    with_interval,
)
from nas_core.patterns import FEW
from nas_core.space import NONE, OPERATIONS, Cell
from nas_core.updates import fed_shares, update_shares

NEVER_NONE = "27 never none"
FIRST_FIXED = "27 fixed"
EQUAL = "27 equal"
STILL = "27 still"
_CONTROLS = {
    "corrected_simplified_a": STILL,
    "corrected_simplified_no_none": NEVER_NONE,
    "corrected_simplified_fixed": FIRST_FIXED,
    "corrected_equal_training": EQUAL,
}

RECIPES = {own.figure or _CONTROLS[name]: name for name, own in ABLATIONS.items()}
"""The recipe behind every label; a setting of the paper is labelled by its figure."""

SETTINGS: dict[str, Ablation] = {label: ABLATIONS[name] for label, name in RECIPES.items()}
"""The setting behind every label."""

SIMPLIFIED, MODIFIED = (
    tuple(label for label, own in SETTINGS.items() if own.figure.startswith(figure)) for figure in ("27", "28")
)
"""The settings of each figure; controls belong to none."""

FROZEN, MOVING = "minimal cell, idle weights frozen", "minimal cell, idle weights moving"
IDLE = {MOVING: "reference_cost_trained", FROZEN: "corrected_cost_trained"}
"""The minimal cell twice: what the weights that a sample does not use go on doing is all that differs."""

FACTORS = {
    ("kept", "sampled"): "27a",
    ("kept", "never none"): NEVER_NONE,
    ("kept", "fixed"): FIRST_FIXED,
    ("removed", "sampled"): "28a",
    ("removed", "never none"): "28b",
    ("removed", "fixed"): "28c",
}
"""The paper's two factors crossed: output edge (1,3), what happens on (0,1) → label."""

WHEN = ("initial", "training", "end")
WHEN_WORDS = {
    "initial": "before training",
    "training": "over training",
    "end": "at the end",
}


def place(label: str) -> str:
    """What is sampled in a setting, in words; a label of none is its own words."""
    return SETTINGS[label].words if label in SETTINGS else label


def idle_words(label: str) -> str:
    """What the weights that a sample leaves out do in the recipe behind a label."""
    return "move" if RECIPES[label].startswith("reference") else "stand still"


# ------------------------------------------------------------------------------------------------------------- readings


def costs(runs: Sequence, when: str) -> np.ndarray:
    """``[s, E, K]``: the mean cost of every operation while it was drawn, NaN where it never was, and for *none*.

    ``when`` is ``"end"`` (the passes with θ fixed after training), ``"training"`` (all its steps) or ``"initial"`` (the
    evaluation before training, training and test images together: nobody is trained on either yet)."""
    summary.choose("when", when, WHEN)
    if when == "end":
        if runs[0].arrays["statistics_mean"].shape[0] == 0:
            raise CannotTell("These runs have no passes with θ fixed after training (statistics_epochs = 0).")
        found = summary.stack(runs, "statistics_mean")[:, -1]
    elif when == "training":
        found = _pooled(*(summary.stack(runs, f"step_cost_{name}")[:, :, -1] for name in ("mean", "count")))
    else:
        found = _pooled(*(summary.stack(runs, f"cost_{name}")[:, 0, :, -1] for name in ("mean", "count")))
    found = found.copy()
    found[..., NONE] = np.nan
    return found


def _pooled(means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means over disjoint sets of batches (axis 1) as one mean over all of them."""
    seen = np.where(np.isfinite(means), counts, 0)
    total = seen.sum(axis=1)
    return np.where(total > 0, (seen * np.nan_to_num(means)).sum(axis=1) / np.maximum(total, 1), np.nan)


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean without the NaN entries; NaN where there is no other."""
    count = np.isfinite(values).sum(axis=axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)


def edge_averages(runs: Sequence) -> np.ndarray:
    """``[s, X, E]``: each epoch's mean over the operations of an edge of their costs, as Figs 9, 27 and 28 show it."""
    found = summary.stack(runs, "step_cost_mean")[:, :, -1].copy()
    found[..., NONE] = np.nan
    return mean(found)


def rivals(cell: Cell) -> tuple[list[int], list[int]]:
    """The intermediate edges, and the input edges that enter the same nodes."""
    kinds = [cell.edge_class(edge) for edge in range(len(cell.edges))]
    inner = [edge for edge, kind in enumerate(kinds) if kind == "intermediate"]
    nodes = {cell.edges[edge].target for edge in inner}
    return inner, [e for e, kind in enumerate(kinds) if kind == "input" and cell.edges[e].target in nodes]


def differences(runs: Sequence, when: str, *, fed: bool = False, only: Sequence[str] = OPERATIONS) -> np.ndarray:
    """``[s]``: cost of an intermediate edge minus that of the input edge of the same node, operation by operation.

    The mean is over those operations among ``only`` that both edges have and drew. With ``fed`` an edge's mean cost is
    divided by the share of samples in which its source is fed: in the others it costs nothing, which dilutes the mean
    and has nothing to do with training."""
    cell = summary.cell_of(runs[0])
    found = costs(runs, when)
    if fed:
        found = found / fed_shares(cell)[:, None]
    return mean(_apart(found, cell)[:, [OPERATIONS.index(name) for name in only]])


def _apart(found: np.ndarray, cell: Cell) -> np.ndarray:
    """``[..., E, K] -> [..., K]``: intermediate edges minus input edges, NaN where either lacks the operation."""
    inner, outer = rivals(cell)
    if not inner or not outer:
        raise CannotTell(f"The {cell.name} cell has no node that both classes of edges enter.")
    return mean(found[..., inner, :], axis=-2) - mean(found[..., outer, :], axis=-2)


def shared(*labels: str) -> tuple[str, ...]:
    """The operations that both edges into node 2 have in each of these settings: what they can be compared on."""
    cells = [SETTINGS[label].cell for label in labels]
    candidates = [set(cell.edges[cell.index(edge)].operations) for cell in cells for edge in (DIRECT, BETWEEN)]
    return tuple(name for name in OPERATIONS if all(name in own for own in candidates))


def contrast(results: Results, label: str, other: str) -> tuple[np.ndarray, np.ndarray]:
    """``[s]`` twice, paired by seed: :func:`differences` of two settings at the end, on fed samples and over the
    operations that they share."""
    first, second = (
        differences(runs, "end", fed=True, only=shared(label, other)) for runs in paired(results, label, other)
    )
    return first, second


def difference_curve(runs: Sequence, points: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Epochs ``[X]`` and ``[s, X]``: :func:`differences` over training in at most ``points`` stretches of equal length.

    An epoch of a small data set draws each operation a few times only, so that its own difference is mostly noise."""
    seen = [summary.stack(runs, f"step_cost_{name}")[:, :, -1] for name in ("mean", "count")]
    epochs = seen[0].shape[1]
    length = -(-epochs // points)
    starts = range(0, epochs, length)
    found = np.stack([_pooled(*(own[:, start : start + length] for own in seen)) for start in starts], axis=1)
    found[..., NONE] = np.nan
    middles = np.array([(start + min(start + length, epochs)) / 2 for start in starts])
    return middles, mean(_apart(found, summary.cell_of(runs[0])))


def training_cell(setting: Ablation) -> Cell:
    """The cell whose uniform samples are those that θ learns from in this setting."""
    cell = setting.cell
    for edge in getattr(setting.relaxation, "edges", ()):
        cell = cell.without("none", edge)
    return cell


@dataclass(frozen=True)
class Dose:
    """How often training reaches the two edges of node 2: the mean share of samples that train one of their common
    convolutions, on (1,2) and on (0,2), and how many different inputs (1,2) learns from. The shares are NaN where they
    have no convolution in common."""

    between: float
    direct: float
    inputs: int

    @property
    def lead(self) -> float:
        """log₂ of how often (1,2)'s weights are trained over how often (0,2)'s are; below 0 where (1,2) lags."""
        return float(np.log2(self.between / self.direct))

    @property
    def path_lead(self) -> float:
        """The same for one way 0-1-2, a convolution of (1,2) behind one operation of (0,1), against one of (0,2)."""
        return self.lead - float(np.log2(self.inputs))


def dose(setting: Ablation) -> Dose:
    """The dose of one setting, by enumeration."""
    cell = training_cell(setting)
    first, direct, between = (cell.index(edge) for edge in (FIRST, DIRECT, BETWEEN))
    common = [
        OPERATIONS.index(name)
        for name in CONVOLUTIONS
        if all(name in cell.edges[edge].operations for edge in (direct, between))
    ]
    shares = update_shares(cell)[:, common]
    means = shares.mean(axis=1) if common else np.full(len(shares), np.nan)
    inputs = sum(name != "none" for name in cell.edges[first].operations)
    return Dose(float(means[between]), float(means[direct]), inputs)


# --------------------------------------------------------------------------------------------------------------- tests


def factorial(results: Results) -> dict[str, np.ndarray]:
    """``[s]`` per effect, paired by seed: the paper's two factors on the difference at the end.

    A main effect is the mean over the levels of the other factor. The interaction says how much more fixing (0,1) does
    once the output edge is gone."""
    groups = paired(results, *FACTORS.values())
    table = {place: differences(runs, "end") for place, runs in zip(FACTORS, groups, strict=True)}
    levels = ("sampled", "never none", "fixed")
    change = {(edge, level): table[edge, level] - table[edge, "sampled"] for edge, level in FACTORS}
    return {
        "output edge (1,3) removed": _over((table["removed", own] - table["kept", own]) for own in levels),
        "(0,1) never none instead of sampled": _over(change[edge, "never none"] for edge in ("kept", "removed")),
        "(0,1) fixed instead of sampled": _over(change[edge, "fixed"] for edge in ("kept", "removed")),
        "interaction of fixing and removing": change["removed", "fixed"] - change["kept", "fixed"],
    }


def _over(values) -> np.ndarray:
    return np.mean(list(values), axis=0)


def responses(results: Results) -> dict[str, tuple[Dose, np.ndarray]]:
    """Per setting with convolutions on both edges: its dose, and ``[s]`` the difference at the end over these
    convolutions, fed samples only."""
    found = {}
    for label, setting in SETTINGS.items():
        if results.get(label) and np.isfinite(dose(setting).lead):
            found[label] = (dose(setting), differences(results[label], "end", fed=True, only=CONVOLUTIONS))
    return found


def slopes(results: Results, which: str, labels: Sequence[str] = tuple(SETTINGS)) -> np.ndarray:
    """``[s]``: the least-squares slope of difference on dose over the settings ``labels``, seed by seed. ``which`` dose:
    ``"lead"`` or ``"path_lead"``. If lack of training is what (1,2) costs more for, it is negative."""
    names = [label for label in responses(results) if label in labels]
    if len(names) < 3:
        raise CannotTell("A slope over settings needs at least three of them.")
    kept = responses(dict(zip(names, paired(results, *names), strict=True)))
    leads = np.array([getattr(own, which) for own, _ in kept.values()])
    centred = leads - leads.mean()
    if np.ptp(leads) < 1e-9:
        raise CannotTell("These settings train both edges equally often, so there is no dose to respond to.")
    return centred @ np.array([values for _, values in kept.values()]) / (centred**2).sum()


# -------------------------------------------------------------------------------------------------------------- verdicts


def costlier(results: Results) -> Verdict:
    """R2: in each setting of Fig 27, (1,2) costs more than (0,2), same operation, paired by seed. Direction: at the end,
    with θ fixed. Magnitude: also over training, in all six settings (fully) or at least half (partly)."""
    groups = dict(zip(SIMPLIFIED, paired(results, *SIMPLIFIED), strict=True))
    end, training = ({label: differences(runs, when) for label, runs in groups.items()} for when in ("end", "training"))
    shown = {label: sign(values, +1) for label, values in end.items()}
    before = [sign(values, +1) == REPRODUCED for values in training.values()]
    direction = combine(list(shown.values()))
    magnitude = grade(direction, all(before), 2 * sum(before) >= len(before))
    those = [label for label, outcome in shown.items() if outcome == REPRODUCED]
    opposite = [label for label, values in end.items() if sign(values, -1) == REPRODUCED]
    sentence = (
        f"Edge (1,2) is shown to cost more than edge (0,2) at the end in {len(those)} of {len(end)} settings"
        f"{_named(those)} and less in {len(opposite)}{_named(opposite)}; over training it is shown to cost more in "
        f"{sum(before)}. The number is the mean difference at the end over the settings."
    )
    runs = [run for group in groups.values() for run in group]
    return verdict("R2", runs, _over(end.values()), "", direction, magnitude, sentence)


def _named(labels: Sequence[str]) -> str:
    return f" ({', '.join(labels)})" if labels else ""


def reversed_order(results: Results) -> Verdict:
    """R2-ctrl: (1,2) costs less than (0,2) in Figs 28c and 28d. Magnitude: neither factor does that alone (fully): (1,2)
    still costs more in 28a and 28b, where (0,1) is sampled, and in *27 fixed*, where the output edge is kept. *Partly*:
    in 28a or 28b at least."""
    groups = dict(zip(MODIFIED, paired(results, *MODIFIED), strict=True))
    apart = {label: differences(runs, "end") for label, runs in groups.items()}
    parts = {label: sign(values, -1 if label in ("28c", "28d") else +1) for label, values in apart.items()}
    direction = combine([parts["28c"], parts["28d"]])
    kept = [parts[label] == REPRODUCED for label in ("28a", "28b")]
    alone = bool(results.get(FIRST_FIXED)) and sign(differences(results[FIRST_FIXED], "end"), +1) == REPRODUCED
    magnitude = grade(direction, all(kept) and alone, any(kept))
    words = ", ".join(f"{label} {with_interval(values)}" for label, values in apart.items())
    sentence = (
        f"Cost of (1,2) minus that of (0,2) at the end, without the output edge: {words}. The paper has it positive in "
        f"28a and 28b, negative in 28c and 28d. {alone_words(results)} The number is the mean of 28c and 28d."
    )
    runs = [run for group in groups.values() for run in group]
    number = _over(apart[label] for label in ("28c", "28d"))
    return verdict("R2-ctrl", runs, number, "", direction, magnitude, sentence)


def alone_words(results: Results) -> str:
    """What fixing (0,1) does by itself, the output edge kept, and what removing that edge as well adds, in a sentence."""
    if not results.get(FIRST_FIXED):
        return f"What fixing (0,1) does alone (*{FIRST_FIXED}*) is not recorded."
    values = differences(results[FIRST_FIXED], "end")
    start = f"With the output edge kept and (0,1) fixed (*{FIRST_FIXED}*) it is {with_interval(values)}: "
    if sign(values, -1) == NOT_TESTED:
        return start + "too few seeds to say whether fixing alone reverses the order."
    if sign(values, -1) != REPRODUCED:
        return start + "fixing alone is not shown to reverse the order."
    start += "fixing (0,1) alone reverses the order"
    if not results.get("28c"):
        return f"{start}."
    both, alone = (differences(runs, "end") for runs in paired(results, "28c", FIRST_FIXED))
    added = f"28c minus *{FIRST_FIXED}*, {with_interval(both - alone)}"
    if sign(both - alone, -1) == REPRODUCED:
        return f"{start}, and removing the edge as well enlarges the reversal ({added})."
    return f"{start}, and that removing the edge as well enlarges the reversal is not shown ({added})."


def equal_training(results: Results) -> Verdict:
    """B7, the part on equal training: where (1,2) is trained as often as (0,2), it costs less above it than under uniform
    sampling, paired by seed; in both idle weights stand still. Magnitude: what is left is (nearly) nothing, or less than half."""
    equal, usual = paired(results, EQUAL, STILL)
    left, before = differences(equal, "end"), differences(usual, "end")
    change = left - before
    direction = sign(change, -1)
    rest = summary.interval(left)
    size = summary.interval(before)[0]
    magnitude = grade(direction, rest[2] <= FEW * size, rest[0] <= SOME * size)
    share = f", {percent(rest[0] / size)} of it" if size > 0 else ""
    sentence = (
        f"The difference between (1,2) and (0,2) at the end is {with_interval(before)} under uniform sampling and "
        f"{with_interval(left)} when both are trained equally often{share}, with idle weights standing still in both. The number is "
        "the paired change."
    )
    found = verdict("B7", [*equal, *usual], change, "", direction, magnitude, sentence)
    words = "change of the difference between (1,2) and (0,2) by equal training"
    return replace(found, part="equal training", measured=words)


def initial(results: Results) -> np.ndarray:
    """``[s]``: the difference before training, where no edge can lag yet, averaged over the settings of Fig 27."""
    groups = paired(results, *(label for label in SIMPLIFIED if results.get(label)))
    return _over(differences(runs, "initial") for runs in groups)


@dataclass(frozen=True)
class Prediction:
    """What a cause, *lag* or *sharing*, says of a quantity ``values`` ``[s]``: its sign, or 0 where the cause is not
    there, so that nothing should lift it above zero."""

    cause: str
    words: str
    values: np.ndarray
    expected: int


def predictions(results: Results) -> list[Prediction]:
    """The predictions that these runs can test: differences at the end and on fed samples, unless said otherwise; two
    settings are compared over the operations that they share."""

    def end(label: str, less: str = "") -> np.ndarray | None:
        if not results.get(label) or (less and not results.get(less)):
            return None
        return np.subtract(*contrast(results, label, less)) if less else differences(results[label], "end", fed=True)

    def slope(which: str, *labels: str) -> np.ndarray | None:
        try:
            return slopes(results, which, labels)
        except CannotTell:
            return None

    simplified = [label for label, own in SETTINGS.items() if own.has_output_edge]
    near = [label for label in simplified if label != "27f"]
    said = [
        ("both", "before training (1,2) costs no more (mean over Fig 27)", initial(results), 0),
        ("lag", "27b: operations without weights cannot lag, so (1,2) costs no more", end("27b"), 0),
        ("lag", f"{EQUAL}: no lag, so (1,2) costs no more", end(EQUAL), 0),
        ("lag", f"{NEVER_NONE}: no lag, so (1,2) costs no more", end(NEVER_NONE), 0),
        ("lag", f"equal training lowers the difference of {STILL}", end(EQUAL, STILL), -1),
        ("lag", "27c trains (1,2) more often than (0,2), and is lower than 27a", end("27c", "27a"), -1),
        ("lag", "27f lags eightfold, and is higher than 27 fixed", end("27f", FIRST_FIXED), +1),
        ("lag", "over settings: slope on log₂ of updates of the edge", slope("lead", *simplified), -1),
        ("lag", "the same without 27f", slope("lead", *near), -1),
        ("sharing", f"{NEVER_NONE}: seven inputs still, so (1,2) costs more", end(NEVER_NONE), +1),
        ("sharing", "fixing (0,1) lowers it against never none", end(FIRST_FIXED, NEVER_NONE), -1),
        ("sharing", f"{FIRST_FIXED}: one input, so (1,2) costs no more", end(FIRST_FIXED), 0),
        ("sharing", "over settings: slope on log₂ of updates of the way", slope("path_lead", *simplified), -1),
        ("sharing", "the same with the modified cells", slope("path_lead", *SETTINGS), -1),
    ]
    return [Prediction(cause, words, values, sign) for cause, words, values, sign in said if values is not None]


MEASURES = {"R2": costlier, "R2-ctrl": reversed_order, "B7": equal_training}
"""The measures of this module, by claim."""


def judge(claim_id: str, results: Results) -> Verdict:
    """The verdict of these runs on a claim of this section; *not tested at this scale*, with the reason, where they
    cannot tell."""
    try:
        return MEASURES[claim_id](results)
    except CannotTell as reason:
        return untested(claim_id, str(reason))
