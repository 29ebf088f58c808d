"""Sweeps on a page: their recorded points, and when P1 should be seen, from how long the cost stays positive.

The prediction: *none* is the likeliest operation of an edge once its log α has overtaken the largest of the K − 1
others. At the start these are K draws from N(mean, std²), so the distance to make up is, on average, std times the
expected maximum of K − 1 standard normals (:func:`distance`). While the cost is positive, every step pushes *none* up.
Adam divides a gradient by its own root mean square, so a step moves log α by at most its learning rate, and on average
by the learning rate times the gradient's mean over its root mean square (:class:`Phase`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_core.lab.variations import PHASE
from nas_core.pages import replay, summary
from nas_core.pages.evidence import lowest_of, mean_of
from nas_core.pages.evolution_patterns import alive
from nas_core.space import NONE

PAPER_RATE = 3e-4
"""α's learning rate in the paper, whose θ rate is that of factor 1."""


def grid(results: Mapping[str, Sequence]) -> dict[tuple[float, float], list]:
    """The points of the phase diagram that are there, by (factor of α's rate, factor of θ's rate)."""
    return {(own.alpha, own.theta): list(results[name]) for name, own in PHASE.items() if results.get(name)}


def dropped(group: Sequence) -> float:
    """Share of edges dropped at the minimum, from epoch 1 on, averaged over seeds as the measure of P1 does."""
    return 1 - float(lowest_of(alive(group)[:, 1:].mean(axis=-1)).mean())


def distance(operations: int, spread: float) -> float:
    """What *none* has to make up on the largest of the other log α: ``spread`` times E max of ``operations`` − 1
    standard normals."""
    x = np.linspace(-10, 10, 4001)
    density = (operations - 1) * stats.norm.pdf(x) * stats.norm.cdf(x) ** (operations - 2)
    return spread * float(np.trapezoid(x * density, x))


@dataclass(frozen=True)
class Phase:
    """The positive phase of the cost at one rate of θ.

    ``epochs``: until the mean cost is first 0, and ``lasting`` whether it stayed positive to the end. ``steps``: steps
    of α in that time, and ``even`` how many steps all in the direction of *none* their noise leaves them worth (the
    largest sum of mean over root mean square). ``rate``: α's learning rate at factor 1; ``distance``: what *none* has
    to make up."""

    epochs: float
    lasting: bool
    steps: float
    even: float
    rate: float
    distance: float

    def boundary(self, noise: bool) -> float:
        """The factor on α's rate from which edges should be dropped; infinite where no step points to *none*."""
        steps = self.even if noise else self.steps
        return self.distance / (self.rate * steps) if steps > 0 else float("inf")

    def ratio(self, alpha: float, noise: bool) -> float:
        """How far α can go towards *none* at the factor ``alpha``, over the distance: above 1 edges should be
        dropped."""
        return alpha / self.boundary(noise)


def phase(group: Sequence, alpha: float) -> Phase:
    """The positive phase that these runs recorded with the factor ``alpha`` on α's rate; take those with the slowest α,
    which reacts least."""
    config, operations = group[0].meta["config"], len(summary.cell_of(group[0]).edges[0].operations)
    # One cell. An operation's gradient for none is −P·C when it is drawn, and 0 when none itself is: 1 of K draws.
    mean, variance = (
        np.delete(summary.stack(group, f"step_cost_{name}")[:, :, 0], NONE, axis=-1) for name in ("mean", "variance")
    )
    steps = float(summary.stack(group, "step_cost_count")[:, :, 0].sum(axis=-1).max())
    start = mean_of(np.delete(summary.stack(group, "cost_mean")[:, 0, 0, 0], NONE, axis=-1))
    until, lasting = _first_zero(np.append(start, _mean(mean, (0, 2, 3))))
    square = _mean(mean**2 + np.nan_to_num(variance), -1)
    even = _mean(mean, -1) / np.sqrt(np.maximum(square, np.finfo(float).tiny))
    worth = np.cumsum(_mean(even, (0, 2)) * np.sqrt(1 - 1 / operations) * steps)
    return Phase(
        epochs=until,
        lasting=lasting,
        steps=until * steps,
        even=max(0.0, float(worth.max())),
        rate=config["alpha"]["learning_rate"] / alpha,
        distance=distance(operations, config["alpha"]["initial_std"]),
    )


def _mean(values: np.ndarray, axes: int | tuple[int, ...]) -> np.ndarray:
    """The mean without NaN; 0 where all is NaN: what is never drawn does not push."""
    return np.nansum(values, axes) / np.maximum(np.isfinite(values).sum(axes), 1)


def _first_zero(curve: np.ndarray) -> tuple[float, bool]:
    """The first zero of the start value followed by epoch means, in epochs, and whether there was none."""
    times = np.append(0.0, np.arange(len(curve) - 1) + 0.5)
    below = np.flatnonzero(curve <= 0)
    if not len(below):
        return float(len(curve) - 1), True
    if below[0] == 0:
        return 0.0, False
    left, right = below[0] - 1, below[0]
    share = curve[left] / (curve[left] - curve[right])
    return float(times[left] + share * (times[right] - times[left])), False


def phases(points: Mapping[tuple[float, float], Sequence]) -> dict[float, Phase]:
    """The positive phase at every factor of θ's rate, each from its slowest recorded α."""
    slowest = {theta: min(alpha for alpha, other in points if other == theta) for _, theta in points}
    return {theta: phase(points[slowest[theta], theta], slowest[theta]) for theta in sorted(slowest)}


