"""Where Section 5.1 is not reproduced at this scale, and what the recorded runs say of the reasons: too few seeds, the network's size and
the length of its training, or the images (:mod:`nas_core.pages.cost_measures` has the measures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from nas_core.lab.experiments import command
from nas_core.lab.recipes import RECIPES as EVERY_RECIPE
from nas_core.pages import cost_measures as measures
from nas_core.pages import summary
from nas_core.pages.claims import REPRODUCED, number
from nas_core.pages.evidence import Results, sign, with_interval
from nas_core.pages.tables import markdown
from nas_core.space import NONE, OPERATIONS

PLAIN = "trained θ (never augmented)"
RECIPES = {PLAIN: "corrected_cost_plain"}
"""The control of the images: the same training without augmentation."""


# --- inside one run ---------------------------------------------------------------------------------------------------


def inside(runs: Sequence) -> measures.Signs:
    """The signs that a single run shows by the intervals over its own batches; they say nothing of other seeds."""
    found = summary.statistics(runs[:1])
    known = np.isfinite(found.mean[-1])
    known[:, NONE] = False
    mean, shown = found.mean[-1][known], found.shown[-1][known]
    return measures.Signs(
        len(mean), int((shown & (mean > 0)).sum()), int((shown & (mean < 0)).sum()), int((mean > 0).sum())
    )


def count_words(runs: Sequence) -> str:
    """How many entries are shown positive, shown negative and open: over seeds, or inside the run where there is one."""
    found = measures.signs(measures.entries(runs)) if len(runs) > 1 else inside(runs)
    return f"{found.positive}, {found.negative}, {found.open}" + ("" if len(runs) > 1 else " (inside the run)")


# --- reasons ----------------------------------------------------------------------------------------------------------


def seeds_needed(values: np.ndarray, most: int = 10_000) -> int:
    """How many seeds show a sign if mean and spread are those of these seeds; at most ``most``."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or np.ptp(known) == 0:  # no spread to go by: drawn in a single run, or the same in all
        return most
    ratio = abs(float(known.mean())) / float(known.std(ddof=1))
    counts = np.arange(2, most + 1)
    enough = ratio * np.sqrt(counts) > stats.t.ppf(0.975, counts - 1)
    return int(counts[enough.argmax()]) if enough.any() else most


def seeds_words(results: Results) -> str:
    """Why H1 is not shown entry by entry: what the entries without a shown sign would take, in sentences."""
    values = measures.columns(measures.entries(results[measures.INITIAL]))
    if len(values) < 2:
        return "A single run shows no sign over seeds."
    left = [own for own in values.T if sign(own, +1) != REPRODUCED and sign(own, -1) != REPRODUCED]
    if not left:
        return "Before training the sign of every entry is shown."
    positive = sum(np.nanmean(own) > 0 for own in left)
    needed = sorted(seeds_needed(own) for own in left)
    return (
        f"Before training the sign of {len(left)} of {values.shape[1]} entries is open; {positive} of them have a positive mean. If mean and "
        f"spread stay what they are, half of these need {needed[len(needed) // 2]} seeds or more, against the {len(values)} there are. So "
        "that they are open is first of all a matter of seeds: the spread is between networks, and longer sampling does not shrink it."
    )


def odd_table(results: Mapping[str, Sequence]) -> str:
    """The entries that are shown positive after training, with their cost in every other kind of run: over seeds, or ± the error inside a
    single run."""
    runs = results[measures.TRAINED]
    cell = summary.cell_of(runs[0])
    odd = _odd(runs)
    if not odd:
        return "No entry is shown to be positive after training."
    rows = [
        [f"`{OPERATIONS[k]}` on {summary.edge_name(cell, edge)}", *(_entry(own, edge, k) for own in results.values())]
        for edge, k in odd
    ]
    header = ["shown to be positive", *(f"{label}, n = {len(own)}" for label, own in results.items())]
    return markdown(header, rows, text=1)


def _odd(runs: Sequence) -> list[tuple[int, ...]]:
    values = measures.entries(runs)
    return [place for place in np.ndindex(values.shape[1:]) if sign(values[(slice(None), *place)], +1) == REPRODUCED]


def odd_words(results: Results, at_paper: Results) -> str:
    """Whether the entries that stay positive here do so at the paper's scale, in sentences."""
    odd = _odd(results[measures.TRAINED])
    if not odd:
        return ""
    if not at_paper.get(measures.TRAINED):
        return "Whether width, length or data is the reason, a run at the paper's scale would tell; none is recorded."
    found = summary.statistics(at_paper[measures.TRAINED])
    also = sum(bool(found.shown[(-1, *place)] and found.mean[(-1, *place)] > 0) for place in odd)
    many = len(at_paper[measures.TRAINED]) > 1
    where = "over seeds" if many else "inside its single run"
    if also == len(odd):
        return (
            f"At the paper's scale {'it is' if len(odd) == 1 else 'they are'} positive as well, {where}: neither width nor length nor data "
            "is the reason."
        )
    return (
        f"At the paper's scale {also} of {len(odd)} {'is' if also == 1 else 'are'} positive as well, {where}; for the others width, length or "
        "data may be the reason."
    )


