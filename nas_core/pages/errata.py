"""The errata as data: what the paper or its scripts say, what holds instead, and the number that shows it, computed on small
networks or read from recorded runs while the page is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nas_core import theory
from nas_core.data import DataConfig, prepare
from nas_core.pages import (
    assignment,
    cost_figures,
    cost_measures,
    enumeration,
    identities,
    overview,
    variant_measures,
    verdicts,
)
from nas_core.pages import normalization_figures as norms
from nas_core.pages.claims import number, power, unbroken
from nas_core.pages.evidence import CannotTell, Results, mean_of, paired, percent, with_interval
from nas_core.pages.tables import markdown
from nas_core.space import OPERATIONS, minimal
from nas_core.supernet import NetworkConfig

CASES, SMALL = 8, range(3)
ASSIGNMENT, PROOF, OUTPUT = "{doc}`05_cost_assignment`", "{doc}`D_theorem1`", "{doc}`F_theorem2`"
NORMALISATION, STATISTICS = "{doc}`H_normalization_and_order`", "{doc}`05_cost_statistics`"
NOT_RECORDED = "not recorded at this scale"


@dataclass(frozen=True)
class Correction:
    """What the paper says, what holds, what was measured of it, and the page that derives or shows it."""

    paper: str
    holds: str
    measured: str
    where: str


def table(corrections: Iterable[Correction]) -> str:
    """Markdown, one row a correction."""
    rows = [(own.paper, own.holds, own.measured, own.where) for own in corrections]
    return markdown(("it says", "what holds", "measured", "shown in"), rows)


# -- mathematics ------------------------------------------------------------------------------------------------------------


def mathematics(results: Results) -> list[Correction]:
    """Corrections to Sections 4 and 5 and to Appendices B, D, F and H; ``results`` are those of :func:`collect`."""
    rows = {row.name: row for row in (*theory.check_all(cases=CASES, seed=0), *theory.check_wrong(cases=CASES, seed=0))}
    return [
        Correction(
            "Theorem 1: a path passes no cost through an intermediate **edge**.",
            "The costs of **all** edges into a node, as far as they flow through one normalised path, sum to zero. A single "
            "edge's share need not vanish.",
            _shares(),
            f"{ASSIGNMENT}, {PROOF}",
        ),
        Correction(
            "The exception of *skip_connect* (Eq 20) is ignored because its cost is much smaller.",
            "Theorem 1 does not hold for it, and its cost is not small.",
            _said(_skip, results),
            ASSIGNMENT,
        ),
        Correction("ε of batch normalisation is left out.", "What remains is proportional to ε/σ², per channel.", _epsilon(), PROOF),
        Correction(
            "Eq 9 has the sum over classes in front of both terms.",
            "The first term is counted once an image.",
            _refuted(rows["printed 9"]),
            ASSIGNMENT,
        ),
        Correction(
            "Eq 12 lacks a ∂, and the sums of Eqs 12 to 14 have a term too many.",
            "Corrected in the proof.",
            f"As corrected: {_held([rows[name] for name in ('12', '13', '14')])}.",
            PROOF,
        ),
        Correction(
            "Eqs 17 and 19 lack a factor $\\hat x$, and Eq 17 divides by $CD$.",
            "The factor is needed, as Eq 24 has it, and $BD$ is meant.",
            f"{_refuted(rows['printed 17'])} As corrected: {_held([rows['17'], rows['19']])}.",
            PROOF,
        ),
        Correction(
            "Eq 24 puts γ in front of the sums over channels.",
            "γ belongs to a channel, inside the sums. The conclusion survives.",
            _gamma(),
            NORMALISATION,
        ),
        Correction(
            "\"Linear property\" carries the cost through ReLU and convolution.",
            "ReLU is not linear; homogeneity of degree 1 is used. A bias in the convolution breaks it, unless the normalisation "
            "takes each channel's mean away.",
            _bias(),
            NORMALISATION,
        ),
        Correction(
            "The policy gradient of SNAS is an equality.",
            "A term with the second derivative of the loss is missing.",
            _policy(),
            "{doc}`B_unification`",
        ),
        Correction(
            "Theorem 2: the cost **is** positive at initialisation.", "Its expectation is.", _initial(), OUTPUT
        ),
        Correction(
            "Theorem 2 on any network.",
            "The head must have no bias, and pooling must be homogeneous of degree 1.",
            f"With a biased head: {_lower(_refuted(rows['forgotten bias']))}",
            OUTPUT,
        ),
        Correction(
            "Eq 25 gives the zero cost of *edge0* and *edge1* under instance normalisation \"similarly\".",
            "Not by that argument; another one does it.",
            _nothing(),
            NORMALISATION,
        ),
        Correction(
            "Instance normalisation with affine parameters behaves as batch normalisation.",
            "In these networks its logits are the same for every image.",
            _spread(),
            NORMALISATION,
        ),
    ]  # fmt: skip


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _refuted(row: theory.Row) -> str:
    return (
        f"It fails in {row.failed} of {row.cases} random networks, by up to {number(row.value)} where rounding and ε explain "
        f"{power(row.bound)}."
    )


def _held(rows: Iterable[theory.Row]) -> str:
    kept = list(rows)
    return (
        f"residual at most {power(max(row.value for row in kept))}, bound {power(max(row.bound for row in kept))}, "
        f"{sum(row.checks for row in kept)} comparisons{'' if all(row.held for row in kept) else ', **not held**'}"
    )


def _shares() -> str:
    own = assignment.study(overview.STACKS, 50, 8)
    return (
        f"After 50 steps, relative to an edge's own cost: mean size of a share {with_interval(own.size)}, mean share of e0 "
        f"{with_interval(own.first)}, of e1 {with_interval(own.second)}; n = {len(own.size)} networks."
    )


def _epsilon() -> str:
    epsilons = [10.0**-power for power in range(2, 13)]
    cases = {seed: assignment.case(seed) for seed in SMALL}
    slopes = [
        theory.epsilon_scaling(
            own.network, own.images, own.labels, own.drawn(1, seed, assignment.feeding())[0].sample, epsilons
        ).slope
        for seed, own in cases.items()
    ]
    slope = " to ".join(dict.fromkeys(map(number, (min(slopes), max(slopes)))))
    return f"Slope on logarithmic axes {slope} in {len(slopes)} networks; 1 is predicted."


def _gamma() -> str:
    worst = {name: max(norms.gamma_outside(kind, seed) for seed in SMALL) for name, kind in norms.KINDS.items()}
    return (
        f"Relative error of the gradient as printed: {power(worst['layer'])} in layer norm; {power(worst['batch'])} in batch norm, "
        "whose γ is the same wherever it takes a mean."
    )


def _bias() -> str:
    found = norms.breaks(SMALL)
    layer, batch = (found.median("bias before normalisation", kind) for kind in ("layer", "batch"))
    plain = found.median("normalised", "layer")
    return (
        f"A path with a bias passes on a share of its cost of {power(layer)} under layer norm, {power(plain)} without bias, and "
        f"{power(batch)} under batch norm."
    )


def _policy() -> str:
    case = enumeration.small(0, steps=60)
    own = enumeration.score_check(case, ("sep_conv_3x3", "max_pool_3x3", "sep_conv_3x3"), 1, "skip_connect", 1)
    rest = abs(own.score_of_cost - own.gradient - own.hessian)
    return (
        f"On a trained small cell the right-hand side is {number(own.score_of_cost / own.gradient)} times the gradient; with the "
        f"missing term {power(rest)} is left."
    )


def _initial() -> str:
    split = prepare(DataConfig("digits", images=64, held_out=0.0), 0).train
    own = theory.initial_costs(NetworkConfig(minimal(), channels=4), split.images, split.labels, range(100))
    return f"{percent(own.share_positive)} of {len(own.costs)} initialisations are positive; mean {with_interval(own.costs)} nats."


def _nothing() -> str:
    found = [norms.lesson(norms.SETTINGS["instance norm"], seed, 40) for seed in SMALL]
    largest = max(abs(state.cost) for own in found for state in (own.before, own.after))
    return f"Largest cost of any edge before and after 40 steps in {len(found)} networks: {power(largest)}."


def _spread() -> str:
    affine, batch = (
        max(norms.lesson(norms.SETTINGS[title], seed, 40).spread for seed in SMALL)
        for title in ("affine instance norm", "batch norm")
    )
    return (
        f"Standard deviation of a logit over images after 40 steps: {power(affine)}; under batch norm {number(batch)}."
    )


# -- experiments ------------------------------------------------------------------------------------------------------------


def collect() -> dict:
    """The recorded runs behind the corrections, as the first page takes them."""
    return {
        **overview.group(cost_measures.RECIPES),
        **overview.group(variant_measures.RECIPES),
        **overview.taken_apart(),
    }


def _said(words: Callable[[Results], str], results: Results) -> str:
    try:
        return words(results)
    except CannotTell:
        return NOT_RECORDED


def experiments(results: Results) -> list[Correction]:
    """Corrections to the experiments and the published scripts."""
    return [
        Correction(
            "The DSNAS scripts differentiate $\\log\\sum_e p_e$ instead of $\\sum_e \\log p_e$.",
            "An edge that drew a rare operation hardly learns from it. Recipes `reference_*` keep this, `corrected_*` do not.",
            _scripts(),
            "{doc}`B_unification`, {doc}`A_evolution`",
        ),
        Correction(
            "Bi-level search always means DARTS, held-out images **and** α before θ; single-level always SNAS or DSNAS.",
            "Three switches are tied together and confound P3; here they are crossed.",
            _said(_switches, results),
            "{doc}`05_bilevel`",
        ),
        Correction(
            "Under the PyTorch of 2019 momentum and weight decay moved weights that the sample did not use.",
            "A switch of θ (`idle`); both readings are recorded.",
            _said(_idle, results),
            STATISTICS,
        ),
        Correction(
            "A second, full forward pass follows every DSNAS step.",
            "It changes only running averages that the search does not read, and is left out.",
            "Nothing that a result holds depends on it.",
            "{doc}`engine`",
        ),
        Correction(
            "Averages over operations count *none* and what was never sampled as zero.",
            "They are left out here.",
            f"*None* alone makes an average over {len(OPERATIONS)} operations "
            f"{number(1 - 1 / len(OPERATIONS))} times as large.",
            "{doc}`G_ablations`",
        ),
        Correction(
            "The variance of the cost is wrong for more than one cell, α is not saved, and there is one seed.",
            "Here statistics merge exactly, checkpoints hold α, and statements have intervals over seeds.",
            _said(_one_seed, results),
            STATISTICS,
        ),
        Correction(
            'An instance norm without affine parameters has zero costs "before and after training".',
            "No weight gets a gradient: there is no training.",
            _said(_no_cost, results),
            NORMALISATION,
        ),
    ]


def _scripts() -> str:
    found = [identities.errors(enumeration.small(seed, steps=60)) for seed in overview.SEEDS]

    def error(title: str) -> str:
        mean, low, high = identities.geometric([own[title].relative for own in found])
        return f"{number(mean)} [{number(low)}, {number(high)}]"

    return (
        f"Relative error of the expected gradient against ∇E[L], one enumerated cell a seed: scripts "
        f"{error('DSNAS, published scripts')}, corrected {error('DSNAS')}; n = {len(found)}."
    )


def _recorded(results: Results, claim_id: str, measures: Mapping[str, Callable]) -> str:
    own = measures[claim_id](results)
    return f"{unbroken(own.interval_words)}, n = {own.n}, {own.scale}"


def _skip(results: Results) -> str:
    if not results.get(cost_measures.TRAINED):
        raise CannotTell("Runs of uniform sampling are not recorded.")
    return cost_figures.skip_words(results[cost_measures.TRAINED])


def _switches(results: Results) -> str:
    return f"Held-out images instead of θ's own batch change what survives by {_recorded(results, 'B1', verdicts.MEASURES)}."


def _idle(results: Results) -> str:
    moving, frozen = (
        np.array([mean_of(own) for own in cost_measures.columns(cost_measures.entries(runs))])
        for runs in paired(results, cost_measures.TRAINED, cost_measures.FROZEN)
    )
    return (
        f"Mean cost after training with idle weights moving {with_interval(moving)}, change if they stand still "
        f"{with_interval(frozen - moving)}; n = {len(moving)}."
    )


def _one_seed(results: Results) -> str:
    runs = results.get(cost_measures.TRAINED) or ()
    if len(runs) < 2:
        raise CannotTell("One seed cannot be compared with others.")
    own = cost_measures.one_seed(runs, -1)
    return f"In one seed {percent(own.opposite)} of the entries of the trained cost map have the sign opposite to the others' mean."


def _no_cost(results: Results) -> str:
    return f"Largest cost: {_recorded(results, 'N-IN', variant_measures.RECORDED)}."
