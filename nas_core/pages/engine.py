"""What the page on the engine shows: that it changes no result, and the recorded benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from nas_core.cost import probe
from nas_core.pages import summary
from nas_core.pages.checks import example
from nas_core.pages.claims import power
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
        lines.append([relaxation.name, *(power(float(part.abs().max())) for part in apart)])
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

    The opponent is the published step, or the plain one where the two are the same; the medians are of
    ``benchmarks/results.json``. A network with reduction cells was not published: it has no goal."""
    if not NUMBERS.exists():
        return []
    recorded, lines = json.loads(NUMBERS.read_text(encoding="utf-8")), []
    for name, entry in recorded["workloads"].items():
        sides, kind = entry["sides"], entry["workload"]["kind"]
        goal = None if entry["workload"].get("reduction") else GOALS[kind]
        side = "published" if "published" in sides else "plain"
        own, other = sides[side]["engine"], sides[side]["other"]
        first = [f"`{name}`", side, "none" if goal is None else f"{goal:g}×"]
        if not own.get("seconds") or not other.get("seconds"):
            lines.append([*first, "the other side does not fit", "–"])
            continue
        time = float(np.median(other["seconds"]) / np.median(own["seconds"]))
        memory = other["peak"] / own["peak"]
        lines.append([*first, _held(time, goal), _held(memory, None if goal is None else MEMORY_GOAL)])
    for state in recorded.get("table", {}).get("states", {}):
        middle, low, _ = (float(np.exp(part)) for part in summary.interval(np.log(_gains(recorded["table"], state))))
        held = f"{middle:.1f}× [{low:.1f}, …], {'yes' if low >= GOALS['statistics'] else 'no'}"
        lines.append([f"table of costs, θ {state}", "published sampling", f"{GOALS['statistics']:g}×", held, "–"])
    return lines


def _gains(table: dict, state: str) -> list[float]:
    """How many times less time the conditioned estimator takes to the same error, a number a seed."""
    prices = table["states"][state]
    return [a / b for a, b in zip(prices["published"]["price"], prices["conditioned"]["price"])]


def _held(ratio: float, goal: float | None) -> str:
    return f"{ratio:.1f}×" if goal is None else f"{ratio:.1f}×, {'yes' if ratio >= goal else 'no'}"
