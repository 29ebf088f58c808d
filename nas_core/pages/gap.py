"""B2, deepened: what opens and closes the generalisation gap in bi-level search, and whether it, or the cost that α is
charged, tells how many edges survive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from nas_core.lab.store import Result
from nas_core.pages import style, summary
from nas_core.pages.evidence import (
    BILEVEL,
    BILEVEL_SAME,
    NOISE,
    SINGLE,
    SINGLE_HELD_OUT,
    fisher_correlation,
    mean_of,
    with_interval,
)
from nas_core.pages.evolution_patterns import charged
from nas_core.pages.parameters import Parameters
from nas_core.pages.runs import recorded
from nas_core.pages.tables import markdown

NOISIEST = max(NOISE, key=NOISE.__getitem__)
VARIED: dict[str, dict[str, Any]] = {label: {"label_noise": noise} for label, noise in NOISE.items()} | {
    # Epochs that give α, and θ, as many steps as the 30 on 400 images (210 of them, give or take two).
    f"{NOISIEST}, half the images": {"images": 200, "epochs": 52},
    f"{NOISIEST}, twice the images": {"images": 800, "epochs": 16},
}
"""Bi-level runs on the digits by what is set in place of the values of scale ``tiny``."""
DECAY = f"{NOISIEST}, weight decay × 30"

CHARGED_HELD_OUT = (*VARIED, DECAY, BILEVEL, SINGLE_HELD_OUT)
"""Settings that judge α on held-out images, where the gap can bite."""
CHARGED_OWN = (SINGLE, BILEVEL_SAME)
FEWEST_SETTINGS = 3
"""Two settings always correlate perfectly."""


def collect(tiny: Parameters, say: Callable[[str], None] = print) -> dict[str, list[Result]]:
    """The recorded runs of every setting at the parameters ``tiny``, by label."""
    found: dict[str, list[Result]] = {}
    for label, given in VARIED.items():
        found |= recorded(replace(tiny, **given), {label: "reference_darts_bilevel"}, say)
    return found | recorded(tiny, {DECAY: "corrected_bilevel_decay"}, say)


def settings(results: Mapping[str, Sequence], labels: Sequence[str] = CHARGED_HELD_OUT) -> dict[str, list]:
    """The runs of ``labels``, each configuration once."""
    found: dict[str, list] = {}
    known: set[str] = set()
    for label in labels:
        runs = list(results.get(label) or [])
        if runs and runs[0].meta["ident"] not in known and np.isfinite(gaps(runs)[:, -1]).all():
            found[label] = runs
            known.add(runs[0].meta["ident"])
    return found


def gaps(runs: Sequence) -> np.ndarray:
    """``[s, V]``: accuracy on training images minus accuracy on held-out images."""
    accuracy = summary.stack(runs, "accuracy")
    return accuracy[..., 0] - accuracy[..., 1]


def held_out_cost(runs: Sequence) -> np.ndarray:
    """``[s, V]``: the last cell's summed edge costs on held-out images."""
    return summary.edge_cost(runs, "held_out")[1].sum(axis=-1)


def kept(runs: Sequence) -> np.ndarray:
    """``[s, V]``: edges alive at the epochs that were evaluated."""
    return summary.survivors(runs).sum(axis=-1)[:, summary.evaluated(runs).astype(int)]


def stop(runs: Sequence) -> np.ndarray:
    """``[s]``: the evaluation after which the loss on held-out images is lowest: where early stopping would end."""
    return np.argmin(summary.stack(runs, "loss")[:, :, 1], axis=1)


def positive_epochs(runs: Sequence) -> np.ndarray:
    """``[s]``: the share of epochs in which the cost that α was charged, summed over edges, was positive."""
    return (charged(runs).sum(axis=-1) > 0).mean(axis=1)


READINGS: dict[str, Callable[[Sequence], np.ndarray]] = {
    "generalisation gap": lambda runs: gaps(runs)[:, -1],
    "share of epochs with a positive charged cost": positive_epochs,
}
"""What could tell how many edges survive, one value a run."""


def within_seeds(groups: Mapping[str, Sequence], reading: Callable[[Sequence], np.ndarray]) -> np.ndarray:
    """``[s]``: for every seed that all settings have, the rank correlation over settings of a reading with the edges alive
    at the end, on Fisher's scale; NaN where one of them is the same in all settings."""
    seeds = sorted(set.intersection(*(set(summary.seeds(runs)) for runs in groups.values()))) if groups else []
    pairs = {
        seed: [
            (reading([run])[0], kept([run])[0, -1]) for runs in groups.values() for run in runs if _seed(run) == seed
        ]
        for seed in seeds
    }
    return np.array([fisher_correlation(*map(stats.rankdata, np.array(own).T)) for own in pairs.values()])