def paper_factor(known: Mapping[float, Phase]) -> float:
    """Where the paper's α rate lies among the factors, were its cost positive for as many steps as here at θ's rate × 1:
    the ratio depends on their product alone."""
    return PAPER_RATE / next(iter(known.values())).rate


def replays(points: Mapping[tuple[float, float], Sequence]) -> dict[tuple[float, float], float]:
    """The share of edges that should be dropped at every recorded point, were the cost that of the slowest α."""
    found = {}
    for theta in sorted({theta for _, theta in points}):
        alphas = sorted(alpha for alpha, other in points if other == theta)
        slowest = points[alphas[0], theta]
        base = slowest[0].meta["config"]["alpha"]["learning_rate"] / alphas[0]
        alive = replay.replayed(slowest, [base * alpha for alpha in alphas])
        for alpha, own in zip(alphas, alive, strict=True):
            found[alpha, theta] = replay.share_dropped(own, len(points[alpha, theta]))
    return found


def findings(points: Mapping[tuple[float, float], Sequence], expected: Mapping[tuple, float]) -> list[str]:
    """What the phase diagram says, in computed sentences: where P1 is seen, and how well each prediction tells.

    ``expected`` is what :func:`replays` gives for these points."""
    if not points:
        return ["No point of the phase diagram is recorded yet."]
    known, own = phases(points), {key: dropped(runs) for key, runs in points.items()}
    most = max(own, key=own.__getitem__)
    seen = (
        f"{len(points)} of {len(PHASE)} points are recorded, with {_seed_words(points)}. The largest share of edges "
        f"dropped is {100 * own[most]:.0f} %, at α × {most[0]:g} and θ × {most[1]:g}; all edges are dropped together at "
        f"{sum(share >= 1 - 1e-9 for share in own.values())} of these points, and most of them (over half) at "
        f"{sum(share > 0.5 for share in own.values())}."
    )
    positive = (
        "The mean cost is positive for "
        + "; ".join(
            f"{'all ' if one.lasting else ''}{one.epochs:.1f} epochs ({one.steps:.0f} steps, worth {one.even:.0f} even "
            f"ones) at θ × {theta:g}, read at α × {min(alpha for alpha, other in points if other == theta):g}"
            for theta, one in known.items()
        )
        + "."
    )
    sentences = [seen, positive]
    for noise, words in ((False, "every step counted in full"), (True, "steps discounted for their noise")):
        ratios = [known[theta].ratio(alpha, noise) for alpha, theta in own]
        right = np.mean([(ratio > 1) == (share > 0.5) for ratio, share in zip(ratios, own.values(), strict=True)])
        rank = stats.spearmanr(ratios, list(own.values()))[0] if len(own) > 2 and np.ptp(list(own.values())) else np.nan
        together = f"; rank correlation of ratio and share {rank:+.2f}" if np.isfinite(rank) else ""
        sentences.append(
            f"With {words}, the prediction puts {100 * right:.0f} % of the points on the right side of the boundary "
            f"(over half of the edges dropped or not){together}."
        )
    return [*sentences, _replay_words(own, expected)]


def _replay_words(measured: Mapping[tuple, float], expected: Mapping[tuple, float]) -> str:
    error, spread, rank = agreement(measured, expected)
    together = f", rank correlation {rank:+.2f}" if np.isfinite(rank) else ""
    return (
        f"Replaying α alone on the cost recorded with the slowest α misses the measured share by {error:.2f} on average"
        f"{together}; taking the mean of all points instead would miss it by {spread:.2f}."
    )


def agreement(measured: Mapping[tuple, float], expected: Mapping[tuple, float]) -> tuple[float, float, float]:
    """Mean absolute error of ``expected``, that of the mean of ``measured`` alone, and the rank correlation of both (NaN
    for fewer than three points, or where one is constant)."""
    own = np.array(list(measured.values()))
    told = np.array([expected[key] for key in measured])
    varied = len(own) > 2 and np.ptp(own) > 0 and np.ptp(told) > 0
    rank = float(stats.spearmanr(told, own)[0]) if varied else float("nan")
    return float(np.abs(own - told).mean()), float(np.abs(own - own.mean()).mean()), rank


def provenance(results: Mapping[str, Sequence]) -> str:
    """Where a sweep's numbers come from, in one line: its recipes and configurations are too many to name."""
    if not results:
        return "Nothing of this sweep is recorded."
    parts = summary.provenance(results).split(" · ")
    kept = [part for part in parts if not part.startswith(("recipe ", "configuration "))]
    return " · ".join([*kept, f"{len(results)} recipe{'s' * (len(results) > 1)}"])


def effort(results: Mapping[str, Sequence]) -> str:
    """What it took to record a sweep, in a sentence."""
    minutes = np.array([run.meta["seconds"] for run in summary.flat(results)]) / 60 if results else np.array([])
    if not minutes.size:
        return "Nothing of this sweep is recorded."
    return f"{len(minutes)} runs of {np.median(minutes):.1f} minutes each in the median, {minutes.sum():.0f} in all."


def _seed_words(points: Mapping[tuple, Sequence]) -> str:
    counts = sorted({len(runs) for runs in points.values()})
    return f"{counts[0]} to {counts[-1]} seeds each" if len(counts) > 1 else f"{counts[0]} seed(s) each"
