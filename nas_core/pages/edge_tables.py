"""Tables of Section 5.3 and Appendix G in Markdown, and the one experiment that their pages make themselves: the exact
costs of untrained cells.

What is compared, and when, says :mod:`nas_core.pages.edge_measures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from nas_core.cost import exact_cost
from nas_core.lab.ablations import BETWEEN, DIRECT, FIRST
from nas_core.pages import edge_measures as measures
from nas_core.pages import enumeration, summary
from nas_core.pages.claims import REPRODUCED
from nas_core.pages.edge_measures import WHEN, WHEN_WORDS, differences
from nas_core.pages.evidence import FEWEST_SEEDS, Results, paired, sign, with_interval
from nas_core.pages.tables import markdown
from nas_core.relaxation import masked
from nas_core.space import NONE, OPERATIONS, simplified
from nas_core.updates import fed_shares


def difference_table(results: Mapping[str, Sequence]) -> str:
    """One row a setting: cost of (1,2) minus that of (0,2), same operation, at every time, and on fed samples alone."""
    rows = []
    for label, runs in results.items():
        own = [with_interval(differences(runs, when)) for when in WHEN]
        rows.append([label, measures.place(label), len(runs), *own, with_interval(differences(runs, "end", fed=True))])
    header = ("setting", "what is sampled", "n", *(WHEN_WORDS[when] for when in WHEN), "at the end, fed samples")
    return markdown(header, rows, text=2)


def cost_table(results: Mapping[str, Sequence]) -> str:
    """One row a setting: each edge's cost at the end, averaged over its operations, and how often (1,2) is the
    highest and the lowest of the three."""
    rows = []
    for label, runs in results.items():
        found = measures.mean(measures.costs(runs, "end"))
        cell = summary.cell_of(runs[0])
        order = [cell.index(edge) for edge in (FIRST, DIRECT, BETWEEN)]
        top, bottom = (int((choose(found, axis=1) == order[-1]).sum()) for choose in (np.argmax, np.argmin))
        rows.append([label, *(with_interval(found[:, edge]) for edge in order), f"{top} of {len(runs)}",
                     f"{bottom} of {len(runs)}"])  # fmt: skip
    return markdown(("setting", "(0,1)", "(0,2)", "(1,2)", "(1,2) highest", "(1,2) lowest"), rows, text=1)


def highest_words(results: Mapping[str, Sequence], labels: Sequence[str] = ("28a", "28b")) -> str:
    """A sentence on what the paper reads off Figs 28a and 28b: the average cost of (1,2) is the largest of *three* edges."""
    words = []
    for label in (label for label in labels if results.get(label)):
        found, cell = measures.mean(measures.costs(results[label], "end")), summary.cell_of(results[label][0])
        values = {edge: found[:, cell.index(edge)] for edge in (FIRST, DIRECT, BETWEEN)}
        first, second = sorted(values, key=lambda edge: -values[edge].mean())[:2]
        times = int((found.argmax(axis=1) == cell.index(BETWEEN)).sum())
        apart = values[BETWEEN] - values[second if first == BETWEEN else first]
        words.append(
            f"in {label} the highest mean is that of ({first[0]},{first[1]}); (1,2) is the highest of the three in {times} of "
            f"{len(found)} seeds, its mean minus the highest of the others {with_interval(apart)}"
        )
    if not words:
        return "The paper's statement on three edges needs runs of 28a or 28b, and none is given."
    return f"The paper has (1,2) as the largest of all three edges in {' and '.join(labels)}. Here, {'; '.join(words)}."


def dose_table(labels: Sequence[str]) -> str:
    """One row a setting, exactly: how often training reaches a convolution of (1,2) and of (0,2), and the ratio of the
    two; for one way through (0,1), too."""
    rows = []
    for label in labels:
        own, idle = measures.dose(measures.SETTINGS[label]), measures.idle_words(label)
        shares = [f"{100 * share:.1f} %" for share in (own.between, own.direct)]
        shares += [f"{2**lead:.3g}" for lead in (own.lead, own.path_lead)]
        shares = ["no convolution"] * 2 + ["–"] * 2 if np.isnan(own.between) else shares
        rows.append([label, measures.SETTINGS[label].words, *shares[:3], own.inputs, shares[3], idle])
    names = ("(1,2) trained", "(0,2) trained", "ratio", "inputs of (1,2)", "ratio, one way", "idle weights")
    return markdown(("setting", "what is sampled", *names), rows, text=2)


def factor_table(results: Results) -> str:
    """The effects of :func:`nas_core.pages.edge_measures.factorial` with their intervals."""
    rows = [[words, len(values), with_interval(values)] for words, values in measures.factorial(results).items()]
    return markdown(("effect on cost(1,2) − cost(0,2)", "n", "change"), rows, text=1)


STEPS = {
    "idle weights held still": (measures.STILL, "27a"),
    "lag removed": (measures.EQUAL, measures.STILL),
    "lag and dilution removed": (measures.NEVER_NONE, measures.STILL),
    "sharing removed as well": (measures.FIRST_FIXED, measures.NEVER_NONE),
    "sharing removed, an eightfold lag put in": ("27f", measures.FIRST_FIXED),
}
"""What one setting changes in another, as far as the causes of Section 5.3 go."""


def step_table(results: Results) -> str:
    """The settings of the simplified cell that differ by one cause: the difference in both, over the
    operations that they share, and the paired change."""
    rows = []
    for words, (label, other) in STEPS.items():
        if results.get(label) and results.get(other):
            after, before = measures.contrast(results, label, other)
            numbers = (with_interval(values) for values in (before, after, after - before))
            idle = " → ".join(dict.fromkeys(measures.idle_words(own) for own in (other, label)))
            rows.append([words, f"{other} → {label}", len(after), *numbers, idle])
    header = ("step", "settings", "n", "difference before", "after", "change", "idle weights")
    return markdown(header, rows, text=2)


def _outcome(values: np.ndarray, expected: int) -> str:
    """What an interval says of a predicted sign, or of the prediction that nothing lifts the values above zero."""
    if np.isfinite(values).sum() < FEWEST_SEEDS:
        return "too few seeds"
    above, below = (sign(values, way) == REPRODUCED for way in (+1, -1))
    if expected == 0:
        return "contradicted" if above else "compatible: not shown to be above 0"
    return "as predicted" if (above if expected > 0 else below) else "contradicted" if above or below else "not shown"


def prediction_table(results: Results) -> str:
    """What the causes predict, what was measured, and whether they agree."""
    rows = [
        [own.cause, own.words, with_interval(own.values), _outcome(own.values, own.expected)]
        for own in measures.predictions(results)
    ]
    return markdown(("cause", "predicts", "measured", "outcome"), rows, text=2)


def idle_table(results: Results) -> str:
    """The minimal cell with idle weights moving and standing still: what that choice alone does to the difference."""
    moving, frozen = (differences(runs, "end") for runs in paired(results, measures.MOVING, measures.FROZEN))
    found = {measures.MOVING: moving, measures.FROZEN: frozen, "moving minus frozen": moving - frozen}
    rows = [[label, len(values), with_interval(values)] for label, values in found.items()]
    return markdown(("runs", "n", "intermediate − input, same node"), rows, text=1)


# ------------------------------------------------------------------------------------------- before training, exactly


def exact_initial(seeds: Iterable[int]) -> np.ndarray:
    """``[s, E, K]``: expected costs in untrained simplified cells of four candidates, over *all* their architectures on
    one batch of digits, divided by the share in which an edge's source is fed; NaN for *none* and what is no candidate.
    """
    found = []
    for seed in seeds:
        case = enumeration.small(seed)
        uniform = masked(torch.zeros_like(case.log_alpha), case.cell)
        cost = exact_cost(case.network, case.images, case.labels, uniform).conditional[0].numpy()
        cost = np.where(case.cell.mask(), cost / fed_shares(case.cell)[:, None], np.nan)
        cost[:, NONE] = np.nan
        found.append(cost)
    return np.stack(found)


def exact_table(costs_sEK: np.ndarray) -> str:
    """Costs of both edges into node 2 before training, and their difference, operation by operation and on average."""
    names = [name for name in enumeration.CANDIDATES if name != "none"]
    own = costs_sEK[..., [OPERATIONS.index(name) for name in names]]
    outer, inner = (own[:, simplified().index(edge)] for edge in (DIRECT, BETWEEN))
    columns = [*zip(names, outer.T, inner.T, strict=True), ("mean of these", outer.mean(1), inner.mean(1))]
    rows = [[name, len(own), *(with_interval(v) for v in (a, b, b - a))] for name, a, b in columns]
    header = ("operation", "initialisations", "cost on (0,2)", "cost on (1,2), fed samples", "difference")
    return markdown(header, rows, text=1)