def _seed(run) -> int:
    return int(run.meta["seed"])


@style.styled
def predictors(results: Mapping[str, Sequence]) -> Figure:
    """Edges alive at the end against the generalisation gap (left) and against the share of epochs in which the charged
    cost was positive (right), one point a run; hollow where α is judged on θ's own batch. The correlation is that of the
    filled points, over settings within a seed."""
    own, others = settings(results), settings(results, CHARGED_OWN)
    figure = style.new_figure(3.9)
    row = figure.subplots(1, 2, sharey=True)
    jitter = np.random.default_rng(0)
    for axes, (name, reading) in zip(row, READINGS.items(), strict=True):
        for (label, runs), look in zip({**own, **others}.items(), _looks(), strict=False):
            colour, marker = look
            y = kept(runs)[:, -1] + jitter.uniform(-0.13, 0.13, len(runs))
            axes.plot(
                reading(runs), y, linestyle="", marker=marker, color=colour, markersize=6, alpha=0.85, label=label,
                markerfacecolor="white" if label in others else colour,
            )  # fmt: skip
        style.tidy(axes, x=name, title=_correlation(within_seeds(own, reading)) if len(own) >= FEWEST_SETTINGS else "")
    row[0].set_ylabel("edges alive at the end")
    if own:
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    else:
        style.say_empty(row[0], "none of these searches is recorded")
    figure.set_label(
        "Edges alive at the end against the generalisation gap, and against the share of epochs with a positive charged "
        f"cost, one point a run. {prediction(results)}"
    )
    return figure


def _looks() -> list[tuple[str, str]]:
    """A colour and a marker for every setting: more of them than series that share a line."""
    colours = [colour for colour, *_ in style.SERIES]
    markers = "osD^vP*Xph"
    return [(colours[index % len(colours)], marker) for index, marker in enumerate(markers)]


def _correlation(values: np.ndarray) -> str:
    return f"ρ = {with_interval(values, np.tanh)}"


def table(results: Mapping[str, Sequence]) -> str:
    """One row a setting: α's steps, gap, held-out cost and surviving edges at the end; and by how much stopping where the
    held-out loss is lowest changes the number of edges, paired by run."""
    rows = []
    for label, runs in settings(results).items():
        best, every = stop(runs), np.arange(len(runs))
        left, edges = kept(runs), summary.survivors(runs).shape[-1]
        rows.append(
            [
                label,
                str(len(runs)),
                f"{_steps(runs):.0f}",
                with_interval(gaps(runs)[:, -1], within=(-1, 1)),
                with_interval(held_out_cost(runs)[:, -1]),
                with_interval(positive_epochs(runs), within=(0, 1)),
                with_interval(left[:, -1], within=(0, edges)),
                with_interval(left[every, best] - left[:, -1], within=(-edges, edges)),
            ]
        )
    header = ["search", "n", "steps of α", "gap", "held-out cost", "epochs charged > 0", "edges kept"]
    return markdown([*header, "change if stopped early"], rows, text=1)


def _steps(runs: Sequence) -> float:
    """How many steps α took: every edge has one draw or one weighting a step."""
    count = summary.stack(runs, "step_cost_count")[:, :, -1, 0]
    return float(np.nanmax(count, axis=-1).sum(axis=-1).mean())


def prediction(results: Mapping[str, Sequence]) -> str:
    """Sentences: how well, over settings within a seed, each reading tells how many edges survive; and over all settings
    with those that judge α on θ's own batch."""
    own = settings(results)
    if len(own) < FEWEST_SETTINGS:
        return "Too few of these searches are recorded to say what tells how many edges survive."
    found = {name: within_seeds(own, reading) for name, reading in READINGS.items()}
    said = ", and with the ".join(f"{name} {with_interval(values, np.tanh)}" for name, values in found.items())
    told = [name for name, values in found.items() if _tells(values)]
    mute = [name for name in found if name not in told]
    verdict = [f"The {name} tells how many edges survive." for name in told]
    verdict += [f"The {name} does not tell how many edges survive." for name in mute]
    every = own | settings(results, CHARGED_OWN)
    more = ""
    if len(every) > len(own):
        wider = within_seeds(every, READINGS["generalisation gap"])
        more = f" With the {len(every) - len(own)} settings on θ's own batch the correlation with the gap is {with_interval(wider, np.tanh)}."
    return (
        f"Over {len(own)} settings that judge α on held-out images the number of surviving edges has a rank correlation "
        f"within a seed with the {said}.{more} {' '.join(verdict)}"
    )


def _tells(values: np.ndarray) -> bool:
    """Whether the interval of a correlation lies below zero; one seed shows and tells nothing."""
    return bool(np.isfinite(mean_of(values)) and summary.interval(values)[2] < 0)
