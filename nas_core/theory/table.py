"""Every identity on many random cases, as a table; and a few wrong statements, which the same bounds must refute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from nas_core.cost import loss_and_entropy
from nas_core.relaxation import Dsnas, Uniform
from nas_core.theory import assignment, framework, normalization, output, proof
from nas_core.theory.cases import Case, random_case
from nas_core.theory.evaluation import Trace, trace
from nas_core.theory.residual import UNIT, Residual, compare_tensors, inner, size, worst
from nas_core.theory.sharing import shares

IDENTITIES = {
    "cost": ("Eqs 4, 5", "∂L/∂Z = ⟨∂L/∂x_j, O_k(x_i)⟩"),
    "probe": ("Eq 4", "the library's probe returns ∂L/∂Z"),
    "alpha": ("App B", "the α gradient is (∂Z/∂α)·C"),
    "paths": ("Eqs 6, 7", "an edge's cost is what it gets through its node's output edge and through every path"),
    "node": ("Thm 1", "through a normalised path the edges into a node together get no cost, up to ε"),
    "epsilon": ("Thm 1", "what they do get is Σ ε/(σ²+ε)·⟨∂L/∂y, y − β⟩"),
    "10": ("Eq 10", "the chain rule over the convolution's output"),
    "11": ("Eq 11", "ReLU, convolution and pooling leave the cost as it is"),
    "12": ("Eq 12", "the gradient at a convolution's input, by index"),
    "13": ("Eq 13", "the sums over input and output entries, exchanged"),
    "14": ("Eq 14", "a convolution's output, by index"),
    "15": ("Eq 15", "⟨∂L/∂X, X⟩ = 0 before a normalisation, up to ε"),
    "16": ("Eqs 16, 23", "the normalisation process"),
    "17": ("Eq 17", "its gradient, the factor X̂ restored"),
    "18": ("Eq 18", "∂L/∂μ and ∂L/∂σ²"),
    "19": ("Eqs 19, 24", "the lines that lead to Σ γ(Σ ∂L/∂y X̂)(1 − mean X̂²)"),
    "25": ("Eq 25", "affine-free instance norm: no cost, no logits, L = ln n, no weight gradient"),
    "skip": ("Eq 20", "a skip on an intermediate edge passes its own cost on"),
    "cell": ("Cor 1.1", "the costs of a cell sum to the cost at its output node, up to ε and skips"),
    "inner": ("Cor 1.2", "in cells before the last they sum to 0, up to ε and skips"),
    "last": ("Thm 2, Eq 8", "the costs of the last cell sum to L − H − ⟨∂L/∂b, b⟩, up to ε and skips"),
    "balance": ("Cor 1.1, 1.2, Thm 2", "with ε, skips and bias written out the sums are exact"),
    "logits": ("Eqs 8, 9", "Σ pₙYₙ − Y(label) = L − H for every image"),
    "lines": ("Eq 21", "the seven lines from the features to L − H"),
    "features": ("Eq 22", "the gradient at the output node, by index"),
    "chance": ("Thm 2", "for a random label E[L − H] = KL(p‖u) + KL(u‖p) ≥ 0"),
    "correct": ("Thm 2", "a correctly classified image costs nothing or less"),
}
"""Where each identity stands in the paper, and what it says."""

WRONG = {
    "edge": ("Thm 1", "Theorem 1 edge by edge: through a normalised path *each* edge into a node gets no cost"),
    "through skip": ("Thm 1", "Theorem 1 for a skip: it passes no cost on"),
    "plus": ("Thm 2", "the costs of the last cell sum to L + H"),
    "forgotten bias": ("Thm 2", "they sum to L − H with a biased head, too"),
    "last is zero": ("Cor 1.2", "the costs of the last cell sum to 0, too"),
    "forgotten ε": ("Thm 1", "what passes is at rounding level, whatever ε is"),
    "printed 17": ("Eq 17", "the gradient of a normalisation as our copy prints it, without X̂ and with CD for BD"),
    "printed 9": ("Eqs 9, 21", "Σₙ [−Y(label) + pₙYₙ] with the sum over both terms"),
    "published DSNAS": ("App B", "the gradient of log Σ_e p_e is that of Σ_e log p_e"),
}
"""Statements that are wrong, or are right only in a narrower sense than they are written; the bounds must say so."""


@dataclass(frozen=True)
class Row:
    """A statement over random networks: in how many (``cases``) it said something, how many ``checks`` that made, the
    largest residual, scale and bound, the largest share of its own bound that a residual ``used``, and in how many
    cases it ``failed``."""

    name: str
    where: str
    statement: str
    cases: int
    checks: int
    value: float
    scale: float
    bound: float
    used: float
    failed: int

    @property
    def held(self) -> bool:
        """Whether there were cases and none failed."""
        return self.cases > 0 and self.failed == 0


def residuals(case: Case) -> dict[str, Residual]:
    """Every identity of ``IDENTITIES`` on one case."""
    seen = trace(case.network, case.images, case.labels, case.sample)
    found = {
        "cost": assignment.cost_residual(seen),
        "probe": assignment.probe_residual(seen),
        "paths": assignment.paths_residual(seen),
        "node": assignment.node_residual(seen),
        "epsilon": assignment.epsilon_residual(seen),
        "skip": assignment.skip_residual(seen),
        "cell": assignment.cell_residual(seen),
        "inner": assignment.inner_cell_residual(seen),
        "last": assignment.last_cell_residual(seen),
        "balance": assignment.balance_residual(seen),
        "logits": output.logit_residual(seen.logits, seen.labels),
        "lines": output.lines_residual(seen),
        "features": output.feature_residual(seen),
        "chance": output.chance_residual(seen.logits),
        "correct": output.correct_residual(seen.logits, seen.labels),
        **proof.conv_steps(seen),
        **proof.norm_steps(seen),
    }
    if normalization.learns_nothing(case.network):
        nothing = normalization.instance_norm(case.network, case.images, case.labels, case.sample)
        found["25"] = nothing.residual
    if not isinstance(case.relaxation, Uniform):
        found["alpha"] = framework.alpha_residual(
            case.network, case.images, case.labels, case.log_alpha, case.relaxation, seed=case.seed
        )
    return found


def wrong_residuals(case: Case) -> dict[str, Residual]:
    """Every statement of ``WRONG`` on one case where it differs from the right one, under the right one's bound."""
    seen = trace(case.network, case.images, case.labels, case.sample)
    own, stages = assignment.balance(seen)[-1], list(proof.stages(seen))
    right = own.loss_minus_entropy - own.bias + own.skip
    bound = abs(own.epsilon) + own.within + own.beyond
    loss, entropy = (part.mean() for part in loss_and_entropy(seen.logits, seen.labels))
    classes, label = seen.logits.shape[1], seen.logits.gather(1, seen.labels[:, None])
    found = {
        "edge": worst(Residual(abs(s.value), s.bound, abs(s.value)) for s in shares(seen)),
        "through skip": _passed_by_skips(seen),
        "plus": Residual(abs(own.total - right - 2 * float(entropy)), bound, own.scale),
        "last is zero": Residual(abs(own.total - own.skip), bound, own.scale),
        "forgotten ε": worst(
            Residual(abs(normalization.passed(s)), normalization.rounding(s), size(s.gradient_x, s.x)) for s in stages
        ),
        "printed 17": worst(map(_printed_17, stages)),
        "printed 9": Residual(abs(float((1 - classes) * label.mean())), bound, float(loss)),
    }
    if case.network.head.bias is not None:
        found["forgotten bias"] = Residual(abs(own.total - own.skip - own.loss_minus_entropy), bound, own.scale)
    if case.relaxation == Dsnas():
        found["published DSNAS"] = _published(case)
    return found


