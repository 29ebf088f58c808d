"""What the page on the engine shows: that it changes no result, and the recorded benchmark."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Goal:
    """A step beside the goals: its opponent, the goal of the time (None: it has none), how many times less time and memory
    it takes (None: not measured), and the ``bounds`` of the time where it has an interval, which then decide."""

    step: str
    against: str
    goal: float | None
    time: float | None
    memory: float | None
    bounds: tuple[float, float] | None = None

    @property
    def fast(self) -> bool:
        """Whether the goal of the time is reached: by the lower bound, where there is one."""
        reached = self.bounds[0] if self.bounds else self.time
        return self.goal is not None and reached is not None and reached >= self.goal

    @property
    def small(self) -> bool:
        """Whether the goal of the memory is reached."""
        return self.memory is not None and self.memory >= MEMORY_GOAL

    @property
    def cells(self) -> list[str]:
        """The row of the table."""
        first = [self.step, self.against, "none" if self.goal is None else f"{self.goal:g}×"]
        if self.time is None:
            return [*first, "the other side does not fit", "–"]
        interval = f" [{self.bounds[0]:.1f}, {self.bounds[1]:.1f}]" if self.bounds else ""
        judged = self.goal is not None
        time = _times(self.time, self.goal) + interval + _yes(self.fast, judged)
        return [*first, time, "–" if self.memory is None else f"{self.memory:.1f}×" + _yes(self.small, judged)]


def _times(time: float, goal: float | None) -> str:
    """A ratio with one digit after the point, or as many as show that it misses its goal."""
    digits = 1
    while goal is not None and time < goal <= round(time, digits):
        digits += 1
    return f"{time:.{digits}f}×"


def _yes(reached: bool, judged: bool) -> str:
    return f", {'yes' if reached else 'no'}" if judged else ""


def held() -> list[Goal]:
    """Every measured step beside its goal.

    The opponent is the published step, or the plain one where the two are the same. A ratio is the median over the pairs of
    ``benchmarks/results.json``. A network with reduction cells was not published: it has no goal."""
    if not NUMBERS.exists():
        return []
    recorded, found = json.loads(NUMBERS.read_text(encoding="utf-8")), []
    for name, entry in recorded["workloads"].items():
        sides, kind = entry["sides"], entry["workload"]["kind"]
        goal = None if entry["workload"].get("reduction") else GOALS[kind]
        side = "published" if "published" in sides else "plain"
        own, other = sides[side]["engine"], sides[side]["other"]
        time = memory = None
        if own.get("seconds") and other.get("seconds"):
            time = float(np.median([slow / fast for fast, slow in zip(own["seconds"], other["seconds"])]))
            memory = other["peak"] / own["peak"]
        found.append(Goal(f"`{name}`", side, goal, time, memory))
    for state in recorded.get("table", {}).get("states", {}):
        middle, *bounds = (float(np.exp(part)) for part in summary.interval(np.log(_gains(recorded["table"], state))))
        low, high = bounds
        found.append(
            Goal(f"table of costs, θ {state}", "published sampling", GOALS["statistics"], middle, None, (low, high))
        )
    return found


def goals() -> list[list[str]]:
    """For every measured step: the opponent, time and memory ratios, and whether the goals are reached."""
    return [own.cells for own in held()]


def missed() -> str:
    """Sentences: how many goals of time and of memory are missed, and by what."""
    judged = [own for own in held() if own.goal is not None and own.time is not None]
    if not judged:
        return "No step with a goal is measured."
    slow = [
        f"{own.step} ({_times(own.time, own.goal)} instead of {own.goal:g}×)"
        for own in judged
        if own.time is not None and not own.fast
    ]
    remembered = [own for own in judged if own.memory is not None]
    large = [f"{own.step} ({own.memory:.1f}×)" for own in remembered if not own.small]
    memory = f" Of {len(remembered)} goals of memory {_missed(large)}" if remembered else ""
    return f"Of {len(judged)} goals of time {_missed(slow)}{memory}"


def kernels() -> str:
    """A sentence: how many kernels a step asks a GPU for, and how many times as many the engine would."""
    counted = json.loads(NUMBERS.read_text(encoding="utf-8")).get("launches", {}) if NUMBERS.exists() else {}
    if not counted:
        return "The kernels of a step are not counted: run `python -m benchmarks --only launches`."
    sides = [own["kernels"] for own in counted.values()]
    own = [side["engine"] for side in sides]
    times = [side["engine on a CPU"] / side["engine"] for side in sides]
    return (
        f"Counted on the meta device, a step of the minimal cell asks for {min(own):.0f} to {max(own):.0f} kernels, by its kind; "
        f"the engine would ask for {min(times):.1f} to {max(times):.1f} times as many."
    )


def _missed(names: list[str]) -> str:
    if not names:
        return "all are reached."
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} missed: {', '.join(names)}."


def _gains(table: dict, state: str) -> list[float]:
    """How many times less time the conditioned estimator takes to the same error, a number a seed."""
    prices = table["states"][state]
    return [a / b for a, b in zip(prices["published"]["price"], prices["conditioned"]["price"])]