def _entry(runs: Sequence, edge: int, operation: int) -> str:
    if len(runs) > 1:
        return with_interval(measures.entries(runs)[:, edge, operation])
    found = summary.statistics(runs)
    return f"{number(float(found.mean[-1, edge, operation]))} ± {number(float(found.error[-1, edge, operation]))}"


def plain_table(results: Mapping[str, Sequence]) -> str:
    """The cost after training by whether training augments its images: the mean over entries and L − H on plain images."""
    rows = []
    for label, runs in results.items():
        loss, entropy = summary.loss_and_entropy(runs, "train")
        mean = np.nanmean(measures.columns(measures.entries(runs)), axis=1)
        accuracy = summary.stack(runs, "accuracy")[:, -1, 0]
        augment = runs[0].meta["config"]["data"]["augment"]
        rows.append(
            [label, len(runs), augment, *(with_interval(own) for own in (mean, (loss - entropy)[:, -1], accuracy))]
        )
    header = ["runs", "n", "augmentation", "mean over entries", "L − H on plain training images", "accuracy on these"]
    return markdown(header, rows, text=1)


def plain_words(trained: Sequence, plain: Sequence) -> str:
    """How much of the sign of L − H on plain images augmentation explains, in sentences."""
    by_seed = {run.meta["seed"]: run for run in plain}
    pairs = [(run, by_seed[run.meta["seed"]]) for run in trained if run.meta["seed"] in by_seed]
    ends = [_output_cost([pair[side] for pair in pairs]) for side in (0, 1)]
    change, share = ends[1] - ends[0], 1 - ends[1].mean() / ends[0].mean()
    if sign(ends[0], -1) == REPRODUCED:
        return "Trained on augmented images L − H on plain ones is shown to be negative: T2 needs no other reason."
    explained = sign(change, -1) == REPRODUCED
    return (
        f"At the end of training $L - H$ on plain images is {with_interval(ends[0])} after training on augmented ones and "
        f"{with_interval(ends[1])} after training on plain ones, {len(pairs)} seeds each; the paired change is {with_interval(change)}. "
        + (
            f"Augmentation explains {'all' if share >= 1 else 'a part'} of the positive sign. "
            if explained and ends[0].mean() > 0
            else "Augmentation is not shown to be the reason. "
        )
        + (
            "Without it the sign that the paper has is shown."
            if sign(ends[1], -1) == REPRODUCED
            else _open_words(ends[1])
        )
    )


def _open_words(values: np.ndarray) -> str:
    way = "negative" if values.mean() < 0 else "positive"
    return (
        f"Without it the mean is {way}, its sign not shown with {len(values)} seeds."
        if sign(values, +1) != REPRODUCED
        else "Without it the sign is still shown to be positive."
    )


def _output_cost(runs: Sequence) -> np.ndarray:
    loss, entropy = summary.loss_and_entropy(runs, "train")
    return (loss - entropy)[:, -1]


def evaluation_words(runs: Sequence) -> str:
    """Why the two columns of images may differ in a run that never augments, in sentences."""
    config = runs[0].meta["config"]
    images = config["data"]["images"] or 0
    images -= round(images * config["data"]["held_out"])
    seen = min(config["evaluation_images"] or images, images)
    batches = max(1, seen // config["batch_size"])
    return (
        f"One reason is the evaluation itself: it draws one architecture for each of its {batches} batches, {seen} images in all, always the "
        f"first of the training set, while the epochs of cost draw a new one for every batch of {config['statistics_epochs']} passes over "
        f"{images} images. So the columns can differ in runs that never augment, too."
    )


def settling(at_paper: Results) -> str:
    """The runs that would settle what is left open, as commands: more seeds at the paper's scale, and the control of the images there."""
    recorded = {label: summary.seeds(runs) for label, runs in at_paper.items()}
    wanted = {measures.RECIPES[label]: recorded.get(label, []) for label in (measures.INITIAL, measures.TRAINED)} | {
        RECIPES[PLAIN]: []
    }
    lines = []
    for recipe, have in wanted.items():
        config = EVERY_RECIPE[recipe]("paper")
        lines.append(command(recipe, "paper", config, [seed for seed in range(5) if seed not in have]))
    return "\n".join(["```bash", *lines, "```"])
