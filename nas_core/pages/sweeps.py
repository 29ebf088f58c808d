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

PAPER_RATE, PAPER_SPREAD = 3e-4, 0.01
"""α's learning rate and its initial spread in the paper, whose θ rate is that of factor 1."""
PAPER_RECORD = "reference_cost_trained"
"""The recipe whose run at scale ``paper`` tells how long the paper's own cost stays positive: θ learns, α is fixed."""


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

    ``epochs``: until the mean cost is first 0 (in the paper's record, whose first epoch is noise around 0, until the running
    sum behind ``even`` is largest), and ``lasting`` whether it stayed positive to the end. ``steps``: steps
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
    config = group[0].meta["config"]
    start = mean_of(np.delete(summary.stack(group, "cost_mean")[:, 0, 0, 0], NONE, axis=-1))
    until, lasting = _first_zero(np.append(start, _mean(_moments(group)[0], (0, 2, 3))))
    worth, steps = _worth(group)
    return Phase(
        epochs=until,
        lasting=lasting,
        steps=until * steps,
        even=max(0.0, float(worth.max())),
        rate=config["alpha"]["learning_rate"] / alpha,
        distance=distance(_operations(group), config["alpha"]["initial_std"]),
    )


def paper_phase(group: Sequence) -> Phase:
    """The positive phase of the paper's own search, from runs of :data:`PAPER_RECORD` at its scale."""
    worth, steps = _worth(group)
    epochs = int(worth.argmax()) + 1 if worth.max() > 0 else 0
    return Phase(
        epochs=float(epochs),
        lasting=epochs == len(worth),
        steps=epochs * steps,
        even=max(0.0, float(worth.max())),
        rate=PAPER_RATE,
        distance=distance(_operations(group), PAPER_SPREAD),
    )


def _operations(group: Sequence) -> int:
    return len(summary.cell_of(group[0]).edges[0].operations)


def _moments(group: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """``[s, X, E, K - 1]`` twice: mean and variance of the only cell's cost in every epoch, without *none*."""
    mean, variance = (
        np.delete(summary.stack(group, f"step_cost_{name}")[:, :, 0], NONE, axis=-1) for name in ("mean", "variance")
    )
    return mean, variance


def _worth(group: Sequence) -> tuple[np.ndarray, float]:
    """``[X]``: the running sum of steps by what their noise leaves of them; and the steps of an epoch.

    An operation's gradient for *none* is −P·C when it is drawn, and 0 when *none* itself is: 1 of K draws."""
    mean, variance = _moments(group)
    even = _mean(mean, -1) / np.sqrt(np.maximum(_mean(mean**2 + np.nan_to_num(variance), -1), np.finfo(float).tiny))
    steps = float(summary.stack(group, "step_cost_count")[:, :, 0].sum(axis=-1).max())
    return np.cumsum(_mean(even, (0, 2)) * np.sqrt(1 - 1 / _operations(group)) * steps), steps


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
    """The factor at which α learns at the paper's rate, rounded as factors are: a quotient of floats would lie beside it."""
    return round(PAPER_RATE / next(iter(known.values())).rate, 6)


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


def findings(
    points: Mapping[tuple[float, float], Sequence], expected: Mapping[tuple, float], paper: Phase | None = None
) -> list[str]:
    """What the phase diagram says, in computed sentences: where P1 is seen, how well each prediction tells, and what is
    predicted for the ``paper``.

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
    told = [_boundary_words(known, own, noise) for noise in (False, True)]
    return [seen, positive, *told, _replay_words(own, expected), *_paper_words(points, known, paper)]


def _boundary_words(known: Mapping[float, Phase], own: Mapping[tuple, float], noise: bool) -> str:
    """How often a boundary is right, beside how often one answer for all points would be."""
    words = "steps discounted for their noise" if noise else "every step counted in full"
    ratios, shares = [known[theta].ratio(alpha, noise) for alpha, theta in own], list(own.values())
    many = np.array([share > 0.5 for share in shares])
    right = float(np.mean((np.array(ratios) > 1) == many))
    plain = max(float(many.mean()), 1 - float(many.mean()))
    rank = stats.spearmanr(ratios, shares)[0] if len(own) > 2 and np.ptp(shares) and np.ptp(ratios) else np.nan
    together = f" Rank correlation of ratio and share: {rank:+.2f}." if np.isfinite(rank) else ""
    fails = " So this boundary does not tell where P1 is seen." if right <= plain else ""
    return (
        f"With {words}, the prediction is right (over half of the edges dropped or not) at {100 * right:.0f} % of the "
        f"points; one and the same answer for all of them would be at {100 * plain:.0f} %.{fails}{together}"
    )


def _paper_words(points: Mapping, known: Mapping[float, Phase], paper: Phase | None) -> list[str]:
    """What is predicted for the paper from its own cost, and what the map shows at the paper's two rates."""
    sentences = []
    if paper is not None:
        ratio, until = paper.ratio(1.0, True), "to the end" if paper.lasting else f"until epoch {paper.epochs:.0f}"
        step = "has none that is positive" if not paper.even else f"adds up {until}, to {paper.even:.0f} even steps"
        sentences.append(
            f"The paper's own cost, recorded at its scale with α fixed, {step}. At α's rate {PAPER_RATE:g} *none* can go "
            f"{ratio:.1f} times the way to go: the formula predicts that P1 is {'' if ratio > 1 else 'not '}seen there."
        )
    factor = paper_factor(known)
    same = points.get((factor, 1.0))
    where = f"The map's point of the paper's rates (α × {factor:g}, θ × 1)"
    if same:
        seen = f"drops {100 * dropped(same):.0f} % of the edges (n = {len(same)}); its ratio is {known[1.0].ratio(factor, True):.2g}"
        sentences.append(f"{where} {seen}, as its search has fewer steps.")
    else:
        sentences.append(f"{where} is not recorded.")
    return sentences


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
    return f"{len(minutes)} runs of {np.median(minutes):.1f} minutes each in the median, {minutes.sum():.0f} minutes in all."


def _seed_words(points: Mapping[tuple, Sequence]) -> str:
    counts = sorted({len(runs) for runs in points.values()})
    return (
        f"{counts[0]} to {counts[-1]} seeds each"
        if len(counts) > 1
        else f"{counts[0]} seed{'s' * (counts[0] > 1)} each"
    )
