"""Section 5.2 and Appendices D to F on a page: small networks on which cost assignment is checked, what their checks say
as tables, and the verdicts on Theorem 1 and its corollaries.

The identities themselves are in :mod:`nas_core.theory`. All networks here are in float64 and see scikit-learn's digits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas_core import theory
from nas_core.cost import loss_and_entropy, per_cell, probe
from nas_core.data import DataConfig, prepare
from nas_core.operations import Normalization
from nas_core.pages import summary
from nas_core.pages.checks import EPSILON
from nas_core.pages.claims import NOT_REPRODUCED, PARTLY, REPRODUCED, Verdict, number, power
from nas_core.pages.evidence import SOME, TIGHT, grade
from nas_core.pages.kept import kept
from nas_core.pages.tables import markdown
from nas_core.relaxation import Darts, Sample, Uniform, masked
from nas_core.space import OPERATIONS, Cell, minimal
from nas_core.supernet import NetworkConfig, Supernet

IMAGES = 64
DATA = f"{IMAGES} digits"


@dataclass(frozen=True)
class Case:
    """A float64 network and a batch of digits."""

    network: Supernet
    images: Tensor
    labels: Tensor

    @property
    def cell(self) -> Cell:
        return self.network.config.cell

    def flat(self) -> Tensor:
        """log α of equal probabilities ``[1, E, K]``."""
        return masked(torch.zeros(1, len(self.cell.edges), len(OPERATIONS), dtype=torch.float64), self.cell)

    def mixture(self) -> theory.Trace:
        """The batch through the mixture of all candidates, each with the same weight: DARTS before α moves."""
        return self.traced(Darts().sample(self.flat(), torch.Generator()))

    def drawn(self, number: int, seed: int = 0, among: Cell | None = None) -> list[theory.Trace]:
        """The batch through ``number`` architectures drawn uniformly; ``among`` restricts the candidates."""
        generator = torch.Generator().manual_seed(seed)
        log_alpha = masked(self.flat(), among or self.cell)
        return [self.traced(Uniform().sample(log_alpha, generator)) for _ in range(number)]

    def traced(self, sample: Sample) -> theory.Trace:
        """:func:`nas_core.theory.trace` on the batch."""
        return theory.trace(self.network, self.images, self.labels, sample)


@dataclass(frozen=True)
class Course:
    """What the batch cost while θ was trained by uniform sampling, step by step: Σ_k Z·C of every edge of every cell
    ``[T, N, E]``, L, H and accuracy ``[T]``."""

    edge_cost: np.ndarray
    loss: np.ndarray
    entropy: np.ndarray
    accuracy: np.ndarray

    def averaged(self, window: int) -> Course:
        """Means over ``window`` steps each; what is left at the end is dropped."""

        def mean(values: np.ndarray) -> np.ndarray:
            kept = len(values) // window
            return values[: kept * window].reshape(kept, window, *values.shape[1:]).mean(1)

        return Course(*(mean(getattr(self, name)) for name in ("edge_cost", "loss", "entropy", "accuracy")))


def case(
    seed: int, *, cell: Cell | None = None, cells: int = 1, steps: int = 0, epsilon: float = EPSILON, bias: bool = False
) -> Case:
    """A stack of ``cells`` cells (default: minimal) on 64 digits; with ``steps`` its θ is first trained that long."""
    config = NetworkConfig(
        minimal() if cell is None else cell, cells=cells, channels=4, head_bias=bias,
        normalization=Normalization(eps=epsilon),
    )  # fmt: skip
    network = Supernet(config, image_channels=1, seed=seed).double()
    split = prepare(DataConfig("digits", images=IMAGES, held_out=0.0), seed).train
    own = Case(network, split.images.double(), split.labels)
    train(own, steps, seed)
    return own


def train(own: Case, steps: int, seed: int) -> Course:
    """Train θ on the case's batch under uniform sampling (SGD, learning rate 0.025, momentum 0.9).

    In single precision, which takes a third of the time; what comes out is examined in double again."""
    generator = torch.Generator().manual_seed(seed)
    network, images = own.network.float(), own.images.float()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9)
    rows = []
    for _ in range(steps):
        optimiser.zero_grad()
        sample = Uniform().sample(own.flat(), generator)
        measured = probe(network, images, own.labels, sample, train=True)
        loss, entropy = loss_and_entropy(measured.logits, own.labels)
        cost = (per_cell(network, sample.z) * measured.cost.double()).sum(-1)
        right = (measured.logits.argmax(1) == own.labels).double().mean()
        rows.append((cost.numpy(), float(loss.mean()), float(entropy.mean()), float(right)))
        optimiser.step()
    network.double()
    return Course(*(np.array(column) for column in zip(*rows, strict=True))) if rows else Course(*(np.zeros(0),) * 4)


def residuals(
    traces: Iterable[theory.Trace], checks: Mapping[str, Callable[[theory.Trace], theory.Residual]]
) -> dict[str, theory.Residual]:
    """Every check on every trace, the comparisons of a check as one."""
    kept = list(traces)
    return {title: theory.worst(map(check, kept)) for title, check in checks.items()}


def steps(
    traces: Iterable[theory.Trace], check: Callable[[theory.Trace], Mapping[str, theory.Residual]]
) -> dict[str, theory.Residual]:
    """As :func:`residuals` for a check that returns several, by the number of the equation."""
    found = defaultdict(list)
    for seen in traces:
        for title, own in check(seen).items():
            found[title].append(own)
    return {f"Eq {title}": theory.worst(many) for title, many in found.items()}


# ---------------------------------------------------------------------------------------------- shares of single edges

PATH = (2, 3)
"""The intermediate edge of the minimal cell."""


def feeding() -> Cell:
    """The minimal cell restricted to what makes a share possible: both edges feed node 2, and its path is normalised."""
    return minimal().without("none").without("skip_connect", PATH)


def skipping() -> Cell:
    """The minimal cell with a skip on its intermediate edge and something on every other."""
    return minimal().without("none").fix(PATH, "skip_connect")


@dataclass(frozen=True)
class Study:
    """Shares of the two edges into node 2 through the edge (2, 3), one entry a seed: ``first`` and ``second``, the mean
    shares of e0 and e1 over draws; ``size``, the mean |share|; ``cancel``, the mean |Σ|/Σ|·|; ``learned``, the mean
    share of convolutions less that of pools and skips; ``skip``, the cost that a skip on (2, 3) passes on. All but
    ``cancel`` are relative to the mean size of the cost that an edge gets through the output edge (for ``skip``: of the
    other operations' costs)."""

    first: np.ndarray
    second: np.ndarray
    size: np.ndarray
    cancel: np.ndarray
    learned: np.ndarray
    skip: np.ndarray


@kept
def study(seeds: Sequence[int], steps_of_training: int, draws: int) -> Study:
    """One network a seed; ``draws`` architectures for the shares and as many with a skip on (2, 3)."""
    rows = []
    for seed in seeds:
        own = case(seed, steps=steps_of_training)
        shares = [share for seen in own.drawn(draws, seed, feeding()) for share in _shares(seen)]
        value, alone, edge, learned = (np.array(column) for column in zip(*shares, strict=True))
        unit, pairs = np.abs(alone).mean(), value.reshape(-1, 2)
        skips = theory.skip_passed(own.drawn(draws, seed, skipping()))
        rows.append((
            value[edge == 0].mean() / unit, value[edge == 1].mean() / unit, np.abs(value).mean() / unit,
            (np.abs(pairs.sum(1)) / np.abs(pairs).sum(1)).mean(),
            (value[learned].mean() - value[~learned].mean()) / unit, skips.ratio,
        ))  # fmt: skip
    return Study(*np.array(rows).T)


def _shares(seen: theory.Trace) -> list[tuple[float, float, int, bool]]:
    """Share, own cost, index of the edge, and whether it drew a convolution."""
    found = []
    for share in theory.shares(seen):
        edge = seen.network.config.cell.index(share.edge)
        name = OPERATIONS[int(seen.z[share.cell, edge].argmax())]
        found.append((share.value, share.own, edge, "conv" in name))
    return found


STUDIED = {
    "first": "mean share of e0",
    "second": "mean share of e1",
    "size": "mean size of a share",
    "learned": "mean share of convolutions − that of pools and skips",
    "skip": "cost that a skip on (2, 3) passes on",
}


def study_table(states: Mapping[str, Study]) -> str:
    """Means over seeds with 95 % t-intervals, a column a state of θ."""
    rows = [(words, *(_interval(getattr(own, name)) for own in states.values())) for name, words in STUDIED.items()]
    rows.append(("|Σ share| / Σ |share|", *(f"{power(own.cancel.max())} at most" for own in states.values())))
    return markdown(("relative to an edge's own cost", *states), rows, text=1)


def _interval(values: Sequence[float]) -> str:
    mean, low, high = summary.interval(values)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


# -------------------------------------------------------------------------------------------------------------- totals


@dataclass(frozen=True)
class Totals:
    """Σ Z·C of each cell of a stack, over draws ``[D, N]``: the ``total``, the part that skips account for, the part
    that ε does, the size Σ|Z·C|, and L − H ``[D]``."""

    total: np.ndarray
    skip: np.ndarray
    epsilon: np.ndarray
    size: np.ndarray
    loss_minus_entropy: np.ndarray


def totals(traces: Sequence[theory.Trace]) -> Totals:
    """:func:`nas_core.theory.balance` of every trace."""
    kept = [theory.balance(seen) for seen in traces]

    def table(read: Callable[[theory.Balance], float]) -> np.ndarray:
        return np.array([[read(own) for own in cells] for cells in kept])

    size = np.array([(seen.z * seen.cost).abs().sum((1, 2)).numpy() for seen in traces])
    outside = table(lambda own: own.loss_minus_entropy)[:, -1]
    return Totals(
        table(lambda own: own.total), table(lambda own: own.skip), table(lambda own: own.epsilon + own.later),
        size, outside,
    )  # fmt: skip


def totals_table(stacks: Mapping[int, Sequence[theory.Trace]]) -> str:
    """Per depth: both corollaries and Theorem 2 as residuals, and what they are compared with."""
    rows = []
    for cells, traces in stacks.items():
        found = residuals(traces, {
            "cell": theory.cell_residual, "inner": theory.inner_cell_residual, "last": theory.last_cell_residual,
        })  # fmt: skip
        held = all(own.held for own in found.values())
        entries = (f"{power(own.value)} of {power(own.bound)}" for own in found.values())
        rows.append((cells, len(traces), *entries, "yes" if held else "**no**"))
    header = ("cells", "draws", "Cor 1.1: residual of bound", "Cor 1.2", "Thm 2", "held")
    return markdown(header, rows, text=0)


def balance_table(seen: theory.Trace) -> str:
    """Where the cost of each cell comes from: :class:`nas_core.theory.Balance` cell by cell."""
    rows = []
    for position, own in enumerate(theory.balance(seen)):
        names = ("total", "output", "skip", "epsilon", "loss_minus_entropy")
        rows.append((position + 1, *(_signed(getattr(own, name)) for name in names), f"{own.scale:.1f}"))
    header = ("cell", "Σ Z·C", "cost at the output node", "passed on by skips", "by ε", "L − H", "scale of rounding")
    return markdown(header, rows, text=0)


def _signed(value: float) -> str:
    text = "0" if value == 0 else f"{value:+.6f}" if abs(value) >= 1e-4 else f"{value:+.1e}"
    return text.replace("-", "−")


def share_table(statistics: Sequence[theory.ShareStatistics]) -> str:
    """Shares over draws, edge by edge: the mean with its standard error, and the mean sizes of share and own cost."""
    rows = [
        (f"{own.through}", f"{own.edge}", own.draws, f"{1e3 * own.mean:+.2f} ± {1e3 * own.standard_error:.2f}".replace(
            "-", "−"), f"{1e3 * own.mean_absolute:.2f}", f"{1e3 * own.own_absolute:.2f}", power(own.cancel))
        for own in statistics
    ]  # fmt: skip
    header = ("through", "edge", "draws", "10³ mean share ± s.e.", "10³ mean size", "10³ size of own cost", "|Σ|/Σ|·|")
    return markdown(header, rows, text=2)


def rows_table(rows: Iterable[theory.Row], names: Sequence[str]) -> str:
    """Some rows of :func:`nas_core.theory.check_all` or :func:`~nas_core.theory.check_wrong`, in the order of
    ``names``: largest residual, bound and scale of rounding over all comparisons."""
    kept = {row.name: row for row in rows}
    lines = [
        (own.where, own.statement, own.cases, own.checks, power(own.value), power(own.bound), power(own.scale),
         "yes" if own.held else f"not in {own.failed}")
        for own in (kept[name] for name in names)
    ]  # fmt: skip
    header = ("where", "statement", "networks", "compared", "residual", "bound", "scale", "held")
    return markdown(header, lines, text=2)


def scaling_words(scalings: Sequence[theory.EpsilonScaling], epsilons: Sequence[float]) -> str:
    """What a figure of :func:`nas_core.theory.epsilon_scaling` is drawn from, with n."""
    return (
        f"{len(scalings)} networks, one seed and one architecture each, at {len(epsilons)} values of ε. {IMAGES} images of "
        "scikit-learn's digits, in float64, computed while this page is built."
    )


def lines_table(values: Sequence[float], words: Sequence[str]) -> str:
    """The lines of a chain of equalities as numbers, with how far each is from the last."""
    rows = [(text, f"{value:+.15g}".replace("-", "−"), power(abs(value - values[-1]))) for text, value in zip(
        words, values, strict=True)]  # fmt: skip
    return markdown(("line", "value", "distance from the last"), rows, text=1)


def printed_table(traces: Sequence[theory.Trace]) -> str:
    """∂L/∂X of a normalisation by Eq 17, with the factor X̂ and as printed: the largest deviation from autograd, relative
    to the largest entry."""
    apart: dict[str, list[float]] = {"with X̂ and 1/BD": [], "as printed": []}
    for seen in traces:
        for stage in theory.stages(seen):
            a = stage.a.clone().requires_grad_()
            (right,) = torch.autograd.grad(stage.norm(a), a, stage.gradient_y)
            for title, formula in zip(apart, (theory.norm_gradient, theory.printed_gradient), strict=True):
                found = formula(stage.norm, stage.a, stage.gradient_y)
                apart[title].append(float((found - right).abs().max() / right.abs().max()))
    rows = [(title, len(values), power(min(values)), power(max(values))) for title, values in apart.items()]
    header = ("last term of Eq 17", "operations", "smallest relative deviation", "largest")
    return markdown(header, rows, text=1)


# -------------------------------------------------------------------------------------------------------------- output


def bias_table(cases: Mapping[str, theory.Trace]) -> str:
    """Theorem 2 with and without a bias in the head: Σ Z·C less what skips pass on, L − H, and what separates them."""
    rows = []
    for title, seen in cases.items():
        own, held = theory.balance(seen)[-1], theory.last_cell_residual(seen)
        gap = own.total - own.skip - own.loss_minus_entropy
        numbers = (own.total - own.skip, own.loss_minus_entropy, gap, -own.bias)
        entries = (_signed(value) for value in numbers)
        rows.append((title, *entries, power(held.value), power(held.bound), "yes" if held.held else "**no**"))
    header = ("network", "Σ Z·C", "L − H", "difference", "−⟨∂L/∂b, b⟩", "residual", "bound", "held")
    return markdown(header, rows, text=1)


def gaussian_table(spreads: Sequence[float], classes: int) -> str:
    """E[L − H] of Gaussian logits against their standard deviation s: by quadrature, for small s, and both over s²."""
    rows = []
    for s in spreads:
        exact, small = theory.gaussian_cost(s, classes), theory.gaussian_cost_small(s, classes)
        rows.append((f"{s:g}", f"{exact:.5f}", f"{small:.5f}", f"{exact / s**2:.4f}"))
    return markdown(("s", "E[L − H]", "to fourth order", "E[L − H] / s²"), rows, text=0)


def initial_table(own: theory.InitialCosts, classes: int) -> str:
    """L − H over initialisations against the value for Gaussian logits."""
    low, high = summary.interval(own.costs)[1:]
    rows = [
        ("initialisations", len(own.costs)),
        ("with L − H > 0", f"{100 * own.share_positive:.0f} %"),
        ("mean L − H, 95 % interval", f"{number(own.mean)} [{number(low)}, {number(high)}]"),
        (f"Gaussian logits of the same variance, {classes} classes", number(float(own.predicted.mean()))),
        ("difference in standard errors", number(own.z)),
    ]
    return markdown(("quantity", "value"), rows, text=1)


def dynamics_table(groups: Mapping[str, Sequence]) -> str:
    """dC/dt = dL/dt − dH/dt on recorded curves, C summed over the last cell's edges: how far the two curves and their
    steps are apart, relative to the range of L − H; means over seeds with 95 % intervals."""
    rows = []
    for title, results in groups.items():
        apart, steps_apart, falls = [], [], []
        for loss, entropy, cost in zip(*recorded(results), strict=True):
            own, span = theory.dynamics(loss, entropy, cost), np.ptp(loss - entropy)
            apart.append(own.mismatch / span)
            steps_apart.append(own.residual.value / span)
            falls.append(float(((own.cost_change < 0) == own.falls).mean()))
        rows.append((title, len(results), *(_interval(values) for values in (apart, steps_apart, falls))))
    header = (
        "runs",
        "n",
        "largest |C − (L − H)|",
        "largest |dC − (dL − dH)|",
        "share of steps with the sign predicted",
    )
    return markdown(header, rows, text=1)


def recorded(results: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L, H and Σ C of the last cell's edges on training images, ``[s, V]`` each."""
    loss, entropy = summary.loss_and_entropy(results, "train")
    return loss, entropy, summary.edge_cost(results, "train")[1].sum(-1)


# ------------------------------------------------------------------------------------------------------------ verdicts


def verdicts(
    states: Mapping[str, Study], nodes: theory.Residual, found: Totals, sums: Mapping[str, theory.Residual]
) -> list[Verdict]:
    """T1 and C1.1 and C1.2, from :func:`study`, the residual of Theorem 1 per node, the totals of a stack, and each
    corollary's residual.

    T1's direction: the identity holds for nodes, and (fully) single shares are at most :data:`evidence.TIGHT` of an
    edge's own cost as well. Magnitude: what skips pass on, by the same measure. The corollaries' direction is their
    identity; their magnitude is again what skips let through, relative to the costs of the cell."""
    return [_theorem_1(states, nodes), *(corollary(name, found, own) for name, own in sums.items())]


def _theorem_1(states: Mapping[str, Study], nodes: theory.Residual) -> Verdict:
    title, own = list(states.items())[-1]
    mean, low, high = summary.interval(own.size)
    direction = NOT_REPRODUCED if not nodes.held else REPRODUCED if high <= TIGHT else PARTLY
    skip = summary.interval(own.skip)
    magnitude = grade(direction, skip[2] <= TIGHT, skip[0] <= SOME)
    sentence = (
        f"Per node the identity {'holds' if nodes.held else 'fails'} in {nodes.cases} comparisons: {power(nodes.value)} at "
        f"most, with a bound of {power(nodes.bound)}. Per edge it does not: the number is the mean size of a single edge's "
        f"share ({title}). A skip passes on {number(skip[0])} [{number(skip[1])}, {number(skip[2])}] of what other "
        "operations cost."
    )
    if direction == REPRODUCED:
        sentence = sentence.replace("Per edge it does not:", "Per edge,")
    return Verdict("T1", direction, magnitude, len(own.size), mean, low, high, "of an edge's own cost", sentence, "",
                   DATA, measured="mean size of the share that a single edge gets through it")  # fmt: skip


def corollary(claim_id: str, found: Totals, sums: theory.Residual) -> Verdict:
    """C1.1 or C1.2: see :func:`verdicts`."""
    cells = slice(None, -1) if claim_id == "C1.2" else slice(None)
    ratio = np.abs(found.skip[:, cells]).sum(1) / found.size[:, cells].sum(1)
    mean, low, high = summary.interval(ratio)
    direction = REPRODUCED if sums.held else NOT_REPRODUCED
    magnitude = grade(direction, high <= TIGHT, mean <= SOME)
    sentence = (
        f"Up to ε and to what skips on intermediate edges pass on it {'holds' if sums.held else 'fails'} in {sums.cases} "
        f"comparisons: {power(sums.value)} at most, with a bound of {power(sums.bound)}. The number is what those skips leave, "
        "as a share of the sizes of all costs."
    )
    return Verdict(claim_id, direction, magnitude, len(ratio), mean, low, high, "of Σ |Z·C|", sentence, "", DATA,
                   measured="what skips leave over, as a share of the sizes of all costs")  # fmt: skip
