"""Markdown tables of a chapter, computed from recorded runs and from recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nas_core.lab.experiments import format_seeds
from nas_core.lab.recipes import RECIPES
from nas_core.lab.store import describe
from nas_core.pages import summary
from nas_core.pages.claims import number, unbroken
from nas_core.pages.evidence import SHARE, with_interval
from nas_core.space import NONE


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]], text: int | None = None) -> str:
    """A Markdown table; the first ``text`` columns (None: all) are words and stand left, the others are numbers and
    stand right. An interval stands on one line.
    """
    words = len(header) if text is None else text
    rule = ["---" if column < words else "---:" for column in range(len(header))]
    lines = [header, rule, *rows]
    return unbroken(
        "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
    )


def code(name: str) -> str:
    """A name as code that may break after a dot or an underscore, so that a table fits the page; who copies it gets the
    name as it is."""
    breaks = name.replace(".", ".<wbr>").replace("_", "_<wbr>")
    return f'<code class="docutils literal notranslate">{breaks}</code>'


def outcomes(results: Mapping[str, Sequence]) -> str:
    """One row an experiment: surviving edges, P(*none*), accuracy on both sets, and C = L − H on both sets, after
    training.
    """
    rows = []
    for label, runs in results.items():
        edges = len(summary.cell_of(runs[0]).edges)
        alive = summary.survivors(runs)[:, -1]
        none = summary.stack(runs, "probability")[:, -1, 0, :, NONE].mean(-1)
        accuracy = summary.stack(runs, "accuracy")[:, -1]
        cost = (summary.stack(runs, "loss") - summary.stack(runs, "entropy"))[:, -1]
        rows.append(
            [
                label,
                str(len(runs)),
                f"{with_interval(alive.sum(-1), within=(0, alive.shape[-1]))} of {edges}",
                with_interval(none, within=SHARE),
                *(with_interval(accuracy[:, which], within=SHARE) for which in (0, 1)),
                *(with_interval(cost[:, which]) for which in (0, 1)),
            ]
        )
    header = ["experiment", "n", "edges that survive", "mean P(none)", "accuracy, training", "accuracy, held out"]
    return markdown([*header, "C, training", "C, held out"], rows)


def deviations(results: Mapping[str, Sequence]) -> str:
    """Every setting in which a recorded run differs from the same recipe at the paper's scale."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for label, runs in results.items():
        meta = runs[0].meta
        own, paper = meta["config"], describe(RECIPES[meta["recipe"]]("paper"))["config"]
        for path, here, there in differences(own, paper):
            if path not in ("data.sha256", "network.cell.edges", "network.cell.outputs", "network.cell.nodes"):
                rows.setdefault((path, short(there, path), short(here, path)), []).append(label)
    return markdown(
        ["setting", "paper", "here", "in"],
        [
            [f"`{path}`", there, here, _among(labels, list(results))]
            for (path, there, here), labels in sorted(rows.items())
        ],
    )


def _among(labels: Sequence[str], every: Sequence[str]) -> str:
    """``labels``, or of many the few that are missing."""
    missing = [label for label in every if label not in labels]
    if not missing:
        return "all"
    return f"all but {'; '.join(missing)}" if len(missing) < len(labels) else "; ".join(labels)


def differences(own: Any, paper: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """The settings in which two plain configurations differ: path, value in ``own``, value in ``paper``."""
    if isinstance(own, Mapping) and isinstance(paper, Mapping):
        names = [*own, *(name for name in paper if name not in own)]
        return [
            row for name in names for row in differences(own.get(name), paper.get(name), f"{path}.{name}".lstrip("."))
        ]
    return [] if own == paper else [(path, own, paper)]


_UNSET = {"data.images": "all", "data.size": "native"}
"""What it means that a setting is left open, by its path."""


def short(value: Any, path: str) -> str:
    """A setting's value in words."""
    return _UNSET.get(path, "–") if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def runtimes(results: Mapping[str, Sequence]) -> str:
    """What it took to record each experiment: the median of the measured minutes of a run, on what."""
    rows = []
    for label, runs in results.items():
        minutes = np.array([run.meta["seconds"] for run in runs]) / 60
        meta, seeds = runs[0].meta, format_seeds(run.meta["seed"] for run in runs)
        command = f"`python -m nas_core.lab run {meta['recipe']} --scale {meta['scale']} --seeds {seeds}`"
        machine = f"{meta['hardware']}, {meta['threads']} thread" + ("s" if meta["threads"] > 1 else "")
        rows.append([label, command, number(float(np.median(minutes))), machine])
    return markdown(["experiment", "command", "minutes a seed", "recorded on"], rows)