def _passed_by_skips(seen: Trace) -> Residual:
    cell, found = seen.network.config.cell, []
    for own in seen.cells:
        for (edge, operation), stage in own.paths.items():
            if stage is None and cell.edge_class(edge) == "intermediate":
                gradient, x = own.passed[edge, operation], own.nodes[cell.edges[edge].source]
                found.append(Residual(abs(inner(gradient, x)), x.numel() * UNIT * size(gradient, x), 0.0))
    return worst(found)


def _printed_17(stage) -> Residual:
    arguments = (stage.norm, stage.a, stage.gradient_y)
    unit = normalization.roundings(stage.norm, stage.norm, stage.a, stage.a) * UNIT
    bound, _ = normalization.gradient_error(*arguments, unit)
    return compare_tensors(proof.printed_gradient(*arguments), normalization.norm_gradient(*arguments), bound=bound)


def _published(case: Case) -> Residual:
    arguments = (case.network, case.images, case.labels, case.log_alpha)
    formula, _, _ = framework.alpha_gradients(*arguments, Dsnas("reference"), case.seed)
    _, autograd, sizes = framework.alpha_gradients(*arguments, Dsnas(), case.seed)
    return compare_tensors(formula, autograd, bound=128 * UNIT * sizes.sum(-1, keepdim=True).expand_as(formula))


def _table(check: Callable[[Case], dict[str, Residual]], statements: dict, cases: int, seed: int, choices) -> list[Row]:
    found = defaultdict(list)
    for number in range(cases):
        for name, residual in check(random_case(seed + number, **choices)).items():
            if residual.cases:
                found[name].append(residual)
    rows = []
    for name, (where, statement) in statements.items():
        total, own = worst(found[name]), found[name]
        failed = sum(not residual.held for residual in own)
        numbers = (total.value, total.scale, total.bound, total.used, failed)
        rows.append(Row(name, where, statement, len(own), total.cases, *numbers))
    return rows


def check_all(cases: int = 40, seed: int = 0, **choices) -> list[Row]:
    """Every identity on ``cases`` random networks, of seeds ``seed``, ``seed + 1``, …; ``choices`` are those of
    :func:`~nas_core.theory.cases.random_case`. About 0.15 s a case on one free core."""
    return _table(residuals, IDENTITIES, cases, seed, choices)


def check_wrong(cases: int = 40, seed: int = 0, **choices) -> list[Row]:
    """Every wrong statement on the same networks: were one ``held``, the bounds could not tell right from wrong."""
    return _table(wrong_residuals, WRONG, cases, seed, choices)
