"""What the page on the engine shows: that it changes no result, and the recorded benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from nas_core.cost import probe
from nas_core.pages import estimator_pages, summary
from nas_core.pages.checks import example
from nas_core.pages.claims import number
from nas_core.pages.evidence import with_interval
from nas_core.relaxation import Darts, Dsnas, Proxyless, Snas

RECORDED = Path(__file__).parents[2] / "benchmarks" / "README.md"
NUMBERS = RECORDED.with_name("results.json")
START, END = "<!-- begin: written by python -m benchmarks -->", "<!-- end -->"


def differences() -> list[list[str]]:
    """For every relaxation the largest difference between engine and modules, in float64: loss, cost, weight gradients."""
    lines = []
    for relaxation in (Darts(), Snas(), Dsnas(), Proxyless()):
        network, (images, labels), log_alpha, _ = example(without=(), cells=2, seed=0)
        sample = relaxation.sample(log_alpha, torch.Generator().manual_seed(0))
        measured = probe(network, images, labels, sample, train=True)
        own = _taken(network)
        gates = network.gates(sample).requires_grad_()
        loss = F.cross_entropy(network(images, sample, gates, twice=True), labels)
        loss.backward()
        assert gates.grad is not None  # the gates are leaves of this loss
        pairs = [(a, b) for a, b in zip(own, _taken(network)) if a is not None and b is not None]
        apart = (
            measured.loss - loss.detach(),
            measured.cost - gates.grad,
            torch.stack([(a - b).abs().max() for a, b in pairs]),
        )
        lines.append([relaxation.name, *(f"{float(part.abs().max()):.0e}" for part in apart)])
    return lines


def _taken(network: torch.nn.Module) -> list[torch.Tensor | None]:
    """The weight gradients, which are cleared."""
    gradients = [parameter.grad for parameter in network.parameters()]
    network.zero_grad(set_to_none=True)
    return gradients


def benchmark() -> str:
    """The table that ``python -m benchmarks`` wrote, as Markdown."""
    if not RECORDED.exists():
        return "*No benchmark is recorded: run `python -m benchmarks` from the root of the repository.*"
    text = RECORDED.read_text(encoding="utf-8")
    return text.partition(START)[2].partition(END)[0].strip()


GOALS = {"theta": 10.0, "statistics": 10.0, "snas": 4.0, "darts": 4.0, "bilevel": 4.0}
"""How many times faster than the published step a step was meant to be, by kind."""
MEMORY_GOAL = 3.0
"""How many times less memory."""


def goals() -> list[list[str]]:
    """For every measured step: the opponent, time and memory ratios, and whether the goals are reached.

    The opponent is the published step, or the plain one where nothing was published; the medians are of
    ``benchmarks/results.json``."""
    if not NUMBERS.exists():
        return []
    lines = []
    for name, entry in json.loads(NUMBERS.read_text(encoding="utf-8"))["workloads"].items():
        sides, goal = entry["sides"], GOALS[entry["workload"]["kind"]]
        side = "published" if "published" in sides else "plain"
        own, other = sides[side]["engine"], sides[side]["other"]
        if not own.get("seconds") or not other.get("seconds"):
            lines.append([f"`{name}`", side, f"{goal:g}×", "the other side does not fit", "–"])
            continue
        time = float(np.median(other["seconds"]) / np.median(own["seconds"]))
        memory = other["peak"] / own["peak"]
        lines.append([f"`{name}`", side, f"{goal:g}×", _held(time, goal), _held(memory, MEMORY_GOAL)])
    return lines


def statistics_at_equal_error(results: Sequence) -> str:
    """One sentence: what a table of costs takes to equal error, against the published sampling; ``results`` are runs of
    :mod:`nas_core.estimation`. The benchmark's ratio is of steps, the runs' of time to equal error on one thread."""
    if not NUMBERS.exists() or not results:
        return "*The estimators or the benchmark are not recorded.*"
    sides = json.loads(NUMBERS.read_text(encoding="utf-8"))["workloads"]["statistics-minimal"]["sides"]["published"]
    step = float(np.median(sides["other"]["seconds"]) / np.median(sides["engine"]["seconds"]))
    gain = np.exp(np.log(estimator_pages.gains(results)).mean(1))
    total = with_interval(np.log(step * gain), np.exp)
    reached = np.exp(summary.interval(np.log(step * gain))[1]) >= GOALS["statistics"]
    return (
        f"A step of statistics is one sample, and what a reader wants is a table of costs with a given error. The conditioned estimator "
        f"takes {with_interval(np.log(gain), np.exp)} times less time to it than sampled steps of the same engine (n = {len(gain)} seeds, "
        f"scale {results[0].meta['scale']}). With the ratio of steps on the minimal cell, {number(step)}, that makes {total} times less than the "
        f"published sampling: the goal of ten is {'reached' if reached else 'not shown to be reached'} for the table, whatever it is for a step."
    )


def _held(ratio: float, goal: float) -> str:
    return f"{ratio:.1f}×, {'yes' if ratio >= goal else 'no'}"
